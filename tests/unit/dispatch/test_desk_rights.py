"""What was right when it was asked is judged again when it is done: the second probe, the second person."""

import pytest

from ems.control import ControlMode
from ems.requests import Bypass, Confirm, Operate, Select, SetLimit, SwitchMode
from tests.unit.dispatch.controlled import DOOR, P_LIMIT, P_SET, loop
from tests.unit.dispatch.loop import Loop


def selected(one: Loop, point: str, value: float) -> str:
    answer = one.ask("eve", Select(point=point, value=value))
    assert answer.done, answer.text
    return str(answer.token)


def test_operate_second_probe_selected_before_the_first_ran_is_refused():
    """Both were selected while nothing was probed; only one may be done."""
    one = loop()
    one.world.pv_kw = {"pv1": 100.0}
    one.run(3.0)
    assert one.ask("eve", SwitchMode(device=None, mode=ControlMode.TEST)).done
    stands = one.edge.authority.modes
    assert {stands["bess1"], stands["pv1"]} == {ControlMode.TEST}
    first, second = selected(one, P_SET, 40.0), selected(one, P_LIMIT, one.set.get(P_LIMIT, 300.0))
    assert one.ask("eve", Operate(token=first)).done
    answer = one.ask("eve", Operate(token=second))
    assert (answer.done, answer.code) == (False, "one_at_a_time")
    assert [p for p, _ in one.edge.authority.leases] == [P_SET]


def test_operate_probe_of_a_setpoint_that_has_moved_since_is_refused():
    one = loop()
    assert one.ask("eve", SwitchMode(device="bess1", mode=ControlMode.TEST)).done
    token = selected(one, P_SET, 40.0)
    one.world.inputs[P_SET] = -200.0  # read back: another master wrote it
    answer = one.ask("eve", Operate(token=token))
    assert (answer.done, answer.code) == (False, "out_of_bounds")
    assert not one.edge.authority.leases


@pytest.mark.parametrize("mode", [ControlMode.OFF, ControlMode.TEST])
def test_confirm_in_a_mode_in_which_nothing_is_loosened_is_refused(mode):
    one = loop(interlocks=(DOOR,))
    one.ask("ann", SetLimit(subject="import", value=100.0))
    limit = one.ask("eve", SetLimit(subject="import", value=200.0))
    door = one.ask("eve", Bypass(interlock="door", for_s=60.0))
    assert one.ask("eve", SwitchMode(device=None, mode=mode)).done
    for proposed in (limit, door):
        answer = one.ask("dan", Confirm(proposal=str(proposed.token)))
        assert (answer.done, answer.code) == (False, "no_right"), answer.text
        assert mode.value in answer.text
    assert one.edge.authority.limits["import"].value == 100.0
    assert one.edge.authority.loosened == {}
    assert one.ask("eve", SwitchMode(device=None, mode=ControlMode.AUTO)).done
    assert one.ask("dan", Confirm(proposal=str(limit.token))).done, "it waits until its time is over"


def test_confirm_of_a_limit_of_a_device_is_judged_by_the_mode_of_that_device():
    one = loop()
    one.ask("ann", SetLimit(subject="bess1.p_set_kw.high", value=100.0))
    wider = one.ask("eve", SetLimit(subject="bess1.p_set_kw.high", value=200.0))
    one.world.inputs["bess1.remote"] = 0.0
    one.run(1.0)
    assert one.ask("dan", Confirm(proposal=str(wider.token))).code == "no_right"
    one.world.inputs["bess1.remote"] = 1.0
    one.run(1.0)
    assert one.ask("dan", Confirm(proposal=str(wider.token))).done
