"""Cases posed in Python without a site file: small ones with their answer, and random ones enumerated."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from ems.errors import BadValue
from optimizer import (
    Case,
    CostPoints,
    Grid,
    Load,
    QuadraticCost,
    Solution,
    Storage,
    Unit,
    solve_case,
)
from optimizer.algebra import Model
from optimizer.build import build
from optimizer.case_problem import case_problem, formulation
from optimizer.compiled import Compiled
from optimizer.reference import PyomoModel
from optimizer.structure import structure_of
from tests.unit.optimizer.test_compiled import rows_of


def unit(unit_id: str = "g1", low: float = 30.0, high: float = 100.0, **changes: Any) -> Unit:
    """0.3 per kWh and nothing for running, unless said otherwise."""
    values: dict[str, Any] = {"cost": QuadraticCost(b_per_kwh=0.3)}
    return Unit(id=unit_id, p_min_kw=low, p_max_kw=high, **(values | changes))


def solved(case: Case, **options: float) -> Solution:
    """Proven, and replayed without a fault."""
    out = solve_case(case, **options)  # type: ignore[arg-type]
    assert out.status == "optimal", out.status
    assert not out.faults
    return out


# --- each of them alone -------------------------------------------------------------------------------------


def test_gensets_alone_cheapest_first():
    """150 kW: the cheap one at its 100 kW costs 20, the other's 50 kW cost 15, and 2 hours of it: 70."""
    cheap = unit("cheap", cost=QuadraticCost(b_per_kwh=0.2))
    out = solved(Case(steps=2, units=(unit("dear"), cheap), loads=(Load(kw=150.0),)))
    assert out.objective == pytest.approx(70.0)
    assert out.output_kw["cheap"] == pytest.approx((100.0, 100.0))
    assert out.on == {"dear": (1, 1), "cheap": (1, 1)}
    assert out.cost_terms == pytest.approx({"fuel": 70.0})


def test_battery_alone_serves_what_it_holds():
    """8 kWh of 10 are stored, 0.8 come out of each kWh: 6.4 of 10 kWh are served, 3.6 lost at 5."""
    store = Storage(
        id="b", energy_kwh=10.0, p_charge_kw=5.0, p_discharge_kw=5.0, eta_discharge=0.8, soc_start=0.8
    )
    out = solved(Case(steps=2, storages=(store,), loads=(Load(kw=5.0, voll_per_kwh=5.0),)))
    assert out.objective == pytest.approx(18.0)
    assert out.soc_end["b"][-1] == pytest.approx(0.0, abs=1e-7)
    assert sum(out.unserved_kw["load"]) == pytest.approx(3.6)
    assert any(note.startswith("load: load not served") for note in out.notes)


def test_tariff_alone_is_its_bill():
    """Quarters of 40, 80, 20, 60 kW in half-hour intervals: means 60 and 40. 5 kWh at 0.1 + ... + peak 60."""
    grid = Grid(import_per_kwh=(0.1, 0.2, 0.1, 0.2), demand_per_kw=2.0, billing_interval_h=0.5)
    out = solved(Case(steps=4, step_h=0.25, grid=grid, loads=(Load(kw=(40.0, 80.0, 20.0, 60.0)),)))
    energy = 0.25 * (40 * 0.1 + 80 * 0.2 + 20 * 0.1 + 60 * 0.2)
    assert out.objective == pytest.approx(energy + 2.0 * 60.0)
    assert out.peak_kw == pytest.approx(60.0)
    assert out.cost_terms == pytest.approx({"energy_import": energy, "demand": 120.0})


def test_blocks_that_grow_dearer_are_a_reason_to_save():
    """60 kWh: a block of 40 at 0.1, then 0.4; the genset's 0.3 is cheaper than the second: 4 + 20 * 0.3."""
    grid = Grid(import_per_kwh=0.0, blocks=((40.0, 0.1), (None, 0.4)))
    out = solved(Case(steps=2, units=(unit(low=0.0),), grid=grid, loads=(Load(kw=30.0),)))
    assert out.objective == pytest.approx(10.0)
    assert sum(out.grid_kw) == pytest.approx(40.0)


def test_battery_and_tariff_shift_energy_over_unequal_steps():
    """2 h at 0.1, half an hour at 0.5: the dear 10 kWh come out of the battery, 12.5 kWh went into it.

    Throughput costs 0.01 for each of the 12.5 and 0.02 for each of the 10.
    """
    store = Storage(
        id="b", energy_kwh=10.0, p_charge_kw=50.0, p_discharge_kw=50.0, eta_charge=0.8, charge_per_kwh=0.01,
        discharge_per_kwh=0.02,
    )  # fmt: skip
    case = Case(
        steps=2,
        step_h=(2.0, 0.5),
        storages=(store,),
        grid=Grid(import_per_kwh=(0.1, 0.5)),
        loads=(Load(kw=(0.0, 20.0)),),
    )
    out = solved(case)
    assert out.objective == pytest.approx(12.5 * 0.1 + 12.5 * 0.01 + 10.0 * 0.02)
    assert out.storage_kw["b"] == pytest.approx((-6.25, 20.0))


def test_sun_is_used_sold_or_curtailed():
    """30 kW of sun on 10 kW of load with 15 kW of export at 0.05: 5 kW are thrown away."""
    grid = Grid(import_per_kwh=0.2, export_per_kwh=0.05, export_kw_max=15.0)
    out = solved(Case(steps=1, grid=grid, loads=(Load(kw=10.0),), pv_kw=30.0))
    assert out.objective == pytest.approx(-0.75)
    assert out.pv_kw == pytest.approx((25.0,))
    assert out.grid_kw == pytest.approx((-15.0,))


# --- end conditions, starts, running capacity ---------------------------------------------------------------


@pytest.mark.parametrize(("least", "most", "sold"), [(0.0, 1.0, 10.0), (0.3, 1.0, 7.0), (0.8, 0.8, 2.0)])
def test_storage_ends_where_it_must(least: float, most: float, sold: float):
    """A full battery sells at 0.1 what it need not keep."""
    store = Storage(
        id="b", energy_kwh=10.0, p_charge_kw=10.0, p_discharge_kw=10.0, soc_start=1.0, soc_end_min=least,
        soc_end_max=most,
    )  # fmt: skip
    grid = Grid(import_per_kwh=0.2, export_per_kwh=0.1, export_kw_max=20.0)
    out = solved(Case(steps=2, storages=(store,), grid=grid))
    assert out.objective == pytest.approx(-0.1 * sold, abs=1e-6)
    assert out.soc_end["b"][-1] == pytest.approx(1.0 - 0.1 * sold, abs=1e-6)


def test_an_end_that_cannot_be_reached_is_infeasible():
    """5 kW for an hour do not fill 10 kWh."""
    store = Storage(id="b", energy_kwh=10.0, p_charge_kw=5.0, p_discharge_kw=5.0, soc_end_min=1.0)
    out = solve_case(Case(steps=1, storages=(store,), grid=Grid(import_per_kwh=0.1)))
    assert out.status == "infeasible"
    assert out.objective is None
    assert out.on == {}


@pytest.mark.parametrize(
    ("off_h", "load", "starts"),
    [
        (2.0, (50.0, 0.0, 50.0, 0.0), 5.0 + 5.0),  # off for two hours: warm; one hour of rest: warm again
        (3.0, (50.0, 0.0, 50.0, 0.0), 20.0 + 5.0),  # cold at first
        (1.0, (0.0, 50.0, 0.0, 50.0), 5.0 + 5.0),  # two hours at its start
        (2.0, (0.0, 50.0, 0.0, 50.0), 20.0 + 5.0),  # three hours at its start
        (3.0, (50.0, 0.0, 0.0, 50.0), 20.0 + 5.0),  # a rest of two hours: warm
        (9.0, (50.0, 0.0, 0.0, 0.0, 50.0), 20.0 + 20.0),  # of three: cold
    ],
)
def test_starts_are_hot_or_cold_by_the_rest_before(off_h: float, load: tuple[float, ...], starts: float):
    """Hot 5, cold 20 after more than two hours of rest; with no load nothing may run (at least 30 kW)."""
    machine = unit(start_cost=5.0, cold_start_cost=20.0, cold_after_h=2.0, state_h=-off_h)
    out = solved(Case(steps=len(load), units=(machine,), loads=(Load(kw=load),)))
    assert out.cost_terms["start"] == pytest.approx(starts)
    assert out.on["g1"] == tuple(int(x > 0) for x in load)


def test_a_unit_is_kept_warm_where_a_cold_start_costs_more():
    """A third hour of rest makes the start 20 dearer: an hour of idling at 6 in between is cheaper."""
    machine = unit(
        low=0.0, cost=QuadraticCost(a_per_h=6.0, b_per_kwh=0.3), start_cost=1.0, cold_start_cost=21.0,
        cold_after_h=2.0, state_h=5.0,
    )  # fmt: skip
    out = solved(Case(steps=6, units=(machine,), loads=(Load(kw=(50.0, 0.0, 0.0, 0.0, 50.0, 0.0)),)))
    # off, off, on (idle 6) and on: one hot start = 7; off all three hours: 21; on throughout: 18
    assert out.cost_terms["start"] + out.cost_terms["fuel"] == pytest.approx(2 * (6.0 + 15.0) + 7.0)


def test_running_capacity_asks_for_a_second_unit():
    """95 kW on 100 kW; ten per cent more than the load must run: two units at 5 an hour: 10 + 95 * 0.25."""
    two = tuple(unit(f"g{k}", cost=QuadraticCost(a_per_h=5.0, b_per_kwh=0.25)) for k in (1, 2))
    case = Case(steps=1, units=two, loads=(Load(kw=95.0),), running_ratio=1.1)
    assert solved(case).objective == pytest.approx(33.75)
    alone = solved(Case(steps=1, units=two[:1], loads=(Load(kw=95.0),), running_ratio=1.1, short_per_kwh=2.0))
    assert alone.objective == pytest.approx(5.0 + 23.75 + 2.0 * 4.5)
    assert any(note.startswith("running capacity short: up to 4.5 kW") for note in alone.notes)


def test_units_run_where_they_may_and_where_they_must():
    """50 kW at 0.3; away in the second hour (lost at 1), on in the last without load: 30 kW too many at 2."""
    machine = unit(available=(True, False, True, True), must_run=(False, False, False, True))
    out = solved(Case(steps=4, units=(machine,), loads=(Load(kw=(50.0, 50.0, 50.0, 0.0), voll_per_kwh=1.0),)))
    assert out.on["g1"] == (1, 0, 1, 1)
    assert out.objective == pytest.approx(2 * 15.0 + 50.0 + 30.0 * 0.3 + 30.0 * 2.0)


@pytest.mark.parametrize(
    ("most", "so_far", "on"),
    [
        (None, 0, (1, 0, 1, 0, 1)),
        (3, 0, (1, 0, 1, 0, 1)),
        (2, 0, (1, 1, 1, 0, 1)),  # idling through one gap at 6 an hour is dearer than a start at 1
        (2, 1, (1, 1, 1, 1, 1)),
    ],
)
def test_starts_in_a_day_are_counted(most: int | None, so_far: int, on: tuple[int, ...]):
    machine = unit(
        low=0.0, cost=QuadraticCost(a_per_h=6.0, b_per_kwh=0.3), start_cost=1.0, starts_max=most,
        starts_so_far=so_far,
    )  # fmt: skip
    out = solved(Case(steps=5, units=(machine,), loads=(Load(kw=(50.0, 0.0, 50.0, 0.0, 50.0)),)))
    assert sum(out.on["g1"]) == sum(on)
    assert out.cost_terms["start"] == pytest.approx(3.0 if most in (None, 3) else 2.0 - so_far)
    assert not out.notes


def test_a_start_too_many_is_made_for_load_and_noted():
    """No start is left: an hour without 100 kW at 4 costs 400; the start costs 0.25 h * 100 kW * 4 = 100."""
    machine = unit(starts_max=1, starts_so_far=1)
    out = solved(Case(steps=1, units=(machine,), loads=(Load(kw=100.0, voll_per_kwh=4.0),)))
    assert out.objective == pytest.approx(100.0 + 30.0)
    assert out.notes == ("g1: 1 starts more than its 1 a day",)


def test_starts_are_free_again_after_a_day():
    """One start in 24 hours, hourly: the second load comes 23 or 24 hours after the first."""
    for gap, starts in ((23, 1), (24, 2)):
        load = np.zeros(gap + 1)
        load[[0, gap]] = 50.0
        machine = unit(low=0.0, cost=QuadraticCost(a_per_h=0.1), starts_max=1, state_h=-5.0)
        out = solved(Case(steps=gap + 1, units=(machine,), loads=(Load(kw=load),)))
        assert out.objective == pytest.approx(0.1 * (2 if starts == 2 else gap + 1))


def test_the_loss_of_any_unit_is_covered_where_asked_for():
    """80 kW on one unit of 100 kW, 5 an hour; two cover each other: 10 + 80 * 0.25; one alone cannot."""
    two = tuple(unit(f"g{k}", cost=QuadraticCost(a_per_h=5.0, b_per_kwh=0.25)) for k in (1, 2))
    case = Case(steps=1, units=two, loads=(Load(kw=80.0),), short_per_kwh=2.0)
    assert solved(case).objective == pytest.approx(25.0)
    assert solved(replace(case, n_minus_1=True)).objective == pytest.approx(30.0)
    alone = solved(replace(case, units=two[:1], n_minus_1=True))
    assert alone.objective == pytest.approx(25.0 + 2.0 * 80.0)
    assert alone.notes == ("loss of g1: short by up to 80.0 kW at 01 00:00 UTC, in 1 of 1 islanded steps",)


# --- quadratic costs ----------------------------------------------------------------------------------------


def test_quadratic_cost_is_bracketed_by_the_chords_and_their_error():
    """100 kW on two equal units, 10 + 0.1 p + 0.002 p^2: 50 each: 2 * (10 + 5 + 5) = 40.

    With 7 chords of 12.857 kW from 10 to 100 kW 50 kW lies inside one: at most 0.002 * 6.43^2 = 0.083 an hour
    and unit above the curve.
    """
    curve = QuadraticCost(a_per_h=10.0, b_per_kwh=0.1, c_per_kw2h=0.002, segments=7)
    units = (unit("a", 10.0, cost=curve), unit("b", 10.0, cost=curve))
    out = solved(Case(steps=1, units=units, loads=(Load(kw=100.0),), running_ratio=1.5))
    assert out.objective is not None
    assert out.exact_cost is not None
    assert out.exact_bound is not None
    assert out.exact_bound <= 40.0 <= out.exact_cost <= out.objective <= out.exact_bound + 2 * 0.0827
    assert out.exact_cost == pytest.approx(40.0, abs=0.1)


def test_cost_points_are_the_curve():
    """Two lines that meet at 60 kW: 6 + 0.1 p and 0.3 p - 6. At 80 kW: 18."""
    points = CostPoints(kw=(0.0, 60.0, 100.0), per_h=(6.0, 12.0, 24.0))
    out = solved(Case(steps=1, units=(unit(low=0.0, cost=points),), loads=(Load(kw=80.0),)))
    assert out.objective == pytest.approx(18.0)
    assert out.exact_cost == pytest.approx(18.0)
    assert out.exact_bound == pytest.approx(18.0)


# --- every commitment of random plants, enumerated ----------------------------------------------------------


def random_unit(rng: np.random.Generator) -> Unit:
    high, hot = float(rng.integers(40, 120)), float(rng.uniform(0.0, 10.0))
    return Unit(
        id="g",
        p_min_kw=float(rng.uniform(0.1, 0.6)) * high,
        p_max_kw=high,
        cost=QuadraticCost(a_per_h=float(rng.uniform(0, 8)), b_per_kwh=float(rng.uniform(0.1, 0.4))),
        start_cost=hot,
        cold_start_cost=hot + float(rng.uniform(0.0, 30.0)),
        cold_after_h=float(rng.integers(1, 4)),
        min_up_h=float(rng.integers(0, 4)),
        min_down_h=float(rng.integers(0, 3)),
        state_h=float(rng.choice([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])),
    )


def random_case(seed: int) -> Case:
    """Two unlike units, two equal ones, three equal ones, or one and two equal ones."""
    rng = np.random.default_rng(seed)
    alike, steps = ((1, 1), (2,), (3,), (1, 2))[seed % 4], (5, 6, 4, 4)[seed % 4]
    units = [x for count in alike for x in [random_unit(rng)] * count]
    return Case(
        steps=steps,
        units=tuple(replace(x, id=f"g{k}") for k, x in enumerate(units)),
        loads=(Load(kw=rng.uniform(0.0, 75.0 * len(units), steps), voll_per_kwh=1.0),),
        running_ratio=float(rng.choice([0.0, 1.1])),
        short_per_kwh=0.5,
    )


def start_money(x: Unit, row: tuple[int, ...]) -> float:
    """Start costs of one unit's hours, walking through them; infinite against a minimum time."""
    on, hours, money = x.state_h > 0, abs(x.state_h), 0.0
    for now in row:
        if bool(now) != on:
            if hours < (x.min_up_h if on else x.min_down_h):
                return float("inf")
            if now:
                assert x.cold_start_cost is not None
                money += x.start_cost if hours <= x.cold_after_h else x.cold_start_cost
            on, hours = bool(now), 0.0
        hours += 1.0
    return money


def hour_money(case: Case, on: tuple[int, ...], load: float) -> float:
    """Cheapest dispatch of one hour: minimum loads, then the cheapest kWh first, then loss of load."""
    running = [x for x, u in zip(case.units, on, strict=True) if u]
    cost = {x.id: x.cost for x in running if isinstance(x.cost, QuadraticCost)}
    least = sum((x.p_min_kw for x in running), 0.0)
    money = sum(cost[x.id].a_per_h + cost[x.id].b_per_kwh * x.p_min_kw for x in running)
    money += 2.0 * max(0.0, least - load)  # more than the load: surplus at twice the highest VOLL
    rest = max(0.0, load - least)
    for x in sorted(running, key=lambda x: cost[x.id].b_per_kwh):
        part = min(rest, x.p_max_kw - x.p_min_kw)
        money += cost[x.id].b_per_kwh * part
        rest -= part
    capacity = sum(x.p_max_kw for x in running)
    return money + rest + 0.5 * max(0.0, case.running_ratio * load - capacity)


@pytest.mark.parametrize("seed", range(60))
def test_random_plants_cost_what_enumeration_says(seed: int):
    """The optimum, and start costs of the very machines of the result, fleets taken apart."""
    case = random_case(seed)
    load = case.series("load", case.loads[0].kw)
    every = list(product((0, 1), repeat=len(case.units)))
    hours = [{on: hour_money(case, on, float(kw)) for on in every} for kw in load]
    rows = list(product((0, 1), repeat=case.steps))
    lives = [
        [(row, money) for row in rows if (money := start_money(x, row)) < float("inf")] for x in case.units
    ]
    best = min(
        sum(money for _, money in chosen)
        + sum(hour[on] for hour, on in zip(hours, zip(*[row for row, _ in chosen], strict=True), strict=True))
        for chosen in product(*lives)
    )
    out = solved(case)
    assert out.objective == pytest.approx(best, abs=1e-6), f"seed {seed}"
    started = sum(start_money(x, out.on[x.id]) for x in case.units)
    assert started == pytest.approx(out.cost_terms.get("start", 0.0), abs=1e-6), f"seed {seed}"


def test_fleets_of_the_fast_algebra_are_the_pyomo_model():
    case = random_case(3)
    p = case_problem(case)
    structure = structure_of(p.site, p.grid, formulation(case))
    assert structure.formulation.fleets == (1, 2)
    fast, readable = build(structure, Model).standard_form(), build(structure, PyomoModel).standard_form()
    assert rows_of(fast) == rows_of(readable)


def test_equal_units_are_one_fleet_wherever_they_stand():
    """Running machines of a fleet share load: 90 kW on two of three are 45 each."""
    same = [unit(f"s{k}", cost=CostPoints(kw=[30.0, 100.0], per_h=[20.0, 40.0])) for k in range(3)]
    case = Case(steps=1, units=(same[0], unit("other"), *same[1:]), loads=(Load(kw=90.0),), running_ratio=1.2)
    assert formulation(case).fleets == (3, 1)
    out = solved(case)
    # 108 kW must run: two of them at 45 kW cost 48.57; one at 60 kW and the other at 30 kW: 28.57 + 9
    assert out.objective == pytest.approx(9.0 + 20.0 + 30.0 * 20.0 / 70.0)
    assert sum(out.on[x.id][0] for x in same) == 1
    two = solved(replace(case, units=tuple(same)))
    assert two.objective == pytest.approx(2 * (20.0 + 15.0 * 20.0 / 70.0))
    assert sorted(x[0] for x in two.output_kw.values()) == pytest.approx([0.0, 45.0, 45.0])


def test_two_weeks_of_half_hours_cost_what_another_lp_says():
    """Battery, tariff, export, sun and demand charge; the reference shares no line with the families."""
    rng = np.random.default_rng(7)
    T, h = 14 * 48, 0.5
    load, sun = rng.uniform(20.0, 90.0, T), np.maximum(0.0, 80.0 * np.sin(np.arange(T) * 2.0 * np.pi / 48.0))
    buy = rng.uniform(0.08, 0.3, T)
    case = Case(
        steps=T,
        step_h=h,
        storages=(
            Storage(
                id="b", energy_kwh=120.0, p_charge_kw=40.0, p_discharge_kw=50.0, eta_charge=0.93,
                eta_discharge=0.95, soc_start=0.4, soc_min=0.1, soc_max=0.9, soc_end_min=0.5,
                charge_per_kwh=0.003, discharge_per_kwh=0.005,
            ),
        ),
        grid=Grid(
            import_per_kwh=buy, export_per_kwh=0.05, import_kw_max=100.0, export_kw_max=30.0,
            demand_per_kw=5.0, peak_so_far_kw=25.0, billing_interval_h=1.0,
        ),
        loads=(Load(kw=load),),
        pv_kw=sun,
    )  # fmt: skip
    # columns: import, export, charge, discharge, sun, stored (T each), peak
    one, none = np.eye(T), np.zeros((T, T))
    last = np.eye(T, k=-1)
    balance = np.hstack([one, -one, -one, one, one, none, np.zeros((T, 1))])
    store = np.hstack([none, none, -h * 0.93 * one, h / 0.95 * one, none, one - last, np.zeros((T, 1))])
    hours = np.kron(np.eye(T // 2), [[0.5, 0.5]])
    blank = np.zeros((T // 2, T))
    peak = np.hstack([hours, blank, blank, blank, blank, blank, -np.ones((T // 2, 1))])
    stored = [(12.0, 108.0)] * (T - 1) + [(60.0, 108.0)]
    reference = linprog(
        np.concatenate(
            [
                h * buy,
                np.full(T, -h * 0.05),
                np.full(T, h * 0.003),
                np.full(T, h * 0.005),
                np.zeros(2 * T),
                [5.0],
            ]
        ),
        A_eq=np.vstack([balance, store]),
        b_eq=np.concatenate([load, [48.0], np.zeros(T - 1)]),
        A_ub=peak,
        b_ub=np.zeros(T // 2),
        bounds=[
            *[(0, 100)] * T,
            *[(0, 30)] * T,
            *[(0, 40)] * T,
            *[(0, 50)] * T,
            *[(0, x) for x in sun],
            *stored,
            (25, None),
        ],
    )
    assert solved(case).objective == pytest.approx(reference.fun - 5.0 * 25.0, rel=1e-7)


def test_features_that_a_case_does_not_use_have_no_columns():
    """Hot starts and running capacity are there only where they are asked for."""

    def names(case: Case) -> set[str]:
        p = case_problem(case)
        return set(Compiled(structure_of(p.site, p.grid, formulation(case))).shapes)

    plain = names(Case(steps=3, units=(unit(),), loads=(Load(kw=10.0),)))
    dear = unit(start_cost=1.0, cold_start_cost=2.0, cold_after_h=1.0)
    full = names(Case(steps=3, units=(dear,), loads=(Load(kw=10.0),), running_ratio=1.0))
    assert full - plain == {"hot_start", "warm_start", "off_before", "running_short_kw", "running_kw"}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("key", ["available", "must_run"])
def test_equal_units_with_a_calendar_cost_what_unequal_ones_cost(key: str, seed: int):
    """Two equal units away for two steps: what stops at their begin was counted twice, and load was lost."""
    rng = np.random.default_rng(seed)
    window = np.zeros(8, dtype=bool)
    window[2:4] = True
    flags = tuple(bool(x) for x in (window if key == "must_run" else ~window))
    one = Unit(
        id="u0", p_min_kw=30.0, p_max_kw=100.0, cost=CostPoints(kw=(30.0, 100.0), per_h=(10.0, 25.0)),
        start_cost=3.0, min_up_h=float(rng.integers(1, 3)), min_down_h=float(rng.integers(1, 3)),
        state_h=float(rng.choice([-5.0, 5.0])),
    )  # fmt: skip
    one = replace(one, must_run=flags) if key == "must_run" else replace(one, available=flags)
    load = Load(kw=tuple(rng.uniform(0.0, 180.0, 8)))
    case = Case(steps=8, units=(one, replace(one, id="u1")), loads=(load,))
    unlike = replace(case, units=(one, replace(one, id="u1", start_cost=3.0 + 1e-9)))
    assert solve_case(case).objective == pytest.approx(solve_case(unlike).objective, abs=1e-4)


def test_caps_of_the_grid_change_by_step() -> None:
    """Import capped at 30 kW in the last hour leaves 20 kW; no export while there is sun."""
    out = (0, 0, 50)
    grid = Grid(import_per_kwh=0.1, import_kw_max=(200, 200, 30), export_per_kwh=0.05, export_kw_max=out)
    load = Load(kw=50, voll_per_kwh=2.0)
    done = solve_case(Case(steps=3, grid=grid, loads=(load,), pv_kw=(0, 90, 0)))
    assert done.faults == ()
    assert done.grid_kw == pytest.approx((50.0, 0.0, 30.0))
    assert done.unserved_kw["load"] == pytest.approx((0.0, 0.0, 20.0))
    with pytest.raises(BadValue, match=r"import_kw_max"):
        solve_case(Case(steps=2, grid=Grid(import_kw_max=(1, -1))))


# --- energy that is worth less than nothing, values that contradict each other ------------------------------

LOSSY = Storage(
    id="b", energy_kwh=10.0, p_charge_kw=10.0, p_discharge_kw=10.0, eta_charge=0.5, eta_discharge=0.5,
    soc_start=0.5,
)  # fmt: skip


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_a_storage_never_burns_energy_by_both_directions_at_once(scale: float):
    """30 kW must run on 20 kW of load, and export costs 0.5; the store has room for 10 kWh, half of it lost.

    Full after an hour, it gives 2.5 kWh in the second, which makes room for 10 more: 12.5 kWh are exported.
    With 90 kWh of fuel at 0.3 that is 27 + 6.25, in kW and in MW.
    """
    store = replace(LOSSY, energy_kwh=10.0 * scale, p_charge_kw=10.0 * scale, p_discharge_kw=10.0 * scale)
    grid = Grid(import_per_kwh=0.1 / scale, export_per_kwh=-0.5 / scale, export_kw_max=100.0 * scale)
    machine = unit(
        low=30.0 * scale, high=100.0 * scale, must_run=True, cost=QuadraticCost(b_per_kwh=0.3 / scale)
    )
    loads = (Load(kw=20.0 * scale, voll_per_kwh=10.0 / scale),)
    out = solved(Case(steps=3, units=(machine,), storages=(store,), grid=grid, loads=loads))
    assert out.objective == pytest.approx(27.0 + 6.25, rel=1e-6)


@pytest.mark.parametrize("loads", [(), (Load(kw=0.0, voll_per_kwh=0.1),)])
@pytest.mark.parametrize("step_h", [1.0, 1.0 / 12.0])
def test_a_store_keeps_its_window_whatever_the_prices(loads: tuple[Load, ...], step_h: float):
    """3 MWh above the window of 2, sold at 200 per MWh in the last step; without load, or hardly any VOLL."""
    store = Storage(
        id="b", energy_kwh=10.0, p_charge_kw=200.0, p_discharge_kw=200.0, soc_start=0.5, soc_min=0.2
    )
    grid = Grid(import_per_kwh=300.0, export_per_kwh=(40.0, 200.0), export_kw_max=200.0)
    out = solved(Case(steps=2, step_h=step_h, storages=(store,), grid=grid, loads=loads))
    assert out.objective == pytest.approx(-600.0)
    assert out.notes == ()
    assert set(out.unserved_kw) == {x.id for x in loads}


def test_a_last_step_of_minutes_does_not_open_the_window_to_serve_load():
    """5 minutes: what is below the window costs by the hour, and must not be cheaper than lost load."""
    store = Storage(id="b", energy_kwh=10.0, p_charge_kw=9.0, p_discharge_kw=9.0, soc_start=0.5, soc_min=0.5)
    out = solved(Case(steps=2, step_h=1.0 / 12.0, storages=(store,), loads=(Load(kw=6.0, voll_per_kwh=2.0),)))
    assert out.objective == pytest.approx(2.0)
    assert out.soc_end["b"] == pytest.approx((0.5, 0.5))
