"""Rows as samples: when, which point, its value in our unit and sign, whether it was good."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from connectors.historian.schema import QUALITY_CODES
from connectors.imports.rows import Line, Rows
from connectors.sqlite_file import EPOCH, to_ms
from ems.errors import ConfigError, Problem
from ems.imports import ImportedPoint, ImportMapping
from ems.telemetry import Quality

TOLD_MAX = 50
GOOD, BAD = QUALITY_CODES[Quality.GOOD], QUALITY_CODES[Quality.DEVICE_BAD]


class Imported(NamedTuple):
    """One value of another historian."""

    line: int
    at_ms: int
    point: str
    value: float | None
    quality: int


class _Refused(Exception):
    def __init__(self, column: str, found: object, allowed: str) -> None:
        self.column, self.found, self.allowed = column, repr(found), allowed


class Converter:
    """Reads rows as a mapping says, and keeps what is wrong with them.

    A time that comes twice in the year is the second one where the first would not be later than the value
    before it of the same tag.
    """

    def __init__(self, rows: Rows, mapping: ImportMapping) -> None:
        self._rows, self._mapping = rows, mapping
        self._last: dict[str, datetime] = {}
        self.problems: list[Problem] = []
        self.bad = 0  # rows with a problem
        self.unknown: dict[str, int] = {}  # rows of tags that the mapping does not name

    def samples(self, after_line: int = 0) -> Iterator[Imported]:
        """Each value; what is wrong with others is in `problems` afterwards. Raises ConfigError."""
        for line in self._rows.lines():
            try:
                found = list(self._long(line) if self._mapping.tag is not None else self._wide(line))
            except _Refused as why:
                self.bad += 1
                if len(self.problems) < TOLD_MAX:
                    problem = Problem(
                        file=self._rows.name, line=line.number, key=why.column, found=why.found,
                        allowed=why.allowed,
                    )  # fmt: skip
                    self.problems.append(problem)
                continue
            if line.number > after_line:
                yield from found

    def refuse(self) -> None:
        """Raise ConfigError with all problems, where there were any."""
        if not self.bad:
            return
        problems = list(self.problems)
        if self.bad > len(problems):
            more = f"{self.bad - len(problems)} more rows like these"
            problems.append(Problem(file=self._rows.name, line=None, key="rows", found=more, allowed="none"))
        raise ConfigError(problems)

    def _long(self, line: Line) -> Iterator[Imported]:
        m = self._mapping
        assert m.tag is not None
        assert m.value is not None
        tag = str(line.cells[m.tag])
        if (point := m.points.get(tag)) is None:
            self.unknown[tag] = self.unknown.get(tag, 0) + 1
            return
        at = self._time(line.cells[m.time], tag)
        good = m.quality is None or str(line.cells[m.quality]).strip() in m.good
        value = self._value(line.cells[m.value], m.value, point)
        quality = GOOD if good and value is not None else BAD
        yield Imported(line.number, to_ms(at), point.point, value, quality)

    def _wide(self, line: Line) -> Iterator[Imported]:
        at_ms = to_ms(self._time(line.cells[self._mapping.time], ""))
        for column, point in self._mapping.points.items():
            value = self._value(line.cells[column], column, point)
            if value is not None:
                yield Imported(line.number, at_ms, point.point, value, GOOD)

    def _value(self, cell: Any, column: str, point: ImportedPoint) -> float | None:
        """None where nothing stands there."""
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            return None
        try:
            if isinstance(cell, str):
                number = float(cell.strip().replace(",", ".") if self._mapping.decimal == "," else cell)
            elif isinstance(cell, bool | int | float | Decimal):
                number = float(cell)
            else:
                raise ValueError(type(cell))
        except (ValueError, OverflowError):
            allowed = f"a number with {self._mapping.decimal!r} before its decimals, or nothing"
            raise _Refused(column, cell, allowed) from None
        number = number * point.scale + point.offset
        if not math.isfinite(number):
            raise _Refused(column, cell, "a finite number, or nothing")
        return number

    def _time(self, cell: Any, tag: str) -> datetime:
        found = self._parsed(cell)
        zone = self._mapping.zone
        if found.tzinfo is None:
            if zone is None:
                raise _Refused(self._mapping.time, cell, "a time with its zone, or `zone` in the mapping")
            local = found.replace(tzinfo=zone)
            found = local.astimezone(UTC)
            if found.astimezone(zone).replace(tzinfo=None) != local.replace(tzinfo=None):
                raise _Refused(self._mapping.time, cell, f"a time that there was in {zone}")
            last = self._last.get(tag)
            if last is not None and found <= last:
                second = local.replace(fold=1).astimezone(UTC)
                found = second if second > found else found
        self._last[tag] = found
        return found.astimezone(UTC) + timedelta(seconds=self._mapping.shift_s)

    def _parsed(self, cell: Any) -> datetime:
        form = self._mapping.time_form
        try:
            if isinstance(cell, datetime):
                return cell
            if form in ("s", "ms"):
                number = float(cell)
                return EPOCH + timedelta(milliseconds=round(number * 1000 if form == "s" else number))
            text = str(cell).strip()
            return datetime.fromisoformat(text) if form == "iso" else _strptime(text, form)
        except (ValueError, TypeError, OverflowError):
            wanted = {"iso": "a time in ISO 8601", "s": "seconds since 1970 UTC", "ms": "milliseconds"}
            raise _Refused(self._mapping.time, cell, wanted.get(form, f"a time like {form}")) from None


def _strptime(text: str, form: str) -> datetime:
    return datetime.strptime(text, form)  # noqa: DTZ007  (its zone is that of the mapping)
