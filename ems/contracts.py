"""What a contract holds beside prices by the hour: credit for export, coincident peaks, take-or-pay, events.

Each is metered by name (`active_meters`) wherever energy is counted, by the edge, the simulator and the bill,
and priced in one place (`contract_lines`). Edges lie on quarters of an hour.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from ems.windows import LocalWindow

IMPORT = "import"  # what a meter counts, beside the id of a PV plant


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportWindow(LocalWindow):
    """Local time in which export earns another price."""

    name: str
    export_per_kwh: float


class CreditBasis(StrEnum):
    """What a kWh exported is credited with."""

    IMPORT_PRICE = "import_price"  # net metering: the import price of its hour
    EXPORT_PRICE = "export_price"  # net billing: the export price of its hour


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportCredit:
    """Export is credited against the month's energy charge; what is left of it counts by `excess_ratio`."""

    basis: CreditBasis
    excess_ratio: float = 0.0  # 0: what is left at the month's end is lost; 1: paid out

    def worth(self, export_value_cost: float, energy_cost: float) -> float:
        """What a month's export is worth [money], from its value and the month's energy charge."""
        used = min(export_value_cost, max(0.0, energy_cost))
        return used + self.excess_ratio * (export_value_cost - used)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakHour:
    """A time that is announced as a system peak, with how likely it is to be one; 1: it is one."""

    start: datetime
    end: datetime
    probability_ratio: float = 1.0

    @property
    def hours(self) -> float:
        """Its length [h]."""
        return (self.end - self.start).total_seconds() / 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CoincidentPeak:
    """A charge on the mean import in the hours of a system's peak.

    Billed are the hours that were such a peak; plans weigh what may become one by its probability, each hour
    of `windows` by `window_probability_ratio`.
    """

    name: str
    per_kw: float
    hours: tuple[PeakHour, ...] = ()
    windows: tuple[LocalWindow, ...] = ()
    window_probability_ratio: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyContract:
    """A price for energy taken from the grid or a PV plant, and a minimum to be taken (take or pay)."""

    name: str
    source: str  # IMPORT, or the id of a PV plant
    per_kwh: float  # on top of any other price
    minimum_kwh: float = 0.0
    shortfall_per_kwh: float = 0.0
    year_month: int | None = None  # month in which its year begins; None: the minimum is that of a month

    def period(self, local: datetime) -> str:
        """The period of a local time: "2026-03", or the year "2026-04/12" by its first month."""
        if self.year_month is None:
            return f"{local:%Y-%m}"
        year = local.year if local.month >= self.year_month else local.year - 1
        return f"{year:04d}-{self.year_month:02d}/12"

    @staticmethod
    def span(period: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """Begin and end of a period."""
        month, _, yearly = period.partition("/")
        begin = datetime(int(month[:4]), int(month[5:]), 1, tzinfo=zone)
        if yearly:
            return begin, begin.replace(year=begin.year + 1)
        return begin, begin.replace(year=begin.year + begin.month // 12, month=begin.month % 12 + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandResponse:
    """An event in which import is to be below a baseline.

    Delivered is what the mean import over the event is below `baseline_kw`, from 0 to `committed_kw`: it
    earns `per_kw`, and what is missing to the commitment costs `penalty_per_kw`.
    """

    id: str
    start: datetime
    end: datetime
    baseline_kw: float
    committed_kw: float
    per_kw: float
    penalty_per_kw: float = 0.0

    @property
    def hours(self) -> float:
        """Its length [h]."""
        return (self.end - self.start).total_seconds() / 3600.0

    def delivered_kw(self, mean_import_kw: float) -> float:
        """What counts as delivered at a mean import over the event [kW]."""
        return min(self.committed_kw, max(0.0, self.baseline_kw - mean_import_kw))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contracts:
    """Every element of a contract that is metered by name."""

    coincident_peaks: tuple[CoincidentPeak, ...] = ()
    energy: tuple[EnergyContract, ...] = ()
    events: tuple[DemandResponse, ...] = ()

    @property
    def any(self) -> bool:
        """Whether there is anything to meter."""
        return bool(self.coincident_peaks or self.energy or self.events)

    def active_meters(self, when: datetime, zone: ZoneInfo) -> tuple[tuple[str, str], ...]:
        """(name, what it counts) of the meters that run at an aware time."""
        out = [(f"event {e.id}", IMPORT) for e in self.events if e.start <= when < e.end]
        out += [
            (f"peak {p.name} {i}", IMPORT)
            for p in self.coincident_peaks
            for i, h in enumerate(p.hours)
            if h.start <= when < h.end
        ]
        local = when.astimezone(zone)
        return (*out, *((f"contract {c.name} {c.period(local)}", c.source) for c in self.energy))


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractLine:
    """What one element of a contract costs over a period; negative where it earns."""

    name: str  # "event e1", "peak 4CP", "contract ppa 2026-03"
    amount_kw: float  # delivered in an event, mean import in a peak; 0 for energy
    amount_kwh: float  # taken under a contract
    cost: float


def contract_lines(
    contracts: Contracts, metered_kwh: Mapping[str, float], start: datetime, end: datetime, zone: ZoneInfo
) -> tuple[ContractLine, ...]:
    """Price what was metered in [start, end).

    Notes
    -----
    Events and peaks count when they end inside the period. A minimum is held against what was taken by its
    share of time: a month billed in part owes a part of its minimum.
    """
    out: list[ContractLine] = []
    for e in contracts.events:
        if start < e.end <= end:
            kw = e.delivered_kw(metered_kwh.get(f"event {e.id}", 0.0) / e.hours)
            cost = e.penalty_per_kw * (e.committed_kw - kw) - e.per_kw * kw
            out.append(ContractLine(name=f"event {e.id}", amount_kw=kw, amount_kwh=0.0, cost=cost))
    for p in contracts.coincident_peaks:
        for i, h in enumerate(p.hours):
            if h.probability_ratio >= 1.0 and start < h.end <= end:
                name = f"peak {p.name} {i}"
                kw = metered_kwh.get(name, 0.0) / h.hours
                out.append(ContractLine(name=name, amount_kw=kw, amount_kwh=0.0, cost=p.per_kw * kw))
    for c in contracts.energy:
        for period in periods(c, start, end, zone):
            name = f"contract {c.name} {period}"
            kwh = metered_kwh.get(name, 0.0)
            owed = max(0.0, c.minimum_kwh * share(c, period, start, end, zone) - kwh)
            cost = c.per_kwh * kwh + c.shortfall_per_kwh * owed
            out.append(ContractLine(name=name, amount_kw=0.0, amount_kwh=kwh, cost=cost))
    return tuple(out)


def periods(contract: EnergyContract, start: datetime, end: datetime, zone: ZoneInfo) -> Sequence[str]:
    """Periods of a contract that [start, end) touches, in order."""
    out = [contract.period(start.astimezone(zone))]
    while (after := contract.span(out[-1], zone)[1]).timestamp() < end.timestamp():
        out.append(contract.period(after))
    return out


def share(contract: EnergyContract, period: str, start: datetime, end: datetime, zone: ZoneInfo) -> float:
    """How much of a contract's period lies in [start, end), by real hours."""
    begin_s, end_s = (x.timestamp() for x in contract.span(period, zone))
    inside_s = min(end.timestamp(), end_s) - max(start.timestamp(), begin_s)
    return max(0.0, inside_s) / (end_s - begin_s)
