"""Versions of inputs as they came, and what was known of them at any time. One process writes the file."""

import contextlib
import json
import sqlite3
import threading
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from connectors.inputs.convert import content_sha256
from connectors.inputs.times import FUTURE_S
from connectors.json_codec import json_text
from connectors.sqlite_file import (
    ReadOnlyFile,
    Schema,
    StoreError,
    WriterLock,
    from_ms,
    open_writer,
    to_ms,
    transaction,
)
from connectors.status_table import STATUS_SQL, STATUS_UPSERT, status_rows
from ems.inputs import AnnouncedOutage, Certainty, InputLook, InputVersion
from ems.records import StatusRow
from ems.series import UniformSeries

log = structlog.get_logger()

FILE = "inputs.sqlite"
KEEP = timedelta(days=400)  # versions, with the bytes they came in
AHEAD_MAX = timedelta(days=30)
KEEP_LOOKS = timedelta(days=100)
SEEN = ("taken", "older", "same")
CLOCK_SET = datetime(2025, 1, 1, tzinfo=UTC)  # a clock that tells less was never set
INPUTS = Schema(
    name="inputs",
    application_id=0x454D5349,  # "EMSI"
    version=1,
    sql="""
    CREATE TABLE version (
        id INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of arrival
        input TEXT NOT NULL,
        issued_ms INTEGER NOT NULL,  -- no later than it, or anything after it, arrived
        issued_told INTEGER NOT NULL,  -- 0: nobody told it, and it is when it arrived
        arrived_ms INTEGER NOT NULL,
        first_ms INTEGER NOT NULL,  -- what it tells of: [first, end)
        end_ms INTEGER NOT NULL,
        source TEXT NOT NULL,
        sha256 TEXT NOT NULL,  -- of the bytes
        content_sha256 TEXT NOT NULL,  -- of what they tell
        body BLOB NOT NULL,  -- what they tell, JSON, deflated
        raw BLOB NOT NULL  -- the bytes, deflated
    );
    CREATE INDEX version_issued ON version (input, issued_ms, id);
    CREATE TABLE look (
        n INTEGER PRIMARY KEY AUTOINCREMENT,
        input TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        detail TEXT NOT NULL,
        file TEXT NOT NULL,
        version INTEGER
    );
    CREATE INDEX look_at ON look (input, at_ms);
    """
    + STATUS_SQL,
)
_SELECT = "SELECT id, input, issued_ms, issued_told, arrived_ms, source, sha256, body FROM version "
_BY_THEN = _SELECT + "WHERE input = ? AND arrived_ms <= ? AND issued_ms <= ? "
_NEWEST = "ORDER BY issued_ms DESC, id DESC LIMIT ?"


class InputStore:
    """The writing side.

    Raises
    ------
    StoreError : another process writes the file, or it is of another kind or version.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / FILE
        self._path = path
        self._lock = WriterLock(path)
        try:
            self._db = open_writer(path, INPUTS)
        except BaseException:
            self._lock.release()
            raise
        self._turn = threading.Lock()

    def take(self, version: InputVersion, raw: bytes) -> InputLook:
        """Store a version with the bytes it came in, unless it tells just what the newest one tells.

        An issue that is older than the newest one is kept, as `older`: it replaces nothing. Of one time of
        issue what came last counts. What came while our clock was ahead says nothing of what is known
        now, and counts as older than what comes now: it would become the newest by itself when its stamp is
        reached. The look says so.

        Raises
        ------
        StoreError : the file cannot be written.
        """
        content = content_sha256(version)
        with self._writing():
            issued_ms = to_ms(version.issued_at)
            newest = self._last(version, None)
            before = self._last(version, issued_ms) if version.issued_told else newest
            if before is None and version.ahead_s > 0.0:  # told again, and again stamped as it came
                before = newest
            if before is not None and before[2] == content:
                return self._looked(version, "same", before[0])
            detail = "; ".join(filter(None, (_ahead(version), self._put_back(version))))
            first, end = version.span
            row = (
                version.input, issued_ms, version.issued_told, to_ms(version.arrived_at), to_ms(first),
                to_ms(end), version.source, version.sha256, content, _packed(version), zlib.compress(raw),
            )  # fmt: skip
            number = self._db.execute(
                "INSERT INTO version (input, issued_ms, issued_told, arrived_ms, first_ms, end_ms, source, "
                "sha256, content_sha256, body, raw) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            ).lastrowid
            older = newest is not None and issued_ms < newest[1]
            return self._looked(version, "older" if older else "taken", number, detail)

    def _put_back(self, version: InputVersion) -> str:
        """Have nothing that came before be issued later than `version` comes; says which was."""
        now_ms = to_ms(version.arrived_at)
        if version.arrived_at < CLOCK_SET:
            return ""
        rows = self._db.execute(
            "SELECT id, arrived_ms FROM version WHERE input = ? AND issued_ms > ? ORDER BY id",
            (version.input, now_ms),
        ).fetchall()
        self._db.executemany("UPDATE version SET issued_ms = ? WHERE id = ?", [(now_ms, n) for n, _ in rows])
        if not rows:
            return ""
        first, last = rows[0], rows[-1]
        which = f"version {first[0]}" if first == last else f"versions {first[0]} to {last[0]}"
        return f"our clock was ahead: {which}, stamped {from_ms(last[1]):%Y-%m-%d %H:%M} UTC, counts as older"

    def _last(self, version: InputVersion, issued_ms: int | None) -> tuple[int, int, str] | None:
        """Number, issue [ms] and content of the last that is known by now, of one told issue or of all."""
        by_ms = to_ms(version.arrived_at + timedelta(seconds=FUTURE_S))
        row: tuple[int, int, str] | None = self._db.execute(
            "SELECT id, issued_ms, content_sha256 FROM version WHERE input = ? AND arrived_ms <= ? "
            "AND issued_ms <= ? AND (? IS NULL OR (issued_ms = ? AND issued_told)) "
            "ORDER BY issued_ms DESC, id DESC LIMIT 1",
            (version.input, by_ms, by_ms, issued_ms, issued_ms),
        ).fetchone()
        return row

    def _looked(self, version: InputVersion, outcome: str, number: int | None, detail: str = "") -> InputLook:
        look = InputLook(
            input=version.input, at=version.arrived_at, outcome=outcome, detail=detail, file=version.source,
            version=number,
        )  # fmt: skip
        self._put(look)
        return look

    def tell(self, look: InputLook) -> None:
        """Keep what became of a look that brought no version. Raises StoreError."""
        with self._writing():
            self._put(look)

    def _put(self, look: InputLook) -> None:
        self._db.execute(
            "INSERT INTO look (input, at_ms, outcome, detail, file, version) VALUES (?, ?, ?, ?, ?, ?)",
            (look.input, to_ms(look.at), look.outcome, look.detail[:4000], look.file, look.version),
        )

    def looked_at(self, input_id: str) -> datetime | None:
        """When its source last gave an answer, of whatever kind. Raises StoreError."""
        with self._writing():
            row = self._db.execute(
                "SELECT max(at_ms) FROM look WHERE input = ? AND outcome <> 'failed'", (input_id,)
            ).fetchone()
        return None if row[0] is None else from_ms(row[0])

    def failing(self, input_id: str) -> bool:
        """Whether the last look that is kept is one that failed. Raises StoreError."""
        with self._writing():
            row = self._db.execute(
                "SELECT outcome FROM look WHERE input = ? ORDER BY n DESC LIMIT 1", (input_id,)
            ).fetchone()
        return row is not None and row[0] == "failed"

    def status(self, row: StatusRow) -> None:
        """Upsert a status row. Raises StoreError."""
        with self._writing():
            self._db.execute(STATUS_UPSERT, (row.process, row.pid, to_ms(row.at), json_text(row.fields)))

    def forget(self, now: datetime) -> None:
        """Give up what is too old to be asked for. Raises StoreError.

        A clock that is ahead costs no version: it is not believed further than `AHEAD_MAX` beyond the newest.
        """
        with self._writing():
            (newest_ms,) = self._db.execute("SELECT max(arrived_ms) FROM version").fetchone()
            believed = now if newest_ms is None else min(now, from_ms(newest_ms) + AHEAD_MAX)
            self._db.execute(
                "DELETE FROM version WHERE end_ms < ? AND arrived_ms < ?", (to_ms(believed - KEEP),) * 2
            )
            self._db.execute("DELETE FROM look WHERE at_ms < ?", (to_ms(now - KEEP_LOOKS),))

    def _writing(self) -> "_Writing":
        return _Writing(self)

    def close(self) -> None:
        """Close the file and let the next writer in."""
        with self._turn:
            self._db.close()
            self._lock.release()


class _Writing:
    """One thread at a time, all or nothing; what SQLite says becomes a StoreError."""

    def __init__(self, store: InputStore) -> None:
        self._store = store

    def __enter__(self) -> None:
        self._store._turn.acquire()
        try:
            self._inner = transaction(self._store._db)
            self._inner.__enter__()
        except sqlite3.Error as error:
            self._store._turn.release()
            raise StoreError(f"{self._store._path}: {error}") from None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            self._inner.__exit__(kind, error, trace)
        except sqlite3.Error as failed:
            error = failed
            with contextlib.suppress(sqlite3.Error):  # of a commit that failed
                self._store._db.execute("ROLLBACK")
        finally:
            self._store._turn.release()
        if isinstance(error, sqlite3.Error):
            raise StoreError(f"{self._store._path}: {error}") from None


class InputReader:
    """What was known at a time: only what had arrived by then, and was issued by then. Read-only.

    A file that is not there reads as empty.
    """

    def __init__(self, directory: Path) -> None:
        self._file = ReadOnlyFile(directory / FILE, INPUTS)

    def known(
        self, input_id: str, at: datetime, start: datetime, end: datetime, limit: int
    ) -> Sequence[InputVersion]:
        """Versions that tell something of [start, end), newest issue first, as known at `at`.

        Raises
        ------
        StoreError : the file cannot be read.
        """
        rows = self._file.rows(
            _BY_THEN + "AND end_ms > ? AND first_ms < ? " + _NEWEST,
            (input_id, to_ms(at), to_ms(at), to_ms(start), to_ms(end), limit),
        )
        return [_unpacked(row) for row in rows]

    def newest(self, input_id: str, at: datetime) -> InputVersion | None:
        """The version in force at `at`. Raises StoreError."""
        rows = self._file.rows(_BY_THEN + _NEWEST, (input_id, to_ms(at), to_ms(at), 1))
        return _unpacked(rows[0]) if rows else None

    def ahead(self, input_id: str, now: datetime) -> tuple[int, datetime] | None:
        """Number and arrival of what came last, where that is stamped later than now. Raises StoreError."""
        rows = self._file.rows(
            "SELECT id, arrived_ms FROM version WHERE input = ? ORDER BY id DESC LIMIT 1", (input_id,)
        )
        return (rows[0][0], from_ms(rows[0][1])) if rows and rows[0][1] > to_ms(now) else None

    def reaches(self, input_id: str, at: datetime) -> datetime | None:
        """How far ahead it was told at `at`. Raises StoreError."""
        rows = self._file.rows(
            "SELECT max(end_ms) FROM version WHERE input = ? AND arrived_ms <= ? AND issued_ms <= ?",
            (input_id, to_ms(at), to_ms(at)),
        )
        return from_ms(rows[0][0]) if rows and rows[0][0] is not None else None

    def seen_at(self, input_id: str, at: datetime) -> datetime | None:
        """When the source last told what counts, changed or not, by `at`. Raises StoreError."""
        rows = self._file.rows(
            "SELECT max(at_ms) FROM look WHERE input = ? AND at_ms <= ? AND outcome IN (?, ?, ?)",
            (input_id, to_ms(at), *SEEN),
        )
        return from_ms(rows[0][0]) if rows and rows[0][0] is not None else None

    def failing_since(self, input_id: str, at: datetime) -> datetime | None:
        """Since when every look has failed, by `at`; None where the last did not. Raises StoreError."""
        rows = self._file.rows(
            "SELECT min(at_ms) FROM look WHERE input = ? AND at_ms <= ? AND n > coalesce((SELECT n FROM look "
            "WHERE input = ? AND at_ms <= ? AND outcome <> 'failed' ORDER BY n DESC LIMIT 1), 0)",
            (input_id, to_ms(at)) * 2,
        )
        return from_ms(rows[0][0]) if rows and rows[0][0] is not None else None

    def looks(self, input_id: str, at: datetime, limit: int) -> Sequence[InputLook]:
        """What became of the last looks by `at`, newest first. Raises StoreError."""
        rows = self._file.rows(
            "SELECT input, at_ms, outcome, detail, file, version FROM look WHERE input = ? AND at_ms <= ? "
            "ORDER BY n DESC LIMIT ?",
            (input_id, to_ms(at), limit),
        )
        return [
            InputLook(input=i, at=from_ms(ms), outcome=o, detail=d, file=f, version=v)
            for i, ms, o, d, f, v in rows
        ]

    def version(self, number: int) -> tuple[InputVersion, bytes] | None:
        """One version, and the bytes it came in. Raises StoreError."""
        rows = self._file.rows(_SELECT + "WHERE id = ?", (number,))
        raw = self._file.rows("SELECT raw FROM version WHERE id = ?", (number,))
        return (_unpacked(rows[0]), zlib.decompress(raw[0][0])) if rows and raw else None

    def statuses(self) -> Mapping[str, StatusRow]:
        """Newest status row of each input. Raises StoreError."""
        return status_rows(self._file)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class QuietInputs:
    """What was known, for a planner: a file that cannot be read now tells nothing, and says so once."""

    def __init__(self, directory: Path) -> None:
        self._reader = InputReader(directory)
        self.trouble = ""
        self.failures = 0  # answers that are empty for want of a file that can be read

    def known(
        self, input_id: str, at: datetime, start: datetime, end: datetime, limit: int
    ) -> Sequence[InputVersion]:
        """As `InputReader.known`; nothing where it cannot be read."""
        try:
            found = self._reader.known(input_id, at, start, end, limit)
        except StoreError as error:
            self._complain(str(error))
            return []
        self.trouble = ""
        return found

    def seen_at(self, input_id: str, at: datetime) -> datetime | None:
        """As `InputReader.seen_at`; nothing where it cannot be read."""
        try:
            return self._reader.seen_at(input_id, at)
        except StoreError as error:
            self._complain(str(error))
            return None

    def _complain(self, why: str) -> None:
        if why != self.trouble:
            log.error("inputs.unreadable", why=why)
        self.trouble = why
        self.failures += 1

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class QuietStatuses:
    """Status rows of a folder's file, for who tells of much else; one that cannot be read has none."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._trouble = ""

    def __call__(self) -> Mapping[str, StatusRow]:
        """Those of now; says once why there are none."""
        try:
            found = statuses(self._directory)
        except StoreError as error:
            if str(error) != self._trouble:
                log.error("inputs.unreadable", why=str(error))
            self._trouble = str(error)
            return {}
        self._trouble = ""
        return found


def statuses(directory: Path) -> Mapping[str, StatusRow]:
    """Status rows of a folder's file, opened and closed. Raises StoreError."""
    with closing(InputReader(directory)) as reader:
        return reader.statuses()


def _ahead(version: InputVersion) -> str:
    if version.ahead_s <= 0.0:
        return ""
    return f"its time of issue is {version.ahead_s:.0f} s ahead of our clock: it counts from when it came"


def _packed(version: InputVersion) -> bytes:
    series = {
        name: [to_ms(s.start), s.step_s, [None if v != v else v for v in np.asarray(s.values).tolist()]]
        for name, s in version.series.items()
    }
    outages = [
        [o.id, to_ms(o.issued_at), to_ms(o.start), to_ms(o.end), str(o.certainty), o.cancelled, o.reason]
        for o in version.outages
    ]
    return zlib.compress(json.dumps({"series": series, "outages": outages}, allow_nan=False).encode())


def _unpacked(row: Sequence[Any]) -> InputVersion:
    number, input_id, issued_ms, told, arrived_ms, source, sha256, body = row
    found = json.loads(zlib.decompress(body))
    version = InputVersion(
        id=number,
        input=input_id,
        issued_at=from_ms(issued_ms),
        issued_told=bool(told),
        arrived_at=from_ms(arrived_ms),
        source=source,
        sha256=sha256,
    )
    return replace(
        version,
        series={
            name: UniformSeries(
                start=from_ms(ms),
                step_s=step_s,
                values=np.array([np.nan if v is None else v for v in values]),
            )
            for name, (ms, step_s, values) in found["series"].items()
        },
        outages=tuple(
            AnnouncedOutage(
                id=i, issued_at=from_ms(t), start=from_ms(a), end=from_ms(b), certainty=Certainty(c),
                cancelled=cancelled, reason=reason,
            )
            for i, t, a, b, c, cancelled, reason in found["outages"]
        ),
    )  # fmt: skip
