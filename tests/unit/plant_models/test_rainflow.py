"""Cycles by depth: the counting example of ASTM E1049-85, and the open cycle against counting whole paths."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.cycle_life import CycleLife
from plant_models import rainflow

LIFE = CycleLife(
    depth_ratio=(0.2, 0.5, 1.0), cycles_count=(40_000.0, 10_000.0, 3_000.0), replacement_cost=120_000.0
)
SOC = st.floats(0.0, 1.0).map(lambda x: round(x, 3))
# ASTM E1049-85, 5.4.4: -2 1 -3 5 -1 3 -4 4 -2, moved into 0..1
STANDARD = [(x + 4) / 10 for x in (-2, 1, -3, 5, -1, 3, -4, 4, -2)]


def walked(
    path: Sequence[float], life: CycleLife = LIFE, turns: tuple[float, ...] = ()
) -> tuple[tuple[float, ...], float]:
    """Open cycle after a path and the life it used up, step by step."""
    used = 0.0
    for soc in path:
        used += rainflow.life_drawn_ratio(turns, soc, life)
        turns = rainflow.turned(turns, soc)
    return turns, used


def test_cycles_of_the_standards_example_are_its_half_and_full_cycles():
    found = [(round(10 * d), count) for d, count, _ in rainflow.cycles(STANDARD)]
    assert found == [(3, 0.5), (4, 0.5), (4, 1.0), (8, 0.5), (9, 0.5), (8, 0.5), (6, 0.5)]


def test_standards_example_books_its_discharges_whole():
    """Down 4 from the start, the closed cycle of 4, down 9, down 6; the climbs of 3, 8 and 8 are free."""
    expected = 2 * LIFE.life_ratio(0.4) + LIFE.life_ratio(0.9) + LIFE.life_ratio(0.6)
    assert walked(STANDARD)[1] == pytest.approx(expected, rel=1e-12)
    assert rainflow.life_of_path_ratio(STANDARD, LIFE) == pytest.approx(expected, rel=1e-12)


def test_life_of_a_full_cycle_is_one_over_its_number():
    for depth, count in zip(LIFE.depth_ratio, LIFE.cycles_count, strict=True):
        assert LIFE.life_ratio(depth) == pytest.approx(1.0 / count)
    assert LIFE.life_ratio(0.0) == 0.0
    assert LIFE.life_ratio(0.35) == pytest.approx((1 / 40_000 + 1 / 10_000) / 2)
    assert LIFE.life_ratio(1.1) == pytest.approx(1 / 3_000 + 0.1 * LIFE.life_per_depth_ratio[-1])


def test_edges_of_a_curve_that_ends_early_reach_the_whole_capacity():
    short = CycleLife(depth_ratio=(0.2, 0.8), cycles_count=(40_000.0, 5_000.0), replacement_cost=1.0)
    assert short.edges_ratio == (0.0, 0.2, 1.0)
    assert short.life_ratio(0.9) == pytest.approx(1 / 5_000 + 0.1 * short.life_per_depth_ratio[-1])


def test_bent_names_the_point_and_the_most_cycles_it_may_have():
    bent = CycleLife(
        depth_ratio=(0.2, 0.5, 1.0), cycles_count=(10_000.0, 8_000.0, 2_000.0), replacement_cost=1
    )
    found = bent.bent()
    assert found is not None
    assert found[0] == 1
    mended = CycleLife(
        depth_ratio=bent.depth_ratio, cycles_count=(10_000.0, found[1], 2_000.0), replacement_cost=1
    )
    assert found[1] == pytest.approx(4_000.0)  # 2.5 times as deep, no less per depth
    assert mended.bent() is None
    assert LIFE.bent() is None


@pytest.mark.parametrize(
    ("path", "turns"),
    [
        ([0.5], (0.5,)),
        ([0.5, 0.6], (0.6,)),
        ([0.6, 0.2], (0.6, 0.2)),
        ([0.8, 0.2, 0.6, 0.3], (0.8, 0.2, 0.6, 0.3)),
        ([0.8, 0.2, 0.6, 0.3, 0.5], (0.8, 0.2, 0.6, 0.3, 0.5)),
        ([0.8, 0.2, 0.6, 0.3, 0.6], (0.8, 0.2, 0.6)),  # the cycle of 0.3 is closed
        ([0.8, 0.2, 0.6, 0.3, 0.2], (0.8, 0.2)),
        ([0.8, 0.2, 0.6, 0.3, 0.9], (0.9,)),  # nothing of the past is left
        ([0.5, 0.6, 0.4, 0.8, 0.1], (0.8, 0.1)),
    ],
)
def test_turned_keeps_what_is_open(path, turns):
    assert walked(path)[0] == turns


def test_turned_small_changes_of_direction_are_noise():
    turns: tuple[float, ...] = ()
    for soc in (0.5, 0.502, 0.498, 0.501, 0.4, 0.403, 0.35, 0.354, 0.36):
        turns = rainflow.turned(turns, soc, 0.005)
    assert turns == (0.502, 0.35, 0.36)


def test_stored_by_depth_of_an_open_cycle_by_hand():
    """Down from 0.9 to 0.3 empties depths 0 to 0.6, up to 0.5 fills 0 to 0.2."""
    assert rainflow.stored_by_depth((0.9, 0.3, 0.5), (0.0, 0.2, 0.5, 1.0)) == pytest.approx((0.2, 0.0, 0.3))
    assert rainflow.stored_by_depth((0.9, 0.3, 0.5, 0.4), (0.0, 0.2, 0.5, 1.0)) == pytest.approx(
        (0.1, 0.0, 0.3)
    )
    assert rainflow.stored_by_depth((0.7,), (0.0, 0.2, 0.5, 1.0)) == pytest.approx((0.2, 0.3, 0.2))


@given(st.lists(SOC, min_size=1, max_size=40))
def test_life_step_by_step_is_that_of_the_whole_path(path):
    turns, used = walked(path)
    assert used == pytest.approx(rainflow.life_of_path_ratio(path, LIFE), rel=1e-9, abs=1e-15)
    assert turns[-1] == path[-1]


@given(st.lists(SOC, min_size=1, max_size=40), st.lists(SOC, min_size=1, max_size=40))
def test_open_cycle_is_all_that_must_be_known_of_the_past(before, after):
    turns, first = walked(before)
    _, second = walked(after, turns=turns)
    assert first + second == pytest.approx(
        rainflow.life_of_path_ratio([*before, *after], LIFE), rel=1e-9, abs=1e-15
    )


@given(st.lists(SOC, min_size=1, max_size=40))
def test_stored_by_depth_adds_up_and_a_discharge_takes_the_shallowest(path):
    edges = LIFE.edges_ratio
    turns: tuple[float, ...] = ()
    for soc in path:
        before = rainflow.stored_by_depth(turns, edges) if turns else None
        turns, old = rainflow.turned(turns, soc), turns
        now = rainflow.stored_by_depth(turns, edges)
        assert sum(now) == pytest.approx(soc, abs=1e-9)
        assert all(-1e-12 <= x <= b - a + 1e-12 for x, (a, b) in zip(now, pairwise(edges), strict=True))
        if before is not None:
            drawn = [max(0.0, a - b) for a, b in zip(before, now, strict=True)]
            worn = sum(x * k for x, k in zip(drawn, LIFE.life_per_depth_ratio, strict=True))
            assert worn == pytest.approx(rainflow.life_drawn_ratio(old, soc, LIFE), abs=1e-12)
