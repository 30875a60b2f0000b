"""When cycles begin: on a grid of monotonic time, each slot at most once; what is missed is never made up.

A cycle that is still working when the next one is due makes that one start late, in its own slot; slots that
went by whole are skipped and counted. So decisions never pile up behind a slow machine, and lateness does not
add up.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from ems.records import JsonValue

SAME_S = 1e-6  # two times closer than this are one
KEPT = 1000  # cycles behind the figures of lateness and length


@dataclass(slots=True, kw_only=True)
class Pace:
    """The grid of one edge, and how well it is kept.

    `due_s` is when the present cycle was due [s edge monotonic].
    """

    due_s: float
    cycles: int = 0
    overruns: int = 0  # cycles that were still working when the next one was due
    missed: int = 0  # slots without any cycle
    late_s: deque[float] = field(
        default_factory=lambda: deque(maxlen=KEPT)
    )  # begin of each cycle after its due
    took_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))  # length of each cycle's work
    _ended_late: bool = False

    def begin(self, now_s: float, dt_s: float) -> bool:
        """A cycle of `dt_s` begins at `now_s` [s]; True when the grid was overrun since the cycle before."""
        if abs(now_s - self.due_s) <= SAME_S:
            self.due_s = now_s
        missed = max(0, math.floor((now_s - self.due_s) / dt_s))
        self.due_s += missed * dt_s
        self.missed += missed
        self.cycles += 1
        self.late_s.append(max(0.0, now_s - self.due_s))
        overrun = self._ended_late or missed > 0
        self._ended_late = False
        return overrun

    def end(self, began_s: float, now_s: float, dt_s: float) -> float:
        """The cycle's work is over; gives when the next one is due [s]."""
        self.took_s.append(now_s - began_s)
        self.due_s += dt_s
        self._ended_late = now_s > self.due_s + SAME_S
        self.overruns += self._ended_late
        return self.due_s


def figures(pace: Pace) -> dict[str, JsonValue]:
    """How well the grid is kept, for the status row; the shares are of the last `KEPT` cycles."""
    return {
        "cycles": pace.cycles,
        "cycles_overrun": pace.overruns,
        "cycles_missed": pace.missed,
        "cycle_late_s_p99": share(pace.late_s, 0.99),
        "cycle_late_s_max": share(pace.late_s, 1.0),
        "cycle_took_s_p99": share(pace.took_s, 0.99),
    }


def share(values: deque[float], ratio: float) -> float:
    """The value below which `ratio` of `values` lie; 0 of none, the highest at 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(ratio * len(ordered)))] if ordered else 0.0
