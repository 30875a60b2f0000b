"""Layers of authority, each by itself: what bounds a setpoint, what protects, what is looked up."""

import math
from dataclasses import replace
from typing import Any

import pytest

from dispatch.authority.interlocks import effects_of, tripped
from dispatch.authority.layers import (
    Limits,
    _protective,
    _setpoint,
    _transfer,
    intersect,
    layers_of,
    limits_hash,
    live_bound,
    resolve,
    static_bound,
)
from dispatch.authority.layout import control_layout
from dispatch.authority.modes import INPUT_HOLD_S
from dispatch.authority.state import InputSeen, Loosened
from dispatch.layout import Layout
from dispatch.state import Written
from ems.commands import Bound, Cause, Proposal
from ems.control_site import Contact, ControlParams, Interlock, InterlockEffect, LimitKind, UtilityLimit
from tests.builders import bess, site
from tests.unit.dispatch.test_authority_gate import LAYOUT, NOW, condition
from tests.unit.dispatch.test_last_line import RULING

BESS, PV, GEN, FEEDER = "bess1.p_set_kw", "pv1.p_limit_kw", "gen1.run_request", "essential.close_request"
GENSET_KW = "gen1.p_set_kw"
STRICT = (Cause.SAFE_TABLE, Cause.EMERGENCY_STOP)


def bound(low: float, high: float, layer: str = "x", point: str = BESS) -> Bound:
    return Bound(point=point, low=low, high=high, layer=layer, reason=f"because of {layer}")


def wish(point: str = BESS, value: float = 10.0, cause: Cause = Cause.PLAN) -> Proposal:
    return Proposal(point=point, value=value, cause=cause, reason="a wish", owner="o", plan_id="p")


def stood(value: float) -> Written:
    return Written(value=value, at_s=0.0, known=True)


# ---- bounds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bounds", "low", "high", "binding"),
    [
        ([bound(-5.0, 5.0, "a"), bound(-9.0, 9.0, "b")], -5.0, 5.0, "a"),
        ([bound(-5.0, 5.0, "a"), bound(-2.0, 9.0, "b")], -2.0, 5.0, "a+b"),
        ([bound(-5.0, 5.0, "a"), bound(-9.0, 2.0, "b")], -5.0, 2.0, "a+b"),
        ([bound(-5.0, 5.0, "a"), bound(7.0, 9.0, "b")], 5.0, 5.0, "a+b"),  # what the stronger allows nearest
        ([bound(-5.0, 5.0, "a"), bound(-9.0, -7.0, "b")], -5.0, -5.0, "a+b"),
        ([bound(3.0, 3.0, "a"), bound(-9.0, 9.0, "b")], 3.0, 3.0, "a"),  # a point is no empty bound
        ([bound(2.0, 5.0, "a"), bound(4.0, 3.0, "b")], 2.0, 2.0, "a+b"),  # an empty one: nearest to zero
        ([bound(2.0, 5.0, "a"), bound(-math.inf, 4.0, "b")], 2.0, 2.0, "a+b"),
        ([bound(2.0, 5.0, "a"), bound(3.0, math.inf, "b")], 2.0, 2.0, "a+b"),
        ([bound(-5.0, -2.0, "a"), bound(math.nan, 0.0, "b")], -2.0, -2.0, "a+b"),
        ([bound(4.0, 3.0, "a")], 0.0, 0.0, "a"),
    ],
)
def test_intersect_strongest_first(bounds: list[Bound], low: float, high: float, binding: str):
    limits = intersect(bounds)
    assert (limits.low, limits.high, limits.binding, limits.layers) == (low, high, binding, tuple(bounds))


def live(point: str, layout: Layout = LAYOUT, **changes: Any) -> tuple[float, float, str] | None:
    b = live_bound(layout, condition(**({"available": True} | changes)), point)
    assert b is None or b.point == point
    return None if b is None else (b.low, b.high, b.layer)


def test_live_bound_of_each_kind_of_setpoint():
    assert live(BESS) == (-300.0, 250.0, "bms")
    assert live(BESS, charge=-4.0, discharge=-5.0) == (0.0, 0.0, "bms")
    assert live(BESS, charge=0.5, discharge=0.25) == (-0.5, 0.25, "bms")
    assert live(BESS, available=False) == (0.0, 0.0, "bms")
    assert live(GENSET_KW) == (0.0, 400.0, "rating")
    assert live("gen2.p_set_kw") == (0.0, 200.0, "rating")
    assert live(PV) == (0.0, 600.0, "rating")
    for point in (GEN, FEEDER):
        assert live(point) == (0.0, 1.0, "binary")
    for point in (
        "bess1.q_set_kvar",
        "gen1.p_limit_kw",
        "pv1.p_set_kw",
        "essential.p_set_kw",
        "nobody.p_set_kw",
    ):
        assert live(point) is None


@pytest.mark.parametrize(
    ("told_kw", "bound"),
    [
        (None, (400.0, "rating")),
        (400.5, (400.0, "rating")),
        (400.0, (400.0, "derating")),
        (250.0, (250.0, "derating")),
        (0.0, (0.0, "derating")),
    ],
)
def test_live_limit_of_a_genset_bounds_it_up_to_its_rating(told_kw: float | None, bound: tuple[float, str]):
    c = condition(available=True)
    sets = {**c.gensets, "gen1": replace(c.gensets["gen1"], p_kw_max=told_kw)}
    b = live_bound(LAYOUT, replace(c, gensets=sets), GENSET_KW)
    assert b is not None
    assert (b.point, b.low, b.high, b.layer) == (GENSET_KW, 0.0, *bound)


def test_static_bound_is_the_site_files():
    assert static_bound(LAYOUT, BESS) == Bound(
        point=BESS, low=-500.0, high=500.0, layer="authority", reason="the site file's authority"
    )
    assert static_bound(LAYOUT, "nobody.p_set_kw") is None


def test_layers_stand_in_the_order_of_their_strength():
    ruling = replace(
        RULING, strong={BESS: [bound(-1.0, 1.0, "strong")]}, weak={BESS: [bound(-2.0, 2.0, "weak")]}
    )
    bounds = {BESS: [bound(-3.0, 3.0, "poi")]}
    names = [b.layer for b in layers_of(LAYOUT, condition(True), BESS, bounds, ruling)]
    assert names == ["bms", "strong", "authority", "poi", "weak"]
    assert [b.layer for b in layers_of(LAYOUT, condition(True), BESS, bounds)] == ["bms", "authority", "poi"]
    assert [b.layer for b in layers_of(LAYOUT, condition(True), "nobody.q", {}, ruling)] == []


def test_layers_of_the_device_are_those_that_were_read_before_authority_narrowed_them():
    ruling = replace(RULING, as_read=condition(True, 30.0, 20.0))
    first = layers_of(LAYOUT, condition(True, 3.0, 2.0), BESS, {}, ruling)[0]
    assert (first.low, first.high) == (-30.0, 20.0)
    first = layers_of(LAYOUT, condition(True, 3.0, 2.0), BESS, {}, RULING)[0]
    assert (first.low, first.high) == (-3.0, 2.0)


def test_limits_hash_changes_with_any_layer_and_not_with_its_reason():
    one = Limits(low=0.0, high=1.0, binding="a", layers=(bound(0.0, 1.0, "a"),))
    assert len(limits_hash(one)) == 12
    assert limits_hash(one) == limits_hash(
        replace(one, layers=(replace(one.layers[0], reason="other"),), binding="")
    )
    for other in (bound(0.0, 2.0, "a"), bound(-1.0, 1.0, "a"), bound(0.0, 1.0, "b")):
        assert limits_hash(replace(one, layers=(other,))) != limits_hash(one)
    assert limits_hash(replace(one, layers=(*one.layers, *one.layers))) != limits_hash(one)


# ---- one setpoint ----------------------------------------------------------------------------------------


def test_resolve_of_two_in_one_rank_the_first_counts():
    (s,), _ = resolve(LAYOUT, condition(True), [wish(value=1.0), wish(value=2.0)], {}, {}, NOW)
    assert s.value == 1.0


def test_resolve_limits_of_a_transfer_are_in_no_hash():
    """A setpoint on its way from hand to hand is bound by the same layers: nothing is decided anew."""
    ruling = replace(RULING, step={BESS: 5.0})
    for known, value in ((stood(100.0), 95.0), (None, 10.0)):
        written = {} if known is None else {BESS: known}
        (s,), _ = resolve(LAYOUT, condition(True), [wish()], {}, written, NOW, ruling)
        assert s.value == value
        assert s.limits_hash == limits_hash(intersect(layers_of(LAYOUT, condition(True), BESS, {}, ruling)))


@pytest.mark.parametrize(
    ("point", "value", "cause", "stands", "span"),
    [
        (BESS, 90.0, Cause.PLAN, 40.0, (35.0, 45.0)),
        (BESS, 90.0, Cause.OPERATOR, 40.0, (35.0, 45.0)),
        (BESS, 90.0, Cause.PLAN, None, None),
        (BESS, 90.0, Cause.PROTECTION, 40.0, None),  # what protects is free of it
        (BESS, 90.0, Cause.SAFE_TABLE, 40.0, None),
        (PV, 90.0, Cause.PLAN, 40.0, (35.0, 45.0)),
        (PV, 10.0, Cause.PLAN, 40.0, (10.0, 45.0)),  # less PV is never held back
        (PV, 90.0, Cause.PROTECTION, 40.0, (35.0, 45.0)),  # to raise it protects nothing
        (PV, 90.0, Cause.PROTECTION, None, None),
        (GENSET_KW, 90.0, Cause.PLAN, 40.0, None),  # it does not change hands
    ],
)
def test_transfer_moves_by_steps(
    point: str, value: float, cause: Cause, stands: float | None, span: tuple[float, float] | None
):
    last = None if stands is None else stood(stands)
    ruling = replace(RULING, step={BESS: 5.0, PV: 5.0})
    got = [(b.low, b.high) for b in _transfer(ruling, wish(point, value, cause), last)]
    assert got == ([] if span is None else [span])
    assert _transfer(None, wish(point, value, cause), last) == []


@pytest.mark.parametrize(
    ("value", "limited", "says"),
    [(10.0, 10.0, False), (30.0, 20.0, True), (20.5, 20.0, True), (-30.0, -20.0, True), (20.0, 20.0, False)],
)
def test_setpoint_says_what_limited_it(value: float, limited: float, says: bool):
    s = _setpoint(wish(value=value), Limits(low=-20.0, high=20.0, binding="bms"), None, "id")
    assert (s.value, s.low, s.high, s.limits_hash) == (limited, -20.0, 20.0, "id")
    assert (f"limited to {limited:.1f} by bms" in s.reason) is says
    assert (s.owner, s.plan_id, s.cause) == ("o", "p", Cause.PLAN)


def test_setpoint_says_nothing_of_what_no_register_holds():
    none = Limits(low=0.0, high=0.0, binding="bms")
    assert _setpoint(wish(value=1e-6), none, None, "id").reason == "a wish"
    assert "limited to 0.0" in _setpoint(wish(value=2e-6), none, None, "id").reason


def test_setpoint_under_an_interlock_says_so_and_no_other():
    ruling = replace(RULING, strong={BESS: [bound(-50.0, 50.0, "door")]})
    wishes = [wish(), wish(PV, 5.0)]
    got, _ = resolve(LAYOUT, condition(True), wishes, {}, {}, NOW, ruling)
    assert [s.reason for s in got] == ["a wish; because of door", "a wish"]


WIDE = Limits(low=-100.0, high=100.0, binding="")


@pytest.mark.parametrize(
    ("point", "value", "stands", "protects"),
    [
        (BESS, 30.0, 50.0, True),  # less of the same
        (BESS, 0.0, 50.0, True),
        (BESS, 50.0, 50.0, False),
        (BESS, 60.0, 50.0, False),
        (BESS, -30.0, 50.0, False),  # less, but the other way
        (BESS, -30.0, -50.0, True),
        (BESS, -0.01, -0.02, True),
        (BESS, 0.0, 0.0, False),
        (BESS, 10.0, 0.0, False),
        (BESS, 10.0, None, False),
        (BESS, 100.0, 100.0, False),  # on the bound is inside
        (BESS, -100.0, -100.0, False),
        (BESS, 100.0, 100.1, True),
        (BESS, 90.0, -100.1, True),  # what stood outside comes back
        (PV, 30.0, 50.0, True),
        (PV, 50.0, 50.0, False),
        (PV, 60.0, 50.0, False),
        (PV, 60.0, None, True),  # nobody knows where it stands
        (PV, 90.0, 300.0, True),
        (FEEDER, 0.0, 1.0, False),
        (FEEDER, 1.0, 0.0, False),
        (GEN, 0.0, 1.0, False),
        (GEN, 1.0, None, False),
        (GENSET_KW, 30.0, 50.0, True),
    ],
)
def test_protective_is_less_than_before_in_the_direction_that_can_do_harm(
    point: str, value: float, stands: float | None, protects: bool
):
    last = None if stands is None else stood(stands)
    for cause in (Cause.OPERATOR, Cause.REFRESH, *(() if point == PV else (Cause.PLAN, Cause.RULES))):
        assert _protective(wish(point, value, cause), value, last, WIDE) is protects
    for cause in STRICT:
        assert _protective(wish(point, value, cause), value, last, WIDE) is True
    by_protection = _protective(wish(point, value, Cause.PROTECTION), value, last, WIDE)
    assert by_protection is (protects if point == PV else True)


@pytest.mark.parametrize("cause", [Cause.PLAN, Cause.RULES])
@pytest.mark.parametrize(
    ("value", "stands", "protects"),
    [
        (30.0, 50.0, False),  # a wish inside the limits: it has time
        (60.0, 50.0, False),
        (30.0, 100.0, False),  # on the bound is inside
        (30.0, 100.1, True),
        (30.0, None, True),
    ],
)
def test_protective_is_no_wish_for_less_pv_inside_its_limits(
    cause: Cause, value: float, stands: float | None, protects: bool
):
    last = None if stands is None else stood(stands)
    assert _protective(wish(PV, value, cause), value, last, WIDE) is protects


# ---- interlocks ------------------------------------------------------------------------------------------

DOOR = Interlock(
    id="door", point="bus.contact_1", low=0.5, high=None, cause="the door is open",
    effects=(
        InterlockEffect(point=BESS, low=-20.0, high=20.0), InterlockEffect(point=GEN, low=None, high=None),
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "value", "yes"),
    [
        (0.5, None, 0.4, True),
        (0.5, None, 0.5, False),
        (0.5, None, 9.0, False),
        (None, 40.0, 40.0, False),
        (None, 40.0, 40.1, True),
        (None, 40.0, -9.0, False),
        (10.0, 40.0, 9.0, True),
        (10.0, 40.0, 41.0, True),
        (10.0, 40.0, 20.0, False),
    ],
)
def test_interlock_trips_below_its_low_and_above_its_high(
    low: float | None, high: float | None, value: float, yes: bool
):
    lock = replace(DOOR, low=low, high=high)
    seen = {DOOR.point: InputSeen(value=value, good_s=100.0, changed_s=0.0)}
    assert tripped(lock, seen, 100.0) is yes
    assert tripped(lock, seen, 100.0 + INPUT_HOLD_S) is yes  # so long the last position counts
    assert tripped(lock, seen, 100.1 + INPUT_HOLD_S) is True
    assert tripped(lock, {}, 100.0) is True


@pytest.mark.parametrize(
    ("low", "high", "blocks"),
    [(-20.0, 20.0, False), (None, None, True), (-20.0, None, True), (None, 20.0, True)],
)
def test_interlock_blocks_where_a_bound_is_missing(low: float | None, high: float | None, blocks: bool):
    lock = replace(DOOR, effects=(InterlockEffect(point=BESS, low=low, high=high),))
    control = control_layout(replace(site(), control=ControlParams(interlocks=(lock,))))
    why = "interlock door: the door is open"
    for states in ({"door": True}, {}):  # of which nothing is known, it is tripped
        blocked, bounds = effects_of(control, states, {})
        assert blocked == ({BESS: why} if blocks else {})
        made = Bound(point=BESS, low=-20.0, high=20.0, layer="interlock", reason=why)
        assert bounds == ({} if blocks else {BESS: [made]})
    assert effects_of(control, {"door": False}, {}) == ({}, {})
    loose = Loosened(value=None, user="ann", second=None, reason="r", until_s=9.0)
    assert effects_of(control, {"door": True}, {"interlock.door": loose}) == ({}, {})
    assert effects_of(control, {"door": True}, {"door": loose}) != ({}, {})


# ---- what authority looks up -----------------------------------------------------------------------------


def test_layout_watches_each_input_once_and_names_the_caps_that_no_entry_has():
    limits = (
        UtilityLimit(
            id="dso", kind=LimitKind.IMPORT, watchdog_s=9.0, on_loss_kw=None, point="grid1.p_import_kw_max",
            heartbeat="bus.beat",
        ),
        UtilityLimit(
            id="rcr", kind=LimitKind.PV, watchdog_s=9.0, on_loss_kw=None,
            contacts=(Contact(point="bus.k1", cap_kw=0.0), Contact(point="bus.k2", cap_kw=9.0)),
        ),
    )  # fmt: skip
    control = control_layout(replace(site(), control=ControlParams(interlocks=(DOOR, DOOR), limits=limits)))
    assert control.caps == {LimitKind.EXPORT: "grid1.p_export_kw_max"}
    for point in ("bus.remote", "bus.emergency_stop", "bess1.remote", "bus.contact_1", "bus.beat", "bus.k1"):
        assert control.inputs.count(point) == 1
    assert {"bus.k2", "grid1.p_import_kw_max", "grid1.p_export_kw_max"} <= set(control.inputs)
    assert None not in control.inputs
    assert control.mapped == frozenset()


def test_layout_has_the_devices_that_the_edge_may_write_each_with_its_selector():
    plant = site()
    setpoints = {**plant.authority.setpoints}
    setpoints["grid1.p_set_kw"] = replace(setpoints[BESS], point="grid1.p_set_kw")
    setpoints[GENSET_KW] = replace(setpoints[GENSET_KW], writer="scada")
    setpoints[PV] = replace(setpoints[PV], writer="scada")
    control = control_layout(replace(plant, authority=replace(plant.authority, setpoints=setpoints)))
    assert control.points_of["gen1"] == (GEN,)
    assert control.points_of["gen2"] == ("gen2.p_set_kw", "gen2.run_request")
    assert "pv1" not in control.points_of
    assert control.points_of["grid1"] == ("grid1.p_set_kw",)
    assert "grid1" not in control.selectors  # the mains have none
    assert control.selectors["gen1"] == "gen1.remote"
    assert control.shares[LimitKind.PV] == {}  # nobody shares what is not the edge's to write


def test_layout_shares_a_cap_by_rating():
    plant = site()
    half = replace(bess(p_charge_kw_max=100.0, p_discharge_kw_max=300.0), id="bess2")
    setpoints = {**plant.authority.setpoints}
    setpoints["bess2.p_set_kw"] = replace(setpoints[BESS], point="bess2.p_set_kw")
    two = replace(plant, bess=(*plant.bess, half), authority=replace(plant.authority, setpoints=setpoints))
    control = control_layout(two)
    assert control.shares[LimitKind.BESS_CHARGE] == {BESS: 500.0 / 600.0, "bess2.p_set_kw": 100.0 / 600.0}
    assert control.shares[LimitKind.BESS_DISCHARGE] == {BESS: 0.625, "bess2.p_set_kw": 0.375}
    assert control.shares[LimitKind.PV] == {PV: 1.0}
    assert control.ratings_kw == {
        LimitKind.IMPORT: 350.0, LimitKind.EXPORT: 0.0, LimitKind.PV: 600.0, LimitKind.BESS_CHARGE: 600.0,
        LimitKind.BESS_DISCHARGE: 800.0,
    }  # fmt: skip
    small = replace(plant, bess=(replace(half, id="bess1"),), pv=())
    assert control_layout(small).shares[LimitKind.PV] == {}
    none = replace(plant, bess=(bess(p_charge_kw_max=0.0),))
    assert control_layout(none).shares[LimitKind.BESS_CHARGE] == {}  # nothing to share
    tiny = replace(plant, bess=(bess(p_charge_kw_max=0.5),))
    assert control_layout(tiny).shares[LimitKind.BESS_CHARGE] == {BESS: 1.0}


@pytest.mark.parametrize(
    ("subject", "known"),
    [
        ("door", True),
        ("interlock.door", True),
        ("dso", True),
        ("interlock.dso", False),
        ("import", True),
        (f"{BESS}.high", True),
        (f"{BESS}.low", True),
        (f"{BESS}.side", False),
        ("nobody.p_set_kw.low", False),
        (BESS, False),
        ("", False),
    ],
)
def test_layout_knows_what_authority_may_name(subject: str, known: bool):
    dso = UtilityLimit(id="dso", kind=LimitKind.PV, watchdog_s=9.0, on_loss_kw=None)
    control = control_layout(replace(site(), control=ControlParams(interlocks=(DOOR,), limits=(dso,))))
    assert control.known(subject) is known
