"""What is newest, told through memory while the historian's file cannot be written.

A page that reads files would show the last minute before the disk was full, and not the alarm that says so.
While the recorder is in trouble, the edge therefore puts its newest status, alarms, condition and readings
into one small file in memory; readers take it where it is newer than what is stored. It is no record.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from connectors.historian.sqlite import SqliteHistoryReader, SqliteRecorder
from connectors.json_codec import dumps, json_text, loads
from connectors.sqlite_file import DiskError
from connectors.stores.kept_file import put_whole
from ems.alarms import AlarmBook
from ems.clock import Clock
from ems.commands import Command, Refusal, WriteResult
from ems.condition import PlantCondition
from ems.errors import BadValue
from ems.records import Bucket, CommandRecord, DeviceSample, EventRecord, JsonValue, Sample, StatusRow
from ems.telemetry import Reading, Snapshot

log = structlog.get_logger()

IN_MEMORY = Path("/dev/shm")  # noqa: S108  a file there is believed for its owner, not for its place
PERIOD_S = 1.0  # a page is renewed every 2 s


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """What an edge last told; parts it has not told yet are None."""

    status: StatusRow
    alarms: AlarmBook | None
    condition: PlantCondition | None
    snapshot: Snapshot | None


class LiveFile:
    """The file in memory that belongs to one folder of a run; whoever knows the folder finds it.

    Parameters
    ----------
    directory : the folder of historian and plans.
    memory : where files are held in memory.
    """

    def __init__(self, directory: Path, memory: Path | None = None) -> None:
        self._directory = directory.resolve()
        short = hashlib.sha256(os.fsencode(self._directory)).hexdigest()[:16]
        self.path = (IN_MEMORY if memory is None else memory) / f"hybrid-ems-{short}.json"

    def put(self, newest: Newest) -> None:
        """Replace what is told.

        Raises
        ------
        OSError : there is no room in memory either, or the name is taken by another user.
        BadValue : a number in it is not finite.
        """
        status, parts = newest.status, (newest.alarms, newest.condition, newest.snapshot)
        body = {
            "process": status.process,
            "pid": status.pid,
            "at": status.at.isoformat(),
            "fields": json_text(status.fields),
            "parts": [None if part is None else dumps(part) for part in parts],
        }
        put_whole(self.path, json.dumps(body).encode(), mode=0o640)

    def remove(self) -> None:
        """Nothing is told here any more."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def read(self) -> Newest | None:
        """What is told; None where nothing is, or by a user who has no business in this folder."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(handle, "rb") as stream:
                if os.fstat(handle).st_uid not in self._believed():
                    return None
                raw = stream.read()
        except OSError:
            return None
        try:
            return _newest(raw)
        except (ValueError, KeyError, TypeError, BadValue):  # an edge of another version
            return None

    def _believed(self) -> set[int]:
        """Users who may speak for the edge: the owner of its folder, root, and whoever asks."""
        return {0, os.geteuid(), self._directory.stat().st_uid}


def _newest(raw: bytes) -> Newest:
    body = json.loads(raw)
    alarms, condition, snapshot = body["parts"]
    at = datetime.fromisoformat(body["at"])
    return Newest(
        status=StatusRow(process=body["process"], pid=body["pid"], at=at, fields=json.loads(body["fields"])),
        alarms=None if alarms is None else loads(AlarmBook, alarms),
        condition=None if condition is None else loads(PlantCondition, condition),
        snapshot=None if snapshot is None else loads(Snapshot, snapshot),
    )


class LiveRecorder:
    """`ems.ports.Recorder` that hands everything on, and tells what is newest while that cannot be written.

    Parameters
    ----------
    recorder : where records go.
    file : where the newest is told meanwhile.
    clock : the edge's own.
    """

    def __init__(self, recorder: SqliteRecorder, file: LiveFile, clock: Clock) -> None:
        self._recorder, self._file, self._clock = recorder, file, clock
        self._alarms: AlarmBook | None = None
        self._condition: PlantCondition | None = None
        self._snapshot: Snapshot | None = None
        self._told_s: float | None = None
        self._failed = False
        file.remove()  # of an edge that was killed

    def readings(self, snapshot: Snapshot) -> None:
        """Store every reading of a snapshot."""
        self._snapshot = snapshot
        self._recorder.readings(snapshot)

    def intent(self, command: Command) -> None:
        """A command is about to be sent."""
        self._recorder.intent(command)

    def outcome(self, result: WriteResult) -> None:
        """What became of it."""
        self._recorder.outcome(result)

    def refusal(self, refusal: Refusal) -> None:
        """A write that the gate refused."""
        self._recorder.refusal(refusal)

    def event(self, at: datetime, kind: str, fields: Mapping[str, JsonValue]) -> None:
        """An event `domain.object.kind` with its fields."""
        self._recorder.event(at, kind, fields)

    def condition(self, condition: PlantCondition) -> None:
        """Make the plant's condition readable."""
        self._condition = condition
        self._recorder.condition(condition)

    def alarms(self, book: AlarmBook) -> None:
        """Make the alarms readable."""
        self._alarms = book
        self._recorder.alarms(book)

    def status(self, row: StatusRow) -> None:
        """Upsert the status row; in memory too while the file takes nothing. Never raises for a disk."""
        self._recorder.status(row)
        if self._recorder.trouble is None:
            self.close()
            return
        now_s = self._clock.monotonic_s()
        if self._told_s is not None and now_s - self._told_s < PERIOD_S:
            return
        self._told_s = now_s
        newest = Newest(status=row, alarms=self._alarms, condition=self._condition, snapshot=self._snapshot)
        try:
            self._file.put(newest)
        except (OSError, BadValue) as error:
            if not self._failed:
                log.error("historian.live.untold", file=str(self._file.path), error=str(error))
            self._failed = True
        else:
            self._failed = False

    def close(self) -> None:
        """Tell nothing in memory any more."""
        if self._told_s is not None:
            self._file.remove()
            self._told_s = None


class LiveHistory:
    """`ems.ports.HistoryReader`: the stored history, and what the edge tells in memory if newer."""

    def __init__(self, directory: Path, memory: Path | None = None) -> None:
        self._stored = SqliteHistoryReader(directory / "history.sqlite")
        self._file = LiveFile(directory, memory)

    def _newer(self) -> Newest | None:
        told = self._file.read()
        if told is None:
            return None
        try:
            stored = self._stored.statuses().get(told.status.process)
        except DiskError:
            return told
        return told if stored is None or stored.at <= told.status.at else None

    def latest(self) -> Mapping[str, Reading]:
        """The newest reading of each point."""
        told = self._newer()
        return self._stored.latest() if told is None or told.snapshot is None else told.snapshot.readings

    def condition(self) -> PlantCondition | None:
        """The newest plant condition, or None before the first tick."""
        told = self._newer()
        return self._stored.condition() if told is None or told.condition is None else told.condition

    def alarms(self) -> AlarmBook | None:
        """The alarms as the edge last told them."""
        told = self._newer()
        return self._stored.alarms() if told is None or told.alarms is None else told.alarms

    def statuses(self) -> Mapping[str, StatusRow]:
        """Newest status row of each process that records here."""
        told = self._newer()
        if told is None:
            return self._stored.statuses()
        try:
            stored = self._stored.statuses()
        except DiskError:
            stored = {}
        return {**stored, told.status.process: told.status}

    def series(self, point: str, start: datetime, end: datetime, limit: int) -> Sequence[Sample]:
        """Stored samples of one point in [start, end), oldest first."""
        return self._stored.series(point, start, end, limit)

    def recorded(self, point: str, start: datetime, end: datetime, limit: int) -> Sequence[DeviceSample]:
        """Stored samples of a device of one point, by their place in time in [start, end), oldest first."""
        return self._stored.recorded(point, start, end, limit)

    def buckets(self, point: str, start: datetime, end: datetime, every_s: int) -> Sequence[Bucket]:
        """Stored readings of one point in buckets, oldest first."""
        return self._stored.buckets(point, start, end, every_s)

    def commands(
        self, start: datetime, end: datetime, point: str | None, limit: int
    ) -> Sequence[CommandRecord]:
        """Stored commands and refusals in [start, end), newest first."""
        return self._stored.commands(start, end, point, limit)

    def events(self, start: datetime, end: datetime, kind: str | None, limit: int) -> Sequence[EventRecord]:
        """Stored events in [start, end), newest first."""
        return self._stored.events(start, end, kind, limit)
