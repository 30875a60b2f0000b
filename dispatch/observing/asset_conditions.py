"""One battery, one genset: from readings and history to its condition."""

from collections.abc import Mapping
from datetime import timedelta

from dispatch.layout import Layout
from dispatch.observing.availability import DERATED_RATIO, Marks, bess_states, each_once, genset_states
from dispatch.observing.duty import duties_after
from dispatch.observing.live_limits import bess_limits
from dispatch.observing.readings import GENSET_STATES, state_of
from dispatch.state import GensetRequest, GensetSeen, ObserverMemory
from ems.assets import GensetParams
from ems.condition import BessCondition, BessUse, GensetCondition, GensetDuty, GensetPast, UnitState, usable
from ems.frozen import replace
from ems.local_time import local_time
from ems.points import BessState, GensetState
from ems.site import GridMode
from ems.telemetry import Snapshot

LONG_AGO_S = 1e9
_AT_WORK = frozenset((BessState.FORMING, BessState.FOLLOWING))
_STARTING = frozenset((GensetState.CRANKING, GensetState.WARM_UP, GensetState.SYNCHRONISING))
ON_LOAD_RATIO = 0.05  # of its rating: a set that gives more is on the bus
DOUBT_S = 5.0  # so long its power is believed against its state; then it counts for nothing


def gensets_seen(
    layout: Layout,
    memory: ObserverMemory,
    snapshot: Snapshot,
    states: Mapping[str, GensetState | None],
    mode: GridMode,
    carried: bool,
) -> dict[str, GensetSeen]:
    """Follow each genset's sequence; while its state is not readable the last known one stands.

    So it does for some seconds where a state says that a set has left the bus and its power says that it has
    not: a single wrong reading is no trip.

    Parameters
    ----------
    mode : the grid mode. A set that is not heard while the bus is dead was not on load in that moment.
    carried : whether others are heard to carry the bus. In a live island that nobody is heard to carry, a
        set that is not heard may have come back.
    """
    now_s, today = snapshot.monotonic_s, local_time(snapshot.at, layout.zone).date()
    new_day = memory.day is not None and memory.day != today
    out = {}
    for genset, state in states.items():
        seen = memory.gensets.get(genset)
        if seen is None:
            on_load = state is GensetState.RUNNING
            doubted_s = (
                None if state is None else _doubted_since_s(layout, GensetSeen(), snapshot, genset, state)
            )
            seen = GensetSeen(state=state, state_since_s=now_s, on_load=on_load, doubted_since_s=doubted_s)
        elif state is not None:
            seen = _followed(layout, seen, snapshot, genset, state)
        died = state is None and (seen.died or mode is GridMode.BLACK)
        gone = died and (carried or mode is not GridMode.ISLANDED)
        seen = replace(seen, heard=state is not None, died=died, gone=gone)
        out[genset] = replace(seen, starts_today=0) if new_day else seen
    return out


def _followed(
    layout: Layout, seen: GensetSeen, snapshot: Snapshot, genset: str, state: GensetState
) -> GensetSeen:
    now_s = snapshot.monotonic_s
    doubted_s = _doubted_since_s(layout, seen, snapshot, genset, state)
    stands = doubted_s is not None and seen.on_load and now_s - doubted_s < DOUBT_S
    if stands or state is seen.state:
        return seen if doubted_s == seen.doubted_since_s else replace(seen, doubted_since_s=doubted_s)
    on_load = state is GensetState.RUNNING
    changed = on_load is not seen.on_load
    return GensetSeen(
        state=state,
        state_since_s=now_s,
        on_load=on_load,
        on_load_since_s=now_s if changed else seen.on_load_since_s,
        starts_today=seen.starts_today + int(on_load and changed),
        doubted_since_s=doubted_s,
    )


def _doubted_since_s(
    layout: Layout, seen: GensetSeen, snapshot: Snapshot, genset: str, state: GensetState
) -> float | None:
    """Since when its state says that it left the bus and its power that it has not [s]; None: they agree."""
    p_kw = snapshot.value(layout.p[genset])
    if state is GensetState.RUNNING or p_kw is None:
        return None
    if p_kw <= ON_LOAD_RATIO * layout.gensets[genset].p_rated_kw:
        return None
    return snapshot.monotonic_s if seen.doubted_since_s is None else seen.doubted_since_s


def bess_conditions(
    layout: Layout,
    memory: ObserverMemory,
    snapshot: Snapshot,
    states: Mapping[str, BessState | None],
    limits: Mapping[str, float],
    marks: Marks,
) -> dict[str, BessCondition]:
    """Every battery; `limits` are the live ones of converters."""
    return {b: _bess(layout, memory, snapshot, b, s, limits, marks) for b, s in states.items()}


def _bess(
    layout: Layout,
    memory: ObserverMemory,
    snapshot: Snapshot,
    bess: str,
    state: BessState | None,
    limits: Mapping[str, float],
    marks: Marks,
) -> BessCondition:
    """One battery; limits of one that is not available are zero. At work, what it gives is never unknown."""
    soc = snapshot.value(f"{bess}.soc")
    charge, discharge = bess_limits(limits, snapshot, bess)
    states = bess_states(layout, snapshot, bess, state, (charge, discharge), marks)
    available = usable(states)
    battery, point = layout.bess[bess].battery, layout.p[bess]
    p_kw = snapshot.value(point)
    if p_kw is None and state in _AT_WORK:
        p_kw = memory.last_good.get(point)
    if soc is None:
        soc = memory.last_good.get(f"{bess}.soc", battery.soc_min)
    return BessCondition(
        available=available,
        soc=soc,
        p_kw=0.0 if p_kw is None else p_kw,
        p_charge_kw_max=max(0.0, charge) if available and charge is not None else 0.0,
        p_discharge_kw_max=max(0.0, discharge) if available and discharge is not None else 0.0,
        turns_soc=memory.turns_soc.get(bess, ()),
        use=memory.bess_use.get(bess, BessUse()),
        temp_degc=snapshot.value(f"{bess}.temp_degc"),
        states=states,
    )


def duties(
    layout: Layout,
    memory: ObserverMemory,
    snapshot: Snapshot,
    last_good: Mapping[str, float],
    seen: Mapping[str, GensetSeen],
) -> dict[str, GensetDuty]:
    """What each set has been through, with the load it carries now."""
    loads_kw = {g: last_good.get(layout.p[g], 0.0) if x.may_carry else None for g, x in seen.items()}
    run_h = {g: snapshot.value(f"{g}.run_h") for g in layout.gensets}
    now = local_time(snapshot.at, layout.zone)
    return duties_after(layout.gensets, memory.duty, loads_kw, now, memory.passed_s(snapshot), run_h)


def genset_conditions(
    layout: Layout,
    seen: Mapping[str, GensetSeen],
    snapshot: Snapshot,
    requests: Mapping[str, GensetRequest],
    duty: Mapping[str, GensetDuty],
    last_good: Mapping[str, float],
    marks: Marks,
) -> dict[str, GensetCondition]:
    """Every set, with what the edge asks of it; live limits are among `last_good`."""
    out = {}
    for g, params in layout.gensets.items():
        state = state_of(snapshot, layout.state[g], GENSET_STATES)
        stands = not seen[g].may_carry and state not in _STARTING
        states = genset_states(layout, snapshot, g, state, requests.get(g), marks, stands=stands)
        if seen[g].doubted_since_s is not None:
            states = each_once((*states, UnitState.SUSPECT))
        p_kw = snapshot.value(layout.p[g])
        if p_kw is None and seen[g].may_carry:  # what it gives is never taken for nothing
            p_kw = last_good.get(layout.p[g])
        most_kw = last_good.get(f"{g}.p_kw_max")
        if most_kw is not None and most_kw < DERATED_RATIO * layout.nameplate_kw[g]:
            states = each_once((*states, UnitState.DERATED))
        now = _genset(params, seen[g], snapshot, requests.get(g), state, states, duty[g], p_kw)
        out[g] = replace(now, p_kw_max=most_kw)
    return out


def _genset(
    params: GensetParams,
    seen: GensetSeen,
    snapshot: Snapshot,
    request: GensetRequest | None,
    state: GensetState | None,
    states: tuple[UnitState, ...],
    duty: GensetDuty,
    p_kw: float | None,
) -> GensetCondition:
    now_s = snapshot.monotonic_s
    asked = request is not None and request.run
    available = usable(states)
    starting = available and not seen.may_carry and (state in _STARTING or asked)
    return GensetCondition(
        available=available,
        on_load=seen.may_carry,
        heard=seen.heard,
        starting=starting,
        ready_in_s=_ready_in_s(params, seen, now_s, request) if starting else 0.0,
        age_s=min(LONG_AGO_S, now_s - seen.on_load_since_s),
        p_kw=0.0 if p_kw is None else p_kw,
        fuel_l=snapshot.value(f"{params.id}.fuel_l"),
        starts_today=seen.starts_today,
        duty=duty,
        states=states,
        past=GensetPast() if request is None else past_of(request, snapshot),
    )


def past_of(request: GensetRequest, snapshot: Snapshot) -> GensetPast:
    """What of a request has to outlive a restart of the edge."""
    if not request.starts_s and not request.failures and request.reset_why is None:
        return GensetPast()
    ago = (timedelta(seconds=snapshot.monotonic_s - s) for s in request.starts_s)
    starts = tuple(snapshot.at - a for a in ago)
    return GensetPast(starts=starts, failures=request.failures, reset_why=request.reset_why)


def _ready_in_s(params: GensetParams, seen: GensetSeen, now_s: float, request: GensetRequest | None) -> float:
    in_phase_s = now_s - seen.state_since_s
    match seen.state:
        case GensetState.CRANKING:
            left_s, after_s = params.crank_s, params.warm_up_s + params.synchronise_s
        case GensetState.WARM_UP:
            left_s, after_s = params.warm_up_s, params.synchronise_s
        case GensetState.SYNCHRONISING:
            left_s, after_s = params.synchronise_s, 0.0
        case _:
            in_phase_s = 0.0 if request is None else now_s - request.since_s
            left_s, after_s = params.start_delay_s, 0.0
    return max(0.0, left_s - in_phase_s) + after_s
