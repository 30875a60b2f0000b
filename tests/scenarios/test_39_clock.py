"""39: the wall clock steps by an hour, a day, to 1970, to 2038; its source is lost."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from dispatch.observing.utc import going_on_from
from dispatch.vocabulary import Source
from ems.condition import UnitState
from ems.outage import OutageNotice
from ems.poi import CapWindow
from ems.points import GensetState
from ems.site import Maintenance, Site
from ems.tariff import LocalWindow
from ems.telemetry import UtcState
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from sim.rig_scenario import MONDAY, Mains
from tests.scenarios.poi import with_breaker
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


@pytest.mark.parametrize(
    ("by_s", "valid"), [(3600.0, True), (86400.0, True), (-3600.0, False), (-86400.0, False)]
)
def test_clock_that_is_set_for_good_follows_no_plan_by_a_wrong_time(small: Site, by_s: float, valid: bool):
    """Its source vouches for it, so it is believed; set back, record time waits for it and is flagged."""
    rig = follow(small, Fault(kind="utc_step", from_s=FROM_S, until_s=math.inf, value=by_s))
    rig.runtime.synchronised = lambda: True
    rig.run(END_S)
    times = [r.decisions.at for r in rig.log]
    assert all(b - a >= timedelta(milliseconds=1) for a, b in pairwise(times))
    states = [r.snapshot.utc for r in rig.rows(FROM_S + 20.0)]
    assert set(states) == {UtcState.VALID if valid else UtcState.INVALID}
    followed = [r for r in rig.rows(FROM_S + 1.0) if r.decisions.source is Source.PLAN]
    assert all(r.snapshot.utc is UtcState.VALID for r in followed)


def test_clock_source_lost_is_held_over_and_flagged(small: Site):
    rig = follow(small)
    rig.at(FROM_S, lambda r: setattr(r.runtime, "synchronised", lambda: False))
    rig.at(UNTIL_S, lambda r: setattr(r.runtime, "synchronised", lambda: True)).run(END_S)
    states = {r.t_s: r.decisions.condition.utc for r in rig.rows()}
    assert {states[t] for t in states if FROM_S <= t < UNTIL_S} == {UtcState.HOLDOVER}
    assert {states[t] for t in states if not FROM_S <= t < UNTIL_S} == {UtcState.VALID}
    assert rig.held(lambda r: r.decisions.source is Source.PLAN, 10.0)


# --- nothing is done by the clock while it is not known what time it is ---

DAY_S = 86400.0


def unsynchronised(
    site: Site, *faults: Fault, controller: str = "rules", mains: Mains = (), **options: Any
) -> Rig:
    """From the first tick the kernel says that its clock is not synchronised."""
    o = RigOptions(horizon_s=1800.0, **options)
    rig = Rig(site, load_kw=LOAD, pv_kw=30.0, mains=mains, faults=faults, controller=controller, options=o)
    rig.runtime.synchronised = lambda: False
    return rig


def announced(from_s: float, until_s: float) -> OutageNotice:
    at = [MONDAY + timedelta(seconds=s) for s in (from_s, until_s)]
    return OutageNotice(id="work", issued_at=MONDAY - timedelta(days=2), start=at[0], end=at[1])


def islanding(small: Site) -> Site:
    return with_breaker(small, transitions=replace(small.grid.transitions, island_before_s=120.0))


@pytest.mark.parametrize("controller", ["rules", "rules_tou", "plan"])
def test_clock_a_day_ahead_at_the_start_opens_no_breaker_for_the_outage_of_tomorrow(
    small: Site, controller: str
):
    """It opened after 11 s, a day early: no plan was followed, and the announcement was."""
    ahead = Fault(kind="utc_step", from_s=0.0, until_s=math.inf, value=DAY_S)
    notices = (announced(DAY_S + 60.0, DAY_S + 3600.0),)
    rig = unsynchronised(islanding(small), ahead, controller=controller, notices=notices).run(300.0)
    assert rig.held(lambda r: r.decisions.condition.utc is UtcState.INVALID)
    assert rig.held(lambda r: r.flows.grid_closed)
    assert not any(c.point == "grid1.open_request" and c.value > 0.5 for r in rig.rows() for c in r.commands)
    (text,) = {a.text for a in rig.last.decisions.alarms if a.code == "utc.lost"}
    assert "run with --utc trusted" in text


def test_clock_set_while_islanded_ahead_of_an_outage_goes_back_to_good_mains(small: Site):
    """Nobody can tell when the outage ends: the island is one like any other until time is valid again."""
    notices = (announced(60.0, 5000.0),)
    fault = Fault(kind="utc_step", from_s=200.0, until_s=700.0, value=-DAY_S)
    options = RigOptions(horizon_s=1800.0, notices=notices)
    rig = Rig(islanding(small), load_kw=LOAD, pv_kw=30.0, faults=[fault], options=options).run(1200.0)
    assert rig.held(lambda r: not r.flows.grid_closed, 100.0, 200.0)
    back_s = rig.after(200.0, lambda r: r.flows.grid_closed)
    assert back_s <= 10.0, "the mains had been good for the dwell"
    steps = [r.decisions.transition for r in rig.rows(200.0, 200.0 + back_s + 1.0)]
    assert steps[:2] == ["dwell", "closing"]
    valid_s = 200.0 + rig.after(200.0, lambda r: r.decisions.condition.utc is UtcState.VALID)
    assert rig.held(lambda r: r.flows.grid_closed, 200.0 + back_s, valid_s)
    assert rig.after(valid_s, lambda r: not r.flows.grid_closed) <= 60.0


def test_clock_set_while_the_power_is_balanced_gives_the_islanding_up(small: Site):
    fault = Fault(kind="utc_step", from_s=5.0, until_s=100.0, value=-DAY_S)
    options = RigOptions(horizon_s=1800.0, notices=(announced(100.0, 5000.0),), soc=0.38)
    rig = Rig(islanding(small), load_kw=LOAD, faults=[fault], options=options).run(90.0)
    assert rig.held(lambda r: r.flows.grid_closed)
    (given_up,) = rig.events("transition.given_up")
    assert given_up["why"] == "the order was withdrawn"


def test_clock_of_a_night_caps_of_all_hours_hold(small: Site):
    every = LocalWindow(
        start_h=20.0, end_h=22.0, weekdays=frozenset(range(8)), months=frozenset(range(1, 13))
    )
    caps = (CapWindow(p_import_kw_max=60.0, p_export_kw_max=None, local=every),)
    site = replace(small, grid=replace(small.grid, caps=caps))
    free = Rig(site, load_kw=LOAD, options=RigOptions(soc=0.3)).run(60.0)
    assert free.last.flows.grid_p_kw > 150.0
    capped = unsynchronised(site, soc=0.3).run(120.0)
    assert capped.held(lambda r: r.flows.grid_p_kw <= 62.0, 60.0)


def test_clock_lost_before_a_maintenance_window_of_tomorrow_starts_the_other_set_alone(small: Site):
    """Somebody may be at gen1. Without the battery the island is carried by gen2, which nobody works at."""
    start = MONDAY + timedelta(days=1)
    window = Maintenance(asset="gen1", start=start, end=start + timedelta(hours=8))
    over = Maintenance(asset="gen2", start=MONDAY - timedelta(days=9), end=MONDAY - timedelta(days=8))
    site = replace(small, maintenance=(window, over))
    known = Rig(site, load_kw=LOAD).run(5.0).last.decisions.condition  # of the run before
    ahead = Fault(kind="utc_step", from_s=0.0, until_s=math.inf, value=10.0 * DAY_S)
    rig = unsynchronised(site, ahead, mains=[(30.0, 1700.0)], soc=0.12)
    rig.runtime._utc = going_on_from(known)
    rig.run(300.0)
    assert rig.held(lambda r: UnitState.MAINTENANCE in r.decisions.condition.gensets["gen1"].states)
    assert rig.held(lambda r: r.flows.genset_state["gen1"] is GensetState.STOPPED)
    assert rig.last.flows.genset_state["gen2"] is GensetState.RUNNING
