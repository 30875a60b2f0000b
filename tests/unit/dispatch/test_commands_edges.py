"""From targets to commands at the edges: who is heard, what the gate is told, where ramps start."""

import math
import sys
from dataclasses import replace
from typing import Any

import pytest

from dispatch.authority.state import Lease
from dispatch.layout import layout_of
from dispatch.observing.condition import observe
from dispatch.state import NEVER_S, EdgeState, ObserverMemory, Written
from dispatch.vocabulary import PvWish, Source, Target, Targets, TickInput
from dispatch.writing import commands as module
from dispatch.writing.budget_memory import BudgetMemory
from dispatch.writing.commands import (
    _is_number,
    _measured,
    gate_input_of,
    only_numbers,
    proposals_of,
    taken_over,
    write,
)
from dispatch.writing.contention_memory import ContentionMemory, Contest
from ems.commands import Cause, Proposal
from ems.control import ControlMode
from ems.errors import InvariantBroken
from ems.site import GridMode
from tests.builders import T0, site
from tests.unit.dispatch.test_authority_gate import LAYOUT
from tests.unit.dispatch.test_condition import snapshot
from tests.unit.dispatch.test_last_line import RULING, command, in_mode
from tests.unit.dispatch.test_writing_edges import asked_of, written_of

BESS, PV, GEN, FEEDER = "bess1.p_set_kw", "pv1.p_limit_kw", "gen1.run_request", "essential.close_request"
LARGEST = sys.float_info.max


@pytest.mark.parametrize("value", [LARGEST, -LARGEST, 0, 1, True])
def test_largest_number_is_a_number(value: float):
    assert _is_number(value)


@pytest.mark.parametrize(("export_kw", "bess_kw"), [(math.nan, 0.0), (0.0, math.inf), (0.0, math.nan)])
def test_wish_for_pv_that_is_no_number_is_no_wish(export_kw: float, bess_kw: float):
    wish = PvWish(export_kw=0.0, bess_kw={"bess1": -50.0}, cause=Cause.PLAN, reason="r")
    good = Targets(source=Source.PLAN, pv_wish=wish)
    assert only_numbers("plan", good, T0) == (good, [])
    bad = replace(wish, export_kw=export_kw, bess_kw={"bess1": bess_kw})
    assert only_numbers("plan", replace(good, pv_wish=bad), T0) == (replace(good, pv_wish=None), [])


def test_every_kind_of_wish_is_refused_by_the_name_of_its_setpoint():
    bad = {"x": Target(value=float("nan"), cause=Cause.RULES, reason="r")}
    names = {
        "bess_p_kw": "x.p_set_kw",
        "genset_run": "x.run_request",
        "genset_p_kw": "x.p_set_kw",
        "pv_limit_kw": "x.p_limit_kw",
        "feeder_close": "x.close_request",
        "pv_trip": "x.trip_request",
        "q_kvar": "x.q_set_kvar",
    }
    for group, point in names.items():
        wishes, refusals = only_numbers("o", Targets(source=Source.RULES, **{group: bad}), T0)  # type: ignore[arg-type]
        assert getattr(wishes, group) == {}
        assert [(r.point, r.cause, r.decided_at) for r in refusals] == [(point, Cause.RULES, T0)]


def observed_at(grid: GridMode = GridMode.GRID_TIED, **changes: Any):
    shot = snapshot(T0, 100.0, **changes)
    _, observed = observe(LAYOUT, ObserverMemory(mode=grid), shot, {}, 1.0, {})
    return shot, observed


def proposed(cause: Cause, ruling=RULING) -> Proposal:
    shot, observed = observed_at()
    wish = {"bess1": Target(value=8.0, cause=cause, reason="why")}
    targets = Targets(source=Source.PLAN, plan_id="p1", bess_p_kw=wish)
    given = TickInput(snapshot=shot, plan=None, outages=(), dt_s=1.0)
    (got,) = proposals_of(LAYOUT, "edge", EdgeState(epoch=1), observed, targets, given, ruling)
    assert (got.point, got.value, got.reason) == (BESS, 8.0, "why")
    return got


LEASE = Lease(
    point=BESS, owner="ann", value=8.0, since_s=0.0, until_s=200.0, request_id="r7", reason="a test"
)


def test_wish_of_a_person_is_in_the_name_of_who_holds_the_lease():
    manual = in_mode(ControlMode.MANUAL, held={BESS: LEASE})
    got = proposed(Cause.OPERATOR, manual)
    assert (got.owner, got.request_id, got.plan_id) == ("ann", "r7", None)
    got = proposed(Cause.OPERATOR, in_mode(ControlMode.MANUAL))
    assert (got.owner, got.request_id, got.plan_id) == ("edge", None, None)


@pytest.mark.parametrize("cause", [Cause.PROTECTION, Cause.PLAN, Cause.RULES])
def test_wish_of_nobody_is_the_edges_own_whoever_holds_a_lease(cause: Cause):
    got = proposed(cause, replace(RULING, held={BESS: LEASE}))
    assert (got.owner, got.request_id, got.plan_id) == ("edge", None, "p1")


# ---- what the gate is told -------------------------------------------------------------------------------


def told(state: EdgeState | None = None, layout=LAYOUT, **changes: Any):
    shot, observed = observed_at(**changes)
    return gate_input_of(layout, state or EdgeState(epoch=3), observed, shot, 2.0)


def test_gate_is_told_time_epoch_and_mode_of_this_cycle():
    given = told()
    assert (given.mode, given.epoch, given.now, given.now_s, given.dt_s) == (
        GridMode.GRID_TIED,
        3,
        T0,
        100.0,
        2.0,
    )
    assert not given.held_safe
    assert told(EdgeState(epoch=3, held_safe=True)).held_safe


@pytest.mark.parametrize("point", ["soc", "p_charge_kw_max", "p_discharge_kw_max", "state"])
def test_gate_is_told_of_a_battery_that_one_reading_is_bad(point: str):
    assert told().fresh["bess1"]
    given = told(**{f"bess1__{point}": None})
    assert (given.fresh["bess1"], given.answering["bess1"]) == (False, True)
    assert given.fresh["gen1"]
    assert given.fresh["pv1"]


def test_gate_is_told_of_a_device_that_answers_nothing():
    silent = {f"bess1__{n.partition('.')[2]}": None for n in LAYOUT.reads["bess1"]}
    given = told(**silent)
    assert (given.fresh["bess1"], given.answering["bess1"], given.answering["pv1"]) == (False, False, True)
    one = dict(list(silent.items())[1:])
    assert told(**one).answering["bess1"]


@pytest.mark.parametrize(
    ("state", "mains", "forming"), [(2.0, 0.0, True), (2.0, 1.0, False), (1.0, 0.0, False), (1.0, 1.0, False)]
)
def test_gate_is_told_who_forms_where_the_mains_are_not_known_to_carry(
    state: float, mains: float, forming: bool
):
    given = told(bess1__state=state, grid1__breaker_closed=mains, grid1__v_pu=mains)
    assert given.forming == (frozenset({"bess1"}) if forming else frozenset())


def test_gate_is_told_that_a_battery_forms_where_nobody_knows_about_the_mains():
    given = told(bess1__state=2.0, grid1__breaker_closed=None, grid1__v_pu=None)
    assert given.forming == frozenset({"bess1"})


def test_gate_is_told_what_is_spent_and_what_others_hold():
    layout = replace(LAYOUT, writes_per_day={BESS: 3, PV: 3, GEN: 3})
    budget = BudgetMemory(day=T0.astimezone(LAYOUT.zone).date(), spent={BESS: 3, PV: 2, GEN: 1})
    sent = {PV: ((0.0, 10.0), (95.0, 20.0), (99.0, 30.0))}
    contested = ContentionMemory(sent=sent, contests={PV: Contest(value=90.0, rewritten_s=99.0)})
    given = told(EdgeState(epoch=1, budget=budget, contention=contested), layout)
    assert given.spent == frozenset({BESS})
    assert given.half_spent == frozenset({BESS, PV})
    assert given.ours == {PV: 30.0}


def test_gate_is_told_states_that_switches_hang_on():
    calm = told().state_hash
    assert calm.keys() == {"gen1", "gen2", "grid1", *LAYOUT.shed_order}
    assert all(len(h) == 8 for h in calm.values())
    moved = told(gen1__state=3.0).state_hash
    assert {a for a in calm if calm[a] != moved[a]} == {"gen1"}
    opened = told(essential__closed=0.0).state_hash
    assert {a for a in calm if calm[a] != opened[a]} == {"essential"}
    island = told(grid1__breaker_closed=0.0, grid1__v_pu=0.0, bess1__state=2.0).state_hash
    assert not {a for a in calm if calm[a] == island[a]}


# ---- what a ramp starts from -----------------------------------------------------------------------------

CHANGES_HANDS = replace(RULING, step={PV: 30.0, BESS: 30.0, "gen1.p_set_kw": 30.0})


@pytest.mark.parametrize(
    ("point", "ruling", "changes", "value"),
    [
        (BESS, RULING, {"bess1__p_set_kw": 12.0, "bess1__p_kw": 40.0}, 12.0),  # it says what it has
        (BESS, RULING, {"bess1__p_kw": 40.0}, 40.0),
        ("gen1.p_set_kw", RULING, {"gen1__p_kw": 70.0, "bess1__p_kw": 40.0}, 70.0),
        ("gen1.p_set_kw", RULING, {"gen1__p_set_kw": 5.0, "gen1__p_kw": 70.0}, 5.0),
        (PV, RULING, {"pv1__p_limit_kw": 90.0, "pv1__p_kw": 50.0}, 90.0),
        (PV, CHANGES_HANDS, {"pv1__p_limit_kw": 90.0, "pv1__p_kw": 50.0}, 90.0),
        (PV, CHANGES_HANDS, {"pv1__p_kw": 50.0}, 50.0),
        (PV, RULING, {"pv1__p_kw": 50.0}, None),  # what PV gives is no limit
        (FEEDER, replace(RULING, step={FEEDER: 1.0}), {}, None),
        (GEN, RULING, {}, None),
    ],
)
def test_taken_over_is_what_the_device_says_and_for_powers_what_is_measured(
    point: str, ruling, changes: dict[str, Any], value: float | None
):
    shot, observed = observed_at(**changes)
    expected = None if value is None else Written(value=value, at_s=NEVER_S, known=False)
    assert taken_over(LAYOUT, observed.condition, shot, point, ruling) == expected


def test_measured_is_only_what_this_edge_has_not_written():
    shot, observed = observed_at(bess1__p_kw=40.0, gen1__p_kw=70.0)
    fresh = _measured(LAYOUT, EdgeState(epoch=1), observed, shot, RULING)
    assert fresh[BESS].value == 40.0
    assert fresh["gen1.p_set_kw"].value == 70.0
    assert not {PV, GEN, FEEDER} & fresh.keys()
    state = EdgeState(epoch=1, written={BESS: Written(value=1.0, at_s=0.0, known=True)})
    assert BESS not in _measured(LAYOUT, state, observed, shot, RULING)


# ---- writing ---------------------------------------------------------------------------------------------


def test_write_refusal_of_the_gate_is_told_and_nothing_is_written():
    written, commands, codes = written_of(EdgeState(epoch=1), snapshot(T0, 100.0, bess1__soc=None), 50.0)
    assert codes == []  # nothing is asked of a battery that cannot be read
    assert [c.value for c in commands] == [0.0]
    assert written[BESS].value == 0.0
    held = EdgeState(epoch=1, held_safe=True)
    written, commands, codes = written_of(held, snapshot(T0, 100.0), 50.0)
    assert (written, commands, codes) == ({}, (), ["held_safe"])


def test_write_what_the_gate_has_nothing_to_say_about_is_no_refusal():
    contests = {BESS: Contest(value=100.0, rewritten_s=100.0)}
    state = EdgeState(
        epoch=4, seq=8, written={BESS: Written(value=100.0, at_s=100.5, known=True)},
        contention=ContentionMemory(contests=contests),
    )  # fmt: skip
    assert written_of(state, snapshot(T0, 101.0), 100.0)[1:] == ((), [])


def test_write_numbers_its_commands_one_after_the_other():
    shot, observed = observed_at()
    wishes = [
        Proposal(point=p, value=v, cause=Cause.PLAN, reason="r", owner="o")
        for p, v in ((BESS, 20.0), (PV, 300.0), (FEEDER, 0.0))
    ]
    state = EdgeState(epoch=1, seq=41)
    given = gate_input_of(LAYOUT, state, observed, shot, 1.0)
    _, commands, _ = write(LAYOUT, state, observed, shot, replace(asked_of(1.0), proposals=wishes), given)
    assert [(c.point, c.seq) for c in commands] == [(BESS, 42), (PV, 43), (FEEDER, 44)]


@pytest.mark.parametrize(
    "wrong", [command(value=499.0), command("nobody.p_set_kw"), command(PV, 5.0, cause=Cause.OPERATOR)]
)
def test_write_breaks_where_the_gate_lets_pass_what_it_must_not(monkeypatch: pytest.MonkeyPatch, wrong):
    monkeypatch.setattr(module, "gate", lambda *_: wrong)
    with pytest.raises(InvariantBroken):
        written_of(EdgeState(epoch=1), snapshot(T0, 100.0, bess1__p_discharge_kw_max=400.0), 50.0)


def test_off_takes_only_the_devices_that_are_off_to_their_safe_value():
    layout = layout_of(site())
    shot, observed = observed_at(bess1__state=1.0)
    ruling = replace(RULING, modes={**RULING.modes, "pv1": ControlMode.OFF})
    given = TickInput(snapshot=shot, plan=None, outages=(), dt_s=1.0)
    got = proposals_of(
        layout, "edge", EdgeState(epoch=1), observed, Targets(source=Source.RULES), given, ruling
    )
    assert [(p.point, p.value, p.cause) for p in got] == [(PV, 0.0, Cause.SAFE_TABLE)]
