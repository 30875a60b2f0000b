"""Without the meter or without a known grid mode: what is safe in either."""

from collections.abc import Mapping

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.balance import split
from dispatch.protections.bus import Bus
from dispatch.protections.power_parts import Power, genset_targets, limit_pv, set_gensets
from dispatch.vocabulary import Target, Targets
from ems.commands import Cause

MEASURED_RATIO = 0.8  # of the measured load: it may fall before the next cycle
CARRIED_RATIO = 0.95  # of the rating of the sets on load: what they may be left alone with


def blind(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    wishes: Targets,
    runs: Mapping[str, Target],
    why: str,
) -> Power:
    """Without the mode: no discharge but what sets on load cannot do without, PV under the measured load."""
    known = not any(p in observed.substituted for p in (layout.p[f] for f in layout.feeders))
    load_kw = sum(observed.condition.feeder_kw.values()) if known else 0.0
    alone = bool(bus.running) and not bus.forming_bess
    keep_kw = max(0.0, load_kw - CARRIED_RATIO * bus.genset_rated_kw) if alone else 0.0
    giving_kw = {b: max(0.0, observed.condition.bess[b].p_kw) for b in bus.following_bess}
    kept_kw = split(keep_kw, giving_kw)
    return _under(layout, bus, wishes, runs, why, MEASURED_RATIO * load_kw, kept_kw)


def blind_meter(
    layout: Layout, observed: Observed, bus: Bus, wishes: Targets, runs: Mapping[str, Target]
) -> Power:
    """Tied without the meter at the POI: no more than the load that is always there, by the site file.

    Meters of feeders do not replace it: what they do not see would go into the grid.
    """
    why = "the meter at the POI is lost"
    return _under(layout, bus, wishes, runs, why, layout.site.grid.load_guaranteed_kw, {})


def _under(
    layout: Layout,
    bus: Bus,
    wishes: Targets,
    runs: Mapping[str, Target],
    why: str,
    load_kw: float,
    kept_kw: Mapping[str, float],
) -> Power:
    """Batteries rest or give `kept_kw`, gensets go to minimum load, PV takes what these leave of a load.

    Where the sets carry an island, a battery that rested at once would overload them. Where the grid is
    there, what is kept and the sets at minimum load together are less than the load.
    """
    out = Power(why=why)
    for b in bus.following_bess:
        kw = kept_kw.get(b, 0.0)
        does = "the battery rests" if kw == 0.0 else "the sets on load cannot carry the load alone"
        out.bess[b] = Target(value=kw, cause=Cause.PROTECTION, reason=f"{why}: {does}")
    targets = {g: t for g, t in genset_targets(layout, bus, wishes, runs).items() if t > 0.0}
    for g in targets:
        targets[g] = layout.gensets[g].p_min_kw
    set_gensets(out, wishes, targets, f"{why}: minimum load")
    unheard_kw = max(bus.unheard_kw, sum(layout.gensets[g].p_min_kw for g in bus.unheard))
    left_kw = load_kw - sum(targets.values()) - sum(kept_kw.values()) - unheard_kw - bus.surge_kw
    limit_pv(layout, out, bus, left_kw, f"{why}: PV stays under {load_kw:.0f} kW of load")
    return out
