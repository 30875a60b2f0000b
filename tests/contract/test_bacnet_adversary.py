"""BACnet devices that answer wrongly: no wrong value is taken, nothing commanded twice, nothing left."""

import asyncio
import dataclasses
import math
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from connectors.bacnet import session as wire
from connectors.bacnet.browse import browse
from connectors.bacnet.client import BacnetLink
from connectors.bacnet.control import TOO_LATE
from connectors.field import FieldIO
from connectors.link import LinkError, NotSent, PointValue
from connectors.point_map import PointCodec, point_codecs
from ems.bacnet import Bacnet
from ems.clock import VirtualClock, wall_s, wall_sleep
from ems.commands import WriteOutcome
from ems.site import Connection, IdentityField, PointMap, Protocol
from ems.site_schema import load_devices
from ems.telemetry import Quality
from tests.builders import T0
from tests.contract.conftest import DEMO
from tests.contract.fake_bacnet import (
    DEVICE_ID,
    WRITE,
    FakeDevice,
    Hand,
    Parts,
    enumerated,
    flags,
    measured,
    real,
    whole,
)
from tests.contract.plants import command, free_port, site_of

FOREVER = float("inf")
RIGHT = {
    "dev.p": 11.5, "dev.q": -22.25, "dev.n": 300.0, "dev.off": 0.0, "dev.on": 1.0, "dev.set": 44.0,
}  # fmt: skip


def row(name: str, address: str, data_type: str, writable: bool = False) -> PointMap:
    return PointMap(
        point=f"dev.{name}", address=address, table="object", data_type=data_type, byte_order="big",
        word_order="big", scale=1.0, offset=0.0, sign=1, unit="kW", low=-1e38, high=1e38, age_s_max=3.0,
        writable=writable,
    )  # fmt: skip


ROWS = (
    row("p", "analog-input,0", "real"),
    row("q", "analog-input,1", "real"),
    row("n", "multi-state-input,4", "unsigned"),
    row("off", "binary-input,0", "bit"),
    row("on", "binary-input,1", "bit"),
    row("set", "analog-output,5", "real", writable=True),
)


def connection(device: FakeDevice, timeout_s: float, **keys: Any) -> Connection:
    return Connection(
        id="dev", protocol=Protocol.BACNET, host="127.0.0.1", port=device.port, unit_id=1, endpoint="",
        poll_s=1.0, timeout_s=timeout_s, watchdog_point=None, points=ROWS,
        bacnet=Bacnet(device=DEVICE_ID, **keys),
    )  # fmt: skip


class Rig:
    def __init__(self, device: FakeDevice, timeout_s: float = 0.25, **keys: Any) -> None:
        self.device = device
        self.connection = connection(device, timeout_s, **keys)
        self.codecs = point_codecs(self.connection)
        self.link = BacnetLink(
            self.connection, list(self.codecs.values()), host="127.0.0.1", port=device.port,
            timeout_s=timeout_s,
        )  # fmt: skip

    async def read(self) -> dict[str, PointValue]:
        values = await self.link.read()
        wrong = {p: v for p, v in values.items() if v.quality is Quality.GOOD and v.value != RIGHT[p]}
        assert wrong == {}
        return {point.removeprefix("dev."): value for point, value in values.items()}

    async def write(self, value: float, until_s: float = FOREVER) -> tuple[WriteOutcome, str]:
        (reply,) = await self.link.write([(self.codecs["dev.set"], value)], until_s)
        return reply.outcome, reply.detail

    @property
    def commands(self) -> int:
        return sum(service == WRITE for _, service, _ in self.device.asked)


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    device = FakeDevice()
    await device.start()
    rig = Rig(device)
    yield rig
    await rig.link.disconnect()
    device.stop()


def instead(*made: Callable[[bytes], bytes]) -> Callable[[Parts, int], list[bytes]]:
    """Datagrams made of the right answer."""
    return lambda right, _: [whole(make(bytes(right.data))) for make in made]


def renumbered(by: int) -> Callable[[bytes], bytes]:
    """An answer to another request."""
    return lambda data: data[:3] + bytes([data[3] + by & 0xFF]) + data[4:]


def right(data: bytes) -> bytes:
    return data


async def test_right_answers_are_read(rig):
    await rig.link.connect()
    values = await rig.read()
    assert {f"dev.{p}": v.value for p, v in values.items()} == RIGHT
    assert rig.link.refused == {}
    assert [service for _, service, _ in rig.device.asked] == [12, 12, 14]


async def test_answer_to_another_request_is_ignored_and_the_right_one_taken(rig):
    await rig.link.connect()
    rig.device.spoil = instead(renumbered(1), renumbered(-1), right)
    assert (await rig.read())["p"].value == 11.5
    assert rig.link.counts["others"] == 2


@pytest.mark.scenario(27)
async def test_answer_that_comes_late_is_never_taken_for_the_next_one(rig):
    """Our port stays the same, and so does the device's: the number alone tells them apart."""
    rig = Rig(rig.device, timeout_s=0.1, bind=f"127.0.0.1:{free_port()}")
    await rig.link.connect()
    late: list[bytes] = []

    def held(parts: Parts, service: int) -> list[bytes]:
        late.append(whole(parts.data))
        return []

    rig.device.spoil = held
    with pytest.raises(LinkError, match=r"no answer in 0\.1 s"):
        await rig.link.read()
    assert not rig.link.connected
    rig.device.objects[0, 0] = measured(real(99.0))
    rig.device.spoil = lambda parts, service: [*late, whole(parts.data)]
    await rig.link.connect()
    values = await rig.link.read()
    assert values["dev.p"].value == 99.0
    assert rig.link.counts["others"] >= 2
    await rig.link.disconnect()


def other_object(data: bytes) -> bytes:
    return data.replace(b"\x0c\x00\x00\x00\x00", b"\x0c\x00\x00\x00\x07")


def other_property(data: bytes) -> bytes:
    return data.replace(b"\x29\x55", b"\x29\x54", 1)


@pytest.mark.scenario(26)
@pytest.mark.parametrize(
    ("made", "why"),
    [
        (other_object, "which was not asked"),
        (other_property, "which was not asked"),
        (lambda d: d[:2] + bytes([0x38, d[3], 0, 4]) + d[4:], "an answer in segments"),
        (lambda d: d[:4] + bytes([12]) + d[5:], "of service 12, and 14 was asked"),
        (lambda d: d[:2] + bytes([0x20, d[3], 14]), "of service 14, and 14 was asked"),
        (lambda d: d[:2] + bytes([0x50, d[3], 12, 0x91, 2, 0x91, 32]), "an error of service 12"),
        (lambda d: d[:2] + bytes([0x50, d[3], 14, 0x91, 2]), "cut short"),
        (lambda d: d[:-1], "cut short"),
        (lambda d: d + b"\x00", "no tag"),
        (lambda d: d + d[5:], "which was not asked"),
        (lambda d: d[:5], "0 of 20 properties"),
        (lambda d: d.replace(b"\x44", b"\x45", 1), "."),
        (lambda d: d.replace(b"\x4f\x29", b"\x5f\x29", 1), "."),
    ],
)
async def test_answer_that_is_not_the_right_one_ends_the_connection(rig, made, why):
    await rig.link.connect()
    rig.device.spoil = instead(made)
    with pytest.raises(LinkError, match=why):
        await rig.link.read()
    assert not rig.link.connected
    rig.device.spoil = None
    await rig.link.connect()
    assert (await rig.read())["p"].value == 11.5


async def test_noise_is_counted_and_the_right_answer_taken(rig):
    await rig.link.connect()
    rig.device.spoil = lambda parts, _: [b"\x81", b"GET / HTTP/1.1\r\n\r\n", b"\x81\x0a", whole(parts.data)]
    assert (await rig.read())["p"].value == 11.5
    assert rig.link.counts["malformed"] == 3


async def test_flood_ends_the_connection(rig):
    await rig.link.connect()
    rig.device.spoil = lambda parts, _: [b"noise"] * 450
    with pytest.raises(LinkError, match="more than 400 datagrams in a second"):
        await rig.link.read()


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
async def test_value_that_is_no_number_is_none(rig, value):
    rig.device.objects[0, 0] = measured(real(value))
    await rig.link.connect()
    reading = (await rig.read())["p"]
    assert (reading.value, reading.quality) == (None, Quality.NOT_FINITE)


async def test_question_that_was_lost_is_asked_once_more_and_a_command_is_not(rig):
    await rig.link.connect()
    lost = iter([True, False])
    rig.device.spoil = lambda parts, _: [] if next(lost) else [whole(parts.data)]
    assert (await rig.read())["p"].value == 11.5
    assert rig.link.counts["repeated"] == 1
    numbers = [invoke for invoke, service, _ in rig.device.asked if service == 14]
    assert len(numbers) == 2
    assert len(set(numbers)) == 1
    rig.device.spoil = lambda parts, _: []
    assert await rig.write(5.0) == (WriteOutcome.UNKNOWN, "write: no answer in 0.25 s")
    assert rig.commands == 1
    assert not rig.link.connected


@pytest.mark.parametrize(
    ("answer", "outcome", "detail"),
    [
        (b"\x60\x09", WriteOutcome.REJECTED, "rejected: unrecognized service (reason 9)"),
        (b"\x60\xc8", WriteOutcome.REJECTED, "rejected: rejected (reason 200)"),
        (b"\x50\x0f\x91\x02\x91\x25", WriteOutcome.REJECTED, "value out of range (property, code 37)"),
        (b"\x50\x0f\x91\x63\x93\x01\x00\x00", WriteOutcome.REJECTED, "error (class 99, code 65536)"),
        (b"\x71\x09", WriteOutcome.UNKNOWN, "write: aborted: out of resources (reason 9)"),
        (b"\x20\x0c", WriteOutcome.UNKNOWN, "write: an acknowledgement of service 12, and 15 was asked"),
        (b"\x30\x0f", WriteOutcome.UNKNOWN, "write: an acknowledgement of service 15, and 15 was asked"),
        (b"\x50\x0f\x91\x02", WriteOutcome.UNKNOWN, "write: a value that is cut short"),
        (
            b"\x50\x0e\x91\x02\x91\x25",
            WriteOutcome.UNKNOWN,
            "write: an error of service 14, and 15 asked",
        ),
        (b"\x20\x0f\x00", WriteOutcome.UNKNOWN, "write: no answer in 0.25 s"),
    ],
)
async def test_command_is_what_its_answer_says_or_unknown(rig, answer, outcome, detail):
    await rig.link.connect()
    rig.device.write_answer = answer
    assert await rig.write(5.0) == (outcome, detail)
    assert rig.commands == 1
    assert rig.link.connected is (outcome is WriteOutcome.REJECTED)


async def test_acknowledgement_of_an_earlier_command_is_not_that_of_the_next(rig):
    await rig.link.connect()
    rig.device.spoil = instead(renumbered(-1))
    outcome, _ = await rig.write(5.0)
    assert outcome is WriteOutcome.UNKNOWN


async def test_command_of_an_old_cycle_is_not_sent(rig):
    await rig.link.connect()
    outcome, detail = await rig.write(5.0, until_s=wall_s() - 1.0)
    assert (outcome, rig.commands) == (WriteOutcome.NOT_SENT, 0)
    assert "over" in detail


@pytest.mark.scenario(66)
async def test_command_is_that_of_the_moment_its_turn_has_come(rig):
    """A poll is under way and a pause due: the value is asked for behind both."""
    rig = Rig(rig.device, pause_s=0.05)
    await rig.link.connect()
    kw, asked = [5.0], list[float]()

    def latest(codec: PointCodec, value: float) -> float:
        asked.append(kw[0])
        return kw[0]

    poll = asyncio.create_task(rig.link.read())
    await asyncio.sleep(0)
    write = asyncio.create_task(rig.link.write([(rig.codecs["dev.set"], 5.0)], FOREVER, latest))
    await asyncio.sleep(0)
    kw[0] = 3.0
    await poll
    (reply,) = await write
    assert (reply.outcome, asked) == (WriteOutcome.CONFIRMED, [3.0])
    await rig.link.disconnect()


@pytest.mark.scenario(66)
@pytest.mark.parametrize("until_s", [FOREVER, 0.03])
async def test_command_that_is_not_allowed_any_more_or_too_late_by_its_turn_is_not_sent(rig, until_s: float):
    """A pause is due before it, and the end of the cycle falls into the pause."""
    rig = Rig(rig.device, pause_s=0.1)
    await rig.link.connect()
    await rig.link.read()
    before = rig.commands

    def latest(codec: PointCodec, value: float) -> float:
        raise NotSent("lowered meanwhile")

    (reply,) = await rig.link.write([(rig.codecs["dev.set"], 5.0)], wall_s() + until_s, latest)
    assert reply.outcome is WriteOutcome.NOT_SENT
    assert reply.detail == ("lowered meanwhile" if until_s == FOREVER else TOO_LATE.detail)
    assert rig.commands == before
    assert rig.link.connected
    await rig.link.disconnect()


@pytest.mark.scenario(27)
async def test_command_that_is_cancelled_midway_leaves_no_connection(rig):
    await rig.link.connect()
    rig.device.spoil = lambda parts, _: []
    task = asyncio.create_task(rig.write(5.0))
    async with asyncio.timeout(5.0):
        while not rig.commands:
            await wall_sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not rig.link.connected


async def test_pause_is_kept_between_an_answer_and_the_next_request(rig):
    rig = Rig(rig.device, pause_s=0.05)
    began_s = wall_s()
    await rig.link.connect()
    await rig.read()
    assert wall_s() - began_s >= 0.1
    await rig.link.disconnect()


async def test_nobody_at_the_port_is_told_at_once(rig):
    rig.device.stop()
    mine = Rig(rig.device, timeout_s=5.0)
    began_s = wall_s()
    with pytest.raises(LinkError, match="Connection refused"):
        await mine.link.connect()
    assert wall_s() - began_s < 2.0
    await rig.device.start()


async def test_device_behind_a_router_is_asked_there_and_known_by_its_address():
    device = FakeDevice(npdu=b"\x01\x08\x07\xd1\x01\x0c")
    await device.start()
    rig = Rig(device, timeout_s=0.2, network=2001, mac="0c")
    stranger = Rig(device, timeout_s=0.1, network=2001, mac="0d")
    try:
        await rig.link.connect()
        assert (await rig.read())["p"].value == 11.5
        assert await rig.write(5.0) == (WriteOutcome.CONFIRMED, "")
        with pytest.raises(LinkError, match="no answer"):
            await stranger.link.connect()
        device.spoil = lambda parts, _: [whole(b"\x01\x80\x03\x01\x07\xd1")]
        with pytest.raises(LinkError, match="the router says of network 2001: not reachable"):
            await rig.link.read()
    finally:
        await rig.link.disconnect()
        device.stop()


async def test_error_to_a_whole_request_has_each_property_asked_by_itself(rig):
    await rig.link.connect()

    def denies(parts: Parts, service: int) -> list[bytes]:
        data = bytes(parts.data)
        refused = data[:2] + bytes([0x50, data[3], 14]) + enumerated(0) + enumerated(25)
        return [whole(refused if service == 14 else data)]

    rig.device.spoil = denies
    assert {f"dev.{p}": v.value for p, v in (await rig.read()).items()} == RIGHT
    rig.device.spoil = instead(lambda d: d[:2] + bytes([0x60, d[3], 9]))  # not even that
    values = await rig.read()
    assert {v.quality for v in values.values()} == {Quality.DEVICE_BAD}
    assert rig.link.refused["dev.p"] == "analog-input,0: rejected: unrecognized service (reason 9)"


@pytest.mark.parametrize("capacity", [b"\x21\x00", real(480.0), b"\x21\x40\x21\x40"])
async def test_device_that_does_not_say_how_much_it_takes_is_not_believed(rig, capacity):
    rig.device.objects[8, DEVICE_ID][62] = capacity
    with pytest.raises(LinkError, match="how much it takes at once is no number"):
        await rig.link.connect()


async def test_identity_that_is_no_text_is_not_told(rig):
    field = IdentityField(
        name="model", address="model-name", table="object", data_type="string", length=0, byte_order="big",
        word_order="big",
    )  # fmt: skip
    one = dataclasses.replace(rig.connection, identity=(field,))
    link = BacnetLink(one, list(rig.codecs.values()), host="127.0.0.1", port=rig.device.port, timeout_s=0.25)
    for value, told in ((b"\x73\x00AB", "AB"), (b"\x73\x01AB", None), (real(1.0), None), (b"", None)):
        rig.device.objects[8, DEVICE_ID][70] = value
        await link.connect()
        assert await link.identify() == {"model": told}
    await link.disconnect()


async def test_browse_of_an_object_list_that_is_none_ends_with_a_reason(rig):
    rig.device.objects[8, DEVICE_ID][76] = real(1.0)
    with pytest.raises(LinkError, match="a real in the object list"):
        await browse("127.0.0.1", rig.device.port, 0.25, device=DEVICE_ID)


# ---- spoilt by a seeded hand ------------------------------------------------------------------------------


class Line:
    """In the place of a socket: what is sent is answered at once, spoilt and then right."""

    def __init__(self, session: wire.Session, device: FakeDevice) -> None:
        self._session, self._device = session, device

    def sendto(self, data: bytes) -> None:
        for answer in self._device.answers(data):
            if not self._session.broken:
                self._session.datagram_received(answer, None)

    def abort(self) -> None:
        self._session = dead


dead = wire.Session(timeout_s=0.0, route=None, pause_s=0.0, counts=wire.Counts(), invoke=0)


async def survive(monkeypatch: pytest.MonkeyPatch, seed: int, frames: int) -> dict[str, int]:
    """Read and command while so many datagrams are spoilt; how often what came of it."""
    device, hand = FakeDevice(), Hand(seed)
    device.write_answer = b"\x50\x0f\x91\x02\x91\x25"  # nothing is ever carried out
    spoilt = 0

    def spoil(parts: Parts, service: int) -> list[bytes]:
        nonlocal spoilt
        count = hand.rng.choice((0, 0, 0, 1, 1, 2, 3))
        spoilt += count
        return [*(hand.spoilt(parts) for _ in range(count)), whole(parts.data)]

    async def opened(session: wire.Session, host: str, port: int, bind: str) -> None:
        session.connection_made(Line(session, device))  # type: ignore[arg-type]

    monkeypatch.setattr(wire.Session, "open", opened)
    monkeypatch.setattr(wire, "UNASKED_MAX", frames * 4)
    device.spoil, device.port = spoil, 1
    rig = Rig(device, timeout_s=0.5)
    came = {"good": 0, "bad": 0, "refused": 0, "commands": 0}
    while spoilt < frames:
        try:
            if not rig.link.connected:
                await rig.link.connect()
            values = await rig.read()
        except LinkError:
            came["refused"] += 1
            continue
        good = sum(v.quality is Quality.GOOD for v in values.values())
        came["good"] += good
        came["bad"] += len(values) - good
        if rig.link.connected:
            outcome, _ = await rig.write(7.0)
            assert outcome in (WriteOutcome.REJECTED, WriteOutcome.UNKNOWN)
            came["commands"] += 1
    await rig.link.disconnect()
    return came


@pytest.mark.scenario(26)
async def test_spoilt_answers_are_never_a_wrong_value_and_never_a_command_that_was_taken(monkeypatch):
    came = await survive(monkeypatch, 1, 3000)
    assert min(came["good"], came["refused"], came["commands"]) > 100, came


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
async def test_spoilt_answers_soak(monkeypatch, seed):
    came = await survive(monkeypatch, 100 + seed, 100_000)
    assert min(came["good"], came["refused"], came["commands"]) > 1000, came


async def test_one_device_that_is_stuck_costs_the_others_nothing(rig):
    stuck = FakeDevice()
    await stuck.start()
    stuck.spoil = lambda parts, _: []
    mute = dataclasses.replace(
        connection(stuck, 0.2), id="mute",
        points=tuple(dataclasses.replace(p, point=p.point.replace("dev", "mute")) for p in ROWS),
    )  # fmt: skip
    clock = VirtualClock(T0)
    io = FieldIO(site_of(rig.connection, mute), clock=clock)
    await io.read_all()
    for _ in range(10):
        clock.advance(1.0)
        readings = {r.point: r for r in await io.read_all()}
        assert readings["dev.p"].is_good
        assert readings["mute.p"].quality is Quality.COMM_FAILED
        (result,) = await io.write([command("dev.set", 1.0)])
        assert result.outcome is WriteOutcome.CONFIRMED
    async with asyncio.timeout(10.0):
        await io.close()
    stuck.stop()


# ---- the family -------------------------------------------------------------------------------------------

FAMILY = {  # point -> instance of its analog input, what it tells, what that means
    "f_hz": (1, 50.02, 50.02),
    "v_pu": (2, 230.0, 1.0),
    "v2_pu": (3, 253.0, 1.1),
    "v3_pu": (4, 207.0, 0.9),
    "i_l1_a": (10, 12.5, 12.5),
    "i_l2_a": (11, 13.5, 13.5),
    "i_l3_a": (12, 14.5, 14.5),
    "p_l1_kw": (15, -2.5, -2.5),
    "p_l2_kw": (16, -3.0, -3.0),
    "p_l3_kw": (17, -3.25, -3.25),
    "p_kw": (18, -8.75, -8.75),
    "q_kvar": (22, 1.5, 1.5),
}


async def test_family_of_a_meter_reads_what_its_source_says(rig, tmp_path):
    (grid,) = re.findall(r"^grid:\n(?:  .*\n)+", DEMO.read_text(), re.MULTILINE)
    (tmp_path / "site.yaml").write_text(
        f"""{grid}  phases: {{caps: total, i_a_max: 2 kA}}
connections:
  meter:
    protocol: bacnet
    host: 127.0.0.1
    port: {rig.device.port}
    bacnet: {{device: {DEVICE_ID}}}
    poll_s: 1
    timeout_s: 1
    asset: grid1
    family: accuenergy_acuvim2
    settings: {{v_ln_v: 230 V, p_max_kw: 100 kW}}
"""
    )
    (one,) = load_devices(tmp_path / "site.yaml", []).connections
    for instance, told, _ in FAMILY.values():
        rig.device.objects[0, instance] = measured(real(told))
    clock = VirtualClock(T0)
    io = FieldIO(site_of(one), clock=clock)
    readings = {r.point.removeprefix("grid1."): r for r in await io.read_all()}
    assert {name: r.value for name, r in readings.items()} == pytest.approx(
        {name: value for name, (_, _, value) in FAMILY.items()}, rel=1e-6
    )
    assert {r.quality for r in readings.values()} == {Quality.GOOD}
    rig.device.objects[0, 18][111] = flags(0b0100)
    clock.advance(1.0)
    (again,) = [r for r in await io.read_all() if r.point == "grid1.p_kw"]
    await io.close()
    assert again.value is None
