"""The contract's ramp at the POI: its power moves no faster than `grid.ramp_kw_s`, as far as batteries reach.

What is expected at the POI follows what the controllers want at the allowed pace. Batteries take what PV and
load do beyond it; PV that would come faster than they can take it is let in slower, and PV that a controller
wishes less of leaves slower. Caps come first: towards them the power may move as fast as it can.
"""

from collections.abc import Mapping

from dispatch.authority.layers import UNHURRIED
from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.balance import split
from dispatch.protections.power_parts import bess_rooms, genset_span_kw, genset_targets, move_bess
from dispatch.protections.protect import Protected
from dispatch.vocabulary import Target
from ems.commands import Cause
from ems.frozen import replace
from ems.site import GridMode

WHY = "the power at the POI moves by no more than the contract's ramp"


def ramped(layout: Layout, observed: Observed, kept: Protected, dt_s: float) -> Protected:
    """Targets that keep the ramp, and what they will make of the POI, for the next cycle to start from."""
    rate_kw_s = layout.site.grid.ramp_kw_s
    if rate_kw_s is None or kept.bus.mode is not GridMode.GRID_TIED or not observed.meter_ok:
        return replace(kept, memory=replace(kept.memory, poi_kw=None))
    pv_kw = _coming_pv_kw(layout, observed, kept.targets.pv_limit_kw)
    sets = genset_targets(layout, kept.bus, kept.targets, kept.targets.genset_run)
    sets_kw = sum(genset_span_kw(layout, observed, sets, dt_s)) / 2.0
    rest_kw = kept.bus.load_kw - sum(pv_kw.values()) - sets_kw
    rooms = bess_rooms(layout, observed, kept.bus.following_bess, dt_s)
    values = {b: t.value for b, t in kept.targets.bess_p_kw.items() if b in rooms}
    coming_kw = rest_kw - sum(values.values())
    from_kw = observed.power.grid_kw if kept.memory.poi_kw is None else kept.memory.poi_kw
    low_kw, high_kw = _inside_caps(layout, kept, from_kw, rate_kw_s * dt_s)
    over_kw = max(0.0, coming_kw - high_kw) - max(0.0, low_kw - coming_kw)
    if abs(over_kw) < 1e-6:
        return replace(kept, memory=replace(kept.memory, poi_kw=coming_kw))
    move_bess(values, rooms, over_kw)
    left_kw = max(0.0, low_kw - (rest_kw - sum(values.values())))
    pv = _slower(kept.targets.pv_limit_kw, pv_kw, observed.condition.pv_kw, left_kw)
    more_kw = max(0.0, rest_kw - sum(values.values()) - high_kw)
    pv, stays_kw = _later(pv, pv_kw, observed.condition.pv_kw, more_kw)
    coming_kw = rest_kw - sum(values.values()) + left_kw - stays_kw
    bess = {b: Target(value=v, cause=Cause.PROTECTION, reason=WHY) for b, v in values.items()}
    points = {layout.setpoint_of.get((b, "p_set_kw")) for b in values}
    bounds = {p: [x for x in b if p not in points or x.layer != "poi"] for p, b in kept.bounds.items()}
    targets = replace(kept.targets, bess_p_kw={**kept.targets.bess_p_kw, **bess}, pv_limit_kw=pv)
    return replace(kept, targets=targets, bounds=bounds, memory=replace(kept.memory, poi_kw=coming_kw))


def _inside_caps(layout: Layout, kept: Protected, from_kw: float, step_kw: float) -> tuple[float, float]:
    """The band of one cycle; what lies beyond a cap is left at any pace."""
    top_kw = kept.bus.import_cap_kw - layout.poi_bias_kw
    bottom_kw = min(top_kw, -kept.bus.export_cap_kw + layout.poi_bias_kw)
    return min(from_kw - step_kw, top_kw), max(from_kw + step_kw, bottom_kw)


def _coming_pv_kw(layout: Layout, observed: Observed, limits: Mapping[str, Target]) -> dict[str, float]:
    """What each plant gives under its limit; what is not known to be there is not expected [kW]."""
    out = {}
    for p, now_kw in observed.condition.pv_kw.items():
        available_kw = observed.pv_available_kw[p]
        most_kw = now_kw if available_kw is None else available_kw
        limit = limits.get(p)
        lost = p in observed.pv_uncapped_kw
        out[p] = now_kw if lost else max(0.0, most_kw if limit is None else min(most_kw, limit.value))
    return out


def _slower(
    limits: Mapping[str, Target], coming_kw: Mapping[str, float], now_kw: Mapping[str, float], less_kw: float
) -> dict[str, Target]:
    """Limits with `less_kw` of the coming rise of PV taken back; what PV gives already is not touched."""
    out = dict(limits)
    rises = {p: max(0.0, kw - max(0.0, now_kw[p])) for p, kw in coming_kw.items() if p in limits}
    whole_kw = sum(rises.values())
    if less_kw <= 0.0 or whole_kw <= 0.0:
        return out
    share = min(1.0, less_kw / whole_kw)
    for p, rise_kw in rises.items():
        if rise_kw > 0.0:
            value = coming_kw[p] - share * rise_kw
            out[p] = Target(value=value, cause=Cause.PROTECTION, reason=WHY)
    return out


def _later(
    limits: Mapping[str, Target], coming_kw: Mapping[str, float], now_kw: Mapping[str, float], more_kw: float
) -> tuple[dict[str, Target], float]:
    """(limits with `more_kw` of what a wish takes of PV given back for now, what that is [kW])."""
    out = dict(limits)
    wished = {p for p, t in limits.items() if t.cause in UNHURRIED}
    falls = {p: max(0.0, now_kw[p] - coming_kw[p]) for p in wished}
    parts = split(more_kw, falls)
    for p, kw in parts.items():
        if kw > 0.0:
            out[p] = replace(limits[p], value=coming_kw[p] + kw, reason=WHY)
    return out, sum(parts.values())
