"""What people do to alarms: acknowledge, reset, shelve, remove from service. Each is an event."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from dispatch.alarms.memory import Tracked
from dispatch.vocabulary import Event, event
from ems.alarms import Act, AlarmAction, AlarmEntry, AlarmRow, AlarmState, Hold
from ems.frozen import replace

_S = AlarmState
ACKNOWLEDGED: Mapping[AlarmState, AlarmState] = {
    _S.UNACKNOWLEDGED: _S.ACKNOWLEDGED,
    _S.RETURNED: _S.NORMAL,
    _S.LATCHED_UNACKNOWLEDGED: _S.LATCHED_ACKNOWLEDGED,
}
RESET: Mapping[AlarmState, AlarmState] = {
    _S.LATCHED_UNACKNOWLEDGED: _S.RETURNED,
    _S.LATCHED_ACKNOWLEDGED: _S.NORMAL,
}
ENGINEER = "engineer"
_DONE = {
    Act.ACKNOWLEDGE: "alarm.acknowledged",
    Act.RESET: "alarm.reset",
    Act.SHELVE: "alarm.shelved",
    Act.UNSHELVE: "alarm.unshelved",
    Act.REMOVE: "alarm.removed_from_service",
    Act.RETURN: "alarm.returned_to_service",
}


def act(row: AlarmRow, t: Tracked, action: AlarmAction, at: datetime, now_s: float) -> tuple[Tracked, Event]:
    """Do what a person asks of one alarm, or refuse it: the alarm afterwards, and the event."""
    why_not = _why_not(row, t.entry, action)
    if why_not is not None:
        return t, refused(action, why_not)
    after = _ACTS[action.act](t, action, at, now_s)
    rings = after.entry.shown is _S.UNACKNOWLEDGED and t.entry.shown is not _S.UNACKNOWLEDGED
    entry = after.entry if after.entry.shown is t.entry.shown else replace(after.entry, since=at)
    entry = replace(entry, heard=entry.heard or rings)
    done = told_of(_DONE[action.act], t.entry, entry, who=action.who, why=action.why, rings=rings)
    return replace(after, entry=entry), replace(done, fields={**done.fields, "request": action.request})


def refused(action: AlarmAction, why: str) -> Event:
    """The event of an action that was not done."""
    return event(
        "alarm.action.refused",
        act=action.act.value,
        key=action.key,
        who=action.who,
        why=why,
        request=action.request,
    )


def told_of(kind: str, before: AlarmEntry, after: AlarmEntry, *, who: str, why: str, rings: bool) -> Event:
    """The event of one transition. `rings`: an operator is asked for a response from now on."""
    return event(
        kind,
        key=after.key,
        code=after.code,
        asset=after.asset,
        priority=after.priority.value,
        before=before.shown.value,
        now=after.shown.value,
        annunciated=rings,
        who=who,
        why=why,
        value=after.value,
        limit=after.limit,
        activations=after.activations,
    )


def _why_not(row: AlarmRow, e: AlarmEntry, action: AlarmAction) -> str | None:
    """Why an action cannot be done; None where it can."""
    match action.act:
        case Act.ACKNOWLEDGE:
            return None if e.state in ACKNOWLEDGED else "there is nothing to acknowledge"
        case Act.RESET:
            return None if e.state in RESET else "it is not latched, or its condition still holds"
        case Act.SHELVE:
            return _why_not_shelve(row, action)
        case Act.UNSHELVE:
            return None if e.shelf is not None else "it is not shelved"
        case Act.REMOVE:
            allowed = action.role == ENGINEER and action.why.strip() != "" and e.removed is None
            return None if allowed else "an engineer may, once, with the permit as the reason"
        case Act.RETURN:
            allowed = action.role == ENGINEER and e.removed is not None
            return None if allowed else "an engineer may, while it is out of service"


def _why_not_shelve(row: AlarmRow, action: AlarmAction) -> str | None:
    if row.shelvable_s_max <= 0.0:
        return f"alarms of class {row.alarm_class} are never shelved"
    if action.why.strip() == "":
        return "a reason is needed"
    if action.for_s is None or not math.isfinite(action.for_s):
        return "a time is needed"
    if not 0.0 < action.for_s <= row.shelvable_s_max:
        return (
            f"an alarm of priority {row.priority} is shelved for at most {row.shelvable_s_max / 3600.0:g} h"
        )
    return None


def _acknowledge(t: Tracked, action: AlarmAction, at: datetime, now_s: float) -> Tracked:
    state = ACKNOWLEDGED[t.entry.state]
    return replace(t, entry=replace(t.entry, state=state, acknowledged_by=action.who))


def _reset(t: Tracked, action: AlarmAction, at: datetime, now_s: float) -> Tracked:
    return replace(t, entry=replace(t.entry, state=RESET[t.entry.state]))


def _shelve(t: Tracked, action: AlarmAction, at: datetime, now_s: float) -> Tracked:
    assert action.for_s is not None
    shelf = Hold(who=action.who, why=action.why, until=at + timedelta(seconds=action.for_s))
    return replace(t, entry=replace(t.entry, shelf=shelf), shelved_until_s=now_s + action.for_s)


def _unshelve(t: Tracked, action: AlarmAction, at: datetime, now_s: float) -> Tracked:
    return replace(t, entry=replace(t.entry, shelf=None), shelved_until_s=None)


def _remove(t: Tracked, action: AlarmAction, at: datetime, now_s: float) -> Tracked:
    return replace(t, entry=replace(t.entry, removed=Hold(who=action.who, why=action.why)))


def _return(t: Tracked, action: AlarmAction, at: datetime, now_s: float) -> Tracked:
    return replace(t, entry=replace(t.entry, removed=None))


_ACTS: Mapping[Act, Callable[[Tracked, AlarmAction, datetime, float], Tracked]] = {
    Act.ACKNOWLEDGE: _acknowledge,
    Act.RESET: _reset,
    Act.SHELVE: _shelve,
    Act.UNSHELVE: _unshelve,
    Act.REMOVE: _remove,
    Act.RETURN: _return,
}
