"""Contingencies beside the grid: loss of a source, of PV, of the import while others feed the bus too.

With spare_b,t what battery b can add to its present power (rating, taper, circle, energy for the start of the
next genset), G_t the import cap and m_t = import - export:

    H_t = sum_g (P_g u_g - p_g) + sum_b spare_b
    H_t + G_t - m_t + short_t  >=  P_g u_g             loss of genset g (both sides less its own headroom)
    H_t + G_t - m_t + short_t  >=  spare_b + net_b     loss of battery b with its PCS
    H_t + G_t - m_t + short_t  >=  pv_i,  a sum pv     loss of PV plant i, drop of a share of all of it
    H'_t + credit_t + short_t  >=  m_t                 loss of the import; H' over batteries that can form

credit is the load above the critical tiers that has a breaker. What the site needs after a loss of the grid
is the reserve's (reserve.py), in capacity; this asks for headroom: a genset at its rating cannot take over
the import. Rows are freed in islanded steps, shortfalls priced as reserve and named.

Source: as contingency.py.
"""

import numpy as np

from optimizer.algebra import Expr, Model
from optimizer.fleets import machines
from optimizer.formulations.battery import discharge_cuts, net, taper_slopes
from optimizer.formulations.contingency import any_on, sheddable
from optimizer.formulations.reactive import asked as reactive_asked
from optimizer.formulations.reactive import at_side, polygon
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure
from plant_models.battery import drawn_per_kwh


def asked(s: Structure) -> bool:
    """Whether the site asks for a contingency beside the grid to be covered."""
    policy = s.site.reserve
    drop = policy.pv_drop_ratio > 0.0 and bool(s.site.pv)
    return s.formulation.reserve and (bool(policy.n_minus_1_tied) or drop)


def add(m: Model, s: Structure) -> None:
    """spare_kw (B, T), n1_tied_short_kw (T,)."""
    if not asked(s):
        return
    B, T, policy = len(s.site.bess), s.steps, s.site.reserve
    short, room = m.var("n1_tied_short_kw", T), m.par("tied_room_kw", T)
    if B:
        _add_spare(m, s)

    def own(t: int, batteries: list[int]) -> Expr:
        return sum(m.reserve_up[t]) + sum(m["spare_kw"][b, t] for b in batteries) + short[t]

    def drawn(t: int) -> Expr:
        return m["import_kw"][t] - m["export_kw"][t]

    def with_grid(t: int) -> Expr:
        return own(t, list(range(B))) + room[t] - drawn(t)

    if "genset" in policy.n_minus_1_tied and s.site.gensets:
        rated, runs = [g.p_rated_kw for g in machines(s)], any_on(m, s)
        m.rows("tied_genset", (len(rated), T), lambda n, t: with_grid(t) >= rated[n] * runs(n, t))
    if "bess" in policy.n_minus_1_tied:
        m.rows("tied_bess", (B, T), lambda b, t: with_grid(t) >= m["spare_kw"][b, t] + net(m, b, t))
    V = len(s.site.pv)
    if "pv" in policy.n_minus_1_tied and V:
        m.rows("tied_pv", (V, T), lambda i, t: with_grid(t) >= m["pv_kw"][i, t])
    if policy.pv_drop_ratio > 0.0 and V:
        ratio = policy.pv_drop_ratio
        m.rows(
            "tied_pv_drop", (T,), lambda t: with_grid(t) >= ratio * sum(m["pv_kw"][i, t] for i in range(V))
        )
    if "import" in policy.n_minus_1_tied:
        forms = [b for b, x in enumerate(s.site.bess) if x.pcs.can_form]
        credit, at = m.par("shed_credit_kw", T), sheddable(s.site)
        m.rows(
            "loss_of_import",
            (T,),
            lambda t: own(t, forms) + credit[t] - sum(m["shed_kw"][f, t] for f in at) >= drawn(t),
        )


def _add_spare(m: Model, s: Structure) -> None:
    """What a battery can add to its present power, in power, circle, taper and energy."""
    B, T = len(s.site.bess), s.steps
    spare, top, stored = m.var("spare_kw", B, T), m.par("spare_room_kw", B, T), m["stored_kwh"]
    p = [b.battery for b in s.site.bess]

    def above(b: int, t: int) -> Expr:
        e_min = p[b].soc_min * p[b].energy_kwh
        return stored[b, t] + m["below_kwh"][b, t] + m["opened_low_kwh"][b, t] - e_min

    m.rows("spare_power", (B, T), lambda b, t: spare[b, t] + net(m, b, t) <= top[b, t])
    m.rows("spare_energy", (B, T), lambda b, t: s.hold_h * drawn_per_kwh(p[b]) * spare[b, t] <= above(b, t))
    for b, x in enumerate(p):
        slope = taper_slopes(x)[1]
        if slope is not None and s.formulation.soc_tapers:
            m.rows(
                f"spare_taper_{b}",
                (T,),
                lambda t, b=b, x=x, k=slope: (
                    spare[b, t] <= x.taper_ratio * x.p_discharge_kw_max + k * above(b, t)
                ),
            )
        for j, cut in enumerate(discharge_cuts(x, s)):
            least = cut.at_empty_kw + cut.slope_kw_kwh * x.soc_min * x.energy_kwh
            m.rows(
                f"spare_by_soc_{b}_{j}",
                (T,),
                lambda t, b=b, least=least, k=cut.slope_kw_kwh: spare[b, t] <= least + k * above(b, t),
            )
        if reactive_asked(s):
            edges = [e for e in polygon(s, b) if e[0] > 0.0]
            q = m["bess_kvar"]
            m.rows(
                f"spare_polygon_{b}",
                (len(edges), T),
                lambda k, t, b=b, e=edges, q=q: (
                    at_side(e[k], net(m, b, t) + spare[b, t], q[0, b, t] - q[1, b, t]) <= e[k][2]
                ),
            )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Import cap, what may be shed, in which steps the rows hold, prices."""
    if not asked(s):
        return
    site = s.site
    plenty = 10.0 * (
        sum(g.p_rated_kw for g in site.gensets)
        + sum(b.pcs.s_kva for b in site.bess)
        + sum(x.p_ac_kw for x in site.pv)
        + float(p.load_kw.sum(axis=0).max(initial=0.0))
        + site.grid.p_import_kw_max
    )
    tied = p.grid_available
    n.par("tied_room_kw", np.where(tied, p.import_cap_kw, plenty))
    n.bound("n1_tied_short_kw", 0.0, np.inf)
    n.price("contingency_short", "n1_tied_short_kw", ladder(site).reserve_per_kwh * s.step_h)
    if site.bess:
        up = np.array([b.p_discharge_kw for b in p.bess])
        n.par("spare_room_kw", up)
        n.bound("spare_kw", 0.0, up)
    if "shed_credit_kw" in n.shapes:
        n.par("shed_credit_kw", np.where(tied, p.load_kw[sheddable(site)].sum(axis=0), plenty))
