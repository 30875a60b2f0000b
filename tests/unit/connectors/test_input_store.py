"""Versions are kept with their time of issue, and what was known at a time can be asked for ever."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from connectors.inputs.state import input_state
from connectors.inputs.store import InputReader, InputStore
from connectors.sqlite_file import StoreError
from ems.inputs import AnnouncedOutage, Certainty, InputLook, InputVersion
from ems.series import UniformSeries
from tests.unit.connectors.inputs_here import NOW, params

HOUR = timedelta(hours=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[InputStore]:
    made = InputStore(tmp_path)
    yield made
    made.close()


def version(
    value: float, issued: datetime | None, arrived: datetime, start: datetime = NOW, hours: int = 4
) -> InputVersion:
    raw = f"{value} {issued} {start} {hours}".encode()
    return InputVersion(
        input="one",
        issued_at=arrived if issued is None else issued,
        issued_told=issued is not None,
        arrived_at=arrived,
        source="a.csv",
        sha256=hashlib.sha256(raw).hexdigest(),
        series={"import_per_kwh": UniformSeries(start=start, step_s=3600.0, values=np.full(hours, value))},
    )


def told(reader: InputReader, at: datetime) -> list[float]:
    found = reader.known("one", at, NOW, NOW + 4 * HOUR, 9)
    return [float(v.series["import_per_kwh"].values[0]) for v in found]


def test_what_was_known_at_a_time_is_what_had_arrived_and_been_issued_by_then(
    tmp_path: Path, store: InputStore
):
    reader = InputReader(tmp_path)
    assert told(reader, NOW) == []
    assert store.take(version(1.0, NOW, NOW + HOUR), b"1").outcome == "taken"
    assert store.take(version(2.0, NOW + 2 * HOUR, NOW + 3 * HOUR), b"2").outcome == "taken"
    late = store.take(version(3.0, NOW + HOUR, NOW + 4 * HOUR), b"3")
    assert late.outcome == "older", "an older issue that arrives late is kept, and replaces nothing"
    assert told(reader, NOW + HOUR / 2) == [], "issued, not arrived"
    assert told(reader, NOW + HOUR) == [1.0]
    assert told(reader, NOW + 3 * HOUR) == [2.0, 1.0]
    assert told(reader, NOW + 5 * HOUR) == [2.0, 3.0, 1.0]
    newest = reader.newest("one", NOW + 5 * HOUR)
    assert newest is not None
    assert newest.series["import_per_kwh"].values.tolist() == [2.0] * 4
    assert (newest.issued_told, newest.issued_at, newest.arrived_at) == (True, NOW + 2 * HOUR, NOW + 3 * HOUR)
    assert late.version is not None
    found = reader.version(late.version)
    assert found is not None
    assert found[1] == b"3", "the very bytes"


def test_same_content_is_one_version_that_was_seen_again(tmp_path: Path, store: InputStore):
    assert store.take(version(1.0, None, NOW), b"1").outcome == "taken"
    again = store.take(version(1.0, None, NOW + HOUR), b"1 ")
    assert (again.outcome, again.version) == ("same", 1)
    state = input_state(InputReader(tmp_path), params(), NOW + HOUR + timedelta(minutes=6))
    assert state.version is not None
    assert state.version.issued_at == NOW
    assert state.age_s == 360.0, (
        "nobody tells when it was issued, so it is as old as what it was last told by"
    )
    assert store.take(version(2.0, None, NOW + 2 * HOUR), b"2").outcome == "taken"
    assert store.take(version(1.0, None, NOW + 3 * HOUR), b"1").outcome == "taken", "back to what it was"


def test_told_issue_that_comes_twice_is_the_same_and_one_that_differs_revises_it(
    tmp_path: Path, store: InputStore
):
    assert store.take(version(1.0, NOW, NOW), b"1").outcome == "taken"
    assert store.take(version(2.0, NOW + HOUR, NOW + HOUR), b"2").outcome == "taken"
    assert store.take(version(1.0, NOW, NOW + 2 * HOUR), b"1").outcome == "same"
    assert store.take(version(3.0, NOW + HOUR, NOW + 3 * HOUR), b"3").outcome == "taken"
    assert told(InputReader(tmp_path), NOW + 3 * HOUR) == [3.0, 2.0, 1.0]


def test_what_came_last_of_one_issue_counts_though_it_was_told_before(tmp_path: Path, store: InputStore):
    reader = InputReader(tmp_path)
    for hour, value in enumerate((1.0, 2.0, 1.0)):
        arrived = NOW + hour * HOUR
        assert store.take(version(value, NOW, arrived), b"x").outcome == "taken"
        assert told(reader, arrived)[0] == value
    assert store.take(version(1.0, NOW, NOW + 3 * HOUR), b"x").outcome == "same"


@pytest.mark.parametrize("issued", [None, NOW - HOUR])
def test_what_came_while_the_clock_was_ahead_is_taken_again_when_it_is_right(
    tmp_path: Path, store: InputStore, issued: datetime | None
):
    assert store.take(version(1.0, issued, NOW + timedelta(days=30)), b"1").outcome == "taken"
    assert InputReader(tmp_path).newest("one", NOW) is None
    assert store.take(version(1.0, issued, NOW), b"1").outcome == "taken"
    assert store.take(version(1.0, issued, NOW + HOUR), b"1").outcome == "same"
    assert told(InputReader(tmp_path), NOW + HOUR) == [1.0]


def test_gaps_and_outages_come_back_as_they_were(tmp_path: Path, store: InputStore):
    outage = AnnouncedOutage(
        id="x",
        issued_at=NOW,
        start=NOW + HOUR,
        end=NOW + 2 * HOUR,
        certainty=Certainty.POSSIBLE,
        reason="wärts",
    )
    given = replace(
        version(1.0, NOW, NOW), outages=(outage, replace(outage, id="y", cancelled=True)),
        series={"a": UniformSeries(start=NOW, step_s=900.0, values=np.array([1 / 3, np.nan, -0.0]))},
    )  # fmt: skip
    store.take(given, b"raw")
    back = InputReader(tmp_path).newest("one", NOW)
    assert back is not None
    assert back.outages == given.outages
    np.testing.assert_array_equal(back.series["a"].values, given.series["a"].values)


@pytest.mark.parametrize(
    ("kind", "changes", "after", "late"),
    [
        ("price", {"age_s_max": 7200.0}, timedelta(hours=1), ""),
        ("price", {"age_s_max": 7200.0}, timedelta(hours=3), "3.0 h old; allowed: 2.0 h"),
        (
            "price",
            {"ahead_s_min": 7200.0},
            timedelta(hours=3),
            "it tells 60 min ahead; allowed: 2.0 h or more",
        ),
        ("price", {"ahead_s_min": 7200.0}, timedelta(hours=9), "it tells nothing of what comes; allowed"),
        ("price", {}, timedelta(days=9), ""),
        ("price", {}, -timedelta(hours=1), "nothing came yet"),
        ("outages", {}, -timedelta(hours=1), ""),
        ("outages", {"age_s_max": 7200.0}, -timedelta(hours=1), "nothing came yet"),
    ],
)
def test_late_is_older_than_allowed_or_not_far_enough_ahead(
    tmp_path: Path, store: InputStore, kind: str, changes: dict, after: timedelta, late: str
):
    store.take(version(1.0, NOW, NOW), b"1")
    state = input_state(InputReader(tmp_path), params(kind, **changes), NOW + after)
    assert state.late.startswith(late)
    assert bool(state.late) is bool(late)
    assert state.params.aged_out is False


@pytest.mark.parametrize("kind", ["price", "outages"])
def test_source_that_fails_for_long_is_late_until_it_is_looked_at_again(
    tmp_path: Path, store: InputStore, kind: str
):
    reader, given = InputReader(tmp_path), params(kind, every_s=600.0)
    store.take(version(1.0, NOW, NOW), b"1")
    for minutes in (10, 70):
        at = NOW + timedelta(minutes=minutes)
        store.tell(InputLook(input="one", at=at, outcome="failed", detail="nobody listens there"))
    assert input_state(reader, given, NOW + timedelta(minutes=40)).late == "", "three looks: half an hour"
    state = input_state(reader, given, NOW + timedelta(minutes=75))
    assert (state.late, state.failing_since) == (
        "every look has failed for 65 min", NOW + timedelta(minutes=10),
    )  # fmt: skip
    assert store.failing("one")
    store.tell(InputLook(input="one", at=NOW + timedelta(minutes=80), outcome="nothing"))
    state = input_state(reader, given, NOW + timedelta(minutes=81))
    assert (state.late, state.failing_since, state.failed) == ("", None, None)
    assert not store.failing("one")


def test_refused_and_failed_looks_are_told_until_something_comes(tmp_path: Path, store: InputStore):
    reader = InputReader(tmp_path)
    store.tell(InputLook(input="one", at=NOW, outcome="refused", detail="why", file="b.csv"))
    store.tell(InputLook(input="one", at=NOW, outcome="failed", detail="nobody listens there"))
    state = input_state(reader, params(), NOW)
    assert state.refused is not None
    assert state.failed is not None
    assert (state.refused.file, state.failed.detail) == ("b.csv", "nobody listens there")
    store.tell(InputLook(input="one", at=NOW, outcome="nothing"))
    state = input_state(reader, params(), NOW)
    assert (state.refused is not None, state.failed) == (True, None), "an empty folder mends no file"
    store.take(version(1.0, NOW, NOW), b"1")
    state = input_state(reader, params(), NOW)
    assert state.refused is state.failed is None


def test_what_is_long_over_is_forgotten_and_ids_go_on(tmp_path: Path, store: InputStore):
    store.take(version(1.0, NOW, NOW), b"1")
    later = NOW + timedelta(days=500)
    store.take(version(2.0, later, later, start=later), b"2")
    store.forget(later)
    reader = InputReader(tmp_path)
    assert reader.version(1) is None
    assert reader.version(2) is not None
    assert [x.version for x in reader.looks("one", later, 9)] == [2]


def test_one_process_writes_and_a_file_that_is_not_there_reads_as_empty(tmp_path: Path, store: InputStore):
    with pytest.raises(StoreError, match="another process is writing it"):
        InputStore(tmp_path)
    empty = InputReader(tmp_path / "nowhere")
    assert empty.newest("one", NOW) is None
    assert empty.reaches("one", NOW) is None
    assert not empty.looks("one", NOW, 9)
