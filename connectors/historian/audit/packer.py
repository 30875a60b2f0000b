"""Moves audit rows that are no longer recent into files. A kill or a loss of power at any point costs none.

Each step: write the file beside, sync, rename, sync the folder; read it back from the disk and compare every
row with what the historian's file holds; put it into the ledger; only then confirm that the rows may leave.
"""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from connectors.historian.archive.compactor import from_disk
from connectors.historian.audit.file import AuditFile, Opening, Tables, packed
from connectors.historian.audit.ledger import AuditCatalogue, AuditEntry, AuditLedgerWriter
from connectors.historian.audit.table import GONE, SELECTS, Row
from connectors.historian.audit.trimmer import Chunk, chunks_of, keep_chunks, kept_chunks
from connectors.historian.schema import HISTORY, SPOOLED
from connectors.historian.spool import Head, Spool
from connectors.sqlite_file import ReadOnlyFile, WriterLock, from_ms, to_ms
from connectors.stores.kept_file import put_whole
from ems.errors import BadValue

log = structlog.get_logger()

DAY_MS = 86_400_000
NUMBERS_MAX = 50_000  # of one file: 100 MB while it is packed, and a page is read from it in half a second
SLICE = 10_000  # numbers of one query
AHEAD_MAX = timedelta(days=30)  # after the newest file
CHUNKS_MAX = 2000  # confirmed and not taken out yet: nothing more is packed meanwhile


class AuditStore:
    """The folder of audit files, for its one writer.

    Raises
    ------
    StoreError : another process writes it. OSError : the disk does not take it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._lock = WriterLock(folder / "store")
        try:
            self._ledger = AuditLedgerWriter(folder)
            self.adopt()
        except BaseException:
            self._lock.release()
            raise

    @property
    def catalogue(self) -> AuditCatalogue:
        """What there is."""
        return self._ledger.catalogue

    def write(self, tables: Tables, opening: Opening, span: tuple[int, int]) -> Path:
        """A file at the end of the chain, which is in no ledger yet."""
        newest, index = self.catalogue.newest, self._next_index()
        before = "" if newest is None else newest.sha256
        head, raw = packed(tables, opening=opening, span=span, index=index, before=before)
        path = self.folder / f"audit-{from_ms(head.start_ms):%Y%m%dT%H%M%SZ}-{index:06d}.zip"
        put_whole(path, raw, mode=0o644)
        return path

    def add(self, path: Path) -> AuditEntry:
        """Have a file in the ledger. Raises BadValue, OSError."""
        entry = _entry(path)
        self._ledger.add(entry)
        return entry

    def drop(self, entry: AuditEntry, *, now: datetime, why: str) -> None:
        """Remove a file: first it is written down."""
        self._ledger.drop(entry, at=now.isoformat(), why=why)
        (self.folder / entry.file).unlink(missing_ok=True)

    def close(self) -> None:
        """Let the next writer in."""
        self._ledger.close()
        self._lock.release()

    def _next_index(self) -> int:
        """One more than any file ever had, in the ledger or not."""
        known = self.catalogue.newest
        found = [int(p.stem.rpartition("-")[2]) for p in _files(self.folder)]
        return 1 + max([0 if known is None else known.head.index, *found])

    def adopt(self) -> int:
        """Files that the ledger does not know: whole ones are taken, how many; those that were removed go.

        Raises
        ------
        OSError : the disk does not take it.
        """
        taken = 0
        for draft in self.folder.glob(".*.new"):  # of a write that was cut short
            draft.unlink()
        for path in sorted(_files(self.folder), key=lambda p: p.stem.rpartition("-")[2]):
            if path.name in self.catalogue.removed:
                path.unlink()
            elif path.name not in self.catalogue.files:
                try:
                    entry = self.add(path)
                except BadValue as error:
                    log.error("archive.audit.unreadable", file=path.name, why=str(error))
                else:
                    taken += 1
                    log.info("archive.audit.adopted", file=path.name, rows=entry.head.count)
        return taken


def _files(folder: Path) -> list[Path]:
    return [p for p in folder.glob("audit-*.zip") if p.stem.rpartition("-")[2].isdecimal()]


def _entry(path: Path) -> AuditEntry:
    """What a file is, read back from the disk. Raises BadValue: it is not whole; OSError."""
    raw = from_disk(path)
    with AuditFile(path) as file:
        if not file.verified():
            raise BadValue(f"{path.name}: its rows are not what was written")
        return AuditEntry(
            file=path.name, head=file.head, size_bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest()
        )


def check(folder: Path, entry: AuditEntry) -> None:
    """Read a file back from the disk and compare it with what it is to be. Raises BadValue, OSError."""
    if _entry(folder / entry.file) != entry:
        raise BadValue(f"{entry.file}: its bytes are not what was written")


class Packer:
    """Moves rows from the historian's file, which is only read, to the store.

    Parameters
    ----------
    recent : rows younger than this stay where they are.
    """

    def __init__(self, history: Path, store: AuditStore, *, recent: timedelta) -> None:
        self._store, self._recent_ms = store, recent // timedelta(milliseconds=1)
        self._spool, self._file = Spool(history), ReadOnlyFile(history, HISTORY)
        self._chunks = kept_chunks(store.folder)
        self._looked_behind = False
        self.moved = 0  # rows packed

    def step(self, now: datetime) -> bool:
        """Pack the rows of one day, if one is over; whether there may be more.

        Raises
        ------
        StoreError, OSError : the historian cannot be read, or the disk takes nothing; try again later.
        BadValue : what came back from the disk is not what the historian holds.
        """
        name = self._spool.store()
        if name is None:
            return False
        self._forget_trimmed(name)
        heads = self._spool.heads()
        if not self._looked_behind:
            self._confirm_behind(name, heads)
            self._looked_behind = True
        if len(self._chunks) >= CHUNKS_MAX:
            return False
        for boot, head in heads.items():
            opening = (name, boot, head.opened_ms)
            span = self._next(opening, head, to_ms(now), is_over=boot != max(heads))
            if span is not None:
                self._pack(opening, span)
                return True
        return False

    def close(self) -> None:
        """Close the historian's file."""
        self._spool.close()
        self._file.close()

    def _next(self, opening: Opening, head: Head, now_ms: int, *, is_over: bool) -> tuple[int, int] | None:
        """The oldest numbers of an opening that are in no file, up to the end of their day, if it is over."""
        first, horizon_ms = self._store.catalogue.reach.get(opening, 0) + 1, now_ms - self._recent_ms
        if first > head.last:
            return None
        _, boot, _ = opening
        most = first + NUMBERS_MAX - 1
        begin_ms = self._spool.time_of(boot, first, head)
        if begin_ms > now_ms:  # the clock was ahead, and times say nothing: the newest that is old does
            last = min(self._newest_old(boot, first, horizon_ms), most)
            return (first, last) if last >= first else None
        old = self._spool.first_since(boot, horizon_ms, head, low=first) - 1
        midnight_ms = begin_ms - begin_ms % DAY_MS + DAY_MS
        end = self._spool.first_since(boot, midnight_ms, head, low=first) - 1
        whole = midnight_ms <= horizon_ms or (is_over and old >= head.last)
        last = min(old, max(end, first), most)
        return (first, last) if whole and last >= first else None

    def _newest_old(self, boot: int, first: int, horizon_ms: int) -> int:
        """The last snapshot from a number on that is older than a time; 0: none is."""
        sql = "SELECT max(seq) FROM spool WHERE boot = ? AND seq >= ? AND kind = ? AND a < ?"
        rows = self._file.rows(sql, (boot, first, SPOOLED["readings"], horizon_ms))
        return int(rows[0][0]) if rows and rows[0][0] is not None else 0

    def _pack(self, opening: Opening, span: tuple[int, int]) -> None:
        if self._store.adopt():  # the disk took a file and not its line: a second one would break the chain
            self._looked_behind = False
            return
        tables = self._tables(opening[1], span)
        path = self._store.write(tables, opening, span)
        with AuditFile(path) as file:
            found = file.tables()
        if {k: rows for k, rows in found.items() if rows} != self._tables(opening[1], span):
            path.unlink()
            raise BadValue(f"{path.name}: what came back from the disk is not what the historian holds")
        entry = self._store.add(path)
        self.moved += entry.head.count
        self._confirm([*self._chunks, *chunks_of(opening, span, tables)])

    def _tables(self, boot: int, span: tuple[int, int]) -> dict[str, list[Row]]:
        """Rows of numbers by kind, as they lie in the historian's file."""
        out: dict[str, list[Row]] = {}
        for first, last in _slices(span):
            for kind, sql in SELECTS.items():
                if rows := self._file.rows(sql, (boot, first, last)):
                    out.setdefault(kind, []).extend(rows)
        there = {row[0] for rows in out.values() for row in rows}
        for first, last in _slices(span):
            sql = "SELECT seq, kind, a, b FROM spool WHERE boot = ? AND seq BETWEEN ? AND ? ORDER BY seq"
            gone = [row for row in self._file.rows(sql, (boot, first, last)) if row[0] not in there]
            if gone:
                out.setdefault(GONE, []).extend(gone)
        return out

    def _confirm_behind(self, name: str, heads: dict[int, Head]) -> None:
        """Rows that are in a file and in no list: the power was lost between the two."""
        for boot, head in heads.items():
            opening = (name, boot, head.opened_ms)
            for entry in self._store.catalogue.of(opening):
                span = entry.head.first, entry.head.last
                if self._is_left(boot, *span) and not self._is_listed(opening, span):
                    with AuditFile(self._store.folder / entry.file) as file:
                        tables = {k: rows for k, rows in file.tables().items() if rows}
                    self._confirm([*self._chunks, *chunks_of(opening, span, tables)])

    def _is_listed(self, opening: Opening, span: tuple[int, int]) -> bool:
        return any(c.opening == opening and span[0] <= c.first <= span[1] for c in self._chunks)

    def _is_left(self, boot: int, first: int, last: int) -> bool:
        """Whether any number is still in the historian's file; the newest of an opening stays for ever."""
        sql = (
            "SELECT 1 FROM spool WHERE boot = ? AND seq BETWEEN ? AND ? "
            "AND seq < (SELECT max(seq) FROM spool WHERE boot = ?) LIMIT 1"
        )
        return bool(self._file.rows(sql, (boot, first, last, boot)))

    def _forget_trimmed(self, name: str) -> None:
        """What has left the historian's file need not be named any more."""
        self._confirm(
            [c for c in self._chunks if c.opening[0] == name and self._is_left(c.opening[1], c.first, c.last)]
        )

    def _confirm(self, chunks: Sequence[Chunk]) -> None:
        if list(chunks) != self._chunks:
            keep_chunks(self._store.folder, chunks)
            self._chunks = list(chunks)


def _slices(span: tuple[int, int]) -> Iterator[tuple[int, int]]:
    for first in range(span[0], span[1] + 1, SLICE):
        yield first, min(span[1], first + SLICE - 1)


def remove_old(store: AuditStore, kept: timedelta | None, now: datetime) -> list[AuditEntry]:
    """Remove files that are older than they are kept; those removed. None: they are kept for ever.

    A clock that is ahead removes none: it is not believed further than `AHEAD_MAX` beyond the newest file.
    """
    newest = store.catalogue.newest
    if kept is None or newest is None:
        return []
    end_ms = to_ms(min(now, from_ms(newest.head.end_ms) + AHEAD_MAX) - kept)
    old = [e for e in store.catalogue.files.values() if e.head.end_ms <= end_ms]
    for entry in old:
        store.drop(entry, now=now, why=f"older than {kept.days} days")
    return old
