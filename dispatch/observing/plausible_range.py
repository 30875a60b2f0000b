"""What a point may read where no map says: from its unit and the rating of its asset.

A sentinel (0x8000, 0xFFFF, 1e38) that a driver lets through as a number is outside these ranges. A point map
always states its own range, and that one counts.
"""

import math
from collections.abc import Mapping

from ems.points import POINTS, Access, AssetKind, BessState, GensetState, point_id
from ems.site import Site

POWER_RATIO = 2.0  # of the rating: overload, inrush and the error of a meter are inside
PU_MAX = 2.0
HZ_MAX = 100.0
AMPS_MAX = 20_000.0
DEGC = (-60.0, 150.0)
RUN_H_MAX = 1e6
ENGINE = {"rpm": (0.0, 1e4), "kPa": (-100.0, 5e3), "L/h": (0.0, 5e3), "V": (0.0, 1e3)}
_STATES = {AssetKind.BESS: len(BessState), AssetKind.GENSET: len(GensetState), AssetKind.PV: 2}


def default_ranges(site: Site) -> dict[str, tuple[float, float]]:
    """Plausible (low, high) of every point that can be read, in the point's unit."""
    ratings_kw, tanks_l = _ratings_kw(site), {g.id: g.tank_l for g in site.gensets}
    out: dict[str, tuple[float, float]] = {}
    for asset, kind in site.asset_kinds().items():
        power_kw = POWER_RATIO * ratings_kw.get(asset, math.inf)
        by_unit = {
            "kW": (-power_kw, power_kw),
            "kvar": (-power_kw, power_kw),
            "pu": (0.0, PU_MAX),
            "Hz": (0.0, HZ_MAX),
            "A": (0.0, AMPS_MAX),
            "degC": DEGC,
            "h": (0.0, RUN_H_MAX),
            **ENGINE,
        }
        tank_l = tanks_l.get(asset)
        by_unit["L"] = (0.0, math.inf if tank_l is None else POWER_RATIO * tank_l)
        for spec in POINTS[kind]:
            if spec.access is Access.READ and spec.name != "limits_heartbeat":
                own = (0.0, _STATES[kind] - 1.0) if spec.name == "state" else (0.0, 1.0)
                out[point_id(asset, spec.name)] = by_unit.get(spec.unit, own)
    return out


def _ratings_kw(site: Site) -> Mapping[str, float]:
    """What an asset may carry at its best [kW]; what consumers draw is bounded by their sources alone."""
    grid = site.grid
    out = {b.id: max(b.pcs.s_kva, b.battery.p_nominal_kw) for b in site.bess}
    out |= {g.id: max(g.s_kva, g.p_rated_kw) for g in site.gensets}
    out |= {p.id: p.p_ac_kw for p in site.pv}
    sources_kw = math.fsum(out.values()) + grid.p_import_kw_max
    out[grid.id] = max(sources_kw, grid.p_export_kw_max) + math.fsum(f.p_peak_kw for f in site.feeders)
    out |= {f.id: sources_kw + f.p_peak_kw for f in site.feeders}
    return out
