"""What each link has delivered, as spans of numbers; what is missing between them is what is left to send.

The file belongs to the process that sends. Losing its newest rows costs nothing but sending some records
again, under the numbers by which the receiver knows them.
"""

import bisect
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from connectors.sqlite_file import ReadOnlyFile, Schema, WriterLock, open_writer, to_ms, transaction
from connectors.status_table import STATUS_SQL, STATUS_UPSERT, status_rows
from ems.records import StatusRow

Opening = tuple[int, int]  # of the historian's file: boot, and when [ms since 1970 UTC]
LEDGER = Schema(
    name="telemetry",
    application_id=0x454D534C,  # "EMSL"
    version=1,
    sql="""
    CREATE TABLE delivered (
        link TEXT NOT NULL, store TEXT NOT NULL, boot INTEGER NOT NULL, opened_ms INTEGER NOT NULL,
        first INTEGER NOT NULL, last INTEGER NOT NULL,
        PRIMARY KEY (link, store, boot, opened_ms, first)
    ) WITHOUT ROWID;
    """
    + STATUS_SQL,
)


class Spans:
    """Disjoint spans of the numbers of one boot, ascending, never touching. Pure."""

    def __init__(self, spans: Iterator[tuple[int, int]] | None = None) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in spans if spans is not None else ():
            self.add(first, last)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._lasts, strict=True)

    def add(self, first: int, last: int) -> None:
        """Mark [first, last]."""
        i = bisect.bisect_left(self._lasts, first - 1)
        j = bisect.bisect_right(self._firsts, last + 1)
        if i < j:
            first, last = min(first, self._firsts[i]), max(last, self._lasts[j - 1])
        self._firsts[i:j], self._lasts[i:j] = [first], [last]

    def remove(self, first: int, last: int) -> None:
        """Unmark [first, last]."""
        kept = Spans()
        for a, b in self:
            if a < first:
                kept.add(a, min(b, first - 1))
            if b > last:
                kept.add(max(a, last + 1), b)
        self._firsts, self._lasts = kept._firsts, kept._lasts

    def gaps(self, last: int) -> Iterator[tuple[int, int]]:
        """What of [1, last] is not marked, ascending."""
        begin = 1
        for a, b in self:
            if a > last:
                break
            if a > begin:
                yield begin, a - 1
            begin = b + 1
        if begin <= last:
            yield begin, last

    def covers(self, first: int, last: int) -> bool:
        """Whether all of [first, last] is marked."""
        i = bisect.bisect_left(self._lasts, last)
        return i < len(self._lasts) and self._firsts[i] <= first

    def count(self, last: int) -> int:
        """How many of [1, last] are not marked."""
        return sum(b - a + 1 for a, b in self.gaps(last))


class Ledger:
    """The file of all links of one sending process; one thread a link. Commits are synced to disk.

    Raises
    ------
    StoreError : another process writes the file, it is of another kind, or (DiskError) cannot be written now.
    """

    def __init__(self, path: Path) -> None:
        self._lock_file = WriterLock(path)
        try:
            self._db = open_writer(path, LEDGER)
        except BaseException:
            self._lock_file.release()
            raise
        self._mutex = threading.Lock()

    def delivered(self, link: str, store: str) -> dict[Opening, Spans]:
        """What a link has delivered of a historian's file, by opening."""
        with self._mutex:
            rows = self._db.execute(
                "SELECT boot, opened_ms, first, last FROM delivered WHERE link = ? AND store = ?",
                (link, store),
            ).fetchall()
        out: dict[Opening, Spans] = {}
        for boot, opened_ms, first, last in rows:
            out.setdefault((boot, opened_ms), Spans()).add(first, last)
        return out

    def receiver(self, link: str) -> str:
        """The name under which a link has delivered last: its own, or with that of whoever received."""
        begin = f"{link}/"
        with self._mutex:
            rows = self._db.execute(
                "SELECT link FROM delivered WHERE link = ? OR substr(link, 1, ?) = ? "
                "ORDER BY opened_ms DESC, last DESC LIMIT 1",
                (link, len(begin), begin),
            ).fetchall()
        return str(rows[0][0]) if rows else link

    def keep(self, link: str, store: str, spans: Mapping[Opening, Spans]) -> bool:
        """Store what is delivered of these openings; False where the disk does not take it now."""
        rows = [(link, store, *opening, a, b) for opening, of in spans.items() for a, b in of]
        try:
            with self._mutex, transaction(self._db):
                self._db.executemany(
                    "DELETE FROM delivered WHERE link = ? AND store = ? AND boot = ? AND opened_ms = ?",
                    [(link, store, *opening) for opening in spans],
                )
                self._db.executemany("INSERT INTO delivered VALUES (?, ?, ?, ?, ?, ?)", rows)
        except sqlite3.Error:
            return False
        return True

    def status(self, row: StatusRow) -> bool:
        """Upsert a status row; False where the disk does not take it now."""
        values = (row.process, row.pid, to_ms(row.at), json.dumps(row.fields))
        try:
            with self._mutex:
                self._db.execute(STATUS_UPSERT, values)
        except sqlite3.Error:
            return False
        return True

    def close(self) -> None:
        """Close the file and let the next one in."""
        self._db.close()
        self._lock_file.release()


def statuses(path: Path) -> dict[str, StatusRow]:
    """Status rows of the links, by name; none where nobody sends. Raises StoreError."""
    file = ReadOnlyFile(path, LEDGER)
    try:
        return status_rows(file)
    finally:
        file.close()
