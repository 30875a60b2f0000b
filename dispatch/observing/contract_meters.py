"""What the contract remembers beside peaks: money of the month, and energy by name of what it meters."""

from collections.abc import Mapping
from zoneinfo import ZoneInfo

from ems.condition import ContractMeters
from ems.contracts import IMPORT
from ems.frozen import replace
from ems.prices import DayPrices
from ems.tariff import Tariff
from ems.telemetry import Snapshot


def meters_after(
    tariff: Tariff,
    before: ContractMeters,
    snapshot: Snapshot,
    grid_kw: float,
    used_kw: Mapping[str, float],
    passed_s: float,
    prices: DayPrices | None = None,
) -> ContractMeters:
    """Add what flowed since the last tick; nothing is counted that the tariff does not ask for.

    Parameters
    ----------
    grid_kw : power at the POI [kW], import positive.
    used_kw : power of each PV plant [kW].
    passed_s : time since the last tick [s]; it counts at the price and for the meters of now.
    prices : of today, as known now; None: the tariff's. What the bill settles later is not known here.
    """
    out, hours = before, passed_s / 3600.0
    if tariff.counts_money:
        month = tariff.month(snapshot.at)
        if out.month != month:
            out = replace(out, month=month, energy_cost=0.0, export_revenue=0.0)
        quarter = None if prices is None else prices.quarter(snapshot.at)
        if prices is None or quarter is None:
            buy, sell = tariff.import_per_kwh(snapshot.at), tariff.export_price(snapshot.at)
        else:
            buy, sell = prices.import_per_kwh[quarter], prices.export_per_kwh[quarter]
        out = replace(
            out,
            energy_cost=out.energy_cost + max(0.0, grid_kw) * hours * buy,
            export_revenue=out.export_revenue + max(0.0, -grid_kw) * hours * sell,
        )
    if tariff.contracts.any:
        power = {**used_kw, IMPORT: max(0.0, grid_kw)}
        active = tariff.contracts.active_meters(snapshot.at, ZoneInfo(tariff.timezone))
        counted = {
            name: out.metered_kwh.get(name, 0.0) + power.get(source, 0.0) * hours for name, source in active
        }
        out = replace(out, metered_kwh=counted)  # a meter that no longer runs is settled by the bill
    return out
