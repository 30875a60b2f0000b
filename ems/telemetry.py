"""Readings and the snapshot a decision is made on. Missing is a state, never a number."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Quality(StrEnum):
    """Why a value may or may not be used."""

    GOOD = "good"
    STALE = "stale"  # older than its own maximum age
    OUT_OF_RANGE = "out_of_range"
    NOT_FINITE = "not_finite"
    COMM_FAILED = "comm_failed"
    DEVICE_BAD = "device_bad"  # the device itself says so
    FROZEN = "frozen"


class UtcState(StrEnum):
    """How far record time may be relied on."""

    VALID = "valid"
    HOLDOVER = "holdover"  # its source is lost: kept by the machine's own oscillator
    INVALID = "invalid"  # set by hand, never set, or lost for too long: nothing is done by the calendar


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Between which times it is, where record time cannot be relied on; None: nobody knows."""

    earliest: datetime | None = None
    latest: datetime | None = None

    def may_be(self, start: datetime, end: datetime) -> bool:
        """Whether it may be a time in [start, end)."""
        over = self.earliest is not None and end <= self.earliest
        to_come = self.latest is not None and start > self.latest
        return not (over or to_come)


UNKNOWN = Doubt()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One value of one point as it arrived. `value` is in the point's unit; None where there is none."""

    point: str
    value: float | None
    quality: Quality
    source_time: datetime  # aware UTC, as the device says, or the time of arrival
    arrived_s: float  # edge's monotonic clock [s]

    @property
    def is_good(self) -> bool:
        """Usable as a number."""
        return self.quality is Quality.GOOD and self.value is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The process image, latched: what one tick sees. Values past their maximum age are already STALE.

    `good` has the values of the good readings, worked out once: a tick asks hundreds of times.

    `at` is record time: for records, and for how long ago something was recorded. What is done because of
    the hour or the date asks `calendar`, which is None while record time cannot be relied on.
    """

    at: datetime
    monotonic_s: float
    readings: Mapping[str, Reading]
    utc: UtcState = UtcState.VALID
    doubt: Doubt = UNKNOWN  # where there is no `calendar`
    relied_at: datetime | None = None  # record time when it could last be relied on; None: never
    good: Mapping[str, float] = field(init=False, repr=False, compare=False)  # by point, in its unit

    def __post_init__(self) -> None:
        fine = Quality.GOOD
        good = {p: v for p, r in self.readings.items() if r.quality is fine and (v := r.value) is not None}
        object.__setattr__(self, "good", good)

    def value(self, point: str) -> float | None:
        """The value if it is good, else None."""
        return self.good.get(point)

    @property
    def calendar(self) -> datetime | None:
        """What time it is, for all that is done by the clock; None: nobody knows."""
        return calendar_of(self.at, self.utc)

    def may_be(self, start: datetime, end: datetime) -> bool:
        """Whether it is a time in [start, end), or may be one, where nobody knows what time it is."""
        now = self.calendar
        return self.doubt.may_be(start, end) if now is None else start <= now < end


def calendar_of(at: datetime, utc: UtcState) -> datetime | None:
    """Record time where it may be relied on, else None."""
    return None if utc is UtcState.INVALID else at
