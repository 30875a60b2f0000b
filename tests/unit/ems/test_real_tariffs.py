"""Bills of published tariffs for July 2026 (23 weekdays, 8 days of weekend), against sums made by hand."""

import json
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ems.billing import Bill, bill
from ems.series import UniformSeries
from ems.tariff import DemandCharge, EnergyBlock, LocalWindow, Tariff, TouWindow

JULY = datetime(2026, 7, 1, tzinfo=UTC)
HOURS = 744
JUST_JULY = frozenset((7,))
WEEKDAYS, WEEKEND = frozenset(range(5)), frozenset((5, 6))
Schedule = list[list[int]]


def urdb(folder: Path, file: str) -> dict[str, Any]:
    """One rate of OpenEI's Utility Rate Database as it is published."""
    found = json.loads((folder / "tariffs_urdb" / file).read_text())
    rate_of: dict[str, Any] = found["items"][0] if "items" in found else found
    return rate_of


def runs(schedule: Schedule, days: frozenset[int]) -> list[tuple[int, dict[str, Any]]]:
    """(period, window) of each run of hours of July, the month of all bills here."""
    out, hour = [], 0
    for period, hours in groupby(schedule[6]):
        n = len(list(hours))
        window = {
            "start_h": float(hour),
            "end_h": float(hour + n),
            "weekdays": days,
            "months": frozenset((7,)),
        }
        out.append((period, window))
        hour += n
    return out


def both(raw: dict[str, Any], kind: str) -> list[tuple[int, dict[str, Any]]]:
    weekday, weekend = raw[f"{kind}weekdayschedule"], raw[f"{kind}weekendschedule"]
    return [*runs(weekday, WEEKDAYS), *runs(weekend, WEEKEND)]


def rate(tiers: list[dict[str, Any]]) -> float:
    return float(tiers[0]["rate"] + tiers[0].get("adj", 0.0))


def tariff(raw: dict[str, Any], **changes: Any) -> Tariff:
    """Energy by time of day, demand by time of day, flat demand, fixed charge."""
    energy, demand = raw["energyratestructure"], raw.get("demandratestructure", [])
    windows = tuple(
        TouWindow(name=f"{k}", import_per_kwh=rate(energy[period]), **window)
        for k, (period, window) in enumerate(both(raw, "energy"))
    )
    charges = tuple(
        DemandCharge(
            name=f"period {k}", per_kw=rate(tiers),
            windows=tuple(LocalWindow(**w) for period, w in both(raw, "demand") if period == k),
        )
        for k, tiers in enumerate(demand)
        if rate(tiers) > 0.0 and any(period == k for period, _ in both(raw, "demand"))
    )  # fmt: skip
    flat = (
        rate(raw["flatdemandstructure"][raw["flatdemandmonths"][6]]) if "flatdemandstructure" in raw else 0.0
    )
    values: dict[str, Any] = {
        "timezone": "UTC", "currency": "USD", "default_import_per_kwh": 0.0, "windows": windows,
        "export_per_kwh": 0.0, "demand_charge_per_kw": flat, "billing_interval_s": 900.0,
        "fixed_per_month": raw.get("fixedmonthlycharge", raw.get("fixedchargefirstmeter", 0.0)),
        "demand_charges": charges,
    }  # fmt: skip
    return Tariff(**(values | changes))


def july(t: Tariff, kw: float = 100.0, *, peak: tuple[int, float] | None = None) -> Bill:
    """A flat load, and one hour of another."""
    values = np.full(HOURS, kw)
    if peak is not None:
        values[peak[0]] = peak[1]
    imported = UniformSeries(start=JULY, step_s=3600.0, values=values)
    nothing = UniformSeries(start=JULY, step_s=3600.0, values=np.zeros(HOURS))
    return bill(t, imported, nothing, reactive_kvar=nothing)


def test_southern_california_gs2_tou_b(shared_data):
    """Weekdays 9 h at 0.066, 9 h at 0.08888, 6 h at 0.1355, else 0.066; 13.2 + 5.3 + 18.11 per kW."""
    found = july(tariff(urdb(shared_data, "SCE_GS2_TOU_B_55fc81d7682bea28da64f9ae.json")))
    assert found.energy_cost == pytest.approx(23 * (59.4 + 79.992 + 81.3) + 8 * 158.4)
    assert found.demand_cost == pytest.approx(1320.0 + 530.0 + 1811.0)
    assert found.total_cost == pytest.approx(6343.116 + 3661.0 + 259.2)


def test_southern_california_on_peak_demand_is_that_of_the_window(shared_data):
    """150 kW on Wednesday 1 July, 14:00, are on peak; on a Saturday they are the month's alone."""
    t = tariff(urdb(shared_data, "SCE_GS2_TOU_B_55fc81d7682bea28da64f9ae.json"))
    assert july(t, peak=(14, 150.0)).demand_cost == pytest.approx(13.2 * 150 + 5.3 * 100 + 18.11 * 150)
    assert july(t, peak=(3 * 24 + 14, 150.0)).demand_cost == pytest.approx(
        13.2 * 150 + 5.3 * 100 + 18.11 * 100
    )


def test_san_diego_al_tou(shared_data):
    """With adjustments 0.22842, 0.14825, 0.12431; 30.63 flat, 45.61 from 16:00 to 21:00 every day."""
    found = july(tariff(urdb(shared_data, "San_Diego_Gas_Electric_Co_AL_TOU_Secondary_Above_500kW.json")))
    weekday, weekend = 74.586 + 192.725 + 114.21, 174.034 + 74.125 + 114.21
    assert found.energy_cost == pytest.approx(23 * weekday + 8 * weekend)
    assert found.demand_cost == pytest.approx(3063.0 + 4561.0)
    assert found.total_cost == pytest.approx(20064.845)


def test_seward_county_d28_tiers(shared_data):
    """The first 1,000 kWh at 0.0933, the rest at 0.0747."""
    raw = urdb(shared_data, "Seward_County_D28_tiered_539fb6c7ec4f024bc1dc0445.json")
    tiers = raw["energyratestructure"][raw["energyweekdayschedule"][6][0]]
    base, ends = rate([tiers[-1]]), [x.get("max") for x in tiers]
    blocks = tuple(
        EnergyBlock(up_to_kwh=end, add_per_kwh=x["rate"] - base) for x, end in zip(tiers, ends, strict=True)
    )
    t = tariff(raw, windows=(), default_import_per_kwh=base, energy_blocks=blocks)
    assert july(t).total_cost == pytest.approx(1000 * 0.0933 + 73400 * 0.0747 + 29.25)


def test_norway_pays_the_highest_hour_of_the_month(shared_data):
    raw = json.loads((shared_data / "tariffs_weakgrid" / "tariffs_weakgrid.json").read_text())[
        "norway_tensio_rye"
    ]
    t = Tariff(
        timezone="UTC", currency="NOK", default_import_per_kwh=raw["energy_winter"], windows=(),
        export_per_kwh=0.0, demand_charge_per_kw=raw["monthly_peak_per_kw"], billing_interval_s=3600.0,
        fixed_per_month=0.0,
    )  # fmt: skip
    assert july(t, 10.0, peak=(100, 25.0)).total_cost == pytest.approx(7455 * 0.05 + 25 * 49)


def test_tamil_nadu_bills_nine_tenths_of_the_contract(shared_data):
    """25.65 h a day at the base price by the factors of the hours; 0.9 of 200 kVA, more than drawn."""
    every = json.loads((shared_data / "tariffs_weakgrid" / "tariffs_weakgrid.json").read_text())
    raw = every["india_ht_2025_26"]["tamilnadu_TANGEDCO_HT_I"]
    windows = []
    for span, factor in raw["tod_multipliers"].items():
        start, end = (float(x) for x in span.split("-"))
        for a, z in ((start, end),) if start < end else ((start, 24.0), (0.0, end)):
            windows.append(
                TouWindow(
                    name=f"{span} {a:g}", start_h=a, end_h=z, weekdays=frozenset(range(8)),
                    months=frozenset(range(1, 13)), import_per_kwh=raw["base"] * factor,
                )
            )  # fmt: skip
    charge = DemandCharge(
        name="maximum demand", per_kw=raw["demand_per_kva_month"], apparent=True, contracted_kw=200.0,
        contracted_ratio=0.9,
    )  # fmt: skip
    t = Tariff(
        timezone="UTC", currency="INR", default_import_per_kwh=0.0, windows=tuple(windows),
        export_per_kwh=0.0, demand_charge_per_kw=0.0, billing_interval_s=1800.0, fixed_per_month=0.0,
        demand_charges=(charge,),
    )  # fmt: skip
    assert july(t).total_cost == pytest.approx(31 * 25.65 * 100 * 7.5 + 180 * 608)
