"""Windows of local time that tariffs are made of."""

from dataclasses import dataclass
from datetime import datetime

HOLIDAY = 7  # day type of a public holiday, beside 0 = Monday to 6 = Sunday


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalWindow:
    """Local time [start_h, end_h) on the given day types and months."""

    start_h: float  # local hour of day, 0 to 24
    end_h: float
    weekdays: frozenset[int]  # 0 = Monday, HOLIDAY = a public holiday, which is no other day
    months: frozenset[int]  # 1 to 12

    def holds(self, local: datetime, day_type: int | None = None) -> bool:
        """Whether a local time lies in this window; `day_type` is that of the tariff, None: its weekday."""
        hour = local.hour + local.minute / 60.0 + local.second / 3600.0
        return (
            self.start_h <= hour < self.end_h
            and (local.weekday() if day_type is None else day_type) in self.weekdays
            and local.month in self.months
        )
