"""Voltage of the mains behind their impedance: worked back from what is measured at the interconnection."""

import math

import numpy as np

from ems.condition import PlantCondition
from ems.invariants import require_finite
from ems.site import GridMode, Site
from ems.timegrid import FloatArray, TimeGrid
from plant_models.grid import impedance_pu_per_kw

BELIEVED_H = 2.0  # a measured voltage is planned with for so long, then the site's own figure


def source_voltage(site: Site, condition: PlantCondition, grid: TimeGrid, notes: list[str]) -> FloatArray:
    """(T,) [pu]; empty where reactive power is not planned.

    V0 = |V + (R + jX) (P - jQ) / V| from voltage and power at the POI; an island with good mains measures V0
    itself. Without a measured voltage, or with one outside the mains' quality band, the site's figure holds.

    Raises
    ------
    BadValue : a measured value is not finite.
    """
    policy = site.grid.reactive
    if policy is None:
        return np.ones(0)
    out = np.full(len(grid), policy.v_source_pu)
    v_pu = condition.grid_v_pu
    tied = condition.grid_mode is GridMode.GRID_TIED
    if v_pu is None or not (tied or condition.mains_good):
        return out
    require_finite("voltage at the interconnection", v_pu)
    if not site.grid.v_min_pu <= v_pu <= site.grid.v_max_pu:
        notes.append(
            f"voltage at the interconnection {v_pu:.3f} pu is outside the quality band: not planned with"
        )
        return out
    r, x = impedance_pu_per_kw(site.grid)
    p_kw, q_kvar = 0.0, 0.0
    if tied:
        p_kw = 0.0 if condition.grid_p_kw is None else require_finite("power at the POI", condition.grid_p_kw)
        q_kvar = _drawn_kvar(site, condition)
    behind = complex(v_pu, 0.0) + complex(r, x) * complex(p_kw, -q_kvar) / v_pu
    out[grid.offset_s[:-1] < BELIEVED_H * 3600.0] = abs(behind)
    return out


def _drawn_kvar(site: Site, condition: PlantCondition) -> float:
    """Reactive power drawn at the POI: measured, else that of the fed load by its power factor [kvar]."""
    if condition.grid_q_kvar is not None:
        return require_finite("reactive power at the POI", condition.grid_q_kvar)
    tangent = {f.id: math.sqrt(1.0 / f.power_factor_ratio**2 - 1.0) for f in site.feeders}
    return math.fsum(kw * tangent[f] for f, kw in condition.feeder_kw.items() if f in tangent)
