"""What energy costs: time-of-use windows in local time, blocks, demand charges, export, fixed charge."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from ems.contracts import IMPORT, Contracts, CreditBasis, ExportCredit, ExportWindow
from ems.timegrid import FloatArray, TimeGrid
from ems.windows import HOLIDAY as HOLIDAY
from ems.windows import LocalWindow as LocalWindow

MAIN_CHARGE = "demand"  # name of the charge of `demand_charge_per_kw`


@dataclass(frozen=True, slots=True, kw_only=True)
class TouWindow(LocalWindow):
    """A priced window of local time."""

    name: str
    import_per_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandCharge:
    """A charge on the highest billing interval of a local month, of those that start in its windows.

    Billed is the highest of: the month's own peak; `ratchet_ratio` of the highest peak of the `ratchet_count`
    months before; `contracted_ratio` of the contracted demand. What the month's own peak has above the
    contracted demand costs `excess_per_kw` more. With `apparent` every kW here is a kVA.
    """

    name: str
    per_kw: float
    windows: tuple[LocalWindow, ...] = ()  # none: at all times
    apparent: bool = False  # measured in kVA
    ratchet_ratio: float = 0.0
    ratchet_count: int = 11  # months looked back upon
    past_peaks_kw: Mapping[str, float] = field(default_factory=dict)  # by local month "2025-11"
    contracted_kw: float | None = None  # notified maximum demand
    contracted_ratio: float = 0.0  # share of it that is billed in any case
    excess_per_kw: float = 0.0

    def counts(self, local: datetime, day_type: int) -> bool:
        """Whether a billing interval that starts at this local time counts."""
        return not self.windows or any(w.holds(local, day_type) for w in self.windows)

    def floor_kw(self, month: str, peaks_kw: Mapping[str, float] | None = None) -> float:
        """What a local month ("2026-03") is billed at least, `peaks_kw` adding to the known months [kW]."""
        low = 0.0 if self.contracted_kw is None else self.contracted_ratio * self.contracted_kw
        if self.ratchet_ratio > 0.0:
            before = [month_before(month, k) for k in range(1, self.ratchet_count + 1)]
            known = [*self.past_peaks_kw.items(), *(peaks_kw.items() if peaks_kw is not None else ())]
            low = max([low, *(self.ratchet_ratio * kw for m, kw in known if m in before)])
        return low

    def cost(self, month: str, peak_kw: float, peaks_kw: Mapping[str, float] | None = None) -> float:
        """What a whole month with this peak costs [money]; `peaks_kw` as in `floor_kw`."""
        over_kw = 0.0 if self.contracted_kw is None else max(0.0, peak_kw - self.contracted_kw)
        return self.per_kw * max(peak_kw, self.floor_kw(month, peaks_kw)) + self.excess_per_kw * over_kw


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyBlock:
    """A block of a month's import: this much is added to the price of each kWh in it."""

    up_to_kwh: float | None  # None: without end
    add_per_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerFactorCharge:
    """A charge on the month's reactive energy beyond what `min_ratio` allows for its active energy."""

    min_ratio: float
    per_kvarh: float

    @property
    def free_kvarh_per_kwh(self) -> float:
        """Reactive energy that costs nothing, by active energy."""
        return float((1.0 / self.min_ratio**2 - 1.0) ** 0.5)


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
    holidays: frozenset[date] = frozenset()
    demand_charges: tuple[DemandCharge, ...] = ()  # beside `demand_charge_per_kw`
    energy_blocks: tuple[EnergyBlock, ...] = ()
    power_factor: PowerFactorCharge | None = None
    minimum_per_month: float = 0.0  # the bill of a month is no lower, export not counted
    export_windows: tuple[ExportWindow, ...] = ()  # the first that holds, else `export_per_kwh`
    export_credit: ExportCredit | None = None  # None: export is paid for
    contracts: Contracts = field(default_factory=Contracts)

    def day_type(self, local: datetime) -> int:
        """Day of the week of a local time, or HOLIDAY."""
        return HOLIDAY if local.date() in self.holidays else local.weekday()

    @property
    def counts_money(self) -> bool:
        """Whether what a month has cost and earned so far decides what the next kWh costs."""
        return self.minimum_per_month > 0.0 or self.export_credit is not None

    @property
    def bills_reactive(self) -> bool:
        """Whether a bill needs to know the reactive power drawn from the grid."""
        return self.power_factor is not None or any(c.apparent for c in self.demand_charges)

    @property
    def rewards_import(self) -> bool:
        """Whether import may pay for itself, so that a plan would import and export at once."""
        owed = (c.source == IMPORT and c.minimum_kwh > 0.0 for c in self.contracts.energy)
        return self.counts_money or any(owed)

    @property
    def charges(self) -> tuple[DemandCharge, ...]:
        """Every demand charge, that of `demand_charge_per_kw` first."""
        main = DemandCharge(name=MAIN_CHARGE, per_kw=self.demand_charge_per_kw)
        return (main, *self.demand_charges)

    def window_at(self, when: datetime) -> TouWindow | None:
        """The first window that holds at an aware time."""
        local = when.astimezone(ZoneInfo(self.timezone))
        day_type = self.day_type(local)
        return next((w for w in self.windows if w.holds(local, day_type)), None)

    def import_per_kwh(self, when: datetime) -> float:
        """Energy price at an aware time, without blocks [money per kWh]."""
        window = self.window_at(when)
        return self.default_import_per_kwh if window is None else window.import_per_kwh

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

    def export_price(self, when: datetime) -> float:
        """What a kWh exported at an aware time earns, before a credit's limits [money per kWh]."""
        if self.export_credit is not None and self.export_credit.basis is CreditBasis.IMPORT_PRICE:
            return self.import_per_kwh(when)
        if not self.export_windows:
            return self.export_per_kwh
        local = when.astimezone(ZoneInfo(self.timezone))
        day_type = self.day_type(local)
        held = (w.export_per_kwh for w in self.export_windows if w.holds(local, day_type))
        return next(held, self.export_per_kwh)

    def export_prices(self, grid: TimeGrid) -> FloatArray:
        """(T,) mean export price of each step, sampled like `import_prices` [money per kWh]."""
        if self.export_credit is None and not self.export_windows:
            return np.full(len(grid), self.export_per_kwh)
        out = []
        for start, step_s in zip(grid.starts(), grid.step_s, strict=True):
            n = max(1, round(step_s / 900.0))
            at = [start + timedelta(seconds=i * step_s / n) for i in range(n)]
            out.append(float(np.mean([self.export_price(x) for x in at])))
        return np.asarray(out)

    def month(self, when: datetime) -> str:
        """Local month of an aware time, "2026-03"."""
        return f"{when.astimezone(ZoneInfo(self.timezone)):%Y-%m}"

    def charges_at(self, when: datetime) -> tuple[DemandCharge, ...]:
        """Demand charges for which a billing interval that starts at an aware time counts."""
        local = when.astimezone(ZoneInfo(self.timezone))
        day_type = self.day_type(local)
        return tuple(c for c in self.charges if c.counts(local, day_type))


def month_before(month: str, count: int) -> str:
    """`count` months before "2026-03"."""
    index = int(month[:4]) * 12 + int(month[5:]) - 1 - count
    return f"{index // 12:04d}-{index % 12 + 1:02d}"


def blocks_cost(blocks: Iterable[EnergyBlock], kwh: float) -> float:
    """What the blocks add for the first `kwh` of a month [money]."""
    total, begin_kwh = 0.0, 0.0
    for block in blocks:
        end_kwh = kwh if block.up_to_kwh is None else min(kwh, block.up_to_kwh)
        total += block.add_per_kwh * max(0.0, end_kwh - begin_kwh)
        begin_kwh = max(begin_kwh, end_kwh)
    return total
