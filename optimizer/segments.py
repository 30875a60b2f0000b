"""Pieces of the plant's own curves as arrays: a battery's losses, a genset's fuel."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from ems.assets import BatteryParams, GensetParams
from ems.timegrid import FloatArray
from plant_models import linearize


@dataclass(frozen=True, slots=True)
class BatterySegments:
    """kW stored (charging) or drawn (discharging) per kW AC, piece by piece."""

    charge_width_kw: FloatArray
    charge_stored_per_kw: FloatArray  # does not rise
    discharge_width_kw: FloatArray
    discharge_drawn_per_kw: FloatArray  # does not fall


@dataclass(frozen=True, slots=True)
class FuelSegments:
    """Fuel at minimum load, and slope and width of each piece above it; slopes do not fall."""

    idle_l_h: float  # at minimum load
    width_kw: FloatArray
    slope_l_kwh: FloatArray


@lru_cache(maxsize=64)
def battery_segments(params: BatteryParams, pieces: int) -> BatterySegments:
    """Chords of the conversion loss; one piece where the loss is linear."""
    straight = params.loss_charge_pu == 0.0 and params.loss_discharge_pu == 0.0
    charge, discharge = linearize.battery_segments(params, 1 if straight else pieces)
    return BatterySegments(
        charge_width_kw=np.array(charge.widths_kw),
        charge_stored_per_kw=1.0 - np.array(charge.slopes),
        discharge_width_kw=np.array(discharge.widths_kw),
        discharge_drawn_per_kw=1.0 + np.array(discharge.slopes),
    )


@dataclass(frozen=True, slots=True)
class PowerCut:
    """One stretch of a table of power over SoC: power is at most `at_empty_kw` + `slope_kw_kwh` * stored."""

    charge: bool
    at_empty_kw: float
    slope_kw_kwh: float


def power_cuts(params: BatteryParams) -> list[PowerCut]:
    """Lines of a concave table of power over SoC; those that never bind are left out."""
    out = []
    for a, b in pairwise(params.power_by_soc):
        for charge, low, high, top in (
            (True, a.charge_ratio, b.charge_ratio, params.p_charge_kw_max),
            (False, a.discharge_ratio, b.discharge_ratio, params.p_discharge_kw_max),
        ):
            if min(low, high) >= 1.0:
                continue
            slope = top * (high - low) / ((b.soc - a.soc) * params.energy_kwh)
            out.append(PowerCut(charge, top * low - slope * a.soc * params.energy_kwh, slope))
    return out


@lru_cache(maxsize=64)
def fuel_segments(params: GensetParams) -> FuelSegments:
    """Convex pieces of the part-load curve between minimum load and rating."""
    curve = linearize.genset_fuel_segments(params)
    return FuelSegments(
        idle_l_h=curve.y0, width_kw=np.array(curve.widths_kw), slope_l_kwh=np.array(curve.slopes)
    )
