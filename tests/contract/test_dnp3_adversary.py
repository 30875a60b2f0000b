"""DNP3 outstations that answer wrongly: no wrong value is taken, nothing is sent twice, nothing is left."""

import asyncio
import dataclasses
import itertools
import random
import struct
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from connectors.dnp3 import control, frame
from connectors.dnp3 import session as dnp
from connectors.dnp3.browse import browse
from connectors.dnp3.client import CLEAR_RESTART, Dnp3Link
from connectors.field import FieldIO
from connectors.link import LinkError, NotSent, PointValue
from connectors.point_map import PointCodec, point_codecs
from connectors.recorded import Collector
from ems.clock import VirtualClock, wall_s, wall_sleep
from ems.commands import WriteOutcome
from ems.dnp3 import Dnp3
from ems.site import Connection, IdentityField, PointMap, Protocol
from ems.site_schema import load_devices
from ems.telemetry import Quality
from tests.builders import T0
from tests.contract.fake_outstation import (
    CONFIRM,
    FIRST,
    LAST,
    MASTER,
    OUTSTATION,
    UNASKED,
    FakeOutstation,
    binaries,
    floats,
    integers,
    segments_lost,
    setpoints,
    spoiled,
    torn,
)
from tests.contract.kept_samples import Kept
from tests.contract.plants import command, site_of
from tests.contract.spoilt import Spoilt, until_an_eighth

FOREVER = float("inf")
RIGHT = {
    "dev.p": 11.5, "dev.q": -22.25, "dev.n": 3.0, "dev.off": 0.0, "dev.on": 1.0, "dev.set": 44.0,
    "dev.run": 0.0,
}  # fmt: skip
AT = datetime(2026, 3, 1, 12, 0, 0, 250000, tzinfo=UTC)
AT_MS = round(AT.timestamp() * 1000)


def row(name: str, address: str, data_type: str, writable: bool = False) -> PointMap:
    return PointMap(
        point=f"dev.{name}", address=address, table="object", data_type=data_type, byte_order="big",
        word_order="big", scale=1.0, offset=0.0, sign=1, unit="kW", low=-1e6, high=1e6, age_s_max=3.0,
        writable=writable,
    )  # fmt: skip


ROWS = (
    row("p", "g30/0", "f32"),
    row("q", "g30/1", "f32"),
    row("n", "g30/4", "s32"),
    row("off", "g1/0", "bit"),
    row("on", "g1/1", "bit"),
    row("set", "g41v3/0", "f32", writable=True),
    row("run", "g12v1/0", "bit", writable=True),
)


class Rig:
    def __init__(self, outstation: FakeOutstation, timeout_s: float = 0.25, **keys: Any) -> None:
        self.outstation = outstation
        self.connection = Connection(
            id="dev", protocol=Protocol.DNP3, host="127.0.0.1", port=outstation.port, unit_id=1, endpoint="",
            poll_s=1.0, timeout_s=timeout_s, watchdog_point=None, points=ROWS,
            dnp3=Dnp3(outstation=OUTSTATION, **keys),
        )  # fmt: skip
        self.codecs = point_codecs(self.connection)
        self.link = self.made(self.connection)

    def made(self, connection: Connection) -> Dnp3Link:
        return Dnp3Link(
            connection, list(self.codecs.values()), host="127.0.0.1", port=self.outstation.port,
            timeout_s=connection.timeout_s, now=lambda: T0,
        )  # fmt: skip

    def codec(self, name: str) -> PointCodec:
        return self.codecs[f"dev.{name}"]

    async def read(self) -> dict[str, PointValue]:
        values = await self.link.read()
        return {point.removeprefix("dev."): value for point, value in values.items()}

    async def write(self, *values: tuple[str, float]) -> list[tuple[WriteOutcome, str]]:
        replies = await self.link.write([(self.codec(n), v) for n, v in values], FOREVER)
        return [(r.outcome, r.detail) for r in replies]

    def wrong(self, values: dict[str, PointValue]) -> dict[str, PointValue]:
        return {p: v for p, v in values.items() if v.quality is Quality.GOOD and v.value != RIGHT[p]}


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    outstation = FakeOutstation()
    await outstation.start()
    rig = Rig(outstation)
    yield rig
    await rig.link.disconnect()
    await outstation.stop()


async def until(holds: Callable[[], Any]) -> None:
    """Wait until something has come over the wire."""
    async with asyncio.timeout(10.0):
        while not holds():
            await wall_sleep(0.002)


def also(rig: Rig, **keys: Any) -> Rig:
    """The same outstation, spoken to in another way."""
    return Rig(rig.outstation, **keys)


async def test_right_answers_are_read(rig):
    await rig.link.connect()
    assert {p: v.value for p, v in (await rig.link.read()).items()} == RIGHT
    assert rig.link.refused == {}
    (off, read) = rig.outstation.asked
    assert off[1:] == (dnp.DISABLE_UNSOLICITED, bytes.fromhex("3C 02 06 3C 03 06 3C 04 06"))
    assert read[1:] == (
        dnp.READ,
        bytes.fromhex(
            "3C 02 06 3C 03 06 3C 04 06  01 02 01 00 00 01 00  0A 02 01 00 00 00 00  1E 01 01 04 00 04 00"
            "1E 05 01 00 00 01 00  28 03 01 00 00 00 00"
        ),
    )


async def test_many_scattered_points_are_asked_for_in_requests_that_anybody_takes(rig):
    rows = tuple(row(f"x{i}", f"g30/{2 * i}", "s16") for i in range(100))
    one = dataclasses.replace(rig.connection, points=rows)
    link = Dnp3Link(
        one, list(point_codecs(one).values()), host="127.0.0.1", port=rig.outstation.port, timeout_s=1.0,
        now=lambda: T0,
    )  # fmt: skip
    assert max(len(r) for r in link._everything) <= 240
    assert b"".join(link._everything).count(bytes([30, 2, 1])) == 100
    assert link._news == [bytes.fromhex("3C 02 06 3C 03 06 3C 04 06")]


# ---- what cannot be believed ----------------------------------------------------------------------


def at(place: int, change: Callable[[int], int]) -> Callable[[bytes], bytes]:
    """Another byte in a fragment; places count from either end."""
    return lambda f: f[: place % len(f)] + bytes([change(f[place])]) + f[place % len(f) + 1 :]


LOSE_IT: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "of another request": (at(0, lambda c: c ^ 3), "an answer to request"),
    "of the request before": (at(0, lambda c: c & 0xF0 | (c - 1 & 0xF)), "an answer to request"),
    "unsolicited, as a response": (at(0, lambda c: c | UNASKED), "a response was to come"),
    "no first fragment": (at(0, lambda c: c & ~FIRST), "out of order"),
    "a request": (at(1, lambda _: dnp.READ), "function 1, where"),
    "a confirmation": (at(1, lambda _: dnp.CONFIRM), "function 0, where"),
    "authentication": (at(1, lambda _: 131), "function 131, where"),
    "three bytes": (lambda f: f[:3], "a fragment of 3 bytes"),
    "cut short": (lambda f: f[:-1], "cut short"),
    "a byte more": (lambda f: f + b"\0", "cut short"),
    "more objects behind it": (lambda f: f + bytes([30, 1, 0, 4]), "cut short"),
    "objects nobody knows": (lambda f: f + bytes([85, 1, 0, 0, 0, 1]), "g85v1, whose length is not known"),
    "a range that ends before it begins": (lambda f: f + bytes([30, 1, 0, 5, 4]), "from 5 to 4"),
    "a qualifier of requests": (lambda f: f + bytes([60, 1, 6]), "qualifier 0x06"),
    "a count that is too large": (lambda f: f + bytes([32, 1, 0x28, 255, 255]), "65535 objects"),
    "garbage": (lambda f: f[:4] + b"\xff" * 100, "qualifier 0xff"),
}


@pytest.mark.parametrize(("change", "why"), LOSE_IT.values(), ids=LOSE_IT)
async def test_fragment_that_cannot_be_believed_has_the_connection_made_anew(rig, change, why):
    await rig.link.connect()
    rig.outstation.events = [bytes([32, 5, 0x17, 1, 0, 1]) + struct.pack("<f", 7.0)]
    rig.outstation.spoil = change
    with pytest.raises(LinkError, match=why):
        await rig.link.read()
    assert not rig.link.connected
    assert rig.outstation.confirmed == []  # its events are told again
    rig.outstation.spoil = bytes
    await rig.link.connect()
    assert {p: v.value for p, v in (await rig.link.read()).items()} == RIGHT


async def read_twice(rig: Rig) -> None:
    if not rig.link.connected:
        await rig.link.connect()
    await rig.link.read()
    await wall_sleep(0.02)
    await rig.link.read()


def spoilt(place: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


WIRE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a spoilt start": (spoilt(0), "no DNP3 frame"),
    "a spoilt length": (spoilt(2), "header has a wrong CRC"),
    "a spoilt address": (spoilt(4), "header has a wrong CRC"),
    "a spoilt value": (spoilt(25), "data has a wrong CRC"),
    "a spoilt CRC": (spoilt(-1), "data has a wrong CRC"),
    "bytes between frames": (lambda data: data + b"\0" + data, "no DNP3 frame"),
    "a byte lost": (lambda data: data[:20] + data[21:] + b"\0", "data has a wrong CRC"),
    "twice": (lambda data: data + data, "an answer to nothing"),
    "wants a confirmation of the link": (
        lambda data: frame.encode(0x73, MASTER, OUTSTATION, b"\xc0x") + data, "confirmed by the link",
    ),
    "a link function there is not": (
        lambda data: frame.encode(0x4C, MASTER, OUTSTATION) + data, "link function 12",
    ),
    "a segment without data": (lambda data: frame.encode(0x44, MASTER, OUTSTATION, b"\xc0"), "without data"),
    "HTTP": (lambda data: b"HTTP/1.1 400 Bad Request\r\n\r\n", "no DNP3 frame"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "why"), WIRE.values(), ids=WIRE)
async def test_bytes_that_cannot_be_believed_have_the_connection_made_anew(rig, change, why):
    await rig.link.connect()
    rig.outstation.spoil_bytes = change
    with pytest.raises(LinkError, match=why):
        await read_twice(rig)  # what comes behind a right answer is seen before the next one
    assert not rig.link.connected
    rig.outstation.spoil_bytes = bytes
    await rig.link.connect()
    assert {p: v.value for p, v in (await rig.link.read()).items()} == RIGHT


async def test_frames_of_others_are_passed_over_and_questions_of_the_link_answered(rig):
    await rig.link.connect()
    rig.outstation.before = b"".join(
        (
            frame.encode(0x44, MASTER + 1, OUTSTATION, b"\xc0x"),
            frame.encode(0x44, MASTER, OUTSTATION + 1, b"\xc0x"),
            frame.encode(0xC4, MASTER, OUTSTATION, b"\xc0x"),  # from a master
            frame.encode(0x00, MASTER, OUTSTATION),  # ACK of the link
            frame.encode(0x49, MASTER, OUTSTATION),
            frame.encode(0x40, MASTER, OUTSTATION),
        )
    )
    assert rig.wrong(await rig.link.read()) == {}
    assert rig.link.counts["others"] == 4
    await until(lambda: rig.outstation.links == [0x8B, 0x80])


async def test_segments_of_a_long_answer_are_put_together_and_others_refused(rig):
    rig.outstation.static.append(integers(*range(200), start=20))
    await rig.link.connect()
    assert rig.wrong(await rig.link.read()) == {}
    for change in (
        lambda s: [s[0], *s],
        lambda s: s[1:],
        lambda s: s[:-1] + s[-1:] * 2,
        lambda s: s[::-1],
        lambda s: [s[0], *s[2:]],
    ):  # fmt: skip
        rig.outstation.spoil_segments = change
        with pytest.raises(LinkError):
            await read_twice(rig)
        rig.outstation.spoil_segments = list
        await rig.link.connect()
        assert rig.wrong(await rig.link.read()) == {}


# ---- fragments ------------------------------------------------------------------------------------


async def test_answer_of_several_fragments_is_confirmed_one_by_one(rig):
    rig.outstation.fragments = 3
    await rig.link.connect()
    for _ in range(12):  # past the end of the sequence numbers
        assert {p: v.value for p, v in (await rig.link.read()).items()} == RIGHT
    reads = [number for number, function, _ in rig.outstation.asked if function == dnp.READ]
    assert all(b == (a + 3) % 16 for a, b in itertools.pairwise(reads))
    assert len(rig.outstation.confirmed) == 24


@pytest.mark.parametrize(
    "change", [at(0, lambda c: c ^ 1), at(0, lambda c: c | FIRST), at(0, lambda c: c + 1)]
)
async def test_fragment_out_of_order_is_refused(rig, change):
    rig.outstation.fragments = 3
    await rig.link.connect()
    rig.outstation.spoil = change
    with pytest.raises(LinkError, match=r"an answer to request|out of order"):
        await rig.link.read()


async def test_answer_without_end_is_refused(rig):
    """Each fragment is right, and there is always one more."""
    rig = also(rig, timeout_s=5.0)
    await rig.link.connect()
    rig.outstation.spoil = at(0, lambda c: c & ~LAST)
    task = asyncio.create_task(rig.link.read())
    for number in range(1, 80):
        await wall_sleep(0.001)
        if task.done():
            break
        first = rig.outstation.asked[-1][0]
        head = struct.pack("<BBH", CONFIRM | (first + number & 15), dnp.RESPONSE, 0)
        rig.outstation.say(rig.outstation.framed(head + floats(11.5)))
    with pytest.raises(LinkError, match="more than 64 fragments"):
        await task


# ---- late, torn, missing --------------------------------------------------------------------------


@pytest.mark.scenario(27)
@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("silent", "no answer in 0.25 s"),
        ("late", "no answer in 0.25 s"),
        ("drip", "no answer in 0.25 s"),  # each byte in time, the whole not
        ("hang up in the middle", "connection lost"),
    ],
)
async def test_answer_late_torn_or_missing_costs_one_time_out_and_is_never_the_next_one(rig, mode, why):
    await rig.link.connect()
    rig.outstation.mode = mode
    with pytest.raises(LinkError, match=why):
        await rig.link.read()
    rig.outstation.mode = "ok"
    rig.outstation.static[0] = floats(99.0, 98.0)
    await rig.link.connect()
    assert (await rig.read())["p"].value == 99.0


@pytest.mark.scenario(27)
async def test_answer_to_a_request_that_was_cancelled_is_nobodys(rig):
    await rig.link.connect()
    rig.outstation.mode, rig.outstation.late_s = "late", 0.05
    poll = asyncio.create_task(rig.link.read())
    await until(lambda: rig.outstation.asked[-1][1] == dnp.READ)
    poll.cancel()
    await asyncio.gather(poll, return_exceptions=True)
    assert not rig.link.connected
    rig.outstation.mode = "ok"
    rig.outstation.static[0] = floats(99.0, 98.0)
    await wall_sleep(0.1)
    await rig.link.connect()
    assert (await rig.read())["p"].value == 99.0


async def test_sequence_numbers_go_on_over_a_new_connection(rig):
    """A gateway may still hold an answer of the connection before."""
    await rig.link.connect()
    await rig.link.read()
    before = rig.outstation.asked[-1][0]
    await rig.link.disconnect()
    await rig.link.connect()
    assert rig.outstation.asked[-1][0] == (before + 1) % 16


@pytest.mark.scenario(27)
async def test_poll_and_writes_at_once_have_each_their_own_answer(rig):
    rig = also(rig, timeout_s=2.0, operate="select")
    rig.outstation.mode, rig.outstation.late_s = "late", 0.02
    rig.outstation.spoils = (dnp.READ, dnp.SELECT, dnp.OPERATE)
    await rig.link.connect()
    for value in (1.0, 0.0, 1.0):
        first, run, both, second = await asyncio.gather(
            rig.link.read(),
            rig.write(("run", value)),
            rig.write(("set", 44.0), ("run", value)),
            rig.link.read(),
        )
        assert rig.wrong(first) == rig.wrong(second) == {}
        assert run == [(WriteOutcome.CONFIRMED, "")]
        assert both == [(WriteOutcome.CONFIRMED, "")] * 2
    assert rig.outstation.connections == 1
    asked = rig.outstation.asked
    for i, (number, function, objects) in enumerate(asked):
        if function == dnp.SELECT:  # nothing between, and the number behind
            assert asked[i + 1] == ((number + 1) % 16, dnp.OPERATE, objects)


async def test_connection_that_is_refused_or_never_answers_says_so(rig):
    rig.outstation.spoils, rig.outstation.mode = (dnp.DISABLE_UNSOLICITED,), "silent"
    with pytest.raises(LinkError, match=r"cannot connect to .*: no answer in 0.25 s"):
        await rig.link.connect()
    await rig.outstation.stop()
    with pytest.raises(LinkError, match="Connect call failed"):
        await rig.link.connect()
    assert not rig.link.connected
    with pytest.raises(LinkError, match="not connected"):
        await rig.link.read()
    await rig.outstation.start()


# ---- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "quality", "why"),
    [
        (floats(float("nan"), 1.0), Quality.NOT_FINITE, "not a finite number"),
        (floats(float("inf"), 1.0), Quality.NOT_FINITE, "not a finite number"),
        (integers(7, 7), Quality.DEVICE_BAD, "an integer is told, f32 in the map"),
        (floats(7.0, flags=0), Quality.DEVICE_BAD, "not online"),
        (b"", Quality.DEVICE_BAD, "g30/0 is not told"),
    ],
)
async def test_value_of_another_form_is_none_with_its_reason_and_costs_no_other(rig, block, quality, why):
    await rig.link.connect()
    rig.outstation.static[0] = block
    values = await rig.read()
    assert (values["p"].value, values["p"].quality) == (None, quality)
    assert rig.link.refused["dev.p"] == why
    assert values["n"].value == 3.0


async def test_point_that_is_no_longer_told_has_no_value_of_before(rig):
    await rig.link.connect()
    assert (await rig.read())["p"].value == 11.5
    rig.outstation.static[0], rig.outstation.indications = b"", dnp.NO_OBJECT
    assert (await rig.read())["p"].quality is Quality.DEVICE_BAD
    assert rig.link.refused["dev.p"] == "g30/0 is not told: object unknown (IIN2.1)"


def event(value: float, at_ms: int, variation: int = 7) -> bytes:
    """An event of the first analog input: with its time."""
    return bytes([32, variation, 0x17, 1, 0, 1]) + struct.pack("<f", value) + at_ms.to_bytes(6, "little")


async def test_time_of_an_event_is_that_of_its_value_for_as_long_as_it_stays(rig):
    await rig.link.connect()
    assert (await rig.read())["p"].source_time is None
    rig.outstation.static[0], rig.outstation.events = floats(7.0, 8.0), [event(7.0, AT_MS)]
    assert (await rig.read())["p"][:3] == (7.0, Quality.GOOD, AT)
    await until(lambda: not rig.outstation.events)  # confirmed
    assert (await rig.read())["p"][:3] == (7.0, Quality.GOOD, AT)
    rig.outstation.static[0] = floats(9.0, 8.0)
    assert (await rig.read())["p"][:3] == (9.0, Quality.GOOD, None)
    assert rig.link.counts["times_not_believed"] == 0


async def test_request_waits_a_little_behind_a_confirmation_and_behind_nothing_else(rig, monkeypatch):
    """opendnp3 lost confirmations that came before it had noticed the end of its own sending."""
    pauses: list[float] = []

    async def noted(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(dnp, "wall_sleep", noted)
    monkeypatch.setattr(dnp, "CONFIRM_PAUSE_S", 100.0)
    await rig.link.connect()
    await rig.link.read()
    await rig.link.read()
    assert pauses == []
    rig.outstation.events = [event(7.0, AT_MS)]
    await rig.link.read()
    assert pauses == []
    await rig.write(("set", 9.0))
    await rig.link.read()
    assert len(pauses) == 2
    assert all(90.0 < s < 100.0 for s in pauses)


@pytest.mark.parametrize(
    ("at_ms", "indications"),
    [(AT_MS, dnp.NEED_TIME), (0, 0), (253_402_300_800_000, 0), (2**48 - 1, 0)],
)
async def test_time_that_is_not_set_or_not_possible_is_not_believed(rig, at_ms, indications):
    await rig.link.connect()
    rig.outstation.static[0], rig.outstation.events = floats(7.0, 8.0), [event(7.0, at_ms)]
    rig.outstation.indications = indications
    assert (await rig.read())["p"][:3] == (7.0, Quality.GOOD, None)
    assert rig.link.counts["times_not_believed"] == 1


async def test_relative_time_counts_from_a_common_time_that_is_synchronised(rig):
    def switched(variation: int) -> bytes:
        common = bytes([51, variation, 7, 1]) + AT_MS.to_bytes(6, "little")
        return common + bytes([2, 3, 0x17, 1, 1, 0x81, 0xF4, 0x01])

    await rig.link.connect()
    rig.outstation.events = [switched(1)]
    assert (await rig.read())["on"].source_time == AT + timedelta(milliseconds=500)
    await until(lambda: not rig.outstation.events)
    rig.outstation.events = [switched(2)]
    rig.outstation.static[2] = binaries(False, True)
    assert (await rig.read())["on"].source_time is None


async def test_last_of_several_events_is_what_is_and_grows_old_until_it_is_told_again(rig):
    rig = also(rig, integrity_s=3600.0)
    await rig.link.connect()
    assert {p: v.value for p, v in (await rig.link.read()).items()} == RIGHT
    rig.outstation.events = [event(7.0, AT_MS), event(8.0, AT_MS + 1000)]
    values = await rig.read()
    assert values["p"][:3] == (8.0, Quality.GOOD, AT + timedelta(seconds=1))
    await wall_sleep(0.05)
    values = await rig.read()
    assert 0.05 <= values["p"].age_s < values["q"].age_s
    await rig.link.disconnect()


async def test_unsolicited_values_are_taken_and_confirmed(rig):
    rig = also(rig, integrity_s=3600.0)
    await rig.link.connect()
    await rig.link.read()
    rig.outstation.unsolicited(event(7.0, AT_MS), number=5)
    await until(lambda: rig.outstation.confirmed == [FIRST | LAST | UNASKED | 5])
    assert (await rig.read())["p"][:3] == (7.0, Quality.GOOD, AT)
    assert (rig.link.counts["unsolicited"], rig.link.counts["events"]) == (1, 1)
    rig.outstation.unsolicited(b"", number=6, control=FIRST | LAST | UNASKED)
    await until(lambda: rig.link.counts["unsolicited"] == 2)
    assert len(rig.outstation.confirmed) == 1  # nobody wanted it confirmed
    rig.outstation.unsolicited(event(9.0, AT_MS)[:-1])
    await until(lambda: not rig.link.connected)
    assert len(rig.outstation.confirmed) == 1


@pytest.mark.parametrize("control", [LAST | UNASKED | CONFIRM, FIRST | UNASKED, FIRST | LAST | CONFIRM])
async def test_unsolicited_responses_in_parts_are_refused(rig, control):
    await rig.link.connect()
    rig.outstation.unsolicited(b"", control=control)
    await until(lambda: not rig.link.connected)
    with pytest.raises(LinkError, match="an unsolicited response in parts"):
        await rig.link.read()


async def test_flood_of_frames_that_nobody_asked_for_ends_the_connection(rig):
    await rig.link.connect()
    rig.outstation.before = frame.encode(0x49, MASTER, OUTSTATION) * 401
    with pytest.raises(LinkError, match="more than 400 frames in a second"):
        await rig.link.read()


async def test_guest_takes_no_events_and_changes_nothing(rig):
    """`ems read` beside a running EMS: what it confirmed or cleared, the EMS would never hear of."""
    rig = also(rig, is_guest=True, time_sync=True, integrity_s=3600.0)
    rig.outstation.indications = dnp.RESTART | dnp.NEED_TIME | dnp.OVERFLOW | 0x0E
    rig.outstation.events = [event(7.0, AT_MS)]
    await rig.link.connect()
    rig.outstation.unsolicited(event(9.0, AT_MS))
    for _ in range(2):
        assert {p: v.value for p, v in (await rig.link.read()).items()} == RIGHT
    assert [function for _, function, _ in rig.outstation.asked] == [dnp.READ, dnp.READ]
    assert rig.outstation.confirmed == []
    assert len(rig.outstation.events) == 1
    await rig.link.disconnect()
    rig = also(rig, is_guest=True, static="class0")
    await rig.link.connect()
    assert {p: v.value for p, v in (await rig.link.read()).items()} == RIGHT
    assert rig.outstation.asked[-1][1:] == (dnp.READ, bytes([60, 1, 6]))
    await rig.link.disconnect()


# ---- indications ----------------------------------------------------------------------------------


async def test_restart_is_cleared_once_and_what_was_known_is_forgotten(rig):
    rig.outstation.indications = dnp.RESTART
    await rig.link.connect()
    assert [a[1:] for a in rig.outstation.asked[1:]] == [(dnp.WRITE, CLEAR_RESTART)]
    assert rig.wrong(await rig.link.read()) == {}
    rig.outstation.indications = dnp.RESTART
    assert rig.wrong(await rig.link.read()) == {}
    assert rig.link.counts["restarts"] == 2
    functions = [function for _, function, _ in rig.outstation.asked]
    assert functions[2:] == [dnp.READ, dnp.READ, dnp.WRITE, dnp.READ]


async def test_restart_that_cannot_be_cleared_does_not_stop_the_reading(rig):
    class Stubborn(int):
        def __and__(self, other: int) -> int:
            return int(self) & other if other >= 0 else int(self)

    rig.outstation.indications = Stubborn(dnp.RESTART)
    await rig.link.connect()
    for _ in range(3):
        assert {p: v.value for p, v in (await rig.link.read()).items()} == RIGHT
    functions = [function for _, function, _ in rig.outstation.asked]
    assert functions == [dnp.DISABLE_UNSOLICITED, dnp.WRITE, dnp.READ, dnp.READ, dnp.READ]
    assert rig.link.counts["restarts"] == 1


async def test_events_without_end_do_not_hold_up_a_poll(rig):
    rig.outstation.indications = 0x02  # there is always more of class 1
    await rig.link.connect()
    assert {p: v.value for p, v in (await rig.link.read()).items()} == RIGHT
    assert (
        sum(function == dnp.READ for _, function, _ in rig.outstation.asked) == 7
    )  # then values without events


async def test_clock_that_cannot_be_set_by_the_procedure_of_networks_is_written(rig):
    rig = also(rig, time_sync=True)
    rig.outstation.indications = dnp.NEED_TIME
    await rig.link.connect()
    await rig.link.read()
    ms = round(T0.timestamp() * 1000).to_bytes(6, "little")
    assert [a[1:] for a in rig.outstation.asked[1:3]] == [
        (dnp.RECORD_TIME, b""), (dnp.WRITE, bytes([50, 3, 7, 1]) + ms),
    ]  # fmt: skip
    assert rig.link.counts["time_syncs"] == 1
    await rig.link.disconnect()
    rig.outstation.indications = dnp.NEED_TIME | dnp.NO_FUNCTION
    rig.outstation.asked.clear()
    await rig.link.connect()
    assert [a[1:] for a in rig.outstation.asked[1:]] == [
        (dnp.RECORD_TIME, b""), (dnp.WRITE, bytes([50, 1, 7, 1]) + ms),
    ]  # fmt: skip
    assert rig.link.counts["time_syncs"] == 1
    await rig.link.disconnect()


# ---- identity -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (bytes([0, 252, 0, 0, 0, 1, 4]) + b"Acme", "Acme"),
        (bytes([0, 252, 0, 0, 0, 2, 1, 5]), None),
        (b"", None),
        (bytes([0, 250, 0, 0, 0, 1, 4]) + b"Acme", LinkError),
        (bytes([0, 252, 0, 0, 0, 1, 9]) + b"Acme", LinkError),
        (b"\x00", LinkError),
    ],
)
async def test_device_attribute_is_the_identity(rig, told, text):
    field = IdentityField(
        name="manufacturer", address="g0v252", table="object", data_type="string", length=0, byte_order="big",
        word_order="big",
    )  # fmt: skip
    link = rig.made(dataclasses.replace(rig.connection, identity=(field,)))
    await link.connect()
    rig.outstation.spoil = lambda f: f[:4] + told
    if text is LinkError:
        with pytest.raises(LinkError, match="identity"):
            await link.identify()
        assert not link.connected
    else:
        assert await link.identify() == {"manufacturer": text}
    assert rig.outstation.asked[-1][1:] == (dnp.READ, bytes([0, 252, 0, 0, 0]))
    assert await rig.link.identify() == {}
    await link.disconnect()


async def browsed(rig: Rig) -> list[str]:
    held = await browse("127.0.0.1", rig.outstation.port, 0.25, outstation=OUTSTATION, master=MASTER)
    return [f"{line.place} {line.type_name} {line.about}" for line in held]


async def test_browsing_shows_floats_their_outputs_and_what_the_outstation_says_it_is(rig):
    rig.outstation.indications = dnp.RESTART

    def attribute(fragment: bytes) -> bytes:
        asked = rig.outstation.asked[-1][2]
        return fragment + (asked + b"\x01\x04Acme" if asked[:2] == b"\x00\xfc" else b"")

    rig.outstation.spoil = attribute
    assert await browsed(rig) == [
        "g1/0 bit 0", "g1/1 bit 1", "g10/0 bit 0; output g12v1/0", "g30/0 f32 11.5", "g30/1 f32 -22.25",
        "g30/4 s32 3", "g40/0 f32 44; output g41v3/0", "g0v252 string Acme; identity: manufacturer",
        "  it has restarted (IIN1.7)",
    ]  # fmt: skip
    assert {function for _, function, _ in rig.outstation.asked} == {dnp.READ}


async def test_browsing_says_why_there_is_nothing(rig):
    rig.outstation.indications = dnp.NO_OBJECT
    with pytest.raises(LinkError, match="class 0: object unknown"):
        await browsed(rig)
    rig.outstation.indications = 0
    rig.outstation.spoil = lambda f: f + b"\0\xfa\0\0\0" if rig.outstation.asked[-1][2][:1] == b"\0" else f
    with pytest.raises(LinkError, match="g0v250 instead of g0v252"):
        await browsed(rig)


async def test_integer_that_its_type_does_not_hold_is_none(rig):
    narrow = dataclasses.replace(rig.connection, points=(row("n", "g30/4", "s16"),))
    rig.codecs = point_codecs(narrow)
    link = rig.made(narrow)
    await link.connect()
    rig.outstation.static[1] = integers(40000, start=4)
    rig.outstation.spoil = lambda f: f + integers(40000, start=4)
    assert (await link.read())["dev.n"].value is None
    assert link.refused["dev.n"] == "40000 is told, which s16 does not hold"
    await link.disconnect()


# ---- commands -------------------------------------------------------------------------------------

SET_9 = bytes.fromhex("29 03 17 01 00 00 00 10 41 00")
REJECTED, UNKNOWN, NOT_SENT = WriteOutcome.REJECTED, WriteOutcome.UNKNOWN, WriteOutcome.NOT_SENT
ECHOES: dict[str, tuple[Callable[[bytes], bytes], int, WriteOutcome, str]] = {
    "of another index": (at(4, lambda _: 1), 0, UNKNOWN, "echo is of another command"),
    "of another value": (at(7, lambda b: b ^ 1), 0, UNKNOWN, "echo is of another command"),
    "of another variation": (at(1, lambda _: 4), 0, UNKNOWN, "echo is of another command"),
    "of another group": (at(0, lambda _: 12), 0, UNKNOWN, "echo is of another command"),
    "of a value cut to an integer": (
        lambda e: e[:5] + struct.pack("<f", 8.0) + e[9:], 0, UNKNOWN, "another command",
    ),
    "twice": (lambda e: e + e, 0, UNKNOWN, "another command"),
    "cut short": (lambda e: e[:-1], 0, UNKNOWN, "another command"),
    "none": (lambda e: b"", 0, UNKNOWN, "without its echo"),
    "none, and a refusal": (lambda e: b"", dnp.NO_FUNCTION, REJECTED, "function not supported (IIN2.0)"),
    "none, and two": (
        lambda e: b"", dnp.NO_OBJECT | dnp.BAD_PARAMETER, REJECTED,
        "object unknown (IIN2.1), parameter error (IIN2.2)",
    ),
    "of success, and a refusal": (bytes, dnp.BAD_PARAMETER, UNKNOWN, "without error, and parameter error"),
    "of an error": (at(-1, lambda _: 7), 0, REJECTED, "in local control (status 7)"),
    "of an error nobody knows": (at(-1, lambda _: 99), 0, REJECTED, "refused (status 99)"),
    "of an error on its way": (at(-1, lambda _: 18), 0, UNKNOWN, "failed downstream (status 18)"),
}  # fmt: skip


@pytest.mark.parametrize(("echo", "indications", "outcome", "why"), ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("operate", ["direct", "select"])
async def test_echo_that_is_not_of_the_command_is_no_confirmation(
    rig, operate, echo, indications, outcome, why
):
    rig = also(rig, operate=operate)
    await rig.link.connect()
    rig.outstation.echo, rig.outstation.indications = echo, indications
    ((found, detail),) = await rig.write(("set", 9.0))
    if operate == "select" and outcome is UNKNOWN and "status 18" not in why:
        outcome = NOT_SENT  # it was the selection that went wrong
    if operate == "select" and "status 18" in why:
        outcome = REJECTED
    assert (found, why in detail) == (outcome, True), detail
    assert rig.link.connected is (outcome is REJECTED)
    functions = [function for function, _ in rig.outstation.commanded]
    assert functions == ([dnp.SELECT] if operate == "select" else [dnp.DIRECT_OPERATE])
    assert rig.outstation.commanded[0][1] == SET_9
    await rig.link.disconnect()


@pytest.mark.parametrize("mode", ["silent", "late", "drip", "hang up in the middle"])
@pytest.mark.parametrize(
    ("operate", "function", "outcome"),
    [
        ("direct", dnp.DIRECT_OPERATE, UNKNOWN),
        ("select", dnp.SELECT, NOT_SENT),
        ("select", dnp.OPERATE, UNKNOWN),
    ],
)
async def test_command_without_an_answer_is_not_sent_again(rig, mode, operate, function, outcome):
    rig = also(rig, operate=operate)
    await rig.link.connect()
    rig.outstation.spoils, rig.outstation.mode = (function,), mode
    replies = await rig.write(("set", 9.0), ("run", 1.0))
    assert replies[0][0] is outcome
    assert replies[1][0] is NOT_SENT
    assert not rig.link.connected
    rig.outstation.mode = "ok"
    await rig.link.connect()
    await rig.link.read()
    assert rig.outstation.commanded[-1] == (function, SET_9)
    assert len(rig.outstation.commanded) == (2 if function == dnp.OPERATE else 1)
    await rig.link.disconnect()


async def test_command_after_the_cycle_is_not_sent_and_a_selection_not_operated(rig, monkeypatch):
    await rig.link.connect()
    (reply,) = await rig.link.write([(rig.codec("set"), 1.0)], wall_s() - 1.0)
    assert reply.outcome is NOT_SENT
    assert rig.outstation.commanded == []
    rig = also(rig, operate="select")
    await rig.link.connect()
    times = iter((0.0, FOREVER))
    monkeypatch.setattr(control, "wall_s", lambda: next(times))
    (reply,) = await rig.link.write([(rig.codec("set"), 9.0)], 1.0)
    assert (reply.outcome, "selected, and the cycle was over" in reply.detail) == (NOT_SENT, True)
    assert rig.outstation.commanded == [(dnp.SELECT, SET_9)]
    await rig.link.disconnect()


@pytest.mark.scenario(66)
@pytest.mark.parametrize("now", [5.0, None, 2e6])
async def test_value_that_changes_while_it_is_selected_is_not_operated(rig, now: float | None):
    """Limits were tightened between selection and operation."""
    rig = also(rig, operate="select")
    await rig.link.connect()

    def latest(codec: PointCodec, value: float) -> float:
        if not rig.outstation.commanded:
            return value
        if now is None:
            raise NotSent("nothing of it is allowed any more")
        return now

    (reply,) = await rig.link.write([(rig.codec("set"), 9.0)], FOREVER, latest)
    assert reply.outcome is NOT_SENT
    assert rig.outstation.commanded == [(dnp.SELECT, SET_9)]
    assert rig.link.connected
    await rig.link.disconnect()


@pytest.mark.scenario(66)
@pytest.mark.parametrize("operate", ["select", "direct"])
async def test_value_is_that_of_the_moment_when_nobody_else_is_asking(rig, operate: str):
    rig = also(rig, operate=operate)
    await rig.link.connect()
    (reply,) = await rig.link.write([(rig.codec("set"), 100.0)], FOREVER, lambda codec, value: 9.0)
    assert reply.outcome is WriteOutcome.CONFIRMED
    assert {objects for _, objects in rig.outstation.commanded} == {SET_9}
    await rig.link.disconnect()


async def test_value_that_may_not_be_sent_never_is(rig):
    await rig.link.connect()
    for value in (float("nan"), float("inf"), 2e6):
        assert (await rig.write(("set", value)))[0][0] is NOT_SENT
    assert (await rig.write(("run", 0.5)))[0][0] is NOT_SENT
    assert rig.outstation.commanded == []


async def test_outstation_that_hung_up_meanwhile_is_not_written_to(rig):
    await rig.link.connect()
    await rig.link.read()
    await rig.outstation.stop()
    await until(lambda: not rig.link.connected)
    assert await rig.write(("set", 9.0)) == [(NOT_SENT, "connection lost")]
    await rig.outstation.start()


async def test_command_that_waited_for_a_poll_that_failed_is_not_sent(rig):
    await rig.link.connect()
    rig.outstation.mode = "silent"
    poll = asyncio.create_task(rig.link.read())
    await until(lambda: rig.outstation.asked[-1][1] == dnp.READ)
    replies = await rig.write(("set", 9.0))
    with pytest.raises(LinkError):
        await poll
    assert [r[0] for r in replies] == [NOT_SENT]
    assert rig.outstation.commanded == []


# ---- seeded frames --------------------------------------------------------------------------------

SPOILERS = ("fragments", "bytes", "segments", "nothing", "nothing", "nothing")


async def survive(rig: Rig, seed: int, count: int) -> tuple[int, int, int]:
    """Read so often from an outstation that spoils answers; (polls refused, believed, answers spoilt)."""
    rng, spoilt = random.Random(seed), Spoilt()
    refused = believed = 0
    kept = Kept()
    rig.link.collector = Collector("dev", kept, now=lambda: AT, on_event=lambda *_: None)
    rig.outstation.static.append(integers(*range(100), start=20))
    for i in range(count):
        rig.outstation.spoil, rig.outstation.spoil_bytes, rig.outstation.spoil_segments = bytes, bytes, list
        rig.outstation.fragments = rng.choice((1, 1, 3))
        if i % 3 == 0:
            rig.outstation.events = [event(RIGHT["dev.p"], AT_MS - i)]
        match rng.choice(SPOILERS):
            case "fragments":
                rig.outstation.spoil = spoilt.by(lambda f: spoiled(rng, f))
            case "bytes":
                rig.outstation.spoil_bytes = spoilt.by(lambda b: torn(rng, b))
            case "segments":
                rig.outstation.spoil_segments = spoilt.by(lambda s: segments_lost(rng, s))
        rig.outstation.spoils = (dnp.READ, dnp.DISABLE_UNSOLICITED, dnp.DIRECT_OPERATE)[i % 3 :][:1]
        try:
            if not rig.link.connected:
                await rig.link.connect()
            values = await rig.link.read()
            ((outcome, _),) = await rig.write(("set", 44.0))
            believed += outcome is WriteOutcome.CONFIRMED
        except LinkError:
            refused += 1
            continue
        assert rig.wrong(values) == {}, (seed, i)
        assert outcome is not WriteOutcome.REJECTED or rig.outstation.spoils == (dnp.DIRECT_OPERATE,), (
            seed,
            i,
        )
    assert {s.value for s in kept.samples} <= {RIGHT["dev.p"], None}
    assert {s.told_at for s in kept.samples} <= {AT - timedelta(milliseconds=i) for i in range(count)}
    assert len(kept.samples) > count // 20
    return refused, believed, spoilt.count


@pytest.mark.scenario(26)
async def test_spoiled_frames_never_crash_and_never_become_a_value(rig):
    rig = also(rig, timeout_s=0.05)
    refused, believed, _ = await survive(rig, seed=1815, count=400)
    assert refused > 50
    assert believed > 50
    rig.outstation.spoil, rig.outstation.spoil_bytes, rig.outstation.spoil_segments = bytes, bytes, list
    await rig.link.disconnect()
    await rig.link.connect()
    assert rig.wrong(await rig.link.read()) == {}
    await rig.link.disconnect()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(8))
def test_spoiled_frames_soak(seed):
    """An eighth of a million spoilt answers."""

    async def some(own: int) -> int:
        outstation = FakeOutstation()
        await outstation.start()
        rig = Rig(outstation, timeout_s=0.1)
        refused, believed, spoilt = await survive(rig, own, count=3000)
        assert min(refused, believed) > 100
        await rig.link.disconnect()
        await outstation.stop()
        return spoilt

    until_an_eighth(some, seed)


async def test_one_outstation_that_is_stuck_costs_the_others_nothing_and_closing_waits_for_nobody(rig):
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(4096):
                pass
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    mute = dataclasses.replace(
        rig.connection, id="mute", port=server.sockets[0].getsockname()[1], timeout_s=0.2,
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
        (result,) = await io.write([command("dev.run", 1.0)])
        assert result.outcome is WriteOutcome.CONFIRMED
    async with asyncio.timeout(10.0):
        await io.close()
    server.close()


async def test_setpoint_is_read_back_as_it_is_and_not_as_it_was_sent(rig):
    await rig.link.connect()
    assert await rig.write(("set", 9.0)) == [(WriteOutcome.CONFIRMED, "")]
    rig.outstation.static[3] = setpoints(8.5)
    assert (await rig.read())["set"].value == 8.5


# ---- the family -----------------------------------------------------------------------------------

FAMILY = {  # point -> (analog input, what is told, value), by the units and multipliers of the profile
    "p_kw": (537, -250_000, -250.0),
    "q_kvar": (541, 12_000, 12.0),
    "soc": (48, 815, 0.815),
    "p_charge_kw_max": (44, -480_000, 480.0),
    "p_discharge_kw_max": (43, 500_000, 500.0),
    "p_set_kw": (618, -100_000, -100.0),
    "q_set_kvar": (621, 5_000, 5.0),
}


async def test_family_of_ieee_1815_2_reads_what_its_source_says(rig, tmp_path):
    (tmp_path / "site.yaml").write_text(
        f"""bess: {{bess1: {{}}}}
connections:
  pcs:
    protocol: dnp3
    host: 127.0.0.1
    port: {rig.outstation.port}
    dnp3: {{outstation: {OUTSTATION}}}
    poll_s: 1
    timeout_s: 1
    asset: bess1
    family: ieee1815_2_bess
    settings: {{p_rated_kw: 500 kW, q_rated_kvar: 300 kvar}}
"""
    )
    (one,) = load_devices(tmp_path / "site.yaml", []).connections
    rig.outstation.static = [integers(raw, start=index) for index, raw, _ in FAMILY.values() if index < 256]
    rig.outstation.static += [
        struct.pack("<BBBHHBi", 30, 1, 1, index, index, 1, raw)
        for index, raw, _ in FAMILY.values()
        if index > 255
    ]
    rig.outstation.static.append(bytes([1, 2, 0, 10, 14, 0x01, 1, 1, 1, 0x81]))  # not local; started
    io = FieldIO(site_of(one), clock=VirtualClock(T0))
    readings = {r.point.removeprefix("bess1."): r for r in await io.read_all()}
    assert {name: r.value for name, r in readings.items()} == pytest.approx(
        {name: value for name, (_, _, value) in FAMILY.items()} | {"state": 1.0, "remote": 1.0}
    )
    assert {r.quality for r in readings.values()} == {Quality.GOOD}
    (result,) = await io.write([command("bess1.p_set_kw", -33.5)])
    assert result.outcome is WriteOutcome.CONFIRMED
    assert rig.outstation.commanded == [  # AO508, -33500 W
        (dnp.DIRECT_OPERATE, bytes.fromhex("29 01 28 01 00 FC 01 24 7D FF FF 00")),
    ]  # fmt: skip
    await io.close()
