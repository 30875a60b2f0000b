"""Ports: what the siblings ask of each other. Adapters are wired in `cli`."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from ems.alarms import AlarmBook
from ems.commands import Command, Refusal, WriteResult
from ems.condition import PlantCondition
from ems.explanation import Explanation
from ems.forecast import Forecast
from ems.inputs import InputVersion
from ems.plan import Plan
from ems.records import (
    Bucket,
    CommandRecord,
    DeviceSample,
    EventRecord,
    JsonValue,
    PlanSummary,
    Sample,
    StatusRow,
)
from ems.telemetry import Reading, Snapshot
from ems.timegrid import TimeGrid


class DeviceIO(Protocol):
    """All devices of a plant. Reads and writes never raise for an operating fault; they return it."""

    async def read_all(self) -> Sequence[Reading]:
        """One reading per mapped point, bad quality where there is no value."""
        ...

    async def write(self, commands: Sequence[Command]) -> Sequence[WriteResult]:
        """Send each command once, in order; one result each, no retry."""
        ...

    async def close(self) -> None:
        """Release every connection."""
        ...


LastWord = Callable[[Command], Command | None]  # as it may be sent at this moment; None: it may not


@runtime_checkable
class TurnIO(Protocol):
    """Devices with waits between the call of a write and its bytes: another request, a pause, a selection."""

    async def write_in_turn(self, commands: Sequence[Command], last_word: LastWord) -> Sequence[WriteResult]:
        """As `DeviceIO.write`; `last_word` is asked when a command's turn has come, right before its bytes.

        What it gives is sent; where it gives nothing, nothing is, and the outcome is not_sent. It never
        raises. A command of several requests asks before each of them.
        """
        ...


class Forecaster(Protocol):
    """Gives what could be known at a time, never more."""

    def forecast(self, grid: TimeGrid, issued_at: datetime) -> Forecast:
        """Forecast on `grid` from data before `issued_at` only."""
        ...


class InputKnowledge(Protocol):
    """What was known of the inputs from elsewhere at a time; nothing where it cannot be read."""

    def known(
        self, input_id: str, at: datetime, start: datetime, end: datetime, limit: int
    ) -> Sequence[InputVersion]:
        """Versions of an input that tell something of [start, end), newest issue first, as known at `at`."""
        ...

    def seen_at(self, input_id: str, at: datetime) -> datetime | None:
        """When the source last told what counts, changed or not, by `at`."""
        ...


class PlanSource(Protocol):
    """Where the edge finds the newest published plan."""

    def current(self) -> Plan | None:
        """The newest plan, or None when none was ever published."""
        ...

    def producer_alive(self) -> bool:
        """Whether the planner lives: it holds a lock on its store that the kernel drops when it dies."""
        ...


class PlanSink(Protocol):
    """Where the planner publishes."""

    def publish(self, plan: Plan) -> None:
        """Store a plan atomically and make it current."""
        ...


class Recorder(Protocol):
    """Historian and audit as the edge sees them: queued, never blocking a tick."""

    def readings(self, snapshot: Snapshot) -> None:
        """Store every reading of a snapshot."""
        ...

    def intent(self, command: Command) -> None:
        """A command is about to be sent."""
        ...

    def outcome(self, result: WriteResult) -> None:
        """What became of it."""
        ...

    def refusal(self, refusal: Refusal) -> None:
        """A write that the gate refused."""
        ...

    def event(self, at: datetime, kind: str, fields: Mapping[str, JsonValue]) -> None:
        """An event `domain.object.kind` with its fields."""
        ...

    def status(self, row: StatusRow) -> None:
        """Upsert the one status row of this process."""
        ...

    def condition(self, condition: PlantCondition) -> None:
        """Make the plant's condition readable for the planner (latest only)."""
        ...

    def alarms(self, book: AlarmBook) -> None:
        """Make the alarms readable, and outlive a restart (latest only)."""
        ...


class HistoryReader(Protocol):
    """Read side of the historian, for the planner and the API; read-only, pages under a second.

    `commands` and `events` of a long time may take longer, and may be asked for beside another read.
    """

    def latest(self) -> Mapping[str, Reading]:
        """The newest reading of each point."""
        ...

    def condition(self) -> PlantCondition | None:
        """The newest plant condition, or None before the first tick."""
        ...

    def alarms(self) -> AlarmBook | None:
        """The alarms as the edge last recorded them, or None before it did."""
        ...

    def series(self, point: str, start: datetime, end: datetime, limit: int) -> Sequence[Sample]:
        """Samples of one point in [start, end), oldest first, at most `limit`."""
        ...

    def recorded(self, point: str, start: datetime, end: datetime, limit: int) -> Sequence[DeviceSample]:
        """What a device recorded by itself of one point in [start, end), oldest first, at most `limit`."""
        ...

    def buckets(self, point: str, start: datetime, end: datetime, every_s: int) -> Sequence[Bucket]:
        """Readings of one point in buckets that begin in [start, end), oldest first; aligned to 1970."""
        ...

    def commands(
        self, start: datetime, end: datetime, point: str | None, limit: int
    ) -> Sequence[CommandRecord]:
        """Commands and refusals in [start, end), newest first: what was commanded and why."""
        ...

    def events(self, start: datetime, end: datetime, kind: str | None, limit: int) -> Sequence[EventRecord]:
        """Events in [start, end), newest first; `kind` picks one, or with a dot at its end a family."""
        ...

    def statuses(self) -> Mapping[str, StatusRow]:
        """Newest status row of each process."""
        ...


class PlanArchive(Protocol):
    """Read side of the plan store."""

    def current(self) -> Plan | None:
        """The newest plan."""
        ...

    def summaries(self, start: datetime, end: datetime, limit: int) -> Sequence[PlanSummary]:
        """Plans issued in [start, end), newest first."""
        ...

    def get(self, plan_id: str) -> Plan | None:
        """One past plan."""
        ...

    def explanation(self, plan_id: str) -> Explanation | None:
        """Why a plan is as it is; None where it was not explained, or not yet."""
        ...
