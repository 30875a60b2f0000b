"""Announced outages held against what is measured, which alone says whether the mains are there."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from ems.condition import PlantCondition
from ems.outage import OutageNotice
from ems.site import GridMode

EARLY = timedelta(minutes=15)  # mains that are lost so long before an announced start are lost to it
OVERRUN = timedelta(days=1)  # an outage that ended so long ago explains no missing mains


def standing(
    notices: Sequence[OutageNotice], condition: PlantCondition, mains_back_s: Mapping[str, float]
) -> tuple[OutageNotice, ...]:
    """Notices without those that are over before their end, as the mains have come back.

    Parameters
    ----------
    mains_back_s : by source, how long mains that were lost in its outage must be good for that [s]. Of other
        sources an outage lasts as announced.
    """
    return tuple(n for n in notices if not _over(n, condition, mains_back_s.get(n.source)))


def _over(notice: OutageNotice, condition: PlantCondition, mains_back_s: float | None) -> bool:
    if mains_back_s is None or not notice.start - EARLY <= condition.at < notice.end:
        return False
    tied = condition.grid_mode is GridMode.GRID_TIED
    lost = any(notice.start - EARLY <= loss <= condition.at for loss in condition.grid_losses)
    return tied and lost and condition.mains_good_s >= mains_back_s


def overrunning(notices: Sequence[OutageNotice], condition: PlantCondition) -> OutageNotice | None:
    """The announced outage that should be over, where the mains were lost in it and are not back."""
    away = condition.grid_mode in (GridMode.ISLANDED, GridMode.BLACK) and not condition.mains_good
    if not away or any(n.start <= condition.at < n.end for n in notices):
        return None
    for notice in sorted(notices, key=lambda n: n.end, reverse=True):
        recent = condition.at - OVERRUN < notice.end <= condition.at
        since = [loss for loss in condition.grid_losses if loss > notice.end]
        if recent and not since:
            return notice
    return None
