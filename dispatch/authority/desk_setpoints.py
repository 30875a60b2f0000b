"""People's setpoints: set and release, select and operate, and an engineer's probe."""

import zlib
from itertools import chain

from dispatch.authority.breaker import not_operated, when
from dispatch.authority.desk_scene import EXPIRY_S_MAX, Asker, Scene, Verdict, no, no_right, stale
from dispatch.authority.leases import grant
from dispatch.authority.select_operate import SELECT_S, refused, state_hash
from dispatch.authority.state import AuthorityMemory, Lease, Selection
from ems.control import Act, ControlMode
from ems.frozen import replace
from ems.points import is_binary
from ems.records import JsonValue
from ems.requests import Operate, Release, Select, SetSetpoint

PROBE_RATIO = 0.05  # of the span of the setpoint, either way
PROBE_S = 60.0


def set_setpoint(scene: Scene, memory: AuthorityMemory, who: Asker, ask: SetSetpoint) -> Verdict:
    """Grant a lease of a continuous setpoint in manual."""
    wrong = _wrong_value(scene, memory, ask.point, ask.value)
    if wrong is not None:
        return wrong
    mode = scene.modes(memory)[_device(ask.point)]
    if not who.may(mode, Act.SET):
        return no_right(memory, who, Act.SET, mode, _device(ask.point))
    if is_binary(ask.point):
        return no(memory, "needs_select", f"{ask.point} is a discrete action: select, then operate")
    if not who.current:
        return stale(memory)
    for_s = scene.layout.control.params.setpoint_expiry_s if ask.for_s is None else ask.for_s
    if not 0.0 < for_s <= EXPIRY_S_MAX:  # nor where it is no number
        return no(memory, "bad_time", f"{for_s!r} s; allowed: more than 0, at most {EXPIRY_S_MAX:.0f} s")
    return _granted(scene, memory, who, ask.point, ask.value, for_s)


def release(scene: Scene, memory: AuthorityMemory, who: Asker, ask: Release) -> Verdict:
    """Give one's own lease of a setpoint back."""
    key = (ask.point, who.user)
    lease = memory.leases.get(key)
    if lease is None:
        return no(memory, "not_held", f"{who.user} does not hold {ask.point}")
    asked = {**memory.asked_until_s, ask.point: scene.now_s}  # given back: nothing takes it over
    after = replace(memory, leases={k: v for k, v in memory.leases.items() if k != key}, asked_until_s=asked)
    fields: dict[str, JsonValue] = {"point": ask.point, "old": lease.value, "new": None}
    return Verdict(memory=after, done=True, code="done", text=f"{ask.point} is released", fields=fields)


def select(scene: Scene, memory: AuthorityMemory, who: Asker, ask: Select) -> Verdict:
    """First step of a discrete action in manual, or of a probe in test."""
    wrong = _wrong_value(scene, memory, ask.point, ask.value)
    if wrong is not None:
        return wrong
    device = _device(ask.point)
    mode = scene.modes(memory)[device]
    act = Act.PROBE if mode is ControlMode.TEST else Act.OPERATE
    if not who.may(mode, act):
        return no_right(memory, who, act, mode, device)
    if not who.current:
        return stale(memory)
    if act is Act.PROBE:
        wrong = _wrong_probe(scene, memory, ask.point, ask.value)
    else:
        wrong = _wrong_action(scene, memory, ask.point, ask.value)
    if wrong is not None:
        return wrong
    alive = {t: s for t, s in memory.selections.items() if scene.now_s <= s.until_s}
    taken = next((s for s in alive.values() if s.point == ask.point), None)
    if taken is not None and (taken.user, taken.session) != (who.user, who.session):
        return no(memory, "selected_by_other", f"{ask.point} is selected by {taken.user}")
    token = f"{zlib.crc32(f'{scene.epoch}|{who.user}|{who.request_id}'.encode()):08x}"
    alive = {t: s for t, s in alive.items() if s.point != ask.point}
    alive[token] = Selection(
        point=ask.point,
        value=ask.value,
        user=who.user,
        session=who.session,
        state=state_hash(scene.condition, ask.point, mode),
        until_s=scene.now_s + SELECT_S,
    )
    text = f"{ask.point} = {ask.value:g} is selected: operate {token} within {SELECT_S:.0f} s"
    after = replace(memory, selections=alive)
    fields: dict[str, JsonValue] = {"point": ask.point, "new": ask.value, "expires_in_s": SELECT_S}
    return Verdict(memory=after, done=True, code="selected", text=text, token=token, fields=fields)


def operate(scene: Scene, memory: AuthorityMemory, who: Asker, ask: Operate) -> Verdict:
    """Second step: once, in time, by the same person, with the plant unchanged.

    It is judged anew: another probe may have begun since, or the setpoint may have moved.
    """
    selection = memory.selections.get(ask.token)
    if selection is None:
        why = "nothing is selected under this token, or it was operated already"
        return no(memory, "not_selected", why)
    mode = scene.modes(memory)[_device(selection.point)]
    state = state_hash(scene.condition, selection.point, mode)
    code, why = refused(selection, who.user, who.session, state, scene.now_s)
    if code:
        return no(memory, code, why)
    is_probe = mode is ControlMode.TEST
    act = Act.PROBE if is_probe else Act.OPERATE
    if not who.may(mode, act):
        return no_right(memory, who, act, mode, _device(selection.point))
    if not who.current:
        return stale(memory)
    wrong = (_wrong_probe if is_probe else _wrong_action)(scene, memory, selection.point, selection.value)
    if wrong is not None:
        return wrong
    rest = replace(memory, selections={t: s for t, s in memory.selections.items() if t != ask.token})
    for_s = PROBE_S if is_probe else scene.layout.control.params.setpoint_expiry_s
    return _granted(scene, rest, who, selection.point, selection.value, for_s)


def _granted(
    scene: Scene, memory: AuthorityMemory, who: Asker, point: str, value: float, for_s: float
) -> Verdict:
    lease = Lease(
        point=point,
        owner=who.user,
        value=value,
        since_s=scene.now_s,
        until_s=scene.now_s + for_s,
        request_id=who.request_id,
        reason=who.reason,
    )
    text = f"{point} = {value:g} for {for_s:.0f} s{when(scene.layout, point, value)}"
    fields: dict[str, JsonValue] = {
        "point": point,
        "old": scene.standing.get(point),
        "new": value,
        "expires_in_s": for_s,
    }
    return Verdict(memory=grant(memory, lease), done=True, code="done", text=text, fields=fields)


def _wrong_value(scene: Scene, memory: AuthorityMemory, point: str, value: float) -> Verdict | None:
    """Refusal of a setpoint that is not there, or of a value outside the site file's bounds."""
    a = scene.layout.setpoints.get(point)
    if a is None:
        allowed = ", ".join(sorted(chain.from_iterable(scene.layout.control.points_of.values())))
        return no(memory, "unknown_point", f"setpoint {point!r}; allowed: {allowed}")
    if not a.low <= value <= a.high:  # nor where it is no number
        return no(memory, "out_of_bounds", f"{value!r}; allowed for {point}: {a.low:g} to {a.high:g}")
    return None


def _wrong_action(scene: Scene, memory: AuthorityMemory, point: str, value: float) -> Verdict | None:
    if not is_binary(point):
        return no(memory, "not_discrete", f"{point} is continuous: set it")
    if value not in (0.0, 1.0):
        return no(memory, "out_of_bounds", f"{value!r}; allowed for {point}: 0 or 1")
    code, why = not_operated(scene.layout, memory, point, value)
    return no(memory, code, why) if code else None


def _wrong_probe(scene: Scene, memory: AuthorityMemory, point: str, value: float) -> Verdict | None:
    """A probe moves one continuous setpoint by 5 % of its span at most, and no other is probed meanwhile."""
    if is_binary(point):
        return no(memory, "not_probed", "only continuous setpoints are probed")
    a, stands = scene.layout.setpoints[point], scene.standing.get(point)
    room = PROBE_RATIO * (a.high - a.low)
    if stands is None or abs(value - stands) > room + 1e-9:
        found = "where it stands is not known" if stands is None else f"it stands at {stands:g}"
        return no(memory, "out_of_bounds", f"{value:g}: a probe moves {room:g} at most, {found}")
    modes = scene.modes(memory)
    other = [x.point for x in memory.leases.values() if modes.get(_device(x.point)) is ControlMode.TEST]
    if other:
        return no(memory, "one_at_a_time", f"{other[0]} is being probed")
    return None


def _device(point: str) -> str:
    return point.partition(".")[0]
