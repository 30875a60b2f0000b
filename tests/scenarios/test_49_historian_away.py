"""49: the historian is away for 72 h, or slow: what waits is bounded and in order, losses are counted."""

import sqlite3
import threading
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from connectors.historian.backlog import BATCH_MAX, Backlog
from connectors.historian.rows import Event, Kind, RowWriter
from connectors.historian.sqlite import AUDIT_MAX, SLOW_S, SNAPSHOTS_MAX, SqliteHistoryReader, SqliteRecorder
from ems.clock import VirtualClock
from ems.commands import Command
from ems.site import Site
from ems.telemetry import Snapshot
from sim.rig import Rig
from sim.rig_scenario import Power
from tests.builders import T0
from tests.scenarios.recording import recording, until
from tests.unit.connectors.histories import at, command, condition, outcome, refusal, snapshot

pytestmark = pytest.mark.scenario(
    49,
    left="how fast 72 h of seconds are sent is measured in `make soak` and `benchmarks` alone; where the "
    "file on the site itself cannot be written, memory holds a snapshot a minute and a day of commands: "
    "what is more is thinned out and counted",
)
DAY = timedelta(days=1)
AWAY_S = 72 * 3600
LOAD: Mapping[str, Power] = {
    "critical": 60.0,
    "essential": lambda t: 80.0 + 60.0 * (int(t / 7.0) % 2),
    "deferrable": 40.0,
}
BEAT = command(1, point="bess1.heartbeat")


def test_backlog_of_72_h_is_bounded_in_order_and_counts_what_it_lost():
    """A snapshot and a heartbeat every ten seconds, a setpoint every half minute, an event a minute."""
    backlog, given, n = Backlog(SNAPSHOTS_MAX, 14_000), Counter[str](), 0
    kept_back = command(1)

    def add(kind: Kind, payload) -> None:
        nonlocal n
        n += 1
        backlog.add((n, kind, payload))

    for t_s in range(0, AWAY_S, 10):
        add(Kind.SNAPSHOT, Snapshot(at=at(t_s), monotonic_s=t_s, readings={}))
        add(Kind.INTENT, BEAT)
        add(Kind.STATUS, None)
        add(Kind.CONDITION, None)
        given["snapshots"] += 1
        given["heartbeats"] += 1
        if t_s % 30 == 0:
            add(Kind.INTENT, kept_back)
            given["setpoints"] += 1
        if t_s % 60 == 0:
            add(Kind.EVENT, Event(at(t_s), "x", "{}"))
            given["events"] += 1
        if t_s % 7200 == 0:
            assert len(backlog) <= SNAPSHOTS_MAX + 14_000 + 17
            if backlog.take():
                backlog.give_back()  # tried and failed
    found, order = Counter[str](), []
    minutes, whole = set(), set()
    while batch := backlog.take():
        assert len(batch) <= BATCH_MAX + 17
        for number, kind, payload in batch:
            if kind in (Kind.STATUS, Kind.CONDITION):
                continue
            order.append(number)
            if isinstance(payload, Snapshot):
                found["snapshots"] += 1
                minutes.add(payload.monotonic_s // 60)
                whole.add(payload.monotonic_s)
            elif isinstance(payload, Command):
                found["heartbeats" if payload is BEAT else "setpoints"] += 1
            else:
                found["events"] += 1
        backlog.written()
    assert order == sorted(set(order)), "in order, and nothing twice"
    assert minutes == set(range(AWAY_S // 60)), "every minute of 72 h"
    assert whole >= set(range(AWAY_S - 600, AWAY_S, 10)), "the last ten minutes whole"
    assert found["setpoints"] == given["setpoints"]
    assert found["events"] == given["events"]
    lost = backlog.told()
    assert found["snapshots"] + lost["thinned_snapshots"] == given["snapshots"]
    assert found["heartbeats"] + lost["heartbeats"] == given["heartbeats"]
    assert set(lost) == {"thinned_snapshots", "heartbeats"}
    assert len(backlog) == 0
    assert backlog.told() == {}


def test_backlog_over_every_budget_loses_the_oldest_and_says_of_what():
    backlog = Backlog(10, 20)
    for n in range(1, 401):
        backlog.add((4 * n, Kind.SNAPSHOT, Snapshot(at=at(60.0 * n), monotonic_s=0.0, readings={})))
        backlog.add((4 * n + 1, Kind.INTENT, command(n)))
        backlog.add((4 * n + 2, Kind.REFUSAL, refusal(1.0, float(n))))
        assert backlog.snapshots <= 10
        assert backlog.audit <= 20
    lost = backlog.told()
    batch = backlog.take()
    assert batch[-1][0] == 4 * 400 + 2
    assert sum(lost.values()) + len(batch) == 1200
    assert lost["refusals"] > lost["audit_rows"] > 0
    assert lost["dropped_snapshots"] >= 390


def test_budget_of_production_holds_three_days_of_minutes_and_a_day_of_commands():
    assert SNAPSHOTS_MAX >= AWAY_S // 60 + 1000
    assert AUDIT_MAX >= 86400


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("connectors.sqlite_file.BUSY_S", 0.02)
    monkeypatch.setattr("connectors.historian.sqlite.RETRY_S", 0.02)
    return tmp_path / "history.sqlite"


def test_file_that_comes_back_holds_everything_once_in_order_and_what_is_missing_is_an_event(path: Path):
    """Thirty minutes at 1 Hz with a budget of ten."""
    recorder = SqliteRecorder(path, clock=VirtualClock(T0), snapshots_max=600)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    for t_s in range(1800):
        recorder.readings(snapshot(t_s, grid1__p_kw=float(t_s)))
        recorder.intent(command(t_s, float(t_s), t_s))
        recorder.outcome(outcome(command(t_s, float(t_s), t_s)))
        recorder.condition(condition(t_s))
    until(lambda: recorder.trouble)
    queued = recorder.counts()["queued"]
    assert isinstance(queued, int)
    assert queued <= 600 + 3600 + 20
    blocker.execute("ROLLBACK")
    blocker.close()
    assert recorder.flush()
    assert recorder.close()
    assert recorder.trouble is None
    reader = SqliteHistoryReader(path)
    found = reader.commands(T0, T0 + DAY, None, 10_000)
    assert [c.seq for c in found] == list(reversed(range(1800)))
    assert all(c.outcome is not None for c in found)
    samples = reader.series("grid1.p_kw", T0, T0 + DAY, 10_000)
    seconds = [(s.at - T0).total_seconds() for s in samples]
    assert [s.value for s in samples] == seconds
    assert {t // 60 for t in seconds} == set(range(30))
    assert seconds[-60:] == list(range(1740, 1800))
    (told,) = reader.events(T0, T0 + DAY, "historian.queue.recovered", 10)
    assert told.fields == {"thinned_snapshots": 1800 - len(samples)}
    assert reader.condition() == condition(1799)
    reader.close()


def test_slow_file_holds_up_nobody_and_is_told(demo: Site, path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each commit takes as long as the test lets it: the edge runs on, and every command is in the file."""
    may, real = threading.Event(), RowWriter.write

    def slow(self, batch) -> None:
        may.wait(60.0)
        real(self, batch)

    monkeypatch.setattr(RowWriter, "write", slow)
    plain = Rig(demo, load_kw=LOAD, pv_kw=100.0).run(60.0)
    rig, recorder = recording(Rig(demo, load_kw=LOAD, pv_kw=100.0), path.parent)
    rig.run(2.0)
    until(lambda: recorder._attempt_s is not None)  # the thread has begun a commit, by the rig's clock
    rig.run(60.0)
    assert rig.after(2.0, lambda row: row.alarmed("records.unwritten")) <= SLOW_S + 5.0
    sent = [[(c.point, c.value) for c in row.commands] for row in rig.rows()]
    assert sent == [[(c.point, c.value) for c in row.commands] for row in plain.rows()]
    may.set()
    assert recorder.close()
    reader = SqliteHistoryReader(path)
    assert len(reader.commands(T0, T0 + 1000 * DAY, None, 10_000)) >= sum(map(len, sent))
    reader.close()
