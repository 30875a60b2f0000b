"""Frames, segments and objects of DNP3, byte by byte, and how places are written."""

import itertools
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.dnp3.control import command
from connectors.dnp3.frame import Deframer, Frame, MalformedFrame, crc, encode, size_of
from connectors.dnp3.objects import (
    LAYOUTS,
    MalformedObjects,
    Told,
    attribute_of,
    ranges,
    told_by,
)
from connectors.dnp3.quality import judged
from connectors.dnp3.segments import Assembler, MalformedSegment, Segmenter
from ems.dnp3 import parse_attribute, parse_place, place_faults
from ems.errors import BadValue
from ems.telemetry import Quality

# Frames of opendnp3's own tests (cpp/tests/unit, LinkHex): reset of the link, ACK, an integrity poll.
KNOWN = {
    "05 64 05 C0 01 00 00 04 E9 21": Frame(0xC0, 1, 1024, b""),
    "05 64 05 00 00 04 01 00 19 A6": Frame(0x00, 1024, 1, b""),
    "05 64 14 F3 01 00 00 04 0A 3B C0 C3 01 3C 02 06 3C 03 06 3C 04 06 3C 01 06 9A 12": Frame(
        0xF3, 1, 1024, bytes.fromhex("C0 C3 01 3C 02 06 3C 03 06 3C 04 06 3C 01 06")
    ),
}


@pytest.mark.parametrize(("text", "frame"), KNOWN.items())
def test_known_frames_are_made_and_read(text, frame):
    whole = bytes.fromhex(text)
    assert encode(frame.control, frame.destination, frame.source, frame.data) == whole
    assert list(Deframer().feed(whole)) == [frame]


@given(data=st.binary(max_size=250), cuts=st.lists(st.integers(0, 292), max_size=4))
def test_frame_read_back_is_the_same_in_any_pieces(data, cuts):
    whole, one = encode(0x44, 1, 10, data), Deframer()
    assert len(whole) == size_of(len(data))
    places = [0, *sorted(min(c, len(whole)) for c in cuts), len(whole)]
    found = [f for a, b in itertools.pairwise(places) for f in one.feed(whole[a:b])]
    assert found == [Frame(0x44, 1, 10, data)]


def test_every_frame_with_a_spoilt_bit_or_a_burst_of_sixteen_is_refused_or_waits():
    whole = encode(0x44, 1, 10, bytes(range(40)))
    rng = random.Random(1815)
    spoilt = [(i, 1 << bit) for i in range(len(whole)) for bit in range(8)]
    spoilt += [(rng.randrange(len(whole) - 1), rng.randrange(1, 1 << 16)) for _ in range(2000)]
    for at, bits in spoilt:
        bad = bytearray(whole) + b"\0"
        bad[at] ^= bits & 0xFF
        bad[at + 1] ^= bits >> 8
        try:
            found = list(Deframer().feed(bytes(bad[:-1])))
        except MalformedFrame:
            continue
        assert found == [], (at, bits)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x06", "no DNP3 frame"),
        (b"\x05\x65", "no DNP3 frame"),
        (b"GET / HTTP/1.1\r\n\r\n", "no DNP3 frame"),
        (encode(0x44, 1, 10, b"ab")[:9] + b"\0", "header has a wrong CRC"),
        (encode(0x44, 1, 10, b"ab")[:-1] + b"\0", "data has a wrong CRC"),
        (b"\x05\x64\x04\x44\x01\x00\x0a\x00" + crc(b"\x05\x64\x04\x44\x01\x00\x0a\x00"), "the length 4"),
    ],
)
def test_bytes_that_are_no_frame_say_why(data, why):
    with pytest.raises(MalformedFrame, match=why):
        list(Deframer().feed(data))


@given(data=st.binary(min_size=1, max_size=2048))
def test_fragment_put_together_again_is_the_same(data):
    segments, whole = list(Segmenter().cut(data)), Assembler()
    found = [whole.add(s) for s in segments]
    assert found == [None] * (len(segments) - 1) + [data]


@pytest.mark.parametrize(
    ("segments", "why"),
    [
        ([b"\xc0"], "without data"),
        ([b"\x80x"], "no first one"),
        ([b"\x40x", b"\xc1y"], "a first one"),
        ([b"\x40x", b"\x82y"], "segment 2 where 1 is next"),
        ([b"\x40x", b"\x80y"], "segment 0 where 1 is next"),
        ([b"\x40" + bytes(249)] + [bytes([n & 63]) + bytes(249) for n in range(1, 40)], "8192 bytes"),
    ],
)
def test_segments_that_are_no_fragment_say_why(segments, why):
    whole = Assembler()
    with pytest.raises(MalformedSegment, match=why):
        [whole.add(segment) for segment in segments]


TIME = "00 10 A5 D4 E8 00"  # 1_000_000_000_000 ms, September 2001
MS = 1_000_000_000_000
OBJECTS = {  # worked out by hand from IEEE 1815, annex A
    "01 01 00 08 0B 0A": [Told(1, 8 + i, bool(v), None, None, False) for i, v in enumerate((0, 1, 0, 1))],
    "01 02 00 03 04 81 01": [Told(1, 3, True, 0x81, None, False), Told(1, 4, False, 1, None, False)],
    "02 01 17 01 05 81": [Told(1, 5, True, 0x81, None, True)],
    f"02 02 28 01 00 05 01 01 {TIME}": [Told(1, 0x105, False, 1, MS, True)],
    f"33 01 07 01 {TIME} 02 03 17 02 01 81 10 00 02 01 20 00": [
        Told(1, 1, True, 0x81, MS + 16, True), Told(1, 2, False, 1, MS + 32, True),
    ],
    f"33 02 07 01 {TIME} 02 03 17 01 01 81 10 00": [Told(1, 1, True, 0x81, None, True)],
    "02 03 17 01 01 81 10 00": [Told(1, 1, True, 0x81, None, True)],
    "03 01 00 00 04 E4 01": [Told(3, i, v, None, None, False) for i, v in enumerate((0, 1, 2, 3, 1))],
    "03 02 00 00 00 81": [Told(3, 0, 2, 0x81, None, False)],
    "0A 02 01 00 01 00 01 81": [Told(10, 256, True, 0x81, None, False)],
    f"0B 02 17 01 02 81 {TIME}": [Told(10, 2, True, 0x81, MS, True)],
    "14 01 00 00 00 01 FF FF FF FF": [Told(20, 0, 0xFFFFFFFF, 1, None, False)],
    "14 06 00 01 01 34 12": [Told(20, 1, 0x1234, None, None, False)],
    f"16 05 17 01 00 01 02 00 00 00 {TIME}": [Told(20, 0, 2, 1, MS, True)],
    "1E 01 00 00 00 01 FE FF FF FF": [Told(30, 0, -2, 1, None, False)],
    "1E 02 00 00 00 21 00 80": [Told(30, 0, -32768, 0x21, None, False)],
    "1E 03 00 07 07 01 00 00 00": [Told(30, 7, 1, None, None, False)],
    "1E 04 00 07 08 FF FF 01 00": [Told(30, 7, -1, None, None, False), Told(30, 8, 1, None, None, False)],
    "1E 05 00 00 00 01 00 00 06 42": [Told(30, 0, 33.5, 1, None, False)],
    "1E 06 00 00 00 01 00 00 00 00 00 C0 40 40": [Told(30, 0, 33.5, 1, None, False)],
    f"20 03 17 01 09 01 05 00 00 00 {TIME}": [Told(30, 9, 5, 1, MS, True)],
    "20 05 28 01 00 09 00 01 00 00 06 42": [Told(30, 9, 33.5, 1, None, True)],
    f"20 07 17 01 09 01 00 00 06 42 {TIME}": [Told(30, 9, 33.5, 1, MS, True)],
    f"20 08 17 01 09 01 00 00 00 00 00 C0 40 40 {TIME}": [Told(30, 9, 33.5, 1, MS, True)],
    "28 02 00 00 00 01 FB FF": [Told(40, 0, -5, 1, None, False)],
    "28 03 01 FC 01 FC 01 01 00 00 06 42": [Told(40, 508, 33.5, 1, None, False)],
    f"2A 08 17 01 09 01 00 00 00 00 00 C0 40 40 {TIME}": [Told(40, 9, 33.5, 1, MS, True)],
    # What stands between is stepped over: time and interval, a text of three letters, an indication, a time.
    f"32 04 00 00 00 {TIME} 01 00 00 00 05 6E 03 00 00 01 61 62 63 64 65 66 50 01 00 07 07 01 "
    f"32 01 07 01 {TIME} 1E 02 00 00 00 01 05 00": [Told(30, 0, 5, 1, None, False)],
    "": [],
}  # fmt: skip


@pytest.mark.parametrize(("text", "told"), OBJECTS.items())
def test_objects_are_read_as_the_standard_lays_them_out(text, told):
    assert list(told_by(bytes.fromhex(text))) == told


@pytest.mark.parametrize("text", OBJECTS)
def test_objects_cut_short_or_with_a_byte_more_are_refused(text):
    data = bytes.fromhex(text)
    whole = [i for i, _ in enumerate(data) if _readable(data[:i])]
    assert len(whole) <= 5  # where another header begins, and no objects before it are torn
    with pytest.raises(MalformedObjects):
        list(told_by(data + b"\x01"))


def _readable(data: bytes) -> bool:
    try:
        list(told_by(data))
    except MalformedObjects:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1E", "cut short"),
        ("1E 01 00 00", "cut short"),
        ("1E 01 06", "qualifier 0x06"),
        ("1E 01 5B 01 00", "qualifier 0x5b"),
        ("1E 01 02 00 00 00 00 00 00 00 00", "qualifier 0x02"),
        ("1E 01 00 05 04 01 00 00 00 00", "from 5 to 4"),
        ("1E 01 00 00 01 01 00 00 00 00", "2 objects that are cut short"),
        ("1E 01 07 01 01 00 00 00 00", "no index"),
        ("1E 01 17 01 00 01 00 00 00 00", "no index"),
        ("20 01 00 00 00 01 00 00 00 00", "no index"),
        ("02 01 00 00 00 81", "no index"),
        ("1E 07 00 00 00 01", "g30v7, whose length is not known"),
        ("55 01 00 00 00 01", "g85v1, whose length is not known"),
        ("6E 00 00 00 00", "g110v0, whose length is not known"),
        (f"33 01 07 02 {TIME} {TIME}", "2 common times"),
        ("33 01 07 01 00 00", "cut short"),
        ("33 03 07 01 00 00 00 00 00 00", "1 common times"),
        ("01 01 00 00 10 FF FF", "17 objects that are cut short"),
    ],
)
def test_objects_that_cannot_be_are_refused_with_their_place(text, why):
    with pytest.raises(MalformedObjects, match=why):
        list(told_by(bytes.fromhex(text)))


@given(data=st.binary(max_size=80))
def test_no_bytes_crash_the_reader_of_objects(data):
    if _readable(data):
        for one in told_by(data):
            assert (one.group, 0 <= one.place <= 0xFFFF) in {(g, True) for g in (1, 3, 10, 20, 30, 40)}


def test_layouts_have_the_widths_of_annex_a():
    widths = {(g, v): layout.size for (g, v), layout in LAYOUTS.items() if not layout.packed_bits}
    assert widths[32, 8] == 15
    assert [widths[30, v] for v in range(1, 7)] == [5, 3, 4, 2, 5, 9]
    assert [widths[32, v] for v in range(1, 9)] == [5, 3, 11, 9, 5, 9, 11, 15]
    assert [widths[42, v] for v in range(1, 9)] == [5, 3, 11, 9, 5, 9, 11, 15]
    assert [widths[40, v] for v in range(1, 5)] == [5, 3, 5, 9]
    assert [widths[2, v] for v in range(1, 4)] == [1, 7, 3]


def test_ranges_ask_for_neighbours_together_and_for_nothing_else():
    asked = [struct.unpack("<BBBHH", h) for h in ranges(30, 5, [7, 3, 4, 5, 5, 9, 508])]
    assert asked == [(30, 5, 1, 3, 5), (30, 5, 1, 7, 7), (30, 5, 1, 9, 9), (30, 5, 1, 508, 508)]


@pytest.mark.parametrize(
    ("flags", "group", "quality", "forced"),
    [
        (None, 30, Quality.GOOD, False),
        (0x01, 30, Quality.GOOD, False),
        (0x00, 30, Quality.DEVICE_BAD, False),
        (0x02, 30, Quality.DEVICE_BAD, False),
        (0x03, 30, Quality.DEVICE_BAD, False),
        (0x05, 30, Quality.STALE, False),
        (0x04, 30, Quality.DEVICE_BAD, False),
        (0x09, 30, Quality.GOOD, True),
        (0x11, 1, Quality.GOOD, True),
        (0x21, 30, Quality.OUT_OF_RANGE, False),
        (0x21, 40, Quality.OUT_OF_RANGE, False),
        (0x41, 30, Quality.DEVICE_BAD, False),
        (0x21, 1, Quality.DEVICE_BAD, False),
        (0xA1, 3, Quality.DEVICE_BAD, False),
        (0x81, 1, Quality.GOOD, False),
        (0xC1, 3, Quality.GOOD, False),
        (0x61, 20, Quality.GOOD, False),  # rollover and discontinuity: the count is what it is
        (0x25, 30, Quality.STALE, False),
    ],
)
def test_flags_are_quality(flags, group, quality, forced):
    found = judged(group, flags)
    assert (found.quality, found.is_forced, bool(found.reason)) == (
        quality, forced, quality is not Quality.GOOD,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("address", "raw", "text"),
    [
        ("g41v1/508", -33000, "29 01 28 01 00 FC 01 18 7F FF FF 00"),
        ("g41v2/5", -5, "29 02 17 01 05 FB FF 00"),
        ("g41v3/5", 33.5, "29 03 17 01 05 00 00 06 42 00"),
        ("g41v4/300", 33.5, "29 04 28 01 00 2C 01 00 00 00 00 00 C0 40 40 00"),
        ("g12v1/5", True, "0C 01 17 01 05 03 01 00 00 00 00 00 00 00 00 00"),
        ("g12v1/5", False, "0C 01 17 01 05 04 01 00 00 00 00 00 00 00 00 00"),
        ("g12v1/5 [close/trip 250 ms]", True, "0C 01 17 01 05 41 01 FA 00 00 00 FA 00 00 00 00"),
        ("g12v1/5 [close/trip 250 ms]", False, "0C 01 17 01 05 81 01 FA 00 00 00 FA 00 00 00 00"),
    ],
)
def test_command_is_what_the_standard_lays_out(address, raw, text):
    assert command(parse_place(address), raw) == bytes.fromhex(text)


@pytest.mark.parametrize(
    ("address", "read", "shown"),
    [
        ("g30/537", (30, 537), "g30/537"),
        ("g41v3/5", (40, 5), "g41v3/5"),
        ("g12v1/5", (10, 5), "g12v1/5"),
        ("g41v1/508 [g30/618]", (30, 618), "g41v1/508"),
        ("g12v1/18 [g1/70, close/trip 1000 ms]", (1, 70), "g12v1/18"),
    ],
)
def test_place_says_where_a_point_is_read(address, read, shown):
    place = parse_place(address)
    assert ((place.group, place.index), str(place)) == (read, shown)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("30/5", "not gGROUP/INDEX"),
        ("g30", "not gGROUP/INDEX"),
        ("g30/-1", "not gGROUP/INDEX"),
        ("g30/65536", "index 65536"),
        ("g32/5", "group 32; known: 1, 3, 10, 20, 30, 40, 12, 41"),
        ("g30v5/5", "no variation"),
        ("g30/5 [g40/1]", "no brackets"),
        ("g41/5", "g41v1, g41v2, g41v3, g41v4"),
        ("g41v5/5", "names its variation"),
        ("g12v2/5", "g12v1"),
        ("g41v3/5 [g32/1]", "where it is read back"),
        ("g41v3/5 [close/trip 100 ms]", "where it is read back"),
        ("g12v1/5 [close/trip 0 ms]", "1 to 60000 ms"),
        ("g12v1/5 [latch]", "close/trip 250 ms"),
        ("g12v1/5 [g1/99999]", "index 99999"),
        ("g12v1/5 [ ]", "in brackets"),
    ],
)
def test_place_that_is_none_says_why(address, why):
    with pytest.raises(BadValue, match=why):
        parse_place(address)
    assert why in next(place_faults(address, "f32", writable=False))[1]


@pytest.mark.parametrize(
    ("address", "data_type", "writable", "key"),
    [
        ("g30/5", "f32", False, None),
        ("g30/5", "bit", False, "data_type"),
        ("g1/5", "bit", False, None),
        ("g1/5", "u16", False, "data_type"),
        ("g3/5", "bits2", False, None),
        ("g20/5", "s32", False, "data_type"),
        ("g41v3/5", "f32", True, None),
        ("g41v3/5", "s32", True, "data_type"),
        ("g41v1/5 [g30/6]", "s32", True, None),
        ("g41v1/5 [g1/6]", "s32", True, "address"),
        ("g12v1/5 [g1/6]", "bit", True, None),
        ("g12v1/5 [g3/6]", "bit", True, "address"),
        ("g41v3/5", "f32", False, "address"),
        ("g30/5", "f32", True, "address"),
    ],
)
def test_row_fits_its_object(address, data_type, writable, key):
    faults = [k for k, _ in place_faults(address, data_type, writable=writable)]
    assert faults == ([] if key is None else [key])


@pytest.mark.parametrize("text", ["g0v0", "g0v254", "g1v250", "250", "g0"])
def test_attribute_that_is_none_is_refused(text):
    with pytest.raises(BadValue, match="g0vVARIATION"):
        parse_attribute(text)


def test_attribute_is_a_text_that_can_be_shown():
    head = bytes([0, parse_attribute("g0v252"), 0, 0, 0])
    assert attribute_of(head + b"\x01\x05Acme ", 252) == "Acme"
    assert attribute_of(head + b"\x02\x01\x05", 252) is None  # a number
    assert attribute_of(head + b"\x01\x02\xff\xfe", 252) is None
    assert attribute_of(head + b"\x01\x00", 252) is None
    for bad in (b"", b"\x01", b"\x01\x05Acme", b"\x01\x03Acme"):
        with pytest.raises(MalformedObjects, match="cut short"):
            attribute_of(head + bad, 252)
    with pytest.raises(MalformedObjects, match="g0v252 instead of g0v250"):
        attribute_of(head + b"\x01\x04Acme", 250)
