"""`ems demo`: a weak-grid plant lives through one day over real sockets, beside both baselines."""

import argparse
import asyncio
import contextlib
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from multiprocessing import active_children, get_context
from pathlib import Path
from zoneinfo import ZoneInfo

from rich.console import Console

from cli._sites import find_site
from cli.day import DayRun, PlannedKill, choose_ports
from cli.demo_checks import historian_check
from cli.demo_screen import DayScreen
from ems.clock import SystemClock
from ems.errors import EmsError
from ems.site import Site
from ems.site_schema import load_site
from sim.result import RunResult, load_result, save_result
from sim.scenario import Scenario

HELP = "run a whole plant day over real Modbus TCP and OPC UA sockets, and write its report"
SITE = "demo"
DAY = date(2026, 3, 18)
SEED = 11  # chosen before any result was seen, and not changed since
PLANNER_DIES_H, PLANNER_GONE_S = 15.25, 600.0  # local time of day [h]; plant time until it is back [s]
REPLAN_S, ALLOWANCE_S = 900.0, 60.0
EXPLAIN_H = 2.0
BASELINES = ("rules", "rules_tou")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ems demo`."""
    parser.add_argument(
        "--out", type=Path, default=Path("demo-result"), help="folder of the result (demo-result)"
    )
    parser.add_argument(
        "--seed", type=int, default=SEED, help=f"seed of outages, load and cloud noise ({SEED})"
    )
    parser.add_argument("--api-port", type=int, default=8080, help="port of the service on 127.0.0.1 (8080)")
    parser.add_argument(
        "--free-ports", action="store_true", help="use free ports instead of those of the site"
    )
    parser.add_argument("--serve", action="store_true", help="keep the service up when the day is over")
    parser.add_argument("--real-time", action="store_true", help="true 1 s cycles instead of lock-step time")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long --real-time runs (5)")


def run(args: argparse.Namespace) -> int:
    """Run the day, or some minutes of it in real time."""
    console = Console()
    if args.real_time:
        from cli.demo_real_time import run_real_time

        return run_real_time(args, console)
    demo = prepare(args.out, args.seed)
    ports, api_port = choose_ports(demo.site, args.api_port, free=args.free_ports)
    introduce(console, demo, api_port)
    kill_s = demo.scenario.offset_s(_local(demo.site, PLANNER_DIES_H))
    day = DayRun(
        site=demo.site,
        site_file=demo.site_file,
        scenario=demo.scenario,
        directory=args.out.resolve() / "run",
        ports=ports,
        api_port=api_port,
        replan_s=REPLAN_S,
        allowance_s=ALLOWANCE_S,
        explain_h=EXPLAIN_H if args.serve else 0.0,
        kills=(PlannedKill(name="planner", at_s=kill_s, back_s=kill_s + PLANNER_GONE_S),),
    )
    with baselines(demo, args.out) as futures:
        ems = asyncio.run(_watched(day, console))
        save_result(args.out / "mpc", ems)
        console.print("waiting for the baselines on the same day and plant ...")
        results = [ems, *(load_result(f.result()) for f in futures)]
    finish(console, demo, day, results, args)
    if args.serve:
        serve(console, day, api_port)
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """What is run."""

    site: Site
    site_file: Path
    scenario: Scenario
    seed: int


def prepare(out: Path, seed: int) -> Demo:
    """Site and scenario of the demo day; the folder of a former demo is emptied.

    Raises
    ------
    EmsError : the folder holds something that is not a demo's result.
    """
    from sim.synthetic import demo_scenario

    if out.exists():
        known = {"run", "mpc", *BASELINES, "run.json", "report.html"}
        strange = sorted(p.name for p in out.iterdir() if p.name not in known)
        if strange:
            raise EmsError(
                f"--out: {out} holds {strange[0]}, which is no result of a demo; name another folder"
            )
        shutil.rmtree(out)
    out.mkdir(parents=True)
    site_file = find_site(SITE)
    site = load_site(site_file)
    return Demo(site=site, site_file=site_file, scenario=demo_scenario(site, DAY, seed=seed), seed=seed)


def _local(site: Site, hour: float) -> datetime:
    minute = round(hour % 1 * 60)
    return datetime(DAY.year, DAY.month, DAY.day, int(hour), minute, tzinfo=ZoneInfo(site.timezone))


def introduce(console: Console, demo: Demo, api_port: int) -> None:
    """Say what is about to happen."""
    zone = ZoneInfo(demo.site.timezone)
    h = demo.site.hierarchy
    console.print(f"[bold]{h.organisation}/{h.portfolio}/{h.plant}[/bold], {DAY}, seed {demo.seed}")
    for event in demo.scenario.mains:
        kind = "announced the day before" if event.announced else "announced by nobody"
        span = f"{event.start.astimezone(zone):%H:%M:%S} to {event.end.astimezone(zone):%H:%M:%S}"
        console.print(f"  no mains {span}, {kind}")
    console.print(f"  the planner is killed at {_local(demo.site, PLANNER_DIES_H):%H:%M} and comes back")
    for name, text in demo.scenario.labels.items():
        console.print(f"  {name}: {text}")
    console.print(f"  live: http://127.0.0.1:{api_port}/")


async def _watched(day: DayRun, console: Console) -> RunResult:
    screen = DayScreen(console, day)
    day.on_progress = screen.moved
    with screen:
        task = asyncio.create_task(day.go())
        screen_task = asyncio.create_task(screen.refresh())
        try:
            return await task
        finally:
            screen_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await screen_task


@contextlib.contextmanager
def baselines(demo: Demo, out: Path) -> Iterator[Sequence[Future[Path]]]:
    """Both baselines in a process of their own, on a virtual clock; gives the folders of their results."""
    pool = ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))
    futures: list[Future[Path]] = [
        pool.submit(run_baseline, demo.site_file, demo.seed, name, out / name) for name in BASELINES
    ]
    try:
        yield futures
    except BaseException:
        for child in active_children():  # nobody waits for a baseline whose day was stopped
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def run_baseline(site_file: Path, seed: int, name: str, folder: Path) -> Path:
    """One baseline through the demo day; gives the folder its result was stored in."""
    from cli.tuned import tuned_options
    from sim.harness import simulate
    from sim.steps import DEMO_STEPS
    from sim.synthetic import demo_scenario

    site = load_site(site_file)
    scenario = demo_scenario(site, DAY, seed=seed)
    save_result(folder, simulate(scenario, name, options=tuned_options(site_file, site, steps=DEMO_STEPS)))
    return folder


def finish(
    console: Console, demo: Demo, day: DayRun, results: list[RunResult], args: argparse.Namespace
) -> None:
    """Table, checks and report."""
    from cli.report import write_report
    from cli.report_data import RunMeta, report_input, save_meta, site_sha256
    from cli.result_print import print_table
    from cli.result_table import compare

    remarks = historian_check(day, results[0])
    remarks.append(f"The planner was killed once and came back {day.supervisor.restarts['planner']} time(s).")
    meta = RunMeta(
        site_file=SITE,
        site_sha256=site_sha256(demo.site_file),
        notices=demo.scenario.notices,
        command=f"ems demo --seed {demo.seed}",
        remarks=tuple(remarks),
    )
    save_meta(args.out, meta)
    print_table(console, compare(demo.site, results))
    for remark in remarks:
        console.print(remark)
    data = report_input(demo.site, results, meta, SystemClock().now().astimezone(UTC))
    path = write_report(args.out / "report.html", data)
    console.print(f"report: {path.resolve()}")


def serve(console: Console, day: DayRun, api_port: int) -> None:
    """Keep the service up over what the day has stored, until Ctrl-C."""
    from cli.api_process import serve_api

    console.print(f"serving http://127.0.0.1:{api_port}/ until Ctrl-C")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve_api(day.configure(None)))
