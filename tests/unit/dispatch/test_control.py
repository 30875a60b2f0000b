"""Modes of control, leases, interlocks, the emergency stop and limits in the tick, against the physics."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from dispatch.authority.stage import restored
from dispatch.vocabulary import Context, ControlMemory, Decisions, Source, Target, Targets
from ems.commands import Cause
from ems.control import ControlMode, Role
from ems.control_site import (
    Contact,
    ControlParams,
    Interlock,
    InterlockEffect,
    LimitKind,
    UtilityLimit,
)
from ems.requests import (
    Answer,
    Bypass,
    Confirm,
    Operate,
    Received,
    Release,
    ReleaseHeldSafe,
    Request,
    Select,
    SetLimit,
    SetSetpoint,
    Standing,
    SwitchMode,
    TellLimit,
)
from tests.unit.dispatch.loop import Loop, site_with

USERS = {
    "ann": frozenset({Role.OPERATOR}),
    "bob": frozenset({Role.OPERATOR}),
    "eve": frozenset({Role.ENGINEER}),
    "dan": frozenset({Role.ENGINEER}),
    "dso": frozenset({Role.UTILITY}),
    "guest": frozenset({Role.VIEWER}),
}
P_SET = "bess1.p_set_kw"
P_LIMIT = "pv1.p_limit_kw"
RUN = "gen1.run_request"


class Steady:
    """A controller that wants one power of the battery and nothing else."""

    name = "steady"

    def __init__(self) -> None:
        self.p_kw = 0.0

    def decide(self, context: Context) -> tuple[Targets, ControlMemory]:
        want = Target(value=self.p_kw, cause=Cause.RULES, reason="steady")
        return Targets(source=Source.RULES, bess_p_kw={"bess1": want}), context.memory


def loop(p_kw: float = 0.0, **control: Any) -> Loop:
    controller = Steady()
    controller.p_kw = p_kw
    out = Loop(
        controller,
        plant_site=site_with(control=ControlParams(users=USERS, **control)),
    )
    out.run(3.0)
    return out


def manual(device: str = "bess1", **control: Any) -> Loop:
    out = loop(**control)
    answer = out.ask("ann", SwitchMode(device=device, mode=ControlMode.MANUAL))
    assert answer.done, answer.text
    return out


def writes(decisions: Decisions, device: str) -> list[str]:
    return [c.point for c in decisions.commands if c.point.partition(".")[0] == device]


# --- who may what -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "ask", "code"),
    [
        ("ann", SetSetpoint(point=P_SET, value=50.0), "no_right"),  # auto: the plan decides
        ("guest", SwitchMode(device="bess1", mode=ControlMode.MANUAL), "no_right"),
        ("mallory", SwitchMode(device=None, mode=ControlMode.OFF), "unknown_user"),
        ("ann", SwitchMode(device="bess1", mode=ControlMode.TEST), "no_right"),
        ("ann", SwitchMode(device="bess9", mode=ControlMode.MANUAL), "unknown_device"),
        ("ann", SwitchMode(device="bess1", mode=ControlMode.LOCAL), "not_chosen"),
        ("ann", SwitchMode(device="bess1", mode=ControlMode.MANUAL, for_s=float("nan")), "bad_time"),
        ("ann", SwitchMode(device="bess1", mode=ControlMode.MANUAL, for_s=90_000.0), "bad_time"),
        ("ann", SetSetpoint(point="bess1.p_kw", value=5.0), "unknown_point"),
        ("ann", SetSetpoint(point=P_SET, value=float("nan")), "out_of_bounds"),
        ("ann", SetSetpoint(point=P_SET, value=500.1), "out_of_bounds"),
        ("dso", SetSetpoint(point=P_SET, value=5.0), "no_right"),
        ("ann", SetLimit(subject="weather", value=1.0), "unknown_subject"),
        ("ann", SetLimit(subject="gen1.run_request.high", value=0.0), "unknown_subject"),
        ("ann", SetLimit(subject="import", value=-1.0), "out_of_bounds"),
        ("ann", SetLimit(subject="bess1.p_set_kw.low", value=10.0), "out_of_bounds"),
        ("dso", SetLimit(subject="import", value=100.0), "no_right"),
        ("ann", Select(point=RUN, value=1.0), "no_right"),
        ("ann", Operate(token="00000000"), "not_selected"),
        ("ann", Confirm(proposal="00000000"), "unknown_proposal"),
        ("ann", Release(point=P_SET), "not_held"),
        ("ann", ReleaseHeldSafe(), "not_held_safe"),
        ("dso", ReleaseHeldSafe(), "no_right"),
        ("eve", Bypass(interlock="none", for_s=60.0), "unknown_interlock"),
        ("dso", TellLimit(limit="none", value_kw=1.0), "unknown_limit"),
    ],
)
def test_desk_request_without_right_or_sense_is_refused_and_changes_nothing(user, ask, code):
    one = loop()
    before = one.edge.authority
    answer = one.ask(user, ask)
    assert (answer.done, answer.code) == (False, code), answer.text
    after = one.edge.authority
    assert (after.plant, after.devices, after.leases, after.limits, after.told) == (
        before.plant, before.devices, before.leases, before.limits, before.told,
    )  # fmt: skip
    (event,) = one.events("authority.request.refused")
    assert (event["user"], event["code"]) == (user, code)


def test_desk_done_request_is_told_with_user_role_reason_old_and_new():
    one = manual()
    one.ask("ann", SetSetpoint(point=P_SET, value=60.0, for_s=120.0), reason="cell check")
    event = one.events("authority.request.done")[-1]
    assert (event["user"], event["roles"], event["reason"]) == ("ann", ["operator"], "cell check")
    assert (event["old"], event["new"], event["expires_in_s"]) == (0.0, 60.0, 120.0)


def test_desk_same_request_twice_is_done_once_and_answered_alike():
    one = manual()
    first = one.ask("ann", SetSetpoint(point=P_SET, value=60.0, for_s=10.0), key="k")
    one.run(20.0)
    again = one.ask("ann", SetSetpoint(point=P_SET, value=60.0, for_s=10.0), key="k")
    assert replace(again, n=first.n) == first
    assert not [x for x in one.edge.authority.leases.values() if x.value == 60.0], "it is over, for good"


def test_desk_request_older_than_its_time_to_live_is_refused():
    one = loop()
    ask = SwitchMode(device=None, mode=ControlMode.AUTO)
    request = Request(id="old", session="s", epoch=1, ttl_s=5.0, reason="", ask=ask)
    one.inbox.append(Received(user="ann", n=9, seen_s=one.t - 5.1, request=request))
    (answer,) = one.run(1.0).answers
    assert answer.code == "expired"
    for ttl_s in (float("nan"), -1.0):
        bad = replace(request, id=f"bad{ttl_s}", ttl_s=ttl_s)
        one.inbox.append(Received(user="ann", n=10, seen_s=one.t, request=bad))
        (answer,) = one.run(1.0).answers
        assert answer.code == "expired"


def test_desk_request_to_an_earlier_start_of_the_edge_only_makes_things_safer():
    one = manual()
    for ask in (
        SetSetpoint(point=P_SET, value=50.0),
        SwitchMode(device="bess1", mode=ControlMode.AUTO),
        Select(point=RUN, value=1.0),
    ):
        assert one.ask("ann", ask, epoch=0).code in ("other_epoch", "no_right")
    assert one.ask("ann", SetLimit(subject="import", value=100.0), epoch=0).done
    assert one.ask("eve", SetLimit(subject="import", value=200.0), epoch=0).code == "other_epoch"
    assert one.ask("ann", SwitchMode(device=None, mode=ControlMode.OFF), epoch=0).done


# --- manual and leases ------------------------------------------------------------------------------------


@pytest.mark.scenario(65)
def test_manual_setpoint_takes_effect_in_the_cycle_and_moves_by_the_transfer_ramp():
    one = manual()
    one.ask("ann", SetSetpoint(point=P_SET, value=-90.0, for_s=3600.0))
    first = one.last(P_SET)
    assert first is not None
    assert first.cause is Cause.OPERATOR
    assert (first.owner, first.request_id) == ("ann", "r2")
    step = 1000.0 / 30.0  # the span in 30 s
    moved = [0.0]
    for _ in range(6):
        one.run(1.0)
        moved.append(one.set[P_SET])
    assert max(abs(b - a) for a, b in pairwise(moved[1:])) <= step + 1e-6
    assert one.set[P_SET] == -90.0


@pytest.mark.scenario(65)
def test_manual_lease_that_is_over_leaves_the_safe_value_and_no_other_lease_is_touched():
    one = manual()
    one.ask("ann", SetSetpoint(point=P_SET, value=-90.0, for_s=20.0))
    one.ask("ann", SwitchMode(device="gen1", mode=ControlMode.MANUAL))
    one.ask("ann", SetSetpoint(point="gen1.p_set_kw", value=200.0, for_s=600.0))
    one.run(10.0)
    assert one.set[P_SET] == -90.0
    until_s = one.edge.authority.leases[("gen1.p_set_kw", "ann")].until_s
    one.ask("ann", SetSetpoint(point="gen1.p_set_kw", value=210.0, for_s=600.0))  # keeps gen1 alone alive
    assert one.edge.authority.leases[("gen1.p_set_kw", "ann")].until_s > until_s
    one.run(20.0)
    assert (P_SET, "ann") not in one.edge.authority.leases
    assert one.set[P_SET] == 0.0, "the site file's safe value beside the grid"
    assert [e["point"] for e in one.events("authority.lease.ended")][-1] == P_SET


def test_manual_two_owners_the_newest_counts_and_each_has_its_own_expiry():
    one = manual()
    one.ask("ann", SetSetpoint(point=P_SET, value=-60.0, for_s=60.0))
    one.ask("bob", SetSetpoint(point=P_SET, value=-30.0, for_s=10.0))
    one.run(8.0)
    assert one.set[P_SET] == -30.0
    one.run(6.0)
    assert one.set[P_SET] == -60.0, "bob's is over, ann's is not"
    assert one.ask("ann", Release(point=P_SET)).done
    one.run(5.0)
    assert one.set[P_SET] == 0.0


def test_manual_entered_takes_over_what_was_without_a_step():
    one = loop()
    one.world.pv_kw = {"pv1": 300.0}
    one.run(30.0)
    before = one.set[P_SET]
    assert before < -50.0, "the rules charge with the sun"
    one.ask("ann", SwitchMode(device="bess1", mode=ControlMode.MANUAL))
    one.run(5.0)
    assert one.set[P_SET] == pytest.approx(before, abs=8.0)


@pytest.mark.scenario(65)
def test_manual_for_a_time_goes_back_to_auto_and_the_controller_without_a_step():
    one = loop()
    one.world.pv_kw = {"pv1": 300.0}
    one.run(30.0)
    auto = one.set[P_SET]
    one.ask("ann", SwitchMode(device="bess1", mode=ControlMode.MANUAL, for_s=20.0))
    one.ask("ann", SetSetpoint(point=P_SET, value=0.0))
    one.run(15.0)
    assert one.set[P_SET] == 0.0
    values = []
    for _ in range(25):
        one.run(1.0)
        values.append(one.set[P_SET])
    assert one.log[-1][1].control["bess1"] is ControlMode.AUTO
    assert values[-1] == pytest.approx(auto, abs=10.0)
    assert max(abs(b - a) for a, b in pairwise(values)) <= 1000.0 / 30.0 + 1e-6


def test_manual_protection_still_holds_the_caps():
    one = manual()
    answer = one.ask("ann", SetSetpoint(point=P_SET, value=500.0))  # 300 kW of it would be exported
    assert answer.done
    one.run(60.0)
    assert one.flows is not None
    assert one.flows.grid_p_kw >= -1.0, "zero export"
    assert one.set[P_SET] < 210.0


def test_manual_plant_follows_no_rules_but_keeps_protecting():
    one = loop()
    one.ask("ann", SwitchMode(device=None, mode=ControlMode.MANUAL))
    d = one.run(30.0)
    assert {c.cause for c in d.commands} <= {Cause.OPERATOR, Cause.PROTECTION}
    assert set(d.control.values()) == {ControlMode.MANUAL}


def test_manual_pv_limit_of_an_operator_is_the_lower_of_the_two():
    one = manual("pv1")
    one.world.pv_kw = {"pv1": 300.0}
    one.ask("ann", SetSetpoint(point=P_LIMIT, value=80.0))
    one.run(40.0)
    assert one.set[P_LIMIT] == 80.0
    one.world.faults = replace(one.world.faults)
    one.world.mains = False  # the island can take more, the operator does not want it
    one.run(20.0)
    assert one.set[P_LIMIT] <= 80.0


# --- off, local, test -------------------------------------------------------------------------------------


def test_off_writes_the_safe_table_once_and_then_nothing():
    one = loop()
    one.world.pv_kw = {"pv1": 100.0}
    one.run(10.0)
    one.ask("ann", SwitchMode(device=None, mode=ControlMode.OFF))
    first = one.log[-1][1]
    assert {c.cause for c in first.commands} == {Cause.SAFE_TABLE}
    assert one.set[P_LIMIT] == 0.0
    for _ in range(30):
        assert one.run(1.0).commands == ()


@pytest.mark.parametrize("selector", ["bess1.remote", "bus.remote"])
def test_local_selector_no_write_from_that_cycle_on(selector):
    one = loop()
    one.world.inputs = {selector: 1.0}
    one.world.pv_kw = {"pv1": 200.0}
    one.run(10.0)
    one.world.inputs = {selector: 0.0}
    for _ in range(20):
        d = one.run(1.0)
        assert not writes(d, "bess1")
        assert d.control["bess1"] is ControlMode.LOCAL
        assert selector != "bus.remote" or not d.commands


@pytest.mark.scenario(65)
def test_local_return_starts_from_what_the_device_does_and_ramps():
    """Somebody at the panel charged the battery: the edge takes over there, not at its own last word."""
    one = loop()
    one.world.inputs = {"bess1.remote": 1.0}
    one.run(10.0)
    one.world.inputs = {"bess1.remote": 0.0}
    one.set[P_SET] = -150.0  # at the panel
    one.run(10.0)
    assert P_SET not in one.edge.written
    one.world.inputs = {"bess1.remote": 1.0}
    values = [-150.0]
    for _ in range(15):
        one.run(1.0)
        values.append(one.set[P_SET])
    step = 1000.0 / 30.0
    assert abs(values[1] - -150.0) <= step + 5.0
    assert max(abs(b - a) for a, b in pairwise(values)) <= step + 5.0
    assert values[-1] == pytest.approx(0.0, abs=1.0)


def test_local_pv_limit_comes_back_from_what_the_plant_gives():
    one = loop()
    one.world.inputs = {"pv1.remote": 1.0}
    one.world.pv_kw = {"pv1": 50.0}
    one.run(10.0)
    one.world.inputs = {"pv1.remote": 0.0}
    one.set[P_LIMIT] = 20.0
    one.run(5.0)
    one.world.inputs = {"pv1.remote": 1.0}
    one.run(1.0)
    first = one.last(P_LIMIT)
    assert first is not None
    assert first.value <= 20.0 + 600.0 / 30.0 + 1.0


def test_local_selector_that_falls_silent_keeps_its_position_for_three_seconds():
    one = loop()
    one.world.inputs = {"bess1.remote": 1.0}
    one.run(5.0)
    one.world.inputs = {}
    assert one.run(3.0).control["bess1"] is ControlMode.AUTO
    assert one.run(2.0).control["bess1"] is ControlMode.LOCAL


def test_local_battery_is_not_counted_on():
    one = loop()
    one.world.inputs = {"bess1.remote": 0.0, "gen1.remote": 0.0}
    d = one.run(2.0)
    assert not d.condition.bess["bess1"].available
    assert not d.condition.gensets["gen1"].available
    assert d.condition.gensets["gen2"].available


def test_test_mode_lets_an_engineer_probe_one_setpoint_for_a_minute():
    one = loop()
    assert one.ask("eve", SwitchMode(device="bess1", mode=ControlMode.TEST)).done
    assert one.ask("eve", Select(point=P_SET, value=51.0)).code == "out_of_bounds", "5 % of 1000 kW"
    assert one.ask("ann", Select(point=P_SET, value=40.0)).code == "no_right"
    picked = one.ask("eve", Select(point=P_SET, value=40.0))
    assert picked.token is not None
    assert one.ask("eve", Operate(token=picked.token)).done
    one.run(5.0)
    assert one.set[P_SET] == 40.0
    assert one.ask("eve", Select(point=P_SET, value=20.0)).code == "one_at_a_time"
    sent = one.run(60.0)
    assert not sent.commands or not writes(sent, "bess1")
    for _ in range(10):
        assert not writes(one.run(1.0), "bess1"), "no rules and no protection write in test"


# --- emergency stop and interlocks ------------------------------------------------------------------------

DEMANDS = {P_SET: 0.0, P_LIMIT: 0.0}


def test_emergency_stop_demands_are_written_and_kept_alive_and_nothing_else():
    one = loop(emergency_stop=DEMANDS)
    one.world.inputs = {"bus.emergency_stop": 1.0}
    one.world.pv_kw = {"pv1": 200.0}
    one.run(10.0)
    one.world.inputs = {"bus.emergency_stop": 0.0}
    d = one.run(1.0)
    assert {c.point for c in d.commands} == set(DEMANDS)
    assert {c.cause for c in d.commands} == {Cause.EMERGENCY_STOP}
    assert (one.set[P_SET], one.set[P_LIMIT]) == (0.0, 0.0)
    sent = [c for _ in range(12) for c in one.run(1.0).commands]
    assert {c.point for c in sent} == set(DEMANDS), "refreshed, so that no device falls back to another value"
    assert "control.emergency_stop" in {a.code for a in one.log[-1][1].alarms}


def test_emergency_stop_open_at_the_start_is_carried_out_before_a_device_is_known():
    one = loop(emergency_stop={"bess1.p_set_kw": 0.0})
    fresh = Loop(Steady(), plant_site=one.site)
    fresh.world.inputs["bus.emergency_stop"] = 0.0
    fresh.world.silent = frozenset({"bess1.soc"})
    fresh.run(5.0)
    assert fresh.set["bess1.p_set_kw"] == 0.0


def test_test_mode_does_not_keep_what_an_operator_had_set():
    one = manual()
    assert one.ask("ann", SetSetpoint(point=P_SET, value=-100.0)).done
    one.run(5.0)
    assert one.ask("eve", SwitchMode(device="bess1", mode=ControlMode.TEST)).done
    assert not one.edge.authority.leases
    before = len(one.log)
    one.run(5.0)
    assert not [c for _, d, _ in one.log[before:] for c in d.commands if c.cause is Cause.OPERATOR]


def test_emergency_stop_closed_again_stays_off_until_a_person_chooses():
    one = loop(emergency_stop=DEMANDS)
    one.world.inputs = {"bus.emergency_stop": 0.0}
    one.run(2.0)
    assert one.ask("ann", SwitchMode(device=None, mode=ControlMode.AUTO)).code == "still_pressed"
    one.world.inputs = {"bus.emergency_stop": 1.0}
    d = one.run(5.0)
    assert d.plant_control is ControlMode.OFF
    assert not [c for c in d.commands if c.cause is not Cause.SAFE_TABLE]
    assert d.standing is not None
    assert d.standing.stopped
    assert one.ask("ann", SwitchMode(device=None, mode=ControlMode.AUTO)).done
    d = one.run(3.0)
    assert d.plant_control is ControlMode.AUTO
    assert "control.emergency_stop" not in {a.code for a in d.alarms}


def test_emergency_stop_circuit_not_read_for_three_seconds_counts_as_open():
    one = loop(emergency_stop=DEMANDS)
    one.world.inputs = {"bus.emergency_stop": 1.0}
    one.run(5.0)
    one.world.inputs = {}
    assert one.run(3.0).plant_control is ControlMode.AUTO
    assert one.run(2.0).plant_control is ControlMode.OFF


DOOR = Interlock(
    id="door",
    point="bus.contact_1",
    low=0.5,
    high=None,
    effects=(
        InterlockEffect(point=P_SET, low=-20.0, high=20.0),
        InterlockEffect(point=RUN, low=None, high=None),
    ),
    cause="the door is open",
)


def test_interlock_tripped_bounds_and_blocks_and_says_why():
    one = loop(interlocks=(DOOR,))
    one.world.inputs = {"bus.contact_1": 1.0}
    one.world.pv_kw = {"pv1": 300.0}
    one.run(30.0)
    assert one.set[P_SET] < -50.0
    one.world.inputs = {"bus.contact_1": 0.0}
    d = one.run(1.0)
    assert one.set[P_SET] == -20.0, "at once: it is tighter"
    command = one.last(P_SET)
    assert command is not None
    assert "interlock" in command.reason
    assert ("control.interlock", "door") in {(a.code, a.asset) for a in d.alarms}
    assert RUN not in {c.point for _ in range(10) for c in one.run(1.0).commands}


def test_interlock_without_a_good_reading_is_tripped():
    one = loop(interlocks=(DOOR,))
    assert ("control.interlock", "door") in {(a.code, a.asset) for a in one.run(1.0).alarms}


def test_interlock_bypass_needs_two_persons_or_glass_and_ends_by_itself():
    one = loop(interlocks=(DOOR,))
    assert one.ask("eve", Bypass(interlock="door", for_s=60.0), reason="").code == "no_reason"
    assert one.ask("eve", Bypass(interlock="door", for_s=5 * 3600.0)).code == "bad_time"
    proposed = one.ask("eve", Bypass(interlock="door", for_s=60.0))
    assert (proposed.code, proposed.token is not None) == ("pending", True)
    assert ("control.interlock", "door") in {(a.code, a.asset) for a in one.run(1.0).alarms}
    assert one.ask("eve", Confirm(proposal=str(proposed.token))).code == "same_person"
    assert one.ask("ann", Confirm(proposal=str(proposed.token))).done
    codes = {(a.code, a.asset) for a in one.run(1.0).alarms}
    assert ("control.interlock_bypassed", "door") in codes
    assert ("control.interlock", "door") not in codes
    one.run(65.0)
    assert ("control.interlock", "door") in {(a.code, a.asset) for a in one.run(1.0).alarms}


# --- limits -----------------------------------------------------------------------------------------------


def test_limit_tightened_by_one_person_holds_in_the_cycle_and_loosened_needs_two():
    one = loop()
    one.world.pv_kw = {"pv1": 300.0}
    one.run(30.0)
    assert one.set[P_SET] < -60.0
    assert one.ask("ann", SetLimit(subject="bess1.p_set_kw.low", value=-30.0)).done
    assert one.set[P_SET] == -30.0
    answer = one.ask("ann", SetLimit(subject="bess1.p_set_kw.low", value=None))
    assert answer.code == "no_right", "an operator does not loosen"
    proposed = one.ask("eve", SetLimit(subject="bess1.p_set_kw.low", value=None))
    one.run(5.0)
    assert one.set[P_SET] == -30.0
    assert one.ask("dso", Confirm(proposal=str(proposed.token))).code == "no_right"
    assert one.ask("dan", Confirm(proposal=str(proposed.token))).done
    one.run(30.0)
    assert one.set[P_SET] < -60.0


def test_limit_loosening_is_void_when_nobody_confirms_in_time_or_the_limit_has_changed():
    one = loop()
    one.ask("ann", SetLimit(subject="import", value=100.0))
    late = one.ask("eve", SetLimit(subject="import", value=200.0))
    one.run(610.0, 10.0)
    assert one.ask("dan", Confirm(proposal=str(late.token))).code == "unknown_proposal"
    void = one.ask("eve", SetLimit(subject="import", value=200.0))
    one.ask("ann", SetLimit(subject="import", value=50.0))
    assert one.ask("dan", Confirm(proposal=str(void.token))).code == "unknown_proposal"
    assert one.edge.authority.limits["import"].value == 50.0


def test_limit_broken_glass_is_alarmed_ends_by_itself_and_is_not_widened_by_a_tightening():
    one = loop()
    one.ask("ann", SetLimit(subject="import", value=100.0))
    ask = SetLimit(subject="import", value=300.0, break_glass=True, for_s=60.0)
    assert one.ask("ann", ask).code == "no_right"
    assert one.ask("eve", replace(ask, for_s=None)).code == "bad_time"
    assert one.ask("eve", replace(ask, for_s=4 * 3600.0 + 1)).code == "bad_time"
    assert one.ask("eve", ask, reason=" ").code == "no_reason"
    assert one.ask("eve", ask).done
    d = one.run(1.0)
    assert d.condition.import_cap_kw == 300.0
    assert ("control.break_glass", "import") in {(a.code, a.asset) for a in d.alarms}
    assert one.ask("bob", SetLimit(subject="import", value=200.0)).done  # wider than 100
    assert one.run(1.0).condition.import_cap_kw == 200.0
    assert one.edge.authority.limits["import"].value == 100.0
    one.run(60.0)
    assert one.run(1.0).condition.import_cap_kw == 100.0


def test_limit_on_import_is_held_by_the_battery():
    one = loop()
    one.world.demand_kw = {"critical": 100.0, "essential": 150.0, "deferrable": 50.0}
    one.run(20.0)
    assert one.flows is not None
    assert one.flows.grid_p_kw > 250.0
    one.ask("ann", SetLimit(subject="import", value=150.0))
    one.run(10.0)
    assert one.flows.grid_p_kw <= 151.0


def utility(**changes: object) -> UtilityLimit:
    values: dict[str, object] = {
        "id": "dso", "kind": LimitKind.PV, "watchdog_s": 10.0, "on_loss_kw": 60.0,
        "point": "grid1.p_pv_kw_max",
    }  # fmt: skip
    return UtilityLimit(**(values | changes))  # type: ignore[arg-type]


def test_utility_limit_read_from_a_point_holds_in_the_cycle_and_its_loss_has_a_value():
    one = loop(limits=(utility(),))
    one.world.inputs = {"grid1.p_pv_kw_max": 600.0}
    one.world.pv_kw = {"pv1": 150.0}
    one.run(60.0)
    assert one.set[P_LIMIT] > 150.0
    one.world.inputs = {"grid1.p_pv_kw_max": 90.0}
    one.run(1.0)
    assert one.set[P_LIMIT] == 90.0
    one.world.inputs = {}
    one.run(10.0)
    assert one.set[P_LIMIT] == 90.0, "the last value until the watchdog's time is over"
    d = one.run(2.0)
    assert one.set[P_LIMIT] == 60.0
    assert ("control.limit_lost", "dso") in {(a.code, a.asset) for a in d.alarms}
    one.world.inputs = {"grid1.p_pv_kw_max": 600.0}
    assert ("control.limit_lost", "dso") not in {(a.code, a.asset) for a in one.run(1.0).alarms}


def test_utility_limit_whose_heartbeat_stands_still_is_lost_though_it_is_read():
    one = loop(limits=(utility(heartbeat="grid1.limits_heartbeat"),))
    for beat in range(20):
        one.world.inputs = {"grid1.p_pv_kw_max": 90.0, "grid1.limits_heartbeat": float(beat)}
        one.run(1.0)
    assert one.set[P_LIMIT] == 90.0
    one.run(22.0)
    assert one.set[P_LIMIT] == 60.0


CONTACTS = tuple(
    Contact(point=f"bus.contact_{i}", cap_kw=600.0 * r) for i, r in ((1, 1.0), (2, 0.6), (3, 0.3), (4, 0.0))
)


@pytest.mark.parametrize(
    ("closed", "cap_kw"), [((2,), 360.0), ((3,), 180.0), ((4,), 0.0), ((2, 3), 180.0), ((1, 2, 3, 4), 0.0)]
)
def test_utility_limit_of_a_ripple_control_receiver_the_strictest_closed_contact_holds(closed, cap_kw):
    one = loop(limits=(utility(point=None, contacts=CONTACTS),))
    one.world.inputs = {f"bus.contact_{i}": float(i == 1) for i in range(1, 5)}
    one.run(40.0)
    one.world.inputs = {f"bus.contact_{i}": float(i in closed) for i in range(1, 5)}
    one.run(1.0)
    assert one.set[P_LIMIT] == min(cap_kw, one.set[P_LIMIT])
    assert one.edge.authority.told["dso"].value_kw == cap_kw


def test_utility_limit_of_contacts_none_closed_or_one_unread_is_a_loss_after_the_watchdog():
    one = loop(limits=(utility(point=None, contacts=CONTACTS),))
    one.world.inputs = {f"bus.contact_{i}": float(i == 3) for i in range(1, 5)}
    one.run(10.0)
    assert one.edge.authority.told["dso"].value_kw == 180.0
    one.world.inputs = {f"bus.contact_{i}": 0.0 for i in range(1, 5)}
    assert not one.run(5.0).alarms or ("control.limit_lost", "dso") not in {
        (a.code, a.asset) for a in one.log[-1][1].alarms
    }
    assert ("control.limit_lost", "dso") in {(a.code, a.asset) for a in one.run(8.0).alarms}
    assert one.set[P_LIMIT] <= 60.0


def test_utility_limit_told_by_messages_holds_and_their_silence_has_a_value():
    one = loop(limits=(utility(point=None, kind=LimitKind.EXPORT, on_loss_kw=0.0),))
    assert one.ask("ann", TellLimit(limit="dso", value_kw=50.0)).code == "no_right"
    assert one.ask("dso", TellLimit(limit="dso", value_kw=float("inf"))).code == "out_of_bounds"
    assert one.ask("dso", TellLimit(limit="dso", value_kw=50.0), epoch=0).code == "other_epoch"
    assert one.ask("dso", TellLimit(limit="dso", value_kw=50.0)).done
    assert one.log[-1][1].condition.export_cap_kw == 50.0
    one.run(12.0)
    assert one.log[-1][1].condition.export_cap_kw == 0.0


def test_utility_limit_on_charging_binds_the_battery():
    one = loop(limits=(utility(kind=LimitKind.BESS_CHARGE, point="grid1.p_charge_kw_max", on_loss_kw=0.0),))
    one.world.pv_kw = {"pv1": 300.0}
    one.world.inputs = {"grid1.p_charge_kw_max": 40.0}
    one.run(30.0)
    assert one.set[P_SET] == -40.0


def test_utility_cap_at_the_poi_without_an_entry_holds_and_its_last_value_stays():
    one = loop()
    one.world.demand_kw = {"critical": 100.0, "essential": 150.0, "deferrable": 50.0}
    one.world.inputs = {"grid1.p_import_kw_max": 150.0}
    one.run(20.0)
    assert one.flows is not None
    assert one.flows.grid_p_kw <= 151.0
    one.world.inputs = {}
    one.run(60.0)
    assert one.flows.grid_p_kw <= 151.0


def test_operator_limit_stays_inside_that_of_the_utility():
    one = loop(limits=(utility(),))
    one.world.inputs = {"grid1.p_pv_kw_max": 90.0}
    one.ask("ann", SetLimit(subject="pv", value=200.0))
    one.run(5.0)
    assert one.set[P_LIMIT] == 90.0


# --- select before operate --------------------------------------------------------------------------------


def selected(one: Loop, value: float = 1.0) -> Answer:
    answer = one.ask("ann", Select(point=RUN, value=value))
    assert answer.done, answer.text
    return answer


def test_select_and_operate_starts_the_genset_once():
    one = manual("gen1")
    token = str(selected(one).token)
    assert one.ask("ann", Operate(token=token)).done
    one.run(60.0)
    assert one.set[RUN] == 1.0
    assert one.ask("ann", Operate(token=token)).code == "not_selected"


def test_set_of_a_discrete_setpoint_is_refused_and_select_of_a_continuous_one_too():
    one = manual("gen1")
    assert one.ask("ann", SetSetpoint(point=RUN, value=1.0)).code == "needs_select"
    assert one.ask("ann", Select(point="gen1.p_set_kw", value=100.0)).code == "not_discrete"
    assert one.ask("ann", Select(point=RUN, value=0.5)).code == "out_of_bounds"


def test_select_of_what_somebody_else_has_selected_is_refused():
    one = manual("gen1")
    selected(one)
    assert one.ask("bob", Select(point=RUN, value=0.0)).code == "selected_by_other"
    one.run(10.0)
    assert one.ask("bob", Select(point=RUN, value=0.0)).done


# --- held safe and restart --------------------------------------------------------------------------------


def test_held_safe_is_released_by_an_operator_with_a_reason():
    one = loop()
    one.edge = replace(one.edge, held_safe=True)
    one.run(2.0)
    assert one.ask("dso", ReleaseHeldSafe()).code == "no_right"
    assert one.ask("ann", ReleaseHeldSafe(), reason="").code == "no_reason"
    assert one.edge.held_safe
    assert one.ask("ann", ReleaseHeldSafe(), reason="fuse replaced").done
    released: bool = one.edge.held_safe
    assert not released
    assert one.run(5.0).commands or one.edge.written


def test_restored_edge_is_as_tight_as_it_went_down():
    one = loop(limits=(utility(point=None, kind=LimitKind.EXPORT),))
    one.ask("ann", SetLimit(subject="import", value=100.0))
    one.ask("eve", SetLimit(subject="import", value=300.0, break_glass=True, for_s=3600.0))
    one.ask("dso", TellLimit(limit="dso", value_kw=0.0))
    one.ask("ann", SwitchMode(device="bess1", mode=ControlMode.MANUAL))
    one.ask("eve", SwitchMode(device="gen1", mode=ControlMode.TEST))
    one.ask("ann", SetSetpoint(point=P_SET, value=20.0))
    standing = one.run(1.0).standing
    assert isinstance(standing, Standing)
    after = restored(one.site.control, standing, 5.0)
    assert {s: x.value for s, x in after.limits.items()} == {"import": 100.0}
    assert (after.loosened, after.leases, after.pending) == ({}, {}, {})
    assert {d: c.mode for d, c in after.devices.items()} == {
        "bess1": ControlMode.MANUAL, "gen1": ControlMode.MANUAL,
    }  # fmt: skip
    assert after.told["dso"].value_kw == 0.0
    one.edge = replace(one.edge, authority=after, written={})
    one.run(1.0)
    assert one.log[-1][1].condition.import_cap_kw == 100.0


def test_restored_edge_of_a_site_that_never_ran_begins_in_the_mode_of_the_file():
    assert restored(ControlParams(start_mode=ControlMode.OFF), None, 0.0).plant.mode is ControlMode.OFF


# --- what a time, a silence or a contradiction may not do -------------------------------------------------


@pytest.mark.parametrize("device", [None, "bess1"])
def test_mode_for_a_time_out_of_off_ends_in_off(device):
    one = loop()
    assert one.ask("ann", SwitchMode(device=device, mode=ControlMode.OFF)).done
    for mode in (ControlMode.MANUAL, ControlMode.AUTO):
        assert one.ask("ann", SwitchMode(device=device, mode=mode, for_s=20.0)).done
        assert one.run(5.0).control["bess1"] is mode
    assert one.run(30.0).control["bess1"] is ControlMode.OFF


def test_mode_for_a_time_out_of_the_latch_of_the_emergency_stop_ends_in_off():
    one = loop(emergency_stop=DEMANDS)
    one.world.inputs = {"bus.emergency_stop": 0.0}
    one.run(2.0)
    one.world.inputs = {"bus.emergency_stop": 1.0}
    one.run(2.0)
    assert one.ask("ann", SwitchMode(device=None, mode=ControlMode.MANUAL, for_s=20.0)).done
    assert one.run(5.0).plant_control is ControlMode.MANUAL
    assert one.run(30.0).plant_control is ControlMode.OFF


def test_mode_for_a_time_ends_in_the_one_that_was_there_and_that_of_its_person():
    one = manual(device="bess1")
    assert one.ask("eve", SwitchMode(device="bess1", mode=ControlMode.TEST, for_s=20.0)).done
    assert one.run(5.0).control["bess1"] is ControlMode.TEST
    assert one.run(30.0).control["bess1"] is ControlMode.MANUAL
    assert {x.owner for x in one.edge.authority.leases.values()} == {"ann"}


def test_mode_for_a_time_is_kept_over_a_restart_as_the_stricter_of_both():
    one = loop()
    one.ask("ann", SwitchMode(device=None, mode=ControlMode.OFF))
    one.ask("ann", SwitchMode(device=None, mode=ControlMode.AUTO, for_s=600.0))
    one.ask("ann", SwitchMode(device="gen1", mode=ControlMode.MANUAL, for_s=600.0))
    standing = one.run(1.0).standing
    assert standing is not None
    assert (standing.plant, standing.devices) == (ControlMode.OFF, {"gen1": ControlMode.MANUAL})
    assert set(standing.mode_until_s) == {"gen1"}, "off does not end"
    one.edge = replace(one.edge, authority=restored(one.site.control, standing, one.t))
    assert one.run(700.0, 10.0).plant_control is ControlMode.OFF


def test_emergency_stop_reaches_a_device_whose_selector_cannot_be_read():
    one = loop(emergency_stop=DEMANDS)
    one.world.inputs = {"bess1.remote": 1.0, "bus.emergency_stop": 1.0}
    one.world.pv_kw = {"pv1": 300.0}
    one.run(30.0)
    assert one.set[P_SET] < -50.0
    one.world.inputs = {"bus.emergency_stop": 1.0}
    d = one.run(5.0)
    assert (d.control["bess1"], writes(d, "bess1")) == (ControlMode.LOCAL, [])
    one.world.inputs = {"bus.emergency_stop": 0.0}
    d = one.run(1.0)
    assert one.set[P_SET] == 0.0
    assert {c.cause for c in d.commands} == {Cause.EMERGENCY_STOP}
    assert d.control["bess1"] is ControlMode.OFF


@pytest.mark.parametrize("selector", ["bess1.remote", "bus.remote"])
def test_emergency_stop_writes_nothing_to_a_device_that_was_last_read_in_local(selector):
    """A module that dies takes the stop circuit and the selector with it; who works there is still there."""
    one = loop(emergency_stop=DEMANDS)
    one.world.inputs = {selector: 1.0, "bus.emergency_stop": 1.0}
    one.run(5.0)
    for inputs in ({selector: 0.0, "bus.emergency_stop": 0.0}, {}):
        one.world.inputs = inputs
        for _ in range(8):
            assert not writes(one.run(1.0), "bess1")
    assert one.log[-1][1].plant_control is ControlMode.OFF


def test_emergency_stop_waits_for_the_first_reading_of_a_selector_and_no_longer():
    mapped = Loop(Steady(), plant_site=loop(emergency_stop=DEMANDS).site)
    control = replace(mapped.setup.layout.control, mapped=frozenset({"bess1.remote"}))
    object.__setattr__(mapped.setup, "layout", replace(mapped.setup.layout, control=control))
    mapped.world.inputs = {"bus.emergency_stop": 0.0}
    mapped.run(3.0)
    assert P_SET not in mapped.set
    mapped.run(3.0)
    assert mapped.set[P_SET] == 0.0


FORCING = Interlock(
    id="vent",
    point="bus.contact_1",
    low=0.5,
    high=None,
    effects=(InterlockEffect(point=P_SET, low=10.0, high=20.0),),
    cause="the vent asks for discharge",
)


def test_interlock_band_without_zero_never_moves_a_battery_that_cannot():
    one = loop(interlocks=(FORCING,))
    one.world.inputs = {"bus.contact_1": 0.0}
    one.run(5.0)
    assert one.set[P_SET] == 10.0
    one.world.faults = replace(one.world.faults, bess_tripped=frozenset({"bess1"}))
    sent = [c for _ in range(20) for c in one.run(1.0).commands if c.point == P_SET]
    assert one.set[P_SET] == 0.0
    assert {c.value for c in sent[1:]} <= {0.0}


def test_utility_limit_that_falls_silent_is_never_looser_than_its_last_word():
    one = loop(limits=(utility(),))
    one.world.inputs = {"grid1.p_pv_kw_max": 20.0}
    one.world.pv_kw = {"pv1": 150.0}
    one.run(20.0)
    one.world.inputs = {}
    d = one.run(15.0)
    assert ("control.limit_lost", "dso") in {(a.code, a.asset) for a in d.alarms}
    assert one.set[P_LIMIT] == 20.0
