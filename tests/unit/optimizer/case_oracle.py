"""A second program for cases: the same answers from other rows, for everything that only a case may ask for.

Kinds of start by pairs of a stop and the start that follows it, costs by one binary for each piece, total
outputs instead of what is above the minimum. It knows nothing of formulations/.
"""

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from optimizer import Case, EnergyLimit, Reserve, Storage, Unit
from optimizer.case_costs import CostPoints

Row = dict[int, float]


class Program:
    """Columns one by one, rows as dictionaries."""

    def __init__(self) -> None:
        self.low: list[float] = []
        self.high: list[float] = []
        self.cost: list[float] = []
        self.whole: list[int] = []
        self.rows: list[tuple[Row, float, float]] = []
        self.fixed = 0.0

    def var(self, high: float = np.inf, cost: float = 0.0, whole: int = 0, low: float = 0.0) -> int:
        self.low.append(low)
        self.high.append(high)
        self.cost.append(cost)
        self.whole.append(whole)
        return len(self.low) - 1

    def at_most(self, terms: Row, high: float) -> None:
        self.rows.append((terms, -np.inf, high))

    def at_least(self, terms: Row, low: float) -> None:
        self.rows.append((terms, low, np.inf))

    def equal(self, terms: Row, value: float) -> None:
        self.rows.append((terms, value, value))

    def least(self) -> float | None:
        """The optimum; None where there is none."""
        matrix = np.zeros((len(self.rows), len(self.low)))
        for i, (terms, _, _) in enumerate(self.rows):
            for j, x in terms.items():
                matrix[i, j] += x
        found = milp(
            self.cost,
            constraints=LinearConstraint(matrix, [r[1] for r in self.rows], [r[2] for r in self.rows]),
            bounds=Bounds(self.low, self.high),
            integrality=self.whole,
            options={"mip_rel_gap": 0.0},
        )
        if found.status == 2:
            return None
        assert found.success, found.message
        return float(found.fun) + self.fixed


def plus(*parts: tuple[float, Row]) -> Row:
    """A weighted sum of rows."""
    out: Row = {}
    for k, terms in parts:
        for j, x in terms.items():
            out[j] = out.get(j, 0.0) + k * x
    return out


class Machine:
    """Columns of a unit: u, v, w, p by step, and its way up and down."""

    def __init__(self, o: Program, x: Unit, T: int, h: float) -> None:
        self.x, self.was = x, float(x.state_h > 0.0)
        self.u = [o.var(1.0, whole=1) for _ in range(T)]
        self.v, self.w = ([o.var(1.0, c, 1) for _ in range(T)] for c in (0.0, x.stop_cost))
        self.p = [o.var(x.p_max_kw) for _ in range(T)]
        self.left = np.zeros(T)
        extra, low, high = (
            np.broadcast_to(np.asarray(k, dtype=float), T)
            for k in (
                x.extra_per_kwh,
                x.p_min_kw if x.output_min_kw is None else x.output_min_kw,
                x.p_max_kw if x.output_max_kw is None else x.output_max_kw,
            )
        )
        self.high = high
        for t in range(T):
            o.cost[self.p[t]] += h * float(extra[t])
            before = {self.u[t - 1]: 1.0} if t else {}
            o.equal(
                plus((1.0, {self.u[t]: 1.0, self.v[t]: -1.0, self.w[t]: 1.0}), (-1.0, before)),
                0.0 if t else self.was,
            )
            o.at_most({self.v[t]: 1.0, self.w[t]: 1.0}, 1.0)
            o.at_least({self.p[t]: 1.0, self.u[t]: -float(low[t])}, 0.0)
            o.at_most({self.p[t]: 1.0, self.u[t]: -float(high[t])}, 0.0)
            for i in range(t):  # minimum times, pair by pair
                if (t - i) * h < x.min_up_h - 1e-9:
                    o.at_least({self.u[t]: 1.0, self.v[i]: -1.0}, 0.0)
                if (t - i) * h < x.min_down_h - 1e-9:
                    o.at_most({self.u[t]: 1.0, self.w[i]: 1.0}, 1.0)
            if x.state_h > 0.0 and t * h < x.min_up_h - x.state_h - 1e-9:
                o.at_least({self.u[t]: 1.0}, 1.0)
            if x.state_h < 0.0 and t * h < x.min_down_h + x.state_h - 1e-9:
                o.at_most({self.u[t]: 1.0}, 0.0)
        self._costs(o, T, h)
        self.path = self._starts(o, T, h)

    def _costs(self, o: Program, T: int, h: float) -> None:
        """Between two neighbouring points, which two by a binary each."""
        x = self.x
        if isinstance(x.cost, CostPoints):
            at = [x.p_min_kw, *(k for k in x.cost.kw if x.p_min_kw < k < x.p_max_kw), x.p_max_kw]
        else:
            at = list(x.cost.points(x.p_min_kw, x.p_max_kw)[0])
        if x.p_max_kw == x.p_min_kw:
            for t in range(T):
                o.cost[self.u[t]] += h * float(x.cost.true_per_h(np.array([x.p_max_kw]))[0])
            return
        per_h = x.cost.true_per_h(np.array(at))
        for t in range(T):
            share = [o.var(1.0, h * float(c)) for c in per_h]
            piece = [o.var(1.0, whole=1) for _ in at[1:]]
            o.equal(plus((1.0, dict.fromkeys(share, 1.0)), (-1.0, {self.u[t]: 1.0})), 0.0)
            o.equal(plus((1.0, dict.fromkeys(piece, 1.0)), (-1.0, {self.u[t]: 1.0})), 0.0)
            o.equal(plus((1.0, dict(zip(share, at, strict=True))), (-1.0, {self.p[t]: 1.0})), 0.0)
            for k, s in enumerate(share):
                beside = {piece[j]: -1.0 for j in (k - 1, k) if 0 <= j < len(piece)}
                o.at_most(plus((1.0, {s: 1.0}), (1.0, beside)), 0.0)

    def _starts(self, o: Program, T: int, h: float) -> list[Row]:
        """A column for each rest: a stop at i and the start at t after it. Its price, and its way up."""
        x = self.x
        path: list[Row] = [{} for _ in range(T)]
        busy: list[Row] = [{self.u[t]: 1.0} for t in range(T)]
        by_stop: list[Row] = [{} for _ in range(T)]
        before: Row = {}
        for t in range(T):
            into: Row = {}
            for i in [*range(t), None]:
                if i is None and x.state_h > 0.0:
                    continue
                rest = (t - i) * h if i is not None else -x.state_h + t * h
                kind = next(k for k, (end, _) in enumerate(x.kinds) if end is None or rest <= end + 1e-9)
                way = x.paths[kind]
                z = o.var(1.0 if t >= len(way) else 0.0, x.kinds[kind][1], whole=1)
                into[z] = 1.0
                (before if i is None else by_stop[i])[z] = 1.0
                for k in range(0 if i is None else i, t):
                    o.at_most({z: 1.0, self.u[k]: 1.0}, 1.0)
                for k, kw in enumerate(way):
                    if t >= len(way):
                        at = t - len(way) + k
                        path[at] = plus((1.0, path[at]), (kw, {z: 1.0}))
                        busy[at] = plus((1.0, busy[at]), (1.0, {z: 1.0}))
            o.equal(plus((1.0, into), (-1.0, {self.v[t]: 1.0})), 0.0)
        for i in range(T):
            o.at_most(plus((1.0, by_stop[i]), (-1.0, {self.w[i]: 1.0})), 0.0)
            for k, kw in enumerate(x.shut_down_path_kw):
                if i + k < T:
                    path[i + k] = plus((1.0, path[i + k]), (kw, {self.w[i]: 1.0}))
                    busy[i + k] = plus((1.0, busy[i + k]), (1.0, {self.w[i]: 1.0}))
        o.at_most(before, 1.0)
        if x.state_h < 0.0:
            gone = round(-x.state_h / h)
            rest_kw = x.shut_down_path_kw[gone:][:T]
            self.left[: len(rest_kw)] = rest_kw
        for t in range(T):
            o.at_most(
                busy[t], 1.0 - float(t < len(x.shut_down_path_kw) - round(-x.state_h / h)) * (x.state_h < 0.0)
            )
            for j, share_kw in path[t].items():
                o.cost[j] += h * x.path_per_kwh * share_kw
        o.fixed += h * x.path_per_kwh * float(self.left.sum())
        return path

    def limits(
        self, o: Program, T: int, h: float, up: list[Row], ramp_up: list[Row], down: list[Row]
    ) -> None:
        """Rating, edges and ramps, with what is held of reserves beside the output."""
        x = self.x
        su = x.p_max_kw if x.start_up_kw is None else x.start_up_kw
        sd = x.p_max_kw if x.shut_down_kw is None else x.shut_down_kw
        ru = np.inf if x.ramp_up_kw_h is None else x.ramp_up_kw_h * h
        rd = np.inf if x.ramp_down_kw_h is None else x.ramp_down_kw_h * h
        now_kw = (x.p_min_kw if x.output_kw is None else x.output_kw) if self.was else 0.0
        for t in range(T):
            u, v, p = ({c[t]: 1.0} for c in (self.u, self.v, self.p))
            stop_next = {self.w[t + 1]: 1.0} if t + 1 < T else {}
            both = plus((1.0, p), (1.0, up[t]))
            o.at_most(plus((1.0, both), (-float(self.high[t]), u)), 0.0)
            o.at_most(plus((1.0, both), (-x.p_max_kw, u), (x.p_max_kw - su, v)), 0.0)
            o.at_most(plus((1.0, both), (-x.p_max_kw, u), (x.p_max_kw - sd, stop_next)), 0.0)
            o.at_least(plus((1.0, p), (-x.p_min_kw, u), (-1.0, down[t])), 0.0)
            last, was_u = ({self.p[t - 1]: 1.0}, {self.u[t - 1]: 1.0}) if t else ({}, {})
            known, was = (0.0, 0.0) if t else (now_kw, self.was)
            if np.isfinite(ru):
                o.at_most(
                    plus((1.0, p), (1.0, ramp_up[t]), (-1.0, last), (-ru, was_u), (-su, v)), known + ru * was
                )
            if np.isfinite(rd):
                o.at_most(
                    plus((1.0, last), (-1.0, p), (1.0, down[t]), (-rd, u), (-sd, {self.w[t]: 1.0})), -known
                )
            elif t == 0:
                o.at_most({self.w[0]: now_kw - sd}, 0.0)


def best_cost(case: Case) -> float | None:
    """The optimum of a case of one load, any units, at most one storage and a grid; None: infeasible."""
    o, T = Program(), case.steps
    h = float(np.asarray(case.step_h))
    machines = [Machine(o, x, T, h) for x in case.units]
    (load,) = case.loads
    demand = np.broadcast_to(np.asarray(load.kw, dtype=float), T)
    bus: list[Row] = [{} for _ in range(T)]
    value = demand.copy()
    flows: dict[str, list[Row]] = {}
    for m in machines:
        flows[m.x.id] = [plus((1.0, {m.p[t]: 1.0}), (1.0, m.path[t])) for t in range(T)]
        value = value - m.left
    for r in case.renewables:
        kw, low, cost = (
            np.broadcast_to(np.asarray(k, dtype=float), T) for k in (r.kw, r.min_kw, r.cost_per_kwh)
        )
        bottom = kw if r.must_take else low
        flows[r.id] = [{o.var(float(kw[t]), h * float(cost[t]), low=float(bottom[t])): 1.0} for t in range(T)]
        for t in range(T):
            for j in flows[r.id][t]:
                o.cost[j] -= h * r.curtail_per_kwh
        o.fixed += h * r.curtail_per_kwh * float(kw.sum())
    if case.grid is not None:
        g = case.grid
        buy = np.broadcast_to(np.asarray(g.import_per_kwh, dtype=float), T)
        flows["grid"] = [
            {o.var(float(np.asarray(g.import_kw_max)), h * float(buy[t])): 1.0} for t in range(T)
        ]
    shed = [
        o.var(float(demand[t]) if load.interruptible or not case.hard else 0.0, h * load.voll_per_kwh)
        for t in range(T)
    ]
    store = Store(o, case.storages[0], T, h) if case.storages else None
    for t in range(T):
        bus[t] = plus(*((1.0, rows[t]) for rows in flows.values()), (1.0, {shed[t]: 1.0}))
        if store is not None:
            bus[t] = plus((1.0, bus[t]), (1.0, store.net[t]))
        o.equal(bus[t], float(value[t]))
    held = [Held(o, q, case, machines, demand, flows, T, h) for q in case.reserves]
    for q in held:
        q.need(o, case, held, machines, flows)
    empty: Row = {}
    for m in machines:
        own = {
            way: [
                plus(
                    *((1.0, q.online[m.x.id][t]) for q in held if m.x.id in q.online and way(q.q)),
                    (1.0, empty),
                )
                for t in range(T)
            ]
            for way in (_up, _up_ramped, _down)
        }
        m.limits(o, T, h, own[_up], own[_up_ramped], own[_down])
    if store is not None:
        store.room(o, held)
    for e in case.energy_limits:
        _sum(o, e, case, machines, flows, store, T, h)
    return o.least()


def _up(q: Reserve) -> bool:
    return not q.down


def _up_ramped(q: Reserve) -> bool:
    return not q.down and q.beside_ramp


def _down(q: Reserve) -> bool:
    return q.down


class Store:
    """Columns of a storage."""

    def __init__(self, o: Program, x: Storage, T: int, h: float) -> None:
        self.x = x
        top_c, top_d = float(np.asarray(x.p_charge_kw)), float(np.asarray(x.p_discharge_kw))
        self.e: list[int] = []
        self.net: list[Row] = []
        self.c: list[int] = []
        self.d: list[int] = []
        inflow = np.broadcast_to(np.asarray(x.inflow_kw, dtype=float), T)
        first = o.var(x.soc_max * x.energy_kwh) if x.cyclic else None
        for t in range(T):
            c, d, way = o.var(top_c), o.var(top_d), o.var(1.0, whole=1)
            o.at_most({c: 1.0, way: -top_c}, 0.0)
            o.at_most({d: 1.0, way: top_d}, top_d)
            low = max(x.soc_min, x.soc_end_min) if t == T - 1 else x.soc_min
            e = o.var(x.soc_max * x.energy_kwh, low=low * x.energy_kwh)
            before = self.e[-1] if self.e else first
            last = {} if before is None else {before: -1.0}
            spilt = {o.var(h * float(inflow[t])): 1.0}
            o.equal(
                plus(
                    (1.0, {e: 1.0, c: -h * x.eta_charge, d: h / x.eta_discharge}), (1.0, last), (1.0, spilt)
                ),
                h * float(inflow[t]) + (0.0 if before is not None else x.soc_start * x.energy_kwh),
            )
            self.e.append(e)
            self.c.append(c)
            self.d.append(d)
            self.net.append({d: 1.0, c: -1.0})
        if first is not None:
            o.equal({first: 1.0, self.e[-1]: -1.0}, 0.0)

    def room(self, o: Program, held: "list[Held]") -> None:
        x = self.x
        for t, net in enumerate(self.net):
            up = plus(
                *((1.0, q.online[x.id][t]) for q in held if x.id in q.online and not q.q.down), (1.0, {})
            )
            down = plus(*((1.0, q.online[x.id][t]) for q in held if x.id in q.online and q.q.down), (1.0, {}))
            o.at_most(plus((1.0, net), (1.0, up)), float(np.asarray(x.p_discharge_kw)))
            o.at_most(plus((-1.0, net), (1.0, down)), float(np.asarray(x.p_charge_kw)))
            behind = plus(
                *(
                    (q.q.hold_h / x.eta_discharge, q.online[x.id][t])
                    for q in held
                    if x.id in q.online and not q.q.down
                ),
                (-1.0, {self.e[t]: 1.0}),
            )
            o.at_most(behind, -x.soc_min * x.energy_kwh)
            ahead = plus(
                *(
                    (q.q.hold_h * x.eta_charge, q.online[x.id][t])
                    for q in held
                    if x.id in q.online and q.q.down
                ),
                (1.0, {self.e[t]: 1.0}),
            )
            o.at_most(ahead, x.soc_max * x.energy_kwh)


class Held:
    """Columns of a reserve."""

    def __init__(
        self, o: Program, q: Reserve, case: Case, machines: list[Machine], demand: np.ndarray,
        flows: dict[str, list[Row]], T: int, h: float,
    ) -> None:  # fmt: skip
        self.q, self.online, self.offline = q, dict[str, list[Row]](), dict[str, list[Row]]()
        named = {r.id: r for r in q.responders}
        ids = list(named) if named else [*(m.x.id for m in machines), *(s.id for s in case.storages)]
        by_id = {m.x.id: m for m in machines}
        asked = np.broadcast_to(np.asarray(q.kw, dtype=float), T) + q.load_ratio * demand
        self.asked = asked
        soft = np.inf if not case.hard else 0.0
        price = case.short_per_kwh if q.short_per_kwh is None else q.short_per_kwh
        self.short = [o.var(soft, h * price) for _ in range(T)]
        for i in ids:
            r = named.get(i)
            most = np.inf if r is None else float(np.asarray(r.kw_max))
            offer = 0.0 if r is None else h * r.per_kw_h
            self.online[i] = [{o.var(most, offer): 1.0} for _ in range(T)]
            if i in by_id:
                x = by_id[i].x
                rate = x.ramp_down_kw_h if q.down else x.ramp_up_kw_h
                if rate is not None and q.within_h is not None:
                    most = min(most, rate * q.within_h)
                most = min(most, x.p_max_kw)
                for t in range(T):
                    o.at_most(plus((1.0, self.online[i][t]), (-most, {by_id[i].u[t]: 1.0})), 0.0)
                if r is not None and r.offline_kw:
                    self.offline[i] = [{o.var(r.offline_kw, offer): 1.0} for _ in range(T)]
                    for t in range(T):
                        o.at_most(
                            plus((1.0, self.offline[i][t]), (r.offline_kw, {by_id[i].u[t]: 1.0})),
                            r.offline_kw,
                        )
            elif i in flows:  # a renewable
                (source,) = [s for s in case.renewables if s.id == i]
                kw, low = (np.broadcast_to(np.asarray(k, dtype=float), T) for k in (source.kw, source.min_kw))
                for t in range(T):
                    if q.down:
                        o.at_least(plus((1.0, flows[i][t]), (-1.0, self.online[i][t])), float(low[t]))
                    else:
                        o.at_most(plus((1.0, flows[i][t]), (1.0, self.online[i][t])), float(kw[t]))

    def total(self, t: int, without: str = "") -> Row:
        parts = [rows[t] for d in (self.online, self.offline) for i, rows in d.items() if i != without]
        return plus(*((1.0, x) for x in parts), (1.0, {}))

    def need(
        self, o: Program, case: Case, held: "list[Held]", machines: list[Machine], flows: dict[str, list[Row]]
    ) -> None:
        counting = [x for x in held if x is self or x.q.id in self.q.counts]
        for t, short in enumerate(self.short):
            sun = plus(*((self.q.renewable_ratio, flows[r.id][t]) for r in case.renewables), (1.0, {}))
            have = plus(*((1.0, x.total(t)) for x in counting), (1.0, {short: 1.0}), (-1.0, sun))
            o.at_least(have, float(self.asked[t]))
            for m in machines if self.q.largest else ():
                others = plus(*((1.0, x.total(t, m.x.id)) for x in counting), (1.0, {short: 1.0}))
                o.at_least(plus((1.0, others), (-1.0, {m.p[t]: 1.0})), 0.0)


def _sum(
    o: Program, e: EnergyLimit, case: Case, machines: list[Machine], flows: dict[str, list[Row]],
    store: Store | None, T: int, h: float,
) -> None:  # fmt: skip
    counts = np.broadcast_to(np.asarray(e.steps), T)
    total, known = Row(), 0.0
    by_id = {m.x.id: m for m in machines}
    for t in range(T):
        if not counts[t]:
            continue
        for i, k in e.of.items():
            if store is not None and i == f"{store.x.id}.charge":
                total = plus((1.0, total), (h * k, {store.c[t]: 1.0}))
            elif store is not None and i == store.x.id:
                total = plus((1.0, total), (h * k, {store.d[t]: 1.0}))
            else:
                total = plus((1.0, total), (h * k, flows[i][t]))
                known += h * k * float(by_id[i].left[t]) if i in by_id else 0.0
        for i, k in e.per_h.items():
            total = plus((1.0, total), (h * k, {by_id[i].u[t]: 1.0}))
        for i, k in e.per_start.items():
            total = plus((1.0, total), (k, {by_id[i].v[t]: 1.0}))
    if e.least is not None:
        short = o.var(0.0 if e.short_cost is None else np.inf, e.short_cost or 0.0)
        o.at_least(plus((1.0, total), (1.0, {short: 1.0})), e.least - known)
    if e.most is not None:
        over = o.var(0.0 if e.over_cost is None else np.inf, e.over_cost or 0.0)
        o.at_most(plus((1.0, total), (-1.0, {over: 1.0})), e.most - known)
