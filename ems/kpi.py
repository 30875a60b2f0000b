"""Energy counters of a run, and the one place where they become money and key figures."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from ems.billing import month_shares
from ems.charges import MonthUse, month_charges
from ems.contracts import contract_lines
from ems.errors import DataError
from ems.inputs import IMPORT
from ems.prices import SIDES, ToldPrices
from ems.site import Site
from ems.tariff import MAIN_CHARGE, Tariff

BY_TARIFF = "tariff"
PEAKS = frozenset(["peak_import_kw", "charge_peaks_kw"])  # counters that do not add up


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyCounters:
    """Ground truth of a period, added up at each physics step. Mappings are by asset id."""

    duration_s: float = 0.0
    demand_kwh: Mapping[str, float] = field(default_factory=dict)  # by feeder
    unserved_kwh: Mapping[str, float] = field(default_factory=dict)  # by feeder
    unserved_s: Mapping[str, float] = field(default_factory=dict)  # time with anything unserved, by feeder
    import_kwh: float = 0.0
    export_kwh: float = 0.0
    import_cost: float = 0.0  # energy charge only
    export_revenue: float = 0.0
    pv_potential_kwh: Mapping[str, float] = field(default_factory=dict)
    pv_kwh: Mapping[str, float] = field(default_factory=dict)
    genset_kwh: Mapping[str, float] = field(default_factory=dict)
    fuel_l: Mapping[str, float] = field(default_factory=dict)
    run_h: Mapping[str, float] = field(default_factory=dict)
    starts: Mapping[str, int] = field(default_factory=dict)
    failed_starts: Mapping[str, int] = field(default_factory=dict)
    cold_starts: Mapping[str, int] = field(default_factory=dict)  # of the starts, where they are dearer
    bess_charge_kwh: Mapping[str, float] = field(default_factory=dict)  # at the AC terminals
    bess_discharge_kwh: Mapping[str, float] = field(default_factory=dict)
    bess_life_used_ratio: Mapping[str, float] = field(
        default_factory=dict
    )  # of cycle life, by depth of cycle
    bess_stored_start_kwh: Mapping[str, float] = field(default_factory=dict)
    bess_stored_end_kwh: Mapping[str, float] = field(default_factory=dict)
    loss_kwh: float = 0.0
    peak_import_kw: Mapping[str, float] = field(
        default_factory=dict
    )  # by local month "2026-03": highest billing interval
    charge_peaks_kw: Mapping[str, float] = field(
        default_factory=dict
    )  # by "2026-03 <charge>": highest one that counts for a further demand charge; kVA where it is apparent
    month_import_kwh: Mapping[str, float] = field(default_factory=dict)  # by local month
    month_import_cost: Mapping[str, float] = field(default_factory=dict)  # energy charge only
    month_import_kvarh: Mapping[str, float] = field(default_factory=dict)  # reactive energy drawn
    month_export_revenue: Mapping[str, float] = field(default_factory=dict)  # at the prices of its hours
    metered_kwh: Mapping[str, float] = field(default_factory=dict)  # by name, for what a contract meters
    priced_kwh: Mapping[str, float] = field(default_factory=dict)  # by `priced_key`, where inputs tell prices
    priced_money: Mapping[str, float] = field(default_factory=dict)  # paid, of export earned
    violations: Mapping[str, int] = field(default_factory=dict)  # physics steps in violation, by kind
    bus_dead_s: float = 0.0
    islanded_s: float = 0.0
    residual_kwh: float = 0.0  # what the energy balance fails to close by

    def __add__(self, later: "EnergyCounters") -> "EnergyCounters":
        """Counters of this period and of the one right after it.

        Amounts add up, the peak of a month is the higher of the two, the batteries start as this period
        started and end as the later one ended.
        """
        out: dict[str, object] = {}
        for f in fields(self):
            mine, theirs = getattr(self, f.name), getattr(later, f.name)
            if f.name == "bess_stored_start_kwh":
                out[f.name] = {**theirs, **mine}
            elif f.name == "bess_stored_end_kwh":
                out[f.name] = {**mine, **theirs}
            elif f.name in PEAKS:
                out[f.name] = {k: max(mine.get(k, 0.0), theirs.get(k, 0.0)) for k in {**mine, **theirs}}
            elif isinstance(mine, Mapping):
                out[f.name] = {k: mine.get(k, 0) + theirs.get(k, 0) for k in {**mine, **theirs}}
            else:
                out[f.name] = mine + theirs
        return EnergyCounters(**out)  # type: ignore[arg-type]


def priced_key(side: str, version: int | None) -> str:
    """Name of a counter: energy of a side, import_per_kwh or export_per_kwh, at the price of a version.

    `version`: its number; None: no input told one, and the tariff counts.
    """
    return f"{side.partition('_')[0]} {BY_TARIFF if version is None else version}"


STORED_RULE = (
    "each kWh more or less in the batteries than at the start counts at the lowest import price of the 24 h "
    "after the period over the charging efficiency: what refilling it costs"
)


def stored_value_per_kwh(site: Site, end: datetime, told: ToldPrices | None = None) -> float:
    """Value of a kWh left in the batteries at `end` [money per kWh]: see STORED_RULE.

    `told`: prices that count before the tariff's.

    A rule by the average price would reward hoarding; at replacement cost neither an empty nor a full
    battery at midnight is an advantage.
    """
    quarters = [end + timedelta(minutes=15 * i) for i in range(96)]
    prices = [site.tariff.import_per_kwh(q) for q in quarters]
    if told is not None:
        found = [told.find(IMPORT, q) for q in quarters]
        prices = [own if by < 0 else price for own, (price, by) in zip(prices, found, strict=True)]
    price = min(prices)
    energy_kwh = math.fsum(b.battery.energy_kwh for b in site.bess)
    if energy_kwh <= 0.0:
        return price
    eta = math.fsum(b.battery.eta_charge * b.battery.energy_kwh for b in site.bess) / energy_kwh
    return price / eta


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTable:
    """Money and key figures of one run. A cost is positive when it is paid.

    `demand_cost` is what enters the totals: the charge of each month times the share of the month that lies
    in the period (`demand_label` says so); `demand_whole_cost` is the charge of whole months. `stored_cost`
    is negative when more is stored at the end than at the start. `wear_cost` is no cash and in no total.
    """

    duration_s: float
    currency: str
    energy_cost: float
    export_revenue: float
    demand_cost: float
    demand_whole_cost: float
    demand_label: str
    fixed_cost: float
    diesel_cost: float
    start_cost: float  # starts and running hours of gensets
    block_cost: float  # energy blocks
    extra_cost: float  # power factor charge, and what is missing to the tariff's minimum
    carbon_cost: float
    stored_cost: float
    voll_cost: float
    wear_cost: float
    fuel_l: float
    co2_kg: float
    run_h: Mapping[str, float]
    starts: Mapping[str, int]
    failed_starts: Mapping[str, int]
    demand_kwh: float
    unserved_tier_kwh: Mapping[int, float]
    renewable_ratio: float | None  # None when nothing was served
    curtailed_kwh: float
    peak_import_kw: float
    bess_throughput_kwh: float  # discharged at the AC terminals
    bess_cycles_count: float
    violations: Mapping[str, int]
    rule_kwh: float = 0.0  # imported and exported at prices of the tariff for want of told ones
    rule_cost: float = 0.0  # that import less that export

    @property
    def total_cost(self) -> float:
        """All cash costs, stored energy valued, without VOLL."""
        return (
            self.energy_cost
            - self.export_revenue
            + self.demand_cost
            + self.fixed_cost
            + self.diesel_cost
            + self.start_cost
            + self.block_cost
            + self.extra_cost
            + self.carbon_cost
            + self.stored_cost
        )

    @property
    def total_with_voll_cost(self) -> float:
        """The same plus the value of the load that was lost."""
        return self.total_cost + self.voll_cost

    @property
    def violation_count(self) -> int:
        """Physics steps in violation, all kinds."""
        return sum(self.violations.values())


def settle(
    site: Site,
    counters: EnergyCounters,
    *,
    start: datetime,
    stored_per_kwh: float | None = None,
    before_kwh: Mapping[str, float] | None = None,
) -> CostTable:
    """Turn counters into money and key figures; the only place where this is done.

    Parameters
    ----------
    site : tariff, diesel price, VOLL and genset costs.
    counters : ground truth of the period, in one piece from `start` on.
    start : start of the period.
    stored_per_kwh : value of stored energy [money per kWh]; None: `stored_value_per_kwh` at the end.
    before_kwh : import of a local month before the period, where blocks of energy go on from it [kWh].

    Raises
    ------
    DataError : the counters hold no time.

    Notes
    -----
    Renewable share: 1 - (E_genset + E_import) / (E_served + E_export), HOMER's definition. Charging the
    battery for the next day lowers it.
    """
    if not counters.duration_s > 0.0:
        raise DataError("counters of no time cannot be settled")
    end = start + timedelta(seconds=counters.duration_s)
    value = stored_value_per_kwh(site, end) if stored_per_kwh is None else stored_per_kwh
    shares = month_shares(site.tariff.timezone, start, end)
    uses = [_month_use(site.tariff, counters, m, x) for m, x in shares.items()]
    if before_kwh is not None:
        uses = [replace(u, before_kwh=before_kwh.get(u.month, 0.0)) for u in uses]
    charges = month_charges(site.tariff, uses)
    blocks = math.fsum(line.cost for line in charges.blocks)
    zone = ZoneInfo(site.tariff.timezone)
    contracts = contract_lines(site.tariff.contracts, counters.metered_kwh, start, end, zone)
    stored_kwh = _total(counters.bess_stored_end_kwh) - _total(counters.bess_stored_start_kwh)
    discharged_kwh = _total(counters.bess_discharge_kwh)
    energy_kwh = math.fsum(b.battery.energy_kwh for b in site.bess)
    fuel_l = _total(counters.fuel_l)
    by_rule = [priced_key(side, None) for side in SIDES]
    return CostTable(
        duration_s=counters.duration_s,
        currency=site.currency,
        energy_cost=counters.import_cost,
        export_revenue=charges.export_revenue if counters.month_export_revenue else counters.export_revenue,
        demand_cost=math.fsum(line.prorated_cost for line in charges.demand),
        demand_whole_cost=math.fsum(line.cost for line in charges.demand),
        demand_label=_demand_label(shares),
        fixed_cost=charges.fixed_cost,
        block_cost=blocks,
        extra_cost=charges.other_cost - blocks + math.fsum(line.cost for line in contracts),
        carbon_cost=site.carbon_per_l * fuel_l + site.carbon_per_kwh * counters.import_kwh,
        diesel_cost=site.diesel_per_l * fuel_l,
        start_cost=_genset_cost(site, counters),
        stored_cost=-value * stored_kwh,
        voll_cost=_voll_cost(site, counters),
        wear_cost=_wear_cost(site, counters),
        fuel_l=fuel_l,
        co2_kg=site.co2_kg_per_l * fuel_l + site.import_co2_kg_per_kwh * counters.import_kwh,
        run_h=counters.run_h,
        starts=counters.starts,
        failed_starts=counters.failed_starts,
        demand_kwh=_total(counters.demand_kwh),
        unserved_tier_kwh=_unserved_by_tier(site, counters),
        renewable_ratio=_renewable_ratio(counters),
        curtailed_kwh=_total(counters.pv_potential_kwh) - _total(counters.pv_kwh),
        peak_import_kw=max(counters.peak_import_kw.values(), default=0.0),
        bess_throughput_kwh=discharged_kwh,
        bess_cycles_count=discharged_kwh / energy_kwh if energy_kwh > 0.0 else 0.0,
        violations=counters.violations,
        rule_kwh=math.fsum(counters.priced_kwh.get(key, 0.0) for key in by_rule),
        rule_cost=counters.priced_money.get(by_rule[0], 0.0) - counters.priced_money.get(by_rule[1], 0.0),
    )


def _month_use(tariff: Tariff, counters: EnergyCounters, month: str, share: float) -> MonthUse:
    """What the counters hold of a local month."""
    peaks = {c.name: counters.charge_peaks_kw.get(f"{month} {c.name}", 0.0) for c in tariff.demand_charges}
    return MonthUse(
        month=month,
        month_share=share,
        import_kwh=counters.month_import_kwh.get(month, 0.0),
        import_cost=counters.month_import_cost.get(month, 0.0),
        import_kvarh=counters.month_import_kvarh.get(month, 0.0),
        export_revenue=counters.month_export_revenue.get(month, 0.0),
        peaks_kw={MAIN_CHARGE: counters.peak_import_kw.get(month, 0.0), **peaks},
    )


def _total(by_asset: Mapping[str, float]) -> float:
    return math.fsum(by_asset.values())


def _demand_label(shares: Mapping[str, float]) -> str:
    if all(abs(share - 1.0) < 1e-9 for share in shares.values()):
        return "demand charge"
    parts = {month: share for month, share in shares.items() if abs(share - 1.0) >= 1e-9}
    whole = len(shares) - len(parts)
    words = ", ".join(f"{100.0 * share:.1f} % of {month}" for month, share in parts.items())
    if whole:
        words += f" and {whole} whole month{'s' if whole > 1 else ''}"
    return f"demand charge, prorated to {words}"


def _genset_cost(site: Site, counters: EnergyCounters) -> float:
    return math.fsum(
        g.start_cost * counters.starts.get(g.id, 0)
        + (0.0 if g.cold_start_cost is None else g.cold_start_cost - g.start_cost)
        * counters.cold_starts.get(g.id, 0)
        + g.running_cost_per_h * counters.run_h.get(g.id, 0.0)
        for g in site.gensets
    )


def _wear_cost(site: Site, counters: EnergyCounters) -> float:
    """By throughput, and by depth of cycle where the site gives a cycle life."""
    return math.fsum(
        b.battery.wear_per_kwh * counters.bess_discharge_kwh.get(b.id, 0.0)
        + b.battery.wear_charge_per_kwh * counters.bess_charge_kwh.get(b.id, 0.0)
        + (
            b.battery.cycle_life.replacement_cost * counters.bess_life_used_ratio.get(b.id, 0.0)
            if b.battery.cycle_life is not None
            else 0.0
        )
        for b in site.bess
    )


def _voll_cost(site: Site, counters: EnergyCounters) -> float:
    return math.fsum(f.voll_per_kwh * counters.unserved_kwh.get(f.id, 0.0) for f in site.feeders)


def _unserved_by_tier(site: Site, counters: EnergyCounters) -> dict[int, float]:
    tiers = sorted({f.tier for f in site.feeders})
    return {
        t: math.fsum(counters.unserved_kwh.get(f.id, 0.0) for f in site.feeders if f.tier == t) for t in tiers
    }


def _renewable_ratio(counters: EnergyCounters) -> float | None:
    served_kwh = _total(counters.demand_kwh) - _total(counters.unserved_kwh) + counters.export_kwh
    if served_kwh <= 0.0:
        return None
    return 1.0 - (_total(counters.genset_kwh) + counters.import_kwh) / served_kwh


@dataclass(frozen=True, slots=True, kw_only=True)
class SavingsSplit:
    """What run `b` saves against run `a`, by cause; positive is saved. The parts add up to the total."""

    energy_money: float  # import less export, with blocks and reactive charges, stored energy valued
    demand_money: float
    diesel_money: float
    starts_money: float  # starts and running hours
    fixed_money: float
    voll_money: float
    carbon_money: float = 0.0

    @property
    def total_money(self) -> float:
        """All parts, VOLL included."""
        return self.without_voll_money + self.voll_money

    @property
    def without_voll_money(self) -> float:
        """All parts but VOLL."""
        energy = (self.energy_money, self.demand_money, self.fixed_money)
        return math.fsum([*energy, self.diesel_money, self.starts_money, self.carbon_money])


def savings_split(a: CostTable, b: CostTable) -> SavingsSplit:
    """What `b` saves against `a` (the baseline) over the same period."""
    return SavingsSplit(
        energy_money=_energy_cost(a) - _energy_cost(b),
        demand_money=a.demand_cost - b.demand_cost,
        diesel_money=a.diesel_cost - b.diesel_cost,
        starts_money=a.start_cost - b.start_cost,
        fixed_money=a.fixed_cost - b.fixed_cost,
        voll_money=a.voll_cost - b.voll_cost,
        carbon_money=a.carbon_cost - b.carbon_cost,
    )


def _energy_cost(t: CostTable) -> float:
    return t.energy_cost - t.export_revenue + t.block_cost + t.extra_cost + t.stored_cost
