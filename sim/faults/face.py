"""Faults between the truth and the edge: what a device tells and what it makes of a write.

`DeviceFace` stands in for the World wherever devices are read and written: in memory and behind sockets.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ems.site import Site
from sim.faults.base import Entry, Fault, Memory, Taken, Told
from sim.scenario import Scenario
from sim.world import World
from sim.writes import WriteVerdict

ONSET = "onset_s"


class DeviceFace:
    """The devices of a world with the faults of a run on them.

    Parameters
    ----------
    world : the truth.
    faults : with their entries; those without `tell`, `take` and `act` are ignored.
    beside : told beside what the world tells: selectors, phases.
    """

    def __init__(
        self,
        world: World,
        faults: Sequence[tuple[Fault, Entry]],
        beside: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self._world = world
        self.faults = [(f, e) for f, e in faults if e.tell or e.take or e.act]
        self.memories = [Memory() for _ in self.faults]
        each = [(f, e, m) for (f, e), m in zip(self.faults, self.memories, strict=True)]
        self._tells = [(f, e.tell, m) for f, e, m in each if e.tell is not None]
        self._takes = [(f, e.take, m) for f, e, m in each if e.take is not None]
        self._acts = [(f, e.act, m) for f, e, m in each if e.act is not None]
        self._beside = beside
        self._beside_of = {p: p.partition(".")[0] for p in beside}  # asset of each point
        self.overrides: dict[str, float | None] = {}  # told instead of the truth; None: not told at all

    @property
    def site(self) -> Site:
        """The plant."""
        return self._world.site

    @property
    def scenario(self) -> Scenario:
        """The run."""
        return self._world.scenario

    @property
    def now_s(self) -> float:
        """Time of the truth [s after start]."""
        return self._world.now_s

    def silent_assets(self) -> frozenset[str]:
        """Assets whose device answers nothing now."""
        return self._world.silent_assets()

    def readings(self) -> Mapping[str, float]:
        """What the devices tell now."""
        now_s = self._world.now_s
        active = [(f, tell, m) for f, tell, m in self._tells if f.holds(now_s)]
        if not active and not self.overrides and not self._beside:
            return self._world.readings()
        told: Told = {**self._world.readings(), **self._told_beside()}
        for fault, tell, memory in active:
            tell(fault, memory, told, now_s)
        for point, value in self.overrides.items():
            told.pop(point, None)
            if value is not None:
                told[point] = value
        return told

    def _told_beside(self) -> Mapping[str, float]:
        silent = self._world.silent_assets() if self._beside else ()
        if not silent:
            return self._beside
        return {p: v for p, v in self._beside.items() if self._beside_of[p] not in silent}

    def act(self) -> None:
        """What is done to the devices by others, before each cycle of the edge."""
        now_s = self._world.now_s
        for fault, act, memory in self._acts:
            if fault.holds(now_s):
                act(fault, memory, self._world, now_s)

    def write(self, point: str, value: float) -> WriteVerdict:
        """One write as it arrives at a device."""
        now_s = self._world.now_s
        taken = Taken(value=value)
        for fault, take, memory in self._takes:
            if fault.holds(now_s) and fault.of(point):
                taken = take(fault, memory, point, taken, now_s)
        if taken.value is None:
            return taken.verdict
        verdict = self._world.write(point, taken.value)
        return verdict if taken.verdict is WriteVerdict.ACCEPTED else taken.verdict

    def remember(self, fault: Fault, memory: Memory) -> None:
        """Give one fault what it remembers."""
        for (f, _), m in zip(self.faults, self.memories, strict=True):
            if f == fault:
                m.update(memory)


# --- what a device tells ----------------------------------------------------------------------------------


def frozen(fault: Fault, memory: Memory, told: Told, now_s: float) -> None:
    """Every value of the target stays as it was, with fresh stamps."""
    for point, value in told.items():
        if fault.of(point):
            told[point] = memory.setdefault(point, value)


def offset(fault: Fault, memory: Memory, told: Told, now_s: float) -> None:
    """The target reads too high by `value`."""
    for point in _aimed(fault, told):
        told[point] += fault.given(0.1)


def scaled(fault: Fault, memory: Memory, told: Told, now_s: float) -> None:
    """The target reads `value` times the truth."""
    for point in _aimed(fault, told):
        told[point] *= fault.given(2.0)


def reversed_sign(fault: Fault, memory: Memory, told: Told, now_s: float) -> None:
    """A current transformer the wrong way round: active and reactive power change their sign."""
    for point in (f"{fault.target}.p_kw", f"{fault.target}.q_kvar"):
        if point in told:
            told[point] = -told[point]


def stuck_at(fault: Fault, memory: Memory, told: Told, now_s: float) -> None:
    """The target reads `value`, whatever is true: a sentinel, a number beyond its range, a stuck sensor."""
    for point in _aimed(fault, told):
        told[point] = fault.given(0.0)


def not_a_number(fault: Fault, memory: Memory, told: Told, now_s: float) -> None:
    """The target reads NaN (registers that mean "not available")."""
    for point in _aimed(fault, told):
        told[point] = math.nan


def drift(fault: Fault, memory: Memory, told: Told, now_s: float) -> None:
    """The target wanders off by `value` per hour."""
    since_s = memory.setdefault(ONSET, now_s)
    for point in _aimed(fault, told):
        told[point] += fault.given(0.01) * (now_s - since_s) / 3600.0


def contradiction(fault: Fault, memory: Memory, told: Told, now_s: float) -> None:
    """Evidence at the POI that cannot all be true: the breaker is closed and there is no voltage."""
    for name, value in (("breaker_closed", 1.0), ("v_pu", 0.0)):
        if f"{fault.target}.{name}" in told:
            told[f"{fault.target}.{name}"] = value


def local(fault: Fault, memory: Memory, told: Told, now_s: float) -> None:
    """Somebody turns the selector of the device to local."""
    told[f"{fault.target}.remote"] = 0.0


def phase_lost(fault: Fault, memory: Memory, told: Told, now_s: float) -> None:
    """One phase at the POI has a third of its voltage, the others have all of it."""
    if f"{fault.target}.v2_pu" in told:
        told[f"{fault.target}.v2_pu"] = fault.given(0.33)


def reverse_power(fault: Fault, memory: Memory, told: Told, now_s: float) -> None:
    """A set on load is driven by the others: it takes a tenth of its load instead of giving it."""
    for point in _aimed(fault, told):
        told[point] = -0.1 * abs(told[point])


def flapping(fault: Fault, memory: Memory, told: Told, now_s: float) -> None:
    """Answers for `value` seconds, then not for as long, and so on; silence first."""
    if _quiet(fault, now_s):
        for point in [p for p in told if fault.of(p)]:
            del told[point]


def _quiet(fault: Fault, now_s: float) -> bool:
    half_s = fault.given(3.0)
    return (now_s - fault.from_s) % (2.0 * half_s) < half_s - 1e-6


def _aimed(fault: Fault, told: Told) -> list[str]:
    return [p for p in told if fault.of(p)]


# --- what a device makes of a write -----------------------------------------------------------------------


def flapping_write(fault: Fault, memory: Memory, point: str, taken: Taken, now_s: float) -> Taken:
    """No answer while it does not answer."""
    return Taken(value=None, verdict=WriteVerdict.SILENT) if _quiet(fault, now_s) else taken


def refused(fault: Fault, memory: Memory, point: str, taken: Taken, now_s: float) -> Taken:
    """The device answers with an exception and does nothing."""
    return Taken(value=None, verdict=WriteVerdict.REFUSED)


def lost(fault: Fault, memory: Memory, point: str, taken: Taken, now_s: float) -> Taken:
    """No answer, and not carried out."""
    return Taken(value=None, verdict=WriteVerdict.SILENT)


def unanswered(fault: Fault, memory: Memory, point: str, taken: Taken, now_s: float) -> Taken:
    """Carried out, but the answer is lost."""
    return Taken(value=taken.value, verdict=WriteVerdict.SILENT)


# --- what others do to a device ---------------------------------------------------------------------------


def foreign_writer(fault: Fault, memory: Memory, world: World, now_s: float) -> None:
    """Another master writes `value` to the target every five seconds."""
    if now_s - memory.get(ONSET, -math.inf) >= FOREIGN_EVERY_S - 1e-6:
        memory[ONSET] = now_s
        world.write(fault.target, fault.given(0.0))


def foreign_starter(fault: Fault, memory: Memory, world: World, now_s: float) -> None:
    """Another master asks a genset to run, every five seconds."""
    if now_s - memory.get(ONSET, -math.inf) >= FOREIGN_EVERY_S - 1e-6:
        memory[ONSET] = now_s
        world.write(f"{fault.target}.run_request", fault.given(1.0))


FOREIGN_EVERY_S = 5.0
