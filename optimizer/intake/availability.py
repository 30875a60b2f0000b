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


def integral_steps(
    grid: TimeGrid, available: BoolArray, integral_h: float, through_outages: bool = True
) -> BoolArray:
    """(T,) steps with whole commitment: the first `integral_h`, and through the end of the last outage."""
    whole = grid.offset_s[:-1] < integral_h * 3600.0 - 1e-6
    whole[0] = True  # what is executed always is
    out = np.flatnonzero(~available)
    if through_outages and len(out):
        whole[: int(out[-1]) + 1] = True
    return whole


def distrusted_steps(
    site: Site, condition: PlantCondition, grid: TimeGrid, available: BoolArray, notes: list[str]
) -> BoolArray | None:
    """(T,) grid-tied steps in which the mains are used but not counted on; None without a policy.

    After a loss the mains count only when they have been good for a dwell that grows with the losses of the
    last hours. While they are away or bad, the dwell begins when they are planned to be back.
    """
    policy = site.grid.flapping
    if policy is None:
        return None
    window_s = policy.window_h * 3600.0
    recent = [x for x in condition.grid_losses if (condition.at - x).total_seconds() < window_s]
    dwell_s = policy.dwell_s(site.grid.reconnect_dwell_s, len(recent))
    out = np.zeros(len(grid), dtype=np.bool_)
    if dwell_s <= 0.0 or not available.any():
        return out
    good = condition.mains_good or condition.grid_mode is GridMode.GRID_TIED
    back_s = -condition.mains_good_s if good else float(grid.offset_s[int(np.argmax(available))])
    out = available & (grid.offset_s[:-1] < back_s + dwell_s - SPLIT_S)
    if out.any():
        notes.append(
            f"the mains were lost {len(recent)} times in the last {policy.window_h:g} h: used, but not "
            f"counted on until they have been good for {dwell_s / 60.0:.0f} min"
        )
    return out
