"""The one module that knows Pyomo: the families of `build.py` as a Pyomo model, the readable reference.

It writes LP files to be read by people and other solvers, and compiles by Pyomo's own compiler to the
standard form that the fast algebra must equal row by row.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler

from ems.timegrid import BoolArray, FloatArray
from optimizer.algebra import Expr, Model, StandardForm


class PyomoModel(Model):
    """The same declarations as `Model`, kept as Pyomo components of the same names."""

    def __init__(self, steps: int) -> None:
        super().__init__(steps)
        self.pyomo = pyo.ConcreteModel()

    def rows(self, name: str, shape: tuple[int, ...], rule: Callable[..., Expr]) -> None:
        """Declare one constraint for each index of `shape`."""
        sets = [pyo.RangeSet(0, n - 1) for n in shape]
        self.pyomo.add_component(name, pyo.Constraint(*sets, rule=lambda _, *index: rule(*index)))

    def _declare(self, name: str, shape: tuple[int, ...]) -> Any:
        component = pyo.Var(*[pyo.RangeSet(0, n - 1) for n in shape])
        self.pyomo.add_component(name, component)
        return component

    def standard_form(self) -> StandardForm:
        """Matrices by Pyomo's compiler.

        Source: pyomo.repn.plugins.standard_form, mixed form (rows keep their <=, = or >=).
        """
        m = self.pyomo
        names = [*self.variables, *self.parameters]
        ordered = [[m.component(n)[i] for i in indices(self.shapes[n])] for n in names]
        everything = [v for group in ordered for v in group]
        m.add_component("_all", pyo.Objective(expr=pyo.quicksum(everything)))  # keeps every column
        info = LinearStandardFormCompiler().write(m, mixed_form=True, column_order=everything)
        m.del_component("_all")
        n_var = sum(len(ordered[k]) for k in range(len(self.variables)))
        matrix = info.A.tocsc()
        own, par = matrix[:, :n_var], matrix[:, n_var:].tocsr()
        columns, par_slots, at = {}, {}, 0
        for name, group in zip(names, ordered, strict=True):
            if name in self.parameters:
                par_slots[name] = slice(at - n_var, at - n_var + len(group))
            else:
                columns[name] = np.arange(at, at + len(group), dtype=np.int32)
            at += len(group)
        kinds = np.array([row.bound_type for row in info.rows], dtype=np.int64)
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
        self,
        parameters: dict[str, FloatArray],
        bounds: dict[str, tuple[FloatArray, FloatArray]],
        integer: dict[str, BoolArray],
        cost: dict[str, FloatArray],
        offset: float,
    ) -> None:
        """Put numbers into the readable model itself."""
        m = self.pyomo
        for name, values in parameters.items():
            for i, x in zip(indices(self.shapes[name]), values.ravel().tolist(), strict=True):
                m.component(name)[i].fix(x)
        terms: list[Expr] = [offset]
        for name in self.variables:
            low, high = (x.ravel().tolist() for x in bounds[name])
            whole, price = integer[name].ravel().tolist(), cost[name].ravel().tolist()
            for k, i in enumerate(indices(self.shapes[name])):
                v = m.component(name)[i]
                v.setlb(low[k] if np.isfinite(low[k]) else None)
                v.setub(high[k] if np.isfinite(high[k]) else None)
                v.domain = pyo.Integers if whole[k] else pyo.Reals
                terms.append(price[k] * v)
        m.add_component("cost", pyo.Objective(expr=pyo.quicksum(terms)))

    def write_lp(self, path: str) -> None:
        """Write the model, with its numbers set, as an LP file."""
        self.pyomo.write(path, io_options={"symbolic_solver_labels": True})


def indices(shape: tuple[int, ...]) -> list[Any]:
    """All indices of a shape in C order; scalars for one axis."""
    if len(shape) == 1:
        return list(range(shape[0]))
    return list(product(*[range(n) for n in shape]))
