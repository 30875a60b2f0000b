"""The bound of a period and its days: what a run is measured against, and how it went day by day."""

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime, timedelta

import numpy as np

from ems.kpi import EnergyCounters
from ems.timegrid import FloatArray, TimeGrid
from optimizer.bound import Bound, PeriodTruth, period_bound
from plant_models.grid import usable
from sim.scenario import Scenario
from sim.told import priced_of

FINE_DAYS = 45.0  # up to here the bound has quarter-hour steps, beyond hourly ones


def bound_of(scenario: Scenario, step_s: float | None = None) -> Bound:
    """No controller can be cheaper than this on a scenario (without wear, VOLL included).

    Parameters
    ----------
    scenario : the truth is averaged over the steps, which can only lower the bound.
    step_s : 900 or 3600 by the length of the period, if None [s].
    """
    return period_bound(scenario.site, period_truth(scenario, step_s))


def period_truth(scenario: Scenario, step_s: float | None = None) -> PeriodTruth:
    """Truth of a scenario as means on uniform steps; the last step may be shorter."""
    days = scenario.duration_s / 86400.0
    length_s = step_s if step_s is not None else (900.0 if days <= FINE_DAYS else 3600.0)
    whole, rest_s = divmod(scenario.duration_s, length_s)
    steps = (length_s,) * int(whole) + ((rest_s,) if rest_s > 1e-6 else ())
    grid = TimeGrid(start=scenario.start, step_s=steps)
    tariff = scenario.site.tariff
    price, sell, priced = scenario.import_per_kwh, scenario.export_per_kwh, priced_of(scenario)
    return PeriodTruth(
        grid=grid,
        load_kw={f: s.mean_on(grid) for f, s in scenario.load_kw.items()},
        pv_kw={p: s.mean_on(grid) for p, s in scenario.pv_kw.items()},
        import_per_kwh=tariff.import_prices(grid) if price is None else price.mean_on(grid),
        export_per_kwh=tariff.export_prices(grid) if sell is None else sell.mean_on(grid),
        grid_share=_grid_share(scenario, grid),
        soc_start={b.id: scenario.soc_start for b in scenario.site.bess},
        stored_per_kwh=None if priced is None else priced.stored_per_kwh,
    )


def _grid_share(scenario: Scenario, grid: TimeGrid) -> FloatArray:
    """Share of each step with usable mains; the dwell before reconnection is not taken off."""
    edges = grid.offset_s
    out = np.ones(len(grid))
    for event in scenario.mains:
        v_pu = 1.0 if event.v_pu is None else event.v_pu
        if usable(scenario.site.grid, v_pu > 0.0, v_pu, event.f_hz):
            continue
        lo, hi = scenario.offset_s(event.start), scenario.offset_s(event.end)
        lost_s = np.clip(np.minimum(edges[1:], hi) - np.maximum(edges[:-1], lo), 0.0, None)
        out -= lost_s / np.asarray(grid.step_s)
    return np.clip(out, 0.0, 1.0)


def difference(later: EnergyCounters, earlier: EnergyCounters) -> EnergyCounters:
    """What was counted between two readings of the same counters; peaks are left as they stand in `later`."""
    out: dict[str, object] = {}
    for f in fields(EnergyCounters):
        new, old = getattr(later, f.name), getattr(earlier, f.name)
        match f.name:
            case "bess_stored_start_kwh":
                out[f.name] = earlier.bess_stored_end_kwh if earlier.bess_stored_end_kwh else new
            case "bess_stored_end_kwh" | "peak_import_kw" | "charge_peaks_kw":
                out[f.name] = new
            case _ if isinstance(new, Mapping):
                out[f.name] = {k: v - old.get(k, 0) for k, v in new.items()}
            case _:
                out[f.name] = new - old
    return EnergyCounters(**out)  # type: ignore[arg-type]


def by_day(
    start: datetime, readings: tuple[EnergyCounters, ...], peaks_kw: tuple[Mapping[str, float], ...]
) -> tuple[tuple[datetime, EnergyCounters], ...]:
    """(start, counters) of each day, from readings of the counters at the end of each day.

    Parameters
    ----------
    peaks_kw : the day's own highest billing interval by month, and by "<month> <charge>" [kW].
    """
    out = []
    before, at = EnergyCounters(), start
    for reading, peaks in zip(readings, peaks_kw, strict=True):
        day = replace(
            difference(reading, before),
            peak_import_kw={k: v for k, v in peaks.items() if " " not in k},
            charge_peaks_kw={k: v for k, v in peaks.items() if " " in k},
        )
        out.append((at, day))
        at, before = at + timedelta(seconds=day.duration_s), reading
    return tuple(out)
