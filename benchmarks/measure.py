"""Stop-watches in CPU seconds: HiGHS by itself inside any call, and the phases of one planning cycle."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import highspy
import numpy as np

from benchmarks.bare import loaded
from ems.condition import PlantCondition
from ems.forecast import Forecast
from ems.site import Site
from optimizer import Planner, PlannerOptions
from optimizer.compiled import Compiled, Filled
from optimizer.extract import Identity, extract
from optimizer.intake import planning_problem
from optimizer.rolling import warm_start
from optimizer.validate import validate

LIMIT_S = 60.0
WHO = Identity(seq=0, valid_h=6.0)
UPDATE, TRANSFER, EXTRACT = ("numbers", "fill"), ("push",), ("take over",)
PUBLISH = ("publish",)  # a plan made of the point, with what covers each step and why
Plant = tuple[Site, PlantCondition, Forecast]
OVERHEAD = (*UPDATE, *TRANSFER, *EXTRACT, *PUBLISH)
OUTSIDE = ("intake", "replay")  # checks before and after, which other tools do not make
FLOOR = ("floor in", "floor out")


@dataclass
class RunClock:
    """CPU seconds spent in `Highs.run` of this process."""

    run_s: float = 0.0


@contextmanager
def highs_clock() -> Iterator[RunClock]:
    """Count the CPU time of HiGHS' runs while the block lasts."""
    clock, plain = RunClock(), highspy.Highs.run

    def timed(self: Any, *args: Any) -> Any:
        begun = time.process_time()
        try:
            return plain(self, *args)
        finally:
            clock.run_s += time.process_time() - begun

    highspy.Highs.run = timed
    try:
        yield clock
    finally:
        highspy.Highs.run = plain


@dataclass
class Phases:
    """CPU seconds by phase of a cycle, one entry for each cycle."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Add the CPU time of a block to a phase."""
        begun = time.process_time()
        yield
        self.seconds.setdefault(name, []).append(time.process_time() - begun)

    def drop_first(self) -> None:
        """Forget the first cycle."""
        for x in self.seconds.values():
            del x[0]

    def ms(self, *names: str) -> float:
        """Sum of the medians of phases [ms]."""
        return sum(1e3 * float(np.median(self.seconds[n])) for n in names)


class Floor:
    """The least a layer costs: the same numbers, as whole vectors, into a HiGHS that is kept, and its point.

    Nothing is worked out of a condition and a forecast here, and no plan is made of the point.
    """

    def __init__(self) -> None:
        self._highs: Any = None

    def cycle(self, compiled: Compiled, f: Filled, limit_s: float, phases: Phases) -> None:
        """One cycle after a solve of the same problem, which has pushed everything out of the caches."""
        rows, columns = compiled.form.shape
        if self._highs is None:
            self._highs = loaded(compiled.form, f, {"mip_rel_gap": 0.01, "time_limit": limit_s})
        h, every, each = self._highs, np.arange(columns, dtype=np.int32), np.arange(rows, dtype=np.int32)
        with phases.of("floor in"):
            h.changeColsCost(columns, every, f.cost)
            h.changeColsBounds(columns, every, f.low, f.high)
            h.changeRowsBounds(rows, each, f.row_low, f.row_high)
            h.changeObjectiveOffset(f.offset)
        h.run()
        with phases.of("floor out"):
            np.array(h.getSolution().col_value)


def cycle(
    planner: Planner, options: PlannerOptions, plant: Plant, phases: Phases, floor: Floor | None = None
) -> tuple[int, int, int]:
    """One plan by hand, phase by phase, and the floor beside it; rows, columns, integers of its matrix."""
    with phases.of("intake"):
        p = planning_problem(*plant, options)
    compiled, session = planner.solver(p.grid, planner.formulation(p))
    with phases.of("numbers"):
        n = compiled.numbers(p)
    with phases.of("fill"):
        filled = compiled.fill(n)
        warm_start(compiled.structure, p, n, None)
    with phases.of("push"):
        session.push(filled)
    with highs_clock() as clock:
        begun = time.process_time()
        outcome = session.run(None, planner.effort(p))
        whole_s = time.process_time() - begun
    phases.seconds.setdefault("solve", []).append(clock.run_s)
    phases.seconds.setdefault("take over", []).append(whole_s - clock.run_s)
    with phases.of("publish"):
        plan, slack = extract(compiled, p, n, outcome, WHO)
    with phases.of("replay"):
        validate(plan, p, slack.surplus_kw - slack.aux_short_kw)
    if floor is not None:
        floor.cycle(compiled, filled, LIMIT_S, phases)
    return (*compiled.form.shape, int(filled.integer.sum()))


def timed(f: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of a call, and of HiGHS in it."""
    with highs_clock() as clock:
        begun = time.process_time()
        f()
        return time.process_time() - begun, clock.run_s


def spread(x: Sequence[float], digits: int = 2) -> str:
    """Median [lowest..highest]."""
    return f"{np.median(x):.{digits}f} [{np.min(x):.{digits}f}..{np.max(x):.{digits}f}]"
