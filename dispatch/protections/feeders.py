"""Shedding and restoring whole feeders: least critical first out, most critical first back, step by step."""

from collections.abc import Mapping
from dataclasses import dataclass

from dispatch.layout import Layout
from dispatch.protections.inrush import NO_INRUSH, Inrush
from dispatch.state import FeederShed
from dispatch.vocabulary import Event, Target, event
from ems.commands import Cause
from ems.frozen import replace

SETTLE_S = 5.0  # between two restored feeders: the plant must show what the first one did
OPEN_AT_LEAST_S = 10.0  # the feeder's own controller keeps the rest of its dwell
CLOSE_WITHIN_S = 30.0  # after its dwell
COMES_FIRST = "waits for a feeder that is closing: their inrush at once is more than the sources stand"
CLOSING_RATIO = 1.0  # once asked to close it is not called back before this much is missing


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderInput:
    """What the ladder decides on."""

    demand_kw: Mapping[str, float]  # of each feeder if it were closed
    closed: Mapping[str, bool]  # measured
    planned: Mapping[str, Target]  # value 0: the controller wants it open
    deficit_kw: float  # load that must go now
    why: str
    tiers_out: int | None  # feeders of this tier and above must go (energy); None: no such need
    open_all: bool  # black bus
    headroom_kw: float  # load that may come back now; <= 0: none
    step_most_kw: float  # a feeder whose return is a larger step waits for other sources, and nobody for it
    inrush: Inrush  # what the sources stand of it
    now_s: float
    dt_s: float
    last_restore_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderOutcome:
    """Feeders held open, what to ask of each breaker, and what happened."""

    shed: Mapping[str, FeederShed]
    targets: Mapping[str, Target]
    events: tuple[Event, ...]
    last_restore_s: float


def pickup_kw(layout: Layout, demand_kw: Mapping[str, float], feeder: str) -> float:
    """What a feeder takes when it comes back, all its loads at once [kW]."""
    return layout.feeders[feeder].pickup_ratio * demand_kw[feeder]


def adopt(layout: Layout, closed: Mapping[str, bool], now_s: float) -> dict[str, FeederShed]:
    """Feeders found open when the edge starts: an edge before us may have opened them, so they come back."""
    return {
        f: FeederShed(since_s=now_s, why="found open when the edge started", protective=True)
        for f in layout.shed_order
        if not closed[f]
    }


def dropped_out(
    layout: Layout, shed: Mapping[str, FeederShed], closed: Mapping[str, bool], now_s: float
) -> dict[str, FeederShed]:
    """Feeders found open right after the bus changed its source: their undervoltage release did it."""
    return {
        f: FeederShed(since_s=now_s, why="dropped out with the bus", protective=True)
        for f in layout.shed_order
        if not closed[f] and f not in shed
    }


def ladder(layout: Layout, shed: Mapping[str, FeederShed], given: LadderInput) -> LadderOutcome:
    """One cycle of the ladder."""
    held = {
        f: s for f, s in shed.items() if not _closing_over(s, given, f, layout.feeders[f].restore_dwell_s)
    }
    events = [_end(layout, f, given) for f in shed if f not in held]
    _shed(layout, held, given, events)
    last_restore_s = _restore(layout, held, given, events)
    return LadderOutcome(
        shed=held,
        targets=_targets(layout, held, given),
        events=tuple(events),
        last_restore_s=last_restore_s,
    )


def _closing_over(s: FeederShed, given: LadderInput, feeder: str, dwell_s: float) -> bool:
    """It is closed again, or was asked to close and did not in time."""
    return s.closing and (
        given.closed[feeder] or given.now_s - s.since_s > dwell_s + CLOSE_WITHIN_S + given.dt_s
    )


def _end(layout: Layout, feeder: str, given: LadderInput) -> Event:
    kind = "feeder.restored" if given.closed[feeder] else "feeder.close.failed"
    return event(kind, feeder=feeder, tier=layout.feeders[feeder].tier, kw=given.demand_kw[feeder])


def _shed(layout: Layout, held: dict[str, FeederShed], given: LadderInput, events: list[Event]) -> None:
    left_kw = given.deficit_kw
    for f in layout.shed_order:
        known = held.get(f)
        if known is not None and not known.closing:
            held[f] = replace(known, protective=known.protective or given.open_all)
            continue
        planned = given.planned.get(f)
        low_energy = given.tiers_out is not None and layout.feeders[f].tier >= given.tiers_out
        if given.open_all or left_kw > 0.0 or low_energy:
            why, protective = given.why, True
            left_kw -= given.demand_kw[f]
        elif planned is not None and planned.value < 0.5:
            why, protective = planned.reason, False
        else:
            continue
        held[f] = FeederShed(since_s=given.now_s, why=why, protective=protective)
        tier = layout.feeders[f].tier
        events.append(event("feeder.shed", feeder=f, tier=tier, kw=given.demand_kw[f], reason=why))


def _restore(layout: Layout, held: dict[str, FeederShed], given: LadderInput, events: list[Event]) -> float:
    last_s, room_kw = given.last_restore_s, given.headroom_kw
    for f in reversed(layout.shed_order):
        s, planned = held.get(f), given.planned.get(f)
        if s is None or (planned is not None and planned.value < 0.5):
            continue
        if pickup_kw(layout, given.demand_kw, f) > given.step_most_kw and not s.closing:
            continue
        if not _inrush_allows(layout, held, given, f):
            held[f] = _waits_for_inrush(layout, s, given, f)
            continue
        comes_kw = pickup_kw(layout, given.demand_kw, f)
        room_kw -= CLOSING_RATIO * given.demand_kw[f] if s.closing else comes_kw
        stop = given.open_all or given.deficit_kw > 0.0 or room_kw < 0.0
        if stop or (given.tiers_out is not None and layout.feeders[f].tier >= given.tiers_out):
            if s.closing:  # there was room when it was asked to close, there is none any more
                held[f] = replace(s, closing=False, since_s=given.now_s, why="waits for headroom")
            continue  # the most critical comes first, the others wait for what it leaves
        rested = given.now_s - s.since_s + given.dt_s / 2.0 >= OPEN_AT_LEAST_S
        settled = given.now_s - last_s + given.dt_s / 10.0 >= SETTLE_S
        if s.closing or not rested or not settled:
            continue
        held[f] = FeederShed(since_s=given.now_s, why="restored", protective=True, closing=True)
        tier = layout.feeders[f].tier
        events.append(event("feeder.close.requested", feeder=f, tier=tier, kw=given.demand_kw[f]))
        last_s = given.now_s if given.dt_s < 60.0 else given.now_s - SETTLE_S
    return last_s


def _inrush_allows(layout: Layout, held: Mapping[str, FeederShed], given: LadderInput, feeder: str) -> bool:
    """Whether the sources stand it, and with it the one that is closing already: nobody knows which is first.

    Of feeders with an inrush one closes at a time.
    """
    inrush, closes_kva = given.inrush, _kva(layout, given, feeder)
    if inrush is NO_INRUSH:
        return True
    if held[feeder].closing:
        return inrush.accepts(layout, feeder, closing=True)
    beside = [f for f, s in held.items() if s.closing and f != feeder]
    beside_kva = {f: _kva(layout, given, f) for f in beside}
    sudden = [f for f in beside if layout.feeders[f].inrush_kva > 0.0]
    if layout.feeders[feeder].inrush_kva > 0.0:
        return not sudden and inrush.accepts(layout, feeder, more_kva=sum(beside_kva.values()))
    others = {f: sum(beside_kva.values()) - beside_kva[f] + closes_kva for f in sudden}
    return all(inrush.accepts(layout, f, closing=True, more_kva=kva) for f, kva in others.items())


def _kva(layout: Layout, given: LadderInput, feeder: str) -> float:
    """What a feeder takes once it is in [kVA]."""
    return pickup_kw(layout, given.demand_kw, feeder) / layout.feeders[feeder].power_factor_ratio


def _waits_for_inrush(layout: Layout, s: FeederShed, given: LadderInput, feeder: str) -> FeederShed:
    """Held open, or called back while its own controller keeps its dwell: the sources stand it no more."""
    if not s.closing and (layout.feeders[feeder].inrush_kva <= 0.0 or not s.protective):
        return s
    if not s.closing:
        alone = given.inrush.accepts(layout, feeder)  # it is another one that is in its way
        return replace(s, why=COMES_FIRST if alone else given.inrush.words(layout, feeder))
    return replace(s, closing=False, since_s=given.now_s, why=given.inrush.words(layout, feeder))


def _targets(layout: Layout, held: Mapping[str, FeederShed], given: LadderInput) -> dict[str, Target]:
    """Ask open for what is held open, close for what comes back, and repeat closed for what is closed.

    A feeder that somebody else opened is not named: people open breakers for reasons the edge cannot see.
    """
    out = {}
    for f in layout.shed_order:
        s = held.get(f)
        if s is not None and s.closing:
            out[f] = Target(value=1.0, cause=Cause.PROTECTION, reason=f"{f} comes back: there is headroom")
        elif s is not None:
            cause = Cause.PROTECTION if s.protective else Cause.PLAN
            out[f] = Target(value=0.0, cause=cause, reason=s.why)
        elif given.closed[f]:
            out[f] = Target(value=1.0, cause=Cause.REFRESH, reason=f"{f} stays closed")
    return out
