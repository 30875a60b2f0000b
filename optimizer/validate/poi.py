"""Transformer and ramp limit of the interconnection, from the plan's powers alone."""

import math

import numpy as np

from ems.plan import Plan
from ems.timegrid import FloatArray
from optimizer.problem import PlanningProblem
from optimizer.validate.findings import Findings, Tolerance


def check_poi(found: Findings, plan: Plan, p: PlanningProblem, tol: Tolerance) -> None:
    """Apparent power and change from step to step within their limits, beyond what the plan admits."""
    poi, power = p.site.grid, np.array(plan.grid_p_kw)
    if poi.transformer is not None:
        over = np.hypot(power, _drawn_kvar(plan, p)) - poi.transformer.s_kva
        over = np.where(p.grid_available, over - _admitted(plan, p, "transformer_kva"), 0.0)
        found.within("transformer", "transformer overloaded beyond what is said", over, tol.limit_kw)
    if poi.ramp_kw_s is None:
        return
    admitted, excess = _admitted(plan, p, "ramp_kw"), np.zeros(p.steps)
    before_kw, before_s = p.grid_p_kw, 0.0
    for t in range(p.steps):
        step_s = p.grid.step_s[t]
        if not p.grid_available[t]:
            before_kw = None
            continue
        if before_kw is not None:
            allowed = poi.ramp_kw_s * 0.5 * (before_s + step_s)
            excess[t] = abs(power[t] - before_kw) - allowed - admitted[t]
        before_kw, before_s = float(power[t]), step_s
    found.within("ramp", "ramp at the interconnection over its limit", excess, tol.limit_kw)


def _admitted(plan: Plan, p: PlanningProblem, name: str) -> FloatArray:
    return np.array(plan.missed.get(name, (0.0,) * p.steps))


def _drawn_kvar(plan: Plan, p: PlanningProblem) -> FloatArray:
    """(T,) planned, else that of the load that is served by its power factor [kvar]."""
    if plan.grid_q_kvar:
        return np.array(plan.grid_q_kvar)
    out = np.zeros(p.steps)
    for i, f in enumerate(p.site.feeders):
        out += math.tan(math.acos(f.power_factor_ratio)) * (p.load_kw[i] - np.array(plan.shed_kw[f.id]))
    return out
