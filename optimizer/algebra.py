"""The one module that knows Pyomo: a model of named variables, parameters and rows, and its standard form.

Numbers that change from plan to plan and stand on a right-hand side are declared as *parameters*. To Pyomo
they are variables; in the compiled form their columns are sliced off the matrix, so that
`A_x x + A_p p (<=, =, >=) b` becomes `rhs(p) = b - A_p p`, exact for every affine use.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pyomo.environ as pyo
from numpy.typing import NDArray
from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler

from ems.timegrid import BoolArray, FloatArray, IntArray

Expr = Any  # an affine Pyomo expression, variable or number
Array = Any  # an indexed Pyomo variable: `x[t]`, `x[g, t]`
SKIP: Expr = pyo.Constraint.Skip


class Model:
    """A Pyomo model whose components are addressed by name and indexed from 0."""

    def __init__(self, steps: int) -> None:
        self.pyomo = pyo.ConcreteModel()
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.parameters: list[str] = []
        self.bus: list[list[Expr]] = [[] for _ in range(steps)]  # power into the bus [kW], by step
        self.reserve_up: list[list[Expr]] = [[] for _ in range(steps)]  # islanded: what can rise [kW]
        self.reserve_down: list[list[Expr]] = [[] for _ in range(steps)]  # islanded: what can fall [kW]
        self.carry: list[list[Expr]] = [
            [] for _ in range(steps)
        ]  # grid-tied: what stays if the grid goes [kW]
        self.forming: list[list[Expr]] = [[] for _ in range(steps)]  # sources that can form an island

    def var(self, name: str, *shape: int) -> Array:
        """Declare a variable; its bounds, kind and cost are numbers and come later."""
        self.shapes[name] = shape
        component = pyo.Var(*[pyo.RangeSet(0, n - 1) for n in shape])
        self.pyomo.add_component(name, component)
        return component

    def par(self, name: str, *shape: int) -> Array:
        """Declare a number that changes from plan to plan and stands on a right-hand side."""
        self.parameters.append(name)
        return self.var(name, *shape)

    def rows(self, name: str, shape: tuple[int, ...], rule: Callable[..., Expr]) -> None:
        """Declare one constraint for each index of `shape`."""
        sets = [pyo.RangeSet(0, n - 1) for n in shape]
        self.pyomo.add_component(name, pyo.Constraint(*sets, rule=lambda _, *index: rule(*index)))

    def __getitem__(self, name: str) -> Array:
        return getattr(self.pyomo, name)

    @property
    def variables(self) -> list[str]:
        """Names of what the solver decides."""
        return [n for n in self.shapes if n not in self.parameters]


@dataclass(frozen=True, slots=True)
class StandardForm:
    """Matrices of a model: `a` (rows, columns) by columns, `par_matrix` (rows, parameters)."""

    a_start: NDArray[np.int32]
    a_index: NDArray[np.int32]
    a_value: FloatArray
    par_matrix: Any  # scipy CSR (rows, parameters)
    rhs: FloatArray
    has_low: BoolArray
    has_high: BoolArray
    columns: dict[str, NDArray[np.int32]]  # variable name -> column of each entry, in C order
    par_slots: dict[str, slice]  # parameter name -> its place in the parameter vector
    row_names: list[str]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.rhs), len(self.a_start) - 1


def indices(shape: tuple[int, ...]) -> list[Any]:
    """All indices of a shape in C order; scalars for one axis."""
    if len(shape) == 1:
        return list(range(shape[0]))
    return list(product(*[range(n) for n in shape]))


def standard_form(model: Model) -> StandardForm:
    """Compile a model once to matrices.

    Source: pyomo.repn.plugins.standard_form, mixed form (rows keep their <=, = or >=).
    """
    m = model.pyomo
    names = [*model.variables, *model.parameters]
    ordered = [[m.component(n)[i] for i in indices(model.shapes[n])] for n in names]
    everything = [v for group in ordered for v in group]
    m.add_component("_all", pyo.Objective(expr=pyo.quicksum(everything)))  # keeps every column
    info = LinearStandardFormCompiler().write(m, mixed_form=True, column_order=everything)
    m.del_component("_all")
    n_var = sum(len(ordered[k]) for k in range(len(model.variables)))
    matrix = info.A.tocsc()
    own, par = matrix[:, :n_var], matrix[:, n_var:].tocsr()
    columns, par_slots, at = {}, {}, 0
    for name, group in zip(names, ordered, strict=True):
        if name in model.parameters:
            par_slots[name] = slice(at - n_var, at - n_var + len(group))
        else:
            columns[name] = np.arange(at, at + len(group), dtype=np.int32)
        at += len(group)
    kinds: IntArray = np.array([row.bound_type for row in info.rows], dtype=np.int64)
    return StandardForm(
        a_start=own.indptr.astype(np.int32),
        a_index=own.indices.astype(np.int32),
        a_value=np.asarray(own.data, dtype=np.float64),
        par_matrix=par,
        rhs=np.asarray(info.rhs, dtype=np.float64),
        has_low=kinds <= 0,
        has_high=kinds >= 0,
        columns=columns,
        par_slots=par_slots,
        row_names=[row.constraint.name for row in info.rows],
    )


def set_numbers(
    model: Model,
    parameters: dict[str, FloatArray],
    bounds: dict[str, tuple[FloatArray, FloatArray]],
    integer: dict[str, BoolArray],
    cost: dict[str, FloatArray],
    offset: float,
) -> None:
    """Put numbers into the readable model itself: the reference that the compiled form is tested against."""
    m = model.pyomo
    for name, values in parameters.items():
        for i, x in zip(indices(model.shapes[name]), values.ravel().tolist(), strict=True):
            m.component(name)[i].fix(x)
    terms: list[Expr] = [offset]
    for name in model.variables:
        low, high = (x.ravel().tolist() for x in bounds[name])
        whole, price = integer[name].ravel().tolist(), cost[name].ravel().tolist()
        for k, i in enumerate(indices(model.shapes[name])):
            v = m.component(name)[i]
            v.setlb(low[k] if np.isfinite(low[k]) else None)
            v.setub(high[k] if np.isfinite(high[k]) else None)
            v.domain = pyo.Integers if whole[k] else pyo.Reals
            terms.append(price[k] * v)
    m.add_component("cost", pyo.Objective(expr=pyo.quicksum(terms)))


def write_lp(model: Model, path: str) -> None:
    """Write the readable model, with its numbers set, as an LP file."""
    model.pyomo.write(path, io_options={"symbolic_solver_labels": True})
