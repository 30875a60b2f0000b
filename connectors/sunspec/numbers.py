"""Numbers of SunSpec points: what is in the registers, what stands for no number, and scale factors. Pure.

Source: SunSpec Device Information Model Specification V1.2 (SunSpec Alliance, 2022), point types and
scale factors.
"""

import math
import struct
from typing import NamedTuple

EXPONENT_MAX = 10  # a scale factor is a power of ten from -10 to 10
NO_EXPONENT = -32768


class Kind(NamedTuple):
    """How a point lies in its registers, most significant byte first."""

    form: struct.Struct
    missing: int | None  # the count that says: not implemented; None: NaN says so
    is_accumulator: bool = False

    @property
    def registers(self) -> int:
        """How many registers it takes."""
        return self.form.size // 2

    @property
    def span(self) -> int:
        """How many counts it can tell apart."""
        return 1 << (8 * self.form.size)

    def raw(self, payload: bytes | bytearray, at: int) -> float | int | None:
        """What the registers at byte `at` hold; None where they say that there is nothing."""
        value: float | int = self.form.unpack_from(payload, at)[0]
        if self.missing is None:
            return value if math.isfinite(value) else None
        return None if value == self.missing else value


def _kind(code: str, missing: int | None, *, is_accumulator: bool = False) -> Kind:
    return Kind(struct.Struct(f">{code}"), missing, is_accumulator)


KINDS: dict[str, Kind] = {
    "int16": _kind("h", -(2**15)),
    "int32": _kind("i", -(2**31)),
    "int64": _kind("q", -(2**63)),
    "uint16": _kind("H", 2**16 - 1),
    "uint32": _kind("I", 2**32 - 1),
    "uint64": _kind("Q", 2**64 - 1),
    "count": _kind("H", 2**16 - 1),
    "enum16": _kind("H", 2**16 - 1),
    "enum32": _kind("I", 2**32 - 1),
    "bitfield16": _kind("H", 2**16 - 1),
    "bitfield32": _kind("I", 2**32 - 1),
    "bitfield64": _kind("Q", 2**64 - 1),
    "acc16": _kind("H", 0, is_accumulator=True),
    "acc32": _kind("I", 0, is_accumulator=True),
    "acc64": _kind("Q", 0, is_accumulator=True),
    "float32": _kind("f", None),
    "float64": _kind("d", None),
}
SCALE = _kind("h", NO_EXPONENT)
SYMBOLIC = ("enum16", "enum32", "bitfield16", "bitfield32", "bitfield64")
BITS = ("bitfield16", "bitfield32", "bitfield64")


def scaled(raw: float, exponent: int) -> float:
    """raw x 10^exponent, rounded once: a power of ten below one has no exact float of its own."""
    return raw * 10.0**exponent if exponent >= 0 else raw / 10.0**-exponent


def unscaled(value: float, exponent: int) -> float:
    """What `scaled` makes of it is `value`; not rounded to a count."""
    return value / 10.0**exponent if exponent >= 0 else value * 10.0**-exponent


class Rollover:
    """An accumulator that goes on where its registers start again at 0.

    A count that falls back is a rollover where it then stands within a sixteenth of its span behind the last
    one; otherwise the device has reset it, and it is told as the device tells it.
    """

    __slots__ = ("_carried", "_last")

    def __init__(self) -> None:
        self._carried = 0
        self._last: int | None = None

    def seen(self, raw: int, span: int) -> int:
        """The count with all rollovers since the first one."""
        if self._last is not None and raw < self._last:
            self._carried = self._carried + span if (raw - self._last) % span <= span // 16 else 0
        self._last = raw
        return self._carried + raw
