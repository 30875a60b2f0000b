"""Batteries replayed through their own physics."""

import numpy as np

from ems.plan import Plan
from optimizer.problem import PlanningProblem
from optimizer.validate.findings import Findings, Tolerance
from plant_models import battery
from plant_models.rainflow import life_of_path_ratio


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
            drift[t] = abs(stored / params.energy_kwh - soc[t])
            level = stored / params.energy_kwh
            charge, _ = battery.taper_limits_kw(params, level - tol.soc)
            _, discharge = battery.taper_limits_kw(params, level + tol.soc)
            taper[t] = max(power[t] - discharge, -power[t] - charge, 0.0)
        found.within("soc", f"{unit.id} replayed SoC away from the plan", drift, tol.soc)
        found.within("taper", f"{unit.id} above what its SoC allows", taper, tol.limit_kw)
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
    missing = np.array([cost - plan.cost_terms.get("wear", 0.0)])
    found.within("wear", "wear of the batteries left out", missing, tol.cost_ratio * cost + 1e-6)
