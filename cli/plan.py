"""`ems plan SITE`: one plan from the command line, as a table, JSON and CSV."""

import argparse
import csv
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from cli._sites import find_site
from ems.clock import SystemClock
from ems.condition import BessCondition, GensetCondition, PlantCondition
from ems.errors import EmsError
from ems.outage import known_outages
from ems.plan import Plan
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
    parser.add_argument("--out", type=Path, help="directory for plan.json and plan.csv")


def run(args: argparse.Namespace) -> int:
    """Make the plan; 0 when it is optimal or an incumbent, 1 when only the rules are left."""
    from forecasting.history import HistoryForecaster
    from optimizer.options import PlannerOptions
    from optimizer.rolling import Planner

    site = load_site(find_site(args.site))
    at = _start(args.at)
    condition = starting_condition(site, at, args)
    planner = Planner(site, PlannerOptions(gap_ratio=args.gap, time_limit_s=args.limit, node_limit=None))
    forecaster = HistoryForecaster(site, load={}, pv={}, notices=site.outages)
    forecast = forecaster.forecast(planner.horizon(at, known_outages(site.outages, at)), at)
    plan = planner.plan(condition, forecast, None, 1)
    console = Console()
    show(console, site, plan, forecast.repairs)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "plan.json").write_bytes(TypeAdapter(Plan).dump_json(plan, indent=2))
        write_csv(args.out / "plan.csv", plan)
        console.print(f"written: {args.out / 'plan.json'}, {args.out / 'plan.csv'}")
    return 1 if plan.label == "rules" else 0


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


def columns(plan: Plan) -> Mapping[str, tuple[float | str, ...]]:
    """One column per series, named `<asset>_<quantity>_<unit>`; positive is into the site's bus."""
    out: dict[str, tuple[float | str, ...]] = {
        "start_utc": tuple(t.isoformat() for t in plan.grid.starts()),
        "step_s": plan.grid.step_s,
        "grid_mode": tuple(str(m) for m in plan.grid_mode),
        "forming": plan.forming,
        "import_per_kwh": plan.import_per_kwh,
        "grid_p_kw": plan.grid_p_kw,
    }
    groups = (
        ("load_kw", plan.load_kw), ("shed_kw", plan.shed_kw), ("available_kw", plan.pv_available_kw),
        ("p_kw", plan.pv_p_kw), ("p_kw", plan.bess_p_kw), ("soc_end", plan.bess_soc_end),
        ("on", plan.genset_on), ("p_kw", plan.genset_p_kw),
    )  # fmt: skip
    for suffix, series in groups:
        out |= {f"{asset}_{suffix}": values for asset, values in series.items()}
    out["reserve_up_required_kw"] = plan.reserve_up_required_kw
    out["reserve_up_held_kw"] = plan.reserve_up_held_kw
    out["reserve_up_short_kw"] = plan.reserve_up_short_kw
    return out


def write_csv(path: Path, plan: Plan) -> None:
    """One row per step."""
    table = columns(plan)
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))


def show(console: Console, site: Site, plan: Plan, repairs: tuple[str, ...]) -> None:
    """Print head, steps, money and notes."""
    solve = plan.solve
    gap = "not proven" if solve.gap_ratio is None else f"gap {solve.gap_ratio:.2%}"
    console.print(
        f"[bold]{plan.plan_id}[/bold]: {plan.label}, {gap}, solved in {solve.solve_s:.2f} s; "
        f"valid until {_local(site, plan.valid_until)}, "
        f"commitment integral until {_local(site, plan.integral_until)}"
    )
    console.print(_steps(site, plan))
    console.print(_money(site, plan))
    for text in (*repairs, *plan.notes):
        console.print(f"note: {text}")


def _local(site: Site, when: datetime) -> str:
    return when.astimezone(ZoneInfo(site.timezone)).strftime("%a %H:%M")


def _steps(site: Site, plan: Plan) -> Table:
    table = Table(title=f"plan of {site.name}, local time, mean kW per step", title_justify="left")
    heads = [
        "from",
        "mode",
        "price",
        "load",
        "PV",
        "grid",
        *plan.bess_p_kw,
        "SoC %",
        *plan.genset_p_kw,
        "shed",
    ]
    for head in heads:
        table.add_column(head, justify="right")
    for t, start in enumerate(plan.grid.starts()):
        table.add_row(
            _local(site, start),
            plan.grid_mode[t].replace("_", "-"),
            f"{plan.import_per_kwh[t]:.3f}",
            f"{sum(s[t] for s in plan.load_kw.values()):.0f}",
            f"{sum(s[t] for s in plan.pv_p_kw.values()):.0f}",
            f"{plan.grid_p_kw[t]:.0f}",
            *[f"{s[t]:.0f}" for s in plan.bess_p_kw.values()],
            "/".join(f"{100 * s[t]:.0f}" for s in plan.bess_soc_end.values()),
            *[f"{s[t]:.0f}" if plan.genset_on[g][t] > 0.01 else "-" for g, s in plan.genset_p_kw.items()],
            f"{sum(s[t] for s in plan.shed_kw.values()):.0f}",
        )
    return table


def _money(site: Site, plan: Plan) -> Table:
    table = Table(title=f"objective over the horizon, {site.currency}", title_justify="left")
    table.add_column("term")
    table.add_column("money", justify="right")
    for name, value in plan.cost_terms.items():
        table.add_row(name.replace("_", " "), f"{value:,.2f}")
    table.add_row("[bold]sum[/bold]", f"[bold]{sum(plan.cost_terms.values()):,.2f}[/bold]")
    return table
