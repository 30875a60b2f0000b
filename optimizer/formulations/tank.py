"""Fuel in the tanks, step by step: where deliveries are announced, or a reserve of fuel is asked for.

    left_t = left_(t-1) + added_t - D_t fuel_t,       left_t + tank_short >= 0
    left_(t-1) + added_t <= tank - unusable,     added_t <= what is delivered since the start of step t-1
    sum_g left_g,t + fuel_short_t  >=  litres the critical load takes in `fuel_h` hours from then on

Only fuel above the unusable bottom counts. A delivery is there from the first step that starts after it; what
does not fit is not taken. What a plan burns before it has it is `tank_short`, as for the whole window
(genset_fuel.py). The reserve of fuel is reckoned at the rating of the genset that takes most per kWh. Being
short of all of it for `fuel_h` hours costs as much as being short of the same energy as reserve. Where the
level of a tank is not measured, no reserve of fuel is planned, and that is said.

Source: inventory balance; the guard is the "run-out" alarm of fuel management turned into a limit.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ems.site import Site
from ems.timegrid import FloatArray
from optimizer.algebra import Model
from optimizer.fleets import firsts
from optimizer.formulations.genset_fuel import TANK_UNKNOWN_L, fuel_l_h
from optimizer.formulations.reserve import critical
from optimizer.formulations.survival import energy_ahead_kwh
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

SHOWN_L = 1.0


def stocked(site: Site) -> list[int]:
    """Gensets whose tank is followed step by step; each is a fleet of its own."""
    every, delivered = site.reserve.fuel_h > 0.0, {d.asset for d in site.deliveries}
    return [g for g, x in enumerate(site.gensets) if every or x.id in delivered]


def _places(s: Structure) -> list[tuple[int, int]]:
    """(place in the model, genset) of those."""
    first = firsts(s)
    return [(first.index(g), g) for g in stocked(s.site)]


def add(m: Model, s: Structure) -> None:
    """left_l, added_l (K, T), and fuel_short_l (T,) where a reserve is asked for."""
    found, T = _places(s), s.steps
    if not found:
        return
    K = len(found)
    left, added, begin = m.var("left_l", K, T), m.var("added_l", K, T), m.par("left_before_l", K)
    m.rows(
        "tank_level",
        (K, T),
        lambda k, t: (
            left[k, t] - (left[k, t - 1] if t else begin[k]) - added[k, t]
            == -float(s.step_h[t]) * fuel_l_h(m, s, found[k][0], t)
        ),
    )
    room = m.par("tank_room_l", K)
    m.rows(
        "tank_full",
        (K, T),
        lambda k, t: (left[k, t - 1] if t else begin[k]) + added[k, t] <= room[k],
    )
    m.rows("tank_dry", (K, T), lambda k, t: left[k, t] + m["tank_short_l"][found[k][0]] >= 0.0)
    if s.site.reserve.fuel_h > 0.0:
        short, asked = m.var("fuel_short_l", T), m.par("fuel_asked_l", T)
        m.rows("fuel_reserve", (T,), lambda t: sum(left[k, t] for k in range(K)) + short[t] >= asked[t])


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Levels, deliveries, and how much is to be left."""
    found = _places(s)
    if not found:
        return
    there = [p.gensets[g] if p.gensets[g].available else None for _, g in found]
    level = np.array([0.0 if x is None else min(x.fuel_l, TANK_UNKNOWN_L) for x in there])
    room = np.array([s.site.gensets[g].tank_usable_l for _, g in found])
    none = (0.0,) * s.steps  # what is brought to a genset that is away helps nobody
    given = np.array([none if x is None or not x.delivered_l else x.delivered_l for x in there])
    n.par("left_before_l", level)
    n.par("tank_room_l", np.maximum(room, level))
    n.bound("left_l", -np.inf, np.inf)
    n.bound("added_l", 0.0, given)
    if "fuel_asked_l" in n.shapes:
        policy = s.site.reserve
        n.par("fuel_asked_l", asked_l(p, s))
        n.bound("fuel_short_l", 0.0, np.inf)
        price = ladder(s.site).reserve_per_kwh / most_l_per_kwh(s.site) / policy.fuel_h
        n.price("fuel_reserve_short", "fuel_short_l", price * s.step_h)


def most_l_per_kwh(site: Site) -> float:
    """Fuel per kWh at rating of the genset that takes most [L/kWh]."""
    return max(g.fuel_l_h[-1] / g.fuel_kw[-1] for g in site.gensets)


def levels_known(p: PlanningProblem) -> bool:
    """Whether every tank is measured."""
    return bool(np.isfinite([x.fuel_l for x in p.gensets if x.available]).all())


def asked_l(p: PlanningProblem, s: Structure) -> FloatArray:
    """(T,) litres that are to be left at the end of each step."""
    if not levels_known(p):
        return np.zeros(p.steps)
    kw = p.load_kw[critical(s.site)].sum(axis=0) + sum(b.battery.aux_kw for b in s.site.bess)
    return energy_ahead_kwh(kw, s.step_h, s.site.reserve.fuel_h) * most_l_per_kwh(s.site)


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Fuel that the reserve lacks, or why none is planned."""
    if "fuel_short_l" not in v:
        return
    if not levels_known(p):
        yield "fuel reserve: the level of a tank is not measured, so none is planned"
    elif (worst := float(v["fuel_short_l"].max())) > SHOWN_L:
        at = p.grid.starts()[int(np.argmax(v["fuel_short_l"]))]
        yield (
            f"fuel reserve: up to {worst:.0f} L less than {p.site.reserve.fuel_h:g} h of critical load take, "
            f"at {at:%d %H:%M} UTC"
        )
