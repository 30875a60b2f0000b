"""Events of DNP3 outstations as history: each once, in order, confirmed when it is on the disk, or not lost.

Against opendnp3, and against a hand-driven outstation where the moment counts.
"""

import asyncio
import contextlib
import dataclasses
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cli.edge_records import unheard
from connectors.dnp3 import session as dnp
from connectors.field import FieldIO
from connectors.historian.sqlite import SqliteHistoryReader, SqliteRecorder
from ems.clock import VirtualClock, wall_sleep
from ems.dnp3 import Dnp3
from ems.records import DeviceSample, TimeBasis
from ems.site import Connection, Protocol
from ems.telemetry import Quality, Reading
from tests.builders import T0
from tests.contract.dnp3_plant import ONLINE, OpenDnp3
from tests.contract.fake_outstation import OUTSTATION, FakeOutstation, binaries, floats
from tests.contract.plants import site_of
from tests.contract.test_dnp3_adversary import event, row, until

NOW = T0 + timedelta(hours=80)
NOW_MS = round(NOW.timestamp() * 1000)
AGO_72_H_MS = NOW_MS - 72 * 3_600_000
FOREVER = (T0 - timedelta(days=500), T0 + timedelta(days=500))
ROWS = (
    row("p", "g30/0", "f32"), row("sw", "g1/4", "bit"), row("i", "g30/2", "s32"), row("pos", "g3/1", "bits2"),
    row("count", "g20/2", "u32"), row("set", "g41v3/2", "f32", writable=True),
    row("run", "g12v1/0", "bit", writable=True),
)  # fmt: skip


class Rig:
    """A connection, and the historian that what it records goes to; both may be killed and started anew."""

    def __init__(self, path: Path, port: int, timeout_s: float = 5.0, **keys: Any) -> None:
        self.path, self.events = path, list[str]()
        self.connection = Connection(
            id="dev", protocol=Protocol.DNP3, host="127.0.0.1", port=port, unit_id=1, endpoint="", poll_s=1.0,
            timeout_s=timeout_s, watchdog_point=None, points=ROWS,
            dnp3=Dnp3(outstation=OUTSTATION, events="times", **keys),
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        self.clock = VirtualClock(NOW)
        self.recorder = SqliteRecorder(self.path, clock=self.clock, sync=False)
        self.io = FieldIO(
            site_of(self.connection), clock=self.clock, back_off_s_max=0.1, samples=self.recorder,
            on_event=lambda _, kind, fields: self.events.append(kind),
        )  # fmt: skip

    async def again(self, **keys: Any) -> None:
        """Ended, and started with other keys."""
        await self.stop()
        dnp3 = Dnp3(outstation=OUTSTATION, **keys)
        self.connection = dataclasses.replace(self.connection, dnp3=dnp3)
        self.start()

    async def read(self) -> dict[str, Reading]:
        self.clock.advance(1.0)
        return {r.point.removeprefix("dev."): r for r in await self.io.read_all()}

    async def read_until(self, count: int) -> None:
        """Until so many switchings are stored."""
        async with asyncio.timeout(60.0):
            while len(seen(self)) < count:
                await self.read()
                await wall_sleep(0.02)

    def samples(self, point: str = "sw") -> list[DeviceSample]:
        with closing(SqliteHistoryReader(self.path)) as reader:
            return list(reader.recorded(f"dev.{point}", *FOREVER, 10**6))

    def told(self, point: str = "p") -> list[tuple[float | None, Quality, TimeBasis]]:
        return [(s.value, s.quality, s.clock) for s in self.samples(point)]

    def count(self, name: str) -> Any:
        return self.io.links()["dev"][name]

    async def stop(self) -> None:
        await self.io.close()
        assert self.recorder.close()


@contextlib.contextmanager
def stuck(path: Path) -> Iterator[None]:
    """The historian's file can be read and not written."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


@pytest_asyncio.fixture
async def fake(tmp_path: Path) -> AsyncIterator[tuple[Rig, FakeOutstation]]:
    outstation = FakeOutstation()
    outstation.static = [floats(7.0)]
    await outstation.start()
    rig = Rig(tmp_path / "history.sqlite", outstation.port, timeout_s=1.0)
    await rig.read()
    yield rig, outstation
    await rig.stop()
    await outstation.stop()


async def test_events_are_confirmed_when_they_are_stored_and_not_before(fake):
    rig, outstation = fake
    with stuck(rig.path):
        outstation.events = [event(7.0, NOW_MS)]
        assert (await rig.read())["p"].value == 7.0
        await wall_sleep(0.05)
        assert (outstation.confirmed, rig.told()) == ([], [])
    await until(lambda: rig.told() == [(7.0, Quality.GOOD, TimeBasis.DEVICE)])
    await until(lambda: len(outstation.confirmed) == 1)


async def test_disk_that_takes_nothing_costs_no_value_and_events_stay_in_the_device(fake):
    """No cycle waits for the disk: values are read without events until what was read is stored."""
    rig, outstation = fake
    with stuck(rig.path):
        outstation.events = [event(5.0, NOW_MS), event(7.0, NOW_MS + 1)]
        for value in (7.0, 8.0, 9.0, 10.0):
            outstation.static = [floats(value)]
            assert (await rig.read())["p"].value == value
        outstation.indications = dnp.OVERFLOW
        await rig.read()
        outstation.indications = 0
        assert (outstation.confirmed, rig.count("failures")) == ([], 0)
        assert rig.events.count("device.records.lost") == 1, "it has room for so many only"
        outstation.events.append(event(10.0, NOW_MS + 2))  # read later: it was never asked for
    await until(lambda: len(rig.told()) == 2)
    while len(rig.told()) < 3:
        assert (await rig.read())["p"].value == 10.0
        await wall_sleep(0.02)
    await until(lambda: not outstation.events)
    assert [v for v, *_ in rig.told()] == [5.0, 7.0, 10.0]


@pytest.mark.parametrize("static", ["points", "class0"])
async def test_long_answer_is_cut_where_the_disk_takes_nothing_and_the_values_are_read(fake, static):
    rig, outstation = fake
    await rig.again(static=static)
    await rig.read()
    outstation.fragments = 2
    with stuck(rig.path):
        outstation.events = [event(3.0, NOW_MS), event(5.0, NOW_MS + 2), event(4.0, NOW_MS + 1)]
        assert (await rig.read())["p"].value == 7.0, "never that of an old event"
        assert (outstation.confirmed, rig.count("failures")) == ([], 0)
    await until(lambda: len(rig.told()) == 2)
    while len(rig.told()) < 3:
        await rig.read()
    assert [v for v, *_ in rig.told()] == [3.0, 4.0, 5.0]
    assert rig.count("failures") == 0


@pytest.mark.parametrize("fragments", [1, 2])
async def test_events_without_a_time_that_come_again_unconfirmed_are_known_and_equal_new_ones_are_not(
    fake, fragments
):
    rig, outstation = fake
    outstation.static.append(binaries(False))
    outstation.fragments = fragments
    untimed = event(7.0, 0, variation=5)[:-6]
    with stuck(rig.path):
        outstation.events = [untimed]
        await rig.read()
        await rig.read()  # another request: that of before can be confirmed no more
    await until(lambda: len(rig.told()) == 1)
    outstation.fragments = 1
    await rig.read()
    await until(lambda: not outstation.events)
    assert rig.told() == [(7.0, Quality.STALE, TimeBasis.NONE)]
    outstation.events = [untimed]
    await rig.read()
    await until(lambda: len(rig.told()) == 2)


async def test_unsolicited_events_are_confirmed_when_they_are_stored(fake):
    rig, outstation = fake
    with stuck(rig.path):
        outstation.unsolicited(event(7.0, NOW_MS), number=5)
        await until(lambda: rig.count("unsolicited") == 1)
        assert outstation.confirmed == []
    await until(lambda: len(outstation.confirmed) == 1)
    assert len(rig.told()) == 1


@pytest.mark.parametrize(
    ("at_ms", "indications", "clock"),
    [
        (NOW_MS + 3_600_000, 0, TimeBasis.AHEAD),
        (NOW_MS - 1000, dnp.NEED_TIME, TimeBasis.UNSYNCHRONISED),
        (86_400_000, 0, TimeBasis.TOO_OLD),
        (0, 0, TimeBasis.NONE),
    ],
)
async def test_clock_that_is_wrong_is_told_and_its_event_stored_at_its_arrival(
    fake, at_ms, indications, clock
):
    rig, outstation = fake
    outstation.indications, outstation.events = indications, [event(7.0, at_ms)]
    await rig.read()
    await until(lambda: rig.told() == [(7.0, Quality.STALE, clock)])
    (sample,) = rig.samples("p")
    assert (sample.at, sample.told_at is None) == (rig.clock.now(), at_ms == 0)
    wrong = rig.io.wrong_clocks()
    assert wrong == {} if at_ms == 0 else wrong["dev"].startswith(clock.value)
    assert [(a.code, a.asset) for a in unheard({}, wrong)] == [("device.clock", "dev")] * bool(at_ms)
    assert ("device.clock.doubted" in rig.events) is bool(at_ms)


async def test_overflow_is_told_once_while_it_lasts(fake):
    rig, outstation = fake
    outstation.indications = dnp.OVERFLOW
    await rig.read()
    await rig.read()
    outstation.indications = 0
    await rig.read()
    assert rig.events.count("device.records.lost") == 1
    (alarm,) = unheard(rig.io.losses(), {})
    assert (alarm.code, alarm.asset, "IIN2.3" in alarm.text) == ("device.records.lost", "dev", True)


async def test_guest_leaves_events_where_they_are(fake):
    rig, outstation = fake
    await rig.again(is_guest=True)
    outstation.events = [event(7.0, NOW_MS)]
    assert (await rig.read())["p"].value == 7.0
    assert (rig.told(), outstation.confirmed, len(outstation.events)) == ([], [], 1)


# Against opendnp3


@pytest_asyncio.fixture
async def server() -> AsyncIterator[OpenDnp3]:
    server = OpenDnp3()
    await server.start()
    await server.put(
        ("analog", 0, 7.0, ONLINE, 0), ("binary", 4, False, ONLINE, 0), ("counter", 2, 0, ONLINE, 0)
    )
    yield server
    await server.stop()


async def switch(server: OpenDnp3, first: int, count: int, at_ms: int = AGO_72_H_MS) -> None:
    """A switch that opens and closes, each at a millisecond of its own."""
    await server.put(*(("binary", 4, i % 2 == 0, ONLINE, at_ms + i) for i in range(first, first + count)))


def switched(count: int) -> list[tuple[int, float]]:
    return [(AGO_72_H_MS + i, float(i % 2 == 0)) for i in range(count)]


def seen(rig: Rig) -> list[tuple[int, float | None]]:
    return [(round(s.at.timestamp() * 1000), s.value) for s in rig.samples() if s.clock is TimeBasis.DEVICE]


@pytest.mark.needs_server
async def test_events_of_72_hours_ago_come_in_order_and_the_present_value_is_the_present_one(
    server, tmp_path
):
    rig = Rig(tmp_path / "history.sqlite", server.port, integrity_s=3600.0)
    await rig.read()
    await switch(server, 0, 30)
    await server.put(("binary", 4, True, ONLINE, NOW_MS))
    assert (await rig.read())["sw"].value == 1.0
    await rig.read_until(31)
    assert seen(rig) == [*switched(30), (NOW_MS, 1.0)]
    await rig.stop()


@pytest.mark.needs_server
async def test_events_of_every_kind_come_in_the_type_of_the_map_with_their_times(server, tmp_path):
    """Left to itself, opendnp3 tells events without a time, and floats cut to integers."""
    rig = Rig(tmp_path / "history.sqlite", server.port)
    await rig.read()
    told = (
        ("p", "analog", 0, 33.5, 33.5), ("i", "analog", 2, -77, -77.0),
        ("pos", "double", 1, "DETERMINED_ON", 2.0), ("count", "counter", 2, 65000, 65000.0),
        ("set", "ao", 2, 5.25, 5.25), ("run", "bo", 0, True, 1.0),
    )  # fmt: skip
    rows = [(kind, i, raw, ONLINE, AGO_72_H_MS + n) for n, (_, kind, i, raw, _) in enumerate(told)]
    await server.put(*rows)
    await switch(server, 0, 1)
    await rig.read_until(1)
    for n, (name, _, _, _, value) in enumerate(told):
        found = [s for s in rig.samples(name) if s.clock is TimeBasis.DEVICE]
        stamps = [(s.value, s.quality, round(s.at.timestamp() * 1000)) for s in found]
        assert stamps == [(value, Quality.GOOD, AGO_72_H_MS + n)], name
    await rig.stop()


@pytest.mark.needs_server
async def test_line_cut_and_client_ended_in_the_middle_of_a_burst_nothing_is_lost_or_stored_twice(
    server, tmp_path
):
    rig = Rig(tmp_path / "history.sqlite", server.port)
    await rig.read()
    for i in range(12):
        await switch(server, 5 * i, 5)
        reading = asyncio.create_task(rig.read())
        if i % 4 == 1:
            await wall_sleep(0.001 * i)
            await rig.io._devices["dev"]._link.disconnect()  # the line is cut
        await asyncio.wait([reading])
        if i % 4 == 3:
            await rig.stop()
            rig.start()
    await rig.read_until(60)
    assert seen(rig) == switched(60)
    await rig.stop()


@pytest.mark.needs_server
async def test_more_events_than_it_keeps_are_told_as_lost(server, tmp_path):
    rig = Rig(tmp_path / "history.sqlite", server.port)
    await rig.read()
    await switch(server, 0, 200)
    await rig.read()
    await rig.read_until(60)
    assert rig.events.count("device.records.lost") >= 1
    kept = seen(rig)
    assert kept == [one for one in switched(200) if one in kept], "those that were kept, in order"
    await rig.stop()


CLIENT = """
import asyncio, sys
from pathlib import Path
from tests.contract.test_dnp3_events import Rig, seen

async def main():
    rig = Rig(Path(sys.argv[1]), int(sys.argv[2]))
    while True:
        await rig.read()
        print(len(seen(rig)), flush=True)

asyncio.run(main())
"""


async def stored_by(client: asyncio.subprocess.Process, count: int) -> None:
    """Wait until a client says that it has stored so many."""
    assert client.stdout is not None
    async with asyncio.timeout(60.0):
        while line := (await client.stdout.readline()).decode().strip():
            if line.isdecimal() and int(line) >= count:
                return
    raise AssertionError("it has ended")


@pytest.mark.needs_server
async def test_client_that_is_killed_again_and_again_stores_each_event_once(server, tmp_path):
    path = tmp_path / "history.sqlite"
    for i in range(2):
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLIENT, str(path), str(server.port), stdout=asyncio.subprocess.PIPE
        )
        await stored_by(client, 0)  # it polls
        await switch(server, 25 * i, 15)
        await stored_by(client, 25 * i + 3)
        await switch(server, 25 * i + 15, 10)
        client.send_signal(signal.SIGKILL)
        await client.wait()
    rig = Rig(path, server.port)
    await rig.read_until(50)
    assert seen(rig) == switched(50)
    await rig.stop()
