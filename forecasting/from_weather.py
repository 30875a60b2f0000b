"""PV from a weather forecast: irradiance on the horizontal as a share of what would arrive without air.

That share (the clearness index) is what a forecast by the hour knows; the course within the hour is the
sun's, also in the hour in which it rises.
"""

from dataclasses import dataclass

import numpy as np

from ems.assets import PvParams
from ems.series import UniformSeries
from ems.timegrid import FloatArray
from forecasting.slots import SLOT_S, epoch_s
from forecasting.sun import SunVector, sun_vector
from plant_models.pv import ac_power_kw

SOLAR_W_M2 = 1361.0  # G. Kopp and J. L. Lean, Geophysical Research Letters 38, 2011
YEAR_S = 365.25 * 86400.0
FINE_S = 300.0
DARK_W_M2 = 5.0  # so little tells no share
CLEAR_MAX_RATIO = 1.2  # edges of clouds reflect
LOW_SINE = 0.05  # below 3 degrees the beam is not told from the rest
ALBEDO_RATIO = 0.25
AIR_DEGC = 20.0  # where no temperature is told


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a plant stands."""

    latitude_deg: float
    longitude_deg: float


def clearness(series: UniformSeries, place: Place) -> UniformSeries:
    """Irradiance on the horizontal [W/m2] as a share of that above the air; 0 in the dark, NaN stays NaN."""
    fine = max(1, round(series.step_s / FINE_S))
    within_s = (np.arange(fine) + 0.5) * series.step_s / fine
    at_s: FloatArray = (
        epoch_s(series.start) + np.arange(len(series.values))[:, None] * series.step_s + within_s[None, :]
    )
    flat_s = at_s.ravel()
    above = _above_w_m2(sun_vector(place.latitude_deg, place.longitude_deg, flat_s), flat_s)
    mean = above.reshape(at_s.shape).mean(axis=1)
    lit = mean > DARK_W_M2
    share = np.where(lit, np.asarray(series.values) / np.where(lit, mean, 1.0), series.values * 0.0)
    return UniformSeries(start=series.start, step_s=series.step_s, values=np.minimum(share, CLEAR_MAX_RATIO))


def pv_kw(
    params: PvParams, place: Place, lo: int, clear_ratio: FloatArray, air_degc: FloatArray
) -> FloatArray:
    """(T,) AC power before curtailment of the slots from `lo` on [kW]; NaN where the clearness is.

    Parameters
    ----------
    clear_ratio : (T,) clearness index of each slot.
    air_degc : (T,) temperature of the air; NaN: taken as 20 degC.

    Notes
    -----
    Diffuse share by D. G. Erbs, S. A. Klein, J. A. Duffie, Solar Energy 28(4), 1982, 293-302; isotropic sky
    by B. Y. H. Liu and R. C. Jordan, Solar Energy 7(2), 1963, 53-74, with a ground of albedo 0.25.
    """
    at_s = np.asarray((lo + np.arange(len(clear_ratio)) + 0.5) * float(SLOT_S), dtype=np.float64)
    sun = sun_vector(place.latitude_deg, place.longitude_deg, at_s)
    ghi = np.where(np.isfinite(clear_ratio), clear_ratio, 0.0) * _above_w_m2(sun, at_s)
    diffuse = ghi * _diffuse_ratio(np.where(np.isfinite(clear_ratio), clear_ratio, 0.0))
    high = sun.up > LOW_SINE
    beam = np.where(high, (ghi - diffuse) / np.where(high, sun.up, 1.0), 0.0)
    diffuse = np.where(high, diffuse, ghi)
    tilt, azimuth = np.deg2rad(params.tilt_deg), np.deg2rad(params.azimuth_deg)
    onto = (
        sun.east * np.sin(tilt) * np.sin(azimuth)
        + sun.north * np.sin(tilt) * np.cos(azimuth)
        + sun.up * np.cos(tilt)
    )
    sky, ground = (1.0 + np.cos(tilt)) / 2.0, (1.0 - np.cos(tilt)) / 2.0
    plane = beam * np.maximum(onto, 0.0) + diffuse * sky + ghi * ALBEDO_RATIO * ground
    power = ac_power_kw(params, plane, np.where(np.isfinite(air_degc), air_degc, AIR_DEGC))
    out: FloatArray = np.where(np.isfinite(clear_ratio), power, np.nan)
    return out


def _above_w_m2(sun: SunVector, at_s: FloatArray) -> FloatArray:
    """On the horizontal, above the air. J. W. Spencer, Search 2(5), 1971, to its first term."""
    distance = 1.0 + 0.033 * np.cos(2.0 * np.pi * at_s / YEAR_S)
    out: FloatArray = SOLAR_W_M2 * distance * np.maximum(sun.up, 0.0)
    return out


def _diffuse_ratio(k: FloatArray) -> FloatArray:
    middle = 0.9511 - 0.1604 * k + 4.388 * k**2 - 16.638 * k**3 + 12.336 * k**4
    out: FloatArray = np.where(k <= 0.22, 1.0 - 0.09 * k, np.where(k > 0.8, 0.165, middle))
    return out
