"""Short-circuit ratio: grid-following inverters give no more than the strength of the bus carries.

    grid-tied:  r (sum pv + sum_b (charge + discharge) - over)  <=  S_grid + sum_g k S_g u_g
    islanded:   the same over the batteries that cannot form,    <=  sum_g k S_g u_g + c sum_forming S_b

r is the ratio asked for, k = 1 / x''d of a genset, c what a forming converter gives over its rating, S_grid
by the site or by V^2 / |Z|. Only in a grid mode for which there is no table of permitted sets, which would
know better. Rows of the other mode are freed by their right-hand side; `over` is priced at the rung of
voltage.

Source: CIGRE TB 671, "Connection of wind farms to weak AC networks", 2016 (short-circuit ratio); the sum over
inverters on one bus is its composite form.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.fleets import machines
from optimizer.formulations.battery import flow
from optimizer.misses import missed_kw
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure
from plant_models.grid import impedance_pu_per_kw


def grid_kva(s: Structure) -> float:
    """Fault level of the grid at the interconnection [kVA]; infinite without an impedance."""
    policy = s.site.grid.strength
    if policy is not None and policy.s_grid_kva is not None:
        return policy.s_grid_kva
    z = math.hypot(*impedance_pu_per_kw(s.site.grid))
    return 1.0 / z if z > 0.0 else math.inf


def modes(s: Structure) -> list[bool]:
    """Whether islanded, for each grid mode in which the ratio counts."""
    if s.site.grid.strength is None:
        return []
    sets = s.site.sources
    tied = not (sets is not None and sets.grid_tied) and math.isfinite(grid_kva(s))
    return [*([False] if tied else []), *([] if sets is not None and sets.islanded else [True])]


def following(s: Structure, islanded: bool) -> list[int]:
    """Batteries that follow the bus: all beside the grid, in an island those that cannot form."""
    pairs = enumerate(s.site.bess)
    return [b for b, x in pairs if not (islanded and x.pcs.can_form and x.id in s.site.forming.islanded)]


def add(m: Model, s: Structure) -> None:
    """weak_kw (M, T): inverter power beyond the ratio, by mode in which it counts."""
    policy, counted = s.site.grid.strength, modes(s)
    if policy is None or not counted:
        return
    M, T, r = len(counted), s.steps, policy.scr_ratio_min
    over, room = m.var("weak_kw", M, T), m.par("strength_kva", M, T)
    fault = [policy.genset_ratio * g.s_kva for g in machines(s)]

    def inverters(k: int, t: int) -> Expr:
        parts = [-over[k, t], *(m["pv_kw"][i, t] for i in range(len(s.site.pv)))]
        for b in following(s, counted[k]):
            parts += [flow(m, "charge_kw", b, t), flow(m, "discharge_kw", b, t)]
        return sum(parts)

    m.rows(
        "strength",
        (M, T),
        lambda k, t: r * inverters(k, t) - sum(x * m["on"][g, t] for g, x in enumerate(fault)) <= room[k, t],
    )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """What the grid and forming converters give; rows of the other mode are freed."""
    policy, counted = s.site.grid.strength, modes(s)
    if policy is None or not counted:
        return
    most = sum(x.p_ac_kw for x in s.site.pv) + sum(2.0 * x.pcs.s_kva for x in s.site.bess) + 1.0
    freed = 10.0 * policy.scr_ratio_min * most
    forming = 0.0
    for b, (unit, start) in enumerate(zip(s.site.bess, p.bess, strict=True)):
        if b not in following(s, True) and start.available:
            forming += policy.forming_ratio * unit.pcs.s_kva
    n.par(
        "strength_kva",
        np.array(
            [
                np.where(p.islanded, forming, freed) if x else np.where(p.islanded, freed, grid_kva(s))
                for x in counted
            ]
        ),
    )
    n.bound("weak_kw", 0.0, np.inf)
    n.price("strength", "weak_kw", ladder(s.site).voltage_per_kwh * s.step_h)


def missed(s: Structure, v: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """(T,) inverter power that a solution has beyond the ratio [kW]."""
    return {"weak_inverters_kw": v["weak_kw"].sum(axis=0)} if "weak_kw" in v else {}


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Inverter power for which the bus is too weak."""
    for kw in missed(s, v).values():
        yield from missed_kw(p, "inverters beyond what the short-circuit ratio allows", kw)
