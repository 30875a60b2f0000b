"""What to expect of a feeder or a PV plant nobody has measured yet: level 0 of the ladder.

The load shape is a generic one (a quiet night, a working day, an evening peak), in shares of the feeder's
peak; it says nothing about a particular site and is named in `Forecast.repairs` wherever it is used.
"""

import numpy as np

from ems.assets import PvParams
from ems.timegrid import FloatArray, IntArray
from forecasting.slots import SLOTS_PER_DAY

_HOURLY_SHARE = np.array(
    [
        0.42, 0.40, 0.39, 0.39, 0.41, 0.46, 0.53, 0.60, 0.65, 0.68, 0.70, 0.71,
        0.70, 0.69, 0.68, 0.67, 0.68, 0.72, 0.80, 0.85, 0.82, 0.72, 0.59, 0.48,
    ]
)  # fmt: skip
_WEEKEND_RATIO = 0.9
_MEAN_CLEARNESS_RATIO = 0.65  # a mixed sky, not a clear one


def load_shape(local_slot: IntArray, day_type: IntArray) -> FloatArray:
    """Share of the feeder's peak by local slot of day and day type, 0 to 1."""
    hours = (np.arange(SLOTS_PER_DAY) + 0.5) / 4.0
    profile = np.interp(hours, np.arange(25) + 0.0, np.append(_HOURLY_SHARE, _HOURLY_SHARE[0]))
    out: FloatArray = profile[local_slot] * np.where(day_type == 0, 1.0, _WEEKEND_RATIO)
    return out


def pv_clear_kw(params: PvParams, sin_elevation: FloatArray) -> FloatArray:
    """Clear-sky-like AC power from the nameplate and the sun's height [kW].

    Notes
    -----
    Haurwitz clear-sky global irradiance, 1098 cos z exp(-0.057 / cos z) W/m2 (B. Haurwitz, Insolation in
    relation to cloudiness and cloud density, Journal of Meteorology 2, 1945, 154-166), taken as if the
    modules lay flat.
    """
    up = np.maximum(sin_elevation, 1e-3)
    irradiance = np.where(sin_elevation > 0.0, 1098.0 * up * np.exp(-0.057 / up), 0.0)
    power = params.p_dc_kwp * irradiance / 1000.0 * (1.0 - params.system_loss_ratio)
    return np.minimum(power, params.p_ac_kw)


def pv_typical_kw(params: PvParams, sin_elevation: FloatArray) -> FloatArray:
    """Mixed-sky AC power from the nameplate [kW]."""
    return _MEAN_CLEARNESS_RATIO * pv_clear_kw(params, sin_elevation)
