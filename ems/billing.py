"""The only bill there is: what a period at the point of interconnection costs under a tariff.

The simulator's counters, the MILP and the reports are tested against it.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from ems.errors import DataError
from ems.series import UniformSeries
from ems.tariff import Tariff
from ems.timegrid import FloatArray

PRICE_STEP_S = 900.0  # a price may change every quarter of an hour, not more often
DEFAULT_WINDOW = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyLine:
    """Energy imported in one window of the tariff."""

    window: str
    import_kwh: float
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandLine:
    """Demand of one local month. `month_share` of the month lies in the period."""

    month: str  # "2026-03"
    peak_kw: float
    month_share: float
    cost: float  # for the whole month, however little of it lies in the period

    @property
    def prorated_cost(self) -> float:
        """The part of the month's demand charge that falls on the period by time."""
        return self.cost * self.month_share


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A bill in the tariff's currency. `fixed_cost` is the share of the fixed charge by time."""

    currency: str
    energy: tuple[EnergyLine, ...]
    demand: tuple[DemandLine, ...]
    export_kwh: float
    export_revenue: float
    fixed_cost: float

    @property
    def energy_cost(self) -> float:
        """All energy charges, export not deducted."""
        return math.fsum(line.cost for line in self.energy)

    @property
    def demand_cost(self) -> float:
        """Demand charges of whole months."""
        return math.fsum(line.cost for line in self.demand)

    @property
    def total_cost(self) -> float:
        """What is paid: energy, demand of whole months and fixed charge, less export."""
        return self.energy_cost + self.demand_cost + self.fixed_cost - self.export_revenue


def bill(
    tariff: Tariff,
    import_kw: UniformSeries,
    export_kw: UniformSeries,
    peaks_before_kw: Mapping[str, float] | None = None,
) -> Bill:
    """Bill a period.

    Parameters
    ----------
    tariff : the contract.
    import_kw : (N,) mean import of each interval, 0 or more [kW]. The interval divides the billing interval
        or is a multiple of it; the series starts on one of its edges.
    export_kw : (N,) mean export of each interval, 0 or more [kW], on the same intervals.
    peaks_before_kw : highest billing interval of a local month ("2026-03") before the period [kW].

    Raises
    ------
    DataError : the series do not match each other or the tariff, or hold a gap or a negative value.

    Notes
    -----
    A price is that of the start of each quarter of an hour, in local time, so that a day has 23, 24 or 25
    hours as the clock says. A billing interval belongs to the local month in which it starts. A billing
    interval of which the period holds only a part counts with the energy in it over its whole length.
    """
    _check(tariff, import_kw, export_kw)
    imported_kwh, starts = _quarters(import_kw)
    peaks = dict(peaks_before_kw) if peaks_before_kw is not None else {}
    for month, peak_kw in _interval_peaks(tariff, import_kw).items():
        peaks[month] = max(peaks.get(month, 0.0), peak_kw)
    shares = month_shares(tariff.timezone, import_kw.start, import_kw.end)
    exported_kwh = float(np.sum(export_kw.values)) * export_kw.step_s / 3600.0
    return Bill(
        currency=tariff.currency,
        energy=tuple(_energy_lines(tariff, starts, imported_kwh)),
        demand=tuple(
            DemandLine(
                month=month,
                peak_kw=peaks[month],
                month_share=share,
                cost=tariff.demand_charge_per_kw * peaks[month],
            )
            for month, share in shares.items()
        ),
        export_kwh=exported_kwh,
        export_revenue=tariff.export_per_kwh * exported_kwh,
        fixed_cost=tariff.fixed_per_month * math.fsum(shares.values()),
    )


def _check(tariff: Tariff, import_kw: UniformSeries, export_kw: UniformSeries) -> None:
    if (import_kw.start, import_kw.step_s) != (export_kw.start, export_kw.step_s) or (
        import_kw.values.shape != export_kw.values.shape
    ):
        raise DataError("import and export are not on the same intervals")
    for name, series in (("import", import_kw), ("export", export_kw)):
        if not len(series.values) or not np.isfinite(series.values).all():
            raise DataError(f"the {name} series is empty or has a gap")
        if float(np.min(series.values)) < 0.0:
            raise DataError(f"the {name} series has a negative value; import and export are billed apart")
    long_s, short_s = sorted((tariff.billing_interval_s, import_kw.step_s), reverse=True)
    if long_s % short_s > 1e-9:
        raise DataError(f"steps of {import_kw.step_s:g} s do not fit {tariff.billing_interval_s:g} s billing")
    if import_kw.start.timestamp() % min(import_kw.step_s, tariff.billing_interval_s) > 1e-9:
        raise DataError(f"the series starts at {import_kw.start.isoformat()}, between two intervals")


def _quarters(series: UniformSeries) -> tuple[FloatArray, list[datetime]]:
    """Energy and start of each step, steps longer than a quarter of an hour cut into quarters."""
    parts = max(1, round(series.step_s / PRICE_STEP_S))
    step_s = series.step_s / parts
    energy_kwh: FloatArray = np.repeat(series.values, parts) * step_s / 3600.0
    start = series.start.astimezone(UTC)
    return energy_kwh, [start + timedelta(seconds=i * step_s) for i in range(len(energy_kwh))]


def _energy_lines(tariff: Tariff, starts: list[datetime], kwh: FloatArray) -> Iterator[EnergyLine]:
    zone = ZoneInfo(tariff.timezone)
    priced = [(w.name, w.import_per_kwh) for w in tariff.windows]
    priced.append((DEFAULT_WINDOW, tariff.default_import_per_kwh))
    index = np.empty(len(starts), dtype=np.int64)
    known: dict[datetime, int] = {}
    for i, start in enumerate(starts):
        quarter = start - timedelta(seconds=start.timestamp() % PRICE_STEP_S)
        if quarter not in known:
            local = quarter.astimezone(zone)
            held = (n for n, w in enumerate(tariff.windows) if w.holds(local))
            known[quarter] = next(held, len(tariff.windows))
        index[i] = known[quarter]
    for n, (name, price) in enumerate(priced):
        total_kwh = math.fsum(kwh[index == n])
        yield EnergyLine(window=name, import_kwh=total_kwh, cost=total_kwh * price)


def _interval_peaks(tariff: Tariff, series: UniformSeries) -> dict[str, float]:
    """Highest billing interval by local month [kW]."""
    zone = ZoneInfo(tariff.timezone)
    billing_s = tariff.billing_interval_s
    parts = max(1, round(series.step_s / billing_s))
    step_s = series.step_s / parts
    values = np.repeat(series.values, parts)
    first = series.start.timestamp()
    index = np.floor((first + np.arange(len(values)) * step_s) / billing_s + 1e-9).astype(np.int64)
    index0 = int(index[0])
    mean_kw = np.bincount(index - index0, weights=values * step_s) / billing_s
    peaks: dict[str, float] = {}
    for i, kw in enumerate(mean_kw):
        start = datetime.fromtimestamp((index0 + i) * billing_s, tz=UTC).astimezone(zone)
        month = f"{start:%Y-%m}"
        peaks[month] = max(peaks.get(month, 0.0), float(kw))
    return peaks


def month_shares(timezone: str, start: datetime, end: datetime) -> dict[str, float]:
    """How much of each local month lies in [start, end): month -> share, 1 for a whole month.

    Real hours count, so that a month with a change of the clock is whole when all its hours are there.
    """
    zone = ZoneInfo(timezone)
    first = start.astimezone(zone)
    out: dict[str, float] = {}
    begin = datetime(first.year, first.month, 1, tzinfo=zone)
    while begin.timestamp() < end.timestamp():
        after = datetime(begin.year + begin.month // 12, begin.month % 12 + 1, 1, tzinfo=zone)
        inside_s = min(end.timestamp(), after.timestamp()) - max(start.timestamp(), begin.timestamp())
        out[f"{begin:%Y-%m}"] = inside_s / (after.timestamp() - begin.timestamp())
        begin = after
    return out
