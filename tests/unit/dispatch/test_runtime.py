"""The shell: order of intent, write and outcome; safe stop; broken invariant; repeated writes."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import pytest

from dispatch.controllers.rules import Rules
from dispatch.runtime import ALARMS_EVERY_S, EdgeRuntime, _whole
from dispatch.vocabulary import Context, ControlMemory, Source, Targets
from ems.alarms import Act, AlarmAction, AlarmBook, AlarmState
from ems.clock import VirtualClock
from ems.commands import Cause, Command, Refusal, WriteOutcome, WriteResult
from ems.condition import PlantCondition
from ems.errors import InvariantBroken
from ems.plan import Plan
from ems.records import JsonValue, StatusRow
from ems.telemetry import Quality, Reading, Snapshot
from tests.builders import T0, site
from tests.unit.dispatch.test_condition import BASE

T = TypeVar("T")


@dataclass
class FakeIO:
    """Devices that answer at once; `outcome` is what becomes of writes."""

    clock: VirtualClock
    log: list[str]
    outcome: WriteOutcome = WriteOutcome.CONFIRMED
    values: dict[str, float | None] = field(default_factory=lambda: dict(BASE))
    sent: list[Command] = field(default_factory=list)

    async def read_all(self) -> Sequence[Reading]:
        self.log.append("read")
        return [
            Reading(
                point=p,
                value=v,
                quality=Quality.GOOD if v is not None else Quality.COMM_FAILED,
                source_time=self.clock.now(),
                arrived_s=self.clock.monotonic_s(),
            )
            for p, v in self.values.items()
        ]

    async def write(self, commands: Sequence[Command]) -> Sequence[WriteResult]:
        self.log.append(f"write {len(commands)}")
        self.sent += commands
        return [
            WriteResult(command=c, outcome=self.outcome, detail="", finished_at=self.clock.now())
            for c in commands
        ]

    async def close(self) -> None:
        self.log.append("close")


@dataclass
class FakeRecorder:
    log: list[str]
    events: list[tuple[str, Mapping[str, JsonValue]]] = field(default_factory=list)
    books: list[AlarmBook] = field(default_factory=list)

    def readings(self, snapshot: Snapshot) -> None:
        self.log.append("readings")

    def intent(self, command: Command) -> None:
        self.log.append(f"intent {command.seq}")

    def outcome(self, result: WriteResult) -> None:
        self.log.append(f"outcome {result.command.seq}")

    def refusal(self, refusal: Refusal) -> None:
        self.log.append(f"refusal {refusal.code}")

    def event(self, at: datetime, kind: str, fields: Mapping[str, JsonValue]) -> None:
        self.events.append((kind, fields))

    def status(self, row: StatusRow) -> None:
        raise AssertionError("the shell around the runtime writes the status row")

    def condition(self, condition: PlantCondition) -> None:
        self.log.append("condition")

    def alarms(self, book: AlarmBook) -> None:
        self.books.append(book)


class NoPlans:
    def current(self) -> Plan | None:
        return None

    def producer_alive(self) -> bool:
        return True


class Broken:
    name = "broken"

    def decide(self, context: Context) -> tuple[Targets, ControlMemory]:
        if context.monotonic_s < 3.0:
            return Targets(source=Source.RULES), context.memory
        raise InvariantBroken("two and two make five")


class Bench:
    def __init__(
        self,
        controller: Any = None,
        *,
        shadow: bool = False,
        held_safe: bool = False,
        known_alarms: AlarmBook | None = None,
    ) -> None:
        self.log: list[str] = []
        self.clock = VirtualClock(T0)
        self.io = FakeIO(self.clock, self.log)
        self.recorder = FakeRecorder(self.log)
        self.edge = EdgeRuntime(
            site(),
            clock=self.clock,
            device_io=self.io,
            plans=NoPlans(),
            recorder=self.recorder,
            controller=Rules() if controller is None else controller,
            shadow=shadow,
            epoch=1,
            held_safe=held_safe,
            known_alarms=known_alarms,
        )

    def cycles(self, n: int, dt_s: float = 1.0) -> None:
        for _ in range(n):
            drive(self.edge.cycle(dt_s))
            self.clock.advance(dt_s)

    def kinds(self) -> list[str]:
        return [k for k, _ in self.recorder.events]


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Without an event loop: it must never really wait."""
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    value: T = done.value.value
    return value


def test_cycle_records_intent_before_the_write_and_outcome_after():
    bench = Bench()
    bench.cycles(1)
    n = len(bench.io.sent)
    assert n > 3
    each = [[f"intent {i}", "write 1", f"outcome {i}"] for i in range(1, n + 1)]
    assert bench.log[:3] == ["read", "readings", "condition"]
    threes = [bench.log[k : k + 3] for k in range(3, len(bench.log), 3)]
    assert sorted(threes) == sorted(each)  # device by device, each in the order of its commands


def test_cycle_shadow_never_writes():
    bench = Bench(shadow=True)
    bench.cycles(30)
    drive(bench.edge.safe_stop())
    assert bench.io.sent == []
    assert not [e for e in bench.log if e.startswith(("write", "intent"))]


@pytest.mark.parametrize("outcome", [WriteOutcome.UNKNOWN, WriteOutcome.NOT_SENT, WriteOutcome.REJECTED])
def test_cycle_unconfirmed_write_is_repeated_but_not_in_every_cycle(outcome):
    bench = Bench()
    bench.io.outcome = outcome
    bench.cycles(4)
    limits = [c for c in bench.io.sent if c.point == "gen2.run_request"]
    assert [c.decided_s for c in limits] == [0.0, 2.0]


def test_devices_gone_and_back_make_no_burst_of_writes():
    bench = Bench()
    bench.cycles(10)
    usual = len([c for c in bench.io.sent if 5.0 <= c.decided_s < 10.0])
    bench.io.values = dict.fromkeys(BASE)
    bench.io.outcome = WriteOutcome.NOT_SENT
    bench.cycles(60)
    gone = [c for c in bench.io.sent if c.decided_s >= 15.0]
    assert all(c.cause in (Cause.PROTECTION, Cause.SAFE_TABLE) for c in gone)
    bench.io.values = dict(BASE)
    bench.io.outcome = WriteOutcome.CONFIRMED
    bench.io.sent.clear()
    bench.cycles(5)
    assert len(bench.io.sent) <= 2 * usual


def test_broken_invariant_writes_the_safe_table_once_latches_and_raises():
    bench = Bench(Broken())
    bench.cycles(3)
    bench.io.sent.clear()
    with pytest.raises(InvariantBroken):
        bench.edge.cycle(1.0).send(None)
    assert {c.point: c.value for c in bench.io.sent} == {"bess1.p_set_kw": 0.0, "pv1.p_limit_kw": 0.0}
    assert {c.cause for c in bench.io.sent} == {Cause.SAFE_TABLE}
    assert bench.edge.state.held_safe
    assert bench.kinds()[-2:] == ["edge.invariant.broken", "edge.safe_table.written"]


def test_held_safe_start_stays_safe_until_released():
    bench = Bench(held_safe=True)
    bench.cycles(20)
    assert {c.cause for c in bench.io.sent} == {Cause.SAFE_TABLE}
    assert bench.edge.last is not None
    assert bench.edge.last.heartbeat == 0


async def test_run_stops_when_asked_and_leaves_the_plant_safe():
    bench = Bench()
    await bench.edge.run(lambda last: 1.0, lambda: bench.clock.monotonic_s() >= 5.0)
    last = {c.point: c.value for c in bench.io.sent}
    assert last["bess1.p_set_kw"] == 0.0
    assert last["pv1.p_limit_kw"] == 0.0
    assert bench.log.count("read") == 5


async def test_run_interrupted_leaves_the_plant_safe():
    """Ctrl-C arrives as a cancellation in the middle of a cycle: it ends, then the safe table is written."""
    bench = Bench()
    started, read_all = asyncio.Event(), bench.io.read_all

    async def slow() -> Sequence[Reading]:
        started.set()
        await asyncio.sleep(0.05)
        return await read_all()

    await bench.edge.cycle(1.0)
    bench.io.read_all = slow  # type: ignore[method-assign]
    task = asyncio.create_task(bench.edge.run(lambda last: 1.0, lambda: False))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    last = {c.point: c for c in bench.io.sent}
    assert (last["bess1.p_set_kw"].value, last["pv1.p_limit_kw"].value) == (0.0, 0.0)
    assert last["bess1.p_set_kw"].cause is Cause.SAFE_TABLE
    assert "edge.safe_table.written" in bench.kinds()


async def test_run_uses_the_period_it_is_told():
    bench = Bench()
    seen: list[float] = []

    def period(last: object) -> float:
        seen.append(bench.clock.monotonic_s())
        return 10.0 if last is None else 2.5

    await bench.edge.run(period, lambda: bench.clock.monotonic_s() >= 14.9)
    assert seen == [0.0, 10.0, 12.5]


def test_safe_stop_twice_writes_once():
    bench = Bench()
    bench.cycles(2)
    drive(bench.edge.safe_stop())
    n = len(bench.io.sent)
    drive(bench.edge.safe_stop())
    assert len(bench.io.sent) == n


async def test_work_cancelled_twice_ends_before_the_cancellation_counts():
    """A SIGTERM in the middle of the safe table once cut its writes off: their outcome was unknown."""
    seen = []

    async def work() -> None:
        await asyncio.sleep(0.05)
        seen.append("written")

    task = asyncio.create_task(_whole(work()))
    await asyncio.sleep(0.0)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["written"]


def test_restart_acknowledged_alarm_stays_acknowledged_and_is_recorded_at_once():
    first = Bench()
    first.io.values["bess1.state"] = 3.0
    first.cycles(10)
    key = "bess.unavailable.bess1"
    asked = AlarmAction(act=Act.ACKNOWLEDGE, key=key, who="ada", role="operator")
    first.edge.alarm_actions.append(asked)
    first.cycles(1)
    (entry,) = [e for e in first.recorder.books[-1].entries if e.key == key]
    assert (entry.state, entry.acknowledged_by) == (AlarmState.ACKNOWLEDGED, "ada")
    second = Bench(known_alarms=first.recorder.books[-1])
    second.io.values["bess1.state"] = 3.0
    second.cycles(10)
    assert next(e for e in second.recorder.books[-1].entries if e.key == key).state is AlarmState.ACKNOWLEDGED
    assert key not in [f["key"] for k, f in second.recorder.events if k == "alarm.raised"]


def test_alarms_recorded_when_one_moves_and_now_and_then_else():
    bench = Bench()
    grid_kw, bess_kw = bench.io.values["grid1.p_kw"], bench.io.values["bess1.p_kw"]
    assert grid_kw is not None
    assert bess_kw is not None
    rest_kw = grid_kw + bess_kw
    for _ in range(60):
        bench.cycles(1)
        written = bench.edge.state.written.get("bess1.p_set_kw")
        p_kw = 0.0 if written is None else written.value
        # else it would not be effective, and the meter would be lost
        bench.io.values |= {"bess1.p_kw": p_kw, "grid1.p_kw": rest_kw - p_kw}
    assert len(bench.recorder.books) == 1
    bench.io.values["bess1.state"] = 3.0
    bench.cycles(60)
    assert 2 <= len(bench.recorder.books) <= 1 + 3 + 60 / ALARMS_EVERY_S
