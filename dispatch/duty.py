"""What each genset has been through: hours at low load by hour of the clock, and since its last burn-off.

Counted only where a limit of the site asks for it. Time counts at the power measured at its end; a wall clock
that is set forward adds nothing.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from ems.assets import GensetParams
from ems.condition import GensetDuty, GensetHour

HOUR = timedelta(hours=1)
EPS_S = 1e-6


def counted(params: GensetParams) -> bool:
    """Whether any limit of a genset looks back."""
    return params.low_load is not None and params.low_load.counted


def keep_h(params: GensetParams) -> float:
    """How far the limits of a genset look back by the hour [h]."""
    low = params.low_load
    return low.window_h if low is not None and low.budget_h is not None else 0.0


def duties_after(
    gensets: Mapping[str, GensetParams],
    before: Mapping[str, GensetDuty],
    loads_kw: Mapping[str, float | None],
    at: datetime,
    elapsed_s: float,
) -> dict[str, GensetDuty]:
    """Duty of every genset after `elapsed_s` up to `at` [s].

    Parameters
    ----------
    loads_kw : load of each genset that is on load [kW]; None: off.
    """
    out = {}
    for g, params in gensets.items():
        duty = before.get(g, GensetDuty())
        out[g] = _after(params, duty, loads_kw[g], at, elapsed_s) if counted(params) else duty
    return out


def _after(
    params: GensetParams, duty: GensetDuty, load_kw: float | None, at: datetime, elapsed_s: float
) -> GensetDuty:
    horizon = at - timedelta(hours=keep_h(params)) - HOUR
    if duty.hours and duty.hours[0].start < horizon:
        duty = replace(duty, hours=tuple(h for h in duty.hours if h.start >= horizon))
    if load_kw is None:
        return duty if duty.burning_h == 0.0 else replace(duty, burning_h=0.0)
    begin, left_s = at - timedelta(seconds=elapsed_s), elapsed_s
    while left_s > EPS_S:
        hour = begin.replace(minute=0, second=0, microsecond=0)
        part_s = min(left_s, (hour + HOUR - begin).total_seconds())
        duty = _count(params, duty, load_kw, hour, part_s / 3600.0)
        begin, left_s = begin + timedelta(seconds=part_s), left_s - part_s
    return duty


def _count(
    params: GensetParams, duty: GensetDuty, load_kw: float, hour: datetime, part_h: float
) -> GensetDuty:
    """Add part of an hour of the clock at one load."""
    low = params.low_load
    if low is None:
        return duty
    low_h = part_h if load_kw < low.below_ratio * params.p_rated_kw else 0.0
    hours = duty.hours
    if keep_h(params) > 0.0 and low_h > 0.0:
        last = hours[-1] if hours and hours[-1].start == hour else GensetHour(start=hour)
        kept = hours[:-1] if hours and hours[-1].start == hour else hours
        hours = (*kept, replace(last, low_load_h=last.low_load_h + low_h))
    since_h, burning_h = duty.low_load_h + low_h, duty.burning_h
    if low.burn_off is not None:
        hot = load_kw >= low.burn_off.above_ratio * params.p_rated_kw
        burning_h = burning_h + part_h if hot else 0.0
        if burning_h >= low.burn_off.for_h - EPS_S / 3600.0:
            since_h = 0.0
    return replace(duty, hours=hours, low_load_h=since_h, burning_h=burning_h)
