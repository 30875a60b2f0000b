"""The planner process: condition and history in, plan out, on schedule and whenever the plant has changed."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import structlog

from cli.clocks import PLANNER_PHASE, open_clock
from cli.explaining import Explaining
from cli.imported_past import imported_means, with_imported
from cli.past import PastKeeper, load_past
from cli.planner_inputs import PlannerInputs, ToldCaps, no_caps, planner_inputs
from cli.priorities import PLANNER_NICE
from cli.process_config import ProcessConfig, read_config
from cli.stopping import run_until_stopped
from connectors.historian.sqlite import SqliteHistoryReader
from connectors.sqlite_file import StoreError
from connectors.stores.plans import SqlitePlanStore
from ems.clock import Clock, SystemClock
from ems.condition import PlantCondition
from ems.forecast import CapAhead
from ems.plan import Plan
from ems.ports import HistoryReader
from ems.records import StatusRow
from ems.site import GridMode, Site
from ems.site_schema import load_site
from forecasting.history import ForecastOptions, HistoryForecaster
from forecasting.measured import MeasuredHistory, history_forecaster
from optimizer.explain.posed import Posed
from optimizer.options import PlannerOptions
from optimizer.outlook import OutlookKeeper
from optimizer.rolling import Planner
from optimizer.trigger import next_look, replan_reason
from optimizer.uncertainty import Uncertainty, UncertaintyKind

log = structlog.get_logger()

_SPACING_S = 60.0


@dataclass(slots=True, kw_only=True)
class PlannerLoop:
    """Plans for ever. In lock-step a solve always takes `solve_allowance_s` of plant time."""

    config: ProcessConfig
    clock: Clock
    history: HistoryReader
    store: SqlitePlanStore
    planner: Planner
    outlooks: OutlookKeeper
    inputs: PlannerInputs
    explaining: Explaining | None = None
    keep_past: Callable[[], None] = lambda: None
    last: Plan | None = None
    made: int = 0
    sign_of_life: Callable[[], None] = lambda: None
    _unpublished: Plan | None = None
    _told: str = ""
    _caps: tuple[CapAhead, ...] = ()  # that the last plan was made for

    async def run(self) -> None:
        """Look, plan, publish, wait."""
        self.last = self.store.current()
        while True:
            try:
                await self._look()
                self._told = ""
            except StoreError as error:  # tried again with the next look
                if str(error) != self._told:
                    log.error("planner.store.failed", why=str(error))
                self._told = str(error)
            await self._wait()

    async def _look(self) -> None:
        """Plan if there is a reason to. A plan that could not be published comes before another one.

        Raises
        ------
        StoreError : the historian cannot be read, or the plan store not be written.
        """
        self.sign_of_life()
        if self._unpublished is not None:
            self._publish(self._unpublished)
        condition = self.history.condition()
        if condition is not None and self._reason(condition) is not None:
            await self._plan(condition)
        self._report()

    def _reason(self, condition: PlantCondition) -> str | None:
        if condition.grid_mode is GridMode.UNKNOWN:
            return None  # nothing to start from yet
        edge, now = self.history.statuses().get("edge"), self.clock.now()
        reason = replan_reason(
            self.last,
            condition,
            now,
            followed=edge is not None and edge.fields.get("plan_id") is not None,
            replan_s=self.config.replan_s,
            spacing_s=_SPACING_S,
        )
        if reason is not None or self.last is None:
            return reason
        aged = (now - self.last.issued_at).total_seconds() >= _SPACING_S
        if aged and self.inputs.changed(self.last.issued_at, now):
            return "announced outages changed"
        if aged and self.inputs.caps_changed(self._caps, now):
            return "caps told by a utility changed"
        return None

    async def _plan(self, condition: PlantCondition) -> None:
        """Plan from what was seen now: in lock-step the edge moves on while the solve is on its way."""
        now, began_s = self.clock.now(), self.clock.monotonic_s()
        solve = asyncio.create_task(asyncio.to_thread(self._solve, now, condition))
        if self.config.keeper_port is not None:
            await self.clock.sleep_until(began_s + self.config.solve_allowance_s)
        plan, posed = await solve
        self.last, self.made, self._unpublished = plan, self.made + 1, plan
        self._caps = posed.forecast.caps
        self._publish(plan)
        self.keep_past()
        if self.explaining is not None:
            self.explaining.ask(posed, plan)

    def _publish(self, plan: Plan) -> None:
        self.store.publish(plan)
        self._unpublished = None

    def _solve(self, now: datetime, condition: PlantCondition) -> tuple[Plan, Posed]:
        horizon = self.planner.horizon(now, self.inputs.outages(now, condition), condition)
        forecast = self.inputs.measured(self.inputs.forecaster.forecast(horizon, now), condition)
        seq = 1 if self.last is None else self.last.seq + 1
        outlook = self.outlooks.at(now, condition)
        plan = self.planner.plan(condition, forecast, self.last, seq, outlook)
        plan = replace(plan, inputs=forecast.inputs)
        posed = Posed(
            site=self.planner.site, condition=condition, forecast=forecast, options=self.planner.options,
            outlook=outlook,
        )  # fmt: skip
        return plan, posed

    def _report(self) -> None:
        plan = self.last
        self.store.status(
            StatusRow(
                process="planner",
                pid=os.getpid(),
                at=self.clock.now(),
                fields={
                    "plans": self.made,
                    "explained": None if self.explaining is None else self.explaining.done,
                    "label": None if plan is None else str(plan.label),
                    "solve_s": None if plan is None else plan.solve.solve_s,
                    "gap_ratio": None if plan is None else plan.solve.gap_ratio,
                },
            )
        )

    async def _wait(self) -> None:
        now, mono_s = self.clock.now(), self.clock.monotonic_s()
        look_s = (next_look(now, self.config.replan_s) - now).total_seconds()
        await self.clock.sleep_until(mono_s + look_s)


def make_forecaster(
    site: Site, history: HistoryReader, config: ProcessConfig
) -> tuple[HistoryForecaster, MeasuredHistory]:
    """A forecaster over the stored past, joined with what the historian measures."""
    past = PastKeeper(config.directory).load() if config.past is None else load_past(config.past)
    if config.past is None:
        past = with_imported(past, imported_means(config.directory, site))
    measured = MeasuredHistory(site=site, reader=history, before=past)
    options = ForecastOptions(scenarios=config.scenarios)
    return history_forecaster(site, measured, [*site.outages, *config.notices], options), measured


def uncertainty_of(config: ProcessConfig) -> Uncertainty:
    """How the planner reckons with its forecasts being wrong."""
    kind = UncertaintyKind.NONE if config.quantile_ratio is None else UncertaintyKind.ROBUST
    plain = Uncertainty()
    return Uncertainty(
        kind=UncertaintyKind.TWO_STAGE if config.scenarios > 1 else kind,
        scenarios=max(1, config.scenarios),
        cvar_weight_ratio=config.cvar_weight_ratio,
        cvar_level_ratio=config.cvar_level_ratio,
        quantile_ratio=plain.quantile_ratio if config.quantile_ratio is None else config.quantile_ratio,
        first_s=config.replan_s,
        outages=config.outage_scenarios,
    )


def touched(file: Path) -> None:
    """A sign of life, where the disk takes it."""
    with contextlib.suppress(OSError):
        file.touch()


async def serve(config: ProcessConfig) -> None:
    """Compose the planner of a site and run it."""
    site = load_site(config.site)
    history = SqliteHistoryReader(config.history)
    # limited by nodes: the same input gives the same plan
    options = PlannerOptions(uncertainty=uncertainty_of(config))
    if config.solve_limit_s is not None:
        options = replace(options, time_limit_s=config.solve_limit_s, node_limit=None)
    forecaster, measured = make_forecaster(site, history, config)
    caps = ToldCaps(site, config.utility) if site.utilities else no_caps
    notices = (*site.outages, *config.notices)
    inputs = planner_inputs(site, forecaster, notices, config.directory, caps=caps)
    keeper = PastKeeper(config.directory)
    planner = Planner(site, options)
    planner.prepare(SystemClock().now())  # the first deadline is all solver
    clock = await open_clock(config, "planner", PLANNER_PHASE)
    store = SqlitePlanStore(config.plans)  # from here on the edge sees a living planner
    loop = PlannerLoop(
        config=config,
        clock=clock,
        history=history,
        store=store,
        inputs=inputs,
        planner=planner,
        outlooks=OutlookKeeper(site, inputs.forecaster, options),
        explaining=Explaining(store=store, hours=config.explain_h) if config.explain_h > 0.0 else None,
        sign_of_life=lambda: touched(config.planner_sign),
        keep_past=(lambda: keeper.keep(measured)) if config.past is None else lambda: None,
    )
    try:
        await loop.run()
    finally:
        if loop.explaining is not None:
            await loop.explaining.stop()
        store.close()


if __name__ == "__main__":
    read = read_config(Path(sys.argv[1]))
    if read.keeper_port is None:  # in lock-step the plant's time waits for the plan
        os.nice(PLANNER_NICE)
    run_until_stopped(serve(read))
