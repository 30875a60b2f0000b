"""What a round leaves to the next: a bound that holds, decisions taken where they are good enough."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optimizer.carry
from ems.clock import wall_s
from ems.plan import PlanLabel
from ems.site import GridMode
from optimizer import Planner, PlannerOptions
from optimizer.carry import carried, lasting, proven
from optimizer.intake import planning_problem
from optimizer.marking import remarked
from optimizer.repair import held
from optimizer.rolling import RESERVED_S
from optimizer.solve import Effort, Outcome, Session
from tests.unit.optimizer.posing import Pose, feeder, objective, outage, small_genset, small_site
from tests.unit.optimizer.random_sites import random_pose

NEAR = PlannerOptions(gap_ratio=1e-4, node_limit=2000)
SEVERAL_ROUNDS = (3, 5, 7, 8, 11, 13, 16, 18, 19, 20, 25, 34, 37, 41, 42, 47, 53, 54, 56, 58, 64)
EFFORT = Effort(gap_ratio=0.01, gap_abs=0.5, time_limit_s=None, node_limit=None)


def island(steps: int = 4) -> Pose:
    """30 kW of genset for two feeders of 20 kW: the cheaper one is to be shed by half, if it could be."""
    feeders = [replace(feeder(name, voll, peak_kw=20.0), shed_min_s=0.0, served_min_s=0.0)
               for name, voll in (("cheap", 2.0), ("dear", 3.0))]  # fmt: skip
    genset = small_genset(p_rated_kw=30.0, p_min_kw=0.0, fuel_kw=(0.0, 30.0), fuel_l_h=(0.0, 3.0))
    return Pose(
        site=small_site(feeders=feeders, gensets=[genset], diesel_per_l=0.001), steps=steps,
        load_kw={"cheap": 20.0, "dear": 20.0}, mode=GridMode.ISLANDED, outages=(outage(0, steps - 1),),
        gensets_now={"gen1": {"on_load": True}},
    )  # fmt: skip


def searches(monkeypatch: pytest.MonkeyPatch, late: int = 99) -> list[bool]:
    """For each problem solved whether it was whole; from the `late`-th whole one on none has a point."""
    seen: list[bool] = []
    real = Session.solve

    def watched(self: Session, filled: Any, *args: Any, **kwargs: Any) -> Outcome:
        seen.append(bool(filled.integer.any()))
        found = real(self, filled, *args, **kwargs)
        if seen[-1] and sum(seen) >= late:
            return replace(
                found, x=None, objective=None, bound=None, optimal=False, status="Time limit reached"
            )
        return found

    monkeypatch.setattr(Session, "solve", watched)
    return seen


def test_a_round_bounds_the_next_whatever_the_plant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Binaries and whole feeders are only added: no later round may cost less than an earlier one's bound."""
    met: list[tuple[float, float]] = []

    def noted(outcome: Outcome, bound: float | None, effort: Effort) -> Outcome:
        if outcome.objective is not None and bound is not None:
            met.append((outcome.objective, bound))
        return proven(outcome, bound, effort)

    monkeypatch.setattr(optimizer.carry, "proven", noted)
    for seed in SEVERAL_ROUNDS:
        pose, before = random_pose(seed), len(met)
        Planner(pose.site, NEAR).plan(pose.condition(), pose.forecast(), None, 1)
        assert len(met) > before, f"seed {seed} takes one round only"
    cost, bound = np.array(met).T
    assert (cost >= bound - 1e-6 * np.maximum(1.0, np.abs(bound))).all()


def test_decisions_within_the_gap_are_taken_without_another_search(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = searches(monkeypatch)
    wide = PlannerOptions(gap_ratio=0.5)
    plan = island().plan(wide)
    assert plan.label is PlanLabel.OPTIMAL
    assert sum(seen) == 2  # the first, and around what it sheds
    assert plan.shed_kw["cheap"] == pytest.approx((20.0,) * 4)  # whole, where the first round shed a half
    solve = plan.solve
    assert solve.bound is not None
    assert solve.gap_ratio is not None
    assert solve.gap_ratio == pytest.approx(1.0 - solve.bound / objective(plan))
    assert 0.0 < solve.gap_ratio <= 0.5


def test_decisions_beyond_the_gap_are_searched_from(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = searches(monkeypatch)
    plan = island().plan(NEAR)
    assert sum(seen) == 3
    assert plan.label is PlanLabel.OPTIMAL
    assert plan.shed_kw["cheap"] == pytest.approx((20.0,) * 4)


def test_a_search_that_ends_without_a_point_leaves_the_decisions_of_the_round_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody is sent back to the last plan's commitment because the second round was cut short."""
    best = island().plan(NEAR)
    searches(monkeypatch, late=2)
    plan = island().plan(NEAR)
    assert plan.label is PlanLabel.INCUMBENT
    assert plan.solve.rescue == "none"
    assert objective(plan) == pytest.approx(objective(best))
    assert plan.solve.gap_ratio is not None
    assert plan.solve.gap_ratio > NEAR.gap_ratio


def test_a_search_is_not_begun_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first solve 0.1 s are left of 10: its decisions, dispatched anew, are the plan."""
    seen, now = searches(monkeypatch), [0.0]
    counted = Session.solve

    def slow(self: Session, filled: Any, *args: Any, **kwargs: Any) -> Outcome:
        found = counted(self, filled, *args, **kwargs)
        now[0] += 9.9 - RESERVED_S if seen[-1] else 0.0
        return found

    monkeypatch.setattr(Session, "solve", slow)
    monkeypatch.setattr("optimizer.rolling.wall_s", lambda: now[0])
    plan = island().plan(replace(NEAR, time_limit_s=10.0, node_limit=None))
    assert sum(seen) == 1
    assert plan.label is PlanLabel.INCUMBENT
    assert plan.solve.rescue == "none"
    assert plan.shed_kw["cheap"] == pytest.approx((20.0,) * 4)


def test_a_feeder_is_not_lost_whole_for_the_little_that_was_to_be_shed_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """20 of 120 kW are too much for the mains: 40 an hour shed in part, 240 the whole feeder, 60 a genset.
    The first solve sheds in part, and its decisions, rounded, lie within so wide a gap.
    """
    seen = searches(monkeypatch)
    genset = small_genset(p_rated_kw=60.0, p_min_kw=20.0, fuel_kw=(0.0, 60.0), fuel_l_h=(0.0, 6.0),
                          running_cost_per_h=58.0, start_cost=0.0)  # fmt: skip
    site = small_site(
        feeders=[replace(feeder("cheap", 2.0, peak_kw=120.0), shed_min_s=0.0, served_min_s=0.0)],
        gensets=[genset], diesel_per_l=1.0, import_kw=100.0,
    )  # fmt: skip
    plan = Pose(site=site, load_kw={"cheap": 120.0}, steps=4, import_per_kwh=0.001).plan(
        PlannerOptions(gap_ratio=0.9)
    )
    assert sum(seen) == 2
    assert plan.shed_kw["cheap"] == pytest.approx((0.0,) * 4)
    assert plan.genset_on["gen1"] == (1.0,) * 4


def test_under_a_deadline_feeders_are_whole_in_every_step_of_the_second_round() -> None:
    pose = replace(island(6), outages=(outage(0, 2),))
    late = replace(NEAR, time_limit_s=60.0, node_limit=None)
    p = planning_problem(pose.site, pose.condition(), pose.forecast(), late)
    for options, steps in ((NEAR, p.islanded & p.integral), (late, p.integral)):
        _, solved, _, outcome = Planner(pose.site, options).rounds(p, None, wall_s())
        assert outcome.x is not None
        assert (solved.shed_whole == steps).all()
    assert 0 < p.islanded.sum() < p.steps


def test_open_feeder_under_a_deadline_is_whole_in_the_second_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search for whole feeders that is cut short may end far off."""
    pose = replace(island(), feeders_open=("cheap",))
    for options, rounds in ((NEAR, 1), (replace(NEAR, time_limit_s=60.0, node_limit=None), 3)):
        seen = searches(monkeypatch)
        plan = pose.plan(options)
        assert sum(seen) == rounds  # the last two: around what is shed, and on from there
        assert plan.shed_kw["cheap"] == pytest.approx((20.0,) * 4)
        assert plan.solve.rescue == "none"
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("objective", "own", "bound", "closed", "kept"),
    [
        (100.0, None, 99.5, True, 99.5),
        (100.0, None, 90.0, False, 90.0),
        (100.0, 99.2, 90.0, True, 99.2),
        (0.3, None, 0.0, True, 0.0),  # within the absolute gap
        (100.0, None, None, False, None),
        (None, None, 99.5, False, None),
    ],
)
def test_proven_is_what_the_better_bound_says(
    objective: float | None, own: float | None, bound: float | None, closed: bool, kept: float | None
) -> None:
    outcome = Outcome(
        status="", optimal=False, x=None, objective=objective, bound=own, gap_ratio=None, solve_s=0.0, nodes=0
    )
    out = proven(outcome, bound, EFFORT)
    assert (out.optimal, out.bound) == (closed, kept)


def test_carried_decisions_keep_every_cost_of_a_round_that_is_whole_already() -> None:
    """Fixed at its own decisions, dispatched anew: the same objective, directions of batteries included."""
    for seed in SEVERAL_ROUNDS:
        pose = random_pose(seed)
        planner = Planner(pose.site, NEAR)
        p = planning_problem(pose.site, pose.condition(), pose.forecast(), NEAR)
        compiled, p, n, outcome = planner.rounds(p, None, 0.0)
        assert outcome.x is not None
        v = compiled.values(outcome.x)
        if remarked(compiled.structure, p, n, v, whole_feeders=True) is not None:
            continue
        _, session = planner.solver(p.grid, planner.formulation(p))
        again = [
            session.solve(held(compiled, compiled.fill(n), start), EFFORT).objective
            for start in carried(compiled, v, compiled, p, n)
        ]
        assert min(x for x in again if x is not None) == pytest.approx(outcome.objective, rel=1e-5, abs=1e-4)


@given(
    rows=st.lists(st.booleans(), min_size=1, max_size=14),
    before=st.booleans(),
    shed_h=st.sampled_from([0.0, 1.0, 2.0, 3.0]),
    served_h=st.sampled_from([0.0, 1.0, 2.0, 4.0]),
)
def test_feeders_that_open_stay_open_and_closed_long_enough(
    rows: list[bool], before: bool, shed_h: float, served_h: float
) -> None:
    given_open, row = np.array(rows), np.array(rows)
    lasting(np.arange(len(rows), dtype=np.float64), row, before, shed_h, served_h)
    assert (row >= given_open).all()
    past = np.concatenate([[before], row]).astype(int)
    moves = np.flatnonzero(np.diff(past))
    for first, then in pairwise(moves):
        assert then - first >= (shed_h if row[first] else served_h)
