"""The islanded matrix: into an island and out of it, and what may happen in one."""

import math

from ems.points import GensetState
from ems.site import GridMode, Site
from sim.commissioning.base import (
    WARM_S,
    Posed,
    Trial,
    dips_kwh,
    forming_battery,
    in_mode,
    loads,
    peak_load_kw,
)
from sim.faults import Fault
from sim.rig import Rig, RigOptions, Row

DETECT_S, SURPLUS_S, TRIP_S, REQUEST_S = 1.0, 2.0, 2.0, 60.0
AWAY_S = 180.0
BACK_SLACK_S = 30.0
NO_FORMER = "no battery can form an island"


def _half(site: Site) -> float:
    """A load that a forming battery carries by itself [kW]."""
    bess = forming_battery(site)
    own = next(b.battery.p_discharge_kw_max for b in site.bess if b.id == bess)
    return min(0.5 * peak_load_kw(site), 0.6 * own)


def _loss(site: Site) -> Posed | str:
    if forming_battery(site) is None:
        return NO_FORMER
    load_kw = _half(site)

    def judge(rig: Rig) -> tuple[str, bool]:
        seen_s = rig.after(WARM_S, in_mode(GridMode.ISLANDED))
        lost_kwh, dip_kwh = rig.unserved_kwh(WARM_S), dips_kwh(rig, load_kw)
        text = f"island known after {seen_s:.0f} s; {lost_kwh:.3f} kWh not served (dips: {dip_kwh:.3f})"
        return text, seen_s <= DETECT_S and lost_kwh <= dip_kwh

    return Posed(
        start=f"on the grid, load {load_kw:.0f} kW, no PV, SoC 60 %",
        injection="the mains fail",
        threshold=f"island known within {DETECT_S:.0f} s; nothing unserved but the dip of the transfer",
        judge=judge,
        load_kw=dict(loads(site, load_kw)),
        mains=[(WARM_S, math.inf)],
    )


def _loss_with_surplus(site: Site) -> Posed | str:
    if forming_battery(site) is None:
        return NO_FORMER
    if not site.pv:
        return "no PV"
    load_kw = 0.3 * peak_load_kw(site)
    pv_kw = min(sum(p.p_ac_kw for p in site.pv), 1.5 * load_kw)

    def fits(row: Row) -> bool:
        room_kw = sum(row.flows.bess_p_charge_kw_max.values())
        return sum(row.flows.pv_p_kw.values()) <= sum(row.flows.feeder_p_kw.values()) + room_kw + 1.0

    def judge(rig: Rig) -> tuple[str, bool]:
        took_s = rig.after(WARM_S, lambda r: in_mode(GridMode.ISLANDED)(r) and fits(r))
        kept = rig.held(fits, WARM_S + SURPLUS_S)
        lost_kwh, dip_kwh = rig.unserved_kwh(WARM_S), dips_kwh(rig, load_kw)
        text = f"PV fits after {took_s:.0f} s{'' if kept else ', then not'}; {lost_kwh:.3f} kWh not served"
        return text, took_s <= SURPLUS_S and kept and lost_kwh <= dip_kwh

    return Posed(
        start=f"load {load_kw:.0f} kW, PV {pv_kw:.0f} kW, SoC 60 %",
        injection="the mains fail",
        threshold=f"PV within load and charge headroom after {SURPLUS_S:.0f} s; only the dip unserved",
        judge=judge,
        load_kw=dict(loads(site, load_kw)),
        pv_kw=pv_kw / len(site.pv),
        mains=[(WARM_S, math.inf)],
    )


def _return(site: Site) -> Posed | str:
    if forming_battery(site) is None:
        return NO_FORMER
    load_kw, dwell_s, back_s = _half(site), site.grid.reconnect_dwell_s, WARM_S + AWAY_S

    def judge(rig: Rig) -> tuple[str, bool]:
        took_s = rig.after(back_s, lambda r: r.flows.grid_closed)
        known_s = rig.after(back_s, in_mode(GridMode.GRID_TIED))
        lost_kwh, dip_kwh = rig.unserved_kwh(WARM_S), dips_kwh(rig, load_kw)
        text = f"closed after {took_s:.0f} s, known after {known_s:.0f} s; {lost_kwh:.3f} kWh not served"
        in_time = dwell_s - 1.0 <= took_s <= dwell_s + BACK_SLACK_S
        return text, in_time and known_s <= took_s + 3.0 and lost_kwh <= dip_kwh

    return Posed(
        start=f"island, load {load_kw:.0f} kW, for {AWAY_S:.0f} s",
        injection="the mains come back",
        threshold=f"closed {dwell_s:.0f} to {dwell_s + BACK_SLACK_S:.0f} s later; nothing unserved but dips",
        judge=judge,
        until_s=back_s + dwell_s + 120.0,
        load_kw=dict(loads(site, load_kw)),
        mains=[(WARM_S, back_s)],
    )


def _load_step(site: Site) -> Posed | str:
    bess = forming_battery(site)
    if bess is None:
        return NO_FORMER
    load_kw = _half(site)

    def within(row: Row) -> bool:
        return row.flows.bess_p_kw[bess] <= row.flows.bess_p_discharge_kw_max[bess] + 1.0

    def judge(rig: Rig) -> tuple[str, bool]:
        lost_kwh = rig.unserved_kwh(WARM_S)
        worst_kw = max(r.flows.bess_p_kw[bess] for r in rig.rows(WARM_S))
        return f"{bess} at most {worst_kw:.0f} kW; {lost_kwh:.3f} kWh not served", (
            lost_kwh < 0.01 and rig.held(within, WARM_S)
        )

    faults = tuple(Fault(kind="load_step", target=f.id, from_s=WARM_S, value=0.3) for f in site.feeders)
    return Posed(
        start=f"island formed by {bess}, load {load_kw:.0f} kW",
        injection="load steps up by 30 %",
        threshold=f"nothing unserved; {bess} inside its limits",
        judge=judge,
        load_kw=dict(loads(site, load_kw)),
        faults=faults,
        options=RigOptions(islanded_by=bess, soc=0.8),
    )


def _cloud(site: Site) -> Posed | str:
    bess = forming_battery(site)
    if bess is None:
        return NO_FORMER
    if not site.pv:
        return "no PV"
    load_kw, pv = _half(site), site.pv[0]

    def judge(rig: Rig) -> tuple[str, bool]:
        lost_kwh = rig.unserved_kwh(WARM_S)
        return f"{lost_kwh:.3f} kWh not served", lost_kwh < 0.01

    return Posed(
        start=f"island formed by {bess}, load {load_kw:.0f} kW, {pv.id} could give {0.5 * pv.p_ac_kw:.0f} kW",
        injection=f"{pv.id} loses 80 % within 20 s for two minutes",
        threshold="nothing unserved",
        judge=judge,
        until_s=360.0,
        load_kw=dict(loads(site, load_kw)),
        pv_kw=0.5 * pv.p_ac_kw,
        faults=(Fault(kind="cloud", target=pv.id, from_s=WARM_S, until_s=WARM_S + 120.0),),
        options=RigOptions(islanded_by=bess, soc=0.7),
    )


def _genset_trips(site: Site) -> Posed | str:
    bess = forming_battery(site)
    if bess is None:
        return NO_FORMER
    if not site.gensets:
        return "no genset"
    genset, load_kw = site.gensets[0], _half(site)
    on_kw = max(genset.p_min_kw, 0.5 * load_kw)

    def judge(rig: Rig) -> tuple[str, bool]:
        told_s = rig.after(WARM_S, lambda r: r.alarmed("genset.unavailable"))
        lost_kwh = rig.unserved_kwh(WARM_S)
        text = f"told after {told_s:.0f} s; {lost_kwh:.3f} kWh not served"
        return text, told_s <= TRIP_S and lost_kwh < 0.01

    return Posed(
        start=f"island formed by {bess}, load {load_kw:.0f} kW, {genset.id} at {on_kw:.0f} kW",
        injection=f"{genset.id} trips",
        threshold=f"told within {TRIP_S:.0f} s; nothing unserved",
        judge=judge,
        load_kw=dict(loads(site, load_kw)),
        faults=(Fault(kind="genset_trips", target=genset.id, from_s=WARM_S),),
        options=RigOptions(islanded_by=bess, soc=0.6, gensets_on_kw={genset.id: on_kw}),
    )


def _low_soc(site: Site) -> Posed | str:
    bess = forming_battery(site)
    if bess is None:
        return NO_FORMER
    if not site.gensets:
        return "no genset"
    load_kw = _half(site)
    soc = next(b.battery.soc_min for b in site.bess if b.id == bess) + 0.05

    def on_load(row: Row) -> bool:
        return any(s is GensetState.RUNNING for s in row.flows.genset_state.values())

    def judge(rig: Rig) -> tuple[str, bool]:
        asked_s = rig.after(0.0, lambda r: any(r.held.get(f"{g.id}.run_request") for g in site.gensets))
        running_s, lost_kwh = rig.after(0.0, on_load), rig.unserved_kwh()
        text = f"asked after {asked_s:.0f} s, on load after {running_s:.0f} s; {lost_kwh:.3f} kWh not served"
        return text, asked_s <= REQUEST_S and running_s < math.inf and lost_kwh < 0.01

    return Posed(
        start=f"island formed by {bess}, load {load_kw:.0f} kW, no genset running",
        injection=f"SoC {soc:.0%}, 5 points above its floor",
        threshold=f"a genset is asked for within {REQUEST_S:.0f} s and comes on load; nothing unserved",
        judge=judge,
        load_kw=dict(loads(site, load_kw)),
        options=RigOptions(islanded_by=bess, soc=soc),
    )


T2 = "IEEE 2030.7 transition T2 (unplanned islanding); IEEE 2030.8 transition tests"
T3 = "IEEE 2030.7 transition T3 (reconnection); IEEE 2030.8 transition tests; IEEE 1547-2018 4.10"
SS2 = "IEEE 2030.7 dispatch, islanded steady state (SS2); IEEE 2030.8 dispatch tests"
TRIALS = (
    Trial(id="mains-loss", matrix="islanded", clause=T2, pose=_loss),
    Trial(id="mains-loss-surplus", matrix="islanded", clause=T2, pose=_loss_with_surplus),
    Trial(id="mains-return", matrix="islanded", clause=T3, pose=_return),
    Trial(id="load-step", matrix="islanded", clause=SS2, pose=_load_step),
    Trial(id="cloud", matrix="islanded", clause=SS2, pose=_cloud),
    Trial(id="genset-trips", matrix="islanded", clause=SS2, pose=_genset_trips),
    Trial(id="low-soc", matrix="islanded", clause=SS2, pose=_low_soc),
)
