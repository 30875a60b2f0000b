"""Power factor charge: reactive energy of the month beyond what its active energy is allowed.

    q_t - a imp_t  =  own_t,m                          in the steps of month m, the other one zero
    over_m         >=  before_m + sum of D_t own_t,m,    over_m >= 0,    cost c (over_m - max(0, before_m))

a = sqrt(1 / min_ratio^2 - 1) kvarh are free per kWh; q_t is what is drawn from the grid: planned where
reactive power is, else that of the load by its power factor. `before_m` is the month's excess so far,
negative where the month is well under its limit: then there is room. What follows the window is taken to be
at the limit, so that it neither gives nor takes room. Reactive power that is returned earns nothing.

Source: the bill, ems.charges.
"""

import numpy as np

from ems.timegrid import FloatArray
from optimizer.algebra import Model
from optimizer.formulations.reactive import asked, tangents
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure


def add(m: Model, s: Structure) -> None:
    """month_kvar (2, T), over_kvarh (2,)."""
    charge = s.site.tariff.power_factor
    if charge is None:
        return
    own, over = m.var("month_kvar", 2, s.steps), m.var("over_kvarh", 2)
    before, load = m.par("kvarh_before", 2), m.par("kvar_of_load", s.steps)
    free = charge.free_kvarh_per_kwh
    planned = asked(s)
    m.rows(
        "kvar_of_month",
        (s.steps,),
        lambda t: (
            (m["grid_kvar"][0, t] if planned else 0.0) + load[t] - free * m["import_kw"][t]
            == own[0, t] + own[1, t]
        ),
    )
    m.rows(
        "kvarh_over",
        (2,),
        lambda j: over[j] >= before[j] + sum(float(s.step_h[t]) * own[j, t] for t in range(s.steps)),
    )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Month of each step, excess so far, price."""
    charge = s.site.tariff.power_factor
    if charge is None:
        return
    steps = np.array([month.steps for month in p.months])
    before = np.array(p.kvarh_before)
    n.bound("month_kvar", np.where(steps, -np.inf, 0.0), np.where(steps, np.inf, 0.0))
    n.bound("over_kvarh", 0.0, np.inf)
    n.par("kvarh_before", before)
    n.par("kvar_of_load", np.zeros(s.steps) if asked(s) else load_kvar(p, s))
    n.price("power_factor", "over_kvarh", charge.per_kvarh)
    n.constant["power_factor"] = -charge.per_kvarh * float(np.maximum(0.0, before).sum())


def load_kvar(p: PlanningProblem, s: Structure) -> FloatArray:
    """(T,) what the load draws from the grid by its own power factor; none without mains [kvar]."""
    if not s.site.feeders:
        return np.zeros(s.steps)
    out: FloatArray = np.array(tangents(s)) @ p.load_kw * p.grid_available
    return out
