"""The historian's file: what goes in comes out, in another process too, and nothing promised is lost."""

import contextlib
import math
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.historian.energy import integrate
from connectors.historian.schema import HISTORY, QUALITY_CODES
from connectors.historian.sqlite import SqliteHistoryReader, SqliteRecorder
from connectors.sqlite_file import StoreError, open_writer
from ems.alarms import AlarmBook, AlarmEntry, AlarmState, Hold, Priority
from ems.clock import VirtualClock, wall_s
from ems.commands import Cause, WriteOutcome
from ems.records import StatusRow
from ems.telemetry import Quality, Reading, Snapshot
from tests.builders import T0
from tests.scenarios.recording import until
from tests.unit.connectors.histories import at, command, condition, outcome, refusal, snapshot

DAY = timedelta(days=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


@pytest.fixture
def recorder(path):
    recorder = SqliteRecorder(path, clock=VirtualClock(T0))
    yield recorder
    recorder.close()


@pytest.fixture
def reader(path):
    reader = SqliteHistoryReader(path)
    yield reader
    reader.close()


def test_reader_no_file_yet_everything_empty(reader):
    assert reader.latest() == {}
    assert reader.condition() is None
    assert reader.series("x", T0, T0 + DAY, 10) == []
    assert reader.commands(T0, T0 + DAY, None, 10) == []
    assert reader.events(T0, T0 + DAY, None, 10) == []
    assert reader.statuses() == {}


def test_series_snapshots_recorded_come_back_in_order_and_paged(recorder, reader):
    for i in range(50):
        recorder.readings(snapshot(i, grid1__p_kw=i * 1.5, bess1__soc=0.5 if i != 7 else None))
    assert recorder.flush()
    samples = reader.series("grid1.p_kw", T0, T0 + DAY, 1000)
    assert [(s.at, s.value) for s in samples] == [(at(i), i * 1.5) for i in range(50)]
    assert [s.value for s in reader.series("grid1.p_kw", at(10), at(20), 3)] == [15.0, 16.5, 18.0]
    soc = reader.series("bess1.soc", at(7), at(9), 10)
    assert [(s.value, s.quality) for s in soc] == [(None, Quality.COMM_FAILED), (0.5, Quality.GOOD)]


def test_latest_several_snapshots_newest_of_each_point_exactly(recorder, reader):
    old = Reading(
        point="grid1.v_pu",
        value=0.97,
        quality=Quality.STALE,
        source_time=at(-4.125),
        arrived_s=2.75,
    )
    recorder.readings(Snapshot(at=at(1), monotonic_s=1.0, readings={"grid1.v_pu": old}))
    recorder.flush()
    recorder.readings(snapshot(2, grid1__p_kw=1.0))
    recorder.readings(snapshot(3, grid1__p_kw=2.0))
    recorder.flush()
    latest = reader.latest()
    assert latest["grid1.v_pu"] == old
    assert (latest["grid1.p_kw"].value, latest["grid1.p_kw"].arrived_s) == (2.0, 3.0)


def test_series_value_not_finite_stored_as_none(recorder, reader):
    recorder.readings(snapshot(0, grid1__p_kw=math.nan))
    recorder.readings(snapshot(1, grid1__p_kw=math.inf))
    recorder.flush()
    assert [s.value for s in reader.series("grid1.p_kw", T0, T0 + DAY, 9)] == [None, None]


def test_commands_intents_outcomes_refusals_newest_first_with_reasons(recorder, reader):
    first, second = command(1, 10.0, 1.0), command(2, 20.0, 2.0, "pv1.p_limit_kw")
    recorder.intent(first)
    recorder.outcome(outcome(first))
    recorder.refusal(refusal(math.nan, 1.5))
    recorder.intent(second)
    recorder.flush()
    found = reader.commands(T0, T0 + DAY, None, 10)
    assert [r.at for r in found] == [at(2.0), at(1.5), at(1.0)]
    in_flight, refused, done = found
    assert (in_flight.outcome, in_flight.value, in_flight.point) == (None, 20.0, "pv1.p_limit_kw")
    assert (done.outcome, done.cause, done.reason) == (WriteOutcome.CONFIRMED, Cause.PLAN, "reason 1")
    assert (done.epoch, done.seq, done.plan_id) == (7, 1, "plan-1")
    assert (done.owner, done.limits_hash, done.refused_code) == ("edge", "abc", None)
    assert math.isnan(refused.value)
    assert (refused.refused_code, refused.cause) == ("not_finite", Cause.OPERATOR)
    assert [r.seq for r in reader.commands(T0, T0 + DAY, "pv1.p_limit_kw", 10)] == [2]
    assert [r.seq for r in reader.commands(T0, T0 + DAY, None, 1)] == [2]
    assert reader.commands(at(2.5), T0 + DAY, None, 10) == []


def test_commands_same_numbers_after_restart_both_kept_with_their_own_outcome(path, reader):
    """An edge that counts from 1 again must not hide what an earlier one did."""
    boots = []
    for t_s, what in ((1.0, WriteOutcome.REJECTED), (2.0, WriteOutcome.UNKNOWN)):
        recorder = SqliteRecorder(path, clock=VirtualClock(T0))
        boots.append(recorder.boot)
        c = command(1, t_s, t_s)
        recorder.intent(c)
        recorder.outcome(outcome(c, what, f"at {t_s}"))
        assert recorder.close()
    found = reader.commands(T0, T0 + DAY, None, 10)
    assert [(r.value, r.outcome, r.detail) for r in found] == [
        (2.0, WriteOutcome.UNKNOWN, "at 2.0"),
        (1.0, WriteOutcome.REJECTED, "at 1.0"),
    ]
    assert boots[1] > boots[0]


def test_events_fields_come_back_and_kind_filters(recorder, reader):
    recorder.event(at(1), "plan.current.dropped", {"why": "mode", "nested": {"a": [1, 2.5, None, True]}})
    recorder.event(at(2), "command.value.bad", {"value": math.nan})
    recorder.flush()
    bad, dropped = reader.events(T0, T0 + DAY, None, 10)
    assert dropped.fields == {"why": "mode", "nested": {"a": [1, 2.5, None, True]}}
    assert bad.fields == {"value": "nan"}
    assert [e.kind for e in reader.events(T0, T0 + DAY, "plan.current.dropped", 10)] == [
        "plan.current.dropped"
    ]


def test_statuses_upserted_one_row_each(recorder, reader):
    for i in range(3):
        recorder.status(StatusRow(process="edge", pid=11, at=at(i), fields={"cycles": i}))
    recorder.flush()
    assert reader.statuses() == {"edge": StatusRow(process="edge", pid=11, at=at(2), fields={"cycles": 2})}


def test_condition_latest_only_exactly(recorder, reader):
    recorder.condition(condition(0.0, 0.4))
    recorder.condition(condition(10.0, 0.6))
    recorder.flush()
    assert reader.condition() == condition(10.0, 0.6)


def test_condition_not_finite_last_sound_one_stays(recorder, reader):
    recorder.condition(condition(0.0, 0.4))
    recorder.condition(condition(1.0, math.nan))
    recorder.flush()
    assert reader.condition() == condition(0.0, 0.4)
    recorder.condition(condition(2.0, math.nan))
    recorder.flush()
    assert recorder.counts()["bad_conditions"] == 2


def hold_the_file(path: Path) -> sqlite3.Connection:
    """Block every writer, as a failing disk would."""
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    return blocker


def test_readings_queue_full_thins_snapshots_never_commands(path, reader, monkeypatch):
    monkeypatch.setattr("connectors.sqlite_file.BUSY_S", 0.05)
    monkeypatch.setattr("connectors.historian.sqlite.RETRY_S", 0.05)
    recorder: Any = SqliteRecorder(path, clock=VirtualClock(T0), snapshots_max=10)
    blocker = hold_the_file(path)
    started_s = wall_s()
    for i in range(100):
        recorder.readings(snapshot(i, grid1__p_kw=float(i)))
        recorder.intent(command(i, float(i), float(i)))
    assert wall_s() - started_s < 2.0
    assert not recorder.flush(0.3)
    until(lambda: recorder.trouble)
    counts = recorder.counts()
    assert counts["thinned_snapshots"] + counts["dropped_snapshots"] >= 90
    assert recorder.counts()["write_errors"] > 0
    blocker.execute("ROLLBACK")
    blocker.close()
    assert recorder.flush()
    assert recorder.trouble is None
    recorder.flush()
    assert len(reader.commands(T0, T0 + DAY, None, 1000)) == 100
    seconds = [s.value for s in reader.series("grid1.p_kw", T0, T0 + DAY, 1000)]
    assert 2 <= len(seconds) <= 10
    assert seconds[-1] == 99.0, "the newest stay"
    kinds = [e.kind for e in reader.events(T0, T0 + DAY, None, 10)]
    assert kinds == ["historian.queue.recovered", "historian.queue.full"]
    recorder.readings(snapshot(200, grid1__p_kw=1.0))
    assert recorder.close()
    assert len(reader.series("grid1.p_kw", T0, T0 + DAY, 1000)) == len(seconds) + 1


def test_close_file_stays_blocked_says_that_rows_are_missing(path, monkeypatch):
    monkeypatch.setattr("connectors.sqlite_file.BUSY_S", 0.05)
    monkeypatch.setattr("connectors.historian.sqlite.RETRY_S", 0.05)
    recorder = SqliteRecorder(path, clock=VirtualClock(T0))
    blocker = hold_the_file(path)
    recorder.intent(command(1))
    assert not recorder.close(0.2)
    blocker.close()


def test_intent_one_entry_unwritable_the_others_are_kept(recorder, reader):
    """A value SQLite cannot store must not hold up the audit behind it for ever."""
    recorder.intent(command(1))
    recorder.intent(command(2, point=object()))  # type: ignore[arg-type]
    recorder.intent(command(3, point="new.point"))
    assert recorder.flush()
    assert [r.seq for r in reader.commands(T0, T0 + DAY, None, 10)] == [3, 1]
    assert recorder.counts()["unwritable"] == 1


def test_recorder_second_writer_refused(recorder, path):
    with pytest.raises(StoreError, match="another process is writing"):
        SqliteRecorder(path)


@pytest.mark.parametrize("pragma", ["user_version=99", "application_id=1"])
def test_open_other_version_or_kind_refused_by_name(path, pragma):
    connection = open_writer(path, HISTORY)
    connection.execute(f"PRAGMA {pragma}")
    connection.close()
    with pytest.raises(StoreError, match=r"history\.sqlite"):
        SqliteRecorder(path)
    with pytest.raises(StoreError, match=r"history\.sqlite"):
        SqliteHistoryReader(path).latest()


def test_open_not_a_database_refused_by_name(path):
    path.write_bytes(b"certainly not a database, but long enough to be looked at" * 20)
    with pytest.raises(StoreError, match=r"history\.sqlite"):
        SqliteHistoryReader(path).latest()
    with pytest.raises(StoreError, match=r"history\.sqlite"):
        SqliteRecorder(path)


def test_quality_names_in_file_agree_with_the_codes(recorder, path):
    rows = sqlite3.connect(path).execute("SELECT name, id FROM quality").fetchall()
    assert dict(rows) == {q.value: code for q, code in QUALITY_CODES.items()}
    assert set(QUALITY_CODES) == set(Quality)


def test_views_shell_reads_names_and_times(recorder, path):
    recorder.readings(snapshot(0.25, grid1__p_kw=5.0))
    c = command(1, 5.0, 1.0)
    recorder.intent(c)
    recorder.outcome(outcome(c))
    recorder.flush()
    db = sqlite3.connect(path)
    assert db.execute("SELECT * FROM readings").fetchall() == [
        ("2026-03-02T00:00:00.250Z", "grid1.p_kw", 5.0, "good")
    ]
    assert db.execute("SELECT point, value, outcome FROM commands").fetchall() == [
        ("bess1.p_set_kw", 5.0, "confirmed")
    ]
    db.close()


WRITER = """
    import sys
    from pathlib import Path
    from connectors.historian.sqlite import SqliteRecorder
    from tests.unit.connectors.histories import command, snapshot
    recorder = SqliteRecorder(Path(sys.argv[1]))
    seq = int(sys.argv[2])
    while True:
        for _ in range(5):
            seq += 1
            recorder.intent(command(seq, 1.0, seq))
            recorder.readings(snapshot(seq, grid1__p_kw=float(seq)))
        assert recorder.flush()
        print(seq, flush=True)
"""


def test_kill_writer_in_midst_of_writes_no_acknowledged_command_lost(path, project_root):
    """A reader works all the while; what the writer called committed is there after SIGKILL."""
    reader = SqliteHistoryReader(path)
    acknowledged = 0
    for lines in (3, 20, 60):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(path), str(acknowledged)],
            stdout=subprocess.PIPE,
            cwd=project_root,
            env=os.environ | {"PYTHONPATH": str(project_root)},
            text=True,
        )
        assert writer.stdout is not None
        for _ in range(lines):
            acknowledged = int(writer.stdout.readline())
            assert reader.commands(T0, T0 + DAY, None, 1)[0].seq >= acknowledged
        writer.send_signal(signal.SIGKILL)
        rest = writer.communicate()[0].split()
        acknowledged = int(rest[-1]) if rest else acknowledged
        found = {r.seq for r in reader.commands(T0, T0 + DAY, None, 10**6)}
        assert set(range(1, acknowledged + 1)) <= found
        acknowledged = max(found)
    reader.close()


def test_integrate_sine_over_an_hour_agrees_with_the_integral(recorder, reader):
    for i in range(0, 3601, 10):
        recorder.readings(snapshot(i, grid1__p_kw=100.0 * math.sin(2 * math.pi * i / 3600.0)))
    recorder.flush()
    energy = integrate(reader, "grid1.p_kw", T0, at(3601))
    assert energy.positive_kwh == pytest.approx(100.0 / math.pi, rel=1e-4)
    assert energy.negative_kwh == pytest.approx(100.0 / math.pi, rel=1e-4)
    assert energy.net_kwh == pytest.approx(0.0, abs=1e-9)
    assert (energy.covered_s, energy.missing_s) == (3600.0, 1.0)


def test_integrate_gap_and_bad_sample_not_bridged(recorder, reader, monkeypatch):
    monkeypatch.setattr("connectors.historian.energy.PAGE", 3)
    for t_s, value in ((0, 36.0), (10, 36.0), (20, None), (30, 36.0), (40, 36.0), (400, 36.0), (410, 36.0)):
        recorder.readings(snapshot(t_s, grid1__p_kw=value))
    recorder.flush()
    energy = integrate(reader, "grid1.p_kw", T0, at(410.5))
    assert energy.positive_kwh == pytest.approx(36.0 * 30.0 / 3600.0)
    assert energy.covered_s == 30.0


def test_integrate_line_crossing_zero_split_by_sign(recorder, reader):
    recorder.readings(snapshot(0, grid1__p_kw=30.0))
    recorder.readings(snapshot(40, grid1__p_kw=-10.0))
    recorder.flush()
    energy = integrate(reader, "grid1.p_kw", T0, at(41))
    assert energy.positive_kwh == pytest.approx(0.5 * 30.0 * 30.0 / 3600.0)
    assert energy.negative_kwh == pytest.approx(0.5 * 10.0 * 10.0 / 3600.0)


def book(t_s: float, *keys: str) -> AlarmBook:
    entries = tuple(
        AlarmEntry(
            key=k, code=k, asset=None, state=AlarmState.ACKNOWLEDGED, priority=Priority.LOW, text="x",
            raised_at=at(0.0), shelf=Hold(who="ada", why="y", until=at(60.0)), value=1.5,
        )
        for k in keys
    )  # fmt: skip
    return AlarmBook(at=at(t_s), entries=entries)


def test_alarms_latest_only_exactly(recorder, reader):
    assert reader.alarms() is None
    recorder.alarms(book(1.0, "a", "b"))
    recorder.alarms(book(2.0, "b"))
    recorder.flush()
    assert reader.alarms() == book(2.0, "b")


def test_events_kind_with_a_dot_at_its_end_picks_a_family(recorder, reader):
    for kind in ("alarm.raised", "alarm.cleared", "alarms.x", "grid.x"):
        recorder.event(at(1.0), kind, {})
    recorder.flush()
    found = [e.kind for e in reader.events(at(0.0), at(2.0), "alarm.", 10)]
    assert found == ["alarm.cleared", "alarm.raised"]


def test_open_file_of_the_version_before_is_read_and_then_extended(path, recorder):
    """A plant that is upgraded keeps its history; readers may start before the edge has."""
    recorder.event(at(1.0), "grid.x", {})
    recorder.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        triggers = [n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        db.executescript("".join(f"DROP TRIGGER {n};" for n in triggers))
        db.executescript("DROP VIEW samples; DROP TABLE sample; DROP TABLE recorded; DROP TABLE mark;")
        db.executescript("DROP TABLE spool; DROP TABLE store; DROP TABLE alarms; PRAGMA user_version=1;")
    reader = SqliteHistoryReader(path)
    assert reader.alarms() is None
    assert len(reader.events(at(0.0), at(2.0), None, 10)) == 1
    with contextlib.closing(SqliteRecorder(path)) as again:
        again.alarms(book(3.0, "a"))
        again.flush()
        assert reader.alarms() == book(3.0, "a")
        assert len(reader.events(at(0.0), at(2.0), None, 10)) == 1
