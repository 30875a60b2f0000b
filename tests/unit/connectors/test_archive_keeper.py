"""Who keeps the long-term store says how it does, survives a disk that fails, and a kill at any point."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.edge_records import unkept
from cli.process_config import ProcessConfig, write_config
from connectors.historian.archive.keeper import STATUS, Keeper, archive_status, size_bytes, statuses
from connectors.historian.archive.ledger import LedgerReader
from connectors.historian.archive.watch import BEHIND_S_MAX, GIVEN_UP, PACKED, SILENT_S, ArchiveWatch, trouble
from connectors.historian.archive.wear import (
    GAP_S_MAX,
    WearAccount,
    Written,
    family,
    in_five_years_tb,
    per_day_bytes,
    written,
)
from connectors.historian.audit.ledger import AUDIT
from connectors.historian.live import IN_MEMORY
from connectors.historian.schema import ARCHIVE
from ems.clock import VirtualClock
from ems.records import JsonValue, StatusRow
from ems.site import HistorianParams
from tests.scenarios.recording import until
from tests.unit.connectors.archives import all_samples, audit_left, record, rows_left, trim
from tests.unit.connectors.test_archive import MIDNIGHT, POINTS, snaps, truth
from tests.unit.connectors.test_audit_archive import entries, write

ROOT = Path(__file__).parents[3]
HOUR = timedelta(hours=1)
NOW = MIDNIGHT + 49 * HOUR


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield Path(folder) / "history.sqlite"


@pytest.fixture
def keeper(path: Path) -> Iterator[Keeper]:
    one = Keeper(path, path.parent / ARCHIVE, HistorianParams(recent_h=1.0), now=VirtualClock(NOW).now)
    yield one
    one.close()


def test_keeper_packs_and_tells_how_the_store_does(path: Path, keeper: Keeper):
    record(path, snaps(MIDNIGHT, 49 * 30, 120.0))
    while keeper.step():
        pass
    row = archive_status(path.parent / ARCHIVE)
    assert row is not None
    assert (row.at, row.pid) == (NOW, os.getpid())
    assert row.fields["packed"] == 3 * 48 * 30
    assert row.fields["readings_since"] == MIDNIGHT.isoformat()
    assert row.fields["size_bytes"] == size_bytes(path.parent / ARCHIVE)
    assert row.fields["size_bytes"] == sum(f.stat().st_size for f in (path.parent / ARCHIVE).glob("*.zip"))
    assert (row.fields["trouble"], row.fields["behind_s"], row.fields["given_up"]) == ("", 0.0, 0)
    assert statuses(path.parent / ARCHIVE) == {"archive": row}
    assert statuses(path.parent) == {}


def test_store_that_fails_is_told(path: Path, keeper: Keeper):
    """A file lies where the folder is to be: everything stays in the historian, and somebody hears of it."""
    record(path, snaps(MIDNIGHT, 60, 120.0))
    folder = path.parent / ARCHIVE
    folder.write_text("in the way")
    assert not keeper.step()
    assert keeper.trouble
    assert rows_left(path) == 180
    folder.unlink()
    while keeper.step():
        pass
    assert not keeper.trouble
    (alarm,) = unkept("the long-term store: no room")
    assert alarm.code == "historian.store.failing"
    assert unkept("") == ()


def test_keeper_packs_audit_rows_and_never_gives_them_up_for_room(path: Path):
    """A budget that is used up takes readings, and audit files only by their own rule."""
    write(path, entries(MIDNIGHT, 49 * 12, timedelta(minutes=5)))
    folder, clock = path.parent / ARCHIVE, VirtualClock(NOW + 72 * HOUR)
    keeper = Keeper(path, folder, HistorianParams(recent_h=1.0, disk_gb=1e-6), now=clock.now)
    while keeper.step():
        pass
    keeper.close()
    row = archive_status(folder)
    assert row is not None
    files = list((folder / AUDIT).glob("*.zip"))
    assert row.fields["audit_files"] == len(files) > 1
    newest = max(files, key=lambda f: f.name.rpartition("-")[2])
    assert row.fields["audit_file"] == newest.name
    assert row.fields["audit_sha256"] == hashlib.sha256(newest.read_bytes()).hexdigest()
    assert row.fields["audit_bytes"] == sum(f.stat().st_size for f in files)
    assert "and are not given up" in trouble(row, row.at, row.at)
    assert row.fields["given_up"], "readings are"
    trim(path)
    assert audit_left(path)["command"] < 24
    later = VirtualClock(MIDNIGHT + timedelta(days=366, hours=1))
    write(path, entries(MIDNIGHT + timedelta(days=360), 3, HOUR), opened_ms=7)
    keeper = Keeper(path, folder, HistorianParams(recent_h=1.0, audit_keep_days=365), now=later.now)
    while keeper.step():
        pass
    keeper.step()
    keeper.close()
    gone = {f.name for f in files} - {f.name for f in (folder / AUDIT).iterdir()}
    assert gone == {"audit-20260302T000000Z-000001.zip"}, "older than 365 days"


def test_audit_rows_and_readings_do_not_stand_still_with_one_another(path: Path):
    write(path, entries(MIDNIGHT, 49 * 12, timedelta(minutes=5)))
    folder, later = path.parent / ARCHIVE, VirtualClock(NOW + 72 * HOUR)
    keeper = Keeper(path, folder, HistorianParams(recent_h=1.0), now=later.now)
    folder.mkdir()
    (folder / AUDIT).write_text("in the way")
    for _ in range(9):
        keeper.step()
    assert "audit" in keeper.trouble
    assert list(folder.glob("raw-*.zip"))
    (folder / AUDIT).unlink()
    ledger = folder / "ledger.jsonl"
    keeper.close()
    kept = ledger.rename(folder / "kept")
    ledger.mkdir()
    keeper = Keeper(path, folder, HistorianParams(recent_h=1.0), now=later.now)
    for _ in range(9):
        keeper.step()
    assert "ledger" in keeper.trouble
    assert list((folder / AUDIT).glob("*.zip"))
    ledger.rmdir()
    kept.rename(ledger)
    while keeper.step():
        pass
    assert not keeper.trouble
    keeper.close()


def test_a_file_that_rots_is_found_without_being_asked_for_and_told_until_it_is_back(path: Path):
    """A byte of an audit file and one of a day of readings flip; every ten minutes one file is looked at."""
    record(path, snaps(MIDNIGHT, 49 * 30, 120.0))
    write(path, entries(MIDNIGHT, 49 * 12, timedelta(minutes=5)), opened_ms=7)
    folder, clock = path.parent / ARCHIVE, VirtualClock(NOW + 72 * HOUR)
    keeper = Keeper(path, folder, HistorianParams(recent_h=1.0), now=clock.now)
    while keeper.step():
        pass
    files = [*folder.glob("raw-*.zip"), *(folder / AUDIT).glob("*.zip")]
    whole = {f: f.read_bytes() for f in (files[0], files[-1])}
    for file, data in whole.items():
        file.write_bytes(data[:99] + bytes([data[99] ^ 1]) + data[100:])
    turns = len(list(folder.rglob("*.zip")))
    keeper.step()
    assert not keeper.trouble, "the next look is not due"
    for _ in range(turns):
        clock.advance(600.0)
        keeper.step()
    row = archive_status(folder)
    assert row is not None
    told = str(row.fields["trouble"])
    assert f"{files[0].name}" in told
    assert f"{AUDIT}/{files[-1].name}" in told
    assert "historian.store.failing" in [a.code for a in unkept(trouble(row, row.at, row.at))]
    for file, data in whole.items():
        file.write_bytes(data)
    for _ in range(turns):
        clock.advance(600.0)
        keeper.step()
    assert not keeper.trouble
    keeper.close()


def status(age_s: float = 0.0, **fields: JsonValue) -> StatusRow:
    return StatusRow(process="archive", pid=1, at=NOW - timedelta(seconds=age_s), fields=fields)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (status(), ""),
        (None, "nobody keeps"),
        (status(age_s=SILENT_S + 1), "nobody keeps"),
        (status(trouble="no room"), "no room"),
        (status(behind_s=BEHIND_S_MAX + 3600), "37 h behind"),
        (status(given_up=0, readings_since=(NOW - HOUR).isoformat()), ""),
        (status(given_up=3, readings_since=(NOW - 30 * HOUR).isoformat()), "1 days of readings only"),
        (status(given_up=3, readings_since=(NOW - 24 * 60 * HOUR).isoformat()), ""),
        (status(audit_share=0.5), ""),
        (status(audit_share=0.62), "audit files take 62% of historian.disk_gb"),
    ],
)
def test_trouble_of_the_store_in_words(row: StatusRow | None, told: str):
    found = trouble(row, NOW, NOW - 24 * HOUR)
    assert told in found
    assert bool(found) == bool(told)
    assert not trouble(None, NOW, NOW), "it has just begun"


def test_readings_given_up_are_an_event_once():
    told = []
    watch = ArchiveWatch(None, now=lambda: NOW, event=lambda kind, fields: told.append((kind, fields)))
    since = MIDNIGHT.isoformat()
    for given_up in (None, 2, 2, 5, 5):
        watch.look(None if given_up is None else status(given_up=given_up, readings_since=since))
    assert told == [(GIVEN_UP, {"segments_ever": 5, "readings_since": since})]
    watch.close()


def test_end_of_the_audit_chain_is_an_event_that_leaves_with_the_links():
    told = []
    watch = ArchiveWatch(None, now=lambda: NOW, event=lambda kind, fields: told.append((kind, fields)))
    for n in (None, 1, 1, 2):
        watch.look(status() if n is None else status(audit_sha256=f"{n}f", audit_file=f"{n}.zip"))
    watch.look(None)
    assert told == [(PACKED, {"file": f"{n}.zip", "sha256": f"{n}f"}) for n in (1, 2)]
    watch.close()


def test_status_that_is_not_what_was_written_counts_as_none(tmp_path: Path):
    (tmp_path / STATUS).write_text(json.dumps({"crc32": "0", "body": "{}"}))
    assert archive_status(tmp_path) is None


def test_wear_is_counted_by_day_and_by_process():
    account = WearAccount()
    at = datetime(2026, 3, 2, 23, 58, tzinfo=UTC)
    looks = [
        {1: Written(7, 1000), 2: Written(8, 50)},
        {1: Written(7, 1600), 2: Written(8, 50)},  # 600
        {1: Written(7, 1700), 2: Written(9, 30)},  # 100, and another process under the same number: 30
        {1: Written(7, 1700), 3: Written(9, 4)},  # the next day
    ]
    for minute, found in enumerate(looks):
        account.look(at + timedelta(minutes=minute), found)
    assert account.days == [{"date": "2026-03-02", "written_bytes": 600, "covered_s": 60}]
    assert account.account() == {"date": "2026-03-03", "written_bytes": 134, "covered_s": 120}
    account.look(at + timedelta(seconds=180 + GAP_S_MAX + 1), {1: Written(7, 10**9)})
    assert account.account()["covered_s"] == 120, "nobody looked for too long"
    assert per_day_bytes([account.account()]) is None, "too short a time to tell"
    assert per_day_bytes([{"date": "", "written_bytes": 500, "covered_s": 43200}]) == 1000.0
    assert in_five_years_tb(1e9) == pytest.approx(1.826, rel=1e-3)


def test_wear_of_this_process_is_what_it_wrote(tmp_path: Path):
    before = written(os.getpid())
    if before is None:
        pytest.skip("the kernel does not count what processes write")
    with (tmp_path / "some").open("wb") as out:
        out.write(b"x" * 1_000_000)
        out.flush()
        os.fsync(out.fileno())
    after = written(os.getpid())
    assert after is not None
    assert after.started == before.started
    assert after.size_bytes - before.size_bytes in (0, *range(1_000_000, 1_500_000)), "0 in memory"
    assert os.getpid() in set(family(os.getppid()))
    assert written(2**22 + 1) is None


def test_process_killed_again_and_again_loses_nothing_and_doubles_nothing(path: Path):
    """kill -9 at odd moments of its first steps, while the historian's writer takes out what is confirmed."""
    made = snaps(MIDNIGHT, 49 * 30, 120.0)
    record(path, made)
    file = write_config(
        ProcessConfig(site=path, directory=path.parent, historian=HistorianParams(recent_h=1.0)),
        path.parent / "process.json",
    )
    folder = path.parent / ARCHIVE
    for n in range(4):
        process = subprocess.Popen([sys.executable, "-m", "cli.archive_process", str(file)], cwd=ROOT)
        with contextlib.suppress(AssertionError):
            until(lambda: (folder / "store.lock").exists(), 20.0)
        time.sleep(0.03 * n)
        process.kill()
        process.wait()
        trim(path)
        for point in POINTS:
            assert list(all_samples(path, point, MIDNIGHT, NOW)) == truth(made, point)
    process = subprocess.Popen([sys.executable, "-m", "cli.archive_process", str(file)], cwd=ROOT)
    try:
        until(lambda: archive_status(folder) is not None, 60.0)
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert LedgerReader(folder).catalogue().of("60")
    trim(path)
    assert rows_left(path) == 0, "all of it is long past"
    for point in POINTS:
        assert list(all_samples(path, point, MIDNIGHT, NOW)) == truth(made, point)
