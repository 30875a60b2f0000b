"""Deferrable devices: their windows on the grid, and what is already done."""

import math
from datetime import UTC
from zoneinfo import ZoneInfo

import numpy as np

from ems.condition import PlantCondition
from ems.deferrable import DeferrableCondition, DeferrableParams, WorkWindow
from ems.errors import DataError
from ems.site import Site
from ems.timegrid import FloatArray, TimeGrid
from optimizer.problem import DeferrableStart

EPS_S = 1e-3


def deferrable_starts(
    site: Site, condition: PlantCondition, grid: TimeGrid, notes: list[str]
) -> tuple[DeferrableStart, ...]:
    """Windows of each device on the grid, and what of the open one is done."""
    zone = ZoneInfo(site.tariff.timezone)
    out = []
    for unit in site.deferrables:
        windows = unit.windows(grid.start, grid.end, zone, site.tariff.holidays)
        now = _known(unit, condition, windows, grid, notes)
        out.append(on_grid(windows, grid, now))
    return tuple(out)


def without_devices(site: Site, load_kw: FloatArray, notes: list[str]) -> FloatArray:
    """(F, T) load without the feeders that a device has for itself: their load is what is planned."""
    alone = {d.feeder: d.id for d in site.deferrables if d.alone_on_feeder}
    out = load_kw.copy()
    for i, feeder in enumerate(site.feeders):
        if feeder.id in alone and load_kw[i].any():
            notes.append(f"{feeder.id}: serves {alone[feeder.id]} alone, its forecast is not used")
            out[i] = 0.0
    return out


def _known(
    unit: DeferrableParams,
    condition: PlantCondition,
    windows: tuple[WorkWindow, ...],
    grid: TimeGrid,
    notes: list[str],
) -> DeferrableCondition:
    """What is known of the window that is open at the start; nothing done where nothing is known."""
    nothing = DeferrableCondition(window_start=None, done_kwh=0.0, on=False, age_s=0.0, starts=0)
    now = condition.deferrables.get(unit.id)
    if now is None:
        if windows and windows[0].start < grid.start:
            since = windows[0].start.astimezone(UTC)
            notes.append(f"{unit.id}: the work done since {since:%d %H:%M} UTC is not known, taken as none")
        return nothing
    for name, value in (("work done", now.done_kwh), ("age", now.age_s), ("starts", float(now.starts))):
        if not math.isfinite(value) or value < 0.0:
            raise DataError(f"{unit.id}: {name} is {value:g}; allowed: 0 or more")
    if not windows or windows[0].start > grid.start or now.window_start is None:
        return DeferrableCondition(window_start=None, done_kwh=0.0, on=now.on, age_s=now.age_s, starts=0)
    if abs((now.window_start - windows[0].start).total_seconds()) > 1.0:
        notes.append(f"{unit.id}: the work done is that of another window, taken as none")
        return DeferrableCondition(window_start=None, done_kwh=0.0, on=now.on, age_s=now.age_s, starts=0)
    if now.done_kwh > windows[0].energy_kwh + 0.5:
        notes.append(
            f"{unit.id}: {now.done_kwh:.1f} kWh are done of {windows[0].energy_kwh:g} kWh, "
            "taken as all of them"
        )
    return now


def on_grid(windows: tuple[WorkWindow, ...], grid: TimeGrid, now: DeferrableCondition) -> DeferrableStart:
    """Windows in order of their start as arrays over the steps."""
    edges, T = grid.offset_s, len(grid)
    share, due, opened = np.zeros(T), np.zeros(T), np.zeros(T)
    opens, ends = np.zeros(T, dtype=np.bool_), np.zeros(T, dtype=np.bool_)
    done = 0.0
    for w in windows:
        begin_s, end_s = (w.start - grid.start).total_seconds(), (w.end - grid.start).total_seconds()
        inside_s = np.minimum(edges[1:], end_s) - np.maximum(edges[:-1], begin_s)
        share += np.maximum(0.0, inside_s) / np.diff(edges)
        first = max(0, int(np.searchsorted(edges, begin_s + EPS_S, side="right")) - 1)
        opened[first:] += w.energy_kwh
        if begin_s < -EPS_S:
            done = min(now.done_kwh, w.energy_kwh)
        else:
            opens[first] = True
        if end_s <= edges[-1] + EPS_S:
            last = int(np.searchsorted(edges[1:], end_s - EPS_S))
            due[last:] += w.energy_kwh
            ends[last] = True
        else:  # its share by time is due with the grid
            due[-1] += w.energy_kwh * (edges[-1] - begin_s) / (end_s - begin_s)
            ends[-1] = True
    return DeferrableStart(
        share=np.minimum(1.0, share),
        due_kwh=due,
        opened_kwh=opened,
        opens=opens,
        ends=ends,
        done_kwh=done,
        on=now.on,
        age_h=now.age_s / 3600.0,
        starts=now.starts if windows and windows[0].start < grid.start else 0,
    )
