"""Cases posed in Python: what is refused, by which words."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ems.errors import BadValue
from optimizer import (
    Case,
    CostPoints,
    EnergyLimit,
    Grid,
    Load,
    QuadraticCost,
    Reserve,
    Storage,
    solve_case,
)
from tests.unit.optimizer.test_cases import solved, unit


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: unit(low=50.0, high=40.0), ("unit g1: p_max_kw", "40.0", "at least p_min_kw = 50")),
        (lambda: unit(state_h=0.0), ("unit g1: state_h", "hours on (above 0) or off (below 0)")),
        (lambda: unit(start_cost=float("nan")), ("unit g1: start_cost", "nan")),
        (lambda: unit(start_cost=5.0, cold_start_cost=4.0), ("unit g1: cold_start_cost", "4.0", "5 to")),
        (lambda: QuadraticCost(c_per_kw2h=-1.0), ("quadratic cost: c_per_kw2h", "-1.0")),
        (lambda: CostPoints(kw=(1.0, 1.0), per_h=(1.0, 2.0)), ("cost points: kw", "ascending")),
        (lambda: Storage(id="b", energy_kwh=0.0, p_charge_kw=1.0, p_discharge_kw=1.0), ("energy_kwh", "0.0")),
        (lambda: Grid(import_kw_max=-1.0), ("grid: import_kw_max", "-1.0")),
        (lambda: Grid(blocks=((5.0, 0.1), (3.0, 0.2))), ("grid: blocks", "the last one None")),
        (lambda: Grid(blocks=((5.0, 0.1), (3.0, 0.2), (None, 0.3))), ("grid: blocks", "ascend")),
        (lambda: Grid(blocks=((None, float("nan")),)), ("grid: blocks[0]", "nan")),
        (lambda: Case(steps=0), ("case: steps", "0")),
        (lambda: Case(steps=1, grid=Grid(), n_minus_1=True), ("case: n_minus_1", "islands")),
        (
            lambda: solve_case(Case(steps=2, units=(unit(available=(True,)),))),
            ("g1: available", "shape (1,)", "2"),
        ),
        (
            lambda: solve_case(Case(steps=2, units=(unit(available=False, must_run=(False, True)),))),
            ("unit g1: must_run[1]", "not on and off at once"),
        ),
        (
            lambda: solve_case(
                Case(steps=2, units=(unit(state_h=1.0, min_up_h=3.0, available=(True, False)),))
            ),
            ("unit g1: available[1]", "min_up_h"),
        ),
        (lambda: Case(steps=1, units=(unit(), unit())), ("case: id", "'g1'", "each id once")),
        (lambda: solve_case(Case(steps=2, loads=(Load(kw=(1.0,)),))), ("load load: kw", "shape (1,)", "2")),
        (lambda: solve_case(Case(steps=1, loads=(Load(kw=float("nan")),))), ("load load: kw[0]", "nan")),
        (
            lambda: solve_case(Case(steps=1, grid=Grid(import_per_kwh=float("inf")))),
            ("grid.import_per_kwh[0]", "inf"),
        ),
        (
            lambda: solve_case(
                Case(steps=1, units=(unit(cost=CostPoints(kw=(40.0, 100.0), per_h=(1.0, 2.0))),))
            ),
            ("cost points: kw", "points from 30 to 100 kW"),
        ),
    ],
)
def test_bad_values_are_refused_by_name(make: Callable[[], object], words: tuple[str, ...]):
    with pytest.raises(BadValue) as bad:
        make()
    for word in words:
        assert word in str(bad.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("gap_ratio", -0.1), ("gap_ratio", float("nan")), ("time_limit_s", 0.0), ("threads", 0)],
)
def test_options_of_a_solve_are_refused_by_name(key: str, value: float):
    options: Any = {key: value}
    with pytest.raises(BadValue, match=f"solve_case: {key}: found {value}; allowed"):
        solve_case(Case(steps=1), **options)


def test_everything_that_is_wrong_is_told_at_once():
    """With an element, and then with a case of elements that are each right."""
    with pytest.raises(BadValue) as bad:
        unit(high=-1.0, state_h=0.0, min_up_h=float("nan"), start_cost=-2.0, ramp_up_kw_h=0.0)
    keys = ("p_max_kw", "state_h", "min_up_h", "start_cost", "ramp_up_kw_h")
    assert all(f"unit g1: {key}: found" in str(bad.value) for key in keys), str(bad.value)
    store = Storage(id="b", energy_kwh=9.0, p_charge_kw=(1.0, 2.0), p_discharge_kw=1.0)
    limit = EnergyLimit(id="e", of={"nobody": 1.0}, most=5.0)
    case = Case(
        steps=3, units=(unit(available=(True,), output_max_kw=(1.0, 2.0)),), storages=(store,),
        loads=(Load(kw=(1.0, float("nan"), 2.0)),), energy_limits=(limit,),
    )  # fmt: skip
    with pytest.raises(BadValue) as bad:
        solve_case(case)
    told = str(bad.value).splitlines()
    assert len(told) == 4
    words = ("load load: kw[1]", "b: p_charge_kw", "output_max_kw", "g1: available")
    for line, word in zip(told, words, strict=True):
        assert word in line
    with pytest.raises(
        BadValue, match=r"energy limit e: ids: found \['nobody'\]; allowed: ids of the case: b"
    ):
        solve_case(Case(steps=3, storages=(replace(store, p_charge_kw=1.0),), energy_limits=(limit,)))


def test_must_run_in_a_rest_that_lasts_is_refused():
    machine = unit(state_h=-1.0, min_down_h=3.0, must_run=(False, True, True))
    with pytest.raises(BadValue, match=r"unit g1: must_run\[1\]: found True; allowed: .*min_down_h"):
        solve_case(Case(steps=3, units=(machine,), loads=(Load(kw=50.0),)))


def test_cost_points_below_nothing_are_refused():
    with pytest.raises(BadValue, match=r"cost points: per_h: found \(-5.0, 20.0\); allowed: 0 or more"):
        CostPoints(kw=(10.0, 100.0), per_h=(-5.0, 20.0))


def test_lists_and_arrays_are_taken_as_tuples():
    machine = unit(start_costs=[(2.0, 5.0), [None, 9.0]], must_run=np.True_)
    listed = Case(steps=2, units=[machine], loads=[Load(kw=[50.0, 60.0])])  # type: ignore[arg-type]
    tupled = unit(start_costs=((2.0, 5.0), (None, 9.0)), must_run=True)
    assert listed.units == (tupled,)
    assert solved(listed).objective == pytest.approx(0.3 * 110.0 + 9.0)


@pytest.mark.parametrize(
    ("key", "pose"),
    [
        ("case: units", lambda: Case(steps=2, units=unit())),  # type: ignore[arg-type]
        ("case: loads", lambda: Case(steps=2, loads=Load(kw=50.0))),  # type: ignore[arg-type]
        ("case: steps", lambda: Case(steps=2.5)),  # type: ignore[arg-type]
        ("quadratic cost: segments", lambda: QuadraticCost(segments=2.5)),  # type: ignore[arg-type]
        ("unit g1: min_up_h", lambda: unit(min_up_h="3")),
        ("unit g1: cost", lambda: unit(cost=(1.0, 2.0))),
        ("unit g1: start_lags", lambda: unit(start_lags=((1.0, 2.0, 3.0),))),
        ("unit g1: available", lambda: unit(available=(1.0, float("nan")))),
        ("reserve r: responders", lambda: Reserve(id="r", responders=("g1",))),  # type: ignore[arg-type]
        ("energy limit e: of", lambda: EnergyLimit(id="e", of=("g1",), most=1.0)),  # type: ignore[arg-type]
        (
            "case: running_ratio, reserve_kw",
            lambda: solve_case(Case(steps=1, grid=Grid(), loads=(Load(kw=1.0),), running_ratio=1.1)),
        ),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_its_key(key: str, pose: Callable[[], object]):
    with pytest.raises(BadValue, match=f"^{key}: found .*; allowed: "):
        pose()
