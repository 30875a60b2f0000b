"""A grid of half-open time steps, possibly of unequal length, labelled by their start."""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeGrid:
    """Steps [start_t, start_t + step_t); power is the mean over a step, stored energy is at its end."""

    start: datetime
    step_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.start.tzinfo is None:
            raise ValueError("a time grid starts at an aware UTC datetime")
        if not self.step_s or min(self.step_s) <= 0:
            raise ValueError("a time grid has at least one step, each longer than 0 s")

    @classmethod
    def uniform(cls, start: datetime, step_s: float, count: int) -> Self:
        """`count` equal steps of `step_s` [s]."""
        return cls(start=start.astimezone(UTC), step_s=(float(step_s),) * count)

    @classmethod
    def blocks(cls, start: datetime, blocks: tuple[tuple[float, int], ...]) -> Self:
        """Steps from (step_s, count) blocks, e.g. ((900, 24), (1800, 12), (3600, 36)) for 48 h."""
        return cls(start=start.astimezone(UTC), step_s=tuple(float(s) for s, n in blocks for _ in range(n)))

    def __len__(self) -> int:
        return len(self.step_s)

    @property
    def step_h(self) -> FloatArray:
        """(T,) step lengths [h]; read-only."""
        return _lengths_h(self.step_s)

    @property
    def offset_s(self) -> FloatArray:
        """(T + 1,) step edges, seconds after `start` [s]; the last is the end of the horizon. Read-only."""
        return _edges_s(self.step_s)

    @property
    def end(self) -> datetime:
        """End of the last step."""
        return self.start + timedelta(seconds=float(sum(self.step_s)))

    def starts(self) -> list[datetime]:
        """T aware UTC starts of the steps."""
        return list(_starts(self.start, self.step_s))

    def index_at(self, when: datetime) -> int | None:
        """Index of the step that holds `when`, or None outside the grid."""
        offset_s = (when - self.start).total_seconds()
        edges = _edges_listed(self.step_s)
        if not 0.0 <= offset_s < edges[-1]:
            return None
        return bisect_right(edges, offset_s) - 1


# A plan asks its grid dozens of times, and the next plan's steps are mostly the same.
@lru_cache(maxsize=64)
def _lengths_h(step_s: tuple[float, ...]) -> FloatArray:
    return _read_only(np.asarray(step_s) / 3600.0)


@lru_cache(maxsize=64)
def _edges_s(step_s: tuple[float, ...]) -> FloatArray:
    return _read_only(np.concatenate([[0.0], np.cumsum(step_s)]))


@lru_cache(maxsize=64)
def _edges_listed(step_s: tuple[float, ...]) -> list[float]:
    edges: list[float] = _edges_s(step_s).tolist()
    return edges


@lru_cache(maxsize=64)
def _starts(start: datetime, step_s: tuple[float, ...]) -> tuple[datetime, ...]:
    return tuple(start + timedelta(seconds=s) for s in _edges_s(step_s)[:-1].tolist())


def _read_only(x: FloatArray) -> FloatArray:
    x.setflags(write=False)
    return x
