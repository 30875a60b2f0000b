"""A rogue controlling station: spoilt frames, floods, drops, silence. Nothing gets through, nobody waits."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.iec104.asdu import ASKED, Cause, Type, single
from connectors.iec104.frames import MODULUS, Function, Numbered, Supervisory, Unnumbered, first_frame, packed
from connectors.northbound import iec104_server
from connectors.northbound.client import Client
from connectors.northbound.guard import Budget
from connectors.northbound.iec104_server import BUFFERED_MAX, Iec104Connection
from connectors.northbound.iec104_session import REPLIES_MAX
from connectors.northbound.iec104_station import Station
from connectors.northbound.records import FILE, RecordsReader
from ems.clock import SystemClock
from ems.iec104 import Iec104Times
from ems.northbound import Door
from ems.northbound_iec104 import Iec104Server
from ems.site import Site
from tests.contract.northbound_104_peer import (
    COMMANDS,
    FIELDS,
    ROWS,
    STATION,
    VALUES,
    Raw,
    interrogation,
    moved,
    refused_last,
    serving,
    setpoint,
)
from tests.contract.northbound_peer import PLAIN_WRITES, with_limit
from tests.unit.connectors.northbound_fake import Plant

pytestmark = pytest.mark.scenario(64)
FRAMES, FRAMES_SOAK = 20_000, 1_000_000
READ = single(Type.C_RD_NA, Cause.REQUEST, STATION, 11, b"")


class Sink(asyncio.Transport):
    """Where answers go; each is a whole frame, and they are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.numbered, self.open = 0, True

    def write(self, data: Any) -> None:
        rest = bytes(data)
        while rest:
            found = first_frame(rest)
            assert found is not None
            frame, size = found
            if isinstance(frame, Numbered):
                assert frame.sent == self.numbered % MODULUS
                self.numbered += 1
            rest = rest[size:]

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == BUFFERED_MAX

    def pause_reading(self) -> None:
        raise AssertionError("its budget is endless")

    def resume_reading(self) -> None:
        pass

    def abort(self) -> None:
        self.open = False


class Rogue:
    """Frames without end: sound ones in their order, with now and then something turned."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._asdus = [
            interrogation(), interrogation(5, kind=Type.C_CI_NA), READ, setpoint(5.0),
            setpoint(5.0, select=True), setpoint(5.0, kind=Type.C_SE_TC, tail=bytes(7)),
            single(Type.C_TS_TA, 6, STATION, 0, bytes(9)), single(Type.C_CS_NA, 6, STATION, 0, bytes(7)),
            b"\x2d\x01\x06\x00\x07\x00\x1f\x00\x00\x01",
        ]  # fmt: skip
        self.sent = 0

    def begin(self) -> bytes:
        self.sent = 0
        return packed(Unnumbered(Function.STARTDT_ACT))

    def next(self, sink: Sink) -> bytes:
        """Bytes to send; those that break the order of the connection are rare, or it would never be long."""
        rng, kind = self._rng, self._rng.random()
        if kind > 0.99:
            return rng.randbytes(rng.randrange(1, 300))
        if kind > 0.98:  # numbers out of their window
            return packed(Numbered(rng.randrange(MODULUS), rng.randrange(MODULUS), rng.choice(self._asdus)))
        if kind > 0.97:
            return packed(Supervisory(rng.randrange(MODULUS)))
        if kind > 0.94:
            return packed(Unnumbered(rng.choice((Function.TESTFR_ACT, Function.TESTFR_CON, *Function))))
        if kind > 0.93:
            return packed(Unnumbered(Function.STOPDT_ACT)) + packed(Unnumbered(Function.STARTDT_ACT))
        asdu = bytearray(rng.choice(self._asdus) if kind > 0.1 else self._strange())
        for _ in range(rng.choice((0, 0, 1, 2))):
            asdu[rng.randrange(len(asdu))] = rng.randrange(256)
        raw = packed(Numbered(self.sent, sink.numbered % MODULUS, bytes(asdu)))
        self.sent = (self.sent + 1) % MODULUS
        return raw[: rng.randrange(1, len(raw))] if rng.random() < 0.002 else raw

    def _strange(self) -> bytes:
        """Of a type that is known, or is not, with what does not belong to it."""
        rng = self._rng
        kind = rng.choice((*ASKED, rng.randrange(256)))
        body = rng.randbytes(rng.choice((3, 4, 8, 10, rng.randrange(1, 240))))
        return (
            bytes((kind, rng.choice((1, 1, 1, 0, 0x81, 2)), rng.choice((6, 6, 5, 8, 70)), 0, STATION, 0))
            + body
        )


async def bombard(demo: Site, directory: Path, count: int, seed: int) -> None:
    """So many frames into connections that may write nothing; nothing gets through."""
    clock = SystemClock()
    plant = Plant(directory, clock)
    server = Iec104Server(
        id="scada", door=Door(host="127.0.0.1", port=0), station=STATION, rows=ROWS, commands=COMMANDS,
        writes=replace(PLAIN_WRITES, plain_from=("10.0.0.5",)), events_max=100,
    )  # fmt: skip
    station = Station(with_limit(demo), server, plant.board, plant.door, plant.records, now=clock.now)
    plant.cycle(**VALUES, fields=FIELDS)
    station.refresh()
    client, rogue = Client(server="scada", address="::66"), Rogue(random.Random(seed))
    sink, connections, numbered = Sink(), 0, 0
    among: set[Iec104Connection] = set()
    connection: Iec104Connection | None = None
    for i in range(count):
        if connection is None or not sink.open:
            if connection is not None:
                connection.connection_lost(None)
            numbered += sink.numbered
            sink, connections = Sink(), connections + 1
            connection = Iec104Connection(
                station, plant.records, budget=Budget(1e9, clock.monotonic_s), among=among,
                leave=lambda: None, monotonic_s=clock.monotonic_s,
            )  # fmt: skip
            connection.connection_made(sink)
            connection.begin(client)
            connection.data_received(rogue.begin())
        connection.data_received(rogue.next(sink))
        if i % 1000 == 0:
            moved(plant, grid1__p_kw=float(i % 7000))
            station.refresh()
            for one in among:
                one.flush()
            plant.records.flush([])
    assert len(among) <= 1
    assert station.started <= 1
    assert count / 1000 < connections < count / 5
    assert numbered > count / 2
    assert min(station.reads, station.writes) > count / 20
    assert plant.desk.collect() == []
    assert plant.records.count > count / 20
    plant.records.flush([])
    assert len(RecordsReader(directory / FILE).refusals(10**6)) < max(0.05 * count, 2000)
    plant.close()


async def test_frames_at_random_crash_nothing_and_write_nothing(demo, tmp_path):
    await bombard(demo, tmp_path, FRAMES, 104)


@pytest.mark.soak
async def test_a_million_frames_at_random_crash_nothing_and_write_nothing(demo, tmp_path):
    await bombard(demo, tmp_path, FRAMES_SOAK, 1040)


@pytest.mark.parametrize(
    ("send", "waits"),
    [
        (lambda: packed(Numbered(0, 0, READ))[:9], "partly"),
        (lambda: packed(Unnumbered(Function.STARTDT_CON)), "at once"),
        (lambda: packed(Numbered(0, 0, READ)), "at once"),  # before it is started
        (lambda: packed(Supervisory(1)), "at once"),
        (lambda: b"\x68\xff", "at once"),
        (lambda: b"GET / HTTP/1.1\r\n\r\n", "at once"),
        (lambda: b"\x16\x03\x01\x02\x00\x01\x00", "at once"),  # TLS at a plain port
    ],
    ids=["half a frame", "lone answer", "not started", "nothing flies", "too long", "http", "tls"],
)
async def test_connection_that_is_none_is_ended_and_recorded(
    demo, tmp_path, monkeypatch, send: Callable[[], bytes], waits: str
):
    monkeypatch.setattr(iec104_server, "FRAME_S", 0.3)
    async with serving(demo, tmp_path) as (port, plant):
        rogue = await Raw.to(port, start=False)
        rogue.writer.write(send())
        assert await rogue.ended()
        assert plant.records.count == (waits == "at once")
        await rogue.close()


async def test_bytes_in_drops_end_the_connection_though_each_comes_in_time(demo, tmp_path, monkeypatch):
    monkeypatch.setattr(iec104_server, "FRAME_S", 0.4)
    async with serving(demo, tmp_path) as (port, _):
        rogue = await Raw.to(port)

        async def drip() -> None:
            for byte in packed(Numbered(0, 0, READ)) * 100:
                rogue.writer.write(bytes((byte,)))
                await asyncio.sleep(0.1)

        task = asyncio.create_task(drip())
        assert await rogue.ended()
        assert not task.done()
        task.cancel()
        await rogue.close()


async def test_client_that_asks_and_confirms_nothing_is_ended(demo, tmp_path):
    async with serving(demo, tmp_path, requests_per_s=1000.0, times=Iec104Times(k=3)) as (port, plant):
        rogue = await Raw.to(port)
        for _ in range(REPLIES_MAX + 5):
            rogue.send(READ)
        assert await rogue.ended()
        assert "confirms none" in refused_last(plant).why
        assert rogue.received == 3
        await rogue.close()


async def test_client_that_floods_and_takes_no_answers_costs_the_others_nothing(demo, tmp_path):
    async with serving(demo, tmp_path, requests_per_s=1000.0) as (port, _):
        greedy, good = await Raw.to(port, start=False), await Raw.to(port)
        greedy.reader._transport.pause_reading()  # type: ignore[attr-defined]
        test = packed(Unnumbered(Function.TESTFR_ACT))

        async def flood() -> None:
            with contextlib.suppress(OSError):
                while True:
                    greedy.writer.write(test * 10_000)
                    await greedy.writer.drain()

        task = asyncio.create_task(flood())
        for _ in range(20):
            good.send(READ)
            await good.asdu(Cause.REQUEST)
        task.cancel()
        for one in (greedy, good):
            await one.close()


async def test_client_that_takes_nothing_is_sent_nothing_more_and_ended(demo, tmp_path):
    async with serving(demo, tmp_path) as (_, plant):
        now_s = [0.0]
        connection = Iec104Connection(
            plant.serving.station, plant.records, budget=Budget(1e9, lambda: now_s[0]), among=set(),
            leave=lambda: None, monotonic_s=lambda: now_s[0],
        )  # fmt: skip
        sink = Sink()
        sink.pause_reading = lambda: None  # type: ignore[method-assign]
        connection.connection_made(sink)
        connection.begin(Client(server="scada", address="::66"))
        connection.data_received(packed(Unnumbered(Function.STARTDT_ACT)))
        connection.pause_writing()
        connection.data_received(packed(Numbered(0, 1, READ)))
        moved(plant, grid1__p_kw=1.0)
        plant.serving.station.refresh()
        connection.flush()
        assert sink.numbered == 1
        assert connection.overdue(iec104_server.FRAME_S) == ""
        assert "taken nothing" in connection.overdue(iec104_server.FRAME_S + 0.1)
        connection.resume_writing()
        assert sink.numbered == 3
        assert connection.overdue(1000.0) == ""
        connection.connection_lost(None)


async def test_connections_without_end_are_refused_and_a_client_that_is_in_stays(demo, tmp_path):
    async with serving(demo, tmp_path, per_client_max=3) as (port, plant):
        good = await Raw.to(port)
        many = [await Raw.to(port, start=False) for _ in range(30)]
        assert all(await asyncio.gather(*(m.ended() for m in many[2:])))
        good.send(READ)
        await good.asdu(Cause.REQUEST)
        assert plant.records.count == 28
        for one in (good, *many):
            await one.close()


async def test_writes_without_end_leave_one_message_for_the_edge(demo, tmp_path):
    async with serving(demo, tmp_path, requests_per_s=1000.0) as (port, plant):
        mad = await Raw.to(port)
        answers: list[bytes] = []
        for i in range(20):
            mad.send(setpoint(float(i)))
        while len(answers) < 19:
            answers.append(await mad.asdu(Cause.ACTIVATION_CON))
        assert all(a[2] & 0x40 for a in answers)
        (one,) = plant.desk.collect()
        assert one.request.ask.value_kw < 20.0  # type: ignore[union-attr]
        await mad.close()
