"""The protections common to every controller: gensets, power, feeders, reserve. Below all of them, always."""

from collections.abc import Mapping
from dataclasses import dataclass

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.bus import Bus, look_at
from dispatch.protections.emergency import critical_at_risk, emergency, lasting
from dispatch.protections.feeders import LadderInput, adopt, dropped_out, ladder, pickup_kw
from dispatch.protections.power import power_stage
from dispatch.protections.power_parts import Power
from dispatch.protections.pv_trip import trip_stage
from dispatch.protections.reactive import reactive
from dispatch.protections.reserve import hold_s, reserve_now
from dispatch.protections.reverse_power import relieve, reverse_s
from dispatch.state import EdgeState, FeederShed, GensetRequest, ProtectionMemory
from dispatch.transitions.genset_requests import not_taken, resolve
from dispatch.vocabulary import Alarm, Event, ReserveStatus, Target, Targets
from ems.commands import Bound
from ems.frozen import replace
from ems.site import GridMode

AUTONOMY_H = 2.0  # without a genset: the last tier goes when the critical one could not last so long
AUTONOMY_NEXT_H = 1.0  # and the next tiers when it could not last so long
AUTONOMY_BACK_RATIO = 1.5  # a tier comes back only with so much more than it went with
EMPTY_SOON_S = 60.0  # gensets at rating and the battery empty within this: shed what they cannot carry
READY_MARGIN_S = 10.0
IMPORT_PATIENCE_S = 60.0  # the import cap is a contract, not a fuse: so long before a feeder goes for it
ROOM_REST_S = 300.0  # where room for a feeder was begun and could not be made, no set swings for it at once
DROP_OUT_S = 10.0  # feeders found open so soon after a change of mode dropped out with the bus


@dataclass(frozen=True, kw_only=True)
class Protected:
    """What is left of the wishes, and what the protections did and remember."""

    targets: Targets
    bounds: Mapping[str, list[Bound]]
    bus: Bus
    reserve: ReserveStatus
    requests: Mapping[str, GensetRequest]
    shed: Mapping[str, FeederShed]
    memory: ProtectionMemory
    events: tuple[Event, ...]
    alarms: tuple[Alarm, ...] = ()


def protect(
    layout: Layout, state: EdgeState, observed: Observed, wishes: Targets, now_s: float, dt_s: float
) -> Protected:
    """Put a controller's wishes through every common protection.

    Parameters
    ----------
    state : with this tick's observer memory and reconciled requests.
    """
    c = observed.condition
    shed = _known_open(layout, state, observed, now_s)
    bus = look_at(layout, observed, shed, dt_s)
    reserve = reserve_now(layout, observed)
    forced = emergency(layout, observed, bus, reserve, state.protection, wishes.genset_run, now_s, dt_s)
    wanted = {**wishes.genset_run, **forced.runs}
    critical = critical_at_risk(layout, observed, bus, dt_s)
    untaken = not_taken(layout, state.requests, observed.genset_state, state.written, c, now_s)
    requests, runs, events = resolve(layout, state.requests, wanted, c, now_s, critical, untaken)
    comes, next_kw = _next(layout, observed, bus, shed, wishes.feeder_close)
    begun = comes is not None and comes == forced.memory.room_for
    if comes is not None and not begun and now_s < forced.memory.room_rest_s:
        next_kw = 0.0
    power = power_stage(layout, observed, bus, wishes, runs, next_kw, begun, dt_s)
    driven = relieve(layout, observed, bus, runs, power, reverse_s(forced.memory, now_s))
    trip = trip_stage(layout, forced.memory, state.written, observed, bus, runs, now_s, dt_s)
    deficit_kw, why = _deficit(layout, observed, bus, power, forced.memory, requests, now_s, dt_s)
    given = LadderInput(
        demand_kw=observed.demand_kw,
        closed=c.feeder_closed,
        planned=wishes.feeder_close,
        deficit_kw=deficit_kw,
        why=why,
        tiers_out=_tiers_out(layout, observed, bus, shed),
        open_all=bus.mode is GridMode.BLACK,
        headroom_kw=power.headroom_kw if bus.mode in (GridMode.GRID_TIED, GridMode.ISLANDED) else 0.0,
        step_most_kw=bus.step_most_kw,
        inrush=bus.inrush,
        now_s=now_s,
        dt_s=dt_s,
        last_restore_s=state.protection.last_restore_s,
    )
    steps = ladder(layout, shed, given)
    paces, parameters = reactive(layout, state.protection.reactive, observed, wishes, (now_s, dt_s))
    targets = replace(
        wishes,
        q_kvar=parameters["q_kvar"],
        power_factor=parameters["power_factor"],
        volt_var=parameters["volt_var"],
        bess_p_kw=power.bess,
        genset_run=runs,
        genset_p_kw=power.genset,
        pv_limit_kw=power.pv,
        pv_trip={**wishes.pv_trip, **trip.targets},
        feeder_close=_quiet(steps.targets, bus),
    )
    return Protected(
        targets=targets,
        bounds=power.bounds,
        bus=bus,
        reserve=reserve,
        requests=requests,
        shed=steps.shed,
        memory=replace(
            forced.memory,
            last_restore_s=steps.last_restore_s,
            reactive=paces,
            pv_trips=trip.trips,
            pv_heeded_s=trip.heeded_s,
            room_for=comes if power.makes_room else None,
            room_rest_s=now_s + ROOM_REST_S if begun and not power.makes_room else forced.memory.room_rest_s,
        ),
        events=(*events, *steps.events, *trip.events),
        alarms=(*driven, *trip.alarms),
    )


def _known_open(
    layout: Layout, state: EdgeState, observed: Observed, now_s: float
) -> Mapping[str, FeederShed]:
    """Feeders held open, with those taken over at start or after a change of the bus's source."""
    closed = observed.condition.feeder_closed
    if observed.condition.grid_mode is GridMode.UNKNOWN:
        return state.shed
    if state.started_s is None:
        return {**adopt(layout, closed, now_s), **state.shed}
    if now_s - state.observer.mode_since_s <= DROP_OUT_S:
        return {**state.shed, **dropped_out(layout, state.shed, closed, now_s)}
    return state.shed


def _next(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    shed: Mapping[str, FeederShed],
    planned: Mapping[str, Target],
) -> tuple[str | None, float]:
    """The feeder for which sets beside a forming battery may make room, and the step to expect [kW]."""
    if bus.mode is not GridMode.ISLANDED or not bus.forming_bess:
        return None, _next_kw(layout, observed, bus, shed, planned)
    order = [f for f in reversed(layout.shed_order) if f in shed]
    order.sort(key=lambda f: not shed[f].closing)  # one that is closing already comes first
    for f in order:
        wish, inrush = planned.get(f), layout.feeders[f].inrush_kva > 0.0
        if wish is not None and wish.value < 0.5:
            continue
        if not inrush or bus.inrush.accepts(layout, f, closing=shed[f].closing):  # else it stays out anyway
            return f, pickup_kw(layout, observed.demand_kw, f)
    return None, 0.0


def _next_kw(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    shed: Mapping[str, FeederShed],
    planned: Mapping[str, Target],
) -> float:
    """Load step to expect from feeders that come back: all that are closing, else the next one.

    One that the controller wants open does not wait: what it leaves is what the controller opened it for.
    """
    open_on = {f for f, target in planned.items() if target.value < 0.5}
    demand_kw = observed.demand_kw
    closing = [pickup_kw(layout, demand_kw, f) for f, s in shed.items() if s.closing]
    waiting = [f for f in reversed(layout.shed_order) if f in shed and f not in open_on]
    steps = [max(closing)] if closing else [pickup_kw(layout, demand_kw, f) for f in waiting]
    next_kw = next((kw for kw in steps if closing or kw <= bus.step_most_kw), 0.0)
    comes = bus.inrush.waits  # the sources carry so little until it is in that they stand its inrush
    if comes is None:
        return next_kw
    return max(next_kw, bus.genset_rated_kw - bus.inrush.p_kw_max(layout, comes))


def _quiet(targets: Mapping[str, Target], bus: Bus) -> Mapping[str, Target]:
    """In an unknown mode no breaker is touched, whoever asks."""
    return {} if bus.mode is GridMode.UNKNOWN else targets


def _deficit(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    power: Power,
    memory: ProtectionMemory,
    requests: Mapping[str, GensetRequest],
    now_s: float,
    dt_s: float,
) -> tuple[float, str]:
    """Load that must go now: nobody can carry it, or the stored energy ends before help comes."""
    kept = "stored energy is kept for the critical tier"
    if bus.mode is GridMode.BLACK:
        return 0.0, "the bus is dead: it comes back feeder by feeder"
    if bus.mode is GridMode.GRID_TIED and power.shortage_kw > 0.0:
        c = observed.condition.gensets
        coming = any(r.run and not c[g].on_load and c[g].available for g, r in requests.items())
        patience_s = IMPORT_PATIENCE_S + (hold_s(layout) if coming else 0.0)
        if not lasting(memory.import_over_since_s, patience_s, now_s, 0.0 if coming else dt_s):
            return 0.0, kept
    if power.shortage_kw > 0.0:
        return power.shortage_kw, power.why
    if bus.mode is not GridMode.ISLANDED or not bus.forming_bess:
        return 0.0, kept
    drain_kw = bus.load_kw - bus.pv_kw - bus.genset_rated_kw - bus.unheard_kw  # silence alone opens no feeder
    ready_s = [c.ready_in_s for c in observed.condition.gensets.values() if c.starting]
    if drain_kw <= 0.0 or not (ready_s or bus.running):
        return 0.0, kept
    until_s = min(ready_s) + READY_MARGIN_S if ready_s else EMPTY_SOON_S + dt_s
    carried_kw = bus.carries_kwh * 3600.0 / until_s
    if carried_kw >= drain_kw:
        return 0.0, kept
    return drain_kw - carried_kw, f"{bus.carries_kwh:.1f} kWh carry {carried_kw:.0f} kW for {until_s:.0f} s"


def _tiers_out(layout: Layout, observed: Observed, bus: Bus, shed: Mapping[str, FeederShed]) -> int | None:
    """On the battery alone with no genset to come: the lowest tier number that must be out, or None."""
    critical = layout.site.reserve.critical_tier
    tiers = sorted({layout.feeders[f].tier for f in layout.shed_order if layout.feeders[f].tier > critical})
    alone = bus.mode is GridMode.ISLANDED and bool(bus.forming_bess) and not bus.running
    if not tiers or not alone or any(g.available for g in observed.condition.gensets.values()):
        return None
    critical_kw = sum(observed.demand_kw[f] for f, p in layout.feeders.items() if p.tier <= critical)
    drain_kw = max(0.0, min(critical_kw, bus.load_kw) - bus.pv_kw - bus.unheard_kw)
    hours = bus.stored_kwh / drain_kw if drain_kw > 0.0 else float("inf")
    lowest: int | None = None
    for rank, tier in enumerate(reversed(tiers)):
        limit_h = AUTONOMY_H if rank == 0 else AUTONOMY_NEXT_H
        out = any(layout.feeders[f].tier == tier and not s.closing for f, s in shed.items())
        if hours < limit_h * (AUTONOMY_BACK_RATIO if out else 1.0):
            lowest = tier
    return lowest
