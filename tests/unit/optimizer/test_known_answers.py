"""Cases small enough to check by hand, each with the answer worked out beside it."""

from dataclasses import replace
from typing import Any

import pytest

from ems.site import GridMode
from optimizer.compiled import Compiled
from optimizer.formulation import Exclusivity, Shedding
from optimizer.intake import planning_problem
from optimizer.options import PlannerOptions
from optimizer.rolling import Planner
from optimizer.solve import Effort, Session
from optimizer.structure import structure_of
from tests.unit.optimizer.posing import (
    EXACT,
    PLAIN,
    Pose,
    feeder,
    ideal_bess,
    objective,
    outage,
    small_genset,
    small_site,
)


@pytest.mark.parametrize(
    ("so_far", "total", "peak"), [(0.0, 6.0, 5 / 3), (3.0, 8.4, 3.0), (20.0, 42.0, 20.0)]
)
def test_demand_charge_starts_from_the_peak_so_far(so_far: float, total: float, peak: float) -> None:
    """10 kWh at 0.2; a kW of peak costs 2; a kWh through the battery 0.2; it must end as full as it began.

    Peak 5/3 is the mean of three hours, one of 5 kW among them; from 3 kW on only the 5 kW hour is shaved; at
    20 kW nothing is worth doing. The sunk charge of the peak so far is added to compare.
    """
    # a third of 15 kWh is worth a lot: the level of 5 kWh at the end is a floor
    bess = ideal_bess(energy_kwh=15.0, p_charge_kw_max=20.0, p_discharge_kw_max=20.0, wear_per_kwh=0.2)
    site = small_site(bess=[bess], feeders=[feeder("load", 10.0)], demand_per_kw=2.0)
    load = {"load": [1.0, 1.0, 5.0, 1.0, 1.0, 1.0]}
    pose = Pose(site=site, load_kw=load, import_per_kwh=0.2, steps=6, soc=1 / 3, peak_kw=so_far)
    plan = pose.plan(replace(EXACT, terminal_per_kwh=(100.0, 0.0, 0.0)))
    assert objective(plan) + 2.0 * so_far == pytest.approx(total, abs=1e-6)
    assert plan.peak_import_kw == pytest.approx(peak, abs=1e-6)
    if so_far == 20.0:
        assert max(map(abs, plan.bess_p_kw["bess1"])) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("minimum", "hours", "on", "lost", "cost", "units"),
    [
        ({"min_up_s": 3 * 3600.0}, 1.0, True, (), 32.0, (1, 1, 0, 0)),
        ({"min_up_s": 3 * 3600.0}, 3.0, True, (), 20.0, (0, 0, 0, 0)),
        ({"min_down_s": 3 * 3600.0}, 1.0, False, (outage(1, 3),), 535.0, (0, 0, 1, 1)),
        ({"min_down_s": 3 * 3600.0}, 3.0, False, (outage(1, 3),), 50.0, (0, 1, 1, 1)),
    ],
)
def test_minimum_times_carry_over(minimum, hours, on, lost, cost, units) -> None:
    """50 kW at 0.1 from the grid, 0.3 from a genset of at least 30 kW, lost load at 10.

    Two hours still to run cost 30 * 0.3 + 20 * 0.1 = 11 each, two hours of grid 5 each: 32. One hour of rest
    left without grid: 5 + 500 + 2 * 15 = 535.
    """
    site = small_site(
        gensets=[small_genset(**minimum)], feeders=[feeder("load", 10.0)], diesel_per_l=0.3
    )  # fmt: skip
    now = {"gen1": {"on_load": on, "age_s": hours * 3600.0}}
    pose = Pose(site=site, load_kw={"load": [50.0] * 4}, outages=lost, gensets_now=now)
    plan = pose.plan()
    assert objective(plan) == pytest.approx(cost, abs=1e-6)
    assert plan.genset_on["gen1"] == units
    assert sum(plan.shed_kw["load"]) == pytest.approx(50.0 if cost == 535.0 else 0.0, abs=1e-6)


def test_two_of_three_gensets_carry_an_island() -> None:
    """150 kW from units of at most 100 kW, 5 an hour and 0.25 per kWh: 2 * 5 + 150 * 0.25 = 47.5."""
    units = [small_genset(f"gen{k}", fuel_l_h=(5.0, 30.0)) for k in (1, 2, 3)]
    site = small_site(gensets=units, feeders=[feeder("load", 10.0, peak_kw=150.0)])
    pose = Pose(site=site, load_kw={"load": [150.0]}, steps=1, mode=GridMode.ISLANDED)
    plan = pose.plan()
    assert objective(plan) == pytest.approx(47.5, abs=1e-6)
    assert sum(on[0] for on in plan.genset_on.values()) == 2


def test_feeders_are_shed_cheapest_first() -> None:
    """60 kW for 100 kW of load: 18 of fuel, 30 kW at 0.5 and 10 kW at 3: 63."""
    loads = {"critical": 40.0, "essential": 30.0, "deferrable": 30.0}
    voll = {"critical": 10.0, "essential": 3.0, "deferrable": 0.5}
    site = small_site(
        gensets=[small_genset(p_rated_kw=60.0, p_min_kw=0.0, fuel_kw=(0.0, 60.0), fuel_l_h=(0.0, 60.0))],
        feeders=[feeder(f, voll[f]) for f in loads],
        diesel_per_l=0.3,
    )
    pose = Pose(site=site, load_kw={f: [x] for f, x in loads.items()}, steps=1, mode=GridMode.ISLANDED)
    plan = pose.plan()
    assert objective(plan) == pytest.approx(63.0, abs=1e-6)
    assert [plan.shed_kw[f][0] for f in loads] == pytest.approx([0.0, 10.0, 30.0], abs=1e-6)
    assert any(note.startswith("essential: load not served: up to 10.0 kW") for note in plan.notes)


def _full_battery_at_negative_price() -> Pose:
    site = small_site(bess=[ideal_bess(eta_charge=0.9, eta_discharge=0.9)], import_kw=10.0, export_kw=10.0)
    return Pose(site=site, import_per_kwh=-0.05, export_per_kwh=-0.05, steps=1, soc=1.0)


def test_negative_price_is_no_reason_to_burn_energy() -> None:
    """A full battery takes no more: charging and discharging at once earns 0.052 that do not exist."""
    pose = _full_battery_at_negative_price()
    assert objective(pose.plan()) == pytest.approx(0.0, abs=1e-6)
    problem = planning_problem(pose.site, pose.condition(), pose.forecast(), EXACT)
    hull = Compiled(structure_of(pose.site, problem.grid, replace(PLAIN, exclusivity=Exclusivity.HULL)))
    filled = hull.fill(hull.numbers(problem))
    relaxed = Session(hull).solve(
        filled, Effort(gap_ratio=0.0, gap_abs=0.0, time_limit_s=None, node_limit=None)
    )
    assert relaxed.objective == pytest.approx(-0.05248618784530387, abs=1e-6)


@pytest.mark.parametrize(("value", "sold"), [(0.15, 0.0), (0.05, 10.0)])
def test_terminal_value_decides_what_is_sold(value: float, sold: float) -> None:
    """A kWh sold brings 0.1; kept it is worth `value`."""
    site = small_site(bess=[ideal_bess()], export_kw=20.0)
    pose = Pose(site=site, import_per_kwh=0.2, export_per_kwh=0.1, steps=1, soc=1.0)
    plan = pose.plan(replace(EXACT, terminal_per_kwh=(value,) * 3))
    assert plan.bess_p_kw["bess1"][0] == pytest.approx(sold, abs=1e-6)
    assert objective(plan) == pytest.approx(sold * (value - 0.1), abs=1e-6)


def test_start_delay_keeps_a_unit_off_until_it_is_ready() -> None:
    """90 minutes from command to load, hourly steps: nothing in the first two hours, then 50 kW at 0.3."""
    unit = small_genset(warm_up_s=5400.0)
    site = small_site(gensets=[unit], feeders=[feeder("load", 10.0)], diesel_per_l=0.3)
    plan = Pose(site=site, load_kw={"load": [50.0] * 4}, mode=GridMode.ISLANDED).plan()
    assert list(plan.genset_on["gen1"]) == [0, 0, 1, 1]
    assert objective(plan) == pytest.approx(2 * 500.0 + 2 * 15.0, abs=1e-6)


def test_start_in_progress_is_carried_on() -> None:
    """A unit on its way is on load from its remaining time on, even where the grid would be cheaper."""
    unit = small_genset(warm_up_s=5400.0, min_up_s=7200.0)
    site = small_site(gensets=[unit], feeders=[feeder("load", 10.0)], diesel_per_l=0.3)
    now = {"gen1": {"starting": True, "ready_in_s": 600.0}}
    plan = Pose(site=site, load_kw={"load": [50.0] * 4}, gensets_now=now).plan()
    assert plan.genset_on["gen1"] == (1, 1, 0, 0)


def test_reserve_in_an_island_needs_a_second_genset() -> None:
    """95 kW on one unit of 100 kW leaves 5 kW; 10 % of the load asks for 9.5 kW: a second unit runs.

    Two units at 47.5 kW each: 2 * 5 + 95 * 0.25 = 33.75, and none short; one unit would pay 4.5 * 2 for the
    shortfall: 5 + 23.75 + 9 = 37.75.
    """
    units = [small_genset(f"gen{k}", fuel_l_h=(5.0, 30.0)) for k in (1, 2)]
    site = small_site(gensets=units, feeders=[feeder("load", 10.0)])
    options = replace(EXACT, formulation=replace(PLAIN, reserve=True))
    plan = Pose(site=site, load_kw={"load": [95.0]}, steps=1, mode=GridMode.ISLANDED).plan(options)
    assert objective(plan) == pytest.approx(33.75, abs=1e-6)
    assert plan.reserve_up_required_kw[0] == pytest.approx(9.5)
    assert plan.reserve_up_held_kw[0] == pytest.approx(105.0)
    assert plan.reserve_up_short_kw[0] == 0.0


def test_critical_load_is_carried_through_a_loss_of_the_grid() -> None:
    """Two start delays of 15 min at 40 kW are 20 kWh: of 30 kWh only 10 may be sold although selling pays."""
    bess = ideal_bess(energy_kwh=30.0, p_charge_kw_max=60.0, p_discharge_kw_max=60.0)
    load = feeder("load", 50.0, tier=1)
    site = small_site(bess=[bess], gensets=[small_genset(warm_up_s=900.0)], feeders=[load], export_kw=100.0)
    options: PlannerOptions = replace(EXACT, formulation=replace(PLAIN, reserve=True))
    pose = Pose(
        site=site, load_kw={"load": [40.0]}, import_per_kwh=0.5, export_per_kwh=0.4, steps=1, soc=1.0,
    )  # fmt: skip
    plan = pose.plan(options)
    assert plan.bess_soc_end["bess1"][0] == pytest.approx(20.0 / 30.0, abs=1e-6)
    assert plan.reserve_up_held_kw[0] == pytest.approx(40.0, abs=1e-6)


# --- whole feeders ------------------------------------------------------------------------------------------

WHOLE = replace(EXACT, formulation=replace(PLAIN, shedding=Shedding.WHOLE))


def short_of_energy(stored_kwh: float, **feeder_changes: Any) -> Pose:
    """An island of an hour in quarters: 40 kW of load on two feeders, a battery that cannot carry it all."""
    return Pose(
        site=small_site(
            bess=[ideal_bess(energy_kwh=40.0, p_charge_kw_max=100.0, p_discharge_kw_max=100.0)],
            feeders=[
                replace(feeder("cheap", 2.0, tier=3, peak_kw=20.0), **feeder_changes),
                feeder("dear", 5.0, tier=2, peak_kw=20.0),
            ],
        ),
        load_kw={"cheap": [20.0] * 4, "dear": [20.0] * 4},
        steps=4,
        step_s=900.0,
        soc=stored_kwh / 40.0,
        mode=GridMode.ISLANDED,
    )


def test_a_feeder_is_shed_whole_not_in_part() -> None:
    """32 of 40 kWh are stored: 8 kWh are missing, which is 1.6 quarters of a feeder: two are shed."""
    pose = short_of_energy(32.0)
    parts, whole = pose.plan(EXACT), pose.plan(WHOLE)
    assert sum(parts.shed_kw["cheap"]) / 4.0 == pytest.approx(8.0)
    assert sorted(whole.shed_kw["cheap"]) == pytest.approx([0.0, 0.0, 20.0, 20.0])
    assert sum(whole.shed_kw["dear"]) == pytest.approx(0.0)
    assert whole.cost_terms["unserved"] == pytest.approx(20.0)


def test_a_shed_feeder_is_not_served_between_for_less_than_its_time() -> None:
    """Shed now, and served for an hour at least once it is closed."""
    pose = replace(short_of_energy(32.0, served_min_s=3600.0), feeders_open=("cheap",))
    shed = pose.plan(WHOLE).shed_kw["cheap"]
    closings = [i for i in range(1, 4) if shed[i] < 1.0 < shed[i - 1]]
    openings = [i for i in range(1, 4) if shed[i - 1] < 1.0 < shed[i]]
    assert sum(x > 1.0 for x in shed) == 2
    assert shed[0] == pytest.approx(20.0), "it is open now; closing it first would mean opening it again"
    assert len(closings) == 1
    assert not openings


def test_a_planned_shedding_lasts_its_time() -> None:
    """60 kW in the first quarter, 40 kW of battery: one quarter would do, the feeder is shed for three."""
    pose = short_of_energy(40.0, shed_min_s=2700.0)
    bess = ideal_bess(energy_kwh=40.0, p_charge_kw_max=40.0, p_discharge_kw_max=40.0)
    pose = replace(
        pose,
        site=replace(pose.site, bess=(bess,)),
        load_kw={"cheap": [20.0] * 4, "dear": [40.0, 0.0, 0.0, 0.0]},
    )
    assert pose.plan(WHOLE).shed_kw["cheap"] == pytest.approx((20.0, 20.0, 20.0, 0.0))


def test_a_plan_that_sheds_nothing_is_solved_without_feeder_binaries() -> None:
    planner = Planner(short_of_energy(40.0).site, WHOLE)
    pose = short_of_energy(40.0)
    plan = planner.plan(pose.condition(), pose.forecast(), None, 1)
    assert sum(plan.shed_kw["cheap"]) == pytest.approx(0.0)
    assert {k[2].shedding for k in planner._solvers} == {Shedding.MEAN}


def test_carbon_price_turns_the_choice_of_source() -> None:
    """An hour of 50 kW: import at 0.2, a genset at 0.25. At 0.1 a kg they are 0.3 (1 kg/kWh) and 0.26."""
    unit = small_genset(p_min_kw=0.0)
    site = small_site(gensets=[unit], feeders=[feeder("load", 10.0)], diesel_per_l=0.25)
    pose = Pose(site=site, load_kw={"load": [50.0]}, import_per_kwh=0.2, steps=1)
    assert objective(pose.plan()) == pytest.approx(10.0)
    taxed = replace(site, carbon_per_kg=0.1, co2_kg_per_l=0.1, import_co2_kg_per_kwh=1.0)
    plan = replace(pose, site=taxed).plan()
    assert plan.genset_p_kw["gen1"] == pytest.approx((50.0,))
    assert plan.cost_terms["carbon"] == pytest.approx(50.0 * 0.1 * 0.1)
    assert objective(plan) == pytest.approx(50.0 * 0.26)
