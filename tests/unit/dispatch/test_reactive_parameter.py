"""From kvar to what a converter takes: a power factor, or the index of one of its stored curves."""

import math

import pytest

from dispatch.protections.reactive import parameter, permitted
from ems.reactive import ReactiveAtVoltage, ReactiveControl, ReactiveTakes, VoltVarCurve

FACTOR = ReactiveControl(takes=ReactiveTakes.POWER_FACTOR, pf_min=0.9)
FLAT = tuple(
    VoltVarCurve(index=i, corners=(ReactiveAtVoltage(v_pu=1.0, q_kvar=q),))
    for i, q in ((1, 0.0), (3, -100.0), (7, 100.0))
)
SLOPE = VoltVarCurve(
    index=9, corners=(ReactiveAtVoltage(v_pu=1.0, q_kvar=0.0), ReactiveAtVoltage(v_pu=1.1, q_kvar=-200.0))
)
CURVE = ReactiveControl(takes=ReactiveTakes.CURVE, curves=FLAT)
S_KVA = 500.0


@pytest.mark.parametrize(
    ("q_kvar", "mean_kw", "factor"),
    [
        (75.0, 100.0 * 2.4, 240.0 / math.hypot(240.0, 75.0)),
        (-75.0, 240.0, -240.0 / math.hypot(240.0, 75.0)),
        (75.0, -240.0, 240.0 / math.hypot(240.0, 75.0)),  # charging: the sign is that of the kvar
        (0.0, 240.0, 1.0),
        (-240.0, 240.0, -0.9),  # 0.71 would be needed
        (240.0, 240.0, 0.9),
        (-100.0, 24.9, 1.0),  # 5 % of the rating are 25 kW
        (-1.0, 25.0, -25.0 / math.hypot(25.0, 1.0)),
        (-100.0, 0.0, 1.0),
    ],
)
def test_parameter_power_factor_is_that_of_the_kvar_at_the_mean_power(
    q_kvar: float, mean_kw: float, factor: float
):
    assert parameter(FACTOR, q_kvar, mean_kw, S_KVA, 1.0, None) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("q_kvar", "now", "index"),
    [
        (-80.0, None, 3.0),
        (10.0, None, 1.0),
        (90.0, 1.0, 7.0),
        (-60.0, 1.0, 1.0),  # the other is nearer by 20 kvar: less than 5 % of the rating
        (-63.0, 1.0, 3.0),
        (-60.0, 42.0, 3.0),  # what is in force is none of them
        (-60.0, None, 3.0),
    ],
)
def test_parameter_curve_is_the_nearest_and_the_one_in_force_stays_while_it_is_near(
    q_kvar: float, now: float | None, index: float
):
    assert parameter(CURVE, q_kvar, 0.0, S_KVA, 1.0, now) == index


@pytest.mark.parametrize(("v_pu", "index"), [(1.0, 3.0), (None, 3.0), (1.05, 9.0), (1.2, 3.0)])
def test_parameter_curve_is_judged_at_the_voltage_of_now(v_pu: float | None, index: float):
    """At 1.05 the slope gives what is wanted; beyond its last corner twice that. Not measured: nominal."""
    control = ReactiveControl(takes=ReactiveTakes.CURVE, curves=(FLAT[1], SLOPE))
    wanted_kvar = -100.0 if v_pu != 1.05 else -99.0
    now = None if v_pu != 1.05 else 9.0
    assert parameter(control, wanted_kvar, 0.0, S_KVA, v_pu, now) == index


def test_parameter_kvar_is_itself():
    assert parameter(ReactiveControl(), -33.0, 100.0, S_KVA, 1.0, 5.0) == -33.0


@pytest.mark.parametrize(
    ("control", "wish", "value"),
    [
        (FACTOR, 0.95, 0.95),
        (FACTOR, 0.2, 0.9),
        (FACTOR, -0.2, -0.9),
        (FACTOR, 0.0, 0.9),
        (FACTOR, -1.0, -1.0),
        (CURVE, 3.0, 3.0),
        (CURVE, 4.4, 3.0),
        (CURVE, 6.0, 7.0),
        (ReactiveControl(), -7.5, -7.5),
    ],
)
def test_permitted_is_the_next_value_that_the_converter_can_be_given(
    control: ReactiveControl, wish: float, value: float
):
    assert permitted(control, wish) == value


@pytest.mark.parametrize(
    ("v_pu", "q_kvar"), [(0.9, 0.0), (1.0, 0.0), (1.05, -100.0), (1.1, -200.0), (1.3, -200.0)]
)
def test_curve_is_straight_between_its_corners_and_held_beyond(v_pu: float, q_kvar: float):
    assert SLOPE.q_kvar(v_pu) == pytest.approx(q_kvar)
