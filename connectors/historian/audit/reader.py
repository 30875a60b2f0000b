"""Audit rows wherever they lie: the recent ones in the historian's file, older ones in packed files.

A row may move from one to the other while somebody reads. It is in a file, and the file in the ledger,
before it leaves the historian: whoever asks the historian first misses none; what is found twice counts once.
"""

import bisect
import heapq
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import structlog

from connectors.historian.audit.file import AuditFile, Opening
from connectors.historian.audit.ledger import AUDIT, AuditEntry, AuditLedgerReader
from connectors.historian.audit.table import (
    COLUMNS,
    COMMAND,
    EVENT,
    GONE,
    OUTCOME,
    READINGS,
    REFUSAL,
    Row,
    iso,
    row_of,
)
from connectors.sqlite_file import DiskError, ReadOnlyFile
from ems.errors import BadValue

log = structlog.get_logger()

T = TypeVar("T")
RETRIES = 3  # a file may be removed while it is looked for
OUTCOME_MS_MAX = 3_600_000  # after its command
SERIES_MAX = 8  # files whose times of snapshots are kept at hand
Found = tuple[int, int, int, Row]  # time, boot, n, the row: sorts as it is told
_COMMANDS = """
    SELECT r.at_ms, r.boot, r.n, p.name, r.value, r.cause, r.reason, r.owner, r.plan_id, r.epoch, r.seq,
           r.limits_hash, r.code, o.outcome, o.detail
    FROM (
        SELECT at_ms, boot, n, point_id, value, cause, reason, owner, plan_id, epoch, seq, limits_hash,
               NULL AS code
        FROM command WHERE at_ms >= :start AND at_ms < :end{0}
        UNION ALL
        SELECT at_ms, boot, n, point_id, value, cause, reason, '', NULL, 0, 0, '', code
        FROM refusal WHERE at_ms >= :start AND at_ms < :end{0}
        ORDER BY at_ms DESC, boot DESC, n DESC LIMIT :limit
    ) r
    JOIN point p ON p.id = r.point_id
    LEFT JOIN outcome o ON o.boot = r.boot AND o.epoch = r.epoch AND o.seq = r.seq AND r.code IS NULL
    ORDER BY r.at_ms DESC, r.boot DESC, r.n DESC
    """
_OF_POINT = " AND point_id = (SELECT id FROM point WHERE name = :point)"
_EVENTS = (
    "SELECT at_ms, boot, n, kind, fields FROM event WHERE at_ms >= :start AND at_ms < :end "
    "AND (:kind IS NULL OR kind = :kind OR (:begins AND substr(kind, 1, length(:kind)) = :kind)) "
    "ORDER BY at_ms DESC, boot DESC, n DESC LIMIT :limit"
)
_OUTCOME = "SELECT outcome, detail FROM outcome WHERE boot = ? AND epoch = ? AND seq = ?"


class AuditArchive:
    """The packed files of one folder; one that is not there is empty. Safe to use from several threads.

    Raises
    ------
    DiskError : a file cannot be read, or is not what was written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._ledger = folder, AuditLedgerReader(folder)
        self._lock = threading.Lock()
        self._series: OrderedDict[str, list[tuple[int, int]]] = OrderedDict()
        self._whole: tuple[str, Mapping[int, tuple[str, Row]]] = ("", {})
        self._lost: set[str] = set()  # files that were told

    def commands(self, start_ms: int, end_ms: int, point: str | None, limit: int) -> list[Found]:
        """Commands and refusals in [start, end), newest first, at most `limit`; as `_COMMANDS` tells them."""

        def in_file(entry: AuditEntry) -> Iterator[Found]:
            head = entry.head
            if point is None or point in head.commands or point in head.refusals:
                with AuditFile(self._folder / entry.file) as file:
                    yield from _commands_of(file, iso(start_ms), iso(end_ms), point)

        return self._read(lambda: self._with_outcomes(self._newest(start_ms, end_ms, limit, in_file)))

    def events(self, start_ms: int, end_ms: int, kind: str | None, limit: int) -> list[Found]:
        """Events in [start, end), newest first, at most `limit`; a kind with a dot at its end is a family."""

        def is_one(name: str) -> bool:
            return kind is None or name == kind or (kind.endswith(".") and name.startswith(kind))

        def in_file(entry: AuditEntry) -> Iterator[Found]:
            if any(is_one(name) for name in entry.head.events):
                with AuditFile(self._folder / entry.file) as file:
                    for row in _between(file, EVENT, iso(start_ms), iso(end_ms)):
                        _, at_ms, n, name, fields = row
                        if is_one(name):
                            yield at_ms, file.head.boot, n, (name, fields)

        return self._read(lambda: self._newest(start_ms, end_ms, limit, in_file))

    def writes(self, point: str, start_ms: int, end_ms: int) -> set[tuple[int, int, int]]:
        """Time, boot and n of the commands of a point in [start, end)."""

        def of() -> set[tuple[int, int, int]]:
            out = set()
            for entry in self._overlapping(start_ms, end_ms):
                if point in entry.head.commands:
                    with AuditFile(self._folder / entry.file) as file:
                        at = COLUMNS[COMMAND].index("point")
                        rows = _between(file, COMMAND, iso(start_ms), iso(end_ms))
                        out |= {(row[1], entry.head.boot, row[2]) for row in rows if row[at] == point}
            return out

        return self._read(of)

    def numbers(self, opening: Opening, first: int, last: int) -> dict[int, tuple[str, Row]]:
        """Kind and row of each number of an opening that is in a file which is there as it was written."""

        def of() -> dict[int, tuple[str, Row]]:
            out: dict[int, tuple[str, Row]] = {}
            for entry in self._ledger.catalogue().of(opening):
                if entry.head.first <= last and entry.head.last >= first:
                    none: Mapping[int, tuple[str, Row]] = {}
                    rows = self._or(self._numbered, entry, none)
                    out |= {n: rows[n] for n in range(first, last + 1) if n in rows}
            return out

        return self._alone(of)

    def snapshot_from(self, opening: Opening, number: int) -> int | None:
        """When the next snapshot from a number on was, if it is in a file [ms since 1970 UTC].

        A file that is damaged or missing tells it as exactly as the ledger knows.
        """

        def of() -> int | None:
            for entry in self._ledger.catalogue().of(opening):
                if (head := entry.head).last >= number:
                    series = self._or(self._snapshots, entry, [(head.last, head.start_ms)])
                    at = bisect.bisect_left(series, (number, 0))
                    if at < len(series):
                        return series[at][1]
            return None

        return self._alone(of)

    def snapshot_before(self, opening: Opening, number: int) -> int | None:
        """When the last snapshot before a number was, if it is in a file [ms since 1970 UTC]; as above."""

        def of() -> int | None:
            for entry in reversed(self._ledger.catalogue().of(opening)):
                if (head := entry.head).first < number:
                    ends = [(head.first, head.start_ms), (head.last, head.end_ms - 1)]
                    series = self._or(self._snapshots, entry, ends)
                    at = bisect.bisect_left(series, (number, 0))
                    if at:
                        return series[at - 1][1]
            return None

        return self._alone(of)

    def reach(self, opening: Opening) -> int:
        """The last number of an opening that ever was in a file; 0: none was."""
        return self._alone(lambda: self._ledger.catalogue().reach.get(opening, 0))

    def _alone(self, what: Callable[[], T]) -> T:
        """For whoever keeps something at hand; it reads a file or two."""
        with self._lock:
            return self._read(what)

    def _read(self, what: Callable[[], T]) -> T:
        for attempt in range(RETRIES):
            try:
                return what()
            except FileNotFoundError as error:
                if attempt == RETRIES - 1:
                    raise DiskError(f"{self._folder}: {error}") from None
            except (OSError, BadValue, ValueError) as error:
                raise DiskError(f"{self._folder}: {error}") from None
        raise AssertionError  # RETRIES is not 0

    def _or(self, read: Callable[[AuditEntry], T], entry: AuditEntry, lost: T) -> T:
        """What is read of a file; `lost` where it is damaged or missing, which is logged once.

        Who goes through all numbers, such as a link, does not stand still for ever at one bad sector.
        """
        try:
            return read(entry)
        except (BadValue, FileNotFoundError) as error:
            if entry.file not in self._lost:
                log.error("archive.audit.lost", file=entry.file, rows=entry.head.count, why=str(error))
                self._lost.add(entry.file)
            return lost

    def _newest(
        self, start_ms: int, end_ms: int, limit: int, in_file: Callable[[AuditEntry], Iterable[Found]]
    ) -> list[Found]:
        best: list[Found] = []
        if limit < 1:
            return best
        for entry in self._overlapping(start_ms, end_ms):
            if len(best) >= limit and entry.head.end_ms <= best[-1][0]:
                break  # whatever follows is older than what there is
            best = heapq.nlargest(limit, [*best, *in_file(entry)], key=_place)
        return best

    def _overlapping(self, start_ms: int, end_ms: int) -> list[AuditEntry]:
        """Files with a part in [start, end), the one that ends last first."""
        with self._lock:
            files = list(self._ledger.catalogue().files.values())
        mine = [e for e in files if e.head.end_ms > start_ms and e.head.start_ms < end_ms]
        return sorted(mine, key=lambda e: e.head.end_ms, reverse=True)

    def _with_outcomes(self, found: Sequence[Found]) -> list[Found]:
        """Commands with what became of them, as far as the files say it."""
        wanted: dict[int, dict[tuple[int, int], tuple[str, str]]] = {}
        for _, boot, _, row in found:
            if row[-1] is None:
                wanted.setdefault(boot, {})[row[6], row[7]] = ("", "")
        for boot, keys in wanted.items():
            times = [f[0] for f in found if f[1] == boot]
            span = min(times), max(times) + OUTCOME_MS_MAX
            for entry in self._overlapping(*span):
                if entry.head.boot == boot:
                    with AuditFile(self._folder / entry.file) as file:
                        for cell in file.cells(OUTCOME):
                            if (key := (int(cell[2]), int(cell[3]))) in keys:
                                row = row_of(OUTCOME, cell)
                                keys[key] = row[4], row[5]
        return [(at, boot, n, (*row, *_outcome(wanted, boot, row))) for at, boot, n, row in found]

    def _numbered(self, entry: AuditEntry) -> Mapping[int, tuple[str, Row]]:
        """Kind and row of each number of a file; the last one stays at hand, for whoever pages through."""
        if self._whole[0] != entry.file:
            with AuditFile(self._folder / entry.file) as file:
                tables = file.tables()
            rows = {row[0]: (kind, row) for kind, of in tables.items() if kind != GONE for row in of}
            self._whole = entry.file, rows
        return self._whole[1]

    def _snapshots(self, entry: AuditEntry) -> list[tuple[int, int]]:
        """Number and time of each snapshot of a file."""
        known = self._series.pop(entry.file, None)
        if known is None:
            with AuditFile(self._folder / entry.file) as file:
                known = [(n, at_ms) for n, at_ms in (row_of(READINGS, c) for c in file.cells(READINGS))]
        self._series[entry.file] = known
        while len(self._series) > SERIES_MAX:
            self._series.popitem(last=False)
        return known


class AuditRows:
    """Commands, refusals and events, by time. Raises StoreError, DiskError.

    Parameters
    ----------
    file : the historian's.
    folder : the long-term store; it need not be there.
    """

    def __init__(self, file: ReadOnlyFile, folder: Path) -> None:
        self._file, self._archive = file, AuditArchive(folder / AUDIT)

    def commands(self, start_ms: int, end_ms: int, point: str | None, limit: int) -> list[Row]:
        """Commands and refusals in [start, end), newest first, at most `limit`.

        Each is its time and then, as in `_COMMANDS`, point to code, outcome and detail.
        """
        known = {"start": start_ms, "end": end_ms, "point": point, "limit": limit}
        recent = self._file.rows(_COMMANDS.format("" if point is None else _OF_POINT), known)
        live: list[Found] = [(at, boot, n, tuple(row)) for at, boot, n, *row in recent]
        older = self._archive.commands(_since(live, limit, start_ms), end_ms, point, limit)
        seen = {found[:3] for found in live}
        return [
            (found[0], *(found[3] if found[:3] in seen else self._told(found[1], found[3])))
            for found in _merged(live, older, limit, code=-3)
        ]

    def events(self, start_ms: int, end_ms: int, kind: str | None, limit: int) -> list[Row]:
        """Time, kind and fields of events in [start, end), newest first, at most `limit`."""
        begins = kind is not None and kind.endswith(".")
        known = {"start": start_ms, "end": end_ms, "kind": kind, "begins": begins, "limit": limit}
        live = [(at, boot, n, tuple(row)) for at, boot, n, *row in self._file.rows(_EVENTS, known)]
        older = self._archive.events(_since(live, limit, start_ms), end_ms, kind, limit)
        return [(at, *row) for at, _, _, row in _merged(live, older, limit)]

    def writes(self, point: str, start_ms: int, end_ms: int, count_max: int) -> int:
        """How often a point was written in [start, end), counted no further than `count_max`."""
        recent = self._file.rows(
            "SELECT at_ms, boot, n FROM command WHERE at_ms >= :start AND at_ms < :end "
            "AND point_id = (SELECT id FROM point WHERE name = :point) LIMIT :most",
            {"start": start_ms, "end": end_ms, "point": point, "most": count_max},
        )
        if len(recent) >= count_max:
            return count_max
        return min(count_max, len(set(recent) | self._archive.writes(point, start_ms, end_ms)))

    def _told(self, boot: int, row: Row) -> Row:
        """With the outcome, where that is still in the historian's file and the command is not."""
        *body, code, outcome, detail = row
        if code is None and outcome is None:
            found = self._file.rows(_OUTCOME, (boot, body[6], body[7]))
            outcome, detail = found[0] if found else (None, None)
        return (*body, code, outcome, detail)


def _place(found: Found) -> tuple[int, int, int]:
    return found[:3]


def _since(live: Sequence[Found], limit: int, start_ms: int) -> int:
    """Nothing older than this is asked of the files: the historian has enough that is newer."""
    return max(start_ms, live[-1][0]) if limit and len(live) >= limit else start_ms


def _merged(
    live: Iterable[Found], older: Iterable[Found], limit: int, code: int | None = None
) -> list[Found]:
    """Newest first, each once: a command and a refusal may have the same n."""
    once: dict[tuple[Any, ...], Found] = {}
    for found in (*live, *older):
        key = (*found[:3], code is not None and found[3][code] is None)
        if key not in once or found[3][-1] is not None:
            once[key] = found
    return sorted(once.values(), key=_place, reverse=True)[:limit]


def _between(file: AuditFile, kind: str, start: str, end: str) -> Iterator[Row]:
    return (row_of(kind, c) for c in file.cells(kind) if start <= c[1] < end)


def _commands_of(file: AuditFile, start: str, end: str, point: str | None) -> Iterator[Found]:
    boot = file.head.boot
    for row in _between(file, COMMAND, start, end):
        _, at_ms, n, epoch, seq, name, value, cause, reason, owner, plan_id, limits_hash = row
        if point is None or name == point:
            told = (name, value, cause, reason, owner, plan_id, epoch, seq, limits_hash, None)
            yield at_ms, boot, n, told
    for row in _between(file, REFUSAL, start, end):
        _, at_ms, n, name, value, cause, code, reason = row
        if point is None or name == point:
            yield at_ms, boot, n, (name, value, cause, reason, "", None, 0, 0, "", code)


def _outcome(
    wanted: Mapping[int, Mapping[tuple[int, int], tuple[str, str]]], boot: int, row: Row
) -> tuple[str | None, str | None]:
    outcome, detail = wanted.get(boot, {}).get((row[6], row[7]), ("", "")) if row[-1] is None else ("", "")
    return (outcome, detail) if outcome else (None, None)
