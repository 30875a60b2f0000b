"""Messages of SAE J1939: identifiers, long messages in parts, fault codes. No I/O.

Sources: SAE J1939-21 (identifier, transport protocol BAM), J1939-73 (DM1), J1939-81 (address claim).
"""

from dataclasses import dataclass
from typing import NamedTuple

from ems.j1939 import LENGTH_MAX, TO_ALL

EVERYBODY = 255
CLAIM, ANNOUNCE, PART = 60928, 60416, 60160
BAM, PART_BYTES, LENGTH_MIN = 32, 7, 9
PART_S_MAX = 0.75  # between two parts (T1)
NO_FAULT = ((0, 0), (0x7FFFF, 31))  # (SPN, FMI)
SEEN_UNKNOWN = 127


class Identifier(NamedTuple):
    """Who tells what to whom."""

    pgn: int
    source: int
    destination: int


def identifier_of(number: int) -> Identifier | None:
    """Parts of a 29-bit identifier; None where the extended page says that it is none of J1939."""
    if number >> 25 & 1:
        return None
    form, specific = number >> 16 & 0xFF, number >> 8 & 0xFF
    page = (number >> 24 & 1) << 16
    if form < TO_ALL:
        return Identifier(page | form << 8, number & 0xFF, specific)
    return Identifier(page | form << 8 | specific, number & 0xFF, EVERYBODY)


@dataclass(slots=True)
class _Session:
    pgn: int
    length: int
    parts: list[bytes]
    at_s: float

    @property
    def whole(self) -> bytes | None:
        told = b"".join(self.parts)
        return told[: self.length] if len(told) >= self.length else None


class Assembly:
    """A long message of one sender, told to everybody in parts, each in its order and in time."""

    def __init__(self) -> None:
        self.torn = 0  # that were not told to their end
        self._session: _Session | None = None

    def announced(self, data: bytes, at_s: float) -> None:
        """A TP.CM message to everybody; anything but an announcement (BAM) ends what was begun."""
        self.torn += self._session is not None
        self._session = None
        if len(data) != 8 or data[0] != BAM:
            return
        length, parts = int.from_bytes(data[1:3], "little"), data[3]
        if LENGTH_MIN <= length <= LENGTH_MAX and parts == -(-length // PART_BYTES):
            self._session = _Session(int.from_bytes(data[5:8], "little"), length, [], at_s)

    def part(self, data: bytes, at_s: float) -> tuple[int, bytes] | None:
        """A TP.DT message: the PGN and the whole message where this was its last part."""
        session = self._session
        if session is None:
            return None
        late = at_s - session.at_s > PART_S_MAX
        if late or len(data) != 8 or data[0] != len(session.parts) + 1:
            self.torn += 1
            self._session = None
            return None
        session.parts.append(data[1:])
        session.at_s = at_s
        if (whole := session.whole) is None:
            return None
        self._session = None
        return session.pgn, whole


def fault_codes(data: bytes) -> tuple[str, ...]:
    """Active fault codes of a DM1: parameter, failure mode, how often; none where there is no fault."""
    out: list[str] = []
    for at in range(2, len(data) - 3, 4):
        low, middle, high, counted = data[at : at + 4]
        spn, fmi = low | middle << 8 | high >> 5 << 16, high & 0x1F
        if (spn, fmi) in NO_FAULT:
            continue
        how_often = counted & 0x7F
        times = "" if how_often in (0, SEEN_UNKNOWN) else f", {how_often} times"
        older = ", SPN by an older method" if counted & 0x80 else ""
        out.append(f"SPN {spn} FMI {fmi}{times}{older}")
    return tuple(out)
