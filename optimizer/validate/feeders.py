"""How often and how long feeders are shed, counted from the plan's series; what is beyond must be said."""

from zoneinfo import ZoneInfo

import numpy as np

from ems.assets import FeederParams
from ems.plan import Plan
from ems.timegrid import FloatArray
from optimizer.problem import PlanningProblem
from optimizer.validate.findings import Findings, Tolerance

DAY_S = 86400.0
SLACK_S = 1.0


def check_feeders(found: Findings, plan: Plan, p: PlanningProblem, head: int, tol: Tolerance) -> None:
    """Openings and time open of each feeder that is shed whole, in any 24 h and at a stretch."""
    if not p.shed_whole.any():
        return
    for i, f in enumerate(p.site.feeders):
        if not f.has_breaker:
            continue
        load, shed = p.load_kw[i][:head], np.array(plan.shed_kw[f.id])[:head]
        is_open = (shed > tol.limit_kw) & (shed >= 0.5 * load) & p.shed_whole[:head]
        _stretch(found, plan, p, i, f, is_open)
        _day(found, plan, p, i, f, is_open)


def _said(plan: Plan, name: str, steps: int) -> FloatArray:
    return np.array(plan.missed.get(name, (0.0,) * len(plan.grid)))[:steps]


def _stretch(
    found: Findings, plan: Plan, p: PlanningProblem, i: int, f: FeederParams, is_open: FloatArray
) -> None:
    if f.shed_stretch_s_max is None:
        return
    over, so_far = np.zeros(len(is_open)), p.feeder_use[i].stretch_s if p.feeder_open[i] else 0.0
    for t, held in enumerate(is_open):
        so_far = so_far + p.grid.step_s[t] if held else 0.0
        if so_far > f.shed_stretch_s_max + SLACK_S:
            over[t] = p.grid.step_s[t] / 3600.0
    said = _said(plan, f"{f.id}_shed_stretch_over_h", len(is_open))
    found.within("shed_stretch", f"{f.id} shed too long at a stretch [h]", over - said, 0.01)


def _day(
    found: Findings, plan: Plan, p: PlanningProblem, i: int, f: FeederParams, is_open: FloatArray
) -> None:
    """Counted from each step's end back; today's so far counts for steps of the local day of the start."""
    zone, use = ZoneInfo(p.site.tariff.timezone), p.feeder_use[i]
    day = p.grid.start.astimezone(zone).date()
    begins, ends = p.grid.offset_s[: len(is_open)], p.grid.offset_s[1 : len(is_open) + 1]
    before = np.concatenate([[bool(p.feeder_open[i])], is_open[:-1]]).astype(np.bool_)
    opened = is_open.astype(np.bool_) & ~before
    often, long = np.zeros(len(is_open)), np.zeros(len(is_open))
    for t, start in enumerate(p.grid.starts()[: len(is_open)]):
        today = start.astimezone(zone).date() == day
        if f.sheds_per_day_max is not None:
            recent = opened & (begins <= begins[t]) & (begins > begins[t] - DAY_S + SLACK_S)
            often[t] = recent.sum() - max(0, f.sheds_per_day_max - use.sheds * today)
        if f.shed_per_day_s_max is not None:
            recent = is_open.astype(np.bool_) & (ends <= ends[t]) & (begins > ends[t] - DAY_S - SLACK_S)
            open_s = float((ends - begins)[recent].sum())
            long[t] = (open_s - max(0.0, f.shed_per_day_s_max - use.open_s * today)) / 3600.0
    steps = len(is_open)
    often -= _said(plan, f"{f.id}_sheds_over_count", steps)
    long -= _said(plan, f"{f.id}_shed_over_h", steps)
    found.within("sheds_per_day", f"{f.id} shed too often in a day", often, 0.5)
    found.within("shed_per_day", f"{f.id} shed too long in a day [h]", long, 0.02)
