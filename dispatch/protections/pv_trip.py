"""The last means against reverse power: the breaker of a PV plant that nothing milder takes off the bus.

A plant whose limit is lost goes to all the sun gives when its device has waited for us long enough. Where
load and batteries cannot take that with every other plant at nothing, the gensets of an island would be
driven: the plant's breaker is asked to open before. It is asked as well where sets are driven already and
batteries, the other plants and the other sets have less to give than is missing, or have not helped.

The request stands until the plant has been heard and has obeyed for a while, or until a person operates it.
One that stands without this edge having asked is left to people.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from dispatch.authority.state import Lease
from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.observing.pv_lost import GIVES_RATIO, opened
from dispatch.protections.bus import Bus
from dispatch.protections.reverse_power import driven_backwards, margin_kw, relay_half_s
from dispatch.state import ProtectionMemory, PvTrip, Written
from dispatch.vocabulary import Alarm, Event, Target, event
from ems.commands import Cause
from ems.frozen import replace
from ems.points import TRIP_REQUEST
from ems.site import GridMode
from ems.telemetry import Snapshot

LEAD_S = 2.0  # so long before its device drops the limit the breaker is asked
RELEASE_S = 300.0  # heard and obeying for so long; IEEE Std 1547-2018, enter service; doubled with each time
RELEASE_S_MAX = 3600.0  # and after so long without another the times are forgotten
CONFIRM_S = 3.0  # an opening that is asked for counts as done for so long without an answer
ALIVE = (GridMode.GRID_TIED, GridMode.ISLANDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tripping:
    """What is asked of the breakers of PV plants now."""

    targets: Mapping[str, Target]
    trips: Mapping[str, PvTrip]
    heeded_s: Mapping[str, float]
    events: tuple[Event, ...]
    alarms: tuple[Alarm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    """PV that has to leave the bus [kW], the plants it can be taken from and what each gives or may give."""

    kw: float
    plants: Mapping[str, float]
    why: str


def trip_stage(
    layout: Layout,
    memory: ProtectionMemory,
    written: Mapping[str, Written],
    observed: Observed,
    bus: Bus,
    runs: Mapping[str, Target],
    now_s: float,
    dt_s: float,
) -> Tripping:
    """Ask for the fewest breakers that keep the gensets from being driven, and withdraw what is over.

    Parameters
    ----------
    memory : with since when a set has been driven.
    written : what was written until now.
    runs : run targets of the gensets.
    """
    heeded_s = _heeded_s(layout, memory.pv_heeded_s, written, observed, now_s)
    trips, events = _carried_on(layout, memory.pv_trips, written, observed, now_s)
    alarms: list[Alarm] = []
    gone = {p for p, t in trips.items() if t.stands and _is_off(layout, t, p, written, observed, now_s)}
    driven = driven_backwards(layout, observed, bus, runs) if bus.mode is GridMode.ISLANDED else ()
    for need in (
        _ahead(layout, observed, bus, heeded_s, gone, now_s, dt_s),
        _now(layout, observed, bus, driven, memory.reverse_since_s, gone, now_s, dt_s),
    ):
        if need is None:
            continue
        able = {p: kw for p, kw in need.plants.items() if (p, TRIP_REQUEST) in layout.setpoint_of}
        free = {p: kw for p, kw in able.items() if p not in trips or not trips[p].stands}
        chosen = _fewest(free, need.kw)
        for p in chosen:
            times = trips[p].times + 1 if p in trips else 1
            trips[p] = PvTrip(since_s=now_s, why=need.why, times=times)
            events.append(event("pv.trip.asked", asset=p, why=need.why, times=times))
        if need.kw > sum(able[p] for p in chosen):
            alarms += [_helpless(p, need.why) for p in need.plants if p not in able]
    alarms += [_told(layout, p, t, written, now_s) for p, t in trips.items() if t.stands]
    return Tripping(
        targets={p: _target(t) for p, t in trips.items() if t.stands},
        trips=trips,
        heeded_s=heeded_s,
        events=tuple(events),
        alarms=tuple(alarms),
    )


def _heeded_s(
    layout: Layout,
    before_s: Mapping[str, float],
    written: Mapping[str, Written],
    observed: Observed,
    now_s: float,
) -> dict[str, float]:
    """When each plant last took a limit from us, or was first seen without one [s, edge monotonic]."""
    out = {}
    for p in layout.pv:
        last = written.get(layout.setpoint_of.get((p, "p_limit_kw"), ""))
        if last is not None and last.known:
            out[p] = last.at_s
        elif p in before_s or p in observed.pv_uncapped_kw:
            out[p] = before_s.get(p, now_s)
    return out


def _carried_on(
    layout: Layout,
    before: Mapping[str, PvTrip],
    written: Mapping[str, Written],
    observed: Observed,
    now_s: float,
) -> tuple[dict[str, PvTrip], list[Event]]:
    """The requests that stand and those of the last hour, a cycle later."""
    out: dict[str, PvTrip] = {}
    events: list[Event] = []
    for p, t in before.items():
        if t.ended_s is not None:
            if now_s - t.ended_s < RELEASE_S_MAX:
                out[p] = t
            continue
        if observed.condition.grid_mode not in ALIVE or p in observed.pv_uncapped_kw:
            out[p] = replace(t, well_since_s=None, letting_in=False)
            continue
        since_s = now_s if t.well_since_s is None else t.well_since_s
        wait_s = min(RELEASE_S_MAX, RELEASE_S * 2.0 ** min(t.times - 1, 8))
        last = written.get(layout.setpoint_of.get((p, TRIP_REQUEST), ""))
        out[p] = replace(t, well_since_s=since_s, letting_in=now_s - since_s >= wait_s)
        if t.letting_in and last is not None and last.known and last.value < 0.5:
            out[p] = replace(out[p], ended_s=now_s)
            events.append(event("pv.trip.withdrawn", asset=p, why="it is heard and obeys"))
    return out, events


def _is_off(
    layout: Layout,
    trip: PvTrip,
    pv: str,
    written: Mapping[str, Written],
    observed: Observed,
    now_s: float,
) -> bool:
    """Whether a plant that was asked off gives nothing any more, or may be about to leave."""
    return now_s - trip.since_s <= CONFIRM_S + layout.poll_s.get(pv, 0.0) or opened(
        layout, pv, written, observed.condition.pv_kw[pv]
    )


def _ahead(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    heeded_s: Mapping[str, float],
    gone: set[str],
    now_s: float,
    dt_s: float,
) -> _Need | None:
    """What plants whose limit is lost would drive the sets with, at most, everything milder done."""
    lost = {p: most for p, most in observed.pv_uncapped_kw.items() if p not in gone}
    if bus.mode is not GridMode.ISLANDED or not bus.running or not lost:
        return None
    rising = {p for p in lost if _may_rise(layout, p, now_s - heeded_s[p], dt_s)}
    worst_kw = {p: max(bus.lost_pv_kw[p], most if p in rising else 0.0) for p, most in lost.items()}
    taken_kw = bus.load_kw - bus.unheard_kw + bus.follow_down_kw + bus.down_kw
    margins_kw = sum(margin_kw(layout.gensets[g]) for g in bus.running)
    over_kw = sum(worst_kw.values()) - taken_kw - margins_kw
    plants = {p: kw for p, kw in worst_kw.items() if p in rising and kw > 0.0}
    if over_kw <= 0.0 or not plants:
        return None
    names = " and ".join(plants)
    why = f"{names} may go to {sum(plants.values()):.0f} kW, load and batteries take {taken_kw:.0f} kW of PV"
    return _Need(kw=over_kw, plants=plants, why=f"{why}: {' and '.join(bus.running)} would be driven")


def _may_rise(layout: Layout, pv: str, silent_s: float, dt_s: float) -> bool:
    """Whether its device has nearly waited for us as long as it does before it drops the limit."""
    authority = layout.setpoints.get(layout.setpoint_of.get((pv, "p_limit_kw"), ""))
    wait_s = 0.0 if authority is None else authority.safety.behaviour.timeout_s
    return silent_s >= wait_s - max(LEAD_S, 2.0 * dt_s)


def _now(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    driven: tuple[str, ...],
    since_s: float | None,
    gone: set[str],
    now_s: float,
    dt_s: float,
) -> _Need | None:
    """What sets are driven with that nothing milder takes, or has taken within the time that it needs."""
    if not driven:
        return None
    c = observed.condition
    driven_kw = -sum(c.gensets[g].p_kw for g in driven)
    charging_kw = sum(max(0.0, -c.bess[b].p_kw) for b in (*bus.following_bess, *bus.forming_bess))
    others_kw = sum(max(0.0, kw) for p, kw in c.pv_kw.items() if p not in bus.lost_pv_kw and p not in gone)
    sets_kw = sum(max(0.0, c.gensets[g].p_kw - layout.gensets[g].p_min_kw) for g in bus.running)
    helps_kw = others_kw + max(0.0, bus.follow_down_kw + bus.down_kw - charging_kw) + sets_kw
    seen_s = 2.0 * dt_s + max((layout.poll_s.get(a, 0.0) for a in (*layout.pv, *driven)), default=0.0)
    half_s = min(relay_half_s(layout.gensets[g]) for g in driven)
    late = since_s is not None and now_s - since_s >= max(half_s, seen_s)
    if not late and driven_kw <= helps_kw:
        return None
    plants = {
        p: c.pv_kw[p]
        for p, params in layout.pv.items()
        if p not in gone and c.pv_kw[p] > GIVES_RATIO * params.p_ac_kw and (late or p in bus.lost_pv_kw)
    }
    left = "nothing milder has helped" if late else f"all that is milder takes {helps_kw:.0f} kW"
    why = f"{' and '.join(driven)} is driven backwards with {driven_kw:.0f} kW: {left}"
    return _Need(kw=driven_kw if late else driven_kw - helps_kw, plants=plants, why=why)


def _fewest(plants: Mapping[str, float], kw: float) -> list[str]:
    """The smallest plant that is enough; else the largest, and so on [kW]."""
    left, out = dict(plants), []
    while left and kw > 0.0:
        enough = [p for p, own in left.items() if own >= kw]
        chosen = min(enough, key=left.__getitem__) if enough else max(left, key=left.__getitem__)
        kw -= left.pop(chosen)
        out.append(chosen)
    return out


def _target(trip: PvTrip) -> Target:
    if trip.letting_in:
        return Target(value=0.0, cause=Cause.RULES, reason="it is heard and obeys: it may come back")
    return Target(value=1.0, cause=Cause.PROTECTION, reason=trip.why)


def _told(layout: Layout, pv: str, trip: PvTrip, written: Mapping[str, Written], now_s: float) -> Alarm:
    last = written.get(layout.setpoint_of.get((pv, TRIP_REQUEST), ""))
    done = last is not None and last.known and (last.value >= 0.5 or trip.letting_in)
    if not done and now_s - trip.since_s > CONFIRM_S + layout.poll_s.get(pv, 0.0):
        return _helpless(pv, f"{trip.why}; its breaker was asked to open and nobody says that it did")
    return Alarm(code="pv.tripped", asset=pv, text=f"the breaker of {pv} is asked to open: {trip.why}")


def _helpless(pv: str, why: str) -> Alarm:
    return Alarm(code="pv.trip.missing", asset=pv, text=f"{why}; open the breaker of {pv} by hand")


def withdrawn(
    layout: Layout,
    memory: ProtectionMemory,
    operated: Set[str],
    held: Mapping[str, Lease],
    now_s: float,
) -> ProtectionMemory:
    """A person has withdrawn the request: it is over, unless it is needed still.

    Parameters
    ----------
    operated : setpoints that people have operated in this cycle.
    held : people's leases in force.
    """
    points = {p: layout.setpoint_of.get((p, TRIP_REQUEST), "") for p in memory.pv_trips}
    over = {p for p, x in points.items() if x in operated and x in held and held[x].value < 0.5}
    if not over:
        return memory
    trips = {
        p: replace(t, ended_s=now_s) if p in over and t.stands else t for p, t in memory.pv_trips.items()
    }
    return replace(memory, pv_trips=trips)


def found_open(layout: Layout, memory: ProtectionMemory, snapshot: Snapshot) -> tuple[Alarm, ...]:
    """Requests that stand at a breaker and are not this edge's: after a restart, or of somebody else."""
    out = []
    for p in layout.pv:
        point, own = layout.setpoint_of.get((p, TRIP_REQUEST)), memory.pv_trips.get(p)
        told = None if point is None else snapshot.value(point)
        if told is not None and told >= 0.5 and (own is None or not own.stands):
            text = f"the trip request of {p} stands, and not by this edge: a person withdraws it"
            out.append(Alarm(code="pv.tripped", asset=p, text=text))
    return tuple(out)
