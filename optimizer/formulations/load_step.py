"""Load steps: a feeder that closes onto an island is no larger a step than the sources on line accept.

    peak_f b_f,t  <=  sum_g step_g u_g,t + batteries that form + short_f,t + free       b: the feeder closes

step_g is the largest single step of load of a genset, for which all on line stand in together; a battery that
forms the bus accepts its discharge limit. Feeders that close in one step of the plan are closed one after the
other, so each is a step of its own. Laid out only where `reserve.load_steps` asks for it and feeders are shed
whole; `free` opens the rows beside the mains. What is short costs a quarter of an hour of missing reserve.

Source: ISO 8528-5:2018, 9 (load acceptance: the step is the maker's figure for the engine).
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.fleets import machines
from optimizer.misses import SHOWN_KW
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

SHORT_H = 0.25


def _behind(s: Structure) -> list[int]:
    return [i for i, f in enumerate(s.site.feeders) if f.has_breaker]


def add(m: Model, s: Structure) -> None:
    """step_short_kw (F, T) of the feeders behind a breaker."""
    if not s.site.reserve.load_steps or "feeder_closes" not in m.shapes:
        return
    behind, T, units = _behind(s), s.steps, machines(s)
    short, ready = m.var("step_short_kw", len(behind), T), m.par("step_ready_kw", T)

    def accepted(f: int, t: int) -> Expr:
        peak = s.site.feeders[behind[f]].p_peak_kw
        sets = sum(u.step_load_kw_max * m["on"][g, t] for g, u in enumerate(units))
        return peak * m["feeder_closes"][f, t] <= sets + ready[t] + short[f, t]

    m.rows("load_step", (len(behind), T), accepted)


def ready_kw(p: PlanningProblem) -> FloatArray:
    """(T,) step that batteries which form accept; all of the feeders beside the mains [kW]."""
    forming = np.zeros(p.steps)
    for unit, start in zip(p.site.bess, p.bess, strict=True):
        if unit.pcs.can_form and start.available and unit.id in p.site.forming.islanded:
            forming += start.p_discharge_kw
    most = max((f.p_peak_kw for f in p.site.feeders), default=0.0)
    return np.where(p.grid_available, most, forming)


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """What batteries accept, and the price of a step too large."""
    if "step_short_kw" not in n.shapes:
        return
    n.par("step_ready_kw", ready_kw(p))
    n.bound("step_short_kw", 0.0, np.inf)
    n.price("load_step_short", "step_short_kw", SHORT_H * ladder(s.site).reserve_per_kwh)


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Feeders that are a larger step than the sources accept."""
    if "step_short_kw" not in v:
        return
    for k, i in enumerate(_behind(s)):
        if (worst := float(v["step_short_kw"][k].max())) > SHOWN_KW:
            at = p.grid.starts()[int(np.argmax(v["step_short_kw"][k]))]
            yield (
                f"{p.site.feeders[i].id}: closing it at {at:%d %H:%M} UTC is a step of load {worst:.0f} kW "
                "larger than the sources on line accept"
            )
