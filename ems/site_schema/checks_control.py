"""Control: interlocks, stop and limits speak of points that are there, inside the bounds of authority."""

import math
from collections.abc import Iterator

from ems.control_site import LimitKind
from ems.errors import BadValue
from ems.points import Access
from ems.site_schema.build_control import number, rating_kw
from ems.site_schema.draft import Draft
from ems.site_schema.forms_control import ControlForm, InterlockEffectForm, InterlockForm, UtilityLimitForm
from ems.site_schema.text import Loc
from ems.site_schema.words import hint

STOP_CIRCUIT = "bus.emergency_stop"


def check_control(draft: Draft) -> None:
    """All checks of the control section."""
    form = draft.control
    if form is None:
        return
    for user, roles in form.users.items():
        if not roles:
            draft.add(("control", "users", user), "no role", "one of viewer, operator, engineer, utility")
    _stop(draft, form)
    for interlock_id, interlock in form.interlocks.items():
        _interlock(draft, ("control", "interlocks", interlock_id), interlock)
    for limit_id, limit in form.limits.items():
        _limit(draft, form, ("control", "limits", limit_id), limit)


def _stop(draft: Draft, form: ControlForm) -> None:
    for point, value in form.emergency_stop.items():
        _inside(draft, ("control", "emergency_stop", point), point, value)
    if form.emergency_stop and not _is_mapped(draft, STOP_CIRCUIT):
        found = f"demands, and no map for {STOP_CIRCUIT}"
        draft.add(("control", "emergency_stop"), found, f"{STOP_CIRCUIT} in one connection's map")


def _interlock(draft: Draft, loc: Loc, form: InterlockForm) -> None:
    when = form.when
    if not _readable(draft, (*loc, "when", "point"), when.point):
        return
    low = _number(draft, (*loc, "when", "below"), when.point, when.below)
    high = _number(draft, (*loc, "when", "above"), when.point, when.above)
    if when.below is None and when.above is None:
        draft.add((*loc, "when"), "neither below nor above", "one of them, or both")
    if low is not None and high is not None and not low < high:
        draft.add((*loc, "when", "below"), f"{low:g} with above {high:g}", "less than above: it trips always")
    for point, effect in form.then.items():
        _effect(draft, (*loc, "then", point), point, effect)


def _effect(draft: Draft, loc: Loc, point: str, form: InterlockEffectForm) -> None:
    if form.block != (form.low is None and form.high is None) or (form.low is None) != (form.high is None):
        found = "block and bounds" if form.block else "not both of low and high"
        draft.add(loc, found, "block: true, or low and high")
        return
    if form.low is None or form.high is None:
        _setpoint(draft, loc, point)
        return
    low = _inside(draft, (*loc, "low"), point, form.low)
    high = _inside(draft, (*loc, "high"), point, form.high)
    if low is not None and high is not None and low > high:
        draft.add((*loc, "low"), f"{low:g}", f"not more than high, {high:g}")


def _limit(draft: Draft, form: ControlForm, loc: Loc, limit: UtilityLimitForm) -> None:
    if limit.point is not None and limit.contacts:
        draft.add((*loc, "contacts"), "a point and contacts", "one of them, or none: told by messages")
    for where, point in _inputs(loc, limit):
        _readable(draft, where, point)
    if limit.heartbeat is not None and limit.point is None and not limit.contacts:
        draft.add((*loc, "heartbeat"), repr(limit.heartbeat), "nothing: a message is its own sign of life")
    by_messages = limit.point is None and not limit.contacts
    if by_messages and not any("utility" in roles for roles in form.users.values()):
        draft.add(
            loc, "a limit told by messages, and no user who may tell it", "a user with the role utility"
        )
    rated_kw = rating_kw(draft, LimitKind(limit.kind))
    if limit.on_loss_kw is not None and limit.on_loss_kw > rated_kw:
        draft.add((*loc, "on_loss_kw"), f"{limit.on_loss_kw:g} kW", f"{rated_kw:g} kW or less, the rating")


def _inputs(loc: Loc, limit: UtilityLimitForm) -> Iterator[tuple[Loc, str]]:
    if limit.point is not None:
        yield (*loc, "point"), limit.point
    if limit.heartbeat is not None:
        yield (*loc, "heartbeat"), limit.heartbeat
    for i, contact in enumerate(limit.contacts):
        yield (*loc, "contacts", i, "point"), contact.point


def _readable(draft: Draft, loc: Loc, point: str) -> bool:
    """A point that this site's edge reads."""
    spec = draft.spec(point)
    if spec is None or spec.access is not Access.READ:
        known = [f"{a}.{s}" for a in draft.kinds for s in ("p_kw", "state", "remote", "contact_1")]
        draft.add(loc, repr(point), "a point that is read", hint(point, known))
        return False
    if not _is_mapped(draft, point):
        draft.add(loc, f"{point!r}, which no map has", f"{point} in one connection's map")
        return False
    return True


def _is_mapped(draft: Draft, point: str) -> bool:
    """Whether it is in a map; a site without connections has every point there can be."""
    if not draft.connections or draft.unread_connections or point in draft.broken_points:
        return True
    return any(p.point == point for p in draft.points)


def _setpoint(draft: Draft, loc: Loc, point: str) -> bool:
    if point in draft.authority:
        return True
    draft.add(loc, repr(point), "a setpoint under authority", hint(point, draft.authority))
    return False


def _inside(draft: Draft, loc: Loc, point: str, value: str | float) -> float | None:
    """A value for a setpoint, inside what authority allows."""
    if not _setpoint(draft, loc, point):
        return None
    found = _number(draft, loc, point, value)
    authority = draft.authority[point]
    try:
        low, high = number(draft, point, authority.low), number(draft, point, authority.high)
    except BadValue:
        return None  # a problem of authority already
    if found is not None and low <= high and not low <= found <= high:
        draft.add(loc, f"{found:g}", f"{low:g} to {high:g}, as authority allows")
        return None
    return found


def _number(draft: Draft, loc: Loc, point: str, value: str | float | None) -> float | None:
    if value is None:
        return None
    spec = draft.spec(point)
    unit = "" if spec is None else spec.unit
    try:
        found = number(draft, point, value)
    except BadValue as error:
        draft.add(loc, repr(value), f"a number in {unit or 'no unit'}", str(error))
        return None
    if not math.isfinite(found):
        draft.add(loc, repr(value), "a finite number")
        return None
    return found
