"""Which faults a plant can have, and faults drawn from the catalogue by a seeded generator."""

from collections.abc import Mapping, Sequence

import numpy as np

from ems.points import AssetKind, point_id
from ems.site import Site
from sim.faults.base import Entry, Fault

SETPOINT = {AssetKind.BESS: "p_set_kw", AssetKind.GENSET: "p_set_kw", AssetKind.PV: "p_limit_kw"}


def targets_of(entry: Entry, site: Site) -> tuple[str, ...]:
    """Everything on a site that an entry can hit; ("",) where it is about the plant as a whole."""
    if not entry.kinds:
        return ("",)
    kinds = site.asset_kinds()
    assets = [a for a, kind in kinds.items() if kind in entry.kinds]
    if entry.sets:
        return tuple(point_id(a, SETPOINT[kinds[a]]) for a in assets)
    if entry.point is None:
        return tuple(assets)
    mapped = {m.point for c in site.connections for m in c.points}
    points = (point_id(a, entry.point) for a in assets)
    return tuple(p for p in points if p in mapped or not mapped)


def draw(
    rng: np.random.Generator,
    entries: Sequence[Entry],
    site: Site,
    *,
    from_s: tuple[float, float],
    end_s: float,
) -> Fault | None:
    """One fault that the site can have, or None; begins in `from_s`, ends at `end_s` at the latest [s]."""
    possible: Mapping[str, tuple[str, ...]] = {e.name: targets_of(e, site) for e in entries}
    open_ = [e for e in entries if possible[e.name]]
    if not open_:
        return None
    entry = open_[int(rng.integers(len(open_)))]
    targets = possible[entry.name]
    begin_s = float(round(rng.uniform(*from_s)))
    lasts_s = float(round(rng.uniform(*entry.lasts_s)))
    return Fault(
        kind=entry.name,
        target=targets[int(rng.integers(len(targets)))],
        from_s=begin_s,
        until_s=min(begin_s + lasts_s, end_s),
        value=entry.drawn,
    )
