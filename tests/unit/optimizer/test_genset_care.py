"""Low load of gensets: price, budget, burn-off, by hand, replayed and carried from plan to plan."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from dispatch.observing.duty import duties_after
from ems.assets import BurnOff, Exercise, LowLoad, Rating
from ems.condition import GensetDuty, GensetHour
from ems.errors import DataError
from ems.plan import Plan
from ems.site import GridMode, Maintenance
from optimizer import Planner
from optimizer.intake import planning_problem
from optimizer.prices import ladder
from optimizer.validate import validate
from tests.unit.optimizer.posing import EXACT, T0, Pose, feeder, objective, small_genset, small_site


def island(load_kw: list[float], low_load: LowLoad, **changes: Any) -> Pose:
    """A genset of 100 kW, minimum 20, 1 L/kWh at 0.3 per litre; care costs 0.5 x 100 = 50 per hour."""
    unit = small_genset(p_min_kw=20.0, low_load=low_load)
    site = small_site(gensets=[unit], feeders=[feeder("load", 10.0)], diesel_per_l=0.3)
    assert ladder(site).genset_care_per_kwh == 0.5
    pose = Pose(site=site, load_kw={"load": load_kw}, steps=len(load_kw), mode=GridMode.ISLANDED)
    return replace(pose, **changes)


def tied(load_kw: list[float], low_load: LowLoad, **changes: Any) -> Pose:
    return island(load_kw, low_load, mode=GridMode.GRID_TIED, **changes)


def test_price_below_part_of_the_rating_is_paid_per_kwh_below():
    """30 kW where 50 are wanted: 20 kWh below at 0.1 an hour, beside 9 of fuel."""
    plan = island([30.0, 60.0], LowLoad(below_ratio=0.5, price_per_kwh=0.1)).plan()
    assert plan.cost_terms["low_load"] == pytest.approx(2.0)
    assert objective(plan) == pytest.approx(0.3 * 90.0 + 2.0)


def test_price_below_part_of_the_rating_moves_load_onto_the_genset():
    """Grid at 0.32, fuel at 0.3: the genset carries it all; at 0.28 it rests, unless it must run."""
    low = LowLoad(below_ratio=0.5, price_per_kwh=0.1)
    busy = tied([60.0, 30.0], low, import_per_kwh=0.32).plan()
    assert busy.genset_p_kw["gen1"] == pytest.approx((60.0, 0.0))  # 30 kW: 9 + 2 against 9.6


def test_budget_of_low_load_in_a_window_is_kept_by_resting():
    """Three hours at 30 kW, grid at 0.4 against 0.3: the budget of 2 h in 24 leaves the dearest hours."""
    low = LowLoad(below_ratio=0.5, budget_h=2.0)
    plan = tied([30.0] * 3, low, import_per_kwh=(0.42, 0.40, 0.41)).plan()
    assert list(plan.genset_on["gen1"]) == [1, 0, 1]
    assert plan.cost_terms["low_load_over"] == 0.0


def test_budget_moves_on_with_its_window():
    """One hour in any three: hours 0 and 3."""
    low = LowLoad(below_ratio=0.5, budget_h=1.0, window_h=3.0)
    plan = tied([30.0] * 4, low, import_per_kwh=(0.42, 0.40, 0.41, 0.42)).plan()
    assert plan.genset_on["gen1"] == (1, 0, 0, 1)


@pytest.mark.parametrize(("ago_h", "on"), [(2, (0, 1, 0)), (1, (0, 0, 1))])
def test_budget_counts_hours_of_the_past_that_lie_in_the_window(ago_h: int, on: tuple[int, ...]):
    """One hour in any three; one was spent two hours ago, or just now."""
    low = LowLoad(below_ratio=0.5, budget_h=1.0, window_h=3.0)
    hour = GensetHour(start=T0 - timedelta(hours=ago_h), low_load_h=1.0)
    pose = tied([30.0] * 3, low, import_per_kwh=(0.42, 0.41, 0.40))
    plan = replace(pose, gensets_now={"gen1": {"duty": GensetDuty(hours=(hour,))}}).plan()
    assert plan.genset_on["gen1"] == on


def test_budget_is_missed_for_load_that_would_be_lost_and_that_is_said():
    """Islanded: two hours beyond cost 50 each, lost load 300 an hour."""
    plan = island([30.0] * 3, LowLoad(below_ratio=0.5, budget_h=1.0)).plan()
    assert list(plan.genset_on["gen1"]) == [1, 1, 1]
    assert plan.cost_terms["low_load_over"] == pytest.approx(100.0)
    assert "gen1: 2.0 h at low load more than its 1 h in 24 h" in plan.notes


def test_low_load_is_all_or_nothing():
    """Half an hour of budget is no use for an hour at 49 of 50 kW: it rests rather than pay 25."""
    plan = tied([49.0], LowLoad(below_ratio=0.5, budget_h=0.5), import_per_kwh=0.31).plan()
    assert plan.genset_on["gen1"] == (0,)


BURN = LowLoad(below_ratio=0.5, burn_off=BurnOff(after_h=2.0, for_h=1.0, above_ratio=0.8))


def test_burn_off_comes_before_more_low_load():
    """Two hours at low load are free; then an hour at 80 kW clears it, exported at 0.25."""
    pose = island([30.0, 30.0, 30.0, 30.0, 30.0], BURN, mode=GridMode.GRID_TIED, import_per_kwh=2.0)
    grid = replace(pose.site.grid, p_export_kw_max=100.0, p_import_kw_max=0.0)
    pose = replace(pose, site=replace(pose.site, grid=grid), export_per_kwh=0.25)
    power = np.array(pose.plan().genset_p_kw["gen1"])
    assert sorted(power.tolist()) == pytest.approx([30.0, 30.0, 30.0, 30.0, 80.0])
    assert power[2] == pytest.approx(80.0)  # after at most two, with at most two to follow


def test_burn_off_that_is_due_is_said_where_it_cannot_be():
    plan = island([30.0] * 3, BURN).plan()
    assert plan.cost_terms["low_load_over"] == pytest.approx(50.0)
    assert "gen1: 1.0 h at low load after 2 h, without burn-off" in plan.notes


@pytest.mark.parametrize(
    ("count_h", "burning_h", "due_h"), [(1.0, 0.0, 2.0), (0.0, 0.0, 1.0), (9.0, 0.0, 3.0)]
)
def test_burn_off_counts_hours_of_the_past(count_h: float, burning_h: float, due_h: float):
    """Three hours at low load to come, two are free."""
    duty = GensetDuty(low_load_h=count_h)
    plan = replace(island([30.0] * 3, BURN), gensets_now={"gen1": {"duty": duty}}).plan()
    assert plan.cost_terms["low_load_over"] == pytest.approx(50.0 * due_h)


def test_burn_off_begun_before_the_plan_goes_on():
    """Half of two hours are done: one more hour at 80 kW, and the count is nought."""
    low = replace(BURN, burn_off=BurnOff(after_h=2.0, for_h=2.0, above_ratio=0.8))
    pose = island([80.0, 30.0, 30.0], low)
    for burning_h, due in ((1.0, 0.0), (0.0, 100.0)):
        duty = GensetDuty(low_load_h=2.0, burning_h=burning_h)
        plan = replace(pose, gensets_now={"gen1": {"on_load": True, "duty": duty}}).plan()
        assert plan.cost_terms["low_load_over"] == pytest.approx(due)


def test_counts_that_are_not_hours_are_refused():
    pose = replace(island([30.0], BURN), gensets_now={"gen1": {"duty": GensetDuty(low_load_h=-1.0)}})
    with pytest.raises(DataError, match="gen1: hours at low load is -1"):
        planning_problem(pose.site, pose.condition(), pose.forecast(), EXACT)


# --- the replay -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("term", ["low_load", "low_load_over"])
def test_replay_refuses_a_plan_that_does_not_pay_for_its_low_load(term: str):
    low = replace(BURN, price_per_kwh=0.1, budget_h=1.0)
    pose = island([30.0] * 4, low)
    plan = pose.plan()
    p = planning_problem(pose.site, pose.condition(), pose.forecast(), EXACT)
    assert validate(plan, p).ok
    cheaper = replace(plan, cost_terms={**plan.cost_terms, term: 0.9 * plan.cost_terms[term]})
    assert [f.split(":")[0] for f in validate(cheaper, p).faults] == [term]


# --- every commitment enumerated --------------------------------------------------------------------------


def paid(pose: Pose, power: tuple[float, ...], price: np.ndarray) -> float:
    """Cost of a series of powers (0: off), counted hour by hour."""
    low = pose.site.gensets[0].low_load
    assert low is not None
    assert low.burn_off is not None
    assert low.budget_h is not None
    load = np.asarray(pose.load_kw["load"])
    cost = sum(0.3 * p + (load[t] - p) * price[t] for t, p in enumerate(power))
    at_low = [0.0 < p < 50.0 for p in power]
    cost += sum(low.price_per_kwh * (50.0 - p) for p in power if 0.0 < p < 50.0)
    count, burning, over = 0.0, 0.0, 0.0
    for t, p in enumerate(power):
        burning = burning + 1.0 if p >= 80.0 else 0.0
        count += at_low[t]
        count = 0.0 if burning >= low.burn_off.for_h else count
        over, count = over + max(0.0, count - low.burn_off.after_h), min(count, low.burn_off.after_h)
    least = min(
        sum(taken)
        for taken in product((0, 1), repeat=len(power))
        if all(
            sum(
                at_low[i] and not taken[i] for i in range(max(0, t + 1 - int(low.window_h)), t + 1)
            ) <= low.budget_h
            for t in range(len(power))
        )
    )  # fmt: skip
    return float(cost + 50.0 * (over + least))


@pytest.mark.parametrize("seed", range(12))
def test_plan_costs_what_the_best_of_all_hourly_powers_costs(seed: int):
    """Loads and lines so that a best plan has only the powers 0, 20, 50, 80 and the load itself."""
    rng = np.random.default_rng(seed)
    low = LowLoad(
        below_ratio=0.5, price_per_kwh=float(rng.uniform(0.0, 0.1)), budget_h=float(rng.integers(0, 3)),
        window_h=float(rng.integers(3, 5)),
        burn_off=BurnOff(after_h=float(rng.integers(1, 3)), for_h=float(rng.integers(1, 3)), above_ratio=0.8),
    )  # fmt: skip
    load = rng.choice([20.0, 35.0, 60.0, 90.0], 5).tolist()
    price = rng.uniform(0.2, 2.5, 5)
    pose = tied(load, low, import_per_kwh=price.tolist())
    levels = [sorted({0.0, *(x for x in (20.0, 50.0, 80.0, kw) if x <= kw)}) for kw in load]
    best = min(paid(pose, power, price) for power in product(*levels))
    assert objective(pose.plan()) == pytest.approx(best, abs=1e-6), f"seed {seed}"


# --- carried over -----------------------------------------------------------------------------------------


def lived(pose: Pose, plan: Plan, duty: Mapping[str, GensetDuty]) -> dict[str, GensetDuty]:
    """Duty after the first hour of a plan, counted as the edge counts."""
    out = dict(duty)
    for minute in range(60):
        loads = {
            g.id: plan.genset_p_kw[g.id][0] if plan.genset_on[g.id][0] > 0.5 else None
            for g in pose.site.gensets
        }
        params = {g.id: g for g in pose.site.gensets}
        out = duties_after(params, out, loads, pose.at + timedelta(minutes=minute + 1), 60.0)
    return out


def test_budget_holds_through_plans_that_follow_each_other():
    """One hour in any three, planned hour by hour for nine: every third, although each plan sees three."""
    pose = tied([30.0] * 3, LowLoad(below_ratio=0.5, budget_h=1.0, window_h=3.0), import_per_kwh=0.4)
    planner, duty, ran = Planner(pose.site, EXACT), dict[str, GensetDuty](), []
    for hour in range(9):
        now = {"gen1": {"duty": duty.get("gen1", GensetDuty())}}
        price = (0.4 + 0.001 * hour, 0.4, 0.4)  # now, if at all
        pose = replace(pose, at=T0 + timedelta(hours=hour), gensets_now=now, import_per_kwh=price)
        plan = planner.plan(pose.condition(), pose.forecast(), None, hour)
        assert plan.solve.rescue == "none"
        assert plan.cost_terms["low_load_over"] == 0.0
        ran.append(int(plan.genset_on["gen1"][0]))
        duty = lived(pose, plan, duty)
    assert all(sum(ran[t : t + 3]) <= 1 for t in range(7))
    assert sum(ran) == 3


# --- rating -----------------------------------------------------------------------------------------------


def rated(load_kw: list[float], rating: Rating, **changes: Any) -> Pose:
    """The genset above without a line of low load."""
    pose = island(load_kw, BURN, **changes)
    unit = replace(pose.site.gensets[0], low_load=None, rating=rating)
    return replace(pose, site=replace(pose.site, gensets=(unit,)))


PRIME = Rating(mean_ratio_max=0.7)


def test_prime_rating_mean_over_hours_of_operation_is_kept():
    """Grid at 0.4: 100 kW in one hour are made good in the other; together 140 kW, dearest hour first."""
    pose = rated([100.0, 100.0], PRIME, mode=GridMode.GRID_TIED, import_per_kwh=(0.4, 0.41))
    plan = pose.plan()
    assert sum(plan.genset_p_kw["gen1"]) == pytest.approx(140.0, abs=0.5)
    assert plan.genset_p_kw["gen1"][0] <= 70.1  # the mean holds at the end of each step


def test_prime_rating_counts_less_than_30_per_cent_as_30():
    """20 kW in the first hour count as 30: the second may have 110 of 140, not 120."""
    pose = rated([20.0, 100.0, 100.0], PRIME, mode=GridMode.GRID_TIED, import_per_kwh=(9.0, 9.0, 0.1))
    pose = replace(pose, load_kw={"load": [20.0, 120.0, 0.0]})
    assert pose.plan().cost_terms["rating_over"] == pytest.approx(0.0, abs=1e-6)
    low = rated([20.0, 100.0], replace(PRIME, mean_ratio_max=0.6))  # 30 + 100 of 120: 10 kWh over for an hour
    assert low.plan().cost_terms["rating_over"] == pytest.approx(0.5 * 10.0)


@pytest.mark.parametrize(("past_kw", "over"), [(None, 30.0), (70.0, 30.0), (60.0, 20.0), (100.0, 30.0)])
def test_prime_rating_looks_back_over_hours_of_operation(past_kw: float | None, over: float):
    """An hour at 100 kW after one long ago, which still is one of the last 24 of operation."""
    hour = GensetHour(start=T0 - timedelta(days=9), run_h=1.0, counted_kwh=past_kw or 0.0)
    duty = GensetDuty(hours=() if past_kw is None else (hour,))
    plan = replace(rated([100.0], PRIME), gensets_now={"gen1": {"duty": duty}}).plan()
    assert plan.cost_terms["rating_over"] == pytest.approx(0.5 * over)
    assert any(f"above 70% of its rating, by {over:.0f} kWh" in note for note in plan.notes)


@pytest.mark.parametrize(("run_h", "cost"), [(0.0, 0.0), (199.0, 50.0), (500.0, 100.0)])
def test_standby_rating_counts_the_hours_of_the_year(run_h: float, cost: float):
    """Two hours to run, 200 a year: each over it costs 50."""
    duty = GensetDuty(year=2026, year_run_h=run_h)
    pose = rated([50.0, 50.0], Rating(year_h_max=200.0), gensets_now={"gen1": {"duty": duty}})
    plan = pose.plan()
    assert plan.cost_terms["rating_over"] == pytest.approx(cost)
    assert any("more than the 200 h a year" in note for note in plan.notes) == (cost > 0.0)


@pytest.mark.parametrize("rating", [Rating(mean_ratio_max=0.5), Rating(year_h_max=1.0)])
def test_replay_refuses_a_plan_that_does_not_pay_for_its_rating(rating: Rating):
    pose = rated([100.0] * 24, rating)
    plan, p = pose.plan(), planning_problem(pose.site, pose.condition(), pose.forecast(), EXACT)
    assert validate(plan, p).ok
    cheaper = replace(
        plan, cost_terms={**plan.cost_terms, "rating_over": 0.9 * plan.cost_terms["rating_over"]}
    )
    assert [f.split(":")[0] for f in validate(cheaper, p).faults] == ["rating_over"]


def test_edge_counts_hours_of_operation_and_of_the_local_year():
    """Two hours over midnight of the year at 20 kW of 100: counted as 30; the year begins anew."""
    unit = small_genset(rating=PRIME)
    zone = ZoneInfo("Africa/Nairobi")
    at, duties = datetime(2026, 12, 31, 23, 0, tzinfo=zone), dict[str, GensetDuty]()
    for quarter in range(1, 9):
        now = (at.astimezone(UTC) + timedelta(minutes=15 * quarter)).astimezone(zone)
        duties = duties_after({"gen1": unit}, duties, {"gen1": 20.0}, now, 900.0)
    duty = duties["gen1"]
    assert [(h.run_h, h.counted_kwh) for h in duty.hours] == [(1.0, 30.0), (1.0, 30.0)]
    assert duty.year == 2027
    assert duty.year_run_h == pytest.approx(1.25)  # the quarter up to midnight is seen at midnight


# --- exercise runs, balancing -----------------------------------------------------------------------------


def exercising(idle_h: float, price: Any, **changes: Any) -> Pose:
    """20 kW beside a grid cheaper than 0.3; an hour at 40 kW or more every 100 h, which needs export."""
    pose = tied([20.0] * 4, BURN, import_per_kwh=price, **changes)
    unit = replace(
        pose.site.gensets[0], low_load=None, exercise=Exercise(every_h=100.0, for_h=1.0, load_ratio=0.4)
    )
    grid = replace(pose.site.grid, p_export_kw_max=100.0)
    ran = GensetDuty(exercised_at=T0 - timedelta(hours=idle_h))
    now = {"gen1": {"duty": ran}}
    return replace(pose, site=replace(pose.site, gensets=(unit,), grid=grid), gensets_now=now)


def test_exercise_is_made_where_it_is_cheapest_before_it_is_due():
    """Due after three and a half hours: 40 kW at 0.3 in the dearest, 20 spare 0.25, 20 are given away."""
    plan = exercising(96.5, (0.1, 0.2, 0.25, 0.1)).plan()
    assert plan.genset_p_kw["gen1"] == pytest.approx((0.0, 0.0, 40.0, 0.0))
    assert plan.cost_terms["exercise_late"] == 0.0
    assert any(n.startswith("gen1: exercise run from 02 02:00") for n in plan.notes)


def test_exercise_that_is_not_due_within_the_plan_is_not_made():
    assert sum(exercising(90.0, 0.1).plan().genset_on["gen1"]) == 0


@pytest.mark.parametrize(("idle_h", "late_h"), [(99.0, 0.0), (100.0, 1.0), (400.0, 1.0)])
def test_exercise_that_is_late_is_made_at_once(idle_h: float, late_h: float):
    """A day late costs 0.5 x 100 kW: it begins now even where a later hour would be 1 cheaper."""
    plan = exercising(idle_h, (0.1, 0.15, 0.1, 0.1)).plan()
    assert plan.genset_on["gen1"][0] == 1
    assert plan.cost_terms["exercise_late"] == pytest.approx(50.0 * late_h / 24.0)


def test_exercise_that_cannot_be_made_is_said():
    pose = exercising(100.0, 0.1)
    stopped = Maintenance(asset="gen1", start=T0, end=T0 + timedelta(hours=9))
    plan = replace(pose, site=replace(pose.site, maintenance=(stopped,))).plan()
    assert plan.cost_terms["exercise_late"] == pytest.approx(50.0 * (4.0 / 24.0 + 1.0))
    assert "gen1: its exercise run of 60 min is due and is not planned" in plan.notes


def test_replay_refuses_a_plan_that_does_not_pay_for_a_late_exercise():
    pose = exercising(400.0, 0.1)
    plan, p = pose.plan(), planning_problem(pose.site, pose.condition(), pose.forecast(), EXACT)
    assert validate(plan, p).ok
    cheaper = replace(plan, cost_terms={**plan.cost_terms, "exercise_late": 0.0})
    assert [f.split(":")[0] for f in validate(cheaper, p).faults] == ["exercise_late"]


@pytest.mark.parametrize(("hours", "runs"), [((500.0, 100.0), "gen2"), ((100.0, 500.0), "gen1")])
def test_balancing_runs_the_set_with_fewer_hours(hours: tuple[float, float], runs: str):
    """200 h ahead of the mean at 0.5 per 100 h: an hour of that set is 1 dearer."""
    units = [small_genset(g, balance_per_h=0.5) for g in ("gen1", "gen2")]
    site = small_site(gensets=units, feeders=[feeder("load", 10.0)], diesel_per_l=0.3)
    now = {g: {"duty": GensetDuty(run_h=h)} for g, h in zip(("gen1", "gen2"), hours, strict=True)}
    pose = Pose(site=site, load_kw={"load": 50.0}, mode=GridMode.ISLANDED, gensets_now=now)
    plan = pose.plan()
    assert list(plan.genset_on[runs]) == [1, 1, 1, 1]
    assert plan.cost_terms["balancing"] == 0.0
    forced = replace(pose, load_kw={"load": 150.0}).plan()
    assert forced.cost_terms["balancing"] == pytest.approx(4.0)


def test_edge_sees_exercise_runs_and_takes_the_counter_of_the_set():
    unit = small_genset(exercise=Exercise(every_h=100.0, for_h=0.5, load_ratio=0.4), balance_per_h=0.5)
    duties = duties_after({"gen1": unit}, {}, {"gen1": None}, T0, 0.0)
    assert duties["gen1"].exercised_at == T0  # first seen
    for minutes, kw in ((30, 35.0), (50, 45.0), (60, 35.0), (80, 45.0)):
        at = T0 + timedelta(days=3, minutes=minutes)
        duties = duties_after({"gen1": unit}, duties, {"gen1": kw}, at, 1200.0)
    assert duties["gen1"].exercised_at == T0  # twice 20 min are no half an hour
    at = T0 + timedelta(days=3, minutes=90)
    duties = duties_after({"gen1": unit}, duties, {"gen1": 45.0}, at, 600.0, {"gen1": 1234.5})
    assert duties["gen1"].exercised_at == T0 + timedelta(days=3, hours=1)
    assert duties["gen1"].run_h == 1234.5
