"""Plans inside a maker's P-Q polygon: answers by hand, the circle's own polygon, random polygons replayed."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ems.capability import Corner, capability_of
from ems.site import GridMode
from optimizer.algebra import Model
from optimizer.build import build
from optimizer.explain.changes import _scaled
from optimizer.intake import planning_problem
from optimizer.intake.battery import REACTIVE_SHARE_MAX
from optimizer.structure import structure_of
from optimizer.validate import validate
from sim.episodes.sites import _bess
from tests.unit.ems.test_capability import around, hull
from tests.unit.optimizer.posing import EXACT, Pose, small_site
from tests.unit.optimizer.test_reactive import BAND, LEAST, SECURE, behind, faults, inductive, pcs, weak_pose

HOUSE = [(-100.0, 0.0), (0.0, -50.0), (120.0, 0.0), (100.0, 40.0), (60.0, 60.0), (-60.0, 60.0)]


def cornered(corners: list[Corner], s_kva: float = 150.0, p_kw: float = 120.0) -> Any:
    unit = pcs(s_kva, p_kw)
    return replace(unit, pcs=replace(unit.pcs, capability=capability_of(corners)))


def island(unit: Any, load_kw: float, **changes: Any) -> Pose:
    """An island that this battery alone carries, full, at power factor 0.8, with its kvar planned."""
    site = behind(small_site(bess=[unit], feeders=[inductive(400.0)]), 0.0, 0.01)
    pose = Pose(site=site, load_kw={"load": load_kw}, mode=GridMode.ISLANDED, soc=1.0)
    return replace(pose, **changes)


def test_optimum_sits_on_the_corner_of_the_maker() -> None:
    """200 kW with 150 kvar: a kWh served is worth 50, a kvarh 25, and each kW brings 0.75 kvar to be missed.

    So (50 - 0.75 x 25) p + 25 q is to be most: its direction (0.78, 0.62) lies between the normals of the
    sides that meet in 100 kW, 40 kvar. The circle of 150 kVA lets the battery give more.
    """
    pose = island(cornered(HOUSE), 200.0)
    plan = pose.plan()
    assert plan.bess_p_kw["bess1"] == pytest.approx([100.0] * 4)
    assert plan.bess_q_kvar["bess1"] == pytest.approx([40.0] * 4)
    assert plan.shed_kw["load"] == pytest.approx([100.0] * 4)
    assert plan.q_short_kvar == pytest.approx([35.0] * 4)
    assert faults(pose, plan) == ""
    bare = replace(pose, site=replace(pose.site, bess=(pcs(150.0, 120.0),)))
    assert min(bare.plan().bess_p_kw["bess1"]) > 115.0
    wrong = replace(plan, bess_q_kvar={"bess1": (40.0, 40.0, 41.0, 40.0)})
    assert "polygon: bess1 outside the corners of its P-Q capability" in faults(pose, wrong)


def test_charging_and_taking_kvar_have_sides_of_their_own() -> None:
    """1.03 pu behind a source at 1.05 and 0.0005 pu per kvar: (1.05 - 1.03) 1.03 / 0.0005 = 41.2 kvar."""
    unit = cornered(HOUSE, p_kw=100.0)
    site = small_site(bess=[unit], feeders=[inductive(power_factor_ratio=1.0)])
    band = replace(BAND, v_poi_max_pu=1.03, v_source_pu=1.05)
    pose = Pose(site=behind(site, 0.0, 0.08, band), load_kw={"load": 10.0}, soc=1.0)
    plan = pose.plan(LEAST)
    assert plan.bess_q_kvar["bess1"] == pytest.approx([-41.2] * 4)
    assert max(plan.bess_p_kw["bess1"]) <= 120.0 * (1.0 - 41.2 / 50.0) + 1e-6
    tight = cornered([(p, max(q, -20.0)) for p, q in HOUSE], p_kw=100.0)
    low = replace(pose, site=replace(pose.site, bess=(tight,))).plan(LEAST)
    assert low.bess_q_kvar["bess1"] == pytest.approx([-20.0] * 4)
    assert min(low.poi_v_short_pu) > 0.005
    pair = zip(plan.bess_p_kw["bess1"], plan.bess_q_kvar["bess1"], strict=True)
    assert all(capability_of(HOUSE).over_kva(p, q) <= 1e-6 for p, q in pair)


@pytest.mark.parametrize("load_kw", [40.0, 70.0, 400.0])
def test_without_planned_kvar_an_island_gets_the_power_that_its_load_leaves(load_kw: float) -> None:
    """75 % of the load as kvar, at most 60 % of the polygon's 60: 120 kW less 1 / 2 kW per kvar up to 40."""
    unit = cornered(HOUSE)
    pose = Pose(
        site=small_site(bess=[unit], feeders=[inductive(400.0)]), load_kw={"load": load_kw},
        mode=GridMode.ISLANDED, soc=1.0,
    )  # fmt: skip
    p = planning_problem(pose.site, pose.condition(), pose.forecast(), EXACT)
    kvar = min(0.75 * load_kw, REACTIVE_SHARE_MAX * 60.0)
    assert p.bess[0].p_discharge_kw == pytest.approx(120.0 - 0.5 * kvar)
    assert p.bess[0].p_charge_kw == pytest.approx(100.0 - 40.0 * kvar / 60.0)
    tied = replace(pose, mode=GridMode.GRID_TIED)
    p = planning_problem(pose.site, tied.condition(), tied.forecast(), EXACT)
    assert (p.bess[0].p_discharge_kw[0], p.bess[0].p_charge_kw[0]) == (120.0, 100.0)


def test_reserve_counts_what_the_polygon_leaves_beside_planned_kvar() -> None:
    """30 kvar leave 105 kW of 120: 65 beside 40 kW of load."""
    pose = island(cornered(HOUSE), 40.0, steps=2)
    policy = replace(pose.site.reserve, load_ratio=1.0, pv_ratio=0.0)
    pose = replace(pose, site=replace(pose.site, reserve=policy))
    plan = pose.plan(SECURE)
    assert plan.bess_q_kvar["bess1"][0] == pytest.approx(30.0, abs=1e-3)
    assert plan.reserve_up_held_kw[0] == pytest.approx(65.0, abs=1e-3)
    tight = replace(pose, load_kw={"load": 60.0}).plan(SECURE)  # 45 kvar leave 90 kW, 30 of them beside 60
    assert tight.reserve_up_short_kw[0] == pytest.approx(30.0, abs=0.1)


def test_load_trip_is_covered_down_to_what_the_polygon_takes_beside_planned_kvar() -> None:
    """30 kvar leave -80 kW of the -100: from 40 kW given 120 down, of a trip of 130; a circle has room."""
    pose = island(cornered(HOUSE), 40.0, steps=2, soc=0.5)
    policy = replace(pose.site.reserve, load_trip_kw=130.0)
    pose = replace(pose, site=replace(pose.site, reserve=policy))
    plan = pose.plan(SECURE)
    assert plan.contingency[0] == "largest load trip"
    assert plan.contingency_lost_kw[0] == pytest.approx(130.0)
    assert plan.contingency_cover_kw[0] == pytest.approx(120.0, abs=0.01)
    bare = replace(pose, site=replace(pose.site, bess=(pcs(150.0, 120.0),))).plan(SECURE)
    assert bare.contingency_cover_kw[0] == pytest.approx(160.0, abs=0.1)


def test_converter_made_larger_takes_its_corners_along() -> None:
    """As an explanation asks for it, and as a drawn plant is."""
    unit = cornered(HOUSE, s_kva=150.0)
    twice = _scaled(unit.pcs, 2.0)
    assert twice.s_kva == 300.0
    assert twice.capability == capability_of((2.0 * p, 2.0 * q) for p, q in HOUSE)
    assert _scaled(replace(unit.pcs, capability=None), 2.0).capability is None
    drawn = _bess(unit, np.random.default_rng(1)).pcs
    ratio = drawn.s_kva / 150.0
    assert 0.4 <= ratio < 1.0
    assert drawn.capability is not None
    assert drawn.capability.p_range_kw(0.0) == pytest.approx((-100.0 * ratio, 120.0 * ratio))


@pytest.mark.parametrize(("load_kw", "carried_kw"), [(40.0, 40.0), (100.0, 0.0)])
def test_loss_of_the_grid_is_carried_beside_the_kvar_of_the_critical_load(
    load_kw: float, carried_kw: float
) -> None:
    """75 kvar of 100 kW are more than the polygon's 60: nothing of the island could be carried."""
    site = small_site(bess=[cornered(HOUSE)], feeders=[replace(inductive(), tier=1)])
    site = replace(site, reserve=replace(site.reserve, critical_tier=1, shortfall_per_kwh=2.0))
    pose = Pose(site=behind(site, 0.0, 0.001), load_kw={"load": load_kw}, soc=1.0, steps=2)
    plan = pose.plan(SECURE)
    assert plan.reserve_up_short_kw == pytest.approx([load_kw - carried_kw] * 2, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_corners_of_the_regular_polygon_are_the_regular_polygon(seed: int) -> None:
    pose = weak_pose(2 * seed + 1)
    policy, unit, sun = pose.site.grid.reactive, pose.site.bess[0], pose.site.pv[0]
    assert policy is not None
    turns = [2.0 * math.pi * k / policy.pcs_sides for k in range(policy.pcs_sides)]
    own, suns = (
        capability_of((s_kva * math.cos(a), s_kva * math.sin(a)) for a in turns)
        for s_kva in (unit.pcs.s_kva, sun.s_kva or 0.0)
    )
    told = replace(
        pose.site,
        bess=(replace(unit, pcs=replace(unit.pcs, capability=own)),),
        pv=(replace(sun, capability=suns),),
    )
    forms, plans, tapered = [], [], replace(EXACT.formulation, soc_tapers=True)
    for site in (pose.site, told):
        form = replace(EXACT.formulation, reserve=True)
        policy_tied = replace(site.reserve, n_minus_1_tied=("bess", "import"))
        asks = replace(site, reserve=policy_tied)
        p = planning_problem(asks, pose.condition(), pose.forecast(), replace(EXACT, formulation=form))
        forms.append(build(structure_of(p.site, p.grid, form), Model).standard_form())
        plans.append(replace(pose, site=site).plan(replace(EXACT, formulation=tapered)))
    a, b = forms
    assert a.row_names == b.row_names
    assert np.array_equal(a.a_index, b.a_index)
    assert np.allclose(a.a_value, b.a_value, rtol=0.0, atol=1e-9)
    assert np.allclose(a.rhs, b.rhs, rtol=0.0, atol=1e-9)
    assert plans[0].solve.objective == pytest.approx(plans[1].solve.objective, rel=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_plans_of_random_polygons_lie_inside_and_pass_the_replay(seed: int) -> None:
    pose, rng = weak_pose(seed), np.random.default_rng(1000 + seed)
    unit, sun = pose.site.bess[0], pose.site.pv[0]
    limits = [(-unit.battery.p_charge_kw_max, 0.0), (unit.battery.p_discharge_kw_max, 0.0)]
    own = capability_of(hull([*around(rng, 550.0), *limits]))
    side = [(max(0.0, p), q) for p, q in around(rng, 640.0)]
    suns = capability_of(hull([*side, (0.0, 0.0), (sun.p_ac_kw, 0.0)]))
    site = replace(
        pose.site,
        bess=(replace(unit, pcs=replace(unit.pcs, capability=own)),),
        pv=(replace(sun, s_kva=660.0, capability=suns),),
        reserve=replace(
            pose.site.reserve, n_minus_1=("pv",), n_minus_1_tied=("bess", "import"), load_trip_kw=20.0
        ),
    )
    form = replace(EXACT.formulation, reserve=True, soc_tapers=True)
    options = replace(EXACT, gap_ratio=0.01, formulation=form)
    pose = replace(pose, site=site)
    plan = pose.plan(options)
    p = planning_problem(site, pose.condition(), pose.forecast(), options)
    assert validate(plan, p).faults == ()
    for polygon, active, reactive in (
        (own, plan.bess_p_kw["bess1"], plan.bess_q_kvar["bess1"]),
        (suns, plan.pv_p_kw["pv1"], plan.pv_q_kvar["pv1"]),
    ):
        assert max(polygon.over_kva(a, r) for a, r in zip(active, reactive, strict=True)) <= 1e-5
