"""Permitted sets of sources: in each step the bus is fed by one of them, from a table by grid mode.

With z_k,t = 1 when set k is used, n_t = 1 when none of them is, for the sets of the step's mode:

    sum_k z_k + n + dead  =  1
    sum_(k with g) z_k  <=  u_g  <=  sum_(k with g) z_k + n           gensets: on load exactly as the set says
    charge, discharge, reserve, kvar of b  <=  rating (sum_(k with b) z_k + n)      batteries: only within it
    pv_i  <=  rating (sum_(k with i) z_k + n)

A set with a battery or genset that is away is not there. z and n are whole where commitment is. A step
without a permitted set costs its price by the hour, if none is given more than shedding everything that has a
breaker, and is named; in a mode without a table it is free.

Source: fault level, earthing and selectivity are settled by the plant's protection study, whose answer is a
table; only its result can be planned with.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ems.errors import InvariantBroken
from ems.timegrid import BoolArray, FloatArray
from optimizer.algebra import Expr, Model
from optimizer.formulations.battery import flow
from optimizer.formulations.reactive import asked as reactive_asked
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

USED = 0.5


def table(s: Structure) -> list[tuple[bool, tuple[str, ...]]]:
    """(islanded, set) of every permitted set."""
    sets = s.site.sources
    if sets is None:
        return []
    return [*((True, k) for k in sets.islanded), *((False, k) for k in sets.grid_tied)]


def add(m: Model, s: Structure) -> None:
    """source_set (K, T), no_set (T,)."""
    rows = table(s)
    if not rows:
        return
    if s.formulation.fleets:
        raise InvariantBroken("permitted sets of sources tell machines apart, fleets do not")
    K, T = len(rows), s.steps
    used, none, dead = m.var("source_set", K, T), m.var("no_set", T), m["dead"]
    m.rows("one_set", (T,), lambda t: sum(used[k, t] for k in range(K)) + none[t] + dead[t] == 1)

    def within(asset: str, t: int) -> Expr:
        return sum((used[k, t] for k, (_, ids) in enumerate(rows) if asset in ids), start=none[t])

    gensets = [g.id for g in s.site.gensets]
    if gensets:
        on, G = m["on"], len(gensets)
        m.rows("set_allows", (G, T), lambda g, t: on[g, t] <= within(gensets[g], t))
        m.rows("set_runs", (G, T), lambda g, t: on[g, t] >= within(gensets[g], t) - none[t])
    for b, unit in enumerate(s.site.bess):
        for name, top, power in _powers(m, s, b):
            m.rows(
                f"set_{name}_{b}",
                (T,),
                lambda t, i=unit.id, top=top, power=power: power(t) <= top * within(i, t),
            )
    if s.site.pv:
        plants, pv = s.site.pv, m["pv_kw"]
        m.rows(
            "set_pv", (len(plants), T), lambda i, t: pv[i, t] <= plants[i].p_ac_kw * within(plants[i].id, t)
        )


def _powers(m: Model, s: Structure, b: int) -> Iterator[tuple[str, float, Callable[[int], Expr]]]:
    """Name, rating and expression of everything a battery does at the bus."""
    p = s.site.bess[b].battery
    yield "charge", p.p_charge_kw_max, lambda t: flow(m, "charge_kw", b, t)
    yield "discharge", p.p_discharge_kw_max, lambda t: flow(m, "discharge_kw", b, t)
    if s.formulation.reserve:
        both = p.p_charge_kw_max + p.p_discharge_kw_max
        yield "reserve", both, lambda t: m["reserve_kw"][b, t]
        if "spare_kw" in m.shapes:
            yield "spare", both, lambda t: m["spare_kw"][b, t]
        yield "down", both, lambda t: m["down_kw"][b, t]
    if reactive_asked(s):
        rated = s.site.bess[b].pcs.s_kva
        yield "kvar", rated, lambda t: m["bess_kvar"][0, b, t] + m["bess_kvar"][1, b, t]


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Which sets are there in which step, and what having none costs."""
    rows, sets = table(s), s.site.sources
    if not rows or sets is None:
        return
    there = np.array([[_there(p, ids)] for _, ids in rows])
    mode = np.array([p.islanded if islanded else p.grid_available for islanded, _ in rows])
    n.bound("source_set", 0.0, np.where(mode & there, 1.0, 0.0))
    n.whole("source_set", p.integral)
    n.bound("no_set", 0.0, 1.0)
    n.whole("no_set", p.integral)
    n.price("sources", "no_set", np.where(limited(p), cost_per_h(p), 0.0) * s.step_h)


def cost_per_h(p: PlanningProblem) -> float:
    """What an hour without a permitted set costs [money]."""
    sets = p.site.sources
    if sets is not None and sets.unpermitted_cost_per_h is not None:
        return sets.unpermitted_cost_per_h
    return ladder(p.site).surplus_per_kwh * sum(f.p_peak_kw for f in p.site.feeders)


def limited(p: PlanningProblem) -> BoolArray:
    """(T,) steps whose mode has a table."""
    sets = p.site.sources
    if sets is None:
        return np.zeros(p.steps, dtype=np.bool_)
    out: BoolArray = (p.islanded & bool(sets.islanded)) | (p.grid_available & bool(sets.grid_tied))
    return out


def _there(p: PlanningProblem, ids: tuple[str, ...]) -> bool:
    away = {b.id for b, x in zip(p.site.bess, p.bess, strict=True) if not x.available}
    away |= {g.id for g, x in zip(p.site.gensets, p.gensets, strict=True) if not x.available}
    return not away & set(ids)


def fed(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> dict[str, BoolArray]:
    """(T,) by asset, whether it may be on the bus in a solution; empty without a table."""
    rows = table(s)
    if not rows:
        return {}
    free = v["no_set"] > USED
    ids = {i for _, k in rows for i in k} | {b.id for b in p.site.bess}
    return {i: free | (v["source_set"][[i in k for _, k in rows]].sum(axis=0) > USED) for i in ids}


def missed(p: PlanningProblem, v: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """(T,) 1 where no permitted set feeds the bus although there is a table."""
    return {"unpermitted_sources": v["no_set"] * limited(p)} if "no_set" in v else {}


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Steps that no permitted set of sources feeds."""
    if "no_set" not in v:
        return
    out = (v["no_set"] > USED) & limited(p)
    if out.any():
        first = p.grid.starts()[int(np.argmax(out))]
        yield (
            f"no permitted set of sources feeds the bus in {int(out.sum())} steps, "
            f"first at {first:%d %H:%M} UTC"
        )
