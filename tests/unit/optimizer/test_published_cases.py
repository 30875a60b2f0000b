"""Problems with known answers, posed as cases: the shared small ones by id, and the ten units of Kazarlis.

Kazarlis, Bakirtzis and Petridis, IEEE Trans. Power Systems 11(1), 1996, 83-92, 10.1109/59.485989: ten units,
24 h, quadratic costs, hot and cold starts, ten per cent of reserve. In MW and MWh, which a case allows.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from optimizer import Case, Grid, Load, QuadraticCost, Solution, Storage, Unit, solve_case
from tests.unit.optimizer.published import kazarlis

Spec = Mapping[str, Any]


def solved(case: Case) -> Solution:
    out = solve_case(case)
    assert out.status == "optimal"
    assert not out.faults
    return out


def genset(unit_id: str = "g", high: float = 100.0, low: float = 30.0, **changes: Any) -> Unit:
    return Unit(id=unit_id, p_min_kw=low, p_max_kw=high, **changes)


def d01(x: Spec) -> None:
    store = Storage(
        id="b", energy_kwh=10.0, p_charge_kw=20.0, p_discharge_kw=20.0, soc_start=0.5, soc_end_min=0.5,
        charge_per_kwh=0.1, discharge_per_kwh=0.1,
    )  # fmt: skip
    grid = Grid(import_per_kwh=0.2, demand_per_kw=2.0, peak_so_far_kw=x["peak_so_far"])
    load = Load(kw=(1.0, 1.0, 5.0, 1.0, 1.0, 1.0))
    out = solved(Case(steps=6, storages=(store,), grid=grid, loads=(load,)))
    assert out.objective is not None
    assert out.objective + 2.0 * x["peak_so_far"] == pytest.approx(x["objective"], abs=1e-6)
    assert out.peak_kw == pytest.approx(x["peak"], abs=1e-6)
    if x.get("bess") == "idle":
        assert out.storage_kw["b"] == pytest.approx([0.0] * 6, abs=1e-6)


def d03(x: Spec) -> None:
    machine = genset(
        cost=QuadraticCost(b_per_kwh=0.3),
        min_up_h=x.get("min_up", 0.0),
        min_down_h=x.get("min_down", 0.0),
        state_h=x.get("hours_on_before", 0.0) - x.get("hours_off_before", 0.0),
    )
    grid = Grid(import_per_kwh=0.1, available=[bool(a) for a in x.get("grid", [1, 1, 1, 1])])
    out = solved(Case(steps=4, units=(machine,), grid=grid, loads=(Load(kw=50.0, voll_per_kwh=10.0),)))
    assert out.objective == pytest.approx(x["cost"], abs=1e-6)
    assert list(out.on["g"]) == x["u"]
    assert sum(out.unserved_kw["load"]) == pytest.approx(x.get("unserved_kwh", 0.0), abs=1e-6)


def d05(x: Spec) -> None:
    three = tuple(genset(f"g{k}", cost=QuadraticCost(a_per_h=5.0, b_per_kwh=0.25)) for k in range(3))
    reserve_kw = x.get("R", 0.0)
    store = Storage(
        id="b",
        energy_kwh=1e3,
        p_charge_kw=1e-6,
        p_discharge_kw=max(reserve_kw, 1.0),
        soc_start=0.5,
        soc_end_min=0.5,
    )  # holds power ready and gives no energy
    case = Case(
        steps=1,
        units=three,
        storages=(store,) if reserve_kw else (),
        loads=(Load(kw=150.0),),
        n_minus_1=x["n1"],
    )
    out = solved(case)
    assert out.objective == pytest.approx(x["cost"], abs=1e-4)
    assert sum(on[0] for on in out.on.values()) == x["units"]


def d07(x: Spec) -> None:
    first, second = x["rates"]
    grid = Grid(blocks=((500.0, first), (None, second)), import_so_far_kwh=300.0)
    out = solved(Case(steps=4, grid=grid, loads=(Load(kw=100.0),)))
    assert out.objective == pytest.approx(x["cost"], abs=1e-6)


def d10(x: Spec) -> None:
    machine = genset(high=60.0, low=0.0, cost=QuadraticCost(b_per_kwh=0.3))
    loads = tuple(
        Load(id=f"l{k}", kw=kw, voll_per_kwh=v) for k, (kw, v) in enumerate(((40, 10), (30, 3), (30, 0.5)))
    )
    out = solved(Case(steps=1, units=(machine,), loads=loads))
    assert out.objective == pytest.approx(x["cost"], abs=1e-6)
    assert [out.unserved_kw[load.id][0] for load in loads] == pytest.approx(x["shed"], abs=1e-6)


def d12(x: Spec) -> None:
    store = Storage(
        id="b",
        energy_kwh=10.0,
        p_charge_kw=10.0,
        p_discharge_kw=10.0,
        eta_charge=0.9,
        eta_discharge=0.9,
        soc_start=1.0,
    )
    grid = Grid(import_per_kwh=-0.05, export_per_kwh=-0.05, import_kw_max=20.0, export_kw_max=20.0)
    out = solved(Case(steps=1, storages=(store,), grid=grid))
    assert out.objective == pytest.approx(-x["profit"], abs=1e-9)


def d14(x: Spec) -> None:
    store = Storage(
        id="b",
        energy_kwh=10.0,
        p_charge_kw=20.0,
        p_discharge_kw=20.0,
        soc_start=1.0,
        end_value_per_kwh=x["lam"],
    )
    grid = Grid(import_per_kwh=0.2, export_per_kwh=0.1, export_kw_max=20.0)
    out = solved(Case(steps=1, storages=(store,), grid=grid))
    assert out.storage_kw["b"][0] == pytest.approx(x["discharge"], abs=1e-6)


POSED: dict[str, Callable[[Spec], None]] = {
    "D01": d01, "D03": d03, "D05": d05, "D07": d07, "D10": d10, "D12": d12, "D14": d14,
}  # fmt: skip


def test_small_cases_have_their_known_answers(known_answers: Path):
    """All of them; a new one fails until somebody poses it."""
    cases = json.loads((known_answers / "small_cases.json").read_text(encoding="utf-8"))["cases"]
    assert {case["id"] for case in cases} == set(POSED)
    for case in cases:
        for x in case["expected"] if isinstance(case["expected"], list) else [case["expected"]]:
            POSED[case["id"]](x)


# --- the ten units of Kazarlis ------------------------------------------------------------------------------


def check_kazarlis(case: Case, optimum: float, gap_ratio: float) -> Solution:
    """The known optimum of the exact quadratic cost lies between bound and plan, and the plan is near it."""
    out = solve_case(case, gap_ratio=gap_ratio)
    assert out.status == "optimal"
    assert not out.faults
    assert not out.notes, "nothing is unserved or short"
    assert out.exact_cost is not None
    assert out.exact_bound is not None
    assert out.exact_bound <= optimum + 0.01 <= out.exact_cost + 0.02
    assert out.exact_cost == pytest.approx(optimum, rel=1e-4)
    return out


def test_kazarlis_ten_units_cost_the_known_optimum(known_answers: Path):
    """To the cent, although the chords may be 15 off in all (0.003 %)."""
    out = check_kazarlis(kazarlis(known_answers), 563_937.69, 0.0)
    assert out.exact_cost == pytest.approx(563_937.69, abs=0.02)


def test_kazarlis_twenty_units_cost_the_known_optimum(known_answers: Path):
    """To the cent: the two of each kind are one fleet, whose machines share their load."""
    out = check_kazarlis(kazarlis(known_answers, 2), 1_123_297.43, 0.0)
    assert out.exact_cost == pytest.approx(1_123_297.43, abs=0.02)


@pytest.mark.soak
@pytest.mark.parametrize(("times", "best"), [(4, 2_242_575.50), (6, 3_359_955.01), (10, 5_597_770.34)])
def test_kazarlis_forty_to_a_hundred_units_reach_the_best_known(known_answers: Path, times: int, best: float):
    out = check_kazarlis(kazarlis(known_answers, times), best, 1e-5)
    assert out.exact_cost == pytest.approx(best, rel=1e-6)
