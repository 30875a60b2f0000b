"""The edge's own check from step to step: ramps, run times, who forms, and how long a plan is valid."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dispatch.controllers.plan_check import check_plan
from ems.deferrable import DeferrableParams
from ems.plan import Plan
from ems.site import GridMode, Site
from tests.builders import T0, site
from tests.unit.dispatch.plans import ISLAND, TIED, bent, plan_of

SITE = site()
LOAD_KW = 300.0


def with_genset(**changes: Any) -> Site:
    return replace(SITE, gensets=(replace(SITE.gensets[0], **changes), SITE.gensets[1]))


def with_bess_ramp(per_s: float) -> Site:
    point = "bess1.p_set_kw"
    setpoint = replace(SITE.authority.setpoints[point], ramp_per_s=per_s)
    return replace(
        SITE, authority=replace(SITE.authority, setpoints={**SITE.authority.setpoints, point: setpoint})
    )


def of_genset(on_kw: Sequence[float], step_s: float = 900.0) -> Plan:
    return plan_of(SITE, bess_kw=[0.0] * len(on_kw), gen1_kw=on_kw, load_kw=LOAD_KW, step_s=step_s)


@pytest.mark.parametrize(
    ("changes", "kw", "words"),
    [
        ({"ramp_kw_s": 0.1}, (150.0, 240.0, 240.0), None),
        ({"ramp_kw_s": 0.1}, (150.0, 241.5, 241.5), "beyond its ramp"),
        ({"ramp_kw_s": 0.1}, (241.5, 150.0, 150.0), "beyond its ramp"),
        ({"ramp_kw_s": 0.1, "ramp_down_kw_s": 1.0}, (241.5, 150.0, 150.0), None),
        ({"ramp_kw_s": 1.0, "ramp_down_kw_s": 0.1}, (150.0, 241.5, 241.5), None),
        ({"start_up_kw": 150.0}, (0.0, 150.0, 300.0), None),
        ({"start_up_kw": 150.0}, (0.0, 152.0, 300.0), "its load at the start"),
        ({"shut_down_kw": 150.0}, (300.0, 150.0, 0.0), None),
        ({"shut_down_kw": 150.0}, (300.0, 152.0, 0.0), "its load at the stop"),
        ({"start_up_kw": 150.0}, (300.0, 300.0, 300.0), None),  # it ran before
    ],
)
def test_check_genset_moves_no_faster_than_it_can(changes, kw, words):
    problems = check_plan(with_genset(**changes), of_genset(kw), T0, -1)
    assert (problems == ()) if words is None else any(words in p for p in problems), problems


def test_check_genset_ramp_counts_from_middle_to_middle_of_unequal_steps():
    slow, plan = with_genset(ramp_kw_s=0.1), of_genset((150.0, 240.0))
    grid = replace(plan.grid, step_s=(900.0, 300.0))
    short = replace(plan, grid=grid, valid_until=grid.end, integral_until=grid.end)
    assert any("beyond its ramp" in p for p in check_plan(slow, short, T0, -1))
    assert not any("ramp" in p for p in check_plan(with_genset(ramp_kw_s=0.15), short, T0, -1))


@pytest.mark.parametrize(
    ("kw", "words"),
    [
        ((0.0, 200.0, 200.0, 0.0), None),  # 1800 s up
        ((0.0, 200.0, 0.0, 0.0), "runs 900 s up to step 2, at least 1800 s"),
        ((200.0, 0.0, 0.0, 0.0), None),  # who knows since when it ran
        ((0.0, 0.0, 0.0, 200.0), None),  # nor how long it will
        ((200.0, 0.0, 200.0, 200.0), None),  # 900 s down are enough
    ],
)
def test_check_genset_runs_long_enough(kw, words):
    problems = check_plan(SITE, of_genset(kw), T0, -1)
    assert (problems == ()) if words is None else problems == (f"gen1 {words}",), problems


def test_check_genset_rests_long_enough():
    plan = of_genset((200.0, 0.0, 200.0, 200.0, 200.0, 200.0, 200.0), 600.0)
    assert check_plan(SITE, plan, T0, -1) == ("gen1 rests 600 s up to step 2, at least 900 s",)


@pytest.mark.parametrize(
    ("kw", "ok"),
    [
        ((0.0, 90.0, 90.0), True),
        ((0.0, 92.0, 92.0), False),
        ((92.0, 0.0, 0.0), True),  # less of the same is free
        ((-50.0, 42.0, 42.0), False),  # through zero it is not
        ((-10.0, -102.0, -102.0), False),
        ((200.0, 100.0, 150.0), True),
    ],
)
def test_check_battery_moves_no_faster_than_its_setpoint_may(kw, ok):
    plan = plan_of(SITE, bess_kw=kw)
    problems = check_plan(with_bess_ramp(0.1), plan, T0, -1)
    assert (problems == ()) is ok, problems
    assert ok or any("bess_p_kw[bess1] goes" in p for p in problems)
    assert check_plan(SITE, plan, T0, -1) == ()


def test_check_poi_ramp_of_the_contract_holds_but_for_what_is_knowingly_missed():
    tight = replace(SITE, grid=replace(SITE.grid, ramp_kw_s=0.05))
    plan = plan_of(SITE, bess_kw=[0.0, 60.0, 20.0])
    for moved in (plan, replace(plan, missed={"ramp_kw": (0.0, 0.0, 0.0)})):
        assert check_plan(tight, moved, T0, -1) == ("grid_p_kw goes 200.0 -> 140.0 in step 1, ramp 45.0",)
    assert check_plan(tight, replace(plan, missed={"ramp_kw": (0.0, 15.0, 0.0)}), T0, -1) == ()
    assert check_plan(SITE, plan, T0, -1) == ()


def test_check_poi_ramp_is_not_asked_across_a_change_of_mode():
    tight = replace(SITE, grid=replace(SITE.grid, ramp_kw_s=0.05))
    plan = plan_of(SITE, bess_kw=[0.0, 200.0, 0.0], modes=(TIED, ISLAND, TIED))
    assert check_plan(tight, plan, T0, -1) == ()


ISLANDED = plan_of(SITE, bess_kw=[0.0, 100.0, 100.0, 0.0], gen1_kw=[0.0, 200.0, 200.0, 0.0],
                   load_kw=LOAD_KW, modes=(TIED, ISLAND, ISLAND, TIED))  # fmt: skip


@pytest.mark.parametrize(
    ("step", "former", "words"),
    [
        (1, "bess1", None),
        (1, "gen1", None),
        (1, "gen2", "it is off"),
        (1, "gen9", "allowed: bess1, gen1, gen2"),
        (1, "pv1", "allowed: bess1, gen1, gen2"),
        (1, "grid1", "allowed: bess1, gen1, gen2"),
        (1, "", "on a dead bus nobody gives or takes anything"),
        (0, "bess1", "beside the grid it is 'grid1'"),
        (3, "", "beside the grid it is 'grid1'"),
    ],
)
def test_check_every_step_is_formed_by_somebody_who_can(step, former, words):
    names = list(ISLANDED.forming)
    names[step] = former
    problems = check_plan(SITE, replace(ISLANDED, forming=tuple(names)), T0, -1)
    assert (problems == ()) if words is None else any(words in p for p in problems), problems
    assert words is None or any(f"in step {step}" in p for p in problems)


def test_check_battery_that_cannot_form_forms_no_island():
    b = SITE.bess[0]
    follower = replace(SITE, bess=(replace(b, pcs=replace(b.pcs, can_form=False)),))
    assert any("it cannot form" in p for p in check_plan(follower, ISLANDED, T0, -1))


def test_check_unknown_grid_mode_is_nothing_to_plan_for():
    odd = replace(ISLANDED, grid_mode=(TIED, GridMode.UNKNOWN, ISLAND, TIED))
    assert any("no plan is made for this grid mode" in p for p in check_plan(SITE, odd, T0, -1))


def test_check_dead_bus_with_nothing_on_it_passes():
    dead = plan_of(SITE, bess_kw=[0.0, 0.0], load_kw=0.0, modes=(TIED, ISLAND))
    assert check_plan(SITE, replace(dead, forming=("grid1", "")), T0, -1) == ()


def test_check_relaxed_tail_may_move_as_it_likes():
    plan = of_genset((0.0, 0.0, 200.0, 0.0))
    head = plan.grid.start + timedelta(seconds=1800.0)
    assert check_plan(SITE, replace(plan, integral_until=head), T0, -1) == ()


@pytest.mark.parametrize(("hours", "steps"), [(240.0, 4), (1.01, 4), (25.0, 200)])
def test_check_plan_that_is_valid_for_too_long_is_refused(hours, steps):
    plan = plan_of(SITE, bess_kw=[0.0] * steps)
    long = replace(plan, valid_until=T0 + timedelta(hours=hours))
    assert any("valid until" in p for p in check_plan(SITE, long, T0, -1))


def test_check_deferrable_load_is_held_to_the_device_and_its_length():
    pump = DeferrableParams(id="pump", feeder="essential", p_kw=40.0, p_min_kw=0.0, unfinished_per_kwh=0.1)
    plant, plan = replace(SITE, deferrables=(pump,)), plan_of(SITE, bess_kw=[0.0] * 4)
    grid = tuple(p + 30.0 for p in plan.grid_p_kw)
    good = replace(plan, grid_p_kw=grid, deferrable_kw={"pump": (30.0,) * 4})
    assert check_plan(plant, good, T0, -1) == ()
    for kw, words in (
        ({"pump": (50.0,) * 4}, "deferrable_kw[pump] is 50.0 in step 0, allowed 0.0 to 40.0"),
        ({"pump": (30.0,) * 3}, "deferrable_kw[pump] has 3 values for 4 steps"),
        ({"mill": (30.0,) * 4}, "deferrable_kw names ['mill']"),
        ({"pump": (float("nan"),) * 4}, "deferrable_kw[pump] holds"),
    ):
        assert any(words in p for p in check_plan(plant, replace(good, deferrable_kw=kw), T0, -1)), words


def test_check_shed_of_a_feeder_that_is_not_there_is_refused_and_one_left_out_is_not():
    plan = plan_of(SITE, bess_kw=[0.0] * 4)
    assert check_plan(SITE, replace(plan, shed_kw={}), T0, -1) == ()
    problems = check_plan(SITE, replace(plan, shed_kw={"mall": (0.0,) * 4}), T0, -1)
    assert problems == ("shed_kw names ['mall'], which the site does not have",)


def test_check_load_below_zero_is_refused():
    shed = bent(plan_of(SITE, bess_kw=[0.0] * 4), "load_kw", "critical", 1, -60.0)
    grid = tuple(p - (120.0 if t == 1 else 0.0) for t, p in enumerate(shed.grid_p_kw))
    problems = check_plan(SITE, replace(shed, grid_p_kw=grid, shed_kw={}), T0, -1)
    assert any("load_kw[critical] is -60.0 in step 1" in p for p in problems), problems
