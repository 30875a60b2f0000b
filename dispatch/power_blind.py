"""Without the meter or without a known grid mode: what is safe in either."""

from collections.abc import Mapping

from dispatch.condition import Observed
from dispatch.island import Bus
from dispatch.layout import Layout
from dispatch.power_parts import Power, genset_targets, limit_pv, set_gensets
from dispatch.vocabulary import Target, Targets
from ems.commands import Cause


def blind(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    wishes: Targets,
    runs: Mapping[str, Target],
    why: str,
) -> Power:
    """Without the meter or the mode: no discharge into the unknown, PV under the load that is measured."""
    out = Power(why=why)
    for b in bus.following_bess:
        out.bess[b] = Target(value=0.0, cause=Cause.PROTECTION, reason=f"{why}: the battery rests")
    known = not any(p in observed.substituted for p in (layout.p[f] for f in layout.feeders))
    load_kw = sum(observed.condition.feeder_kw.values()) if known else 0.0
    targets = {g: t for g, t in genset_targets(layout, bus, wishes, runs).items() if t > 0.0}
    for g in targets:
        targets[g] = layout.gensets[g].p_min_kw
    set_gensets(out, wishes, targets, f"{why}: minimum load")
    limit_pv(layout, out, 0.8 * load_kw - sum(targets.values()), f"{why}: PV stays under the measured load")
    return out
