"""What a deferrable device has done of its work: its own feeder's meter since its window opened."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from dispatch.layout import Layout
from ems.condition import PlantCondition
from ems.deferrable import DeferrableCondition, DeferrableParams

ON_RATIO = 0.05  # of its power: less is no running


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkSeen:
    """One device in its open window, as the edge saw it."""

    window_start: datetime | None = None
    window_end: datetime | None = None
    done_kwh: float = 0.0
    on: bool = False
    since_s: float = -1e9  # edge monotonic; of the present state
    starts: int = 0


def follow_work(
    layout: Layout,
    seen: Mapping[str, WorkSeen],
    feeder_kw: Mapping[str, float],
    at: datetime,
    now_s: float,
    elapsed_s: float,
) -> dict[str, WorkSeen]:
    """Add what the feeders of devices that have one for themselves took since the last tick."""
    return {
        d.id: _follow(layout, d, seen.get(d.id, WorkSeen()), feeder_kw[d.feeder], at, now_s, elapsed_s)
        for d in layout.site.deferrables
        if d.alone_on_feeder
    }


def _follow(
    layout: Layout,
    unit: DeferrableParams,
    seen: WorkSeen,
    p_kw: float,
    at: datetime,
    now_s: float,
    elapsed_s: float,
) -> WorkSeen:
    start, end, done, starts = seen.window_start, seen.window_end, seen.done_kwh, seen.starts
    if end is None or not (start is not None and start <= at < end):
        found = unit.windows(at, at + timedelta(seconds=1), layout.zone, layout.site.tariff.holidays)
        now = found[0] if found and found[0].start <= at else None
        same = now is not None and now.start == start
        start, end = (now.start, now.end) if now is not None else (None, None)
        if not same:
            done, starts = 0.0, 0
            if start is not None:  # what was drawn before the window opened is no work of it
                elapsed_s = min(elapsed_s, (at - start).total_seconds())
    on = p_kw > ON_RATIO * unit.p_kw
    if start is not None:
        done += p_kw * elapsed_s / 3600.0
        starts += int(on and not seen.on)
    since_s = seen.since_s if on is seen.on else now_s
    return WorkSeen(window_start=start, window_end=end, done_kwh=done, on=on, since_s=since_s, starts=starts)


def work_condition(
    seen: Mapping[str, WorkSeen], now_s: float, most_s: float
) -> dict[str, DeferrableCondition]:
    """The same for the planner."""
    return {
        d: DeferrableCondition(
            window_start=x.window_start,
            done_kwh=x.done_kwh,
            on=x.on,
            age_s=min(most_s, now_s - x.since_s),
            starts=x.starts,
        )
        for d, x in seen.items()
    }


def work_known(known: PlantCondition, now_s: float) -> dict[str, WorkSeen]:
    """Where a restarted edge goes on from the last condition in the historian."""
    return {
        d: WorkSeen(
            window_start=x.window_start,
            done_kwh=x.done_kwh,
            on=x.on,
            since_s=now_s - x.age_s,
            starts=x.starts,
        )
        for d, x in known.deferrables.items()
    }
