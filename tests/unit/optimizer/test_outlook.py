"""The month's demand target: right by hand, made once a day, and felt by a plan."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from ems.forecast import Forecast
from ems.outage import OutageNotice
from ems.tariff import EnergyBlock
from ems.timegrid import TimeGrid
from optimizer.options import DemandWeight, PlannerOptions
from optimizer.outlook import OutlookKeeper, month_end, month_outlook, outlook_grid
from optimizer.rolling import Planner
from tests.unit.optimizer.posing import EXACT, T0, Pose, feeder, ideal_bess, small_site

DAY = np.array([10.0] * 18 + [30.0] * 2 + [10.0] * 4)  # kW by hour of day, UTC
TARGET = replace(EXACT, demand_weight=DemandWeight.TARGET)


class Typical:
    """A forecaster that knows one day; it counts how often it is asked."""

    def __init__(self, day_kw=DAY, outages: tuple[OutageNotice, ...] = ()) -> None:
        self.day_kw, self.outages, self.asked = day_kw, outages, 0

    def forecast(self, grid: TimeGrid, issued_at: datetime) -> Forecast:
        self.asked += 1
        hour = np.array([s.hour for s in grid.starts()])
        return Forecast(
            grid=grid, issued_at=issued_at, data_cutoff=issued_at, source="test",
            load_kw={"load": self.day_kw[hour]}, pv_kw={}, import_per_kwh=np.full(len(grid), 0.2),
            export_per_kwh=np.zeros(len(grid)), outages=self.outages,
        )  # fmt: skip


def plant(energy_kwh: float = 20.0, demand_per_kw: float = 10.0):
    bess = ideal_bess(energy_kwh=energy_kwh, p_charge_kw_max=50.0, p_discharge_kw_max=50.0)
    return small_site(bess=[bess], feeders=[feeder("load", 50.0)], demand_per_kw=demand_per_kw)


def pose(**changes) -> Pose:
    return replace(Pose(site=plant(), soc=1.0, at=datetime(2026, 3, 2, tzinfo=UTC)), **changes)


def test_month_end_is_local_midnight_and_crosses_the_year() -> None:
    new_york = "America/New_York"
    assert month_end(datetime(2026, 4, 1, 3, tzinfo=UTC), new_york) == datetime(2026, 4, 1, 4, tzinfo=UTC)
    assert month_end(datetime(2026, 12, 9, tzinfo=UTC), new_york).astimezone(ZoneInfo(new_york)).year == 2027


@pytest.mark.parametrize(("day", "end_month"), [(2, 4), (28, 4), (29, 5)])
def test_outlook_grid_reaches_to_the_end_of_the_month_a_window_may_end_in(day: int, end_month: int) -> None:
    at = datetime(2026, 3, day, 5, 10, tzinfo=UTC)
    grid = outlook_grid(at, "UTC")
    assert grid.start == at
    assert grid.step_s[0] == 3000.0
    assert grid.end == datetime(2026, end_month, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("so_far", "energy_kwh", "target"),
    [(0.0, 20.0, 20.0), (25.0, 20.0, 25.0), (0.0, 0.1, 29.95), (0.0, 90.0, 35 / 3)],
)
def test_target_is_what_the_battery_can_make_of_a_typical_day(so_far, energy_kwh, target) -> None:
    """Two hours of 30 kW a day above 10 kW: 20 kWh take them to 20 kW, 90 kWh to the mean, 280/24 kW."""
    p = pose(site=plant(energy_kwh), peak_kw=so_far, soc=0.5)
    found = month_outlook(p.site, p.condition(), Typical().forecast(outlook_grid(p.at, "UTC"), p.at))
    assert found.peak_kw == pytest.approx({"2026-03": target}, rel=1e-2)
    assert found.import_kw.max() <= found.peak_kw["2026-03"] + 1e-3
    assert "demand target" in found.words("2026-03")


def test_target_counts_announced_outages() -> None:
    """No mains in the two hours of the only day left: nothing of the 30 kW is imported."""
    at = datetime(2026, 3, 28, 0, tzinfo=UTC)
    lost = OutageNotice(
        id="o", issued_at=at, start=at + timedelta(hours=18), end=at + timedelta(hours=20)
    )  # fmt: skip
    p = pose(at=at, site=plant(0.1))
    grid = TimeGrid.uniform(at, 3600.0, 24)
    with_outage = month_outlook(p.site, p.condition(), Typical(outages=(lost,)).forecast(grid, at))
    without = month_outlook(p.site, p.condition(), Typical().forecast(grid, at))
    assert with_outage.peak_kw["2026-03"] < 11.0 < 29.0 < without.peak_kw["2026-03"]


def test_keeper_solves_once_a_local_day_and_only_where_it_is_wanted() -> None:
    known, p = Typical(), pose()
    wanted = PlannerOptions(demand_weight=DemandWeight.TARGET)
    keeper = OutlookKeeper(p.site, known, wanted)
    first = keeper.at(p.at, p.condition())
    assert keeper.at(p.at + timedelta(hours=23), p.condition()) is first
    assert keeper.at(p.at + timedelta(hours=24), p.condition()) is not first
    assert known.asked == 2
    for site, options in (
        (plant(demand_per_kw=0.0), wanted),
        (p.site, PlannerOptions()),
        (p.site, replace(wanted, demand_target_kw=100.0)),
    ):
        assert OutlookKeeper(site, known, options).at(p.at, p.condition()) is None
    assert known.asked == 2
    blocks = (EnergyBlock(up_to_kwh=None, add_per_kwh=0.1),)
    tiered = replace(p.site, tariff=replace(p.site.tariff, energy_blocks=blocks))
    assert OutlookKeeper(tiered, known, PlannerOptions()).at(p.at, p.condition()) is not None


def test_plan_is_free_up_to_the_target_and_pays_the_whole_rate_above() -> None:
    """An hour of 30 kW, 5 kWh stored that are worth 1 a kWh later; a kW of peak costs 10.

    The month reaches 20 kW anyway: the battery holds 25 kW, and 5 kW above the target cost 50. Had the target
    been 26 kW, it would hold that and keep 1 kWh.
    """
    p = pose(site=plant(5.0), load_kw={"load": [30.0]}, import_per_kwh=0.2, steps=1)
    for day_kw, import_kw, paid in ((np.full(24, 20.0), 25.0, 50.0), (np.full(24, 26.0), 26.0, 0.0)):
        outlook = month_outlook(
            p.site, p.condition(), Typical(day_kw).forecast(outlook_grid(p.at, "UTC"), p.at)
        )
        options = replace(TARGET, terminal_per_kwh=(1.0, 1.0, 1.0))
        plan = Planner(p.site, options).plan(p.condition(), p.forecast(), None, 1, outlook)
        assert plan.grid_p_kw[0] == pytest.approx(import_kw, abs=1e-2)
        assert plan.cost_terms["demand"] == pytest.approx(paid, abs=0.1)
        assert any(
            note.startswith(f"demand target {outlook.peak_kw['2026-03']:.0f} kW") for note in plan.notes
        )


def test_without_an_outlook_the_weight_is_the_rest_of_the_month() -> None:
    p = pose(load_kw={"load": [30.0]}, steps=1, at=T0)
    options = {w: replace(EXACT, demand_weight=w) for w in (DemandWeight.TARGET, DemandWeight.REMAINING)}
    costs = [p.plan(o).cost_terms["demand"] for o in options.values()]
    assert costs[0] == pytest.approx(costs[1])
    assert costs[0] < 1.0


def test_an_outlook_that_fails_is_said_in_the_notes() -> None:
    p = pose(load_kw={"load": [30.0]}, steps=1)
    bad = Typical(np.full(24, np.nan)).forecast(outlook_grid(p.at, "UTC"), p.at)
    outlook = month_outlook(p.site, p.condition(), bad)
    plan = Planner(p.site, TARGET).plan(p.condition(), p.forecast(), None, 1, outlook)
    assert any("no demand target for 2026-03: bound: load of load" in note for note in plan.notes)
