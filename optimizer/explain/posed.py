"""A problem as it was posed, and changed in one thing: what the counterfactuals are made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ems.assets import GensetParams
from ems.condition import PlantCondition
from ems.errors import DataError
from ems.explanation import ReasonCode
from ems.forecast import Forecast
from ems.plan import Plan, PlanLabel
from ems.site import Site
from ems.timegrid import BoolArray, FloatArray
from optimizer.compiled import Compiled, Filled
from optimizer.explain.bench import Extra, setpoint_rows, setpoints, solve_whole
from optimizer.formulation import Exclusivity, Formulation, Shedding
from optimizer.intake import planning_problem
from optimizer.intake.genset import as_strong_as_now
from optimizer.marking import burning, shedding
from optimizer.options import PlannerOptions
from optimizer.outlook import MonthOutlook
from optimizer.problem import PlanningProblem
from optimizer.scenarios import adverse
from optimizer.solve import Effort
from optimizer.structure import Structure, structure_of
from optimizer.uncertainty import UncertaintyKind

FIT_KW = 1e-3  # by which a published setpoint may differ from the solver's
PART_KW = 0.05  # a feeder is shed in part if both parts are larger
ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Posed:
    """What a plan was made from."""

    site: Site
    condition: PlantCondition
    forecast: Forecast
    options: PlannerOptions
    outlook: MonthOutlook | None = None  # what was expected to the end of the month


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One limit or price made another: `key` of the site file, `words` what is done to it."""

    key: str
    code: ReasonCode
    words: str
    apply: Callable[[Posed], Posed] | None = None
    adjust: Callable[[PlanningProblem], PlanningProblem] | None = None  # on the arrays
    steps: tuple[int, int] | None = None  # first and last step it is about; None: all
    span: tuple[int, int] | None = None  # first and last step of an outage
    frees: int | None = None  # a genset that may then be switched otherwise
    any_unit: bool = False  # any genset may


@dataclass(frozen=True, slots=True)
class Layout:
    """A problem with its matrices and vectors."""

    problem: PlanningProblem
    compiled: Compiled
    filled: Filled


def as_planned(posed: Posed) -> Posed:
    """With gensets as strong as they were, and the forecast planned for: of a robust plan the adverse one."""
    posed = replace(posed, site=as_strong_as_now(posed.site, posed.condition))
    u = posed.options.uncertainty
    if u.kind is not UncertaintyKind.ROBUST:
        return posed
    return replace(posed, forecast=adverse(posed.forecast, u))


def laid_out(p: PlanningProblem, like: Layout | None, options: PlannerOptions) -> Layout:
    """Matrices of a problem; those of `like` where only numbers differ."""
    structure = structure_of(p.site, p.grid, formulation(p, options))
    if like is None or not same_matrix(like.compiled.structure, structure):
        compiled = Compiled(structure)
    elif like.problem.site is p.site:
        compiled = like.compiled
    else:
        compiled = like.compiled.numbers_of(structure)
    return Layout(p, compiled, compiled.fill(compiled.numbers(p)))


def same_matrix(a: Structure, b: Structure) -> bool:
    """Whether two structures on one time grid differ at most in prices and what becomes arrays."""
    return a.formulation == b.formulation and (a.site is b.site or _laid(a.site) == _laid(b.site))


def _laid(site: Site) -> Site:
    """What is left of a site when all is gone that never enters the matrix."""
    return replace(
        site,
        outages=(),
        maintenance=(),
        diesel_per_l=0.0,
        reserve=replace(site.reserve, shortfall_per_kwh=0.0),
        tariff=replace(site.tariff, demand_charge_per_kw=0.0),
    )


def formulation(p: PlanningProblem, options: PlannerOptions) -> Formulation:
    """What the planner used in its last round, without the order of identical units.

    The order only saves time; with it "not this one" would mean "nor its twin".
    """
    form = options.formulation
    return replace(
        form,
        symmetry=False,
        fleets=(),
        exclusivity=Exclusivity.BINARY if p.exclusive.any() else form.exclusivity,
        shedding=form.shedding if p.shed_whole.any() else Shedding.MEAN,
    )


def problem_of_plan(posed: Posed, plan: Plan) -> tuple[Layout, FloatArray]:
    """The problem a plan solves, with the rounds the planner went through, and a solution (columns,) of it.

    Raises
    ------
    DataError : the plan is a rescue (shifted, rules), over scenarios, of another site or time grid, or no
        solution of the problem, as with another condition or forecast.
    """
    _check(posed, plan)
    p = planning_problem(posed.site, posed.condition, posed.forecast, posed.options, posed.outlook)
    shed = {"shed_kw": np.array([plan.shed_kw[f.id] for f in posed.site.feeders])}
    whole = posed.options.formulation.shedding is Shedding.WHOLE
    if whole and posed.site.feeders and (p.feeder_open.any() or shedding(p, shed).any()):
        # As the planner marks them; what first sheds in its last round may be shed in part.
        p = replace(
            p, shed_whole=p.integral & (p.islanded | shedding(p, shed)) & ~_in_part(p, shed["shed_kw"])
        )
    layout = laid_out(p, None, posed.options)
    x = _integers(layout, plan)
    for _ in range(ROUNDS - 1):
        values = layout.compiled.values(x)
        burnt = burning(p, layout.compiled.numbers(p), values) & ~p.exclusive
        if not burnt.any():
            break
        p = replace(p, exclusive=p.exclusive | burnt)
        layout = laid_out(p, None, posed.options)
        x = _integers(layout, plan)
    return layout, x


def _in_part(p: PlanningProblem, shed_kw: FloatArray) -> BoolArray:
    """(T,) steps in which a feeder with a breaker is shed in part."""
    behind = [i for i, f in enumerate(p.site.feeders) if f.has_breaker]
    shed, load = shed_kw[behind], p.load_kw[behind]
    part: BoolArray = (shed > PART_KW) & (shed < load - PART_KW)
    return np.asarray(part.any(axis=0), dtype=np.bool_)


def _check(posed: Posed, plan: Plan) -> None:
    if plan.label not in (PlanLabel.OPTIMAL, PlanLabel.INCUMBENT):
        raise DataError(f"plan {plan.plan_id} is labelled {plan.label}: only what was solved is explained")
    if plan.scenarios is not None:
        raise DataError(f"plan {plan.plan_id} was made over scenarios: only plans of one path are explained")
    if plan.site != posed.site.name or plan.grid != posed.forecast.grid:
        raise DataError(f"plan {plan.plan_id} of {plan.site} is not of this site and forecast grid")


def setpoint_values(plan: Plan, compiled: Compiled) -> FloatArray:
    """(setpoints,) the plan's powers in the order of the bench [kW]."""
    site = compiled.structure.site
    out = []
    for s in setpoints(compiled):
        if s.quantity == "shed_kw":
            out.append(plan.shed_kw[s.asset][s.step])
        elif s.quantity == "deferrable_kw":
            out.append(plan.deferrable_kw[s.asset][s.step])
        elif s.asset == site.grid.id:
            out.append(plan.grid_p_kw[s.step])
        else:
            series = next(x for x in (plan.bess_p_kw, plan.genset_p_kw, plan.pv_p_kw) if s.asset in x)
            out.append(series[s.asset][s.step])
    return np.array(out)


def _integers(layout: Layout, plan: Plan) -> FloatArray:
    """A solution of the model with the plan's commitment and its powers, as near as they were published."""
    c, f = layout.compiled, layout.filled
    low, high = f.low.copy(), f.high.copy()
    if layout.problem.site.gensets:
        on = np.array([plan.genset_on[g.id] for g in layout.problem.site.gensets])
        at = c.form.columns["on"].reshape(on.shape)
        fixed = f.integer[at]
        low[at[fixed]] = high[at[fixed]] = np.round(on[fixed])
    values = setpoint_values(plan, c)
    near = Extra(rows=setpoint_rows(c), low=values - FIT_KW, high=values + FIT_KW)
    effort = Effort(gap_ratio=1e-4, gap_abs=1e-3, time_limit_s=None, node_limit=200)
    point, _ = solve_whole(c, replace(f, low=low, high=high), effort, near)
    if point is None:
        raise DataError(f"plan {plan.plan_id} is no solution of this problem: other condition or forecast?")
    return np.where(f.integer, np.round(point.x), point.x)


def changed(base: Layout, posed: Posed, change: Change) -> Layout:
    """The problem with one thing changed and everything else as it was."""
    return laid_out(rebuilt(base.problem, posed, [change]), base, posed.options)


def rebuilt(p: PlanningProblem, posed: Posed, made: Sequence[Change]) -> PlanningProblem:
    """The problem after some changes.

    What the intake derives from prices and outages (value of the energy left, share of the demand charge,
    which steps are whole) stays, and so does the energy that is stored now.
    """
    after = posed
    for change in made:
        after = after if change.apply is None else change.apply(after)
    if after is not posed:
        new = planning_problem(after.site, after.condition, after.forecast, after.options, after.outlook)
        rate = after.site.tariff.demand_charge_per_kw
        share = rate / max(posed.site.tariff.demand_charge_per_kw, 1e-9)
        here, following = p.months
        p = replace(
            new,
            bess=tuple(replace(b, stored_kwh=a.stored_kwh) for b, a in zip(new.bess, p.bess, strict=True)),
            months=(
                replace(here, rate_per_kw=share * here.rate_per_kw),
                replace(following, rate_per_kw=share * following.rate_per_kw),
            ),
            terminal_per_kwh=p.terminal_per_kwh,
            integral=p.integral,
            exclusive=p.exclusive,
            shed_whole=p.shed_whole,
        )
    for change in made:
        p = p if change.adjust is None else change.adjust(p)
    return p


def with_genset(i: int, edit: Callable[[GensetParams], GensetParams]) -> Callable[[Posed], Posed]:
    """A change of one genset."""
    return with_site(
        lambda s: replace(s, gensets=tuple(edit(g) if k == i else g for k, g in enumerate(s.gensets)))
    )


def with_site(edit: Callable[[Site], Site]) -> Callable[[Posed], Posed]:
    """A change of anything of the site."""
    return lambda x: replace(x, site=edit(x.site))
