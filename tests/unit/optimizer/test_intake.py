"""What comes in: refused or repaired by a declared rule, and named."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from ems.errors import DataError
from ems.outage import OutageNotice
from ems.site import GridMode
from ems.timegrid import TimeGrid
from optimizer import Planner
from optimizer.horizon import planning_grid
from optimizer.intake import planning_problem
from optimizer.options import DemandWeight, PlannerOptions
from optimizer.problem import PlanningProblem
from tests import builders
from tests.unit.optimizer.posing import T0, Pose, outage

DEFAULT = PlannerOptions()
BLOCKS = DEFAULT.blocks


def pose(**changes: Any) -> Pose:
    base = Pose(
        site=builders.site(),
        load_kw={"critical": [60.0] * 8},
        pv_kw={"pv1": [100.0] * 8},
        steps=8,
        step_s=900.0,
    )
    return replace(base, **changes)


def problem(p: Pose, options: PlannerOptions = DEFAULT) -> PlanningProblem:
    return planning_problem(p.site, p.condition(), p.forecast(), options)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"load_kw": {"critical": [60.0, np.nan, *[60.0] * 6]}},
            r"load_kw\[critical\] is nan in the step of .*00:15",
        ),
        ({"pv_kw": {"pv1": [np.inf] * 8}}, r"pv_kw\[pv1\] is inf"),
        ({"import_per_kwh": [np.nan] * 8}, "import_per_kwh is nan"),
        ({"soc": float("nan")}, "bess1: state of charge is nan"),
        ({"gensets_now": {"gen1": {"age_s": -5.0}}}, "gen1: age is -5"),
    ],
)
def test_intake_number_that_is_none_is_refused_by_name(change: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        problem(pose(**change))


def test_intake_wrong_length_missing_series_and_wrong_time_are_refused() -> None:
    p = pose()
    condition, forecast = p.condition(), p.forecast()
    short = replace(forecast, load_kw={**forecast.load_kw, "essential": np.ones(5)})
    with pytest.raises(DataError, match=r"essential.*shape \(5,\).*8 steps"):
        planning_problem(p.site, condition, short, DEFAULT)
    with pytest.raises(DataError, match="no series for pv1"):
        planning_problem(p.site, condition, replace(forecast, pv_kw={}), DEFAULT)
    late = replace(forecast, grid=TimeGrid.uniform(T0 + timedelta(hours=3), 900.0, 8))
    with pytest.raises(DataError, match="wrong time or zone"):
        planning_problem(p.site, condition, late, DEFAULT)


def test_intake_negative_and_impossible_values_are_repaired_with_a_note() -> None:
    p = problem(pose(load_kw={"critical": [-3.0, *[60.0] * 7]}, pv_kw={"pv1": [710.0] * 8}, soc=0.05))
    assert p.load_kw[0, 0] == 0.0
    assert p.pv_kw[0].max() == 600.0
    assert p.bess[0].stored_kwh == pytest.approx(50.0), "energy that is not there is not made up"
    notes = " | ".join(p.notes)
    for part in ("critical: 1 negative", "pv1: 8 values", "bess1: SoC 0.050 lies outside its window"):
        assert part in notes


def test_intake_running_genset_that_is_not_available_is_planned_without() -> None:
    p = problem(pose(gensets_now={"gen1": {"available": False, "on_load": True}}))
    assert not p.gensets[0].available
    assert "gen1: reported on load but not available, planned without it" in p.notes


def test_intake_live_limit_below_the_law_is_kept_for_an_hour() -> None:
    p = pose()
    condition = p.condition()
    weak = replace(condition, bess={"bess1": replace(condition.bess["bess1"], p_discharge_kw_max=120.0)})
    limits = planning_problem(p.site, weak, p.forecast(), DEFAULT).bess[0].p_discharge_kw
    assert limits.tolist() == [120.0] * 4 + [500.0] * 4


@pytest.mark.parametrize(
    ("mode", "outages", "expected"),
    [
        (GridMode.GRID_TIED, (), "11111111"),
        (GridMode.GRID_TIED, (outage(2, 3, 900.0),), "11001111"),
        # any overlap counts, a few seconds do not
        (GridMode.GRID_TIED, (replace(outage(2, 3, 900.0), end=T0 + timedelta(seconds=3700)),), "11000111"),
        (GridMode.GRID_TIED, (replace(outage(2, 3, 900.0), end=T0 + timedelta(seconds=3605)),), "11001111"),
        # what is measured decides the first step
        (GridMode.GRID_TIED, (outage(0, 3, 900.0),), "10001111"),
        (GridMode.ISLANDED, (outage(0, 3, 900.0),), "00001111"),
        # nobody announced it: four hours from now, beyond these two
        (GridMode.ISLANDED, (), "00000000"),
        (GridMode.BLACK, (), "00000000"),
        (GridMode.GRID_TIED, (replace(outage(2, 3, 900.0), cancelled=True),), "11111111"),
        (GridMode.GRID_TIED, (replace(outage(2, 3, 900.0), issued_at=T0 + timedelta(hours=1)),), "11111111"),
    ],
)
def test_grid_availability_follows_notices_and_the_present(
    mode: GridMode, outages: Any, expected: str
) -> None:
    p = problem(pose(mode=mode, outages=outages))
    assert "".join(str(int(x)) for x in p.grid_available) == expected


def test_island_with_good_mains_lasts_its_reconnection_dwell() -> None:
    """A plan made in the dwell reckoned with hours more, and started a genset as the grid came back."""
    back = pose(mode=GridMode.ISLANDED, mains_good=True)
    assert problem(back).grid_available.tolist() == [False] + [True] * 7
    grid = Planner(back.site, DEFAULT).horizon(T0, condition=back.condition())
    assert grid.step_s[:3] == (60.0, 840.0, 900.0)


def test_commitment_is_whole_through_the_last_announced_outage() -> None:
    late = OutageNotice(
        id="late", issued_at=T0, start=T0 + timedelta(hours=30), end=T0 + timedelta(hours=33)
    )  # fmt: skip
    grid = planning_grid(T0, BLOCKS)
    p = pose(steps=len(grid), outages=(late,), load_kw={}, pv_kw={})
    forecast = replace(p.forecast(), grid=grid)
    whole = planning_problem(p.site, p.condition(), forecast, DEFAULT).integral
    ends_h = grid.offset_s[1:] / 3600.0
    assert whole.tolist() == (ends_h <= 33.0).tolist()
    calm = planning_problem(p.site, p.condition(), replace(forecast, outages=()), DEFAULT).integral
    assert calm.tolist() == (ends_h <= 24.0).tolist()
    for head_h, least_h in (
        (6.0, 6.0),
        (0.0, 0.25),
    ):  # a study that plans every hour; the first step always is
        brief = replace(DEFAULT, integral_h=head_h, integral_outages=False)
        assert (
            planning_problem(p.site, p.condition(), forecast, brief).integral.tolist()
            == (ends_h <= least_h).tolist()
        )


@pytest.mark.parametrize(
    ("weight", "share"),
    [
        (DemandWeight.FULL, 1.0),
        (DemandWeight.REMAINING, 2.0 / (29.875 * 24)),
        (DemandWeight.ELAPSED, 29.0 / 744),
    ],
)
def test_demand_charge_is_weighted_by_the_chosen_rule(weight: DemandWeight, share: float) -> None:
    """2 March 03:00 local: 27 h of 744 are gone, a window of two hours."""
    months = problem(pose(), PlannerOptions(demand_weight=weight)).months
    assert months[0].rate_per_kw == pytest.approx(9.0 * share)


def test_demand_target_is_free() -> None:
    months = problem(pose(peak_kw=50.0), PlannerOptions(demand_target_kw=120.0)).months
    assert months[0].base_kw == 120.0


def test_horizon_on_the_hour_is_the_blocks() -> None:
    grid = planning_grid(T0, BLOCKS)
    assert grid.step_s == TimeGrid.blocks(T0, BLOCKS).step_s
    assert sum(grid.step_s) == 48 * 3600.0


def test_horizon_off_the_hour_is_aligned_to_the_clock_and_to_outages() -> None:
    start = T0 + timedelta(hours=10, minutes=7, seconds=20)
    grid = planning_grid(start, BLOCKS)
    assert grid.step_s[:2] == (460.0, 900.0)
    starts = grid.starts()
    for step_s, when in zip(grid.step_s[1:], starts[1:], strict=True):
        assert when.timestamp() % step_s == 0.0
    assert grid.end >= start + timedelta(hours=48)
    odd = OutageNotice(
        id="odd", issued_at=T0, start=T0 + timedelta(hours=40, minutes=10), end=T0 + timedelta(hours=41)
    )
    assert odd.start in planning_grid(start, BLOCKS, (odd,)).starts()


def test_horizon_never_begins_with_a_sliver() -> None:
    grid = planning_grid(T0 + timedelta(minutes=14, seconds=30), BLOCKS)
    assert grid.step_s[0] == 930.0
