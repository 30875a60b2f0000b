"""Transitions between grid modes: one step further in each tick, what it asks for, and what it holds back.

The edge opens and closes no breaker. It asks for the POI breaker to be opened where the site gives it that
authority, else it tells whoever opens that now is the time; it permits the synchronising device to close.
What that device and the sources do by themselves is not in the way of any step: the table follows them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.transitions.table import (
    BLOCKED,
    STEERED,
    TRANSITION,
    Facts,
    Rule,
    Step,
    TransitionMemory,
    next_rule,
)
from dispatch.vocabulary import Alarm, Event, TickInput, event
from ems.commands import Cause, Proposal
from ems.condition import UnitState
from ems.frozen import replace
from ems.outage import known_outages
from ems.site import GridMode

HELPS_SOC = 0.01  # above its minimum, before a battery that was at it counts again as one that may form
RESTORED_S = 600.0  # feeders that are not back by then stay open for other reasons
STEER_SHARE = 0.25  # of what counts as no power: aimed at, as import, so that noise exports nothing
OWNER = "edge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """What the transition function makes of one cycle."""

    memory: TransitionMemory
    given: TickInput  # without the orders it has taken over
    proposals: tuple[Proposal, ...]
    events: tuple[Event, ...]
    alarms: tuple[Alarm, ...]
    blocked: bool  # PV and following batteries give and take nothing
    poi_kw: tuple[float, float] | None  # band the power at the POI is kept in, import positive


def transit(
    layout: Layout,
    memory: TransitionMemory,
    observed: Observed,
    given: TickInput,
    shed: Mapping[str, object],
) -> Moves:
    """Take the step that is due, if any.

    Parameters
    ----------
    shed : feeders that the edge held open in the last tick.
    """
    now_s, dt_s = given.snapshot.monotonic_s, given.dt_s
    order = _order(layout, given)
    memory = _followed(layout, memory, observed, order is not None, now_s)
    facts = _facts(layout, memory, observed, order, shed, now_s, dt_s)
    rule = next_rule(memory.step, facts)
    after = memory if rule is None else _taken(memory, rule, now_s)
    events = () if rule is None else (_event(rule),)
    ordered = order is not None and not after.given_up
    proposals = _proposals(layout, after, observed, given, order if ordered else None, facts)
    if facts.mode is not GridMode.UNKNOWN:
        after = replace(after, last_mode=facts.mode)
    rest = tuple(p for p in given.proposals if p.point != f"{layout.site.grid.id}.open_request")
    return Moves(
        memory=after,
        given=replace(given, proposals=rest),
        proposals=proposals,
        events=events,
        alarms=_alarms(after, facts),
        blocked=after.step in BLOCKED,
        poi_kw=_band(layout, after, now_s),
    )


def _order(layout: Layout, given: TickInput) -> Proposal | None:
    """Somebody wants an island: an operator, or the site file ahead of an announced outage.

    By the announcement only while it is known what time it is: what was opened for it is an island like any
    other then, and goes back to mains that are good.
    """
    point, now_s = f"{layout.site.grid.id}.open_request", given.snapshot.monotonic_s
    for p in given.proposals:
        if p.point == point and p.value >= 0.5 and (p.expires_s is None or p.expires_s > now_s):
            return p
    ahead_s, at = layout.site.grid.transitions.island_before_s, given.snapshot.calendar
    if ahead_s is None or at is None or not _may_open(layout):
        return None
    for n in known_outages(given.outages, at):
        if n.start - timedelta(seconds=ahead_s) <= at < n.end:
            why = f"outage {n.id} is announced for {n.start.isoformat()}"
            return Proposal(point=point, value=1.0, cause=Cause.RULES, reason=why, owner=OWNER)
    return None


def _may_open(layout: Layout) -> bool:
    grid = layout.site.grid.id
    return any((grid, name) in layout.setpoint_of for name in ("open_request", "open_permit"))


def near_kw(layout: Layout) -> float:
    """Power at the POI that counts as none [kW]."""
    grid = layout.site.grid
    return grid.transitions.balanced_ratio * max(grid.p_import_kw_max, grid.p_export_kw_max)


def _followed(
    layout: Layout, memory: TransitionMemory, observed: Observed, ordered: bool, now_s: float
) -> TransitionMemory:
    """The timers after this snapshot."""
    p_kw, mode = observed.condition.grid_p_kw, observed.condition.grid_mode
    near = p_kw is not None and abs(p_kw) <= near_kw(layout)
    since_s, dead_s = memory.near_since_s, memory.dead_since_s
    return replace(
        memory,
        near_since_s=(now_s if since_s is None else since_s) if near else None,
        dead_since_s=(now_s if dead_s is None else dead_s) if mode is GridMode.BLACK else None,
        given_up=memory.given_up and ordered,
        late=memory.late and mode is not GridMode.GRID_TIED,
    )


def _facts(
    layout: Layout,
    memory: TransitionMemory,
    observed: Observed,
    order: Proposal | None,
    shed: Mapping[str, object],
    now_s: float,
    dt_s: float,
) -> Facts:
    grid, c = layout.site.grid, observed.condition
    policy, in_step_s = grid.transitions, now_s - memory.since_s
    near_s = None if memory.near_since_s is None else now_s - memory.near_since_s
    if near_s is not None and memory.step is Step.BALANCING:
        near_s = min(near_s, in_step_s)  # what was before nobody has steered
    dead_s = None if memory.dead_since_s is None else now_s - memory.dead_since_s
    steered_s = max(grid.p_import_kw_max, grid.p_export_kw_max) / grid.ramp_kw_s if grid.ramp_kw_s else 0.0
    return Facts(
        mode=c.grid_mode,
        was_tied=memory.last_mode is GridMode.GRID_TIED,
        ordered=order is not None and not memory.given_up and _may_open(layout),
        able=_able(layout, observed),
        mains_ok=observed.mains_ok is True,
        dwell_over=c.mains_good_s + dt_s >= dwell_s(layout, observed) - 1e-6,
        in_step_s=in_step_s,
        in_planned_s=now_s - memory.planned_since_s,
        balanced=near_s is not None and near_s >= policy.balanced_s - 1e-6,
        near=near_s is not None,
        confirmed=dead_s is not None and dead_s + dt_s / 2.0 >= grid.supervision.start_confirm_s,
        ramped=in_step_s >= steered_s,
        helpless=_helpless(layout, observed, memory.step),
        restored=not shed or in_step_s >= RESTORED_S,
        policy=policy,
    )


def dwell_s(layout: Layout, observed: Observed) -> float:
    """How long the mains must be good before the breaker may close: longer with each recent loss [s].

    Where nobody knows what time it is, every loss that is remembered is recent.
    """
    grid, c = layout.site.grid, observed.condition
    if grid.flapping is None:
        return grid.reconnect_dwell_s
    now, window = c.calendar, timedelta(hours=grid.flapping.window_h)
    losses = len(c.grid_losses) if now is None else sum(now - x < window for x in c.grid_losses)
    return max(grid.reconnect_dwell_s, grid.flapping.dwell_s(grid.reconnect_dwell_s, losses))


def _able(layout: Layout, observed: Observed) -> bool:
    """Whether sources of the site could form an island now and carry what is on."""
    c = observed.condition
    bess_kw = sum(c.bess[b].p_discharge_kw_max for b, p in layout.bess.items() if p.pcs.can_form)
    sets_kw = sum(p.p_rated_kw for g, p in layout.gensets.items() if c.gensets[g].carries)
    soc_left = any(c.bess[b].soc > p.battery.soc_min for b, p in layout.bess.items() if p.pcs.can_form)
    enough_kw = (bess_kw if soc_left else 0.0) + sets_kw
    return enough_kw > 0.0 and enough_kw >= observed.power.load_kw - observed.power.pv_kw


def _helpless(layout: Layout, observed: Observed, step: Step) -> bool:
    """Whether neither a genset nor a battery that forms is left to bring a dead bus back.

    A battery at its minimum is none, and comes to be one again only with some charge: its reading has noise.
    """
    c, above = observed.condition, 0.0 if step is Step.STARTING else HELPS_SOC
    sets = any(x.available or x.starting or x.on_load for x in c.gensets.values())
    coming = (UnitState.OFF, UnitState.TRIPPED, UnitState.DERATED)
    batteries = any(
        p.pcs.can_form
        and c.bess[b].soc > p.battery.soc_min + above
        and all(s in coming for s in c.bess[b].states)
        for b, p in layout.bess.items()
    )
    return not sets and not batteries


def _taken(memory: TransitionMemory, rule: Rule, now_s: float) -> TransitionMemory:
    begins = rule.to is Step.BALANCING and rule.at is Step.STEADY
    return replace(
        memory,
        step=rule.to,
        since_s=now_s,
        planned_since_s=now_s if begins else memory.planned_since_s,
        given_up=memory.given_up or (rule.failed and rule.at in STEERED),
        late=memory.late or (rule.at is Step.CLOSING and rule.to is Step.DWELL),
    )


def _event(rule: Rule) -> Event:
    name = TRANSITION[rule.to] or TRANSITION[rule.at]
    kind = "transition.given_up" if rule.failed else "transition.step"
    return event(kind, before=rule.at.value, now=rule.to.value, transition=name, why=rule.why)


def _alarms(memory: TransitionMemory, facts: Facts) -> tuple[Alarm, ...]:
    out = []
    if memory.given_up:
        out.append(Alarm(code="islanding.given_up", text="the islanding that is ordered was given up"))
    elif facts.ordered and not facts.able and memory.step is Step.STEADY and facts.mode is GridMode.GRID_TIED:
        text = "the islanding that is ordered is not begun: nobody could carry the island"
        out.append(Alarm(code="islanding.given_up", text=text))
    if memory.late:
        out.append(Alarm(code="reconnection.late", text="the POI breaker did not close though it may"))
    if memory.step in (Step.DEAD, Step.STARTING) and facts.helpless:
        out.append(Alarm(code="black_start.helpless", text="nobody is left that could bring the bus back"))
    return tuple(out)


def _band(layout: Layout, memory: TransitionMemory, now_s: float) -> tuple[float, float] | None:
    """Where the power at the POI is kept [kW]; None: where the controller wants it."""
    grid, limit_kw = layout.site.grid, near_kw(layout)
    if memory.step in STEERED:
        return STEER_SHARE * limit_kw, STEER_SHARE * limit_kw
    if memory.step is not Step.RAMPING or grid.ramp_kw_s is None:
        return None
    half_kw = STEER_SHARE * limit_kw + grid.ramp_kw_s * (now_s - memory.since_s)
    return max(-half_kw, STEER_SHARE * limit_kw - grid.p_export_kw_max), half_kw


def _proposals(
    layout: Layout,
    memory: TransitionMemory,
    observed: Observed,
    given: TickInput,
    order: Proposal | None,
    facts: Facts,
) -> tuple[Proposal, ...]:
    """What the POI breaker is asked for and allowed, as far as the site gives the edge a say in it."""
    out = []
    islanded = facts.mode is GridMode.ISLANDED
    opens = memory.step is Step.OPENING or (islanded and order is not None)
    if facts.mode is not GridMode.UNKNOWN:  # in an unknown mode the breaker is left as it is
        why = "the breaker may close again" if order is None else order.reason
        cause = Cause.RULES if order is None else order.cause
        if memory.given_up:  # whoever ordered it: it must not open unprepared, later
            cause, why = Cause.PROTECTION, "the islanding was given up"
        out.append(_proposal(layout, "open_request", opens, cause, why))
    why = "power at the POI is next to none" if opens else f"{memory.step}: not now"
    cause = Cause.RULES if order is None else order.cause
    out.append(_proposal(layout, "open_permit", opens, cause if opens else Cause.PROTECTION, why))
    may, why = _may_close(layout, memory, observed, given, facts)
    out.append(_proposal(layout, "close_permit", may, Cause.RULES if may else Cause.PROTECTION, why))
    return tuple(p for p in out if p is not None)


def _may_close(
    layout: Layout, memory: TransitionMemory, observed: Observed, given: TickInput, facts: Facts
) -> tuple[bool, str]:
    """Whether the synchronising device may close the POI breaker now, and why (not)."""
    point = f"{layout.site.grid.id}.sync_ok"
    known = point in layout.age_s_max or point in given.snapshot.readings
    sync = given.snapshot.value(point)
    if known and (sync is None or sync < 0.5):
        return False, "the synchronism check does not permit"
    if memory.step is Step.CLOSING:
        return True, "the mains have been good for the dwell"
    sets = any(c.starting or c.on_load for c in observed.condition.gensets.values())
    if memory.step in (Step.DEAD, Step.STARTING) and facts.mains_ok and facts.dwell_over and not sets:
        return True, "the mains are good and nobody else is about to carry the bus"
    return False, f"{memory.step}: the breaker is not to close"


def _proposal(layout: Layout, name: str, on: bool, cause: Cause, why: str) -> Proposal | None:
    point = layout.setpoint_of.get((layout.site.grid.id, name))
    if point is None:
        return None
    return Proposal(point=point, value=float(on), cause=cause, reason=why, owner=OWNER)
