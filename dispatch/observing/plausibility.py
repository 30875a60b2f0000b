"""Do the measured powers add up? A current transformer the wrong way round is seen here, and nowhere else.

Sources, storage and grid against the feeders' load. The check arms itself once the balance has closed for a
minute: on a site with load that nobody meters it never closes, and the check stays silent.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from dispatch.layout import Layout
from ems.frozen import replace
from ems.telemetry import Snapshot

TOLERANCE_RATIO = 0.05  # of the power that flows, or of the rating of the POI if that is more
SUSPECT_AFTER_S = 10.0
CLOSED_FOR_S = 60.0  # the balance must close so long before it is believed, at first and again
SKEW_S = 3.0  # readings may be so much apart in age: what moved in that time is no contradiction


@dataclass(frozen=True, kw_only=True)
class BalanceSeen:
    """What was seen of the balance so far. Times are the edge's monotonic clock [s]."""

    armed: bool = False
    suspect: bool = False
    closed_since_s: float | None = None
    open_since_s: float | None = None
    at_s: float | None = None
    powers_kw: Mapping[str, float] = field(default_factory=dict)  # of the tick before, by point


def check_balance(layout: Layout, before: BalanceSeen, snapshot: Snapshot) -> BalanceSeen:
    """One more look at the balance; a missing reading decides nothing and changes nothing."""
    now_s = snapshot.monotonic_s
    powers_kw = {p: v for a in layout.metered if (v := snapshot.value(p := layout.p[a])) is not None}
    if len(powers_kw) < len(layout.metered) or not layout.feeders:
        return replace(before, closed_since_s=None, open_since_s=None, at_s=now_s, powers_kw=powers_kw)
    seen = replace(before, at_s=now_s, powers_kw=powers_kw)
    if abs(_residual_kw(layout, powers_kw)) <= _tolerance_kw(layout, before, powers_kw, now_s):
        since_s = now_s if before.closed_since_s is None else before.closed_since_s
        closed = now_s - since_s >= CLOSED_FOR_S
        return replace(
            seen,
            closed_since_s=since_s,
            open_since_s=None,
            armed=before.armed or closed,
            suspect=before.suspect and not closed,
        )
    since_s = now_s if before.open_since_s is None else before.open_since_s
    late = before.armed and now_s - since_s >= SUSPECT_AFTER_S
    return replace(seen, closed_since_s=None, open_since_s=since_s, suspect=before.suspect or late)


def _residual_kw(layout: Layout, powers_kw: Mapping[str, float]) -> float:
    """What sources, storage and grid give beyond the feeders' load and the batteries' own use [kW]."""
    load_kw = math.fsum(powers_kw[layout.p[f]] for f in layout.feeders)
    load_kw += math.fsum(b.battery.aux_kw for b in layout.bess.values())
    fed_kw = math.fsum(powers_kw[layout.p[a]] for a in layout.metered if a not in layout.feeders)
    return fed_kw - load_kw


def _tolerance_kw(layout: Layout, before: BalanceSeen, powers_kw: Mapping[str, float], now_s: float) -> float:
    through_kw = 0.5 * math.fsum(abs(v) for v in powers_kw.values())
    grid = layout.site.grid
    floor_kw = max(through_kw, grid.p_import_kw_max, grid.p_export_kw_max)
    elapsed_s = 0.0 if before.at_s is None else now_s - before.at_s
    moved_kw = max(abs(v - before.powers_kw.get(p, v)) for p, v in powers_kw.items())
    skew_kw = moved_kw * SKEW_S / elapsed_s if elapsed_s > 0.0 else 0.0
    return TOLERANCE_RATIO * floor_kw + skew_kw
