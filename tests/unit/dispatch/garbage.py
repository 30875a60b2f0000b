"""Garbage plans by the thousand, and a judge of plans that shares no code with the edge's check.

The judge replays the batteries through the physics and works out every limit anew, with arrays. It may be
wrong in one direction only: what it calls broken is broken.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np

from ems.plan import Plan
from ems.site import GridMode, Site
from ems.timegrid import TimeGrid
from plant_models import battery
from tests.unit.dispatch.plans import ISLAND, TIED, plan_of

GROUPS = (
    "bess_p_kw",
    "bess_soc_end",
    "genset_on",
    "genset_p_kw",
    "pv_p_kw",
    "shed_kw",
    "load_kw",
    "pv_available_kw",
)
SOURCES = (("genset_p_kw", "gen1"), ("genset_p_kw", "gen2"), ("pv_p_kw", "pv1"), ("bess_p_kw", "bess1"))
ODD = (math.nan, math.inf, -math.inf, 1e308, -1e308, 1e9, -1e9, 0.0, -0.0, 0.5, 1.0, 65535.0, -32768.0)
NO_NUMBER: tuple[Any, ...] = (None, "12", "", [], {}, object(), b"\x00")
TOL_KW, TOL_SOC = 1.01, 0.021

Rng = np.random.Generator


def sound(site: Site, start: datetime, rng: Rng) -> Plan:
    """A plan to begin with: whole and consistent, tied, islanded or both, often at the edge of some limit."""
    n = int(rng.integers(3, 9))
    mode = [TIED if rng.random() < 0.7 else ISLAND for _ in range(n)] if rng.random() < 0.4 else [TIED] * n
    on = rng.random() < 0.5
    gen = np.round(rng.uniform(120.0, 400.0, n) if rng.random() < 0.5 else np.full(n, 200.0)) * on
    pv = np.round(rng.uniform(0.0, 250.0, n) * (rng.random() < 0.6))
    load = float(rng.uniform(150.0, 420.0))
    most = float(rng.choice([60.0, 250.0, 500.0]))
    bess = np.clip(np.round(rng.normal(0.0, 0.5 * most, n)), -most, most)
    for t in range(n):  # what the grid may not do the battery does
        low, high = (-site.grid.p_export_kw_max, site.grid.p_import_kw_max) if mode[t] is TIED else (0.0, 0.0)
        grid = load - bess[t] - pv[t] - gen[t]
        bess[t] += grid - min(high, max(low, grid))
    return plan_of(
        site, bess_kw=bess.tolist(), pv_kw=pv.tolist(), gen1_kw=gen.tolist(), load_kw=load, modes=mode,
        start=start, soc=float(rng.uniform(0.3, 0.8)), step_s=float(rng.choice([300.0, 600.0, 900.0])),
        seq=int(rng.integers(1, 1000)),
    )  # fmt: skip


def _place(plan: Plan, rng: Rng) -> tuple[str, str, int]:
    name = str(rng.choice(GROUPS))
    series = getattr(plan, name)
    key = sorted(series)[int(rng.integers(len(series)))]
    return name, key, int(rng.integers(max(1, len(series[key]))))


def _set(plan: Plan, name: str, key: str, values: Any) -> Plan:
    changes: dict[str, Any] = {name: {**getattr(plan, name), key: values}}
    return replace(plan, **changes)


def _value(plan: Plan, rng: Rng, site: Site, to: Callable[[Any], Any]) -> Plan:
    name, key, t = _place(plan, rng)
    values = list(getattr(plan, name)[key])
    values[t] = to(values[t])
    return _set(plan, name, key, tuple(values))


def odd_number(plan: Plan, rng: Rng, site: Site) -> Plan:
    return _value(plan, rng, site, lambda v: ODD[int(rng.integers(len(ODD)))])


def no_number(plan: Plan, rng: Rng, site: Site) -> Plan:
    return _value(plan, rng, site, lambda v: NO_NUMBER[int(rng.integers(len(NO_NUMBER)))])


def shifted_number(plan: Plan, rng: Rng, site: Site) -> Plan:
    return _value(plan, rng, site, lambda v: v + float(rng.normal(0.0, 100.0)))


def wrong_unit(plan: Plan, rng: Rng, site: Site) -> Plan:
    name, key, _ = _place(plan, rng)
    factor = float(rng.choice([1000.0, 0.001, 100.0, 10.0]))
    return _set(plan, name, key, tuple(factor * v for v in getattr(plan, name)[key]))


def sign_flipped(plan: Plan, rng: Rng, site: Site) -> Plan:
    name, key, t = _place(plan, rng)
    values = getattr(plan, name)[key]
    if rng.random() < 0.5:
        return _set(plan, name, key, tuple(-v for v in values))
    return _set(plan, name, key, tuple(-v if i == t else v for i, v in enumerate(values)))


def grid_flipped(plan: Plan, rng: Rng, site: Site) -> Plan:
    return replace(plan, grid_p_kw=tuple(-v for v in plan.grid_p_kw))


def random_series(plan: Plan, rng: Rng, site: Site) -> Plan:
    name, key, _ = _place(plan, rng)
    scale = float(rng.choice([1.0, 50.0, 500.0, 5000.0]))
    return _set(plan, name, key, tuple(rng.normal(0.0, scale, len(getattr(plan, name)[key])).tolist()))


def wrong_length(plan: Plan, rng: Rng, site: Site) -> Plan:
    name, key, t = _place(plan, rng)
    values = getattr(plan, name)[key]
    doubled = (*values[: t + 1], *values[t:])
    return _set(plan, name, key, values[:t] if rng.random() < 0.5 else doubled)


def missing_or_strange(plan: Plan, rng: Rng, site: Site) -> Plan:
    name, key, _ = _place(plan, rng)
    series = dict(getattr(plan, name))
    values = series[key]
    if rng.random() < 0.5:
        del series[key]
    else:
        series[str(rng.choice(["bess9", "gen1", "", "grid1"]))] = values
    changes: dict[str, Any] = {name: series}
    return replace(plan, **changes)


def turned_series(plan: Plan, rng: Rng, site: Site) -> Plan:
    """An interval missing and one doubled: everything behind is late."""
    name, key, _ = _place(plan, rng)
    values = getattr(plan, name)[key]
    return _set(plan, name, key, (*values[1:], values[-1]))


def other_modes(plan: Plan, rng: Rng, site: Site) -> Plan:
    modes = list(GridMode)
    return replace(plan, grid_mode=tuple(modes[int(rng.integers(len(modes)))] for _ in plan.grid_mode))


def other_former(plan: Plan, rng: Rng, site: Site) -> Plan:
    names = ("grid1", "bess1", "gen1", "gen2", "pv1", "", "nobody")
    at = int(rng.integers(len(plan.forming)))
    one = names[int(rng.integers(len(names)))]
    return replace(plan, forming=tuple(one if t == at else f for t, f in enumerate(plan.forming)))


def other_day(plan: Plan, rng: Rng, site: Site) -> Plan:
    """The plan of another hour or day, with its own stamps or stamped anew."""
    away = timedelta(hours=float(rng.choice([-24.0, -2.0, -1.0, 1.0, 24.0, 8760.0])))
    moved = replace(plan, grid=replace(plan.grid, start=plan.grid.start + away))
    if rng.random() < 0.5:
        moved = replace(moved, issued_at=plan.issued_at + away, valid_until=plan.valid_until + away)
    return replace(moved, integral_until=plan.integral_until + away) if rng.random() < 0.8 else moved


def other_times(plan: Plan, rng: Rng, site: Site) -> Plan:
    name = str(rng.choice(["issued_at", "valid_until", "integral_until"]))
    changes: dict[str, Any] = {name: getattr(plan, name) + timedelta(hours=float(rng.normal(0.0, 50.0)))}
    return replace(plan, **changes)


def other_site(plan: Plan, rng: Rng, site: Site) -> Plan:
    return replace(plan, site=str(rng.choice(["", "elsewhere", site.name.upper(), f"{site.name} "])))


def other_steps(plan: Plan, rng: Rng, site: Site) -> Plan:
    step_s = np.abs(rng.normal(600.0, 900.0, len(plan.grid))) + 1e-3
    return replace(plan, grid=TimeGrid(start=plan.grid.start, step_s=tuple(step_s.tolist())))


def old_number(plan: Plan, rng: Rng, site: Site) -> Plan:
    return replace(plan, seq=int(rng.choice([-1, 0, -(10**9)])))


def balanced_garbage(plan: Plan, rng: Rng, site: Site) -> Plan:
    """Random powers in which the balance and the charge agree all the same: only limits tell."""
    n, wide = len(plan.grid), float(rng.choice([0.3, 1.0, 2.0]))
    p = rng.normal(0.0, 250.0 * wide, n)
    on = (rng.random((2, n)) < 0.4).astype(float)
    gen = on * rng.uniform(0.0, 450.0 * wide, (2, n))
    pv = rng.uniform(-50.0, 300.0 * wide, n)
    load = sum(np.array(v) for v in plan.load_kw.values())
    b = site.bess[0]
    stored, soc = float(rng.uniform(0.0, 1.0)) * b.battery.energy_kwh, []
    for kw, step_s in zip(p, plan.grid.step_s, strict=True):
        stored, _ = battery.step(b.battery, stored, float(kw), step_s)
        soc.append(stored / b.battery.energy_kwh)
    tied = np.array([m is TIED for m in plan.grid_mode])
    rest = load - p - pv - gen.sum(axis=0)
    gen[0] += np.where(tied, 0.0, rest)  # in an island somebody has to
    return replace(
        plan, bess_p_kw={b.id: tuple(p.tolist())}, bess_soc_end={b.id: tuple(soc)},
        genset_on={"gen1": tuple(on[0].tolist()), "gen2": tuple(on[1].tolist())},
        genset_p_kw={"gen1": tuple(gen[0].tolist()), "gen2": tuple(gen[1].tolist())},
        pv_p_kw={"pv1": tuple(pv.tolist())}, pv_available_kw={"pv1": tuple(np.maximum(pv, 0.0).tolist())},
        grid_p_kw=tuple(np.where(tied, rest, 0.0).tolist()),
    )  # fmt: skip


def moved_in_balance(plan: Plan, rng: Rng, site: Site) -> Plan:
    """Load of one source given to another: the sum still agrees."""
    t, kw = int(rng.integers(len(plan.grid))), float(rng.normal(0.0, 150.0))
    grid = tuple(v - (kw if i == t else 0.0) for i, v in enumerate(plan.grid_p_kw))
    name, key = SOURCES[int(rng.integers(len(SOURCES)))]
    values = list(getattr(plan, name)[key])
    values[t] += kw
    return _set(replace(plan, grid_p_kw=grid), name, key, tuple(values))


def commitment_toggled(plan: Plan, rng: Rng, site: Site) -> Plan:
    key, t = str(rng.choice(["gen1", "gen2"])), int(rng.integers(len(plan.grid)))
    on = list(plan.genset_on[key])
    on[t] = float(rng.choice([0.0, 1.0, 0.5, 2.0, -1.0]))
    return _set(plan, "genset_on", key, tuple(on))


MUTATIONS: tuple[Callable[[Plan, Rng, Site], Plan], ...] = (
    odd_number, no_number, shifted_number, wrong_unit, sign_flipped,
    grid_flipped, random_series, wrong_length, missing_or_strange, turned_series,
    other_modes, other_former, other_day, other_times, other_site,
    other_steps, old_number, balanced_garbage, balanced_garbage, moved_in_balance,
    commitment_toggled,
)  # fmt: skip


def garbage(site: Site, start: datetime, rng: Rng) -> tuple[Plan, str]:
    """(a plan with one to three things wrong with it, what). What cannot even be built counts as refused."""
    plan, names = sound(site, start, rng), []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        change = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
        names.append(change.__name__)
        try:
            plan = change(plan, rng, site)
        except (TypeError, ValueError, LookupError, OverflowError):
            break  # a second change of what is no plan any more
    return plan, "+".join(names)


# --- the judge --------------------------------------------------------------------------------------------


def broken(site: Site, plan: Plan, now: datetime, highest_seq: int) -> list[str]:
    """Which limits following the plan would break; empty: none that the judge knows."""
    try:
        with np.errstate(all="ignore"):
            return list(_broken(site, plan, now, highest_seq))
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError, IndexError) as why:
        return [f"no plan at all: {why}"]


def _rows(plan: Plan, name: str, ids: list[str], n: int) -> np.ndarray:
    series = getattr(plan, name)
    if set(series) - set(ids) or (name != "shed_kw" and set(series) != set(ids)):
        raise KeyError(name)
    out = np.zeros((len(ids), n))
    for i, key in enumerate(ids):
        if key in series:
            if len(series[key]) != len(plan.grid.step_s) or not all(
                type(v) in (int, float) for v in series[key]
            ):
                raise ValueError(name)
            out[i] = np.array(series[key], dtype=np.float64)[:n]
            if not np.isfinite(np.array(series[key], dtype=np.float64)).all():
                raise ValueError(name)
    return out


def _broken(site: Site, plan: Plan, now: datetime, highest_seq: int) -> Iterator[str]:
    if plan.site != site.name:
        yield "site"
    if plan.seq <= highest_seq:
        yield "sequence"
    if not now - timedelta(hours=2) <= plan.issued_at <= now + timedelta(seconds=60):
        yield "issued"
    if not now < plan.valid_until <= now + timedelta(hours=26):
        yield "valid"
    edges = np.concatenate([[0.0], np.cumsum(plan.grid.step_s)])
    begin = (now - plan.grid.start).total_seconds()
    if not -900.0 <= begin < edges[-1] or now >= plan.integral_until:
        yield "not now"
    n = int((edges[:-1] < (plan.integral_until - plan.grid.start).total_seconds()).sum())
    if len(plan.grid_p_kw) != len(edges) - 1 or len(plan.grid_mode) != len(edges) - 1:
        yield "length"
        return
    yield from _power(site, plan, n, np.array(plan.grid.step_s[:n]))


def _power(site: Site, plan: Plan, n: int, step_s: np.ndarray) -> Iterator[str]:
    bess, gen = [b.id for b in site.bess], [g.id for g in site.gensets]
    pv, fed = [v.id for v in site.pv], [f.id for f in site.feeders]
    p, soc = _rows(plan, "bess_p_kw", bess, n), _rows(plan, "bess_soc_end", bess, n)
    on, g_kw = _rows(plan, "genset_on", gen, n), _rows(plan, "genset_p_kw", gen, n)
    pv_kw, there = _rows(plan, "pv_p_kw", pv, n), _rows(plan, "pv_available_kw", pv, n)
    shed, load = _rows(plan, "shed_kw", fed, n), _rows(plan, "load_kw", fed, n)
    grid = np.array(plan.grid_p_kw, dtype=np.float64)[:n]
    tied = np.array([m is GridMode.GRID_TIED for m in plan.grid_mode[:n]])
    island = np.array([m is GridMode.ISLANDED for m in plan.grid_mode[:n]])
    if not (tied | island).all():
        yield "mode"
    low, high = (
        np.where(tied, -site.grid.p_export_kw_max, 0.0),
        np.where(tied, site.grid.p_import_kw_max, 0.0),
    )
    if not np.isfinite(grid).all() or (grid < low - TOL_KW).any() or (grid > high + TOL_KW).any():
        yield "poi"
    served = load.sum(axis=0) - shed.sum(axis=0)
    aux = sum(b.battery.aux_kw for b in site.bess)
    off = grid + p.sum(axis=0) + g_kw.sum(axis=0) + pv_kw.sum(axis=0) - served
    if (off < -TOL_KW - 0.0101 * np.abs(served)).any() or (
        off > aux + TOL_KW + 0.0101 * np.abs(served)
    ).any():
        yield "balance"
    if (shed < -TOL_KW).any() or (shed > load + TOL_KW).any() or (load < -TOL_KW).any():
        yield "shed"
    for i, v in enumerate(site.pv):
        most = np.minimum(v.p_ac_kw, there[i] + 0.0101 * v.p_ac_kw)
        if (pv_kw[i] < -TOL_KW).any() or (pv_kw[i] > most + TOL_KW).any():
            yield "pv"
    for i in range(len(bess)):
        yield from _battery(site, i, p[i], soc[i], step_s)
    for i in range(len(gen)):
        yield from _genset(site, i, on[i], g_kw[i], step_s)
    for t in range(n):
        yield from _former(
            site, plan, t, bool(tied[t]), dict(zip(gen, on[:, t], strict=True)), p[:, t], pv_kw[:, t]
        )
    ramp = site.grid.ramp_kw_s
    if ramp is not None and n > 1:
        both = tied[1:] & tied[:-1]
        apart = 0.5 * (step_s[1:] + step_s[:-1])
        if (both & (np.abs(np.diff(grid)) > ramp * apart + TOL_KW)).any() and not plan.missed:
            yield "poi ramp"


def _battery(site: Site, i: int, p: np.ndarray, soc: np.ndarray, step_s: np.ndarray) -> Iterator[str]:
    b = site.bess[i].battery
    if (p < -b.p_charge_kw_max - TOL_KW).any() or (p > b.p_discharge_kw_max + TOL_KW).any():
        yield "battery power"
    if (soc < 0.0).any() or (soc > 1.0).any():
        yield "charge that cannot be"
    late = np.concatenate([[0.0], np.cumsum(step_s)[:-1]]) >= 2.0 * 3600.0
    if (late & ((soc < b.soc_min - TOL_SOC) | (soc > b.soc_max + TOL_SOC))).any():
        yield "charge outside its window"
    for t in range(1, len(p)):
        end, _ = battery.step(b, soc[t - 1] * b.energy_kwh, float(p[t]), float(step_s[t]))
        if abs(end / b.energy_kwh - soc[t]) > (TOL_SOC + 0.001) * max(1.0, step_s[t] / 900.0):
            yield "charge does not follow"
            break
    ramp = site.authority.setpoints[f"{site.bess[i].id}.p_set_kw"].ramp_per_s
    if ramp is not None and len(p) > 1:
        harder = (np.abs(p[1:]) > np.abs(p[:-1])) | (p[1:] * p[:-1] < 0.0)
        if (harder & (np.abs(np.diff(p)) > ramp * 0.5 * (step_s[1:] + step_s[:-1]) + TOL_KW)).any():
            yield "battery ramp"


def _genset(site: Site, i: int, on: np.ndarray, p: np.ndarray, step_s: np.ndarray) -> Iterator[str]:
    g = site.gensets[i]
    if (np.minimum(np.abs(on), np.abs(on - 1.0)) > 1e-2).any():
        yield "half a genset"
    up = on > 0.5
    if (up & ((p < g.p_min_kw - TOL_KW) | (p > g.p_rated_kw + TOL_KW))).any() or (
        ~up & (np.abs(p) > TOL_KW)
    ).any():
        yield "genset load"
    if len(p) < 2:
        return
    apart, rise = 0.5 * (step_s[1:] + step_s[:-1]), np.diff(p)
    down = g.ramp_kw_s if g.ramp_down_kw_s is None else g.ramp_down_kw_s
    if (up[1:] & up[:-1] & ((rise > g.ramp_kw_s * apart + TOL_KW) | (-rise > down * apart + TOL_KW))).any():
        yield "genset ramp"
    first = g.p_rated_kw if g.start_up_kw is None else g.start_up_kw
    final = g.p_rated_kw if g.shut_down_kw is None else g.shut_down_kw
    if (up[1:] & ~up[:-1] & (p[1:] > first + TOL_KW)).any() or (
        ~up[1:] & up[:-1] & (p[:-1] > final + TOL_KW)
    ).any():
        yield "genset at the edge of a run"
    edges = np.concatenate([[0.0], np.cumsum(step_s)])
    at = np.flatnonzero(np.diff(up.astype(int))) + 1
    for a, z in pairwise(at):
        if edges[z] - edges[a] < (g.min_up_s if up[a] else g.min_down_s) - 1.5:
            yield "genset run too short"


def _former(
    site: Site, plan: Plan, t: int, tied: bool, on: dict[str, float], p: np.ndarray, pv: np.ndarray
) -> Iterator[str]:
    f = plan.forming[t]
    able = {b.id for b in site.bess if b.pcs.can_form} | {g for g, x in on.items() if x > 0.5}
    if tied and f != site.grid.id:
        yield "former beside the grid"
    if not tied and f == "" and max([*np.abs(p), *np.abs(pv), *on.values()]) > TOL_KW:
        yield "power without former"
    if not tied and f != "" and f not in able & set(site.forming.islanded):
        yield "former that cannot"
