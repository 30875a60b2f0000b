"""Outages drawn from a seed: rates and durations like those of weak public grids."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from ems.outage import OutageNotice
from sim.scenario import MainsEvent

GAP = timedelta(minutes=30)  # between two events
DEMO_EVENING = (time(18, 30), timedelta(hours=2.5))


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageModel:
    """How often the mains fail, for how long, and what the utility says beforehand.

    Defaults follow published figures: Kenya 2023-07 to 2024-12, 2.8 to 5.0 interruptions a month lasting 2.0
    to 3.4 h in the mean (EPRA); South Africa 2022 to 2024, area outages of 2.5 h in the evening, at most
    4.5 h, announced a median of 34 h ahead (Eskom load-shedding as archived).
    """

    unannounced_per_month: float = 4.0
    duration_median_h: float = 1.4
    duration_sigma_ratio: float = 0.9  # of the logarithm: mean 2.1 h
    duration_h_min: float = 5.0 / 60.0
    duration_h_max: float = 8.0
    brownout_share: float = 0.15  # of the unannounced: present but too low to be used
    brownout_v_pu: float = 0.75
    announced_share: float = 0.35  # of days that have an announced evening outage
    notice_at: time = time(16, 0)  # local time of the day before

    def words(self) -> str:
        """What was assumed, for the table."""
        return (
            f"{self.unannounced_per_month:g} unannounced a month, median {self.duration_median_h:g} h, "
            f"and one announced on {self.announced_share:.0%} of evenings; drawn from the seed"
        )


Events = tuple[tuple[MainsEvent, ...], tuple[OutageNotice, ...]]


def demo_outages(day: date, timezone: str, seed: int) -> Events:
    """The demo day: one announced evening outage, and one in the daytime that nobody announced."""
    rng = np.random.default_rng([seed, 2])
    evening_s = int(rng.integers(-15, 16)) * 60
    start = _local(day, DEMO_EVENING[0], timezone) + timedelta(seconds=evening_s)
    event, notice = _announced(f"evening-{day}", start, DEMO_EVENING[1], timezone, time(16, 0))
    surprise_start = _local(day, time(9, 0), timezone) + timedelta(seconds=int(rng.integers(0, 5 * 3600)))
    surprise = MainsEvent(
        id=f"unannounced-{day}",
        start=surprise_start,
        end=surprise_start + timedelta(seconds=int(rng.integers(40 * 60, 85 * 60))),
        announced=False,
    )
    return (surprise, event), (notice,)


def drawn_outages(
    first: date,
    days: int,
    timezone: str,
    seed: int,
    model: OutageModel,
    *,
    announced_seed: int | None = None,
) -> Events:
    """Outages of a longer period: announced evenings and a Poisson process of unannounced ones.

    Parameters
    ----------
    first, days : local days.
    seed : of the unannounced ones.
    announced_seed : of the announced ones; None: the same. A study keeps it while `seed` varies.
    """
    events, notices = _evenings(
        first, days, timezone, seed if announced_seed is None else announced_seed, model
    )
    rng = np.random.default_rng([seed, 6])
    begin = _local(first, time(0), timezone)
    end = begin + timedelta(days=days)
    for i in range(int(rng.poisson(model.unannounced_per_month * days / 30.4))):
        event = _unannounced(f"unannounced-{i + 1}", begin, days, rng, model)
        if event.end < end and all(event.end + GAP < e.start or e.end + GAP < event.start for e in events):
            events.append(event)
    return tuple(sorted(events, key=lambda e: e.start)), tuple(notices)


def _evenings(
    first: date, days: int, timezone: str, seed: int, model: OutageModel
) -> tuple[list[MainsEvent], list[OutageNotice]]:
    rng = np.random.default_rng([seed, 3])
    events: list[MainsEvent] = []
    notices: list[OutageNotice] = []
    for n in range(days):
        day = first + timedelta(days=n)
        if rng.random() < model.announced_share:
            start = _local(day, time(17, 30), timezone) + timedelta(minutes=int(rng.integers(0, 7)) * 30)
            length = timedelta(hours=float(rng.choice([2.0, 2.5, 2.5, 4.0])))
            event, notice = _announced(f"evening-{day}", start, length, timezone, model.notice_at)
            events.append(event)
            notices.append(notice)
    return events, notices


def _unannounced(
    name: str, begin: datetime, days: int, rng: np.random.Generator, model: OutageModel
) -> MainsEvent:
    start = begin + timedelta(seconds=int(rng.integers(0, days * 86400)))
    hours = model.duration_median_h * float(np.exp(model.duration_sigma_ratio * rng.standard_normal()))
    hours = min(max(hours, model.duration_h_min), model.duration_h_max)
    low = rng.random() < model.brownout_share
    return MainsEvent(
        id=name,
        start=start,
        end=start + timedelta(seconds=round(hours * 3600.0)),
        announced=False,
        v_pu=model.brownout_v_pu if low else 0.0,
    )


def _announced(
    name: str, start: datetime, length: timedelta, timezone: str, notice_at: time
) -> tuple[MainsEvent, OutageNotice]:
    end = start + length
    day_before = start.astimezone(ZoneInfo(timezone)).date() - timedelta(days=1)
    issued_at = _local(day_before, notice_at, timezone)
    event = MainsEvent(id=name, start=start, end=end, announced=True)
    return event, OutageNotice(id=name, issued_at=issued_at, start=start, end=end)


def _local(day: date, at: time, timezone: str) -> datetime:
    return datetime.combine(day, at, tzinfo=ZoneInfo(timezone)).astimezone(UTC)
