import numpy as np
import pytest

from plant_models import pv
from tests import builders

PV = builders.site().pv[0]


def test_ac_power_at_standard_conditions_is_peak_less_losses():
    air = 25.0 - 25.0 / 800.0 * 1000.0  # so that the cell has 25 degC
    assert pv.ac_power_kw(PV, 1000.0, air) == pytest.approx(600.0)  # 700 * 0.9 = 630, clipped at the inverter
    assert pv.ac_power_kw(PV, 900.0, 25.0 - 25.0 / 800.0 * 900.0) == pytest.approx(700.0 * 0.9 * 0.9)


@pytest.mark.parametrize("poa", [0.0, -3.0])
def test_ac_power_at_night_is_zero(poa):
    assert pv.ac_power_kw(PV, poa, 15.0) == 0.0


def test_ac_power_of_a_missing_value_is_missing():
    assert np.isnan(pv.ac_power_kw(PV, float("nan"), 20.0))
    assert np.isnan(pv.ac_power_kw(PV, np.array([np.nan, 500.0]), 20.0)).tolist() == [True, False]


def test_ac_power_array_equals_scalar():
    poa = np.array([0.0, 100.0, 650.0, 1000.0, 1250.0])
    air = np.array([10.0, 15.0, 31.0, 20.0, 5.0])
    expected = [pv.ac_power_kw(PV, float(g), float(t)) for g, t in zip(poa, air, strict=True)]
    np.testing.assert_allclose(pv.ac_power_kw(PV, poa, air), expected, rtol=1e-14)


def test_cell_temperature_at_noct_conditions_is_noct():
    assert pv.cell_temp_degc(PV, 800.0, 20.0) == pytest.approx(45.0)


def test_cell_temperature_agrees_with_pvlib_ross():
    temperature = pytest.importorskip("pvlib.temperature")
    for poa, air in ((200.0, 5.0), (800.0, 20.0), (1050.0, 38.0)):
        assert pv.cell_temp_degc(PV, poa, air) == pytest.approx(temperature.ross(poa, air, noct=45.0))


def test_ac_power_below_clipping_agrees_with_pvlib_pvwatts():
    pvsystem = pytest.importorskip("pvlib.pvsystem")
    for poa, air in ((150.0, 5.0), (500.0, 20.0), (800.0, 35.0)):
        dc = pvsystem.pvwatts_dc(poa, pv.cell_temp_degc(PV, poa, air), 700.0, -0.0037)
        assert pv.ac_power_kw(PV, poa, air) == pytest.approx(float(dc) * 0.9)


def test_step_reconnects_after_unbroken_healthy_time():
    unit = pv.TRIPPED
    for _ in range(59):
        unit = pv.step(PV, unit, True, 1.0)
    assert not unit.producing
    assert not pv.step(PV, pv.step(PV, unit, False, 1.0), True, 1.0).producing
    assert pv.step(PV, unit, True, 1.0).producing
