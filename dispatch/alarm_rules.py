"""Which alarms are active, from one cycle's facts. Codes are stable, texts are for people."""

from collections.abc import Mapping, Sequence

from dispatch.condition import Observed
from dispatch.layout import Layout
from dispatch.state import FeederShed
from dispatch.vocabulary import Alarm, Event, ReserveStatus, Source, event
from ems.condition import UnitState
from ems.site import GridMode


def alarms_now(
    layout: Layout,
    observed: Observed,
    reserve: ReserveStatus,
    shed: Mapping[str, FeederShed],
    held_safe: bool,
) -> tuple[Alarm, ...]:
    """Every alarm that is active now."""
    c = observed.condition
    out: list[Alarm] = []
    if held_safe:
        out.append(Alarm(code="edge.held_safe", text="held safe until an operator releases the edge"))
    if c.grid_mode is GridMode.UNKNOWN:
        out.append(Alarm(code="grid.mode.unknown", text="evidence is missing or contradicts itself"))
    if c.grid_mode is GridMode.BLACK:
        out.append(Alarm(code="bus.dead", text="the site's bus has no voltage"))
    if not observed.meter_ok:
        out.append(Alarm(code="grid.meter.lost", text="no good reading of the power at the POI"))
    if reserve.short_kw > 0.05 * reserve.required_kw and reserve.short_kw > 1.0:
        text = f"reserve short by {reserve.short_kw:.0f} of {reserve.required_kw:.0f} kW"
        out.append(Alarm(code="reserve.short", text=text))
    for b, bess in c.bess.items():
        if not bess.available:
            out.append(Alarm(code=f"bess.unavailable.{b}", text=f"{b} cannot be used: {_said(bess.states)}"))
    for g, genset in c.gensets.items():
        if not genset.available:
            text = f"{g} cannot be used: {_said(genset.states)}"
            out.append(Alarm(code=f"genset.unavailable.{g}", text=text))
    for f in layout.shed_order:
        if f in shed:  # also while it is asked to close: the load is not served yet
            why = "asked to close, not closed yet" if shed[f].closing else f"held open: {shed[f].why}"
            out.append(Alarm(code=f"feeder.shed.{f}", text=f"{f} is {why}"))
        elif f not in shed and not c.feeder_closed[f]:
            out.append(Alarm(code=f"feeder.open.{f}", text=f"{f} was opened by somebody else"))
    return tuple(out)


def _said(states: Sequence[UnitState]) -> str:
    return ", ".join(s.value.replace("_", " ") for s in states)


def changes(before: Sequence[Alarm], now: Sequence[Alarm]) -> list[Event]:
    """An event for each alarm raised or cleared."""
    old, new = {a.code: a for a in before}, {a.code: a for a in now}
    raised = [event("alarm.raised", code=c, text=a.text) for c, a in new.items() if c not in old]
    return raised + [event("alarm.cleared", code=c) for c in old if c not in new]


def ladder_change(before: str | None, source: Source, refused: str | None) -> list[Event]:
    """An event when another rung of the ladder decides."""
    if before == source.value:
        return []
    return [event("edge.source.changed", before=before, now=source.value, reason=refused)]
