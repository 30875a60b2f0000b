"""Billing intervals that do not end where steps of a plan do."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from ems.timegrid import TimeGrid
from optimizer import Case, Grid, Load, Planner, solve_case
from optimizer.billed import billed
from tests.unit.optimizer.posing import EXACT, T0, Pose, feeder, small_site


@pytest.mark.parametrize("seed", range(40))
def test_the_highest_interval_is_that_of_its_minutes(seed: int):
    """Whole minutes, any start, any steps: the dearest whole billing interval, minute by minute."""
    rng = np.random.default_rng(seed)
    billing_s = 60 * int(rng.choice([5, 10, 15, 20, 30, 60]))
    minutes = rng.choice([5, 7, 10, 15, 30, 45, 60], int(rng.integers(2, 9)))
    start = T0 + timedelta(minutes=int(rng.integers(0, 60)))
    grid = TimeGrid(start=start, step_s=tuple(60.0 * float(x) for x in minutes))
    kw = rng.uniform(0.0, 100.0, len(minutes))
    found = billed(grid, billing_s)
    means = found.totals(kw) / found.hours_billed(billing_s / 3600.0)
    by_minute = np.repeat(kw, minutes)
    slots = (start.timestamp() + 60.0 * np.arange(len(by_minute))) // billing_s
    expected = [by_minute[slots == k].sum() * 60.0 / billing_s for k in np.unique(slots)]
    assert means.max() == pytest.approx(max(expected), rel=1e-9)
    assert found.count <= len(expected)
    assert all(found.of_step[t] in found.row[found.step == t] for t in range(len(minutes)))


@pytest.mark.parametrize("billing_min", [5, 10, 15, 20, 30, 60])
def test_a_flat_load_has_its_own_peak_whatever_the_billing_interval(billing_min: int):
    """100 kW all the time is a demand of 100 kW, in quarters of an hour too."""
    site = small_site(feeders=[feeder("load", 10.0)], demand_per_kw=2.0, billing_s=60.0 * billing_min)
    pose = Pose(site=site, load_kw={"load": 100.0}, steps=8, step_s=900.0)
    assert pose.plan().peak_import_kw == pytest.approx(100.0, abs=1e-6)


@pytest.mark.parametrize("billing_min", [5, 10, 15, 20, 30])
def test_the_open_interval_goes_on_for_what_is_left_of_it(billing_min: int):
    """At 7 minutes past, with 100 kW so far, a first step to the quarter: still 100 kW."""
    site = small_site(feeders=[feeder("load", 10.0)], demand_per_kw=2.0, billing_s=60.0 * billing_min)
    at, gone_s = T0 + timedelta(minutes=7), 60.0 * (7 % billing_min)
    pose = Pose(site=site, load_kw={"load": 100.0}, steps=4, at=at)
    forecast = replace(pose.forecast(), grid=TimeGrid(start=at, step_s=(480.0, 900.0, 900.0, 900.0)))
    condition = replace(
        pose.condition(), interval_import_kwh=100.0 * gone_s / 3600.0, interval_elapsed_s=gone_s
    )
    plan = Planner(site, EXACT).plan(condition, forecast, None, 1)
    assert plan.grid_p_kw == pytest.approx([100.0] * 4, abs=1e-6)  # nothing is shed for a peak that is none
    assert plan.peak_import_kw == pytest.approx(100.0, abs=1e-6)


@pytest.mark.parametrize("left_s", [10.0, 30.0, 59.0, 61.0])
def test_a_first_step_joined_over_the_end_of_an_interval_counts_what_was_before_once(left_s: float):
    """Some seconds before the quarter, with 100 kW so far: the first step is joined with the next."""
    site = small_site(feeders=[feeder("load", 10.0)], demand_per_kw=2.0, billing_s=900.0)
    at = T0 + timedelta(seconds=900.0 - left_s)
    planner = Planner(site, replace(EXACT, blocks=((900.0, 4),)))
    grid = planner.horizon(at)
    assert (grid.step_s[0] > 900.0) == (left_s < 60.0)
    pose = Pose(site=site, load_kw={"load": 100.0}, steps=len(grid), at=at)
    gone_s = 900.0 - left_s
    condition = replace(
        pose.condition(), interval_import_kwh=100.0 * gone_s / 3600.0, interval_elapsed_s=gone_s
    )
    plan = planner.plan(condition, replace(pose.forecast(), grid=grid), None, 1)
    assert plan.peak_import_kw == pytest.approx(100.0, abs=1e-6)


def test_steps_of_a_case_may_cross_the_end_of_a_billing_interval():
    """150 kW in the first half hour, 200 in every other; the middle step lies in both."""
    grid = Grid(demand_per_kw=10.0, billing_interval_h=0.5)
    done = solve_case(Case(steps=3, step_h=(0.25, 0.75, 1.0), grid=grid, loads=(Load(kw=(100, 200, 100)),)))
    assert done.objective == pytest.approx(2000.0)
    assert done.peak_kw == pytest.approx(200.0)
