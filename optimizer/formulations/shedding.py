"""Load shedding by feeder at its own value of lost load (VOLL); without breaker only at a price above all.

    0 <= shed_f,t <= load_f,t         sum of shed >= load while the bus is dead

With WHOLE shedding a feeder behind a breaker is on or off (o_f,t = 1: open; M_f above any load):

    shed_f,t <= M_f o_f,t             shed_f,t >= load_f,t - M_f (1 - o_f,t)
    o_t - o_{t-1} = a_t - b_t         a: opens, b: closes
    sum of a_i over openings i with tau_t - tau_i < shed_min   <=  o_t
    sum of b_i over closings i with tau_t - tau_i < served_min <=  1 - o_t

o is whole in the steps of `shed_whole`; elsewhere, and with MEAN shedding, a feeder may be shed for a part of
a step. Each opening has a small price, so that equal plans open fewer feeders.

Source: windows as for minimum up and down times (genset_commitment.py).
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ems.timegrid import FloatArray
from optimizer.algebra import Model
from optimizer.formulation import Shedding
from optimizer.formulations.windows import window
from optimizer.misses import missed_kw
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

DEAD_KW_RATIO = 4.0  # largest load over the sum of feeder peaks for which a dead bus sheds everything
WHOLE_KW_RATIO = 2.0  # largest load of a feeder over its peak; what is above it is shed without being asked
OPENING_H = 0.01  # an opening costs as much as so long without the feeder's peak load


def _dead_kw(s: Structure) -> float:
    return DEAD_KW_RATIO * sum(f.p_peak_kw for f in s.site.feeders)


def _behind_breaker(s: Structure) -> list[int]:
    return [i for i, f in enumerate(s.site.feeders) if f.has_breaker]


def add(m: Model, s: Structure) -> None:
    """shed_kw by feeder (F, T); with WHOLE shedding feeder_open, feeder_opens, feeder_closes by breaker."""
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
    if s.formulation.shedding is Shedding.WHOLE and _behind_breaker(s):
        _add_whole(m, s)


def _add_whole(m: Model, s: Structure) -> None:
    behind = _behind_breaker(s)
    shape = (len(behind), s.steps)
    is_open, opens, closes = (m.var(n, *shape) for n in ("feeder_open", "feeder_opens", "feeder_closes"))
    before, load = m.par("feeder_open_before", len(behind)), m.par("feeder_load_kw", *shape)
    shed = m["shed_kw"]
    units = [s.site.feeders[i] for i in behind]
    top = [WHOLE_KW_RATIO * f.p_peak_kw for f in units]
    m.rows("shed_open", shape, lambda f, t: shed[behind[f], t] <= top[f] * is_open[f, t])
    m.rows("shed_whole", shape, lambda f, t: shed[behind[f], t] >= load[f, t] - top[f] * (1 - is_open[f, t]))
    m.rows(
        "feeder_switching",
        shape,
        lambda f, t: is_open[f, t] - (is_open[f, t - 1] if t else before[f]) == opens[f, t] - closes[f, t],
    )
    least = [[window(s, t, f.shed_min_s) for t in range(s.steps)] for f in units]
    served = [[window(s, t, f.served_min_s) for t in range(s.steps)] for f in units]
    m.rows("shed_min", shape, lambda f, t: sum(opens[f, i] for i in least[f][t]) <= is_open[f, t])
    m.rows("served_min", shape, lambda f, t: sum(closes[f, i] for i in served[f][t]) <= 1 - is_open[f, t])


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Load by feeder, VOLL; what is open now, and where feeders are whole."""
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
    if "feeder_open" not in n.shapes:
        return
    behind = _behind_breaker(s)
    units = [s.site.feeders[i] for i in behind]
    top = WHOLE_KW_RATIO * np.array([[f.p_peak_kw] for f in units])
    n.par("feeder_open_before", p.feeder_open[behind].astype(np.float64))
    n.par("feeder_load_kw", np.minimum(p.load_kw[behind], top))
    n.bound("feeder_open", 0.0, 1.0)
    n.whole("feeder_open", p.shed_whole)
    n.bound("feeder_opens", 0.0, 1.0)
    n.bound("feeder_closes", 0.0, 1.0)
    n.price(
        "feeder_opening",
        "feeder_opens",
        np.array([[OPENING_H * f.voll_per_kwh * f.p_peak_kw] for f in units]),
    )


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Load that is not served."""
    for f, feeder in enumerate(p.site.feeders):
        yield from missed_kw(p, f"{feeder.id}: load not served", v["shed_kw"][f])
