"""The receding horizon: condition and forecast in, a validated plan out, always.

Rescue order: an incumbent that passes the validator, else a given commitment dispatched anew (repair.py),
else the last plan shifted and still valid, else the rules of the edge. Integrality is never relaxed in what
is executed. Each rescue is labelled and says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from ems.clock import wall_s
from ems.condition import PlantCondition
from ems.errors import BadValue, DataError
from ems.forecast import Forecast
from ems.outage import OutageNotice
from ems.plan import Plan
from ems.site import GridMode, Site
from ems.timegrid import FloatArray, TimeGrid
from optimizer.carry import Asked, continued
from optimizer.compiled import Compiled
from optimizer.extract import Identity, extract
from optimizer.fleets import firsts, fleets_of, leaders
from optimizer.formulation import Exclusivity, Formulation, Shedding
from optimizer.horizon import planning_grid
from optimizer.intake.genset import as_strong_as_now
from optimizer.marking import SHED_KW, remarked
from optimizer.numbers import Numbers
from optimizer.options import PlannerOptions
from optimizer.outlook import MonthOutlook
from optimizer.problem import PlanningProblem
from optimizer.repair import repaired
from optimizer.rescue import rules_plan, shifted_plan
from optimizer.scenarios import ScenarioProblem, scenario_problems
from optimizer.solve import Effort, Outcome, Session
from optimizer.structure import Structure, StructureKey, structure_key, structure_of
from optimizer.two_stage import TwoStage
from optimizer.validate import validate

CACHE = 12  # compiled structures kept
ROUNDS = 3  # solves at most: the first, and again where energy was burnt, feeders were shed or a tank ran dry
TRIED_FACTOR = 3.0  # scenarios are tried if so many times what the expected path took is left of a deadline
FIRST_SHARE = 0.75  # of the deadline for a first round that may have to be followed by another
RESERVED_S = 0.15  # of the deadline, for what comes after the solve


@dataclass(slots=True)
class _Solver:
    compiled: Compiled
    session: Session
    used: int = 0


class Planner:
    """Plans for one site. Keeps compiled models, so a plan costs little more than its solve."""

    def __init__(self, site: Site, options: PlannerOptions | None = None) -> None:
        self._site = site
        self._options = PlannerOptions() if options is None else options
        self._solvers: dict[StructureKey, _Solver] = {}
        self._uses = 0
        self._leaders = leaders(site)
        self._two_stage = TwoStage(self, self._options)
        self._weaker: Planner | None = None  # of the site as its gensets were derated last

    @property
    def site(self) -> Site:
        """The site it plans for."""
        return self._site

    @property
    def options(self) -> PlannerOptions:
        """How it plans."""
        return self._options

    def horizon(
        self,
        issued_at: datetime,
        outages: Sequence[OutageNotice] = (),
        condition: PlantCondition | None = None,
    ) -> TimeGrid:
        """Grid to forecast on.

        Edges of `outages` become step edges. In an island with good mains (`condition`) the first step is the
        reconnection dwell.
        """
        back = condition is not None and condition.mains_good and condition.grid_mode is GridMode.ISLANDED
        cut_s = self._site.grid.reconnect_dwell_s if back else None
        return planning_grid(issued_at, self._options.blocks, outages, cut_s)

    def plan(
        self,
        condition: PlantCondition,
        forecast: Forecast,
        last: Plan | None,
        seq: int,
        outlook: MonthOutlook | None = None,
    ) -> Plan:
        """Make a plan; never raises for bad data or an infeasible problem: the plan says so.

        Parameters
        ----------
        condition : PlantCondition
            Where the plant is now.
        forecast : Forecast
            On `horizon(...)` or any other grid that starts now.
        last : Plan or None
            The plan before this one: start of the search, and first rescue.
        seq : int
            Number of the plan.
        outlook : MonthOutlook or None
            What is expected beyond the window, to the end of the month.
        """
        now = self._as_strong_as_now(condition)
        if now is not self:
            return now.plan(condition, forecast, last, seq, outlook)
        begun = wall_s()
        who = Identity(seq=seq, valid_h=self._options.valid_h)
        try:
            scenarios = scenario_problems(self._site, condition, forecast, self._options, outlook)
        except (DataError, BadValue) as bad:
            return self._rescue(None, condition, forecast.grid, last, who, f"input refused: {bad}")
        problem = scenarios[0].problem
        if len(scenarios) > 1:
            plan, why = self._over_scenarios(scenarios, forecast.scenario_source, last, who, begun)
        else:
            plan, why = self._solved(problem, last, who, begun)
        return plan if plan is not None else self._rescue(problem, condition, problem.grid, last, who, why)

    def _as_strong_as_now(self, condition: PlantCondition) -> "Planner":
        """The planner itself, or that of the site whose gensets are as strong as they are now."""
        site = as_strong_as_now(self._site, condition)
        if site.gensets == self._site.gensets:
            return self
        if self._weaker is None or self._weaker.site.gensets != site.gensets:
            self._weaker = Planner(site, self._options)
        return self._weaker

    def prepare(self, at: datetime) -> None:
        """Compile the model of the grid at `at` ahead of time, so that the first deadline is all solver."""
        self.solver(self.horizon(at), self.formulation())

    def formulation(self, p: PlanningProblem | None = None) -> Formulation:
        """The lightest formulation that a round of `p` needs; what it leaves out is looked for in its result.

        None: of the first round, on a usual day.
        """
        form = self._options.formulation
        fleets = form.fleets
        if form.symmetry and not fleets and not (p and p.apart):
            fleets = fleets_of(self._site, p.gensets if p else None, self._leaders)
        return replace(
            form,
            exclusivity=Exclusivity.BINARY if p and p.exclusive.any() else form.exclusivity,
            shedding=form.shedding if p and p.shed_whole.any() else Shedding.MEAN,
            fleets=fleets,
        )

    def solver(self, grid: TimeGrid, form: Formulation) -> tuple[Compiled, Session]:
        """Compiled model and session of a grid, made when first asked for."""
        key = structure_key(self._site, grid, form)
        self._uses += 1
        if key not in self._solvers:
            if len(self._solvers) >= CACHE:
                del self._solvers[min(self._solvers, key=lambda k: self._solvers[k].used)]
            compiled = Compiled(structure_of(self._site, grid, form))
            self._solvers[key] = _Solver(compiled, Session(compiled))
        entry = self._solvers[key]
        entry.used = self._uses
        return entry.compiled, entry.session

    def _solved(
        self, p: PlanningProblem, last: Plan | None, who: Identity, begun: float
    ) -> tuple[Plan | None, str]:
        """A validated plan of the model, or None and why not."""
        compiled, p, n, outcome = self.rounds(p, last, begun)
        why = f"the solver ended with {outcome.status} and no point"
        if outcome.x is not None:
            plan, why = self._checked(compiled, p, n, outcome, who)  # the replay judges what is left
            if plan is not None:
                return plan, ""
        return self._repaired(p, last, who, begun, why)

    def _repaired(
        self, p: PlanningProblem, last: Plan | None, who: Identity, begun: float, why: str
    ) -> tuple[Plan | None, str]:
        """A given commitment dispatched anew, where no search has led to a plan."""
        compiled, session = self.solver(p.grid, self.formulation(p))
        n = compiled.numbers(p)
        filled, start = compiled.fill(n), warm_start(compiled.structure, p, n, last)
        refused, effort = "", self.effort(p, wall_s() - begun)
        for what, outcome in repaired(compiled, session, filled, p, start, effort):
            plan, refused = self._checked(compiled, p, n, outcome, who)
            if plan is not None:
                note = f"{why}; this is {what}, dispatched anew"
                solve = replace(plan.solve, rescue=f"repaired: {note}")
                return replace(plan, solve=solve, notes=(*plan.notes, note)), ""
        return None, f"{why}; no given commitment helps{': ' if refused else ''}{refused}"

    def _over_scenarios(
        self,
        scenarios: Sequence[ScenarioProblem],
        source: str,
        last: Plan | None,
        who: Identity,
        begun: float,
    ) -> tuple[Plan | None, str]:
        """A plan over scenarios; where there is none, that of the expected path, which was made before.

        Under a deadline they are tried only if what is left is some times what the expected path took, so
        that the plan is never worse off for them.
        """
        compiled, p, n, outcome = self.rounds(scenarios[0].problem, last, begun)
        spent_s, limit_s = wall_s() - begun, self._options.time_limit_s
        if limit_s is not None and limit_s - spent_s < TRIED_FACTOR * spent_s:
            why = "there was no time"
        else:
            known = [warm_start(compiled.structure, p, n, last)]
            if outcome.x is not None:
                known.append(compiled.values(outcome.x))
            starts = [v["on"] for v in known if v and "on" in v]
            marked = [replace(scenarios[0], problem=p), *scenarios[1:]]
            solved = self._two_stage.solve(marked, starts, begun)
            plan, why = self._two_stage.published(solved, marked, source, who)
            if plan is not None:
                return plan, ""
        note = f"planned for the expected path alone: of {len(scenarios)} scenarios {why}"
        refused = f"the solver ended with {outcome.status} and no point"
        if outcome.x is not None:
            plan, refused = self._checked(compiled, p, n, outcome, who)
            if plan is not None:
                return replace(plan, notes=(*plan.notes, note)), ""
        return self._repaired(p, last, who, begun, f"{note}; {refused}")

    def rounds(
        self, p: PlanningProblem, last: Plan | None, begun: float
    ) -> tuple[Compiled, PlanningProblem, Numbers, Outcome]:
        """Solve a problem, and again with what its result is found to need.

        That is binaries in the steps where it burns energy or sheds, and gensets told apart where counted
        ones would empty one of their tanks. Against a deadline feeders are shed in part first and whole in
        every step then: a first search for whole ones that is cut short ends far off, and a third round for
        what the second sheds elsewhere finds no time.
        Returns the model that was solved last, the problem with all that was marked, its numbers and result.
        `begun` is the time on the wall clock from which a deadline counts [s].
        """
        whole = self._options.formulation.shedding is Shedding.WHOLE
        late = self._options.time_limit_s is not None  # feeders are whole nowhere, then everywhere
        if whole and p.feeder_open.any() and not late:
            p = replace(p, shed_whole=p.islanded & p.integral)
        another = whole and p.islanded.any() and not p.shed_whole.any()  # may have to follow
        compiled, n, outcome = self._round(p, last, begun, FIRST_SHARE if another else 1.0)
        for _ in range(ROUNDS - 1):
            if outcome.x is None:
                break
            v = compiled.values(outcome.x)
            found = remarked(compiled.structure, p, n, v, whole)
            if found is None:
                break
            bound = outcome.bound if found.apart == p.apart else None  # counted machines are not told apart
            p = replace(found, shed_whole=p.integral) if late and found.shed_whole.any() else found
            compiled, n, outcome = self._again(p, compiled, v, bound, begun)
        return compiled, p, n, outcome

    def _again(
        self,
        p: PlanningProblem,
        before: Compiled,
        v: dict[str, FloatArray],
        bound: float | None,
        begun: float,
    ) -> tuple[Compiled, Numbers, Outcome]:
        """A round from the decisions `v` of the one `before` and its bound, None where that does not hold."""
        compiled, session = self.solver(p.grid, self.formulation(p))
        n = compiled.numbers(p)
        asked = Asked(
            problem=p, compiled=compiled, numbers=n, session=session, filled=compiled.fill(n),
            effort=lambda share: self.effort(p, wall_s() - begun, share),
        )  # fmt: skip
        return compiled, n, continued(asked, before, v, bound)

    def _round(
        self, p: PlanningProblem, last: Plan | None, begun: float, share: float = 1.0
    ) -> tuple[Compiled, Numbers, Outcome]:
        compiled, session = self.solver(p.grid, self.formulation(p))
        n = compiled.numbers(p)
        filled, start = compiled.fill(n), warm_start(compiled.structure, p, n, last)
        if start is None and self._options.time_limit_s is not None and "on" in n.low:
            start = {"on": np.where(n.integer["on"], n.low["on"], np.nan)}  # a poor plan in time beats none
        return compiled, n, session.solve(filled, self.effort(p, wall_s() - begun, share), start)

    def _checked(
        self, compiled: Compiled, p: PlanningProblem, n: Numbers, outcome: Outcome, who: Identity
    ) -> tuple[Plan | None, str]:
        plan, slack = extract(compiled, p, n, outcome, who)
        verdict = validate(plan, p, slack.surplus_kw - slack.aux_short_kw)
        return (plan, "") if verdict.ok else (None, "the replay refused it: " + "; ".join(verdict.faults))

    def effort(self, p: PlanningProblem, spent_s: float = 0.0, share: float = 1.0) -> Effort:
        """How long to look, after `spent_s` of the deadline are gone [s]: a share of what is left.

        The absolute gap is a tenth of the relative one of what supplying the load from the grid would cost:
        it ends solves whose objective is near zero.
        """
        o = self._options
        left = None if o.time_limit_s is None else share * (o.time_limit_s - RESERVED_S - spent_s)
        supply = float((p.load_kw.sum(axis=0) * p.step_h * np.abs(p.import_per_kwh)).sum())
        return Effort(
            gap_ratio=o.gap_ratio,
            gap_abs=0.1 * o.gap_ratio * supply,
            time_limit_s=left,
            node_limit=o.node_limit,
            threads=o.threads,
        )

    def _rescue(
        self,
        p: PlanningProblem | None,
        condition: PlantCondition,
        grid: TimeGrid,
        last: Plan | None,
        who: Identity,
        why: str,
    ) -> Plan:
        shifted, reason = shifted_plan(self._site, condition, last, who, why)
        if shifted is not None:
            return shifted
        return rules_plan(self._site, condition, grid, who, f"{why}; last plan: {reason}")


def warm_start(
    s: Structure, p: PlanningProblem, n: Numbers, last: Plan | None
) -> dict[str, FloatArray] | None:
    """Commitment and open feeders of the last plan on the new grid, where it reaches; NaN beyond."""
    if last is None:
        return None
    edges = last.grid.offset_s
    offset_s = (p.grid.start - last.grid.start).total_seconds() + p.grid.offset_s[:-1]
    at = np.searchsorted(edges, offset_s, side="right") - 1
    known = (at >= 0) & (offset_s < edges[-1]) & p.integral
    column = np.clip(at, 0, len(edges) - 2)
    out = {}
    if p.site.gensets and all(g.id in last.genset_on for g in p.site.gensets):
        rows = np.round([last.genset_on[g.id] for g in p.site.gensets])[:, column]
        start = np.where(known, np.add.reduceat(rows, firsts(s), axis=0), np.nan)
        out["on"] = np.clip(start, n.low["on"], n.high["on"])
    behind = [f.id for f in p.site.feeders if f.has_breaker]
    if "feeder_open" in n.low and all(f in last.shed_kw for f in behind):
        shed, load = (np.array([x[f] for f in behind]) for x in (last.shed_kw, last.load_kw))
        is_open = (shed > SHED_KW) & (shed >= 0.5 * load)
        out["feeder_open"] = np.where(known & p.shed_whole, is_open[:, column], np.nan)
    return out or None
