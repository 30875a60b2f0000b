"""A storage posed in Python: wear by depth of cycle, standing losses, less power near full and empty."""

import math
from collections.abc import Callable

import pytest

from ems.errors import BadValue
from optimizer import Case, CycleLife, Grid, Load, Storage, solve_case

LIFE = CycleLife(depth_ratio=(0.5, 1.0), cycles_count=(1_000.0, 250.0), replacement_cost=1_000.0)


def storage(**changes: object) -> Storage:
    values: dict[str, object] = {
        "id": "store", "energy_kwh": 10.0, "p_charge_kw": 10.0, "p_discharge_kw": 10.0, "soc_start": 1.0,
    }  # fmt: skip
    return Storage(**(values | changes))  # type: ignore[arg-type]


def test_cycles_of_a_published_kind_arbitrage_only_as_deep_as_the_spread_pays() -> None:
    """Spread 0.5, wear 0.2 for the upper half and 0.6 for the lower: 5 kWh each way, twice."""
    grid = Grid(import_per_kwh=(0.6, 0.1, 0.6, 0.1))
    case = Case(
        steps=4, grid=grid, storages=(storage(cycle_life=LIFE, soc_end_min=1.0),), loads=(Load(kw=10.0),)
    )
    done = solve_case(case)
    assert done.status == "optimal"
    assert not done.faults
    assert done.storage_kw["store"] == pytest.approx((5.0, -5.0, 5.0, -5.0))
    assert done.cost_terms["wear"] == pytest.approx(2 * 5.0 * 0.2)
    assert done.objective == pytest.approx(2 * (5.0 * 0.6 + 15.0 * 0.1) + 2.0)


def test_open_cycle_of_a_case_goes_on_where_it_was() -> None:
    grid = Grid(import_per_kwh=0.5)
    fresh = Case(
        steps=1, grid=grid, storages=(storage(cycle_life=LIFE, soc_start=0.5),), loads=(Load(kw=8.0),)
    )
    assert solve_case(fresh).storage_kw["store"] == pytest.approx((5.0,))
    deep = storage(cycle_life=LIFE, soc_start=0.5, turns_soc=(1.0, 0.5))
    assert solve_case(Case(steps=1, grid=grid, storages=(deep,), loads=(Load(kw=8.0),))).storage_kw[
        "store"
    ] == pytest.approx((0.0,), abs=1e-9)


def test_standing_losses_are_those_of_the_exact_solution() -> None:
    """dE/dt = -k E - p0 over three hours, nothing flowing."""
    store = storage(self_discharge_per_h=0.02, no_load_loss_kw=0.1, soc_start=0.8)
    done = solve_case(Case(steps=3, storages=(store,), loads=(Load(kw=0.0),)))
    k, p0 = 0.02, 0.1
    expected = [(8.0 + p0 / k) * math.exp(-k * t) - p0 / k for t in (1.0, 2.0, 3.0)]
    assert [10.0 * x for x in done.soc_end["store"]] == pytest.approx(expected, rel=1e-9)
    assert not done.faults


def test_charging_falls_near_full_by_the_taper() -> None:
    """From 0.5 full: 10 kW below 0.8, down to 2 kW at 1, at the level reached; e = 8 is met at full power in
    0.3 h, and with steps of 0.1 h the power of each later step is 2 + 4 (10 - e).
    """
    store = storage(soc_start=0.5, soc_taper_high=0.8, taper_ratio=0.2, end_value_per_kwh=1.0)
    done = solve_case(Case(steps=6, step_h=0.1, grid=Grid(import_per_kwh=0.1), storages=(store,)))
    power = [-p for p in done.storage_kw["store"]]
    stored, expected = 8.0, [10.0] * 3
    for _ in range(3):
        p = (2.0 + 4.0 * (10.0 - stored)) / (1.0 + 4.0 * 0.1)  # at the end of the step
        stored += 0.1 * p
        expected.append(p)
    assert power == pytest.approx(expected)
    assert not done.faults


def test_power_by_state_of_charge_follows_its_table_both_ways() -> None:
    """Charge 10 kW at half full, 4 kW at full: p = 16 - 1.2 e at the end of the step; discharge 2 + 1.6 e."""
    table = ((0.0, 1.0, 0.2), (0.5, 1.0, 1.0), (1.0, 0.4, 1.0))
    store = storage(soc_start=0.5, power_by_soc=table, end_value_per_kwh=1.0)
    done = solve_case(Case(steps=4, step_h=0.1, grid=Grid(import_per_kwh=0.1), storages=(store,)))
    stored, expected = 5.0, []
    for _ in range(4):
        p = (16.0 - 1.2 * stored) / 1.12
        stored += 0.1 * p
        expected.append(p)
    assert [-p for p in done.storage_kw["store"]] == pytest.approx(expected)
    assert not done.faults
    low = storage(soc_start=0.4, power_by_soc=table)
    out = solve_case(Case(steps=1, storages=(low,), loads=(Load(kw=10.0),)))
    p = (2.0 + 1.6 * 4.0) / (1.0 + 1.6)
    assert out.storage_kw["store"] == pytest.approx((p,))
    assert not out.faults


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: storage(
                cycle_life=CycleLife(depth_ratio=(0.2, 0.6), cycles_count=(5e3, 4e3), replacement_cost=1.0)
            ),
            ("cycles_count[1]", "4000", "at most 1666.67"),
        ),
        (
            lambda: storage(
                cycle_life=CycleLife(depth_ratio=(0.6, 0.2), cycles_count=(5e3, 4e3), replacement_cost=1.0)
            ),
            ("depth_ratio", "ascending"),
        ),
        (
            lambda: storage(cycle_life=CycleLife(depth_ratio=(), cycles_count=(), replacement_cost=1.0)),
            ("cycle_life", "at least one"),
        ),
        (
            lambda: storage(power_by_soc=((0.0, 1.0, 1.0), (0.5, 0.5, 1.0), (1.0, 0.8, 1.0))),
            ("power_by_soc[1] charge", "0.5", "at least 0.9", "concave"),
        ),
        (lambda: storage(power_by_soc=((0.5, 1.0, 1.0), (0.5, 1.0, 1.0))), ("power_by_soc", "ascending")),
        (lambda: storage(turns_soc=(1.2,)), ("turns_soc[0]", "1.2")),
        (lambda: storage(self_discharge_per_h=-0.1), ("self_discharge_per_h", "-0.1")),
        (lambda: storage(soc_taper_low=0.9, soc_taper_high=0.5), ("soc_taper_high", "0.5")),
    ],
)
def test_bad_storage_is_refused_by_key_with_what_is_allowed(
    make: Callable[[], Storage], said: tuple[str, ...]
) -> None:
    with pytest.raises(BadValue) as caught:
        make()
    assert all(x in str(caught.value) for x in said), str(caught.value)
