"""Modbus TCP link: one connection to one device, plain or inside TLS (Modbus/TCP Security)."""

import asyncio
import math
import ssl
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from connectors.expiry import Expiry
from connectors.link import LinkError, Untrusted
from connectors.modbus.registers import RegisterLink
from connectors.modbus.wire import Wire
from connectors.opcua.certificates import CertificateError
from connectors.point_map import PointCodec
from connectors.tls import Contexts, expiry_of, words_of
from connectors.wire_log import QUIET
from ems.clock import SystemClock
from ems.site import Connection


class ModbusLink(RegisterLink):
    """One Modbus TCP connection with one request in flight.

    Parameters
    ----------
    connection : unit id and time-out of the device; the files of its `tls` are whole paths.
    codecs : its points.
    host, port : where it listens.
    timeout_s : deadline of the connect and of each request, wall time [s].
    now : aware time, to compare the validity of certificates with.
    """

    def __init__(
        self,
        connection: Connection,
        codecs: Sequence[PointCodec],
        *,
        host: str,
        port: int,
        timeout_s: float,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        super().__init__(connection, codecs)
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self.tap = QUIET
        self._wire = Wire(timeout_s)
        now = SystemClock().now if now is None else now
        self._tls = connection.tls
        self._contexts = None if self._tls is None else Contexts(self._tls, server=False, now=now)
        self.expiries: tuple[Expiry, ...] = ()  # of the certificates of the last attempt to connect

    @property
    def connected(self) -> bool:
        return self._wire.connected

    async def connect(self) -> None:
        await self.disconnect()
        wire = self._wire = Wire(self._timeout_s, self._wire.transaction, self.tap)
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._contexts is None:
                    await asyncio.get_running_loop().create_connection(lambda: wire, self._host, self._port)
                else:
                    await self._connect_protected(wire, self._contexts)
        except TimeoutError:
            raise LinkError(f"cannot connect to {self._host}:{self._port} in {self._timeout_s:g} s") from None
        except OSError as error:
            raise LinkError(f"cannot connect: {error}") from None

    async def _connect_protected(self, wire: Wire, contexts: Contexts) -> None:
        """Connect where both sides show a certificate, ours first looked at in the files."""
        assert self._tls is not None
        try:
            context = await asyncio.to_thread(contexts.current)
        except CertificateError as error:
            raise Untrusted(str(error)) from None
        self.expiries = contexts.expiries
        name = self._host if self._tls.server_name is None else self._tls.server_name
        try:
            transport, _ = await asyncio.get_running_loop().create_connection(
                lambda: wire, self._host, self._port, ssl=context, server_hostname=name
            )
        except ssl.SSLError as error:
            raise Untrusted(words_of(error, f"{self._host}:{self._port}", self._tls.ca)) from None
        except ConnectionResetError:
            why = "does it believe our certificate, and speak TLS 1.2 or later?"
            raise LinkError(f"{self._host}:{self._port} has ended the TLS handshake: {why}") from None
        der = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if der is not None:
            self.expiries = (*contexts.expiries, expiry_of("the certificate of the device", der))

    async def disconnect(self) -> None:
        self._wire.drop("closed")

    def _exchange(self, body: bytes, until_s: float = math.inf) -> Awaitable[bytes]:
        return self._wire.exchange(body, until_s)
