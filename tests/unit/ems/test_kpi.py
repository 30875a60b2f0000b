"""Counters to money and key figures, by hand."""

from dataclasses import fields, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ems.errors import DataError
from ems.kpi import EnergyCounters, _demand_label, savings_split, settle, stored_value_per_kwh
from tests.builders import site

START = datetime(2026, 3, 18, tzinfo=ZoneInfo("Africa/Nairobi"))


def test_settle_cold_starts_cost_what_they_cost_more():
    """Two starts of gen1 at 15, one of them at 40."""
    plant = site()
    dear = replace(plant.gensets[0], cold_start_cost=40.0, cold_after_s=3600.0)
    plant = replace(plant, gensets=(dear, plant.gensets[1]))
    table = settle(plant, counters(cold_starts={"gen1": 1}), start=START, stored_per_kwh=0.1)
    assert table.start_cost == 15 + 40 + 1.5 * 6


def counters(**changes) -> EnergyCounters:
    values: dict[str, Any] = {
        "duration_s": 86400.0,
        "demand_kwh": {"critical": 1500.0, "essential": 2500.0, "deferrable": 1000.0},
        "unserved_kwh": {"critical": 1.0, "essential": 10.0, "deferrable": 100.0},
        "import_kwh": 2000.0,
        "export_kwh": 0.0,
        "import_cost": 320.0,
        "pv_potential_kwh": {"pv1": 3000.0},
        "pv_kwh": {"pv1": 2800.0},
        "genset_kwh": {"gen1": 300.0, "gen2": 0.0},
        "fuel_l": {"gen1": 90.0, "gen2": 0.0},
        "run_h": {"gen1": 1.5, "gen2": 0.0},
        "starts": {"gen1": 2, "gen2": 0},
        "bess_discharge_kwh": {"bess1": 800.0},
        "bess_stored_start_kwh": {"bess1": 500.0},
        "bess_stored_end_kwh": {"bess1": 600.0},
        "peak_import_kw": {"2026-03": 310.0},
        "violations": {"import_over_cap": 3, "soc_window": 1},
    }
    return EnergyCounters(**(values | changes))


def test_settle_day_by_hand():
    table = settle(site(), counters(), start=START, stored_per_kwh=0.1)
    assert table.energy_cost == 320.0
    assert table.demand_whole_cost == 310.0 * 9
    assert table.demand_cost == pytest.approx(310.0 * 9 / 31)
    assert "3.2 % of 2026-03" in table.demand_label
    assert table.fixed_cost == pytest.approx(50.0 / 31)
    assert table.diesel_cost == 90 * 1.25
    assert table.start_cost == 2 * 15 + 1.5 * 6
    assert table.stored_cost == pytest.approx(-10.0)
    assert table.voll_cost == 1 * 20 + 10 * 4 + 100 * 0.8
    assert table.wear_cost == pytest.approx(800 * 0.02)
    assert table.total_cost == pytest.approx(320 + 90 + 50 / 31 + 112.5 + 39 - 10)
    assert table.total_with_voll_cost == pytest.approx(table.total_cost + 140)
    assert table.unserved_tier_kwh == {1: 1.0, 2: 10.0, 3: 100.0}
    assert table.curtailed_kwh == 200.0
    assert table.bess_cycles_count == 0.8
    assert table.violation_count == 4
    assert table.co2_kg == pytest.approx(90 * 2.68)
    assert table.renewable_ratio == pytest.approx(1 - 2300 / (5000 - 111))


def test_settle_renewable_share_known_answer():
    """80 kWh of diesel and 10 kWh of grid for 135 kWh of load: one third."""
    known = counters(
        demand_kwh={"critical": 135.0}, unserved_kwh={}, genset_kwh={"gen1": 80.0}, import_kwh=10.0
    )
    assert settle(site(), known, start=START).renewable_ratio == pytest.approx(1 / 3, abs=1e-12)


def test_settle_nothing_served_has_no_renewable_share():
    dark = counters(demand_kwh={}, unserved_kwh={})
    assert settle(site(), dark, start=START).renewable_ratio is None


def test_settle_whole_month_demand_is_full_and_says_so():
    start = datetime(2026, 3, 1, tzinfo=ZoneInfo("Africa/Nairobi"))
    table = settle(site(), counters(duration_s=31 * 86400.0), start=start)
    assert table.demand_cost == table.demand_whole_cost == 2790.0
    assert table.demand_label == "demand charge"


def test_settle_counters_of_no_time_refused():
    with pytest.raises(DataError):
        settle(site(), EnergyCounters(), start=START)


def test_stored_value_is_what_refilling_costs():
    assert stored_value_per_kwh(site(), START) == pytest.approx(0.09 / 0.975)
    assert stored_value_per_kwh(replace(site(), bess=()), START) == 0.09


def test_savings_split_adds_up_to_the_difference_of_totals():
    baseline = settle(site(), counters(), start=START)
    better = settle(
        site(),
        counters(
            import_cost=300.0,
            fuel_l={"gen1": 40.0},
            starts={"gen1": 1},
            peak_import_kw={"2026-03": 250.0},
            unserved_kwh={"deferrable": 20.0},
            bess_stored_end_kwh={"bess1": 300.0},
        ),
        start=START,
    )
    split = savings_split(baseline, better)
    assert split.total_money == pytest.approx(baseline.total_with_voll_cost - better.total_with_voll_cost)
    assert split.without_voll_money == pytest.approx(baseline.total_cost - better.total_cost)
    assert split.diesel_money == pytest.approx(50 * 1.25)
    assert split.starts_money == pytest.approx(15.0)
    assert split.energy_money == pytest.approx(20.0 - 300 * 0.09 / 0.975)
    assert split.voll_money == pytest.approx(20 + 40 + 80 * 0.8)


def test_counters_add_two_halves_are_the_whole():
    first = counters(peak_import_kw={"2026-03": 310.0}, bess_stored_end_kwh={"bess1": 550.0})
    later = counters(
        bess_stored_start_kwh={"bess1": 550.0},
        peak_import_kw={"2026-03": 290.0, "2026-04": 10.0},
        violations={"soc_window": 2},
    )
    both = first + later
    assert both.duration_s == 2 * 86400.0
    assert both.demand_kwh["critical"] == 3000.0
    assert both.starts["gen1"] == 4
    assert both.peak_import_kw == {"2026-03": 310.0, "2026-04": 10.0}
    assert both.bess_stored_start_kwh == {"bess1": 500.0}
    assert both.bess_stored_end_kwh == {"bess1": 600.0}
    assert both.violations == {"import_over_cap": 3, "soc_window": 3}


def test_counters_add_nothing_changes_nothing():
    assert counters() + EnergyCounters() == counters()
    assert EnergyCounters() + counters() == counters()


def test_counters_add_covers_every_field():
    """A field added later must add up too: doubled, every number but peaks and battery states doubles."""
    kept = {"peak_import_kw", "charge_peaks_kw", "bess_stored_start_kwh", "bess_stored_end_kwh"}
    empty = EnergyCounters()
    values: dict[str, Any] = {
        f.name: 1.0 if isinstance(getattr(empty, f.name), float) else {"x": 1.0} for f in fields(empty)
    }
    ones = EnergyCounters(**values)
    two = ones + ones
    for f in fields(two):
        expected = [{"x": 1.0}] if f.name in kept else [2.0, {"x": 2.0}]
        assert getattr(two, f.name) in expected, f.name


def test_demand_label_names_the_months_in_part_and_counts_the_whole_ones():
    label = _demand_label({"2022-09": 0.633, "2022-10": 1.0, "2022-11": 1.0, "2023-09": 0.367})
    assert label == "demand charge, prorated to 63.3 % of 2022-09, 36.7 % of 2023-09 and 2 whole months"
