"""Modbus TCP link: one connection to one device."""

import asyncio
import math
from collections.abc import Awaitable, Sequence

from connectors.link import LinkError
from connectors.modbus.registers import RegisterLink
from connectors.modbus.wire import Wire
from connectors.point_map import PointCodec
from ems.site import Connection


class ModbusLink(RegisterLink):
    """One Modbus TCP connection with one request in flight.

    Parameters
    ----------
    connection : unit id and time-out of the device.
    codecs : its points.
    host, port : where it listens.
    timeout_s : deadline of the connect and of each request, wall time [s].
    """

    def __init__(
        self,
        connection: Connection,
        codecs: Sequence[PointCodec],
        *,
        host: str,
        port: int,
        timeout_s: float,
    ) -> None:
        super().__init__(connection, codecs)
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self._wire = Wire(timeout_s)

    @property
    def connected(self) -> bool:
        return self._wire.connected

    async def connect(self) -> None:
        await self.disconnect()
        wire = self._wire = Wire(self._timeout_s, self._wire.transaction)
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.get_running_loop().create_connection(lambda: wire, self._host, self._port)
        except TimeoutError:
            raise LinkError(f"cannot connect to {self._host}:{self._port} in {self._timeout_s:g} s") from None
        except OSError as error:
            raise LinkError(f"cannot connect: {error}") from None

    async def disconnect(self) -> None:
        self._wire.drop("closed")

    def _exchange(self, body: bytes, until_s: float = math.inf) -> Awaitable[bytes]:
        return self._wire.exchange(body, until_s)
