"""Limits by step on what a unit gives while it is on, and on what is used of a renewable; prices by step.

low_t u_t <= p_t <= high_t u_t,      pv_t >= low_t,      cost per_kwh_t D_t p_t
"""

import numpy as np

from optimizer.algebra import Model
from optimizer.case_terms import Kind, Range
from optimizer.formulations.assets import power, unit_index
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure


def _priced(s: Structure) -> list[Range]:
    return [x for x in s.formulation.terms.ranges if x.per_kwh]


def add(m: Model, s: Structure) -> None:
    """Rows of limits; priced_kw (C, T) of what has a price by step."""
    ranges, T, priced = s.formulation.terms.ranges, s.steps, _priced(s)
    for c, x in enumerate(ranges):
        on = unit_index(s, x.id) if x.kind is Kind.UNIT else None
        for name, limit, sign in (("low", x.low_kw, 1.0), ("high", x.high_kw, -1.0)):
            if limit:
                m.rows(
                    f"range_{name}_{c}",
                    (T,),
                    lambda t, x=x, on=on, limit=limit, sign=sign: (
                        sign * power(m, s, x.kind, x.id, t)
                        >= sign * limit[t] * (1.0 if on is None else m["on"][on, t])
                    ),
                )
    if priced:
        kw = m.var("priced_kw", len(priced), T)
        m.rows(
            "priced",
            (len(priced), T),
            lambda c, t: kw[c, t] == power(m, s, priced[c].kind, priced[c].id, t),
        )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """What a kWh costs besides, by step."""
    if priced := _priced(s):
        n.bound("priced_kw", 0.0, np.inf)
        n.price("energy_by_step", "priced_kw", np.array([x.per_kwh for x in priced]) * s.step_h)
