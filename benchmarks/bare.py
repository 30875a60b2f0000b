"""HiGHS by itself on a matrix, and the textbook formulation of the planner's own problem.

The textbook form says minimum times pair by pair, u_t - u_(t-1) <= u_k and u_(t-1) - u_t <= 1 - u_k for every
later step k within them, has one binary per unit and step and one for the direction of the battery in every
step, tells identical units apart and does not order them. All else is the planner's.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import highspy
import numpy as np

from optimizer.algebra import Expr, Model, StandardForm
from optimizer.build import build
from optimizer.compiled import Compiled, Filled
from optimizer.formulation import Exclusivity, Formulation, Shedding
from optimizer.formulations.windows import EPS_H
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure, structure_of

DEFAULTS: dict[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bare:
    """What HiGHS found, and its CPU time."""

    cpu_s: float
    objective: float
    bound: float
    reached: bool  # the gap asked for, before the time limit

    @property
    def gap_ratio(self) -> float:
        """Relative gap; infinite without a point."""
        if not np.isfinite(self.objective):
            return np.inf
        return max(0.0, self.objective - self.bound) / max(abs(self.objective), 1e-9)


def loaded(form: StandardForm, f: Filled, options: dict[str, Any]) -> Any:
    """A fresh HiGHS that holds the matrix and these numbers."""
    h: Any = highspy.Highs()
    for option, value in ({"output_flag": False, "threads": 1} | options).items():
        h.setOptionValue(option, value)
    rows, columns = form.shape
    h.passModel(
        columns, rows, len(form.a_value), 1, 1, f.offset, f.cost, f.low, f.high, f.row_low, f.row_high,
        form.a_start, form.a_index, form.a_value, f.integer.astype(np.int32),
    )  # fmt: skip
    return h


def solve(
    form: StandardForm, f: Filled, gap_ratio: float, limit_s: float, options: dict[str, Any] = DEFAULTS
) -> Bare:
    """Solve to a gap; only the run itself is timed."""
    h = loaded(form, f, {"mip_rel_gap": gap_ratio, "mip_abs_gap": 0.0, "time_limit": limit_s} | options)
    begun = time.process_time()
    h.run()
    cpu_s = time.process_time() - begun
    info = h.getInfo()
    found = info.primal_solution_status == 2
    return Bare(
        cpu_s=cpu_s,
        objective=float(info.objective_function_value) if found else np.inf,
        bound=float(info.mip_dual_bound),
        reached=h.getModelStatus() == highspy.HighsModelStatus.kOptimal,
    )


class Textbook(Model):
    """The planner's families with minimum times pair by pair."""

    def rows(self, name: str, shape: tuple[int, ...], rule: Callable[..., Expr]) -> None:
        """All rows but those of minimum times."""
        if name not in ("min_up", "min_down"):
            super().rows(name, shape, rule)


class TextbookCompiled(Compiled):
    """A compiled model of the textbook form."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        model = build(structure, Textbook)
        add_pairs(model, structure)
        self.finish(model)


def add_pairs(m: Model, s: Structure) -> None:
    """Minimum up and down times, one row for each pair of steps."""
    on, before = m["on"], m["on_before"]
    for g, unit in enumerate(s.site.gensets):
        for least_s, up in ((unit.min_up_s, True), (unit.min_down_s, False)):
            within = [
                (t, k)
                for t in range(s.steps)
                for k in range(t + 1, s.steps)
                if s.start_h[k] - s.start_h[t] < least_s / 3600.0 - EPS_H
            ]

            def pair(i: int, g: int = g, up: bool = up, within: list[tuple[int, int]] = within) -> Expr:
                t, k = within[i]
                moved = on[g, t] - (on[g, t - 1] if t else before[g])
                return moved <= on[g, k] if up else -1.0 * moved <= 1 - on[g, k]

            m.rows(f"pair_{g}_{up}", (len(within),), pair)


def textbook(p: PlanningProblem) -> tuple[TextbookCompiled, Filled]:
    """The textbook form of a problem."""
    form = Formulation(exclusivity=Exclusivity.BINARY, shedding=Shedding.MEAN, symmetry=False)
    compiled = TextbookCompiled(structure_of(p.site, p.grid, form))
    everywhere = replace(p, exclusive=np.ones(p.steps, dtype=np.bool_))
    return compiled, compiled.fill(compiled.numbers(everywhere))
