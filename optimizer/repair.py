"""A commitment that is given, dispatched anew: what a plan is made of when no search has found one in time.

Every whole column is fixed, at the last plan's value where it reaches, else at the relaxation's rounded up,
else with the largest units on that carry each island, else at its lowest, so that what is left is a linear
program of some tens of milliseconds on the present condition and forecast. Nothing is relaxed: the plan is as
whole as any, only not searched for.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ems.timegrid import BoolArray, FloatArray
from optimizer.compiled import Compiled, Filled
from optimizer.fleets import machines
from optimizer.formulations.battery import bent
from optimizer.problem import PlanningProblem
from optimizer.solve import Effort, Outcome, Session

LEAST_ON = 0.02  # of a unit in the relaxation: more means on
LEAST_S = 0.3  # for a linear program after the deadline; late by so much at most

Start = dict[str, FloatArray]


def held(compiled: Compiled, filled: Filled, start: Start | None) -> Filled:
    """The problem with every whole column fixed at its start, where that is known, else at its lowest."""
    value = np.ceil(filled.low - 1e-9)
    for name, given in ({} if start is None else start).items():
        at, flat = compiled.form.columns[name], given.ravel()
        known = np.isfinite(flat)
        value[at[known]] = np.round(flat[known])
    value = np.clip(value, filled.low, filled.high)
    whole = filled.integer
    if start is None or "piece_full" not in start:
        whole = whole & ~_order_of_losses(compiled, len(whole))
    return replace(
        filled,
        low=np.where(whole, value, filled.low),
        high=np.where(whole, value, filled.high),
        integer=np.zeros_like(whole),
    )


def _order_of_losses(compiled: Compiled, columns: int) -> BoolArray:
    """(columns,) order of pieces of losses that are not convex: left to the linear program, not held empty.

    It takes the convex hull of the loss then, and the replay judges what that is off. Of scenarios in one
    matrix only the first has it whole, and its columns stand first.
    """
    out = np.zeros(columns, dtype=np.bool_)
    if (at := compiled.form.columns.get("piece_full")) is not None:
        out[at.ravel()] = np.broadcast_to(
            compiled.structure.once(bent), compiled.shapes["piece_full"]
        ).ravel()
    return out


def linear(effort: Effort) -> Effort:
    """The effort of a linear program, which gets a little time even when none is left."""
    limit_s = None if effort.time_limit_s is None else max(LEAST_S, effort.time_limit_s)
    return replace(effort, time_limit_s=limit_s)


def through_islands(compiled: Compiled, filled: Filled, p: PlanningProblem) -> FloatArray:
    """(N, T) on through each run of islanded steps: the largest first, until they carry its net load."""
    units, shape = machines(compiled.structure), compiled.shapes["on"]
    most = filled.high[compiled.form.columns["on"]].reshape(shape)
    net_kw = p.load_kw.sum(axis=0) - p.pv_kw.sum(axis=0)
    out = np.zeros(shape)
    order = sorted(range(len(units)), key=lambda n: -units[n].p_rated_kw)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], p.islanded.astype(np.int8), [0]])))
    for first, end in zip(edges[::2], edges[1::2], strict=True):
        left_kw = float(net_kw[first:end].max())
        for n in order:
            wanted = np.ceil(max(0.0, left_kw) / units[n].p_rated_kw)
            out[n, first:end] = min(wanted, most[n, first:end].min())
            left_kw -= out[n, first] * units[n].p_rated_kw
    return out


def repaired(
    compiled: Compiled,
    session: Session,
    filled: Filled,
    p: PlanningProblem,
    start: Start | None,
    effort: Effort,
) -> Iterator[tuple[str, Outcome]]:
    """Dispatches of given commitments, best first: the last plan's, the relaxation's, by hand.

    The outcome is proven for that commitment only: it has neither a bound nor a gap.
    """
    quick = linear(effort)

    def given() -> Iterator[tuple[str, Start | None]]:
        if start:
            yield "the last plan's commitment", start
        relaxed = session.solve(replace(filled, integer=np.zeros_like(filled.integer)), quick)
        if relaxed.x is not None:
            v = compiled.values(relaxed.x)
            yield "a relaxed commitment rounded up", {k: np.ceil(v[k] - LEAST_ON) for k in ("on",) if k in v}
        if "on" in compiled.shapes and p.islanded.any():
            yield "units that carry each island", {"on": through_islands(compiled, filled, p)}
        yield "as few units as must run", None

    for what, commitment in given():
        outcome = session.solve(held(compiled, filled, commitment), quick)
        if outcome.x is not None and outcome.optimal:
            yield what, replace(outcome, optimal=False, bound=None, gap_ratio=None)
