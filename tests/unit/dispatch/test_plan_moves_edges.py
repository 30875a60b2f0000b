"""The check of a plan at the last kW and second that are allowed, and with several batteries."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from dispatch.controllers.plan_check import _grid, _shed, check_charge
from dispatch.controllers.plan_moves import check_moves
from ems.plan import Plan
from ems.site import GridMode, Site
from tests.builders import T0, bess
from tests.unit.dispatch.plans import ISLAND, TIED, plan_of
from tests.unit.dispatch.test_plan_moves import SITE, of_genset, with_bess_ramp, with_genset

BESS = "bess1.p_set_kw"


def found(plant: Site, plan: Plan) -> list[str]:
    return list(check_moves(plant, plan, len(plan.grid.step_s)))


@pytest.mark.parametrize(
    ("changes", "kw", "ok"),
    [
        ({"ramp_kw_s": 0.1}, (150.0, 241.0, 241.0), True),  # 90 kW in 900 s, and 1 kW of rounding
        ({"ramp_kw_s": 0.1}, (150.0, 241.001, 241.0), False),
        ({"ramp_kw_s": 0.1}, (241.0, 150.0, 150.0), True),
        ({"ramp_kw_s": 0.1}, (200.0, 110.5, 110.5), True),
        ({"ramp_kw_s": 0.1}, (241.001, 150.0, 150.0), False),
        ({"start_up_kw": 150.0}, (0.0, 151.0, 300.0), True),
        ({"start_up_kw": 150.0}, (0.0, 151.001, 300.0), False),
        ({"shut_down_kw": 150.0}, (300.0, 151.0, 0.0), True),
        ({"shut_down_kw": 150.0}, (300.0, 151.001, 0.0), False),
    ],
)
def test_genset_may_be_one_kw_beyond(changes: dict[str, Any], kw: Sequence[float], ok: bool):
    assert (found(with_genset(min_up_s=0.0, min_down_s=0.0, **changes), of_genset(kw)) == []) is ok


@pytest.mark.parametrize(("step_s", "ok"), [(900.0, True), (899.0, True), (898.9, False), (898.0, False)])
def test_genset_may_rest_one_second_less(step_s: float, ok: bool):
    plan = of_genset((200.0, 0.0, 200.0, 200.0, 200.0), step_s)
    assert (found(with_genset(min_up_s=0.0, min_down_s=900.0), plan) == []) is ok


@pytest.mark.parametrize(
    ("kw", "says"),
    [
        ((0.0, 91.0, 91.0), None),
        ((0.0, 91.001, 91.0), "bess_p_kw[bess1] goes 0.0 -> 91.0 in step 1, ramp 90.0"),
        ((5.0, 5.0, 97.0), "bess_p_kw[bess1] goes 5.0 -> 97.0 in step 2, ramp 90.0"),
        ((-5.0, -96.0, -96.0), None),
        ((0.0, 92.0, 0.0), "bess_p_kw[bess1] goes 0.0 -> 92.0 in step 1, ramp 90.0"),
    ],
)
def test_battery_may_be_one_kw_beyond(kw: Sequence[float], says: str | None):
    assert found(with_bess_ramp(0.1), plan_of(SITE, bess_kw=kw)) == ([] if says is None else [says])


def test_battery_that_the_edge_may_not_write_moves_as_it_likes():
    setpoints = {p: a for p, a in SITE.authority.setpoints.items() if p != BESS}
    silent = replace(SITE, authority=replace(SITE.authority, setpoints=setpoints))
    assert found(silent, plan_of(SITE, bess_kw=(0.0, 300.0, -300.0))) == []


@pytest.mark.parametrize(
    ("kw", "says"),
    [
        ((0.0, 46.0, 46.0), None),  # 45 kW in 900 s
        ((0.0, 46.001, 46.0), "grid_p_kw goes 200.0 -> 154.0 in step 1, ramp 45.0"),
    ],
)
def test_poi_may_be_one_kw_beyond(kw: Sequence[float], says: str | None):
    tight = replace(SITE, grid=replace(SITE.grid, ramp_kw_s=0.05))
    assert found(tight, plan_of(SITE, bess_kw=kw)) == ([] if says is None else [says])


def two_batteries() -> Site:
    first = bess()
    second = replace(first, id="bess2", pcs=replace(first.pcs, can_form=False))
    order = replace(SITE.forming, islanded=("bess1", "bess2", "gen1"))
    return replace(SITE, bess=(first, second), forming=order)


@pytest.mark.parametrize(("former", "says"), [("bess1", None), ("bess2", "it cannot form")])
def test_island_is_formed_by_the_battery_that_can(former: str, says: str | None):
    plan = plan_of(SITE, bess_kw=(100.0, 100.0), modes=(ISLAND, ISLAND))
    got = found(two_batteries(), replace(plan, forming=(former, former)))
    assert got == [] if says is None else says in got[0]


@pytest.mark.parametrize(("kw", "ok"), [(0.0, True), (1.0, True), (-1.0, True), (1.001, False)])
def test_dead_bus_carries_nothing_but_rounding(kw: float, ok: bool):
    plan = plan_of(SITE, bess_kw=(kw, kw), modes=(ISLAND, ISLAND))
    got = found(SITE, replace(plan, forming=("", "")))
    assert (got == []) is ok, got


@pytest.mark.parametrize(("step_s", "start"), [((900.0, 300.0), 0.6), ((300.0, 900.0), 0.6)])
def test_charge_before_a_plan_is_worked_out_over_its_own_first_step(
    step_s: tuple[float, float], start: float
):
    plan = plan_of(SITE, bess_kw=(300.0, 0.0), step_s=step_s[0], soc=start)
    grid = replace(plan.grid, step_s=step_s)
    uneven = replace(plan, grid=grid, valid_until=grid.end, integral_until=grid.end)
    tight = replace(SITE, plan_soc_tolerance=0.005)
    assert check_charge(tight, uneven, {"bess1": start}, T0) == ()
    assert len(check_charge(tight, uneven, {"bess1": start + 0.02}, T0)) == 1
    assert len(check_charge(tight, uneven, {"bess1": start - 0.02}, T0)) == 1


@pytest.mark.parametrize(
    ("mode", "kw", "ok"),
    [
        (ISLAND, 0.0, True), (ISLAND, 1.0, True), (ISLAND, -1.0, True), (ISLAND, 1.001, False),
        (ISLAND, -1.001, False), (TIED, 351.0, True), (TIED, 351.001, False), (TIED, -1.0, True),
        (TIED, -1.001, False),
    ],
)  # fmt: skip
def test_grid_may_be_one_kw_beyond(mode: GridMode, kw: float, ok: bool):
    plan = plan_of(SITE, bess_kw=(100.0, 100.0), modes=(mode, mode))
    assert (list(_grid(SITE, replace(plan, grid_p_kw=(kw, kw)), 2)) == []) is ok


@pytest.mark.parametrize(("kw", "ok"), [(0.0, True), (-1.0, True), (-1.001, False)])
def test_load_may_be_nothing_and_no_less(kw: float, ok: bool):
    plan = plan_of(SITE, bess_kw=(0.0, 0.0))
    idle = replace(plan, load_kw={**plan.load_kw, "deferrable": (kw, kw)}, shed_kw={})
    assert (list(_shed(SITE, idle, 2)) == []) is ok
