"""Fleets: identical gensets as one integer count, and back to single machines.

A fleet of n machines has one `on`, `start` and `stop` from 0 to n instead of n of each, so that a solver does
not search through n! equal plans. Nothing is lost, whatever their ages: machines that must still run or rest
from before are counted beside those of the plan (genset_commitment.py), so the machines that run longest can
always be the ones that stop, and rested ones are there to start (`single_machines`); running machines share
load equally, optimal for a convex cost. The solve to 0.1 % of 24 h in quarters of an hour with three machines
takes a third of what it takes with each on its own and ordered (docs/optimizer.md, "Speed").

In a plant what tells machines apart comes and goes: one that is starting, or has a window of maintenance, is
planned on its own (`fleets_of`). Their tanks are one; where the plan, taken apart, would empty one of them,
the problem is solved again with each on its own (`tanks_hold`).
"""

from collections.abc import Sequence
from dataclasses import MISSING, fields, replace
from itertools import accumulate

import numpy as np

from ems.assets import GensetParams, Sharing
from ems.errors import InvariantBroken
from ems.site import Site
from ems.timegrid import FloatArray
from optimizer.problem import GensetStart, PlanningProblem
from optimizer.segments import fuel_segments
from optimizer.structure import Structure

EPS_H = 1e-6
TANK_L = 0.1  # a tank may be overdrawn by so much, as in the notes
# options of a genset that a fleet can have, and what of the past may differ within one
COUNTED = frozenset(("quiet", "cold_start_cost", "cold_after_s", "tank_unusable_l"))
HISTORY = frozenset(("available", "on", "age_h", "ready_h", "fuel_l", "output_kw"))


def identical(a: GensetParams, b: GensetParams) -> bool:
    """Same machine under another name."""
    return replace(a, id="") == replace(b, id="")


def leaders(site: Site) -> tuple[int, ...]:
    """(G,) for each machine the first of those side by side that it can be counted with, itself if alone."""
    first: list[int] = []
    for g in range(len(site.gensets)):
        first.append(first[-1] if first and _together(site, first[-1], g) else g)
    return tuple(first)


def fleets_of(
    site: Site, starts: Sequence[GensetStart] | None = None, lead: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Sizes of the fleets that machines side by side can form; () if each is on its own.

    Parameters
    ----------
    starts : where each machine starts; None: whatever could be.
    lead : `leaders(site)`, where it is known.
    """
    lead = leaders(site) if lead is None else lead
    groups: list[list[int]] = []
    for g, unit in enumerate(site.gensets):
        first = groups[-1][0] if groups else g
        if first != g and lead[first] == lead[g] and _alike(unit, starts, first, g):
            groups[-1].append(g)
        else:
            groups.append([g])
    sizes = tuple(len(x) for x in groups)
    return sizes if max(sizes, default=1) > 1 else ()


def _together(site: Site, a: int, b: int) -> bool:
    """Identical machines of a kind that can be counted, with equal rights to form an island.

    An option that is set and not among COUNTED tells machines apart: its constraints know single ones only.
    So do permitted sets of sources.
    """
    if site.sources is not None:
        return False
    one, other = site.gensets[a], site.gensets[b]
    options = [f for f in fields(one) if f.default is not MISSING and f.name not in COUNTED]
    partners = [g for g in site.gensets if g.sharing is Sharing.PROPORTIONAL]
    if one.sharing is Sharing.PROPORTIONAL and not all(identical(one, g) for g in partners):
        return False  # they share with others, one by one (sharing.py)
    if one.p_rated_kw > 60.0 * one.ramp_kw_s:
        return False  # ramps may bind in a short step, and are those of single machines (ramps.py)
    if site.reserve.fuel_h > 0.0 or {d.asset for d in site.deliveries} & {one.id, other.id}:
        return False  # tanks are followed one by one (tank.py)
    forms = {x.id in site.forming.islanded for x in (one, other)}
    return (
        identical(one, other) and len(forms) == 1 and all(getattr(one, f.name) == f.default for f in options)
    )


def _alike(unit: GensetParams, starts: Sequence[GensetStart] | None, a: int, b: int) -> bool:
    """Whether histories differ only in what can be counted: who is there, on, since when, with what fuel."""
    if starts is None:
        return True
    one, other = starts[a], starts[b]
    if unit.cold_start_cost is not None or one.starting or one.blocked or one.must:
        return one == other and not one.starting  # hot starts are counted for equal ages only
    same = {f.name: getattr(one, f.name) for f in fields(one) if f.name in HISTORY}
    return replace(other, **same) == one


def sizes(s: Structure) -> list[int]:
    """Machines of each fleet, in the order of the site; all 1 unless the formulation forms fleets."""
    return list(s.formulation.fleets) if s.formulation.fleets else [1] * len(s.site.gensets)


def firsts(s: Structure) -> list[int]:
    """Index of the first machine of each fleet."""
    return list(accumulate([0, *sizes(s)[:-1]])) if sizes(s) else []


def machines(s: Structure) -> list[GensetParams]:
    """The machine that each fleet is made of."""
    return [s.site.gensets[g] for g in firsts(s)]


def starts_of(s: Structure, p: PlanningProblem) -> list[GensetStart]:
    """Where the first machine of each fleet starts."""
    return [p.gensets[g] for g in firsts(s)]


def single_machines(s: Structure, p: PlanningProblem, v: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Values with `on`, `start`, `stop` (G, T), `above_kw` (G, L, T), `tank_short_l` (G,) by machine."""
    if not s.formulation.fleets:
        return v
    on = np.concatenate([_lives(s, p, v, n) for n in range(len(sizes(s)))])
    before = np.array([[float(x.on)] for x in p.gensets])
    moved = np.diff(on, axis=1, prepend=before)
    fleet = np.repeat(np.arange(len(sizes(s))), sizes(s))
    running = np.add.reduceat(on, firsts(s), axis=0)[fleet]
    share = np.divide(on, running, out=np.zeros_like(on), where=running > 0.0)
    return v | {
        "on": on,
        "start": np.maximum(0.0, moved),
        "stop": np.maximum(0.0, -moved),
        "above_kw": v["above_kw"][fleet] * share[:, None, :],
        "tank_short_l": v["tank_short_l"][fleet] / np.array(sizes(s))[fleet],
    }


def _lives(s: Structure, p: PlanningProblem, v: dict[str, FloatArray], n: int) -> FloatArray:
    """(size, T) which machines of fleet `n` are on: the longest running stop, warm ones start first.

    Among warm machines the one that would be cold first is started, which makes as many starts hot as can be
    (Glover, Naval Research Logistics Quarterly 14(3), 1967, 10.1002/nav.3800140304). In the relaxed tail the
    count fills those that ran last, one after the other.
    """
    first, size, unit = firsts(s)[n], sizes(s)[n], machines(s)[n]
    members = p.gensets[first : first + size]
    on, since = [x.on for x in members], [-x.age_h for x in members]
    rest_h, cold_h = unit.min_down_s / 3600.0 - EPS_H, unit.cold_after_s / 3600.0 + EPS_H
    out = np.zeros((size, s.steps))
    head = s.steps if p.integral.all() else int(np.argmin(p.integral))
    out[:, : min(1, head)] = np.array([on]).T  # what changes, until it is summed up
    stopped, started = (np.rint(v[name][n, :head]).astype(np.int64) for name in ("stop", "start"))
    moved = np.flatnonzero(stopped + started)
    moves = zip(*(x[moved].tolist() for x in (s.start_h, stopped, started)), strict=True)
    for t, (now, stops, starts) in zip(moved.tolist(), moves, strict=True):
        rested = [k for k in range(size) if members[k].available and not on[k] and now - since[k] >= rest_h]
        ready = sorted(rested, key=lambda k: (now - since[k] > cold_h, since[k]))
        oldest = sorted((k for k in range(size) if on[k]), key=lambda k: since[k])
        if stops > len(oldest) or starts > len(ready):
            raise InvariantBroken(f"a fleet of {unit.id} cannot be taken apart in step {t}")
        for k in (*oldest[:stops], *ready[:starts]):
            on[k], since[k] = not on[k], now
            out[k, t] += 1.0 if on[k] else -1.0
    out[:, :head] = np.cumsum(out[:, :head], axis=1)
    there = [k for k in range(size) if members[k].available]
    for place, k in enumerate(sorted(there, key=lambda k: not on[k])):
        out[k, head:] = np.minimum(np.maximum(v["on"][n, head:] - place, 0.0), 1.0)
    return out


def tanks_hold(s: Structure, p: PlanningProblem, v: dict[str, FloatArray]) -> bool:
    """Whether each machine's own tank lasts as long as the tank of its fleet does."""
    if not s.formulation.fleets:
        return True
    ends = [a + b for a, b in zip(firsts(s), sizes(s), strict=True)]
    least_l = [min(x.fuel_l for x in p.gensets[a:b]) for a, b in zip(firsts(s), ends, strict=True)]
    if all(_used_l(s, unit, n, v) <= least_l[n] + TANK_L for n, unit in enumerate(machines(s))):
        return True  # one of them could give all that its fleet burns
    single = single_machines(s, p, v)
    return all(
        _used_l(s, unit, g, single) <= start.fuel_l + float(single["tank_short_l"][g]) + TANK_L
        for g, (unit, start) in enumerate(zip(s.site.gensets, p.gensets, strict=True))
    )


def _used_l(s: Structure, unit: GensetParams, row: int, v: dict[str, FloatArray]) -> float:
    """Fuel of a row of `on` and `above_kw`, a machine or a fleet [L]."""
    piece = fuel_segments(unit)
    slopes = piece.slope_l_kwh @ v["above_kw"][row, : len(piece.slope_l_kwh)]
    return float((piece.idle_l_h * v["on"][row] + slopes) @ s.step_h)
