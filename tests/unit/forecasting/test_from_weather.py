"""PV from irradiance, against pvlib's own sun, diffuse share and plane."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from ems.series import UniformSeries
from ems.timegrid import FloatArray
from forecasting.from_weather import Place, clearness, pv_kw
from forecasting.slots import slot_of, to_slots
from forecasting.sun import sin_elevation, sun_vector
from sim.weather import pv_from_weather
from tests.builders import site

START = datetime(2026, 6, 1, tzinfo=UTC)
COUNT = 3 * 96
AT_S = np.asarray(START.timestamp() + (np.arange(COUNT) + 0.5) * 900.0, dtype=np.float64)


def sky(latitude_deg: float, longitude_deg: float) -> FloatArray:
    """A mixed sky on quarter hours [W/m2]."""
    up = np.maximum(sin_elevation(latitude_deg, longitude_deg, AT_S), 0.0)
    clouds = 0.35 + 0.35 * np.abs(np.sin(np.arange(COUNT) / 37.0))
    out: FloatArray = 1361.0 * 0.97 * up * clouds
    return out


@pytest.mark.parametrize(
    ("latitude_deg", "longitude_deg", "tilt_deg", "azimuth_deg"),
    [
        (36.1, -79.95, 20.0, 180.0),
        (-1.3, 36.8, 10.0, 0.0),
        (52.0, 13.0, 35.0, 120.0),
        (-33.9, 18.4, 0.0, 0.0),
    ],
)
def test_quarter_hours_are_as_pvlib_has_them(
    latitude_deg: float, longitude_deg: float, tilt_deg: float, azimuth_deg: float
):
    plant = replace(site().pv[0], tilt_deg=tilt_deg, azimuth_deg=azimuth_deg)
    here = replace(site(), pv=(plant,), latitude_deg=latitude_deg, longitude_deg=longitude_deg)
    ghi = UniformSeries(start=START, step_s=900.0, values=sky(latitude_deg, longitude_deg))
    air = UniformSeries(start=START, step_s=900.0, values=np.full(COUNT, 25.0))
    oracle = pv_from_weather(here, ghi, air)[plant.id].values
    place = Place(latitude_deg=latitude_deg, longitude_deg=longitude_deg)
    clear = to_slots("x", clearness(ghi, place))
    ours = pv_kw(plant, place, clear.first, clear.values, air.values)
    above = sin_elevation(latitude_deg, longitude_deg, AT_S) > 0.1  # below, both cut the beam off
    assert np.abs(ours - oracle)[above].max() < 0.01 * plant.p_ac_kw
    assert abs(ours.sum() / oracle.sum() - 1.0) < 0.002


def test_hours_keep_their_energy_and_follow_the_sun_within():
    plant, place = site().pv[0], Place(latitude_deg=36.1, longitude_deg=-79.95)
    fine = UniformSeries(start=START, step_s=900.0, values=sky(36.1, -79.95))
    hours = UniformSeries(start=START, step_s=3600.0, values=fine.values.reshape(-1, 4).mean(axis=1))
    air = np.full(COUNT, 25.0)
    powers = []
    for series in (fine, hours):
        clear = to_slots("x", clearness(series, place))
        powers.append(pv_kw(plant, place, clear.first, clear.values, air))
    by_quarter, by_hour = powers
    assert abs(by_hour.sum() / by_quarter.sum() - 1.0) < 0.01
    held = np.repeat(by_hour.reshape(-1, 4).mean(axis=1), 4)
    assert np.abs(by_hour - by_quarter).mean() < 0.5 * np.abs(held - by_quarter).mean()


def test_gap_stays_a_gap_and_a_missing_temperature_is_twenty_degrees():
    plant, place = site().pv[0], Place(latitude_deg=36.1, longitude_deg=-79.95)
    values = sky(36.1, -79.95)
    values[60:64] = np.nan
    clear = clearness(UniformSeries(start=START, step_s=900.0, values=values), place)
    lo = slot_of(START)
    cold = pv_kw(plant, place, lo, clear.values, np.full(COUNT, 20.0))
    untold = pv_kw(plant, place, lo, clear.values, np.full(COUNT, np.nan))
    np.testing.assert_array_equal(cold, untold)
    assert np.isnan(cold[60:64]).all()
    assert np.isfinite(np.delete(cold, range(60, 64))).all()


def test_sun_as_a_vector_has_length_one_and_stands_as_high_as_it_does():
    sun = sun_vector(36.1, -79.95, AT_S)
    np.testing.assert_allclose(sun.east**2 + sun.north**2 + sun.up**2, 1.0)
    np.testing.assert_allclose(sun.up, sin_elevation(36.1, -79.95, AT_S))
    noon = int(np.argmax(sun.up))
    assert abs(sun.east[noon]) < 0.05
    assert sun.north[noon] < 0.0, "in the north the sun of noon stands south"
