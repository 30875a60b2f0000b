"""Genset output and fuel: minimum load and a convex piecewise part-load curve, no further binaries.

    p = p_min u + sum of d_l,   0 <= d_l <= W_l u,   fuel = F_0 u + sum of f_l d_l   [L/h],  f_1 <= f_2 <= ...
    sum of D_t fuel_t <= tank + tank_short

Slopes that do not fall fill the pieces in order by themselves. Ramps and largest load steps are seconds on a
diesel and do not bind at these steps; they belong to the edge.

Source: part-load breakpoints of the data sheet, convexified in plant_models.linearize.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ems.assets import GensetParams
from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.fleets import firsts, machines, sizes
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.segments import FuelSegments, fuel_segments
from optimizer.structure import Structure

TANK_UNKNOWN_L = 1e7


def _segments(s: Structure) -> list[FuelSegments]:
    return [fuel_segments(g) for g in machines(s)]


def add(m: Model, s: Structure) -> None:
    """above_kw (N, L, T): output above minimum load by fleet and piece."""
    units = machines(s)
    if not units:
        return
    G, T, pieces = len(units), s.steps, _segments(s)
    L = max(len(x.width_kw) for x in pieces)
    on, above = m["on"], m.var("above_kw", G, L, T)
    short, tank = m.var("tank_short_l", G), m.par("tank_l", G)
    width = [[x.width_kw[k] if k < len(x.width_kw) else 0.0 for k in range(L)] for x in pieces]
    m.rows("fuel_piece", (G, L, T), lambda g, k, t: above[g, k, t] <= width[g][k] * on[g, t])
    for t in range(T):
        for g, unit in enumerate(units):
            output = _output(m, unit, g, L, t)
            m.bus[t].append(output)
            m.reserve_up[t].append(unit.p_rated_kw * on[g, t] - output)
            m.reserve_down[t].append(sum(above[g, k, t] for k in range(L)))
            m.carry[t].append(unit.p_rated_kw * on[g, t])
    m.rows(
        "tank",
        (G,),
        lambda g: sum(s.step_h[t] * fuel_l_h(m, s, g, t) for t in range(T)) <= tank[g] + short[g],
    )


def _most_l(s: Structure) -> FloatArray:
    """(N,) all that each could burn in the window [L]; of a case these are units of money."""
    full_l_h = [x.idle_l_h + float(x.width_kw @ x.slope_l_kwh) for x in _segments(s)]
    out: FloatArray = np.array(full_l_h) * np.array(sizes(s)) * float(s.step_h.sum())
    return out


def fuel_l_h(m: Model, s: Structure, g: int, t: int) -> Expr:
    """Fuel of a genset, or of a fleet of them [L/h]."""
    piece = fuel_segments(machines(s)[g])
    slopes = enumerate(piece.slope_l_kwh)
    return piece.idle_l_h * m["on"][g, t] + sum(float(k) * m["above_kw"][g, i, t] for i, k in slopes)


def _output(m: Model, unit: GensetParams, g: int, L: int, t: int) -> Expr:
    """Electrical output [kW]."""
    return unit.p_min_kw * m["on"][g, t] + sum(m["above_kw"][g, k, t] for k in range(L))


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Price of fuel and of its carbon, tank."""
    units = machines(s)
    if not units:
        return
    pieces = _segments(s)
    L = n.shapes["above_kw"][1]
    slopes = np.array([[*x.slope_l_kwh, *[0.0] * (L - len(x.slope_l_kwh))] for x in pieces])
    idle = np.array([x.idle_l_h for x in pieces])
    n.bound("above_kw", 0.0, np.inf)
    for term, per_l in (("fuel", s.site.diesel_per_l), ("carbon", s.site.carbon_per_l)):
        if per_l > 0.0 or term == "fuel":
            n.price(term, "on", idle[:, None] * per_l * s.step_h)
            n.price(term, "above_kw", slopes[:, :, None] * per_l * s.step_h)
    come = [g.fuel_l + sum(g.delivered_l) for g in p.gensets]  # step by step in tank.py
    tank_l = np.add.reduceat(come, firsts(s))
    n.par("tank_l", np.minimum(tank_l, np.maximum(TANK_UNKNOWN_L, _most_l(s))))
    n.bound("tank_short_l", 0.0, np.inf)
    n.price("tank_short", "tank_short_l", ladder(s.site).tank_per_l)


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Fuel that the tank lacks."""
    for g, genset in enumerate(p.site.gensets):
        if v["tank_short_l"][g] > 0.1:
            yield f"{genset.id}: the tank lacks {v['tank_short_l'][g]:.0f} L for this plan"
