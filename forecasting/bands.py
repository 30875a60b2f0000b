"""Quantile bands from the forecaster's own past errors, per block of lead time.

Every five hours of the last two weeks is an origin (five, so that they wander through the day). What would
have been forecast there, from what was known there, is compared with what came. Each origin is computed once
and remembered.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ems.timegrid import FloatArray, IntArray
from forecasting.prediction import Prediction
from forecasting.slots import SLOTS_PER_DAY, SLOTS_PER_HOUR, SlotSeries

ORIGIN_EVERY = 5 * SLOTS_PER_HOUR
REACH = 2 * SLOTS_PER_DAY
BLOCK_EDGES_H = (0.0, 1.0, 6.0, 24.0, 48.0)
LEVELS: Mapping[str, float] = {"p10": 0.1, "p90": 0.9}
_ERRORS_MIN = 24

PredictAt = Callable[[int, int, int], Prediction]  # cut, lo, hi


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Error quantile per block of lead, in units of the prediction's scale; learned from data or assumed."""

    error_ratio: Mapping[str, FloatArray]  # level -> (blocks,)
    learned: bool


def block_of(lead_slots: IntArray) -> IntArray:
    """Index of the block of lead time; the last one holds everything later."""
    inner = np.asarray(BLOCK_EDGES_H[1:-1]) * SLOTS_PER_HOUR
    return np.searchsorted(inner, lead_slots, side="right")


@dataclass(slots=True, kw_only=True)
class ErrorMemory:
    """Past predictions of one series and the band that follows from them."""

    window_days: int = 14
    scale_min_ratio: float = 0.1  # where the scale is below this share of its top, errors are not counted
    _past: dict[int, Prediction] = field(default_factory=dict)
    _band: tuple[int, Band | None] | None = None

    def band(self, series: SlotSeries, cut: int, predict: PredictAt) -> Band | None:
        """The band known at slot `cut`, or None while there are too few errors."""
        newest = cut - cut % ORIGIN_EVERY
        if self._band is None or self._band[0] != newest:
            oldest = newest - self.window_days * SLOTS_PER_DAY
            origins = range(oldest, newest, ORIGIN_EVERY)
            for origin in origins:
                if origin not in self._past and origin > series.first:
                    self._past[origin] = predict(origin, origin, origin + REACH)
            for origin in [o for o in self._past if o < oldest]:
                del self._past[origin]
            self._band = newest, self._learn(series, newest, [o for o in origins if o in self._past])
        return self._band[1]

    def _learn(self, series: SlotSeries, newest: int, origins: list[int]) -> Band | None:
        used = [o for o in origins if self._past[o].measured]
        if not used:
            return None
        actual = series.window(used[0], newest + REACH)
        actual[newest - used[0] :] = np.nan  # not known yet
        came = np.stack([actual[o - used[0] : o - used[0] + REACH] for o in used])
        mean = np.stack([self._past[o].mean_kw for o in used])
        scale = np.stack([self._past[o].scale_kw for o in used])
        counted = np.isfinite(came) & (scale >= self.scale_min_ratio * scale.max()) & (scale > 0.0)
        error = np.where(counted, came - mean, 0.0) / np.where(counted, scale, 1.0)
        blocks = block_of(np.arange(REACH))
        out: dict[str, list[float]] = {name: [] for name in LEVELS}
        for block in range(len(BLOCK_EDGES_H) - 1):
            columns = blocks == block
            sample = error[:, columns][counted[:, columns]]
            if len(sample) < _ERRORS_MIN:
                return None
            for name, value in zip(LEVELS, np.quantile(sample, list(LEVELS.values())), strict=True):
                out[name].append(float(value))
        return Band(error_ratio={k: np.array(v) for k, v in out.items()}, learned=True)


def assumed_band(low: float, high: float) -> Band:
    """A band that nobody measured, the same at every lead [ratio of scale]."""
    n = len(BLOCK_EDGES_H) - 1
    return Band(error_ratio={"p10": np.full(n, low), "p90": np.full(n, high)}, learned=False)


def apply_band(band: Band, prediction: Prediction, lead_slots: IntArray) -> dict[str, FloatArray]:
    """Quantile name -> slot values [kW], never on the wrong side of the mean."""
    blocks = block_of(lead_slots)
    low = prediction.mean_kw + band.error_ratio["p10"][blocks] * prediction.scale_kw
    high = prediction.mean_kw + band.error_ratio["p90"][blocks] * prediction.scale_kw
    return {
        "p10": np.clip(low, 0.0, prediction.mean_kw),
        "p90": np.maximum(high, prediction.mean_kw),
    }
