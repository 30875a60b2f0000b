"""Meters that answer rightly and wrongly: no wrong value is taken, nothing is written, nothing is left.

The meter is one of our own making (fake_meter.py), written from the bytes of the standard.
"""

import asyncio
import dataclasses
import random
import struct
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from connectors.dlms.client import READ_ONLY, DlmsLink
from connectors.field import FieldIO
from connectors.link import LinkError, PointValue, Refused, Untrusted
from connectors.point_map import point_codecs
from connectors.wire_log import Tap
from ems.clock import VirtualClock, wall_s, wall_sleep
from ems.dlms import Dlms, DlmsRow
from ems.site import Connection, IdentityField, PointMap, Protocol
from ems.telemetry import Quality
from tests.builders import T0
from tests.contract.fake_meter import (
    AK,
    CLIENT,
    EK,
    HZ,
    NONE,
    OURS,
    PASSWORD,
    SERVER,
    VAR,
    WH,
    FakeMeter,
    V,
    W,
    array,
    enum,
    f32,
    i32,
    moment,
    obis,
    octets,
    scaler,
    structure,
    u8,
    u16,
    u32,
    u64,
    visible,
)
from tests.contract.plants import site_of

RIGHT = {
    "p": -1.2345, "e": 123456.789, "v": 230.1, "f": 50.02, "state": 3.0, "demand": 61.5, "peak": 88.25,
    "closed": 1.0,
}  # fmt: skip
CAPTURED = datetime(2026, 3, 1, 11, 45, tzinfo=UTC)
CLOCK = obis("0-0:1.0.0")
LISTS, BLOCKS, GENERAL = 1 << 9, 1 << 12, 1 << 22


def row(name: str, address: str, data_type: str = "number", unit: str = "kW", **more: Any) -> PointMap:
    plain = PointMap(
        point=f"dev.{name}", address=address, table="object", data_type=data_type, byte_order="big",
        word_order="big", scale=1.0, offset=0.0, sign=1, unit=unit, low=-1e9, high=1e9, age_s_max=3.0,
        writable=False, dlms=DlmsRow(),
    )  # fmt: skip
    return dataclasses.replace(plain, **more)


ROWS = (
    row("p", "1-0:16.7.0*255"),
    row("e", "1-0:1.8.0*255", unit="kWh"),
    row("v", "1-0:32.7.0*255", unit="pu"),
    row("f", "1-0:14.7.0*255", unit="Hz"),
    row("state", "0-0:96.10.1*255 [class 1]", "integer", ""),
    row("demand", "1-0:1.4.0*255 [class 5, attribute 3]"),
    row("peak", "1-0:1.6.0*255 [class 4, bad 0x03]"),
    row("closed", "0-0:96.3.10*255 [class 1]", "integer", "", bit=2),
)
SERIAL = IdentityField(
    name="serial", address="0-0:96.1.0*255", table="object", data_type="string", length=0, byte_order="big",
    word_order="big",
)  # fmt: skip


def filled() -> FakeMeter:
    meter = FakeMeter()
    meter.register("1-0:16.7.0", i32(-12345), -1, W)
    meter.register("1-0:1.8.0", u64(123456789), 0, WH)
    meter.register("1-0:32.7.0", u16(2301), -1, V)
    meter.register("1-0:14.7.0", f32(50.02), 0, HZ)
    meter.data("0-0:96.10.1", u8(3))
    meter.data("0-0:96.3.10", enum(0b100))
    meter.data("0-0:96.1.0", octets(b"4711"))
    meter.register("1-0:1.4.0", u32(1), 2, W, class_id=5)
    meter.objects[5, obis("1-0:1.4.0"), 3] = u32(615)
    meter.register("1-0:1.6.0", u32(8825), 1, W, class_id=4)
    for class_id, code, status, time in ((5, "1-0:1.4.0", 5, 6), (4, "1-0:1.6.0", 4, 5)):
        meter.objects[class_id, obis(code), status] = u8(0)
        meter.objects[class_id, obis(code), time] = octets(moment(CAPTURED, -60))
    meter.objects[8, CLOCK, 2] = octets(moment(T0 + timedelta(seconds=7), -60))
    return meter


class Rig:
    def __init__(self, meter: FakeMeter, folder: Path, timeout_s: float = 0.3, **settings: Any) -> None:
        self.meter, self.folder = meter, folder
        self.connection = Connection(
            id="dev", protocol=Protocol.DLMS, host="127.0.0.1", port=meter.port, unit_id=1, endpoint="",
            poll_s=1.0, timeout_s=timeout_s, watchdog_point=None, points=ROWS, identity=(SERIAL,),
            dlms=Dlms(client=CLIENT, **settings).located(folder),
        )  # fmt: skip
        self.link = self.made(*ROWS)

    def made(self, *rows: PointMap) -> DlmsLink:
        one = dataclasses.replace(self.connection, points=rows)
        return DlmsLink(
            one, list(point_codecs(one).values()), host="127.0.0.1", port=self.meter.port,
            timeout_s=one.timeout_s, now=lambda: T0,
        )  # fmt: skip

    async def read(self) -> dict[str, PointValue]:
        return {point.removeprefix("dev."): v for point, v in (await self.link.read()).items()}

    def wrong(self, values: dict[str, PointValue]) -> dict[str, PointValue]:
        good = {p: v for p, v in values.items() if v.quality is Quality.GOOD}
        return {p: v for p, v in good.items() if v.value != pytest.approx(RIGHT[p])}


def secured(folder: Path) -> dict[str, Any]:
    for name, text in {"e": EK.hex(), "a": AK.hex(), "c": "1", "p": PASSWORD.decode()}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    return {
        "authentication": "gmac", "system_title": OURS.hex(), "encryption_key_file": "e",
        "authentication_key_file": "a", "counter_file": "c",
    }  # fmt: skip


@pytest_asyncio.fixture
async def rig(tmp_path) -> AsyncIterator[Rig]:
    meter = filled()
    await meter.start()
    rig = Rig(meter, tmp_path)
    yield rig
    await rig.link.disconnect()
    await meter.stop()
    assert not meter.unknown


@pytest_asyncio.fixture
async def gmac(tmp_path) -> AsyncIterator[Rig]:
    meter = filled()
    meter.authentication = "gmac"
    await meter.start()
    rig = Rig(meter, tmp_path, **secured(tmp_path))
    yield rig
    await rig.link.disconnect()
    await meter.stop()
    assert not meter.unknown


async def test_every_point_has_its_value_unit_and_time(rig):
    await rig.link.connect()
    assert await rig.link.identify() == {"serial": "4711"}
    values = await rig.read()
    assert {p: v.value for p, v in values.items()} == pytest.approx(RIGHT)
    assert {v.quality for v in values.values()} == {Quality.GOOD}
    assert values["peak"].source_time == values["demand"].source_time == CAPTURED
    assert values["p"].source_time is None
    assert rig.link.counts["clock_ahead_s"] == 7
    await rig.read()
    sizes = [len(places) for places in rig.meter.asked]
    assert sizes == [1, 6, 13, 12], (
        "serial; scalers; values, statuses, times and the clock; without the clock"
    )


async def test_scaler_is_read_anew_at_each_association(rig):
    await rig.link.connect()
    assert (await rig.read())["p"].value == pytest.approx(-1.2345)
    rig.meter.register("1-0:16.7.0", i32(-12345), 0, W)
    assert (await rig.read())["p"].value == pytest.approx(-1.2345), (
        "the old one: nobody may change it meanwhile"
    )
    await rig.link.connect()
    assert (await rig.read())["p"].value == pytest.approx(-12.345)
    assert (rig.meter.associations, rig.meter.released) == (2, 1)


@pytest.mark.parametrize(
    ("change", "point", "why"),
    [
        (lambda m: m.register("1-0:16.7.0", i32(5), 0, VAR), "p", "var is told, kW in the map"),
        (lambda m: m.register("1-0:1.8.0", u32(5), 0, W), "e", "W is told, kWh in the map"),
        (lambda m: m.register("1-0:32.7.0", u16(5), 0, NONE), "v", "no unit is told, pu in the map"),
        (lambda m: m.register("1-0:16.7.0", octets(b"abcd")), "p", "an octet-string is told, number"),
        (lambda m: m.register("1-0:16.7.0", b"\x00"), "p", "null-data is told, number"),
        (lambda m: m.register("1-0:16.7.0", b"\x03\x01"), "p", "a boolean is told, number"),
        (lambda m: m.register("1-0:16.7.0", array(u8(1))), "p", "an array is told, number"),
        (lambda m: m.data("0-0:96.10.1", f32(3.0)), "state", "float32 is told, integer"),
        (lambda m: m.data("0-0:96.10.1", visible("3")), "state", "a visible-string is told, integer"),
        (lambda m: m.objects.update({(3, obis("1-0:16.7.0"), 2): 3}), "p", "reading is denied (3)"),
        (lambda m: m.objects.update({(3, obis("1-0:16.7.0"), 2): 250}), "p", "other reason (250)"),
        (lambda m: m.objects.update({(3, obis("1-0:16.7.0"), 3): 2}), "p", "scaler and unit of 1-0:16.7.0"),
        (lambda m: m.objects.update({(3, obis("1-0:16.7.0"), 3): structure(u8(0))}), "p", "a structure"),
        (lambda m: m.objects.update({(4, obis("1-0:1.6.0"), 4): u8(2)}), "peak", "status 0x2 of 1-0:1.6.0"),
        (lambda m: m.objects.update({(4, obis("1-0:1.6.0"), 4): 3}), "peak", "the status of 1-0:1.6.0"),
    ],
)
async def test_what_contradicts_the_map_is_no_value_and_says_why(rig, change, point, why):
    change(rig.meter)
    await rig.link.connect()
    values = await rig.read()
    assert (values[point].value, values[point].quality) == (None, Quality.DEVICE_BAD)
    assert why in rig.link.refused[f"dev.{point}"]
    assert list(rig.link.refused) == [f"dev.{point}"]
    assert not rig.wrong(values)


async def test_scaler_that_was_not_there_is_asked_again(rig):
    rig.meter.objects[3, obis("1-0:16.7.0"), 3] = 2
    await rig.link.connect()
    assert (await rig.read())["p"].value is None
    rig.meter.objects[3, obis("1-0:16.7.0"), 3] = scaler(-1, W)
    assert (await rig.read())["p"].value == pytest.approx(-1.2345)


@pytest.mark.parametrize(
    ("value", "quality"),
    [(f32(float("nan")), Quality.NOT_FINITE), (f32(float("inf")), Quality.NOT_FINITE),
     (b"\x18" + struct.pack(">d", 1e300), Quality.OUT_OF_RANGE)],
)  # fmt: skip
async def test_floats_that_are_no_value_have_their_quality(rig, value, quality):
    rig.meter.register("1-0:16.7.0", value, 0, W)
    await rig.link.connect()
    assert (await rig.read())["p"].quality is quality


async def test_unit_in_the_map_is_converted_from_the_meters(rig):
    rig.link = rig.made(row("p", "1-0:16.7.0", scale=1e-3, dlms=DlmsRow(unit="W")))
    await rig.link.connect()
    assert (await rig.read())["p"].value == pytest.approx(-1.2345)


async def test_status_that_is_set_is_counted_and_time_of_a_bad_clock_not_believed(rig):
    rig.meter.objects[5, obis("1-0:1.4.0"), 5] = u8(0x40)
    rig.meter.objects[5, obis("1-0:1.4.0"), 6] = octets(moment(CAPTURED, -60, status=1))
    rig.meter.objects[8, CLOCK, 2] = octets(moment(T0, -60, status=2))
    await rig.link.connect()
    values = await rig.read()
    assert (values["demand"].quality, values["demand"].source_time) == (Quality.GOOD, None)
    assert (rig.link.counts["statuses_set"], rig.link.counts["times_not_believed"]) == (1, 1)
    assert "clock_ahead_s" not in rig.link.counts


@pytest.mark.parametrize("lists", ["exception", "error", "silent"])
async def test_meter_that_answers_no_lists_is_read_one_by_one(rig, lists):
    rig.meter.lists = lists
    await rig.link.connect()
    if lists == "silent":
        with pytest.raises(LinkError, match="no whole answer in time"):
            await rig.read()
        await rig.link.connect()
    assert {p: v.value for p, v in (await rig.read()).items()} == pytest.approx(RIGHT)
    assert rig.link.counts["one_by_one"] == 1
    before = len(rig.meter.asked)
    await rig.read()
    assert {len(places) for places in rig.meter.asked[before:]} == {1}


async def test_lists_that_were_not_agreed_are_not_asked(rig):
    rig.meter.conformance &= ~LISTS
    await rig.link.connect()
    assert not rig.wrong(await rig.read())
    assert {len(places) for places in rig.meter.asked} == {1}


async def test_requests_fit_into_what_the_meter_takes(rig):
    rig.meter.pdu = 60
    await rig.link.connect()
    assert {p: v.value for p, v in (await rig.read()).items()} == pytest.approx(RIGHT)
    assert max(len(places) for places in rig.meter.asked) == 5


@pytest.mark.parametrize("block", [1, 7, 20])
async def test_long_answer_comes_in_blocks(rig, block):
    rig.meter.block = block
    rig.meter.data("0-0:96.1.0", octets(bytes(range(0x41, 0x5B)) * 4))
    await rig.link.connect()
    assert await rig.link.identify() == {"serial": "ABCDEFGHIJKLMNOPQRSTUVWXYZ" * 4}
    assert {p: v.value for p, v in (await rig.read()).items()} == pytest.approx(RIGHT)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda b: b[:4] + struct.pack(">I", int.from_bytes(b[4:8], "big") + 1) + b[8:], "block 2, where"),
        (lambda b: b[:4] + bytes(4) + b[8:], "block 0, where block 1"),
        (lambda b: b[:3] + b"\x01" + b[4:], "bytes"),
        (lambda b: b[:8] + b"\x00\x00", "an empty block"),
        (lambda b: b[:9] + bytes([b[9] + 1]) + b[10:], "bytes are to come"),
        (lambda b: b[:9] + bytes([b[9] - 1]) + b[10:], "bytes too many"),
        (lambda b: b[:2] + bytes([b[2] ^ 1]) + b[3:], "an answer to request"),
        (lambda b: b[:1] + b"\x01" + b[2:], "a result of kind|bytes|value, where"),
    ],
)
async def test_blocks_gone_wrong_are_no_values(rig, spoil, why):
    rig.meter.block, rig.meter.spoil_block = 7, spoil
    await rig.link.connect()
    with pytest.raises(LinkError, match=why):
        await rig.read()
    assert not rig.link.connected


async def test_block_with_an_error_is_told_and_the_next_reading_is_right(rig):
    rig.meter.block = 7
    rig.meter.spoil_block = lambda b: b[:3] + b"\x01" + b[4:8] + b"\x01\x0f"
    await rig.link.connect()
    assert {v.quality for v in (await rig.read()).values()} == {Quality.DEVICE_BAD}
    rig.meter.spoil_block = bytes
    assert {p: v.value for p, v in (await rig.read()).items()} == pytest.approx(RIGHT)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda a: a[:2] + bytes([a[2] ^ 3]) + a[3:], "an answer to request"),
        (lambda a: b"\xc5" + a[1:], "APDU 0xc5, where 0xc4"),
        (lambda a: a[:-1], "bytes are to come"),
        (lambda a: a + b"\x00", "1 bytes too many"),
        (lambda a: a[:3] + bytes([a[3] + 1]) + a[4:], "results, and"),
        (lambda a: a[:5] + b"\xee" + a[6:], "which is not read"),
        (lambda a: a[:3] + b"\x84\xff\xff\xff\xff" + a[4:], "results, and"),
        (lambda a: a[:1], "bytes are to come"),
        (lambda _: b"\xd8\x01\x01", "service not allowed"),
    ],
)
async def test_answer_that_is_none_drops_the_connection(rig, spoil, why):
    rig.meter.spoil = spoil
    await rig.link.connect()
    with pytest.raises(LinkError, match=why):
        await rig.read()
    assert not rig.link.connected
    rig.meter.spoil = bytes
    await rig.link.connect()
    assert {p: v.value for p, v in (await rig.read()).items()} == pytest.approx(RIGHT)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda f: b"\x00\x02" + f[2:], "no DLMS wrapper"),
        (lambda f: f[:3] + b"\x05" + f[4:], "and not from the meter to us"),
        (lambda f: f[:6] + b"\x00\x00", "an empty frame"),
        (lambda f: f[:6] + b"\xff\xff" + f[8:], "no whole answer in time"),
        (lambda f: f[:-1], "no whole answer in time"),
        (lambda f: b"\x7e\xa0\x07\x03\x21\x93" + f, "no DLMS wrapper: 7ea0"),
    ],
)
async def test_frame_that_is_none_drops_the_connection(rig, spoil, why):
    await rig.link.connect()
    rig.meter.spoil_frame = spoil
    with pytest.raises(LinkError, match=why):
        await rig.read()
    assert not rig.link.connected


async def twice_read(rig: Rig) -> None:
    await rig.read()
    await wall_sleep(0.01)
    await rig.read()


@pytest.mark.scenario(27)
@pytest.mark.parametrize("mode", ["silent", "late", "cut", "drip", "twice"])
async def test_late_and_repeated_answers_are_never_taken_for_the_next(rig, mode):
    await rig.link.connect()
    await rig.read()
    rig.meter.mode = mode
    rig.meter.register("1-0:16.7.0", i32(-999), 0, W)
    began_s = wall_s()
    with pytest.raises(LinkError):
        await twice_read(rig)
    assert wall_s() - began_s < 4 * 0.3
    rig.meter.mode = "ok"
    async with asyncio.timeout(5.0):
        while rig.meter.busy:  # it is still at the answer that nobody wants any more
            await wall_sleep(0.01)
    rig.meter.register("1-0:16.7.0", i32(-12345), -1, W)
    await rig.link.connect()
    assert {p: v.value for p, v in (await rig.read()).items()} == pytest.approx(RIGHT)


async def test_notifications_are_counted_and_not_read(rig):
    await rig.link.connect()
    push = b"\x0f\x00\x00\x00\x01\x00" + u32(999)
    rig.meter.before = struct.pack(">HHHH", 1, SERVER, CLIENT, len(push)) + push
    assert not rig.wrong(await rig.read())
    assert rig.link.counts["unsolicited"] == 1
    rig.meter.before *= 101
    rig.meter.before = (struct.pack(">HHHH", 1, SERVER, CLIENT, len(push)) + push) * 101
    with pytest.raises(LinkError, match="notifications that nobody asked for"):
        await rig.read()


@pytest.mark.parametrize(
    ("diagnosis", "kind", "why"),
    [
        (13, Refused, "authentication failed"),
        (11, Refused, "not recognised"),
        (1, LinkError, "no reason given"),
    ],
)
async def test_association_that_is_refused_says_why(rig, diagnosis, kind, why):
    rig.meter.result, rig.meter.diagnosis = 1, diagnosis
    with pytest.raises(kind, match=why) as refused:
        await rig.link.connect()
    assert type(refused.value) is kind
    assert not rig.link.connected


@pytest.mark.parametrize("answer", ["d80101", "d80202", "d80206", "0e010600", "d8", "61", "c4014100000000"])
async def test_association_that_is_answered_with_something_else_is_none(rig, answer):
    rig.meter.spoil_aare = lambda _: bytes.fromhex(answer)
    with pytest.raises(LinkError, match="cannot connect to") as refused:
        await rig.link.connect()
    assert type(refused.value) in (LinkError, Untrusted)
    assert not rig.link.connected
    rig.meter.spoil_aare = bytes
    async with asyncio.timeout(5.0):
        while rig.meter.busy:
            await wall_sleep(0.01)
    await rig.link.connect()
    assert not rig.wrong(await rig.read())


async def test_meter_with_another_client_is_tried_again_until_it_lets_go(rig):
    other = rig.made(*ROWS)
    await other.connect()
    with pytest.raises(LinkError, match="connection lost"):
        await rig.link.connect()
    await other.disconnect()
    await rig.link.connect()
    assert not rig.wrong(await rig.read())
    assert rig.meter.released == 1


async def test_password_is_told_to_the_meter_and_not_to_the_log(tmp_path):
    meter, seen = filled(), list[bytes]()
    meter.authentication = "low"
    await meter.start()
    secured(tmp_path)
    try:
        right = Rig(meter, tmp_path, authentication="low", password_file="p")
        right.link.tap = Tap("dev", lambda _, what, data, __: seen.append(data) if what == "O" else None)
        right.link.tap.on = True
        await right.link.connect()
        assert not right.wrong(await right.read())
        await right.link.disconnect()
        assert PASSWORD not in b"".join(seen)
        assert b"*" * len(PASSWORD) in b"".join(seen)
        (tmp_path / "p").write_text("another")
        with pytest.raises(Refused, match="authentication failed"):
            await right.link.connect()
        (tmp_path / "p").chmod(0o644)
        with pytest.raises(Untrusted, match="0600"):
            await right.link.connect()
    finally:
        await meter.stop()


@pytest.mark.parametrize("general", [0, GENERAL])
async def test_ciphered_association_is_proved_and_read(gmac, general):
    gmac.meter.conformance |= general
    await gmac.link.connect()
    assert {p: v.value for p, v in (await gmac.read()).items()} == pytest.approx(RIGHT)
    gmac.meter.block = 20
    assert {p: v.value for p, v in (await gmac.read()).items()} == pytest.approx(RIGHT)
    await gmac.link.disconnect()
    assert gmac.meter.released == 1
    assert gmac.meter.counters == sorted(set(gmac.meter.counters))
    last = gmac.meter.counters[-1]
    after = gmac.made(*ROWS)  # as after a restart
    await after.connect()
    assert not gmac.wrong({p.removeprefix("dev."): v for p, v in (await after.read()).items()})
    await after.disconnect()
    assert min(c for c in gmac.meter.counters if c > last) > last
    assert int((gmac.folder / "c").read_text()) > max(gmac.meter.counters)


async def test_counter_behind_the_meters_is_told_and_nothing_is_read(gmac):
    gmac.meter.heard = 5000
    with pytest.raises(LinkError):
        await gmac.link.connect()
    (gmac.folder / "c").unlink()
    with pytest.raises(Untrusted, match="cannot be read"):
        await gmac.link.connect()
    (gmac.folder / "c").write_text("5001")
    await gmac.link.connect()
    assert not gmac.wrong(await gmac.read())


def _cut(aare: bytes, tag: int) -> bytes:
    """An AARE without one of its parts."""
    body, out = aare[2:], b""
    while body:
        part, body = body[: 2 + body[1]], body[2 + body[1] :]
        out += b"" if part[0] == tag else part
    return bytes([0x61, len(out)]) + out


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda a: _cut(a, 0x89), "authentication mechanism 0, not GMAC"),
        (
            lambda a: a.replace(bytes.fromhex("60857405080205"), bytes.fromhex("60857405080201")),
            "mechanism 1",
        ),
        (lambda a: a.replace(bytes.fromhex("60857405080103"), bytes.fromhex("60857405080101")), "context 1"),
        (lambda a: _cut(a, 0xA4), "a system title that is none"),
        (lambda a: a.replace(b"MTR", b"MTX"), "not encrypted with our keys"),
        (lambda a: _cut(a, 0xAA), "a challenge that is none"),
        (lambda a: _cut(a, 0xBE), "bytes are to come"),
        (lambda a: a[:-1] + bytes([a[-1] ^ 1]), "not encrypted with our keys"),
    ],
)
async def test_meter_that_offers_less_or_another_key_is_not_believed(gmac, spoil, why):
    gmac.meter.spoil_aare = spoil
    with pytest.raises(LinkError, match=why):
        await gmac.link.connect()
    assert not gmac.link.connected


async def test_meter_that_cannot_prove_its_keys_is_not_believed(gmac):
    gmac.meter.spoil_action = lambda a: a[:-1] + bytes([a[-1] ^ 1])
    with pytest.raises(Untrusted, match="cannot prove that it has our keys"):
        await gmac.link.connect()
    gmac.meter.spoil_action = lambda a: a[:3] + b"\x03\x00"
    with pytest.raises(Refused, match="refuses our proof"):
        await gmac.link.connect()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: a[:-1] + bytes([a[-1] ^ 1]),
        lambda a: a[:8] + bytes([a[8] ^ 0x80]) + a[9:],
        lambda a: bytes.fromhex("c401c100060000ffff"),
        lambda a: a[:-12],
        lambda a: b"\xcf" + a[1:],
    ],
)
async def test_ciphered_answer_that_was_touched_is_no_value(gmac, spoil):
    await gmac.link.connect()
    gmac.meter.spoil_ciphered = spoil
    with pytest.raises(LinkError):
        await gmac.read()
    assert not gmac.link.connected


async def test_answer_of_before_is_not_taken_again(gmac):
    kept: list[bytes] = []

    def keep(apdu: bytes) -> bytes:
        kept.append(apdu)
        return kept[0]

    await gmac.link.connect()
    gmac.meter.spoil_ciphered = keep
    await gmac.link._get([])
    with pytest.raises(LinkError, match="an old answer"):
        await twice_read(gmac)


async def test_nothing_is_written(rig):
    codec = point_codecs(rig.connection)["dev.p"]
    await rig.link.connect()
    assert await rig.link.write([(codec, 1.0)], float("inf")) == [READ_ONLY]
    assert not rig.meter.unknown


async def test_edge_reads_on_after_the_meter_was_away(tmp_path):
    """The whole way: identity, poll, loss, back-off, a new association."""
    meter = filled()
    await meter.start()
    rig = Rig(meter, tmp_path)
    clock = VirtualClock(T0)
    io = FieldIO(site_of(rig.connection), clock=clock, folder=tmp_path)
    try:
        first = {r.point: r for r in await io.read_all()}
        assert first["dev.p"].value == pytest.approx(-1.2345)
        assert first["dev.peak"].source_time == CAPTURED
        assert io.identities()["dev"] == {"serial": "4711"}
        await meter.stop()
        clock.advance(1.0)
        assert {r.quality for r in await io.read_all()} == {Quality.COMM_FAILED}
        await meter.start()
        async with asyncio.timeout(5.0):
            while not all(r.is_good for r in await io.read_all()):
                clock.advance(1.0)
                await wall_sleep(0.02)
        links = io.links()["dev"]
        assert links["clock_ahead_s"] == pytest.approx(7 - (clock.now() - T0).total_seconds(), abs=2)
    finally:
        await io.close()
        await meter.stop()
    assert meter.busy == 0


Spoil = Callable[[bytes], bytes]


def random_spoil(rng: random.Random) -> Spoil:
    """Bits, bytes, cuts, doublings and noise; the head, by which an answer is known, is hit as well."""

    def spoil(data: bytes) -> bytes:
        kind, out = rng.randrange(7), bytearray(data)
        at = rng.randrange(len(out))
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.choice((0, 1, 2, 9, 0x7F, 0x80, 0x81, 0x84, 0xFF))
        elif kind == 2:
            del out[at:]
        elif kind == 3:
            out[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 4:
            del out[at : at + rng.randrange(1, 9)]
        elif kind == 5:
            out += out[at:]
        else:
            out = bytearray(rng.randbytes(rng.randrange(1, 60)))
        return bytes(out)

    return spoil


async def spoilt_readings(rig: Rig, seed: int, count: int) -> tuple[int, int]:
    """Readings whose frames are spoilt at a random place: how many were refused, and how many taken."""
    rng, refused = random.Random(seed), 0
    spoil = random_spoil(rng)
    for _ in range(count):
        hook = rng.choice(("spoil_frame", "spoil_aare", "spoil", "spoil_block", "spoil_ciphered"))
        rig.meter.block = rng.choice((0, 0, 9, 40))
        setattr(rig.meter, hook, spoil)
        try:
            if not rig.link.connected:
                await rig.link.connect()
            await rig.link.read()
        except LinkError:
            refused += 1
        finally:
            setattr(rig.meter, hook, bytes)
    return refused, count - refused


@pytest.mark.scenario(26)
async def test_spoilt_frames_never_end_in_anything_but_a_refusal(rig):
    rig.link._timeout_s = 0.02
    refused, taken = await spoilt_readings(rig, 62056, 250)
    assert refused > 50
    assert taken > 0
    rig.link._timeout_s = 0.3
    await rig.link.connect()
    assert {p: v.value for p, v in (await rig.read()).items()} == pytest.approx(RIGHT)


async def test_spoilt_ciphered_frames_never_give_a_wrong_value(gmac):
    """In clear a bit that flips in a number gives another number; under GCM none does."""
    rng = random.Random(4059)
    spoil = random_spoil(rng)
    gmac.link._timeout_s = 0.03
    for _ in range(80):
        hook = rng.choice(("spoil_frame", "spoil_ciphered", "spoil_ciphered"))
        try:
            if not gmac.link.connected:
                await gmac.link.connect()
            setattr(gmac.meter, hook, spoil)
            assert not gmac.wrong(await gmac.read())
        except LinkError:
            pass
        finally:
            setattr(gmac.meter, hook, bytes)
