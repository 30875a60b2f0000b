"""What each phase carries: our sources are balanced, the load is shared as its feeders say.

Tied, the grid carries what the load has more of one phase; in an island those that form it, gensets by their
rating. The other phases of that source carry less.
"""

import math
from collections.abc import Mapping

from ems.phases import CURRENT_OF_PHASE, EVEN, PHASES, POWER_OF_PHASE
from ems.points import GensetState
from ems.site import Site
from plant_models.state import PlantFlows


def phase_readings(site: Site, flows: PlantFlows) -> dict[str, float]:
    """Power of each phase (and current, at the POI) of every asset whose phases are read."""
    phased = site.phased()
    if not phased:
        return {}
    uneven = _uneven_kw(site, flows)
    carried = _carried(site, flows)
    totals_kw = {site.grid.id: flows.grid_p_kw, **flows.bess_p_kw, **flows.genset_p_kw}
    out: dict[str, float] = {}
    for asset in phased:
        share = carried.get(asset, 0.0)
        powers = [totals_kw[asset] / 3.0 + share * kw for kw in uneven]
        out |= {f"{asset}.{name}": kw for name, kw in zip(POWER_OF_PHASE, powers, strict=True)}
        if asset == site.grid.id:
            volts = flows.poi_v_pu * site.grid.v_nominal_v / math.sqrt(3.0)
            for name, kw in zip(CURRENT_OF_PHASE, powers, strict=True):
                va = 1000.0 * math.hypot(kw, flows.grid_q_kvar / 3.0)
                out[f"{asset}.{name}"] = va / volts if volts > 0.0 else 0.0
    return out


def _uneven_kw(site: Site, flows: PlantFlows) -> list[float]:
    """What each phase of the load takes beyond a third of it [kW]."""
    return [
        math.fsum(flows.feeder_p_kw[f.id] * (f.phase_share[n - 1] - EVEN[n - 1]) for f in site.feeders)
        for n in PHASES
    ]


def _carried(site: Site, flows: PlantFlows) -> Mapping[str, float]:
    """Which part of that each source carries."""
    if flows.grid_closed:
        return {site.grid.id: 1.0}
    if flows.forming is None:
        return {}
    rated_kw = {g.id: g.p_rated_kw for g in site.gensets if flows.genset_state[g.id] is GensetState.RUNNING}
    if flows.forming not in rated_kw:
        return {flows.forming: 1.0}
    whole_kw = math.fsum(rated_kw.values())
    return {g: kw / whole_kw for g, kw in rated_kw.items()}
