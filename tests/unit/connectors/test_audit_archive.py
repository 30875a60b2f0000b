"""Audit rows that have left the historian's file: told as before, in order, once, to everybody who asks."""

import errno
import os
import re
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.historian.audit.file import AuditFile
from connectors.historian.audit.ledger import AUDIT, AuditLedgerReader, AuditLedgerWriter
from connectors.historian.audit.packer import AuditStore, Packer, check, remove_old
from connectors.historian.audit.table import COLUMNS, cells, lines, row_of
from connectors.historian.audit.trimmer import kept_chunks
from connectors.historian.live import IN_MEMORY
from connectors.historian.reader import SqliteHistoryReader
from connectors.historian.rows import Event, Kind, RowWriter
from connectors.historian.schema import ARCHIVE, HISTORY
from connectors.historian.spool import Span, Spool
from connectors.historian.sqlite import SqliteRecorder
from connectors.sqlite_file import DiskError, StoreError, open_writer, to_ms, transaction
from connectors.telemetry.ledger import Ledger
from connectors.telemetry.outbox import Outbox
from ems.clock import VirtualClock
from ems.commands import Cause, Command, Refusal, WriteOutcome, WriteResult
from ems.errors import BadValue
from ems.telemetry import Quality, Reading, Snapshot
from tests.unit.connectors.archives import audit_left, pack, pack_audit, trim
from tests.unit.connectors.histories import recorded

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOW = MIDNIGHT + 80 * HOUR
MANY = 10**6


@pytest.fixture(autouse=True)
def disk_at_once(monkeypatch):
    """Losing the power is for tests/scenarios/test_50_audit.py."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield Path(folder) / "history.sqlite"


def command(at: datetime, seq: int, point: str = "bess1.p_set_kw", **changes: Any) -> Command:
    given: dict[str, Any] = {
        "point": point, "value": seq / 7, "cause": Cause.PLAN, "reason": f"why, \"{seq}\"\nof\r\nit",
        "owner": "edge", "plan_id": None if seq % 3 else f"plan-{seq}", "epoch": 4, "seq": seq,
        "limits_hash": "", "decided_at": at, "decided_s": 0.0,
    }  # fmt: skip
    return Command(**{**given, **changes})


def entries(start: datetime, count: int, every: timedelta) -> list[tuple[int, Kind, Any]]:
    """What an edge records: a snapshot, a command and its outcome, now and then a refusal or an event."""
    out: list[tuple[int, Kind, Any]] = []

    def add(kind: Kind, payload: Any) -> None:
        out.append((len(out) + 1, kind, payload))

    for i in range(count):
        at = start + i * every + timedelta(milliseconds=i % 5)
        read = Reading(point="grid1.p_kw", value=0.1 * i, quality=Quality.GOOD, source_time=at, arrived_s=0.0)
        add(Kind.SNAPSHOT, Snapshot(at=at, monotonic_s=0.0, readings={"grid1.p_kw": read}))
        one = command(at, i + 1, "gen1.heartbeat" if i % 2 else "bess1.p_set_kw")
        add(Kind.INTENT, one)
        if i % 11:  # some are in flight for ever
            outcome = WriteOutcome.CONFIRMED if i % 4 else WriteOutcome.REJECTED
            done = at + timedelta(milliseconds=30)
            detail = "\\N" if i % 5 == 0 else ""
            add(Kind.OUTCOME, WriteResult(command=one, outcome=outcome, detail=detail, finished_at=done))
        if i % 13 == 0:
            refused = Refusal(
                point="bess1.p_set_kw", value=float("nan") if i % 2 else -0.0, cause=Cause.OPERATOR,
                code="not_finite", reason="\\no", decided_at=at,
            )  # fmt: skip
            add(Kind.REFUSAL, refused)
        if i % 17 == 0:
            kind = "edge.site.in_force" if i == 17 else f"alarm.raised{i % 3}"
            add(Kind.EVENT, Event(at, kind, f'{{"i": {i}, "what": "ü€ \\u0000"}}'))
        if i % 19 == 0:
            add(Kind.RECORDED, recorded(at, i))
    return out


def write(path: Path, made: list[tuple[int, Kind, Any]], opened_ms: int = 5) -> None:
    db = open_writer(path, HISTORY)
    boot = db.execute("INSERT INTO boot (opened_ms) VALUES (?)", (opened_ms,)).lastrowid
    assert boot is not None
    for i in range(0, len(made), 3):
        with transaction(db):
            RowWriter(db, boot).write(made[i : i + 3])
    db.close()


@pytest.fixture
def two_days(path: Path) -> Path:
    """Each five minutes over two days and two hours, in two openings of the file."""
    every = timedelta(minutes=5)
    write(path, entries(MIDNIGHT, 400, every))
    write(path, entries(MIDNIGHT + 401 * every, 200, every), opened_ms=to_ms(MIDNIGHT))
    return path


def everything(path: Path) -> dict[str, Any]:
    """All that anybody is told of audit rows."""
    reader, spool = SqliteHistoryReader(path), Spool(path)
    span = MIDNIGHT - HOUR, NOW
    middle = MIDNIGHT + 20 * HOUR, MIDNIGHT + 30 * HOUR
    heads = spool.heads()
    out: dict[str, Any] = {
        "commands": [repr(c) for c in reader.commands(*span, None, MANY)],  # NaN is not itself
        "newest": [repr(c) for c in reader.commands(*span, None, 700)],
        "of the middle": [repr(c) for c in reader.commands(*middle, None, 50)],
        "of a point": [repr(c) for c in reader.commands(*span, "gen1.heartbeat", 500)],
        "of no point": reader.commands(*span, "pv1.p_limit_kw", MANY),
        "events": reader.events(*span, None, MANY),
        "of a kind": reader.events(*span, "edge.site.in_force", 1),
        "family": reader.events(*span, "alarm.", 20),
        "writes": [reader.writes(p, *middle, n) for p in ("gen1.heartbeat", "x.y") for n in (3, MANY)],
        "heads": heads,
        "records": [r for b, h in heads.items() for r in spool.records(Span(boot=b, first=1, last=h.last))],
        "lines": [
            x
            for b, h in heads.items()
            for r in spool.records(Span(boot=b, first=1, last=h.last))
            for x in r.lines(10**6)
        ],
        "times": [spool.time_of(b, n, h) for b, h in heads.items() for n in range(1, h.last + 1, 97)],
        "since": [
            spool.first_since(b, to_ms(MIDNIGHT + n * HOUR), h) for b, h in heads.items() for n in range(60)
        ],
        "last": [spool.time_of(b, h.last, h) for b, h in heads.items()],
    }
    reader.close()
    spool.close()
    return out


def test_rows_that_have_left_are_told_to_everybody_as_before(two_days: Path):
    before, rows = everything(two_days), audit_left(two_days)
    assert len(before["commands"]) > 600
    assert len(before["of a kind"]) == 1
    packer = pack_audit(two_days, NOW)
    assert packer.moved == rows["spool"], "each number once"
    assert audit_left(two_days) == rows, "nothing is taken out yet"
    assert everything(two_days) == before, "what is in both places is told once"
    trimmer = trim(two_days)
    assert trimmer.counts()["trim_mismatches"] == 0
    left = audit_left(two_days)
    assert left == {"command": 0, "outcome": 0, "refusal": 0, "event": 0, "sample": 0, "spool": 2}, (
        "the newest numbers"
    )
    assert everything(two_days) == before
    pack(two_days, NOW)  # and when readings have left as well
    trim(two_days)
    assert everything(two_days) == before


def test_recent_rows_and_days_that_are_not_over_stay(two_days: Path):
    before = everything(two_days)
    pack_audit(two_days, MIDNIGHT + 40 * HOUR, recent=10 * HOUR)
    trim(two_days)
    assert everything(two_days) == before
    known = AuditLedgerReader(two_days.parent / ARCHIVE / AUDIT).catalogue()
    (entry,) = known.files.values()
    assert (entry.head.start_ms, entry.head.boot) == (to_ms(MIDNIGHT), 1)
    assert entry.head.end_ms <= to_ms(MIDNIGHT + 24 * HOUR)
    assert 0 < audit_left(two_days)["command"] < 600


def test_recorder_goes_on_numbering_after_its_rows_have_left(path: Path):
    write(path, entries(MIDNIGHT, 100, timedelta(minutes=5)))
    pack_audit(path, NOW)
    trim(path)
    before = everything(path)
    recorder = SqliteRecorder(path, clock=VirtualClock(NOW), sync=False)
    recorder.event(NOW - HOUR, "alarm.raised1", {"n": 1})
    assert recorder.close()
    after = everything(path)
    assert after["records"][: len(before["records"])] == before["records"]
    assert [e.kind for e in after["events"]][:1] == ["alarm.raised1"]
    db = open_writer(path, HISTORY)
    with transaction(db):  # the same opening goes on
        RowWriter(db, 1).write([(9000, Kind.EVENT, Event(NOW, "edge.x.y", "{}"))])
    db.close()
    with closing(Spool(path)) as spool:
        assert spool.heads()[1].last == before["heads"][1].last + 1
    assert [r.kind for r in after["records"]].count("gone") == 0


def test_restored_or_renewed_historian_is_another_one(two_days: Path):
    """A file put back to last week has the same numbers for other rows: none of them is taken out."""
    pack_audit(two_days, NOW)
    trim(two_days)
    chunks = two_days.parent / ARCHIVE / AUDIT / "confirmed.json"
    old = chunks.read_bytes()
    two_days.unlink()
    for more in two_days.parent.glob("history.sqlite-*"):
        more.unlink()
    write(two_days, entries(MIDNIGHT + 3 * HOUR, 300, timedelta(minutes=5)), opened_ms=77)
    with sqlite3.connect(two_days) as db:
        rows = db.execute("SELECT count(*) FROM command").fetchone()
    db.close()
    chunks.write_bytes(old)
    assert trim(two_days).counts()["trimmed_audit"] == 0
    with closing(Spool(two_days)) as spool:
        assert all(r.kind != "gone" for r in spool.records(Span(boot=1, first=1, last=spool.heads()[1].last)))
    reader = SqliteHistoryReader(two_days)
    found = reader.commands(MIDNIGHT, NOW, None, MANY)
    assert len(found) > rows[0] + 500, "both pasts are told"
    beats = [c for c in found if c.point == "gen1.heartbeat"]
    assert reader.writes("gen1.heartbeat", MIDNIGHT, NOW, MANY) == len(beats), "and counted"
    reader.close()


def test_chunk_that_holds_other_rows_than_confirmed_stays(two_days: Path):
    pack_audit(two_days, NOW)
    with sqlite3.connect(two_days) as db:
        db.execute("DELETE FROM event WHERE boot = 1 AND n = (SELECT min(n) FROM event WHERE boot = 1)")
    db.close()
    counts = trim(two_days).counts()
    assert counts["trim_mismatches"] == 1
    assert audit_left(two_days)["spool"] == 500 + 2, "its chunk, and the newest of each opening"


def damage(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 0x40
    file.write_bytes(bytes(raw))


def test_file_that_is_damaged_or_missing_is_told_by_name(two_days: Path):
    pack_audit(two_days, NOW)
    trim(two_days)
    folder = two_days.parent / ARCHIVE / AUDIT
    first, *_ = AuditLedgerReader(folder).catalogue().files.values()
    check(folder, first)
    damage(folder / first.file)
    with pytest.raises(BadValue, match=first.file):
        check(folder, first)
    reader = SqliteHistoryReader(two_days)
    with pytest.raises(DiskError, match=first.file):
        reader.commands(MIDNIGHT, NOW, None, MANY)
    assert reader.commands(MIDNIGHT + 40 * HOUR, NOW, None, 10), "the rest is told"
    (folder / first.file).unlink()
    with pytest.raises(DiskError, match=first.file):
        reader.commands(MIDNIGHT, NOW, None, MANY)
    reader.close()


@pytest.mark.parametrize("how", [damage, Path.unlink])
@pytest.mark.parametrize("place", [0, -1])
def test_damaged_or_missing_file_holds_up_no_link_and_no_packing(
    two_days: Path, how: Callable[[Path], None], place: int
):
    """No link came up, not even for what is now, as the age of the oldest record could not be told."""
    before = everything(two_days)
    pack_audit(two_days, NOW)
    trim(two_days)
    folder = two_days.parent / ARCHIVE / AUDIT
    bad = list(AuditLedgerReader(folder).catalogue().files.values())[place]
    how(folder / bad.file)
    recorder = SqliteRecorder(two_days, clock=VirtualClock(NOW), sync=False)
    recorder.event(NOW, "edge.x.y", {})
    assert recorder.close()
    with closing(Spool(two_days)) as spool, closing(Ledger(two_days.parent / "telemetry.sqlite")) as ledger:
        outbox = Outbox("cloud", spool, ledger)
        outbox.look()
        assert outbox.missing() == (len(before["records"]) + 1, to_ms(MIDNIGHT))
        head = spool.heads()[bad.head.boot]
        found = spool.records(Span(boot=bad.head.boot, first=1, last=head.last))
        gone = [x.seq for x in found if x.kind == "gone"]
        assert gone == list(range(bad.head.first, bad.head.last + 1))
        times = [spool.time_of(bad.head.boot, n, head) for n in range(1, head.last + 1)]
        assert times == sorted(times)
    assert pack_audit(two_days, NOW + 80 * HOUR).moved == 1


def test_chain_is_broken_by_whoever_changes_or_removes_a_file(two_days: Path):
    pack_audit(two_days, NOW)
    known = AuditLedgerReader(two_days.parent / ARCHIVE / AUDIT).catalogue()
    assert len(known.files) >= 3
    assert not known.breaks()
    name = list(known.files)[1]
    kept = known.files.pop(name)
    (told,) = known.breaks()
    assert list(known.files)[1] in told
    known.removed[name] = kept
    assert not known.breaks(), "what was removed by rule is known"


def test_what_comes_back_otherwise_from_the_disk_is_not_confirmed(two_days: Path, monkeypatch):
    real = AuditFile.tables

    def other(self: AuditFile) -> dict[str, list[tuple[Any, ...]]]:
        found = real(self)
        found["event"] = found["event"][1:]
        return found

    monkeypatch.setattr(AuditFile, "tables", other)
    with pytest.raises(BadValue, match="not what the historian holds"):
        pack_audit(two_days, NOW)
    folder = two_days.parent / ARCHIVE / AUDIT
    assert not list(folder.glob("*.zip"))
    assert not kept_chunks(folder)


def test_ledger_lost_is_made_anew_from_the_files(two_days: Path):
    before = everything(two_days)
    pack_audit(two_days, NOW)
    trim(two_days)
    folder = two_days.parent / ARCHIVE / AUDIT
    known = AuditLedgerReader(folder).catalogue()
    (folder / "ledger.jsonl").unlink()
    pack_audit(two_days, NOW)
    again = AuditLedgerReader(folder).catalogue()
    assert again.files == known.files
    assert not again.breaks()
    assert everything(two_days) == before


def test_old_files_go_only_by_the_rule_and_their_numbers_are_told_gone(two_days: Path):
    year = timedelta(days=365)
    write(two_days, entries(MIDNIGHT + year - HOUR, 3, timedelta(minutes=5)), opened_ms=to_ms(NOW))
    pack_audit(two_days, MIDNIGHT + year + HOUR)
    trim(two_days)
    folder = two_days.parent / ARCHIVE / AUDIT
    store = AuditStore(folder)
    assert remove_old(store, None, NOW + timedelta(days=40_000)) == []
    assert remove_old(store, timedelta(days=365), MIDNIGHT + timedelta(days=365)) == []
    (first, *_) = store.catalogue.files.values()
    gone = remove_old(store, timedelta(days=365), MIDNIGHT + timedelta(days=366))
    assert gone == [first]
    assert not (folder / first.file).exists()
    store.close()
    pack_audit(two_days, NOW)
    known = AuditLedgerReader(folder).catalogue()
    assert list(known.removed) == [first.file]
    assert not known.breaks()
    with closing(Spool(two_days)) as spool:
        records = spool.records(Span(boot=1, first=1, last=first.head.last + 1))
    assert {r.kind for r in records[:-1]} == {"gone"}
    assert records[-1].kind != "gone"


def test_clock_that_is_years_ahead_removes_nothing(two_days: Path):
    pack_audit(two_days, NOW)
    with closing(AuditStore(two_days.parent / ARCHIVE / AUDIT)) as store:
        known = dict(store.catalogue.files)
        assert remove_old(store, timedelta(days=365), NOW + timedelta(days=3650)) == []
        assert store.catalogue.files == known
        assert all((store.folder / name).is_file() for name in known)


def test_disk_that_takes_a_file_and_not_its_line_breaks_no_chain(two_days: Path, monkeypatch):
    """The file was packed once more, and the next start took the first one in behind it."""
    before, rows, real = everything(two_days), audit_left(two_days), AuditLedgerWriter.append
    folder, lines_left = two_days.parent / ARCHIVE / AUDIT, [True, False, False, *[True] * 99]

    def append(self: AuditLedgerWriter, body: dict[str, Any]) -> None:
        if not lines_left.pop(0):
            raise OSError(errno.ENOSPC, "full")
        real(self, body)

    monkeypatch.setattr(AuditLedgerWriter, "append", append)
    with closing(AuditStore(folder)) as store, closing(Packer(two_days, store, recent=HOUR)) as packer:
        assert packer.step(NOW)
        for _ in range(2):
            with pytest.raises(OSError, match="full"):
                packer.step(NOW)
        while packer.step(NOW):
            pass
    pack_audit(two_days, NOW)
    known = AuditLedgerReader(folder).catalogue()
    assert (sum(e.head.count for e in known.files.values()), known.breaks()) == (rows["spool"], [])
    assert trim(two_days).counts()["trim_mismatches"] == 0
    assert audit_left(two_days)["command"] == 0
    assert everything(two_days) == before


@pytest.mark.parametrize("count", [1, 14])
def test_number_that_was_the_newest_leaves_when_it_is_no_more(path: Path, count: int):
    """A clock that was set years ahead makes old what came a second ago."""
    write(path, entries(MIDNIGHT, count, timedelta(minutes=5)))
    pack_audit(path, NOW)
    trim(path)
    db = open_writer(path, HISTORY)
    with transaction(db):
        RowWriter(db, 1).write([(9000, Kind.EVENT, Event(NOW, "edge.x.y", "{}"))])
    db.close()
    before = everything(path)
    pack_audit(path, NOW)
    assert trim(path).counts()["trim_mismatches"] == 0
    assert audit_left(path)["spool"] == 1
    pack_audit(path, NOW)
    assert kept_chunks(path.parent / ARCHIVE / AUDIT) == []
    assert everything(path) == before


def test_long_search_holds_up_nobody_else(two_days: Path, monkeypatch):
    """A point that is written once a day: every packed day is read, and alarms are told meanwhile."""
    pack_audit(two_days, NOW)
    trim(two_days)
    reader, real = SqliteHistoryReader(two_days), AuditFile.cells
    searching, go_on = threading.Event(), threading.Event()

    def cells_of(self: AuditFile, kind: str) -> Iterator[list[str]]:
        if kind == "command":
            searching.set()
            assert go_on.wait(30.0)
        return real(self, kind)

    monkeypatch.setattr(AuditFile, "cells", cells_of)
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(reader.commands, MIDNIGHT, NOW, "gen1.heartbeat", MANY)
        assert searching.wait(30.0)
        quick = pool.submit(reader.events, MIDNIGHT, NOW, "alarm.", 5)
        try:
            assert len(quick.result(10.0)) == 5
        finally:
            go_on.set()
        assert len(slow.result(30.0)) > 200
    reader.close()


def test_second_process_that_packs_is_refused(two_days: Path):
    with closing(AuditStore(two_days.parent / ARCHIVE / AUDIT)), pytest.raises(StoreError, match="another"):
        AuditStore(two_days.parent / ARCHIVE / AUDIT)


def test_large_day_is_packed_in_several_files(two_days: Path, monkeypatch):
    monkeypatch.setattr("connectors.historian.audit.packer.NUMBERS_MAX", 200)
    before = everything(two_days)
    pack_audit(two_days, NOW)
    trim(two_days)
    assert len(AuditLedgerReader(two_days.parent / ARCHIVE / AUDIT).catalogue().files) > 7
    assert everything(two_days) == before


def test_rows_that_move_while_a_page_is_read_are_not_missed(two_days: Path, monkeypatch):
    before = everything(two_days)["commands"]
    reader = SqliteHistoryReader(two_days)
    real = reader._file.rows

    def rows(*args: Any) -> list[Any]:
        found = real(*args)
        monkeypatch.setattr(reader._file, "rows", real)
        pack_audit(two_days, NOW)
        trim(two_days)
        return found

    monkeypatch.setattr(reader._file, "rows", rows)
    assert [repr(c) for c in reader.commands(MIDNIGHT - HOUR, NOW, None, MANY)] == before
    reader.close()


def test_number_whose_row_is_lost_stays_gone(two_days: Path):
    with sqlite3.connect(two_days) as db:
        db.execute("DELETE FROM event WHERE boot = 1 AND n = (SELECT min(n) FROM event WHERE boot = 1)")
    db.close()
    before = everything(two_days)
    assert [r.kind for r in before["records"]].count("gone") == 1
    pack_audit(two_days, NOW)
    assert trim(two_days).counts()["trim_mismatches"] == 0
    assert everything(two_days) == before


@pytest.mark.parametrize("kind", COLUMNS)
def test_row_comes_back_from_its_line_as_it_was(kind: str):
    texts = ["", "\\N", "\\", "a,b", '"', "\r", "\n", "\x00", "ü", "x" * 200_000, None]
    rows = []
    for i, text in enumerate(texts):
        at_ms = 1772409600000 + i
        told: dict[str, Any] = {"at": at_ms, "source_at": at_ms - 5, "told_at": None if i % 2 else at_ms - 9}
        told["value"] = (None, 0.1, -0.0, 1e300)[i % 4]
        whole = ("number", "n", "epoch", "seq", "kind", "a", "b", "quality")
        rows.append(tuple(told.get(c, i if c in whole else text) for c in COLUMNS[kind]))
    found = [row_of(kind, c) for c in cells(lines(kind, rows))]
    assert found == rows
    assert [repr(r) for r in found] == [repr(r) for r in rows], "-0.0 too"


def test_packer_of_a_historian_that_is_not_there_has_nothing_to_do(path: Path):
    with closing(AuditStore(path.parent / ARCHIVE / AUDIT)) as store:
        packer = Packer(path, store, recent=HOUR)
        assert not packer.step(NOW)
        packer.close()


def test_clock_that_was_a_year_ahead_holds_packing_up_no_longer_than_its_rows(path: Path):
    """Some hours of a year that has not come lie before those of today."""
    every = timedelta(minutes=5)
    ahead = entries(MIDNIGHT + timedelta(days=365), 30, every)
    after = [(n + len(ahead), k, p) for n, k, p in entries(MIDNIGHT, 400, every)]
    write(path, [*ahead, *after])
    pack_audit(path, MIDNIGHT + 30 * HOUR)
    trim(path)
    known = AuditLedgerReader(path.parent / ARCHIVE / AUDIT).catalogue()
    assert sum(e.head.count for e in known.files.values()) > 28 * 12 * 2.5
    with closing(Spool(path)) as spool:
        head = spool.heads()[1]
        assert all(r.kind != "gone" for r in spool.records(Span(boot=1, first=1, last=head.last)))


def test_list_of_what_may_leave_does_not_grow_while_nobody_takes_it_out(two_days: Path, monkeypatch):
    monkeypatch.setattr("connectors.historian.audit.packer.NUMBERS_MAX", 100)
    monkeypatch.setattr("connectors.historian.audit.packer.CHUNKS_MAX", 3)
    before, folder = everything(two_days), two_days.parent / ARCHIVE / AUDIT
    pack_audit(two_days, NOW)
    assert len(kept_chunks(folder)) == 3
    for _ in range(10):
        trim(two_days)
        pack_audit(two_days, NOW)
    trim(two_days)
    assert audit_left(two_days)["command"] == 0
    assert everything(two_days) == before


def test_file_is_read_by_the_command_in_the_docs(two_days: Path, require_program):
    require_program("unzip")
    require_program("xz")
    page = (Path(__file__).parents[3] / "docs" / "historian.md").read_text()
    (command,) = re.findall(r"^unzip .*$", page, re.MULTILINE)
    pack_audit(two_days, NOW)
    assert "audit-20260302T000000Z-000001.zip" in command
    done = subprocess.run(
        ["sh", "-c", command], cwd=two_days.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(",".join(COLUMNS["command"]))
    assert "2,2026-03-02T00:00:00.000Z,2,4,1,bess1.p_set_kw," in done.stdout
