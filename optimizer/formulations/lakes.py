"""What flows into a storage by itself, and one that ends where it began, of a case.

    e_t = what battery.py says + inflow_t - spill_t,      0 <= spill_t <= inflow_t
    e_(-1) = e_(T-1)      where it ends as it began, wherever that is

What flows in within a step can be used in it.

Source: Horsch, Hofmann, Schlachtberger and Brown, PyPSA, J. Open Research Software 6(1), 2018,
10.5334/jors.188 (storage units with inflow, spillage and a cyclic state of charge).
"""

from collections.abc import Iterable

import numpy as np

from optimizer.algebra import Expr, Model
from optimizer.case_terms import Lake
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure


def _filled(s: Structure) -> list[Lake]:
    """Storages with inflow."""
    return [x for x in s.formulation.terms.lakes if x.inflow_kwh]


def cyclic(s: Structure, b: int) -> bool:
    """Whether a storage begins as it ends."""
    return any(x.id == s.site.bess[b].id and x.cyclic for x in s.formulation.terms.lakes)


def add(m: Model, s: Structure) -> None:
    """spill_kwh (L, T)."""
    if filled := _filled(s):
        m.var("spill_kwh", len(filled), s.steps)


def gained(m: Model, s: Structure, b: int, t: int) -> Expr:
    """What is left of the inflow of a storage in a step [kWh]."""
    for k, x in enumerate(_filled(s)):
        if x.id == s.site.bess[b].id:
            return x.inflow_kwh[t] - m["spill_kwh"][k, t]
    return 0.0


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """No more is spilt than flows in."""
    if filled := _filled(s):
        n.bound("spill_kwh", 0.0, np.array([x.inflow_kwh for x in filled]))


def ids(s: Structure) -> Iterable[str]:
    """Rows of spill_kwh."""
    return [x.id for x in _filled(s)]
