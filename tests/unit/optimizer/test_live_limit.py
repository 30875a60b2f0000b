"""A genset's live limit in plans: it is kept for the whole window, and others are started in its place."""

from dataclasses import replace

import pytest

from ems.condition import UnitState
from ems.errors import BadValue
from ems.site import GridMode, Site
from optimizer import Planner
from optimizer.explain import Posed, explain
from optimizer.intake import planning_problem
from tests import builders
from tests.unit.optimizer.posing import EXACT, Pose

LOAD_KW = 350.0
DERATED = {"on_load": True, "p_kw": 200.0, "states": (UnitState.DERATED,)}


def island(p_kw_max: float | None) -> Pose:
    """Nothing but two sets of 400 kW, the first on load and held back."""
    site = replace(builders.site(), bess=(), pv=(), gensets=(builders.genset(), builders.genset("gen2")))
    return Pose(
        site=without_reserve(site),
        load_kw={"critical": LOAD_KW},
        mode=GridMode.ISLANDED,
        gensets_now={"gen1": {**DERATED, "p_kw_max": p_kw_max}},
    )


def without_reserve(site: Site) -> Site:
    return replace(site, reserve=replace(site.reserve, load_ratio=0.0, pv_ratio=0.0, assumed_outage_h=1000.0))


def test_derated_set_is_planned_inside_its_limit_and_another_one_started():
    whole, less = island(None).plan(EXACT), island(253.0).plan(EXACT)
    assert whole.genset_p_kw["gen1"] == pytest.approx([LOAD_KW] * 4)
    assert not any(whole.genset_on["gen2"])
    assert max(less.genset_p_kw["gen1"]) <= 252.0 + 1e-6  # whole steps of 1 % of 400 kW
    assert all(less.genset_on["gen2"][1:])
    assert [sum(kw) for kw in zip(*less.genset_p_kw.values(), strict=True)][1:] == pytest.approx(
        [LOAD_KW] * 3
    )
    assert any("gen1: live limit 253 kW, kept for the whole plan" in n for n in less.notes)
    assert not any("live limit" in n for n in whole.notes)


def test_set_that_may_not_even_carry_its_least_load_is_planned_without():
    plan = island(60.0).plan(EXACT)
    assert not any(plan.genset_on["gen1"])
    assert any(
        "gen1: its live limit is below its least load of 120 kW, planned without it" in n for n in plan.notes
    )


def test_planner_follows_the_limit_from_plan_to_plan():
    """One planner, asked in turns: neither the model of the whole set nor that of the weak one sticks."""
    planner = Planner(island(None).site, EXACT)
    most = []
    for limit in (None, 253.0, 253.5, 300.0, None):
        pose = island(limit)
        plan = planner.plan(pose.condition(), pose.forecast(), None, 1)
        assert plan.solve.rescue == "none"
        most.append(max(plan.genset_p_kw["gen1"]))
    assert most[0] == most[-1] == pytest.approx(LOAD_KW)
    assert max(most[1:3]) <= 252.0 + 1e-6
    assert most[3] <= 300.0 + 1e-6


def test_plan_of_a_derated_set_can_be_explained():
    pose = island(253.0)
    posed = Posed(
        site=pose.site, condition=pose.condition(), forecast=pose.forecast(), options=EXACT, outlook=None
    )
    said = explain(posed, pose.plan(EXACT))
    assert {c.asset for c in said.commitments} >= {"gen1", "gen2"}


def test_limit_that_is_no_number_is_refused():
    pose = island(float("nan"))
    with pytest.raises(BadValue, match="gen1 live limit is nan"):
        planning_problem(pose.site, pose.condition(), pose.forecast(), EXACT)
