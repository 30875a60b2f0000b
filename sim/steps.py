"""How often the edge cycles in a run: fast where something happens, slow where nothing does."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from ems.site import GridMode
from sim.scenario import Scenario
from sim.timeline import Window

EPSILON_S = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Cycle length while the time since a change of the mains is in [from_s, to_s); before it is negative."""

    from_s: float
    to_s: float
    step_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """Cycle lengths of a run.

    Parameters
    ----------
    step_s : when nothing happens, on the clock's multiples [s].
    island_step_s : longest cycle while not grid-tied [s].
    busy_step_s : longest cycle while a genset starts, loads or unloads, and for `rest_s` after it [s].
    settle_s : extra cycles so long after each change of the truth: they stand for the real loop, which sees
        the new load a second later. Only where the step is longer.
    truth_s : the truth changes on the clock's multiples of it; None: of `step_s` [s].
    phases : around each change of the mains.
    """

    step_s: float = 900.0
    island_step_s: float = 60.0
    busy_step_s: float = 10.0
    rest_s: float = 20.0
    settle_s: tuple[float, ...] = (1.0, 11.0)
    truth_s: float | None = None
    phases: tuple[Phase, ...] = (
        Phase(from_s=-10.0, to_s=30.0, step_s=1.0),
        Phase(from_s=30.0, to_s=600.0, step_s=10.0),
    )


DEMO_STEPS = StepOptions(
    step_s=10.0,
    island_step_s=10.0,
    settle_s=(1.0,),
    truth_s=60.0,
    phases=(Phase(from_s=-60.0, to_s=600.0, step_s=1.0),),
)
SIMULATE_STEPS = StepOptions()


class StepPolicy:
    """Gives the time of the next cycle.

    Parameters
    ----------
    options : cycle lengths.
    mains_edges_s : changes of the mains, ascending [s after the start of the run]. They pace the run; no
        controller ever sees them.
    lead_s : time of day of the start of the run, so that cycles fall on the clock's multiples [s].
    """

    def __init__(self, options: StepOptions, mains_edges_s: Sequence[float], lead_s: float = 0.0) -> None:
        self.options = options
        self._lead_s = lead_s
        borders: list[tuple[float, float, float]] = sorted(
            (edge + p.from_s, edge + p.to_s, p.step_s) for edge in mains_edges_s for p in options.phases
        )
        self._windows = borders
        self._longest_s = max((p.to_s - p.from_s for p in options.phases), default=0.0)
        self._first = 0
        self._rests_s = -math.inf  # until when what was busy last settles
        self._ends = [hi for _, hi in self.windows()]

    @classmethod
    def of(cls, scenario: Scenario, options: StepOptions) -> "StepPolicy":
        """The policy of a scenario."""
        return cls(options, scenario.mains_edges_s(), scenario.start.timestamp() % 86400.0)

    def windows(self) -> tuple[Window, ...]:
        """Windows around changes of the mains, joined where they touch [s after start]."""
        out: list[Window] = []
        for lo, hi, _ in self._windows:
            if out and lo <= out[-1][1] + EPSILON_S:
                out[-1] = (out[-1][0], max(hi, out[-1][1]))
            else:
                out.append((lo, hi))
        return tuple(out)

    def next_s(self, t_s: float, mode: GridMode, busy: bool = False) -> float:
        """When the edge cycles next after `t_s` [s]; times must not run backwards between calls."""
        o = self.options
        step_s = o.step_s if mode is GridMode.GRID_TIED else min(o.step_s, o.island_step_s)
        if busy:
            self._rests_s = t_s + o.rest_s
        if t_s < self._rests_s - EPSILON_S:
            step_s = min(step_s, o.busy_step_s)
        until_s = math.inf
        while self._first < len(self._windows) and self._windows[self._first][0] < t_s - self._longest_s:
            self._first += 1
        for lo, hi, fine_s in self._windows[self._first :]:
            if lo > t_s + EPSILON_S:
                until_s = min(until_s, lo)
                break
            if t_s < hi - EPSILON_S:
                step_s, until_s = min(step_s, fine_s), min(until_s, hi)
        return min(until_s, self._next_multiple(t_s, step_s), self._next_settling(t_s, step_s))

    def period_s(self, t_s: float, mode: GridMode, busy: bool = False) -> float:
        """Length of the cycle that begins at `t_s` [s]."""
        return self.next_s(t_s, mode, busy) - t_s

    def _next_settling(self, t_s: float, step_s: float) -> float:
        """The next extra cycle after the truth has changed: on its multiples, after windows."""
        at_s = t_s + self._lead_s
        truth_s = self.options.step_s if self.options.truth_s is None else self.options.truth_s
        changed = [math.floor(at_s / truth_s + EPSILON_S) * truth_s - self._lead_s]
        ended = bisect_right(self._ends, t_s + EPSILON_S) - 1
        if ended >= 0:
            changed.append(self._ends[ended])
        extras = (c + extra_s for c in changed for extra_s in self.options.settle_s if extra_s < step_s)
        return min((e for e in extras if e > t_s + EPSILON_S), default=math.inf)

    def _next_multiple(self, t_s: float, step_s: float) -> float:
        at_s = t_s + self._lead_s
        return math.floor(at_s / step_s + EPSILON_S) * step_s + step_s - self._lead_s
