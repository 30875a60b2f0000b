"""The mode of control of each device: chosen by people, overruled by selectors and the emergency stop."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from dispatch.authority.layout import SITE_SELECTOR, STOP_CIRCUIT, ControlLayout
from dispatch.authority.state import AuthorityMemory, Chosen, InputSeen
from ems.control import ControlMode, strictest
from ems.frozen import replace
from ems.telemetry import Snapshot

# A selector or stop circuit without a good reading keeps its last position so long, then counts as the safe
# one: a lost frame is not somebody at the switch. A good reading is believed in the cycle it is seen in.
INPUT_HOLD_S = 3.0


def watch(
    control: ControlLayout, before: Mapping[str, InputSeen], snapshot: Snapshot
) -> Mapping[str, InputSeen]:
    """What every input last said, and when it said so and when it last changed."""
    out = dict(before)
    for point in control.inputs:
        value = snapshot.value(point)
        if value is None:
            continue
        known = out.get(point)
        changed_s = snapshot.monotonic_s if known is None or known.value != value else known.changed_s
        out[point] = InputSeen(value=value, good_s=snapshot.monotonic_s, changed_s=changed_s)
    return out


def closed(
    control: ControlLayout, inputs: Mapping[str, InputSeen], point: str, first_s: float, now_s: float
) -> bool | None:
    """A contact whose closed position is the good one: True closed, False open, None: not known yet.

    What the site does not have (no connection maps it, never read) counts as closed.
    """
    seen = inputs.get(point)
    if seen is not None and now_s - seen.good_s <= INPUT_HOLD_S:
        return seen.value >= 0.5
    if seen is None and point not in control.mapped:
        return True
    if now_s - first_s <= INPUT_HOLD_S:  # what was seen in so short a time is fresh
        return None
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """Positions of the emergency stop and the selectors now."""

    stop_pressed: bool
    stop_unknown: bool  # mapped, not read yet: nothing is written, nothing is latched
    local: frozenset[str]  # devices at which nothing may be written
    lost: frozenset[str] = frozenset()  # devices whose selector cannot be read, and which was not in local


def switches(control: ControlLayout, memory: AuthorityMemory, now_s: float) -> Switches:
    """Read selectors and stop circuit from the inputs in memory."""
    first_s = now_s if memory.first_s is None else memory.first_s
    stop = closed(control, memory.inputs, STOP_CIRCUIT, first_s, now_s)
    site = _selected(control, memory.inputs, SITE_SELECTOR, first_s, now_s)
    local, lost = set(), set()
    for device in control.points_of:
        positions = [site]
        if device in control.selectors:
            positions.append(_selected(control, memory.inputs, control.selectors[device], first_s, now_s))
        if _Selected.LOCAL in positions:
            local.add(device)
        elif _Selected.LOST in positions:
            lost.add(device)
    pressed = stop is False
    if not pressed:  # the emergency stop alone reaches a device of which nobody knows who has it
        local |= lost
    local |= memory.withheld.keys()
    return Switches(
        stop_pressed=pressed, stop_unknown=stop is None, local=frozenset(local), lost=frozenset(lost)
    )


class _Selected(Enum):
    """Position of a selector, as far as it is known."""

    REMOTE = auto()
    LOCAL = auto()  # also while a fresh start waits for its first reading
    LOST = auto()  # no good reading, and the last one was not local


def _selected(
    control: ControlLayout, inputs: Mapping[str, InputSeen], point: str, first_s: float, now_s: float
) -> _Selected:
    """Somebody who was seen to take a device is there until read otherwise: silence moves nobody."""
    position = closed(control, inputs, point, first_s, now_s)
    if position is True:
        return _Selected.REMOTE
    seen = inputs.get(point)
    known = position is None if seen is None else seen.value < 0.5
    return _Selected.LOCAL if known else _Selected.LOST


def expired(memory: AuthorityMemory, now_s: float) -> AuthorityMemory:
    """Where the time of a choice is over, what was chosen before it holds again."""
    if memory.plant.until_s is None and not memory.devices:
        return memory
    plant = _now(memory.plant, now_s) or Chosen(mode=ControlMode.AUTO, user=memory.plant.user)
    devices = {d: now for d, c in memory.devices.items() if (now := _now(c, now_s)) is not None}
    return replace(memory, plant=plant, devices=devices)


def _now(chosen: Chosen, now_s: float) -> Chosen | None:
    over = chosen.until_s is not None and now_s >= chosen.until_s
    return chosen.before if over else chosen


def before_of(memory: AuthorityMemory, device: str | None) -> Chosen | None:
    """What a choice for a time ends in: off after the emergency stop, else what was chosen last."""
    if device is None and memory.stopped:
        return Chosen(mode=ControlMode.OFF, user="emergency stop")
    known = memory.plant if device is None else memory.devices.get(device)
    last = None if known is None else known.lasting
    return None if last is None or last.mode is ControlMode.AUTO else last


def modes_now(control: ControlLayout, memory: AuthorityMemory, at: Switches) -> dict[str, ControlMode]:
    """The mode of each device: the strictest of the plant's, its own and its selector's."""
    plant = ControlMode.OFF if memory.stopped or at.stop_pressed or at.stop_unknown else memory.plant.mode
    out = {}
    for device in control.points_of:
        chosen = memory.devices.get(device)
        own = plant if chosen is None else strictest(plant, chosen.mode)
        out[device] = strictest(own, ControlMode.LOCAL) if device in at.local else own
    return out
