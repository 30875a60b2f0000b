"""What makers allow a genset, counted anew from a plan's powers: low load, burn-offs, and fuel in the tanks.

These limits are soft. What is judged is that a plan pays for all it misses: the hours it must be over are
found by walking through its whole steps, without the model's variables.
"""

import numpy as np

from ems.assets import ISO_FLOOR_RATIO, ISO_MEAN_H, GensetParams, Sharing
from ems.plan import Plan
from ems.timegrid import BoolArray, FloatArray
from optimizer.prices import ladder
from optimizer.problem import GensetStart, PlanningProblem
from optimizer.validate.findings import Findings, Tolerance
from plant_models import genset

PAID_RATIO = 0.01  # of what is due, or of an hour's price: how much a plan may pay less
FUEL_RATIO = 0.02  # of what was burnt: the pieces of the model against the curve
SHORT_STEP_H = 0.25  # of missing reserve: what a step too large costs
LEVEL_KW = 1e-3  # a load so little below a line is on it


def check_sharing(found: Findings, plan: Plan, p: PlanningProblem, head: int, tol: Tolerance) -> None:
    """Sets that carry an island in proportion to their ratings are at one per-unit load."""
    group = [g for g in p.site.gensets if g.sharing is Sharing.PROPORTIONAL]
    apart = np.zeros(head)
    for t in np.flatnonzero(p.islanded[:head]) if not p.bess_forms else ():
        running = [g for g in group if plan.genset_on[g.id][t] > 0.5]
        total = sum(plan.genset_p_kw[g.id][t] for g in running)
        rated = sum(g.p_rated_kw for g in running)
        for g in running:
            apart[t] = max(apart[t], abs(plan.genset_p_kw[g.id][t] - total * g.p_rated_kw / rated))
    found.within("sharing", "gensets do not share the load in proportion", apart, tol.limit_kw)


def check_load_steps(found: Findings, plan: Plan, p: PlanningProblem, head: int) -> None:
    """Feeders that close onto an island, read off what is shed; a step too large must be paid."""
    if not p.site.reserve.load_steps or not p.shed_whole.any():
        return
    price, due = SHORT_STEP_H * ladder(p.site).reserve_per_kwh, 0.0
    for i, feeder in enumerate(p.site.feeders):
        was_open = bool(p.feeder_open[i]) and feeder.has_breaker
        for t in range(head if feeder.has_breaker else 0):
            load_kw, shed_kw = float(p.load_kw[i, t]), plan.shed_kw[feeder.id][t]
            if load_kw <= LEVEL_KW or not p.shed_whole[t]:
                was_open = False  # whether it is open cannot be seen
                continue
            if was_open and shed_kw < 0.5 * load_kw:
                due += max(0.0, feeder.p_peak_kw - _accepted_kw(plan, p, t))
            was_open = shed_kw >= 0.5 * load_kw
    _paid(found, plan, "load_step_short", price * due, price)


def _accepted_kw(plan: Plan, p: PlanningProblem, t: int) -> float:
    """Largest step that the sources on line accept [kW]."""
    if p.grid_available[t]:
        return float("inf")
    sets = sum(g.step_load_kw_max for g in p.site.gensets if plan.genset_on[g.id][t] > 0.5)
    for unit, start in zip(p.site.bess, p.bess, strict=True):
        if unit.pcs.can_form and start.available and unit.id in p.site.forming.islanded:
            sets += float(start.p_discharge_kw[t])
    return sets


def check_care(found: Findings, plan: Plan, p: PlanningProblem, head: int) -> None:
    """Cost terms of low load against the plan's own powers."""
    due_price = due_over = scale = 0.0
    for params, start in zip(p.site.gensets, p.gensets, strict=True):
        low = params.low_load
        if low is None or low.below_ratio * params.p_rated_kw <= params.p_min_kw:
            continue
        on, power = np.array(plan.genset_on[params.id]), np.array(plan.genset_p_kw[params.id])
        below = np.maximum(0.0, low.below_ratio * params.p_rated_kw * on - power)
        due_price += low.price_per_kwh * float(below @ p.step_h)
        per_h = ladder(p.site).genset_care_per_kwh * params.p_rated_kw
        at_low = (on[:head] > 0.5) & (below[:head] > LEVEL_KW)
        due_over += per_h * hours_over(p, params, start, at_low, power[:head])
        scale = max(scale, per_h)
    _paid(found, plan, "low_load", due_price, 1.0)
    _ratings(found, plan, p, head)
    _exercises(found, plan, p, head)
    _tanks(found, plan, p, head)
    _paid(found, plan, "low_load_over", due_over, scale)


def _ratings(found: Findings, plan: Plan, p: PlanningProblem, head: int) -> None:
    """Mean loads over hours of operation and hours of the year, anew; what is over must be paid."""
    care, cost, scale = ladder(p.site).genset_care_per_kwh, 0.0, 0.0
    ends_h = p.grid.offset_s[1:] / 3600.0
    for params, start in zip(p.site.gensets, p.gensets, strict=True):
        if params.rating is None:
            continue
        on, power = np.array(plan.genset_on[params.id]), np.array(plan.genset_p_kw[params.id])
        if (most := params.rating.year_h_max) is not None:
            left_h = max(0.0, most - start.year_run_h)
            cost += care * params.p_rated_kw * max(0.0, float(on @ p.step_h) - left_h)
        if (ratio := params.rating.mean_ratio_max) is not None:
            counted = np.maximum(power, ISO_FLOOR_RATIO * params.p_rated_kw * on)
            beyond_kw = counted - ratio * params.p_rated_kw * on
            for t in range(head):
                part = np.clip(ends_h[: t + 1] - (ends_h[t] - ISO_MEAN_H), 0.0, p.step_h[: t + 1])
                over = float(part @ beyond_kw[: t + 1]) - start.mean_room_kwh[t]
                if over > 0.0:  # the latest step is in most of the windows to come
                    cost += care * over
                    beyond_kw[t] -= over / float(p.step_h[t])
        scale = max(scale, care * params.p_rated_kw)
    _paid(found, plan, "rating_over", cost, scale)


def _exercises(found: Findings, plan: Plan, p: PlanningProblem, head: int) -> None:
    """Find the first run that is an exercise, step by step; what is late or missed must be paid."""
    care, cost, scale = ladder(p.site).genset_care_per_kwh, 0.0, 0.0
    edges_h = p.grid.offset_s / 3600.0
    for params, start in zip(p.site.gensets, p.gensets, strict=True):
        x = params.exercise
        if x is None or not start.available or x.every_h - start.idle_h >= edges_h[head] - 1e-6:
            continue
        due, begun_h, done_h = max(0.0, x.every_h - start.idle_h), None, None
        for t in range(head):
            loaded = plan.genset_p_kw[params.id][t] >= x.load_ratio * params.p_rated_kw - LEVEL_KW
            begun_h = (edges_h[t] if begun_h is None else begun_h) if loaded else None
            if begun_h is not None and done_h is None and edges_h[t + 1] - begun_h >= x.for_h - 1e-6:
                done_h = begun_h + x.for_h
        end_h = float(edges_h[head])
        late_days = (end_h - due) / 24.0 + 1.0 if done_h is None else max(0.0, done_h - due) / 24.0
        cost += care * params.p_rated_kw * late_days
        scale = max(scale, care * params.p_rated_kw)
    _paid(found, plan, "exercise_late", cost, scale)


def _tanks(found: Findings, plan: Plan, p: PlanningProblem, head: int) -> None:
    """Replay the tanks by the gensets' own curves; what is short of fuel or of its reserve must be paid."""
    short_cost, scale, left_l, burnt_l = 0.0, ladder(p.site).tank_per_l, np.zeros(head), np.zeros(head)
    for params, start in zip(p.site.gensets, p.gensets, strict=True):
        points, level_l, used_l, lack_l = genset.fuel_points(params), start.fuel_l, 0.0, 0.0
        on, power = plan.genset_on[params.id], plan.genset_p_kw[params.id]
        for t in range(head):
            if start.delivered_l and start.delivered_l[t] > 0.0:
                level_l = max(level_l, min(params.tank_usable_l, level_l + start.delivered_l[t]))
            litres = genset.fuel_l_h(points, power[t]) * float(p.step_h[t]) if on[t] > 0.5 else 0.0
            level_l, used_l = level_l - litres, used_l + litres
            lack_l = max(lack_l, -level_l - FUEL_RATIO * used_l)
            left_l[t] += level_l if start.available else 0.0
            burnt_l[t] += used_l
        short_cost += scale * lack_l
    _paid(found, plan, "tank_short", short_cost, scale)
    policy = p.site.reserve
    if policy.fuel_h <= 0.0 or not np.isfinite(left_l).all() or not p.site.gensets:
        return
    per_kwh = max(g.fuel_l_h[-1] / g.fuel_kw[-1] for g in p.site.gensets)
    lack = [critical_ahead_kwh(p, t, policy.fuel_h) * per_kwh - left_l[t] for t in range(head)]
    lack_lh = float(np.maximum(0.0, np.array(lack) - FUEL_RATIO * burnt_l) @ p.step_h[:head])
    price = ladder(p.site).reserve_per_kwh / per_kwh / policy.fuel_h
    _paid(found, plan, "fuel_reserve_short", price * lack_lh, price)


def critical_ahead_kwh(p: PlanningProblem, t: int, hours: float) -> float:
    """Energy of the critical load and auxiliaries after step `t`; its mean stands for what lies beyond."""
    site = p.site
    tiers = [
        i for i, f in enumerate(site.feeders) if f.tier <= site.reserve.critical_tier or not f.has_breaker
    ]
    kw = p.load_kw[tiers].sum(axis=0) + sum(b.battery.aux_kw for b in site.bess)
    edges_h = p.grid.offset_s / 3600.0
    end_h = float(edges_h[-1])

    def within(a: float, b: float) -> float:
        part = np.clip(np.minimum(edges_h[1:], b) - np.maximum(edges_h[:-1], a), 0.0, None)
        return float(part @ kw)

    begin = float(edges_h[t + 1])
    back = min(hours, end_h)
    beyond_h = max(0.0, begin + hours - end_h)
    return within(begin, begin + hours) + within(end_h - back, end_h) / back * beyond_h


def _paid(found: Findings, plan: Plan, term: str, due: float, unit: float) -> None:
    """`due` must be in a term of the plan's cost, up to rounding."""
    tolerance = PAID_RATIO * max(due, unit)
    missing = np.array([due - plan.cost_terms.get(term, 0.0)])
    found.within(term, f"{term} costs less than the plan's powers make it [money]", missing, tolerance)


def hours_over(
    p: PlanningProblem, params: GensetParams, start: GensetStart, at_low: BoolArray, power: FloatArray
) -> float:
    """Hours at low load that no budget and no burn-off covers."""
    low = params.low_load
    assert low is not None
    hours = np.where(at_low, p.step_h[: len(at_low)], 0.0)
    total = 0.0
    if low.budget_h is not None:
        total += _over_budget(p, start, hours, low.budget_h, low.window_h)
    if low.burn_off is not None:
        count, burning_h, after_h = min(start.low_load_count_h, low.burn_off.after_h), start.burning_h, 0.0
        for t, low_h in enumerate(hours):
            hot = power[t] >= low.burn_off.above_ratio * params.p_rated_kw - LEVEL_KW
            burning_h = burning_h + float(p.step_h[t]) if hot else 0.0
            count += float(low_h)
            if burning_h >= low.burn_off.for_h - 1e-6:
                count = 0.0
            after_h = max(0.0, count - low.burn_off.after_h)
            total, count = total + after_h, count - after_h
    return total


def _over_budget(
    p: PlanningProblem, start: GensetStart, hours: FloatArray, budget_h: float, window_h: float
) -> float:
    """Least hours to take out so that every window keeps its budget: the latest go first."""
    end_h, over = np.cumsum(p.step_h), 0.0
    left = hours.copy()
    for t in range(len(left)):
        begin = end_h[t] - window_h
        inside = np.clip(end_h[: t + 1] - begin, 0.0, p.step_h[: t + 1]) / p.step_h[: t + 1]
        room = max(0.0, budget_h - start.low_load_past_h[t])
        excess = float(left[: t + 1] @ inside) - room
        for i in range(t, -1, -1):
            if excess <= 1e-9 or inside[i] <= 0.0:
                break
            part = min(float(left[i]), excess / float(inside[i]))
            left[i], over, excess = left[i] - part, over + part, excess - part * float(inside[i])
    return over
