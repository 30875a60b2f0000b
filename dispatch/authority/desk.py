"""What the edge makes of requests: who asks, in which mode, is it allowed, does it need a second person.

Each handler takes the memory and gives back the next one with a verdict. Nothing here writes: what is granted
is a lease, a limit or a mode, which the layers of authority then narrow like everything else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import assert_never

from dispatch.authority.desk_limits import bypass, confirm, set_limit, tell
from dispatch.authority.desk_scene import EXPIRY_S_MAX, Asker, Scene, Verdict, no, no_right, stale
from dispatch.authority.desk_setpoints import operate, release, select, set_setpoint
from dispatch.authority.leases import asked_anew
from dispatch.authority.modes import before_of
from dispatch.authority.orphans import against_auto, settled
from dispatch.authority.state import AuthorityMemory, Chosen
from dispatch.vocabulary import Event, event
from ems.control import Act, ControlMode, Role
from ems.frozen import replace
from ems.requests import (
    Answer,
    Bypass,
    Confirm,
    Operate,
    Received,
    Release,
    ReleaseHeldSafe,
    Select,
    SetLimit,
    SetSetpoint,
    SwitchMode,
    TellLimit,
)

ANSWERED_MAX = 500  # answers remembered for requests that come twice
CHOSEN = (ControlMode.OFF, ControlMode.TEST, ControlMode.MANUAL, ControlMode.AUTO)  # local is a switch


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What all requests of one cycle came to."""

    memory: AuthorityMemory
    answers: tuple[Answer, ...]
    events: tuple[Event, ...]
    released: bool  # somebody let an edge that was held safe decide again


def hear(scene: Scene, memory: AuthorityMemory, received: Sequence[Received]) -> Heard:
    """Judge the requests of one cycle, each with what the ones before it left."""
    answers: list[Answer] = []
    events: list[Event] = []
    released = False
    for one in received:
        key = (one.user, one.request.id)
        before = memory.answered.get(key)
        if before is not None:  # asked twice: done once, answered the same
            answers.append(replace(before, n=one.n))
            continue
        verdict = _judge(scene, memory, one)
        released = released or verdict.releases
        answer = Answer(
            user=one.user,
            n=one.n,
            request_id=one.request.id,
            done=verdict.done,
            code=verdict.code,
            text=verdict.text,
            at=scene.at,
            token=verdict.token,
        )
        answers.append(answer)
        known = {**verdict.memory.answered, key: answer}
        memory = replace(verdict.memory, answered=dict(list(known.items())[-ANSWERED_MAX:]))
        events.append(_told(scene, one, verdict))
    return Heard(memory=memory, answers=tuple(answers), events=tuple(events), released=released)


def _told(scene: Scene, one: Received, verdict: Verdict) -> Event:
    """For the audit: who asked for what and why, with which rights, what was and what is."""
    roles = sorted(r.value for r in scene.layout.control.params.users.get(one.user, ()))
    return event(
        "authority.request.done" if verdict.done else "authority.request.refused",
        user=one.user,
        roles=roles,
        session=one.request.session,
        request_id=one.request.id,
        ask=one.request.ask.kind,
        reason=one.request.reason,
        code=verdict.code,
        text=verdict.text,
        token=verdict.token,
        **verdict.fields,
    )


def _judge(scene: Scene, memory: AuthorityMemory, one: Received) -> Verdict:
    request = one.request
    roles = scene.layout.control.params.users.get(one.user, frozenset())
    if not roles:
        return no(memory, "unknown_user", f"{one.user} has no role in the site file (control.users)")
    age_s = scene.now_s - one.seen_s
    if not 0.0 <= age_s <= request.ttl_s:  # also where its time to live is no number
        return no(memory, "expired", f"{age_s:.1f} s old; it was to be done within {request.ttl_s:.1f} s")
    who = Asker(
        user=one.user,
        session=request.session,
        roles=roles,
        current=request.epoch == scene.epoch,
        request_id=request.id,
        reason=request.reason,
    )
    match request.ask:
        case SetSetpoint() as ask:
            return set_setpoint(scene, memory, who, ask)
        case Release() as ask:
            return release(scene, memory, who, ask)
        case SwitchMode() as ask:
            return _switch(scene, memory, who, ask)
        case SetLimit() as ask:
            return set_limit(scene, memory, who, ask)
        case Bypass() as ask:
            return bypass(scene, memory, who, ask)
        case Confirm() as ask:
            return confirm(scene, memory, who, ask)
        case Select() as ask:
            return select(scene, memory, who, ask)
        case Operate() as ask:
            return operate(scene, memory, who, ask)
        case ReleaseHeldSafe():
            return _release_held_safe(scene, memory, who)
        case TellLimit() as ask:
            return tell(scene, memory, who, ask)
        case other:
            assert_never(other)


def _switch(scene: Scene, memory: AuthorityMemory, who: Asker, ask: SwitchMode) -> Verdict:
    """Choose the mode of a device or the plant. Operators and engineers order off in every mode."""
    where = "the plant" if ask.device is None else ask.device
    if ask.device is not None and ask.device not in scene.layout.control.points_of:
        allowed = ", ".join(scene.layout.control.points_of)
        return no(memory, "unknown_device", f"device {ask.device!r}; allowed: {allowed}, or none: the plant")
    if ask.mode not in CHOSEN:
        return no(memory, "not_chosen", "local is the switch at the device, not a request")
    now = scene.plant_mode(memory) if ask.device is None else scene.modes(memory)[ask.device]
    is_off = ask.mode is ControlMode.OFF and bool(who.roles & {Role.OPERATOR, Role.ENGINEER})
    if not is_off and not who.may(now, Act.SWITCH):
        return no_right(memory, who, Act.SWITCH, now, where)
    if ask.mode is ControlMode.TEST and Role.ENGINEER not in who.roles:
        return no(memory, "no_right", f"{who.user} is no engineer: only engineers test")
    if not is_off and not who.current:
        return stale(memory)
    stop = scene.switches.stop_pressed or scene.switches.stop_unknown
    if ask.device is None and stop and not is_off:
        return no(memory, "still_pressed", "the emergency stop is still open: close it first")
    against = against_auto(scene.layout, memory)
    if ask.device is None and ask.mode in (ControlMode.AUTO, ControlMode.TEST) and against is not None:
        return no(memory, "orphaned", against)
    until_s = None
    if ask.for_s is not None:
        if not 0.0 < ask.for_s <= EXPIRY_S_MAX or ask.mode is ControlMode.OFF:  # nor where it is no number
            allowed = f"more than 0, at most {EXPIRY_S_MAX:.0f} s, and not for off"
            return no(memory, "bad_time", f"{ask.for_s!r} s; allowed: {allowed}")
        until_s = scene.now_s + ask.for_s
    before = None if until_s is None else before_of(memory, ask.device)
    chosen = Chosen(mode=ask.mode, user=who.user, until_s=until_s, since_s=scene.now_s, before=before)
    if ask.device is None:
        after = replace(
            memory,
            plant=chosen,
            stopped=memory.stopped and is_off,
            standing_lost=memory.standing_lost and is_off,
        )
        after = settled(scene.layout, after) if ask.mode is ControlMode.AUTO else after
    else:
        after = replace(memory, devices={**memory.devices, ask.device: chosen})
    if ask.mode is ControlMode.MANUAL:
        of = scene.layout.control.points_of
        points = of.values() if ask.device is None else [of[ask.device]]
        after = asked_anew(after, chain.from_iterable(points))
    fields = {"device": ask.device, "old": now.value, "new": ask.mode.value, "expires_in_s": ask.for_s}
    return Verdict(memory=after, done=True, code="done", text=f"{where}: {ask.mode.value}", fields=fields)


def _release_held_safe(scene: Scene, memory: AuthorityMemory, who: Asker) -> Verdict:
    """A person has looked, and says why the edge may decide again."""
    if not who.roles & {Role.OPERATOR, Role.ENGINEER}:
        return no(memory, "no_right", f"{who.user} is neither operator nor engineer")
    if not who.current:
        return stale(memory)
    if not who.reason.strip():
        return no(memory, "no_reason", "say what was found before the edge decides again")
    if not scene.held_safe:
        return no(memory, "not_held_safe", "the edge is not held safe")
    fields = {"old": "held_safe", "new": "released"}
    return Verdict(
        memory=memory, done=True, code="done", text="the edge decides again", releases=True, fields=fields
    )
