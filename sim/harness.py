"""A run without sockets, threads or an event loop: the production tick and planner on a virtual clock."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from dispatch.plan_follower import PlanFollower
from dispatch.rules import Rules, RulesParams
from dispatch.rules_tou import RulesTou, TouParams
from dispatch.runtime import EdgeRuntime
from dispatch.vocabulary import Controller, Decisions
from ems.clock import VirtualClock, wall_s
from ems.errors import EmsError, InvariantBroken
from ems.outage import known_outages
from ems.plan import Plan
from ems.ports import Forecaster
from ems.site import GridMode
from forecasting.history import HistoryForecaster
from optimizer.options import PlannerOptions
from optimizer.rolling import Planner
from optimizer.trigger import replan_reason
from sim.checkpoint import restore_run, save_run
from sim.direct_io import WorldIO
from sim.edge_trace import SOURCES, EdgeTrace
from sim.perfect import PerfectForecaster
from sim.period import by_day
from sim.recorder import MemoryPlans, MemoryRecorder
from sim.result import PlanMade, RunResult, genset_events, plan_stats
from sim.scenario import Scenario
from sim.steps import SIMULATE_STEPS, StepOptions, StepPolicy
from sim.timeline import WindowSet
from sim.world import EPSILON_S, World, WorldOptions

T = TypeVar("T")


class ControllerName(StrEnum):
    """Who decides in a run."""

    RULES = "rules"
    RULES_TOU = "rules_tou"
    MPC = "mpc"
    PERFECT = "perfect"  # the same MPC, fed with the truth


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """How a run is made.

    Parameters
    ----------
    steps : cycle lengths.
    replan_s : age at which a plan is renewed [s].
    spacing_s : shortest time between plans made out of turn [s].
    allowance_s : plant time from the start of a solve to its publication [s].
    planner : limited by nodes, not by wall time, so that the same seed gives the same plans.
    rules, tou : thresholds of the baselines; `rules` also carries the plan follower when there is no plan.
    trace_s : length of a trace row away from events; None records no trace [s].
    checkpoint : file to write every `checkpoint_s` of plant time, and to go on from with `resume`.
    """

    steps: StepOptions = SIMULATE_STEPS
    replan_s: float = 3600.0
    spacing_s: float = 60.0
    allowance_s: float = 30.0
    planner: PlannerOptions = field(default_factory=PlannerOptions)
    rules: RulesParams = field(default_factory=RulesParams)
    tou: TouParams = field(default_factory=TouParams)
    trace_s: float | None = 60.0
    checkpoint: Path | None = None
    checkpoint_s: float = 7 * 86400.0
    resume: bool = False


def controller_of(name: ControllerName, options: SimulateOptions) -> Controller:
    """The edge's controller of this name."""
    match name:
        case ControllerName.RULES:
            return Rules(params=options.rules)
        case ControllerName.RULES_TOU:
            return RulesTou(params=options.tou)
        case ControllerName.MPC | ControllerName.PERFECT:
            return PlanFollower(fallback=Rules(params=options.rules))


def forecaster_of(name: ControllerName, scenario: Scenario) -> Forecaster | None:
    """What the planner of this controller knows; None when it has no planner."""
    match name:
        case ControllerName.RULES | ControllerName.RULES_TOU:
            return None
        case ControllerName.MPC:
            return HistoryForecaster(
                scenario.site, load=scenario.load_kw, pv=scenario.pv_kw, notices=scenario.notices
            )
        case ControllerName.PERFECT:
            return PerfectForecaster(scenario)


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits, without an event loop.

    Raises
    ------
    InvariantBroken : it waited.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise InvariantBroken("a coroutine of the virtual run waited")


class StoppedError(EmsError):
    """A run was asked to stop before its end."""


class PlanningTurns:
    """The planner's side of a run: the same trigger, horizon and planner as the planner process."""

    def __init__(self, scenario: Scenario, forecaster: Forecaster, options: SimulateOptions) -> None:
        self._scenario, self._forecaster, self._options = scenario, forecaster, options
        self._planner = Planner(scenario.site, options.planner)
        self.last: Plan | None = None
        self.pending: tuple[float, Plan] | None = None  # (time of publication [s], plan)
        self.made: list[PlanMade] = []

    def look(self, t_s: float, decisions: Decisions) -> None:
        """Start a plan at `t_s` if one is due; it is published `allowance_s` later."""
        if self.pending is not None or decisions.mode is GridMode.UNKNOWN:
            return
        o, now = self._options, self._scenario.at(t_s)
        reason = replan_reason(
            self.last,
            decisions.condition,
            now,
            followed=decisions.plan_id is not None,
            replan_s=o.replan_s,
            spacing_s=o.spacing_s,
        )
        if reason is None:
            return
        began = wall_s()
        known = known_outages(self._scenario.notices, now)
        horizon = self._planner.horizon(now, known, decisions.condition)
        forecast = self._forecaster.forecast(horizon, now)
        seq = 1 if self.last is None else self.last.seq + 1
        plan = self._planner.plan(decisions.condition, forecast, self.last, seq)
        took_s = wall_s() - began
        self.made.append(PlanMade(label=str(plan.label), gap_ratio=plan.solve.gap_ratio, took_s=took_s))
        self.pending = (t_s + o.allowance_s, plan)

    def publish(self, t_s: float, plans: MemoryPlans) -> None:
        """Make a plan current whose time has come."""
        if self.pending is not None and self.pending[0] <= t_s + EPSILON_S:
            self.last = self.pending[1]
            plans.publish(self.pending[1])
            self.pending = None

    def next_s(self) -> float:
        """When the next plan is published; infinity when none is on its way [s]."""
        return float("inf") if self.pending is None else self.pending[0]


class Run:
    """One controller on its way through one scenario."""

    def __init__(self, scenario: Scenario, name: ControllerName, options: SimulateOptions) -> None:
        self.scenario, self.name, self.options = scenario, name, options
        self._policy = StepPolicy.of(scenario, options.steps)
        self._windows = WindowSet(self._policy.windows())
        self.world = World(scenario, options=world_options(scenario, options, self._policy))
        self.clock = VirtualClock(scenario.start)
        self.plans = MemoryPlans()
        self.recorder = MemoryRecorder(scenario.start)
        self.runtime = EdgeRuntime(
            scenario.site,
            clock=self.clock,
            device_io=WorldIO(self.world, self.clock),
            plans=self.plans,
            recorder=self.recorder,
            controller=controller_of(name, options),
            shadow=False,
            epoch=1,
            notices=scenario.notices,
        )
        forecaster = forecaster_of(name, scenario)
        self.turns = None if forecaster is None else PlanningTurns(scenario, forecaster, options)
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
        if self.turns is not None:
            self.turns.publish(t_s, self.plans)
        expected_s = self._next_s(t_s, end_s)
        decisions = drive(self.runtime.cycle(expected_s - t_s))
        self.mode = decisions.mode
        self.cycles += 1
        if self.turns is not None:
            self.turns.look(t_s, decisions)
        to_s = min(expected_s, self._next_s(t_s, end_s))
        self.edge.add(t_s, to_s - t_s, decisions, self.plans.plan)
        self.world.advance(to_s, carry=to_s - t_s > LONG_CYCLE_S)

    def _next_s(self, t_s: float, end_s: float) -> float:
        published_s = end_s if self.turns is None else self.turns.next_s()
        next_s = self._policy.next_s(t_s, self.mode, self.world.busy)
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
    controller : rules, rules_tou, mpc or perfect.
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
