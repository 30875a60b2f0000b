"""Tags and messages of BACnet, byte by byte; examples of ANSI/ASHRAE 135, clause 20.2 and annex F."""

import math
import struct

import pytest

from connectors.bacnet.apdu import (
    ABORT,
    ERROR,
    REJECT,
    Denied,
    MalformedMessage,
    Route,
    denial,
    message_of,
    read_many,
    read_one,
    request,
    told_many,
    told_one,
    write_one,
)
from connectors.bacnet.tags import (
    APPLICATION,
    BITS,
    BOOLEAN,
    DOUBLE,
    ENUMERATED,
    NULL,
    REAL,
    SIGNED,
    TEXT,
    UNSIGNED,
    MalformedTags,
    Reader,
    Tag,
    bits_of,
    number_of,
    text_of,
    value_bytes,
)

TEMPERATURE = ((0, 5), 85, None)  # present-value of analog-input 5


def tag(text: str) -> Tag:
    reader = Reader(bytes.fromhex(text))
    one = reader.next()
    assert reader.is_over
    return one


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", False), ("11", True), ("21 48", 72), ("22 01 00", 256), ("31 48", 72), ("31 B8", -72),
        ("32 FF 7F", -129), ("44 42 90 00 00", 72.0), ("55 08 40 52 00 00 00 00 00 00", 72.0), ("91 00", 0),
        ("93 01 00 00", 65536),
    ],
)  # fmt: skip
def test_numbers_are_read_and_written_as_the_standard_has_them(text, value):
    one = tag(text)
    assert number_of(one) == value
    assert type(number_of(one)) is type(value)
    assert value_bytes(one.number, value) == bytes.fromhex(text)


def test_values_that_are_no_numbers_are_none_and_texts_and_bits_are_read():
    assert number_of(tag("00")) is None
    assert value_bytes(NULL, None) == b"\x00"
    assert number_of(tag("C4 00 C0 00 0F")) is None  # an object
    assert bits_of(tag("82 03 A8")) == (True, False, True, False, True)
    assert bits_of(tag("82 04 00")) == (False,) * 4
    assert text_of(tag("75 19 00" + b"This is a BACnet string!".hex())) == "This is a BACnet string!"
    assert text_of(tag("74 04 30 A8 30")) is None  # half a letter
    assert text_of(tag("72 01 41")) is None  # letters of a code page
    assert text_of(tag("74 05 C9 74 E9")) == "Été"
    assert math.isnan(number_of(tag("44 7F C0 00 00")) or 0.0)


@pytest.mark.parametrize(
    "text",
    [
        "", "21", "22 01", "44 42 90 00", "12", "14", "06", "0E 17", "F1", "25", "25 FE 00", "25 FF 00 00 00",
        "16", "17", "25 FE FF FF",
    ],
)  # fmt: skip
def test_tag_that_is_cut_short_or_none_is_refused(text):
    with pytest.raises(MalformedTags):
        Reader(bytes.fromhex("0E" + text)).inside(0)


@pytest.mark.parametrize(
    ("number", "data"),
    [
        (REAL, b"\0" * 5), (REAL, b""), (DOUBLE, b"\0" * 4), (UNSIGNED, b""), (UNSIGNED, b"\0" * 9),
        (SIGNED, b""), (SIGNED, b"\0" * 9), (ENUMERATED, b""),
    ],
)  # fmt: skip
def test_number_of_another_length_is_refused(number, data):
    with pytest.raises(MalformedTags):
        number_of(Tag(APPLICATION, number, data))


@pytest.mark.parametrize("data", [b"", b"\x04", b"\x08\x00", b"\xff\xff"])
def test_bits_without_their_count_are_refused(data):
    with pytest.raises(MalformedTags):
        bits_of(Tag(APPLICATION, BITS, data))


def test_no_bits_are_no_flags_and_not_four_that_are_down():
    assert bits_of(Tag(APPLICATION, BITS, b"\x00")) == ()
    assert bits_of(Tag(APPLICATION, TEXT, b"\x00")) is None
    assert number_of(Tag(APPLICATION, BOOLEAN, b"\x01")) is True


def test_requests_are_those_of_the_standard():
    """Annex F.3.5 (ReadProperty), F.3.7 (ReadPropertyMultiple), F.3.9 (WriteProperty)."""
    assert read_one(TEMPERATURE) == bytes.fromhex("0C 00 00 00 05 19 55")
    many = [((0, 16), 85, None), ((0, 16), 103, None)]
    assert read_many(many) == bytes.fromhex("0C 00 00 00 10 1E 09 55 09 67 1F")
    value = value_bytes(REAL, 180.0)
    wanted = bytes.fromhex("0C 00 80 00 01 19 55 3E 44 43 34 00 00 3F 49 08")
    assert write_one(((2, 1), 85, None), value, 8) == wanted
    whole = request(1, 12, read_one(TEMPERATURE), None)
    assert whole == bytes.fromhex("81 0A 00 11 01 04 00 05 01 0C 0C 00 00 00 05 19 55")
    routed = request(1, 12, read_one(TEMPERATURE), Route(2001, b"\x0c"))
    assert routed[:11] == bytes.fromhex("81 0A 00 16 01 24 07 D1 01 0C FF")


def test_answers_are_those_of_the_standard():
    (value,) = told_one(TEMPERATURE, bytes.fromhex("0C 00 00 00 05 19 55 3E 44 42 90 99 9A 3F"))
    assert number_of(value) == pytest.approx(72.3)
    many = [((0, 33), 85, None), ((0, 50), 85, None), ((0, 35), 85, None)]
    data = bytes.fromhex(
        "0C 00 00 00 21 1E 29 55 4E 44 42 29 99 9A 4F 1F"
        "0C 00 00 00 32 1E 29 55 5E 91 01 91 1F 5F 1F"
        "0C 00 00 00 23 1E 29 55 4E 44 43 D9 D9 9A 4F 1F"
    )
    told = told_many(many, data)
    first, second, third = (told[one] for one in many)
    assert not isinstance(first, Denied)
    assert number_of(first[0]) == pytest.approx(42.4)
    assert str(second) == "unknown object (object, code 31)"
    assert not isinstance(third, Denied)


@pytest.mark.parametrize(
    "text",
    [
        "0C 00 00 00 06 19 55 3E 44 42 90 99 9A 3F",  # another object
        "0C 00 00 00 05 19 6F 3E 44 42 90 99 9A 3F",  # another property
        "0C 00 00 00 05 19 55 29 01 3E 44 42 90 99 9A 3F",  # an element
        "0C 00 00 00 05 19 55 3E 44 42 90 99 9A 3F 00",  # bytes behind it
        "0C 00 00 00 05 19 55 3E 44 42 90 99 9A",  # cut short
        "0C 00 00 00 05 19 55 4E 44 42 90 99 9A 4F",  # another list
        "0C 00 00 00 05 19 55 3E 1E 3F 44 42 90 99 9A",  # lists that cross
        "0B 00 00 05 19 55 3E 44 42 90 99 9A 3F",
    ],
)
def test_answer_to_something_else_is_refused(text):
    with pytest.raises(MalformedTags):
        told_one(TEMPERATURE, bytes.fromhex(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0C 00 00 00 05 1E 29 55 4E 44 42 29 99 9A 4F 1F",  # half of it
        "0C 00 00 00 05 1E 29 55 4E 10 4F 29 55 4E 10 4F 1F",  # twice
        "0C 00 00 00 05 1E 29 55 4E 10 4F 29 67 4E 91 00 4F 29 6F 4E 10 4F 1F",  # more than was asked
        "0C 00 00 00 05 1E 29 55 4E 10 4F 29 67 5E 91 02 5F 1F",  # an error without code
        "0C 00 00 00 05 1E 29 55 4E 10 4F 29 67 4E 91 00 4F",  # without end
    ],
)
def test_answer_about_other_than_all_that_was_asked_is_refused(text):
    with pytest.raises(MalformedTags):
        told_many([TEMPERATURE, ((0, 5), 103, None)], bytes.fromhex(text))


def datagram(apdu: str, npdu: str = "01 00") -> bytes:
    body = bytes.fromhex(npdu + apdu)
    return b"\x81\x0a" + struct.pack(">H", len(body) + 4) + body


def test_messages_are_told_apart():
    told = message_of(datagram("20 07 0F"), None)
    assert told is not None
    assert (told.kind, told.invoke, told.service) == (2, 7, 15)
    refused = message_of(datagram("50 07 0F 91 02 91 28"), None)
    assert refused is not None
    why = denial(refused)
    assert (why.kind, why.code, str(why)) == (ERROR, 40, "write access denied (property, code 40)")
    rejected = message_of(datagram("60 07 09"), None)
    assert rejected is not None
    why = denial(rejected)
    assert (why.kind, str(why)) == (REJECT, "rejected: unrecognized service (reason 9)")
    aborted = message_of(datagram("71 07 04"), None)
    assert aborted is not None
    assert (denial(aborted).kind, denial(aborted).code) == (ABORT, 4)
    segment = message_of(datagram("3C 07 00 04 0E 0C"), None)
    assert segment is not None
    assert segment.segmented
    assert message_of(datagram("10 00 C4 02 00 04 D2"), None) is None  # I-Am
    assert message_of(datagram("00 05 01 0C"), None) is None  # a request


def test_answers_of_a_router_and_of_who_is_behind_it():
    route = Route(2001, b"\x0c")
    assert message_of(datagram("20 07 0F", "01 08 07 D1 01 0C"), route) is not None
    assert message_of(datagram("20 07 0F", "01 08 07 D1 01 0D"), route) is None
    assert message_of(datagram("20 07 0F"), route) is None
    assert message_of(datagram("20 07 0F", "01 08 07 D1 01 0C"), None) is None
    assert message_of(datagram("20 07 0F", "01 28 00 05 00 07 D1 01 0C FF"), route) is not None
    with pytest.raises(Denied, match="network 2001: not reachable"):
        message_of(datagram("03 01 07 D1", "01 80"), route)
    assert message_of(datagram("03 01 07 D2", "01 80"), route) is None
    assert message_of(datagram("03 01 07 D1", "01 80"), None) is None


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x81", b"GET / HTTP/1.1", b"\x81\x0a\x00\x05\x01", b"\x81\x0a\x00\x09\x01\x00\x20\x07",
        datagram("20 07"), datagram("20 07 0F 00"), datagram("60 07"), datagram("80 07 00"),
        datagram("20 07 0F", "02 00"), datagram("", "01 20 00 05"), datagram("", "01 08"),
    ],
)  # fmt: skip
def test_datagram_that_is_no_message_is_malformed(data):
    with pytest.raises(MalformedMessage):
        message_of(data, None)


@pytest.mark.parametrize("data", ["91 02", "91 02 91", "21 02 91 28", "91 02 91 28 00", "91 02 95 02 00"])
def test_error_that_is_none_is_refused(data):
    told = message_of(datagram("50 07 0F" + data), None)
    assert told is not None
    with pytest.raises(MalformedTags):
        denial(told)
