"""What energy costs: time-of-use windows in local time, demand charge, export price, fixed charge."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from ems.timegrid import FloatArray, TimeGrid


@dataclass(frozen=True, slots=True, kw_only=True)
class TouWindow:
    """A priced window of local time: [start_h, end_h) on the given weekdays and months."""

    name: str
    start_h: float  # local hour of day, 0 to 24
    end_h: float
    weekdays: frozenset[int]  # 0 = Monday
    months: frozenset[int]  # 1 to 12
    import_per_kwh: float

    def holds(self, local: datetime) -> bool:
        """Whether a local time lies in this window."""
        hour = local.hour + local.minute / 60.0 + local.second / 3600.0
        return (
            self.start_h <= hour < self.end_h
            and local.weekday() in self.weekdays
            and local.month in self.months
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """The contract at the POI. The first window that holds gives the price, else `default_import_per_kwh`."""

    timezone: str
    currency: str
    default_import_per_kwh: float
    windows: tuple[TouWindow, ...]
    export_per_kwh: float
    demand_charge_per_kw: float  # money per kW of the month's highest billing interval
    billing_interval_s: float
    fixed_per_month: float

    def import_per_kwh(self, when: datetime) -> float:
        """Energy price at an aware time [money per kWh]."""
        local = when.astimezone(ZoneInfo(self.timezone))
        for window in self.windows:
            if window.holds(local):
                return window.import_per_kwh
        return self.default_import_per_kwh

    def import_prices(self, grid: TimeGrid) -> FloatArray:
        """(T,) mean import price of each step, sampled every 15 minutes or finer [money per kWh]."""
        out = []
        for start, step_s in zip(grid.starts(), grid.step_s, strict=True):
            n = max(1, round(step_s / 900.0))
            out.append(
                float(
                    np.mean(
                        [self.import_per_kwh(start + timedelta(seconds=i * step_s / n)) for i in range(n)]
                    )
                )
            )
        return np.asarray(out)
