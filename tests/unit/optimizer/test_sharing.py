"""Proportional sharing of an island between unlike gensets: by hand, replayed, and as the plant does it."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from ems.assets import GensetParams, Sharing
from ems.site import GridMode
from optimizer.intake import planning_problem
from optimizer.validate import validate
from plant_models.plant import PlantInput, initial_state, step
from tests.unit.optimizer.posing import EXACT, Pose, feeder, ideal_bess, objective, small_genset, small_site


def linear(
    genset_id: str, rated_kw: float, per_kwh: float, sharing: Sharing = Sharing.PROPORTIONAL
) -> GensetParams:
    return small_genset(
        genset_id, p_rated_kw=rated_kw, p_min_kw=0.2 * rated_kw, s_kva=1.25 * rated_kw, sharing=sharing,
        fuel_kw=(0.0, rated_kw), fuel_l_h=(0.1 * rated_kw * per_kwh, 1.1 * rated_kw * per_kwh),
        ramp_kw_s=rated_kw, step_load_kw_max=rated_kw,
    )  # fmt: skip


def posed(load_kw: list[float], *units: GensetParams, **changes: Any) -> Pose:
    site = small_site(gensets=units, feeders=[feeder("load", 10.0)], diesel_per_l=1.0)
    return Pose(site=site, load_kw={"load": load_kw}, steps=len(load_kw), mode=GridMode.ISLANDED, **changes)


def test_unlike_sets_run_at_one_per_unit_load():
    """240 kW on 200 and 100 kW: 160 and 80, although the smaller one burns less per kWh."""
    plan = posed([240.0], linear("big", 200.0, 0.3), linear("small", 100.0, 0.2)).plan()
    assert (plan.genset_p_kw["big"][0], plan.genset_p_kw["small"][0]) == pytest.approx((160.0, 80.0))


@pytest.mark.parametrize("what", ["base load", "mains", "battery"])
def test_sets_keep_their_setpoint_where_they_do_not_carry_the_island_alone(what: str):
    """The cheaper one at 100 kW, the other at the rest."""
    way = Sharing.BASE_LOAD if what == "base load" else Sharing.PROPORTIONAL
    pose = posed([240.0], linear("big", 200.0, 0.3, way), linear("small", 100.0, 0.2, way))
    if what == "mains":
        pose = replace(pose, mode=GridMode.GRID_TIED, import_per_kwh=5.0)
    if what == "battery":
        site = small_site(bess=[ideal_bess()], gensets=pose.site.gensets, feeders=pose.site.feeders)
        pose = replace(pose, site=replace(site, diesel_per_l=1.0), soc=0.0)
    assert pose.plan().genset_p_kw["small"][0] == pytest.approx(100.0)


def test_replay_refuses_a_plan_that_does_not_share():
    pose = posed([240.0], linear("big", 200.0, 0.3), linear("small", 100.0, 0.2))
    plan, p = pose.plan(), planning_problem(pose.site, pose.condition(), pose.forecast(), EXACT)
    assert validate(plan, p).ok
    moved = replace(plan, genset_p_kw={"big": (150.0,), "small": (90.0,)})
    assert [f.split(":")[0] for f in validate(moved, p).faults] == ["sharing"]


def test_plant_runs_the_sets_as_the_plan_says():
    pose = posed([240.0], linear("big", 200.0, 0.3), linear("small", 100.0, 0.2))
    plan, site = pose.plan(), pose.site
    state = initial_state(site, gensets_on_kw={"big": 160.0, "small": 80.0}, islanded_by="big")
    asked = PlantInput(
        mains_present=False, demand_kw={"load": 240.0}, pv_potential_kw={},
        genset_run_request={"big": True, "small": True}, genset_p_set_kw={"big": 200.0, "small": 40.0},
    )  # fmt: skip
    for _ in range(60):
        state, flows = step(site, state, asked, 1.0)
        assert flows.genset_p_kw["big"] == pytest.approx(plan.genset_p_kw["big"][0])
        assert flows.genset_p_kw["small"] == pytest.approx(plan.genset_p_kw["small"][0])


@pytest.mark.parametrize("seed", range(8))
def test_plan_costs_what_the_best_enumerated_commitment_costs(seed: int):
    """Three sets, one on base load, two hours: the two share what is left."""
    rng = np.random.default_rng(seed)
    rated, rate = rng.uniform(60.0, 150.0, 3), rng.uniform(0.2, 0.4, 3)
    ways = (Sharing.PROPORTIONAL, Sharing.PROPORTIONAL, Sharing.BASE_LOAD)
    units = [linear(f"g{k}", float(rated[k]), float(rate[k]), ways[k]) for k in range(3)]
    load = rng.uniform(80.0, 260.0, 2)

    def hour(on: tuple[int, ...], kw: float) -> float:
        """Least cost of an hour: the power of the set on base load is tried at every corner."""
        shared = float(rated[:2] @ np.array(on[:2]))
        best = np.inf
        lows, highs = 0.2 * rated * on, rated * np.array(on)
        corners = {0.0} if not on[2] else {lows[2], highs[2], kw - shared, kw - 0.2 * shared, kw}
        for base in corners:
            if on[2] and not lows[2] - 1e-9 <= base <= highs[2] + 1e-9:
                continue
            given = min(kw - base, shared)  # the rest is lost load
            surplus = max(0.0, 0.2 * shared + base - kw)
            given = max(given, 0.2 * shared)
            lost = max(0.0, kw - base - given)
            cost = 10.0 * lost + 20.0 * surplus
            powers = [given * rated[k] / shared if on[k] else 0.0 for k in range(2)] + [base]
            cost += sum(rate[k] * (0.1 * rated[k] + powers[k]) for k in range(3) if on[k])
            best = min(best, cost)
        return float(best)

    best = sum(min(hour(on, kw) for on in product((0, 1), repeat=3)) for kw in load)
    assert objective(posed(load.tolist(), *units).plan()) == pytest.approx(best, rel=1e-6), f"seed {seed}"
