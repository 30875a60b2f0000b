"""The ladder as data: page and code agree, each time is measured, and no rung changes with a step."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.controllers.plan_follower import PlanFollower
from dispatch.supervision.ladder import LADDER, ladder_table, step_of
from dispatch.vocabulary import Source
from ems.assets import DeviceBehaviour, OnSilence
from ems.silence import silent_value, when_silent
from ems.site import Site
from tests.builders import site
from tests.unit.dispatch.loop import Loop, site_with
from tests.unit.dispatch.plans import plan_of

PAGE = Path(__file__).parents[3] / "docs" / "ladder.md"
RAMP_KW_S = 20.0


def ramped() -> Site:
    """The small plant whose battery may move by 20 kW/s."""
    setpoints = dict(site().authority.setpoints)
    setpoints["bess1.p_set_kw"] = replace(setpoints["bess1.p_set_kw"], ramp_per_s=RAMP_KW_S)
    return site_with(authority=replace(site().authority, setpoints=setpoints))


def test_ladder_page_holds_the_table_of_the_code():
    lines = [
        line for line in PAGE.read_text().splitlines() if line.startswith("| `") or "Who decides" in line
    ]
    page = [line for line in lines if any(f"`{r.source.value}` (" in line for r in LADDER) or "Rung" in line]
    assert page == [line for line in ladder_table() if not line.startswith("| ---")]


def test_ladder_has_every_rung_once_best_first():
    assert [r.source for r in LADDER] == list(Source)
    assert [step_of(s) for s in Source] == [0, 1, 2, 3, 4]


def on_plan() -> Loop:
    loop = Loop(PlanFollower(), plant_site=ramped())
    loop.plan = plan_of(loop.site, bess_kw=[80.0] * 8)
    assert loop.run(20.0).source is Source.PLAN
    return loop


def planner_dies(loop: Loop) -> None:
    loop.planner_alive = False


def plan_expires(loop: Loop) -> None:
    assert loop.edge.plans.accepted is not None
    expired = replace(loop.edge.plans.accepted, valid_until=loop.now)
    loop.edge = replace(loop.edge, plans=replace(loop.edge.plans, accepted=expired))


def mode_is_unknown(loop: Loop) -> None:
    loop.world.silent = frozenset(["grid1.breaker_closed", "grid1.v_pu"])


def back_on_plan(loop: Loop) -> None:
    loop.planner_alive = True


CAUSES = {Source.LAST_PLAN: planner_dies, Source.RULES: plan_expires, Source.HOLD_SAFE: mode_is_unknown}


@pytest.mark.parametrize("rung", CAUSES, ids=lambda s: s.value)
def test_ladder_rung_is_entered_within_its_documented_time(rung):
    loop = on_plan()
    CAUSES[rung](loop)
    began_s = loop.t
    while loop.run(1.0).source is not rung:
        assert loop.t - began_s < 60.0
    within_s = loop.log[-1][0] - began_s
    assert within_s <= next(r.within_s for r in LADDER if r.source is rung)
    ladder = loop.log[-1][1].ladder
    assert (ladder.rung, ladder.since) == (rung, loop.log[-1][1].at)
    assert ladder.reason


def test_ladder_plan_is_entered_again_within_its_documented_time():
    loop = on_plan()
    planner_dies(loop)
    loop.run(5.0)
    back_on_plan(loop)
    assert loop.run(1.0).source is Source.PLAN
    assert [e["now"] for e in loop.events("edge.source.changed")] == ["plan", "last_plan", "plan"]


CHANGES = st.lists(
    st.tuples(st.sampled_from(["dies", "lives", "expires", "new plan", "unknown", "known", "silent"]),
              st.integers(1, 40), st.sampled_from([-150.0, -20.0, 0.0, 60.0, 180.0])),
    min_size=1, max_size=6,
)  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(CHANGES)
def test_ladder_any_change_of_rung_moves_no_setpoint_faster_than_its_ramp(changes):
    loop = on_plan()
    for seq, (what, seconds, kw) in enumerate(changes, 2):
        loop.planner_alive = what != "dies"
        loop.world.silent = {
            "unknown": frozenset(["grid1.breaker_closed", "grid1.v_pu"]), "silent": frozenset(["bess1"]),
        }.get(what, frozenset())  # fmt: skip
        if what == "expires" and loop.edge.plans.accepted is not None:
            plan_expires(loop)
        if what == "new plan":
            loop.plan = plan_of(loop.site, bess_kw=[kw] * 8, seq=seq, start=loop.now)
        before = loop.set.get("bess1.p_set_kw", 0.0)
        for _ in range(seconds):
            loop.run(1.0)
            after = loop.set.get("bess1.p_set_kw", 0.0)
            eased = abs(after) < abs(before) and after * before >= 0.0
            assert eased or abs(after - before) <= RAMP_KW_S + 1e-6
            before = after


@pytest.mark.parametrize(
    ("action", "value", "expected"),
    [
        (OnSilence.HOLD, None, 77.0),
        (OnSilence.VALUE, 5.0, 5.0),
        (OnSilence.FULL, None, 500.0),
        (OnSilence.STOP, None, 0.0),
    ],
)
def test_when_silent_each_action_gives_what_the_device_goes_to(action, value, expected):
    authority = site().authority.setpoints["bess1.p_set_kw"]
    behaviour = DeviceBehaviour(timeout_s=15.0, on_silence=action, value=value)
    authority = replace(authority, high=500.0, safety=replace(authority.safety, behaviour=behaviour))
    assert when_silent(authority, 77.0) == (expected, 15.0)
    assert silent_value(authority) == (None if action is OnSilence.HOLD else expected)
