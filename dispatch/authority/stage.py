"""Authority's part of a cycle, on one screen: inputs, modes, requests, leases, limits, and what they rule."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dispatch.authority.alarms import alarms_of, changes_of
from dispatch.authority.desk import hear
from dispatch.authority.desk_scene import Scene
from dispatch.authority.interlocks import effects_of, interlocks_now
from dispatch.authority.leases import (
    adopt,
    asked_now,
    handed_over,
    in_force,
    leases_now,
    standing_values,
)
from dispatch.authority.modes import Switches, expired, modes_now, switches, watch
from dispatch.authority.orphans import come_up
from dispatch.authority.people_limits import bounds_of, people_now
from dispatch.authority.ruling import STOP, Ruling
from dispatch.authority.state import AuthorityMemory, Chosen, Told, memory_of
from dispatch.authority.told_limits import caps_now
from dispatch.authority.told_limits import hear as hear_limits
from dispatch.layout import Layout
from dispatch.state import Written
from ems.commands import Bound
from ems.condition import PlantCondition
from ems.control import ControlMode
from ems.control_site import ControlParams
from ems.frozen import replace
from ems.points import is_binary
from ems.requests import PLANT, Received, Standing
from ems.telemetry import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What authority is handed in one cycle."""

    snapshot: Snapshot
    condition: PlantCondition
    written: Mapping[str, Written]
    received: Sequence[Received]
    held_safe: bool
    epoch: int
    dt_s: float
    withheld: Mapping[str, str] | None = None  # None: as in the last cycle


def restored(params: ControlParams, standing: Standing | None, now_s: float) -> AuthorityMemory:
    """Memory of an edge that starts: as tight as it went down, watchdogs counting from now."""
    fresh = memory_of(params.start_mode)
    if standing is None:
        return fresh
    return replace(
        fresh,
        plant=chosen_before(standing, PLANT, standing.plant),
        devices={d: chosen_before(standing, d, m) for d, m in standing.devices.items()},
        asked_until_s=dict(standing.held_until_s),
        limits=dict(standing.limits),
        told={k: Told(value_kw=kw, valid_s=now_s) for k, kw in standing.told_kw.items()},
        stopped=standing.stopped,
        standing_lost=standing.lost,
    )


def chosen_before(standing: Standing, where: str, mode: ControlMode) -> Chosen:
    """A mode chosen before a restart: by the same person, until the same time."""
    by, until_s = standing.chosen_by.get(where, "restart"), standing.mode_until_s.get(where)
    return Chosen(mode=mode, user=by, until_s=until_s, since_s=-math.inf)


def rule(layout: Layout, memory: AuthorityMemory, given: Given) -> tuple[AuthorityMemory, Ruling]:
    """One cycle of authority: (memory for the next, what it rules for this one)."""
    control, now_s = layout.control, given.snapshot.monotonic_s
    memory, lost = come_up(layout, memory)
    before = memory
    memory = _looked(layout, memory, given.snapshot)
    memory = memory if given.withheld is None else replace(memory, withheld=given.withheld)
    at = switches(control, memory, now_s)
    memory = replace(expired(memory, now_s), stopped=memory.stopped or at.stop_pressed)
    standing = standing_values(layout, given.snapshot, given.condition, given.written)
    scene = Scene(
        layout=layout,
        condition=given.condition,
        switches=at,
        standing=standing,
        held_safe=given.held_safe,
        epoch=given.epoch,
        at=given.snapshot.at,
        now_s=now_s,
    )
    heard = hear(scene, memory, given.received)
    memory = heard.memory
    modes = modes_now(control, memory, at)
    memory = adopt(layout, handed_over(memory, modes), modes, standing, now_s)
    memory = asked_now(_timed_out(memory, modes, now_s))
    held = in_force(memory.leases)
    memory = _transfers(layout, memory, before, modes, now_s)
    ruling = Ruling(
        plant=scene.plant_mode(memory),
        modes=modes,
        local=at.local,
        stopping=at.stop_pressed,
        held=held,
        step=_steps(layout, memory, given.dt_s),
        answers=heard.answers,
        released=heard.released,
        as_read=given.condition,
        standing=standing,
    )
    memory, ruling = _limited(layout, memory, ruling, at, now_s)
    events = (*lost, *heard.events, *changes_of(before, memory, ruling))
    memory = replace(memory, modes=modes)
    return memory, replace(ruling, events=events, alarms=alarms_of(layout, memory, ruling))


def rule_safe(layout: Layout, memory: AuthorityMemory, snapshot: Snapshot) -> Ruling:
    """What still holds when the safe table is written: selectors, stop and interlocks, and no requests."""
    memory = _looked(layout, memory, snapshot)
    at = switches(layout.control, memory, snapshot.monotonic_s)
    ruling = Ruling(
        plant=ControlMode.OFF,
        modes=dict.fromkeys(layout.control.points_of, ControlMode.OFF),
        local=at.local,
        stopping=at.stop_pressed,
    )
    return _limited(layout, memory, ruling, at, snapshot.monotonic_s)[1]


def rule_known(layout: Layout, memory: AuthorityMemory) -> Ruling:
    """What held in the last cycle, where the inputs cannot be judged any more; never judged: it forbids."""
    blocked, strong = effects_of(layout.control, memory.tripped, memory.loosened)
    if memory.stopped:
        blocked, strong = _stopped(layout, pressed=True)
    return Ruling(
        plant=ControlMode.OFF,
        modes=dict.fromkeys(layout.control.points_of, ControlMode.OFF),
        stopping=memory.stopped,
        blocked=blocked,
        strong=strong,
    )


def _looked(layout: Layout, memory: AuthorityMemory, snapshot: Snapshot) -> AuthorityMemory:
    first_s = snapshot.monotonic_s if memory.first_s is None else memory.first_s
    inputs = watch(layout.control, memory.inputs, snapshot)
    told = hear_limits(layout.control, memory.told, inputs, snapshot)
    return replace(memory, first_s=first_s, inputs=inputs, told=told)


def _timed_out(memory: AuthorityMemory, modes: Mapping[str, ControlMode], now_s: float) -> AuthorityMemory:
    """Everything with an expiry of its own, each by its own."""
    if not (memory.leases or memory.pending or memory.loosened or memory.selections):
        return memory
    return replace(
        memory,
        leases=leases_now(memory.leases, modes, now_s),
        pending={k: v for k, v in memory.pending.items() if now_s <= v.until_s},
        loosened={k: v for k, v in memory.loosened.items() if now_s < v.until_s},
        selections={k: v for k, v in memory.selections.items() if now_s <= v.until_s},
    )


def setters(layout: Layout, memory: AuthorityMemory, modes: Mapping[str, ControlMode]) -> dict[str, str]:
    """Who sets each setpoint, in one word: a change of it is a transfer."""
    held = in_force(memory.leases)
    out = {}
    for device, points in layout.control.points_of.items():
        mode = modes[device].value
        for point in points:
            lease = held.get(point)
            out[point] = mode if lease is None else f"{mode} {lease.owner}"
    return out


def _transfers(
    layout: Layout,
    memory: AuthorityMemory,
    before: AuthorityMemory,
    modes: Mapping[str, ControlMode],
    now_s: float,
) -> AuthorityMemory:
    """When each setpoint last changed hands; in the first cycle nothing has."""
    now = setters(layout, memory, modes)
    ramp_s = layout.control.params.transfer_ramp_s
    running = {p: s for p, s in before.transfers.items() if now_s - s <= ramp_s}
    changed = {p: now_s for p, who in now.items() if before.setters.get(p, who) != who}
    return replace(memory, setters=now, transfers={**running, **changed})


def _steps(layout: Layout, memory: AuthorityMemory, dt_s: float) -> dict[str, float]:
    """How far a continuous setpoint may move in this cycle while it changes hands."""
    ramp_s = layout.control.params.transfer_ramp_s
    out = {}
    for point in memory.transfers:
        if not is_binary(point) and ramp_s > 0.0:
            a = layout.setpoints[point]
            out[point] = (a.high - a.low) / ramp_s * dt_s
    return out


def _limited(
    layout: Layout, memory: AuthorityMemory, ruling: Ruling, at: Switches, now_s: float
) -> tuple[AuthorityMemory, Ruling]:
    """The ruling with every layer of limits, strongest first: stop, interlocks, utility, people."""
    first_s = now_s if memory.first_s is None else memory.first_s
    control = layout.control
    tripped, blocked, strong = interlocks_now(control, memory.inputs, memory.loosened, now_s)
    if at.stop_pressed or at.stop_unknown:
        blocked, strong = _stopped(layout, pressed=at.stop_pressed)
    told, lost = caps_now(control, memory.told, first_s, now_s)
    people_caps, people = people_now(layout, memory.limits, memory.loosened)
    weak = bounds_of(control, layout, told)
    for more in (bounds_of(control, layout, people_caps), people):
        for point, bounds in more.items():
            weak.setdefault(point, []).extend(bounds)
    for device in at.local:
        why = memory.withheld.get(device, f"{device} is in local")
        blocked |= dict.fromkeys(control.points_of.get(device, ()), why)
    memory = replace(memory, tripped=tripped, lost=lost)
    return memory, replace(ruling, blocked=blocked, strong=strong, weak=weak, caps=(*told, *people_caps))


def _stopped(layout: Layout, *, pressed: bool) -> tuple[dict[str, str], dict[str, list[Bound]]]:
    """Nothing but what the emergency stop demands; while it is not read yet, nothing at all."""
    demands = layout.control.params.emergency_stop if pressed else {}
    why = "the emergency stop is open" if pressed else "the emergency stop is not read yet"
    blocked = {p: why for p in layout.setpoints if p not in demands}
    strong = {
        point: [Bound(point=point, low=value, high=value, layer=STOP, reason=why)]
        for point, value in demands.items()
    }
    return blocked, strong
