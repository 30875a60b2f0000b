"""What the contract remembers, as numbers of one plan: floors by the pace of a period, events."""

import math
from datetime import timedelta
from zoneinfo import ZoneInfo

import numpy as np

from ems.condition import ContractMeters, PlantCondition
from ems.contracts import CoincidentPeak, EnergyContract
from ems.errors import DataError
from ems.site import Site
from ems.tariff import Tariff, blocks_cost
from ems.timegrid import FloatArray, TimeGrid
from optimizer.problem import ContractNumbers

SAMPLE_S = 900.0


def contract_numbers(
    site: Site, condition: PlantCondition, grid: TimeGrid, notes: list[str]
) -> ContractNumbers:
    """Numbers of every element that the tariff has.

    Raises
    ------
    DataError : a meter of the condition is not finite.
    """
    tariff, meters = site.tariff, _checked(condition.meters)
    zone = ZoneInfo(tariff.timezone)
    out = ContractNumbers(
        coincident_cost=coincident_cost(tariff, grid),
        take_steps=np.zeros((len(tariff.contracts.energy), 2, len(grid)), dtype=np.bool_),
        take_floor_kwh=np.zeros((len(tariff.contracts.energy), 2)),
        event_steps=np.zeros((len(tariff.contracts.events), len(grid)), dtype=np.bool_),
        event_h=np.zeros(len(tariff.contracts.events)),
        event_room_kwh=np.zeros(len(tariff.contracts.events)),
        minimum_floor_cost=(0.0, 0.0),
        export_earned_cost=(0.0, 0.0),
        energy_spent_cost=(0.0, 0.0),
    )
    for c, contract in enumerate(tariff.contracts.energy):
        _take(out, c, contract, meters, grid, zone)
    for e, event in enumerate(tariff.contracts.events):
        start_s, end_s = ((x - grid.start).total_seconds() for x in (event.start, event.end))
        edges = grid.offset_s
        inside = np.minimum(edges[1:], end_s) - np.maximum(edges[:-1], start_s) > 1.0
        gone_h = min(event.hours, max(0.0, -start_s / 3600.0))
        hours = float(grid.step_h[inside].sum())
        so_far = meters.metered_kwh.get(f"event {event.id}", 0.0)
        if gone_h > 0.0 and inside.any() and f"event {event.id}" not in meters.metered_kwh:
            notes.append(f"event {event.id}: import since its start is not known, taken at the baseline")
            so_far = event.baseline_kw * gone_h
        out.event_steps[e] = inside
        out.event_h[e] = min(event.hours, hours + gone_h) if inside.any() else 0.0
        out.event_room_kwh[e] = event.baseline_kw * (hours + gone_h) - so_far if inside.any() else 0.0
    if not tariff.counts_money:
        return out
    return _money(out, site, condition, meters, grid, notes)


def _checked(meters: ContractMeters) -> ContractMeters:
    values = {
        "energy_cost": meters.energy_cost,
        "export_revenue": meters.export_revenue,
        **meters.metered_kwh,
    }
    for name, value in values.items():
        if not math.isfinite(value):
            raise DataError(f"meter {name} of the contract is {value}; allowed: a finite number")
    return meters


def _take(
    out: ContractNumbers,
    c: int,
    contract: EnergyContract,
    meters: ContractMeters,
    grid: TimeGrid,
    zone: ZoneInfo,
) -> None:
    """Periods that the window touches, at most two, and the pace of their minimum."""
    of_step = [contract.period(x.astimezone(zone)) for x in grid.starts()]
    for k, period in enumerate(dict.fromkeys([of_step[0], of_step[-1]])):
        out.take_steps[c, k] = [x == period for x in of_step]
        begin, end = contract.span(period, zone)
        gone_s = min(grid.end.timestamp(), end.timestamp()) - begin.timestamp()
        share = gone_s / (end.timestamp() - begin.timestamp())
        used = meters.metered_kwh.get(f"contract {contract.name} {period}", 0.0)
        out.take_floor_kwh[c, k] = contract.minimum_kwh * share - used


def _money(
    out: ContractNumbers,
    site: Site,
    condition: PlantCondition,
    meters: ContractMeters,
    grid: TimeGrid,
    notes: list[str],
) -> ContractNumbers:
    """Minimum at the pace of the month, and what the month has spent and earned so far."""
    tariff, zone = site.tariff, ZoneInfo(site.tariff.timezone)
    months = list(dict.fromkeys(tariff.month(x) for x in (grid.start, grid.starts()[-1])))
    same = meters.month == months[0]
    if meters.month and not same:
        notes.append(f"the contract's meters are of {meters.month}, taken as none for {months[0]}")
    blocks = blocks_cost(tariff.energy_blocks, condition.month_import_kwh)
    spent = (meters.energy_cost + blocks if same else 0.0, 0.0)
    earned = (meters.export_revenue if same else 0.0, 0.0)
    floors = [0.0, 0.0]
    for j, month in enumerate(months):
        begin, end = EnergyContract.span(month, zone)
        share = (min(grid.end.timestamp(), end.timestamp()) - begin.timestamp()) / (
            end.timestamp() - begin.timestamp()
        )
        peaks = condition.charge_peaks_kw if j == 0 else {}
        main = condition.peak_import_kw if j == 0 else 0.0
        demand = tariff.demand_charge_per_kw * main
        demand += sum(x.cost(month, peaks.get(x.name, 0.0)) for x in tariff.demand_charges)
        floors[j] = (tariff.minimum_per_month - tariff.fixed_per_month - demand) * share - spent[j]
    return out.with_money((floors[0], floors[1]), earned, spent)


def coincident_cost(tariff: Tariff, grid: TimeGrid) -> FloatArray:
    """(T,) what a kW imported through each step costs in coincident peaks, weighed by probability [money]."""
    out = np.zeros(len(grid))
    edges = grid.offset_s
    for peak in tariff.contracts.coincident_peaks:
        for hour in peak.hours:
            start_s, end_s = ((x - grid.start).total_seconds() for x in (hour.start, hour.end))
            inside_s = np.maximum(0.0, np.minimum(edges[1:], end_s) - np.maximum(edges[:-1], start_s))
            out += peak.per_kw * hour.probability_ratio * inside_s / (end_s - start_s)
        if peak.windows:
            out += peak.per_kw * peak.window_probability_ratio * _hours_inside(tariff, peak, grid)
    return out


def _hours_inside(tariff: Tariff, peak: CoincidentPeak, grid: TimeGrid) -> FloatArray:
    """(T,) hours of each step that lie in the windows of a peak, by quarters of an hour."""
    zone, out = ZoneInfo(tariff.timezone), np.zeros(len(grid))
    for t, (start, step_s) in enumerate(zip(grid.starts(), grid.step_s, strict=True)):
        n = max(1, round(step_s / SAMPLE_S))
        local = [(start + timedelta(seconds=i * step_s / n)).astimezone(zone) for i in range(n)]
        held = [any(w.holds(x, tariff.day_type(x)) for w in peak.windows) for x in local]
        out[t] = float(np.mean(held)) * step_s / 3600.0
    return out
