"""J1939 from can-j1939 over python-can's serial adapter: values, faults, a new address, silence, noise."""

import asyncio
import random
import socket
from argparse import Namespace
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from cli.edge_records import faulty
from cli.listen import run as ems_listen
from cli.read import run as ems_read
from connectors.field import FieldIO
from connectors.j1939.link import J1939Link
from connectors.j1939.wire import SocketCan
from connectors.link import LinkError
from connectors.point_map import point_codecs
from ems.clock import VirtualClock, wall_sleep
from ems.commands import WriteOutcome
from ems.errors import EmsError
from ems.j1939 import Can
from ems.telemetry import Quality, Reading
from tests.builders import T0
from tests.contract.can_engine import GROUPS, NONE, RIGHT, SOURCE, connection, line
from tests.contract.can_peer import CanPeer, SerialCable
from tests.contract.plants import command, site_of
from tests.contract.wire_kept import Kept

FAULTS = ("SPN 100 FMI 1, 5 times", "SPN 520192 FMI 31, 2 times")
NEEDS_PEER = pytest.mark.needs_server


@pytest_asyncio.fixture
async def cable() -> AsyncIterator[SerialCable]:
    made = SerialCable()
    made.start()
    yield made
    made.stop()


@pytest_asyncio.fixture
async def peer(cable: SerialCable) -> AsyncIterator[CanPeer]:
    made = CanPeer(cable.theirs)
    await made.start()
    yield made
    await made.stop()


async def claimed(peer: CanPeer, address: int, identity: int = 7) -> int:
    name = int(await peer.ask("claim", address=address, identity=identity))
    async with asyncio.timeout(30.0):
        while await peer.ask("state") != 2:
            await wall_sleep(0.05)
    return name


def good(readings: dict[str, Reading]) -> dict[str, float | None]:
    return {p: r.value for p, r in readings.items() if r.quality is Quality.GOOD}


Holds = Callable[[dict[str, Reading]], bool]


async def until(io: FieldIO, clock: VirtualClock, holds: Holds) -> dict[str, Reading]:
    async with asyncio.timeout(30.0):
        while True:
            readings = {r.point: r for r in await io.read_all()}
            if holds(readings):
                return readings
            clock.advance(0.1)
            await wall_sleep(0.02)


@NEEDS_PEER
async def test_can_j1939_is_heard_its_faults_are_events_and_its_silence_ends_every_value(cable, peer):
    events: list[tuple[str, dict]] = []
    clock = VirtualClock(T0)
    io = FieldIO(
        site_of(connection(cable.ours, timeout_s=0.5)), clock=clock, back_off_s_max=0.1,
        on_event=lambda at, kind, fields: events.append((kind, dict(fields))),
    )  # fmt: skip
    try:
        await io.read_all()
        await claimed(peer, SOURCE)
        await peer.ask("repeat", groups=GROUPS)
        await until(io, clock, lambda r: good(r) == pytest.approx(RIGHT))
        faults = [{"spn": 100, "fmi": 1, "oc": 5}, {"spn": 520192, "fmi": 31, "oc": 2}]  # in two parts
        await peer.ask("faults", faults=faults)
        readings = await until(io, clock, lambda r: bool(io.links()["dev"]["active_faults"]))
        assert io.links()["dev"]["faults"] == list(FAULTS)
        readings = await until(io, clock, lambda r: r["dev.stop_lamp"].value == 1.0)
        said = {"device": "dev", "faults": io.links()["dev"]["faults"]}
        assert ("device.faults", said) in events
        (alarm,) = faulty(io.faults())
        assert (alarm.code, alarm.asset, alarm.text) == ("device.faults", "dev", "; ".join(FAULTS))
        (answer,) = await io.write([command("dev.run_h", 1.0)])
        assert answer.outcome is WriteOutcome.NOT_SENT
        await peer.ask("repeat", groups=GROUPS | {65262: NONE})
        readings = await until(io, clock, lambda r: r["dev.coolant_degc"].quality is Quality.DEVICE_BAD)
        assert readings["dev.coolant_degc"].value is None
        assert io.why_unread("dev.coolant_degc") == "the sender says: not available"
        await peer.stop()
        readings = await until(io, clock, lambda r: {x.quality for x in r.values()} == {Quality.COMM_FAILED})
        assert {r.value for r in readings.values()} == {None}
        kind, told = events[-1]
        assert kind == "device.link.down"
        assert "nothing of source 3 is heard on" in str(told["reason"])
        assert cable.sent_by_us == b"C\rS5\rL\r"  # listening only
    finally:
        await io.close()
    await wall_sleep(0.05)
    assert cable.sent_by_us == b"C\rS5\rL\rC\r"


@NEEDS_PEER
async def test_wire_is_kept_as_captures_of_socketcan_are(cable, peer, tmp_path, require_program):
    kept, clock = Kept(tmp_path, "dev"), VirtualClock(T0)
    io = FieldIO(site_of(connection(cable.ours, timeout_s=0.5)), clock=clock, tap_of=kept.tap_of)
    try:
        await io.read_all()
        await claimed(peer, SOURCE)
        await peer.ask("repeat", groups=GROUPS)
        await until(io, clock, lambda r: good(r) == pytest.approx(RIGHT))
    finally:
        await io.close()
    assert kept.lines()[0].endswith(f"listening on {cable.ours}")
    heard = kept.said("I")
    assert kept.said("O") == []
    number, speed = 0x98F00400 | SOURCE, GROUPS[61444]  # extended, priority 6, electronic engine controller 1
    assert number.to_bytes(4, "big") + b"\x08\0\0\0" + bytes(speed) in heard
    capture = kept.captured(require_program("text2pcap"), "-l", "227")
    assert all(frame in capture for frame in heard)


@NEEDS_PEER
async def test_engine_of_another_name_at_the_address_is_refused(cable, peer):
    clock = VirtualClock(T0)
    io = FieldIO(site_of(connection(cable.ours, name=1, timeout_s=0.5)), clock=clock, back_off_s_max=0.1)
    try:
        await io.read_all()
        name = await claimed(peer, SOURCE)
        await peer.ask("repeat", groups=GROUPS)
        await until(io, clock, lambda r: {x.quality for x in r.values()} == {Quality.DEVICE_BAD})
        assert f"source 3 is NAME {name:#018x}, 0x0000000000000001 in the site file" in io.why_unread(
            "dev.run_h"
        )
    finally:
        await io.close()


@NEEDS_PEER
async def test_ems_listen_and_ems_read_show_the_bus(cable, peer, tmp_path, capsys):
    asked = Namespace(what="j1939", where=cable.ours, seconds=0.2, only="", bitrate=250000)
    assert await asyncio.to_thread(ems_listen, asked) == 1
    listening = asyncio.create_task(
        asyncio.to_thread(ems_listen, Namespace(**{**vars(asked), "seconds": 6.0}))
    )
    await wall_sleep(0.1)
    await claimed(peer, SOURCE)
    await peer.ask("repeat", groups=GROUPS)
    await peer.ask("faults", faults=[{"spn": 100, "fmi": 1, "oc": 5}, {"spn": 110, "fmi": 0, "oc": 2}])
    assert await listening == 0
    out = capsys.readouterr().out
    speed = "F0 7D 7D E0 2E 00 FF FF"
    for text in ("source 3", "NAME 0x", "PGN 61444 every 0.1", speed, "SPN 110 FMI 0, 2 times"):
        assert text in out, out
    (tmp_path / "site.yaml").write_text(
        f"""gensets: {{gen1: {{}}}}
connections:
  engine:
    protocol: j1939
    can: {{serial: {cable.ours}, source: {SOURCE}}}
    poll_s: 0.5
    timeout_s: 5
    asset: gen1
    map: m.yaml
"""
    )
    (tmp_path / "m.yaml").write_text(
        """device: engine
protocol: j1939
points:
  speed_rpm: {address: "61444/4 [190]", type: u16, scale: 0.125, range: [0, 3000], age_s_max: 2}
  oil_kpa: {address: "65263/4 [100]", type: u8, scale: 4, unit: kPa, range: [0 bar, 10 bar], age_s_max: 3}
"""
    )
    read = Namespace(site=str(tmp_path / "site.yaml"), device=[], every=None, wait=20.0, listen=0.1)
    assert await asyncio.to_thread(ems_read, read) == 0
    out = capsys.readouterr().out
    assert f"engine: j1939 {cable.ours} source 3" in out
    assert "gen1.speed_rpm        1500 rpm  good         pgn 61444/4 [190]" in out
    with pytest.raises(EmsError, match="cannot open /dev/none"):
        ems_listen(Namespace(**{**vars(asked), "where": "/dev/none"}))


def link_to(cable: SerialCable) -> J1939Link:
    told = connection(cable.ours, timeout_s=0.05)
    assert told.can is not None
    return J1939Link(told.can, list(point_codecs(told).values()), timeout_s=0.05)


async def test_noise_of_an_adapter_never_becomes_a_value(cable):
    link, rng = link_to(cable), random.Random(3)
    with pytest.raises(LinkError, match="nothing of source 3"):
        await link.connect()
    for _ in range(60):
        for pgn, data in GROUPS.items():
            text = line(pgn, data)
            cable.say(rng.choice((text, text[: rng.randrange(len(text))], rng.randbytes(20) + b"\r", b"\a")))
        await wall_sleep(0.02)
        if not link._silence():
            now = {p: v.value for p, v in (await link.read()).items() if v.quality is Quality.GOOD}
            assert now == pytest.approx({p: RIGHT[p] for p in now})
    assert link.counts["malformed"] > 20
    assert link.counts["messages"] > 20
    await link.disconnect()


async def test_adapter_that_is_held_or_gone_is_named(cable):
    first, second = link_to(cable), link_to(cable)
    with pytest.raises(LinkError, match="nothing of source 3"):
        await first.connect()
    with pytest.raises(LinkError, match="is held by another process"):
        await second.connect()
    await first.disconnect()
    with pytest.raises(LinkError, match="is no serial port"):
        await J1939Link(Can(serial="/dev/null", source=3), [], timeout_s=0.05).connect()


async def test_system_without_can_says_what_is_missing():
    try:
        socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW).close()
        wanted = "cannot listen to nocan0: No such device"
    except OSError:
        wanted = "cannot listen to nocan0: this system has no CAN"
    with pytest.raises(LinkError, match=wanted):
        SocketCan("nocan0", 3).open()


async def test_frames_of_a_socket_are_read_as_the_kernel_lays_them_out(monkeypatch):
    """A pair of sockets with the kernel's struct can_frame stands in for an interface."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    wire = SocketCan("can0", SOURCE)
    wire._socket = ours
    extended, remote, error = 0x80000000, 0x40000000, 0x20000000
    for number in (0x0CF00403 | extended, 0x123, 0x0CF00403 | extended | remote, 4 | error):
        theirs.send(number.to_bytes(4, "little") + bytes([8, 0, 0, 0]) + bytes(GROUPS[61444]))
    theirs.send(b"short")
    assert [f for f, _ in wire.frames(0.1)] == [(0x0CF00403, bytes(GROUPS[61444]))]
    assert wire.malformed == 1
    theirs.close()
    wire.close()
