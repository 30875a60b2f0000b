"""The planner always answers: fresh, shifted or rules, each labelled; what it publishes has been replayed."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from ems.clock import wall_s
from ems.outage import OutageNotice
from ems.plan import Plan, PlanLabel
from ems.site import GridMode
from ems.timegrid import TimeGrid
from optimizer import Planner, PlannerOptions
from optimizer.formulation import Formulation, Shedding
from optimizer.intake import planning_problem
from optimizer.solve import Effort, Session
from optimizer.validate import validate
from tests import builders
from tests.unit.optimizer.posing import EXACT, T0, Pose, feeder, outage, small_genset, small_site

OPTIONS = PlannerOptions(blocks=((900.0, 8), (1800.0, 4), (3600.0, 8)))


def day(planner: Planner, hour: float = 0.0, **changes: Any) -> Pose:
    """A working day of the builders' plant, on the planner's own grid."""
    at = T0 + timedelta(hours=hour)
    grid = planner.horizon(at)
    h = np.array([(s - T0).total_seconds() / 3600.0 for s in grid.starts()])
    shape = 0.55 + 0.35 * np.sin((h - 5.0) / 24.0 * 2.0 * np.pi)
    pose = Pose(
        site=builders.site(),
        load_kw={f.id: f.p_peak_kw * shape for f in builders.site().feeders},
        pv_kw={"pv1": 450.0 * np.maximum(0.0, np.sin((h - 3.0) / 12.0 * np.pi))},
        import_per_kwh=np.where((h % 24 >= 15) & (h % 24 < 19), 0.28, 0.12),
        steps=len(grid),
        at=at,
        outages=(
            OutageNotice(id="o", issued_at=T0, start=T0 + timedelta(hours=5), end=T0 + timedelta(hours=8)),
        ),
    )
    return replace(pose, **changes)


def planned(planner: Planner, pose: Pose, last: Plan | None = None, seq: int = 1) -> Plan:
    forecast = replace(pose.forecast(), grid=planner.horizon(pose.at))
    return planner.plan(pose.condition(), forecast, last, seq)


def test_plan_is_fresh_replayed_and_complete() -> None:
    planner = Planner(builders.site(), OPTIONS)
    pose = day(planner)
    plan = planned(planner, pose)
    assert plan.label is PlanLabel.OPTIMAL
    assert plan.solve.gap_ratio is not None
    assert plan.solve.gap_ratio <= 0.0101
    assert sum(plan.cost_terms.values()) == pytest.approx(plan.solve.objective)
    there = [m is GridMode.GRID_TIED for m in plan.grid_mode]
    starts = [(s - T0).total_seconds() / 3600.0 for s in plan.grid.starts()]
    assert there == [not 5.0 <= h < 8.0 for h in starts]
    assert {f for f, m in zip(plan.forming, there, strict=True) if not m} == {"bess1"}
    power = np.array(plan.grid_p_kw) + sum(
        np.array(x) for group in (plan.bess_p_kw, plan.genset_p_kw, plan.pv_p_kw) for x in group.values()
    )
    served = sum(np.array(x) for x in plan.load_kw.values()) - sum(np.array(x) for x in plan.shed_kw.values())
    assert power == pytest.approx(served + 2.0, abs=1e-5), "2 kW of auxiliaries"
    assert plan.valid_until <= plan.integral_until


def test_plan_same_input_gives_the_same_plan_whatever_was_solved_before() -> None:
    once, other = Planner(builders.site(), OPTIONS), Planner(builders.site(), OPTIONS)
    planned(other, day(other, hour=3.0, soc=0.9))
    a, b = planned(once, day(once)), planned(other, day(other))
    assert replace(a, solve=replace(a.solve, solve_s=0.0)) == replace(b, solve=replace(b.solve, solve_s=0.0))


def test_plan_without_any_source_says_what_is_lost_instead_of_infeasible() -> None:
    """An island, the battery gone, both gensets gone: nothing can form the bus."""
    planner = Planner(builders.site(), OPTIONS)
    pose = day(
        planner, mode=GridMode.ISLANDED, gensets_now={g: {"available": False} for g in ("gen1", "gen2")}
    )
    condition = pose.condition()
    condition = replace(condition, bess={"bess1": replace(condition.bess["bess1"], available=False)})
    forecast = replace(pose.forecast(), grid=planner.horizon(pose.at))
    plan = planner.plan(condition, forecast, None, 1)
    assert plan.label is PlanLabel.OPTIMAL
    assert plan.forming[0] == ""
    assert plan.shed_kw["critical"][0] == pytest.approx(plan.load_kw["critical"][0])
    assert plan.pv_p_kw["pv1"][0] == 0.0
    assert any("critical: load not served" in n for n in plan.notes)


def test_plan_minimum_load_nobody_can_take_is_a_named_surplus() -> None:
    """A genset that must stay on, no load, a full battery, no export."""
    planner = Planner(builders.site(), OPTIONS)
    now = {"gen1": {"on_load": True, "age_s": 0.0}, "gen2": {"available": False}}
    pose = day(planner, mode=GridMode.ISLANDED, soc=0.95, gensets_now=now, load_kw={}, pv_kw={})
    plan = planned(planner, pose)
    assert plan.label is PlanLabel.OPTIMAL
    assert any(n.startswith("surplus that the bus cannot absorb") for n in plan.notes)


@pytest.mark.parametrize("soc", [0.0, 0.09, 0.1, 0.95, 0.97, 1.0])
@pytest.mark.parametrize("mode", [GridMode.GRID_TIED, GridMode.ISLANDED])
def test_plan_from_any_state_of_charge_is_fresh(soc: float, mode: GridMode) -> None:
    planner = Planner(builders.site(), OPTIONS)
    plan = planned(planner, day(planner, soc=soc, mode=mode))
    assert plan.label is PlanLabel.OPTIMAL, plan.solve.rescue


def test_rescue_bad_forecast_shifts_the_last_plan_and_says_why() -> None:
    planner = Planner(builders.site(), OPTIONS)
    first = planned(planner, day(planner))
    later = day(planner, hour=0.5, soc=first.bess_soc_end["bess1"][1])
    bad = replace(later, load_kw={"critical": [float("nan")] * later.steps})
    plan = planned(planner, bad, first, 2)
    assert plan.label is PlanLabel.SHIFTED
    assert "load_kw[critical] is nan" in plan.solve.rescue
    assert plan.bess_p_kw["bess1"] == first.bess_p_kw["bess1"][2:]
    assert plan.grid.start == later.at
    assert plan.grid.end == first.grid.end
    assert plan.valid_until == first.valid_until
    assert plan.plan_id != first.plan_id


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mode": GridMode.ISLANDED}, "made for grid_tied, the plant is islanded"),
        ({"soc": 0.12}, "bess1 would reach SoC"),
    ],
)
def test_rescue_last_plan_that_no_longer_fits_leaves_the_rules(
    change: Mapping[str, Any], reason: str
) -> None:
    planner = Planner(builders.site(), OPTIONS)
    first = planned(planner, day(planner, soc=0.9, pv_kw={}))
    bad = replace(day(planner, hour=0.5), load_kw={"critical": float("nan")}, **change)
    plan = planned(planner, bad, first, 2)
    assert plan.label is PlanLabel.RULES
    assert reason in plan.solve.rescue
    assert len(plan.bess_p_kw["bess1"]) == len(plan.grid)
    assert max(map(abs, plan.bess_p_kw["bess1"])) == 0.0


def test_rescue_expired_plan_is_not_shifted() -> None:
    planner = Planner(builders.site(), OPTIONS)
    first = planned(planner, day(planner))
    late = day(planner, hour=7.0)
    plan = planned(planner, replace(late, load_kw={"critical": float("nan")}), first, 2)
    assert plan.label is PlanLabel.RULES
    assert "no longer valid" in plan.solve.rescue


def test_rescue_solver_without_a_point_in_time_is_labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    planner = Planner(builders.site(), OPTIONS)
    real = Session.solve

    def nothing(self: Session, *args: Any, **kwargs: Any) -> Any:
        return replace(real(self, *args, **kwargs), x=None, optimal=False, status="Time limit reached")

    monkeypatch.setattr(Session, "solve", nothing)
    plan = planned(planner, day(planner))
    assert plan.label is PlanLabel.RULES
    assert "Time limit reached" in plan.solve.rescue


def test_deadline_is_kept() -> None:
    """A big horizon and no time: whatever comes out, comes out in time."""
    fine = PlannerOptions(blocks=((300.0, 288),), gap_ratio=0.0, time_limit_s=1.0, node_limit=None)
    planner = Planner(builders.site(), fine)
    planner.solver(planner.horizon(T0), Formulation(shedding=Shedding.MEAN))
    pose = day(planner)
    begun = wall_s()
    plan = planned(planner, pose)
    assert wall_s() - begun < 3.0
    assert plan.label in (PlanLabel.INCUMBENT, PlanLabel.OPTIMAL, PlanLabel.RULES)


def test_receding_horizon_uses_the_last_plan_and_stays_fresh() -> None:
    planner = Planner(builders.site(), OPTIONS)
    last, soc, on = None, 0.5, {"gen1": (False, 1e6), "gen2": (False, 1e6)}
    for k in range(6):
        hour = 2.0 + k
        mode = GridMode.ISLANDED if 5.0 <= hour < 8.0 else GridMode.GRID_TIED
        now = {g: {"on_load": state, "age_s": age} for g, (state, age) in on.items()}
        last = planned(planner, day(planner, hour=hour, soc=soc, mode=mode, gensets_now=now), last, k)
        assert last.label is PlanLabel.OPTIMAL, last.solve.rescue
        soc = last.bess_soc_end["bess1"][3]
        for g in on:
            for t in range(4):
                state, age = last.genset_on[g][t] > 0.5, on[g][1]
                on[g] = (state, age + 900.0 if state == on[g][0] else 900.0)


def tampered(plan: Plan, name: str, asset: str | None, step: int, value: float) -> Plan:
    series = getattr(plan, name)
    row = series if asset is None else series[asset]
    row = (*row[:step], value, *row[step + 1 :])
    changes: dict[str, Any] = {name: row if asset is None else {**series, asset: row}}
    return replace(plan, **changes)


@pytest.mark.parametrize(
    ("name", "asset", "value", "fault"),
    [
        ("grid_p_kw", None, 900.0, "import"),
        ("grid_p_kw", None, -50.0, "export"),
        ("bess_p_kw", "bess1", 700.0, "bess_power"),
        ("bess_soc_end", "bess1", 0.93, "soc"),
        ("pv_p_kw", "pv1", 5000.0, "pv"),
        ("shed_kw", "essential", 5000.0, "shed"),
        ("genset_p_kw", "gen1", 30.0, "genset_load"),
        ("genset_on", "gen1", 0.5, "whole"),
        ("genset_on", "gen2", 1.0, "minimum_times"),
        ("grid_p_kw", None, float("nan"), "not finite"),
    ],
)
def test_validator_refuses_a_plan_the_plant_would_not_follow(name, asset, value, fault) -> None:
    planner = Planner(builders.site(), OPTIONS)
    pose = day(planner)
    forecast = replace(pose.forecast(), grid=planner.horizon(pose.at))
    p = planning_problem(builders.site(), pose.condition(), forecast, OPTIONS)
    plan = planned(planner, pose)
    assert validate(plan, p).ok
    verdict = validate(tampered(plan, name, asset, 2, value), p)
    assert any(fault in f for f in verdict.faults), verdict.faults


def test_validator_battery_that_cannot_hold_the_energy_is_refused() -> None:
    """The plan's own SoC says it works; the battery's physics does not."""
    planner = Planner(builders.site(), OPTIONS)
    pose = day(planner, soc=0.6)
    forecast = replace(pose.forecast(), grid=planner.horizon(pose.at))
    p = planning_problem(builders.site(), pose.condition(), forecast, OPTIONS)
    plan = planned(planner, pose)
    weaker = replace(
        p, site=replace(p.site, bess=(builders.bess(eta_discharge=0.6, eta_charge=0.6, energy_kwh=700.0),))
    )
    assert not validate(plan, weaker).ok


def test_plan_grid_of_any_step_length_is_accepted() -> None:
    planner = Planner(builders.site(), PlannerOptions())
    grid = TimeGrid.uniform(T0, 600.0, 30)
    pose = Pose(site=builders.site(), load_kw={"critical": [50.0] * 30}, steps=30)
    plan = planner.plan(pose.condition(), replace(pose.forecast(), grid=grid), None, 1)
    assert plan.label is PlanLabel.OPTIMAL
    assert len(plan.grid_p_kw) == 30


def only_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver that never finds a whole point by itself, as at a deadline on a busy machine."""
    real = Session.solve

    def late(self: Session, filled: Any, *args: Any, **kwargs: Any) -> Any:
        found = real(self, filled, *args, **kwargs)
        whole = bool(filled.integer.any())
        return replace(found, x=None, optimal=False, status="Time limit reached") if whole else found

    monkeypatch.setattr(Session, "solve", late)


def test_rescue_repairs_the_last_commitment_before_it_shifts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commitment is the last plan's, the dispatch that of the present load, the replay as strict."""
    planner = Planner(builders.site(), OPTIONS)
    last = planned(planner, day(planner))
    later = day(planner, hour=1.0, soc=0.55)
    fresh = planned(Planner(builders.site(), OPTIONS), later, last, seq=2)
    only_linear(monkeypatch)
    plan = planned(planner, later, last, seq=2)
    assert plan.label is PlanLabel.INCUMBENT
    assert plan.solve.rescue.startswith("repaired: the solver ended with Time limit reached")
    assert "the last plan's commitment" in plan.solve.rescue
    assert plan.solve.bound is None
    assert plan.solve.gap_ratio is None
    assert plan.grid_p_kw != last.grid_p_kw
    assert sum(plan.cost_terms.values()) == pytest.approx(plan.solve.objective)
    for genset, on in plan.genset_on.items():
        whole = [o for o, t in zip(on, plan.grid.starts(), strict=True) if t < plan.integral_until]
        assert set(whole) <= {0.0, 1.0}, genset
    assert plan.solve.objective is not None
    assert fresh.solve.bound is not None
    assert plan.solve.objective >= fresh.solve.bound - 1e-6


def test_rescue_without_a_last_plan_rounds_the_relaxation_up(monkeypatch: pytest.MonkeyPatch) -> None:
    planner = Planner(builders.site(), OPTIONS)
    only_linear(monkeypatch)
    plan = planned(planner, day(planner))
    assert plan.label is PlanLabel.INCUMBENT
    assert "a relaxed commitment rounded up" in plan.solve.rescue


def test_rescue_without_a_relaxation_runs_what_carries_each_island(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the relaxation is solved in time: the largest set carries the outage from 5 to 8 h."""
    planner = Planner(builders.site(), OPTIONS)
    pose = day(planner)
    real, seen = Session.solve, []

    def late(self: Session, filled: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(filled)
        found = real(self, filled, *args, **kwargs)
        return replace(found, x=None, optimal=False) if len(seen) < 3 else found

    monkeypatch.setattr(Session, "solve", late)
    plan = planned(planner, pose)
    assert "units that carry each island" in plan.solve.rescue
    island = [m is GridMode.ISLANDED for m in plan.grid_mode]
    largest = max(builders.site().gensets, key=lambda g: g.p_rated_kw)
    assert [o > 0.5 for o in plan.genset_on[largest.id]] == island
    assert any(island)


def test_repair_keeps_a_commitment_that_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set that came on load a minute ago stays for its minimum time, wanted or not."""
    planner = Planner(builders.site(), OPTIONS)
    running = {"gen1": {"on_load": True, "age_s": 60.0, "p_kw": 200.0}}
    pose = day(planner, gensets_now=running)
    only_linear(monkeypatch)
    plan = planned(planner, pose)
    assert plan.solve.rescue.startswith("repaired")
    assert plan.genset_on["gen1"][0] == 1.0


def test_linear_programs_each_have_the_whole_time_limit() -> None:
    """A site of grid and battery alone is a linear program. HiGHS counted the time of all runs against its
    limit, so that after some hundred plans every further one ended at once and the rules took over.
    """
    planner = Planner(builders.site(), OPTIONS)
    pose = day(planner)
    grid = planner.horizon(pose.at)
    p = planning_problem(pose.site, pose.condition(), replace(pose.forecast(), grid=grid), OPTIONS)
    compiled, session = planner.solver(grid, planner.formulation(p))
    filled = compiled.fill(compiled.numbers(p))
    linear = replace(filled, integer=np.zeros_like(filled.integer))
    once = session.solve(linear, Effort(gap_ratio=0.0, gap_abs=0.0, time_limit_s=None, node_limit=None))
    spent_s = 0.0
    limit_s = 20.0 * once.solve_s
    for _ in range(60):
        found = session.solve(
            linear, Effort(gap_ratio=0.0, gap_abs=0.0, time_limit_s=limit_s, node_limit=None)
        )
        assert found.optimal
        spent_s += found.solve_s
    assert spent_s > limit_s


@pytest.mark.parametrize("over_kw", [0.0, 5.0, 30.0])
def test_genset_measured_above_its_rating_may_be_stopped(over_kw: float) -> None:
    """What it gives now is a reading: it stops, or comes back to its rating, and neither is a fault."""
    genset = small_genset()
    now = {"gen1": {"on_load": True, "p_kw": genset.p_rated_kw + over_kw}}
    pose = Pose(site=small_site(gensets=[genset], feeders=[feeder("a", 6.0)]), load_kw={"a": 10.0})
    stopped = replace(pose, gensets_now=now).plan(EXACT)
    assert stopped.genset_on["gen1"] == (0.0,) * 4
    assert stopped.solve.rescue == "none"
    slow = replace(genset, ramp_kw_s=genset.p_rated_kw / 7200.0)
    island = replace(pose, site=small_site(gensets=[slow], feeders=[feeder("a", 6.0)]), gensets_now=now)
    held = replace(island, load_kw={"a": 80.0}, mode=GridMode.ISLANDED, outages=(outage(0, 3),)).plan(EXACT)
    assert held.solve.rescue == "none"
    assert held.genset_on["gen1"] == (1.0,) * 4
