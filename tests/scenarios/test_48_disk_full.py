"""48: the disk is full, read-only, or fails: control goes on, it is told, nothing that waits is lost."""

import asyncio
import errno
import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from cli.logs import Lines
from connectors.historian.rows import RowWriter
from connectors.historian.sqlite import SqliteHistoryReader
from connectors.sqlite_file import StoreError
from connectors.stores.kept_file import keep, kept
from ems.control import ControlMode, Role
from ems.plan import PlanLabel
from ems.requests import SwitchMode
from ems.site import Site
from sim.rig import Rig
from sim.rig_scenario import MONDAY, Power
from tests.scenarios.recording import fill, recording, small_disk, until
from tests.scenarios.test_41_forecast_missing import (
    AT,
    EndOfTestError,
    LimitedClock,
    planner_loop,
    record,
)

pytestmark = pytest.mark.scenario(
    48,
    left="an edge that is started anew on a full disk does not come up; the page, which reads the files, "
    "does not show the alarm while they cannot be written",
)
LOAD: Mapping[str, Power] = {
    "critical": 60.0,
    "essential": lambda t: 80.0 + 60.0 * (int(t / 7.0) % 2),
    "deferrable": 40.0,
}
FULL_S, FREE_S, END_S = 30.0, 60.0, 90.0


def with_ann(site: Site) -> Site:
    """One operator, known by name."""
    return replace(site, control=replace(site.control, users={"ann": frozenset({Role.OPERATOR})}))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as mounted:
        if mounted is None:
            pytest.skip("no small file system may be mounted here; the injected faults are run")
        yield mounted


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wall time between attempts."""
    monkeypatch.setattr("connectors.historian.sqlite.RETRY_S", 0.05)


def commands(rig: Rig) -> list[tuple[float, str, float]]:
    return [(row.t_s, c.point, c.value) for row in rig.rows() for c in row.commands]


def in_file(directory: Path) -> list[tuple[int, str, float]]:
    reader = SqliteHistoryReader(directory / "history.sqlite")
    found = reader.commands(MONDAY, MONDAY.replace(hour=12), None, 10_000)
    reader.close()
    return [(c.seq, c.point, c.value) for c in reversed(found) if c.refused_code is None]


def test_disk_full_is_alarmed_and_control_goes_on(demo: Site, disk: Path):
    """Told within 10 s; every command is as without the fault, and in the file once there is room."""
    plain = Rig(demo, load_kw=LOAD, pv_kw=100.0).run(END_S)
    rig, recorder = recording(Rig(demo, load_kw=LOAD, pv_kw=100.0), disk)
    rig.run(FULL_S)
    assert recorder.flush()
    ballast = fill(disk)
    rig.run(FULL_S + 1.0)
    until(lambda: recorder.trouble)
    rig.run(FREE_S)
    assert rig.after(FULL_S, lambda row: row.alarmed("records.unwritten")) <= 10.0
    assert "disk is full" in str(recorder.trouble)
    ballast.unlink()
    assert recorder.flush(8.0)
    assert recorder.trouble is None
    rig.run(END_S)
    assert not rig.last.alarmed("records.unwritten")
    assert commands(rig) == commands(plain)
    assert recorder.close()
    assert in_file(disk) == [(c.seq, c.point, c.value) for row in rig.rows() for c in row.commands]


def test_disk_full_orders_hold_at_once_and_are_told_until_they_are_kept(demo: Site, disk: Path):
    """What a person orders holds; that a restart would not find it is an alarm, until there is room."""
    rig, recorder = recording(Rig(with_ann(demo), load_kw=LOAD, pv_kw=100.0), disk)
    rig.run(20.0)
    before = kept(disk / "standing.json")
    assert before is not None
    ballast = fill(disk)
    rig.ask("ann", SwitchMode(device="bess1", mode=ControlMode.MANUAL))
    rig.run(25.0)
    assert rig.last.decisions.control["bess1"] is ControlMode.MANUAL
    assert kept(disk / "standing.json") == before
    assert rig.after(20.0, lambda row: row.alarmed("records.unwritten")) <= 10.0
    ballast.unlink()
    rig.run(30.0)
    after = kept(disk / "standing.json")
    assert after is not None
    assert after != before
    assert recorder.close()


def failing(real, number: int, nth: int):
    """An os function that fails at its nth call."""
    calls = [0]

    def call(*args, **kwargs):
        calls[0] += 1
        if calls[0] == nth:
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    return call


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize(
    ("name", "nth"), [("open", 1), ("open", 2), ("fsync", 1), ("fsync", 2), ("replace", 1)]
)
def test_small_file_is_the_old_or_the_new_one_whatever_call_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, name: str, nth: int
):
    """Standing orders, what was commissioned, the past: an error is raised, a whole file is left."""
    file = tmp_path / "standing.json"
    keep(file, {"version": "old"})
    with monkeypatch.context() as patch:
        if name == "replace":
            patch.setattr(Path, "replace", failing(Path.replace, number, nth))
        else:
            patch.setattr(os, name, failing(getattr(os, name), number, nth))
        with pytest.raises(OSError, match=os.strerror(number)):
            keep(file, {"version": "new"})
    renamed = (name, nth) in (("open", 2), ("fsync", 2))  # of the folder, once the new one is in its place
    assert kept(file) == {"version": "new" if renamed else "old"}
    keep(file, {"version": "newer"})
    assert kept(file) == {"version": "newer"}


@pytest.mark.parametrize(
    "text", ["disk I/O error", "database or disk is full", "attempt to write a readonly database"]
)
def test_failed_commit_is_never_trusted_the_file_is_opened_anew(
    demo: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
):
    """After a failed sync nothing in memory is believed: another connection recovers from the file."""
    rig, recorder = recording(Rig(demo, load_kw=LOAD, pv_kw=100.0), tmp_path)
    rig.run(5.0)
    assert recorder.flush()
    first, bad, real = recorder._db, [True], RowWriter.write

    def write(self, batch):
        real(self, batch)
        if bad[0]:
            raise sqlite3.OperationalError(text)

    monkeypatch.setattr(RowWriter, "write", write)
    rig.run(6.0)
    until(lambda: recorder.trouble)
    assert text in str(recorder.trouble)
    rig.run(40.0)
    assert rig.after(6.0, lambda row: row.alarmed("records.unwritten")) <= 10.0
    bad[0] = False
    assert recorder.close()
    assert recorder._db is not first
    assert in_file(tmp_path) == [(c.seq, c.point, c.value) for row in rig.rows() for c in row.commands]


def test_log_line_on_a_full_disk_costs_the_line_and_nothing_else(tmp_path: Path):
    """A print that fails raised in whoever logged: in the recorder's thread, which then wrote no more."""
    full = os.open("/dev/full", os.O_WRONLY)
    lines = Lines(full)
    for _ in range(3):
        lines.error("a line")
    assert lines.unwritten == 3
    os.dup2(os.open(tmp_path / "edge.log", os.O_WRONLY | os.O_CREAT), full)
    lines.error("there is room again")
    os.close(full)
    assert (tmp_path / "edge.log").read_text() == "3 log lines could not be written\nthere is room again\n"


def test_planner_on_a_full_disk_goes_on_and_publishes_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It ended with each plan that it could not store, and was started anew to make another one."""
    record(tmp_path / "history.sqlite", [(1.0, 0.0)])
    clock = LimitedClock(AT, 600.0)
    loop = planner_loop(tmp_path, clock)
    publish, status = loop.store.publish, loop.store.status

    def full() -> bool:
        if clock.monotonic_s() < 300.0:
            raise StoreError("plans.sqlite: database or disk is full")
        return True

    monkeypatch.setattr(loop.store, "publish", lambda plan: full() and publish(plan))
    monkeypatch.setattr(loop.store, "status", lambda row: full() and status(row))
    with pytest.raises(EndOfTestError):
        asyncio.run(loop.run())
    plan = loop.store.current()
    assert plan is not None
    assert plan.label in (PlanLabel.OPTIMAL, PlanLabel.INCUMBENT)
    assert loop.made <= 10, "a plan a minute at most, not one each look"
    loop.store.close()
