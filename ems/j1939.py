"""Where a value is in the messages of SAE J1939, and how often they come.

A place is written `61444/4 [190]`: the parameter group (PGN), the first byte of the value, counted from 1,
and for whoever reads it the number of the parameter (SPN); of a few bits `65226/1.5`, the first bit
counted from 1, the least significant. Sources: SAE J1939-21 (messages), -71 and -75
(parameters, ranges), -73 (DM1).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ems.errors import BadValue

BITS = {"u8": 8, "u16": 16, "u32": 32, "bits2": 2, "bits3": 3, "bits4": 4}
# The largest count that is a value; above it the device says that it has none, or that there is an error.
COUNT_MAX = {"u8": 0xFA, "u16": 0xFAFF, "u32": 0xFAFFFFFF, "bits2": 0b01, "bits3": 0b101, "bits4": 0b1101}
PGN_MAX, LENGTH_MAX, TO_ALL = 0x3FFFF, 1785, 240
SOURCE_MAX, NAME_MAX = 253, 2**64 - 1
DM1 = 65226
PERIODS_S = {  # of SAE J1939-71, -73 and -75: how often a group is sent
    61443: 0.05, 61444: 0.1, 65253: 1.0, 65257: 1.0, 65262: 1.0, 65263: 0.5, 65266: 0.1, 65270: 0.5,
    65271: 1.0, 65276: 1.0, 65018: 0.25, 65027: 0.1, 65028: 0.1, 65029: 0.1, 65030: 0.1, 64913: 0.25,
    DM1: 1.0,
}  # fmt: skip
PERIODS_MISSED, LIVES_S_MIN = 3.0, 0.5  # an adapter or a busy machine may hold a message up for so long
BITRATES = {10000: 0, 20000: 1, 50000: 2, 100000: 3, 125000: 4, 250000: 5, 500000: 6, 800000: 7, 1000000: 8}
_FORM = re.compile(r"(\d{1,6})/(\d{1,4})(?:\.([1-8]))?(?:\s*\[(\d{1,6})\])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Can:
    """A CAN bus, and who is listened to on it."""

    interface: str = ""  # of SocketCAN, `can0`
    serial: str = ""  # or an adapter of the slcan kind, `/dev/ttyACM0`
    bitrate: int = 250000  # of the adapter; that of an interface is set by the system
    source: int  # address of the sender
    name: int | None = None  # its NAME, as it claims its address; None: any
    periods_s: tuple[tuple[int, float], ...] = ()  # PGN -> how often it is sent [s], where that is not usual

    @property
    def where(self) -> str:
        """Interface or adapter."""
        return self.interface or self.serial

    def period_s(self, pgn: int) -> float | None:
        """How often a group is sent; None: nobody said."""
        return dict(self.periods_s).get(pgn, PERIODS_S.get(pgn))

    def lives_s(self, pgn: int) -> float:
        """How long a value of a group counts [s]."""
        period_s = self.period_s(pgn)
        return max(LIVES_S_MIN, PERIODS_MISSED * (1.0 if period_s is None else period_s))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value begins in the messages of a parameter group."""

    pgn: int
    byte: int  # from 1
    bit: int | None  # from 1; None: whole bytes
    spn: int | None


def parse_place(text: str) -> Place:
    """The parts of a place. Raises BadValue."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise BadValue("not PGN/BYTE, PGN/BYTE.BIT, with or without [SPN]")
    pgn, byte, bit, spn = (None if part is None else int(part) for part in found.groups())
    assert pgn is not None
    assert byte is not None
    if pgn > PGN_MAX or (pgn >> 8 & 0xFF < TO_ALL and pgn & 0xFF):
        raise BadValue(f"{pgn} is no PGN: up to {PGN_MAX}, with 0 as its last byte below 0xF000")
    return Place(pgn, byte, bit, spn)


def place_faults(can: Can, address: str, data_type: str) -> Iterator[tuple[str, str]]:
    """What of a row of a point map cannot be worked with: (key, what is allowed)."""
    try:
        place = parse_place(address)
    except BadValue as error:
        yield "address", f"such as 61444/4 [190] or 65226/1.5: {error}"
        return
    bits = BITS.get(data_type, 8)
    if (place.bit is not None) is not (bits < 8):
        yield "address", "a bit, as in 65226/1.5, with bits2, bits3 and bits4, and with them alone"
    elif place.bit is not None and place.bit + bits > 9:
        yield "address", f"{data_type} inside one byte"
    if not 1 <= place.byte <= LENGTH_MAX + 1 - max(1, bits // 8):
        yield "address", f"bytes from 1 to {LENGTH_MAX}"
    if can.period_s(place.pgn) is None:
        yield "address", f"a PGN whose period is known: `can: {{periods: {{{place.pgn}: 1 s}}}}`"
