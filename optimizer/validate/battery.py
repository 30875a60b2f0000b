"""Batteries replayed through their own physics."""

import math

import numpy as np

from ems.assets import BatteryParams
from ems.battery_terms import FullCharge
from ems.plan import Plan
from ems.timegrid import BoolArray, FloatArray
from optimizer.prices import ladder
from optimizer.problem import BessCare, PlanningProblem
from optimizer.validate.findings import Findings, Tolerance
from plant_models import battery
from plant_models.rainflow import life_of_path_ratio

SOC_FULL = 1e-4


def check_batteries(found: Findings, plan: Plan, p: PlanningProblem, head: int, tol: Tolerance) -> None:
    """Replay stored energy through the battery's own physics."""
    for unit, start in zip(p.site.bess, p.bess, strict=True):
        params = unit.battery
        power, soc = np.array(plan.bess_p_kw[unit.id]), np.array(plan.bess_soc_end[unit.id])
        over = np.maximum(power - start.p_discharge_kw, -power - start.p_charge_kw)
        found.within("bess_power", f"{unit.id} beyond its power limit", over, tol.limit_kw)
        stored, drift, taper = start.stored_kwh, np.zeros(p.steps), np.zeros(p.steps)
        for t in range(head):
            step_s = p.grid.step_s[t]
            stored, _ = battery.step(params, stored, float(power[t]), step_s, on=start.available)
            if start.inflow_kwh is not None:
                stored += float(start.inflow_kwh[t])
            drift[t] = abs(stored / params.energy_kwh - soc[t])
            level = stored / params.energy_kwh
            charge, discharge = battery.taper_limits_kw(params, level)
            if power[t] > discharge or -power[t] > charge:  # by no more than a margin of SoC explains?
                near = [battery.taper_limits_kw(params, level + x) for x in (-tol.soc, 0.0, tol.soc)]
                charge, discharge = max(x for x, _ in near), max(x for _, x in near)
                taper[t] = max(power[t] - discharge, -power[t] - charge, 0.0)
        found.within("soc", f"{unit.id} replayed SoC away from the plan", drift, tol.soc)
        found.within("taper", f"{unit.id} above what its SoC allows", taper, tol.limit_kw)
        if start.band_kwh is not None:
            low, high = (kwh / params.energy_kwh for kwh in start.band_kwh)
            out = np.maximum(low - soc, soc - high)[:head]
            found.within("soc_band", f"{unit.id} SoC outside what it was posed with", out, tol.soc)
        found.within(
            "soc_physical", f"{unit.id} SoC outside 0..1", np.maximum(-soc, soc - 1.0)[:head], tol.soc
        )


def check_wear(found: Findings, plan: Plan, p: PlanningProblem, tol: Tolerance) -> None:
    """Wear in the plan's costs is no less than throughput and counted cycles make it."""
    step_h, cost = p.step_h, 0.0
    for unit, start in zip(p.site.bess, p.bess, strict=True):
        params, power = unit.battery, np.array(plan.bess_p_kw[unit.id])
        cost += params.wear_per_kwh * float((np.maximum(power, 0.0) * step_h).sum())
        cost += params.wear_charge_per_kwh * float((np.maximum(-power, 0.0) * step_h).sum())
        if (life := params.cycle_life) is not None:
            path = [*start.turns_soc, *plan.bess_soc_end[unit.id]]
            used = life_of_path_ratio(path, life) - life_of_path_ratio(start.turns_soc, life)
            cost += life.replacement_cost * used
    _paid(found, plan, "wear", cost, tol)


def check_terms(found: Findings, plan: Plan, p: PlanningProblem, tol: Tolerance) -> None:
    """Reserve that is short, resting high and a warranty that is not kept are in the plan's costs."""
    reserve = resting = warranty = 0.0
    care_per_kwh = ladder(p.site).battery_care_per_kwh
    for unit, start in zip(p.site.bess, p.bess, strict=True):
        b, care, h = unit.battery, start.care, p.step_h
        power, soc = np.array(plan.bess_p_kw[unit.id]), np.array(plan.bess_soc_end[unit.id])
        stored = soc * b.energy_kwh
        if b.soc_reserve:
            short = np.maximum(0.0, care.reserve_kwh - stored)
            reserve += float((short * care.reserve_per_kwh * h).sum())
        if b.resting is not None:
            high = np.maximum(0.0, stored - b.resting.above_soc * b.energy_kwh)
            resting += b.resting.price_per_kwh * float((high * h).sum())
        if (w := b.warranty) is not None:
            out_kwh = np.maximum(0.0, power) * h
            over_kwh, ahead_kwh = 0.0, 0.0
            for most, begins, used in (
                (w.day_kwh_max, care.day_begins, care.day_used_kwh),
                (w.year_kwh_max, care.year_begins, care.year_used_kwh),
            ):
                if most is not None:
                    over_kwh += _beyond(out_kwh, begins, used, most)
            if w.year_kwh_max is not None and np.isfinite(care.pace_room_kwh):
                total = min(w.year_kwh_max, care.year_used_kwh + float(out_kwh.sum()))
                ahead_kwh = max(0.0, total - care.pace_room_kwh)
            fast = np.zeros(p.steps)
            for rate, flow in ((w.charge_per_h_max, -power), (w.discharge_per_h_max, power)):
                if rate is not None:
                    fast += np.maximum(0.0, flow - rate * b.energy_kwh)
            mean_kwh = 0.0
            if w.mean_soc_max is not None:
                mean_kwh = max(0.0, float(stored @ h / h.sum()) - care.mean_room_soc * b.energy_kwh)
            warranty += care_per_kwh * (over_kwh + float(fast @ h) + mean_kwh) + w.pace_per_kwh * ahead_kwh
    _paid(found, plan, "soc_reserve", reserve, tol)
    _paid(found, plan, "resting_soc", resting, tol)
    _paid(found, plan, "battery_warranty", warranty, tol)


def check_full_charge(found: Findings, plan: Plan, p: PlanningProblem, head: int, tol: Tolerance) -> None:
    """A full charge that is due is in the plan's path of charge, or its lateness in the plan's costs."""
    cost, ends_h = 0.0, p.grid.offset_s[1:] / 3600.0
    for unit, start in zip(p.site.bess, p.bess, strict=True):
        f, care = unit.battery.full_charge, start.care
        if f is None or not start.available or care.full_due_h > ends_h[-1] or head == 0:
            continue
        done_h = _full_at(unit.battery, f, care, np.array(plan.bess_soc_end[unit.id])[:head], ends_h)
        cost += f.late_cost_per_h * max(0.0, min(done_h, float(ends_h[head - 1])) - max(0.0, care.full_due_h))
    _paid(found, plan, "full_charge", cost, tol)


def _full_at(b: BatteryParams, f: FullCharge, care: BessCare, soc: FloatArray, ends_h: FloatArray) -> float:
    """When the store has been full for long enough [h]; infinite: never in these steps."""
    hold_h = f.hold_s / 3600.0
    since_h = None
    if care.full_now:
        since_h = care.full_rest_h - hold_h if care.full_rest_h > 0.0 else 0.0
    for level, end_h in zip(soc, ends_h, strict=False):
        if level < b.soc_max - SOC_FULL:
            since_h = None
            continue
        since_h = float(end_h) if since_h is None else since_h
        if float(end_h) - since_h >= hold_h - 1e-6:
            return since_h + hold_h
    return math.inf


def _beyond(out_kwh: FloatArray, begins: BoolArray, used_kwh: float, most_kwh: float) -> float:
    """Energy beyond a limit, span by span; what was beyond it before the plan is gone [kWh]."""
    total, before = 0.0, min(used_kwh, most_kwh)
    for span in np.split(out_kwh, np.flatnonzero(begins)):
        total += max(0.0, before + float(span.sum()) - most_kwh)
        before = 0.0
    return total


def _paid(found: Findings, plan: Plan, term: str, cost: float, tol: Tolerance) -> None:
    missing = np.array([cost - plan.cost_terms.get(term, 0.0)])
    found.within(
        term, f"{term} of the batteries left out of the costs", missing, tol.cost_ratio * cost + 1e-4
    )
