"""What the lighter formulation leaves out, looked for in a result: binaries in steps, gensets told apart."""

from dataclasses import replace

import numpy as np

from ems.timegrid import BoolArray, FloatArray
from optimizer.fleets import tanks_hold
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

BURNT_KW = 0.5
SHED_KW = 0.05


def remarked(
    s: Structure, p: PlanningProblem, n: Numbers, v: dict[str, FloatArray], whole_feeders: bool
) -> PlanningProblem | None:
    """The problem with what its result is found to need marked, too; None where that is nothing."""
    burnt = burning(p, n, v) & ~p.exclusive
    shed = shedding(p, v) & ~p.shed_whole & whole_feeders
    apart = p.apart or not tanks_hold(s, p, v)
    if not (burnt | shed).any() and apart == p.apart:
        return None
    if shed.any():
        p = replace(p, shed_whole=whole_steps(p, shed))
    return replace(p, exclusive=p.exclusive | burnt, apart=apart)


def burning(
    p: PlanningProblem, n: Numbers, v: dict[str, FloatArray], least_kw: float = BURNT_KW
) -> BoolArray:
    """(T,) whole steps with flow both ways at once, or with loss pieces filled out of order."""
    out = np.minimum(v["import_kw"], v["export_kw"]) > least_kw
    if p.site.bess:
        both = np.minimum(v["charge_kw"].sum(axis=1), v["discharge_kw"].sum(axis=1))
        out |= (both > least_kw).any(axis=0)
        for name in ("charge_kw", "discharge_kw"):
            room = n.high[name][:, :-1] - v[name][:, :-1]
            out |= (np.minimum(room, v[name][:, 1:]) > least_kw).any(axis=(0, 1))
    return out & p.integral


def whole_steps(p: PlanningProblem, shed: BoolArray) -> BoolArray:
    """(T,) steps to shed whole feeders in: those islanded, and from the first that sheds to the last.

    A step left out in between would hold feeders half open, and count as no closing.
    """
    at = np.flatnonzero(p.shed_whole | shed)
    between = np.zeros(p.steps, dtype=np.bool_)
    between[at[0] : at[-1] + 1] = True
    out: BoolArray = (between | p.islanded) & p.integral
    return out


def shedding(p: PlanningProblem, v: dict[str, FloatArray]) -> BoolArray:
    """(T,) whole steps in which something is shed behind a breaker."""
    behind = [i for i, f in enumerate(p.site.feeders) if f.has_breaker]
    if not behind:
        return np.zeros(p.steps, dtype=np.bool_)
    out: BoolArray = (v["shed_kw"][behind] > SHED_KW).any(axis=0) & p.integral
    return out
