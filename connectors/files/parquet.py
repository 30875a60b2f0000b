"""Rows as Parquet, through pyarrow, which is no dependency of the project because of its size."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.files.tables import Columns, Hashed, Row

GROUP_ROWS = 500_000
TYPES = {
    "time": pa.timestamp("ms", tz="UTC"),
    "name": pa.dictionary(pa.int32(), pa.string()),
    "text": pa.string(),
    "number": pa.float64(),
    "count": pa.int64(),
}


class ParquetWriter:
    """Row groups of half a million rows, names as dictionaries, packed with zstd."""

    def __init__(self, out: Hashed, columns: Columns) -> None:
        self._schema = pa.schema([(name, TYPES[kind]) for name, kind in columns])
        self._writer = pq.ParquetWriter(pa.PythonFile(out, mode="w"), self._schema, compression="zstd")
        self._rows: list[Row] = []

    def add(self, rows: Sequence[Row]) -> None:
        """Write rows, a group at a time."""
        self._rows.extend(rows)
        if len(self._rows) >= GROUP_ROWS:
            self._group()

    def close(self) -> None:
        """Write what is left, and the end of the file."""
        if self._rows:
            self._group()
        self._writer.close()

    def _group(self) -> None:
        columns: list[Any] = list(zip(*self._rows, strict=True))
        arrays = [
            pa.array(values, type=kind.type) for values, kind in zip(columns, self._schema, strict=True)
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows.clear()
