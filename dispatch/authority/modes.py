"""The mode of control of each device: chosen by people, overruled by selectors and the emergency stop."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dispatch.authority.layout import SITE_SELECTOR, STOP_CIRCUIT, ControlLayout
from dispatch.authority.state import AuthorityMemory, Chosen, InputSeen
from ems.control import ControlMode, strictest
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
    if seen is None and now_s - first_s <= INPUT_HOLD_S:
        return None
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """Positions of the emergency stop and the selectors now."""

    stop_pressed: bool
    stop_unknown: bool  # mapped, not read yet: nothing is written, nothing is latched
    local: frozenset[str]  # devices at which nothing may be written


def switches(control: ControlLayout, memory: AuthorityMemory, now_s: float) -> Switches:
    """Read selectors and stop circuit from the inputs in memory."""
    first_s = now_s if memory.first_s is None else memory.first_s
    stop = closed(control, memory.inputs, STOP_CIRCUIT, first_s, now_s)
    site = closed(control, memory.inputs, SITE_SELECTOR, first_s, now_s)
    local = {
        device
        for device in control.points_of
        if site is not True
        or (
            device in control.selectors
            and closed(control, memory.inputs, control.selectors[device], first_s, now_s) is not True
        )
    }
    return Switches(stop_pressed=stop is False, stop_unknown=stop is None, local=frozenset(local))


def expired(memory: AuthorityMemory, now_s: float) -> AuthorityMemory:
    """Choices of modes whose time is over go back to auto."""
    plant = memory.plant
    if plant.until_s is not None and now_s >= plant.until_s:
        plant = Chosen(mode=ControlMode.AUTO, user=plant.user)
    devices = {d: c for d, c in memory.devices.items() if c.until_s is None or now_s < c.until_s}
    return replace(memory, plant=plant, devices=devices)


def modes_now(control: ControlLayout, memory: AuthorityMemory, at: Switches) -> dict[str, ControlMode]:
    """The mode of each device: the strictest of the plant's, its own and its selector's."""
    plant = ControlMode.OFF if memory.stopped or at.stop_pressed or at.stop_unknown else memory.plant.mode
    out = {}
    for device in control.points_of:
        chosen = memory.devices.get(device)
        own = ControlMode.AUTO if chosen is None else chosen.mode
        selector = ControlMode.LOCAL if device in at.local else ControlMode.AUTO
        out[device] = strictest(plant, own, selector)
    return out
