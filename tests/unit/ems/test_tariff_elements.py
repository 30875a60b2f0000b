"""Demand windows, ratchets, contracted demand, kVA, blocks, power factor, minimum and holidays, by hand."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from ems.billing import Before, Bill, bill
from ems.errors import DataError
from ems.kpi import settle
from ems.series import UniformSeries
from ems.tariff import (
    HOLIDAY,
    DemandCharge,
    EnergyBlock,
    LocalWindow,
    PowerFactorCharge,
    Tariff,
    TouWindow,
    blocks_cost,
    month_before,
)
from plant_models.state import PlantFlows
from sim.meter import Meter
from tests.builders import site, tariff

ZONE = ZoneInfo("Africa/Nairobi")
WEEKDAYS, MONTHS = frozenset(range(5)), frozenset(range(1, 13))
MARCH = datetime(2026, 3, 1, tzinfo=ZONE).astimezone(UTC)
APRIL = datetime(2026, 4, 1, tzinfo=ZONE).astimezone(UTC)
ON_PEAK = LocalWindow(start_h=17.0, end_h=21.0, weekdays=WEEKDAYS, months=MONTHS)
WINTER = LocalWindow(start_h=0.0, end_h=24.0, weekdays=WEEKDAYS, months=frozenset({6, 7, 8}))


def plain(**changes: Any) -> Tariff:
    """0.1 a kWh at all times and nothing else, in Nairobi."""
    base = replace(
        tariff(), windows=(), default_import_per_kwh=0.1, demand_charge_per_kw=0.0, fixed_per_month=0.0
    )
    return replace(base, **changes)


def hours(start: datetime, values: Any) -> UniformSeries:
    return UniformSeries(start=start, step_s=3600.0, values=np.asarray(values, dtype=np.float64))


def march(level_kw: float, spikes: Mapping[datetime, float] | None = None) -> UniformSeries:
    """Hourly import of March, flat but for some hours."""
    values = np.full(31 * 24, level_kw)
    for at, kw in (spikes or {}).items():
        values[round((at - MARCH) / timedelta(hours=1))] = kw
    return hours(MARCH, values)


def billed(t: Tariff, imported: UniformSeries, before: Before | None = None, kvar: Any = None) -> Bill:
    nothing = replace(imported, values=imported.values * 0.0)
    reactive = None if kvar is None else replace(imported, values=imported.values * 0.0 + kvar)
    return bill(t, imported, nothing, before, reactive)


def local(day: int, hour: int, month: int = 3) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=ZONE)


def test_on_peak_demand_counts_only_in_its_window_and_beside_the_main_charge():
    """Monday 2 March: 300 kW at noon for the main charge, 180 kW at 18:00 on peak; Sunday does not count."""
    t = plain(
        demand_charge_per_kw=2.0,
        demand_charges=(DemandCharge(name="on peak", per_kw=5.0, windows=(ON_PEAK,)),),
    )
    found = billed(t, march(100.0, {local(2, 12): 300.0, local(2, 18): 180.0, local(1, 18): 250.0}))
    assert [(d.charge, d.peak_kw, d.cost) for d in found.demand] == [
        ("demand", 300.0, 600.0),
        ("on peak", 180.0, 900.0),
    ]


def test_seasonal_demand_charge_out_of_season_costs_nothing():
    t = plain(demand_charges=(DemandCharge(name="winter", per_kw=5.0, windows=(WINTER,)),))
    assert billed(t, march(100.0)).demand_cost == 0.0


def test_holiday_is_a_day_type_of_its_own():
    """Tuesday 3 March is a holiday: no on-peak demand, and the weekday price does not hold."""
    dear = TouWindow(
        name="working day", start_h=0.0, end_h=24.0, weekdays=WEEKDAYS, months=MONTHS, import_per_kwh=0.5
    )
    off = replace(dear, name="holiday", weekdays=frozenset({HOLIDAY}), import_per_kwh=0.2)
    t = plain(
        windows=(dear, off),
        holidays=frozenset({date(2026, 3, 3)}),
        demand_charges=(DemandCharge(name="on peak", per_kw=5.0, windows=(ON_PEAK,)),),
    )
    day = hours(local(3, 0).astimezone(UTC), np.full(24, 10.0))
    found = billed(t, day)
    assert found.energy_cost == pytest.approx(240.0 * 0.2)
    assert found.demand_cost == 0.0
    assert billed(replace(t, holidays=frozenset()), day).energy_cost == pytest.approx(240.0 * 0.5)
    assert t.import_per_kwh(local(3, 12)) == 0.2


@pytest.mark.parametrize(
    ("peak_kw", "billed_kw"),
    [(100.0, 320.0), (350.0, 350.0)],
)
def test_ratchet_bills_a_share_of_the_highest_past_peak(peak_kw: float, billed_kw: float):
    """0.8 of the 400 kW of last April; the 900 kW of a year ago March are out of the eleven months."""
    charge = DemandCharge(
        name="network", per_kw=3.0, ratchet_ratio=0.8, past_peaks_kw={"2025-04": 400.0, "2025-03": 900.0}
    )
    (line,) = billed(plain(demand_charges=(charge,)), march(peak_kw)).demand[1:]
    assert (line.peak_kw, line.billed_kw, line.cost) == (peak_kw, billed_kw, 3.0 * billed_kw)


def test_ratchet_of_a_month_of_the_period_holds_in_the_next_one():
    charge = DemandCharge(name="network", per_kw=3.0, ratchet_ratio=0.5)
    values = np.full((31 + 30) * 24, 10.0)
    values[100] = 200.0
    found = billed(plain(demand_charges=(charge,)), hours(MARCH, values)).demand
    assert [d.billed_kw for d in found if d.charge == "network"] == [200.0, 100.0]


@pytest.mark.parametrize(
    ("peak_kw", "cost"),
    [(100.0, 150.0 * 2.0), (180.0, 180.0 * 2.0), (260.0, 260.0 * 2.0 + 60.0 * 7.0)],
)
def test_contracted_demand_is_billed_in_part_and_its_excess_on_top(peak_kw: float, cost: float):
    """200 kW notified, three quarters billed in any case, 7 more for each kW above."""
    charge = DemandCharge(
        name="notified", per_kw=2.0, contracted_kw=200.0, contracted_ratio=0.75, excess_per_kw=7.0
    )
    assert billed(plain(demand_charges=(charge,)), march(peak_kw)).demand_cost == pytest.approx(cost)


def test_apparent_demand_is_that_of_active_and_reactive_power():
    """300 kW and 400 kvar are 500 kVA."""
    t = plain(demand_charges=(DemandCharge(name="access", per_kw=2.0, apparent=True),))
    assert billed(t, march(300.0), kvar=400.0).demand_cost == pytest.approx(1000.0)
    with pytest.raises(DataError, match="reactive"):
        billed(t, march(300.0))


@pytest.mark.parametrize(
    ("add", "before_kwh", "cost"),
    [
        ((0.2, 0.1), 300.0, 60.0),
        ((0.1, 0.2), 300.0, 60.0),
        ((0.1, 0.2), 0.0, 40.0),
        ((0.2, 0.1), 600.0, 40.0),
    ],
)
def test_energy_blocks_go_on_from_the_month_so_far(add: Any, before_kwh: float, cost: float):
    """400 kWh with an edge at 500 kWh: from 300 kWh on, 200 in each block."""
    blocks = (
        EnergyBlock(up_to_kwh=500.0, add_per_kwh=add[0]),
        EnergyBlock(up_to_kwh=None, add_per_kwh=add[1]),
    )
    t = plain(energy_blocks=blocks, default_import_per_kwh=0.0)
    day = hours(local(3, 0).astimezone(UTC), np.full(20, 20.0))
    found = billed(t, day, Before(import_kwh={"2026-03": before_kwh}))
    assert found.energy_cost == pytest.approx(cost)
    assert found.total_cost == pytest.approx(cost)


def test_blocks_cost_by_hand():
    blocks = (
        EnergyBlock(up_to_kwh=100.0, add_per_kwh=0.1),
        EnergyBlock(up_to_kwh=300.0, add_per_kwh=0.2),
        EnergyBlock(up_to_kwh=None, add_per_kwh=0.05),
    )
    assert [blocks_cost(blocks, x) for x in (0.0, 50.0, 200.0, 400.0)] == pytest.approx([0, 5, 30, 55])


def test_power_factor_charge_bills_what_is_beyond_the_allowed_angle():
    """10 kW and 10 kvar for a day; 0.8 allows 0.75 kvarh for each kWh: 60 kvarh too much, at 0.05."""
    t = plain(power_factor=PowerFactorCharge(min_ratio=0.8, per_kvarh=0.05))
    day = hours(local(3, 0).astimezone(UTC), np.full(24, 10.0))
    assert billed(t, day, kvar=10.0).extra_cost == pytest.approx(60.0 * 0.05)
    assert billed(t, day, kvar=7.0).extra_cost == 0.0


@pytest.mark.parametrize(("level_kw", "missing"), [(10.0, 1000.0 - 744.0 - 50.0), (20.0, 0.0)])
def test_minimum_charge_fills_up_a_small_bill(level_kw: float, missing: float):
    t = plain(minimum_per_month=1000.0, fixed_per_month=50.0)
    found = billed(t, march(level_kw))
    assert found.extra_cost == pytest.approx(missing)
    assert found.total_cost == pytest.approx(max(1000.0, 74.4 * level_kw + 50.0))


def test_minimum_of_a_day_is_the_share_of_a_day():
    t = plain(minimum_per_month=3100.0)
    day = hours(local(3, 0).astimezone(UTC), np.full(24, 10.0))
    assert billed(t, day).extra_cost == pytest.approx(100.0 - 24.0)


def test_month_before_crosses_years():
    assert [month_before("2026-03", k) for k in (1, 3, 15)] == ["2026-02", "2025-12", "2024-12"]


@pytest.mark.parametrize("seed", range(3))
def test_simulator_counters_settle_to_the_bill(seed: int):
    """Ten days of random import and reactive power: what `settle` makes of the meter is the bill."""
    rng = np.random.default_rng(seed)
    t = replace(
        tariff(),
        holidays=frozenset({date(2026, 3, 30)}),
        demand_charges=(
            DemandCharge(
                name="on peak", per_kw=5.0, windows=(ON_PEAK,), contracted_kw=150.0, excess_per_kw=3.0
            ),
            DemandCharge(
                name="kVA", per_kw=1.0, apparent=True, ratchet_ratio=0.9, past_peaks_kw={"2026-02": 500.0}
            ),
        ),
        energy_blocks=(
            EnergyBlock(up_to_kwh=5000.0, add_per_kwh=0.1),
            EnergyBlock(up_to_kwh=None, add_per_kwh=0.02),
        ),
        power_factor=PowerFactorCharge(min_ratio=0.95, per_kvarh=0.03),
        minimum_per_month=1e5,
    )
    start = datetime(2026, 3, 27, tzinfo=ZONE).astimezone(UTC)  # into April
    kw, kvar = rng.uniform(0.0, 300.0, 960), rng.uniform(0.0, 200.0, 960)
    quarters = [UniformSeries(start=start, step_s=900.0, values=x) for x in (kw, 0.0 * kw, kvar)]
    expected = bill(t, quarters[0], quarters[1], None, quarters[2])
    plant = replace(site(), tariff=t)
    meter = Meter(site=plant, t0_epoch_s=start.timestamp(), stored_start_kwh={})
    none: dict[str, float] = {}
    for i in range(960):
        flows = SimpleNamespace(
            dt_s=900.0, grid_p_kw=kw[i], grid_q_kvar=kvar[i], feeder_demand_kw=none, genset_p_kw=none,
            pv_p_kw=none, bess_p_kw=none, violations=(), dead_s=0.0, islanded_s=0.0, energy_residual_kwh=0.0,
        )  # fmt: skip
        price = t.import_per_kwh(start + timedelta(seconds=900.0 * i))
        meter.add(900.0 * i, cast(PlantFlows, flows), price)
    meter.close_interval()
    table = settle(plant, meter.counters(), start=start)
    assert table.energy_cost + table.block_cost == pytest.approx(expected.energy_cost)
    assert table.demand_whole_cost == pytest.approx(expected.demand_cost)
    assert table.extra_cost == pytest.approx(expected.extra_cost)
    assert table.fixed_cost == pytest.approx(expected.fixed_cost)


def test_carbon_is_paid_on_diesel_and_import():
    """0.05 a kg: 90 L of 2.68 kg and 2,000 kWh of 0.7 kg."""
    from tests.unit.ems.test_kpi import START, counters

    plant = replace(site(), carbon_per_kg=0.05, import_co2_kg_per_kwh=0.7)
    table = settle(plant, counters(), start=START)
    assert table.carbon_cost == pytest.approx(0.05 * (90 * 2.68 + 1400.0))
    assert table.co2_kg == pytest.approx(90 * 2.68 + 1400.0)
    assert table.total_cost == pytest.approx(
        settle(site(), counters(), start=START).total_cost + table.carbon_cost
    )
