"""Announced outages that rules keep a reserve for: of the site file, of the start, and told by inputs.

No breaker is opened for what an input tells: that listens to the site file alone (`dispatch.transitions`).
"""

from datetime import timedelta

from dispatch.vocabulary import TickInput
from ems.condition import PlantCondition
from ems.outage import OutageNotice, known_outages
from ems.outage_now import standing
from ems.site import Site

AHEAD = timedelta(hours=6)  # an outage that may begin so soon may be near, where nobody knows what time it is


def to_reserve_for(site: Site, given: TickInput, condition: PlantCondition) -> tuple[OutageNotice, ...]:
    """What is announced by now and not over; where nobody knows what time it is, what may be near."""
    snapshot = given.snapshot
    known = known_outages((*given.outages, *given.announced), snapshot.calendar)
    if snapshot.calendar is None:
        return tuple(n for n in known if snapshot.doubt.may_be(n.start - AHEAD, n.end))
    if not given.announced:
        return known
    back_s = {p.id: p.mains_back_s for p in site.inputs if p.mains_back_s is not None}
    return standing(known, condition, back_s)
