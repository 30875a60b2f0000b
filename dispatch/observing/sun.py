"""Whether the sun can shine: the one thing about PV that is known without any device."""

import math
from datetime import UTC, datetime, timedelta

J2000 = datetime(2000, 1, 1, 12, 0, tzinfo=UTC)
DARK_DEG = -2.0  # below it there is no PV; refraction and height of the horizon included


def elevation_deg(at: datetime, latitude_deg: float, longitude_deg: float) -> float:
    """Height of the sun over the horizon, without refraction, within 0.1 degrees [deg].

    Notes
    -----
    The Astronomical Almanac's low-precision formulas for the sun's coordinates.
    """
    days = (at - J2000) / timedelta(days=1)
    anomaly = math.radians(357.529 + 0.98560028 * days)
    mean_deg = 280.459 + 0.98564736 * days
    ecliptic = math.radians(mean_deg + 1.915 * math.sin(anomaly) + 0.020 * math.sin(2.0 * anomaly))
    tilt = math.radians(23.439 - 3.6e-7 * days)
    ascension = math.atan2(math.cos(tilt) * math.sin(ecliptic), math.cos(ecliptic))
    declination = math.asin(math.sin(tilt) * math.sin(ecliptic))
    sidereal_deg = 15.0 * (18.697374558 + 24.06570982441908 * days)
    hour = math.radians(sidereal_deg + longitude_deg) - ascension
    lat = math.radians(latitude_deg)
    sine = math.sin(lat) * math.sin(declination) + math.cos(lat) * math.cos(declination) * math.cos(hour)
    return math.degrees(math.asin(max(-1.0, min(1.0, sine))))


def dark(at: datetime, latitude_deg: float, longitude_deg: float) -> bool:
    """Whether it is night for certain."""
    return elevation_deg(at, latitude_deg, longitude_deg) < DARK_DEG
