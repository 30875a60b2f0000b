"""Times as meters tell them (IEC 62056-6-2, 4.1.6.1). Pure."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from connectors.dlms.data import DATE_TIME, OCTETS, Datum

NOT_SAID = -0x8000  # deviation
INVALID, DOUBTFUL, OTHER_BASE, BAD_STATUS, DST = 0x01, 0x02, 0x04, 0x08, 0x80  # of the status of the clock
DEVIATION_MIN_MAX = 840


class Instant(NamedTuple):
    """A time that was told. `at` is None where it cannot be believed, and `why` says it."""

    at: datetime | None
    why: str = ""
    deviation_min: int | None = None  # as it was told: what is added to local time for UTC


def instant_of(datum: Datum, zone: ZoneInfo | None = None) -> Instant:
    """A date-time, which may come as twelve octets.

    Parameters
    ----------
    zone : of times without a deviation; the hour that comes twice is told by the bit of summer time.
    """
    data = datum.value
    if datum.tag not in (OCTETS, DATE_TIME) or not isinstance(data, bytes) or len(data) != 12:
        return Instant(None, f"{datum.name} where a time was to come")
    deviation, status = int.from_bytes(data[9:11], "big", signed=True), data[11]
    told = None if deviation == NOT_SAID else deviation
    if told is not None and abs(told) > DEVIATION_MIN_MAX:
        return Instant(None, f"a deviation of {told} minutes")
    if status != 0xFF and status & (INVALID | DOUBTFUL | BAD_STATUS):
        return Instant(None, f"the meter does not believe its clock (status {status:#04x})", told)
    second = 0 if data[7] == 0xFF else data[7]
    hundredths = 0 if data[8] == 0xFF else data[8]
    try:
        local = datetime(
            int.from_bytes(data[:2], "big"), data[2], data[3], data[5], data[6], second,
            hundredths * 10_000, tzinfo=UTC,
        )  # fmt: skip
        if told is not None:
            return Instant(local + timedelta(minutes=told), "", told)
        if zone is None:
            return Instant(None, "a time without its deviation: `time_zone` under `dlms` tells it")
        return _in_zone(local.replace(tzinfo=zone), zone, summer=bool(status != 0xFF and status & DST))
    except (ValueError, OverflowError):
        return Instant(None, f"no time: {data.hex()}")


def _in_zone(local: datetime, zone: ZoneInfo, *, summer: bool) -> Instant:
    either = [local.replace(fold=fold) for fold in (0, 1)]
    if either[0].utcoffset() != either[1].utcoffset():
        right = [t for t in either if bool(t.dst()) is summer]
        local = right[0] if len(right) == 1 else local
    found = local.astimezone(UTC)
    if found.astimezone(zone).replace(tzinfo=None, fold=0) != local.replace(tzinfo=None, fold=0):
        return Instant(None, f"{local:%Y-%m-%d %H:%M} never was in {zone}")
    return Instant(found)
