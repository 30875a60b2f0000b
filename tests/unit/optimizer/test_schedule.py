"""Maintenance, quiet hours and starts of a day, in plans of a site."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ems.assets import QuietHours
from ems.site import GridMode, Maintenance
from ems.timegrid import TimeGrid
from optimizer.schedule import blocked_steps, hours_to_midnight, quiet_cost
from tests.unit.optimizer.posing import T0, Pose, feeder, objective, small_genset, small_site


def island(**unit: Any) -> Pose:
    """50 kW in an island for four hours, one genset at 0.3 per kWh; lost load at 10."""
    site = small_site(gensets=[small_genset(**unit)], feeders=[feeder("load", 10.0)], diesel_per_l=0.3)
    return Pose(site=site, load_kw={"load": [50.0] * 4}, mode=GridMode.ISLANDED)


def maintained(pose: Pose, first_h: float, last_h: float) -> Pose:
    window = Maintenance(asset="gen1", start=T0 + timedelta(hours=first_h), end=T0 + timedelta(hours=last_h))
    return replace(pose, site=replace(pose.site, maintenance=(window,)))


def test_a_genset_does_not_run_in_a_step_that_maintenance_overlaps():
    """From 1:30 to 2:10: the second and third hour are lost."""
    plan = maintained(island(), 1.5, 2.0 + 1 / 6).plan()
    assert list(plan.genset_on["gen1"]) == [1, 0, 0, 1]
    assert objective(plan) == pytest.approx(2 * 15.0 + 2 * 500.0)


def test_a_minimum_time_goes_before_maintenance():
    """On for an hour of three: it must stay through the second hour although work begins in the first."""
    pose = maintained(island(min_up_s=3 * 3600.0), 0.5, 4.0)
    plan = replace(pose, gensets_now={"gen1": {"on_load": True, "age_s": 3600.0}}).plan()
    assert list(plan.genset_on["gen1"]) == [1, 1, 0, 0]


def test_quiet_hours_are_a_price_and_no_ban():
    """From 1:00 to 3:00 an hour costs 7 more: beside a grid at 0.4 the genset rests, islanded it runs."""
    pose = island(quiet=(QuietHours(start_h=1.0, end_h=3.0, cost_per_h=7.0),))
    pose = replace(pose, site=replace(pose.site, timezone="UTC"))
    tied = replace(pose, mode=GridMode.GRID_TIED, import_per_kwh=0.4).plan()
    assert list(tied.genset_on["gen1"]) == [1, 0, 0, 1]
    alone = pose.plan()
    assert list(alone.genset_on["gen1"]) == [1, 1, 1, 1]
    assert alone.cost_terms["quiet"] == pytest.approx(14.0)


@pytest.mark.parametrize(("made", "starts"), [(0, 2), (1, 1), (2, 0)])
def test_starts_of_today_count(made: int, starts: int):
    """Grid at 0.1, twice at 0.5 for an hour: each start saves 10 less 1 for itself, two are allowed a day."""
    pose = replace(
        island(starts_per_day_max=2, start_cost=1.0),
        mode=GridMode.GRID_TIED,
        import_per_kwh=(0.1, 0.5, 0.1, 0.5),
        gensets_now={"gen1": {"starts_today": made}},
    )
    on = pose.plan().genset_on["gen1"]
    assert on == {2: (0, 1, 0, 1), 1: (0, 1, 1, 1), 0: (0, 0, 0, 0)}[starts]


def test_starts_of_today_are_forgotten_at_local_midnight():
    """Two were made today; at 22:00 local the plan may start again from its third hour on."""
    pose = island(starts_per_day_max=2)
    at = datetime(2026, 3, 2, 19, 0, tzinfo=UTC)  # 22:00 in Nairobi
    pose = replace(
        pose,
        site=replace(pose.site, timezone="Africa/Nairobi"),
        at=at,
        mode=GridMode.GRID_TIED,
        import_per_kwh=0.5,
        gensets_now={"gen1": {"starts_today": 2}},
    )
    assert pose.plan().genset_on["gen1"] == (0, 0, 1, 1)


def test_quiet_cost_is_by_local_time_and_over_midnight():
    grid = TimeGrid.uniform(datetime(2026, 3, 2, 18, 0, tzinfo=UTC), 1800.0, 6)  # 21:00 in Nairobi
    hours = (
        QuietHours(start_h=22.0, end_h=6.0, cost_per_h=4.0),
        QuietHours(start_h=23.25, end_h=24.0, cost_per_h=8.0),
    )
    assert quiet_cost(hours, grid, ZoneInfo("Africa/Nairobi")) == pytest.approx((0, 0, 2, 2, 3, 4))
    assert quiet_cost((), grid, ZoneInfo("UTC")) == ()


def test_maintenance_of_others_and_of_other_days_blocks_nothing():
    grid = TimeGrid.uniform(T0, 3600.0, 4)
    other = Maintenance(asset="gen2", start=T0, end=T0 + timedelta(hours=1))
    past = Maintenance(asset="gen1", start=T0 - timedelta(hours=1), end=T0)
    assert blocked_steps("gen1", (other, past), grid) == ()


@pytest.mark.parametrize(
    ("at", "hours"),
    [
        (datetime(2026, 3, 2, 20, 30, tzinfo=UTC), 2.5),
        (datetime(2026, 3, 28, 23, 0, tzinfo=UTC), 23.0),  # the night of the change to summer time
        (datetime(2026, 10, 24, 22, 0, tzinfo=UTC), 25.0),
    ],
)
def test_hours_to_midnight_know_the_days_the_clocks_change(at: datetime, hours: float):
    assert hours_to_midnight(at, ZoneInfo("Europe/Berlin")) == pytest.approx(hours)


def test_a_start_in_progress_goes_before_maintenance_with_its_minimum_time():
    """A crank under way with work due in an hour once made the plan infeasible: it runs its three hours."""
    pose = maintained(island(min_up_s=3 * 3600.0), 1.5, 4.0)
    cranking = {"starting": True, "ready_in_s": 30.0, "age_s": 4000.0}
    plan = replace(pose, gensets_now={"gen1": cranking}).plan()
    assert list(plan.genset_on["gen1"]) == [1, 1, 1, 0]
