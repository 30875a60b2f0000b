"""Demand charge: the month's highest billing interval, from the peak so far.

    sum of D_t / H_k * import_t over the steps t of interval k  +  history_k / H  <=  peak_m      k in month m
    peak_m >= base_m,   cost rate_m * (peak_m - base_m)

A step longer than the billing interval stands for all intervals inside it with its mean. A window may reach
into the next month, whose peak starts from zero.

Source: tariffs bill the mean over fixed intervals (15, 30 or 60 min). What a window of days
is charged: docs/optimizer.md.
"""

import numpy as np

from optimizer.algebra import Model
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

OTHER_MONTH_KW = 1e6  # right-hand side that frees a row


def add(m: Model, s: Structure) -> None:
    """peak_kw of the present and of the next local month."""
    peak = m.var("peak_kw", 2)
    room = m.par("demand_room_kw", 2, s.intervals)
    members = [np.flatnonzero(s.interval == k) for k in range(s.intervals)]
    hours = [max(s.interval_h, float(s.step_h[i].max())) for i in members]
    imported = m["import_kw"]
    m.rows(
        "demand",
        (2, s.intervals),
        lambda j, k: (
            sum(s.step_h[t] / hours[k] * imported[int(t)] for t in members[k]) - peak[j] <= room[j, k]
        ),
    )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Peak so far, open interval, month of each interval, rate."""
    room = np.full((2, s.intervals), OTHER_MONTH_KW)
    for j, month in enumerate(p.months):
        room[j, np.unique(s.interval[month.steps])] = 0.0
    room[:, 0] -= p.history_kwh / s.interval_h
    base = np.array([m.base_kw for m in p.months])
    rate = np.array([m.rate_per_kw for m in p.months])
    n.par("demand_room_kw", room)
    n.bound("peak_kw", base, np.inf)
    n.price("demand", "peak_kw", rate)
    n.constant["demand"] = -float(rate @ base)
