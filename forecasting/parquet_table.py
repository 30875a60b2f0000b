"""Reads a Parquet file as the cells a CSV would have, so that both are checked alike.

pyarrow is no dependency of the project, because of its size: whoever wants Parquet installs it.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from ems.errors import DataError

SUFFIXES = (".parquet", ".pq")
INSTALL = "pip install 'hybrid-ems[parquet]'"


def is_parquet(path: Path) -> bool:
    """By its name."""
    return path.suffix.lower() in SUFFIXES


def parquet_cells(path: Path, first: str) -> list[tuple[int, list[str]]]:
    """(line, cells) of header and rows, lines counted as in a CSV of the same table; `first` leads.

    A null is an empty cell; a time without a zone stays without one.

    Raises
    ------
    DataError : pyarrow is not installed, the file cannot be read, or a column holds neither numbers, texts
        nor times.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError(
            f"{path}: Parquet is read by the package pyarrow, which is not installed; "
            f"install it with {INSTALL}, or give a CSV file"
        ) from None
    try:
        table = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    names = sorted(table.column_names, key=lambda name: name != first)
    columns = [list(_texts(path, name, table.column(name), pa)) for name in names]
    return [(1, names), *((i, list(cells)) for i, cells in enumerate(zip(*columns, strict=True), start=2))]


def _texts(path: Path, name: str, column: Any, pa: Any) -> Iterator[str]:
    """Cells of one column as text."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        try:
            column = column.cast(pa.timestamp("us", tz=kind.tz))  # what a datetime holds
        except pa.ArrowInvalid as error:
            raise DataError(f"{path}: {name}: {error}; allowed: times of whole microseconds") from error
    elif not (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
    ):
        raise DataError(f"{path}: {name}: found values of type {kind}; allowed: numbers, texts or times")
    for value in column.to_pylist():
        yield "" if value is None else value.isoformat() if isinstance(value, datetime) else str(value)
