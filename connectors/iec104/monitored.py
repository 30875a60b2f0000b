"""Objects that a controlled station tells, taken apart, and what their quality says. Pure.

Source: IEC 60870-5-101:2003, 7.2.6 and 7.3.1. Every byte of an ASDU of a known type belongs to an object, or
the ASDU is none.
"""

import struct
from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import NamedTuple

from connectors.iec104.asdu import ADDRESS, Asdu, Type
from connectors.iec104.frames import BadFrame
from connectors.iec104.times import BYTES as TIME
from connectors.iec104.times import time_of
from connectors.iec104.values import IV, NT, OV
from ems.telemetry import Quality

BL, SB = 0x10, 0x20  # blocked, substituted
# type -> (kind, bytes of an element, whether a time follows)
OBJECTS = {
    Type.M_SP_NA: ("single_point", 1, False), Type.M_SP_TB: ("single_point", 1, True),
    Type.M_DP_NA: ("double_point", 1, False), Type.M_DP_TB: ("double_point", 1, True),
    Type.M_ME_NA: ("normalized", 3, False), Type.M_ME_TD: ("normalized", 3, True),
    Type.M_ME_ND: ("normalized", 2, False),
    Type.M_ME_NB: ("scaled", 3, False), Type.M_ME_TE: ("scaled", 3, True),
    Type.M_ME_NC: ("float", 5, False), Type.M_ME_TF: ("float", 5, True),
    Type.M_IT_NA: ("counter", 5, False), Type.M_IT_TB: ("counter", 5, True),
}  # fmt: skip
OF_TYPE: dict[int, tuple[str, int, bool]] = {t.value: o for t, o in OBJECTS.items()}
MEASURED = ("float", "scaled", "normalized")


class Told(NamedTuple):
    """One object as it was told."""

    address: int
    kind: str
    raw: float  # count; `normalized`: 1 is full scale
    quality: int  # bits
    is_timed: bool
    at: datetime | None  # aware UTC; None: no time, or one that is marked invalid


class Judged(NamedTuple):
    """Quality of a value, why it is not good, and whether somebody has put it in by hand."""

    quality: Quality
    reason: str
    is_substituted: bool


def told_by(asdu: Asdu, zone: tzinfo | None) -> Iterator[Told]:
    """The objects of an ASDU; none where its type is not known here.

    Parameters
    ----------
    zone : of its times; None: they are not believed.

    Raises
    ------
    BadFrame : its length is not that of its objects.
    """
    known = OF_TYPE.get(asdu.type)
    if known is None:
        return
    kind, width, is_timed = known
    size = width + (TIME if is_timed else 0)
    length = ADDRESS + asdu.count * size if asdu.sequence else asdu.count * (ADDRESS + size)
    if len(asdu.body) != length or not asdu.count:
        raise BadFrame(f"{asdu.words}: {len(asdu.body)} bytes for {asdu.count} objects; allowed: {length}")
    for i in range(asdu.count):
        if asdu.sequence:
            address, content = asdu.address + i, asdu.body[ADDRESS + i * size : ADDRESS + (i + 1) * size]
        else:
            own = asdu.body[i * (ADDRESS + size) : (i + 1) * (ADDRESS + size)]
            address, content = int.from_bytes(own[:ADDRESS], "little"), own[ADDRESS:]
        at = time_of(content[width:], zone) if is_timed and zone is not None else None
        yield Told(address, kind, *_value(kind, content[:width]), is_timed, at)


def _value(kind: str, content: bytes) -> tuple[float, int]:
    """(count, quality bits)."""
    match kind:
        case "single_point":
            return float(content[0] & 1), content[0] & 0xF0
        case "double_point":
            return float(content[0] & 3), content[0] & 0xF0
        case "counter":
            return float(struct.unpack_from("<i", content)[0]), content[-1] & IV
        case "float":
            return float(struct.unpack_from("<f", content)[0]), content[-1]
        case _:
            count = float(struct.unpack_from("<h", content)[0])
            quality = content[-1] if len(content) > 2 else 0
            return (count / (1 << 15) if kind == "normalized" else count), quality


def judged(kind: str, bits: int) -> Judged:
    """What the quality bits of an object say."""
    by_hand = bool(bits & SB) and kind != "counter"
    if kind in MEASURED and bits & OV:
        return Judged(Quality.OUT_OF_RANGE, "overflow (OV)", by_hand)
    if bits & IV:
        return Judged(Quality.DEVICE_BAD, "invalid (IV)", by_hand)
    if bits & NT:
        return Judged(Quality.STALE, "not topical (NT)", by_hand)
    if bits & BL:
        return Judged(Quality.STALE, "blocked (BL): the value of before", by_hand)
    return Judged(Quality.GOOD, "", by_hand)
