"""IEC 61850 devices that answer wrongly: no wrong value is taken, nothing is sent twice, nothing is left."""

import asyncio
import dataclasses
import random
import struct
import threading
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from open61850 import ber
from open61850 import data as iec
from open61850.mms import pdu
from open61850.mms.types import PrimitiveType, StructureType
from open61850.server import protocol as served

from connectors.field import FieldIO
from connectors.iec61850.client import Iec61850Link
from connectors.iec61850.control import SBO_ENHANCED
from connectors.link import LinkError, NotSent, PointValue
from connectors.point_map import PointCodec, point_codecs
from ems.clock import VirtualClock, wall_s, wall_sleep
from ems.commands import WriteOutcome
from ems.site import Connection, PointMap, Protocol
from ems.telemetry import Quality
from tests.builders import T0
from tests.contract import fake_ied
from tests.contract.fake_ied import FakeIed, ended, magnitude, spoiled, told
from tests.contract.plants import command, site_of
from tests.contract.spoilt import Spoilt, until_an_eighth

FOREVER = float("inf")
RIGHT = {"dev.p": 11.5, "dev.q": -22.25, "dev.n": 3.0, "dev.set": 44.0, "dev.run": 0.0}


def row(name: str, address: str, data_type: str, writable: bool = False) -> PointMap:
    return PointMap(
        point=f"dev.{name}", address=f"LD0/{address}", table="attribute", data_type=data_type,
        byte_order="big", word_order="big", scale=1.0, offset=0.0, sign=1, unit="kW", low=-1e6, high=1e6,
        age_s_max=3.0, writable=writable,
    )  # fmt: skip


ROWS = (
    row("p", "MMXU1.TotW.mag.f [MX]", "FLOAT32"),
    row("q", "MMXU1.TotVAr.mag.f [MX]", "FLOAT32"),
    row("n", "GGIO1.IntIn1.stVal [ST]", "INT32"),
    row("set", "GGIO1.WSet.setMag.f [SP]", "FLOAT32", writable=True),
    row("run", "GGIO1.SPCSO1 [CO]", "BOOLEAN", writable=True),
)


class Rig:
    def __init__(self, ied: FakeIed, timeout_s: float = 0.25) -> None:
        self.ied = ied
        self.connection = Connection(
            id="dev", protocol=Protocol.IEC_61850, host="127.0.0.1", port=ied.port, unit_id=1, endpoint="",
            poll_s=1.0, timeout_s=timeout_s, watchdog_point=None, points=ROWS,
        )  # fmt: skip
        self.codecs = point_codecs(self.connection)
        self.link = Iec61850Link(
            self.connection, list(self.codecs.values()), host="127.0.0.1", port=ied.port, timeout_s=timeout_s,
            now=lambda: T0,
        )  # fmt: skip

    def codec(self, name: str) -> PointCodec:
        return self.codecs[f"dev.{name}"]

    async def write(self, *values: tuple[str, float]) -> list[tuple[WriteOutcome, str]]:
        replies = await self.link.write([(self.codec(n), v) for n, v in values], FOREVER)
        return [(r.outcome, r.detail) for r in replies]

    def wrong(self, values: dict[str, PointValue]) -> dict[str, PointValue]:
        return {p: v for p, v in values.items() if v.quality is Quality.GOOD and v.value != RIGHT[p]}


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    threads = threading.active_count()
    ied = FakeIed()
    await ied.start()
    rig = Rig(ied)
    yield rig
    await rig.link.disconnect()
    await ied.stop()
    assert threading.active_count() <= threads


async def test_right_answers_are_read(rig):
    await rig.link.connect()
    values = await rig.link.read()
    assert {p: v.value for p, v in values.items()} == RIGHT
    assert values["dev.p"].source_time == fake_ied.NOW
    assert rig.link.refused == {}


def mms(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """A change of the MMS message inside of its envelope."""
    return lambda message: pdu.wrap(change(pdu.unwrap(message)))


def results(*values: iec.IECData, number: int | None = None) -> Callable[[bytes], bytes]:
    """Other results in the answer to the right request."""

    def change(message: bytes) -> bytes:
        right = pdu.decode_pdu(pdu.unwrap(message))
        assert isinstance(right, pdu.ConfirmedResponse)
        own = right.invoke_id if number is None else number
        return pdu.wrap(served.confirmed_response(own, right.service, served.read_response(list(values))))

    return change


def first(value: iec.IECData) -> Callable[[bytes], bytes]:
    """The first object of the answer is something else."""

    def change(message: bytes) -> bytes:
        right = pdu.decode_pdu(pdu.unwrap(message))
        assert isinstance(right, pdu.ConfirmedResponse)
        others = pdu.read_response(right.content)[1:]
        return results(value, *others)(message)  # type: ignore[arg-type]

    return change


def raw(tag: int, value: bytes) -> iec.StructureData:
    return told(iec.StructureData([iec.RawData(tag, value)]))


def with_quality(value: iec.IECData) -> iec.StructureData:
    return iec.StructureData(
        [iec.StructureData([iec.FloatData(7.0)]), value, iec.TimestampData(fake_ied.NOW)]
    )


def nested(depth: int) -> iec.RawData:
    inner = b""
    for _ in range(depth):
        inner = ber.encode_tlv(iec.TAG_STRUCTURE, inner)
    return iec.RawData(iec.TAG_STRUCTURE, inner)


SEVEN = magnitude(7.0)
LOSE_IT = {
    "another request's": results(*[SEVEN] * 5, number=1),
    "of request 0": results(*[SEVEN] * 5, number=0),
    "too few results": results(*[SEVEN] * 4),
    "too many results": results(*[SEVEN] * 6),
    "no results": results(),
    "of another service": mms(lambda m: served.confirmed_response(ber_id(m), 5, b"")),
    "two lists of results": mms(
        lambda m: served.confirmed_response(ber_id(m), 4, served.read_response([SEVEN] * 5) * 2)
    ),
    "an empty integer": first(raw(iec.TAG_INTEGER, b"")),
    "an integer of 9 bytes": first(raw(iec.TAG_INTEGER, b"\0" * 9)),
    "a float of 3 bytes": first(raw(iec.TAG_FLOAT, b"\x08\x41\x30")),
    "a float of another format": first(raw(iec.TAG_FLOAT, b"\x0b\x41\x30\0\0")),
    "a boolean of two bytes": first(raw(iec.TAG_BOOLEAN, b"\0\1")),
    "a time of 7 bytes": first(raw(iec.TAG_UTC_TIME, b"\0" * 7)),
    "a bit string without its first byte": first(raw(iec.TAG_BIT_STRING, b"")),
    "values inside values": first(nested(5000)),
    "garbage": lambda message: b"\xff" * 300,
    "nothing at all": lambda message: b"",
    "an abort": lambda message: b"\x19\x00",
    "cut short": lambda message: message[:-3],
    "more behind it": mms(lambda m: m[:1] + b"\x05" + m[2:]),
    "an answer nobody can read": mms(lambda m: b"\xa9" + m[1:]),
}  # fmt: skip


def ber_id(message: bytes) -> int:
    right = pdu.decode_pdu(message)
    assert isinstance(right, pdu.ConfirmedResponse)
    return right.invoke_id


@pytest.mark.parametrize("change", LOSE_IT.values(), ids=LOSE_IT)
async def test_answer_that_cannot_be_believed_has_the_connection_made_anew(rig, change):
    await rig.link.connect()
    rig.ied.spoil = change
    with pytest.raises(LinkError):
        await rig.link.read()
    assert not rig.link.connected
    rig.ied.spoil = bytes
    await rig.link.connect()
    assert {p: v.value for p, v in (await rig.link.read()).items()} == RIGHT


UNUSABLE = {
    "a member more": (iec.StructureData([*SEVEN.members, iec.IntData(1)]), "t is no time"),
    "a member less": (iec.StructureData(SEVEN.members[:2]), "t is no time"),
    "no structure": (iec.FloatData(7.0), "t is no time"),
    "an integer": (told(iec.StructureData([iec.IntData(7)])), "no FLOAT32"),
    "a double": (told(iec.StructureData([iec.FloatData(7.0, double=True)])), "no FLOAT32"),
    "a text": (told(iec.StructureData([iec.VisibleStringData("7")])), "no FLOAT32"),
    "NaN": (magnitude(float("nan")), "not a finite number"),
    "infinity": (magnitude(float("inf")), "not a finite number"),
    "a quality of 12 bits": (with_quality(iec.BitStringData(b"\0\0", 4)), "q is no quality"),
    "a number as quality": (with_quality(iec.IntData(0)), "q is no quality"),
}


@pytest.mark.parametrize(("value", "why"), UNUSABLE.values(), ids=UNUSABLE)
async def test_value_of_another_form_is_none_with_its_reason_and_costs_no_other(rig, value, why):
    await rig.link.connect()
    rig.ied.objects["MMXU1$MX$TotW"] = value
    values = await rig.link.read()
    assert values["dev.p"].value is None
    assert values["dev.p"].quality in (Quality.DEVICE_BAD, Quality.NOT_FINITE)
    assert values["dev.q"].value == RIGHT["dev.q"]
    assert list(rig.link.refused) == ["dev.p"]
    assert why in rig.link.refused["dev.p"]


@pytest.mark.parametrize(
    ("code", "why"),
    [(3, "object access denied"), (10, "object non existent"), (2, "temporarily unavailable")],
)
async def test_object_that_is_refused_is_no_value_and_says_why(rig, code, why):
    await rig.link.connect()
    rig.ied.objects["MMXU1$MX$TotW"] = code
    values = await rig.link.read()
    assert (values["dev.p"].value, values["dev.p"].quality) == (None, Quality.DEVICE_BAD)
    assert why in rig.link.refused["dev.p"]
    assert rig.wrong(values) == {}


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("silent", "no answer in 0.25 s"),
        ("late", "no answer in 0.25 s"),
        ("drip", "no answer in 0.25 s"),  # each byte in time, the whole not
        ("hang up in the middle", "hung up in the middle"),
        ("bare", "no TPKT"),
    ],
)
async def test_answer_late_torn_or_missing_costs_one_time_out_and_is_never_the_next_one(rig, mode, why):
    await rig.link.connect()
    rig.ied.mode = mode
    with pytest.raises(LinkError, match=why):
        await rig.link.read()
    rig.ied.mode = "ok"
    rig.ied.objects["MMXU1$MX$TotW"] = magnitude(99.0)
    await rig.link.connect()
    assert (await rig.link.read())["dev.p"].value == 99.0


async def test_parts_without_end_are_refused(rig):
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(100)
            confirm = bytes([len(fake_ied.CONFIRM)]) + fake_ied.CONFIRM
            writer.write(struct.pack("!BBH", 3, 0, 4 + len(confirm)) + confirm)
            while True:
                writer.write(struct.pack("!BBH", 3, 0, 60007) + b"\x02\xf0\x00" + bytes(60000))
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = Iec61850Link(
        rig.connection, list(rig.codecs.values()), host="127.0.0.1", port=port, timeout_s=5.0, now=lambda: T0
    )
    with pytest.raises(LinkError, match="70000 bytes"):
        await link.connect()
    server.close()


async def test_reports_nobody_asked_for_are_passed_over_and_a_flood_is_refused(rig):
    await rig.link.connect()
    report = served.information_report([iec.VisibleStringData("x")], list_name="RPT")
    rig.ied.reports = [report] * 5
    assert (await rig.link.read())["dev.p"].value == RIGHT["dev.p"]
    cause = served.information_report([iec.IntData(1)], variables=[pdu.ObjectName("LastApplError")])
    rig.ied.reports = [cause] * 100
    with pytest.raises(LinkError, match="flood"):
        await rig.link.read()


async def test_device_that_refuses_the_association_says_so(rig):
    rig.ied.spoils = ("associate",)
    rig.ied.spoil = lambda message: b"\x0c\x03\x32\x01\x02"
    with pytest.raises(LinkError, match="session refused"):
        await rig.link.connect()


async def test_type_that_is_not_as_the_map_says_is_told_and_the_others_are_read(rig, monkeypatch):
    monkeypatch.setitem(
        fake_ied.TYPES, "GGIO1$ST$IntIn1", StructureType([("stVal", PrimitiveType("integer", 16))])
    )
    await rig.link.connect()
    values = await rig.link.read()
    assert values["dev.n"].value is None
    assert "no quality" in rig.link.refused["dev.n"]
    assert values["dev.p"].value == RIGHT["dev.p"]
    assert await rig.write(("set", 5.0)) == [(WriteOutcome.CONFIRMED, "")]


# ---- controls -------------------------------------------------------------------------------------


async def test_command_is_confirmed_when_it_has_ended(rig):
    rig.ied.after = lambda oper: [ended(oper)]
    await rig.link.connect()
    assert await rig.write(("run", 1.0)) == [(WriteOutcome.CONFIRMED, "")]
    ((name, oper),) = rig.ied.written
    assert name == "GGIO1$CO$SPCSO1$Oper"
    value, origin, number, at, test, check = oper.members
    assert (value.value, number.value, at.value, test.value) == (True, 1, T0, False)
    assert (origin.members[0].value, origin.members[1].value) == (5, b"ems")
    assert (check.value, check.unused_bits) == (b"\xc0", 6)


async def test_end_of_another_command_is_not_the_end_of_this_one(rig):
    rig.ied.after = lambda oper: [ended(oper, number=200), ended(oper, cause=10)]
    await rig.link.connect()
    outcome, why = (await rig.write(("run", 1.0)))[0]
    assert (outcome, why) == (WriteOutcome.REJECTED, "blocked by interlocking (AddCause 10)")


async def test_command_without_an_end_is_unknown_and_read_back_over_a_new_connection(rig):
    await rig.link.connect()
    replies = await rig.write(("run", 1.0), ("set", 9.0))
    assert [r[0] for r in replies] == [WriteOutcome.UNKNOWN, WriteOutcome.NOT_SENT]
    assert "no CommandTermination" in replies[0][1]
    assert not rig.link.connected
    assert [name for name, _ in rig.ied.written] == ["GGIO1$CO$SPCSO1$Oper"]
    rig.ied.objects["GGIO1$ST$SPCSO1"] = told(iec.BoolData(True))
    await rig.link.connect()
    assert (await rig.link.read())["dev.run"].value == 1.0


@pytest.mark.parametrize("mode", ["silent", "late", "drip", "hang up in the middle"])
async def test_write_without_an_answer_is_unknown_and_never_sent_again(rig, mode):
    await rig.link.connect()
    rig.ied.spoils = ("write",)
    rig.ied.mode = mode
    ((outcome, _),) = await rig.write(("set", 9.0))
    assert outcome is WriteOutcome.UNKNOWN
    assert not rig.link.connected
    rig.ied.mode = "ok"
    await rig.link.connect()
    await rig.link.read()
    assert [name for name, _ in rig.ied.written] == ["GGIO1$SP$WSet$setMag$f"]


async def test_write_after_the_cycle_is_not_sent(rig):
    await rig.link.connect()
    (reply,) = await rig.link.write([(rig.codec("set"), 1.0)], wall_s() - 1.0)
    assert reply.outcome is WriteOutcome.NOT_SENT
    assert rig.ied.written == []


@pytest.mark.scenario(66)
async def test_write_is_that_of_the_moment_when_nobody_else_is_asking(rig):
    """A poll is on the association: the value is asked for behind it, and it may be none."""
    await rig.link.connect()
    kw = [9.0]
    poll = asyncio.create_task(rig.link.read())
    await asyncio.sleep(0)
    write = asyncio.create_task(
        rig.link.write([(rig.codec("set"), 9.0)], FOREVER, lambda codec, value: kw[0])
    )
    await asyncio.sleep(0)
    kw[0] = 4.0
    await poll
    assert [r.outcome for r in await write] == [WriteOutcome.CONFIRMED]
    assert [v.value for _, v in rig.ied.written] == [4.0]

    def none(codec: PointCodec, value: float) -> float:
        raise NotSent("nothing of it is allowed any more")

    for latest in (none, lambda codec, value: float("inf")):
        (reply,) = await rig.link.write([(rig.codec("set"), 9.0)], FOREVER, latest)
        assert reply.outcome is WriteOutcome.NOT_SENT
    assert len(rig.ied.written) == 1
    assert rig.link.connected


@pytest.mark.scenario(66)
@pytest.mark.parametrize("now", [0.0, None])
async def test_command_that_changes_while_it_is_selected_is_not_operated(rig, now: float | None):
    """Limits were tightened between selection and operation: it is given back."""
    rig.ied.objects["GGIO1$CF$SPCSO1$ctlModel"] = iec.IntData(SBO_ENHANCED)
    await rig.link.connect()

    def latest(codec: PointCodec, value: float) -> float:
        if not rig.ied.written:
            return value
        if now is None:
            raise NotSent("nothing of it is allowed any more")
        return now

    (reply,) = await rig.link.write([(rig.codec("run"), 1.0)], FOREVER, latest)
    assert reply == (WriteOutcome.NOT_SENT, "selected, and another value is allowed now")
    assert [name.rpartition("$")[2] for name, _ in rig.ied.written] == ["SBOw", "Cancel"]


async def test_device_that_hung_up_meanwhile_is_not_written_to(rig):
    await rig.link.connect()
    await rig.link.read()
    await rig.ied.stop()
    await wall_sleep(0.05)
    ((outcome, why),) = await rig.write(("set", 9.0))
    assert (outcome, why) == (WriteOutcome.NOT_SENT, "it has hung up between messages")
    await rig.ied.start()


@pytest.mark.scenario(27)
async def test_poll_and_writes_at_once_have_each_their_own_answer(rig):
    """A poll is under way when the cycle writes: answers were taken for those of the other."""
    rig.ied.after = lambda oper: [ended(oper)]
    rig.ied.mode, rig.ied.late_s, rig.ied.spoils = "late", 0.03, ("read", "write")
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
    assert rig.ied.connections == 1
    numbers = [v.members[2].value for n, v in rig.ied.written if n.endswith("Oper")]
    assert numbers == [1, 2, 3, 4, 5, 6]


@pytest.mark.scenario(27)
async def test_answer_to_a_request_that_was_cancelled_is_nobodys(rig):
    await rig.link.connect()
    rig.ied.mode, rig.ied.late_s = "late", 0.05
    poll = asyncio.create_task(rig.link.read())
    await wall_sleep(0.02)
    poll.cancel()
    await asyncio.gather(poll, return_exceptions=True)
    rig.ied.objects["MMXU1$MX$TotW"] = magnitude(99.0)
    await wall_sleep(0.1)
    with pytest.raises(LinkError, match="an answer to nothing"):
        await rig.link.read()
    await rig.link.connect()
    assert (await rig.link.read())["dev.p"].value == 99.0


async def test_write_that_waited_for_a_poll_that_failed_is_not_sent(rig):
    await rig.link.connect()
    rig.ied.mode = "silent"
    poll = asyncio.create_task(rig.link.read())
    await wall_sleep(0.02)
    replies = await rig.write(("set", 9.0))
    with pytest.raises(LinkError):
        await poll
    assert [r[0] for r in replies] == [WriteOutcome.NOT_SENT]
    assert rig.ied.written == []


# ---- seeded frames --------------------------------------------------------------------------------


async def survive(rig: Rig, seed: int, count: int) -> tuple[int, int, int]:
    """Read so often through a device that spoils answers; (polls refused, believed, answers spoilt)."""
    rng, spoilt = random.Random(seed), Spoilt()
    refused = believed = 0
    rig.ied.spoil = spoilt.by(lambda message: spoiled(rng, message))
    for i in range(count):
        rig.ied.spoils = ("associate", "type", "read", "write")[i % 4 :][:1]
        try:
            if not rig.link.connected:
                await rig.link.connect()
            values = await rig.link.read()
            await rig.write(("set", 44.0))
            believed += 1
        except LinkError:
            refused += 1
            continue
        assert rig.wrong(values) == {}, (seed, i)
    return refused, believed, spoilt.count


@pytest.mark.scenario(26)
async def test_spoiled_frames_never_crash_and_never_become_a_value(rig):
    rig = Rig(rig.ied, timeout_s=0.05)
    refused, believed, _ = await survive(rig, seed=61850, count=300)
    assert refused > 50
    assert believed > 20
    rig.ied.spoil = bytes
    await rig.link.disconnect()
    await rig.link.connect()
    assert rig.wrong(await rig.link.read()) == {}
    await rig.link.disconnect()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(8))
def test_spoiled_frames_soak(seed):
    """An eighth of a million spoilt answers."""

    async def some(own: int) -> int:
        ied = FakeIed()
        await ied.start()
        rig = Rig(ied, timeout_s=0.1)
        refused, believed, spoilt = await survive(rig, own, count=3000)
        assert min(refused, believed) > 100
        await rig.link.disconnect()
        await ied.stop()
        return spoilt

    until_an_eighth(some, seed)


async def test_one_device_that_is_stuck_costs_the_others_nothing_and_closing_waits_for_nobody(rig):
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
    rig.ied.after = lambda oper: [ended(oper)]
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
