"""39: the wall clock steps by an hour, a day, to 1970, to 2038; its source is lost."""

from datetime import UTC, datetime

import pytest

from dispatch.vocabulary import Source
from ems.site import Site
from ems.telemetry import UtcState
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from sim.rig_scenario import MONDAY
from tests.unit.dispatch.plans import plan_of

pytestmark = pytest.mark.scenario(39)
FROM_S, UNTIL_S, END_S = 60.0, 180.0, 300.0
LOAD = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}
TO_2038_S = (datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC) - MONDAY).total_seconds()


def step(by_s: float) -> Fault:
    return Fault(kind="utc_step", from_s=FROM_S, until_s=UNTIL_S, value=by_s)


FAULTS = {
    "an hour ahead": step(3600.0),
    "an hour back": step(-3600.0),
    "a day ahead": step(86400.0),
    "a day back": step(-86400.0),
    "1970": Fault(kind="utc_1970", from_s=FROM_S, until_s=UNTIL_S),
    "2038": step(TO_2038_S),
}


def follow(site: Site, *faults: Fault) -> Rig:
    rig = Rig(site, load_kw=LOAD, faults=faults, controller="plan", options=RigOptions(horizon_s=900.0))
    plan = plan_of(site, bess_kw=[50.0] * 8, load_kw=200.0, start=MONDAY)
    return rig.at(5.0, lambda r: r.publish(plan))


@pytest.fixture(scope="module")
def calm(small: Site) -> Rig:
    return follow(small).run(END_S)


@pytest.fixture(scope="module", params=tuple(FAULTS))
def run(request: pytest.FixtureRequest, small: Site) -> Rig:
    return follow(small, FAULTS[request.param]).run(END_S)


def test_clock_control_goes_on_in_its_rhythm(run: Rig, calm: Rig):
    assert [r.t_s for r in run.rows()] == [r.t_s for r in calm.rows()]
    ages = [r.snapshot.monotonic_s for r in run.rows()]
    assert ages == [r.snapshot.monotonic_s for r in calm.rows()]
    beats = [r.decisions.heartbeat for r in run.rows()]
    assert beats == [r.decisions.heartbeat for r in calm.rows()]
    assert run.held(lambda r: abs(r.flows.bess_p_kw["bess1"]) <= 500.0 and r.flows.grid_closed)


def test_clock_rules_decide_until_time_is_valid_again(run: Rig, calm: Rig):
    assert calm.held(lambda r: r.decisions.source is Source.PLAN, 10.0)
    assert run.held(lambda r: r.decisions.source is Source.RULES, FROM_S, UNTIL_S)
    assert run.held(lambda r: r.decisions.source is Source.PLAN, UNTIL_S + 1.0)


def test_clock_no_key_twice_and_none_lost(run: Rig, calm: Rig):
    keys = [int(r.snapshot.at.timestamp() * 1000.0) for r in run.rows()]
    assert len(set(keys)) == len(keys) == int(END_S)
    assert keys == sorted(keys)
    assert keys == [int(r.snapshot.at.timestamp() * 1000.0) for r in calm.rows()]  # kept over


def test_clock_records_are_flagged_and_told(run: Rig):
    flagged = [r.t_s for r in run.rows() if r.decisions.condition.utc is UtcState.INVALID]
    assert flagged == [float(t) for t in range(int(FROM_S), int(UNTIL_S))]
    assert run.raised("utc.lost") == 1


def test_clock_source_lost_is_held_over_and_flagged(small: Site):
    rig = follow(small)
    rig.at(FROM_S, lambda r: setattr(r.runtime, "synchronised", lambda: False))
    rig.at(UNTIL_S, lambda r: setattr(r.runtime, "synchronised", lambda: True)).run(END_S)
    states = {r.t_s: r.decisions.condition.utc for r in rig.rows()}
    assert {states[t] for t in states if FROM_S <= t < UNTIL_S} == {UtcState.HOLDOVER}
    assert {states[t] for t in states if not FROM_S <= t < UNTIL_S} == {UtcState.VALID}
    assert rig.held(lambda r: r.decisions.source is Source.PLAN, 10.0)
