import cmath
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.poi import Supervision
from plant_models import grid
from tests import builders

GRID = builders.site().grid
R, X = grid.impedance_pu_per_kw(GRID)


def by_iteration(v_source_v: float, p_kw: float, q_kvar: float) -> float:
    """Independent: phasors of one phase in V, A and ohm, fixed point on the load's current."""
    source = v_source_v / 3**0.5
    s_va = complex(p_kw, q_kvar) * 1000.0 / 3.0
    v: complex = complex(source)
    for _ in range(500):
        v = source - complex(GRID.r_ohm, GRID.x_ohm) * (s_va / v).conjugate()
    return abs(v) * 3**0.5


@given(p=st.floats(-600.0, 600.0), q=st.floats(-300.0, 300.0), vs=st.floats(0.85, 1.1))
def test_poi_voltage_equals_iterated_phasor_solution(p, q, vs):
    assert grid.poi_voltage_pu(R, X, vs, p, q) * 400.0 == pytest.approx(
        by_iteration(400.0 * vs, p, q), rel=1e-9
    )


def test_poi_voltage_unloaded_is_the_source_voltage():
    assert grid.poi_voltage_pu(R, X, 0.97, 0.0, 0.0) == pytest.approx(0.97)


def test_poi_voltage_falls_with_import_and_rises_with_export():
    assert grid.poi_voltage_pu(R, X, 1.0, 350.0, 115.0) == pytest.approx(0.957, abs=0.002)
    assert grid.poi_voltage_pu(R, X, 1.0, -350.0, 0.0) > 1.02


def test_poi_voltage_beyond_the_nose_has_no_operating_point():
    """The most power a source can give at unity power factor is Vs^2 / (2 (R + |Z|))."""
    z = abs(complex(GRID.r_ohm, GRID.x_ohm))
    p_most = 400.0**2 / (2.0 * (GRID.r_ohm + z)) / 1000.0
    assert grid.poi_voltage_pu(R, X, 1.0, 0.999 * p_most, 0.0) > 0.4
    assert grid.poi_voltage_pu(R, X, 1.0, 1.001 * p_most, 0.0) == 0.0
    assert cmath.isfinite(z)


@pytest.mark.parametrize(
    ("present", "v", "expected"),
    [(True, 1.0, True), (True, 0.85, True), (True, 0.849, False), (True, 1.101, False), (False, 1.0, False)],
)
def test_usable_needs_presence_and_a_voltage_in_band(present, v, expected):
    assert grid.usable(GRID, present, v) is expected


@pytest.mark.parametrize(
    ("low_hz", "high_hz", "f_hz", "expected"),
    [
        (49.0, 51.0, 48.99, False), (49.0, 51.0, 49.0, True), (49.0, 51.0, 51.1, False),
        (49.0, None, 55.0, True), (None, None, 40.0, True), (49.0, 51.0, None, True),
    ],
)  # fmt: skip
def test_usable_judges_the_frequency_by_the_band_of_the_site(low_hz, high_hz, f_hz, expected):
    band = replace(GRID, supervision=Supervision(f_min_hz=low_hz, f_max_hz=high_hz))
    assert grid.usable(band, True, 1.0, f_hz) is expected


@pytest.mark.parametrize(("low_hz", "nominal_hz"), [(None, 50.0), (49.0, 50.0), (59.0, 60.0)])
def test_nominal_frequency_is_the_one_in_the_band(low_hz, nominal_hz):
    assert grid.nominal_f_hz(replace(GRID, supervision=Supervision(f_min_hz=low_hz))) == nominal_hz
