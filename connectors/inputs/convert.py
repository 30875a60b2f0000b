"""Rows as a version: times, units, signs and bounds checked; all of a file is taken, or nothing of it."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np

from connectors.inputs.decode import Row, Table, shown, table_of, words
from connectors.inputs.times import FUTURE_S, InputTimes, TimeRefusedError
from ems.errors import ConfigError, Problem
from ems.input_rules import SeriesRule
from ems.inputs import (
    AnnouncedOutage,
    Certainty,
    InputColumn,
    InputKind,
    InputParams,
    InputVersion,
    OutageColumns,
)
from ems.series import UniformSeries

TOLD_MAX = 50
PAST, AHEAD = timedelta(days=40), timedelta(days=400)
OUTAGE_MAX = timedelta(days=31)
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)
STEP_S_MIN, STEP_S_MAX = 60.0, 3600.0
# What is asked of a version beside its form: (series, found, allowed) of each doubt.
Doubts = Callable[[InputVersion], Iterable[tuple[str, str, str]]]


@dataclass(slots=True, kw_only=True)
class _Reading:
    """One file that is being read."""

    table: Table
    params: InputParams
    rules: Mapping[str, SeriesRule]
    arrived: datetime
    problems: list[Problem] = field(default_factory=list)
    bad: int = 0
    ahead_s: float = 0.0  # of the time of issue that is furthest to come

    def refuse(self, row: Row | None, key: str, found: object, allowed: str, why: str = "") -> None:
        self.bad += 1
        if len(self.problems) < TOLD_MAX:
            self.problems.append(self.table.problem(row, key, found, allowed, why))

    def end(self) -> None:
        """Raise ConfigError of all that was found, where anything was."""
        if self.bad > len(self.problems):
            more = words(f"{self.bad - len(self.problems)} more like these")
            self.problems.append(self.table.problem(None, "rows", more, "none"))
        if self.problems:
            raise ConfigError(self.problems)


def read_version(
    raw: bytes,
    name: str,
    params: InputParams,
    rules: Mapping[str, SeriesRule],
    arrived: datetime,
    doubts: Doubts = lambda version: (),
) -> InputVersion:
    """One file or answer as a version, not stored yet.

    Parameters
    ----------
    name : file or URL, for messages.
    rules : the series that may be told, with unit and bounds.
    doubts : asked of the whole version at last.

    Raises
    ------
    ConfigError : with everything that is wrong with it, each with line or row, what was found and allowed.
    """
    reading = _Reading(
        table=table_of(raw, name, params.provider), params=params, rules=rules, arrived=arrived
    )
    _expected(reading)
    times = InputTimes(params.provider, arrived)
    issued = _issued(reading, times)
    series: dict[str, UniformSeries] = {}
    outages: tuple[AnnouncedOutage, ...] = ()
    if params.kind is InputKind.OUTAGES:
        outages = _outages(reading, times, issued)
        told = [o.issued_at for o in outages if o.issued_at != arrived]
        if issued is None and told and not params.complete:
            # A list of all there is may be without its last issue, withdrawn: that counts from its arrival.
            issued = max(told)
    else:
        series = _series(reading, times)
    reading.end()
    version = InputVersion(
        input=params.id,
        issued_at=arrived if issued is None else issued,
        issued_told=issued is not None,
        arrived_at=arrived,
        ahead_s=reading.ahead_s,
        source=name,
        sha256=hashlib.sha256(raw).hexdigest(),
        series=series,
        outages=outages,
    )
    for key, found, allowed in doubts(version):
        reading.refuse(None, key, words(found), allowed)
    reading.end()
    return version


def told_issue(raw: bytes, name: str, params: InputParams) -> datetime | None:
    """When a file says that it was issued, of outages the last of them; None where it does not say.

    Raises
    ------
    ConfigError : it cannot be read, or its times of issue cannot.
    """
    table = table_of(raw, name, params.provider)
    reading = _Reading(table=table, params=params, rules={}, arrived=_LATEST)
    times = InputTimes(params.provider, _LATEST)
    issued, columns = _issued(reading, times), params.provider.outage
    if issued is None and columns is not None and (place := columns.issued_at) is not None:
        cells = [(row, row.cells.get(place)) for row in table.rows]
        told = [_time_of_issue(reading, times, row, place, c) for row, c in cells if c not in (None, "")]
        issued = max((t for t in told if t is not None), default=None)
    reading.end()
    return issued


def _expected(reading: _Reading) -> None:
    """What the provider says must stand there, such as the unit of the values."""
    for place, wanted in reading.params.provider.expect.items():
        if place.startswith("/"):
            if (found := reading.table.beside.get(place)) is None or str(found) != wanted:
                reading.refuse(None, place, found, repr(wanted))
            continue
        for row in reading.table.rows:
            if str(row.cells.get(place)) != wanted:
                reading.refuse(row, place, row.cells.get(place), repr(wanted))


def _issued(reading: _Reading, times: InputTimes) -> datetime | None:
    """When all of it was issued, where that is told."""
    place = reading.params.provider.issued
    if place is None or (reading.params.kind is InputKind.OUTAGES and not place.startswith("/")):
        return None
    if place.startswith("/"):
        cells = [reading.table.beside.get(place)]
    else:
        cells = [row.cells.get(place) for row in reading.table.rows]
    odd = next((c for c in cells if not isinstance(c, str | int | float | None)), None)
    if odd is not None:
        reading.refuse(None, place, odd, "a time of issue: text or a number")
        return None
    found: set[Any] = set(cells)
    if found <= {None, ""}:
        return None
    if len(found) > 1:
        told = words(f"{len(found)} times of issue: {', '.join(sorted(map(shown, found))[:3])}")
        reading.refuse(None, place, told, "one in a file")
        return None
    return _time_of_issue(reading, times, None, place, found.pop())


def _time_of_issue(
    reading: _Reading, times: InputTimes, row: Row | None, place: str, cell: Any
) -> datetime | None:
    try:
        when = times.read(cell)
    except TimeRefusedError as why:
        reading.refuse(row, place, cell, why.allowed)
        return None
    if (when - reading.arrived).total_seconds() > FUTURE_S:
        allowed = f"a time of issue that is over, by {reading.arrived:%Y-%m-%d %H:%M} UTC"
        reading.refuse(row, place, cell, allowed, "another zone, or a wrong clock?")
        return None
    # Nothing that is kept is still to be issued: it would become the newest later, with nobody saying so.
    reading.ahead_s = max(reading.ahead_s, (when - reading.arrived).total_seconds())
    return min(when, reading.arrived)


def _series(reading: _Reading, times: InputTimes) -> dict[str, UniformSeries]:
    _begin(reading, times)
    rows = [(row, at) for row in reading.table.rows if (at := _row_time(reading, times, row)) is not None]
    if reading.bad:
        return {}
    step_s = _step_s(reading, rows)
    if step_s is None:
        return {}
    start = rows[0][1]
    places = [round((at - start).total_seconds() / step_s) for _, at in rows]
    out = {}
    for column in _columns(reading):
        values = np.full(places[-1] + 1, math.nan)
        for (row, _), place in zip(rows, places, strict=True):
            values[place] = _value(reading, row, column)
        shift = timedelta(seconds=-step_s if column.at_end else 0.0)
        out[column.series] = UniformSeries(start=start + shift, step_s=step_s, values=values)
        if not np.isfinite(values).any():
            reading.refuse(None, column.at, words("no value at all"), "at least one number")
    return out


def _begin(reading: _Reading, times: InputTimes) -> None:
    place = reading.params.provider.time
    try:
        times.begin([row.cells.get(place) for row in reading.table.rows])
    except TimeRefusedError as why:
        first = reading.table.rows[0]
        reading.refuse(first, place, first.cells.get(place), why.allowed)


def _row_time(reading: _Reading, times: InputTimes, row: Row) -> datetime | None:
    place = reading.params.provider.time
    cell = row.cells.get(place)
    try:
        at = times.next(cell)
    except TimeRefusedError as why:
        reading.refuse(row, place, cell, why.allowed)
        return None
    if not reading.arrived - PAST <= at <= reading.arrived + AHEAD:
        first, last = reading.arrived - PAST, reading.arrived + AHEAD
        reading.refuse(
            row, place, cell, f"{first:%Y-%m-%d} to {last:%Y-%m-%d}", "another year, or seconds for ms?"
        )
        return None
    return at


def _step_s(reading: _Reading, rows: Sequence[tuple[Row, datetime]]) -> float | None:
    """Length of a step [s]; None where it makes no sense, which is told."""
    provider = reading.params.provider
    gaps_s = [(b - a).total_seconds() for (_, a), (_, b) in pairwise(rows)]
    if not gaps_s and provider.step_s is None:
        reading.refuse(None, "rows", words(f"{len(rows)}"), "at least two: their distance is the step")
        return None
    step_s = min(gaps_s) if provider.step_s is None else provider.step_s
    if not STEP_S_MIN <= step_s <= STEP_S_MAX:
        found = words(f"a step of {step_s:g} s")
        reading.refuse(rows[1][0], provider.time, found, f"{STEP_S_MIN:g} to {STEP_S_MAX:g} s")
        return None
    for (row, at), gap_s in zip(rows[1:], gaps_s, strict=True):
        if abs(gap_s / step_s - round(gap_s / step_s)) > 1e-6 or gap_s < step_s:
            found = words(f"{at.isoformat()}, {gap_s:g} s after the row before")
            reading.refuse(row, provider.time, found, f"steps of {step_s:g} s, or whole ones left out")
    return None if reading.bad else step_s


def _columns(reading: _Reading) -> list[InputColumn]:
    """Those of the provider; without any, each column that has the name of a series."""
    provider = reading.params.provider
    if provider.columns:
        return list(provider.columns)
    named = [c for c in reading.table.rows[0].cells if c not in (provider.time, provider.issued)]
    known = reading.rules
    for name in named:
        if name not in known:
            reading.refuse(reading.table.rows[0], name, words("an unknown column"), ", ".join(sorted(known)))
    if not named:
        reading.refuse(
            reading.table.rows[0], "columns", words("no series"), f"some of {', '.join(sorted(known))}"
        )
    return [InputColumn(series=n, at=n, unit=known[n].unit) for n in named if n in known]


def _value(reading: _Reading, row: Row, column: InputColumn) -> float:
    """In our unit; NaN where nothing stands there."""
    cell = row.cells.get(column.at)
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return math.nan
    try:
        number = _number(cell, reading.params.provider.decimal)
    except (ValueError, OverflowError):
        reading.refuse(row, column.at, cell, "a finite number, or nothing where there is a gap")
        return math.nan
    rule = reading.rules[column.series]
    value = number * column.scale + column.offset
    if not rule.low - 1e-9 <= value <= rule.high + 1e-9:
        unit = f" {rule.unit}" if rule.unit else ""
        found = words(f"{number:g}" + ("" if value == number else f", which is {value:g}{unit}"))
        reading.refuse(row, column.at, found, f"{rule.low:g} to {rule.high:g}{unit}", rule.why)
        return math.nan
    return value


def _number(cell: Any, decimal: str) -> float:
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        raise ValueError(cell)
    if isinstance(cell, str) and decimal == "," and "." in cell:
        raise ValueError(cell)
    number = float(cell.strip().replace(",", ".") if isinstance(cell, str) and decimal == "," else cell)
    if not math.isfinite(number):
        raise ValueError(cell)
    return number


def _outages(reading: _Reading, times: InputTimes, issued: datetime | None) -> tuple[AnnouncedOutage, ...]:
    columns = reading.params.provider.outage
    assert columns is not None
    by_rows = (_outage(reading, times, columns, row, issued) for row in reading.table.rows)
    found = [o for o in by_rows if o is not None]
    seen: dict[tuple[str, datetime], AnnouncedOutage] = {}
    for outage in found:
        other = seen.setdefault((outage.id, outage.issued_at), outage)
        if other != outage:
            told = words(f"{outage.id!r} twice with one time of issue")
            reading.refuse(None, columns.id, told, "a later time of issue for a later version")
    return tuple(dict.fromkeys(found))


def _outage(
    reading: _Reading, times: InputTimes, columns: OutageColumns, row: Row, all_issued: datetime | None
) -> AnnouncedOutage | None:
    before = reading.bad
    name = _text(row, columns.id)
    if not name:
        reading.refuse(row, columns.id, row.cells.get(columns.id), "a name of the outage")
    ends = []
    for place in (columns.start, columns.end):
        try:
            ends.append(times.read(row.cells.get(place)))
        except TimeRefusedError as why:
            reading.refuse(row, place, row.cells.get(place), why.allowed)
    issued = all_issued
    if columns.issued_at is not None and (cell := row.cells.get(columns.issued_at)) not in (None, ""):
        issued = _time_of_issue(reading, times, row, columns.issued_at, cell)
    if len(ends) == 2:
        _outage_span(reading, columns, row, ends[0], ends[1])
    status = "planned"
    if columns.status is not None and (cell := row.cells.get(columns.status)) not in (None, ""):
        status = columns.words.get(str(cell).strip(), "")
        if not status:
            reading.refuse(row, columns.status, cell, f"one of {', '.join(columns.words)}")
    if reading.bad > before:
        return None
    return AnnouncedOutage(
        id=name,
        issued_at=reading.arrived if issued is None else issued,
        start=ends[0],
        end=ends[1],
        certainty=Certainty.PLANNED if status == "cancelled" else Certainty(status),
        cancelled=status == "cancelled",
        reason="" if columns.reason is None else _text(row, columns.reason),
    )


def _text(row: Row, place: str) -> str:
    """At most 200 characters that can be printed and kept; half a character of JSON becomes `?`."""
    cell = row.cells.get(place)
    found = "" if cell is None else str(cell).strip()[:200]
    return found.encode("utf-8", "replace").decode("utf-8")


def _outage_span(reading: _Reading, columns: OutageColumns, row: Row, start: datetime, end: datetime) -> None:
    cell = row.cells.get(columns.end)
    if not start < end:
        reading.refuse(row, columns.end, cell, f"after its start, {start.isoformat()}")
    elif end - start > OUTAGE_MAX:
        reading.refuse(row, columns.end, cell, f"at most {OUTAGE_MAX.days} days", "year or month mistyped?")
    elif not reading.arrived - PAST <= start <= reading.arrived + AHEAD:
        first, last = reading.arrived - PAST, reading.arrived + AHEAD
        reading.refuse(
            row, columns.start, row.cells.get(columns.start), f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
        )


def content_sha256(version: InputVersion) -> str:
    """Hash of what a version tells, whatever the bytes were that told it."""
    found = hashlib.sha256()
    for name, s in sorted(version.series.items()):
        found.update(f"{name} {s.start.astimezone(UTC).isoformat()} {s.step_s!r} ".encode())
        found.update(np.asarray(s.values, dtype="<f8").tobytes())
    for o in version.outages:
        told = "" if o.issued_at == version.arrived_at else o.issued_at.isoformat()
        found.update(repr((o.id, told, o.start, o.end, str(o.certainty), o.cancelled, o.reason)).encode())
    return found.hexdigest()
