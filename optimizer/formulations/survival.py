"""Survival: if the grid failed at the end of a step, the critical load would live so many hours.

    sum_b (e_b,t - E_min_b) / q_b + sum_g y_g,t + short_t  >=  need_t          grid-tied steps
    l_g y_g,t  <=  tank_g - used_g,t,     y_g,t  <=  P_g (H - start delay_g),     used_t = used_{t-1} + fuel_t

need_t is the critical load with auxiliaries less a share of the forecast PV, where positive, over the next
H = `survive_h` hours (behind the end of the window its last hours go on); b runs over the batteries that can
form an island, g over the gensets available, l_g is their fuel per kWh at rating. Where the tank is not
measured, it is taken as full enough.

A shortfall costs what it is expected to cost: with `outages_per_month`, rate x VOLL of the critical tiers for
each hour it stands; without, the price of reserve. Rows are freed in islanded steps.

Source: the expected cost of unserved energy behind an outage of Poisson arrival; docs/optimizer.md.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ems.timegrid import FloatArray
from optimizer.algebra import Model
from optimizer.fleets import firsts, machines
from optimizer.formulations.genset_fuel import TANK_UNKNOWN_L, fuel_l_h
from optimizer.formulations.reserve import critical
from optimizer.misses import SHOWN_KW
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure
from plant_models.battery import drawn_per_kwh

MONTH_H = 730.0


def asked(s: Structure) -> bool:
    """Whether the site asks for survival."""
    return s.formulation.reserve and s.site.reserve.survive_h > 0.0


def add(m: Model, s: Structure) -> None:
    """survive_short_kwh (T,), survive_fuel_kwh, used_l (N, T) by fleet."""
    if not asked(s):
        return
    G, T = len(machines(s)), s.steps
    short, need = m.var("survive_short_kwh", T), m.par("survive_need_kwh", T)
    forms = [b for b, x in enumerate(s.site.bess) if x.pcs.can_form and x.id in s.site.forming.islanded]
    params = [b.battery for b in s.site.bess]
    e_min = [p.soc_min * p.energy_kwh for p in params]
    if G:
        backed, used, tank = (
            m.var("survive_fuel_kwh", G, T),
            m.var("used_l", G, T),
            m.par("survive_tank_l", G),
        )
        per_kwh = [g.fuel_l_h[-1] / g.fuel_kw[-1] for g in machines(s)]
        m.rows(
            "fuel_used",
            (G, T),
            lambda g, t: (
                used[g, t] - (used[g, t - 1] if t else 0.0) == float(s.step_h[t]) * fuel_l_h(m, s, g, t)
            ),
        )
        m.rows("survive_fuel", (G, T), lambda g, t: per_kwh[g] * backed[g, t] + used[g, t] <= tank[g])
    m.rows(
        "survive",
        (T,),
        lambda t: (
            sum((m["stored_kwh"][b, t] - e_min[b]) / drawn_per_kwh(params[b]) for b in forms)
            + (sum(backed[g, t] for g in range(G)) if G else 0.0)
            + short[t]
            >= need[t]
        ),
    )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """What must be lived through from each step, what gensets may contribute, price of a shortfall."""
    if not asked(s):
        return
    policy = s.site.reserve
    need = needed_kwh(p, s)
    most = float(need.max(initial=0.0)) + sum(b.battery.energy_kwh for b in s.site.bess)
    n.par("survive_need_kwh", np.where(p.grid_available, need, -10.0 * (most + 1.0)))
    n.bound("survive_short_kwh", 0.0, np.inf)
    if policy.outages_per_month is None:
        rate = ladder(s.site).reserve_per_kwh
    else:
        voll = max((s.site.feeders[i].voll_per_kwh for i in critical(s.site)), default=0.0)
        rate = policy.outages_per_month / MONTH_H * voll
    n.price("survival_short", "survive_short_kwh", rate * s.step_h)
    if not s.site.gensets:
        return
    hours = np.array([max(0.0, policy.survive_h - g.start_delay_s / 3600.0) for g in s.site.gensets])
    rated = np.array(
        [g.p_rated_kw * float(x.available) for g, x in zip(s.site.gensets, p.gensets, strict=True)]
    )
    tank_l = np.array([min(x.fuel_l, TANK_UNKNOWN_L) for x in p.gensets])
    n.bound("survive_fuel_kwh", 0.0, np.add.reduceat(rated * hours, firsts(s))[:, None])
    n.bound("used_l", 0.0, np.inf)
    n.par("survive_tank_l", np.add.reduceat(tank_l, firsts(s)))


def needed_kwh(p: PlanningProblem, s: Structure) -> FloatArray:
    """(T,) energy the critical load takes over `survive_h` from the end of each step, net of PV [kWh]."""
    policy = s.site.reserve
    aux = sum(b.battery.aux_kw for b in s.site.bess)
    kw = p.load_kw[critical(s.site)].sum(axis=0) + aux - policy.survive_pv_ratio * p.pv_kw.sum(axis=0)
    return energy_ahead_kwh(kw, s.step_h, policy.survive_h)


def energy_ahead_kwh(kw: FloatArray, step_h: FloatArray, last: float) -> FloatArray:
    """(T,) energy of a (T,) load over the next `last` hours from the end of each step [kWh]."""
    kwh = np.maximum(0.0, kw) * step_h
    edges = np.concatenate([[0.0], np.cumsum(step_h)])
    total = np.concatenate([[0.0], np.cumsum(kwh)])
    end = float(edges[-1])
    before = float(total[-1] - np.interp(max(0.0, end - last), edges, total))
    tail_kw = before / min(last, end)  # mean of the window's last hours stands for what follows it
    edges, total = np.append(edges, end + last), np.append(total, total[-1] + tail_kw * last)
    out: FloatArray = np.interp(edges[1:-1] + last, edges, total) - total[1:-1]
    return out


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Energy that the critical load would lack in an outage."""
    if "survive_short_kwh" in v and (worst := float(v["survive_short_kwh"].max())) > SHOWN_KW:
        yield (
            f"survival: stored energy and fuel miss up to {worst:.0f} kWh of what the critical load takes in "
            f"{p.site.reserve.survive_h:g} h without the grid"
        )
