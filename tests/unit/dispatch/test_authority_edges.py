"""Corners of authority that a day of running seldom meets: late, stale, withdrawn, unknown, never told."""

from dataclasses import replace
from typing import Any

import pytest

from dispatch.authority.layers import intersect, live_bound, resolve, static_bound
from dispatch.authority.leases import in_force
from dispatch.authority.manual import in_hand
from dispatch.authority.modes import switches
from dispatch.authority.ruling import Ruling, carried_out
from dispatch.authority.select_operate import state_hash
from dispatch.authority.stage import restored
from dispatch.authority.state import AuthorityMemory, Chosen, InputSeen, Lease
from dispatch.authority.view import Look, shown
from dispatch.authority.withheld import stranger_alarms, withheld
from dispatch.state import Written
from dispatch.vocabulary import TickInput
from ems.commands import Bound, Cause, Proposal
from ems.condition import PlantCondition
from ems.control import ControlMode, Role
from ems.requests import (
    Confirm,
    Operate,
    ReleaseHeldSafe,
    Select,
    SetLimit,
    SetSetpoint,
    Standing,
    StandingLimit,
    SwitchMode,
)
from ems.site import GridMode
from ems.telemetry import Snapshot
from tests.unit.dispatch.controlled import DOOR, P_LIMIT, P_SET, RUN, USERS, loop, manual, utility
from tests.unit.dispatch.test_authority_gate import LAYOUT, NOW, condition, proposal

GIVEN = TickInput(snapshot=Snapshot(at=NOW, monotonic_s=0.0, readings={}), plan=None, outages=(), dt_s=1.0)


def test_held_safe_is_not_released_by_somebody_who_looked_at_an_earlier_start():
    one = loop()
    one.edge = replace(one.edge, held_safe=True)
    assert one.ask("ann", ReleaseHeldSafe(), epoch=0).code == "other_epoch"
    assert one.edge.held_safe


def test_loosening_asked_anew_under_the_same_id_does_not_change_what_is_agreed_to():
    one = loop()
    one.ask("ann", SetLimit(subject="import", value=100.0))
    mild = one.ask("eve", SetLimit(subject="import", value=110.0), key="same")
    wide = one.ask("eve", SetLimit(subject="import", value=400.0), key="same")
    other = one.ask("eve", SetLimit(subject="import", value=400.0))
    assert wide.token == mild.token != other.token
    assert one.ask("dan", Confirm(proposal=str(mild.token))).done
    assert one.edge.authority.limits["import"].value == 110.0


def test_strangers_and_what_nobody_agreed_to_are_withheld_with_the_reason():
    given = replace(GIVEN, untouched=frozenset({"gen1"}), strangers={"pv1": "its serial number is 7"})
    held = withheld(LAYOUT, given)
    assert held["gen1"] == "nobody has agreed to its being written"
    assert held["pv1"] == "pv1 is not the device commissioned: its serial number is 7"
    assert set(held) == {"gen1", "pv1"}
    assert withheld(LAYOUT, GIVEN) == {}


def test_strangers_are_alarmed_where_they_are_devices_of_the_site():
    told = list(stranger_alarms(LAYOUT, {"pv1": "its serial number is 7", "nobody": "gone"}))
    assert [(a.code, a.asset) for a in told] == [("device.identity", "pv1")]


def test_confirm_by_somebody_who_looked_at_an_earlier_start_is_refused():
    one = loop()
    one.ask("ann", SetLimit(subject="import", value=100.0))
    wider = one.ask("eve", SetLimit(subject="import", value=200.0))
    assert one.ask("dan", Confirm(proposal=str(wider.token)), epoch=0).code == "other_epoch"
    assert one.edge.authority.limits["import"].value == 100.0


@pytest.mark.parametrize("for_s", [0.0, -1.0, float("nan"), float("inf"), 86_401.0])
def test_setpoint_for_a_time_that_is_none_is_refused(for_s):
    one = manual()
    before = one.edge.authority.leases
    assert one.ask("ann", SetSetpoint(point=P_SET, value=10.0, for_s=for_s)).code == "bad_time"
    assert one.edge.authority.leases == before


def test_setpoint_for_a_day_is_granted_to_the_second():
    one = manual()
    assert one.ask("ann", SetSetpoint(point=P_SET, value=10.0, for_s=86_400.0)).done
    lease = one.edge.authority.leases[(P_SET, "ann")]
    assert lease.until_s - lease.since_s == 86_400.0


def test_select_of_nothing_and_of_an_earlier_start_and_of_a_request_in_test_is_refused():
    one = manual("gen1")
    assert one.ask("ann", Select(point="gen9.run_request", value=1.0)).code == "unknown_point"
    assert one.ask("ann", Select(point=RUN, value=1.0), epoch=0).code == "other_epoch"
    assert one.ask("eve", SwitchMode(device="gen1", mode=ControlMode.TEST)).done
    assert one.ask("eve", Select(point=RUN, value=1.0)).code == "not_probed"
    assert one.edge.authority.selections == {}


def test_operate_in_the_cycle_after_its_time_is_refused_as_too_late():
    one = manual("gen1")
    token = str(one.ask("ann", Select(point=RUN, value=1.0)).token)
    one.run(10.0)
    assert one.ask("ann", Operate(token=token)).code == "selection_expired"
    assert not one.set.get(RUN)


def test_operate_at_the_tenth_second_is_done():
    one = manual("gen1")
    token = str(one.ask("ann", Select(point=RUN, value=1.0)).token)
    one.run(9.0)
    assert one.ask("ann", Operate(token=token)).done


def test_operate_of_an_earlier_start_or_by_somebody_whose_right_was_withdrawn_is_refused():
    one = manual("gen1")
    token = str(one.ask("ann", Select(point=RUN, value=1.0)).token)
    assert one.ask("ann", Operate(token=token), epoch=0).code == "other_epoch"
    layout = one.setup.layout
    users = {**USERS, "ann": frozenset({Role.VIEWER})}
    params = replace(layout.control.params, users=users)
    withdrawn = replace(layout, control=replace(layout.control, params=params))
    object.__setattr__(one.setup, "layout", withdrawn)
    assert one.ask("ann", Operate(token=token)).code == "no_right"
    assert not one.set.get(RUN)


def test_state_hash_changes_with_everything_an_action_hangs_on_and_with_nothing_else():
    c = condition(True)

    def with_genset(name: str, **changes: Any) -> PlantCondition:
        return replace(c, gensets={**c.gensets, name: replace(c.gensets[name], **changes)})

    hashes = {
        state_hash(c, RUN, ControlMode.MANUAL),
        state_hash(c, RUN, ControlMode.TEST),
        state_hash(c, "gen2.run_request", ControlMode.MANUAL),
        state_hash(replace(c, forming="bess1"), RUN, ControlMode.MANUAL),
        state_hash(replace(c, grid_mode=GridMode.ISLANDED), RUN, ControlMode.MANUAL),
        state_hash(condition(False), RUN, ControlMode.MANUAL),
        state_hash(with_genset("gen1", on_load=True), RUN, ControlMode.MANUAL),
        state_hash(with_genset("gen1", starting=True), RUN, ControlMode.MANUAL),
        state_hash(with_genset("gen2", on_load=True), RUN, ControlMode.MANUAL),
        state_hash(replace(c, feeder_closed={"gen1": True}), RUN, ControlMode.MANUAL),
        state_hash(c, P_SET, ControlMode.MANUAL),
        state_hash(replace(c, bess={"bess1": condition(False).bess["bess1"]}), P_SET, ControlMode.MANUAL),
    }
    assert len(hashes) == 12
    moved = replace(c, gensets={**c.gensets, "gen2": replace(c.gensets["gen2"], starting=True)})
    later = replace(moved, grid_p_kw=55.0, pv_kw={"pv1": 3.0})
    assert state_hash(later, RUN, ControlMode.MANUAL) == state_hash(c, RUN, ControlMode.MANUAL)


def test_bounds_of_what_is_no_setpoint_are_none():
    assert static_bound(LAYOUT, "gen1.state") is None
    assert live_bound(LAYOUT, condition(True), "grid1.p_kw") is None


def test_resolve_blocked_setpoint_is_refused_with_the_cause_and_others_are_not():
    modes = dict.fromkeys(LAYOUT.control.points_of, ControlMode.AUTO)
    ruling = Ruling(plant=ControlMode.AUTO, modes=modes, blocked={P_SET: "interlock door: open"})
    other = replace(proposal(Cause.PLAN, 50.0), point=P_LIMIT)
    setpoints, (refusal,) = resolve(
        LAYOUT, condition(True), [proposal(Cause.PROTECTION, 9.0), other], {}, {}, NOW, ruling
    )
    assert (refusal.point, refusal.code, refusal.reason) == (P_SET, "blocked", "interlock door: open")
    assert [(s.point, s.value) for s in setpoints] == [(P_LIMIT, 50.0)]


def lease(owner: str, since_s: float, value: float) -> Lease:
    return Lease(
        point=P_SET, owner=owner, value=value, since_s=since_s, until_s=99.0, request_id="", reason=""
    )


@pytest.mark.parametrize("order", [("ann", "bob"), ("bob", "ann")])
def test_lease_in_force_is_the_newest_whoever_came_first(order):
    leases = {"ann": lease("ann", 5.0, 1.0), "bob": lease("bob", 7.0, 2.0)}
    assert in_force({(P_SET, o): leases[o] for o in order})[P_SET].owner == "bob"


def test_manual_setpoint_of_the_first_owner_counts_again_when_he_asks_again():
    one = manual()
    for user, kw in (("ann", -60.0), ("bob", -30.0), ("ann", -90.0)):
        assert one.ask(user, SetSetpoint(point=P_SET, value=kw, for_s=600.0)).done
    one.run(10.0)
    assert one.set[P_SET] == -90.0


def test_manual_setpoint_that_nobody_set_and_nothing_stands_for_is_left_alone():
    modes = {**dict.fromkeys(LAYOUT.control.points_of, ControlMode.AUTO), "gen1": ControlMode.MANUAL}
    ruling = Ruling(plant=ControlMode.AUTO, modes=modes)
    assert in_hand(LAYOUT, ruling, GridMode.GRID_TIED, {}) == {RUN: None, "gen1.p_set_kw": None}


def test_device_without_a_selector_is_in_local_by_that_of_the_site_alone():
    control = replace(LAYOUT.control, selectors={})
    seen = InputSeen(value=0.0, good_s=10.0, changed_s=0.0)
    memory = AuthorityMemory(plant=Chosen(mode=ControlMode.AUTO, user=""), first_s=0.0)
    own = replace(memory, inputs={"bess1.remote": seen})
    assert switches(control, own, 10.0).local == frozenset()
    site = replace(memory, inputs={"bus.remote": seen})
    assert switches(control, site, 10.0).local == frozenset(control.points_of)


def test_restored_limit_of_a_device_that_is_gone_breaks_nothing_and_the_others_hold():
    old = StandingLimit(subject="bess9.p_set_kw.high", value=1.0, user="ann", reason="")
    kept = StandingLimit(subject="bess1.p_set_kw.low", value=-30.0, user="ann", reason="")
    one = loop()
    standing = Standing(plant=ControlMode.AUTO, limits={old.subject: old, kept.subject: kept})
    one.edge = replace(one.edge, authority=restored(one.site.control, standing, one.t))
    one.world.pv_kw = {"pv1": 300.0}
    one.run(3.0)
    assert one.ask("ann", SwitchMode(device=None, mode=ControlMode.MANUAL)).done
    assert one.ask("ann", SetSetpoint(point=P_SET, value=-80.0)).done
    one.run(30.0)
    assert one.set[P_SET] == -30.0


@pytest.mark.parametrize(
    ("mode", "cause", "becomes"),
    [
        (ControlMode.AUTO, Cause.OPERATOR, Cause.RULES),  # carried out by the edge's own steps
        (ControlMode.AUTO, Cause.RULES, Cause.RULES),
        (ControlMode.MANUAL, Cause.OPERATOR, Cause.OPERATOR),
        (ControlMode.MANUAL, Cause.RULES, None),
        (ControlMode.MANUAL, Cause.PROTECTION, Cause.PROTECTION),
        (ControlMode.OFF, Cause.OPERATOR, None),
    ],
)
def test_transition_is_carried_out_as_far_as_the_mode_lets_it(mode, cause, becomes):
    asked = Proposal(point="grid1.open_request", value=1.0, cause=cause, reason="", owner="edge")
    free = Ruling(plant=mode, modes={"bess1": ControlMode.AUTO})
    assert [p.cause for p in carried_out([asked], free, {})] == ([] if becomes is None else [becomes])
    for closed in (replace(free, local=frozenset({"grid1"})), replace(free, stopping=True)):
        assert carried_out([asked], closed, {}) == []


def test_utility_limit_never_told_and_without_a_value_on_loss_limits_nothing_and_is_alarmed():
    one = loop(limits=(utility(on_loss_kw=None),))
    one.world.pv_kw = {"pv1": 150.0}
    d = one.run(60.0)
    assert ("control.limit_lost", "dso") in {(a.code, a.asset) for a in d.alarms}
    assert one.set.get(P_LIMIT, 600.0) > 100.0


def test_manual_setpoint_that_nobody_sets_is_kept_where_its_safe_value_is_hold_and_else_is_safe():
    modes = dict.fromkeys(LAYOUT.control.points_of, ControlMode.MANUAL)
    written = {p: Written(value=70.0, at_s=0.0, known=True) for p in ("gen1.p_set_kw", P_SET)}
    wanted = in_hand(LAYOUT, Ruling(plant=ControlMode.MANUAL, modes=modes), GridMode.GRID_TIED, written)
    kept, safe = wanted["gen1.p_set_kw"], wanted[P_SET]
    assert kept is not None
    assert safe is not None
    assert (kept.value, safe.value) == (70.0, 0.0)
    assert {kept.cause, safe.cause} == {Cause.OPERATOR}
    off = dict.fromkeys(modes, ControlMode.OFF)
    assert set(
        in_hand(LAYOUT, Ruling(plant=ControlMode.OFF, modes=off), GridMode.GRID_TIED, written).values()
    ) == {None}


@pytest.mark.parametrize(
    ("mode", "cause", "code"),
    [
        (ControlMode.MANUAL, Cause.PLAN, "mode_of_control"),
        (ControlMode.MANUAL, Cause.RULES, "mode_of_control"),
        (ControlMode.AUTO, Cause.OPERATOR, "mode_of_control"),
        (ControlMode.LOCAL, Cause.EMERGENCY_STOP, "mode_of_control"),
        (ControlMode.OFF, Cause.PROTECTION, "mode_of_control"),
        (ControlMode.OFF, Cause.SAFE_TABLE, None),
        (ControlMode.AUTO, Cause.PLAN, None),
    ],
)
def test_resolve_asks_the_matrix_and_an_unknown_device_is_off(mode, cause, code):
    ruling = Ruling(plant=mode, modes=dict.fromkeys(LAYOUT.control.points_of, mode))
    setpoints, refused = resolve(LAYOUT, condition(True), [proposal(cause, 9.0)], {}, {}, NOW, ruling)
    assert [r.code for r in refused] == ([] if code is None else [code])
    assert len(setpoints) == (code is None)
    nowhere = replace(ruling, modes={})
    _, refused = resolve(LAYOUT, condition(True), [proposal(Cause.PLAN, 9.0)], {}, {}, NOW, nowhere)
    assert [r.code for r in refused] == ["mode_of_control"]


@pytest.mark.parametrize(
    ("subject", "known"),
    [
        ("door", True),
        ("interlock.door", True),
        ("dso", True),
        ("import", True),
        ("bess_charge", True),
        ("bess1.p_set_kw.high", True),
        ("bess1.p_set_kw.low", True),
        ("bess1.p_set_kw", False),
        ("bess1.p_set_kw.mid", False),
        ("bess9.p_set_kw.high", False),
        ("interlock.gate", False),
        ("", False),
    ],
)
def test_layout_knows_what_authority_may_name(subject, known):
    assert loop(interlocks=(DOOR,), limits=(utility(),)).setup.layout.control.known(subject) is known


def test_shown_stop_that_is_not_read_yet_and_a_limit_of_a_person_at_a_setpoint():
    one = loop()
    one.ask("ann", SetLimit(subject="bess1.p_set_kw.low", value=-30.0))
    layout = one.setup.layout
    mapped = replace(layout, control=replace(layout.control, mapped=frozenset({"bus.emergency_stop"})))
    memory = replace(one.edge.authority, first_s=one.t)
    seen: Any = shown(Look(layout=mapped, memory=memory, at=one.now, now_s=one.t))
    assert seen["emergency_stop"] == "not read yet"
    bess = seen["devices"]["bess1"]
    assert (bess["mode"], bess["why"]) == ("off", "emergency stop: not read yet")
    (people,) = [x for x in bess["setpoints"][P_SET]["limits"] if x["layer"] == "people"]
    assert (people["low"], people["high"]) == (-30.0, 500.0)


NAN = float("nan")


@pytest.mark.parametrize(
    ("rows", "low", "high", "binding"),
    [
        (
            [("a", -5.0, 9.0), ("b", NAN, 3.0)],
            0.0,
            0.0,
            "a+b",
        ),  # no number: what is nearest to zero
        ([("a", 4.0, 9.0), ("b", NAN, 3.0)], 4.0, 4.0, "a+b"),
        ([("a", -9.0, -4.0), ("b", 2.0, float("inf"))], -4.0, -4.0, "a+b"),
        ([("a", -5.0, 9.0), ("b", 3.0, 1.0)], 0.0, 0.0, "a+b"),  # upside down
        ([("a", -5.0, 9.0), ("b", -5.0, 3.0)], -5.0, 3.0, "a+b"),  # one side alone
        ([("a", -5.0, 9.0), ("b", -2.0, 9.0)], -2.0, 9.0, "a+b"),
        ([("a", -5.0, 9.0), ("b", -5.0, 9.0)], -5.0, 9.0, "a"),  # binds nothing that was free
        ([("a", -5.0, 9.0), ("b", -8.0, 12.0)], -5.0, 9.0, "a"),
        ([("a", -5.0, 9.0), ("b", 20.0, 30.0)], 9.0, 9.0, "a+b"),  # contradicts: the nearest
    ],
)
def test_intersect_known_answers(rows, low, high, binding):
    bounds = [Bound(point=P_SET, low=x, high=y, layer=name, reason="") for name, x, y in rows]
    limits = intersect(bounds)
    assert (limits.low, limits.high, limits.binding) == (low, high, binding)
