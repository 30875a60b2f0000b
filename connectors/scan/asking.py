"""What a scan may ask, and what it may be answered. Pure.

Source: MODBUS Application Protocol V1.1b3 (2012), sections 6.3, 6.4, 6.21 (read device identification) and 7.
"""

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from ems.errors import InvariantBroken

READ_HOLDING, READ_INPUT, READ_IDENTIFICATION = 3, 4, 43
READS = frozenset({READ_HOLDING, READ_INPUT, READ_IDENTIFICATION})
FUNCTION_OF = {"holding": READ_HOLDING, "input": READ_INPUT}
MEI_TYPE, BASIC = 14, 1
OBJECTS = ("vendor", "product code", "revision")
FRAME_BYTES_MAX = 260  # of Modbus TCP
GATEWAY_CODES = (10, 11)  # a gateway answers for a unit it cannot reach


class Kind(Enum):
    """What became of a question."""

    DATA = "data"
    EXCEPTION = "exception"
    SILENT = "silent"  # no answer in time
    GARBLED = "garbled"  # something else than an answer to the question


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a question; `data` is what follows the function code, `code` that of an exception."""

    kind: Kind
    data: bytes = b""
    code: int = 0
    text: str = ""

    @property
    def is_there(self) -> bool:
        """Whether the unit itself has answered."""
        return self.kind is Kind.DATA or (self.kind is Kind.EXCEPTION and self.code not in GATEWAY_CODES)


class Asker(Protocol):
    """Somebody who can put one question at a time to a unit."""

    @property
    def name(self) -> str:
        """Where it asks, for messages."""
        ...

    @property
    def can_identify(self) -> bool:
        """Whether function 43 may be asked here."""
        ...

    async def ask(self, unit: int, pdu: bytes) -> Answer:
        """Send one request and wait for its answer; never raises for what a device does."""
        ...


def only_reads(pdu: bytes) -> bytes:
    """The same request, where it is one that reads. Everything that is sent goes through here."""
    if pdu[0] not in READS:
        raise InvariantBroken(f"a scan reads: function {pdu[0]} is not asked")
    return pdu


def read_request(table: str, address: int, count: int) -> bytes:
    """Request for `count` registers."""
    return only_reads(struct.pack(">BHH", FUNCTION_OF[table], address, count))


def identification_request() -> bytes:
    """Request for the basic identification: vendor, product code, revision."""
    return only_reads(bytes((READ_IDENTIFICATION, MEI_TYPE, BASIC, 0)))


def words_of(answer: Answer, count: int) -> tuple[int, ...] | None:
    """Registers of an answer; None where there are none, or not so many."""
    if answer.kind is not Kind.DATA or len(answer.data) != 1 + 2 * count or answer.data[0] != 2 * count:
        return None
    return struct.unpack(f">{count}H", answer.data[1:])


def objects_of(answer: Answer) -> dict[str, str]:
    """Names and texts of a device identification; none where it is not whole or not printable."""
    data, out = answer.data, dict[str, str]()
    if answer.kind is not Kind.DATA or len(data) < 6 or data[0] != MEI_TYPE:
        return {}
    at = 6
    for _ in range(data[5]):
        if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
            return {}
        text = data[at + 2 : at + 2 + data[at + 1]].decode("ascii", "replace").strip("\0 ")
        if data[at] < len(OBJECTS) and text and text.isprintable() and "�" not in text:
            out[OBJECTS[data[at]]] = text
        at += 2 + data[at + 1]
    return out
