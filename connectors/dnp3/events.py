"""Events of an outstation: what each means, and which are handed to whoever stores them, in its order.

An event that was not confirmed is told again. One with a time is known by it when it comes again, whenever
that is; those without are known for as long as this program runs, as the first that are not confirmed.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from connectors.dnp3.objects import Told, all_of
from connectors.dnp3.quality import judged
from connectors.point_map import PointCodec
from connectors.raw_types import Kind, Raw
from connectors.recorded import Collector, Receipt, Recorded
from ems.clock import wall_s
from ems.dnp3 import ANALOG_EVENTS, TIMED_EVENTS, Place
from ems.telemetry import Quality

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIME_MS_MAX = 253_402_300_799_999  # the end of the year 9999
EXACT = 2**24  # an f32 holds every whole number up to here
AGAIN_S = 10.0  # after the historian took no more [s wall]


def timed_events(codecs: Sequence[PointCodec], places: Mapping[str, Place]) -> bytes:
    """Headers that ask for the events of these points with their times, before the classes are read.

    Analogs are told as integers (v3) where all of them are that in the map, else as the longest float.
    """
    types: dict[int, set[str]] = {}
    for codec in codecs:
        types.setdefault(places[codec.point.point].group, set()).add(codec.raw.name)
    out = b""
    for group, names in sorted(types.items()):
        if group in ANALOG_EVENTS:
            variation = 8 if "f64" in names else 7 if "f32" in names else 3
            out += all_of(ANALOG_EVENTS[group], variation)
        else:
            out += all_of(*TIMED_EVENTS[group])
    return out


class Meaning(NamedTuple):
    """What one object says of its point. `value` is in the unit of the point."""

    value: float | None
    quality: Quality
    reason: str  # why it is not good; "" also where it is out of its range
    is_forced: bool


def meaning(codec: PointCodec, group: int, raw: Raw, flags: int | None) -> Meaning:
    """Of an object of this static group."""
    quality, reason, is_forced = judged(group, flags)
    wrong = unlike(codec, raw)
    if quality is Quality.DEVICE_BAD or wrong:
        return Meaning(None, Quality.DEVICE_BAD, reason or wrong, is_forced)
    if isinstance(raw, float) and not math.isfinite(raw):
        return Meaning(None, Quality.NOT_FINITE, "not a finite number", is_forced)
    converted = codec.from_raw(int(raw) if codec.raw.kind is Kind.INTEGER else raw)
    return Meaning(
        converted.value, converted.quality if quality is Quality.GOOD else quality, reason, is_forced
    )


class EventLog:
    """Hands events over, each once as far as it can be known here.

    Parameters
    ----------
    codecs, places : points of the map, and where each is.
    """

    def __init__(self, codecs: Sequence[PointCodec], places: Mapping[str, Place]) -> None:
        self._codecs: dict[tuple[int, int], list[PointCodec]] = {}
        for codec in codecs:
            place = places[codec.point.point]
            self._codecs.setdefault((place.group, place.index), []).append(codec)
        self._receipt = Receipt(is_stored=True)  # of the last events
        self._refused_s = -math.inf
        self._unconfirmed: list[Told] = []  # that were handed over, and will be told again
        self._repeated = 0  # how many of those have been

    def is_free(self) -> bool:
        """Whether events may be asked for: none waits for the disk, and there was room lately."""
        if self._receipt.is_refused:
            return wall_s() - self._refused_s >= AGAIN_S
        return self._receipt.is_stored

    def keep(self, told: Sequence[Told], is_set: bool, collector: Collector) -> Receipt:
        """Hand the events of one fragment over, in their order.

        Parameters
        ----------
        is_set : the outstation does not say that it needs the time.
        """
        known = self._unconfirmed[self._repeated :]
        same = next((i for i, (a, b) in enumerate(zip(told, known, strict=False)) if a != b), len(known))
        new = told[same:]
        self._repeated += min(same, len(told))
        recorded = [
            Recorded(codec.point.point, meant.value, meant.quality, time_of(one.at_ms), is_set)
            for one in new
            for codec in self._codecs.get((one.group, one.place), ())
            for meant in [meaning(codec, one.group, one.raw, one.flags)]
        ]
        if recorded:
            self._receipt = collector.take(recorded)
        elif self._receipt.is_refused:
            self._receipt = Receipt(is_stored=True)
        if self._receipt.is_refused:
            self._refused_s = wall_s()
        elif new:
            self._unconfirmed = [*self._unconfirmed[: self._repeated], *new]
            self._repeated = len(self._unconfirmed)
        return self._receipt

    def begin(self) -> None:
        """Events are asked for: what was not confirmed comes again."""
        self._repeated = 0

    def confirmed(self) -> None:
        """The device was told that it may forget what was handed over."""
        self._unconfirmed, self._repeated = [], 0


def unlike(codec: PointCodec, raw: Raw) -> str:
    """How what was told differs from the type of the map; "": it does not."""
    kind = codec.raw.kind
    if kind is Kind.INTEGER and isinstance(raw, float) and raw.is_integer() and abs(raw) <= EXACT:
        raw = int(raw)  # an event of a map with floats too
    if isinstance(raw, bool):
        told = "a binary"
    elif isinstance(raw, int):
        told = "an integer"
    else:
        told = "a float"
    wanted = {Kind.BOOLEAN: "a binary", Kind.INTEGER: "an integer", Kind.FLOAT: "a float"}[kind]
    if told != wanted:
        return f"{told} is told, {codec.raw.name} in the map"
    if kind is Kind.INTEGER and not codec.raw.raw_min <= raw <= codec.raw.raw_max:
        return f"{raw} is told, which {codec.raw.name} does not hold"
    return ""


def time_of(told_ms: int | None) -> datetime | None:
    """A time that was told; None where it is none, or was never set."""
    if not told_ms or told_ms > TIME_MS_MAX:
        return None
    return EPOCH + timedelta(milliseconds=told_ms)
