"""Modbus TCP link: the points of one device in the fewest requests, writes one by one."""

import asyncio
import struct
from collections.abc import Sequence

from connectors.link import LinkError, NotSent, PointValue, WriteReply
from connectors.modbus.blocks import ReadBlock, read_blocks
from connectors.modbus.frames import READ_HOLDING, READ_INPUT, WRITE_MANY, WRITE_ONE, exception_code
from connectors.modbus.wire import Wire
from connectors.point_map import PointCodec
from ems.commands import WriteOutcome
from ems.errors import BadValue
from ems.site import Connection
from ems.telemetry import Quality

ILLEGAL_ADDRESS = 2
GATEWAY_CODES = (10, 11)  # the gateway answers for a device it cannot reach
EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledged, not done yet",
    6: "server device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target failed to respond",
}
_BODY = struct.Struct(">BBHH")  # unit id, function code, address, count or value


class ModbusLink:
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
        self._unit = connection.unit_id
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self._codecs = tuple(codecs)
        self._requests = self._plan_reads(read_blocks(self._codecs))
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

    async def read(self) -> dict[str, PointValue]:
        out: dict[str, PointValue] = {}
        for block, body in self._requests:
            received = await self._wire.exchange(body)
            code = exception_code(received)
            if code is None:
                block.decode_into(out, received)
                continue
            quality = Quality.COMM_FAILED if code in GATEWAY_CODES else Quality.DEVICE_BAD
            out |= {codec.point.point: PointValue(None, quality, None) for codec, _ in block.points}
            if code == ILLEGAL_ADDRESS and block.has_holes:
                # it may be the holes it refuses
                self._requests = self._plan_reads(read_blocks(self._codecs, hole_max=0))
        return out

    async def write(self, values: Sequence[tuple[PointCodec, float]], until_s: float) -> list[WriteReply]:
        return [await self._write_one(codec, value, until_s) for codec, value in values]

    def _plan_reads(self, blocks: Sequence[ReadBlock]) -> list[tuple[ReadBlock, bytes]]:
        functions = {"holding": READ_HOLDING, "input": READ_INPUT}
        return [(b, _BODY.pack(self._unit, functions[b.table], b.address, b.count)) for b in blocks]

    async def _write_one(self, codec: PointCodec, value: float, until_s: float) -> WriteReply:
        try:
            registers = codec.encode(value)
        except BadValue as error:
            return WriteReply(WriteOutcome.NOT_SENT, str(error))
        n = len(registers)
        if n == 1:
            body = _BODY.pack(self._unit, WRITE_ONE, codec.address, registers[0])
        else:
            body = _BODY.pack(self._unit, WRITE_MANY, codec.address, n)
            body += struct.pack(f">B{n}H", 2 * n, *registers)
        try:
            code = exception_code(await self._wire.exchange(body, until_s))
        except NotSent as error:
            return WriteReply(WriteOutcome.NOT_SENT, str(error))
        except LinkError as error:
            return WriteReply(WriteOutcome.UNKNOWN, str(error))
        if code is None:
            return WriteReply(WriteOutcome.CONFIRMED, "")
        return WriteReply(WriteOutcome.REJECTED, f"exception {code}: {EXCEPTIONS.get(code, 'unknown code')}")
