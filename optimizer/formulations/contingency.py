"""Contingencies in an island: what is left must cover the loss of any one source, a motor start, a load trip.

With R_t all upward headroom of gensets and batteries, which contains P_g u_g - p_g of genset g and r_b of
battery b, and F_t the sources on line that can form the bus:

    R_t + short_t              >=  P_g u_g,t               loss of genset g (both sides less its own headroom)
    u_n,t <= size_n a_n,t,  R_t + short_t >= P_n a_n,t     the same for a fleet n, a binary: any of them runs
    R_t + short_t              >=  r_b,t + net_b,t         loss of battery b
    F_t + unformed_t           >=  1 - (another battery can form)       loss of a battery that forms
    R_t + short_t              >=  largest motor start
    sum_g (p_g - Pmin_g u_g) + sum_b h_b + short_down_t  >=  largest load that may trip

Only the rows that `reserve` in the site file asks for exist; they are freed by their right-hand side in
grid-tied steps, where the grid covers. Shortfalls are priced as reserve and named in the plan's notes.

Source: Bouffard and Galiana, IEEE Trans. Power Systems 19(1), 2004, 300-307 (reserve for single outages in
unit commitment); grid codes call it the reference incident.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.fleets import machines, sizes
from optimizer.formulations.battery import net
from optimizer.misses import SHOWN_KW, missed_kw
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

PLENTY_RATIO = 10.0  # a row is freed by so much of everything the site has


def asked(s: Structure) -> bool:
    """Whether the site asks for any contingency to be covered."""
    policy = s.site.reserve
    return s.formulation.reserve and bool(policy.n_minus_1 or policy.motor_start_kw or policy.load_trip_kw)


def _up(s: Structure) -> bool:
    return bool(s.site.reserve.n_minus_1 or s.site.reserve.motor_start_kw)


def _plenty_kw(s: Structure) -> float:
    site = s.site
    parts = (
        sum(g.p_rated_kw for g in site.gensets),
        sum(b.pcs.s_kva for b in site.bess),
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

        if "genset" in policy.n_minus_1:
            rated = [g.p_rated_kw for g in machines(s)]
            runs = _any_on(m, s)
            m.rows("loss_of_genset", (N, T), lambda n, t: headroom(t) >= rated[n] * runs(n, t))
        if "bess" in policy.n_minus_1:
            m.rows("loss_of_bess", (B, T), lambda b, t: headroom(t) >= m["reserve_kw"][b, t] + net(m, b, t))
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


def _any_on(m: Model, s: Structure) -> Callable[[int, int], Expr]:
    """Whether any machine of a fleet is on, by fleet and step; any_on (K, T) for fleets of more than one."""
    size, on = sizes(s), m["on"]
    many = [n for n, k in enumerate(size) if k > 1]
    if not many:
        return lambda n, t: on[n, t]
    runs = m.var("any_on", len(many), s.steps)
    m.rows(
        "runs_of_fleet",
        (len(many), s.steps),
        lambda k, t: on[many[k], t] <= float(size[many[k]]) * runs[k, t],
    )
    return lambda n, t: runs[many.index(n), t] if n in many else on[n, t]


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """In which steps the rows hold, and prices."""
    if not asked(s):
        return
    island, policy = p.islanded, s.site.reserve
    n.par("contingency_freed_kw", np.where(island, 0.0, _plenty_kw(s)))
    if _up(s):
        n.bound("n1_short_kw", 0.0, np.inf)
        n.price("contingency_short", "n1_short_kw", ladder(s.site).reserve_per_kwh * s.step_h)
    if "any_on" in n.shapes:
        n.bound("any_on", 0.0, 1.0)
        n.whole("any_on", p.integral & island)
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


@dataclass(frozen=True, slots=True)
class Cover:
    """One contingency over the window: what its loss takes away and what the rest can give, (T,) [kW]."""

    name: str
    lost_kw: FloatArray
    cover_kw: FloatArray

    @property
    def short_kw(self) -> FloatArray:
        """(T,) what is missing [kW]."""
        out: FloatArray = np.maximum(0.0, self.lost_kw - self.cover_kw)
        return out


def covers(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray], up_kw: FloatArray) -> list[Cover]:
    """Each contingency the site asks for, in islanded steps, from a solution.

    Parameters
    ----------
    v : solution by variable name.
    up_kw : (T,) upward headroom of all gensets on load [kW].
    """
    if not asked(s) or not _up(s):
        return []
    policy, island = s.site.reserve, p.islanded
    held = v["reserve_kw"] if s.site.bess else np.zeros((0, s.steps))
    total = up_kw + held.sum(axis=0)
    out = []
    if "genset" in policy.n_minus_1:
        for g, unit in enumerate(s.site.gensets):
            power = v["on"][g] * unit.p_min_kw + v["above_kw"][g].sum(axis=0)
            own = unit.p_rated_kw * v["on"][g] - power
            out.append(Cover(f"loss of {unit.id}", power * island, total - own))
    if "bess" in policy.n_minus_1:
        for b, bess in enumerate(s.site.bess):
            power = v["discharge_kw"][b].sum(axis=0) - v["charge_kw"][b].sum(axis=0)
            out.append(Cover(f"loss of {bess.id}", power * island, total - held[b]))
    if policy.motor_start_kw:
        out.append(Cover("largest motor start", policy.motor_start_kw * island.astype(float), total))
    return out


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """One sentence for each contingency the site wants covered: covered throughout, or short by how much."""
    if not p.islanded.any():
        return
    if "n1_down_short_kw" in v:
        yield from missed_kw(p, "largest load trip not covered", v["n1_down_short_kw"])
    for c in covers(p, s, v, _headroom_kw(p, v)):
        short = c.short_kw
        if short.max() <= SHOWN_KW:
            yield f"{c.name}: covered in every islanded step"
            continue
        t = int(np.argmax(short))
        yield (
            f"{c.name}: short by up to {short[t]:.1f} kW at {p.grid.starts()[t]:%d %H:%M} UTC, "
            f"in {int((short > SHOWN_KW).sum())} of {int(p.islanded.sum())} islanded steps"
        )
    if "unformed" in v and (alone := v["unformed"] > 0.5).any():
        yield (
            f"loss of the forming battery: nobody else could form the bus in {int(alone.sum())} steps, "
            f"first at {p.grid.starts()[int(np.argmax(alone))]:%d %H:%M} UTC"
        )


def _headroom_kw(p: PlanningProblem, v: Mapping[str, FloatArray]) -> FloatArray:
    """(T,) upward headroom of all gensets on load [kW]."""
    if not p.site.gensets:
        return np.zeros(p.steps)
    above_min = np.array([g.p_rated_kw - g.p_min_kw for g in p.site.gensets])
    out: FloatArray = above_min @ v["on"] - v["above_kw"].sum(axis=(0, 1))
    return out
