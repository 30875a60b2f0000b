"""Lower bound on the cost of a whole period, for any controller: one linear program on the truth.

Everything is relaxed in the cheap direction: commitment is fractional, losses lie below the curve, no reserve
is held, tapers and minimum times are left out, and the demand charge sees the mean of a step. The bus
balances exactly, so that a negative price is not paid for energy that goes nowhere. A plant that runs its
units inside their ratings cannot cost less; how much more it costs is the regret of its controller.

    min  energy + demand by month + diesel + starts and running hours + unserved at VOLL - stored energy

The terms are those of `ems.kpi.settle`. Solved by HiGHS' interior point method without crossover; the figure
reported is the *dual* objective, a bound up to the solver's tolerance (1e-7 relative).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from zoneinfo import ZoneInfo

import numpy as np
from scipy import sparse

from ems.assets import BatteryParams
from ems.billing import month_shares
from ems.clock import wall_s
from ems.errors import DataError
from ems.kpi import stored_value_per_kwh
from ems.site import Site
from ems.timegrid import FloatArray, IntArray, TimeGrid
from optimizer.formulations.battery import decay
from optimizer.formulations.blocks import left_kwh
from optimizer.segments import fuel_segments
from optimizer.solve import solve_lp
from optimizer.tariff_parts import DemandPart, demand_cuts, demand_parts
from plant_models.battery import stored_kw_array
from plant_models.linearize import least_loss

TANGENTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodTruth:
    """What happened, as means over each step of `grid`; T steps."""

    grid: TimeGrid
    load_kw: Mapping[str, FloatArray]  # (T,) by feeder
    pv_kw: Mapping[str, FloatArray]  # (T,) by PV plant, before curtailment
    import_per_kwh: FloatArray
    export_per_kwh: FloatArray
    grid_share: FloatArray  # (T,) share of the step with mains, 0 to 1
    soc_start: Mapping[str, float]
    peaks_before_kw: Mapping[str, float] = field(default_factory=dict)  # by local month "2026-03"
    stored_per_kwh: float | None = None  # None: ems.kpi.stored_value_per_kwh at the end
    charge_peaks_before_kw: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # charge -> month
    before_kwh: Mapping[str, float] = field(default_factory=dict)  # import of a local month before the period
    expected: bool = False  # an expectation, not a bound: whole months are charged, reactive power counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """No controller is cheaper than `cost`. `terms` add up to the primal optimum, equal within tolerance."""

    cost: float  # money
    terms: Mapping[str, float]  # money; names of ems.kpi.CostTable, revenue negative
    peak_kw: Mapping[str, float]  # by local month
    charge_peaks_kw: Mapping[str, Mapping[str, float]]  # of further demand charges, by local month
    status: str
    solve_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Peaks:
    """Columns of the peaks: main charge by month, further ones by name and month; what is paid anyway."""

    main: dict[str, int]
    further: dict[str, dict[str, int]]
    sunk_cost: float  # negative: what a kW up to a floor is credited


class _Lp:
    """Columns and rows by name, collected as triplets."""

    def __init__(self) -> None:
        self.low, self.high, self.cost = list[FloatArray](), list[FloatArray](), list[FloatArray]()
        self.terms: dict[str, list[tuple[IntArray, FloatArray]]] = {}
        self.columns = self.rows = 0
        self.entries: list[tuple[IntArray, IntArray, FloatArray]] = []
        self.row_low, self.row_high = list[FloatArray](), list[FloatArray]()

    def var(self, count: int, high: FloatArray | float = np.inf, low: FloatArray | float = 0.0) -> IntArray:
        """`count` new columns."""
        at = np.arange(self.columns, self.columns + count, dtype=np.int64)
        self.columns += count
        self.low.append(np.broadcast_to(np.asarray(low, dtype=np.float64), count))
        self.high.append(np.broadcast_to(np.asarray(high, dtype=np.float64), count))
        return at

    def price(self, term: str, at: IntArray, money: FloatArray | float) -> None:
        """Cost per unit of columns, under a term."""
        self.terms.setdefault(term, []).append(
            (at, np.broadcast_to(np.asarray(money, dtype=np.float64), len(at)))
        )

    def add(
        self,
        count: int,
        parts: list[tuple[IntArray, FloatArray | float]],
        low: FloatArray | float = -np.inf,
        high: FloatArray | float = np.inf,
    ) -> None:
        """`count` rows: low <= sum of value * column <= high, row by row. A column of -1 is left out."""
        rows = np.arange(self.rows, self.rows + count, dtype=np.int64)
        for at, value in parts:
            keep = at >= 0
            filled = np.broadcast_to(np.asarray(value, dtype=np.float64), count)
            self.entries.append((rows[keep], at[keep], filled[keep]))
        self.rows += count
        self.row_low.append(np.broadcast_to(np.asarray(low, dtype=np.float64), count))
        self.row_high.append(np.broadcast_to(np.asarray(high, dtype=np.float64), count))

    def total(self, at: IntArray, value: FloatArray, less: IntArray) -> None:
        """One row: the sum of value * column over `at` is that of the columns `less`."""
        for columns, values in ((at, value), (less, -np.ones(len(less)))):
            rows = np.full(len(columns), self.rows, dtype=np.int64)
            self.entries.append((rows, columns, values))
        self.rows += 1
        self.row_low.append(np.zeros(1))
        self.row_high.append(np.zeros(1))

    def matrix(self) -> sparse.csc_matrix:
        """Rows by columns."""
        i, j, v = (np.concatenate([e[k] for e in self.entries]) for k in range(3))
        return sparse.csc_matrix((v, (i, j)), shape=(self.rows, self.columns))

    def costs(self) -> FloatArray:
        """Objective."""
        out = np.zeros(self.columns)
        for parts in self.terms.values():
            for at, money in parts:
                np.add.at(out, at, money)
        return out


def period_bound(site: Site, truth: PeriodTruth) -> Bound:
    """Bound of a period, in one LP: see `period_solution`."""
    return period_solution(site, truth)[0]


def period_solution(site: Site, truth: PeriodTruth) -> tuple[Bound, FloatArray]:
    """Bound of a period and the import (T,) that reaches it [kW], in one LP.

    Parameters
    ----------
    site : Site
    truth : PeriodTruth
        Hourly steps are enough for a year (8,760 steps); finer steps give a higher bound.

    Raises
    ------
    DataError : a series is not finite, has the wrong length, or the LP does not solve.
    """
    h, T = truth.grid.step_h, len(truth.grid)
    _check(truth, site)
    lp = _Lp()
    imported = lp.var(T, site.grid.p_import_kw_max * truth.grid_share)
    exported = lp.var(T, site.grid.p_export_kw_max * truth.grid_share)
    lp.price("energy_cost", imported, truth.import_per_kwh * h)
    lp.price("carbon_cost", imported, site.carbon_per_kwh * h)
    lp.price("export_revenue", exported, -truth.export_per_kwh * h)
    bus: list[tuple[IntArray, FloatArray | float]] = [(imported, 1.0), (exported, -1.0)]
    for plant in site.pv:
        bus.append((lp.var(T, np.minimum(truth.pv_kw[plant.id], plant.p_ac_kw)), 1.0))
    for feeder in site.feeders:
        shed = lp.var(T, truth.load_kw[feeder.id])
        lp.price("voll_cost", shed, feeder.voll_per_kwh * h)
        bus.append((shed, 1.0))
    _gensets(lp, site, h, bus)
    offset = _batteries(lp, site, truth, bus)
    demand = np.sum([truth.load_kw[f.id] for f in site.feeders], axis=0) if site.feeders else np.zeros(T)
    aux = sum(b.battery.aux_kw for b in site.bess)
    short = lp.var(T, aux)
    lp.add(T, [*bus, (short, 1.0)], demand + aux, demand + aux)
    peaks = _demand(lp, site, truth, imported)
    _blocks(lp, site, truth, imported)
    _events(lp, site, truth)
    months = sum(month_shares(site.tariff.timezone, truth.grid.start, truth.grid.end).values())
    return _solved(lp, offset, site.tariff.fixed_per_month * months, peaks, imported)


def _solved(
    lp: _Lp, offset: float, fixed: float, peaks: _Peaks, imported: IntArray
) -> tuple[Bound, FloatArray]:
    begun = wall_s()
    cost = lp.costs()
    solved = solve_lp(
        lp.matrix(), cost, np.concatenate(lp.low), np.concatenate(lp.high),
        np.concatenate(lp.row_low), np.concatenate(lp.row_high),
    )  # fmt: skip
    if solved.x is None or solved.dual is None:
        raise DataError(f"the bound's linear program ended with {solved.status}")
    x = solved.x
    terms = {name: sum(float(m @ x[at]) for at, m in parts) for name, parts in lp.terms.items()}
    terms["stored_cost"] = terms.get("stored_cost", 0.0) + offset
    terms["fixed_cost"] = fixed
    terms["demand_cost"] = terms.get("demand_cost", 0.0) + peaks.sunk_cost
    bound = Bound(
        cost=solved.dual + offset + fixed + peaks.sunk_cost,
        terms=terms,
        peak_kw={month: float(x[at]) for month, at in peaks.main.items()},
        charge_peaks_kw={
            charge: {month: float(x[at]) for month, at in months.items()}
            for charge, months in peaks.further.items()
        },
        status=solved.status,
        solve_s=wall_s() - begun,
    )
    return bound, x[imported]


def _gensets(lp: _Lp, site: Site, h: FloatArray, bus: list[tuple[IntArray, FloatArray | float]]) -> None:
    """Fractional commitment on the convex hull of the fuel curve and the origin."""
    T = len(h)
    for unit in site.gensets:
        curve = fuel_segments(unit)
        on, start = lp.var(T, 1.0), lp.var(T)
        before = np.concatenate([[-1], on[:-1]])
        lp.add(T, [(on, 1.0), (before, -1.0), (start, -1.0)], -np.inf, 0.0)
        lp.price("start_cost", start[1:], unit.start_cost)  # it may have been running before
        lp.price("start_cost", on, unit.running_cost_per_h * h)
        for term, per_l in (("diesel_cost", site.diesel_per_l), ("carbon_cost", site.carbon_per_l)):
            lp.price(term, on, per_l * curve.idle_l_h * h)
        bus.append((on, unit.p_min_kw))
        for width, slope in zip(curve.width_kw, curve.slope_l_kwh, strict=True):
            piece = lp.var(T)
            lp.add(T, [(piece, 1.0), (on, -float(width))], -np.inf, 0.0)
            lp.price("diesel_cost", piece, site.diesel_per_l * float(slope) * h)
            lp.price("carbon_cost", piece, site.carbon_per_l * float(slope) * h)
            bus.append((piece, 1.0))


def _tangents(p: BatteryParams, sign: float, p_max: float) -> tuple[FloatArray, FloatArray]:
    """Widths and slopes of the upper hull of stored power by tangents: never more loss than the curve."""
    curve = p.discharge_curve if sign > 0.0 else p.charge_curve
    if curve is not None:
        widths, loss = (np.array(x) for x in least_loss(p, curve, sign))
        return widths, -sign - loss
    at = np.linspace(0.0, p_max, TANGENTS)
    edges = np.concatenate([[0.0], (at[:-1] + at[1:]) / 2.0, [p_max]])
    step = 1e-4 * p_max
    slope = (
        stored_kw_array(p, sign * (at + step)) - stored_kw_array(p, sign * np.maximum(at - step, 0.0))
    ) / (step + np.minimum(at, step))
    return np.diff(edges), slope


def _batteries(
    lp: _Lp, site: Site, truth: PeriodTruth, bus: list[tuple[IntArray, FloatArray | float]]
) -> float:
    """Stored energy with optimistic losses; returns the constant of its value at the start."""
    h, T, offset = truth.grid.step_h, len(truth.grid), 0.0
    value = truth.stored_per_kwh
    value = stored_value_per_kwh(site, truth.grid.end) if value is None else value
    for unit in site.bess:
        p = unit.battery
        first = truth.soc_start[unit.id] * p.energy_kwh
        low, high = p.soc_min * p.energy_kwh, p.soc_max * p.energy_kwh
        stored = lp.var(T, max(high, first), min(low, first))
        fade, share = decay(p, h)
        before = np.concatenate([[-1], stored[:-1]])
        parts: list[tuple[IntArray, FloatArray | float]] = [(stored, 1.0), (before, -(1.0 - fade))]
        hull: list[tuple[IntArray, FloatArray | float]] = []
        for sign, top in ((-1.0, p.p_charge_kw_max), (1.0, p.p_discharge_kw_max)):
            for width, slope in zip(*_tangents(p, sign, top), strict=True):
                piece = lp.var(T, float(width))
                parts.append((piece, -h * share * float(slope)))
                hull.append((piece, 1.0 / top))
                bus.append((piece, sign))
        lp.add(T, hull, -np.inf, 1.0)
        inflow = np.concatenate([[(1.0 - fade[0]) * first], np.zeros(T - 1)])
        lp.add(T, parts, -np.inf, inflow - p.no_load_loss_kw * h * share)
        lp.price("stored_cost", stored[-1:], -value)
        offset += value * first
    return offset


def _months_of(site: Site, truth: PeriodTruth) -> dict[str, IntArray]:
    """Steps of each local month."""
    zone = ZoneInfo(site.tariff.timezone)
    names = np.array([s.astimezone(zone).strftime("%Y-%m") for s in truth.grid.starts()])
    return {month: np.flatnonzero(names == month) for month in dict.fromkeys(names.tolist())}


def _demand(lp: _Lp, site: Site, truth: PeriodTruth, imported: IntArray) -> _Peaks:
    """Peak of each local month and charge, charged by the month's share in the period as ems.kpi does."""
    months = _months_of(site, truth)
    shares = dict.fromkeys(months, 1.0)
    if not truth.expected:
        shares = month_shares(site.tariff.timezone, truth.grid.start, truth.grid.end)
    whole = truth.grid.step_h * 3600.0 >= site.tariff.billing_interval_s - 1e-6
    main: dict[str, int] = {}
    further: dict[str, dict[str, int]] = {}
    sunk = 0.0
    for month, steps in months.items():
        peak = lp.var(1, np.inf, truth.peaks_before_kw.get(month, 0.0))
        lp.price("demand_cost", peak, site.tariff.demand_charge_per_kw * shares.get(month, 0.0))
        at = steps[whole[steps]]
        lp.add(len(at), [(imported[at], 1.0), (np.repeat(peak, len(at)), -1.0)], -np.inf, 0.0)
        main[month] = int(peak[0])
        for part in demand_parts(site.tariff):
            rate = part.rate_per_kw * shares.get(month, 0.0)
            column = _part(lp, site, truth, part, month, imported, at)
            lp.price("demand_cost", column, rate)
            if part.excess:
                sunk -= rate * part.floor_kw(month)
            else:
                further.setdefault(part.charge.name, {})[month] = int(column[0])
    return _Peaks(main=main, further=further, sunk_cost=sunk)


def _part(
    lp: _Lp, site: Site, truth: PeriodTruth, part: DemandPart, month: str, imported: IntArray, at: IntArray
) -> IntArray:
    """Column of a charge's demand in a month; of apparent power only the active part, but in an expectation.

    A step counts when all of it lies in the charge's windows: fewer steps are a lower bound.
    """
    before = truth.charge_peaks_before_kw.get(part.charge.name, {}).get(month, 0.0)
    column = lp.var(1, np.inf, max(before, part.floor_kw(month)))
    zone = ZoneInfo(site.tariff.timezone)
    starts = truth.grid.starts()
    billing_s = site.tariff.billing_interval_s

    def counts(t: int) -> bool:
        inside = (starts[t] + timedelta(seconds=x) for x in np.arange(0.0, truth.grid.step_s[t], billing_s))
        local = [x.astimezone(zone) for x in inside]
        return all(part.charge.counts(x, site.tariff.day_type(x)) for x in local)

    own = at[[counts(int(t)) for t in at]] if len(at) else at
    kvar = np.zeros(len(own))
    if part.charge.apparent and truth.expected:
        tangents = {f.id: (1.0 / f.power_factor_ratio**2 - 1.0) ** 0.5 for f in site.feeders}
        kvar = sum((tangents[f] * kw[own] for f, kw in truth.load_kw.items()), kvar) * truth.grid_share[own]
    for cut in demand_cuts((part,)):
        under: list[tuple[IntArray, FloatArray | float]] = [
            (imported[own], cut.active_ratio),
            (np.repeat(column, len(own)), -1.0),
        ]
        lp.add(len(own), under, -np.inf, -cut.reactive_ratio * kvar)
    return column


def _blocks(lp: _Lp, site: Site, truth: PeriodTruth, imported: IntArray) -> None:
    """Energy blocks of each month, cheaper ones in any order: a lower bound."""
    blocks, h = site.tariff.energy_blocks, truth.grid.step_h
    if not blocks:
        return
    for month, steps in _months_of(site, truth).items():
        most = site.grid.p_import_kw_max * float(h[steps].sum())
        column = lp.var(len(blocks), left_kwh(blocks, truth.before_kwh.get(month, 0.0), most))
        lp.price("block_cost", column, np.array([b.add_per_kwh for b in blocks]))
        lp.total(imported[steps], h[steps], column)


def _events(lp: _Lp, site: Site, truth: PeriodTruth) -> None:
    """Demand-response events that the period pays for, each as if all of its commitment were delivered.

    The other elements of a contract only ever cost more than what is priced here already.
    """
    begin, end = truth.grid.start, truth.grid.end
    paid = [e.per_kw * e.committed_kw for e in site.tariff.contracts.events if begin < e.end <= end]
    if paid:
        lp.price("extra_cost", lp.var(1, 1.0, 1.0), -float(sum(paid)))


def _check(truth: PeriodTruth, site: Site) -> None:
    T = len(truth.grid)
    series: dict[str, FloatArray] = {f"load of {f.id}": truth.load_kw[f.id] for f in site.feeders}
    series |= {f"PV of {p.id}": truth.pv_kw[p.id] for p in site.pv}
    series |= {"import price": truth.import_per_kwh, "export price": truth.export_per_kwh}
    series |= {"share with mains": truth.grid_share}
    for name, values in series.items():
        if np.shape(values) != (T,) or not np.isfinite(values).all():
            raise DataError(f"bound: {name} must be {T} finite values")
