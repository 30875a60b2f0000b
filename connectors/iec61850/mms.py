"""One MMS association: requests one after the other, answers held against them, and what is told unasked."""

import asyncio
import contextlib
import itertools
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from open61850 import ber
from open61850.data import IECData
from open61850.mms import association, pdu
from open61850.mms.errors import DATA_ACCESS_ERRORS, ERROR_CLASSES, DataAccessError, MmsError
from open61850.mms.report import is_report
from open61850.mms.types import MmsType, get_variable_access_attributes_response

from connectors.iec61850.transport import Transport
from connectors.iec61850.values import AccessFault, access_results, values_of
from connectors.link import LinkError
from ems.clock import wall_s, wall_sleep

PDU_BYTES_MAX, PDU_BYTES_MIN = 65_000, 1_000  # of a message, that we ask for, and that we can work with
UNASKED_MAX = 64  # messages of controls between two requests
# A flood must not take the processor from the edge: what comes faster waits in the network.
RATE_PER_S, BURST = 1000.0, 500.0
NAMES_MAX = 100_000  # of objects in one logical device
INFORMATION_REPORT, NAMED_LIST, NAME = 0xA0, 0xA1, 0xA0
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
    on_report : told of each report of a control block as it comes; must not raise.
    """

    def __init__(
        self, transport: Transport, timeout_s: float, on_report: Callable[[pdu.InformationReport], None]
    ) -> None:
        self._transport, self._timeout_s, self._on_report = transport, timeout_s, on_report
        self._ids = itertools.count(1)
        self._answer: asyncio.Future[pdu.IncomingPdu] | None = None  # of the request that waits for one
        self._receiver: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()  # one request after the other: polls and writes come from different tasks
        self._owner: asyncio.Task[Any] | None = None  # whose requests belong together
        self._came = asyncio.Event()  # something that nobody asked for, or the end
        self.pdu_bytes_max = PDU_BYTES_MIN
        self.unasked: list[pdu.InformationReport] = []  # of controls, since the last request began
        self.broken = ""  # why nothing more will come

    @property
    def is_over(self) -> bool:
        """Whether the other side has hung up, or is not to be believed any more."""
        return bool(self.broken) or self._transport.is_over

    def abort(self) -> None:
        """Drop the connection now."""
        self.broken = self.broken or "closed"
        if self._receiver is not None:
            self._receiver.cancel()
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
        self._receiver = asyncio.create_task(self._receive(), name="mms")

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Nobody else asks anything until several requests of this task are over."""
        async with self._turn:
            self._owner = asyncio.current_task()
            try:
                yield
            finally:
                self._owner = None

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

    async def domains(self) -> list[str]:
        """Names of its logical devices. Raises LinkError and ServiceFault."""
        return await self._names(pdu.OBJECT_CLASS_DOMAIN, None)

    async def variables(self, domain: str) -> list[str]:
        """MMS names of everything in a logical device. Raises LinkError and ServiceFault."""
        return await self._names(pdu.OBJECT_CLASS_NAMED_VARIABLE, domain)

    async def _names(self, object_class: int, domain: str | None) -> list[str]:
        names: list[str] = []
        while True:
            request = pdu.get_name_list_request(object_class, domain, names[-1] if names else None)
            content = await self._ask(request, pdu.SERVICE_GET_NAME_LIST)
            try:
                page, more = pdu.get_name_list_response(content)
            except FAULTS as error:
                raise LinkError(f"names: an answer that cannot be read: {words(error)}") from None
            names += page
            if not more:
                return names
            if not page or len(names) > NAMES_MAX:
                raise LinkError("a list of names without end")

    async def members_of(self, data_set: pdu.ObjectName) -> list[pdu.ObjectName]:
        """What a data set holds, in order. Raises LinkError and ServiceFault."""
        content = await self._ask(
            pdu.get_named_variable_list_attributes_request(data_set),
            pdu.SERVICE_GET_NAMED_VARIABLE_LIST_ATTRIBUTES,
        )
        try:
            return pdu.get_named_variable_list_attributes_response(content)
        except FAULTS as error:
            raise LinkError(f"data set {data_set}: an answer that cannot be read: {words(error)}") from None

    async def await_unasked(self, timeout_s: float) -> None:
        """Wait for the next message of a control. Raises LinkError, and TimeoutError after so long."""
        self._came.clear()
        if not self.broken and not self.unasked:
            async with asyncio.timeout(timeout_s):
                await self._came.wait()
        if self.broken:
            raise LinkError(self.broken)

    async def _ask(self, service: bytes, expected: int) -> bytes:
        """The content of the answer to one request."""
        if self._owner is not None and self._owner is asyncio.current_task():
            return await self._exchange(service, expected)
        async with self._turn:
            return await self._exchange(service, expected)

    async def _exchange(self, service: bytes, expected: int) -> bytes:
        if self.broken:
            raise LinkError(self.broken)
        number = next(self._ids) & 0x7FFFFFFF
        self.unasked.clear()
        self._answer = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._transport.send(pdu.wrap(pdu.confirmed_request(number, service)))
                answer = await self._answer
        except TimeoutError:
            raise LinkError(f"no answer in {self._timeout_s:g} s") from None
        except OSError as error:
            raise LinkError(words(error)) from None
        finally:
            if not self._answer.cancel() and not self._answer.cancelled():
                self._answer.exception()  # it came while nobody waited any more
            self._answer = None
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

    async def _receive(self) -> None:
        """Take what comes, until it is not to be believed; a flood waits in the network."""
        room, at_s = BURST, wall_s()
        try:
            while True:
                message = await self._transport.receive()
                try:
                    self._take(pdu.unwrap(message))
                except LinkError:
                    raise
                except FAULTS as error:
                    raise LinkError(f"a message that cannot be read: {words(error)}") from None
                now_s = wall_s()
                room, at_s = min(BURST, room + RATE_PER_S * (now_s - at_s)) - 1.0, now_s
                if room < 0.0:
                    await wall_sleep(-room / RATE_PER_S)
        except (LinkError, OSError) as error:
            self.broken = self.broken or (str(error) if isinstance(error, LinkError) else words(error))
            if self._answer is not None and not self._answer.done():
                self._answer.set_exception(LinkError(self.broken))
            self._came.set()
            self._transport.abort()

    def _take(self, message: bytes) -> None:
        """One message. Raises LinkError, and FAULTS where it cannot be decoded."""
        outer = ber.decode_tlv(message)
        if outer.tag != pdu.TAG_UNCONFIRMED:
            if self._answer is None or self._answer.done():
                raise LinkError("an answer to nothing that was asked")
            self._answer.set_result(pdu.decode_pdu(message))
            return
        report = unconfirmed(outer.value)
        if is_report(report):
            self._on_report(report)
            return
        if len(self.unasked) >= UNASKED_MAX:
            raise LinkError("a flood of messages that nobody asked for")
        self.unasked.append(report)
        self._came.set()


def unconfirmed(content: bytes) -> pdu.InformationReport:
    """What is told without being asked, its values read strictly. Raises BerError and MmsProtocolError."""
    service = ber.expect_tlv(content, 0, INFORMATION_REPORT)
    about, results = ber.iter_tlvs(service.value)
    values: list[pdu.AccessResult] = [
        DataAccessError(r.code) if isinstance(r, AccessFault) else r for r in values_of(results.value)
    ]
    if about.tag == NAMED_LIST:
        return pdu.InformationReport(pdu.decode_object_name(ber.decode_tlv(about.value)), [], values)
    names = [pdu.decode_object_name(ber.decode_tlv(_specified(t))) for t in ber.iter_tlvs(about.value)]
    return pdu.InformationReport(None, names, values)


def _specified(entry: ber.Tlv) -> bytes:
    """The name in one entry of a list of variables."""
    return ber.expect_tlv(entry.value, 0, NAME).value


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
