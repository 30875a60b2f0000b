"""Reserves of a case, by product: who holds how much, beside the grid or without one.

With h_q,a,t what asset a holds of product q, x the output of a unit above its minimum, and Q+ and Q- the
products upwards and downwards:

    sum_a h_q,a (+ those of products that count) + short_q  >=  asked_q,t + b_q sum of renewables used
    sum over a other than g                     + short_q  >=  p_g,t                 `largest`, every unit g
    h_q,a <= most_q,a u_a,t,      h_q,a <= most_q,a (1 - u_a,t)                      on line, and off line
    unit      x + sum_Q+ h <= (P - P_min) u - (P - SU) v_t - (P - SD) w_(t+1)        as in ramps.py
              x - sum_Q- h >= 0
              x_t + sum_Q+ h - x_(t-1) <= RU (u - v) + (SU - P_min) v                beside the ramp
              x_(t-1) - x_t + sum_Q- h <= RD (u - v) + (SD - P_min) w
    storage   net + sum_Q+ h <= P_d,   sum_Q+ T_q h / eta_d <= e_t - E_min;   downwards alike
    renewable used + h <= available;   grid  import - export + h <= cap;   load  unserved + h <= load

An asset that holds two products holds them side by side. What is missing has a price, or may not be missing.

Sources: Carrion and Arroyo, IEEE Trans. Power Systems 21(3), 2006, 10.1109/TPWRS.2006.876672 (what a unit
can reach); Knueven, Ostrowski and Watson, INFORMS J. Computing 32(4), 2020, 10.1287/ijoc.2019.0944 (reserve
beside the ramp); Morales-Espana, Latorre and Ramos, 10.1109/TPWRS.2012.2222938 (on line and off line).
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ems.timegrid import FloatArray
from optimizer.algebra import Expr, Model
from optimizer.case_terms import Kind, Product, Share
from optimizer.fleets import machines
from optimizer.formulations.assets import above, battery_index, net_power, power, unit_index
from optimizer.formulations.ramps import apart_h, edged, ramping
from optimizer.formulations.windows import window
from optimizer.misses import missed_kw
from optimizer.numbers import Numbers
from optimizer.problem import PlanningProblem
from optimizer.structure import Structure
from plant_models.battery import marginal_stored

Asset = tuple[Kind, str]


def shares(s: Structure) -> list[tuple[Product, Share]]:
    """Rows of product_kw."""
    return [(q, x) for q in s.formulation.terms.products for x in q.shares]


def add(m: Model, s: Structure) -> None:
    """product_kw by share (K, T), product_short_kw (Q, T)."""
    products, T = s.formulation.terms.products, s.steps
    if not products:
        return
    rows = shares(s)
    held, short = m.var("product_kw", len(rows), T), m.var("product_short_kw", len(products), T)
    of = {q.id: [k for k, (own, _) in enumerate(rows) if own.id in (q.id, *q.counts)] for q in products}

    def need(q: int, t: int) -> Expr:
        x = products[q]
        sun = sum(m["pv_kw"][i, t] for i in range(len(s.site.pv))) if x.renewable_ratio else 0.0
        return sum(held[k, t] for k in of[x.id]) + short[q, t] - x.renewable_ratio * sun >= x.asked_kw[t]

    m.rows("product", (len(products), T), need)
    lost = [(q, n) for q, x in enumerate(products) if x.largest for n in range(len(machines(s)))]

    def largest(i: int, t: int) -> Expr:
        q, n = lost[i]
        unit = machines(s)[n].id
        others = [k for k in of[products[q].id] if rows[k][1].id != unit]
        return sum(held[k, t] for k in others) + short[q, t] >= power(m, s, Kind.UNIT, unit, t)

    if lost:
        m.rows("product_largest", (len(lost), T), largest)
    _add_commitment(m, s)
    for down in (False, True):
        found = sorted({(x.kind, x.id) for q, x in rows if q.down is down and not x.offline})
        for asset in found:
            _add_room(m, s, asset, down)
            if asset[0] is Kind.UNIT:
                _add_ramp(m, s, asset[1], down)


def _add_commitment(m: Model, s: Structure) -> None:
    """A unit holds reserve while it is on, or while it is off."""
    held = m["product_kw"]
    units = [(k, x, unit_index(s, x.id)) for k, (_, x) in enumerate(shares(s)) if x.kind is Kind.UNIT]

    def row(i: int, t: int) -> Expr:
        k, x, n = units[i]
        most, on = min(x.most_kw[t], machines(s)[n].p_rated_kw), m["on"][n, t]
        return held[k, t] <= most * ((1 - on) if x.offline else on)

    if units:
        m.rows("product_while_on", (len(units), s.steps), row)


def _held(m: Model, s: Structure, asset: Asset, down: bool, t: int, ramp: bool = False) -> Expr:
    """All that an asset holds one way; `ramp`: of products that keep the ramp."""
    found = s.once(_by_asset).get((*asset, down), ())
    return sum(m["product_kw"][k, t] for k, beside in found if beside or not ramp)


def _by_asset(s: Structure) -> dict[tuple[Kind, str, bool], list[tuple[int, bool]]]:
    """Rows of what each asset holds on line, each way, and whether it keeps the ramp."""
    out: dict[tuple[Kind, str, bool], list[tuple[int, bool]]] = {}
    for k, (q, x) in enumerate(shares(s)):
        if not x.offline:
            out.setdefault((x.kind, x.id, q.down), []).append((k, q.beside_ramp))
    return out


def _add_room(m: Model, s: Structure, asset: Asset, down: bool) -> None:
    """What is held has room beside what is given."""
    kind, name = asset
    what, T = f"product_{'down' if down else 'up'}_{kind}_{name}", s.steps
    if kind is Kind.UNIT:
        _add_unit_room(m, s, what, name, down)
        return
    room = next(x.room_kw for q, x in shares(s) if (x.kind, x.id) == asset and q.down is down)
    sign = -1.0 if down else 1.0
    m.rows(
        what,
        (T,),
        lambda t: sign * net_power(m, s, kind, name, t) + _held(m, s, asset, down, t) <= room[t],
    )
    if kind is Kind.STORAGE:
        b = battery_index(s, name)
        x = s.site.bess[b].battery
        e_min, e_max = x.soc_min * x.energy_kwh, x.soc_max * x.energy_kwh
        behind = [
            (k, q.hold_h * marginal_stored(x)[0 if down else 1])
            for k, (q, own) in enumerate(shares(s))
            if (own.kind, own.id) == asset and q.down is down
        ]
        stored = m["stored_kwh"]
        m.rows(
            f"{what}_energy",
            (T,),
            lambda t: (
                sum(h * m["product_kw"][k, t] for k, h in behind)
                <= (e_max - stored[b, t] if down else stored[b, t] - e_min)
            ),
        )


def _add_unit_room(m: Model, s: Structure, what: str, name: str, down: bool) -> None:
    n, T = unit_index(s, name), s.steps
    unit, on, start, stop = machines(s)[n], m["on"], m["start"], m["stop"]
    asset = (Kind.UNIT, name)
    if down:
        m.rows(what, (T,), lambda t: above(m, n, t) - _held(m, s, asset, True, t) >= 0)
        return
    first, last = unit.p_rated_kw - unit.start_up_or_rated_kw, unit.p_rated_kw - unit.shut_down_or_rated_kw

    def row(way: int, t: int) -> Expr:
        begin, end = first, last
        if len(window(s, min(t + 1, T - 1), unit.min_up_s)) < 2:  # a run may be one step long
            begin, end = (first, max(0.0, last - first)) if way == 0 else (max(0.0, first - last), last)
        ending = end * stop[n, t + 1] if t + 1 < T else 0.0
        span = (unit.p_rated_kw - unit.p_min_kw) * on[n, t]
        return above(m, n, t) + _held(m, s, asset, False, t) <= span - begin * start[n, t] - ending

    m.rows(what, (2 if n in edged(s) else 1, T), row)
    for x in s.formulation.terms.ranges:
        if x.kind is Kind.UNIT and x.id == name and x.high_kw:
            m.rows(
                f"{what}_range",
                (T,),
                lambda t, high=x.high_kw: (
                    power(m, s, Kind.UNIT, name, t) + _held(m, s, asset, False, t) <= high[t] * on[n, t]
                ),
            )


def _add_ramp(m: Model, s: Structure, name: str, down: bool) -> None:
    """What is held is reached from the output before within the ramp."""
    n, T, asset = unit_index(s, name), s.steps, (Kind.UNIT, name)
    found = sorted({*ramping(s), *edged(s)})
    beside = any(q.beside_ramp and q.down is down for q, x in shares(s) if x.id == name and not x.offline)
    if n not in found or not beside:
        return
    unit, on, start, stop = machines(s)[n], m["on"], m["start"], m["stop"]
    hours, before = apart_h(s.step_h), m["above_before_kw"][found.index(n)]

    def row(t: int) -> Expr:
        last = above(m, n, t - 1) if t else before
        held, running = _held(m, s, asset, down, t, ramp=True), on[n, t] - start[n, t]
        if down:
            most = unit.ramp_down_or_up_kw_s * 3600.0 * float(hours[t])
            edge = (unit.shut_down_or_rated_kw - unit.p_min_kw) * stop[n, t]
            return last - above(m, n, t) + held <= most * running + edge
        most = unit.ramp_kw_s * 3600.0 * float(hours[t])
        edge = (unit.start_up_or_rated_kw - unit.p_min_kw) * start[n, t]
        return above(m, n, t) + held - last <= most * running + edge

    m.rows(f"product_ramp_{'down' if down else 'up'}_{name}", (T,), row)


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """What each may hold at most; what holding and missing it costs."""
    products, rows = s.formulation.terms.products, shares(s)
    if not products:
        return
    most = np.array([x.most_kw for _, x in rows]).reshape(-1, s.steps)
    gone = np.array([_gone(p, s, x) for _, x in rows]).reshape(-1, s.steps)
    n.bound("product_kw", 0.0, np.where(gone, 0.0, most))
    offers = np.array([x.per_kwh for _, x in rows]).reshape(-1, 1)
    n.price("reserve_offers", "product_kw", offers * s.step_h)
    soft = np.array([x.short_per_kwh is not None and not s.formulation.terms.hard for x in products])
    rates = [0.0 if x.short_per_kwh is None else x.short_per_kwh for x in products]
    n.bound("product_short_kw", 0.0, np.where(soft, np.inf, 0.0)[:, None])
    n.price("reserve_short", "product_short_kw", np.array(rates)[:, None] * s.step_h)


def _gone(p: PlanningProblem, s: Structure, x: Share) -> list[bool]:
    """Steps in which a unit that is off is not there to be started."""
    if not x.offline:
        return [False] * s.steps
    start = next(g for g, u in zip(p.gensets, p.site.gensets, strict=True) if u.id == x.id)
    return list(start.blocked) if start.blocked else [False] * s.steps


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Reserve that is missing."""
    for q, x in enumerate(s.formulation.terms.products):
        yield from missed_kw(p, f"reserve {x.id} short", v["product_short_kw"][q])
