"""Frames, times, values and the order of frames of IEC 60870-5-104."""

import math
import random
import struct
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from connectors.iec104.asdu import Cause, Type, asdu_of, fitting, request_of, single, together
from connectors.iec104.frames import (
    BadFrame,
    Function,
    Numbered,
    Supervisory,
    Unnumbered,
    first_frame,
    packed,
)
from connectors.iec104.link import Link, State
from connectors.iec104.times import time_bytes, time_of
from connectors.iec104.values import IV, NT, OV, element, told
from ems.iec104 import Iec104Times

START, STARTED = Unnumbered(Function.STARTDT_ACT), packed(Unnumbered(Function.STARTDT_CON))


# --- frames -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "raw"),
    [
        (Unnumbered(Function.STARTDT_ACT), "680407000000"),
        (Unnumbered(Function.TESTFR_CON), "680483000000"),
        (Supervisory(5), "680401000a00"),
        (Supervisory(32767), "68040100feff"),
        (Numbered(1, 128, b"\x64\x01"), "680602000001" + "6401"),
        (Numbered(32767, 0, b"\x00"), "6805feff0000" + "00"),
    ],
)
def test_frame_is_as_the_standard_draws_it(frame, raw):
    assert packed(frame) == bytes.fromhex(raw)
    assert first_frame(bytes.fromhex(raw) + b"\x68") == (frame, len(raw) // 2)
    for size in range(len(raw) // 2):
        assert first_frame(bytes.fromhex(raw)[:size]) is None


@pytest.mark.parametrize(
    "raw",
    [
        "00", "16", "6803", "68fe", "68ff",
        "680400000000",  # data without any
        "680407010000", "680407000100", "680407000002",  # a U frame with something in it
        "68040f000000", "680403000000", "6804ff000000",  # two functions, none, all
        "680405000000", "680401010000", "680401000100",  # an S frame with something in it
        "6805010000006a", "68050700000000",  # bytes behind one that has none
        "680602000101" + "6401",
    ],
)  # fmt: skip
def test_bytes_that_are_no_frame_are_refused(raw):
    with pytest.raises(BadFrame):
        first_frame(bytes.fromhex(raw))


# --- ASDUs ------------------------------------------------------------------------------------------------


def test_request_is_taken_apart_and_mirrored():
    raw = bytes.fromhex("3201860307001f00000000f04200")
    asdu = request_of(raw)
    assert (asdu.type, asdu.cause, asdu.test, asdu.negative) == (50, 6, True, False)
    assert (asdu.originator, asdu.station, asdu.address) == (3, 7, 31)
    assert told("float", asdu.element) == 120.0
    assert asdu.mirrored(7, negative=True).hex() == "3201c703" + raw[4:].hex()
    assert asdu.mirrored(10, station=9)[4:6] == b"\x09\x00"
    assert "C_SE_NC_1 at 31" in asdu.words


@pytest.mark.parametrize(
    "raw",
    [
        b"\x64\x01\x06\x00\x01",  # no head
        single(Type.C_IC_NA, 6, 1, 0, b""),  # no qualifier
        single(Type.C_IC_NA, 6, 1, 0, b"\x14\x00"),
        single(Type.C_RD_NA, 5, 1, 11, b"\x00"),
        b"\x64\x02" + single(Type.C_IC_NA, 6, 1, 0, b"\x14")[2:],
        b"\x64\x81" + single(Type.C_IC_NA, 6, 1, 0, b"\x14")[2:],
        b"\x64\x00" + single(Type.C_IC_NA, 6, 1, 0, b"\x14")[2:],
        single(Type.C_SE_NC, 6, 1, 31, struct.pack("<f", 1.0)),
    ],
)
def test_request_of_another_size_is_refused(raw):
    with pytest.raises(BadFrame):
        request_of(raw)


def test_type_that_is_not_known_is_still_taken_apart():
    assert request_of(b"\x2d\x01\x06\x00\x01\x00\x0b\x00\x00\x81").words == "type 45 at 11, cause 6"


def test_objects_go_together_in_their_order_and_by_their_type():
    objects = [(Type.M_ME_NC, i, bytes(5)) for i in range(70)] + [(Type.M_SP_NA, 99, b"\x01")]
    parts = list(together(objects, Cause.INTERROGATED, 7, 3))
    assert [(p[0], p[1]) for p in parts] == [(13, 30), (13, 30), (13, 10), (1, 1)]
    assert fitting(5) == 30
    assert max(len(p) for p in parts) <= 249
    assert parts[-1] == bytes.fromhex("01011403070063000001")
    assert list(together([], 20, 7)) == []
    assert asdu_of(parts[1]).address == 30


# --- times and values -------------------------------------------------------------------------------------


def test_time_is_as_the_standard_draws_it():
    at = datetime(2026, 11, 30, 18, 5, 59, 999_000, tzinfo=UTC)  # a Monday
    assert time_bytes(at).hex() == "5fea05123e0b1a"
    assert time_of(time_bytes(at)) == at
    assert time_of(time_bytes(at, valid=False)) is None


@pytest.mark.parametrize("hour", range(24))
def test_local_time_goes_there_and_back_on_the_days_it_changes(hour):
    zone = ZoneInfo("Europe/Berlin")
    for day in (datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)):
        at = day.replace(hour=hour, minute=30)
        assert time_of(time_bytes(at, zone), zone) == at


@pytest.mark.parametrize("raw", ["60ea000001011a", "0000003c01011a", "00000000000000", "00003c0001011a"])
def test_time_that_is_none_is_no_time(raw):
    assert time_of(bytes.fromhex(raw)) is None


@pytest.mark.parametrize(
    ("kind", "raw", "quality", "wanted"),
    [
        ("float", 1.5, 0, struct.pack("<f", 1.5) + b"\0"),
        ("float", 1e39, 0, struct.pack("<f", 3.4028234663852886e38) + bytes((OV | IV,))),
        ("float", None, NT, bytes(4) + bytes((IV | NT,))),
        ("float", math.nan, 0, bytes(4) + bytes((IV,))),
        ("scaled", -32768.4, 0, b"\x00\x80\x00"),
        ("scaled", 32767.6, 0, b"\xff\x7f" + bytes((OV | IV,))),
        ("normalized", 0.5, NT | IV, b"\x00\x40" + bytes((NT | IV,))),
        ("normalized", 1.0, 0, b"\xff\x7f\x00"),
        ("normalized", -1.0, 0, b"\x00\x80\x00"),
        ("normalized", 1.001, 0, b"\xff\x7f" + bytes((OV | IV,))),
        ("single_point", 1.0, OV | IV, bytes((1 | IV,))),
        ("single_point", None, 0, bytes((IV,))),
        ("double_point", 1.0, 0, b"\x02"),
        ("double_point", 0.0, NT | IV, bytes((1 | NT | IV,))),
        ("double_point", None, 0, bytes((3 | IV,))),
        ("counter", -2.0, 0, b"\xfe\xff\xff\xff\x00"),
        ("counter", 2.0**31, NT, b"\xff\xff\xff\x7f" + bytes((IV,))),
        ("counter", 7.0, NT | IV, b"\x07\0\0\0" + bytes((IV,))),
    ],
)
def test_value_that_does_not_fit_is_never_another_good_one(kind, raw, quality, wanted):
    assert element(kind, raw, quality) == wanted


def test_setpoint_is_told_back():
    assert told("scaled", b"\xff\xff\x80") == -1.0
    assert told("normalized", b"\x00\x40\x00") == 0.5


# --- the order of frames ----------------------------------------------------------------------------------


def link(**times: float) -> Link:
    made = Link(Iec104Times(**times), 0.0)  # type: ignore[arg-type]
    made.take(START, 0.0)
    assert made.drain() == STARTED
    return made


def test_no_more_than_k_frames_fly_and_confirmations_make_room():
    one = link(k=3)
    for _ in range(3):
        one.send(b"x", 0.0)
    assert one.room == 0
    assert one.take(Supervisory(2), 1.0) is None
    assert (one.room, one.delivered) == (2, 2)
    for wrong in (1, 4, 32767):
        with pytest.raises(BadFrame, match="confirms"):
            one.take(Supervisory(wrong), 1.0)


def test_numbers_go_round():
    one = link()
    for i in range(40_000):
        assert one.take(Numbered(i % 32768, i % 32768, b"x"), 0.0) == b"x"
        one.send(b"y", 0.0)
    assert one.delivered == 39_999


@pytest.mark.parametrize("number", [0, 2, 5])
def test_frame_out_of_order_ends_it(number):
    one = link()
    one.take(Numbered(0, 0, b"x"), 0.0)
    with pytest.raises(BadFrame, match="where 1 had to come"):
        one.take(Numbered(number, 0, b"x"), 0.0)


def test_data_before_the_start_or_after_the_stop_end_it():
    one = Link(Iec104Times(), 0.0)
    with pytest.raises(BadFrame, match="not started"):
        one.take(Numbered(0, 0, b"x"), 0.0)
    one = link()
    one.send(b"x", 0.0)
    one.take(Unnumbered(Function.STOPDT_ACT), 0.0)
    with pytest.raises(BadFrame, match="not started"):
        one.take(Numbered(0, 0, b"x"), 0.0)


def test_what_came_is_confirmed_after_w_frames_or_t2():
    one = link(w=3, t2_s=4.0)
    for i in range(3):
        assert one.drain() == b""
        one.take(Numbered(i, 0, b"x"), 10.0)
    assert one.drain() == packed(Supervisory(3))
    one.take(Numbered(3, 0, b"x"), 11.0)
    assert one.tick(14.9) == ""
    assert one.drain() == b""
    assert one.tick(15.0) == ""
    assert one.drain() == packed(Supervisory(4))
    assert one.tick(19.0) == ""
    assert one.drain() == b""


def test_frame_that_nobody_confirms_ends_it_after_t1():
    one = link(t1_s=5.0)
    one.send(b"x", 1.0)
    one.send(b"x", 4.0)
    assert one.tick(6.0) == ""
    one.take(Supervisory(1), 6.0)
    assert one.tick(9.0) == ""
    assert "t1" in one.tick(9.1)


def test_quiet_connection_is_tested_and_ends_without_an_answer():
    one = link(t1_s=5.0, t3_s=20.0)
    assert one.tick(19.9) == ""
    assert one.drain() == b""
    one.tick(20.0)
    one.tick(21.0)
    assert one.drain() == packed(Unnumbered(Function.TESTFR_ACT))
    one.take(Unnumbered(Function.TESTFR_CON), 22.0)
    assert one.tick(41.9) == ""
    assert one.drain() == b""
    one.tick(42.0)
    assert one.drain() == packed(Unnumbered(Function.TESTFR_ACT))
    assert one.tick(47.0) == ""
    assert "test" in one.tick(47.1)


def test_stop_is_confirmed_once_everything_has_arrived():
    one = link()
    one.take(Numbered(0, 0, b"x"), 0.0)
    one.send(b"y", 0.0)
    one.take(Numbered(1, 0, b"x"), 0.0)
    one.drain()
    one.take(Unnumbered(Function.STOPDT_ACT), 0.0)
    assert (one.state, one.room) == (State.STOPPING, 0)
    assert one.drain() == packed(Supervisory(2))
    one.take(Supervisory(1), 0.0)
    assert one.state is State.STOPPED
    assert one.drain() == packed(Unnumbered(Function.STOPDT_CON))


@pytest.mark.parametrize("function", [Function.STARTDT_CON, Function.STOPDT_CON])
def test_answer_that_was_not_asked_for_ends_it(function):
    with pytest.raises(BadFrame):
        link().take(Unnumbered(function), 0.0)


def test_frames_survive_being_cut_anywhere():
    rng = random.Random(104)
    frames = [
        Numbered(rng.randrange(32768), rng.randrange(32768), rng.randbytes(rng.randint(1, 249)))
        for _ in range(50)
    ]
    stream, found, buffer = b"".join(packed(f) for f in frames), [], bytearray()
    while stream or buffer:
        buffer += stream[: (cut := rng.randint(1, 300))]
        stream = stream[cut:]
        while (one := first_frame(buffer)) is not None:
            found.append(one[0])
            del buffer[: one[1]]
    assert found == frames
