"""Power balance of the bus, and who forms it.

    sum of everything into the bus + shed - surplus + aux_short  ==  load + auxiliaries
    sum of gensets on load + dead  >=  1 - (grid there or a battery that can form)

A plan is never infeasible here: what cannot be served is shed at its price, what cannot be absorbed is
`surplus`, auxiliaries that get no power are `aux_short`, both at the top of the price ladder. `dead` can be
other than 0 only in islanded steps without a battery that can form; then nothing is served.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ems.timegrid import FloatArray
from optimizer.algebra import Model
from optimizer.misses import missed_kw
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure


def declare(m: Model, s: Structure) -> None:
    """Variables that other families refer to."""
    m.var("dead", s.steps)


def add(m: Model, s: Structure) -> None:
    """Called after every family has put its power on the bus."""
    surplus, short, dead = m.var("surplus_kw", s.steps), m.var("aux_short_kw", s.steps), m["dead"]
    demand, formed = m.par("bus_demand_kw", s.steps), m.par("formed", s.steps)
    m.rows("balance", (s.steps,), lambda t: sum(m.bus[t]) - surplus[t] + short[t] == demand[t])
    m.rows("forming", (s.steps,), lambda t: sum(m.forming[t]) + dead[t] >= 1 - formed[t])


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Demand, and which steps could be without a forming source."""
    aux = sum((b.battery.aux_kw for b in s.site.bess), 0.0)
    formed = p.grid_available | p.bess_forms | s.formulation.terms.bus_stands
    n.par("bus_demand_kw", p.load_kw.sum(axis=0) + aux)
    n.par("formed", formed.astype(np.float64))
    n.bound("dead", 0.0, np.where(formed, 0.0, 1.0))
    n.bound("surplus_kw", 0.0, np.inf)
    n.bound("aux_short_kw", 0.0, aux)
    n.price("surplus", "surplus_kw", ladder(s.site).surplus_per_kwh * s.step_h)
    n.price("aux_short", "aux_short_kw", ladder(s.site).no_breaker_per_kwh * s.step_h)


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """What the bus cannot absorb, and auxiliaries without power."""
    yield from missed_kw(p, "surplus that the bus cannot absorb", v["surplus_kw"])
    yield from missed_kw(p, "auxiliaries without supply", v["aux_short_kw"])
