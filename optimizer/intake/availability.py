"""When the mains can be used, and in which steps commitment must be whole."""

import numpy as np

from ems.condition import PlantCondition
from ems.forecast import Forecast
from ems.outage import known_outages
from ems.site import GridMode, Site
from ems.timegrid import BoolArray, TimeGrid
from optimizer.horizon import SPLIT_S


def grid_availability(
    site: Site, condition: PlantCondition, forecast: Forecast, notes: list[str]
) -> BoolArray:
    """(T,) whether the mains can be used in a step.

    A step that an announced outage overlaps is without mains. The first step follows what is measured: an
    island now is an island in the first step, and mains that are still there after an announced start are
    used in it. An outage that nobody announced is planned to last `reserve.assumed_outage_h` from now, or the
    reconnection dwell when the mains are good again.
    """
    grid = forecast.grid
    notices = known_outages((*site.outages, *forecast.outages), forecast.issued_at)
    edges = grid.offset_s
    out = np.ones(len(grid), dtype=np.bool_)
    announced_now = False
    for notice in notices:
        start_s = (notice.start - grid.start).total_seconds()
        end_s = (notice.end - grid.start).total_seconds()
        out &= ~((edges[:-1] < end_s - SPLIT_S) & (edges[1:] > start_s + SPLIT_S))
        announced_now = announced_now or notice.start <= condition.at < notice.end
    if condition.grid_mode is GridMode.GRID_TIED:
        if not out[0]:
            notes.append(
                "an announced outage has begun, the mains are still there: used in the first step only"
            )
        out[0] = True
        return out
    if condition.grid_mode is GridMode.UNKNOWN:
        notes.append("grid mode unknown: planned as an island")
    if condition.mains_good and not announced_now:
        notes.append("the mains are back: an island only until their reconnection dwell is over")
        out &= ~(edges[:-1] < site.grid.reconnect_dwell_s - SPLIT_S)
    elif not announced_now:
        hours = site.reserve.assumed_outage_h
        notes.append(f"no mains and no notice of it: assumed to last {hours:g} h from now")
        out &= ~(edges[:-1] < hours * 3600.0)
    out[0] = False
    return out


def integral_steps(grid: TimeGrid, available: BoolArray, integral_h: float) -> BoolArray:
    """(T,) steps with whole commitment: the first `integral_h`, and through the end of the last outage."""
    whole = grid.offset_s[:-1] < integral_h * 3600.0 - 1e-6
    out = np.flatnonzero(~available)
    if len(out):
        whole[: int(out[-1]) + 1] = True
    return whole
