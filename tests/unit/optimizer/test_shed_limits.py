"""How often and how long a feeder is shed: by hand, carried over, said where missed."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from ems.condition import FeederUse
from ems.plan import Plan
from ems.site import GridMode
from optimizer.formulation import Shedding
from optimizer.intake import planning_problem
from optimizer.options import PlannerOptions
from optimizer.rolling import Planner
from optimizer.validate import validate
from tests.unit.optimizer.posing import EXACT, T0, Pose, feeder, outage, small_genset, small_site

WHOLE = replace(EXACT, formulation=replace(EXACT.formulation, shedding=Shedding.WHOLE))


def pose(steps: int = 4, **limits: Any) -> Pose:
    """20 kW of genset for two feeders of 20 kW: one of them is shed, the first for less."""
    first = replace(feeder("first", 2.0, peak_kw=20.0), shed_min_s=0.0, served_min_s=0.0, **limits)
    second = replace(feeder("second", 3.0, peak_kw=20.0), shed_min_s=0.0, served_min_s=0.0)
    genset = small_genset(p_rated_kw=20.0, p_min_kw=0.0, fuel_kw=(0.0, 20.0), fuel_l_h=(0.0, 2.0))
    site = small_site(feeders=[first, second], gensets=[genset], diesel_per_l=0.001)
    return Pose(
        site=site, load_kw={"first": 20.0, "second": 20.0}, steps=steps, mode=GridMode.ISLANDED,
        outages=(outage(0, steps - 1),), gensets_now={"gen1": {"on_load": True}},
    )  # fmt: skip


def plan_of(posed: Pose, use: FeederUse | None = None, options: PlannerOptions = WHOLE) -> Plan:
    condition = posed.condition()
    if use is not None:
        condition = replace(condition, feeder_use={"first": use})
    plan = Planner(posed.site, options).plan(condition, posed.forecast(), None, 1)
    assert plan.solve.rescue == "none", plan.solve.rescue
    assert sum(plan.cost_terms.values()) == pytest.approx(plan.solve.objective)
    return plan


def hours_of(plan: Plan) -> tuple[float, float]:
    return tuple(float(np.sum(plan.shed_kw[f])) / 20.0 for f in ("first", "second"))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("limits", "hours", "unserved"),
    [
        ({}, (4.0, 0.0), 160.0),
        ({"shed_per_day_s_max": 7200.0}, (2.0, 2.0), 200.0),
        ({"shed_stretch_s_max": 3600.0}, (2.0, 2.0), 200.0),  # turn by turn
        ({"shed_stretch_s_max": 10800.0}, (3.0, 1.0), 180.0),
        ({"shed_stretch_s_max": 3600.0, "sheds_per_day_max": 1}, (1.0, 3.0), 220.0),
    ],
)
def test_another_feeder_takes_its_turn(
    limits: dict[str, Any], hours: tuple[float, float], unserved: float
) -> None:
    plan = plan_of(pose(**limits))
    assert hours_of(plan) == pytest.approx(hours)
    assert plan.cost_terms["unserved"] == pytest.approx(unserved)
    assert not plan.missed


@pytest.mark.parametrize(
    ("limits", "use", "is_open", "hours"),
    [
        ({"shed_per_day_s_max": 7200.0}, FeederUse(open_s=5400.0), False, (0.0, 4.0)),
        ({"shed_per_day_s_max": 7200.0}, FeederUse(open_s=3600.0), False, (1.0, 3.0)),
        ({"shed_stretch_s_max": 10800.0}, FeederUse(stretch_s=7200.0, sheds=1), True, (3.0, 1.0)),
        ({"shed_stretch_s_max": 10800.0}, FeederUse(stretch_s=7200.0, sheds=1), False, (3.0, 1.0)),
    ],
)
def test_what_was_shed_before_counts(
    limits: dict[str, Any], use: FeederUse, is_open: bool, hours: tuple[float, float]
) -> None:
    posed = replace(pose(**limits), feeders_open=("first",) if is_open else ())
    plan = plan_of(posed, use)
    assert hours_of(plan) == pytest.approx(hours)
    if is_open:
        assert plan.shed_kw["first"] == pytest.approx((20.0, 0.0, 20.0, 20.0))


@pytest.mark.parametrize(("steps", "hours"), [(1, (0.0, 1.0)), (4, (4.0, 0.0))])
def test_an_opening_too_many_costs_an_hour_of_the_feeder(steps: int, hours: tuple[float, float]) -> None:
    """Instead of 40 for the opening: 20 an hour for the dearer feeder."""
    plan = plan_of(pose(steps, sheds_per_day_max=2), FeederUse(sheds=2))
    assert hours_of(plan) == pytest.approx(hours)
    said = "first: shed 1 times more than its 2 a day" in plan.notes
    assert said is (steps == 4)


def test_a_new_day_counts_anew() -> None:
    """From 22:00 in Berlin, two hours of today are used up and two of tomorrow are free."""
    posed = pose(shed_per_day_s_max=7200.0)
    site = replace(posed.site, tariff=replace(posed.site.tariff, timezone="Europe/Berlin"))
    posed = replace(posed, site=site, at=T0 - timedelta(hours=3), outages=())
    plan = plan_of(posed, FeederUse(open_s=7200.0))
    assert plan.shed_kw["first"] == pytest.approx((0.0, 0.0, 20.0, 20.0))


def test_a_limit_that_must_be_missed_is_missed_by_name() -> None:
    """Nothing runs: both feeders are shed all the time, whatever was agreed."""
    posed = replace(
        pose(shed_per_day_s_max=3600.0, shed_stretch_s_max=7200.0), gensets_now={"gen1": {"available": False}}
    )
    plan = plan_of(posed)
    assert hours_of(plan) == pytest.approx((4.0, 4.0))
    assert "first: shed 3.00 h longer than its 1 h a day" in plan.notes
    assert "first: shed 2.00 h beyond its 2 h at a stretch" in plan.notes
    assert plan.cost_terms["sheds_over"] == pytest.approx((3.0 + 2.0) * 40.0)


@pytest.mark.parametrize(
    ("limits", "check"),
    [
        ({"shed_per_day_s_max": 7200.0}, "shed_per_day"),
        ({"shed_stretch_s_max": 7200.0}, "shed_stretch"),
        ({"sheds_per_day_max": 1}, "sheds_per_day"),
    ],
)
def test_the_replay_refuses_what_is_not_said(limits: dict[str, Any], check: str) -> None:
    posed = pose(5)
    plan = plan_of(posed)
    shed = (20.0, 20.0, 20.0, 0.0, 20.0)
    plan = replace(plan, shed_kw={"first": shed, "second": tuple(20.0 - x for x in shed)})
    changed = pose(5, **limits)
    p = planning_problem(changed.site, changed.condition(), changed.forecast(), WHOLE)
    p = replace(p, shed_whole=np.ones(5, dtype=np.bool_))
    assert any(f.startswith(check) for f in validate(plan, p).faults)
