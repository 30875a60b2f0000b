"""Read side of the long-term store: readings of one point, or buckets of them from the coarsest rollups."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from connectors.historian.archive.ledger import RAW, Entry, LedgerReader
from connectors.historian.archive.rollup import MINUTE_MS, QUARTER_MS, coarser, rolled_up, together
from connectors.historian.archive.segment import FLOATS, READINGS, Segment, Table
from connectors.sqlite_file import DiskError, StoreError
from ems.errors import BadValue

T = TypeVar("T")
MINUTES, QUARTERS = str(MINUTE_MS // 1000), str(QUARTER_MS // 1000)  # kinds of segments
RETRIES = 3  # a segment may be replaced, or given up, while it is looked for
OPEN_MAX = 24  # a year of months and some days: segments kept open, for whoever pages through
ALL = np.iinfo(np.int64).max
Spans = list[tuple[int, int]]


class ArchiveReader:
    """Segments of one folder; one that is not there is empty. Safe to use from several threads.

    Raises
    ------
    StoreError : a segment is not what was written, or (DiskError) cannot be read now.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._ledger = folder, LedgerReader(folder)
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Segment] = OrderedDict()
        self._whole: tuple[str, dict[str, Table]] = ("", {})

    def version(self) -> tuple[int, int]:
        """Something that changes whenever a segment is there, or is no more."""
        return self._read(self._version)

    def readings(self, point: str, start_ms: int, end_ms: int, limit: int = ALL) -> dict[str, Any]:
        """Readings of one point in [start, end), oldest first, at most `limit`."""
        return self._read(lambda: self._readings(point, start_ms, end_ms, limit))

    def snapshot(self, at_ms: int) -> dict[str, tuple[float, int, int]]:
        """Value (NaN: none), quality code and age [ms] of each point at one time; empty: there is none."""
        return self._read(lambda: self._snapshot(at_ms))

    def buckets(self, point: str, start_ms: int, end_ms: int, every_ms: int) -> dict[str, Any]:
        """Buckets of one point in [start, end), which are multiples of their length [ms].

        Where readings were given up, buckets that are longer stand at their own start.
        """
        return self._read(lambda: self._buckets(point, start_ms, end_ms, every_ms))

    def has_minutes(self, start_ms: int, end_ms: int) -> bool:
        """Whether no minute of [start, end) was given up."""

        def of() -> bool:
            gone = [e.head for e in self._ledger.catalogue().dropped.values() if e.head.kind == MINUTES]
            return not any(h.start_ms < end_ms and h.end_ms > start_ms for h in gone)

        return self._read(of)

    def close(self) -> None:
        """Close every file."""
        with self._lock:
            for segment in self._open.values():
                segment.close()
            self._open.clear()

    def _read(self, what: Callable[[], T]) -> T:
        with self._lock:
            for attempt in range(RETRIES):
                try:
                    return what()
                except FileNotFoundError as error:
                    if attempt == RETRIES - 1:
                        raise DiskError(f"{self._folder}: {error}") from None
                except OSError as error:
                    raise DiskError(f"{self._folder}: {error}") from None
                except BadValue as error:
                    raise StoreError(f"{self._folder}: {error}") from None
        raise AssertionError  # RETRIES is not 0

    def _version(self) -> tuple[int, int]:
        self._ledger.catalogue()
        return self._ledger.inode, self._ledger.whole_bytes

    def _readings(self, point: str, start_ms: int, end_ms: int, limit: int) -> dict[str, Any]:
        found: list[Table] = []
        count = reach_ms = 0
        for entry in self._overlapping(RAW, start_ms, end_ms):
            if count >= limit and entry.head.start_ms >= reach_ms:
                break  # whatever follows is later than what there is
            table = self._segment(entry).table(point)
            if table is not None:
                found.append(_within(table, start_ms, end_ms))
                count += len(found[-1]["at_ms"])
            reach_ms = max(reach_ms, entry.head.end_ms)
        return first_rows(by_time(found), limit)

    def _snapshot(self, at_ms: int) -> dict[str, tuple[float, int, int]]:
        out: dict[str, tuple[float, int, int]] = {}
        for entry in self._overlapping(RAW, at_ms, at_ms + 1):
            if self._whole[0] != entry.file:
                segment = self._segment(entry)
                tables: dict[str, Table] = {
                    p: t for p in segment.points if (t := segment.table(p)) is not None
                }
                self._whole = (entry.file, tables)
            for point, table in self._whole[1].items():
                i = int(np.searchsorted(table["at_ms"], at_ms))
                if i < len(table["at_ms"]) and table["at_ms"][i] == at_ms:
                    value, quality, lag_ms = (table[n][i] for n in ("value", "quality", "lag_ms"))
                    out[point] = float(value), int(quality), int(lag_ms)
        return out

    def _buckets(self, point: str, start_ms: int, end_ms: int, every_ms: int) -> dict[str, Any]:
        left: Spans = [(start_ms, end_ms)]
        found: list[Table] = []
        for kind in _order(every_ms):
            entries = [e for e in self._overlapping(kind, start_ms, end_ms) if _touches(left, e)]
            for entry in entries:
                table = self._segment(entry).table(point)
                if table is not None:
                    part = _in_spans(table, left)
                    found.append(rolled_up(part, every_ms) if kind == RAW else coarser(part, every_ms))
            for entry in entries:
                left = _minus(left, entry.head.start_ms, entry.head.end_ms)
        return together(found)

    def _overlapping(self, kind: str, start_ms: int, end_ms: int) -> list[Entry]:
        return self._ledger.catalogue().overlapping(kind, start_ms, end_ms)

    def _segment(self, entry: Entry) -> Segment:
        segment = self._open.pop(entry.file, None)
        if segment is None:
            segment = Segment(self._folder / entry.file)
        self._open[entry.file] = segment
        while len(self._open) > OPEN_MAX:
            self._open.popitem(last=False)[1].close()
        return segment


def by_time(tables: Sequence[Table]) -> dict[str, Any]:
    """Readings of several places in order of time; of two at one time the first one."""
    if not tables:
        return {n: np.empty(0, dtype=np.float64 if n in FLOATS else np.int64) for n in READINGS}
    joined = {n: np.concatenate([t[n] for t in tables]) for n in READINGS}
    _, first = np.unique(joined["at_ms"], return_index=True)
    return {n: values[first] for n, values in joined.items()}


def first_rows(table: Table, limit: int) -> dict[str, Any]:
    """No more than so many rows."""
    return {name: values[:limit] for name, values in table.items()}


def _order(every_ms: int) -> Iterator[str]:
    """Kinds of segments in the order in which they serve buckets of a length."""
    coarse = [k for k, length in ((QUARTERS, QUARTER_MS), (MINUTES, MINUTE_MS)) if every_ms % length == 0]
    yield from coarse
    yield RAW
    yield from [k for k in (MINUTES, QUARTERS) if k not in coarse]


def _within(table: Table, start_ms: int, end_ms: int) -> dict[str, Any]:
    low, high = np.searchsorted(table["at_ms"], (start_ms, end_ms))
    return {name: values[low:high] for name, values in table.items()}


def _in_spans(table: Table, spans: Spans) -> dict[str, Any]:
    at_ms: NDArray[np.int64] = np.asarray(table["at_ms"], dtype=np.int64)
    kept = np.zeros(len(at_ms), dtype=bool)
    for start, end in spans:
        kept |= (at_ms >= start) & (at_ms < end)
    return {name: values[kept] for name, values in table.items()}


def _touches(spans: Spans, entry: Entry) -> bool:
    return any(start < entry.head.end_ms and end > entry.head.start_ms for start, end in spans)


def _minus(spans: Spans, start: int, end: int) -> Spans:
    parts = [p for a, b in spans for p in ((a, min(b, start)), (max(a, end), b))]
    return [(a, b) for a, b in parts if a < b]
