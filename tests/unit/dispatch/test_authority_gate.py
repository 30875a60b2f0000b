"""Properties of authority and gate with everything hostile on their inputs."""

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.authority.layers import RANK, intersect, resolve
from dispatch.layout import Layout, layout_of
from dispatch.state import Written
from dispatch.writing.gate import GateInput, gate
from ems.commands import Bound, Cause, Command, Proposal, Refusal, Setpoint
from ems.condition import BessCondition, GensetCondition, PlantCondition
from ems.site import GridMode
from tests.builders import site

SITE = site()
LAYOUT = layout_of(SITE)
NOW = datetime(2026, 3, 2, tzinfo=UTC)
POINTS = (*sorted(LAYOUT.setpoints), "gen1.state", "nobody.p_set_kw", "", "bess1.p_set_kw ")

anything = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -1e308, 0.0, -0.0, 1.0, 500.0, 500.0001]),
)
limit = st.one_of(st.floats(min_value=0.0, max_value=2000.0), st.just(0.0))
proposals = st.builds(
    Proposal,
    point=st.sampled_from(POINTS),
    value=anything,
    cause=st.sampled_from(Cause),
    reason=st.just("because"),
    owner=st.just("test"),
)
bounds = st.builds(
    Bound, point=st.just("x"), low=anything, high=anything, layer=st.just("layer"), reason=st.just("")
)
writtens = st.one_of(
    st.none(),
    st.builds(
        Written, value=st.floats(-1e6, 1e6), at_s=st.floats(0.0, 1e6), known=st.booleans()
    ),
)  # fmt: skip


def condition(available: bool, charge: float = 300.0, discharge: float = 250.0) -> PlantCondition:
    genset = GensetCondition(
        available=available, on_load=False, starting=False, ready_in_s=0.0, age_s=0.0, p_kw=0.0,
        fuel_l=None, starts_today=0,
    )  # fmt: skip
    return PlantCondition(
        at=NOW,
        grid_mode=GridMode.GRID_TIED,
        forming="grid1",
        bess={
            "bess1": BessCondition(
                available=available, soc=0.5, p_kw=0.0, p_charge_kw_max=charge, p_discharge_kw_max=discharge
            )
        },
        gensets={"gen1": genset, "gen2": genset},
        pv_kw={"pv1": 0.0},
        feeder_kw={},
        feeder_closed={},
        grid_p_kw=0.0,
        peak_import_kw=0.0,
        interval_import_kwh=0.0,
        interval_elapsed_s=0.0,
    )


def gate_input(
    mode: GridMode = GridMode.GRID_TIED,
    *,
    fresh: bool = True,
    answering: bool = True,
    held_safe: bool = False,
    forming: bool = False,
    now_s: float = 100.0,
    dt_s: float = 1.0,
) -> GateInput:
    assets = SITE.asset_kinds()
    return GateInput(
        mode=mode,
        forming=frozenset({"bess1"}) if forming else frozenset(),
        fresh=dict.fromkeys(assets, fresh),
        answering=dict.fromkeys(assets, answering),
        held_safe=held_safe,
        epoch=1,
        now=NOW,
        now_s=now_s,
        dt_s=dt_s,
    )


def setpoint(point: str, value: float, **changes: object) -> Setpoint:
    a = LAYOUT.setpoints[point]
    given = {"cause": Cause.PLAN, "low": a.low, "high": a.high, "protective": False} | changes
    return Setpoint(point=point, value=value, reason="r", owner="o", plan_id=None, limits_hash="h", **given)  # type: ignore[arg-type]


@settings(max_examples=400, deadline=None)
@given(st.lists(bounds, min_size=1, max_size=6))
def test_intersect_any_bounds_gives_finite_interval_inside_the_strongest(given_bounds):
    limits = intersect(given_bounds)
    first = given_bounds[0]
    assert math.isfinite(limits.low)
    assert math.isfinite(limits.high)
    assert limits.low <= limits.high
    if math.isfinite(first.low) and math.isfinite(first.high) and first.low <= first.high:
        assert first.low <= limits.low
        assert limits.high <= first.high


@settings(max_examples=300, deadline=None)
@given(st.lists(bounds, min_size=1, max_size=6), bounds)
def test_intersect_another_layer_never_widens(given_bounds, extra):
    before, after = intersect(given_bounds), intersect([*given_bounds, extra])
    assert before.low <= after.low
    assert after.high <= before.high


@settings(max_examples=600, deadline=None)
@given(
    st.lists(proposals, max_size=6),
    bounds,
    st.booleans(),
    limit,
    limit,
    st.sampled_from(GridMode),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    writtens,
    st.floats(min_value=0.1, max_value=900.0),
)
def test_gate_hostile_inputs_only_finite_whitelisted_commands_in_bounds(
    wishes, bound, available, charge, discharge, mode, fresh, answering, held, last, dt_s
):
    c = condition(available, charge, discharge)
    known = {} if last is None else dict.fromkeys(LAYOUT.setpoints, last)
    setpoints, refused = resolve(LAYOUT, c, wishes, {"bess1.p_set_kw": [bound]}, known, NOW)
    given_ = gate_input(mode, fresh=fresh, answering=answering, held_safe=held, now_s=1e6, dt_s=dt_s)
    assert {r.code for r in refused} <= {"not_authorised", "not_finite"}
    for s in setpoints:
        out = gate(LAYOUT, s, known.get(s.point), given_, 1)
        if isinstance(out, Command):
            a = LAYOUT.setpoints[out.point]
            assert math.isfinite(out.value)
            assert a.low <= out.value <= a.high
            assert s.low <= out.value <= s.high
            if out.point == "bess1.p_set_kw":
                low, high = (-charge, discharge) if available else (0.0, 0.0)
                assert low - 1e-9 <= out.value <= high + 1e-9
            if held:
                assert out.cause in (Cause.EMERGENCY_STOP, Cause.SAFE_TABLE)


@settings(max_examples=300, deadline=None)
@given(anything, anything, anything, st.sampled_from(sorted(LAYOUT.setpoints)), st.sampled_from(Cause))
def test_gate_setpoint_that_skipped_authority_is_still_held(value, low, high, point, cause):
    s = setpoint(point, value, low=low, high=high, cause=cause)
    out = gate(LAYOUT, s, None, gate_input(), 1)
    if isinstance(out, Command):
        a = LAYOUT.setpoints[point]
        assert math.isfinite(out.value)
        assert a.low <= out.value <= a.high
        assert low <= out.value <= high
    elif not (math.isfinite(value) and low <= value <= high):
        assert isinstance(out, Refusal)


def proposal(cause: Cause, value: float) -> Proposal:
    return Proposal(point="bess1.p_set_kw", value=value, cause=cause, reason=cause.value, owner="o")


def test_resolve_causes_rank_safe_table_protection_operator_plan_rules():
    people = [Cause.OPERATOR, Cause.PLAN, Cause.RULES, Cause.REFRESH]
    order = [Cause.EMERGENCY_STOP, Cause.SAFE_TABLE, Cause.PROTECTION, *people]
    assert sorted(Cause, key=RANK.__getitem__) == order
    wishes = [proposal(c, float(i)) for i, c in enumerate(reversed(order))]
    for strongest in order:
        (s,), _ = resolve(LAYOUT, condition(True), wishes, {}, {}, NOW)
        assert s.cause is strongest
        wishes = [w for w in wishes if w.cause is not strongest]


def test_resolve_bad_wish_leaves_the_next_in_rank():
    wishes = [proposal(Cause.OPERATOR, math.nan), proposal(Cause.PLAN, 40.0)]
    (s,), (refusal,) = resolve(LAYOUT, condition(True), wishes, {}, {}, NOW)
    assert (s.value, s.cause) == (40.0, Cause.PLAN)
    assert refusal.code == "not_finite"


def test_resolve_order_of_wishes_does_not_matter_and_a_strange_point_is_refused():
    wishes = [proposal(Cause.OPERATOR, 30.0), proposal(Cause.PLAN, 40.0)]
    strange = replace(wishes[0], point="nobody.p_set_kw")
    for order in (wishes, wishes[::-1]):
        (s,), (refusal,) = resolve(LAYOUT, condition(True), [*order, strange], {}, {}, NOW)
        assert (s.value, s.cause) == (30.0, Cause.OPERATOR)
        assert (refusal.point, refusal.code) == ("nobody.p_set_kw", "not_authorised")


def test_resolve_live_limit_narrows_and_says_so():
    (s,), _ = resolve(LAYOUT, condition(True, discharge=80.0), [proposal(Cause.PLAN, 200.0)], {}, {}, NOW)
    assert s.value == 80.0
    assert "bms" in s.reason


LAST = Written(value=100.0, at_s=99.0, known=True)


@pytest.mark.parametrize(
    ("value", "last", "kwargs", "expected"),
    [
        (100.2, LAST, {}, None),  # inside the deadband, refreshed a second ago
        (100.2, LAST, {"now_s": 104.0}, 100.2),  # refresh is due after 5 s
        (101.0, LAST, {}, 101.0),  # beyond the deadband
        (-50.0, LAST, {"forming": True}, None),  # a forming battery has no power setpoint
        (50.0, LAST, {"mode": GridMode.UNKNOWN}, 50.0),  # less is safer
        (150.0, LAST, {"mode": GridMode.UNKNOWN}, "mode_wrong"),
        (50.0, LAST, {"mode": GridMode.BLACK}, "mode_wrong"),
        (0.0, LAST, {"mode": GridMode.BLACK}, 0.0),
        (150.0, LAST, {"fresh": False}, "stale_input"),
        (50.0, LAST, {"fresh": False}, 50.0),
        (50.0, LAST, {"answering": False}, "device_offline"),
        (50.0, LAST, {"held_safe": True}, "held_safe"),
        (600.0, LAST, {}, "out_of_bounds"),
    ],
)
def test_gate_table(value, last, kwargs, expected):
    out = gate(LAYOUT, setpoint("bess1.p_set_kw", value), last, gate_input(**kwargs), 7)
    if expected is None:
        assert out is None
    elif isinstance(expected, str):
        assert isinstance(out, Refusal)
        assert out.code == expected
    else:
        assert isinstance(out, Command)
        assert out.value == expected
        assert out.seq == 7


def test_gate_unknown_outcome_is_written_again_after_a_pause():
    lost = Written(value=100.0, at_s=99.5, known=False)
    s = setpoint("bess1.p_set_kw", 100.0)
    assert gate(LAYOUT, s, lost, gate_input(now_s=100.0), 1) is None
    assert isinstance(gate(LAYOUT, s, lost, gate_input(now_s=101.6), 1), Command)


def _with_ramp(per_s: float) -> Layout:
    setpoints = dict(SITE.authority.setpoints)
    setpoints["bess1.p_set_kw"] = replace(setpoints["bess1.p_set_kw"], ramp_per_s=per_s)
    return layout_of(replace(SITE, authority=replace(SITE.authority, setpoints=setpoints)))


class TestRamp:
    layout = _with_ramp(10.0)

    def test_gate_ramp_limits_a_rise(self):
        out = gate(self.layout, setpoint("bess1.p_set_kw", 300.0), LAST, gate_input(dt_s=1.0), 1)
        assert isinstance(out, Command)
        assert out.value == pytest.approx(110.0)
        assert "ramp" in out.reason

    def test_gate_ramp_is_free_in_the_protective_direction(self):
        s = setpoint("bess1.p_set_kw", -300.0, cause=Cause.PROTECTION, protective=True)
        out = gate(self.layout, s, LAST, gate_input(dt_s=1.0), 1)
        assert isinstance(out, Command)
        assert out.value == -300.0

    @pytest.mark.parametrize(
        ("value", "sent"),
        [
            (-50.0, -50.0),  # the bound itself, at once
            (-20.0, -20.0),  # and towards zero
            (40.0, -40.0),  # beyond zero by the ramp, from the bound
            (-50.0 + 5.0, -45.0),
        ],
    )
    def test_gate_ramp_of_what_stood_outside_counts_from_the_bound(self, value: float, sent: float):
        """It came back from -400 and went on to +40 in the same write."""
        s = setpoint("bess1.p_set_kw", value, low=-50.0, high=100.0, protective=True)
        stood = Written(value=-400.0, at_s=99.0, known=True)
        out = gate(self.layout, s, stood, gate_input(dt_s=1.0), 1)
        assert isinstance(out, Command)
        assert out.value == pytest.approx(sent)

    @settings(max_examples=200, deadline=None)
    @given(st.floats(-500, 500), st.floats(-500, 500), st.floats(0.1, 900.0))
    def test_gate_ramp_never_exceeds_rate(self, last_kw, value, dt_s):
        last = Written(value=last_kw, at_s=0.0, known=True)
        out = gate(self.layout, setpoint("bess1.p_set_kw", value), last, gate_input(dt_s=dt_s), 1)
        assert isinstance(out, Command)
        assert abs(out.value - last_kw) <= 10.0 * dt_s + 1e-6
        assert min(last_kw, value) - 1e-6 <= out.value <= max(last_kw, value) + 1e-6


@pytest.mark.parametrize(("charge", "discharge"), [(-10.0, 250.0), (300.0, -10.0), (math.nan, math.nan)])
def test_resolve_live_limits_that_make_no_sense_never_order_a_move(charge, discharge):
    (s,), _ = resolve(
        LAYOUT, condition(True, charge, discharge), [proposal(Cause.PLAN, 0.0)], {}, {}, NOW
    )  # fmt: skip
    assert s.value == 0.0


@pytest.mark.parametrize(
    ("value", "kwargs", "code"),
    [
        (200.0, {"fresh": False}, "stale_input"),
        (200.0, {"answering": False}, "device_offline"),
        (200.0, {}, None),
        (50.0, {"fresh": False}, None),
        (50.0, {"answering": False}, None),
    ],
)
def test_gate_protection_gives_pv_back_on_good_readings_only(value, kwargs, code):
    s = setpoint("pv1.p_limit_kw", value, cause=Cause.PROTECTION, protective=value < 100.0)
    out = gate(LAYOUT, s, LAST, gate_input(**kwargs), 1)
    assert getattr(out, "code", None) == code
