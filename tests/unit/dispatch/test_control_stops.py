"""The emergency stop, interlocks, and what a time, a silence or a contradiction may not do."""

from dataclasses import replace

import pytest

from dispatch.authority.stage import restored
from ems.commands import Cause
from ems.control import ControlMode
from ems.control_site import (
    Interlock,
    InterlockEffect,
)
from ems.requests import (
    Bypass,
    Confirm,
    SetSetpoint,
    SwitchMode,
)
from tests.unit.dispatch.controlled import (
    DOOR,
    P_LIMIT,
    P_SET,
    RUN,
    Steady,
    loop,
    manual,
    utility,
    writes,
)
from tests.unit.dispatch.loop import Loop

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
