"""The state machine of every alarm (ISA-18.2-2016, figure 3): conditions and people in, events out. Pure.

A condition becomes an alarm after its on-delay and ends after its off-delay; latching, shelving, suppression
by design and removal from service lie over it, and never stop its evaluation. Every transition is an event.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import pairwise

from dispatch.alarms.actions import act, refused, told_of
from dispatch.alarms.memory import LEAD_S, AlarmMemory, Tracked
from dispatch.vocabulary import Alarm, Event
from ems.alarm_table import alarm_table, code_of
from ems.alarms import HIDDEN, LIVE, AlarmAction, AlarmClass, AlarmEntry, AlarmKind, AlarmRow, AlarmState
from ems.frozen import replace

QUIET_S = 10.0  # an alarm whose condition is gone for longer explains nothing new, whatever its off-delay


class Change(StrEnum):
    """What a condition does to its alarm, after delays."""

    ACTIVE = "active"
    CLEAR = "clear"


_S = AlarmState
AFTER: Mapping[tuple[AlarmState, Change, bool], AlarmState] = {  # (state, change, latching) -> state
    (_S.UNACKNOWLEDGED, Change.CLEAR, False): _S.RETURNED,
    (_S.UNACKNOWLEDGED, Change.CLEAR, True): _S.LATCHED_UNACKNOWLEDGED,
    (_S.ACKNOWLEDGED, Change.CLEAR, False): _S.NORMAL,
    (_S.ACKNOWLEDGED, Change.CLEAR, True): _S.LATCHED_ACKNOWLEDGED,
    **{
        (s, Change.ACTIVE, latching): _S.UNACKNOWLEDGED
        for s in (_S.NORMAL, _S.RETURNED, _S.LATCHED_UNACKNOWLEDGED, _S.LATCHED_ACKNOWLEDGED)
        for latching in (False, True)
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmInput:
    """What one cycle tells the machine. `served` is which assets hang on a device."""

    told: Sequence[Alarm]
    actions: Sequence[AlarmAction]
    at: datetime
    now_s: float
    dt_s: float
    served: Mapping[str, frozenset[str]] = field(default_factory=dict)
    known: Callable[[str], bool] = lambda key: True  # whether this plant can have an alarm of this key


def alarms_after(memory: AlarmMemory, given: AlarmInput) -> tuple[AlarmMemory, list[Event]]:
    """One cycle of every alarm: the next memory, and an event for each transition."""
    told = {a.key: a for a in given.told}
    acts: dict[str, list[AlarmAction]] = {}
    for action in given.actions:
        acts.setdefault(action.key, []).append(action)
    keys = {k: t.entry.code for k, t in memory.tracked.items()} | {k: a.code for k, a in told.items()}
    events: list[Event] = []
    for key in acts:
        if key not in keys:
            code = code_of(key)
            if code is not None and given.known(key):
                keys[key] = code
            else:
                events += [refused(a, "there is no such alarm") for a in acts[key]]
    if not keys:
        return memory, events
    tracked: dict[str, Tracked] = {}
    lives = _Lives(served=given.served, now_s=given.now_s)
    for row, key in _parents_first(keys):
        before = memory.tracked.get(key)
        if before is None:
            before = Tracked(entry=_at_rest(row, key, told.get(key)))
        moved = _condition(row, before, told.get(key), given)
        timed = _timed(moved, given.now_s)
        after = _seen(_designed(row, timed, lives), before.entry, given.at)
        if after is not before:
            events += _transitions([t.entry for t in (before, moved, timed, after)])
        for action in acts.get(key, ()):
            after, done = act(row, after, action, given.at, given.now_s)
            events.append(done)
        if _worth_keeping(after):
            tracked[key] = after
            lives.add(after)
    return AlarmMemory(tracked=tracked), events


def _at_rest(row: AlarmRow, key: str, alarm: Alarm | None) -> AlarmEntry:
    asset = key[len(row.id) + 1 :] if key != row.id else None
    return AlarmEntry(
        key=key,
        code=row.id,
        asset=asset,
        state=AlarmState.NORMAL,
        priority=row.priority,
        unit=row.unit,
        text=row.setpoint if alarm is None else alarm.text,
    )


def _holds(row: AlarmRow, before: Tracked, alarm: Alarm | None) -> bool:
    """Whether the condition holds, with the row's deadband. A value that is no number changes nothing."""
    if alarm is None:
        return False
    if row.kind is AlarmKind.STATE or alarm.value is None or alarm.limit is None:
        return True
    over = alarm.value - alarm.limit
    if not math.isfinite(over):
        return before.present
    over = over if row.kind is AlarmKind.HIGH else -over
    return over > (-row.deadband if before.present else 0.0)


def _condition(row: AlarmRow, before: Tracked, alarm: Alarm | None, given: AlarmInput) -> Tracked:
    """Let the condition, after its delays, move the alarm."""
    holds, live, entry = _holds(row, before, alarm), before.entry.state in LIVE, before.entry
    began_s = given.now_s if holds and not (before.present or live) else before.began_s
    if holds and not before.present:
        entry = replace(entry, activations=entry.activations + 1)
    if alarm is not None and holds and not _told_before(entry, alarm):
        entry = replace(entry, text=alarm.text, value=alarm.value, limit=alarm.limit)
        if live and alarm.level > entry.level and entry.state is AlarmState.ACKNOWLEDGED:
            entry = replace(entry, state=AlarmState.UNACKNOWLEDGED, acknowledged_by=None)
        entry = replace(entry, level=max(alarm.level, entry.level) if live else alarm.level)
    pending_s: float | None = None
    if holds is not live:
        pending_s = given.now_s if before.pending_since_s is None else before.pending_since_s
        delay_s = row.on_delay_s if holds else row.off_delay_s
        if delay_s <= 0.0 or given.now_s - pending_s + given.dt_s / 2.0 >= delay_s:
            pending_s, entry = None, _moved(row, entry, Change.ACTIVE if holds else Change.CLEAR, given.at)
    if entry is before.entry and holds is before.present and pending_s == before.pending_since_s:
        return before
    return replace(before, entry=entry, present=holds, began_s=began_s, pending_since_s=pending_s)


def _told_before(entry: AlarmEntry, alarm: Alarm) -> bool:
    told = (entry.text, entry.value, entry.limit, entry.level)
    return told == (alarm.text, alarm.value, alarm.limit, alarm.level)


def _moved(row: AlarmRow, entry: AlarmEntry, change: Change, at: datetime) -> AlarmEntry:
    state = AFTER[entry.state, change, row.latching]
    if change is Change.ACTIVE:
        return replace(entry, state=state, raised_at=at, acknowledged_by=None)
    if state is AlarmState.RETURNED and not entry.heard:
        state = AlarmState.NORMAL  # it came and went out of sight: there is nothing to acknowledge
    return replace(entry, state=state)


def _timed(t: Tracked, now_s: float) -> Tracked:
    """A shelf ends when its time is over."""
    if t.shelved_until_s is None or now_s < t.shelved_until_s:
        return t
    return replace(t, entry=replace(t.entry, shelf=None), shelved_until_s=None)


def _designed(row: AlarmRow, t: Tracked, lives: "_Lives") -> Tracked:
    """What explains the alarm by design; one that is ending anyhow goes the way it came."""
    if t.entry.state is AlarmState.NORMAL:
        by = None
    elif not t.present and t.entry.suppressed_by is not None:
        by = t.entry.suppressed_by
    else:
        by = lives.explain(row, t)
    return t if by == t.entry.suppressed_by else replace(t, entry=replace(t.entry, suppressed_by=by))


def _seen(t: Tracked, before: AlarmEntry, at: datetime) -> Tracked:
    """Note since when the alarm shows what it shows, and whether anybody heard it."""
    entry = t.entry
    heard = entry.shown is AlarmState.UNACKNOWLEDGED or (
        entry.heard and AlarmState.NORMAL not in (entry.state, before.state)
    )
    since = at if entry.since is None or entry.shown is not before.shown else entry.since
    if heard is entry.heard and since is entry.since:
        return t
    return replace(t, entry=replace(entry, heard=heard, since=since))


@dataclass(slots=True, kw_only=True)
class _Lives:
    """Alarms that live and that no person keeps out of sight: what may explain others, by whom they cover."""

    served: Mapping[str, frozenset[str]]
    now_s: float
    covering: dict[tuple[str, str | None], list[Tracked]] = field(default_factory=dict)  # (code, asset)

    def add(self, t: Tracked) -> None:
        e = t.entry
        over = t.pending_since_s is not None and self.now_s - t.pending_since_s > QUIET_S
        if e.state not in LIVE or over or e.shelf is not None or e.removed is not None:
            return
        of_plant = e.asset is None or alarm_table()[e.code].tag in ("site", "grid")
        for asset in (None,) if of_plant else {e.asset, *self.served.get(str(e.asset), ())}:
            self.covering.setdefault((e.code, asset), []).append(t)

    def explain(self, row: AlarmRow, t: Tracked) -> str | None:
        """The alarm that explains this one: it covers its asset and did not begin after it."""
        if row.alarm_class is AlarmClass.SAFETY:
            return None
        for code in row.parents:
            for asset in (None, t.entry.asset):
                for parent in self.covering.get((code, asset), ()):
                    if t.began_s >= parent.began_s - LEAD_S:
                        return parent.entry.key
        return None


def _parents_first(codes: Mapping[str, str]) -> list[tuple[AlarmRow, str]]:
    """Rows and keys in the order of the table, which has parents before what they explain."""
    table = alarm_table()
    by_code: dict[str, list[str]] = {}
    for key, code in codes.items():
        by_code.setdefault(code, []).append(key)
    return [(row, key) for code, row in table.items() if code in by_code for key in by_code[code]]


_MOVED = {
    AlarmState.UNACKNOWLEDGED: "alarm.raised",
    AlarmState.LATCHED_UNACKNOWLEDGED: "alarm.latched",
    AlarmState.LATCHED_ACKNOWLEDGED: "alarm.latched",
}


def _transitions(steps: Sequence[AlarmEntry]) -> list[Event]:
    """An event for each step between entries of one alarm; it rings with the last of them, if at all."""
    rings = steps[-1].shown is AlarmState.UNACKNOWLEDGED and steps[0].shown is not AlarmState.UNACKNOWLEDGED
    moves = [(b, a, kind) for b, a in pairwise(steps) if (kind := _kind(b, a)) is not None]
    return [
        told_of(kind, b, a, who="edge", why=_why(kind, a), rings=rings and i == len(moves) - 1)
        for i, (b, a, kind) in enumerate(moves)
    ]


def _kind(before: AlarmEntry, after: AlarmEntry) -> str | None:
    if after.state is not before.state:
        return _MOVED.get(after.state, "alarm.cleared")
    if before.shelf is not None and after.shelf is None:
        return "alarm.unshelved"
    if before.suppressed_by is None and after.suppressed_by is not None:
        return "alarm.suppressed"
    if before.suppressed_by is not None and after.suppressed_by is None:
        return "alarm.unsuppressed"
    return None


def _why(kind: str, e: AlarmEntry) -> str:
    if kind == "alarm.suppressed":
        return f"explained by {e.suppressed_by}"
    return "its time is over" if kind == "alarm.unshelved" else e.text


def _worth_keeping(t: Tracked) -> bool:
    e = t.entry
    resting = e.state is AlarmState.NORMAL and not t.present and t.pending_since_s is None
    return not resting or e.shown in HIDDEN
