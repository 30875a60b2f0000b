"""A Modbus TCP reply is taken only when every byte of it answers the request."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.modbus.frames import MalformedReply, exception_code, is_complete

READ = struct.pack(">HHHBBHH", 7, 0, 6, 1, 3, 100, 4)
READ_REPLY = struct.pack(">HHHBBB4H", 7, 0, 11, 1, 3, 8, 1, 2, 3, 4)
WRITE_ONE = struct.pack(">HHHBBHH", 8, 0, 6, 1, 6, 10, 1234)
WRITE_MANY = struct.pack(">HHHBBHHB2H", 9, 0, 11, 1, 16, 10, 2, 4, 5, 6)
WRITE_MANY_REPLY = struct.pack(">HHHBBHH", 9, 0, 6, 1, 16, 10, 2)
READ_BITS = struct.pack(">HHHBBHH", 10, 0, 6, 1, 2, 100, 11)
READ_BITS_REPLY = struct.pack(">HHHBBB2B", 10, 0, 5, 1, 2, 2, 0b10100101, 0b101)
WRITE_COIL = struct.pack(">HHHBBHH", 11, 0, 6, 1, 5, 10, 0xFF00)
READS = (READ, READ_BITS)
GOOD = [
    (READ, READ_REPLY),
    (WRITE_ONE, WRITE_ONE),
    (WRITE_MANY, WRITE_MANY_REPLY),
    (READ_BITS, READ_BITS_REPLY),
    (WRITE_COIL, WRITE_COIL),
]


@pytest.mark.parametrize(("sent", "reply"), GOOD)
def test_is_complete_right_answer_taken_only_when_whole(sent, reply):
    assert [is_complete(sent, reply[:n]) for n in range(len(reply))] == [False] * len(reply)
    assert is_complete(sent, reply)
    assert exception_code(reply) is None


@pytest.mark.parametrize("sent", [s for s, _ in GOOD])
def test_exception_code_of_an_exception_reply(sent):
    reply = sent[:4] + struct.pack(">HBBB", 3, 1, sent[7] | 0x80, 2)
    assert is_complete(sent, reply)
    assert exception_code(reply) == 2


def accepted(sent: bytes, received: bytes) -> bool:
    try:
        return is_complete(sent, received)
    except MalformedReply:
        return False


@pytest.mark.parametrize(("sent", "reply"), GOOD)
def test_is_complete_any_single_byte_changed_never_taken_except_the_data(sent, reply):
    data = range(9, len(reply)) if sent in READS else range(0)
    for i in range(len(reply)):
        for delta in (1, 0x55, 0x80, 0xFF):
            spoilt = reply[:i] + bytes([reply[i] ^ delta]) + reply[i + 1 :]
            assert accepted(sent, spoilt) == (i in data), (i, delta)


@pytest.mark.parametrize(("sent", "reply"), GOOD)
def test_is_complete_trailing_bytes_refused(sent, reply):
    with pytest.raises(MalformedReply):
        is_complete(sent, reply + b"\0")


@given(st.binary(max_size=300))
def test_is_complete_random_bytes_never_taken(received):
    for sent, reply in GOOD:
        if not (sent in READS and received[:9] == reply[:9]):
            assert not accepted(sent, received)


@given(st.binary(max_size=40), st.integers(0, 13))
def test_is_complete_right_start_random_rest_only_data_may_differ(rest, kept):
    received = READ_REPLY[:kept] + rest
    if accepted(READ, received):
        assert received[:9] == READ_REPLY[:9] or (len(received) == 9 and received[7] == 0x83)
        assert len(received) in (9, len(READ_REPLY))
