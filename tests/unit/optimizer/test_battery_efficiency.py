"""Points of efficiency in the model: exact where their loss is convex, and by binaries where it is not."""

from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from dispatch.controllers.plan_check import check_plan
from ems.loss_curve import LossCurve
from ems.site import GridMode
from optimizer import Case, Grid, Load, Planner, Storage, solve_case
from optimizer.bound import period_bound
from optimizer.explain import Posed, explain
from optimizer.formulations.battery import bent
from optimizer.intake import planning_problem
from optimizer.repair import held
from optimizer.solve import Effort
from optimizer.structure import structure_of
from plant_models import battery
from tests.unit.optimizer.explanation_check import Checker
from tests.unit.optimizer.posing import EXACT, PLAIN, Pose, feeder, ideal_bess, objective, small_site
from tests.unit.optimizer.test_bound import truth
from tests.unit.optimizer.test_two_stage import over, plan_of, varied

CONVEX = LossCurve(p_kw=(0.0, 4.0, 10.0), loss_kw=(0.0, 0.2, 1.4))  # slopes of 0.05 and 0.2
DEAR_AT_FIRST = LossCurve(p_kw=(0.0, 2.0, 10.0), loss_kw=(0.0, 1.0, 1.4))  # slopes of 0.5 and 0.05
LOAD = feeder("load", voll=20.0)


def pose(price: Any, load: Any, steps: int, soc: float, **battery_: Any) -> Pose:
    site = small_site(bess=[ideal_bess(**battery_)], feeders=[LOAD])
    return Pose(site=site, load_kw={"load": load}, import_per_kwh=price, steps=steps, soc=soc)


def test_convex_points_are_pieces_of_the_model_by_hand() -> None:
    """2 kWh are drawn over two hours for 4 at 0.3: 1 kW each is 1.05 drawn, 4 kW at once 4.2."""
    plan = pose([0.3, 0.3], 10.0, 2, 0.84, discharge_curve=CONVEX).plan()
    assert plan.bess_p_kw["bess1"] == pytest.approx(
        (4.0, 4.0)
    )  # 8.4 kWh: not 8 kW in one hour, which draws 9
    assert plan.bess_soc_end["bess1"] == pytest.approx((0.42, 0.0), abs=1e-6)
    assert objective(plan) == pytest.approx(0.3 * 12.0, abs=1e-5)


def test_dear_first_stretch_is_paid_in_full_by_hand() -> None:
    """4.2 kWh: in one hour 2 kW draw 3 and 1.2 / 1.05 more draw 1.2; two hours would draw dear twice."""
    plan = pose([0.3, 0.3], 10.0, 2, 0.42, discharge_curve=DEAR_AT_FIRST).plan()
    out = sorted(plan.bess_p_kw["bess1"])
    assert out == pytest.approx([0.0, 2.0 + 1.2 / 1.05], abs=1e-6)
    assert objective(plan) == pytest.approx(0.3 * (20.0 - 2.0 - 1.2 / 1.05), abs=1e-5)


def test_small_charge_that_does_not_pay_is_left_alone() -> None:
    """Bought at 0.1 for 0.16: of 2 kW half is stored, of 10 kW 8.6."""
    cheap_first = pose([0.1, 0.16], [0.0, 10.0], 2, 0.0, charge_curve=DEAR_AT_FIRST, p_charge_kw_max=2.0)
    assert cheap_first.plan().bess_p_kw["bess1"] == pytest.approx((0.0, 0.0), abs=1e-6)  # 0.1 / 0.5 > 0.16
    whole = pose([0.1, 0.16], [0.0, 10.0], 2, 0.0, charge_curve=DEAR_AT_FIRST)
    assert whole.plan().bess_p_kw["bess1"] == pytest.approx((-10.0, 8.6), abs=1e-6)  # 0.1 / 0.86 < 0.16


def storage(rng: np.random.Generator) -> Storage:
    """Two stretches each way, convex or not."""

    def points(top: float, *, charge: bool) -> tuple[tuple[float, float], ...]:
        p = (float(rng.uniform(0.2, 0.6)) * top, top)
        loss = np.cumsum([rng.uniform(0.0, 0.35) * p[0], rng.uniform(0.0, 0.35) * (top - p[0])]) + 0.2
        return tuple(
            (x, (x - y) / x if charge else x / (x + y)) for x, y in zip(p, loss.tolist(), strict=True)
        )

    charge, discharge = (float(x) for x in rng.uniform(10.0, 30.0, 2))
    return Storage(
        id="store", energy_kwh=float(rng.uniform(30.0, 60.0)), p_charge_kw=charge, p_discharge_kw=discharge,
        soc_start=float(rng.uniform(0.1, 0.9)), efficiency_charge=points(charge, charge=True),
        efficiency_discharge=points(discharge, charge=False), no_load_loss_kw=0.2, soc_end_min=0.1,
        end_value_per_kwh=float(rng.uniform(0.0, 0.2)),
    )  # fmt: skip


def least_cost(x: Storage, load: np.ndarray, price: np.ndarray) -> float:
    """Every stretch of every hour enumerated: within one the loss is a line, the rest a linear program."""
    T = len(load)
    ways = []
    for sign, points in ((-1.0, x.efficiency_charge), (1.0, x.efficiency_discharge)):
        ends = [(0.0, 0.0)] + [(p, p * (1.0 - e) - 0.2 if sign < 0.0 else p / e - p - 0.2) for p, e in points]
        for (a, la), (b, lb) in pairwise(ends):
            ways.append((sign, a, b, la, (lb - la) / (b - a)))
    best = np.inf
    for chosen in product(ways, repeat=T):
        # variables: p_t in its stretch, import_t; stored_t = start + sum of what flows
        rows, rhs, offset = np.zeros((T, 2 * T)), np.zeros(T), x.soc_start * x.energy_kwh
        gain, offsets = np.zeros(T), np.zeros(T)
        for t, (sign, a, _, la, slope) in enumerate(chosen):
            gain[t], offsets[t] = -sign - slope, -(la - slope * a) - 0.2
        level = np.cumsum(offsets) + offset
        stored = np.zeros((T, 2 * T))
        for t in range(T):
            stored[t, : t + 1] = gain[: t + 1]
            rows[t, t], rows[t, T + t] = chosen[t][0], 1.0
            rhs[t] = load[t]
        low = np.zeros(T)
        low[-1] = x.soc_end_min * x.energy_kwh
        cost = np.concatenate([np.zeros(T), price]) - x.end_value_per_kwh * stored[-1]
        done = linprog(
            cost, np.vstack([-stored, stored]), np.concatenate([level - low, x.energy_kwh - level]),
            rows, rhs, [(a, b) for _, a, b, _, _ in chosen] + [(0.0, 200.0)] * T, method="highs",
        )  # fmt: skip
        if done.status == 0:
            best = min(best, done.fun - x.end_value_per_kwh * (level[-1] - offset))
    return best


@pytest.mark.parametrize("seed", range(4))
def test_case_costs_what_the_best_of_all_stretches_costs(seed: int) -> None:
    rng = np.random.default_rng([41, seed])
    x, load, price = storage(rng), rng.uniform(5.0, 40.0, 3), rng.uniform(0.05, 0.5, 3)
    grid = Grid(import_per_kwh=tuple(price.tolist()), import_kw_max=200.0)
    done = solve_case(Case(steps=3, grid=grid, storages=(x,), loads=(Load(kw=tuple(load.tolist())),)))
    assert not done.faults
    assert done.objective == pytest.approx(least_cost(x, load, price), abs=1e-6, rel=1e-6)


def test_case_stores_what_its_points_say_to_the_digit() -> None:
    """The replay of a case allows 1e-5; the first stretch alone loses 0.5 of each kWh."""
    x = Storage(
        id="store", energy_kwh=20.0, p_charge_kw=10.0, p_discharge_kw=10.0, soc_start=0.5,
        efficiency_discharge=((2.0, 2.0 / 3.0), (10.0, 10.0 / 11.4)),
    )  # fmt: skip
    done = solve_case(
        Case(steps=2, grid=Grid(import_per_kwh=0.2), storages=(x,), loads=(Load(kw=(1.0, 6.0)),))
    )
    assert not done.faults
    assert done.storage_kw["store"] == pytest.approx((1.0, 6.0))
    assert done.soc_end["store"] == pytest.approx((0.425, 0.425 - 7.2 / 20.0))
    told = replace(x, no_load_loss_kw=None)  # 1 - 2 (1.4 - 1) / 8 = 0.9 at no power
    assert told.standing_kw == pytest.approx(0.9)
    stood = solve_case(Case(steps=1, grid=Grid(import_per_kwh=0.2), storages=(told,), loads=(Load(kw=0.0),)))
    assert stood.soc_end["store"] == pytest.approx((0.5 - 0.9 / 20.0,))


@pytest.mark.parametrize("curve", [CONVEX, DEAR_AT_FIRST], ids=["convex", "bent"])
@pytest.mark.parametrize("mode", [GridMode.GRID_TIED, GridMode.ISLANDED])
def test_plan_and_plant_agree_on_every_step(curve: LossCurve, mode: GridMode) -> None:
    """Six hours in quarters through the plant, the edge's check, and the bound of the period."""
    rng = np.random.default_rng(5)
    load = rng.uniform(1.0, 9.0, 24)
    posed = replace(
        pose(
            rng.uniform(0.05, 0.4, 24), load, 24, 0.6, charge_curve=curve, discharge_curve=curve,
            no_load_loss_kw=0.02, energy_kwh=60.0, soc_min=0.1,
        ), step_s=900.0, mode=mode,
    )  # fmt: skip
    plan = posed.plan()
    params, stored = posed.site.bess[0].battery, 36.0
    for p_kw, soc in zip(plan.bess_p_kw["bess1"], plan.bess_soc_end["bess1"], strict=True):
        stored, _ = battery.step(params, stored, p_kw, 900.0)
        assert stored == pytest.approx(60.0 * soc, abs=1e-3)
    assert check_plan(posed.site, plan, posed.at, -1) == ()
    if mode is GridMode.GRID_TIED:
        known = truth(posed.site, load, price=posed.import_per_kwh, soc=0.6, step_s=900.0, stored_per_kwh=0.0)
        bound = period_bound(posed.site, known)
        assert bound.cost - bound.terms["fixed_cost"] <= objective(plan) + 1e-6


def test_plan_over_scenarios_keeps_the_order_in_the_one_it_publishes() -> None:
    posed = pose([0.1, 0.2, 0.4, 0.3], 5.0, 4, 0.5, discharge_curve=DEAR_AT_FIRST, energy_kwh=20.0)
    forecast = varied(posed.forecast(), [(0.6, {"load": [5.0] * 4}), (0.4, {"load": [5.0, 7.0, 3.0, 6.0]})])
    plan = plan_of(posed, forecast, over())
    assert plan.scenarios is not None
    stored = 10.0
    for p_kw, soc in zip(plan.bess_p_kw["bess1"], plan.bess_soc_end["bess1"], strict=True):
        stored, _ = battery.step(posed.site.bess[0].battery, stored, p_kw, 3600.0)
        assert stored == pytest.approx(20.0 * soc, abs=1e-4)


def test_binaries_are_spent_on_edges_that_are_bent_and_in_whole_steps_alone() -> None:
    posed = pose(0.2, 5.0, 4, 0.5, discharge_curve=DEAR_AT_FIRST, charge_curve=CONVEX)
    p = planning_problem(posed.site, posed.condition(), posed.forecast(), EXACT)
    p = replace(p, integral=np.array([True, True, False, False]))
    planner = Planner(posed.site, EXACT)
    compiled, _ = planner.solver(p.grid, planner.formulation(p))
    whole = compiled.numbers(p).integer["piece_full"]
    assert whole[0].sum() == 0  # charge
    assert whole[1, 0, 0].tolist() == [True, True, False, False]
    convex = replace(posed.site, bess=(ideal_bess(discharge_curve=CONVEX),))
    assert not bent(structure_of(convex, p.grid, PLAIN)).any()
    assert "piece_full" not in Planner(convex, EXACT).solver(p.grid, PLAIN)[0].shapes


def test_given_commitment_leaves_the_order_of_a_bent_loss_to_the_linear_program() -> None:
    """Held at empty it could give no more than the first 2 kW, and lose load."""
    posed = replace(
        pose(0.2, 8.0, 2, 1.0, discharge_curve=DEAR_AT_FIRST, energy_kwh=40.0), mode=GridMode.ISLANDED
    )
    p = planning_problem(posed.site, posed.condition(), posed.forecast(), EXACT)
    planner = Planner(posed.site, EXACT)
    compiled, session = planner.solver(p.grid, planner.formulation(p))
    filled = held(compiled, compiled.fill(compiled.numbers(p)), None)
    assert not filled.integer.any()
    done = session.solve(filled, Effort(gap_ratio=0.0, gap_abs=0.0, time_limit_s=None, node_limit=None))
    assert done.x is not None
    v = compiled.values(done.x)
    assert v["discharge_kw"].sum(axis=1)[0] == pytest.approx([8.0, 8.0])
    assert v["shed_kw"].sum() == pytest.approx(0.0, abs=1e-6)


def test_plan_over_a_bent_loss_is_explained_and_says_what_is_held() -> None:
    posed = pose([0.1, 0.1, 0.4, 0.4], 10.0, 4, 0.3, discharge_curve=DEAR_AT_FIRST, energy_kwh=30.0)
    plan = posed.plan()
    asked = Posed(site=posed.site, condition=posed.condition(), forecast=posed.forecast(), options=EXACT)
    e = explain(asked, plan)
    assert any("points of its efficiency" in x for x in e.notes)
    done = Checker(asked, plan, e).run()
    assert not done.false, "\n".join(done.false)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"efficiency_charge": ((5.0, 0.9), (5.0, 0.9))}, ("efficiency_charge[1] p_kw", "more than 5 kW")),
        ({"efficiency_charge": ((10.0, 1.2),)}, ("efficiency_charge[0] eta_ratio", "1.2")),
        ({"efficiency_charge": ((5.0, 0.9), (10.0, 0.99))}, ("efficiency_charge[1]", "at most 0.95")),
        (
            {"efficiency_discharge": ((5.0, 0.9),)},
            ("efficiency_discharge[0] p_kw", "at least p_discharge_kw, 10"),
        ),
        (
            {"efficiency_discharge": ((10.0, 0.9),), "eta_discharge": 0.95},
            ("eta_discharge", "0.95", "1, beside"),
        ),
        ({"efficiency_discharge": ((10.0, "0.9"),)}, ("efficiency_discharge", "two numbers")),
        (
            {"efficiency_charge": ((10.0, 0.9),), "no_load_loss_kw": 1.5},
            ("no_load_loss_kw", "1.5", "first row of efficiency_charge, 1"),
        ),
    ],
)
def test_storage_refuses_points_that_are_none(changes: dict[str, Any], said: tuple[str, ...]) -> None:
    values: dict[str, Any] = {"id": "s", "energy_kwh": 10.0, "p_charge_kw": 10.0, "p_discharge_kw": 10.0}
    with pytest.raises(Exception, match="storage s") as caught:
        Storage(**(values | changes))
    assert all(x in str(caught.value) for x in said), str(caught.value)
