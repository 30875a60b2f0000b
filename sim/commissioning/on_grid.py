"""The matrix on the grid: caps at the point of interconnection, lost meter, lost battery, silent device."""

from collections.abc import Callable

from ems.site import Site
from sim.commissioning.base import (
    WARM_S,
    Posed,
    Trial,
    loads,
    longest_s,
    mean_30_s_kw,
    peak_load_kw,
)
from sim.faults import Fault
from sim.rig import Rig, Row

EXCESS_RATIO, EXCESS_S = 0.05, 5.0
RISE_S = 60.0
METER_S, SILENT_S, TRIP_S = 3.0, 4.0, 2.0


def _import_cap(site: Site) -> Posed | str:
    cap_kw = site.grid.p_import_kw_max
    help_kw = sum(b.battery.p_discharge_kw_max for b in site.bess)
    high_kw = min(peak_load_kw(site), cap_kw + 0.5 * help_kw)
    if high_kw <= cap_kw:
        return "the load at its peak stays below the import cap, or no battery helps"
    low, high = loads(site, 0.6 * cap_kw), loads(site, high_kw)

    def judge(rig: Rig) -> tuple[str, bool]:
        mean_kw = mean_30_s_kw(rig, WARM_S, lambda r: r.flows.grid_p_kw)
        over_s = longest_s(rig, WARM_S, lambda r: r.flows.grid_p_kw > (1.0 + EXCESS_RATIO) * cap_kw)
        text = f"30 s mean {mean_kw:.1f} kW; {over_s:.0f} s above {1.0 + EXCESS_RATIO:.0%}"
        return text, mean_kw <= cap_kw + 0.5 and over_s <= EXCESS_S

    return Posed(
        start=f"load {0.6 * cap_kw:.0f} kW, no PV, SoC 60 %",
        injection=f"load rises to {high_kw:.0f} kW within {RISE_S:.0f} s",
        threshold=f"30 s mean import at most {cap_kw:.0f} kW, 5 % more for {EXCESS_S:.0f} s at most",
        judge=judge,
        until_s=300.0,
        load_kw={f: _rise(low[f], high[f]) for f in low},
    )


def _export_cap(site: Site) -> Posed | str:
    cap_kw, pv_kw = site.grid.p_export_kw_max, sum(p.p_ac_kw for p in site.pv)
    load_kw = 0.2 * peak_load_kw(site)
    if pv_kw <= load_kw + cap_kw:
        return "PV at its rating cannot exceed the load and the export cap"
    slack_kw = EXCESS_RATIO * max(cap_kw, site.grid.p_import_kw_max)

    def judge(rig: Rig) -> tuple[str, bool]:
        mean_kw = mean_30_s_kw(rig, WARM_S, lambda r: -r.flows.grid_p_kw)
        over_s = longest_s(rig, WARM_S, lambda r: -r.flows.grid_p_kw > cap_kw + slack_kw)
        text = f"30 s mean export {mean_kw:.1f} kW; {over_s:.0f} s above {cap_kw + slack_kw:.0f} kW"
        return text, mean_kw <= cap_kw + 0.5 and over_s <= EXCESS_S

    first, share = 0.5 * load_kw, len(site.pv)
    return Posed(
        start=f"load {load_kw:.0f} kW, PV {first:.0f} kW, SoC 60 %",
        injection=f"PV potential rises to {pv_kw:.0f} kW within {RISE_S:.0f} s",
        threshold=f"30 s mean export at most {cap_kw:.0f} kW; {slack_kw:.0f} kW more for 5 s at most",
        judge=judge,
        until_s=300.0,
        load_kw=dict(loads(site, load_kw)),
        pv_kw=_rise(first / share, pv_kw / share),
    )


def _meter_lost(site: Site) -> Posed | str:
    if not site.pv and not site.bess:
        return "nothing of the EMS could export"
    load_kw = 0.5 * peak_load_kw(site)
    limits = [f"{p.id}.p_limit_kw" for p in site.pv]
    sets = [f"{b.id}.p_set_kw" for b in site.bess]

    def capped(row: Row) -> bool:
        pv_kw = sum(row.held.get(p, float("inf")) for p in limits)
        return pv_kw + sum(max(0.0, row.held.get(p, 0.0)) for p in sets) <= load_kw

    def judge(rig: Rig) -> tuple[str, bool]:
        took_s = rig.after(WARM_S, capped)
        return f"capped after {took_s:.0f} s", took_s <= METER_S

    return Posed(
        start=f"load {load_kw:.0f} kW, PV at half its rating",
        injection=f"the meter {site.grid.id} falls silent",
        threshold=f"PV limits and discharge together below the load within {METER_S:.0f} s",
        judge=judge,
        load_kw=dict(loads(site, load_kw)),
        pv_kw=0.5 * site.pv[0].p_ac_kw if site.pv else 0.0,
        faults=(Fault(kind="device_silent", target=site.grid.id, from_s=WARM_S),),
    )


def _bess_trips(site: Site) -> Posed | str:
    if not site.bess:
        return "no battery"
    bess, load_kw = site.bess[0].id, 0.8 * min(site.grid.p_import_kw_max, peak_load_kw(site))

    def judge(rig: Rig) -> tuple[str, bool]:
        alarm_s = rig.after(WARM_S, lambda r: r.alarmed("bess.unavailable"))
        zero_s = rig.after(WARM_S, lambda r: abs(r.held.get(f"{bess}.p_set_kw", 0.0)) < 0.5)
        unserved_kwh = rig.unserved_kwh(WARM_S)
        text = (
            f"told after {alarm_s:.0f} s, setpoint 0 after {zero_s:.0f} s, {unserved_kwh:.2f} kWh not served"
        )
        return text, alarm_s <= TRIP_S and zero_s <= TRIP_S and unserved_kwh < 0.01

    return Posed(
        start=f"load {load_kw:.0f} kW, no PV",
        injection=f"{bess} trips for a minute",
        threshold=f"told, and its setpoint 0, within {TRIP_S:.0f} s; nothing unserved",
        judge=judge,
        load_kw=dict(loads(site, load_kw)),
        faults=(Fault(kind="bess_trips", target=bess, from_s=WARM_S, until_s=WARM_S + 60.0),),
    )


def _device_silent(site: Site) -> Posed | str:
    if not site.pv:
        return "no PV"
    pv = site.pv[0].id
    connected = next(
        (c.id for c in site.connections if any(m.point.startswith(f"{pv}.") for m in c.points)), pv
    )

    def judge(rig: Rig) -> tuple[str, bool]:
        took_s = rig.after(WARM_S, lambda r: any(connected in (a.asset, a.code) for a in r.decisions.alarms))
        return f"told after {took_s:.0f} s", took_s <= SILENT_S

    return Posed(
        start="load 30 % of its peak, PV at half its rating",
        injection=f"{pv} answers neither reads nor writes",
        threshold=f"its silence is told within {SILENT_S:.0f} s",
        judge=judge,
        pv_kw=0.5 * site.pv[0].p_ac_kw,
        faults=(Fault(kind="device_silent", target=pv, from_s=WARM_S),),
    )


def _rise(low: float, high: float) -> Callable[[float], float]:
    """From one power to another between the two times [kW]."""

    def at(t_s: float) -> float:
        return low + (high - low) * min(1.0, max(0.0, (t_s - WARM_S) / RISE_S))

    return at


DISPATCH = "IEEE 2030.7 dispatch, grid-connected steady state (SS1); IEEE 2030.8 dispatch tests"
TRIALS = (
    Trial(id="import-cap", matrix="on grid", clause=DISPATCH, pose=_import_cap),
    Trial(id="export-cap", matrix="on grid", clause=DISPATCH, pose=_export_cap),
    Trial(id="meter-lost", matrix="on grid", clause=DISPATCH, pose=_meter_lost),
    Trial(id="battery-trips", matrix="on grid", clause=DISPATCH, pose=_bess_trips),
    Trial(id="device-silent", matrix="on grid", clause=DISPATCH, pose=_device_silent),
)
