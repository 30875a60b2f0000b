"""Closed loop with the plant models: what must hold whoever is in command."""

import itertools
from dataclasses import replace

import pytest

from dispatch.controllers.plan_follower import PlanFollower
from dispatch.controllers.rules import Rules, RulesParams
from dispatch.controllers.rules_tou import RulesTou
from dispatch.protections.bus import tapered_kw
from ems.condition import BessCondition
from ems.points import GensetState
from ems.site import GridMode
from plant_models.plant import PlantFaults, initial_state
from tests.builders import battery, site
from tests.unit.dispatch.loop import Loop
from tests.unit.dispatch.plans import plan_of

CONTROLLERS = [Rules(), RulesTou(), Rules(params=RulesParams(genset_prime=True))]
IDS = ["rules", "rules_tou", "genset_prime"]


def over(loop: Loop, kind: str) -> list[float]:
    return [a for _, k, _, a in loop.violations if k == kind]


@pytest.mark.parametrize("controller", CONTROLLERS, ids=IDS)
def test_unannounced_outage_is_known_within_one_cycle_and_nothing_is_lost(controller):
    loop = Loop(controller)
    loop.run(5)
    loop.world.mains = False
    loop.run(2)
    assert loop.log[-1][1].mode is GridMode.ISLANDED
    loop.run(60)
    # the transfer of 0.2 s is all the plant loses
    assert loop.unserved_kwh("critical") <= 60.0 * 0.25 / 3600.0
    assert not over(loop, "pcs_over_rating")


@pytest.mark.parametrize("controller", CONTROLLERS, ids=IDS)
def test_outage_with_low_charge_starts_a_genset_before_the_battery_is_empty(controller):
    loop = Loop(controller, soc=0.13)
    loop.world.mains = False
    loop.plant = initial_state(loop.site, 0.13, islanded_by="bess1")
    loop.run(300)
    started = [e["genset"] for e in loop.events("genset.start.requested")]
    assert started
    assert loop.flows is not None
    assert GensetState.RUNNING in loop.flows.genset_state.values()
    assert sum(loop.unserved_kwh(f) for f in loop.site_feeders()) == pytest.approx(0.0, abs=0.05)
    assert not over(loop, "bus_dead")


def test_discharge_limit_near_empty_is_that_at_the_end_of_the_look_ahead():
    """By hand: 60 s of 400 kW draw 6.84 of 1000 kWh; the taper leaves 420 kW at 14 %, 365 at 13.3 %."""
    now = BessCondition(available=True, soc=0.14, p_kw=400.0, p_charge_kw_max=500.0, p_discharge_kw_max=420.0)
    assert tapered_kw(battery(), now, 0.0) == pytest.approx(420.0)
    assert tapered_kw(battery(), now, 60.0) == pytest.approx(365.3, abs=0.1)


@pytest.mark.parametrize(
    ("soc", "dt_s"),
    [(0.165, 1.0), pytest.param(0.171, 1.0, marks=pytest.mark.soak), (0.165, 60.0), (0.171, 60.0)],
)
def test_falling_discharge_limit_near_empty_starts_a_genset_while_there_is_time(soc, dt_s):
    """Once the bus died 50 s after a start was asked for: at 13 % charge the limit falls by 1 kW/s."""
    patient = Rules(params=RulesParams(soc_start=0.101, soc_stop=0.3))
    loop = Loop(patient, soc=soc)
    loop.plant = initial_state(loop.site, soc, islanded_by="bess1")
    loop.world.mains = False
    loop.world.demand_kw = {"critical": 110.0, "essential": 200.0, "deferrable": 120.0}
    loop.run(900, dt_s)
    assert loop.events("genset.start.requested")
    assert not over(loop, "bus_dead")
    assert loop.unserved_kwh("critical") == 0.0


def test_failed_starts_the_next_genset_in_priority_takes_over():
    loop = Loop(Rules(), soc=0.20)
    loop.plant = initial_state(loop.site, 0.20, islanded_by="bess1")
    loop.world.mains = False
    loop.world.faults = PlantFaults(genset_start_fails=frozenset({"gen1"}))
    loop.run(180)
    assert loop.events("genset.locked_out")
    assert loop.flows is not None
    assert loop.flows.genset_state["gen2"] is GensetState.RUNNING
    assert not over(loop, "bus_dead")
    assert loop.edge.requests["gen1"].run is False


def test_overload_in_an_island_sheds_the_least_critical_and_brings_it_back():
    loop = Loop(Rules(), soc=0.5)
    loop.world.demand_kw.update(critical=120.0, essential=250.0, deferrable=150.0)
    loop.world.pv_kw = {"pv1": 300.0}
    loop.run(5)
    loop.world.mains = False
    loop.run(5)
    loop.world.pv_kw = {"pv1": 0.0}  # 520 kW of load on a battery of 500 kW
    loop.run(4)
    assert [e["feeder"] for e in loop.events("feeder.shed")] == ["deferrable"]
    assert loop.served_kw("essential") == pytest.approx(250.0)
    assert len(over(loop, "pcs_over_rating")) <= 2
    loop.run(300)
    assert loop.served_kw("deferrable") == pytest.approx(150.0)
    assert not over(loop, "bus_dead")


def test_island_without_any_genset_sheds_tier_by_tier_and_keeps_the_critical_one():
    loop = Loop(Rules(), soc=0.25)
    loop.world.faults = PlantFaults(genset_tripped=frozenset({"gen1", "gen2"}))
    loop.world.mains = False
    loop.plant = initial_state(loop.site, 0.25, islanded_by="bess1")
    loop.run(3600, dt_s=10.0)
    assert [e["feeder"] for e in loop.events("feeder.shed")] == ["deferrable", "essential"]
    assert loop.unserved_kwh("critical") == 0.0
    assert not over(loop, "bus_dead")


def test_full_battery_in_an_island_limits_pv_to_what_there_is_room_for():
    loop = Loop(Rules(), soc=0.949)
    loop.plant = initial_state(loop.site, 0.949, islanded_by="bess1")
    loop.world.mains = False
    loop.world.pv_kw = {"pv1": 100.0}
    loop.run(10)
    loop.violations.clear()
    loop.world.pv_kw = {"pv1": 550.0}
    loop.run(600, dt_s=1.0)
    assert not over(loop, "pv_over_frequency")
    assert not over(loop, "soc_outside_window")
    assert loop.flows is not None
    assert loop.flows.pv_p_kw["pv1"] > 150.0


def test_black_bus_comes_back_on_a_genset_and_feeder_by_feeder():
    loop = Loop(Rules(), soc=0.5)
    loop.run(5)
    loop.world.mains = False
    loop.run(5)
    loop.world.faults = PlantFaults(bess_tripped=frozenset({"bess1"}))
    loop.run(60)
    assert GridMode.BLACK in {d.mode for _, d, _ in loop.log}
    assert loop.served_kw("critical") == pytest.approx(60.0)
    loop.run(240)
    assert all(loop.served_kw(f) > 0.0 for f in loop.site_feeders())
    deaths = [t for t, k, _, _ in loop.violations if k == "bus_dead"]
    assert max(deaths) < 60.0  # it died once, not again when the feeders came back


def test_battery_that_trips_while_following_is_asked_for_zero():
    loop = Loop(Rules(), soc=0.6)
    loop.run(5)
    assert loop.set["bess1.p_set_kw"] > 100.0
    loop.world.faults = PlantFaults(bess_tripped=frozenset({"bess1"}))
    loop.run(3)
    assert loop.set["bess1.p_set_kw"] == 0.0


def test_import_cap_is_held_by_the_battery_even_below_the_backup_reserve():
    loop = Loop(Rules(), soc=0.3)
    loop.world.demand_kw.update(critical=120.0, essential=200.0, deferrable=150.0)
    loop.run(3)
    loop.violations.clear()
    loop.run(300)
    assert not over(loop, "import_over_cap")
    assert loop.flows is not None
    assert loop.flows.grid_p_kw == pytest.approx(343.0, abs=1.0)


def test_nothing_is_kept_free_for_a_feeder_that_the_plan_wants_open_until_it_is_to_come_back():
    """It is shed so that the battery can charge under the cap of 350 kW: 256 + 30, not 1.2 x 64 more."""
    loop = Loop(PlanFollower(), soc=0.3)
    loop.world.demand_kw = {"critical": 96.0, "essential": 160.0, "deferrable": 64.0}
    plan = plan_of(loop.site, bess_kw=[-30.0, *[0.0] * 3], load_kw=320.0, soc=0.3)
    shed = (64.0, 0.0, 0.0, 0.0)
    loop.plan = replace(
        plan,
        shed_kw={**plan.shed_kw, "deferrable": shed},
        grid_p_kw=tuple(g - s for g, s in zip(plan.grid_p_kw, shed, strict=True)),
    )
    loop.run(120)
    assert loop.log[-1][1].mode is GridMode.GRID_TIED
    assert loop.served_kw("deferrable") == 0.0
    assert loop.flows is not None
    assert loop.flows.bess_p_kw["bess1"] == pytest.approx(-30.0, abs=2.0)
    loop.run(900.0, dt_s=5.0)
    assert loop.served_kw("deferrable") == pytest.approx(64.0)
    assert not over(loop, "import_over_cap")


def test_import_over_the_cap_with_an_empty_battery_starts_a_genset_and_sheds_nothing():
    """A cap is a contract, not a fuse: a set that comes within a minute is waited for."""
    loop = Loop(Rules(), soc=0.1)
    loop.world.demand_kw.update(critical=120.0, essential=200.0, deferrable=150.0)
    loop.run(400)
    assert loop.events("genset.start.requested")
    assert not loop.events("feeder.shed")
    assert not [t for t, k, _, _ in loop.violations if k == "import_over_cap" and t > 60.0]


def test_import_over_the_cap_with_nobody_to_help_sheds_after_a_minute():
    loop = Loop(Rules(), soc=0.1)
    loop.world.faults = PlantFaults(genset_tripped=frozenset({"gen1", "gen2"}))
    loop.world.demand_kw.update(critical=120.0, essential=200.0, deferrable=150.0)
    loop.run(90)
    assert [e["feeder"] for e in loop.events("feeder.shed")] == ["deferrable"]
    assert not [t for t, k, _, _ in loop.violations if k == "import_over_cap" and t > 65.0]


def test_import_cap_held_by_an_almost_empty_battery_a_genset_is_there_before_it_is_empty():
    loop = Loop(PlanFollower(fallback=Rules(params=RulesParams(soc_start=0.0))), soc=0.13)
    loop.world.demand_kw.update(critical=120.0, essential=200.0, deferrable=110.0)  # 82 kW over the cap
    loop.run(1)
    loop.violations.clear()
    loop.run(1800, dt_s=5.0)
    assert loop.events("genset.start.requested")
    assert not over(loop, "import_over_cap")
    assert not loop.events("feeder.shed")


def test_running_genset_waits_for_its_successor():
    """A plan that swaps two sets at once left the island to an almost empty battery, and the bus died."""
    loop = Loop(PlanFollower(), soc=0.11)
    loop.plant = initial_state(loop.site, 0.11, islanded_by="bess1", gensets_on_kw={"gen2": 180.0})
    loop.world.mains = False
    modes = [GridMode.ISLANDED] * 3
    loop.plan = plan_of(loop.site, bess_kw=[0.0] * 3, gen1_kw=[200.0] * 3, modes=modes, soc=0.11)
    loop.run(400, dt_s=2.0)
    running = [{g for g, s in f.genset_state.items() if s is GensetState.RUNNING} for _, _, f in loop.log]
    assert running[0] == {"gen2"}
    assert running[-1] == {"gen1"}
    assert all(running), "there was a moment without any"
    assert not over(loop, "bus_dead")
    assert not loop.events("feeder.shed")


def test_export_cap_rising_pv_never_exports_where_availability_is_measured():
    loop = Loop(Rules(), soc=0.5)
    loop.world.pv_kw = {"pv1": 150.0}
    loop.run(30)
    loop.violations.clear()
    for pv in (250.0, 400.0, 600.0, 300.0, 600.0):
        loop.world.pv_kw = {"pv1": pv}
        loop.run(20)
    assert not over(loop, "export_over_cap")
    assert loop.flows is not None
    assert loop.flows.pv_p_kw["pv1"] > 590.0


def test_meter_lost_stops_discharge_and_keeps_pv_under_the_load():
    loop = Loop(Rules(), soc=0.6)
    loop.world.pv_kw = {"pv1": 180.0}
    loop.run(5)
    loop.world.silent = frozenset({"grid1.p_kw"})
    loop.world.pv_kw = {"pv1": 500.0}
    loop.run(3)
    assert loop.set["bess1.p_set_kw"] == 0.0
    assert loop.set["pv1.p_limit_kw"] <= 0.8 * 200.0 + 1e-6
    assert "grid.meter.lost" in {a.code for a in loop.log[-1][1].alarms}


def test_genset_minimum_load_is_kept_by_charging_and_by_cutting_pv():
    loop = Loop(Rules(params=RulesParams(genset_prime=True)), soc=0.5)
    loop.plant = initial_state(loop.site, 0.5, islanded_by="bess1")
    loop.world.mains = False
    loop.world.demand_kw.update(critical=20.0, essential=20.0, deferrable=5.0)
    loop.run(120)
    loop.violations.clear()
    loop.world.pv_kw = {"pv1": 580.0}
    loop.run(300)
    assert not over(loop, "genset_below_min")
    assert not over(loop, "pv_over_frequency")


def test_genset_that_cannot_place_its_minimum_load_is_stopped():
    loop = Loop(Rules(), soc=0.95)
    loop.plant = initial_state(loop.site, 0.95, islanded_by="bess1", gensets_on_kw={"gen1": 120.0})
    loop.world.mains = False
    loop.world.demand_kw.update(critical=30.0, essential=10.0, deferrable=5.0)
    loop.run(60)
    assert loop.flows is not None
    assert loop.flows.genset_p_kw["gen1"] == 0.0
    assert not over(loop, "bus_dead")


def test_genset_started_by_itself_is_adopted_and_not_fought():
    loop = Loop(Rules(), soc=0.5)
    loop.run(5)
    loop.flows = None
    loop.set.clear()
    state = initial_state(loop.site, 0.5, gensets_on_kw={"gen1": 150.0})
    loop.plant = state
    loop.run(5)
    assert loop.events("genset.started_by_itself")
    assert loop.edge.requests["gen1"].run


def test_reconnection_is_bumpless():
    loop = Loop(Rules(), soc=0.6)
    loop.world.pv_kw = {"pv1": 300.0}
    loop.run(30)
    loop.world.mains = False
    loop.run(30)
    loop.violations.clear()
    loop.world.mains = True
    loop.run(120)
    assert loop.log[-1][1].mode is GridMode.GRID_TIED
    assert not over(loop, "export_over_cap")
    grid = [f.grid_p_kw for _, d, f in loop.log if f.grid_closed][-60:]
    assert max(abs(b - a) for a, b in itertools.pairwise(grid)) < 20.0


@pytest.mark.parametrize("dt_s", [1.0, 10.0, 60.0, 900.0])
def test_any_cycle_length_a_quiet_day_has_no_violation(dt_s):
    loop = Loop(RulesTou(), soc=0.6)
    loop.world.pv_kw = {"pv1": 250.0}
    loop.run(1.0)
    loop.violations.clear()
    loop.run(max(7200.0 if dt_s > 1.0 else 600.0, dt_s * 4), dt_s=dt_s)
    assert not loop.violations


def test_site_whose_feeders_cannot_be_shed_is_left_alone():
    bare = site()
    loop = Loop(Rules(), plant_site=bare, soc=0.5)
    loop.run(2)
    assert "critical.close_request" not in loop.set
