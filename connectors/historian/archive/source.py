"""The readings that are still in the historian's file, as columns; read in short queries, nothing written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.historian.archive.segment import READINGS
from connectors.historian.schema import HISTORY
from connectors.sqlite_file import ReadOnlyFile

# Which rows, whatever is in them; it adds up over the spans of an hour.
CHECKSUM = "coalesce(sum((at_ms % 3600000 + 1) * (point_id + 1)), 0)"
SLICE_ROWS = 50_000  # of one query
Block = NDArray[np.float64]  # rows x (at_ms, point_id, value, quality, lag_ms); NaN: no value


class Recent:
    """What the historian's file holds. Raises StoreError, DiskError as `ReadOnlyFile` does."""

    def __init__(self, file: ReadOnlyFile) -> None:
        self._file = file

    def first_ms(self, since_ms: int | None = None) -> int | None:
        """Time of the oldest reading, or of the oldest from a time on."""
        rows = self._file.rows(
            "SELECT min(at_ms) FROM reading WHERE at_ms >= ?", (0 if since_ms is None else since_ms,)
        )
        return int(rows[0][0]) if rows and rows[0][0] is not None else None

    def sums(self, start_ms: int, end_ms: int) -> tuple[int, int]:
        """How many readings there are in [start, end), and the checksum of which."""
        rows = self._file.rows(
            f"SELECT count(*), {CHECKSUM} FROM reading WHERE at_ms >= ? AND at_ms < ?",  # noqa: S608
            (start_ms, end_ms),
        )
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)

    def names(self) -> dict[int, str]:
        """Names of the points by their number."""
        return dict(self._file.rows("SELECT id, name FROM point"))

    def block(self, start_ms: int, end_ms: int) -> Block:
        """All readings in [start, end), by time and point."""
        parts = list(self._slices(start_ms, end_ms))
        return np.concatenate(parts) if parts else np.empty((0, 5))

    def rows_of(self, point: str, start_ms: int, end_ms: int, limit: int) -> dict[str, Any]:
        """Readings of one point in [start, end), oldest first, at most `limit`."""
        rows = self._file.rows(
            "SELECT at_ms, value, quality, lag_ms FROM reading WHERE at_ms >= ? AND at_ms < ? "
            "AND point_id = (SELECT id FROM point WHERE name = ?) ORDER BY at_ms LIMIT ?",
            (start_ms, end_ms, point, limit),
        )
        return table_of(np.array(rows, dtype=np.float64).reshape(-1, 4))

    def of_point(self, point: str, start_ms: int, end_ms: int) -> Iterator[dict[str, Any]]:
        """Readings of one point in [start, end), in parts."""
        while True:
            part = self.rows_of(point, start_ms, end_ms, SLICE_ROWS)
            if len(part["at_ms"]):
                yield part
                start_ms = int(part["at_ms"][-1]) + 1
            if len(part["at_ms"]) < SLICE_ROWS:
                return

    def _slices(self, start_ms: int, end_ms: int) -> Iterator[Block]:
        last, point = start_ms, -1
        while True:
            rows = self._file.rows(
                "SELECT at_ms, point_id, value, quality, lag_ms FROM reading "
                "WHERE (at_ms, point_id) > (?, ?) AND at_ms < ? ORDER BY at_ms, point_id LIMIT ?",
                (last, point, end_ms, SLICE_ROWS),
            )
            if rows:
                yield np.array(rows, dtype=np.float64)
                last, point = rows[-1][0], rows[-1][1]
            if len(rows) < SLICE_ROWS:
                return


def table_of(rows: NDArray[np.float64]) -> dict[str, Any]:
    """Columns of rows of (at_ms, value, quality, lag_ms)."""
    return {
        name: rows[:, i].astype(np.float64 if may_lack else np.int64)
        for i, (name, may_lack) in enumerate(READINGS.items())
    }


def by_point(block: Block, names: dict[int, str]) -> dict[str, dict[str, Any]]:
    """Tables by name of the point, names in order."""
    order = np.lexsort((block[:, 0], block[:, 1]))
    ordered = block[order]
    ids, first = np.unique(ordered[:, 1], return_index=True)
    parts = np.split(ordered[:, [0, 2, 3, 4]], first[1:]) if len(ids) else []
    found = {names[int(i)]: table_of(part) for i, part in zip(ids, parts, strict=True)}
    return dict(sorted(found.items()))


def open_recent(path: Path) -> tuple[ReadOnlyFile, Recent]:
    """The historian's file, and what is in it."""
    file = ReadOnlyFile(path, HISTORY)
    return file, Recent(file)
