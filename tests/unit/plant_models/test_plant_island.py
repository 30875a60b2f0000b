from dataclasses import replace

import pytest

from ems.assets import Sharing
from ems.points import BessState, GensetState
from plant_models.plant import PlantFaults, initial_state, step
from tests import builders
from tests.unit.plant_models.helpers import DEMAND, balance_kw, inputs, kinds, run

SITE = builders.site()
OFF = inputs(mains_present=False)
ISLAND = initial_state(SITE, soc=0.6, islanded_by="bess1")
NO_BESS = replace(SITE, bess=())


def demand(total_kw: float) -> dict[str, float]:
    """All of it on the feeder without a breaker."""
    return {"critical": total_kw, "essential": 0.0, "deferrable": 0.0}


# --- losing the mains -------------------------------------------------------------------------------------


def test_mains_lost_with_a_forming_battery_is_a_short_dip():
    _, flows = run(SITE, initial_state(SITE), OFF, 3)
    assert flows[0].dead_s == pytest.approx(0.2)
    assert flows[0].feeder_p_kw["critical"] == pytest.approx(0.8 * 80.0)
    assert flows[0].feeder_closed["essential"]
    assert flows[1].forming == "bess1"
    assert flows[1].bess_p_kw["bess1"] == pytest.approx(242.0)
    assert flows[1].bess_q_kvar["bess1"] == pytest.approx(240.0 * 0.32868, rel=1e-4)
    assert flows[1].readings()["bess1.state"] == 2.0
    assert flows[1].grid_p_kw == 0.0
    assert "bus_dead" not in kinds(flows)
    assert sum(f.islanded_s for f in flows) == pytest.approx(2.8)


def test_mains_lost_with_nothing_to_form_kills_the_bus():
    follower = replace(SITE.bess[0], pcs=replace(SITE.bess[0].pcs, can_form=False))
    site = replace(SITE, bess=(follower,))
    _, flows = run(site, initial_state(site), replace(OFF, pv_potential_kw={"pv1": 300.0}), 3)
    assert not flows[0].bus_alive
    assert flows[0].feeder_p_kw == dict.fromkeys(DEMAND, 0.0)
    assert flows[0].feeder_closed == {"critical": True, "essential": False, "deferrable": False}
    assert flows[0].pv_p_kw["pv1"] == 0.0
    assert flows[0].bess_state["bess1"] is BessState.OFF
    assert flows[0].bus_f_hz == flows[0].bus_v_pu == 0.0
    assert [(v.kind, v.amount) for v in flows[1].violations] == [("bus_dead", 1.0)]


def test_mains_lost_with_a_battery_not_listed_as_forming_kills_the_bus():
    site = replace(SITE, forming=replace(SITE.forming, islanded=("gen1",)))
    _, flows = run(site, initial_state(site), OFF, 1)
    assert not flows[0].bus_alive


def test_mains_lost_beyond_the_step_of_a_running_genset_kills_the_bus():
    """140 kW of import fall on a set at 120 kW that takes 100 kW at once and 20 kW/s."""
    weak = replace(NO_BESS, gensets=(replace(SITE.gensets[0], step_load_kw_max=100.0),))
    state = initial_state(weak, gensets_on_kw={"gen1": 120.0})
    on = replace(OFF, genset_run_request={"gen1": True}, genset_p_set_kw={"gen1": 120.0})
    _, flows = run(weak, state, replace(on, demand_kw=demand(260.0)), 2)
    assert not flows[-1].bus_alive
    _, flows = run(weak, state, replace(on, demand_kw=demand(210.0)), 2)
    assert flows[-1].forming == "gen1"
    assert flows[-1].genset_p_kw["gen1"] == pytest.approx(210.0)


@pytest.mark.parametrize("v", [0.8, 1.15])
def test_mains_present_but_unusable_are_left(v):
    _, flows = run(SITE, initial_state(SITE), inputs(mains_v_pu=v), 2)
    assert flows[-1].forming == "bess1"
    assert flows[-1].poi_v_pu == v
    assert flows[-1].readings()["grid1.breaker_closed"] == 0.0


BANDED = replace(
    SITE, grid=replace(SITE.grid, supervision=replace(SITE.grid.supervision, f_min_hz=49.0, f_max_hz=51.0))
)


@pytest.mark.parametrize("f_hz", [48.9, 51.1])
def test_mains_of_wrong_frequency_are_left_for_an_island_of_nominal_frequency(f_hz):
    _, flows = run(BANDED, initial_state(BANDED), inputs(mains_f_hz=f_hz), 120)
    assert flows[-1].forming == "bess1"
    told = flows[-1].readings()
    assert (told["grid1.f_hz"], told["bus.f_hz"], told["grid1.sync_ok"]) == (f_hz, 50.0, 0.0)


@pytest.mark.parametrize("excursion", [{"mains_f_hz": 48.9}, {"mains_v_pu": 0.8}, {"mains_v_pu": 1.15}])
def test_mains_outside_are_kept_where_the_relay_is_set_wider_and_are_not_closed_to(excursion):
    given = inputs(poi_relay=False, **excursion)
    _, flows = run(BANDED, initial_state(BANDED), given, 120)
    told = flows[-1].readings()
    assert flows[-1].forming == "grid1"
    assert told["bus.f_hz"] == excursion.get("mains_f_hz", 50.0)
    assert abs(told["bus.v_pu"] - excursion.get("mains_v_pu", 1.0)) < 0.05
    assert not any(f.violations for f in flows)
    _, flows = run(BANDED, ISLAND, given, 120)
    assert flows[-1].forming == "bess1"


def test_mains_gone_are_left_whatever_the_relay_is_set_to():
    _, flows = run(BANDED, initial_state(BANDED), replace(OFF, poi_relay=False), 2)
    assert flows[-1].forming == "bess1"


def test_mains_pulled_below_the_band_by_our_own_import_are_left_and_counted():
    heavy = inputs(mains_v_pu=0.88, bess_p_set_kw={"bess1": -200.0})
    _, flows = run(SITE, initial_state(SITE), heavy, 2)
    assert flows[0].violations[0].kind == "poi_voltage"
    assert flows[0].violations[0].amount < 0.0
    assert flows[-1].forming == "bess1"


# --- coming back ------------------------------------------------------------------------------------------


def test_mains_back_close_after_the_dwell_without_a_dip():
    _, flows = run(SITE, ISLAND, inputs(), 63)
    assert [f.forming for f in flows] == ["bess1"] * 60 + ["grid1"] * 3
    assert sum(f.dead_s for f in flows) == 0.0
    assert flows[-1].bess_state["bess1"] is BessState.FOLLOWING
    assert flows[-1].grid_p_kw == pytest.approx(242.0)


def test_mains_back_and_gone_again_start_the_dwell_anew():
    state, _ = run(SITE, ISLAND, inputs(), 50)
    state, _ = run(SITE, state, OFF, 1)
    _, flows = run(SITE, state, inputs(), 60)
    assert {f.forming for f in flows} == {"bess1"}


def test_mains_back_on_a_dead_bus_close_after_the_dwell():
    dead, _ = run(NO_BESS, initial_state(NO_BESS), OFF, 5)
    _, flows = run(NO_BESS, dead, inputs(), 125)
    assert [f.bus_alive for f in flows].index(True) == 60
    assert flows[60].feeder_p_kw == {"critical": 80.0, "essential": 0.0, "deferrable": 0.0}
    assert flows[-1].feeder_p_kw == DEMAND


# --- the forming battery and its limits -------------------------------------------------------------------


def test_island_battery_ignores_its_setpoint_and_balances():
    given = replace(OFF, bess_p_set_kw={"bess1": -100.0}, pv_potential_kw={"pv1": 100.0})
    _, f = step(SITE, ISLAND, given, 1.0)
    assert f.bess_p_kw["bess1"] == pytest.approx(142.0)


def test_island_overload_within_ratio_lasts_its_time_then_the_bus_is_dead():
    _, flows = run(SITE, ISLAND, replace(OFF, demand_kw=demand(540.0)), 12)
    alive = [f.bus_alive for f in flows]
    assert alive == [True] * 10 + [False] * 2
    assert kinds(flows[:10]) == {"pcs_over_rating"}
    assert flows[0].bess_p_kw["bess1"] == pytest.approx(542.0)
    assert flows[10].bess_state["bess1"] is BessState.TRIPPED
    assert flows[10].feeder_p_kw["critical"] == 0.0


def test_island_overload_beyond_ratio_kills_the_bus_at_once():
    _, f = step(SITE, ISLAND, replace(OFF, demand_kw=demand(620.0)), 1.0)
    assert not f.bus_alive


def test_island_overload_that_ends_in_time_is_survived():
    state, _ = run(SITE, ISLAND, replace(OFF, demand_kw=demand(540.0)), 9)
    state, _ = run(SITE, state, OFF, 1)
    _, flows = run(SITE, state, replace(OFF, demand_kw=demand(540.0)), 9)
    assert all(f.bus_alive for f in flows)


def test_island_overload_in_one_long_step_is_found():
    _, f = step(SITE, ISLAND, replace(OFF, demand_kw=demand(540.0)), 60.0)
    assert not f.bus_alive
    assert f.islanded_s == pytest.approx(10.0)
    assert f.dead_s == pytest.approx(50.0)
    assert f.feeder_p_kw["critical"] == pytest.approx(540.0 * 10.0 / 60.0)


def test_island_of_an_empty_battery_dies_when_the_energy_is_out():
    state = initial_state(SITE, soc=0.101, islanded_by="bess1")
    light = replace(OFF, demand_kw=demand(60.0))
    _, flows = run(SITE, state, light, 120)
    alive_s = sum(f.islanded_s for f in flows)
    drawn_kw = 62.0 / 0.975 + 0.0188 * 62.0**2 / 500.0 + 2.0
    assert alive_s == pytest.approx(1.0 * 3600.0 / drawn_kw, abs=1.5)
    assert flows[-1].bess_soc["bess1"] >= 0.1 - 1e-4
    assert "soc_outside_window" not in kinds(flows)


def test_island_reactive_load_counts_in_the_circle():
    thin = replace(SITE.bess[0], pcs=replace(SITE.bess[0].pcs, s_kva=250.0, overload_ratio=1.0))
    site = replace(SITE, bess=(thin,))
    state = initial_state(site, soc=0.6, islanded_by="bess1")
    _, f = step(site, state, replace(OFF, demand_kw=demand(245.0)), 1.0)  # 247 kW, but 260 kVA
    assert not f.bus_alive


def test_island_too_much_pv_trips_every_inverter_which_reconnect_later():
    state = initial_state(SITE, soc=0.95, islanded_by="bess1")
    sunny = replace(OFF, pv_potential_kw={"pv1": 550.0})
    _, flows = run(SITE, state, sunny, 5)
    assert flows[0].pv_p_kw["pv1"] == 0.0
    assert flows[0].bess_p_kw["bess1"] == pytest.approx(242.0)
    assert [(v.kind, v.amount) for v in flows[0].violations] == [("pv_over_frequency", 550.0)]
    assert all(f.bus_alive for f in flows)
    curtailed = replace(sunny, pv_limit_kw={"pv1": 100.0})
    state, _ = step(SITE, state, sunny, 1.0)
    _, flows = run(SITE, state, curtailed, 62)
    assert flows[-1].pv_p_kw["pv1"] == 100.0


def test_island_charging_above_the_limit_is_ridden_through_before_pv_trips():
    sunny = replace(OFF, pv_potential_kw={"pv1": 780.0})
    _, flows = run(SITE, ISLAND, sunny, 12)
    assert [f.pv_p_kw["pv1"] for f in flows] == [780.0] * 10 + [0.0] * 2


def test_island_genset_beside_battery_holds_base_load():
    state = initial_state(SITE, soc=0.6, gensets_on_kw={"gen1": 200.0}, islanded_by="bess1")
    given = replace(OFF, genset_run_request={"gen1": True}, genset_p_set_kw={"gen1": 200.0})
    _, f = step(SITE, state, given, 1.0)
    assert f.genset_p_kw["gen1"] == 200.0
    assert f.bess_p_kw["bess1"] == pytest.approx(42.0)
    assert f.genset_q_kvar["gen1"] / 500.0 == pytest.approx(f.bess_q_kvar["bess1"] / 550.0)


def test_island_genset_takes_what_the_battery_cannot():
    state = initial_state(SITE, soc=0.6, gensets_on_kw={"gen1": 120.0}, islanded_by="bess1")
    given = replace(OFF, genset_run_request={"gen1": True}, genset_p_set_kw={"gen1": 120.0})
    _, f = step(SITE, state, replace(given, demand_kw=demand(748.0)), 1.0)
    assert f.bus_alive
    assert f.bess_p_kw["bess1"] < 500.0 + 1e-6
    assert f.genset_p_kw["gen1"] > 240.0
    assert balance_kw(f) == pytest.approx(0.0, abs=1e-9)


def test_island_genset_unloads_for_a_full_battery_and_is_counted_below_minimum():
    state = initial_state(SITE, soc=0.95, gensets_on_kw={"gen1": 300.0}, islanded_by="bess1")
    given = replace(OFF, genset_run_request={"gen1": True}, genset_p_set_kw={"gen1": 300.0})
    _, flows = run(SITE, state, replace(given, demand_kw=demand(50.0)), 3)
    assert all(f.bus_alive for f in flows)
    assert flows[0].genset_p_kw["gen1"] < 60.0
    assert kinds(flows) == {"genset_below_min"}


# --- gensets that form ------------------------------------------------------------------------------------


def test_island_one_set_forms_the_other_holds_base_load():
    state = initial_state(NO_BESS, gensets_on_kw={"gen1": 160.0, "gen2": 80.0}, islanded_by="gen1")
    given = replace(OFF, genset_run_request={"gen1": True, "gen2": True}, genset_p_set_kw={"gen2": 80.0})
    _, f = step(NO_BESS, state, given, 1.0)
    assert f.genset_p_kw == pytest.approx({"gen1": 160.0, "gen2": 80.0})
    assert f.forming == "gen1"


def test_island_proportional_sets_share_by_rating():
    gensets = tuple(replace(g, sharing=Sharing.PROPORTIONAL) for g in SITE.gensets)
    site = replace(NO_BESS, gensets=gensets)
    state = initial_state(site, gensets_on_kw={"gen1": 160.0, "gen2": 80.0}, islanded_by="gen1")
    given = replace(OFF, genset_run_request={"gen1": True, "gen2": True}, demand_kw=demand(300.0))
    _, f = step(site, state, given, 1.0)
    assert f.genset_p_kw == pytest.approx({"gen1": 200.0, "gen2": 100.0})


def test_island_genset_overload_beyond_ratio_kills_the_bus_and_needs_a_cool_down():
    state = initial_state(NO_BESS, gensets_on_kw={"gen1": 390.0}, islanded_by="gen1")
    given = replace(OFF, genset_run_request={"gen1": True})
    state, flows = run(NO_BESS, state, replace(given, demand_kw=demand(430.0)), 3)
    assert flows[-1].bus_alive
    assert kinds(flows) == {"genset_over_rating"}
    state, flows = run(NO_BESS, state, replace(given, demand_kw=demand(445.0)), 3)
    assert not flows[0].bus_alive
    assert flows[0].genset_state["gen1"] is GensetState.COOLING_DOWN
    _, flows = run(NO_BESS, state, given, 170)
    assert {f.genset_state["gen1"] for f in flows} == {GensetState.COOLING_DOWN}


def test_island_light_load_on_the_forming_set_is_counted_below_minimum():
    state = initial_state(NO_BESS, gensets_on_kw={"gen1": 60.0}, islanded_by="gen1")
    given = replace(OFF, genset_run_request={"gen1": True}, demand_kw=demand(60.0))
    _, f = step(NO_BESS, state, given, 1.0)
    assert [(v.kind, v.amount) for v in f.violations] == [("genset_below_min", 60.0)]


def test_island_reverse_power_on_the_forming_set_trips_pv():
    state = initial_state(NO_BESS, gensets_on_kw={"gen1": 200.0}, islanded_by="gen1")
    given = replace(OFF, genset_run_request={"gen1": True}, pv_potential_kw={"pv1": 300.0})
    _, flows = run(NO_BESS, state, given, 2)
    assert all(f.bus_alive for f in flows)
    assert flows[0].pv_p_kw["pv1"] == 0.0
    assert "pv_over_frequency" in kinds(flows)


def test_island_reverse_power_by_a_following_battery_kills_the_bus():
    state = initial_state(SITE, soc=0.6, gensets_on_kw={"gen1": 200.0}, islanded_by="gen1")
    given = replace(OFF, genset_run_request={"gen1": True}, bess_p_set_kw={"bess1": 300.0})
    _, f = step(SITE, state, given, 1.0)
    assert not f.bus_alive


# --- losing the forming source ----------------------------------------------------------------------------


def test_forming_battery_trips_beside_a_running_set_which_takes_over():
    state = initial_state(SITE, soc=0.6, gensets_on_kw={"gen1": 150.0}, islanded_by="bess1")
    fault = PlantFaults(bess_tripped=frozenset({"bess1"}))
    given = replace(OFF, genset_run_request={"gen1": True}, genset_p_set_kw={"gen1": 150.0}, faults=fault)
    _, flows = run(SITE, state, given, 3)
    assert {f.forming for f in flows} == {"gen1"}
    assert flows[0].genset_p_kw["gen1"] == pytest.approx(242.0)
    assert sum(f.dead_s for f in flows) == 0.0


def test_forming_set_trips_beside_a_following_battery_which_takes_over_after_a_dip():
    state = initial_state(SITE, soc=0.6, gensets_on_kw={"gen1": 240.0}, islanded_by="gen1")
    fault = PlantFaults(genset_tripped=frozenset({"gen1"}))
    _, flows = run(SITE, state, replace(OFF, genset_run_request={"gen1": True}, faults=fault), 3)
    assert flows[-1].forming == "bess1"
    assert sum(f.dead_s for f in flows) == pytest.approx(0.2)


def test_forming_battery_trips_alone_and_forms_again_after_its_restart_time():
    fault = PlantFaults(bess_tripped=frozenset({"bess1"}))
    dead, _ = run(SITE, ISLAND, replace(OFF, faults=fault), 2)
    sunny = replace(OFF, pv_potential_kw={"pv1": 50.0})
    _, flows = run(SITE, dead, sunny, 190)
    assert [f.bus_alive for f in flows].index(True) == 60
    assert flows[60].feeder_p_kw == {"critical": 80.0, "essential": 0.0, "deferrable": 0.0}  # cold load
    assert [f.pv_p_kw["pv1"] > 0.0 for f in flows].index(True) == 120
    assert [f.feeder_p_kw["essential"] > 0.0 for f in flows].index(True) == 120
    assert flows[-1].feeder_p_kw == DEMAND


def test_black_start_under_too_much_cold_load_dies_again():
    fault = PlantFaults(bess_tripped=frozenset({"bess1"}))
    site = replace(SITE, gensets=())
    heavy = replace(OFF, demand_kw=demand(700.0))
    dead, _ = run(site, initial_state(site), replace(heavy, faults=fault), 2)
    _, flows = run(site, dead, heavy, 200)
    assert not any(f.bus_alive for f in flows)
    assert sum(f.feeder_p_kw["critical"] for f in flows) == 0.0


def test_dead_bus_only_the_first_ready_set_closes_the_other_synchronises():
    state, _ = run(NO_BESS, initial_state(NO_BESS), OFF, 1)
    asked = replace(OFF, genset_run_request={"gen1": True, "gen2": True})
    _, flows = run(NO_BESS, state, asked, 60)
    running = {
        g: [f.genset_state[g] is GensetState.RUNNING for f in flows].index(True) for g in ("gen1", "gen2")
    }
    assert running["gen1"] == 30
    assert running["gen2"] == 40
    assert flows[30].forming == "gen1"


def test_planned_return_of_the_battery_follows_the_set_that_forms():
    state = initial_state(SITE, soc=0.6, gensets_on_kw={"gen1": 240.0}, islanded_by="gen1")
    given = replace(OFF, genset_run_request={"gen1": True}, bess_p_set_kw={"bess1": 30.0})
    _, flows = run(SITE, state, given, 5)
    assert {f.forming for f in flows} == {"gen1"}
    assert flows[-1].bess_p_kw["bess1"] == 30.0
    assert flows[-1].genset_p_kw["gen1"] == pytest.approx(212.0)
