"""Historian and audit of the edge in one SQLite file.

Whoever records only appends to a queue in memory; one thread writes it away in batches. Commands, outcomes,
refusals and events are synced to disk with each batch, plain readings may be lost with the machine's power.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import structlog

from connectors.historian.archive.confirmed import Trimmer
from connectors.historian.backlog import BATCH_MAX, Backlog
from connectors.historian.reader import SqliteHistoryReader
from connectors.historian.rows import DURABLE, Entry, Event, Kind, Payload, RowWriter
from connectors.historian.schema import HISTORY
from connectors.json_codec import json_text
from connectors.recorded import Batch
from connectors.sqlite_file import (
    ReadOnlyFile,
    StoreError,
    WriterLock,
    disk_fails,
    open_writer,
    to_ms,
    transaction,
)
from ems.alarms import AlarmBook
from ems.clock import Clock, SystemClock
from ems.commands import Command, Refusal, WriteResult
from ems.condition import PlantCondition
from ems.records import JsonValue, StatusRow
from ems.telemetry import Snapshot

__all__ = ["SqliteHistoryReader", "SqliteRecorder"]

log = structlog.get_logger()

LINGER_S = 0.05  # wall time a batch waits for company
RETRY_S = 1.0  # wall time between attempts while the file cannot be written
SNAPSHOTS_MAX = 6000  # 72 h of one a minute, and the newest half hour whole
TRIMS_MAX = 8  # after one batch; each takes a few ms, and stops the next while something waits
SLOW_S = 5.0  # a commit that takes longer is told
AUDIT_MAX = 100_000
# An entry that no retry will make writable: a bug in whoever recorded it.
UNWRITABLE = (
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
    OverflowError,
    TypeError,
    ValueError,
    KeyError,
    AttributeError,
)


class SqliteRecorder:
    """`ems.ports.Recorder` on one file. Nothing here blocks the caller or raises for a full or failing disk,
    at its start either: then everything waits in memory until the file can be opened.

    Parameters
    ----------
    path : the file; made if it is not there.
    clock : record time of the recorder's own events.
    snapshots_max : snapshots that may wait; more are thinned, counted, and told as an event.
    audit_max : commands, outcomes, refusals and events that may wait; see `backlog` for what goes then.
    sync : False trades the sync of audit rows for speed, for simulated plants only.
    trimmer : takes readings out of the file that lie in the long-term store; None: all of them stay.

    Raises
    ------
    StoreError : another process writes the file, or it is of another kind or version.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock | None = None,
        snapshots_max: int = SNAPSHOTS_MAX,
        audit_max: int = AUDIT_MAX,
        sync: bool = True,
        trimmer: Trimmer | None = None,
    ) -> None:
        self._path, self._sync, self._trimmer = path, sync, trimmer
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._opened_ms = to_ms(self._clock.now())
        self._lock_file: WriterLock | None = None
        self._db: sqlite3.Connection | None = None
        self._rows: RowWriter | None = None
        self._mutex = threading.Lock()
        self._backlog = Backlog(snapshots_max, audit_max)
        self._budget: dict[str, JsonValue] = {"snapshots_max": snapshots_max, "audit_max": audit_max}
        self._n = 0  # entries ever queued
        self._recorded = self._write_errors = self._unwritable = 0
        self._last_error = ""
        self._attempt_s: float | None = None  # when the commit began that is under way
        self._failing_s: float | None = None  # when the first of the commits failed that failed in a row
        self._broken = False  # the file must be opened anew before the next batch
        self._closing, self._work, self._hurry = threading.Event(), threading.Event(), threading.Event()
        self._progress = threading.Condition(self._mutex)
        self.boot = self._open()  # grows with each opening: fit to be the edge's epoch
        self._thread = threading.Thread(target=self._run, name="historian", daemon=True)
        self._thread.start()

    def readings(self, snapshot: Snapshot) -> None:
        """Store every reading of a snapshot."""
        self._put(Kind.SNAPSHOT, snapshot)

    def intent(self, command: Command) -> None:
        """A command is about to be sent."""
        self._put(Kind.INTENT, command)

    def outcome(self, result: WriteResult) -> None:
        """What became of it."""
        self._put(Kind.OUTCOME, result)

    def refusal(self, refusal: Refusal) -> None:
        """A write that the gate refused."""
        self._put(Kind.REFUSAL, refusal)

    def event(self, at: datetime, kind: str, fields: Mapping[str, JsonValue]) -> None:
        """An event `domain.object.kind` with its fields."""
        self._put(Kind.EVENT, Event(at, kind, json_text(fields)))

    def status(self, row: StatusRow) -> None:
        """Upsert the one status row of this process."""
        self._put(Kind.STATUS, row)

    def condition(self, condition: PlantCondition) -> None:
        """Make the plant's condition readable for the planner."""
        self._put(Kind.CONDITION, condition)

    def alarms(self, book: AlarmBook) -> None:
        """Make the alarms readable, and outlive a restart."""
        self._put(Kind.ALARMS, book)

    def recorded(self, batch: Batch) -> bool:
        """Queue what a device recorded, and write it at once; False where too much of it waits already."""
        with self._mutex:
            if not self._backlog.has_room(len(batch.samples)):
                return False
            self._n += max(0, len(batch.samples) - 1)  # each sample has a number of its own
            self._append(Kind.RECORDED, batch)
        self._hurry.set()
        self._work.set()
        return True

    def mark(self, device: str, name: str) -> str | None:
        """How far a device was read, by the file; None: nobody knows."""
        return newest_mark(self._path, device, name)

    @property
    def trouble(self) -> str | None:
        """What is wrong with the file, for an alarm; None: nothing is."""
        now_s = self._clock.monotonic_s()
        with self._mutex:
            waiting, lost = len(self._backlog), sum(self._backlog.lost.values())
            if self._failing_s is not None:
                what = f"cannot be written for {now_s - self._failing_s:.0f} s ({self._last_error})"
            elif self._attempt_s is not None and now_s - self._attempt_s > SLOW_S:
                what = f"has taken {now_s - self._attempt_s:.0f} s for what waits"
            elif lost:
                what = "is behind"
            else:
                return None
        return f"the historian's file {what}: {waiting} entries wait, {lost} are lost"

    def counts(self) -> dict[str, JsonValue]:
        """Figures for the status row."""
        with self._mutex:
            lost = self._backlog.lost_ever
            snapshots = {k: lost.get(k, 0) for k in ("thinned_snapshots", "dropped_snapshots")}
            return {
                "recorded": self._recorded,
                "queued": len(self._backlog),
                **snapshots,
                "dropped_audit": sum(n for k, n in lost.items() if k not in snapshots),
                "samples_waiting": self._backlog.samples,
                "unwritable": self._unwritable,
                "bad_conditions": 0 if self._rows is None else self._rows.bad_conditions,
                "write_errors": self._write_errors,
                "last_error": self._last_error,
                **({} if self._trimmer is None else self._trimmer.counts()),
            }

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything recorded so far is committed; False when it took longer [s wall]."""
        with self._progress:
            target = self._n
            self._hurry.set()
            self._work.set()
            return self._progress.wait_for(lambda: self._written_to(target), timeout_s)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Flush, stop the thread, close the file. False when something could not be written."""
        if not self._closing.is_set():
            self.flush(timeout_s)
            self._closing.set()
            self._hurry.set()
            self._work.set()
            self._thread.join(timeout_s + 2 * RETRY_S)
            if self._lock_file is not None:
                self._lock_file.release()
            if len(self._backlog):
                log.error("historian.close.incomplete", lost=len(self._backlog), error=self._last_error)
        return not len(self._backlog)

    def _written_to(self, n: int) -> bool:
        oldest = self._backlog.oldest
        return oldest is None or oldest > n

    def _put(self, kind: Kind, payload: Payload) -> None:
        with self._mutex:
            self._append(kind, payload)
        if not self._work.is_set():
            self._work.set()

    def _append(self, kind: Kind, payload: Payload) -> None:
        """Queue an entry; the caller holds the mutex."""
        before = bool(self._backlog.lost)
        self._n += 1
        self._backlog.add((self._n, kind, payload))
        if self._backlog.lost and not before:
            self._append(
                Kind.EVENT, Event(self._clock.now(), "historian.queue.full", json_text(self._budget))
            )

    def _run(self) -> None:
        while not self._closing.is_set():
            self._work.wait()
            self._hurry.wait(LINGER_S)
            self._work.clear()
            self._hurry.clear()
            while self._one_batch():
                pass
            self._trim()
        if self._db is not None:
            self._db.close()

    def _trim(self) -> None:
        """Take out a little of what the long-term store holds, while nothing waits to be written."""
        for _ in range(TRIMS_MAX):
            if self._trimmer is None or self._db is None or self._broken or self._work.is_set():
                return
            if not self._trimmer.step(self._db):
                return

    def _one_batch(self) -> bool:
        """Write what waits; True: there is more, or it has to be tried again."""
        with self._mutex:
            batch = self._backlog.take()
            self._attempt_s = self._clock.monotonic_s() if batch else None
        if not batch:
            return False
        done = self._commit(batch)
        with self._mutex:
            self._attempt_s = None
            if not done:
                self._backlog.give_back()
        if not done:
            return not self._closing.wait(RETRY_S)
        self._committed(len(batch))
        for _, _, payload in batch:
            if isinstance(payload, Batch):
                payload.stored()
        return len(batch) >= BATCH_MAX

    def _commit(self, batch: list[Entry]) -> bool:
        """Write one batch in one transaction; False when the file cannot be written now."""
        durable = self._sync and any(kind in DURABLE for _, kind, _ in batch)
        try:
            db, rows = self._opened()
            db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            with transaction(db):
                rows.write(batch)
        except UNWRITABLE as error:
            if self._rows is not None:
                self._rows.forget()
            if len(batch) > 1:
                return all(self._commit([entry]) for entry in batch)
            self._unwritable += 1
            log.error("historian.entry.unwritable", kind=batch[0][1].value, error=str(error))
        except (sqlite3.Error, StoreError, OSError, MemoryError) as error:  # the thread must outlive them
            self._failed(error)
            return False
        return True

    def _committed(self, count: int) -> None:
        now = self._clock.now()
        with self._progress:
            self._backlog.written()
            self._recorded += count
            recovered = bool(self._last_error)
            self._last_error, self._failing_s = "", None
            if lost := self._backlog.told():
                fields = json_text(dict(lost))
                self._append(Kind.EVENT, Event(now, "historian.queue.recovered", fields))
                self._work.set()
            self._progress.notify_all()
        if recovered:
            log.info("historian.write.recovered", file=str(self._path))

    def _open(self) -> int:
        """Open the file for the first time; the number of this opening, written or not."""
        try:
            self._lock_file = WriterLock(self._path)
            db = open_writer(self._path, HISTORY)
            self._db = db
            cursor = db.execute("INSERT INTO boot (opened_ms) VALUES (?)", (self._opened_ms,))
            assert cursor.lastrowid is not None
            self._rows = RowWriter(db, cursor.lastrowid)
        except (StoreError, OSError, sqlite3.Error) as error:
            if not disk_fails(error):
                if self._lock_file is not None:
                    self._lock_file.release()
                raise
            self._failed(error)
            return next_boot(self._path, self._opened_ms)
        return cursor.lastrowid

    def _opened(self) -> tuple[sqlite3.Connection, RowWriter]:
        """The open file and what writes rows into it.

        After a failed sync nothing in memory can be trusted: the file is opened anew, and SQLite recovers
        from what is in it.
        """
        if self._broken or self._db is None or self._rows is None:
            if self._db is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._db.close()
            if self._lock_file is None:
                self._lock_file = WriterLock(self._path)
            self._db = open_writer(self._path, HISTORY)
            known = (self.boot, self._opened_ms)  # there already, unless the disk was full at the start
            self._db.execute("INSERT INTO boot VALUES (?, ?) ON CONFLICT DO NOTHING", known)
            self._rows = RowWriter(self._db, self.boot)
            self._broken = False
        return self._db, self._rows

    def _failed(self, error: Exception) -> None:
        self._broken = True
        with self._mutex:
            first = not self._last_error
            self._write_errors += 1
            self._last_error = str(error) or type(error).__name__
            if self._failing_s is None:
                self._failing_s = self._clock.monotonic_s()
        if first:
            log.error("historian.write.failed", file=str(self._path), error=str(error))


def newest_mark(path: Path, device: str, name: str) -> str | None:
    """The newest mark of a device in a file; None: there is none, or it cannot be read."""
    file = ReadOnlyFile(path, HISTORY)
    try:
        if not file.rows("SELECT 1 FROM sqlite_master WHERE name = 'mark'"):
            return None
        rows = file.rows("SELECT text FROM mark WHERE device = ? AND name = ?", (device, name))
    except StoreError:
        return None
    finally:
        file.close()
    return str(rows[0][0]) if rows else None


def next_boot(path: Path, now_ms: int) -> int:
    """The number of the opening after all that a file knows of.

    Where the file cannot be read it is the time in seconds: more than any count of openings, and the openings
    after it count on from there.
    """
    file = ReadOnlyFile(path, HISTORY)
    try:
        rows = file.rows("SELECT max(boot) FROM boot")
    except StoreError:
        return now_ms // 1000
    finally:
        file.close()
    return 1 if not rows or rows[0][0] is None else int(rows[0][0]) + 1
