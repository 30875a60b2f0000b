"""Independent check of a plan: replay it through plant_models, no solver. Beyond tolerance it is refused.

Only the steps with whole commitment are judged by the physics of units; the relaxed tail is an opinion.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ems.assets import GensetParams
from ems.plan import Plan
from ems.timegrid import FloatArray
from optimizer.problem import GensetStart, PlanningProblem
from optimizer.segments import fuel_segments
from plant_models import battery, genset


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far a replay may be from its plan."""

    balance_kw: float = 0.5
    limit_kw: float = 0.5
    soc: float = 0.015  # replayed SoC against the plan's at any step; tapers are judged with this margin
    fuel_ratio: float = 0.02
    time_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a replay found. `worst` by check, in the unit of its tolerance."""

    faults: tuple[str, ...]
    worst: Mapping[str, float]

    @property
    def ok(self) -> bool:
        """Whether the plan may be published."""
        return not self.faults


class _Findings:
    def __init__(self, plan: Plan) -> None:
        self.plan, self.faults, self.worst = plan, list[str](), dict[str, float]()

    def within(self, check: str, what: str, excess: FloatArray, tolerance: float) -> None:
        """`excess` (T,) is how much beyond each step is; more than `tolerance` is a fault."""
        if not len(excess):
            return
        t = int(np.argmax(excess))
        worst = float(excess[t])
        self.worst[check] = max(self.worst.get(check, 0.0), worst)
        if worst > tolerance:
            when = self.plan.grid.starts()[t]
            self.faults.append(
                f"{check}: {what} by {worst:.4g} at {when:%d %H:%M} UTC, allowed {tolerance:g}"
            )


def validate(
    plan: Plan,
    p: PlanningProblem,
    slack_kw: FloatArray | None = None,
    tolerance: Tolerance = Tolerance(),
) -> Verdict:
    """Replay a plan from the start of its problem.

    Parameters
    ----------
    plan : Plan
    p : PlanningProblem
        What the plan was made for: start, limits, forecasts, on the plan's own grid.
    slack_kw : (T,) array or None
        Named surplus minus named shortage at the bus, which the plan reports in its notes [kW].
    tolerance : Tolerance
    """
    found = _Findings(plan)
    series = [*plan.bess_p_kw.values(), *plan.genset_p_kw.values(), *plan.pv_p_kw.values(), plan.grid_p_kw]
    series += [*plan.shed_kw.values(), *plan.genset_on.values(), *plan.bess_soc_end.values()]
    if any(len(x) != p.steps for x in series) or not all(np.isfinite(x).all() for x in series):
        return Verdict(faults=("a series is not finite or not as long as the grid",), worst={})
    head = int((np.cumsum(~p.integral) == 0).sum())
    _check_balance(found, plan, p, np.zeros(p.steps) if slack_kw is None else slack_kw, tolerance)
    _check_batteries(found, plan, p, head, tolerance)
    for params, start in zip(p.site.gensets, p.gensets, strict=True):
        _check_genset(found, plan, p, params, start, head, tolerance)
    return Verdict(faults=tuple(found.faults), worst=found.worst)


def _total(series: Mapping[str, tuple[float, ...]], T: int) -> FloatArray:
    out: FloatArray = np.array([*series.values(), np.zeros(T)]).sum(axis=0)
    return out


def _check_balance(
    found: _Findings, plan: Plan, p: PlanningProblem, slack: FloatArray, tol: Tolerance
) -> None:
    """Power into the bus is load served plus auxiliaries; grid, PV and shedding inside their limits."""
    T, site = p.steps, p.site
    imported = np.array(plan.grid_p_kw)
    produced = _total(plan.genset_p_kw, T) + _total(plan.pv_p_kw, T) + _total(plan.bess_p_kw, T) + imported
    aux = sum(b.battery.aux_kw for b in site.bess)
    served = p.load_kw.sum(axis=0) - _total(plan.shed_kw, T) + aux
    found.within("balance", "the bus does not balance", np.abs(produced - served - slack), tol.balance_kw)
    there = p.grid_available.astype(np.float64)
    found.within("import", "import over its cap", imported - site.grid.p_import_kw_max * there, tol.limit_kw)
    found.within("export", "export over its cap", -imported - site.grid.p_export_kw_max * there, tol.limit_kw)
    for i, unit in enumerate(site.pv):
        used = np.array(plan.pv_p_kw[unit.id])
        found.within(
            "pv", f"{unit.id} outside 0..available", np.maximum(-used, used - p.pv_kw[i]), tol.limit_kw
        )
    for i, feeder in enumerate(site.feeders):
        shed = np.array(plan.shed_kw[feeder.id])
        found.within(
            "shed", f"{feeder.id} shed beyond its load", np.maximum(-shed, shed - p.load_kw[i]), tol.limit_kw
        )
        if feeder.has_breaker:
            part = np.minimum(shed, p.load_kw[i] - shed) * p.shed_whole
            found.within("whole_feeder", f"{feeder.id} shed in part", part, tol.limit_kw)
    unformed = np.array([float(not f) for f in plan.forming])
    found.within("forming", "load on a bus that nobody forms", unformed * (served - aux), tol.limit_kw)


def _check_batteries(found: _Findings, plan: Plan, p: PlanningProblem, head: int, tol: Tolerance) -> None:
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


def _check_genset(
    found: _Findings,
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
        free = np.array(start.blocked[:head]) & (p.grid.offset_s[:head] >= held_s - tol.time_s)
        found.within("blocked", f"{params.id} on load in a maintenance window", on * free, 0.5)
    found.within(
        "minimum_times",
        f"{params.id} against minimum up or down time [s]",
        _early(p, params, start, on),
        tol.time_s,
    )
    exact = np.array([genset.fuel_l_h(genset.fuel_points(params), x) for x in power])
    model = fuel_of_pieces(params, on, power)
    running = on > 0.5
    off = np.where(running, np.abs(model - exact) / np.maximum(exact, 1e-6), 0.0)
    found.within("fuel", f"{params.id} fuel of the model against its curve", off, tol.fuel_ratio)


def fuel_of_pieces(params: GensetParams, on: FloatArray, power: FloatArray) -> FloatArray:
    """(T,) fuel by the model's pieces [L/h]."""
    curve = fuel_segments(params)
    begin = params.p_min_kw + np.cumsum(curve.width_kw) - curve.width_kw
    part = np.clip(power[:, None] - begin, 0.0, curve.width_kw)
    out: FloatArray = curve.idle_l_h * on + np.asarray(part @ curve.slope_l_kwh)
    return out


def _early(p: PlanningProblem, params: GensetParams, start: GensetStart, on: FloatArray) -> FloatArray:
    """(T,) how many seconds too early each change of state comes; a unit lost before the plan is no fault."""
    early = np.zeros(len(on))
    state, since_s = start.on, -start.age_h * 3600.0
    for t, running in enumerate(on > 0.5):
        now_s = float(p.grid.offset_s[t])
        if bool(running) != state:
            least_s = params.min_up_s if state else params.min_down_s
            ready_s = start.ready_h * 3600.0 if not state else 0.0
            if not (start.starting and t == int(np.argmax(on > 0.5))):
                early[t] = max(0.0, least_s - (now_s - since_s))
            if not state and t > 0:
                early[t] = max(early[t], ready_s - now_s)
            state, since_s = bool(running), now_s
    return early
