"""The interconnection's transformer and its ramp limit, each only where the site names it.

Transformer, with P_t = import - export and Q_t what is drawn from the grid:

    cos(a_k) P + sin(a_k) Q  <=  (S + over) cos(pi / n)       n = 16 sides, where reactive power is planned
    |P| - over                      <=  sqrt(S^2 - Q^2)       else, Q the load's own; S - Q where Q > S

Ramp, between the means of two grid-tied steps whose centres lie (D_(t-1) + D_t) / 2 apart, from what is
measured now for the first one (half a step away):

    |P_t - P_(t-1)| - over  <=  r (D_(t-1) + D_t) / 2

A power that never moves faster than r has means that differ by no more; rows that the caps cannot reach are
left out. An overload costs its price, else the rung of surplus: above it whatever has a breaker is shed. A
ramp has a rung of its own.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.formulations.power_factor import load_kvar
from optimizer.formulations.reactive import asked, flows_kvar, grid_kvar_max, reach_ratio, sides
from optimizer.misses import missed_kw
from optimizer.numbers import Numbers
from optimizer.prices import ladder
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure

SIDES = 16
PLENTY_RATIO = 10.0  # a row is freed by so much of both caps


def add(m: Model, s: Structure) -> None:
    """transformer_over_kva (T,), ramp_over_kw (R,) of the R steps whose ramp can bind."""
    if s.site.grid.transformer is not None:
        _add_transformer(m, s, s.site.grid.transformer.s_kva)
    if s.site.grid.ramp_kw_s is not None and ramping(s):
        _add_ramp(m, s)


def _power(m: Model, t: int) -> Expr:
    return m["import_kw"][t] - m["export_kw"][t]


def _add_transformer(m: Model, s: Structure, s_kva: float) -> None:
    over, T = m.var("transformer_over_kva", s.steps), s.steps
    if not asked(s):
        room = m.par("transformer_room_kw", T)
        m.rows("transformer_import", (T,), lambda t: _power(m, t) - over[t] <= room[t])
        m.rows("transformer_export", (T,), lambda t: -_power(m, t) - over[t] <= room[t])
        return
    q, reach = m["grid_kvar"], reach_ratio(SIDES)
    edges = [e for e in sides(SIDES) if _reached(s, e, s_kva)]
    m.rows(
        "transformer",
        (len(edges), T),
        lambda k, t: (
            edges[k][0] * _power(m, t) + edges[k][1] * (q[0, t] - q[1, t]) - reach * over[t] <= reach * s_kva
        ),
    )


def _reached(s: Structure, edge: tuple[float, float], s_kva: float) -> bool:
    """Whether the caps let any power come near a side of the polygon."""
    c, sn = edge
    active = s.site.grid.p_import_kw_max if c > 0.0 else s.site.grid.p_export_kw_max
    return abs(c) * active + abs(sn) * grid_kvar_max(s) > reach_ratio(SIDES) * s_kva


def distance_s(s: Structure) -> FloatArray:
    """(T,) from the centre of the step before to that of each step, from now for the first [s]."""
    half = 1800.0 * s.step_h
    out: FloatArray = half + np.concatenate([[0.0], half[:-1]])
    return out


def ramping(s: Structure) -> list[int]:
    """Steps whose ramp limit the caps do not keep anyway."""
    if s.site.grid.ramp_kw_s is None:
        return []
    span_kw = s.site.grid.p_import_kw_max + s.site.grid.p_export_kw_max
    return [int(t) for t in np.flatnonzero(s.site.grid.ramp_kw_s * distance_s(s) < span_kw)]


def _add_ramp(m: Model, s: Structure) -> None:
    at = ramping(s)
    over = m.var("ramp_over_kw", len(at))
    up, down = m.par("ramp_up_kw", len(at)), m.par("ramp_down_kw", len(at))

    def moved(k: int) -> Expr:
        return _power(m, at[k]) - (_power(m, at[k] - 1) if at[k] else 0.0)

    m.rows("ramp_up", (len(at),), lambda k: moved(k) - over[k] <= up[k])
    m.rows("ramp_down", (len(at),), lambda k: -moved(k) - over[k] <= down[k])


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Room, where ramps count, prices."""
    poi = s.site.grid
    if poi.transformer is not None:
        price = poi.transformer.overload_per_kvah
        rung = ladder(s.site).surplus_per_kwh if price is None else price
        n.bound("transformer_over_kva", 0.0, np.inf)
        n.price("transformer", "transformer_over_kva", rung * s.step_h)
        if not asked(s):
            kvar, s_kva = load_kvar(p, s), poi.transformer.s_kva
            beside = np.sqrt(np.maximum(0.0, s_kva**2 - kvar**2))
            n.par("transformer_room_kw", np.where(kvar <= s_kva, beside, s_kva - kvar))
    if poi.ramp_kw_s is None or not (at := ramping(s)):
        return
    allowed = poi.ramp_kw_s * distance_s(s)[at]
    start = np.zeros(len(at))
    tied = p.grid_available & np.concatenate([[p.grid_p_kw is not None], p.grid_available[:-1]])
    if at[0] == 0 and p.grid_p_kw is not None:
        start[0] = p.grid_p_kw
    plenty = PLENTY_RATIO * (poi.p_import_kw_max + poi.p_export_kw_max)
    n.par("ramp_up_kw", np.where(tied[at], allowed + start, plenty))
    n.par("ramp_down_kw", np.where(tied[at], allowed - start, plenty))
    n.bound("ramp_over_kw", 0.0, np.inf)
    n.price("ramp", "ramp_over_kw", ladder(s.site).ramp_per_kw)


def missed(s: Structure, v: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """(T,) what a solution has priced as missed, by limit and unit."""
    out = {}
    if "transformer_over_kva" in v:
        out["transformer_kva"] = v["transformer_over_kva"]
    if "ramp_over_kw" in v:
        out["ramp_kw"] = np.zeros(s.steps)
        out["ramp_kw"][ramping(s)] = v["ramp_over_kw"]
    return out


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """An overloaded transformer, a ramp over its limit."""
    found = missed(s, v)
    if "transformer_kva" in found and p.site.grid.transformer is not None:
        kvar = flows_kvar(s, v)["grid"] if asked(s) else load_kvar(p, s)
        over = np.hypot(v["import_kw"] - v["export_kw"], kvar) - p.site.grid.transformer.s_kva
        if math.isfinite(over.max()) and over.max() > 0.05:
            t = int(np.argmax(over))
            yield (
                f"transformer of the interconnection overloaded: by up to {over[t]:.1f} kVA at "
                f"{p.grid.starts()[t]:%d %H:%M} UTC, in {int((over > 0.05).sum())} steps"
            )
    if "ramp_kw" in found:
        yield from missed_kw(p, "ramp at the interconnection over its limit", found["ramp_kw"])
