"""How good forecasts were: errors by block of lead time, and a rolling back-test without leakage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np

from ems.errors import DataError
from ems.ports import Forecaster
from ems.series import UniformSeries
from ems.timegrid import BoolArray, FloatArray, TimeGrid
from forecasting.bands import BLOCK_EDGES_H, LEVELS
from forecasting.slots import SLOT_S, SlotSeries, slot_of, to_slots

ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Errors of `n` pairs. All shares are of the declared capacity; bias is forecast less actual.

    `pinball_ratio` is the mean over the quantiles that were given, `coverage_ratio` the share of actuals
    between the lowest and the highest of them; both None without quantiles.
    """

    n: int
    nmae_ratio: float
    nrmse_ratio: float
    bias_ratio: float
    pinball_ratio: float | None = None
    coverage_ratio: float | None = None


def pinball(actual: FloatArray, quantile: FloatArray, level: float) -> float:
    """Mean pinball loss of one quantile, in the unit of `actual` (R. Koenker and G. Bassett, 1978)."""
    error = actual - quantile
    return float(np.mean(np.maximum(level * error, (level - 1.0) * error)))


def score(
    actual: FloatArray,
    forecast: FloatArray,
    capacity: float,
    quantiles: Mapping[float, FloatArray] | None = None,
) -> Scores:
    """Scores of pairs; pairs with an actual that is not finite are left out.

    Parameters
    ----------
    actual, forecast : (N,) in one unit.
    capacity : what errors are related to, same unit.
    quantiles : level in (0, 1) -> (N,).

    Raises
    ------
    DataError : no pair is left, or the capacity is not positive.
    """
    keep = np.isfinite(actual)
    if not keep.any() or not capacity > 0.0:
        raise DataError(f"nothing to score: {int(keep.sum())} pairs, capacity {capacity:g}")
    error = forecast[keep] - actual[keep]
    mean_pinball = coverage = None
    if quantiles:
        levels = sorted(quantiles)
        mean_pinball = (
            float(np.mean([pinball(actual[keep], quantiles[q][keep], q) for q in levels])) / capacity
        )
        low, high = quantiles[levels[0]][keep], quantiles[levels[-1]][keep]
        coverage = float(np.mean((low <= actual[keep]) & (actual[keep] <= high)))
    return Scores(
        n=int(keep.sum()),
        nmae_ratio=float(np.abs(error).mean()) / capacity,
        nrmse_ratio=float(np.sqrt((error**2).mean())) / capacity,
        bias_ratio=float(error.mean()) / capacity,
        pinball_ratio=mean_pinball,
        coverage_ratio=coverage,
    )


def block_names() -> tuple[str, ...]:
    """Names of the blocks of lead time, e.g. `0-1 h`."""
    return tuple(f"{a:g}-{b:g} h" for a, b in pairwise(BLOCK_EDGES_H))


def score_by_block(
    lead_h: FloatArray,
    actual: FloatArray,
    forecast: FloatArray,
    capacity: float,
    quantiles: Mapping[float, FloatArray] | None = None,
) -> dict[str, Scores]:
    """Scores of each block of lead time that has pairs, and of all together under `all`."""
    out = {}
    masks: list[tuple[str, BoolArray]] = [
        (name, (lead_h >= lo) & (lead_h < hi))
        for name, lo, hi in zip(block_names(), BLOCK_EDGES_H[:-1], BLOCK_EDGES_H[1:], strict=True)
    ]
    for name, mask in [*masks, (ALL, np.ones(len(lead_h), dtype=bool))]:
        if np.isfinite(actual[mask]).any():
            part = None if quantiles is None else {q: v[mask] for q, v in quantiles.items()}
            out[name] = score(actual[mask], forecast[mask], capacity, part)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestResult:
    """Scores per asset and block of lead, and how many origins they rest on."""

    load: Mapping[str, Mapping[str, Scores]]
    pv: Mapping[str, Mapping[str, Scores]]
    origins: int


def backtest(
    forecaster: Forecaster,
    truth: tuple[Mapping[str, UniformSeries], Mapping[str, UniformSeries]],
    capacity: Mapping[str, float],
    origins: Sequence[datetime],
    horizon_h: float = 48.0,
) -> BacktestResult:
    """Ask for a forecast at each origin and compare it with what came.

    The forecaster must keep to what was known at the origin; HistoryForecaster does.

    Parameters
    ----------
    forecaster : what is judged.
    truth : demand by feeder and available power by PV asset [kW].
    capacity : by asset id, what errors are related to [kW].
    origins : times of issue; take them over all hours of the day.
    horizon_h : how far to look [h].

    Notes
    -----
    PV is scored only where forecast or truth is above 1 % of capacity: nights would flatter it.
    """
    slots = (
        {k: to_slots(k, s) for k, s in truth[0].items()},
        {k: to_slots(k, s) for k, s in truth[1].items()},
    )
    steps = round(horizon_h * 3600.0 / SLOT_S)
    rows: tuple[dict[str, list[FloatArray]], dict[str, list[FloatArray]]] = ({}, {})
    for origin in origins:
        f = forecaster.forecast(TimeGrid.uniform(origin, SLOT_S, steps), origin)
        parts = ((f.load_kw, f.load_kw_quantiles), (f.pv_kw, f.pv_kw_quantiles))
        for kind, (mean, bands) in enumerate(parts):
            for asset, series in slots[kind].items():
                row = [_truth(series, origin, steps), mean[asset]]
                row += [bands[name][asset] for name in LEVELS if bands]
                rows[kind].setdefault(asset, []).append(np.stack(row))
    lead_h = np.tile(np.arange(steps) * SLOT_S / 3600.0, len(origins))
    load = {a: _scored(lead_h, r, capacity[a], 0.0) for a, r in rows[0].items()}
    pv = {a: _scored(lead_h, r, capacity[a], 0.01) for a, r in rows[1].items()}
    return BacktestResult(load=load, pv=pv, origins=len(origins))


def _truth(series: SlotSeries, origin: datetime, steps: int) -> FloatArray:
    lo = slot_of(origin)
    return series.window(lo, lo + steps)


def _scored(
    lead_h: FloatArray, rows: list[FloatArray], capacity: float, floor_ratio: float
) -> dict[str, Scores]:
    table = np.concatenate(rows, axis=1)
    actual, mean = table[0].copy(), table[1]
    if floor_ratio > 0.0:
        actual[np.maximum(actual, mean) <= floor_ratio * capacity] = np.nan
    quantiles = {q: table[2 + i] for i, q in enumerate(LEVELS.values())} if len(table) > 2 else None
    return score_by_block(lead_h, actual, mean, capacity, quantiles)


def spread_origins(start: datetime, end: datetime, count: int) -> list[datetime]:
    """`count` origins over [start, end), on quarter hours, that wander through the hours of the day."""
    quarters = int((end - start).total_seconds() // SLOT_S)
    every = max(1, quarters // max(1, count))
    every += 1 if every % 4 == 0 else 0  # not always at the same hours
    return [start + timedelta(seconds=SLOT_S * every * i) for i in range(count) if every * i < quarters]
