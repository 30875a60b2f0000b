"""The extensive form: one matrix for all scenarios, made of the compiled matrix of one.

    min  (1 - w) sum_s p_s c_s x_s  +  w (a + sum_s p_s z_s / (1 - b))
    A x_s in [row_low_s, row_high_s],    x_s in [low_s, high_s]         every scenario s
    x_s[j] = x_1[j]                                                     first-stage columns j, kept once
    z_s >= c_s x_s - a,  z_s >= 0                                       only with w > 0: CVaR at level b

Families are not touched: columns of the first stage are kept once, all others are copied for each scenario; a
row that touches nothing but the first stage is kept once with the narrowest of its bounds, every other row is
copied. Scenario 1 keeps its columns and rows in place: one scenario alone is the deterministic model itself.
Scenario 1 is the one that is published and is whole wherever its family says so; in the others only what is
common to all is whole: their recourse is a linear program.

Source: J. R. Birge and F. Louveaux, Introduction to Stochastic Programming, 2nd ed., Springer, 2011,
10.1007/978-1-4614-0237-4 (extensive form); R. T. Rockafellar and S. Uryasev, Optimization of conditional
value-at-risk, Journal of Risk 2(3), 2000, 10.21314/JOR.2000.038 (CVaR as a linear program).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_array, csc_array

from ems.timegrid import BoolArray, FloatArray, IntArray
from optimizer.algebra import StandardForm
from optimizer.compiled import Compiled, Filled

_Entries = tuple[IntArray, IntArray, FloatArray]  # row, column, value


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """Weight of the tail, and where it begins."""

    weight_ratio: float = 0.0
    level_ratio: float = 0.8


class Extensive:
    """Matrix of several scenarios of one structure. `form` is what a solver session is made of."""

    def __init__(self, compiled: Compiled, shared: Sequence[BoolArray], risk: Risk) -> None:
        """`shared` has for each scenario but the first which of its columns are those of the first."""
        self.compiled, self.risk = compiled, risk
        form = compiled.form
        rows, columns = form.shape
        matrix = csc_array((form.a_value, form.a_index, form.a_start), shape=(rows, columns)).tocoo()
        self.columns = [np.arange(columns)]  # of each scenario (N,)
        self.rows = [np.arange(rows)]  # of each scenario (M,); a row kept once is that of the first
        parts = [(matrix.row, matrix.col, matrix.data)]
        n, m = columns, rows
        for common in shared:
            own = np.flatnonzero(~common)
            at = np.arange(columns)
            at[own] = np.arange(n, n + len(own))
            copied = np.zeros(rows, dtype=np.bool_)
            copied[matrix.row[~common[matrix.col]]] = True
            to = np.arange(rows)
            to[copied] = np.arange(m, m + int(copied.sum()))
            use = copied[matrix.row]
            parts.append((to[matrix.row[use]], at[matrix.col[use]], matrix.data[use]))
            self.columns.append(at)
            self.rows.append(to)
            n, m = n + len(own), m + int(copied.sum())
        self._size = m, n
        self._entries = _joined(parts)
        self.form = self._form(self._entries)

    @property
    def scenarios(self) -> int:
        """How many there are."""
        return len(self.columns)

    @property
    def _averse(self) -> bool:
        return self.risk.weight_ratio > 0.0

    def _outer(self) -> tuple[int, int]:
        m, n = self._size
        return (m + self.scenarios, n + 1 + self.scenarios) if self._averse else (m, n)

    def _form(self, entries: _Entries) -> StandardForm:
        row, column, value = entries
        rows, columns = self._outer()
        matrix = coo_array((value, (row, column)), shape=(rows, columns)).tocsc()
        return replace(
            self.compiled.form,
            a_start=matrix.indptr.astype(np.int32),
            a_index=matrix.indices.astype(np.int32),
            a_value=np.asarray(matrix.data, dtype=np.float64),
            rhs=np.zeros(rows),
        )

    def fill(self, each: Sequence[Filled], probability: FloatArray) -> Filled:
        """Vectors of all scenarios in one."""
        rows, columns = self._outer()
        out = Filled(
            cost=np.zeros(columns),
            low=np.full(columns, -np.inf),
            high=np.full(columns, np.inf),
            row_low=np.full(rows, -np.inf),
            row_high=np.full(rows, np.inf),
            integer=np.zeros(columns, dtype=np.bool_),
            offset=0.0,
        )
        offset = 0.0
        neutral = 1.0 - self.risk.weight_ratio
        for f, share, at, to in zip(each, probability, self.columns, self.rows, strict=True):
            out.cost[at] += neutral * float(share) * f.cost
            out.low[at], out.high[at] = np.maximum(out.low[at], f.low), np.minimum(out.high[at], f.high)
            out.row_low[to] = np.maximum(out.row_low[to], f.row_low)
            out.row_high[to] = np.minimum(out.row_high[to], f.row_high)
            out.integer[at] |= f.integer & (at == np.arange(len(at)))
            offset += neutral * float(share) * f.offset
        out = replace(out, offset=offset)
        return self._with_tail(out, each, probability) if self._averse else out

    def _with_tail(self, out: Filled, each: Sequence[Filled], probability: FloatArray) -> Filled:
        """Rows c_s x_s - a - z_s <= -offset_s: prices are coefficients, the matrix comes with the numbers."""
        m, n = self._size
        excess = np.arange(n + 1, n + 1 + self.scenarios)
        out.cost[n] = self.risk.weight_ratio
        out.cost[excess] = self.risk.weight_ratio * probability / (1.0 - self.risk.level_ratio)
        out.low[excess] = 0.0
        parts = [self._entries]
        for s, f in enumerate(each):
            priced = np.flatnonzero(f.cost)
            row = np.full(len(priced) + 2, m + s)
            column = np.concatenate([self.columns[s][priced], [n, excess[s]]])
            parts.append((row, column, np.concatenate([f.cost[priced], [-1.0, -1.0]])))
            out.row_high[m + s] = -f.offset
        form = self._form(_joined(parts))
        return replace(out, matrix=(form.a_start, form.a_index, form.a_value))

    def scenario(self, x: FloatArray, s: int) -> FloatArray:
        """Solution of one scenario in the columns of the compiled model."""
        out: FloatArray = x[self.columns[s]]
        return out


def _joined(parts: Sequence[_Entries]) -> _Entries:
    row, column, value = (np.concatenate(x) for x in zip(*parts, strict=True))
    return row, column, value


def tail_cost(cost: FloatArray, probability: FloatArray, level_ratio: float) -> float:
    """CVaR: mean cost of the dearest 1 - `level_ratio` of the probability [money].

    The scenario that straddles the level counts with the part beyond it (R. T. Rockafellar and S. Uryasev,
    Journal of Banking and Finance 26(7), 2002, 10.1016/S0378-4266(02)00271-6, proposition 8).
    """
    order = np.argsort(cost)[::-1]
    tail = 1.0 - level_ratio
    before = np.concatenate([[0.0], np.cumsum(probability[order])[:-1]])
    part = np.clip(tail - before, 0.0, probability[order])
    return float(part @ cost[order] / part.sum())
