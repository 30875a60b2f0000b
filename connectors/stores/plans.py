"""The planner's file: every plan it published, and how the planner is doing."""

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import structlog

from connectors.device import OnEvent
from connectors.json_codec import dumps, json_text, loads
from connectors.sqlite_file import (
    ReadOnlyFile,
    Schema,
    StoreError,
    WriterLock,
    from_ms,
    open_writer,
    to_ms,
    transaction,
    writer_alive,
)
from connectors.status_table import STATUS_SQL, STATUS_UPSERT, status_rows
from ems.clock import Clock, SystemClock
from ems.errors import BadValue
from ems.explanation import Explanation
from ems.plan import Plan, PlanLabel
from ems.records import JsonValue, PlanSummary, StatusRow

log = structlog.get_logger()

# Made when a store is opened that was written before there were explanations.
EXPLANATION_SQL = """
    CREATE TABLE IF NOT EXISTS explanation (
        plan_id TEXT PRIMARY KEY, body TEXT NOT NULL  -- the whole explanation as JSON
    );
    """
PLANS = Schema(
    name="plan store",
    application_id=0x454D5350,  # "EMSP"
    version=1,
    sql="""
    CREATE TABLE plan (
        n INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of publication; the newest is current
        plan_id TEXT NOT NULL UNIQUE,
        seq INTEGER NOT NULL,
        issued_ms INTEGER NOT NULL,
        valid_until_ms INTEGER NOT NULL,
        label TEXT NOT NULL,
        objective REAL,
        gap_ratio REAL,
        solve_s REAL NOT NULL,
        body TEXT NOT NULL  -- the whole plan as JSON
    );
    CREATE INDEX plan_issued ON plan (issued_ms);
    """
    + STATUS_SQL
    + EXPLANATION_SQL,
)


class PlanReader:
    """`PlanSource` for the edge and `PlanArchive` for the API: read-only, from another process.

    A corrupt plan is answered with None, a file that cannot be read with the plan already in hand; either is
    told once through `on_event`.

    Parameters
    ----------
    path : the planner's file; while it is not there, there are no plans.
    on_event : told of an unreadable file or plan; `Recorder.event` fits.
    clock : time of those events.
    """

    def __init__(self, path: Path, *, on_event: OnEvent | None = None, clock: Clock | None = None) -> None:
        self._path = path
        self._file = ReadOnlyFile(path, PLANS)
        self._on_event = on_event
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._seen = 0  # n of the plan in `_plan`
        self._plan: Plan | None = None
        self._complaint = ""

    def current(self) -> Plan | None:
        """The newest plan; parsed once, so that asking again costs one look at the index."""
        try:
            rows = self._file.rows("SELECT max(n) FROM plan")
            newest = rows[0][0] if rows and rows[0][0] is not None else 0
            if newest != self._seen:
                body = self._file.rows("SELECT body FROM plan WHERE n = ?", (newest,)) if newest else []
                self._seen, self._plan = newest, None
                self._plan = loads(Plan, body[0][0]) if body else None
            self._complaint = ""
        except (StoreError, OSError) as error:  # the plan in hand says itself how long it is good
            self._complain("plan.store.unreadable", str(error))
        except BadValue as error:
            self._complain("plan.current.corrupt", str(error))
        return self._plan

    def producer_alive(self) -> bool:
        """Whether a planner holds the file; the kernel drops its lock when it dies."""
        return writer_alive(self._path)

    def summaries(self, start: datetime, end: datetime, limit: int) -> Sequence[PlanSummary]:
        """Plans issued in [start, end), newest first."""
        rows = self._file.rows(
            "SELECT plan_id, seq, issued_ms, valid_until_ms, label, objective, gap_ratio, solve_s FROM plan "
            "WHERE issued_ms >= ? AND issued_ms < ? ORDER BY issued_ms DESC, n DESC LIMIT ?",
            (to_ms(start), to_ms(end), limit),
        )
        return [
            PlanSummary(
                plan_id=plan_id,
                seq=seq,
                issued_at=from_ms(issued_ms),
                valid_until=from_ms(valid_ms),
                label=PlanLabel(label),
                objective=objective,
                gap_ratio=gap_ratio,
                solve_s=solve_s,
            )
            for plan_id, seq, issued_ms, valid_ms, label, objective, gap_ratio, solve_s in rows
        ]

    def get(self, plan_id: str) -> Plan | None:
        """One past plan; None where there is none, or where it cannot be read."""
        rows = self._file.rows("SELECT body FROM plan WHERE plan_id = ?", (plan_id,))
        try:
            return loads(Plan, rows[0][0]) if rows else None
        except BadValue as error:
            self._complain("plan.archive.corrupt", f"{plan_id}: {error}")
            return None

    def explanation(self, plan_id: str) -> Explanation | None:
        """Why a plan is as it is; None where it was not explained (yet), or it cannot be read."""
        if not self._file.rows("SELECT 1 FROM sqlite_master WHERE name = 'explanation'"):
            return None
        rows = self._file.rows("SELECT body FROM explanation WHERE plan_id = ?", (plan_id,))
        try:
            return loads(Explanation, rows[0][0]) if rows else None
        except BadValue as error:
            self._complain("plan.explanation.corrupt", f"{plan_id}: {error}")
            return None

    def last_seq(self) -> int:
        """Highest `Plan.seq` published so far, 0 when there is none: where a restarted planner goes on."""
        rows = self._file.rows("SELECT max(seq) FROM plan")
        return rows[0][0] if rows and rows[0][0] is not None else 0

    def statuses(self) -> Mapping[str, StatusRow]:
        """Newest status row of each process that writes here."""
        return status_rows(self._file)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _complain(self, kind: str, reason: str) -> None:
        """Once per fault, not once per cycle."""
        if reason == self._complaint:
            return
        self._complaint = reason
        fields: dict[str, JsonValue] = {"file": self._path.name, "reason": reason}
        log.error(kind, **fields)
        if self._on_event is not None:
            self._on_event(self._clock.now(), kind, fields)


class SqlitePlanStore(PlanReader):
    """`PlanSink` of the planner; reads as `PlanReader` does.

    Raises
    ------
    StoreError : another process writes the file, or it is of another kind or version.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lock_file = WriterLock(path)
        try:
            self._writer: sqlite3.Connection | None = open_writer(path, PLANS)
            self._writer.executescript(EXPLANATION_SQL)
        except BaseException:
            self._lock_file.release()
            raise
        self._turn = threading.Lock()

    def publish(self, plan: Plan) -> None:
        """Store a plan, synced to disk, and make it current.

        Raises
        ------
        BadValue : a number in it is not finite, or a time has no zone.
        StoreError : the file cannot be written, or a plan of this id is there already.
        """
        body = dumps(plan)
        row = (
            plan.plan_id,
            plan.seq,
            to_ms(plan.issued_at),
            to_ms(plan.valid_until),
            plan.label.value,
            plan.solve.objective,
            plan.solve.gap_ratio,
            plan.solve.solve_s,
            body,
        )
        self._write(
            "INSERT INTO plan (plan_id, seq, issued_ms, valid_until_ms, label, objective, gap_ratio, "
            "solve_s, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )

    def explain(self, explanation: Explanation) -> None:
        """Store why a plan is as it is, in place of what was stored before.

        Raises
        ------
        BadValue : a number in it is not finite, or a time has no zone.
        StoreError : the file cannot be written.
        """
        row = (explanation.plan_id, dumps(explanation))
        self._write("INSERT OR REPLACE INTO explanation (plan_id, body) VALUES (?, ?)", row)

    def status(self, row: StatusRow) -> None:
        """Upsert the status row of this process."""
        self._write(STATUS_UPSERT, (row.process, row.pid, to_ms(row.at), json_text(row.fields)))

    def close(self) -> None:
        """Close the file and let the next writer in."""
        super().close()
        with self._turn:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
                self._lock_file.release()

    def _write(self, sql: str, row: tuple[object, ...]) -> None:
        with self._turn:
            if self._writer is None:
                raise StoreError(f"{self._path}: closed")
            try:
                with transaction(self._writer):
                    self._writer.execute(sql, row)
            except sqlite3.Error as error:
                raise StoreError(f"{self._path}: {error}") from None
