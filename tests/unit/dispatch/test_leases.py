"""A setpoint that is taken over is held no longer than its owner asked, whatever happened in between."""

import math
from dataclasses import replace

import pytest

from dispatch.authority.stage import restored
from ems.control import ControlMode
from ems.requests import Operate, Release, Select, SetSetpoint, Standing, SwitchMode
from tests.unit.dispatch.controlled import P_SET, loop, manual
from tests.unit.dispatch.loop import Loop

SELECTOR = "bess1.remote"


def ends_s(one: Loop, owner: str = "ann") -> float | None:
    """When a lease of the battery's setpoint is over; None: there is none."""
    lease = one.edge.authority.leases.get((P_SET, owner))
    return None if lease is None else lease.until_s


def flick(one: Loop) -> None:
    """Somebody turns the selector to local and back."""
    one.world.inputs[SELECTOR] = 0.0
    one.run(2.0)
    assert one.edge.authority.leases == {}
    one.world.inputs[SELECTOR] = 1.0
    one.run(2.0)


def restart(one: Loop, *, same_boot: bool = True) -> Standing:
    """The edge goes down and comes up with what it kept."""
    standing = one.log[-1][1].standing
    assert standing is not None
    kept = standing if same_boot else replace(standing, mode_until_s={}, held_until_s={})
    one.edge = replace(one.edge, authority=restored(one.site.control, kept, one.t), written={})
    one.run(1.0)
    return standing


def test_adopt_selector_flick_does_not_lengthen_a_short_lease():
    one = manual()
    assert one.ask("ann", SetSetpoint(point=P_SET, value=40.0, for_s=60.0)).done
    asked_s = ends_s(one)
    flick(one)
    assert ends_s(one) == asked_s
    one.run(60.0)
    assert ends_s(one) is None
    flick(one)
    assert ends_s(one) is None, "it was over before the selector moved"


def test_adopt_selector_flick_counts_from_the_choice_of_manual():
    one = manual()
    began_s = ends_s(one)
    one.run(100.0, 10.0)
    flick(one)
    assert ends_s(one) == began_s
    assert began_s is not None
    assert began_s - 4 * 3600.0 <= 10.0


def test_adopt_never_holds_longer_than_manual_was_chosen_for():
    one = loop()
    assert one.ask("ann", SwitchMode(device="bess1", mode=ControlMode.MANUAL, for_s=90.0)).done
    end_s = one.edge.authority.devices["bess1"].until_s
    assert ends_s(one) == end_s
    flick(one)
    assert ends_s(one) == end_s


def test_adopt_setpoint_given_back_is_not_taken_over_again():
    one = manual()
    assert one.ask("ann", Release(point=P_SET)).done
    flick(one)
    assert ends_s(one) is None


@pytest.mark.parametrize("who", ["ann", "eve"])
def test_adopt_value_of_a_probe_is_held_no_longer_than_the_probe(who):
    one = loop()
    assert one.ask("eve", SwitchMode(device="bess1", mode=ControlMode.TEST)).done
    picked = one.ask("eve", Select(point=P_SET, value=40.0))
    assert one.ask("eve", Operate(token=str(picked.token))).done
    end_s = ends_s(one, "eve")
    assert end_s is not None
    if who == "ann":  # an operator takes the whole plant, an engineer ends the test
        assert one.ask("ann", SwitchMode(device=None, mode=ControlMode.MANUAL)).done
    assert one.ask("eve", SwitchMode(device="bess1", mode=ControlMode.MANUAL)).done
    leases = one.edge.authority.leases
    assert {x.until_s for (point, _), x in leases.items() if point == P_SET} == {end_s}
    one.run(61.0)
    assert not [k for k in one.edge.authority.leases if k[0] == P_SET]


def test_adopt_after_a_restart_the_lease_ends_when_its_owner_said():
    one = manual()
    assert one.ask("ann", SetSetpoint(point=P_SET, value=40.0, for_s=60.0)).done
    asked_s = ends_s(one)
    restart(one)
    assert one.edge.authority.devices["bess1"].user == "ann"
    assert ends_s(one) == asked_s
    one.run(60.0)
    assert ends_s(one) is None
    restart(one)
    assert ends_s(one) is None, "what was over before the restart is not taken over"


def test_adopt_after_another_start_of_the_machine_nothing_is_held():
    """Its monotonic clock began anew, so nobody knows how much of a lease is left."""
    one = manual()
    assert one.ask("ann", SetSetpoint(point=P_SET, value=40.0, for_s=60.0)).done
    restart(one, same_boot=False)
    assert one.edge.authority.devices["bess1"].mode is ControlMode.MANUAL
    assert one.edge.authority.leases == {}


def test_restored_mode_for_a_time_ends_when_it_was_to_end():
    one = loop()
    assert one.ask("ann", SwitchMode(device=None, mode=ControlMode.MANUAL, for_s=90.0)).done
    restart(one)
    modes = []
    for seconds in (80.0, 20.0):
        one.run(seconds)
        modes.append(one.edge.authority.plant.mode)
    assert modes == [ControlMode.MANUAL, ControlMode.AUTO]


def test_adopt_manual_chosen_anew_is_asked_anew():
    one = manual()
    assert one.ask("ann", SetSetpoint(point=P_SET, value=40.0, for_s=30.0)).done
    one.run(40.0)
    assert one.ask("ann", SwitchMode(device="bess1", mode=ControlMode.AUTO)).done
    assert one.ask("ann", SwitchMode(device="bess1", mode=ControlMode.MANUAL)).done
    end_s = ends_s(one)
    assert end_s is not None
    assert math.isclose(end_s - one.t, 4 * 3600.0, abs_tol=3.0)
