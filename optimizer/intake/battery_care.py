"""What is asked of a battery in a window: reserve by the calendar, use of the day and the year so far."""

import math
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np

from ems.assets import BessParams
from ems.condition import BessCondition, BessUse
from ems.site import Site
from ems.timegrid import BoolArray, FloatArray, TimeGrid
from optimizer.prices import ladder
from optimizer.problem import BessCare

SAMPLE_S = 300.0
FULL_SOC = 0.01  # so near to the top of its window a battery counts as full, as for the edge


def bess_care(
    bess: BessParams,
    now: BessCondition | None,
    site: Site,
    grid: TimeGrid,
    available: BoolArray,
    notes: list[str],
) -> BessCare:
    """Terms of one battery as arrays of the window."""
    out, p, zone = BessCare(), bess.battery, ZoneInfo(site.timezone)
    if p.soc_reserve:
        level, price = _reserve(bess, site, grid, zone)
        out = replace(out, reserve_kwh=level * available, reserve_per_kwh=price)
    use = _checked(bess.id, BessUse() if now is None else now.use, notes)
    if p.full_charge is not None:
        out = _full_charge(out, bess, now, use, notes)
    if p.warranty is None or not p.warranty.counted:
        return out
    days, years = _begins(grid, zone, "%Y-%m-%d"), _begins(grid, zone, "%Y")
    year_end = datetime(grid.start.astimezone(zone).year + 1, 1, 1, tzinfo=zone)
    rest_h = (year_end.timestamp() - grid.start.timestamp()) / 3600.0
    window_h = float(np.sum(grid.step_h))
    pace, mean = math.inf, 1.0
    if p.warranty.year_kwh_max is not None and not years.any():
        left = max(0.0, p.warranty.year_kwh_max - use.year_kwh)
        pace = min(p.warranty.year_kwh_max, use.year_kwh) + left * min(1.0, window_h / rest_h)
    if p.warranty.mean_soc_max is not None:
        total = p.warranty.mean_soc_max * (use.year_h + window_h) - use.year_soc_h
        mean = max(p.soc_min, total / window_h)
    return replace(
        out,
        day_begins=days,
        year_begins=years,
        day_used_kwh=use.day_kwh,
        year_used_kwh=use.year_kwh,
        pace_room_kwh=pace,
        mean_room_soc=mean,
    )


def _reserve(bess: BessParams, site: Site, grid: TimeGrid, zone: ZoneInfo) -> tuple[FloatArray, FloatArray]:
    """(T,) energy held back at the end of each step [kWh] and its price per kWh and hour."""
    rung = ladder(site).reserve_per_kwh
    level, price = np.zeros(len(grid)), np.zeros(len(grid))
    for t, (start, step_s) in enumerate(zip(grid.starts(), grid.step_s, strict=True)):
        count = max(1, round(step_s / SAMPLE_S))
        when = [(start + timedelta(seconds=k * step_s / count)).astimezone(zone) for k in range(count + 1)]
        for r in bess.battery.soc_reserve:
            holds = r.local is None or any(r.local.holds(x, site.tariff.day_type(x)) for x in when)
            if holds and r.soc > level[t]:
                level[t], price[t] = r.soc, rung if r.price_per_kwh is None else r.price_per_kwh
    return level * bess.battery.energy_kwh, price


def _full_charge(
    out: BessCare, bess: BessParams, now: BessCondition | None, use: BessUse, notes: list[str]
) -> BessCare:
    """When a full charge is due, and what is left of one in progress."""
    f = bess.battery.full_charge
    assert f is not None
    if use.full_age_h is None:
        notes.append(f"{bess.id}: its last full charge is not known, taken as just done")
    age_h = 0.0 if use.full_age_h is None else use.full_age_h
    full = now is not None and now.soc >= bess.battery.soc_max - FULL_SOC
    rest_h = f.hold_s / 3600.0 - use.full_h
    return replace(
        out,
        full_due_h=f.interval_s / 3600.0 - age_h,
        full_now=full,
        full_rest_h=max(0.0, rest_h) if full and use.full_h > 0.0 else 0.0,
    )


def _begins(grid: TimeGrid, zone: ZoneInfo, what: str) -> BoolArray:
    """(T,) steps in which another day or year is, than in the step before; the first one begins nothing."""
    names = [x.astimezone(zone).strftime(what) for x in grid.starts()]
    return np.array([False, *(a != b for a, b in pairwise(names))], dtype=np.bool_)


def _checked(bess_id: str, use: BessUse, notes: list[str]) -> BessUse:
    age_h = 0.0 if use.full_age_h is None else use.full_age_h
    figures = (use.day_kwh, use.year_kwh, use.year_h, use.year_soc_h, age_h, use.full_h)
    if all(math.isfinite(x) and x >= 0.0 for x in figures):
        return use
    notes.append(f"{bess_id}: use so far {figures} is no count, taken as none")
    return BessUse()
