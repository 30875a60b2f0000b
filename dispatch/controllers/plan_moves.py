"""The edge's own check of a plan from step to step: ramps, run times, and who forms each step.

Beside dispatch.controllers.plan_check, and as mistrustful. Only steps that may be executed are looked at;
what was before the first one the plan does not say.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ems.assets import GensetParams
from ems.plan import Plan
from ems.points import point_id
from ems.site import GridMode, Site

KW_TOLERANCE = 1.0
TIME_TOLERANCE_S = 1.0


def check_moves(site: Site, plan: Plan, last: int) -> Iterator[str]:
    """What forbids following the first `last` steps of a plan of good shape, in words."""
    for unit in site.gensets:
        run = _Run(
            unit=unit,
            on=tuple(x > 0.5 for x in plan.genset_on[unit.id][:last]),
            p_kw=plan.genset_p_kw[unit.id][:last],
            step_s=plan.grid.step_s[:last],
        )
        yield from run.ramps()
        yield from run.times()
    yield from _setpoints(site, plan, last)
    yield from _poi(site, plan, last)
    yield from _forming(site, plan, last)


def _apart_s(step_s: Sequence[float], t: int) -> float:
    """From the middle of the step before to that of step `t` [s]."""
    return 0.5 * (step_s[t - 1] + step_s[t])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One genset over the steps that may be executed."""

    unit: GensetParams
    on: tuple[bool, ...]
    p_kw: Sequence[float]
    step_s: Sequence[float]

    def ramps(self) -> Iterator[str]:
        """Change of load while it runs, load in the first and in the last step of a run."""
        u = self.unit
        for t in range(1, len(self.on)):
            before, now = self.p_kw[t - 1], self.p_kw[t]
            apart_s = _apart_s(self.step_s, t)
            match self.on[t - 1], self.on[t]:
                case True, True:
                    low = before - u.ramp_down_or_up_kw_s * apart_s
                    high = before + u.ramp_kw_s * apart_s
                    kept, what = low - KW_TOLERANCE <= now <= high + KW_TOLERANCE, "its ramp"
                case False, True:
                    kept, what = now <= u.start_up_or_rated_kw + KW_TOLERANCE, "its load at the start"
                case True, False:
                    kept, what = before <= u.shut_down_or_rated_kw + KW_TOLERANCE, "its load at the stop"
                case _:
                    continue
            if not kept:
                yield f"genset_p_kw[{u.id}] goes {before:.1f} -> {now:.1f} in step {t}, beyond {what}"
                return

    def times(self) -> Iterator[str]:
        """Runs and rests that begin and end within the plan."""
        since_s: float | None = None
        for t in range(1, len(self.on)):
            lasted_s = None if since_s is None else sum(self.step_s[:t]) - since_s
            if self.on[t] is self.on[t - 1]:
                continue
            least_s = self.unit.min_up_s if self.on[t - 1] else self.unit.min_down_s
            if lasted_s is not None and lasted_s < least_s - TIME_TOLERANCE_S:
                state = "runs" if self.on[t - 1] else "rests"
                yield f"{self.unit.id} {state} {lasted_s:.0f} s up to step {t}, at least {least_s:.0f} s"
                return
            since_s = sum(self.step_s[:t])


def _setpoints(site: Site, plan: Plan, last: int) -> Iterator[str]:
    """Batteries move no faster than their setpoints may; less of the same is free, as at the gate."""
    for b in site.bess:
        authority = site.authority.setpoints.get(point_id(b.id, "p_set_kw"))
        if authority is None or authority.ramp_per_s is None:
            continue
        p_kw = plan.bess_p_kw[b.id]
        for t in range(1, last):
            before, now = p_kw[t - 1], p_kw[t]
            eases = abs(now) <= abs(before) and now * before >= 0.0
            most_kw = authority.ramp_per_s * _apart_s(plan.grid.step_s, t)
            if not eases and not abs(now - before) <= most_kw + KW_TOLERANCE:
                yield f"bess_p_kw[{b.id}] goes {before:.1f} -> {now:.1f} in step {t}, ramp {most_kw:.1f}"
                break


def _poi(site: Site, plan: Plan, last: int) -> Iterator[str]:
    """The contract's ramp at the POI, but for what the plan says it knowingly misses."""
    if site.grid.ramp_kw_s is None:
        return
    missed: Mapping[str, Sequence[float]] = plan.missed
    known = missed.get("ramp_kw", ())
    for t in range(1, last):
        if not (plan.grid_mode[t] is plan.grid_mode[t - 1] is GridMode.GRID_TIED):
            continue
        before, now = plan.grid_p_kw[t - 1], plan.grid_p_kw[t]
        most_kw = site.grid.ramp_kw_s * _apart_s(plan.grid.step_s, t) + (known[t] if known else 0.0)
        if not abs(now - before) <= most_kw + KW_TOLERANCE:
            yield f"grid_p_kw goes {before:.1f} -> {now:.1f} in step {t}, ramp {most_kw:.1f}"
            return


def _forming(site: Site, plan: Plan, last: int) -> Iterator[str]:
    """Somebody who can forms every step; where nobody does the bus is dead and nobody gives anything."""
    for t in range(last):
        why = _cannot_form(site, plan, t)
        if why:
            yield f"forming is {plan.forming[t]!r} in step {t} ({plan.grid_mode[t]}): {why}"
            return


def _cannot_form(site: Site, plan: Plan, t: int) -> str:
    former, mode = plan.forming[t], plan.grid_mode[t]
    if mode is GridMode.GRID_TIED:
        return "" if former == site.grid.id else f"beside the grid it is {site.grid.id!r}"
    if mode is not GridMode.ISLANDED:
        return "no plan is made for this grid mode"
    if former == "":
        given = (plan.bess_p_kw, plan.genset_p_kw, plan.pv_p_kw)
        live = any(abs(row[t]) > KW_TOLERANCE for by_asset in given for row in by_asset.values())
        return "on a dead bus nobody gives or takes anything" if live else ""
    if former not in site.forming.islanded:
        return f"allowed: {', '.join(site.forming.islanded)}"
    if former in plan.genset_on:
        return "" if plan.genset_on[former][t] > 0.5 else "it is off"
    able = any(b.id == former and b.pcs.can_form for b in site.bess)
    return "" if able else "it cannot form"
