from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.errors import BadValue
from plant_models import battery, genset
from plant_models.linearize import battery_segments, genset_fuel_segments
from tests import builders

B = builders.battery()
G = builders.genset()
CHART_200 = ((50.0, 100.0, 150.0, 200.0), (17.8, 29.1, 41.6, 54.5))  # common approximate chart, 200 kW


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_battery_segments_error_is_the_chords(n):
    for segments, c in zip(battery_segments(B, n), (B.loss_charge_pu, B.loss_discharge_pu), strict=True):
        assert sum(segments.widths_kw) == pytest.approx(500.0)
        assert segments.fit_error_ratio == pytest.approx(c * (500.0 / n / 2) ** 2 / 500.0 / 500.0, rel=1e-6)


@given(share=st.floats(0.0, 1.0), n=st.integers(1, 8))
def test_battery_segments_lie_above_the_loss_and_touch_at_breakpoints(share, n):
    charge, discharge = battery_segments(B, n)
    p = share * 500.0
    for segments, sign in ((charge, -1.0), (discharge, 1.0)):
        gap = segments.y(p) - battery.loss_kw(B, sign * p)
        assert -1e-9 <= gap <= segments.fit_error_ratio * 500.0 + 1e-9
        assert max(a * p + b for a, b in segments.lines()) == pytest.approx(segments.y(p), abs=1e-9)


def test_battery_segments_slopes_never_fall():
    for s in battery_segments(B, 6):
        assert list(s.slopes) == sorted(s.slopes)


def test_battery_segments_refuses_none():
    with pytest.raises(ValueError, match="at least one"):
        battery_segments(B, 0)


def test_fuel_segments_of_a_convex_curve_are_exact():
    s = genset_fuel_segments(G)
    curve = genset.fuel_points(G)
    assert s.x0 == 120.0
    assert s.fit_error_ratio < 1e-12
    for p in (120.0, 150.0, 200.0, 333.0, 400.0):
        assert s.y(p) == pytest.approx(genset.fuel_l_h(curve, p))
        assert max(a * p + b for a, b in s.lines()) == pytest.approx(s.y(p))


def test_fuel_segments_pool_a_slightly_concave_curve_and_say_how_far():
    """Kohler 30REOZK: 3.0, 5.3, 7.2, 9.1 L/h at quarters of 28 kW; its slopes fall."""
    kw, lph = (7.0, 14.0, 21.0, 28.0), (3.0, 5.3, 7.2, 9.1)
    s = genset_fuel_segments(replace(G, p_rated_kw=28.0, p_min_kw=8.4, fuel_kw=kw, fuel_l_h=lph))
    assert 0.0 < s.fit_error_ratio <= 0.015
    assert list(s.slopes) == sorted(s.slopes)
    for x, y in zip(kw[1:], lph[1:], strict=True):
        assert abs(s.y(x) - y) <= s.fit_error_ratio * 9.1 + 1e-9


def test_fuel_segments_refuses_a_curve_far_from_convex():
    with pytest.raises(BadValue, match=r"gen1.*1\.5%"):
        genset_fuel_segments(replace(G, fuel_l_h=(33.7, 75.0, 95.0, 108.3)))


def test_fuel_segments_refuses_fuel_that_falls_with_load():
    with pytest.raises(BadValue, match="gen1"):
        genset_fuel_segments(replace(G, fuel_l_h=(60.0, 50.0, 45.0, 44.0)))


def test_fuel_segments_refuses_no_range():
    with pytest.raises(BadValue, match="p_min_kw"):
        genset_fuel_segments(replace(G, p_min_kw=G.p_rated_kw + 1.0))


def test_fuel_segments_of_a_chart_set_are_convex():
    kw, lph = CHART_200
    s = genset_fuel_segments(replace(G, p_rated_kw=200.0, p_min_kw=60.0, fuel_kw=kw, fuel_l_h=lph))
    assert s.fit_error_ratio < 1e-12
    assert s.y(200.0) == pytest.approx(54.5)
