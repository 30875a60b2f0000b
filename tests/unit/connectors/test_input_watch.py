"""What people hear of inputs, and threads that look at sources which hang."""

import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cli.edge_records import from_elsewhere
from connectors.inputs.keeper import Feed, Keeper
from connectors.inputs.state import input_state
from connectors.inputs.store import InputReader, InputStore, QuietInputs, QuietStatuses, statuses
from connectors.inputs.watch import OVERALL, PREFIX, OutageWatch, PriceWatch, input_row, troubles
from connectors.inputs.web import Web
from connectors.sqlite_file import StoreError
from ems.inputs import SILENT_S, AnnouncedOutage, Certainty, InputKind, InputLook
from ems.records import JsonValue, StatusRow
from tests.builders import tariff
from tests.unit.connectors.inputs_here import NOW, params
from tests.unit.connectors.test_input_store import version

LONG_AGO, HOUR = NOW - timedelta(days=1), timedelta(hours=1)
FINE: dict[str, JsonValue] = {"late": "", "failed": "", "refused": "", "trouble": ""}


def rows(age_s: float = 0.0, overrun: str = "", **fields: JsonValue) -> Mapping[str, StatusRow]:
    at = NOW - timedelta(seconds=age_s)
    return {
        PREFIX + "one": StatusRow(process=PREFIX + "one", pid=1, at=at, fields=FINE | fields),
        OVERALL: StatusRow(process=OVERALL, pid=1, at=at, fields={"overrun": overrun}),
    }


def test_inputs_that_are_late_refused_or_overrun_are_told():
    given = [params()]
    assert troubles(given, rows(), NOW, LONG_AGO) == ("", "", "")
    late, refused, overrun = troubles(
        given,
        rows(late="3.0 h old; allowed: 2.0 h", failed="no line", refused="a.csv: one\ntwo", overrun="x was"),
        NOW,
        LONG_AGO,
    )
    assert late == "one: 3.0 h old; allowed: 2.0 h (no line)"
    assert refused == "one: a.csv: one"
    assert overrun == "x was"
    assert troubles(given, rows(trouble="disk full"), NOW, LONG_AGO)[0] == "one: cannot be kept: disk full"
    for missing in (rows(SILENT_S + 1.0, overrun="x was"), {}):
        assert troubles(given, missing, NOW, LONG_AGO) == ("one: nobody looks; see inputs.log", "", "")
        assert troubles(given, missing, NOW, NOW) == ("", "", "")
    told = from_elsewhere("a", "b", "c")
    assert [a.code for a in told] == ["input.late", "input.refused", "outage.overrun"]
    assert from_elsewhere("", "", "") == ()


def test_status_row_says_what_is_in_force_and_what_was_refused(tmp_path: Path):
    store = InputStore(tmp_path)
    store.tell(InputLook(input="one", at=NOW, outcome="refused", detail="line 3", file="b.csv"))
    fields = input_row(input_state(InputReader(tmp_path), params(age_s_max=60.0), NOW), "")
    assert (fields["late"], fields["refused"], fields["version"]) == (
        "nothing came yet",
        "b.csv: line 3",
        None,
    )
    gone = input_row(input_state(InputReader(tmp_path), params(), NOW), "", taken_away=True)
    assert gone["refused"] == "", "somebody has taken the file away"
    row = StatusRow(process=PREFIX + "one", pid=1, at=NOW, fields=fields)
    store.status(row)
    store.close()
    assert statuses(tmp_path) == {row.process: row}


def test_planner_goes_on_without_a_file_that_cannot_be_read(tmp_path: Path):
    InputStore(tmp_path).close()
    quiet = QuietInputs(tmp_path)
    assert quiet.known("one", NOW, NOW, NOW + timedelta(days=1), 9) == []
    quiet.close()
    (tmp_path / "inputs.sqlite").write_bytes(b"no database at all, of that be sure" * 100)
    quiet = QuietInputs(tmp_path)
    assert quiet.known("one", NOW, NOW, NOW + timedelta(days=1), 9) == []
    assert quiet.seen_at("one", NOW) is None
    assert "inputs.sqlite" in quiet.trouble


def test_file_that_cannot_be_read_fails_nothing_of_the_service_but_inputs(tmp_path: Path):
    rows = QuietStatuses(tmp_path)
    assert rows() == {}
    store = InputStore(tmp_path)
    told = StatusRow(process=OVERALL, pid=1, at=NOW, fields={"overrun": ""})
    store.status(told)
    assert rows() == {OVERALL: told}
    store.close()
    (tmp_path / "inputs.sqlite").write_bytes(b"no database at all, of that be sure" * 100)
    with capture_logs() as logs:
        assert rows() == rows() == {}
    assert [line["event"] for line in logs] == ["inputs.unreadable"], "told once"


def feed(store: InputStore, name: str, source: Web) -> Feed:
    return Feed(
        params=replace(params(every_s=0.02), id=name), rules={}, store=store, now=lambda: NOW, source=source,
        doubts=lambda version: (),
    )  # fmt: skip


class Looks:
    """Feeds that hang, that cannot keep what came, or that look and look."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.looked = {"quick": 0, "hangs": 0, "full": 0}
        self.enough = threading.Event()

    def look(self, of: Feed) -> list[InputLook]:
        name = of.params.id
        self.looked[name] += 1
        if name == "hangs":
            self.go.wait(30.0)
        if name == "full":
            raise StoreError("disk full")
        if self.looked["quick"] >= 20 and self.looked["full"]:
            self.enough.set()
        return []


def test_source_that_hangs_and_a_full_disk_hold_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    looks, store = Looks(), InputStore(tmp_path)
    monkeypatch.setattr(Feed, "look", lambda self: looks.look(self))
    monkeypatch.setattr(Feed, "first_wait_s", lambda self: 0.0)
    source = Web(params(folder=None, url="http://127.0.0.1/", protection="plain"), tmp_path)
    keeper = Keeper(feeds=[feed(store, name, source) for name in looks.looked])
    keeper.start()
    assert looks.enough.wait(30.0)
    assert looks.looked["hangs"] == 1
    assert keeper.trouble == {"full": "disk full"}
    assert keeper.bug is None
    looks.go.set()
    keeper.close(10.0)
    store.close()


def test_prices_of_today_are_at_hand_for_the_edge_and_stay_while_the_file_cannot_be_read(tmp_path: Path):
    watch = PriceWatch((params(),), tariff(), tmp_path, now=lambda: NOW)
    assert watch(NOW) is None, "the tariff, before the first look"
    with closing(InputStore(tmp_path)) as store, closing(QuietInputs(tmp_path)) as known:
        watch.look(known)
        assert watch(NOW) is None, "nobody told any"
        store.take(version(0.5, NOW, NOW), b"1")
        watch.look(known)
        seen = watch(NOW)
        assert seen is not None
        quarter = seen.quarter(NOW)
        assert quarter is not None
        assert seen.import_per_kwh[quarter - 1 : quarter + 1] == (tariff().import_per_kwh(NOW), 0.5)
        assert watch(NOW + timedelta(days=1)) is None, "of another day: the tariff"
    (tmp_path / "inputs.sqlite").write_bytes(b"no database" * 1000)
    with closing(QuietInputs(tmp_path)) as known:
        watch.look(known)
        assert known.trouble
    assert watch(NOW) == seen


def test_prices_of_the_next_day_are_at_hand_when_it_begins(tmp_path: Path):
    """For up to a minute of each night rules and meters went by the tariff, whatever was told."""
    midnight = datetime(2026, 3, 2, 21, 0, tzinfo=UTC)  # in Nairobi
    before, after = midnight - timedelta(seconds=30), midnight + timedelta(seconds=29)
    watch = PriceWatch((params(),), tariff(), tmp_path, now=lambda: before)
    with closing(InputStore(tmp_path)) as store, closing(QuietInputs(tmp_path)) as known:
        store.take(version(0.5, NOW, NOW, NOW, 24), b"1")
        watch.look(known)
    for now in (before, after):
        seen = watch(now)
        assert seen is not None
        assert seen.import_per_kwh[seen.quarter(now) or 0] == 0.5
    assert watch(midnight + timedelta(days=1)) is None


def test_price_that_could_not_be_read_among_others_changes_nothing(tmp_path: Path):
    inputs = (params(), replace(params(), id="two"))
    watch = PriceWatch(inputs, tariff(), tmp_path, now=lambda: NOW)
    with closing(InputStore(tmp_path)) as store, closing(QuietInputs(tmp_path)) as known:
        store.take(version(0.5, NOW, NOW), b"1")
        watch.look(known)
        seen, real = watch(NOW), known._reader.known

        def first_fails(input_id: str, *more: Any) -> Any:
            if input_id == "one":
                raise StoreError("disk I/O error")
            return real(input_id, *more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(known._reader, "known", first_fails)
            watch.look(known)
        assert seen is not None
        assert watch(NOW) == seen


def test_outages_that_are_announced_are_at_hand_for_the_edge_and_stay_while_the_file_cannot_be_read(
    tmp_path: Path,
):
    given = params(kind=InputKind.OUTAGES)
    watch = OutageWatch((given, params(id="two")), tmp_path, now=lambda: NOW)
    assert watch() == ()
    sure = AnnouncedOutage(id="work", issued_at=NOW, start=NOW + HOUR, end=NOW + 3 * HOUR)
    unsure = replace(sure, id="storm", certainty=Certainty.POSSIBLE)
    with closing(InputStore(tmp_path)) as store, closing(QuietInputs(tmp_path)) as known:
        store.take(replace(version(0.5, NOW, NOW), series={}, outages=(sure, unsure)), b"1")
        watch.look(known)
        assert [(n.id, n.start, n.end) for n in watch()] == [("one.work", NOW + HOUR, NOW + 3 * HOUR)]
        gone = replace(sure, cancelled=True, issued_at=NOW)
        other = replace(version(0.5, NOW, NOW), series={}, outages=(gone,))
        seen = watch()
        store.take(other, b"2")
        watch.look(known)
        assert watch() == ()
        watch._outages = seen
    (tmp_path / "inputs.sqlite").write_bytes(b"no database" * 1000)
    with closing(QuietInputs(tmp_path)) as known:
        watch.look(known)
        assert known.trouble
    assert watch() == seen


def test_outages_nobody_announces_any_no_thread_looks(tmp_path: Path):
    before = threading.active_count()
    watch = OutageWatch((params(),), tmp_path, now=lambda: NOW)
    watch.start()
    assert threading.active_count() == before
    assert watch() == ()
