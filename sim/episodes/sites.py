"""Random plants like a given one: other sizes, other numbers of sets and batteries, other caps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ems.assets import BessParams, FeederParams, GensetParams, PvParams
from ems.points import split_point_id
from ems.site import Authority, Connection, FormingOrder, PointMap, SetpointAuthority, Site
from sim.faults.people import USERS

BESS_COUNTS = (0, 1, 1, 1, 2)
GENSET_COUNTS = (0, 1, 2, 2, 3)
PV_RATIO = 0.85  # of the plants have PV
INRUSH_RATIO = 0.3  # of the plants have feeders with an inrush
INRUSH_OF_PEAK = (0.5, 2.5)  # kVA per kW of peak load
LIVE_RATIO = 0.5  # of the plants have sets and converters that tell what they can give now
FREE_ADDRESS = 60_000  # a register that no map uses
Limits = Mapping[str, tuple[float, float]]  # by setpoint, in its own unit


def random_site(base: Site, rng: np.random.Generator) -> Site:
    """A plant with 0 to 2 batteries, 0 to 3 gensets and mostly PV, none larger than the base's own.

    Point maps, authority and forming order follow; a second battery or a third set is a copy of one that is
    there, with an address of its own.
    """
    like_bess = _names([b.id for b in base.bess], int(rng.choice(BESS_COUNTS)), "bess")
    like_sets = _names([g.id for g in base.gensets], int(rng.choice(GENSET_COUNTS)), "gen")
    by_id = {b.id: b for b in base.bess}
    bess = tuple(_bess(replace(by_id[old], id=new), rng) for new, old in like_bess.items())
    sets_by_id = {g.id: g for g in base.gensets}
    gensets = tuple(_genset(replace(sets_by_id[old], id=new), rng) for new, old in like_sets.items())
    pv = tuple(_pv(p, rng) for p in base.pv) if rng.random() < PV_RATIO else ()
    like = like_bess | like_sets | {p.id: p.id for p in pv}  # new asset -> the one it is like
    changeable = {*by_id, *sets_by_id, *(p.id for p in base.pv)}
    like |= {a: a for a in base.asset_kinds() if a not in changeable}
    subsystem = base.hierarchy.subsystem_of
    told = dict.fromkeys(like_sets, ("p_kw", "p_kw_max"))
    told |= dict.fromkeys(like_bess, ("p_discharge_kw_max", "p_pcs_kw_max"))
    told = told if rng.random() < LIVE_RATIO else {}
    sudden = rng.random() < INRUSH_RATIO
    grid = replace(
        base.grid,
        p_import_kw_max=float(round(base.grid.p_import_kw_max * rng.uniform(0.6, 1.2))),
        p_export_kw_max=float(rng.choice((0.0, 0.0, 50.0, 150.0))),
    )
    return replace(
        base,
        grid=grid,
        bess=bess,
        gensets=gensets,
        pv=pv,
        feeders=tuple(_feeder(f, rng) if sudden and f.has_breaker else f for f in base.feeders),
        forming=FormingOrder(grid_tied=base.forming.grid_tied, islanded=(*like_bess, *like_sets)),
        hierarchy=replace(base.hierarchy, subsystem_of={new: subsystem[old] for new, old in like.items()}),
        authority=Authority(setpoints=_authority(base, like, _limits(bess, gensets, pv))),
        connections=tuple(_with_more(c, base.grid.id, told) for c in _connections(base, like)),
        control=replace(base.control, users={**USERS, **base.control.users}),
    )


def _with_more(connection: Connection, grid: str, told: Mapping[str, tuple[str, str]]) -> Connection:
    """The same device with the selector it may have, the phases at the POI, and live limits.

    Parameters
    ----------
    told : asset -> the point its live limit is read like, and the live limit, by their names.
    """
    of = {m.point: m for m in connection.points}
    more = [
        _beside(m, f"{asset}.remote", 1.0)
        for p, m in of.items()
        for asset, name in [split_point_id(p)]
        if name == "state" and f"{asset}.remote" not in of
    ]
    volts = of.get(f"{grid}.v_pu")
    if volts is not None and f"{grid}.v1_pu" not in of:
        more += [_beside(volts, f"{grid}.v{n}_pu", volts.high) for n in (1, 2, 3)]
    for asset, (name, live) in told.items():
        like = of.get(f"{asset}.{name}")
        if like is not None and f"{asset}.{live}" not in of:
            more.append(_beside(like, f"{asset}.{live}", like.high))
    return replace(connection, points=(*connection.points, *more))


def _beside(like: PointMap, point: str, high: float) -> PointMap:
    """A point read like another one, from an address of its own."""
    free = str(FREE_ADDRESS) if like.address.isdigit() else f"{like.address}-{point}"
    return replace(like, point=point, address=free, low=0.0, high=high)


def _names(known: Sequence[str], count: int, prefix: str) -> dict[str, str]:
    """New id -> id of the asset it is like; nothing where the base has none to be like."""
    if not known:
        return {}
    names = [*known, *(f"{prefix}{i + 1}" for i in range(len(known), count))]
    return {name: known[i % len(known)] for i, name in enumerate(names[:count])}


def _bess(b: BessParams, rng: np.random.Generator) -> BessParams:
    energy, power = rng.uniform(0.3, 1.0), rng.uniform(0.4, 1.0)
    battery = replace(
        b.battery,
        energy_kwh=float(round(energy * b.battery.energy_kwh)),
        p_charge_kw_max=float(round(power * b.battery.p_charge_kw_max)),
        p_discharge_kw_max=float(round(power * b.battery.p_discharge_kw_max)),
    )
    s_kva = float(round(power * b.pcs.s_kva))
    own = None if b.pcs.capability is None else b.pcs.capability.scaled(s_kva / b.pcs.s_kva)
    return replace(b, battery=battery, pcs=replace(b.pcs, s_kva=s_kva, capability=own))


def _genset(g: GensetParams, rng: np.random.Generator) -> GensetParams:
    k = float(rng.uniform(0.4, 1.0))
    return replace(
        g,
        p_rated_kw=k * g.p_rated_kw,
        p_min_kw=k * g.p_min_kw,
        s_kva=k * g.s_kva,
        fuel_kw=tuple(k * x for x in g.fuel_kw),
        fuel_l_h=tuple(k * x for x in g.fuel_l_h),
        ramp_kw_s=k * g.ramp_kw_s,
        step_load_kw_max=k * g.step_load_kw_max,
    )


def _pv(p: PvParams, rng: np.random.Generator) -> PvParams:
    k = float(rng.uniform(0.3, 1.0))
    return replace(p, p_dc_kwp=k * p.p_dc_kwp, p_ac_kw=k * p.p_ac_kw)


def _feeder(f: FeederParams, rng: np.random.Generator) -> FeederParams:
    return replace(f, inrush_kva=float(round(rng.uniform(*INRUSH_OF_PEAK) * f.p_peak_kw)))


def _limits(bess: Sequence[BessParams], gensets: Sequence[GensetParams], pv: Sequence[PvParams]) -> Limits:
    out = {f"{b.id}.p_set_kw": (-b.battery.p_charge_kw_max, b.battery.p_discharge_kw_max) for b in bess}
    out |= {f"{g.id}.p_set_kw": (0.0, g.p_rated_kw) for g in gensets}
    return out | {f"{p.id}.p_limit_kw": (0.0, p.p_ac_kw) for p in pv}


def _authority(base: Site, like: Mapping[str, str], limits: Limits) -> dict[str, SetpointAuthority]:
    out: dict[str, SetpointAuthority] = {}
    counts = {m.point: abs(m.scale) for c in base.connections for m in c.points}
    for new, old in like.items():
        for point, a in base.authority.setpoints.items():
            asset, _, name = point.partition(".")
            if asset == old:
                own = f"{new}.{name}"
                low, high = limits.get(own, (a.low, a.high))
                step = counts.get(point, 0.0)
                low, high = _whole(max(a.low, low), step), _whole(min(a.high, high), step)
                out[own] = _within(replace(a, point=own), low, high)
    return out


def _whole(value: float, step: float) -> float:
    """The next value towards zero that the register can hold."""
    return value if step <= 0.0 else step * math.trunc(value / step)


def _within(a: SetpointAuthority, low: float, high: float) -> SetpointAuthority:
    """The same authority in narrower bounds; what is safe stays inside them."""

    def inside(value: float | None) -> float | None:
        return None if value is None else min(max(value, low), high)

    s = a.safety
    behaviour = replace(s.behaviour, value=inside(s.behaviour.value))
    safety = replace(
        s,
        grid_tied=inside(s.grid_tied),
        islanded=inside(s.islanded),
        black=inside(s.black),
        behaviour=behaviour,
    )
    return replace(a, low=low, high=high, safety=safety)


def _connections(base: Site, like: Mapping[str, str]) -> tuple[Connection, ...]:
    """One device for each asset that had one; a device of several assets keeps those that are left."""
    out: list[Connection] = []
    for i, connection in enumerate(base.connections):
        assets = {m.point.partition(".")[0] for m in connection.points}
        if len(assets) > 1:
            left = tuple(m for m in connection.points if m.point.partition(".")[0] in like)
            out += [replace(connection, points=left)] if left else []
            continue
        (old,) = assets
        for k, new in enumerate(n for n, o in like.items() if o == old):
            out.append(_renamed(connection, old, new, f"{connection.id}_{k}", connection.port + 100 * k + i))
    return tuple(out)


def _renamed(connection: Connection, old: str, new: str, name: str, port: int) -> Connection:
    def own(point: str) -> str:
        return f"{new}.{point.partition('.')[2]}"

    watchdog, beat = connection.watchdog_point, connection.heartbeat_in
    return replace(
        connection,
        id=name,
        port=port,
        watchdog_point=None if watchdog is None else own(watchdog),
        heartbeat_in=None if beat is None else own(beat),
        points=tuple(replace(m, point=own(m.point)) for m in connection.points),
    )
