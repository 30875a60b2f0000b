"""From condition and forecast to a PlanningProblem: checks, declared repairs, outages, values."""

import math

import numpy as np

from ems.condition import FeederUse, PlantCondition
from ems.forecast import Forecast
from ems.site import Site
from optimizer.intake.availability import distrusted_steps, grid_availability, integral_steps
from optimizer.intake.battery import bess_start, terminal_values
from optimizer.intake.caps import caps_kw, power_now_kw
from optimizer.intake.checks import check_condition
from optimizer.intake.contracts import contract_numbers
from optimizer.intake.deferrable import deferrable_starts, without_devices
from optimizer.intake.genset import genset_start, scheduled
from optimizer.intake.measured import held_against_now
from optimizer.intake.series import (
    PEAK_RATIO,
    SUN_RATIO,
    asset_series,
    check_time,
    finite_series,
    refuse_other_unit,
)
from optimizer.intake.tariff import history_kwh, tariff_numbers
from optimizer.intake.voltage import source_voltage
from optimizer.options import PlannerOptions
from optimizer.outlook import MonthOutlook
from optimizer.problem import PlanningProblem
from optimizer.unmodelled import tariff_notes

__all__ = ["planning_problem"]


def planning_problem(
    site: Site,
    condition: PlantCondition,
    forecast: Forecast,
    options: PlannerOptions,
    outlook: MonthOutlook | None = None,
) -> PlanningProblem:
    """Check, repair and lay out the input of one plan.

    Raises
    ------
    DataError : an array of the forecast is missing, has the wrong length, is not finite, is more than its
        asset can be, or contradicts what is measured now; the grid does not start where the condition is; a
        condition is not finite.
    """
    notes: list[str] = [*forecast.repairs, *tariff_notes(site.tariff)]
    grid = forecast.grid
    check_time(grid, condition.at)
    loads = {f.id: math.inf for f in site.feeders}
    solar = {p.id: p.p_ac_kw for p in site.pv}
    load = asset_series(forecast.load_kw, loads, grid, "load_kw", notes)
    pv = asset_series(forecast.pv_kw, solar, grid, "pv_kw", notes)
    peaks_kw = {f.id: max(f.p_peak_kw, condition.feeder_kw.get(f.id, 0.0)) for f in site.feeders}
    refuse_other_unit(forecast.load_kw, peaks_kw, PEAK_RATIO, grid, "load_kw")
    modules_kw = {p.id: max(p.p_ac_kw, p.p_dc_kwp) for p in site.pv}
    refuse_other_unit(forecast.pv_kw, modules_kw, SUN_RATIO, grid, "pv_kw")
    load = held_against_now(site, condition, load, pv, notes)
    load = without_devices(site, load, notes)
    check_condition(site, condition, notes)
    available = grid_availability(site, condition, forecast, notes)
    import_price = finite_series(forecast.import_per_kwh, grid, "import_per_kwh")
    export_price = finite_series(forecast.export_per_kwh, grid, "export_per_kwh")
    air = None if forecast.temp_degc is None else finite_series(forecast.temp_degc, grid, "temp_degc")
    tariff = tariff_numbers(site, condition, grid, options, outlook, notes)
    history = history_kwh(site, condition, grid)
    deferrables = deferrable_starts(site, condition, grid, notes)
    cost_price = import_price + site.carbon_per_kwh
    return PlanningProblem(
        site=site,
        grid=grid,
        at=condition.at,
        load_kw=load,
        pv_kw=pv,
        import_per_kwh=import_price,
        export_per_kwh=export_price,
        grid_available=available,
        integral=integral_steps(grid, available, options.integral_h, options.integral_outages),
        bess=tuple(bess_start(b, condition, grid, available, load, site, notes, air) for b in site.bess),
        gensets=tuple(
            scheduled(genset_start(g.id, site, condition, notes), g, site, condition, grid)
            for g in site.gensets
        ),
        months=tariff.months,
        demand_parts=tariff.demand_parts,
        blocks_used_kwh=tariff.blocks_used_kwh,
        kvarh_before=tariff.kvarh_before,
        history_kwh=history[0],
        history_kvarh=history[1],
        terminal_per_kwh=terminal_values(site, cost_price, options),
        feeder_open=np.array(
            [not condition.feeder_closed.get(f.id, True) for f in site.feeders], dtype=np.bool_
        ),
        shed_whole=np.zeros(len(grid), dtype=np.bool_),
        distrusted=distrusted_steps(site, condition, grid, available, notes),
        grid_p_kw=power_now_kw(condition),
        poi_caps_kw=caps_kw(site, condition, grid, notes, forecast.caps),
        v_source_pu=source_voltage(site, condition, grid, notes),
        exclusive=available & ((cost_price < 0.0) | (export_price > cost_price) | site.tariff.rewards_import),
        deferrables=deferrables,
        contracts=contract_numbers(site, condition, grid, notes),
        feeder_use=tuple(condition.feeder_use.get(f.id, FeederUse()) for f in site.feeders),
        notes=tuple(notes),
    )
