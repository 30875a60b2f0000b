"""Without the meter or without a known grid mode: what is safe in either."""

from collections.abc import Mapping

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.bus import Bus
from dispatch.protections.power_parts import Power, genset_targets, limit_pv, set_gensets
from dispatch.vocabulary import Target, Targets
from ems.commands import Cause

MEASURED_RATIO = 0.8  # of the measured load: it may fall before the next cycle


def blind(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    wishes: Targets,
    runs: Mapping[str, Target],
    why: str,
) -> Power:
    """Without the mode: no discharge into the unknown, PV under the load that is measured."""
    known = not any(p in observed.substituted for p in (layout.p[f] for f in layout.feeders))
    load_kw = MEASURED_RATIO * sum(observed.condition.feeder_kw.values()) if known else 0.0
    return _under(layout, bus, wishes, runs, why, load_kw)


def blind_meter(
    layout: Layout, observed: Observed, bus: Bus, wishes: Targets, runs: Mapping[str, Target]
) -> Power:
    """Tied without the meter at the POI: no more than the load that is always there, by the site file.

    Meters of feeders do not replace it: what they do not see would go into the grid.
    """
    why = "the meter at the POI is lost"
    return _under(layout, bus, wishes, runs, why, layout.site.grid.load_guaranteed_kw)


def _under(
    layout: Layout, bus: Bus, wishes: Targets, runs: Mapping[str, Target], why: str, load_kw: float
) -> Power:
    """Batteries rest, gensets go to minimum load, PV takes what these leave of a load."""
    out = Power(why=why)
    for b in bus.following_bess:
        out.bess[b] = Target(value=0.0, cause=Cause.PROTECTION, reason=f"{why}: the battery rests")
    targets = {g: t for g, t in genset_targets(layout, bus, wishes, runs).items() if t > 0.0}
    for g in targets:
        targets[g] = layout.gensets[g].p_min_kw
    set_gensets(out, wishes, targets, f"{why}: minimum load")
    unheard_kw = max(bus.unheard_kw, sum(layout.gensets[g].p_min_kw for g in bus.unheard))
    left_kw = load_kw - sum(targets.values()) - unheard_kw - bus.surge_kw
    limit_pv(layout, out, bus, left_kw, f"{why}: PV stays under {load_kw:.0f} kW of load")
    return out
