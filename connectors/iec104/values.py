"""Values as elements of objects: how many bits, which quality, and back where they may be told. Pure.

Source: IEC 60870-5-101:2003, 7.2.6. A value that does not fit is its nearest count with *overflow* and
*invalid*.
"""

import math
import struct
from dataclasses import dataclass

from connectors.iec104.asdu import Type

OV, NT, IV = 0x01, 0x40, 0x80  # overflow, not topical, invalid
SELECT = 0x80  # of the qualifier of a set-point: select, not execute
OFF, ON, UNKNOWN = 1, 2, 3  # of a double point
_LOW, _HIGH = -(1 << 15), (1 << 15) - 1
_FLOAT, _SHORT, _COUNT = struct.Struct("<f"), struct.Struct("<h"), struct.Struct("<i")
FLOAT_MAX = 3.4028234663852886e38


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of value is shown: without and with its time, and told."""

    plain: Type
    timed: Type
    told: tuple[Type, ...] = ()  # set-point commands, the second with a time


KINDS = {
    "float": Kind(Type.M_ME_NC, Type.M_ME_TF, (Type.C_SE_NC, Type.C_SE_TC)),
    "scaled": Kind(Type.M_ME_NB, Type.M_ME_TE, (Type.C_SE_NB, Type.C_SE_TB)),
    "normalized": Kind(Type.M_ME_NA, Type.M_ME_TD, (Type.C_SE_NA, Type.C_SE_TA)),
    "single_point": Kind(Type.M_SP_NA, Type.M_SP_TB),
    "double_point": Kind(Type.M_DP_NA, Type.M_DP_TB),
    "counter": Kind(Type.M_IT_NA, Type.M_IT_TB),
}


def element(kind: str, raw: float | None, quality: int) -> bytes:
    """One value as counts (`normalized`: 1 is full scale), with its quality; None: there is none."""
    if raw is None or not math.isfinite(raw):
        raw, quality = (math.nan if kind == "double_point" else 0.0), quality | IV
    match kind:
        case "float":
            held = min(max(raw, -FLOAT_MAX), FLOAT_MAX)
            return _FLOAT.pack(held) + bytes((quality | (OV | IV if held != raw else 0),))
        case "scaled" | "normalized":
            count = round(raw * (1 << 15 if kind == "normalized" else 1))
            held = min(max(count, _LOW), _HIGH)
            # Full scale itself is one count beyond what there is room for.
            beyond = held != count and not (kind == "normalized" and count == _HIGH + 1)
            return _SHORT.pack(held) + bytes((quality | (OV | IV if beyond else 0),))
        case "single_point":
            return bytes((bool(raw) | quality & ~OV,))
        case "double_point":
            return bytes(((UNKNOWN if math.isnan(raw) else ON if raw else OFF) | quality & ~OV,))
        case _:
            count = round(raw)
            held = min(max(count, -(1 << 31)), (1 << 31) - 1)
            return _COUNT.pack(held) + bytes((quality & IV | (IV if held != count else 0),))


def told(kind: str, raw: bytes) -> float:
    """The count of a set-point (`normalized`: 1 is full scale), as it is told."""
    if kind == "float":
        return float(_FLOAT.unpack_from(raw)[0])
    count = float(_SHORT.unpack_from(raw)[0])
    return count / (1 << 15) if kind == "normalized" else count
