"""Where the sun stands: enough to know night from day and high from low."""

from dataclasses import dataclass

import numpy as np

from ems.timegrid import FloatArray, IntArray
from forecasting.slots import SLOT_S

_J2000_S = 946728000.0  # 2000-01-01T12:00Z since 1970
_HORIZON = -0.0145  # sine of -0.833 deg: upper limb of the disc and refraction


@dataclass(frozen=True, slots=True, kw_only=True)
class SunVector:
    """Where the sun stands, as a vector of length 1: (T,) parts to the east, to the north and up."""

    east: FloatArray  # ratio
    north: FloatArray  # ratio
    up: FloatArray  # ratio


def sun_vector(latitude_deg: float, longitude_deg: float, at_s: FloatArray) -> SunVector:
    """Direction to the sun at times in seconds since 1970 UTC; its source is that of `sin_elevation`."""
    declination, hour_angle = _angles(longitude_deg, at_s)
    latitude = np.deg2rad(latitude_deg)
    cos_d, sin_d, cos_h = np.cos(declination), np.sin(declination), np.cos(hour_angle)
    return SunVector(
        east=-cos_d * np.sin(hour_angle),
        north=np.cos(latitude) * sin_d - np.sin(latitude) * cos_d * cos_h,
        up=np.sin(latitude) * sin_d + np.cos(latitude) * cos_d * cos_h,
    )


def sin_elevation(latitude_deg: float, longitude_deg: float, at_s: FloatArray) -> FloatArray:
    """Sine of the sun's elevation at times given in seconds since 1970 UTC.

    Notes
    -----
    Low-precision formula of the Astronomical Almanac, section C (good to about 0.01 deg from 1950 to 2050).
    """
    declination, hour_angle = _angles(longitude_deg, at_s)
    latitude = np.deg2rad(latitude_deg)
    out: FloatArray = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(
        declination
    ) * np.cos(hour_angle)
    return out


def _angles(longitude_deg: float, at_s: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Declination and hour angle [rad]."""
    n = (at_s - _J2000_S) / 86400.0
    mean_longitude = np.deg2rad(280.460 + 0.9856474 * n)
    anomaly = np.deg2rad(357.528 + 0.9856003 * n)
    ecliptic = mean_longitude + np.deg2rad(1.915) * np.sin(anomaly) + np.deg2rad(0.020) * np.sin(2 * anomaly)
    obliquity = np.deg2rad(23.439 - 4e-7 * n)
    declination = np.arcsin(np.sin(obliquity) * np.sin(ecliptic))
    ascension = np.arctan2(np.cos(obliquity) * np.sin(ecliptic), np.cos(ecliptic))
    sidereal = np.deg2rad(280.46062 + 360.98564737 * n + longitude_deg)
    return declination, sidereal - ascension


class Sun:
    """Sun over a site, per slot, remembered day by day."""

    def __init__(self, latitude_deg: float, longitude_deg: float) -> None:
        self._latitude_deg = latitude_deg
        self._longitude_deg = longitude_deg
        self._days: dict[int, tuple[FloatArray, FloatArray]] = {}

    def middle(self, slots: IntArray) -> FloatArray:
        """Sine of the elevation at the middle of each slot."""
        return self._get(slots)[0]

    def is_up(self, slots: IntArray) -> FloatArray:
        """1 where the sun is above the horizon at some time of the slot, else 0."""
        return self._get(slots)[1]

    def _get(self, slots: IntArray) -> tuple[FloatArray, FloatArray]:
        lo, hi = int(slots[0]), int(slots[-1]) + 1
        days = range(lo // 96, (hi - 1) // 96 + 1)
        parts = [self._day(d) for d in days]
        cut = slice(lo - days[0] * 96, hi - days[0] * 96)
        return np.concatenate([p[0] for p in parts])[cut], np.concatenate([p[1] for p in parts])[cut]

    def _day(self, day: int) -> tuple[FloatArray, FloatArray]:
        if day not in self._days:
            half = (np.arange(2 * 96 + 1) / 2.0 + day * 96.0) * SLOT_S
            height = sin_elevation(self._latitude_deg, self._longitude_deg, half)
            highest = np.maximum(np.maximum(height[:-2:2], height[1::2]), height[2::2])
            self._days[day] = height[1::2], (highest > _HORIZON).astype(float)
        return self._days[day]
