"""Which readings a decision did without, said in the status and in the record: no substitution is silent."""

from collections.abc import Mapping

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.vocabulary import Event, event
from ems.points import point_id
from ems.telemetry import Snapshot

QUIET_S = 60.0  # a reading that comes and goes is told once, and as back when it has been good for so long


def substitutes(layout: Layout, observed: Observed, snapshot: Snapshot) -> tuple[str, ...]:
    """Points that a decision needs and that have no good value now: something else stands for them.

    Powers by what the others leave or the last good one; a state of charge as it is counted; a breaker as it
    stood last; a live limit as it was told last.
    """
    held = [point_id(b, "soc") for b in layout.bess]
    held += [point_id(f, "closed") for f in layout.feeders]
    held += observed.live_limits
    missing = [p for p in held if snapshot.value(p) is None]
    return tuple(dict.fromkeys((*observed.substituted, *missing)))


def substitution_news(
    layout: Layout, observed: Observed, before: Mapping[str, float], snapshot: Snapshot
) -> tuple[dict[str, float], list[Event]]:
    """Points with when they were substituted last [s], and what is new in this cycle."""
    now, now_s = substitutes(layout, observed, snapshot), snapshot.monotonic_s
    seen = {**before, **dict.fromkeys(now, now_s)}
    begun = [p for p in now if p not in before]
    over = [p for p, at_s in seen.items() if now_s - at_s >= QUIET_S]
    out = []
    if begun:
        why = {p: str(r.quality) if (r := snapshot.readings.get(p)) else "not read" for p in begun}
        out.append(event("readings.substituted", points=dict(why)))
    if over:
        out.append(event("readings.back", points=list(over)))
    return {p: at_s for p, at_s in seen.items() if p not in over}, out
