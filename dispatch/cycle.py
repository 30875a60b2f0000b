"""One control cycle: state and image in, decisions and the next state out. Synchronous and pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dispatch.alarms.rules import Facts
from dispatch.alarms.stage import alarm_stage
from dispatch.authority.breaker import island_order
from dispatch.authority.manual import in_hand, with_people, with_people_after
from dispatch.authority.ruling import (
    Ruling,
    as_protected,
    as_ruled,
    carried_out,
    narrowed,
    ruled,
    standing_of,
    still_written,
)
from dispatch.authority.stage import Given as AuthorityInput
from dispatch.authority.stage import rule, rule_safe
from dispatch.authority.state import AuthorityMemory
from dispatch.authority.withheld import withheld
from dispatch.controllers.outage_reserve import to_reserve_for
from dispatch.controllers.plan_choice import Choice, choose
from dispatch.controllers.plan_follower import PlanFollower
from dispatch.layout import Layout, layout_of
from dispatch.observing.condition import Observed, observe
from dispatch.observing.live_limits import with_live_limits
from dispatch.observing.plausibility import balance_words
from dispatch.observing.scales import scale_alarms
from dispatch.observing.soc_guard import guarded
from dispatch.observing.substitutes import substitutes, substitution_news
from dispatch.protections.balancing_memory import BalancingMemory
from dispatch.protections.protect import Protected, protect
from dispatch.protections.pv_trip import found_open, withdrawn
from dispatch.protections.second_look import balance_alarms, second_look
from dispatch.state import EdgeState, GensetRequest, ObserverMemory, Written
from dispatch.supervision.ladder import rung_now
from dispatch.supervision.readiness import readiness
from dispatch.supervision.release import let_go, release_stage
from dispatch.supervision.resume import know_fallen_back
from dispatch.supervision.watchdog import heartbeat_commands, next_beat
from dispatch.transitions.genset_requests import reconcile
from dispatch.transitions.hold import held
from dispatch.transitions.stage import transit
from dispatch.vocabulary import (
    Alarm,
    Context,
    Controller,
    Decisions,
    Event,
    LadderStatus,
    Source,
    Target,
    Targets,
    TickInput,
)
from dispatch.writing.budget import budget_alarms, counted
from dispatch.writing.commands import Asked, demanded, gate_input_of, news, only_numbers, proposals_of, write
from dispatch.writing.contention import contention_alarms, watch
from dispatch.writing.effect import check_effect, effect_alarms, marks_of
from dispatch.writing.outcomes import read_back
from dispatch.writing.reactive_effect import check_reactive, reactive_alarms
from dispatch.writing.safe_table import safe_proposals
from ems.commands import Cause, Command, Refusal
from ems.condition import PlantCondition
from ems.errors import InvariantBroken
from ems.frozen import replace
from ems.requests import Operate
from ems.site import GridMode, Site
from ems.telemetry import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSetup:
    """What never changes while the edge runs."""

    site: Site
    controller: Controller
    shadow: bool
    layout: Layout = field(init=False)

    @property
    def follows_plans(self) -> bool:
        """Whether the controller follows plans when there are any."""
        return isinstance(self.controller, PlanFollower)

    def refused(self, choice: Choice) -> str | None:
        """Why the newest plan is not followed; None where nobody follows plans."""
        return choice.refused if self.follows_plans else None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layout", layout_of(self.site))


def tick(setup: EdgeSetup, state: EdgeState, given: TickInput) -> tuple[EdgeState, Decisions]:
    """Decide what to write for the next `given.dt_s` seconds.

    Raises
    ------
    InvariantBroken : something that cannot be true was seen; the shell must write the safe table.
    """
    snapshot, now_s = given.snapshot, given.snapshot.monotonic_s
    seen = _look(setup.layout, state, given, setup.shadow)
    state, layout, observed, ruling = seen.state, seen.layout, seen.observed, seen.ruling
    plans, choice = choose(setup.site, state.plans, given.plan, observed.condition, now_s, given.dt_s)
    wishes, control = setup.controller.decide(_context(layout.site, state, observed, choice, given))
    wishes, bad = only_numbers(setup.controller.name, wishes, snapshot.at)
    wishes = with_people(layout, wishes, seen.people)
    between = replace(state, observer=seen.memory, requests=seen.requests)
    moves = transit(layout, state.transition, observed, _ordered(seen, given), state.shed)
    given = moves.given
    kept = held(layout, seen.there, moves, protect(layout, between, seen.there, wishes, now_s, given.dt_s))
    kept = replace(kept, targets=with_people_after(layout, ruling, kept.targets, seen.people))
    release, let = release_stage(layout, state, given.release, observed, snapshot)
    source = _source(state, observed, kept.targets, release.released and not ruling.stopping)
    proposals = proposals_of(layout, setup.controller.name, state, observed, kept.targets, given, ruling)
    proposals += [] if state.held_safe else carried_out(moves.proposals, ruling, seen.people)
    ready = readiness(layout, state.ready, observed, snapshot)
    proposals = [] if source is Source.RELEASED else ready.admitted(proposals, held_safe=state.held_safe)
    gate_input = gate_input_of(layout, state, observed, snapshot, given.dt_s)
    asked = Asked(proposals=proposals, bounds=kept.bounds, ruling=ruling)
    written, commands, refusals = write(layout, state, observed, snapshot, asked, gate_input)
    silent = state.held_safe or source is Source.RELEASED
    beat, seq = state.heartbeat if silent else next_beat(state.heartbeat), state.seq + 1 + len(commands)
    fed = heartbeat_commands(layout, beat, written, gate_input, seq, ruling.silent, ready.knows)
    beats = [] if silent else fed
    written |= {c.point: Written(value=c.value, at_s=now_s, known=True) for c in beats}
    commands = (*commands, *beats)
    told, refused = news(state.refused, [*bad, *refusals], now_s)
    ladder, moved = rung_now(state, source, snapshot.at, setup.refused(choice), given.planner_alive)
    facts = _facts(setup, state, observed, kept, source, choice, given)
    further = [*kept.alarms, *ruling.alarms, *given.found, *_further(layout, state, seen, snapshot)]
    alarms, conditions, rang = alarm_stage(state.alarms, facts, given, further)
    substituted, said = substitution_news(layout, observed, state.substituted, snapshot)
    did = (*(() if source is Source.RELEASED else kept.events), *let, *moved)
    events = [*ruling.events, *seen.truth, *choice.events, *_mode_change(state, observed), *did, *rang, *said]
    after = EdgeState(
        epoch=state.epoch,
        seq=state.seq + len(commands),
        heartbeat=beat,
        held_safe=state.held_safe,
        started_s=_started(state, observed, now_s),
        observer=seen.memory,
        plans=plans,
        control=control,
        balancing=seen.balancing,
        requests=kept.requests,
        shed=kept.shed,
        protection=kept.memory,
        written=written,
        stood=state.written,
        refused=refused,
        alarms=alarms,
        release=release,
        source=source.value,
        source_since=ladder.since,
        silent_since_s=state.silent_since_s,
        substituted=substituted,
        contention=state.contention,
        effect=state.effect,
        reactive_effect=state.reactive_effect,
        marks=marks_of(state.effect),
        ready=ready.seen,
        transition=moves.memory,
        authority=seen.authority,
    )
    after = let_go(after, state) if source is Source.RELEASED else after
    out = _decisions(setup, observed, kept, choice, given, commands, told, events, conditions, ladder, after)
    after = counted(layout, after, state.budget, out)
    return after, ruled(out, ruling, standing_of(seen.authority, state.held_safe))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What a tick knows before anybody wishes anything."""

    state: EdgeState
    layout: Layout  # with the caps at the POI and the strength of the gensets that hold now
    memory: ObserverMemory
    balancing: BalancingMemory
    observed: Observed  # as authority lets it be reckoned with
    there: Observed  # the same as the protections reckon with it
    requests: Mapping[str, GensetRequest]
    truth: Sequence[Event]
    authority: AuthorityMemory
    ruling: Ruling
    people: Mapping[str, Target | None]


def _ordered(seen: _Seen, given: TickInput) -> TickInput:
    """With the island that a person has ordered at the desk, among the orders of others."""
    order = island_order(seen.layout, seen.ruling, seen.people)
    return replace(given, proposals=(*given.proposals, *order)) if order else given


def _look(layout: Layout, state: EdgeState, given: TickInput, shadow: bool) -> _Seen:
    """Condense the snapshot, bring requests in line with the gensets, and hear authority."""
    snapshot, now_s = given.snapshot, given.snapshot.monotonic_s
    if not (math.isfinite(given.dt_s) and given.dt_s > 0.0):
        raise InvariantBroken(f"a cycle of {given.dt_s!r} s")
    layout = with_live_limits(layout, state.observer.last_good, snapshot)
    state = know_fallen_back(layout, state, snapshot)
    memory, observed = observe(
        layout, state.observer, snapshot, state.requests, given.dt_s, state.marks, given.prices
    )
    soc, observed = guarded(
        layout, state.balancing.soc, snapshot, observed, state.observer.passed_s(snapshot)
    )
    authority, ruling = rule(
        layout,
        state.authority,
        AuthorityInput(
            snapshot=snapshot,
            condition=observed.condition,
            written=state.written,
            received=given.received,
            held_safe=state.held_safe,
            epoch=state.epoch,
            dt_s=given.dt_s,
            withheld=withheld(layout, given),
        ),
    )
    operated = _operated(state, given, ruling)
    requests, truth = reconcile(
        layout, state.requests, state.observer.gensets, memory.gensets, now_s, operated
    )
    held_safe = state.held_safe and not ruling.released
    contention, stands = state.contention, still_written(state.written, ruling)
    effect, reactive_effect = state.effect, state.reactive_effect
    if not shadow:  # in shadow nothing was sent that a device could hold
        contention, stands = watch(layout, contention, read_back(layout, stands, snapshot), snapshot)
        asked = () if held_safe else ruling.asked
        effect, stands = check_effect(layout, effect, stands, snapshot, observed, asked)
        reactive_effect = check_reactive(layout, reactive_effect, stands, snapshot, observed, asked)
    trips = withdrawn(layout, state.protection, operated, ruling.held, now_s)
    state = replace(
        state, held_safe=held_safe, written=stands, contention=contention, effect=effect, protection=trips,
        reactive_effect=reactive_effect,
    )  # fmt: skip
    people = in_hand(layout, ruling, observed.condition.grid_mode, state.written)
    layout = narrowed(layout, ruling)
    observed = as_ruled(observed, ruling, people)
    balancing, observed = second_look(layout, state, snapshot, observed, soc, given.dt_s, shadow=shadow)
    return _Seen(
        state=state,
        layout=layout,
        memory=memory,
        balancing=balancing,
        observed=observed,
        there=as_protected(observed, ruling),
        requests=requests,
        truth=truth,
        authority=authority,
        ruling=ruling,
        people=people,
    )


def _operated(state: EdgeState, given: TickInput, ruling: Ruling) -> set[str]:
    """Setpoints that a person has operated in this cycle."""
    done = {(a.user, a.request_id) for a in ruling.answers if a.done}
    out = {p.point for p in given.proposals if p.cause is Cause.OPERATOR}
    for r in given.received:
        ask = r.request.ask
        if isinstance(ask, Operate) and (r.user, r.request.id) in done:
            selection = state.authority.selections.get(ask.token)
            out |= set() if selection is None else {selection.point}
    return out


def _further(layout: Layout, state: EdgeState, seen: "_Seen", snapshot: Snapshot) -> tuple[Alarm, ...]:
    """What is the matter with what was written, with the balance, and with what is read."""
    budget = budget_alarms(layout, state.budget)
    effect = (*effect_alarms(state.effect), *reactive_alarms(state.reactive_effect))
    written = (*contention_alarms(state.contention), *effect, *budget)
    doubted = scale_alarms(layout, snapshot, seen.memory.last_good, seen.observed.condition.grid_mode)
    open_pv = found_open(layout, state.protection, snapshot)
    return (*written, *open_pv, *balance_alarms(layout, seen.balancing, seen.observed), *doubted)


def _facts(
    setup: EdgeSetup,
    state: EdgeState,
    observed: Observed,
    kept: Protected,
    source: Source,
    choice: Choice,
    given: TickInput,
) -> Facts:
    return Facts(
        layout=setup.layout,
        snapshot=given.snapshot,
        observed=observed,
        reserve=kept.reserve,
        shed=kept.shed,
        held_safe=state.held_safe,
        source=source,
        plan_wanted=setup.follows_plans,
        plan_refused=choice.refused,
        overrun=given.overrun,
        strangers=given.strangers,
    )


def _started(state: EdgeState, observed: Observed, now_s: float) -> float | None:
    """Start counts from the first tick that knew the grid mode."""
    if state.started_s is not None or observed.condition.grid_mode is GridMode.UNKNOWN:
        return state.started_s
    return now_s


def _context(site: Site, state: EdgeState, observed: Observed, choice: Choice, given: TickInput) -> Context:
    return Context(
        site=site,
        now=given.snapshot.calendar,
        monotonic_s=given.snapshot.monotonic_s,
        dt_s=given.dt_s,
        condition=observed.condition,
        power=observed.power,
        outages=to_reserve_for(site, given, observed.condition),
        plan=choice.plan,
        step=choice.step,
        memory=state.control,
        planner_alive=given.planner_alive,
        prices=None if given.snapshot.calendar is None else given.prices,
    )


def _source(state: EdgeState, observed: Observed, targets: Targets, released: bool) -> Source:
    if state.held_safe:
        return Source.HOLD_SAFE
    if released:
        return Source.RELEASED
    if observed.condition.grid_mode is GridMode.UNKNOWN:
        return Source.HOLD_SAFE
    return targets.source


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
    conditions: tuple[Alarm, ...],
    ladder: LadderStatus,
    after: EdgeState,
) -> Decisions:
    return Decisions(
        at=given.snapshot.at,
        commands=() if setup.shadow else commands,
        refusals=refusals,
        would_write=commands if setup.shadow else (),
        condition=_told_on(setup.site, observed, after),
        mode=observed.condition.grid_mode,
        source=ladder.rung,
        ladder=ladder,
        controller=setup.controller.name,
        plan_id=kept.targets.plan_id,
        plan_refused=choice.refused,
        replan_requested=choice.replan,
        targets=kept.targets,
        power=observed.power,
        reserve=kept.reserve,
        events=tuple(events),
        alarms=conditions,
        alarm_book=after.alarms.book(given.snapshot.at),
        heartbeat=after.heartbeat,
        transition=after.transition.step.value,
        bounds=kept.bounds,
        balance_watch=balance_words(setup.layout, after.observer.balance),
        substituted=substitutes(setup.layout, observed, given.snapshot),
    )


def _told_on(site: Site, observed: Observed, after: EdgeState) -> PlantCondition:
    """The condition with what an edge that starts after this one takes over of the controller's memory."""
    c, peaks = observed.condition, after.control.peaks
    if not peaks.by_charge_kw or peaks.month != site.tariff.month(c.at):
        return c
    return replace(c, peak_targets_kw=peaks.by_charge_kw)


def safe_commands(
    setup: EdgeSetup, state: EdgeState, snapshot: Snapshot, why: str
) -> tuple[EdgeState, tuple[Command, ...]]:
    """Safe table of the present grid mode through authority and gate, and the state held safe.

    The decision parts of a tick are not used: one of them may be what broke.
    """
    layout = with_live_limits(setup.layout, state.observer.last_good, snapshot)
    memory, observed = observe(layout, state.observer, snapshot, state.requests, 1.0, state.marks)
    held = replace(state, held_safe=True, observer=memory)
    ruling = rule_safe(layout, state.authority, snapshot)
    safe = safe_proposals(layout, observed.condition.grid_mode, observed.bess_state, why)
    asked = Asked(proposals=demanded(layout) if ruling.stopping else safe, bounds={}, ruling=ruling)
    given = gate_input_of(layout, held, observed, snapshot, 1.0)
    unwritten = replace(held, written={})  # written whatever was written before, once
    written, commands, _ = write(layout, unwritten, observed, snapshot, asked, given)
    after = replace(held, written={**held.written, **written}, seq=held.seq + len(commands))
    return after, () if setup.shadow else commands
