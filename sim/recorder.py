"""What the harness keeps of a run: events, refusals, and changes of the gensets' run requests."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ems.alarms import AlarmBook
from ems.commands import Command, Refusal, WriteOutcome, WriteResult
from ems.condition import PlantCondition
from ems.plan import Plan
from ems.points import split_point_id
from ems.records import EventRecord, JsonValue, StatusRow
from ems.telemetry import Snapshot
from forecasting.measured import MemorySamples
from sim.result import RunRequest

EVENTS_MAX = 50_000


@dataclass(slots=True)
class MemoryRecorder:
    """`ems.ports.Recorder` in memory. Of the readings only `samples` are kept, where there is a planner that
    forecasts from them: for everything else the world's trace is better.
    """

    start: datetime
    samples: MemorySamples | None = None
    kept: list[EventRecord] = field(default_factory=list)
    lost: int = 0
    requests: list[RunRequest] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    latest: PlantCondition | None = None
    book: AlarmBook | None = None
    _asked: dict[str, bool] = field(default_factory=dict)

    def readings(self, snapshot: Snapshot) -> None:
        """Keep what forecasts are made from."""
        if self.samples is not None:
            self.samples.add(snapshot)

    def intent(self, command: Command) -> None:
        """Not kept; the outcome tells."""

    def outcome(self, result: WriteResult) -> None:
        """Count it, and keep a change of a run request."""
        self.outcomes[str(result.outcome)] += 1
        command = result.command
        asset, name = split_point_id(command.point)
        if name != "run_request" or result.outcome is not WriteOutcome.CONFIRMED:
            return
        run = command.value >= 0.5
        if self._asked.get(asset, False) != run:
            self._asked[asset] = run
            self.requests.append(
                RunRequest(
                    t_s=(command.decided_at - self.start).total_seconds(),
                    genset=asset,
                    run=run,
                    reason=command.reason,
                    cause=str(command.cause),
                )
            )

    def refusal(self, refusal: Refusal) -> None:
        """Count it by its code."""
        self.refusals[refusal.code] += 1

    def event(self, at: datetime, kind: str, fields: Mapping[str, JsonValue]) -> None:
        """Keep it, up to EVENTS_MAX."""
        if len(self.kept) < EVENTS_MAX:
            self.kept.append(EventRecord(at=at, kind=kind, fields=fields))
        else:
            self.lost += 1

    def status(self, row: StatusRow) -> None:
        """Not kept."""

    def condition(self, condition: PlantCondition) -> None:
        """Keep the latest."""
        self.latest = condition

    def alarms(self, book: AlarmBook) -> None:
        """Keep the latest."""
        self.book = book


@dataclass(slots=True)
class MemoryPlans:
    """Plan store of a run without processes; whether the planner lives, the edge is told beside it."""

    plan: Plan | None = None

    def current(self) -> Plan | None:
        """The newest plan."""
        return self.plan

    def publish(self, plan: Plan) -> None:
        """Make it current."""
        self.plan = plan

    def producer_alive(self) -> bool:
        """The harness itself plans."""
        return True
