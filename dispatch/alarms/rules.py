"""Which alarm conditions hold, from one cycle's facts. Each `code` is a row of `ems/alarm_table.csv`.

To add an alarm: tell `Alarm(code=..., text=..., asset=...)` here or in a stage of the tick, and add its row.
Delays, deadbands, acknowledgement and suppression are the machine's (`alarm_machine`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dispatch.authority.withheld import stranger_alarms
from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.observing.scales import explanation
from dispatch.state import FeederShed
from dispatch.supervision.silence_told import differing
from dispatch.vocabulary import Alarm, ReserveStatus, Source
from ems.condition import UnitState
from ems.site import GridMode
from ems.telemetry import Quality, Snapshot, UtcState

OPENS_S = 5.0  # a breaker that is asked to open has done so by then


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the alarm rules look at."""

    layout: Layout
    snapshot: Snapshot
    observed: Observed
    reserve: ReserveStatus
    shed: Mapping[str, FeederShed]
    held_safe: bool
    source: Source
    plan_wanted: bool  # this edge follows plans when there are any
    plan_refused: str | None
    overrun: bool = False
    strangers: Mapping[str, str] = field(default_factory=dict)  # connection -> why its device is another one


def alarms_now(facts: Facts) -> tuple[Alarm, ...]:
    """Every condition that is told now."""
    own = (*_site(facts), *_sources(facts), *_feeders(facts), *_time(facts))
    strange = stranger_alarms(facts.layout, facts.strangers)
    return (*own, *_silent(facts), *_other_silence(facts), *strange)


def _site(facts: Facts) -> Iterator[Alarm]:
    mode, reserve = facts.observed.condition.grid_mode, facts.reserve
    grid = facts.layout.site.grid.id
    if facts.held_safe:
        yield Alarm(code="edge.held_safe", text="held safe until an operator releases the edge")
    if facts.overrun:
        yield Alarm(code="edge.cycle.overrun", text="a control cycle was not over when the next one was due")
    if facts.source is Source.RELEASED:
        yield Alarm(code="edge.released", text="let go of by a person: every device acts by itself")
    if mode is GridMode.UNKNOWN:
        yield Alarm(code="grid.mode.unknown", asset=grid, text="evidence is missing or contradicts itself")
    if mode is GridMode.BLACK:
        yield Alarm(code="bus.dead", text="the site's bus has no voltage")
    if mode in (GridMode.GRID_TIED, GridMode.UNKNOWN) and facts.observed.phase_lost:
        yield Alarm(code="grid.phase.lost", text="a phase of the mains is gone, the others are there")
    if facts.observed.suspect:
        text = "the measured powers do not add up: one of them lies"
        why = explanation(facts.layout, facts.snapshot, facts.observed.scaled)
        yield Alarm(code="power.balance.suspect", text=f"{text}; {why}" if why else text)
    if facts.observed.meter_still or not (facts.observed.meter_ok or facts.observed.suspect):
        still = "the power read at the POI stands still while batteries, gensets or PV move"
        text = still if facts.observed.meter_still else "no good reading of the power at the POI"
        yield Alarm(code="grid.meter.lost", asset=grid, text=text)
    if facts.source is Source.RULES and facts.plan_wanted:
        yield Alarm(code="plan.none", text=f"rules decide: {facts.plan_refused}")
    if reserve.short_kw > 0.0:
        yield Alarm(
            code="reserve.short",
            text=_short(reserve),
            value=reserve.short_kw,
            limit=max(1.0, 0.05 * reserve.required_kw),
        )


def _time(facts: Facts) -> Iterator[Alarm]:
    utc = facts.snapshot.utc
    if utc is UtcState.HOLDOVER:
        yield Alarm(code="utc.lost", text="record time cannot be relied on: its source is lost")
    if utc is UtcState.INVALID:
        text = "record time cannot be relied on: it was set, or nothing synchronises it; "
        text += "nothing is done by the clock: no plan, caps of all hours, no islanding ahead of an outage"
        sets = facts.observed.condition.gensets.items()
        kept = [g for g, c in sets if UnitState.MAINTENANCE in c.states]
        text += f", {', '.join(kept)} not started for a maintenance window that may be now" if kept else ""
        text += ". Synchronise the clock and let the edge see it (docs/modes.md), or run with --utc trusted"
        yield Alarm(code="utc.lost", text=text)


def _sources(facts: Facts) -> Iterator[Alarm]:
    for b, bess in facts.observed.condition.bess.items():
        if not bess.available:
            yield Alarm(code="bess.unavailable", asset=b, text=f"{b} cannot be used: {_said(bess.states)}")
    for g, genset in facts.observed.condition.gensets.items():
        if not genset.available:
            text = f"{g} cannot be used: {_said(genset.states)}"
            yield Alarm(code="genset.unavailable", asset=g, text=text)


def _short(reserve: ReserveStatus) -> str:
    worst = reserve.worst
    if worst is None:
        return f"reserve short by {reserve.short_kw:.0f} of {reserve.required_kw:.0f} kW"
    missing = f"{worst.short_kw:.0f} kW are missing when {worst.name} is lost"
    return f"{missing}: the others hold {worst.held_kw:.0f} of {worst.lost_kw:.0f} kW"


def _said(states: Sequence[UnitState]) -> str:
    return ", ".join(s.value.replace("_", " ") for s in states) or "people have it in hand"


def _feeders(facts: Facts) -> Iterator[Alarm]:
    for f in facts.layout.shed_order:
        shed, closed = facts.shed.get(f), facts.observed.condition.feeder_closed[f]
        asked_s = 0.0 if shed is None else facts.snapshot.monotonic_s - shed.since_s
        if shed is not None and closed and not shed.closing and asked_s >= OPENS_S:
            text = f"{f} is still closed, {asked_s:.0f} s after it was to open: {shed.why}"
            yield Alarm(code="feeder.not_open", asset=f, text=text)
        elif shed is not None:  # also while it is asked to close: the load is not served yet
            why = "asked to close, not closed yet" if shed.closing else f"held open: {shed.why}"
            yield Alarm(code="feeder.shed", asset=f, text=f"{f} is {why}")
        elif not closed:
            yield Alarm(code="feeder.open", asset=f, text=f"{f} was opened by somebody else")


def _silent(facts: Facts) -> Iterator[Alarm]:
    """Devices none of whose points has a good value."""
    good, devices = facts.snapshot.good.keys(), facts.layout.devices
    silent = [d for d, points in devices.items() if good.isdisjoint(points)]
    still = {h.device for h in facts.layout.heartbeats_in if _frozen(facts.snapshot, h.point)}
    for d in silent:
        text = f"{d} answers, but its heartbeat stands still" if d in still else f"{d} gives no good reading"
        if facts.layout.site.grid.id in facts.layout.served[d]:
            yield Alarm(code="grid.device.silent", asset=d, text=text)
        else:
            yield Alarm(code="device.silent", asset=d, text=text)
    if len(silent) == len(devices):
        yield Alarm(code="comms.lost", text=f"none of {len(devices)} devices gives a good reading")


def _other_silence(facts: Facts) -> Iterator[Alarm]:
    """Devices that are set to do something else in silence than the site file says."""
    for point, text in differing(facts.layout, facts.snapshot):
        yield Alarm(code="device.silence_differs", asset=point, text=text)


def _frozen(snapshot: Snapshot, point: str) -> bool:
    reading = snapshot.readings.get(point)
    return reading is not None and reading.quality is Quality.FROZEN
