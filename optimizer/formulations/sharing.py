"""Proportional load sharing: sets that carry an island alone run at one per-unit load.

Where no battery forms the island, the gensets with `sharing: proportional` that are on line have one level
lambda of load over rating:

    p_g <= P_g lambda + free,      p_g >= P_g lambda - P_g (1 - u_g) - free,      0 <= lambda <= 1

The product of level and commitment is written out by its convex hull, exact where u is 0 or 1. Sets on base
load keep their setpoint, and beside the mains or a battery that forms all of them do: there `free` opens the
rows. A set on base load that forms the island shares with the others in the plant; here it is left free. Laid
out only where two sets share that are not one fleet: the machines of a fleet have one load (fleets.py), and
are told apart where another set shares with them.

Sources: McCormick, Mathematical Programming 10, 1976, 10.1007/BF01580665; ISO 8528-5 and -4 on active power
sharing of sets in parallel. The same rule is in plant_models.balance.
"""

import numpy as np

from ems.assets import Sharing
from optimizer.algebra import Expr, Model
from optimizer.fleets import machines
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure


def sharing(s: Structure) -> list[int]:
    """Gensets that share in proportion, each on its own; [] where fewer than two do."""
    found = [n for n, u in enumerate(machines(s)) if u.sharing is Sharing.PROPORTIONAL]
    return found if len(found) > 1 else []


def add(m: Model, s: Structure) -> None:
    """shared_level (T,)."""
    found, T = sharing(s), s.steps
    if not found:
        return
    level, free, L = m.var("shared_level", T), m.par("shared_free_kw", T), m.shapes["above_kw"][1]
    units, on = machines(s), m["on"]

    def output(n: int, t: int) -> Expr:
        return units[n].p_min_kw * on[n, t] + sum(m["above_kw"][n, i, t] for i in range(L))

    def most(k: int, t: int) -> Expr:
        n = found[k]
        return output(n, t) <= units[n].p_rated_kw * level[t] + free[t]

    def least(k: int, t: int) -> Expr:
        n = found[k]
        rated = units[n].p_rated_kw
        return output(n, t) >= rated * level[t] - rated * (1.0 - on[n, t]) - free[t]

    m.rows("shared_most", (len(found), T), most)
    m.rows("shared_least", (len(found), T), least)


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Where the gensets carry the island alone."""
    if "shared_level" not in n.shapes:
        return
    rated = max(machines(s)[k].p_rated_kw for k in sharing(s))
    alone = p.islanded & (not p.bess_forms)
    n.bound("shared_level", 0.0, 1.0)
    n.par("shared_free_kw", np.where(alone, 0.0, rated))
