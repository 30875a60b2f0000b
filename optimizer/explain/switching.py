"""What a run of a genset would look like under a change: problems in which few integers are free.

A limit of commitment (maintenance, quiet hours, a minimum time, starts in a day) is a reason if, once it is
lifted, the unit it belongs to would be switched otherwise. So that unit's commitment is free, of the run in
question or, where the limit is another unit's, in all whole steps; everything else is switched as planned.
What is said is a saving "of at least": a plan that makes it was found. That the same freedom saves less
without the change is proven by the bound of that problem.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from ems.timegrid import IntArray
from optimizer.compiled import Filled
from optimizer.explain.bench import Bench, solve_whole
from optimizer.explain.ground import Ground
from optimizer.explain.sayings import SMALL_COST
from optimizer.solve import Effort

EFFORT = Effort(gap_ratio=1e-6, gap_abs=0.2 * SMALL_COST, time_limit_s=None, node_limit=300)
# As planned unless they are asked about.
HELD = ("on", "feeder_open", "device_on", "importing", "charging", "piece_full")


@dataclass(frozen=True, slots=True)
class Saving:
    """Of switching otherwise: found, and at most."""

    found: float
    most: float


Ask = Callable[[Bench], Saving]
NOTHING = Saving(0.0, 0.0)
NO_COLUMNS: IntArray = np.zeros(0, dtype=np.int64)


class Switching:
    """Asks what a unit that is free would do."""

    def __init__(self, ground: Ground) -> None:
        self._ground, self.solves = ground, 0
        self._unchanged: dict[tuple[object, ...], Saving] = {}

    def own(self, unit: int, first: int, last: int, bench: Bench) -> float:
        """Saving found with the unit free from step `first` to `last`; 0 unless the change is the reason."""
        steps = range(first, last + 1)

        def ask(b: Bench) -> Saving:
            return self._saving(b, self._on(b, unit, steps), NO_COLUMNS)

        return self._beyond(("own", unit, first, last), ask, bench)

    def other(self, unit: int, run: tuple[int, int, int], bench: Bench) -> float:
        """The same of leaving a run (unit, first, last) off, with another unit free throughout."""
        whole = np.flatnonzero(self._ground.layout.problem.integral).tolist()

        def ask(b: Bench) -> Saving:
            off = self._on(b, run[0], range(run[1], run[2] + 1))
            return self._saving(b, self._on(b, unit, whole), off)

        return self._beyond(("other", unit, *run), ask, bench)

    def _beyond(self, key: tuple[object, ...], ask: Ask, bench: Bench) -> float:
        saving = ask(bench)
        if saving.found <= SMALL_COST:
            return 0.0
        if key not in self._unchanged:
            self._unchanged[key] = ask(self._ground.bench)
        return saving.found if saving.found > self._unchanged[key].most + SMALL_COST else 0.0

    def _on(self, bench: Bench, unit: int, steps: Iterable[int]) -> IntArray:
        block = bench.compiled.form.columns["on"].reshape(bench.compiled.shapes["on"])
        return block[unit, list(steps)].astype(np.int64)

    def _saving(self, bench: Bench, free: IntArray, off: IntArray) -> Saving:
        """Of the best with `free` and with `off` at 0, against the best as planned, or with `free` alone."""
        leave = self._posed(bench, free, off)
        relaxed = bench.with_bounds(leave.low, leave.high)
        if relaxed is None or relaxed.objective > bench.base.objective - SMALL_COST:
            return NOTHING
        found, bound = self._solved(bench, leave)
        if not len(off):
            return Saving(bench.base.objective - found, bench.base.objective - bound)
        kept, least = self._solved(bench, self._posed(bench, free, NO_COLUMNS), off)
        return Saving(least - found, kept - bound)

    def _posed(self, bench: Bench, free: IntArray, off: IntArray) -> Filled:
        c, f = bench.compiled, bench.filled
        low, high = bench.low.copy(), bench.high.copy()
        for name, at in c.form.columns.items():
            if name not in HELD:
                low[at], high[at] = f.low[at], f.high[at]
        low[free], high[free] = f.low[free], f.high[free]
        low[off] = high[off] = 0.0
        return replace(f, low=low, high=high)

    def _solved(self, bench: Bench, posed: Filled, on: IntArray = NO_COLUMNS) -> tuple[float, float]:
        """Cost found, infinite where there is none, and the proven bound."""
        self.solves += 1
        posed.low[on] = posed.high[on] = 1.0
        start = np.full(len(posed.cost), np.nan)
        whole = np.flatnonzero(posed.integer)
        start[whole] = np.clip(np.round(bench.base.x[whole]), posed.low[whole], posed.high[whole])
        point, bound = solve_whole(bench.compiled, posed, EFFORT, None, start)
        found = np.inf if point is None else point.objective
        return found, np.inf if bound is None else min(bound, found)
