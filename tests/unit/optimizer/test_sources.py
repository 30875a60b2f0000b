"""Permitted sets of sources and the short-circuit ratio, on problems worked out beside them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ems.site import GridMode, Site
from ems.sources import SourceSets, StrengthPolicy
from optimizer import Planner
from optimizer.intake import planning_problem
from optimizer.validate import validate
from tests import builders
from tests.unit.optimizer.posing import EXACT, Pose, feeder, ideal_bess, small_genset, small_site

VALUED = replace(EXACT, terminal_per_kwh=(0.1, 0.1, 0.1))
FIRM = replace(EXACT, formulation=replace(EXACT.formulation, reserve=True))


def plant(sets: SourceSets | None = None, gensets: int = 1, voll: float = 5.0, **changes: Any) -> Site:
    """A battery of 30 kW that forms, gensets of 30..100 kW at 1 per kWh and per hour, a load of 100 kW."""
    bess = ideal_bess(energy_kwh=400.0, p_charge_kw_max=30.0, p_discharge_kw_max=30.0)
    units = [replace(small_genset(f"gen{i + 1}"), running_cost_per_h=1.0) for i in range(gensets)]
    site = small_site(bess=[bess], gensets=units, feeders=[feeder("load", voll)], **changes)
    reserve = replace(site.reserve, load_ratio=0.0, pv_ratio=0.0, failed_starts=0, shortfall_per_kwh=0.5)
    return replace(site, sources=sets, reserve=reserve)


def island(site: Site, load_kw: float, **changes: Any) -> Pose:
    return Pose(site=site, load_kw={"load": load_kw}, mode=GridMode.ISLANDED, soc=0.9, steps=2, **changes)


ALONE = SourceSets(islanded=(("bess1",), ("gen1",)))


def test_sources_that_may_not_run_together_do_not() -> None:
    """50 kW: the battery and a genset would share it; where only one may feed, the genset takes all."""
    free = island(plant(), 50.0).plan()
    assert free.bess_p_kw["bess1"] == pytest.approx((20.0, 20.0)), "the genset at its minimum load"
    plan = island(plant(ALONE), 50.0).plan(FIRM)
    assert plan.genset_p_kw["gen1"] == pytest.approx((50.0, 50.0))
    assert plan.bess_p_kw["bess1"] == pytest.approx((0.0, 0.0))
    assert plan.forming == ("gen1", "gen1"), "the battery is not on the bus"
    assert plan.reserve_up_held_kw == pytest.approx((50.0, 50.0)), "nor is its reserve"
    assert plan.missed["unpermitted_sources"] == (0.0, 0.0)
    small = island(plant(ALONE), 20.0).plan()
    assert small.bess_p_kw["bess1"] == pytest.approx((20.0, 20.0))
    assert small.genset_on["gen1"] == pytest.approx((0.0, 0.0))
    assert small.forming == ("bess1", "bess1")


def test_load_with_a_breaker_is_shed_before_a_set_is_used_that_is_not_permitted() -> None:
    only = SourceSets(islanded=(("bess1",),))
    plan = island(plant(only), 50.0).plan()
    assert plan.shed_kw["load"] == pytest.approx((20.0, 20.0))
    assert sum(plan.genset_on["gen1"]) == pytest.approx(0.0)


def test_a_set_that_is_not_permitted_is_used_at_its_price_and_named() -> None:
    """Shedding 20 kW costs 100 an hour, the set costs 10."""
    cheap = SourceSets(islanded=(("bess1",),), unpermitted_cost_per_h=10.0)
    pose = island(plant(cheap), 50.0)
    plan = pose.plan()
    assert plan.shed_kw["load"] == pytest.approx((0.0, 0.0))
    assert plan.cost_terms["sources"] == pytest.approx(20.0)
    assert plan.missed["unpermitted_sources"] == pytest.approx((1.0, 1.0))
    assert any("no permitted set of sources feeds the bus in 2 steps" in note for note in plan.notes)
    p = planning_problem(pose.site, pose.condition(), pose.forecast(), EXACT)
    assert "sources: a set of sources that is not permitted" in " ".join(
        validate(replace(plan, missed={}), p).faults
    )


@pytest.mark.parametrize(
    ("sets", "away", "runs"),
    [
        ((("gen2", "bess1"),), (), "gen2"),  # of two equal ones the second
        ((("gen1", "bess1"), ("gen2",)), ("bess1",), "gen2"),  # a set with a source that is away is none
    ],
)
def test_sets_tell_equal_gensets_apart(sets: Any, away: tuple[str, ...], runs: str) -> None:
    pose = island(plant(SourceSets(islanded=sets), gensets=2), 60.0)
    condition = pose.condition()
    bess = {b: replace(x, available=b not in away) for b, x in condition.bess.items()}
    plan = Planner(pose.site, EXACT).plan(replace(condition, bess=bess), pose.forecast(), None, 1)
    assert plan.solve.rescue == "none"
    assert plan.genset_on[runs] == pytest.approx((1.0, 1.0))
    assert sum(sum(on) for on in plan.genset_on.values()) == pytest.approx(2.0)


def sun(site: Site, p_ac_kw: float = 150.0) -> Site:
    return replace(site, pv=(replace(builders.site().pv[0], p_ac_kw=p_ac_kw),))


def test_grid_tied_table_counts_beside_the_grid_only() -> None:
    """Nothing or the battery may feed beside the grid: PV is curtailed there, not in the island."""
    sets = SourceSets(grid_tied=((), ("bess1",)))
    tied = Pose(site=sun(plant(sets)), load_kw={"load": 50.0}, pv_kw={"pv1": 40.0}, soc=0.9, steps=2)
    assert tied.plan().pv_p_kw["pv1"] == pytest.approx((0.0, 0.0))
    assert replace(tied, mode=GridMode.ISLANDED).plan(VALUED).pv_p_kw["pv1"] == pytest.approx((40.0, 40.0))


def test_a_running_set_that_must_stay_on_is_named_not_infeasible() -> None:
    """gen1 has an hour of its minimum time to go, only the battery may feed: said for that hour."""
    site = plant(SourceSets(islanded=(("bess1",),)))
    site = replace(site, gensets=(replace(site.gensets[0], min_up_s=7200.0),))
    pose = replace(island(site, 60.0), gensets_now={"gen1": {"on_load": True, "age_s": 3600.0}})
    planner = Planner(site, EXACT)
    first = planner.plan(pose.condition(), pose.forecast(), None, 1)
    assert first.missed["unpermitted_sources"] == pytest.approx((1.0, 0.0))
    rested = replace(pose, gensets_now={"gen1": {"on_load": True, "age_s": 7200.0}})
    second = planner.plan(rested.condition(), rested.forecast(), first, 2)
    assert second.solve.rescue == "none"
    assert second.missed["unpermitted_sources"] == pytest.approx((0.0, 0.0))


# --- short-circuit ratio ------------------------------------------------------------------------------------


def strong(site: Site, **changes: Any) -> Site:
    policy = StrengthPolicy(**({"scr_ratio_min": 2.0, "s_grid_kva": 200.0} | changes))
    return replace(site, grid=replace(site.grid, strength=policy))


def test_inverters_beside_a_weak_grid_give_half_its_fault_level() -> None:
    """200 kVA at a ratio of 2 carry 100 kW: 150 kW of sun are curtailed to it, and the battery waits."""
    site = strong(sun(plant(export_kw=500.0)))
    pose = Pose(
        site=site, load_kw={"load": 50.0}, pv_kw={"pv1": 150.0}, soc=0.9, steps=2, export_per_kwh=0.05
    )
    plan = pose.plan()
    inverters = np.array(plan.pv_p_kw["pv1"]) + np.abs(plan.bess_p_kw["bess1"])
    assert inverters == pytest.approx((100.0, 100.0))
    by_impedance = strong(site, s_grid_kva=None, scr_ratio_min=100.0)  # 6,860 kVA by V^2 / |Z|
    z_ohm = float(np.hypot(site.grid.r_ohm, site.grid.x_ohm))
    given = replace(pose, site=by_impedance).plan()
    total = given.pv_p_kw["pv1"][0] + abs(given.bess_p_kw["bess1"][0])
    assert total == pytest.approx(400.0**2 / 1000.0 / z_ohm / 100.0)


def test_a_genset_on_load_makes_the_island_strong_enough() -> None:
    """A forming PCS of 25 kVA alone carries 12.5 kW of sun; a genset of 125 kVA adds 6 x 125 / 2 = 375 kW."""
    base = plant()
    weak = replace(base.bess[0], pcs=replace(base.bess[0].pcs, s_kva=25.0))
    small = replace(weak, battery=replace(weak.battery, p_charge_kw_max=25.0, p_discharge_kw_max=25.0))
    site = strong(sun(replace(base, bess=(small,), gensets=(replace(base.gensets[0], s_kva=125.0),))))
    pose = island(site, 30.0, pv_kw={"pv1": 100.0})
    plan = pose.plan(VALUED)
    assert plan.genset_on["gen1"] == pytest.approx((0.0, 0.0))
    assert plan.pv_p_kw["pv1"] == pytest.approx((12.5, 12.5))
    more = replace(pose, load_kw={"load": 90.0}).plan(VALUED)
    assert more.genset_on["gen1"] == pytest.approx((1.0, 1.0))
    assert more.pv_p_kw["pv1"][0] > 12.5 + 1.0


def test_a_table_takes_the_place_of_the_ratio() -> None:
    site = replace(
        strong(sun(plant(export_kw=500.0))), sources=SourceSets(grid_tied=(("pv1",), ("bess1", "pv1")))
    )
    pose = Pose(
        site=site, load_kw={"load": 50.0}, pv_kw={"pv1": 150.0}, soc=0.9, steps=2, export_per_kwh=0.05
    )
    assert pose.plan().pv_p_kw["pv1"] == pytest.approx((150.0, 150.0))


def test_weak_inverters_are_named_where_load_hangs_on_them() -> None:
    """A load of 50 behind no breaker is worth more than the ratio: the following battery gives 30 kW."""
    base = plant(voll=50.0)
    follows = replace(base.bess[0], pcs=replace(base.bess[0].pcs, can_form=False))
    load = replace(base.feeders[0], has_breaker=False)
    unit = replace(base.gensets[0], p_rated_kw=60.0, s_kva=60.0, fuel_kw=(0.0, 60.0), fuel_l_h=(0.0, 60.0))
    site = replace(
        strong(base, genset_ratio=0.5),
        bess=(follows,),
        feeders=(load,),
        gensets=(unit,),
        forming=replace(base.forming, islanded=("gen1",)),
    )
    pose = island(site, 80.0)
    plan = pose.plan()
    assert plan.bess_p_kw["bess1"] == pytest.approx((20.0, 20.0))
    assert plan.missed["weak_inverters_kw"] == pytest.approx((5.0, 5.0))  # 60 x 0.5 / 2 = 15 kW are carried
    assert any("short-circuit ratio allows: up to 5.0 kW" in note for note in plan.notes)
    p = planning_problem(pose.site, pose.condition(), pose.forecast(), EXACT)
    assert "strength:" in " ".join(validate(replace(plan, missed={}), p).faults)
