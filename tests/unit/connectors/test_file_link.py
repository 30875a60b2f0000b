"""Records as files: whole or not there, the same when written again, and nothing of them missing."""

import contextlib
import csv
import gzip
import hashlib
import itertools
import json
import os
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq
import pytest

from connectors.files import tables as file_tables
from connectors.files.periods import period_of
from connectors.files.wire import FilesWire
from connectors.historian.spool import Spool
from connectors.historian.sqlite import SqliteRecorder
from connectors.link import LinkError
from connectors.telemetry.ledger import Ledger
from connectors.telemetry.outbox import Outbox
from connectors.telemetry.wire import Desk
from ems.clock import VirtualClock
from ems.links import ExportLink
from tests import builders
from tests.builders import T0
from tests.unit.connectors.histories import at, command, snapshot

SITE = builders.site()
PLANT = SITE.hierarchy.plant
LINK = ExportLink(
    id="usb", folder="out", format="csv", every="hour", clock="utc", mounted=False, settle_s=300.0,
    backlog_s_max=1e6,
)  # fmt: skip
HOUR_S = 3600


class Export:
    """A folder, a historian, and a link whose turns are made by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder / "out", folder / "history.sqlite"
        self.folder.mkdir(exist_ok=True)
        self.now = T0
        self.ledger = Ledger(folder / "telemetry.sqlite")
        self.closing = threading.Event()

    def record(self, first_s: int, last_s: int, step_s: int = 60) -> None:
        with closing(SqliteRecorder(self.path, clock=VirtualClock(at(first_s)), sync=False)) as recorder:
            for t_s in range(first_s, last_s + 1, step_s):
                recorder.readings(snapshot(float(t_s), grid1__p_kw=0.1 * t_s, bess1__soc=None))
                recorder.flush()
            recorder.intent(command(1, 2.0, float(last_s)))

    def run(self, until_s: float, turns: int = 20, **changes: Any) -> Desk:
        """As a process would that was just started."""
        self.now = at(until_s)
        spool = Spool(self.path)
        desk = Desk(
            link="usb", spool=spool, outbox=Outbox("usb", spool, self.ledger), now=lambda: self.now,
            closing=self.closing,
        )  # fmt: skip
        wire = FilesWire(replace(LINK, **changes), SITE, desk, self.path.parent)
        self.closing.set()  # nobody waits
        try:
            desk.outbox.look()
            wire.open()
            for _ in range(turns):
                self.closing.clear()
                if wire._next() is None:
                    break
                wire.turn()
        finally:
            desk.outbox.save()
            spool.close()
        return desk

    def manifests(self) -> dict[str, dict[str, Any]]:
        return {
            p.name.split("_")[1][:13]: json.loads(p.read_text()) for p in sorted(self.folder.glob("*.json"))
        }

    def readings(self) -> list[dict[str, str]]:
        found = sorted(self.folder.glob("*.readings.csv"))
        return [row for p in found for row in csv.DictReader(p.read_text().splitlines())]


@pytest.fixture
def export(tmp_path: Path):
    export = Export(tmp_path)
    yield export
    export.ledger.close()


def hour(n: int) -> str:
    return f"{at(n * HOUR_S):%Y-%m-%dT%H}"


def test_each_hour_that_is_over_has_its_files_and_a_manifest_that_holds(export: Export):
    export.record(0, 3 * HOUR_S + 1800)
    desk = export.run(3 * HOUR_S + 1800)
    told = export.manifests()
    assert list(told) == [hour(0), hour(1), hour(2)], "the hour that is not over has none"
    rows = export.readings()
    assert len(rows) == 2 * 180
    row = next(r for r in rows if r["asset"] == "grid1" and r["seq"] == "2")
    minute = file_tables.iso(round(1000 * at(60.0).timestamp()))
    assert row == {
        "at": minute, "subsystem": SITE.hierarchy.subsystem_of["grid1"], "asset": "grid1", "point": "p_kw",
        "value": "6.0", "unit": "kW", "quality": "good", "source_at": minute, "boot": "1", "seq": "2",
    }  # fmt: skip
    assert {r["value"] for r in rows if r["asset"] == "bess1"} == {""}, "no number is no value"
    for manifest in told.values():
        for file in manifest["files"]:
            raw = (export.folder / file["name"]).read_bytes()
            assert hashlib.sha256(raw).hexdigest() == file["sha256"]
            assert (len(raw), raw.count(b"\n") - 1) == (file["bytes"], file["rows"])
    spans = [(o["first"], o["last"]) for m in told.values() for o in m["openings"]]
    assert spans == [(1, 60), (61, 120), (121, 180)]
    assert desk.outbox.missing()[0] == desk.outbox.heads[1].last - 180
    assert not list(export.folder.glob("*.part"))


def test_newest_hour_is_written_first_and_then_the_oldest(export: Export, monkeypatch: pytest.MonkeyPatch):
    export.record(0, 5 * HOUR_S)
    order: list[str] = []
    for _ in range(3):
        export.run(6 * HOUR_S, turns=len(order) + 1)
        order += [name for name in export.manifests() if name not in order]
    assert order[0] in (hour(5), hour(4))
    assert order[1] == hour(0), order


def test_written_again_nothing_changes_and_an_altered_file_is_made_anew(
    export: Export,
):
    export.record(0, 2 * HOUR_S)
    export.run(4 * HOUR_S)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in export.folder.iterdir()}
    desk = export.run(4 * HOUR_S)
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in export.folder.iterdir()} == before
    assert desk.counts["file_sets"] == 0
    export.ledger.close()
    (export.path.parent / "telemetry.sqlite").unlink()  # and where nothing is known of what was written
    export.ledger = Ledger(export.path.parent / "telemetry.sqlite")
    altered = next(export.folder.glob("*00*.readings.csv"))
    altered.write_text("x")
    desk = export.run(4 * HOUR_S)
    after = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in export.folder.iterdir()}
    assert {p: raw for p, (raw, _) in after.items()} == {p: raw for p, (raw, _) in before.items()}
    same = [p for p in before if after[p] == before[p]]
    assert altered not in same
    assert len(same) == len(before) - 3, "whole sets are left as they are"
    assert desk.outbox.missing()[0] == 0


def test_rows_that_came_late_into_an_hour_are_in_its_files(export: Export):
    """The historian was behind: its file had not all of the hour when it was written."""
    export.record(0, 1200)
    export.run(2 * HOUR_S)
    assert export.manifests()[hour(0)]["files"][0]["rows"] == 2 * 21
    export.record(1800, 3000)
    export.run(2 * HOUR_S)
    told = export.manifests()[hour(0)]
    assert told["files"][0]["rows"] == 2 * 42
    assert [(o["boot"], o["first"], o["last"]) for o in told["openings"]] == [(1, 1, 22), (2, 1, 22)]
    assert len({(r["at"], r["point"]) for r in export.readings()}) == 2 * 42


@pytest.mark.parametrize("k", range(12))
def test_disk_that_fails_at_any_step_leaves_whole_sets_alone(export: Export, k: int, monkeypatch):
    """Whatever is told by a manifest is there; what could not be written is written later."""
    export.record(0, 2 * HOUR_S)
    steps, real, real_replace = itertools.count(), os.fsync, Path.replace

    def failing(call: Any) -> Any:
        def one(*args: Any) -> Any:
            if next(steps) == k:
                raise OSError(28, "No space left on device")
            return call(*args)

        return one

    with monkeypatch.context() as m:
        m.setattr(os, "fsync", failing(real))
        m.setattr(Path, "replace", failing(real_replace))
        with contextlib.suppress(LinkError):
            export.run(2 * HOUR_S + 600)
    for manifest in export.manifests().values():
        for file in manifest["files"]:
            raw = (export.folder / file["name"]).read_bytes()
            assert hashlib.sha256(raw).hexdigest() == file["sha256"]
    export.run(2 * HOUR_S + 600)
    assert list(export.manifests()) == [hour(0), hour(1)]


def test_folder_that_is_away_is_waited_for_and_never_made(export: Export):
    export.record(0, HOUR_S)
    export.folder.rename(export.folder.with_name("taken"))
    with pytest.raises(LinkError, match="out is not there"):
        export.run(2 * HOUR_S)
    assert not export.folder.exists()
    export.folder.with_name("taken").rename(export.folder)
    assert export.run(2 * HOUR_S).outbox.missing()[0] == 2
    with pytest.raises(LinkError, match="nothing is mounted"):
        export.run(3 * HOUR_S, mounted=True)


def test_file_that_reads_back_as_something_else_is_not_delivered(export: Export, monkeypatch):
    export.record(0, HOUR_S)
    monkeypatch.setattr("connectors.files.writing.hash_on_disk", lambda path: "0")
    with pytest.raises(LinkError, match="gives back something else"):
        export.run(2 * HOUR_S)
    assert export.manifests() == {}


def test_packed_csv_and_parquet_hold_the_same_rows(export: Export):
    export.record(0, HOUR_S)
    export.run(2 * HOUR_S)
    plain = export.readings()
    for form in ("csv.gz", "parquet"):
        export.ledger.close()
        (export.path.parent / "telemetry.sqlite").unlink()
        export.ledger = Ledger(export.path.parent / "telemetry.sqlite")
        for manifest in export.folder.glob("*.json"):
            manifest.unlink()
        export.run(2 * HOUR_S, format=form)
    (packed,) = export.folder.glob("*.readings.csv.gz")
    assert list(csv.DictReader(gzip.decompress(packed.read_bytes()).decode().splitlines())) == plain
    (whole,) = export.folder.glob("*.readings.parquet")
    rows = pq.read_table(whole).to_pylist()
    assert len(rows) == len(plain)
    assert all(
        file_tables.iso(round(r["at"].timestamp() * 1000)) == p["at"]
        for r, p in zip(rows, plain, strict=True)
    )
    assert [r["value"] for r in rows] == [float(p["value"]) if p["value"] else None for p in plain]
    (others,) = export.folder.glob("*.records.parquet")
    assert pq.read_table(others).num_rows in (0, 1)


ZONE = ZoneInfo("Europe/Berlin")


def test_days_are_the_plants_own_and_hours_that_come_twice_have_two_names():
    spring = period_of(datetime(2026, 3, 29, 12, tzinfo=UTC), "day", ZONE)
    assert (spring.name, spring.end - spring.start) == ("2026-03-29", timedelta(hours=23))
    autumn = period_of(datetime(2026, 10, 25, 12, tzinfo=UTC), "day", ZONE)
    assert autumn.end - autumn.start == timedelta(hours=25)
    twice = [period_of(datetime(2026, 10, 25, h, 30, tzinfo=UTC), "hour", ZONE) for h in (0, 1)]
    assert [p.name for p in twice] == ["2026-10-25T02+0200", "2026-10-25T02+0100"]
    assert twice[0].end == twice[1].start
    half = period_of(datetime(2026, 1, 1, 0, 10, tzinfo=UTC), "hour", ZoneInfo("Asia/Kolkata"))
    assert (half.name, half.start.minute) == ("2026-01-01T05+0530", 30)


@pytest.mark.parametrize("every", ["hour", "day"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"])
def test_periods_follow_each_other_without_a_gap(every: str, zone: str):
    moment, last = datetime(2026, 3, 1, tzinfo=UTC), None
    while moment < datetime(2026, 11, 10, tzinfo=UTC):
        period = period_of(moment, every, ZoneInfo(zone))
        assert period.start <= moment < period.end
        assert last is None or period in (last,) or period.start == last.end
        moment, last = moment + timedelta(minutes=30), period
