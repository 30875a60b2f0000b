"""Reactive power: what converters give inside circle or polygon, and its balance at the interconnection.

With q positive into the bus, Q_t drawn from the grid (none while islanded) and phi_f of each feeder's load:

    sum_b q_b + sum_i q_i + sum_g q_g + Q + missing  ==  sum_f tan(phi_f) (load_f - shed_f)

    cos(a_k) p + sin(a_k) q  <=  S cos(pi / n)        a_k = (2 k + 1) pi / n,  k = 0 .. n - 1

for each converter: a regular polygon of n corners inside its circle S. Two corners lie on either axis, so
that full active power and full reactive power are inside. A maker's own polygon takes its place, side by
side and exactly: a_k p + b_k q <= c_k. Sides that no power within the battery's limits reaches are left out.
In an island the same sides hold for what the battery holds ready, upwards and
downwards, so that a forming converter keeps the room that the plan's reactive power takes. Gensets on load
give 0 up to sqrt(S^2 - P^2) in an island and run at unity power factor beside the grid; PV inverters with a
rating give some while there is sun. A converter's reactive power costs what its quadratic loss at full rating
is per kvar (the chord above the loss), at the window's median price. What nobody gives in an island is
`missing`, at the price of voltage.

Source: the polygon is the inner approximation of a disc by a regular n-gon, whose distance to the circle is
S (1 - cos(pi / n)) at most; the loss is that of plant_models.battery.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from ems.capability import PqCapability
from ems.errors import InvariantBroken
from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.fleets import machines, sizes
from optimizer.formulations.battery import net
from optimizer.numbers import Numbers
from optimizer.prices import ladder, usual_per_kwh
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure
from plant_models.battery import bent_loss_pu
from plant_models.pcs import kvar_max

SUN_RATIO = 0.01  # of a PV plant's AC rating: with less sun its inverters are taken to be off
Side = tuple[float, float, float]  # (a, b, c) of a p + b q <= c [1, 1, kVA]
PEAK_RATIO = 2.0  # largest load of a feeder over its peak that the reactive power of the grid is laid out for


def asked(s: Structure) -> bool:
    """Whether the site has its reactive power planned."""
    return s.site.grid.reactive is not None


def sides(count: int) -> list[tuple[float, float]]:
    """(cos, sin) of the normal of each side of the polygon with so many corners."""
    angles = [(2 * k + 1) * math.pi / count for k in range(count)]
    return [(math.cos(a), math.sin(a)) for a in angles]


def reach_ratio(count: int) -> float:
    """Distance of the sides from the origin over the radius of the circle."""
    return math.cos(math.pi / count)


def tangents(s: Structure) -> list[float]:
    """Reactive over active power of each feeder's load."""
    return [math.sqrt(1.0 / f.power_factor_ratio**2 - 1.0) for f in s.site.feeders]


def solar(s: Structure) -> list[int]:
    """PV plants whose inverters have a rating for reactive power."""
    return [i for i, x in enumerate(s.site.pv) if x.s_kva is not None]


def genset_kvar_max(s: Structure) -> list[float]:
    """Reactive power of each genset beside its rated active power [kvar]."""
    return [math.sqrt(max(0.0, g.s_kva**2 - g.p_rated_kw**2)) for g in machines(s)]


def grid_kvar_max(s: Structure) -> float:
    """More than the grid ever gives or takes [kvar]."""
    load = sum(PEAK_RATIO * k * f.p_peak_kw for k, f in zip(tangents(s), s.site.feeders, strict=True))
    return load + sum(b.pcs.s_kva for b in s.site.bess) + sum(_rating(s, i) for i in solar(s))


def _rating(s: Structure, i: int) -> float:
    rated = s.site.pv[i].s_kva
    return 0.0 if rated is None else rated


def _regular(s: Structure, low_kw: float, high_kw: float, s_kva: float) -> list[Side]:
    """Sides of the polygon inside a converter's circle that a power between -low and high can reach."""
    policy = s.site.grid.reactive
    count = 16 if policy is None else policy.pcs_sides
    reach, half, out = reach_ratio(count) * s_kva, math.pi / count, []
    for c, sn in sides(count):
        a = math.atan2(sn, c)
        near = min(abs(s_kva * math.cos(a - half)), abs(s_kva * math.cos(a + half)))
        if near < (high_kw if c > 0.0 else low_kw) - 1e-9:
            out.append((c, sn, reach))
    return out


def _own(capability: PqCapability, low_kw: float, high_kw: float) -> list[Side]:
    """Sides of a maker's polygon that a power between -low and high can reach.

    A side with both corners beyond a limit is implied there: the polygon is convex.
    """
    at = [p for p, _ in capability.corners]
    ends = zip(at, [*at[1:], at[0]], capability.half_planes, strict=True)
    return [side for a, b, side in ends if min(a, b) < high_kw - 1e-9 and max(a, b) > -low_kw + 1e-9]


def polygon(s: Structure, b: int) -> list[Side]:
    """Sides of a battery's polygon that its power can reach."""
    p, pcs = s.site.bess[b].battery, s.site.bess[b].pcs
    if pcs.capability is not None:
        return _own(pcs.capability, p.p_charge_kw_max, p.p_discharge_kw_max)
    return _regular(s, p.p_charge_kw_max, p.p_discharge_kw_max, pcs.s_kva)


def pv_polygon(s: Structure, i: int) -> list[Side]:
    """Sides of a PV plant's polygon that its power can reach."""
    plant = s.site.pv[i]
    if plant.capability is not None:
        return _own(plant.capability, 0.0, plant.p_ac_kw)
    return _regular(s, 0.0, plant.p_ac_kw, _rating(s, i))


def at_side(side: Side, p_kw: Expr, q_kvar: Expr) -> Expr:
    """Left side of a side's row, without what it does not depend on [kVA]."""
    a, b, _ = side
    if a == 0.0:
        return b * q_kvar
    return a * p_kw if b == 0.0 else a * p_kw + b * q_kvar


def add(m: Model, s: Structure) -> None:
    """bess_kvar (2, B, T), pv_kvar (2, V, T): given, taken; genset_kvar (G, T).

    grid_kvar (2, T): drawn, returned; kvar_missing (T,).
    """
    if not asked(s):
        return
    B, G, V, T = len(s.site.bess), len(machines(s)), len(solar(s)), s.steps
    drawn, missing = m.var("grid_kvar", 2, T), m.var("kvar_missing", T)
    demand = m.par("kvar_demand", T)
    for name, count in (("bess_kvar", B), ("pv_kvar", V)):
        if count:
            m.var(name, 2, count, T)
    if G:
        given, top = m.var("genset_kvar", G, T), genset_kvar_max(s)
        m.rows("genset_kvar_on", (G, T), lambda g, t: given[g, t] <= top[g] * m["on"][g, t])
    tan = tangents(s)

    def sources(t: int) -> Expr:
        parts = [drawn[0, t] - drawn[1, t], missing[t]]
        parts += [_q(m, "bess_kvar", b, t) for b in range(B)]
        parts += [_q(m, "pv_kvar", i, t) for i in range(V)]
        parts += [m["genset_kvar"][g, t] for g in range(G)]
        parts += [k * m["shed_kw"][f, t] for f, k in enumerate(tan) if k > 0.0]
        return sum(parts)

    m.rows("reactive_balance", (T,), lambda t: sources(t) == demand[t])
    _add_circles(m, s)


def _q(m: Model, name: str, i: int, t: int) -> Expr:
    return m[name][0, i, t] - m[name][1, i, t]


def _add_circles(m: Model, s: Structure) -> None:
    """Polygons of the converters, in operation and with what is held ready."""
    T = s.steps
    ready = s.formulation.reserve and bool(s.site.bess)
    freed = m.par("kvar_freed_kw", T) if ready else None
    for b in range(len(s.site.bess)):
        edges = polygon(s, b)
        m.rows(
            f"pcs_polygon_{b}",
            (len(edges), T),
            lambda k, t, b=b, e=edges: at_side(e[k], net(m, b, t), _q(m, "bess_kvar", b, t)) <= e[k][2],
        )
        if freed is None:
            continue
        held, down = m["reserve_kw"], m["down_kw"]
        steep = [e for e in edges if e[0] != 0.0]  # along the others active power moves nothing
        m.rows(
            f"pcs_ready_{b}",
            (len(steep), T),
            lambda k, t, b=b, e=steep, held=held, down=down, freed=freed: (
                at_side(
                    e[k],
                    net(m, b, t) + (held[b, t] if e[k][0] > 0.0 else -down[b, t]),
                    _q(m, "bess_kvar", b, t),
                )
                <= e[k][2] + freed[t]
            ),
        )
    for v, i in enumerate(solar(s)):
        edges = pv_polygon(s, i)
        m.rows(
            f"pv_polygon_{i}",
            (len(edges), T),
            lambda k, t, v=v, i=i, e=edges: (
                at_side(e[k], m["pv_kw"][i, t], _q(m, "pv_kvar", v, t)) <= e[k][2]
            ),
        )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Reactive demand, who can give some when, what it costs."""
    if not asked(s):
        return
    tied, T = p.grid_available, s.steps
    n.par("kvar_demand", np.array(tangents(s)) @ p.load_kw if s.site.feeders else np.zeros(T))
    n.bound("grid_kvar", 0.0, np.where(tied, grid_kvar_max(s), 0.0))
    n.bound("kvar_missing", 0.0, np.inf)
    n.price("reactive_short", "kvar_missing", ladder(s.site).voltage_per_kwh * s.step_h)
    price = usual_per_kwh(p.import_per_kwh)
    tie = s.formulation.tie_break_ratio
    if s.site.bess:
        there = np.array([float(x.available) for x in p.bess])
        rated = np.array([kvar_max(b.pcs) for b in s.site.bess]).T * there
        loss = np.array([max(bent_loss_pu(b.battery), tie) for b in s.site.bess])
        n.bound("bess_kvar", 0.0, rated[:, :, None])
        n.price("reactive", "bess_kvar", loss[:, None] * price * s.step_h)
        if "kvar_freed_kw" in n.shapes:
            most = 4.0 * max(b.pcs.s_kva for b in s.site.bess)
            n.par("kvar_freed_kw", np.where(tied, most, 0.0))
    if at := solar(s):
        least = np.array([SUN_RATIO * s.site.pv[i].p_ac_kw for i in at])
        top = np.array([kvar_max(s.site.pv[i]) for i in at]).T[:, :, None] * np.ones((1, T))
        n.bound("pv_kvar", 0.0, np.where(p.pv_kw[at] > least[:, None], top, 0.0))
        n.price("reactive", "pv_kvar", tie * price * s.step_h)
    if s.site.gensets:
        most = np.array(genset_kvar_max(s)) * np.array(sizes(s))
        n.bound("genset_kvar", 0.0, most[:, None] * np.where(tied, 0.0, 1.0))


def flows_kvar(s: Structure, v: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Reactive power by group, (N, T), positive into the bus; `grid` (T,) drawn from it [kvar]."""
    empty = np.zeros((0, s.steps))
    return {
        "bess": v["bess_kvar"][0] - v["bess_kvar"][1] if s.site.bess else empty,
        "pv": v["pv_kvar"][0] - v["pv_kvar"][1] if solar(s) else empty,
        "genset": _by_machine(s, v) if s.site.gensets else empty,
        "grid": v["grid_kvar"][0] - v["grid_kvar"][1],
        "missing": v["kvar_missing"],
    }


def _by_machine(s: Structure, v: Mapping[str, FloatArray]) -> FloatArray:
    """(G, T) reactive power of single machines; those on load share their fleet's equally [kvar]."""
    fleet = np.repeat(np.arange(len(sizes(s))), sizes(s))
    on = v["on"]
    if len(on) != len(fleet):
        raise InvariantBroken("reactive power is shared out after fleets are taken apart")
    running = np.array([on[fleet == k].sum(axis=0) for k in range(len(sizes(s)))])[fleet]
    out: FloatArray = v["genset_kvar"][fleet] * np.divide(on, running, out=0.0 * on, where=running > 0.0)
    return out


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Reactive demand that nobody gives."""
    if "kvar_missing" not in v or (worst := float(v["kvar_missing"].max())) <= 0.05:
        return
    first = p.grid.starts()[int(np.argmax(v["kvar_missing"] > 0.05))]
    yield f"reactive power short: up to {worst:.1f} kvar, first at {first:%d %H:%M} UTC"
