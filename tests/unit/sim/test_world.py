"""The world: energy against an independent sum, watchdogs, faults, checkpoints, trace, violations."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from ems.assets import ActuatorSafety, DeviceBehaviour, OnSilence
from ems.cycle_life import CycleLife
from ems.kpi import settle
from ems.points import GensetState
from ems.site import Authority
from plant_models.rainflow import life_of_path_ratio
from sim.meter import INTERVAL_KIND
from sim.noise import chance
from sim.scenario import FaultEvent, FaultKind
from sim.world import COMMAND_OUT_OF_BOUNDS, World, WorldOptions
from sim.writes import WriteVerdict
from tests.builders import T0, bess, site
from tests.unit.sim.sim_builders import flat, outage, scenario, with_series

SECONDS = WorldOptions(fine_step_s=1.0, island_step_s=1.0, tied_step_s=1.0)


def with_silence(point: str, behaviour: DeviceBehaviour):
    """The small site, with another behaviour on silence for one setpoint."""
    base = site()
    setpoints = dict(base.authority.setpoints)
    safety = setpoints[point].safety
    setpoints[point] = replace(
        setpoints[point],
        safety=ActuatorSafety(
            grid_tied=safety.grid_tied, islanded=safety.islanded, black=safety.black, behaviour=behaviour
        ),
    )
    return replace(base, authority=Authority(setpoints=setpoints))


def test_advance_grid_tied_counters_close_the_energy_balance():
    world = World(scenario(6.0, mains=(outage(2.0, 3.0),)))
    world.write("bess1.p_set_kw", -80.0)
    world.advance(6 * 3600.0)
    world.finish()
    c = world.counters()
    stored = sum(c.bess_stored_end_kwh.values()) - sum(c.bess_stored_start_kwh.values())
    served = sum(c.demand_kwh.values()) - sum(c.unserved_kwh.values())
    into = c.import_kwh + sum(c.pv_kwh.values()) + sum(c.genset_kwh.values())
    out = served + c.export_kwh + stored + c.loss_kwh
    assert into == pytest.approx(out, abs=1e-6)
    assert c.duration_s == pytest.approx(6 * 3600.0)
    assert c.islanded_s > 3000.0
    assert c.residual_kwh < 1e-6


def test_wear_by_depth_is_rainflow_on_the_true_path_and_settled_by_the_same_curve():
    life = CycleLife(depth_ratio=(0.1, 1.0), cycles_count=(50_000.0, 3_000.0), replacement_cost=90_000.0)
    plant = replace(site(), bess=(bess(cycle_life=life, wear_per_kwh=0.0),))
    world, path = World(scenario(6.0, plant=plant)), [0.6]
    for hour, p_kw in enumerate((200.0, -60.0, 150.0, -300.0, 80.0, 0.0)):
        for step in range(60):
            world.write("bess1.p_set_kw", p_kw)
            world.advance(hour * 3600.0 + (step + 1) * 60.0, carry=True)
            path.append(world.flows.bess_stored_kwh["bess1"] / 1000.0)
    world.finish()
    counters = world.counters()
    expected = life_of_path_ratio(path, life)
    assert expected > 1.5 / 50_000.0
    assert counters.bess_life_used_ratio["bess1"] == pytest.approx(expected, rel=1e-6)
    assert settle(plant, counters, start=T0).wear_cost == pytest.approx(90_000.0 * expected, rel=1e-6)


def test_advance_counters_agree_with_the_sum_over_the_trace():
    world = World(scenario(4.0, mains=(outage(1.0, 2.0),)), options=SECONDS)
    world.advance(4 * 3600.0)
    world.finish()
    trace, c = world.trace(), world.counters()
    grid_kwh = float((trace.column("grid1.p_kw") * trace.dt_s).sum()) / 3600.0
    assert trace.dt_s.sum() == pytest.approx(4 * 3600.0)
    assert grid_kwh == pytest.approx(c.import_kwh - c.export_kwh, rel=1e-5)
    for feeder, kwh in c.demand_kwh.items():
        assert float((trace.column(f"{feeder}.demand_kw") * trace.dt_s).sum()) / 3600.0 == pytest.approx(
            kwh, rel=1e-5
        )


def test_advance_adaptive_steps_agree_with_one_second_steps():
    s = scenario(6.0, mains=(outage(2.0, 2.5),))
    coarse, fine = World(s), World(s, options=SECONDS)
    for world in (coarse, fine):
        world.advance(6 * 3600.0)
    a, b = coarse.counters(), fine.counters()
    assert coarse.steps < fine.steps / 20
    assert a.import_kwh == pytest.approx(b.import_kwh, rel=5e-3)
    assert a.bess_discharge_kwh["bess1"] == pytest.approx(b.bess_discharge_kwh["bess1"], rel=1e-2)


def test_advance_beyond_the_end_stops_at_the_end():
    world = World(scenario(1.0))
    world.advance(1e9)
    assert world.now_s == pytest.approx(3600.0)


def test_advance_import_over_cap_is_counted_on_the_step_and_on_the_billing_interval():
    """A planted violation is found by the count."""
    s = scenario(1.0, load_kw={"critical": 110.0, "essential": 240.0, "deferrable": 150.0}, pv_kw=0.0)
    world = World(s, options=SECONDS)
    world.write("bess1.p_set_kw", -100.0)  # 500 kW of load and 100 kW of charging on a 350 kW grid
    world.advance(3600.0)
    world.finish()
    assert world.counters().violations["import_over_cap"] > 100
    assert world.counters().violations[INTERVAL_KIND] >= 1
    assert world.meter.violation_max["import_over_cap"] > 150.0


@pytest.mark.parametrize(
    ("behaviour", "after_kw"),
    [
        (DeviceBehaviour(timeout_s=15.0, on_silence=OnSilence.HOLD), 50.0),
        (DeviceBehaviour(timeout_s=15.0, on_silence=OnSilence.VALUE, value=-20.0), -20.0),
        (DeviceBehaviour(timeout_s=15.0, on_silence=OnSilence.FULL), 500.0),
        (DeviceBehaviour(timeout_s=15.0, on_silence=OnSilence.STOP), 0.0),
    ],
)
def test_watchdog_controller_falls_silent_device_does_what_its_map_says(behaviour, after_kw):
    plant = with_silence("bess1.p_set_kw", behaviour)
    world = World(scenario(1.0, plant=plant), options=SECONDS)
    world.write("bess1.p_set_kw", 50.0)
    world.advance(14.0)
    assert world.flows.bess_p_kw["bess1"] == pytest.approx(50.0)
    world.advance(20.0)
    assert world.setpoints.values["bess1.p_set_kw"] == after_kw
    if abs(after_kw) <= 50.0:
        assert world.flows.bess_p_kw["bess1"] == pytest.approx(after_kw)


def test_watchdog_another_setpoint_is_refreshed_the_stale_one_still_expires():
    """A client that refreshes setpoint B must not keep its stale setpoint A alive."""
    world = World(scenario(1.0), options=SECONDS)
    world.write("bess1.p_set_kw", 50.0)
    for t in range(5, 31, 5):
        world.advance(float(t))
        world.write("pv1.p_limit_kw", 80.0)
    assert world.setpoints.values["bess1.p_set_kw"] == 0.0  # its own safe value
    assert world.setpoints.values["pv1.p_limit_kw"] == 80.0


def test_watchdog_long_step_carries_what_was_just_written_and_nothing_else():
    world = World(scenario(2.0))
    world.write("pv1.p_limit_kw", 70.0)
    world.advance(10.0)
    world.write("bess1.p_set_kw", 50.0)
    world.advance(910.0, carry=True)
    assert world.setpoints.values["bess1.p_set_kw"] == 50.0
    assert world.setpoints.values["pv1.p_limit_kw"] == 0.0  # silent since 0 s
    world.advance(940.0)
    assert world.setpoints.values["bess1.p_set_kw"] == 0.0


@pytest.mark.parametrize(
    ("point", "value", "verdict"),
    [
        ("bess1.p_set_kw", 100.0, WriteVerdict.ACCEPTED),
        ("bess1.p_set_kw", 501.0, WriteVerdict.BAD_VALUE),
        ("bess1.p_set_kw", float("nan"), WriteVerdict.BAD_VALUE),
        ("bess1.soc", 0.5, WriteVerdict.READ_ONLY),
        ("bess9.p_set_kw", 0.0, WriteVerdict.UNKNOWN_POINT),
    ],
)
def test_write_verdicts(point, value, verdict):
    world = World(scenario(1.0))
    assert world.write(point, value) is verdict
    assert ("bess1.p_set_kw" in world.setpoints.values) is (verdict is WriteVerdict.ACCEPTED)


def test_write_outside_authority_is_counted_as_a_violation():
    world = World(scenario(1.0))
    world.write("bess1.p_set_kw", 9999.0)
    assert world.counters().violations == {COMMAND_OUT_OF_BOUNDS: 1}


def test_fault_genset_that_cannot_start_locks_out_and_is_reset_later():
    fault = FaultEvent(kind=FaultKind.GENSET_START_FAILS, asset="gen1", start=T0, end=T0 + timedelta(hours=1))
    world = World(scenario(3.0, faults=(fault,)), options=WorldOptions(reset_s=5400.0))
    for t in range(0, 3600, 10):
        world.write("gen1.run_request", 1.0)
        world.advance(float(t + 10))
    assert world.counters().failed_starts["gen1"] == 3
    world.write("gen1.run_request", 0.0)
    world.advance(2 * 3600.0)
    assert world.state.gensets["gen1"].phase is GensetState.STOPPED


def test_fault_share_of_failing_starts_is_drawn_from_the_seed_by_attempt():
    draws = [chance(seed, 0, attempt) for seed in range(40) for attempt in range(50)]
    assert sum(d < 0.1 for d in draws) == pytest.approx(200, rel=0.25)
    failing = replace(scenario(1.0), start_fail_ratio=1.0)
    world = World(failing, options=SECONDS)
    for t in range(0, 300, 5):
        world.write("gen1.run_request", 1.0)
        world.advance(float(t + 5))
    assert world.counters().failed_starts["gen1"] == 3
    assert world.counters().starts["gen1"] == 0


def test_fault_silent_device_gives_no_readings_and_takes_no_writes():
    fault = FaultEvent(kind=FaultKind.DEVICE_SILENT, asset="pv1", start=T0, end=T0 + timedelta(minutes=10))
    world = World(scenario(1.0, faults=(fault,)))
    assert not any(p.startswith("pv1.") for p in world.readings())
    assert world.write("pv1.p_limit_kw", 10.0) is WriteVerdict.SILENT
    world.advance(601.0)
    assert "pv1.p_kw" in world.readings()


def test_readings_same_time_same_noise_however_often_they_are_read():
    one, two = World(scenario(1.0)), World(scenario(1.0))
    for t in range(1, 20):
        one.advance(t * 10.0)
        two.advance(t * 10.0)
        for _ in range(3):
            two.readings()
    assert one.readings() == two.readings()


def test_readings_other_seed_gives_other_noise():
    a, b = World(scenario(1.0, seed=1)), World(scenario(1.0, seed=2))
    assert a.readings()["grid1.p_kw"] != b.readings()["grid1.p_kw"]


def test_readings_hold_every_setpoint_before_anybody_wrote():
    readings = World(scenario(1.0)).readings()
    for point in site().authority.setpoints:
        assert np.isfinite(readings[point])
    assert readings["essential.close_request"] == 1.0


def test_checkpoint_restored_world_goes_on_as_the_first_one_did():
    s = scenario(6.0, mains=(outage(2.0, 4.0),))
    first = World(s)
    first.write("bess1.p_set_kw", 60.0)
    first.advance(2.5 * 3600.0)
    blob = first.checkpoint()
    second = World.restore(s, blob)
    for world in (first, second):
        world.advance(6 * 3600.0)
        world.finish()
    assert first.counters() == second.counters()
    assert np.array_equal(first.trace().values, second.trace().values)


def test_finish_days_add_up_to_the_whole_run():
    s = scenario(60.0, mains=(outage(30.0, 31.0),))
    world = World(s)
    world.advance(s.duration_s)
    world.finish()
    readings = world.meter.day_readings
    assert len(readings) == 3  # T0 is 03:00 local: midnights after 21 h and 45 h
    assert readings[-1].import_kwh == pytest.approx(world.counters().import_kwh)
    assert readings[0].duration_s == pytest.approx(21 * 3600.0)


def test_advance_load_step_lands_on_its_own_second():
    base = scenario(1.0, pv_kw=0.0)
    values = np.full(48 * 12 + 12 + 48 * 12, 50.0)
    values[48 * 12 + 3 :] = 80.0  # from 15 minutes on
    step = replace(flat(0.0, base.load_kw["critical"].start, 97.0, 300.0), values=values)
    world = World(with_series(base, "critical", step))
    world.advance(900.0)
    assert world.flows.feeder_p_kw["critical"] == pytest.approx(50.0)
    world.advance(901.0)
    assert world.flows.feeder_p_kw["critical"] == pytest.approx(80.0)


def test_trace_is_fine_inside_windows_and_coarse_outside():
    world = World(
        scenario(2.0, mains=(outage(1.0, 1.5),)), options=WorldOptions(fine=((3540.0, 4200.0),), trace_s=60.0)
    )
    world.advance(3540.0)
    for second in range(3541, 4201):
        world.advance(float(second))
    world.advance(7200.0)
    world.finish()
    trace = world.trace()
    inside = trace.between(3540.0, 4200.0)
    outside = trace.between(0.0, 3540.0)
    assert inside.dt_s.max() <= 1.0 + 1e-6
    assert outside.dt_s.min() >= 59.0
    assert trace.dt_s.sum() == pytest.approx(7200.0)


def test_cold_start_is_counted_by_the_rest_before_it():
    """Never run: cold. Off for two minutes: hot. Off for six, where five are the limit: cold."""
    plant = site()
    unit = replace(plant.gensets[0], cold_start_cost=40.0, cold_after_s=300.0, cool_down_s=10.0)
    world = World(
        scenario(1.0, plant=replace(plant, gensets=(unit, plant.gensets[1]))),
        options=WorldOptions(fine_step_s=1.0),
    )
    counts = []
    for run, until_s in ((1, 120), (0, 240), (1, 360), (0, 760), (1, 900)):
        for t in range(int(world.now_s), until_s, 10):
            world.write("gen1.run_request", float(run))
            world.advance(float(t + 10))
        counts.append((world.counters().starts.get("gen1", 0), world.counters().cold_starts.get("gen1", 0)))
    assert counts == [(1, 1), (1, 1), (2, 1), (2, 1), (3, 2)]
    assert "gen2" not in world.counters().cold_starts
