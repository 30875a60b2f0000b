"""Do the measured powers add up? A current transformer the wrong way round is seen here, and nowhere else.

Sources, storage and grid against the feeders' load. The check arms itself once the balance has closed for a
minute: on a site with load that nobody meters it never closes, and the check stays silent.

Readings are not of one instant, so that what moved a moment ago may contradict the rest without anything
being wrong. A reading whose scale or sign has changed hides behind that: the edge regulates by it, swings to
and fro, and everything moves in every second. Such a reading has a signature that no delay has: divided by
one factor it closes the balance at every single look, however far it swings.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from dispatch.layout import Layout
from ems.frozen import replace
from ems.telemetry import Snapshot

SUSPECT_AFTER_S = 10.0
CLOSED_FOR_S = 60.0  # the balance must close so long before it is believed, at first and again
CLOSED_FOR_S_MAX = 3600.0
SWING_RATIO = 4.0  # of the tolerance: a reading must swing so far before one factor that fits is a proof
FACTORS = (10.0, 100.0, 1000.0, 0.1, 0.01, 0.001, -1.0)  # what a map or a set-up is wrong by
SKEW_S = 3.0  # readings may be so much apart in age: what moved in that time is no contradiction


@dataclass(frozen=True, slots=True)
class Scaled:
    """A reading that closed the balance, divided by one factor, at every look since a time [s]."""

    since_s: float
    low_kw: float  # range of the power that it would be then
    high_kw: float

    def proof(self, now_s: float, tolerance_kw: float) -> bool:
        """Whether this is no accident any more."""
        swung = self.high_kw - self.low_kw >= SWING_RATIO * tolerance_kw
        return swung and now_s - self.since_s >= SUSPECT_AFTER_S


@dataclass(frozen=True, kw_only=True)
class BalanceSeen:
    """What was seen of the balance so far. Times are the edge's monotonic clock [s]."""

    armed: bool = False
    suspect: bool = False
    closed_since_s: float | None = None
    open_since_s: float | None = None
    at_s: float | None = None
    powers_kw: Mapping[str, float] = field(default_factory=dict)  # of the tick before, by point
    scaled: Mapping[tuple[str, float], Scaled] = field(default_factory=dict)  # by point and factor
    named: tuple[tuple[str, float], ...] = ()  # point and factor of what was proved last
    times: int = 0  # how often one was proved


def check_balance(layout: Layout, before: BalanceSeen, snapshot: Snapshot) -> BalanceSeen:
    """One more look at the balance; a missing reading decides nothing and changes nothing."""
    now_s = snapshot.monotonic_s
    powers_kw = {p: v for a in layout.metered if (v := snapshot.value(p := layout.p[a])) is not None}
    if len(powers_kw) < len(layout.metered) or not layout.feeders:
        return replace(
            before, closed_since_s=None, open_since_s=None, at_s=now_s, powers_kw=powers_kw, scaled={}
        )
    open_kw = residual_kw(layout, powers_kw)
    tolerance_kw = balance_tolerance_kw(layout, powers_kw)
    scaled = _scaled(layout, before.scaled, powers_kw, open_kw, tolerance_kw, now_s)
    named = tuple(key for key, s in scaled.items() if s.proof(now_s, tolerance_kw))
    seen = replace(before, at_s=now_s, powers_kw=powers_kw, scaled=scaled)
    if named and before.armed and abs(open_kw) > tolerance_kw:
        times = before.times + (not before.suspect)
        return replace(seen, named=named, suspect=True, times=times, closed_since_s=None, open_since_s=now_s)
    if abs(open_kw) <= tolerance_kw + _skew_kw(before, powers_kw, now_s):
        since_s = now_s if before.closed_since_s is None else before.closed_since_s
        closed = now_s - since_s >= CLOSED_FOR_S
        believed = now_s - since_s >= _believed_after_s(before)
        return replace(
            seen,
            closed_since_s=since_s,
            open_since_s=None,
            armed=before.armed or closed,
            suspect=seen.suspect and not believed,
            named=() if believed else seen.named,
            scaled={} if before.suspect and believed else scaled,
        )
    since_s = now_s if before.open_since_s is None else before.open_since_s
    late = before.armed and now_s - since_s >= SUSPECT_AFTER_S
    return replace(seen, closed_since_s=None, open_since_s=since_s, suspect=seen.suspect or late)


def balance_tolerance_kw(layout: Layout, powers_kw: Mapping[str, float]) -> float:
    """Within what the powers of a site add up [kW]; `powers_kw` by point."""
    return layout.site.grid.balance_tolerance_ratio * _through_kw(layout, powers_kw)


def balance_words(layout: Layout, seen: BalanceSeen) -> str:
    """Whether the powers are watched now, and why they are not, in one line."""
    if not layout.feeders:
        return "off: the site has no feeder whose load is metered"
    missing = [p for a in layout.metered if (p := layout.p[a]) not in seen.powers_kw]
    if missing:
        return f"off: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not read"
    if not seen.armed:
        closed = f"the powers have not added up for {CLOSED_FOR_S:.0f} s in a row since the start of the edge"
        return f"off: {closed}, as where load is not metered"
    return "suspect: one of the powers lies" if seen.suspect else "on"


def _believed_after_s(before: BalanceSeen) -> float:
    """How long the balance must close; what was proved to be scaled closes it once it stands at 0 [s]."""
    again = max(0, min(before.times - 1, 8)) if before.named else 0
    return min(CLOSED_FOR_S_MAX, CLOSED_FOR_S * 2.0**again)


def _scaled(
    layout: Layout,
    before: Mapping[tuple[str, float], Scaled],
    powers_kw: Mapping[str, float],
    open_kw: float,
    tolerance_kw: float,
    now_s: float,
) -> dict[tuple[str, float], Scaled]:
    """Readings that, divided by a factor, close the balance now and did so at every look before.

    One begins at a look at which the balance is open; that it is closed while the reading is large ends it.
    """
    begins = abs(open_kw) > tolerance_kw
    if not begins and not before:
        return {}
    loads = {layout.p[f] for f in layout.feeders}
    out = {}
    for point, told_kw in powers_kw.items():
        for factor in FACTORS:
            known = before.get((point, factor))
            if known is None and not begins:
                continue
            would_kw = told_kw / factor
            less_kw = told_kw - would_kw
            if abs(open_kw + less_kw if point in loads else open_kw - less_kw) > tolerance_kw:
                continue
            if known is None:
                known = Scaled(now_s, would_kw, would_kw)
            out[point, factor] = Scaled(
                known.since_s, min(known.low_kw, would_kw), max(known.high_kw, would_kw)
            )
    return out


def residual_kw(layout: Layout, powers_kw: Mapping[str, float]) -> float:
    """What sources, storage and grid give beyond the feeders' load and the batteries' own use [kW]."""
    load_kw = math.fsum(powers_kw[layout.p[f]] for f in layout.feeders)
    load_kw += math.fsum(b.battery.aux_kw for b in layout.bess.values())
    fed_kw = math.fsum(powers_kw[layout.p[a]] for a in layout.metered if a not in layout.feeders)
    return fed_kw - load_kw


def _skew_kw(before: BalanceSeen, powers_kw: Mapping[str, float], now_s: float) -> float:
    """What readings that are not of one instant may be apart by."""
    elapsed_s = 0.0 if before.at_s is None else now_s - before.at_s
    moved_kw = max(abs(v - before.powers_kw.get(p, v)) for p, v in powers_kw.items())
    return moved_kw * SKEW_S / elapsed_s if elapsed_s > 0.0 else 0.0


def _through_kw(layout: Layout, powers_kw: Mapping[str, float]) -> float:
    """The power that flows, or the rating of the POI if that is more [kW]."""
    grid = layout.site.grid
    flows_kw = 0.5 * math.fsum(abs(v) for v in powers_kw.values())
    return max(flows_kw, grid.p_import_kw_max, grid.p_export_kw_max)
