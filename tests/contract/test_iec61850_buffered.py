"""Buffered reports of IEC 61850 as history: libiec61850 keeps them, and goes on where it was left."""

import asyncio
import dataclasses
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from open61850 import ber
from open61850 import data as iec
from open61850.mms import pdu
from open61850.mms.errors import DataAccessError
from open61850.mms.pdu import ObjectName
from open61850.mms.report import OptFlds, Report, ReportEntry, bitstring_of
from open61850.server import protocol as served

from connectors import recorded
from connectors.field import FieldIO
from connectors.historian import backlog
from connectors.historian.sqlite import SqliteHistoryReader, SqliteRecorder
from connectors.iec61850 import buffered
from connectors.iec61850.buffered import Entries
from connectors.iec61850.mms import FAULTS, unconfirmed
from connectors.iec61850.places import Place, Spot
from connectors.point_map import PointCodec, point_codecs
from connectors.recorded import Collector
from ems.clock import VirtualClock, wall_sleep
from ems.iec61850_reference import Block, parse_block
from ems.records import DeviceSample, TimeBasis
from ems.site import MmsReports
from ems.telemetry import Quality, Reading
from tests.builders import T0
from tests.contract.fake_ied import spoiled
from tests.contract.kept_samples import Kept
from tests.contract.libiec_plant import LibIecServer
from tests.contract.plants import site_of
from tests.contract.test_dnp3_events import stored_by, stuck
from tests.contract.test_iec61850_peer import connection, row

NOW = T0 + timedelta(hours=80)
AGO_72_H_MS = round((NOW - timedelta(hours=72)).timestamp() * 1000)
FOREVER = (T0 - timedelta(days=500), T0 + timedelta(days=500))
EVENTS = "BESSDER/LLN0.brcbEvents [BR]"
SOUND = {"unsynchronised": False, "failed": False}
ROWS = (row("sw", "GGIO1.Ind1.stVal [ST]", "BOOLEAN"), row("p", "MMXU1.TotW.mag.f [MX]", "FLOAT32"))


class Rig:
    """A connection with a buffered block, and the historian; both may be ended and started anew."""

    def __init__(self, path: Path, port: int, *blocks: str) -> None:
        self.path, self.events = path, list[str]()
        self.connection = dataclasses.replace(
            connection(port, 2.0), points=ROWS,
            reports=MmsReports(blocks=(), integrity_s=1.0, buffered=blocks or (EVENTS,)),
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        self.clock = VirtualClock(NOW)
        self.recorder = SqliteRecorder(self.path, clock=self.clock, sync=False)
        self.io = FieldIO(
            site_of(self.connection), clock=self.clock, back_off_s_max=0.1, samples=self.recorder,
            on_event=lambda _, kind, fields: self.events.append(kind),
        )  # fmt: skip
        listening: Any = self.io._devices["dev"]._link
        self._associate = listening._buffered._associate
        listening._buffered._associate = self._associated

    async def _associated(self, on_report: Any) -> Any:
        self.association = await self._associate(on_report)
        return self.association

    async def read(self) -> dict[str, Reading]:
        self.clock.advance(1.0)
        return {r.point.removeprefix("dev."): r for r in await self.io.read_all()}

    async def until(self, count: int) -> None:
        """Until so many switchings are stored."""
        async with asyncio.timeout(30.0):
            while len(self.seen()) < count:
                await self.read()
                await wall_sleep(0.02)

    async def listens(self) -> None:
        async with asyncio.timeout(30.0):
            while not self.count("blocks_buffered"):
                await self.read()
                await wall_sleep(0.02)

    def samples(self) -> list[DeviceSample]:
        with closing(SqliteHistoryReader(self.path)) as reader:
            return list(reader.recorded("dev.sw", *FOREVER, 10**6))

    def seen(self) -> list[tuple[int, float | None]]:
        told = [s for s in self.samples() if s.clock is TimeBasis.DEVICE]
        return [(round(s.at.timestamp() * 1000) - AGO_72_H_MS, s.value) for s in told]

    def count(self, name: str) -> Any:
        return self.io.links()["dev"][name]

    async def stop(self) -> None:
        await self.io.close()
        assert self.recorder.close()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[LibIecServer]:
    server = LibIecServer()
    await server.start()
    assert await server.ask("listen") is True
    yield server
    await server.stop()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(buffered, "AGAIN_S", 0.1)
    monkeypatch.setattr(recorded, "LOSS_EVERY_S", 0.0)


async def switch(server: LibIecServer, first: int, count: int, **clock: bool) -> None:
    """A switch that opens and closes, each at a millisecond of its own, 72 hours ago."""
    rows = [(i % 2 == 0, AGO_72_H_MS + i) for i in range(first, first + count)]
    await server.ask("change", rows=rows, clock={**SOUND, **clock})


def switched(count: int) -> list[tuple[int, float]]:
    return [(i, float(i % 2 == 0)) for i in range(count)]


@pytest.mark.needs_server
async def test_what_was_kept_before_anybody_listened_comes_in_order_and_is_no_present_value(server, tmp_path):
    await switch(server, 0, 31)
    rig = Rig(tmp_path / "history.sqlite", server.port)
    readings = await rig.read()
    assert (readings["sw"].value, readings["sw"].quality) == (1.0, Quality.GOOD)
    await rig.until(31)
    assert rig.seen() == switched(31)
    assert {s.quality for s in rig.samples() if s.clock is TimeBasis.DEVICE} == {Quality.GOOD}
    assert "device.records.lost" not in rig.events, "the first reading of a buffer is no loss"
    await switch(server, 31, 3)
    await rig.until(34)
    assert (rig.count("blocks_buffered"), rig.count("buffered_refused")) == (1, 0)
    await rig.stop()


@pytest.mark.needs_server
async def test_line_cut_and_client_ended_in_a_burst_nothing_is_lost_or_stored_twice(server, tmp_path):
    rig = Rig(tmp_path / "history.sqlite", server.port)
    await rig.listens()
    for i in range(6):
        await switch(server, 10 * i, 10)
        if i % 3 == 1:
            rig.association.abort()
            await rig.read()
        if i % 3 == 2:
            await rig.stop()
            rig.start()
    await rig.until(60)
    assert rig.seen() == switched(60)
    await rig.stop()
    assert "device.records.lost" not in rig.events
    rig.start()
    await rig.listens()
    assert rig.seen() == switched(60), "the entry that was read last is known after a restart"
    assert rig.count("buffered_reports") == 0
    await rig.stop()


CLIENT = """
import asyncio, sys
from pathlib import Path
from tests.contract.test_iec61850_buffered import Rig

async def main():
    rig = Rig(Path(sys.argv[1]), int(sys.argv[2]))
    while True:
        await rig.read()
        await asyncio.sleep(0.005)
        print(len(rig.seen()), flush=True)

asyncio.run(main())
"""


@pytest.mark.needs_server
async def test_client_that_is_killed_in_a_burst_stores_each_entry_once(server, tmp_path):
    path = tmp_path / "history.sqlite"
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, str(path), str(server.port), stdout=asyncio.subprocess.PIPE
    )
    await switch(server, 0, 20)
    await stored_by(client, 20)
    await switch(server, 20, 200)
    client.send_signal(signal.SIGKILL)
    await client.wait()
    rig = Rig(path, server.port)
    first = len(rig.seen())
    assert first >= 20
    await rig.until(220)
    assert rig.seen() == switched(220)
    assert rig.count("buffered_reports") <= 220 - first, "it went on where it was"
    assert "device.records.lost" not in rig.events
    await rig.stop()


@pytest.mark.needs_server
async def test_buffer_that_overflows_while_nobody_listens_is_told(server, tmp_path):
    rig = Rig(tmp_path / "history.sqlite", server.port)
    await rig.listens()
    await switch(server, 0, 2)
    await rig.until(2)
    await rig.stop()
    await switch(server, 2, 4000)
    rig.start()
    await rig.listens()
    async with asyncio.timeout(30.0):
        while (4001, 0.0) not in rig.seen():
            await rig.read()
    assert rig.events.count("device.records.lost") >= 1
    assert EVENTS in rig.io.losses()["dev"]
    kept = rig.seen()
    assert kept == [one for one in switched(4002) if one in kept], "those that were kept, in order"
    await rig.stop()


@pytest.mark.needs_server
async def test_block_that_somebody_else_has_or_that_is_not_there_is_told_and_tried_again(server, tmp_path):
    first = Rig(tmp_path / "first.sqlite", server.port)
    await first.listens()
    others = ("BESSDER/LLN0.nothing [BR]", "BESSDER/LLN0.brcbParts [BR]")
    rig = Rig(tmp_path / "history.sqlite", server.port, EVENTS, *others)
    async with asyncio.timeout(30.0):
        while rig.count("buffered_refused") != 3:
            await rig.read()
            await wall_sleep(0.02)
    assert (await rig.read())["sw"].quality is Quality.GOOD, "it is polled"
    await switch(server, 0, 4)
    await first.until(4)
    await first.stop()
    await switch(server, 4, 4)
    await rig.until(8)
    assert rig.seen() == switched(8)
    assert rig.count("buffered_refused") == 2
    await rig.stop()


@pytest.mark.needs_server
async def test_disk_that_takes_nothing_leaves_the_rest_with_the_device(server, tmp_path, monkeypatch):
    monkeypatch.setattr(backlog, "SAMPLES_MAX", 3)
    rig = Rig(tmp_path / "history.sqlite", server.port)
    await rig.listens()
    await rig.until(0)
    rig.recorder.flush()
    with stuck(rig.path):
        await switch(server, 0, 20)
        async with asyncio.timeout(30.0):
            while not rig.count("buffered_refused"):
                assert (await rig.read())["sw"].is_good
                await wall_sleep(0.02)
    await rig.until(20)
    assert rig.seen() == switched(20)
    assert "device.records.lost" not in rig.events
    await rig.stop()


@pytest.mark.needs_server
async def test_time_of_a_clock_that_is_not_set_is_told_and_not_believed(server, tmp_path):
    rig = Rig(tmp_path / "history.sqlite", server.port)
    await rig.listens()
    await switch(server, 0, 1, unsynchronised=True)
    async with asyncio.timeout(30.0):
        while TimeBasis.UNSYNCHRONISED not in (found := {s.clock: s for s in rig.samples()}):
            await rig.read()
    sample = found[TimeBasis.UNSYNCHRONISED]
    assert (sample.value, sample.quality) == (1.0, Quality.STALE)
    assert sample.told_at == datetime.fromtimestamp(AGO_72_H_MS / 1000, UTC)
    assert "unsynchronised" in rig.io.wrong_clocks()["dev"]
    await rig.stop()


@pytest.mark.needs_server
async def test_device_that_dies_and_comes_back_is_listened_to_again(server, tmp_path):
    rig = Rig(tmp_path / "history.sqlite", server.port)
    await rig.listens()
    await switch(server, 0, 1)
    await rig.until(1)
    await server.stop()
    async with asyncio.timeout(30.0):
        while rig.count("blocks_buffered"):
            await rig.read()
            await wall_sleep(0.02)
    await server.start()
    assert await server.ask("listen") is True
    await switch(server, 2, 4)  # it begins with the switch off
    await rig.until(5)
    assert rig.seen() == [one for one in switched(6) if one[0] != 1]
    assert "not kept any more" in rig.io.losses()["dev"], "it has forgotten what it told"
    await rig.stop()


# ---- the entries alone ------------------------------------------------------------------------------

BLOCK = Block("LD0", "LLN0", "brcb01", "BR")
VALUE, Q, T = (ObjectName(f"GGIO1$ST$Ind1${part}", "LD0") for part in ("stVal", "q", "t"))
GOOD = iec.BitStringData(bytes(2), 3)
AT = NOW - timedelta(hours=1)


def entries(
    store: Kept, *, members: tuple[ObjectName, ...] = (VALUE, Q, T), is_resumed: bool = True
) -> tuple[Entries, list[str]]:
    codec: PointCodec = point_codecs(dataclasses.replace(connection(1), points=ROWS))["dev.sw"]
    spots = [Spot(m, ()) if m in members else None for m in (VALUE, Q, T)]
    assert spots[0] is not None
    place = Place(VALUE, VALUE, spots[0], spots[1], spots[2], 9)
    losses: list[str] = []
    collector = Collector(
        "dev", store, now=lambda: NOW, on_event=lambda _, __, fields: losses.append(str(fields["why"]))
    )
    return (
        Entries(
            BLOCK,
            ["events"],
            members,
            [(codec, place)],
            revision=7,
            is_resumed=is_resumed,
            collector=collector,
        ),
        losses,
    )


def report(number: int, told: dict[int, Any], **changes: Any) -> Report:
    known: dict[str, Any] = {
        "rpt_id": "events", "opt_flds": OptFlds(), "seq_num": number, "time_of_entry": AT, "buf_ovfl": False,
        "entry_id": bytes([number % 256]), "conf_rev": 7, "inclusion": [i in told for i in range(3)],
        "entries": [ReportEntry(i, value) for i, value in told.items()],
    }  # fmt: skip
    return Report(**{**known, **changes})


def stamp(at: datetime) -> iec.TimestampData:
    return iec.TimestampData(at)


ON, OFF = iec.BoolData(True), iec.BoolData(False)


async def test_parts_are_put_together_from_what_was_told_and_timed_by_the_entry():
    store = Kept()
    book, _ = entries(store)
    book.take(report(1, {0: ON}))
    book.take(report(2, {0: OFF, 1: GOOD, 2: stamp(AT - timedelta(seconds=9))}))
    book.take(report(3, {0: ON}))
    book.take(report(4, {1: iec.BitStringData(bytes([0x40, 0]), 3)}))
    assert store.told == [
        (1.0, Quality.STALE, AT),  # its quality was told before we listened
        (0.0, Quality.GOOD, AT - timedelta(seconds=9)),
        (1.0, Quality.GOOD, AT),
        (None, Quality.DEVICE_BAD, AT),
    ]
    assert store.marks == ["01", "02", "03", "04"]


async def test_report_in_parts_is_marked_with_its_last():
    store = Kept()
    book, losses = entries(store)
    first = report(1, {0: ON}, sub_seq_num=0, more_segments_follow=True)
    book.take(first)
    assert (store.marks, len(store.told)) == ([], 1)
    book.take(report(1, {1: GOOD}, sub_seq_num=1, more_segments_follow=False))
    book.take(report(2, {0: OFF}))
    assert (store.marks, losses) == (["01", "02"], [])


async def test_overflow_and_missing_reports_are_told_and_what_comes_is_kept():
    store = Kept()
    book, losses = entries(store)
    book.take(report(1, {0: ON}))
    book.take(report(2, {0: OFF}, buf_ovfl=True))
    book.take(report(5, {0: ON}))
    book.take(report(6, {0: OFF}))
    assert [why.partition(": ")[2] for why in losses] == [
        "its buffer overflowed (BufOvfl)",
        "reports are missing: 2, then 5",
    ]
    assert len(store.told) == 4


@pytest.mark.parametrize(("is_resumed", "count"), [(True, 1), (False, 0)])
async def test_overflow_of_the_first_report_is_one_where_the_block_was_read_before(is_resumed, count):
    book, losses = entries(Kept(), is_resumed=is_resumed)
    book.take(report(65535, {0: ON}, buf_ovfl=True))
    book.take(report(0, {0: OFF}))
    assert len(losses) == count


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"inclusion": [True, False]}, "a report of 2 members, the data set has 3"),
        ({"conf_rev": 8}, "configured anew: revision 8, it was 7"),
        ({"entry_id": None}, "a report without its EntryID"),
    ],
)
async def test_report_that_is_not_what_was_agreed_ends_the_block_and_is_not_marked(changes, why):
    store = Kept()
    book, _ = entries(store)
    book.take(report(1, {0: ON}, **changes))
    book.take(report(2, {0: ON}))
    assert (book.fault, store.batches, book.entry) == (why, [], b"")


async def test_report_that_finds_no_room_is_left_with_the_device():
    store = Kept()
    book, _ = entries(store)
    book.take(report(1, {0: ON}))
    store.is_full = True
    book.take(report(2, {0: OFF}))
    store.is_full = False
    book.take(report(3, {0: ON}))
    assert (book.entry, store.marks, book.fault) == (b"\x01", ["01"], "held up: too much waits for the disk")


async def test_value_that_cannot_be_told_is_stored_as_bad():
    store = Kept()
    book, _ = entries(store)
    book.take(report(1, {0: DataAccessError(2), 1: GOOD}))
    assert store.told == [(None, Quality.DEVICE_BAD, AT)]


@pytest.mark.parametrize("count", [500, pytest.param(1_000_000, marks=pytest.mark.soak)])
async def test_torn_reports_are_refused_or_tell_nothing_but_what_was_told(count):
    """Whatever is lost of a report, or added: it never raises, and no other value is stored."""
    rng = random.Random(61850)
    fields: list[iec.IECData] = [
        iec.VisibleStringData("events"),
        bitstring_of([False, True, False, False, False, False, True, True, True, False]),
        iec.UIntData(4), iec.BoolData(False), iec.OctetStringData(bytes(8)), iec.UIntData(7),
        bitstring_of([True, True, False]), ON, GOOD,
    ]  # fmt: skip
    whole = pdu.wrap(served.information_report([*fields], list_name="RPT"))
    assert [s.value for s in await torn(whole)] == [1.0]
    refused = 0
    for _ in range(count):
        try:
            samples = await torn(spoiled(rng, whole))
        except FAULTS:
            refused += 1
            continue
        assert {s.value for s in samples} <= {0.0, 1.0, None}
    assert count // 5 < refused < count


async def torn(raw: bytes) -> list[DeviceSample]:
    """What a message of these bytes has stored."""
    store = Kept()
    book, _ = entries(store)
    listening = buffered.BufferedReports([BLOCK], [], None)  # type: ignore[arg-type]
    listening._on[BLOCK] = book
    listening._heard(unconfirmed(ber.decode_tlv(pdu.unwrap(raw)).value))
    return store.samples


def test_blocks_are_named_with_their_kind():
    assert str(parse_block("A/LLN0.b1 [BR]", "BR")) == "A/LLN0.b1 [BR]"
    assert parse_block("A/LLN0.b1 [BR]", "BR").mms_name == "LLN0$BR$b1"
