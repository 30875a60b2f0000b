"""One MMS association: requests one after the other, answers held against them, and what is told unasked."""

import asyncio
import itertools
import struct
from collections.abc import Sequence

from open61850 import ber
from open61850.data import IECData
from open61850.mms import association, pdu
from open61850.mms.errors import DATA_ACCESS_ERRORS, ERROR_CLASSES, DataAccessError, MmsError
from open61850.mms.types import MmsType, get_variable_access_attributes_response

from connectors.iec61850.transport import Transport
from connectors.iec61850.values import AccessFault, access_results
from connectors.link import LinkError
from ems.clock import wall_s

PDU_BYTES_MAX, PDU_BYTES_MIN = 65_000, 1_000  # of a message, that we ask for, and that we can work with
UNASKED_MAX = 64  # reports between a request and its answer
# Whatever a broken server can make the decoder raise; each means that the stream is not to be trusted.
FAULTS = (
    OSError, TimeoutError, MmsError, ber.BerError, struct.error, ValueError, TypeError, KeyError, IndexError,
    AttributeError, AssertionError, OverflowError, RecursionError,
)  # fmt: skip
_ACCESS = {1: "access unsupported", 2: "no such object", 3: "access denied", 4: "invalidated"}
_DEFINITION = {1: "no such object", 2: "invalid address", 3: "type unsupported", 4: "type inconsistent"}


class ServiceFault(Exception):
    """The server answers, and does not do what it was asked."""


class Mms:
    """An association over a transport. After a LinkError it is of no more use.

    Parameters
    ----------
    transport : connected.
    timeout_s : deadline of each request and its answer together, wall time [s].
    """

    def __init__(self, transport: Transport, timeout_s: float) -> None:
        self._transport, self._timeout_s = transport, timeout_s
        self._ids = itertools.count(1)
        self.pdu_bytes_max = PDU_BYTES_MIN
        self.unasked: list[pdu.InformationReport] = []  # since the last request began

    @property
    def is_over(self) -> bool:
        """Whether the other side has hung up."""
        return self._transport.is_over

    def abort(self) -> None:
        """Drop the connection now."""
        self._transport.abort()

    async def associate(self) -> None:
        """Raises LinkError: it refuses, or is none that we can work with."""
        asked = association.AssociationParameters(max_pdu_size=PDU_BYTES_MAX, max_outstanding=1)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._transport.send(association.association_request(asked))
                agreed = association.decode_association_response(await self._transport.receive())
        except FAULTS as error:
            raise LinkError(f"no association: {words(error)}") from None
        told = PDU_BYTES_MAX if agreed.max_pdu_size is None else agreed.max_pdu_size
        if told < PDU_BYTES_MIN:
            raise LinkError(f"no association: messages of {told} bytes are too small")
        self.pdu_bytes_max = min(told, PDU_BYTES_MAX)

    async def read(self, names: Sequence[pdu.ObjectName]) -> list[IECData | AccessFault]:
        """One request for all of them, in order. Raises LinkError and ServiceFault."""
        content = await self._ask(pdu.read_request(list(names)), pdu.SERVICE_READ)
        try:
            results = access_results(content)
        except FAULTS as error:
            raise LinkError(f"read: an answer that cannot be read: {words(error)}") from None
        if len(results) != len(names):
            raise LinkError(f"read: {len(results)} results for {len(names)} objects")
        return results

    async def write(self, names: Sequence[pdu.ObjectName], values: Sequence[IECData]) -> list[str]:
        """One request for all of them; "" where taken, else why not. Raises LinkError and ServiceFault."""
        content = await self._ask(pdu.write_request(list(names), list(values)), pdu.SERVICE_WRITE)
        try:
            results = pdu.write_response(content)
        except FAULTS as error:
            raise LinkError(f"write: an answer that cannot be read: {words(error)}") from None
        if len(results) != len(names):
            raise LinkError(f"write: {len(results)} results for {len(names)} objects")
        return ["" if r is None else refusal(r.code) for r in results]

    async def type_of(self, name: pdu.ObjectName) -> MmsType:
        """How an object is built. Raises LinkError and ServiceFault."""
        content = await self._ask(
            pdu.get_variable_access_attributes_request(name), pdu.SERVICE_GET_VARIABLE_ACCESS_ATTRIBUTES
        )
        try:
            return get_variable_access_attributes_response(content)
        except FAULTS as error:
            raise LinkError(f"type of {name}: an answer that cannot be read: {words(error)}") from None

    async def await_unasked(self, timeout_s: float) -> None:
        """Wait for the next message that nobody asked for. Raises LinkError, TimeoutError, OSError."""
        async with asyncio.timeout(timeout_s):
            answer = await self._next()
        if answer is not None:
            raise LinkError("an answer to nothing that was asked")

    async def _ask(self, service: bytes, expected: int) -> bytes:
        """The content of the answer to one request."""
        number = next(self._ids) & 0x7FFFFFFF
        self.unasked.clear()
        until_s = wall_s() + self._timeout_s
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._transport.send(pdu.wrap(pdu.confirmed_request(number, service)))
                while (answer := await self._next()) is None:
                    pass
        except TimeoutError as error:
            why = f"no answer in {self._timeout_s:g} s" if wall_s() >= until_s else words(error)
            raise LinkError(why) from None
        except OSError as error:
            raise LinkError(words(error)) from None
        if getattr(answer, "invoke_id", None) != number:
            raise LinkError("an answer to something else than was asked")
        match answer:
            case pdu.ConfirmedError():
                raise ServiceFault(service_refusal(answer.error_class, answer.code))
            case pdu.Reject():
                raise ServiceFault(f"rejected (reason {answer.reason_tag}, code {answer.code})")
            case pdu.ConfirmedResponse() if answer.service == expected:
                return answer.content
        raise LinkError("an answer of another service than was asked for")

    async def _next(self) -> pdu.IncomingPdu | None:
        """The next message; None: it was told unasked, and is kept. Raises LinkError and OSError."""
        message = await self._transport.receive()
        try:
            decoded = pdu.decode_pdu(pdu.unwrap(message))
        except FAULTS as error:
            raise LinkError(f"a message that cannot be read: {words(error)}") from None
        if not isinstance(decoded, pdu.InformationReport):
            return decoded
        if len(self.unasked) >= UNASKED_MAX:
            raise LinkError("a flood of reports")
        self.unasked.append(decoded)
        return None


def refusal(code: int) -> str:
    """Why a variable could not be read or written (ISO 9506-2, DataAccessError)."""
    return DATA_ACCESS_ERRORS.get(code, f"error {code}").replace("-", " ")


def service_refusal(error_class: int, code: int) -> str:
    """Why a service was refused (ISO 9506-2, ServiceError)."""
    known = {7: _ACCESS, 2: _DEFINITION}.get(error_class, {})
    return known.get(code, f"{ERROR_CLASSES.get(error_class, error_class)} error, code {code}")


def words(error: BaseException) -> str:
    """Kind and text of an error."""
    text = str(error)
    if isinstance(error, DataAccessError):
        return refusal(error.code)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
