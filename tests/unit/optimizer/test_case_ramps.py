"""Ramps, edges of runs, kinds of start and reserve on capacity in cases: by hand and by brute force."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from ems.errors import BadValue
from optimizer import Case, CostPoints, Load, QuadraticCost, Unit, solve_case
from optimizer.case_problem import case_problem, formulation
from optimizer.extract import Identity, extract
from optimizer.options import PlannerOptions
from optimizer.rolling import Planner
from optimizer.validate import validate

CHEAP, DEAR = CostPoints(kw=(0.0, 100.0), per_h=(0.0, 10.0)), CostPoints(kw=(0.0, 100.0), per_h=(0.0, 50.0))


def slow(**changes: Any) -> Unit:
    """Cheap, 10..100 kW, on at 20 kW for long, 30 kW an hour both ways."""
    values: dict[str, Any] = {
        "id": "slow", "p_min_kw": 10.0, "p_max_kw": 100.0,
        "cost": CostPoints(kw=(10.0, 100.0), per_h=(1.0, 10.0)),
        "state_h": 9.0, "output_kw": 20.0, "ramp_up_kw_h": 30.0, "ramp_down_kw_h": 30.0,
    }  # fmt: skip
    return Unit(**(values | changes))


QUICK = Unit(id="quick", p_min_kw=0.0, p_max_kw=100.0, cost=DEAR)


def case(load: list[float], *units: Unit, **changes: Any) -> Case:
    return Case(steps=len(load), units=units, loads=(Load(kw=load),), **changes)


def test_ramp_up_is_kept_and_the_rest_comes_from_elsewhere():
    done = solve_case(case([90.0] * 4, slow(), QUICK))
    assert done.output_kw["slow"] == pytest.approx((50.0, 80.0, 90.0, 90.0))
    assert done.objective == pytest.approx(0.1 * 310.0 + 0.5 * 50.0)
    assert done.faults == ()


def test_ramp_down_begins_before_the_load_falls():
    """From 90 kW to 20 in the fourth hour: at 30 an hour it comes down from 90 to 80 and 50."""
    done = solve_case(case([90.0, 90.0, 90.0, 20.0], slow(output_kw=90.0, must_run=True), QUICK))
    assert done.output_kw["slow"] == pytest.approx((90.0, 80.0, 50.0, 20.0))


def test_ramp_goes_by_the_time_between_the_middles_of_steps():
    """Quarters of an hour, then an hour: 7.5 kW from quarter to quarter, 18.75 kW over the edge."""
    done = solve_case(case([90.0] * 4, slow(must_run=True), QUICK, step_h=(0.25, 0.25, 1.0, 1.0)))
    assert done.output_kw["slow"] == pytest.approx((27.5, 35.0, 53.75, 83.75))


def test_first_and_last_step_of_a_run_are_limited():
    """Starts at 25 at most, and may stop from 35 at most; the hour before the last is 35 + 30."""
    unit = slow(state_h=-9.0, output_kw=None, start_up_kw=25.0, shut_down_kw=35.0, available=(1, 1, 1, 1, 0))
    done = solve_case(case([90.0] * 5, unit, QUICK))
    assert done.output_kw["slow"] == pytest.approx((25.0, 55.0, 65.0, 35.0, 0.0))
    assert done.faults == ()


def test_run_of_a_single_step_keeps_both_limits():
    unit = slow(state_h=-9.0, output_kw=None, start_up_kw=40.0, shut_down_kw=30.0, available=(0, 1, 0))
    done = solve_case(case([90.0] * 3, unit, QUICK))
    assert done.output_kw["slow"] == pytest.approx((0.0, 30.0, 0.0))


def test_unit_that_gives_too_much_to_stop_at_once_goes_on():
    """At 90 kW, stops from 30 at most: it must come down for two hours although nobody wants it."""
    unit = slow(output_kw=90.0, shut_down_kw=30.0, cost=CostPoints(kw=(10.0, 100.0), per_h=(90.0, 900.0)))
    done = solve_case(case([60.0] * 4, unit, QUICK))
    assert done.on["slow"] == (1, 1, 0, 0)
    assert done.output_kw["slow"][:2] == pytest.approx((60.0, 30.0))


def test_reserve_on_capacity_in_kw_keeps_a_second_unit_on():
    """50 kW and 60 of reserve: one unit of 100 is 10 short of it."""
    one = Unit(id="one", p_min_kw=10.0, p_max_kw=100.0, cost=QuadraticCost(a_per_h=1.0, b_per_kwh=0.1))
    two = replace(one, id="two", cost=QuadraticCost(a_per_h=5.0, b_per_kwh=0.2))
    assert solve_case(case([50.0, 50.0], one, two, reserve_kw=(50.0, 60.0))).on["two"] == (0, 1)
    short = solve_case(case([50.0], one, reserve_kw=60.0, short_per_kwh=2.0))
    assert short.cost_terms["reserve_short"] == pytest.approx(20.0)


@pytest.mark.parametrize(
    "limits", [{"min_up_h": 4.0}, {"min_up_h": 4.0, "ramp_up_kw_h": 70.0, "ramp_down_kw_h": 70.0}]
)
def test_equal_units_with_ramps_relieve_each_other(limits: dict[str, Any]):
    """One is wanted, two, one again: the second comes for its four hours, and the first goes before it.

    No unit that is always on beside the other does it: it would run on two hours at 60 kW for 40.
    """
    fuel = QuadraticCost(b_per_kwh=0.3)
    one = Unit(id="one", p_min_kw=30.0, p_max_kw=100.0, cost=fuel, start_up_kw=100.0, **limits)
    done = solve_case(case([40.0, 40.0, 150.0, 150.0, 40.0, 40.0], one, replace(one, id="two")))
    assert done.objective == pytest.approx(0.3 * 460.0)
    assert sorted(done.on.values()) == [(0, 0, 1, 1, 1, 1), (1, 1, 1, 1, 0, 0)]
    assert done.faults == ()


THREE = ((2.0, 5.0), (4.0, 9.0), (None, 20.0))
COOLING = Unit(id="u", p_min_kw=0.0, p_max_kw=100.0, cost=CHEAP, start_costs=THREE)


@pytest.mark.parametrize(("rest_h", "cost"), [(1, 5.0), (2, 5.0), (3, 9.0), (4, 9.0), (5, 20.0)])
def test_start_costs_by_the_length_of_the_rest_within_the_plan(rest_h: int, cost: float):
    """On, off for some hours in which it is not there, and on again."""
    there = (True, *[False] * rest_h, True)
    unit = Unit(
        id="u", p_min_kw=0.0, p_max_kw=100.0, cost=CHEAP, state_h=5.0, start_costs=THREE, available=there
    )
    done = solve_case(case([50.0, *[0.0] * rest_h, 50.0], unit))
    assert done.cost_terms["start"] == pytest.approx(cost)


@pytest.mark.parametrize(("off_h", "cost"), [(1, 5.0), (2, 9.0), (3, 9.0), (4, 20.0), (100, 20.0)])
def test_start_costs_by_a_rest_that_began_before_the_plan(off_h: int, cost: float):
    """Not there in the first hour."""
    unit = replace(COOLING, state_h=-off_h, available=(False, True))
    assert solve_case(case([0.0, 50.0], unit)).cost_terms["start"] == pytest.approx(cost)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ramp_up_kw_h", 0.0),
        ("ramp_down_kw_h", float("nan")),
        ("start_up_kw", 9.0),
        ("shut_down_kw", 101.0),
        ("output_kw", 5.0),
        ("start_costs", ((2.0, 5.0), (4.0, 9.0))),
        ("start_costs", ((2.0, 5.0), (None, 4.0))),
        ("start_costs", ((4.0, 5.0), (2.0, 6.0), (None, 7.0))),
    ],
)
def test_bad_value_is_refused_by_its_key(key: str, value: Any):
    with pytest.raises(BadValue, match=f"unit slow: {key}: found .*; allowed: "):
        slow(**{key: value})


@pytest.mark.parametrize("shift", [(1, 5.0), (2, -5.0)])
def test_replay_refuses_what_no_ramp_allows(shift: tuple[int, float]):
    posed = case([90.0, 90.0, 90.0, 20.0], slow(output_kw=90.0, must_run=True), QUICK)
    p = case_problem(posed)
    options = PlannerOptions(gap_ratio=0.0, node_limit=None, formulation=formulation(posed))
    compiled, p, n, outcome = Planner(p.site, options).rounds(p, None, 0.0)
    assert outcome.x is not None

    plan, _ = extract(compiled, p, n, outcome, Identity(seq=0, valid_h=1.0))
    assert validate(plan, p).ok
    t, kw = shift
    power = {u: list(x) for u, x in plan.genset_p_kw.items()}
    power["slow"][t], power["quick"][t] = power["slow"][t] + kw, power["quick"][t] - kw
    moved = replace(plan, genset_p_kw={u: tuple(x) for u, x in power.items()})
    assert "ramp" in {f.split(":")[0] for f in validate(moved, p).faults}


# --- every commitment enumerated --------------------------------------------------------------------------

STEPS = 4


def random_units(rng: np.random.Generator) -> list[Unit]:
    units = []
    for k in range(2):
        low, top = float(rng.integers(10, 30)), float(rng.integers(70, 120))
        on = bool(rng.random() < 0.5)
        units.append(
            Unit(
                id=f"u{k}", p_min_kw=low, p_max_kw=top,
                cost=CostPoints(kw=(low, top), per_h=(float(rng.uniform(1, 5)), float(rng.uniform(8, 40)))),
                state_h=float(rng.integers(1, 5)) * (1 if on else -1),
                output_kw=float(rng.uniform(low, top)) if on else None,
                min_up_h=float(rng.integers(1, 3)),
                start_costs=((2.0, 1.0), (3.0, 4.0), (None, float(rng.uniform(5, 9)))),
                ramp_up_kw_h=float(rng.uniform(10, 60)), ramp_down_kw_h=float(rng.uniform(10, 60)),
                start_up_kw=float(rng.uniform(low, top)), shut_down_kw=float(rng.uniform(low, top)),
            )
        )  # fmt: skip
    return units


def commitment_cost(units: list[Unit], on: np.ndarray, load: np.ndarray, reserve: np.ndarray) -> float:
    """Starts by hand, dispatch by another LP with ramps between outputs; infinite where impossible."""
    cost, bounds, c = 0.0, [], []
    a_ub, b_ub = [], []
    column = {(g, t): g * STEPS + t for g in range(len(units)) for t in range(STEPS)}
    width = len(column) + STEPS  # and what is not served

    def row(parts: dict[int, float], most: float) -> None:
        line = np.zeros(width)
        for j, x in parts.items():
            line[j] += x
        a_ub.append(line)
        b_ub.append(most)

    for g, u in enumerate(units):
        slope = (u.cost.per_h[1] - u.cost.per_h[0]) / (u.cost.kw[1] - u.cost.kw[0])  # type: ignore[union-attr]
        state, age = u.state_h > 0.0, abs(u.state_h)
        for t in range(STEPS):
            now = bool(on[g, t])
            if now and not state:
                cost += next(x for until, x in u.start_costs if until is None or age <= until)
            if state and not now and age < u.min_up_h:
                return np.inf
            before = column.get((g, t - 1))
            was = (u.output_kw or 0.0) if t == 0 else 0.0
            here = {column[g, t]: 1.0}
            back = {} if before is None else {before: 1.0}
            if state and now:
                row(here | {j: -x for j, x in back.items()}, float(u.ramp_up_kw_h or 0.0) + was)
                row({column[g, t]: -1.0} | back, float(u.ramp_down_kw_h or 0.0) - was)
            elif now:
                row(here, float(u.start_up_kw or 0.0))
            elif state:
                row(back, float(u.shut_down_kw or 0.0) - was)
            bounds.append((u.p_min_kw, u.p_max_kw) if now else (0.0, 0.0))
            c.append(slope if now else 0.0)
            cost += (u.cost.per_h[0] - slope * u.p_min_kw) * now  # type: ignore[union-attr]
            age = age + 1.0 if now == state else 1.0
            state = now
    rated = np.array([u.p_max_kw for u in units]) @ on
    cost += 3.0 * float(np.maximum(0.0, load + reserve - rated).sum())
    a_eq = np.zeros((STEPS, width))
    for t in range(STEPS):
        a_eq[t, [column[g, t] for g in range(len(units))]] = 1.0
        a_eq[t, len(column) + t] = 1.0
    bounds += [(0.0, kw) for kw in load]
    done = linprog(
        [*c, *[10.0] * STEPS], np.array(a_ub).reshape(-1, width), b_ub, a_eq, load, bounds, method="highs"
    )
    return cost + float(done.fun) if done.status == 0 else np.inf


@pytest.mark.parametrize("seed", range(6))
def test_case_costs_what_the_best_enumerated_commitment_costs(seed: int):
    rng = np.random.default_rng(seed)
    units, load = random_units(rng), rng.uniform(60.0, 160.0, STEPS)
    reserve = rng.uniform(0.0, 40.0, STEPS)
    posed = Case(
        steps=STEPS, units=tuple(units), loads=(Load(kw=load.tolist(), voll_per_kwh=10.0),),
        reserve_kw=reserve.tolist(), short_per_kwh=3.0,
    )  # fmt: skip
    best = min(
        commitment_cost(units, np.array(bits).reshape(2, STEPS), load, reserve)
        for bits in product((0, 1), repeat=2 * STEPS)
    )
    done = solve_case(posed)
    assert done.faults == ()
    assert done.objective == pytest.approx(best, abs=1e-6), f"seed {seed}"
