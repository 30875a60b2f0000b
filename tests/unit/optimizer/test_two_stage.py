"""Plans over scenarios: cases by hand, enumeration, and what must hold of any stochastic program."""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import block_diag, csc_array, vstack

from ems.errors import BadValue
from ems.forecast import Forecast, ForecastScenario
from ems.plan import Plan, PlanLabel
from ems.site import GridMode
from optimizer import Planner, PlannerOptions, Uncertainty, UncertaintyKind
from optimizer.algebra import Model
from optimizer.build import build
from optimizer.compiled import Compiled
from optimizer.extensive import Extensive, Risk, tail_cost
from optimizer.formulation import Exclusivity, Formulation, Shedding
from optimizer.scenarios import adverse, scenario_problems
from optimizer.solve import Effort, Session
from optimizer.stages import COMMITMENT, RECOURSE, SETPOINTS, shared_columns
from optimizer.structure import structure_of
from optimizer.two_stage import TwoStage
from tests.unit.optimizer import test_brute_force as brute
from tests.unit.optimizer.posing import EXACT, Pose, feeder, ideal_bess, objective, small_genset, small_site
from tests.unit.optimizer.test_compiled import EVERYTHING, random_pose

EFFORT = Effort(gap_ratio=0.0, gap_abs=0.0, time_limit_s=None, node_limit=None)
Varied = Sequence[tuple[float, dict[str, Any]]]  # probability, load by feeder


def over(options: PlannerOptions = EXACT, **changes: Any) -> PlannerOptions:
    """Options of a plan over scenarios, commitment common to all of them unless said otherwise."""
    values: dict[str, Any] = {"kind": UncertaintyKind.TWO_STAGE, "commit_s": 86400.0} | changes
    return replace(options, uncertainty=Uncertainty(**values))


def varied(forecast: Forecast, scenarios: Varied) -> Forecast:
    """A forecast with scenarios of load, sun unchanged."""
    made = tuple(
        ForecastScenario(
            label=f"case {k}",
            probability_ratio=share,
            load_kw={f: np.asarray(x, dtype=np.float64) for f, x in load.items()},
            pv_kw=forecast.pv_kw,
        )
        for k, (share, load) in enumerate(scenarios)
    )
    return replace(forecast, scenarios=made, scenario_source="test")


def plan_of(pose: Pose, forecast: Forecast, options: PlannerOptions, last: Plan | None = None) -> Plan:
    plan = Planner(pose.site, options).plan(pose.condition(), forecast, last, 1)
    assert plan.solve.rescue == "none", plan.solve.rescue
    return plan


# --- which decisions are common ---------------------------------------------------------------------------


def test_stages_every_variable_is_classified_once() -> None:
    names: dict[str, tuple[int, ...]] = {}
    steps = 0
    for seed in range(4):
        pose = random_pose(seed)
        site = replace(pose.site, reserve=replace(pose.site.reserve, **EVERYTHING))
        form = Formulation(exclusivity=Exclusivity.BINARY, shedding=Shedding.WHOLE)
        model = build(structure_of(site, pose.forecast().grid, form), Model)
        names |= {re.sub(r"_\d+$", "", n): model.shapes[n] for n in model.variables}
        steps = pose.steps
    listed = [*COMMITMENT, *SETPOINTS, *RECOURSE]
    missing = " ".join(sorted(set(names) - set(listed)))
    assert not missing, f"list in optimizer/stages.py: {missing}"
    assert len(listed) == len(set(listed))
    assert all(names[n][-1] == steps for n in (*COMMITMENT, *SETPOINTS) if n in names)


def test_extensive_of_one_scenario_is_the_deterministic_model() -> None:
    pose = random_pose(1)
    p = scenario_problems(pose.site, pose.condition(), pose.forecast(), over())[0].problem
    compiled = Compiled(structure_of(pose.site, p.grid, Formulation()))
    extensive = Extensive(compiled, [], Risk())
    alone = compiled.fill(compiled.numbers(p))
    whole = extensive.fill([alone], np.array([1.0]))
    for name in ("a_start", "a_index", "a_value"):
        np.testing.assert_array_equal(getattr(extensive.form, name), getattr(compiled.form, name))
    for name in ("cost", "low", "high", "row_low", "row_high", "integer", "offset"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(alone, name))


def test_plan_with_one_scenario_is_the_deterministic_plan() -> None:
    pose = random_pose(2)
    plain = plan_of(pose, pose.forecast(), PlannerOptions())
    one = varied(pose.forecast(), [(1.0, dict(pose.forecast().load_kw))])
    same = plan_of(pose, one, over(PlannerOptions()))
    assert replace(plain.solve, solve_s=0.0) == replace(same.solve, solve_s=0.0)
    assert (plain.bess_p_kw, plain.genset_p_kw, plain.cost_terms) == (
        same.bess_p_kw, same.genset_p_kw, same.cost_terms,
    )  # fmt: skip


def test_plan_over_copies_of_the_expected_path_costs_what_it_costs() -> None:
    pose = brute.instance(3).pose
    load = dict(pose.forecast().load_kw)
    plan = plan_of(pose, varied(pose.forecast(), [(0.5, load), (0.3, load), (0.2, load)]), over())
    assert objective(plan) == pytest.approx(objective(pose.plan()), abs=1e-6)


# --- by hand ----------------------------------------------------------------------------------------------


def newsvendor(voll: float) -> tuple[Pose, Forecast]:
    """Two hours behind an import cap of 50 kW at 0.1; 50 kW of load, then 50 or (40 %) 80 kW.

    A genset of 30 to 100 kW at 1 per kWh costs 10 to start. Not started, the second hour costs 5 or
    5 + 30 x VOLL; started, 30 + 2 or 30 + 5. The first hour costs 5. So off costs 10 + 12 x VOLL, on 48.2.
    """
    site = small_site(gensets=[small_genset(start_cost=10.0)], feeders=[feeder("a", voll)], import_kw=50.0)
    pose = Pose(site=site, load_kw={"a": 50.0}, steps=2)
    return pose, varied(pose.forecast(), [(0.6, {"a": [50.0, 50.0]}), (0.4, {"a": [50.0, 80.0]})])


@pytest.mark.parametrize(("voll", "on", "costs"), [(3.0, 0.0, (10.0, 100.0)), (3.5, 1.0, (47.0, 50.0))])
def test_commitment_is_worth_it_above_the_newsvendor_ratio(
    voll: float, on: float, costs: tuple[float, float]
) -> None:
    pose, forecast = newsvendor(voll)
    plan = plan_of(pose, forecast, over())
    assert plan.scenarios is not None
    assert plan.genset_on["gen1"] == (0.0, on)
    assert plan.scenarios.cost == pytest.approx(costs)
    assert objective(plan) == pytest.approx(0.6 * costs[0] + 0.4 * costs[1])
    assert plan.scenarios.expected_cost == pytest.approx(objective(plan))
    assert sum(plan.cost_terms.values()) == pytest.approx(objective(plan))
    assert any("planned for 2 scenarios (test)" in note for note in plan.notes)
    assert objective(pose.plan()) == pytest.approx(10.0)  # the expected path alone never starts it


@pytest.mark.parametrize(("weight", "on"), [(0.05, 0.0), (0.1, 1.0)])
def test_cvar_pays_for_the_start_that_expectation_does_not(weight: float, on: float) -> None:
    """Off: mean 46, dearest half (0.4 x 100 + 0.1 x 10) / 0.5 = 82. On: 48.2 and 49.4. Equal at 6.3 %."""
    pose, forecast = newsvendor(3.0)
    plan = plan_of(pose, forecast, over(cvar_weight_ratio=weight, cvar_level_ratio=0.5))
    mean, tail = (48.2, 49.4) if on else (46.0, 82.0)
    assert plan.scenarios is not None
    assert plan.genset_on["gen1"] == (0.0, on)
    assert plan.scenarios.expected_cost == pytest.approx(mean)
    assert plan.scenarios.tail_cost == pytest.approx(tail)
    assert objective(plan) == pytest.approx((1.0 - weight) * mean + weight * tail)
    assert sum(plan.cost_terms.values()) == pytest.approx(objective(plan))


@pytest.mark.parametrize(("level", "tail"), [(0.5, 7.0), (0.8, 10.0), (0.9, 10.0), (0.2, 4.75)])
def test_tail_cost_of_three_outcomes(level: float, tail: float) -> None:
    """10 (20 %), 5 (30 %), 1 (50 %): dearest half (2 + 1.5) / 0.5, dearest 80 % (2 + 1.5 + 0.3) / 0.8."""
    assert tail_cost(np.array([1.0, 10.0, 5.0]), np.array([0.5, 0.2, 0.3]), level) == pytest.approx(tail)


def test_battery_setpoint_of_the_first_step_hedges_between_scenarios() -> None:
    """Charging 10 kWh now costs 1; it is worth 5 where the second hour has 10 kW above the cap (25 %): 1.25.

    At 15 % it is worth 0.75 and is left. Knowing the future, each scenario would decide for itself.
    """
    site = small_site(bess=[ideal_bess()], feeders=[feeder("a", 0.5)], import_kw=50.0)
    pose = Pose(site=site, load_kw={"a": [40.0, 50.0]}, import_per_kwh=[0.1, 0.0], steps=2, soc=0.0)
    for share, stored in ((0.25, 1.0), (0.15, 0.0)):
        cases = [(1.0 - share, {"a": [40.0, 50.0]}), (share, {"a": [40.0, 60.0]})]
        plan = plan_of(pose, varied(pose.forecast(), cases), over())
        assert plan.bess_soc_end["bess1"][0] == pytest.approx(stored), share


def test_first_step_of_scenarios_is_that_of_the_forecast() -> None:
    pose, _ = newsvendor(3.0)
    odd = varied(pose.forecast(), [(0.5, {"a": [50.0, 50.0]}), (0.5, {"a": [999.0, 80.0]})])
    problems = scenario_problems(pose.site, pose.condition(), odd, over())
    assert [p.problem.load_kw.tolist() for p in problems] == [[[50.0, 50.0]], [[50.0, 80.0]]]
    both = scenario_problems(pose.site, pose.condition(), odd, over(first_s=7200.0))
    assert both[1].problem.load_kw.tolist() == [[50.0, 50.0]]


@pytest.mark.parametrize(
    ("delay_s", "first_s", "steps"), [(0.0, 0.0, 1), (900.0, 0.0, 1), (901.0, 0.0, 2), (3700.0, 7200.0, 4)]
)
def test_commitment_is_common_until_the_next_plan_can_have_started_gensets(
    delay_s: float, first_s: float, steps: int
) -> None:
    """A start may miss a quarter of its first hour; 3,700 s after the second hour is in the fourth."""
    site = small_site(gensets=[small_genset(warm_up_s=delay_s)], feeders=[feeder("a", 6.0)])
    pose = Pose(site=site, load_kw={"a": 40.0}, steps=8)
    cases = varied(pose.forecast(), [(0.5, {"a": [40.0] * 8}), (0.5, {"a": [50.0] * 8})])
    problems = scenario_problems(site, pose.condition(), cases, over(commit_s=None, first_s=first_s))
    assert problems[1].commit_steps == steps


def test_outage_that_nobody_announced_is_worth_stored_energy() -> None:
    """10 kW, no genset, 73 outages a month: 1 - exp(-0.4) = 33 % of one in 4 h, begun in the third hour.

    It would cost 2 h x 10 kW x VOLL 6 unless 20 kWh are stored by then, of which 10 at 1.0 and not 0.1.
    """
    site = small_site(bess=[ideal_bess(energy_kwh=20.0)], feeders=[feeder("a", 6.0)])
    site = replace(site, reserve=replace(site.reserve, outages_per_month=73.0, assumed_outage_h=4.0))
    pose = Pose(site=site, load_kw={"a": 10.0}, import_per_kwh=[0.5, 1.0, 0.1, 0.1], soc=0.0)
    alike = varied(pose.forecast(), [(0.5, {"a": [10.0] * 4}), (0.5, {"a": [10.0] * 4})])
    without = plan_of(pose, alike, over())
    assert without.bess_soc_end["bess1"][1] == pytest.approx(0.0)
    plan = plan_of(pose, alike, over(outages=1))
    assert plan.scenarios is not None
    share = 1.0 - np.exp(-73.0 * 4.0 / 730.0)
    assert plan.scenarios.label[-1] == "no mains from 02 02:00 UTC"
    assert plan.scenarios.probability_ratio == pytest.approx(((1 - share) / 2, (1 - share) / 2, share))
    assert plan.bess_soc_end["bess1"][1] == pytest.approx(1.0)
    # bought at 0.5 and 1.0, used in the last two hours: at 0.1 where the mains stay
    assert plan.scenarios.cost[-1] == pytest.approx(5.0 + 10.0 + 10.0 * 0.5 + 10.0 * 1.0)
    silent = replace(site, reserve=replace(site.reserve, outages_per_month=None))
    assert plan_of(replace(pose, site=silent), alike, over(outages=1)).scenarios is not None


def test_outage_scenario_may_start_gensets_for_itself_once_they_can_be_there() -> None:
    """It takes 30 min, half a step: it is on from the step after, in part, as recourse is not whole."""
    slow = small_genset(warm_up_s=1800.0)
    site = small_site(gensets=[slow], bess=[ideal_bess()], feeders=[feeder("a", 6.0)])
    site = replace(site, reserve=replace(site.reserve, outages_per_month=10.0, assumed_outage_h=4.0))
    pose = Pose(site=site, load_kw={"a": 40.0}, soc=0.0)
    alike = varied(pose.forecast(), [(0.5, {"a": [40.0] * 4}), (0.5, {"a": [40.0] * 4})])
    problems = scenario_problems(site, pose.condition(), alike, over(outages=1))
    assert [p.commit_steps for p in problems] == [4, 4, 3]
    assert problems[-1].problem.grid_available.tolist() == [True, True, False, False]
    solved = TwoStage(Planner(site, over()), over()).solve(problems, [], 0.0)
    on = solved.posed.extensive.compiled.values(solved.of(2))["on"]
    assert on[0, :3].max() == pytest.approx(0.0, abs=1e-6)
    assert on[0, 3] > 0.4 - 1e-6  # 40 of 100 kW
    assert solved.posed.extensive.compiled.values(solved.of(0))["on"].max() == pytest.approx(0.0, abs=1e-6)


# --- against other ways of solving the same -----------------------------------------------------------------


def drawn_cases(pose: Pose, seed: int, count: int = 3) -> list[tuple[float, dict[str, Any]]]:
    """The expected path and others like it, all with its first hour."""
    rng = np.random.default_rng(1000 + seed)
    share = rng.dirichlet(np.ones(count))
    cases = []
    for k in range(count):
        load = {}
        for f in pose.site.feeders:
            row = np.broadcast_to(np.asarray(pose.load_kw[f.id], dtype=np.float64), pose.steps).copy()
            if k:
                row[1:] *= rng.uniform(0.4, 1.8, pose.steps - 1)
            load[f.id] = row
        cases.append((float(share[k]), load))
    return cases


@pytest.mark.parametrize("seed", range(0, 24, 2))
def test_two_stage_costs_what_the_best_enumerated_commitment_costs(seed: int) -> None:
    """Without a battery and a demand charge the hours are apart, and so are the scenarios: each is dispatched
    by another solver's hand-written model of it for every commitment.
    """
    case = brute.instance(seed)
    site = replace(case.pose.site, bess=(), tariff=replace(case.pose.site.tariff, demand_charge_per_kw=0.0))
    site = replace(site, forming=replace(site.forming, islanded=tuple(g.id for g in site.gensets)))
    pose = replace(case.pose, site=site)
    cases = drawn_cases(pose, seed)
    there = np.ones(brute.STEPS)
    there[[int((o.start - pose.at).total_seconds() // 3600) for o in pose.outages]] = 0.0
    if pose.mode is GridMode.ISLANDED:
        there[:] = 0.0
    apart = [replace(case, pose=replace(pose, load_kw=load), reserve=False) for _, load in cases]
    best = min(
        sum(share * brute.dispatch_cost(one, on, there) for (share, _), one in zip(cases, apart, strict=True))
        for bits in product((0, 1), repeat=2 * brute.STEPS)
        if brute.permitted(pose, on := np.array(bits).reshape(2, brute.STEPS))
    )
    plan = plan_of(pose, varied(pose.forecast(), cases), over())
    assert objective(plan) == pytest.approx(best, abs=1e-5, rel=1e-6)


def tied(pose: Pose, cases: Varied, options: PlannerOptions, risk: Risk) -> tuple[float, float]:
    """Optimum of the extensive form, and of whole copies tied by equations, posed to another interface."""
    scenarios = scenario_problems(pose.site, pose.condition(), varied(pose.forecast(), cases), options)
    compiled = Compiled(structure_of(pose.site, scenarios[0].problem.grid, options.formulation))
    each = [compiled.fill(compiled.numbers(s.problem)) for s in scenarios]
    shapes = {n: compiled.shapes[n] for n in compiled.form.columns}
    shared = shared_columns(shapes, compiled.form.columns, 1, pose.steps)
    extensive = Extensive(compiled, [shared] * (len(each) - 1), risk)
    probability = np.array([s.probability_ratio for s in scenarios])
    ours = Session(extensive).solve(extensive.fill(each, probability), EFFORT).objective
    form, n, k = compiled.form, compiled.form.shape[1], len(each)
    one = csc_array((form.a_value, form.a_index, form.a_start), shape=form.shape)
    at = np.flatnonzero(shared)
    rows = [block_diag([one] * k)]
    low, high = [np.concatenate([getattr(f, x) for f in each]) for x in ("row_low", "row_high")]
    ties = np.zeros(((k - 1) * len(at), k * n))
    for s in range(1, k):
        here = (s - 1) * len(at) + np.arange(len(at))
        ties[here, at], ties[here, s * n + at] = 1.0, -1.0
    whole = np.concatenate([each[0].integer, *[f.integer & shared for f in each[1:]]])
    found = milp(
        np.concatenate([share * f.cost for share, f in zip(probability, each, strict=True)]),
        constraints=[LinearConstraint(vstack(rows), low, high), LinearConstraint(ties, 0.0, 0.0)],
        bounds=Bounds(*(np.concatenate([getattr(f, x) for f in each]) for x in ("low", "high"))),
        integrality=whole.astype(int),
        options={"mip_rel_gap": 0.0},
    )
    assert ours is not None
    return ours, float(found.fun + sum(p * f.offset for p, f in zip(probability, each, strict=True)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_extensive_form_costs_what_tied_copies_cost(seed: int) -> None:
    pose = random_pose(seed)
    ours, theirs = tied(pose, drawn_cases(pose, seed), over(PlannerOptions()), Risk())
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-4)


@pytest.mark.parametrize("seed", range(1, 13))
def test_knowing_the_future_is_worth_something_and_so_is_reckoning_with_it(seed: int) -> None:
    """Wait and see <= two stages <= commitment of the expected path (Birge and Louveaux, chapter 4)."""
    pose = brute.instance(seed).pose
    cases = drawn_cases(pose, seed)
    scenarios = scenario_problems(pose.site, pose.condition(), varied(pose.forecast(), cases), over())
    two_stage = TwoStage(Planner(pose.site, over()), over())
    solved = two_stage.solve(scenarios, [], 0.0)
    assert solved.outcome.objective is not None
    compiled, best = solved.posed.extensive.compiled, solved.outcome.objective
    probability = np.array([s.probability_ratio for s in scenarios])
    alone = [Session(compiled).solve(f, EFFORT) for f in solved.posed.each]
    seen = sum(p * (o.objective or 0.0) for p, o in zip(probability, alone, strict=True))
    assert alone[0].x is not None
    fixed = solved.posed.extensive.fill(solved.posed.each, probability)
    at = compiled.form.columns["on"]
    fixed.low[at] = fixed.high[at] = np.round(alone[0].x[at])
    committed = Session(solved.posed.extensive).solve(fixed, EFFORT).objective
    assert committed is not None
    assert seen <= best + 1e-6
    assert best <= committed + 1e-6


# --- in the planner ---------------------------------------------------------------------------------------


def test_plan_over_scenarios_is_replayed_rolled_and_terms_add_up() -> None:
    pose = random_pose(3)
    last: Plan | None = None
    for _ in range(2):
        cases = drawn_cases(pose, 5, count=4)
        plan = plan_of(pose, varied(pose.forecast(), cases), over(PlannerOptions(), first_s=1800.0), last)
        assert plan.scenarios is not None
        assert sum(plan.cost_terms.values()) == pytest.approx(objective(plan), rel=1e-6)
        assert plan.load_kw["critical"] == pytest.approx(cases[0][1]["critical"])
        last = plan


def test_feeder_is_not_lost_whole_for_the_little_that_was_to_be_shed_of_it() -> None:
    """20 of 120 kW are too much for the mains: an hour of 40 shed in part, 240 the whole feeder, 60 a genset.
    Within so wide a gap the first solve sheds in part, and its decisions could be rounded.
    """
    genset = small_genset(p_rated_kw=60.0, p_min_kw=20.0, fuel_kw=(0.0, 60.0), fuel_l_h=(0.0, 6.0),
                          running_cost_per_h=58.0, start_cost=0.0)  # fmt: skip
    cheap = replace(feeder("cheap", 2.0, peak_kw=120.0), shed_min_s=0.0, served_min_s=0.0)
    site = small_site(feeders=[cheap], gensets=[genset], diesel_per_l=1.0, import_kw=100.0)
    pose = Pose(site=site, load_kw={"cheap": 120.0}, steps=4, import_per_kwh=0.001)
    alike = varied(pose.forecast(), [(0.5, {"cheap": [120.0] * 4}), (0.5, {"cheap": [120.0] * 4})])
    wide = over(PlannerOptions(gap_ratio=0.9))
    scenarios = scenario_problems(site, pose.condition(), alike, wide)
    solved = TwoStage(Planner(site, wide), wide).solve(scenarios, [], 0.0)
    v = solved.posed.extensive.compiled.values(solved.of(0))
    assert v["shed_kw"] == pytest.approx(np.zeros((1, 4)), abs=1e-6)
    assert v["on"] == pytest.approx(np.ones((1, 4)))


def test_plan_where_scenarios_give_no_point_is_that_of_the_expected_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pose, forecast = newsvendor(3.5)
    plain = TwoStage.solve

    def fails(self: TwoStage, *args: Any) -> Any:
        solved = plain(self, *args)
        return replace(solved, outcome=replace(solved.outcome, x=None, status="Time limit reached"))

    monkeypatch.setattr(TwoStage, "solve", fails)
    plan = plan_of(pose, forecast, over())
    assert plan.label is PlanLabel.OPTIMAL
    assert plan.scenarios is None
    assert plan.genset_on["gen1"] == (0.0, 0.0)
    assert "of 2 scenarios the solver ended with Time limit reached" in plan.notes[-1]


def test_plan_under_a_deadline_is_fresh_and_says_what_it_was_made_for() -> None:
    pose = random_pose(1)
    options = over(PlannerOptions(time_limit_s=20.0, node_limit=None))
    plan = plan_of(pose, varied(pose.forecast(), drawn_cases(pose, 1)), options)
    assert plan.label in (PlanLabel.OPTIMAL, PlanLabel.INCUMBENT)
    assert plan.scenarios is not None


def test_plan_without_time_for_scenarios_is_that_of_the_expected_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The expected path took 1 s of 3.5 s; 2.5 s are less than three times as much."""
    pose, forecast = newsvendor(3.5)
    now = iter([0.0, 0.0, 1.0])
    monkeypatch.setattr("optimizer.rolling.wall_s", lambda: next(now))
    plan = plan_of(pose, forecast, over(replace(EXACT, time_limit_s=3.5)))
    assert plan.scenarios is None
    assert plan.genset_on["gen1"] == (0.0, 0.0)
    assert plan.notes[-1] == "planned for the expected path alone: of 2 scenarios there was no time"


def test_plan_without_scenarios_says_so() -> None:
    pose, _ = newsvendor(3.0)
    plan = plan_of(pose, pose.forecast(), over())
    assert plan.scenarios is None
    assert "no scenarios in the forecast: planned for the expected path alone" in plan.notes


# --- robust -----------------------------------------------------------------------------------------------


def banded(pose: Pose) -> Forecast:
    """Load 20 kW higher, and no sun, at the outer quantiles."""
    forecast = pose.forecast()
    return replace(
        forecast,
        load_kw_quantiles={
            "p10": {f: 0.5 * x for f, x in forecast.load_kw.items()},
            "p90": {f: x + 20.0 for f, x in forecast.load_kw.items()},
        },
        pv_kw_quantiles={"p10": {i: 0.0 * x for i, x in forecast.pv_kw.items()}, "p90": dict(forecast.pv_kw)},
    )


@pytest.mark.parametrize(("quantile", "added"), [(0.9, 20.0), (0.5, 0.0), (0.75, 20.0 * 0.67449 / 1.28155)])
def test_adverse_path_is_the_quantile_after_the_first_step(quantile: float, added: float) -> None:
    pose = random_pose(1)
    u = Uncertainty(kind=UncertaintyKind.ROBUST, quantile_ratio=quantile)
    path = adverse(banded(pose), u)
    for f, x in pose.forecast().load_kw.items():
        np.testing.assert_allclose(path.load_kw[f], [x[0], *(x[1:] + added)], atol=1e-3)
    sun = pose.forecast().pv_kw["pv1"]
    np.testing.assert_allclose(path.pv_kw["pv1"][1:], sun[1:] * (1.0 - added / 20.0), atol=1e-2)


def test_robust_plan_commits_for_the_adverse_path() -> None:
    """60 kW at the quantile behind a cap of 50: 10 kW at a VOLL of 6 are worth starting for, 0 are not."""
    pose, _ = newsvendor(6.0)
    forecast = banded(replace(pose, load_kw={"a": [50.0, 40.0]}))
    plain = plan_of(pose, forecast, EXACT)
    robust = plan_of(pose, forecast, replace(EXACT, uncertainty=Uncertainty(kind=UncertaintyKind.ROBUST)))
    assert plain.genset_on["gen1"] == (0.0, 0.0)
    assert robust.genset_on["gen1"] == (0.0, 1.0)
    assert any("robust: planned for the 90% quantile of load" in note for note in robust.notes)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("scenarios", 0, "1 to 100"),
        ("cvar_weight_ratio", 1.0, "0 to 0.95"),
        ("cvar_level_ratio", 1.0, "above 0, below 1"),
        ("quantile_ratio", 0.4, "0.5 to 0.99"),
        ("first_s", float("nan"), "0 or more"),
        ("outages", 25, "0 to 24"),
        ("commit_s", -1.0, "0 or more, or none"),
    ],
)
def test_uncertainty_bad_value_names_key_value_and_range(key: str, value: float, allowed: str) -> None:
    with pytest.raises(BadValue, match=f"uncertainty.{key}: found {value}; allowed: {allowed}"):
        Uncertainty(**{key: value})  # type: ignore[arg-type]
