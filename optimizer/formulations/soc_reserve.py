"""Energy held back for outages, and the price of resting nearly full.

    e_t + short_t >= level_t,                 price_t D_t short_t      while the grid is there
    e_t - high_t <= h E,      high_t >= 0,    price D_t high_t         resting above a share h of the capacity

level_t is the highest reserve whose window holds at the end of step t or in it, nothing in an island: what
is held back is there to be used. Both are soft. e_t is at the end of a step, so a window of local hours holds
from its first instant to its last.

Sources: reserve: backup reserve for reliability, as in J. Eyer, G. Corey, "Energy storage for the electricity
grid: benefits and market potential assessment guide", Sandia SAND2010-0815, 2010; resting: P. Keil et al.,
"Calendar aging of lithium-ion batteries: I", J. Electrochem. Soc. 163(9), 2016, 10.1149/2.0411609jes (ageing
at rest rises with the state of charge; here by its slope above one level, which keeps the model linear).
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ems.assets import BatteryParams
from ems.battery_terms import RestingSoc
from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

SHOWN_RATIO = 1e-3  # of the capacity


def held(s: Structure) -> list[tuple[int, BatteryParams]]:
    """Batteries with a reserve, with their place among all."""
    return [(b, x.battery) for b, x in enumerate(s.site.bess) if x.battery.soc_reserve]


def resting(s: Structure) -> list[tuple[int, BatteryParams, RestingSoc]]:
    """Batteries whose resting high has a price."""
    units = [(b, x.battery, x.battery.resting) for b, x in enumerate(s.site.bess)]
    return [(b, p, r) for b, p, r in units if r is not None]


def add(m: Model, s: Structure) -> None:
    """reserve_short_kwh_b, resting_kwh_b (T,)."""
    for b, _ in held(s):
        short, level = m.var(f"reserve_short_kwh_{b}", s.steps), m.par(f"reserve_level_kwh_{b}", s.steps)

        def kept(t: int, b: int = b, short: Expr = short, level: Expr = level) -> Expr:
            return m["stored_kwh"][b, t] + short[t] >= level[t]

        m.rows(f"soc_reserve_{b}", (s.steps,), kept)
    for b, p, r in resting(s):
        high = m.var(f"resting_kwh_{b}", s.steps)

        def rests(t: int, b: int = b, high: Expr = high, top: float = r.above_soc * p.energy_kwh) -> Expr:
            return m["stored_kwh"][b, t] - high[t] <= top

        m.rows(f"resting_{b}", (s.steps,), rests)


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Levels and prices."""
    for b, _ in held(s):
        care = p.bess[b].care
        n.par(f"reserve_level_kwh_{b}", care.reserve_kwh)
        n.bound(f"reserve_short_kwh_{b}", 0.0, np.inf)
        n.price("soc_reserve", f"reserve_short_kwh_{b}", care.reserve_per_kwh * s.step_h)
    for b, _, r in resting(s):
        n.bound(f"resting_kwh_{b}", 0.0, np.inf)
        n.price("resting_soc", f"resting_kwh_{b}", r.price_per_kwh * s.step_h)


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Reserve that is not held."""
    for b, params in held(s):
        short = v[f"reserve_short_kwh_{b}"]
        where = short > SHOWN_RATIO * params.energy_kwh
        if where.any():
            first = p.grid.starts()[int(np.argmax(where))]
            yield (
                f"{s.site.bess[b].id}: up to {short.max():.1f} kWh below its reserve for outages, "
                f"first at {first:%d %H:%M} UTC"
            )
