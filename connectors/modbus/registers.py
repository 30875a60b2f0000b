"""Points of one device as Modbus registers: read in the fewest requests, written one by one, on any wire."""

import math
import struct
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence

from connectors.identity import from_registers, registers_of
from connectors.link import Late, Latest, LinkError, NotSent, PointValue, WriteReply, as_decided
from connectors.modbus.blocks import ReadBlock, bit_of
from connectors.modbus.frames import (
    DATA_AT,
    READ_HOLDING,
    READ_OF,
    WRITE_COIL,
    WRITE_MANY,
    WRITE_ONE,
    exception_code,
)
from connectors.modbus.requests import Requests
from connectors.point_map import BIT_TABLES, PointCodec
from ems.clock import wall_s
from ems.commands import WriteOutcome
from ems.errors import BadValue
from ems.modbus import REGISTERS_MAX, ModbusTerms
from ems.site import Connection
from ems.telemetry import Quality

ILLEGAL_ADDRESS, ILLEGAL_VALUE = 2, 3
PAUSES_MAX = 0.5  # of the time of a line
TOO_MUCH_CODES = (ILLEGAL_ADDRESS, ILLEGAL_VALUE)  # to a read: of its registers, or of their number
COIL_ON, COIL_OFF = 0xFF00, 0x0000
PASSING_CODES = (4, 5, 6, 10, 11)  # of a device that may answer a little later
GATEWAY_CODES = (10, 11)  # the gateway answers for a device it cannot reach
MAYBE_CODES = (5, 11)  # to a write: taken and not done yet; sent on, and nothing came back
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
DOUBTED = WriteReply(
    WriteOutcome.NOT_SENT, "an earlier write may still be carried out: the device is read first"
)
_BODY = struct.Struct(">BBHH")  # unit id, function code, address, count or value


def terms_of(connection: Connection) -> ModbusTerms:
    """What a device takes; where nothing is said, what the protocol allows."""
    return ModbusTerms() if connection.modbus is None else connection.modbus


def requests_max(connection: Connection) -> float:
    """Requests of one poll, so that no more than half of it is spent in pauses between them."""
    pause_s = terms_of(connection).pause_s
    return math.inf if pause_s <= 0.0 else PAUSES_MAX * connection.poll_s / pause_s


class Asked:
    """A read request, and when it went on the wire [s wall]: many units share one."""

    def __init__(self, body: bytes) -> None:
        self._body, self.at_s = body, math.inf

    def __call__(self) -> bytes:
        self.at_s = wall_s()
        return self._body


class RegisterLink(ABC):
    """What the links of all Modbus wires share; a wire adds how a request is exchanged for its answer.

    Parameters
    ----------
    connection : unit id of the device.
    codecs : its points.
    registers_max : of one read request on this wire; the device's own limit counts as well.
    """

    def __init__(
        self, connection: Connection, codecs: Sequence[PointCodec], registers_max: int = REGISTERS_MAX
    ) -> None:
        self._unit = connection.unit_id
        self._codecs = tuple(codecs)
        self._identity = connection.identity
        self._terms = terms_of(connection)
        self.registers_max = min(registers_max, self._terms.registers_max)
        self.doubts = 0  # so many writes of which it was not known what became of them
        self._in_doubt = False  # one may still be carried out: the device is read first
        self._answers: list[tuple[ReadBlock, bytes]] = []  # to the requests of the last read
        self.refused: dict[str, str] = {}  # points whose request was answered by an exception, and by which
        self._requests = Requests(
            self._codecs,
            self._unit,
            holes_max=self._terms.holes_max,
            registers_max=self.registers_max,
            requests_max=requests_max(connection),
        )

    @abstractmethod
    def _exchange(self, body: bytes, until_s: float = math.inf, late: Late | None = None) -> Awaitable[bytes]:
        """Send unit id and PDU, give the whole checked answer laid out as on Modbus TCP.

        Raises NotSent or LinkError, as `Wire.exchange` does.
        """

    async def identify(self) -> dict[str, str | None]:
        out: dict[str, str | None] = {}
        for field in self._identity:
            count = registers_of(field)
            body = _BODY.pack(self._unit, READ_OF[field.table], int(field.address), count)
            received = await self._exchange(body)
            code = exception_code(received)
            if code in PASSING_CODES:
                raise LinkError(f"identity: exception {code}: {EXCEPTIONS[code]}")
            if code is None:
                words = struct.unpack_from(f">{count}H", received, DATA_AT)
                out[field.name] = from_registers(field, words)
            else:
                out[field.name] = None
        return out

    async def read(self) -> dict[str, PointValue]:
        out: dict[str, PointValue] = {}
        refused: dict[str, str] = {}
        answers: list[tuple[ReadBlock, bytes, float]] = []  # with when the request went on the wire [s wall]
        self._answers = []  # those of a device that does not answer now are over
        doubts, heard = self.doubts, True
        self._requests.begin(wall_s())
        for block, body in self._requests:
            asked = Asked(body)
            received = await self._exchange(body, late=asked)
            code = exception_code(received)
            if code is None:
                self._requests.was_answered()
                answers.append((block, received, asked.at_s))
                continue
            heard &= code not in GATEWAY_CODES
            if code in TOO_MUCH_CODES and self._requests.ask_for_less(holes=code == ILLEGAL_ADDRESS):
                continue
            quality = Quality.COMM_FAILED if code in GATEWAY_CODES else Quality.DEVICE_BAD
            out |= {codec.point.point: PointValue(None, quality, None) for codec, _ in block.points}
            refused |= dict.fromkeys((codec.point.point for codec, _ in block.points), _refusal(block, code))
        now_s = wall_s()
        for block, received, then_s in answers:
            block.decode_into(out, received, now_s - then_s)
        self.refused, self._answers = refused, [(block, received) for block, received, _ in answers]
        if heard and self.doubts == doubts:  # of a write meanwhile, what was read before it says nothing
            self._in_doubt = False
        return out

    def words(self, point: str) -> tuple[int, ...]:
        """Registers or bit of a point as they came with the last answer; empty: it was not among them."""
        for block, received in self._answers:
            for codec, at in block.points:
                if codec.point.point == point:
                    if block.of_bits:
                        return (int(bit_of(received, at)),)
                    return struct.unpack_from(f">{codec.registers}H", received, DATA_AT + at)
        return ()

    async def write(
        self, values: Sequence[tuple[PointCodec, float]], until_s: float, latest: Latest = as_decided
    ) -> list[WriteReply]:
        return [await self._write_one(codec, value, until_s, latest) for codec, value in values]

    async def ask(self, address: int, count: int) -> bytes | int:
        """Holding registers as they came, or the code of the exception that was answered.

        Raises LinkError as `read` does. For links that find their registers themselves.
        """
        received = await self._exchange(_BODY.pack(self._unit, READ_HOLDING, address, count))
        code = exception_code(received)
        return received[DATA_AT:] if code is None else code

    async def put(
        self,
        address: int,
        words: Sequence[int],
        until_s: float,
        latest: Callable[[], Sequence[int]] | None = None,
    ) -> WriteReply:
        """Send registers once, in one request of function 16. Never raises.

        `latest` gives them as they may be sent when the wire is held; it may raise NotSent and BadValue.
        """

        def body(now: Sequence[int]) -> bytes:
            n = len(now)
            return _BODY.pack(self._unit, WRITE_MANY, address, n) + struct.pack(f">B{n}H", 2 * n, *now)

        return await self._send(body(words), until_s, None if latest is None else lambda: body(latest()))

    async def _write_one(self, codec: PointCodec, value: float, until_s: float, latest: Latest) -> WriteReply:
        try:
            body = self._write_body(codec, value)
        except BadValue as error:
            return WriteReply(WriteOutcome.NOT_SENT, str(error))
        return await self._send(body, until_s, lambda: self._write_body(codec, latest(codec, value)))

    def _write_body(self, codec: PointCodec, value: float) -> bytes:
        """The request that writes a value; raises BadValue."""
        if codec.point.table in BIT_TABLES:
            state = COIL_ON if codec.to_raw(value) else COIL_OFF
            return _BODY.pack(self._unit, WRITE_COIL, codec.address, state)
        registers = codec.encode(value)
        n = len(registers)
        if n == 1 and self._terms.write_with == WRITE_ONE:
            return _BODY.pack(self._unit, WRITE_ONE, codec.address, registers[0])
        return _BODY.pack(self._unit, WRITE_MANY, codec.address, n) + struct.pack(
            f">B{n}H", 2 * n, *registers
        )

    def doubt(self) -> None:
        """A write may still be carried out: nothing is written before the device is read."""
        self.doubts, self._in_doubt = self.doubts + 1, True

    async def _send(self, body: bytes, until_s: float, late: Late | None) -> WriteReply:
        if self._in_doubt:
            return DOUBTED
        try:
            code = exception_code(await self._exchange(body, until_s, late))
        except (NotSent, BadValue) as error:
            return WriteReply(WriteOutcome.NOT_SENT, str(error))
        except LinkError as error:
            return WriteReply(WriteOutcome.UNKNOWN, str(error))
        if code is None:
            return WriteReply(WriteOutcome.CONFIRMED, "")
        said = f"exception {code}: {EXCEPTIONS.get(code, 'unknown code')}"
        if code not in MAYBE_CODES:
            return WriteReply(WriteOutcome.REJECTED, said)
        self.doubt()
        return WriteReply(WriteOutcome.UNKNOWN, said)


def _refusal(block: ReadBlock, code: int) -> str:
    """What a device said to a request, in words."""
    said = f"exception {code} ({EXCEPTIONS.get(code, 'of its own')})"
    last = block.address + block.count - 1
    what = f"{block.table} {'bits' if block.of_bits else 'registers'}"
    text = f"{said} to a read of {what} {block.address} to {last}"
    return f"{text}, counted from 0" if code == ILLEGAL_ADDRESS else text
