"""What a forecast is made of is missing, from an hour to a month: substituted, flagged, planned."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from cli.past import PastKeeper
from cli.planner_inputs import planner_inputs
from cli.planner_process import PlannerLoop, make_forecaster
from cli.process_config import ProcessConfig
from connectors.historian.sqlite import SqliteHistoryReader, SqliteRecorder
from connectors.stores.plans import SqlitePlanStore
from ems.clock import VirtualClock
from ems.condition import PlantCondition
from ems.plan import Plan, PlanLabel
from ems.records import JsonValue, StatusRow
from ems.telemetry import Quality, Reading, Snapshot
from ems.timegrid import TimeGrid
from forecasting.history import HistoryForecaster
from optimizer import Planner, PlannerOptions
from optimizer.outlook import OutlookKeeper
from tests.builders import T0, site
from tests.unit.forecasting.test_history import histories, series
from tests.unit.optimizer.posing import Pose

pytestmark = pytest.mark.scenario(41)
AT = T0 + timedelta(days=30, hours=9)
OPTIONS = PlannerOptions(gap_ratio=0.05, blocks=((900.0, 4), (3600.0, 7)))
WHOLE = (PlanLabel.OPTIMAL, PlanLabel.INCUMBENT)
POSE = Pose(
    site=site(),
    load_kw={"critical": [60.0] * 8, "essential": [100.0] * 8, "deferrable": [20.0] * 8},
    pv_kw={"pv1": [100.0] * 8},
    step_s=900.0,
)
LOAD_KW = {"critical": 45.0, "essential": 75.0, "deferrable": 25.0}


@pytest.mark.parametrize("missing_h", [1.0, 6.0, 24.0, 7 * 24.0, 31 * 24.0])
def test_history_missing_is_bridged_flagged_and_planned_with(missing_h: float):
    """Loads and sun of the last hours are not there: each value is near what comes, the plan says why."""
    load, pv = histories()
    first = max(0, round((30 * 24.0 + 9.0 - missing_h) * 4.0))

    def holed(values: np.ndarray) -> np.ndarray:
        out = values.copy()
        out[first:] = np.nan
        return out

    grid = TimeGrid.uniform(AT, 900.0, 8)
    foreseen = HistoryForecaster(
        site(),
        {f: series(holed(s.values)) for f, s in load.items()},
        {p: series(holed(s.values)) for p, s in pv.items()},
    ).forecast(grid, AT)
    for feeder in site().feeders:
        kw, comes_kw = foreseen.load_kw[feeder.id], load[feeder.id].mean_on(grid)
        assert np.isfinite(kw).all()
        within = 0.5 if missing_h > 30 * 24.0 else 0.2  # of a month nothing is left but the feeder's peak
        assert np.abs(kw - comes_kw).max() <= within * feeder.p_peak_kw
    assert 0.0 < foreseen.pv_kw["pv1"].max() <= site().pv[0].p_ac_kw, "the sun at noon is not forgotten"
    for asset in (*load, *pv):
        assert any(r.startswith(f"{asset}: ") and "band" not in r for r in foreseen.repairs), asset
    plan = Planner(site(), OPTIONS).plan(replace(POSE.condition(), at=AT), foreseen, None, 1)
    assert plan.label in WHOLE
    assert set(foreseen.repairs) <= set(plan.notes), "whoever reads the plan reads what it rests on"


class EndOfTestError(Exception):
    """The planner has waited for as long as the test lasts."""


class LimitedClock(VirtualClock):
    """Virtual time that ends."""

    def __init__(self, start: datetime, until_s: float) -> None:
        super().__init__(start)
        self._until_s = until_s

    async def sleep_until(self, monotonic_s: float) -> None:
        if monotonic_s > self._until_s:
            raise EndOfTestError
        await super().sleep_until(monotonic_s)


class Living(SqliteHistoryReader):
    """A historian whose edge lives and follows the plan, whatever it has recorded of the past."""

    def __init__(self, path: Path, clock: VirtualClock) -> None:
        super().__init__(path)
        self._clock = clock

    def condition(self) -> PlantCondition:
        return replace(POSE.condition(), at=self._clock.now())

    def statuses(self) -> Mapping[str, StatusRow]:
        fields: dict[str, JsonValue] = {"plan_id": "one"}
        return {"edge": StatusRow(process="edge", pid=1, at=self._clock.now(), fields=fields)}


def record(path: Path, spans_h: list[tuple[float, float]]) -> None:
    """What the edge measured in each span, in hours before AT, every minute."""
    recorder = SqliteRecorder(path, snapshots_max=10_000, sync=False)
    for from_h, until_h in spans_h:
        for minute in range(round((from_h - until_h) * 60.0)):
            at = AT - timedelta(hours=from_h) + timedelta(minutes=minute)
            values = {f"{f}.p_kw": kw for f, kw in LOAD_KW.items()} | {f"{f}.closed": 1.0 for f in LOAD_KW}
            readings = {
                p: Reading(point=p, value=v, quality=Quality.GOOD, source_time=at, arrived_s=0.0)
                for p, v in (values | {"pv1.p_kw": 100.0}).items()
            }
            recorder.readings(Snapshot(at=at, monotonic_s=0.0, readings=readings))
    assert recorder.close()


def planner_loop(directory: Path, clock: VirtualClock) -> PlannerLoop:
    """The planner of `ems run` on a folder."""
    config = ProcessConfig(site=directory / "site.yaml", directory=directory)
    history = Living(config.history, clock)
    forecaster, measured = make_forecaster(site(), history, config)
    keeper = PastKeeper(directory)
    return PlannerLoop(
        config=config, clock=clock, history=history, store=SqlitePlanStore(config.plans),
        inputs=planner_inputs(site(), forecaster, (), directory), planner=Planner(site(), OPTIONS),
        outlooks=OutlookKeeper(site(), forecaster, OPTIONS),
        keep_past=lambda: keeper.keep(measured),
    )  # fmt: skip


def planned(directory: Path, for_s: float) -> list[Plan]:
    """What it publishes on virtual time from AT for so long."""
    loop = planner_loop(directory, LimitedClock(AT, for_s))
    store = loop.store
    with pytest.raises(EndOfTestError):
        asyncio.run(loop.run())
    found = store.summaries(AT, AT + timedelta(seconds=for_s + 1.0), 1000)
    plans = [store.get(s.plan_id) for s in reversed(found)]
    store.close()
    return [p for p in plans if p is not None]


def test_planner_over_a_historian_with_a_hole_plans_each_period_and_says_so(tmp_path: Path):
    """The edge was away for three hours: a plan comes in every period all the same, near the load before."""
    record(tmp_path / "history.sqlite", [(9.0, 3.0)])
    plans = planned(tmp_path, 2700.0)
    periods = {int((p.issued_at - AT).total_seconds() // 900.0) for p in plans}
    assert periods == {0, 1, 2, 3}
    assert all(p.label in WHOLE for p in plans)
    for plan in plans:
        assert any("critical: nothing measured in the last 2 h" in n for n in plan.notes)
    critical_kw = np.asarray(plans[0].load_kw["critical"])
    assert 20.0 < critical_kw.mean() < 70.0


def test_planner_that_is_started_anew_knows_what_was_measured(tmp_path: Path):
    """Neither the planner's first file nor its memory is needed: the historian has the day before."""
    record(tmp_path / "history.sqlite", [(26.0, 0.0)])
    (first,) = planned(tmp_path, 5.0)
    assert first.load_kw["critical"][0] == pytest.approx(45.0, rel=0.02)
    assert not any("critical: no history" in n for n in first.notes)


def test_planner_started_anew_after_the_historian_was_lost_goes_on_from_its_own_file(tmp_path: Path):
    record(tmp_path / "history.sqlite", [(26.0, 0.0)])
    planned(tmp_path, 5.0)
    for file in tmp_path.glob("history.sqlite*"):
        file.unlink()
    for file in tmp_path.glob("plans.sqlite*"):
        file.unlink()
    record(tmp_path / "history.sqlite", [])
    (again,) = planned(tmp_path, 5.0)
    assert again.load_kw["critical"][0] == pytest.approx(45.0, rel=0.02)


@pytest.mark.parametrize("raw", [b"", b"\x00" * 4096, b'{"crc32": "00000000", "body": "{}"}'])
def test_spoilt_file_of_the_past_costs_no_plan(tmp_path: Path, raw: bytes):
    record(tmp_path / "history.sqlite", [(1.0, 0.0)])
    (tmp_path / "past.json").write_bytes(raw)
    (plan,) = planned(tmp_path, 5.0)
    assert plan.label in WHOLE
    assert PastKeeper(tmp_path).load(), "and is replaced by a sound one"
