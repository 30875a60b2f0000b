"""Reads time series from CSV and refuses what cannot be used, with file, line and column."""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from ems.errors import DataError
from ems.series import UniformSeries

TIME = "time"


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvRule:
    """What a column may hold; bounds are in the unit its name ends with."""

    column: str
    low: float = -math.inf
    high: float = math.inf


def read_series(path: Path, rules: Sequence[CsvRule], *, optional: bool = False) -> dict[str, UniformSeries]:
    """Columns of a CSV file as series on one uniform grid.

    The first column is `time`: the start of each interval in ISO 8601 with its offset from UTC, ascending, at
    equal distances. Lines that begin with # are comments.

    Parameters
    ----------
    path : the file, UTF-8, comma-separated, with a header.
    rules : wanted columns; others in the file are refused, so that a misspelt one is noticed.
    optional : leave out wanted columns that the file does not have, instead of refusing it.

    Raises
    ------
    DataError : file, line and column of the first thing that cannot be used.
    """
    rows = _rows(path)
    header_line, header = next(rows, (0, []))
    wanted = {r.column: r for r in rules}
    _check_header(path, header_line, header, list(wanted), optional)
    columns = header[1:]
    times: list[datetime] = []
    values: list[list[float]] = []
    lines: list[int] = []
    for line, cells in rows:
        if len(cells) != len(header):
            raise DataError(f"{path}:{line}: {len(cells)} cells, the header has {len(header)}")
        times.append(_time(path, line, cells[0]))
        values.append(
            [_number(path, line, wanted[c], text) for c, text in zip(columns, cells[1:], strict=True)]
        )
        lines.append(line)
    step_s = _step_s(path, lines, times)
    data = np.asarray(values, dtype=np.float64)
    return {
        name: UniformSeries(start=times[0], step_s=step_s, values=data[:, i].copy())
        for i, name in enumerate(columns)
    }


def read_table(
    path: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> list[tuple[int, dict[str, str]]]:
    """Rows of a CSV file as text by column, each with its line.

    Raises
    ------
    DataError : a column is missing or not known, or a line has too few or too many cells.
    """
    rows = _rows(path)
    line, header = next(rows, (0, []))
    missing = [c for c in required if c not in header]
    strange = [c for c in header if c not in (*required, *optional)]
    if missing or strange:
        known = ", ".join([*required, *(f"{c} (optional)" for c in optional)])
        raise DataError(f"{path}:{line}: columns {header or 'none'} found; needed: {known}")
    out = []
    for line, cells in rows:
        if len(cells) != len(header):
            raise DataError(f"{path}:{line}: {len(cells)} cells, the header has {len(header)}")
        out.append((line, dict(zip(header, cells, strict=True))))
    return out


def parse_time(path: Path, line: int, column: str, text: str) -> datetime:
    """Time of one cell, in UTC.

    Raises
    ------
    DataError : not ISO 8601, or without an offset from UTC.
    """
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise DataError(f"{path}:{line}: {column}: {text!r} is not an ISO 8601 time") from None
    if when.tzinfo is None:
        raise DataError(f"{path}:{line}: {column}: {text!r} has no time zone; write its offset, e.g. {text}Z")
    return when.astimezone(UTC)


def require_period(path: Path, series: UniformSeries, start: datetime, end: datetime) -> None:
    """Refuse a series that does not cover [start, end).

    Raises
    ------
    DataError : it begins too late or ends too early, with both periods.
    """
    if series.start > start or series.end < end:
        raise DataError(
            f"{path}: it covers {series.start.isoformat()} to {series.end.isoformat()}, the run needs "
            f"{start.isoformat()} to {end.isoformat()}"
        )


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            for line, text in enumerate(file, start=1):
                if text.strip() and not text.startswith("#"):
                    yield line, [cell.strip() for cell in next(csv.reader([text]))]
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None


def _check_header(path: Path, line: int, header: list[str], wanted: list[str], optional: bool) -> None:
    if not header:
        raise DataError(f"{path}: the file is empty")
    if header[0] != TIME:
        raise DataError(f"{path}:{line}: the first column is {header[0]!r}; {TIME!r} is needed")
    names = header[1:]
    strange = [c for c in names if c not in wanted]
    missing = [c for c in wanted if c not in names]
    twice = sorted({c for c in names if names.count(c) > 1})
    if strange or twice or (missing and not (optional and names)):
        raise DataError(
            f"{path}:{line}: columns {', '.join(names) or 'none'} found; wanted: {', '.join(wanted)}"
            + (f"; twice: {', '.join(twice)}" if twice else "")
        )


def _time(path: Path, line: int, text: str) -> datetime:
    return parse_time(path, line, TIME, text)


def _number(path: Path, line: int, rule: CsvRule, text: str) -> float:
    where = f"{path}:{line}: {rule.column}"
    if text == "":
        raise DataError(f"{where}: the cell is empty; a gap must be filled before the run")
    try:
        value = float(text)
    except ValueError:
        raise DataError(f"{where}: {text!r} is not a number") from None
    if not math.isfinite(value):
        raise DataError(f"{where}: {text} cannot be used; a finite number is needed")
    if not rule.low <= value <= rule.high:
        raise DataError(f"{where}: {text} is outside {rule.low:g} to {rule.high:g}")
    return value


def _step_s(path: Path, lines: list[int], times: list[datetime]) -> float:
    """Distance of the rows; refuses gaps, repetitions and disorder [s]."""
    if len(times) < 2:
        raise DataError(f"{path}: {len(times)} rows; at least two are needed")
    step = times[1] - times[0]
    for i in range(1, len(times)):
        found = times[i] - times[i - 1]
        if found == step and step > timedelta(0):
            continue
        what = "the same time again" if found == timedelta(0) else f"{found} after the row before"
        if found < timedelta(0):
            what = "earlier than the row before: rows must ascend"
        elif found > step:
            what = f"a gap: {found} after the row before, the step is {step}"
        raise DataError(f"{path}:{lines[i]}: {TIME}: {times[i].isoformat()} is {what}")
    return step.total_seconds()
