"""What stands in a file, and how it is written: CSV, packed or not, or Parquet."""

import csv
import gzip
import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from connectors.historian.spool import Record
from connectors.sqlite_file import from_ms

Row = Sequence[Any]
READINGS = (
    ("at", "time"), ("subsystem", "name"), ("asset", "name"), ("point", "name"), ("value", "number"),
    ("unit", "name"), ("quality", "name"), ("source_at", "time"), ("boot", "count"), ("seq", "count"),
)  # fmt: skip
RECORDS = (
    ("at", "time"), ("kind", "name"), ("point", "name"), ("value", "number"), ("body", "text"),
    ("boot", "count"), ("seq", "count"),
)  # fmt: skip
Columns = Sequence[tuple[str, str]]
BLOCK_BYTES = 1 << 20


class TableWriter(Protocol):
    """Takes rows; what is behind it is whole once it is closed."""

    def add(self, rows: Sequence[Row]) -> None:
        """Write rows; times in milliseconds since 1970 UTC."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class Hashed(io.RawIOBase):
    """A file that knows the SHA-256 of what was written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash, self.size = file, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        raw = memoryview(data).cast("B")
        self._file.write(raw)
        self._hash.update(raw)
        self.size += len(raw)
        return len(raw)

    @property
    def sha256(self) -> str:
        """In hexadecimal digits."""
        return self._hash.hexdigest()


class CsvWriter:
    """One line a row, times in ISO 8601 with milliseconds, nothing where there is no value."""

    def __init__(self, out: Hashed, columns: Columns, *, packed: bool) -> None:
        self._times = [i for i, (_, kind) in enumerate(columns) if kind == "time"]
        # No name and no time in the header: the same rows are the same bytes.
        self._zip = gzip.GzipFile("", "wb", 6, out, mtime=0) if packed else None
        raw: Any = out if self._zip is None else self._zip
        self._text = io.TextIOWrapper(io.BufferedWriter(raw, BLOCK_BYTES), encoding="utf-8", newline="")
        self._csv = csv.writer(self._text, lineterminator="\n")
        self._csv.writerow([name for name, _ in columns])

    def add(self, rows: Sequence[Row]) -> None:
        """Write rows."""
        for row in rows:
            cells = list(row)
            for i in self._times:
                if cells[i] is not None:
                    cells[i] = iso(cells[i])
            self._csv.writerow(cells)

    def close(self) -> None:
        """Write what is left."""
        self._text.flush()
        if self._zip is not None:
            self._zip.close()


def iso(at_ms: int) -> str:
    """Milliseconds since 1970 UTC as text."""
    return from_ms(at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def writer_of(form: str, out: Hashed, columns: Columns) -> TableWriter:
    """What writes a format: csv, csv.gz or parquet.

    Raises
    ------
    ImportError : pyarrow is not installed.
    """
    if form == "parquet":
        from connectors.files.parquet import ParquetWriter

        return ParquetWriter(out, columns)
    return CsvWriter(out, columns, packed=form == "csv.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a point is in the plant, and its unit."""

    subsystem: str
    asset: str
    point: str
    unit: str


def reading_rows(boot: int, record: Record, places: "PlacesOf") -> list[Row]:
    """A row for each value of a snapshot; none for other records."""
    if record.values is None or record.at_ms is None:
        return []
    rows: list[Row] = []
    at_ms, number = record.at_ms, (boot, record.seq)
    for name, (value, quality, lag_ms) in record.values.items():
        p = places(name)
        rows.append((at_ms, p.subsystem, p.asset, p.point, value, p.unit, quality, at_ms - lag_ms, *number))
    return rows


def record_row(boot: int, record: Record) -> Row | None:
    """A command, its outcome, a refusal or an event; None for a snapshot and for what is kept no more."""
    if record.values is not None or record.at_ms is None:
        return None
    point, value = record.head.get("point"), record.head.get("value")
    return record.at_ms, record.kind, point, value, record.text, boot, record.seq


class PlacesOf(Protocol):
    """Point name -> its place."""

    def __call__(self, name: str) -> Place: ...


def hash_on_disk(path: Path) -> str:
    """SHA-256 of what is stored, read from the disk where the system lets go of what it remembers."""
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while block := file.read(BLOCK_BYTES):
            found.update(block)
    return found.hexdigest()
