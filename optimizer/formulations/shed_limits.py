"""How often and how long a feeder is shed: in a day, and at a stretch. Soft, each excess named.

    sum of a_i over openings i with tau_t - tau_i < 24 h     <=  most - (made today, while t is today) + over
    sum of D_i o_i over steps i of the 24 h that end with t  <=  most - (open today, while t is today) + over
    sum of o_i over the steps i of a stretch longer than S that ends with t  <=  their number - 1 + s_t

The last is a row for each step t that such a stretch can end with, those begun before the plan with a feeder
that is open now included. An opening or an hour too many costs an hour of the feeder's peak at its own VOLL:
another feeder of the same tier is taken instead. Only plans that shed feeders whole (shedding.py) have
these rows; in the relaxed tail they count shares.

Source: counted windows as for starts in a day (starts.py).
"""

from collections.abc import Iterator, Mapping
from zoneinfo import ZoneInfo

import numpy as np

from ems.assets import FeederParams
from ems.timegrid import FloatArray
from optimizer.algebra import Model
from optimizer.formulation import Shedding
from optimizer.formulations.windows import EPS_H, window
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.schedule import hours_to_midnight
from optimizer.structure import Structure

DAY_H = 24.0
SHOWN = 0.01


def _whole(s: Structure) -> bool:
    return s.formulation.shedding is Shedding.WHOLE


def _behind(s: Structure) -> list[FeederParams]:
    return [f for f in s.site.feeders if f.has_breaker]


def by_count(s: Structure) -> list[int]:
    """Places among the feeders behind breakers of those shed at most so often in a day."""
    return [k for k, f in enumerate(_behind(s)) if f.sheds_per_day_max is not None]


def by_hours(s: Structure) -> list[int]:
    """The same of those shed at most so long in a day."""
    return [k for k, f in enumerate(_behind(s)) if f.shed_per_day_s_max is not None]


def by_stretch(s: Structure) -> list[int]:
    """The same of those shed at most so long at a stretch."""
    return [k for k, f in enumerate(_behind(s)) if f.shed_stretch_s_max is not None]


def _longest_s(unit: FeederParams) -> float:
    return 0.0 if unit.shed_stretch_s_max is None else unit.shed_stretch_s_max


def stretch(s: Structure, t: int, length_s: float) -> list[int]:
    """The fewest steps that end with t and last longer than `length_s`; from the first step on if none do."""
    first, hours = t, float(s.step_h[t])
    while hours <= length_s / 3600.0 + EPS_H and first > 0:
        first -= 1
        hours += float(s.step_h[first])
    return list(range(first, t + 1))


def add(m: Model, s: Structure) -> None:
    """sheds_over, shed_hours_over (feeders with such a limit), shed_stretch_over (feeders, T)."""
    if not _whole(s):
        return
    count, hours, long = by_count(s), by_hours(s), by_stretch(s)
    units, T = _behind(s), s.steps
    if count:
        over, room, opens = (
            m.var("sheds_over", len(count)),
            m.par("sheds_room", len(count), T),
            m["feeder_opens"],
        )
        day = [window(s, t, 3600.0 * DAY_H) for t in range(T)]
        m.rows(
            "sheds_in_a_day",
            (len(count), T),
            lambda k, t: sum(opens[count[k], i] for i in day[t]) <= room[k, t] + over[k],
        )
    if hours:
        more, left = m.var("shed_hours_over", len(hours)), m.par("shed_hours_room", len(hours), T)
        is_open = m["feeder_open"]
        ends = s.start_h + s.step_h
        within = [[i for i in range(t + 1) if s.start_h[i] > ends[t] - DAY_H - EPS_H] for t in range(T)]
        m.rows(
            "shed_hours_in_a_day",
            (len(hours), T),
            lambda k, t: (
                sum(float(s.step_h[i]) * is_open[hours[k], i] for i in within[t]) <= left[k, t] + more[k]
            ),
        )
    if long:
        extra, limit = m.var("shed_stretch_over", len(long), T), m.par("shed_stretch_room", len(long), T)
        is_open = m["feeder_open"]
        runs = [[stretch(s, t, _longest_s(units[k])) for t in range(T)] for k in long]
        m.rows(
            "shed_stretch",
            (len(long), T),
            lambda k, t: sum(is_open[long[k], i] for i in runs[k][t]) <= limit[k, t] + extra[k, t],
        )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """What is left of today's sheddings, and the price of one too many."""
    if not _whole(s):
        return
    units = _behind(s)
    place = [i for i, f in enumerate(s.site.feeders) if f.has_breaker]
    today_h = hours_to_midnight(p.grid.start, ZoneInfo(s.site.tariff.timezone)) - 1e-6
    today = s.start_h < today_h
    peak_hour = np.array([f.voll_per_kwh * f.p_peak_kw for f in units])
    if count := by_count(s):
        most = np.array([[float(x)] for k in count if (x := units[k].sheds_per_day_max) is not None])
        made = np.array([[float(p.feeder_use[place[k]].sheds)] for k in count])
        n.par("sheds_room", np.maximum(0.0, most - made * today))
        n.bound("sheds_over", 0.0, np.inf)
        n.price("sheds_over", "sheds_over", peak_hour[count])
    if hours := by_hours(s):
        least = np.array([[y / 3600.0] for k in hours if (y := units[k].shed_per_day_s_max) is not None])
        gone = np.array([[p.feeder_use[place[k]].open_s / 3600.0] for k in hours])
        n.par("shed_hours_room", np.maximum(0.0, least - gone * today))
        n.bound("shed_hours_over", 0.0, np.inf)
        n.price("sheds_over", "shed_hours_over", peak_hour[hours])
    if long := by_stretch(s):
        n.par("shed_stretch_room", np.array([_stretch_room(p, s, units[k], place[k]) for k in long]))
        n.bound("shed_stretch_over", 0.0, np.inf)
        n.price("sheds_over", "shed_stretch_over", peak_hour[long][:, None] * s.step_h)


def _stretch_room(p: PlanningProblem, s: Structure, unit: FeederParams, feeder: int) -> FloatArray:
    """(T,) how many of the steps of the stretch that ends with each step may be open."""
    limit_h = _longest_s(unit) / 3600.0
    before_h = p.feeder_use[feeder].stretch_s / 3600.0 if p.feeder_open[feeder] else 0.0
    out = np.zeros(s.steps)
    for t in range(s.steps):
        steps = stretch(s, t, 3600.0 * limit_h)
        hours = float(s.step_h[steps].sum())
        too_long = hours > limit_h + EPS_H or (steps[0] == 0 and before_h + hours > limit_h + EPS_H)
        out[t] = len(steps) - float(too_long)
    return out


def missed(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """(T,) what a solution has priced as missed, by feeder and limit; of a day: its most in any."""
    units, out = _behind(s), dict[str, FloatArray]()
    for name, which, key in (
        ("sheds_over", by_count(s), "sheds_over_count"),
        ("shed_hours_over", by_hours(s), "shed_over_h"),
    ):
        if name in v:
            out |= {f"{units[k].id}_{key}": np.full(s.steps, v[name][j]) for j, k in enumerate(which)}
    if "shed_stretch_over" in v:
        found = v["shed_stretch_over"] * s.step_h
        out |= {f"{units[k].id}_shed_stretch_over_h": found[j] for j, k in enumerate(by_stretch(s))}
    return {k: row for k, row in out.items() if row.max() > SHOWN}


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Feeders shed too often or too long."""
    found = missed(p, s, v)
    for f in _behind(s):
        if (row := found.get(f"{f.id}_sheds_over_count")) is not None:
            yield f"{f.id}: shed {row.max():.0f} times more than its {f.sheds_per_day_max} a day"
        if (row := found.get(f"{f.id}_shed_over_h")) is not None and f.shed_per_day_s_max is not None:
            yield f"{f.id}: shed {row.max():.2f} h longer than its {f.shed_per_day_s_max / 3600.0:g} h a day"
        if (row := found.get(f"{f.id}_shed_stretch_over_h")) is not None and f.shed_stretch_s_max is not None:
            yield (
                f"{f.id}: shed {row.sum():.2f} h beyond its {f.shed_stretch_s_max / 3600.0:g} h at a stretch"
            )
