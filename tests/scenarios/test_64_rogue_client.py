"""64: a rogue client on our own server: nothing of it reaches the edge, all of it is bounded and recorded."""

import asyncio
import contextlib
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.northbound import modbus_server
from connectors.northbound.client import Client
from connectors.northbound.guard import Budget
from connectors.northbound.modbus_server import BUFFERED_MAX, ModbusConnection, ModbusFace
from connectors.northbound.records import FILE, RecordsReader
from connectors.northbound.registers import RegisterMap, rows_of
from ems.clock import SystemClock
from ems.northbound import Door, ModbusServer
from ems.site import Site
from ems.site_schema import load_site
from tests.contract.northbound_peer import (
    DSO_AT,
    GRID_AT,
    PLAIN_WRITES,
    Raw,
    framed,
    read_pdu,
    refused,
    serving,
    with_limit,
    words,
    write_pdu,
)
from tests.unit.connectors.northbound_fake import Plant

pytestmark = pytest.mark.scenario(64)
DEMO = Path(__file__).resolve().parents[2] / "sites" / "demo" / "site.yaml"
FRAMES, FRAMES_SOAK = 100_000, 1_000_000
WRITE = write_pdu(DSO_AT, *words(5.0))


@pytest.fixture(scope="module")
def demo() -> Site:
    return load_site(DEMO)


class Sink(asyncio.Transport):
    """Where answers go; counts what it was handed."""

    def __init__(self) -> None:
        super().__init__()
        self.answers, self.paused, self.open = 0, False, True

    def write(self, data: Any) -> None:
        assert 9 <= len(data) <= 260
        self.answers += 1

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == BUFFERED_MAX

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def abort(self) -> None:
        self.open = False


def hostile(rng: random.Random) -> Iterator[bytes]:
    """Frames without end: noise, requests with something turned, writes to whatever there is."""
    sound = [read_pdu(GRID_AT, 4), read_pdu(0, 125), WRITE, write_pdu(GRID_AT, 1, 2), b"\x06\x00\xc8\x00\x05"]
    while True:
        kind = rng.random()
        pdu = rng.choice(sound) if kind < 0.6 else rng.randbytes(rng.randrange(1, 253))
        raw = bytearray(framed(pdu, unit=1 if kind < 0.95 else rng.randrange(256)))
        for _ in range(rng.choice((0, 0, 1, 2))):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        if kind > 0.97:
            raw = bytearray(rng.randbytes(rng.randrange(1, 300)))
        yield bytes(raw[: rng.randrange(1, len(raw) + 1)]) if rng.random() < 0.02 else bytes(raw)


async def bombard(demo: Site, directory: Path, count: int, seed: int) -> None:
    """So many frames into connections that may write nothing; nothing gets through."""
    clock = SystemClock()
    plant = Plant(directory, clock)
    rights = replace(PLAIN_WRITES, plain_from=("10.0.0.5",))
    site = with_limit(demo)
    server = ModbusServer(id="ppc", door=Door(host="127.0.0.1", port=0), unit_id=1, writes=rights)
    map = RegisterMap(rows_of(site, server))
    face = ModbusFace(server, map, plant.board, plant.door, now=clock.now, identity=("us", "us", "1"))
    plant.cycle(grid1__p_kw=1.0)
    rogue, sink, connections = Client(server="ppc", address="10.0.0.66"), Sink(), 0
    connection: ModbusConnection | None = None
    frames = hostile(random.Random(seed))
    for i in range(count):
        if connection is None or not sink.open:
            sink, connections = Sink(), connections + 1
            connection = ModbusConnection(
                face, plant.records, budget=Budget(1e9, clock.monotonic_s), idle_s=60.0,
                leave=lambda: None, monotonic_s=clock.monotonic_s,
            )  # fmt: skip
            connection.connection_made(sink)
            connection.begin(rogue)
        connection.data_received(next(frames))
        if i % 10_000 == 0:
            plant.records.flush([])
            plant.cycle(grid1__p_kw=1.0)
    assert connections > count / 1000  # bad frames have ended them, and only those
    assert face.reads > count / 10
    assert face.writes > count / 10
    assert plant.desk.collect() == []
    assert plant.records.count > count / 10
    plant.records.flush([])
    assert len(RecordsReader(directory / FILE).refusals(10**6)) < 0.05 * count
    plant.close()


async def test_frames_at_random_crash_nothing_and_write_nothing(demo, tmp_path):
    await bombard(demo, tmp_path, FRAMES, 64)


@pytest.mark.soak
async def test_a_million_frames_at_random_crash_nothing_and_write_nothing(demo, tmp_path):
    await bombard(demo, tmp_path, FRAMES_SOAK, 640)


async def test_writes_that_are_refused_say_who_from_where_what_and_why(demo, tmp_path):
    async with serving(demo, tmp_path) as (port, plant):  # a server that is read-only
        rogue = await Raw.to(port)
        for _ in range(20):
            assert await rogue.ask(WRITE) == refused(16, 2)
        await rogue.close()
        assert plant.desk.collect() == []
        plant.records.flush([])
        found = RecordsReader(tmp_path / FILE).refusals(100)
        assert len(found) == 20
        assert {(r.client.server, r.client.address, r.what, r.code) for r in found} == {
            ("ppc", "127.0.0.1", "limit.dso = 5 kW", "not_writable")
        }
        assert all("site file" in r.why for r in found)


async def test_flood_of_writes_that_are_allowed_leaves_one_message_for_the_edge(demo, tmp_path):
    """Who may write may still be mad: the edge finds one message of each limit at most, whatever comes."""
    async with serving(demo, tmp_path, writes=PLAIN_WRITES, requests_per_s=1000.0) as (port, plant):
        mad, good = await Raw.to(port), await Raw.to(port)
        for i in range(100):
            mad.writer.write(framed(write_pdu(DSO_AT, *words(float(i)))))
        assert struct.unpack(">BBf", await good.ask(read_pdu(GRID_AT, 2)))[2] == 123.5
        answers = [await mad.answer() for _ in range(100)]
        taken = [a for a in answers if a[0] == 16]
        assert set(answers) == {WRITE[:5], refused(16, 6)}
        assert 3 <= len(taken) <= 20
        assert len(plant.desk.collect()) == 1
        for one in (mad, good):
            await one.close()


async def test_client_that_takes_no_answers_waits_and_the_others_do_not(demo, tmp_path):
    """Its requests stay in its own socket: what we hold of them and of the answers is bounded."""
    async with serving(demo, tmp_path, requests_per_s=1000.0) as (port, _):
        greedy, good = await Raw.to(port), await Raw.to(port)
        greedy.reader._transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(32):
            greedy.writer.write(framed(read_pdu(GRID_AT, 100)) * 50_000)  # 19 MB in all
            assert (await good.ask(read_pdu(0, 2)))[0] == 3
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await greedy.writer.drain()
                raise AssertionError("all of it was taken")
        await greedy.close()
        assert (await good.ask(read_pdu(0, 2)))[0] == 3
        await good.close()


@pytest.mark.parametrize(
    ("send", "waits"),
    [
        (lambda: b"", "idle"),
        (lambda: framed(read_pdu(0, 1))[:9], "partly"),
        (lambda: b"\x00\x01\x00\x00\xff\xff", "at once"),
        (lambda: b"GET / HTTP/1.1\r\n\r\n", "at once"),
        (lambda: b"\x16\x03\x01\x02\x00\x01\x00", "at once"),  # TLS at a plain port
    ],
    ids=["silent", "half a request", "64 kB announced", "http", "tls"],
)
async def test_connection_that_asks_nothing_is_ended(
    demo, tmp_path, monkeypatch, send: Callable[[], bytes], waits: str
):
    monkeypatch.setattr(modbus_server, "FRAME_S", 0.3)
    async with serving(demo, tmp_path, idle_s=0.6 if waits == "idle" else 60.0) as (port, plant):
        rogue = await Raw.to(port)
        rogue.writer.write(send())
        assert await rogue.ended()
        assert plant.records.count == (waits == "at once")
        await rogue.close()


async def test_bytes_in_drops_end_the_connection_though_each_comes_in_time(demo, tmp_path, monkeypatch):
    monkeypatch.setattr(modbus_server, "FRAME_S", 0.5)
    async with serving(demo, tmp_path) as (port, _):
        rogue = await Raw.to(port)

        async def drip() -> None:
            for byte in framed(read_pdu(0, 1)) * 100:
                rogue.writer.write(bytes((byte,)))
                await asyncio.sleep(0.1)

        task = asyncio.create_task(drip())
        assert await rogue.ended()
        assert not task.done()
        task.cancel()
        await rogue.close()


async def test_connections_without_end_are_refused_and_a_client_that_is_in_stays(demo, tmp_path):
    async with serving(demo, tmp_path, per_client_max=5) as (port, plant):
        good = await Raw.to(port)
        assert (await good.ask(read_pdu(0, 2)))[0] == 3
        many = [await Raw.to(port) for _ in range(60)]
        ended = await asyncio.gather(*(m.ended() for m in many[4:]))
        assert all(ended)
        assert (await good.ask(read_pdu(0, 2)))[0] == 3
        assert plant.records.count == 56
        for one in (good, *many):
            await one.close()


async def test_address_that_the_site_file_does_not_name_does_not_come_in(demo, tmp_path):
    async with serving(demo, tmp_path, clients=("10.0.0.0/24",)) as (port, plant):
        rogue = await Raw.to(port)
        assert await rogue.ended()
        assert plant.records.last.code == "not_let_in"
        await rogue.close()
