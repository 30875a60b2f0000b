"""Limits on sums over many steps: energy, fuel, starts, emissions; must-take and take-or-pay energy.

    least - short  <=  sum over steps and assets of  D_t (a p_t + b u_t + c fuel_t) + d v_t  <=  most + over

short and over have prices, or are nothing where they have none.

Source: Wood, Wollenberg and Sheble, Power Generation, Operation and Control, 3rd ed., Wiley 2013, chapter 6
(take-or-pay fuel).
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.case_terms import Budget, Kind, Weight
from optimizer.formulations.assets import feeder_index, power, unit_index
from optimizer.formulations.bends import cost_per_h
from optimizer.formulations.genset_fuel import fuel_l_h
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure


def add(m: Model, s: Structure) -> None:
    """budget_short, budget_over (L,)."""
    budgets = s.formulation.terms.budgets
    if not budgets:
        return
    short, over = m.var("budget_short", len(budgets)), m.var("budget_over", len(budgets))
    m.par("budget_load_kw", len(s.site.feeders), s.steps)
    low = [i for i, x in enumerate(budgets) if x.least is not None]
    high = [i for i, x in enumerate(budgets) if x.most is not None]
    if low:
        m.rows(
            "budget_least",
            (len(low),),
            lambda i: _sum(m, s, budgets[low[i]]) + short[low[i]] >= budgets[low[i]].least,
        )
    if high:
        m.rows(
            "budget_most",
            (len(high),),
            lambda i: _sum(m, s, budgets[high[i]]) - over[high[i]] <= budgets[high[i]].most,
        )


def _sum(m: Model, s: Structure, x: Budget) -> Expr:
    at = [t for t, counts in enumerate(x.steps) if counts]
    return sum(_use(m, s, w, t) for w in x.weights for t in at)


def _use(m: Model, s: Structure, w: Weight, t: int) -> Expr:
    """What an asset uses of a budget in a step."""
    hours = float(s.step_h[t])
    if w.kind is Kind.LOAD:
        f = feeder_index(s, w.id)
        return (w.per_kwh * hours) * (m["budget_load_kw"][f, t] - m["shed_kw"][f, t])
    out = (w.per_kwh * hours) * power(m, s, w.kind, w.id, t)
    if w.kind is not Kind.UNIT:
        return out
    n = unit_index(s, w.id)
    ridden = [r for r, x in enumerate(s.formulation.terms.rides) if x.id == w.id]
    out = out + sum((w.per_kwh * hours) * m["ride_kw"][r, t] for r in ridden)
    out = out + (w.per_h * hours) * m["on"][n, t] + w.per_start * m["start"][n, t]
    if not w.per_cost:
        return out
    cost = cost_per_h(m, s, w.id, t)
    return out + (w.per_cost * hours) * (fuel_l_h(m, s, n, t) if cost is None else cost)


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Prices of missing one."""
    budgets = s.formulation.terms.budgets
    if not budgets:
        return
    n.par("budget_load_kw", p.load_kw)
    for name, costs in (
        ("budget_short", [x.short_cost for x in budgets]),
        ("budget_over", [x.over_cost for x in budgets]),
    ):
        n.bound(name, 0.0, np.array([0.0 if c is None else np.inf for c in costs]))
        n.price("energy_limits", name, np.array([0.0 if c is None else c for c in costs]))


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Budgets that are missed at their price."""
    for name, word in (("budget_short", "below its least"), ("budget_over", "above its most")):
        for x, missed in zip(s.formulation.terms.budgets, v.get(name, ()), strict=False):
            if missed > 1e-3:
                yield f"energy limit {x.id}: {word} by {missed:.6g}"
