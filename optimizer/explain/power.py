"""Why each power is what it is: which changed limit or price would move it, and what other powers cost.

A limit or price is a reason if, once it is changed, keeping the setpoint costs more than the best plan under
the change: the regret, which is proven by two solves and does not depend on which of several equally good
plans a solver happens to return. The commitment is the plan's throughout.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from ems.explanation import Alternative, Reason, ReasonCode, SetpointWhy
from ems.timegrid import FloatArray
from optimizer.explain.bench import Bench, Setpoint, setpoints
from optimizer.explain.ground import Ground
from optimizer.explain.posed import Change, setpoint_values
from optimizer.explain.purpose import Uses
from optimizer.explain.sayings import SMALL_COST, PowerFacts, power_sentence
from optimizer.formulations.deferrable import switched
from optimizer.marking import burning

SHARE = 0.1  # of the rating: how far the next-best setpoint is away
MOVED_SHARE = 0.01  # of the rating: a setpoint that moves less has not moved
WHOLE_FROM_KW = 50.0  # rating from which other setpoints are whole kW
ASKED = 6  # changes that are confirmed for one setpoint at most
TOLD = 2  # and told


def limits(ground: Ground) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(setpoints,) hard lower and upper limit of every power, and the rating it is a share of [kW]."""
    p, site, T = ground.layout.problem, ground.posed.site, ground.layout.problem.steps
    low, high, rating = [], [], []

    def put(lo: FloatArray, hi: FloatArray, rated_kw: float) -> None:
        low.append(lo)
        high.append(hi)
        rating.append(np.full(T, rated_kw))

    zero = np.zeros(T)
    for unit, start in zip(site.bess, p.bess, strict=True):
        rated = max(unit.battery.p_charge_kw_max, unit.battery.p_discharge_kw_max)
        put(-start.p_charge_kw, start.p_discharge_kw, rated)
    for g in site.gensets:
        on = np.array(ground.plan.genset_on[g.id])
        put(g.p_min_kw * on, g.p_rated_kw * on, g.p_rated_kw)
    grid = site.grid
    put(-p.export_cap_kw, p.import_cap_kw, grid.p_import_kw_max)
    for i, v in enumerate(site.pv):
        put(zero, p.pv_kw[i], v.p_ac_kw)
    for i, f in enumerate(site.feeders):
        put(zero, p.load_kw[i], f.p_peak_kw)
    for d, (device, begin) in enumerate(zip(site.deferrables, p.deferrables, strict=True)):
        on = device_on(ground, d)
        put(device.p_min_kw * on, device.p_kw * np.minimum(begin.share, on), device.p_kw)
    return np.concatenate(low), np.concatenate(high), np.concatenate(rating)


def device_on(ground: Ground, d: int) -> FloatArray:
    """(T,) whether a deferrable device is on in the plan; 1 where on and off are not told apart."""
    if not ground.posed.site.deferrables[d].switched:
        return np.ones(ground.layout.problem.steps)
    on: FloatArray = np.round(
        ground.layout.compiled.values(ground.fitted)["device_on"][
            switched(ground.layout.compiled.structure).index(d)
        ]
    )
    return on


def explain_power(ground: Ground, steps: int) -> list[SetpointWhy]:
    """Every power of the first `steps` steps, step by step."""
    low, high, rating = limits(ground)
    plan_kw = setpoint_values(ground.plan, ground.layout.compiled)
    worths, uses = Worths(ground, steps), Uses(ground)
    out = []
    for s in sorted(setpoints(ground.layout.compiled), key=lambda s: s.step):
        if s.step >= steps:
            break
        r = s.row
        asked = _Asked(
            setpoint=s, p_kw=float(plan_kw[r]), low_kw=float(low[r]), high_kw=float(high[r]),
            rating_kw=float(rating[r]),
        )  # fmt: skip
        out.append(_explained(ground, asked, worths, uses))
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One setpoint with its hard limits."""

    setpoint: Setpoint
    p_kw: float
    low_kw: float
    high_kw: float
    rating_kw: float

    @property
    def can_move(self) -> bool:
        """Whether there is another setpoint at all."""
        return self.high_kw - self.low_kw > MOVED_SHARE * self.rating_kw


def breaker(ground: Ground, feeder_id: str) -> bool:
    """Whether a feeder can be shed."""
    return any(f.id == feeder_id and f.has_breaker for f in ground.posed.site.feeders)


class Worths:
    """What a kWh less demand, and a kWh more stored, would save in each step. None: it cannot be."""

    def __init__(self, ground: Ground, steps: int) -> None:
        b, p = ground.bench, ground.layout.problem
        names = {name: i for i, name in enumerate(b.compiled.form.row_names)}
        self.power = [_saved(b, names[f"balance[{t}]"], -1.0 / float(p.step_h[t])) for t in range(steps)]
        self.stored = [
            [_saved(b, names[f"energy[{i},{t}]"], 1.0) for t in range(steps)] for i in range(len(p.bess))
        ]


def _saved(bench: Bench, row: int, more: float) -> float | None:
    point = bench.with_row(row, more)
    return None if point is None else bench.base.objective - point.objective


def _explained(ground: Ground, a: _Asked, worths: Worths, uses: Uses) -> SetpointWhy:
    s, p = a.setpoint, ground.layout.problem
    start = p.grid.starts()[s.step]
    reasons: tuple[Reason, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    own = 0.0
    whole = s.quantity == "shed_kw" and p.shed_whole[s.step] and breaker(ground, s.asset)
    if a.can_move and not whole:
        own = _regret(ground.bench, a)
        if own <= SMALL_COST:
            alternatives = _alternatives(ground, a)
            reasons = _reasons(ground, a, own)
    code = _code(ground, a, own, reasons, alternatives)
    b = next((i for i, x in enumerate(p.site.bess) if x.id == s.asset), None)
    why = SetpointWhy(
        asset=s.asset,
        quantity=s.quantity,
        step=s.step,
        start=start,
        end=start + timedelta(seconds=p.grid.step_s[s.step]),
        p_kw=a.p_kw,
        code=code,
        sentence="",
        reasons=reasons,
        alternatives=alternatives,
        power_worth_per_kwh=worths.power[s.step],
        stored_worth_per_kwh=None if b is None else worths.stored[b][s.step],
        use=None if b is None or not a.can_move or own > SMALL_COST else uses.of(b, s.step),
    )
    return power_sentence(
        PowerFacts(problem=p, plan=ground.plan, low_kw=a.low_kw, high_kw=a.high_kw, own_cost=own), why
    )


def _regret(bench: Bench, a: _Asked) -> float:
    """What keeping a setpoint costs above the best [money]; infinite where it cannot be kept."""
    if abs(bench.base.setpoints_kw[a.setpoint.row] - a.p_kw) <= 1e-3:
        return 0.0
    kept = bench.with_setpoint(a.setpoint.row, a.p_kw)
    return np.inf if kept is None else kept.objective - bench.base.objective


def _reasons(ground: Ground, a: _Asked, own: float) -> tuple[Reason, ...]:
    """Proven reasons, nearest first: the price of the step itself, then what can bind in it, then others."""
    row, found = a.setpoint.row, []
    moved = [
        (change, bench)
        for change, bench in ground.changed
        if abs(bench.base.setpoints_kw[row] - a.p_kw) > MOVED_SHARE * a.rating_kw
    ]
    moved.sort(key=lambda x: _distance(x[0], a.setpoint.step))
    for change, bench in moved[:ASKED]:
        saving = _regret(bench, a) - own
        if np.isfinite(saving) and saving > SMALL_COST:
            found.append(
                Reason(code=change.code, key=change.key, change=change.words, saving_cost=float(saving))
            )
        if len(found) == TOLD:
            break
    return tuple(found)


def _distance(change: Change, step: int) -> float:
    """How far from a step a reason is: its own price 0, everything without a time 1, other hours beyond."""
    if change.steps is None:
        return 1.0
    first, last = change.steps
    away = max(first - step, step - last, 0)
    return 0.0 if away == 0 else 1.0 + away


def _alternatives(ground: Ground, a: _Asked) -> tuple[Alternative, ...]:
    """A tenth of the rating less and more, as far as the limits allow."""
    bench, p = ground.bench, ground.layout.problem
    cost = bench.with_setpoint(a.setpoint.row, a.p_kw)
    at_plan = bench.base.objective if cost is None else cost.objective
    out = []
    for way in (-1.0, 1.0):
        aim = round(a.p_kw + way * SHARE * a.rating_kw, 0 if a.rating_kw >= WHOLE_FROM_KW else 2)
        to = min(a.high_kw, max(a.low_kw, aim))
        if abs(to - a.p_kw) < MOVED_SHARE * a.rating_kw:
            continue
        point = bench.with_setpoint(a.setpoint.row, to)
        if point is None:
            if not ground.held and a.setpoint.quantity != "deferrable_kw":
                out.append(Alternative(p_kw=to, more_cost=None))
            continue
        values = bench.compiled.values(point.x)
        if (burning(p, ground.numbers, values) & ~p.exclusive).any():
            continue  # it would burn energy, which the plant cannot: its cost says nothing
        out.append(Alternative(p_kw=to, more_cost=float(point.objective - at_plan)))
    return tuple(out)


def _code(
    ground: Ground,
    a: _Asked,
    own: float,
    reasons: tuple[Reason, ...],
    alternatives: tuple[Alternative, ...],
) -> ReasonCode:
    asset, step = a.setpoint.asset, a.setpoint.step
    if asset == ground.posed.site.grid.id and not ground.layout.problem.grid_available[step]:
        return ReasonCode.OUTAGE
    if a.setpoint.quantity == "shed_kw" and ground.layout.problem.shed_whole[step] and breaker(ground, asset):
        return ReasonCode.COMMITMENT
    if a.setpoint.quantity == "deferrable_kw" and not a.can_move:
        d = next(k for k, x in enumerate(ground.posed.site.deferrables) if x.id == asset)
        away = ground.layout.problem.deferrables[d].share[step] <= 0.0
        return ReasonCode.UNAVAILABLE if away else ReasonCode.COMMITMENT
    if asset in ground.plan.genset_on and ground.plan.genset_on[asset][step] < 0.5:
        return ReasonCode.COMMITMENT
    if not a.can_move:
        return ReasonCode.UNAVAILABLE
    if own > SMALL_COST:
        return ReasonCode.GAP
    costs = [x.more_cost for x in alternatives if x.more_cost is not None]
    if costs and min(costs) <= SMALL_COST:
        return ReasonCode.INDIFFERENT
    if reasons:
        return reasons[0].code
    if costs:
        return ReasonCode.COST
    return ReasonCode.IMPOSSIBLE if alternatives else ReasonCode.BALANCE
