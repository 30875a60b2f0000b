"""PV truth from a typical year that comes with pvlib, made finer than an hour. Only here sim uses pvlib."""

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pvlib

from ems.assets import PvParams
from ems.errors import DataError
from ems.series import UniformSeries
from ems.site import Site
from ems.timegrid import FloatArray
from plant_models.pv import ac_power_kw

DEFAULT_STATION = "723170TYA.CSV"
LINKE_TURBIDITY = 3.0
HOURS = 8760
LOW_SUN_W_M2 = 30.0  # below: the clear-sky index of an hour means nothing
VARIABILITY = 0.3  # standard deviation of the clear-sky index under broken cloud
CLOUD_TIME_S = 420.0  # correlation time of passing clouds over a plant of some hectares


@dataclass(frozen=True, slots=True, kw_only=True)
class TypicalYear:
    """8760 hours in the station's standard time, labelled by their start."""

    station: str
    clear_sky_ratio: FloatArray  # (8760,) GHI over clear-sky GHI
    diffuse_ratio: FloatArray  # (8760,) diffuse share of GHI
    temp_air_degc: FloatArray  # (8760,)
    utc_offset_h: float


@cache
def typical_year(station: str = DEFAULT_STATION) -> TypicalYear:
    """Read a TMY3 file of pvlib's own data folder.

    Raises
    ------
    DataError : there is no such file in the installed pvlib.

    Notes
    -----
    TMY3 labels an hour by its end: S. Wilcox and W. Marion, "Users Manual for TMY3 Data Sets",
    NREL/TP-581-43156, 2008.
    """
    path = Path(pvlib.__file__).parent / "data" / station
    if not path.is_file():
        raise DataError(f"pvlib {pvlib.__version__} has no weather file {station} ({path})")
    data, meta = pvlib.iotools.read_tmy3(path, map_variables=True)
    ghi, dhi, temp = (data[c].to_numpy(dtype=np.float64) for c in ("ghi", "dhi", "temp_air"))
    starts = pd.date_range("2023-01-01", periods=HOURS * 4, freq="15min", tz=data.index.tz)
    middle = starts + pd.Timedelta(minutes=7.5)
    sun = sun_position(middle, meta["latitude"], meta["longitude"])
    sky = clear_sky_w_m2(sun[0], meta["altitude"])
    clear = sky.reshape(HOURS, 4).mean(axis=1)
    return TypicalYear(
        station=f"{meta['Name'].strip(chr(34))} {meta['State']} (TMY3 {meta['USAF']})",
        clear_sky_ratio=_filled(np.clip(ghi / np.maximum(clear, 1e-3), 0.0, 1.1), clear > LOW_SUN_W_M2),
        diffuse_ratio=_filled(np.clip(dhi / np.maximum(ghi, 1e-3), 0.0, 1.0), ghi > LOW_SUN_W_M2),
        temp_air_degc=temp,
        utc_offset_h=float(meta["TZ"]),
    )


def _filled(values: FloatArray, good: np.ndarray) -> FloatArray:
    """Between good hours, straight lines (a night joins the evening to the morning)."""
    at = np.arange(len(values))
    return np.asarray(np.interp(at, at[good], values[good]), dtype=np.float64)


def sun_position(
    times: pd.DatetimeIndex, latitude_deg: float, longitude_deg: float
) -> tuple[FloatArray, FloatArray]:
    """Apparent zenith and azimuth of the sun at aware times [deg]."""
    sun = pvlib.solarposition.get_solarposition(times, latitude_deg, longitude_deg)
    return sun["apparent_zenith"].to_numpy(), sun["azimuth"].to_numpy()


def clear_sky_w_m2(zenith: FloatArray, altitude_m: float) -> FloatArray:
    """Clear-sky global horizontal irradiance (Ineichen and Perez 2002, fixed turbidity) [W/m^2]."""
    up = zenith < 90.0
    relative = pvlib.atmosphere.get_relative_airmass(np.where(up, zenith, 89.0))
    airmass = pvlib.atmosphere.get_absolute_airmass(relative, pvlib.atmosphere.alt2pres(altitude_m))
    with np.errstate(all="ignore"):  # its beam part divides by zero at this altitude; only GHI is used
        sky = pvlib.clearsky.ineichen(zenith, airmass, LINKE_TURBIDITY, altitude_m)
    return np.where(up, np.nan_to_num(np.asarray(sky["ghi"], dtype=np.float64)), 0.0)


def pv_truth(
    site: Site, start: datetime, end: datetime, step_s: float, seed: int
) -> dict[str, UniformSeries]:
    """AC power each PV plant of a site could give in [start, end), from the typical year of its station [kW].

    Notes
    -----
    Hourly clear-sky index and diffuse share of the typical year, by day of year and local standard time, on
    the site's own clear sky; passing clouds as a seeded first-order process, strongest at a medium index;
    isotropic sky on the tilted plane; temperature of the typical year.
    """
    station = DEFAULT_STATION if site.weather is None else site.weather.station
    year = typical_year(station)
    count = round((end - start).total_seconds() / step_s)
    times = pd.date_range(start, periods=count, freq=pd.Timedelta(seconds=step_s)).tz_convert("UTC")
    middle = times + pd.Timedelta(seconds=step_s / 2.0)
    hour = _hour_of_year(middle, site.longitude_deg if site.weather is None else 15.0 * year.utc_offset_h)
    sun = sun_position(middle, site.latitude_deg, site.longitude_deg)
    clear = clear_sky_w_m2(sun[0], site.altitude_m)
    index = _between_hours(year.clear_sky_ratio, hour)
    ghi = clear * _clouds(index, step_s, seed)
    dhi = ghi * _between_hours(year.diffuse_ratio, hour)
    temp = _between_hours(year.temp_air_degc, hour)
    out = {}
    for plant in site.pv:
        poa = _plane_w_m2(plant, sun, ghi, dhi)
        out[plant.id] = UniformSeries(start=start, step_s=step_s, values=ac_power_kw(plant, poa, temp))
    return out


def pv_from_weather(site: Site, ghi: UniformSeries, temp_air: UniformSeries) -> dict[str, UniformSeries]:
    """AC power each PV plant could give under a measured horizontal irradiance and air temperature [kW].

    Notes
    -----
    Diffuse share by D. G. Erbs, S. A. Klein, J. A. Duffie, Solar Energy 28(4), 1982; isotropic sky.
    """
    half = pd.Timedelta(seconds=ghi.step_s / 2.0)
    step = pd.Timedelta(seconds=ghi.step_s)
    middle = pd.date_range(ghi.start, periods=len(ghi.values), freq=step).tz_convert("UTC") + half
    sun = sun_position(middle, site.latitude_deg, site.longitude_deg)
    values = np.maximum(ghi.values, 0.0)
    dhi = np.asarray(pvlib.irradiance.erbs(values, sun[0], middle)["dhi"], dtype=np.float64)
    out = {}
    for plant in site.pv:
        poa = _plane_w_m2(plant, sun, values, dhi)
        power = ac_power_kw(plant, poa, temp_air.values)
        out[plant.id] = UniformSeries(start=ghi.start, step_s=ghi.step_s, values=power)
    return out


def weather_label(site: Site) -> str:
    """Where the PV truth comes from, in words."""
    station = DEFAULT_STATION if site.weather is None else site.weather.station
    return (
        f"typical meteorological year of {typical_year(station).station} from pvlib, mapped by day of year, "
        "with seeded passing clouds; not a measured year"
    )


def _plane_w_m2(
    plant: PvParams, sun: tuple[FloatArray, FloatArray], ghi: FloatArray, dhi: FloatArray
) -> FloatArray:
    zenith, azimuth = sun
    cos_zenith = np.cos(np.radians(zenith))
    high = cos_zenith > 0.05
    beam = np.where(high, (ghi - dhi) / np.where(high, cos_zenith, 1.0), 0.0)
    diffuse = np.where(high, dhi, ghi)
    total = pvlib.irradiance.get_total_irradiance(
        plant.tilt_deg, plant.azimuth_deg, zenith, azimuth, np.clip(beam, 0.0, 1100.0), ghi, diffuse,
        model="isotropic",
    )  # fmt: skip
    return np.nan_to_num(np.asarray(total["poa_global"], dtype=np.float64))


def _hour_of_year(times: pd.DatetimeIndex, meridian_deg: float) -> FloatArray:
    """Fractional hour of a year of 365 days in local standard time; 29 February repeats the 28th."""
    local = times + pd.Timedelta(hours=meridian_deg / 15.0)
    day = local.day_of_year.to_numpy() - 1
    late = local.is_leap_year & (day >= 59)
    day = np.where(late, day - 1, day)
    seconds = local.hour * 3600 + local.minute * 60 + local.second
    return np.asarray(day * 24.0 + seconds.to_numpy() / 3600.0, dtype=np.float64)


def _between_hours(hourly: FloatArray, hour: FloatArray) -> FloatArray:
    """Straight lines between the middles of the hours, round the turn of the year."""
    at = np.arange(-1, HOURS + 1) + 0.5
    values = np.concatenate([hourly[-1:], hourly, hourly[:1]])
    return np.asarray(np.interp(hour, at, values), dtype=np.float64)


def _clouds(index: FloatArray, step_s: float, seed: int) -> FloatArray:
    noise = ar1(np.random.default_rng([seed, 1]), len(index), np.exp(-step_s / CLOUD_TIME_S))
    broken = np.clip(4.0 * (index / 1.1) * (1.0 - index / 1.1), 0.0, 1.0)
    out: FloatArray = np.clip(index * (1.0 + VARIABILITY * broken * noise), 0.03, 1.15)
    return out


def ar1(rng: np.random.Generator, count: int, memory: float) -> FloatArray:
    """(count,) first-order autoregressive noise of mean 0 and standard deviation 1."""
    kicks = rng.standard_normal(count) * np.sqrt(1.0 - memory**2)
    out = np.empty(count)
    value = float(rng.standard_normal())
    for i, kick in enumerate(kicks.tolist()):
        value = memory * value + kick
        out[i] = value
    return out
