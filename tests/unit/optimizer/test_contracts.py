"""Credit for export, minimum, coincident peaks, take-or-pay, events: bills and plans by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from ems.billing import Bill, bill
from ems.condition import ContractMeters
from ems.contracts import (
    IMPORT,
    CoincidentPeak,
    Contracts,
    CreditBasis,
    DemandResponse,
    EnergyContract,
    ExportCredit,
    ExportWindow,
    PeakHour,
)
from ems.errors import DataError
from ems.plan import Plan
from ems.series import UniformSeries
from ems.site import Site
from ems.tariff import EnergyBlock, LocalWindow, TouWindow
from optimizer.rolling import Planner
from tests import builders
from tests.unit.optimizer.posing import EXACT, Pose, feeder, ideal_bess, small_site

MARCH = datetime(2026, 3, 1, tzinfo=UTC)  # a Sunday; 744 h
EVERY = frozenset(range(8))
MONTHS = frozenset(range(1, 13))
HOUR = timedelta(hours=1)
WEEK = 168
NET_METERING = ExportCredit(basis=CreditBasis.IMPORT_PRICE)
NET_BILLING = ExportCredit(basis=CreditBasis.EXPORT_PRICE, excess_ratio=0.25)


def tariffed(site: Site, **changes: Any) -> Site:
    return replace(site, tariff=replace(site.tariff, windows=(), fixed_per_month=0.0, **changes))


def series(*hours: float) -> UniformSeries:
    return UniformSeries(start=MARCH, step_s=3600.0, values=np.array(hours, dtype=np.float64))


def billed(site: Site, imported: tuple[float, ...], exported: tuple[float, ...] = (), **more: Any) -> Bill:
    out = exported if exported else (0.0,) * len(imported)
    return bill(site.tariff, series(*imported), series(*out), **more)


def strong(site: Site) -> Site:
    """With a battery of 50 kW."""
    battery = replace(site.bess[0].battery, p_charge_kw_max=50.0, p_discharge_kw_max=50.0)
    return replace(site, bess=(replace(site.bess[0], battery=battery),))


def site_of(*, pv: bool = False, energy_kwh: float = 0.0, **tariff: Any) -> Site:
    site = small_site(
        feeders=[feeder("load", 500.0)],
        pv=[replace(builders.site().pv[0], p_ac_kw=200.0)] if pv else [],
        bess=[ideal_bess(energy_kwh=energy_kwh)] if energy_kwh else [],
        export_kw=100.0,
    )
    return tariffed(site, **({"default_import_per_kwh": 0.2, "export_per_kwh": 0.05} | tariff))


def planned(site: Site, meters: ContractMeters | None = None, **pose: Any) -> Plan:
    values: dict[str, Any] = {"site": site, "at": MARCH, "steps": 4, "soc": 0.0}
    posed = Pose(**(values | pose))
    grid = posed.forecast().grid
    forecast = replace(
        posed.forecast(),
        import_per_kwh=site.tariff.import_prices(grid),
        export_per_kwh=site.tariff.export_prices(grid),
    )
    condition = posed.condition()
    if meters is not None:
        condition = replace(condition, meters=meters)
    plan = Planner(site, EXACT).plan(condition, forecast, None, 1)
    assert plan.solve.rescue == "none", plan.solve.rescue
    assert sum(plan.cost_terms.values()) == pytest.approx(plan.solve.objective)
    return plan


# --- export by time of day, credit -------------------------------------------------------------------------

NOON = ExportWindow(name="noon", start_h=2.0, end_h=4.0, weekdays=EVERY, months=MONTHS, export_per_kwh=0.3)


def test_export_by_time_of_day_is_billed_and_waited_for() -> None:
    """10 kWh of sun in the first hour; exported at 0.05 they earn 0.5, kept until 2:00 they earn 3."""
    site = site_of(pv=True, energy_kwh=10.0, export_windows=(NOON,))
    assert billed(site, (0, 0, 0, 0), (10, 0, 10, 0)).export_revenue == pytest.approx(0.5 + 3.0)
    plan = planned(site, pv_kw={"pv1": [10, 0, 0, 0]})
    assert plan.cost_terms["energy_export"] == pytest.approx(-3.0)
    assert sum(plan.grid_p_kw[2:]) == pytest.approx(-10.0)


@pytest.mark.parametrize(
    ("credit", "imported", "exported", "revenue"),
    [
        (NET_METERING, (10, 0, 0, 0), (0, 4, 0, 0), 0.8),  # at the import price
        (NET_METERING, (10, 0, 0, 0), (0, 40, 0, 0), 2.0),  # never more than the month's energy
        (replace(NET_METERING, excess_ratio=0.5), (10, 0, 0, 0), (0, 40, 0, 0), 2.0 + 0.5 * 6.0),
        (NET_BILLING, (10, 0, 0, 0), (0, 4, 0, 0), 0.2),
        (NET_BILLING, (1, 0, 0, 0), (0, 40, 0, 0), 0.2 + 0.25 * 1.8),
    ],
)
def test_export_is_credited_within_the_month(
    credit: ExportCredit, imported: tuple[float, ...], exported: tuple[float, ...], revenue: float
) -> None:
    found = billed(site_of(export_credit=credit), imported, exported)
    assert found.export_revenue == pytest.approx(revenue)
    assert found.total_cost == pytest.approx(0.2 * sum(imported) - revenue)


@pytest.mark.parametrize(
    ("spent", "earned", "exported", "credit"),
    [
        (100.0, 0.0, 40.0, 8.0),  # 40 kWh at 0.2 against 100 of energy
        (3.0, 0.0, 40.0, 3.0),  # 15 kWh are credited, the rest is worth nothing: exported or not
        (100.0, 100.0, 40.0, 0.0),  # the month's energy is used up
    ],
)
def test_a_plan_exports_what_is_credited(spent: float, earned: float, exported: float, credit: float) -> None:
    site = site_of(pv=True, export_credit=NET_METERING)
    meters = ContractMeters(month="2026-03", energy_cost=spent, export_revenue=earned)
    plan = planned(site, meters, pv_kw={"pv1": [10, 10, 10, 10]})
    assert plan.cost_terms["export_credit"] == pytest.approx(-credit)
    if exported * 0.2 <= spent - earned:
        assert sum(plan.grid_p_kw) == pytest.approx(-exported)
    assert any("export is credited against" in n for n in plan.notes)


def test_a_battery_keeps_what_would_not_be_credited() -> None:
    """Nothing is spent yet, so sun is kept for the evening instead of sold at a price that nobody pays."""
    site = site_of(pv=True, energy_kwh=40.0, export_credit=NET_METERING)
    plan = planned(site, pv_kw={"pv1": [10, 10, 0, 0]}, load_kw={"load": [0, 0, 10, 10]})
    assert plan.grid_p_kw == pytest.approx((0.0,) * 4)


# --- minimum -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spent", "short"),
    [(0.0, 4.0), (2.0, 2.0), (10.0, 0.0)],
)
def test_the_minimum_is_held_to_the_pace_of_the_month(spent: float, short: float) -> None:
    """4 of 744 h are over with the plan: of a minimum of 744 four are owed by then."""
    site = site_of(minimum_per_month=744.0)
    plan = planned(site, ContractMeters(month="2026-03", energy_cost=spent))
    assert plan.cost_terms["minimum"] == pytest.approx(short)


def test_below_the_minimum_energy_costs_nothing() -> None:
    """A battery shaves a dear hour where its kWh counts, and leaves it where the minimum is paid anyway."""
    dear = TouWindow(name="dear", start_h=2.0, end_h=3.0, weekdays=EVERY, months=MONTHS, import_per_kwh=0.4)
    site = small_site(feeders=[feeder("load", 500.0)], bess=[ideal_bess(energy_kwh=10.0, wear_per_kwh=0.01)])
    free = tariffed(site, default_import_per_kwh=0.1, minimum_per_month=7440.0)
    free = replace(free, tariff=replace(free.tariff, windows=(dear,)))
    paid = replace(free, tariff=replace(free.tariff, minimum_per_month=0.0))
    load = {"load": [5, 5, 10, 5]}
    assert planned(paid, load_kw=load).bess_p_kw["bess1"][2] == pytest.approx(10.0)
    assert planned(free, load_kw=load).bess_p_kw["bess1"][2] == pytest.approx(0.0)


# --- coincident peaks --------------------------------------------------------------------------------------

FOUR_CP = CoincidentPeak(
    name="4CP", per_kw=12.0, hours=(
        PeakHour(start=MARCH + HOUR, end=MARCH + 2 * HOUR),
        PeakHour(start=MARCH + 3 * HOUR, end=MARCH + 4 * HOUR, probability_ratio=0.25),
    ),
)  # fmt: skip


def test_a_coincident_peak_is_billed_when_it_occurred_and_planned_by_its_probability() -> None:
    site = site_of(energy_kwh=10.0, contracts=Contracts(coincident_peaks=(FOUR_CP,)))
    found = billed(site, (10, 20, 30, 40))
    assert [(x.name, x.amount_kw, x.cost) for x in found.contracts] == [("peak 4CP 0", 20.0, 240.0)]
    assert found.total_cost == pytest.approx(0.2 * 100.0 + 240.0)
    plan = planned(site, load_kw={"load": [10, 10, 10, 10]})
    assert plan.grid_p_kw[1] == pytest.approx(0.0), "the battery is there in the hour that is one"
    assert plan.grid_p_kw[3] == pytest.approx(0.0), "and again where it may be"
    assert plan.cost_terms["coincident_peak"] == pytest.approx(0.0)
    assert any("coincident peak 4CP: planned by its probability" in n for n in plan.notes)


def test_hours_of_the_calendar_are_weighed_by_their_probability() -> None:
    window = LocalWindow(start_h=1.0, end_h=3.0, weekdays=EVERY, months=MONTHS)
    peak = CoincidentPeak(name="triad", per_kw=40.0, windows=(window,), window_probability_ratio=0.1)
    site = site_of(contracts=Contracts(coincident_peaks=(peak,)))
    plan = planned(site, load_kw={"load": [10, 10, 10, 10]})
    assert plan.cost_terms["coincident_peak"] == pytest.approx(40.0 * 0.1 * 20.0)
    assert billed(site, (10, 10, 10, 10)).contracts == ()


# --- take or pay -------------------------------------------------------------------------------------------


def test_a_ppa_is_paid_for_what_is_used_and_for_what_is_not_taken() -> None:
    """Of a minimum of 744 kWh a month, 4 are due in 4 h: 3 used cost 3 at 0.1 and the fourth 0.08."""
    ppa = EnergyContract(name="ppa", source="pv1", per_kwh=0.1, minimum_kwh=744.0, shortfall_per_kwh=0.08)
    site = site_of(pv=True, contracts=Contracts(energy=(ppa,)))
    used = {"pv1": series(3, 0, 0, 0)}
    line = billed(site, (0, 0, 0, 0), used_kw=used).contracts[0]
    assert (line.name, line.amount_kwh) == ("contract ppa 2026-03", 3.0)
    assert line.cost == pytest.approx(0.3 + 0.08)
    with pytest.raises(DataError, match="contract ppa: no series of pv1"):
        billed(site, (0, 0, 0, 0))


@pytest.mark.parametrize(("used", "sun"), [(0.0, 4.0), (4.0, 0.0)])
def test_a_plan_takes_what_would_be_paid_anyway(used: float, sun: float) -> None:
    """Sun at 0.25 is dearer than the grid at 0.2: it is taken only where not taking it costs 0.1."""
    ppa = EnergyContract(name="ppa", source="pv1", per_kwh=0.25, minimum_kwh=744.0, shortfall_per_kwh=0.1)
    site = site_of(pv=True, contracts=Contracts(energy=(ppa,)))
    meters = ContractMeters(metered_kwh={"contract ppa 2026-03": used})
    plan = planned(site, meters, pv_kw={"pv1": 10.0}, load_kw={"load": 10.0})
    assert sum(plan.pv_p_kw["pv1"]) == pytest.approx(sun)
    assert plan.cost_terms["energy_contracts"] == pytest.approx(0.25 * sun)


def test_a_yearly_minimum_counts_from_its_own_month_on() -> None:
    """From October on: by the end of the plan 151 days and 4 h of 365 days are over."""
    take = EnergyContract(
        name="top", source=IMPORT, per_kwh=0.0, minimum_kwh=8760.0, shortfall_per_kwh=0.5, year_month=10
    )
    site = site_of(contracts=Contracts(energy=(take,)))
    meters = ContractMeters(metered_kwh={"contract top 2025-10/12": 151 * 24.0})
    plan = planned(site, meters, load_kw={"load": [0.5, 0.5, 0.5, 0.5]})
    assert plan.cost_terms["take_or_pay"] == pytest.approx(0.5 * 2.0)
    assert "contract top: 2 kWh behind the pace of its minimum take" in plan.notes


# --- demand response ---------------------------------------------------------------------------------------

EVENT = DemandResponse(
    id="e1", start=MARCH + HOUR, end=MARCH + 3 * HOUR, baseline_kw=30.0, committed_kw=20.0, per_kw=2.0,
    penalty_per_kw=3.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("imported", "delivered"),
    [
        ((30, 10, 10, 30), 20.0),
        ((30, 0, 0, 30), 20.0),
        ((30, 25, 15, 30), 10.0),
        ((30, 50, 50, 30), 0.0),
    ],
)
def test_an_event_is_settled_by_its_baseline(imported: tuple[float, ...], delivered: float) -> None:
    found = billed(site_of(contracts=Contracts(events=(EVENT,))), imported).contracts[0]
    assert found.amount_kw == pytest.approx(delivered)
    assert found.cost == pytest.approx(3.0 * (20.0 - delivered) - 2.0 * delivered)


@pytest.mark.parametrize(("energy_kwh", "delivered"), [(40.0, 20.0), (16.0, 8.0)])
def test_a_battery_delivers_what_it_has(energy_kwh: float, delivered: float) -> None:
    site = site_of(contracts=Contracts(events=(EVENT,)), energy_kwh=energy_kwh)
    plan = planned(strong(site), load_kw={"load": 30.0})
    assert plan.cost_terms["demand_response"] == pytest.approx(3.0 * (20.0 - delivered) - 2.0 * delivered)
    said = any("event e1: 12.0 of 20 kW are not delivered" in n for n in plan.notes)
    assert said is (delivered < 20.0)


def test_above_the_baseline_only_the_penalty_is_lost() -> None:
    plan = planned(site_of(contracts=Contracts(events=(EVENT,))), load_kw={"load": 60.0})
    assert plan.cost_terms["demand_response"] == pytest.approx(60.0)
    assert plan.grid_p_kw == pytest.approx((60.0,) * 4)


def test_what_an_event_has_seen_so_far_counts() -> None:
    """Half of it is over at 40 kW: with nothing imported in the other half the mean is 20, 10 kW below."""
    site = site_of(contracts=Contracts(events=(EVENT,)), energy_kwh=30.0)
    pose: dict[str, Any] = {"at": MARCH + 2 * HOUR, "load_kw": {"load": 30.0}, "soc": 1.0}
    plan = planned(strong(site), ContractMeters(metered_kwh={"event e1": 40.0}), **pose)
    assert plan.cost_terms["demand_response"] == pytest.approx(3.0 * 10.0 - 2.0 * 10.0)
    blind = planned(strong(site), **pose)
    assert any("event e1: import since its start is not known" in n for n in blind.notes)


# --- a month ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("credit", [NET_METERING, NET_BILLING])
def test_cost_terms_of_a_week_are_its_bill(credit: ExportCredit) -> None:
    """All elements at once over a week of March: each term is the bill's line for the same flows."""
    dear = TouWindow(
        name="dear", start_h=17.0, end_h=21.0, weekdays=EVERY, months=MONTHS, import_per_kwh=0.35
    )
    contracts = Contracts(
        coincident_peaks=(replace(FOUR_CP, hours=FOUR_CP.hours[:1]),),
        energy=(
            EnergyContract(
                name="ppa", source="pv1", per_kwh=0.03, minimum_kwh=9000.0, shortfall_per_kwh=0.02
            ),
            EnergyContract(
                name="top", source=IMPORT, per_kwh=0.0, minimum_kwh=8000.0, shortfall_per_kwh=0.01
            ),
        ),
        events=(EVENT, replace(EVENT, id="e2", start=MARCH + 90 * HOUR, end=MARCH + 93 * HOUR)),
    )
    site = site_of(
        pv=True, energy_kwh=40.0, export_credit=credit, export_windows=(NOON,), contracts=contracts,
        minimum_per_month=3500.0, energy_blocks=(
            EnergyBlock(up_to_kwh=4000.0, add_per_kwh=0.01), EnergyBlock(up_to_kwh=None, add_per_kwh=0.02),
        ),
    )  # fmt: skip
    site = replace(site, tariff=replace(site.tariff, windows=(dear,)))
    hours = np.arange(WEEK) % 24
    rng = np.random.default_rng(3)
    sun = np.maximum(0.0, np.sin((hours - 6) / 12 * np.pi)) * 40.0
    load = rng.uniform(5.0, 25.0, WEEK)
    posed = Pose(site=site, load_kw={"load": load}, pv_kw={"pv1": sun}, steps=WEEK, at=MARCH, soc=0.5)
    grid = posed.forecast().grid
    forecast = replace(
        posed.forecast(),
        import_per_kwh=site.tariff.import_prices(grid),
        export_per_kwh=site.tariff.export_prices(grid),
    )
    options = replace(EXACT, gap_ratio=0.01, blocks=((3600.0, WEEK),), integral_h=float(WEEK))
    plan = Planner(site, options).plan(posed.condition(), forecast, None, 1)
    assert plan.solve.rescue == "none", plan.solve.rescue
    power = np.array(plan.grid_p_kw)
    found = bill(
        site.tariff, series(*np.maximum(0.0, power)), series(*np.maximum(0.0, -power)),
        used_kw={"pv1": series(*plan.pv_p_kw["pv1"])},
    )  # fmt: skip
    terms, lines = plan.cost_terms, {x.name: x.cost for x in found.contracts}
    assert terms["export_credit"] == pytest.approx(-found.export_revenue, abs=1e-4)
    # while the minimum binds, a block that costs more tops it up the less: either is as good
    topped = sum(x.cost for x in (*found.minimum, *found.blocks))
    assert terms["minimum"] + terms["energy_blocks"] == pytest.approx(topped, abs=1e-4)
    assert terms["minimum"] > 1.0
    assert terms["coincident_peak"] == pytest.approx(lines["peak 4CP 0"], abs=1e-4)
    taken = sum(cost for name, cost in lines.items() if name.startswith("contract"))
    assert terms["energy_contracts"] + terms["take_or_pay"] == pytest.approx(taken, abs=1e-3)
    events = lines["event e1"] + lines["event e2"]
    assert terms["demand_response"] == pytest.approx(events, abs=1e-3)
