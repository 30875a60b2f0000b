"""Identical gensets of a plant are counted, and what comes out is what each on its own would give."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ems.site import GridMode, Maintenance, Site
from optimizer import Planner
from optimizer.algebra import Model
from optimizer.build import build
from optimizer.fleets import fleets_of, single_machines
from optimizer.formulation import Formulation
from optimizer.reference import PyomoModel
from optimizer.structure import structure_of
from tests import builders
from tests.unit.optimizer.posing import EXACT, T0, Pose, objective, outage
from tests.unit.optimizer.test_compiled import problem_of, rows_of

STEPS = 10
POLICIES: list[dict[str, Any]] = [
    {}, {"n_minus_1": ("genset", "bess"), "motor_start_kw": 40.0}, {"survive_h": 2.0, "running_ratio": 1.2},
]  # fmt: skip
AWAY = Maintenance(asset="gen0", start=T0, end=T0.replace(hour=2))
WITH_RESERVE = replace(EXACT, formulation=Formulation(tie_break_ratio=0.0))
APART = replace(WITH_RESERVE, formulation=replace(WITH_RESERVE.formulation, symmetry=False))


def plant(count: int = 3, **changes: Any) -> Site:
    """`count` equal gensets of 130 kW, and another behind them."""
    same = [replace(builders.genset(f"gen{k}", 130.0), min_up_s=5400.0, **changes) for k in range(count)]
    gensets = (*same, builders.genset("big", 200.0))
    site = builders.site()
    forming = replace(site.forming, islanded=("bess1", *[g.id for g in gensets]))
    return replace(site, gensets=gensets, forming=forming)


def history(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "on_load": bool(rng.random() < 0.5), "age_s": float(rng.choice([600.0, 2400.0, 1e5])),
        "available": bool(rng.random() < 0.85), "fuel_l": float(rng.uniform(400.0, 1000.0)),
        "p_kw": float(rng.uniform(40.0, 130.0)),
    }  # fmt: skip


def drawn(seed: int) -> Pose:
    """Islands and outages with machines of every age, some of them away."""
    rng = np.random.default_rng(seed)
    policy = POLICIES[seed % len(POLICIES)]
    site = plant()
    site = replace(site, reserve=replace(site.reserve, **policy), bess=(builders.bess(energy_kwh=300.0),))
    return Pose(
        site=site,
        load_kw={f.id: rng.uniform(0.2, 1.0, STEPS) * f.p_peak_kw for f in site.feeders},
        pv_kw={"pv1": rng.uniform(0.0, 300.0, STEPS)},
        import_per_kwh=rng.uniform(0.05, 0.6, STEPS),
        steps=STEPS,
        step_s=1800.0,
        soc=float(rng.uniform(0.2, 0.8)),
        mode=GridMode.ISLANDED if seed % 2 else GridMode.GRID_TIED,
        outages=(outage(4, 7, 1800.0),),
        gensets_now={g.id: history(rng) for g in site.gensets},
    )


@pytest.mark.parametrize("seed", range(18))
def test_fleet_of_any_histories_costs_what_single_machines_cost(seed: int):
    pose = drawn(seed)
    assert Planner(pose.site, WITH_RESERVE).formulation(problem_of(pose)).fleets == (3, 1)
    counted, apart = pose.plan(WITH_RESERVE), pose.plan(APART)
    assert objective(counted) == pytest.approx(objective(apart), rel=1e-6, abs=1e-5)
    assert sum(counted.cost_terms.values()) == pytest.approx(objective(counted), rel=1e-9)
    for unit, now in pose.gensets_now.items():
        assert now["available"] or not any(counted.genset_on[unit])


def test_tail_of_a_fleet_is_shared_out_and_adds_up():
    pose = drawn(1)
    options = replace(WITH_RESERVE, integral_h=1.0)
    problem = problem_of(replace(pose, outages=(), mode=GridMode.GRID_TIED), options)
    assert 0 < problem.integral.sum() < STEPS
    planner = Planner(pose.site, options)
    compiled, problem, _, outcome = planner.rounds(problem, None, 0.0)
    assert outcome.x is not None
    v = compiled.values(outcome.x)
    rng = np.random.default_rng(0)  # whatever the tail is, it is shared out: numbers of our own in it
    v["on"][0, problem.integral.sum() :] = rng.uniform(0.0, problem.gensets[0].available, STEPS - 2)
    single = single_machines(compiled.structure, problem, v)
    assert single["on"].shape == (4, STEPS)
    there = sum(g.available for g in problem.gensets[:3])
    assert single["on"][:3].sum(axis=0) == pytest.approx(np.minimum(v["on"][0], there))


def test_fleet_plan_that_would_empty_one_tank_is_made_again_apart():
    """Two equal gensets carry an island of 200 kW for two hours; one has 45 L left, the other 500 L."""
    site = plant(2)
    site = replace(site, bess=(), pv=(), gensets=site.gensets[:2])
    tanks = {"gen0": {"on_load": True, "fuel_l": 45.0}, "gen1": {"on_load": True, "fuel_l": 500.0}}
    pose = Pose(
        site=site, load_kw={"critical": 100.0, "essential": 100.0}, steps=2, mode=GridMode.ISLANDED,
        gensets_now=tanks,
    )  # fmt: skip
    options = replace(EXACT, formulation=Formulation(reserve=False))
    first = Planner(site, options)
    problem = problem_of(pose, options)
    assert first.formulation(problem).fleets == (2,)
    _, problem, _, _ = first.rounds(problem, None, 0.0)
    assert problem.apart
    plan = pose.plan(options)
    single = pose.plan(replace(options, formulation=replace(options.formulation, symmetry=False)))
    assert objective(plan) == pytest.approx(objective(single))
    assert not any("tank" in note for note in plan.notes)
    ample = replace(pose, gensets_now={g: now | {"fuel_l": 500.0} for g, now in tanks.items()})
    _, problem, _, _ = first.rounds(problem_of(ample, options), None, 0.0)
    assert not problem.apart


def _changed(site: Site, g: int, **changes: Any) -> Site:
    gensets = list(site.gensets)
    gensets[g] = replace(gensets[g], **changes)
    return replace(site, gensets=tuple(gensets))


@pytest.mark.parametrize(
    ("site", "now", "sizes"),
    [
        (plant(), {}, (3, 1)),
        (plant(), {"gen1": {"on_load": True, "age_s": 60.0, "p_kw": 70.0}}, (3, 1)),
        (plant(), {"gen1": {"starting": True, "ready_in_s": 20.0}}, ()),
        (plant(), {"gen0": {"starting": True, "ready_in_s": 20.0}}, (1, 2, 1)),
        (plant(), {"gen2": {"available": False}}, (3, 1)),
        (_changed(plant(), 0, start_cost=99.0), {}, (1, 2, 1)),
        (plant(starts_per_day_max=2), {}, ()),
        (plant(cold_start_cost=40.0, cold_after_s=7200.0), {}, (3, 1)),
        (plant(cold_start_cost=40.0, cold_after_s=7200.0), {"gen0": {"age_s": 3600.0}}, (1, 2, 1)),
        (replace(plant(), maintenance=(AWAY,)), {}, (1, 2, 1)),
    ],
)  # fmt: skip
def test_fleets_are_of_machines_that_only_history_tells_apart(
    site: Site, now: dict[str, dict[str, Any]], sizes: tuple[int, ...]
):
    pose = Pose(site=site, gensets_now=now)
    assert fleets_of(site, problem_of(pose).gensets) == sizes


def test_genset_that_may_not_form_an_island_is_in_no_fleet_of_those_that_may():
    site = plant()
    assert fleets_of(replace(site, forming=replace(site.forming, islanded=("bess1", "gen0", "gen1")))) == (
        2,
        1,
        1,
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_fleets_of_a_plant_are_the_pyomo_model_row_by_row(policy: dict[str, Any]):
    site = plant()
    p = problem_of(Pose(site=replace(site, reserve=replace(site.reserve, **policy)), steps=4))
    s = structure_of(p.site, p.grid, Formulation(fleets=(3, 1)))
    assert rows_of(build(s, Model).standard_form()) == rows_of(build(s, PyomoModel).standard_form())
