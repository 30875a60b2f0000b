"""What was refused at the servers, and how they do: the file of the process that serves.

What was taken is not kept here: it is a request to the edge, which records what became of it. A flood of
refusals costs a bounded number of rows and no more than one short transaction a second.
"""

import json
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from connectors.northbound.client import Client
from connectors.sqlite_file import (
    DiskError,
    ReadOnlyFile,
    Schema,
    WriterLock,
    from_ms,
    open_writer,
    to_ms,
    transaction,
)
from connectors.status_table import STATUS_SQL, STATUS_UPSERT, status_rows
from ems.records import StatusRow

FILE = "northbound.sqlite"
WAITING_MAX = 100  # refusals kept one by one at once; what is more is counted
KEPT_PER_S = 1.0  # in the long run
MORE_EVERY = timedelta(minutes=1)  # so often the count is stored
KEPT = 10_000
TEXT_MAX = 300
MORE = "and_more"
STRANGE = ("not_let_in", "no_handshake", "malformed", "not_writable", "not_allowed")  # told to a person
NORTHBOUND = Schema(
    name="northbound",
    application_id=0x454D534E,  # "EMSN"
    version=1,
    sql="""
    CREATE TABLE refused (
        n INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, server TEXT NOT NULL, address TEXT NOT NULL,
        client TEXT NOT NULL, role TEXT NOT NULL, what TEXT NOT NULL, code TEXT NOT NULL, why TEXT NOT NULL
    );
    """
    + STATUS_SQL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """One thing that was refused."""

    at: datetime
    client: Client
    what: str  # such as `limit.dso = 200`, or `connection`
    code: str
    why: str


class Records:
    """Write side. `refused` never waits; `flush` does, for the disk.

    Raises
    ------
    StoreError : another process writes the file, or it is of another kind.
    """

    def __init__(self, path: Path, *, now: Callable[[], datetime]) -> None:
        self._now = now
        self._waiting: deque[Refused] = deque()
        self._more = 0  # refused and not kept one by one
        self._more_at: datetime | None = None  # when that was stored last
        self._left, self._since = float(WAITING_MAX), now()  # refusals that may be kept one by one
        self._mutex = threading.Lock()  # `flush` runs beside the loop
        self.count = 0  # refusals since the start
        self.last: Refused | None = None
        self.stranger: Refused | None = None  # the last who had no business here
        self._path = path
        self._lock: WriterLock | None = None
        self._db: sqlite3.Connection | None = None
        self._open()

    def _open(self) -> sqlite3.Connection | None:
        """The file for writing; None while the disk does not take it, and the servers serve on.

        Raises
        ------
        StoreError : another process writes the file, or it is of another kind.
        """
        try:
            if self._lock is None:
                self._lock = WriterLock(self._path)
            if self._db is None:
                self._db = open_writer(self._path, NORTHBOUND, synchronous="NORMAL")
        except (DiskError, OSError):
            return None
        return self._db

    def refused(self, client: Client, what: str, code: str, why: str) -> None:
        """Something was refused."""
        one = Refused(at=self._now(), client=client, what=what, code=code, why=why)
        with self._mutex:
            self.count += 1
            self.last = one
            if code in STRANGE:
                self.stranger = one
            if len(self._waiting) < WAITING_MAX and self._afford(one.at):
                self._waiting.append(one)
            else:
                self._more += 1

    def _afford(self, at: datetime) -> bool:
        """Whether one more is kept one by one: a disk is not worn by whoever knocks for a year."""
        grown = max(0.0, (at - self._since).total_seconds()) * KEPT_PER_S
        self._left, self._since = min(float(WAITING_MAX), self._left + grown), at
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def flush(self, rows: list[StatusRow]) -> bool:
        """Store what waits, with the status rows; False where the disk does not take it now: it waits on."""
        at = self._now()
        with self._mutex:
            taken = list(self._waiting)
            told = self._more_at is None or not timedelta() <= at - self._more_at < MORE_EVERY
            more = self._more if told else 0
        values = [_row(r) for r in taken]
        if more:
            nobody = Client(server="", address="")
            why = f"{more} more were refused, too fast to be kept one by one"
            values.append(_row(Refused(at=at, client=nobody, what="", code=MORE, why=why)))
        if not (values or rows):
            return True
        db = self._open()
        if db is None:
            return False
        try:
            with transaction(db):
                db.executemany(
                    "INSERT INTO refused (at_ms, server, address, client, role, what, code, why) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    values,
                )
                if values:
                    db.execute("DELETE FROM refused WHERE n <= (SELECT max(n) FROM refused) - ?", (KEPT,))
                db.executemany(
                    STATUS_UPSERT,
                    [(s.process, s.pid, to_ms(s.at), json.dumps(dict(s.fields))) for s in rows],
                )
        except sqlite3.Error:
            return False
        with self._mutex:
            for _ in taken:
                self._waiting.popleft()
            self._more -= more
            self._more_at = at if more else self._more_at
        return True

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()
        if self._lock is not None:
            self._lock.release()


class RecordsReader:
    """Read side; a file that is not there reads as empty."""

    def __init__(self, path: Path) -> None:
        self._file = ReadOnlyFile(path, NORTHBOUND)

    def refusals(self, limit: int) -> list[Refused]:
        """The newest, newest first. Raises StoreError."""
        rows = self._file.rows(
            "SELECT at_ms, server, address, client, role, what, code, why FROM refused "
            "ORDER BY n DESC LIMIT ?",
            (limit,),
        )
        return [
            Refused(
                at=from_ms(at_ms),
                client=Client(server=server, address=address, name=client, role=role),
                what=what,
                code=code,
                why=why,
            )
            for at_ms, server, address, client, role, what, code, why in rows
        ]

    def statuses(self) -> dict[str, StatusRow]:
        """How each server does, by name. Raises StoreError."""
        return status_rows(self._file)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _row(r: Refused) -> tuple[int, str, str, str, str, str, str, str]:
    c = r.client
    texts = (t[:TEXT_MAX] for t in (c.server, c.address, c.name, c.role, r.what, r.code, r.why))
    return (to_ms(r.at), *texts)  # type: ignore[return-value]
