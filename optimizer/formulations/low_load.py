"""Low load (wet stacking): a price on running below part of the rating, a budget of hours of it, burn-off.

With theta the ratio below which load is low, of each genset that has `low_load` in the site file:

    below_t >= theta P u_t - p_t,      price D_t below_t                               price per kWh below
    sum_l x_l,t  >=  (theta P - P_min) (u_t - low_t)                     low_t = 1: the step is at low load
    sum of (part of D_i in (end_t - W, end_t]) (low_i) - over_i  <=  room_t                         budget
    count_t >= count_(t-1) + D_t low_t - spent_t - after * done_t,      0 <= count_t <= after         burn-off
    sum_l x_l,t  >=  (alpha P - P_min) burn_t,     burn_t <= u_t
    done_t <= burn_i   for all i that the last `for` hours before end_t touch

room_t is the budget less the hours of the past that lie in the window. `over` and `spent` are hours at low
load beyond the budget and beyond a burn-off that is due; an hour costs the rung `genset_care` and is named.
low and burn are binary where the budget or the burn-off can bind at all, done follows from burn. A burn-off
begun before the plan counts with the time it has lasted.

Source: the line and the burn-off are data of the makers (Cummins Power Generation, Application Manual T-030:
not below 30 % of the rating for long). The counter needs no big number: `after` bounds it.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ems.assets import BurnOff, LowLoad
from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.fleets import firsts, machines
from optimizer.formulations.windows import EPS_H, overlap_h
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

SHOWN_H = 0.01


def _terms(s: Structure) -> list[tuple[int, LowLoad]]:
    """Gensets with a line of low load above their minimum load, and what is said of it."""
    found = [(n, u, u.low_load) for n, u in enumerate(machines(s))]
    return [(n, x) for n, u, x in found if x is not None and x.below_ratio * u.p_rated_kw > u.p_min_kw]


def priced(s: Structure) -> list[tuple[int, LowLoad]]:
    """Those whose low load has a price."""
    return [(n, x) for n, x in _terms(s) if x.price_per_kwh > 0.0]


def counted(s: Structure) -> list[tuple[int, LowLoad]]:
    """Those whose hours at low load are counted."""
    return [(n, x) for n, x in _terms(s) if x.counted]


def _budgets(s: Structure) -> list[tuple[int, int, float]]:
    """(place among the counted, genset, window [h]) of those with a budget."""
    return [(c, n, x.window_h) for c, (n, x) in enumerate(counted(s)) if x.budget_h is not None]


def _burn_offs(s: Structure) -> list[tuple[int, int, BurnOff]]:
    """(place among the counted, genset, burn-off) of those that have to burn off."""
    return [(c, n, x.burn_off) for c, (n, x) in enumerate(counted(s)) if x.burn_off is not None]


def add(m: Model, s: Structure) -> None:
    """below_kw, low, low_over_h, and of a burn-off burn, burnt, low_count_h, burn_over_h."""
    T, units = s.steps, machines(s)
    if prices := priced(s):
        below, on, above = m.var("below_kw", len(prices), T), m["on"], m["above_kw"]
        L = m.shapes["above_kw"][1]

        def short(k: int, t: int) -> Expr:
            n, x = prices[k]
            line = x.below_ratio * units[n].p_rated_kw - units[n].p_min_kw
            return below[k, t] + sum(above[n, i, t] for i in range(L)) >= line * on[n, t]

        m.rows("low_load", (len(prices), T), short)
    if counted(s):
        _add_count(m, s)
    if _budgets(s):
        _add_budget(m, s)
    if _burn_offs(s):
        _add_burn_off(m, s)


def _loaded(m: Model, s: Structure, n: int, t: int, ratio: float, share: Expr) -> Expr:
    """Row: genset `n` gives at least `ratio` of its rating where `share` is one."""
    unit, L = machines(s)[n], m.shapes["above_kw"][1]
    least = max(0.0, ratio * unit.p_rated_kw - unit.p_min_kw)
    return sum(m["above_kw"][n, i, t] for i in range(L)) >= least * share


def _add_count(m: Model, s: Structure) -> None:
    found = counted(s)
    low = m.var("low", len(found), s.steps)
    m.rows(
        "at_low_load",
        (len(found), s.steps),
        lambda c, t: _loaded(
            m, s, found[c][0], t, found[c][1].below_ratio, m["on"][found[c][0], t] - low[c, t]
        ),
    )


def _add_budget(m: Model, s: Structure) -> None:
    found, T = _budgets(s), s.steps
    over, room = m.var("low_over_h", len(found), T), m.par("low_room_h", len(found), T)

    def within(k: int, t: int) -> Expr:
        c, _, window_h = found[k]
        parts = overlap_h(s, t, window_h).items()
        return sum(h * m["low"][c, i] - over[k, i] for i, h in parts) <= room[k, t]

    m.rows("low_budget", (len(found), T), within)
    m.rows(
        "low_over",
        (len(found), T),
        lambda k, t: over[k, t] <= float(s.step_h[t]) * m["low"][found[k][0], t],
    )


def _add_burn_off(m: Model, s: Structure) -> None:
    found, T = _burn_offs(s), s.steps
    K = len(found)
    burn, done = m.var("burn", K, T), m.var("burnt", K, T)
    count, over, before = m.var("low_count_h", K, T), m.var("burn_over_h", K, T), m.par("low_before_h", K)
    low = m["low"]
    m.rows(
        "low_count",
        (K, T),
        lambda k, t: (
            count[k, t]
            >= (count[k, t - 1] if t else before[k])
            + float(s.step_h[t]) * low[found[k][0], t]
            - over[k, t]
            - found[k][2].after_h * done[k, t]
        ),
    )
    m.rows(
        "burn_over", (K, T), lambda k, t: over[k, t] <= float(s.step_h[t]) * low[found[k][0], t]
    )  # paid for no more than once
    m.rows("burning", (K, T), lambda k, t: _loaded(m, s, found[k][1], t, found[k][2].above_ratio, burn[k, t]))
    m.rows("burning_on", (K, T), lambda k, t: burn[k, t] <= m["on"][found[k][1], t])
    spans = [
        (k, t, i) for k, (_, _, x) in enumerate(found) for t in range(T) for i in overlap_h(s, t, x.for_h)
    ]
    m.rows(
        "burnt_whole",
        (len(spans),),
        lambda r: done[spans[r][0], spans[r][1]] <= burn[spans[r][0], spans[r][2]],
    )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Prices, what is left of budgets, how far a burn-off has come, and where binaries are needed."""
    step_h = s.step_h
    if prices := priced(s):
        n.bound("below_kw", 0.0, np.inf)
        n.price("low_load", "below_kw", np.array([[x.price_per_kwh] for _, x in prices]) * step_h)
    found = counted(s)
    if not found:
        return
    machine = firsts(s)
    care = np.array([[ladder(s.site).genset_care_per_kwh * machines(s)[i].p_rated_kw] for i, _ in found])
    whole = np.zeros((len(found), s.steps), dtype=np.bool_)
    head_h = float(step_h[p.integral].sum())
    n.bound("low", 0.0, 1.0)
    if budgets := _budgets(s):
        past = np.array([p.gensets[machine[i]].low_load_past_h for _, i, _ in budgets])
        most = np.array([[found[c][1].budget_h] for c, _, _ in budgets], dtype=np.float64)
        n.par("low_room_h", np.maximum(0.0, most - past))
        n.bound("low_over_h", 0.0, np.inf)
        n.price("low_load_over", "low_over_h", care[[c for c, _, _ in budgets]])
        for k, (c, _, _) in enumerate(budgets):
            whole[c] |= bool((past[k] + head_h > most[k, 0] + EPS_H).any())
    if offs := _burn_offs(s):
        after = np.array([[x.after_h] for _, _, x in offs])
        before = np.array([[p.gensets[machine[i]].low_load_count_h] for _, i, _ in offs])
        n.par("low_before_h", np.minimum(before, after)[:, 0])
        n.bound("low_count_h", 0.0, after)
        n.bound("burn_over_h", 0.0, np.inf)
        n.price("low_load_over", "burn_over_h", care[[c for c, _, _ in offs]])
        binds = (before + head_h > after + EPS_H)[:, 0]
        begun_h = np.array([[p.gensets[machine[i]].burning_h] for _, i, _ in offs])
        for_h = np.array([[x.for_h] for _, _, x in offs])
        ends = begun_h + s.start_h + step_h >= for_h - EPS_H
        n.bound("burn", 0.0, np.broadcast_to(binds[:, None], ends.shape).astype(np.float64))
        n.bound("burnt", 0.0, (ends & binds[:, None]).astype(np.float64))
        n.whole("burn", binds[:, None] & p.integral)
        for k, (c, _, _) in enumerate(offs):
            whole[c] |= binds[k]
    n.whole("low", whole & p.integral)


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Hours at low load beyond a budget, or beyond a burn-off that is due."""
    gensets = firsts(s)
    for k, (_, n, window_h) in enumerate(_budgets(s)):
        genset = p.site.gensets[gensets[n]]
        assert genset.low_load is not None
        if (hours := float(v["low_over_h"][k].sum())) > SHOWN_H:
            yield (
                f"{genset.id}: {hours:.1f} h at low load more than its {genset.low_load.budget_h:g} h "
                f"in {window_h:g} h"
            )
    for k, (_, n, burn_off) in enumerate(_burn_offs(s)):
        if (hours := float(v["burn_over_h"][k].sum())) > SHOWN_H:
            genset = p.site.gensets[gensets[n]]
            yield f"{genset.id}: {hours:.1f} h at low load after {burn_off.after_h:g} h, without burn-off"
