"""From one forecast to the problems of its scenarios, or to the one adverse problem of a robust plan."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from statistics import NormalDist

import numpy as np

from ems.condition import PlantCondition
from ems.forecast import Forecast
from ems.outage import OutageNotice
from ems.site import Site
from ems.timegrid import FloatArray, TimeGrid
from optimizer.formulations.genset_commitment import FIRST_STEP_SHARE
from optimizer.formulations.survival import MONTH_H
from optimizer.intake import planning_problem
from optimizer.options import PlannerOptions
from optimizer.outlook import MonthOutlook
from optimizer.problem import PlanningProblem
from optimizer.uncertainty import Uncertainty, UncertaintyKind

BAND = 0.9  # quantile of load whose band a forecast carries; of PV its complement


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioProblem:
    """One scenario as a problem; all of a set have one grid and one state of the plant."""

    label: str
    probability_ratio: float
    problem: PlanningProblem
    first_steps: int  # so long all its decisions are those of the first one
    commit_steps: int  # so long its commitment is


def first_steps(grid: TimeGrid, uncertainty: Uncertainty) -> int:
    """Leading steps that are common to all scenarios, at least one."""
    return max(1, int((grid.offset_s[:-1] < uncertainty.first_s - 1e-6).sum()))


def commit_steps(p: PlanningProblem, uncertainty: Uncertainty) -> int:
    """Leading steps with common commitment, never beyond those with whole commitment.

    Unless told otherwise: until gensets that are asked for after the common steps count as on load.
    """
    first, whole = first_steps(p.grid, uncertainty), _whole(p)
    if uncertainty.commit_s is None:
        return max(first, min(whole, _started(p.site, p.grid, first)))
    return max(first, min(whole, int((p.grid.offset_s[:-1] < uncertainty.commit_s - 1e-6).sum())))


def _whole(p: PlanningProblem) -> int:
    return int((np.cumsum(~p.integral) == 0).sum())


def scenario_problems(
    site: Site,
    condition: PlantCondition,
    forecast: Forecast,
    options: PlannerOptions,
    outlook: MonthOutlook | None = None,
) -> tuple[ScenarioProblem, ...]:
    """The problems that one plan is made for, the expected one first.

    Raises
    ------
    DataError : as `planning_problem`.
    """
    u = options.uncertainty
    match u.kind:
        case UncertaintyKind.ROBUST:
            forecast = adverse(forecast, u)
        case UncertaintyKind.TWO_STAGE if len(forecast.scenarios) < 2:
            note = "no scenarios in the forecast: planned for the expected path alone"
            forecast = replace(forecast, repairs=(*forecast.repairs, note))
        case _:
            pass
    expected = planning_problem(site, condition, forecast, options, outlook)
    if u.kind is not UncertaintyKind.TWO_STAGE or len(forecast.scenarios) < 2:
        return (_scenario("expected", 1.0, expected, (expected.steps, expected.steps)),)
    common, commit = first_steps(forecast.grid, u), commit_steps(expected, u)
    own = expected.integral & (np.arange(expected.steps) < commit)
    out = []
    for k, s in enumerate(forecast.scenarios):
        p = expected
        if k > 0:
            varied = replace(
                forecast,
                load_kw=_from_step(common, forecast.load_kw, s.load_kw),
                pv_kw=_from_step(common, forecast.pv_kw, s.pv_kw),
            )
            p = replace(planning_problem(site, condition, varied, options, outlook), integral=own)
        out.append(_scenario(s.label, s.probability_ratio, p, (common, commit)))
    lost = _outages(site, condition, forecast, options, expected, outlook)
    left = 1.0 - sum(x.probability_ratio for x in lost)
    return (*(replace(x, probability_ratio=left * x.probability_ratio) for x in out), *lost)


def _scenario(
    label: str, probability_ratio: float, p: PlanningProblem, common: tuple[int, int]
) -> ScenarioProblem:
    first, commit = common
    return ScenarioProblem(
        label=label,
        probability_ratio=probability_ratio,
        problem=p,
        first_steps=first,
        commit_steps=commit,
    )


def _outages(
    site: Site,
    condition: PlantCondition,
    forecast: Forecast,
    options: PlannerOptions,
    expected: PlanningProblem,
    outlook: MonthOutlook | None,
) -> list[ScenarioProblem]:
    """Outages that nobody announced, on the expected path of load and sun.

    They arrive as a Poisson process of `reserve.outages_per_month` and last `reserve.assumed_outage_h`. The
    time with whole commitment is parted evenly; an outage in a part begins with the step in its middle. Until
    then all is as on the expected path; from then on gensets may be started for it, as their delay allows.
    """
    rate, u = site.reserve.outages_per_month, options.uncertainty
    if not u.outages or not rate:
        return []
    whole, grid = _whole(expected), forecast.grid
    span_s = float(grid.offset_s[whole])
    each = -math.expm1(-rate * span_s / 3600.0 / MONTH_H) / u.outages
    out = []
    for k in range(u.outages):
        middle_s = span_s * (k + 0.5) / u.outages
        at = int(np.searchsorted(grid.offset_s, middle_s, side="right")) - 1
        if at < first_steps(grid, u) or not expected.grid_available[at]:
            continue
        begin = grid.starts()[at]
        notice = OutageNotice(
            id=f"scenario-{k}",
            issued_at=forecast.issued_at,
            start=begin,
            end=begin + timedelta(hours=site.reserve.assumed_outage_h),
            source="scenario",
        )
        p = planning_problem(
            site, condition, replace(forecast, outages=(*forecast.outages, notice)), options, outlook
        )
        common = min(_started(site, grid, at), commit_steps(expected, u))
        p = replace(p, integral=expected.integral & (np.arange(len(grid)) < common))
        out.append(_scenario(f"no mains from {begin:%d %H:%M} UTC", each, p, (at, common)))
    return out


def _started(site: Site, grid: TimeGrid, at: int) -> int:
    """First step in which gensets asked for at the start of step `at` count as on load."""
    delay_s = max((g.start_delay_s for g in site.gensets), default=0.0)
    if at >= len(grid) or delay_s <= FIRST_STEP_SHARE * grid.step_s[at]:
        return at
    return int(np.searchsorted(grid.offset_s[:-1], grid.offset_s[at] + delay_s - 1e-6))


def _from_step(
    first: int, before: Mapping[str, FloatArray], after: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """Series of `before` in the first steps, of `after` from then on."""
    return {a: np.concatenate([row[:first], after[a][first:]]) for a, row in before.items()}


def adverse(forecast: Forecast, u: Uncertainty) -> Forecast:
    """The forecast at a quantile of load and the complementary one of PV, but for the first steps.

    Bands give 10 and 90 %; other quantiles are read off the half of a normal distribution through them.
    """
    if not ({"p90"} <= set(forecast.load_kw_quantiles) and {"p10"} <= set(forecast.pv_kw_quantiles)):
        note = "no quantiles in the forecast: planned for the expected path alone"
        return replace(forecast, repairs=(*forecast.repairs, note))
    times = NormalDist().inv_cdf(u.quantile_ratio) / NormalDist().inv_cdf(BAND)
    first = first_steps(forecast.grid, u)
    high, low = forecast.load_kw_quantiles["p90"], forecast.pv_kw_quantiles["p10"]
    load = {f: mean + times * (high[f] - mean) for f, mean in forecast.load_kw.items()}
    pv = {i: np.maximum(0.0, mean + times * (low[i] - mean)) for i, mean in forecast.pv_kw.items()}
    high_ratio, low_ratio = u.quantile_ratio, 1.0 - u.quantile_ratio
    note = f"robust: planned for the {high_ratio:.0%} quantile of load and the {low_ratio:.0%} one of PV"
    return replace(
        forecast,
        load_kw=_from_step(first, forecast.load_kw, load),
        pv_kw=_from_step(first, forecast.pv_kw, pv),
        repairs=(*forecast.repairs, note),
    )
