"""Bytes of a file or an answer as rows, as its provider says; nothing is believed of them yet."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ems.errors import ConfigError, Problem
from ems.inputs import InputKind, Provider

ROWS_MAX = 200_000


class Row(NamedTuple):
    """One row: its number as a person counts (the line of a CSV file), and what stands in it."""

    number: int
    cells: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Table:
    """All rows, and what stands beside them; `lines`: whether rows are lines of a text."""

    name: str
    rows: list[Row]
    lines: bool
    beside: dict[str, Any] = field(default_factory=dict)  # by JSON pointer

    def problem(self, row: Row | None, key: str, found: object, allowed: str, why: str = "") -> Problem:
        """One thing that is wrong, where it stands."""
        where = key if row is None or self.lines else f"row {row.number}, {key}"
        line = row.number if row is not None and self.lines else None
        return Problem(file=self.name, line=line, key=where, found=shown(found), allowed=allowed, message=why)


def shown(found: object) -> str:
    """A found value, shortened."""
    text = found if isinstance(found, _Words) else repr(found)
    return text if len(text) <= 60 else f"{text:.57}..."


class _Words(str):
    """Found, in our own words: shown without quotes."""

    __slots__ = ()


words = _Words


def refused(name: str, line: int | None, key: str, found: object, allowed: str) -> ConfigError:
    """One problem, as an error."""
    problem = Problem(file=name, line=line, key=key, found=shown(found), allowed=allowed)
    return ConfigError([problem])


def table_of(raw: bytes, name: str, provider: Provider) -> Table:
    """Read a whole file or answer.

    Raises
    ------
    ConfigError : it is no text in UTF-8, no CSV or JSON, or a column, key or list is not there.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = words(f"byte 0x{raw[error.start]:02x} at {error.start}")
        raise refused(name, None, "encoding", found, "text in UTF-8") from None
    table = _csv(text, name, provider) if provider.body == "csv" else _json(text, name, provider)
    if not table.rows and provider.kind is not InputKind.OUTAGES:
        raise refused(name, None, "rows", words("none"), "at least two")
    return table


def places(provider: Provider) -> tuple[list[str], list[str]]:
    """(what each row must have, what it may have)."""
    if provider.outage is not None:
        o = provider.outage
        return [o.id, o.start, o.end], [k for k in (o.issued_at, o.status, o.reason) if k is not None]
    needed = [provider.time, *(c.at for c in provider.columns)]
    return needed, [] if provider.issued is None else [provider.issued]


def _csv(text: str, name: str, provider: Provider) -> Table:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=provider.delimiter, strict=True)
    try:
        header = [c.strip() for c in next(reader, [])]
        _check_header(header, name, provider)
        rows = []
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                found = words(f"{len(cells)} columns")
                raise refused(name, reader.line_num, "row", found, f"{len(header)}, as in the first line")
            rows.append(Row(reader.line_num, dict(zip(header, cells, strict=True))))
            _not_too_many(rows, name)
    except csv.Error as error:
        raise refused(name, reader.line_num, "row", words(str(error)), "CSV (RFC 4180)") from None
    return Table(name=name, rows=rows, lines=True)


def _check_header(header: Sequence[str], name: str, provider: Provider) -> None:
    needed, may = places(provider)
    problems = [
        Problem(
            file=name, line=1, key=c, found="no such column", allowed=f"one of {', '.join(header) or 'none'}"
        )
        for c in needed
        if c not in header
    ]
    problems += [
        Problem(file=name, line=1, key=c, found="two columns of this name", allowed="one")
        for c in sorted({c for c in header if header.count(c) > 1})
    ]
    if provider.outage is not None and not provider.name:  # our own form: nothing is overlooked
        problems += [
            Problem(file=name, line=1, key=c, found="an unknown column", allowed=", ".join([*needed, *may]))
            for c in header
            if c not in {*needed, *may}
        ]
    if problems:
        raise ConfigError(problems)


def _not_too_many(rows: Sequence[Row], name: str) -> None:
    if len(rows) > ROWS_MAX:
        raise refused(name, None, "rows", words(f"more than {ROWS_MAX}"), f"at most {ROWS_MAX}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key comes twice")
    return out


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _json(text: str, name: str, provider: Provider) -> Table:
    try:
        body = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise refused(name, None, "body", words(str(error) or "too deep"), "JSON") from None
    asked = [
        p for p in (*provider.expect, *([provider.issued] if provider.issued else [])) if p.startswith("/")
    ]
    beside = {p: at_pointer(body, p) for p in asked}
    rows = _parallel(body, name, provider) if provider.shape == "columns" else _records(body, name, provider)
    return Table(name=name, rows=rows, lines=False, beside=beside)


def _records(body: Any, name: str, provider: Provider) -> list[Row]:
    found = at_pointer(body, provider.rows)
    place = provider.rows or "the body"
    if not isinstance(found, list):
        raise refused(name, None, place, _kind(found), "a list of records")
    rows = []
    needed, _ = places(provider)
    for n, record in enumerate(found, 1):
        if not isinstance(record, dict):
            raise refused(name, None, f"{place}, row {n}", _kind(record), "a record")
        if missing := [k for k in needed if k not in record]:
            raise refused(name, None, f"{place}, row {n}", words(f"no {missing[0]}"), ", ".join(needed))
        rows.append(Row(n, record))
        _not_too_many(rows, name)
    return rows


def _parallel(body: Any, name: str, provider: Provider) -> list[Row]:
    lists: dict[str, list[Any]] = {}
    for place in places(provider)[0]:
        found = at_pointer(body, place)
        if not isinstance(found, list):
            raise refused(name, None, place, _kind(found), "a list")
        lists[place] = found
    count = len(lists[provider.time])
    for place, found in lists.items():
        if len(found) != count:
            raise refused(
                name, None, place, words(f"{len(found)} values"), f"{count}, as many as {provider.time}"
            )
    rows = [Row(n + 1, {place: values[n] for place, values in lists.items()}) for n in range(count)]
    _not_too_many(rows, name)
    return rows


def _kind(found: Any) -> _Words:
    names = {dict: "a record", list: "a list", str: "a text", type(None): "nothing", bool: "true or false"}
    return words(names.get(type(found), "a number"))


def at_pointer(body: Any, pointer: str) -> Any:
    """What stands at a JSON pointer (RFC 6901); None where nothing does."""
    for part in _parts(pointer):
        if isinstance(body, dict):
            body = body.get(part)
        elif isinstance(body, list) and part.isdigit() and int(part) < len(body):
            body = body[int(part)]
        else:
            return None
    return body


def _parts(pointer: str) -> Iterator[str]:
    return (p.replace("~1", "/").replace("~0", "~") for p in pointer.split("/")[1:])
