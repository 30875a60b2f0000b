"""The bill, by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from ems.billing import Before, bill, month_shares
from ems.errors import DataError
from ems.series import UniformSeries
from ems.tariff import TouWindow
from tests.builders import tariff

NAIROBI = ZoneInfo("Africa/Nairobi")
NEW_YORK = ZoneInfo("America/New_York")


def series(start: datetime, values, step_s: float = 900.0) -> UniformSeries:
    return UniformSeries(start=start, step_s=step_s, values=np.asarray(values, dtype=float))


def flat(start: datetime, end: datetime, kw: float, step_s: float = 900.0) -> UniformSeries:
    n = round((end - start).total_seconds() / step_s)
    return series(start, np.full(n, kw), step_s)


def day(zone: ZoneInfo, year: int, month: int, of_month: int) -> tuple[datetime, datetime]:
    start = datetime(year, month, of_month, tzinfo=zone)
    following = (start + timedelta(days=1)).date()
    end = datetime(following.year, following.month, following.day, tzinfo=zone)
    return start.astimezone(UTC), end.astimezone(UTC)


@pytest.mark.parametrize("step_s", [60.0, 300.0, 900.0, 1800.0, 3600.0])
def test_bill_flat_day_in_windows_by_hand(step_s):
    start, end = day(NAIROBI, 2026, 3, 18)
    flow = flat(start, end, 100.0, step_s)
    found = bill(tariff(), flow, replace(flow, values=flow.values * 0.1))
    by_name = {line.window: line for line in found.energy}
    assert by_name["peak"].import_kwh == pytest.approx(400.0)
    assert by_name["night"].cost == pytest.approx(600.0 * 0.09)
    assert by_name["default"].cost == pytest.approx(1400.0 * 0.16)
    assert found.energy_cost == pytest.approx(112.0 + 54.0 + 224.0)
    assert found.export_revenue == pytest.approx(240.0 * 0.04)
    assert found.demand[0].peak_kw == pytest.approx(100.0)
    assert found.demand_cost == pytest.approx(900.0)
    assert found.demand[0].prorated_cost == pytest.approx(900.0 / 31)
    assert found.fixed_cost == pytest.approx(50.0 / 31)
    assert found.total_cost == pytest.approx(390.0 + 900.0 + 50.0 / 31 - 9.6)


def test_bill_demand_is_the_mean_of_the_billing_interval_not_the_spike():
    start, _ = day(NAIROBI, 2026, 3, 18)
    values = np.full(60, 60.0)
    values[20] = 960.0  # one minute in the second interval: mean (14 * 60 + 960) / 15
    flow = series(start, values, 60.0)
    assert bill(tariff(), flow, replace(flow, values=values * 0)).demand[0].peak_kw == pytest.approx(120.0)


def test_bill_peak_before_the_period_counts_when_it_is_higher():
    start, end = day(NAIROBI, 2026, 3, 18)
    flow = flat(start, end, 100.0)
    nothing = replace(flow, values=flow.values * 0)
    assert (
        bill(tariff(), flow, nothing, Before(peaks_kw={"demand": {"2026-03": 250.0}})).demand[0].peak_kw
        == 250.0
    )
    assert (
        bill(
            tariff(), flow, nothing, Before(peaks_kw={"demand": {"2026-03": 50.0, "2026-02": 900.0}})
        ).demand_cost
        == 900.0
    )


def test_bill_two_local_months_have_a_peak_each():
    start, end = datetime(2026, 3, 31, 12, tzinfo=NAIROBI), datetime(2026, 4, 1, 12, tzinfo=NAIROBI)
    flow = flat(start.astimezone(UTC), end.astimezone(UTC), 100.0)
    flow.values[48:] = 200.0  # from local midnight on
    found = bill(tariff(), flow, replace(flow, values=flow.values * 0))
    assert [(d.month, d.peak_kw) for d in found.demand] == [("2026-03", 100.0), ("2026-04", 200.0)]
    assert [d.month_share for d in found.demand] == pytest.approx([0.5 / 31, 0.5 / 30])


def test_bill_whole_month_is_full_and_not_prorated():
    start = datetime(2026, 3, 1, tzinfo=NAIROBI).astimezone(UTC)
    end = datetime(2026, 4, 1, tzinfo=NAIROBI).astimezone(UTC)
    flow = flat(start, end, 10.0)
    found = bill(tariff(), flow, replace(flow, values=flow.values * 0))
    assert found.demand[0].month_share == 1.0
    assert found.demand[0].prorated_cost == found.demand_cost == pytest.approx(90.0)
    assert found.fixed_cost == 50.0


@pytest.mark.parametrize(
    ("ymd", "hours", "night_hours"), [((2026, 3, 8), 23, 5), ((2026, 11, 1), 25, 7), ((2026, 3, 18), 24, 6)]
)
def test_bill_day_of_clock_change_has_the_hours_of_the_clock(ymd, hours, night_hours):
    """The night window 00:00 to 06:00 loses an hour in spring and gains one in autumn."""
    start, end = day(NEW_YORK, *ymd)
    flow = flat(start, end, 100.0)
    found = bill(replace(tariff(), timezone="America/New_York"), flow, replace(flow, values=flow.values * 0))
    by_name = {line.window: line.import_kwh for line in found.energy}
    assert sum(by_name.values()) == pytest.approx(100.0 * hours)
    assert by_name["night"] == pytest.approx(100.0 * night_hours)
    assert by_name["peak"] == pytest.approx(400.0)


def test_bill_weekend_window_only_on_its_days():
    weekend = TouWindow(
        name="weekend", start_h=0.0, end_h=24.0, weekdays=frozenset({5, 6}), months=frozenset(range(1, 13)),
        import_per_kwh=0.01,
    )  # fmt: skip
    own = replace(tariff(), windows=(weekend, *tariff().windows))
    start, _ = day(NAIROBI, 2026, 3, 20)  # a Friday
    flow = flat(start, start + timedelta(days=3), 10.0)
    found = bill(own, flow, replace(flow, values=flow.values * 0))
    assert {line.window: line.import_kwh for line in found.energy}["weekend"] == pytest.approx(480.0)


def test_bill_part_of_an_interval_counts_over_its_whole_length():
    start, _ = day(NAIROBI, 2026, 3, 18)
    flow = series(start + timedelta(minutes=10), np.full(5, 90.0), 60.0)  # the last 5 of 15 minutes
    assert bill(tariff(), flow, replace(flow, values=flow.values * 0)).demand[0].peak_kw == pytest.approx(
        30.0
    )


@pytest.mark.parametrize(
    ("imported", "exported", "words"),
    [
        (
            series(datetime(2026, 3, 18, tzinfo=UTC), [1, 2]),
            series(datetime(2026, 3, 18, tzinfo=UTC), [1]),
            "same",
        ),
        (
            series(datetime(2026, 3, 18, tzinfo=UTC), []),
            series(datetime(2026, 3, 18, tzinfo=UTC), []),
            "empty",
        ),
        (
            series(datetime(2026, 3, 18, tzinfo=UTC), [np.nan]),
            series(datetime(2026, 3, 18, tzinfo=UTC), [0]),
            "gap",
        ),
        (
            series(datetime(2026, 3, 18, tzinfo=UTC), [0]),
            series(datetime(2026, 3, 18, tzinfo=UTC), [-1]),
            "negative",
        ),
        (
            series(datetime(2026, 3, 18, 0, 7, tzinfo=UTC), [1]),
            series(datetime(2026, 3, 18, 0, 7, tzinfo=UTC), [1]),
            "between two intervals",
        ),
        (
            series(datetime(2026, 3, 18, tzinfo=UTC), [1], 420.0),
            series(datetime(2026, 3, 18, tzinfo=UTC), [1], 420.0),
            "do not fit",
        ),
    ],
)
def test_bill_unusable_series_refused(imported, exported, words):
    with pytest.raises(DataError, match=words):
        bill(tariff(), imported, exported)


def test_month_shares_year_is_twelve_whole_months():
    start = datetime(2026, 1, 1, tzinfo=NEW_YORK)
    shares = month_shares("America/New_York", start, datetime(2027, 1, 1, tzinfo=NEW_YORK))
    assert list(shares.values()) == [1.0] * 12
    assert next(iter(shares)) == "2026-01"
    assert list(shares)[-1] == "2026-12"
