"""A problem on the bench: solved again and again with one thing changed. Rows for setpoints are added.

Linear programs keep their basis, so a changed right-hand side costs some milliseconds. Every solve starts
from the basis of the plan, so that the answer does not depend on what was asked before.
"""

from dataclasses import dataclass
from typing import Any, cast

import highspy
import numpy as np
from scipy.sparse import csc_array, csr_array, vstack

from ems.errors import DataError, InvariantBroken
from ems.timegrid import BoolArray, FloatArray, IntArray
from optimizer.compiled import Compiled, Filled
from optimizer.solve import SUB_MIPS_OFF, Effort

HELD_KW = 1e-6  # by which a power that is held may move
OPTIMAL = highspy.HighsModelStatus.kOptimal
# Every objective here is bounded, so that "unbounded or infeasible" is infeasible.
NONE_THERE = (
    highspy.HighsModelStatus.kInfeasible,
    highspy.HighsModelStatus.kUnboundedOrInfeasible,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setpoint:
    """One power of one asset in one step, and the row of the bench that holds it."""

    asset: str
    quantity: str
    step: int
    row: int


@dataclass(frozen=True, slots=True)
class Point:
    """A solution. `objective` is without the constants, which do not depend on what is decided."""

    objective: float
    bound: float
    x: FloatArray
    setpoints_kw: FloatArray


def setpoints(compiled: Compiled) -> list[Setpoint]:
    """Every power of a plan, in the order of the rows on the bench."""
    site, T = compiled.structure.site, compiled.structure.steps
    names = [(b.id, "p_kw") for b in site.bess] + [(g.id, "p_kw") for g in site.gensets]
    names += [(site.grid.id, "p_kw")] + [(v.id, "p_kw") for v in site.pv]
    names += [(f.id, "shed_kw") for f in site.feeders]
    names += [(d.id, "deferrable_kw") for d in site.deferrables]
    return [
        Setpoint(asset=a, quantity=q, step=t, row=k * T + t)
        for k, (a, q) in enumerate(names)
        for t in range(T)
    ]


def setpoint_rows(compiled: Compiled) -> csr_array:
    """(setpoints, columns) coefficients of every power, in the order of `setpoints`."""
    s, columns = compiled.structure, compiled.form.columns
    site, T = s.site, s.steps
    blocks: list[list[tuple[IntArray, float]]] = []  # per asset: (column by step, coefficient)

    def of(name: str) -> IntArray:
        return columns[name].reshape(compiled.shapes[name]).astype(np.int64)

    for b in range(len(site.bess)):
        flows = [(row, 1.0) for row in of("discharge_kw")[b]]
        blocks.append(flows + [(row, -1.0) for row in of("charge_kw")[b]])
    for g, unit in enumerate(site.gensets):
        blocks.append([(of("on")[g], unit.p_min_kw), *[(row, 1.0) for row in of("above_kw")[g]]])
    blocks.append([(of("import_kw"), 1.0), (of("export_kw"), -1.0)])
    blocks.extend([(of("pv_kw")[i], 1.0)] for i in range(len(site.pv)))
    blocks.extend([(of("shed_kw")[f], 1.0)] for f in range(len(site.feeders)))
    blocks.extend([(of("device_kw")[d], 1.0)] for d in range(len(site.deferrables)))
    i = np.concatenate([k * T + np.arange(T) for k, block in enumerate(blocks) for _ in block])
    j = np.concatenate([row for block in blocks for row, _ in block])
    v = np.concatenate([np.full(T, c) for block in blocks for _, c in block])
    return csr_array((v, (i, j)), shape=(T * len(blocks), compiled.form.shape[1]))


def carried(x: FloatArray, old: Compiled, new: Compiled) -> FloatArray:
    """(new columns,) values of a solution for another model, by name; 0 where a name or its shape is new."""
    out = np.zeros(new.form.shape[1])
    for name, at in new.form.columns.items():
        if old.shapes.get(name) == new.shapes[name]:
            out[at] = x[old.form.columns[name]]
    return out


class Bench:
    """One problem with its integers fixed: a linear program whose numbers are changed and changed back."""

    def __init__(self, compiled: Compiled, filled: Filled, whole: FloatArray, basis: Any = None) -> None:
        """Fix and solve.

        Parameters
        ----------
        whole : (columns,) values of the integer columns; others are ignored.
        basis : where to begin, of a bench with the same rows and columns.

        Raises
        ------
        DataError : with these integers there is no solution.
        """
        form = compiled.form
        self.compiled, self.filled = compiled, filled
        self.low = np.where(filled.integer, whole, filled.low)
        self.high = np.where(filled.integer, whole, filled.high)
        self.rows = setpoint_rows(compiled)
        self.first = form.shape[0]  # row of the first setpoint
        self.solves = 0
        self._highs = _highs()
        _pass(self._highs, compiled, filled, (self.low, self.high), self.rows)
        self.basis: Any = basis
        base = self._run()
        if base is None:
            raise DataError("the plan does not fit its problem: with its commitment there is no solution")
        self.base: Point = base  # the best with the plan's commitment
        self.basis = self._highs.getBasis()

    def with_setpoint(self, row: int, p_kw: float) -> Point | None:
        """The best with one power as given; None where a hard limit forbids it."""
        at = self.first + row
        self._highs.changeRowBounds(at, p_kw, p_kw)
        out = self._run()
        self._highs.changeRowBounds(at, -np.inf, np.inf)
        return out

    def with_row(self, row: int, more: float) -> Point | None:
        """The best with the right-hand side of a row of the model moved by `more`."""
        low, high = self.filled.row_low[row], self.filled.row_high[row]
        self._highs.changeRowBounds(row, low + more, high + more)
        out = self._run()
        self._highs.changeRowBounds(row, low, high)
        return out

    def with_high(self, columns: IntArray, more: float) -> Point | None:
        """The best with the upper bounds of columns raised by `more`."""
        for c in columns:
            self._highs.changeColBounds(int(c), self.low[c], self.high[c] + more)
        out = self._run()
        for c in columns:
            self._highs.changeColBounds(int(c), self.low[c], self.high[c])
        return out

    def with_fixed(self, columns: IntArray, value: float) -> Point | None:
        """The best with columns at a value, as with a run of a genset left out."""
        for c in columns:
            self._highs.changeColBounds(int(c), value, value)
        out = self._run()
        for c in columns:
            self._highs.changeColBounds(int(c), self.low[c], self.high[c])
        return out

    def with_bounded(self, row: int, more: float, low_kw: FloatArray, high_kw: FloatArray) -> Point | None:
        """As `with_row`, and every power within bounds, both (setpoints,)."""
        n = self.rows.shape[0]
        at, free = np.arange(self.first, self.first + n, dtype=np.int32), np.full(n, np.inf)
        self._highs.changeRowsBounds(n, at, low_kw, high_kw)
        out = self.with_row(row, more)
        self._highs.changeRowsBounds(n, at, -free, free)
        return out

    def with_bounds(self, low: FloatArray, high: FloatArray) -> Point | None:
        """The best within other bounds of the columns, both (columns,)."""
        h, every = self._highs, np.arange(len(low), dtype=np.int32)
        h.changeColsBounds(len(low), every, low, high)
        out = self._run()
        h.changeColsBounds(len(low), every, self.low, self.high)
        return out

    def least(self, weight: FloatArray, low: FloatArray, high: FloatArray) -> float | None:
        """The least of weight x within other bounds of the columns, money no object; None: impossible.

        Parameters
        ----------
        weight, low, high : (columns,)
        """
        h, every = self._highs, np.arange(len(weight), dtype=np.int32)
        h.changeColsCost(len(weight), every, weight)
        h.changeColsBounds(len(weight), every, low, high)
        out = self._run()
        h.changeColsCost(len(weight), every, self.filled.cost)
        h.changeColsBounds(len(weight), every, self.low, self.high)
        return None if out is None else float(weight @ out.x)

    def _run(self) -> Point | None:
        h = self._highs
        if self.basis is not None:  # of a model with as many rows and columns
            h.setBasis(self.basis)
        h.run()
        self.solves += 1
        if h.getModelStatus() not in (OPTIMAL, *NONE_THERE):  # numerics: once more from nothing
            h.clearSolver()
            h.run()
        if h.getModelStatus() in NONE_THERE:
            return None
        if h.getModelStatus() != OPTIMAL:
            raise InvariantBroken(f"a linear program ended with {h.modelStatusToString(h.getModelStatus())}")
        x = np.asarray(h.getSolution().col_value)
        cost = float(self.filled.cost @ x)
        return Point(objective=cost, bound=cost, x=x, setpoints_kw=self.rows @ x)


def _highs() -> Any:
    h: Any = cast(Any, highspy.Highs)()
    h.setOptionValue("output_flag", False)
    h.setOptionValue("threads", 1)
    return h


def _pass(
    h: Any,
    compiled: Compiled,
    filled: Filled,
    bounds: tuple[FloatArray, FloatArray],
    more: csr_array,
    more_bounds: tuple[FloatArray, FloatArray] | None = None,
    integer: BoolArray | None = None,
) -> None:
    form = compiled.form
    m, n = form.shape
    own = csc_array((form.a_value, form.a_index, form.a_start), shape=(m, n))
    a = csc_array(vstack([own, more]))
    free = np.full(more.shape[0], np.inf)
    low, high = (-free, free) if more_bounds is None else more_bounds
    kinds = np.zeros(n, np.int32) if integer is None else integer.astype(np.int32)
    h.passModel(
        n, m + more.shape[0], a.nnz, 1, 1, 0.0, filled.cost, bounds[0], bounds[1],
        np.concatenate([filled.row_low, low]), np.concatenate([filled.row_high, high]),
        a.indptr.astype(np.int32), a.indices.astype(np.int32), a.data, kinds,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """Rows put below those of a model: low <= rows x <= high."""

    rows: csr_array
    low: FloatArray
    high: FloatArray


def solve_whole(
    compiled: Compiled,
    filled: Filled,
    effort: Effort,
    extra: Extra | None = None,
    start: FloatArray | None = None,
) -> tuple[Point | None, float | None]:
    """Solve with integers: the best point found, and a proven bound of the cost (None: proven infeasible).

    `start` (columns,) are values to begin with, NaN where unknown. Costs are without constants.
    """
    h = _highs()
    rows = csr_array((0, compiled.form.shape[1])) if extra is None else extra.rows
    bounds = None if extra is None else (extra.low, extra.high)
    _pass(h, compiled, filled, (filled.low, filled.high), rows, bounds, filled.integer)
    for option, value in (
        *SUB_MIPS_OFF,
        ("mip_rel_gap", effort.gap_ratio),
        ("mip_abs_gap", effort.gap_abs),
        ("time_limit", np.inf if effort.time_limit_s is None else effort.time_limit_s),
        ("mip_max_nodes", 2**31 - 1 if effort.node_limit is None else effort.node_limit),
    ):
        h.setOptionValue(option, value)
    if start is not None:
        known = np.flatnonzero(np.isfinite(start))
        h.setSolution(len(known), known.astype(np.int32), start[known])
    h.run()
    status, info = h.getModelStatus(), h.getInfo()
    if status in NONE_THERE:
        return None, None
    bound = float(info.mip_dual_bound) if filled.integer.any() else float(info.objective_function_value)
    if info.primal_solution_status != 2:
        return None, bound
    x = np.asarray(h.getSolution().col_value)
    cost = float(filled.cost @ x)
    return Point(cost, min(bound, cost), x, setpoint_rows(compiled) @ x), bound
