"""Stations of other makes are read: c104 (lib60870-C), hat-drivers, and our own; and what is no station."""

import asyncio
import struct
from argparse import Namespace
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli.free_ports import free_ports
from cli.read import run as ems_read
from connectors.iec104.asdu import Cause, Type, asdu_of, single
from connectors.iec104.client import READ_ONLY, Iec104Link
from connectors.iec104.frames import Function, Numbered, Supervisory, Unnumbered, first_frame, packed
from connectors.iec104.times import time_bytes
from connectors.link import LinkError, NotSent, PointValue, Untrusted
from connectors.point_map import point_codecs
from ems.clock import SystemClock
from ems.iec104 import Iec104
from ems.northbound import TlsFiles, WriteRights
from ems.site import Connection, PointMap, Protocol
from ems.telemetry import Quality
from tests.contract.northbound_104_peer import STATION, Scada, moved, serving
from tests.contract.tls_pki import Authority

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC).timestamp()
CLOCK = SystemClock()
GOOD, BAD = Quality.GOOD, Quality.DEVICE_BAD


def row(address: int, data_type: str, *, scale: float = 1.0) -> PointMap:
    return PointMap(
        point=f"dev.p{address}", address=str(address), table="object", data_type=data_type, byte_order="big",
        word_order="big", scale=scale, offset=0.0, sign=1, unit="kW", low=-1e10, high=1e10, age_s_max=3.0,
        writable=False,
    )  # fmt: skip


ROWS = (
    row(11, "float"), row(12, "float"), row(13, "scaled", scale=0.1), row(14, "normalized"),
    row(15, "single_point"), row(16, "double_point"), row(17, "counter"), row(18, "float"), row(99, "float"),
)  # fmt: skip


def linked(
    port: int, rows: tuple[PointMap, ...] = ROWS, *, tls: TlsFiles | None = None, timeout_s: float = 10.0,
    now: Callable[[], datetime] = CLOCK.now, **keys: Any,
) -> Iec104Link:  # fmt: skip
    connection = Connection(
        id="rtu", protocol=Protocol.IEC_104, host="127.0.0.1", port=port, unit_id=1, endpoint="", poll_s=1.0,
        timeout_s=timeout_s, watchdog_point=None, points=rows, tls=tls,
        iec104=Iec104(**({"station": 47} | keys)),
    )  # fmt: skip
    codecs = list(point_codecs(connection).values())
    return Iec104Link(connection, codecs, host="127.0.0.1", port=port, timeout_s=timeout_s, now=now)


async def read(link: Iec104Link) -> dict[int, PointValue]:
    return {int(name.removeprefix("dev.p")): value for name, value in (await link.read()).items()}


async def until(link: Iec104Link, holds: Callable[[dict[int, PointValue]], bool]) -> dict[int, PointValue]:
    async with asyncio.timeout(30.0):
        while not holds(found := await read(link)):
            await asyncio.sleep(0.05)
        return found


# --- c104 -------------------------------------------------------------------------------------------------


@pytest.fixture
async def rtu() -> AsyncIterator[tuple[int, Scada]]:
    (port,) = free_ports(1)
    async with Scada.up("c104_station.py", str(port)) as made:
        for address, value in ((11, 1.5), (12, -33.25), (13, 250), (14, -0.5), (15, 1), (16, 2), (17, 70000)):
            await made.ask("set", address=address, value=value, at=NOW)
        yield port, made


@pytest.mark.needs_server
async def test_c104_is_interrogated_with_its_counters_times_and_what_it_does_not_have(rtu):
    port, _ = rtu
    link = linked(port)
    await link.connect()
    found = await read(link)
    values = {a: v.value for a, v in found.items()}
    assert values == {
        11: 1.5, 12: -33.25, 13: pytest.approx(25.0), 14: pytest.approx(-0.5, abs=1e-4), 15: 1.0, 16: 2.0,
        17: 70000.0, 18: None, 99: None,
    }  # fmt: skip
    assert found[11].source_time == datetime.fromtimestamp(NOW, UTC)
    assert found[12].source_time is None
    assert {a for a, v in found.items() if v.quality is not GOOD} == {18, 99}
    assert link.refused == {"dev.p18": "object 18 is not told", "dev.p99": "object 99 is not told"}
    assert await link.write([(link._codecs[0], 1.0)], 0.0) == [READ_ONLY]
    await link.disconnect()


def told_as(quality: Quality) -> Callable[[dict[int, PointValue]], bool]:
    return lambda found: found[12].quality is quality and found[12].value != -33.25


@pytest.mark.needs_server
async def test_c104_tells_changes_between_interrogations_with_quality_and_time(rtu):
    port, station = rtu
    link = linked(port, interrogate_s=3600.0)
    await link.connect()
    assert (await read(link))[11].value == 1.5
    await station.ask("set", address=11, value=2.5, at=NOW + 60.0, tell=True)
    found = await until(link, lambda f: f[11].value == 2.5)
    assert found[11].source_time == datetime.fromtimestamp(NOW + 60.0, UTC)
    assert found[11].age_s is not None
    assert 0.0 <= found[11].age_s < 30.0
    for names, quality, value in (
        (["Invalid"], BAD, None), (["NonTopical"], Quality.STALE, 3.5), (["Blocked"], Quality.STALE, 3.5),
        (["Overflow"], Quality.OUT_OF_RANGE, 3.5), (["Substituted"], GOOD, 3.5),
    ):  # fmt: skip
        await station.ask("set", address=12, value=3.5, quality=names, tell=True)
        await until(link, told_as(quality))
        found = await read(link)
        assert (found[12].value, found[12].quality) == (value, quality)
    assert link.counts["substituted_values"] == 1
    await link.disconnect()


@pytest.mark.needs_server
async def test_c104_that_stops_is_noticed_and_read_again_when_it_is_back(rtu):
    port, station = rtu
    link = linked(port)
    await link.connect()
    await read(link)
    await station.ask("stop")
    async with asyncio.timeout(30.0):
        while link.connected:
            await asyncio.sleep(0.02)
    with pytest.raises(NotSent):
        await link.read()
    with pytest.raises(LinkError, match="cannot connect"):
        await link.connect()
    await station.ask("start")
    await link.connect()
    assert (await read(link))[11].value == 1.5
    await link.disconnect()


@pytest.mark.needs_server
async def test_c104_of_another_address_or_with_another_type_is_not_taken_for_ours(rtu):
    port, _ = rtu
    other = linked(port, station=48)
    await other.connect()
    with pytest.raises(LinkError, match="refuses C_IC_NA_1"):
        await other.read()
    link = linked(port, (row(11, "scaled"), row(17, "float")))
    await link.connect()
    found = await read(link)
    assert {v.quality for v in found.values()} == {BAD}
    assert link.refused["dev.p11"] == "it is told as float, not scaled"
    await link.disconnect()


@pytest.mark.needs_server
async def test_station_of_a_third_make_is_read_and_its_changes_are_heard():
    (port,) = free_ports(1)
    async with Scada.up("hat_station.py", str(port)):
        link = linked(
            port, (row(11, "float"), row(16, "double_point"), row(17, "counter")), interrogate_s=60.0
        )
        await link.connect()
        found = await until(link, lambda f: f[11].value == -13.5)
        assert (found[16].value, found[17].value) == (2.0, -7.0)
        assert {v.quality for v in found.values()} == {GOOD}
        assert found[11].source_time == datetime(2026, 3, 1, 12, tzinfo=UTC)
        await link.disconnect()


SITE = """
grid: {id: grid1}
connections:
  rtu:
    protocol: iec104
    host: 127.0.0.1
    port: PORT
    iec104: {common_address: 47}
    poll_s: 1
    timeout_s: 5
    asset: grid1
    map: rtu.yaml
"""
MAP = """
device: an RTU
protocol: iec104
points:
  p_kw: {address: 13, type: scaled, sign: -1, range: [-1000, 1000], age_s_max: 3}
  q_kvar: {address: 77, type: float, range: [-100, 100], age_s_max: 3}
"""


@pytest.mark.needs_server
async def test_ems_read_shows_a_station_with_reasons(rtu, tmp_path, capsys):
    port, _ = rtu
    (tmp_path / "rtu.yaml").write_text(MAP)
    (tmp_path / "site.yaml").write_text(SITE.replace("PORT", str(port)))
    options = Namespace(site=str(tmp_path / "site.yaml"), device=["rtu"], every=None, wait=5.0, listen=1.0)
    assert await asyncio.to_thread(ems_read, options) == 1
    out = capsys.readouterr().out
    assert f"rtu: iec104 127.0.0.1:{port} common address 47" in out
    assert "-250 kW" in out
    assert "object 77 is not told" in out


# --- our own station over TLS, where c104 has none that works ---------------------------------------------


async def test_station_over_tls_is_read_and_a_stranger_is_not(demo, tmp_path):
    ca = Authority(tmp_path / "pki")
    own, client = ca.signs("ems", hosts=("127.0.0.1",)), ca.signs("reader", file="client")
    rights = WriteRights(limits=("dso",), roles=("GridOperator",))
    async with serving(demo, tmp_path / "run", writes=rights, tls=own.files(ca.file)) as (port, plant):
        link = linked(port, (row(11, "float"), row(13, "float")), station=STATION, tls=client.files(ca.file))
        await link.connect()
        found = await read(link)
        assert (found[11].value, found[13].quality) == (123.5, BAD)
        assert len(link.expiries) == 3
        moved(plant, grid1__p_kw=7.0)
        await until(link, lambda f: f[11].value == 7.0)
        await link.disconnect()
        stranger = Authority(tmp_path / "other").signs("reader")
        link = linked(port, station=STATION, tls=stranger.files(ca.file))
        with pytest.raises(LinkError):
            await link.connect()
        link = linked(port, station=STATION, tls=client.files(Authority(tmp_path / "third").file))
        with pytest.raises(Untrusted):
            await link.connect()


# --- a station that says whatever a test wants ------------------------------------------------------------


class Fake:
    """A station of which each answer is written out."""

    def __init__(self) -> None:
        self.sent = self.received = 0
        self.asdus: list[bytes] = []
        self.frames: list[Any] = []
        self.writer: asyncio.StreamWriter | None = None
        self.answer: Callable[[Fake, bytes], None] = whole
        self.starts = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer, self.sent, self.received = writer, 0, 0
        buffer = bytearray()
        while data := await reader.read(4096):
            buffer += data
            while (found := first_frame(buffer)) is not None:
                del buffer[: found[1]]
                self._take(found[0])
        writer.close()

    def _take(self, frame: Any) -> None:
        self.frames.append(frame)
        if frame == Unnumbered(Function.STARTDT_ACT) and self.starts:
            self.raw(packed(Unnumbered(Function.STARTDT_CON)))
        elif isinstance(frame, Numbered):
            self.received += 1
            self.answer(self, frame.asdu)

    def raw(self, data: bytes) -> None:
        assert self.writer is not None
        self.writer.write(data)

    def say(self, asdu: bytes) -> None:
        self.raw(packed(Numbered(self.sent, self.received, asdu)))
        self.sent += 1

    @asynccontextmanager
    async def up(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            if self.writer is not None:
                self.writer.transport.abort()
            server.close()
            await server.wait_closed()


def told(
    address: int, value: float, quality: int = 0, *, kind: Type = Type.M_ME_NC, cause: int = 20
) -> bytes:
    return single(kind, cause, 47, address, struct.pack("<f", value) + bytes((quality,)))


def whole(fake: Fake, asked: bytes, *more: bytes) -> None:
    request = asdu_of(asked)
    fake.say(request.mirrored(Cause.ACTIVATION_CON))
    for one in (told(11, 5.0), *more):
        fake.say(one)
    fake.say(request.mirrored(Cause.ACTIVATION_END))


FLOAT = (row(11, "float"),)
ELEVEN, HOUR = datetime(2026, 1, 1, 11, tzinfo=UTC), timedelta(hours=1)


@asynccontextmanager
async def faked(**keys: Any) -> AsyncIterator[tuple[Fake, Iec104Link]]:
    fake = Fake()
    async with fake.up() as port:
        link = linked(port, FLOAT, **keys)
        try:
            yield fake, link
        finally:
            await link.disconnect()


async def test_sequence_of_objects_and_other_stations_are_told_apart():
    async with faked() as (fake, link):
        row_of_two = bytes((Type.M_ME_NC, 0x82, 20, 0, 47, 0, 10, 0, 0)) + struct.pack("<fBfB", 1, 0, 2, 0)
        other = single(Type.M_ME_NC, 20, 48, 11, bytes(5))
        unknown = bytes((38, 1, 3, 0, 47, 0, 11, 0, 0)) + bytes(10)
        fake.answer = lambda f, a: whole(f, a, row_of_two, other, unknown)
        await link.connect()
        assert (await read(link))[11].value == 2.0
        assert link.counts["others"] == 1


@pytest.mark.parametrize(
    ("zone", "stamp", "wanted"),
    [
        ("UTC", time_bytes(ELEVEN), ELEVEN),
        ("Europe/Berlin", time_bytes(ELEVEN), ELEVEN - HOUR),
        (None, time_bytes(ELEVEN), None),
        ("UTC", time_bytes(ELEVEN, valid=False), None),
        ("UTC", time_bytes(ELEVEN + 2 * HOUR), None),  # an hour ahead of us
    ],
)  # fmt: skip
async def test_time_is_believed_where_it_is_valid_and_not_ahead_and_stays_while_the_value_does(
    zone, stamp, wanted
):
    async with faked(time_zone=zone, now=lambda: ELEVEN + HOUR) as (fake, link):
        change = single(Type.M_ME_TF, 3, 47, 11, struct.pack("<fB", 5.0, 0) + stamp)
        fake.answer = lambda f, a: whole(f, a, change)
        await link.connect()
        assert (await read(link))[11].source_time == wanted
        assert link.counts["times_not_believed"] == (wanted is None)
        fake.answer = whole
        assert (await read(link))[11].source_time == wanted


async def test_restart_of_the_station_makes_what_was_told_before_count_no_more():
    async with faked(interrogate_s=3600.0) as (fake, link):
        await link.connect()
        assert (await read(link))[11].value == 5.0
        fake.answer = lambda f, a: None
        fake.say(single(Type.M_EI_NA, Cause.INITIALISED, 47, 0, b"\0"))
        fake.answer = lambda f, a: whole(f, a, told(11, 6.0, cause=20))
        await until(link, lambda f: f[11].value == 6.0)
        assert link.counts["restarts"] == 1


def answers(*asdus: Callable[[bytes], bytes]) -> Callable[[Fake, bytes], None]:
    def answer(fake: Fake, asked: bytes) -> None:
        for one in asdus:
            fake.say(one(asked))

    return answer


def con(asked: bytes) -> bytes:
    return asdu_of(asked).mirrored(Cause.ACTIVATION_CON)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda f, a: None, "was not answered in 0.3 s"),
        (answers(con, lambda a: told(11, 1.0)), "was not answered in 0.3 s"),  # it never ends
        (answers(lambda a: asdu_of(a).mirrored(7, negative=True)), "negative confirmation"),
        (answers(lambda a: asdu_of(a).mirrored(46, negative=True)), "another common address"),
        (answers(lambda a: asdu_of(a).mirrored(44, negative=True)), "this type"),
        (answers(lambda a: asdu_of(a).mirrored(10)), "out of order"),
        (answers(con, con), "out of order"),
        (answers(lambda a: single(Type.C_CI_NA, 7, 47, 0, b"\5")), "nothing that was asked"),
        (answers(con, lambda a: told(11, 1.0)[:-1]), "bytes for 1 objects"),
        (answers(con, lambda a: told(11, 1.0) + b"\0"), "bytes for 1 objects"),
        (answers(con, lambda a: a[:1] + b"\0" + a[2:4]), "an ASDU of 4 bytes"),
        (lambda f, a: f.raw(packed(Numbered(5, 1, told(11, 1.0)))), "where 0 had to come"),
        (lambda f, a: f.raw(packed(Supervisory(7))), "confirms frame 7"),
        (lambda f, a: f.raw(packed(Unnumbered(Function.STARTDT_CON))), "not now"),
        (lambda f, a: f.raw(packed(Unnumbered(Function.STOPDT_ACT))), "not now"),
        (lambda f, a: f.raw(b"\x68\x02\x00"), "2 bytes announced"),
        (lambda f, a: f.raw(b"HTTP/1.1 400"), "begins with 0x48"),
        (lambda f, a: f.writer.transport.abort(), "connection lost"),
    ],
)
async def test_answer_that_is_none_ends_the_connection_and_gives_no_value(answer, text):
    async with faked(timeout_s=0.3) as (fake, link):
        await link.connect()
        fake.answer = answer
        with pytest.raises(LinkError, match=text):
            await link.read()
        assert not link.connected
        with pytest.raises(NotSent):
            await link.read()
        fake.answer = whole
        await link.connect()
        assert (await read(link))[11].value == 5.0


async def test_station_that_does_not_start_or_floods_is_left():
    async with faked(timeout_s=0.3) as (fake, link):
        fake.starts = False
        with pytest.raises(LinkError, match="does not start"):
            await link.connect()
        fake.starts = True
        await link.connect()
        fake.raw(packed(Unnumbered(Function.TESTFR_ACT)) * 1500)
        async with asyncio.timeout(10.0):
            while link.connected:
                await asyncio.sleep(0.01)
        with pytest.raises(NotSent, match="frames in a second"):
            await link.read()


async def test_values_of_a_whole_interrogation_count_and_one_that_is_not_told_is_gone():
    async with faked() as (fake, link):
        await link.connect()
        assert (await read(link))[11].value == 5.0
        fake.answer = answers(con, lambda a: told(12, 1.0), lambda a: asdu_of(a).mirrored(10))
        assert (await read(link))[11] == PointValue(None, BAD, None)
        fake.answer = answers(con, lambda a: told(11, float("nan")), lambda a: asdu_of(a).mirrored(10))
        assert (await read(link))[11].quality is Quality.NOT_FINITE
