"""Demand charges: the month's highest billing interval, from the peak so far.

    sum of D_t / H_k * import_t over the steps t of interval k  +  history_k / H  <=  peak_m      k in month m
    peak_m >= base_m,   cost rate_m * (peak_m - base_m)

A step longer than the billing interval stands for all intervals inside it with its mean. A window may reach
into the next month, whose peak starts from zero.

Further charges (on-peak, contracted, kVA: tariff_parts.py) have the same rows for the intervals that count,
a floor that is billed in any case as base, and for apparent power a fan of tangents with the reactive power Q
that is drawn from the grid: planned where reactive power is, else all of the load's own:

    cos(a) P_k + sin(a) Q_k  <=  peak_m       a = 0, 12, ... 60 degrees

Source: tariffs bill the mean over fixed intervals (15, 30 or 60 min). What a window of days
is charged: docs/optimizer.md.
"""

import numpy as np

from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.formulations.reactive import asked
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure
from optimizer.tariff_parts import demand_cuts, demand_parts

OTHER_MONTH_KW = 1e6  # right-hand side that frees a row


def add(m: Model, s: Structure) -> None:
    """peak_kw of the present and of the next local month; part_peak_kw (parts, 2) of further charges."""
    peak = m.var("peak_kw", 2)
    room = m.par("demand_room_kw", 2, s.billed.count)
    means = [_mean(m, s, k) for k in range(s.billed.count)]
    m.rows("demand", (2, s.billed.count), lambda j, k: means[k] - peak[j] <= room[j, k])
    parts = demand_parts(s.site.tariff)
    if not parts:
        return
    cuts = demand_cuts(parts)
    own = m.var("part_peak_kw", len(parts), 2)
    reactive = [_mean_kvar(m, s, k) for k in range(s.billed.count)] if asked(s) else []
    free = m.par("part_room_kw", len(cuts), 2, s.billed.count)
    m.rows(
        "demand_part",
        (len(cuts), 2, s.billed.count),
        lambda c, j, k: (
            cuts[c].active_ratio * means[k]
            + (cuts[c].reactive_ratio * reactive[k] if cuts[c].reactive_ratio and reactive else 0.0)
            - own[cuts[c].part, j]
            <= free[c, j, k]
        ),
    )


def _mean(m: Model, s: Structure, k: int) -> Expr:
    """Mean import of interval k, from the steps in it [kW]."""
    steps, inside_h = s.billed.in_row(k)
    hours = max(s.interval_h, float(inside_h.max()))
    imported = m["import_kw"]
    return sum(h / hours * imported[int(t)] for t, h in zip(steps, inside_h, strict=True))


def _mean_kvar(m: Model, s: Structure, k: int) -> Expr:
    """Mean reactive power drawn in interval k, from the steps in it [kvar]."""
    steps, inside_h = s.billed.in_row(k)
    hours = max(s.interval_h, float(inside_h.max()))
    return sum(h / hours * m["grid_kvar"][0, int(t)] for t, h in zip(steps, inside_h, strict=True))


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Peak so far, open interval, month of each interval, rate."""
    room = np.full((2, s.billed.count), OTHER_MONTH_KW)
    for j, month in enumerate(p.months):
        room[j, s.billed.rows_of(month.steps)] = 0.0
    room[:, 0] -= p.history_kwh / s.interval_h
    base = np.array([m.base_kw for m in p.months])
    rate = np.array([m.rate_per_kw for m in p.months])
    n.par("demand_room_kw", room)
    n.bound("peak_kw", base, np.inf)
    n.price("demand", "peak_kw", rate)
    n.constant["demand"] = -float(rate @ base)
    if p.demand_parts:
        _part_numbers(n, p, s)


def _part_numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    cuts = demand_cuts(demand_parts(s.site.tariff))
    kvar = np.zeros(s.billed.count) if asked(s) else interval_kvar(p, s)
    room = np.full((len(cuts), 2, s.billed.count), OTHER_MONTH_KW)
    for c, cut in enumerate(cuts):
        for j, month in enumerate(p.demand_parts[cut.part]):
            at = s.billed.rows_of(month.steps)
            room[c, j, at] = -cut.reactive_ratio * kvar[at]
    room[:, :, 0] -= np.array([[c.active_ratio] for c in cuts]) * p.history_kwh / s.interval_h
    if asked(s):
        room[:, :, 0] -= np.array([[c.reactive_ratio] for c in cuts]) * p.history_kvarh / s.interval_h
    base = np.array([[m.base_kw for m in months] for months in p.demand_parts])
    rate = np.array([[m.rate_per_kw for m in months] for months in p.demand_parts])
    n.par("part_room_kw", room)
    n.bound("part_peak_kw", base, np.inf)
    n.price("demand_charges", "part_peak_kw", rate)
    n.constant["demand_charges"] = -float((rate * base).sum())


def interval_kvar(p: PlanningProblem, s: Structure) -> FloatArray:
    """(K,) mean reactive power of the load in each billing interval, none without mains [kvar]."""
    tangents = np.array([(1.0 / f.power_factor_ratio**2 - 1.0) ** 0.5 for f in p.site.feeders])
    kvar = (tangents @ p.load_kw if len(tangents) else np.zeros(p.steps)) * p.grid_available
    return s.billed.totals(kvar) / s.billed.hours_in()
