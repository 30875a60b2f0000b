"""Further demand charges and energy blocks in the model: by hand, and equal to the bill of a month."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from ems.assets import ReactivePolicy
from ems.billing import Before, bill
from ems.plan import Plan
from ems.series import UniformSeries
from ems.site import Site
from ems.tariff import DemandCharge, EnergyBlock, LocalWindow, PowerFactorCharge, TouWindow
from ems.timegrid import TimeGrid
from optimizer.bound import PeriodTruth, period_bound
from optimizer.options import DemandWeight
from optimizer.outlook import MonthOutlook
from optimizer.rolling import Planner
from optimizer.tariff_parts import ANGLES_DEG
from tests import builders
from tests.unit.optimizer.posing import EXACT, Pose, feeder, ideal_bess, objective, small_site

MARCH = datetime(2026, 3, 1, tzinfo=UTC)  # a Sunday
EVERY_MONTH = frozenset(range(1, 13))
ON_PEAK = LocalWindow(start_h=2.0, end_h=4.0, weekdays=frozenset(range(8)), months=EVERY_MONTH)


def with_tariff(site: Site, **changes: Any) -> Site:
    return replace(site, tariff=replace(site.tariff, **changes))


def shaver(energy_kwh: float = 20.0, **changes: Any) -> Site:
    """A load, and a battery whose energy is worth a lot at the end: it has to give back what it takes."""
    bess = ideal_bess(energy_kwh=energy_kwh, p_charge_kw_max=50.0, p_discharge_kw_max=50.0)
    load = replace(feeder("load", 500.0), power_factor_ratio=0.9)
    return with_tariff(small_site(bess=[bess], feeders=[load], import_kw=1000.0), **changes)


LEVELLED = replace(EXACT, terminal_per_kwh=(100.0, 100.0, 100.0))


def test_on_peak_charge_is_shaved_by_what_is_charged_before() -> None:
    """10 kW, but 30 kW from 02:00 to 04:00 on peak: the full battery's 20 kWh take that to 20 kW.

    Off peak it is charged again at no demand charge: 10 kW for five a kW of peak is saved.
    """
    site = shaver(demand_charges=(DemandCharge(name="on peak", per_kw=5.0, windows=(ON_PEAK,)),))
    pose = Pose(site=site, load_kw={"load": [10, 10, 30, 30, 10, 10]}, steps=6, soc=1.0, at=MARCH)
    plan = pose.plan(LEVELLED)
    assert plan.grid_p_kw[2:4] == pytest.approx((20.0, 20.0))
    assert sum(plan.grid_p_kw) == pytest.approx(100.0)
    assert plan.cost_terms["demand_charges"] == pytest.approx(100.0)
    assert plan.cost_terms["demand"] == 0.0


@pytest.mark.parametrize(("so_far", "peak", "paid"), [(0.0, 20.0, 100.0), (27.0, 27.0, 0.0)])
def test_on_peak_charge_starts_from_its_own_peak_so_far(so_far: float, peak: float, paid: float) -> None:
    site = shaver(demand_charges=(DemandCharge(name="on peak", per_kw=5.0, windows=(ON_PEAK,)),))
    pose = Pose(site=site, load_kw={"load": [10, 10, 30, 30, 10, 10]}, steps=6, soc=1.0, at=MARCH)
    condition = replace(pose.condition(), charge_peaks_kw={"on peak": so_far})
    plan = Planner(site, replace(LEVELLED, terminal_per_kwh=(1.0, 1.0, 1.0))).plan(
        condition, pose.forecast(), None, 1
    )
    assert max(plan.grid_p_kw[2:4]) == pytest.approx(peak)
    assert plan.cost_terms["demand_charges"] == pytest.approx(paid)


@pytest.mark.parametrize(
    ("charge", "paid"),
    [
        ({"per_kw": 4.0}, 120.0),
        ({"per_kw": 4.0, "contracted_kw": 25.0, "excess_per_kw": 7.0}, 120.0 + 35.0),
        ({"per_kw": 4.0, "contracted_kw": 50.0, "contracted_ratio": 0.5, "excess_per_kw": 7.0}, 20.0),
        ({"per_kw": 4.0, "contracted_kw": 50.0, "contracted_ratio": 1.0}, 0.0),
        ({"per_kw": 4.0, "ratchet_ratio": 0.5, "past_peaks_kw": {"2025-12": 40.0}}, 40.0),
    ],
)
def test_a_peak_of_30_kw_above_what_is_billed_anyway(charge: dict[str, Any], paid: float) -> None:
    site = with_tariff(
        small_site(feeders=[feeder("load", 500.0)]), demand_charges=(DemandCharge(name="x", **charge),)
    )
    plan = Pose(site=site, load_kw={"load": [10.0, 30.0]}, steps=2, at=MARCH).plan()
    assert plan.cost_terms["demand_charges"] == pytest.approx(paid)


def test_apparent_demand_counts_the_reactive_power_of_the_load() -> None:
    """40 kW at a power factor of 0.8 draw 30 kvar: 50 kVA, by the tangents at most 0.55 % less."""
    charge = DemandCharge(name="access", per_kw=2.0, apparent=True)
    load = replace(feeder("load", 500.0), power_factor_ratio=0.8)
    site = with_tariff(small_site(feeders=[load]), demand_charges=(charge,))
    paid = Pose(site=site, load_kw={"load": [40.0]}, steps=1, at=MARCH).plan().cost_terms["demand_charges"]
    assert 0.9945 * 100.0 <= paid <= 100.0


@pytest.mark.parametrize("slope", np.linspace(0.0, 2.2, 23))
def test_tangents_of_apparent_power_are_never_above_and_half_a_percent_below(slope: float) -> None:
    angles = np.radians(ANGLES_DEG)
    found = float(np.max(np.cos(angles) + slope * np.sin(angles)))
    true = float(np.hypot(1.0, slope))
    assert 0.9945 * true <= found <= true + 1e-12


@pytest.mark.parametrize(
    ("add", "so_far", "cost"),
    [
        ((0.2, 0.1), 300.0, 60.0),
        ((0.1, 0.2), 300.0, 60.0),
        ((0.2, 0.1), 700.0, 40.0),
        ((0.2, 0.1), 0.0, 80.0),
    ],
)
def test_energy_blocks_are_filled_in_order_from_the_month_so_far(
    add: Any, so_far: float, cost: float
) -> None:
    """400 kWh with an edge at 500 kWh; without order a plan would take the cheap block first (40)."""
    blocks = (
        EnergyBlock(up_to_kwh=500.0, add_per_kwh=add[0]),
        EnergyBlock(up_to_kwh=None, add_per_kwh=add[1]),
    )
    site = with_tariff(small_site(feeders=[feeder("load", 500.0)]), energy_blocks=blocks)
    pose = Pose(site=site, load_kw={"load": [100.0] * 4}, steps=4, at=MARCH, import_per_kwh=0.0)
    condition = replace(pose.condition(), month_import_kwh=so_far)
    plan = Planner(site, EXACT).plan(condition, pose.forecast(), None, 1)
    assert plan.cost_terms["energy_blocks"] == pytest.approx(cost)
    assert objective(plan) == pytest.approx(cost)
    assert any("energy blocks: priced as if nothing" in note for note in plan.notes)


def test_energy_blocks_with_an_outlook_price_the_block_the_month_ends_in() -> None:
    """300 kWh so far, 400 now, 1,000 expected later: all of the 400 are at the end's 0.3."""
    blocks = (EnergyBlock(up_to_kwh=500.0, add_per_kwh=0.1), EnergyBlock(up_to_kwh=None, add_per_kwh=0.3))
    site = with_tariff(small_site(feeders=[feeder("load", 500.0)]), energy_blocks=blocks)
    pose = Pose(site=site, load_kw={"load": [100.0] * 4}, steps=4, at=MARCH, import_per_kwh=0.0)
    grid = TimeGrid.uniform(MARCH, 3600.0, 14)
    outlook = MonthOutlook(made_at=MARCH, grid=grid, peak_kw={"2026-03": 100.0}, import_kw=np.full(14, 100.0))
    condition = replace(pose.condition(), month_import_kwh=300.0)
    plan = Planner(site, replace(EXACT, demand_weight=DemandWeight.TARGET)).plan(
        condition, pose.forecast(), None, 1, outlook
    )
    assert plan.cost_terms["energy_blocks"] == pytest.approx(120.0)


def test_what_is_billed_and_not_planned_is_said() -> None:
    site = with_tariff(
        small_site(feeders=[feeder("load", 500.0)]),
        minimum_per_month=100.0,
    )
    notes = Pose(site=site, load_kw={"load": [10.0]}, steps=1).plan().notes
    assert any("the minimum charge is held against the part of the month" in note for note in notes)


PF = PowerFactorCharge(min_ratio=0.8, per_kvarh=0.1)  # 0.75 kvarh are free per kWh
KVARH = 10.0 * (1.0 / 0.6**2 - 1.0) ** 0.5  # what 10 kW at a power factor of 0.6 draw in an hour: 13.3


def poor(power_factor: PowerFactorCharge = PF, **changes: Any) -> Pose:
    """Four hours of 10 kW at a power factor of 0.6."""
    load = replace(feeder("load", 500.0), power_factor_ratio=0.6)
    site = with_tariff(small_site(feeders=[load]), power_factor=power_factor)
    return Pose(site=replace(site, **changes), load_kw={"load": 10.0}, at=MARCH)


@pytest.mark.parametrize(
    ("kwh", "kvarh", "paid"),
    [
        (0.0, 0.0, 4 * (KVARH - 7.5) * 0.1),
        (1000.0, 1000.0, 4 * (KVARH - 7.5) * 0.1),  # over already: all of it counts
        (1000.0, 745.0, (4 * (KVARH - 7.5) - 5.0) * 0.1),  # 5 kvarh are still free
        (1000.0, 500.0, 0.0),
    ],
)
def test_power_factor_charge_goes_on_from_the_month_so_far(kwh: float, kvarh: float, paid: float) -> None:
    pose = poor()
    condition = replace(pose.condition(), month_import_kwh=kwh, month_import_kvarh=kvarh)
    plan = Planner(pose.site, EXACT).plan(condition, pose.forecast(), None, 1)
    assert plan.cost_terms["power_factor"] == pytest.approx(paid, abs=1e-9)
    assert not any("power factor" in note for note in plan.notes)


def test_power_factor_charge_makes_own_energy_dearer() -> None:
    """PV in place of import costs the 0.75 kvarh a kWh that were free with it: at 2 each it is curtailed."""
    dear = replace(PF, per_kvarh=2.0)
    sun = replace(builders.site().pv[0], p_ac_kw=10.0)
    used = [
        Pose(
            site=replace(poor(charge).site, pv=(sun,)), load_kw={"load": 10.0}, pv_kw={"pv1": 4.0}, at=MARCH,
            import_per_kwh=1.0,
        ).plan().pv_p_kw["pv1"][0]
        for charge in (PF, dear)
    ]  # fmt: skip
    assert used == pytest.approx([4.0, 0.0])


BAND = ReactivePolicy(v_poi_min_pu=0.9, v_poi_max_pu=1.05)
THRIFTY = replace(EXACT, formulation=replace(EXACT.formulation, tie_break_ratio=1e-3))


def compensated(per_kvarh: float, loss_pu: float = 0.0, **tariff: Any) -> Pose:
    """The same with a converter of 20 kVA whose reactive power is planned."""
    bess = ideal_bess(p_charge_kw_max=10.0, p_discharge_kw_max=10.0, loss_discharge_pu=loss_pu)
    pose = poor(replace(PF, per_kvarh=per_kvarh))
    site = replace(
        pose.site,
        bess=(replace(bess, pcs=replace(bess.pcs, s_kva=20.0)),),
        grid=replace(pose.site.grid, reactive=BAND),
    )
    return replace(pose, site=with_tariff(site, **tariff), soc=0.0)


def test_a_converter_gives_what_the_power_factor_charge_bills_and_no_more() -> None:
    """5.8 kvarh an hour are too many: it gives 5.8 kvar where that is cheaper than the charge, else none."""
    plan = compensated(0.1).plan(THRIFTY)
    assert sum(plan.bess_q_kvar["bess1"]) == pytest.approx(4 * (KVARH - 7.5))
    assert plan.cost_terms["power_factor"] == pytest.approx(0.0, abs=1e-9)
    lossy = compensated(0.001, loss_pu=0.02)  # at 0.1 per kWh a kvarh loses 0.002
    assert sum(lossy.plan(THRIFTY).bess_q_kvar["bess1"]) == pytest.approx(0.0)


def test_demand_in_kva_counts_the_planned_reactive_power() -> None:
    """10 kW and 13.3 kvar are 16.7 kVA; the converter takes the kvar away: 10 kVA, history counted."""
    charge = DemandCharge(name="kVA", per_kw=4.0, apparent=True)
    pose = compensated(0.0, demand_charges=(charge,))
    plan = pose.plan(THRIFTY)
    assert plan.cost_terms["demand_charges"] == pytest.approx(40.0, rel=0.006)
    assert max(plan.grid_q_kvar) < 2.0
    assert plan.import_limit_kw[0] == pytest.approx(10.0, rel=0.02)
    off = with_tariff(poor().site, demand_charges=(charge,))
    bare = replace(poor(), site=off).plan()
    assert bare.cost_terms["demand_charges"] == pytest.approx(4.0 * 16.67, rel=0.006)
    late = replace(pose, at=MARCH + timedelta(minutes=30), steps=1, step_s=1800.0)
    condition = replace(
        late.condition(), interval_elapsed_s=1800.0, interval_import_kwh=5.0, interval_import_kvarh=15.0
    )
    begun = Planner(pose.site, THRIFTY).plan(condition, late.forecast(), None, 1)
    assert begun.grid_q_kvar[0] < 0.1
    assert begun.cost_terms["demand_charges"] == pytest.approx(4.0 * np.hypot(10.0, 15.0), rel=0.006)


# --- the bill of a plan that covers the month ---------------------------------------------------------------


def month_site(seed: int, *, falling: bool) -> Site:
    """Every element the model has, with figures drawn from the seed."""
    rng = np.random.default_rng(seed)
    on_peak = LocalWindow(start_h=17.0, end_h=21.0, weekdays=frozenset(range(5)), months=EVERY_MONTH)
    dear = TouWindow(
        name="evening", start_h=17.0, end_h=21.0, weekdays=frozenset(range(5)), months=EVERY_MONTH,
        import_per_kwh=float(rng.uniform(0.2, 0.4)),
    )  # fmt: skip
    add = np.sort(rng.uniform(0.0, 0.1, 3))[:: -1 if falling else 1]
    site = shaver(
        energy_kwh=30.0,
        windows=(dear,),
        default_import_per_kwh=0.1,
        holidays=frozenset({date(2026, 3, 17)}),
        demand_charge_per_kw=float(rng.uniform(1.0, 9.0)),
        billing_interval_s=3600.0,
        demand_charges=(
            DemandCharge(
                name="on peak", per_kw=float(rng.uniform(1.0, 9.0)), windows=(on_peak,), contracted_kw=50.0,
                contracted_ratio=0.3, excess_per_kw=2.0,
            ),
            DemandCharge(
                name="network", per_kw=float(rng.uniform(1.0, 5.0)), ratchet_ratio=0.8,
                past_peaks_kw={"2025-11": float(rng.uniform(40.0, 100.0))},
            ),
            DemandCharge(name="access", per_kw=float(rng.uniform(1.0, 5.0)), apparent=True),
        ),
        power_factor=PowerFactorCharge(min_ratio=0.94, per_kvarh=float(rng.uniform(0.01, 0.1))),
        energy_blocks=tuple(
            EnergyBlock(up_to_kwh=end, add_per_kwh=float(a))
            for end, a in zip((9000.0, 20000.0, None), add, strict=True)
        ),
    )  # fmt: skip
    return replace(site, carbon_per_kg=0.05, import_co2_kg_per_kwh=0.6)


def month_plan(seed: int, *, falling: bool) -> tuple[Site, Plan, np.ndarray]:
    site = month_site(seed, falling=falling)
    rng = np.random.default_rng(1000 + seed)
    load = rng.uniform(5.0, 90.0, 744)
    prices = site.tariff.import_prices(TimeGrid.uniform(MARCH, 3600.0, 744))
    pose = Pose(site=site, load_kw={"load": load}, steps=744, at=MARCH, import_per_kwh=prices, soc=0.5)
    options = replace(EXACT, gap_ratio=0.02, blocks=((3600.0, 744),), integral_h=744.0)
    return site, pose.plan(options), load


@pytest.mark.parametrize(("seed", "falling"), [(0, False), (1, False), (2, True)])
def test_cost_terms_of_a_month_are_its_bill(seed: int, falling: bool) -> None:
    """A battery plan over all of March: each term of the objective is the bill's line for the same import."""
    site, plan, load = month_plan(seed, falling=falling)
    imported = UniformSeries(start=MARCH, step_s=3600.0, values=np.maximum(0.0, np.array(plan.grid_p_kw)))
    nothing = replace(imported, values=imported.values * 0.0)
    tangent = np.sqrt(1.0 / site.feeders[0].power_factor_ratio ** 2 - 1.0)
    found = bill(site.tariff, imported, nothing, Before(), replace(imported, values=load * tangent))
    terms = plan.cost_terms
    lines = {line.charge: line for line in found.demand}
    assert terms["energy_import"] == pytest.approx(sum(e.cost for e in found.energy), rel=1e-9)
    assert terms["energy_blocks"] == pytest.approx(sum(b.cost for b in found.blocks), rel=1e-6)
    assert terms["demand"] == pytest.approx(lines["demand"].cost, rel=1e-6)
    anyway = {c.name: c.per_kw * c.floor_kw("2026-03") for c in site.tariff.demand_charges}
    kva = lines["access"].cost
    above = sum(lines[name].cost - money for name, money in anyway.items()) - kva
    assert above + 0.9945 * kva - 1e-6 <= terms["demand_charges"] <= above + kva + 1e-6
    assert terms["power_factor"] == pytest.approx(found.power_factor[0].cost, rel=1e-6)
    assert terms["power_factor"] > 0.0
    assert terms["carbon"] == pytest.approx(0.03 * float(imported.values.sum()))


def test_bound_of_the_month_is_below_its_bill_and_near() -> None:
    site, plan, load = month_plan(5, falling=False)
    imported = UniformSeries(start=MARCH, step_s=3600.0, values=np.maximum(0.0, np.array(plan.grid_p_kw)))
    tangent = np.sqrt(1.0 / site.feeders[0].power_factor_ratio ** 2 - 1.0)
    nothing = replace(imported, values=imported.values * 0.0)
    found = bill(site.tariff, imported, nothing, None, replace(imported, values=load * tangent))
    grid = TimeGrid.uniform(MARCH, 3600.0, 744)
    truth = PeriodTruth(
        grid=grid, load_kw={"load": load}, pv_kw={}, import_per_kwh=site.tariff.import_prices(grid),
        export_per_kwh=np.zeros(744), grid_share=np.ones(744), soc_start={"bess1": 0.5}, stored_per_kwh=0.0,
    )  # fmt: skip
    least = period_bound(site, truth)
    paid = found.total_cost + 0.03 * float(imported.values.sum())
    assert least.cost <= paid + 1e-3
    assert least.cost > 0.85 * paid
    assert sum(least.terms.values()) == pytest.approx(least.cost, rel=1e-6)
    assert set(least.charge_peaks_kw) == {"on peak", "network", "access"}
    expected = period_bound(site, replace(truth, expected=True))
    assert expected.charge_peaks_kw["access"]["2026-03"] > least.charge_peaks_kw["access"]["2026-03"]


def test_a_window_over_the_end_of_a_month_starts_the_next_one_anew() -> None:
    """Two hours before and two after midnight, 30 kW each: the old month's peak does not help the new."""
    charge = DemandCharge(name="x", per_kw=2.0)
    blocks = (EnergyBlock(up_to_kwh=50.0, add_per_kwh=0.1), EnergyBlock(up_to_kwh=None, add_per_kwh=0.3))
    site = with_tariff(
        small_site(feeders=[feeder("load", 500.0)]), demand_charges=(charge,), energy_blocks=blocks
    )
    at = datetime(2026, 3, 31, 22, tzinfo=UTC)
    pose = Pose(site=site, load_kw={"load": [30.0] * 4}, steps=4, at=at)
    condition = replace(pose.condition(), charge_peaks_kw={"x": 30.0}, month_import_kwh=1000.0)
    plan = Planner(site, EXACT).plan(condition, pose.forecast(), None, 1)
    assert plan.cost_terms["demand_charges"] == pytest.approx(60.0)
    assert plan.cost_terms["energy_blocks"] == pytest.approx(60 * 0.3 + 50 * 0.1 + 10 * 0.3)
    assert plan.grid.end - at == timedelta(hours=4)
