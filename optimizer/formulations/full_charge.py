"""A full charge at intervals, so that the battery's estimate of its charge is calibrated.

    sum_i begin_i + going + missed >= need,                         begin_i, going in {0, 1}
    e_t >= E_max sum of begin_i over the i whose hold covers t,     e_t >= E_max (going + rest_t - 1)
    late cost L_i begin_i + L_missed missed

begin_i: the store is full when step i begins and stays so for the time it has to be held; the hold covers
the end of step i - 1 and of every step that it touches. going: a hold in progress goes on, rest_t = 1 in the
steps it still takes. need = 1 when the charge falls due in the window. L_i is what the hours after the due
date cost until the hold of i is over, L_missed what they cost to the end of the window and a hold later. A
start is whole where commitment is; in the relaxed tail it is an opinion, and comes nearer as time goes on.

Sources: recalibration of the state of charge at full charge, as makers of LFP cells ask for: G. L. Plett,
"Battery Management Systems, Volume I: Battery Modeling", Artech House, 2015 (flat open-circuit voltage: the
error of counting current shows near full only). A start variable with a window, as for minimum up times: D.
Rajan, S. Takriti, IBM Research Report RC23628, 2005.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ems.assets import BatteryParams
from ems.battery_terms import FullCharge
from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

EPS_H = 1e-6


def charged(s: Structure) -> list[tuple[int, BatteryParams, FullCharge]]:
    """Batteries that are charged full at intervals, with their place among all."""
    units = [(b, x.battery, x.battery.full_charge) for b, x in enumerate(s.site.bess)]
    return [(b, p, f) for b, p, f in units if f is not None]


def covering(s: Structure, hold_h: float) -> list[list[int]]:
    """For each step, the steps in which a hold that covers its end may have begun."""
    return [
        [i for i in range(min(t + 2, s.steps)) if i == t + 1 or s.start_h[t] < s.start_h[i] + hold_h - EPS_H]
        for t in range(s.steps)
    ]


def late_h(s: Structure, hold_h: float, due_h: float) -> FloatArray:
    """(T,) hours after the due date at which a hold that begins with each step is over."""
    out: FloatArray = np.maximum(0.0, s.start_h + hold_h - max(0.0, due_h))
    return out


def add(m: Model, s: Structure) -> None:
    """full_begin_b (T,), full_going_b, full_missed_b (1,)."""
    for b, p, f in charged(s):
        begin, going = m.var(f"full_begin_{b}", s.steps), m.var(f"full_going_{b}", 1)
        missed, need = m.var(f"full_missed_{b}", 1), m.par(f"full_need_{b}", 1)
        rest = m.par(f"full_rest_{b}", s.steps)
        may, full_kwh = covering(s, f.hold_s / 3600.0), p.soc_max * p.energy_kwh

        def once(
            k: int, begin: Expr = begin, going: Expr = going, missed: Expr = missed, need: Expr = need
        ) -> Expr:
            return sum(begin[i] for i in range(s.steps)) + going[k] + missed[k] >= need[k]

        def holds(
            t: int, b: int = b, begin: Expr = begin, may: list[list[int]] = may, full: float = full_kwh
        ) -> Expr:
            return m["stored_kwh"][b, t] - full * sum(begin[i] for i in may[t]) >= 0.0

        def goes_on(
            t: int, b: int = b, going: Expr = going, rest: Expr = rest, full: float = full_kwh
        ) -> Expr:
            return m["stored_kwh"][b, t] - full * (going[0] + rest[t]) >= -full

        m.rows(f"full_once_{b}", (1,), once)
        m.rows(f"full_holds_{b}", (s.steps,), holds)
        m.rows(f"full_goes_on_{b}", (s.steps,), goes_on)


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Whether it is due, where it may begin, what late costs."""
    window_h = float(s.start_h[-1] + s.step_h[-1])
    for b, _, f in charged(s):
        care, hold_h = p.bess[b].care, f.hold_s / 3600.0
        need = p.bess[b].available and care.full_due_h <= window_h
        late = late_h(s, hold_h, care.full_due_h)
        possible = need & (s.start_h + hold_h <= window_h + EPS_H) & ((s.start_h > 0.0) | care.full_now)
        goes = need and care.full_rest_h > 0.0 and care.full_rest_h <= window_h
        n.par(f"full_need_{b}", float(need))
        n.par(f"full_rest_{b}", np.where(s.start_h < care.full_rest_h - EPS_H, float(goes), 0.0))
        n.bound(f"full_begin_{b}", 0.0, possible.astype(np.float64))
        n.whole(f"full_begin_{b}", possible & p.integral)
        n.bound(f"full_going_{b}", 0.0, float(goes))
        n.whole(f"full_going_{b}", np.array([goes]))
        n.bound(f"full_missed_{b}", 0.0, 1.0)
        due_h = max(0.0, care.full_due_h)
        going_h = max(0.0, care.full_rest_h - due_h) * goes
        missed_h = window_h + hold_h - due_h if need else 0.0
        n.price("full_charge", f"full_begin_{b}", f.late_cost_per_h * np.where(possible, late, 0.0))
        n.price("full_charge", f"full_going_{b}", f.late_cost_per_h * going_h)
        n.price("full_charge", f"full_missed_{b}", f.late_cost_per_h * missed_h)


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """A full charge that comes late or not at all."""
    for b, _, f in charged(s):
        name, care = s.site.bess[b].id, p.bess[b].care
        if v[f"full_missed_{b}"][0] > 0.5:
            yield f"{name}: its full charge for calibration is due and finds no place in this window"
            continue
        begin = v[f"full_begin_{b}"]
        late = float(late_h(s, f.hold_s / 3600.0, care.full_due_h) @ begin)
        if begin.max() > 0.5 and late > 0.01:
            yield f"{name}: its full charge for calibration comes {late:.1f} h late"
