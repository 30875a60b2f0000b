"""Told prices reach the bill: which version counts, and what rests on the tariff. By hand."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from ems.bill_prices import RestsOn
from ems.billing import Bill, bill
from ems.contracts import CreditBasis, ExportCredit
from ems.errors import DataError
from ems.input_rules import house_provider
from ems.inputs import EXPORT, IMPORT, InputColumn, InputKind, InputParams, PriceTerms
from ems.prices import TodaysPrices, ToldPrices, day_prices, told_prices
from ems.tariff import Tariff
from tests.builders import tariff
from tests.unit.ems.test_billing import NAIROBI, NEW_YORK, day, flat
from tests.unit.forecasting.knowing import Known

START, END = day(
    NAIROBI, 2026, 3, 18
)  # the hours of the demo tariff: 6 h at 0.09, 4 h at 0.28, the rest 0.16
HOUR = timedelta(hours=1)
YESTERDAY = START - 10 * HOUR
LONG_AFTER = END + timedelta(days=30)
near: Any = pytest.approx


def market(name: str = "market", **changes: Any) -> InputParams:
    made = InputParams(
        id=name, kind=InputKind.PRICE, provider=house_provider(InputKind.PRICE), folder="inbox"
    )
    return replace(made, **changes)


def prices(
    known: Known, *inputs: InputParams, at: datetime = LONG_AFTER, of: Tariff | None = None
) -> ToldPrices:
    return told_prices(inputs or (market(),), of or tariff(), known, at, START, END)


def billed(told: ToldPrices | None, export_kw: float = 0.0, of: Tariff | None = None) -> Bill:
    """A day of 100 kW import, or of export."""
    taken, given = flat(START, END, 0.0 if export_kw else 100.0), flat(START, END, export_kw)
    return bill(of or tariff(), taken, given, prices=told)


def lines(found: Bill) -> dict[str, Any]:
    return {x.window: (round(x.import_kwh, 6), round(x.cost, 6)) for x in found.energy if x.import_kwh}


def test_bill_without_inputs_is_the_bill_of_before():
    found = billed(None)
    assert (found.by_rule, found.export, found.prices_at) == (None, (), None)
    assert all(line.rests_on == () for line in found.energy)


def test_bill_told_hours_at_told_prices_and_the_others_by_the_tariff_with_how_much():
    """08:00 to 10:00 told at 0.20, 10:00 to 12:00 at 0.30; all four hours are at 0.16 in the tariff."""
    known = Known()
    version = known.add("market", YESTERDAY, START + 8 * HOUR, {IMPORT: [0.2, 0.2, 0.3, 0.3]})
    found = billed(prices(known))
    assert lines(found) == {
        "input market": (400.0, 200.0 * 0.2 + 200.0 * 0.3),
        "night": (600.0, 54.0),
        "peak": (400.0, 112.0),
        "default": (1000.0, 160.0),
    }
    assert found.energy_cost == near(100.0 + 54.0 + 112.0 + 160.0)
    assert found.by_rule is not None
    assert (found.by_rule.import_kwh, found.by_rule.import_cost) == (2000.0, near(326.0))
    (rests,) = found.energy[0].rests_on
    assert rests == RestsOn(version=rests.version, energy_kwh=400.0, amount_money=near(100.0))
    named = rests.version
    assert (named.input, named.version, named.issued_at, named.sha256, named.series) == (
        "market", version.id, YESTERDAY, version.sha256, (IMPORT,),
    )  # fmt: skip
    assert found.prices_at == LONG_AFTER


def test_bill_rests_on_what_was_settled_last_and_names_each_version_with_its_part():
    """08:00 to 10:00 at 0.20 the day before; a week later 09:00 was settled at 0.50."""
    known = Known()
    first = known.add("market", YESTERDAY, START + 8 * HOUR, {IMPORT: [0.2, 0.2]})
    settled_at = END + timedelta(days=7)
    last = known.add("market", settled_at, START + 9 * HOUR, {IMPORT: [0.5]})
    found = billed(prices(known))
    assert lines(found)["input market"] == (200.0, 20.0 + 50.0)
    assert {r.version.version: (r.energy_kwh, r.amount_money) for r in found.energy[0].rests_on} == {
        first.id: (100.0, near(20.0)), last.id: (100.0, near(50.0)),
    }  # fmt: skip
    before = billed(prices(known, at=settled_at - HOUR))
    assert lines(before)["input market"] == (200.0, 40.0), "made before, it rests on what was known then"


def test_bill_older_issue_that_arrives_late_replaces_nothing():
    known = Known()
    known.add("market", YESTERDAY, START + 8 * HOUR, {IMPORT: [0.2]})
    known.add("market", YESTERDAY - HOUR, START + 8 * HOUR, {IMPORT: [9.0, 0.4]}, arrived=END)
    assert lines(billed(prices(known)))["input market"] == (200.0, 20.0 + 40.0), "but it fills a gap"


def test_bill_gap_inside_a_version_is_the_older_one_then_the_next_input_then_the_tariff():
    known = Known()
    known.add("market", YESTERDAY - HOUR, START + 8 * HOUR, {IMPORT: [9.0, 0.3]})
    known.add("market", YESTERDAY, START + 8 * HOUR, {IMPORT: [0.2, np.nan, np.nan, np.nan]})
    known.add("other", YESTERDAY + HOUR, START + 8 * HOUR, {IMPORT: [9.0, 9.0, 0.4]})
    found = billed(prices(known, market(), market("other")))
    assert lines(found)["input market"] == (200.0, 50.0)
    assert lines(found)["input other"] == (100.0, 40.0)
    assert lines(found)["default"] == (1100.0, 176.0)


def test_bill_negative_price_is_earned():
    known = Known()
    known.add("market", YESTERDAY, START, {IMPORT: [-0.05] * 24})
    found = billed(prices(known))
    assert found.energy_cost == near(-120.0)
    assert found.by_rule is not None
    assert found.by_rule.import_kwh == 0.0


def test_bill_market_price_by_the_terms_of_both_sides():
    """Spot 0.10: import 1.2 * 0.10 + 0.14 = 0.26, export 0.10 - 0.01 = 0.09."""
    provider = replace(
        house_provider(InputKind.PRICE), columns=(InputColumn(series="spot_per_kwh", at="v", unit=""),)
    )
    given = market(
        provider=provider, import_terms=PriceTerms(factor_ratio=1.2, add_per_kwh=0.14),
        export_terms=PriceTerms(add_per_kwh=-0.01),
    )  # fmt: skip
    known = Known()
    known.add("market", YESTERDAY, START, {"spot_per_kwh": [0.1] * 12})
    told = prices(known, given)
    assert lines(billed(told))["input market"] == (1200.0, near(312.0))
    out = billed(told, export_kw=10.0)
    assert [(x.source, x.export_kwh, round(x.revenue, 9)) for x in out.export] == [
        ("input market", 120.0, 10.8), ("tariff", 120.0, 4.8),
    ]  # fmt: skip
    assert out.export_revenue == near(15.6)
    assert out.by_rule is not None
    assert (out.by_rule.export_kwh, out.by_rule.export_revenue) == (120.0, near(4.8))
    assert out.export[0].rests_on[0].version.series == ("spot_per_kwh",)


def test_bill_side_that_no_input_tells_rests_on_no_rule():
    known = Known()
    known.add("market", YESTERDAY, START, {IMPORT: [0.1] * 24})
    out = billed(prices(known), export_kw=10.0)
    assert out.by_rule is not None
    assert out.by_rule.export_kwh == 0.0, "the tariff prices export, as the site file says"


def test_bill_all_of_it_rests_on_the_rule_where_an_input_told_nothing():
    found = billed(prices(Known()))
    assert found.by_rule is not None
    assert (found.by_rule.import_kwh, found.by_rule.import_cost) == (2400.0, near(390.0))
    assert found.energy_cost == billed(None).energy_cost


def test_bill_credit_at_the_import_price_is_at_the_told_one():
    of = replace(tariff(), export_credit=ExportCredit(basis=CreditBasis.IMPORT_PRICE))
    known = Known()
    known.add("market", YESTERDAY, START, {IMPORT: [0.5] * 24})
    told = prices(known, of=of)
    assert (told.per_kwh[EXPORT] == 0.5).all()
    out = bill(of, flat(START, END, 10.0), flat(START, END, 10.0), prices=told)
    assert out.export_revenue == near(120.0)


def test_bill_credit_at_the_import_price_rests_on_the_rule_where_nobody_told_that():
    of = replace(tariff(), export_credit=ExportCredit(basis=CreditBasis.IMPORT_PRICE))
    out = bill(of, flat(START, END, 0.0), flat(START, END, 10.0), prices=prices(Known(), of=of))
    assert out.by_rule is not None
    assert out.by_rule.export_kwh == 240.0


def test_bill_rests_on_an_old_version_behind_many_newer_ones():
    """A source that tells its next hour anew each minute: the last hour of the day was told long before."""
    known = Known()
    known.add("market", YESTERDAY, START, {IMPORT: [0.3] * 24})
    for minute in range(70):
        known.add("market", START + minute * HOUR / 60, START, {IMPORT: [0.2]})
    assert lines(billed(prices(known)))["input market"] == (2400.0, near(100.0 * 0.2 + 2300.0 * 0.3))


def test_prices_for_rules_change_at_the_start_of_a_quarter_only():
    known = Known()
    known.add("market", START + HOUR / 12, START, {IMPORT: [0.2] * 24})
    seen = TodaysPrices((market(),), tariff(), known)
    assert seen(START + HOUR / 6) is None, "it came five minutes into the quarter"
    assert seen(START + HOUR / 4) is not None


@pytest.mark.parametrize("step_s", [300.0, 900.0, 3600.0])
def test_bill_prices_of_five_minutes_are_means_of_quarters(step_s: float):
    known = Known()
    known.add("market", YESTERDAY, START, {IMPORT: [0.1, 0.2, 0.6]}, step_s=300.0)
    found = bill(
        tariff(), flat(START, END, 100.0, step_s), flat(START, END, 0.0, step_s), prices=prices(known)
    )
    assert lines(found)["input market"] == (25.0, near(25.0 * 0.3))


@pytest.mark.parametrize(("ymd", "hours"), [((2026, 3, 8), 23), ((2026, 11, 1), 25)])
def test_bill_told_day_of_clock_change_has_the_hours_of_the_clock(ymd: tuple[int, int, int], hours: int):
    start, end = day(NEW_YORK, *ymd)
    known, of = Known(), replace(tariff(), timezone="America/New_York")
    known.add("market", start - HOUR, start, {IMPORT: [0.1] * hours})
    told = told_prices((market(),), of, known, end, start, end)
    found = bill(of, flat(start, end, 100.0), flat(start, end, 0.0), prices=told)
    assert lines(found) == {"input market": (100.0 * hours, near(10.0 * hours))}
    seen = day_prices((market(),), of, known, start)
    assert seen is not None
    assert seen.import_per_kwh == (0.1,) * (4 * hours)


def test_bill_prices_of_another_time_are_refused():
    with pytest.raises(DataError, match="told prices are of 96 quarters"):
        bill(tariff(), flat(END, END + HOUR, 1.0), flat(END, END + HOUR, 0.0), prices=prices(Known()))


def test_minimum_and_credit_of_a_month_reckon_with_told_prices():
    """A day of 2400 kWh at 0.01 and a share of a minimum of 3100 a month: 100 less what the day costs."""
    of = replace(tariff(), minimum_per_month=3100.0, fixed_per_month=0.0, demand_charge_per_kw=0.0)
    known = Known()
    known.add("market", YESTERDAY, START, {IMPORT: [0.01] * 24})
    assert billed(prices(known), of=of).minimum[0].cost == near(100.0 - 24.0)
