"""People's setpoints among the controller's wishes, so that the protections reckon with them too.

Devices in auto keep the controller's wish. In manual and test it is the lease in force; in manual without
one, the setpoint's own safe value in this grid mode, or what it stands at where that is `hold`; in test what
it stands at, which nobody writes again. In local and off nobody wishes anything.
"""

from collections.abc import Callable, Mapping
from typing import Any

from dispatch.authority.ruling import Ruling
from dispatch.layout import Layout
from dispatch.state import Written
from dispatch.vocabulary import REACTIVE, Target, Targets
from dispatch.writing.safe_table import safe_value
from ems.commands import Cause
from ems.control import ControlMode
from ems.frozen import replace
from ems.points import TRIP_REQUEST
from ems.site import GridMode

AS_IT_STANDS = "in test: as it stands"
BREAKERS = ("feeder_close", "pv_trip")
SWITCHED = ("genset_run", "feeder_close")
LESS = ("bess_p_kw", "genset_p_kw", "q_kvar", *SWITCHED)  # fields of Targets that can be less than wanted
CHANGED = 0.5  # kW, kvar: less is the same


def in_hand(
    layout: Layout, ruling: Ruling, mode: GridMode, written: Mapping[str, Written]
) -> dict[str, Target | None]:
    """Setpoints of devices that are not in auto: what people want; None: nobody wants anything."""
    out: dict[str, Target | None] = {}
    for device, points in layout.control.points_of.items():
        if ruling.modes[device] is ControlMode.AUTO:
            continue
        for point in points:
            out[point] = _wanted(layout, ruling, point, ruling.modes[device], mode, written)
    return out


def _wanted(
    layout: Layout,
    ruling: Ruling,
    point: str,
    control: ControlMode,
    mode: GridMode,
    written: Mapping[str, Written],
) -> Target | None:
    lease = ruling.held.get(point)
    if lease is not None:
        return Target(value=lease.value, cause=Cause.OPERATOR, reason=f"{lease.owner}: {lease.reason}")
    if control is ControlMode.TEST and point in ruling.standing:
        return Target(value=ruling.standing[point], cause=Cause.OPERATOR, reason=AS_IT_STANDS)
    if control is not ControlMode.MANUAL:
        return None
    value, last = safe_value(layout.setpoints[point].safety, mode), written.get(point)
    if value is not None:
        return Target(value=value, cause=Cause.OPERATOR, reason="in manual nobody sets it: its safe value")
    if last is None:
        return None
    return Target(value=last.value, cause=Cause.OPERATOR, reason="in manual nobody sets it: it is kept")


def with_people(layout: Layout, wishes: Targets, wanted: Mapping[str, Target | None]) -> Targets:
    """The controller's wishes with people's in their place, before the protections."""
    if wishes.pv_wish is not None:
        held = frozenset(p for p in layout.pv if layout.setpoint_of.get((p, "p_limit_kw")) in wanted)
        wishes = replace(wishes, pv_wish=replace(wishes.pv_wish, not_ours=held))
    return _replaced(layout, wishes, wanted, lambda group, asset, now, want: want)


def with_people_after(
    layout: Layout, ruling: Ruling, targets: Targets, wanted: Mapping[str, Target | None]
) -> Targets:
    """The same after the protections, where they fill in targets of their own.

    In manual a breaker that protection moves stays protection's. A PV limit of protection is a bound besides:
    the lower of the two holds. In test the probe counts, and what protection leaves of it or of what stands.
    """

    def settled(group: str, asset: str, now: Target | None, want: Target | None) -> Target | None:
        if ruling.modes[asset] is ControlMode.TEST:
            if now is not None and _reduces(group, now, want):
                return replace(now, cause=Cause.PROTECTION)
            return None if want is None or want.reason == AS_IT_STANDS else want
        forced = now is not None and now.cause is Cause.PROTECTION
        return want if group == "pv_limit_kw" or (group in BREAKERS and not forced) else now

    return _replaced(layout, targets, wanted, settled)


def _reduces(group: str, now: Target, want: Target | None) -> bool:
    """Whether a target of the protections is less than what people want, and not the other way round."""
    if group == "pv_limit_kw":
        return now.cause is Cause.PROTECTION and (want is None or now.value < want.value - CHANGED)
    if group == "pv_trip":
        return now.cause is Cause.PROTECTION
    if want is None or group not in LESS:
        return False
    if group in SWITCHED:
        return now.cause is Cause.PROTECTION and now.value < 0.5 <= want.value
    return now.value * want.value >= 0.0 and abs(now.value) < abs(want.value) - CHANGED


def _replaced(
    layout: Layout,
    targets: Targets,
    wanted: Mapping[str, Target | None],
    settled: Callable[[str, str, Target | None, Target | None], Target | None],
) -> Targets:
    if not wanted:
        return targets
    changed: dict[str, Any] = {}  # fields of Targets to replace
    for group, name, assets in _groups(layout):
        now: dict[str, Target] = dict(getattr(targets, group))
        for asset in assets:
            point = layout.setpoint_of.get((asset, name))
            if point is None or point not in wanted:
                continue
            target = settled(group, asset, now.get(asset), wanted[point])
            if target is None:
                now.pop(asset, None)
            else:
                now[asset] = target
        changed[group] = now
    return replace(targets, **changed)


def _groups(layout: Layout) -> tuple[tuple[str, str, Mapping[str, object]], ...]:
    """(field of Targets, name of the setpoint, assets that have it)."""
    return (
        ("bess_p_kw", "p_set_kw", layout.bess),
        ("genset_run", "run_request", layout.gensets),
        ("genset_p_kw", "p_set_kw", layout.gensets),
        ("pv_limit_kw", "p_limit_kw", layout.pv),
        ("pv_trip", TRIP_REQUEST, layout.pv),
        ("feeder_close", "close_request", layout.feeders),
        *((group, takes, layout.reactive) for group, takes in REACTIVE),
    )
