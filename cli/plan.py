"""`ems plan SITE`: one plan from the command line, as table, JSON, CSV and figures, and why it is so."""

import argparse
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console

from cli._sites import find_site
from cli._uncertainty import add_uncertainty_options, uncertainty_of
from cli.input_doubts import doubts_of
from cli.plan_files import write_files
from cli.plan_inputs import inputs_beside
from cli.plan_screen import show, show_why
from cli.planner_inputs import PlannerInputs, planner_inputs
from connectors.inputs.files import filed_inputs
from connectors.inputs.store import FILE
from ems.clock import SystemClock
from ems.condition import BessCondition, GensetCondition, PlantCondition
from ems.errors import DataError, EmsError
from ems.explanation import Explanation
from ems.plan import PlanLabel
from ems.ports import Forecaster, InputKnowledge
from ems.site import GridMode, Site
from ems.site_schema import load_site

HELP = "make one plan and show it"
_LONG_AGO_S = 1e6


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ems plan`."""
    parser.add_argument("site", help="name of a shipped site, or the path of a site file")
    parser.add_argument(
        "--at", help="start of the plan, ISO 8601 with a zone (default: the next quarter hour)"
    )
    parser.add_argument("--soc", type=float, default=0.6, help="state of charge at the start, 0 to 1 (0.6)")
    parser.add_argument(
        "--islanded", action="store_true", help="start in an island, as after an unannounced outage"
    )
    parser.add_argument(
        "--running", action="append", default=[], metavar="GENSET", help="a genset that is on load"
    )
    parser.add_argument(
        "--peak-kw", type=float, default=0.0, help="highest billing interval of the month so far [kW]"
    )
    parser.add_argument("--gap", type=float, default=0.005, help="relative optimality gap to reach (0.005)")
    parser.add_argument("--limit", type=float, default=60.0, help="wall time the solver may take [s] (60)")
    parser.add_argument("--out", type=Path, help="folder for plan.json, .csv, .columns.csv and .html")
    parser.add_argument(
        "--forecast",
        type=Path,
        metavar="FILE",
        help="forecasts, CSV or Parquet (docs/forecasting.md); default: typical shapes of the site",
    )
    parser.add_argument("--forecast-zone", metavar="ZONE", help="zone of times in the file that carry none")
    parser.add_argument(
        "--inputs",
        type=Path,
        metavar="DIR",
        help="lay inputs over it, as known at the start of the plan: a folder of `ems run`, or of files",
    )
    add_uncertainty_options(parser)
    parser.add_argument(
        "--explain", action="store_true", help="say why, each sentence found by solving again (some 10 s)"
    )


def run(args: argparse.Namespace) -> int:
    """Make the plan; 0 when it is optimal or an incumbent, 1 when only the rules are left."""
    from optimizer.explain import Posed, explain
    from optimizer.options import PlannerOptions
    from optimizer.rolling import Planner
    from optimizer.uncertainty import UncertaintyKind

    site = load_site(find_site(args.site))
    at = _start(args.at)
    condition = starting_condition(site, at, args)
    uncertainty = uncertainty_of(args)
    if args.explain and uncertainty.kind is not UncertaintyKind.NONE:
        raise EmsError("--explain: found --scenarios or --quantile; allowed: a plan for the expected path")
    options = PlannerOptions(
        gap_ratio=args.gap, time_limit_s=args.limit, node_limit=None, uncertainty=uncertainty
    )
    planner = Planner(site, options)
    told = inputs_of(site, forecaster(site, args), args.inputs, at)
    forecast = told.forecaster.forecast(planner.horizon(at, told.outages(at, condition)), at)
    forecast = told.measured(forecast, condition)
    plan = replace(planner.plan(condition, forecast, None, 1), inputs=forecast.inputs)
    console = Console()
    show(console, site, plan, forecast.repairs)
    why: Explanation | None = None
    if args.explain and plan.label in (PlanLabel.OPTIMAL, PlanLabel.INCUMBENT):
        posed = Posed(site=site, condition=condition, forecast=forecast, options=options)
        why = explain(posed, plan)
        show_why(console, site, plan, why)
    if args.out is not None:
        beside = None
        if told.known is not None:
            beside = inputs_beside(site, plan, told.known, args.inputs, forecast.repairs)
        written = write_files(args.out, site, plan, forecast.repairs, why, beside)
        console.print(f"written: {', '.join(str(path) for path in written)}", soft_wrap=True)
    return 1 if plan.label is PlanLabel.RULES else 0


def forecaster(site: Site, args: argparse.Namespace) -> Forecaster:
    """From the file that is named, or the typical shapes of the site.

    Raises
    ------
    DataError : the file cannot be used; names file, line and column.
    """
    from forecasting.from_csv import CsvForecaster
    from forecasting.history import ForecastOptions, HistoryForecaster

    if args.forecast is None:
        made = ForecastOptions(scenarios=0 if args.scenarios is None else args.scenarios)
        return HistoryForecaster(site, load={}, pv={}, notices=site.outages, options=made)
    if not args.forecast.is_file():
        raise DataError(f"--forecast: found {args.forecast}; allowed: an existing CSV or Parquet file")
    return CsvForecaster(site, args.forecast, timezone=args.forecast_zone, notices=site.outages)


def inputs_of(site: Site, base: Forecaster, directory: Path | None, at: datetime) -> PlannerInputs:
    """What is kept in a folder laid over `base`; without a folder `base` alone.

    Raises
    ------
    ConfigError, DataError : there is nothing of its inputs, a file cannot be used, or the site has no inputs.
    """
    if directory is None:
        return planner_inputs(replace(site, inputs=()), base, site.outages, Path())
    if not site.inputs:
        raise DataError(f"--inputs: found {site.name}, a site without inputs; allowed: one with some")
    known: InputKnowledge | None = None
    if not (directory / FILE).is_file():
        known = filed_inputs(directory, site, at, at, lambda params: doubts_of(site, params))
    return planner_inputs(site, base, site.outages, directory, known)


def _start(text: str | None) -> datetime:
    if text is None:
        now = SystemClock().now()
        return now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0) + timedelta(minutes=15)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise EmsError(f"--at: found {text!r}; allowed: a time like 2026-03-18T06:00+00:00") from None
    if at.tzinfo is None:
        raise EmsError(f"--at: found {text!r}, which has no time zone; allowed: a time like {text}+00:00")
    return at.astimezone(UTC)


def starting_condition(site: Site, at: datetime, args: argparse.Namespace) -> PlantCondition:
    """The plant as the options describe it: everything available, nothing starting, ages long past."""
    unknown = [g for g in args.running if g not in {x.id for x in site.gensets}]
    if unknown:
        allowed = ", ".join(g.id for g in site.gensets)
        raise EmsError(f"--running: found {', '.join(unknown)}; allowed: {allowed}")
    if not 0.0 <= args.soc <= 1.0:
        raise EmsError(f"--soc: found {args.soc:g}; allowed: 0 to 1")
    gensets = {
        g.id: GensetCondition(
            available=True,
            on_load=g.id in args.running,
            starting=False,
            ready_in_s=0.0,
            age_s=_LONG_AGO_S,
            p_kw=g.p_min_kw if g.id in args.running else 0.0,
            fuel_l=g.tank_l,
            starts_today=0,
        )
        for g in site.gensets
    }
    bess = {
        b.id: BessCondition(
            available=True,
            soc=args.soc,
            p_kw=0.0,
            p_charge_kw_max=b.battery.p_charge_kw_max,
            p_discharge_kw_max=b.battery.p_discharge_kw_max,
        )
        for b in site.bess
    }
    order = site.forming.islanded if args.islanded else site.forming.grid_tied
    return PlantCondition(
        at=at,
        grid_mode=GridMode.ISLANDED if args.islanded else GridMode.GRID_TIED,
        forming=order[0],
        bess=bess,
        gensets=gensets,
        pv_kw=dict.fromkeys((p.id for p in site.pv), 0.0),
        feeder_kw=dict.fromkeys((f.id for f in site.feeders), 0.0),
        feeder_closed=dict.fromkeys((f.id for f in site.feeders), True),
        grid_p_kw=None,
        peak_import_kw=args.peak_kw,
        interval_import_kwh=0.0,
        interval_elapsed_s=0.0,
    )
