"""`rules`: what BESS and genset controllers do today. Grid prime, then battery prime or genset prime.

The ladder of thresholds follows genset-and-storage controllers on the market: the battery is the energy
source first, a genset starts on low charge or high load, is loaded well while it runs, and stops on high
charge; below the floor the battery must first recharge before it may discharge again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dispatch.controllers.burn_off import with_burn_off
from dispatch.controllers.charge_state import ceiling, has_nowhere, held_by, is_charged, is_low
from dispatch.controllers.exercise import with_exercise
from dispatch.protections.balance import (
    Store,
    balanced,
    charge_room_kw,
    discharge_room_kw,
    pick_sets,
    share_load,
    usable_kwh,
)
from dispatch.vocabulary import Context, ControlMemory, PeakTargets, Source, Target, Targets
from ems.assets import BatteryParams, GensetParams
from ems.commands import Cause
from ems.frozen import replace
from ems.rules import RulesParams as RulesParams
from ems.rules import fitted
from ems.site import GridMode

GRID_ALONE_RATIO = 0.9  # a peak-lopping genset stops when the net load is below this share of the import cap


def rule(value: float, reason: str) -> Target:
    """A wish of a rule."""
    return Target(value=value, cause=Cause.RULES, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Grid prime while there is a grid, else battery prime (or genset prime)."""

    params: RulesParams = field(default_factory=RulesParams)
    name: str = "rules"

    def decide(self, context: Context) -> tuple[Targets, ControlMemory]:
        """Wishes for this cycle, before the protections common to all controllers."""
        match context.condition.grid_mode:
            case GridMode.GRID_TIED:
                return self._grid_tied(context)
            case GridMode.ISLANDED:
                return islanded(self.params, context)
            case _:
                return Targets(source=Source.RULES), context.memory

    def _grid_tied(self, context: Context) -> tuple[Targets, ControlMemory]:
        memory = recharge_hysteresis(self.params, context)
        want_kw = context.power.net_kw - context.power.genset_kw
        bess = {}
        for b, share_kw in shares(context, want_kw).items():
            bess[b] = self._bess(context, memory, b, share_kw)
        run, load, memory = peak_lopping(self.params, replace(context, memory=memory))
        wishes = Targets(source=Source.RULES, bess_p_kw=bess, genset_run=run, genset_p_kw=load)
        return with_burn_off(context, with_exercise(context, wishes), stores), memory

    def _bess(self, context: Context, memory: ControlMemory, bess: str, want_kw: float) -> Target:
        params = next(b.battery for b in context.site.bess if b.id == bess)
        p = fitted(self.params, params)
        c = context.condition.bess[bess]
        if want_kw <= 0.0:
            charge_kw = min(-want_kw, charge_room_kw(params, c, params.soc_max, context.dt_s))
            if c.soc >= p.soc_floor or charge_kw >= p.grid_charge_ratio * c.p_charge_kw_max:
                return rule(-charge_kw, f"PV surplus of {-want_kw:.0f} kW charges the battery")
        if c.soc < p.soc_floor and bess in memory.recharging:
            room_kw = charge_room_kw(params, c, p.soc_floor + 0.02, context.dt_s)
            charge_kw = min(p.grid_charge_ratio * c.p_charge_kw_max, room_kw)
            return rule(-charge_kw, f"SoC {c.soc:.0%} is below the backup reserve of {p.soc_floor:.0%}")
        if bess in memory.recharging:
            return rule(0.0, f"the battery rests until SoC is back at {p.soc_recharge:.0%}")
        room_kw = discharge_room_kw(params, c, p.soc_floor, context.dt_s)
        return rule(
            min(want_kw, room_kw), f"self-consumption: the battery covers a net load of {want_kw:.0f} kW"
        )


def recharge_hysteresis(params: RulesParams, context: Context) -> ControlMemory:
    """Below the floor a battery must first reach `soc_recharge` before it may discharge again."""
    recharging = set(context.memory.recharging)
    for b in context.site.bess:
        p, soc = fitted(params, b.battery), context.condition.bess[b.id].soc
        if soc <= p.soc_floor + 0.002:
            recharging.add(b.id)
        elif soc >= p.soc_recharge:
            recharging.discard(b.id)
    return replace(context.memory, recharging=frozenset(recharging))


def stores(context: Context) -> dict[str, Store]:
    """The available batteries, and one that forms, with their rooms inside their windows."""
    out = {}
    for b in context.site.bess:
        c, battery = context.condition.bess[b.id], b.battery
        if c.available:
            out[b.id] = Store(
                energy_kwh=battery.energy_kwh,
                soc=c.soc,
                charge_kw=charge_room_kw(battery, c, battery.soc_max, context.dt_s),
                discharge_kw=discharge_room_kw(battery, c, battery.soc_min, context.dt_s),
            )
    return out


def shares(context: Context, total_kw: float) -> dict[str, float]:
    """Share a battery power among the available batteries so that their charges come together [kW].

    What is more than all of them can do goes on top by size: every limit comes later.
    """
    found = stores(context)
    out = balanced(total_kw, found)
    over_kw, energy_kwh = total_kw - sum(out.values()), sum(s.energy_kwh for s in found.values())
    if abs(over_kw) < 1e-9 or energy_kwh <= 0.0:
        return out
    return {b: p + over_kw * found[b].energy_kwh / energy_kwh for b, p in out.items()}


def peak_lopping(
    params: RulesParams, context: Context
) -> tuple[dict[str, Target], dict[str, Target], ControlMemory]:
    """Gensets beside the grid: only for load over the import cap that the battery cannot carry for long.

    Returns
    -------
    run targets, base loads [kW], memory
    """
    c, m = context.condition, context.memory
    cap_kw = context.site.grid.p_import_kw_max
    net_kw = context.power.net_kw
    over_kw = net_kw - cap_kw
    up = [b for b in context.site.bess if c.bess[b.id].available]
    battery_kw = sum(c.bess[b.id].p_discharge_kw_max for b in up)
    soc = min((c.bess[b.id].soc for b in up), default=0.0)
    available = [g for g in ordered_gensets(context) if c.gensets[g.id].available]
    kept = tuple(g.id for g in available if g.id in m.gensets_wanted)
    starts = over_kw > 0.0 and (over_kw > params.load_start_ratio * battery_kw or is_low(params, context))
    if starts and not kept:
        wanted = tuple(g.id for g in pick_sets(over_kw, available, params.genset_load_ratio))
    else:
        wanted = kept if kept and net_kw > GRID_ALONE_RATIO * cap_kw else ()
    if not wanted:
        memory = replace(m, gensets_wanted=(), high_load_since_s=None, low_load_since_s=None)
        return stop_all(context), {}, memory
    why = f"net load of {net_kw:.0f} kW is over the cap of {cap_kw:.0f} kW and the battery is at {soc:.0%}"
    run = {g.id: rule(float(g.id in wanted), why) for g in context.site.gensets}
    running = [g for g in available if g.id in wanted and c.gensets[g.id].on_load]
    loads = share_load(params.genset_load_ratio * sum(g.p_rated_kw for g in running), running)
    memory = replace(m, gensets_wanted=wanted)
    return run, {g: rule(p_kw, why) for g, p_kw in loads.items()}, memory


def stop_all(context: Context, why: str = "the grid carries the site") -> dict[str, Target]:
    """Ask every genset to stop."""
    return {g.id: rule(0.0, why) for g in context.site.gensets}


def islanded(params: RulesParams, context: Context) -> tuple[Targets, ControlMemory]:
    """Battery prime: the battery forms, gensets start on charge or load, run well loaded, stop on charge."""
    available = [g for g in ordered_gensets(context) if context.condition.gensets[g.id].available]
    forming_bess = context.condition.forming in context.condition.bess
    wanted, memory, why = _wanted_sets(params, context, available)
    run = {g.id: rule(float(g.id in wanted), why) for g in context.site.gensets}
    running = [g for g in available if context.condition.gensets[g.id].on_load and g.id in wanted]
    load = _genset_loads(params, context, running) if forming_bess else {}
    bess = _beside_forming(context) if forming_bess else _following_bess(params, context, running)
    wishes = Targets(source=Source.RULES, genset_run=run, genset_p_kw=load, bess_p_kw=bess)
    return with_burn_off(context, wishes, stores), memory


def ordered_gensets(context: Context) -> list[GensetParams]:
    """Gensets in order of start priority."""
    order = context.site.forming.islanded
    return sorted(context.site.gensets, key=lambda g: order.index(g.id) if g.id in order else len(order))


def _wanted_sets(
    params: RulesParams, context: Context, available: list[GensetParams]
) -> tuple[tuple[str, ...], ControlMemory, str]:
    """Which sets should be on load, with hysteresis in charge and load."""
    m, now_s, c = context.memory, context.monotonic_s, context.condition
    forming_bess = any(b.pcs.can_form and c.bess[b.id].available for b in context.site.bess)
    by_genset = c.forming in c.gensets
    first = replace(m, peaks=PeakTargets()) == ControlMemory()  # an edge that starts anew knows no more
    anew = params.genset_prime and first
    needed = by_genset or anew  # then what runs is needed, whoever started it
    kept = tuple(a.id for a in available if a.id in m.gensets_wanted or (needed and c.gensets[a.id].on_load))
    net_kw = max(0.0, context.power.net_kw)
    cap_kw = sum(c.p_discharge_kw_max for c in context.condition.bess.values() if c.available)
    carried_kw = sum(a.p_rated_kw * params.genset_load_ratio for a in available if a.id in kept)
    nowhere = forming_bess and params.genset_prime and has_nowhere(params, context, available, kept)
    by_bess = forming_bess and (nowhere or not params.genset_prime)  # batteries are counted on for the load
    spare_kw = cap_kw * params.load_start_ratio if by_bess else 0.0
    soc = min((c.soc for c in context.condition.bess.values() if c.available), default=0.0)
    high = net_kw > carried_kw + spare_kw
    since_s = (m.high_load_since_s if m.high_load_since_s is not None else now_s) if high else None
    urgent = high and (not forming_bess or net_kw > carried_kw + cap_kw)
    lasting = since_s is not None and now_s - since_s + context.dt_s / 2.0 >= params.confirm_s
    charged, full_s = is_charged(params, context)
    memory = replace(m, high_load_since_s=since_s, takes_none_since_s=full_s)
    if urgent or lasting:
        picked = tuple(g.id for g in pick_sets(net_kw, available, params.genset_load_ratio))
        wanted = picked if set(kept) <= set(picked) else tuple(dict.fromkeys((*kept, *picked)))
        why = f"net load of {net_kw:.0f} kW is more than what is on line carries"
    elif nowhere:
        wanted = held_by(params, context, available)
        why = "the minimum load of a set has nowhere to go: the battery carries the load"
    elif not kept and (params.genset_prime or is_low(params, context) or _energy_short(context, available)):
        need_kw = max(net_kw, 1.0)
        wanted = tuple(g.id for g in pick_sets(need_kw, available, params.genset_load_ratio))
        why = "genset prime" if params.genset_prime else f"SoC {soc:.0%}: a genset takes over"
    elif kept and not params.genset_prime and charged:
        stop = net_kw < cap_kw * params.load_stop_ratio and forming_bess
        full = "" if full_s is None else ", and no more charge is taken,"
        wanted, why = (() if stop else kept), f"SoC {soc:.0%}{full} and a net load of {net_kw:.0f} kW"
    else:
        wanted, memory = _drop_one(params, context, available, kept, memory)
        why = f"SoC {soc:.0%} and a net load of {net_kw:.0f} kW are between the thresholds"
    if wanted != m.gensets_wanted:
        memory = replace(memory, gensets_wanted=wanted, wanted_since_s=now_s, high_load_since_s=None)
    return wanted, memory, why


def _drop_one(
    params: RulesParams,
    context: Context,
    available: list[GensetParams],
    kept: tuple[str, ...],
    memory: ControlMemory,
) -> tuple[tuple[str, ...], ControlMemory]:
    """Of several sets, let the last one go that the others can do without for long enough."""
    now_s, on = context.monotonic_s, {g.id: g.p_rated_kw for g in available if g.id in kept}
    for g in reversed(kept):
        rest_kw = sum(p for i, p in on.items() if i != g)
        if rest_kw > 0.0 and context.power.net_kw < rest_kw * params.load_stop_ratio:
            since_s = memory.low_load_since_s if memory.low_load_since_s is not None else now_s
            memory = replace(memory, low_load_since_s=since_s)
            lasting = now_s - since_s + context.dt_s / 2.0 >= 6.0 * params.confirm_s
            return (tuple(i for i in kept if i != g) if lasting else kept), memory
    return kept, replace(memory, low_load_since_s=None)


def _energy_short(context: Context, available: list[GensetParams]) -> bool:
    """The energy above the minimum no longer carries the load through a failed and a repeated start."""
    if not available:
        return False
    stored_kwh = sum(
        usable_kwh(b.battery, context.condition.bess[b.id], b.battery.soc_min) for b in context.site.bess
    )
    tries = context.site.reserve.failed_starts + 1
    need_s = 2.0 * tries * available[0].start_delay_s + context.dt_s
    return stored_kwh < max(0.0, context.power.net_kw) * need_s / 3600.0


def _genset_loads(params: RulesParams, context: Context, running: list[GensetParams]) -> dict[str, Target]:
    """Base loads beside a forming battery: well loaded while there is room to charge, else the net load."""
    if not running:
        return {}
    rated_kw = sum(g.p_rated_kw for g in running)
    net_kw = max(0.0, context.power.net_kw)
    room_kw = sum(
        charge_room_kw(b.battery, context.condition.bess[b.id], ceiling(params, b.battery), context.dt_s)
        for b in context.site.bess
    )
    target_kw = net_kw
    if params.charge_with_genset:
        target_kw = max(net_kw, min(rated_kw * params.genset_load_ratio, net_kw + 0.9 * room_kw))
    why = f"gensets carry {net_kw:.0f} kW net load and charge with {target_kw - net_kw:.0f} kW"
    return {g: rule(p_kw, why) for g, p_kw in share_load(target_kw, running).items()}


def _beside_forming(context: Context) -> dict[str, Target]:
    """Batteries that follow beside one that forms take their part of what gensets and PV leave over."""
    total_kw = context.power.net_kw - context.power.genset_kw
    parts = balanced(total_kw, stores(context))
    forming = context.condition.forming
    why = f"its part of {total_kw:+.0f} kW that the batteries carry together"
    return {b: rule(p_kw, why) for b, p_kw in parts.items() if b != forming}


def _following_bess(params: RulesParams, context: Context, running: list[GensetParams]) -> dict[str, Target]:
    """Gensets form: the battery takes load off them above `genset_load_ratio`, and fills them up below."""
    rated_kw = sum(g.p_rated_kw for g in running)
    want_kw = context.power.net_kw - rated_kw * params.genset_load_ratio
    out = {}
    for b, share_kw in shares(context, want_kw).items():
        battery, c = _battery(context)[b], context.condition.bess[b]
        if share_kw > 0.0:
            p_kw = min(share_kw, discharge_room_kw(battery, c, battery.soc_min, context.dt_s))
        else:
            p_kw = -min(-share_kw, charge_room_kw(battery, c, ceiling(params, battery), context.dt_s))
        out[b] = rule(
            p_kw, f"the battery keeps the gensets at {params.genset_load_ratio:.0%} of their rating"
        )
    return out


def _battery(context: Context) -> Mapping[str, BatteryParams]:
    return {b.id: b.battery for b in context.site.bess}
