"""What a solution says of the terms that only a case has."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ems.plan import Plan, Series
from ems.timegrid import FloatArray
from optimizer.case_check import Result
from optimizer.case_terms import Kind
from optimizer.cases import Case
from optimizer.extract import series
from optimizer.formulations import lakes
from optimizer.formulations.products import shares
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

Values = Mapping[str, FloatArray]


def ridden_kw(s: Structure, v: Values) -> dict[str, FloatArray]:
    """(T,) output on the way up and down by unit [kW]."""
    return {x.id: v["ride_kw"][r] for r, x in enumerate(s.formulation.terms.rides)}


def result_of(case: Case, s: Structure, v: Values, plan: Plan) -> Result:
    """Series of a result by kind and id."""
    terms, ridden, grid = s.formulation.terms, ridden_kw(s, v), np.asarray(plan.grid_p_kw)
    flow: dict[tuple[Kind, str], FloatArray] = {
        (Kind.GRID, "grid"): np.maximum(grid, 0.0),
        (Kind.EXPORT, "grid.export"): np.maximum(-grid, 0.0),
    }
    for x in case.units:
        flow[Kind.UNIT, x.id] = np.asarray(plan.genset_p_kw[x.id]) + ridden.get(x.id, 0.0)
    for y in case.storages:
        net = np.asarray(plan.bess_p_kw[y.id])
        flow[Kind.STORAGE, y.id], flow[Kind.CHARGE, y.id] = np.maximum(net, 0.0), np.maximum(-net, 0.0)
    for i, row in plan.pv_p_kw.items():
        flow[Kind.RENEWABLE, i] = np.asarray(row)
    for load in case.loads:
        flow[Kind.LOAD, load.id] = np.asarray(plan.load_kw[load.id]) - np.asarray(plan.shed_kw[load.id])
    held = {(q.id, x.id, x.offline): v["product_kw"][k] for k, (q, x) in enumerate(shares(s))}
    return Result(
        on={i: np.asarray(row) for i, row in plan.genset_on.items()},
        flow=flow,
        held=held,
        held_short={q.id: v["product_short_kw"][k] for k, q in enumerate(terms.products)},
        missed={
            b.id: (float(v["budget_short"][k]), float(v["budget_over"][k]))
            for k, b in enumerate(terms.budgets)
        },
        step_h=s.step_h,
    )


def replayed(case: Case, p: PlanningProblem, s: Structure, v: Values) -> PlanningProblem:
    """The problem as a replay has to know it: where a storage began, and what it kept of its inflow."""
    spilt = dict(zip(lakes.ids(s), v.get("spill_kwh", ()), strict=True))
    starts = list(p.bess)
    for b, x in enumerate(case.storages):
        if x.cyclic:
            starts[b] = replace(starts[b], stored_kwh=float(v["stored_kwh"][b, -1]))
        if x.id in spilt:
            inflow = s.step_h * case.series("inflow_kw", x.inflow_kw)
            starts[b] = replace(starts[b], inflow_kwh=inflow - spilt[x.id])
    return replace(p, bess=tuple(starts))


def held_by(found: Result) -> dict[str, dict[str, Series]]:
    """Reserve held by product and responder, on line and off line together."""
    out: dict[str, dict[str, FloatArray]] = {}
    for (q, asset, _), kw in found.held.items():
        own = out.setdefault(q, {})
        own[asset] = own[asset] + kw if asset in own else kw
    return {q: {i: series(kw) for i, kw in own.items()} for q, own in out.items()}


def short_of(found: Result) -> dict[str, Series]:
    """What is missing of each reserve."""
    return {q: series(kw) for q, kw in found.held_short.items()}
