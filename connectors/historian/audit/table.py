r"""Audit rows as lines of CSV: one table for each kind, the same text for the same rows.

A number comes back bit for bit; a value that is not there is `\N`; times are UTC to the millisecond.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from connectors.historian.schema import SPOOLED
from connectors.sqlite_file import from_ms, to_ms

csv.field_size_limit(2**31 - 1)  # an event may be longer than the 128 KiB that are usual
Row = tuple[Any, ...]
NONE = "\\N"
AT = "at"
NUMBER = "number"  # of the record in its opening of the historian's file
_WHOLE = frozenset([NUMBER, "n", "epoch", "seq", "kind", "a", "b", "quality"])
_TIMES = frozenset([AT, "source_at", "told_at"])
READINGS, COMMAND, OUTCOME, REFUSAL, EVENT, SAMPLE, GONE = (
    "readings", "command", "outcome", "refusal", "event", "sample", "gone",
)  # fmt: skip
COLUMNS: Mapping[str, tuple[str, ...]] = {
    EVENT: (NUMBER, AT, "n", "event", "fields"),
    REFUSAL: (NUMBER, AT, "n", "point", "value", "cause", "code", "reason"),
    COMMAND: (
        NUMBER, AT, "n", "epoch", "seq", "point", "value", "cause", "reason", "owner", "plan_id",
        "limits_hash",
    ),
    OUTCOME: (NUMBER, AT, "epoch", "seq", "outcome", "detail"),
    SAMPLE: (NUMBER, AT, "n", "point", "value", "quality", "source_at", "told_at", "clock"),  # of a device
    READINGS: (NUMBER, AT),  # a snapshot's own rows are in the segments of readings
    GONE: (NUMBER, "kind", "a", "b"),  # numbers whose row was not there any more
}  # fmt: skip
_BODIES = {
    EVENT: "x.at_ms, x.n, x.kind, x.fields",
    REFUSAL: "x.at_ms, x.n, p.name, x.value, x.cause, x.code, x.reason",
    COMMAND: "x.at_ms, x.n, x.epoch, x.seq, p.name, x.value, x.cause, x.reason, x.owner, x.plan_id, "
    "x.limits_hash",
    OUTCOME: "x.finished_ms, x.epoch, x.seq, x.outcome, x.detail",
    SAMPLE: "x.at_ms, x.n, p.name, x.value, x.quality, x.source_ms, x.told_ms, x.clock",
}


def _select(kind: str) -> str:
    """Rows of one kind of numbers [?, ?] of boot ?, the number first."""
    where = f"WHERE s.boot = ? AND s.seq BETWEEN ? AND ? AND s.kind = {SPOOLED[kind]} ORDER BY s.seq"
    if kind == READINGS:
        return f"SELECT s.seq, s.a FROM spool s {where}"  # noqa: S608  (constants of this module)
    key = "x.epoch = s.a AND x.seq = s.b" if kind == OUTCOME else "x.n = s.a"
    point = " JOIN point p ON p.id = x.point_id" if "p.name" in _BODIES[kind] else ""
    body = f"FROM spool s JOIN {kind} x ON x.boot = s.boot AND {key}{point}"
    return f"SELECT s.seq, {_BODIES[kind]} {body} {where}"


SELECTS: Mapping[str, str] = {kind: _select(kind) for kind in COLUMNS if kind != GONE}


def lines(kind: str, rows: Iterable[Row]) -> str:
    """Rows of one kind as CSV, their names first; times come as ms since 1970 UTC."""
    out = io.StringIO()
    writer = csv.writer(out)  # lines end as in RFC 4180, or a text that is such an end would not be quoted
    names = COLUMNS[kind]
    writer.writerow(names)
    times = [i for i, name in enumerate(names) if name in _TIMES]
    for row in rows:
        writer.writerow([iso(v) if i in times and v is not None else _text(v) for i, v in enumerate(row)])
    return out.getvalue()


def cells(text: str) -> Iterator[list[str]]:
    """Lines as they are written, without their names. Times sort as texts."""
    found = csv.reader(io.StringIO(text))
    next(found)
    return found


def row_of(kind: str, line: Sequence[str]) -> Row:
    """A line as the row that it was. Raises ValueError where it is none."""
    return tuple(_value(name, cell) for name, cell in zip(COLUMNS[kind], line, strict=True))


def iso(at_ms: int) -> str:
    """Time as it stands in a file."""
    return from_ms(at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, float):
        return repr(value)
    text = str(value)
    return "\\" + text if text.startswith("\\") else text


def _value(name: str, cell: str) -> Any:
    if cell == NONE:
        return None
    if name in _WHOLE:
        return int(cell)
    if name in _TIMES:
        return to_ms(datetime.fromisoformat(cell))
    if name == "value":
        return float(cell)
    return cell[1:] if cell.startswith("\\") else cell
