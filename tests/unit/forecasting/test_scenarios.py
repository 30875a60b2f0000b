"""Scenarios from past errors: what is kept of them, what is not looked at, and what stands in for them."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from ems.forecast import Forecast
from ems.series import UniformSeries
from ems.timegrid import TimeGrid
from forecasting.history import ForecastOptions, HistoryForecaster
from forecasting.scenarios import DAYS, EXPECTED, reduced, scenarios_from_bands
from tests import builders

T0 = builders.T0
PAST_DAYS = 45
GRID = TimeGrid.blocks(T0, ((900.0, 8), (3600.0, 46)))
SLOTS = 96 * (PAST_DAYS + 3)


def forecast_of(
    past_days: int = PAST_DAYS, count: int = 5, future: float = 1.0, seed: int = 1
) -> tuple[Forecast, np.ndarray]:
    """Demand of the builders' feeders with days that are 30 % high or low together, the sun the other way.

    `future` multiplies everything from T0 on, which nobody may know.
    """
    rng = np.random.default_rng(seed)
    site = builders.site()
    days = rng.choice([-0.3, 0.0, 0.3], PAST_DAYS + 3).repeat(96)
    of_day = np.arange(SLOTS) % 96
    known = np.arange(SLOTS) < 96 * PAST_DAYS
    later = np.where(known, 1.0, future)
    skip = 96 * (PAST_DAYS - past_days)
    start = T0 - timedelta(days=past_days)
    load = {
        f.id: UniformSeries(start=start, step_s=900.0, values=(100.0 * (1.0 + days) * later)[skip:])
        for f in site.feeders
    }
    clear = 400.0 * np.maximum(0.0, np.sin((of_day - 24) / 48.0 * np.pi))
    pv = {"pv1": UniformSeries(start=start, step_s=900.0, values=(clear * (0.6 - days) * later)[skip:])}
    forecaster = HistoryForecaster(site, load, pv, options=ForecastOptions(scenarios=count))
    return forecaster.forecast(GRID, T0), days


def test_scenarios_begin_with_the_expected_path_and_add_up_to_one() -> None:
    forecast, _ = forecast_of()
    first, *others = forecast.scenarios
    assert (first.label, len(others)) == (EXPECTED, 4)
    assert first.load_kw == forecast.load_kw
    assert first.pv_kw == forecast.pv_kw
    assert sum(s.probability_ratio for s in forecast.scenarios) == pytest.approx(1.0)
    assert min(s.probability_ratio for s in forecast.scenarios) > 0.0
    assert forecast.scenario_source == f"errors of {DAYS} of the last {DAYS} days at this time of day"


def test_scenarios_are_the_forecast_with_the_errors_of_a_named_day() -> None:
    """Asked for as many as there are days, every day is there; the one named is checked against its own."""
    forecast, _ = forecast_of(count=DAYS + 1)
    chosen = next(s for s in forecast.scenarios[1:] if s.label.endswith("2026-02-20"))
    site = builders.site()
    rng = np.random.default_rng(1)
    days = rng.choice([-0.3, 0.0, 0.3], PAST_DAYS + 3).repeat(96)
    back = int((T0 - chosen_origin(chosen.label)) / timedelta(days=1)) * 96
    at = 96 * PAST_DAYS - back
    series = {
        f.id: UniformSeries(
            start=T0 - timedelta(days=PAST_DAYS), step_s=900.0, values=100.0 * (1.0 + days[: 96 * PAST_DAYS])
        )
        for f in site.feeders
    }
    then = T0 - timedelta(seconds=900.0 * back)
    past_grid = TimeGrid(start=then, step_s=GRID.step_s)
    said = HistoryForecaster(site, series, {}).forecast(past_grid, then)
    came = UniformSeries(start=then, step_s=900.0, values=100.0 * (1.0 + days[at : at + 192])).mean_on(
        past_grid
    )
    for feeder, mean in forecast.load_kw.items():
        np.testing.assert_allclose(
            chosen.load_kw[feeder], np.maximum(0.0, mean + came - said.load_kw[feeder]), atol=1e-6
        )


def chosen_origin(label: str) -> datetime:
    day = label.removeprefix("errors of ")
    return next(T0 - timedelta(days=k) for k in range(60) if f"{T0 - timedelta(days=k):%Y-%m-%d}" == day)


def test_scenarios_keep_load_and_sun_together() -> None:
    """A day with much load is a day with little sun in these data; so it is in every scenario."""
    forecast, _ = forecast_of(count=8)
    first, *others = forecast.scenarios
    more_kwh = [
        sum(float((s.load_kw[f] - first.load_kw[f]) @ GRID.step_h) for f in s.load_kw) for s in others
    ]
    sun_kwh = [float((s.pv_kw["pv1"] - first.pv_kw["pv1"]) @ GRID.step_h) for s in others]
    assert np.corrcoef(more_kwh, sun_kwh)[0, 1] < -0.7


def test_scenarios_know_nothing_of_the_future() -> None:
    plain, _ = forecast_of()
    other, _ = forecast_of(future=7.0)
    for a, b in zip(plain.scenarios, other.scenarios, strict=True):
        assert (a.label, a.probability_ratio) == (b.label, b.probability_ratio)
        for feeder in a.load_kw:
            np.testing.assert_array_equal(a.load_kw[feeder], b.load_kw[feeder])


def test_scenarios_of_a_young_plant_are_drawn_inside_the_bands() -> None:
    forecast, _ = forecast_of(past_days=6)
    assert "drawn inside the p10 and p90 band" in forecast.scenario_source
    assert forecast.scenarios[0].load_kw == forecast.load_kw
    assert sum(s.probability_ratio for s in forecast.scenarios) == pytest.approx(1.0)
    top = builders.site().pv[0].p_ac_kw
    for s in forecast.scenarios:
        assert all((x >= 0.0).all() for x in (*s.load_kw.values(), *s.pv_kw.values()))
        assert max(x.max() for x in s.pv_kw.values()) <= top


def test_scenarios_from_bands_are_spread_as_the_bands_say() -> None:
    """Of many paths a fifth of all values lies outside a band that holds four fifths."""
    grid = TimeGrid.uniform(T0, 3600.0, 48)
    flat = np.full(48, 100.0)
    forecast = replace(
        forecast_of(count=0)[0],
        grid=grid,
        load_kw={"a": flat},
        pv_kw={},
        load_kw_quantiles={"p10": {"a": 0.8 * flat}, "p90": {"a": 1.4 * flat}},
        pv_kw_quantiles={"p10": {}, "p90": {}},
    )
    paths = np.array([s.load_kw["a"] for s in scenarios_from_bands(forecast, 65, {}).scenarios[1:]])
    assert np.mean(paths > 140.0) == pytest.approx(0.1, abs=0.04)
    assert np.mean(paths < 80.0) == pytest.approx(0.1, abs=0.04)
    assert np.corrcoef(paths[:, :-1].ravel(), paths[:, 1:].ravel())[0, 1] > 0.8
    again = scenarios_from_bands(forecast, 65, {}).scenarios
    np.testing.assert_array_equal(again[3].load_kw["a"], paths[2])


def test_scenarios_are_made_only_when_asked_for() -> None:
    assert forecast_of(count=0)[0].scenarios == ()


def test_reduced_by_hand() -> None:
    """0, 1, 10, 11, 12 on a line, the first always: next comes 11 (left 1 + 1 + 1), then 1, 10 or 12."""
    chosen, share = reduced(np.array([[0.0], [1.0], [10.0], [11.0], [12.0]]), 2)
    assert chosen == [0, 3]
    np.testing.assert_allclose(share, [0.4, 0.6])
    chosen, share = reduced(np.array([[0.0], [1.0], [10.0], [11.0], [12.0]]), 9)
    assert sorted(chosen) == [0, 1, 2, 3, 4]
    assert reduced(np.zeros((4, 2)), 3)[0] == [0]  # copies stand for themselves
