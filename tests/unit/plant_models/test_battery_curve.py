"""A battery whose losses are given by points: exact both ways, whatever their shape."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ems.assets import BatteryParams
from ems.loss_curve import LossCurve
from plant_models import battery
from plant_models.linearize import battery_segments, least_loss
from tests import builders

# 100 kW lose 1 kW, 300 kW 9 kW, 600 kW 30 kW: slopes of 0.01, 0.04, 0.07
CONVEX = LossCurve(p_kw=(0.0, 100.0, 300.0, 600.0), loss_kw=(0.0, 1.0, 9.0, 30.0))
# dear at first: slopes of 0.1, 0.01, 0.06
BENT = LossCurve(p_kw=(0.0, 50.0, 250.0, 500.0), loss_kw=(0.0, 5.0, 7.0, 22.0))
P = builders.battery(charge_curve=CONVEX, discharge_curve=BENT)
FEW = settings(max_examples=25)


@st.composite
def curves(draw: st.DrawFn) -> LossCurve:
    widths = draw(st.lists(st.floats(5.0, 300.0), min_size=1, max_size=6))
    slopes = draw(st.lists(st.floats(0.0, 0.4), min_size=len(widths), max_size=len(widths)))
    p, loss = [0.0], [0.0]
    for width, slope in zip(widths, slopes, strict=True):
        p.append(p[-1] + width)
        loss.append(loss[-1] + slope * width)
    return LossCurve(p_kw=tuple(p), loss_kw=tuple(loss))


@st.composite
def batteries(draw: st.DrawFn) -> BatteryParams:
    """One direction or both by points."""
    charge, discharge = draw(st.one_of(st.none(), curves())), draw(curves())
    return builders.battery(charge_curve=charge, discharge_curve=discharge)


@pytest.mark.parametrize(
    ("p_kw", "loss_kw"),
    [(0.0, 0.0), (25.0, 2.5), (50.0, 5.0), (150.0, 6.0), (500.0, 22.0), (600.0, 28.0),
     (-50.0, 0.5), (-200.0, 5.0), (-600.0, 30.0), (-700.0, 37.0)],
)  # fmt: skip
def test_loss_is_straight_between_points_and_beyond_the_last(p_kw, loss_kw):
    assert battery.loss_kw(P, p_kw) == pytest.approx(loss_kw)
    assert battery.stored_kw(P, p_kw) == pytest.approx(-p_kw - loss_kw)


@FEW
@given(params=batteries())
def test_stored_kw_array_equals_scalar(params):
    p = np.linspace(-700.0, 700.0, 57)
    each = [battery.stored_kw(params, float(x)) for x in p]
    np.testing.assert_allclose(battery.stored_kw_array(params, p), each, rtol=1e-13, atol=1e-12)


@FEW
@given(params=batteries(), p_kw=st.floats(-500.0, 700.0), more=st.floats(1e-3, 100.0))
def test_power_is_found_again_from_what_it_stores_and_more_draws_more(params, p_kw, more):
    rate = battery.stored_kw(params, p_kw)
    assert battery.ac_kw(params, rate) == pytest.approx(p_kw, rel=1e-9, abs=1e-9)
    assert battery.stored_kw(params, p_kw + more) < rate


@FEW
@given(
    params=batteries(),
    stored=st.floats(50.0, 950.0),
    p_kw=st.floats(-600.0, 600.0),
    dt_s=st.floats(0.01, 3600.0),
    on=st.booleans(),
)
def test_step_conserves_energy(params, stored, p_kw, dt_s, on):
    end, loss = battery.step(params, stored, p_kw, dt_s, on=on)
    throughput = abs(p_kw) * dt_s / 3600.0 + stored
    assert abs(p_kw * dt_s / 3600.0 + loss + end - stored) <= 1e-12 * throughput
    assert loss >= -1e-12 * throughput


@FEW
@given(params=batteries(), stored=st.floats(100.0, 950.0), dt_s=st.floats(60.0, 7200.0))
def test_window_limits_reach_the_edges_exactly(params, stored, dt_s):
    room, avail = battery.window_limits_kw(params, stored, dt_s)
    assert battery.step(params, stored, avail, dt_s)[0] == pytest.approx(100.0, abs=1e-8)
    if params.charge_curve is not None or math.isfinite(room):
        assert battery.step(params, stored, -room, dt_s)[0] == pytest.approx(950.0, abs=1e-8)


@FEW
@given(
    params=batteries(), soc=st.floats(0.1, 0.95), dt_s=st.floats(0.1, 3600.0), p_set=st.floats(-600.0, 600.0)
)
def test_bounds_any_setpoint_keeps_soc_in_window(params, soc, dt_s, p_set):
    low, high = battery.bounds_kw(params, soc * 1000.0, dt_s)
    end, _ = battery.step(params, soc * 1000.0, max(low, min(high, p_set)), dt_s)
    assert 100.0 - 1e-6 <= end <= 950.0 + 1e-6


def test_a_curve_of_one_slope_is_the_battery_of_that_efficiency():
    eta = 0.95
    line = LossCurve(p_kw=(0.0, 500.0), loss_kw=(0.0, 500.0 / eta - 500.0))
    given_, told = (
        builders.battery(discharge_curve=line, loss_charge_pu=0.0),
        builders.battery(eta_discharge=eta, loss_charge_pu=0.0, loss_discharge_pu=0.0),
    )
    for p in (-500.0, -20.0, 0.0, 3.0, 500.0, 600.0):
        assert battery.stored_kw(given_, p) == pytest.approx(battery.stored_kw(told, p))
    assert battery.drawn_per_kwh(given_) == pytest.approx(battery.drawn_per_kwh(told))
    assert battery.marginal_stored(given_) == pytest.approx(battery.marginal_stored(told))
    assert battery.bent_loss_pu(given_) == pytest.approx(0.0)


def test_what_is_drawn_is_the_worst_of_any_power_and_the_margin_the_steepest():
    assert battery.drawn_per_kwh(P) == pytest.approx(1.1)  # 55 for 50, not 522 for 500
    assert battery.drawn_per_kwh(builders.battery(discharge_curve=CONVEX)) == pytest.approx(
        1.0 + 23.0 / 500.0
    )
    assert battery.marginal_stored(P) == pytest.approx((0.99, 1.1))
    assert battery.marginal_stored(builders.battery(p_charge_kw_max=100.0, charge_curve=BENT))[
        0
    ] == pytest.approx(0.99)
    assert battery.bent_loss_pu(P) == pytest.approx(22.0 / 500.0 - 0.01)
    assert battery.bent_loss_pu(builders.battery()) == 0.0188


def test_segments_are_the_stretches_up_to_full_power():
    charge, discharge = battery_segments(P, 7)
    assert charge.widths_kw == pytest.approx((100.0, 200.0, 200.0))
    assert charge.slopes == pytest.approx((0.01, 0.04, 0.07))
    assert discharge.widths_kw == pytest.approx((50.0, 200.0, 250.0))
    assert discharge.slopes == pytest.approx((0.1, 0.01, 0.06))
    assert (charge.bent, discharge.bent) == ((False, False), (True, False))
    assert charge.fit_error_ratio == discharge.fit_error_ratio == 0.0


@FEW
@given(params=batteries(), fit=st.sampled_from([0.0, 5e-4, 5e-3, 1.0]), share=st.floats(0.0, 1.0))
def test_segments_are_below_the_curve_by_no_more_than_they_say(params, fit, share):
    for segments, sign in zip(battery_segments(params, 3, fit), (-1.0, 1.0), strict=True):
        assert sum(segments.widths_kw) == pytest.approx(500.0)
        if (params.charge_curve if sign < 0.0 else params.discharge_curve) is None:
            continue
        gap = battery.loss_kw(params, sign * share * 500.0) - segments.y(share * 500.0)
        assert segments.fit_error_ratio <= fit + 1e-12
        assert -1e-8 <= gap <= segments.fit_error_ratio * 500.0 + 1e-8
        if fit == 1.0:
            assert not any(segments.bent)


def test_segments_pool_a_dent_that_is_rounding_and_no_other():
    """At 100 kW 3.2 kW are lost, the chord from 0 to 200 kW says 3.1: 0.1 kW of 500 are 0.02 %."""
    dented = LossCurve(p_kw=(0.0, 100.0, 200.0, 500.0), loss_kw=(0.0, 3.2, 6.2, 30.0))
    params = builders.battery(discharge_curve=dented)
    assert battery_segments(params, 3)[1].bent == (True, False)
    pooled = battery_segments(params, 3, 5e-4)[1]
    assert pooled.widths_kw == pytest.approx((200.0, 300.0))
    assert pooled.fit_error_ratio == pytest.approx(0.1 / 500.0)
    assert battery_segments(P, 3, 5e-4)[1].bent == (True, False)  # 4.04 kW off


def test_least_loss_is_the_convex_hull_from_below():
    widths, slopes = least_loss(P, BENT, 1.0)
    assert widths == pytest.approx((250.0, 250.0))
    assert slopes == pytest.approx((7.0 / 250.0, 15.0 / 250.0))
