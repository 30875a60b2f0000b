"""The three units of a textbook: economic dispatch, and which of them to run.

Wood, Wollenberg and Sheble, Power Generation, Operation and Control, 3rd ed., Wiley 2013: units of 150 to
600, 100 to 400 and 50 to 200 MW with 561 + 7.92 P + 0.001562 P^2, 310 + 7.85 P + 0.00194 P^2 and
78 + 7.97 P + 0.00482 P^2 an hour. The economic dispatch of 850 MW has 393.2, 334.6 and 122.2 MW at 8,194.36
an hour. The unit commitment of 550 MW, fuel of the third at 1.2, has unit 1 alone, at 5,389, of all
combinations.
"""

from dataclasses import replace
from itertools import product

import pytest

from optimizer import Case, Load, QuadraticCost, Solution, Unit, solve_case

TABLE = (
    (150.0, 600.0, 561.0, 7.92, 0.001562),
    (100.0, 400.0, 310.0, 7.85, 0.00194),
    (50.0, 200.0, 78.0, 7.97, 0.00482),
)


def units(segments: int) -> tuple[Unit, ...]:
    """Of the unit commitment."""
    return dispatched(segments, 1.2)


def dispatched(segments: int, third: float = 1.0) -> tuple[Unit, ...]:
    """With a factor on the fuel of the third."""
    factors = (1.0, 1.0, third)
    return tuple(
        Unit(
            id=f"{k + 1}",
            p_min_kw=low,
            p_max_kw=top,
            cost=QuadraticCost(a_per_h=f * a, b_per_kwh=f * b, c_per_kw2h=f * c, segments=segments),
        )
        for k, ((low, top, a, b, c), f) in enumerate(zip(TABLE, factors, strict=True))
    )


def solved(case: Case) -> Solution:
    out = solve_case(case)
    assert out.status == "optimal", out.conflict
    assert not out.faults
    return out


def lambda_dispatch(load: float, on: tuple[bool, ...]) -> float | None:
    """Cost at equal incremental cost, by halving; None where the units that are on cannot give the load."""
    third = tuple(x * (1.2 if k > 1 else 1.0) for k, x in enumerate(TABLE[2]))
    run = [row for row, is_on in zip((*TABLE[:2], third), on, strict=True) if is_on]
    if not sum(r[0] for r in run) <= load <= sum(r[1] for r in run):
        return None
    low, high, out = 0.0, 20.0, [0.0] * len(run)
    for _ in range(200):
        mid = 0.5 * (low + high)
        out = [min(max((mid - b) / (2 * c), p_min), p_max) for p_min, p_max, _, b, c in run]
        low, high = (mid, high) if sum(out) < load else (low, mid)
    return sum(a + b * p + c * p * p for p, (_, _, a, b, c) in zip(out, run, strict=True))


def test_economic_dispatch_of_the_textbook():
    every = tuple(replace(u, must_run=True) for u in dispatched(200))
    out = solved(Case(steps=1, units=every, loads=(Load(kw=850.0),), hard=True))
    assert out.exact_cost == pytest.approx(8194.36, abs=0.01)
    assert [out.output_kw[i][0] for i in "123"] == pytest.approx([393.2, 334.6, 122.2], abs=2.0)
    assert out.exact_bound is not None
    assert out.objective is not None
    assert out.exact_bound <= 8194.3562 <= out.objective + 1e-3


def test_the_best_of_all_combinations_is_unit_one_alone():
    out = solved(Case(steps=1, units=units(50), loads=(Load(kw=550.0),), hard=True))
    assert [out.on[i][0] for i in "123"] == [1, 0, 0]
    assert out.exact_cost == pytest.approx(5389.0, abs=1.0)


@pytest.mark.parametrize("on", [x for x in product((True, False), repeat=3) if any(x)])
def test_each_combination_costs_what_equal_incremental_cost_says(on: tuple[bool, ...]):
    """A given commitment: `must_run` and `available` say who is on."""
    given = tuple(replace(u, must_run=x, available=x) for u, x in zip(units(100), on, strict=True))
    told = lambda_dispatch(550.0, on)
    out = solve_case(Case(steps=1, units=given, loads=(Load(kw=550.0),), hard=True))
    if told is None:
        assert out.status == "infeasible"
        assert "possible without all of load load served" in out.conflict
    else:
        assert out.exact_bound is not None
        assert out.exact_cost == pytest.approx(told, rel=1e-5)
        assert out.exact_bound <= told + 1e-6
