"""Reserve in kW, and the kWh behind it; a shortfall has a price and is reported.

Islanded (the forming source's power is a result, so headroom is kept both ways):

    sum_g (P_g u - p_g) + sum_b r_b + short  >=  a (load - shed) + b pv_used
    sum_g (p_g - Pmin_g u) + sum_b h_b + short_down  >=  a (load - shed)

Grid-tied (sudden loss of the grid; what is not critical is shed, but not in the first instant, so that the
forming batteries must be able to take over the whole net load as far as they are rated for it):

    sum_g P_g u + sum_b r_b + short  >=  max(critical load, min(net load, sum_b P_b)) + auxiliaries

with all of the load in place of the critical one while mains that came back are not counted on yet:

    r_b + (discharge - charge, islanded only)  <=  P_b and its taper,     r_b T q <= e_t - E_min
    h_b - (discharge - charge)                 <=  P_b charge,            h_b T   <= E_max - e_t

T is the start delay of the slowest genset times one more than the failed starts to be survived, q the energy
drawn per kWh delivered. Rows of the other grid mode are freed by their right-hand side.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from ems.site import Site
from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.formulations.battery import discharge_cuts, net, taper_slopes
from optimizer.misses import missed_kw
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure
from plant_models.battery import drawn_per_kwh, taper_discharge_kw_array
from plant_models.pcs import kvar_max, room_kw_array


def critical(site: Site) -> list[int]:
    """Feeders to be carried through a loss of the grid: critical tiers, and what cannot be shed."""
    return [
        i for i, f in enumerate(site.feeders) if f.tier <= site.reserve.critical_tier or not f.has_breaker
    ]


def add(m: Model, s: Structure) -> None:
    """reserve_kw, down_kw (B, T), short_kw, short_down_kw (T,)."""
    if not s.formulation.reserve:
        return
    B, T = len(s.site.bess), s.steps
    short, short_down = m.var("short_kw", T), m.var("short_down_kw", T)
    island_up, island_down = m.par("island_up_kw", T), m.par("island_down_kw", T)
    loss_of_grid = m.par("loss_of_grid_kw", T)
    if B:
        held, down = m.var("reserve_kw", B, T), m.var("down_kw", B, T)
        _add_limits(m, s)
    policy = s.site.reserve

    def batteries(x: Expr, t: int) -> Expr:
        return sum(x[b, t] for b in range(B))

    def shed(t: int) -> Expr:
        return sum(m["shed_kw"][f, t] for f in range(len(s.site.feeders)))

    def solar(t: int) -> Expr:
        return sum(m["pv_kw"][i, t] for i in range(len(s.site.pv)))

    m.rows(
        "reserve_island",
        (T,),
        lambda t: (
            sum(m.reserve_up[t]) + (batteries(held, t) if B else 0) + short[t]
            >= island_up[t] - policy.load_ratio * shed(t) + policy.pv_ratio * solar(t)
        ),
    )
    m.rows(
        "reserve_down",
        (T,),
        lambda t: (
            sum(m.reserve_down[t]) + (batteries(down, t) if B else 0) + short_down[t]
            >= island_down[t] - policy.load_ratio * shed(t)
        ),
    )
    m.rows(
        "loss_of_grid",
        (T,),
        lambda t: sum(m.carry[t]) + (batteries(held, t) if B else 0) + short[t] >= loss_of_grid[t],
    )


def _add_limits(m: Model, s: Structure) -> None:
    """What a battery can hold ready, in power and in energy."""
    shape = (len(s.site.bess), s.steps)
    held, down, stored = m["reserve_kw"], m["down_kw"], m["stored_kwh"]
    room, freed = m.par("discharge_room_kw", *shape), m.par("charge_room_kw", *shape)
    p = [b.battery for b in s.site.bess]
    e_min = [x.soc_min * x.energy_kwh for x in p]
    e_max = [x.soc_max * x.energy_kwh for x in p]
    behind = [s.hold_h * drawn_per_kwh(x) for x in p]
    m.rows("reserve_power", shape, lambda b, t: held[b, t] + net(m, b, t) <= room[b, t])
    m.rows(
        "reserve_energy",
        shape,
        lambda b, t: (
            behind[b] * held[b, t]
            <= stored[b, t] + m["below_kwh"][b, t] + m["opened_low_kwh"][b, t] - e_min[b]
        ),
    )
    m.rows("down_power", shape, lambda b, t: down[b, t] - net(m, b, t) <= freed[b, t])
    m.rows(
        "down_energy",
        shape,
        lambda b, t: (
            s.hold_h * down[b, t]
            <= e_max[b] + m["above_kwh"][b, t] + m["opened_high_kwh"][b, t] - stored[b, t]
        ),
    )
    for b, x in enumerate(p):
        slope = taper_slopes(x)[1]
        if slope is not None and s.formulation.soc_tapers:
            m.rows(
                f"reserve_taper_{b}",
                (s.steps,),
                lambda t, b=b, x=x, k=slope: (
                    held[b, t]
                    <= x.taper_ratio * x.p_discharge_kw_max
                    + k * (stored[b, t] + m["below_kwh"][b, t] + m["opened_low_kwh"][b, t] - e_min[b])
                ),
            )
        for j, cut in enumerate(discharge_cuts(x, s)):
            m.rows(
                f"reserve_by_soc_{b}_{j}",
                (s.steps,),
                lambda t, b=b, x=cut: (
                    held[b, t]
                    <= x.at_empty_kw
                    + x.slope_kw_kwh * (stored[b, t] + m["below_kwh"][b, t] + m["opened_low_kwh"][b, t])
                ),
            )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Requirements by grid mode, rooms, prices."""
    if not s.formulation.reserve:
        return
    island = p.islanded
    policy = s.site.reserve
    load = p.load_kw.sum(axis=0)
    free = -_plenty(s.site, p)
    n.par("island_up_kw", np.where(island, policy.load_ratio * load, free))
    n.par("island_down_kw", np.where(island, policy.load_ratio * load, free))
    n.par("loss_of_grid_kw", np.where(island, free, loss_of_grid_kw(p)))
    n.bound("short_kw", 0.0, np.inf)
    n.bound("short_down_kw", 0.0, np.inf)
    n.price("reserve_short", "short_kw", ladder(s.site).reserve_per_kwh * s.step_h)
    n.price("reserve_short", "short_down_kw", ladder(s.site).reserve_down_per_kwh * s.step_h)
    if not s.site.bess:
        return
    up = np.array([b.p_discharge_kw for b in p.bess])
    down = np.array([b.p_charge_kw for b in p.bess])
    forms = np.array(
        [float(b.pcs.can_form and x.available) for b, x in zip(s.site.bess, p.bess, strict=True)]
    )
    n.bound("reserve_kw", 0.0, np.where(island, up, carried_kw(p) * forms[:, None]))
    n.bound("down_kw", 0.0, up + down)
    n.par("discharge_room_kw", np.where(island, up, 2.0 * up + down))
    n.par("charge_room_kw", down)


def carried_kw(p: PlanningProblem) -> FloatArray:
    """(B, T) what each battery can carry right after a loss of the grid [kW].

    Where reactive power is planned, beside its share, by rating, of the critical load's reactive power.
    """
    out = np.array([x.p_discharge_kw for x in p.bess]).reshape(-1, p.steps)
    forms = [b for b, x in enumerate(p.site.bess) if x.pcs.can_form and p.bess[b].available]
    if p.site.grid.reactive is None or not forms:
        return out
    at = critical(p.site)
    tangent = np.array([math.sqrt(1.0 / f.power_factor_ratio**2 - 1.0) for f in p.site.feeders])
    per_kva = tangent[at] @ p.load_kw[at] / sum(p.site.bess[b].pcs.s_kva for b in forms)
    for b in forms:
        unit = p.site.bess[b].pcs
        if unit.capability is None:
            room_kw = unit.s_kva * np.sqrt(np.maximum(0.0, 1.0 - per_kva**2))
        else:
            kvar = per_kva * unit.s_kva
            room_kw = np.where(kvar <= kvar_max(unit)[0], room_kw_array(unit, kvar)[0], 0.0)
        out[b] = np.minimum(out[b], room_kw)
    return out


def battery_top_kw(p: PlanningProblem, s: Structure, stored: FloatArray) -> FloatArray:
    """(B, T) most that each battery can give for `hold_h`: rating, taper, stored energy [kW]."""
    out = np.zeros(stored.shape)
    for b, (unit, start) in enumerate(zip(p.site.bess, p.bess, strict=True)):
        if start.available:
            battery = unit.battery
            taper = taper_discharge_kw_array(battery, stored[b] / battery.energy_kwh)
            energy = np.maximum(0.0, stored[b] - battery.soc_min * battery.energy_kwh)
            held = np.minimum(start.p_discharge_kw, energy / (s.hold_h * drawn_per_kwh(battery)))
            out[b] = np.minimum(held, taper)
    return out


def loss_of_grid_kw(p: PlanningProblem) -> FloatArray:
    """(T,) what must be taken over when the grid is lost [kW]."""
    aux = sum(b.battery.aux_kw for b in p.site.bess)
    net = p.load_kw.sum(axis=0) - (1.0 - p.site.reserve.pv_ratio) * p.pv_kw.sum(axis=0)
    pairs = zip(p.site.bess, carried_kw(p), strict=True)
    forming = sum((kw for b, kw in pairs if b.pcs.can_form), start=np.zeros(net.shape))
    must = p.load_kw[critical(p.site)].sum(axis=0)
    if p.distrusted is not None:
        must = np.where(p.distrusted, p.load_kw.sum(axis=0), must)
    out: FloatArray = np.maximum(must + aux, np.minimum(net + aux, forming))
    return out


def _plenty(site: Site, p: PlanningProblem) -> float:
    """More than any requirement: frees a row [kW]."""
    return 10.0 * math.ceil(
        float(p.load_kw.sum(axis=0).max(initial=1.0)) + sum(x.p_ac_kw for x in site.pv) + 1.0
    )


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Reserve that is not covered."""
    if "short_kw" in v:
        yield from missed_kw(p, "reserve up short", v["short_kw"])
        yield from missed_kw(p, "reserve down short", v["short_down_kw"])
