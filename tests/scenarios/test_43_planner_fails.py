"""Scenarios 43 to 45: the planner finds no plan, hangs, or is gone. The edge goes on in the same cycle."""

from dataclasses import replace
from datetime import timedelta

import pytest

from dispatch.vocabulary import Source
from ems.plan import PlanLabel
from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig

LOAD = {"critical": 80.0, "essential": 120.0, "deferrable": 60.0}
GONE_S = 120.0
RULES_S = 2.0


def planned(demo: Site, *faults: Fault) -> Rig:
    """A plan is made and followed before anything happens."""
    rig = Rig(demo, load_kw=LOAD, pv_kw=150.0, controller="mpc", faults=faults)
    rig.run(GONE_S - 1.0)
    assert rig.last.decisions.source is Source.PLAN
    return rig


@pytest.mark.scenario(43)
def test_infeasible_model_rules_decide_within_two_seconds(demo: Site):
    """The planner publishes that it found no plan: the plan before it is not followed on."""
    rig = planned(demo, Fault(kind="planner_dead", from_s=GONE_S))

    def no_plan(r: Rig) -> None:
        plan = r.plans.plan
        assert plan is not None
        r.publish(replace(plan, plan_id="none", seq=plan.seq + 1, label=PlanLabel.RULES))

    rig.at(GONE_S, no_plan).run(GONE_S + 60.0)
    assert rig.after(GONE_S, lambda row: row.decisions.source is Source.RULES) <= RULES_S
    refused = rig.first(GONE_S + RULES_S, lambda row: True).decisions.plan_refused
    assert refused is not None
    assert "no plan" in refused


@pytest.mark.scenario(44)
@pytest.mark.scenario(45)
def test_planner_gone_last_plan_goes_on_and_rules_follow_its_end(demo: Site):
    """No cycle is missed; the last plan is followed while it is valid, and rules take over within 2 s."""
    rig = planned(demo, Fault(kind="planner_dead", from_s=GONE_S))
    plan = rig.plans.plan
    assert plan is not None
    ends = rig.scenario.at(GONE_S + 90.0)
    rig.publish(replace(plan, plan_id="short", seq=plan.seq + 1, valid_until=ends))
    rig.run(GONE_S + 180.0)
    assert [row.t_s for row in rig.log] == [float(t) for t in range(int(GONE_S + 180.0))]
    assert rig.after(GONE_S, lambda row: row.decisions.source is Source.LAST_PLAN) <= rig.dt_s
    assert rig.held(lambda row: row.decisions.source is Source.LAST_PLAN, GONE_S + 1.0, GONE_S + 90.0)
    assert rig.after(GONE_S + 90.0, lambda row: row.decisions.source is Source.RULES) <= RULES_S
    assert rig.scenario.at(rig.t_s) - ends == timedelta(seconds=90.0)
