"""The small plant with ramps, with two PV plants whose devices drop their limits, or with two batteries."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ems.assets import ActuatorSafety, DeviceBehaviour, OnSilence
from ems.site import Authority, Hierarchy, SetpointAuthority, Site


def _named(site: Site, *ids: str) -> Hierarchy:
    h = site.hierarchy
    return replace(h, subsystem_of={**h.subsystem_of, **dict.fromkeys(ids, "plant")})


def _like(site: Site, point: str, own: str, **changes: Any) -> SetpointAuthority:
    return replace(site.authority.setpoints[own], point=point, **changes)


def ramped(site: Site, bess_kw_s: float = 100.0, pv_kw_s: float = 60.0, genset_kw_s: float = 40.0) -> Site:
    """The plant whose powers ramp, so that the oracle of ramps (I4) has something to judge."""
    per_s = dict.fromkeys((f"{b.id}.p_set_kw" for b in site.bess), bess_kw_s)
    per_s |= dict.fromkeys((f"{p.id}.p_limit_kw" for p in site.pv), pv_kw_s)
    per_s |= dict.fromkeys((f"{g.id}.p_set_kw" for g in site.gensets), genset_kw_s)
    setpoints = {p: replace(s, ramp_per_s=per_s.get(p)) for p, s in site.authority.setpoints.items()}
    return replace(site, authority=Authority(setpoints=setpoints))


def two_pv(site: Site, first_kw: float = 300.0, second_kw: float = 300.0) -> Site:
    """pv1 and pv2; a device that hears nothing for 15 s drops its limit."""
    drops = DeviceBehaviour(timeout_s=15.0, on_silence=OnSilence.FULL)
    plants, setpoints = [], dict(site.authority.setpoints)
    for name, p_ac_kw in (("pv1", first_kw), ("pv2", second_kw)):
        plants.append(replace(site.pv[0], id=name, p_ac_kw=p_ac_kw, p_dc_kwp=1.2 * p_ac_kw))
        point = f"{name}.p_limit_kw"
        setpoint = _like(site, point, "pv1.p_limit_kw", high=p_ac_kw)
        setpoints[point] = replace(setpoint, safety=replace(setpoint.safety, behaviour=drops))
    return replace(
        site, pv=tuple(plants), hierarchy=_named(site, "pv2"), authority=Authority(setpoints=setpoints)
    )


def with_ramps(site: Site, ramps: Mapping[str, float]) -> Site:
    """With the ramps of these setpoints [unit of the setpoint per s]: without any, no ramp can be broken."""
    setpoints = dict(site.authority.setpoints)
    for point, ramp in ramps.items():
        setpoints[point] = replace(setpoints[point], ramp_per_s=ramp)
    return replace(site, authority=Authority(setpoints=setpoints))


def tripping(site: Site, *plants: str) -> Site:
    """With a request for the breaker of these PV plants, at a relay of its own."""
    setpoints = dict(site.authority.setpoints)
    for name in plants:
        point = f"{name}.trip_request"
        setpoints[point] = SetpointAuthority(
            point=point, low=0.0, high=1.0, ramp_per_s=None, deadband=0.0, refresh_s=5.0,
            safety=ActuatorSafety(grid_tied=None, islanded=None, black=None),
        )  # fmt: skip
    return replace(site, authority=Authority(setpoints=setpoints))


def two_batteries(site: Site, second: float = 0.5, *, second_forms: bool = False) -> Site:
    """bess1 and bess2, of `second` times its size; only bess1 forms unless said otherwise."""
    first = site.bess[0]
    battery, kw = first.battery, second * first.battery.p_discharge_kw_max
    small = replace(
        battery, energy_kwh=second * battery.energy_kwh, p_charge_kw_max=kw, p_discharge_kw_max=kw
    )
    pcs = replace(first.pcs, s_kva=second * first.pcs.s_kva, can_form=second_forms)
    point = "bess2.p_set_kw"
    setpoints = {**site.authority.setpoints, point: _like(site, point, "bess1.p_set_kw", low=-kw, high=kw)}
    return replace(
        site,
        bess=(first, replace(first, id="bess2", battery=small, pcs=pcs)),
        hierarchy=_named(site, "bess2"),
        authority=Authority(setpoints=setpoints),
    )
