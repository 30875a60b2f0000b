"""Running cost that is not convex over output: pieces that fill in order, by a binary where the slope falls.

With x the output above the minimum, pieces d_k of width W_k and slope f_k, b_j = 1 where the output has
passed the j-th place at which the slope falls:

    x = sum of d_k,   cost = F_0 u + sum of f_k d_k,   0 <= d_k <= W_k u
    d_k >= W_k b_j  for pieces since the place before,     d_k <= W_k b_j  for pieces up to the next place

Source: incremental formulation; Markowitz and Manne, Econometrica 25(1), 1957, 10.2307/1907744; Padberg,
Operations Research Letters 27(1), 2000, 10.1016/S0167-6377(00)00024-6.
"""

from itertools import pairwise

import numpy as np

from optimizer.algebra import Expr, Model
from optimizer.case_terms import Bend
from optimizer.formulations.assets import above, unit_index
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

EPS_RATIO = 1e-9
FLAT_PER_H = 1.0  # what such a unit costs in genset_fuel.py while it is on, taken off here


def _groups(bend: Bend) -> list[range]:
    """Pieces between places where the slope falls."""
    least = EPS_RATIO * max(map(abs, bend.slope))
    ends = [k + 1 for k, (a, b) in enumerate(pairwise(bend.slope)) if b < a - least]
    return [range(a, b) for a, b in pairwise([0, *ends, len(bend.slope)])]


def add(m: Model, s: Structure) -> None:
    """bend_kw (N, K, T), bend_past (N, J, T)."""
    bends, T = s.formulation.terms.bends, s.steps
    if not bends:
        return
    piece = m.var("bend_kw", len(bends), max(len(x.slope) for x in bends), T)
    if falls := max(len(_groups(x)) - 1 for x in bends):
        past = m.var("bend_past", len(bends), falls, T)
    for c, bend in enumerate(bends):
        n, K, groups = unit_index(s, bend.id), len(bend.slope), _groups(bend)
        m.rows(
            f"bend_{c}",
            (T,),
            lambda t, c=c, n=n, K=K: sum(piece[c, k, t] for k in range(K)) == above(m, n, t),
        )
        m.rows(
            f"bend_on_{c}",
            (K, T),
            lambda k, t, c=c, n=n, w=bend.width_kw: piece[c, k, t] <= w[k] * m["on"][n, t],
        )
        for j, (before, behind) in enumerate(pairwise(groups)):
            for k in before:
                m.rows(
                    f"bend_full_{c}_{j}_{k}",
                    (T,),
                    lambda t, c=c, j=j, k=k, w=bend.width_kw[k]: piece[c, k, t] >= w * past[c, j, t],
                )
            for k in behind:
                m.rows(
                    f"bend_open_{c}_{j}_{k}",
                    (T,),
                    lambda t, c=c, j=j, k=k, w=bend.width_kw[k]: piece[c, k, t] <= w * past[c, j, t],
                )


def cost_per_h(m: Model, s: Structure, unit: str, t: int) -> Expr | None:
    """Running cost of a unit whose cost is laid out here [money/h]; None of any other."""
    for c, x in enumerate(s.formulation.terms.bends):
        if x.id == unit:
            piece = enumerate(x.slope)
            rest = FLAT_PER_H + x.least_per_h
            return rest * m["on"][unit_index(s, unit), t] + sum(f * m["bend_kw"][c, k, t] for k, f in piece)
    return None


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Cost of the minimum and of each piece."""
    bends = s.formulation.terms.bends
    if not bends:
        return
    _, K, _ = n.shapes["bend_kw"]
    slope = np.array([[*x.slope, *[0.0] * (K - len(x.slope))] for x in bends])
    there = np.array([[*x.width_kw, *[0.0] * (K - len(x.width_kw))] for x in bends])
    n.bound("bend_kw", 0.0, there[:, :, None])
    n.price("fuel_bent", "bend_kw", slope[:, :, None] * s.step_h)
    least = np.zeros(n.shapes["on"])
    for x in bends:
        least[unit_index(s, x.id)] = x.least_per_h * s.step_h
    n.price("fuel_bent", "on", least)
    if "bend_past" in n.shapes:
        n.bound("bend_past", 0.0, 1.0)
        n.whole("bend_past", p.integral)
