"""Certificates that end: what is told before a device or a broker cannot be connected to any more."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

EXPIRY_DAYS = 30.0  # before a certificate ends it is told


@dataclass(frozen=True, slots=True)
class Expiry:
    """When one of the certificates of a connection ends."""

    what: str
    at: datetime


def ending(noted: Sequence[Expiry], now: datetime, days: float) -> Iterator[str]:
    """What of a connection's certificates ends within so many days, or has ended."""
    for expiry in noted:
        left_days = (expiry.at - now).total_seconds() / 86400.0
        if left_days < days:
            word = "ends" if left_days >= 0.0 else "has expired,"
            yield f"{expiry.what} {word} on {expiry.at:%Y-%m-%d %H:%M} UTC"
