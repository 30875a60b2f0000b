import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.battery_terms import SocLimit
from plant_models import battery
from tests import builders

P = builders.battery()


def test_stored_kw_at_rated_discharge_is_eta_and_quadratic_loss():
    assert battery.stored_kw(P, 500.0) == pytest.approx(-(500.0 / 0.975 + 0.0188 * 500.0))


def test_stored_kw_at_rated_charge_is_eta_and_quadratic_loss():
    assert battery.stored_kw(P, -500.0) == pytest.approx(0.975 * 500.0 - 0.0173 * 500.0)


def test_step_idle_and_off_loses_only_self_discharge():
    end, loss = battery.step(P, 500.0, 0.0, 3600.0, on=False)
    assert end == pytest.approx(500.0 * math.exp(-2e-5), rel=1e-14)
    assert loss == pytest.approx(500.0 - end, abs=1e-12)


def test_step_idle_and_on_loses_the_no_load_loss_too():
    end, loss = battery.step(P, 500.0, 0.0, 3600.0)
    assert end == pytest.approx(500.0 - 2.0 - 0.01, abs=1e-4)
    assert loss == pytest.approx(500.0 - end, abs=1e-12)


def test_round_trip_at_rated_power_lies_in_the_measured_range():
    """Measured round trips of large systems are 0.90 to 0.92 with auxiliaries; without them a bit above."""
    charged = battery.stored_kw(P, -250.0) - P.no_load_loss_kw
    drawn = -battery.stored_kw(P, 250.0) + P.no_load_loss_kw
    assert 0.90 < charged / drawn < 0.95


@pytest.mark.parametrize(
    ("soc", "charge", "discharge"),
    [(0.5, 500.0, 500.0), (0.9, 500.0, 500.0), (0.95, 100.0, 500.0), (0.925, 300.0, 500.0),
     (0.15, 500.0, 500.0), (0.125, 500.0, 300.0), (0.1, 500.0, 100.0), (0.05, 500.0, 100.0),
     (1.0, 100.0, 500.0)],
)  # fmt: skip
def test_taper_limits_fall_near_full_and_empty(soc, charge, discharge):
    assert battery.taper_limits_kw(P, soc) == pytest.approx((charge, discharge))


def test_taper_limits_without_taper_band_stay_finite():
    flat = builders.battery(soc_taper_high=0.95, soc_taper_low=0.1)
    assert battery.taper_limits_kw(flat, 0.95) == (500.0, 500.0)
    assert battery.taper_limits_kw(flat, 0.96) == (100.0, 500.0)


TABLE = (
    SocLimit(soc=0.1, charge_ratio=0.6, discharge_ratio=0.4),
    SocLimit(soc=0.5, charge_ratio=1.0, discharge_ratio=0.8),
    SocLimit(soc=0.95, charge_ratio=0.5, discharge_ratio=0.9),
)


def test_power_by_soc_table_narrows_beside_the_tapers_and_is_held_beyond_its_ends():
    limited = builders.battery(power_by_soc=TABLE)
    assert battery.taper_limits_kw(limited, 0.3) == pytest.approx((400.0, 300.0))
    assert battery.taper_limits_kw(limited, 0.95) == pytest.approx((100.0, 450.0))  # the taper is lower
    assert battery.taper_limits_kw(limited, 1.0) == pytest.approx((100.0, 450.0))
    assert battery.taper_limits_kw(limited, 0.12) == pytest.approx((310.0, 210.0))


@pytest.mark.parametrize(
    "params", [P, builders.battery(soc_taper_low=0.1), builders.battery(power_by_soc=TABLE)]
)
def test_taper_of_discharge_vector_equals_scalar(params):
    soc = np.linspace(0.0, 1.0, 41)
    each = [battery.taper_limits_kw(params, float(x))[1] for x in soc]
    assert battery.taper_discharge_kw_array(params, soc) == pytest.approx(each)


@given(soc=st.floats(0.1, 0.95), dt_s=st.floats(0.1, 3600.0), p_set=st.floats(-600.0, 600.0))
def test_bounds_any_setpoint_keeps_soc_in_window(soc, dt_s, p_set):
    low, high = battery.bounds_kw(P, soc * 1000.0, dt_s)
    end, _ = battery.step(P, soc * 1000.0, max(low, min(high, p_set)), dt_s)
    assert 100.0 - 1e-6 <= end <= 950.0 + 1e-6


@given(soc=st.floats(0.1, 0.95), dt_s=st.floats(0.1, 3600.0))
def test_limits_at_their_ends_stay_in_window_and_never_negative(soc, dt_s):
    charge, discharge = battery.limits(P, soc * 1000.0, dt_s)
    assert 0.0 <= charge <= 500.0
    assert 0.0 <= discharge <= 500.0
    assert battery.step(P, soc * 1000.0, -charge, dt_s)[0] <= 950.0 + 1e-6
    if discharge > 0.0:
        assert battery.step(P, soc * 1000.0, discharge, dt_s)[0] >= 100.0 - 1e-6


def test_window_limits_reach_the_edges_exactly():
    room, avail = battery.window_limits_kw(P, 500.0, 3600.0)
    assert battery.step(P, 500.0, avail, 3600.0)[0] == pytest.approx(100.0, abs=1e-9)
    assert battery.step(P, 500.0, -room, 3600.0)[0] == pytest.approx(950.0, abs=1e-9)


def test_bounds_at_empty_charge_just_the_standing_losses():
    low, high = battery.bounds_kw(P, 100.0, 60.0)
    assert low == -500.0
    assert -2.2 < high < -2.0
    assert battery.step(P, 100.0, high, 60.0)[0] == pytest.approx(100.0, abs=1e-9)


def test_bounds_outside_window_are_not_forced_back():
    low, high = battery.bounds_kw(P, 990.0, 1.0)
    assert low == 0.0
    assert high == 500.0
    low, high = battery.bounds_kw(P, 50.0, 1.0)
    assert low == -500.0
    assert -2.2 < high < 0.0


@given(
    stored=st.floats(50.0, 950.0),
    p_kw=st.floats(-500.0, 500.0),
    dt_s=st.floats(0.01, 3600.0),
    on=st.booleans(),
)
def test_step_conserves_energy(stored, p_kw, dt_s, on):
    end, loss = battery.step(P, stored, p_kw, dt_s, on=on)
    throughput = abs(p_kw) * dt_s / 3600.0 + stored
    assert abs(p_kw * dt_s / 3600.0 + loss + end - stored) <= 1e-12 * throughput
    assert loss >= 0.0


@given(p_kw=st.floats(-500.0, 500.0), n=st.integers(2, 50))
def test_step_once_equals_many_small_steps(p_kw, n):
    once, lost_once = battery.step(P, 500.0, p_kw, 900.0)
    stored, lost = 500.0, 0.0
    for _ in range(n):
        stored, part = battery.step(P, stored, p_kw, 900.0 / n)
        lost += part
    assert stored == pytest.approx(once, rel=1e-11)
    assert lost == pytest.approx(lost_once, rel=1e-8)


def test_stored_kw_array_equals_scalar():
    p = np.linspace(-500.0, 500.0, 41)
    expected = [battery.stored_kw(P, float(v)) for v in p]
    np.testing.assert_allclose(battery.stored_kw_array(P, p), expected, rtol=1e-14)


def test_loss_kw_is_what_does_not_arrive():
    for p in (-500.0, -3.0, 0.0, 7.0, 500.0):
        assert battery.loss_kw(P, p) == pytest.approx(-p - battery.stored_kw(P, p), abs=1e-12)
