"""A plant for servers: a historian with what an edge tells, a desk, a board and a door."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from connectors.historian.live import LiveHistory
from connectors.historian.sqlite import SqliteRecorder
from connectors.northbound.client import Client
from connectors.northbound.door import DeskDoor
from connectors.northbound.image import Board
from connectors.northbound.records import FILE, Records
from connectors.stores.request_desk import RequestDesk
from ems.clock import Clock, VirtualClock
from ems.northbound import WriteRights
from ems.records import StatusRow
from ems.telemetry import Quality, Reading, Snapshot
from tests.builders import T0

RIGHTS = WriteRights(limits=("dso",), roles=("GridOperator",), subjects=("ppc",), plain_from=("10.0.0.5",))
PPC = Client(server="ppc", address="10.0.0.9", name="CN=ppc,O=Utility", common_name="ppc", protected=True)


class Plant:
    """One edge as its records tell it; time moves when told to."""

    serving: Any  # the server over it, where there is one

    def __init__(self, directory: Path, clock: Clock | None = None, **options: Any) -> None:
        self.directory, self.clock = directory, VirtualClock(T0) if clock is None else clock
        self.recorder = SqliteRecorder(directory / "history.sqlite")
        self.reader = LiveHistory(directory)
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.desk = RequestDesk(
            directory, clock=self.clock, told=lambda kind, fields: self.told.append((kind, dict(fields)))
        )
        self.records = Records(directory / FILE, now=self.clock.now)
        self.board = Board(self.reader, now=self.clock.now, monotonic_s=self.clock.monotonic_s)
        self.door = DeskDoor(
            directory, self.board, self.records, monotonic_s=self.clock.monotonic_s, **options
        )

    def cycle(self, *, fields: dict[str, Any] | None = None, **values: float | None) -> None:
        """The edge records one cycle, and the board looks."""
        if isinstance(self.clock, VirtualClock):
            self.clock.advance(1.0)
        now, now_s = self.clock.now(), self.clock.monotonic_s()
        readings = {
            (name := key.replace("__", ".")): Reading(
                point=name,
                value=value,
                quality=Quality.COMM_FAILED if value is None else Quality.GOOD,
                source_time=now,
                arrived_s=now_s,
            )
            for key, value in values.items()
        }
        self.recorder.readings(Snapshot(at=now, monotonic_s=now_s, readings=readings))
        told = {"epoch": 7, "cycle_s": 1.0, "mode": "islanded", **(fields or {})}
        self.recorder.status(StatusRow(process="edge", pid=1, at=now, fields=told))
        self.recorder.flush()
        self.board.look()

    def event(self, kind: str, **fields: Any) -> None:
        self.recorder.event(self.clock.now(), kind, fields)
        self.recorder.flush()

    def answers(self) -> list[Any]:
        now = self.clock.now()
        hour = timedelta(hours=1)
        return list(self.reader.events(now - hour, now + hour, "authority.request.", 100))

    def close(self) -> None:
        self.recorder.close()
        self.records.close()
