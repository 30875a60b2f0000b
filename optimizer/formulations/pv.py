"""PV: what is used is at most what is available; the rest is curtailed. No PV on a dead bus.

    0 <= pv_v,t <= available_v,t,      cost c_v D_t (available_v,t - pv_v,t)

c_v is nothing in a plan. In a case it is the price of curtailment, high on the ladder of prices for what must
be taken.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ems.timegrid import FloatArray
from optimizer.algebra import Model
from optimizer.misses import missed_kw
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure


def add(m: Model, s: Structure) -> None:
    """pv_kw in [0, available]; `dead` is declared by the balance family before."""
    plants = s.site.pv
    if not plants:
        return
    used, dead = m.var("pv_kw", len(plants), s.steps), m["dead"]
    for t in range(s.steps):
        m.bus[t].extend(used[i, t] for i in range(len(plants)))
    m.rows(
        "pv_needs_a_bus",
        (len(plants), s.steps),
        lambda i, t: used[i, t] <= plants[i].p_ac_kw * (1 - dead[t]),
    )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Available power, and what it costs not to use it."""
    if not s.site.pv:
        return
    n.bound("pv_kw", 0.0, p.pv_kw)
    if p.curtail_per_kwh:
        cost = np.array([p.curtail_per_kwh]).T * s.step_h
        n.price("curtailment", "pv_kw", -cost)
        n.constant["curtailment"] = float((cost * p.pv_kw).sum())


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """What is curtailed although that costs something."""
    for i, per_kwh in enumerate(p.curtail_per_kwh):
        if per_kwh > 0.0:
            yield from missed_kw(p, f"{p.site.pv[i].id}: curtailed", p.pv_kw[i] - v["pv_kw"][i])
