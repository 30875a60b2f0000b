"""N-1 in an island and survival of an outage, on problems whose answers are worked out beside them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ems.assets import ReactivePolicy
from ems.site import GridMode, Site
from ems.sources import SourceSets
from optimizer.formulation import Formulation, Shedding
from optimizer.formulations.survival import needed_kwh
from optimizer.intake import planning_problem
from optimizer.structure import structure_of
from optimizer.validate import validate
from tests import builders
from tests.unit.optimizer.posing import EXACT, Pose, feeder, ideal_bess, outage, small_genset, small_site

SECURE = replace(
    EXACT, formulation=Formulation(soc_tapers=False, tie_break_ratio=0.0, shedding=Shedding.MEAN)
)


def with_policy(site: Site, **policy: Any) -> Site:
    plain = {"load_ratio": 0.0, "pv_ratio": 0.0, "failed_starts": 0, "shortfall_per_kwh": 20.0}
    return replace(site, reserve=replace(site.reserve, **(plain | policy)))


def island(load_kw: float, bess: Any = (), gensets: int = 2, **policy: Any) -> Pose:
    """Four islanded hours of one critical load; gensets of 30..100 kW, 1 money per kWh and per hour."""
    units = [replace(small_genset(f"gen{i + 1}"), running_cost_per_h=1.0) for i in range(gensets)]
    site = small_site(bess=bess, gensets=units, feeders=[feeder("vital", 50.0, tier=1, peak_kw=load_kw)])
    return Pose(site=with_policy(site, **policy), load_kw={"vital": load_kw}, mode=GridMode.ISLANDED)


def committed(pose: Pose) -> list[float]:
    plan = pose.plan(SECURE)
    return [sum(x[t] for x in plan.genset_on.values()) for t in range(4)]


def test_without_n_minus_1_one_genset_carries_80_kw() -> None:
    assert committed(island(80.0)) == pytest.approx([1.0] * 4)


def test_loss_of_a_genset_is_covered_by_a_second_one() -> None:
    """80 kW on two sets of 100 kW: whichever fails, the other carries it."""
    pose = island(80.0, n_minus_1=("genset",))
    assert committed(pose) == pytest.approx([2.0] * 4)
    assert "loss of gen1: covered in every islanded step" in pose.plan(SECURE).notes


def test_loss_of_a_genset_is_covered_by_a_battery_in_power_and_energy() -> None:
    """A battery of 90 kW holds the 80 kW of a lost set for the minute a start takes; 1 kWh of it does not."""
    big = ideal_bess(energy_kwh=200.0, p_charge_kw_max=0.01, p_discharge_kw_max=90.0)
    units = [replace(small_genset(f"gen{i}"), warm_up_s=60.0, running_cost_per_h=1.0) for i in (1, 2)]
    running = {"gen1": {"on_load": True}}
    pose = replace(island(80.0, bess=[big], n_minus_1=("genset",)), gensets_now=running)
    site = replace(
        pose.site, gensets=tuple(units), forming=replace(pose.site.forming, islanded=("gen1", "gen2"))
    )
    full = replace(pose, site=site, soc=0.5)
    assert max(committed(full)) == pytest.approx(1.0)
    assert committed(replace(full, soc=0.005)) == pytest.approx([2.0] * 4)


def test_a_shortfall_is_named_with_its_size() -> None:
    """150 kW on two sets of 100 kW: the loss of one leaves 50 kW uncovered."""
    notes = [
        n for n in island(150.0, n_minus_1=("genset",)).plan(SECURE).notes if n.startswith("loss of gen")
    ]
    shorts = [float(n.split("short by up to ")[1].split(" kW")[0]) for n in notes if "short by" in n]
    assert max(shorts) >= 50.0 - 0.1


def test_loss_of_the_only_forming_battery_keeps_a_genset_on_line() -> None:
    """The battery could carry 20 kW alone; its loss would leave a dead bus, so a set runs at minimum load."""
    big = ideal_bess(energy_kwh=400.0, p_charge_kw_max=90.0, p_discharge_kw_max=90.0)
    alone = island(20.0, bess=[big], gensets=1)
    assert committed(alone) == pytest.approx([0.0] * 4)
    secured = replace(alone, site=with_policy(alone.site, n_minus_1=("bess",)))
    assert committed(secured) == pytest.approx([1.0] * 4)


def test_the_largest_motor_start_needs_headroom() -> None:
    """80 kW on one set of 100 kW leaves 20 kW: a motor of 30 kW takes a second set."""
    assert committed(island(80.0, motor_start_kw=20.0)) == pytest.approx([1.0] * 4)
    assert committed(island(80.0, motor_start_kw=30.0)) == pytest.approx([2.0] * 4)


def test_the_largest_load_trip_needs_room_above_minimum_load() -> None:
    """110 kW on two sets of 30..100 kW: 50 kW can go; a trip of 60 kW would leave them below minimum load."""
    fits = island(110.0, load_trip_kw=50.0).plan(SECURE)
    assert not any("load trip" in n for n in fits.notes)
    short = island(110.0, load_trip_kw=60.0).plan(SECURE)
    assert any("largest load trip not covered: up to 10.0 kW" in n for n in short.notes)


def tied(survive_h: float, gensets: int = 0, fuel_l: float | None = None, **policy: Any) -> Pose:
    """Four grid-tied hours at a price of 1, no value of energy afterwards: a battery would be emptied."""
    bess = ideal_bess(energy_kwh=100.0, p_charge_kw_max=100.0, p_discharge_kw_max=100.0)
    site = small_site(
        bess=[bess],
        gensets=[small_genset(f"gen{i + 1}") for i in range(gensets)],
        feeders=[feeder("vital", 50.0, tier=1, peak_kw=20.0)],
        diesel_per_l=5.0,
    )
    return Pose(
        site=with_policy(site, survive_h=survive_h, **policy),
        load_kw={"vital": 20.0},
        import_per_kwh=1.0,
        soc=1.0,
        gensets_now={f"gen{i + 1}": {"fuel_l": fuel_l} for i in range(gensets)},
    )


def left(pose: Pose) -> float:
    return pose.plan(SECURE).bess_soc_end["bess1"][-1]


def test_survival_keeps_the_energy_the_critical_load_takes() -> None:
    """3 h of 20 kW: 60 kWh stay in the battery, 40 of its 100 kWh are used."""
    assert left(tied(3.0)) == pytest.approx(0.60)
    assert left(tied(0.0)) == pytest.approx(0.20)


def test_survival_counts_the_fuel_in_the_tank() -> None:
    """A genset at 1 L per kWh with 25 L covers 25 of the 60 kWh: 35 stay; with a full tank none has to."""
    assert left(tied(3.0, 1, 25.0)) == pytest.approx(0.35)
    assert left(tied(3.0, 1, 1000.0)) == pytest.approx(0.20)


def test_survival_by_probability_is_worth_what_an_outage_is_expected_to_cost() -> None:
    """VOLL 50 at 7.3 outages a month is 0.5 per kWh and hour short; a kWh is worth 1 now: some is used."""
    rare, often = tied(3.0, outages_per_month=7.3), tied(3.0, outages_per_month=73.0)
    assert left(rare) < 0.6 - 1e-6
    assert left(often) == pytest.approx(0.60)
    assert any(n.startswith("survival: stored energy and fuel miss up to") for n in rare.plan(SECURE).notes)


def test_survival_need_is_the_integral_of_the_critical_load() -> None:
    pose = replace(tied(1.5), load_kw={"vital": [10.0, 20.0, 30.0, 40.0]})
    p = planning_problem(pose.site, pose.condition(), pose.forecast(), SECURE)
    need = needed_kwh(p, structure_of(p.site, p.grid, SECURE.formulation))
    later = (0.5 * 30.0 + 40.0) / 1.5  # mean of the last 1.5 h stands for what follows the window
    assert need == pytest.approx(np.array([20.0 + 15.0, 30.0 + 20.0, 40.0 + 0.5 * later, 1.5 * later]))


# --- PV, and beside the grid --------------------------------------------------------------------------------


def solar(pose: Pose, kw: float, p_ac_kw: float = 100.0) -> Pose:
    site = replace(pose.site, pv=(replace(builders.site().pv[0], p_ac_kw=p_ac_kw),))
    return replace(pose, site=site, pv_kw={"pv1": kw})


def test_loss_of_a_pv_plant_in_an_island_needs_headroom() -> None:
    """80 kW, 50 of them PV: one set at its 30 kW has 70 kW of headroom; of 90 kW PV it covers 70."""
    fits = solar(island(80.0, n_minus_1=("pv",)), 50.0).plan(SECURE)
    assert sum(x[0] for x in fits.genset_on.values()) == pytest.approx(1.0)
    assert "loss of pv1: covered in every islanded step" in fits.notes
    assert fits.contingency == ("loss of pv1",) * 4
    assert fits.contingency_lost_kw == pytest.approx((50.0,) * 4)
    assert fits.contingency_cover_kw == pytest.approx((70.0,) * 4)
    assert {x.split(" ", 1)[1] for x in fits.contingency_by} == {"50 kW"}
    much = solar(island(120.0, n_minus_1=("pv",)), 90.0).plan(SECURE)
    assert much.pv_p_kw["pv1"][0] <= 70.0 + 1e-6 or sum(x[0] for x in much.genset_on.values()) > 1.5


@pytest.mark.parametrize(("ratio", "sets"), [(0.5, 1.0), (1.0, 2.0)])
def test_a_cloud_takes_a_share_of_all_pv(ratio: float, sets: float) -> None:
    """110 kW with 80 kW of PV at 1 money per kWh of diesel: half is covered by one set, all of it by two."""
    pose = solar(island(140.0, gensets=2, pv_drop_ratio=ratio), 80.0)
    plan = pose.plan(SECURE)
    assert sum(x[0] for x in plan.genset_on.values()) == pytest.approx(sets)
    assert plan.contingency[0] == f"drop of {100 * ratio:.0f} % of the PV"
    assert min(np.array(plan.contingency_cover_kw) - plan.contingency_lost_kw) >= -1e-6


def beside_grid(load_kw: float, bess: Any = (), import_kw: float = 1000.0, **policy: Any) -> Pose:
    """Four grid-tied hours of one vital load; energy at 1, gensets at 1 per kWh and 1 per hour."""
    units = [replace(small_genset(f"gen{i + 1}"), running_cost_per_h=1.0) for i in range(2)]
    loads = [feeder("vital", 50.0, tier=1, peak_kw=200.0), feeder("else", 5.0, tier=3, peak_kw=200.0)]
    site = small_site(bess=bess, gensets=units, feeders=loads, import_kw=import_kw)
    return Pose(
        site=with_policy(site, critical_tier=1, **policy), load_kw={"vital": load_kw}, import_per_kwh=0.5
    )


def test_loss_of_the_import_is_carried_by_headroom_not_by_rating() -> None:
    """150 kW. The reserve is content with 200 kW of sets on load; the import is to be covered by headroom.

    Two sets at their 30 kW import 90 kW and have 140 kW left: covered.
    """
    plan = beside_grid(150.0, n_minus_1_tied=("import",)).plan(SECURE)
    assert sum(x[0] for x in plan.genset_on.values()) == pytest.approx(2.0)
    assert plan.grid_p_kw == pytest.approx((90.0,) * 4)
    assert plan.contingency == ("loss of import",) * 4
    assert plan.contingency_cover_kw == pytest.approx((140.0,) * 4)
    assert "loss of import: covered in every grid-tied step" in plan.notes


def test_what_may_be_shed_counts_for_a_loss_of_the_import() -> None:
    """Only 20 of 100 kW are vital: 80 kW may go, the import may be 80 kW more than the headroom."""
    pose = replace(beside_grid(20.0, n_minus_1_tied=("import",)), load_kw={"vital": 20.0, "else": 80.0})
    plan = pose.plan(SECURE)
    assert sum(x[0] for x in plan.genset_on.values()) == pytest.approx(1.0)
    assert plan.contingency_by[0].startswith("load shedding 70 kW")
    assert plan.contingency_cover_kw[0] == pytest.approx(80.0 + 70.0)


def test_loss_of_a_pcs_beside_the_grid_needs_room_at_the_import_cap() -> None:
    """120 kW behind a cap of 100: the battery gives 20 or more; its loss would leave 20 kW over the cap.

    A genset at its 30 kW covers it: 70 kW of headroom, and the import below its cap.
    """
    big = ideal_bess(energy_kwh=400.0, p_charge_kw_max=90.0, p_discharge_kw_max=90.0)
    pose = beside_grid(120.0, bess=[big], import_kw=100.0)
    site = replace(pose.site, reserve=replace(pose.site.reserve, shortfall_per_kwh=20.0, critical_tier=1))
    site = replace(site, feeders=(replace(site.feeders[0], tier=2), site.feeders[1]))
    free = replace(pose, site=site, soc=1.0)
    secure = replace(free, site=replace(site, reserve=replace(site.reserve, n_minus_1_tied=("bess",))))
    assert sum(sum(x) for x in free.plan(SECURE).genset_on.values()) == pytest.approx(0.0)
    plan = secure.plan(SECURE)
    assert sum(x[0] for x in plan.genset_on.values()) == pytest.approx(1.0)
    assert min(np.array(plan.contingency_cover_kw) - plan.contingency_lost_kw) >= -1e-6


def test_a_contingency_beside_the_grid_that_is_short_is_named_with_its_size() -> None:
    """No battery, both sets away: 100 kW of import hang on nothing."""
    pose = beside_grid(100.0, n_minus_1_tied=("import",))
    away = replace(pose, gensets_now={"gen1": {"available": False}, "gen2": {"available": False}})
    plan = away.plan(SECURE)
    assert plan.contingency_lost_kw[0] - plan.contingency_cover_kw[0] == pytest.approx(100.0)
    assert any(n.startswith("loss of import: short by up to 100.0 kW") for n in plan.notes)
    assert plan.cost_terms["contingency_short"] == pytest.approx(4 * 100.0 * 20.0)


def test_the_replay_refuses_a_margin_that_is_not_there() -> None:
    pose = solar(island(80.0, n_minus_1=("pv", "genset"), motor_start_kw=10.0, load_trip_kw=1.0), 20.0)
    plan = pose.plan(SECURE)
    p = planning_problem(pose.site, pose.condition(), pose.forecast(), SECURE)
    assert validate(plan, p).ok
    more = tuple(kw + 5.0 for kw in plan.contingency_cover_kw)
    faults = " ".join(validate(replace(plan, contingency_cover_kw=more), p).faults)
    assert "security: margin of the worst contingency overstated by 5" in faults
    other = replace(plan, contingency=("loss of nothing",) * 4)
    assert "security:" in " ".join(validate(other, p).faults)


@pytest.mark.parametrize("seed", range(6))
def test_margins_of_random_plants_are_those_the_replay_finds(seed: int) -> None:
    """Every kind of contingency at once, in both modes, with reactive power and permitted sets on some."""
    rng = np.random.default_rng(seed)
    site = builders.site()
    policy = replace(
        site.reserve, n_minus_1=("genset", "bess", "pv"), n_minus_1_tied=("genset", "bess", "pv", "import"),
        pv_drop_ratio=0.6, motor_start_kw=40.0, load_trip_kw=30.0,
    )  # fmt: skip
    band = ReactivePolicy(v_poi_min_pu=0.93, v_poi_max_pu=1.06) if seed % 2 else None
    sets = ((), ("bess1",), ("bess1", "pv1"), ("gen1", "bess1", "pv1"), ("gen1", "gen2", "bess1", "pv1"))
    table = SourceSets(islanded=sets[1:], grid_tied=sets) if seed % 3 == 0 else None
    site = replace(site, reserve=policy, grid=replace(site.grid, reactive=band), sources=table)
    pose = Pose(
        site=site,
        load_kw={f.id: rng.uniform(0.2, 0.9, 6) * f.p_peak_kw for f in site.feeders},
        pv_kw={"pv1": rng.uniform(0.0, 500.0, 6)},
        import_per_kwh=rng.uniform(0.05, 0.4, 6),
        steps=6,
        soc=float(rng.uniform(0.2, 0.9)),
        outages=(outage(2, 3),),
    )
    form = replace(SECURE.formulation, soc_tapers=True)
    plan = pose.plan(replace(SECURE, gap_ratio=0.01, formulation=form))  # replayed, or it is a failure
    assert all(plan.contingency)
    short = np.maximum(0.0, np.array(plan.contingency_lost_kw) - plan.contingency_cover_kw)
    priced = plan.cost_terms["contingency_short"]
    assert (short @ np.ones(6)) * site.reserve.shortfall_per_kwh * 0.5 <= priced + 1e-3
