"""Load: mean of the last days of the same type, plus the present deviation dying away.

The ladder, per quarter hour: days of the same type -> any last days -> the typical shape, scaled to what was
measured. A day type is weekday, Saturday or Sunday in the site's local time.
"""

from dataclasses import dataclass

import numpy as np

from ems.timegrid import FloatArray, IntArray
from forecasting.prediction import Prediction
from forecasting.slots import (
    DAY_TYPE_NAMES,
    SLOTS_PER_DAY,
    SLOTS_PER_HOUR,
    LocalCalendar,
    SlotSeries,
    day_types,
)
from forecasting.typical import load_shape


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How far back to look and how fast a deviation dies."""

    window_days: int = 35
    days_of_type: tuple[int, int, int] = (5, 3, 3)  # weekday, Saturday, Sunday
    any_days: int = 3
    deviation_tau_h: float = 4.0
    recent_slots: int = 2  # the deviation is their mean
    stale_slots: int = 8  # older than that: no deviation


@dataclass(frozen=True, slots=True, kw_only=True)
class _Days:
    """History as a table: one row a local day, oldest first, one column a slot of the day."""

    table_kw: FloatArray  # (D, 96)
    types: IntArray  # (D,)
    first_day: int


class LoadModel:
    """Forecast of one feeder from its own past."""

    def __init__(self, name: str, p_peak_kw: float, calendar: LocalCalendar, options: LoadOptions) -> None:
        self._name = name
        self._peak_kw = p_peak_kw
        self._calendar = calendar
        self._options = options

    def predict(self, series: SlotSeries | None, cut: int, lo: int, hi: int) -> Prediction:
        """Slots [lo, hi) from history that ended at slot `cut`."""
        local = self._calendar.local(lo, hi)
        days, slots = local // SLOTS_PER_DAY, local % SLOTS_PER_DAY
        types = day_types(days)
        shape_kw = self._peak_kw * load_shape(slots, types)
        if series is None or not np.isfinite(recent := self._window(series, cut)).any():
            note = f"{self._name}: no history; typical shape of a {self._peak_kw:g} kW peak used"
            return _prediction(shape_kw, "typical", False, (note,))
        past = self._by_day(recent, cut)
        repairs: list[str] = []
        mean_kw, level = self._profiles(
            past, (types, slots), shape_kw * self._shape_scale(recent, cut), repairs
        )
        mean_kw = mean_kw + self._deviation(past, recent, cut, np.arange(lo, hi), repairs)
        return _prediction(np.maximum(mean_kw, 0.0), level, True, tuple(repairs))

    def _window(self, series: SlotSeries, cut: int) -> FloatArray:
        return series.window(cut - self._options.window_days * SLOTS_PER_DAY, cut)

    def _by_day(self, recent: FloatArray, cut: int) -> _Days:
        """The hour that a clock change repeats counts once: its first passage."""
        local = self._calendar.local(cut - len(recent), cut)[::-1]
        day = local // SLOTS_PER_DAY
        first = int(day[-1])
        table = np.full((int(day[0]) - first + 1, SLOTS_PER_DAY), np.nan)
        table[day - first, local % SLOTS_PER_DAY] = recent[::-1]
        return _Days(table_kw=table, types=day_types(np.arange(first, first + len(table))), first_day=first)

    def _profiles(
        self, past: _Days, wanted: tuple[IntArray, IntArray], shape_kw: FloatArray, repairs: list[str]
    ) -> tuple[FloatArray, str]:
        """Day-type means where there are any, else any days, else the scaled shape."""
        types, slots = wanted
        any_kw, any_n = _last_days(past.table_kw, self._options.any_days)
        mean_kw = np.where(any_n[slots] > 0, any_kw[slots], shape_kw)
        own = np.zeros(len(types), dtype=bool)
        for kind, count in enumerate(self._options.days_of_type):
            if (here := types == kind).any():
                type_kw, type_n = _last_days(past.table_kw[past.types == kind], count)
                known = here & (type_n[slots] > 0)
                mean_kw = np.where(known, type_kw[slots], mean_kw)
                own |= known
                if missing := int((here & ~known).sum()):
                    of = int(here.sum())
                    repairs.append(
                        f"{self._name}: no {DAY_TYPE_NAMES[kind]} history for {missing} of {of} quarter "
                        "hours; mean of the last days used"
                    )
        shaped = int((~own & (any_n[slots] == 0)).sum())
        if shaped:
            repairs.append(f"{self._name}: no history for {shaped} quarter hours; typical shape used")
        level = "day-type" if own.all() else "typical" if shaped > len(own) // 2 else "last-days"
        return mean_kw, level

    def _shape_scale(self, recent: FloatArray, cut: int) -> float:
        """Measured over typical energy of the last day [ratio]."""
        last = recent[-SLOTS_PER_DAY:]
        good = np.isfinite(last)
        if not good.any():
            return 1.0
        local = self._calendar.local(cut - len(last), cut)
        shape = self._peak_kw * load_shape(local % SLOTS_PER_DAY, day_types(local // SLOTS_PER_DAY))
        return float(last[good].sum() / shape[good].sum())

    def _deviation(
        self, past: _Days, recent: FloatArray, cut: int, targets: IntArray, repairs: list[str]
    ) -> FloatArray:
        """How far the load is from its profile now, dying away over the horizon [kW]."""
        o = self._options
        near = np.flatnonzero(np.isfinite(recent[-o.stale_slots :]))[-o.recent_slots :]
        if not len(near):
            repairs.append(f"{self._name}: nothing measured in the last {o.stale_slots / SLOTS_PER_HOUR:g} h")
            return np.zeros(len(targets))
        if (behind := o.stale_slots - 1 - int(near[-1])) >= o.recent_slots:
            repairs.append(
                f"{self._name}: nothing measured in the last {behind / SLOTS_PER_HOUR:g} h; "
                "what was before counts"
            )
        at = cut - o.stale_slots + near
        local = self._calendar.local(int(at[0]), int(at[-1]) + 1)[at - at[0]]
        gaps = [
            self._gap(past, int(m) // SLOTS_PER_DAY - past.first_day, int(m) % SLOTS_PER_DAY) for m in local
        ]
        usable = [g for g in gaps if np.isfinite(g)]
        if not usable:
            return np.zeros(len(targets))
        lead_h = np.maximum(targets - at[-1], 1) / SLOTS_PER_HOUR
        decay: FloatArray = np.exp(-lead_h / o.deviation_tau_h)
        return float(np.mean(usable)) * decay

    def _gap(self, past: _Days, row: int, slot: int) -> float:
        """Measured minus what older days of the same type (else any older days) would have said [kW]."""
        older = past.table_kw[:row, slot]
        kind = int(past.types[row])
        for column, count in (
            (older[past.types[:row] == kind], self._options.days_of_type[kind]),
            (older, self._options.any_days),
        ):
            known = column[np.isfinite(column)][-count:]
            if len(known):
                return float(past.table_kw[row, slot] - known.mean())
        return float("nan")


def _last_days(table: FloatArray, count: int) -> tuple[FloatArray, IntArray]:
    """Mean of the newest `count` finite values of each column, and how many there were."""
    newest_first = table[::-1]
    good = np.isfinite(newest_first)
    use = good & (np.cumsum(good, axis=0) <= count)
    n = use.sum(axis=0)
    total = np.where(use, newest_first, 0.0).sum(axis=0)
    return total / np.maximum(n, 1), n


def _prediction(mean_kw: FloatArray, level: str, measured: bool, repairs: tuple[str, ...]) -> Prediction:
    return Prediction(
        mean_kw=mean_kw, scale_kw=np.ones(len(mean_kw)), level=level, measured=measured, repairs=repairs
    )
