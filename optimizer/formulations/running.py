"""Running capacity: ratings of the gensets on load against the load, where the site asks for it.

    islanded:   sum_g P_g u  +  short  >=  ratio * load,  or  load + reserve of a case

The classical spinning reserve of published unit commitment cases, which counts neither storage nor what is
shed. A shortfall has the price of missing reserve and is reported.

Source: Kazarlis, Bakirtzis and Petridis, IEEE Trans. Power Systems 11(1), 1996, 10.1109/59.485989.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ems.timegrid import FloatArray
from optimizer.algebra import Model
from optimizer.fleets import machines
from optimizer.misses import missed_kw
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure


def add(m: Model, s: Structure) -> None:
    """running_short_kw (T,)."""
    units = machines(s)
    if s.site.reserve.running_ratio <= 0.0 or not units:
        return
    short, asked, on = m.var("running_short_kw", s.steps), m.par("running_kw", s.steps), m["on"]
    m.rows(
        "running",
        (s.steps,),
        lambda t: sum(u.p_rated_kw * on[g, t] for g, u in enumerate(units)) + short[t] >= asked[t],
    )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """What is asked for, and the price of the rest."""
    if "running_short_kw" not in n.shapes:
        return
    load_kw = p.load_kw.sum(axis=0)
    asked = s.site.reserve.running_ratio * load_kw
    if p.running_extra_kw:
        asked = np.maximum(asked, load_kw + np.array(p.running_extra_kw))
    n.par("running_kw", asked * p.islanded)
    n.bound("running_short_kw", 0.0, np.inf)
    n.price("reserve_short", "running_short_kw", ladder(s.site).reserve_per_kwh * s.step_h)


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Running capacity that is missing."""
    if "running_short_kw" in v:
        yield from missed_kw(p, "running capacity short", v["running_short_kw"])
