"""The simulator's own energy counters: ground truth, added up at each physics step."""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from ems.contracts import IMPORT
from ems.inputs import EXPORT as EXPORT_PRICE
from ems.inputs import IMPORT as IMPORT_PRICE
from ems.kpi import EnergyCounters, priced_key
from ems.points import GensetState
from ems.prices import ToldPrices
from ems.series import UniformSeries
from ems.site import Site
from ems.tariff import DemandCharge
from plant_models.plant import PlantFlows
from plant_models.rainflow import Turns, life_drawn_ratio, turned

Sums = defaultdict[str, float]
Counts = defaultdict[str, int]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OVER_CAP_TOLERANCE_KW = 1e-3
UNSERVED_TOLERANCE_KW = 1e-6
INTERVAL_KIND = "import_over_cap_interval"  # billing intervals whose mean import is over the cap


def _sums() -> Sums:
    return defaultdict(float)


def _counts() -> Counts:
    return defaultdict(int)


@dataclass(slots=True)
class Meter:
    """Adds up the flows of a run. `t0_epoch_s` is the start of the run in Unix time [s]."""

    site: Site
    t0_epoch_s: float
    stored_start_kwh: dict[str, float]
    settled: ToldPrices | None = None  # by which version each price is
    export_per_kwh: UniformSeries | None = None  # instead of the tariff's
    stored_end_kwh: dict[str, float] = field(default_factory=dict)
    duration_s: float = 0.0
    scalars: Sums = field(default_factory=_sums)
    demand_kwh: Sums = field(default_factory=_sums)
    unserved_kwh: Sums = field(default_factory=_sums)
    unserved_s: Sums = field(default_factory=_sums)
    pv_potential_kwh: Sums = field(default_factory=_sums)
    pv_kwh: Sums = field(default_factory=_sums)
    genset_kwh: Sums = field(default_factory=_sums)
    fuel_l: Sums = field(default_factory=_sums)
    run_h: Sums = field(default_factory=_sums)
    starts: Counts = field(default_factory=_counts)
    failed_starts: Counts = field(default_factory=_counts)
    cold_starts: Counts = field(default_factory=_counts)  # of those, where they are dearer
    left_load_s: dict[str, float] = field(default_factory=dict)  # when each genset was on load last
    charge_kwh: Sums = field(default_factory=_sums)
    discharge_kwh: Sums = field(default_factory=_sums)
    life_ratio: Sums = field(default_factory=_sums)  # cycle life used up, where it is known by depth
    turns: dict[str, Turns] = field(default_factory=dict)  # open cycles
    violations: Counts = field(default_factory=_counts)
    violation_s: Sums = field(default_factory=_sums)
    violation_max: dict[str, float] = field(default_factory=dict)  # in the violation's own unit
    peak_kw: dict[str, float] = field(default_factory=dict)  # by "2026-03", further charges by "2026-03 name"
    month_kwh: Sums = field(default_factory=_sums)
    month_cost: Sums = field(default_factory=_sums)
    month_kvarh: Sums = field(default_factory=_sums)
    month_revenue: Sums = field(default_factory=_sums)
    metered_kwh: Sums = field(default_factory=_sums)  # by name, of the tariff's contracts
    priced_kwh: Sums = field(default_factory=_sums)  # by side and version
    priced_money: Sums = field(default_factory=_sums)
    interval_kwh: list[float] = field(default_factory=list)  # import of each closed billing interval
    day_readings: list[EnergyCounters] = field(default_factory=list)  # at the end of each local day
    day_peaks_kw: list[dict[str, float]] = field(default_factory=list)  # the day's own
    _day_peak_kw: dict[str, float] = field(default_factory=dict)
    _open_kwh: float = 0.0
    _open_kvarh: float = 0.0
    _open_index: int | None = None
    _month: str = ""  # of the open billing interval
    _charges: tuple[DemandCharge, ...] = ()  # for which it counts, beside the main one

    def add(self, t_s: float, flows: PlantFlows, import_per_kwh: float) -> None:
        """Count a step that began `t_s` after the start of the run and lies within one billing interval."""
        dt_h = flows.dt_s / 3600.0
        self.duration_s += flows.dt_s
        self._grid(t_s, flows, dt_h, import_per_kwh)
        self._feeders(flows, dt_h)
        self._sources(flows, dt_h)
        self._cold_starts(t_s, flows)
        self._batteries(flows, dt_h)
        for v in flows.violations:
            self.count_violation(str(v.kind), flows.dt_s, v.amount)
        self.scalars["bus_dead_s"] += flows.dead_s
        self.scalars["islanded_s"] += flows.islanded_s
        self.scalars["residual_kwh"] += abs(flows.energy_residual_kwh)

    def count_violation(self, kind: str, dt_s: float, amount: float) -> None:
        """Count one violation that lasted `dt_s` [s]."""
        self.violations[kind] += 1
        self.violation_s[kind] += dt_s
        self.violation_max[kind] = max(self.violation_max.get(kind, 0.0), amount)

    def _grid(self, t_s: float, flows: PlantFlows, dt_h: float, import_per_kwh: float) -> None:
        kwh = flows.grid_p_kw * dt_h
        interval_s = self.site.tariff.billing_interval_s
        index = int((self.t0_epoch_s + t_s + 1e-6) // interval_s)
        if index != self._open_index:
            self.close_interval()
            self._open(index)
        kvarh = max(0.0, flows.grid_q_kvar) * dt_h
        self._open_kvarh += kvarh
        self.month_kvarh[self._month] += kvarh
        if kwh > 0.0:
            self._open_kwh += kwh
            self.scalars["import_kwh"] += kwh
            self.scalars["import_cost"] += kwh * import_per_kwh
            self.month_kwh[self._month] += kwh
            self.month_cost[self._month] += kwh * import_per_kwh
            self._priced(IMPORT_PRICE, t_s, kwh, kwh * import_per_kwh)
        elif kwh < 0.0:
            self.scalars["export_kwh"] -= kwh
            at = EPOCH + timedelta(seconds=self.t0_epoch_s + t_s + 1e-6)
            sell = self.export_per_kwh
            earned = -kwh * (self.site.tariff.export_price(at) if sell is None else sell.at(at))
            self._priced(EXPORT_PRICE, t_s, -kwh, earned)
            self.scalars["export_revenue"] += earned
            self.month_revenue[self._month] += earned
        if self.site.tariff.contracts.any:
            self._contracts(t_s, {IMPORT: max(0.0, kwh)} | {p: kw * dt_h for p, kw in flows.pv_p_kw.items()})

    def _priced(self, side: str, t_s: float, kwh: float, money: float) -> None:
        """By which version, or for want of one by the tariff, where an input was to tell this side."""
        if self.settled is None or side not in self.settled.expected:
            return
        at = EPOCH + timedelta(seconds=self.t0_epoch_s + t_s + 1e-6)
        number = self.settled.find(side, at)[1]
        key = priced_key(side, None if number < 0 else self.settled.versions[number].version)
        self.priced_kwh[key] += kwh
        self.priced_money[key] += money

    def _contracts(self, t_s: float, energy_kwh: dict[str, float]) -> None:
        at = EPOCH + timedelta(seconds=self.t0_epoch_s + t_s + 1e-6)
        for name, source in self.site.tariff.contracts.active_meters(at, ZoneInfo(self.site.tariff.timezone)):
            self.metered_kwh[name] += energy_kwh[source]

    def _open(self, index: int) -> None:
        tariff = self.site.tariff
        start = EPOCH + timedelta(seconds=index * tariff.billing_interval_s)
        self._open_index, self._month = index, tariff.month(start)
        self._charges = tariff.charges_at(start)[1:] if tariff.demand_charges else ()

    def close_interval(self) -> None:
        """Close the open billing interval: its mean counts for the month's peak and against the cap."""
        if self._open_index is None:
            return
        interval_s = self.site.tariff.billing_interval_s
        mean_kw = self._open_kwh * 3600.0 / interval_s
        mean_kva = math.hypot(mean_kw, self._open_kvarh * 3600.0 / interval_s)
        found = {self._month: mean_kw}
        found |= {f"{self._month} {c.name}": mean_kva if c.apparent else mean_kw for c in self._charges}
        for key, value in found.items():
            self.peak_kw[key] = max(self.peak_kw.get(key, 0.0), value)
            self._day_peak_kw[key] = max(self._day_peak_kw.get(key, 0.0), value)
        over_kw = mean_kw - self.site.grid.p_import_kw_max
        if over_kw > OVER_CAP_TOLERANCE_KW:
            self.count_violation(INTERVAL_KIND, interval_s, over_kw)
        self.interval_kwh.append(self._open_kwh)
        self._open_kwh, self._open_kvarh, self._open_index = 0.0, 0.0, None

    def close_day(self) -> None:
        """Read the counters at the end of a local day (or of the run)."""
        self.close_interval()
        self.day_readings.append(self.counters())
        self.day_peaks_kw.append(self._day_peak_kw)
        self._day_peak_kw = {}

    def _feeders(self, flows: PlantFlows, dt_h: float) -> None:
        for f, demand in flows.feeder_demand_kw.items():
            lost = demand - flows.feeder_p_kw[f]
            self.demand_kwh[f] += demand * dt_h
            if lost > UNSERVED_TOLERANCE_KW:
                self.unserved_kwh[f] += lost * dt_h
                self.unserved_s[f] += min(flows.dt_s, flows.dt_s * lost / demand)

    def _sources(self, flows: PlantFlows, dt_h: float) -> None:
        for g, p in flows.genset_p_kw.items():
            self.genset_kwh[g] += p * dt_h
            self.fuel_l[g] += flows.genset_fuel_l_h[g] * dt_h
            self.starts[g] += flows.genset_starts[g]
            self.failed_starts[g] += flows.genset_failed_starts[g]
            if flows.genset_fuel_l_h[g] > 0.0:
                self.run_h[g] += dt_h
        for pv, kw in flows.pv_p_kw.items():
            self.pv_kwh[pv] += kw * dt_h
            self.pv_potential_kwh[pv] += flows.pv_potential_kw[pv] * dt_h

    def _cold_starts(self, t_s: float, flows: PlantFlows) -> None:
        """A start is cold where the set will come on load after a longer rest than `cold_after_s`.

        A set that has not been on load in the run has rested for long.
        """
        for unit in self.site.gensets:
            if unit.cold_start_cost is None:
                continue
            if flows.genset_starts[unit.id]:
                on_load_s = t_s + unit.start_delay_s
                rest_s = on_load_s - self.left_load_s.get(unit.id, -math.inf)
                self.cold_starts[unit.id] += flows.genset_starts[unit.id] * int(rest_s > unit.cold_after_s)
            if flows.genset_state[unit.id] is GensetState.RUNNING:
                self.left_load_s[unit.id] = t_s + flows.dt_s

    def _batteries(self, flows: PlantFlows, dt_h: float) -> None:
        for b, p in flows.bess_p_kw.items():
            if p > 0.0:
                self.discharge_kwh[b] += p * dt_h
            else:
                self.charge_kwh[b] -= p * dt_h
            self.stored_end_kwh[b] = flows.bess_stored_kwh[b]
            self.scalars["loss_kwh"] += (flows.bess_loss_kw[b] + flows.bess_aux_kw[b]) * dt_h
        for unit in self.site.bess:
            if (life := unit.battery.cycle_life) is not None:
                energy_kwh = unit.battery.energy_kwh
                open_cycle = self.turns.get(unit.id, (self.stored_start_kwh[unit.id] / energy_kwh,))
                soc = flows.bess_stored_kwh[unit.id] / energy_kwh
                self.life_ratio[unit.id] += life_drawn_ratio(open_cycle, soc, life)
                self.turns[unit.id] = turned(open_cycle, soc)

    def counters(self) -> EnergyCounters:
        """Freeze what has been counted; the open billing interval is not in the peak yet."""
        s = self.scalars
        return EnergyCounters(
            duration_s=self.duration_s,
            demand_kwh=dict(self.demand_kwh),
            unserved_kwh=dict(self.unserved_kwh),
            unserved_s=dict(self.unserved_s),
            import_kwh=s["import_kwh"],
            export_kwh=s["export_kwh"],
            import_cost=s["import_cost"],
            export_revenue=s["export_revenue"],
            pv_potential_kwh=dict(self.pv_potential_kwh),
            pv_kwh=dict(self.pv_kwh),
            genset_kwh=dict(self.genset_kwh),
            fuel_l=dict(self.fuel_l),
            run_h=dict(self.run_h),
            starts=dict(self.starts),
            failed_starts=dict(self.failed_starts),
            cold_starts=dict(self.cold_starts),
            bess_charge_kwh=dict(self.charge_kwh),
            bess_discharge_kwh=dict(self.discharge_kwh),
            bess_life_used_ratio=dict(self.life_ratio),
            bess_stored_start_kwh=dict(self.stored_start_kwh),
            bess_stored_end_kwh=dict(self.stored_end_kwh),
            loss_kwh=s["loss_kwh"],
            peak_import_kw={k: v for k, v in self.peak_kw.items() if " " not in k},
            charge_peaks_kw={k: v for k, v in self.peak_kw.items() if " " in k},
            month_import_kwh=dict(self.month_kwh),
            month_import_cost=dict(self.month_cost),
            month_import_kvarh=dict(self.month_kvarh),
            month_export_revenue=dict(self.month_revenue),
            metered_kwh=dict(self.metered_kwh),
            priced_kwh=dict(self.priced_kwh),
            priced_money=dict(self.priced_money),
            violations=dict(self.violations),
            bus_dead_s=s["bus_dead_s"],
            islanded_s=s["islanded_s"],
            residual_kwh=s["residual_kwh"],
        )
