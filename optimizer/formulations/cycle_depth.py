"""Wear by depth of cycle: stored energy lies in segments of depth, the deeper the dearer to draw on.

    sum_j e_j,t = e_t,            0 <= e_j,t <= E_j  (the deepest one free, so that it is never infeasible)
    drawn_j,t >= e_j,t-1 - e_j,t,       drawn_j,t >= 0,       cost sum_j k_j drawn_j,t

with k_1 <= k_2 <= ... the replacement cost times the slope of life used over depth, per kWh stored. Because
deeper is dearer, a discharge takes the shallowest energy and a charge fills the shallowest segment that has
room, without binaries: a cycle inside another costs what its own depth costs, and the outer one goes on where
it was. Over a fixed path of stored energy the least cost is that of rainflow counting with discharges booked
whole (plant_models.rainflow), exactly, for a curve that is straight between the edges of the segments. The
segments start as the open cycle left them. Standing losses count as discharge, as they do for rainflow.

Source: B. Xu, J. Zhao, T. Zheng, E. Litvinov, D. S. Kirschen, "Factoring the cycle aging cost of batteries
participating in electricity markets", IEEE Trans. Power Systems 33(2), 2018, 10.1109/TPWRS.2017.2733339; here
on stored energy instead of on AC power, so that efficiencies and losses stay where they are.
"""

import numpy as np

from ems.assets import BatteryParams
from ems.cycle_life import CycleLife
from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure


def by_depth(s: Structure) -> list[tuple[int, BatteryParams, CycleLife]]:
    """Batteries that wear by depth of cycle, with their place among all."""
    units = [(b, unit.battery) for b, unit in enumerate(s.site.bess)]
    return [(b, p, p.cycle_life) for b, p in units if p.cycle_life is not None]


def widths_kwh(p: BatteryParams, life: CycleLife) -> FloatArray:
    """(J,) energy that each depth segment holds [kWh]."""
    out: FloatArray = np.diff(np.array(life.edges_ratio)) * p.energy_kwh
    return out


def prices_per_kwh(p: BatteryParams, life: CycleLife) -> FloatArray:
    """(J,) cost of a kWh drawn from each segment [money per kWh stored]."""
    return life.replacement_cost * np.array(life.life_per_depth_ratio) / p.energy_kwh


def add(m: Model, s: Structure) -> None:
    """depth_kwh_b, drawn_kwh_b (J, T) for each battery b that wears by depth."""
    for b, p, life in by_depth(s):
        J = len(widths_kwh(p, life))
        depth, drawn = m.var(f"depth_kwh_{b}", J, s.steps), m.var(f"drawn_kwh_{b}", J, s.steps)
        before = m.par(f"depth_before_kwh_{b}", J)
        stored = m["stored_kwh"]

        def split(t: int, b: int = b, J: int = J, depth: Expr = depth, stored: Expr = stored) -> Expr:
            return sum(depth[j, t] for j in range(J)) - stored[b, t] == 0.0

        def falls(j: int, t: int, depth: Expr = depth, drawn: Expr = drawn, before: Expr = before) -> Expr:
            last = depth[j, t - 1] if t else before[j]
            return drawn[j, t] + depth[j, t] - last >= 0.0

        m.rows(f"depth_split_{b}", (s.steps,), split)
        m.rows(f"depth_falls_{b}", (J, s.steps), falls)


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Energy by depth at the start, widths, prices."""
    for b, params, life in by_depth(s):
        widths, prices = widths_kwh(params, life), prices_per_kwh(params, life)
        deepest = np.arange(len(widths)) == len(widths) - 1
        n.par(f"depth_before_kwh_{b}", np.array(p.bess[b].by_depth_kwh))
        n.bound(
            f"depth_kwh_{b}",
            np.where(deepest, -np.inf, 0.0)[:, None],
            np.where(deepest, np.inf, widths)[:, None],
        )
        n.bound(f"drawn_kwh_{b}", 0.0, np.inf)
        n.price("wear", f"drawn_kwh_{b}", prices[:, None])
