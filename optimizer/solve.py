"""HiGHS: one persistent session per compiled model, told numbers only. Honest status."""

from dataclasses import dataclass
from typing import Any, cast

import highspy
import numpy as np

from ems.clock import wall_s
from ems.errors import InvariantBroken
from ems.timegrid import FloatArray
from optimizer.compiled import Compiled, Filled
from optimizer.extensive import Extensive

# Points are looked for by RENS and RINS. Root reduced costs take longer to find any, feasibility jump finds
# none that the last plan is not better than (docs/optimizer.md, "Speed").
SUB_MIPS_OFF = (
    ("mip_heuristic_run_root_reduced_cost", False),
    ("mip_heuristic_run_feasibility_jump", False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long to look. The absolute gap ends a solve whose objective is near zero."""

    gap_ratio: float
    gap_abs: float
    time_limit_s: float | None
    node_limit: int | None
    threads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the solver has to say. `x` is None when there is no feasible point."""

    status: str
    optimal: bool  # proven to the requested gap
    x: FloatArray | None
    objective: float | None
    bound: float | None
    gap_ratio: float | None
    solve_s: float
    nodes: int


class Session:
    """One HiGHS for one compiled matrix; each solve pushes its vectors."""

    def __init__(self, compiled: Compiled | Extensive) -> None:
        self._compiled = compiled
        self._highs: Any = cast(Any, highspy.Highs)()  # its stubs lack a method and the constructor's types
        self._highs.setOptionValue("output_flag", False)
        self._set: dict[str, object] = {}  # options as they stand
        self._filled: Filled

    def solve(self, filled: Filled, effort: Effort, start: dict[str, FloatArray] | None = None) -> Outcome:
        """Solve one problem, optionally from a partial start (values by variable name; NaN: unknown)."""
        self.push(filled)
        return self.run(start, effort)

    def run(self, start: dict[str, FloatArray] | None, effort: Effort) -> Outcome:
        """Solve what was pushed."""
        h = self._highs
        before_s = (
            0.0 if self._filled.integer.any() else h.getRunTime()
        )  # a linear program's limit counts all runs
        for option, value in (
            *SUB_MIPS_OFF,
            ("threads", effort.threads),
            ("mip_rel_gap", effort.gap_ratio),
            ("mip_abs_gap", effort.gap_abs),
            (
                "time_limit",
                np.inf if effort.time_limit_s is None else before_s + max(0.01, effort.time_limit_s),
            ),
            ("mip_max_nodes", 2**31 - 1 if effort.node_limit is None else effort.node_limit),
        ):
            if self._set.get(option) != value:
                h.setOptionValue(option, value)
                self._set[option] = value
        if start:
            self._start(start)
        begun = wall_s()
        h.run()
        return self._outcome(wall_s() - begun)

    def push(self, f: Filled) -> None:
        """Everything anew; nothing of the last solve is kept, so that equal input gives an equal plan.

        The matrix goes along because HiGHS takes a whole model in a seventh of the time that it takes to
        change costs, bounds and kinds by column (0.2 and 1.4 ms for 5,956 rows).
        """
        self._filled = f
        form = self._compiled.form
        rows, columns = form.shape
        start, index, value = (form.a_start, form.a_index, form.a_value) if f.matrix is None else f.matrix
        status = self._highs.passModel(
            columns, rows, len(value), 1, 1, f.offset, f.cost, f.low, f.high, f.row_low, f.row_high,
            start, index, value, f.integer.astype(np.int32),
        )  # fmt: skip
        if status == highspy.HighsStatus.kError:
            raise InvariantBroken("the solver refused the matrix of a compiled model")

    def _start(self, start: dict[str, FloatArray]) -> None:
        index, value = [], []
        for name, values in start.items():
            flat = values.ravel()
            known = np.flatnonzero(np.isfinite(flat))
            index.append(self._compiled.form.columns[name][known])
            value.append(flat[known])
        at = np.concatenate(index).astype(np.int32)
        if len(at):
            self._highs.setSolution(len(at), at, np.concatenate(value))

    def _outcome(self, solve_s: float) -> Outcome:
        h, f = self._highs, self._filled
        status, info = h.getModelStatus(), h.getInfo()
        has_point = info.primal_solution_status == 2  # kSolutionStatusFeasible
        x = np.fromiter(h.getSolution().col_value, np.float64, len(f.cost)) if has_point else None
        whole = bool(f.integer.any())
        objective = float(f.cost @ x + f.offset) if x is not None else None
        bound = float(info.mip_dual_bound) if whole else objective
        finite = bound is not None and np.isfinite(bound)
        gap = None
        if objective is not None and finite and bound is not None:
            gap = max(0.0, objective - bound) / max(abs(objective), 1e-9)
        return Outcome(
            status=h.modelStatusToString(status),
            optimal=status == highspy.HighsModelStatus.kOptimal,
            x=x,
            objective=objective,
            bound=bound if finite else None,
            gap_ratio=gap,
            solve_s=solve_s,
            nodes=max(0, int(info.mip_node_count)) if whole else 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LpOutcome:
    """Solution of a linear program and its dual objective."""

    status: str
    x: FloatArray | None
    dual: float | None


def solve_lp(
    matrix: Any,  # scipy CSC (rows, columns)
    cost: FloatArray,
    low: FloatArray,
    high: FloatArray,
    row_low: FloatArray,
    row_high: FloatArray,
) -> LpOutcome:
    """Solve a large linear program once by interior point, without crossover."""
    h: Any = cast(Any, highspy.Highs)()
    for option, value in (
        ("output_flag", False),
        ("threads", 1),
        ("solver", "ipm"),
        ("run_crossover", "off"),
    ):
        h.setOptionValue(option, value)
    rows, columns = matrix.shape
    h.passModel(
        columns, rows, matrix.nnz, 1, 1, 0.0, cost, low, high, row_low, row_high,
        matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32), matrix.data,
        np.zeros(columns, np.int32),
    )  # fmt: skip
    h.run()
    status = h.getModelStatus()
    if status != highspy.HighsModelStatus.kOptimal:
        return LpOutcome(status=h.modelStatusToString(status), x=None, dual=None)
    solution = h.getSolution()
    reduced, duals = np.asarray(solution.col_dual), np.asarray(solution.row_dual)
    return LpOutcome(
        status=h.modelStatusToString(status),
        x=np.asarray(solution.col_value),
        dual=_supported(reduced, low, high) + _supported(duals, row_low, row_high),
    )


def _supported(dual: FloatArray, low: FloatArray, high: FloatArray) -> float:
    """Part of the dual objective: each multiplier times the bound it leans on (0 where that is infinite)."""
    bound = np.where(dual > 0.0, low, high)
    return float((dual * np.where(np.isfinite(bound), bound, 0.0)).sum())
