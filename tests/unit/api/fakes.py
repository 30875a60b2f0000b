"""Readers that hold what a test gave them, and can be made to fail."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ems.alarms import AlarmBook
from ems.clock import VirtualClock
from ems.commands import Cause, WriteOutcome
from ems.condition import BessCondition, GensetCondition, PlantCondition
from ems.errors import EmsError
from ems.explanation import CommitmentWhy, Explanation, ReasonCode, SetpointWhy
from ems.plan import Plan, PlanLabel, SolveRecord
from ems.records import Bucket, CommandRecord, DeviceSample, EventRecord, PlanSummary, Sample, StatusRow
from ems.site import GridMode
from ems.telemetry import Quality, Reading
from ems.timegrid import TimeGrid
from tests.builders import T0

NOW = T0 + timedelta(hours=12)
NAN = float("nan")


def reading(point: str, value: float | None, quality: Quality = Quality.GOOD, age_s: float = 1.0) -> Reading:
    return Reading(
        point=point, value=value, quality=quality, source_time=NOW - timedelta(seconds=age_s), arrived_s=5.0
    )


def plan(plan_id: str = "p-7", issued_at: datetime = NOW - timedelta(minutes=5), **changes) -> Plan:
    n = 4
    values: dict[str, Any] = {
        "plan_id": plan_id,
        "seq": 7,
        "site": "small",
        "issued_at": issued_at,
        "valid_until": issued_at + timedelta(hours=2),
        "label": PlanLabel.INCUMBENT,
        "solve": SolveRecord(
            status="node_limit",
            objective=512.5,
            bound=500.0,
            gap_ratio=0.024,
            solve_s=3.2,
            nodes=40,
            rescue="none",
        ),
        "grid": TimeGrid.uniform(issued_at, 900.0, n),
        "integral_until": issued_at + timedelta(hours=24),
        "grid_mode": (GridMode.GRID_TIED,) * n,
        "forming": ("grid1",) * n,
        "load_kw": {"critical": (80.0,) * n, "essential": (120.0,) * n, "deferrable": (50.0,) * n},
        "pv_available_kw": {"pv1": (200.0,) * n},
        "import_per_kwh": (0.16,) * n,
        "bess_p_kw": {"bess1": (-50.0, 0.0, 30.0, 40.0)},
        "bess_soc_end": {"bess1": (0.6, 0.6, 0.59, 0.58)},
        "genset_on": {"gen1": (0.0,) * n, "gen2": (0.0, 0.0, 1.0, 1.0)},
        "genset_p_kw": {"gen1": (0.0,) * n, "gen2": (0.0, 0.0, 90.0, 90.0)},
        "pv_p_kw": {"pv1": (200.0,) * n},
        "grid_p_kw": (100.0, 50.0, -70.0, -80.0),
        "shed_kw": {"critical": (0.0,) * n},
        "reserve_up_required_kw": (40.0,) * n,
        "reserve_up_held_kw": (60.0,) * n,
        "reserve_up_short_kw": (0.0,) * n,
        "cost_terms": {"energy": 500.0, "diesel": 12.5},
        "peak_import_kw": 210.0,
        "stored_energy_value_per_kwh": 0.11,
    }
    return Plan(**(values | changes))


def explanation(of: Plan) -> Explanation:
    """Four steps of one battery, and a genset that starts in the third."""
    starts = [*of.grid.starts(), of.grid.end]
    setpoints = tuple(
        SetpointWhy(
            asset="bess1", quantity="p_kw", step=t, start=starts[t], end=starts[t + 1],
            p_kw=of.bess_p_kw["bess1"][t], code=ReasonCode.PRICE, sentence=f"because of step {t}.",
            reasons=(), alternatives=(), power_worth_per_kwh=0.2, stored_worth_per_kwh=0.18,
        )
        for t in range(4)
    )  # fmt: skip
    run = CommitmentWhy(
        asset="gen2", on=True, first=2, last=3, start=starts[2], end=starts[4], code=ReasonCode.OUTAGE,
        sentence="gen2 starts and runs.", reasons=(), low_cost=1.0, high_cost=2.0,
    )  # fmt: skip
    return Explanation(
        plan_id=of.plan_id, until=starts[4], setpoints=setpoints, commitments=(run,), worths=(), conflicts=(),
        notes=("in brief",), solves=12, took_s=0.5,
    )  # fmt: skip


def condition() -> PlantCondition:
    off = GensetCondition(
        available=True, on_load=False, starting=False, ready_in_s=0.0, age_s=3600.0, p_kw=0.0, fuel_l=None,
        starts_today=0,
    )  # fmt: skip
    return PlantCondition(
        at=NOW,
        grid_mode=GridMode.GRID_TIED,
        forming="grid1",
        bess={
            "bess1": BessCondition(
                available=True, soc=NAN, p_kw=-50.0, p_charge_kw_max=500.0, p_discharge_kw_max=500.0
            )
        },
        gensets={"gen1": off, "gen2": off},
        pv_kw={"pv1": 200.0},
        feeder_kw={"critical": 80.0},
        feeder_closed={"critical": True},
        grid_p_kw=100.0,
        peak_import_kw=210.0,
        interval_import_kwh=3.0,
        interval_elapsed_s=120.0,
    )


def command(minutes_ago: float, point: str = "bess1.p_set_kw", **changes) -> CommandRecord:
    values: dict[str, Any] = {
        "at": NOW - timedelta(minutes=minutes_ago),
        "point": point,
        "value": -50.0,
        "cause": Cause.PLAN,
        "reason": "charge from PV, as planned",
        "owner": "plan_follower",
        "plan_id": "p-7",
        "epoch": 3,
        "seq": 11,
        "limits_hash": "abc",
        "refused_code": None,
        "outcome": WriteOutcome.CONFIRMED,
        "detail": "",
    }
    return CommandRecord(**(values | changes))


@dataclass
class FakeHistory:
    readings: dict[str, Reading] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    condition_now: PlantCondition | None = None
    command_rows: list[CommandRecord] = field(default_factory=list)
    event_rows: list[EventRecord] = field(default_factory=list)
    recorded_rows: list[DeviceSample] = field(default_factory=list)
    status_rows: dict[str, StatusRow] = field(default_factory=dict)
    broken: Exception | None = None
    largest_limit: int = 0
    book: AlarmBook | None = None

    def _check(self, limit: int = 0) -> None:
        self.largest_limit = max(self.largest_limit, limit)
        if self.broken is not None:
            raise self.broken

    def latest(self) -> Mapping[str, Reading]:
        self._check()
        return self.readings

    def condition(self) -> PlantCondition | None:
        self._check()
        return self.condition_now

    def alarms(self) -> AlarmBook | None:
        self._check()
        return self.book

    def series(self, point: str, start: datetime, end: datetime, limit: int) -> Sequence[Sample]:
        self._check(limit)
        return [s for s in self.samples.get(point, []) if start <= s.at < end][:limit]

    def recorded(self, point: str, start: datetime, end: datetime, limit: int) -> Sequence[DeviceSample]:
        self._check(limit)
        return [s for s in self.recorded_rows if s.point == point and start <= s.at < end][:limit]

    def buckets(self, point: str, start: datetime, end: datetime, every_s: int) -> Sequence[Bucket]:
        found = [s for s in self.samples.get(point, []) if start <= s.at < end]
        groups: dict[int, list[Sample]] = {}
        for s in found:
            groups.setdefault(int(s.at.timestamp()) // every_s * every_s, []).append(s)
        return [_bucket(start_s, group) for start_s, group in groups.items()]

    def commands(
        self, start: datetime, end: datetime, point: str | None, limit: int
    ) -> Sequence[CommandRecord]:
        self._check(limit)
        return [c for c in self.command_rows if start <= c.at < end and point in (None, c.point)][:limit]

    def events(self, start: datetime, end: datetime, kind: str | None, limit: int) -> Sequence[EventRecord]:
        self._check(limit)
        return [e for e in self.event_rows if start <= e.at < end and _of_kind(e, kind)][:limit]

    def statuses(self) -> Mapping[str, StatusRow]:
        self._check()
        return self.status_rows


def _of_kind(e: EventRecord, kind: str | None) -> bool:
    if kind is None or e.kind == kind:
        return True
    return kind.endswith(".") and e.kind.startswith(kind)


@dataclass
class FakePlans:
    stored: list[Plan] = field(default_factory=list)
    broken: EmsError | None = None
    explained: dict[str, Explanation] = field(default_factory=dict)

    def current(self) -> Plan | None:
        if self.broken is not None:
            raise self.broken
        return self.stored[-1] if self.stored else None

    def summaries(self, start: datetime, end: datetime, limit: int) -> Sequence[PlanSummary]:
        rows = [p for p in reversed(self.stored) if start <= p.issued_at < end]
        return [
            PlanSummary(
                plan_id=p.plan_id,
                seq=p.seq,
                issued_at=p.issued_at,
                valid_until=p.valid_until,
                label=p.label,
                objective=p.solve.objective,
                gap_ratio=p.solve.gap_ratio,
                solve_s=p.solve.solve_s,
            )
            for p in rows
        ][:limit]

    def get(self, plan_id: str) -> Plan | None:
        return next((p for p in self.stored if p.plan_id == plan_id), None)

    def explanation(self, plan_id: str) -> Explanation | None:
        return self.explained.get(plan_id)


def status(process: str, age_s: float, **fields) -> StatusRow:
    return StatusRow(process=process, pid=4711, at=NOW - timedelta(seconds=age_s), fields=fields)


def _bucket(start_s: int, group: Sequence[Sample]) -> Bucket:
    good = [s.value for s in group if s.value is not None and math.isfinite(s.value)]
    return Bucket(
        start=datetime.fromtimestamp(start_s, UTC),
        low=min(good, default=None),
        mean=sum(good) / len(good) if good else None,
        high=max(good, default=None),
        count=len(group),
        good=len(good),
        quality=Quality.GOOD if len(good) == len(group) else Quality.NOT_FINITE,
    )


def full_history() -> FakeHistory:
    """A plant with something of everything, some of it bad."""
    return FakeHistory(
        readings={
            r.point: r
            for r in (
                reading("grid1.p_kw", 100.0),
                reading("grid1.v_pu", 0.97),
                reading("bess1.p_kw", -50.0),
                reading("bess1.soc", NAN),
                reading("bess1.state", 1.0),
                reading("gen1.p_kw", None, Quality.COMM_FAILED, 60.0),
                reading("pv1.p_kw", 200.0),
                reading("critical.p_kw", 80.0),
                reading("bus.alive", 1.0),
                reading("bess1.heartbeat", 17.0),
            )
        },
        samples={
            "grid1.p_kw": [
                Sample(
                    at=NOW - timedelta(minutes=30) + timedelta(seconds=10 * i),
                    value=NAN if i == 3 else 100.0 + i,
                    quality=Quality.GOOD,
                )
                for i in range(120)
            ]
        },
        condition_now=condition(),
        command_rows=[
            command(1),
            command(2, point="pv1.p_limit_kw", value=NAN, refused_code="not_finite", outcome=None),
        ],
        event_rows=[
            EventRecord(
                at=NOW - timedelta(minutes=3),
                kind="grid.mains.lost",
                fields={"v_pu": NAN, "by": "<b>meter</b>"},
            )
        ],
        status_rows={
            "edge": status("edge", 1, cycle_s_p99=0.04, mode="grid_tied", held_safe=False, worst=NAN)
        },
    )


def clock() -> VirtualClock:
    return VirtualClock(NOW)
