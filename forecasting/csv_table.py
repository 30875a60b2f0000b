"""Reads a CSV of series, or a Parquet file; refuses what cannot be meant, naming file, line and column.

The first column is `time`, the start of each interval: ISO 8601 with a zone, or wall-clock time of a zone
that is named. Declared repairs (none by default) are made and told, nothing else is.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from ems.errors import DataError
from ems.series import UniformSeries
from ems.timegrid import FloatArray
from forecasting.parquet_table import is_parquet, parquet_cells

TIME = "time"
ISSUED = "issued_at"
_STEP_S_MAX = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvRepairs:
    """What may be repaired: gaps of at most so long are filled by a straight line; 0: none."""

    gap_s_max: float = 0.0
    extend_last_day: bool = False  # a file that ends early is continued by its last 24 h


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvTable:
    """Series by column on one uniform grid, finite, and what was repaired."""

    file: str
    series: dict[str, UniformSeries]
    repairs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    line: int
    at: datetime
    issued_at: datetime | None
    values: tuple[float, ...]  # units of the columns; ratio


def read_tables(
    path: Path, *, timezone: str | None = None, repairs: CsvRepairs | None = None
) -> list[tuple[datetime | None, CsvTable]]:
    """Every table of a file: one, or one per time of issue where there is a column `issued_at`.

    Parameters
    ----------
    path : the file, UTF-8, with or without a byte-order mark; comma-separated, one header line. Or a
        Parquet file (.parquet, .pq) with the same columns, in any order.
    timezone : zone of times that carry none; None refuses such times.
    repairs : what may be repaired.

    Raises
    ------
    DataError : the file cannot be used; says where and why.
    """
    names, rows = _rows(path, timezone)
    allowed = CsvRepairs() if repairs is None else repairs
    issues = sorted({r.issued_at for r in rows if r.issued_at is not None})
    if not issues:
        return [(None, _table(path, names, rows, allowed))]
    return [(i, _table(path, names, [r for r in rows if r.issued_at == i], allowed)) for i in issues]


def _rows(path: Path, timezone: str | None) -> tuple[list[str], list[_Row]]:
    lines = parquet_cells(path, TIME) if is_parquet(path) else _csv_cells(path)
    if not lines:
        raise DataError(f"{path}: is empty")
    header = [c.strip() for c in lines[0][1]]
    if header[0] != TIME:
        raise DataError(f"{_place(path, 1)}: the first column is {header[0]!r}; allowed: {TIME!r}")
    if twice := sorted({c for c in header if header.count(c) > 1}):
        raise DataError(f"{_place(path, 1)}: columns named twice: {', '.join(twice)}")
    out: list[_Row] = []
    last: dict[datetime | None, datetime] = {}
    zone = None if timezone is None else ZoneInfo(timezone)
    for line, cells in lines[1:]:
        if len(cells) != len(header):
            raise DataError(f"{_place(path, line)}: {len(cells)} cells; the header has {len(header)}")
        row = _row(path, line, dict(zip(header, cells, strict=True)), zone, last)
        last[row.issued_at] = row.at
        out.append(row)
    return [c for c in header if c not in (TIME, ISSUED)], out


def _csv_cells(path: Path) -> list[tuple[int, list[str]]]:
    """(line, cells) of the lines that are not empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [(i, cells) for i, cells in enumerate(csv.reader(file), start=1) if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _place(path: Path, line: int) -> str:
    """Where something is: a line of text, or a row of a table that has no lines."""
    if not is_parquet(path):
        return f"{path}:{line}"
    return f"{path}: columns" if line == 1 else f"{path}: row {line - 1}"


def _row(
    path: Path, line: int, cells: dict[str, str], zone: ZoneInfo | None, last: dict[datetime | None, datetime]
) -> _Row:
    issued = None
    if ISSUED in cells:
        issued = _time(f"{_place(path, line)}: {ISSUED}", cells[ISSUED], zone, None)
    before = last.get(issued)
    at = _time(f"{_place(path, line)}: {TIME}", cells[TIME], zone, before)
    if before is not None and at <= before:
        raise DataError(f"{_place(path, line)}: {TIME}: {at.isoformat()} is not after the line before")
    values = tuple(
        _value(f"{_place(path, line)}: {name}", text)
        for name, text in cells.items()
        if name not in (TIME, ISSUED)
    )
    return _Row(line=line, at=at, issued_at=issued, values=values)


def _time(where: str, text: str, zone: ZoneInfo | None, last: datetime | None) -> datetime:
    """A UTC time. Of the two meanings of a repeated hour, the first that is after the last line."""
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        raise DataError(f"{where}: found {text!r}; allowed: ISO 8601, e.g. 2026-03-02T06:00:00Z") from None
    if when.tzinfo is not None:
        return when.astimezone(UTC)
    if zone is None:
        raise DataError(f"{where}: {text!r} has no time zone and none was named for the file")
    meanings = [when.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    if meanings[0].astimezone(zone).replace(tzinfo=None) != when:
        raise DataError(f"{where}: {text!r} does not exist in {zone.key}: the clock was put forward")
    return next((m for m in meanings if last is None or m > last), meanings[1])


def _value(where: str, text: str) -> float:
    """A number, NaN for an empty cell (a gap); everything else is refused."""
    if not text.strip():
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise DataError(f"{where}: found {text!r}; allowed: a number") from None
    if not math.isfinite(value):
        raise DataError(f"{where}: found {text!r}; allowed: a finite number, or an empty cell for a gap")
    return value


def _table(path: Path, names: Sequence[str], rows: list[_Row], repairs: CsvRepairs) -> CsvTable:
    if len(rows) < 2:
        raise DataError(f"{path}: {len(rows)} rows of data; at least 2 are needed")
    gaps_s = [(b.at - a.at).total_seconds() for a, b in pairwise(rows)]
    step_s = float(np.median(gaps_s))
    if step_s > _STEP_S_MAX:
        raise DataError(f"{path}: the step is {step_s:g} s; allowed: at most {_STEP_S_MAX:g} s")
    told: list[str] = []
    count = round((rows[-1].at - rows[0].at).total_seconds() / step_s) + 1
    grid = np.full((len(names), count), np.nan)
    for row in rows:
        offset_s = (row.at - rows[0].at).total_seconds()
        if abs(offset_s / step_s - round(offset_s / step_s)) > 1e-6:
            raise DataError(f"{_place(path, row.line)}: {TIME}: not on the file's step of {step_s:g} s")
        grid[:, round(offset_s / step_s)] = row.values
    lines = {round((r.at - rows[0].at).total_seconds() / step_s): r.line for r in rows}
    series = {}
    for name, values in zip(names, grid, strict=True):
        filled = _fill(path, name, values, step_s, lines, repairs, told)
        series[name] = UniformSeries(start=rows[0].at, step_s=step_s, values=filled)
    return CsvTable(file=str(path), series=series, repairs=tuple(told))


def _fill(
    path: Path,
    name: str,
    values: FloatArray,
    step_s: float,
    lines: dict[int, int],
    repairs: CsvRepairs,
    told: list[str],
) -> FloatArray:
    """Fill gaps that may be filled; refuse the first one that may not."""
    missing = np.isnan(values)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]]).astype(int)))
    for first, after in edges.reshape(-1, 2).tolist():
        line = lines.get(first, lines.get(first - 1, 1))
        length_s = (after - first) * step_s
        inner = first > 0 and after < len(values)
        if not inner or length_s > repairs.gap_s_max:
            raise DataError(
                f"{_place(path, line)}: {name}: {after - first} values missing ({length_s:g} s); "
                f"allowed: gaps of at most {repairs.gap_s_max:g} s, and none at either end"
            )
        where = f"{_place(Path(path.name), line)}: {name}"
        told.append(f"{where}: {after - first} missing values filled by a straight line")
    good = np.flatnonzero(~missing)
    out: FloatArray = np.interp(np.arange(len(values)), good, values[good])
    return out
