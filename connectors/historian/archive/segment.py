"""A segment: one file with the readings, or the rollups, of a span of time, point by point.

The file is a zip archive: a member for each point with its columns one behind the other, and `meta.json`,
which says where each column lies and how it is coded. Columns that several points share (the times of a
snapshot, the age of samples that one poll brought) are stored once. Written once, never changed.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from connectors.historian.archive.codec import (
    Column,
    Floats,
    Ints,
    coded_floats,
    coded_ints,
    decoded_floats,
    decoded_ints,
)
from ems.errors import BadValue

FORMAT = "ems-segment 1"
META = "meta.json"
_STAMP = (1980, 1, 1, 0, 0, 0)  # the same rows make the same bytes
_LEVEL = 6

# Columns of a point by kind of segment: True where a number may be missing.
READINGS = {"at_ms": False, "value": True, "quality": False, "lag_ms": False}
ROLLUPS = {
    "at_ms": False,
    "low": True,
    "high": True,
    "mean": True,
    "count": False,
    "good": False,
    "mask": False,
}
FLOATS = frozenset(["value", "low", "high", "mean"])
Table = Mapping[str, NDArray[Any]]  # of one point: column -> numbers; NaN where one is missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a segment says of itself: [start, end) in ms since 1970 UTC, its rows, and their hash."""

    kind: str  # raw, or the length of a bucket in seconds
    start_ms: int
    end_ms: int
    rows: int
    rows_hash: str
    made_of: tuple[str, ...] = ()  # of rollups: the files whose rows are in them


def head_of(body: Mapping[str, Any]) -> Head:
    """A head as it is stored. Raises KeyError or TypeError where it is none."""
    return Head(**{**{n: body[n] for n in Head.__slots__}, "made_of": tuple(body["made_of"])})


class RowsHash:
    """SHA-256 over rows as they were recorded, whatever file they lie in; points in order of their names."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.rows = 0

    def add(self, point: str, table: Table) -> None:
        """Add all rows of one point."""
        self._hash.update(f"{point}\n".encode())
        for name, values in table.items():
            self._hash.update(f"{name} {len(values)}\n".encode())
            if name in FLOATS:
                values = np.where(np.isnan(values), np.nan, values)  # one NaN stands for "none"
            self._hash.update(
                np.ascontiguousarray(values, dtype="<f8" if name in FLOATS else "<i8").tobytes()
            )
        self.rows += len(table["at_ms"])

    def hex(self) -> str:
        """The hash."""
        return self._hash.hexdigest()


class Writer:
    """Packs tables, point by point in order of their names, into the bytes of one segment.

    Parameters
    ----------
    kind : raw, or the length of a bucket in seconds.
    start_ms, end_ms : what the segment covers.
    made_of : of rollups: the files whose rows are in them.
    """

    def __init__(self, kind: str, start_ms: int, end_ms: int, made_of: tuple[str, ...] = ()) -> None:
        self._kind, self._start_ms, self._end_ms, self._made_of = kind, start_ms, end_ms, made_of
        self._out = io.BytesIO()
        self._zip = zipfile.ZipFile(self._out, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL)
        self._columns: list[dict[str, Any]] = []
        self._known: dict[bytes, int] = {}
        self._points: dict[str, dict[str, int]] = {}
        self._hash = RowsHash()

    def add(self, point: str, table: Table) -> None:
        """Add the rows of one point; a point without rows is left out."""
        if not len(table["at_ms"]):
            return
        data = bytearray()
        columns: dict[str, int] = {}
        for name, values in table.items():
            if name in FLOATS:
                there = ~np.isnan(values)
                if not there.all():
                    columns[f"{name}.there"] = self._column(point, coded_ints(there.astype(np.int64)), data)
                    values = values[there]
                columns[name] = self._column(point, coded_floats(np.asarray(values, dtype=np.float64)), data)
            else:
                columns[name] = self._column(point, coded_ints(np.asarray(values, dtype=np.int64)), data)
        self._points[point] = columns
        self._hash.add(point, table)
        if data:
            self._member(point, bytes(data))

    def finish(self) -> tuple[Head, bytes]:
        """What it is, and the bytes of the file."""
        head = Head(
            kind=self._kind,
            start_ms=self._start_ms,
            end_ms=self._end_ms,
            rows=self._hash.rows,
            rows_hash=self._hash.hex(),
            made_of=self._made_of,
        )
        meta = {
            "format": FORMAT,
            **{name: getattr(head, name) for name in Head.__slots__},
            "columns": self._columns,
            "points": self._points,
        }
        self._member(META, json.dumps(meta, separators=(",", ":")).encode())
        self._zip.close()
        return head, self._out.getvalue()

    def _column(self, point: str, column: Column, data: bytearray) -> int:
        """The number of a column; one that another point has already is not stored again."""
        key = hashlib.sha256(json.dumps(column.form).encode() + b"\n" + column.data).digest()
        if key not in self._known:
            place = {"in": point, "from": len(data), "bytes": len(column.data)} if column.data else {}
            self._known[key] = len(self._columns)
            self._columns.append({**column.form, **place})
            data += column.data
        return self._known[key]

    def _member(self, name: str, data: bytes) -> None:
        self._zip.writestr(zipfile.ZipInfo(name, _STAMP), data, zipfile.ZIP_DEFLATED, _LEVEL)


class Segment:
    """An open segment.

    Raises
    ------
    OSError : the file is not there, or cannot be read.
    BadValue : it is not what was written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, EOFError):
            raise BadValue(f"{path.name}: no whole zip archive") from None
        try:
            meta = json.loads(self._member(META))
            if meta["format"] != FORMAT:
                raise BadValue(f"{path.name}: format {meta['format']!r}; this program reads {FORMAT!r}")
            self.head = head_of(meta)
            self._columns: list[dict[str, Any]] = meta["columns"]
            self._points: dict[str, dict[str, int]] = meta["points"]
        except (ValueError, KeyError, TypeError):
            self._zip.close()
            raise BadValue(f"{path.name}: {META} is not what was written") from None
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def points(self) -> list[str]:
        """Names of the points that have rows here, in order."""
        return sorted(self._points)

    def table(self, point: str, names: Iterable[str] | None = None) -> dict[str, Any] | None:
        """Columns of one point, all or those named; None where it has no rows."""
        columns = self._points.get(point)
        if columns is None:
            return None
        members: dict[str, bytes] = {}
        wanted = [n for n in columns if "." not in n] if names is None else list(names)
        try:
            return {name: self._values(columns, name, members) for name in wanted}
        except (KeyError, IndexError, TypeError, ValueError, OverflowError):
            raise BadValue(f"{self.path.name}: {point} is not what was written") from None

    def verified(self) -> bool:
        """Whether every row is what was written, by count and hash."""
        found = RowsHash()
        for point in self.points:
            table = self.table(point)
            assert table is not None
            found.add(point, table)
        return (found.rows, found.hex()) == (self.head.rows, self.head.rows_hash)

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def _values(self, columns: Mapping[str, int], name: str, members: dict[str, bytes]) -> Ints | Floats:
        form, data = self._stored(self._columns[columns[name]], members)
        if name not in FLOATS:
            return decoded_ints(form, data)
        values = decoded_floats(form, data)
        if f"{name}.there" not in columns:
            return values
        there = decoded_ints(*self._stored(self._columns[columns[f"{name}.there"]], members)).astype(bool)
        whole = np.full(len(there), np.nan)
        whole[there] = values
        return whole

    def _stored(self, form: Mapping[str, Any], members: dict[str, bytes]) -> tuple[Mapping[str, Any], bytes]:
        if "in" not in form:
            return form, b""
        name, start = form["in"], form["from"]
        if name not in members:
            members[name] = self._member(name)
        return form, members[name][start : start + form["bytes"]]

    def _member(self, name: str) -> bytes:
        try:
            return self._zip.read(name)
        except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError, RuntimeError):
            raise BadValue(f"{self.path.name}: {name} is not what was written") from None
