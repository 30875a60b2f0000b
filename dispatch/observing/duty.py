"""What each genset has been through: load and low load by hour of the clock, since a burn-off, in the year.

Counted only where a limit of the site asks for it. Time counts at the power measured at its end; a wall clock
that is set forward adds nothing.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from dispatch.vocabulary import Alarm
from ems.assets import ISO_FLOOR_RATIO, ISO_MEAN_H, GensetParams
from ems.condition import GensetDuty, GensetHour, PlantCondition
from ems.frozen import replace

HOUR = timedelta(hours=1)
EPS_S = 1e-6


def counted(params: GensetParams) -> bool:
    """Whether any limit of a genset looks back."""
    if params.rating is not None or params.exercise is not None or params.balance_per_h is not None:
        return True
    return params.low_load is not None and params.low_load.counted


def keep_h(params: GensetParams) -> float:
    """How far the limits of a genset look back by the clock [h]."""
    low = params.low_load
    return low.window_h if low is not None and low.budget_h is not None else 0.0


def duties_after(
    gensets: Mapping[str, GensetParams],
    before: Mapping[str, GensetDuty],
    loads_kw: Mapping[str, float | None],
    now: datetime,
    elapsed_s: float,
    run_h: Mapping[str, float | None] | None = None,
) -> dict[str, GensetDuty]:
    """Duty of every genset after `elapsed_s` up to `now`, in local time [s].

    Parameters
    ----------
    loads_kw : load of each genset that is on load [kW]; None: off.
    run_h : running hours of the sets that count them [h].
    """
    out, at = {}, now.astimezone(UTC)
    for g, params in gensets.items():
        duty = before.get(g, GensetDuty())
        if counted(params):
            if duty.year != now.year:
                duty = replace(duty, year=now.year, year_run_h=0.0)
            if params.exercise is not None and duty.exercised_at is None:
                duty = replace(duty, exercised_at=at)  # the first period begins when a set is first seen
            duty = _after(params, duty, loads_kw[g], at, elapsed_s)
            own_h = None if run_h is None else run_h.get(g)
            duty = duty if own_h is None else replace(duty, run_h=own_h)
        out[g] = duty
    return out


def _after(
    params: GensetParams, duty: GensetDuty, load_kw: float | None, at: datetime, elapsed_s: float
) -> GensetDuty:
    duty = _forget(params, duty, at)
    if load_kw is None:
        quiet = duty.burning_h == 0.0 and duty.exercising_h == 0.0
        return duty if quiet else replace(duty, burning_h=0.0, exercising_h=0.0)
    begin, left_s = at - timedelta(seconds=elapsed_s), elapsed_s
    while left_s > EPS_S:
        hour = begin.replace(minute=0, second=0, microsecond=0)
        part_s = min(left_s, (hour + HOUR - begin).total_seconds())
        duty = _count(params, duty, load_kw, hour, part_s / 3600.0)
        begin, left_s = begin + timedelta(seconds=part_s), left_s - part_s
    return duty


def _forget(params: GensetParams, duty: GensetDuty, at: datetime) -> GensetDuty:
    """Without the oldest hour, if no window reaches it and the mean has enough hours of operation without."""
    if not duty.hours or duty.hours[0].start >= at - timedelta(hours=keep_h(params)) - HOUR:
        return duty
    means = params.rating is not None and params.rating.mean_ratio_max is not None
    if means and sum(h.run_h for h in duty.hours[1:]) < ISO_MEAN_H:
        return duty
    return _forget(params, replace(duty, hours=duty.hours[1:]), at)


def _count(
    params: GensetParams, duty: GensetDuty, load_kw: float, hour: datetime, part_h: float
) -> GensetDuty:
    """Add part of an hour of the clock at one load."""
    low, rated_kw = params.low_load, params.p_rated_kw
    low_h = part_h if low is not None and load_kw < low.below_ratio * rated_kw else 0.0
    hours = duty.hours
    if params.rating is not None or (keep_h(params) > 0.0 and low_h > 0.0):
        last = hours[-1] if hours and hours[-1].start == hour else GensetHour(start=hour)
        kept = hours[:-1] if hours and hours[-1].start == hour else hours
        if params.rating is not None:
            kwh = max(load_kw, ISO_FLOOR_RATIO * rated_kw) * part_h
            last = replace(last, run_h=last.run_h + part_h, counted_kwh=last.counted_kwh + kwh)
        hours = (*kept, replace(last, low_load_h=last.low_load_h + low_h))
    since_h, burning_h = duty.low_load_h + low_h, duty.burning_h
    if low is not None and low.burn_off is not None:
        hot = load_kw >= low.burn_off.above_ratio * rated_kw
        burning_h = burning_h + part_h if hot else 0.0
        if burning_h >= low.burn_off.for_h - EPS_S / 3600.0:
            since_h = 0.0
    exercising_h, last_run = _exercised(params, duty, load_kw, hour, part_h)
    return replace(
        duty,
        hours=hours,
        low_load_h=since_h,
        burning_h=burning_h,
        year_run_h=duty.year_run_h + part_h,
        run_h=duty.run_h + part_h,
        exercising_h=exercising_h,
        exercised_at=last_run,
    )


def _exercised(
    params: GensetParams, duty: GensetDuty, load_kw: float, hour: datetime, part_h: float
) -> tuple[float, datetime | None]:
    """How long it has had the load of an exercise run, and in which hour the last one was long enough."""
    exercise = params.exercise
    if exercise is None or load_kw < exercise.load_ratio * params.p_rated_kw:
        return 0.0, duty.exercised_at
    exercising_h = duty.exercising_h + part_h
    enough = exercising_h >= exercise.for_h - EPS_S / 3600.0
    return exercising_h, hour if enough else duty.exercised_at


# --- what is due ------------------------------------------------------------------------------------------


def burn_off_due(params: GensetParams, duty: GensetDuty) -> bool:
    """Whether it has run so long at low load that it is to run hot for a while."""
    burn_off = None if params.low_load is None else params.low_load.burn_off
    return burn_off is not None and duty.low_load_h >= burn_off.after_h


def exercise_due(params: GensetParams, duty: GensetDuty, at: datetime) -> bool:
    """Whether its last exercise run is too long ago."""
    if params.exercise is None or duty.exercised_at is None:
        return False
    return at.astimezone(UTC) - duty.exercised_at >= timedelta(hours=params.exercise.every_h)


def exercise_asked(params: GensetParams, condition: PlantCondition) -> bool:
    """The same now: by record time, as the last run was recorded."""
    return exercise_due(params, condition.gensets[params.id].duty, condition.at)


def low_load_h(params: GensetParams, duty: GensetDuty, at: datetime) -> float:
    """Hours at low load in the window of its budget [h]."""
    since = at.astimezone(UTC) - timedelta(hours=keep_h(params))
    return sum(h.low_load_h for h in duty.hours if h.start + HOUR > since)


def duty_alarms(gensets: Mapping[str, GensetParams], condition: PlantCondition) -> tuple[Alarm, ...]:
    """Sets that ask for a hot run, and those whose exercise run is due."""
    out, at = [], condition.at
    for g, params in gensets.items():
        duty, low = condition.gensets[g].duty, params.low_load
        if low is not None and low.burn_off is not None and burn_off_due(params, duty):
            hot = low.burn_off
            asks = f"asks for {hot.for_h:g} h above {hot.above_ratio:.0%} of its rating"
            text = f"{g} has run {duty.low_load_h:.1f} h at low load since the last hot run: it {asks}"
            out.append(Alarm(code="genset.burn_off.due", asset=g, text=text))
        elif low is not None and low.budget_h is not None:
            used_h = low_load_h(params, duty, at)
            if used_h > low.budget_h:
                text = f"{g} has run {used_h:.1f} h at low load in {low.window_h:g} h: more than its budget"
                out.append(Alarm(code="genset.low_load", asset=g, text=text))
        if exercise_due(params, duty, at):
            assert params.exercise is not None
            days = params.exercise.every_h / 24.0
            text = f"{g} has had no exercise run for {days:g} days"
            out.append(Alarm(code="genset.exercise.due", asset=g, text=text))
    return tuple(out)
