"""The historian's rows in the order they were written, each once, under numbers without a gap.

The file itself is the spool: a row's number is seq, counting from 1 in each opening of the file. A row that
was lost with the machine's power takes its number with it, since the next opening is another one. Openings
are told apart by their time as well, for a file that was put back to what it was last week.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from connectors.historian.archive.reader import ArchiveReader
from connectors.historian.audit.file import Opening
from connectors.historian.audit.ledger import AUDIT
from connectors.historian.audit.reader import AuditArchive
from connectors.historian.audit.table import COLUMNS
from connectors.historian.schema import ARCHIVE, HISTORY, QUALITIES, SPOOLED
from connectors.sqlite_file import DiskError, ReadOnlyFile, StoreError, from_ms

log = structlog.get_logger()

QUALITY_NAMES = {code: quality.value for code, quality in QUALITIES.items()}
AT_ONCE = 500  # numbers of points in one question, below SQLite's limit of variables


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Rows [first, last] of one boot, both included."""

    boot: int
    first: int
    last: int

    @property
    def count(self) -> int:
        """How many rows."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Head:
    """One opening of the file: when it was opened [ms since 1970 UTC], and its newest number."""

    opened_ms: int
    last: int


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it is sent: its number and its JSON text, values of a snapshot apart."""

    seq: int
    head: Mapping[str, Any]
    at_ms: int | None  # since 1970 UTC; None: it is not kept any more
    values: Mapping[str, tuple[float | None, str, int]] | None = None  # value, quality, age of sample [ms]

    @property
    def kind(self) -> str:
        """A kind of `SPOOLED`, or `gone`."""
        return str(self.head["kind"])

    @property
    def text(self) -> str:
        """All but the values of a snapshot, as JSON."""
        return _text(self.head)

    def lines(self, bytes_max: int) -> list[str]:
        """JSON texts: one, or as many as its values need where one would be longer than `bytes_max`."""
        if self.values is None:
            return [_text(self.head)]
        whole = _text({**self.head, "values": self.values})
        if len(whole.encode()) <= bytes_max or len(self.values) < 2:
            return [whole]
        n = min(len(self.values), -(-len(whole.encode()) // max(1, bytes_max // 2)))
        points = list(self.values)
        size = -(-len(points) // n)
        groups = [points[i : i + size] for i in range(0, len(points), size)]
        return [
            _text(
                {
                    **self.head,
                    "part": i + 1,
                    "parts": len(groups),
                    "values": {p: self.values[p] for p in group},
                }
            )
            for i, group in enumerate(groups)
        ]


class Spool:
    """Read side. Every method is one or a few short queries; a file that is not there yet is empty.

    Raises
    ------
    StoreError : the file is of another kind or version, or (DiskError) cannot be read now.
    """

    def __init__(self, path: Path) -> None:
        self._file = ReadOnlyFile(path, HISTORY)
        self._archive = ArchiveReader(path.parent / ARCHIVE)
        self._audit = AuditArchive(path.parent / ARCHIVE / AUDIT)
        self._names: dict[int, str] = {}
        self._lost: set[str] = set()  # segments that were told
        self._is_there = False

    def store(self) -> str | None:
        """The name of this file, which a file made anew does not have; None: no rows are numbered yet."""
        if not self._is_there:
            self._is_there = bool(self._file.rows("SELECT 1 FROM sqlite_master WHERE name = 'spool'"))
        if not self._is_there:
            return None
        rows = self._file.rows("SELECT id FROM store")
        return str(rows[0][0]) if rows else None

    def heads(self) -> dict[int, Head]:
        """Boot -> how far it goes, oldest first; only those with rows."""
        rows = self._file.rows(
            "SELECT b.boot, b.opened_ms, (SELECT max(seq) FROM spool s WHERE s.boot = b.boot) "
            "FROM boot b ORDER BY b.boot"
        )
        return {boot: Head(opened_ms, last) for boot, opened_ms, last in rows if last is not None}

    def at_ms(self, boot: int, seq: int) -> int | None:
        """When about a row was recorded: the time of the next snapshot [ms since 1970 UTC]."""
        opening = self._opening(boot)
        if opening is not None and seq <= (reach := self._audit.reach(opening)):
            if (found := self._audit.snapshot_from(opening, seq)) is not None:
                return found
            seq = reach + 1
        rows = self._file.rows(
            "SELECT a FROM spool WHERE boot = ? AND seq >= ? AND kind = ? ORDER BY seq LIMIT 1",
            (boot, seq, SPOOLED["readings"]),
        )
        return int(rows[0][0]) if rows else None

    def time_of(self, boot: int, seq: int, head: Head) -> int:
        """When about a row was recorded [ms since 1970 UTC]: as the next snapshot, else as the last."""
        if (found := self.at_ms(boot, seq)) is not None:
            return found
        rows = self._file.rows(
            "SELECT a FROM spool WHERE boot = ? AND seq < ? AND kind = ? ORDER BY seq DESC LIMIT 1",
            (boot, seq, SPOOLED["readings"]),
        )
        opening = self._opening(boot)
        found = None if opening is None else self._audit.snapshot_before(opening, seq)
        return max([int(rows[0][0]) if rows else head.opened_ms, *([] if found is None else [found])])

    def first_since(self, boot: int, at_ms: int, head: Head, low: int = 1) -> int:
        """The first number of a boot from a time on, by `time_of`; one more than the last: all are older.

        Times of snapshots ascend in a boot. Numbers before `low` are older.
        """
        high = head.last + 1
        while low < high:
            middle = (low + high) // 2
            if self.time_of(boot, middle, head) < at_ms:
                low = middle + 1
            else:
                high = middle
        return low

    def records(self, span: Span) -> list[Record]:
        """The rows of a span, in order; one that is not kept any more says so."""
        rows = self._file.rows(
            "SELECT seq, kind, a, b FROM spool WHERE boot = ? AND seq BETWEEN ? AND ? ORDER BY seq",
            (span.boot, span.first, span.last),
        )
        found = {seq: (kind, a, b) for seq, kind, a, b in rows}
        by_kind: dict[int, list[tuple[int, int]]] = {}
        for kind, a, b in found.values():
            by_kind.setdefault(kind, []).append((a, b))
        bodies = {
            (kind, *key): record
            for name, kind in SPOOLED.items()
            for key, record in self._bodies(name, span.boot, by_kind.get(kind, ()))
        }
        told = {seq: bodies[key] for seq, key in found.items() if key in bodies}
        told |= self._packed(span, told.keys())
        out = []
        for seq in range(span.first, span.last + 1):
            head, at_ms, values = told.get(seq, ({"kind": "gone"}, None, None))
            out.append(Record(seq, {"seq": seq, **head}, at_ms, values))
        return out

    def _packed(self, span: Span, known: Collection[int]) -> dict[int, Any]:
        """What of a span has left the file: (head, at_ms, values) by number."""
        missing = [n for n in range(span.first, span.last + 1) if n not in known]
        opening = self._opening(span.boot) if missing else None
        if opening is None or missing[0] > self._audit.reach(opening):
            return {}
        rows = self._audit.numbers(opening, missing[0], missing[-1])
        times = [row[1] for kind, row in rows.values() if kind == "readings"]
        snapshots = dict(self._snapshots(times))
        out: dict[int, Any] = {}
        for number, (kind, row) in rows.items():
            if kind == "readings":
                body = snapshots.get((row[1], 0))
            else:
                body = self._head(kind, row[1], [row[i] for i in _PACKED[kind]]), row[1], None
            if body is not None and number not in known:
                out[number] = body
        return out

    def _opening(self, boot: int) -> Opening | None:
        """Of this file; None: it has no such boot."""
        rows = self._file.rows("SELECT s.id, b.opened_ms FROM store s JOIN boot b ON b.boot = ?", (boot,))
        return (str(rows[0][0]), boot, int(rows[0][1])) if rows else None

    def points(self) -> list[str]:
        """Names of all points that were ever recorded, in the order in which they first were."""
        return [name for (name,) in self._file.rows("SELECT name FROM point ORDER BY id")]

    def newest(self) -> tuple[Opening, Record] | None:
        """The newest opening and its newest snapshot; None: it has none yet."""
        rows = self._file.rows(
            "SELECT boot, seq FROM spool WHERE boot = (SELECT max(boot) FROM boot) AND kind = ? "
            "ORDER BY seq DESC LIMIT 1",
            (SPOOLED["readings"],),
        )
        if not rows:
            return None
        boot, seq = rows[0]
        (record,) = self.records(Span(boot=boot, first=seq, last=seq))
        opening = self._opening(boot)
        return (opening, record) if opening is not None and record.values is not None else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._archive.close()

    def _bodies(self, name: str, boot: int, keys: Sequence[tuple[int, int]]) -> Iterator[tuple[Any, Any]]:
        """(key, (head, at_ms, values)) of each row of one kind."""
        if not keys:
            return
        if name == "readings":
            yield from self._snapshots([a for a, _ in keys])
            return
        sql = _AUDIT[name]
        first, last = min(keys), max(keys)
        bounds = (boot, *first, *last) if name == "outcome" else (boot, first[0], last[0])
        for a, b, at_ms, *fields in self._file.rows(sql, bounds):
            if "point" in _FIELDS[name]:
                fields[0] = self._name(fields[0])
            yield (a, b), (self._head(name, at_ms, fields), at_ms, None)

    @staticmethod
    def _head(kind: str, at_ms: int, fields: Sequence[Any]) -> dict[str, Any]:
        head = {"kind": kind, "at": _iso(at_ms), **dict(zip(_FIELDS[kind], fields, strict=True))}
        if kind == "event":
            head["fields"] = json.loads(head["fields"])
        if kind == "sample":
            told_ms = head["told_at"]
            head["told_at"] = None if told_ms is None else _iso(told_ms)
            head |= {"quality": QUALITY_NAMES[head["quality"]], "source_at": _iso(head["source_at"])}
        return head

    def _snapshots(self, times: Sequence[int]) -> Iterator[tuple[Any, Any]]:
        for i in range(0, len(times), AT_ONCE):
            some = times[i : i + AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = self._file.rows(
                "SELECT at_ms, point_id, value, quality, lag_ms FROM reading "  # noqa: S608  (marks alone)
                f"WHERE at_ms IN ({marks}) ORDER BY at_ms, point_id",
                some,
            )
            values: dict[int, dict[str, tuple[float | None, str, int]]] = {}
            for at_ms, point_id, value, quality, lag_ms in rows:
                of = values.setdefault(at_ms, {})
                of[self._name(point_id)] = (value, QUALITY_NAMES[quality], lag_ms)
            for at_ms in some:
                told = values.get(at_ms) or self._older(at_ms)
                if told:
                    yield (at_ms, 0), ({"kind": "readings", "at": _iso(at_ms)}, at_ms, told)

    def _older(self, at_ms: int) -> dict[str, tuple[float | None, str, int]]:
        """A snapshot that has left the file; points in the order of their numbers, as there.

        One in a segment that is damaged is gone, which is logged once: a link does not stand still at it.
        """
        try:
            found = self._archive.snapshot(at_ms)
        except DiskError:
            raise  # it may be read again
        except StoreError as error:
            if str(error) not in self._lost:
                log.error("archive.segment.lost", why=str(error))
                self._lost.add(str(error))
            return {}
        if found and not found.keys() <= set(self._names.values()):
            self._names = dict(self._file.rows("SELECT id, name FROM point"))
        order = {name: i for i, name in sorted(self._names.items())}
        return {
            point: (None if value != value else value, QUALITY_NAMES[quality], lag_ms)
            for point, (value, quality, lag_ms) in sorted(found.items(), key=lambda kv: order[kv[0]])
        }

    def _name(self, point_id: int) -> str:
        if point_id not in self._names:
            self._names = dict(self._file.rows("SELECT id, name FROM point"))
        return self._names[point_id]


_AUDIT = {
    "command": "SELECT n, 0, at_ms, point_id, value, cause, reason, owner, plan_id, epoch, seq, limits_hash "
    "FROM command WHERE boot = ? AND n BETWEEN ? AND ?",
    "outcome": "SELECT epoch, seq, finished_ms, epoch, seq, outcome, detail FROM outcome "
    "WHERE boot = ? AND (epoch, seq) >= (?, ?) AND (epoch, seq) <= (?, ?)",
    "refusal": "SELECT n, 0, at_ms, point_id, value, cause, code, reason FROM refusal "
    "WHERE boot = ? AND n BETWEEN ? AND ?",
    "event": "SELECT n, 0, at_ms, kind, fields FROM event WHERE boot = ? AND n BETWEEN ? AND ?",
    "sample": "SELECT n, 0, at_ms, point_id, value, quality, source_ms, told_ms, clock FROM sample "
    "WHERE boot = ? AND n BETWEEN ? AND ?",
}
_FIELDS = {
    "command": (
        "point", "value", "cause", "reason", "owner", "plan_id", "epoch", "command_seq", "limits_hash",
    ),
    "outcome": ("epoch", "command_seq", "outcome", "detail"),
    "refusal": ("point", "value", "cause", "code", "reason"),
    "event": ("event", "fields"),
    "sample": ("point", "value", "quality", "source_at", "told_at", "clock"),
}  # fmt: skip

# Where in a row of a packed file the same fields are.
_PACKED = {
    kind: [COLUMNS[kind].index("seq" if f == "command_seq" else f) for f in fields]
    for kind, fields in _FIELDS.items()
}


def _iso(at_ms: int) -> str:
    return from_ms(at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(record: Mapping[str, Any]) -> str:
    return json.dumps(record, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
