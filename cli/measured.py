"""What a forecaster may know: stored days before, joined with what the historian has measured since."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from ems.points import point_id
from ems.ports import HistoryReader
from ems.series import UniformSeries
from ems.site import Site
from ems.timegrid import FloatArray

_PAGE = 20_000  # samples read at once
_STEP_S = 900.0


@dataclass(slots=True, kw_only=True)
class MeasuredHistory:
    """Mean power per interval by asset, growing as the historian fills; NaN where nothing good was measured.

    `before` holds series that end where the historian begins; all have the same step.
    A feeder's measurement counts as demand only while its breaker is closed.
    """

    site: Site
    reader: HistoryReader
    before: Mapping[str, UniformSeries]
    _grown: dict[str, list[float]] = field(default_factory=dict)
    _begin: datetime | None = None

    def source(self, asset_id: str) -> Callable[[datetime], UniformSeries]:
        """What a forecaster asks at each time of issue."""
        return lambda issued_at: self.series(asset_id, issued_at)

    def series(self, asset_id: str, issued_at: datetime) -> UniformSeries:
        """Everything known of one feeder's demand or one PV plant's available power before `issued_at`."""
        base = self.before[asset_id] if asset_id in self.before else self._nothing(issued_at)
        grown = self._grown.setdefault(asset_id, [])
        wanted = int((issued_at - base.end).total_seconds() // base.step_s)
        while len(grown) < wanted:
            start = base.end + timedelta(seconds=base.step_s * len(grown))
            grown.append(self._mean(asset_id, start, start + timedelta(seconds=base.step_s)))
        values: FloatArray = np.concatenate([base.values, np.asarray(grown[: max(0, wanted)])])
        return UniformSeries(start=base.start, step_s=base.step_s, values=values)

    def _nothing(self, issued_at: datetime) -> UniformSeries:
        """A site without a past: its history begins with the quarter of an hour it is first asked in."""
        if self._begin is None:
            self._begin = issued_at.replace(minute=issued_at.minute // 15 * 15, second=0, microsecond=0)
        return UniformSeries(start=self._begin, step_s=_STEP_S, values=np.zeros(0))

    def _mean(self, asset_id: str, start: datetime, end: datetime) -> float:
        if any(p.id == asset_id for p in self.site.pv):
            available = self._good(point_id(asset_id, "p_available_kw"), start, end)
            values = available or self._good(point_id(asset_id, "p_kw"), start, end)
        else:
            closed = self._good(point_id(asset_id, "closed"), start, end)
            if not closed or min(closed) < 0.5:
                return float("nan")
            values = self._good(point_id(asset_id, "p_kw"), start, end)
        return float(np.mean(values)) if values else float("nan")

    def _good(self, point: str, start: datetime, end: datetime) -> list[float]:
        samples = self.reader.series(point, start, end, _PAGE)
        return [s.value for s in samples if s.value is not None]
