"""Hours and days that files are written for: of the plant's own clock, or of UTC."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """[start, end), aware UTC, and what its files are called by."""

    start: datetime
    end: datetime
    name: str


def period_of(at: datetime, every: str, zone: ZoneInfo) -> Period:
    """The hour or day that a moment is in.

    Parameters
    ----------
    every : hour or day; a day has 23 or 25 hours where the clock is changed.
    zone : whose clock tells when one ends; the name of an hour has its offset: one comes twice a year.
    """
    local = at.astimezone(zone)
    if every == "day":
        start = datetime(local.year, local.month, local.day, tzinfo=zone)
        after = start.date() + timedelta(days=1)
        end = datetime(after.year, after.month, after.day, tzinfo=zone)
        return Period(start=start.astimezone(UTC), end=end.astimezone(UTC), name=f"{start:%Y-%m-%d}")
    start = local.replace(minute=0, second=0, microsecond=0)
    begin = start.astimezone(UTC)
    return Period(start=begin, end=begin + timedelta(hours=1), name=f"{start:%Y-%m-%dT%H%z}")
