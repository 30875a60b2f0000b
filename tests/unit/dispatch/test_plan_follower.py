"""Following a plan while load and PV are not what was forecast; closed loop with the plant models."""

from dataclasses import replace

import pytest

from dispatch.controllers.plan_follower import PlanFollower
from dispatch.vocabulary import Source
from ems.site import GridMode
from plant_models.plant import initial_state
from tests.builders import T0, site
from tests.unit.dispatch.loop import Loop
from tests.unit.dispatch.plans import ISLAND, TIED, plan_of

SITE = site()


def follow(plan, **world: object) -> Loop:
    loop = Loop(PlanFollower(), soc=0.6)
    loop.plan = plan
    for name, value in world.items():
        setattr(loop.world, name, value)
    loop.physics(0.001)  # the plan starts now
    loop.t = 0.0
    return loop


def bess_kw(loop: Loop) -> float:
    assert loop.flows is not None
    return loop.flows.bess_p_kw["bess1"]


def test_follow_plan_as_forecast_gives_planned_powers():
    loop = follow(plan_of(SITE, bess_kw=[50.0, -40.0]))
    d = loop.run(60)
    assert d.source is Source.PLAN
    assert bess_kw(loop) == pytest.approx(50.0)
    loop.run(900)
    assert bess_kw(loop) == pytest.approx(-40.0)


def test_follow_importing_plan_lets_the_grid_take_the_deviation():
    loop = follow(plan_of(SITE, bess_kw=[50.0, 50.0]))
    loop.world.demand_kw["essential"] = 140.0
    loop.run(10)
    assert bess_kw(loop) == pytest.approx(50.0)
    assert loop.flows is not None
    assert loop.flows.grid_p_kw == pytest.approx(192.0)


def test_follow_deviation_over_the_planned_peak_is_taken_by_the_battery():
    loop = follow(plan_of(SITE, bess_kw=[0.0, 0.0], peak_import_kw=210.0))
    loop.world.demand_kw["essential"] = 160.0  # 262 kW against a peak of 210 kW
    loop.run(900)
    imported = sum(f.grid_p_kw * f.dt_s for _, _, f in loop.log) / 900.0
    assert imported <= 210.0
    assert imported > 205.0
    assert loop.edge.observer.peak_import_kw <= 210.0


def test_follow_limit_of_an_on_peak_charge_is_held_although_the_month_has_seen_more():
    """The plan's limit of the step counts, not the month's peak of 300 kW."""
    plan = replace(plan_of(SITE, bess_kw=[0.0, 0.0], peak_import_kw=300.0), import_limit_kw=(210.0, 400.0))
    loop = follow(plan)
    loop.world.demand_kw["essential"] = 160.0
    loop.run(900)
    imported = sum(f.grid_p_kw * f.dt_s for _, _, f in loop.log) / 900.0
    assert 205.0 < imported <= 210.0


def test_follow_short_load_peak_uses_what_is_left_of_the_interval():
    """The demand charge counts the mean of the interval: a peak late in it may pass."""
    loop = follow(plan_of(SITE, bess_kw=[0.0, 0.0], peak_import_kw=250.0))
    loop.run(600)
    loop.world.demand_kw["essential"] = 200.0  # 302 kW for 300 s, mean of the interval 235 kW
    loop.run(299)
    assert bess_kw(loop) == pytest.approx(0.0)


@pytest.mark.parametrize(
    "behind_soc", [0.0, 0.07], ids=["battery ahead of its guard", "battery at its guard"]
)
def test_follow_peak_that_the_battery_may_not_hold_is_held_by_a_set_that_runs(behind_soc: float):
    """400 kW instead of 320: 250 would be imported against a peak of 210, for a whole interval and more."""
    plan = plan_of(SITE, bess_kw=[0.0, 0.0], load_kw=320.0, gen1_kw=150.0, peak_import_kw=210.0)
    loop = follow(plan)
    loop.plant = initial_state(SITE, 0.6 - behind_soc, gensets_on_kw={"gen1": 150.0})
    loop.world.demand_kw = {"critical": 100.0, "essential": 200.0, "deferrable": 100.0}
    loop.run(890)
    imported_kw = sum(f.grid_p_kw * f.dt_s for _, _, f in loop.log) / sum(f.dt_s for _, _, f in loop.log)
    assert 200.0 < imported_kw <= 210.0
    assert loop.flows is not None
    least_soc = plan.bess_soc_end["bess1"][0] - 0.05
    if behind_soc > 0.0:
        assert loop.flows.genset_p_kw["gen1"] > 180.0
        assert loop.flows.bess_soc["bess1"] >= 0.6 - behind_soc - 0.003  # nothing but its own losses
        return
    assert loop.flows.genset_p_kw["gen1"] == pytest.approx(150.0, abs=1.0)
    assert loop.flows.bess_soc["bess1"] >= least_soc


def test_follow_self_supplied_plan_discharges_with_the_load():
    loop = follow(plan_of(SITE, bess_kw=[200.0, 200.0]))
    loop.world.demand_kw["essential"] = 60.0
    loop.run(10)
    assert loop.flows is not None
    assert loop.flows.grid_p_kw == pytest.approx(7.0, abs=0.5)  # the import bias of the zero-export site
    loop.world.demand_kw["essential"] = 160.0
    loop.run(10)
    assert loop.flows.grid_p_kw == pytest.approx(7.0, abs=0.5)


def test_follow_surplus_plan_charges_the_surplus_there_is_and_never_from_the_grid():
    plan = plan_of(SITE, bess_kw=[-200.0, -200.0], pv_kw=400.0)
    loop = follow(plan, pv_kw={"pv1": 300.0})
    loop.run(20)
    assert bess_kw(loop) == pytest.approx(-105.0, abs=0.5)  # 98 kW and the import bias
    loop.world.pv_kw = {"pv1": 150.0}
    loop.run(20)
    assert bess_kw(loop) == pytest.approx(0.0, abs=0.1)


def test_follow_plan_charging_from_the_grid_does_charge_from_the_grid():
    loop = follow(plan_of(SITE, bess_kw=[-100.0, -100.0], peak_import_kw=340.0))
    loop.run(10)
    assert bess_kw(loop) == pytest.approx(-100.0)


def test_follow_discharge_ends_near_the_planned_charge():
    plan = plan_of(SITE, bess_kw=[150.0, 150.0, 0.0])
    loop = follow(plan)
    loop.plant = initial_state(SITE, 0.53)  # 7 % less than the plan reckoned with
    loop.run(1800, dt_s=10.0)
    assert loop.flows is not None
    assert loop.flows.bess_soc["bess1"] >= plan.bess_soc_end["bess1"][1] - 0.021


def test_follow_planned_genset_is_on_load_when_its_step_begins():
    loop = follow(plan_of(SITE, bess_kw=[0.0, 0.0, 0.0], gen1_kw=[0.0, 160.0, 160.0]))
    loop.run(900)
    asked = [t for t, d, _ in loop.log for e in d.events if e.kind == "genset.start.requested"]
    assert 840.0 <= asked[0] <= 850.0
    loop.run(30)
    assert loop.flows is not None
    assert loop.flows.genset_p_kw["gen1"] == pytest.approx(160.0)


def test_follow_unannounced_outage_drops_the_plan_within_one_cycle():
    loop = follow(plan_of(SITE, bess_kw=[0.0] * 4))
    loop.run(10)
    loop.world.mains = False
    loop.run(2)
    (_, before, _), (_, after, _) = loop.log[-2:]
    assert before.plan_id is not None
    assert after.mode is GridMode.ISLANDED
    assert after.plan_id is None
    assert after.source is Source.RULES
    assert after.replan_requested


def test_follow_announced_outage_keeps_the_plan_and_its_charge_path():
    modes = [TIED, ISLAND, ISLAND, ISLAND]
    plan = plan_of(SITE, bess_kw=[-50.0, 80.0, 80.0, 80.0], gen1_kw=[0.0, 120.0, 120.0, 120.0], modes=modes)
    loop = follow(plan)
    loop.world.demand_kw.update(essential=130.0)  # 230 kW instead of 200 kW

    def mains(loop: Loop) -> None:
        loop.world.mains = loop.t < 905.0

    loop.run(3500, dt_s=1.0, each=mains)
    assert not loop.events("plan.dropped")
    assert loop.flows is not None
    assert loop.flows.forming == "bess1"
    # the genset takes the 30 kW that nobody forecast, so that the charge stays on its path
    assert loop.flows.bess_soc["bess1"] == pytest.approx(plan.bess_soc_end["bess1"][3], abs=0.02)
    assert loop.flows.genset_p_kw["gen1"] > 140.0


def test_follow_planned_shed_opens_the_whole_feeder_and_restores_it():
    shed = {"critical": (0.0,) * 3, "essential": (0.0,) * 3, "deferrable": (0.0, 40.0, 0.0)}
    base = plan_of(SITE, bess_kw=[0.0] * 3)
    plan = replace(base, shed_kw=shed, grid_p_kw=(200.0, 160.0, 200.0))
    loop = follow(plan)
    loop.run(60)
    assert loop.served_kw("deferrable") == 40.0
    loop.run(900)
    assert loop.served_kw("deferrable") == 0.0
    loop.run(1000)
    assert loop.served_kw("deferrable") == 40.0


def test_follow_dead_planner_is_shown_as_last_plan_within_one_cycle():
    loop = follow(plan_of(SITE, bess_kw=[0.0] * 4))
    assert loop.run(3).source is Source.PLAN
    loop.planner_alive = False
    assert loop.run(1).source is Source.LAST_PLAN


def test_follow_old_plan_is_shown_as_last_plan():
    loop = follow(plan_of(SITE, bess_kw=[0.0] * 6))
    loop.setup = replace(loop.setup, controller=PlanFollower(fresh_s=1800.0))
    assert loop.run(1700, dt_s=10.0).source is Source.PLAN
    assert loop.run(200, dt_s=10.0).source is Source.LAST_PLAN


def test_follow_no_plan_is_rules_from_the_first_cycle():
    loop = Loop(PlanFollower(), soc=0.6, start=T0)
    d = loop.run(2)
    assert d.source is Source.RULES
    assert d.plan_refused == "no plan"


@pytest.mark.parametrize(
    ("soc", "charged", "so_far_kw", "import_kw"),
    [
        (0.55, True, 0.0, 220.0),  # the last plan's peak
        (0.55, True, 240.0, 240.0),  # a higher one is paid for already
        (0.40, True, 0.0, 292.0),  # the backup reserve is kept
        (0.55, False, 0.0, 292.0),  # demand costs nothing here
    ],
)
def test_follow_rules_hold_the_demand_peak_of_the_last_plan(
    soc: float, charged: bool, so_far_kw: float, import_kw: float
):
    """On the rules rung nothing once held the month's peak: one bad quarter-hour paid for the whole month."""
    own = replace(SITE.tariff, demand_charge_per_kw=12.0 if charged else 0.0)
    loop = Loop(PlanFollower(), soc=soc, start=T0.replace(hour=12), plant_site=replace(SITE, tariff=own))
    loop.world.demand_kw = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}
    plan = plan_of(loop.site, bess_kw=[0.0] * 4, start=loop.start, soc=soc, peak_import_kw=220.0)
    loop.plan = plan
    assert loop.run(5.0).source is Source.PLAN
    loop.plan = None
    loop.edge = replace(
        loop.edge,
        plans=type(loop.edge.plans)(),
        observer=replace(loop.edge.observer, peak_import_kw=so_far_kw),
    )
    loop.world.demand_kw["essential"] = 190.0
    assert loop.run(60.0).source is Source.RULES
    assert loop.flows is not None
    assert loop.flows.grid_p_kw == pytest.approx(import_kw, abs=3.0)
