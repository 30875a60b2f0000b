"""ASDUs of IEC 60870-5-104: who tells what to whom and why, and the objects in it. Pure.

Source: IEC 60870-5-101:2003, 7.1 to 7.3, with the sizes that IEC 60870-5-104:2006, 7 fixes: cause of two
bytes, common address of two, object address of three.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from connectors.iec104.frames import ASDU_MAX, BadFrame
from connectors.iec104.times import BYTES as TIME

HEAD = 6
ADDRESS = 3  # bytes of an object's address
COUNT_MAX = 127
EVERYBODY = 0xFFFF  # common address of all stations
SEQUENCE, NEGATIVE, TEST = 0x80, 0x40, 0x80
_HEAD = struct.Struct("<BBBBH")


class Type(IntEnum):
    """Types of objects that are known here, by the names of the standard without their last part."""

    M_SP_NA = 1
    M_DP_NA = 3
    M_ME_NA = 9
    M_ME_NB = 11
    M_ME_NC = 13
    M_IT_NA = 15
    M_ME_ND = 21
    M_SP_TB = 30
    M_DP_TB = 31
    M_ME_TD = 34
    M_ME_TE = 35
    M_ME_TF = 36
    M_IT_TB = 37
    C_SE_NA = 48
    C_SE_NB = 49
    C_SE_NC = 50
    C_SE_TA = 61
    C_SE_TB = 62
    C_SE_TC = 63
    M_EI_NA = 70
    C_IC_NA = 100
    C_CI_NA = 101
    C_RD_NA = 102
    C_CS_NA = 103
    C_TS_TA = 107

    @property
    def words(self) -> str:
        """As the standard writes it, such as `M_ME_NC_1`."""
        return f"{self.name}_1"


KNOWN = frozenset(t.value for t in Type)


class Cause(IntEnum):
    """Why an ASDU is sent."""

    SPONTANEOUS = 3
    INITIALISED = 4
    REQUEST = 5
    ACTIVATION = 6
    ACTIVATION_CON = 7
    DEACTIVATION = 8
    DEACTIVATION_CON = 9
    ACTIVATION_END = 10
    INTERROGATED = 20
    COUNTERS_REQUESTED = 37
    UNKNOWN_TYPE = 44
    UNKNOWN_CAUSE = 45
    UNKNOWN_STATION = 46
    UNKNOWN_OBJECT = 47


# Bytes of the one object that a request has, behind its address.
ASKED: dict[int, int] = {
    Type.C_SE_NA: 3, Type.C_SE_NB: 3, Type.C_SE_NC: 5,
    Type.C_SE_TA: 3 + TIME, Type.C_SE_TB: 3 + TIME, Type.C_SE_TC: 5 + TIME,
    Type.C_IC_NA: 1, Type.C_CI_NA: 1, Type.C_RD_NA: 0, Type.C_CS_NA: TIME, Type.C_TS_TA: 2 + TIME,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asdu:
    """One ASDU as it arrived; `body` are its objects."""

    raw: bytes
    type: int
    sequence: bool
    count: int
    cause: int
    negative: bool
    test: bool
    originator: int
    station: int  # common address
    body: bytes

    @property
    def words(self) -> str:
        """For a person: what it is, and to which object."""
        name = Type(self.type).words if self.type in KNOWN else f"type {self.type}"
        where = f" at {self.address}" if len(self.body) >= ADDRESS else ""
        return f"{name}{where}, cause {self.cause}"

    @property
    def address(self) -> int:
        """Address of its first object; 0 where it has none."""
        return int.from_bytes(self.body[:ADDRESS], "little")

    @property
    def element(self) -> bytes:
        """What its one object holds."""
        return self.body[ADDRESS:]

    def mirrored(self, cause: int, *, negative: bool = False, station: int | None = None) -> bytes:
        """The same back, with another cause, and from one station where it was to everybody."""
        kept = self.raw[2] & TEST
        head = self.raw[:2] + bytes((cause | kept | (NEGATIVE if negative else 0), self.originator))
        return head + (self.station if station is None else station).to_bytes(2, "little") + self.body


def asdu_of(raw: bytes) -> Asdu:
    """What a numbered frame carries. Raises BadFrame where it cannot be an ASDU."""
    if len(raw) < HEAD:
        raise BadFrame(f"an ASDU of {len(raw)} bytes")
    kind, structure, cause, originator, station = _HEAD.unpack_from(raw)
    return Asdu(
        raw=raw,
        type=kind,
        sequence=bool(structure & SEQUENCE),
        count=structure & ~SEQUENCE,
        cause=cause & 0x3F,
        negative=bool(cause & NEGATIVE),
        test=bool(cause & TEST),
        originator=originator,
        station=station,
        body=raw[HEAD:],
    )


def request_of(raw: bytes) -> Asdu:
    """The same, of a request: one of a known type has one object of exactly its size. Raises BadFrame."""
    asdu = asdu_of(raw)
    width = ASKED.get(asdu.type)
    if width is not None:
        if asdu.sequence or asdu.count != 1:
            raise BadFrame(f"{asdu.words}: {asdu.count} objects; allowed: 1")
        if len(asdu.body) != ADDRESS + width:
            raise BadFrame(f"{asdu.words}: {len(asdu.body)} bytes; allowed: {ADDRESS + width}")
    return asdu


def head(kind: Type, count: int, cause: int, station: int, originator: int = 0) -> bytes:
    """The head of an ASDU whose objects have an address each."""
    return _HEAD.pack(kind, count, cause, originator, station)


def single(kind: Type, cause: int, station: int, address: int, element: bytes, originator: int = 0) -> bytes:
    """An ASDU with one object."""
    return head(kind, 1, cause, station, originator) + address.to_bytes(ADDRESS, "little") + element


def fitting(width: int) -> int:
    """How many objects with elements of so many bytes one ASDU takes."""
    return min(COUNT_MAX, (ASDU_MAX - HEAD) // (ADDRESS + width))


def together(
    objects: Iterable[tuple[Type, int, bytes]], cause: int, station: int, originator: int = 0
) -> Iterator[bytes]:
    """Objects as (type, address, element) in as few ASDUs as keep their order."""
    waiting: list[tuple[int, bytes]] = []
    kind: Type | None = None
    for next_kind, address, element in objects:
        if waiting and kind is not None and (next_kind is not kind or len(waiting) == fitting(len(element))):
            yield _packed(kind, waiting, cause, station, originator)
            waiting = []
        kind = next_kind
        waiting.append((address, element))
    if waiting and kind is not None:
        yield _packed(kind, waiting, cause, station, originator)


def _packed(
    kind: Type, objects: Sequence[tuple[int, bytes]], cause: int, station: int, originator: int
) -> bytes:
    body = b"".join(address.to_bytes(ADDRESS, "little") + element for address, element in objects)
    return head(kind, len(objects), cause, station, originator) + body
