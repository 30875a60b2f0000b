"""65: manual override, its expiry, back to automatic; local switched in the middle of a write.

The production edge follows a plan. Every request takes effect within a cycle, every change of who sets the
battery's power is bumpless within the ramp of a transfer, and of the plan's writes that are on their way when
the selector turns, none arrives.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise

import pytest

from dispatch.vocabulary import Source
from dispatch.writing.last_line import Newest
from ems.assets import DeviceBehaviour, OnSilence
from ems.commands import Cause, Refusal
from ems.control import ControlMode, Role
from ems.control_site import ControlParams
from ems.points import GensetState
from ems.requests import Operate, Select, SetSetpoint, SwitchMode
from ems.site import Site
from ems.telemetry import Quality, Reading
from sim.rig import Rig, RigOptions, Row
from sim.rig_scenario import MONDAY, Power
from tests.unit.dispatch.plans import plan_of

pytestmark = pytest.mark.scenario(65)

P_SET, SELECTOR = "bess1.p_set_kw", "bess1.remote"
RAMP_S, STEP_S = 30.0, 900.0
LOAD_KW = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}
TAKEN_S, SET_S, LEASE_S, BACK_S = 30.0, 32.0, 40.0, 150.0
PLAN_KW, NEXT_KW, WANTED_KW = 30.0, 90.0, -120.0


def site_of(small: Site) -> Site:
    users = {"ann": frozenset({Role.OPERATOR})}
    return replace(small, control=ControlParams(users=users, transfer_ramp_s=RAMP_S))


def rig_of(small: Site, *, next_step_s: float) -> Rig:
    """An edge that follows a plan, whose next step is due at `next_step_s` of the run."""
    site = site_of(small)
    start = MONDAY + timedelta(seconds=STEP_S - next_step_s)
    rig = Rig(site, load_kw=LOAD_KW, controller="plan", options=RigOptions(start=start, horizon_s=600.0))
    rig.publish(plan_of(site, bess_kw=[PLAN_KW, *[NEXT_KW] * 7], start=MONDAY))
    return rig


def moves(rig: Rig, from_s: float, until_s: float) -> Iterator[tuple[float, float]]:
    """(time, how far what the battery holds has moved since the tick before) [s, kW]."""
    for a, b in pairwise(rig.rows(from_s - rig.dt_s, until_s)):
        yield b.t_s, abs(b.held[P_SET] - a.held[P_SET])


def bumpless(rig: Rig, from_s: float) -> bool:
    """No larger step than the ramp of a transfer allows, from a change of who sets it until it is over."""
    a = rig.site.authority.setpoints[P_SET]
    step_kw = (a.high - a.low) / RAMP_S * rig.dt_s
    found = list(moves(rig, from_s, from_s + RAMP_S))
    return bool(found) and max(kw for _, kw in found) <= step_kw + 1e-6


def at_or_near(kw: float, wanted_kw: float) -> bool:
    return abs(kw - wanted_kw) <= 1.0


@pytest.fixture(scope="module")
def overridden(small: Site) -> Rig:
    """Manual at 30 s, a setpoint for 40 s at 32 s, back to auto at 150 s."""
    rig = rig_of(small, next_step_s=500.0)
    rig.at(TAKEN_S, lambda r: r.ask("ann", SwitchMode(device="bess1", mode=ControlMode.MANUAL)))
    rig.at(SET_S, lambda r: r.ask("ann", SetSetpoint(point=P_SET, value=WANTED_KW, for_s=LEASE_S)))
    rig.at(BACK_S, lambda r: r.ask("ann", SwitchMode(device="bess1", mode=ControlMode.AUTO)))
    return rig.run(240.0)


def test_override_each_request_takes_effect_within_a_cycle(overridden):
    def manual(row: Row) -> bool:
        return row.decisions.control["bess1"] is ControlMode.MANUAL

    assert overridden.held(lambda r: r.decisions.source is Source.PLAN, 10.0, TAKEN_S)
    assert overridden.after(TAKEN_S, manual) <= overridden.dt_s
    first_s = overridden.after(
        SET_S, lambda r: any(c.point == P_SET and c.cause is Cause.OPERATOR for c in r.commands)
    )
    assert first_s <= overridden.dt_s
    assert overridden.after(SET_S, lambda r: r.held[P_SET] < PLAN_KW - 10.0) <= overridden.dt_s
    assert overridden.after(BACK_S, lambda r: not manual(r)) <= overridden.dt_s


def test_override_the_plan_writes_nothing_to_the_battery_meanwhile(overridden):
    causes = {c.cause for r in overridden.rows(TAKEN_S, BACK_S) for c in r.commands if c.point == P_SET}
    assert Cause.PLAN not in causes
    assert Cause.OPERATOR in causes


def test_override_is_what_the_battery_does_until_it_expires(overridden):
    assert overridden.held(
        lambda r: at_or_near(r.held[P_SET], WANTED_KW), SET_S + RAMP_S / 5.0, SET_S + LEASE_S
    )
    ended = overridden.events("authority.lease.ended")
    assert ("ann", WANTED_KW) in [(e["owner"], e["value"]) for e in ended]
    safe_kw = 0.0
    assert overridden.after(SET_S + LEASE_S, lambda r: r.held[P_SET] > WANTED_KW) <= overridden.dt_s
    assert overridden.held(lambda r: r.held[P_SET] == safe_kw, SET_S + LEASE_S + RAMP_S, BACK_S)


def test_override_every_change_of_hands_is_bumpless(overridden):
    for changed_s in (TAKEN_S, SET_S, SET_S + LEASE_S, BACK_S):
        assert bumpless(overridden, changed_s), changed_s
    taken = [kw for t, kw in moves(overridden, TAKEN_S, SET_S)]
    assert max(taken) <= 1.0, "taken over as it is: nothing moves until something is set"


def test_override_back_in_auto_the_plan_is_followed_again(overridden):
    assert overridden.after(BACK_S, lambda r: at_or_near(r.held[P_SET], PLAN_KW)) <= RAMP_S
    assert overridden.last.decisions.source is Source.PLAN
    assert at_or_near(overridden.last.held[P_SET], PLAN_KW)


def test_override_for_a_time_ends_by_itself_in_auto(small):
    rig = rig_of(small, next_step_s=500.0)
    rig.at(10.0, lambda r: r.ask("ann", SwitchMode(device="bess1", mode=ControlMode.MANUAL, for_s=20.0)))
    rig.run(80.0)
    assert rig.after(30.0, lambda r: r.decisions.control["bess1"] is ControlMode.AUTO) <= rig.dt_s
    assert bumpless(rig, 30.0)
    assert rig.last.decisions.source is Source.PLAN


def token(rig: Rig) -> str:
    """Of what was selected last."""
    return next(str(a.token) for row in reversed(rig.log) for a in row.decisions.answers if a.token)


def in_hand(rig: Rig, point: str, value: float, at_s: float) -> Rig:
    """ann takes a device in manual, selects and operates."""
    device = point.partition(".")[0]
    rig.at(at_s, lambda r: r.ask("ann", SwitchMode(device=device, mode=ControlMode.MANUAL)))
    rig.at(at_s + 2.0, lambda r: r.ask("ann", Select(point=point, value=value)))
    return rig.at(at_s + 4.0, lambda r: r.ask("ann", Operate(token=token(r)), reason="works at it"))


RISES_S = 60.0
RISING: dict[str, Power] = {**LOAD_KW, "critical": lambda t: 80.0 if t < RISES_S else 400.0}


def test_override_a_stop_in_manual_stands_and_the_edge_starts_another_set(small: Site):
    """Load of an island rises beyond its battery: gen1, at which somebody may be working, is left off.

    Story: protection turned the stop round, and the engine ran.
    """
    options = RigOptions(islanded_by="bess1", soc=0.5, horizon_s=300.0)
    rig = in_hand(Rig(site_of(small), load_kw=RISING, options=options), "gen1.run_request", 0.0, 10.0).run(
        200.0
    )
    assert not any(r.wrote("gen1.run_request") == 1.0 for r in rig.rows())
    assert rig.held(lambda r: r.flows.genset_state["gen1"] is GensetState.STOPPED)
    asked_s = rig.after(RISES_S, lambda r: r.wrote("gen2.run_request") == 1.0)
    assert asked_s <= 15.0
    assert rig.last.flows.genset_state["gen2"] is GensetState.RUNNING
    told = [a.text for a in rig.last.decisions.alarms if a.code == "genset.unavailable"]
    assert told == ["gen1 cannot be used: people have it in hand"]
    assert {e["genset"] for e in rig.events("genset.start.requested")} == {"gen2"}


def test_override_a_start_in_manual_is_still_a_persons(small: Site):
    options = RigOptions(islanded_by="bess1", soc=0.5, horizon_s=300.0)
    rig = in_hand(Rig(site_of(small), load_kw=LOAD_KW, options=options), "gen1.run_request", 1.0, 10.0).run(
        90.0
    )
    assert rig.last.flows.genset_state["gen1"] is GensetState.RUNNING
    assert not rig.last.alarmed("genset.unavailable")


@pytest.mark.parametrize("others", [True, False])
def test_override_a_stop_waits_for_the_successor_where_one_can_come(small: Site, others: bool):
    """gen1 carries an island whose battery is nearly empty. gen2 comes, then gen1 goes; where gen2 is in hand
    too, nothing is waited for: what is left is the battery's, and feeders go.
    """
    options = RigOptions(islanded_by="gen1", gensets_on_kw={"gen1": 180.0}, soc=0.104, horizon_s=300.0)
    rig = Rig(site_of(small), load_kw={**LOAD_KW, "critical": 40.0}, options=options)
    if not others:
        rig.at(2.0, lambda r: r.ask("ann", SwitchMode(device="gen2", mode=ControlMode.MANUAL)))
    rig = in_hand(rig, "gen1.run_request", 0.0, 10.0).run(160.0)
    gone_s = rig.after(14.0, lambda r: r.wrote("gen1.run_request") == 0.0)
    came_s = rig.after(14.0, lambda r: r.flows.genset_state["gen2"] is GensetState.RUNNING)
    if others:
        assert came_s <= gone_s <= 60.0
        assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)
    else:
        assert gone_s <= 1.0
        assert came_s == math.inf


TEST_S, FALLS_S = 60.0, 90.0


def exported_in_test(small: Site, *, setpoint: str, pv_kw: float, soc: float) -> Rig:
    """Zero export; eve takes a device in test, then the load falls. On silence the device holds its value."""
    site = replace(small, control=ControlParams(users={"eve": frozenset({Role.ENGINEER})}))
    a = site.authority.setpoints[setpoint]
    holds = replace(a.safety, behaviour=DeviceBehaviour(timeout_s=15.0, on_silence=OnSilence.HOLD))
    setpoints = {**site.authority.setpoints, setpoint: replace(a, safety=holds)}
    site = replace(site, authority=replace(site.authority, setpoints=setpoints))
    loads: dict[str, Power] = {
        f: lambda t, kw=kw: kw if t < FALLS_S else 10.0  # type: ignore[misc]
        for f, kw in {"critical": 100.0, "essential": 150.0, "deferrable": 100.0}.items()
    }
    rig = Rig(site, load_kw=loads, pv_kw=pv_kw, options=RigOptions(soc=soc, horizon_s=400.0))
    device = setpoint.partition(".")[0]
    rig.at(TEST_S, lambda r: r.ask("eve", SwitchMode(device=device, mode=ControlMode.TEST)))
    return rig.run(240.0)


def test_override_in_test_protection_reduces_what_the_battery_was_last_told(small: Site):
    """Story: 315 kW were exported past a cap of 0 until the test was over: nobody wrote, the device held."""
    rig = exported_in_test(small, setpoint=P_SET, pv_kw=0.0, soc=0.8)
    held = [r.held[P_SET] for r in rig.rows(TEST_S + 1.0)]
    assert held[0] > 300.0
    assert rig.held(lambda r: r.held[P_SET] > held[0] - 10.0, TEST_S, FALLS_S)  # only the cap's bias is kept
    assert all(b <= a for a, b in pairwise(held))  # lowered, never raised
    assert rig.held(lambda r: r.flows.grid_p_kw >= 0.0, FALLS_S + 3.0)
    assert rig.held(lambda r: 0.0 <= r.held[P_SET] <= 30.0, FALLS_S + 3.0)
    causes = {c.cause for r in rig.rows(TEST_S + 2.0) for c in r.commands if c.point == P_SET}
    assert causes == {Cause.PROTECTION}


def test_override_in_test_protection_lowers_the_limit_of_pv(small: Site):
    """Its limit stands where the load of before left it; a full battery takes no more."""
    point = "pv1.p_limit_kw"
    rig = exported_in_test(small, setpoint=point, pv_kw=250.0, soc=0.95)
    assert rig.held(lambda r: r.flows.grid_p_kw >= -1.0, FALLS_S + 4.0)
    held = [r.held[point] for r in rig.rows(TEST_S + 2.0)]
    assert all(b <= a for a, b in pairwise(held))  # lowered, never raised
    assert {c.cause for r in rig.rows(TEST_S + 2.0) for c in r.commands if c.point == point} <= {
        Cause.PROTECTION
    }


LOCAL_S, REMOTE_S, PLANNED_S = 60.0, 120.0, 160.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MidWrite:
    """A run, and what was refused in the cycle in which the selector turned."""

    rig: Rig
    dropped: list[Refusal]


@pytest.fixture(scope="module")
def mid_write(small: Site) -> MidWrite:
    """The plan's next step is due at 60 s; the selector turns between that decision and its bytes."""
    rig = rig_of(small, next_step_s=LOCAL_S)

    def newest() -> Newest:
        """What the wire brings while a write waits for its turn."""
        if rig.t_s != LOCAL_S or rig.journal.snapshot is None:
            return Newest()
        rig.tell(SELECTOR, 0.0)
        return Newest(
            readings=[
                Reading(
                    point=SELECTOR,
                    value=0.0,
                    quality=Quality.GOOD,
                    source_time=rig.clock.now(),
                    arrived_s=rig.clock.monotonic_s(),
                )
            ]
        )

    rig.runtime._sender._newest = newest
    dropped: list[Refusal] = []
    again = plan_of(rig.site, bess_kw=[NEXT_KW] * 7, start=MONDAY + timedelta(seconds=STEP_S), seq=2)
    rig.at(LOCAL_S + rig.dt_s, lambda r: dropped.extend(r.journal.refusals))
    rig.at(REMOTE_S, lambda r: r.tell(SELECTOR, 1.0))
    rig.at(PLANNED_S, lambda r: r.publish(again))
    return MidWrite(rig=rig.run(220.0), dropped=dropped)


def test_local_in_the_middle_of_a_write_the_plans_write_is_dropped(mid_write):
    (row,) = [r for r in mid_write.rig.log if r.t_s == LOCAL_S]
    decided = [c for c in row.decisions.commands if c.point == P_SET]
    assert [(c.cause, c.value) for c in decided] == [(Cause.PLAN, NEXT_KW)], "it was on its way"
    assert row.decisions.control["bess1"] is ControlMode.AUTO
    assert row.wrote(P_SET) is None
    assert at_or_near(row.held[P_SET], PLAN_KW)
    (refusal,) = [x for x in mid_write.dropped if x.point == P_SET]
    assert "local" in refusal.reason


def test_local_nothing_at_all_is_written_until_the_selector_is_back(mid_write):
    rig = mid_write.rig
    assert rig.held(lambda r: r.decisions.control["bess1"] is ControlMode.LOCAL, LOCAL_S + 1.0, REMOTE_S)
    sent = [c.point for r in rig.rows(LOCAL_S, REMOTE_S) for c in r.commands]
    assert not [p for p in sent if p.startswith("bess1.")]
    assert "bess1" in str(rig.first(LOCAL_S + 1.0, lambda r: True).decisions.plan_refused)


def test_local_over_the_edge_begins_where_the_battery_stands_and_follows_the_next_plan(mid_write):
    rig = mid_write.rig
    assert rig.after(REMOTE_S, lambda r: r.decisions.control["bess1"] is ControlMode.AUTO) <= rig.dt_s
    assert bumpless(rig, REMOTE_S)
    assert rig.after(PLANNED_S, lambda r: r.decisions.source is Source.PLAN) <= rig.dt_s
    assert rig.held(lambda r: at_or_near(r.held[P_SET], NEXT_KW), PLANNED_S + RAMP_S)
