"""Rollups: what a span of readings was at least, at most and on average, and how good. Pure.

A bucket is [start, start + length), aligned to 1970. Least, most and mean are those of the good values alone;
`count` counts every reading, `good` those. Qualities are a mask of all that were seen, so that buckets join
without losing what was in them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.historian.archive.segment import ROLLUPS, Table
from connectors.historian.schema import QUALITIES, QUALITY_CODES
from ems.telemetry import Quality

MINUTE_MS, QUARTER_MS = 60_000, 900_000
# From what may be relied on to what says nothing at all.
SEVERITY = (
    Quality.GOOD,
    Quality.OUT_OF_RANGE,
    Quality.FROZEN,
    Quality.STALE,
    Quality.DEVICE_BAD,
    Quality.NOT_FINITE,
    Quality.COMM_FAILED,
)
GOOD = QUALITY_CODES[Quality.GOOD]


def worst(mask: int) -> Quality:
    """The worst of the qualities in a mask."""
    seen = [quality for code, quality in QUALITIES.items() if mask >> code & 1]
    return max(seen, key=SEVERITY.index)


def rolled_up(readings: Table, every_ms: int) -> dict[str, Any]:
    """Buckets of the readings of one point, in order of time; none where there are no readings."""
    at_ms, value, quality = (readings[name] for name in ("at_ms", "value", "quality"))
    good = (quality == GOOD) & ~np.isnan(value)
    part = {
        "at_ms": at_ms - at_ms % every_ms,
        "low": np.where(good, value, np.nan),
        "high": np.where(good, value, np.nan),
        "mean": np.where(good, value, np.nan),
        "count": np.ones(len(at_ms), dtype=np.int64),
        "good": good.astype(np.int64),
        "mask": np.left_shift(1, quality.astype(np.int64)),
    }
    return _joined(part)


def coarser(buckets: Table, every_ms: int) -> dict[str, Any]:
    """Buckets of a length that the given ones fit into."""
    return _joined({**buckets, "at_ms": buckets["at_ms"] - buckets["at_ms"] % every_ms})


def together(tables: Sequence[Table]) -> dict[str, Any]:
    """Buckets of one length of readings that lie in several places; no reading in two of them."""
    if not tables:
        return {name: np.empty(0, dtype=np.float64 if ROLLUPS[name] else np.int64) for name in ROLLUPS}
    return _joined({name: np.concatenate([t[name] for t in tables]) for name in ROLLUPS})


def _joined(part: Table) -> dict[str, Any]:
    """One bucket for all that have the same start."""
    order = np.argsort(part["at_ms"], kind="stable")
    at_ms = part["at_ms"][order]
    if not len(at_ms):
        return {name: part[name] for name in ROLLUPS}
    first = np.flatnonzero(np.diff(at_ms, prepend=at_ms[0] - 1))
    good = np.add.reduceat(part["good"][order], first)
    low = np.minimum.reduceat(_nan_as(part["low"][order], np.inf), first)
    high = np.maximum.reduceat(_nan_as(part["high"][order], -np.inf), first)
    total = np.add.reduceat(_nan_as(part["mean"][order], 0.0) * part["good"][order], first)
    none = good == 0
    with np.errstate(invalid="ignore"):
        mean = total / good
    return {
        "at_ms": at_ms[first],
        "low": np.where(none, np.nan, low),
        "high": np.where(none, np.nan, high),
        "mean": np.clip(np.where(none, np.nan, mean), low, high),  # rounding leaves it between them
        "count": np.add.reduceat(part["count"][order], first),
        "good": good,
        "mask": np.bitwise_or.reduceat(part["mask"][order], first),
    }


def _nan_as(values: NDArray[np.float64], instead: float) -> NDArray[np.float64]:
    return np.where(np.isnan(values), instead, values)
