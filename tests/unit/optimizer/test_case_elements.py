"""Elements that published cases are made of: each with an answer by hand, all together by another MILP."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from ems.errors import BadValue
from optimizer import (
    Case,
    CostPoints,
    DemandWindow,
    Grid,
    Load,
    QuadraticCost,
    Renewable,
    Solution,
    Storage,
    Unit,
    solve_case,
)
from optimizer.case_problem import formulation

VOLL = 50.0
MUST_TAKE, SURPLUS = 1.5 * VOLL, 2.0 * VOLL


def unit(unit_id: str = "g", low: float = 20.0, high: float = 100.0, **changes: Any) -> Unit:
    values: dict[str, Any] = {"cost": QuadraticCost(a_per_h=2.0, b_per_kwh=0.3)}
    return Unit(id=unit_id, p_min_kw=low, p_max_kw=high, **(values | changes))


def solved(case: Case) -> Solution:
    """Proven, and replayed without a fault."""
    out = solve_case(case)
    assert out.status == "optimal", out.status
    assert not out.faults
    return out


# --- units --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stop_cost", "on"), [(2.0, (1, 0, 1)), (4.0, (1, 1, 1))])
def test_a_stop_is_paid_or_spared(stop_cost: float, on: tuple[int, ...]):
    """20 kW for 8 in each hour that it is on. Nothing is asked for in the second, and 20 kW sell for 2.

    To run through costs 8 - 2 = 6, to stop and start again the stop and 3.
    """
    grid = Grid(import_per_kwh=9.0, import_kw_max=0.0, export_per_kwh=0.1, export_kw_max=100.0)
    machine = unit(state_h=5.0, start_cost=3.0, stop_cost=stop_cost, high=20.0)
    out = solved(Case(steps=3, units=(machine,), grid=grid, loads=(Load(kw=(20.0, 0.0, 20.0)),)))
    assert out.on["g"] == on
    assert out.objective == pytest.approx(2 * 8.0 + min(6.0, stop_cost + 3.0))
    assert out.cost_terms.get("stop", 0.0) == pytest.approx(stop_cost if 0 in on else 0.0)


def test_equal_units_with_a_price_on_stops_are_counted():
    """Two of them on before: one is stopped for 1, not both."""
    pair = tuple(unit(i, state_h=5.0, stop_cost=1.0) for i in ("g1", "g2"))
    case = Case(steps=2, units=pair, loads=(Load(kw=50.0),))
    assert formulation(case).fleets == (2,)
    out = solved(case)
    assert sorted(out.on.values()) == [(0, 0), (1, 1)]
    assert out.objective == pytest.approx(1.0 + 2 * (2.0 + 0.3 * 50.0))


@pytest.mark.parametrize(
    "cost", [QuadraticCost(a_per_h=4.0, b_per_kwh=0.2), CostPoints(kw=(10.0, 50.0), per_h=(6.0, 14.0))]
)
def test_a_unit_of_one_output_is_on_at_it_or_off(cost: QuadraticCost | CostPoints):
    """50 kW for 14 in the hour; 60 and 30 kW are asked for at 0.4 a kWh from the grid, which buys nothing.

    First hour 14 + 10 x 0.4 = 18 against 24; in the second on means 20 kW too many, off 12.
    """
    block = unit(low=50.0, high=50.0, cost=cost)
    out = solved(Case(steps=2, units=(block,), grid=Grid(import_per_kwh=0.4), loads=(Load(kw=(60.0, 30.0)),)))
    assert out.on["g"] == (1, 0)
    assert out.output_kw["g"] == pytest.approx((50.0, 0.0))
    assert out.objective == pytest.approx(18.0 + 12.0)
    assert out.exact_cost == pytest.approx(out.objective)


# --- sun and wind, and load below nothing -------------------------------------------------------------------


def test_the_source_that_costs_least_to_curtail_is_curtailed():
    """30 kW of load, 20 kW of export at nothing, 90 kW of sources: 40 kW too many, at 0.01 and then 0.05."""
    grid = Grid(import_per_kwh=0.2, export_kw_max=20.0)
    sources = (
        Renewable(id="sun", kw=50.0, curtail_per_kwh=0.05),
        Renewable(id="wind", kw=30.0, curtail_per_kwh=0.01),
    )
    out = solved(Case(steps=1, step_h=0.5, grid=grid, loads=(Load(kw=30.0),), renewables=sources, pv_kw=10.0))
    assert out.pv_kw == pytest.approx((0.0,))  # it costs nothing
    assert out.renewable_kw["wind"] == pytest.approx((0.0,))
    assert out.renewable_kw["sun"] == pytest.approx((50.0,))
    assert out.objective == pytest.approx(0.5 * 30.0 * 0.01)
    assert out.cost_terms == pytest.approx({"curtailment": 0.15})
    assert out.notes == ("wind: curtailed: up to 30.0 kW, 15.0 kWh in the window, first at 01 00:00 UTC",)


def test_what_must_be_taken_pushes_a_unit_aside():
    """60 and 40 kW of water beside 50 kW of load: 10 kWh are stored, and the unit's 20 kW have no room."""
    store = Storage(id="b", energy_kwh=10.0, p_charge_kw=10.0, p_discharge_kw=10.0)
    water = Renewable(id="water", kw=(60.0, 40.0), must_take=True)
    load = Load(kw=50.0, voll_per_kwh=5.0)
    case = Case(steps=2, units=(unit(),), storages=(store,), renewables=(water,), loads=(load,))
    out = solved(case)
    assert out.on["g"] == (0, 0)
    assert out.renewable_kw["water"] == pytest.approx((60.0, 40.0))
    assert out.storage_kw["b"] == pytest.approx((-10.0, 10.0))
    assert out.objective == pytest.approx(0.0, abs=1e-6)
    assert out.notes == ()


def test_what_cannot_be_taken_costs_more_than_load_left_unserved_and_is_noted():
    """25 kW into 20 kW of load: 5 kWh at one and a half times the VOLL."""
    water = Renewable(id="water", kw=25.0, must_take=True)
    out = solved(Case(steps=1, grid=Grid(), loads=(Load(kw=20.0, voll_per_kwh=4.0),), renewables=(water,)))
    assert out.objective == pytest.approx(5.0 * 6.0)
    assert out.notes[0].startswith("water: curtailed: up to 5.0 kW")


def test_load_below_nothing_is_stored_or_sold():
    """8 kW too many at first, 8 kW of load then at 0.3 from the grid, which pays 0.1: all of it is stored."""
    store = Storage(id="b", energy_kwh=10.0, p_charge_kw=10.0, p_discharge_kw=10.0)
    grid = Grid(import_per_kwh=0.3, export_per_kwh=0.1, export_kw_max=5.0)
    out = solved(Case(steps=2, grid=grid, storages=(store,), loads=(Load(kw=(-8.0, 8.0)),)))
    assert out.storage_kw["b"] == pytest.approx((-8.0, 8.0))
    assert out.objective == pytest.approx(0.0, abs=1e-6)
    assert out.renewable_kw["load below 0"] == pytest.approx((8.0, 0.0))
    assert out.unserved_kw["load"] == pytest.approx((0.0, 0.0))


# --- storage ------------------------------------------------------------------------------------------------


def test_a_storage_keeps_its_floor_and_its_ceiling_step_by_step():
    """10 kWh by the second hour at 0.3, and at most 5 after the last, although a kWh kept is worth 1."""
    store = Storage(
        id="ev", energy_kwh=20.0, p_charge_kw=20.0, p_discharge_kw=20.0, end_value_per_kwh=1.0,
        soc_floor=(0.0, 0.5, 0.0, 0.0), soc_ceiling=(1.0, 1.0, 1.0, 0.25),
    )  # fmt: skip
    grid = Grid(import_per_kwh=(0.4, 0.3, 0.1, 0.2), export_kw_max=20.0)
    out = solved(Case(steps=4, grid=grid, storages=(store,)))
    assert out.soc_end["ev"][0] == pytest.approx(0.0, abs=1e-6)
    assert out.soc_end["ev"][1] == pytest.approx(0.5)
    assert out.soc_end["ev"][3] == pytest.approx(0.25)
    assert out.objective == pytest.approx(10.0 * 0.3 - 5.0)


def test_a_storage_charges_only_while_it_is_plugged_in():
    """10 kWh are wanted by the end; the cheap first hour finds it away, the second gives 4 kWh."""
    store = Storage(
        id="ev", energy_kwh=10.0, p_charge_kw=(0.0, 4.0, 10.0), p_discharge_kw=(0.0, 4.0, 10.0),
        soc_end_min=1.0,
    )  # fmt: skip
    out = solved(Case(steps=3, grid=Grid(import_per_kwh=(0.1, 0.2, 0.3)), storages=(store,)))
    assert out.storage_kw["ev"] == pytest.approx((0.0, -4.0, -6.0), abs=1e-6)
    assert out.objective == pytest.approx(0.8 + 1.8, abs=1e-6)


# --- demand -------------------------------------------------------------------------------------------------


def test_each_demand_window_and_period_has_its_own_peak():
    """Two periods of two hours, each with a charge of its own, and one on peak (the second hours) at 3.

    Peaks: 50 and 80 by period at 1 and 2 a kW, the 30 kW before sunk in the first; on peak 60, 45 sunk.
    """
    windows = (
        DemandWindow(per_kw=1.0, steps=(True, True, False, False), peak_so_far_kw=30.0),
        DemandWindow(per_kw=2.0, steps=(False, False, True, True)),
        DemandWindow(per_kw=3.0, steps=(False, True, False, True), peak_so_far_kw=45.0),
    )
    out = solved(Case(steps=4, grid=Grid(demands=windows), loads=(Load(kw=(50.0, 40.0, 80.0, 60.0)),)))
    assert out.cost_terms == pytest.approx({"demand_charges": 20.0 + 160.0 + 45.0})
    assert out.demand_peaks_kw == pytest.approx((50.0, 80.0, 60.0))
    assert out.peak_kw == pytest.approx(80.0)


def test_a_storage_shaves_the_window_that_costs():
    """10 kWh against an hour on peak of 60 kW, bought off peak at the same price: 10 kW at 3 are saved."""
    store = Storage(id="b", energy_kwh=10.0, p_charge_kw=10.0, p_discharge_kw=10.0)
    grid = Grid(import_per_kwh=0.1, demands=(DemandWindow(per_kw=3.0, steps=(False, True)),))
    out = solved(Case(steps=2, grid=grid, storages=(store,), loads=(Load(kw=60.0),)))
    assert out.objective == pytest.approx(0.1 * 120.0 + 3.0 * 50.0)
    assert out.demand_peaks_kw == pytest.approx((50.0,))


# --- all of it together, by another program -----------------------------------------------------------------


def random_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    T, h = int(rng.integers(4, 7)), float(rng.choice([0.5, 1.0]))
    one = float(rng.uniform(20.0, 60.0))
    units = (
        unit(
            "block", one, one, start_cost=float(rng.uniform(0, 9)), stop_cost=float(rng.uniform(0, 9)),
            state_h=3.0,
        ),
        unit(
            "set", 15.0, float(rng.uniform(40, 90)), start_cost=float(rng.uniform(0, 9)),
            stop_cost=float(rng.uniform(0, 9)), state_h=float(rng.choice([-4.0, 4.0])),
            cost=QuadraticCost(a_per_h=float(rng.uniform(0, 5)), b_per_kwh=float(rng.uniform(0.1, 0.4))),
        ),
    )  # fmt: skip
    low = rng.choice([0.0, 0.3, 0.5], T)
    low[0] = 0.0
    store = Storage(
        id="b", energy_kwh=60.0, p_charge_kw=rng.choice([0.0, 20.0, 40.0], T) + np.eye(1, T)[0],
        p_discharge_kw=rng.choice([0.0, 20.0, 40.0], T) + np.eye(1, T)[0], eta_charge=0.9, eta_discharge=0.85,
        soc_start=0.5, soc_floor=np.minimum(low, 0.5), soc_ceiling=rng.choice([0.5, 0.8, 1.0], T),
    )  # fmt: skip
    grid = Grid(
        import_per_kwh=rng.uniform(0.05, 0.5, T), export_per_kwh=0.04, import_kw_max=70.0,
        export_kw_max=float(rng.choice([0.0, 10.0])), billing_interval_h=float(rng.choice([0.5, 1.0])),
        demands=tuple(
            DemandWindow(
                per_kw=float(rng.uniform(0.1, 2.0)), steps=rng.random(T) < 0.5,
                peak_so_far_kw=float(rng.choice([0.0, 20.0])),
            )
            for _ in range(3)
        ),
    )  # fmt: skip
    sources = (
        Renewable(id="sun", kw=rng.uniform(0, 60, T), curtail_per_kwh=float(rng.uniform(0, 0.1))),
        Renewable(id="water", kw=rng.uniform(0, 30, T), must_take=True),
    )
    load = Load(kw=rng.uniform(-30.0, 120.0, T), voll_per_kwh=VOLL)
    return Case(
        steps=T, step_h=h, units=units, storages=(store,), grid=grid, renewables=sources, loads=(load,)
    )


class Oracle:
    """A mixed-integer program of such a case, written anew: columns by name, rows one by one."""

    def __init__(self) -> None:
        self.low: list[float] = []
        self.high: list[float] = []
        self.cost: list[float] = []
        self.whole: list[int] = []
        self.rows: list[tuple[dict[int, float], float, float]] = []

    def var(self, high: float, cost: float = 0.0, low: float = 0.0, whole: int = 0) -> int:
        self.low.append(low)
        self.high.append(high)
        self.cost.append(cost)
        self.whole.append(whole)
        return len(self.low) - 1

    def row(self, terms: dict[int, float], low: float, high: float) -> None:
        self.rows.append((terms, low, high))

    def least(self) -> float:
        matrix = np.zeros((len(self.rows), len(self.low)))
        for i, (terms, _, _) in enumerate(self.rows):
            for j, x in terms.items():
                matrix[i, j] += x
        limits = LinearConstraint(matrix, [r[1] for r in self.rows], [r[2] for r in self.rows])
        found = milp(
            self.cost, constraints=limits, bounds=Bounds(self.low, self.high), integrality=self.whole,
            options={"mip_rel_gap": 0.0},
        )  # fmt: skip
        assert found.success, found.message
        return float(found.fun)


def best_cost(case: Case) -> float:
    """The optimum of the oracle."""
    o, grid, (store,), (load,) = Oracle(), case.grid, case.storages, case.loads
    assert grid is not None
    T, h = case.steps, float(np.asarray(case.step_h))
    buy, floor, top = (np.asarray(x) for x in (grid.import_per_kwh, store.soc_floor, store.soc_ceiling))
    into, out_of = np.asarray(store.p_charge_kw), np.asarray(store.p_discharge_kw)
    net, inf, constant = np.asarray(load.kw), np.inf, 0.0
    before: dict[str, tuple[int | None, float]] = {x.id: (None, float(x.state_h > 0.0)) for x in case.units}
    stored: int | None = None
    imports = []
    for t in range(T):
        bus: dict[int, float] = {}
        for x in case.units:
            assert isinstance(x.cost, QuadraticCost)
            on = o.var(1.0, x.cost.a_per_h * h, whole=1)
            p = o.var(x.p_max_kw, x.cost.b_per_kwh * h)
            start, stop = o.var(1.0, x.start_cost, whole=1), o.var(1.0, x.stop_cost, whole=1)
            o.row({p: 1.0, on: -x.p_min_kw}, 0.0, inf)
            o.row({p: 1.0, on: -x.p_max_kw}, -inf, 0.0)
            last, was = before[x.id]
            moved = {on: 1.0, start: -1.0, stop: 1.0} | ({} if last is None else {last: -1.0})
            o.row(moved, was if last is None else 0.0, was if last is None else 0.0)
            before[x.id] = (on, 0.0)
            bus[p] = 1.0
        charge, discharge, way = o.var(into[t]), o.var(out_of[t]), o.var(1.0, whole=1)
        o.row({charge: 1.0, way: -into[t]}, -inf, 0.0)
        o.row({discharge: 1.0, way: out_of[t]}, -inf, out_of[t])
        now = o.var(top[t] * store.energy_kwh, low=floor[t] * store.energy_kwh)
        flows = {now: 1.0, charge: -h * store.eta_charge, discharge: h / store.eta_discharge}
        had = store.soc_start * store.energy_kwh if stored is None else 0.0
        o.row(flows | ({} if stored is None else {stored: -1.0}), had, had)
        stored = now
        bought, sold = o.var(70.0, buy[t] * h), o.var(float(np.asarray(grid.export_kw_max)), -0.04 * h)
        imports.append(bought)
        side = o.var(1.0, whole=1)
        o.row({bought: 1.0, side: -70.0}, -inf, 0.0)
        o.row({sold: 1.0, side: 1e3}, -inf, 1e3)
        taken = [
            (np.asarray(x.kw)[t], MUST_TAKE if x.must_take else x.curtail_per_kwh) for x in case.renewables
        ]
        for kw, per_kwh in [*taken, (max(0.0, -net[t]), MUST_TAKE)]:
            bus[o.var(kw, -per_kwh * h)] = 1.0
            constant += per_kwh * h * kw
        shed, surplus = o.var(max(0.0, net[t]), VOLL * h), o.var(inf, SURPLUS * h)
        bus |= {charge: -1.0, discharge: 1.0, bought: 1.0, sold: -1.0, shed: 1.0, surplus: -1.0}
        o.row(bus, max(0.0, net[t]), max(0.0, net[t]))
    per = max(1, round(grid.billing_interval_h / h))
    for window in grid.demands:
        peak = o.var(inf, window.per_kw, low=window.peak_so_far_kw)
        constant -= window.per_kw * window.peak_so_far_kw
        counts = np.broadcast_to(np.asarray(window.steps), T)
        for first in range(0, T, per):
            inside = range(first, min(first + per, T))
            if any(counts[t] for t in inside):
                o.row({peak: -1.0} | {imports[t]: 1.0 / per for t in inside}, -inf, 0.0)
    return o.least() + constant


@pytest.mark.parametrize("block", range(5))
def test_random_cases_of_all_elements_cost_what_another_program_says(block: int):
    for seed in range(12 * block, 12 * (block + 1)):
        case = random_case(seed)
        assert solved(case).objective == pytest.approx(best_cost(case), abs=1e-4, rel=1e-6), f"seed {seed}"


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: unit(stop_cost=-1.0), ("unit g: stop_cost", "-1.0")),
        (lambda: unit(low=0.0, high=0.0), ("unit g: p_max_kw", "0.0")),
        (lambda: DemandWindow(per_kw=-1.0), ("demand window: per_kw", "-1.0")),
        (
            lambda: Renewable(id="sun", kw=1.0, curtail_per_kwh=-1.0),
            ("renewable sun: curtail_per_kwh", "-1.0"),
        ),
        (
            lambda: solve_case(Case(steps=1, renewables=(Renewable(id="sun", kw=-1.0),))),
            ("renewable sun: kw[0]", "-1.0"),
        ),
        (lambda: Case(steps=1, renewables=(Renewable(id="pv", kw=1.0),)), ("case: id", "'pv'")),
        (
            lambda: solve_case(Case(steps=2, grid=Grid(demands=(DemandWindow(per_kw=1.0, steps=(True,)),)))),
            ("demand window: steps", "shape (1,)"),
        ),
        (
            lambda: Storage(id="b", energy_kwh=1.0, p_charge_kw=(1.0, -2.0), p_discharge_kw=1.0),
            ("storage b: p_charge_kw", "-2.0"),
        ),
        (
            lambda: Storage(id="b", energy_kwh=1.0, p_charge_kw=0.0, p_discharge_kw=0.0),
            ("storage b: p_charge_kw, p_discharge_kw, at their highest", "0.0"),
        ),
        (
            lambda: solve_case(
                Case(
                    steps=2,
                    storages=(
                        Storage(
                            id="b",
                            energy_kwh=1.0,
                            p_charge_kw=1.0,
                            p_discharge_kw=1.0,
                            soc_floor=0.6,
                            soc_ceiling=(1.0, 0.5),
                        ),
                    ),
                )
            ),
            ("storage b: soc_ceiling[1]", "0.5", "at least 0.6"),
        ),
    ],
)
def test_bad_values_are_refused_by_name(make: Callable[[], object], words: tuple[str, ...]):
    with pytest.raises(BadValue) as bad:
        make()
    for word in words:
        assert word in str(bad.value)
