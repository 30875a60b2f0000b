"""A SunSpec device in memory, and a reader of it that shares nothing with ours but the published tables."""

import math
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal

from connectors.link import Latest, LinkError, NotSent, PointValue, WriteReply, as_decided
from connectors.point_map import PointCodec, point_codecs
from connectors.sunspec.link import SunSpecLink
from ems.commands import WriteOutcome
from ems.errors import BadValue
from ems.site import Connection, PointMap, Protocol, SetpointAuthority, SunSpecRow

Memory = dict[int, int]


class FakeWire:
    """Registers that answer, refuse, or fail on request; `before` is called in front of each read."""

    def __init__(self, memory: Memory, registers_max: int = 125) -> None:
        self.memory, self.registers_max, self.doubts = memory, registers_max, 0
        self.connected = False
        self.asked: list[tuple[int, int]] = []
        self.written: list[tuple[int, tuple[int, ...]]] = []
        self.before: Callable[[], int | None] = lambda: None  # an exception code, or raises LinkError

    async def connect(self) -> None:
        self.connected = True

    async def disconnect(self) -> None:
        self.connected = False

    async def identify(self) -> dict[str, str | None]:
        raise AssertionError("a SunSpec device is identified by its models")

    async def read(self) -> dict[str, PointValue]:
        return {}

    async def write(
        self, values: Sequence[tuple[PointCodec, float]], until_s: float, latest: Latest = as_decided
    ) -> list[WriteReply]:
        raise AssertionError("the wire has no points")

    async def ask(self, address: int, count: int) -> bytes | int:
        assert 1 <= count <= self.registers_max
        assert address >= 0
        assert address + count <= 65536
        if not self.connected:
            raise LinkError("not connected")
        self.asked.append((address, count))
        if (code := self.before()) is not None:
            return code
        words = [self.memory.get(a) for a in range(address, address + count)]
        return 2 if None in words else struct.pack(f">{count}H", *words)

    async def put(
        self,
        address: int,
        words: Sequence[int],
        until_s: float,
        latest: Callable[[], Sequence[int]] | None = None,
    ) -> WriteReply:
        if not self.connected:
            return WriteReply(WriteOutcome.NOT_SENT, "not connected")
        try:
            words = words if latest is None else latest()
        except (NotSent, BadValue) as error:
            return WriteReply(WriteOutcome.NOT_SENT, str(error))
        if any(address + i not in self.memory for i in range(len(words))):
            return WriteReply(WriteOutcome.REJECTED, "exception 2: illegal data address")
        self.written.append((address, tuple(words)))
        self.memory.update({address + i: w for i, w in enumerate(words)})
        return WriteReply(WriteOutcome.CONFIRMED, "")


def row(
    point: str,
    address: str,
    *,
    rating: str | None = None,
    states: tuple[tuple[str, float], ...] = (),
    writable: bool = False,
    span: tuple[float, float] = (-1e30, 1e30),
) -> PointMap:
    return PointMap(
        point=point,
        address=address,
        table="model",
        data_type="float",
        byte_order="big",
        word_order="big",
        scale=1.0,
        offset=0.0,
        sign=1,
        unit="",
        low=span[0],
        high=span[1],
        age_s_max=3.0,
        writable=writable,
        sunspec=SunSpecRow(percent_of=rating, states=states),
    )


def codecs(*rows: PointMap) -> list[PointCodec]:
    connection = Connection(
        id="dev",
        protocol=Protocol.SUNSPEC,
        host="127.0.0.1",
        port=502,
        unit_id=1,
        endpoint="",
        poll_s=1.0,
        timeout_s=0.5,
        watchdog_point=None,
        points=rows,
    )
    return list(point_codecs(connection).values())


def link(
    wire: FakeWire, *rows: PointMap, authority: dict[str, SetpointAuthority] | None = None
) -> SunSpecLink:
    return SunSpecLink(codecs(*rows), wire, authority={} if authority is None else authority)


def device(*models: list[int], base: int = 40000, tail: Sequence[int] = (0xFFFF, 0)) -> Memory:
    """Registers of a device with these models, each with its header, behind model 1."""
    words = [0x5375, 0x6E53, 1, 66, *[0] * 66, *(w for m in models for w in m), *tail]
    return {base + i: w for i, w in enumerate(words)}


def model(number: int, length: int, values: dict[int, list[int]], fill: int = 0xFFFF) -> list[int]:
    """Words of one model; `values` by register from its id, as the published table counts them."""
    words = [number, length, *[fill] * length]
    for at, some in values.items():
        words[at : at + len(some)] = some
    return words


# name -> (model, its length or lengths, register, signed words, register of its scale factor), by hand.
TABLE: dict[str, tuple[int, Callable[[int], bool], int, int, bool, int]] = {
    "701.W": (701, lambda n: n == 153, 10, 1, True, 116),
    "701[2].W": (701, lambda n: n == 153, 10, 1, True, 116),
    "701.Hz": (701, lambda n: n == 153, 17, 2, False, 115),
    "103.W": (103, lambda n: n == 50, 14, 1, True, 15),
    "203.W": (203, lambda n: n == 105, 18, 1, True, 22),
    "802.SoC": (802, lambda n: n == 62, 11, 1, False, 56),
    "714.Prt[2].DCW": (714, lambda n: n >= 18 and (n - 18) % 25 == 0, 57, 1, True, 17),
    "704.WMaxLimPct": (704, lambda n: n == 65, 15, 1, False, 54),
    "704.WSet": (704, lambda n: n == 65, 24, 2, True, 55),
    "702.WMaxRtg": (702, lambda n: n == 50, 2, 1, False, 45),
}


def chain_of(memory: Memory) -> list[tuple[int, int, int]] | None:
    """(model, address, length) of each model; None where there is no sound chain. At the known bases only."""
    for base in (40000, 50000, 0, 39999, 40001, 49999, 50001, 1):
        if (memory.get(base), memory.get(base + 1)) == (0x5375, 0x6E53):
            break
    else:
        return None
    out: list[tuple[int, int, int]] = []
    at = base + 2
    while at + 1 <= 65535 and at in memory and at + 1 in memory:
        number, length = memory[at], memory[at + 1]
        if number == 0xFFFF:
            return out if out and out[0][0] == 1 else None
        if number == 0 or len(out) == 128:
            return None
        out.append((number, at, length))
        at += 2 + length
    return None


def start_of(memory: Memory, name: str) -> int | None:
    """Register at which the chain has the model of a point."""
    mine = [m for m in (chain_of(memory) or []) if m[0] == TABLE[name][0]]
    nth = 2 if name.startswith("701[2]") else 1
    return mine[nth - 1][1] if len(mine) >= nth else None


def truth(memory: Memory, name: str, start: int | None) -> float | None:
    """What a reader may believe of a point of the model at `start`; None: nothing."""
    number, fits, at, count, signed, scale_at = TABLE[name]
    if start is None or memory.get(start) != number:
        return None
    length = memory.get(start + 1)
    if length is None or not fits(length) or at + count > length + 2:
        return None
    words = [memory.get(start + at + i) for i in range(count)]
    scale = memory.get(start + scale_at)
    if scale is None or None in words:
        return None
    raw = 0
    for w in words:
        raw = raw * 65536 + (w if w is not None else 0)
    top = 65536**count
    if raw == (top // 2 if signed else top - 1):
        return None
    raw = raw - top if signed and raw >= top // 2 else raw
    exponent = scale - 65536 if scale >= 32768 else scale
    if abs(exponent) > 10:
        return None
    return float(Decimal(raw) * Decimal(10) ** exponent)


def same(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-30)
