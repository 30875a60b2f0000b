"""Genset starts and stops that the common protections force, below every controller.

One set at a time: while one is on its way, the next is only asked for when the first is late.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.observing.phases import unbalance_ratio
from dispatch.protections.bus import Bus
from dispatch.protections.inrush import NO_INRUSH
from dispatch.protections.reserve import hold_s
from dispatch.protections.reverse_power import driven_backwards
from dispatch.state import ProtectionMemory
from dispatch.vocabulary import ReserveStatus, Target
from ems.assets import GensetParams
from ems.commands import Cause
from ems.frozen import replace
from ems.site import GridMode

HEADROOM_RATIO = 0.9  # of what the forming source can: beyond, somebody must help
ENERGY_FACTOR = 2.0  # on the energy that carries the load through failed starts
ENERGY_MARGIN_S = 120.0
RESERVE_SHORT_RATIO = 0.05  # of the required reserve: less is noise
RESERVE_CONFIRM_S = 60.0
UNBALANCE_CONFIRM_S = 60.0
IMPORT_CONFIRM_S = 10.0
SURPLUS_CONFIRM_S = 3.0
SURPLUS_REST_S = 900.0  # a set that had nowhere to put its load is not fetched back for feeders that wait
RELEASE_RATIO = 0.6  # the forming battery could carry everything at this share of its power
RELEASE_ENERGY_FACTOR = 3.0
GRID_HOLD_S = 900.0  # how long the battery must be able to hold the cap when a set is let go
GRID_RATIO = 0.95  # of the import cap: what the grid is trusted with when a set is let go
BLACK_START_RATIO = 1.2  # of the critical demand: what the first set on a dead bus must carry


@dataclass(frozen=True, slots=True, kw_only=True)
class Emergency:
    """Run requests with cause PROTECTION, by genset."""

    runs: Mapping[str, Target]
    memory: ProtectionMemory
    why: str | None


def need_s(layout: Layout, dt_s: float) -> float:
    """How long stored energy must last before a genset may be counted on [s]."""
    return ENERGY_FACTOR * hold_s(layout) + ENERGY_MARGIN_S + dt_s


def emergency(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    reserve: ReserveStatus,
    memory: ProtectionMemory,
    wanted: Mapping[str, Target],
    now_s: float,
    dt_s: float,
) -> Emergency:
    """Force a start where the bus would fail, and a stop where a set has nowhere to put its load."""
    bus = _without_waiting(bus, memory, now_s)
    memory = _timers(layout, bus, reserve, memory, now_s)
    apart = _unbalanced(layout, observed, bus)
    memory = replace(memory, unbalance_since_s=_since(memory.unbalance_since_s, apart, now_s))
    reverse = bool(driven_backwards(layout, observed, bus, wanted))
    memory = replace(memory, reverse_since_s=_since(memory.reverse_since_s, reverse, now_s))
    kept = tuple(
        g
        for g in memory.emergency_gensets
        if observed.condition.gensets[g].available
        and (_unbalanced(layout, observed, bus, g) or not _released(layout, bus, reserve, wanted, g))
    )
    why = _start_reason(layout, bus, reserve, memory, now_s, dt_s)
    if why is not None and not _on_its_way(observed):
        kept = (*kept, *_next_set(layout, observed, bus, kept))
    runs = {g: _forced(1.0, why if why is not None else f"{g} was started by protection") for g in kept}
    for needed in _still_needed(layout, observed, bus, wanted, tuple(runs)):
        runs[needed] = _forced(1.0, f"without {needed} the rest cannot carry the load")
    surplus = _surplus_set(layout, bus, tuple(runs))
    since_s = _since(memory.surplus_since_s, surplus is not None, now_s)
    memory = replace(memory, surplus_since_s=since_s)
    if surplus is not None and lasting(since_s, SURPLUS_CONFIRM_S, now_s, dt_s):
        runs[surplus] = _forced(0.0, f"{surplus} at minimum load is more than the bus can take")
        memory = replace(memory, surplus_stop=(bus.mode, now_s))
    return Emergency(runs=runs, memory=replace(memory, emergency_gensets=kept), why=why)


def _without_waiting(bus: Bus, memory: ProtectionMemory, now_s: float) -> Bus:
    """After a stop for want of load only load that is there is a reason to start: else sets hunt for ever."""
    if memory.surplus_stop is None:
        return bus
    mode, at_s = memory.surplus_stop
    resting = mode is bus.mode and now_s - at_s < SURPLUS_REST_S
    return replace(bus, waiting_kw=0.0, inrush=NO_INRUSH) if resting else bus


def critical_at_risk(layout: Layout, observed: Observed, bus: Bus, dt_s: float) -> bool:
    """Whether load of the critical tiers is lost, or will be, unless a genset comes."""
    if bus.mode is GridMode.BLACK:
        return True
    if bus.mode is not GridMode.ISLANDED:
        return False
    tier = layout.site.reserve.critical_tier
    demand_kw = sum(observed.demand_kw[f] for f, p in layout.feeders.items() if p.tier <= tier)
    missing_kw = demand_kw - bus.pv_kw - bus.genset_rated_kw
    if not bus.forming_bess:
        return missing_kw > 0.0
    soon = bus.stored_kwh < max(0.0, missing_kw) * need_s(layout, dt_s) / 3600.0
    return soon or missing_kw > HEADROOM_RATIO * min(bus.up_kw, bus.up_later_kw)


def _forced(value: float, reason: str) -> Target:
    return Target(value=value, cause=Cause.PROTECTION, reason=reason)


def _timers(
    layout: Layout, bus: Bus, reserve: ReserveStatus, memory: ProtectionMemory, now_s: float
) -> ProtectionMemory:
    short = reserve.short_kw > RESERVE_SHORT_RATIO * reserve.required_kw and reserve.short_kw > 1.0
    import_kw = bus.load_kw + bus.waiting_kw - bus.pv_kw - bus.genset_kw - bus.unheard_kw - bus.follow_up_kw
    over = bus.mode is GridMode.GRID_TIED and import_kw > bus.import_cap_kw
    return replace(
        memory,
        reserve_short_since_s=_since(memory.reserve_short_since_s, short, now_s),
        black_since_s=_since(memory.black_since_s, bus.mode is GridMode.BLACK, now_s),
        import_over_since_s=_since(memory.import_over_since_s, over, now_s),
    )


def _since(before_s: float | None, is_so: bool, now_s: float) -> float | None:
    if not is_so:
        return None
    return now_s if before_s is None else before_s


def lasting(since_s: float | None, confirm_s: float, now_s: float, dt_s: float) -> bool:
    """Whether something has been so for `confirm_s`; half the coming step counts as well."""
    return since_s is not None and now_s - since_s + dt_s / 2.0 >= confirm_s


def _start_reason(
    layout: Layout,
    bus: Bus,
    reserve: ReserveStatus,
    memory: ProtectionMemory,
    now_s: float,
    dt_s: float,
) -> str | None:
    """Why a genset must be started now, or None."""
    if bus.mode is GridMode.BLACK:
        confirm_s = layout.site.grid.supervision.start_confirm_s
        if not lasting(memory.black_since_s, confirm_s, now_s, dt_s):
            return None
        return "the bus is dead: a genset must bring it back"
    if bus.mode is GridMode.GRID_TIED:
        if lasting(memory.import_over_since_s, IMPORT_CONFIRM_S, now_s, dt_s):
            return "import is over the contract's cap with the battery at its limit"
        over_kw = bus.load_kw + bus.waiting_kw - bus.pv_kw - bus.genset_rated_kw
        over_kw -= bus.import_cap_kw - layout.poi_bias_kw
        if over_kw > 0.0 and bus.stored_kwh < over_kw * need_s(layout, dt_s) / 3600.0:
            return f"{bus.stored_kwh:.0f} kWh hold the import cap not much longer"
        return None
    if bus.mode is not GridMode.ISLANDED:
        return None
    if lasting(memory.unbalance_since_s, UNBALANCE_CONFIRM_S, now_s, dt_s):
        return "the phases of the gensets are too far apart: one more shares that"
    if bus.inrush.waits is not None and bus.inrush.missing_kva(layout) > 0.0:
        return f"{bus.inrush.waits} waits: {bus.inrush.words(layout, bus.inrush.waits)}"
    if not bus.forming_bess:
        if bus.load_kw + bus.waiting_kw - bus.pv_kw - bus.follow_up_kw > 0.95 * bus.genset_rated_kw:
            return f"gensets carry {bus.genset_kw:.0f} of {bus.genset_rated_kw:.0f} kW"
        return None
    spare_kw = bus.genset_rated_kw - bus.genset_kw
    if bus.forming_kw - spare_kw > HEADROOM_RATIO * bus.up_kw:
        return f"the forming battery gives {bus.forming_kw:.0f} of {bus.up_kw:.0f} kW"
    if bus.forming_kw - spare_kw > HEADROOM_RATIO * bus.up_later_kw:
        later_kw = f"{bus.up_later_kw:.0f} kW by the time a genset has come"
        return f"the forming battery gives {bus.forming_kw:.0f} kW and can give {later_kw}"
    drain_kw = max(0.0, bus.load_kw + bus.waiting_kw - bus.pv_kw - bus.genset_rated_kw)
    if bus.waiting_kw > 0.0 and drain_kw > RELEASE_RATIO * bus.up_kw:
        return f"feeders of {bus.waiting_kw:.0f} kW wait for somebody to carry them"
    if bus.stored_kwh < drain_kw * need_s(layout, dt_s) / 3600.0:
        return f"{bus.stored_kwh:.0f} kWh above minimum carry {drain_kw:.0f} kW not much longer"
    if lasting(memory.reserve_short_since_s, RESERVE_CONFIRM_S, now_s, dt_s):
        return f"reserve is short by {reserve.short_kw:.0f} kW"
    return None


def _unbalanced(layout: Layout, observed: Observed, bus: Bus, without: str | None = None) -> bool:
    """Whether the phases of an island's gensets are too far apart, or would be `without` one of them."""
    if bus.mode is not GridMode.ISLANDED or not observed.phases:
        return False
    sets = [layout.gensets[g] for g in bus.running]
    limits = [g.phases.unbalance_ratio_max for g in sets if g.phases is not None]
    least = min((x for x in limits if x is not None), default=None)
    apart = unbalance_ratio(layout, observed.phases, bus.running, without)
    return least is not None and apart is not None and apart > least


def _on_its_way(observed: Observed) -> bool:
    return any(c.starting for c in observed.condition.gensets.values())


def _next_set(layout: Layout, observed: Observed, bus: Bus, kept: tuple[str, ...]) -> tuple[str, ...]:
    """The smallest set that can carry what is missing, else the largest that is left."""
    free = [
        p
        for g, p in layout.gensets.items()
        if observed.condition.gensets[g].available
        and not observed.condition.gensets[g].on_load
        and g not in kept
        and _has_room(bus, p)
    ]
    if not free:
        return ()
    need_kw = bus.load_kw + bus.waiting_kw - bus.pv_kw - bus.genset_rated_kw
    if bus.mode is GridMode.GRID_TIED:
        need_kw -= bus.import_cap_kw
    if bus.mode is GridMode.BLACK:
        tier = layout.site.reserve.critical_tier
        need_kw = BLACK_START_RATIO * sum(
            observed.demand_kw[f] for f, p in layout.feeders.items() if p.tier <= tier
        )
    lacks_kva = bus.inrush.missing_kva(layout)
    enough = [p for p in free if p.p_rated_kw >= need_kw and p.surge_or_rated_kva >= lacks_kva]
    if enough:
        return (min(enough, key=lambda p: p.p_rated_kw).id,)
    return (max(free, key=lambda p: p.p_rated_kw).id,)


def _released(
    layout: Layout, bus: Bus, reserve: ReserveStatus, wanted: Mapping[str, Target], genset: str
) -> bool:
    """Whether the controller has taken the set over, or the bus can do without it."""
    wish = wanted.get(genset)
    if wish is not None and wish.value >= 0.5 and genset in bus.running:
        return True
    if bus.mode is GridMode.ISLANDED and genset not in bus.running:
        return False
    rated_kw = layout.gensets[genset].p_rated_kw
    if any(c.required and genset in c.by and c.held_kw - rated_kw < c.lost_kw for c in reserve.contingencies):
        return False  # it was started for that loss
    held_kw = reserve.held_kw - (rated_kw if genset in bus.running else 0.0)
    return can_do_without(layout, bus, genset, RELEASE_RATIO, RELEASE_ENERGY_FACTOR) and (
        bus.mode is GridMode.GRID_TIED or held_kw >= reserve.required_kw
    )


def can_do_without(layout: Layout, bus: Bus, genset: str, power_ratio: float, energy_factor: float) -> bool:
    """Whether what stays on line carries the load and the feeders that wait, by power and by energy.

    Parameters
    ----------
    power_ratio : share of the batteries' power that may be used.
    energy_factor : multiple of the energy needed through failed starts that must be stored.
    """
    gone_kw = layout.gensets[genset].p_rated_kw if genset in bus.running else 0.0
    drain_kw = bus.load_kw + bus.waiting_kw - bus.pv_kw - (bus.genset_rated_kw - gone_kw)
    if bus.mode is GridMode.GRID_TIED:
        over_kw = drain_kw - GRID_RATIO * bus.import_cap_kw
        enough_kwh = energy_factor * max(0.0, over_kw) * GRID_HOLD_S / 3600.0
        return over_kw <= power_ratio * bus.follow_up_kw and bus.stored_kwh >= enough_kwh
    up_kw = bus.up_kw + bus.follow_up_kw
    others = any(g != genset for g in bus.running)
    if bus.mode is not GridMode.ISLANDED or (up_kw <= 0.0 and not others):
        return False
    if genset in bus.inrush.of_set_kva and bus.inrush.missing_kva(layout, genset) > 0.0:
        return False
    enough_kwh = energy_factor * max(0.0, drain_kw) * need_s(layout, 0.0) / 3600.0
    return drain_kw <= power_ratio * up_kw and bus.stored_kwh >= enough_kwh


def _still_needed(
    layout: Layout, observed: Observed, bus: Bus, wanted: Mapping[str, Target], kept: tuple[str, ...]
) -> tuple[str, ...]:
    """Sets that are to stop although the rest could not carry the load: they wait for their successors.

    Looked at one after the other, the last in order first: each that may go is gone for those that follow.
    One that is not heard carries nothing for the others, and is let go only where they need nothing of it.
    Where no successor can come, a person's stop stands.
    """
    if bus.mode not in (GridMode.GRID_TIED, GridMode.ISLANDED):
        return ()
    others = any((c.available or c.starting) and not c.on_load for c in observed.condition.gensets.values())
    needed = []
    for g in reversed((*bus.running, *bus.unheard)):
        wish = wanted.get(g)
        if g in kept or wish is None or wish.value >= 0.5:
            continue
        stands = wish.cause is Cause.OPERATOR and not others
        if stands or can_do_without(layout, bus, g, HEADROOM_RATIO, 1.0):
            bus = _without(layout, bus, g) if g in bus.running else bus
        else:
            needed.append(g)
    return tuple(needed)


def _without(layout: Layout, bus: Bus, genset: str) -> Bus:
    """The bus as it is once a set has left it."""
    return replace(
        bus,
        running=tuple(g for g in bus.running if g != genset),
        inrush=bus.inrush.without(genset),
        genset_rated_kw=bus.genset_rated_kw - layout.gensets[genset].p_rated_kw,
        genset_min_kw=bus.genset_min_kw - layout.gensets[genset].p_min_kw,
    )


def _has_room(bus: Bus, genset: GensetParams) -> bool:
    """Whether its minimum load goes somewhere: else it would be stopped as surplus as soon as it has come."""
    sink_kw = _sink_kw(bus, len(bus.running) + 1)
    return sink_kw is None or bus.genset_min_kw + genset.p_min_kw <= sink_kw + bus.waiting_kw


def _sink_kw(bus: Bus, running: int) -> float | None:
    """Where the least that sets on load give may go [kW]; None: nobody asks, as on a dead bus."""
    if bus.mode is GridMode.GRID_TIED:
        sink_kw = bus.load_kw + bus.follow_down_kw + bus.export_cap_kw
    elif bus.mode is not GridMode.ISLANDED:
        return None
    elif bus.forming_bess:
        sink_kw = bus.load_kw + bus.down_kw
    elif running > 1:
        sink_kw = bus.load_kw + bus.follow_down_kw
    else:
        return None  # the last forming source stays, however lightly loaded
    return sink_kw - sum(bus.lost_pv_kw.values())


def _surplus_set(layout: Layout, bus: Bus, kept: tuple[str, ...]) -> str | None:
    """The set to stop when all at minimum load, less PV that can be limited, are too much for the bus.

    None stops for the sake of one that is not heard.
    """
    sink_kw = _sink_kw(bus, len(bus.running))
    if not bus.running or not bus.told or sink_kw is None or bus.genset_min_kw <= sink_kw:
        return None
    return next((g for g in reversed(bus.running) if g not in kept), None)
