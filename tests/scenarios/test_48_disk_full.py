"""48: the disk is full, read-only, or fails: control goes on, it is told, nothing that waits is lost."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli.edge_records import before
from cli.free_ports import free_ports
from cli.logs import Lines
from cli.process_config import ProcessConfig, read_config, write_config
from cli.small_files import with_room
from cli.supervisor import ChildSpec, Supervisor
from cli.writing_permit import kept_copy
from connectors.historian.rows import RowWriter
from connectors.historian.sqlite import SqliteHistoryReader, SqliteRecorder, next_boot
from connectors.sqlite_file import EPOCH, DiskError, StoreError, to_ms
from connectors.stores.kept_file import keep, kept
from ems.control import ControlMode, Role
from ems.plan import PlanLabel
from ems.requests import SwitchMode
from ems.site import Site
from ems.site_schema import load_site
from sim.rig import Rig
from sim.rig_scenario import MONDAY, Power
from tests.scenarios.conftest import DEMO
from tests.scenarios.recording import fill, recording, small_disk, until
from tests.scenarios.test_41_forecast_missing import (
    AT,
    EndOfTestError,
    LimitedClock,
    planner_loop,
    record,
)

pytestmark = pytest.mark.scenario(48)
LOAD: Mapping[str, Power] = {
    "critical": 60.0,
    "essential": lambda t: 80.0 + 60.0 * (int(t / 7.0) % 2),
    "deferrable": 40.0,
}
ROOT = Path(__file__).resolve().parents[2]
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


def run_beside(rig: Rig, recorder: SqliteRecorder, until_s: float) -> None:
    """The disk's time is real and the plant's is not: each second waits for its records."""
    while rig.t_s < until_s:
        rig.run(min(until_s, rig.t_s + 1.0))
        assert recorder.flush(8.0)


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
    run_beside(rig, recorder, END_S)
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


def open_once(directory: Path, crash: bool) -> int:
    """A recorder of an earlier run, closed or killed; the number of its opening."""
    code = (
        "import os, sys; from pathlib import Path; from connectors.historian.sqlite import SqliteRecorder\n"
        "from ems.clock import SystemClock\n"
        "clock = SystemClock(); r = SqliteRecorder(Path(sys.argv[1]), clock=clock)\n"
        "for i in range(50): r.event(clock.now(), 'edge.before.done', {'i': i})\n"
        "assert r.flush(); print(r.boot, flush=True)\n"
        f"{'os._exit(0)' if crash else 'r.close()'}"
    )
    file = str(directory / "history.sqlite")
    done = subprocess.run([sys.executable, "-c", code, file], cwd=ROOT, capture_output=True, check=True)
    return int(done.stdout)


@pytest.mark.parametrize("earlier", ["never", "closed", "killed"])
def test_edge_started_on_a_full_disk_controls_is_told_and_records_when_there_is_room(
    demo: Site, disk: Path, earlier: str
):
    """Every command is as without the fault; nothing is lost, and no number of a start comes twice."""
    plain = Rig(demo, load_kw=LOAD, pv_kw=100.0).run(END_S)
    ran = 0 if earlier == "never" else open_once(disk, crash=earlier == "killed")
    ballast = fill(disk)
    rig, recorder = recording(Rig(demo, load_kw=LOAD, pv_kw=100.0), disk)
    assert recorder.boot == ran + 1
    rig.run(10.0)
    assert rig.after(0.0, lambda row: row.alarmed("records.unwritten")) <= 10.0
    rig.run(FREE_S)
    assert rig.last.alarmed("records.unwritten")
    ballast.unlink()
    assert recorder.flush(8.0)
    run_beside(rig, recorder, END_S)
    assert not rig.last.alarmed("records.unwritten")
    assert commands(rig) == commands(plain)
    assert recorder.close()
    sent = [(c.seq, c.point, c.value) for row in rig.rows() for c in row.commands]
    assert in_file(disk) == sent
    assert open_once(disk, crash=False) == ran + 2


def test_past_of_an_edge_that_closed_is_read_on_a_full_disk(disk: Path):
    """SQLite makes a file beside the one it reads; there is no room for it."""
    open_once(disk, crash=False)
    fill(disk)
    reader = SqliteHistoryReader(disk / "history.sqlite")
    past = before(reader)
    assert past.readable
    assert len(reader.events(EPOCH, datetime.max.replace(tzinfo=UTC), "edge.before.done", 100)) == 50


def test_past_that_cannot_be_read_is_no_reason_not_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Then a file of orders that is gone was taken away, and no register of flash is worn out."""
    open_once(tmp_path, crash=False)

    def fails(*args: object, **kwargs: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("connectors.sqlite_file._check", fails)
        past = before(SqliteHistoryReader(tmp_path / "history.sqlite"))
        assert (past.readable, past.condition, past.alarms) == (False, None, None)
        assert past.writes("bess1.p_set_kw", MONDAY, MONDAY, 500) == 500
        now_ms = to_ms(MONDAY)
        assert next_boot(tmp_path / "history.sqlite", now_ms) == now_ms // 1000
    assert next_boot(tmp_path / "history.sqlite", now_ms) == 2


def test_file_of_another_kind_is_no_full_disk(tmp_path: Path):
    with contextlib.closing(sqlite3.connect(tmp_path / "history.sqlite")) as other:
        other.executescript("PRAGMA application_id=7; CREATE TABLE a (b)")
    with pytest.raises(StoreError, match="application id 0x7") as refused:
        SqliteRecorder(tmp_path / "history.sqlite")
    assert not isinstance(refused.value, DiskError)
    with pytest.raises(StoreError, match="application id 0x7"):
        before(SqliteHistoryReader(tmp_path / "history.sqlite"))


def told_by_page(port: int) -> bool:
    """What the page asks its service for: the alarm with its text, and the plant as it is now."""

    def ask(path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5.0) as answer:
            return json.load(answer)

    try:
        alarms = ask("/api/v1/alarms")["alarms"]
    except OSError:  # the service is not up yet
        return False
    if not any(a["code"] == "records.unwritten" and "disk is full" in a["text"] for a in alarms):
        return False
    ready = ask("/ready")
    assert ready["reasons"] == []
    assert ask("/api/v1/snapshot")["readings"]
    return True


@pytest.mark.timeout(400)
def test_run_on_a_full_disk_comes_up_and_tells(disk: Path, tmp_path: Path):
    """The whole command. Each completed cycle is a datagram, as for a service manager.

    The page shows the alarm while nothing can be written.
    """
    folder = disk / "data"
    folder.mkdir()
    ballast = fill(disk)
    (port,) = free_ports(1)
    beats = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    beats.bind(str(tmp_path / "notify"))
    beats.settimeout(240.0)  # a crowded machine
    command = [sys.executable, "-m", "cli.main", "run", "demo", "--dir", str(folder), "--api-port", str(port)]
    env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
    run = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        cycles = [beats.recv(4096) for _ in range(11)]
        assert all(b"WATCHDOG=1" in cycle for cycle in cycles)
        until(lambda: told_by_page(port), 60.0)
        freed_at = datetime.now(UTC)
        ballast.unlink()
        reader = SqliteHistoryReader(folder / "history.sqlite")
        until(lambda: "edge" in reader.statuses(), 30.0)
        told = reader.events(EPOCH, datetime.max.replace(tzinfo=UTC), "alarm.raised", 100)
        kept_at = [e.at for e in told if e.fields["code"] == "records.unwritten"]
        assert len(kept_at) == 1
        assert kept_at[0] < freed_at
        edges = reader.events(EPOCH, datetime.max.replace(tzinfo=UTC), "edge.source.changed", 100)
        assert edges[-1].at < freed_at
    finally:
        run.send_signal(signal.SIGINT)
        out, _ = run.communicate(timeout=60.0)
        beats.close()
    assert run.returncode == 0, out.decode()


def test_second_writer_is_refused_where_the_disk_is_read_only(disk: Path, tmp_path: Path):
    first = SqliteRecorder(disk / "history.sqlite")
    same = tmp_path / "same disk"
    same.mkdir()
    for mount in (["--bind", str(disk), str(same)], ["-o", "remount,bind,ro", str(same)]):
        subprocess.run(["mount", *mount], check=True)
    try:
        with pytest.raises(OSError, match="Read-only"):
            (same / "new").touch()
        with pytest.raises(StoreError, match="another process is writing"):
            SqliteRecorder(same / "history.sqlite")
    finally:
        subprocess.run(["umount", "-l", str(same)], check=True)
        first.close()


def test_run_on_a_full_disk_keeps_what_its_processes_are_told_in_memory(disk: Path, tmp_path: Path):
    fill(disk)
    config = ProcessConfig(site=DEMO, directory=disk)
    told = with_room(disk, lambda folder: write_config(config, folder / "process.json"), tmp_path)
    copied = with_room(disk, lambda folder: kept_copy(DEMO, folder), tmp_path)
    assert disk not in told.parents
    assert read_config(told) == config
    assert load_site(copied) == load_site(DEMO)
    assert (told.parent.stat().st_mode & 0o777, copied.is_relative_to(tmp_path)) == (0o700, True)


@pytest.mark.parametrize(("number", "held"), [(errno.EROFS, True), (errno.EIO, True), (errno.EACCES, False)])
def test_run_on_a_failing_disk_a_missing_right_stays_an_error(tmp_path: Path, number: int, held: bool):
    def write(folder: Path) -> Path:
        if folder == tmp_path:
            raise OSError(number, os.strerror(number))
        return folder

    if held:
        assert with_room(tmp_path, write, tmp_path).parent == tmp_path
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            with_room(tmp_path, write, tmp_path)


def test_process_whose_log_cannot_be_opened_runs(tmp_path: Path):
    """Its lines go where the supervisor's go."""
    supervisor = Supervisor()
    log = tmp_path / "no such folder" / "edge.log"
    supervisor.start(ChildSpec(name="edge", module="timeit", config=Path("1"), log=log))
    assert supervisor.children["edge"].process.wait(30.0) == 0


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
