"""A twin of a running rig without one of its faults, from the same state: what would have been without it."""

import copy

from dispatch.supervision.invariants_now import InvariantsNow
from dispatch.supervision.mind import Mind
from dispatch.writing.sending import Sender
from sim.faults import Fault
from sim.rig import Rig, Row

SHARED = ("setup", "state", "last", "_seen")  # frozen


def fork(rig: Rig, without: Fault) -> Rig:
    """A rig at the same time in the same state, with every fault but one. It judges and plans nothing.

    The twin sees the plans of the original, also those that are published later.
    """
    twin = rig.like(faults=[f for f, _ in rig.faults if f != without])
    twin.world.take(rig.world.checkpoint())
    twin.clock.advance(max(0.0, rig.clock.monotonic_s() - twin.clock.monotonic_s()))
    _adopt(rig, twin)
    twin.plans.published, twin.plans.offered = rig.plans.published, dict(rig.plans.offered)
    twin.face.overrides = dict(rig.face.overrides)
    for (fault, _), memory in zip(rig.face.faults, rig.face.memories, strict=True):
        twin.face.remember(fault, memory)
    for (fault, _), memory in zip(rig.io.faults, rig.io.memories, strict=True):
        twin.io.remember(fault, memory)
    twin.wishes = list(rig.wishes)
    twin.hear_as(rig)
    return twin


def _adopt(rig: Rig, twin: Rig) -> None:
    """The twin's edge remembers what the original's does; its ports are its own."""
    ports = {id(p) for p in (rig.clock, rig.io, rig.plans, rig.journal)}
    for name, value in vars(rig.runtime).items():
        if id(value) in ports or callable(value) or isinstance(value, Sender | InvariantsNow | Mind):
            continue
        setattr(twin.runtime, name, value if name in SHARED else copy.deepcopy(value))
    twin.runtime.invariants.adopt(rig.runtime.invariants)


def differs(a: Row, b: Row) -> bool:
    """Whether a setpoint, an alarm or the mode of a tick differs."""
    if (a.decisions.mode, a.decisions.source) != (b.decisions.mode, b.decisions.source):
        return True
    if {x.code for x in a.decisions.alarms} != {x.code for x in b.decisions.alarms}:
        return True
    beats = ("heartbeat",)
    sent = [
        {c.point: c.value for c in row.decisions.commands if not c.point.endswith(beats)} for row in (a, b)
    ]
    return sent[0] != sent[1]
