"""What a forecaster may know: stored days before, joined with what the edge has measured since.

The planner process asks the historian, a run on a virtual clock the samples it has just kept: one rule.
"""

import math
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np

from ems.points import point_id
from ems.records import Sample
from ems.series import UniformSeries
from ems.site import Site
from ems.telemetry import Quality, Reading, Snapshot
from ems.timegrid import FloatArray
from forecasting.history import ForecastOptions, HistoryForecaster, NoticeSource
from forecasting.slots import slot_start, to_slots

_PAGE = 20_000  # samples read at once
_STEP_S = 900.0
HOLD_S_MAX = 60.0  # so long a sample stands at most where the next one is missing [s]
LOOK_BACK_S = (
    86400.0  # so far before the first question the samples are asked, where nothing else is known [s]
)
LATE_STEPS = 16  # so many of the newest steps are asked again while nothing is known of them


class SampleSource(Protocol):
    """Where the samples are; `ems.ports.HistoryReader` is one."""

    def series(self, point: str, start: datetime, end: datetime, limit: int) -> Sequence[Sample]:
        """Samples of one point in [start, end), oldest first, at most `limit`."""
        ...


@dataclass(slots=True, kw_only=True)
class MeasuredHistory:
    """Mean power per interval by asset, growing with the samples; NaN where nothing good was measured.

    `before` holds series that end where the samples begin; all have the same step.
    A feeder's measurement counts as demand only while its breaker is closed.
    A sample counts for the time until the next one, at most `hold_s_max` [s].
    A recorder that was held up writes late: steps of the last hours that were empty are asked again.
    """

    site: Site
    reader: SampleSource
    before: Mapping[str, UniformSeries]
    hold_s_max: float = HOLD_S_MAX
    grown: dict[str, "array[float]"] = field(default_factory=dict)
    _begin: datetime | None = None
    _bases: dict[str, UniformSeries] = field(default_factory=dict)

    def source(self, asset_id: str) -> Callable[[datetime], UniformSeries]:
        """What a forecaster asks at each time of issue."""
        return lambda issued_at: self.series(asset_id, issued_at)

    def series(self, asset_id: str, issued_at: datetime) -> UniformSeries:
        """Everything known of one feeder's demand or one PV plant's available power before `issued_at`."""
        base = self.before[asset_id] if asset_id in self.before else self._nothing(issued_at)
        self._bases[asset_id] = base
        grown = self.grown.setdefault(asset_id, array("d"))
        wanted = int((issued_at - base.end).total_seconds() // base.step_s)
        if not grown:  # what lies further back would take too long to read
            grown.extend([math.nan] * max(0, wanted - round(LOOK_BACK_S / base.step_s)))
        late = range(max(0, wanted - LATE_STEPS), min(wanted, len(grown)))
        new = range(len(grown), wanted)
        grown.extend([math.nan] * len(new))
        for n in [*(n for n in late if math.isnan(grown[n])), *new]:
            start = base.end + timedelta(seconds=base.step_s * n)
            grown[n] = self._mean(asset_id, start, start + timedelta(seconds=base.step_s))
        values: FloatArray = np.concatenate([base.values, np.asarray(grown)[: max(0, wanted)]])
        return UniformSeries(start=base.start, step_s=base.step_s, values=values)

    def known(self, steps_max: int) -> dict[str, UniformSeries]:
        """The newest `steps_max` means of each asset that was asked for: fit to be `before` of another."""
        out = {}
        for asset_id, grown in self.grown.items():
            base = self._bases[asset_id]
            values = np.concatenate([base.values, np.asarray(grown)])
            first = max(0, len(values) - steps_max)
            start = base.start + timedelta(seconds=base.step_s * first)
            out[asset_id] = UniformSeries(start=start, step_s=base.step_s, values=values[first:])
        return out

    def _nothing(self, issued_at: datetime) -> UniformSeries:
        """Nothing is known from before: its history begins a day before it is first asked."""
        if self._begin is None:
            quarter = issued_at.replace(minute=issued_at.minute // 15 * 15, second=0, microsecond=0)
            self._begin = quarter - timedelta(seconds=LOOK_BACK_S)
        return UniformSeries(start=self._begin, step_s=_STEP_S, values=np.zeros(0))

    def _mean(self, asset_id: str, start: datetime, end: datetime) -> float:
        if any(p.id == asset_id for p in self.site.pv):
            available = self._held(point_id(asset_id, "p_available_kw"), start, end)
            return available if np.isfinite(available) else self._held(point_id(asset_id, "p_kw"), start, end)
        samples = self.reader.series(point_id(asset_id, "closed"), start, end, _PAGE)
        closed = [s.value for s in samples if _is_good(s) and s.value is not None]
        if not closed or min(closed) < 0.5:
            return float("nan")
        return self._held(point_id(asset_id, "p_kw"), start, end)

    def _held(self, point: str, start: datetime, end: datetime) -> float:
        return held_mean(self.reader.series(point, start, end, _PAGE), end, self.hold_s_max)


def held_mean(samples: Sequence[Sample], end: datetime, hold_s_max: float) -> float:
    """Mean of the good values, each for the time until the next sample or `end`; NaN where none is good.

    With samples at equal distances it is their mean. Where the edge cycles faster for a while, these minutes
    count no more than others.
    """
    total = weight_s = 0.0
    untils = [*(s.at for s in samples[1:]), end] if samples else []
    for sample, until in zip(samples, untils, strict=True):
        if _is_good(sample) and sample.value is not None:
            held_s = min((until - sample.at).total_seconds(), hold_s_max)
            total += sample.value * held_s
            weight_s += held_s
    return total / weight_s if weight_s > 0.0 else float("nan")


def _is_good(sample: Sample) -> bool:
    return sample.quality is Quality.GOOD


def quarter_hours(name: str, series: UniformSeries, until: datetime) -> UniformSeries:
    """What of a series had ended by `until`, as means over 15 minutes.

    Where the steps divide a quarter of an hour without a gap, each mean is taken by itself, to the last bit
    as the demo stores its past: differences of running sums are off by 1e-10 kW, enough to tip a solver.
    """
    known = series.before(until)
    slots = to_slots(name, known)
    start, values = slot_start(slots.first), slots.values.copy()
    per = round(_STEP_S / series.step_s)
    if start == series.start and per * series.step_s == _STEP_S:
        whole = len(known.values) // per
        exact = known.values[: whole * per].reshape(-1, per).mean(axis=1)
        values[:whole] = np.where(np.isfinite(exact), exact, values[:whole])
    return UniformSeries(start=start, step_s=_STEP_S, values=values)


class MemorySamples:
    """The latest samples of what a forecaster needs, for a run without a historian.

    Parameters
    ----------
    site : its feeders and PV plants are kept.
    """

    def __init__(self, site: Site) -> None:
        points = [point_id(f.id, name) for f in site.feeders for name in ("p_kw", "closed")]
        points += [point_id(p.id, name) for p in site.pv for name in ("p_kw", "p_available_kw")]
        self._points = tuple(points)
        self.rows: deque[tuple[datetime, Mapping[str, Reading]]] = deque()

    def add(self, snapshot: Snapshot) -> None:
        """Keep what one cycle saw."""
        readings = snapshot.readings
        self.rows.append((snapshot.at, {p: readings[p] for p in self._points if p in readings}))

    def series(self, point: str, start: datetime, end: datetime, limit: int) -> Sequence[Sample]:
        """As a historian gives them."""
        found = ((at, row[point]) for at, row in self.rows if start <= at < end and point in row)
        return [Sample(at=at, value=r.value, quality=r.quality) for at, r in found][:limit]

    def forget(self, before: datetime) -> None:
        """Drop what is older."""
        while self.rows and self.rows[0][0] < before:
            self.rows.popleft()


def history_forecaster(
    site: Site, measured: MeasuredHistory, notices: NoticeSource, options: ForecastOptions | None = None
) -> HistoryForecaster:
    """A forecaster over everything measured so far."""
    return HistoryForecaster(
        site,
        load=_sources(measured, (f.id for f in site.feeders)),
        pv=_sources(measured, (p.id for p in site.pv)),
        notices=notices,
        options=options,
    )


def _sources(measured: MeasuredHistory, ids: Iterable[str]) -> dict[str, Callable[[datetime], UniformSeries]]:
    return {i: measured.source(i) for i in ids}
