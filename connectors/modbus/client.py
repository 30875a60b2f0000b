"""Modbus TCP link: pymodbus underneath, every reply checked against its request, nothing retried."""

import asyncio
import logging
from collections.abc import Sequence

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from connectors.link import LinkError, PointValue, WriteReply
from connectors.modbus.blocks import ReadBlock, read_blocks
from connectors.modbus.frames import DATA_AT, MalformedReply, exception_code, is_complete
from connectors.point_map import PointCodec
from ems.commands import WriteOutcome
from ems.errors import BadValue
from ems.site import Connection
from ems.telemetry import Quality

logging.getLogger("pymodbus").setLevel(
    logging.CRITICAL
)  # it logs an ERROR for every time-out; we report links

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
        self._blocks = read_blocks(self._codecs)
        self._client: AsyncModbusTcpClient | None = None
        self._turn = asyncio.Lock()
        self._sent = b""  # request in flight; empty when none
        self._received = b""  # its complete and checked answer

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.connected

    async def connect(self) -> None:
        await self.disconnect()
        client = AsyncModbusTcpClient(
            self._host,
            port=self._port,
            timeout=self._timeout_s,
            retries=0,
            reconnect_delay=0,
            trace_packet=self._on_packet,
            trace_connect=self._on_connect,
        )
        self._client = client
        try:
            opened = await client.connect()
        except OSError as error:
            raise LinkError(f"cannot connect: {error}") from None
        if not opened:
            raise LinkError(f"cannot connect to {self._host}:{self._port} in {self._timeout_s:g} s")

    async def disconnect(self) -> None:
        self._drop("closed")
        self._client = None

    async def read(self) -> dict[str, PointValue]:
        out: dict[str, PointValue] = {}
        for block in self._blocks:
            received = await self._read_block(block)
            code = exception_code(received)
            if code is None:
                for codec, offset in block.points:
                    out[codec.point.point] = PointValue(*codec.decode_at(received, DATA_AT + offset), None)
                continue
            quality = Quality.COMM_FAILED if code in GATEWAY_CODES else Quality.DEVICE_BAD
            out |= {codec.point.point: PointValue(None, quality, None) for codec, _ in block.points}
            if code == ILLEGAL_ADDRESS and block.has_holes:
                self._blocks = read_blocks(self._codecs, hole_max=0)  # it may be the holes it refuses
        return out

    async def write(self, values: Sequence[tuple[PointCodec, float]]) -> list[WriteReply]:
        return [await self._write_one(codec, value) for codec, value in values]

    async def _read_block(self, block: ReadBlock) -> bytes:
        async with self._turn:
            client = self._usable()
            read = client.read_holding_registers if block.table == "holding" else client.read_input_registers
            return await self._exchange(read(block.address, count=block.count, device_id=self._unit))

    async def _write_one(self, codec: PointCodec, value: float) -> WriteReply:
        try:
            registers = codec.encode(value)
        except BadValue as error:
            return WriteReply(WriteOutcome.NOT_SENT, str(error))
        async with self._turn:
            try:
                client = self._usable()
            except LinkError as error:
                return WriteReply(WriteOutcome.NOT_SENT, str(error))
            if len(registers) == 1:
                request = client.write_register(codec.address, registers[0], device_id=self._unit)
            else:
                request = client.write_registers(codec.address, registers, device_id=self._unit)
            try:
                code = exception_code(await self._exchange(request))
            except LinkError as error:
                return WriteReply(WriteOutcome.UNKNOWN, str(error))
        if code is None:
            return WriteReply(WriteOutcome.CONFIRMED, "")
        return WriteReply(WriteOutcome.REJECTED, f"exception {code}: {EXCEPTIONS.get(code, 'unknown code')}")

    def _usable(self) -> AsyncModbusTcpClient:
        if self._client is None or not self._client.connected:
            raise LinkError("not connected")
        return self._client

    async def _exchange(self, request: object) -> bytes:
        """Send one request, return the bytes of its checked answer; whatever else happens drops the link."""
        self._received = b""
        try:
            await request  # type: ignore[misc]
        except (ModbusException, MalformedReply, LinkError, OSError) as error:
            reason = "no answer in time" if isinstance(error, ModbusException) else str(error)
            self._drop(reason)
            raise LinkError(reason) from None
        except asyncio.CancelledError:
            self._drop("request cancelled")
            raise
        finally:
            self._sent = b""
        if not self._received:
            self._drop("answer without bytes")
            raise LinkError("answer without bytes")
        return self._received

    def _on_packet(self, sending: bool, data: bytes) -> bytes:
        """See every packet: pymodbus calls this before it sends and before it parses."""
        if sending:
            self._sent = data
            return data
        if not self._sent:
            self._drop("bytes that nobody asked for")
            return b""
        try:
            if is_complete(self._sent, data):
                self._received = bytes(data)
                return data
        except MalformedReply as error:
            self._fail(error)
        return b""  # pymodbus goes on collecting

    def _on_connect(self, connected: bool) -> None:
        if not connected:
            self._fail(LinkError("connection lost"))

    def _fail(self, error: Exception) -> None:
        """End the request in flight now, not at its deadline."""
        if self._client is not None and self._sent:
            answer = self._client.ctx.response_future
            if not answer.done():
                answer.set_exception(error)

    def _drop(self, reason: str) -> None:
        client = self._client
        if client is None:
            return
        self._fail(LinkError(reason))
        if isinstance(client.ctx.transport, asyncio.Transport):
            client.ctx.transport.abort()  # close() would still flush what is unsent
        client.close()
