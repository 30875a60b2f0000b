"""A plan over scenarios: solve the expected path first, then all of them from its commitment.

The deterministic plan is made before: its commitment starts the search, and where the large problem ends
without a point, its plan is refused by the replay, or there is no time for it, it is what is published.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ems.clock import wall_s
from ems.plan import Plan, ScenarioCosts
from ems.timegrid import FloatArray, TimeGrid
from optimizer.carry import Asked, continued
from optimizer.compiled import Compiled, Filled, cost_terms
from optimizer.extensive import Extensive, Risk, tail_cost
from optimizer.extract import Identity, extract
from optimizer.formulation import Formulation, Shedding
from optimizer.marking import remarked
from optimizer.numbers import Numbers
from optimizer.options import PlannerOptions
from optimizer.problem import PlanningProblem
from optimizer.scenarios import ScenarioProblem
from optimizer.solve import Effort, Outcome, Session
from optimizer.stages import shared_columns
from optimizer.structure import StructureKey, structure_key
from optimizer.validate import validate

CACHE = 4  # extensive forms kept
ROUNDS = 3
AFTER_S = 0.05  # of a deadline, left for each scenario after the solve
TRIAL_SHARE = 0.1  # of what is left of a deadline, for trying a start


class Workshop(Protocol):
    """What a planner lends."""

    def solver(self, grid: TimeGrid, form: Formulation) -> tuple[Compiled, Session]:
        """Compiled model of a grid."""
        ...

    def effort(self, p: PlanningProblem, spent_s: float = 0.0, share: float = 1.0) -> Effort:
        """How long to look."""
        ...

    def formulation(self, p: PlanningProblem | None = None) -> Formulation:
        """The lightest formulation that a round needs."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Posed:
    """All scenarios of one round, laid out in one matrix."""

    extensive: Extensive
    session: Session
    problems: tuple[PlanningProblem, ...]
    numbers: tuple[Numbers, ...]
    each: tuple[Filled, ...]
    filled: Filled


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """All scenarios after the last round."""

    posed: Posed
    outcome: Outcome

    def of(self, s: int) -> FloatArray:
        """Solution of scenario s in the columns of the compiled model."""
        assert self.outcome.x is not None
        return self.posed.extensive.scenario(self.outcome.x, s)

    def costs(self) -> FloatArray:
        """(S,) cost of each scenario [money]."""
        return np.array([float(f.cost @ self.of(s)) + f.offset for s, f in enumerate(self.posed.each)])


_Common = tuple[tuple[int, int], ...]  # steps all of whose decisions are common, steps with common commitment
_Key = tuple[StructureKey, _Common, Risk]


class TwoStage:
    """Solves scenario problems with the models of a planner; keeps extensive forms."""

    def __init__(self, workshop: Workshop, options: PlannerOptions) -> None:
        self._workshop, self._options = workshop, options
        u = options.uncertainty
        self._risk = Risk(weight_ratio=u.cvar_weight_ratio, level_ratio=u.cvar_level_ratio)
        self._kept: dict[_Key, tuple[Extensive, Session]] = {}

    def solve(
        self, scenarios: Sequence[ScenarioProblem], starts: Sequence[FloatArray], begun: float
    ) -> Solved:
        """Solve, and again with binaries in the steps where the published scenario burns energy or sheds.

        `starts` are commitments, as `on` of the first scenario, NaN where unknown; the search begins from the
        one that is best for all scenarios.
        In the others a feeder may be shed in part, and where energy has no value some may be burnt: binaries
        in every scenario would make plans several times as slow, for what is never published.
        """
        whole = self._options.formulation.shedding is Shedding.WHOLE
        solved = self._first(scenarios, starts, begun)
        for _ in range(ROUNDS - 1):
            if solved.outcome.x is None:
                break
            posed, v = solved.posed, solved.posed.extensive.compiled.values(solved.of(0))
            p, before = posed.problems[0], posed.extensive.compiled
            found = remarked(before.structure, p, posed.numbers[0], v, whole)
            if found is None:
                break
            scenarios = (replace(scenarios[0], problem=found), *scenarios[1:])
            posed = self._posed(scenarios)
            bound = solved.outcome.bound if found.apart == p.apart else None
            outcome = continued(self._asked(posed, begun), before, v, bound)
            solved = Solved(posed=posed, outcome=outcome)
        return solved

    def _first(
        self, scenarios: Sequence[ScenarioProblem], starts: Sequence[FloatArray], begun: float
    ) -> Solved:
        asked = self._asked(posed := self._posed(scenarios), begun)
        start = self._best(asked, starts)
        outcome = asked.session.solve(asked.filled, asked.effort(1.0), start)
        return Solved(posed=posed, outcome=outcome)

    def _posed(self, scenarios: Sequence[ScenarioProblem]) -> Posed:
        problems = tuple(s.problem for s in scenarios)
        probability = np.array([s.probability_ratio for s in scenarios])
        common = tuple((s.first_steps, s.commit_steps) for s in scenarios)
        form = self._workshop.formulation(problems[0])
        compiled, _ = self._workshop.solver(problems[0].grid, form)
        extensive, session = self._form(compiled, problems[0], form, common)
        numbers = tuple(compiled.numbers(p) for p in problems)
        each = tuple(compiled.fill(n) for n in numbers)
        return Posed(
            extensive=extensive, session=session, problems=problems, numbers=numbers, each=each,
            filled=extensive.fill(each, probability),
        )  # fmt: skip

    def _asked(self, posed: Posed, begun: float) -> Asked:
        """A round of the published scenario, which stands first in the matrix of all."""
        p, after_s = posed.problems[0], AFTER_S * len(posed.problems)
        return Asked(
            problem=p, compiled=posed.extensive.compiled, numbers=posed.numbers[0], session=posed.session,
            filled=posed.filled,
            effort=lambda share: self._workshop.effort(p, wall_s() - begun + after_s, share),
        )  # fmt: skip

    def _best(self, asked: Asked, starts: Sequence[FloatArray]) -> dict[str, FloatArray] | None:
        """The commitment that costs least over all scenarios; each is tried by a linear program.

        Beside the expected path's that of the last plan: over 16 plans with 5 scenarios of 39 steps it took
        the mean CPU of a plan from 2.4 to 1.7 s.
        """
        if len(starts) < 2:
            return {"on": starts[0]} if starts else None
        columns, filled = asked.compiled.form.columns["on"], asked.filled
        whole = filled.integer[columns]
        best: tuple[float, FloatArray] = (np.inf, starts[0])
        for on in starts:
            value = on.ravel()
            known = whole & np.isfinite(value)
            low, high = filled.low.copy(), filled.high.copy()
            low[columns[known]] = high[columns[known]] = np.round(value[known])
            fixed = replace(filled, low=low, high=high, integer=np.zeros_like(filled.integer))
            outcome = asked.session.solve(fixed, asked.effort(TRIAL_SHARE))
            if outcome.objective is not None and outcome.objective < best[0]:
                best = outcome.objective, on
        return {"on": best[1]}

    def _form(
        self, compiled: Compiled, p: PlanningProblem, form: Formulation, common: _Common
    ) -> tuple[Extensive, Session]:
        key = (structure_key(p.site, p.grid, form), common, self._risk)
        kept = self._kept.pop(key, None)
        if kept is None or kept[0].compiled is not compiled:
            shapes = {name: compiled.shapes[name] for name in compiled.form.columns}
            shared = [shared_columns(shapes, compiled.form.columns, *steps) for steps in common[1:]]
            extensive = Extensive(compiled, shared, self._risk)
            kept = extensive, Session(extensive)
        self._kept[key] = kept  # newest last
        while len(self._kept) > CACHE:
            del self._kept[next(iter(self._kept))]
        return kept

    def published(
        self, solved: Solved, scenarios: Sequence[ScenarioProblem], source: str, who: Identity
    ) -> tuple[Plan | None, str]:
        """The expected scenario's way through the common decisions, replayed; or None and why not."""
        if solved.outcome.x is None:
            return None, f"the solver ended with {solved.outcome.status} and no point"
        posed = solved.posed
        p, compiled = posed.problems[0], posed.extensive.compiled
        central = replace(solved.outcome, x=solved.of(0))
        plan, slack = extract(compiled, p, posed.numbers[0], central, who)
        verdict = validate(plan, p, slack.surplus_kw - slack.aux_short_kw)
        if not verdict.ok:
            return None, "the replay refused it: " + "; ".join(verdict.faults)
        record = self._costs(solved, scenarios, source)
        plan = replace(
            plan,
            scenarios=record,
            cost_terms=self._terms(solved, record),
            notes=(*plan.notes, _sentence(record, p.site.currency)),
        )
        return plan, ""

    def _costs(self, solved: Solved, scenarios: Sequence[ScenarioProblem], source: str) -> ScenarioCosts:
        cost = solved.costs()
        probability = np.array([s.probability_ratio for s in scenarios])
        return ScenarioCosts(
            source=source,
            label=tuple(s.label for s in scenarios),
            probability_ratio=tuple(probability.tolist()),
            cost=tuple(cost.tolist()),
            expected_cost=float(probability @ cost),
            tail_cost=tail_cost(cost, probability, self._risk.level_ratio),
            tail_level_ratio=self._risk.level_ratio,
            tail_weight_ratio=self._risk.weight_ratio,
        )

    def _terms(self, solved: Solved, record: ScenarioCosts) -> dict[str, float]:
        """Expected cost by term, and what the objective has on top of it for the tail."""
        out: dict[str, float] = {}
        values = solved.posed.extensive.compiled.values
        for s, (share, n) in enumerate(zip(record.probability_ratio, solved.posed.numbers, strict=True)):
            for term, money in cost_terms(n, values(solved.of(s))).items():
                out[term] = out.get(term, 0.0) + share * money
        if self._risk.weight_ratio > 0.0 and solved.outcome.objective is not None:
            out["risk"] = solved.outcome.objective - record.expected_cost
        return out


def _sentence(r: ScenarioCosts, currency: str) -> str:
    low, high = int(np.argmin(r.cost)), int(np.argmax(r.cost))
    weight = f", weighted {r.tail_weight_ratio:.0%}" if r.tail_weight_ratio > 0.0 else ""
    return (
        f"planned for {len(r.cost)} scenarios ({r.source}): expected cost {r.expected_cost:.0f} {currency}, "
        f"dearest {1.0 - r.tail_level_ratio:.0%} {r.tail_cost:.0f}{weight}; from {r.cost[low]:.0f} "
        f"({r.label[low]}) to {r.cost[high]:.0f} ({r.label[high]})"
    )
