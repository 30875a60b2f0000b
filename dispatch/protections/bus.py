"""Key figures of the bus that protections decide on: what carries it, what is left of that, for how long."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.balance import charge_room_kw, discharge_room_kw, usable_kwh
from dispatch.protections.feeders import pickup_kw
from dispatch.protections.inrush import NO_INRUSH, Inrush, inrush_now
from dispatch.protections.reserve import hold_s
from dispatch.state import FeederShed
from ems.assets import BatteryParams, BessParams, Sharing
from ems.condition import BessCondition, PlantCondition
from ems.frozen import replace
from ems.points import BessState
from ems.site import GridMode
from plant_models.battery import stored_kw, taper_limits_kw

PCS_P_RATIO = 0.95  # of the apparent power: room for the reactive power of the load
KVAR_PER_KW = math.tan(math.acos(PCS_P_RATIO))
LATER_MARGIN_S = 30.0  # on the time until a genset is there
SHORT_S = 10.0  # energy limits are looked at over at least so long


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    """One snapshot of the bus, powers in kW."""

    mode: GridMode
    forming_bess: tuple[str, ...]  # batteries that form the island
    following_bess: tuple[str, ...]  # available batteries that obey a setpoint
    running: tuple[str, ...]  # gensets that carry: on load and heard; nobody is heard to form: all
    unheard: tuple[str, ...]  # further gensets that may be on load: nothing relies on them
    told: bool  # those that carry say so themselves
    load_kw: float
    pv_kw: float  # measured
    pv_potential_kw: float  # what PV would give without limit, as far as is known
    lost_pv_kw: Mapping[str, float]  # what plants whose limit is lost give; the rest can be limited
    surge_kw: float  # what they may give beyond that at any moment
    forming_kw: float  # power of the forming batteries, a result
    up_kw: float  # what the forming batteries can give until the next decision
    up_later_kw: float  # what they can still give when a genset asked for now has come, after failed starts
    down_kw: float  # what the forming batteries can take
    stored_kwh: float  # of all available batteries, above their minimum, at the lowest charge they may have
    carries_kwh: float  # as counted where readings contradict: what sheds go by
    genset_kw: float  # of those that carry
    unheard_kw: float  # what the further ones may give now, by the other meters or as last read
    genset_rated_kw: float  # of those that carry, less three times what their worst phases carry more
    genset_min_kw: float  # of those that carry
    follow_up_kw: float
    follow_down_kw: float
    import_cap_kw: float  # at the POI, that holds now
    export_cap_kw: float
    waiting_kw: float  # demand of feeders that protection holds open and that could come back
    step_most_kw: float  # largest load step that this island's gensets could ever take; else inf
    inrush: Inrush = NO_INRUSH  # of feeders that are switched on


def look_at(layout: Layout, observed: Observed, shed: Mapping[str, FeederShed], dt_s: float) -> Bus:
    """Work out the key figures; energy limits count over the time the decisions will stand."""
    c, span_s = observed.condition, max(dt_s, SHORT_S)
    forming = tuple(b for b, s in observed.bess_state.items() if s is BessState.FORMING)
    following = tuple(b for b in layout.bess if c.bess[b].available and b not in forming)
    later_s = hold_s(layout) + dt_s + LATER_MARGIN_S
    up_kw = up_later_kw = down_kw = stored_kwh = carries_kwh = follow_up_kw = follow_down_kw = 0.0
    for b, params in layout.bess.items():
        battery, state = params.battery, c.bess[b]
        discharge_kw = discharge_room_kw(battery, state, battery.soc_min, span_s)
        charge_kw = charge_room_kw(battery, state, battery.soc_max, span_s)
        stored_kwh += usable_kwh(battery, state, battery.soc_min)
        carries_kwh += _carries_kwh(battery, state, b in forming)
        if b in forming and (not state.available or state.soc_high is not None):
            # its charge is not known: it goes on within its BMS's limits, and gensets come for the energy
            discharge_kw, charge_kw = state.p_discharge_kw_max, state.p_charge_kw_max
            if not state.available and discharge_kw + charge_kw <= 0.0:
                discharge_kw, charge_kw = battery.p_discharge_kw_max, battery.p_charge_kw_max
            pcs_kw, less_kw = _pcs_kw(params, observed)
            up_kw, down_kw = up_kw + min(discharge_kw, pcs_kw), down_kw + min(charge_kw, less_kw)
            up_later_kw += min(discharge_kw, pcs_kw)
        elif b in forming:
            pcs_kw, less_kw = _pcs_kw(params, observed)
            up_kw += min(discharge_kw, pcs_kw, tapered_kw(battery, state, dt_s))
            up_later_kw += min(discharge_kw, pcs_kw, tapered_kw(battery, state, later_s))
            down_kw += min(charge_kw, less_kw)
        elif b in following:
            follow_up_kw += discharge_kw
            follow_down_kw += charge_kw
    grid, caps = layout.site.grid, observed.caps
    lost_kw = {p: max(0.0, c.pv_kw[p]) for p in observed.pv_uncapped_kw}
    running = tuple(g for g in layout.gensets if c.gensets[g].carries)
    unheard = tuple(g for g, x in c.gensets.items() if x.on_load and not x.heard)
    told = bool(running) or bool(forming) or c.grid_mode is not GridMode.ISLANDED
    if not told:  # the island lives, so they carry it
        running, unheard = unheard, ()
    unheard_kw = sum(c.gensets[g].p_kw for g in unheard)
    step_kw = math.inf if forming or c.grid_mode is not GridMode.ISLANDED else _step_most_kw(layout, c)
    waiting = _waiting(layout, observed.demand_kw, shed, step_kw)
    return Bus(
        mode=c.grid_mode,
        forming_bess=forming,
        following_bess=following,
        running=running,
        unheard=unheard,
        told=told,
        load_kw=observed.power.load_kw,
        pv_kw=observed.power.pv_kw,
        pv_potential_kw=_pv_potential_kw(observed),
        lost_pv_kw=lost_kw,
        surge_kw=sum(max(0.0, most - lost_kw[p]) for p, most in observed.pv_uncapped_kw.items()),
        forming_kw=sum(c.bess[b].p_kw for b in forming),
        up_kw=up_kw,
        up_later_kw=up_later_kw,
        down_kw=down_kw,
        stored_kwh=stored_kwh,
        carries_kwh=carries_kwh,
        genset_kw=observed.power.genset_kw - unheard_kw,
        unheard_kw=unheard_kw,
        genset_rated_kw=sum(layout.gensets[g].p_rated_kw - more_kw(observed, g) for g in running),
        genset_min_kw=sum(layout.gensets[g].p_min_kw for g in running),
        follow_up_kw=follow_up_kw,
        follow_down_kw=follow_down_kw,
        import_cap_kw=grid.p_import_kw_max if caps is None else caps.import_kw,
        export_cap_kw=grid.p_export_kw_max if caps is None else caps.export_kw,
        waiting_kw=sum(observed.demand_kw[f] for f in shed if f in waiting),
        step_most_kw=step_kw,
        inrush=inrush_now(layout, observed, forming, running, waiting),
    )


def _waiting(
    layout: Layout, demand_kw: Mapping[str, float], shed: Mapping[str, FeederShed], step_kw: float
) -> tuple[str, ...]:
    """Feeders that protection holds open and that are no larger a step than `step_kw`, the next one first."""
    held = (f for f in reversed(layout.shed_order) if f in shed and shed[f].protective)
    return tuple(f for f in held if pickup_kw(layout, demand_kw, f) <= step_kw)


def _step_most_kw(layout: Layout, c: PlantCondition) -> float:
    """Largest step of load that gensets alone survive, whoever forms: of one, or of those that share it."""
    sets = [p for g, p in layout.gensets.items() if c.gensets[g].available or c.gensets[g].on_load]
    sharing = [g for g in sets if g.sharing is Sharing.PROPORTIONAL]
    together = min((g.step_load_kw_max / g.p_rated_kw for g in sharing), default=0.0)
    alone_kw = max((g.step_load_kw_max for g in sets), default=0.0)
    return max(alone_kw, together * sum(g.p_rated_kw for g in sharing))


def more_kw(observed: Observed, asset: str) -> float:
    """Three times what the worst phase of a source gives beyond a third; 0 where phases are not read."""
    known = observed.phases.get(asset)
    return 0.0 if known is None else known.more_kw


def _pcs_kw(params: BessParams, observed: Observed) -> tuple[float, float]:
    """What a converter gives and takes while no phase of it is over a third of its rating [kW].

    On a maker's polygon beside as many kvar per kW as a load of that power factor has.
    """
    own, phases = params.pcs.capability, observed.phases.get(params.id)
    gives_kw = takes_kw = PCS_P_RATIO * params.pcs.s_kva
    if own is not None:
        gives_kw, takes_kw = own.along_kw(1.0, KVAR_PER_KW), own.along_kw(-1.0, KVAR_PER_KW)
    if phases is None:
        return gives_kw, takes_kw
    return max(0.0, gives_kw - phases.more_kw), max(0.0, takes_kw - phases.less_kw)


def _carries_kwh(battery: BatteryParams, state: BessCondition, forming: bool) -> float:
    if state.soc_counted is None or not (state.available or forming):
        return usable_kwh(battery, state, battery.soc_min)
    return usable_kwh(battery, replace(state, soc=state.soc_counted, available=True), battery.soc_min)


def tapered_kw(battery: BatteryParams, state: BessCondition, after_s: float) -> float:
    """Discharge limit after `after_s` of the present discharge: near empty it falls as energy is drawn."""
    drawn_kw = max(0.0, state.p_kw) / battery.eta_discharge
    if battery.discharge_curve is not None:
        drawn_kw = -stored_kw(battery, max(0.0, state.p_kw))
    drawn_kwh = drawn_kw * after_s / 3600.0
    return taper_limits_kw(battery, state.soc - drawn_kwh / battery.energy_kwh)[1]


def _pv_potential_kw(observed: Observed) -> float:
    """Available power where it is measured, else the measured output."""
    total_kw = 0.0
    for p, available in observed.pv_available_kw.items():
        measured_kw = observed.condition.pv_kw[p]
        unknown = available is None or p in observed.pv_uncapped_kw
        total_kw += measured_kw if unknown or available is None else max(measured_kw, available)
    return total_kw
