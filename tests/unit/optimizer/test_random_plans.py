"""Whatever the plant and its state: a fresh plan, accepted by its replay, whose money adds up."""

from collections import Counter

import numpy as np
import pytest

from ems.plan import Plan
from optimizer import Planner, PlannerOptions
from tests.unit.optimizer.random_sites import random_pose

BLOCK = 20
OPTIONS = PlannerOptions(gap_ratio=1e-4, node_limit=2000)


def plan_of(seed: int) -> Plan:
    pose = random_pose(seed)
    plan = Planner(pose.site, OPTIONS).plan(pose.condition(), pose.forecast(), None, 1)
    assert plan.solve.rescue == "none", f"seed {seed}: {plan.solve.rescue}"
    return plan


def judge(seed: int) -> Plan:
    plan = plan_of(seed)
    assert plan.solve.objective is not None
    assert sum(plan.cost_terms.values()) == pytest.approx(plan.solve.objective, rel=1e-6, abs=1e-3), seed
    for on in plan.genset_on.values():
        assert set(on) <= {0.0, 1.0}, f"seed {seed}: commitment is not whole"
    missed = sum(float(np.sum(x)) for x in plan.shed_kw.values())
    named = [n for n in plan.notes if "load not served" in n]
    assert (missed > 0.3) <= bool(named), f"seed {seed}: {missed:.1f} kW shed, not named in {plan.notes}"
    return plan


@pytest.mark.parametrize("block", range(6))
def test_every_random_plant_gets_a_fresh_validated_plan(block: int) -> None:
    for seed in range(BLOCK * block, BLOCK * (block + 1)):
        judge(seed)


@pytest.mark.soak
@pytest.mark.parametrize("block", range(6, 100))
def test_many_more_random_plants_get_a_fresh_validated_plan(block: int) -> None:
    for seed in range(BLOCK * block, BLOCK * (block + 1)):
        judge(seed)


def test_random_plants_are_as_various_as_they_should_be() -> None:
    """The draw reaches islands, sheds, several batteries and none, and every kind of start."""
    seen: Counter[str] = Counter()
    for seed in range(200):
        pose = random_pose(seed)
        seen[f"{len(pose.site.gensets)} gensets"] += 1
        seen[f"{len(pose.site.bess)} batteries"] += 1
        seen[str(pose.mode)] += 1
        seen["outage"] += bool(pose.outages)
        seen["starting"] += any(g.get("starting", False) for g in pose.gensets_now.values())
        seen["maintenance"] += bool(pose.site.maintenance)
        seen["contingencies"] += bool(pose.site.reserve.n_minus_1)
        seen["kVA"] += any(c.apparent for c in pose.site.tariff.demand_charges)
        seen["reactive"] += pose.site.grid.reactive is not None
        seen["transformer"] += pose.site.grid.transformer is not None
        seen["source sets"] += pose.site.sources is not None
        seen["deferrables"] += bool(pose.site.deferrables)
        seen["tied contingencies"] += bool(pose.site.reserve.n_minus_1_tied)
        seen["depth of cycle"] += any(b.battery.cycle_life is not None for b in pose.site.bess)
        seen["low load"] += any(g.low_load is not None for g in pose.site.gensets)
        seen["limited sheds"] += any(x.sheds_per_day_max is not None for x in pose.site.feeders)
    assert len(seen) == 22
    assert min(seen.values()) >= 10, seen
