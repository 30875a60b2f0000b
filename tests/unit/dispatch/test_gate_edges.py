"""The gate at its edges: from where a ramp counts, when a write is due, what each rule forbids."""

from dataclasses import replace
from typing import Any

import pytest

from dispatch.layout import Layout, layout_of
from dispatch.state import Written
from dispatch.writing.gate import _due, _eases, _lets_pv_go, _may_hold, _ramp_start, forbidden, gate
from ems.commands import Cause, Command, Refusal, Setpoint
from ems.site import GridMode
from tests import builders
from tests.scenarios.poi import with_breaker
from tests.unit.dispatch.test_authority_gate import LAYOUT, gate_input, setpoint

BESS, PV, FEEDER, GEN = "bess1.p_set_kw", "pv1.p_limit_kw", "essential.close_request", "gen1.run_request"
GENSET_KW = "gen1.p_set_kw"
FREE = (Cause.EMERGENCY_STOP, Cause.SAFE_TABLE, Cause.PROTECTION)


def stood(value: float, at_s: float = 99.0, *, known: bool = True, tries: int = 0) -> Written:
    return Written(value=value, at_s=at_s, known=known, tries=tries)


def with_setpoint(point: str, **changes: Any) -> Layout:
    return replace(LAYOUT, setpoints={**LAYOUT.setpoints, point: replace(LAYOUT.setpoints[point], **changes)})


def sent(layout: Layout, s: Setpoint, last: Written | None, **given: Any) -> Command:
    out = gate(layout, s, last, replace(gate_input(), **given), 1)
    assert isinstance(out, Command)
    return out


# ---- the ramp --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("per_s", "dt_s", "value", "becomes"),
    [
        (0.5, 1.0, 140.0, 100.5),
        (0.5, 1.0, 60.0, 99.5),
        (0.5, 4.0, 140.0, 102.0),
        (0.5, 1.0, 101.0, 100.5),
        (0.5, 4.0, 101.5, 101.5),  # nearer than a step
        (-3.0, 1.0, 140.0, 100.0),  # a rate that makes no sense moves nothing
    ],
)
def test_ramp_is_the_rate_times_the_time(per_s: float, dt_s: float, value: float, becomes: float):
    last = stood(100.0, 0.0)
    out = sent(with_setpoint(BESS, ramp_per_s=per_s), setpoint(BESS, value), last, dt_s=dt_s)
    assert out.value == pytest.approx(becomes)
    assert ("at the allowed ramp" in out.reason) is (becomes != value)


def test_ramp_does_not_speak_of_what_no_register_holds():
    still = with_setpoint(BESS, ramp_per_s=-1.0)
    out = sent(still, setpoint(BESS, 1e-9), stood(0.0, 0.0))
    assert (out.value, out.reason) == (1e-9, "r")


@pytest.mark.parametrize(
    ("stands", "value", "bounds", "becomes"),
    [
        (400.0, 100.0, {"high": 250.0}, 250.0),  # the setpoint's own bound is the tighter
        (-400.0, -100.0, {"low": -250.0}, -250.0),
        (600.0, 100.0, {"high": 1000.0}, 500.0),  # the site file's is
        (-600.0, -100.0, {"low": -1000.0}, -500.0),
    ],
)
def test_ramp_never_stays_outside_of_either_bound(
    stands: float, value: float, bounds: dict[str, float], becomes: float
):
    layout = with_setpoint(BESS, ramp_per_s=10.0)
    assert sent(layout, setpoint(BESS, value, **bounds), stood(stands)).value == becomes


@pytest.mark.parametrize(
    ("per_s", "dt_s", "value", "becomes"),
    [
        (0.5, 1.0, 300.0, 100.5),
        (2.0, 4.0, 300.0, 108.0),
        (2.0, 4.0, 108.0, 108.0),
        (-3.0, 1.0, 300.0, 100.0),
    ],
)
def test_pv_limit_in_doubt_rises_from_what_was_sent(per_s: float, dt_s: float, value: float, becomes: float):
    layout, s = with_setpoint(PV, ramp_per_s=per_s), setpoint(PV, value, protective=True)
    out = sent(layout, s, stood(400.0), dt_s=dt_s, ours={PV: 100.0})
    assert out.value == pytest.approx(becomes)
    assert ("which it may hold" in out.reason) is (becomes != value)


@pytest.mark.parametrize(("bounds", "becomes"), [({"low": 150.0}, 150.0), ({"low": 50.0}, 107.0)])
def test_pv_limit_in_doubt_is_never_below_its_bounds(bounds: dict[str, float], becomes: float):
    layout, s = with_setpoint(PV, ramp_per_s=7.0), setpoint(PV, 300.0, protective=True, **bounds)
    assert sent(layout, s, stood(400.0), ours={PV: 100.0}).value == becomes
    higher = with_setpoint(PV, ramp_per_s=7.0, low=160.0)
    assert sent(higher, s, stood(400.0), ours={PV: 100.0}).value == 160.0


@pytest.mark.parametrize(
    ("point", "stands", "held", "value", "becomes"),
    [
        (PV, 210.0, 0.0, 280.0, 7.0),  # another master sent what we had sent once, or it was started anew
        (PV, 210.0, 0.0, 150.0, 7.0),  # down for us, and yet up for the device
        (PV, 210.0, 406.0, 280.0, 217.0),  # frozen, or deaf: what it tells loosens nothing
        (PV, 210.0, 406.0, 150.0, 150.0),
        (BESS, 60.0, 0.0, 100.0, 7.0),
        (BESS, -60.0, -20.0, -100.0, -27.0),
        (BESS, 60.0, 200.0, 100.0, 67.0),
        (BESS, 60.0, -30.0, 100.0, 7.0),
    ],
)
def test_ramp_counts_from_an_older_value_of_ours_that_a_device_still_holds(
    point: str, stands: float, held: float, value: float, becomes: float
):
    layout = with_setpoint(point, ramp_per_s=7.0)
    protective = point == PV and value < stands
    out = sent(layout, setpoint(point, value, protective=protective), stood(stands), held={point: held})
    assert out.value == pytest.approx(becomes)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("high", "due"), [(100.0, True), (100.4, True), (100.5, False), (110.0, False)])
def test_what_stands_outside_a_limit_that_narrowed_is_written_though_the_wish_is_as_near_as_the_deadband(
    known: bool, high: float, due: bool
):
    """Neither the deadband nor the wait of a write that is not confirmed holds it back."""
    layout = with_setpoint(BESS, deadband=1.0)
    s, last = setpoint(BESS, 99.9, high=high), stood(100.5, 99.5, known=known, tries=3)
    out = gate(layout, s, last, replace(gate_input(), now_s=100.0), 1)
    assert (out is not None) is due


@pytest.mark.parametrize(
    ("value", "bounds", "becomes"),
    [
        (100.6, {"high": 100.6}, 100.0),  # 101 would be outside
        (-100.6, {"low": -100.6}, -100.0),
        (100.6, {"high": 200.0}, 100.6),
        (-100.6, {"low": -200.0}, -100.6),
    ],
)
def test_register_rounds_to_the_inside_of_the_tighter_bound(
    value: float, bounds: dict[str, float], becomes: float
):
    layout = replace(LAYOUT, step_of={BESS: 1.0})
    assert sent(layout, setpoint(BESS, value, **bounds), None).value == becomes
    wide = replace(with_setpoint(BESS, **bounds), step_of={BESS: 1.0})
    assert sent(wide, setpoint(BESS, value, low=-900.0, high=900.0), None).value == becomes


def protective(value: float, cause: Cause = Cause.PLAN) -> Setpoint:
    return setpoint(BESS, value, cause=cause, protective=True, low=-50.0, high=100.0)


@pytest.mark.parametrize(
    ("value", "stands", "start"),
    [
        (40.0, -50.0, None),  # inside, its bounds included: free
        (-40.0, 100.0, None),
        (40.0, 0.0, None),
        (40.0, -51.0, -50.0),  # outside: to the bound at once, and from there
        (-20.0, -51.0, None),  # less than the bound is: free
        (-50.0, -51.0, None),
        (-50.5, -51.0, -50.0),
        (0.0, -51.0, None),
        (-0.01, -51.0, None),
        (-0.001, 101.0, 100.0),
        (100.0, 101.0, None),
        (99.0, 101.0, None),
        (0.01, 101.0, None),
    ],
)
def test_ramp_of_what_protects_starts_at_the_bound_it_left(value: float, stands: float, start: float | None):
    assert _ramp_start(protective(value), stood(stands)) == start
    assert _ramp_start(replace(protective(value), protective=False), stood(stands)) == stands


def test_ramp_of_what_protects_ends_at_nothing_where_the_bound_is_nothing():
    s = setpoint(BESS, 0.0, protective=True, low=0.0, high=100.0)
    assert _ramp_start(s, stood(-5.0)) is None
    assert _ramp_start(replace(s, value=5.0), stood(-5.0)) == 0.0


@pytest.mark.parametrize("stands", [-50.0, 80.0])
def test_ramp_of_what_protects_is_free_from_a_bound_itself(stands: float):
    """Across zero, too: only what stands outside is brought to its bound first."""
    s = setpoint(BESS, -0.5 * stands, protective=True, low=-50.0, high=80.0)
    assert _ramp_start(s, stood(stands)) is None
    assert _ramp_start(s, stood(1.1 * stands)) == stands


@pytest.mark.parametrize(
    ("ours", "held", "may"),
    [({PV: 30.0}, {PV: 20.0}, 20.0), ({PV: 20.0}, {PV: 30.0}, 20.0), ({}, {PV: 30.0}, 30.0), ({}, {}, None)],
)
def test_pv_limit_that_may_be_held_is_the_lower_of_what_was_sent_and_what_is_told(
    ours: dict[str, float], held: dict[str, float], may: float | None
):
    assert _may_hold(PV, replace(gate_input(), ours=ours, held=held)) == may


@pytest.mark.parametrize("cause", FREE)
@pytest.mark.parametrize("stands", [-400.0, 0.0, 400.0])
def test_ramp_holds_nothing_that_is_forced(cause: Cause, stands: float):
    assert _ramp_start(protective(40.0, cause), stood(stands)) is None


# ---- whether it is due -----------------------------------------------------------------------------------


def due(
    value: float, last: Written | None, s: Setpoint | None = None, *, now_s: float = 100.0, band: float = 2.0
) -> bool:
    return _due(value, s or setpoint(BESS, value), last, band, 5.0, gate_input(now_s=now_s))


def test_due_first_write_and_repetition_of_one_in_doubt():
    assert due(0.0, None)
    lost = stood(0.0, 98.0, known=False, tries=1)
    assert due(0.0, lost)
    assert not due(0.0, lost, now_s=99.9)
    assert not due(0.0, replace(lost, tries=2))
    for cause in Cause:
        assert due(0.0, lost, setpoint(BESS, 0.0, cause=cause), now_s=99.0) is (cause in FREE)


@pytest.mark.parametrize(
    ("value", "stands", "yes"),
    [(5.0, 5.0, False), (5.0, -5.0, True), (5.0, 4.5, True), (0.0, 0.0, False), (1e-9, 0.0, False)],
)
def test_due_safe_table_is_written_where_it_differs_and_never_again(value: float, stands: float, yes: bool):
    s = setpoint(BESS, value, cause=Cause.SAFE_TABLE)
    assert due(value, stood(stands, 0.0), s) is yes


@pytest.mark.parametrize(
    ("value", "yes"), [(100.0, False), (102.0, False), (102.001, True), (98.0, False), (97.9, True)]
)
def test_due_beyond_the_deadband(value: float, yes: bool):
    assert due(value, stood(100.0)) is yes


@pytest.mark.parametrize(("value", "yes"), [(100.0, False), (99.5, True), (99.99, True)])
def test_due_what_protects_knows_no_deadband(value: float, yes: bool):
    assert due(value, stood(100.0), setpoint(BESS, value, protective=True)) is yes


@pytest.mark.parametrize(("value", "stands", "yes"), [(1.0, 0.0, True), (0.0, 1.0, True), (1.0, 1.0, False)])
@pytest.mark.parametrize("protects", [True, False])
def test_due_a_switch_is_written_when_it_turns(value: float, stands: float, yes: bool, protects: bool):
    s = setpoint(FEEDER, value, protective=protects)
    assert due(value, stood(stands), s, band=30.0) is yes


@pytest.mark.parametrize(("now_s", "yes"), [(103.9, False), (104.0, True), (104.5, True)])
def test_due_again_for_the_watchdog_of_the_device(now_s: float, yes: bool):
    assert due(100.0, stood(100.0), now_s=now_s) is yes
    assert due(100.0, stood(100.0, 99.0 + 5e-7), now_s=now_s) is yes  # time is no finer than that
    assert due(100.0, stood(100.0, 0.0), now_s=5.0 - 1e-6)


# ---- what is forbidden -----------------------------------------------------------------------------------


def code(s: Setpoint, last: Written | None = None, layout: Layout = LAYOUT, **given: Any) -> str | None:
    return forbidden(layout, s, last, replace(gate_input(), **given))[0]


def test_forbidden_what_another_program_writes():
    assert code(setpoint(BESS, 1.0)) is None
    assert code(setpoint(BESS, 1.0), layout=with_setpoint(BESS, writer="scada")) == "not_authorised"
    assert code(replace(setpoint(BESS, 1.0), point="nobody.p_set_kw")) == "not_authorised"


@pytest.mark.parametrize("low", [-400.0, -600.0])
@pytest.mark.parametrize("high", [400.0, 600.0])
def test_forbidden_outside_of_its_own_bounds_or_the_site_files(low: float, high: float):
    least, most = max(low, -500.0), min(high, 500.0)
    for value in (least, 0.0, most):
        assert code(setpoint(BESS, value, low=low, high=high)) is None
    for value in (least - 1.0, most + 1.0):
        assert code(setpoint(BESS, value, low=low, high=high)) == "out_of_bounds"


@pytest.mark.parametrize("cause", Cause)
def test_forbidden_held_safe_but_for_the_safe_table_and_the_stop(cause: Cause):
    free = cause in (Cause.EMERGENCY_STOP, Cause.SAFE_TABLE)
    assert code(setpoint(BESS, 0.0, cause=cause), held_safe=True) == (None if free else "held_safe")


@pytest.mark.parametrize("cause", Cause)
def test_forbidden_to_a_device_that_does_not_answer_but_what_is_forced(cause: Cause):
    s = setpoint(BESS, 0.0, cause=cause)
    assert code(s, answering={"bess1": False}) == (None if cause in FREE else "device_offline")
    assert code(s, answering={}) == (None if cause in FREE else "device_offline")


@pytest.mark.parametrize(
    ("point", "value", "stands", "bad"),
    [
        (BESS, 90.0, 60.0, True),
        (BESS, 30.0, 60.0, False),
        (GENSET_KW, 90.0, 60.0, True),
        (FEEDER, 1.0, 0.0, True),
        (FEEDER, 1.0, 1.0, False),
        (PV, 90.0, 60.0, False),  # what a PV plant may give is no matter of the mode
        (GEN, 1.0, 0.0, False),  # a start is allowed where nobody knows what the grid does
    ],
)
def test_forbidden_in_an_unknown_mode_is_more_power_and_a_breaker(
    point: str, value: float, stands: float, bad: bool
):
    assert code(setpoint(point, value), stood(stands), mode=GridMode.UNKNOWN) == (
        "mode_wrong" if bad else None
    )
    for cause in FREE:
        assert code(setpoint(point, value, cause=cause), stood(stands), mode=GridMode.UNKNOWN) is None


@pytest.mark.parametrize(
    ("point", "value", "bad"),
    [(BESS, 0.001, True), (BESS, 0.0, False), (GENSET_KW, 90.0, False), (PV, 90.0, False), (GEN, 1.0, False)],
)
def test_forbidden_on_a_dead_bus_is_power_of_a_battery(point: str, value: float, bad: bool):
    assert code(setpoint(point, value), mode=GridMode.BLACK) == ("mode_wrong" if bad else None)
    odd = replace(LAYOUT, setpoints={**LAYOUT.setpoints, "bess1.q_set_kvar": LAYOUT.setpoints[BESS]})
    assert (
        code(replace(setpoint(BESS, 9.0), point="bess1.q_set_kvar"), layout=odd, mode=GridMode.BLACK) is None
    )


@pytest.mark.parametrize(
    ("value", "stands", "protects", "cause", "bad"),
    [
        (90.0, 60.0, False, Cause.PLAN, True),
        (90.0, None, False, Cause.PLAN, True),
        (60.0, 60.0, False, Cause.PLAN, False),
        (90.0, 60.0, True, Cause.PLAN, False),
        (90.0, 60.0, False, Cause.PROTECTION, False),
    ],
)
def test_forbidden_on_bad_readings_is_anything_new(
    value: float, stands: float | None, protects: bool, cause: Cause, bad: bool
):
    s, last = setpoint(BESS, value, cause=cause, protective=protects), stands
    known = None if last is None else stood(last)
    for fresh in ({"bess1": False}, {}):
        assert code(s, known, fresh=fresh) == ("stale_input" if bad else None)


@pytest.mark.parametrize(
    ("point", "cause", "value", "stands", "lets"),
    [
        (PV, Cause.PROTECTION, 101.0, 100.0, True),
        (PV, Cause.PROTECTION, 100.0, 100.0, False),
        (PV, Cause.PROTECTION, 101.0, None, False),
        (PV, Cause.PLAN, 101.0, 100.0, False),
        (PV, Cause.SAFE_TABLE, 101.0, 100.0, False),
        (BESS, Cause.PROTECTION, 101.0, 100.0, False),
    ],
)
def test_lets_pv_go_is_a_protection_that_raises_a_limit_of_pv(
    point: str, cause: Cause, value: float, stands: float | None, lets: bool
):
    last = None if stands is None else stood(stands)
    assert _lets_pv_go(setpoint(point, value, cause=cause), last) is lets


@pytest.mark.parametrize(
    ("point", "value", "stands", "eases"),
    [
        (BESS, 0.0, None, True),
        (BESS, 1.0, None, False),
        (BESS, 50.0, 50.0, True),
        (BESS, 50.1, 50.0, False),
        (BESS, 0.5, 0.5, True),
        (BESS, -10.0, -50.0, True),
        (BESS, -10.0, 50.0, False),  # less, but the other way
        (BESS, 0.0, 50.0, True),
        (BESS, 0.5, 0.0, False),
        (FEEDER, 0.0, None, False),
        (FEEDER, 1.0, 0.51, True),
        (FEEDER, 1.0, 0.5, False),
        (FEEDER, 0.0, 0.5, False),
    ],
)
def test_eases_is_the_same_again_or_less(point: str, value: float, stands: float | None, eases: bool):
    assert _eases(setpoint(point, value), None if stands is None else stood(stands)) is eases


# ---- what comes out --------------------------------------------------------------------------------------


def test_gate_spent_budget_is_refused_by_that_name_with_the_value_that_waits():
    out = gate(LAYOUT, setpoint(BESS, 20.0), stood(50.0), replace(gate_input(), spent=frozenset({BESS})), 1)
    assert isinstance(out, Refusal)
    assert (out.point, out.value, out.cause, out.code) == (BESS, 20.0, Cause.PLAN, "budget_spent")


def test_gate_battery_that_forms_takes_no_power_but_the_rest():
    s = setpoint(BESS, 5.0)
    given = replace(gate_input(), forming=frozenset({"bess1"}))
    assert gate(LAYOUT, s, None, given, 1) is None
    assert gate(LAYOUT, s, None, replace(given, forming=frozenset({"bess2"})), 1) is not None
    odd = replace(LAYOUT, setpoints={**LAYOUT.setpoints, "bess1.q_set_kvar": LAYOUT.setpoints[BESS]})
    assert isinstance(gate(odd, replace(s, point="bess1.q_set_kvar"), None, given, 1), Command)


def test_gate_command_carries_what_was_asked_and_what_it_hangs_on():
    s = replace(
        setpoint(GEN, 1.0, cause=Cause.OPERATOR, protective=True), plan_id="p", request_id="r1", owner="ann"
    )
    c = sent(LAYOUT, s, None, state_hash={"gen1": "abc"}, epoch=7)
    assert (c.point, c.value, c.cause, c.owner, c.plan_id) == (GEN, 1.0, Cause.OPERATOR, "ann", "p")
    assert (c.epoch, c.seq, c.request_id, c.state_hash, c.protective) == (7, 1, "r1", "abc", True)
    assert (c.limits_hash, c.decided_s) == ("h", 100.0)
    power = sent(LAYOUT, setpoint(GENSET_KW, 10.0), None, state_hash={"gen1": "abc"})
    assert (power.state_hash, power.protective) == ("", False)  # only a switch hangs on the state


@pytest.mark.parametrize(
    ("name", "value", "carried"),
    [
        ("close_permit", 1.0, "abc"),
        ("close_permit", 0.0, ""),
        ("open_request", 1.0, "abc"),
        ("open_request", 0.0, "abc"),
    ],
)
def test_gate_command_to_the_poi_breaker_hangs_on_the_state(name: str, value: float, carried: str):
    """But a permit that is taken back: that waits for nothing."""
    layout = layout_of(with_breaker(builders.site()))
    s = replace(setpoint(GEN, value), point=f"grid1.{name}")
    c = sent(layout, s, None, state_hash={"grid1": "abc"})
    assert c.state_hash == carried


@pytest.mark.parametrize(
    ("cause", "value", "stands", "protective", "refused"),
    [
        (Cause.PLAN, 100.0, 300.0, False, True),
        (Cause.RULES, 100.0, 300.0, False, True),
        (Cause.PLAN, 300.0, 100.0, False, False),  # it comes up again
        (Cause.REFRESH, 600.0, 100.0, False, False),
        (Cause.PROTECTION, 100.0, 300.0, True, False),
        (Cause.OPERATOR, 100.0, 300.0, True, False),
        (Cause.PLAN, 100.0, None, False, False),
    ],
)
def test_budget_half_spent_lets_no_wish_lower_a_pv_limit(
    cause: Cause, value: float, stands: float | None, protective: bool, refused: bool
):
    """Else a limit that follows the load spends it all, and what is left of the sun that day is lost."""
    s = setpoint(PV, value, cause=cause, protective=protective, low=0.0, high=600.0)
    given = replace(gate_input(), half_spent=frozenset({PV}))
    out = gate(LAYOUT, s, None if stands is None else stood(stands), given, 1)
    assert isinstance(out, Refusal) is refused
    if isinstance(out, Refusal):
        assert out.code == "budget_spent"
    bess = gate(
        LAYOUT, setpoint(BESS, 30.0), stood(50.0, 0.0), replace(given, half_spent=frozenset({BESS})), 1
    )
    assert isinstance(bess, Command)


@pytest.mark.parametrize(
    ("value", "stands", "high", "becomes"),
    [
        (299.9, 300.0, 600.0, 300.0),
        (100.0, 300.0, 600.0, 300.0),
        (100.0, 300.0, 250.0, 250.0),  # inside what holds now
    ],
)
def test_budget_half_spent_feeds_the_watchdog_with_what_stands(
    value: float, stands: float, high: float, becomes: float
):
    """The wish is withheld, and the refresh is not: a device that hears nothing would drop its limit."""
    s = setpoint(PV, value, cause=Cause.PLAN, low=0.0, high=high)
    given = replace(gate_input(), half_spent=frozenset({PV}))
    out = gate(LAYOUT, s, stood(stands, 0.0), given, 1)
    assert isinstance(out, Command)
    assert out.value == becomes
    assert "half of today's writes" in out.reason
    unsaid = replace(stood(stands, 0.0), known=False)  # a write that was not confirmed is repeated
    again = gate(LAYOUT, s, unsaid, given, 1)
    assert isinstance(again, Command)
    assert again.value == becomes
    all_spent = gate(LAYOUT, s, stood(stands, 0.0), replace(given, spent=frozenset({PV})), 1)
    assert isinstance(all_spent, Refusal)


@pytest.mark.parametrize(("value", "becomes"), [(100.0, 100.0), (400.0, 307.0)])
def test_ramp_of_a_wish_for_less_pv_is_free(value: float, becomes: float):
    s = setpoint(PV, value, cause=Cause.PLAN, low=0.0, high=600.0)
    assert sent(with_setpoint(PV, ramp_per_s=7.0), s, stood(300.0, 0.0)).value == becomes


@pytest.mark.parametrize(("value", "due"), [(299.7, False), (299.3, True)])
def test_wish_for_less_pv_waits_for_the_deadband(value: float, due: bool):
    s = setpoint(PV, value, cause=Cause.PLAN, low=0.0, high=600.0)
    out = gate(LAYOUT, s, stood(300.0), gate_input(), 1)
    assert isinstance(out, Command) is due
