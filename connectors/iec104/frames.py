"""Frames of IEC 60870-5-104 (APDUs): a start byte, a length, four control bytes, and an ASDU or none. Pure.

Source: IEC 60870-5-104:2006, 5.1 to 5.5. Over TCP every byte belongs to a frame: what is none ends the
connection, because nobody can say where the next one begins.
"""

from dataclasses import dataclass
from enum import IntEnum

START = 0x68
HEAD = 2  # start byte and length
CONTROL = 4
LENGTH_MAX = 253
ASDU_MAX = LENGTH_MAX - CONTROL
MODULUS = 1 << 15  # of sequence numbers


class BadFrame(Exception):
    """Bytes that are no frame, or a frame that the other side must not send now."""


class Function(IntEnum):
    """Functions of unnumbered frames: the one bit that is set."""

    STARTDT_ACT = 0x04
    STARTDT_CON = 0x08
    STOPDT_ACT = 0x10
    STOPDT_CON = 0x20
    TESTFR_ACT = 0x40
    TESTFR_CON = 0x80


@dataclass(frozen=True, slots=True)
class Numbered:
    """An I frame: data with its own number, and how many of ours had come by then."""

    sent: int  # N(S)
    received: int  # N(R)
    asdu: bytes


@dataclass(frozen=True, slots=True)
class Supervisory:
    """An S frame: how many of ours had come by then."""

    received: int


@dataclass(frozen=True, slots=True)
class Unnumbered:
    """A U frame."""

    function: Function


Frame = Numbered | Supervisory | Unnumbered


def first_frame(received: bytes | bytearray) -> tuple[Frame, int] | None:
    """(the first frame, its length in bytes); None while it is still arriving.

    Raises
    ------
    BadFrame : as soon as the bytes cannot become a frame.
    """
    if received and received[0] != START:
        raise BadFrame(f"begins with {received[0]:#04x}, not {START:#04x}")
    if len(received) < HEAD:
        return None
    length = received[1]
    if not CONTROL <= length <= LENGTH_MAX:
        raise BadFrame(f"{length} bytes announced; allowed: {CONTROL} to {LENGTH_MAX}")
    size = HEAD + length
    if len(received) < size:
        return None
    control, rest = bytes(received[HEAD : HEAD + CONTROL]), bytes(received[HEAD + CONTROL : size])
    return _frame(control, rest), size


def _frame(control: bytes, rest: bytes) -> Frame:
    if control[2] & 1:
        raise BadFrame(f"control field {control.hex()}")
    count = control[2] >> 1 | control[3] << 7
    if not control[0] & 1:
        if not rest:
            raise BadFrame("a numbered frame without data")
        return Numbered(control[0] >> 1 | control[1] << 7, count, rest)
    if rest:
        raise BadFrame(f"{len(rest)} bytes behind a frame that carries none")
    if control[0] == 1 and control[1] == 0:
        return Supervisory(count)
    try:
        function = Function(control[0] & 0xFC) if control[0] & 3 == 3 and not any(control[1:]) else None
    except ValueError:
        function = None
    if function is None:
        raise BadFrame(f"control field {control.hex()}")
    return Unnumbered(function)


def packed(frame: Frame) -> bytes:
    """A frame as bytes."""
    match frame:
        case Numbered(sent, received, asdu):
            assert 0 < len(asdu) <= ASDU_MAX
            head = ((sent << 1) | (received << 17)).to_bytes(CONTROL, "little")
            return bytes((START, CONTROL + len(asdu))) + head + asdu
        case Supervisory(received):
            return bytes((START, CONTROL)) + (1 | received << 17).to_bytes(CONTROL, "little")
        case Unnumbered(function):
            return bytes((START, CONTROL, function | 3, 0, 0, 0))
