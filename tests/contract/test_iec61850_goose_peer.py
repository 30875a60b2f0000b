"""GOOSE from libiec61850 on a cable in a network of its own: values, silence, refusals, noise and floods."""

import asyncio
import random
import subprocess
import sys
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio

from cli.listen import run as ems_listen
from cli.read import run as ems_read
from connectors.field import FieldIO
from connectors.iec61850.goose_link import BURST, RATE_PER_S, GooseLink
from connectors.iec61850.goose_wire import BATCH
from connectors.link import LinkError
from connectors.point_map import point_codecs
from ems.clock import VirtualClock, wall_s, wall_sleep
from ems.commands import WriteOutcome
from ems.errors import EmsError
from ems.telemetry import Quality, Reading
from tests.builders import T0
from tests.contract.goose_frames import BLOCK, MEMBERS, RIGHT, connection, frame, places, spoilt
from tests.contract.goose_peer import OURS, LibIecPublisher, network, sender
from tests.contract.plants import command, site_of
from tests.contract.wire_kept import Kept

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.needs_server]
VALUES: list[Any] = [
    ["bits", [2, 2]],
    ["bits", [13, 0]],
    ["structure", [["bool", True], ["bits", [13, 0]], ["time_ms", 1772366400250]]],
    ["structure", [["structure", [["float", -12.5]]], ["bits", [13, 0]]]],
    ["int", 70000],
    ["bits", [13, 0]],
]
OPENED = [["bits", [2, 1]], *VALUES[1:]]
ALIVE_MS = 400


@pytest.fixture(scope="module")
def cable() -> Iterator[int]:
    with network() as pid:
        yield pid


@pytest_asyncio.fixture(loop_scope="module")
async def peer(cable: int) -> AsyncIterator[LibIecPublisher]:
    made = LibIecPublisher(cable)
    await made.start()
    yield made
    await made.stop()


async def opened(peer: LibIecPublisher, **more: Any) -> None:
    await peer.ask(
        "open", app_id=BLOCK.app_id, destination=BLOCK.destination, control_block=BLOCK.control_block,
        data_set=BLOCK.data_set, go_id=BLOCK.go_id, **({"conf_rev": 3, "alive_ms": ALIVE_MS} | more),
    )  # fmt: skip


class Repeating:
    """Publishes again and again, as a publisher does."""

    def __init__(self, peer: LibIecPublisher) -> None:
        self.peer, self.values = peer, VALUES
        self._lock, self._changed = asyncio.Lock(), False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            async with self._lock:
                await self.peer.ask("publish", values=self.values, change=self._changed)
                self._changed = False
            await wall_sleep(0.05)

    async def change(self, values: list[Any]) -> None:
        async with self._lock:
            self.values, self._changed = values, True

    async def set(self, **told: Any) -> None:
        async with self._lock:
            await self.peer.ask("set", set=told)

    async def stop(self) -> None:
        async with self._lock:
            self._task.cancel()


async def until(io: FieldIO, holds: Callable[[dict[str, Reading]], bool]) -> dict[str, Reading]:
    async with asyncio.timeout(30.0):
        while True:
            readings = {r.point: r for r in await io.read_all()}
            if holds(readings):
                return readings
            io_clock.advance(0.1)
            await wall_sleep(0.02)


io_clock = VirtualClock(T0)


def good(readings: dict[str, Reading]) -> dict[str, float | None]:
    return {p: r.value for p, r in readings.items() if r.quality is Quality.GOOD}


@pytest.mark.parametrize("vlan", [{}, {"vlan": 7}])
async def test_libiec61850_is_heard_and_its_silence_ends_every_value(peer, vlan):
    await opened(peer, **vlan)
    told = Repeating(peer)
    events: list[tuple[str, str]] = []
    io = FieldIO(
        site_of(connection(OURS, timeout_s=0.5)), clock=io_clock, back_off_s_max=0.1,
        on_event=lambda at, kind, fields: events.append((kind, str(fields.get("reason", "")))),
    )  # fmt: skip
    try:
        readings = await until(io, lambda r: good(r) == RIGHT)
        assert readings["dev.stop"].source_time.isoformat() == "2026-03-01T12:00:00.250000+00:00"
        await told.change(OPENED)
        await until(io, lambda r: good(r) == RIGHT | {"dev.closed": 1.0})
        counts = io.links()["dev"]
        assert counts["states"] == 1
        assert (counts["malformed"], counts["set_back"], counts["not_as_agreed"], counts["dropped"]) == (
            0,
        ) * 4
        (answer,) = await io.write([command("dev.closed", 1.0)])
        assert answer.outcome is WriteOutcome.NOT_SENT
        await told.stop()
        readings = await until(io, lambda r: r["dev.closed"].quality is Quality.COMM_FAILED)
        assert {r.value for r in readings.values()} == {None}
        assert events[-1][0] == "device.link.down"
        assert "timeAllowedToLive was 0.4 s" in events[-1][1]
        again = Repeating(peer)
        again.values = OPENED
        await until(io, lambda r: good(r) == RIGHT | {"dev.closed": 1.0})
        await again.stop()
    finally:
        await io.close()


@pytest.mark.parametrize(
    ("told", "undone", "text"),
    [
        ({"Simulation": True}, {"Simulation": False}, "simulated messages alone are heard"),
        ({"NeedsCommission": True}, {"NeedsCommission": False}, "ndsCom is set"),
        ({"ConfRev": 4}, {"ConfRev": 3}, "confRev 4, 3 in the site file"),
    ],
)
async def test_what_libiec61850_marks_is_not_taken(peer, told, undone, text):
    await opened(peer)
    await peer.ask("set", set=told)
    publishing = Repeating(peer)
    io = FieldIO(site_of(connection(OURS)), clock=io_clock, back_off_s_max=0.1)
    try:
        await until(io, lambda r: text in str(io.links()["dev"]["reason"]))
        assert good({r.point: r for r in await io.read_all()}) == {}
        await publishing.set(**undone)
        await until(io, lambda r: good(r) == RIGHT)
        await publishing.stop()
    finally:
        await io.close()


async def test_wire_is_kept_as_whole_frames(peer, tmp_path, require_program):
    await opened(peer)
    publishing, kept = Repeating(peer), Kept(tmp_path, "dev")
    io = FieldIO(site_of(connection(OURS)), clock=io_clock, back_off_s_max=0.1, tap_of=kept.tap_of)
    try:
        await until(io, lambda r: good(r) == RIGHT)
        await publishing.stop()
    finally:
        await io.close()
    heard = kept.said("I")
    assert kept.said("O") == []
    assert heard
    assert all(f[:6].hex("-") == BLOCK.destination.replace(":", "-").lower() for f in heard)
    assert all(b"\x88\xb8\x10\x01" in f for f in heard)  # EtherType, APPID
    capture = kept.captured(require_program("text2pcap"), "-l", "1")
    assert all(frame in capture for frame in heard)


async def test_libiec61850_that_starts_anew_is_believed_after_its_time_to_live(peer):
    await opened(peer)
    await peer.ask("set", set={"StNum": 9, "SqNum": 4})
    publishing = Repeating(peer)
    io = FieldIO(site_of(connection(OURS)), clock=io_clock, back_off_s_max=0.1)
    try:
        await until(io, lambda r: good(r) == RIGHT)
        await publishing.set(StNum=1, SqNum=0)
        publishing.values = OPENED
        await until(io, lambda r: good(r) == RIGHT | {"dev.closed": 1.0})
        counts = io.links()["dev"]
        assert counts["set_back"] != 0
        assert counts["lapses"] == 1
        await publishing.stop()
    finally:
        await io.close()


async def test_ems_read_shows_what_is_heard_and_why_there_is_nothing(peer, tmp_path, capsys):
    members = "".join(f'          - "{m}"\n' for m in MEMBERS)
    (tmp_path / "site.yaml").write_text(
        f"""bus: {{}}
connections:
  relay:
    protocol: goose
    goose:
      interface: {OURS}
      blocks:
      - control_block: {BLOCK.control_block}
        app_id: 0x1001
        destination: {BLOCK.destination}
        conf_rev: 3
        members:
{members}    poll_s: 0.5
    timeout_s: 0.5
    asset: bus
    map: relay.yaml
"""
    )
    (tmp_path / "relay.yaml").write_text(
        """device: relay
protocol: goose
points:
  contact_1:
    {address: "IED1LD0/XCBR1.Pos.stVal [ST]", type: Dbpos, codes: {1: 0, 2: 1}, range: [0, 1], age_s_max: 2}
"""
    )
    asked = Namespace(site=str(tmp_path / "site.yaml"), device=[], every=None, wait=1.0, listen=0.1)
    assert await asyncio.to_thread(in_thread, lambda: ems_read(asked), peer) == 1
    told = capsys.readouterr().out
    assert f"relay: goose {OURS}, IED1LD0/LLN0$GO$gcbTrip: nothing heard" in told
    await opened(peer)
    publishing = Repeating(peer)
    asked.wait = 20.0
    assert await asyncio.to_thread(in_thread, lambda: ems_read(asked), peer) == 0
    await publishing.stop()
    assert "bus.contact_1" in (told := capsys.readouterr().out)
    assert "good         member IED1LD0/XCBR1.Pos.stVal [ST]" in told


def in_thread(call: Callable[[], int], peer: LibIecPublisher) -> int:
    """In the network of the cable, which a new thread is not in by itself."""
    peer.enter()
    return call()


async def heard(link: GooseLink, holds: Callable[[dict[str, int]], bool]) -> dict[str, int]:
    async with asyncio.timeout(30.0):
        while not holds(counts := link.counts):
            await wall_sleep(0.02)
    return counts


def link_to(**block: Any) -> GooseLink:
    told = connection(OURS, **block)
    assert told.goose is not None
    return GooseLink(told.goose, list(point_codecs(told).values()), timeout_s=0.05)


@pytest.mark.scenario(26)
async def test_noise_on_the_cable_never_becomes_a_value(cable):
    link, rng = link_to(), random.Random(26)
    with pytest.raises(LinkError, match="nothing heard"):
        await link.connect()
    base = frame(5, 5, alive_ms=60000)
    spare = frozenset(i for first, last in places(base).values() for i in range(first, last))
    believed = sent = 0
    with sender() as out:
        for _ in range(60):
            for _ in range(40):
                made = spoilt(rng, base, spare)
                if 14 <= len(made) <= 1514:
                    out.send(made)
                    sent += 1
            await wall_sleep(0.04)
            if link.connected and not link._silence():
                now = await link.read()
                believed += sum(v.quality is Quality.GOOD for v in now.values())
                assert {
                    p: v.value for p, v in now.items() if v.quality is Quality.GOOD
                }.items() <= RIGHT.items()
        assert sent > 2000
        assert believed > 0
        assert link.counts["malformed"] > 200
        # After all of that a right message is read; no noise that lives for long stands in its way.
        out.send(frame(conf_rev=9))
        out.send(frame(1, 0))
        await heard(link, lambda c: not c["blocks_silent"] and not link._silence())
        assert {p: v.value for p, v in (await link.read()).items()} == RIGHT
    await link.disconnect()


async def test_flood_of_our_own_is_dropped_and_counted_and_one_of_others_is_not_even_looked_at(cable):
    link, count = link_to(), 2500
    ours = [frame(1, i, alive_ms=60000) for i in range(count)]
    theirs = frame(app_id=0x2002)
    with pytest.raises(LinkError, match="nothing heard"):
        await link.connect()
    began_s = wall_s()
    with sender() as out:
        for made in ours:
            out.send(made)
            out.send(theirs)
        counts = await heard(link, lambda c: c["messages"] + c["sequence_gaps"] >= count - 1 - c["dropped"])
        assert counts["others"] == 0
        assert counts["messages"] <= BURST + BATCH + RATE_PER_S * (wall_s() - began_s)
        await heard(link, lambda c: c["messages"] + c["dropped"] == count)
        out.send(frame(2, 0))
        await heard(link, lambda c: c["states"] == 1)
    assert {p: v.value for p, v in (await link.read()).items()} == RIGHT
    await link.disconnect()


async def test_interface_that_is_not_there_is_named(cable):
    told = connection("ems9")
    assert told.goose is not None
    link = GooseLink(told.goose, list(point_codecs(told).values()), timeout_s=0.05)
    with pytest.raises(LinkError, match="no network interface 'ems9' here; there are: lo, ems"):
        await link.connect()
    assert not link.connected


async def test_interface_that_goes_down_is_told_and_listened_to_again(cable):
    link = link_to()
    with pytest.raises(LinkError):
        await link.connect()
    subprocess.run(["ip", "link", "set", OURS, "down"], check=True)
    try:
        await wall_sleep(0.3)
        with pytest.raises(LinkError, match=f"{OURS} is down|Network is down"):
            await link.connect()
    finally:
        subprocess.run(["ip", "link", "set", OURS, "up"], check=True)
    with sender() as out:
        async with asyncio.timeout(30.0):
            while True:
                out.send(frame(1, random.randrange(1, 10**6)))
                try:
                    await link.connect()
                    break
                except LinkError:
                    await wall_sleep(0.02)
    await link.disconnect()


async def test_without_the_capability_it_says_which_one(cable, require_program):
    told = (
        "from connectors.iec61850.goose_wire import Wire\nfrom connectors.link import LinkError\n"
        f"try:\n    Wire({OURS!r}, [], []).open()\nexcept LinkError as error:\n    print(error)\n"
    )
    drop = [require_program("setpriv"), "--bounding-set", "-net_raw"]
    done = subprocess.run([*drop, sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert f"not allowed to listen to {OURS}: it takes the capability CAP_NET_RAW" in done.stdout


async def test_nothing_is_ever_sent(cable):
    link = link_to()
    with pytest.raises(LinkError):
        await link.connect()
    assert link._wire is not None
    assert link._wire._socket is not None
    before = sent_frames()
    await wall_sleep(0.2)
    assert sent_frames() == before
    await link.disconnect()


def sent_frames() -> int:
    """Packets that our end of the cable has sent."""
    done = subprocess.run(["ip", "-s", "link", "show", OURS], capture_output=True, text=True, check=True)
    return int(done.stdout.split("TX:")[1].split()[7])


async def test_ems_listen_lists_what_a_site_file_says_of_each_block(peer, capsys):
    asked = Namespace(what="goose", where=OURS, seconds=0.3, only="gcb")
    assert await asyncio.to_thread(in_thread, lambda: ems_listen(asked), peer) == 1
    await opened(peer)
    publishing = Repeating(peer)
    asked.seconds = 1.0
    assert await asyncio.to_thread(in_thread, lambda: ems_listen(asked), peer) == 0
    await publishing.stop()
    out = capsys.readouterr().out
    for text in (
        "IED1LD0/LLN0$GO$gcbTrip  from ", "app_id 0x1001, destination 01:0c:cd:01:00:01, conf_rev 3",
        "go_id trip, data_set IED1LD0/LLN0$DSTrip, timeAllowedToLive 0.4 s", "stNum 1, sqNum ",
        "0 Dbpos 2 on", "1 q good", "2 (0) BOOLEAN true", "3 (0) (0) FLOAT32 -12.5", "4 INT 70000",
    ):  # fmt: skip
        assert text in out, out
    with pytest.raises(EmsError, match="no network interface 'ems9'"):
        ems_listen(Namespace(what="goose", where="ems9", seconds=1.0, only=""))
