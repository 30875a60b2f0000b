"""A rig whose edge records into the production historian as well, and keeps its orders on a real disk."""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from cli.edge_records import unwritten
from connectors.historian.sqlite import SqliteRecorder
from connectors.stores.standing import StandingStore
from ems.alarms import AlarmBook
from ems.commands import Command, Refusal, WriteResult
from ems.condition import PlantCondition
from ems.records import JsonValue
from ems.telemetry import Snapshot
from sim.rig import Rig
from sim.rig_io import Journal


class Both(Journal):
    """The rig's journal, which hands everything on to the recorder."""

    recorder: SqliteRecorder

    def readings(self, snapshot: Snapshot) -> None:
        super().readings(snapshot)
        self.recorder.readings(snapshot)

    def intent(self, command: Command) -> None:
        super().intent(command)
        self.recorder.intent(command)

    def outcome(self, result: WriteResult) -> None:
        super().outcome(result)
        self.recorder.outcome(result)

    def refusal(self, refusal: Refusal) -> None:
        super().refusal(refusal)
        self.recorder.refusal(refusal)

    def event(self, at: datetime, kind: str, fields: Mapping[str, JsonValue]) -> None:
        super().event(at, kind, fields)
        self.recorder.event(at, kind, fields)

    def condition(self, condition: PlantCondition) -> None:
        super().condition(condition)
        self.recorder.condition(condition)

    def alarms(self, book: AlarmBook) -> None:
        super().alarms(book)
        self.recorder.alarms(book)


def recording(rig: Rig, directory: Path) -> tuple[Rig, SqliteRecorder]:
    """The rig with a historian and standing orders in a folder, as the edge process composes them."""
    recorder = SqliteRecorder(directory / "history.sqlite", clock=rig.clock)
    store = StandingStore(directory, clock=rig.clock, epoch_of_clock="rig", told=lambda kind, fields: None)
    rig.journal.__class__ = Both
    rig.journal.recorder = recorder  # type: ignore[attr-defined]
    rig.runtime._beside = lambda: unwritten(recorder.trouble, standing_kept=not store.unwritten)
    rig.runtime._keep = store.keep
    return rig, recorder


def until(holds: Callable[[], object], most_s: float = 8.0) -> None:
    """Wait in wall time for what the recorder's thread does."""
    give_up = time.monotonic() + most_s
    while not holds():
        assert time.monotonic() < give_up, "it has not come true"
        time.sleep(0.01)


@contextmanager
def small_disk(folder: Path, size: str = "6m") -> Iterator[Path | None]:
    """A file system of its own, of so many bytes; None where we may not mount one."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    if not done:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def fill(disk: Path) -> Path:
    """Take every free byte; the file that holds them."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as out:
        for size in (4096, 1):
            try:
                while True:
                    out.write(b"\0" * size)
            except OSError:
                continue
    return ballast
