"""From one forecast to the problems of its scenarios, or to the one adverse problem of a robust plan."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from ems.condition import PlantCondition
from ems.forecast import Forecast
from ems.site import Site
from ems.timegrid import FloatArray, TimeGrid
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


def first_steps(grid: TimeGrid, uncertainty: Uncertainty) -> int:
    """Leading steps that are common to all scenarios, at least one."""
    return max(1, int((grid.offset_s[:-1] < uncertainty.first_s - 1e-6).sum()))


def commit_steps(p: PlanningProblem, uncertainty: Uncertainty) -> int:
    """Leading steps with common commitment."""
    whole = int((np.cumsum(~p.integral) == 0).sum())
    if uncertainty.commit_s is not None:
        whole = min(whole, int((p.grid.offset_s[:-1] < uncertainty.commit_s - 1e-6).sum()))
    return max(whole, first_steps(p.grid, uncertainty))


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
            forecast = adverse(site, forecast, u)
        case UncertaintyKind.TWO_STAGE if len(forecast.scenarios) < 2:
            note = "no scenarios in the forecast: planned for the expected path alone"
            forecast = replace(forecast, repairs=(*forecast.repairs, note))
        case _:
            pass
    expected = planning_problem(site, condition, forecast, options, outlook)
    if u.kind is not UncertaintyKind.TWO_STAGE or len(forecast.scenarios) < 2:
        return (ScenarioProblem(label="expected", probability_ratio=1.0, problem=expected),)
    common = first_steps(forecast.grid, u)
    own = expected.integral & (np.arange(expected.steps) < commit_steps(expected, u))
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
        out.append(ScenarioProblem(label=s.label, probability_ratio=s.probability_ratio, problem=p))
    return tuple(out)


def _from_step(
    first: int, before: Mapping[str, FloatArray], after: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """Series of `before` in the first steps, of `after` from then on."""
    return {a: np.concatenate([row[:first], after[a][first:]]) for a, row in before.items()}


def adverse(site: Site, forecast: Forecast, u: Uncertainty) -> Forecast:
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
