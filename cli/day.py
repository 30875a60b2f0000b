"""One plant day over real sockets: four processes in lock-step, and what they leave behind as one result."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cli.free_ports import free_ports
from cli.past import save_past
from cli.plant_process import demo_world_options
from cli.process_config import Pace, ProcessConfig, write_config
from cli.supervisor import ChildSpec, Supervisor
from connectors.historian.sqlite import SqliteHistoryReader
from connectors.stores.plans import PlanReader
from ems.clock import wall_s, wall_sleep
from ems.commands import WriteOutcome
from ems.errors import EmsError
from ems.points import split_point_id
from ems.site import Site
from sim.clock import TimeKeeper
from sim.edge_trace import SOURCES
from sim.period import by_day
from sim.result import PlanMade, RunRequest, RunResult, genset_events, plan_stats
from sim.scenario import Scenario, save_scenario
from sim.trace import load_traces
from sim.world import World

STOP_ORDER = ("edge", "planner", "api", "plant")
MODULES = {
    "plant": "cli.plant_process",
    "edge": "cli.edge_process",
    "planner": "cli.planner_process",
    "api": "cli.api_process",
}
ALL_ROWS = 1_000_000
START_S_MAX = 60.0  # wall time the plant process may take to serve its devices


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedKill:
    """`kill -9` of one process at a plant time, and the plant time it is admitted again [s after start].

    `back_s` is None for a process outside lock-step (the api): it comes back as soon as the machine lets it.
    """

    name: str
    at_s: float
    back_s: float | None


@dataclass(slots=True, kw_only=True)
class DayRun:
    """A run over sockets in the making; `on_progress` is told the plant time [s] whenever it has moved."""

    site: Site
    site_file: Path
    scenario: Scenario
    directory: Path
    ports: Mapping[str, int]
    api_port: int
    replan_s: float = 900.0
    allowance_s: float = 60.0
    explain_h: float = 0.0
    kills: tuple[PlannedKill, ...] = ()  # ascending in time
    on_progress: Callable[[float], None] | None = None
    supervisor: Supervisor = field(default_factory=Supervisor)
    wall_s: float = 0.0
    _keeper: TimeKeeper | None = None

    async def go(self) -> RunResult:
        """Start everything, let the day pass, stop everything, gather the result."""
        began_s = wall_s()
        keeper = self._keeper = TimeKeeper(
            self.scenario.start,
            end_s=self.scenario.duration_s,
            expected=("plant", "edge", "planner"),
            progress=self._moved,
        )
        config = self.configure(await keeper.open())
        path = write_config(config, self.directory / "process.json")
        watcher = asyncio.create_task(self.supervisor.watch())
        try:
            await self._start_all(keeper, path)
            await keeper.run()
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
            await self.supervisor.stop(STOP_ORDER)
        self.wall_s = wall_s() - began_s
        return self.result(config)

    async def _start_all(self, keeper: TimeKeeper, config: Path) -> None:
        """The plant first: the others find its servers answering, so that every run begins alike."""
        for name, module in MODULES.items():
            log = self.directory / f"{name}.log"
            self.supervisor.start(ChildSpec(name=name, module=module, config=config, log=log))
            waited_s = wall_s()
            while name == "plant" and name not in keeper.participants():
                if wall_s() - waited_s > START_S_MAX:
                    raise EmsError(f"the plant process did not start; see {log}")
                await wall_sleep(0.05)

    def configure(self, keeper_port: int | None) -> ProcessConfig:
        """Write the files the processes start from."""
        scenario, directory = self.scenario, self.directory
        directory.mkdir(parents=True, exist_ok=True)
        save_scenario(directory / "scenario.npz", scenario)
        past = save_past(directory / "past.npz", {**scenario.load_kw, **scenario.pv_kw}, scenario.start)
        pace = Pace(start=scenario.start, end=scenario.end, mains_edges_s=scenario.mains_edges_s())
        return ProcessConfig(
            site=self.site_file.resolve(),
            directory=directory,
            keeper_port=keeper_port,
            ports=self.ports,
            shadow=False,
            pace=pace,
            replan_s=self.replan_s,
            solve_allowance_s=self.allowance_s,
            solve_limit_s=None,
            explain_h=self.explain_h,
            api_port=self.api_port,
            scenario=directory / "scenario.npz",
            past=past,
            notices=scenario.notices,
        )

    def _moved(self, now_s: float) -> None:
        while self._keeper is not None and self.kills and now_s >= self.kills[0].at_s:
            kill, self.kills = self.kills[0], self.kills[1:]
            self.supervisor.kill(kill.name)
            if kill.back_s is not None:
                self._keeper.expect(kill.name, kill.back_s)
        if self.on_progress is not None:
            self.on_progress(now_s)

    def result(self, config: ProcessConfig) -> RunResult:
        """What the plant counted, what the edge meant and commanded, and how the planner did."""
        s = self.scenario
        world = World.restore(s, config.world.read_bytes(), options=demo_world_options(s))
        if world.now_s < s.duration_s - 1.0:
            raise EmsError(f"the plant stopped at {s.at(world.now_s)}; see {self.directory}/plant.log")
        world.finish()
        trace = world.trace()
        reader, plans = SqliteHistoryReader(config.history), PlanReader(config.plans)
        summaries = plans.summaries(s.start, s.end, ALL_ROWS)
        made = [
            PlanMade(label=str(p.label), gap_ratio=p.gap_ratio, took_s=p.solve_s) for p in reversed(summaries)
        ]
        requests = run_requests(reader, s.start, s.end)
        events = tuple(reversed(reader.events(s.start, s.end, None, ALL_ROWS)))
        plans.close()
        return RunResult(
            controller="mpc",
            scenario_name=s.name,
            site=self.site.name,
            start=s.start,
            end=s.end,
            seed=s.seed,
            labels=s.labels,
            counters=world.counters(),
            violation_s=dict(world.meter.violation_s),
            violation_max=dict(world.meter.violation_max),
            trace=trace,
            edge=load_traces(config.edge_trace)["edge"],
            edge_sources=SOURCES,
            plans=plan_stats(made, self.allowance_s),
            events=events,
            gensets=genset_events(trace, [g.id for g in self.site.gensets], requests, s.start),
            wall_s=self.wall_s,
            days=by_day(s.start, tuple(world.meter.day_readings), tuple(world.meter.day_peaks_kw)),
            notes=(f"over real Modbus TCP and OPC UA sockets; {world.steps} physics steps",),
        )


def run_requests(reader: SqliteHistoryReader, start: datetime, end: datetime) -> list[RunRequest]:
    """Changes of what the edge asked of each genset, oldest first, from the audit."""
    asked: dict[str, bool] = {}
    out = []
    for record in reversed(reader.commands(start, end, None, ALL_ROWS)):
        asset, name = split_point_id(record.point)
        if name != "run_request" or record.outcome is not WriteOutcome.CONFIRMED:
            continue
        run = record.value >= 0.5
        if asked.get(asset, False) != run:
            asked[asset] = run
            out.append(
                RunRequest(
                    t_s=(record.at - start).total_seconds(),
                    genset=asset,
                    run=run,
                    reason=record.reason,
                    cause=str(record.cause),
                )
            )
    return out


def choose_ports(site: Site, api_port: int, *, free: bool) -> tuple[dict[str, int], int]:
    """The site's own ports if all can be bound, or free ones; connection id -> port, and the api's.

    Raises
    ------
    EmsError : a port of the site file is taken; the message names it and the way out.
    """
    if free:
        picked = free_ports(len(site.connections) + 1)
        return dict(zip([c.id for c in site.connections], picked, strict=False)), picked[-1]
    wanted = {c.id: c.port for c in site.connections}
    for name, port in {**wanted, "the service": api_port}.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise EmsError(
                    f"port {port} of {name} is in use; end what holds it, or let --free-ports pick others"
                ) from None
    return wanted, api_port
