"""Powers on the bus over one piece of time: the grid balances while tied, the forming source in an island.

Nothing is clipped in silence. What an island's forming source cannot carry is taken by the running gensets
(their governors see the frequency); what they cannot take rides on the source's short-time overload; beyond
that, too much load kills the bus, and too much PV first makes every inverter trip on over-frequency.
"""

from ems.assets import GensetParams, Sharing
from ems.points import BessState, GensetState
from plant_models import battery, genset, pcs, pv
from plant_models.bus import FINE_S, Work, bess_bounds_kw
from plant_models.genset import OVERLOAD_S, GensetUnit
from plant_models.grid import poi_voltage_pu
from plant_models.state import Violation, ViolationKind

_EPS = 1e-9
_RUNNING = GensetState.RUNNING


class Powers:
    """Means over the piece, by asset id; `gen_end` is the gensets' power at its end."""

    __slots__ = (
        "aux", "bess", "bess_q", "gen", "gen_end", "gen_q", "grid_p", "grid_q", "load",
        "overload_s", "pv", "pv_q", "q_load", "v_pu", "violations",
    )  # fmt: skip

    def __init__(self, w: Work) -> None:
        self.load = dict.fromkeys(w.feeders, 0.0)
        self.pv = dict.fromkeys(w.pv, 0.0)
        self.pv_q = dict.fromkeys(w.pv, 0.0)
        self.bess = dict.fromkeys(w.bess, 0.0)
        self.bess_q = dict.fromkeys(w.bess, 0.0)
        self.aux = dict.fromkeys(w.bess, 0.0)
        self.gen = dict.fromkeys(w.gensets, 0.0)
        self.gen_end = self.gen
        self.gen_q = dict.fromkeys(w.gensets, 0.0)
        self.overload_s = 0.0
        self.grid_p = self.grid_q = self.q_load = 0.0
        self.v_pu = w.inputs.mains_v_pu if w.inputs.mains_present else 0.0
        self.violations: list[Violation] = []


def solve(w: Work, h: float) -> Powers | None:
    """Powers over the next `h` seconds with the present switching; None when they have no solution.

    None while tied: the POI voltage is out of its band; in an island: the forming source cannot carry it.
    """
    pw = Powers(w)
    if w.forming is None or w.dip_s > 0.0:
        pw.gen_end = {i: g.p_kw for i, g in w.gensets.items()}
        return pw
    net = _loads(w, pw) - _pv(w, pw) - _following(w, pw, h)
    if w.closed:
        return _tied(w, pw, net, h)
    if w.forming in w.bess:
        return _formed_by_bess(w, pw, net, h)
    return _formed_by_genset(w, pw, net, h)


def _loads(w: Work, pw: Powers) -> float:
    """Served demand and the auxiliaries of the batteries [kW]."""
    demand, tan_phi = w.inputs.demand_kw, w.t.tan_phi_ratio
    p = q = 0.0
    for i, f in w.feeders.items():
        if f.closed:
            d = demand[i]
            pw.load[i] = d
            p += d
            q += d * tan_phi[i]
    for i, b in w.t.bess.items():
        aux = b.battery.aux_kw
        pw.aux[i] = aux
        p += aux
    pw.q_load = q
    return p


def _pv(w: Work, pw: Powers) -> float:
    limit = w.inputs.pv_limit_kw
    total = 0.0
    for i, u in w.pv.items():
        if u.producing:
            p = w.inputs.pv_potential_kw[i]
            cap = limit.get(i)
            if cap is not None and p > cap:
                p = cap if cap > 0.0 else 0.0
            params = w.t.pv[i]
            if params.capability is not None:
                p = min(p, max(kw for kw, _ in params.capability.corners))
            pw.pv[i] = p
            total += p
            q = w.inputs.q_set_kvar.get(i, 0.0)
            if params.capability is not None or (q and params.s_kva is not None):
                least, most = pcs.q_range_kvar(params, p)
                pw.pv_q[i] = q = max(least, min(most, q))
                pw.q_load -= q
    return total


def _following(w: Work, pw: Powers, h: float) -> float:
    """Batteries that follow a setpoint, inside their live limits and what their converter can."""
    total = 0.0
    for i, b in w.bess.items():
        if b.mode is BessState.FOLLOWING:
            params = w.t.bess[i]
            low, high = bess_bounds_kw(w, i, h)
            least, most = pcs.p_span_kw(params.pcs)
            p = w.inputs.bess_p_set_kw.get(i, 0.0)
            p = max(low, least, min(high, most, p))
            pw.bess[i] = p
            total += p
            q = w.inputs.q_set_kvar.get(i, 0.0)
            if q or params.pcs.capability is not None:
                least, most = pcs.q_range_kvar(params.pcs, p)
                pw.bess_q[i] = q = max(least, min(most, q))
                pw.q_load -= q
    return total


def _base_load(w: Work, pw: Powers, h: float, leaders: tuple[str, ...] = ()) -> float:
    """Running gensets that hold their setpoint, ramping; `leaders` are left out [kW]."""
    total = 0.0
    pw.gen_end = {}
    for i, g in w.gensets.items():
        if g.phase is not _RUNNING or i in leaders:
            pw.gen_end[i] = 0.0
            continue
        params = w.t.gensets[i]
        target = genset.base_load_kw(params, g, w.inputs.genset_p_set_kw.get(i, 0.0))
        mean, pw.gen_end[i] = genset.ramp(g.p_kw, target, params.ramp_kw_s, h)
        pw.gen[i] = mean
        total += mean
    return total


def _tied(w: Work, pw: Powers, net: float, h: float) -> Powers | None:
    pw.grid_p = net - _base_load(w, pw, h)
    pw.grid_q = pw.q_load
    t = w.t
    v = poi_voltage_pu(t.r_pu, t.x_pu, w.inputs.mains_v_pu, pw.grid_p, pw.grid_q)
    grid = t.site.grid
    if not grid.v_min_pu <= v <= grid.v_max_pu:
        if w.usable:  # it is our own P and Q that push
            edge = grid.v_min_pu if v < grid.v_min_pu else grid.v_max_pu
            w.violations.append(Violation(ViolationKind.POI_VOLTAGE, grid.id, v - edge, "pu"))
        if w.inputs.poi_relay or v <= 0.0:
            return None
    pw.v_pu = v
    return pw


# --- island formed by a battery ---------------------------------------------------------------------------


def _formed_by_bess(w: Work, pw: Powers, net: float, h: float) -> Powers | None:
    i = w.forming or ""
    params = w.t.bess[i]
    p = net - _base_load(w, pw, h)
    q = _share_q(w, pw, i)
    low, high = bess_bounds_kw(w, i, h)
    least, most = pcs.p_range_kw(params.pcs, q)
    low, high = max(low, least), min(high, most)
    if p > high:
        p -= _raise_gensets(w, pw, p - high, h)
    elif p < low:
        p += _lower_gensets(w, pw, low - p)
    pw.bess[i] = p
    if low - _EPS <= p <= high + _EPS and pcs.holds(params.pcs, p, q, _EPS):
        return pw
    if _rides_through(w, pw, p, q, h):
        return pw
    if p < low and h <= FINE_S and _trip_pv(w, pw):
        return solve(w, h)
    return None


def _rides_through(w: Work, pw: Powers, p_kw: float, q_kvar: float, h: float) -> bool:
    """Short-time overload of the forming converter: within its ratio and time, and with energy to give."""
    i = w.forming or ""
    params, unit = w.t.bess[i], w.bess[i]
    charge, discharge = battery.taper_limits_kw(params.battery, unit.stored_kwh / params.battery.energy_kwh)
    derating = w.inputs.faults.bess_limit_ratio.get(i, 1.0)
    charge, discharge = derating * charge, derating * discharge
    room, avail = battery.window_limits_kw(params.battery, unit.stored_kwh, h)
    ratio = params.pcs.overload_ratio
    overload_s = unit.overload_s + h
    if not -room <= p_kw <= avail or overload_s > params.pcs.overload_s + _EPS:
        return False
    beyond = pcs.over_kva(params.pcs, p_kw, q_kvar, ratio) > 0.0
    if beyond or not -ratio * charge <= p_kw <= ratio * discharge:
        return False
    pw.overload_s = overload_s
    over = max(pcs.over_kva(params.pcs, p_kw, q_kvar), p_kw - discharge, -p_kw - charge)
    pw.violations.append(Violation(ViolationKind.PCS_OVER_RATING, i, over, "kVA"))
    return True


def _trip_pv(w: Work, pw: Powers) -> bool:
    """Over-frequency: every inverter trips at once. False when there was none to trip."""
    lost = 0.0
    for i, u in w.pv.items():
        if u.producing and pw.pv[i] > 0.0:
            lost += pw.pv[i]
            w.violations.append(Violation(ViolationKind.PV_OVER_FREQUENCY, i, pw.pv[i], "kW"))
            w.pv[i] = pv.TRIPPED
    return lost > 0.0


def _share_q(w: Work, pw: Powers, forming: str) -> float:
    """Reactive load is shared by apparent rating among the forming battery and the running gensets [kvar]."""
    total = w.t.bess[forming].pcs.s_kva if forming in w.bess else 0.0
    total += sum(w.t.gensets[i].s_kva for i, g in w.gensets.items() if g.phase is _RUNNING)
    per_kva = pw.q_load / total
    for i, g in w.gensets.items():
        if g.phase is _RUNNING:
            pw.gen_q[i] = per_kva * w.t.gensets[i].s_kva
    if forming not in w.bess:
        return 0.0
    pw.bess_q[forming] = per_kva * w.t.bess[forming].pcs.s_kva
    return pw.bess_q[forming]


# --- gensets ----------------------------------------------------------------------------------------------


def _raise_gensets(w: Work, pw: Powers, need_kw: float, h: float, leaders: tuple[str, ...] = ()) -> float:
    """Let gensets above their base load, up to rating and their step of load; how much they took [kW]."""
    head: dict[str, float] = {}
    for i, g in w.gensets.items():
        if g.phase is _RUNNING and i not in leaders:
            params = w.t.gensets[i]
            top = min(params.p_rated_kw, g.p_kw + _step_kw(params, h))
            head[i] = max(0.0, top - pw.gen[i])
    total = sum(head.values())
    share = min(1.0, need_kw / total) if total > 0.0 else 0.0
    for i, room in head.items():
        pw.gen[i] += share * room
        pw.gen_end[i] = pw.gen[i] if share * room > 0.0 else pw.gen_end[i]
    return share * total


def _lower_gensets(w: Work, pw: Powers, need_kw: float) -> float:
    """Unload gensets down to nothing (a governor is quick at that); how much they gave up [kW]."""
    total = sum(pw.gen.values())
    share = min(1.0, need_kw / total) if total > 0.0 else 0.0
    if share > 0.0:
        for i in pw.gen:
            pw.gen[i] -= share * pw.gen[i]
            pw.gen_end[i] = pw.gen[i]
    return share * total


def _step_kw(params: GensetParams, h: float) -> float:
    """Largest rise of load within `h` that the set survives [kW]."""
    return params.step_load_kw_max + params.ramp_kw_s * h


def _leads(params: GensetParams, g: GensetUnit) -> bool:
    return g.phase is _RUNNING and params.sharing is Sharing.PROPORTIONAL and not (g.loading or g.unloading)


def _formed_by_genset(w: Work, pw: Powers, net: float, h: float) -> Powers | None:
    """The forming set and those that share load carry the rest in proportion to their ratings."""
    first = w.forming or ""
    rest = (i for i, g in w.gensets.items() if i != first and _leads(w.t.gensets[i], g))
    leaders = (first, *rest)
    rated = sum(w.t.gensets[i].p_rated_kw for i in leaders)
    p = net - _base_load(w, pw, h, leaders)
    _share_q(w, pw, first)
    if p > rated:
        p -= _raise_gensets(w, pw, p - rated, h, leaders)
    elif p < 0.0:
        p += _lower_gensets(w, pw, -p)
    if p < -_EPS and h > FINE_S:
        return None  # looked at second by second
    if p < -_driven_kw(w, leaders) - _EPS:
        return solve(w, h) if h <= FINE_S and _trip_pv(w, pw) else None
    for i in leaders:
        params, unit = w.t.gensets[i], w.gensets[i]
        share = p * params.p_rated_kw / rated
        if not _carries(params, unit, share, h):
            return None
        pw.gen[i] = pw.gen_end[i] = share
    return pw


def _driven_kw(w: Work, leaders: tuple[str, ...]) -> float:
    """What the sets that form take when the bus drives them; nothing unless every relay is known [kW]."""
    takes = [genset.driven_kw(w.t.gensets[i]) for i in leaders]
    return sum(takes) if min(takes) > 0.0 else 0.0


def _carries(params: GensetParams, unit: GensetUnit, p_kw: float, h: float) -> bool:
    """Within the set's overload ratio and time, and no larger step than it survives."""
    if p_kw > params.overload_ratio * params.p_rated_kw or p_kw - unit.p_kw > _step_kw(params, h):
        return False
    return p_kw <= params.p_rated_kw or unit.overload_s + h <= OVERLOAD_S + _EPS
