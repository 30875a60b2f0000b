"""The image of a plant as Modbus registers: the map by data, or an automatic one that is always the same.

Every image becomes a table of registers as a whole, so that one request never sees two images. A value that
is not good is NaN, or the count declared for it; beside it may stand its quality and its age.
"""

import hashlib
import math
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from connectors.northbound.image import Image
from connectors.raw_types import MODBUS_TYPES, Kind, RawType
from ems.northbound import ModbusServer, ServedRow
from ems.northbound_names import ANSWER, CAP, EMS, LIMIT, OF_A_SERVER, names
from ems.site import Site
from ems.telemetry import Quality

AUTOMATIC = "automatic"
HEAD_AT, EMS_AT, CAPS_AT, LIMITS_AT, POINTS_AT = 0, 100, 150, 200, 1000
STRIDE = 4  # value (2), quality, age
LIMIT_STRIDE = 5  # and what the edge made of the last write
AGE_MAX = 65535
TABLES = ("holding", "input")
QUALITIES = tuple(Quality)  # a register of quality holds the place in it; 0 is good


def rows_of(site: Site, server: ModbusServer) -> tuple[ServedRow, ...]:
    """The map of a server: its own, or the automatic one, in both tables."""
    return server.rows if server.rows else tuple(_automatic(site))


def _automatic(site: Site) -> Iterator[ServedRow]:
    """Each kind of value from an address of its own on, so that one more of a kind moves no other kind."""
    for i, name in enumerate(OF_A_SERVER):
        yield ServedRow(point=name, table="both", address=HEAD_AT + i, data_type="u16")
    limits = [x.id for x in site.control.limits]
    for i, limit in enumerate(limits):
        at = LIMITS_AT + LIMIT_STRIDE * i
        yield _float(f"{LIMIT}{limit}", at)
        yield ServedRow(point=f"{ANSWER}{limit}", table="both", address=at + STRIDE, data_type="u16")
    next_at = {EMS: EMS_AT, CAP: CAPS_AT, "": POINTS_AT}
    for name in (n.name for n in names(site) if not n.name.startswith(LIMIT)):
        begin = next((k for k in (EMS, CAP) if name.startswith(k)), "")
        yield _float(name, next_at[begin])
        next_at[begin] += STRIDE


def _float(name: str, at: int) -> ServedRow:
    return ServedRow(point=name, table="both", address=at, data_type="f32", quality_at=at + 2, age_at=at + 3)


def map_id(rows: Iterable[ServedRow]) -> int:
    """16 bits that change with the map."""
    text = "\n".join(sorted(repr(r) for r in rows))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:2], "big")


class Coder:
    """One row: a value to registers, and back where it may be told."""

    def __init__(self, row: ServedRow) -> None:
        self.row = row
        self.type: RawType = MODBUS_TYPES[row.data_type]
        self._words = struct.Struct(f">{self.type.registers}H")
        self._value = struct.Struct(f">{self.type.code}")
        if self.type.kind is Kind.FLOAT:
            self._nothing = self._bytes(math.nan)
        else:
            sentinel = self.type.sentinel if row.not_available is None else row.not_available
            assert sentinel is not None
            self._nothing = self._bytes(sentinel)

    def encode(self, value: float | None) -> tuple[bytes, bool]:
        """(registers, whether they hold the value). None, and what does not fit, is not available."""
        if value is None or not math.isfinite(value):
            return self._nothing, value is None
        raw = (value - self.row.offset) / self.row.scale
        if self.type.kind is not Kind.FLOAT:
            raw = round(raw)
        if not self.type.raw_min <= raw <= self.type.raw_max:
            return self._nothing, False
        return self._bytes(raw), True

    def decode(self, words: Sequence[int]) -> float:
        """Registers as written -> the value in its unit; NaN for what says that there is none."""
        raw = self._words.pack(*words)
        if self._turned:
            raw = self._turn(raw)
        (count,) = self._value.unpack(raw)
        if self._words.pack(*words) == self._nothing:
            return math.nan
        return float(count) * self.row.scale + self.row.offset

    @property
    def _turned(self) -> bool:
        return self.row.word_order == "little" and self.type.registers > 1

    def _bytes(self, raw: float) -> bytes:
        packed = self._value.pack(raw if self.type.kind is Kind.FLOAT else int(raw))
        return self._turn(packed) if self._turned else packed

    def _turn(self, raw: bytes) -> bytes:
        return self._words.pack(*reversed(self._words.unpack(raw)))


@dataclass(frozen=True, slots=True)
class _Span:
    """Registers without a gap."""

    begin: int
    content: bytes

    @property
    def end(self) -> int:
        return self.begin + len(self.content) // 2


class Registers:
    """Both tables as they stand at one moment."""

    def __init__(self, tables: Mapping[str, Sequence[_Span]]) -> None:
        self._spans = tables
        self._begins = {table: [s.begin for s in spans] for table, spans in tables.items()}

    def read(self, table: str, address: int, count: int) -> bytes | None:
        """`count` registers from `address` on; None where one of them holds nothing."""
        i = bisect_right(self._begins[table], address) - 1
        if i < 0:
            return None
        span = self._spans[table][i]
        if address + count > span.end:
            return None
        at = 2 * (address - span.begin)
        return span.content[at : at + 2 * count]


class RegisterMap:
    """The map of one server, ready for images."""

    def __init__(self, rows: Sequence[ServedRow]) -> None:
        self.coders = tuple(Coder(r) for r in rows)
        self.id = map_id(rows)
        self._limits: dict[tuple[int, int], Coder] = {}
        for coder in self.coders:
            row = coder.row
            if row.point.startswith(LIMIT) and row.table in ("holding", "both"):
                self._limits[(row.address, coder.type.registers)] = coder

    def limit_at(self, address: int, words: Sequence[int]) -> tuple[str, float] | None:
        """(id of a limit, value [kW]) that whoever writes exactly these registers tells; None: no limit."""
        coder = self._limits.get((address, len(words)))
        return None if coder is None else (coder.row.point.removeprefix(LIMIT), coder.decode(words))

    def registers(self, image: Image, answers: Mapping[str, int], now: datetime) -> Registers:
        """Everything as it is shown now."""
        told: dict[str, dict[int, bytes]] = {table: {} for table in TABLES}
        for coder in self.coders:
            row = coder.row
            for address, content in self._row(coder, image, answers, now):
                for table in TABLES if row.table == "both" else (row.table,):
                    told[table][address] = content
        return Registers({table: _spans(words) for table, words in told.items()})

    def _row(
        self, coder: Coder, image: Image, answers: Mapping[str, int], now: datetime
    ) -> Iterator[tuple[int, bytes]]:
        row = coder.row
        value, quality, age_s = self._value(row.point, image, answers, now)
        content, fits = coder.encode(value)
        if not fits and quality is Quality.GOOD:
            quality = Quality.OUT_OF_RANGE
        yield row.address, content
        if row.quality_at is not None:
            yield row.quality_at, QUALITIES.index(quality).to_bytes(2, "big")
        if row.age_at is not None:
            yield row.age_at, _age(age_s)

    def _value(
        self, name: str, image: Image, answers: Mapping[str, int], now: datetime
    ) -> tuple[float | None, Quality, float | None]:
        """(value where it is good, quality, age [s])."""
        image_age_s = None if image.at is None else (now - image.at).total_seconds()
        if name in OF_A_SERVER:
            own = {
                "server.beat": image.beat % 65536,
                "server.fresh": int(image.fresh),
                "server.age_s": int.from_bytes(_age(image_age_s), "big"),
                "server.map_id": self.id,
            }
            return float(own[name]), Quality.GOOD, 0.0
        if name.startswith(ANSWER):
            return float(answers.get(name.removeprefix(ANSWER), 0)), Quality.GOOD, 0.0
        shown = image.get(name)
        return shown.usable, shown.quality, None if shown.at is None else (now - shown.at).total_seconds()


def _age(age_s: float | None) -> bytes:
    """Whole seconds in a register; its largest where nothing was ever there, or longer ago."""
    seconds = AGE_MAX if age_s is None else min(AGE_MAX, max(0, int(age_s)))
    return seconds.to_bytes(2, "big")


def _spans(told: Mapping[int, bytes]) -> list[_Span]:
    out: list[tuple[int, bytearray]] = []
    for address in sorted(told):
        if out and out[-1][0] + len(out[-1][1]) // 2 == address:
            out[-1][1].extend(told[address])
        else:
            out.append((address, bytearray(told[address])))
    return [_Span(begin, bytes(content)) for begin, content in out]
