"""Deferrable work: devices whose energy is due by a deadline, not at a time (pumps, chillers, EV depots)."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from ems.tariff import HOLIDAY


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkWindow:
    """Work [kWh] that may be done from `start` on and is due at `end`, both aware."""

    start: datetime
    end: datetime
    energy_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyWork:
    """Work of every day of the given types: from `start_h` to `end_h`, that of the next day if no later."""

    start_h: float  # local hour of day
    end_h: float  # 0 to 24
    weekdays: frozenset[int]  # of the day it starts on; HOLIDAY as in a tariff
    energy_kwh: float

    def on(self, day: date, zone: ZoneInfo, holidays: frozenset[date]) -> WorkWindow | None:
        """The window that starts on a local day, if one does."""
        if (HOLIDAY if day in holidays else day.weekday()) not in self.weekdays:
            return None
        last = day if self.end_h > self.start_h else day + timedelta(days=1)
        return WorkWindow(
            start=_local(day, self.start_h, zone),
            end=_local(last, self.end_h, zone),
            energy_kwh=self.energy_kwh,
        )


def _local(day: date, hour: float, zone: ZoneInfo) -> datetime:
    """A local hour of a day in UTC; 24 is the next day's midnight.

    Of an hour that the clock repeats, the first. Not in local time: two times of one zone are subtracted by
    the wall clock, an hour off where it changes between; one in a repeated hour equals none of another zone.
    """
    midnight = datetime.combine(day + timedelta(days=int(hour // 24.0)), datetime.min.time())
    return (midnight + timedelta(hours=hour % 24.0)).replace(tzinfo=zone).astimezone(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferrableParams:
    """A device behind a feeder, whose load forecast does not hold it.

    While it runs it draws `p_min_kw` to `p_kw`: an on/off device has both alike, one with `p_min_kw` 0 takes
    any power. What is not done of the work of a window at its end is lost and costs `unfinished_per_kwh`.
    """

    id: str
    feeder: str
    p_kw: float
    p_min_kw: float
    unfinished_per_kwh: float
    daily: tuple[DailyWork, ...] = ()
    dated: tuple[WorkWindow, ...] = ()
    alone_on_feeder: bool = False  # the feeder holds nothing else: its meter is the device's
    interruptible: bool = True  # False: the work of a window is done in one run
    min_run_s: float = 0.0
    starts_per_window_max: int | None = None

    @property
    def starts_max(self) -> int | None:
        """Starts in one window; None: free."""
        if self.interruptible:
            return self.starts_per_window_max
        return 1 if self.starts_per_window_max is None else min(1, self.starts_per_window_max)

    @property
    def switched(self) -> bool:
        """Whether on and off must be told apart."""
        return self.p_min_kw > 0.0 or self.min_run_s > 0.0 or self.starts_max is not None

    def windows(
        self, begin: datetime, end: datetime, zone: ZoneInfo, holidays: frozenset[date]
    ) -> tuple[WorkWindow, ...]:
        """Windows that overlap [begin, end), by start."""
        first, last = begin.astimezone(zone).date(), end.astimezone(zone).date()
        days = [first + timedelta(days=k) for k in range(-1, (last - first).days + 1)]
        found = [w for d in days for x in self.daily if (w := x.on(d, zone, holidays)) is not None]
        found += self.dated
        inside = [
            w
            for w in found
            if w.start.timestamp() < end.timestamp() and w.end.timestamp() > begin.timestamp()
        ]
        return tuple(sorted(inside, key=lambda w: w.start.timestamp()))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferrableCondition:
    """What is known of a device in its open window."""

    window_start: datetime | None  # of the window that `done_kwh` and `starts` belong to; None: none is open
    done_kwh: float
    on: bool
    age_s: float  # in the present state
    starts: int
