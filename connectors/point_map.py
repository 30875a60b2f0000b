"""The codec between what a device holds and what a point means. Pure; a simulator's servers use it backwards.

value = raw * scale * sign + offset, of one bit of raw where the row names one; where it has codes, what they
say. Nothing leaves this module that is not finite, and nothing that is not
finite or outside its plausible range is ever sent.
"""

import math
import struct
from collections.abc import Sequence
from typing import NamedTuple

from connectors.map_check import check_point_maps
from connectors.raw_types import Kind, Raw, RawType, types_of
from ems.errors import BadValue, ConfigError
from ems.site import Connection, PointMap
from ems.telemetry import Quality

BIT_TABLES = ("coil", "discrete")  # of Modbus


class Decoded(NamedTuple):
    """A decoded value. None where the raw value stands for no number at all."""

    value: float | None
    quality: Quality


class PointCodec:
    """Translates one point between raw value, registers and the point's unit. Immutable after construction.

    Parameters
    ----------
    point : the row of the point map.
    raw : its data type.
    """

    __slots__ = ("_codes", "_factor", "_high", "_low", "_order", "_struct", "point", "raw")

    def __init__(self, point: PointMap, raw: RawType) -> None:
        self.point = point
        self.raw = raw
        self._codes = dict(point.codes)
        self._factor = point.scale * point.sign
        slack = self._slack()
        self._low, self._high = point.low - slack, point.high + slack
        same = point.byte_order == point.word_order or raw.registers <= 1
        prefix = "<" if same and point.byte_order == "little" else ">"
        self._struct = struct.Struct(prefix + raw.code) if raw.code else None
        self._order: tuple[int, ...] | None = None if same else _permutation(raw.registers, point.byte_order)

    @property
    def address(self) -> int:
        """Zero-based register, or bit, of a Modbus point."""
        return int(self.point.address)

    @property
    def registers(self) -> int:
        """Count of 16-bit registers of a Modbus point, or of bits."""
        return self.raw.registers

    @property
    def is_big_endian(self) -> bool:
        """Most significant byte and register first."""
        return self._order is None and self._struct is not None and self._struct.format.startswith(">")

    @property
    def is_linear(self) -> bool:
        """The whole raw count goes through the formula."""
        return self.point.bit is None and not self._codes

    @property
    def usual(self) -> tuple[str, int | None, float, float, float, float]:
        """Point, count for *not available*, factor, offset, low, high: enough for a good value."""
        p = self.point
        return p.point, self.raw.sentinel, self._factor, p.offset, self._low, self._high

    def from_raw(self, raw: Raw) -> Decoded:
        """Raw value -> value in the point's unit and its quality; the value is finite or None."""
        if not self.is_linear:
            return self._from_count(int(raw))
        if raw == self.raw.sentinel and self.raw.sentinel is not None:
            return Decoded(None, Quality.DEVICE_BAD)
        value = float(raw) * self._factor + self.point.offset
        if not math.isfinite(value):
            return Decoded(None, Quality.NOT_FINITE)
        in_range = self._low <= value <= self._high
        return Decoded(value, Quality.GOOD if in_range else Quality.OUT_OF_RANGE)

    def _from_count(self, raw: int) -> Decoded:
        """One bit of a count, or what the count stands for; a count that stands for nothing is no number."""
        p = self.point
        if p.bit is not None:
            value = float(raw >> p.bit & 1) * self._factor + p.offset
        elif raw in self._codes:
            value = self._codes[raw]
        else:
            return Decoded(None, Quality.DEVICE_BAD)
        in_range = self._low <= value <= self._high
        return Decoded(value, Quality.GOOD if in_range else Quality.OUT_OF_RANGE)

    def to_raw(self, value: float) -> Raw:
        """Value in the point's unit -> raw value to send, rounded so that it stays inside [low, high].

        Raises
        ------
        BadValue : not finite, outside [low, high], or not representable in the data type.
        """
        p = self.point
        if not math.isfinite(value):
            raise BadValue(f"{p.point}: {value!r} is not a finite number")
        slack = 1e-9 * max(1.0, abs(p.low), abs(p.high))
        if not p.low - slack <= value <= p.high + slack:
            raise BadValue(f"{p.point}: {value!r} {p.unit} is outside [{p.low!r}, {p.high!r}]")
        if self._codes:
            return self._count_of(value)
        raw = (value - p.offset) / self._factor
        if self.raw.kind is Kind.FLOAT:
            count: Raw = raw
        else:
            count = self._whole_count(raw, slack)
        if not self.raw.raw_min <= count <= self.raw.raw_max or count == self.raw.sentinel:
            raise BadValue(f"{p.point}: {value!r} {p.unit} does not fit {self.raw.name} (raw {raw:.6g})")
        return bool(count) if self.raw.kind is Kind.BOOLEAN else count

    def decode(self, registers: Sequence[int]) -> Decoded:
        """`registers` as read, most significant byte first within each -> value and quality."""
        return self.decode_at(struct.pack(f">{len(registers)}H", *registers), 0)

    def decode_at(self, payload: bytes, offset: int) -> Decoded:
        """The same from the bytes of a whole reply; `offset` in bytes."""
        assert self._struct is not None, "not a register type"
        if self._order is not None:
            payload, offset = bytes([payload[offset + i] for i in self._order]), 0
        return self.from_raw(self._struct.unpack_from(payload, offset)[0])

    def encode(self, value: float) -> list[int]:
        """Value in the point's unit -> registers to write. Raises BadValue as `to_raw` does."""
        return self._registers(self.to_raw(value))

    def encode_reported(self, value: float | None) -> list[int]:
        """Registers of a device that reports `value` whatever it is: clipped to the type, never refused.

        None and NaN become the type's "not available". For the servers of a simulator, not for commands.
        """
        return self._registers(self.raw_reported(value))

    def raw_reported(self, value: float | None) -> Raw:
        """Raw value of a device that reports `value` whatever it is; see `encode_reported`."""
        if not self.is_linear:
            return self._count_reported(value)
        if value is None or math.isnan(value):
            missing = self.raw.sentinel if self.raw.sentinel is not None else 0
            return math.nan if self.raw.kind is Kind.FLOAT else missing
        raw = (value - self.point.offset) / self._factor
        raw = min(max(raw, self.raw.raw_min), self.raw.raw_max)
        match self.raw.kind:
            case Kind.FLOAT:
                return raw
            case Kind.BOOLEAN:
                return raw >= 0.5
            case Kind.INTEGER:
                count = min(max(round(raw), int(self.raw.raw_min)), int(self.raw.raw_max))
                if count != self.raw.sentinel:
                    return count
                return count + 1 if count < 0 else count - 1  # a number is never told as "not available"

    def _count_of(self, value: float) -> int:
        """The first count that stands for a value; raises BadValue where none does."""
        count = next((raw for raw, meant in self.point.codes if meant == value), None)
        if count is None:
            known = ", ".join(f"{meant:g}" for meant in dict.fromkeys(self._codes.values()))
            raise BadValue(f"{self.point.point}: {value!r} has no code; allowed: {known}")
        return count

    def _count_reported(self, value: float | None) -> int:
        if value is None or math.isnan(value):
            return self.raw.sentinel if self.raw.sentinel is not None else 0
        if self.point.bit is not None:
            return round((value - self.point.offset) / self._factor) << self.point.bit
        count = next((raw for raw, meant in self.point.codes if meant == value), self.raw.sentinel)
        return count if count is not None else 0

    def _slack(self) -> float:
        """How far a good value may lie outside [low, high] by the type's own resolution."""
        p = self.point
        if self.raw.kind is Kind.FLOAT:
            return 1e-6 * max(abs(p.low), abs(p.high), abs(p.offset))
        return 0.5000001 * abs(p.scale)

    def _whole_count(self, raw: float, slack: float) -> int:
        if self.raw.kind is Kind.BOOLEAN:
            if raw not in (0.0, 1.0):
                raise BadValue(f"{self.point.point}: raw {raw!r} is neither 0 nor 1")
            return int(raw)
        count = round(raw)
        back = count * self._factor + self.point.offset
        toward_higher = 1 if self._factor > 0 else -1
        if back > self.point.high + slack:
            return count - toward_higher
        return count + toward_higher if back < self.point.low - slack else count

    def _registers(self, raw: Raw) -> list[int]:
        assert self._struct is not None, "not a register type"
        payload = self._struct.pack(raw)
        if self._order is not None:
            payload = bytes([payload[i] for i in self._order])  # swapping pairs or words undoes itself
        return list(struct.unpack(f">{self.raw.registers}H", payload))


def _permutation(registers: int, byte_order: str) -> tuple[int, ...]:
    """Byte positions of a value whose byte and word orders differ; it is its own inverse."""
    words = [(2 * i, 2 * i + 1) for i in range(registers)]
    if byte_order == "little":  # words big: only the bytes inside each register are swapped
        return tuple(b for high, low in words for b in (low, high))
    return tuple(b for word in reversed(words) for b in word)


def point_codecs(connection: Connection) -> dict[str, PointCodec]:
    """Codecs of a connection by point id, in map order.

    Raises
    ------
    ConfigError : with every Problem of the map.
    """
    problems = check_point_maps([connection])
    if problems:
        raise ConfigError(problems)
    types = types_of(connection)
    return {p.point: PointCodec(p, types[p.data_type]) for p in connection.points}
