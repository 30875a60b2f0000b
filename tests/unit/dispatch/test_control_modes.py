"""Modes of control and leases in the tick, against the physics."""

from dataclasses import replace
from itertools import pairwise

import pytest

from dispatch.authority.manual import with_people
from dispatch.layout import layout_of
from dispatch.vocabulary import PvWish, Source, Targets
from ems.commands import Cause
from ems.control import ControlMode
from ems.requests import (
    Operate,
    Release,
    Select,
    SetSetpoint,
    SwitchMode,
)
from tests.builders import site
from tests.unit.dispatch.controlled import (
    P_LIMIT,
    P_SET,
    loop,
    manual,
    writes,
)

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


@pytest.mark.parametrize("held", [True, False])
def test_wish_for_pv_is_not_for_a_plant_that_people_hold(held: bool):
    layout = layout_of(site())
    wish = PvWish(export_kw=0.0, bess_kw={}, cause=Cause.PLAN, reason="r")
    wanted = {P_LIMIT: None} if held else {P_SET: None}
    told = with_people(layout, Targets(source=Source.PLAN, pv_wish=wish), wanted).pv_wish
    assert told == replace(wish, not_ours=frozenset({"pv1"} if held else ()))
    assert with_people(layout, Targets(source=Source.PLAN), wanted).pv_wish is None
