"""Whole runs on the virtual clock: each controller through the demo day of the small site."""

from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pytest

from cli.result_table import compare, result_rows
from ems.errors import DataError, InvariantBroken
from ems.kpi import settle
from ems.site import GridMode
from ems.site_schema import load_site
from optimizer.options import PlannerOptions
from sim.drive import drive
from sim.harness import COARSE_PLANNER, ControllerName, Run, SimulateOptions, StoppedError, simulate
from sim.period import bound_of, by_day
from sim.result import RunRequest, genset_events, load_result, result_json, save_result
from sim.steps import DEMO_STEPS, SIMULATE_STEPS, Phase, StepOptions, StepPolicy
from sim.synthetic import demo_scenario
from sim.trace import Trace

pytestmark = pytest.mark.timeout(600)  # a day under four controllers, on a busy machine
SEED = 5
DAY = date(2026, 3, 18)
# What only says that a controller needs time to react, or that there was an outage at all.
REACTION = {"import_over_cap", "export_over_cap", "bus_dead"}
QUICK = SimulateOptions(planner=PlannerOptions(blocks=((900.0, 8), (3600.0, 16)), integral_h=6.0))


@pytest.fixture(scope="session")
def demo_site(project_root):
    return load_site(project_root / "sites" / "demo" / "site.yaml")


@pytest.fixture(scope="session")
def day(demo_site):
    return demo_scenario(demo_site, DAY, seed=SEED)


@pytest.fixture(scope="session")
def results(day):
    return {c: simulate(day, c, options=QUICK) for c in ("rules", "rules_tou", "mpc", "perfect")}


CONTROLLERS = pytest.mark.parametrize("controller", ["rules", "rules_tou", "mpc", "perfect"])


@CONTROLLERS
def test_simulate_day_energy_balance_closes(results, controller):
    c = results[controller].counters
    stored = sum(c.bess_stored_end_kwh.values()) - sum(c.bess_stored_start_kwh.values())
    into = c.import_kwh + sum(c.pv_kwh.values()) + sum(c.genset_kwh.values())
    served = sum(c.demand_kwh.values()) - sum(c.unserved_kwh.values())
    assert into == pytest.approx(served + c.export_kwh + stored + c.loss_kwh, abs=1e-5)
    assert c.residual_kwh < 1e-6
    assert c.duration_s == pytest.approx(86400.0)


@CONTROLLERS
def test_simulate_day_breaks_no_limit(results, controller):
    counts = results[controller].counters.violations
    assert {k: n for k, n in counts.items() if k not in REACTION} == {}


@CONTROLLERS
def test_simulate_day_serves_the_critical_tier_through_both_outages(results, controller):
    c = results[controller].counters
    assert c.islanded_s > 3 * 3600.0
    assert c.unserved_kwh["critical"] < 0.2  # the transfers alone


def test_simulate_demand_and_pv_are_the_same_for_every_controller(results):
    first = results["rules"].counters
    for result in results.values():
        assert result.counters.demand_kwh == pytest.approx(first.demand_kwh, rel=1e-9)
        assert result.counters.pv_potential_kwh == pytest.approx(first.pv_potential_kwh, rel=1e-9)


def test_simulate_no_controller_beats_the_bound(day, results):
    bound = bound_of(day)
    costs = {
        c: settle(day.site, r.counters, start=day.start).total_with_voll_cost for c, r in results.items()
    }
    fixed = settle(day.site, results["rules"].counters, start=day.start).fixed_cost
    assert min(costs.values()) > bound.cost - fixed - 1.0


def test_simulate_planning_with_the_truth_beats_both_baselines(day, results):
    costs = {
        c: settle(day.site, r.counters, start=day.start).total_with_voll_cost for c, r in results.items()
    }
    assert costs["perfect"] < min(costs["rules"], costs["rules_tou"])


def test_simulate_same_seed_same_table(day, results):
    again = simulate(day, "rules_tou", options=QUICK)
    assert again.counters == results["rules_tou"].counters
    assert np.array_equal(again.trace.values, results["rules_tou"].trace.values)


def test_simulate_mpc_same_seed_same_plans(day):
    short = replace(day, end=day.at(3 * 3600.0))
    one, two = (simulate(short, "mpc", options=QUICK) for _ in range(2))
    assert one.counters == two.counters
    assert one.plans.count == two.plans.count > 2


def test_simulate_every_genset_start_and_stop_has_a_reason(results):
    for result in results.values():
        starts = [e for e in result.gensets if e.kind == "start"]
        assert len(starts) == sum(result.counters.starts.values())
        assert all(len(e.reason) > 10 for e in result.gensets)


def test_simulate_days_add_up_to_the_run(demo_site):
    s = demo_scenario(demo_site, date(2026, 4, 10), seed=1, days=2)
    result = simulate(s, "rules", options=QUICK)
    assert len(result.days) == 2
    total = result.days[0][1] + result.days[1][1]
    assert total.import_kwh == pytest.approx(result.counters.import_kwh)
    assert total.fuel_l == pytest.approx(result.counters.fuel_l)
    assert total.duration_s == pytest.approx(2 * 86400.0)
    assert result.days[1][1].bess_stored_start_kwh == result.days[0][1].bess_stored_end_kwh
    assert by_day(s.start, (), ()) == ()


@pytest.mark.parametrize("controller", ["rules_tou", "mpc"])
def test_simulate_resumed_from_a_checkpoint_ends_as_the_unbroken_run(day, tmp_path, controller):
    s = replace(day, end=day.at(6 * 3600.0))
    whole = simulate(s, controller, options=QUICK)
    path = tmp_path / "half.checkpoint"
    options = replace(QUICK, checkpoint=path, checkpoint_s=3600.0, resume=True)
    seen: list[float] = []

    def stop() -> bool:
        return bool(seen) and seen[-1] > 3.2 * 3600.0

    with pytest.raises(StoppedError):
        simulate(s, controller, options=options, progress=seen.append, stop=stop)
    assert path.is_file()
    rest = simulate(s, controller, options=options)
    assert rest.counters.import_kwh == pytest.approx(whole.counters.import_kwh, rel=2e-3)
    assert rest.counters.duration_s == pytest.approx(6 * 3600.0)
    assert rest.trace.dt_s.sum() == pytest.approx(6 * 3600.0)
    if controller == "rules_tou":
        assert rest.counters == whole.counters


def test_simulate_checkpoint_of_another_run_is_refused(day, tmp_path):
    path = tmp_path / "x.checkpoint"
    options = replace(QUICK, checkpoint=path, resume=True)
    with pytest.raises(StoppedError):
        simulate(day, "rules", options=options, stop=lambda: True)
    with pytest.raises(DataError, match="of another run"):
        simulate(day, "rules_tou", options=options)
    with pytest.raises(DataError, match="of another run"):
        simulate(replace(day, soc_start=0.5), "rules", options=options)


def test_simulate_unknown_controller_is_refused(day):
    with pytest.raises(ValueError, match="wishful"):
        simulate(day, "wishful")


def test_run_planted_write_outside_authority_is_found_by_the_count(day):
    run = Run(replace(day, end=day.at(900.0)), "rules", QUICK)  # type: ignore[arg-type]
    run.world.write("bess1.p_set_kw", 5000.0)
    assert run.go().counters.violations["command_out_of_bounds"] == 1


def test_save_result_loaded_again_is_the_same(results, tmp_path):
    save_result(tmp_path / "mpc", results["mpc"])
    loaded = load_result(tmp_path / "mpc")
    assert result_json(loaded) == result_json(results["mpc"])
    assert np.array_equal(loaded.trace.values, results["mpc"].trace.values)
    assert loaded.edge.columns == results["mpc"].edge.columns
    assert {p.name for p in (tmp_path / "mpc").iterdir()} == {"result.json", "traces.npz"}


def test_load_result_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no result"):
        load_result(tmp_path)


def test_drive_coroutine_that_waits_is_refused():
    class Never:
        def __await__(self):
            yield

    async def waits() -> None:
        await Never()

    with pytest.raises(InvariantBroken, match="waited"):
        drive(waits())


# ---- cycle lengths ------------------------------------------------------------------------------


def walk(policy: StepPolicy, mode, until_s: float, busy: bool = False) -> list[float]:
    times = [0.0]
    while times[-1] < until_s:
        times.append(policy.next_s(times[-1], mode, busy))
    return times


@pytest.mark.parametrize("year", [1998, 2018, 2040])
def test_simulate_any_year_follows_its_plans(demo_site, year):
    """Measured history is older than any clock that was set; to the edge of a plant such a clock is wrong."""
    whole = demo_scenario(demo_site, date(year, 3, 18), seed=SEED)
    scenario = replace(whole, end=whole.start + timedelta(hours=3.0))
    run = simulate(scenario, "mpc", options=QUICK)
    (followed,) = [r for r in result_rows(compare(demo_site, [run])) if r.label == "time they were followed"]
    assert followed.values[0] is not None
    assert followed.values[0] > 95.0
    assert not [e for e in run.events if e.kind == "utc.state.changed"]


def test_step_policy_demo_is_ten_seconds_and_one_second_around_events():
    """And a second after each full minute, when load and sun have changed: as the real loop sees it."""
    times = walk(StepPolicy(DEMO_STEPS, (1000.0,)), GridMode.GRID_TIED, 2000.0)
    steps = np.diff(times)
    at = np.asarray(times[:-1])
    near = (at >= 940.0) & (at < 1600.0)
    assert set(steps[near]) == {1.0}
    assert [t for t in times if 1600.0 <= t <= 1620.0] == [1600.0, 1601.0, 1610.0, 1620.0]
    near |= (at >= 1600.0) & (at < 1610.0)
    assert set(steps[~near & (at % 60.0 >= 10.0)]) == {10.0}
    assert set(steps[~near & (at % 60.0 == 0.0)]) == {1.0}
    assert set(steps[~near & (at % 60.0 == 1.0)]) == {9.0}


def test_step_policy_simulate_settles_after_each_quarter_hour():
    times = walk(StepPolicy(SIMULATE_STEPS, ()), GridMode.GRID_TIED, 1800.0)
    assert times == [0.0, 1.0, 11.0, 900.0, 901.0, 911.0, 1800.0]


def test_step_policy_islanded_or_busy_steps_are_short():
    policy = StepPolicy(StepOptions(settle_s=()), ())
    assert policy.next_s(0.0, GridMode.ISLANDED) == 60.0
    assert policy.next_s(0.0, GridMode.GRID_TIED, busy=True) == 10.0


def test_step_policy_what_was_busy_settles_before_steps_are_long_again():
    policy = StepPolicy(StepOptions(settle_s=()), ())
    assert policy.next_s(0.0, GridMode.GRID_TIED, busy=True) == 10.0
    assert walk(policy, GridMode.GRID_TIED, 900.0) == [0.0, 10.0, 20.0, 900.0]


def test_simulate_the_edge_looks_again_soon_after_it_has_asked_for_something(demo_site):
    """It once asked for a genset and saw it a long cycle later, having been on load for minutes."""
    day = demo_scenario(demo_site, date(2026, 3, 18), seed=2)
    evening = replace(day, start=day.start + timedelta(hours=16.0), end=day.start + timedelta(hours=21.0))
    run = Run(evening, ControllerName.MPC, SimulateOptions(planner=COARSE_PLANNER, trace_s=None))
    seen = [(0.0, run.world.commands())]
    run.go(lambda t_s: seen.append((t_s, run.world.commands())))
    asked = [(then - t, c, d) for (t, c), (then, d) in pairwise(seen) if c != d]
    assert any(d["gen1.run_request"] > c.get("gen1.run_request", 0.0) for _, c, d in asked)
    assert max(waited_s for waited_s, _, _ in asked) <= 10.0


def test_step_policy_a_step_never_crosses_into_a_window():
    policy = StepPolicy(
        StepOptions(phases=(Phase(from_s=-5.0, to_s=5.0, step_s=1.0),), settle_s=()), (1000.5,)
    )
    assert policy.next_s(900.0, GridMode.GRID_TIED) == 995.5


def test_step_policy_settles_after_a_window_too():
    options = StepOptions(phases=(Phase(from_s=0.0, to_s=600.0, step_s=300.0),))
    times = walk(StepPolicy(options, (1000.0,)), GridMode.GRID_TIED, 2700.0)
    wanted = [901.0, 911.0, 1000.0, 1200.0, 1500.0, 1600.0, 1601.0, 1611.0, 1800.0, 1801.0, 1811.0]
    assert [t for t in times if 900.0 < t < 1900.0] == wanted


# ---- genset sentences ---------------------------------------------------------------------------


def states(*codes: float) -> Trace:
    n = len(codes)
    return Trace(
        t_s=np.arange(n, dtype=np.float64) * 10.0,
        dt_s=np.full(n, 10.0),
        columns=("g.state",),
        values=np.asarray(codes, dtype=np.float32)[:, None],
    )


def test_genset_events_take_the_reason_of_the_last_request(day):
    asked = [
        RunRequest(t_s=5.0, genset="g", run=True, reason="SoC 25 %", cause="rules"),
        RunRequest(t_s=25.0, genset="g", run=False, reason="the grid is back", cause="plan"),
    ]
    events = genset_events(states(0, 1, 4, 4, 5, 0), ["g"], asked, day.start)
    assert [(e.kind, e.reason, (e.at - day.start).total_seconds()) for e in events] == [
        ("start", "SoC 25 %", 30.0),
        ("stop", "the grid is back", 50.0),
    ]


def test_genset_events_nobody_asked_says_its_own_controller(day):
    events = genset_events(states(0, 4, 6), ["g"], [], day.start)
    assert [(e.kind, e.cause) for e in events] == [
        ("start", "own_controller"),
        ("locked_out", "own_controller"),
    ]
