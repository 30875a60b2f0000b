"""Dry contacts: what a point takes a cut wire for. An open circuit reads raw 0, whatever opened it."""

from collections.abc import Iterator

from ems.control_site import Interlock
from ems.points import split_point_id
from ems.site import PointMap, Site

IS_SO = 0.5  # from here on a contact, a selector or the stop circuit counts as 1
_WORD = {"emergency_stop": "healthy", "remote": "remote"}  # what the value 1 of a point says


def is_dry_contact(*, table: str | None, bit: int | None) -> bool:
    """Whether a row reads an input that a wire hangs on: a Modbus bit, or one bit of a register."""
    return table in ("coil", "discrete") or bit is not None


def open_value(row: PointMap) -> float | None:
    """What the point reads with an open circuit [unit of the point]; None: a bad value."""
    value = dict(row.codes).get(0) if row.codes else row.offset
    return value if value is not None and row.low <= value <= row.high else None


def good_word(point: str) -> str | None:
    """What a point says with 1 that must not be said by a cut wire; None: it is no such point."""
    asset, name = split_point_id(point)
    return None if name == "emergency_stop" and asset != "bus" else _WORD.get(name)


def is_well_when_open(row: PointMap) -> bool:
    """Whether a cut wire reads as well as a closed stop circuit, or as a selector in remote."""
    value = open_value(row)
    return is_dry_contact(table=row.table, bit=row.bit) and value is not None and value >= IS_SO


def unsafe_rows(site: Site) -> Iterator[PointMap]:
    """Stop circuit and selectors of which a cut wire reads well; the site file had to say so."""
    rows = (row for c in site.connections for row in c.points)
    return (row for row in rows if good_word(row.point) is not None and is_well_when_open(row))


def blind_interlocks(site: Site) -> Iterator[tuple[Interlock, float]]:
    """Interlocks that a contact trips only by closing, and what an open one reads [-].

    One that reads as bad trips; a contact that no map has hangs on no wire yet.
    """
    rows = {row.point: row for c in site.connections for row in c.points}
    for lock in site.control.interlocks:
        row = rows.get(lock.point)
        if row is None or not lock.point.startswith("bus.contact_") or _tells_words(row):
            continue
        value = open_value(row)
        if value is not None and not _trips(lock, value):
            yield lock, value


def _tells_words(row: PointMap) -> bool:
    """Texts and symbols, of which none is that of an open circuit."""
    return row.sunspec is not None or (row.payload is not None and row.payload.words is not None)


def _trips(lock: Interlock, value: float) -> bool:
    return (lock.low is not None and value < lock.low) or (lock.high is not None and value > lock.high)
