"""Load shedding by feeder at its own value of lost load (VOLL); without breaker only at a price above all.

    0 <= shed_f,t <= load_f,t         sum of shed >= load while the bus is dead

Feeders are shed as mean power of a step (a whole feeder for part of the time); dwell times
belong to the edge.
"""

import numpy as np

from optimizer.algebra import Model
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

DEAD_KW_RATIO = 4.0  # largest load over the sum of feeder peaks for which a dead bus sheds everything


def _dead_kw(s: Structure) -> float:
    return DEAD_KW_RATIO * sum(f.p_peak_kw for f in s.site.feeders)


def add(m: Model, s: Structure) -> None:
    """shed_kw by feeder."""
    n_feeders = len(s.site.feeders)
    if n_feeders == 0:
        return
    shed, dead = m.var("shed_kw", n_feeders, s.steps), m["dead"]
    total = m.par("load_kw", s.steps)
    for t in range(s.steps):
        m.bus[t].extend(shed[f, t] for f in range(n_feeders))
    m.rows(
        "dead_bus_serves_nothing",
        (s.steps,),
        lambda t: sum(shed[f, t] for f in range(n_feeders)) >= total[t] - _dead_kw(s) * (1 - dead[t]),
    )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Load by feeder, VOLL."""
    if not s.site.feeders:
        return
    n.par("load_kw", p.load_kw.sum(axis=0))
    n.bound("shed_kw", 0.0, p.load_kw)
    for term, breaker in (("unserved", True), ("unserved_without_breaker", False)):
        rates = [
            (f.voll_per_kwh if breaker else ladder(s.site).no_breaker_per_kwh) * (f.has_breaker is breaker)
            for f in s.site.feeders
        ]
        n.price(term, "shed_kw", np.outer(rates, s.step_h))
