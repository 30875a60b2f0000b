"""The plan store: atomic, exact, cheap to ask, and never the death of its reader."""

import contextlib
import dataclasses
import math
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from datetime import timedelta

import pytest

from connectors.json_codec import dumps, loads
from connectors.sqlite_file import StoreError
from connectors.stores.plans import PlanReader, SqlitePlanStore
from ems.clock import VirtualClock
from ems.errors import BadValue
from ems.explanation import Alternative, Explanation, Reason, ReasonCode, SetpointWhy, Use
from ems.plan import Plan
from ems.records import StatusRow
from tests.builders import T0
from tests.unit.connectors.histories import at, plan

DAY = timedelta(days=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "plans.sqlite"


@pytest.fixture
def store(path):
    store = SqlitePlanStore(path)
    yield store
    store.close()


@pytest.fixture
def events():
    return []


@pytest.fixture
def reader(path, events):
    reader = PlanReader(path, on_event=lambda *event: events.append(event), clock=VirtualClock(T0))
    yield reader
    reader.close()


def spoil(path, sql: str, *parameters: object) -> None:
    db = sqlite3.connect(path)
    db.execute(sql, parameters)
    db.commit()
    db.close()


def test_current_no_file_none_and_nobody_alive(reader):
    assert reader.current() is None
    assert not reader.producer_alive()
    assert reader.summaries(T0, T0 + DAY, 10) == []
    assert reader.get("plan-1") is None


def test_current_published_plan_comes_back_equal(store, reader):
    store.publish(plan(1))
    assert reader.current() == plan(1)
    assert store.current() == plan(1)


def test_current_unchanged_same_object_and_new_one_seen(store, reader):
    store.publish(plan(1))
    first = reader.current()
    assert reader.current() is first
    store.publish(plan(2, 900.0))
    assert reader.current() == plan(2, 900.0)


def test_publish_same_id_twice_refused_first_stays(store, reader):
    store.publish(plan(1))
    with pytest.raises(StoreError):
        store.publish(plan(1, 5.0))
    assert reader.current() == plan(1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_publish_not_finite_refused_by_name(store, reader, bad):
    with pytest.raises(BadValue, match="peak_import_kw"):
        store.publish(dataclasses.replace(plan(1), peak_import_kw=bad))
    series = (1.0,) * 71 + (bad,)
    with pytest.raises(BadValue, match=r"bess_p_kw\.bess1\[71\]"):
        store.publish(dataclasses.replace(plan(1), bess_p_kw={"bess1": series}))
    assert reader.current() is None


CORRUPTIONS = {
    "truncated": lambda body: body[:-20],
    "empty": lambda body: "",
    "nan": lambda body: body.replace('"peak_import_kw":200.0', '"peak_import_kw":NaN'),
    "infinite": lambda body: body.replace('"peak_import_kw":200.0', '"peak_import_kw":1e999'),
    "text for number": lambda body: body.replace('"peak_import_kw":200.0', '"peak_import_kw":"200"'),
    "bool for number": lambda body: body.replace('"peak_import_kw":200.0', '"peak_import_kw":true'),
    "missing": lambda body: body.replace('"peak_import_kw":200.0,', ""),
    "null": lambda body: body.replace('"peak_import_kw":200.0', '"peak_import_kw":null'),
    "no zone": lambda body: body.replace('"2026-03-02T02:00:00Z"', '"2026-03-02T02:00:00"'),
    "unknown mode": lambda body: body.replace('"grid_tied"', '"tied"', 1),
    "other type": lambda body: "[1, 2, 3]",
}  # fmt: skip


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_current_corrupt_plan_none_and_one_event(store, reader, events, path, name):
    body = dumps(plan(1))
    spoilt: str = CORRUPTIONS[name](body)  # type: ignore[no-untyped-call]
    assert spoilt != body
    store.publish(plan(1))
    spoil(path, "UPDATE plan SET body = ?", spoilt)
    assert [reader.current() for _ in range(3)] == [None, None, None]
    assert [(when, kind) for when, kind, _ in events] == [(T0, "plan.current.corrupt")]
    assert reader.get("plan-1") is None
    store.publish(plan(2))
    assert reader.current() == plan(2)


def test_current_file_unreadable_keeps_the_plan_in_hand_and_tells_once(store, reader, events, path):
    store.publish(plan(1))
    assert reader.current() == plan(1)
    spoil(path, "ALTER TABLE plan RENAME TO gone")
    assert reader.current() == plan(1)
    assert reader.current() == plan(1)
    assert [kind for _, kind, _ in events] == ["plan.store.unreadable"]


def test_summaries_newest_first_in_range(store, reader):
    for seq in range(1, 6):
        store.publish(plan(seq, 900.0 * seq))
    found = reader.summaries(at(900), at(4500), 3)
    assert [s.seq for s in found] == [4, 3, 2]
    assert found[0].issued_at == at(3600)
    assert (found[0].label.value, found[0].objective, found[0].gap_ratio) == ("optimal", 12.5, 0.01)
    assert reader.get("plan-3") == plan(3, 2700.0)


def test_last_seq_restarted_planner_goes_on(path):
    store = SqlitePlanStore(path)
    assert store.last_seq() == 0
    store.publish(plan(41))
    store.close()
    again = SqlitePlanStore(path)
    assert again.last_seq() == 41
    assert again.current() == plan(41)
    again.close()


def test_status_upserted(store, reader):
    store.status(StatusRow(process="planner", pid=5, at=at(1), fields={"solves": 1}))
    store.status(StatusRow(process="planner", pid=6, at=at(2), fields={"solves": 2}))
    assert reader.statuses() == {
        "planner": StatusRow(process="planner", pid=6, at=at(2), fields={"solves": 2})
    }


def test_store_second_writer_refused_until_the_first_closes(store, path, monkeypatch):
    monkeypatch.setattr("connectors.sqlite_file.BUSY_S", 0.05)
    with pytest.raises(StoreError, match="another process"):
        SqlitePlanStore(path)
    store.close()
    SqlitePlanStore(path).close()


def test_publish_after_close_refused(store):
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.publish(plan(1))


PLANNER = """
    import sys
    from pathlib import Path
    from connectors.stores.plans import SqlitePlanStore
    from tests.unit.connectors.histories import plan
    store = SqlitePlanStore(Path(sys.argv[1]))
    seq = store.last_seq()
    while True:
        seq += 1
        store.publish(plan(seq))
        print(seq, flush=True)
"""


def test_producer_alive_planner_killed_noticed_at_once_and_plans_kept(path, reader, project_root):
    published = 0
    for _ in range(2):
        planner = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PLANNER), str(path)],
            stdout=subprocess.PIPE,
            cwd=project_root,
            env=os.environ | {"PYTHONPATH": str(project_root)},
            text=True,
        )
        assert planner.stdout is not None
        for _ in range(10):
            published = int(planner.stdout.readline())
            assert reader.producer_alive()
            current = reader.current()
            assert current is not None
            assert current.seq >= published
        planner.send_signal(signal.SIGKILL)
        rest = planner.communicate()[0].split()
        assert not reader.producer_alive()
        current = reader.current()
        assert current is not None
        assert current.seq >= (int(rest[-1]) if rest else published)


def test_loads_round_trip_is_exact():
    assert loads(Plan, dumps(plan(3, 77.0, load_kw=1 / 3))) == plan(3, 77.0, load_kw=1 / 3)


def why(plan_id: str, took_s: float = 0.5) -> Explanation:
    alternative = Alternative(p_kw=12.5, more_cost=None)
    reason = Reason(code=ReasonCode.PRICE, key="tariff", change="without it", saving_cost=1.25)
    setpoint = SetpointWhy(
        asset="bess1", quantity="p_kw", step=0, start=at(0.0), end=at(900.0), p_kw=-50.0,
        code=ReasonCode.PRICE, sentence="bess1 charges.", reasons=(reason,), alternatives=(alternative,),
        power_worth_per_kwh=0.1, stored_worth_per_kwh=None,
        use=Use(asset="grid1", start=at(0.0), end=at(900.0), outage=False, per_kwh=0.3, more_cost=0.28),
    )  # fmt: skip
    return Explanation(
        plan_id=plan_id, until=at(900.0), setpoints=(setpoint,), commitments=(), worths=(), conflicts=(),
        notes=("in brief",), solves=3, took_s=took_s,
    )  # fmt: skip


def test_explanation_is_read_back_as_it_was_and_a_later_one_takes_its_place(store, reader):
    store.publish(plan(1))
    assert reader.explanation("plan-1") is None
    store.explain(why("plan-1"))
    assert reader.explanation("plan-1") == why("plan-1")
    store.explain(why("plan-1", took_s=0.7))
    assert reader.explanation("plan-1") == why("plan-1", took_s=0.7)
    assert reader.explanation("plan-2") is None


def test_explanation_with_a_number_that_is_not_finite_is_refused(store, reader):
    with pytest.raises(BadValue, match="took_s"):
        store.explain(why("plan-1", took_s=math.nan))
    assert reader.explanation("plan-1") is None


def test_explanation_corrupt_is_none_and_told(path, store, reader, events):
    store.explain(why("plan-1"))
    spoil(path, "UPDATE explanation SET body = ?", '{"plan_id": 3}')
    assert reader.explanation("plan-1") is None
    assert [kind for _, kind, _ in events] == ["plan.explanation.corrupt"]


def test_explanation_file_from_before_there_were_any_reads_as_none_and_is_written_on(path, reader):
    with contextlib.closing(SqlitePlanStore(path)) as old:
        old.publish(plan(1))
    spoil(path, "DROP TABLE explanation")
    assert reader.explanation("plan-1") is None
    with contextlib.closing(SqlitePlanStore(path)) as new:
        new.explain(why("plan-1"))
        assert reader.explanation("plan-1") == why("plan-1")
