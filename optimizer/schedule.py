"""What the calendar asks of gensets: quiet hours, and maintenance windows in which they must not run."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from ems.assets import QuietHours
from ems.site import Maintenance
from ems.timegrid import TimeGrid

SAMPLE_S = 300.0


def quiet_cost(windows: Sequence[QuietHours], grid: TimeGrid, zone: ZoneInfo) -> tuple[float, ...]:
    """(T,) cost of running through each step [money]; () without windows. Sampled every 5 min or finer."""
    if not windows:
        return ()
    out = []
    for start, step_s in zip(grid.starts(), grid.step_s, strict=True):
        n = max(1, round(step_s / SAMPLE_S))
        when = [start + timedelta(seconds=(k + 0.5) * step_s / n) for k in range(n)]
        rate = [
            max((w.cost_per_h for w in windows if w.holds(x.astimezone(zone))), default=0.0) for x in when
        ]
        out.append(float(np.mean(rate)) * step_s / 3600.0)
    return tuple(out)


def blocked_steps(asset: str, windows: Sequence[Maintenance], grid: TimeGrid) -> tuple[bool, ...]:
    """(T,) steps that a maintenance window of the asset overlaps; () where there is none."""
    mine = [w for w in windows if w.asset == asset and w.end > grid.start and w.start < grid.end]
    if not mine:
        return ()
    starts = grid.starts()
    ends = [*starts[1:], grid.end]
    return tuple(
        any(w.start < end and w.end > start for w in mine) for start, end in zip(starts, ends, strict=True)
    )


def hours_to_midnight(start: datetime, zone: ZoneInfo) -> float:
    """From an aware time to the end of its local day [h]; 23 to 25 h on the days the clocks change."""
    local = start.astimezone(zone)
    midnight = datetime.combine(local.date() + timedelta(days=1), datetime.min.time(), zone)
    return (midnight.timestamp() - start.timestamp()) / 3600.0
