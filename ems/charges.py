"""What months cost beside the energy price of each hour: blocks, demand, power factor, minimum.

The bill (from series) and `ems.kpi.settle` (from counters) both come here, so that they cannot differ.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ems.tariff import MAIN_CHARGE, Tariff, blocks_cost


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthUse:
    """What the meters show of one local month. `month_share` of the month lies in the period."""

    month: str  # "2026-03"
    month_share: float
    import_kwh: float = 0.0
    import_cost: float = 0.0  # time-of-use energy charge
    import_kvarh: float = 0.0  # reactive energy drawn from the grid
    peaks_kw: Mapping[str, float] = field(default_factory=dict)  # by demand charge; kVA where it is apparent
    before_kwh: float = 0.0  # imported in this month before the period
    export_revenue: float = 0.0  # what is exported, at its prices


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandLine:
    """Demand of one charge in one local month. `month_share` of the month lies in the period."""

    month: str  # "2026-03"
    peak_kw: float  # kVA where the charge is apparent
    month_share: float
    cost: float  # for the whole month, however little of it lies in the period
    charge: str = MAIN_CHARGE
    billed_kw: float = 0.0  # after ratchet and contracted demand, excess not included

    @property
    def prorated_cost(self) -> float:
        """The part of the month's demand charge that falls on the period by time."""
        return self.cost * self.month_share


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthLine:
    """Another charge of one local month."""

    month: str
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Charges:
    """Everything that is billed by month; blocks, power factor and minimum only where the tariff has them."""

    demand: tuple[DemandLine, ...]
    blocks: tuple[MonthLine, ...]
    power_factor: tuple[MonthLine, ...]
    minimum: tuple[MonthLine, ...]
    fixed_cost: float
    export_revenue: float  # as paid or credited

    @property
    def other_cost(self) -> float:
        """Blocks, power factor and minimum."""
        return math.fsum(line.cost for line in (*self.blocks, *self.power_factor, *self.minimum))


def month_charges(tariff: Tariff, uses: Sequence[MonthUse]) -> Charges:
    """Price months in their order: a month's peak is in the ratchet of those after it.

    Notes
    -----
    The minimum is that of a month: where only a share of it lies in the period, the same share of the minimum
    is held against what falls on the period, demand prorated. Export is not deducted before.
    """
    demand: list[DemandLine] = []
    blocks: list[MonthLine] = []
    power_factor: list[MonthLine] = []
    minimum: list[MonthLine] = []
    known: dict[str, dict[str, float]] = {c.name: {} for c in tariff.charges}
    exported: list[float] = []
    for use in uses:
        paid = [use.import_cost, tariff.fixed_per_month * use.month_share]
        for charge in tariff.charges:
            peak_kw = use.peaks_kw.get(charge.name, 0.0)
            past = known[charge.name]
            line = DemandLine(
                month=use.month,
                peak_kw=peak_kw,
                month_share=use.month_share,
                cost=charge.cost(use.month, peak_kw, past),
                charge=charge.name,
                billed_kw=max(peak_kw, charge.floor_kw(use.month, past)),
            )
            past[use.month] = peak_kw
            demand.append(line)
            paid.append(line.prorated_cost)
        if tariff.energy_blocks:
            cost = blocks_cost(tariff.energy_blocks, use.before_kwh + use.import_kwh)
            cost -= blocks_cost(tariff.energy_blocks, use.before_kwh)
            blocks.append(MonthLine(month=use.month, cost=cost))
            paid.append(cost)
        credit, energy = tariff.export_credit, math.fsum([use.import_cost, *(b.cost for b in blocks[-1:])])
        worth = use.export_revenue if credit is None else credit.worth(use.export_revenue, energy)
        exported.append(worth)
        if tariff.power_factor is not None:
            free_kvarh = tariff.power_factor.free_kvarh_per_kwh * use.import_kwh
            cost = tariff.power_factor.per_kvarh * max(0.0, use.import_kvarh - free_kvarh)
            power_factor.append(MonthLine(month=use.month, cost=cost))
            paid.append(cost)
        if tariff.minimum_per_month > 0.0:
            short = max(0.0, tariff.minimum_per_month * use.month_share - math.fsum(paid))
            minimum.append(MonthLine(month=use.month, cost=short))
    return Charges(
        demand=tuple(demand),
        blocks=tuple(blocks),
        power_factor=tuple(power_factor),
        minimum=tuple(minimum),
        export_revenue=math.fsum(exported),
        fixed_cost=tariff.fixed_per_month * math.fsum(u.month_share for u in uses),
    )
