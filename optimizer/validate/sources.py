"""Who feeds the bus against the table of permitted sets, and inverter power against its strength."""

import math

import numpy as np

from ems.plan import Plan
from ems.site import Site
from optimizer.problem import PlanningProblem
from optimizer.validate.findings import Findings, Tolerance


def check_sources(found: Findings, plan: Plan, p: PlanningProblem, head: int, tol: Tolerance) -> None:
    """Every whole step fed by a permitted set, or said not to be; the short-circuit ratio kept."""
    sets = p.site.sources
    wrong = np.zeros(p.steps)
    admitted = plan.missed.get("unpermitted_sources", (0.0,) * p.steps)
    for t in range(head if sets is not None else 0):
        assert sets is not None
        allowed = sets.islanded if p.islanded[t] else sets.grid_tied
        if allowed and admitted[t] < 0.5:
            wrong[t] = float(not any(_fits(p.site, plan, t, set(ids), tol) for ids in allowed))
    if sets is not None:
        dead = np.array([float(not f) for f in plan.forming])
        found.within("sources", "a set of sources that is not permitted", wrong * (1.0 - dead), 0.5)
    _check_strength(found, plan, p, tol)


def _fits(site: Site, plan: Plan, t: int, ids: set[str], tol: Tolerance) -> bool:
    running = {g.id for g in site.gensets if plan.genset_on[g.id][t] > 0.5}
    feeding = {b.id for b in site.bess if abs(plan.bess_p_kw[b.id][t]) > tol.limit_kw}
    feeding |= {v.id for v in site.pv if plan.pv_p_kw[v.id][t] > tol.limit_kw}
    return running == ids & {g.id for g in site.gensets} and feeding <= ids


def _check_strength(found: Findings, plan: Plan, p: PlanningProblem, tol: Tolerance) -> None:
    policy, sets, site = p.site.grid.strength, p.site.sources, p.site
    if policy is None:
        return
    z_ohm = math.hypot(site.grid.r_ohm, site.grid.x_ohm)
    by_ohm = site.grid.v_nominal_v**2 / 1000.0 / z_ohm if z_ohm > 0.0 else math.inf
    grid_kva = by_ohm if policy.s_grid_kva is None else policy.s_grid_kva
    said = plan.missed.get("weak_inverters_kw", (0.0,) * p.steps)
    over = np.zeros(p.steps)
    for t in range(p.steps):
        island = bool(p.islanded[t])
        if sets is not None and (sets.islanded if island else sets.grid_tied):
            continue
        fault = 0.0 if island else grid_kva
        fault += sum(policy.genset_ratio * g.s_kva * plan.genset_on[g.id][t] for g in site.gensets)
        power = sum(plan.pv_p_kw[v.id][t] for v in site.pv)
        for b, start in zip(site.bess, p.bess, strict=True):
            if island and b.pcs.can_form and b.id in site.forming.islanded:
                fault += policy.forming_ratio * b.pcs.s_kva * float(start.available)
            else:
                power += abs(plan.bess_p_kw[b.id][t])
        over[t] = power - fault / policy.scr_ratio_min - said[t]
    found.within("strength", "inverters beyond the short-circuit ratio", over, tol.limit_kw)
