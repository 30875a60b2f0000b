"""Pieces of the plant's own curves as arrays: a battery's losses, a genset's fuel."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from ems.assets import BatteryParams, GensetParams
from ems.timegrid import BoolArray, FloatArray
from plant_models import linearize


@dataclass(frozen=True, slots=True)
class BatterySegments:
    """kW stored (charging) or drawn (discharging) per kW AC, piece by piece; as many pieces each way.

    What is stored does not rise from piece to piece, what is drawn does not fall, but over the edges that are
    bent.
    """

    charge_width_kw: FloatArray
    charge_stored_per_kw: FloatArray
    discharge_width_kw: FloatArray
    discharge_drawn_per_kw: FloatArray
    bent: BoolArray  # (2, K - 1) charge and discharge, of each edge between pieces


@dataclass(frozen=True, slots=True)
class FuelSegments:
    """Fuel at minimum load, and slope and width of each piece above it; slopes do not fall."""

    idle_l_h: float  # at minimum load
    width_kw: FloatArray
    slope_l_kwh: FloatArray


@lru_cache(maxsize=64)
def battery_segments(params: BatteryParams, pieces: int, fit_ratio: float = 0.0) -> BatterySegments:
    """Chords of the conversion loss, or the stretches of a loss curve; one piece where the loss is linear."""
    straight = params.loss_charge_pu == 0.0 and params.loss_discharge_pu == 0.0
    ways = linearize.battery_segments(params, 1 if straight else pieces, fit_ratio)
    most = max(len(x.widths_kw) for x in ways)
    widths, slopes, bent = np.zeros((2, most)), np.zeros((2, most)), np.zeros((2, most - 1), dtype=np.bool_)
    for way, x in enumerate(ways):
        own = len(x.widths_kw)
        widths[way, :own], slopes[way, :own], slopes[way, own:] = x.widths_kw, x.slopes, x.slopes[-1]
        bent[way, : own - 1] = x.bent
    return BatterySegments(
        charge_width_kw=widths[0],
        charge_stored_per_kw=1.0 - slopes[0],
        discharge_width_kw=widths[1],
        discharge_drawn_per_kw=1.0 + slopes[1],
        bent=bent,
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
