"""Let time pass over one piece, and write down what happened; several pieces of a step become one record."""

import math
from collections.abc import Mapping, Sequence

from ems.assets import GensetParams
from ems.points import BessState, GensetState
from plant_models import battery, genset, load, pv
from plant_models.balance import Powers
from plant_models.bus import Work, black_out
from plant_models.genset import GensetUnit
from plant_models.pcs import BessUnit
from plant_models.state import PlantFlows, Violation, ViolationKind

_TOL_KW = 1e-6
_RUNNING = GensetState.RUNNING
_FORMING = BessState.FORMING


class Ledger:
    """What one piece cost beside its powers: losses, fuel and what does not close, in energy."""

    __slots__ = ("dead_s", "fuel_l", "island_s", "loss_kwh", "residual_kwh")

    def __init__(self) -> None:
        self.loss_kwh: dict[str, float] = {}
        self.fuel_l: dict[str, float] = {}
        self.residual_kwh = 0.0
        self.dead_s = 0.0
        self.island_s = 0.0


def pass_time(w: Work, pw: Powers, h: float) -> Ledger:
    """Advance every state by `h` seconds at constant powers [s]."""
    led = Ledger()
    live = w.forming is not None and w.dip_s <= 0.0
    if not live:
        led.dead_s = h
    elif not w.closed:
        led.island_s = h
    _pass_bess(w, pw, h, led)
    _pass_gensets(w, pw, h, led)
    for i, u in w.pv.items():
        if not u.producing and w.dip_s <= 0.0:
            w.pv[i] = pv.step(w.t.pv[i], u, live and i not in w.pv_open, h)
    if live:
        _pass_feeders(w, pw, h)
    w.dip_s = max(0.0, w.dip_s - h)
    if not w.closed:
        w.good_s = w.good_s + h if w.usable else 0.0
    served = sum(pw.load.values()) + sum(pw.aux.values())
    fed = sum(pw.pv.values()) + sum(pw.gen.values()) + sum(pw.bess.values()) + pw.grid_p
    led.residual_kwh += abs(fed - served) * h / 3600.0
    return led


def _pass_feeders(w: Work, pw: Powers, h: float) -> None:
    """Breakers close after their dwell; an island that cannot stand their inrush dies."""
    asked, inrush_kva = w.inputs.feeder_close, 0.0
    for i, f in w.feeders.items():
        if not f.closed:
            w.feeders[i] = load.step(w.t.feeders[i], f, asked.get(i, True), h)
            inrush_kva += w.t.feeders[i].inrush_kva if w.feeders[i].closed else 0.0
    if inrush_kva > 0.0 and not w.closed and inrush_kva > _surge_room_kva(w, pw) + _TOL_KW:
        black_out(w, overload=True)


def _surge_room_kva(w: Work, pw: Powers) -> float:
    """What the sources that make the island's voltage stand for some cycles beyond what they give [kVA]."""
    former = w.forming if w.forming in w.bess else None
    sets = [i for i, g in w.gensets.items() if g.phase is _RUNNING]
    stands_kva = sum(w.t.gensets[i].surge_or_rated_kva for i in sets)
    p_kw = sum(pw.gen[i] for i in sets)
    if former is not None:
        stands_kva += w.t.bess[former].pcs.surge_or_overload_kva
        p_kw += pw.bess[former]
    return stands_kva - math.hypot(p_kw, pw.q_load)


def _pass_bess(w: Work, pw: Powers, h: float, led: Ledger) -> None:
    faulted = w.inputs.faults.bess_tripped
    for i, b in w.bess.items():
        p = pw.bess[i]
        end, loss = battery.step(w.t.bess[i].battery, b.stored_kwh, p, h, on=b.on)
        led.loss_kwh[i] = loss
        led.residual_kwh += abs(p * h / 3600.0 + loss + end - b.stored_kwh)
        wait = b.restart_left_s if b.on or i in faulted else max(0.0, b.restart_left_s - h)
        w.bess[i] = BessUnit(b.mode, end, wait, pw.overload_s if b.mode is _FORMING else 0.0)


def _pass_gensets(w: Work, pw: Powers, h: float, led: Ledger) -> None:
    fails = w.inputs.faults.genset_start_fails
    dead = w.forming is None and not w.usable
    for i, g in w.gensets.items():
        if not g.turning:
            led.fuel_l[i] = 0.0
            if dead:
                w.gensets[i] = GensetUnit(
                    g.phase, g.tank_l, g.run_h, own_start=g.own_start, dead_s=g.dead_s + h
                )
            continue
        if g.phase is _RUNNING:
            rate = genset.fuel_l_h(w.t.fuel_kw_l_h[i], pw.gen[i])
            led.fuel_l[i] = litres = min(genset.burnable_l(w.t.gensets[i], g), rate * h / 3600.0)
            w.gensets[i] = _loaded(w.t.gensets[i], g, litres, (pw.gen[i], pw.gen_end[i]), h)
        else:
            led.fuel_l[i] = litres = min(genset.burnable_l(w.t.gensets[i], g), w.t.idle_l_h[i] * h / 3600.0)
            burnt = genset.burn(w.t.gensets[i], g, litres, h)
            w.gensets[i], w.starts[i], w.failed[i] = genset.advance(w.t.gensets[i], burnt, h, i in fails)


def _loaded(
    params: GensetParams, g: GensetUnit, litres: float, p_kw: tuple[float, float], h: float
) -> GensetUnit:
    """A running set after `h` seconds at (mean, end) power; loading ends at minimum load."""
    mean, end = p_kw
    relay = params.reverse_power
    run_h = g.run_h + h / 3600.0
    tank_l = g.tank_l - litres
    if tank_l <= params.tank_unusable_l + 1e-9:
        return GensetUnit(GensetState.STOPPED, max(0.0, tank_l), run_h)
    return GensetUnit(
        _RUNNING,
        tank_l,
        run_h,
        g.timer_s + h,
        end,
        0,
        g.loading and end < params.p_min_kw - _TOL_KW,
        g.unloading,
        g.own_start,
        0.0,
        g.overload_s + h if mean > params.p_rated_kw else 0.0,
        reverse_s=g.reverse_s + h if relay is not None and mean < -relay.p_kw else 0.0,
    )


# --- violations -------------------------------------------------------------------------------------------


def violations(w: Work, pw: Powers, led: Ledger, before: Mapping[str, GensetUnit]) -> list[Violation]:
    """Ground truth of one piece. `before`: the gensets at its start."""
    out = pw.violations
    grid = w.t.site.grid
    if pw.grid_p > grid.p_import_kw_max + _TOL_KW:
        over = pw.grid_p - grid.p_import_kw_max
        out.append(Violation(ViolationKind.IMPORT_OVER_CAP, grid.id, over, "kW"))
    elif -pw.grid_p > grid.p_export_kw_max + _TOL_KW:
        over = -pw.grid_p - grid.p_export_kw_max
        out.append(Violation(ViolationKind.EXPORT_OVER_CAP, grid.id, over, "kW"))
    if w.forming is None:
        out.append(Violation(ViolationKind.BUS_DEAD, "bus", led.dead_s, "s"))
    for i, b in w.bess.items():
        params = w.t.bess[i].battery
        soc = b.stored_kwh / params.energy_kwh
        over = max(params.soc_min - soc, soc - params.soc_max)
        if over > battery.SOC_TOLERANCE:
            out.append(Violation(ViolationKind.SOC_OUTSIDE_WINDOW, i, over, ""))
    if w.dip_s <= 0.0 and led.dead_s == 0.0:
        for i, g in before.items():
            if g.phase is _RUNNING:
                _genset_violations(w, pw, i, g, out)
    return out


def _genset_violations(w: Work, pw: Powers, i: str, g: GensetUnit, out: list[Violation]) -> None:
    params, p = w.t.gensets[i], pw.gen[i]
    if p < params.p_min_kw - _TOL_KW and not (g.loading or g.unloading):
        out.append(Violation(ViolationKind.GENSET_BELOW_MIN, i, params.p_min_kw - p, "kW"))
    if p < -_TOL_KW:
        out.append(Violation(ViolationKind.GENSET_REVERSE_POWER, i, -p, "kW"))
    over = max(p - params.p_rated_kw, math.hypot(p, pw.gen_q[i]) - params.s_kva)
    if over > _TOL_KW:
        out.append(Violation(ViolationKind.GENSET_OVER_RATING, i, over, "kW"))


# --- record -----------------------------------------------------------------------------------------------


def record(w: Work, pw: Powers, led: Ledger, h: float, found: list[Violation]) -> PlantFlows:
    """Flows of one piece of `h` seconds."""
    live = w.forming is not None and led.dead_s == 0.0
    soc: dict[str, float] = {}
    charge: dict[str, float] = {}
    discharge: dict[str, float] = {}
    for i, b in w.bess.items():
        params = w.t.bess[i].battery
        soc[i] = b.stored_kwh / params.energy_kwh
        charge[i], discharge[i] = battery.limits(params, b.stored_kwh, h) if b.on else (0.0, 0.0)
        if i in w.inputs.faults.bess_limit_ratio:
            ratio = w.inputs.faults.bess_limit_ratio[i]
            charge[i], discharge[i] = ratio * charge[i], ratio * discharge[i]
    per_h = 3600.0 / h
    return PlantFlows(
        dt_s=h,
        grid_id=w.t.site.grid.id,
        bess_p_kw=pw.bess,
        bess_q_kvar=pw.bess_q,
        pv_q_kvar=pw.pv_q,
        bess_soc=soc,
        bess_stored_kwh={i: b.stored_kwh for i, b in w.bess.items()},
        bess_p_charge_kw_max=charge,
        bess_p_discharge_kw_max=discharge,
        bess_state={i: b.mode for i, b in w.bess.items()},
        bess_loss_kw={i: e * per_h for i, e in led.loss_kwh.items()},
        bess_aux_kw=pw.aux,
        genset_p_kw=pw.gen,
        genset_q_kvar=pw.gen_q,
        genset_state={i: g.phase for i, g in w.gensets.items()},
        genset_fuel_l_h={i: v * per_h for i, v in led.fuel_l.items()},
        genset_tank_l={i: g.tank_l for i, g in w.gensets.items()},
        genset_run_h={i: g.run_h for i, g in w.gensets.items()},
        genset_starts=w.starts,
        genset_failed_starts=w.failed,
        pv_p_kw=pw.pv,
        pv_potential_kw=dict(w.inputs.pv_potential_kw),
        pv_producing={i: u.producing for i, u in w.pv.items()},
        feeder_demand_kw=dict(w.inputs.demand_kw),
        feeder_p_kw=pw.load,
        feeder_closed={i: f.closed for i, f in w.feeders.items()},
        grid_p_kw=pw.grid_p,
        grid_q_kvar=pw.grid_q,
        grid_closed=w.closed,
        mains_present=w.inputs.mains_present,
        mains_f_hz=w.t.f_nominal_hz if w.inputs.mains_f_hz is None else w.inputs.mains_f_hz,
        nominal_f_hz=w.t.f_nominal_hz,
        poi_v_pu=pw.v_pu,
        bus_v_pu=(pw.v_pu if w.closed else 1.0) if live else 0.0,
        forming=w.forming,
        dead_s=led.dead_s,
        islanded_s=led.island_s,
        energy_residual_kwh=led.residual_kwh,
        violations=tuple(found),
    )


_MEANS = (
    "bess_p_kw", "bess_q_kvar", "pv_q_kvar", "bess_loss_kw", "bess_aux_kw", "genset_p_kw", "genset_q_kvar",
    "genset_fuel_l_h", "pv_p_kw", "feeder_p_kw",
)  # fmt: skip
_SUMS = ("genset_starts", "genset_failed_starts")
_LAST = (
    "grid_id", "bess_soc", "bess_stored_kwh", "bess_p_charge_kw_max", "bess_p_discharge_kw_max", "bess_state",
    "genset_state", "genset_tank_l", "genset_run_h", "pv_potential_kw", "pv_producing", "feeder_demand_kw",
    "feeder_closed", "grid_closed", "mains_present", "mains_f_hz", "nominal_f_hz", "poi_v_pu",
    "bus_v_pu", "forming",
)  # fmt: skip


def merge(parts: Sequence[PlantFlows]) -> PlantFlows:
    """One record of consecutive pieces: means over time, states of the last, violations at their worst."""
    if len(parts) == 1:
        return parts[0]
    total_s = math.fsum(f.dt_s for f in parts)
    last = parts[-1]
    fields: dict[str, object] = {name: getattr(last, name) for name in _LAST}
    for name in _MEANS:
        maps = [getattr(f, name) for f in parts]
        fields[name] = {
            i: sum(m[i] * f.dt_s for m, f in zip(maps, parts, strict=True)) / total_s for i in maps[-1]
        }
    for name in _SUMS:
        maps = [getattr(f, name) for f in parts]
        fields[name] = {i: sum(m[i] for m in maps) for i in maps[-1]}
    return PlantFlows(
        **fields,  # type: ignore[arg-type]
        dt_s=total_s,
        grid_p_kw=sum(f.grid_p_kw * f.dt_s for f in parts) / total_s,
        grid_q_kvar=sum(f.grid_q_kvar * f.dt_s for f in parts) / total_s,
        dead_s=sum(f.dead_s for f in parts),
        islanded_s=sum(f.islanded_s for f in parts),
        energy_residual_kwh=sum(f.energy_residual_kwh for f in parts),
        violations=_worst(parts),
    )


def _worst(parts: Sequence[PlantFlows]) -> tuple[Violation, ...]:
    """Each kind once per asset; dead seconds add up, everything else keeps its largest amount."""
    worst: dict[tuple[ViolationKind, str], Violation] = {}
    for v in (v for f in parts for v in f.violations):
        seen = worst.get((v.kind, v.asset))
        if seen is None:
            worst[v.kind, v.asset] = v
        elif v.kind is ViolationKind.BUS_DEAD:
            worst[v.kind, v.asset] = Violation(v.kind, v.asset, seen.amount + v.amount, v.unit)
        elif abs(v.amount) > abs(seen.amount):
            worst[v.kind, v.asset] = v
    return tuple(worst.values())
