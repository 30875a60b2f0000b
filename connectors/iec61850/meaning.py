"""What was read or told of a data object means for its point. Pure."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from open61850 import data as iec
from open61850.mms.pdu import ObjectName

from connectors.iec61850.mms import refusal
from connectors.iec61850.places import Place, Spot
from connectors.iec61850.values import EPOCH, AccessFault, quality_of, raw_of, stamp_of
from connectors.link import PointValue
from connectors.point_map import PointCodec
from connectors.raw_types import Raw
from ems.telemetry import Quality

DOUBLE: dict[Raw | None, bool] = {1: False, 2: True}  # the others are on the way, and broken
Results = Mapping[ObjectName, iec.IECData | AccessFault | str]  # a text: why a whole request was refused


class Meant(NamedTuple):
    """A value, and what the device said beside it."""

    value: PointValue
    why: str = ""  # it is not good
    doubt: str = ""  # why its time is not believed
    is_substituted: bool = False  # put in by hand at the device
    told_at: datetime | None = None  # its time, believed or not


def meaning(codec: PointCodec, place: Place, results: Results) -> Meant:
    """Value, quality and time of a point in what was read or told."""
    for spot in (place.value, place.quality, place.time):
        told_so = None if spot is None else results.get(spot.held, "not told")
        if isinstance(told_so, AccessFault | str):
            why = told_so if isinstance(told_so, str) else refusal(told_so.code)
            return _refused(f"{place.read}: {why}")
    source, doubt, told_at = None, "", None
    if place.time is not None:
        time = down(results, place.time)
        stamp = None if time is None else stamp_of(time)
        if stamp is None or not isinstance(time, iec.TimestampData):
            return _refused(f"{place.read}: t is no time")
        source, doubt, told_at = stamp.at, stamp.doubt, time.value if time.value > EPOCH else None
    substituted = False
    if place.quality is not None:
        quality = down(results, place.quality)
        told = None if quality is None else quality_of(quality)
        if told is None:
            return _refused(f"{place.read}: q is no quality", doubt)
        substituted = told.is_substituted
        if told.quality is not Quality.GOOD:
            raw = None if told.quality is Quality.DEVICE_BAD else raw_in(codec, place, results)
            meant = None if raw is None else codec.from_raw(raw).value
            return Meant(PointValue(meant, told.quality, source), told.reason, doubt, substituted, told_at)
    raw = raw_in(codec, place, results)
    if raw is None:
        wanted = "position, off or on" if place.is_double else codec.raw.name
        return _refused(f"{place.read}: no {wanted}, as there should be", doubt, substituted)
    if isinstance(raw, float) and not math.isfinite(raw):
        bad = PointValue(None, Quality.NOT_FINITE, source)
        return Meant(bad, "not a finite number", doubt, substituted, told_at)
    return Meant(PointValue(*codec.from_raw(raw), source), "", doubt, substituted, told_at)


def raw_in(codec: PointCodec, place: Place, results: Results) -> Raw | None:
    """The raw value of a point in what was read; None where it is none of its type."""
    value = down(results, place.value)
    if value is None:
        return None
    if place.is_double:
        return DOUBLE.get(raw_of(value, "Dbpos"))
    raw = raw_of(value, codec.raw.name)
    if isinstance(raw, int) and not codec.raw.raw_min <= raw <= codec.raw.raw_max:
        return None
    return raw


def down(results: Results, spot: Spot) -> iec.IECData | None:
    """What is at a spot; None where something on the way is not built as it was."""
    held = results.get(spot.held)
    for index, count in spot.way:
        if not isinstance(held, iec.StructureData) or len(held.members) != count:
            return None
        held = held.members[index]
    return held if isinstance(held, iec.DATA_TYPES) else None


def _refused(why: str, doubt: str = "", is_substituted: bool = False) -> Meant:
    return Meant(PointValue(None, Quality.DEVICE_BAD, None), why, doubt, is_substituted)
