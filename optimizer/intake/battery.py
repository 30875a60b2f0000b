"""Where batteries start, what they may give, and what energy left at the end is worth."""

import math

import numpy as np

from ems.assets import BatteryParams, BessParams
from ems.condition import BessCondition, PlantCondition
from ems.errors import DataError
from ems.invariants import require_finite
from ems.site import Site
from ems.timegrid import BoolArray, FloatArray, TimeGrid
from optimizer.intake.battery_care import bess_care
from optimizer.options import PlannerOptions
from optimizer.prices import quantiles
from optimizer.problem import BessStart
from plant_models.battery import taper_limits_kw, temperature_ratios
from plant_models.pcs import kvar_max, room_kw_array
from plant_models.rainflow import Turns, stored_by_depth, turned

NEAR_EDGE = 0.02  # nearer to the edge of its window a battery's live limit says nothing but that
DERATED_H = 1.0  # a live limit below what the state of charge explains is believed for so long
REACTIVE_SHARE_MAX = 0.6  # of a forming PCS's rating that is set aside for reactive demand at most


def bess_start(
    bess: BessParams,
    condition: PlantCondition,
    grid: TimeGrid,
    available: BoolArray,
    load_kw: FloatArray,
    site: Site,
    notes: list[str],
    temp_degc: FloatArray | None = None,
) -> BessStart:
    """Stored energy and power limits of a battery system; what it is derated to is believed for an hour."""
    now = condition.bess.get(bess.id)
    p, T = bess.battery, len(grid)
    care = bess_care(bess, now, site, grid, available, notes)
    if now is None or not now.available:
        notes.append(f"{bess.id}: not available, planned without it")
        soc = p.soc_min if now is None or not math.isfinite(now.soc) else now.soc
        turns, by_depth_kwh = open_cycle(bess.id, () if now is None else now.turns_soc, soc, p, notes)
        return BessStart(
            available=False,
            care=care,
            turns_soc=turns,
            by_depth_kwh=by_depth_kwh,
            stored_kwh=soc * p.energy_kwh,
            p_charge_kw=np.zeros(T),
            p_discharge_kw=np.zeros(T),
        )
    soc = _checked_soc(bess.id, now.soc, p, notes)
    gives, takes = _active_room(bess, site, load_kw, available)
    charge = np.minimum(np.full(T, p.p_charge_kw_max), takes)
    discharge = np.minimum(np.full(T, p.p_discharge_kw_max), gives)
    near = grid.offset_s[:-1] < DERATED_H * 3600.0
    law_charge, law_discharge = taper_limits_kw(p, soc)
    if p.derating:
        by_charge, by_discharge = derated(bess, now, temp_degc, T, notes)
        charge = np.minimum(charge, by_charge * p.p_charge_kw_max)
        discharge = np.minimum(discharge, by_discharge * p.p_discharge_kw_max)
        law_charge = min(law_charge, float(by_charge[0]) * p.p_charge_kw_max)
        law_discharge = min(law_discharge, float(by_discharge[0]) * p.p_discharge_kw_max)
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
    turns, by_depth_kwh = open_cycle(bess.id, now.turns_soc, soc, p, notes)
    return BessStart(
        available=True,
        care=care,
        stored_kwh=soc * p.energy_kwh,
        p_charge_kw=charge,
        p_discharge_kw=discharge,
        turns_soc=turns,
        by_depth_kwh=by_depth_kwh,
    )


def derated(
    bess: BessParams, now: BessCondition, air_degc: FloatArray | None, steps: int, notes: list[str]
) -> tuple[FloatArray, FloatArray]:
    """(T,) shares of power by temperature: the present one held, or moved as the air is forecast to."""
    if now.temp_degc is not None:
        require_finite(f"{bess.id} temperature", now.temp_degc)
    if now.temp_degc is None and air_degc is None:
        notes.append(f"{bess.id}: temperature neither measured nor forecast, power planned without derating")
        return np.ones(steps), np.ones(steps)
    if air_degc is None:
        assert now.temp_degc is not None
        degc = np.full(steps, now.temp_degc)
    else:
        degc = air_degc + (0.0 if now.temp_degc is None else now.temp_degc - air_degc[0])
    ratios = np.array([temperature_ratios(bess.battery, float(x)) for x in degc])
    for way, column in (("charge", ratios[:, 0]), ("discharge", ratios[:, 1])):
        if column.min() < 1.0:
            t = int(np.argmin(column))
            notes.append(f"{bess.id}: {way} derated to {column[t]:.0%} at {degc[t]:.0f} degC")
    return ratios[:, 0], ratios[:, 1]


def open_cycle(
    bess_id: str, turns: Turns, soc: float, p: BatteryParams, notes: list[str]
) -> tuple[Turns, tuple[float, ...]]:
    """Open cycle to the present SoC, and stored energy by depth; nothing for a battery without cycle life.

    Turning points that are no states of charge are dropped, with a note: the cycle then begins at `soc`.
    """
    if p.cycle_life is None:
        return (), ()
    if not all(0.0 <= x <= 1.0 for x in turns):  # NaN compares false
        notes.append(f"{bess_id}: open cycle {turns} is not within 0..1, wear counted from a fresh cycle")
        turns = ()
    turns = turned(turns, soc)
    shares = list(stored_by_depth(turns, p.cycle_life.edges_ratio))
    shares[-1] += soc - sum(shares)  # rounding, and what no segment holds
    return turns, tuple(x * p.energy_kwh for x in shares)


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


def _active_room(
    bess: BessParams, site: Site, load_kw: FloatArray, available: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """(T,) active power given and taken beside the reactive demand that a forming PCS has to supply [kW]."""
    q = np.zeros(load_kw.shape[1])
    if bess.pcs.can_form and site.grid.reactive is None:  # else the plan's own reactive power takes its room
        tangents = np.array([math.tan(math.acos(f.power_factor_ratio)) for f in site.feeders])
        demand = tangents @ load_kw if len(tangents) else q
        q = np.where(available, 0.0, np.minimum(demand, REACTIVE_SHARE_MAX * kvar_max(bess.pcs)[0]))
    return room_kw_array(bess.pcs, q)


def terminal_values(site: Site, import_price: FloatArray, options: PlannerOptions) -> FloatArray:
    """(B, 3) value of stored energy at the end, by thirds of the window, lower first [money per kWh].

    From the prices of the window, times discharge efficiency: the lower third is worth what it replaces in
    dear hours (90 % quantile), the middle one the median, the upper one the cheap hours (10 % quantile).
    """
    levels = quantiles(np.maximum(import_price, 0.0), (0.9, 0.5, 0.1))
    rows = []
    for b in site.bess:
        given = options.terminal_per_kwh
        values = np.array(levels) * b.battery.eta_discharge if given is None else np.asarray(given)
        rows.append(np.minimum.accumulate(values))
    return np.array(rows).reshape(len(rows), 3)
