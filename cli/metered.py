"""What flowed at the point of interconnection, by minutes or quarters, from the historian of a plant."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from ems.ports import HistoryReader
from ems.series import UniformSeries
from ems.timegrid import BoolArray, FloatArray

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """(N,) means of steps; a step without a good reading counts as nothing, and is told.

    Parameters
    ----------
    import_kw, export_kw : what is imported and exported on balance of each step [kW].
    reactive_kvar : drawn from the grid [kvar]; None: it is not measured.
    read : whether the step has a good reading of the power at the POI.
    """

    import_kw: UniformSeries
    export_kw: UniformSeries
    reactive_kvar: UniformSeries | None
    used_kw: dict[str, UniformSeries]
    read: BoolArray

    @property
    def missing(self) -> int:
        """Minutes without a reading."""
        return int((~self.read).sum()) * self.step_min

    @property
    def step_min(self) -> int:
        """Length of a step [min]."""
        return round(self.import_kw.step_s / 60.0)

    def gaps(self, count_max: int) -> Iterator[tuple[datetime, datetime]]:
        """The first spans [start, end) without a reading."""
        edges = np.flatnonzero(np.diff(np.concatenate([[True], self.read, [True]]).astype(int)))
        for lo, hi in edges.reshape(-1, 2)[:count_max].tolist():
            yield self._at(lo), self._at(hi)

    def _at(self, step: int) -> datetime:
        return self.import_kw.start + timedelta(minutes=step * self.step_min)


def metered(
    history: HistoryReader, grid: str, pv: list[str], start: datetime, end: datetime, step_s: int = 60
) -> Metered:
    """Read it for [start, end), whole steps of UTC.

    Parameters
    ----------
    step_s : whole minutes [s].
    grid, pv : ids of the POI and of the plants whose use a contract prices.
    """
    power = _means(history, f"{grid}.p_kw", start, end, step_s)
    kvar = _means(history, f"{grid}.q_kvar", start, end, step_s)
    read = np.isfinite(power)
    known = np.where(read, power, 0.0)
    made = UniformSeries(start=start.astimezone(UTC), step_s=float(step_s), values=np.maximum(known, 0.0))

    def beside(values: FloatArray) -> UniformSeries:
        return replace(made, values=np.maximum(np.where(np.isfinite(values), values, 0.0), 0.0))

    return Metered(
        import_kw=made,
        export_kw=beside(-known),
        reactive_kvar=beside(kvar) if np.isfinite(kvar).any() else None,
        used_kw={p: beside(_means(history, f"{p}.p_kw", start, end, step_s)) for p in pv},
        read=read,
    )


def _means(history: HistoryReader, point: str, start: datetime, end: datetime, step_s: int) -> FloatArray:
    """(N,) mean of each step, NaN without a good reading; asked for day by day."""
    out = np.full(-int(-(end - start).total_seconds() // step_s), np.nan)
    day = start
    while day < end:
        for bucket in history.buckets(point, day, min(end, day + _DAY), step_s):
            i = int((bucket.start - start).total_seconds() // step_s)
            if bucket.mean is not None and 0 <= i < len(out):
                out[i] = bucket.mean
        day += _DAY
    return out
