"""The long-term store: what was recorded comes back from it as it was, once, wherever it lies."""

import json
import math
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.historian.archive.compactor import Store, check
from connectors.historian.archive.confirmed import Trimmer, kept_chunks
from connectors.historian.archive.journal import FILE as LEDGER
from connectors.historian.archive.ledger import RAW, LedgerReader, LedgerWriter
from connectors.historian.archive.rollup import coarser, rolled_up, together, worst
from connectors.historian.archive.segment import READINGS, Head, Segment, Writer
from connectors.historian.archive.source import Recent
from connectors.historian.live import IN_MEMORY
from connectors.historian.reader import SqliteHistoryReader
from connectors.historian.schema import ARCHIVE, HISTORY, QUALITY_CODES
from connectors.historian.spool import Span, Spool
from connectors.historian.sqlite import SqliteRecorder
from connectors.sqlite_file import StoreError, open_writer, to_ms
from ems.clock import VirtualClock
from ems.errors import BadValue
from ems.records import Bucket, Sample
from ems.telemetry import Quality, Reading, Snapshot
from tests.unit.connectors.archives import all_samples, pack, record, rows_left, store_of, trim
from tests.unit.connectors.histories import snapshot as one

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
POINTS = ("bess1.p_kw", "bess1.soc", "grid1.f_hz")
QUALITIES = list(Quality)


def snap(at: datetime, i: int) -> Snapshot:
    """A snapshot that is different at each i: values, gaps, qualities and ages."""
    values = (round(100 * math.sin(i / 9), 1), round(0.5 + i * 1e-4, 4), float(np.float32(50 + i % 7 / 9)))
    readings = {}
    for p, (point, value) in enumerate(zip(POINTS, values, strict=True)):
        quality = QUALITIES[(i + p) % 40] if (i + p) % 40 < len(QUALITIES) else Quality.GOOD
        lost = quality in (Quality.COMM_FAILED, Quality.NOT_FINITE)
        readings[point] = Reading(
            point=point,
            value=None if lost else value,
            quality=quality,
            source_time=at - timedelta(milliseconds=37 * (i % 11)),
            arrived_s=0.0,
        )
    return Snapshot(at=at, monotonic_s=0.0, readings=readings)


def snaps(start: datetime, count: int, every_s: float) -> list[Snapshot]:
    return [snap(start + timedelta(seconds=every_s * i, milliseconds=i % 3), i) for i in range(count)]


def truth(snapshots: list[Snapshot], point: str) -> list[Sample]:
    return [
        Sample(at=s.at, value=r.value, quality=r.quality, source_time=r.source_time)
        for s in sorted(snapshots, key=lambda s: s.at)
        for r in [s.readings[point]]
    ]


@pytest.fixture(autouse=True)
def disk_at_once(monkeypatch):
    """Losing the power is for tests/scenarios/test_50_archive.py."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def path() -> Iterator[Path]:
    """In memory: what these tests look at is not the disk."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield Path(folder) / "history.sqlite"


@pytest.fixture
def two_days(path: Path) -> list[Snapshot]:
    """Every two minutes, over two days and an hour."""
    made = snaps(MIDNIGHT, 49 * 30, 120.0)
    record(path, made)
    return made


def test_readings_packed_and_trimmed_come_back_exactly(path, two_days):
    now = MIDNIGHT + 49 * HOUR
    pack(path, now)
    trimmer = trim(path)
    assert trimmer.mismatches == 0
    assert trimmer.trimmed + rows_left(path) == 3 * len(two_days)
    assert rows_left(path) <= 3 * 3 * 30, "no more than is recent, and the hours that are not over"
    for point in POINTS:
        assert list(all_samples(path, point, MIDNIGHT, now)) == truth(two_days, point)


def test_readings_in_file_and_in_segment_at_once_come_back_once(path, two_days):
    pack(path, MIDNIGHT + 49 * HOUR)
    assert rows_left(path) == 3 * len(two_days), "nothing is taken out yet"
    assert list(all_samples(path, POINTS[0], MIDNIGHT, MIDNIGHT + 49 * HOUR)) == truth(two_days, POINTS[0])


def test_series_paged_over_the_seam_leaves_nothing_out(path, two_days):
    pack(path, MIDNIGHT + 49 * HOUR)
    trim(path)
    reader, start = SqliteHistoryReader(path), MIDNIGHT
    found: list[Sample] = []
    while page := reader.series(POINTS[1], start, MIDNIGHT + 49 * HOUR, 700):
        assert len(page) <= 700
        found += page
        start = page[-1].at + timedelta(milliseconds=1)
    assert found == truth(two_days, POINTS[1])


def test_recent_readings_stay_where_they_are(path):
    made = snaps(MIDNIGHT, 100, 30.0)
    record(path, made)
    pack(path, MIDNIGHT + timedelta(minutes=59))
    assert not list((path.parent / ARCHIVE).glob("*.zip"))
    assert trim(path).trimmed == 0


def test_row_that_comes_late_is_kept_and_packed_too(path, two_days):
    pack(path, MIDNIGHT + 49 * HOUR)
    trim(path)
    late = [snap(MIDNIGHT + timedelta(hours=5, minutes=n, seconds=11), n) for n in range(50)]
    record(path, late)
    every = [*two_days, *late]
    assert list(all_samples(path, POINTS[0], MIDNIGHT, MIDNIGHT + 49 * HOUR)) == truth(every, POINTS[0])
    before = rows_left(path)
    pack(path, MIDNIGHT + 49 * HOUR)
    assert trim(path).trimmed == before - (rows_left(path))
    assert before - rows_left(path) == 150
    assert list(all_samples(path, POINTS[0], MIDNIGHT, MIDNIGHT + 49 * HOUR)) == truth(every, POINTS[0])


def test_row_that_comes_between_packing_and_trimming_stays(path, two_days):
    """A chunk is taken out only where exactly the readings lie that were confirmed."""
    pack(path, MIDNIGHT + 49 * HOUR)
    late = [snap(MIDNIGHT + timedelta(hours=5, seconds=11), 5)]
    record(path, late)
    assert trim(path).mismatches == 1
    every = [*two_days, *late]
    for _ in range(2):
        assert list(all_samples(path, POINTS[2], MIDNIGHT, MIDNIGHT + 49 * HOUR)) == truth(every, POINTS[2])
        pack(path, MIDNIGHT + 49 * HOUR)
        assert trim(path).mismatches == 0
    assert rows_left(path) <= 3 * 3 * 30


def test_as_many_rows_as_were_confirmed_but_others_stay(path):
    """A clock that was set back by an hour writes the same number of rows into the same minutes."""
    made = snaps(MIDNIGHT, 60, 60.0)
    record(path, made)
    pack(path, MIDNIGHT + 25 * HOUR)
    chunks = kept_chunks(path.parent / ARCHIVE)
    trim(path)
    again = [snap(s.at + timedelta(milliseconds=400), 7) for s in made]
    record(path, again)
    assert kept_chunks(path.parent / ARCHIVE) == chunks, "still the same list"
    assert trim(path).trimmed == 0
    assert rows_left(path) == 180
    assert len(all_samples(path, POINTS[0], MIDNIGHT, MIDNIGHT + HOUR)) == 120


def expected_buckets(samples: list[Sample], every_s: int) -> dict[datetime, Bucket]:
    out = {}
    groups: dict[float, list[Sample]] = {}
    for s in samples:
        groups.setdefault(s.at.timestamp() // every_s * every_s, []).append(s)
    for start, group in groups.items():
        good = [s.value for s in group if s.quality is Quality.GOOD and s.value is not None]
        at = datetime.fromtimestamp(start, UTC)
        out[at] = Bucket(
            start=at,
            low=min(good, default=None),
            high=max(good, default=None),
            mean=pytest.approx(sum(good) / len(good)) if good else None,  # type: ignore[arg-type]
            count=len(group),
            good=len(good),
            quality=worst(sum({1 << QUALITY_CODES[s.quality] for s in group})),
        )
    return out


@pytest.mark.parametrize("every_s", [10, 60, 300, 900, 3600, 14400, 86400])
@pytest.mark.parametrize("where", ["file", "both", "segments", "rollups"])
def test_buckets_are_those_of_the_readings_wherever_they_lie(path, two_days, every_s, where):
    now = MIDNIGHT + 49 * HOUR
    if where != "file":
        pack(path, now, bytes_max=10**12 if where != "rollups" else 1)
    if where in ("segments", "rollups"):
        trim(path)
    reader = SqliteHistoryReader(path)
    wanted = expected_buckets(truth(two_days, POINTS[0]), every_s)
    if where == "rollups":
        known = LedgerReader(path.parent / ARCHIVE).catalogue()
        assert known.of("60")
        assert known.dropped
        if every_s < 60:  # readings are given up: minutes are the best there is
            wanted = {at: b for at, b in wanted.items() if at >= MIDNIGHT + 48 * HOUR}
    found = reader.buckets(POINTS[0], MIDNIGHT, MIDNIGHT + 72 * HOUR, every_s)
    if where == "rollups" and every_s < 60:
        assert len([b for b in found if b.start < MIDNIGHT + 48 * HOUR]) == 48 * 30
        found = [b for b in found if b.start >= MIDNIGHT + 48 * HOUR]
    assert {b.start: b for b in found} == wanted
    assert [b.start for b in found] == sorted(wanted)


def test_month_becomes_quarters_and_the_year_is_read_from_them(path):
    made = snaps(datetime(2026, 2, 1, tzinfo=UTC), 40 * 48, 1800.0)  # forty days
    record(path, made)
    now = datetime(2026, 3, 14, tzinfo=UTC)
    pack(path, now)
    trim(path)
    known = LedgerReader(path.parent / ARCHIVE).catalogue()
    assert [e.head.start_ms // 1000 for e in known.of("900")] == [
        datetime(2026, 2, 1, tzinfo=UTC).timestamp()
    ]
    assert len(known.of("60")) == 40
    reader = SqliteHistoryReader(path)
    found = reader.buckets(POINTS[1], datetime(2026, 1, 1, tzinfo=UTC), now, 3600)
    assert {b.start: b for b in found} == expected_buckets(truth(made, POINTS[1]), 3600)


def test_late_row_is_in_the_rollups_of_its_day_and_month(path):
    made = snaps(datetime(2026, 2, 1, tzinfo=UTC), 29 * 48, 1800.0)
    record(path, made)
    now = datetime(2026, 3, 5, tzinfo=UTC)
    pack(path, now)
    trim(path)
    late = snap(datetime(2026, 2, 7, 6, 1, 2, tzinfo=UTC), 3)
    record(path, [late])
    pack(path, now)
    trim(path)
    store = path.parent / ARCHIVE
    known = LedgerReader(store).catalogue()
    assert {p.name for p in store.glob("*.zip")} == known.segments.keys(), "the replaced ones are gone"
    for kind in ("60", "900"):
        with_late = [
            e for e in known.of(kind) if e.head.start_ms <= late.at.timestamp() * 1000 < e.head.end_ms
        ]
        assert len(with_late) == 1
        with Segment(store / with_late[0].file) as segment:
            table = segment.table(POINTS[1])
        assert table is not None
        every_s = int(kind)
        at_ms = int(late.at.timestamp() // every_s * every_s * 1000)
        assert table["count"][table["at_ms"].tolist().index(at_ms)] == (2 if kind == "900" else 1)
    found = SqliteHistoryReader(path).buckets(POINTS[1], datetime(2026, 2, 1, tzinfo=UTC), now, 900)
    assert {b.start: b for b in found} == expected_buckets(truth([*made, late], POINTS[1]), 900)


def test_room_is_made_of_the_oldest_readings_first_and_it_is_told(path, two_days):
    now = MIDNIGHT + 49 * HOUR
    pack(path, now)
    with store_of(path) as store:
        sizes = {e.file: e.size_bytes for e in store.catalogue.segments.values()}
    pack(path, now, bytes_max=sum(sizes.values()) - 1)
    reader = LedgerReader(path.parent / ARCHIVE)
    known = reader.catalogue()
    (gone,) = known.dropped.values()
    assert (gone.head.kind, gone.head.start_ms) == (RAW, int(MIDNIGHT.timestamp() * 1000))
    assert not (path.parent / ARCHIVE / gone.file).exists()
    pack(path, now, bytes_max=1)
    known = reader.catalogue()
    assert [e.head.start_ms for e in known.of(RAW)] == [
        int((MIDNIGHT + 48 * HOUR).timestamp() * 1000)
    ] or not (known.of(RAW))
    assert len(known.of("60")) == 2, "what is in no coarser rollup stays"


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5_000_000),
            st.one_of(st.none(), st.floats(-1e6, 1e6)),
            st.sampled_from(sorted(QUALITY_CODES.values())),
        ),
        max_size=50,
        unique_by=lambda r: r[0],
    ),
    st.integers(0, 50),
)
@settings(max_examples=60)
def test_buckets_joined_from_parts_are_those_of_the_whole(rows, cut):
    def table(part: list[Any]) -> dict[str, Any]:
        part = sorted(part, key=lambda r: r[0])
        return {
            "at_ms": np.array([r[0] for r in part], dtype=np.int64),
            "value": np.array([math.nan if r[1] is None else r[1] for r in part], dtype=np.float64),
            "quality": np.array([r[2] for r in part], dtype=np.int64),
        }

    whole = rolled_up(table(rows), 900_000)
    parts = [rolled_up(table(part), 60_000) for part in (rows[:cut], rows[cut:])]
    joined = coarser(together(parts), 900_000)
    for name in whole:
        if name == "mean":
            np.testing.assert_allclose(joined[name], whole[name], rtol=1e-9, atol=1e-6)
        else:
            np.testing.assert_array_equal(joined[name], whole[name])


def damage(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 3] ^= 0x40
    file.write_bytes(bytes(raw))


def test_damaged_segment_is_found_and_refused_by_name(path, two_days):
    pack(path, MIDNIGHT + 49 * HOUR)
    trim(path)
    with store_of(path) as store:
        entry = store.catalogue.of(RAW)[0]
    file = path.parent / ARCHIVE / entry.file
    check(file, entry)
    damage(file)
    with pytest.raises(BadValue, match=entry.file):
        check(file, entry)
    with pytest.raises(StoreError, match=entry.file):
        [all_samples(path, point, MIDNIGHT, MIDNIGHT + 49 * HOUR) for point in POINTS]


def test_what_came_back_otherwise_from_the_disk_is_not_confirmed(path, two_days, monkeypatch):
    def torn(file, raw, **_):
        file.write_bytes(raw[:-1] + b"?")

    monkeypatch.setattr("connectors.historian.archive.compactor.put_whole", torn)
    with pytest.raises(BadValue):
        pack(path, MIDNIGHT + 49 * HOUR)
    assert kept_chunks(path.parent / ARCHIVE) == []
    assert trim(path).trimmed == 0
    monkeypatch.undo()
    pack(path, MIDNIGHT + 49 * HOUR)
    trim(path)
    assert list(all_samples(path, POINTS[0], MIDNIGHT, MIDNIGHT + 49 * HOUR)) == truth(two_days, POINTS[0])


def test_ledger_lost_is_made_anew_from_the_segments(path, two_days):
    now = MIDNIGHT + 49 * HOUR
    pack(path, now)
    trim(path)
    folder = path.parent / ARCHIVE
    before = LedgerReader(folder).catalogue().segments
    (folder / LEDGER).unlink()
    with store_of(path) as store:
        assert store.catalogue.segments == before
    pack(path, now)
    assert list(all_samples(path, POINTS[0], MIDNIGHT, now)) == truth(two_days, POINTS[0])


def test_ledger_line_cut_short_counts_as_not_written(tmp_path):
    writer = LedgerWriter(tmp_path)
    writer.day({"date": "2026-03-01"})
    writer.day({"date": "2026-03-02"})
    writer.close()
    file = tmp_path / LEDGER
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        days = LedgerReader(tmp_path).catalogue().days
        assert len(days) == whole[:size].count(b"\n")
        writer = LedgerWriter(tmp_path)
        writer.day({"date": "2026-03-03"})
        writer.close()
        known = LedgerReader(tmp_path).catalogue()
        assert [d["date"] for d in known.days][-1] == "2026-03-03"
        assert known.bad_lines == 0


def test_second_process_that_packs_is_refused(path, two_days):
    with store_of(path), pytest.raises(StoreError, match="another process"):
        Store(path.parent / ARCHIVE)


def test_recorder_trims_between_its_batches(path, two_days):
    pack(path, MIDNIGHT + 49 * HOUR)
    recorder = SqliteRecorder(
        path, clock=VirtualClock(MIDNIGHT + 49 * HOUR), trimmer=Trimmer(path.parent / ARCHIVE)
    )
    made = snaps(MIDNIGHT + 49 * HOUR, 40, 1.0)
    for s in made:
        recorder.readings(s)
        assert recorder.flush()
    recorder.close()
    trimmed = recorder.counts()["trimmed"]
    assert isinstance(trimmed, int)
    assert trimmed > 0
    assert trimmed + rows_left(path) == 3 * (len(two_days) + 40)
    every = [*two_days, *made]
    assert list(all_samples(path, POINTS[0], MIDNIGHT, MIDNIGHT + 50 * HOUR)) == truth(every, POINTS[0])


def test_trimmer_on_a_disk_that_fails_leaves_it_to_the_next_batch(path, two_days):
    pack(path, MIDNIGHT + 49 * HOUR)
    db = open_writer(path, HISTORY)
    db.execute("PRAGMA query_only=ON")
    trimmer = Trimmer(path.parent / ARCHIVE)
    assert not trimmer.step(db)
    db.execute("PRAGMA query_only=OFF")
    assert trimmer.step(db)
    assert trimmer.trimmed > 0
    db.close()


def test_spool_sends_a_snapshot_that_has_left_the_file_as_it_was(path):
    made = [one(60.0 * n, bess1__p_kw=1.5 * n, grid1__f_hz=None if n % 5 else 50.0) for n in range(120)]
    record(path, made)
    spool = Spool(path)
    (boot,) = spool.heads()
    before = spool.records(Span(boot=boot, first=1, last=120))
    spool.close()
    pack(path, made[-1].at + 30 * HOUR)
    assert trim(path).trimmed > 0
    assert rows_left(path) == 0
    after = Spool(path).records(Span(boot=boot, first=1, last=120))
    assert [r.lines(10**6) for r in after] == [r.lines(10**6) for r in before]
    assert not any(r.head["kind"] == "gone" for r in after)


def test_same_rows_make_the_same_bytes():
    def packed() -> tuple[Head, bytes]:
        writer = Writer(RAW, 0, 1000)
        table = {n: np.arange(5, dtype=np.float64 if READINGS[n] else np.int64) for n in READINGS}
        writer.add("a.p_kw", table)
        writer.add("b.p_kw", table)
        return writer.finish()

    assert packed() == packed()
    _, raw = packed()
    assert len(raw) < 1500


def test_segment_is_a_plain_zip_archive(path, two_days, tmp_path):
    pack(path, MIDNIGHT + 49 * HOUR)
    with store_of(path) as store:
        entry = store.catalogue.of(RAW)[0]
    with zipfile.ZipFile(path.parent / ARCHIVE / entry.file) as archive:
        assert archive.testzip() is None
        meta = json.loads(archive.read("meta.json"))
    assert meta["rows"] == entry.head.rows
    assert set(meta["points"]) == set(POINTS)


def test_file_of_version_3_without_a_store_reads_as_before(path, two_days):
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (4,)
    db.close()
    shutil.rmtree(path.parent / ARCHIVE, ignore_errors=True)
    assert list(all_samples(path, POINTS[0], MIDNIGHT, MIDNIGHT + 49 * HOUR)) == truth(two_days, POINTS[0])


# The page for site engineers gives this program: it needs numpy, and nothing of ours.
PAGE = Path(__file__).parents[3] / "docs" / "historian.md"


@pytest.mark.parametrize("point", POINTS)
def test_segment_is_read_by_the_program_in_the_docs_without_ours(path, two_days, point):
    pack(path, MIDNIGHT + 49 * HOUR)
    with store_of(path) as store:
        file = store.folder / store.catalogue.of(RAW)[0].file
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    run = [sys.executable, "-I", "-c", program, str(file), point]
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=path.parent)
    told = [line.split(",") for line in done.stdout.splitlines()]
    day = [s for s in truth(two_days, point) if s.at < MIDNIGHT + 24 * HOUR]
    assert [int(t[0]) for t in told] == [to_ms(s.at) for s in day]
    assert [None if t[1] == "None" else float(t[1]) for t in told] == [s.value for s in day]
    assert [int(t[2]) for t in told] == [QUALITY_CODES[s.quality] for s in day]
    assert [int(t[3]) for t in told] == [to_ms(s.source_time) for s in day if s.source_time is not None]


def test_readings_that_move_while_a_page_is_read_are_not_missed(path, two_days, monkeypatch):
    """Packed and taken out after the store was asked, and before the file is."""
    ask = Recent.rows_of
    moved: list[int] = []

    def late(self, *args):
        if not moved:
            moved.append(pack(path, MIDNIGHT + 49 * HOUR).moved)
            assert trim(path).trimmed
        return ask(self, *args)

    monkeypatch.setattr(Recent, "rows_of", late)
    found = all_samples(path, POINTS[0], MIDNIGHT, MIDNIGHT + 49 * HOUR)
    assert list(found) == truth(two_days, POINTS[0])
    assert moved


def test_clock_that_was_a_year_ahead_leaves_packing_as_it_was(path):
    """What is recorded after it was put right is before the watermark, and still packed by whole hours."""
    ahead = MIDNIGHT + timedelta(days=365)
    record(path, snaps(ahead, 30, 120.0))
    pack(path, ahead + 26 * HOUR)
    trim(path)
    made = snaps(MIDNIGHT, 5 * 30, 120.0)
    for n in range(5):  # hour by hour
        record(path, made[30 * n : 30 * n + 30])
        for minutes in (20, 40, 60):
            pack(path, MIDNIGHT + timedelta(hours=n, minutes=minutes))
            trim(path)
    raw = [
        e for e in LedgerReader(path.parent / ARCHIVE).catalogue().of(RAW) if e.head.start_ms < to_ms(ahead)
    ]
    assert [e.head.rows for e in raw] == [90] * 4, "an hour at once; the last is recent"
    assert list(all_samples(path, POINTS[0], MIDNIGHT, MIDNIGHT + 6 * HOUR)) == truth(made, POINTS[0])
