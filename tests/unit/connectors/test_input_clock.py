"""Clocks that are wrong: what is stamped ahead never becomes the newest later without anybody saying so."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.main import main
from connectors.inputs.convert import read_version
from connectors.inputs.state import input_state
from connectors.inputs.store import InputReader, InputStore
from connectors.inputs.watch import input_row
from ems.announced import announced
from ems.clock import SystemClock
from ems.input_rules import series_rules
from tests.builders import site
from tests.unit.connectors.inputs_here import NOW, params, site_with
from tests.unit.connectors.test_input_store import store as store  # the fixture
from tests.unit.connectors.test_input_store import told, version

HOUR, MINUTE, MONTH = timedelta(hours=1), timedelta(minutes=1), timedelta(days=30)
ONE = params()
RULES = series_rules(site(), ONE)


def raw(issued: str, price: int) -> bytes:
    rows = "".join(f"2026-03-02T{h}:00Z,{issued},0.{price}\n" for h in (13, 14))
    return f"time,issued_at,import_per_kwh\n{rows}".encode()


def test_time_of_issue_to_come_counts_from_when_it_came_and_is_told(tmp_path: Path, store: InputStore):
    """The source is 4 min ahead: at 12:04 its version became the newest, though another came at 12:02."""
    looks = []
    for at, issued, price in ((NOW, "2026-03-02T12:04Z", 1), (NOW + 2 * MINUTE, "2026-03-02T12:01Z", 2)):
        bytes_ = raw(issued, price)
        looks.append(store.take(read_version(bytes_, "a.csv", ONE, RULES, at), bytes_))
    assert [x.outcome for x in looks] == ["taken", "taken"]
    assert looks[0].detail == "its time of issue is 240 s ahead of our clock: it counts from when it came"
    assert looks[1].detail == ""
    reader = InputReader(tmp_path)
    seen = [reader.newest("one", NOW + k * MINUTE) for k in (0, 1, 2, 4, 9)]
    assert [v.id for v in seen if v is not None] == [1, 1, 2, 2, 2]
    assert [v.issued_at for v in seen if v is not None] == [NOW, NOW] + [NOW + MINUTE] * 3
    again = raw("2026-03-02T12:06Z", 2)
    made = read_version(again, "a.csv", ONE, RULES, NOW + 3 * MINUTE)
    assert store.take(made, again).outcome == "same", "told again, with a time to come"


def test_announcement_issued_to_come_counts_from_when_it_came():
    told_ = b"id,issued_at,from,until\nx,2026-03-02T12:04Z,2026-03-03T08:00Z,2026-03-03T09:00Z\n"
    made = read_version(told_, "a.csv", params("outages"), {}, NOW)
    assert (made.issued_at, made.outages[0].issued_at, made.ahead_s) == (NOW, NOW, 240.0)


def test_what_came_while_our_clock_was_ahead_never_becomes_the_newest_by_itself(
    tmp_path: Path, store: InputStore
):
    """A month ahead, then put right: a month later the version of then replaced all that had come since."""
    reader = InputReader(tmp_path)
    store.take(version(1.0, None, NOW + MONTH), b"1")
    state = input_state(reader, ONE, NOW, NOW)
    assert state.ahead.startswith("version 1 is stamped 2026-04-01 12:00 UTC, later than now: our clock was")
    look = store.take(version(2.0, None, NOW), b"2")
    assert look.detail == "our clock was ahead: version 1, stamped 2026-04-01 12:00 UTC, counts as older"
    assert input_state(reader, ONE, NOW, NOW).ahead == ""
    store.take(version(3.0, None, NOW + HOUR), b"3")
    for at in (NOW + MONTH, NOW + 2 * MONTH):
        assert told(reader, at) == [3.0, 2.0, 1.0], "it fills gaps at most"
    assert store.take(version(3.0, None, NOW + MONTH + HOUR), b"3").outcome == "same"


def test_a_source_whose_clock_is_ours_is_put_right_with_it(tmp_path: Path, store: InputStore):
    """Both on one machine: it told times of issue a month ahead, too."""
    store.take(version(1.0, NOW + MONTH, NOW + MONTH), b"1")
    store.take(version(2.0, NOW, NOW), b"2")
    assert told(InputReader(tmp_path), NOW + MONTH) == [2.0, 1.0]


def test_announcement_of_when_the_clock_was_ahead_does_not_come_back(tmp_path: Path, store: InputStore):
    """Announced by a clock a month ahead, cancelled by the right one: a month later it stood again."""
    given_, rows = params("outages"), "id,from,until,status\nx,2026-04-03T08:00Z,2026-04-03T09:00Z,{}\n"
    for at, status in ((NOW + MONTH, "planned"), (NOW, "cancelled")):
        bytes_ = rows.format(status).encode()
        store.take(read_version(bytes_, "a.csv", given_, {}, at), bytes_)
    for at in (NOW, NOW + MONTH, NOW + MONTH + HOUR):
        assert announced([given_], InputReader(tmp_path), at) == []


def test_nothing_else_came_and_what_is_stamped_ahead_is_told_until_it_counts(
    tmp_path: Path, store: InputStore
):
    store.take(version(1.0, NOW - HOUR, NOW - HOUR), b"1")
    store.take(version(2.0, None, NOW + 9 * HOUR), b"2")
    reader = InputReader(tmp_path)
    for hours, said in ((0, True), (8, True), (9, False)):
        at = NOW + hours * HOUR
        row = input_row(input_state(reader, ONE, at, at), "")
        assert ("later than now" in str(row["late"])) is said, "it rings as a late input does"
    assert input_state(reader, ONE, NOW).ahead == "", "as it was known then: nobody could say"


@settings(max_examples=15)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=6))
def test_of_untold_issues_what_came_last_counts_whatever_the_clock_did(hours: list[int]):
    with TemporaryDirectory() as folder, closing(InputStore(Path(folder))) as store_:
        for n, hour in enumerate(hours):
            store_.take(version(float(n), None, NOW + hour * HOUR), b"")
        reader = InputReader(Path(folder))
        for at in range(13):
            known = [n for n, hour in enumerate(hours) if hour <= at]
            seen = told(reader, NOW + at * HOUR)
            assert (seen[0] if seen else None) == (known[-1] if known else None)


def test_clock_that_was_never_set_makes_nothing_older(tmp_path: Path, store: InputStore):
    """The battery of a clock is empty: 1970 until a server of time is reached."""
    store.take(version(1.0, None, NOW), b"1")
    store.take(version(2.0, None, datetime(1970, 1, 2, tzinfo=UTC)), b"2")
    assert told(InputReader(tmp_path), NOW) == [1.0, 2.0]


def test_people_see_that_the_clock_was_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    site_with(tmp_path, "  one: {kind: price, folder: inbox}\n")
    with closing(InputStore(tmp_path / "ems-data")) as made:
        made.take(version(1.0, None, SystemClock().now() + MONTH), b"1")
    assert main(["inputs", "."]) == 1
    assert "one: version 1 is stamped" in capsys.readouterr().out


def test_clock_that_starts_years_ahead_costs_no_version(tmp_path: Path, store: InputStore):
    """A machine that woke up in 2036 gave up at once what the bills of a year rest on."""
    store.take(version(1.0, NOW, NOW), b"1")
    store.forget(NOW + timedelta(days=3650))
    found = InputReader(tmp_path).version(1)
    assert found is not None
    assert found[1] == b"1"
