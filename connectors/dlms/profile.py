"""The buffer of a load profile (profile generic, class 7): read by range or by entry, row by row.

Source: IEC 62056-6-2, 4.3.6. A row is what was captured, at the time it was captured; what it means is
said in connectors/imports/meter_rows.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import NamedTuple
from zoneinfo import ZoneInfo

from connectors.dlms.apdus import Denied, Result
from connectors.dlms.association import Association
from connectors.dlms.data import ARRAY, NULL, STRUCTURE, Datum, count_of, number_of, status_of
from connectors.dlms.instants import Instant, instant_of
from connectors.dlms.requests import Asked, by_entry, by_range
from connectors.dlms.scalers import Scaler, scaler_of
from connectors.link import LinkError
from ems.dlms import CLOCK, PROFILE, SCALER_UNIT, Place, obis_text

BUFFER, COLUMNS, PERIOD, IN_USE = 2, 3, 4, 7
SLICE = timedelta(days=1)
ENTRIES = 96  # in one request
PERIOD_S_MAX = 86400
YEARS = range(2000, 2100)  # of a row that can be believed


class NotAProfile(Exception):
    """It cannot be read as it is; says why, and what would do."""


class Row(NamedTuple):
    """What was captured at one time."""

    at: datetime | None  # None: the time cannot be believed
    status: int | None  # None: it is not known
    values: tuple[float | None, ...]  # of the places that were asked for, scaled, in the meter's units


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in a row things are."""

    period_s: int
    clock: int
    clock_at: Asked
    status: int | None
    columns: tuple[int, ...]  # of the places
    scalers: tuple[Scaler, ...]
    width: int


async def layout_of(
    association: Association, profile: bytes, places: Sequence[Place], status: bytes | None
) -> Layout:
    """Ask for columns, capture period and scalers. Raises NotAProfile and LinkError."""
    told = await association.get_all([Asked(PROFILE, profile, n) for n in (COLUMNS, PERIOD)])
    columns = _columns(_given(told[0], f"the columns of {obis_text(profile)}"))
    period_s = count_of(_given(told[1], f"the capture period of {obis_text(profile)}"))
    if period_s is None or not 1 <= period_s <= PERIOD_S_MAX:
        raise NotAProfile(f"a capture period of {period_s} s: rows that are captured at times are wanted")
    clock = next((i for i, c in enumerate(columns) if c.class_id == CLOCK and c.attribute == 2), None)
    if clock is None:
        raise NotAProfile("no clock among its columns")
    found = [_found(columns, place) for place in places]
    asked = [Asked(p.class_id, p.obis, SCALER_UNIT[p.class_id]) for p in places]
    scalers = [
        scaler_of(_given(s, f"scaler and unit of {p}"))
        for s, p in zip(await association.get_all(asked), places, strict=True)
    ]
    for scaler, place in zip(scalers, places, strict=True):
        if scaler.why:
            raise NotAProfile(f"{place}: {scaler.why}")
    beside = None if status is None else _of_status(columns, status)
    return Layout(period_s, clock, columns[clock], beside, tuple(found), tuple(scalers), len(columns))


def _given(told: Result, what: str) -> Datum:
    if isinstance(told, Denied):
        raise NotAProfile(f"{what}: {told.why}")
    return told


def _columns(told: Datum) -> list[Asked]:
    rows = told.value if told.tag == ARRAY and isinstance(told.value, tuple) else ()
    found: list[Asked] = []
    for row in rows:
        parts = row.value if row.tag == STRUCTURE and isinstance(row.value, tuple) else ()
        if len(parts) != 4:
            raise NotAProfile(f"a column that is told as {row.name}")
        class_id, attribute, code = count_of(parts[0]), count_of(parts[2]), parts[1].value
        if class_id is None or attribute is None or not isinstance(code, bytes) or len(code) != 6:
            raise NotAProfile("a column without class, code and attribute")
        found.append(Asked(class_id, code, attribute))
    if not found:
        raise NotAProfile("no columns")
    return found


def _found(columns: Sequence[Asked], place: Place) -> int:
    at = [
        i
        for i, c in enumerate(columns)
        if (c.class_id, c.obis, c.attribute) == (place.class_id, place.obis, place.attribute)
    ]
    if len(at) != 1:
        known = ", ".join(
            f"{obis_text(c.obis)} [class {c.class_id}, attribute {c.attribute}]" for c in columns
        )
        raise NotAProfile(f"{place} is not one of its columns; there are {known}")
    return at[0]


def _of_status(columns: Sequence[Asked], status: bytes) -> int | None:
    return next((i for i, c in enumerate(columns) if c.obis == status and c.attribute == 2), None)


async def clock_of(association: Association, layout: Layout, zone: ZoneInfo | None) -> Instant:
    """What time the meter has now. Raises LinkError."""
    (told,) = await association.get_all([layout.clock_at])
    return Instant(None, told.why) if isinstance(told, Denied) else instant_of(told, zone)


def slices(start: datetime, end: datetime, period_s: int) -> Iterator[tuple[datetime, datetime]]:
    """[start, end] in parts that a meter answers at once; each begins where the one before ended."""
    step = min(SLICE, timedelta(seconds=ENTRIES * 4 * period_s))
    while start < end:
        yield start, min(start + step, end)
        start = min(start + step, end)


async def rows_by_range(
    association: Association, profile: bytes, layout: Layout, span: tuple[datetime, datetime],
    deviation_min: int | None, zone: ZoneInfo | None,
) -> list[Row]:  # fmt: skip
    """Rows whose time is in the span, both ends included. Raises NotAProfile and LinkError."""
    if not association.selects:
        raise NotAProfile("the meter gives no part of a profile (selective access was not agreed)")
    local = timezone(timedelta(minutes=0 if deviation_min is None else -deviation_min))
    asked = by_range(layout.clock_at, span[0].astimezone(local), span[1].astimezone(local))
    return await _rows(association, profile, layout, asked, zone)


async def entries_of(association: Association, profile: bytes) -> int:
    """How many rows there are. Raises NotAProfile and LinkError."""
    (told,) = await association.get_all([Asked(PROFILE, profile, IN_USE)])
    count = count_of(_given(told, "its count of rows"))
    if count is None or count < 0:
        raise NotAProfile("its count of rows is none")
    return count


async def rows_by_entry(
    association: Association, profile: bytes, layout: Layout, first: int, zone: ZoneInfo | None
) -> list[Row]:
    """So many rows from number `first` on, 1 being the first. Raises NotAProfile and LinkError."""
    if not association.selects:
        raise NotAProfile("the meter gives no part of a profile (selective access was not agreed)")
    return await _rows(association, profile, layout, by_entry(first, first + ENTRIES - 1), zone)


async def _rows(
    association: Association, profile: bytes, layout: Layout, selection: bytes, zone: ZoneInfo | None
) -> list[Row]:
    (told,) = await association.get([Asked(PROFILE, profile, BUFFER, selection)], merged=False)
    buffer = _given(told, f"rows of {obis_text(profile)}")
    if buffer.tag != ARRAY or not isinstance(buffer.value, tuple):
        raise LinkError(f"rows that are told as {buffer.name}")
    return list(rows_of(buffer.value, layout, zone))


def rows_of(buffer: Sequence[Datum], layout: Layout, zone: ZoneInfo | None) -> Iterator[Row]:
    """Rows of a buffer; a time or a status that is null goes on from the row before. Raises LinkError."""
    at: datetime | None = None
    status: int | None = None if layout.status is not None else 0
    for row in buffer:
        cells = row.value
        if row.tag != STRUCTURE or not isinstance(cells, tuple) or len(cells) != layout.width:
            raise LinkError(f"a row of another form than its {layout.width} columns")
        if cells[layout.clock].tag == NULL:
            at = None if at is None else at + timedelta(seconds=layout.period_s)
        else:
            at = instant_of(cells[layout.clock], zone).at
        if at is not None and at.year not in YEARS:
            at = None
        if layout.status is not None and cells[layout.status].tag != NULL:
            status = status_of(cells[layout.status])
        values = tuple(_scaled(cells[c], s) for c, s in zip(layout.columns, layout.scalers, strict=True))
        yield Row(at, status, values)


def _scaled(cell: Datum, scaler: Scaler) -> float | None:
    """In the meter's unit; None where no number stands."""
    number = number_of(cell)
    if number is None:
        return None
    return float(number * 10**scaler.exponent if scaler.exponent >= 0 else number / 10**-scaler.exponent)
