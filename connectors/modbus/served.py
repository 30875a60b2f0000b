"""Requests as a Modbus server sees them: every length checked, nothing believed. Pure.

Source: MODBUS Application Protocol V1.1b3 (2012), sections 4.1, 6.3, 6.4, 6.6, 6.12, 6.21 and 7; MODBUS
Messaging on TCP/IP Implementation Guide V1.0b (2006), section 3.1.3.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from connectors.modbus.frames import HEADER, READ_HOLDING, READ_INPUT, WRITE_MANY, WRITE_ONE

LENGTH_MAX = 254  # unit id and PDU
READ_MAX, WRITE_MAX = 125, 123  # registers of one request
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, DEVICE_FAILURE, DEVICE_BUSY = 1, 2, 3, 4, 6
NOBODY_THERE = 11  # gateway target failed to respond: another unit than ours
ENCAPSULATED, READ_IDENTITY = 0x2B, 0x0E  # function 43, kind 14
BASIC, REGULAR, EXTENDED, ONE_OBJECT = 1, 2, 3, 4
BASIC_OBJECTS = 3  # vendor, product code, revision: 0 to 2
CONFORMITY = 0x82  # regular identification, as a stream and one by one
OBJECT_MAX = 32  # bytes of one object: all of them fit into one answer
_HEAD = struct.Struct(">HHHB")


class BadFrame(Exception):
    """Bytes that are no Modbus TCP; what follows them cannot be told apart any more."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One request: header fields, and the PDU that is still to be judged."""

    transaction: int
    unit: int
    pdu: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """Registers that are asked for."""

    table: str  # holding | input
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class Write:
    """Registers that are to be written."""

    address: int
    words: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Identify:
    """What the server says of itself is asked for."""

    code: int  # basic, regular, extended, or one object
    first: int  # object


@dataclass(frozen=True, slots=True)
class Fault:
    """A request that is answered by an exception."""

    code: int


def first_frame(received: bytes | bytearray) -> tuple[Frame, int] | None:
    """(the first frame, its length in bytes); None while it is still arriving.

    Raises
    ------
    BadFrame : as soon as the bytes cannot become a frame.
    """
    if len(received) >= 4 and (received[2], received[3]) != (0, 0):
        raise BadFrame(f"protocol id {bytes(received[2:4]).hex()}")
    if len(received) < 6:
        return None
    length = int.from_bytes(received[4:6], "big")
    if not 2 <= length <= LENGTH_MAX:
        raise BadFrame(f"{length} bytes announced; allowed: 2 to {LENGTH_MAX}")
    if len(received) < 6 + length:
        return None
    transaction, _, _, unit = _HEAD.unpack_from(received)
    return Frame(transaction, unit, bytes(received[HEADER : 6 + length])), 6 + length


def request_of(pdu: bytes) -> Read | Write | Identify | Fault:
    """What a PDU asks for."""
    function = pdu[0]
    if function in (READ_HOLDING, READ_INPUT):
        return _read("holding" if function == READ_HOLDING else "input", pdu)
    if function == WRITE_ONE:
        if len(pdu) != 5:
            return Fault(ILLEGAL_VALUE)
        address, value = struct.unpack_from(">HH", pdu, 1)
        return Write(address, (value,))
    if function == WRITE_MANY:
        return _write_many(pdu)
    if function == ENCAPSULATED and pdu[1:2] == bytes((READ_IDENTITY,)):
        known = len(pdu) == 4 and BASIC <= pdu[2] <= ONE_OBJECT
        return Identify(pdu[2], pdu[3]) if known else Fault(ILLEGAL_VALUE)
    return Fault(ILLEGAL_FUNCTION)


def _read(table: str, pdu: bytes) -> Read | Fault:
    if len(pdu) != 5:
        return Fault(ILLEGAL_VALUE)
    address, count = struct.unpack_from(">HH", pdu, 1)
    return Read(table, address, count) if 1 <= count <= READ_MAX else Fault(ILLEGAL_VALUE)


def _write_many(pdu: bytes) -> Write | Fault:
    if len(pdu) < 6:
        return Fault(ILLEGAL_VALUE)
    address, count, size = struct.unpack_from(">HHB", pdu, 1)
    if not 1 <= count <= WRITE_MAX or size != 2 * count or len(pdu) != 6 + size:
        return Fault(ILLEGAL_VALUE)
    return Write(address, struct.unpack_from(f">{count}H", pdu, 6))


def answer(
    frame: Frame,
    read: Callable[[Read], bytes | int],
    write: Callable[[Write], int],
    identity: Sequence[str],
) -> bytes:
    """The whole reply to a frame of our unit.

    Parameters
    ----------
    read : registers as bytes, or the code of an exception.
    write : 0 where it was taken, or the code of an exception.
    identity : objects of the identification from 0 on: vendor, product code, revision, and regular ones.
    """
    match request_of(frame.pdu):
        case Read() as asked:
            found = read(asked)
            if isinstance(found, int):
                return exception(frame, found)
            return _framed(frame, bytes((frame.pdu[0], len(found))) + found)
        case Write() as asked:
            code = write(asked)
            return exception(frame, code) if code else _framed(frame, frame.pdu[:5])
        case Identify() as asked:
            told = _identified(asked, identity)
            return exception(frame, told) if isinstance(told, int) else _framed(frame, told)
        case Fault(code):
            return exception(frame, code)


def _identified(asked: Identify, identity: Sequence[str]) -> bytes | int:
    """The PDU, or the code of an exception. What is asked for from no object on begins with the first one."""
    objects = [text.encode("ascii", "replace")[:OBJECT_MAX] for text in identity]
    if asked.code == ONE_OBJECT:
        if asked.first >= len(objects):
            return ILLEGAL_ADDRESS
        numbers = range(asked.first, asked.first + 1)
    else:
        end = BASIC_OBJECTS if asked.code == BASIC else len(objects)
        numbers = range(asked.first if asked.first < end else 0, end)
    head = (ENCAPSULATED, READ_IDENTITY, asked.code, CONFORMITY, 0, 0, len(numbers))
    return bytes(head) + b"".join(bytes((n, len(objects[n]))) + objects[n] for n in numbers)


def exception(frame: Frame, code: int) -> bytes:
    """The reply that refuses."""
    return _framed(frame, bytes((frame.pdu[0] | 0x80, code)))


def _framed(frame: Frame, pdu: bytes) -> bytes:
    return _HEAD.pack(frame.transaction, 0, 1 + len(pdu), frame.unit) + pdu
