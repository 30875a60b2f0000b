"""What a deferrable device's own numbers mean together: windows that hold their work, one at a time."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from ems.deferrable import DailyWork, DeferrableParams, WorkWindow
from ems.points import AssetKind
from ems.site_schema.draft import Draft
from ems.site_schema.forms_loads import DailyWorkForm, DatedWorkForm, DeferrableForm
from ems.site_schema.text import Loc
from ems.site_schema.words import hint

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday")
LOOKED_AT = timedelta(days=370)


def deferrable(device_id: str, form: DeferrableForm) -> DeferrableParams:
    """The device of a form that passed its checks."""

    def work_kwh(x: DailyWorkForm | DatedWorkForm) -> float:
        return _work_kwh(form, x)

    return DeferrableParams(
        id=device_id,
        feeder=form.feeder,
        p_kw=form.p_kw,
        p_min_kw=form.p_kw if form.p_min_kw is None else form.p_min_kw,
        unfinished_per_kwh=form.unfinished_per_kwh,
        daily=tuple(
            DailyWork(
                start_h=x.start,
                end_h=x.end,
                weekdays=frozenset(_DAYS.index(d) for d in x.days),
                energy_kwh=work_kwh(x),
            )
            for x in form.daily
        ),
        dated=tuple(WorkWindow(start=x.start, end=x.end, energy_kwh=work_kwh(x)) for x in form.dated),
        alone_on_feeder=form.alone_on_feeder,
        interruptible=form.interruptible,
        min_run_s=form.min_run_s,
        starts_per_window_max=form.starts_per_window_max,
    )


def _work_kwh(form: DeferrableForm, work: DailyWorkForm | DatedWorkForm) -> float:
    if work.energy_kwh is not None:
        return work.energy_kwh
    return form.p_kw * (work.run_h if work.run_h is not None else 0.0)


def check_deferrables(draft: Draft) -> None:
    """Every check of every device."""
    alone: dict[str, str] = {}
    for device_id, form in draft.deferrables.items():
        loc: Loc = ("deferrables", device_id)
        if device_id in draft.kinds:
            draft.add(loc, f"the id {device_id!r} again", "each id once")
        if draft.kinds.get(form.feeder) is not AssetKind.FEEDER:
            feeders = list(draft.of_kind(AssetKind.FEEDER))
            draft.add(
                (*loc, "feeder"),
                repr(form.feeder),
                f"one of {', '.join(feeders)}",
                hint(form.feeder, feeders),
            )
        if form.feeder in alone:
            draft.add((*loc, "feeder"), form.feeder, f"another feeder: {alone[form.feeder]} is alone on it")
        if form.alone_on_feeder:
            alone[form.feeder] = device_id
        _powers(draft, loc, form)
        whole = [_window(draft, (*loc, "daily", i), form, x) for i, x in enumerate(form.daily)]
        whole += [_window(draft, (*loc, "dated", i), form, x) for i, x in enumerate(form.dated)]
        if not whole:
            draft.add(loc, "no work", "windows in daily or in dated")
        elif all(whole):
            _apart(draft, loc, deferrable(device_id, form))


def _powers(draft: Draft, loc: Loc, form: DeferrableForm) -> None:
    p_min_kw = form.p_kw if form.p_min_kw is None else form.p_min_kw
    if p_min_kw > form.p_kw:
        draft.add((*loc, "p_min_kw"), f"{p_min_kw:g} kW", f"at most p_kw, {form.p_kw:g} kW")
    for key, asked in (
        ("min_run_s", form.min_run_s > 0.0),
        ("starts_per_window_max", form.starts_per_window_max is not None),
        ("interruptible", not form.interruptible),
    ):
        if asked and not p_min_kw > 0.0:
            draft.add((*loc, key), "a limit on runs of a device with p_min_kw 0", "p_min_kw above 0")


def _window(draft: Draft, loc: Loc, form: DeferrableForm, work: DailyWorkForm | DatedWorkForm) -> bool:
    """Whether a window can hold its work; its problems are noted."""
    if (work.energy_kwh is None) == (work.run_h is None):
        draft.add(
            loc, "energy_kwh and run_h" if work.run_h is not None else "no work", "one of energy_kwh, run_h"
        )
        return False
    if isinstance(work, DailyWorkForm):
        for key, hour in (("from", work.start), ("to", work.end)):
            if (hour * 4.0) % 1.0 or (key == "from" and hour >= 24.0):
                draft.add((*loc, key), f"{hour:g} h", "a quarter of an hour of the day")
                return False
        hours = work.end - work.start if work.end > work.start else 24.0 + work.end - work.start
    else:
        hours = (work.end - work.start).total_seconds() / 3600.0
        if hours <= 0.0:
            draft.add((*loc, "end"), work.end.isoformat(), f"after the start, {work.start.isoformat()}")
            return False
    kwh = _work_kwh(form, work)
    key = "energy_kwh" if work.energy_kwh is not None else "run_h"
    if kwh > form.p_kw * hours * (1.0 + 1e-9):
        draft.add(
            (*loc, key),
            f"{kwh:g} kWh in {hours:g} h",
            f"at most {form.p_kw * hours:g} kWh at {form.p_kw:g} kW",
        )
        return False
    p_min_kw = form.p_kw if form.p_min_kw is None else form.p_min_kw
    if kwh < p_min_kw * form.min_run_s / 3600.0 * (1.0 - 1e-9):
        least = p_min_kw * form.min_run_s / 3600.0
        draft.add((*loc, key), f"{kwh:g} kWh", f"{least:g} kWh or more: one minimum run takes that")
        return False
    return True


def _apart(draft: Draft, loc: Loc, unit: DeferrableParams) -> None:
    """Windows of a device follow one another: work belongs to one of them."""
    tariff, place = draft.tariff, draft.location
    if tariff is None or place is None:
        return
    try:
        zone = ZoneInfo(place.timezone)
    except (ValueError, OSError, LookupError):
        return
    begins = [w.start for w in unit.dated]
    begin = min(begins, default=datetime(2026, 1, 1, tzinfo=UTC)) - timedelta(days=2)
    end = max([w.end for w in unit.dated], default=begin) + LOOKED_AT
    windows = unit.windows(begin, end, zone, frozenset(tariff.holidays))
    for a, b in pairwise(windows):
        if b.start.timestamp() < a.end.timestamp():
            draft.add(
                loc,
                f"windows from {a.start.isoformat()} and from {b.start.isoformat()} overlap",
                "one window at a time: make two devices of it",
            )
            return
