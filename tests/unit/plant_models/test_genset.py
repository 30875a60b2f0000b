from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.points import GensetState
from plant_models import genset
from plant_models.plant import PlantFaults, PlantFlows, initial_state, step
from tests import builders
from tests.unit.plant_models.helpers import inputs, kinds, run

G = builders.genset()
CURVE = genset.fuel_points(G)
SITE = builders.site()
ON = {"gen1": True}


def states(flows: list[PlantFlows], genset_id: str = "gen1") -> list[tuple[str, int]]:
    out: list[tuple[str, int]] = []
    for f in flows:
        name = f.genset_state[genset_id].value
        same = bool(out) and out[-1][0] == name
        out[-1:] = [(name, out[-1][1] + 1)] if same else [*out[-1:], (name, 1)]
    return out


# --- fuel and ramp ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "litres"), [(100.0, 33.7), (200.0, 56.4), (300.0, 80.6), (400.0, 108.3), (150.0, 45.05)]
)
def test_fuel_on_and_between_the_points(p, litres):
    assert genset.fuel_l_h(CURVE, p) == pytest.approx(litres)


def test_fuel_at_no_load_extends_the_first_segment():
    assert genset.no_load_l_h(G) == pytest.approx(33.7 - (56.4 - 33.7))
    assert genset.fuel_l_h(CURVE, 0.0) == pytest.approx(genset.no_load_l_h(G))


def test_fuel_above_the_last_point_goes_on():
    assert genset.fuel_l_h(CURVE, 440.0) == pytest.approx(108.3 + 40.0 * (108.3 - 80.6) / 100.0)


def test_fuel_with_a_steep_first_segment_is_never_negative():
    steep = replace(G, fuel_l_h=(10.0, 56.4, 80.6, 108.3))
    assert genset.no_load_l_h(steep) == 0.0
    assert genset.fuel_l_h(genset.fuel_points(steep), 0.0) == 0.0


def test_fuel_of_a_curve_with_its_own_no_load_point_uses_it():
    own = replace(G, fuel_kw=(0.0, 400.0), fuel_l_h=(12.0, 108.0))
    assert genset.no_load_l_h(own) == 12.0
    assert genset.fuel_l_h(genset.fuel_points(own), 200.0) == pytest.approx(60.0)


def test_fuel_of_a_known_linear_set():
    """50 kW set, 8.48 L/h at 25 kW and 15.3 at 50: 0.2728 L/kWh and 0.0332 L/h per kW rated at no load."""
    known = replace(G, p_rated_kw=50.0, fuel_kw=(25.0, 50.0), fuel_l_h=(8.48, 15.3))
    curve = genset.fuel_points(known)
    assert genset.no_load_l_h(known) / 50.0 == pytest.approx(0.0332, abs=1e-4)
    assert genset.fuel_l_h(curve, 20.0) == pytest.approx(7.116, abs=1e-3)
    assert genset.fuel_l_h(curve, 40.0) / 40.0 == pytest.approx(0.3143, abs=1e-4)


def test_fuel_array_equals_scalar():
    p = np.linspace(0.0, 450.0, 91)
    np.testing.assert_allclose(genset.fuel_l_h_array(G, p), [genset.fuel_l_h(CURVE, float(v)) for v in p])


@given(
    p=st.floats(0.0, 400.0), target=st.floats(0.0, 400.0), dt_s=st.floats(0.01, 900.0), n=st.integers(2, 20)
)
def test_ramp_once_equals_many_small_steps(p, target, dt_s, n):
    mean, end = genset.ramp(p, target, 20.0, dt_s)
    total, at = 0.0, p
    for _ in range(n):
        part, at = genset.ramp(at, target, 20.0, dt_s / n)
        total += part / n
    assert at == pytest.approx(end, abs=1e-9)
    assert total == pytest.approx(mean, abs=1e-9)
    assert abs(end - p) <= 20.0 * dt_s + 1e-9


# --- sequence ---------------------------------------------------------------------------------------------


def test_sequence_start_to_load_takes_the_stated_times():
    _, flows = run(
        SITE, initial_state(SITE), inputs(genset_run_request=ON, genset_p_set_kw={"gen1": 300.0}), 70
    )
    assert states(flows) == [("cranking", 9), ("warm_up", 20), ("synchronising", 11), ("running", 30)]
    assert flows[39].genset_p_kw["gen1"] == 0.0  # closes 40 s after the request, the sum of the three times
    assert flows[40].genset_p_kw["gen1"] == pytest.approx(10.0)  # 20 kW/s: 0 to 20 within that second
    assert flows[-1].genset_p_kw["gen1"] == 300.0
    assert sum(f.genset_starts["gen1"] for f in flows) == 1
    assert "genset_below_min" not in kinds(flows)


def test_sequence_stop_unloads_opens_cools_and_rests():
    state = initial_state(SITE, gensets_on_kw={"gen1": 300.0})
    _, flows = run(SITE, state, inputs(), 210)
    assert states(flows) == [("running", 15), ("cooling_down", 179), ("stopped", 16)]
    assert flows[0].genset_p_kw["gen1"] == pytest.approx(290.0)
    assert flows[14].genset_p_kw["gen1"] == pytest.approx(10.0)
    assert flows[20].genset_fuel_l_h["gen1"] == pytest.approx(genset.no_load_l_h(G))
    assert flows[-1].genset_fuel_l_h["gen1"] == 0.0
    assert "genset_below_min" not in kinds(flows)


def test_sequence_request_withdrawn_while_cranking_stops():
    state, _ = run(SITE, initial_state(SITE), inputs(genset_run_request=ON), 5)
    _, flows = run(SITE, state, inputs(), 2)
    assert states(flows) == [("stopped", 2)]


def test_sequence_request_withdrawn_while_warm_cools_down():
    state, _ = run(SITE, initial_state(SITE), inputs(genset_run_request=ON), 15)
    _, flows = run(SITE, state, inputs(), 2)
    assert states(flows) == [("cooling_down", 2)]


def test_sequence_request_while_cooling_goes_straight_to_synchronising():
    state, _ = run(SITE, initial_state(SITE, gensets_on_kw={"gen1": 100.0}), inputs(), 30)
    assert state.gensets["gen1"].phase is GensetState.COOLING_DOWN
    state, flows = run(SITE, state, inputs(genset_run_request=ON), 12)
    assert states(flows) == [("synchronising", 10), ("running", 2)]


def test_sequence_stop_request_taken_back_while_unloading_loads_again():
    state, _ = run(SITE, initial_state(SITE, gensets_on_kw={"gen1": 300.0}), inputs(), 5)
    given_again = inputs(genset_run_request=ON, genset_p_set_kw={"gen1": 300.0})
    _, flows = run(SITE, state, given_again, 10)
    assert states(flows) == [("running", 10)]
    assert flows[-1].genset_p_kw["gen1"] == 300.0


def test_failed_start_once_costs_one_attempt_and_then_runs():
    failing = inputs(genset_run_request=ON, faults=PlantFaults(genset_start_fails=frozenset({"gen1"})))
    state, first = run(SITE, initial_state(SITE), failing, 12)
    _, then = run(SITE, state, inputs(genset_run_request=ON), 45)
    flows = first + then
    assert sum(f.genset_failed_starts["gen1"] for f in flows) == 1
    assert states(flows)[:3] == [("cranking", 19), ("warm_up", 20), ("synchronising", 11)]
    assert flows[-1].genset_state["gen1"] is GensetState.RUNNING


def test_failed_start_three_times_locks_out_until_reset():
    failing = inputs(genset_run_request=ON, faults=PlantFaults(genset_start_fails=frozenset({"gen1"})))
    state, flows = run(SITE, initial_state(SITE), failing, 40)
    assert states(flows) == [("cranking", 29), ("locked_out", 11)]
    assert sum(f.genset_failed_starts["gen1"] for f in flows) == 3
    state, flows = run(SITE, state, inputs(), 100)
    assert states(flows) == [("locked_out", 100)]
    state, _ = run(SITE, state, inputs(faults=PlantFaults(genset_reset=frozenset({"gen1"}))), 1)
    assert state.gensets["gen1"].phase is GensetState.STOPPED
    _, flows = run(SITE, state, inputs(genset_run_request=ON), 45)
    assert flows[-1].genset_state["gen1"] is GensetState.RUNNING


def test_trip_by_fault_opens_at_once_and_locks_out():
    state = initial_state(SITE, gensets_on_kw={"gen1": 300.0})
    _, flows = run(SITE, state, inputs(faults=PlantFaults(genset_tripped=frozenset({"gen1"}))), 3)
    assert states(flows) == [("locked_out", 3)]
    assert flows[0].genset_p_kw["gen1"] == 0.0


@pytest.mark.parametrize(("asked", "held"), [(0.0, 120.0), (50.0, 120.0), (250.0, 250.0), (999.0, 400.0)])
def test_base_load_setpoint_is_held_between_minimum_and_rating(asked, held):
    state = initial_state(SITE, gensets_on_kw={"gen1": 250.0})
    _, flows = run(SITE, state, inputs(genset_run_request=ON, genset_p_set_kw={"gen1": asked}), 20)
    assert flows[-1].genset_p_kw["gen1"] == held
    assert kinds(flows) <= {"export_over_cap"}


def test_tank_runs_empty_and_the_engine_stops_and_does_not_crank():
    state = initial_state(SITE, gensets_on_kw={"gen1": 400.0}, tank_l={"gen1": 0.3})
    asked = inputs(genset_run_request=ON, genset_p_set_kw={"gen1": 400.0})
    state, flows = run(SITE, state, asked, 60)
    assert states(flows) == [("running", 9), ("stopped", 51)]
    assert sum(f.genset_fuel_l_h["gen1"] for f in flows) / 3600.0 == pytest.approx(0.3)
    state, flows = run(SITE, state, replace(asked, refuel_l={"gen1": 100.0}), 1)
    assert states(flows) == [("cranking", 1)]


def test_tank_takes_no_more_than_it_holds():
    state, _ = step(SITE, initial_state(SITE), inputs(refuel_l={"gen1": 50.0}), 1.0)
    assert state.gensets["gen1"].tank_l == 2000.0


def test_hour_meter_counts_while_the_engine_turns_by_itself():
    _, flows = run(SITE, initial_state(SITE), inputs(genset_run_request=ON), 3610)
    assert flows[-1].genset_run_h["gen1"] == pytest.approx(1.0)


# --- own start on mains failure ---------------------------------------------------------------------------


def test_own_start_waits_its_delay_on_a_dead_bus_then_carries_the_load():
    """With the EMS dead the plant is safe: no request is ever written here."""
    state = initial_state(SITE)
    off = inputs(mains_present=False, faults=PlantFaults(bess_tripped=frozenset({"bess1"})))
    _, flows = run(SITE, state, off, 300)
    expected = [("stopped", 120), ("cranking", 9), ("warm_up", 20), ("synchronising", 1), ("running", 150)]
    assert states(flows) == expected
    assert not flows[148].bus_alive
    assert flows[-1].forming == "gen1"
    assert flows[-1].feeder_p_kw == {"critical": 80.0, "essential": 100.0, "deferrable": 60.0}


def test_own_start_leaves_a_live_island_to_the_ems():
    _, flows = run(SITE, initial_state(SITE, soc=0.9), inputs(mains_present=False), 600)
    assert states(flows) == [("stopped", 600)]
    assert flows[-1].forming == "bess1"


def test_own_start_of_a_set_without_it_never_happens():
    site = replace(SITE, bess=(), gensets=tuple(replace(g, mains_failure_start=False) for g in SITE.gensets))
    _, flows = run(site, initial_state(site), inputs(mains_present=False), 600)
    assert states(flows) == [("stopped", 600)]


def test_own_start_ends_when_the_mains_are_back():
    site = replace(SITE, bess=())
    state, _ = run(site, initial_state(site), inputs(mains_present=False), 300)
    state, flows = run(site, state, inputs(), 400)
    assert flows[58].forming == "gen1"
    assert flows[60].forming == "grid1"
    assert flows[-1].genset_state["gen1"] is GensetState.STOPPED
    assert min(f.bus_v_pu for f in flows) > 0.9


def test_own_start_is_not_set_back_by_a_source_that_fails_again_and_again():
    """A black start of a small battery under too much load must not keep the gensets from starting."""
    small = replace(SITE.bess[0], pcs=replace(SITE.bess[0].pcs, s_kva=100.0, overload_s=5.0))
    site = replace(SITE, bess=(small,))
    heavy = inputs(mains_present=False, demand_kw={"critical": 110.0, "essential": 0.0, "deferrable": 0.0})
    _, flows = run(site, initial_state(site), heavy, 400)
    assert flows[-1].bus_alive
    assert flows[-1].genset_state["gen1"] is GensetState.RUNNING


def test_stop_request_to_the_last_source_is_refused_by_its_own_mains_failure_logic():
    site = replace(SITE, bess=())
    state = initial_state(site, gensets_on_kw={"gen1": 240.0}, islanded_by="gen1")
    _, flows = run(site, state, inputs(mains_present=False), 30)
    assert all(f.bus_alive for f in flows)


def test_stop_request_to_the_last_source_without_that_logic_kills_the_bus():
    site = replace(SITE, bess=(), gensets=(replace(SITE.gensets[0], mains_failure_start=False),))
    state = initial_state(site, gensets_on_kw={"gen1": 240.0}, islanded_by="gen1")
    _, flows = run(site, state, inputs(mains_present=False), 3)
    assert not flows[-1].bus_alive
    assert "bus_dead" in kinds(flows)


def test_stop_request_to_the_forming_set_hands_over_to_the_battery_without_a_dip():
    state = initial_state(SITE, gensets_on_kw={"gen1": 240.0}, islanded_by="gen1")
    _, flows = run(SITE, state, inputs(mains_present=False), 20)
    assert [f.forming for f in flows] == ["bess1"] * 20
    assert sum(f.dead_s for f in flows) == 0.0
    assert flows[-1].genset_state["gen1"] is GensetState.COOLING_DOWN
