"""Live limits that a device may tell beside those of its BMS: of a genset's controller, and of a converter.

Both are told in the site file by mapping their point. A limit that is not read any more holds as it was told
last, of a genset not below its least load: a line that fails makes no device stronger, and a controller that
tells 0 while it goes down takes no set away for good. One that was never read limits nothing, and the device
protects itself.
"""

import math
from collections.abc import Mapping

from dispatch.layout import Layout
from ems.derating import limited_set
from ems.frozen import replace
from ems.telemetry import Snapshot


def live_limits(layout: Layout, last_good: Mapping[str, float], snapshot: Snapshot) -> dict[str, float]:
    """Point -> limit that holds now [kW], never below nothing; empty where no such point was ever read."""
    out = {}
    for point in layout.live_limits:
        value = snapshot.value(point)
        if value is None and point in last_good:
            least = layout.gensets.get(point.partition(".")[0])
            value = last_good[point] if least is None else max(last_good[point], least.p_min_kw)
        if value is not None:
            out[point] = max(0.0, value)
    return out


def with_live_limits(layout: Layout, last_good: Mapping[str, float], snapshot: Snapshot) -> Layout:
    """The layout with each genset as strong as its controller lets it be now.

    Whoever shares load, counts reserve or chooses a set to start then reckons with that.
    """
    limits = live_limits(layout, last_good, snapshot)
    if not limits:
        return layout
    sets = {g: limited_set(p, limits.get(f"{g}.p_kw_max", math.inf)) for g, p in layout.gensets.items()}
    if all(sets[g] is p for g, p in layout.gensets.items()):
        return layout
    site = replace(layout.site, gensets=tuple(sets[g.id] for g in layout.site.gensets))
    return replace(layout, site=site, gensets=sets)


def bess_limits(
    limits: Mapping[str, float], snapshot: Snapshot, bess: str
) -> tuple[float | None, float | None]:
    """(charge, discharge) that BMS and converter let a battery system take and give now [kW]; None: not read.

    A limit of the BMS that is not read is none to rely on, whatever `live_limits` knows of the converter.
    """
    pcs_kw = limits.get(f"{bess}.p_pcs_kw_max", math.inf)
    charge, discharge = (snapshot.value(f"{bess}.p_{way}_kw_max") for way in ("charge", "discharge"))
    return (
        None if charge is None else min(charge, pcs_kw),
        None if discharge is None else min(discharge, pcs_kw),
    )
