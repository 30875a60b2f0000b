"""Caps at the POI with dead times and readings of unlike age: held, and without hunting."""

import pytest

from dispatch.controllers.rules import Rules
from tests.unit.dispatch.lagging import FINE_S, Delays, LaggingLoop, reversals

DEMAND = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}
TRIPPED = {"critical": 60.0, "essential": 0.0, "deferrable": 0.0}
SLACK_KW = 17.5  # 5 % of the POI's rating


def stepped(dead_s: float, late: dict[str, float], pv_kw: float, soc: float) -> LaggingLoop:
    """60 s of rest, then 140 of 200 kW trip."""
    commands = {"bess1.p_set_kw": dead_s, "pv1.p_limit_kw": dead_s}
    loop = LaggingLoop(Rules(), Delays(command_s=commands, reading_s=late), soc=soc)
    loop.world.demand_kw, loop.world.pv_kw = dict(DEMAND), {"pv1": pv_kw}
    loop.run(60)
    loop.world.demand_kw = dict(TRIPPED)
    loop.run(60)
    return loop


@pytest.mark.parametrize("dead_s", [0.2, 1.0, 2.0, 3.0])
@pytest.mark.parametrize(
    "late",
    [{}, {"grid1": 1.0}, {"grid1": 2.0}, {"bess1.p_kw": 1.0}],
    ids=["same age", "meter 1 s late", "meter 2 s late", "battery 1 s late"],
)
def test_load_trip_battery_answers_once_and_does_not_hunt(dead_s, late):
    """A meter one second behind the battery once made 118 reversals of 745 kW out of a trip of 140 kW."""
    loop = stepped(dead_s, late, pv_kw=100.0, soc=0.6)
    after = [f.bess_p_kw["bess1"] for t, _, f in loop.log if t > 60.0]
    assert reversals(after, 5.0) <= 1  # what was over is given back, once
    over_s = sum(FINE_S for t, p in loop.poi if t > 60.0 and p < -SLACK_KW)
    assert over_s <= 1.0 + dead_s + max(late.values(), default=0.0) + FINE_S
    assert -SLACK_KW < loop.poi[-1][1] < SLACK_KW


def test_battery_does_not_hunt_where_a_feeder_is_not_read():
    """The load is what the meter and the sources make; one feeder unread once switched all of this off."""
    loop = LaggingLoop(Rules(), Delays(command_s={}, reading_s={"grid1": 1.0}), soc=0.9)
    loop.world.demand_kw, loop.world.silent = dict(DEMAND), frozenset({"essential.p_kw"})
    loop.run(60)
    after = [f.bess_p_kw["bess1"] for t, _, f in loop.log if t > 40.0]
    assert max(after) - min(after) <= 5.0, "the age is learnt in the first seconds"
    assert after[-1] == pytest.approx(200.0, abs=SLACK_KW)


@pytest.mark.parametrize("dead_s", [0.2, 3.0])
def test_load_trip_with_a_full_battery_curtails_pv_without_hunting(dead_s):
    loop = stepped(dead_s, {"grid1": 1.0}, pv_kw=300.0, soc=0.9499)
    after = [f.pv_p_kw["pv1"] for t, _, f in loop.log if t > 60.0]
    assert reversals(after, 5.0) <= 1  # what was over is given back, once
    assert -SLACK_KW < loop.poi[-1][1] < SLACK_KW


@pytest.mark.parametrize(("late", "older_s"), [({"grid1": 2.0}, 2.0), ({"bess1.p_kw": 2.0}, -2.0), ({}, 0.0)])
def test_age_of_the_meter_against_the_battery_is_learnt_from_its_moves(late, older_s):
    loop = stepped(1.0, late, pv_kw=100.0, soc=0.6)
    assert loop.edge.balancing.net_demand.older_s("bess1") == older_s


def test_second_trip_after_the_age_is_known_is_answered_at_once():
    loop = stepped(0.2, {"grid1": 1.0}, pv_kw=100.0, soc=0.6)
    loop.world.demand_kw = {"critical": 20.0, "essential": 0.0, "deferrable": 0.0}
    began_s = loop.t
    loop.run(10)
    assert sum(FINE_S for t, p in loop.poi if t > began_s and p < -SLACK_KW) <= 2.4
