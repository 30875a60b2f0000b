"""The forecaster from history: what it may see, what it says when it has seen little, and what it gives."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from ems.errors import DataError
from ems.forecast import Forecast
from ems.outage import OutageNotice
from ems.series import UniformSeries
from ems.timegrid import TimeGrid
from forecasting.history import ForecastOptions, HistoryForecaster
from tests.builders import T0, site

DAYS = 40
BLOCKS = ((900.0, 24), (1800.0, 12), (3600.0, 36))


def series(values: np.ndarray, step_s: float = 900.0, start: datetime = T0) -> UniformSeries:
    return UniformSeries(start=start, step_s=step_s, values=np.asarray(values, dtype=float))


def load_values(days: int = DAYS, seed: int = 1, peak: float = 100.0) -> np.ndarray:
    """Weekdays twice as high as weekends, in Nairobi time (UTC + 3 h), with noise."""
    n = days * 96
    local_h = (np.arange(n) / 4.0 + 3.0) % 24.0
    weekday = ((np.arange(n) + 12) // 96 % 7) < 5
    noise = 0.03 * np.random.default_rng(seed).standard_normal(n)
    return peak * np.where(weekday, 1.0, 0.5) * (0.6 + 0.3 * np.sin((local_h - 9) / 24 * 2 * np.pi) + noise)


def pv_values(days: int = DAYS, seed: int = 2) -> np.ndarray:
    """A daily bell between 06:30 and 18:30 local, cloudy by chance."""
    local_h = (np.arange(days * 96) / 4.0 + 3.0) % 24.0
    clear = np.clip(560.0 * np.sin((local_h - 6.5) / 12.0 * np.pi), 0.0, None)
    return clear * np.random.default_rng(seed).uniform(0.3, 1.0, days * 96)


def histories(days: int = DAYS) -> tuple[dict[str, UniformSeries], dict[str, UniformSeries]]:
    load = {f.id: series(load_values(days, i, f.p_peak_kw)) for i, f in enumerate(site().feeders)}
    return load, {"pv1": series(pv_values(days))}


def forecast(load=None, pv=None, at=T0 + timedelta(days=30, hours=9), **options) -> Forecast:
    default = histories()
    forecaster = HistoryForecaster(
        site(), default[0] if load is None else load, default[1] if pv is None else pv, **options
    )
    return forecaster.forecast(TimeGrid.blocks(at, BLOCKS), at)


def arrays(f: Forecast) -> list[np.ndarray]:
    bands = [*f.load_kw_quantiles.values(), *f.pv_kw_quantiles.values()]
    return [a for group in (f.load_kw, f.pv_kw, *bands) for a in group.values()]


def blinded(full: UniformSeries, at: datetime) -> UniformSeries:
    """Everything that had not ended by `at` becomes NaN."""
    n = int((at - full.start).total_seconds() // full.step_s)
    values = full.values.copy()
    values[n:] = np.nan
    return series(values, full.step_s, full.start)


@pytest.mark.parametrize("step_s", [60.0, 300.0, 420.0, 900.0, 3600.0])
@pytest.mark.parametrize("offset_s", [0.0, 437.0])
def test_forecast_future_overwritten_with_nan_is_bit_identical(step_s, offset_s):
    at = T0 + timedelta(days=25, hours=10, seconds=offset_s)
    n = int(35 * 86400 / step_s)
    rng = np.random.default_rng(3)
    load = {f.id: series(rng.uniform(10, 90, n), step_s) for f in site().feeders}
    pv = {"pv1": series(rng.uniform(0, 500, n), step_s)}
    seeing = forecast(load, pv, at)
    blind = forecast(
        {k: blinded(v, at) for k, v in load.items()}, {k: blinded(v, at) for k, v in pv.items()}, at
    )
    for a, b in zip(arrays(seeing), arrays(blind), strict=True):
        assert a.tobytes() == b.tobytes()
    assert seeing.repairs == blind.repairs
    assert seeing.data_cutoff == blind.data_cutoff <= at


def test_forecast_last_interval_before_issue_changes_it():
    """The counterpart of the leakage test: what had just ended does count."""
    at = T0 + timedelta(days=30, hours=9)
    load, pv = histories()
    changed = load["critical"].values.copy()
    changed[30 * 96 + 9 * 4 - 1] += 50.0
    after = forecast(load | {"critical": series(changed)}, pv, at)
    assert after.load_kw["critical"][0] > forecast(load, pv, at).load_kw["critical"][0] + 10.0


def test_forecast_same_call_twice_is_bit_identical_and_order_does_not_matter():
    load, pv = histories()
    grids = [
        (TimeGrid.blocks(t, BLOCKS), t) for t in (T0 + timedelta(days=28, hours=h) for h in range(0, 30, 3))
    ]
    forward, backward = HistoryForecaster(site(), load, pv), HistoryForecaster(site(), load, pv)
    first = [forward.forecast(*g) for g in grids]
    second = [backward.forecast(*g) for g in reversed(grids)][::-1]
    for a, b in zip(first, second, strict=True):
        assert [x.tobytes() for x in arrays(a)] == [x.tobytes() for x in arrays(b)]


def test_forecast_of_two_days_separates_weekend_from_weekday():
    friday = T0 + timedelta(days=32, hours=18)  # 21:00 in Nairobi
    assert friday.weekday() == 4
    f = HistoryForecaster(site(), *histories()).forecast(TimeGrid.uniform(friday, 3600.0, 72), friday)
    at_noon = [i for i, s in enumerate(f.grid.starts()) if s.hour == 9]
    saturday, sunday, monday = (f.load_kw["critical"][i] for i in at_noon)
    assert saturday == pytest.approx(monday / 2, rel=0.1)
    assert sunday == pytest.approx(monday / 2, rel=0.1)
    assert "weekday" not in " ".join(f.repairs)


def test_forecast_deviation_decays_over_hours():
    load, pv = histories()
    at = T0 + timedelta(days=30, hours=9)
    raised = load["critical"].values.copy()
    raised[30 * 96 + 8 * 4 : 30 * 96 + 9 * 4] += 60.0
    grid = TimeGrid.uniform(at, 900.0, 96)
    base = HistoryForecaster(site(), load, pv).forecast(grid, at).load_kw["critical"]
    high = HistoryForecaster(site(), load | {"critical": series(raised)}, pv).forecast(grid, at)
    extra = high.load_kw["critical"] - base
    assert extra[0] == pytest.approx(60.0 * np.exp(-0.25 / 4.0), rel=1e-6)
    assert extra[15] == pytest.approx(60.0 * np.exp(-4.0 / 4.0), rel=1e-6)
    assert extra[80] < 1.0


def test_forecast_pv_is_zero_at_night_and_capped_at_rating():
    load, _ = histories()
    f = forecast(load, {"pv1": series(np.full(DAYS * 96, 2000.0))})
    local_h = np.array([s.astimezone(ZoneInfo("Africa/Nairobi")).hour for s in f.grid.starts()])
    night = (local_h >= 19) | (local_h < 6)
    assert f.pv_kw["pv1"][night].max() == 0.0
    assert f.pv_kw_quantiles["p90"]["pv1"][night].max() == 0.0
    assert f.pv_kw["pv1"][~night].max() == pytest.approx(600.0)
    assert f.pv_kw_quantiles["p90"]["pv1"].max() <= 600.0


def test_forecast_pv_follows_a_dull_morning_then_returns_to_climate():
    load, _ = histories()
    values = pv_values()
    at = T0 + timedelta(days=30, hours=7)  # 10:00 local
    dull = values.copy()
    dull[30 * 96 : 30 * 96 + 28] *= 0.2
    grid = TimeGrid.uniform(at, 900.0, 24)
    usual = HistoryForecaster(site(), load, {"pv1": series(values)}).forecast(grid, at).pv_kw["pv1"]
    low = HistoryForecaster(site(), load, {"pv1": series(dull)}).forecast(grid, at).pv_kw["pv1"]
    assert low[0] < 0.5 * usual[0]
    assert low[12] / usual[12] > low[0] / usual[0] + 0.2


def test_forecast_pv_morning_low_sun_does_not_shake_the_day():
    """At dawn, clearness is a ratio of two small numbers; yesterday's last good one is kept instead."""
    load, _ = histories()
    values = pv_values()
    at = T0 + timedelta(days=30, hours=4)  # 07:00 local, envelope still low
    odd = values.copy()
    odd[30 * 96 + 14 : 30 * 96 + 16] *= 8.0
    grid = TimeGrid.uniform(at, 900.0, 24)
    usual = HistoryForecaster(site(), load, {"pv1": series(values)}).forecast(grid, at).pv_kw["pv1"]
    shaken = HistoryForecaster(site(), load, {"pv1": series(odd)}).forecast(grid, at).pv_kw["pv1"]
    np.testing.assert_allclose(shaken[8:], usual[8:], rtol=0.02)


def test_forecast_pv_at_dawn_last_evening_counts_little():
    """Clearness of yesterday's dusk is half a day old at dawn; it once ruled the first hour of light."""
    load, _ = histories()
    values = pv_values()
    at = T0 + timedelta(days=30, hours=3, minutes=30)  # 06:30 local, before the first useful light
    black = values.copy()
    black[29 * 96 + 15 * 4 : 29 * 96 + 16 * 4] = 0.0  # a storm from 18:00 to 19:00 the day before
    black[29 * 96 + 14 * 4 : 29 * 96 + 15 * 4] *= 0.05
    grid = TimeGrid.uniform(at, 900.0, 16)
    usual = HistoryForecaster(site(), load, {"pv1": series(values)}).forecast(grid, at).pv_kw["pv1"]
    after = HistoryForecaster(site(), load, {"pv1": series(black)}).forecast(grid, at).pv_kw["pv1"]
    assert (after[4:] > 0.85 * usual[4:]).all()


def test_forecast_without_any_history_gives_typical_and_says_so():
    f = forecast({}, {})
    assert all(np.isfinite(a).all() for a in arrays(f))
    assert 0.3 * 120.0 < f.load_kw["critical"].mean() < 120.0
    assert 100.0 < f.pv_kw["pv1"].max() < 600.0
    text = " ".join(f.repairs)
    for name in ("critical", "essential", "deferrable", "pv1"):
        assert name in text
    assert "typical shape" in text
    assert "nameplate" in text


@pytest.mark.parametrize(
    ("days", "words"),
    [(0.5, "typical shape"), (2.0, "mean of the last days used"), (14.0, None)],
)
def test_forecast_ladder_names_its_level(days, words):
    """T0 is a Monday; half a day, two days, two weeks of history; forecast over the next two days."""
    at = T0 + timedelta(days=days)
    load = {f.id: series(load_values(20, i, f.p_peak_kw)) for i, f in enumerate(site().feeders)}
    later = T0 + timedelta(days=5) if days == 2.0 else at  # ask for a weekend
    short = {k: series(v.values[: int(days * 96)]) for k, v in load.items()}
    grid = TimeGrid.uniform(later, 900.0, 96)
    f = HistoryForecaster(site(), short, histories()[1]).forecast(grid, at)
    repairs = [r for r in f.repairs if r.startswith("critical") and "errors" not in r]
    if words is None:
        assert repairs == []
    else:
        assert words in " ".join(repairs)
    actual = load["critical"].mean_on(grid)
    assert np.abs(f.load_kw["critical"] - actual).mean() < {0.5: 60.0, 2.0: 60.0, 14.0: 8.0}[days]


def test_forecast_gaps_in_history_are_bridged_and_stale_present_is_named():
    load, pv = histories()
    at = T0 + timedelta(days=30, hours=9)
    holes = load["critical"].values.copy()
    holes[np.random.default_rng(5).random(len(holes)) < 0.3] = np.nan
    holes[30 * 96 : 31 * 96] = np.nan
    dark = pv["pv1"].values.copy()
    dark[30 * 96 : 31 * 96] = np.nan
    f = forecast(load | {"critical": series(holes)}, {"pv1": series(dark)}, at)
    assert all(np.isfinite(a).all() for a in arrays(f))
    text = " | ".join(f.repairs)
    assert "critical: nothing measured in the last 2 h" in text
    assert "pv1: the present sky is not measured" in text
    assert "essential" not in text
    full = forecast(load, pv, at)
    assert np.abs(f.load_kw["critical"] - full.load_kw["critical"]).mean() < 4.0


def test_forecast_infinite_values_count_as_missing():
    load, pv = histories()
    bad = load["critical"].values.copy()
    bad[100:900:7] = np.inf
    assert all(np.isfinite(a).all() for a in arrays(forecast(load | {"critical": series(bad)}, pv)))


def test_forecast_bands_cover_most_of_what_comes():
    load, pv = histories()
    forecaster = HistoryForecaster(site(), load, pv)
    inside = []
    for k in range(0, 8 * 24, 7):
        at = T0 + timedelta(days=28, hours=k)
        grid = TimeGrid.uniform(at, 900.0, 96)
        f = forecaster.forecast(grid, at)
        actual = load["critical"].mean_on(grid)
        low, high = (f.load_kw_quantiles[q]["critical"] for q in ("p10", "p90"))
        assert (low <= f.load_kw["critical"]).all()
        assert (f.load_kw["critical"] <= high).all()
        inside.append((low <= actual) & (actual <= high))
    assert 0.70 < np.mean(inside) < 0.90


def test_forecast_without_bands_gives_none():
    f = forecast(options=ForecastOptions(bands=False))
    assert f.load_kw_quantiles == {}


def test_forecast_prices_are_the_tariffs_and_outages_only_those_announced():
    at = T0 + timedelta(days=30, hours=9)

    def notice(name: str, issued_h: float, start_h: float) -> OutageNotice:
        start = at + timedelta(hours=start_h)
        return OutageNotice(
            id=name, issued_at=at + timedelta(hours=issued_h), start=start, end=start + timedelta(hours=2)
        )

    told, secret, over = notice("a", -1, 5), notice("b", 1, 2), notice("c", -48, -5)
    f = forecast(at=at, notices=(told, secret, over))
    assert f.outages == (told,)
    np.testing.assert_array_equal(f.import_per_kwh, site().tariff.import_prices(f.grid))
    assert set(f.export_per_kwh) == {0.04}
    asked: list[datetime] = []

    def provider(when: datetime) -> tuple[OutageNotice, ...]:
        asked.append(when)
        return (told,)

    assert forecast(at=at, notices=provider).outages == (told,)
    assert asked == [at]


def test_forecast_from_providers_equals_forecast_from_series():
    load, pv = histories()
    at = T0 + timedelta(days=30, hours=9)
    live = forecast(
        {k: (lambda when, s=s: s.before(when)) for k, s in load.items()},
        {k: (lambda when, s=s: s.before(when)) for k, s in pv.items()},
        at,
    )
    for a, b in zip(arrays(live), arrays(forecast(load, pv, at)), strict=True):
        np.testing.assert_allclose(a, b)
    nothing = forecast({"critical": lambda _: None}, {}, at)
    assert any("critical: no history" in r for r in nothing.repairs)


@pytest.mark.parametrize(
    ("load", "pv", "words"),
    [
        ({"boiler": series(np.ones(96))}, {}, "boiler"),
        ({}, {"pv9": series(np.ones(96))}, "pv9"),
        ({"critical": series(np.ones(96), start=datetime(2026, 3, 2))}, {}, "without a time zone"),  # noqa: DTZ001
        ({"critical": series(np.ones(96), step_s=7200.0)}, {}, "7200"),
    ],
)
def test_forecaster_unusable_series_is_refused_with_its_name(load, pv, words):
    with pytest.raises(DataError, match=words):
        HistoryForecaster(site(), load, pv)


def test_forecast_clock_change_moves_the_day_with_the_wall_clock():
    """Lisbon leaves summer time on 2026-10-25: what starts at 08:00 local then starts at 08:00 UTC."""
    zone = ZoneInfo("Europe/Lisbon")
    start = datetime(2026, 9, 28, tzinfo=UTC)
    stamps = [start + timedelta(seconds=900 * i) for i in range(96 * 40)]
    local_h = np.array([(t := s.astimezone(zone)).hour + t.minute / 60 for s in stamps])
    values = np.where((local_h >= 8) & (local_h < 17), 100.0, 20.0)
    lisbon = replace(site(), timezone="Europe/Lisbon")
    forecaster = HistoryForecaster(lisbon, {"critical": series(values, start=start)}, {})
    at = datetime(2026, 10, 24, 12, tzinfo=UTC)
    grid = TimeGrid.uniform(at, 900.0, 192)
    f = forecaster.forecast(grid, at)
    actual = values[int((at - start).total_seconds() // 900) :][:192]
    np.testing.assert_allclose(f.load_kw["critical"], actual, atol=1e-9)


def test_forecast_uneven_start_keeps_energy():
    """A grid that starts inside a quarter hour gives the same energy as the fine one."""
    load, pv = histories()
    at = T0 + timedelta(days=30, hours=9, minutes=7)
    forecaster = HistoryForecaster(site(), load, pv)
    fine = forecaster.forecast(TimeGrid.uniform(at, 60.0, 120), at)
    coarse = forecaster.forecast(TimeGrid.uniform(at, 7200.0, 1), at)
    assert fine.load_kw["critical"].mean() == pytest.approx(coarse.load_kw["critical"][0])
