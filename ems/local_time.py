"""The local time of a moment, looked up once: a tick asks for that of the same moment a dozen times."""

from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo


@lru_cache(maxsize=16)
def local_time(at: datetime, zone: ZoneInfo) -> datetime:
    """`at`, an aware moment, as clocks in `zone` show it."""
    return at.astimezone(zone)
