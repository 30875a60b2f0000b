"""Independent check of a plan: replay it through plant_models, no solver. Beyond tolerance it is refused.

Only the steps with whole commitment are judged by the physics of units; the relaxed tail is an opinion.
One file for each part of the plant.
"""

import math
from itertools import chain

import numpy as np

from ems.plan import Plan
from ems.timegrid import FloatArray
from optimizer.problem import PlanningProblem
from optimizer.validate.battery import check_batteries, check_full_charge, check_terms, check_wear
from optimizer.validate.bus import check_bus
from optimizer.validate.deferrable import check_deferrables
from optimizer.validate.feeders import check_feeders
from optimizer.validate.findings import Findings, Tolerance, Verdict
from optimizer.validate.genset import check_genset
from optimizer.validate.genset_care import check_care, check_load_steps, check_sharing
from optimizer.validate.poi import check_poi
from optimizer.validate.reactive import check_reactive
from optimizer.validate.security import check_security
from optimizer.validate.sources import check_sources

__all__ = ["Tolerance", "Verdict", "validate"]

USUAL = Tolerance()


def validate(
    plan: Plan,
    p: PlanningProblem,
    slack_kw: FloatArray | None = None,
    tolerance: Tolerance = USUAL,
) -> Verdict:
    """Replay a plan from the start of its problem.

    Parameters
    ----------
    plan : Plan
    p : PlanningProblem
        What the plan was made for: start, limits, forecasts, on the plan's own grid.
    slack_kw : (T,) array or None
        Named surplus minus named shortage at the bus, which the plan reports in its notes [kW].
    tolerance : Tolerance
    """
    found = Findings(plan)
    series = [*plan.bess_p_kw.values(), *plan.genset_p_kw.values(), *plan.pv_p_kw.values(), plan.grid_p_kw]
    series += [*plan.shed_kw.values(), *plan.genset_on.values(), *plan.bess_soc_end.values()]
    series += [*plan.deferrable_kw.values()]
    if any(len(x) != p.steps for x in series) or not all(map(math.isfinite, chain(*series))):
        return Verdict(faults=("a series is not finite or not as long as the grid",), worst={})
    head = int((np.cumsum(~p.integral) == 0).sum())
    check_bus(found, plan, p, np.zeros(p.steps) if slack_kw is None else slack_kw, tolerance)
    check_feeders(found, plan, p, head, tolerance)
    check_deferrables(found, plan, p, head, tolerance)
    check_batteries(found, plan, p, head, tolerance)
    check_wear(found, plan, p, tolerance)
    check_terms(found, plan, p, tolerance)
    check_full_charge(found, plan, p, head, tolerance)
    for params, start in zip(p.site.gensets, p.gensets, strict=True):
        check_genset(found, plan, p, params, start, head, tolerance)
    check_sources(found, plan, p, head, tolerance)
    if plan.contingency:
        check_security(found, plan, p, head)
    check_poi(found, plan, p, tolerance)
    check_reactive(found, plan, p, tolerance)
    check_care(found, plan, p, head)
    check_load_steps(found, plan, p, head)
    check_sharing(found, plan, p, head, tolerance)
    return Verdict(faults=tuple(found.faults), worst=found.worst)
