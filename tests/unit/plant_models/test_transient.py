"""Frequency and voltage within a second: known answers, limits, and what joins two pieces."""

import math
from dataclasses import replace

import pytest

from plant_models.transient import (
    G2_FREQUENCY,
    G2_VOLTAGE,
    STEP_S,
    ConverterDynamics,
    Former,
    Piece,
    SetDynamics,
    Wave,
    breaches_of_g2,
    converter_of,
    of_class_g2,
    sets_of,
    wave_of,
)
from tests import builders

SITE = builders.site()
GEN = SITE.gensets[0]  # 400 kW, 240 kW at once
SETS = sets_of([GEN])


def change(former: Former, before_kw: float, after_kw: float, s: float = 10.0, pf: float = 0.8) -> Wave:
    """One step of load, from a steady state."""
    q = math.tan(math.acos(pf))
    piece = Piece(dt_s=s, p_kw=after_kw, q_kvar=q * after_kw, former=former)
    return wave_of([piece], before=(before_kw, q * before_kw))


@pytest.mark.parametrize("p_kw", [0.0, 200.0, 400.0])
def test_steady_load_moves_nothing(p_kw: float):
    wave = change(SETS, p_kw, p_kw)
    assert wave.f_pu == pytest.approx([1.0] * 2000, abs=1e-9)
    assert wave.v_pu == pytest.approx([1.0] * 2000, abs=1e-9)


def test_speed_begins_to_fall_as_the_equation_of_motion_says():
    """df/dt = -P / (2 H S): 100 kW on a set of 500 kVA with H = 1 s are 0.1 per second, until fuel comes."""
    assert isinstance(SETS.dynamics, SetDynamics)
    former = replace(SETS, s_kva=500.0, dynamics=replace(SETS.dynamics, inertia_s=1.0))
    wave = change(former, 200.0, 300.0)
    assert (1.0 - wave.f_pu[0]) / STEP_S == pytest.approx(0.1, rel=1e-9)
    assert (wave.f_pu[0] - wave.f_pu[3]) / (3 * STEP_S) == pytest.approx(0.1, rel=0.01)


def test_voltage_drops_at_once_by_what_lies_over_the_transient_reactance():
    """From no load to 0.5 - 0.3j per unit behind 0.2: 1 / |1 + 0.2j (0.5 - 0.3j)| = 1 / |1.06 + 0.1j|."""
    assert isinstance(SETS.dynamics, SetDynamics)
    former = replace(SETS, s_kva=500.0, dynamics=replace(SETS.dynamics, x_d1_pu=0.2, inertia_s=1e6))
    piece = Piece(dt_s=1.0, p_kw=250.0, q_kvar=150.0, former=former)
    wave = wave_of([piece], before=(0.0, 0.0))
    assert wave.v_pu[0] == pytest.approx(1.0 / math.hypot(1.06, 0.1), rel=1e-8)
    assert wave.v_pu[-1] > wave.v_pu[0]


@pytest.mark.parametrize("step_ratio", [0.1, 0.3, 0.6, 0.8, 1.0])
def test_set_that_just_deserves_its_step_keeps_class_g2_and_settles(step_ratio: float):
    former = Former(s_kva=500.0, p_rated_kw=400.0, dynamics=of_class_g2(step_ratio))
    taken = change(former, 0.0, 400.0 * step_ratio)
    lost = change(former, 400.0, 0.0)
    assert breaches_of_g2(taken) == []
    assert breaches_of_g2(lost) == []
    deepest = min(taken.f_pu) == pytest.approx(0.9, abs=1e-3), max(lost.f_pu) == pytest.approx(1.12, abs=1e-3)
    assert any(deepest)  # with less inertia it would not
    for wave in (taken, lost):
        assert wave.f_pu[-1] == pytest.approx(1.0, abs=1e-3)
        assert wave.v_pu[-1] == pytest.approx(1.0, abs=2e-3)


def test_step_that_no_set_gives_without_boost_leaves_the_class():
    wave = change(SETS, 0.0, 400.0)  # 240 kW are what it takes
    assert any("frequency falls" in x for x in breaches_of_g2(wave))


def test_two_sets_alike_move_as_one_and_a_smaller_step_moves_less():
    one, two = change(SETS, 50.0, 150.0), change(sets_of([GEN, GEN]), 100.0, 300.0)
    assert two.f_pu == pytest.approx(one.f_pu, abs=1e-12)
    assert two.v_pu == pytest.approx(one.v_pu, abs=1e-12)
    assert min(change(SETS, 50.0, 100.0).f_pu) > min(one.f_pu)


def test_set_that_joins_brings_no_jump_and_one_that_leaves_takes_its_load_with_it():
    both = sets_of([GEN, GEN])
    joined = wave_of([
        Piece(dt_s=5.0, p_kw=200.0, q_kvar=150.0, former=SETS),
        Piece(dt_s=5.0, p_kw=200.0, q_kvar=150.0, former=both),
    ])  # fmt: skip
    assert joined.f_pu == pytest.approx([1.0] * 2000, abs=1e-9)
    assert min(joined.v_pu) > 0.95


def test_converter_settles_on_its_droop_and_its_voltage_comes_back():
    """300 of 600 kVA at 2 %: 1 % below nominal; filtered, so not at once."""
    former = replace(converter_of(SITE.bess[0]), s_kva=600.0)
    wave = change(former, 0.0, 300.0, s=1.0)
    assert wave.f_pu[0] > 0.998
    assert wave.f_pu[-1] == pytest.approx(0.99, abs=1e-6)
    assert wave.v_pu[0] == pytest.approx(1.0 / math.hypot(1.0375, 0.05), rel=1e-6)
    assert wave.v_pu[-1] == pytest.approx(1.0, abs=1e-6)
    assert isinstance(former.dynamics, ConverterDynamics)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1.0, 0.91, 1.0], None),
        ([1.0, 0.89, 1.0], "frequency falls to 0.890 pu, at least 0.9 is allowed"),
        ([1.0, 1.13, 1.0], "frequency rises to 1.130 pu, at most 1.12 is allowed"),
        ([0.97] * 1000 + [1.0] + [0.97] * 900, None),
        ([0.97] * 1001, "frequency is off by over 2.0% for 5.0 s, 5 s are allowed"),
    ],
)
def test_band_says_what_is_outside(values: list[float], says: str | None):
    assert G2_FREQUENCY.breaches(values, "frequency") == ([] if says is None else [says])


def test_voltage_has_its_own_limits():
    assert G2_VOLTAGE.breaches([0.81, 1.24], "voltage") == []
    assert len(G2_VOLTAGE.breaches([0.79, 1.26], "voltage")) == 2
