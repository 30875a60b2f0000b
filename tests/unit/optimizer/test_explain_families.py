"""Reasons of every constraint family: posed so that the reason is known by hand, every sentence checked."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ems.assets import Exercise, LowLoad
from ems.battery_terms import FullCharge, RestingSoc, SocReserve, Warranty
from ems.condition import BessUse, GensetDuty
from ems.contracts import CoincidentPeak, Contracts, DemandResponse, EnergyContract, PeakHour
from ems.cycle_life import CycleLife
from ems.deferrable import DeferrableParams, WorkWindow
from ems.explanation import Explanation
from ems.poi import CapWindow, TransformerParams
from ems.site import Site
from ems.sources import SourceSets
from ems.tariff import DemandCharge, EnergyBlock, PowerFactorCharge
from optimizer import Planner, PlannerOptions
from optimizer.explain import Posed, explain
from tests.unit.optimizer.explanation_check import Checker
from tests.unit.optimizer.posing import (
    EXACT,
    T0,
    Pose,
    feeder,
    ideal_bess,
    outage,
    small_genset,
    small_site,
)
from tests.unit.optimizer.random_sites import random_pose
from tests.unit.optimizer.test_explain import explained

KEPT = replace(EXACT, terminal_per_kwh=(1.0, 1.0, 1.0))
LOAD = feeder("load", voll=20.0)
LATER = CapWindow(
    p_import_kw_max=15.0, p_export_kw_max=None, start=T0 + timedelta(hours=1), end=T0 + timedelta(hours=2)
)


def reasons(e: Explanation) -> dict[str, float]:
    """Key of each reason told, with the largest saving it is told with."""
    out: dict[str, float] = {}
    told = [*(r for w in e.setpoints for r in w.reasons), *(r for c in e.commitments for r in c.reasons)]
    for r in told:
        out[r.key] = max(r.saving_cost, out.get(r.key, 0.0))
    return out


def with_battery(**terms: Any) -> Pose:
    """10 kWh, full; import at 0.10, then at 0.40, where it would be used."""
    use = {"bess1": {"use": BessUse()}}
    return Pose(
        site=small_site(bess=[ideal_bess(**terms)], feeders=[LOAD]), load_kw={"load": 20.0}, steps=2, soc=1.0,
        import_per_kwh=[0.1, 0.4], bess_now=use,
    )  # fmt: skip


LIFE = CycleLife(depth_ratio=(0.5, 1.0), cycles_count=(1000.0, 400.0), replacement_cost=5000.0)


@pytest.mark.parametrize(
    ("terms", "key", "saving"),
    [
        # 4 of 10 kWh used at 0.40; of the others 6 could be, and in the first hour at 0.10 all the same
        ({"soc_reserve": (SocReserve(soc=0.6, price_per_kwh=2.0),)}, "soc_reserve", 6.0 * 0.3),
        ({"warranty": Warranty(day_kwh_max=6.0)}, "warranty", 4.0 * 0.3),
        # 1.00 a kWh down to half, 1.50 below it, against 0.40
        ({"cycle_life": LIFE}, "cycle_life.replacement_cost", 10.0 * 0.3),
    ],
)
def test_explain_battery_that_is_spared_says_for_what(terms: dict[str, Any], key: str, saving: float):
    _, e = explained(with_battery(**terms))
    assert reasons(e)[f"bess.bess1.battery.{key}"] == pytest.approx(saving, abs=0.02)


def test_explain_battery_half_full_because_resting_full_has_a_price():
    """Energy at 0.10 for 0.40, but 1.00 for each kWh above half over the hour: 5 kWh are left out."""
    pose = with_battery(resting=RestingSoc(above_soc=0.5, price_per_kwh=1.0))
    _, e = explained(replace(pose, soc=0.0))
    assert reasons(e)["bess.bess1.battery.resting"] == pytest.approx(5.0 * 0.3, abs=0.02)


def test_explain_battery_charged_at_a_loss_for_its_calibration():
    """Charged with 5 kWh at 0.10 that nobody needs."""
    terms = FullCharge(interval_s=30 * 86400.0, hold_s=3600.0, late_cost_per_h=5.0)
    site = small_site(bess=[ideal_bess(full_charge=terms)], feeders=[LOAD])
    pose = Pose(
        site=site, load_kw={"load": 0.0}, soc=0.5, import_per_kwh=[0.1, 0.3, 0.3, 0.3],
        bess_now={"bess1": {"use": BessUse(full_age_h=718.0)}},
    )  # fmt: skip
    _, e = explained(pose)
    assert reasons(e)["bess.bess1.battery.full_charge"] == pytest.approx(0.5, abs=0.02)


def test_explain_genset_above_its_load_because_low_load_is_dear():
    """20 kW of load, 40 kW to be had below which a kWh costs 5.00: the battery takes the rest."""
    unit = small_genset(low_load=LowLoad(below_ratio=0.4, price_per_kwh=5.0), p_min_kw=10.0)
    site = small_site(
        bess=[ideal_bess(energy_kwh=50.0, p_charge_kw_max=30.0)], gensets=[unit], feeders=[LOAD]
    )
    site = replace(site, forming=replace(site.forming, islanded=("gen1",)))
    pose = Pose(site=site, load_kw={"load": 20.0}, outages=(outage(1, 1),), soc=0.0, steps=3)
    plan, e = explained(pose)
    assert plan.genset_p_kw["gen1"][1] == pytest.approx(40.0)
    assert "gensets.gen1.low_load" in reasons(e)


def test_explain_genset_run_that_is_made_for_exercise():
    """An hour of diesel at 1.00 against import at 0.10, because none was made for long; 30 kW at least."""
    unit = small_genset(exercise=Exercise(every_h=700.0, for_h=1.0, load_ratio=0.5))
    duty = {"gen1": {"duty": GensetDuty(exercised_at=T0 - timedelta(hours=698))}}
    site = small_site(gensets=[unit], feeders=[LOAD])
    plan, e = explained(Pose(site=site, load_kw={"load": 60.0}, gensets_now=duty))
    assert sum(plan.genset_on["gen1"]) == pytest.approx(1.0)
    assert reasons(e)["gensets.gen1.exercise"] == pytest.approx(30.0 * 0.9, abs=0.05)


def at_the_poi(**changes: Any) -> Pose:
    site = small_site(bess=[ideal_bess()], feeders=[LOAD])
    return Pose(
        site=replace(site, grid=replace(site.grid, **changes)),
        load_kw={"load": [5.0, 20.0]},
        soc=1.0,
        steps=2,
    )


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"transformer": TransformerParams(s_kva=15.0)}, "grid.transformer"),
        ({"caps": (LATER,)}, "grid.caps"),
    ],
)
def test_explain_battery_relieves_the_interconnection(changes: dict[str, Any], key: str):
    """5 kWh that are worth 1.00 in the end are used, because 15 of 20 kW can be imported: 0.90 each."""
    plan, e = explained(at_the_poi(**changes), KEPT)
    assert plan.bess_p_kw["bess1"][1] == pytest.approx(5.0)
    assert reasons(e)[key] == pytest.approx(5.0 * 0.9, abs=0.02)


def taxed(**parts: Any) -> Pose:
    site = small_site(bess=[ideal_bess()], feeders=[replace(LOAD, power_factor_ratio=0.8)])
    return Pose(
        site=replace(site, tariff=replace(site.tariff, **parts)),
        load_kw={"load": [5.0, 20.0]},
        soc=1.0,
        steps=2,
    )


EVENT = DemandResponse(
    id="dr1", start=T0 + timedelta(hours=1), end=T0 + timedelta(hours=2), baseline_kw=20.0,
    committed_kw=5.0, per_kw=2.0,
)  # fmt: skip
PEAK = CoincidentPeak(
    name="system", per_kw=5.0, hours=(PeakHour(start=EVENT.start, end=EVENT.end, probability_ratio=0.5),)
)
BLOCKS = (EnergyBlock(up_to_kwh=15.0, add_per_kwh=0.0), EnergyBlock(up_to_kwh=None, add_per_kwh=2.0))


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        ({"demand_charges": (DemandCharge(name="peak", per_kw=5.0),)}, "tariff.demand_charges[0]"),
        ({"energy_blocks": BLOCKS}, "tariff.energy_blocks"),
        ({"contracts": Contracts(events=(EVENT,))}, "tariff.contracts.events[0]"),
        ({"contracts": Contracts(coincident_peaks=(PEAK,))}, "tariff.contracts.coincident_peaks[0]"),
        (
            {"contracts": Contracts(energy=(EnergyContract(name="ppa", source="import", per_kwh=2.0),))},
            "tariff.contracts.energy[0]",
        ),
    ],
)
def test_explain_battery_used_against_a_part_of_the_tariff(parts: dict[str, Any], key: str):
    """Energy that is worth 1.00 in the end is used where a part of the tariff makes import dearer."""
    plan, e = explained(taxed(**parts), KEPT)
    plain, _ = explained(taxed(), KEPT)
    assert plan.bess_p_kw["bess1"] != pytest.approx(plain.bess_p_kw["bess1"])
    assert key in reasons(e)


def test_explain_battery_charged_for_the_power_factor():
    """Each kWh imported allows 0.33 kvarh at 5.00: the battery is filled for nothing else."""
    pose = replace(taxed(power_factor=PowerFactorCharge(min_ratio=0.95, per_kvarh=5.0)), soc=0.0)
    plan, e = explained(pose)
    assert plan.bess_soc_end["bess1"][-1] == pytest.approx(1.0)
    assert "tariff.power_factor" in reasons(e)


def pump(**changes: Any) -> Site:
    values: dict[str, Any] = {
        "id": "pump", "feeder": "water", "p_kw": 10.0, "p_min_kw": 0.0, "unfinished_per_kwh": 3.0,
        "dated": (WorkWindow(start=T0, end=T0 + timedelta(hours=2), energy_kwh=15.0),),
    }  # fmt: skip
    site = small_site(feeders=[feeder("water", 5.0), LOAD])
    return replace(site, deferrables=(DeferrableParams(**(values | changes)),))


PRICES = [0.3, 0.2, 0.1, 0.4]


def test_explain_pump_works_before_its_deadline_in_the_cheaper_hour():
    """15 kWh by the end of the second hour: 10 at 0.20, 5 at 0.30, which at 0.10 would cost 2 less."""
    pose = Pose(site=pump(), load_kw={"load": 20.0}, import_per_kwh=PRICES)
    plan, e = explained(pose)
    assert plan.deferrable_kw["pump"] == pytest.approx((5.0, 10.0, 0.0, 0.0))
    first, second, third = (w for w in e.setpoints if w.asset == "pump" and w.step < 3)
    assert first.sentence.startswith("pump takes 5.0 kW Mon 03:00 to 04:00; ")
    free = next(r for r in second.reasons if r.key == "deferrables.pump")
    assert free.saving_cost == pytest.approx(5.0 * 0.1)  # 10 at 0.10 and 5 at 0.20, all of it kept at 0.20
    assert second.alternatives[0].more_cost == pytest.approx(0.1)  # 9 kW: one kWh more at 0.30
    assert third.sentence == "pump takes nothing Mon 05:00 to 06:00."


def test_explain_pump_that_is_switched_has_a_run_of_its_own():
    """10 kW or nothing, 20 kWh: both hours it has; left off they are lost at 3.00 a kWh."""
    work = (WorkWindow(start=T0, end=T0 + timedelta(hours=2), energy_kwh=20.0),)
    pose = Pose(site=pump(p_min_kw=10.0, dated=work), load_kw={"load": 20.0}, import_per_kwh=PRICES)
    _, e = explained(pose)
    run = next(c for c in e.commitments if c.asset == "pump")
    assert run.sentence.startswith("pump runs Mon 03:00 to 05:00; ")
    assert run.low_cost == pytest.approx(20.0 * 3.0 - 5.0, abs=0.02)


def test_explain_genset_runs_because_the_table_of_sources_wants_it():
    """The battery could carry the outage alone; beside it only a genset is permitted."""
    site = small_site(
        bess=[ideal_bess(energy_kwh=100.0, p_discharge_kw_max=50.0)],
        gensets=[small_genset(p_min_kw=10.0)],
        feeders=[LOAD],
    )
    site = replace(site, sources=SourceSets(islanded=(("bess1", "gen1"),)))
    pose = Pose(site=site, load_kw={"load": 20.0}, outages=(outage(1, 1),), soc=1.0, steps=3)
    _, e = explained(pose, PlannerOptions(gap_ratio=0.0, node_limit=None, formulation=EXACT.formulation))
    assert "sources" in reasons(e)


def test_explain_work_that_is_not_done_names_its_window():
    """15 kWh in one hour at 10 kW: 5 are lost while the window stands."""
    work = (WorkWindow(start=T0, end=T0 + timedelta(hours=1), energy_kwh=15.0),)
    _, e = explained(Pose(site=pump(dated=work), load_kw={"load": 20.0}, import_per_kwh=PRICES))
    assert [(c.missed, c.keys) for c in e.conflicts] == [
        ("pump does not do 5.0 kWh of its work", ("deferrables.pump",))
    ]
    assert e.conflicts[0].minimal


def test_explain_load_shed_for_the_transformer_names_it():
    """20 kW behind 15 kVA, nothing else to give: 5 kWh of load that a larger transformer would bring."""
    site = small_site(feeders=[LOAD])
    site = replace(site, grid=replace(site.grid, transformer=TransformerParams(s_kva=15.0)))
    _, e = explained(Pose(site=site, load_kw={"load": [5.0, 20.0]}, steps=2))
    assert [c.keys for c in e.conflicts] == [("grid.transformer",)]
    assert "load is not served, 5.0 kWh" in e.conflicts[0].sentence


def explain_random(seed: int) -> None:
    """A plant with every option that nobody thought of together, and every sentence about its plan."""
    pose = random_pose(seed)
    options = PlannerOptions(gap_ratio=1e-4, node_limit=2000)
    plan = Planner(pose.site, options).plan(pose.condition(), pose.forecast(), None, 1)
    posed = Posed(site=pose.site, condition=pose.condition(), forecast=pose.forecast(), options=options)
    done = Checker(posed, plan, explain(posed, plan)).run()
    assert not done.false, f"seed {seed}: " + "\n".join(done.false)
    assert done.held["subject"] > 0


@pytest.mark.parametrize("seed", [1, 8, 11, 15, 24, 33])
def test_explain_random_plant_no_sentence_is_false(seed: int):
    """Each of these once had one."""
    explain_random(seed)


@pytest.mark.soak
@pytest.mark.parametrize("block", range(20))
def test_explain_many_random_plants_no_sentence_is_false(block: int):
    for seed in range(10 * block, 10 * block + 10):
        explain_random(seed)
