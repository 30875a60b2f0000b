"""The edge process: devices in, decisions out, every cycle. It loads neither a solver nor a web framework."""

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from cli import memory
from cli.clocks import EDGE_PHASE, open_clock
from cli.edge_people import People, Shown
from cli.edge_records import before, tell_site, unproven
from cli.edge_status import edge_status
from cli.edge_watches import Watches
from cli.process_config import ProcessConfig, read_config
from cli.signs_of_life import SignsOfLife
from cli.stopping import run_until_stopped
from cli.writing_permit import permit
from connectors.field import FieldIO
from connectors.historian.archive.confirmed import Trimmer
from connectors.historian.live import LiveFile, LiveRecorder
from connectors.historian.sqlite import SqliteHistoryReader, SqliteRecorder
from connectors.stores.failing import Failing, Told
from connectors.stores.plans import PlanReader
from connectors.systemd import Notifier
from connectors.wire_log import TapOf
from dispatch.controllers.build import follower_of
from dispatch.pacing import figures
from dispatch.runtime import EdgeRuntime
from dispatch.vocabulary import Decisions
from dispatch.writing.budget import going_on
from dispatch.writing.last_line import Newest
from ems.clock import Clock, vouched
from ems.records import JsonValue, StatusRow
from ems.site import GridMode, Site
from ems.site_schema import load_site
from sim.edge_trace import EdgeTrace
from sim.steps import DEMO_STEPS, StepPolicy
from sim.trace import save_traces

Commissioned = Mapping[str, Mapping[str, str]] | None  # what each device said it is then
CYCLES_KEPT = 100_000
LOCKSTEP_TIMEOUT_S, LOCKSTEP_BACK_OFF_S = 5.0, 0.25  # wall time
DEMO_FINE_BIN_S, DEMO_BIN_S = 1.0, 60.0  # length of a row of the demo's trace [s]


async def serve(config: ProcessConfig) -> None:
    """Compose the edge of a site and run it; on the way out the plant is left at its safe values."""
    site = load_site(config.site)
    permitted = permit(config, site)
    past = before(SqliteHistoryReader(config.history))
    flushing: list[SqliteRecorder] = []

    async def flush() -> None:
        for one in flushing:
            await asyncio.to_thread(one.flush)

    clock = await open_clock(config, "edge", EDGE_PHASE, flush)
    recorder = _recorder(config, clock)
    flushing.append(recorder)
    live = LiveRecorder(recorder, LiveFile(config.directory), clock)
    plans = PlanReader(config.plans, on_event=recorder.event, clock=clock)

    def event(kind: str, fields: Mapping[str, JsonValue]) -> None:
        recorder.event(clock.now(), kind, fields)

    watches = Watches(config, site, clock, event)
    io = _field(config, site, clock, recorder, permitted.identities, watches.tap_of)
    people = _people(config, clock, event, site, ran_before=recorder.boot > 1 or not past.readable)
    runtime = EdgeRuntime(
        site,
        clock=clock,
        device_io=io,
        plans=plans,
        recorder=live,
        controller=follower_of(site),
        shadow=config.shadow,
        epoch=recorder.boot,
        notices=[*site.outages, *config.notices],
        planner_alive=plans.producer_alive,
        known=past.condition,
        expecting=io.expect_tick,
        known_alarms=past.alarms,
        synchronised=vouched if config.ask_kernel else lambda: None,
        newest=lambda: Newest(readings=io.newest()),
        standing=people.standing,
        keep=people.keep,
        strangers=io.strangers,
        prices=watches.prices,
        announced=watches.outages,
        beside=lambda: (*unproven(permitted.doubts), *watches.beside(recorder, people, io)),
    )
    people.serve(runtime)
    runtime.state = going_on(runtime.setup.layout, runtime.state, clock.now(), past.writes)
    tell_site(event, past, site, permitted)
    memory.settle()
    pacer = _Pacer(config, site, clock, plans, recorder, lambda: {**figures(runtime.pace), **io.figures()})
    signs = SignsOfLife(Notifier(os.environ.get("NOTIFY_SOCKET")))

    def period_s(decisions: Decisions | None) -> float:
        people.hear(runtime)  # right before each cycle
        return pacer.period_s(decisions)

    def told(decisions: Decisions, dt_s: float) -> None:
        live.status(pacer.told(decisions, dt_s, people.shown(runtime, decisions)))
        signs.told(decisions, dt_s)

    try:
        await runtime.run(period_s, lambda: False, told)
    finally:
        signs.close()
        people.close()  # before anything that a second signal may interrupt
        await io.close()
        with Failing("figures", event).trying("keep what the report looks at"):
            pacer.close()
        for other in (recorder, live, plans, watches):
            other.close()


def _people(config: ProcessConfig, clock: Clock, event: Told, site: Site, *, ran_before: bool) -> People:
    """What people ask and order. In lock-step a wait for the disk costs no time of the plant."""
    beside = config.keeper_port is None
    return People(config, clock, event, site.control, ran_before=ran_before, beside=beside)


def _recorder(config: ProcessConfig, clock: Clock) -> SqliteRecorder:
    """The historian. In lock-step it syncs nothing, and all of it stays in one file."""
    if config.keeper_port is not None:
        return SqliteRecorder(config.history, clock=clock, sync=False)
    return SqliteRecorder(config.history, clock=clock, trimmer=Trimmer(config.archive))


def _field(
    config: ProcessConfig,
    site: Site,
    clock: Clock,
    recorder: SqliteRecorder,
    commissioned: Commissioned,
    tap_of: TapOf,
) -> FieldIO:
    """The devices. In lock-step a busy machine is no fault, and a plant that is back is found at once."""
    addresses = {c.id: (c.host, config.ports.get(c.id, c.port)) for c in site.connections}
    if config.keeper_port is None:
        return FieldIO(
            site,
            clock=clock,
            addresses=addresses,
            on_event=recorder.event,
            phased=True,
            commissioned=commissioned,
            folder=config.site.parent if config.site_folder is None else config.site_folder,
            tap_of=tap_of,
            samples=recorder,
        )
    return FieldIO(
        site,
        clock=clock,
        addresses=addresses,
        on_event=recorder.event,
        timeout_s=LOCKSTEP_TIMEOUT_S,
        back_off_s_max=LOCKSTEP_BACK_OFF_S,
    )


class _Pacer:
    """Says how long each cycle is; in a demo it also keeps what the edge meant, for the report."""

    def __init__(
        self,
        config: ProcessConfig,
        site: Site,
        clock: Clock,
        plans: PlanReader,
        recorder: SqliteRecorder,
        figures: Callable[[], dict[str, JsonValue]],
    ) -> None:
        self._figures = figures
        self._config, self._clock, self._plans, self._recorder = config, clock, plans, recorder
        self._trace: EdgeTrace | None = None
        self._starts_s: deque[float] = deque(maxlen=CYCLES_KEPT)
        pace = config.pace
        if pace is not None:
            lead_s = pace.start.timestamp() % 86400.0
            self._policy = StepPolicy(DEMO_STEPS, pace.mains_edges_s, lead_s)
            self._trace = EdgeTrace(site, self._bin_s)

    def period_s(self, decisions: Decisions | None) -> float:
        """Length of the cycle that begins now [s]."""
        pace = self._config.pace
        if pace is None:
            self._starts_s.append(self._clock.monotonic_s())
            return self._config.cycle_s
        t_s = (self._clock.now() - pace.start).total_seconds()
        return self._policy.period_s(t_s, GridMode.UNKNOWN if decisions is None else decisions.mode)

    def told(self, decisions: Decisions, dt_s: float, people: Shown) -> StatusRow:
        """What a cycle of `dt_s` [s] decided, for whoever looks; in a demo for the report too."""
        counts = {**self._recorder.counts(), **self._figures(), **people.counts}
        row = edge_status(decisions, dt_s, counts, shadow=self._config.shadow, authority=people.authority)
        pace = self._config.pace
        if pace is not None and self._trace is not None:
            t_s = (decisions.at - pace.start).total_seconds()
            self._trace.add(t_s, dt_s, decisions, self._plans.current())
        return row

    def _bin_s(self, t_s: float) -> float:
        fine = any(lo <= t_s < hi for lo, hi in self._policy.windows())
        return DEMO_FINE_BIN_S if fine else DEMO_BIN_S

    def close(self) -> None:
        """Store the trace of a demo, or when the last cycles of a real-time run began."""
        if self._trace is not None:
            save_traces(self._config.edge_trace, {"edge": self._trace.trace()})
        else:
            np.save(self._config.directory / "cycles.npy", np.asarray(self._starts_s))


if __name__ == "__main__":
    run_until_stopped(serve(read_config(Path(sys.argv[1]))))
