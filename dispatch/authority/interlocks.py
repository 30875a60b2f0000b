"""Interlocks as data: a condition on a point blocks or bounds setpoints; unread, it is tripped."""

from collections.abc import Mapping

from dispatch.authority.layout import ControlLayout
from dispatch.authority.modes import INPUT_HOLD_S
from dispatch.authority.state import InputSeen, Loosened
from ems.commands import Bound
from ems.control_site import Interlock

LAYER = "interlock"


def tripped(interlock: Interlock, inputs: Mapping[str, InputSeen], now_s: float) -> bool:
    """Whether its condition holds; what is not read counts as tripped."""
    seen = inputs.get(interlock.point)
    if seen is None or now_s - seen.good_s > INPUT_HOLD_S:
        return True
    under = interlock.low is not None and seen.value < interlock.low
    over = interlock.high is not None and seen.value > interlock.high
    return under or over


def interlocks_now(
    control: ControlLayout,
    inputs: Mapping[str, InputSeen],
    loosened: Mapping[str, Loosened],
    now_s: float,
) -> tuple[dict[str, bool], dict[str, str], dict[str, list[Bound]]]:
    """(tripped by id, why a setpoint is blocked, bounds by setpoint); a bypassed one binds nothing."""
    states = {i.id: tripped(i, inputs, now_s) for i in control.params.interlocks}
    return (states, *effects_of(control, states, loosened))


def effects_of(
    control: ControlLayout, states: Mapping[str, bool], loosened: Mapping[str, Loosened]
) -> tuple[dict[str, str], dict[str, list[Bound]]]:
    """(why a setpoint is blocked, bounds by setpoint) while interlocks are tripped; not known: it is."""
    blocked: dict[str, str] = {}
    bounds: dict[str, list[Bound]] = {}
    for interlock in control.params.interlocks:
        if not states.get(interlock.id, True) or bypass_of(interlock.id) in loosened:
            continue
        why = f"interlock {interlock.id}: {interlock.cause}"
        for effect in interlock.effects:
            if effect.low is None or effect.high is None:
                blocked.setdefault(effect.point, why)
            else:
                bound = Bound(point=effect.point, low=effect.low, high=effect.high, layer=LAYER, reason=why)
                bounds.setdefault(effect.point, []).append(bound)
    return blocked, bounds


def bypass_of(interlock_id: str) -> str:
    """Under which subject a bypass of an interlock is kept."""
    return f"{LAYER}.{interlock_id}"
