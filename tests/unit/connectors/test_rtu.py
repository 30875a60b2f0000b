"""Frames of a serial line: the checksum, where they end, and that nothing else passes."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.modbus.frames import MalformedReply
from connectors.modbus.rtu import answer, crc, gap_s, tcp_layout

READ = bytes.fromhex("010300640003")  # unit 1: three registers from 100
RIGHT = bytes.fromhex("010306000b00160021")


def test_crc_known_answer():
    """MODBUS over Serial Line V1.02, appendix B: the bytes 02 07 are followed by 41 12."""
    assert crc(bytes.fromhex("0207")) == bytes.fromhex("4112")


@pytest.mark.parametrize(("baud", "gap"), [(9600, 0.00401), (19200, 0.002005), (38400, 0.00175)])
def test_gap_is_three_and_a_half_characters_and_fixed_above_19200_baud(baud, gap):
    assert gap_s(baud) == pytest.approx(gap, abs=1e-5)


@pytest.mark.parametrize("cut", range(11))
def test_answer_arriving_in_two_pieces_is_whole_only_at_its_end(cut):
    frame = RIGHT + crc(RIGHT)
    sent = tcp_layout(READ)
    assert answer(sent, frame[:cut]) is None
    assert answer(sent, frame) == tcp_layout(RIGHT)


@pytest.mark.parametrize("function", [0x83])
def test_answer_exception_whole_after_five_bytes(function):
    body = bytes([1, function, 6])
    assert answer(tcp_layout(READ), body + crc(body)) == tcp_layout(body)


@pytest.mark.parametrize(
    "body",
    [
        "040306000b00160021",
        "010406000b00160021",
        "0103040b001600",
        "010308000b0016002100ff",
        "01030a000b00160021",
    ],
    ids=["unit", "function", "too few", "too many", "byte count"],
)
def test_answer_right_checksum_wrong_shape_refused_or_never_whole(body):
    raw = bytes.fromhex(body)
    with contextlib.suppress(MalformedReply):
        assert answer(tcp_layout(READ), raw + crc(raw)) is None  # shorter than due: the deadline ends it


@given(st.integers(0, 8 * 11 - 1))
def test_answer_one_flipped_bit_never_taken(bit):
    frame = bytearray(RIGHT + crc(RIGHT))
    frame[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(MalformedReply):
        assert answer(tcp_layout(READ), bytes(frame)) is None


@given(st.binary(max_size=300))
def test_answer_random_bytes_never_taken_unless_right(noise):
    try:
        got = answer(tcp_layout(READ), noise)
    except MalformedReply:
        return
    assert got is None or (crc(noise[:-2]) == noise[-2:] and got == tcp_layout(noise[:-2]))
