"""GOOSE messages in Ethernet frames, read strictly (IEC 61850-8-1 (2011), annexes A and C). No I/O.

What is not built as the standard says is refused whole: a value comes from a message that is right to its
last byte, or not at all.
"""

from dataclasses import dataclass
from typing import NamedTuple

from open61850 import ber
from open61850 import data as iec
from open61850.mms.errors import MmsProtocolError

from connectors.iec61850.values import AccessFault, strict, values_of

ETHERTYPE, TAGS = 0x88B8, (0x8100, 0x88A8)  # GOOSE; VLANs (IEEE 802.1Q)
ADDRESSES, HEADER = 12, 8  # bytes: of both addresses; from the APPID to the second reserved field
FRAME_MAX = 1526  # bytes, two VLAN tags included
PDU = 0x61
REFERENCE, ALIVE, DATA_SET, GO_ID, TIME, STATE, SEQUENCE, SIMULATION, CONF_REV, COMMISSION, COUNT = range(
    0x80, 0x8B
)
VALUES, SECURITY = 0xAB, 0xAC
ORDER = (*range(0x80, 0x8B), VALUES, SECURITY)
OPTIONAL = (GO_ID, SIMULATION, COMMISSION, SECURITY)
TEXT_MAX, UINT32_MAX = 129, 0xFFFFFFFF
SIMULATED = 0x8000  # of the first reserved field


class Malformed(ValueError):
    """A frame that is none of GOOSE, or not built as one is."""


class Header(NamedTuple):
    """What stands before the message itself."""

    destination: bytes
    app_id: int
    is_simulated: bool
    begin: int  # of the message in the frame
    end: int


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    control_block: str
    alive_s: float  # timeAllowedToLive: with nothing heard for so long, nobody is there
    data_set: str
    go_id: str | None
    time: iec.TimestampData  # of the last change
    state: int  # stNum: counts changes
    sequence: int  # sqNum: counts messages of a state
    is_simulated: bool
    conf_rev: int
    needs_commissioning: bool
    values: tuple[iec.IECData | AccessFault, ...]


def header_of(frame: bytes) -> Header:
    """Destination and APPID, without a look at the message. Raises Malformed."""
    at = ADDRESSES
    kind = int.from_bytes(frame[at : at + 2])
    while kind in TAGS and at < ADDRESSES + 8:
        at += 4
        kind = int.from_bytes(frame[at : at + 2])
    begin = at + 2
    if kind != ETHERTYPE or len(frame) < begin + HEADER or len(frame) > FRAME_MAX:
        raise Malformed("no GOOSE frame")
    length = int.from_bytes(frame[begin + 2 : begin + 4])
    if not HEADER < length <= len(frame) - begin:
        raise Malformed("another length than the frame has")
    simulated = bool(int.from_bytes(frame[begin + 4 : begin + 6]) & SIMULATED)
    app_id = int.from_bytes(frame[begin : begin + 2])
    return Header(frame[:6], app_id, simulated, begin + HEADER, begin + length)


def message_of(frame: bytes, header: Header) -> Message:
    """The message of a frame. Raises Malformed."""
    try:
        return _message(_fields(frame[header.begin : header.end]), header.is_simulated)
    except (ber.BerError, MmsProtocolError) as error:
        raise Malformed(str(error)) from None


def _fields(content: bytes) -> dict[int, bytes]:
    outer = ber.decode_tlv(content)
    if outer.tag != PDU or outer.end != len(content):
        raise Malformed("no message of its length")
    fields: dict[int, bytes] = {}
    last = -1
    for tlv in ber.iter_tlvs(outer.value):
        if tlv.tag not in ORDER or (place := ORDER.index(tlv.tag)) <= last:
            raise Malformed(f"a field with tag {tlv.tag:#x} at the wrong place")
        fields[tlv.tag], last = tlv.value, place
    for tag in ORDER:
        if tag not in fields and tag not in OPTIONAL:
            raise Malformed(f"no field with tag {tag:#x}")
    return fields


def _message(fields: dict[int, bytes], is_simulated: bool) -> Message:
    values = tuple(values_of(fields[VALUES]))
    if _number(fields[COUNT]) != len(values):
        raise Malformed("another number of values than it says")
    time = strict(iec.TAG_UTC_TIME, fields[TIME])
    assert isinstance(time, iec.TimestampData), "eight bytes are a time"
    return Message(
        control_block=_text(fields[REFERENCE]),
        alive_s=_number(fields[ALIVE]) / 1000.0,
        data_set=_text(fields[DATA_SET]),
        go_id=_text(fields[GO_ID]) if GO_ID in fields else None,
        time=time,
        state=_number(fields[STATE]),
        sequence=_number(fields[SEQUENCE]),
        is_simulated=is_simulated or _flag(fields, SIMULATION),
        conf_rev=_number(fields[CONF_REV]),
        needs_commissioning=_flag(fields, COMMISSION),
        values=values,
    )


def _number(content: bytes) -> int:
    """An INT32U, with leading zeros where the encoding is of fixed length."""
    number = int.from_bytes(content)
    if not content or len(content) > 5 or number > UINT32_MAX:
        raise Malformed("a number that is none of 32 bits")
    return number


def _text(content: bytes) -> str:
    if len(content) > TEXT_MAX or not all(0x20 <= c <= 0x7E for c in content):
        raise Malformed("a text that is none")
    return content.decode("ascii")


def _flag(fields: dict[int, bytes], tag: int) -> bool:
    content = fields.get(tag, b"\0")
    if len(content) != 1:
        raise Malformed("a flag that is none")
    return content != b"\0"
