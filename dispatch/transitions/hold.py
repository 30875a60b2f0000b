"""What a transition holds back: nothing acts on a bus that has just come up, the POI stays in a band."""

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.balance import reached
from dispatch.protections.poi_ramp import ramped
from dispatch.protections.power_parts import bess_rooms, genset_targets, move_bess, wished_bess
from dispatch.protections.protect import Protected
from dispatch.transitions.stage import Moves
from dispatch.vocabulary import Target
from ems.commands import Bound, Cause
from ems.frozen import replace

BLOCKED = "the bus is not stable yet"
STEERED = "the POI is steered to {:+.0f} kW"


def held(layout: Layout, observed: Observed, moves: Moves, kept: Protected) -> Protected:
    """What the protections left, after what the transition holds back, with its events and alarms."""
    told, alarms = (*moves.events, *kept.events), (*kept.alarms, *moves.alarms)
    kept = replace(kept, events=told, alarms=alarms)
    if moves.blocked:
        return _blocked(layout, kept)
    if moves.poi_kw is not None and observed.condition.grid_p_kw is not None:
        kept = _steered(layout, observed, kept, moves, observed.condition.grid_p_kw)
        return replace(kept, memory=replace(kept.memory, poi_kw=None))
    return ramped(layout, observed, kept, moves.given.dt_s)


def _blocked(layout: Layout, kept: Protected) -> Protected:
    """PV and the batteries that follow give and take nothing; who forms has no setpoint."""
    zero = Target(value=0.0, cause=Cause.PROTECTION, reason=BLOCKED)
    bounds = {p: list(b) for p, b in kept.bounds.items()}
    followers = [b for b in layout.bess if b not in kept.bus.forming_bess]
    for asset, name in [(p, "p_limit_kw") for p in layout.pv] + [(b, "p_set_kw") for b in followers]:
        point = layout.setpoint_of.get((asset, name))
        if point is not None:
            bound = Bound(point=point, low=0.0, high=0.0, layer="transition", reason=BLOCKED)
            bounds[point] = [bound]
    targets = replace(
        kept.targets,
        pv_limit_kw=dict.fromkeys(layout.pv, zero),
        bess_p_kw={**kept.targets.bess_p_kw, **dict.fromkeys(followers, zero)},
    )
    return replace(kept, targets=targets, bounds=bounds)


def _steered(
    layout: Layout,
    observed: Observed,
    kept: Protected,
    moves: Moves,
    poi_kw: float,
) -> Protected:
    """Batteries take the power at the POI into the band, and PV gives way where they have no room.

    The meter and the batteries are of one snapshot, so that what the batteries change is seen at the meter:
    the load behind them is their sum, whatever lags. The bias that keeps the plant off its caps gives way.
    """
    assert moves.poi_kw is not None
    dt_s = moves.given.dt_s
    rooms = bess_rooms(layout, observed, kept.bus.following_bess, dt_s)
    values = wished_bess(kept.targets, rooms)
    measured_kw = sum(observed.condition.bess[b].p_kw for b in values)
    before_kw = poi_kw + measured_kw - _coming_gensets_kw(layout, observed, kept, moves, dt_s)
    coming_kw = before_kw - sum(values.values())
    low_kw, high_kw = moves.poi_kw
    over_kw = max(0.0, coming_kw - high_kw) - max(0.0, low_kw - coming_kw)
    if abs(over_kw) < 1e-6:
        return kept
    why = STEERED.format(min(max(coming_kw, low_kw), high_kw))
    move_bess(values, rooms, over_kw)
    left_kw = low_kw - (before_kw - sum(values.values()))
    bess = {b: Target(value=v, cause=Cause.PROTECTION, reason=why) for b, v in values.items()}
    points = {layout.setpoint_of.get((b, "p_set_kw")) for b in values}
    bounds = {p: [x for x in b if p not in points or x.layer != "poi"] for p, b in kept.bounds.items()}
    pv = dict(kept.targets.pv_limit_kw)
    if left_kw > 0.0 and observed.power.pv_kw > 0.0:
        share = max(0.0, 1.0 - left_kw / observed.power.pv_kw)
        for p in layout.pv:
            value = share * observed.condition.pv_kw[p]
            pv[p] = Target(value=value, cause=Cause.PROTECTION, reason=why)
    targets = replace(kept.targets, bess_p_kw={**kept.targets.bess_p_kw, **bess}, pv_limit_kw=pv)
    return replace(kept, targets=targets, bounds=bounds)


def _coming_gensets_kw(
    layout: Layout, observed: Observed, kept: Protected, moves: Moves, dt_s: float
) -> float:
    """What the sets on load will give more in the coming cycle, on the way to their targets [kW].

    A set that is asked to stop in this cycle moves in half of it, in the mean.
    """
    now_s = moves.given.snapshot.monotonic_s
    targets = genset_targets(layout, kept.bus, kept.targets, kept.targets.genset_run)
    total_kw = 0.0
    for g, target_kw in targets.items():
        now_kw = observed.condition.gensets[g].p_kw
        span_s = dt_s if kept.requests[g].since_s < now_s else 0.5 * dt_s
        total_kw += reached(now_kw, target_kw, layout.gensets[g].ramp_kw_s, span_s) - now_kw
    return total_kw
