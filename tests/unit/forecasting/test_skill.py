"""Scores with answers known by hand, and the back-test."""

from datetime import timedelta

import numpy as np
import pytest

from ems.errors import DataError
from ems.series import UniformSeries
from forecasting.history import HistoryForecaster
from forecasting.skill import backtest, block_names, pinball, score, score_by_block, spread_origins
from tests.builders import T0, site
from tests.unit.forecasting.test_history import histories, pv_values, series


def test_score_of_four_pairs_by_hand():
    actual = np.array([10.0, 20.0, np.nan, 30.0])
    got = score(actual, np.array([12.0, 16.0, 99.0, 30.0]), 40.0)
    assert got.n == 3
    assert got.nmae_ratio == pytest.approx((2 + 4 + 0) / 3 / 40)
    assert got.nrmse_ratio == pytest.approx(((4 + 16 + 0) / 3) ** 0.5 / 40)
    assert got.bias_ratio == pytest.approx((2 - 4 + 0) / 3 / 40)
    assert got.pinball_ratio is None


@pytest.mark.parametrize(
    ("level", "expected"), [(0.1, (0.1 * 2 + 0.9 * 3) / 2), (0.9, (0.9 * 2 + 0.1 * 3) / 2)]
)
def test_pinball_by_hand(level, expected):
    """One actual 2 above the quantile, one 3 below."""
    assert pinball(np.array([12.0, 7.0]), np.array([10.0, 10.0]), level) == pytest.approx(expected)


def test_score_coverage_counts_what_lies_between_the_outer_quantiles():
    actual = np.arange(10.0)
    low, high = np.full(10, 2.0), np.full(10, 7.0)
    assert score(actual, actual, 10.0, {0.1: low, 0.9: high}).coverage_ratio == pytest.approx(0.6)


def test_score_by_block_puts_leads_where_they_belong():
    lead = np.array([0.0, 0.75, 1.0, 5.75, 6.0, 24.0, 47.75])
    error = np.array([1.0, 1.0, 2.0, 2.0, 3.0, 4.0, 4.0])
    got = score_by_block(lead, np.zeros(7), error, 1.0)
    assert block_names() == ("0-1 h", "1-6 h", "6-24 h", "24-48 h")
    assert [got[b].nmae_ratio for b in block_names()] == [1.0, 2.0, 3.0, 4.0]
    assert got["all"].n == 7


@pytest.mark.parametrize(
    ("actual", "capacity"), [(np.array([np.nan]), 1.0), (np.array([1.0]), 0.0), (np.array([1.0]), np.nan)]
)
def test_score_of_nothing_is_refused(actual, capacity):
    with pytest.raises(DataError, match="nothing to score"):
        score(actual, np.zeros(1), capacity)


def test_origins_wander_through_the_hours():
    origins = spread_origins(T0, T0 + timedelta(days=30), 60)
    assert 55 <= len(origins) <= 60
    assert len({o.hour for o in origins}) >= 12


def test_backtest_history_beats_the_flat_mean_and_leaves_nights_out():
    load, pv = histories()
    capacity = {f.id: f.p_peak_kw for f in site().feeders} | {"pv1": 600.0}
    origins = spread_origins(T0 + timedelta(days=28), T0 + timedelta(days=37), 12)
    forecaster = HistoryForecaster(site(), load, pv)
    got = backtest(forecaster, (load, pv), capacity, origins)
    assert got.origins == 12
    spread = float(np.std(load["critical"].values)) / 120.0
    assert got.load["critical"]["all"].nrmse_ratio < 0.4 * spread
    assert abs(got.load["critical"]["all"].bias_ratio) < 0.02
    assert got.pv["pv1"]["all"].n < 0.6 * got.load["critical"]["all"].n
    coverage = got.pv["pv1"]["all"].coverage_ratio
    assert coverage is not None
    assert 0.6 < coverage < 0.95


def test_backtest_truth_with_gaps_scores_the_rest():
    load, pv = histories()
    holes = pv_values()
    holes[30 * 96 :] = np.nan
    truth: dict[str, UniformSeries] = {"pv1": series(holes)}
    origins = [T0 + timedelta(days=29, hours=9)]
    got = backtest(
        HistoryForecaster(site(), load, pv), (load, truth), dict.fromkeys([*load, "pv1"], 100.0), origins
    )
    assert set(got.pv["pv1"]) == {"0-1 h", "1-6 h", "6-24 h", "all"}
