"""What flowed at the point of interconnection, minute by minute, from the historian of a plant."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from ems.ports import HistoryReader
from ems.series import UniformSeries
from ems.timegrid import BoolArray, FloatArray

MINUTE_S = 60
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """(N,) means of minutes; a minute without a good reading counts as nothing, and is told.

    Parameters
    ----------
    import_kw, export_kw : what is imported and exported on balance of each minute [kW].
    reactive_kvar : drawn from the grid [kvar]; None: it is not measured.
    read : whether the minute has a good reading of the power at the POI.
    """

    import_kw: UniformSeries
    export_kw: UniformSeries
    reactive_kvar: UniformSeries | None
    used_kw: dict[str, UniformSeries]
    read: BoolArray

    @property
    def missing(self) -> int:
        """Minutes without a reading."""
        return int((~self.read).sum())

    def gaps(self, count_max: int) -> Iterator[tuple[datetime, datetime]]:
        """The first spans [start, end) without a reading."""
        edges = np.flatnonzero(np.diff(np.concatenate([[True], self.read, [True]]).astype(int)))
        for lo, hi in edges.reshape(-1, 2)[:count_max].tolist():
            yield self._at(lo), self._at(hi)

    def _at(self, minute: int) -> datetime:
        return self.import_kw.start + timedelta(minutes=minute)


def metered(history: HistoryReader, grid: str, pv: list[str], start: datetime, end: datetime) -> Metered:
    """Read it for [start, end), whole minutes of UTC.

    Parameters
    ----------
    grid, pv : ids of the POI and of the plants whose use a contract prices.
    """
    power = _minutes(history, f"{grid}.p_kw", start, end)
    kvar = _minutes(history, f"{grid}.q_kvar", start, end)
    read = np.isfinite(power)
    known = np.where(read, power, 0.0)
    made = UniformSeries(start=start.astimezone(UTC), step_s=float(MINUTE_S), values=np.maximum(known, 0.0))

    def beside(values: FloatArray) -> UniformSeries:
        return replace(made, values=np.maximum(np.where(np.isfinite(values), values, 0.0), 0.0))

    return Metered(
        import_kw=made,
        export_kw=beside(-known),
        reactive_kvar=beside(kvar) if np.isfinite(kvar).any() else None,
        used_kw={p: beside(_minutes(history, f"{p}.p_kw", start, end)) for p in pv},
        read=read,
    )


def _minutes(history: HistoryReader, point: str, start: datetime, end: datetime) -> FloatArray:
    """(N,) mean of each minute, NaN without a good reading; asked for day by day."""
    out = np.full(round((end - start).total_seconds() / MINUTE_S), np.nan)
    day = start
    while day < end:
        for bucket in history.buckets(point, day, min(end, day + _DAY), MINUTE_S):
            i = int((bucket.start - start).total_seconds() // MINUTE_S)
            if bucket.mean is not None and 0 <= i < len(out):
                out[i] = bucket.mean
        day += _DAY
    return out
