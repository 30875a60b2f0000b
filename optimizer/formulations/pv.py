"""PV: what is used is at most what is available; the rest is curtailed at no cost. No PV on a dead bus."""

from optimizer.algebra import Model
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
    """Available power."""
    if s.site.pv:
        n.bound("pv_kw", 0.0, p.pv_kw)
