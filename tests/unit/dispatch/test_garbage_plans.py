"""Scenario 46: garbage plans. None that breaks a limit is accepted, judged by a judge of its own."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from dispatch.controllers.plan_check import check_plan
from ems.site import Site
from tests.builders import T0, site
from tests.unit.dispatch.garbage import MUTATIONS, broken, garbage, sound


def tight() -> Site:
    """The small plant with slow gensets, a slow battery and a contract that asks for slowness."""
    small = site()
    first = replace(
        small.gensets[0], ramp_kw_s=0.2, ramp_down_kw_s=0.3, start_up_kw=250.0, shut_down_kw=300.0
    )
    point = "bess1.p_set_kw"
    slow = replace(small.authority.setpoints[point], ramp_per_s=0.4)
    return replace(
        small,
        gensets=(first, small.gensets[1]),
        grid=replace(small.grid, ramp_kw_s=0.5),
        authority=replace(small.authority, setpoints={**small.authority.setpoints, point: slow}),
    )


SITES = (site(), tight())


def run(count: int, first_seed: int) -> tuple[Counter[str], list[str]]:
    """(what became of `count` garbage plans, those that were accepted though they break something)."""
    rng, found, through = np.random.default_rng(first_seed), Counter[str](), []
    for k in range(count):
        plant = SITES[k % len(SITES)]
        plan, what = garbage(plant, T0, rng)
        problems, breaks = check_plan(plant, plan, T0, 0), broken(plant, plan, T0, 0)
        found["accepted" if not problems else "refused"] += 1
        found["broken"] += bool(breaks)
        found["refused, and the judge sees nothing"] += bool(problems) and not breaks
        if breaks and not problems:
            through.append(f"seed {first_seed}, plan {k}, {what}: {breaks}")
    return found, through


@pytest.mark.scenario(46, left="a hundred thousand plans run in `make soak` alone; two thousand here")
def test_garbage_plans_none_that_breaks_a_limit_is_accepted():
    found, through = run(2000, 46)
    assert not through, "\n".join(through[:10])
    assert found["broken"] > 1200, found
    assert found["accepted"] > 50, "some garbage is a good plan: what was changed did not matter"


def test_garbage_plans_most_sound_ones_are_accepted():
    """A check that refuses everything would pass the test above."""
    rng = np.random.default_rng(1)
    plans = [sound(SITES[0], T0, rng) for _ in range(200)]
    taken = [p for p in plans if not check_plan(SITES[0], p, T0, 0)]
    judged = [p for p in plans if not broken(SITES[0], p, T0, 0)]
    assert len(taken) > 100
    assert len(judged) - len(taken) < 20, "the check is not much narrower than the judge"


@pytest.mark.parametrize("name", sorted({m.__name__ for m in MUTATIONS}))
def test_garbage_plans_every_kind_of_garbage_is_refused_sometimes(name):
    change = next(m for m in MUTATIONS if m.__name__ == name)
    rng, refused = np.random.default_rng(3), 0
    for _ in range(60):
        try:
            plan = change(sound(SITES[1], T0, rng), rng, SITES[1])
        except ValueError:
            continue
        refused += bool(check_plan(SITES[1], plan, T0, 0))
    assert refused > 0


@pytest.mark.soak
def test_garbage_plans_a_hundred_thousand():
    chunk = 10_000
    for k in range(10):
        found, through = run(chunk, 4600 + k)
        assert not through, "\n".join(through[:10])
        assert found["broken"] > 0.6 * chunk, found


@pytest.mark.soak
@seed(46)
@settings(max_examples=2000, deadline=None, database=None)
@given(st.integers(0, 2**63 - 1))
def test_garbage_plans_of_any_seed(number):
    _, through = run(2, number)
    assert not through, through
