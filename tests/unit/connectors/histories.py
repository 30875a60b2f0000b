"""What the historian's tests record."""

from datetime import datetime, timedelta

from connectors.recorded import Batch
from ems.commands import Cause, Command, Refusal, WriteOutcome, WriteResult
from ems.condition import BessCondition, GensetCondition, PlantCondition
from ems.plan import Plan, PlanLabel, SolveRecord
from ems.records import DeviceSample, TimeBasis
from ems.site import GridMode
from ems.telemetry import Quality, Reading, Snapshot
from ems.timegrid import TimeGrid
from tests.builders import T0


def at(seconds: float):
    return T0 + timedelta(seconds=seconds)


def reading(point: str, value: float | None, t_s: float, quality: Quality = Quality.GOOD) -> Reading:
    return Reading(point=point, value=value, quality=quality, source_time=at(t_s), arrived_s=t_s)


def snapshot(t_s: float, **values: float | None) -> Snapshot:
    readings = {}
    for name, value in values.items():
        point = name.replace("__", ".")
        quality = Quality.GOOD if value is not None else Quality.COMM_FAILED
        readings[point] = reading(point, value, t_s, quality)
    return Snapshot(at=at(t_s), monotonic_s=t_s, readings=readings)


def command(seq: int, value: float = 1.0, t_s: float = 0.0, point: str = "bess1.p_set_kw") -> Command:
    return Command(
        point=point,
        value=value,
        cause=Cause.PLAN,
        reason=f"reason {seq}",
        owner="edge",
        plan_id="plan-1",
        epoch=7,
        seq=seq,
        limits_hash="abc",
        decided_at=at(t_s),
        decided_s=t_s,
    )


def outcome(c: Command, what: WriteOutcome = WriteOutcome.CONFIRMED, detail: str = "") -> WriteResult:
    return WriteResult(command=c, outcome=what, detail=detail, finished_at=c.decided_at)


def refusal(value: float, t_s: float) -> Refusal:
    return Refusal(
        point="bess1.p_set_kw",
        value=value,
        cause=Cause.OPERATOR,
        code="not_finite",
        reason="not a number",
        decided_at=at(t_s),
    )


def condition(t_s: float = 0.0, soc: float = 0.5) -> PlantCondition:
    return PlantCondition(
        at=at(t_s),
        grid_mode=GridMode.ISLANDED,
        forming="bess1",
        bess={
            "bess1": BessCondition(
                available=True, soc=soc, p_kw=10.0, p_charge_kw_max=500.0, p_discharge_kw_max=480.0
            )
        },
        gensets={
            "gen1": GensetCondition(
                available=True,
                on_load=False,
                starting=False,
                ready_in_s=0.0,
                age_s=100.0,
                p_kw=0.0,
                fuel_l=None,
                starts_today=1,
            )
        },
        pv_kw={"pv1": 33.0},
        feeder_kw={"critical": 43.0},
        feeder_closed={"critical": True},
        grid_p_kw=None,
        peak_import_kw=210.0,
        interval_import_kwh=3.0,
        interval_elapsed_s=120.0,
    )


def plan(seq: int = 1, t_s: float = 0.0, steps: int = 72, load_kw: float = 100.0) -> Plan:
    flat = (load_kw,) * steps
    ramp = tuple(i / 7.0 for i in range(steps))
    return Plan(
        plan_id=f"plan-{seq}",
        seq=seq,
        site="small",
        issued_at=at(t_s),
        valid_until=at(t_s + 7200.0),
        label=PlanLabel.OPTIMAL,
        solve=SolveRecord(
            status="optimal", objective=12.5, bound=12.4, gap_ratio=0.01, solve_s=1.5, nodes=3, rescue="none"
        ),
        grid=TimeGrid.uniform(at(t_s), 900.0, steps),
        integral_until=at(t_s + 86400.0),
        grid_mode=(GridMode.GRID_TIED,) * steps,
        forming=("grid1",) * steps,
        load_kw={"critical": flat, "essential": ramp},
        pv_available_kw={"pv1": ramp},
        import_per_kwh=flat,
        bess_p_kw={"bess1": ramp},
        bess_soc_end={"bess1": ramp},
        genset_on={"gen1": flat},
        genset_p_kw={"gen1": flat},
        pv_p_kw={"pv1": flat},
        grid_p_kw=ramp,
        shed_kw={"critical": flat},
        reserve_up_required_kw=flat,
        reserve_up_held_kw=flat,
        reserve_up_short_kw=flat,
        cost_terms={"energy": 10.0, "fuel": 2.5},
        peak_import_kw=200.0,
        stored_energy_value_per_kwh=0.1,
        notes=("a note",),
    )


def recorded(when: datetime, i: int) -> Batch:
    """A switch that a relay saw open and close, three days before or at a time that nobody believes."""
    told = when - timedelta(days=3) if i % 2 else None
    samples = tuple(
        DeviceSample(
            point="bess1.breaker", value=value, quality=Quality.GOOD if told else Quality.STALE,
            at=told or when, told_at=told, arrived_at=when,
            clock=TimeBasis.DEVICE if told else TimeBasis.NONE,
        )
        for value in (0.0, None if i % 3 else 1.0)
    )  # fmt: skip
    return Batch(device="relay", samples=samples, mark=None, stored=lambda: None)
