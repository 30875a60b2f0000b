"""Scenario 47: the plan is not renewed: last plan for two hours at most, then rules, and an alarm."""

from datetime import timedelta

import pytest

from dispatch.vocabulary import Source
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from sim.rig_scenario import MONDAY
from tests.unit.dispatch.plans import plan_of

DEAD_S = 300.0
TWO_H_S = 7200.0


@pytest.fixture(scope="module")
def rig(small):
    rig = Rig(
        small,
        load_kw={"critical": 60.0, "essential": 100.0, "deferrable": 40.0},
        controller="plan",
        faults=[Fault(kind="planner_dead", from_s=DEAD_S)],
        dt_s=5.0,
        options=RigOptions(horizon_s=TWO_H_S + 600.0),
    )
    plan = plan_of(small, bess_kw=[30.0] * 12, start=MONDAY)
    rig.publish(plan)
    assert plan.valid_until - plan.issued_at == timedelta(seconds=TWO_H_S)
    return rig.run(TWO_H_S + 300.0)


@pytest.mark.scenario(47)
def test_plan_expires_last_plan_at_once_and_for_two_hours_at_most(rig):
    assert rig.held(lambda r: r.decisions.source is Source.PLAN, 5.0, DEAD_S)
    assert rig.after(DEAD_S, lambda r: r.decisions.source is Source.LAST_PLAN) <= rig.dt_s
    on_last_plan_s = [r.t_s for r in rig.log if r.decisions.source is Source.LAST_PLAN]
    assert max(on_last_plan_s) <= TWO_H_S
    assert rig.held(lambda r: r.decisions.source is Source.LAST_PLAN, DEAD_S, TWO_H_S - rig.dt_s)


@pytest.mark.scenario(47)
def test_plan_expires_rules_decide_and_the_operator_is_told_once(rig):
    assert rig.held(lambda r: r.decisions.source is Source.RULES, TWO_H_S + rig.dt_s)
    rang = [(f["key"], f["priority"]) for f in rig.events("alarm.raised") if f["annunciated"]]
    assert rang == [("plan.none", "low")]
    told_s = rig.after(
        TWO_H_S, lambda r: any(e.key == "plan.none" for e in r.decisions.alarm_book.standing())
    )
    assert told_s <= 65.0 + rig.dt_s


@pytest.mark.scenario(47)
def test_plan_expires_ladder_says_why_the_rules_decide(rig):
    (row,) = [r for r in rig.log if r.t_s == TWO_H_S]
    assert row.decisions.ladder.reason.endswith("has expired")
