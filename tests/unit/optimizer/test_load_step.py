"""Feeders that close onto an island: no larger a step than the sources accept, by hand and replayed."""

from dataclasses import replace
from typing import Any

import pytest

from ems.site import GridMode
from optimizer.formulation import Shedding
from optimizer.intake import planning_problem
from optimizer.validate import validate
from tests.unit.optimizer.posing import (
    EXACT,
    PLAIN,
    Pose,
    feeder,
    ideal_bess,
    objective,
    small_genset,
    small_site,
)

WHOLE = replace(EXACT, formulation=replace(PLAIN, shedding=Shedding.WHOLE))


def posed(units: int = 2, asked: bool = True, **second: Any) -> Pose:
    """50 kW served, 40 of a feeder of 80 kW open; sets of 100 kW take 60 kW at once; lost load at 10."""
    sets = [small_genset("gen1", step_load_kw_max=60.0, p_min_kw=10.0)]
    sets += [small_genset("gen2", step_load_kw_max=60.0, p_min_kw=10.0, **second)] * (units - 1)
    feeders = [replace(feeder("on", 20.0, tier=1), has_breaker=False), feeder("off", 10.0, peak_kw=80.0)]
    site = small_site(gensets=sets, feeders=feeders, diesel_per_l=0.3)
    site = replace(site, reserve=replace(site.reserve, load_steps=asked))
    return Pose(
        site=site, load_kw={"on": 50.0, "off": 40.0}, steps=3, mode=GridMode.ISLANDED, feeders_open=("off",),
        gensets_now={"gen1": {"on_load": True}},
    )  # fmt: skip


def test_second_set_runs_while_a_feeder_closes_that_one_set_does_not_accept():
    """20 kW short cost 10; an hour of the second set costs 4 for its start and nothing else."""
    plan = posed(start_cost=4.0).plan(WHOLE)
    assert list(plan.genset_on["gen2"]) == [1, 0, 0]
    assert plan.shed_kw["off"] == pytest.approx((0.0, 0.0, 0.0))
    assert plan.cost_terms["load_step_short"] == 0.0
    assert objective(plan) == pytest.approx(0.3 * 270.0 + 4.0)


def test_feeder_closes_all_the_same_where_that_is_dearer_and_it_is_said():
    plan = posed(start_cost=11.0).plan(WHOLE)
    assert sum(plan.genset_on["gen2"]) == 0
    assert plan.cost_terms["load_step_short"] == pytest.approx(0.25 * 2.0 * 20.0)
    assert any("off: closing it at 02 00:00 UTC is a step of load 20 kW larger" in n for n in plan.notes)


@pytest.mark.parametrize("what", ["mains", "battery", "not asked"])
def test_step_is_free_where_something_else_takes_it(what: str):
    pose = posed(units=1, asked=what != "not asked")
    if what == "mains":
        pose = replace(pose, mode=GridMode.GRID_TIED, import_per_kwh=5.0)
    if what == "battery":
        bess = (ideal_bess(p_discharge_kw_max=20.0, energy_kwh=50.0),)
        forming = replace(pose.site.forming, islanded=("bess1", "gen1"))
        pose = replace(pose, site=replace(pose.site, bess=bess, forming=forming))
    plan = pose.plan(WHOLE)
    assert plan.cost_terms.get("load_step_short", 0.0) == 0.0
    assert plan.shed_kw["off"] == pytest.approx((0.0, 0.0, 0.0), abs=1e-6)


def test_replay_refuses_a_plan_that_does_not_pay_for_its_steps():
    pose = posed(start_cost=11.0)
    plan = pose.plan(WHOLE)
    p = planning_problem(pose.site, pose.condition(), pose.forecast(), WHOLE)
    p = replace(p, shed_whole=p.islanded & p.integral)
    assert validate(plan, p).ok
    cheaper = replace(plan, cost_terms={**plan.cost_terms, "load_step_short": 0.0})
    assert [f.split(":")[0] for f in validate(cheaper, p).faults] == ["load_step_short"]
