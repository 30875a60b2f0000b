"""Fuel in the tanks: deliveries, what stays at the bottom, a reserve of it; by hand, replayed, simulated."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ems.points import GensetState
from ems.site import FuelDelivery, GridMode
from optimizer.intake import planning_problem
from optimizer.validate import validate
from plant_models.plant import PlantInput, initial_state, step
from sim.world import World, WorldOptions
from tests.unit.optimizer.posing import EXACT, T0, Pose, feeder, objective, small_genset, small_site
from tests.unit.sim.sim_builders import scenario


def island(fuel_l: float | None, steps: int = 4, **unit: Any) -> Pose:
    """50 kW in an island, 1 L/kWh at 0.3 per litre, lost load at 10."""
    site = small_site(
        gensets=[small_genset(p_min_kw=1.0, tank_l=500.0, **unit)],
        feeders=[feeder("load", 10.0, tier=1)],
        diesel_per_l=0.3,
    )
    now = {"gen1": {"fuel_l": fuel_l}}
    return Pose(site=site, load_kw={"load": 50.0}, mode=GridMode.ISLANDED, steps=steps, gensets_now=now)


def brought(pose: Pose, *deliveries: tuple[float, float], asset: str = "gen1") -> Pose:
    """(hours after the plan, litres)."""
    found = tuple(FuelDelivery(asset=asset, at=T0 + timedelta(hours=h), fuel_l=x) for h, x in deliveries)
    return replace(pose, site=replace(pose.site, deliveries=found))


def tied(pose: Pose, **changes: Any) -> Pose:
    return replace(pose, mode=GridMode.GRID_TIED, **changes)


@pytest.mark.parametrize(("after_h", "lost_h"), [(2.0, 0), (2.5, 1), (-1.0, 2)])
def test_delivery_is_there_from_the_first_step_that_begins_after_it(after_h: float, lost_h: int):
    """100 L last two hours of four. At 2:00 there are 200 more; at 2:30 only from the fourth on; or long ago.

    Tank short costs 10 per litre and lost load 10 per kWh, so an hour that is lost costs 500 either way.
    """
    plan = brought(island(100.0), (after_h, 200.0)).plan()
    lacking = plan.cost_terms["tank_short"] + plan.cost_terms["unserved"]
    assert lacking == pytest.approx(500.0 * lost_h, abs=1e-6)


def test_fuel_before_a_delivery_is_kept_for_the_dearest_hours():
    """60 L now, plenty after three hours; the grid costs 0.5, 0.9, 0.8, then 0.7 against 0.3 of fuel."""
    pose = tied(island(60.0), import_per_kwh=(0.5, 0.9, 0.8, 0.7))
    plan = brought(pose, (3.0, 400.0)).plan()
    assert plan.genset_p_kw["gen1"] == pytest.approx((0.0, 50.0, 10.0, 50.0))


def test_delivery_that_does_not_fit_is_not_taken():
    """490 of 500 L are there, 20 are burnt: 30 of 100 fit, so 500 L last five hours at 100."""
    loads = [20.0, *[100.0] * 6]
    pose = tied(island(490.0, steps=7), import_per_kwh=(1.0, *[0.9] * 5, 0.8), load_kw={"load": loads})
    plan = brought(pose, (1.0, 100.0)).plan()
    assert plan.genset_p_kw["gen1"] == pytest.approx((*loads[:6], 0.0), abs=1e-6)


def test_bottom_of_the_tank_is_not_burnt():
    plan = island(100.0, steps=2, tank_unusable_l=25.0).plan()
    assert plan.cost_terms["tank_short"] + plan.cost_terms["unserved"] == pytest.approx(250.0)


def reserved(pose: Pose, hours: float) -> Pose:
    return replace(pose, site=replace(pose.site, reserve=replace(pose.site.reserve, fuel_h=hours)))


def test_reserve_of_fuel_keeps_the_genset_off():
    """Three hours of 50 kW are 150 L: of 200 L only 50 are burnt, in the dearest hour."""
    pose = tied(reserved(island(200.0), 3.0), import_per_kwh=(0.5, 0.9, 0.8, 0.7))
    plan = pose.plan()
    assert plan.genset_p_kw["gen1"] == pytest.approx((0.0, 50.0, 0.0, 0.0))
    assert plan.cost_terms["fuel_reserve_short"] == 0.0


def test_reserve_of_fuel_is_broken_for_load_that_would_be_lost_and_that_is_said():
    """100 L, 150 asked for: 100, 150 L short for an hour each, at 2 per L and three hours."""
    plan = reserved(island(100.0, steps=2), 3.0).plan()
    assert plan.cost_terms["unserved"] == pytest.approx(0.0, abs=1e-6)
    assert plan.cost_terms["fuel_reserve_short"] == pytest.approx(2.0 / 3.0 * 250.0)
    assert any(n.startswith("fuel reserve: up to 150 L less than 3 h of critical load") for n in plan.notes)


def test_reserve_of_fuel_is_not_planned_where_a_level_is_not_measured():
    plan = reserved(island(None), 3.0).plan()
    assert plan.cost_terms["fuel_reserve_short"] == 0.0
    assert any("not measured, so none is planned" in n for n in plan.notes)


@pytest.mark.parametrize("term", ["tank_short", "fuel_reserve_short"])
def test_replay_refuses_a_plan_that_does_not_pay_for_fuel_it_lacks(term: str):
    pose = reserved(island(80.0), 3.0)
    site = replace(pose.site, feeders=(replace(pose.site.feeders[0], voll_per_kwh=11.0),))
    pose = replace(pose, site=site, gensets_now={"gen1": {"fuel_l": 80.0, "on_load": True}})
    site = replace(site, gensets=(replace(site.gensets[0], min_up_s=1e7, p_min_kw=49.0),))
    pose = replace(pose, site=site)
    plan, p = pose.plan(), planning_problem(pose.site, pose.condition(), pose.forecast(), EXACT)
    assert validate(plan, p).ok
    assert plan.cost_terms[term] > 1.0
    cheaper = replace(plan, cost_terms={**plan.cost_terms, term: 0.5 * plan.cost_terms[term]})
    assert [f.split(":")[0] for f in validate(cheaper, p).faults] == [term]
    assert objective(plan) > 0.0


def test_engine_stops_at_the_bottom_of_the_tank():
    """Half an hour at 50 kW takes 25 L; 20 of 30 L are at the bottom."""
    site = island(30.0, tank_unusable_l=20.0).site
    state = initial_state(site, gensets_on_kw={"gen1": 50.0}, tank_l={"gen1": 30.0}, islanded_by="gen1")
    asked = PlantInput(
        mains_present=False, demand_kw={"load": 50.0}, pv_potential_kw={}, genset_run_request={"gen1": True}
    )
    flows = None
    for _ in range(60):
        state, flows = step(site, state, asked, 30.0)
    assert flows is not None
    assert state.gensets["gen1"].tank_l == pytest.approx(20.0, abs=1e-6)
    assert flows.genset_state["gen1"] is not GensetState.RUNNING


def test_simulated_tank_gets_its_delivery_once_and_nothing_else():
    base = scenario()
    genset = base.site.gensets[0]
    one = FuelDelivery(asset=genset.id, at=base.start + timedelta(minutes=5), fuel_l=100.0)
    run = replace(base, site=replace(base.site, deliveries=(one,)))
    world = World(run, options=WorldOptions(refuel_below_ratio=1.0))
    state = world.state.gensets[genset.id]
    emptied = {**world.state.gensets, genset.id: replace(state, tank_l=500.0)}
    world.state = replace(world.state, gensets=emptied)
    world.advance(240.0)
    assert world.state.gensets[genset.id].tank_l == pytest.approx(500.0)
    blob = world.checkpoint()
    for each in (world, World.restore(run, blob, options=WorldOptions(refuel_below_ratio=1.0))):
        each.advance(3600.0)
        assert each.state.gensets[genset.id].tank_l == pytest.approx(600.0)
