"""The bus and what hangs on it: balance, grid, PV, feeders, who forms it."""

from collections.abc import Mapping

import numpy as np

from ems.plan import Plan
from ems.timegrid import FloatArray
from optimizer.problem import PlanningProblem
from optimizer.validate.findings import Findings, Tolerance


def check_bus(found: Findings, plan: Plan, p: PlanningProblem, slack_kw: FloatArray, tol: Tolerance) -> None:
    """Power into the bus is load served plus auxiliaries; grid, PV and shedding inside their limits."""
    T, site = p.steps, p.site
    imported = np.array(plan.grid_p_kw)
    produced = _total(plan.genset_p_kw, T) + _total(plan.pv_p_kw, T) + _total(plan.bess_p_kw, T) + imported
    aux = sum(b.battery.aux_kw for b in site.bess)
    served = p.load_kw.sum(axis=0) - _total(plan.shed_kw, T) + _total(plan.deferrable_kw, T) + aux
    found.within("balance", "the bus does not balance", np.abs(produced - served - slack_kw), tol.balance_kw)
    found.within("import", "import over its cap", imported - p.import_cap_kw, tol.limit_kw)
    found.within("export", "export over its cap", -imported - p.export_cap_kw, tol.limit_kw)
    for i, unit in enumerate(site.pv):
        used = np.array(plan.pv_p_kw[unit.id])
        found.within(
            "pv", f"{unit.id} outside 0..available", np.maximum(-used, used - p.pv_kw[i]), tol.limit_kw
        )
    for i, feeder in enumerate(site.feeders):
        shed = np.array(plan.shed_kw[feeder.id])
        found.within(
            "shed", f"{feeder.id} shed beyond its load", np.maximum(-shed, shed - p.load_kw[i]), tol.limit_kw
        )
        if feeder.has_breaker:
            part = np.minimum(shed, p.load_kw[i] - shed) * p.shed_whole
            found.within("whole_feeder", f"{feeder.id} shed in part", part, tol.limit_kw)
    unformed = np.array([float(not f) for f in plan.forming])
    found.within("forming", "load on a bus that nobody forms", unformed * (served - aux), tol.limit_kw)


def _total(series: Mapping[str, tuple[float, ...]], T: int) -> FloatArray:
    out: FloatArray = np.array([*series.values(), np.zeros(T)]).sum(axis=0)
    return out
