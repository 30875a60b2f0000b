"""What a rating allows: a mean load over 24 hours of operation, and hours in the year.

    sum of (part of D_i in the last 24 h of the plan) (p_i + floor_i - m P u_i - mean_over_i)  <=  room_t
    floor_i >= 0.3 P u_i - p_i,    floor_i >= 0                 less than 30 % counts as 30 %
    sum_t D_t u_t  -  year_over    <=  allowed - run this year

Standstill does not count. room_t is what the hours of operation before the plan leave, m P run - energy, as
many of them as the plan's part of the window leaves of 24; where fewer are known, the others are taken to
have been at the permitted mean, and what they were over it is not made up. Both are soft: a kWh over the mean
costs the rung `genset_care`, an hour over the year's the rung times the rating, and both are named.

Source: ISO 8528-1:2018, clauses on prime power (PRP: mean over 24 h at most 70 % unless the maker agrees to
more, powers under 30 % taken as 30 %, standstill not counted), limited-time (LTP: 500 h a year) and emergency
standby power (ESP: 200 h a year, mean at most 70 %).
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ems.assets import ISO_FLOOR_RATIO, ISO_MEAN_H, Rating
from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.fleets import firsts, machines
from optimizer.formulations.windows import overlap_h
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

SHOWN_H, SHOWN_KWH = 0.01, 0.1


def _rated(s: Structure) -> list[tuple[int, Rating]]:
    return [(n, u.rating) for n, u in enumerate(machines(s)) if u.rating is not None]


def _means(s: Structure) -> list[tuple[int, float]]:
    """Gensets with a highest mean load, and its ratio."""
    return [(n, x.mean_ratio_max) for n, x in _rated(s) if x.mean_ratio_max is not None]


def _years(s: Structure) -> list[tuple[int, float]]:
    """Gensets with hours in a year."""
    return [(n, x.year_h_max) for n, x in _rated(s) if x.year_h_max is not None]


def add(m: Model, s: Structure) -> None:
    """floor_kw, mean_over_kw (K, T), year_over_h (Y,)."""
    means, years, T, units = _means(s), _years(s), s.steps, machines(s)
    if means:
        K, L = len(means), m.shapes["above_kw"][1]
        floor, over, room = (
            m.var("floor_kw", K, T),
            m.var("mean_over_kw", K, T),
            m.par("mean_room_kwh", K, T),
        )

        def output(k: int, t: int) -> Expr:
            n = means[k][0]
            return units[n].p_min_kw * m["on"][n, t] + sum(m["above_kw"][n, i, t] for i in range(L))

        def counted(k: int, t: int) -> Expr:
            n, ratio = means[k]
            return output(k, t) + floor[k, t] - ratio * units[n].p_rated_kw * m["on"][n, t]

        def least(k: int, t: int) -> Expr:
            n = means[k][0]
            return output(k, t) + floor[k, t] >= ISO_FLOOR_RATIO * units[n].p_rated_kw * m["on"][n, t]

        def mean(k: int, t: int) -> Expr:
            parts = overlap_h(s, t, ISO_MEAN_H).items()
            return sum(h * (counted(k, i) - over[k, i]) for i, h in parts) <= room[k, t]

        m.rows("iso_floor", (K, T), least)
        m.rows("iso_mean", (K, T), mean)
    if years:
        left, more = m.par("year_left_h", len(years)), m.var("year_over_h", len(years))
        m.rows(
            "iso_year",
            (len(years),),
            lambda y: (
                sum(float(s.step_h[t]) * m["on"][years[y][0], t] for t in range(T)) <= left[y] + more[y]
            ),
        )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """What the past leaves, and prices."""
    means, years, first = _means(s), _years(s), firsts(s)
    care, units = ladder(s.site).genset_care_per_kwh, machines(s)
    if means:
        n.bound("floor_kw", 0.0, np.inf)
        n.bound("mean_over_kw", 0.0, np.inf)
        n.par("mean_room_kwh", np.array([p.gensets[first[k]].mean_room_kwh for k, _ in means]))
        n.price("rating_over", "mean_over_kw", care * s.step_h)
    if years:
        left = [most - p.gensets[first[k]].year_run_h for k, most in years]
        n.par("year_left_h", np.maximum(0.0, left))
        n.bound("year_over_h", 0.0, np.inf)
        n.price("rating_over", "year_over_h", care * np.array([units[k].p_rated_kw for k, _ in years]))


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Means and hours over what the rating allows."""
    for k, (n, ratio) in enumerate(_means(s)):
        if (over := float(v["mean_over_kw"][k] @ s.step_h)) > SHOWN_KWH:
            yield (
                f"{machines(s)[n].id}: mean load over {ISO_MEAN_H:g} h of operation above {ratio:.0%} of its "
                f"rating, by {over:.0f} kWh"
            )
    for k, (n, most) in enumerate(_years(s)):
        if (hours := float(v["year_over_h"][k])) > SHOWN_H:
            yield f"{machines(s)[n].id}: {hours:.1f} h more than the {most:g} h a year its rating allows"
