"""The ladder of feeders: who goes, who comes back, and that nobody is called back and forth."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from dispatch.layout import layout_of
from dispatch.protections.feeders import LadderInput, LadderOutcome, ladder
from dispatch.protections.inrush import NO_INRUSH
from dispatch.state import FeederShed
from tests.builders import site

LAYOUT = layout_of(site())
DEMAND = dict.fromkeys(LAYOUT.feeders, 100.0)
OPEN = FeederShed(since_s=0.0, why="shed", protective=True)
LAST = LAYOUT.shed_order[0]  # the least critical


def given(headroom_kw: float, now_s: float, **changes: object) -> LadderInput:
    plain = LadderInput(
        demand_kw=DEMAND,
        closed=dict.fromkeys(LAYOUT.feeders, True) | {LAST: False},
        planned={},
        deficit_kw=0.0,
        why="",
        tiers_out=None,
        open_all=False,
        headroom_kw=headroom_kw,
        step_most_kw=math.inf,
        inrush=NO_INRUSH,
        now_s=now_s,
        dt_s=1.0,
        last_restore_s=-1e9,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def run(headrooms_kw: list[float], shed: Mapping[str, FeederShed]) -> tuple[LadderOutcome, list[str]]:
    """One cycle a second, from 20 s after the shedding; gives the last outcome and all events."""
    out = LadderOutcome(shed=shed, targets={}, events=(), last_restore_s=-1e9)
    kinds: list[str] = []
    for k, headroom_kw in enumerate(headrooms_kw):
        out = ladder(LAYOUT, out.shed, given(headroom_kw, 20.0 + k, last_restore_s=out.last_restore_s))
        kinds += [e.kind for e in out.events]
    return out, kinds


def test_feeder_comes_back_with_room_for_its_cold_load():
    assert run([119.0], {LAST: OPEN})[1] == []
    assert run([121.0], {LAST: OPEN})[1] == ["feeder.close.requested"]


def test_feeder_whose_motors_all_start_waits_for_more_room():
    own = [replace(f, pickup_ratio=2.5) if f.id == LAST else f for f in site().feeders]
    layout = layout_of(replace(site(), feeders=tuple(own)))
    for headroom_kw, asked in ((249.0, 0), (251.0, 1)):
        assert len(ladder(layout, {LAST: OPEN}, given(headroom_kw, 20.0)).events) == asked
    small = ladder(layout, {LAST: OPEN}, given(900.0, 20.0, step_most_kw=240.0))
    assert small.events == ()  # no set of this island survives that step


@pytest.mark.parametrize("noise_kw", [0.1, 10.0, 19.0])
def test_feeder_asked_to_close_is_not_called_back_when_the_room_is_taken_up_to_its_load(noise_kw: float):
    """The protections make room for exactly what is to come: at that edge nothing may flap."""
    out, kinds = run([120.0, *[120.0 - noise_kw, 120.0 + noise_kw] * 10], {LAST: OPEN})
    assert kinds == ["feeder.close.requested"]
    assert out.shed[LAST].closing
    assert out.targets[LAST].value == 1.0


def test_feeder_asked_to_close_is_called_back_when_its_load_has_no_room():
    out, _ = run([120.0, 90.0], {LAST: OPEN})
    assert not out.shed[LAST].closing
    assert out.targets[LAST].value == 0.0


def test_feeder_too_large_for_any_step_waits_and_keeps_the_smaller_ones_waiting_for_nothing():
    """In an island of gensets the critical feeder was a larger step than any of them survives."""
    big = LAYOUT.shed_order[1]
    both = dict.fromkeys((LAST, big), OPEN)
    demand = {**DEMAND, big: 200.0, LAST: 80.0}
    closed = dict.fromkeys(LAYOUT.feeders, True) | {LAST: False, big: False}
    room = given(150.0, 20.0, demand_kw=demand, closed=closed, step_most_kw=150.0)
    out = ladder(LAYOUT, both, room)
    assert out.shed[LAST].closing
    assert not out.shed[big].closing
    every = ladder(LAYOUT, both, replace(room, step_most_kw=math.inf))
    assert not any(s.closing for s in every.shed.values())  # what is there is kept for the more critical one
