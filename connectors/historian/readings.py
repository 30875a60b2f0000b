"""Readings wherever they lie: the recent ones in the historian's file, older ones in segments.

A reading may move from one to the other while somebody reads. It is in a segment, and the segment in the
ledger, before it leaves the file: whoever asks the file first, or sees no change of the ledger, misses none.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from connectors.historian.archive.reader import ArchiveReader, by_time, first_rows
from connectors.historian.archive.rollup import MINUTE_MS, QUARTER_MS, rolled_up, together, worst
from connectors.historian.archive.source import Recent
from connectors.historian.schema import QUALITIES
from connectors.sqlite_file import ReadOnlyFile, from_ms, to_ms
from ems.records import Bucket, Sample

TRIES = 2  # to look at no more of the file than a page needs


class Readings:
    """Of every point, by time.

    Parameters
    ----------
    file : the historian's.
    folder : the long-term store; it need not be there.

    Raises
    ------
    StoreError, DiskError : file or store cannot be read.
    """

    def __init__(self, file: ReadOnlyFile, folder: Path) -> None:
        self._recent, self._archive = Recent(file), ArchiveReader(folder)

    def series(self, point: str, start: datetime, end: datetime, limit: int) -> Sequence[Sample]:
        """Samples of one point in [start, end), oldest first, at most `limit`; page on from the last one."""
        span = to_ms(start), to_ms(end)
        for _ in range(TRIES):
            version = self._archive.version()
            older = self._archive.readings(point, *span, limit)
            full = limit and len(older["at_ms"]) >= limit
            end_ms = int(older["at_ms"][-1]) + 1 if full else span[1]  # what is later is of the next page
            recent = self._recent.rows_of(point, span[0], end_ms, limit)
            if self._archive.version() == version:  # nothing was packed, and left the file, in between
                return _samples(first_rows(by_time([older, recent]), limit))
        recent = self._recent.rows_of(point, *span, limit)
        older = self._archive.readings(point, *span, limit)
        return _samples(first_rows(by_time([older, recent]), limit))

    def buckets(self, point: str, start: datetime, end: datetime, every_s: int) -> Sequence[Bucket]:
        """Readings of one point in buckets that begin in [start, end), oldest first.

        Parameters
        ----------
        every_s : length of a bucket [s]; they are aligned to 1970 UTC.
        """
        every_ms = 1000 * every_s
        start_ms, end_ms = (-(-to_ms(t) // every_ms) * every_ms for t in (start, end))
        found = []
        for part in self._recent.of_point(point, start_ms, end_ms):
            part = self._without_older(point, part)
            found.append(rolled_up(part, every_ms))
        found.append(self._archive.buckets(point, start_ms, end_ms, every_ms))
        return _buckets(together(found))

    def bucket_s_min(self, start: datetime, end: datetime) -> int:
        """Length of the shortest buckets that are there for all of [start, end) [s]."""
        return (MINUTE_MS if self._archive.has_minutes(to_ms(start), to_ms(end)) else QUARTER_MS) // 1000

    def _without_older(self, point: str, part: dict[str, Any]) -> dict[str, Any]:
        """Those readings of the file that do not lie in a segment as well."""
        at_ms = part["at_ms"]
        known = self._archive.readings(point, int(at_ms[0]), int(at_ms[-1]) + 1)
        new = ~np.isin(at_ms, known["at_ms"])
        return {name: values[new] for name, values in part.items()}

    def close(self) -> None:
        """Close every segment."""
        self._archive.close()


def _samples(table: dict[str, Any]) -> list[Sample]:
    columns = (table[name].tolist() for name in ("at_ms", "value", "quality", "lag_ms"))
    return [
        Sample(
            at=from_ms(at_ms),
            value=None if value != value else value,
            quality=QUALITIES[quality],
            source_time=from_ms(at_ms - lag_ms),
        )
        for at_ms, value, quality, lag_ms in zip(*columns, strict=True)
    ]


def _buckets(table: dict[str, Any]) -> list[Bucket]:
    names = ("at_ms", "low", "mean", "high", "count", "good", "mask")
    return [
        Bucket(
            start=from_ms(at_ms),
            low=None if low != low else low,
            mean=None if mean != mean else mean,
            high=None if high != high else high,
            count=count,
            good=good,
            quality=worst(mask),
        )
        for at_ms, low, mean, high, count, good, mask in zip(*(table[n].tolist() for n in names), strict=True)
    ]
