"""Measured or simulated series on a uniform grid, labelled by the start of each interval."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from ems.errors import DataError
from ems.timegrid import FloatArray, TimeGrid

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class UniformSeries:
    """`values[i]` is the mean over [start + i * step_s, start + (i + 1) * step_s). NaN marks missing."""

    start: datetime
    step_s: float
    values: FloatArray

    @property
    def end(self) -> datetime:
        """End of the last interval."""
        return self.start + timedelta(seconds=self.step_s * len(self.values))

    def at(self, when: datetime) -> float:
        """Value of the interval that holds `when`; NaN outside."""
        i = int((when - self.start).total_seconds() // self.step_s)
        return float(self.values[i]) if 0 <= i < len(self.values) else float("nan")

    def before(self, when: datetime) -> "UniformSeries":
        """Only the intervals that had ended by `when`: what a forecaster may see."""
        n = int((when - self.start).total_seconds() // self.step_s)
        return UniformSeries(start=self.start, step_s=self.step_s, values=self.values[: max(0, n)])

    def mean_on(self, grid: TimeGrid) -> FloatArray:
        """(T,) mean over each step of `grid`, exact also where steps and intervals do not line up.

        Raises
        ------
        DataError : the grid is not covered, or a value in it is NaN.
        """
        edges = (grid.start - self.start).total_seconds() + grid.offset_s
        if edges[0] < -1e-6 or edges[-1] > self.step_s * len(self.values) + 1e-6:
            raise DataError(f"series covers {self.start}..{self.end}, asked for {grid.start}..{grid.end}")
        energy = np.concatenate([[0.0], np.cumsum(self.values) * self.step_s])
        at_edges = np.interp(edges, np.arange(len(energy)) * self.step_s, energy)
        out: FloatArray = np.diff(at_edges) / np.asarray(grid.step_s)
        if not np.isfinite(out).all():
            bad = int(np.flatnonzero(~np.isfinite(out))[0])
            raise DataError(f"series has a gap at or before {grid.starts()[bad]}")
        return out


def lattice_means(series: UniformSeries, lattice_s: float) -> tuple[int, FloatArray]:
    """Number (since 1970) of the first step of a lattice that a series reaches, and the mean over each step.

    Parameters
    ----------
    lattice_s : length of a step, counted from 1970-01-01T00:00Z [s].

    Notes
    -----
    A step that is not at least half covered by finite values is NaN. By prefix sums: no step depends on
    anything that comes after it.
    """
    raw, step_s = np.asarray(series.values, dtype=float), series.step_s
    start_s, good = (series.start - _EPOCH).total_seconds(), np.isfinite(raw)
    first = int(start_s // lattice_s)
    last = int(np.ceil((start_s + step_s * len(raw)) / lattice_s))
    at = np.concatenate([[0.0], np.cumsum(np.full(len(raw), step_s))])
    energy = np.concatenate([[0.0], np.cumsum(np.where(good, raw, 0.0) * step_s)])
    covered = np.concatenate([[0.0], np.cumsum(good * step_s)])
    edges = np.arange(first, last + 1) * lattice_s - start_s
    width = np.diff(np.interp(edges, at, covered))
    total = np.diff(np.interp(edges, at, energy))
    enough = width >= 0.5 * lattice_s - 1e-6
    return first, np.where(enough, total / np.where(enough, width, 1.0), np.nan)
