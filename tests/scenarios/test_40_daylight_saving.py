"""40: clocks are put forward and back, a second is inserted: hours, energy and records stay whole."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from api.errors import QueryRefusedError
from api.queries import parse_time
from connectors.json_codec import dumps, loads
from dispatch.layout import layout_of
from dispatch.observing.deferrables import WorkSeen, follow_work, work_condition, work_known
from dispatch.observing.utc import UtcMemory, record_time
from dispatch.vocabulary import Source
from ems.billing import bill, month_shares
from ems.condition import PlantCondition
from ems.deferrable import DailyWork, DeferrableParams
from ems.errors import DataError
from ems.poi import CapWindow
from ems.series import UniformSeries
from ems.site import Site
from ems.tariff import TouWindow
from ems.telemetry import UtcState
from ems.timegrid import TimeGrid
from ems.windows import LocalWindow
from forecasting.from_csv import CsvForecaster
from forecasting.history import HistoryForecaster
from optimizer.intake.deferrable import deferrable_starts
from sim.faults import Entry, Fault, Layer
from sim.period import by_day
from sim.rig import Rig, RigOptions
from sim.rig_scenario import rig_scenario
from sim.world import World
from tests.unit.dispatch.plans import plan_of
from tests.unit.dispatch.test_write_budget import POINT, rig, worn
from tests.unit.optimizer.posing import Pose

pytestmark = pytest.mark.scenario(40)
NEW_YORK = "America/New_York"
FORWARD, BACK = date(2026, 3, 8), date(2026, 11, 1)
EVERY_DAY, EVERY_MONTH = frozenset(range(8)), frozenset(range(1, 13))
FOLD = datetime(2026, 11, 1, 6, tzinfo=UTC)  # 01:59:59 is followed by 01:00:00
GAP = datetime(2026, 3, 8, 7, tzinfo=UTC)  # 01:59:59 is followed by 03:00:00
LOAD = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}


def in_zone(site: Site, zone: str = NEW_YORK) -> Site:
    return replace(site, timezone=zone, tariff=replace(site.tariff, timezone=zone))


def midnight(day: date, zone: str = NEW_YORK) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)


@pytest.mark.parametrize(("day", "quarters", "night_h"), [(FORWARD, 92, 5.0), (BACK, 100, 7.0)])
def test_day_has_its_quarter_hours_and_each_is_billed_once(
    small: Site, day: date, quarters: int, night_h: float
):
    """Night is 0 to 6 local: an hour shorter, an hour longer. Energy and money agree to 1e-9."""
    tariff = in_zone(small).tariff
    start, end = midnight(day), midnight(day + timedelta(days=1))
    assert (end - start).total_seconds() == quarters * 900.0
    kw = np.linspace(10.0, 200.0, quarters)
    series = UniformSeries(start=start, step_s=900.0, values=kw)
    billed = bill(tariff, series, UniformSeries(start=start, step_s=900.0, values=0.0 * kw))
    kwh = {line.window: line.import_kwh for line in billed.energy}
    assert sum(kwh.values()) == pytest.approx(kw.sum() / 4.0, abs=1e-9)
    assert kwh["night"] == pytest.approx(kw[: round(4 * night_h)].sum() / 4.0, abs=1e-9)
    prices = tariff.import_prices(TimeGrid.uniform(start, 900.0, quarters))
    assert float((prices * kw).sum()) / 4.0 == pytest.approx(billed.energy_cost, abs=1e-9)
    month = f"{day:%Y-%m}"
    first, after = date(day.year, day.month, 1), date(day.year + day.month // 12, day.month % 12 + 1, 1)
    assert month_shares(NEW_YORK, midnight(first), midnight(after)) == {month: pytest.approx(1.0, abs=1e-12)}


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        (NEW_YORK, FORWARD, 23.0),
        (NEW_YORK, BACK, 25.0),
        ("America/Havana", FORWARD, 23.0),  # there is no midnight
        ("America/Havana", BACK, 25.0),  # there are two
        ("Australia/Lord_Howe", date(2026, 10, 4), 23.5),
    ],
)
def test_figures_of_each_day_are_those_of_its_own_hours(small: Site, zone: str, day: date, hours: float):
    site = in_zone(small, zone)
    start = midnight(day - timedelta(days=1), zone)
    scenario = rig_scenario(
        site, load_kw=LOAD, pv_kw=0.0, mains=[], faults=[], start=start, horizon_s=72 * 3600.0
    )
    world = World(scenario)
    for hour in range(1, 73):
        world.advance(3600.0 * hour)
    world.finish()
    days = by_day(start, tuple(world.meter.day_readings), tuple(world.meter.day_peaks_kw))
    found = next(counters for at, counters in days if at == midnight(day, zone))
    assert found.duration_s == pytest.approx(hours * 3600.0, abs=1e-6)
    assert sum(found.demand_kwh.values()) == pytest.approx(200.0 * hours, abs=1e-6)
    assert sum(sum(c.demand_kwh.values()) for _, c in days) == pytest.approx(200.0 * 72.0, abs=1e-6)


@pytest.mark.parametrize("at", [FOLD, GAP])
def test_edge_goes_on_through_the_hour_with_its_plan_records_and_caps(small: Site, at: datetime):
    """A cap from 1 to 2 holds in both passages of that hour, and ends with the first where 2 is left out."""
    site = in_zone(small)
    hour = LocalWindow(start_h=1.0, end_h=2.0, weekdays=EVERY_DAY, months=EVERY_MONTH)
    cap = CapWindow(p_import_kw_max=120.0, p_export_kw_max=None, local=hour)
    site = replace(site, grid=replace(site.grid, caps=(cap,)))
    start = at - timedelta(seconds=60.0)
    r = Rig(site, load_kw=LOAD, controller="plan", options=RigOptions(start=start, horizon_s=900.0))
    plan = plan_of(site, bess_kw=[50.0] * 8, load_kw=200.0, start=start)
    r.at(5.0, lambda x: x.publish(plan)).run(180.0)
    assert r.held(lambda row: row.decisions.source is Source.PLAN, 10.0)
    assert not r.events("utc.state.changed")
    stamps = [row.snapshot.at for row in r.rows()]
    assert [(b - a).total_seconds() for a, b in pairwise(stamps)] == [1.0] * 179
    imported_kw = [row.flows.grid_p_kw for row in r.rows(120.0)]
    if at == FOLD:
        assert max(imported_kw) < 125.0
    else:
        assert min(imported_kw) > 140.0, "the plan's 150 kW"


def test_budget_of_writes_is_that_of_the_day_and_not_of_the_hour():
    """1 o'clock comes twice; what was written in its first passage is not forgotten in the second."""
    site = in_zone(worn(5))
    r = rig(site, options=RigOptions(start=FOLD - timedelta(seconds=60.0))).run(120.0)
    wrote = [c for row in r.rows() for c in row.commands if c.point == POINT]
    assert r.runtime.state.budget.spent == {POINT: len(wrote)}
    assert r.runtime.state.budget.day == BACK
    assert r.last.alarmed("setpoint.budget_spent")


PUMP = DeferrableParams(
    id="pump",
    feeder="deferrable",
    p_kw=30.0,
    p_min_kw=30.0,
    unfinished_per_kwh=1.0,
    alone_on_feeder=True,
    daily=(DailyWork(start_h=1.5, end_h=6.0, weekdays=EVERY_DAY, energy_kwh=60.0),),
)


def test_work_done_in_a_repeated_hour_is_known_after_a_restart_of_the_edge(small: Site):
    """The window opens at the first 01:30. What was done of it was forgotten, to be done again."""
    site = replace(in_zone(small), deferrables=(PUMP,))
    plant = layout_of(site)
    seen: dict[str, WorkSeen] = {}
    at = FOLD - timedelta(seconds=1800.0)
    for minute in range(60):
        seen = follow_work(plant, seen, LOAD | {"deferrable": 30.0}, at, 60.0 * minute, 60.0)
        at += timedelta(seconds=60.0)
    before = seen["pump"].done_kwh
    assert before == pytest.approx(29.5, abs=0.51)
    known = replace(Pose(site=site, load_kw={f: [1.0] for f in LOAD}).condition(), at=at)
    known = replace(known, deferrables=work_condition(seen, 3600.0, 1e9))
    seen = work_known(loads(PlantCondition, dumps(known)), 0.0)
    seen = follow_work(plant, seen, LOAD | {"deferrable": 30.0}, at, 0.0, 0.0)
    assert seen["pump"].done_kwh == pytest.approx(before)
    assert seen["pump"].starts == 1
    notes: list[str] = []
    again = replace(known, deferrables=work_condition(seen, 0.0, 1e9))
    (start,) = deferrable_starts(site, again, TimeGrid.uniform(at, 900.0, 8), notes)
    assert start.done_kwh == pytest.approx(before)
    assert not notes


@pytest.mark.parametrize(("day", "hours"), [(FORWARD, 4.0), (date(2026, 6, 1), 5.0), (BACK, 6.0)])
def test_work_window_is_as_long_as_its_hours(day: date, hours: float):
    window = DailyWork(start_h=1.0, end_h=6.0, weekdays=EVERY_DAY, energy_kwh=60.0).on(
        day, ZoneInfo(NEW_YORK), frozenset()
    )
    assert window is not None
    assert (window.end - window.start).total_seconds() == hours * 3600.0


def test_hour_that_is_left_out_holds_no_window_and_one_that_repeats_holds_it_twice():
    two = LocalWindow(start_h=2.0, end_h=3.0, weekdays=EVERY_DAY, months=EVERY_MONTH)
    one = TouWindow(
        name="one", start_h=1.0, end_h=2.0, weekdays=EVERY_DAY, months=EVERY_MONTH, import_per_kwh=1.0
    )
    zone = ZoneInfo(NEW_YORK)

    def quarters(window: LocalWindow, day: date) -> int:
        begin = midnight(day)
        n = round((midnight(day + timedelta(days=1)) - begin).total_seconds() / 900.0)
        return sum(window.holds((begin + timedelta(seconds=900.0 * i)).astimezone(zone)) for i in range(n))

    assert [quarters(two, d) for d in (FORWARD, BACK)] == [0, 4]
    assert [quarters(one, d) for d in (FORWARD, BACK)] == [4, 8]


@pytest.mark.parametrize("day", [FORWARD, BACK])
def test_forecast_moves_with_the_wall_clock(small: Site, day: date):
    """What starts at 8 and ends at 17 local does so on the day after the change too."""
    site, zone = in_zone(small), ZoneInfo(NEW_YORK)
    start = midnight(day - timedelta(days=28))
    stamps = [start + timedelta(seconds=900 * i) for i in range(96 * 31)]
    local_h = np.array([(t := s.astimezone(zone)).hour + t.minute / 60 for s in stamps])
    values = np.where((local_h >= 8) & (local_h < 17), 100.0, 20.0)
    series = UniformSeries(start=start, step_s=900.0, values=values)
    at = midnight(day) - timedelta(hours=12)
    foreseen = HistoryForecaster(site, {"critical": series}, {}).forecast(
        TimeGrid.uniform(at, 900.0, 192), at
    )
    actual = values[round((at - start).total_seconds() / 900.0) :][:192]
    np.testing.assert_allclose(foreseen.load_kw["critical"], actual, atol=1e-9)


COLUMNS = (*(f"load.{f}" for f in LOAD), "pv.pv1")
LEAP = "2016-12-31T23:59:60Z"


def test_leap_second_in_a_file_or_a_question_is_refused_by_name_and_breaks_nothing(
    tmp_path: Path, small: Site
):
    file = tmp_path / "forecast.csv"
    file.write_text(f"time,{','.join(COLUMNS)}\n2016-12-31T23:45:00Z,1,1,1,1\n{LEAP},2,2,2,2\n")
    with pytest.raises(DataError, match=r"forecast\.csv:3.*23:59:60Z.*allowed: ISO 8601"):
        CsvForecaster(small, file)
    with pytest.raises(QueryRefusedError):
        parse_time("start", LEAP)


def repeated(fault: Fault, at: datetime, t_s: float) -> datetime:
    """The kernel shows 23:59:59 twice: from then on the clock is a second behind, as UTC is."""
    return at - timedelta(seconds=1.0)


def smeared(fault: Fault, at: datetime, t_s: float) -> datetime:
    """A time server stretches the seconds of ten minutes instead."""
    return at - timedelta(seconds=min(1.0, (t_s - fault.from_s) / 100.0))


@pytest.mark.parametrize("kind", [repeated, smeared])
def test_leap_second_leaves_plan_followed_and_every_record_its_own_time(small: Site, kind):
    start = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
    r = Rig(small, load_kw=LOAD, controller="plan", options=RigOptions(start=start, horizon_s=900.0))
    entry = Entry(name="leap", layer=Layer.CLOCK, utc=kind, does="a second is inserted")
    r.clock._faults.append((Fault(kind="leap", from_s=60.0), entry))
    plan = plan_of(small, bess_kw=[50.0] * 8, load_kw=200.0, start=start)
    r.at(5.0, lambda x: x.publish(plan)).run(200.0)
    assert r.held(lambda row: row.decisions.source is Source.PLAN, 10.0)
    assert not r.events("utc.state.changed")
    stamps = [row.snapshot.at for row in r.rows()]
    assert all(a < b for a, b in pairwise(stamps))
    assert abs(stamps[-1] - r.clock.now()) < timedelta(seconds=0.01)


def test_leap_second_record_time_waits_and_then_is_that_of_the_clock():
    memory, at = UtcMemory(), datetime(2026, 12, 31, 23, 59, 58, tzinfo=UTC)
    given = []
    for t_s in range(5):
        wall = at + timedelta(seconds=t_s if t_s < 2 else t_s - 1)
        memory, record, state = record_time(memory, wall, float(t_s), True)
        assert state is UtcState.VALID
        given.append((record - at).total_seconds())
    assert given == pytest.approx([0.0, 1.0, 1.001, 2.0, 3.0], abs=1e-3)
