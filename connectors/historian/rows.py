"""What the edge hands over, as rows. Runs in the writer's thread, one batch per transaction."""

import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from connectors.historian.schema import QUALITY_CODES, SPOOLED
from connectors.json_codec import dumps, json_text
from connectors.recorded import Batch
from connectors.sqlite_file import to_ms
from connectors.status_table import STATUS_UPSERT
from ems.alarms import AlarmBook
from ems.commands import Command, Refusal, WriteResult
from ems.condition import PlantCondition
from ems.errors import BadValue
from ems.records import StatusRow, TimeBasis
from ems.telemetry import Reading, Snapshot


class Kind(Enum):
    """What an entry of the queue is."""

    SNAPSHOT = "snapshot"
    INTENT = "intent"
    OUTCOME = "outcome"
    REFUSAL = "refusal"
    EVENT = "event"
    STATUS = "status"
    CONDITION = "condition"
    ALARMS = "alarms"
    RECORDED = "recorded"


DURABLE = frozenset([Kind.INTENT, Kind.OUTCOME, Kind.REFUSAL, Kind.EVENT, Kind.ALARMS, Kind.RECORDED])
KEYS = {
    "reading": "at_ms, point_id",
    "command": "boot, n",
    "outcome": "boot, epoch, seq",
    "refusal": "boot, n",
    "event": "boot, n",
    "sample": "boot, n",
}
RECORDED_MAX = 1_000_000  # samples that are found by point and time, and known when they come again
_RECORDED = """
    INSERT INTO recorded (point_id, value, quality, source_ms, told_ms, at_ms, clock)
    VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
    """


SNAPSHOT_NUMBERED = """
    INSERT INTO spool
    SELECT :boot, (SELECT coalesce(max(seq), 0) + 1 FROM spool WHERE boot = :boot), :kind, :at_ms, 0
    WHERE NOT EXISTS (SELECT 1 FROM reading WHERE at_ms = :at_ms)
    """


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it waits in the queue; `fields` is JSON text already."""

    at: datetime
    kind: str
    fields: str


Payload = Snapshot | Command | WriteResult | Refusal | Event | StatusRow | PlantCondition | AlarmBook | Batch
Entry = tuple[int, Kind, Payload]  # number in the queue (of a batch: of its last sample), kind, content


class RowWriter:
    """Writes batches into one open file. The same batch may be written twice: a retry changes nothing."""

    def __init__(self, connection: sqlite3.Connection, boot: int) -> None:
        self._db, self._boot = connection, boot
        self.bad_conditions = 0
        self._point_ids: dict[str, int] = dict(connection.execute("SELECT name, id FROM point").fetchall())

    def forget(self) -> None:
        """Drop what was learnt inside a transaction that was rolled back."""
        self._point_ids.clear()

    def write(self, batch: Sequence[Entry]) -> None:
        """Insert everything in `batch`; the caller holds the transaction."""
        by_kind: dict[Kind, list[tuple[int, Any]]] = {}
        for n, kind, payload in batch:
            by_kind.setdefault(kind, []).append((n, payload))
        for kind, entries in by_kind.items():
            match kind:
                case Kind.SNAPSHOT:
                    self._snapshots([s for _, s in entries])
                case Kind.INTENT:
                    self._insert("command", [self._command_row(n, c) for n, c in entries])
                case Kind.OUTCOME:
                    self._insert("outcome", [self._outcome_row(r) for _, r in entries])
                case Kind.REFUSAL:
                    self._insert("refusal", [self._refusal_row(n, r) for n, r in entries])
                case Kind.EVENT:
                    rows = [(self._boot, n, to_ms(e.at), e.kind, e.fields) for n, e in entries]
                    self._insert("event", rows)
                case Kind.STATUS:
                    newest = {s.process: s for _, s in entries}
                    self._db.executemany(STATUS_UPSERT, [_status_row(s) for s in newest.values()])
                case Kind.CONDITION:
                    self._condition([c for _, c in entries])
                case Kind.ALARMS:
                    _, newest_book = entries[-1]
                    self._db.execute("INSERT OR REPLACE INTO alarms VALUES (1, ?)", (dumps(newest_book),))
                case Kind.RECORDED:
                    self._recorded(entries)

    def _insert(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        """Rows once written stay as they are; only a row of the same key counts as written."""
        marks = ", ".join("?" * len(rows[0]))
        sql = f"INSERT INTO {table} VALUES ({marks}) ON CONFLICT ({KEYS[table]}) DO NOTHING"  # noqa: S608
        self._db.executemany(sql, rows)

    def _snapshots(self, snapshots: list[Snapshot]) -> None:
        rows: list[tuple[Any, ...]] = []
        newest: dict[str, Reading] = {}
        times = dict.fromkeys(to_ms(s.at) for s in snapshots if s.readings)
        known = {"boot": self._boot, "kind": SPOOLED["readings"]}
        self._db.executemany(SNAPSHOT_NUMBERED, [{**known, "at_ms": t} for t in times])
        for snapshot in snapshots:
            at_ms = to_ms(snapshot.at)
            newest.update(snapshot.readings)
            for point, r in snapshot.readings.items():
                lag_ms = at_ms - to_ms(r.source_time)
                rows.append((at_ms, self._id(point), _number(r.value), QUALITY_CODES[r.quality], lag_ms))
        if not rows:
            return
        self._insert("reading", rows)
        latest = [
            (self._id(p), _number(r.value), QUALITY_CODES[r.quality], to_ms(r.source_time), r.arrived_s)
            for p, r in newest.items()
        ]
        self._db.executemany("INSERT OR REPLACE INTO latest VALUES (?, ?, ?, ?, ?)", latest)

    def _recorded(self, entries: list[tuple[int, Batch]]) -> None:
        """Each sample once: one that its device tells again is known by its point, time and value.

        One whose time is not believed is stored again: better twice than never.
        """
        for last, batch in entries:
            for n, s in enumerate(batch.samples, last - len(batch.samples) + 1):
                told_ms = None if s.told_at is None else to_ms(s.told_at)
                at_ms, source_ms, point_id = to_ms(s.arrived_at), to_ms(s.at), self._id(s.point)
                held = (point_id, _number(s.value), QUALITY_CODES[s.quality], source_ms, told_ms)
                if s.clock is not TimeBasis.DEVICE and self._is_written(n):
                    continue
                if self._db.execute(_RECORDED, (*held, at_ms, s.clock.value)).rowcount:
                    self._insert("sample", [(self._boot, n, at_ms, *held, s.clock.value)])
            if batch.mark is not None:
                row = (batch.device, batch.mark.name, batch.mark.text)
                self._db.execute("INSERT OR REPLACE INTO mark VALUES (?, ?, ?)", row)
        oldest = "SELECT max(id) - ? FROM recorded"
        self._db.execute(f"DELETE FROM recorded WHERE id <= ({oldest})", (RECORDED_MAX,))  # noqa: S608

    def _is_written(self, n: int) -> bool:
        """Whether a sample that nothing tells from others was written when this batch was tried before."""
        return (
            self._db.execute("SELECT 1 FROM sample WHERE (boot, n) = (?, ?)", (self._boot, n)).fetchone()
            is not None
        )

    def _command_row(self, n: int, c: Command) -> tuple[Any, ...]:
        return (
            self._boot,
            n,
            to_ms(c.decided_at),
            c.epoch,
            c.seq,
            self._id(c.point),
            _number(c.value),
            c.cause.value,
            c.reason,
            c.owner,
            c.plan_id,
            c.limits_hash,
        )

    def _outcome_row(self, r: WriteResult) -> tuple[Any, ...]:
        c = r.command
        return self._boot, c.epoch, c.seq, r.outcome.value, r.detail, to_ms(r.finished_at)

    def _refusal_row(self, n: int, r: Refusal) -> tuple[Any, ...]:
        value = None if math.isnan(r.value) else r.value
        point_id = self._id(r.point)
        return self._boot, n, to_ms(r.decided_at), point_id, value, r.cause.value, r.code, r.reason

    def _condition(self, conditions: list[PlantCondition]) -> None:
        """Keep the newest sound one."""
        for condition in reversed(conditions):
            try:
                body = dumps(condition)
            except BadValue:
                self.bad_conditions += 1
                continue
            self._db.execute("INSERT OR REPLACE INTO condition VALUES (1, ?)", (body,))
            return

    def _id(self, point: str) -> int:
        found = self._point_ids.get(point)
        if found is None:
            self._db.execute("INSERT OR IGNORE INTO point (name) VALUES (?)", (point,))
            (found,) = self._db.execute("SELECT id FROM point WHERE name = ?", (point,)).fetchone()
            self._point_ids[point] = found
        return found


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _status_row(s: StatusRow) -> tuple[Any, ...]:
    return s.process, s.pid, to_ms(s.at), json_text(s.fields)
