"""Hot and cold starts: a unit whose start from cold is dearer pays for a cold one, less what a hot one saves.

A case may know more than two kinds of start by the length of the rest; each saves what its kind costs less.
Each hot start h_i,t at t belongs to a stop at i with DT <= tau_t - tau_i <= cold_after, or h_t to a rest that
began before the plan; so it holds for fleets, too:

    sum_i h_i,t + h_t <= v_t,    sum_t h_i,t <= w_i,    sum_t h_t <= machines off before

On steps of an hour this costs little. On quarters of an hour it does: cold starts after six hours on the demo
site made 4,069 columns of 2,455 and plans five times as slow (median 1.8 s, not 0.36 s CPU). One h_t under
windows of w (Morales-Espana, Latorre and Ramos, IEEE Trans. Power Systems 28(4), 2013,
10.1109/TPWRS.2013.2251373) needs fewer columns, but its slowest plans took longer (95 %: 8.6 s, not 3.2 s).

Source: Knueven, Ostrowski and Watson, INFORMS J. Computing 32(4), 2020, 10.1287/ijoc.2019.0944.
"""

import numpy as np

from ems.assets import GensetParams
from optimizer.algebra import Model
from optimizer.fleets import machines, sizes, starts_of
from optimizer.formulations.windows import EPS_H, between
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

Arc = tuple[int, int, int]  # fleet, step of the stop, step of the start


def cold_extra(unit: GensetParams) -> float:
    """What a cold start costs more than a hot one [money]."""
    return 0.0 if unit.cold_start_cost is None else max(0.0, unit.cold_start_cost - unit.start_cost)


def saved(unit: GensetParams, rest_h: float) -> float:
    """What a start after so long a rest costs less than one from cold [money]."""
    return unit.start_cost + cold_extra(unit) - unit.start_cost_after(float(rest_h))


def _cooling(s: Structure) -> list[int]:
    """Fleets that are dearer to start from cold."""
    return [n for n, u in enumerate(machines(s)) if cold_extra(u) > 0.0]


def _arcs(s: Structure) -> list[Arc]:
    """Every hot start after a stop within the plan."""
    units = machines(s)
    return [
        (n, i, t)
        for n in _cooling(s)
        for t in range(s.steps)
        for i in between(s, t, units[n].min_down_s, units[n].cold_after_s)
    ]


def add(m: Model, s: Structure) -> None:
    """hot_start by arc, warm_start (C, T) after a rest that began before the plan."""
    cold, arcs = _cooling(s), _arcs(s)
    if not cold:
        return
    C, T = len(cold), s.steps
    hot, warm, off_before = m.var("hot_start", len(arcs)), m.var("warm_start", C, T), m.par("off_before", C)
    into: dict[tuple[int, int], list[int]] = {}
    out_of: dict[tuple[int, int], list[int]] = {}
    for k, (n, i, t) in enumerate(arcs):
        into.setdefault((n, t), []).append(k)
        out_of.setdefault((n, i), []).append(k)
    m.rows(
        "hot_is_a_start",
        (C, T),
        lambda c, t: sum(hot[k] for k in into.get((cold[c], t), [])) + warm[c, t] <= m["start"][cold[c], t],
    )
    m.rows(
        "hot_after_a_stop",
        (C, T),
        lambda c, t: sum(hot[k] for k in out_of.get((cold[c], t), [])) <= m["stop"][cold[c], t],
    )
    m.rows("hot_from_before", (C,), lambda c: sum(warm[c, t] for t in range(T)) <= off_before[c])


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Who is still warm from before, and what a hot start saves; commitment pays for cold ones."""
    cold, units = _cooling(s), machines(s)
    if not cold:
        return
    begin = starts_of(s, p)
    off = np.array([[sizes(s)[c] * float(not begin[c].on)] for c in cold])
    age_h = np.array([[begin[c].age_h] for c in cold])
    after_h = np.array([[units[c].cold_after_s / 3600.0] for c in cold])
    n.par("off_before", off[:, 0])
    n.bound("warm_start", 0.0, off * (age_h + s.start_h <= after_h + EPS_H))
    n.bound("hot_start", 0.0, np.inf)
    n.price(
        "start",
        "hot_start",
        -np.array([saved(units[c], s.start_h[t] - s.start_h[i]) for c, i, t in _arcs(s)]),
    )
    rest_h = age_h + s.start_h
    rows = [[saved(units[c], x) for x in row] for c, row in zip(cold, rest_h, strict=True)]
    n.price("start", "warm_start", -np.array(rows))
