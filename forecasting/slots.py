"""History on quarter-hour slots, counted from 1970-01-01T00:00Z, and the local calendar over them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from ems.errors import DataError
from ems.series import UniformSeries, lattice_means
from ems.timegrid import FloatArray, IntArray, TimeGrid

SLOT_S = 900
SLOTS_PER_HOUR = 4
SLOTS_PER_DAY = 96
_LONGEST_STEP_S = 3600.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WEEKDAY_OF_EPOCH = 3  # 1970-01-01 was a Thursday


def epoch_s(when: datetime) -> float:
    """Seconds since the epoch of an aware time [s]; exact to the microsecond."""
    return (when - _EPOCH).total_seconds()


def slot_of(when: datetime) -> int:
    """Number of the slot that holds an aware time."""
    return int(epoch_s(when) // SLOT_S)


def slot_start(slot: int) -> datetime:
    """Aware UTC start of a slot."""
    return _EPOCH + timedelta(seconds=slot * SLOT_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSeries:
    """Means per slot; NaN marks missing. Remembers the intervals it was made from, for `cut`."""

    first: int
    values: FloatArray
    source_start_s: float
    source_step_s: float

    @property
    def end(self) -> int:
        """One past the last slot."""
        return self.first + len(self.values)

    def cut(self, issued_at: datetime) -> int:
        """First slot that was not fully known at `issued_at`: every source interval before it had ended."""
        ended = (epoch_s(issued_at) - self.source_start_s) // self.source_step_s
        known_s = self.source_start_s + ended * self.source_step_s
        return min(self.end, int(known_s // SLOT_S))

    def window(self, lo: int, hi: int) -> FloatArray:
        """(hi - lo,) slots [lo, hi), NaN where there is nothing."""
        out = np.full(max(0, hi - lo), np.nan)
        a, b = max(lo, self.first), min(hi, self.end)
        if a < b:
            out[a - lo : b - lo] = self.values[a - self.first : b - self.first]
        return out


def to_slots(name: str, series: UniformSeries) -> SlotSeries:
    """Mean of each slot that is at least half covered by finite values.

    Raises
    ------
    DataError : the series starts at a naive time, or its step is not in (0, 1 h].
    """
    if series.start.tzinfo is None:
        raise DataError(f"{name}: starts at {series.start} without a time zone")
    if not 0.0 < series.step_s <= _LONGEST_STEP_S:
        raise DataError(f"{name}: step of {series.step_s} s; allowed: above 0, at most {_LONGEST_STEP_S:g} s")
    start_s = epoch_s(series.start)
    raw = np.asarray(series.values, dtype=float)
    first = int(start_s // SLOT_S)
    aligned = start_s % SLOT_S == 0.0 and series.step_s == SLOT_S
    values = np.where(np.isfinite(raw), raw, np.nan) if aligned else lattice_means(series, SLOT_S)[1]
    return SlotSeries(first=first, values=values, source_start_s=start_s, source_step_s=series.step_s)


def slot_range(grid: TimeGrid) -> tuple[int, int]:
    """Slots [lo, hi) that cover a time grid."""
    return slot_of(grid.start), int(-(-epoch_s(grid.end) // SLOT_S))


def onto_grid(values: FloatArray, lo: int, grid: TimeGrid) -> FloatArray:
    """(T,) means over the steps of `grid` from slot means that start at slot `lo`."""
    edges = (epoch_s(grid.start) - lo * SLOT_S + grid.offset_s) / SLOT_S
    energy = np.concatenate([[0.0], np.cumsum(values)])
    out: FloatArray = np.diff(np.interp(edges, np.arange(len(energy)), energy)) / np.diff(edges)
    return out


class LocalCalendar:
    """Local day, slot of day and day type of UTC slots; knows daylight saving."""

    def __init__(self, timezone: str) -> None:
        self._zone = ZoneInfo(timezone)
        self._days: dict[int, IntArray] = {}

    def local(self, lo: int, hi: int) -> IntArray:
        """(hi - lo,) slots as a wall clock would count them."""
        days = range(lo // SLOTS_PER_DAY, (hi - 1) // SLOTS_PER_DAY + 1)
        offset = np.concatenate([self._offsets(d) for d in days])
        skip = lo - days[0] * SLOTS_PER_DAY
        out: IntArray = np.arange(lo, hi) + offset[skip : skip + hi - lo]
        return out

    def _offsets(self, utc_day: int) -> IntArray:
        """(96,) offset of the local clock in slots; asked once per UTC day."""
        if utc_day not in self._days:
            first = utc_day * SLOTS_PER_DAY
            ends = self._offset(first), self._offset(first + SLOTS_PER_DAY - 1)
            if ends[0] == ends[1]:
                self._days[utc_day] = np.full(SLOTS_PER_DAY, ends[0], dtype=np.int64)
            else:
                self._days[utc_day] = np.array([self._offset(first + i) for i in range(SLOTS_PER_DAY)])
        return self._days[utc_day]

    def _offset(self, slot: int) -> int:
        offset = slot_start(slot).astimezone(self._zone).utcoffset()
        assert offset is not None
        return int(offset.total_seconds() // SLOT_S)


def day_types(local_day: IntArray) -> IntArray:
    """Day type of local day numbers: 0 Monday to Friday, 1 Saturday, 2 Sunday."""
    weekday = (local_day + _WEEKDAY_OF_EPOCH) % 7
    out: IntArray = np.where(weekday < 5, 0, weekday - 4)
    return out


DAY_TYPE_NAMES = ("weekday", "saturday", "sunday")
