"""Scenarios: a few ways demand and sun may go, with probabilities, from how the forecaster erred before.

What would have been forecast at this time of day on each of the last days is compared with what came. The
errors of one day are kept together, over all of their 48 h and for every feeder and PV plant at once, so that
their correlation in time and with each other is kept without being modelled. Laid on today's forecast they
are samples, each as likely as the others; the forecast itself is one more. From these the few are chosen that
stand for all with the least distance (`reduced`). No chance is involved: equal input gives equal scenarios.

While there are too few days, paths are drawn inside the p10 and p90 band, with an assumed correlation in time
and a fixed seed (`scenarios_from_bands`). `Forecast.scenario_source` says which it was.

Source: H. Heitsch and W. Roemisch, Scenario reduction algorithms in stochastic programming, Computational
Optimization and Applications 24, 2003, 187-206, 10.1023/A:1021805924152 (fast forward selection; a path
dropped gives its probability to its nearest).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ems.forecast import Forecast, ForecastScenario
from ems.timegrid import FloatArray, IntArray, TimeGrid
from forecasting.bands import REACH, PredictAt
from forecasting.slots import SLOTS_PER_DAY, SlotSeries, slot_start

DAYS = 28  # looked back on
DAYS_MIN = 7  # fewer whole days of errors: bands
MISSING_RATIO_MAX = 0.25  # of a day's path that may be missing; what is, is interpolated
SCALE_MIN_RATIO = 0.1  # where the scale is below this share of its top, the error is taken as none
EXPECTED = "expected"

DRAWN = 64  # paths drawn from bands before they are reduced
DRAWN_TAU_H = 8.0  # assumed: how long a deviation inside the bands lasts
Z_P90 = 1.2816  # of the standard normal distribution
SEED = 20260101

Paths = Mapping[str, FloatArray]  # by asset (T,)


@dataclass(slots=True, kw_only=True)
class PathMemory:
    """Past errors of one series by time of issue, in units of the prediction's scale; None: unusable."""

    _paths: dict[int, FloatArray | None] = field(default_factory=dict)

    def path(self, series: SlotSeries, origin: int, predict: PredictAt) -> FloatArray | None:
        """(REACH,) what came less what would have been forecast at slot `origin` [ratio of scale]."""
        if origin not in self._paths:
            self._paths[origin] = _error_path(series, origin, predict)
        return self._paths[origin]

    def forget(self, before: int) -> None:
        """Drop what is older than a slot."""
        for origin in [o for o in self._paths if o < before]:
            del self._paths[origin]


def _error_path(series: SlotSeries, origin: int, predict: PredictAt) -> FloatArray | None:
    if origin <= series.first:
        return None
    prediction = predict(origin, origin, origin + REACH)
    if not prediction.measured:
        return None
    came, scale = series.window(origin, origin + REACH), prediction.scale_kw
    known = np.isfinite(came)
    if known.mean() < 1.0 - MISSING_RATIO_MAX:
        return None
    counted = scale > max(0.0, SCALE_MIN_RATIO * float(scale.max(initial=0.0)))
    error = np.where(known & counted, came - prediction.mean_kw, 0.0) / np.where(counted, scale, 1.0)
    at = np.arange(REACH)
    out: FloatArray = np.where(known, error, np.interp(at, at[known], error[known]))
    return out


def origins(cut: int) -> list[int]:
    """Times of issue at this time of day whose 48 h have been lived through, newest first."""
    return [cut - REACH - k * SLOTS_PER_DAY for k in range(DAYS)]


def day_of(origin: int) -> str:
    """Label of the errors of one origin."""
    return f"errors of {slot_start(origin):%Y-%m-%d}"


def reduced(samples: FloatArray, count: int) -> tuple[list[int], FloatArray]:
    """Choose `count` of equally likely samples (N, D), the first always: (chosen, probability of each).

    Fast forward selection: the next one is whoever lowers the mean distance to the nearest chosen most.
    """
    n = len(samples)
    square = (samples**2).sum(axis=1)
    distance = np.sqrt(np.maximum(0.0, square[:, None] + square[None, :] - 2.0 * samples @ samples.T))
    chosen, nearest = [0], distance[0].copy()
    while len(chosen) < min(count, n):
        left = np.minimum(nearest[None, :], distance).sum(axis=1)
        left[chosen] = np.inf
        best = int(np.argmin(left))
        if nearest[best] <= 1e-9:  # the rest are copies
            break
        chosen.append(best)
        nearest = np.minimum(nearest, distance[best])
    owner = np.argmin(distance[chosen], axis=0)
    return chosen, np.bincount(owner, minlength=len(chosen)) / n


def chosen_scenarios(
    grid: TimeGrid, samples: Sequence[tuple[str, Paths, Paths]], count: int
) -> tuple[ForecastScenario, ...]:
    """Reduce samples of (label, load by feeder, PV by plant), the expected one first, to `count`.

    They are as far apart as their net load is, in the root of its squares times hours.
    """
    weight = np.sqrt(grid.step_h)
    net = np.array([weight * (_total(load, grid) - _total(pv, grid)) for _, load, pv in samples])
    chosen, probability = reduced(net, count)
    out = []
    for i, share in zip(chosen, probability, strict=True):
        label, load, pv = samples[i]
        out.append(ForecastScenario(label=label, probability_ratio=float(share), load_kw=load, pv_kw=pv))
    return tuple(out)


def _total(paths: Paths, grid: TimeGrid) -> FloatArray:
    out: FloatArray = np.sum([np.zeros(len(grid)), *paths.values()], axis=0)
    return out


def scenarios_from_bands(
    forecast: Forecast, count: int, cap_kw: Mapping[str, float], seed: int = SEED
) -> Forecast:
    """The forecast with `count` scenarios drawn inside its bands; unchanged where it has none.

    Parameters
    ----------
    forecast : with quantiles p10 and p90.
    count : how many, the expected path included.
    cap_kw : rating by PV plant [kW].
    seed : of the draws; the same gives the same scenarios.
    """
    if count < 2 or not {"p10", "p90"} <= set(forecast.load_kw_quantiles):
        return forecast
    rng = np.random.default_rng(seed)
    lags = _lags(forecast.grid)
    load_band, pv_band = forecast.load_kw_quantiles, forecast.pv_kw_quantiles
    samples: list[tuple[str, Paths, Paths]] = [(EXPECTED, forecast.load_kw, forecast.pv_kw)]
    for k in range(DRAWN):
        z_load, z_pv = _walk(rng, lags), _walk(rng, lags)
        load = {f: _inside(mean, load_band, f, z_load) for f, mean in forecast.load_kw.items()}
        pv = {
            p: np.minimum(cap_kw[p], _inside(mean, pv_band, p, z_pv) if p in pv_band.get("p10", {}) else mean)
            for p, mean in forecast.pv_kw.items()
        }
        samples.append((f"drawn {k + 1}", load, pv))
    return replace(
        forecast,
        scenarios=chosen_scenarios(forecast.grid, samples, count),
        scenario_source=f"drawn inside the p10 and p90 band; deviations last {DRAWN_TAU_H:g} h (assumed)",
    )


def _lags(grid: TimeGrid) -> FloatArray:
    """(T,) correlation of each step with the one before it."""
    middle = (grid.offset_s[:-1] + grid.offset_s[1:]) / 7200.0
    return np.concatenate([[0.0], np.exp(-np.diff(middle) / DRAWN_TAU_H)])


def _walk(rng: np.random.Generator, lags: FloatArray) -> FloatArray:
    """(T,) standard normal, correlated from step to step."""
    out, noise = np.zeros(len(lags)), rng.standard_normal(len(lags))
    for t, lag in enumerate(lags):
        out[t] = lag * (out[t - 1] if t else 0.0) + np.sqrt(1.0 - lag**2) * noise[t]
    return out


def _inside(
    mean: FloatArray, band: Mapping[str, Mapping[str, FloatArray]], asset: str, z: FloatArray
) -> FloatArray:
    """A path that is as far from the mean as z says, half a normal distribution to each side of it."""
    up, down = band["p90"][asset] - mean, mean - band["p10"][asset]
    return np.maximum(0.0, mean + np.where(z > 0.0, up, down) * z / Z_P90)


def shifted(path: FloatArray, lead: IntArray, mean_kw: FloatArray, scale_kw: FloatArray) -> FloatArray:
    """Slot values of a prediction with the errors of another day [kW]; beyond their reach there are none."""
    error = np.where(lead < REACH, path[np.clip(lead, 0, REACH - 1)], 0.0)
    return np.maximum(0.0, mean_kw + error * scale_kw)
