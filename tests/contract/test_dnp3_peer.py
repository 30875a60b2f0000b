"""DNP3 against opendnp3: flags, events, every command, indications, restarts and a killed or frozen peer.

The family of IEEE 1815.2 against the outstation of dnp3py, which has all of its points.
"""

import asyncio
import dataclasses
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from cli import browse
from cli.read import run as ems_read
from connectors.dnp3.client import EVENTS
from connectors.dnp3.objects import EVENTS as TELLS_EVENTS
from connectors.dnp3.objects import LAYOUTS, Stamp, Told
from connectors.dnp3.session import READ, Session
from connectors.field import FieldIO
from ems.clock import VirtualClock, wall_sleep
from ems.commands import WriteOutcome
from ems.dnp3 import Dnp3
from ems.errors import EmsError
from ems.site import Connection, IdentityField, PointMap, Protocol
from ems.site_schema import load_devices
from ems.site_schema.families import shipped_folder
from ems.telemetry import Quality, Reading
from tests.builders import T0
from tests.contract.dnp3_plant import ONLINE, OUTSTATION, MesaOutstation, OpenDnp3
from tests.contract.plants import command, site_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.needs_server]
SILENT = 0.3
AT_MS = 1_772_366_400_250  # 2026-03-01 12:00:00.25 UTC
RESTARTED, LOST, REMOTE, LOCAL, OVER, REFERENCE = 0x03, 0x05, 0x09, 0x11, 0x21, 0x41


def row(name: str, address: str, data_type: str, writable: bool = False) -> PointMap:
    return PointMap(
        point=f"dev.{name}", address=address, table="object", data_type=data_type, byte_order="big",
        word_order="big", scale=1.0, offset=0.0, sign=1, unit="kW", low=-1e6, high=1e6, age_s_max=3.0,
        writable=writable,
    )  # fmt: skip


ROWS = (
    row("f", "g30/0", "f32"),
    row("d", "g30/1", "f64"),
    row("i", "g30/2", "s32"),
    row("w", "g30/9", "s16"),
    row("bi", "g1/4", "bit"),
    row("pos", "g3/1", "bits2"),
    row("count", "g20/2", "u16"),
    row("set16", "g41v2/0", "s16", writable=True),
    row("set32", "g41v1/1", "s32", writable=True),
    row("setf", "g41v3/2", "f32", writable=True),
    row("setd", "g41v4/3", "f64", writable=True),
    row("latch", "g12v1/0", "bit", writable=True),
    row("pulse", "g12v1/1 [close/trip 250 ms]", "bit", writable=True),
    row("gone", "g30/99", "s32"),
)
FIRST: tuple[tuple[str, int, Any, int, int], ...] = (
    ("analog", 0, 33.5, ONLINE, 0), ("analog", 1, -0.125, ONLINE, 0), ("analog", 2, -77, ONLINE, 0),
    ("analog", 9, 5, ONLINE, 0), ("binary", 4, True, ONLINE, 0), ("double", 1, "DETERMINED_ON", ONLINE, 0),
    ("counter", 2, 65000, ONLINE, 0), *(("ao", i, 0, ONLINE, 0) for i in range(4)),
    ("bo", 0, False, ONLINE, 0), ("bo", 1, False, ONLINE, 0),
)  # fmt: skip


class Rig:
    def __init__(self, server: OpenDnp3, timeout_s: float = 5.0, **keys: Any) -> None:
        self.server = server
        self.connection = Connection(
            id="dev", protocol=Protocol.DNP3, host="127.0.0.1", port=server.port, unit_id=1, endpoint="",
            poll_s=1.0, timeout_s=timeout_s, watchdog_point=None, points=ROWS,
            dnp3=Dnp3(outstation=OUTSTATION, **keys),
        )  # fmt: skip
        self.clock = VirtualClock(T0)
        self.events: list[tuple[str, Any]] = []
        self.io = FieldIO(
            site_of(self.connection), clock=self.clock, back_off_s_max=0.1,
            on_event=lambda at, kind, fields: self.events.append((kind, fields.get("faults"))),
        )  # fmt: skip

    async def read(self) -> dict[str, Reading]:
        self.clock.advance(1.0)
        return {r.point.removeprefix("dev."): r for r in await self.io.read_all()}

    async def read_until_good(self, name: str = "f") -> dict[str, Reading]:
        for _ in range(600):
            if (readings := await self.read())[name].is_good:
                return readings
            await wall_sleep(0.02)
        raise AssertionError("it never answered again")

    async def write(self, name: str, value: float) -> tuple[WriteOutcome, str]:
        (result,) = await self.io.write([command(f"dev.{name}", value)])
        return result.outcome, result.detail

    def count(self, name: str) -> Any:
        return self.io.links()["dev"][name]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server() -> AsyncIterator[OpenDnp3]:
    server = OpenDnp3()
    await server.start()
    yield server
    await server.stop()


async def reset(server: OpenDnp3) -> None:
    await server.ask("refuse", status="SUCCESS")
    await server.ask("says", bits={})
    await server.put(*FIRST)
    await server.ask("seen")


@pytest_asyncio.fixture(loop_scope="module")
async def rig(server) -> AsyncIterator[Rig]:
    await reset(server)
    rig = Rig(server)
    await rig.read()
    yield rig
    await rig.io.close()


@pytest_asyncio.fixture(loop_scope="module")
async def eventful(server) -> AsyncIterator[Rig]:
    """Everything is read once an hour; between there are events alone, and the outputs."""
    await reset(server)
    rig = Rig(server, integrity_s=3600.0)
    await rig.read()
    yield rig
    await rig.io.close()


async def test_every_type_is_read_in_the_variation_of_its_map(rig):
    readings = await rig.read()
    told = {name: r.value for name, r in readings.items() if r.quality is Quality.GOOD}
    assert told == {
        "f": 33.5, "d": -0.125, "i": -77.0, "w": 5.0, "bi": 1.0, "pos": 2.0, "count": 65000.0,
        "set16": 0.0, "set32": 0.0, "setf": 0.0, "setd": 0.0, "latch": 0.0, "pulse": 0.0,
    }  # fmt: skip
    assert readings["gone"].quality is Quality.DEVICE_BAD
    assert rig.io.why_unread("dev.gone") == "g30/99 is not told: parameter error (IIN2.2)"


@pytest.mark.parametrize(
    ("flags", "quality", "value"),
    [
        (ONLINE, Quality.GOOD, 33.5),
        (0, Quality.DEVICE_BAD, None),
        (RESTARTED, Quality.DEVICE_BAD, None),
        (LOST, Quality.STALE, 33.5),
        (REMOTE, Quality.GOOD, 33.5),
        (LOCAL, Quality.GOOD, 33.5),
        (OVER, Quality.OUT_OF_RANGE, 33.5),
        (REFERENCE, Quality.DEVICE_BAD, None),
    ],
)
async def test_flags_of_the_outstation_are_quality_here(rig, flags, quality, value):
    await rig.server.put(
        ("analog", 0, 33.5, flags, 0), ("binary", 4, True, flags & ~OVER & ~REFERENCE | 1, 0)
    )
    readings = await rig.read()
    assert (readings["f"].quality, readings["f"].value) == (quality, value)
    assert bool(rig.io.why_unread("dev.f")) is (quality is not Quality.GOOD)
    assert rig.count("forced_values") == (2 if flags in (REMOTE, LOCAL) else 0)


async def test_value_of_the_outstation_that_its_variation_cannot_hold_is_over_range(rig):
    await rig.server.put(("analog", 9, 70000, ONLINE, 0))
    reading = (await rig.read())["w"]
    assert (reading.quality, reading.value) == (Quality.OUT_OF_RANGE, 32767.0)


@pytest.mark.parametrize("operate", ["direct", "select"])
@pytest.mark.parametrize(
    ("name", "value", "kind", "index", "what"),
    [
        ("set16", -300.0, "AnalogOutputInt16", 0, -300),
        ("set32", 70000.0, "AnalogOutputInt32", 1, 70000),
        ("setf", 33.5, "AnalogOutputFloat32", 2, 33.5),
        ("setd", 33.3, "AnalogOutputDouble64", 3, 33.3),
        ("latch", 1.0, "ControlRelayOutputBlock", 0, "LATCH_ON NUL 1 0"),
        ("latch", 0.0, "ControlRelayOutputBlock", 0, "LATCH_OFF NUL 1 0"),
        ("pulse", 1.0, "ControlRelayOutputBlock", 1, "PULSE_ON CLOSE 1 250"),
        ("pulse", 0.0, "ControlRelayOutputBlock", 1, "PULSE_ON TRIP 1 250"),
    ],
)
async def test_command_arrives_as_it_was_meant_and_is_read_back(
    server, operate, name, value, kind, index, what
):
    await reset(server)
    rig = Rig(server, operate=operate)
    await rig.read()
    assert await rig.write(name, value) == (WriteOutcome.CONFIRMED, "")
    seen = await server.ask("seen")
    steps = ["DirectOperate"] if operate == "direct" else ["select", "SelectBeforeOperate"]
    assert seen == [[step, kind, index, what] for step in steps]
    assert (await rig.read())[name].value == pytest.approx(value)
    await rig.io.close()


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ("LOCAL", "in local control (status 7)"),
        ("OUT_OF_RANGE", "out of range (status 12)"),
        ("BLOCKED_OTHER_MASTER", "blocked by another master (status 17)"),
        ("UNDEFINED", "undefined (status 127)"),
    ],
)
async def test_refusal_is_told_in_words_and_the_link_stays(rig, status, why):
    await rig.server.ask("refuse", status=status)
    assert await rig.write("setf", 5.0) == (WriteOutcome.REJECTED, why)
    assert (await rig.read())["setf"].value == 0.0
    assert rig.count("connects") == 1


async def test_failure_downstream_is_unknown_until_read_back(rig):
    await rig.server.ask("refuse", status="DOWNSTREAM_FAIL")
    outcome, why = await rig.write("setf", 5.0)
    assert (outcome, "failed downstream" in why) == (WriteOutcome.UNKNOWN, True)
    assert (await rig.write("setf", 6.0))[0] is WriteOutcome.NOT_SENT
    assert (await rig.read_until_good())["setf"].value == 0.0


async def test_selection_that_is_refused_is_never_operated(server):
    await reset(server)
    await server.ask("refuse", status="SUCCESS", select="NOT_AUTHORIZED")
    rig = Rig(server, operate="select")
    await rig.read()
    assert await rig.write("setf", 5.0) == (WriteOutcome.REJECTED, "not selected: not authorized (status 9)")
    assert [step for step, *_ in await server.ask("seen")] == ["select"]
    await rig.io.close()


async def test_output_with_an_index_above_255_is_addressed_as_such(server):
    await reset(server)
    rig = Rig(server)
    far = dataclasses.replace(ROWS[9], address="g41v3/500")
    rig.io = FieldIO(site_of(dataclasses.replace(rig.connection, points=(ROWS[0], far))), clock=rig.clock)
    await rig.read()
    assert await rig.write("setf", 5.0) == (WriteOutcome.CONFIRMED, "")
    assert await server.ask("seen") == [["DirectOperate", "AnalogOutputFloat32", 500, 5.0]]
    await rig.io.close()


async def test_events_are_read_between_integrity_polls_and_confirmed(eventful):
    before = eventful.count("events")
    await eventful.server.put(("binary", 4, False, ONLINE, 0), ("analog", 2, 1200, ONLINE, 0))
    readings = await eventful.read()
    assert (readings["bi"].value, readings["i"].value) == (0.0, 1200.0)
    assert eventful.count("events") == before + 2
    await eventful.read()
    assert eventful.count("events") == before + 2  # confirmed: they do not come again


async def test_value_without_an_event_grows_old_between_integrity_polls(eventful):
    """Its class is not known to us: an answer without events proves nothing of it."""
    first = (await eventful.read())["i"].arrived_s
    await wall_sleep(0.05)
    later = await eventful.read()
    assert later["i"].arrived_s - first < 1.0 - 0.04
    assert later["setf"].arrived_s > later["i"].arrived_s  # outputs are read at each poll


async def test_events_in_another_type_than_the_map_are_no_value(eventful):
    """opendnp3 tells its events as integers here: 33.5 would have come as 33."""
    await eventful.server.put(("analog", 0, 44.5, ONLINE, 0))
    reading = (await eventful.read())["f"]
    assert (reading.value, reading.quality) == (None, Quality.DEVICE_BAD)
    assert eventful.io.why_unread("dev.f") == "an integer is told, f32 in the map"


async def test_more_events_than_one_answer_holds_are_read_in_one_poll(eventful):
    for value in range(60):
        await eventful.server.put(("analog", 2, value, ONLINE, 0), ("analog", 3, value, ONLINE, 0))
    assert (await eventful.read())["i"].value == 59.0


async def test_overflow_of_events_has_everything_read_anew(eventful):
    for value in range(100):
        await eventful.server.put(("analog", 2, value, ONLINE, 0), ("counter", 2, value, ONLINE, 0))
    readings = await eventful.read()
    assert (readings["i"].value, readings["count"].value) == (99.0, 99.0)
    assert eventful.count("overflows") >= 1


async def test_restart_is_seen_cleared_and_everything_read_anew(eventful):
    await eventful.read()
    restarts = eventful.count("restarts")
    await eventful.server.ask("restart")
    readings = await eventful.read()
    assert readings["d"].value == -0.125  # read anew, an hour before it was due
    assert eventful.count("restarts") == restarts + 1
    await eventful.read()
    assert eventful.count("restarts") == restarts + 1


async def test_indications_of_trouble_are_faults_told_once(rig):
    await rig.server.ask("says", bits={"deviceTrouble": True, "configCorrupt": True, "localControl": True})
    await rig.read()
    await rig.read()
    faults = ["device trouble (IIN1.6)", "configuration corrupt (IIN2.5)"]
    assert rig.count("faults") == faults
    assert rig.count("in_local_control") == 1
    assert [f for kind, f in rig.events if kind == "device.faults"] == [faults]
    await rig.server.ask("says", bits={})
    await rig.read()
    assert rig.count("faults") == []


@pytest.mark.parametrize("wanted", [True, False])
async def test_clock_of_the_outstation_is_set_where_it_asks_and_we_are_told_to(server, wanted):
    await reset(server)
    await server.ask("clock")
    await server.ask("says", bits={"needTime": True})
    rig = Rig(server, time_sync=wanted)
    await rig.read()
    await rig.read()
    told = await server.ask("clock")
    assert len(told) == wanted
    assert rig.count("time_syncs") == wanted
    if wanted:
        assert abs(told[0] - T0.timestamp() * 1000) < 60_000
    await rig.io.close()


async def test_class_0_is_read_where_an_outstation_knows_no_ranges(server):
    await reset(server)
    rig = Rig(server, static="class0")
    readings = await rig.read()
    assert (readings["i"].value, readings["bi"].value, readings["pos"].value) == (-77.0, 1.0, 2.0)
    assert rig.io.why_unread("dev.f") == "an integer is told, f32 in the map"  # as it is set there
    assert rig.io.why_unread("dev.gone") == "g30/99 is not told"
    await rig.io.close()


KINDS = {1: "binary", 3: "double", 10: "bo", 20: "counter", 30: "analog", 40: "ao"}
VALUES: dict[str, tuple[Any, Any, Any]] = {  # put before, put then, and told of it
    "binary": (False, True, True),
    "bo": (False, True, True),
    "double": ("DETERMINED_ON", "DETERMINED_OFF", 1),
    "counter": (7, 65000, 65000),
    "analog": (7, -300, -300),
    "ao": (7, -300, -300),
}


async def asked(server: OpenDnp3, *requests: bytes) -> list[tuple[Told, ...]]:
    """What is told in answer to readings of our own."""
    session = Session(master=1, outstation=OUTSTATION, timeout_s=5.0, number=0, heard=None)
    await asyncio.get_running_loop().create_connection(lambda: session, "127.0.0.1", server.port)
    try:
        return [(await session.ask(READ, objects, decode=True)).told for objects in requests]
    finally:
        session.drop("closed")


@pytest.mark.parametrize(("group", "variation"), LAYOUTS, ids=lambda n: str(n))
async def test_every_variation_as_opendnp3_writes_it_is_read(server, group, variation):
    """Flags, value and time of each object in the encoding of somebody else."""
    layout, kind = LAYOUTS[group, variation], KINDS[LAYOUTS[group, variation].static]
    before, then, raw = VALUES[kind]
    await server.put((kind, 7, before, ONLINE, 0))
    await asked(server, EVENTS)
    await server.put((kind, 7, then, ONLINE, AT_MS))
    everything = bytes([group, variation, 0x06]) if group in TELLS_EVENTS else None
    ((*_, told),) = await asked(server, everything or bytes([group, variation, 0x01, 7, 0, 7, 0]))
    state = {"binary": 0x80 * bool(raw), "bo": 0x80 * bool(raw), "double": 0x40}.get(kind, 0)
    assert (told.group, told.place, told.raw, told.is_event) == (
        layout.static,
        7,
        raw,
        everything is not None,
    )
    assert told.flags == (ONLINE | state if layout.has_flags else None)
    assert told.at_ms == (None if layout.stamp is Stamp.NONE else AT_MS)


async def test_unsolicited_responses_are_confirmed_and_switched_off():
    server = OpenDnp3(unsolicited=True)
    await server.start()
    await server.put(*FIRST)
    rig = Rig(server)
    assert (await rig.read_until_good())["i"].value == -77.0
    await server.put(("analog", 2, 5, ONLINE, 0))
    assert (await rig.read())["i"].value == 5.0
    before = rig.count("unsolicited")
    await wall_sleep(0.1)
    await server.put(("analog", 2, 6, ONLINE, 0))
    await wall_sleep(0.1)
    assert rig.count("unsolicited") == before  # it was told to be silent
    assert (await rig.read())["i"].value == 6.0
    assert rig.count("connects") == 1
    await rig.io.close()
    await server.stop()


async def test_outstation_without_identity_is_not_written_to_where_the_map_wants_one(server):
    rig = Rig(server)
    identity = IdentityField(
        name="manufacturer", address="g0v252", table="object", data_type="string", length=0, byte_order="big",
        word_order="big", expected="Example Power",
    )  # fmt: skip
    one = dataclasses.replace(rig.connection, identity=(identity,))
    rig.io = FieldIO(site_of(one), clock=rig.clock)
    readings = await rig.read()
    assert rig.io.identities()["dev"] == {"manufacturer": None}
    assert readings["i"].value is None
    outcome, why = await rig.write("setf", 1.0)
    assert (outcome, "manufacturer is not told" in why) == (WriteOutcome.NOT_SENT, True)
    await rig.io.close()


async def test_frozen_outstation_write_is_unknown_until_read_back_and_not_sent_again(server):
    """One that is stopped and goes on carries out what it was sent before."""
    await reset(server)
    rig = Rig(server, timeout_s=SILENT)
    await rig.read_until_good()
    assert (await rig.write("setf", 1.0))[0] is WriteOutcome.CONFIRMED
    await server.freeze()
    assert await rig.write("setf", 77.0) == (WriteOutcome.UNKNOWN, "write: no answer in 0.3 s")
    assert (await rig.write("setf", 78.0))[0] is WriteOutcome.NOT_SENT
    assert {r.quality for r in (await rig.read()).values()} == {Quality.COMM_FAILED}
    server.thaw()
    assert (await rig.read_until_good())["setf"].value in (1.0, 77.0)
    assert 78.0 not in [what for *_, what in await server.ask("seen")]
    await rig.io.close()


async def test_killed_outstation_fails_at_once_and_comes_back_restarted():
    server = OpenDnp3()
    await server.start()
    await server.put(*FIRST)
    rig = Rig(server, timeout_s=2.0)
    assert (await rig.read_until_good())["f"].value == 33.5
    await server.stop()
    assert {r.quality for r in (await rig.read()).values()} == {Quality.COMM_FAILED}
    assert (await rig.write("setf", 5.0))[0] is WriteOutcome.NOT_SENT
    await server.start()
    assert (await rig.read())["f"].value is None  # never the value of before
    await server.put(*FIRST)
    assert (await rig.read_until_good())["f"].value == 33.5
    assert rig.count("restarts") == 2
    assert [kind for kind, _ in rig.events] == ["device.link.up", "device.link.down", "device.link.up"]
    await rig.io.close()
    await server.stop()


SITE = """
grid: {id: grid1}
connections:
  meter: {protocol: dnp3, host: 127.0.0.1, port: PORT, map: rtu.yaml, asset: grid1, poll_s: 1, timeout_s: 2,
          dnp3: {outstation: 10}}
"""
MAP = """
device: an RTU
protocol: dnp3
points:
  p_kw: {address: g30/0, type: f32, unit: W, range: [-500, 500], age_s_max: 5}
  q_kvar: {address: g30/77, type: f32, range: [-500, 500], age_s_max: 5}
"""


async def test_ems_read_shows_an_outstation_with_reasons(server, tmp_path, capsys):
    await reset(server)
    await server.put(("analog", 0, 12345.5, ONLINE, 0))
    await server.ask("says", bits={"deviceTrouble": True})
    (tmp_path / "rtu.yaml").write_text(MAP)
    (tmp_path / "site.yaml").write_text(SITE.replace("PORT", str(server.port)))
    options = Namespace(site=str(tmp_path / "site.yaml"), device=["meter"], every=None, wait=1.0, listen=1.0)
    assert await asyncio.to_thread(ems_read, options) == 1
    out = capsys.readouterr().out
    assert f"meter: dnp3 127.0.0.1:{server.port} outstation 10" in out
    assert "12.3455 kW" in out
    assert "object g30/0" in out
    assert "g30/77 is not told: parameter error" in out
    assert "active fault: device trouble (IIN1.6)" in out


async def browsed(capsys: pytest.CaptureFixture[str], port: int, **more: Any) -> tuple[int, list[str]]:
    parser = ArgumentParser()
    browse.configure(parser)
    options = vars(parser.parse_args([f"127.0.0.1:{port}", "--dnp3", str(OUTSTATION)]))
    code = await asyncio.to_thread(browse.run, Namespace(**options | more))
    return code, capsys.readouterr().out.splitlines()


async def test_ems_browse_lists_an_outstation_and_takes_no_events(eventful, capsys):
    await eventful.io.close()  # opendnp3 takes one master
    await eventful.server.put(("binary", 4, False, ONLINE, 0), ("analog", 1, 7, LOST, 0))
    await eventful.server.ask("says", bits={"deviceTrouble": True})
    before = eventful.count("events")
    code, lines = await browsed(capsys, eventful.server.port)
    assert code == 0
    for line in (
        "g1/4       bit     0",
        "g3/1       bits2   2 (on)",
        "g20/2      u32     65000",
        "g30/1      s32     7, the device has lost the sensor: an old value",
        "g10/0      bit     0; output g12v1/0",
        "g40/1      s32     0; output g41v1/1",
        "device trouble (IIN1.6)",
    ):
        assert line in lines, line
    code, lines = await browsed(capsys, eventful.server.port, only="g30/")
    assert (code, len(lines)) == (0, 16)
    assert (await browsed(capsys, eventful.server.port, only="g99"))[0] == 1
    with pytest.raises(EmsError, match=r"no answer in 0.3 s"):
        await browsed(capsys, eventful.server.port, dnp3=OUTSTATION + 1, timeout=0.3)
    await eventful.read_until_good("bi")
    assert eventful.count("events") > before  # they were left for us


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"timeout": 0.0}, "--timeout: found 0"),
        ({"dnp3": 65520}, "--dnp3: found 65520"),
        ({"master": -1}, "--master: found -1"),
        ({"host": "x:y"}, "HOST:PORT"),
        ({"host": "127.0.0.1:1"}, "cannot connect"),
    ],
)
async def test_ems_browse_says_what_is_wrong_with_its_arguments(capsys, more, why):
    with pytest.raises(EmsError, match=why):
        await browsed(capsys, 1, **more)


FAMILY = """
bess: {bess1: {}}
connections:
  pcs: {protocol: dnp3, host: 127.0.0.1, port: PORT, family: ieee1815_2_bess, asset: bess1, poll_s: 1,
        timeout_s: 5, dnp3: {outstation: 10, operate: OPERATE},
        settings: {p_rated_kw: 500 kW, q_rated_kvar: 300 kvar}}
"""


PERCENT = 'p_set_kw: {address: "g41v1/93 [g30/154]", unit: kW, scale: 0.5, range: [-500, 500]}'


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def mesa() -> AsyncIterator[MesaOutstation]:
    outstation = MesaOutstation()
    await outstation.start()
    yield outstation
    await outstation.stop()


@pytest.mark.parametrize("operate", ["direct", "select"])
async def test_family_of_ieee_1815_2_is_read_and_driven(mesa, tmp_path, operate):
    """What the profile of dnp3py says of its points: charging power, state of charge, and the targets."""
    (tmp_path / "site.yaml").write_text(FAMILY.replace("PORT", str(mesa.port)).replace("OPERATE", operate))
    (one,) = load_devices(tmp_path / "site.yaml", []).connections
    clock = VirtualClock(T0)
    io = FieldIO(site_of(one), clock=clock)
    readings = {r.point.removeprefix("bess1."): r for r in await io.read_all()}
    assert readings["soc"].is_good
    assert readings["remote"].value == 1.0
    assert readings["p_kw"].quality is Quality.OUT_OF_RANGE  # the profile begins at the least of an s32
    for name, value in (("p_set_kw", -123.456), ("q_set_kvar", 77.0), ("p_set_kw", 499.999)):
        (result,) = await io.write([command(f"bess1.{name}", value)])
        assert (result.outcome, result.detail) == (WriteOutcome.CONFIRMED, "")
        clock.advance(1.0)
        readings = {r.point.removeprefix("bess1."): r for r in await io.read_all()}
        assert readings[name].value == pytest.approx(value, abs=0.0005)
    await io.close()


async def test_family_with_a_target_in_percent_as_its_note_says(mesa, tmp_path):
    text = (shipped_folder() / "ieee1815_2_bess.yaml").read_text()
    assert f"`points: {{{PERCENT}}}`" in text
    site = FAMILY.replace("PORT", str(mesa.port)).replace("OPERATE", "direct")
    site = site.replace("asset: bess1,", f"asset: bess1, points: {{{PERCENT}}},")
    (tmp_path / "site.yaml").write_text(site)
    (one,) = load_devices(tmp_path / "site.yaml", []).connections
    clock = VirtualClock(T0)
    io = FieldIO(site_of(one), clock=clock)
    await io.read_all()
    (result,) = await io.write([command("bess1.p_set_kw", -250.0)])
    assert (result.outcome, result.detail) == (WriteOutcome.CONFIRMED, "")
    clock.advance(1.0)
    assert {r.point: r.value for r in await io.read_all()}["bess1.p_set_kw"] == -250.0
    await io.close()
