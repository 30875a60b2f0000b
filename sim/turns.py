"""The planner's side of a virtual run: it looks, plans, publishes and dies when the planner process would."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from dispatch.vocabulary import Decisions
from ems.clock import wall_s
from ems.outage import known_outages
from ems.plan import Plan
from ems.ports import Forecaster
from ems.site import GridMode
from forecasting.inputs import InputForecaster
from optimizer.outlook import OutlookKeeper
from optimizer.rolling import Planner
from optimizer.trigger import next_look, replan_reason
from sim.result import PlanMade
from sim.scenario import Scenario
from sim.steps import EPSILON_S

if TYPE_CHECKING:
    from sim.harness import SimulateOptions


class Plans(Protocol):
    """A plan store, both sides."""

    def current(self) -> Plan | None:
        """The newest plan."""
        ...

    def publish(self, plan: Plan) -> None:
        """Make it current."""
        ...


class PlanningTurns:
    """The same trigger, horizon and planner as the planner process, in the same order: after the edge.

    Parameters
    ----------
    scenario : site, notices and time.
    forecaster : makes one; asked again whenever the planner comes back from the dead.
    options : renewal, spacing, allowance, and when the planner is away.
    """

    def __init__(
        self, scenario: Scenario, forecaster: Callable[[], Forecaster], options: "SimulateOptions"
    ) -> None:
        self._scenario, self._make, self._options = scenario, forecaster, options
        self._start()
        self.look_s = 0.0  # when it looks next
        self.last: Plan | None = None
        self.pending: tuple[float, Plan, PlanMade] | None = None  # (time of publication [s], plan, how)
        self.made: list[PlanMade] = []
        self.away = False

    def _start(self) -> None:
        self._planner = Planner(self._scenario.site, self._options.planner)
        self._forecaster = self._make()
        self.outlooks = OutlookKeeper(self._scenario.site, self._forecaster, self._options.planner)

    def prepare(self) -> None:
        """Compile ahead of the first plan, as the planner process does when it starts."""
        self._planner.prepare(self._scenario.start)

    def alive(self, t_s: float) -> bool:
        """What the edge is told at `t_s`: before its first turn, also after a death, no planner is there."""
        away = self._options.planner_away
        return t_s > EPSILON_S and not any(lo - EPSILON_S <= t_s <= hi + EPSILON_S for lo, hi in away)

    def turn(self, t_s: float, decisions: Decisions, plans: Plans) -> bool:
        """Publish, or look and start a plan if one is due, after the edge's cycle at `t_s`.

        True: a plan was published, and the edge does not know it yet.
        """
        was_away = self.away
        self.away = any(lo - EPSILON_S <= t_s < hi - EPSILON_S for lo, hi in self._options.planner_away)
        if self.away:
            self.pending = None
            return False
        if was_away:
            self._start()
            self.last, self.look_s = plans.current(), t_s
        published = self._published(t_s, plans)
        if not published:
            if self.pending is not None or t_s < self.look_s - EPSILON_S:
                return False
            self._look(t_s, decisions)
        now = self._scenario.at(t_s)
        self.look_s = t_s + (next_look(now, self._options.replan_s) - now) / timedelta(seconds=1)
        return published

    def _published(self, t_s: float, plans: Plans) -> bool:
        """Make a plan current whose time has come."""
        if self.pending is None or self.pending[0] > t_s + EPSILON_S:
            return False
        _, self.last, made = self.pending
        self.pending = None
        self.made.append(made)
        plans.publish(self.last)
        return True

    def _look(self, t_s: float, decisions: Decisions) -> None:
        """Start a plan at `t_s` if one is due; it is published `allowance_s` later."""
        condition = decisions.condition
        if condition.grid_mode is GridMode.UNKNOWN:
            return
        o, now = self._options, self._scenario.at(t_s)
        reason = replan_reason(
            self.last,
            condition,
            now,
            followed=decisions.plan_id is not None,
            replan_s=o.replan_s,
            spacing_s=o.spacing_s,
        )
        if reason is None and not self._announced(now):
            return
        began = wall_s()
        notices = [*self._scenario.notices]
        if isinstance(self._forecaster, InputForecaster):
            notices += self._forecaster.notices(now)
        horizon = self._planner.horizon(now, known_outages(notices, now), condition)
        forecast = self._forecaster.forecast(horizon, now)
        seq = 1 if self.last is None else self.last.seq + 1
        plan = self._planner.plan(condition, forecast, self.last, seq, self.outlooks.at(now, condition))
        took_s = wall_s() - began
        made = PlanMade(label=str(plan.label), gap_ratio=plan.solve.gap_ratio, took_s=took_s)
        self.pending = (t_s + o.allowance_s, plan, made)

    def _announced(self, now: datetime) -> bool:
        """Whether an input announced, revised or cancelled an outage since the last plan."""
        told, last = self._forecaster, self.last
        if last is None or not isinstance(told, InputForecaster):
            return False
        if (now - last.issued_at).total_seconds() < self._options.spacing_s:
            return False
        return told.outages_changed(last.issued_at, now)

    def next_s(self) -> float:
        """When the next plan is published; infinity when none is on its way [s]."""
        return float("inf") if self.pending is None else self.pending[0]
