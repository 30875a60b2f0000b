"""Read side of the historian: for the planner and the API, from their own processes."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from connectors.historian.readings import Readings
from connectors.historian.schema import ARCHIVE, HISTORY, QUALITIES
from connectors.json_codec import loads
from connectors.sqlite_file import ReadOnlyFile, from_ms, to_ms
from connectors.status_table import status_rows
from ems.alarms import AlarmBook
from ems.commands import Cause, WriteOutcome
from ems.condition import PlantCondition
from ems.errors import BadValue
from ems.records import Bucket, CommandRecord, EventRecord, Sample, StatusRow
from ems.telemetry import Reading


class SqliteHistoryReader:
    """`ems.ports.HistoryReader` on the historian's file; a file that is not there yet reads as empty.

    Every method is one short query. Raises StoreError where the file is of another kind or version.
    """

    def __init__(self, path: Path) -> None:
        self._file = ReadOnlyFile(path, HISTORY)
        self._readings = Readings(self._file, path.parent / ARCHIVE)

    def latest(self) -> Mapping[str, Reading]:
        """The newest reading of each point."""
        rows = self._file.rows(
            "SELECT p.name, l.value, l.quality, l.source_ms, l.arrived_s FROM latest l "
            "JOIN point p ON p.id = l.point_id"
        )
        return {
            name: Reading(
                point=name,
                value=value,
                quality=QUALITIES[quality],
                source_time=from_ms(source_ms),
                arrived_s=arrived_s,
            )
            for name, value, quality, source_ms, arrived_s in rows
        }

    def condition(self) -> PlantCondition | None:
        """The newest plant condition, or None before the first tick."""
        rows = self._file.rows("SELECT body FROM condition")
        try:
            return loads(PlantCondition, rows[0][0]) if rows else None
        except BadValue:
            return None

    def alarms(self) -> AlarmBook | None:
        """The alarms as the edge last recorded them; None before it did, or where they cannot be read."""
        known = self._file.rows("SELECT 1 FROM sqlite_master WHERE name = 'alarms'")
        rows = self._file.rows("SELECT body FROM alarms") if known else []
        try:
            return loads(AlarmBook, rows[0][0]) if rows else None
        except BadValue:
            return None

    def points(self) -> Sequence[str]:
        """Every point that was ever recorded."""
        return [name for (name,) in self._file.rows("SELECT name FROM point ORDER BY name")]

    def series(self, point: str, start: datetime, end: datetime, limit: int) -> Sequence[Sample]:
        """Samples of one point in [start, end), oldest first, at most `limit`; page on from the last one."""
        return self._readings.series(point, start, end, limit)

    def buckets(self, point: str, start: datetime, end: datetime, every_s: int) -> Sequence[Bucket]:
        """Readings of one point in buckets that begin in [start, end), oldest first; aligned to 1970."""
        return self._readings.buckets(point, start, end, every_s)

    def commands(
        self, start: datetime, end: datetime, point: str | None, limit: int
    ) -> Sequence[CommandRecord]:
        """Commands and refusals in [start, end), newest first: what was commanded and why."""
        wanted = "" if point is None else " AND point_id = (SELECT id FROM point WHERE name = :point)"
        rows = self._file.rows(
            f"""
            SELECT r.at_ms, p.name, r.value, r.cause, r.reason, r.owner, r.plan_id, r.epoch, r.seq,
                   r.limits_hash, r.code, o.outcome, o.detail
            FROM (
                SELECT at_ms, boot, n, point_id, value, cause, reason, owner, plan_id, epoch, seq,
                       limits_hash, NULL AS code
                FROM command WHERE at_ms >= :start AND at_ms < :end{wanted}
                UNION ALL
                SELECT at_ms, boot, n, point_id, value, cause, reason, '', NULL, 0, 0, '', code
                FROM refusal WHERE at_ms >= :start AND at_ms < :end{wanted}
                ORDER BY at_ms DESC, boot DESC, n DESC LIMIT :limit
            ) r
            JOIN point p ON p.id = r.point_id
            LEFT JOIN outcome o ON o.boot = r.boot AND o.epoch = r.epoch AND o.seq = r.seq AND r.code IS NULL
            ORDER BY r.at_ms DESC, r.boot DESC, r.n DESC
            """,  # noqa: S608 (`wanted` is one of two constants)
            {"start": to_ms(start), "end": to_ms(end), "point": point, "limit": limit},
        )
        return [_command_record(row) for row in rows]

    def writes(self, point: str, start: datetime, end: datetime, count_max: int) -> int:
        """How often a point was written in [start, end), counted no further than `count_max`."""
        rows = self._file.rows(
            "SELECT count(*) FROM (SELECT 1 FROM command WHERE at_ms >= :start AND at_ms < :end "
            "AND point_id = (SELECT id FROM point WHERE name = :point) LIMIT :most)",
            {"start": to_ms(start), "end": to_ms(end), "point": point, "most": count_max},
        )
        return int(rows[0][0]) if rows else 0

    def events(self, start: datetime, end: datetime, kind: str | None, limit: int) -> Sequence[EventRecord]:
        """Events in [start, end), newest first; `kind` picks one kind, or with a dot at its end a family."""
        begins = kind is not None and kind.endswith(".")
        rows = self._file.rows(
            "SELECT at_ms, kind, fields FROM event "
            "WHERE at_ms >= :start AND at_ms < :end AND (:kind IS NULL OR kind = :kind "
            "OR (:begins AND substr(kind, 1, length(:kind)) = :kind)) "
            "ORDER BY at_ms DESC, boot DESC, n DESC LIMIT :limit",
            {"start": to_ms(start), "end": to_ms(end), "kind": kind, "begins": begins, "limit": limit},
        )
        return [EventRecord(at=from_ms(ms), kind=k, fields=json.loads(fields)) for ms, k, fields in rows]

    def statuses(self) -> Mapping[str, StatusRow]:
        """Newest status row of each process that records here."""
        return status_rows(self._file)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._readings.close()


def _command_record(row: tuple[Any, ...]) -> CommandRecord:
    at_ms, point, value, cause, reason, owner, plan_id, epoch, seq, limits_hash, code, outcome, detail = row
    return CommandRecord(
        at=from_ms(at_ms),
        point=point,
        value=math.nan if value is None else value,
        cause=Cause(cause),
        reason=reason,
        owner=owner,
        plan_id=plan_id,
        epoch=epoch,
        seq=seq,
        limits_hash=limits_hash,
        refused_code=code,
        outcome=None if outcome is None else WriteOutcome(outcome),
        detail="" if detail is None else detail,
    )
