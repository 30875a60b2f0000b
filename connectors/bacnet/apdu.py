"""Messages of BACnet/IP: BVLC, NPDU, APDU, and the three services we speak. No I/O.

Source: ANSI/ASHRAE 135-2020: annex J (BVLC), clause 6 (NPDU), 20.1 (APDU), 15.5, 15.7, 15.9 (services).
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from connectors.bacnet.names import ABORTS, REJECTS, error_words
from connectors.bacnet.tags import (
    APPLICATION,
    CLOSING,
    CONTEXT,
    ENUMERATED,
    OPENING,
    MalformedTags,
    Reader,
    Tag,
    least,
    natural,
    object_bytes,
    object_of,
    tagged,
    within,
)

BVLC, UNICAST = 0x81, 0x0A
NPDU_VERSION = 1
HAS_DESTINATION, HAS_SOURCE, IS_NETWORK_MESSAGE, EXPECTS_REPLY = 0x20, 0x08, 0x80, 0x04
NETWORK_REJECT = 3
CONFIRMED, SIMPLE_ACK, COMPLEX_ACK, ERROR, REJECT, ABORT = 0, 2, 3, 5, 6, 7
SEGMENTED = 0x08
APDU_1476, APDU_MAX = 5, 1476  # what we take; and that nothing comes in segments
READ_PROPERTY, READ_MULTIPLE, WRITE_PROPERTY = 12, 14, 15
NETWORK_REJECTS = {1: "not reachable", 2: "busy", 4: "message too long", 6: "unknown address"}
Key = tuple[int, int]  # object type, instance
Asked = tuple[Key, int, int | None]  # object, property, index into an array


class MalformedMessage(Exception):
    """A datagram that is no BACnet message, or says nothing that could be asked for."""


class Route(NamedTuple):
    """A device behind a router."""

    network: int
    mac: bytes


class Message(NamedTuple):
    """What an APDU says to a request of ours."""

    kind: int  # SIMPLE_ACK | COMPLEX_ACK | ERROR | REJECT | ABORT
    invoke: int
    service: int  # -1 with REJECT and ABORT
    data: bytes
    segmented: bool = False


class Denied(Exception):
    """The device has answered that it does not do what was asked.

    Parameters
    ----------
    kind : ERROR | REJECT | ABORT.
    code : of the error, reason of the reject or abort.
    """

    def __init__(self, kind: int, code: int, words: str) -> None:
        super().__init__(words)
        self.kind, self.code = kind, code


def request(invoke: int, service: int, data: bytes, route: Route | None) -> bytes:
    """A datagram with a confirmed request; its answer may come in one piece of up to 1476 bytes."""
    npdu = bytes([NPDU_VERSION, EXPECTS_REPLY | (HAS_DESTINATION if route is not None else 0)])
    if route is not None:
        npdu += route.network.to_bytes(2, "big") + bytes([len(route.mac)]) + route.mac + b"\xff"
    whole = npdu + bytes([CONFIRMED << 4, APDU_1476, invoke, service]) + data
    return bytes([BVLC, UNICAST]) + (len(whole) + 4).to_bytes(2, "big") + whole


def message_of(datagram: bytes, route: Route | None) -> Message | None:
    """What a datagram answers; None: it is for somebody else, or no answer at all.

    Raises
    ------
    MalformedMessage : it is no BACnet message.
    Denied : a router says that the device cannot be reached.
    """
    if len(datagram) < 6 or datagram[0] != BVLC or int.from_bytes(datagram[2:4], "big") != len(datagram):
        raise MalformedMessage("a datagram that is no BACnet message")
    if datagram[1] != UNICAST:
        return None
    if datagram[4] != NPDU_VERSION:
        raise MalformedMessage(f"NPDU of version {datagram[4]}")
    control, at = datagram[5], 6
    source: Route | None = None
    if control & HAS_DESTINATION:
        at += 3 + _byte(datagram, at + 2)
    if control & HAS_SOURCE:
        length = _byte(datagram, at + 2)
        source = Route(int.from_bytes(datagram[at : at + 2], "big"), datagram[at + 3 : at + 3 + length])
        at += 3 + length
    at += 1 if control & HAS_DESTINATION else 0  # its count of hops
    if control & IS_NETWORK_MESSAGE:
        _of_router(datagram[at:], route)
        return None
    if source != route:
        return None
    return _apdu(datagram[at:])


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise MalformedMessage("an address that is cut short")
    return data[at]


def _of_router(data: bytes, route: Route | None) -> None:
    if len(data) == 4 and data[0] == NETWORK_REJECT and route is not None:
        network = int.from_bytes(data[2:4], "big")
        if network == route.network:
            why = NETWORK_REJECTS.get(data[1], f"reason {data[1]}")
            raise Denied(REJECT, -1, f"the router says of network {network}: {why}")


def _apdu(data: bytes) -> Message | None:
    if len(data) < 3:
        raise MalformedMessage("an APDU that is cut short")
    kind, flags, invoke = data[0] >> 4, data[0] & 0x0F, data[1]
    if kind == SIMPLE_ACK and len(data) == 3:
        return Message(kind, invoke, data[2], b"")
    if kind == COMPLEX_ACK:
        return Message(kind, invoke, data[2], data[3:], bool(flags & SEGMENTED))
    if kind == ERROR:
        return Message(kind, invoke, data[2], data[3:])
    if kind in (REJECT, ABORT) and len(data) == 3:
        return Message(kind, invoke, -1, data[2:])
    if kind in (SIMPLE_ACK, REJECT, ABORT) or kind > ABORT:
        raise MalformedMessage(f"an APDU of type {kind} and {len(data)} bytes")
    return None  # requests and announcements of the device itself


def denial(message: Message) -> Denied:
    """Why a device does not do what was asked. Raises MalformedTags."""
    if message.kind == ERROR:
        reader = Reader(message.data)
        error_class, code = _error(reader)
        if not reader.is_over:
            raise MalformedTags("bytes behind an error")
        return Denied(ERROR, code, error_words(error_class, code))
    reason = message.data[0]
    if message.kind == REJECT:
        name = REJECTS[reason] if reason < len(REJECTS) else "rejected"
        return Denied(REJECT, reason, f"rejected: {name} (reason {reason})")
    return Denied(ABORT, reason, f"aborted: {ABORTS.get(reason, 'aborted')} (reason {reason})")


def _error(reader: Reader) -> tuple[int, int]:
    found = []
    for _ in range(2):
        tag = reader.next()
        if (tag.form, tag.number) != (APPLICATION, ENUMERATED):
            raise MalformedTags("an error without class and code")
        found.append(natural(tag.data))
    return found[0], found[1]


def _property(asked: Asked, first: int) -> bytes:
    """Property and index with the context tags from `first` on."""
    _, prop, index = asked
    out = tagged(CONTEXT, first, least(prop))
    return out if index is None else out + tagged(CONTEXT, first + 1, least(index))


def read_one(asked: Asked) -> bytes:
    """ReadProperty."""
    return tagged(CONTEXT, 0, object_bytes(*asked[0])) + _property(asked, 1)


def read_many(asked: Iterable[Asked]) -> bytes:
    """ReadPropertyMultiple; properties of one object stand behind one another."""
    objects: dict[Key, bytes] = {}
    for one in asked:
        objects[one[0]] = objects.get(one[0], b"") + _property(one, 0)
    return b"".join(tagged(CONTEXT, 0, object_bytes(*key)) + within(1, p) for key, p in objects.items())


def write_one(asked: Asked, value: bytes, priority: int) -> bytes:
    """WriteProperty at a priority; `value` is tagged already."""
    return read_one(asked) + within(3, value) + tagged(CONTEXT, 4, least(priority))


def told_one(asked: Asked, data: bytes) -> tuple[Tag, ...]:
    """What a ReadProperty was answered. Raises MalformedTags where it is the answer to something else."""
    reader = Reader(data)
    key = object_of(reader.context(0))
    told = _told(reader, key, 1)
    if told != asked:
        raise MalformedTags(f"an answer about {told}, and {asked} was asked")
    tags = reader.inside(3)
    if not reader.is_over:
        raise MalformedTags("bytes behind a value")
    return tags


def _told(reader: Reader, key: Key, first: int) -> Asked:
    prop = natural(reader.context(first))
    index = natural(reader.context(first + 1)) if reader.is_next(CONTEXT, first + 1) else None
    return key, prop, index


def told_many(asked: Iterable[Asked], data: bytes) -> Mapping[Asked, tuple[Tag, ...] | Denied]:
    """What a ReadPropertyMultiple was answered: everything that was asked, and nothing else.

    Raises
    ------
    MalformedTags : it is the answer to something else, or none.
    """
    wanted = set(asked)
    out: dict[Asked, tuple[Tag, ...] | Denied] = {}
    reader = Reader(data)
    while not reader.is_over:
        key = object_of(reader.context(0))
        reader.open(1)
        while not reader.is_next(CLOSING, 1):
            one = _told(reader, key, 2)
            if one not in wanted or one in out:
                raise MalformedTags(f"an answer about {one}, which was not asked")
            if reader.is_next(OPENING, 5):
                reader.open(5)
                error_class, code = _error(reader)
                reader.close(5)
                out[one] = Denied(ERROR, code, error_words(error_class, code))
            else:
                out[one] = reader.inside(4)
        reader.close(1)
    if len(out) != len(wanted):
        raise MalformedTags(f"an answer about {len(out)} of {len(wanted)} properties")
    return out
