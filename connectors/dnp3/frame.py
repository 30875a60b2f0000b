"""Frames of the DNP3 data link: a header and blocks of 16 bytes, each with its CRC. Pure.

Source: IEEE 1815-2012, clause 9. Over TCP every byte belongs to a frame: what is none ends the connection.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

START = b"\x05\x64"
HEAD_BYTES, BLOCK_BYTES, CRC_BYTES = 10, 16, 2
USER_BYTES_MAX = 250
PRIMARY, FROM_MASTER = 0x40, 0x80
RESET_LINK, TEST_LINK, CONFIRMED_DATA, DATA, LINK_STATUS = 0, 2, 3, 4, 9  # functions of a primary
ACK, STATUS_OF_LINK = 0, 11  # of a secondary
_HEAD = struct.Struct("<BBHH")


class MalformedFrame(Exception):
    """Bytes that are no frame."""


class Frame(NamedTuple):
    """One frame: who sends it to whom, its control byte, and what it carries."""

    control: int
    destination: int
    source: int
    data: bytes

    @property
    def is_primary(self) -> bool:
        """It carries data or asks something, and is no answer of the link."""
        return bool(self.control & PRIMARY)

    @property
    def function(self) -> int:
        """Function code of the link."""
        return self.control & 0x0F


def _table() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA6BC if crc & 1 else crc >> 1
        rows.append(crc)
    return tuple(rows)


_CRC = _table()


def crc(data: bytes) -> bytes:
    """CRC of a header or block: x16+x13+x12+x11+x10+x8+x6+x5+x2+1, inverted, low byte first (9.2.4.3)."""
    value = 0
    for byte in data:
        value = value >> 8 ^ _CRC[(value ^ byte) & 0xFF]
    return (value ^ 0xFFFF).to_bytes(2, "little")


def encode(control: int, destination: int, source: int, data: bytes = b"") -> bytes:
    """A whole frame; `data` is at most USER_BYTES_MAX long."""
    head = START + _HEAD.pack(5 + len(data), control, destination, source)
    blocks = [data[i : i + BLOCK_BYTES] for i in range(0, len(data), BLOCK_BYTES)]
    return b"".join(part + crc(part) for part in (head, *blocks))


def size_of(user_bytes: int) -> int:
    """Bytes of a frame that carries so many."""
    blocks = -(-user_bytes // BLOCK_BYTES)
    return HEAD_BYTES + user_bytes + CRC_BYTES * blocks


class Deframer:
    """Frames out of a stream of bytes."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Whole frames with what has come now.

        Raises
        ------
        MalformedFrame : after the frames that are right.
        """
        self._held += data
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        held = self._held
        if held[:2] != START[: len(held[:2])]:
            raise MalformedFrame(f"no DNP3 frame, but {held[:8].hex()}")
        if len(held) < HEAD_BYTES:
            return None
        if crc(held[:8]) != held[8:HEAD_BYTES]:
            raise MalformedFrame("a frame whose header has a wrong CRC")
        length, control, destination, source = _HEAD.unpack_from(held, 2)
        if length < 5:
            raise MalformedFrame(f"a frame with the length {length}")
        size = size_of(length - 5)
        if len(held) < size:
            return None
        parts = []
        for at in range(HEAD_BYTES, size, BLOCK_BYTES + CRC_BYTES):
            end = min(at + BLOCK_BYTES + CRC_BYTES, size)
            part = held[at : end - CRC_BYTES]
            if crc(part) != held[end - CRC_BYTES : end]:
                raise MalformedFrame("a frame whose data has a wrong CRC")
            parts.append(part)
        self._held = held[size:]
        return Frame(control, destination, source, b"".join(parts))
