"""The last line at its edges: what it is drawn from, what a switch hangs on, what is narrowed."""

from dataclasses import replace
from typing import Any

import pytest

from dispatch.authority.layers import Limits
from dispatch.authority.state import AuthorityMemory, Told, memory_of
from dispatch.layout import Watchdog, layout_of
from dispatch.state import NEVER_S, EdgeState, ObserverMemory, Written
from dispatch.writing.last_line import Newest, _discrete_moved, _narrowed, last_line, line_now
from ems.commands import Bound, Cause, Command, Refusal
from ems.control import ControlMode
from ems.control_site import ControlParams, LimitKind, UtilityLimit
from ems.requests import StandingLimit
from ems.site import GridMode
from tests.builders import T0, site
from tests.unit.dispatch.test_authority_gate import LAYOUT, condition, gate_input
from tests.unit.dispatch.test_condition import snapshot
from tests.unit.dispatch.test_last_line import RULING, command, line

BESS, PV, GEN, FEEDER = "bess1.p_set_kw", "pv1.p_limit_kw", "gen1.run_request", "essential.close_request"
BEAT = "bess1.heartbeat"
BOUND = Bound(point=BESS, low=-10.0, high=10.0, layer="poi", reason="a cap")
WATCHED = replace(LAYOUT, watchdogs={BEAT: Watchdog(period_s=1.0, wrap=65536)})


def test_line_stands_for_no_time_and_on_what_was_decided():
    state = EdgeState(epoch=5, observer=ObserverMemory(mode=GridMode.GRID_TIED))
    here = line_now(LAYOUT, state, snapshot(T0, 100.0), GridMode.ISLANDED, {BESS: [BOUND]})
    assert 0.0 < here.given.dt_s <= 0.001
    assert (here.decided_in, here.given.mode, here.given.epoch) == (GridMode.ISLANDED, GridMode.GRID_TIED, 5)
    assert here.bounds == {BESS: [BOUND]}
    assert here.ruling.modes["bess1"] is ControlMode.AUTO


def test_line_of_an_edge_that_is_held_safe_lets_the_safe_table_alone_pass():
    state = EdgeState(epoch=5, held_safe=True, observer=ObserverMemory(mode=GridMode.GRID_TIED))
    here = line_now(LAYOUT, state, snapshot(T0, 100.0), GridMode.GRID_TIED, {BESS: [BOUND]})
    assert here.bounds == {}
    assert here.given.held_safe
    safe = command(BESS, 50.0, cause=Cause.SAFE_TABLE)
    assert last_line(here, safe, None) == safe


def test_line_is_old_after_a_tenth_of_a_second_to_the_point():
    here, calm = line(given=gate_input(now_s=0.0)), EdgeState(epoch=1)
    assert here.holds(Newest(), calm, 0.0)
    assert here.holds(Newest(), calm, 0.0999)
    assert not here.holds(Newest(), calm, 0.1)


IMPORT, EXPORT = LimitKind.IMPORT, LimitKind.EXPORT
CAPS = tuple(
    UtilityLimit(id=k, kind=k, point=f"grid1.p_{k}_kw_max", watchdog_s=10.0, on_loss_kw=0.0)
    for k in LimitKind
)
CAPPED = layout_of(replace(site(), control=ControlParams(limits=CAPS)))


def told(**kw: float) -> AuthorityMemory:
    """An edge that has heard these caps, and began to look long ago."""
    heard = {k: Told(value_kw=v, valid_s=100.0) for k, v in kw.items()}
    return replace(memory_of(ControlMode.AUTO), first_s=0.0, told=heard)


@pytest.mark.parametrize(
    ("before", "now", "lowered"),
    [
        ({"import": 50.0, "export": 50.0}, {"import": 50.0, "export": 50.0}, set()),
        ({"import": 50.0, "export": 50.0}, {"import": 49.9, "export": 50.0}, {IMPORT}),
        ({"import": 50.0, "export": 50.0}, {"import": 50.0, "export": 49.9}, {EXPORT}),
        ({"import": 50.0, "export": 50.0}, {"import": 0.0, "export": 0.0}, {IMPORT, EXPORT}),
        ({"import": 50.0, "export": 50.0}, {"import": 51.0, "export": 50.0}, set()),
        ({"pv": 50.0, "import": 1.0, "export": 1.0}, {"pv": 10.0, "import": 1.0, "export": 1.0}, set()),
    ],
)
@pytest.mark.parametrize("held_safe", [False, True])
def test_line_knows_which_caps_at_the_poi_were_lowered(before, now, lowered, held_safe: bool):
    state = EdgeState(
        epoch=1,
        held_safe=held_safe,
        observer=ObserverMemory(mode=GridMode.GRID_TIED),
        authority=told(**before),
    )
    shot = snapshot(T0, 101.0, **{f"grid1__p_{k}_kw_max": v for k, v in now.items()})
    here = line_now(CAPPED, state, shot, GridMode.GRID_TIED, {})
    assert here.lowered == lowered


def test_line_cap_of_people_that_is_lower_still_is_not_lowered_by_others():
    limit = StandingLimit(subject="export", value=10.0, user="ann", reason="test")
    authority = replace(told(**{"import": 50.0, "export": 50.0}), limits={"export": limit})
    state = EdgeState(epoch=1, observer=ObserverMemory(mode=GridMode.GRID_TIED), authority=authority)
    for now_kw, lowered in ((20.0, set()), (10.0, set()), (5.0, {EXPORT})):
        shot = snapshot(T0, 101.0, grid1__p_import_kw_max=50.0, grid1__p_export_kw_max=now_kw)
        assert line_now(CAPPED, state, shot, GridMode.GRID_TIED, {}).lowered == lowered


def test_line_of_an_edge_that_has_not_looked_yet_knows_of_no_lowered_cap():
    state = EdgeState(epoch=1, observer=ObserverMemory(mode=GridMode.GRID_TIED))
    shot = snapshot(T0, 101.0)
    assert line_now(CAPPED, state, shot, GridMode.GRID_TIED, {}).lowered == frozenset()
    first = line_now(CAPPED, state, snapshot(T0, 101.0, grid1__p_export_kw_max=5.0), GridMode.GRID_TIED, {})
    assert first.lowered == frozenset(), "until a cap is heard its value on loss holds, which is 0"


GEN_KW = "gen1.p_set_kw"


@pytest.mark.parametrize(
    ("point", "value", "stood", "cause", "lowered", "refused"),
    [
        (BESS, 40.1, 40.0, Cause.PLAN, {EXPORT}, True),
        (BESS, 40.0, 40.0, Cause.PLAN, {EXPORT}, False),  # as it stands
        (BESS, 39.9, 40.0, Cause.PLAN, {EXPORT}, False),
        (BESS, 39.9, 40.0, Cause.PLAN, {IMPORT}, True),
        (BESS, 40.0, 40.0, Cause.PLAN, {IMPORT}, False),
        (BESS, 40.1, 40.0, Cause.PLAN, {IMPORT}, False),
        (BESS, 40.1, 40.0, Cause.PLAN, {IMPORT, EXPORT}, True),
        (BESS, 39.9, 40.0, Cause.RULES, {IMPORT, EXPORT}, True),
        (BESS, 40.1, 40.0, Cause.PLAN, set(), False),
        (BESS, 0.1, None, Cause.RULES, {EXPORT}, True),
        (BESS, -0.1, None, Cause.RULES, {IMPORT}, True),
        (BESS, -0.1, None, Cause.RULES, {EXPORT}, False),
        (BESS, 90.0, 40.0, Cause.PROTECTION, {EXPORT}, False),  # it answers what was measured
        (BESS, 0.0, 40.0, Cause.SAFE_TABLE, {IMPORT}, False),
        (BESS, 0.0, 40.0, Cause.EMERGENCY_STOP, {IMPORT}, False),
        (BESS, 240.0, 260.0, Cause.PLAN, {IMPORT}, False),  # from above what the BMS gives
        (BESS, -290.0, -310.0, Cause.PLAN, {EXPORT}, False),
        (BESS, 240.0, 250.0, Cause.PLAN, {IMPORT}, True),
        (BESS, -290.0, -300.0, Cause.PLAN, {EXPORT}, True),
        (GEN_KW, 200.0, 150.0, Cause.PLAN, {EXPORT}, True),
        (GEN_KW, 150.0, 200.0, Cause.PLAN, {IMPORT}, True),
        (PV, 100.1, 100.0, Cause.PROTECTION, {EXPORT}, True),  # raised: it protects nothing
        (PV, 100.0, 100.0, Cause.PLAN, {EXPORT}, False),
        (PV, 50.0, 100.0, Cause.PLAN, {IMPORT, EXPORT}, False),
        (PV, 150.0, 100.0, Cause.PLAN, {IMPORT}, False),
        (PV, 150.0, None, Cause.PLAN, {EXPORT}, False),  # any limit is less than none
        (PV, 150.0, 100.0, Cause.SAFE_TABLE, {EXPORT}, False),
        (GEN, 1.0, 0.0, Cause.PLAN, {IMPORT, EXPORT}, False),
    ],
)
def test_command_toward_a_cap_that_was_lowered_waits_for_the_next_decision(
    point: str, value: float, stood: float | None, cause: Cause, lowered, refused: bool
):
    last = None if stood is None else Written(value=stood, at_s=1.0, known=True)
    modes = dict.fromkeys(RULING.modes, ControlMode.OFF if cause is Cause.SAFE_TABLE else ControlMode.AUTO)
    ruling = replace(RULING, modes=modes, stopping=cause is Cause.EMERGENCY_STOP)
    sent = command(point, value, cause=cause)
    here = line(lowered=frozenset(lowered), ruling=ruling)
    out = last_line(here, sent, last)
    assert isinstance(out, Refusal) is refused, out
    if isinstance(out, Refusal):
        assert out.code == "cap_lowered"
        assert "lower than the one decided on" in out.reason
    island = replace(here, decided_in=GridMode.ISLANDED, given=replace(here.given, mode=GridMode.ISLANDED))
    assert isinstance(last_line(island, sent, last), Command), "in an island nothing passes the POI"


def test_setpoint_stood_at_what_was_written_else_at_what_is_taken_over():
    shot = snapshot(T0, 100.0, bess1__p_set_kw=12.0, bess1__heartbeat=7.0)
    here = line(layout=WATCHED, snapshot=shot)
    before = {PV: Written(value=3.0, at_s=1.0, known=True)}
    assert here.stood(PV, before) == before[PV]
    assert here.stood(BESS, before) == Written(value=12.0, at_s=NEVER_S, known=False)
    assert here.stood(BEAT, before) is None  # a heartbeat counts on, and takes nothing over
    assert here.stood(BEAT, {BEAT: before[PV]}) == before[PV]


@pytest.mark.parametrize(
    ("point", "value", "cause", "sent", "now", "moved"),
    [
        (GEN, 1.0, Cause.PLAN, "a", "a", False),
        (GEN, 1.0, Cause.PLAN, "a", "b", True),
        (GEN, 1.0, Cause.PLAN, "", "b", False),  # it hangs on nothing
        (GEN, 0.0, Cause.PROTECTION, "a", "b", True),
        (GEN, 1.0, Cause.SAFE_TABLE, "a", "b", False),
        (GEN, 1.0, Cause.EMERGENCY_STOP, "a", "b", False),
        (FEEDER, 0.0, Cause.PROTECTION, "a", "b", False),  # to open a breaker protects
        (FEEDER, 0.5, Cause.PROTECTION, "a", "b", True),
        (FEEDER, 1.0, Cause.PROTECTION, "a", "b", True),
        (FEEDER, 0.0, Cause.PLAN, "a", "b", True),
        (FEEDER, 1.0, Cause.PLAN, "a", None, True),
    ],
)
def test_switch_whose_ground_has_moved(
    point: str, value: float, cause: Cause, sent: str, now: str | None, moved: bool
):
    asset, _, name = point.partition(".")
    hashes = {} if now is None else {asset: now}
    here = line(given=replace(gate_input(), state_hash=hashes))
    c = command(point, value, cause=cause, state_hash=sent)
    assert _discrete_moved(here, c, asset, name) is moved
    out = last_line(here, c, None)
    assert getattr(out, "code", None) == ("state_changed" if moved else None)


def test_battery_that_forms_takes_the_setpoints_that_are_no_power():
    layout = replace(LAYOUT, setpoints={**LAYOUT.setpoints, "bess1.q_set_kvar": LAYOUT.setpoints[BESS]})
    here = line(layout=layout, given=gate_input(forming=True))
    assert isinstance(last_line(here, command("bess1.q_set_kvar", 9.0), None), Command)
    assert isinstance(last_line(here, command(BESS, 9.0), None), Refusal)


@pytest.mark.parametrize(
    ("protective", "cause", "fresh", "code"),
    [
        (False, Cause.PLAN, False, "stale_input"),
        (True, Cause.PLAN, False, None),
        (False, Cause.PROTECTION, False, "stale_input"),  # it gives PV back: on good readings only
        (False, Cause.PROTECTION, True, None),
        (False, Cause.SAFE_TABLE, False, None),
    ],
)
def test_more_pv_is_let_through_on_good_readings_only(
    protective: bool, cause: Cause, fresh: bool, code: str | None
):
    here = line(given=gate_input(fresh=fresh))
    c = command(PV, 200.0, cause=cause, protective=protective)
    out = last_line(here, c, Written(value=100.0, at_s=0.0, known=True))
    assert getattr(out, "code", None) == code


@pytest.mark.parametrize(
    ("limits", "step", "value"),
    [
        ({"low": -500.0, "high": 80.5}, None, 80.5),
        ({"low": -500.0, "high": 80.5}, 1.0, 80.5),  # its device rounds it to 80
        ({"low": -500.0, "high": 80.6}, 1.0, 80.0),  # and this to 81
        ({"low": 120.5, "high": 500.0}, 1.0, 121.0),
        ({"low": 120.6, "high": 500.0}, 1.0, 121.0),
        ({"low": 80.2, "high": 80.8}, 1.0, 80.8),  # no count between the bounds
        ({"low": -500.0, "high": 100.0}, 1.0, 100.0),
    ],
)
def test_narrowed_is_what_the_register_can_hold_inside(
    limits: dict[str, Any], step: float | None, value: float
):
    sent = command(value=100.0)
    now = _narrowed(sent, Limits(**limits, binding="bms"), step)
    assert now.value == value
    assert (now is sent) is (value == 100.0)
    assert (now.limits_hash == sent.limits_hash) is (value == 100.0)
    assert (f"100.0 narrowed to {value:.1f} by bms" in now.reason) is (value != 100.0)


@pytest.mark.parametrize(
    ("value", "stood", "passes"),
    [(50.0, 50.0, True), (51.0, 50.0, False), (49.0, 50.0, True), (0.0, None, False), (1.0, None, False)],
)
def test_in_another_mode_less_than_before_passes(value: float, stood: float | None, passes: bool):
    here = line(GridMode.ISLANDED, condition=condition(True))
    last = None if stood is None else Written(value=stood, at_s=0.0, known=True)
    out = last_line(here, command(PV, value), last)
    assert getattr(out, "code", None) == (None if passes else "mode_changed")


def test_heartbeat_is_silent_for_a_device_in_off_and_beside_it_nothing_is_written():
    off = replace(RULING, modes={**RULING.modes, "bess1": ControlMode.OFF})
    for ruling, code in ((RULING, None), (off, "local")):
        out = last_line(line(layout=WATCHED, ruling=ruling), command(BEAT, 7.0), None)
        assert getattr(out, "code", None) == code
