"""The edge's own check of a plan. It shares no code with the optimizer and trusts nothing in the plan.

Shapes, numbers, limits, SoC roll-forward, ramps and run times (plan_moves) and the power balance of every
step that may be executed. The balance is what catches a sign that was flipped inside its limits.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from numpy import interp

from dispatch.controllers.plan_moves import KW_TOLERANCE, check_moves
from ems.assets import BatteryParams
from ems.plan import Plan, Series
from ems.site import GridMode, Site
from plant_models.battery import stored_kw

PLAN_AGE_MAX = timedelta(hours=2)
EARLY_MAX_S = 900.0  # a plan whose first step begins a little later is followed from its first step
FUTURE_MAX = timedelta(seconds=60)  # a plan issued later than that has a wrong clock
SOC_TOLERANCE = 0.02  # per step: segments of the loss curve, tapering limits
RETURN_H = 2.0  # a battery found outside its window has so long to come back into it
VALID_MAX = timedelta(hours=24)  # nobody plans for longer and means it


def check_plan(site: Site, plan: Plan, now: datetime, highest_seq: int) -> tuple[str, ...]:
    """Everything that forbids following `plan`, in words; empty when nothing does.

    Parameters
    ----------
    now : aware UTC
    highest_seq : highest sequence number accepted so far; a plan must be newer.
    """
    try:
        return _problems(site, plan, now, highest_seq)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as broken:
        return (f"malformed: {type(broken).__name__}: {broken}",)  # never a reason for the edge to stop


def check_charge(site: Site, plan: Plan, soc: Mapping[str, float], now: datetime) -> tuple[str, ...]:
    """Whether a plan without other problems counts on a charge at this moment that is there; else why not.

    A plan takes its time: what counts is its charge of now along its own way, not the one it began with.
    While its first step is still to come, the batteries have until then to get there.
    """
    return tuple(_charge(site, plan, soc, now))


def _charge(site: Site, plan: Plan, soc: Mapping[str, float], now: datetime) -> Iterator[str]:
    for b in site.bess:
        ends, hours, params = plan.bess_soc_end[b.id], plan.grid.step_h, b.battery
        p_kw = plan.bess_p_kw[b.id][0]
        start = ends[0] - stored_change_kwh(params, p_kw, ends[0], float(hours[0])) / params.energy_kwh
        now_s = (now - plan.grid.start).total_seconds()
        planned = float(interp(now_s, plan.grid.offset_s, [start, *ends]))
        ahead = max(0.0, -now_s) / 3600.0 * params.p_nominal_kw / params.energy_kwh
        if abs(planned - soc[b.id]) > site.plan_soc_tolerance + ahead:
            yield (
                f"counts on {b.id} at {planned:.3f} of its charge now, it is at {soc[b.id]:.3f}: "
                f"allowed is {site.plan_soc_tolerance:g} between them (dispatch.plan_soc_tolerance)"
            )


def _problems(site: Site, plan: Plan, now: datetime, highest_seq: int) -> tuple[str, ...]:
    problems = [*_identity(site, plan, now, highest_seq), *_shapes(site, plan)]
    if problems:
        return tuple(problems)
    problems.extend(_finite(plan))
    if problems:
        return tuple(problems)
    problems.extend(_window(plan, now))
    if problems:
        return tuple(problems)
    last = sum(1 for s in plan.grid.starts() if s < plan.integral_until)
    for check in (_bess, _gensets, _pv, _grid, _shed, _deferrables, check_moves, _balance):
        problems.extend(check(site, plan, last))
    return tuple(problems)


def _window(plan: Plan, now: datetime) -> Iterator[str]:
    """Its steps lie around now: a plan of another day, stamped anew, must not displace a good one."""
    start, end = plan.grid.start, min(plan.grid.end, plan.integral_until)
    if now < start - timedelta(seconds=EARLY_MAX_S):
        yield f"begins only at {start.isoformat()}"
    if plan.valid_until > min(plan.issued_at + VALID_MAX, plan.grid.end):
        yield f"valid until {plan.valid_until.isoformat()}: beyond its last step, or for over {VALID_MAX}"
    if now >= end:
        yield f"nothing in it may be executed after {end.isoformat()}"


def _identity(site: Site, plan: Plan, now: datetime, highest_seq: int) -> Iterator[str]:
    if plan.site != site.name:
        yield f"made for site {plan.site!r}, this is {site.name!r}"
    if plan.issued_at.tzinfo is None or plan.valid_until.tzinfo is None:
        yield "times without a zone"
        return
    if plan.seq <= highest_seq:
        yield f"sequence {plan.seq} is not newer than {highest_seq}"
    if plan.issued_at > now + FUTURE_MAX:
        yield f"issued in the future, at {plan.issued_at.isoformat()}"
    if now - plan.issued_at > PLAN_AGE_MAX:
        yield f"issued {plan.issued_at.isoformat()}, older than {PLAN_AGE_MAX}"
    if plan.valid_until <= now:
        yield f"expired at {plan.valid_until.isoformat()}"


def _per_asset(plan: Plan) -> dict[str, Mapping[str, Series]]:
    return {
        "bess_p_kw": plan.bess_p_kw,
        "bess_soc_end": plan.bess_soc_end,
        "genset_on": plan.genset_on,
        "genset_p_kw": plan.genset_p_kw,
        "pv_p_kw": plan.pv_p_kw,
        "shed_kw": plan.shed_kw,
        "load_kw": plan.load_kw,
        "pv_available_kw": plan.pv_available_kw,
    }


def _names(plan: Plan) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names by step that a plan may be without."""
    yield "contingency", plan.contingency
    yield "contingency_by", plan.contingency_by


def _optional(plan: Plan) -> Iterator[tuple[str, Series]]:
    """Series that a plan may be without, as an empty one."""
    yield "import_limit_kw", plan.import_limit_kw
    yield "contingency_lost_kw", plan.contingency_lost_kw
    yield "contingency_cover_kw", plan.contingency_cover_kw
    yield "grid_q_kvar", plan.grid_q_kvar
    yield "q_short_kvar", plan.q_short_kvar
    yield "poi_v_pu", plan.poi_v_pu
    yield "poi_v_short_pu", plan.poi_v_short_pu
    for group, by_asset in (
        ("bess_q_kvar", plan.bess_q_kvar),
        ("pv_q_kvar", plan.pv_q_kvar),
        ("genset_q_kvar", plan.genset_q_kvar),
        ("missed", plan.missed),
    ):
        for asset, row in by_asset.items():
            yield f"{group}[{asset}]", row


def _shapes(site: Site, plan: Plan) -> Iterator[str]:
    bess, gensets = {b.id for b in site.bess}, {g.id for g in site.gensets}
    pv, feeders = {p.id for p in site.pv}, {f.id for f in site.feeders}
    groups = (bess, bess, gensets, gensets, pv, feeders, feeders, pv)
    for (name, series), ids in zip(_per_asset(plan).items(), groups, strict=True):
        if name == "shed_kw":  # a feeder that is never shed may be left out
            if not set(series) <= ids:
                yield f"{name} names {sorted(set(series) - ids)}, which the site does not have"
        elif set(series) != ids:
            yield f"{name} is for {sorted(series)}, the site has {sorted(ids)}"
        for i, values in series.items():
            if len(values) != len(plan.grid):
                yield f"{name}[{i}] has {len(values)} values for {len(plan.grid)} steps"
    devices = {d.id for d in site.deferrables}
    if set(plan.deferrable_kw) - devices:
        yield f"deferrable_kw names {sorted(set(plan.deferrable_kw) - devices)}, which the site does not have"
    for i, values in plan.deferrable_kw.items():
        if len(values) != len(plan.grid):
            yield f"deferrable_kw[{i}] has {len(values)} values for {len(plan.grid)} steps"
    for name, length in (
        ("grid_p_kw", len(plan.grid_p_kw)),
        *((name, len(row)) for name, row in _optional(plan) if row),
        *((name, len(row)) for name, row in _names(plan) if row),
        ("grid_mode", len(plan.grid_mode)),
        ("forming", len(plan.forming)),
    ):
        if length != len(plan.grid):
            yield f"{name} has {length} values for {len(plan.grid)} steps"


def _finite(plan: Plan) -> Iterator[str]:
    if not all(math.isfinite(x) for x in plan.grid.step_s):
        yield "a step has a length that is not finite"
    for name, series in {**_per_asset(plan), "deferrable_kw": plan.deferrable_kw}.items():
        for i, values in series.items():
            if not all(math.isfinite(v) for v in values):
                yield f"{name}[{i}] holds a number that is not finite"
    if not all(math.isfinite(v) for v in plan.grid_p_kw):
        yield "grid_p_kw holds a number that is not finite"
    for name, row in _optional(plan):
        if not all(math.isfinite(v) for v in row):
            yield f"{name} holds a number that is not finite"
    if not math.isfinite(plan.peak_import_kw):
        yield "peak_import_kw is not finite"


def _outside(name: str, values: Series, low: float, high: float, last: int) -> Iterator[str]:
    for t, v in enumerate(values[:last]):
        if not low - KW_TOLERANCE <= v <= high + KW_TOLERANCE:
            yield f"{name} is {v:.1f} in step {t}, allowed {low:.1f} to {high:.1f}"
            return


def stored_change_kwh(params: BatteryParams, p_kw: float, soc: float, hours: float) -> float:
    """Change of the stored energy by AC power `p_kw` (discharge positive) for `hours` [kWh]."""
    square = p_kw * p_kw / params.p_nominal_kw
    if (params.discharge_curve if p_kw >= 0.0 else params.charge_curve) is not None:
        rate_kw = stored_kw(params, p_kw)
    elif p_kw >= 0.0:
        rate_kw = -(p_kw / params.eta_discharge + params.loss_discharge_pu * square)
    else:
        rate_kw = -p_kw * params.eta_charge - params.loss_charge_pu * square
    standing_kw = params.no_load_loss_kw + params.self_discharge_per_h * soc * params.energy_kwh
    return (rate_kw - standing_kw) * hours


def _bess(site: Site, plan: Plan, last: int) -> Iterator[str]:
    hours = plan.grid.step_h
    for b in site.bess:
        p, soc, params = plan.bess_p_kw[b.id], plan.bess_soc_end[b.id], b.battery
        yield from _outside(f"bess_p_kw[{b.id}]", p, -params.p_charge_kw_max, params.p_discharge_kw_max, last)
        start = soc[0] - stored_change_kwh(params, p[0], soc[0], float(hours[0])) / params.energy_kwh
        for t in range(last):
            low, high = params.soc_min - SOC_TOLERANCE, params.soc_max + SOC_TOLERANCE
            if float(sum(hours[:t])) < RETURN_H:  # no further out than it stands at the start
                low, high = min(low, start - 2.0 * SOC_TOLERANCE), max(high, start + SOC_TOLERANCE)
            low, high = max(0.0, low), min(1.0, high)
            if not low <= soc[t] <= high:
                yield f"bess_soc_end[{b.id}] is {soc[t]:.3f} in step {t}, allowed {low:.2f} to {high:.2f}"
                break
            if t == 0:
                continue
            change = stored_change_kwh(params, p[t], soc[t - 1], float(hours[t])) / params.energy_kwh
            if abs(soc[t] - soc[t - 1] - change) > SOC_TOLERANCE * max(1.0, float(hours[t]) / 0.25):
                yield (
                    f"bess_soc_end[{b.id}] goes {soc[t - 1]:.3f} -> {soc[t]:.3f} in step {t}, "
                    f"{p[t]:.1f} kW change it by {change:+.3f}"
                )
                break


def _gensets(site: Site, plan: Plan, last: int) -> Iterator[str]:
    for g in site.gensets:
        on, p = plan.genset_on[g.id], plan.genset_p_kw[g.id]
        for t in range(last):
            if min(abs(on[t]), abs(on[t] - 1.0)) > 1e-3:
                yield f"genset_on[{g.id}] is {on[t]:.3f} in step {t}, which may be executed: 0 or 1 only"
                break
            low, high = (g.p_min_kw, g.p_rated_kw) if on[t] > 0.5 else (0.0, 0.0)
            if not low - KW_TOLERANCE <= p[t] <= high + KW_TOLERANCE:
                yield f"genset_p_kw[{g.id}] is {p[t]:.1f} in step {t}, allowed {low:.1f} to {high:.1f}"
                break


def _pv(site: Site, plan: Plan, last: int) -> Iterator[str]:
    for v in site.pv:
        yield from _outside(f"pv_p_kw[{v.id}]", plan.pv_p_kw[v.id], 0.0, v.p_ac_kw, last)
        available = plan.pv_available_kw[v.id]
        for t in range(last):
            if plan.pv_p_kw[v.id][t] > available[t] + KW_TOLERANCE + 0.01 * v.p_ac_kw:
                yield f"pv_p_kw[{v.id}] is more than is available in step {t}"
                break


def _grid(site: Site, plan: Plan, last: int) -> Iterator[str]:
    grid = site.grid
    for t in range(last):
        tied = plan.grid_mode[t] is GridMode.GRID_TIED
        low, high = (-grid.p_export_kw_max, grid.p_import_kw_max) if tied else (0.0, 0.0)
        if not low - KW_TOLERANCE <= plan.grid_p_kw[t] <= high + KW_TOLERANCE:
            yield (
                f"grid_p_kw is {plan.grid_p_kw[t]:.1f} in step {t} ({plan.grid_mode[t]}), "
                f"allowed {low:.1f} to {high:.1f}"
            )
            return


def _shed(site: Site, plan: Plan, last: int) -> Iterator[str]:
    for feeder, load in plan.load_kw.items():
        yield from _outside(f"load_kw[{feeder}]", load, 0.0, math.inf, last)
    for feeder, shed in plan.shed_kw.items():
        for t in range(last):
            if not -KW_TOLERANCE <= shed[t] <= plan.load_kw[feeder][t] + KW_TOLERANCE:
                yield f"shed_kw[{feeder}] is {shed[t]:.1f} in step {t}, load {plan.load_kw[feeder][t]:.1f}"
                break


def _deferrables(site: Site, plan: Plan, last: int) -> Iterator[str]:
    units = {d.id: d for d in site.deferrables}
    for i, values in plan.deferrable_kw.items():
        yield from _outside(f"deferrable_kw[{i}]", values, 0.0, units[i].p_kw, last)


def _balance(site: Site, plan: Plan, last: int) -> Iterator[str]:
    """Sources less load, per step. The batteries' own consumption may be on either side of the line."""
    aux_kw = sum(b.battery.aux_kw for b in site.bess)
    for t in range(last):
        sources_kw = plan.grid_p_kw[t] + sum(
            s[t] for m in (plan.bess_p_kw, plan.genset_p_kw, plan.pv_p_kw) for s in m.values()
        )
        load_kw = sum(s[t] for s in plan.load_kw.values()) - sum(s[t] for s in plan.shed_kw.values())
        load_kw += sum(s[t] for s in plan.deferrable_kw.values())
        off_kw = sources_kw - load_kw
        tolerance_kw = KW_TOLERANCE + 0.01 * load_kw
        if not -tolerance_kw <= off_kw <= aux_kw + tolerance_kw:
            yield f"power does not balance in step {t}: sources {sources_kw:.1f} kW, load {load_kw:.1f} kW"
            return
