"""A model compiled once to arrays; every plan afterwards only feeds numbers.

Source: performance figures and method in docs/optimizer.md, "Speed".
"""

from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ems.timegrid import BoolArray, FloatArray
from optimizer.algebra import Model, StandardForm
from optimizer.build import build, numbers
from optimizer.numbers import Numbers, layout
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure


@dataclass(frozen=True, slots=True)
class Filled:
    """Vectors of one problem for the matrix of a Compiled: min c x + offset, row_low <= A x <= row_high."""

    cost: FloatArray
    low: FloatArray
    high: FloatArray
    row_low: FloatArray
    row_high: FloatArray
    integer: BoolArray
    offset: float
    matrix: tuple[NDArray[np.int32], NDArray[np.int32], FloatArray] | None = None  # where numbers are in it


class Compiled:
    """Matrix of one structure and where each variable stands in it."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self.finish(build(structure, Model))

    def finish(self, model: Model) -> None:
        """Take over a model: its standard form, and where each number goes in it."""
        self.families = tuple(model.families)
        self.form: StandardForm = model.standard_form()
        names = [*self.form.columns, *self.form.par_slots]
        self.shapes = {name: model.shapes[name] for name in names}
        self._where = layout(self.shapes)
        self._given = self.form.par_matrix.tocoo()  # summed row by row without scipy's preparations

    def numbers_of(self, structure: Structure) -> "Compiled":
        """The same matrix for a structure that differs only in what never enters it."""
        out = copy(self)
        out.structure = structure
        return out

    def numbers(self, problem: PlanningProblem) -> Numbers:
        """What the families say about a problem."""
        return numbers(self._where, problem, self.structure, self.families)

    def fill(self, n: Numbers) -> Filled:
        """Lay numbers out as vectors, exact: rhs(p) = b - A_p p."""
        f, places = self.form, self._where.places
        columns = f.shape[1]
        p = n.parameters.vector[columns:]
        rhs = f.rhs - np.bincount(self._given.row, self._given.data * p[self._given.col], f.shape[0])
        out = Filled(
            cost=np.zeros(columns),
            low=n.low.vector[:columns],
            high=n.high.vector[:columns],
            row_low=np.where(f.has_low, rhs, -np.inf),
            row_high=np.where(f.has_high, rhs, np.inf),
            integer=n.integer.vector[:columns],
            offset=sum(n.constant.values()),
        )
        for prices in n.cost.values():
            for name, price in prices.items():
                out.cost[places[name]] += price.ravel()
        if any(np.isnan(x).any() for x in (p, out.low, out.high, out.cost)):
            raise ValueError(f"NaN in the numbers of a model: {', '.join(not_numbers(n))}")
        return out

    def values(self, x: FloatArray) -> dict[str, FloatArray]:
        """A solution by variable name, in the variables' shapes: views of `x`."""
        places = self._where.places
        return {name: x[places[name]].reshape(self.shapes[name]) for name in self.form.columns}


def not_numbers(n: Numbers) -> list[str]:
    """Names of the variables and parameters with a NaN among their numbers."""
    prices = [(f"{name} ({term})", x) for term, row in n.cost.items() for name, x in row.items()]
    named = [*n.parameters.items(), *n.low.items(), *n.high.items(), *prices]
    return [name for name, x in named if np.isnan(x).any()]


def cost_terms(n: Numbers, values: dict[str, FloatArray]) -> dict[str, float]:
    """Each term of the objective; they add up to it [money]."""
    terms = {
        term: sum(float(np.vdot(price, values[name])) for name, price in prices.items())
        for term, prices in n.cost.items()
    }
    for term, money in n.constant.items():
        terms[term] = terms.get(term, 0.0) + money
    return terms
