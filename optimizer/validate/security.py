"""Contingencies judged again, from the plan's powers alone: what each would take away and what is left."""

import math
from collections.abc import Iterator

import numpy as np

from ems.plan import Plan
from optimizer.problem import PlanningProblem
from optimizer.validate.findings import Findings
from plant_models import battery

SHORTEST_HOLD_S = 10.0
WITHOUT_GENSETS_S = 900.0
MARGIN_KW = 1.0  # stated margin against the one found here: the plan's figures are rounded


def check_security(found: Findings, plan: Plan, p: PlanningProblem, head: int) -> None:
    """In whole steps no plan states a better margin for its worst contingency than there is for any."""
    off = np.zeros(p.steps)
    for t in range(head):
        margins = dict(_margins(plan, p, t))
        name = plan.contingency[t]
        if bool(margins) != bool(name) or (name and name not in margins):
            off[t] = math.inf
        elif margins:
            stated = plan.contingency_cover_kw[t] - plan.contingency_lost_kw[t]
            off[t] = max(0.0, stated - min(margins.values()))
    found.within("security", "margin of the worst contingency overstated", off, MARGIN_KW)


def _margins(plan: Plan, p: PlanningProblem, t: int) -> Iterator[tuple[str, float]]:
    """What is left over after each contingency that is asked for in a step [kW]."""
    site, policy, island = p.site, p.site.reserve, bool(p.islanded[t])
    up, down = dict(_up(plan, p, t)), dict(_down(plan, p, t))
    kinds = policy.n_minus_1 if island else policy.n_minus_1_tied
    drawn = plan.grid_p_kw[t]
    grid = 0.0 if island else max(0.0, float(p.import_cap_kw[t]) - drawn)
    total = sum(up.values()) + grid
    for g in site.gensets if "genset" in kinds else ():
        yield f"loss of {g.id}", total - up[g.id] - plan.genset_p_kw[g.id][t]
    for b in site.bess if "bess" in kinds else ():
        yield f"loss of {b.id}", total - up[b.id] - plan.bess_p_kw[b.id][t]
    for v in site.pv if "pv" in kinds else ():
        yield f"loss of {v.id}", total - plan.pv_p_kw[v.id][t]
    if policy.pv_drop_ratio > 0.0 and site.pv:
        lost = policy.pv_drop_ratio * sum(plan.pv_p_kw[v.id][t] for v in site.pv)
        yield f"drop of {100.0 * policy.pv_drop_ratio:.0f} % of the PV", total - lost
    if "import" in kinds:
        stays = sum(up[g.id] for g in site.gensets) + sum(up[b.id] for b in site.bess if b.pcs.can_form)
        for i, f in enumerate(site.feeders):
            if f.has_breaker and f.tier > policy.critical_tier:
                stays += float(p.load_kw[i, t]) - plan.shed_kw[f.id][t]
        yield "loss of import", stays - max(0.0, drawn)
    if island and policy.motor_start_kw:
        yield "largest motor start", total - policy.motor_start_kw
    if island and policy.load_trip_kw:
        yield "largest load trip", sum(down.values()) - policy.load_trip_kw


def _hold_h(p: PlanningProblem) -> float:
    delays = [g.crank_s + g.warm_up_s + g.synchronise_s for g in p.site.gensets]
    if not delays:
        return WITHOUT_GENSETS_S / 3600.0
    return max(SHORTEST_HOLD_S, max(delays) * (1 + p.site.reserve.failed_starts)) / 3600.0


def _rated(plan: Plan, p: PlanningProblem, b: int, t: int, limit_kw: float, sign: float = 1.0) -> float:
    """What a converter gives (1) or takes (-1) beside its reactive power, at most [kW]."""
    unit = p.site.bess[b]
    q = plan.bess_q_kvar[unit.id][t] if plan.bess_q_kvar else 0.0
    if unit.pcs.capability is None:
        return min(limit_kw, math.sqrt(max(0.0, unit.pcs.s_kva**2 - q * q)))
    sides = unit.pcs.capability.half_planes
    return min([limit_kw, *(max(0.0, (c - k * q) / (sign * a)) for a, k, c in sides if sign * a > 1e-12)])


def _kept_out(plan: Plan, p: PlanningProblem, b: int, t: int) -> bool:
    """Whether the permitted sets keep an idle battery off the bus: some set fits without it, none with it."""
    sets, unit = p.site.sources, p.site.bess[b]
    allowed = () if sets is None else sets.islanded if p.islanded[t] else sets.grid_tied
    if not allowed or plan.missed.get("unpermitted_sources", (0.0,) * p.steps)[t] > 0.5:
        return False
    gensets = {g.id for g in p.site.gensets}
    on = {g for g in gensets if plan.genset_on[g][t] > 0.5}
    return not any(unit.id in ids and set(ids) & gensets == on for ids in allowed)


def _up(plan: Plan, p: PlanningProblem, t: int) -> Iterator[tuple[str, float]]:
    for g in p.site.gensets:
        yield g.id, g.p_rated_kw * plan.genset_on[g.id][t] - plan.genset_p_kw[g.id][t]
    for b, (unit, start) in enumerate(zip(p.site.bess, p.bess, strict=True)):
        x, soc, power = unit.battery, plan.bess_soc_end[unit.id][t], plan.bess_p_kw[unit.id][t]
        held_h = _hold_h(p) * battery.drawn_per_kwh(x)
        by_energy = max(0.0, soc - x.soc_min) * x.energy_kwh / held_h
        limit = float(start.p_discharge_kw[t])
        most = min(limit, by_energy, battery.taper_limits_kw(x, soc)[1])
        kw = min(most, _rated(plan, p, b, t, limit) - power)
        yield unit.id, 0.0 if not start.available or _kept_out(plan, p, b, t) else max(0.0, kw)


def _down(plan: Plan, p: PlanningProblem, t: int) -> Iterator[tuple[str, float]]:
    for g in p.site.gensets:
        yield g.id, plan.genset_p_kw[g.id][t] - g.p_min_kw * plan.genset_on[g.id][t]
    for b, (unit, start) in enumerate(zip(p.site.bess, p.bess, strict=True)):
        x, soc = unit.battery, plan.bess_soc_end[unit.id][t]
        by_energy = (x.soc_max - soc) * x.energy_kwh / _hold_h(p)
        most = _rated(plan, p, b, t, float(start.p_charge_kw[t]), -1.0)
        kw = min(most + plan.bess_p_kw[unit.id][t], by_energy)
        yield unit.id, 0.0 if not start.available or _kept_out(plan, p, b, t) else max(0.0, kw)
