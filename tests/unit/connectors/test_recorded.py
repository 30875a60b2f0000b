"""What devices recorded by themselves: stored once each, at its own time."""

import asyncio
import contextlib
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors import recorded as module
from connectors.historian import backlog, rows
from connectors.historian.schema import HISTORY
from connectors.historian.spool import Span, Spool
from connectors.historian.sqlite import SqliteHistoryReader, SqliteRecorder
from connectors.recorded import Batch, Collector, Mark, Receipt, Recorded, no_collector
from ems.clock import VirtualClock
from ems.records import TimeBasis
from ems.telemetry import Quality
from tests.builders import T0
from tests.unit.connectors.histories import at, command, snapshot

POINT = "bess1.breaker"
NOW = T0 + timedelta(hours=80)
AGO_72_H = NOW - timedelta(hours=72)
FOREVER = (T0 - timedelta(days=500), T0 + timedelta(days=500))


def one(value: float | None, told_at: datetime | None, **changes: Any) -> Recorded:
    return Recorded(POINT, value, Quality.GOOD, told_at)._replace(**changes)


class Rig:
    """A recorder that may be killed and started anew, and what it is told."""

    def __init__(self, path: Path) -> None:
        self.path, self.events = path, list[tuple[str, Any]]()
        self.start()

    def start(self) -> None:
        self.recorder = SqliteRecorder(self.path, clock=VirtualClock(NOW), sync=False)
        self.collector = Collector(
            "relay",
            self.recorder,
            now=lambda: NOW,
            on_event=lambda _, k, f: self.events.append((k, f["why"])),
        )

    async def take(self, *samples: Recorded, mark: Mark | None = None) -> Receipt:
        receipt = self.collector.take(samples, mark)
        await asyncio.wait_for(stored(receipt), 10.0)
        return receipt

    def told(self) -> list[tuple[float | None, Quality, timedelta, TimeBasis]]:
        """Value, quality, how long ago, and whose time."""
        with closing(SqliteHistoryReader(self.path)) as reader:
            return [
                (s.value, s.quality, NOW - s.at, s.clock) for s in reader.recorded(POINT, *FOREVER, 10**6)
            ]

    def records(self) -> list[dict[str, Any]]:
        with closing(Spool(self.path)) as spool:
            heads = spool.heads()
            found = [r for b, h in heads.items() for r in spool.records(Span(boot=b, first=1, last=h.last))]
        return [dict(r.head) for r in found if r.kind == "sample"]


async def stored(receipt: Receipt) -> None:
    done = asyncio.Event()
    receipt.then(done.set)
    await done.wait()


@pytest.fixture
def rig(tmp_path: Path):
    rig = Rig(tmp_path / "history.sqlite")
    yield rig
    rig.recorder.close()


async def test_samples_of_72_hours_ago_are_stored_at_their_own_time_and_sent_as_records(rig):
    second = timedelta(seconds=1)
    assert (
        await rig.take(one(0.0, AGO_72_H), one(1.0, AGO_72_H + second), one(0.0, AGO_72_H + second))
    ).is_stored
    good, ago = Quality.GOOD, timedelta(hours=72)
    assert rig.told() == [
        (0.0, good, ago, TimeBasis.DEVICE),
        (1.0, good, ago - second, TimeBasis.DEVICE),
        (0.0, good, ago - second, TimeBasis.DEVICE),
    ]
    records = rig.records()
    assert [r["value"] for r in records] == [0.0, 1.0, 0.0]
    assert records[1] == {
        "seq": records[1]["seq"], "kind": "sample", "at": "2026-03-05T08:00:00.000Z", "point": POINT,
        "value": 1.0, "quality": "good", "clock": "device",
        "source_at": "2026-03-02T08:00:01.000Z", "told_at": "2026-03-02T08:00:01.000Z",
    }  # fmt: skip


async def test_sample_that_comes_again_is_stored_once_over_a_restart_too(rig):
    burst = [one(float(i % 2), AGO_72_H + timedelta(milliseconds=i)) for i in range(20)]
    await rig.take(*burst[:12])
    await rig.take(*burst[8:15])
    assert rig.recorder.close()
    rig.start()
    await rig.take(*burst)
    assert [v for v, *_ in rig.told()] == [float(i % 2) for i in range(20)]
    assert len(rig.records()) == 20


@pytest.mark.parametrize(
    ("sample", "ago", "clock"),
    [
        (one(1.0, None), timedelta(), TimeBasis.NONE),
        (one(1.0, AGO_72_H, is_synchronised=False), timedelta(), TimeBasis.UNSYNCHRONISED),
        (one(1.0, NOW + timedelta(seconds=6)), timedelta(), TimeBasis.AHEAD),
        (one(1.0, NOW + timedelta(days=9000)), timedelta(), TimeBasis.AHEAD),
        (one(1.0, NOW - timedelta(days=401)), timedelta(), TimeBasis.TOO_OLD),
        (one(1.0, NOW + timedelta(seconds=4)), timedelta(seconds=-4), TimeBasis.DEVICE),
        (one(1.0, NOW - timedelta(days=399)), timedelta(days=399), TimeBasis.DEVICE),
    ],
)
async def test_time_that_is_not_believed_is_kept_and_told_and_the_sample_is_not_good(rig, sample, ago, clock):
    await rig.take(sample)
    believed = clock is TimeBasis.DEVICE
    assert rig.told() == [(1.0, Quality.GOOD if believed else Quality.STALE, ago, clock)]
    assert rig.records()[0]["told_at"] == (
        None
        if sample.told_at is None
        else sample.told_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
    doubted = clock not in (TimeBasis.DEVICE, TimeBasis.NONE)
    assert [k for k, _ in rig.events] == ["device.clock.doubted"] * doubted
    assert rig.collector.clock.startswith(clock.value) if doubted else not rig.collector.clock
    counts = rig.collector.counts
    assert (counts["sample_times_doubted"], counts["samples_without_time"]) == (
        doubted,
        clock is TimeBasis.NONE,
    )
    await rig.take(sample._replace(value=2.0))
    assert len(rig.events) == doubted, "it is told once"


async def test_wrong_clock_that_tells_one_time_after_each_start_loses_no_sample(rig):
    """A relay without a battery: five seconds after each start of 1970 it closes."""
    began = datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)
    await rig.take(one(1.0, began))
    await rig.take(one(1.0, began))
    assert [clock for *_, clock in rig.told()] == [TimeBasis.TOO_OLD] * 2


async def test_quality_of_the_device_is_kept_and_a_value_that_is_none_is_known_again(rig):
    bad = one(None, AGO_72_H, quality=Quality.DEVICE_BAD)
    await rig.take(bad, bad, one(None, None, quality=Quality.DEVICE_BAD))
    assert [q for _, q, *_ in rig.told()] == [Quality.DEVICE_BAD] * 2


async def test_mark_is_there_with_its_samples_and_after_a_restart(rig):
    assert rig.collector.mark("block") is None
    await rig.take(one(1.0, AGO_72_H), mark=Mark(name="block", text="0a"))
    await rig.take(mark=Mark(name="block", text="0b"))
    assert rig.recorder.close()
    rig.start()
    assert (rig.collector.mark("block"), rig.collector.mark("other")) == ("0b", None)


async def test_samples_beyond_the_budget_are_refused_and_counted_and_none_that_waits_is_dropped(
    rig, monkeypatch, tmp_path
):
    monkeypatch.setattr(backlog, "SAMPLES_MAX", 5)
    with holding_the_file(rig.path):
        kept = rig.collector.take([one(float(i), AGO_72_H) for i in range(4)])
        refused = rig.collector.take([one(9.0, AGO_72_H), one(10.0, AGO_72_H)])
        assert (kept.is_refused, kept.is_stored, refused.is_refused) == (False, False, True)
        assert (rig.collector.counts["samples_refused"], rig.recorder.counts()["samples_waiting"]) == (2, 4)
        for i in range(50):
            rig.recorder.intent(command(i))
    await asyncio.wait_for(stored(kept), 20.0)
    assert [v for v, *_ in rig.told()] == [0.0, 1.0, 2.0, 3.0]
    assert (rig.collector.counts["samples_waiting"], rig.recorder.counts()["samples_waiting"]) == (0, 0)
    assert not rig.collector.take([one(9.0, AGO_72_H)]).is_refused


@contextlib.contextmanager
def holding_the_file(path: Path):
    """Somebody else keeps the file locked: nothing can be written to it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


async def test_batch_that_is_tried_twice_is_written_once_and_numbered_in_the_order_of_the_device(rig):
    """A commit may have happened though it is told as failed."""
    samples = [module._judged(s, NOW) for s in (one(1.0, None), one(2.0, AGO_72_H), one(3.0, None))]
    batch = Batch(device="relay", samples=tuple(samples), mark=None, stored=lambda: None)
    assert rig.recorder.close()
    with closing(sqlite3.connect(rig.path, isolation_level=None)) as db:
        writer = rows.RowWriter(db, 1)
        for _ in range(2):
            writer.write([(30, rows.Kind.RECORDED, batch)])
    rig.start()
    assert [r["value"] for r in rig.records()] == [1.0, 2.0, 3.0]
    assert sorted(v for v, *_ in rig.told()) == [1.0, 2.0, 3.0]


async def test_newest_are_found_by_time_and_all_are_records(rig, monkeypatch):
    monkeypatch.setattr(rows, "RECORDED_MAX", 3)
    await rig.take(*(one(float(i), AGO_72_H + timedelta(seconds=i)) for i in range(5)))
    assert [v for v, *_ in rig.told()] == [2.0, 3.0, 4.0]
    assert len(rig.records()) == 5


async def test_snapshots_and_what_is_newest_know_nothing_of_samples(rig):
    """An old event never becomes the present value, and nothing that was counted changes."""
    rig.recorder.readings(snapshot(0.0, bess1__breaker=1.0))
    await rig.take(one(0.0, at(0.0)), one(0.0, at(5.0)), one(0.0, NOW))
    with closing(SqliteHistoryReader(rig.path)) as reader:
        assert reader.latest()[POINT].value == 1.0
        assert [(s.at, s.value) for s in reader.series(POINT, *FOREVER, 10)] == [(T0, 1.0)]
        assert [b.count for b in reader.buckets(POINT, *FOREVER, 60)] == [1]


async def test_loss_at_the_device_is_an_event_and_stands_for_a_while(rig, monkeypatch):
    assert rig.collector.loss == ""
    rig.collector.lost("buffer overflow")
    assert rig.collector.loss == "buffer overflow"
    rig.collector.lost("again")
    assert rig.collector.loss == "again"
    assert rig.events == [("device.records.lost", "buffer overflow")], "it may say so with every message"
    monkeypatch.setattr(module, "LOSS_EVERY_S", 0.0)
    rig.collector.lost("and again")
    assert rig.events[1:] == [("device.records.lost", "and again")]
    monkeypatch.setattr(module, "TOLD_S", 0.0)
    assert rig.collector.loss == ""
    assert rig.collector.counts["samples_lost"] == 3


async def test_nobody_who_keeps_samples_takes_none(rig):
    collector = no_collector()
    assert (collector.is_on, collector.counts, collector.mark("x")) == (False, {}, None)
    assert collector.take([one(1.0, AGO_72_H)]).is_stored


async def test_file_of_version_3_is_read_and_extended(rig):
    assert rig.recorder.close()
    with closing(sqlite3.connect(rig.path)) as db:
        db.executescript("DROP VIEW samples; DROP TABLE sample; DROP TABLE recorded; DROP TABLE mark;")
        db.execute("PRAGMA user_version=3")
    assert rig.told() == []
    assert rig.collector.mark("block") is None
    rig.start()
    await rig.take(one(1.0, AGO_72_H))
    assert [v for v, *_ in rig.told()] == [1.0]
    with closing(sqlite3.connect(rig.path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (HISTORY.version,)
        assert db.execute("SELECT point, value, clock, quality FROM samples").fetchall() == [
            (POINT, 1.0, "device", "good")
        ]
