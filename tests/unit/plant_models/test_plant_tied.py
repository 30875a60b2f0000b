from dataclasses import replace

import pytest

from ems.errors import BadValue
from ems.points import ENGINE_POINTS, METER_POINTS, POINTS, Access, BessState
from plant_models import grid
from plant_models.plant import PlantFaults, initial_state, step
from tests import builders
from tests.unit.plant_models.helpers import DEMAND, balance_kw, inputs, kinds, run

SITE = builders.site()


def test_step_tied_grid_balances_and_voltage_follows():
    _, f = step(
        SITE, initial_state(SITE), inputs(bess_p_set_kw={"bess1": 40.0}, pv_potential_kw={"pv1": 30.0}), 1.0
    )
    assert f.grid_p_kw == pytest.approx(240.0 + 2.0 - 40.0 - 30.0)
    assert f.grid_q_kvar == pytest.approx(240.0 * 0.32868, rel=1e-4)
    r, x = grid.impedance_pu_per_kw(SITE.grid)
    assert f.poi_v_pu == pytest.approx(grid.poi_voltage_pu(r, x, 1.0, f.grid_p_kw, f.grid_q_kvar))
    assert f.bus_v_pu == f.poi_v_pu < 1.0
    assert f.violations == ()


def test_step_import_over_cap_is_counted_not_clipped():
    _, f = step(SITE, initial_state(SITE), inputs(bess_p_set_kw={"bess1": -300.0}), 1.0)
    assert f.grid_p_kw == pytest.approx(542.0)
    assert [(v.kind, v.asset, v.unit) for v in f.violations] == [("import_over_cap", "grid1", "kW")]
    assert f.violations[0].amount == pytest.approx(192.0)


def test_step_export_over_cap_is_counted_not_clipped():
    _, f = step(SITE, initial_state(SITE), inputs(pv_potential_kw={"pv1": 500.0}), 1.0)
    assert f.grid_p_kw == pytest.approx(-258.0)
    assert f.violations[0].kind == "export_over_cap"
    assert f.violations[0].amount == pytest.approx(258.0)


@pytest.mark.parametrize(
    ("limit", "p"), [(None, 500.0), (600.0, 500.0), (120.0, 120.0), (0.0, 0.0), (-5.0, 0.0)]
)
def test_step_pv_limit_curtails(limit, p):
    given = inputs(pv_potential_kw={"pv1": 500.0}, pv_limit_kw={} if limit is None else {"pv1": limit})
    _, f = step(SITE, initial_state(SITE), given, 1.0)
    assert f.pv_p_kw["pv1"] == p
    assert f.curtailed_kw()["pv1"] == 500.0 - p


@pytest.mark.parametrize(
    ("soc", "asked", "p"), [(0.5, 700.0, 500.0), (0.5, -700.0, -500.0), (0.125, 500.0, 300.0)]
)
def test_step_following_battery_keeps_its_live_limits(soc, asked, p):
    _, f = step(SITE, initial_state(SITE, soc=soc), inputs(bess_p_set_kw={"bess1": asked}), 1.0)
    assert f.bess_p_kw["bess1"] == pytest.approx(p)


def test_step_following_battery_keeps_its_circle():
    small = replace(SITE.bess[0], pcs=replace(SITE.bess[0].pcs, s_kva=200.0))
    site = replace(SITE, bess=(small,))
    _, f = step(site, initial_state(site), inputs(bess_p_set_kw={"bess1": 450.0}), 1.0)
    assert f.bess_p_kw["bess1"] == 200.0


def test_step_long_at_empty_holds_the_window():
    _, flows = run(SITE, initial_state(SITE, soc=0.1), inputs(bess_p_set_kw={"bess1": 500.0}), 86400, 900.0)
    assert flows[-1].bess_soc["bess1"] == pytest.approx(0.1, abs=1e-9)
    assert -2.2 < flows[-1].bess_p_kw["bess1"] < -2.0
    assert "soc_outside_window" not in kinds(flows)


def test_step_battery_found_outside_its_window_is_a_violation():
    _, f = step(SITE, initial_state(SITE, soc=0.05), inputs(), 1.0)
    assert [(v.kind, v.asset) for v in f.violations] == [("soc_outside_window", "bess1")]
    assert f.violations[0].amount == pytest.approx(0.05, abs=1e-4)


def test_step_feeder_opened_by_request_is_unserved_and_needs_its_dwell_to_close():
    state, flows = run(
        SITE, initial_state(SITE), inputs(feeder_close={"essential": False, "critical": False}), 3
    )
    assert flows[-1].feeder_p_kw == {"critical": 80.0, "essential": 0.0, "deferrable": 60.0}
    assert flows[-1].unserved_kw() == {"critical": 0.0, "essential": 100.0, "deferrable": 0.0}
    _, flows = run(SITE, state, inputs(), 62)
    assert [f.feeder_p_kw["essential"] for f in flows] == [0.0] * 60 + [100.0] * 2


@pytest.mark.parametrize(
    "off", [{"faults": PlantFaults(pv_tripped=frozenset({"pv1"}))}, {"pv_trip_request": frozenset({"pv1"})}]
)
def test_step_pv_fault_or_opened_breaker_takes_it_off_and_it_reconnects(off):
    sun = inputs(pv_potential_kw={"pv1": 100.0})
    state, flows = run(SITE, initial_state(SITE), replace(sun, **off), 65)
    assert {f.pv_p_kw["pv1"] for f in flows} == {0.0}
    assert not state.pv["pv1"].producing
    _, flows = run(SITE, state, sun, 62)
    assert [f.pv_p_kw["pv1"] for f in flows] == [0.0] * 60 + [100.0] * 2


def test_step_battery_fault_trips_and_restarts():
    fault = PlantFaults(bess_tripped=frozenset({"bess1"}))
    state, flows = run(SITE, initial_state(SITE), inputs(bess_p_set_kw={"bess1": 50.0}, faults=fault), 5)
    assert flows[0].bess_p_kw["bess1"] == 0.0
    assert flows[0].bess_state["bess1"] is BessState.TRIPPED
    assert flows[0].bess_p_discharge_kw_max["bess1"] == 0.0
    _, flows = run(SITE, state, inputs(bess_p_set_kw={"bess1": 50.0}), 62)
    assert [f.bess_p_kw["bess1"] for f in flows] == [0.0] * 60 + [50.0] * 2


NOT_MODELLED = {
    "grid1.p_import_kw_max",
    "grid1.p_export_kw_max",
    "bess1.temp_degc",
    *(f"grid1.v{n}_pu" for n in (1, 2, 3)),
    *(f"{a}.p_l{n}_kw" for a in ("grid1", "bess1", "gen1", "gen2") for n in (1, 2, 3)),
    *(f"grid1.i_l{n}_a" for n in (1, 2, 3)),
    *(f"grid1.{n}" for n in ("p_pv_kw_max", "p_charge_kw_max", "p_discharge_kw_max", "limits_heartbeat")),
    *(f"{a}.remote" for a in ("bess1", "gen1", "gen2", "pv1", "critical", "essential", "deferrable", "bus")),
    "bus.emergency_stop",
    *(f"bus.contact_{n}" for n in range(1, 9)),
    *(f"{g}.{name}" for g in ("gen1", "gen2") for name in ENGINE_POINTS),
    *(f"grid1.{name}" for name in METER_POINTS),
    *("bess1.p_pcs_kw_max", "gen1.p_kw_max", "gen2.p_kw_max"),
}  # optional, told from outside


def test_readings_hold_every_read_point_of_every_asset():
    _, f = step(SITE, initial_state(SITE), inputs(), 1.0)
    expected = {
        f"{asset}.{spec.name}"
        for asset, kind in SITE.asset_kinds().items()
        for spec in POINTS[kind]
        if spec.access is Access.READ
    }
    readings = f.readings()
    assert set(readings) == expected - NOT_MODELLED
    assert all(isinstance(v, float) for v in readings.values())
    assert readings["grid1.breaker_closed"] == readings["bus.alive"] == 1.0
    assert readings["bess1.state"] == 1.0


@pytest.mark.parametrize(
    "changes",
    [
        {"demand_kw": DEMAND | {"critical": float("nan")}},
        {"demand_kw": DEMAND | {"critical": -1.0}},
        {"pv_potential_kw": {"pv1": float("inf")}},
        {"pv_potential_kw": {"pv1": -1.0}},
        {"bess_p_set_kw": {"bess1": float("nan")}},
        {"genset_p_set_kw": {"gen1": float("nan")}},
        {"pv_limit_kw": {"pv1": float("nan")}},
        {"mains_v_pu": float("nan")},
        {"mains_f_hz": float("inf")},
    ],
)
def test_step_refuses_numbers_that_must_not_be_used(changes):
    with pytest.raises(BadValue):
        step(SITE, initial_state(SITE), inputs(**changes), 1.0)


@pytest.mark.parametrize("dt_s", [0.0, -1.0, float("nan")])
def test_step_refuses_a_step_that_is_no_time(dt_s):
    with pytest.raises(BadValue):
        step(SITE, initial_state(SITE), inputs(), dt_s)


def test_initial_state_refuses_an_island_nobody_can_form():
    with pytest.raises(ValueError, match="gen1"):
        initial_state(SITE, islanded_by="gen1")


def test_energy_balance_of_a_mixed_step_closes():
    state = initial_state(SITE, gensets_on_kw={"gen1": 150.0})
    given = inputs(
        pv_potential_kw={"pv1": 77.0}, genset_run_request={"gen1": True}, bess_p_set_kw={"bess1": -31.0}
    )
    _, f = step(SITE, state, given, 1.0)
    assert balance_kw(f) == pytest.approx(0.0, abs=1e-9)


# --- one long step against many short ones ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("soc", "p_set", "genset_p"),
    [(0.5, -200.0, None), (0.5, 200.0, None), (0.5, 0.0, 250.0), (0.91, -400.0, None), (0.14, 300.0, None)],
)
def test_step_of_900_s_equals_900_steps_of_1_s(soc, p_set, genset_p):
    on = {} if genset_p is None else {"gen1": genset_p}
    given = inputs(
        pv_potential_kw={"pv1": 90.0}, bess_p_set_kw={"bess1": p_set}, genset_p_set_kw=on,
        genset_run_request=dict.fromkeys(on, True),
    )  # fmt: skip
    start = initial_state(SITE, soc=soc, gensets_on_kw=on)
    once, flow = step(SITE, start, given, 900.0)
    many, flows = run(SITE, start, given, 900.0)
    assert flow.dt_s == pytest.approx(900.0)
    assert flow.grid_p_kw == pytest.approx(sum(f.grid_p_kw for f in flows) / 900.0, rel=0.005, abs=0.5)
    moved = many.bess["bess1"].stored_kwh - start.bess["bess1"].stored_kwh
    assert once.bess["bess1"].stored_kwh - start.bess["bess1"].stored_kwh == pytest.approx(moved, rel=0.005)
    fuel = sum(f.genset_fuel_l_h["gen1"] for f in flows) / 900.0
    assert flow.genset_fuel_l_h["gen1"] == pytest.approx(fuel, rel=0.005)
    assert flow.poi_v_pu == pytest.approx(flows[-1].poi_v_pu, rel=0.005)


def test_step_of_900_s_with_a_start_inside_equals_small_steps():
    given = inputs(genset_run_request={"gen1": True}, genset_p_set_kw={"gen1": 200.0})
    once, flow = step(SITE, initial_state(SITE), given, 900.0)
    many, flows = run(SITE, initial_state(SITE), given, 900.0)
    assert flow.genset_p_kw["gen1"] == pytest.approx(
        sum(f.genset_p_kw["gen1"] for f in flows) / 900.0, rel=0.005
    )
    assert flow.genset_starts["gen1"] == 1
    assert once.gensets["gen1"].tank_l == pytest.approx(many.gensets["gen1"].tank_l, rel=1e-5)
    assert once.gensets["gen1"].run_h == pytest.approx(many.gensets["gen1"].run_h, rel=0.005)
