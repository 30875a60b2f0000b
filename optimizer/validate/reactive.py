"""Reactive power and voltage: what converters can give, balance, and an AC power flow of every step."""

import math
from itertools import pairwise

import numpy as np

from ems.plan import Plan
from ems.timegrid import FloatArray
from optimizer.problem import PlanningProblem
from optimizer.validate.findings import Findings, Tolerance
from optimizer.validate.power_flow import two_bus_voltage_pu

MISS_PU = 1e-6  # less is no miss that the plan admits


def check_reactive(found: Findings, plan: Plan, p: PlanningProblem, tol: Tolerance) -> None:
    """Every converter inside what it can, the balance closed, the voltage as stated and in its band."""
    site, policy = p.site, p.site.grid.reactive
    if policy is None:
        return
    T = p.steps
    rows = [plan.grid_q_kvar, plan.q_short_kvar, plan.poi_v_pu, plan.poi_v_short_pu]
    rows += [*plan.bess_q_kvar.values(), *plan.pv_q_kvar.values(), *plan.genset_q_kvar.values()]
    if any(len(x) != T for x in rows) or not all(np.isfinite(x).all() for x in rows):
        found.faults.append("reactive: a series is not finite or not as long as the grid")
        return
    total = np.array(plan.grid_q_kvar) + np.array(plan.q_short_kvar)
    circles: list[tuple[str, float, tuple[float, ...], tuple[float, ...]]] = []
    for b in site.bess:
        circles.append((b.id, b.pcs.s_kva, plan.bess_p_kw[b.id], plan.bess_q_kvar[b.id]))
    for g in site.gensets:
        circles.append((g.id, g.s_kva, plan.genset_p_kw[g.id], plan.genset_q_kvar[g.id]))
        idle = np.abs(plan.genset_q_kvar[g.id]) * (np.array(plan.genset_on[g.id]) < 1e-6)
        found.within("genset_kvar", f"{g.id} gives reactive power while it is off", idle, tol.limit_kw)
    for v in site.pv:
        if v.s_kva is not None:
            circles.append((v.id, v.s_kva, plan.pv_p_kw[v.id], plan.pv_q_kvar[v.id]))
    for name, s_kva, active, reactive in circles:
        total = total + np.array(reactive)
        over = np.hypot(np.array(active), np.array(reactive)) - s_kva
        found.within("circle", f"{name} beyond its apparent power", over, tol.limit_kw)
    _check_polygons(found, plan, p, tol)
    served = np.zeros(T)
    for i, f in enumerate(site.feeders):
        phi = math.acos(f.power_factor_ratio)
        served = served + math.tan(phi) * (p.load_kw[i] - np.array(plan.shed_kw[f.id]))
    found.within("kvar_balance", "reactive power does not balance", np.abs(total - served), tol.balance_kw)
    island = np.abs(plan.grid_q_kvar) * p.islanded
    found.within("grid_kvar", "reactive power from mains that are away", island, tol.limit_kw)
    _check_voltage(found, plan, p, tol)


def _check_polygons(found: Findings, plan: Plan, p: PlanningProblem, tol: Tolerance) -> None:
    """Each operating point left of every side on the way around the maker's corners."""
    powers = [(b.id, b.pcs.capability, plan.bess_p_kw[b.id], plan.bess_q_kvar[b.id]) for b in p.site.bess]
    powers += [
        (v.id, v.capability, plan.pv_p_kw[v.id], plan.pv_q_kvar[v.id])
        for v in p.site.pv
        if v.id in plan.pv_q_kvar
    ]
    for name, own, active, reactive in powers:
        if own is None:
            continue
        at = np.array([active, reactive]).T
        for start, end in pairwise([*own.corners, own.corners[0]]):
            along, away = np.subtract(end, start), at - np.array(start)
            right = (away[:, 0] * along[1] - away[:, 1] * along[0]) / np.hypot(*along)
            found.within("polygon", f"{name} outside the corners of its P-Q capability", right, tol.limit_kw)


def _check_voltage(found: Findings, plan: Plan, p: PlanningProblem, tol: Tolerance) -> None:
    policy = p.site.grid.reactive
    assert policy is not None
    true_pu = np.zeros(p.steps)
    base_ohm = p.site.grid.v_nominal_v**2 / 1000.0
    r, x = p.site.grid.r_ohm / base_ohm, p.site.grid.x_ohm / base_ohm
    for t in np.flatnonzero(p.grid_available):
        power = plan.grid_p_kw[t], plan.grid_q_kvar[t]
        true_pu[t] = two_bus_voltage_pu(r, x, float(p.v_source_pu[t]), *power)
    away: FloatArray = np.abs(true_pu - np.array(plan.poi_v_pu))
    found.within("voltage", "voltage at the interconnection not as stated", away, tol.voltage_pu)
    admitted = np.array(plan.poi_v_short_pu) > MISS_PU
    outside = np.maximum(policy.v_poi_min_pu - true_pu, true_pu - policy.v_poi_max_pu)
    silent = np.where(p.grid_available & ~admitted, outside, 0.0)
    found.within("voltage_band", "voltage at the interconnection out of its band", silent, tol.voltage_pu)
