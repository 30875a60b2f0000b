"""Wear by depth of cycle: by hand, against counted cycles on any path, and carried from plan to plan."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ems.cycle_life import CycleLife
from optimizer.compiled import Compiled, cost_terms
from optimizer.formulation import Formulation
from optimizer.intake import planning_problem
from optimizer.options import PlannerOptions
from optimizer.rolling import Planner
from optimizer.solve import Effort, Session
from optimizer.structure import structure_of
from optimizer.validate import validate
from plant_models.rainflow import life_drawn_ratio, life_of_path_ratio, turned
from tests.unit.optimizer.posing import EXACT, Pose, feeder, ideal_bess, objective, small_site

# 1000 of money: the upper half of 10 kWh wears 0.2 per kWh, the lower one 0.6
HALVES = CycleLife(depth_ratio=(0.5, 1.0), cycles_count=(1_000.0, 250.0), replacement_cost=1_000.0)
CURVE = CycleLife(
    depth_ratio=(0.1, 0.3, 0.6, 1.0),
    cycles_count=(90_000.0, 20_000.0, 6_000.0, 2_500.0),
    replacement_cost=2_000.0,
)
NO_END_VALUE = replace(EXACT, terminal_per_kwh=(0.0, 0.0, 0.0))


def pose(**changes: Any) -> Pose:
    site = small_site(bess=(ideal_bess(cycle_life=HALVES),), feeders=(feeder("load", 50.0),))
    values: dict[str, Any] = {
        "site": site, "load_kw": {"load": [8.0, 0.0]}, "import_per_kwh": [0.5, 0.5], "steps": 2, "soc": 1.0,
    }  # fmt: skip
    return Pose(**(values | changes))


def test_a_spread_between_two_prices_pays_for_the_shallow_half_only() -> None:
    plan = pose().plan(NO_END_VALUE)
    assert plan.bess_p_kw["bess1"] == pytest.approx((5.0, 0.0))
    assert plan.cost_terms["wear"] == pytest.approx(5.0 * 0.2)
    assert objective(plan) == pytest.approx(3.0 * 0.5 + 5.0 * 0.2, abs=1e-6)


def test_an_open_cycle_is_not_begun_anew() -> None:
    """Half full: from a fresh cycle the next kWh is shallow, at the foot of an open cycle deep."""
    fresh = pose(soc=0.5).plan(NO_END_VALUE)
    assert sum(fresh.bess_p_kw["bess1"]) == pytest.approx(5.0)
    open_cycle = pose(soc=0.5, bess_now={"bess1": {"turns_soc": (1.0, 0.5)}}).plan(NO_END_VALUE)
    assert sum(open_cycle.bess_p_kw["bess1"]) == pytest.approx(0.0, abs=1e-6)
    deep = pose(soc=0.5, import_per_kwh=0.9, bess_now={"bess1": {"turns_soc": (1.0, 0.5)}}).plan(NO_END_VALUE)
    assert deep.cost_terms["wear"] == pytest.approx(5.0 * 0.6)


def test_two_plans_rolled_over_one_cycle_wear_like_one_plan_over_both() -> None:
    """0.3 full to 1, down to 0: with the stack the second plan goes on at depth 0.4, without it at 0."""
    load = {"load": [0.0, 4.0, 4.0, 2.0]}
    buy = [0.01, 2.0, 2.0, 2.0]
    whole = pose(soc=0.3, load_kw=load, import_per_kwh=buy, steps=4).plan(NO_END_VALUE)
    first = pose(soc=0.3, load_kw=load, import_per_kwh=buy, steps=4).plan(NO_END_VALUE)
    turns: tuple[float, ...] = (0.3,)
    soc = first.bess_soc_end["bess1"][1]
    for x in first.bess_soc_end["bess1"][:2]:
        turns = turned(turns, x)
    rest = {"load_kw": {"load": load["load"][2:]}, "import_per_kwh": buy[2:], "steps": 2, "soc": soc}
    second = pose(**rest, bess_now={"bess1": {"turns_soc": turns}}).plan(NO_END_VALUE)
    done = life_drawn_ratio(turned((0.3,), first.bess_soc_end["bess1"][0]), soc, HALVES) * 1_000.0
    assert done + second.cost_terms["wear"] == pytest.approx(whole.cost_terms["wear"], rel=1e-6)
    assert whole.cost_terms["wear"] == pytest.approx(1_000.0 / 250.0)
    forgotten = pose(**rest).plan(NO_END_VALUE)
    assert done + forgotten.cost_terms["wear"] < 0.8 * whole.cost_terms["wear"]


def least_wear(path: np.ndarray, turns: tuple[float, ...], soc: float) -> float:
    """Wear term of the model with stored energy held on a path."""
    unit = ideal_bess(cycle_life=CURVE, self_discharge_per_h=0.002, p_charge_kw_max=50, p_discharge_kw_max=50)
    site = small_site(bess=(unit,), export_kw=1000.0)
    x = Pose(site=site, soc=soc, steps=len(path), bess_now={"bess1": {"turns_soc": turns}})
    p = planning_problem(site, x.condition(), x.forecast(), PlannerOptions(terminal_per_kwh=(0.0, 0.0, 0.0)))
    compiled = Compiled(structure_of(site, p.grid, Formulation(soc_tapers=False)))
    n = compiled.numbers(p)
    n.bound("stored_kwh", 10.0 * path[None, :], 10.0 * path[None, :])
    exact = Effort(gap_ratio=0.0, gap_abs=0.0, time_limit_s=None, node_limit=None)
    found = Session(compiled).solve(compiled.fill(n), exact)
    assert found.x is not None
    return cost_terms(n, compiled.values(found.x))["wear"]


@pytest.mark.parametrize("seed", range(40))
def test_least_wear_of_any_path_is_that_of_its_counted_cycles(seed: int) -> None:
    """With a past and standing losses. Exact: the curve is straight between the edges of the segments."""
    rng = np.random.default_rng(seed)
    past, path = rng.uniform(0.0, 1.0, 6).round(3).tolist(), rng.uniform(0.0, 1.0, 14).round(3)
    turns: tuple[float, ...] = ()
    for x in past:
        turns = turned(turns, x)
    expected = life_of_path_ratio([*past, *path], CURVE) - life_of_path_ratio(past, CURVE)
    assert least_wear(path, turns, past[-1]) == pytest.approx(2_000.0 * expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_wear_of_what_a_plan_sees_is_a_lower_bound_of_the_finer_path(seed: int) -> None:
    """A plan knows the ends of its steps; what the battery does between them can only wear more."""
    fine = np.random.default_rng(seed).uniform(0.0, 1.0, 40).tolist()
    assert life_of_path_ratio(fine[::4], CURVE) <= life_of_path_ratio(fine, CURVE) + 1e-15


def test_the_replay_refuses_a_plan_that_leaves_wear_out() -> None:
    x = pose(load_kw={"load": [8.0, 4.0]}, import_per_kwh=1.5)
    p = planning_problem(x.site, x.condition(), x.forecast(), NO_END_VALUE)
    plan = x.plan(NO_END_VALUE)
    assert validate(plan, p).ok
    cheap = replace(plan, cost_terms={**plan.cost_terms, "wear": 0.9 * plan.cost_terms["wear"]})
    assert any("wear" in fault for fault in validate(cheap, p).faults)


def test_an_open_cycle_that_is_none_is_dropped_with_a_note() -> None:
    plan = pose(soc=0.5, bess_now={"bess1": {"turns_soc": (1.4, 0.2)}}).plan(NO_END_VALUE)
    assert any("fresh cycle" in note for note in plan.notes)
    assert sum(plan.bess_p_kw["bess1"]) == pytest.approx(5.0)


def test_a_battery_outside_its_window_still_gets_a_plan() -> None:
    unit = ideal_bess(cycle_life=HALVES, soc_min=0.2, no_load_loss_kw=0.3)
    site = small_site(bess=(unit,), feeders=(feeder("load", 50.0),), import_kw=0.0)
    x = pose(site=site, soc=0.21, load_kw={"load": 0.0}, steps=6, import_per_kwh=0.5)
    plan = Planner(site, EXACT).plan(x.condition(), x.forecast(), None, 1)
    assert plan.solve.rescue == "none", plan.solve.rescue
    assert plan.bess_soc_end["bess1"][-1] == pytest.approx(0.03)
    assert any("below its window" in note for note in plan.notes)
