"""Read side of the historian: for the planner and the API, from their own processes."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from connectors.historian.audit.reader import AuditRows
from connectors.historian.readings import Readings
from connectors.historian.schema import ARCHIVE, HISTORY, QUALITIES
from connectors.json_codec import loads
from connectors.sqlite_file import ReadOnlyFile, from_ms, to_ms
from connectors.status_table import status_rows
from ems.alarms import AlarmBook
from ems.commands import Cause, WriteOutcome
from ems.condition import PlantCondition
from ems.errors import BadValue
from ems.records import Bucket, CommandRecord, DeviceSample, EventRecord, Sample, StatusRow, TimeBasis
from ems.telemetry import Reading


class SqliteHistoryReader:
    """`ems.ports.HistoryReader` on the historian's file; a file that is not there yet reads as empty.

    Every method is one short query, and files of the long-term store where the past is asked for. Raises
    StoreError where the file is of another kind or version.
    """

    def __init__(self, path: Path) -> None:
        self._file = ReadOnlyFile(path, HISTORY)
        self._readings = Readings(self._file, path.parent / ARCHIVE)
        self._audit = AuditRows(self._file, path.parent / ARCHIVE)

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

    def recorded(self, point: str, start: datetime, end: datetime, limit: int) -> Sequence[DeviceSample]:
        """What a device recorded of one point, by its place in time in [start, end), oldest first.

        Those that have one place in time are in the order of the device. The newest of all points are found
        (`RECORDED_MAX`); older ones lie in the audit files.
        """
        if not self._file.rows("SELECT 1 FROM sqlite_master WHERE name = 'recorded'"):
            return []
        rows = self._file.rows(
            "SELECT value, quality, source_ms, told_ms, at_ms, clock FROM recorded WHERE point_id = "
            "(SELECT id FROM point WHERE name = ?) AND source_ms >= ? AND source_ms < ? "
            "ORDER BY source_ms, id LIMIT ?",
            (point, to_ms(start), to_ms(end), limit),
        )
        return [
            DeviceSample(
                point=point,
                value=value,
                quality=QUALITIES[quality],
                at=from_ms(source_ms),
                told_at=None if told_ms is None else from_ms(told_ms),
                arrived_at=from_ms(at_ms),
                clock=TimeBasis(clock),
            )
            for value, quality, source_ms, told_ms, at_ms, clock in rows
        ]

    def buckets(self, point: str, start: datetime, end: datetime, every_s: int) -> Sequence[Bucket]:
        """Readings of one point in buckets that begin in [start, end), oldest first; aligned to 1970."""
        return self._readings.buckets(point, start, end, every_s)

    def bucket_s_min(self, start: datetime, end: datetime) -> int:
        """Length of the shortest buckets for all of [start, end) [s]: of minutes some may be given up."""
        return self._readings.bucket_s_min(start, end)

    def commands(
        self, start: datetime, end: datetime, point: str | None, limit: int
    ) -> Sequence[CommandRecord]:
        """Commands and refusals in [start, end), newest first: what was commanded and why."""
        rows = self._audit.commands(to_ms(start), to_ms(end), point, limit)
        return [_command_record(row) for row in rows]

    def writes(self, point: str, start: datetime, end: datetime, count_max: int) -> int:
        """How often a point was written in [start, end), counted no further than `count_max`."""
        return self._audit.writes(point, to_ms(start), to_ms(end), count_max)

    def events(self, start: datetime, end: datetime, kind: str | None, limit: int) -> Sequence[EventRecord]:
        """Events in [start, end), newest first; `kind` picks one kind, or with a dot at its end a family."""
        rows = self._audit.events(to_ms(start), to_ms(end), kind, limit)
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
