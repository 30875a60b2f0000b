"""Deferrable devices: inside their windows, no more than their work, runs long and few enough."""

import numpy as np

from ems.deferrable import DeferrableParams
from ems.plan import Plan
from ems.timegrid import BoolArray, FloatArray
from optimizer.problem import DeferrableStart, PlanningProblem
from optimizer.validate.findings import Findings, Tolerance

ENERGY_RATIO = 0.002  # of the work of the windows: how far energy may be off


def check_deferrables(found: Findings, plan: Plan, p: PlanningProblem, head: int, tol: Tolerance) -> None:
    """Replay each device's work from what is done already."""
    for unit, start in zip(p.site.deferrables, p.deferrables, strict=True):
        power = np.array(plan.deferrable_kw[unit.id])
        over = np.maximum(-power, power - unit.p_kw * start.share)
        found.within("device_power", f"{unit.id} beyond its power or outside its windows", over, tol.limit_kw)
        _work(found, plan, p, unit, start, power, tol)
        if unit.switched:
            _runs(found, p, unit, start, power[:head], tol)


def _work(
    found: Findings,
    plan: Plan,
    p: PlanningProblem,
    unit: DeferrableParams,
    start: DeferrableStart,
    power: FloatArray,
    tol: Tolerance,
) -> None:
    """What each window lacks at its end adds up to what the plan says is unfinished; none is overdone."""
    counted, lost, excess = start.done_kwh, 0.0, np.zeros(p.steps)
    for t in range(p.steps):
        counted += float(power[t] * p.step_h[t])
        if unit.min_run_s > 0.0:  # a minimum run may take power for nothing
            counted = min(counted, float(start.opened_kwh[t]))
        excess[t] = counted - start.opened_kwh[t]
        if start.ends[t] and counted < start.due_kwh[t]:
            lost += float(start.due_kwh[t]) - counted
            counted = float(start.due_kwh[t])
    size = ENERGY_RATIO * float(start.opened_kwh[-1]) + tol.limit_kw * 0.1
    found.within("device_work", f"{unit.id} does more than its work [kWh]", excess, size)
    said = plan.unfinished_kwh[unit.id]
    unsaid = (
        lost - said if unit.min_run_s > 0.0 else abs(lost - said)
    )  # a minimum run may waste what it takes
    what = f"{unit.id} leaves undone what the plan does not say [kWh]"
    found.within("device_unfinished", what, np.array([unsaid]), size)


def _runs(
    found: Findings,
    p: PlanningProblem,
    unit: DeferrableParams,
    start: DeferrableStart,
    power: FloatArray,
    tol: Tolerance,
) -> None:
    """Power while on, length of runs and starts in a window; the last step of a run may be left early."""
    on: BoolArray = power > tol.limit_kw
    whole = start.share[: len(power)] >= 1.0 - 1e-6
    stays = np.append(on[1:], False)
    early, many, low = np.zeros(len(on)), np.zeros(len(on)), np.zeros(len(on))
    running, since_s, made = start.on, -3600.0 * start.age_h, start.starts
    for t in range(len(on)):
        now_s = float(p.grid.offset_s[t])
        if start.opens[t]:
            made = 0
        if on[t] and not running:
            made, since_s = made + 1, now_s
        elif running and not on[t] and start.share[t] > 1.0 - 1e-6 and not _done(p, start, power, t):
            early[t] = max(0.0, unit.min_run_s - (now_s - since_s))
        must = stays[t] or now_s - since_s < unit.min_run_s - tol.time_s
        if on[t] and must and whole[t]:
            low[t] = unit.p_min_kw - power[t]
        if unit.starts_max is not None and on[t]:
            many[t] = made - max(unit.starts_max, start.starts)
        running = bool(on[t])
    found.within("device_low", f"{unit.id} below its least power", low, tol.limit_kw)
    found.within("device_run", f"{unit.id} stops before its minimum run [s]", early, tol.time_s)
    found.within("device_starts", f"{unit.id} starts too often in a window", many, 0.5)


def _done(p: PlanningProblem, start: DeferrableStart, power: FloatArray, t: int) -> bool:
    """Whether the work opened so far is done before step t, however it was counted."""
    counted = start.done_kwh + float(power[:t] @ p.step_h[:t])
    return counted >= float(start.opened_kwh[t]) * (1.0 - ENERGY_RATIO) - 0.05
