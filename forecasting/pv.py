"""PV: smart persistence blended into the climatology of the last three weeks.

Smart persistence says: the sky stays as clear as it is, and over some hours returns to what it was over the
last day. How clear it is, is measured against an envelope learned from the site's own last days, so no plane,
shading or soiling has to be known. Near dawn and dusk the ratio of two small numbers is noise; there the last
trustworthy one is kept. Weights and time constant were chosen on one measured plant (docs/forecasting.md).
"""

from dataclasses import dataclass

import numpy as np

from ems.assets import PvParams
from ems.timegrid import FloatArray, IntArray
from forecasting.prediction import Prediction
from forecasting.slots import SLOTS_PER_DAY, SLOTS_PER_HOUR, SlotSeries
from forecasting.sun import Sun
from forecasting.typical import pv_clear_kw, pv_typical_kw


@dataclass(frozen=True, slots=True, kw_only=True)
class PvOptions:
    """The envelope, the mask, and how much weight persistence has at which lead."""

    window_days: int = 21
    envelope_quantile: float = 0.9  # ratio
    low_sun_ratio: float = 0.1  # below this share of the envelope's top the clearness is not measured
    recent_slots: int = 2
    recent_tau_h: float = 4.0  # how fast the present clearness gives way to that of the last day
    stale_slots: int = 8  # so many daylight slots without data: climatology alone
    days_min: int = 3  # fewer days at a slot: nameplate
    lead_h: tuple[float, ...] = (0.25, 1.0, 3.0, 6.0, 12.0, 24.0)
    weight_ratio: tuple[float, ...] = (0.94, 0.75, 0.55, 0.45, 0.40, 0.30)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sky:
    """Per slot of the UTC day (96,): envelope and climatology [kW], and on how many days they rest."""

    envelope_kw: FloatArray
    mean_kw: FloatArray
    days: IntArray


class PvModel:
    """Forecast of one PV plant (available AC power before curtailment) from its own past."""

    def __init__(self, name: str, params: PvParams, sun: Sun, options: PvOptions) -> None:
        self._name = name
        self._params = params
        self._sun = sun
        self._options = options

    def predict(self, series: SlotSeries | None, cut: int, lo: int, hi: int) -> Prediction:
        """Slots [lo, hi) from history that ended at slot `cut`."""
        targets = np.arange(lo, hi)
        height, up = self._sun.middle(targets), self._sun.is_up(targets)
        clear_kw, typical_kw = pv_clear_kw(self._params, height), pv_typical_kw(self._params, height)
        recent = (
            series.window(cut - self._options.window_days * SLOTS_PER_DAY, cut) if series else np.array([])
        )
        sky = self._sky(recent, cut) if np.isfinite(recent).any() else None
        of_day = targets % SLOTS_PER_DAY
        if sky is None or not (sky.days[of_day] >= self._options.days_min).any():
            note = (
                f"{self._name}: under {self._options.days_min} days of history; nameplate and sun height used"
            )
            return self._prediction(typical_kw * up, clear_kw * up, "nameplate", (note,))
        repairs: list[str] = []
        ratio, weight = self._persistence(sky, recent, cut, targets, repairs)
        known = sky.days[of_day] >= self._options.days_min
        blend = weight * ratio * sky.envelope_kw[of_day] + (1.0 - weight) * sky.mean_kw[of_day]
        if missing := int((~known & (up > 0)).sum()):
            repairs.append(f"{self._name}: no history for {missing} daylight quarter hours; nameplate used")
        mean_kw = np.where(known, blend, typical_kw) * up
        scale_kw = np.where(known, sky.envelope_kw[of_day], clear_kw) * up
        return self._prediction(mean_kw, scale_kw, "blend", tuple(repairs))

    def _sky(self, recent: FloatArray, cut: int) -> _Sky:
        table = recent.reshape(-1, SLOTS_PER_DAY)
        days = np.isfinite(table).sum(axis=0)
        high = _column_quantile(table, days, self._options.envelope_quantile)
        mean = np.where(np.isfinite(table), table, 0.0).sum(axis=0) / np.maximum(days, 1)
        shift = cut % SLOTS_PER_DAY  # column j is slot (cut + j) of the UTC day
        rolled = [
            np.roll(a, shift) for a in (np.maximum(np.maximum(high, mean), 0.0), np.maximum(mean, 0.0), days)
        ]
        return _Sky(envelope_kw=rolled[0], mean_kw=rolled[1], days=rolled[2].astype(np.int64))

    def _persistence(
        self, sky: _Sky, recent: FloatArray, cut: int, targets: IntArray, repairs: list[str]
    ) -> tuple[FloatArray, FloatArray]:
        """Expected clearness per target [ratio], and the weight of persistence per target."""
        o = self._options
        last_day = recent[-SLOTS_PER_DAY:]
        envelope = sky.envelope_kw[np.arange(cut - SLOTS_PER_DAY, cut) % SLOTS_PER_DAY]
        lit = np.flatnonzero(envelope > o.low_sun_ratio * sky.envelope_kw.max())
        good = lit[np.isfinite(last_day[lit])]
        if not len(good) or int((lit > good[-1]).sum()) >= o.stale_slots:
            repairs.append(f"{self._name}: the present sky is not measured; climatology alone used")
            return np.zeros(len(targets)), np.zeros(len(targets))
        if (behind := int((lit > good[-1]).sum())) >= o.recent_slots:
            repairs.append(
                f"{self._name}: nothing measured in the last {behind / SLOTS_PER_HOUR:g} h of sun; "
                "the sky before counts"
            )
        newest = good[-o.recent_slots :]
        now = float(last_day[newest].sum() / envelope[newest].sum())
        of_day = float(last_day[good].sum() / envelope[good].sum())
        newest_at = cut - SLOTS_PER_DAY + int(good[-1])
        lead_h = np.maximum(targets - newest_at, 1) / SLOTS_PER_HOUR
        ratio = of_day + (now - of_day) * np.exp(-lead_h / o.recent_tau_h)
        return np.maximum(ratio, 0.0), np.interp(lead_h, o.lead_h, o.weight_ratio)

    def _prediction(
        self, mean_kw: FloatArray, scale_kw: FloatArray, level: str, repairs: tuple[str, ...]
    ) -> Prediction:
        return Prediction(
            mean_kw=np.clip(mean_kw, 0.0, self._params.p_ac_kw),
            scale_kw=scale_kw,
            level=level,
            measured=level == "blend",
            repairs=repairs,
        )


def _column_quantile(table: FloatArray, count: IntArray, q: float) -> FloatArray:
    """Quantile of the finite values of each column (linear between ranks); 0 where there are none."""
    ordered = np.sort(table, axis=0)  # NaN last
    rank = q * np.maximum(count - 1, 0)
    below = np.floor(rank).astype(int)
    above = np.minimum(below + 1, np.maximum(count - 1, 0))
    columns = np.arange(table.shape[1])
    low, high = ordered[below, columns], ordered[above, columns]
    return np.where(count > 0, low + (rank - below) * (high - low), 0.0)
