"""Battery: stored energy, losses by convex pieces, window, limits that fall near full and empty.

    e_t = (1 - fade_t) e_{t-1} + D_t share_t (sum_k s_k c_k,t - sum_k q_k d_k,t) - drain_t + idle_t
    sum_k c_k,t / P_c + sum_k d_k,t / P_d <= 1                                    (hull of "one or the other")
    e_t + below_t >= E_min - opened_t,     e_t - above_t <= E_max + opened_t
    sum d <= r P_d + slope_d (e_t - E_min) + over_t,  charge alike                  (tapers, concave cuts)
    sum d <= a_j + k_j e_t + over_t for each stretch j of a table over SoC, charge alike     (power_by_soc)
    0 <= e_t <= E

s_k falls and q_k rises with k, so the pieces fill in order and need no binaries as long as energy has a
positive value. Where it may not have (BINARY exclusivity) `charging` and `piece_full` are binaries; so is
`piece_full` at the edges of a loss curve at which s_k rises or q_k falls (it is bent, not convex there).
`fade` and `share` integrate self-discharge exactly over a step as plant_models.battery does; `drain` is the
no-load loss. The window is soft at a price above every value of lost load: standing losses can carry an empty
battery out of it, and a battery that starts outside has `opened` room to its start for two hours, in which
its power is the lowest of its taper. `over` is what a taper gives way by where standing losses alone would
ask for less than nothing, `idle` the no-load loss that an empty battery has not to give; it costs more than
staying below the window to the end, so that a battery idles only when it is empty.

Sources: hull and tapers in docs/model/battery.md; losses: plant_models.battery.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ems.assets import BatteryParams
from ems.timegrid import BoolArray, FloatArray
from optimizer.algebra import Expr, Model
from optimizer.formulation import Exclusivity
from optimizer.formulations import lakes
from optimizer.misses import missed_kw
from optimizer.numbers import Numbers
from optimizer.prices import ladder, usual_per_kwh
from optimizer.problem import PlanningProblem
from optimizer.segments import BatterySegments, PowerCut, battery_segments, power_cuts
from optimizer.structure import Structure
from plant_models.battery import table_ratios

OPENED_H = 2.0
IDLE_H = 100.0  # more hours of below are not counted against the loss an empty battery has not to give
OPENED_RATIO = 1e-3  # of the capacity; a window opened less far is as good as kept
NARROW = 1e-6


def segments(s: Structure) -> list[BatterySegments]:
    """Loss pieces of every battery."""
    form = s.formulation
    return [battery_segments(b.battery, form.battery_segments, form.battery_fit_ratio) for b in s.site.bess]


def pieces(s: Structure) -> int:
    """Most pieces any battery has."""
    return max(len(x.charge_width_kw) for x in segments(s))


def bent(s: Structure) -> BoolArray:
    """(2, B, K - 1, 1) edges between pieces, charge and discharge, whose order a loss curve does not keep."""
    each = segments(s)
    most = max((x.bent.shape[1] for x in each), default=0)
    out = np.zeros((2, len(each), most, 1), dtype=np.bool_)
    for b, x in enumerate(each):
        out[:, b, : x.bent.shape[1], 0] = x.bent
    return out


def decay(params: BatteryParams, step_h: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(T,) share of stored energy gone over a step, and share of what flows in that is left at its end."""
    rate = params.self_discharge_per_h * step_h
    fade = -np.expm1(-rate)
    return fade, np.where(rate > 0.0, fade / np.where(rate > 0.0, rate, 1.0), 1.0)


def add(m: Model, s: Structure) -> None:
    """charge_kw, discharge_kw (B, K, T), stored_kwh, idle_kwh, below_kwh, above_kwh (B, T), taper_over_kw."""
    if not s.site.bess:
        return
    B, K, T = len(s.site.bess), pieces(s), s.steps
    charge, discharge = m.var("charge_kw", B, K, T), m.var("discharge_kw", B, K, T)
    m.var("stored_kwh", B, T)
    m.var("idle_kwh", B, T)
    m.var("below_kwh", B, T)
    m.var("above_kwh", B, T)
    m.par("stored_before_kwh", B)
    m.par("drain_kwh", B, T)
    m.par("opened_low_kwh", B, T)
    m.par("opened_high_kwh", B, T)
    for t in range(T):
        m.bus[t].extend(
            sum(discharge[b, k, t] for k in range(K)) - sum(charge[b, k, t] for k in range(K))
            for b in range(B)
        )
    _add_energy(m, s)
    _add_window(m, s)
    if s.formulation.exclusivity is Exclusivity.HULL:
        m.rows(
            "one_direction",
            (B, T),
            lambda b, t: (
                flow(m, "charge_kw", b, t) / _p(s, b).p_charge_kw_max
                + flow(m, "discharge_kw", b, t) / _p(s, b).p_discharge_kw_max
                <= 1
            ),
        )
    else:
        _add_directions(m, s)
    if K > 1 and (s.formulation.exclusivity is Exclusivity.BINARY or s.once(bent).any()):
        _add_order(m, s)


def flow(m: Model, name: str, b: int, t: int) -> Expr:
    """Charge or discharge power of a battery, a positive number [kW]."""
    return sum(m[name][b, k, t] for k in range(m.shapes[name][1]))


def net(m: Model, b: int, t: int) -> Expr:
    """AC power, discharge positive [kW]."""
    return flow(m, "discharge_kw", b, t) - flow(m, "charge_kw", b, t)


def _p(s: Structure, b: int) -> BatteryParams:
    return s.site.bess[b].battery


def _add_energy(m: Model, s: Structure) -> None:
    stored, before, drain, idle = m["stored_kwh"], m["stored_before_kwh"], m["drain_kwh"], m["idle_kwh"]
    curves = segments(s)
    faded = [decay(b.battery, s.step_h) for b in s.site.bess]

    def rule(b: int, t: int) -> Expr:
        curve, (fade, share) = curves[b], faded[b]
        gained = sum(
            float(g) * m["charge_kw"][b, k, t] - float(q) * m["discharge_kw"][b, k, t]
            for k, (g, q) in enumerate(
                zip(curve.charge_stored_per_kw, curve.discharge_drawn_per_kw, strict=True)
            )
        )
        first = stored[b, s.steps - 1] if lakes.cyclic(s, b) else before[b]
        last = stored[b, t - 1] if t else first
        kept = float(1.0 - fade[t])
        flowed = float(s.step_h[t] * share[t]) * gained
        came = lakes.gained(m, s, b, t)
        return stored[b, t] - kept * last - flowed - idle[b, t] - came == -drain[b, t]

    m.rows("energy", (len(s.site.bess), s.steps), rule)


def _add_window(m: Model, s: Structure) -> None:
    stored, below, above = m["stored_kwh"], m["below_kwh"], m["above_kwh"]
    low, high = m["opened_low_kwh"], m["opened_high_kwh"]
    shape = (len(s.site.bess), s.steps)
    e_min = [b.battery.soc_min * b.battery.energy_kwh for b in s.site.bess]
    e_max = [b.battery.soc_max * b.battery.energy_kwh for b in s.site.bess]
    m.rows("window_low", shape, lambda b, t: stored[b, t] + below[b, t] >= e_min[b] - low[b, t])
    m.rows("window_high", shape, lambda b, t: stored[b, t] - above[b, t] <= e_max[b] + high[b, t])
    if s.formulation.soc_tapers:
        _add_tapers(m, s)


def _add_tapers(m: Model, s: Structure) -> None:
    """Limits that fall near full and empty, freed by a parameter while a battery is outside its window."""
    stored, over = m["stored_kwh"], m.var("taper_over_kw", 2, len(s.site.bess), s.steps)
    freed = m.par("taper_freed_kw", 2, len(s.site.bess), s.steps)
    for b, unit in enumerate(s.site.bess):
        p = unit.battery
        e_min, e_max = p.soc_min * p.energy_kwh, p.soc_max * p.energy_kwh
        slope_c, slope_d = taper_slopes(p)
        if slope_d is not None:
            m.rows(
                f"taper_low_{b}",
                (s.steps,),
                lambda t, b=b, least=p.taper_ratio * p.p_discharge_kw_max, k=slope_d, e=e_min: (
                    flow(m, "discharge_kw", b, t)
                    <= least + k * (stored[b, t] - e) + over[0, b, t] + freed[0, b, t]
                ),
            )
        if slope_c is not None:
            m.rows(
                f"taper_high_{b}",
                (s.steps,),
                lambda t, b=b, least=p.taper_ratio * p.p_charge_kw_max, k=slope_c, e=e_max: (
                    flow(m, "charge_kw", b, t)
                    <= least + k * (e - stored[b, t]) + over[1, b, t] + freed[1, b, t]
                ),
            )
        for j, cut in enumerate(power_cuts(p)):
            m.rows(
                f"power_by_soc_{b}_{j}",
                (s.steps,),
                lambda t, b=b, x=cut, way=int(cut.charge): (
                    flow(m, "charge_kw" if x.charge else "discharge_kw", b, t)
                    <= x.at_empty_kw + x.slope_kw_kwh * stored[b, t] + over[way, b, t] + freed[way, b, t]
                ),
            )


def discharge_cuts(p: BatteryParams, s: Structure) -> list[PowerCut]:
    """What a table over SoC leaves of discharge power, for what is held ready; nothing without tapers."""
    return [x for x in power_cuts(p) if not x.charge] if s.formulation.soc_tapers else []


def _edge_ratios(p: BatteryParams) -> tuple[float, float]:
    """Least share of power a table over SoC leaves below the window (discharge) and above it (charge)."""
    if not p.power_by_soc:
        return 1.0, 1.0
    empty, full = p.power_by_soc[0], p.power_by_soc[-1]
    low, high = table_ratios(p, p.soc_min)[1], table_ratios(p, p.soc_max)[0]
    return min(low, empty.discharge_ratio), min(high, full.charge_ratio)


def taper_slopes(p: BatteryParams) -> tuple[float | None, float | None]:
    """How fast charge and discharge limits fall with stored energy [kW per kWh]; None: not."""
    high, low = p.soc_max - p.soc_taper_high, p.soc_taper_low - p.soc_min
    slope_c = (1.0 - p.taper_ratio) * p.p_charge_kw_max / (high * p.energy_kwh) if high > NARROW else None
    slope_d = (1.0 - p.taper_ratio) * p.p_discharge_kw_max / (low * p.energy_kwh) if low > NARROW else None
    return slope_c, slope_d


def _add_directions(m: Model, s: Structure) -> None:
    """One direction, by binaries that are whole where `numbers` says so."""
    B, T = len(s.site.bess), s.steps
    charging = m.var("charging", B, T)
    m.rows(
        "charges",
        (B, T),
        lambda b, t: flow(m, "charge_kw", b, t) <= _p(s, b).p_charge_kw_max * charging[b, t],
    )
    m.rows(
        "discharges",
        (B, T),
        lambda b, t: flow(m, "discharge_kw", b, t) <= _p(s, b).p_discharge_kw_max * (1 - charging[b, t]),
    )


def _add_order(m: Model, s: Structure) -> None:
    """Pieces in order, by binaries that are whole where `numbers` says so.

    Where none is they describe the convex hull of the loss.
    """
    B, K, T = len(s.site.bess), pieces(s), s.steps
    full = m.var("piece_full", 2, B, K - 1, T)
    for way, name in enumerate(("charge_kw", "discharge_kw")):
        width = _widths(s, K, charging=way == 0)
        v = m[name]
        m.rows(
            f"{name}_opens",
            (B, K - 1, T),
            lambda b, k, t, v=v, w=width, way=way: v[b, k + 1, t] <= w[b][k + 1] * full[way, b, k, t],
        )
        m.rows(
            f"{name}_fills",
            (B, K - 1, T),
            lambda b, k, t, v=v, w=width, way=way: v[b, k, t] >= w[b][k] * full[way, b, k, t],
        )


def _widths(s: Structure, K: int, *, charging: bool) -> list[list[float]]:
    """Width of each piece of each battery; batteries with fewer pieces than others have empty ones [kW]."""
    own = [x.charge_width_kw if charging else x.discharge_width_kw for x in segments(s)]
    return [[*w.tolist(), *[0.0] * (K - len(w))] for w in own]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fixed:
    """What the numbers take from the structure alone. Of a pair the first is discharge."""

    share: FloatArray  # (B, T) of what flows in over a step, left at its end
    full_kwh: FloatArray  # (B, 1)
    begin_kw: FloatArray  # (2, B, K, 1) where each piece begins
    width_kw: FloatArray  # (2, B, K, 1)
    edge_ratio: FloatArray  # (2, B, 1) least share of power outside the window
    plenty_kw: FloatArray  # (B, 1) frees a taper
    outside_cost: FloatArray  # (T,) of a kWh outside the window
    idle_cost: FloatArray  # (T,) of a kWh of loss that an empty battery has not to give


def _fixed(s: Structure) -> _Fixed:
    params = [b.battery for b in s.site.bess]
    width = np.array([_widths(s, pieces(s), charging=charging) for charging in (False, True)])
    full = np.array([[p.energy_kwh] for p in params])
    steepest = [
        max(
            [x for x in taper_slopes(p) if x is not None] + [abs(cut.slope_kw_kwh) for cut in power_cuts(p)],
            default=0.0,
        )
        for p in params
    ]
    rate = ladder(s.site).soc_window_per_kwh
    outside = rate * np.minimum(1.0, s.step_h)
    # a kWh not lost is a kWh less below the window in every step to come: dearer than all of them
    later = np.minimum(np.cumsum(outside[::-1])[::-1], IDLE_H * rate)
    edges = np.array([_edge_ratios(p) for p in params])
    least = np.array([[p.taper_ratio] for p in params])
    begin = np.concatenate([np.zeros_like(width[..., :1]), np.cumsum(width, axis=-1)[..., :-1]], axis=-1)
    return _Fixed(
        share=np.array([decay(p, s.step_h)[1] for p in params]),
        full_kwh=full,
        begin_kw=begin[..., None],
        width_kw=width[..., None],
        edge_ratio=np.minimum(least, edges).T[..., None],
        plenty_kw=np.array([[p.p_nominal_kw] for p in params]) + np.array(steepest)[:, None] * full,
        outside_cost=outside,
        idle_cost=rate + later,
    )


def numbers(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Start, limits, drain, wear."""
    if not s.site.bess:
        return
    fixed = s.once(_fixed)
    there = np.array([float(b.available) for b in p.bess])
    drain = np.array([b.battery.no_load_loss_kw for b in s.site.bess]) * there
    drain_kwh = drain[:, None] * s.step_h * fixed.share
    low, high = _opened(p, s)
    n.par("stored_before_kwh", np.array([b.stored_kwh for b in p.bess]))
    n.par("drain_kwh", drain_kwh)
    n.par("opened_low_kwh", low)
    n.par("opened_high_kwh", high)
    outside = _outside(s, low, high)
    for way, name, limits_kw in (
        (1, "charge_kw", [b.p_charge_kw for b in p.bess]),
        (0, "discharge_kw", [b.p_discharge_kw for b in p.bess]),
    ):
        limit = np.where(outside[way], fixed.edge_ratio[way], 1.0) * np.array(limits_kw)
        beyond = np.maximum(limit[:, None] - fixed.begin_kw[way], 0.0)
        n.bound(name, 0.0, np.minimum(beyond, fixed.width_kw[way]))
    n.bound("stored_kwh", 0.0, fixed.full_kwh)
    for b, start in enumerate(p.bess):
        if start.band_kwh is not None:
            n.low["stored_kwh"][b] = np.maximum(0.0, start.band_kwh[0])
            n.high["stored_kwh"][b] = np.minimum(fixed.full_kwh[b], start.band_kwh[1])
    n.bound("idle_kwh", 0.0, drain_kwh)
    n.bound("below_kwh", 0.0, np.inf)
    n.bound("above_kwh", 0.0, np.inf)
    _prices(n, p, s)
    if "taper_over_kw" in n.shapes:
        n.par("taper_freed_kw", np.where(outside, fixed.plenty_kw, 0.0))
        n.bound("taper_over_kw", 0.0, np.inf)
        n.price("soc_window", "taper_over_kw", ladder(s.site).soc_window_per_kwh * s.step_h)
    if s.formulation.exclusivity is Exclusivity.BINARY:
        n.bound("charging", 0.0, 1.0)
        n.whole("charging", p.integral & p.exclusive)
    if "piece_full" in n.shapes:
        n.bound("piece_full", 0.0, 1.0)
        n.whole("piece_full", p.integral & (p.exclusive | s.once(bent)))


def _outside(s: Structure, low: FloatArray, high: FloatArray) -> BoolArray:
    """(2, B, T) steps in which the window is opened so far, below and above, that the taper has no say."""
    if not s.formulation.soc_tapers:
        return np.zeros((2, *low.shape), dtype=np.bool_)
    room = OPENED_RATIO * np.array([[b.battery.energy_kwh] for b in s.site.bess])
    return np.array([low > room, high > room])


def _prices(n: Numbers, p: PlanningProblem, s: Structure) -> None:
    """Wear by throughput, the tie-break, and what lies outside the window."""
    wear = np.array([b.battery.wear_per_kwh for b in s.site.bess])
    n.price("wear", "discharge_kw", wear[:, None, None] * s.step_h)
    charge_wear = np.array([b.battery.wear_charge_per_kwh for b in s.site.bess])
    if charge_wear.any():
        n.price("wear", "charge_kw", charge_wear[:, None, None] * s.step_h)
    tie_break = s.formulation.tie_break_ratio * usual_per_kwh(p.import_per_kwh)
    n.price("tie_break", "charge_kw", tie_break * s.step_h)
    fixed = s.once(_fixed)
    n.price("soc_window", "below_kwh", fixed.outside_cost)
    n.price("soc_window", "above_kwh", fixed.outside_cost)
    n.price("soc_window", "idle_kwh", fixed.idle_cost)


def _opened(p: PlanningProblem, s: Structure) -> tuple[FloatArray, FloatArray]:
    """(B, T) how far the window is opened below and above while a battery comes back into it [kWh]."""
    low, high = np.zeros((len(p.bess), s.steps)), np.zeros((len(p.bess), s.steps))
    ends_h = s.start_h + s.step_h
    near = s.start_h < OPENED_H
    for b, (unit, start) in enumerate(zip(s.site.bess, p.bess, strict=True)):
        e_min, e_max = (
            unit.battery.soc_min * unit.battery.energy_kwh,
            unit.battery.soc_max * unit.battery.energy_kwh,
        )
        where = near | np.full(s.steps, not start.available)
        drained = start.stored_kwh * np.exp(-unit.battery.self_discharge_per_h * ends_h)
        drained = drained - unit.battery.no_load_loss_kw * ends_h * float(start.available)
        low[b] = np.where(where, np.maximum(0.0, e_min - drained), 0.0)
        high[b] = np.where(where, max(0.0, start.stored_kwh - e_max), 0.0)
    return low, high


def notes(p: PlanningProblem, s: Structure, v: Mapping[str, FloatArray]) -> Iterator[str]:
    """Stored energy outside its window."""
    for b, unit in enumerate(p.site.bess):
        for name in ("below_kwh", "above_kwh"):
            worst = float(v[name][b].max())
            if worst > 1e-3 * unit.battery.energy_kwh:
                yield f"{unit.id}: stored energy {name[:-4]} its window by up to {worst:.1f} kWh"
        idle = float(v["idle_kwh"][b].sum())
        if idle > 1e-3 * unit.battery.energy_kwh:
            yield f"{unit.id}: empty, its converter lacks {idle:.1f} kWh of its own no-load loss"
        over = v["taper_over_kw"][:, b].sum(axis=0) if "taper_over_kw" in v else np.zeros(p.steps)
        yield from missed_kw(p, f"{unit.id}: power above what its state of charge allows", over)
