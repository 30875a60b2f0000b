"""Requests of people at the desk, one by one: each right, each bound, each time, without a plant."""

import math
from dataclasses import replace
from typing import Any

import pytest

from dispatch.authority.desk import ANSWERED_MAX, Heard, hear
from dispatch.authority.desk_scene import Asker, Scene, Verdict
from dispatch.authority.desk_setpoints import operate, release, select, set_setpoint
from dispatch.authority.modes import Switches
from dispatch.authority.state import AuthorityMemory, Chosen, Lease, memory_of
from dispatch.layout import layout_of
from ems.control import ControlMode
from ems.control_site import Contact, ControlParams, LimitKind, UtilityLimit
from ems.requests import (
    Operate,
    Received,
    Release,
    ReleaseHeldSafe,
    Request,
    Select,
    SetSetpoint,
    StandingLimit,
    SwitchMode,
)  # fmt: skip
from tests.builders import site
from tests.unit.dispatch.controlled import P_LIMIT, P_SET, RUN, USERS
from tests.unit.dispatch.test_authority_gate import NOW, condition
from tests.unit.dispatch.test_layers_edges import DOOR

PARAMS = ControlParams(
    users=USERS,
    interlocks=(DOOR,),
    limits=(
        UtilityLimit(id="told", kind=LimitKind.PV, watchdog_s=9.0, on_loss_kw=None),
        UtilityLimit(id="read", kind=LimitKind.PV, watchdog_s=9.0, on_loss_kw=None, point="grid1.p_kw_max"),
        UtilityLimit(
            id="steps", kind=LimitKind.PV, watchdog_s=9.0, on_loss_kw=None,
            contacts=(Contact(point="bus.k1", cap_kw=0.0),),
        ),
    ),
)  # fmt: skip
LAYOUT = layout_of(replace(site(), control=PARAMS))
CALM = Switches(stop_pressed=False, stop_unknown=False, local=frozenset())
MANUAL = AuthorityMemory(plant=Chosen(mode=ControlMode.MANUAL, user="ann"))
TEST = AuthorityMemory(plant=Chosen(mode=ControlMode.TEST, user="eve"))
AUTO = memory_of(ControlMode.AUTO)


def scene(**changes: Any) -> Scene:
    values: dict[str, Any] = {
        "layout": LAYOUT, "condition": condition(True), "switches": CALM, "standing": {}, "held_safe": False,
        "epoch": 1, "at": NOW, "now_s": 1000.0,
    }  # fmt: skip
    return Scene(**(values | changes))


def who(user: str = "ann", **changes: Any) -> Asker:
    values: dict[str, Any] = {
        "user": user, "session": "s", "roles": USERS[user], "current": True, "request_id": f"r-{user}",
        "reason": "why",
    }  # fmt: skip
    return Asker(**(values | changes))


def heard(
    memory: AuthorityMemory, *asks: Any, user: str = "ann", at: Scene | None = None, **changes: Any
) -> Heard:
    values: dict[str, Any] = {"session": "s", "epoch": 1, "ttl_s": 10.0, "reason": "why"} | changes
    seen_s = values.pop("seen_s", 1000.0)
    return hear(
        at or scene(),
        memory,
        [
            Received(user=user, n=i, seen_s=seen_s, request=Request(id=f"q{i}", ask=ask, **values))
            for i, ask in enumerate(asks)
        ],
    )


def code(got: Heard) -> str:
    return got.answers[-1].code


def limits(subject: str, value: float) -> AuthorityMemory:
    return replace(
        AUTO, limits={subject: StandingLimit(subject=subject, value=value, user="ann", reason="why")}
    )


# ---- the desk itself -------------------------------------------------------------------------------------


def test_answers_of_the_last_five_hundred_requests_are_remembered():
    got = heard(AUTO, *[Release(point=P_SET)] * (ANSWERED_MAX + 1))
    assert ANSWERED_MAX == 500
    assert len(got.memory.answered) == 500
    assert ("ann", "q0") not in got.memory.answered
    assert ("ann", "q500") in got.memory.answered


def test_release_of_the_edge_is_heard_whatever_is_asked_after_it():
    at = scene(held_safe=True)
    assert heard(AUTO, ReleaseHeldSafe(), Release(point=P_SET), at=at).released
    assert heard(AUTO, Release(point=P_SET), ReleaseHeldSafe(), at=at).released
    assert not heard(AUTO, Release(point=P_SET), at=at).released
    assert not heard(AUTO, ReleaseHeldSafe(), user="guest", at=at).released


@pytest.mark.parametrize(
    ("seen_s", "found"),
    [(1000.0, "done"), (990.0, "done"), (989.9, "expired"), (1000.1, "expired"), (math.nan, "expired")],
)
def test_request_counts_until_its_time_to_live_is_over(seen_s: float, found: str):
    assert code(heard(AUTO, SwitchMode(device=None, mode=ControlMode.MANUAL), seen_s=seen_s)) == found


# ---- modes -----------------------------------------------------------------------------------------------


def switched(
    mode: ControlMode, device: str | None = None, memory: AuthorityMemory = AUTO, **changes: Any
) -> Heard:
    return heard(memory, SwitchMode(device=device, mode=mode, for_s=changes.pop("for_s", None)), **changes)


def test_switch_says_what_was_switched():
    assert switched(ControlMode.MANUAL).answers[0].text == "the plant: manual"
    assert switched(ControlMode.MANUAL, "bess1").answers[0].text == "bess1: manual"
    refused = switched(ControlMode.MANUAL, "bess1", user="guest").answers[0]
    assert "bess1 is in auto" in refused.text


@pytest.mark.parametrize("memory", [AUTO, MANUAL, TEST, replace(AUTO, stopped=True)])
@pytest.mark.parametrize("local", [frozenset[str](), frozenset(LAYOUT.control.points_of)])
def test_off_is_ordered_by_operators_and_engineers_in_every_mode_and_by_nobody_else(
    memory: AuthorityMemory, local: frozenset[str]
):
    at = scene(switches=replace(CALM, local=local))
    for user in ("ann", "eve"):
        for epoch in (1, 0):  # whatever they looked at
            assert code(switched(ControlMode.OFF, None, memory, user=user, at=at, epoch=epoch)) == "done"
            assert code(switched(ControlMode.OFF, "bess1", memory, user=user, at=at, epoch=epoch)) == "done"
    for user in ("dso", "guest"):
        assert code(switched(ControlMode.OFF, None, memory, user=user, at=at)) == "no_right"


@pytest.mark.parametrize(
    ("pressed", "unknown", "device", "mode", "found"),
    [
        (True, False, None, ControlMode.AUTO, "still_pressed"),
        (False, True, None, ControlMode.AUTO, "still_pressed"),
        (True, False, None, ControlMode.OFF, "done"),
        (True, False, "bess1", ControlMode.AUTO, "done"),  # of one device it may be chosen; the stop holds
        (False, False, None, ControlMode.AUTO, "done"),
    ],
)
def test_plant_is_not_switched_on_while_the_stop_is_open(
    pressed: bool, unknown: bool, device: str | None, mode: ControlMode, found: str
):
    at = scene(switches=replace(CALM, stop_pressed=pressed, stop_unknown=unknown))
    assert code(switched(mode, device, at=at)) == found


@pytest.mark.parametrize(
    ("mode", "device", "found"),
    [
        (ControlMode.AUTO, None, "orphaned"),
        (ControlMode.TEST, None, "orphaned"),
        (ControlMode.MANUAL, None, "done"),
        (ControlMode.AUTO, "bess1", "done"),
    ],
)
def test_plant_does_not_run_by_itself_against_a_limit_about_nothing(
    mode: ControlMode, device: str | None, found: str
):
    assert code(switched(mode, device, limits("gone.p_set_kw.high", 9.0), user="eve")) == found


@pytest.mark.parametrize(
    ("for_s", "mode", "found"),
    [
        (86_400.0, ControlMode.MANUAL, "done"),
        (0.5, ControlMode.MANUAL, "done"),
        (86_400.1, ControlMode.MANUAL, "bad_time"),
        (0.0, ControlMode.MANUAL, "bad_time"),
        (-1.0, ControlMode.MANUAL, "bad_time"),
        (math.nan, ControlMode.MANUAL, "bad_time"),
        (math.inf, ControlMode.MANUAL, "bad_time"),
        (60.0, ControlMode.OFF, "bad_time"),
    ],
)
def test_mode_for_a_time_is_for_a_day_at_most_and_never_off(for_s: float, mode: ControlMode, found: str):
    got = switched(mode, for_s=for_s)
    assert code(got) == found
    if found == "done":
        assert got.memory.plant.until_s == 1000.0 + for_s


def test_mode_for_a_time_knows_what_it_ends_in_and_a_lasting_one_does_not():
    devices = replace(AUTO, devices={"bess1": Chosen(mode=ControlMode.MANUAL, user="bob")})
    timed = switched(ControlMode.TEST, "bess1", devices, for_s=60.0, user="eve").memory.devices["bess1"]
    assert timed.before == Chosen(mode=ControlMode.MANUAL, user="bob")
    lasting = switched(ControlMode.TEST, "bess1", devices, user="eve").memory.devices["bess1"]
    assert (lasting.before, lasting.until_s, lasting.since_s) == (None, None, 1000.0)


def test_choice_for_the_plant_ends_what_was_lost_and_stopped_but_off_does_not():
    lost = replace(AUTO, standing_lost=True, stopped=True)
    for mode, kept in ((ControlMode.MANUAL, False), (ControlMode.OFF, True)):
        after = switched(mode, None, lost).memory
        assert (after.standing_lost, after.stopped) == (kept, kept)
    calm = switched(ControlMode.OFF).memory
    assert (calm.standing_lost, calm.stopped) == (False, False)
    assert switched(ControlMode.MANUAL, "bess1", lost).memory.standing_lost


def test_choice_of_auto_forgets_the_modes_of_devices_that_are_gone():
    bob = Chosen(mode=ControlMode.MANUAL, user="bob")
    memory = replace(AUTO, devices={"gone": bob, "pv1": bob})
    assert switched(ControlMode.AUTO, None, memory).memory.devices == {"pv1": bob}
    for mode in (ControlMode.MANUAL, ControlMode.OFF):
        assert switched(mode, None, memory).memory.devices == memory.devices


def test_choice_of_manual_asks_anew_of_its_own_setpoints_and_no_other_choice_does():
    asked = replace(AUTO, asked_until_s={P_SET: 1.0, P_LIMIT: 2.0})
    assert switched(ControlMode.MANUAL, "bess1", asked).memory.asked_until_s == {P_LIMIT: 2.0}
    assert switched(ControlMode.MANUAL, None, asked).memory.asked_until_s == {}
    for mode in (ControlMode.OFF, ControlMode.AUTO):
        assert switched(mode, None, asked).memory.asked_until_s == asked.asked_until_s


@pytest.mark.parametrize(
    ("memory", "switches", "mode"),
    [
        (AUTO, CALM, ControlMode.AUTO),
        (MANUAL, CALM, ControlMode.MANUAL),
        (replace(MANUAL, stopped=True), CALM, ControlMode.OFF),
        (MANUAL, replace(CALM, stop_pressed=True), ControlMode.OFF),
        (MANUAL, replace(CALM, stop_unknown=True), ControlMode.OFF),
        (MANUAL, replace(CALM, local=frozenset(LAYOUT.control.points_of)), ControlMode.LOCAL),
        (MANUAL, replace(CALM, local=frozenset({"bess1"})), ControlMode.MANUAL),
    ],
)
def test_mode_of_the_plant_is_the_strictest_that_holds(
    memory: AuthorityMemory, switches: Switches, mode: ControlMode
):
    assert scene(switches=switches).plant_mode(memory) is mode


def test_mode_of_a_plant_without_devices_is_not_local():
    empty = replace(LAYOUT, control=replace(LAYOUT.control, points_of={}))
    assert scene(layout=empty).plant_mode(AUTO) is ControlMode.AUTO


# ---- setpoints -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("for_s", "until_s"),
    [(None, 1000.0 + 4 * 3600.0), (0.5, 1000.5), (86_400.0, 87_400.0), (86_400.1, None), (0.0, None),
     (math.nan, None), (math.inf, None)],
)  # fmt: skip
def test_setpoint_is_held_for_a_day_at_most(for_s: float | None, until_s: float | None):
    got = set_setpoint(scene(), MANUAL, who(), SetSetpoint(point=P_SET, value=5.0, for_s=for_s))
    assert got.code == ("bad_time" if until_s is None else "done")
    lease = got.memory.leases.get((P_SET, "ann"))
    assert (None if lease is None else lease.until_s) == until_s


@pytest.mark.parametrize(
    ("value", "found"),
    [(500.0, "done"), (-500.0, "done"), (500.1, "out_of_bounds"), (-500.1, "out_of_bounds"),
     (math.nan, "out_of_bounds"), (math.inf, "out_of_bounds")],
)  # fmt: skip
def test_setpoint_lies_inside_the_site_files_bounds(value: float, found: str):
    assert set_setpoint(scene(), MANUAL, who(), SetSetpoint(point=P_SET, value=value)).code == found


def test_release_gives_ones_own_back_and_nobody_takes_it_over():
    held = set_setpoint(scene(), MANUAL, who(), SetSetpoint(point=P_SET, value=5.0)).memory
    held = set_setpoint(scene(), held, who("bob"), SetSetpoint(point=P_SET, value=6.0)).memory
    got = release(scene(), held, who(), Release(point=P_SET))
    assert got.code == "done"
    assert list(got.memory.leases) == [(P_SET, "bob")]
    assert got.memory.asked_until_s[P_SET] == 1000.0
    assert release(scene(), got.memory, who(), Release(point=P_SET)).code == "not_held"


def selected(memory: AuthorityMemory, asker: Asker, point: str = RUN, at: Scene | None = None) -> Verdict:
    return select(at or scene(), memory, asker, Select(point=point, value=1.0))


def test_select_of_what_another_has_selected_waits_until_it_is_over():
    first = selected(MANUAL, who())
    assert (first.code, len(str(first.token))) == ("selected", 8)
    assert selected(first.memory, who("bob")).code == "selected_by_other"
    assert selected(first.memory, who(session="other")).code == "selected_by_other"
    assert selected(first.memory, who(request_id="again")).code == "selected"
    assert selected(first.memory, who("bob"), "gen2.run_request").code == "selected"
    assert selected(first.memory, who("bob"), at=scene(now_s=1010.0)).code == "selected_by_other"
    assert selected(first.memory, who("bob"), at=scene(now_s=1010.1)).code == "selected"


def test_select_again_takes_the_place_of_ones_own_and_leaves_the_others():
    memory = selected(MANUAL, who("bob"), "gen2.run_request").memory
    memory = selected(memory, who()).memory
    again = selected(memory, who(request_id="again"))
    assert sorted(s.point for s in again.memory.selections.values()) == [
        "gen1.run_request",
        "gen2.run_request",
    ]
    assert again.token in again.memory.selections
    late = selected(memory, who(request_id="late"), at=scene(now_s=1010.1))
    assert list(late.memory.selections) == [late.token]  # what is over is forgotten


def test_operate_is_done_once_by_who_selected_it_in_time():
    first = selected(MANUAL, who())
    other = selected(first.memory, who("bob"), "gen2.run_request")
    token = Operate(token=str(first.token))
    for asker, found in ((who("bob"), "other_user"), (who(session="x"), "other_session")):
        assert operate(scene(), first.memory, asker, token).code == found
    assert operate(scene(), first.memory, who(), Operate(token="00000000")).code == "not_selected"
    assert operate(scene(now_s=1010.1), first.memory, who(), token).code == "selection_expired"
    moved = replace(condition(True), forming="bess1")
    assert operate(scene(condition=moved), first.memory, who(), token).code == "state_changed"
    assert operate(scene(), first.memory, who(current=False), token).code == "other_epoch"
    got = operate(scene(now_s=1010.0), other.memory, who(), token)
    assert got.code == "done"
    assert got.memory.leases[(RUN, "ann")].until_s == 1010.0 + 4 * 3600.0
    assert list(got.memory.selections) == [other.token]
    assert operate(scene(), got.memory, who(), token).code == "not_selected"


@pytest.mark.parametrize(
    ("stands", "value", "found"),
    [
        (0.0, 50.0, "selected"),  # 5 % of the span of 1000
        (0.0, -50.0, "selected"),
        (0.0, 50.000000001, "selected"),
        (0.0, 50.00000001, "out_of_bounds"),
        (100.0, 40.0, "out_of_bounds"),
        (None, 0.0, "out_of_bounds"),
    ],
)
def test_probe_moves_a_setpoint_by_five_percent(stands: float | None, value: float, found: str):
    at = scene(standing={} if stands is None else {P_SET: stands})
    got = select(at, TEST, who("eve"), Select(point=P_SET, value=value))
    assert got.code == found
    if stands is None:
        assert "where it stands is not known" in got.text
    elif found != "selected":
        assert f"it stands at {stands:g}" in got.text
    else:
        done = operate(at, got.memory, who("eve"), Operate(token=str(got.token)))
        assert done.memory.leases[(P_SET, "eve")].until_s == 1060.0


def test_probe_waits_for_another_probe_and_not_for_a_setpoint_in_manual():
    at = scene(standing={P_SET: 0.0, P_LIMIT: 300.0})
    lease = Lease(
        point=P_LIMIT, owner="eve", value=300.0, since_s=0.0, until_s=2000.0, request_id="", reason=""
    )
    held = {(P_LIMIT, "eve"): lease}
    probing = replace(TEST, leases=held)
    assert select(at, probing, who("eve"), Select(point=P_SET, value=10.0)).code == "one_at_a_time"
    manual = replace(
        MANUAL, leases=held, devices={"bess1": Chosen(mode=ControlMode.TEST, user="eve")},
        plant=Chosen(mode=ControlMode.MANUAL, user="ann"),
    )  # fmt: skip
    manual = replace(manual, plant=Chosen(mode=ControlMode.AUTO, user="ann"))
    manual = replace(manual, devices={**manual.devices, "pv1": Chosen(mode=ControlMode.MANUAL, user="ann")})
    assert select(at, manual, who("eve"), Select(point=P_SET, value=10.0)).code == "selected"
