"""Times of seven bytes (CP56Time2a). Pure.

Source: IEC 60870-5-4, 6.8, and IEC 60870-5-101:2003, 7.2.6.18: milliseconds of the minute, minute with a bit
for *invalid*, hour with a bit for *summer time*, day with the day of the week, month, year of the century.
"""

from datetime import UTC, datetime, tzinfo

BYTES = 7
CENTURY = 2000
INVALID, SUMMER = 0x80, 0x80


def time_bytes(at: datetime, zone: tzinfo = UTC, *, valid: bool = True) -> bytes:
    """An aware time as a clock in `zone` shows it."""
    local = at.astimezone(zone)
    ms = local.second * 1000 + local.microsecond // 1000
    return ms.to_bytes(2, "little") + bytes(
        (
            local.minute | (0 if valid else INVALID),
            local.hour | (SUMMER if local.dst() else 0),
            local.day | local.isoweekday() << 5,
            local.month,
            local.year % 100,
        )
    )


def time_of(raw: bytes, zone: tzinfo = UTC) -> datetime | None:
    """The aware time that a clock in `zone` showed; None: it is marked invalid, or is no time."""
    ms, minute, hour = int.from_bytes(raw[:2], "little"), raw[2], raw[3]
    if minute & INVALID:
        return None
    try:
        local = datetime(
            CENTURY + (raw[6] & 0x7F), raw[5] & 0x0F, raw[4] & 0x1F, hour & 0x1F, minute & 0x3F,
            ms // 1000, ms % 1000 * 1000, tzinfo=zone,
        )  # fmt: skip
    except ValueError:
        return None
    if bool(local.dst()) is not bool(hour & SUMMER):  # the hour that there is twice in autumn, or a wrong bit
        other = local.replace(fold=1 - local.fold)
        if bool(other.dst()) is not bool(hour & SUMMER):
            return None
        local = other
    return local.astimezone(UTC)
