"""Solve a case with the planner's model, replay the result without it, and say what was proven."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ems.clock import wall_s
from ems.plan import Plan, Series
from ems.timegrid import FloatArray
from optimizer.case_check import case_faults, used
from optimizer.case_conflict import conflict
from optimizer.case_costs import Refusals, is_a
from optimizer.case_problem import case_problem, formulation, model_error, true_cost
from optimizer.case_result import held_by, replayed, result_of, ridden_kw, short_of
from optimizer.cases import Case
from optimizer.compiled import Compiled
from optimizer.extract import Identity, extract, series
from optimizer.formulations import lakes
from optimizer.marking import burning
from optimizer.numbers import Numbers
from optimizer.options import PlannerOptions
from optimizer.problem import DemandMonth, PlanningProblem
from optimizer.rolling import Planner
from optimizer.solve import Outcome
from optimizer.structure import Structure
from optimizer.validate import Tolerance, validate

REPLAY_RATIO = 1e-5  # of the case's largest power: how far a replay may be from its plan
REPLAY_SOC = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """What is known of a case after a solve. Series have one entry a step; maps are by id.

    `status` is `optimal` (proven to the gap asked for), `feasible` (a time limit came first), `infeasible`,
    or the solver's own word. Without a point the figures are None and the maps are empty.

    `conflict` says, of a case that is infeasible, what would have to be given up for a plan.
    `objective` counts quadratic costs by their chords; `exact_cost` is the same plan by the true curves, and
    `exact_bound` a bound on the true cost of any plan: `bound` less what all chords together may be off.
    `faults` is what a replay without the solver found wrong with the plan: nothing, or it is a bug.
    """

    status: str
    objective: float | None
    bound: float | None
    gap_ratio: float | None
    exact_cost: float | None
    exact_bound: float | None
    cost_terms: Mapping[str, float]
    on: Mapping[str, tuple[int, ...]]
    output_kw: Mapping[str, Series]  # the ways up and down included, where a unit is not on
    storage_kw: Mapping[str, Series]  # discharge positive
    soc_end: Mapping[str, Series]
    spilt_kw: Mapping[str, Series]  # of the inflow of a storage
    grid_kw: Series  # import positive
    pv_kw: Series
    renewable_kw: Mapping[str, Series]  # used of each, `pv` and loads below nothing with them
    unserved_kw: Mapping[str, Series]
    deferrable_kw: Mapping[str, Series]
    unfinished_kwh: Mapping[str, float]
    peak_kw: float  # highest mean import of a billing interval, or the peak before
    demand_peaks_kw: tuple[float, ...]  # the same of each demand window
    held_kw: Mapping[str, Mapping[str, Series]]  # of each reserve by responder, on line and off line
    reserve_short_kw: Mapping[str, Series]  # what is missing of each reserve
    limit_sums: Mapping[str, float]  # what each energy limit sums up to
    conflict: tuple[str, ...]
    notes: tuple[str, ...]  # limits that are missed at their price
    faults: tuple[str, ...]
    rows: int
    columns: int
    nodes: int
    solve_s: float  # in the solver
    whole_s: float  # with everything around it


def solve_case(
    case: Case, *, gap_ratio: float = 0.0, time_limit_s: float | None = None, threads: int = 1
) -> Solution:
    """Solve a case.

    Parameters
    ----------
    case : Case
    gap_ratio : float
        Relative gap at which a plan counts as optimal [-].
    time_limit_s : float or None
        Wall-clock limit [s]; None: until the gap is proven.
    threads : int
        Threads the solver may use.

    Returns
    -------
    Solution

    Raises
    ------
    BadValue
        Values of the case or of these options are refused; the message names each key, what was found and
        what is allowed.

    >>> from optimizer.cases import Case, Grid, Load
    >>> done = solve_case(Case(steps=2, grid=Grid(import_per_kwh=(0.1, 0.3)), loads=(Load(kw=50.0),)))
    >>> done.status, done.objective
    ('optimal', 20.0)
    """
    _check_options(gap_ratio, time_limit_s, threads)
    begun = wall_s()
    options = PlannerOptions(gap_ratio=gap_ratio, time_limit_s=time_limit_s, node_limit=None, threads=threads)
    solved = _solve(case, options, begun)
    if solved.outcome.x is None:
        status = solved.outcome.status.lower()
        why = conflict(case) if status == "infeasible" else ()
        return _without_point(solved, status, why, begun)
    return _with_point(case, solved, begun)


def _check_options(gap_ratio: float, time_limit_s: float | None, threads: int) -> None:
    """Refuse what the solver would pass over in silence."""
    found = Refusals()
    if not is_a(threads, int, np.integer):
        found.add("solve_case", "threads", threads, "a whole number")
    rows = [("gap_ratio", gap_ratio, 0.0, np.inf), ("threads", threads, 1, 1024)]
    rows += [] if time_limit_s is None else [("time_limit_s", time_limit_s, 1e-3, 1e9)]
    found.rows("solve_case", rows)
    found.done()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Solved:
    """A case as it was solved last."""

    compiled: Compiled
    problem: PlanningProblem
    numbers: Numbers
    outcome: Outcome


def _solve(case: Case, options: PlannerOptions, begun: float) -> _Solved:
    """Solve, and once more with binaries where energy was burnt."""
    problem = case_problem(case)
    planner = Planner(problem.site, replace(options, formulation=formulation(case)))
    compiled, problem, n, outcome = planner.rounds(problem, None, begun)
    if outcome.x is not None and not problem.exclusive.all():
        least_kw = REPLAY_RATIO * _size_kw(problem)
        if burning(problem, n, compiled.values(outcome.x), least_kw).any():  # what a plan may overlook, too
            problem = replace(problem, exclusive=problem.integral)
            compiled, problem, n, outcome = planner.rounds(problem, None, begun)
    return _Solved(compiled=compiled, problem=problem, numbers=n, outcome=outcome)


def _without_point(solved: _Solved, status: str, why: tuple[str, ...], begun: float) -> Solution:
    outcome, (rows, columns) = solved.outcome, solved.compiled.form.shape
    return Solution(
        status=status, objective=None, bound=outcome.bound, gap_ratio=None, exact_cost=None, exact_bound=None,
        cost_terms={}, on={}, output_kw={}, storage_kw={}, soc_end={}, spilt_kw={}, grid_kw=(), pv_kw=(),
        renewable_kw={}, unserved_kw={}, deferrable_kw={}, unfinished_kwh={}, peak_kw=0.0,
        demand_peaks_kw=(0.0,) * len(solved.problem.demand_parts), held_kw={}, reserve_short_kw={},
        limit_sums={}, conflict=why, notes=(), faults=(), rows=rows, columns=columns, nodes=outcome.nodes,
        solve_s=outcome.solve_s, whole_s=wall_s() - begun,
    )  # fmt: skip


def _with_point(case: Case, solved: _Solved, begun: float) -> Solution:
    compiled, problem, outcome = solved.compiled, solved.problem, solved.outcome
    if outcome.x is None:
        raise ValueError("there is no solution to extract")
    s, v = compiled.structure, compiled.values(outcome.x)
    plan, slack = extract(compiled, problem, solved.numbers, outcome, Identity(seq=0, valid_h=1.0))
    ridden = ridden_kw(s, v)
    if not case.forming:
        plan = replace(plan, forming=tuple(x if x else "bus" for x in plan.forming))
    beside_kw = slack.surplus_kw - slack.aux_short_kw - sum(ridden.values(), np.zeros(case.steps))
    known = replayed(case, problem, s, v)
    faults = validate(plan, known, beside_kw, _tolerance(problem)).faults
    found = result_of(case, s, v, plan)
    rows, columns = compiled.form.shape
    return Solution(
        status="optimal" if outcome.optimal else "feasible",
        objective=outcome.objective,
        bound=outcome.bound,
        gap_ratio=outcome.gap_ratio,
        exact_cost=_exact(case, plan),
        exact_bound=None if outcome.bound is None else outcome.bound - model_error(case),
        cost_terms=_terms(plan),
        on={i: tuple(int(x) for x in row) for i, row in plan.genset_on.items()},
        output_kw={i: _and(row, ridden.get(i)) for i, row in plan.genset_p_kw.items()},
        storage_kw=plan.bess_p_kw,
        soc_end=plan.bess_soc_end,
        spilt_kw={i: series(v["spill_kwh"][k] / s.step_h) for k, i in enumerate(lakes.ids(s))},
        grid_kw=plan.grid_p_kw,
        pv_kw=plan.pv_p_kw.get("pv", (0.0,) * case.steps),
        renewable_kw=plan.pv_p_kw,
        unserved_kw={x.id: plan.shed_kw[x.id] for x in case.loads},
        deferrable_kw=plan.deferrable_kw,
        unfinished_kwh=plan.unfinished_kwh,
        peak_kw=_peak_kw(s, plan, problem.months[0]),
        demand_peaks_kw=tuple(_peak_kw(s, plan, x) for x, _ in problem.demand_parts),
        held_kw=held_by(found),
        reserve_short_kw=short_of(found),
        limit_sums={b.id: used(b, case, found) for b in s.formulation.terms.budgets},
        conflict=(),
        notes=plan.notes,
        faults=(*faults, *case_faults(case, found, _size_kw(problem), REPLAY_RATIO)),
        rows=rows,
        columns=columns,
        nodes=outcome.nodes,
        solve_s=outcome.solve_s,
        whole_s=wall_s() - begun,
    )


def _and(row: Series, more: FloatArray | None) -> Series:
    """A series with what comes on top of it."""
    return row if more is None else series(_array(row) + more)


def _terms(plan: Plan) -> dict[str, float]:
    """Cost by term; what is laid out as bends is running cost like any other."""
    out = dict(plan.cost_terms)
    if "fuel_bent" in out:
        out["fuel"] = out.get("fuel", 0.0) + out.pop("fuel_bent")
    return {k: x for k, x in out.items() if abs(x) > 1e-12}


def _exact(case: Case, plan: Plan) -> float:
    """Objective of a plan with the running cost of its units by their true curves [money]."""
    on, output = ({i: _array(row) for i, row in x.items()} for x in (plan.genset_on, plan.genset_p_kw))
    other = sum(money for term, money in _terms(plan).items() if term != "fuel")
    return other + true_cost(case, on, output)


def _peak_kw(s: Structure, plan: Plan, window: DemandMonth) -> float:
    """Highest mean import of a billing interval that counts, or the peak before [kW]."""
    bought_kwh = s.billed.totals(np.maximum(_array(plan.grid_p_kw), 0.0))
    means = bought_kwh / s.billed.hours_billed(s.interval_h)
    return float(max(window.base_kw, means[s.billed.rows_of(window.steps)].max(initial=0.0)))


def _array(row: Series) -> FloatArray:
    return np.asarray(row, dtype=np.float64)


def _size_kw(p: PlanningProblem) -> float:
    """The largest power of a case."""
    powers = [
        float(p.load_kw.sum(axis=0).max(initial=0.0)), float(p.pv_kw.max(initial=0.0)),
        *[g.p_rated_kw for g in p.site.gensets], *[b.pcs.s_kva for b in p.site.bess],
        *[d.p_kw for d in p.site.deferrables],
    ]  # fmt: skip
    return max(powers)


def _tolerance(p: PlanningProblem) -> Tolerance:
    """What a replay may be off, in proportion to the size of the case."""
    size = _size_kw(p)
    return Tolerance(balance_kw=REPLAY_RATIO * size, limit_kw=REPLAY_RATIO * size, soc=REPLAY_SOC)
