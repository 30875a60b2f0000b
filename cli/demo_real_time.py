"""`ems demo --real-time`: the same processes on the machine's own clock, and how true their cycle is."""

import argparse
import asyncio
import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from cli._sites import find_site
from cli.day import MODULES, STOP_ORDER, DayRun, choose_ports
from cli.process_config import write_config
from cli.supervisor import ChildSpec
from ems.clock import SystemClock, wall_s, wall_sleep
from ems.errors import EmsError
from ems.site_schema import load_site

CYCLE_S = 1.0
EXPLAIN_H = 2.0  # how far ahead each plan is explained


def run_real_time(args: argparse.Namespace, console: Console) -> int:
    """Run plant, edge, planner and api for some minutes in real time and print the jitter of the cycle."""
    from zoneinfo import ZoneInfo

    from sim.synthetic import demo_scenario

    site_file = find_site("demo")
    site = load_site(site_file)
    today = SystemClock().now().astimezone(ZoneInfo(site.timezone)).date()
    ports, api_port = choose_ports(site, args.api_port, free=args.free_ports)
    folder = args.out.resolve() / "run"
    if folder.exists():
        shutil.rmtree(folder)
    day = DayRun(
        site=site,
        site_file=site_file,
        scenario=demo_scenario(site, today, seed=args.seed),
        directory=folder,
        ports=ports,
        api_port=api_port,
        explain_h=EXPLAIN_H,
    )
    console.print(f"{args.minutes:g} minutes of real time, one cycle a second; http://127.0.0.1:{api_port}/")
    asyncio.run(_run(day, args.minutes * 60.0))
    starts = np.load(folder / "cycles.npy")
    if len(starts) < 3:
        raise EmsError(f"the edge made only {len(starts)} cycles; see {folder}/edge.log")
    console.print(jitter_table(starts.tolist()))
    return 0


async def _run(day: DayRun, seconds: float) -> None:
    config = replace(day.configure(None), pace=None, cycle_s=CYCLE_S, solve_limit_s=20.0)
    path = write_config(config, day.directory / "process.json")
    watcher = asyncio.create_task(day.supervisor.watch())
    try:
        for name, module in MODULES.items():
            spec = ChildSpec(name=name, module=module, config=path, log=day.directory / f"{name}.log")
            day.supervisor.start(spec)
        began_s = wall_s()
        while wall_s() - began_s < seconds:
            await wall_sleep(0.2)
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher
        await day.supervisor.stop(STOP_ORDER)


def jitter_table(starts_s: Sequence[float]) -> Table:
    """How late each cycle began, against its second [s]."""
    times = np.asarray(starts_s)
    late_ms = 1000.0 * np.abs(np.diff(times) - CYCLE_S)
    table = Table(title=f"{len(times)} cycles of {CYCLE_S:g} s: difference from one second")
    for head in ("p50", "p95", "p99", "max"):
        table.add_column(head, justify="right")
    figures = [*np.percentile(late_ms, [50, 95, 99]), late_ms.max()]
    table.add_row(*[f"{x:.1f} ms" for x in figures])
    return table
