"""A run without sockets, threads or an event loop: the production tick and planner on a virtual clock."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path

from dispatch.controllers.build import follower_of, rules_of, rules_tou_of
from dispatch.controllers.rules import Rules
from dispatch.controllers.rules_tou import RulesTou
from dispatch.runtime import EdgeRuntime
from dispatch.vocabulary import Controller, Decisions
from ems.announced import AnnouncedOutages
from ems.clock import Clock, VirtualClock, wall_s
from ems.errors import EmsError
from ems.outage import OutageNotice
from ems.ports import Forecaster
from ems.prices import DayPrices, TodaysPrices
from ems.rules import RulesParams, TouParams
from ems.site import GridMode, Site
from forecasting.history import ForecastOptions
from forecasting.inputs import InputForecaster
from forecasting.measured import MeasuredHistory, MemorySamples, history_forecaster, quarter_hours
from forecasting.slots import slot_of, slot_start
from optimizer.options import PlannerOptions
from optimizer.uncertainty import UncertaintyKind
from sim.checkpoint import restore_run, save_run
from sim.direct_io import WorldIO
from sim.drive import drive
from sim.edge_trace import SOURCES, EdgeTrace
from sim.perfect import PerfectForecaster
from sim.period import by_day
from sim.recorder import MemoryPlans, MemoryRecorder
from sim.result import RunResult, genset_events, plan_stats
from sim.scenario import Scenario
from sim.steps import SIMULATE_STEPS, StepOptions, StepPolicy
from sim.timeline import WindowSet
from sim.told import priced_of
from sim.turns import PlanningTurns
from sim.world import EPSILON_S, World, WorldOptions


class ControllerName(StrEnum):
    """Who decides in a run."""

    RULES = "rules"
    RULES_TOU = "rules_tou"
    MPC = "mpc"
    MPC_TWO_STAGE = "mpc_two_stage"  # the same MPC, planning over scenarios
    MPC_ROBUST = "mpc_robust"  # the same MPC, planning for high load and little sun
    PERFECT = "perfect"  # the same MPC, fed with the truth


# Four hours in quarters, then hours: over a week of December 2022 (UCSD load, Eskom outages, a new plan every
# hour) a quarter less CPU than the live planner's grid, and no dearer (15,078 against 15,150 USD).
STUDY_PLANNER = PlannerOptions(blocks=((900.0, 16), (3600.0, 44)))
COARSE_PLANNER = PlannerOptions(blocks=((900.0, 4), (3600.0, 35)), gap_ratio=0.02)  # for a year


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """How a run is made.

    Parameters
    ----------
    steps : cycle lengths.
    replan_s : age at which a plan is renewed [s].
    spacing_s : shortest time between plans made out of turn [s].
    allowance_s : plant time from the start of a solve to its publication [s].
    planner_away : times in which the planner is dead: (from, until it is back) [s after start].
    planner : grid and effort; limited by nodes, not by wall time, so that the same seed gives the same plans.
    rules, tou : thresholds of the baselines; None: those of the site.
    trace_s : length of a trace row away from events; None records no trace [s].
    checkpoint : file to write every `checkpoint_s` of plant time, and to go on from with `resume`.
    """

    steps: StepOptions = SIMULATE_STEPS
    replan_s: float = 3600.0
    spacing_s: float = 60.0
    allowance_s: float = 30.0
    planner_away: tuple[tuple[float, float], ...] = ()
    planner: PlannerOptions = STUDY_PLANNER
    rules: RulesParams | None = None
    tou: TouParams | None = None
    trace_s: float | None = 60.0
    checkpoint: Path | None = None
    checkpoint_s: float = 7 * 86400.0
    resume: bool = False


def controller_of(name: ControllerName, site: Site, options: SimulateOptions) -> Controller:
    """The edge's controller of this name."""
    match name:
        case ControllerName.RULES:
            return rules_of(site) if options.rules is None else Rules(params=options.rules)
        case ControllerName.RULES_TOU:
            return rules_tou_of(site) if options.tou is None else RulesTou(params=options.tou)
        case (
            ControllerName.MPC
            | ControllerName.MPC_TWO_STAGE
            | ControllerName.MPC_ROBUST
            | ControllerName.PERFECT
        ):
            return follower_of(site)  # as the edge process makes it


def planner_of(name: ControllerName, options: SimulateOptions) -> PlannerOptions:
    """The planner's options under this controller: uncertainty as its name says, all else the same.

    What is decided until the next plan is common to all scenarios.
    """
    kinds = {
        ControllerName.MPC_TWO_STAGE: UncertaintyKind.TWO_STAGE,
        ControllerName.MPC_ROBUST: UncertaintyKind.ROBUST,
    }
    kind = kinds.get(name, UncertaintyKind.NONE)
    u = options.planner.uncertainty
    first_s = u.first_s if u.first_s > 0.0 else options.replan_s
    return replace(options.planner, uncertainty=replace(u, kind=kind, first_s=first_s))


def forecaster_of(
    name: ControllerName, scenario: Scenario, measured: MeasuredHistory, scenarios: int = 0
) -> Callable[[], Forecaster] | None:
    """Makes what the planner of this controller knows; None when it has no planner."""
    known = scenario.inputs
    if known is not None and name is not ControllerName.PERFECT:
        made = forecaster_of(name, replace(scenario, inputs=None), measured, scenarios)
        return None if made is None else lambda: InputForecaster(scenario.site, made(), known)
    match name:
        case ControllerName.RULES | ControllerName.RULES_TOU:
            return None
        case ControllerName.MPC | ControllerName.MPC_ROBUST:
            return partial(history_forecaster, scenario.site, measured, scenario.notices)
        case ControllerName.MPC_TWO_STAGE:
            options = ForecastOptions(scenarios=scenarios)
            return partial(history_forecaster, scenario.site, measured, scenario.notices, options)
        case ControllerName.PERFECT:
            return partial(PerfectForecaster, scenario)


def outages_of(scenario: Scenario, clock: Clock) -> Callable[[], Sequence[OutageNotice]]:
    """What rules know of outages that inputs announce: what was told by then."""
    if scenario.inputs is None:
        return tuple
    return AnnouncedOutages(scenario.site.inputs, scenario.inputs, clock.now)


def prices_of(scenario: Scenario) -> Callable[[datetime], DayPrices | None]:
    """What rules know of today's prices: what was told by then."""
    if scenario.inputs is None:
        return lambda now: None
    return TodaysPrices(scenario.site.inputs, scenario.site.tariff, scenario.inputs)


class StoppedError(EmsError):
    """A run was asked to stop before its end."""


class Run:
    """One controller on its way through one scenario."""

    def __init__(self, scenario: Scenario, name: ControllerName, options: SimulateOptions) -> None:
        options = replace(options, planner=planner_of(name, options))
        self.scenario, self.name, self.options = scenario, name, options
        self._policy = StepPolicy.of(scenario, options.steps)
        self._windows = WindowSet(self._policy.windows())
        self.world = World(scenario, options=world_options(scenario, options, self._policy))
        self.clock = VirtualClock(scenario.start)
        self.plans = MemoryPlans()
        self.samples = MemorySamples(scenario.site)
        self.measured = measured_in(scenario, self.samples)
        scenarios = options.planner.uncertainty.scenarios
        forecaster = forecaster_of(name, scenario, self.measured, scenarios)
        self.turns = None if forecaster is None else PlanningTurns(scenario, forecaster, options)
        keeps = self.turns is not None and name is not ControllerName.PERFECT
        self.recorder = MemoryRecorder(scenario.start, samples=self.samples if keeps else None)
        self.runtime = EdgeRuntime(
            scenario.site,
            clock=self.clock,
            device_io=WorldIO(self.world, self.clock),
            plans=self.plans,
            recorder=self.recorder,
            controller=controller_of(name, scenario.site, options),
            shadow=False,
            epoch=1,
            notices=scenario.notices,
            planner_alive=self._planner_alive,
            earliest=scenario.start,
            prices=prices_of(scenario),
            announced=outages_of(scenario, self.clock),
        )
        self.edge = EdgeTrace(scenario.site, self._edge_bin_s)
        self.mode = GridMode.UNKNOWN
        self.cycles = 0
        self.wall_s = 0.0

    def go(
        self,
        progress: Callable[[float], None] | None = None,
        stop: Callable[[], bool] | None = None,
        on_period: Callable[["Run"], None] | None = None,
    ) -> RunResult:
        """Run to the end of the scenario.

        Parameters
        ----------
        progress : called with the plant time after each cycle [s].
        stop : asked before each cycle; True ends the run.
        on_period : called whenever another `checkpoint_s` of plant time has passed, and on `stop`.

        Raises
        ------
        StoppedError : `stop` said so; `on_period` has been called.
        """
        began_s, before_s = wall_s(), self.wall_s
        period_s = self.options.checkpoint_s
        due_s = (self.world.now_s // period_s + 1.0) * period_s
        end_s = self.scenario.duration_s
        while self.world.now_s < end_s - EPSILON_S:
            stopping = stop is not None and stop()
            if stopping or self.world.now_s >= due_s:
                self.wall_s = before_s + wall_s() - began_s
                due_s += period_s
                if on_period is not None:
                    on_period(self)
            if stopping:
                raise StoppedError(f"{self.name}: stopped at {self.scenario.at(self.world.now_s)}")
            self._cycle(end_s)
            if progress is not None:
                progress(self.world.now_s)
        self.wall_s = before_s + wall_s() - began_s
        return self._result()

    def _cycle(self, end_s: float) -> None:
        t_s = self.world.now_s
        self.clock.advance(max(0.0, t_s - self.clock.monotonic_s()))
        expected_s = self._next_s(t_s, end_s)
        plan, before = self.plans.plan, self.world.commands()  # as the edge sees them
        decisions = drive(self.runtime.cycle(expected_s - t_s))
        self.mode = decisions.mode
        self.cycles += 1
        published = self.turns is not None and self._planned(self.turns, t_s, decisions)
        to_s = min(expected_s, self._next_s(t_s, end_s, moved=self.world.commands() != before))
        if published and to_s - t_s > LONG_CYCLE_S:
            to_s = min(t_s + AT_ONCE_S, to_s)
        self.edge.add(t_s, to_s - t_s, decisions, plan)
        self.world.advance(to_s, carry=to_s - t_s > LONG_CYCLE_S)

    def _planned(self, turns: PlanningTurns, t_s: float, decisions: Decisions) -> bool:
        """The planner's turn comes after the edge's; True: it has published a plan."""
        published = turns.turn(t_s, decisions, self.plans)
        if turns.pending is not None:  # when it was issued, every quarter of an hour before was made a mean
            self.samples.forget(slot_start(slot_of(turns.pending[1].issued_at)))
        return published

    def _planner_alive(self) -> bool:
        return self.turns is None or self.turns.alive(self.clock.monotonic_s())

    def _next_s(self, t_s: float, end_s: float, *, moved: bool = False) -> float:
        """When the edge cycles next; soon where it has just asked a genset or a breaker to move [s]."""
        published_s = math.inf if self.turns is None else self.turns.next_s()
        if published_s <= t_s + EPSILON_S:  # in this cycle
            published_s = math.inf
        next_s = self._policy.next_s(t_s, self.mode, self.world.busy or moved)
        return min(next_s, max(published_s, t_s + 1.0), end_s)

    def _edge_bin_s(self, t_s: float) -> float:
        trace_s = self.options.trace_s
        if trace_s is None:
            return 900.0
        return 1.0 if t_s in self._windows else trace_s

    def _result(self) -> RunResult:
        self.world.finish()
        s, meter, trace = self.scenario, self.world.meter, self.world.trace()
        made = [] if self.turns is None else self.turns.made
        gensets = [g.id for g in s.site.gensets]
        return RunResult(
            controller=str(self.name),
            scenario_name=s.name,
            site=s.site.name,
            start=s.start,
            end=s.end,
            seed=s.seed,
            labels=s.labels,
            counters=self.world.counters(),
            violation_s=dict(meter.violation_s),
            violation_max=dict(meter.violation_max),
            trace=trace,
            edge=self.edge.trace(),
            edge_sources=SOURCES,
            plans=plan_stats(made, self.options.allowance_s),
            events=tuple(self.recorder.kept),
            gensets=genset_events(trace, gensets, self.recorder.requests, s.start),
            wall_s=self.wall_s,
            notes=self._notes(),
            days=by_day(s.start, tuple(meter.day_readings), tuple(meter.day_peaks_kw)),
            priced=priced_of(s),
        )

    def _notes(self) -> tuple[str, ...]:
        r = self.recorder
        out = [f"{self.cycles} cycles, {self.world.steps} physics steps"]
        if r.refusals:
            out.append("writes refused by the gate: " + _counted(r.refusals))
        bad = {k: n for k, n in r.outcomes.items() if k != "confirmed"}
        if bad:
            out.append("writes not confirmed: " + _counted(bad))
        if r.lost:
            out.append(f"{r.lost} events not kept")
        return tuple(out)


LONG_CYCLE_S = 10.0  # cycles longer than this stand for an edge that refreshes its setpoints meanwhile
AT_ONCE_S = 1.0  # ... and that sees a new plan a second after its publication


def measured_in(scenario: Scenario, samples: MemorySamples) -> MeasuredHistory:
    """What is known of a scenario before its start, to be joined with what the edge reads in the run."""
    past = {**scenario.load_kw, **scenario.pv_kw}
    before = {asset: quarter_hours(asset, series, scenario.start) for asset, series in past.items()}
    return MeasuredHistory(site=scenario.site, reader=samples, before=before, hold_s_max=math.inf)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} x {k}" for k, n in sorted(counts.items()))


def world_options(scenario: Scenario, options: SimulateOptions, policy: StepPolicy) -> WorldOptions:
    """Physics to go with the cycle lengths of a run: the truth is averaged where the edge looks seldom."""
    step_s = options.steps.step_s
    finest_s = min(x.step_s for x in scenario.load_kw.values())
    return WorldOptions(
        coarse_s=step_s if step_s > finest_s else None,
        fine=policy.windows(),
        trace_s=options.trace_s,
    )


def simulate(
    scenario: Scenario,
    controller: ControllerName | str,
    *,
    options: SimulateOptions | None = None,
    progress: Callable[[float], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> RunResult:
    """Run one controller through a scenario with the production edge and planner, on a virtual clock.

    Parameters
    ----------
    scenario : truth, mains and notices.
    controller : the name of one (ControllerName).
    options : steps, planner, thresholds, checkpoint.
    progress : called with the plant time reached [s].
    stop : asked before each cycle; True writes a checkpoint (where one is wanted) and ends the run.

    Raises
    ------
    StoppedError : ended by `stop`.
    DataError : a checkpoint to resume from is of another run.
    """
    chosen = SimulateOptions() if options is None else options
    run = Run(scenario, ControllerName(controller), chosen)
    path = chosen.checkpoint
    if path is not None and chosen.resume and path.is_file():
        restore_run(run, path)
    save = None if path is None else (lambda r: save_run(r, path))
    return run.go(progress, stop, save)
