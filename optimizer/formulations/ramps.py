"""Ramps, and how much a unit can give in the first and the last step of a run: where they bind at the steps.

With x what is above minimum load, R = ramp x time between the middles of two steps, SU and SD the highest
output in the first step of a run and in the last:

    x_t - x_(t-1)  <=  RU (u_t - v_t) + (SU - P_min) v_t
    x_(t-1) - x_t  <=  RD (u_t - v_t) + (SD - P_min) w_t
    x_t  <=  (P - P_min) u_t - (P - SU) v_t - (P - SD) w_(t+1)            a run of two steps or more
    x_t  <=  (P - P_min) u_t - (P - SU) v_t - max(0, SU - SD) w_(t+1)     a run may be one step long,
    x_t  <=  (P - P_min) u_t - (P - SD) w_(t+1) - max(0, SD - SU) v_t     two rows for the last one

A diesel is at full load within seconds or minutes: rows are laid out for those units alone whose ramp takes
longer from minimum load to rating than a step lasts, or that have such limits.

Sources: Morales-Espana, Latorre and Ramos, IEEE Trans. Power Systems 28(4), 2013,
10.1109/TPWRS.2013.2251373 (above minimum load); Gentile, Morales-Espana and Ramos, A tight MIP formulation of
the unit commitment problem with start-up and shut-down constraints, EURO J. Computational Optimization 5,
2017, 10.1007/s13675-016-0066-y (the two rows).
"""

import numpy as np

from ems.assets import GensetParams
from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.fleets import firsts, machines
from optimizer.formulations.windows import window
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

EPS_KW = 1e-9


def apart_h(step_h: FloatArray) -> FloatArray:
    """(T,) from the middle of the step before to that of each [h]; before the first is one of its length."""
    before = np.concatenate([step_h[:1], step_h[:-1]])
    out: FloatArray = 0.5 * (before + step_h)
    return out


def _span(unit: GensetParams) -> float:
    return unit.p_rated_kw - unit.p_min_kw


def _binds(unit: GensetParams, s: Structure) -> bool:
    slowest_h = float(apart_h(s.step_h).min())
    rate = min(unit.ramp_kw_s, unit.ramp_down_or_up_kw_s) * 3600.0
    return rate * slowest_h < _span(unit) - EPS_KW


def ramping(s: Structure) -> list[int]:
    """Units whose ramp binds."""
    return [n for n, u in enumerate(machines(s)) if _binds(u, s)]


def edged(s: Structure) -> list[int]:
    """Units that cannot start at their rating, or stop from it."""
    limits = [(u.start_up_or_rated_kw, u.shut_down_or_rated_kw, u) for u in machines(s)]
    return [n for n, (up, down, u) in enumerate(limits) if min(up, down) < u.p_rated_kw - EPS_KW]


def add(m: Model, s: Structure) -> None:
    """Rows alone; `above_before_kw` is the output of now above minimum load."""
    found, T = sorted({*ramping(s), *edged(s)}), s.steps
    if not found:
        return
    before, L = m.par("above_before_kw", len(found)), m.shapes["above_kw"][1]
    units, on, start, stop = machines(s), m["on"], m["start"], m["stop"]
    hours = apart_h(s.step_h)

    def above(k: int, t: int) -> Expr:
        return sum(m["above_kw"][found[k], i, t] for i in range(L)) if t >= 0 else before[k]

    def rise(k: int, t: int) -> Expr:
        n = found[k]
        unit, most = units[n], units[n].ramp_kw_s * 3600.0 * float(hours[t])
        first = unit.start_up_or_rated_kw - unit.p_min_kw
        return above(k, t) - above(k, t - 1) <= most * (on[n, t] - start[n, t]) + first * start[n, t]

    def fall(k: int, t: int) -> Expr:
        n = found[k]
        unit, most = units[n], units[n].ramp_down_or_up_kw_s * 3600.0 * float(hours[t])
        last = unit.shut_down_or_rated_kw - unit.p_min_kw
        return above(k, t - 1) - above(k, t) <= most * (on[n, t] - start[n, t]) + last * stop[n, t]

    m.rows("unit_ramp_up", (len(found), T), rise)
    m.rows("unit_ramp_down", (len(found), T), fall)
    _add_edges(m, s)


def _add_edges(m: Model, s: Structure) -> None:
    """Output in the first and in the last step of a run."""
    units, on, start, stop = machines(s), m["on"], m["start"], m["stop"]
    L, T = m.shapes["above_kw"][1], s.steps
    spots = [(n, t, k) for n in edged(s) for t in range(T) for k in range(2)]

    def row(r: int) -> Expr:
        n, t, k = spots[r]
        unit = units[n]
        rated, up, down = unit.p_rated_kw, unit.start_up_or_rated_kw, unit.shut_down_or_rated_kw
        first, last = rated - up, rated - down
        if len(window(s, min(t + 1, T - 1), unit.min_up_s)) < 2:  # a run may be one step long
            first, last = (first, max(0.0, up - down)) if k == 0 else (max(0.0, down - up), last)
        ending = last * stop[n, t + 1] if t + 1 < T else 0.0
        given = sum(m["above_kw"][n, i, t] for i in range(L))
        return given <= _span(unit) * on[n, t] - first * start[n, t] - ending

    if spots:
        m.rows("run_edge", (len(spots),), row)


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """What each unit gives now."""
    if "above_before_kw" not in n.shapes:
        return
    found = sorted({*ramping(s), *edged(s)})
    units, first = machines(s), firsts(s)
    now = [p.gensets[first[k]] for k in found]
    n.par(
        "above_before_kw",
        np.array(
            [
                max(0.0, min(x.output_kw, units[k].p_rated_kw) - units[k].p_min_kw) if x.on else 0.0
                for k, x in zip(found, now, strict=True)
            ]
        ),
    )
