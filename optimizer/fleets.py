"""Fleets: identical gensets with equal histories as one integer count, and back to single machines.

A fleet of n machines has one `on`, `start` and `stop` from 0 to n instead of n of each, so that a solver does
not search through n! equal plans. Nothing is lost: with at most as many machines starting or resting as the
windows of the minimum times allow, the machines that run longest can always be the ones that stop, and rested
ones are there to start (`single_machines`); running machines share load equally, optimal for a convex cost.

Only cases form fleets: in a plant machines have their own ages, tanks and faults.
"""

import numpy as np

from ems.assets import GensetParams
from ems.errors import InvariantBroken
from ems.timegrid import FloatArray
from optimizer.problem import GensetStart, PlanningProblem
from optimizer.structure import Structure

EPS_H = 1e-6


def sizes(s: Structure) -> list[int]:
    """Machines of each fleet, in the order of the site; all 1 unless the formulation forms fleets."""
    return list(s.formulation.fleets) if s.formulation.fleets else [1] * len(s.site.gensets)


def firsts(s: Structure) -> list[int]:
    """Index of the first machine of each fleet."""
    return [int(x) for x in np.cumsum([0, *sizes(s)])[:-1]]


def machines(s: Structure) -> list[GensetParams]:
    """The machine that each fleet is made of."""
    return [s.site.gensets[g] for g in firsts(s)]


def starts_of(s: Structure, p: PlanningProblem) -> list[GensetStart]:
    """Where the machines of each fleet start; equal within a fleet."""
    out = []
    for first, size in zip(firsts(s), sizes(s), strict=True):
        members = p.gensets[first : first + size]
        if any(x != members[0] for x in members):
            raise InvariantBroken(
                f"machines of the fleet of {s.site.gensets[first].id} have unequal histories"
            )
        out.append(members[0])
    return out


def single_machines(s: Structure, p: PlanningProblem, v: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Values with `on`, `start`, `stop` (G, T), `above_kw` (G, L, T), `tank_short_l` (G,) by machine."""
    if not s.formulation.fleets:
        return v
    on = np.concatenate([_lives(s, p, v, n) for n in range(len(sizes(s)))])
    before = np.array([[float(x.on)] for x in p.gensets])
    moved = np.diff(on, axis=1, prepend=before)
    fleet = np.repeat(np.arange(len(sizes(s))), sizes(s))
    running = np.maximum(1.0, np.round(v["on"]))[fleet]
    return v | {
        "on": on,
        "start": np.maximum(0.0, moved),
        "stop": np.maximum(0.0, -moved),
        "above_kw": v["above_kw"][fleet] / running[:, None, :] * on[:, None, :],
        "tank_short_l": v["tank_short_l"][fleet] / np.array(sizes(s))[fleet],
    }


def _lives(s: Structure, p: PlanningProblem, v: dict[str, FloatArray], n: int) -> FloatArray:
    """(size, T) which machines of fleet `n` are on: the longest running stop, warm ones start first.

    Among warm machines the one that would be cold first is started, which makes as many starts hot as can be
    (Glover, Naval Research Logistics Quarterly 14(3), 1967, 10.1002/nav.3800140304).
    """
    first, size, unit = firsts(s)[n], sizes(s)[n], machines(s)[n]
    on = [x.on for x in p.gensets[first : first + size]]
    since = [-x.age_h for x in p.gensets[first : first + size]]
    rest_h, cold_h = unit.min_down_s / 3600.0 - EPS_H, unit.cold_after_s / 3600.0 + EPS_H
    out = np.zeros((size, s.steps))
    for t in range(s.steps):
        now = float(s.start_h[t])
        stops, starts = round(float(v["stop"][n, t])), round(float(v["start"][n, t]))
        rested = [k for k in range(size) if not on[k] and now - since[k] >= rest_h]
        ready = sorted(rested, key=lambda k: (now - since[k] > cold_h, since[k]))
        oldest = sorted((k for k in range(size) if on[k]), key=lambda k: since[k])
        if stops > len(oldest) or starts > len(ready):
            raise InvariantBroken(f"a fleet of {unit.id} cannot be taken apart in step {t}")
        for k in (*oldest[:stops], *ready[:starts]):
            on[k], since[k] = not on[k], now
        out[:, t] = on
    return out
