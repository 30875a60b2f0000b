"""Contingencies in an island: what is left must cover the loss of any one source, a motor start, a load trip.

With R_t all upward headroom of gensets and batteries, which contains P_g u_g - p_g of genset g and r_b of
battery b, and F_t the sources on line that can form the bus:

    R_t + short_t              >=  P_g u_g,t               loss of genset g (both sides less its own headroom)
    u_n,t <= size_n a_n,t,  R_t + short_t >= P_n a_n,t     the same for a fleet n, a binary: any of them runs
    R_t + short_t              >=  r_b,t + net_b,t         loss of battery b
    F_t + unformed_t           >=  1 - (another battery can form)       loss of a battery that forms
    R_t + short_t              >=  pv_i,t,  a sum pv       loss of PV plant i, drop of a share of all of it
    R_t + short_t              >=  largest motor start
    sum_g (p_g - Pmin_g u_g) + sum_b h_b + short_down_t  >=  largest load that may trip

Only the rows that `reserve` in the site file asks for exist; they are freed by their right-hand side in
grid-tied steps, where the grid covers. Shortfalls are priced as reserve and named in the plan's notes.

Source: Bouffard and Galiana, IEEE Trans. Power Systems 19(1), 2004, 300-307 (reserve for single outages in
unit commitment); grid codes call it the reference incident.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ems.site import Site
from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.fleets import machines, sizes
from optimizer.formulations.battery import net
from optimizer.formulations.reserve import critical
from optimizer.misses import missed_kw
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

PLENTY_RATIO = 10.0  # a row is freed by so much of everything the site has


def asked(s: Structure) -> bool:
    """Whether the site asks for any contingency to be covered."""
    policy = s.site.reserve
    return s.formulation.reserve and (_up(s) or bool(policy.load_trip_kw))


def _up(s: Structure) -> bool:
    policy = s.site.reserve
    drop = policy.pv_drop_ratio > 0.0 and bool(s.site.pv)
    return bool(policy.n_minus_1 or policy.motor_start_kw) or drop


def _plenty_kw(s: Structure) -> float:
    site = s.site
    parts = (
        sum(g.p_rated_kw for g in site.gensets),
        sum(b.pcs.s_kva for b in site.bess),
        sum(x.p_ac_kw for x in site.pv),
        site.reserve.motor_start_kw,
        site.reserve.load_trip_kw,
    )
    return PLENTY_RATIO * sum(parts)


def add(m: Model, s: Structure) -> None:
    """n1_short_kw, n1_down_short_kw (T,), unformed (T,), as far as they are asked for."""
    if not asked(s):
        return
    B, N, T = len(s.site.bess), len(machines(s)), s.steps
    policy = s.site.reserve
    freed = m.par("contingency_freed_kw", T)

    def battery(name: str, t: int) -> Expr:
        return sum(m[name][b, t] for b in range(B))

    if _up(s):
        short = m.var("n1_short_kw", T)

        def headroom(t: int) -> Expr:
            return sum(m.reserve_up[t]) + battery("reserve_kw", t) + short[t] + freed[t]

        if "genset" in policy.n_minus_1 and N:
            rated = [g.p_rated_kw for g in machines(s)]
            runs = any_on(m, s)
            m.rows("loss_of_genset", (N, T), lambda n, t: headroom(t) >= rated[n] * runs(n, t))
        if "bess" in policy.n_minus_1:
            m.rows("loss_of_bess", (B, T), lambda b, t: headroom(t) >= m["reserve_kw"][b, t] + net(m, b, t))
        V = len(s.site.pv)
        if "pv" in policy.n_minus_1 and V:
            m.rows("loss_of_pv", (V, T), lambda i, t: headroom(t) >= m["pv_kw"][i, t])
        if policy.pv_drop_ratio > 0.0 and V:
            ratio = policy.pv_drop_ratio
            m.rows("pv_drop", (T,), lambda t: headroom(t) >= ratio * sum(m["pv_kw"][i, t] for i in range(V)))
        if policy.motor_start_kw:
            m.rows("motor_start", (T,), lambda t: headroom(t) >= policy.motor_start_kw)
    if "bess" in policy.n_minus_1 and B:
        unformed, spare = m.var("unformed", T), m.par("formed_without_bess", T)
        m.rows("loss_of_forming", (T,), lambda t: sum(m.forming[t]) + unformed[t] + spare[t] >= 1)
    if policy.load_trip_kw:
        down_short = m.var("n1_down_short_kw", T)
        m.rows(
            "load_trip",
            (T,),
            lambda t: (
                sum(m.reserve_down[t]) + battery("down_kw", t) + down_short[t] + freed[t]
                >= policy.load_trip_kw
            ),
        )


def any_on(m: Model, s: Structure) -> Callable[[int, int], Expr]:
    """Whether any machine of a fleet is on, by fleet and step; any_on (K, T) for fleets of more than one."""
    size, on = sizes(s), m["on"]
    many = [n for n, k in enumerate(size) if k > 1]
    if not many:
        return lambda n, t: on[n, t]
    if "any_on" not in m.shapes:
        declared = m.var("any_on", len(many), s.steps)
        m.rows(
            "runs_of_fleet",
            (len(many), s.steps),
            lambda k, t: on[many[k], t] <= float(size[many[k]]) * declared[k, t],
        )
    runs = m["any_on"]
    return lambda n, t: runs[many.index(n), t] if n in many else on[n, t]


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """In which steps the rows hold, and prices."""
    if "any_on" in n.shapes:
        n.bound("any_on", 0.0, 1.0)
        counts = (p.islanded & ("genset" in s.site.reserve.n_minus_1)) | (
            p.grid_available & ("genset" in s.site.reserve.n_minus_1_tied)
        )
        n.whole("any_on", p.integral & counts)
    if not asked(s):
        return
    island, policy = p.islanded, s.site.reserve
    n.par("contingency_freed_kw", np.where(island, 0.0, _plenty_kw(s)))
    if _up(s):
        n.bound("n1_short_kw", 0.0, np.inf)
        n.price("contingency_short", "n1_short_kw", ladder(s.site).reserve_per_kwh * s.step_h)
    if "unformed" in n.shapes:
        n.par("formed_without_bess", np.where(island, float(forming_bess(p) >= 2), 1.0))
        n.bound("unformed", 0.0, 1.0)
        tiers = policy.critical_tier
        critical_kw = sum(f.p_peak_kw for f in s.site.feeders if f.tier <= tiers or not f.has_breaker)
        n.price("contingency_short", "unformed", ladder(s.site).reserve_per_kwh * critical_kw * s.step_h)
    if policy.load_trip_kw:
        n.bound("n1_down_short_kw", 0.0, np.inf)
        n.price("contingency_short", "n1_down_short_kw", ladder(s.site).reserve_down_per_kwh * s.step_h)


def forming_bess(p: PlanningProblem) -> int:
    """How many batteries can form the bus now."""
    pairs = zip(p.site.bess, p.bess, strict=True)
    return sum(b.pcs.can_form and x.available and b.id in p.site.forming.islanded for b, x in pairs)


def sheddable(site: Site) -> list[int]:
    """Feeders that may be shed on a loss of the import: above the critical tiers, with a breaker."""
    carried = critical(site)
    return [i for i in range(len(site.feeders)) if i not in carried]


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """A load trip, and a bus nobody could form; the rest is said by `cover.sentences`, from the powers."""
    if "n1_down_short_kw" in v:
        yield from missed_kw(p, "largest load trip not covered", v["n1_down_short_kw"])
    if "unformed" in v and (alone := v["unformed"] > 0.5).any():
        yield (
            f"loss of the forming battery: nobody else could form the bus in {int(alone.sum())} steps, "
            f"first at {p.grid.starts()[int(np.argmax(alone))]:%d %H:%M} UTC"
        )
