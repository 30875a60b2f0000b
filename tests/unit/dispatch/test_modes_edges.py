"""Modes, switches and leases of authority at their edges, each rule by itself."""

from dataclasses import replace
from typing import Any

import pytest

from dispatch.authority.layout import SITE_SELECTOR, STOP_CIRCUIT
from dispatch.authority.leases import (
    adopt,
    asked_anew,
    asked_now,
    grant,
    handed_over,
    in_force,
    leases_now,
    standing_values,
)  # fmt: skip
from dispatch.authority.modes import Switches, before_of, expired, modes_now, switches, watch
from dispatch.authority.state import AuthorityMemory, Chosen, InputSeen, Lease
from dispatch.state import Written
from ems.condition import PlantCondition
from ems.control import ControlMode
from tests.unit.dispatch.controlled import P_LIMIT, P_SET, RUN
from tests.unit.dispatch.test_authority_gate import NOW, condition
from tests.unit.dispatch.test_condition import snapshot
from tests.unit.dispatch.test_desk_edges import AUTO, CALM, LAYOUT, MANUAL

CONTROL = LAYOUT.control
DEVICES = frozenset(CONTROL.points_of)
MAPPED = replace(CONTROL, mapped=frozenset(CONTROL.inputs))
OWN = "bess1.remote"
BY_ANN, BY_BOB = (Chosen(mode=ControlMode.MANUAL, user=u) for u in ("ann", "bob"))


def lease(point: str = P_SET, owner: str = "ann", **changes: Any) -> Lease:
    values: dict[str, Any] = {
        "value": 5.0, "since_s": 10.0, "until_s": 1000.0, "request_id": f"{owner}-{point}", "reason": "why",
    } | changes  # fmt: skip
    return Lease(point=point, owner=owner, **values)


def held(*leases: Lease) -> dict[tuple[str, str], Lease]:
    return {(x.point, x.owner): x for x in leases}


# ---- inputs and switches ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (1.0, InputSeen(value=1.0, good_s=50.0, changed_s=7.0)),  # as before
        (0.0, InputSeen(value=0.0, good_s=50.0, changed_s=50.0)),
        (None, InputSeen(value=1.0, good_s=9.0, changed_s=7.0)),
    ],
)
def test_watch_keeps_when_an_input_last_changed(value: float | None, seen: InputSeen):
    before = {STOP_CIRCUIT: InputSeen(value=1.0, good_s=9.0, changed_s=7.0)}
    after = watch(CONTROL, before, snapshot(NOW, 50.0, bus__emergency_stop=value))
    assert after == {STOP_CIRCUIT: seen}


def test_watch_first_reading_is_a_change():
    after = watch(CONTROL, {}, snapshot(NOW, 50.0, bus__remote=1.0, bess1__remote=0.0, bus__other=1.0))
    assert after == {
        SITE_SELECTOR: InputSeen(value=1.0, good_s=50.0, changed_s=50.0),
        OWN: InputSeen(value=0.0, good_s=50.0, changed_s=50.0),
    }


def looked(first_s: float | None = 0.0, age_s: float = 0.0, **positions: float) -> Switches:
    """The switches at 100 s, where these inputs were last read so long ago."""
    inputs = {
        p.replace("__", "."): InputSeen(value=v, good_s=100.0 - age_s, changed_s=0.0)
        for p, v in positions.items()
    }
    return switches(MAPPED, replace(AUTO, first_s=first_s, inputs=inputs), 100.0)


ALL_REMOTE = {p.replace(".", "__"): 1.0 for p in (SITE_SELECTOR, STOP_CIRCUIT, *CONTROL.selectors.values())}


def test_switches_that_are_all_remote_and_closed_hold_nothing_back():
    assert looked(**ALL_REMOTE) == CALM


@pytest.mark.parametrize(
    ("changes", "age_s", "pressed", "local", "lost"),
    [
        ({"bess1__remote": 0.0}, 0.0, False, {"bess1"}, set()),
        ({"bess1__remote": 0.4}, 3.0, False, {"bess1"}, set()),
        ({"bess1__remote": 0.5}, 3.0, False, set(), set()),
        ({"bus__remote": 0.0}, 0.0, False, DEVICES, set()),
        ({"bus__emergency_stop": 0.0}, 0.0, True, set(), set()),
        ({}, 3.1, True, set(), DEVICES),  # nothing is read: the stop counts as open, and reaches everybody
        ({"bess1__remote": 0.5}, 3.1, True, set(), DEVICES),
        ({"bess1__remote": 0.0}, 3.1, True, {"bess1"}, DEVICES - {"bess1"}),  # somebody was seen to take it
    ],
)
def test_switches_as_they_were_read(
    changes: dict[str, float], age_s: float, pressed: bool, local: set[str], lost: set[str]
):
    at = looked(age_s=age_s, **(ALL_REMOTE | changes))
    assert (at.stop_pressed, at.stop_unknown) == (pressed, False)
    assert at.local == local
    assert at.lost == lost


def test_switches_whose_selector_alone_is_lost_keep_the_device_from_everybody():
    inputs = {
        p.replace("__", "."): InputSeen(value=v, good_s=100.0, changed_s=0.0) for p, v in ALL_REMOTE.items()
    }
    inputs[OWN] = InputSeen(value=1.0, good_s=96.9, changed_s=0.0)
    at = switches(MAPPED, replace(AUTO, first_s=0.0, inputs=inputs), 100.0)
    assert not at.stop_pressed
    assert at.local == at.lost == {"bess1"}
    inputs[STOP_CIRCUIT] = InputSeen(value=0.0, good_s=100.0, changed_s=0.0)
    at = switches(MAPPED, replace(AUTO, first_s=0.0, inputs=inputs), 100.0)
    assert at.stop_pressed  # the emergency stop alone reaches it
    assert at.local == set()
    assert at.lost == {"bess1"}


@pytest.mark.parametrize(
    ("first_s", "unknown", "pressed"), [(None, True, False), (97.0, True, False), (96.9, False, True)]
)
def test_switches_of_a_fresh_start_wait_for_their_first_reading(
    first_s: float | None, unknown: bool, pressed: bool
):
    at = looked(first_s)
    assert (at.stop_unknown, at.stop_pressed) == (unknown, pressed)
    assert at.local == (DEVICES if unknown else set())
    assert at.lost == (set() if unknown else DEVICES)


def test_switches_of_a_site_that_has_none_hold_nothing_back_but_what_is_withheld():
    none = switches(CONTROL, replace(AUTO, first_s=0.0), 100.0)
    assert none == CALM
    kept = switches(CONTROL, replace(AUTO, first_s=0.0, withheld={"gen1": "a stranger"}), 100.0)
    assert kept == replace(CALM, local=frozenset({"gen1"}))


# ---- modes -----------------------------------------------------------------------------------------------


def test_mode_for_a_time_ends_in_what_was_before():
    timed = Chosen(mode=ControlMode.TEST, user="eve", until_s=50.0, before=BY_BOB)
    memory = replace(
        AUTO, plant=timed, devices={"bess1": timed, "pv1": replace(timed, before=None), "gen1": BY_ANN}
    )
    assert expired(memory, 49.9) == memory
    after = expired(memory, 50.0)
    assert after.plant == BY_BOB
    assert after.devices == {"bess1": BY_BOB, "gen1": BY_ANN}
    alone = expired(replace(AUTO, plant=replace(timed, before=None)), 50.0)
    assert alone.plant == Chosen(mode=ControlMode.AUTO, user="eve")


@pytest.mark.parametrize(
    ("known", "before"),
    [
        (BY_BOB, BY_BOB),
        (Chosen(mode=ControlMode.AUTO, user="bob"), None),
        (Chosen(mode=ControlMode.TEST, user="eve", until_s=9.0, before=BY_BOB), BY_BOB),
        (Chosen(mode=ControlMode.TEST, user="eve", until_s=9.0), None),
    ],
)
def test_choice_for_a_time_remembers_the_last_that_was_to_stay(known: Chosen, before: Chosen | None):
    assert before_of(replace(AUTO, plant=known), None) == before
    assert before_of(replace(AUTO, devices={"bess1": known}), "bess1") == before
    assert before_of(replace(AUTO, plant=known), "bess1") is None
    stopped = Chosen(mode=ControlMode.OFF, user="emergency stop")
    assert before_of(replace(AUTO, plant=known, stopped=True), None) == stopped
    assert before_of(replace(AUTO, devices={"bess1": known}, stopped=True), "bess1") == before


@pytest.mark.parametrize(
    ("memory", "at", "bess", "pv"),
    [
        (AUTO, CALM, ControlMode.AUTO, ControlMode.AUTO),
        (MANUAL, CALM, ControlMode.MANUAL, ControlMode.MANUAL),
        (replace(AUTO, devices={"bess1": BY_ANN}), CALM, ControlMode.MANUAL, ControlMode.AUTO),
        (AUTO, replace(CALM, local=frozenset({"bess1"})), ControlMode.LOCAL, ControlMode.AUTO),
        (replace(AUTO, stopped=True), CALM, ControlMode.OFF, ControlMode.OFF),
        (AUTO, replace(CALM, stop_pressed=True), ControlMode.OFF, ControlMode.OFF),
        (AUTO, replace(CALM, stop_unknown=True), ControlMode.OFF, ControlMode.OFF),
    ],
)
def test_mode_of_a_device_is_the_strictest_of_all(
    memory: AuthorityMemory, at: Switches, bess: ControlMode, pv: ControlMode
):
    modes = modes_now(CONTROL, memory, at)
    assert modes.keys() == DEVICES
    assert (modes["bess1"], modes["pv1"]) == (bess, pv)


# ---- leases ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [*ControlMode, None])
@pytest.mark.parametrize(("now_s", "over"), [(999.9, False), (1000.0, True)])
def test_lease_counts_until_it_is_over_in_manual_and_test(mode: ControlMode | None, now_s: float, over: bool):
    leases = held(lease())
    modes = {} if mode is None else {"bess1": mode}
    counts = mode in (ControlMode.MANUAL, ControlMode.TEST) and not over
    assert leases_now(leases, modes, now_s) == (leases if counts else {})


def test_lease_in_force_is_the_newest_and_of_two_at_once_the_last_granted():
    old, new, same = lease(), lease(owner="bob", since_s=11.0), lease(owner="dan", since_s=11.0)
    assert in_force(held(old, new)) == {P_SET: new}
    assert in_force(held(new, old)) == {P_SET: new}
    assert in_force(held(new, same)) == {P_SET: same}
    assert in_force(held(old, lease(P_LIMIT))) == {P_SET: old, P_LIMIT: lease(P_LIMIT)}


def test_lease_granted_anew_takes_the_place_of_ones_own():
    memory = grant(grant(grant(AUTO, lease()), lease(owner="bob")), lease(value=9.0))
    assert memory.leases == held(lease(value=9.0), lease(owner="bob"))


@pytest.mark.parametrize(
    ("before", "now", "kept"),
    [
        (ControlMode.MANUAL, ControlMode.TEST, False),
        (None, ControlMode.TEST, False),
        (ControlMode.TEST, ControlMode.TEST, True),
        (ControlMode.TEST, ControlMode.MANUAL, True),
    ],
)
def test_lease_of_before_a_test_does_not_count_in_it(
    before: ControlMode | None, now: ControlMode, kept: bool
):
    leases = held(lease(), lease(P_LIMIT))
    modes = {} if before is None else {"bess1": before}
    memory = replace(AUTO, leases=leases, modes=modes)
    after = handed_over(memory, {"bess1": now, "pv1": ControlMode.MANUAL})
    assert after.leases == (leases if kept else held(lease(P_LIMIT)))
    assert (after is memory) is kept


def adopted(
    memory: AuthorityMemory,
    standing: dict[str, float],
    now_s: float = 100.0,
    mode: ControlMode = ControlMode.MANUAL,
) -> dict[tuple[str, str], Lease]:
    modes = dict.fromkeys(DEVICES, ControlMode.AUTO) | {"bess1": mode}
    return dict(adopt(LAYOUT, memory, modes, standing, now_s).leases)


EXPIRY_S = 4 * 3600.0


def test_adopted_is_what_stands_when_a_device_comes_into_manual():
    memory = replace(AUTO, devices={"bess1": replace(BY_BOB, since_s=90.0)}, first_s=0.0)
    (got,) = adopted(memory, {P_SET: 12.0, P_LIMIT: 5.0}).values()
    assert got == Lease(
        point=P_SET, owner="bob", value=12.0, since_s=100.0, until_s=90.0 + EXPIRY_S, request_id="",
        reason="as it was when bess1 came into manual",
    )  # fmt: skip
    for mode in (ControlMode.AUTO, ControlMode.TEST, ControlMode.OFF):
        assert adopted(memory, {P_SET: 12.0}, mode=mode) == {}
    assert adopted(replace(memory, modes={"bess1": ControlMode.MANUAL}), {P_SET: 12.0}) == {}
    assert adopted(replace(memory, modes={"bess1": ControlMode.TEST}), {P_SET: 12.0}) != {}
    assert adopted(memory, {}) == {}


def test_adopted_is_of_who_chose_manual_the_device_or_the_plant():
    plant = replace(
        MANUAL, devices={"bess1": Chosen(mode=ControlMode.AUTO, user="bob", since_s=90.0)}, first_s=50.0
    )
    (got,) = adopted(plant, {P_SET: 12.0}).values()
    assert (got.owner, got.until_s) == ("ann", 50.0 + EXPIRY_S)  # chosen before this edge began to look
    (got,) = adopted(replace(plant, first_s=None), {P_SET: 12.0}).values()
    assert got.until_s == 100.0 + EXPIRY_S


@pytest.mark.parametrize(
    ("asked_s", "chosen_until_s", "until_s"),
    [
        (300.0, None, 300.0),
        (100.1, None, 100.1),
        (100.0, None, None),  # its time is over: nobody takes it over
        (99.0, None, None),
        (300.0, 200.0, 200.0),  # no longer than manual itself
        (150.0, 200.0, 150.0),
        (None, 200.0, 200.0),
    ],
)
def test_adopted_is_held_no_longer_than_was_asked(
    asked_s: float | None, chosen_until_s: float | None, until_s: float | None
):
    chosen = replace(BY_BOB, since_s=90.0, until_s=chosen_until_s)
    asked = {} if asked_s is None else {P_SET: asked_s}
    memory = replace(AUTO, devices={"bess1": chosen}, asked_until_s=asked)
    got = adopted(memory, {P_SET: 12.0}).get((P_SET, "bob"))
    assert (None if got is None else got.until_s) == until_s


def test_adopted_never_replaces_a_lease_of_its_own():
    own = lease(owner="bob", value=3.0)
    memory = replace(AUTO, devices={"bess1": BY_BOB}, leases=held(own))
    assert adopted(memory, {P_SET: 12.0}) == held(own)
    others = held(lease(owner="ann"))
    assert adopted(replace(memory, leases=others), {P_SET: 12.0}).keys() == {(P_SET, "ann"), (P_SET, "bob")}


def test_asked_is_remembered_of_the_lease_in_force_until_manual_is_chosen_anew():
    memory = replace(
        AUTO, leases=held(lease(until_s=70.0)), asked_until_s={P_SET: 1.0, P_LIMIT: 2.0, RUN: 3.0}
    )
    memory = asked_now(memory)
    assert memory.asked_until_s == {P_SET: 70.0, P_LIMIT: 2.0, RUN: 3.0}
    after = asked_anew(memory, [P_SET, P_LIMIT])
    assert after.asked_until_s == {P_SET: 70.0, RUN: 3.0}  # held still; not among those


def plant(on_load: bool = False, starting: bool = False) -> PlantCondition:
    c = condition(True)
    gen = replace(c.gensets["gen1"], on_load=on_load, starting=starting, p_kw=33.0)
    bess = replace(c.bess["bess1"], p_kw=-7.0)
    closed = {"essential": True, "deferrable": False}
    return replace(c, gensets={**c.gensets, "gen1": gen}, bess={"bess1": bess}, feeder_closed=closed)


def test_standing_is_read_back_else_written_else_measured_inside_the_site_files_bounds():
    written = {
        P_SET: Written(value=40.0, at_s=0.0, known=False),
        P_LIMIT: Written(value=900.0, at_s=0.0, known=True),
    }
    got = standing_values(LAYOUT, snapshot(NOW, 0.0, bess1__p_set_kw=50.0), plant(), written)
    assert (got[P_SET], got[P_LIMIT]) == (50.0, 600.0)
    got = standing_values(LAYOUT, snapshot(NOW, 0.0), plant(), written)
    assert got[P_SET] == 40.0
    got = standing_values(LAYOUT, snapshot(NOW, 0.0), plant(), {})
    assert got == {
        P_SET: -7.0, "gen1.p_set_kw": 33.0, "gen2.p_set_kw": 0.0, RUN: 0.0, "gen2.run_request": 0.0,
        "essential.close_request": 1.0, "deferrable.close_request": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("on_load", "starting", "runs"),
    [(True, False, 1.0), (False, True, 1.0), (True, True, 1.0), (False, False, 0.0)],
)
def test_standing_of_a_genset_is_that_it_runs_or_starts(on_load: bool, starting: bool, runs: float):
    assert standing_values(LAYOUT, snapshot(NOW, 0.0), plant(on_load, starting), {})[RUN] == runs
