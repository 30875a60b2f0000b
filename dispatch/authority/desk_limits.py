"""Limits on request: one person tightens at once, two loosen, or one breaks the glass for a while."""

import hashlib
import math

from dispatch.authority.desk_scene import Asker, Scene, Verdict, no, no_right, stale
from dispatch.authority.interlocks import bypass_of
from dispatch.authority.people_limits import Subject, in_force, is_tighter, subject_of
from dispatch.authority.state import AuthorityMemory, Loosened, Pending, Told
from ems.control import Act, ControlMode, Role
from ems.frozen import replace
from ems.records import JsonValue
from ems.requests import Bypass, Confirm, SetLimit, StandingLimit, TellLimit

CONFIRM_S = 600.0  # the second person has so long
GLASS_S_MAX = 4 * 3600.0  # broken glass and bypasses end after this at the latest


def set_limit(scene: Scene, memory: AuthorityMemory, who: Asker, ask: SetLimit) -> Verdict:
    """Tighten at once; anything wider waits for a second person or breaks the glass."""
    subject = subject_of(scene.layout, ask.subject)
    if subject is None and ask.subject in memory.limits and ask.value is None:
        mode = scene.plant_mode(memory)  # about nothing at this site: what is left to do is to take it away
        return _loosen(scene, memory, who, ask, mode, ask.break_glass, ask.for_s)
    if subject is None:
        allowed = "import, export, pv, bess_charge, bess_discharge, or <setpoint>.low / .high"
        return no(memory, "unknown_subject", f"limit {ask.subject!r}; allowed: {allowed}")
    value = ask.value
    if value is not None and not subject.low <= value <= subject.high:  # nor where it is no number
        allowed = f"{subject.low:g} to {subject.high:g}"
        return no(memory, "out_of_bounds", f"{ask.subject}: {value!r}; allowed: {allowed}")
    mode = _mode_for(scene, memory, subject)
    now = in_force(memory.limits, memory.loosened, subject.name)
    if is_tighter(subject, now, value):
        if not who.may(mode, Act.TIGHTEN):
            return no_right(memory, who, Act.TIGHTEN, mode, subject.point or "the plant")
        return _tightened(memory, who, subject, value)
    return _loosen(scene, memory, who, ask, mode, ask.break_glass, ask.for_s)


def bypass(scene: Scene, memory: AuthorityMemory, who: Asker, ask: Bypass) -> Verdict:
    """Have an interlock not count for a time: a loosening like any other, and always for a time."""
    there = [i.id for i in scene.layout.control.params.interlocks]
    if ask.interlock not in there:
        allowed = ", ".join(there) if there else "this site has none"
        return no(memory, "unknown_interlock", f"interlock {ask.interlock!r}; allowed: {allowed}")
    mode = scene.plant_mode(memory)
    return _loosen(scene, memory, who, ask.interlock, mode, ask.break_glass, ask.for_s)


def confirm(scene: Scene, memory: AuthorityMemory, who: Asker, ask: Confirm) -> Verdict:
    """The second person: another one, an operator or engineer, in time."""
    waiting = memory.pending.get(ask.proposal)
    if waiting is None or scene.now_s > waiting.until_s:
        return no(memory, "unknown_proposal", f"no proposal {ask.proposal!r} waits for a second person")
    if who.user == waiting.user:
        return no(memory, "same_person", f"{who.user} has proposed it: somebody else must confirm")
    if not who.roles & {Role.OPERATOR, Role.ENGINEER}:
        return no(memory, "no_right", f"{who.user} is neither operator nor engineer")
    if not who.current:
        return stale(memory)
    proposer = Asker(
        user=waiting.user,
        session="",
        roles=scene.layout.control.params.users.get(waiting.user, frozenset()),
        current=True,
        request_id="",
        reason=waiting.reason,
    )
    mode, where = _mode_of(scene, memory, waiting)
    if not proposer.may(mode, Act.LOOSEN):  # may have changed since it was proposed
        return no_right(memory, proposer, Act.LOOSEN, mode, where)
    rest = replace(memory, pending={t: p for t, p in memory.pending.items() if t != ask.proposal})
    return _carried_out(scene, rest, waiting, waiting.user, who.user)


def tell(scene: Scene, memory: AuthorityMemory, who: Asker, ask: TellLimit) -> Verdict:
    """A limit of the site file, told by message; also its sign of life."""
    limit = next((x for x in scene.layout.control.params.limits if x.id == ask.limit), None)
    if limit is None or limit.point is not None or limit.contacts:
        by_message = [x.id for x in scene.layout.control.params.limits if x.point is None and not x.contacts]
        allowed = ", ".join(by_message) if by_message else "none is told by messages at this site"
        return no(memory, "unknown_limit", f"limit {ask.limit!r}; allowed: {allowed}")
    if not who.may(scene.plant_mode(memory), Act.BOUND):
        return no(memory, "no_right", f"{who.user} does not speak for a utility or plant controller")
    if not (math.isfinite(ask.value_kw) and ask.value_kw >= 0.0):
        return no(memory, "out_of_bounds", f"{ask.value_kw!r}; allowed: 0 kW or more")
    known = memory.told.get(ask.limit)
    told = Told(value_kw=ask.value_kw, valid_s=scene.now_s, seq=ask.seq)
    old = _old(known, who, ask)
    if old is not None:  # only where it tightens, and it is no sign of life
        if known is None or ask.value_kw >= known.value_kw:
            return no(memory, *old)
        told = replace(known, value_kw=ask.value_kw)
    after = replace(memory, told={**memory.told, ask.limit: told})
    fields: dict[str, JsonValue] = {
        "limit": ask.limit,
        "old": None if known is None else known.value_kw,
        "new": ask.value_kw,
    }
    text = f"{ask.limit}: {ask.value_kw:g} kW"
    return Verdict(memory=after, done=True, code="done", text=text, fields=fields)


def _old(known: Told | None, who: Asker, ask: TellLimit) -> tuple[str, str] | None:
    """(code, why) of what was told of another start of the edge, or overtaken by a newer one."""
    if not who.current:
        return (
            "other_epoch",
            "the edge has started anew since this was told: look at its epoch, and tell it again",
        )
    if known is not None and known.seq is not None and (ask.seq is None or ask.seq <= known.seq):
        found = "without a number" if ask.seq is None else f"number {ask.seq}"
        return "out_of_order", f"{ask.limit}: {found}; allowed: more than {known.seq}"
    return None


def _mode_for(scene: Scene, memory: AuthorityMemory, subject: Subject) -> ControlMode:
    if subject.point is None:
        return scene.plant_mode(memory)
    return scene.modes(memory)[subject.point.partition(".")[0]]


def _mode_of(scene: Scene, memory: AuthorityMemory, waiting: Pending) -> tuple[ControlMode, str]:
    """(mode that a loosening is judged by, of what)."""
    subject = subject_of(scene.layout, waiting.ask.subject) if isinstance(waiting.ask, SetLimit) else None
    if subject is None or subject.point is None:
        return scene.plant_mode(memory), "the plant"
    return _mode_for(scene, memory, subject), subject.point.partition(".")[0]


def _loosen(
    scene: Scene,
    memory: AuthorityMemory,
    who: Asker,
    ask: SetLimit | str,
    mode: ControlMode,
    break_glass: bool,
    for_s: float | None,
) -> Verdict:
    if not who.may(mode, Act.LOOSEN):
        return no_right(memory, who, Act.LOOSEN, mode, "the plant")
    if not who.current:
        return stale(memory)
    if not who.reason.strip():
        return no(memory, "no_reason", "a loosening needs its reason")
    timed = break_glass or isinstance(ask, str) or for_s is not None
    if timed and (for_s is None or not 0.0 < for_s <= GLASS_S_MAX):  # nor where it is no number
        return no(memory, "bad_time", f"{for_s!r} s; allowed: more than 0, at most {GLASS_S_MAX:.0f} s")
    waiting = Pending(
        ask=ask,
        user=who.user,
        reason=who.reason,
        until_s=scene.now_s + CONFIRM_S,
        for_s=for_s,
    )
    if break_glass:
        return _carried_out(scene, memory, waiting, who.user, None)
    token = _token(scene, waiting, who)
    after = replace(memory, pending={**memory.pending, token: waiting})
    text = f"waits for a second person: confirm {token} within {CONFIRM_S:.0f} s"
    new = ask.value if isinstance(ask, SetLimit) else None
    fields: dict[str, JsonValue] = {"subject": _name(waiting), "new": new, "expires_in_s": CONFIRM_S}
    return Verdict(memory=after, done=True, code="pending", text=text, token=token, fields=fields)


def _token(scene: Scene, waiting: Pending, who: Asker) -> str:
    """What the second person types, made of all that is asked: nobody agrees to one and does another."""
    asked = f"{scene.epoch}|{who.user}|{who.request_id}|{waiting}"
    return hashlib.sha256(asked.encode()).hexdigest()[:12]


def _name(waiting: Pending) -> str:
    return waiting.ask.subject if isinstance(waiting.ask, SetLimit) else bypass_of(waiting.ask)


def _carried_out(
    scene: Scene, memory: AuthorityMemory, waiting: Pending, user: str, second: str | None
) -> Verdict:
    """The loosening itself: for a time beside the standing limit, which then holds again, or in its place."""
    name = _name(waiting)
    value = waiting.ask.value if isinstance(waiting.ask, SetLimit) else None
    old = in_force(memory.limits, memory.loosened, name)
    if waiting.for_s is None:
        return _stands(memory, user, waiting.reason, name, value, second)
    loose = Loosened(
        value=value, user=user, second=second, reason=waiting.reason, until_s=scene.now_s + waiting.for_s
    )
    after = replace(memory, loosened={**memory.loosened, name: loose})
    how = "the glass is broken" if second is None else f"confirmed by {second}"
    fields: dict[str, JsonValue] = {
        "subject": name,
        "old": old,
        "new": value,
        "second": second,
        "expires_in_s": waiting.for_s,
    }
    text = f"{name} is loosened for {waiting.for_s:.0f} s: {how}"
    return Verdict(memory=after, done=True, code="done", text=text, fields=fields)


def _tightened(memory: AuthorityMemory, who: Asker, subject: Subject, value: float | None) -> Verdict:
    """At once. While a loosening is in force, what is wider than the standing limit narrows it alone."""
    loose, standing = memory.loosened.get(subject.name), memory.limits.get(subject.name)
    if loose is None or is_tighter(subject, None if standing is None else standing.value, value):
        return _stands(memory, who.user, who.reason, subject.name, value)
    narrowed = {**memory.loosened, subject.name: replace(loose, value=value)}
    after = replace(memory, loosened=narrowed, pending=_without(memory, subject.name))
    fields: dict[str, JsonValue] = {"subject": subject.name, "old": loose.value, "new": value}
    return Verdict(memory=after, done=True, code="done", text=f"{subject.name}: {value}", fields=fields)


def _without(memory: AuthorityMemory, name: str) -> dict[str, Pending]:
    """Proposals but those for this subject: they were made for a limit that is no more."""
    return {t: p for t, p in memory.pending.items() if _name(p) != name}


def _stands(
    memory: AuthorityMemory,
    user: str,
    reason: str,
    name: str,
    value: float | None,
    second: str | None = None,
) -> Verdict:
    """A limit that holds until it is changed; it also ends a loosening of the same subject."""
    old = in_force(memory.limits, memory.loosened, name)
    limits = {k: v for k, v in memory.limits.items() if k != name}
    if value is not None:
        limits[name] = StandingLimit(subject=name, value=value, user=user, reason=reason)
    loosened = {k: v for k, v in memory.loosened.items() if k != name}
    after = replace(memory, limits=limits, loosened=loosened, pending=_without(memory, name))
    text = f"{name}: no limit" if value is None else f"{name}: {value:g}"
    fields: dict[str, JsonValue] = {"subject": name, "old": old, "new": value, "second": second}
    return Verdict(memory=after, done=True, code="done", text=text, fields=fields)
