"""The ports of a Rig: devices, plans, recorder and clock, each with its faults, each noted as it is used."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ems.alarms import AlarmBook
from ems.clock import VirtualClock
from ems.commands import Command, Refusal, WriteResult
from ems.condition import PlantCondition
from ems.plan import Plan
from ems.records import EventRecord, JsonValue, StatusRow
from ems.site import Site
from ems.telemetry import Reading, Snapshot
from sim.direct_io import WorldIO
from sim.faults import EPSILON_S, Entry, Fault
from sim.faults.base import Memory
from sim.faults.face import DeviceFace

Active = Sequence[tuple[Fault, Entry]]
EVENTS_MAX = 20_000


class RigClock(VirtualClock):
    """Virtual time whose record time can be wrong. Control time never is."""

    def __init__(self, start: datetime, faults: Active) -> None:
        super().__init__(start)
        self._faults = [(f, e) for f, e in faults if e.utc is not None]

    def now(self) -> datetime:
        """Record time, as the machine believes it."""
        at, t_s = super().now(), self.monotonic_s()
        for fault, entry in self._faults:
            if entry.utc is not None and fault.holds(t_s):
                at = entry.utc(fault, at, t_s)
        return at

    def true_now(self) -> datetime:
        """UTC as it is."""
        return super().now()


class RigIO:
    """`DeviceIO` over devices with faults; `on_write` sees each command before its device does."""

    def __init__(
        self, face: DeviceFace, clock: RigClock, faults: Active, on_write: Callable[[Command], None]
    ) -> None:
        self._inner = WorldIO(face, clock)
        self._clock = clock
        self.faults = [(f, e) for f, e in faults if e.arrive is not None]
        self.memories = [Memory() for _ in self.faults]
        self._on_write = on_write
        self.results: list[WriteResult] = []  # of this tick
        self.arrived: dict[str, Reading] = {}  # the newest of each point

    async def read_all(self) -> Sequence[Reading]:
        """What arrives now."""
        readings = list(await self._inner.read_all())
        now_s = self._clock.monotonic_s()
        for (fault, entry), memory in zip(self.faults, self.memories, strict=True):
            if entry.arrive is not None and fault.holds(now_s):
                readings = entry.arrive(fault, memory, readings, now_s)
        self.arrived |= {r.point: r for r in readings}
        return readings

    async def write(self, commands: Sequence[Command]) -> Sequence[WriteResult]:
        """Each command to its device, in order."""
        out: list[WriteResult] = []
        for command in commands:
            self._on_write(command)
            out += await self._inner.write([command])
        self.results += out
        return out

    async def close(self) -> None:
        """Nothing to release."""

    def remember(self, fault: Fault, memory: Memory) -> None:
        """Give one fault what it remembers."""
        for (f, _), m in zip(self.faults, self.memories, strict=True):
            if f == fault:
                m.update(memory)


AFTER_S = 0.001  # from a tick to what is published behind its decision


class RigPlans:
    """`PlanSource` of a rig: what was published, as the faults let it be found."""

    def __init__(self, site: Site, clock: RigClock, faults: Active) -> None:
        self._site, self._clock = site, clock
        self._offers = [(f, e) for f, e in faults if e.offer is not None]
        self._deaths = [f for f, e in faults if e.planner_dead]
        self._delays = [(f, e) for f, e in faults if e.found_until_s is not None]
        self.published: list[tuple[float, Plan]] = []  # when [s], oldest first
        self.alive = True
        self.decided = False  # the edge has had its turn in this tick: what is published now is for the next
        self.offered: dict[str, Plan] = {}  # everything the edge was ever given, by id

    @property
    def plan(self) -> Plan | None:
        """The newest that was published."""
        return self.published[-1][1] if self.published else None

    def publish(self, plan: Plan) -> None:
        """Make it current; a twin steps after its original, and must not find it a tick earlier."""
        self.published.append((self._clock.monotonic_s() + (AFTER_S if self.decided else 0.0), plan))

    def current(self) -> Plan | None:
        """The newest plan, or what a fault makes of it."""
        t_s = self._clock.monotonic_s()
        until_s = [e.found_until_s(f, t_s) for f, e in self._delays if f.holds(t_s) and e.found_until_s]
        found = [p for at_s, p in self.published if all(at_s <= s + EPSILON_S for s in (t_s, *until_s))]
        plan = found[-1] if found else None
        for fault, entry in self._offers:
            if entry.offer is not None and fault.holds(t_s):
                plan = entry.offer(fault, plan, self._site, self._clock.true_now())
        if plan is not None:
            self.offered.setdefault(plan.plan_id, plan)
        return plan

    def producer_alive(self) -> bool:
        """Whether somebody plans."""
        t_s = self._clock.monotonic_s()
        return self.alive and not any(f.holds(t_s) for f in self._deaths)


@dataclass(frozen=True, slots=True)
class Entered:
    """One line of the journal: what was recorded, in order."""

    kind: str  # intent | outcome
    epoch: int
    seq: int
    point: str


class Journal:
    """`Recorder` of a rig: intents and outcomes in their order, events, the latest snapshot and condition."""

    def __init__(self, clock: RigClock, faults: Active) -> None:
        self._clock = clock
        self._faults = [f for f, e in faults if e.lose]
        self._slow = [(f, e) for f, e in faults if e.slow]
        self.spare_s = 0.0  # how long it may take until the next cycle is due: no cycle is late here
        self.entered: list[Entered] = []  # of this tick
        self.events: list[EventRecord] = []
        self.lost = 0
        self.snapshot: Snapshot | None = None
        self.latest: PlantCondition | None = None
        self.book: AlarmBook | None = None
        self.refusals: list[Refusal] = []  # of this tick

    @property
    def full(self) -> bool:
        """Whether what is recorded now is lost."""
        return any(f.holds(self._clock.monotonic_s()) for f in self._faults)

    def readings(self, snapshot: Snapshot) -> None:
        """Keep the latest: it is what the tick sees."""
        self.snapshot = snapshot

    def intent(self, command: Command) -> None:
        """A command is about to be sent."""
        self._enter("intent", command)

    def outcome(self, result: WriteResult) -> None:
        """What became of it."""
        self._enter("outcome", result.command)

    def _enter(self, kind: str, command: Command) -> None:
        if self.full:
            self.lost += 1
        self.entered.append(Entered(kind, command.epoch, command.seq, command.point))
        for fault, entry in self._slow:
            if fault.holds(self._clock.monotonic_s()):
                takes_s = min(fault.given(entry.value), self.spare_s)
                self.spare_s -= takes_s
                self._clock.advance(takes_s)

    def refusal(self, refusal: Refusal) -> None:
        """A write that the gate refused."""
        self.refusals.append(refusal)

    def event(self, at: datetime, kind: str, fields: Mapping[str, JsonValue]) -> None:
        """Keep it, unless the queue is full."""
        if self.full or len(self.events) >= EVENTS_MAX:
            self.lost += 1
            return
        self.events.append(EventRecord(at=at, kind=kind, fields=fields))

    def status(self, row: StatusRow) -> None:
        """Not kept."""

    def condition(self, condition: PlantCondition) -> None:
        """Keep the latest."""
        self.latest = condition

    def alarms(self, book: AlarmBook) -> None:
        """Keep the latest."""
        self.book = book
