"""Oracle I11 over ticks made by hand: what is the edge's doing, and what nobody could know."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ems.commands import Cause, Command, WriteOutcome
from ems.points import GensetState
from ems.telemetry import Quality, Reading
from sim.oracles.base import TickSeen
from sim.oracles.ticks import GensetTimes
from tests import builders

S = GensetState


class Watched:
    """The oracle, and one genset that it watches; the clock moves by hand."""

    def __init__(self, **params: Any) -> None:
        site = builders.site()
        gen1 = replace(site.gensets[0], **({"min_up_s": 600.0, "min_down_s": 600.0} | params))
        self.oracle = GensetTimes(replace(site, gensets=(gen1,)))
        self.t_s = 0.0

    def tick(
        self, state: S, *asked: tuple[bool, Cause], told: S | None = None, after_s: float = 1.0
    ) -> str | None:
        """One tick: the true state, what it tells where that is another one, and what was written."""
        self.t_s += after_s
        code = float((state if told is None else told).code)
        reading = Reading(
            point="gen1.state", value=code, quality=Quality.GOOD, source_time=builders.T0, arrived_s=self.t_s
        )
        results = [
            SimpleNamespace(command=written(run, cause), outcome=WriteOutcome.CONFIRMED)
            for run, cause in asked
        ]
        seen = SimpleNamespace(
            t_s=self.t_s, dt_s=1.0, results=results, told={"gen1.state": reading},
            flows=SimpleNamespace(genset_state={"gen1": state}),
        )  # fmt: skip
        return self.oracle.on_tick(cast(TickSeen, seen))

    def start(self, cause: Cause) -> str | None:
        """Asked to run by this cause, on load a minute later."""
        found = self.tick(S.CRANKING, (True, cause))
        return found or self.tick(S.RUNNING, after_s=60.0)


def written(run: bool, cause: Cause) -> Command:
    return Command(
        point="gen1.run_request", value=float(run), cause=cause, reason="test", owner="edge", plan_id=None,
        epoch=1, seq=1, limits_hash="", decided_at=builders.T0, decided_s=0.0,
    )  # fmt: skip


def watched(**params: Any) -> Watched:
    """A set that stands, and is asked to stand."""
    w = Watched(**params)
    assert w.tick(S.STOPPED, (False, Cause.RULES)) is None
    w.t_s = 10_000.0
    return w


@pytest.mark.parametrize(
    ("cause", "after_s", "found"),
    [
        (Cause.PLAN, 300.0, True),
        (Cause.PLAN, 700.0, False),
        (Cause.REFRESH, 300.0, True),
        (Cause.PROTECTION, 300.0, False),
    ],
)
def test_stop_inside_the_minimum_up_time_is_found(cause, after_s, found):
    w = watched()
    assert w.start(Cause.PLAN) is None
    assert (w.tick(S.RUNNING, (False, cause), after_s=after_s) is not None) is found


@pytest.mark.parametrize(("told", "found"), [(S.RUNNING, False), (S.STOPPED, True)])
def test_set_that_went_off_and_came_back_while_it_told_running_is_not_the_edges_to_know(told, found):
    w = watched()
    assert w.start(Cause.PLAN) is None
    assert w.tick(S.STOPPED, told=told, after_s=400.0) is None
    assert w.tick(S.RUNNING, told=told) is None
    assert (w.tick(S.RUNNING, (False, Cause.PLAN), after_s=400.0) is not None) is found


def cycle(w: Watched, *causes: Cause) -> str | None:
    """A start that the first of these asks for and the others as well, and a protective stop."""
    found = w.tick(S.CRANKING, *((True, c) for c in causes))
    found = found or w.tick(S.RUNNING, after_s=60.0)
    return found or w.tick(S.STOPPED, (False, Cause.PROTECTION))


@pytest.mark.parametrize("asked", [(Cause.PLAN,), (Cause.PLAN, Cause.PROTECTION)])
def test_starts_above_the_declared_number_are_found_whoever_asks_again(asked):
    w = watched(starts_per_h_max=2, min_up_s=0.0, min_down_s=0.0)
    assert [cycle(w, *asked) is not None for _ in range(3)] == [False, False, True]


def test_start_that_a_protection_began_is_its_own_though_a_plan_asks_for_it_later():
    w = watched(starts_per_h_max=2, min_up_s=0.0, min_down_s=0.0)
    assert [cycle(w, Cause.PROTECTION, Cause.PLAN) for _ in range(3)] == [None] * 3


def test_set_without_a_declared_number_may_start_until_it_hunts():
    """A protective stop cuts a run short, so its minimum times allow no number of starts in an hour."""
    w = watched(min_up_s=1800.0, min_down_s=0.0)
    assert [cycle(w, Cause.PLAN) is not None for _ in range(9)] == [False] * 8 + [True]
