"""What an edge tells through memory while the historian's file takes nothing."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from connectors.historian.live import LiveFile, LiveHistory, LiveRecorder, Newest
from connectors.historian.rows import RowWriter
from connectors.historian.sqlite import SqliteRecorder
from ems.alarms import AlarmBook
from ems.clock import VirtualClock
from ems.records import StatusRow
from ems.telemetry import Quality, Reading, Snapshot
from tests.builders import T0

ROW = StatusRow(process="edge", pid=1, at=T0, fields={"mode": "islanded", "soc": float("nan")})
BOOK = AlarmBook(at=T0, entries=())
SNAPSHOT = Snapshot(
    at=T0,
    monotonic_s=1.0,
    readings={"a.b": Reading(point="a.b", value=2.0, quality=Quality.GOOD, source_time=T0, arrived_s=0.5)},
)
NEWEST = Newest(status=ROW, alarms=BOOK, condition=None, snapshot=SNAPSHOT)


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    (tmp_path / "memory").mkdir()
    return tmp_path / "memory"


def test_what_is_put_is_read_by_whoever_knows_the_folder(tmp_path: Path, memory: Path):
    LiveFile(tmp_path, memory).put(NEWEST)
    told = LiveFile(tmp_path / ".", memory).read()
    assert told is not None
    assert (told.alarms, told.condition, told.snapshot) == (BOOK, None, SNAPSHOT)
    assert told.status.fields == {"mode": "islanded", "soc": "nan"}
    assert LiveFile(memory, memory).read() is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: b"",
        lambda raw: raw[:-2],
        lambda raw: raw.replace(b'"parts"', b'"pieces"'),
        lambda raw: raw.replace(b"a.b", b"\xff"),
        lambda raw: b"[1, 2]",
    ],
)
def test_file_that_is_none_of_ours_tells_nothing(
    tmp_path: Path, memory: Path, spoil: Callable[[bytes], bytes]
):
    file = LiveFile(tmp_path, memory)
    file.put(NEWEST)
    file.path.write_bytes(spoil(file.path.read_bytes()))
    assert file.read() is None
    assert LiveHistory(tmp_path, memory).statuses() == {}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_another_users_file_or_a_link_is_not_believed(tmp_path: Path, memory: Path):
    file = LiveFile(tmp_path, memory)
    file.put(NEWEST)
    os.chown(file.path, 12345, 12345)
    assert file.read() is None
    os.chown(tmp_path, 12345, 12345)
    assert file.read() is not None
    real = file.path.rename(memory / "elsewhere")
    file.path.symlink_to(real)
    assert file.read() is None


def test_newer_of_file_and_memory_is_shown_and_memory_is_cleared_when_there_is_room(
    tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("connectors.historian.sqlite.RETRY_S", 0.02)
    clock = VirtualClock(T0)
    recorder = SqliteRecorder(tmp_path / "history.sqlite", clock=clock)
    file = LiveFile(tmp_path, memory)
    live, reader = LiveRecorder(recorder, file, clock), LiveHistory(tmp_path, memory)
    live.alarms(BOOK)
    live.status(ROW)
    assert recorder.flush()
    assert not file.path.exists()
    real, full = RowWriter.write, [True]

    def write(self, batch):
        if full[0]:
            raise OSError(28, "No space left on device")
        real(self, batch)

    monkeypatch.setattr(RowWriter, "write", write)
    later = T0 + timedelta(seconds=5.0)
    live.readings(SNAPSHOT)
    live.alarms(replace(BOOK, at=later))
    assert not recorder.flush(0.2)
    live.status(replace(ROW, at=later))
    assert reader.statuses()["edge"].at == later
    found = reader.alarms()
    assert found is not None
    assert found.at == later
    assert reader.latest() == SNAPSHOT.readings
    full[0] = False
    assert recorder.flush(8.0)
    file.put(NEWEST)  # as an edge that was killed would leave it
    assert reader.statuses()["edge"].at == later
    live.status(replace(ROW, at=later + timedelta(seconds=1.0)))
    assert not file.path.exists()
    assert recorder.close()


def test_memory_without_room_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(SqliteRecorder, "trouble", "the disk is full")
    clock = VirtualClock(T0)
    recorder = SqliteRecorder(tmp_path / "history.sqlite", clock=clock)
    live = LiveRecorder(recorder, LiveFile(tmp_path, tmp_path / "not there"), clock)
    live.status(ROW)
    assert LiveHistory(tmp_path, tmp_path / "not there").statuses().keys() <= {"edge"}
    recorder.close()
