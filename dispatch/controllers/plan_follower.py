"""Makes a plan real: follows it and corrects inside the interval; rules when there is none to follow.

Grid-tied, what deviates from the forecast goes to whoever was marginal in the plan: where it curtails PV, PV
as far as there is sun; where it imports, the grid; where it neither imports nor exports, the battery. In all
cases the battery holds the import under the demand peak the plan reckons with, and gensets that run anyway
carry what it may not. In an island formed by a battery the battery's power is a result: the gensets are
loaded so that its charge follows the plan.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from dispatch.controllers.demand_peak import planned_peaks
from dispatch.controllers.plan_pv import SPILL_KW, planned_now, planned_soc, pv_wish
from dispatch.controllers.rules import stores
from dispatch.controllers.rules_tou import RulesTou
from dispatch.protections.balance import (
    carrying,
    charge_room_kw,
    discharge_room_kw,
    moved,
    share_load,
    split,
    unheard_kw,
)
from dispatch.vocabulary import Context, Controller, ControlMemory, Source, Target, Targets
from ems.assets import GensetParams
from ems.commands import Cause
from ems.frozen import replace
from ems.plan import Plan, PlanLabel
from ems.site import GridMode

PATH_TOLERANCE_SOC = 0.02  # deliberate discharge ends so far below the planned charge at the latest
SHAVE_TOLERANCE_SOC = 0.05  # holding the planned demand peak may use so much more
PATH_TAU_H = 0.5  # island: a deviation from the charge path is worked off in this time
START_MARGIN_S = 15.0  # a planned genset is asked for so much before its start delay
SPILL_STEPS = 12  # 3 h of quarter-hours
PEAK_MARGIN_RATIO = 0.995  # of the planned demand peak


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFollower:
    """Follows the accepted plan; hands over to `fallback` when the context has none.

    A plan older than `fresh_s` [s] is called the last plan even while its planner is alive.
    """

    fallback: Controller = field(default_factory=RulesTou)
    fresh_s: float = 5400.0
    name: str = "plan"

    def decide(self, context: Context) -> tuple[Targets, ControlMemory]:
        """Wishes for this cycle, before the protections common to all controllers."""
        plan = context.plan
        if plan is None:
            return self.fallback.decide(context)
        memory = replace(
            context.memory,
            gensets_wanted=plan.available_units(context.step),
            peaks=planned_peaks(context.site.tariff, context.memory.peaks, plan, planned_now(context)),
        )
        run = _runs(context, plan)
        feeders, pv = _feeders(context, plan), None
        if context.condition.grid_mode is GridMode.GRID_TIED:
            bess, gensets = _grid_tied_bess(context, plan), _planned_loads(context, plan)
            pv = pv_wish(context, plan, _import_allowance_kw(context, plan)[0])
        elif context.condition.forming in context.condition.bess:
            bess, gensets = _beside_forming(context, plan), _island_loads(context, plan)
        else:
            bess, gensets = _planned_bess(context, plan), {}
        targets = Targets(
            source=source_of(context, plan, self.fresh_s),
            plan_id=plan.plan_id,
            bess_p_kw=bess,
            genset_run=run,
            genset_p_kw=gensets,
            pv_wish=pv,
            feeder_close=feeders,
            q_kvar=_reactive(context, plan),
        )
        return targets, memory


def source_of(context: Context, plan: Plan, fresh_s: float) -> Source:
    """PLAN while it is fresh and somebody is making the next one, else LAST_PLAN."""
    old = planned_now(context) - plan.issued_at > timedelta(seconds=fresh_s)
    stale = old or not context.planner_alive or plan.label is PlanLabel.SHIFTED
    return Source.LAST_PLAN if stale else Source.PLAN


def _as_planned(value: float, reason: str) -> Target:
    return Target(value=value, cause=Cause.PLAN, reason=reason)


def _runs(context: Context, plan: Plan) -> dict[str, Target]:
    """Gensets as planned, asked for early enough to be on load when their step begins."""
    k = context.step
    offset_s = (planned_now(context) - plan.grid.start).total_seconds()
    next_s = float(sum(plan.grid.step_s[: k + 1])) - offset_s
    horizon_s = context.dt_s if context.dt_s <= 60.0 else 0.0
    out = {}
    for g in context.site.gensets:
        on = plan.genset_on[g.id]
        soon = k + 1 < len(on) and on[k + 1] > 0.5 and next_s <= g.start_delay_s + START_MARGIN_S + horizon_s
        if on[k] > 0.5:
            out[g.id] = _as_planned(
                1.0, f"the plan has {g.id} on load with {plan.genset_p_kw[g.id][k]:.0f} kW"
            )
        elif soon:
            out[g.id] = _as_planned(
                1.0, f"the plan needs {g.id} in {next_s:.0f} s, it takes {g.start_delay_s:.0f} s"
            )
        else:
            out[g.id] = _as_planned(0.0, f"the plan does without {g.id}")
    return out


def _reactive(context: Context, plan: Plan) -> dict[str, Target]:
    """Reactive power as planned; the protections choose from it at their own pace."""
    k = context.step
    planned = {**plan.bess_q_kvar, **plan.pv_q_kvar}
    return {a: _as_planned(q[k], f"planned: {q[k]:+.0f} kvar") for a, q in planned.items()}


def _feeders(context: Context, plan: Plan) -> dict[str, Target]:
    """Feeders are whole: one is opened when the plan sheds at least half of it."""
    out = {}
    for feeder, shed in plan.shed_kw.items():
        load_kw = plan.load_kw[feeder][context.step]
        if load_kw > 0.0 and shed[context.step] >= 0.5 * load_kw:
            out[feeder] = _as_planned(0.0, f"the plan sheds {shed[context.step]:.0f} kW of {feeder}")
    return out


def _planned_loads(context: Context, plan: Plan) -> dict[str, Target]:
    """Base loads of the sets on load, as planned; minimum load where the plan has none for them."""
    out = {}
    for g in context.site.gensets:
        if context.condition.gensets[g.id].carries:
            p_kw = max(g.p_min_kw, plan.genset_p_kw[g.id][context.step])
            out[g.id] = _as_planned(p_kw, f"base load of {g.id} as planned")
    return _with_peak_held(context, plan, out)


def _with_peak_held(context: Context, plan: Plan, loads: dict[str, Target]) -> dict[str, Target]:
    """Sets that run anyway carry what batteries at their guard leave of the load over the demand peak."""
    if not loads or context.condition.grid_mode is not GridMode.GRID_TIED:
        return loads
    limit_kw, peak = _import_allowance_kw(context, plan)
    known = {b: 0.0 for b in plan.bess_p_kw if context.condition.bess[b].available}
    down_kw = sum(_rooms_down(context, plan, known, SHAVE_TOLERANCE_SOC).values())
    given_kw = sum(t.value for t in loads.values()) + unheard_kw(context.condition)
    missing_kw = context.power.net_kw - down_kw - limit_kw - given_kw
    rooms = {g.id: g.p_rated_kw - loads[g.id].value for g in context.site.gensets if g.id in loads}
    why = f"holds the import under {limit_kw:.0f} kW, {peak}: the batteries are at their guard"
    for g, more_kw in split(max(0.0, missing_kw), rooms).items():
        if more_kw > 0.0:
            loads[g] = _as_planned(loads[g].value + more_kw, why)
    return loads


def _planned_bess(context: Context, plan: Plan) -> dict[str, Target]:
    """Planned battery powers, for batteries that follow."""
    k = context.step
    return {b: _as_planned(p[k], f"planned: {p[k]:+.0f} kW") for b, p in plan.bess_p_kw.items()}


def _beside_forming(context: Context, plan: Plan) -> dict[str, Target]:
    """Batteries that follow one that forms: as planned, with their part of the deviation."""
    k, forming, found = context.step, context.condition.forming, stores(context)
    planned = {b: p[k] for b, p in plan.bess_p_kw.items() if b in found}
    if len(planned) < 2 or forming not in planned:
        return _planned_bess(context, plan)
    total_kw = context.power.net_kw - context.power.genset_kw
    rooms = {b: (found[b].charge_kw, found[b].discharge_kw) for b in planned}
    values = moved(planned, rooms, total_kw - sum(planned.values()))
    out = {}
    for b, p_kw in values.items():
        if b != forming:
            out[b] = _as_planned(p_kw, f"planned: {planned[b]:+.0f} kW, and its part of the deviation")
    return out


# --- grid-tied --------------------------------------------------------------------------------------------


def _grid_tied_bess(context: Context, plan: Plan) -> dict[str, Target]:
    k = context.step
    planned = {b: p[k] for b, p in plan.bess_p_kw.items() if context.condition.bess[b].available}
    planned_kw = sum(planned.values())
    net_kw = context.power.net_kw - context.power.genset_kw
    wish_kw, why = _by_intent(context, plan, planned_kw, net_kw)
    down = _rooms_down(context, plan, planned, SHAVE_TOLERANCE_SOC)
    guarded = _rooms_down(context, plan, planned, PATH_TOLERANCE_SOC)
    wish_kw = min(wish_kw, sum(guarded.values()))
    limit_kw, peak = _import_allowance_kw(context, plan)
    if net_kw - wish_kw > limit_kw:
        wish_kw = max(wish_kw, min(net_kw - limit_kw, sum(down.values())))
        why = f"holds the import under {limit_kw:.0f} kW, {peak}"
    up = {
        b.id: charge_room_kw(b.battery, context.condition.bess[b.id], b.battery.soc_max, context.dt_s)
        for b in context.site.bess
        if b.id in planned
    }
    shares = _deviate(planned, wish_kw, down, up)
    return {b: _as_planned(p_kw, why) for b, p_kw in shares.items()}


def _by_intent(context: Context, plan: Plan, planned_kw: float, net_kw: float) -> tuple[float, str]:
    """Battery power before limits: as planned where the grid was marginal, else what balances the POI."""
    k, grid = context.step, context.site.grid
    bias_kw = grid.poi_bias_kw
    grid_kw = plan.grid_p_kw[k]
    if grid_kw > 1.5 * bias_kw:
        return planned_kw, f"planned: {planned_kw:+.0f} kW, the grid takes the deviation"
    if grid_kw < -1.5 * bias_kw:
        if planned_kw < 0.0 < net_kw - planned_kw:
            return min(0.0, net_kw), f"planned: {planned_kw:+.0f} kW, less for want of surplus"
        return planned_kw, f"planned: {planned_kw:+.0f} kW, the surplus is exported"
    balance_kw = net_kw - max(0.0, bias_kw - grid.p_export_kw_max)
    if planned_kw > 1.0:
        return max(0.0, balance_kw), f"planned: {planned_kw:+.0f} kW, the battery covers the load as it is"
    if not _spills_soon(plan, k):
        return min(0.0, balance_kw), f"planned: {planned_kw:+.0f} kW, the battery takes the surplus as it is"
    return balance_kw, "PV to spare is planned: what the battery gives now it gets back for nothing"


def _spills_soon(plan: Plan, step: int) -> bool:
    """Whether the plan throws PV away within `SPILL_STEPS`: then stored energy costs nothing."""
    ahead = slice(step, step + SPILL_STEPS)
    return any(
        available - used > SPILL_KW
        for p, series in plan.pv_p_kw.items()
        for available, used in zip(plan.pv_available_kw[p][ahead], series[ahead], strict=True)
    )


def _rooms_down(
    context: Context, plan: Plan, planned: Mapping[str, float], tolerance: float
) -> dict[str, float]:
    """Discharge that ends no more than `tolerance` below the planned charge, by battery [kW]."""
    out = {}
    for b in context.site.bess:
        if b.id in planned:
            floor = max(b.battery.soc_min, plan.bess_soc_end[b.id][context.step] - tolerance)
            out[b.id] = discharge_room_kw(b.battery, context.condition.bess[b.id], floor, context.dt_s)
    return out


def _import_allowance_kw(context: Context, plan: Plan) -> tuple[float, str]:
    """Import allowed on the mean for the rest of the billing interval, and what sets it [kW]."""
    grid, c = context.site.grid, context.condition
    cap_kw = grid.p_import_kw_max - grid.poi_bias_kw
    peak_kw = max(plan.peak_import_kw, c.peak_import_kw)
    if plan.import_limit_kw:
        peak_kw = plan.import_limit_kw[context.step]
    peak_kw *= PEAK_MARGIN_RATIO
    length_s = context.site.tariff.billing_interval_s
    into_s = planned_now(context).timestamp() % length_s
    left_s = length_s - into_s
    unseen_s = max(0.0, into_s - c.interval_elapsed_s)  # before the edge started
    used_kwh = c.interval_import_kwh + peak_kw * unseen_s / 3600.0
    if context.dt_s >= left_s:
        allowed_kw = peak_kw
    else:
        allowed_kw = max(0.0, (peak_kw * length_s / 3600.0 - used_kwh) * 3600.0 / left_s)
    return (allowed_kw, "the planned demand peak") if allowed_kw < cap_kw else (cap_kw, "the contract's cap")


def _deviate(
    planned: Mapping[str, float], total_kw: float, down: Mapping[str, float], up: Mapping[str, float]
) -> dict[str, float]:
    """Share a total among batteries: the plan's split, and the deviation by their rooms [kW]."""
    values = moved(planned, {b: (up[b], down[b]) for b in planned}, total_kw - sum(planned.values()))
    return {b: max(-up[b], min(down[b], p)) for b, p in values.items()}


# --- island formed by a battery ---------------------------------------------------------------------------


def _island_loads(context: Context, plan: Plan) -> dict[str, Target]:
    """Genset loads that let the forming battery's charge follow the planned path."""
    running = carrying({g.id: g for g in context.site.gensets}, context.condition)
    if not running:
        return {}
    wanted_kw = 0.0
    for b in context.site.bess:
        c = context.condition.bess[b.id]
        ahead_kwh = (c.soc - planned_soc(context, plan, b.id)) * b.battery.energy_kwh
        wish_kw = plan.bess_p_kw[b.id][context.step] + ahead_kwh / PATH_TAU_H
        wanted_kw += max(-0.9 * c.p_charge_kw_max, min(0.9 * c.p_discharge_kw_max, wish_kw))
    rest_kw = context.power.net_kw - unheard_kw(context.condition) - wanted_kw
    loads = share_load(rest_kw, _by_plan(running, plan, context.step))
    why = f"steers the forming battery to {wanted_kw:+.0f} kW, the planned charge path"
    return {g: _as_planned(p_kw, why) for g, p_kw in loads.items()}


def _by_plan(running: list[GensetParams], plan: Plan, step: int) -> list[GensetParams]:
    """Sets the plan wants on load; all that run when it wants none of them."""
    meant = [g for g in running if plan.genset_on[g.id][step] > 0.5]
    return meant if meant else running
