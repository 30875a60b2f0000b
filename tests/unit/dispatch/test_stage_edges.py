"""A cycle of authority at its edges: what times out, what changes hands, what is told and shown."""

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

from dispatch.authority.alarms import alarms_of, changes_of
from dispatch.authority.orphans import against_auto, come_up, orphan_limits, orphan_modes, orphans, settled
from dispatch.authority.ruling import Ruling
from dispatch.authority.stage import Given, chosen_before, restored, rule, rule_known, rule_safe, setters
from dispatch.authority.state import AuthorityMemory, Chosen, InputSeen, Loosened, Pending, Selection, Told
from dispatch.authority.view import Look, counts, shown
from dispatch.authority.withheld import stranger_alarms, withheld
from dispatch.layout import Watchdog, layout_of
from dispatch.vocabulary import TickInput
from ems.control import ControlMode
from ems.control_site import ControlParams, LimitKind
from ems.requests import PLANT, SetLimit, Standing, StandingLimit
from tests.builders import site
from tests.unit.dispatch.controlled import P_LIMIT, P_SET, RUN
from tests.unit.dispatch.test_authority_gate import NOW, condition
from tests.unit.dispatch.test_condition import snapshot
from tests.unit.dispatch.test_desk_edges import AUTO, LAYOUT, MANUAL, PARAMS, limits
from tests.unit.dispatch.test_last_line import RULING
from tests.unit.dispatch.test_modes_edges import BY_ANN, BY_BOB, held, lease

DOOR_SHUT = {"bus__contact_1": 1.0}
LOOSE = Loosened(value=None, user="eve", second=None, reason="why", until_s=150.0)
STOPPING = layout_of(replace(site(), control=replace(PARAMS, emergency_stop={P_SET: 0.0})))
WAITING = Pending(ask="door", user="eve", reason="why", until_s=150.0, for_s=60.0)
CHOICE = Selection(point=RUN, value=1.0, user="ann", session="s", state="", until_s=150.0)


def ruled(
    memory: AuthorityMemory,
    now_s: float = 100.0,
    layout=LAYOUT,
    withheld: dict[str, str] | None = None,
    **read: Any,
) -> tuple[AuthorityMemory, Ruling]:
    given = Given(
        snapshot=snapshot(NOW, now_s, **(DOOR_SHUT | read)), condition=condition(True), written={},
        received=(), held_safe=False, epoch=1, dt_s=2.0, withheld=withheld,
    )  # fmt: skip
    return rule(layout, memory, given)


# ---- a cycle ---------------------------------------------------------------------------------------------


def test_everything_that_was_given_for_a_time_ends_by_its_own():
    memory = replace(
        MANUAL, first_s=0.0, leases=held(lease(until_s=150.0)), pending={"a": WAITING},
        loosened={"import": LOOSE}, selections={"b": CHOICE},
        modes=dict.fromkeys(RULING.modes, ControlMode.MANUAL),
    )  # fmt: skip
    before, _ = ruled(memory, 149.9)
    assert before.leases.keys() == {(P_SET, "ann")}
    assert before.loosened == {"import": LOOSE}
    assert (before.pending, before.selections) == ({"a": WAITING}, {"b": CHOICE})
    at, got = ruled(memory, 150.0)  # who acts in the last moment is in time; what holds is over
    assert (at.leases, at.pending, at.loosened, at.selections) == ({}, {"a": WAITING}, {}, {"b": CHOICE})
    assert {e.kind for e in got.events} >= {"authority.lease.ended", "limit.loosening.ended"}
    after, _ = ruled(memory, 150.1)
    assert (after.pending, after.selections) == ({}, {})


def test_stop_that_is_pressed_stays_until_somebody_chooses():
    memory, got = ruled(AUTO, bus__emergency_stop=0.0)
    assert memory.stopped
    assert (got.stopping, got.plant) == (True, ControlMode.OFF)
    memory, got = ruled(memory, 101.0, bus__emergency_stop=1.0)
    assert memory.stopped
    assert (got.stopping, got.plant, got.modes["bess1"]) == (False, ControlMode.OFF, ControlMode.OFF)


def test_stop_blocks_everything_but_what_it_demands():
    why = "the emergency stop is open"
    _, got = ruled(AUTO, layout=STOPPING, bus__emergency_stop=0.0)
    assert got.blocked == {p: why for p in STOPPING.setpoints if p != P_SET}
    assert [(b.low, b.high, b.layer, b.reason) for b in got.strong[P_SET]] == [
        (0.0, 0.0, "emergency_stop", why)
    ]
    mapped = replace(STOPPING, control=replace(STOPPING.control, mapped=frozenset({"bus.emergency_stop"})))
    memory, got = ruled(AUTO, layout=mapped)
    assert got.blocked == dict.fromkeys(mapped.setpoints, "the emergency stop is not read yet")
    assert (got.strong, got.stopping, memory.stopped) == ({}, False, False)


def test_setpoint_that_changes_hands_moves_by_steps_for_the_time_of_the_transfer():
    first, got = ruled(AUTO)
    assert (first.transfers, got.step) == ({}, {})  # in the first cycle nothing has changed hands
    manual = replace(first, devices={"bess1": BY_ANN, "gen1": BY_ANN})
    changed, got = ruled(manual, 102.0)
    assert changed.transfers == {P_SET: 102.0, RUN: 102.0, "gen1.p_set_kw": 102.0}
    assert got.step == {P_SET: 1000.0 / 30.0 * 2.0, "gen1.p_set_kw": 400.0 / 30.0 * 2.0}
    assert ruled(changed, 132.0)[0].transfers == changed.transfers
    assert ruled(changed, 132.1)[0].transfers == {}
    at_once = layout_of(replace(site(), control=replace(PARAMS, transfer_ramp_s=0.0)))
    assert ruled(manual, 102.0, layout=at_once)[1].step == {}
    quick = layout_of(replace(site(), control=replace(PARAMS, transfer_ramp_s=1.0)))
    assert ruled(manual, 102.0, layout=quick)[1].step[P_SET] == 2000.0


def test_setters_are_the_mode_and_who_holds_the_lease():
    memory = replace(MANUAL, leases=held(lease()))
    modes = {**RULING.modes, "bess1": ControlMode.MANUAL}
    got = setters(LAYOUT, memory, modes)
    assert got.keys() == set(LAYOUT.setpoints)
    assert (got[P_SET], got[P_LIMIT]) == ("manual ann", "auto")


def test_limits_of_others_and_of_people_stand_below_and_interlocks_above():
    memory = replace(
        AUTO, first_s=0.0, told={"told": Told(value_kw=50.0, valid_s=99.0)},
        limits={**limits("pv", 40.0).limits, **limits(f"{P_LIMIT}.high", 30.0).limits},
    )  # fmt: skip
    memory, got = ruled(memory, bus__contact_1=0.0)
    assert [(b.high, b.layer) for b in got.weak[P_LIMIT]] == [
        (50.0, "utility"),
        (40.0, "people"),
        (30.0, "people"),
    ]
    assert [(c.cap_kw, c.layer) for c in got.caps] == [(50.0, "utility"), (40.0, "people")]
    assert [(b.low, b.high) for b in got.strong[P_SET]] == [(-20.0, 20.0)]
    assert got.blocked == {RUN: "interlock door: the door is open"}
    assert (memory.tripped, memory.lost) == ({"door": True}, {"told": False, "read": True, "steps": True})
    assert ruled(memory, 101.0)[0].tripped == {"door": False}


def test_device_in_local_or_withheld_is_blocked_with_the_reason():
    _, got = ruled(AUTO, bess1__remote=0.0, withheld={"pv1": "a stranger"})
    assert got.blocked == {P_SET: "bess1 is in local", P_LIMIT: "a stranger"}
    assert got.local == {"bess1", "pv1"}
    memory, _ = ruled(AUTO, withheld={"pv1": "a stranger"})
    assert ruled(memory, 101.0)[1].blocked == {P_LIMIT: "a stranger"}  # as in the last cycle
    assert ruled(memory, 101.0, withheld={})[1].blocked == {}


def test_ruling_carries_what_it_was_made_of():
    memory, got = ruled(replace(MANUAL, leases=held(lease()), modes={"bess1": ControlMode.MANUAL}))
    assert (got.plant, got.held[P_SET], got.as_read) == (ControlMode.MANUAL, lease(), condition(True))
    assert got.standing[P_SET] == 0.0
    assert memory.asked_until_s == {x.point: x.until_s for x in memory.leases.values()}
    assert memory.modes == got.modes
    assert memory.first_s == 100.0
    assert ruled(memory, 200.0)[0].first_s == 100.0


def test_safe_table_obeys_selectors_stop_and_interlocks_and_no_requests():
    got = rule_safe(LAYOUT, AUTO, snapshot(NOW, 100.0, bus__contact_1=0.0, bess1__remote=0.0))
    assert (got.plant, got.stopping) == (ControlMode.OFF, False)
    assert got.local == {"bess1"}
    assert set(got.modes.values()) == {ControlMode.OFF}
    assert got.blocked == {RUN: "interlock door: the door is open", P_SET: "bess1 is in local"}
    assert rule_safe(LAYOUT, AUTO, snapshot(NOW, 100.0, bus__emergency_stop=0.0)).stopping


def test_ruling_without_inputs_is_that_of_the_last_cycle():
    calm = rule_known(STOPPING, replace(AUTO, tripped={"door": False}))
    assert (calm.plant, calm.stopping, calm.blocked, calm.strong) == (ControlMode.OFF, False, {}, {})
    unknown = rule_known(STOPPING, AUTO)  # never judged: it forbids
    assert unknown.blocked.keys() == {RUN}
    assert unknown.strong.keys() == {P_SET}
    stopped = rule_known(STOPPING, replace(AUTO, stopped=True))
    assert stopped.stopping
    assert stopped.blocked.keys() == set(STOPPING.setpoints) - {P_SET}
    assert [b.high for b in stopped.strong[P_SET]] == [0.0]
    assert set(stopped.modes.values()) == {ControlMode.OFF}


def test_restored_is_as_tight_as_it_went_down():
    params = ControlParams(start_mode=ControlMode.MANUAL)
    assert restored(params, None, 7.0).plant == Chosen(mode=ControlMode.MANUAL, user="site file")
    one = StandingLimit(subject="import", value=9.0, user="ann", reason="r")
    got = restored(
        params,
        Standing(
            plant=ControlMode.OFF, devices={"pv1": ControlMode.MANUAL}, limits={"import": one},
            told_kw={"dso": 5.0}, stopped=True, lost=True, chosen_by={"pv1": "bob"},
            mode_until_s={PLANT: 50.0}, held_until_s={P_SET: 60.0},
        ),
        7.0,
    )  # fmt: skip
    assert got.plant == Chosen(mode=ControlMode.OFF, user="restart", until_s=50.0, since_s=-math.inf)
    assert got.devices == {"pv1": Chosen(mode=ControlMode.MANUAL, user="bob", since_s=-math.inf)}
    assert (got.limits, got.told) == ({"import": one}, {"dso": Told(value_kw=5.0, valid_s=7.0)})
    assert (got.stopped, got.standing_lost, got.asked_until_s) == (True, True, {P_SET: 60.0})
    fresh = chosen_before(Standing(plant=ControlMode.OFF), PLANT, ControlMode.OFF)
    assert (fresh.user, fresh.until_s) == ("restart", None)


# ---- what is about nothing any more ----------------------------------------------------------------------

GONE = "gone.p_set_kw.high"
LEFT = replace(
    AUTO, limits={**limits(GONE, 9.0).limits, **limits("import", 8.0).limits},
    devices={"gone": BY_BOB, "pv1": BY_ANN},
)  # fmt: skip


def test_orphans_are_limits_and_modes_about_nothing_at_this_site():
    assert orphan_limits(LAYOUT, LEFT).keys() == {GONE}
    assert orphan_modes(LAYOUT, LEFT) == {"gone": BY_BOB}
    assert orphans(LAYOUT, LEFT) == {GONE: "limit of ann at 9: why", "gone": "manual, chosen by bob"}
    none = replace(LEFT, limits={GONE: replace(LEFT.limits[GONE], value=None)}, devices={})
    assert orphans(LAYOUT, none) == {GONE: "limit of ann at none: why"}
    loosened = replace(LEFT, loosened={GONE: LOOSE})
    assert orphan_limits(LAYOUT, loosened) == {}
    assert against_auto(LAYOUT, loosened) is None
    assert (against_auto(LAYOUT, LEFT) or "").startswith(f"{GONE}: a limit about nothing")
    assert settled(LAYOUT, LEFT).devices == {"pv1": BY_ANN}


def test_edge_comes_up_off_in_its_first_cycle_where_something_is_about_nothing():
    since = replace(LEFT, plant=replace(LEFT.plant, since_s=3.0))
    memory, events = come_up(LAYOUT, since)
    assert (memory.plant.mode, memory.plant.since_s) == (ControlMode.OFF, 3.0)
    assert [e.fields["subject"] for e in events] == [GONE, "gone"]
    assert come_up(LAYOUT, replace(LEFT, first_s=1.0)) == (replace(LEFT, first_s=1.0), [])
    assert come_up(LAYOUT, AUTO) == (AUTO, [])
    _, got = ruled(LEFT)
    assert got.plant is ControlMode.OFF
    assert [e.kind for e in got.events][:2] == ["standing.orphaned"] * 2


def test_withheld_are_all_assets_behind_a_strange_device():
    given = TickInput(snapshot=snapshot(NOW, 0.0), plan=None, outages=(), dt_s=1.0)
    watched = replace(
        LAYOUT, watchdogs={"bess1.heartbeat": Watchdog(period_s=1.0, wrap=9)},
        device_of={P_SET: "plc1", P_LIMIT: "plc1", "bess1.heartbeat": "plc2"},
    )  # fmt: skip
    got = withheld(watched, replace(given, strangers={"plc1": "no answer"}))
    assert got == dict.fromkeys(("bess1", "pv1"), "plc1 is not the device commissioned: no answer")
    assert withheld(watched, replace(given, strangers={"plc2": "old"})).keys() == {"bess1"}
    assert withheld(watched, given) == {}
    assert list(stranger_alarms(LAYOUT, {})) == []


# ---- what is told ----------------------------------------------------------------------------------------


def alarmed(memory: AuthorityMemory, ruling: Ruling = RULING) -> list[tuple[str, str | None]]:
    return [(a.code, a.asset) for a in alarms_of(LAYOUT, memory, ruling)]


def test_alarms_while_something_needs_a_person():
    assert alarmed(AUTO) == []
    assert alarmed(replace(AUTO, stopped=True)) == [("control.emergency_stop", None)]
    stopping = replace(RULING, stopping=True)
    assert alarmed(replace(AUTO, stopped=True), stopping) == [("control.emergency_stop", None)]
    (now,) = alarms_of(LAYOUT, AUTO, stopping)
    (latched,) = alarms_of(LAYOUT, replace(AUTO, stopped=True), RULING)
    assert (now.text, latched.text.partition(",")[0]) == (
        "the emergency stop is open",
        "stopped by the emergency stop",
    )
    assert alarmed(replace(AUTO, standing_lost=True)) == [("control.standing_lost", None)]
    assert alarmed(LEFT) == [("control.orphaned", None)]
    assert alarmed(replace(AUTO, tripped={"door": True})) == [("control.interlock", "door")]
    assert alarmed(replace(AUTO, tripped={"door": False})) == []
    bypassed = replace(
        AUTO, tripped={"door": True}, loosened={"interlock.door": replace(LOOSE, second="dan")}
    )
    assert alarmed(bypassed) == [("control.interlock_bypassed", "door")]
    assert alarmed(replace(AUTO, lost={"told": True, "read": False})) == [("control.limit_lost", "told")]
    assert alarmed(replace(AUTO, loosened={"import": LOOSE})) == [("control.break_glass", "import")]
    assert alarmed(replace(AUTO, loosened={"import": replace(LOOSE, second="dan")})) == []


def test_changes_are_of_modes_and_of_what_ended_by_itself():
    was = replace(
        AUTO, modes={"bess1": ControlMode.AUTO, "pv1": ControlMode.AUTO},
        leases=held(lease(), lease(P_LIMIT)), loosened={"import": LOOSE, "pv": LOOSE},
    )  # fmt: skip
    after = replace(was, leases=held(lease()), loosened={"pv": LOOSE})
    ruling = replace(RULING, modes={**RULING.modes, "bess1": ControlMode.MANUAL})
    assert [(e.kind, dict(e.fields)) for e in changes_of(was, after, ruling)] == [
        ("mode.control.changed", {"device": "bess1", "before": "auto", "now": "manual"}),
        ("authority.lease.ended", {"point": P_LIMIT, "owner": "ann", "value": 5.0}),
        ("limit.loosening.ended", {"subject": "import", "user": "eve"}),
    ]
    assert changes_of(AUTO, AUTO, RULING) == []  # of what was not known before, nothing has changed


# ---- what people see -------------------------------------------------------------------------------------


def see(memory: AuthorityMemory, layout=LAYOUT) -> Any:
    return shown(Look(layout=layout, memory=memory, at=NOW, now_s=100.0))


def later(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def test_shown_mode_of_a_device_and_why():
    got = see(replace(AUTO, first_s=0.0))["devices"]["bess1"]
    assert (got["mode"], got["why"]) == ("auto", "the plant's, chosen by site file")
    own = replace(AUTO, first_s=0.0, devices={"bess1": replace(BY_ANN, until_s=160.0, before=BY_BOB)})
    assert see(own)["devices"]["bess1"]["why"] == f"its own, chosen by ann, manual from {later(60.0)}"
    ends = replace(AUTO, first_s=0.0, devices={"bess1": replace(BY_ANN, until_s=160.0)})
    assert see(ends)["devices"]["bess1"]["why"] == f"its own, chosen by ann, auto from {later(60.0)}"
    local = replace(own, inputs={"bess1.remote": InputSeen(value=0.0, good_s=100.0, changed_s=0.0)})
    assert see(local)["devices"]["bess1"]["why"].startswith("its selector or the site's says local")
    assert see(local)["devices"]["pv1"]["why"] == "the plant's, chosen by site file"
    stopped = replace(own, stopped=True)
    latched = "closed again; off until a person chooses a mode"
    assert see(stopped)["devices"]["bess1"]["why"] == f"emergency stop: {latched}"
    assert see(stopped)["emergency_stop"] == latched
    pressed = replace(own, inputs={"bus.emergency_stop": InputSeen(value=0.0, good_s=100.0, changed_s=0.0)})
    assert see(pressed)["emergency_stop"] == "open"
    assert see(pressed)["devices"]["bess1"]["why"] == "emergency stop: open"
    mapped = replace(LAYOUT, control=replace(LAYOUT.control, mapped=frozenset({"bus.emergency_stop"})))
    unread = replace(AUTO, first_s=99.0)
    assert see(unread, mapped)["emergency_stop"] == "not read yet"
    assert see(unread, mapped)["devices"]["bess1"]["why"] == "emergency stop: not read yet"
    assert see(own)["emergency_stop"] == "closed"
    assert see(own)["plant"] == {"mode": "auto", "why": "chosen by site file"}


def test_shown_setpoint_with_its_lease_and_every_limit_strongest_first():
    memory = replace(
        MANUAL, first_s=0.0, leases=held(lease(until_s=160.06)),
        told={"told": Told(value_kw=50.0, valid_s=99.0)},
        limits={
            **limits("pv", 40.0).limits, **limits(f"{P_LIMIT}.high", 30.0).limits,
            **limits("bess_charge", 40.0).limits,
        },
    )  # fmt: skip
    got = see(memory)
    bess, pv = got["devices"]["bess1"]["setpoints"][P_SET], got["devices"]["pv1"]["setpoints"][P_LIMIT]
    assert bess["lease"] == {
        "owner": "ann",
        "value": 5.0,
        "until": later(60.0),
        "left_s": 60.1,
        "reason": "why",
    }
    assert [(x["layer"], x["low"], x["high"]) for x in bess["limits"]] == [
        ("site file", -500.0, 500.0), ("interlock", -20.0, 20.0), ("people", -40.0, 500.0),
    ]  # fmt: skip
    assert pv["lease"] is None
    assert [(x["layer"], x["high"]) for x in pv["limits"]] == [
        ("site file", 600.0), ("utility", 50.0), ("people", 40.0), ("people", 30.0),
    ]  # fmt: skip
    assert got["devices"]["gen1"]["setpoints"][RUN]["blocked"] == "interlock door: the door is open"
    assert bess["blocked"] is None
    assert got["caps"] == [
        {"kind": k, "cap_kw": kw, "layer": layer, "reason": reason}
        for k, kw, layer, reason in (
            ("pv", 50.0, "utility", "told says so"),
            ("pv", 40.0, "people", "limit of ann: why"),
            ("bess_charge", 40.0, "people", "limit of ann: why"),
        )
    ]


def test_shown_what_waits_and_what_is_loosened():
    wider = replace(WAITING, ask=SetLimit(subject="import", value=9.0), for_s=None)
    memory = replace(
        AUTO, pending={"a": WAITING, "b": wider}, loosened={"interlock.door": LOOSE, "import": LOOSE},
        tripped={"door": True}, standing_lost=True, limits=limits(GONE, 9.0).limits,
    )  # fmt: skip
    got = see(memory)
    common = {"user": "eve", "reason": "why", "until": later(50.0)}
    assert got["proposals"] == {
        "a": {"subject": "interlock.door", "value": None, "what": "bypass", "for_s": 60.0, **common},
        "b": {"subject": "import", "value": 9.0, "what": "limit", "for_s": None, **common},
    }
    loose = {"value": None, "second": None, **common}
    assert got["loosened"] == {"interlock.door": loose, "import": loose}
    assert got["lost"] is True
    assert got["orphans"] == {GONE: "limit of ann at 9: why"}
    assert got["interlocks"] == {"door": {"state": "bypassed", "cause": "the door is open"}}
    assert see(replace(memory, loosened={}))["interlocks"]["door"]["state"] == "tripped"
    assert see(AUTO)["interlocks"]["door"]["state"] == "ready"
    lost = {"told": True, "read": False}
    assert counts(replace(memory, lost=lost, stopped=True, leases=held(lease()))) == {
        "authority_leases_count": 1, "authority_limits_count": 1, "authority_loosened_count": 1,
        "authority_proposals_count": 2, "interlocks_tripped_count": 1, "interlocks_bypassed_count": 1,
        "limits_lost_count": 1, "emergency_stop_latched": True,
    }  # fmt: skip


def test_limit_without_an_entry_holds_for_nobody_who_was_not_told():
    """What each kind of cap is called at the POI of this site."""
    assert LAYOUT.control.caps == {
        LimitKind.IMPORT: "grid1.p_import_kw_max",
        LimitKind.EXPORT: "grid1.p_export_kw_max",
    }
    memory, got = ruled(AUTO, grid1__p_import_kw_max=70.0)
    assert memory.told["grid1.p_import_kw_max"] == Told(value_kw=70.0, valid_s=100.0)
    assert got.cap_kw(LimitKind.IMPORT) == 70.0
