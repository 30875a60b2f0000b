"""The only bill there is: what a period at the point of interconnection costs under a tariff.

The simulator's counters, the MILP and the reports are tested against it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from ems.bill_prices import RestsOn, StepPrices
from ems.charges import DemandLine, MonthLine, MonthUse, month_charges
from ems.contracts import IMPORT, ContractLine, contract_lines
from ems.errors import DataError
from ems.prices import SIDES, ToldPrices
from ems.series import UniformSeries
from ems.tariff import Tariff
from ems.timegrid import FloatArray, IntArray

PRICE_STEP_S = 900.0  # a price may change every quarter of an hour, not more often
DEFAULT_WINDOW = "default"
TARIFF = "tariff"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyLine:
    """Energy imported in one window of the tariff, or at the prices that an input told ("input <id>").

    `rests_on`: its versions in the order in which they first count; empty for a window of the tariff.
    """

    window: str
    import_kwh: float
    cost: float
    rests_on: tuple[RestsOn, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportLine:
    """Energy exported at the prices of the tariff ("tariff"), or at those that an input told."""

    source: str
    export_kwh: float
    revenue: float  # before limits of a credit
    rests_on: tuple[RestsOn, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ByRule:
    """What an input should have priced and did not: it is priced by the tariff of the site file instead."""

    import_kwh: float
    import_cost: float
    export_kwh: float
    export_revenue: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What was metered in the period's first month before the period."""

    peaks_kw: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # charge -> local month -> kW
    import_kwh: Mapping[str, float] = field(default_factory=dict)  # by local month


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A bill in the tariff's currency. `fixed_cost` is the share of the fixed charge by time.

    `blocks`, `power_factor` and `minimum` are empty where the tariff has none.
    """

    currency: str
    energy: tuple[EnergyLine, ...]
    demand: tuple[DemandLine, ...]
    export_kwh: float
    export_revenue: float
    fixed_cost: float
    blocks: tuple[MonthLine, ...] = ()
    power_factor: tuple[MonthLine, ...] = ()
    minimum: tuple[MonthLine, ...] = ()
    contracts: tuple[ContractLine, ...] = ()
    export: tuple[ExportLine, ...] = ()  # where prices were told, or should have been
    by_rule: ByRule | None = None  # None: no input tells prices
    prices_at: datetime | None = None  # as known at that time

    @property
    def energy_cost(self) -> float:
        """All energy charges, blocks included, export not deducted."""
        return math.fsum([*(e.cost for e in self.energy), *(b.cost for b in self.blocks)])

    @property
    def demand_cost(self) -> float:
        """Demand charges of whole months."""
        return math.fsum(line.cost for line in self.demand)

    @property
    def extra_cost(self) -> float:
        """Power factor charge, what is missing to the minimum, and contracts beside the hour's prices."""
        by_month = [line.cost for line in (*self.power_factor, *self.minimum)]
        return math.fsum([*by_month, *(line.cost for line in self.contracts)])

    @property
    def total_cost(self) -> float:
        """What is paid: energy, demand of whole months, fixed charge and the rest, less export."""
        return self.energy_cost + self.demand_cost + self.fixed_cost + self.extra_cost - self.export_revenue


def bill(
    tariff: Tariff,
    import_kw: UniformSeries,
    export_kw: UniformSeries,
    before: Before | None = None,
    reactive_kvar: UniformSeries | None = None,
    used_kw: Mapping[str, UniformSeries] | None = None,
    prices: ToldPrices | None = None,
) -> Bill:
    """Bill a period.

    Parameters
    ----------
    tariff : the contract.
    import_kw : (N,) mean import of each interval, 0 or more [kW]. The interval divides the billing interval
        or is a multiple of it; the series starts on one of its edges.
    export_kw : (N,) mean export of each interval, 0 or more [kW], on the same intervals.
    before : what the period's first month had seen before the period.
    reactive_kvar : (N,) mean reactive power drawn from the grid, 0 or more [kvar], on the same intervals;
        needed where the tariff bills kVA or the power factor.
    used_kw : (N,) mean power used of a PV plant, by its id [kW]; needed where a contract prices it.
    prices : told by inputs; where they tell nothing the tariff counts, and the bill says for how much.

    Raises
    ------
    DataError : the series do not match each other or the tariff, or hold a gap or a negative value.

    Notes
    -----
    A price is that of the start of each quarter of an hour, in local time, so that a day has 23, 24 or 25
    hours as the clock says. A billing interval belongs to the local month in which it starts. A billing
    interval of which the period holds only a part counts with the energy in it over its whole length.
    """
    given = [("import", import_kw), ("export", export_kw)]
    if reactive_kvar is not None:
        given.append(("reactive", reactive_kvar))
    elif tariff.bills_reactive:
        raise DataError("the tariff bills reactive power, and no series of it was given")
    used = {} if used_kw is None else used_kw
    for contract in tariff.contracts.energy:
        if contract.source not in (IMPORT, *used):
            raise DataError(f"contract {contract.name}: no series of {contract.source} was given")
    _check(tariff, [*given, *used.items()])
    imported_kwh, starts = _quarters(import_kw)
    window = _window_index(tariff, starts)
    told_in, told_out = (StepPrices.of(prices, side, starts) for side in SIDES)
    uses = _month_uses(tariff, import_kw, reactive_kvar, before if before is not None else Before())
    per_window = np.array([*(w.import_per_kwh for w in tariff.windows), tariff.default_import_per_kwh])
    cost = imported_kwh * told_in.over(per_window[window])
    by_month = _by_month(tariff, starts, cost)
    exported = _quarters(export_kw)[0]
    own = np.array([tariff.export_price(_quarter(x)) for x in starts]) if exported.any() else exported
    earned = exported * told_out.over(own)
    by_month_out = _by_month(tariff, starts, earned)
    uses = [
        replace(u, import_cost=by_month.get(u.month, 0.0), export_revenue=by_month_out.get(u.month, 0.0))
        for u in uses
    ]
    charges = month_charges(tariff, uses)
    exported_kwh = float(np.sum(export_kw.values)) * export_kw.step_s / 3600.0
    return Bill(
        currency=tariff.currency,
        energy=tuple(_energy_lines(tariff, window, imported_kwh, cost, told_in)),
        demand=charges.demand,
        export_kwh=exported_kwh,
        export_revenue=charges.export_revenue,
        fixed_cost=charges.fixed_cost,
        blocks=charges.blocks,
        power_factor=charges.power_factor,
        minimum=charges.minimum,
        contracts=_contracts(tariff, import_kw, used),
        export=() if prices is None else tuple(_export_lines(exported, earned, told_out)),
        by_rule=None
        if prices is None
        else _by_rule(told_in.untold(imported_kwh, cost), told_out.untold(exported, earned)),
        prices_at=None if prices is None else prices.at,
    )


def _by_rule(imported: tuple[float, float], exported: tuple[float, float]) -> ByRule:
    return ByRule(
        import_kwh=imported[0], import_cost=imported[1], export_kwh=exported[0], export_revenue=exported[1]
    )


def _quarter(start: datetime) -> datetime:
    return start - timedelta(seconds=start.timestamp() % PRICE_STEP_S)


def _contracts(
    tariff: Tariff, import_kw: UniformSeries, used_kw: Mapping[str, UniformSeries]
) -> tuple[ContractLine, ...]:
    """What is metered by name, priced."""
    if not tariff.contracts.any:
        return ()
    zone, metered = ZoneInfo(tariff.timezone), dict[str, float]()
    starts = _quarters(import_kw)[1]
    energy = {IMPORT: _quarters(import_kw)[0], **{i: _quarters(x)[0] for i, x in used_kw.items()}}
    for k, start in enumerate(starts):
        for name, source in tariff.contracts.active_meters(start, zone):
            metered[name] = metered.get(name, 0.0) + float(energy[source][k])
    return contract_lines(tariff.contracts, metered, import_kw.start, import_kw.end, zone)


def _check(tariff: Tariff, given: Sequence[tuple[str, UniformSeries]]) -> None:
    import_kw = given[0][1]
    for name, series in given:
        if (import_kw.start, import_kw.step_s) != (series.start, series.step_s) or (
            import_kw.values.shape != series.values.shape
        ):
            raise DataError(f"import and {name} are not on the same intervals")
    for name, series in given:
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


def _window_index(tariff: Tariff, starts: list[datetime]) -> IntArray:
    """Index of the window that prices each step; that of the default price where none holds."""
    index = np.empty(len(starts), dtype=np.int64)
    known: dict[datetime, int] = {}
    for i, start in enumerate(starts):
        quarter = start - timedelta(seconds=start.timestamp() % PRICE_STEP_S)
        if quarter not in known:
            held = tariff.window_at(quarter)
            known[quarter] = len(tariff.windows) if held is None else tariff.windows.index(held)
        index[i] = known[quarter]
    return index


def _energy_lines(
    tariff: Tariff, window: IntArray, kwh: FloatArray, cost: FloatArray, told: StepPrices
) -> Iterator[EnergyLine]:
    for name, here, rests_on in told.lines(kwh, cost):
        yield EnergyLine(
            window=name, import_kwh=math.fsum(kwh[here]), cost=math.fsum(cost[here]), rests_on=rests_on
        )
    by_tariff = told.by < 0
    priced = [(w.name, w.import_per_kwh) for w in tariff.windows]
    priced.append((DEFAULT_WINDOW, tariff.default_import_per_kwh))
    for n, (name, price) in enumerate(priced):
        total_kwh = math.fsum(kwh[(window == n) & by_tariff])
        yield EnergyLine(window=name, import_kwh=total_kwh, cost=total_kwh * price)


def _export_lines(kwh: FloatArray, money: FloatArray, told: StepPrices) -> Iterator[ExportLine]:
    for name, here, rests_on in told.lines(kwh, money):
        yield ExportLine(
            source=name, export_kwh=math.fsum(kwh[here]), revenue=math.fsum(money[here]), rests_on=rests_on
        )
    own = told.by < 0
    yield ExportLine(source=TARIFF, export_kwh=math.fsum(kwh[own]), revenue=math.fsum(money[own]))


def _by_month(tariff: Tariff, starts: list[datetime], values: FloatArray) -> dict[str, float]:
    """Sum of a value of each step by local month."""
    months: dict[str, list[float]] = {}
    zone = ZoneInfo(tariff.timezone)
    for start, value in zip(starts, values.tolist(), strict=True):
        months.setdefault(f"{start.astimezone(zone):%Y-%m}", []).append(value)
    return {month: math.fsum(parts) for month, parts in months.items()}


def _month_uses(
    tariff: Tariff, import_kw: UniformSeries, reactive_kvar: UniformSeries | None, before: Before
) -> list[MonthUse]:
    """Meters of each local month of the period, the energy charge not yet in them."""
    kwh, starts = _quarters(import_kw)
    energy_kwh = _by_month(tariff, starts, kwh)
    kvarh: dict[str, float] = {}
    if reactive_kvar is not None:
        kvarh = _by_month(tariff, starts, _quarters(reactive_kvar)[0])
    peaks = _interval_peaks(tariff, import_kw, reactive_kvar)
    return [
        MonthUse(
            month=month,
            month_share=share,
            import_kwh=energy_kwh.get(month, 0.0),
            import_kvarh=kvarh.get(month, 0.0),
            peaks_kw={
                charge: max(by_month.get(month, 0.0), before.peaks_kw.get(charge, {}).get(month, 0.0))
                for charge, by_month in peaks.items()
            },
            before_kwh=before.import_kwh.get(month, 0.0),
        )
        for month, share in month_shares(tariff.timezone, import_kw.start, import_kw.end).items()
    ]


def _interval_peaks(
    tariff: Tariff, import_kw: UniformSeries, reactive_kvar: UniformSeries | None
) -> dict[str, dict[str, float]]:
    """Highest billing interval by charge and local month [kW, kVA]."""
    zone = ZoneInfo(tariff.timezone)
    index0, mean_kw = _interval_means(tariff, import_kw)
    mean_kva = mean_kw
    if reactive_kvar is not None:
        mean_kva = np.hypot(mean_kw, _interval_means(tariff, reactive_kvar)[1])
    peaks: dict[str, dict[str, float]] = {c.name: {} for c in tariff.charges}
    for i, (kw, kva) in enumerate(zip(mean_kw.tolist(), mean_kva.tolist(), strict=True)):
        start = datetime.fromtimestamp((index0 + i) * tariff.billing_interval_s, tz=UTC).astimezone(zone)
        month, day_type = f"{start:%Y-%m}", tariff.day_type(start)
        for charge in tariff.charges:
            if charge.counts(start, day_type):
                own = peaks[charge.name]
                own[month] = max(own.get(month, 0.0), kva if charge.apparent else kw)
    return peaks


def _interval_means(tariff: Tariff, series: UniformSeries) -> tuple[int, FloatArray]:
    """Index since 1970 of the first billing interval, and the mean of each [kW]."""
    billing_s = tariff.billing_interval_s
    parts = max(1, round(series.step_s / billing_s))
    step_s = series.step_s / parts
    values = np.repeat(series.values, parts)
    first = series.start.timestamp()
    index = np.floor((first + np.arange(len(values)) * step_s) / billing_s + 1e-9).astype(np.int64)
    mean: FloatArray = np.bincount(index - int(index[0]), weights=values * step_s) / billing_s
    return int(index[0]), mean


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
