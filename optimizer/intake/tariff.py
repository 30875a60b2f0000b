"""What the tariff remembers and expects, as numbers of one plan: peaks, targets, energy of the month."""

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from ems.condition import PlantCondition
from ems.invariants import require_finite
from ems.site import Site
from ems.tariff import MAIN_CHARGE, DemandCharge, Tariff
from ems.timegrid import BoolArray, TimeGrid
from optimizer.options import DemandWeight, PlannerOptions
from optimizer.outlook import MonthOutlook, month_end
from optimizer.problem import DemandMonth
from optimizer.tariff_parts import demand_parts


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffNumbers:
    """What one plan starts from: the main demand charge, the parts of further ones, energy of the months."""

    months: tuple[DemandMonth, DemandMonth]
    demand_parts: tuple[tuple[DemandMonth, DemandMonth], ...]
    blocks_used_kwh: tuple[float, float]
    kvarh_before: tuple[float, float]


def tariff_numbers(
    site: Site,
    condition: PlantCondition,
    grid: TimeGrid,
    options: PlannerOptions,
    outlook: MonthOutlook | None,
    notes: list[str],
) -> TariffNumbers:
    """Present local month and the next one, charge by charge.

    Raises
    ------
    BadValue : a peak or an energy of the condition is not finite.
    """
    zone = ZoneInfo(site.tariff.timezone)
    left_s = (month_end(grid.start, site.tariff.timezone) - grid.start).total_seconds()
    here = grid.offset_s[:-1] < left_s - 1e-6
    span = _Span(zone=zone, grid=grid, here=here, options=options, outlook=outlook)
    if outlook is not None and options.demand_weight is DemandWeight.TARGET:
        notes.extend(outlook.words(month) for month in span.months if month)
    so_far = max(0.0, require_finite("peak import of the month", condition.peak_import_kw))
    parts = []
    for part in demand_parts(site.tariff):
        name = part.charge.name
        peak = condition.charge_peaks_kw.get(name, 0.0)
        peak = max(0.0, require_finite(f"peak of the demand charge {name}", peak))
        bases = [
            max(0.0 if j else peak, part.floor_kw(month) if month else 0.0)
            for j, month in enumerate(span.months)
        ]
        counts = _counting(site.tariff, part.charge, grid)
        parts.append(span.charge(name, part.rate_per_kw, bases, counts))
    every = np.ones(len(grid), dtype=np.bool_)
    return TariffNumbers(
        months=span.charge(MAIN_CHARGE, site.tariff.demand_charge_per_kw, [so_far, 0.0], every),
        demand_parts=tuple(parts),
        blocks_used_kwh=_blocks_used(site.tariff, condition, span, notes),
        kvarh_before=(_kvarh_before(site.tariff, condition), 0.0),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """A plan's steps; `here` (T,) those of the present local month."""

    zone: ZoneInfo
    grid: TimeGrid
    here: BoolArray
    options: PlannerOptions
    outlook: MonthOutlook | None

    @property
    def months(self) -> tuple[str, str]:
        """Present month, and the next one or nothing."""
        later = "" if self.here.all() else f"{self.local(int(np.argmin(self.here))):%Y-%m}"
        return f"{self.local(0):%Y-%m}", later

    def local(self, t: int) -> datetime:
        """Edge of the grid at the start of step `t` in local time."""
        return (self.grid.start + timedelta(seconds=float(self.grid.offset_s[t]))).astimezone(self.zone)

    def charge(
        self, name: str, rate_per_kw: float, bases: Sequence[float], counts: BoolArray
    ) -> tuple[DemandMonth, DemandMonth]:
        """One charge in both months: its base raised to the target, its rate weighted."""
        out = []
        for steps, month, base in zip((self.here, ~self.here), self.months, bases, strict=True):
            target, weight = self._target(name, month)
            share = self._demand_share(steps, weight)
            out.append(
                DemandMonth(steps=steps & counts, base_kw=max(base, target), rate_per_kw=rate_per_kw * share)
            )
        return out[0], out[1]

    def _target(self, name: str, month: str) -> tuple[float, DemandWeight]:
        """Demand that costs nothing more in a month, and the weight of what is above."""
        o = self.options
        if o.demand_target_kw is not None and name == MAIN_CHARGE:
            return o.demand_target_kw, o.demand_weight
        if o.demand_weight is not DemandWeight.TARGET:
            return 0.0, o.demand_weight
        peaks = {} if self.outlook is None else self.outlook.peaks_of(name)
        if month not in peaks:
            return 0.0, DemandWeight.REMAINING
        return peaks[month], DemandWeight.FULL

    def _demand_share(self, steps: BoolArray, weight: DemandWeight) -> float:
        """Share of the demand rate that the steps of one local month are made to feel, 0 to 1."""
        of_month = np.flatnonzero(steps)
        if not len(of_month):
            return 1.0
        begin, end = self.local(int(of_month[0])), self.local(int(of_month[-1]) + 1)
        month_h = 24.0 * calendar.monthrange(begin.year, begin.month)[1]
        gone_h = (begin.day - 1) * 24.0 + begin.hour + begin.minute / 60.0
        window_h = (end.timestamp() - begin.timestamp()) / 3600.0
        match weight:
            case DemandWeight.FULL:
                return 1.0
            case DemandWeight.REMAINING | DemandWeight.TARGET:
                return min(1.0, window_h / max(month_h - gone_h, window_h))
            case DemandWeight.ELAPSED:
                return min(1.0, (gone_h + window_h) / month_h)


def _counting(tariff: Tariff, charge: DemandCharge, grid: TimeGrid) -> BoolArray:
    """(T,) steps in which a billing interval of the charge begins or goes on."""
    billing_s, zone = tariff.billing_interval_s, ZoneInfo(tariff.timezone)
    out = np.zeros(len(grid), dtype=np.bool_)
    known: dict[float, bool] = {}
    for t, (start, step_s) in enumerate(zip(grid.starts(), grid.step_s, strict=True)):
        at_s = start.timestamp()
        interval_s = at_s - at_s % billing_s
        while interval_s < at_s + step_s - 1e-6:
            if interval_s not in known:
                begins = datetime.fromtimestamp(interval_s, tz=zone)
                known[interval_s] = charge.counts(begins, tariff.day_type(begins))
            out[t] |= known[interval_s]
            interval_s += billing_s
    return out


def _blocks_used(
    tariff: Tariff, condition: PlantCondition, span: _Span, notes: list[str]
) -> tuple[float, float]:
    """Import of each month outside the window: what is metered and what is expected after it [kWh]."""
    if not tariff.energy_blocks:
        return 0.0, 0.0
    metered = max(0.0, require_finite("import of the month", condition.month_import_kwh))
    if span.outlook is None or span.outlook.failed:
        notes.append("energy blocks: priced as if nothing were imported after the window")
        return metered, 0.0
    later = [span.outlook.import_after_kwh(span.grid.end, m, tariff.timezone) for m in span.months]
    return metered + later[0], later[1]


def _kvarh_before(tariff: Tariff, condition: PlantCondition) -> float:
    """Reactive energy of the present month beyond what its active energy is allowed, so far [kvarh]."""
    charge = tariff.power_factor
    if charge is None:
        return 0.0
    active = max(0.0, require_finite("import of the month", condition.month_import_kwh))
    reactive = max(0.0, require_finite("reactive import of the month", condition.month_import_kvarh))
    return reactive - charge.free_kvarh_per_kwh * active


def history_kwh(site: Site, condition: PlantCondition, grid: TimeGrid) -> tuple[float, float]:
    """Import already in the open billing interval, if the grid starts inside the same one [kWh, kvarh]."""
    billing_s = site.tariff.billing_interval_s
    into_s = grid.start.timestamp() % billing_s
    if into_s < 1.0 or condition.interval_elapsed_s < 1.0:
        return 0.0, 0.0
    active = require_finite("import of the open billing interval", condition.interval_import_kwh)
    reactive = require_finite("reactive import of the open interval", condition.interval_import_kvarh)
    return max(0.0, active), max(0.0, reactive)
