"""Following a reactive setpoint: by one converter, window by window, told and nothing else."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from dispatch.layout import Layout, layout_of
from dispatch.observing.condition import observe
from dispatch.state import ObserverMemory, Written
from dispatch.writing.effect_memory import ReactiveFollowing, ReactiveMemory
from dispatch.writing.reactive_effect import (
    FULL_RATIO,
    LITTLE_RATIO,
    TOLERANCE_RATIO,
    V_HIGH_PU,
    V_LOW_PU,
    WINDOW_S,
    WINDOWS,
    _able,
    check_reactive,
    reactive_alarms,
)
from ems.assets import ActuatorSafety, DeviceBehaviour, OnSilence
from ems.capability import capability_of
from ems.points import BessState
from ems.reactive import ReactiveAtVoltage, ReactiveControl, ReactiveTakes, VoltVarCurve
from ems.site import Authority, GridMode, SetpointAuthority
from tests.builders import T0, site
from tests.unit.dispatch.test_condition import snapshot

S_KVA = 1000.0
OFF_KVAR = TOLERANCE_RATIO * S_KVA
STEP_S = 10.0
CURVE = VoltVarCurve(index=2, corners=(ReactiveAtVoltage(v_pu=1.0, q_kvar=300.0),))


def layout(control: ReactiveControl | None = None, **changes: Any) -> Layout:
    """A battery and a PV plant of 1 MVA each, whose reactive parameter the edge writes."""
    control = ReactiveControl() if control is None else control
    plant = site()
    setpoints = dict(plant.authority.setpoints)
    for asset in ("bess1", "pv1"):
        point = f"{asset}.{control.takes}"
        setpoints[point] = SetpointAuthority(
            point=point, low=-1000.0, high=1000.0, ramp_per_s=None, deadband=1.0, refresh_s=60.0,
            safety=ActuatorSafety(
                grid_tied=0.0, islanded=0.0, black=None,
                behaviour=DeviceBehaviour(timeout_s=300.0, on_silence=OnSilence.VALUE, value=0.0),
            ),
        )  # fmt: skip
    unit = plant.bess[0]
    made = layout_of(
        replace(
            plant,
            bess=(replace(unit, pcs=replace(unit.pcs, s_kva=S_KVA, reactive=control)),),
            pv=(replace(plant.pv[0], s_kva=S_KVA, reactive=control),),
            authority=Authority(setpoints=setpoints),
        )
    )
    return replace(made, **changes)


PLAIN = layout()


class Watched:
    """A converter over time, in steps of ten seconds."""

    def __init__(self, asset: str = "bess1", plant: Layout = PLAIN) -> None:
        self.asset, self.layout, self.now_s = asset, plant, 100.0
        self.memory = ReactiveMemory()
        self.point = f"{asset}.{plant.reactive[asset].takes}"
        self.values: dict[str, Any] = {"p_kw": 200.0, "q_kvar": 0.0}
        self.asked: Sequence[str] = ("bess1", "pv1")
        self.known, self.v_pu, self.bess_state = True, 1.0, BessState.FOLLOWING
        self.mode, self.suspect, self.unwritten = GridMode.GRID_TIED, False, False
        self.limits: dict[str, float] = {}

    def look(self, value: float) -> None:
        told = {f"{self.asset}__{name}": x for name, x in self.values.items()}
        shot = snapshot(T0, self.now_s, **told)
        _, observed = observe(self.layout, ObserverMemory(), shot, {}, 1.0, {})
        condition = replace(observed.condition, grid_v_pu=self.v_pu, grid_mode=self.mode)
        observed = replace(
            observed, condition=condition, suspect=self.suspect, live_limits=self.limits,
            bess_state={"bess1": self.bess_state},
        )  # fmt: skip
        stands = {} if self.unwritten else {self.point: Written(value=value, at_s=0.0, known=self.known)}
        self.memory = check_reactive(self.layout, self.memory, stands, shot, observed, self.asked)
        self.now_s += STEP_S

    def windows(self, n: float, value: float | Callable[[float], float], q: float | None = None) -> None:
        """Whole windows with one setpoint, or one of each time; the first look at all opens one."""
        if q is not None:
            self.values["q_kvar"] = q
        for _ in range(round(n * WINDOW_S / STEP_S)):
            self.look(value(self.now_s) if callable(value) else value)

    @property
    def state(self) -> ReactiveFollowing:
        return self.memory.following.get(self.point, ReactiveFollowing())

    @property
    def told(self) -> list[str]:
        return [a.text for a in reactive_alarms(self.memory)]


@pytest.mark.parametrize("asset", ["bess1", "pv1"])
def test_converter_that_ignores_its_kvar_is_told_after_a_window_to_settle_and_three_more(asset):
    one = Watched(asset)
    one.windows(WINDOWS + 1, 300.0, q=0.0)
    assert one.told == []
    one.windows(1, 300.0)
    (alarm,) = reactive_alarms(one.memory)
    assert (alarm.code, alarm.asset) == ("setpoint.reactive_not_followed", one.point)
    assert f"{one.point}: 0 kvar in the mean where it asks for 300 kvar" in alarm.text


@pytest.mark.parametrize(("off", "told"), [(OFF_KVAR, False), (OFF_KVAR + 1.0, True)])
@pytest.mark.parametrize("way", [1.0, -1.0])
def test_tolerance_is_a_tenth_of_the_rating_and_no_more(off, told, way):
    one = Watched()
    one.windows(6, 300.0, q=300.0 + way * off)
    assert bool(one.told) is told


def test_wrong_sign_is_told():
    one = Watched()
    one.windows(6, -200.0, q=200.0)
    assert one.told


def test_converter_that_needs_a_minute_follows():
    """One that has just been given another parameter is judged by the old one as well."""
    one = Watched()
    one.windows(3, 0.0, q=0.0)
    for k in range(20):
        one.values["q_kvar"] = min(300.0, 300.0 * k * STEP_S / WINDOW_S)
        one.look(300.0)
    assert (one.state.row, one.told) == (-5, [])


def test_setpoint_that_is_chosen_anew_each_minute_is_judged_all_the_same():
    one = Watched()
    one.windows(8, lambda s: 300.0 + 50.0 * (s // WINDOW_S % 2), q=0.0)
    assert one.told
    well = Watched()
    well.windows(8, lambda s: 300.0 + 250.0 * (s // WINDOW_S % 2), q=420.0)
    assert well.told == []


@pytest.mark.parametrize(("way", "p_kw"), [(1.0, 600.0), (-1.0, 600.0), (1.0, -600.0), (-1.0, -600.0)])
def test_power_factor_asks_for_kvar_of_its_own_sign_whatever_way_power_flows(way, p_kw):
    plant = layout(ReactiveControl(takes=ReactiveTakes.POWER_FACTOR))
    kvar = way * 600.0 * math.tan(math.acos(0.9))
    one = Watched(plant=plant)
    one.values["p_kw"] = p_kw
    one.windows(6, way * 0.9, q=kvar)
    assert one.told == []
    other = Watched(plant=plant)
    other.values["p_kw"] = p_kw
    other.windows(6, way * 0.9, q=-kvar)
    assert other.told


def test_power_factor_under_clouds_is_judged_by_the_mean():
    plant = layout(ReactiveControl(takes=ReactiveTakes.POWER_FACTOR))
    one = Watched("pv1", plant)
    for k in range(60):
        one.values["p_kw"] = 500.0 if k % 2 else 200.0
        one.values["q_kvar"] = (200.0 if k % 2 else 500.0) * math.tan(math.acos(0.9))  # a step late
        one.look(0.9)
    assert (one.state.row, one.told) == (-8, [])


def test_told_stands_until_three_windows_follow_in_a_row():
    one = Watched()
    one.windows(6, 300.0, q=0.0)
    one.windows(2, 300.0, q=300.0)
    assert one.told
    one.windows(1, 300.0, q=0.0)
    one.windows(3, 300.0, q=300.0)
    assert one.told
    one.windows(1, 300.0)
    assert one.told == []
    one.windows(WINDOWS - 1, 300.0, q=0.0)
    assert one.told == []


def test_stuck_at_nothing_follows_no_setpoint_of_nothing():
    one = Watched()
    one.windows(6, 300.0, q=0.0)
    one.windows(10, 0.0)
    assert one.told
    assert one.state.row == 0
    one.windows(5, 300.0, q=300.0)
    assert one.told == []


def test_stuck_at_something_is_over_when_it_gives_nothing():
    one = Watched()
    one.windows(6, 0.0, q=300.0)
    assert one.told
    one.windows(5, 0.0, q=0.0)
    assert one.told == []


@pytest.mark.parametrize(
    "change",
    [
        {"asked": ("pv1",)},
        {"unwritten": True},
        {"mode": GridMode.ISLANDED},
        {"mode": GridMode.UNKNOWN},
        {"suspect": True},
        {"bess_state": BessState.FORMING},
        {"bess_state": None},
        {"v_pu": None},
        {"v_pu": V_LOW_PU - 0.001},
        {"v_pu": V_HIGH_PU + 0.001},
        {"values": {"p_kw": None, "q_kvar": 0.0}},
        {"values": {"p_kw": 200.0, "q_kvar": None}},
        {"values": {"p_kw": LITTLE_RATIO * S_KVA - 0.1, "q_kvar": 0.0}},
        {"values": {"p_kw": -LITTLE_RATIO * S_KVA + 0.1, "q_kvar": 0.0}},
        {"values": {"p_kw": 910.0, "q_kvar": 0.0}},
        {"limits": {"bess1.p_pcs_kw_max": 350.0}},
    ],
)
def test_what_need_not_follow_is_not_judged_and_what_was_told_stays(change):
    one = Watched()
    one.windows(6, 300.0, q=0.0)
    marked = one.state
    for name, value in change.items():
        setattr(one, name, value)
    one.windows(6, 300.0)
    kept = ReactiveFollowing(row=marked.row, marked=True, gave_kvar=0.0, asked_kvar=300.0)
    assert one.state == kept
    never = Watched()
    for name, value in change.items():
        setattr(never, name, value)
    never.windows(9, 300.0)
    assert never.memory.following == {}, "nothing is remembered of nothing"


def test_stored_curve_is_not_judged_for_nobody_reads_the_voltage_it_goes_by():
    one = Watched(plant=layout(ReactiveControl(takes=ReactiveTakes.CURVE, curves=(CURVE,))))
    one.windows(9, 2.0, q=0.0)
    assert one.memory.following == {}


@pytest.mark.parametrize("v_pu", [V_LOW_PU, V_HIGH_PU])
def test_voltage_at_the_edge_is_judged(v_pu):
    one = Watched()
    one.v_pu = v_pu
    one.windows(6, 300.0, q=0.0)
    assert one.told


def test_after_what_was_not_judged_it_has_a_window_to_settle_again():
    one = Watched()
    one.windows(3, 300.0, q=0.0)
    one.mode = GridMode.ISLANDED
    one.look(300.0)
    one.mode, row = GridMode.GRID_TIED, one.state.row
    one.windows(1, 300.0)
    one.look(300.0)
    assert one.state.row == row
    one.windows(1, 300.0)
    assert one.state.row == row + 1


def test_write_in_doubt_is_not_judged_and_nothing_is_forgotten():
    one = Watched()
    one.windows(3, 300.0, q=0.0)
    before, one.known = one.state, False
    one.windows(9, 300.0)
    assert one.state == before


def test_converter_that_is_polled_seldom_has_longer_windows():
    one = Watched(plant=replace(PLAIN, poll_s={"bess1": 60.0}))
    one.windows(WINDOWS + 2, 300.0, q=0.0)
    assert one.told == []
    one.windows(WINDOWS + 2, 300.0)
    assert one.told


@pytest.mark.parametrize(
    ("p_kw", "q_kvar", "v_pu", "able"),
    [
        (0.0, FULL_RATIO * S_KVA, 1.0, True),
        (0.0, FULL_RATIO * S_KVA + 0.1, 1.0, False),
        (570.0, -760.0, 1.0, True),
        (570.0, -761.0, 1.0, False),
        (0.0, 0.9 * FULL_RATIO * S_KVA + 0.1, 0.9, False),
        (0.0, FULL_RATIO * S_KVA, 1.1, True),
    ],
)
def test_able_up_to_ninety_five_percent_of_the_circle_less_at_low_voltage(p_kw, q_kvar, v_pu, able):
    _, observed = observe(PLAIN, ObserverMemory(), snapshot(T0, 100.0), {}, 1.0, {})
    assert _able(PLAIN, observed, "bess1", (p_kw, q_kvar), v_pu) is able


@pytest.mark.parametrize(("q_kvar", "able"), [(349.0, True), (351.0, False), (-349.0, True), (-351.0, False)])
def test_able_inside_the_makers_polygon_and_not_at_its_side(q_kvar, able):
    flat = capability_of([(-1000.0, -400.0), (1000.0, -400.0), (1000.0, 400.0), (-1000.0, 400.0)])
    plant = replace(PLAIN, capability={"bess1": flat})
    _, observed = observe(plant, ObserverMemory(), snapshot(T0, 100.0), {}, 1.0, {})
    assert _able(plant, observed, "bess1", (200.0, q_kvar), 1.0) is able
