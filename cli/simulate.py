"""`ems simulate SITE`: any period and controller on a virtual clock, with the production edge and planner."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from cli._period import (
    Period,
    add_period_options,
    period_of,
    scenario_of,
    scenarios_of,
    seconds,
    told_scenario,
)
from cli._sites import find_site
from cli._uncertainty import add_uncertainty_options, studied_uncertainty
from ems.errors import EmsError
from ems.site import Site
from ems.site_schema import load_site

if TYPE_CHECKING:
    from sim.harness import SimulateOptions
    from sim.result import RunResult
    from sim.scenario import Scenario

HELP = "run a period on a virtual clock, with any controller, and compare"
CONTROLLERS = ("rules", "rules_tou", "mpc", "mpc_two_stage", "mpc_robust", "perfect")
EXIT_INTERRUPTED = 130
VERSIONS_SHOWN = 8
TRACE_DAYS_MAX = 45  # longer runs keep no traces unless asked to


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ems simulate`."""
    parser.add_argument("site", help="name of a shipped site, or the path of a site file")
    add_period_options(parser)
    parser.add_argument(
        "--controllers",
        type=_controllers,
        default=("rules", "rules_tou", "mpc"),
        help=f"comma-separated: {', '.join(CONTROLLERS)} (rules,rules_tou,mpc)",
    )
    parser.add_argument("--bound", action="store_true", help="print what no controller can beat")
    parser.add_argument("--step", type=seconds, default=900.0, help="control step away from events (15min)")
    parser.add_argument(
        "--coarse",
        action="store_true",
        help="plan 36 h in hours to a gap of 2 %% instead of 48 h finely to 1 %%: for a year",
    )
    add_uncertainty_options(parser)
    parser.add_argument("--replan", type=seconds, default=3600.0, help="how often a plan is made (1h)")
    parser.add_argument("--out", type=Path, help="folder for results, checkpoints and `ems report`")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in --out")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, in processes (1)")
    parser.add_argument("--trace", action="store_true", help="keep traces of a long run, too")
    parser.add_argument(
        "--tune",
        action="store_true",
        help="search the thresholds of the baselines on this period and write them beside the site file",
    )


def run(args: argparse.Namespace) -> int:
    """Run everything that was asked for, print the table, write the results."""
    if args.resume and args.out is None:
        raise EmsError("--resume: found no --out; allowed: the folder of the run to go on with")
    console = Console()
    site_file = find_site(args.site)
    site = load_site(site_file)
    period = period_of(args)
    if args.tune:
        return _tune(console, site, site_file, period, args)
    return _simulate(console, site, site_file, period, args)


def _simulate(console: Console, site: Site, site_file: Path, period: Period, args: argparse.Namespace) -> int:
    from cli._runs import Job, run_jobs
    from cli.result_print import print_table
    from cli.result_table import compare
    from cli.tuned import thresholds_text

    seeds = args.seeds if args.seeds is not None else (args.seed,)
    scenarios = scenarios_of(site, period, seeds, args)
    options = options_of(site_file, site, period, args)
    jobs = [
        Job(
            scenario=s,
            controller=c,
            options=options,
            folder=None if args.out is None else folder_of(args.out, len(seeds), s.seed) / c,
            resume=args.resume,
        )
        for s in scenarios
        for c in args.controllers
    ]
    _say(console, {**scenarios[0].labels, "rules": thresholds_text(site_file, site)})
    results = run_jobs(jobs, console, workers=args.jobs)
    if results is None:
        console.print("stopped" + (f"; go on with --resume --out {args.out}" if args.out else ""))
        return EXIT_INTERRUPTED
    width = len(args.controllers)
    groups = [results[i : i + width] for i in range(0, len(results), width)]
    print_table(console, compare(site, groups[0]))
    for runs in groups[0]:
        console.print(f"[dim]{runs.controller}: {runs.wall_s:.0f} s; {'; '.join(runs.notes)}[/dim]")
    _prices(console, site, groups[0][0])
    if args.bound:
        _bound(console, site, scenarios, args.out)
    _finish(console, site, site_file, groups, scenarios, args)
    return 0


def options_of(site_file: Path, site: Site, period: Period, args: argparse.Namespace) -> SimulateOptions:
    """Steps, planner and thresholds of the runs."""
    from cli.tuned import tuned_options
    from sim.harness import COARSE_PLANNER, STUDY_PLANNER
    from sim.steps import SIMULATE_STEPS

    steps = replace(SIMULATE_STEPS, step_s=args.step, island_step_s=min(60.0, args.step))
    options = tuned_options(site_file, site, steps=steps)
    traced = args.trace or period.days <= TRACE_DAYS_MAX
    planner = COARSE_PLANNER if args.coarse else STUDY_PLANNER
    planner = replace(planner, uncertainty=studied_uncertainty(args))
    return replace(options, replan_s=args.replan, planner=planner, trace_s=60.0 if traced else None)


def folder_of(out: Path, seeds: int, seed: int) -> Path:
    """Folder of the runs of one seed."""
    return out if seeds == 1 else out / f"seed-{seed}"


def _controllers(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(t.strip() for t in text.split(",")))
    strange = [n for n in names if n not in CONTROLLERS]
    if strange:
        allowed = ", ".join(CONTROLLERS)
        raise argparse.ArgumentTypeError(f"found {', '.join(strange)}; allowed: {allowed}")
    return names


def _say(console: Console, labels: Mapping[str, str]) -> None:
    for kind, text in labels.items():
        console.print(f"[dim]{kind}: {text}[/dim]")


def _prices(console: Console, site: Site, run: RunResult) -> None:
    """Which versions the money of a run rests on; all of them are in its result.json and in the report."""
    from cli.priced_text import priced_lines

    lines = list(priced_lines(run))
    for line in lines[:VERSIONS_SHOWN]:
        console.print(
            f"[dim]{run.controller}: {line.side} of {line.energy_kwh:.1f} kWh for {line.money:.2f} "
            f"{site.currency} by {line.source}[/dim]",
            soft_wrap=True,
        )
    if len(lines) > VERSIONS_SHOWN:
        console.print(f"[dim]... and {len(lines) - VERSIONS_SHOWN} more[/dim]")


def _bound(console: Console, site: Site, scenarios: Sequence[Scenario], out: Path | None) -> None:
    from sim.period import bound_of

    for scenario in scenarios:
        bound = bound_of(scenario)
        console.print(
            f"bound, seed {scenario.seed}: no controller can cost less than {bound.cost:.1f} "
            f"{site.currency}, lost load included ({bound.status}, {bound.solve_s:.0f} s)"
        )
        if out is not None:
            folder = folder_of(out, len(scenarios), scenario.seed)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "bound.json").write_text(json.dumps(asdict(bound), indent=1) + "\n", encoding="utf-8")


def _finish(
    console: Console,
    site: Site,
    site_file: Path,
    groups: Sequence[Sequence[RunResult]],
    scenarios: Sequence[Scenario],
    args: argparse.Namespace,
) -> None:
    """The study over days and seeds, and what `ems report` needs beside the results."""
    from cli._study import print_study, save_study, study
    from cli.report_data import RunMeta, save_meta, site_sha256

    found = study(site, groups)
    if found is not None and len(found.days) > 1:
        print_study(console, site, found)
    if args.out is None:
        return
    args.out.mkdir(parents=True, exist_ok=True)
    if found is not None:
        save_study(args.out / "study.json", found)
    for scenario in scenarios:
        meta = RunMeta(site_file=str(site_file), site_sha256=site_sha256(site_file), notices=scenario.notices)
        save_meta(folder_of(args.out, len(scenarios), scenario.seed), meta)
    console.print(f"written: {args.out}")


def _tune(console: Console, site: Site, site_file: Path, period: Period, args: argparse.Namespace) -> int:
    """Search the thresholds of the baselines on this period."""
    from concurrent.futures import ProcessPoolExecutor
    from contextlib import nullcontext
    from multiprocessing import get_context

    from cli.tuned import site_block, tuned_file
    from sim.tune import save_tuned, tune

    scenario = told_scenario(scenario_of(site, period, args.seed, args), args.inputs)
    _say(console, scenario.labels)
    pool = ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) if args.jobs > 1 else None
    with pool if pool is not None else nullcontext():
        tuned = tune(scenario, executor=pool, progress=lambda text: console.print(f"[dim]{text}[/dim]"))
    path = tuned_file(site_file) if args.out is None else args.out
    save_tuned(path, tuned)
    console.print(
        f"{tuned.trials} runs; rules {tuned.rules_default_cost:.0f} -> {tuned.rules_cost:.0f}, rules_tou "
        f"{tuned.tou_default_cost:.0f} -> {tuned.tou_cost:.0f} {site.currency}; written: {path}"
    )
    console.print("for the site file, as the rules of the edge (and then of the baselines, too):")
    console.print(site_block(tuned.tou, site), markup=False, highlight=False, soft_wrap=True)
    return 0
