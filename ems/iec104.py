"""Who is spoken to over IEC 60870-5-104, by whom, and how. Source: IEC 60870-5-104:2006, clause 9."""

from collections.abc import Iterator
from dataclasses import dataclass

PORT, PORT_TLS = 2404, 19998
OBJECT_MAX = 0xFFFFFF
TYPES = ("float", "scaled", "normalized", "single_point", "double_point", "counter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Iec104Times:
    """Windows and times of a connection, by the names of the standard."""

    k: int = 12  # frames of ours without a confirmation
    w: int = 8  # frames of theirs after which we confirm
    t1_s: float = 15.0
    t2_s: float = 10.0
    t3_s: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Iec104:
    """A controlled station that is read."""

    station: int  # common address
    originator: int = 0  # ours
    interrogate_s: float | None = None  # how often; None: at each poll
    time_zone: str | None = "UTC"  # of its time tags; None: they are not believed
    times: Iec104Times = Iec104Times()


def object_faults(address: str, data_type: str) -> Iterator[tuple[str, str]]:
    """What of a row of a point map cannot be worked with: (key, what is allowed)."""
    if not (address.isascii() and address.isdigit() and 1 <= int(address) <= OBJECT_MAX):
        yield "address", f"address of an information object, 1 to {OBJECT_MAX}"
    if data_type not in TYPES:
        yield "data_type", " ".join(TYPES)
