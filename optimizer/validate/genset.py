"""Gensets: commitment, load range, minimum times, calendar, fuel."""

import numpy as np

from ems.assets import GensetParams
from ems.plan import Plan
from ems.timegrid import FloatArray
from optimizer.problem import GensetStart, PlanningProblem
from optimizer.segments import fuel_segments
from optimizer.validate.findings import Findings, Tolerance
from plant_models import genset


def check_genset(
    found: Findings,
    plan: Plan,
    p: PlanningProblem,
    params: GensetParams,
    start: GensetStart,
    head: int,
    tol: Tolerance,
) -> None:
    """Whole commitment, load range, minimum times and fuel of one genset."""
    on, power = np.array(plan.genset_on[params.id])[:head], np.array(plan.genset_p_kw[params.id])[:head]
    found.within("whole", f"{params.id} commitment not whole", np.abs(on - np.round(on)), 1e-6)
    over = np.maximum(params.p_min_kw * on - power, power - params.p_rated_kw * on)
    found.within("genset_load", f"{params.id} outside minimum load..rating", over, tol.limit_kw)
    found.within(
        "genset_there", f"{params.id} on load while not available", on * float(not start.available), 0.5
    )
    if start.blocked:
        held_s = (params.min_up_s - 3600.0 * start.age_h) if start.on else 0.0
        if start.starting:  # nothing stops a start in progress, and its minimum time runs from there
            held_s = float(p.grid.offset_s[int(np.argmax(on > 0.5))]) + params.min_up_s
        free = np.array(start.blocked[:head]) & (p.grid.offset_s[:head] >= held_s - tol.time_s)
        found.within("blocked", f"{params.id} on load in a maintenance window", on * free, 0.5)
    found.within(
        "minimum_times",
        f"{params.id} against minimum up or down time [s]",
        _early(p, params, start, on),
        tol.time_s,
    )
    _check_ramps(found, p, params, start, (on, power), tol)
    exact = genset.fuel_l_h_array(params, power)
    model = fuel_of_pieces(params, on, power)
    running = on > 0.5
    off = np.where(running, np.abs(model - exact) / np.maximum(exact, 1e-6), 0.0)
    found.within("fuel", f"{params.id} fuel of the model against its curve", off, tol.fuel_ratio)


def _check_ramps(
    found: Findings,
    p: PlanningProblem,
    params: GensetParams,
    start: GensetStart,
    series: tuple[FloatArray, FloatArray],
    tol: Tolerance,
) -> None:
    """Change from step to step while it runs, output in the first and in the last step of a run."""
    running, power = series[0] > 0.5, series[1]
    was_on = np.concatenate([[start.on], running[:-1]])
    now_kw = float(np.clip(start.output_kw, params.p_min_kw, params.p_rated_kw))  # an overload is no plan's
    was_kw = np.concatenate([[now_kw], power[:-1]])
    step_s = np.asarray(p.grid.step_s[: len(power)])
    apart_s = 0.5 * (step_s + np.concatenate([step_s[:1], step_s[:-1]]))
    rise, fall = power - was_kw, was_kw - power
    kept = np.maximum(rise - params.ramp_kw_s * apart_s, fall - params.ramp_down_or_up_kw_s * apart_s)
    begun, ended = power - params.start_up_or_rated_kw, was_kw - params.shut_down_or_rated_kw
    over = np.where(running, np.where(was_on, kept, begun), np.where(was_on, ended, 0.0))
    found.within("ramp", f"{params.id} beyond its ramp or the edge of a run", over, tol.limit_kw)


def fuel_of_pieces(params: GensetParams, on: FloatArray, power: FloatArray) -> FloatArray:
    """(T,) fuel by the model's pieces [L/h]."""
    curve = fuel_segments(params)
    begin = params.p_min_kw + np.cumsum(curve.width_kw) - curve.width_kw
    part = np.clip(power[:, None] - begin, 0.0, curve.width_kw)
    out: FloatArray = curve.idle_l_h * on + np.asarray(part @ curve.slope_l_kwh)
    return out


def _early(p: PlanningProblem, params: GensetParams, start: GensetStart, on: FloatArray) -> FloatArray:
    """(T,) how many seconds too early each change of state comes; a unit lost before the plan is no fault."""
    early, running, edges_s = np.zeros(len(on)), on > 0.5, p.grid.offset_s
    state, since_s = start.on, -start.age_h * 3600.0
    for t in np.flatnonzero(running != np.append(start.on, running[:-1])).tolist():
        now_s = float(edges_s[t])
        least_s = params.min_up_s if state else params.min_down_s
        if not (start.starting and t == int(np.argmax(running))):
            early[t] = max(0.0, least_s - (now_s - since_s))
        if not state and t > 0:
            early[t] = max(early[t], start.ready_h * 3600.0 - now_s)
        state, since_s = bool(running[t]), now_s
    return early
