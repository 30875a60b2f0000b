"""Where gensets start, and what the calendar says of them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from ems.assets import ISO_MEAN_H, GensetParams
from ems.condition import GensetDuty, GensetHour, PlantCondition, UnitState
from ems.derating import limited_set
from ems.errors import DataError
from ems.invariants import require_finite
from ems.site import Site
from ems.timegrid import TimeGrid
from optimizer.problem import GensetStart
from optimizer.schedule import blocked_steps, quiet_cost

STEP_RATIO = 0.01  # of a genset's rating


def as_strong_as_now(site: Site, condition: PlantCondition) -> Site:
    """The site with each genset as strong as its controller says that it is now, for the whole window.

    What an engine is held back by (a filter, its fuel, heat) seldom goes within hours; the next plan sees it.
    In steps of `STEP_RATIO` of the rating, rounded down: a limit that wavers is no other plant each time. A
    set whose controller does not even allow its least load stays as it is, and is planned without.
    """
    sets = []
    for g in site.gensets:
        now = condition.gensets.get(g.id)
        told_kw = None if now is None else now.p_kw_max
        if told_kw is None or not g.p_min_kw <= told_kw < g.p_rated_kw:
            sets.append(g)
            continue
        step_kw = STEP_RATIO * g.p_rated_kw
        sets.append(limited_set(g, max(g.p_min_kw, math.floor(told_kw / step_kw) * step_kw)))
    if all(own is g for own, g in zip(sets, site.gensets, strict=True)):
        return site
    return replace(site, gensets=tuple(sets))


def genset_start(genset_id: str, site: Site, condition: PlantCondition, notes: list[str]) -> GensetStart:
    """State of a genset; one that is not available is planned without, with a note."""
    params = next(g for g in site.gensets if g.id == genset_id)
    now = condition.gensets.get(genset_id)
    most_kw = None if now is None else now.p_kw_max
    barred = most_kw is not None and require_finite(f"{genset_id} live limit", most_kw) < params.p_min_kw
    if now is None or not now.available or barred:
        on = now is not None and now.on_load
        why = "reported on load but not available" if on else "not available"
        why = f"its live limit is below its least load of {params.p_min_kw:g} kW" if barred else why
        notes.append(f"{genset_id}: {why}, planned without it")
        return GensetStart(available=False, on=False, age_h=0.0, starting=False, ready_h=0.0, fuel_l=math.inf)
    if most_kw is not None and UnitState.DERATED in now.states:
        notes.append(f"{genset_id}: live limit {most_kw:.0f} kW, kept for the whole plan")
    ready_s = now.ready_in_s if now.starting else params.start_delay_s
    for name, value in (("age", now.age_s), ("time to readiness", ready_s)):
        if not math.isfinite(value) or value < 0.0:
            raise DataError(f"{genset_id}: {name} is {value} s")
    return GensetStart(
        available=True,
        on=now.on_load,
        age_h=now.age_s / 3600.0,
        starting=now.starting and not now.on_load,
        output_kw=require_finite(f"{genset_id} power", now.p_kw) if now.on_load else 0.0,
        ready_h=ready_s / 3600.0,
        fuel_l=math.inf
        if now.fuel_l is None
        else max(0.0, require_finite(f"{genset_id} fuel", now.fuel_l) - params.tank_unusable_l),
    )


def scheduled(
    start: GensetStart, unit: GensetParams, site: Site, condition: PlantCondition, grid: TimeGrid
) -> GensetStart:
    """With maintenance, quiet hours and the starts of today, where the site has such limits."""
    now = condition.gensets.get(unit.id)
    counted = unit.starts_per_day_max is not None and now is not None
    return replace(
        start,
        starts_today=now.starts_today if counted and now is not None else 0,
        blocked=blocked_steps(unit.id, site.maintenance, grid),
        quiet_cost=quiet_cost(unit.quiet, grid, ZoneInfo(site.timezone)),
        delivered_l=_delivered_l(unit.id, site, grid),
        idle_h=_idle_h(unit, GensetDuty() if now is None else now.duty, grid),
        balance_cost_per_h=_balance_cost(unit, site, condition),
        **_rating(unit, GensetDuty() if now is None else now.duty, grid),
        **_low_load(unit, GensetDuty() if now is None else now.duty, grid),
    )


def _delivered_l(genset_id: str, site: Site, grid: TimeGrid) -> tuple[float, ...]:
    """(T,) litres that are there from the start of each step on and not before [L]; () where none come."""
    after_s = [
        ((d.at - grid.start).total_seconds(), d.fuel_l) for d in site.deliveries if d.asset == genset_id
    ]
    edges = grid.offset_s
    if not any(0.0 < s <= edges[-2] for s, _ in after_s):
        return ()
    before = [-math.inf, *edges[:-2]]
    return tuple(
        sum(litres for s, litres in after_s if s > 0.0 and a < s <= b)
        for a, b in zip(before, edges[:-1], strict=True)
    )


def _low_load(unit: GensetParams, duty: GensetDuty, grid: TimeGrid) -> dict[str, Any]:
    """Hours at low load so far, where they are counted."""
    low = unit.low_load
    if low is None or not low.counted:
        return {}
    for name, value in (("hours at low load", duty.low_load_h), ("burn-off so far", duty.burning_h)):
        if not math.isfinite(value) or value < 0.0:
            raise DataError(f"{unit.id}: {name} is {value} h")
    past = tuple(
        past_h(duty, grid.start, end_s / 3600.0 - low.window_h, lambda h: h.low_load_h)
        for end_s in grid.offset_s[1:]
    )
    return {
        "low_load_past_h": past if low.budget_h is not None else (),
        "low_load_count_h": duty.low_load_h,
        "burning_h": duty.burning_h,
    }


def _idle_h(unit: GensetParams, duty: GensetDuty, grid: TimeGrid) -> float:
    """Hours since the last exercise run; one that has never been seen is due at the end of its period."""
    if unit.exercise is None or duty.exercised_at is None:
        return 0.0
    return max(0.0, (grid.start - duty.exercised_at).total_seconds() / 3600.0)


def _balance_cost(unit: GensetParams, site: Site, condition: PlantCondition) -> float:
    """Price of an hour for the hours a genset is ahead of the mean of those that take part."""
    if unit.balance_per_h is None:
        return 0.0
    peers = [g.id for g in site.gensets if g.balance_per_h is not None and g.id in condition.gensets]
    hours = {g: require_finite(f"{g} running hours", condition.gensets[g].duty.run_h) for g in peers}
    ahead_h = hours.get(unit.id, 0.0) - sum(hours.values()) / len(hours) if hours else 0.0
    return unit.balance_per_h * max(0.0, ahead_h) / 100.0


def _rating(unit: GensetParams, duty: GensetDuty, grid: TimeGrid) -> dict[str, Any]:
    """What operation so far leaves of a mean load and of a year's hours."""
    if unit.rating is None:
        return {}
    rows = [(h.run_h, h.counted_kwh) for h in reversed(duty.hours)]
    if not all(math.isfinite(x) and x >= 0.0 for x in (duty.year_run_h, *[x for row in rows for x in row])):
        raise DataError(f"{unit.id}: hours and energy of operation are {duty.year_run_h} h this year, {rows}")
    mean = unit.rating.mean_ratio_max
    room = () if mean is None else tuple(
        _left_kwh(rows, ISO_MEAN_H - min(ISO_MEAN_H, s / 3600.0), mean * unit.p_rated_kw)
        for s in grid.offset_s[1:]
    )  # fmt: skip
    return {"mean_room_kwh": room, "year_run_h": duty.year_run_h}


def _left_kwh(rows: Sequence[tuple[float, float]], hours: float, mean_kw: float) -> float:
    """What the last `hours` of operation, latest first, were below a mean load; 0 if above [kWh]."""
    total = 0.0
    for run_h, kwh in rows:
        part = min(run_h, hours)
        if part <= 0.0:
            continue
        total, hours = total + part * (mean_kw - kwh / run_h), hours - part
    return max(0.0, total)


def past_h(duty: GensetDuty, now: datetime, since_h: float, of: Callable[[GensetHour], float]) -> float:
    """Sum of a count over the past from `since_h` after `now` (negative) on [unit of the count].

    Of an hour of the clock that began before, what lies in its end is taken: as late as it can have been.
    """
    total = 0.0
    for hour in duty.hours:
        begun_h = (hour.start - now).total_seconds() / 3600.0
        if not math.isfinite(of(hour)) or of(hour) < 0.0:
            raise DataError(f"a count of the hour of {hour.start} is {of(hour)}")
        if begun_h < 0.0:
            left_h = min(begun_h + 1.0, 0.0) - since_h
            total += min(of(hour), max(0.0, left_h))
    return total
