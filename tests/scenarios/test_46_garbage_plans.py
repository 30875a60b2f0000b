"""Scenario 46: the plan store hands the edge garbage. None of it is followed, and the good plan goes on."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from dispatch.controllers.plan_check import check_plan
from dispatch.vocabulary import Source
from ems.plan import Plan
from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from sim.rig_scenario import MONDAY
from tests.unit.dispatch.garbage import broken, garbage
from tests.unit.dispatch.plans import plan_of

LOAD = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}
FROM_S, UNTIL_S = 10.0, 240.0
MUTANTS, STEP_S = 50, 6.0


def following(small: Site, *faults: Fault) -> Rig:
    """A good plan is followed; its battery discharges, then charges."""
    rig = Rig(small, load_kw=LOAD, controller="plan", faults=faults)
    rig.publish(plan_of(small, bess_kw=[60.0, -60.0, 30.0, 0.0] * 2, start=MONDAY))
    rig.run(FROM_S)
    assert rig.last.decisions.plan_id == "plan-1"
    return rig


@pytest.mark.scenario(46)
def test_garbage_plans_in_every_cycle_none_is_followed_and_the_good_one_goes_on(small: Site):
    rng = np.random.default_rng(46)
    sent: list[Plan] = []

    def publish(rig: Rig) -> None:
        now = rig.scenario.at(rig.t_s)
        for _ in range(20):
            plan, what = garbage(small, now, rng)
            seq = 1 if "old_number" in what else 1000 + len(sent)  # or the number of the one that is followed
            plan = replace(plan, plan_id=f"garbage-{len(sent)}", seq=seq)
            if broken(small, plan, now, 1):
                sent.append(plan)
                rig.publish(plan)
                return
        raise AssertionError("no garbage in twenty tries")

    rig = following(small)
    for t_s in np.arange(FROM_S, UNTIL_S):
        rig.at(float(t_s), publish)
    rig.run(UNTIL_S)
    assert len(sent) == UNTIL_S - FROM_S
    assert {row.decisions.plan_id for row in rig.rows(FROM_S)} == {"plan-1"}
    assert rig.held(lambda row: row.decisions.source is Source.PLAN, FROM_S)
    refused = {str(e["plan_id"]) for e in rig.events("plan.refused")}
    assert refused >= {p.plan_id for p in sent[:-1]}, "each is told, with its reasons"
    assert all(e["reasons"] for e in rig.events("plan.refused"))
    after = plan_of(small, bess_kw=[20.0] * 8, start=rig.scenario.at(rig.t_s), seq=2)
    rig.publish(after)
    rig.run(UNTIL_S + 2.0)
    assert rig.last.decisions.plan_id == "plan-2", "no number of a refused plan bars the next good one"


@pytest.mark.scenario(46)
@pytest.mark.parametrize(
    "kind", ["plan_sign_flipped", "plan_of_yesterday", "plan_of_another_site", "plan_nan"]
)
def test_garbage_plan_of_each_fault_is_refused_in_the_cycle_it_is_offered(small: Site, kind):
    rig = following(small, Fault(kind=kind, from_s=FROM_S))
    rig.run(60.0)
    assert {row.decisions.plan_id for row in rig.rows(FROM_S)} == {"plan-1"}
    assert rig.events("plan.refused")
    assert rig.first(FROM_S, lambda row: True).decisions.plan_refused is not None


@pytest.mark.scenario(46)
@pytest.mark.parametrize("ahead_s", [3.0, 59.0])
def test_plan_issued_a_moment_ahead_of_the_edge_is_followed(small: Site, ahead_s: float):
    """Clocks differ: the check lets a minute pass. Its own invariant did not, and stopped the plant."""
    issued_at = MONDAY + timedelta(seconds=FROM_S + ahead_s)
    plan = plan_of(small, bess_kw=[20.0] * 8, start=MONDAY, seq=2)
    plan = replace(plan, issued_at=issued_at, valid_until=issued_at + timedelta(hours=1))
    rig = following(small)
    rig.publish(plan)
    rig.run(FROM_S + 90.0)
    assert rig.held(lambda row: row.decisions.plan_id == "plan-2", FROM_S + 1.0)


def accepted(small: Site, now: datetime, rng: np.random.Generator, seq: int) -> Plan:
    """Garbage that passes the edge's check at this moment: what was changed breaks nothing."""
    for _ in range(500):
        plan, what = garbage(small, now, rng)
        plan = replace(plan, plan_id=f"mutant-{seq}", seq=seq)
        if what and not check_plan(small, plan, now, seq - 1):
            return plan
    raise AssertionError("no garbage that is accepted in five hundred tries")


@pytest.mark.scenario(46)
@pytest.mark.parametrize(
    ("seed", "options", "pv_kw"),
    [(1, RigOptions(), 150.0), (2, RigOptions(soc=0.92), 400.0), (3, RigOptions(soc=0.12), 0.0)],
)
def test_garbage_plans_that_are_accepted_are_followed_and_every_oracle_holds(
    small: Site, seed: int, options: RigOptions, pv_kw: float
):
    """None of them breaks a limit, and none suits the plant: each oracle judges each write and tick.

    A plan may count on any charge of the battery here, so that the others are followed too.
    """
    small = replace(small, plan_soc_tolerance=1.0)
    rng, published = np.random.default_rng(seed), list[str]()

    def publish(rig: Rig) -> None:
        plan = accepted(small, rig.scenario.at(rig.t_s), rng, len(published) + 1)
        published.append(plan.plan_id)
        rig.publish(plan)

    rig = Rig(small, load_kw=LOAD, pv_kw=pv_kw, controller="plan", options=options)
    for k in range(MUTANTS):
        rig.at(FROM_S + STEP_S * k, publish)
    rig.run(FROM_S + STEP_S * MUTANTS)  # raises what the oracles found
    assert len(published) == MUTANTS
    followed = {r.decisions.plan_id for r in rig.rows(FROM_S)} - {None}
    assert len(followed) >= 0.8 * MUTANTS, len(followed)
    moved = {r.held["bess1.p_set_kw"] for r in rig.rows(FROM_S)}
    assert len(moved) > MUTANTS
