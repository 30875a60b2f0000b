"""Modbus RTU link: one unit of a bus, on a serial line or through a TCP gateway that passes its frames on."""

import asyncio
import math
from collections.abc import Sequence

from connectors.link import Late, LinkError, NotSent
from connectors.modbus.bus import Bus, Damaged, Line, OpenLine
from connectors.modbus.frames import READ_OF
from connectors.modbus.registers import RegisterLink
from connectors.modbus.rtu import BITS_PER_CHARACTER, gap_s
from connectors.modbus.serial_port import open_serial
from connectors.point_map import PointCodec
from ems.invariants import clamp
from ems.modbus import REGISTERS_MAX
from ems.site import Connection, SerialLine

OVERHEAD_BYTES = 13  # of a read request and its answer, registers not counted
WIRE_RATIO = 0.5  # of the time-out may be spent on the wire by one read
READS = frozenset(READ_OF.values())
REGISTERS_LEAST = 4.0  # a value of 64 bits is never split


class RtuLink(RegisterLink):
    """One unit. A damaged answer to a read is asked for once more; nothing else is ever repeated.

    Parameters
    ----------
    connection : unit id of the device.
    codecs : its points.
    bus : shared with the other units on it.
    timeout_s : deadline of each request, wall time [s].
    """

    def __init__(
        self, connection: Connection, codecs: Sequence[PointCodec], *, bus: Bus, timeout_s: float
    ) -> None:
        super().__init__(connection, codecs, registers_max(connection.serial, timeout_s))
        self._bus, self._timeout_s = bus, timeout_s
        self._epoch: int | None = None  # of the bus when it was last believed in

    @property
    def connected(self) -> bool:
        return self._bus.is_open and self._epoch == self._bus.epoch

    async def connect(self) -> None:
        self._epoch = None
        await self._bus.connect(self._unit, self._timeout_s)
        self._epoch = self._bus.epoch

    async def disconnect(self) -> None:
        """Leave the bus; the last one out closes the line."""
        self._epoch = None
        self._bus.leave(self._unit)

    async def _exchange(self, body: bytes, until_s: float = math.inf, late: Late | None = None) -> bytes:
        is_read = body[1] in READS
        if not self.connected:
            raise NotSent(f"{self._bus.name} is not open")
        try:
            return await self._bus.exchange(body, self._timeout_s, until_s, late)
        except Damaged:
            if not is_read:
                self.doubt()
                raise
        except NotSent:
            if is_read:
                self._epoch = None
            raise
        except LinkError:
            self._epoch = None
            raise
        try:
            return await self._bus.exchange(body, self._timeout_s, until_s)
        except LinkError:
            self._epoch = None
            raise


def make_bus(connection: Connection, host: str, port: int) -> Bus:
    """The bus a connection is on, not opened yet."""
    line = connection.serial
    if line is not None:
        return Bus(line.device, _serial(line), gap_s(line.baud))
    return Bus(f"{host}:{port}", _tcp(host, port), 0.0)  # the gateway keeps the gaps of its line


def bus_key(connection: Connection, host: str, port: int) -> tuple[str, int]:
    """Equal for connections that share a bus."""
    return (connection.serial.device, 0) if connection.serial is not None else (host, port)


def _serial(line: SerialLine) -> OpenLine:
    async def open_line(receiver: asyncio.Protocol) -> Line:
        return open_serial(line, receiver)

    return open_line


def _tcp(host: str, port: int) -> OpenLine:
    async def open_line(receiver: asyncio.Protocol) -> Line:
        try:
            transport, _ = await asyncio.get_running_loop().create_connection(lambda: receiver, host, port)
        except OSError as error:
            raise LinkError(f"cannot connect: {error}") from None
        return transport

    return open_line


def registers_max(line: SerialLine | None, timeout_s: float) -> int:
    """Most registers of one read, so that it fits well into the time-out at this baud rate."""
    if line is None:
        return REGISTERS_MAX
    characters = WIRE_RATIO * timeout_s * line.baud / BITS_PER_CHARACTER
    return int(clamp(0.5 * (characters - OVERHEAD_BYTES), REGISTERS_LEAST, float(REGISTERS_MAX)))
