"""Starts in a day: at most so many planned in any 24 hours, those already made today counted until midnight.

    sum of v_i over starts i with tau_t - tau_i < 24 h   <=   most - (made today, while t is today) + over

`over` is what the plan starts more often than that, at the price of a quarter of an hour of its rating at
the highest VOLL: a start too many is made for load that would be lost, and for nothing else.
"""

from collections.abc import Iterator, Mapping
from zoneinfo import ZoneInfo

import numpy as np

from ems.timegrid import FloatArray
from optimizer.algebra import Model
from optimizer.fleets import firsts, machines
from optimizer.formulations.windows import window
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.schedule import hours_to_midnight
from optimizer.structure import Structure

DAY_S = 86400.0


def counted(s: Structure) -> list[int]:
    """Gensets whose starts are limited; never part of a fleet of more than one."""
    return [n for n, u in enumerate(machines(s)) if u.starts_per_day_max is not None]


def add(m: Model, s: Structure) -> None:
    """starts_over (U,)."""
    units = counted(s)
    if not units:
        return
    over, room, start = (
        m.var("starts_over", len(units)),
        m.par("starts_room", len(units), s.steps),
        m["start"],
    )
    day = [window(s, t, DAY_S) for t in range(s.steps)]
    m.rows(
        "starts_in_a_day",
        (len(units), s.steps),
        lambda k, t: sum(start[units[k], i] for i in day[t]) <= room[k, t] + over[k],
    )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """What is left of today's starts, and the price of one too many."""
    units = counted(s)
    if not units:
        return
    today = s.start_h < hours_to_midnight(p.grid.start, ZoneInfo(s.site.timezone)) - 1e-6
    gensets = [firsts(s)[k] for k in units]
    most = np.array([[machines(s)[k].starts_per_day_max] for k in units], dtype=np.float64)
    made = np.array([[p.gensets[g].starts_today] for g in gensets], dtype=np.float64)
    rated = np.array([s.site.gensets[g].p_rated_kw for g in gensets])
    n.par("starts_room", np.maximum(0.0, most - made * today))
    n.bound("starts_over", 0.0, np.inf)
    n.price("starts_over", "starts_over", rated * ladder(s.site).start_over_per_kw)


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Starts above the most of a day."""
    if "starts_over" not in v:
        return
    limited = [g for g in p.site.gensets if g.starts_per_day_max is not None]
    for genset, over in zip(limited, v["starts_over"], strict=True):
        if over > 0.01:
            yield f"{genset.id}: {over:.0f} starts more than its {genset.starts_per_day_max} a day"
