"""Modbus TCP link: one connection to one device, plain or inside TLS (Modbus/TCP Security)."""

import asyncio
import math
import ssl
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from connectors.endpoint import Endpoint
from connectors.expiry import Expiry
from connectors.link import Late, LinkError
from connectors.modbus.registers import RegisterLink
from connectors.modbus.wire import Wire
from connectors.point_map import PointCodec
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
        self._timeout_s = timeout_s
        self.tap = QUIET
        self._wire = Wire(timeout_s, pause_s=self._terms.pause_s)
        now = SystemClock().now if now is None else now
        self._endpoint = Endpoint(host, port, connection.tls, timeout_s=timeout_s, now=now)

    @property
    def expiries(self) -> tuple[Expiry, ...]:
        """Of the certificates of the last attempt to connect."""
        return self._endpoint.expiries

    @property
    def connected(self) -> bool:
        return self._wire.connected

    async def connect(self) -> None:
        await self.disconnect()
        before, pause_s = self._wire.transaction, self._terms.pause_s
        wire = self._wire = Wire(self._timeout_s, before, self.tap, pause_s)
        there = self._endpoint
        context, name = await there.protection()
        with there.opening():
            async with asyncio.timeout(self._timeout_s):
                await self._connect(wire, context, name)

    async def _connect(self, wire: Wire, context: ssl.SSLContext | None, name: str | None) -> None:
        there = self._endpoint
        try:
            transport, _ = await asyncio.get_running_loop().create_connection(
                lambda: wire, there.host, there.port, ssl=context, server_hostname=name
            )
        except ConnectionResetError:
            if context is None:
                raise
            why = "does it believe our certificate, and speak TLS 1.2 or later?"
            raise LinkError(f"it has ended the TLS handshake: {why}") from None
        if context is not None:
            there.seen(transport.get_extra_info("ssl_object").getpeercert(binary_form=True))

    async def disconnect(self) -> None:
        self._wire.drop("closed")

    def _exchange(self, body: bytes, until_s: float = math.inf, late: Late | None = None) -> Awaitable[bytes]:
        return self._wire.exchange(body, until_s, late)
