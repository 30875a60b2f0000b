"""What only a case may ask for: by hand, and all of it together by a second program (case_oracle.py)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer import (
    Case,
    CostPoints,
    EnergyLimit,
    Grid,
    Load,
    QuadraticCost,
    Renewable,
    Reserve,
    Responder,
    Solution,
    Storage,
    Unit,
    solve_case,
)
from optimizer.build import build
from optimizer.case_conflict import LIMIT_S, conflict
from optimizer.case_problem import case_problem, formulation
from optimizer.compiled import Compiled
from optimizer.reference import PyomoModel
from optimizer.solve import Effort, Session
from optimizer.structure import structure_of
from tests.unit.optimizer.case_oracle import best_cost
from tests.unit.optimizer.test_compiled import EXACT, rows_of, through_lp_file


def unit(unit_id: str = "g", low: float = 20.0, high: float = 100.0, **changes: Any) -> Unit:
    values: dict[str, Any] = {"cost": QuadraticCost(b_per_kwh=0.3)}
    return Unit(id=unit_id, p_min_kw=low, p_max_kw=high, **(values | changes))


def solved(case: Case) -> Solution:
    """Proven, and replayed without a fault."""
    out = solve_case(case)
    assert out.status == "optimal", (out.status, out.conflict)
    assert not out.faults
    return out


def island(load: list[float], *units: Unit, **changes: Any) -> Case:
    return Case(steps=len(load), units=units, loads=(Load(kw=load),), **changes)


DEAR = unit("dear", 0.0, 500.0, cost=QuadraticCost(b_per_kwh=1.0))


# --- ways up and down ---------------------------------------------------------------------------------------


def test_a_unit_gives_its_path_before_and_after_a_run():
    """10 and 15 on the way up, 20 to 100 while on, 12 on the way down; off in all of these."""
    slow = unit(start_up_path_kw=(10.0, 15.0), shut_down_path_kw=(12.0,), available=(1, 1, 1, 1, 0, 0))
    out = solved(island([50.0] * 6, slow, DEAR))
    assert out.on["g"] == (0, 0, 1, 1, 0, 0)
    assert out.output_kw["g"] == pytest.approx((10.0, 15.0, 50.0, 50.0, 12.0, 0.0))
    assert out.objective == pytest.approx(0.3 * 100.0 + 1.0 * (40 + 35 + 38 + 50))


def test_energy_on_the_way_has_its_price():
    slow = unit(start_up_path_kw=(10.0,), path_per_kwh=2.0, available=(0, 1))
    out = solved(island([50.0, 50.0], slow, DEAR))
    assert out.on["g"] == (0, 1)
    assert out.cost_terms["ride"] == pytest.approx(20.0)
    assert out.objective == pytest.approx(20.0 + 40.0 + 15.0)


@pytest.mark.parametrize(("off_h", "path"), [(1, (8.0,)), (2, (8.0,)), (4, (4.0, 6.0))])
def test_the_way_up_is_that_of_the_kind_of_start(off_h: int, path: tuple[float, ...]):
    """Off for so long before; after a rest of four hours or more it is cold and takes two steps."""
    lags = ((1.0, 1.0), (4.0, 9.0))
    slow = unit(state_h=-off_h, start_lags=lags, start_up_path_kw=((8.0,), (4.0, 6.0)))
    out = solved(island([50.0] * 4, slow, DEAR))
    assert out.output_kw["g"][: len(path)] == pytest.approx(path)
    assert out.on["g"][len(path)] == 1
    assert out.cost_terms["start"] == pytest.approx(1.0 if len(path) == 1 else 9.0)


def test_a_stop_before_the_case_goes_on_its_way_down():
    """Stopped an hour ago: the second and third step of its way are still to come, wanted or not."""
    gone = unit(state_h=-1.0, shut_down_path_kw=(18.0, 12.0, 6.0), min_down_h=9.0)
    out = solved(island([50.0] * 3, gone, DEAR))
    assert out.output_kw["g"] == pytest.approx((12.0, 6.0, 0.0))


# --- cost that is not convex --------------------------------------------------------------------------------


def test_cost_that_is_not_convex_fills_its_pieces_in_order():
    """The dear first piece cannot be left out for the cheap second; 30 kW would cost 3 otherwise, not 26."""
    bend = unit(low=0.0, cost=CostPoints(kw=(0.0, 20.0, 100.0), per_h=(5.0, 25.0, 33.0)))
    out = solved(island([30.0], bend))
    assert out.objective == pytest.approx(26.0)
    assert out.cost_terms == pytest.approx({"fuel": 26.0})
    assert out.exact_cost == pytest.approx(26.0)


def test_cost_that_falls_with_output_is_taken_as_it_is():
    """40 at minimum, 10 at 100 kW: it runs as high as export lets it."""
    bend = unit(cost=CostPoints(kw=(20.0, 100.0), per_h=(40.0, 10.0)))
    grid = Grid(import_per_kwh=0.9, export_kw_max=50.0)
    out = solved(Case(steps=1, units=(bend,), grid=grid, loads=(Load(kw=40.0),)))
    assert out.output_kw["g"] == pytest.approx((90.0,))
    assert out.objective == pytest.approx(13.75)


def test_a_unit_that_costs_nothing_is_posed():
    out = solved(island([30.0], unit(cost=QuadraticCost())))
    assert out.objective == pytest.approx(0.0, abs=1e-9)
    assert out.output_kw["g"] == pytest.approx((30.0,))


# --- output by step -----------------------------------------------------------------------------------------


def test_output_is_fixed_or_limited_by_step_while_a_unit_is_on():
    fixed = unit(output_min_kw=(40.0, 20.0, 20.0), output_max_kw=(40.0, 100.0, 30.0), must_run=True)
    out = solved(island([60.0, 60.0, 60.0], fixed, DEAR))
    assert out.output_kw["g"] == pytest.approx((40.0, 60.0, 30.0))


def test_a_price_by_step_moves_energy_to_another_unit():
    taxed = unit(low=0.0, extra_per_kwh=(0.0, 2.0))
    out = solved(island([50.0, 50.0], taxed, DEAR))
    assert out.output_kw["g"] == pytest.approx((50.0, 0.0))


def test_a_renewable_has_a_least_and_a_price_by_step():
    wind = Renewable(id="wind", kw=50.0, min_kw=(0.0, 10.0), cost_per_kwh=2.0)
    out = solved(island([50.0, 50.0], DEAR, renewables=(wind,)))
    assert out.renewable_kw["wind"] == pytest.approx((0.0, 10.0))
    assert out.objective == pytest.approx(50.0 + 40.0 + 20.0)


# --- storages that are filled by themselves, or end as they begin -------------------------------------------


def test_a_storage_that_ends_as_it_begins_chooses_where():
    """The dear hour comes first: it begins with 9 kWh, and is charged again in the cheap one."""
    store = Storage(
        id="b", energy_kwh=9.0, p_charge_kw=10.0, p_discharge_kw=10.0, eta_charge=0.9, cyclic=True
    )
    out = solved(
        Case(steps=2, grid=Grid(import_per_kwh=(0.5, 0.1)), storages=(store,), loads=(Load(kw=20.0),))
    )
    assert out.storage_kw["b"] == pytest.approx((9.0, -10.0))
    assert out.soc_end["b"] == pytest.approx((0.0, 1.0))
    assert out.objective == pytest.approx(0.5 * 11.0 + 0.1 * 30.0)


def test_a_lake_without_pumps_is_filled_by_itself_and_spills():
    """8 kWh an hour into a lake of 10 with 2, at most 5 kW out: 26 come, 15 are used, 1 at least is spilt."""
    lake = Storage(
        id="lake", energy_kwh=10.0, p_charge_kw=0.0, p_discharge_kw=5.0, soc_start=0.2, inflow_kw=8.0
    )
    case = Case(steps=3, grid=Grid(import_per_kwh=(0.1, 0.2, 0.9)), storages=(lake,), loads=(Load(kw=20.0),))
    out = solved(case)
    assert out.storage_kw["lake"] == pytest.approx((5.0, 5.0, 5.0))
    assert sum(out.spilt_kw["lake"]) == pytest.approx(11.0 - 10.0 * out.soc_end["lake"][-1])
    assert out.objective == pytest.approx(15.0 * (0.1 + 0.2 + 0.9))


# --- reserves -----------------------------------------------------------------------------------------------


def test_reserve_is_held_by_unit_within_what_its_ramp_reaches():
    """Two units on at 50; 10 minutes at 60 kW an hour are 10 kW each, although 100 kW are free."""
    two = [unit(i, must_run=True, ramp_up_kw_h=60.0, state_h=5.0, output_kw=50.0) for i in ("g1", "g2")]
    spin = Reserve(id="spin", kw=25.0, within_h=1 / 6, short_per_kwh=7.0)
    out = solved(island([100.0], *two, reserves=(spin,)))
    assert [out.held_kw["spin"][i][0] for i in ("g1", "g2")] == pytest.approx([10.0, 10.0])
    assert out.reserve_short_kw["spin"] == pytest.approx((5.0,))
    assert out.notes[0].startswith("reserve spin short: up to 5.0 kW")
    assert out.objective == pytest.approx(30.0 + 35.0)


def test_units_that_are_off_hold_what_they_can_start():
    """Non-spinning from the unit that is off; quicker reserve counts for it as well."""
    spin = Reserve(id="spin", kw=10.0, responders=(Responder(id="g"),))
    slow = Reserve(
        id="slow", kw=60.0, counts=("spin",), responders=(Responder(id="dear", kw_max=0.0, offline_kw=40.0),)
    )
    out = solved(island([70.0], unit(), DEAR, reserves=(spin, slow)))
    assert out.on["dear"] == (0,)
    assert out.held_kw["slow"]["dear"] == pytest.approx((40.0,))
    assert out.held_kw["spin"]["g"][0] == pytest.approx(20.0)


def test_reserve_beside_a_grid_is_held_at_its_offer():
    """The grid has 30 kW left under its cap at 0.2 a kW; a storage holds the rest for 0.5 h at 0.1."""
    store = Storage(id="b", energy_kwh=10.0, p_charge_kw=20.0, p_discharge_kw=20.0, soc_start=0.5)
    spin = Reserve(
        id="spin", kw=30.0, hold_h=0.5,
        responders=(Responder(id="grid", per_kw_h=0.2), Responder(id="b", per_kw_h=0.1)),
    )  # fmt: skip
    grid = Grid(import_per_kwh=0.5, import_kw_max=50.0)
    out = solved(
        Case(
            steps=1,
            grid=grid,
            storages=(replace(store, soc_end_min=0.5),),
            loads=(Load(kw=20.0),),
            reserves=(spin,),
        )
    )
    assert out.held_kw["spin"]["b"] == pytest.approx((10.0,))  # 5 kWh
    assert out.held_kw["spin"]["grid"] == pytest.approx((20.0,))
    assert out.objective == pytest.approx(10.0 + 4.0 + 1.0)


@pytest.mark.parametrize(("down", "kw"), [(False, 5.0 / (0.5 * 1.5)), (True, 5.0 / (0.5 * 0.95))])
def test_reserve_of_a_storage_by_points_counts_its_steepest_stretch(down: bool, kw: float):
    """For 0.5 h from half of 10 kWh: a kWh may draw 1.5, the first 2 kW do, and store 0.95, the last do."""
    points = {"charge": ((2.0, 0.5), (20.0, 0.905)), "discharge": ((2.0, 2.0 / 3.0), (20.0, 20.0 / 21.9))}
    store = Storage(
        id="b", energy_kwh=10.0, p_charge_kw=20.0, p_discharge_kw=20.0, soc_start=0.5, soc_end_min=0.5,
        efficiency_charge=points["charge"], efficiency_discharge=points["discharge"],
    )  # fmt: skip
    held = Reserve(id="r", kw=30.0, hold_h=0.5, down=down, responders=(Responder(id="b"),), short_per_kwh=0.1)
    grid = Grid(import_per_kwh=0.5, import_kw_max=50.0)
    out = solved(Case(steps=1, grid=grid, storages=(store,), loads=(Load(kw=20.0),), reserves=(held,)))
    assert out.held_kw["r"]["b"] == pytest.approx((kw,))


def test_the_loss_of_the_largest_unit_is_covered_beside_a_grid():
    """A dear unit is on beside the cheap one, which comes down to what it can stand in for."""
    spin = Reserve(id="n-1", largest=True, short_per_kwh=50.0)
    two = (unit("g1"), unit("g2", 10.0, 40.0, cost=QuadraticCost(b_per_kwh=0.5)))
    grid = Grid(import_per_kwh=0.9, import_kw_max=60.0)
    out = solved(Case(steps=1, units=two, grid=grid, loads=(Load(kw=60.0),), reserves=(spin,)))
    assert out.output_kw["g1"][0] <= out.held_kw["n-1"]["g2"][0] + 1e-6
    assert out.objective == pytest.approx(0.3 * 30.0 + 0.5 * 10.0 + 0.9 * 20.0)


def test_reserve_downwards_keeps_a_unit_above_its_minimum():
    down = Reserve(id="down", kw=15.0, down=True)
    out = solved(
        island(
            [50.0],
            unit(must_run=True),
            unit("cheap", 0.0, 50.0, cost=QuadraticCost(b_per_kwh=0.1)),
            reserves=(replace(down, responders=(Responder(id="g"),)),),
        )
    )
    assert out.output_kw["g"] == pytest.approx((35.0,))


# --- energy over many steps ---------------------------------------------------------------------------------


def test_an_energy_limit_spends_water_where_it_is_worth_most():
    water = unit("water", 0.0, 100.0, cost=QuadraticCost())
    lake = EnergyLimit(id="lake", of={"water": 1.0}, most=60.0)
    out = solved(island([50.0, 80.0], water, replace(DEAR, extra_per_kwh=(0.0, 1.0)), energy_limits=(lake,)))
    assert out.output_kw["water"] == pytest.approx((0.0, 60.0))
    assert out.limit_sums["lake"] == pytest.approx(60.0)


def test_take_or_pay_is_taken_where_paying_costs_more():
    """At least 80 kWh of the unit at 0.3 beside a grid at 0.1: paid at 0.15 a kWh, taken at 0.5."""
    for price, taken in ((0.15, 0.0), (0.5, 80.0)):
        limit = EnergyLimit(id="gas", of={"g": 1.0}, least=80.0, short_cost=price)
        grid = Grid(import_per_kwh=0.1)
        out = solved(
            Case(steps=2, units=(unit(low=0.0),), grid=grid, loads=(Load(kw=50.0),), energy_limits=(limit,))
        )
        assert sum(out.output_kw["g"]) == pytest.approx(taken)
        assert out.cost_terms.get("energy_limits", 0.0) == pytest.approx(price * (80.0 - taken))


def test_an_import_budget_holds_over_its_steps_alone():
    budget = EnergyLimit(id="budget", of={"grid": 1.0}, steps=(True, True, False), most=30.0)
    grid = Grid(import_per_kwh=(0.3, 0.1, 0.2))
    out = solved(Case(steps=3, units=(DEAR,), grid=grid, loads=(Load(kw=25.0),), energy_limits=(budget,)))
    assert out.grid_kw == pytest.approx((5.0, 25.0, 25.0))


def test_fuel_and_starts_and_hours_are_limited():
    """Cost is fuel at 1: 20 of it in all; then one start and 3 hours on."""
    twice = island([40.0, 0.0, 40.0], unit(low=0.0, output_max_kw=(100.0, 0.0, 100.0)), DEAR)
    fuel = solved(replace(twice, energy_limits=(EnergyLimit(id="fuel", per_cost={"g": 1.0}, most=20.0),)))
    assert sum(fuel.output_kw["g"]) == pytest.approx(20.0 / 0.3)
    off = replace(twice.units[0], available=(True, False, True))
    starts = replace(
        twice, units=(off, DEAR), energy_limits=(EnergyLimit(id="n", per_start={"g": 1.0}, most=1.0),)
    )
    assert sum(solved(starts).on["g"]) == 1
    hours = replace(twice, energy_limits=(EnergyLimit(id="h", per_h={"g": 1.0}, most=1.0),))
    assert sum(solved(hours).on["g"]) == 1


# --- hard cases ---------------------------------------------------------------------------------------------


def test_a_hard_case_serves_its_load_or_is_infeasible_and_says_for_want_of_what():
    """Two hours of rest are left; the load of the first hour could be served without them."""
    resting = unit(min_down_h=3.0, state_h=-1.0)
    soft = solved(island([50.0, 50.0, 50.0], resting))
    assert sum(soft.unserved_kw["load"]) == pytest.approx(100.0)
    out = solve_case(island([50.0, 50.0, 50.0], resting, hard=True))
    assert out.status == "infeasible"
    assert out.objective is None
    assert out.conflict == (
        "possible without all of load load served",
        "possible without unit g: min_down_h",
    )


def test_each_question_why_a_case_is_infeasible_has_its_time(monkeypatch: pytest.MonkeyPatch):
    """Each had a hundredth of a second: the time since the machine was started was taken off its limit."""
    limits_s: list[float | None] = []
    real = Session.solve

    def noted(self: Session, filled: Any, effort: Effort, *args: Any) -> Any:
        limits_s.append(effort.time_limit_s)
        return real(self, filled, effort, *args)

    case = island([50.0, 50.0, 50.0], unit(min_down_h=3.0, state_h=-1.0), hard=True)
    monkeypatch.setattr(Session, "solve", noted)
    assert conflict(case)
    assert len(limits_s) >= 2
    assert all(limit_s is not None and limit_s > 0.5 * LIMIT_S for limit_s in limits_s)


def test_a_conflict_of_two_is_told_as_one():
    """100 kW cannot give 150, and neither can 20 kWh be had of a unit that may not run."""
    least = EnergyLimit(id="gas", of={"g": 1.0}, least=150.0)
    out = solve_case(island([100.0], unit(available=False), DEAR, hard=True, energy_limits=(least,)))
    assert out.conflict == ("possible without energy limit gas",)
    big = island(
        [50.0], unit(available=False), unit("h", min_down_h=5.0, state_h=-1.0, must_run=False), hard=True
    )
    both = replace(big, reserves=(Reserve(id="spin", kw=500.0),))
    told = solve_case(both).conflict
    assert told == ("possible only without all of: all of load load served; reserve spin",) or (
        "reserve spin" in told[0]
    )


def test_a_minimum_that_has_no_room_is_named():
    out = solve_case(island([5.0], unit(must_run=True), hard=True))
    assert out.conflict == ("possible without unit g: p_min_kw",)


def test_a_unit_may_cost_more_than_ten_million_in_all():
    """In cents, or a large plant over a year: no tank of fuel stands behind the money of a case."""
    big = unit(low=1e4, high=1e5, cost=QuadraticCost(b_per_kwh=30.0))
    out = solved(Case(steps=20, units=(big,), loads=(Load(kw=5e4),)))
    assert out.objective == pytest.approx(30.0 * 5e4 * 20)


def test_an_interruptible_load_is_left_at_its_price_in_a_hard_case():
    loads = (Load(id="firm", kw=60.0), Load(id="soft", kw=50.0, voll_per_kwh=0.5, interruptible=True))
    out = solved(Case(steps=1, units=(unit(),), loads=loads, hard=True))
    assert out.unserved_kw["soft"] == pytest.approx((10.0,))
    assert out.objective == pytest.approx(30.0 + 5.0)


def test_what_must_be_taken_is_taken_or_the_case_is_infeasible():
    water = Renewable(id="water", kw=60.0, must_take=True)
    case = island([50.0], unit(), renewables=(water,), hard=True)
    assert solve_case(case).conflict[-1] == "possible without renewable water: must_take"
    store = Storage(id="b", energy_kwh=20.0, p_charge_kw=10.0, p_discharge_kw=10.0)
    assert solved(replace(case, storages=(store,))).storage_kw["b"] == pytest.approx((-10.0,))


def test_a_bus_stands_without_anybody_who_forms_it_unless_that_is_asked_for():
    sun = Renewable(id="sun", kw=30.0)
    case = island([20.0], unit(available=False), renewables=(sun,))
    assert solved(case).unserved_kw["load"] == pytest.approx((0.0,))
    assert solved(replace(case, forming=True)).unserved_kw["load"] == pytest.approx((20.0,))


# --- all of it together -------------------------------------------------------------------------------------


def random_unit(rng: np.random.Generator, k: int) -> Unit:
    low, top = float(rng.integers(10, 30)), float(rng.integers(60, 100))
    on = bool(rng.random() < 0.5)
    mid = 0.5 * (low + top)
    cost: Any = QuadraticCost(
        a_per_h=2.0, b_per_kwh=float(rng.uniform(0.1, 0.5)), c_per_kw2h=1e-3, segments=3
    )
    if rng.random() < 0.5:
        at = rng.uniform(1.0, 20.0, 3).cumsum()
        cost = CostPoints(kw=(low, mid, top), per_h=tuple(at.tolist()))
    rides: dict[str, Any] = {}
    if rng.random() < 0.6:
        ways = ((low / 2,), (low / 4, low / 2)) if rng.random() < 0.5 else (low / 2,)
        rides = {
            "start_up_path_kw": ways, "path_per_kwh": 0.2,
            "shut_down_path_kw": (low / 2,) if rng.random() < 0.6 else (low / 2, low / 4),
        }  # fmt: skip
    ramps: dict[str, Any] = {}
    if rng.random() < 0.7:
        ramps = {
            "ramp_up_kw_h": float(rng.uniform(15, 60)), "ramp_down_kw_h": float(rng.uniform(15, 60)),
            "start_up_kw": float(rng.uniform(low, top)), "shut_down_kw": float(rng.uniform(low, top)),
        }  # fmt: skip
    ranges: dict[str, Any] = {}
    if rng.random() < 0.3:
        ranges = {"output_max_kw": rng.uniform(0.8 * top, top, 6), "extra_per_kwh": rng.uniform(-0.1, 0.2, 6)}
    return Unit(
        id=f"u{k}", p_min_kw=low, p_max_kw=top, cost=cost,
        state_h=float(rng.integers(1, 5)) * (1 if on else -1),
        output_kw=float(rng.uniform(low, low + 10.0)) if on else None, min_up_h=float(rng.integers(0, 3)),
        min_down_h=float(rng.integers(0, 3)), start_lags=((1.0, 2.0), (3.0, float(rng.uniform(4, 9)))),
        stop_cost=float(rng.uniform(0, 2)), **rides, **ramps, **ranges,
    )  # fmt: skip


def random_case(seed: int) -> Case:
    rng = np.random.default_rng([11, seed])
    T = 6
    units = tuple(random_unit(rng, k) for k in range(2))
    begins: dict[str, Any] = (
        {"cyclic": True} if rng.random() < 0.3 else {"soc_start": 0.5, "soc_end_min": 0.3}
    )
    store = Storage(
        id="b", energy_kwh=60.0, p_charge_kw=20.0, p_discharge_kw=25.0, eta_charge=0.9, eta_discharge=0.95,
        inflow_kw=rng.uniform(0.0, 25.0, T) * float(rng.random() < 0.4), **begins,
    )  # fmt: skip
    wind = Renewable(
        id="wind", kw=rng.uniform(10, 40, T), min_kw=5.0, cost_per_kwh=0.02, curtail_per_kwh=0.01
    )
    spin = Reserve(
        id="spin", kw=rng.uniform(0, 20, T), load_ratio=0.05, within_h=0.25, short_per_kwh=3.0,
        beside_ramp=bool(rng.random() < 0.7),
    )  # fmt: skip
    slow = Reserve(
        id="slow", kw=25.0, renewable_ratio=0.2, counts=("spin",), short_per_kwh=1.0,
        largest=bool(rng.random() < 0.4),
        responders=(
            Responder(id="u0", per_kw_h=0.05, offline_kw=15.0), Responder(id="u1", kw_max=12.0),
            Responder(id="wind"), Responder(id="b", kw_max=10.0),
        ),
    )  # fmt: skip
    down = Reserve(id="down", kw=6.0, down=True, short_per_kwh=2.0)
    limits = (
        EnergyLimit(id="gas", of={"u0": 1.0}, per_start={"u0": 5.0}, least=120.0, most=200.0,
                    short_cost=0.4, over_cost=0.6),
        EnergyLimit(id="cycle", of={"b.charge": 1.0, "b": 0.5}, steps=rng.random(T) < 0.8, most=30.0),
        EnergyLimit(id="hours", per_h={"u1": 1.0}, of={"grid": 0.01}, most=4.0, over_cost=2.0),
    )  # fmt: skip
    return Case(
        steps=T, units=units, storages=(store,), renewables=(wind,),
        grid=Grid(import_per_kwh=rng.uniform(0.3, 1.2, T), import_kw_max=30.0),
        loads=(Load(kw=rng.uniform(60, 130, T), voll_per_kwh=20.0),),
        reserves=(spin, slow, down)[: int(rng.integers(0, 4))],
        energy_limits=limits[: int(rng.integers(0, 4))],
        hard=bool(rng.random() < 0.3),
    )  # fmt: skip


@pytest.mark.parametrize("block", range(2))
def test_random_cases_cost_what_the_second_program_says(block: int):
    for seed in range(4 * block, 4 * (block + 1)):
        case, told = random_case(seed), best_cost(random_case(seed))
        if told is None:
            assert solve_case(case).status == "infeasible", f"seed {seed}"
        else:
            assert solved(case).objective == pytest.approx(told, abs=1e-4, rel=1e-6), f"seed {seed}"


@pytest.mark.soak
@pytest.mark.parametrize("block", range(2, 60))
def test_many_more_random_cases_cost_what_the_second_program_says(block: int):
    test_random_cases_cost_what_the_second_program_says(block)


@pytest.mark.parametrize("seed", [1, 4])
def test_fast_layout_is_the_readable_model_of_cases(seed: int, tmp_path: Path):
    """Row by row, and in the optimum through Pyomo's own LP file."""
    case = random_case(seed)
    p = case_problem(case)
    compiled = Compiled(structure_of(p.site, p.grid, formulation(case)))
    assert rows_of(compiled.form) == rows_of(build(compiled.structure, PyomoModel).standard_form())
    outcome = Session(compiled).solve(compiled.fill(compiled.numbers(p)), EXACT)
    if outcome.x is not None:
        assert outcome.objective == pytest.approx(through_lp_file(compiled, p, tmp_path / "m.lp"), rel=1e-6)
