"""From condition and forecast to a PlanningProblem: checks, declared repairs, outages, values."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np

from ems.assets import BatteryParams, BessParams, GensetParams
from ems.condition import PlantCondition
from ems.errors import DataError
from ems.forecast import Forecast
from ems.invariants import require_finite
from ems.outage import known_outages
from ems.site import GridMode, Site
from ems.timegrid import BoolArray, FloatArray, TimeGrid
from optimizer.horizon import SPLIT_S
from optimizer.intake_tariff import history_kwh, tariff_numbers
from optimizer.options import PlannerOptions
from optimizer.outlook import MonthOutlook
from optimizer.problem import BessStart, GensetStart, PlanningProblem
from optimizer.schedule import blocked_steps, quiet_cost
from optimizer.unmodelled import tariff_notes
from plant_models.battery import taper_limits_kw

NEAR_EDGE = 0.02  # nearer to the edge of its window a battery's live limit says nothing but that
DUST_KW = 1e-6
DERATED_H = 1.0  # a live limit below what the state of charge explains is believed for so long
REACTIVE_SHARE_MAX = 0.6  # of a forming PCS's rating that is set aside for reactive demand at most


def planning_problem(
    site: Site,
    condition: PlantCondition,
    forecast: Forecast,
    options: PlannerOptions,
    outlook: MonthOutlook | None = None,
) -> PlanningProblem:
    """Check, repair and lay out the input of one plan.

    Raises
    ------
    DataError : an array of the forecast is missing, has the wrong length or is not finite; the grid does not
        start where the condition is; a condition is not finite.
    """
    notes: list[str] = [*forecast.repairs, *tariff_notes(site.tariff)]
    grid = forecast.grid
    _check_time(grid, condition.at)
    loads = {f.id: math.inf for f in site.feeders}
    solar = {p.id: p.p_ac_kw for p in site.pv}
    load = _series(forecast.load_kw, loads, grid, "load_kw", notes)
    pv = _series(forecast.pv_kw, solar, grid, "pv_kw", notes)
    available = grid_availability(site, condition, forecast, notes)
    import_price = _finite(forecast.import_per_kwh, grid, "import_per_kwh")
    export_price = _finite(forecast.export_per_kwh, grid, "export_per_kwh")
    tariff = tariff_numbers(site, condition, grid, options, outlook, notes)
    cost_price = import_price + site.carbon_per_kwh
    return PlanningProblem(
        site=site,
        grid=grid,
        at=condition.at,
        mode_now=condition.grid_mode,
        load_kw=load,
        pv_kw=pv,
        import_per_kwh=import_price,
        export_per_kwh=export_price,
        grid_available=available,
        integral=integral_steps(grid, available, options.integral_h),
        bess=tuple(_bess_start(b, condition, grid, available, load, site, notes) for b in site.bess),
        gensets=tuple(
            _scheduled(_genset_start(g.id, site, condition, notes), g, site, condition, grid)
            for g in site.gensets
        ),
        months=tariff.months,
        demand_parts=tariff.demand_parts,
        blocks_used_kwh=tariff.blocks_used_kwh,
        history_kwh=history_kwh(site, condition, grid),
        terminal_per_kwh=_terminal(site, cost_price, options),
        feeder_open=np.array(
            [not condition.feeder_closed.get(f.id, True) for f in site.feeders], dtype=np.bool_
        ),
        shed_whole=np.zeros(len(grid), dtype=np.bool_),
        exclusive=available & ((cost_price < 0.0) | (export_price > cost_price)),
        notes=tuple(notes),
    )


def _check_time(grid: TimeGrid, at: datetime) -> None:
    late_s = abs((grid.start - at).total_seconds())
    if late_s > max(900.0, grid.step_s[0]):
        raise DataError(
            f"forecast starts at {grid.start}, the plant's condition is of {at}: wrong time or zone"
        )


def _finite(values: FloatArray, grid: TimeGrid, what: str) -> FloatArray:
    out = np.asarray(values, dtype=np.float64)
    if out.shape != (len(grid),):
        raise DataError(f"forecast {what} has shape {out.shape}, the grid has {len(grid)} steps")
    bad = np.flatnonzero(~np.isfinite(out))
    if len(bad):
        raise DataError(f"forecast {what} is {out[bad[0]]} in the step of {grid.starts()[int(bad[0])]}")
    return out


def _series(
    given: Mapping[str, FloatArray],
    highest: Mapping[str, float],
    grid: TimeGrid,
    what: str,
    notes: list[str],
) -> FloatArray:
    """(N, T) series by asset [kW]. Negative becomes 0, above the rating becomes the rating, with a note."""
    rows = []
    for asset, top in highest.items():
        if asset not in given:
            raise DataError(f"forecast {what} has no series for {asset}")
        row = _finite(given[asset], grid, f"{what}[{asset}]")
        low, high = int((row < 0.0).sum()), int((row > top).sum())
        if low:
            notes.append(f"{asset}: {low} negative values of {what} taken as 0")
        if high:
            notes.append(f"{asset}: {high} values of {what} above the rating taken as {top:g} kW")
        rows.append(np.where(row < DUST_KW, 0.0, np.minimum(row, top)))
    return np.array(rows).reshape(len(rows), len(grid))


def grid_availability(
    site: Site, condition: PlantCondition, forecast: Forecast, notes: list[str]
) -> BoolArray:
    """(T,) whether the mains can be used in a step.

    A step that an announced outage overlaps is without mains. The first step follows what is measured: an
    island now is an island in the first step, and mains that are still there after an announced start are
    used in it. An outage that nobody announced is planned to last `reserve.assumed_outage_h` from now, or the
    reconnection dwell when the mains are good again.
    """
    grid = forecast.grid
    notices = known_outages((*site.outages, *forecast.outages), forecast.issued_at)
    edges = grid.offset_s
    out = np.ones(len(grid), dtype=np.bool_)
    announced_now = False
    for notice in notices:
        start_s = (notice.start - grid.start).total_seconds()
        end_s = (notice.end - grid.start).total_seconds()
        out &= ~((edges[:-1] < end_s - SPLIT_S) & (edges[1:] > start_s + SPLIT_S))
        announced_now = announced_now or notice.start <= condition.at < notice.end
    if condition.grid_mode is GridMode.GRID_TIED:
        if not out[0]:
            notes.append(
                "an announced outage has begun, the mains are still there: used in the first step only"
            )
        out[0] = True
        return out
    if condition.grid_mode is GridMode.UNKNOWN:
        notes.append("grid mode unknown: planned as an island")
    if condition.mains_good and not announced_now:
        notes.append("the mains are back: an island only until their reconnection dwell is over")
        out &= ~(edges[:-1] < site.grid.reconnect_dwell_s - SPLIT_S)
    elif not announced_now:
        hours = site.reserve.assumed_outage_h
        notes.append(f"no mains and no notice of it: assumed to last {hours:g} h from now")
        out &= ~(edges[:-1] < hours * 3600.0)
    out[0] = False
    return out


def integral_steps(grid: TimeGrid, available: BoolArray, integral_h: float) -> BoolArray:
    """(T,) steps with whole commitment: the first `integral_h`, and through the end of the last outage."""
    whole = grid.offset_s[:-1] < integral_h * 3600.0 - 1e-6
    out = np.flatnonzero(~available)
    if len(out):
        whole[: int(out[-1]) + 1] = True
    return whole


def _bess_start(
    bess: BessParams,
    condition: PlantCondition,
    grid: TimeGrid,
    available: BoolArray,
    load_kw: FloatArray,
    site: Site,
    notes: list[str],
) -> BessStart:
    now = condition.bess.get(bess.id)
    p, T = bess.battery, len(grid)
    if now is None or not now.available:
        notes.append(f"{bess.id}: not available, planned without it")
        soc = p.soc_min if now is None or not math.isfinite(now.soc) else now.soc
        return BessStart(
            available=False,
            stored_kwh=soc * p.energy_kwh,
            p_charge_kw=np.zeros(T),
            p_discharge_kw=np.zeros(T),
        )
    soc = _checked_soc(bess.id, now.soc, p, notes)
    room = _active_room(bess, site, load_kw, available)
    charge = np.minimum(np.full(T, p.p_charge_kw_max), room)
    discharge = np.minimum(np.full(T, p.p_discharge_kw_max), room)
    near = grid.offset_s[:-1] < DERATED_H * 3600.0
    law_charge, law_discharge = taper_limits_kw(p, soc)
    for name, limits, live, law, room_ratio in (
        ("charge", charge, now.p_charge_kw_max, law_charge, p.soc_max - soc),
        ("discharge", discharge, now.p_discharge_kw_max, law_discharge, soc - p.soc_min),
    ):
        require_finite(f"{bess.id} live {name} limit", live)
        if live < 0.98 * law and room_ratio > NEAR_EDGE:
            notes.append(
                f"{bess.id}: live {name} limit {live:.0f} kW below {law:.0f} kW, kept for {DERATED_H:g} h"
            )
            limits[near] = np.minimum(limits[near], max(0.0, live))
    return BessStart(
        available=True, stored_kwh=soc * p.energy_kwh, p_charge_kw=charge, p_discharge_kw=discharge
    )


def _checked_soc(bess_id: str, soc: float, p: BatteryParams, notes: list[str]) -> float:
    if not math.isfinite(soc):
        raise DataError(f"{bess_id}: state of charge is {soc}")
    inside = min(1.0, max(0.0, soc))
    if inside != soc:
        notes.append(f"{bess_id}: SoC {soc:.3f} is impossible, taken as {inside:.0f}")
    if not p.soc_min - 1e-6 <= inside <= p.soc_max + 1e-6:
        notes.append(
            f"{bess_id}: SoC {inside:.3f} lies outside its window {p.soc_min:g}..{p.soc_max:g}; "
            "the window is opened to it for two hours"
        )
    return inside


def _active_room(bess: BessParams, site: Site, load_kw: FloatArray, available: BoolArray) -> FloatArray:
    """(T,) active power left beside the reactive demand that a forming PCS has to supply [kW]."""
    s = bess.pcs.s_kva
    room = np.full(load_kw.shape[1], s)
    if bess.pcs.can_form:
        tangents = np.array([math.tan(math.acos(f.power_factor_ratio)) for f in site.feeders])
        q = np.minimum(tangents @ load_kw if len(tangents) else 0.0 * room, REACTIVE_SHARE_MAX * s)
        room[~available] = np.sqrt(s**2 - q**2)[~available]
    return room


def _genset_start(genset_id: str, site: Site, condition: PlantCondition, notes: list[str]) -> GensetStart:
    params = next(g for g in site.gensets if g.id == genset_id)
    now = condition.gensets.get(genset_id)
    if now is None or not now.available:
        on = now is not None and now.on_load
        why = "reported on load but not available" if on else "not available"
        notes.append(f"{genset_id}: {why}, planned without it")
        return GensetStart(available=False, on=False, age_h=0.0, starting=False, ready_h=0.0, fuel_l=math.inf)
    ready_s = now.ready_in_s if now.starting else params.start_delay_s
    for name, value in (("age", now.age_s), ("time to readiness", ready_s)):
        if not math.isfinite(value) or value < 0.0:
            raise DataError(f"{genset_id}: {name} is {value} s")
    return GensetStart(
        available=True,
        on=now.on_load,
        age_h=now.age_s / 3600.0,
        starting=now.starting and not now.on_load,
        ready_h=ready_s / 3600.0,
        fuel_l=math.inf if now.fuel_l is None else max(0.0, require_finite(f"{genset_id} fuel", now.fuel_l)),
    )


def _scheduled(
    start: GensetStart, unit: GensetParams, site: Site, condition: PlantCondition, grid: TimeGrid
) -> GensetStart:
    """With maintenance, quiet hours and the starts of today, where the site has such limits."""
    now = condition.gensets.get(unit.id)
    counted = unit.starts_per_day_max is not None and now is not None
    return replace(
        start,
        starts_today=now.starts_today if counted and now is not None else 0,
        blocked=blocked_steps(unit.id, site.maintenance, grid),
        quiet_cost=quiet_cost(unit.quiet, grid, ZoneInfo(site.timezone)),
    )


def _terminal(site: Site, import_price: FloatArray, options: PlannerOptions) -> FloatArray:
    """(B, 3) value of stored energy at the end, by thirds of the window, lower first [money per kWh].

    From the prices of the window, times discharge efficiency: the lower third is worth what it replaces in
    dear hours (90 % quantile), the middle one the median, the upper one the cheap hours (10 % quantile).
    """
    rows = []
    for b in site.bess:
        if options.terminal_per_kwh is not None:
            values = np.asarray(options.terminal_per_kwh)
        else:
            low, mid, high = np.quantile(np.maximum(import_price, 0.0), [0.1, 0.5, 0.9])
            values = np.array([high, mid, low]) * b.battery.eta_discharge
        rows.append(np.minimum.accumulate(values))
    return np.array(rows).reshape(len(rows), 3)
