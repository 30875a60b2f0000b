"""One control cycle: state and image in, decisions and the next state out. Synchronous and pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from dispatch.alarm_rules import alarms_now, changes, ladder_change
from dispatch.authority import resolve as authorise
from dispatch.condition import Observed, observe
from dispatch.gate import GateInput, gate
from dispatch.genset_requests import reconcile
from dispatch.layout import Layout, layout_of
from dispatch.plan_choice import Choice, choose
from dispatch.protect import Protected, protect
from dispatch.safe_table import safe_proposals
from dispatch.state import EdgeState, Written
from dispatch.vocabulary import Context, Controller, Decisions, Event, Source, Target, Targets, TickInput
from dispatch.watchdog import heartbeat_commands, next_beat
from ems.commands import Bound, Command, Proposal, Refusal
from ems.errors import InvariantBroken
from ems.outage import known_outages
from ems.points import AssetKind, BessState
from ems.site import GridMode, Site
from ems.telemetry import Snapshot

REPEAT_REFUSAL_S = 60.0  # the same refusal of the same point is told again so often
_FIELDS = (
    ("bess_p_kw", "p_set_kw"),
    ("genset_run", "run_request"),
    ("genset_p_kw", "p_set_kw"),
    ("pv_limit_kw", "p_limit_kw"),
    ("feeder_close", "close_request"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSetup:
    """What never changes while the edge runs."""

    site: Site
    controller: Controller
    shadow: bool
    layout: Layout = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layout", layout_of(self.site))


def tick(setup: EdgeSetup, state: EdgeState, given: TickInput) -> tuple[EdgeState, Decisions]:
    """Decide what to write for the next `given.dt_s` seconds.

    Raises
    ------
    InvariantBroken : something that cannot be true was seen; the shell must write the safe table.
    """
    layout, snapshot = setup.layout, given.snapshot
    if not (math.isfinite(given.dt_s) and given.dt_s > 0.0):
        raise InvariantBroken(f"a cycle of {given.dt_s!r} s")
    now_s = snapshot.monotonic_s
    memory, observed = observe(layout, state.observer, snapshot, state.requests, given.dt_s)
    requests, truth = reconcile(layout, state.requests, state.observer.gensets, memory.gensets, now_s)
    condition = observed.condition
    plans, choice = choose(setup.site, state.plans, given.plan, condition, now_s, given.dt_s)
    context = _context(setup, state, observed, choice, given)
    wishes, control = setup.controller.decide(context)
    wishes, bad = _only_numbers(setup, wishes, snapshot.at)
    between = replace(state, observer=memory, requests=requests)
    kept = protect(layout, between, observed, wishes, now_s, given.dt_s)
    source = _source(state, observed, kept.targets)
    proposals = _proposals(setup, state, observed, kept.targets, given)
    gate_input = _gate_input(layout, state, observed, snapshot, given.dt_s)
    written, commands, refusals = _write(
        layout, state, observed, snapshot, proposals, kept.bounds, gate_input
    )
    beat = state.heartbeat if state.held_safe else next_beat(state.heartbeat)
    beats = heartbeat_commands(layout, beat, written, gate_input, state.seq + 1 + len(commands))
    refusals = [*bad, *refusals]
    written |= {c.point: Written(value=c.value, at_s=now_s, known=True) for c in beats}
    commands = (*commands, *beats)
    told, refused = _news(state.refused, refusals, now_s)
    alarms = alarms_now(layout, observed, kept.reserve, requests, kept.shed, state.held_safe)
    events = [*truth, *choice.events, *_mode_change(state, observed), *kept.events]
    events += changes(state.alarms, alarms) + ladder_change(state.source, source, choice.refused)
    after = EdgeState(
        epoch=state.epoch,
        seq=state.seq + len(commands),
        heartbeat=beat,
        held_safe=state.held_safe,
        started_s=_started(state, observed, now_s),
        observer=memory,
        plans=plans,
        control=control,
        requests=kept.requests,
        shed=kept.shed,
        protection=kept.memory,
        written=written,
        refused=refused,
        alarms=alarms,
        source=source.value,
    )
    return after, _decisions(setup, observed, kept, choice, given, commands, told, events, after)


def _only_numbers(setup: EdgeSetup, wishes: Targets, now: datetime) -> tuple[Targets, list[Refusal]]:
    """A wish that is not a number never reaches the protections: a clamp would make it full power."""
    refusals: list[Refusal] = []
    changed: dict[str, Any] = {}  # fields of Targets to replace
    for group, name in _FIELDS:
        targets: Mapping[str, Target] = getattr(wishes, group)
        for asset, t in targets.items():
            if not math.isfinite(t.value):
                changed[group] = {a: v for a, v in targets.items() if math.isfinite(v.value)}
                reason = f"{setup.controller.name} wants {t.value!r}"
                refusals.append(
                    Refusal(
                        point=f"{asset}.{name}",
                        value=t.value,
                        cause=t.cause,
                        code="not_finite",
                        reason=reason,
                        decided_at=now,
                    )
                )
    return (replace(wishes, **changed) if changed else wishes), refusals


def _started(state: EdgeState, observed: Observed, now_s: float) -> float | None:
    """Start counts from the first tick that knew the grid mode."""
    if state.started_s is not None or observed.condition.grid_mode is GridMode.UNKNOWN:
        return state.started_s
    return now_s


def _context(
    setup: EdgeSetup, state: EdgeState, observed: Observed, choice: Choice, given: TickInput
) -> Context:
    return Context(
        site=setup.site,
        now=given.snapshot.at,
        monotonic_s=given.snapshot.monotonic_s,
        dt_s=given.dt_s,
        condition=observed.condition,
        power=observed.power,
        outages=known_outages(given.outages, given.snapshot.at),
        plan=choice.plan,
        step=choice.step,
        memory=state.control,
        planner_alive=given.planner_alive,
    )


def _source(state: EdgeState, observed: Observed, targets: Targets) -> Source:
    if state.held_safe or observed.condition.grid_mode is GridMode.UNKNOWN:
        return Source.HOLD_SAFE
    return targets.source


def _proposals(
    setup: EdgeSetup, state: EdgeState, observed: Observed, targets: Targets, given: TickInput
) -> list[Proposal]:
    """Targets and operators' wishes as proposals; held safe, the safe table alone."""
    if state.held_safe:
        mode = observed.condition.grid_mode
        return safe_proposals(setup.layout, mode, observed.bess_state, "the edge is held safe")
    out = [p for p in given.proposals if p.expires_s is None or p.expires_s > given.snapshot.monotonic_s]
    for group, name in _FIELDS:
        for asset, target in getattr(targets, group).items():
            point = setup.layout.setpoint_of.get((asset, name))
            if point is not None:
                out.append(
                    Proposal(
                        point=point,
                        value=target.value,
                        cause=target.cause,
                        reason=target.reason,
                        owner=setup.controller.name,
                        plan_id=targets.plan_id,
                    )
                )
    return out


def _gate_input(
    layout: Layout, state: EdgeState, observed: Observed, snapshot: Snapshot, dt_s: float
) -> GateInput:
    good = {p for p, r in snapshot.readings.items() if r.is_good}
    fresh = {a: good.issuperset(points) for a, points in layout.needed.items()}
    answering = {a: not good.isdisjoint(points) for a, points in layout.reads.items()}
    alone = observed.mains_ok is not True
    forming = frozenset(b for b, s in observed.bess_state.items() if s is BessState.FORMING and alone)
    return GateInput(
        mode=observed.condition.grid_mode,
        forming=forming,
        fresh=fresh,
        answering=answering,
        held_safe=state.held_safe,
        epoch=state.epoch,
        now=snapshot.at,
        now_s=snapshot.monotonic_s,
        dt_s=dt_s,
    )


def _write(
    layout: Layout,
    state: EdgeState,
    observed: Observed,
    snapshot: Snapshot,
    proposals: Sequence[Proposal],
    bounds: Mapping[str, Sequence[Bound]],
    given: GateInput,
) -> tuple[dict[str, Written], tuple[Command, ...], list[Refusal]]:
    """Authority, then the gate, for every point: (what is written now, commands, refusals)."""
    last = {**_measured(layout, state, observed, snapshot), **state.written}
    if state.held_safe:
        bounds = {}
    setpoints, refusals = authorise(layout, observed.condition, proposals, bounds, last, given.now)
    written = dict(state.written)
    commands: list[Command] = []
    for s in setpoints:
        passed = gate(layout, s, last.get(s.point), given, state.seq + 1 + len(commands))
        if isinstance(passed, Refusal):
            refusals.append(passed)
        elif passed is not None:
            _assert_safe(layout, passed, s.low, s.high)
            commands.append(passed)
            written[s.point] = Written(value=passed.value, at_s=given.now_s, known=True)
    return written, tuple(commands), refusals


def _measured(layout: Layout, state: EdgeState, observed: Observed, snapshot: Snapshot) -> dict[str, Written]:
    """What stands for a setpoint this edge has not written yet: no step on taking over.

    What the device says it has (its read-back), else for powers what is measured.
    """
    out = {}
    for (asset, name), point in layout.setpoint_of.items():
        if point in state.written:
            continue
        value = snapshot.value(point)
        if value is None and name == "p_set_kw":
            c = observed.condition
            is_bess = layout.kinds[asset] is AssetKind.BESS
            value = c.bess[asset].p_kw if is_bess else c.gensets[asset].p_kw
        if value is not None:
            out[point] = Written(value=value, at_s=-1e9, known=False)
    return out


def _assert_safe(layout: Layout, command: Command, low: float, high: float) -> None:
    """The oracle that stays on in production: finite, inside, whitelisted."""
    a = layout.setpoints.get(command.point)
    if a is None or not math.isfinite(command.value):
        raise InvariantBroken(f"the gate let {command.point} = {command.value!r} pass")
    if not (low <= command.value <= high and a.low <= command.value <= a.high):
        raise InvariantBroken(f"{command.point} = {command.value} is outside [{low}, {high}]")


def _news(
    known: Mapping[str, tuple[str, float]], refusals: Sequence[Refusal], now_s: float
) -> tuple[tuple[Refusal, ...], dict[str, tuple[str, float]]]:
    """Refusals worth telling: new ones, and lasting ones once a minute."""
    told, after = [], {}
    for r in refusals:
        before = known.get(r.point)
        if before is None or before[0] != r.code or now_s - before[1] >= REPEAT_REFUSAL_S:
            told.append(r)
            after[r.point] = (r.code, now_s)
        else:
            after[r.point] = before
    return tuple(told), after


def _mode_change(state: EdgeState, observed: Observed) -> list[Event]:
    mode, before = observed.condition.grid_mode, state.observer.mode
    if mode is before and state.observer.last_s is not None:
        return []
    fields = {"before": before.value, "now": mode.value, "forming": observed.condition.forming}
    return [Event(kind="grid.mode.changed", fields=fields)]


def _decisions(  # noqa: PLR0913  gathers what every stage of the tick produced
    setup: EdgeSetup,
    observed: Observed,
    kept: Protected,
    choice: Choice,
    given: TickInput,
    commands: tuple[Command, ...],
    refusals: tuple[Refusal, ...],
    events: Sequence[Event],
    after: EdgeState,
) -> Decisions:
    assert after.source is not None
    return Decisions(
        at=given.snapshot.at,
        commands=() if setup.shadow else commands,
        refusals=refusals,
        would_write=commands if setup.shadow else (),
        condition=observed.condition,
        mode=observed.condition.grid_mode,
        source=Source(after.source),
        controller=setup.controller.name,
        plan_id=kept.targets.plan_id,
        plan_refused=choice.refused,
        replan_requested=choice.replan,
        targets=kept.targets,
        power=observed.power,
        reserve=kept.reserve,
        events=tuple(events),
        alarms=after.alarms,
        heartbeat=after.heartbeat,
    )


def safe_commands(
    setup: EdgeSetup, state: EdgeState, snapshot: Snapshot, why: str
) -> tuple[EdgeState, tuple[Command, ...]]:
    """Safe table of the present grid mode through authority and gate, and the state held safe.

    The decision parts of a tick are not used: one of them may be what broke.
    """
    layout = setup.layout
    memory, observed = observe(layout, state.observer, snapshot, state.requests, 1.0)
    held = replace(state, held_safe=True, observer=memory)
    proposals = safe_proposals(layout, observed.condition.grid_mode, observed.bess_state, why)
    given = _gate_input(layout, held, observed, snapshot, 1.0)
    unwritten = replace(held, written={})  # written whatever was written before, once
    written, commands, _ = _write(layout, unwritten, observed, snapshot, proposals, {}, given)
    after = replace(held, written={**held.written, **written}, seq=held.seq + len(commands))
    return after, () if setup.shadow else commands
