"""The site's AC bus: who forms it, what happens when that source is lost, what is connected to it.

`Work` is the plant during one step: the only mutable thing in this package, made from a PlantState and
turned back into one. `switch` does everything that takes no time; `horizon_s` says how long nothing switches.
"""

import math
from dataclasses import dataclass, replace

from ems.assets import BessParams, FeederParams, GensetParams, PvParams
from ems.points import BessState, GensetState
from ems.site import Site
from plant_models import battery, genset, load, pcs, pv
from plant_models.genset import GensetUnit
from plant_models.grid import impedance_pu_per_kw, nominal_f_hz, usable
from plant_models.load import FeederSwitch
from plant_models.pcs import BessUnit
from plant_models.pv import PvUnit
from plant_models.state import PlantInput, PlantState, Violation

FINE_S = 1.0  # transients are resolved at this step
ISLAND_S = 60.0  # longest step in an island, and while a battery is near an edge of its window
_EPS = 1e-9
_RUNNING = GensetState.RUNNING
_STOPPED = GensetState.STOPPED
_SYNC = GensetState.SYNCHRONISING
_LOCKED = GensetState.LOCKED_OUT
_FORMING = BessState.FORMING
_FOLLOWING = BessState.FOLLOWING


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """What a step needs of a site, worked out once."""

    site: Site
    bess: dict[str, BessParams]
    gensets: dict[str, GensetParams]
    pv: dict[str, PvParams]
    feeders: dict[str, FeederParams]
    r_pu: float
    x_pu: float
    f_nominal_hz: float
    tan_phi_ratio: dict[str, float]
    fuel_kw_l_h: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]
    idle_l_h: dict[str, float]
    order: tuple[str, ...]  # who may form an island, best first


def tables(site: Site) -> Tables:
    """Work out the tables of a site.

    A BESS may form when its converter can and `site.forming.islanded` lists it; every genset may, those not
    listed last.
    """
    listed = site.forming.islanded
    able = {b.id for b in site.bess if b.pcs.can_form} | {g.id for g in site.gensets}
    rest = [g.id for g in site.gensets if g.id not in listed]
    r_pu, x_pu = impedance_pu_per_kw(site.grid)
    return Tables(
        site=site,
        bess={b.id: b for b in site.bess},
        gensets={g.id: g for g in site.gensets},
        pv={p.id: p for p in site.pv},
        feeders={f.id: f for f in site.feeders},
        r_pu=r_pu,
        x_pu=x_pu,
        f_nominal_hz=nominal_f_hz(site.grid),
        tan_phi_ratio={f.id: load.tan_phi(f) for f in site.feeders},
        fuel_kw_l_h={g.id: genset.fuel_points(g) for g in site.gensets},
        idle_l_h={g.id: genset.no_load_l_h(g) for g in site.gensets},
        order=tuple([i for i in listed if i in able] + rest),
    )


class Work:
    """The plant in the middle of a step."""

    __slots__ = (
        "bess", "closed", "dip_s", "failed", "feeders", "forming", "gensets", "good_s", "inputs", "pv",
        "pv_open", "starts", "t", "usable", "violations",
    )  # fmt: skip

    def __init__(self, t: Tables, state: PlantState, inputs: PlantInput) -> None:
        self.t = t
        self.inputs = inputs
        self.bess: dict[str, BessUnit] = dict(state.bess)
        self.gensets: dict[str, GensetUnit] = dict(state.gensets)
        self.pv: dict[str, PvUnit] = dict(state.pv)
        self.feeders: dict[str, FeederSwitch] = dict(state.feeders)
        self.closed = state.grid_closed
        self.good_s = state.mains_good_s
        self.dip_s = state.transfer_left_s
        self.forming = state.forming
        self.pv_open = inputs.faults.pv_tripped | inputs.pv_trip_request
        self.usable = usable(t.site.grid, inputs.mains_present, inputs.mains_v_pu, inputs.mains_f_hz)
        self.begin()

    def begin(self) -> None:
        """Forget what the piece before has counted."""
        self.starts = dict.fromkeys(self.gensets, 0)
        self.failed = dict.fromkeys(self.gensets, 0)
        self.violations: list[Violation] = []

    def state(self) -> PlantState:
        """Freeze; this object is not to be used afterwards."""
        return PlantState(
            bess=self.bess,
            gensets=self.gensets,
            pv=self.pv,
            feeders=self.feeders,
            grid_closed=self.closed,
            mains_good_s=self.good_s,
            transfer_left_s=self.dip_s,
            forming=self.forming,
        )


# --- what takes no time -----------------------------------------------------------------------------------


def refuel(w: Work) -> None:
    """Deliveries into the tanks; what does not fit is not taken."""
    for i, litres in w.inputs.refuel_l.items():
        w.gensets[i] = replace(w.gensets[i], tank_l=min(w.t.gensets[i].tank_l, w.gensets[i].tank_l + litres))


def switch(w: Work) -> None:
    """All switching due now: faults, mains, gensets, forming source, feeders."""
    faults = w.inputs.faults
    if faults.genset_tripped or faults.genset_reset or faults.bess_tripped or faults.pv_tripped:
        _faults(w)
    for i in w.inputs.pv_trip_request:
        w.pv[i] = pv.TRIPPED
    _reverse_relays(w)
    if w.closed:
        tolerated = w.inputs.mains_present and not w.inputs.poi_relay
        if not (w.usable or tolerated) or w.inputs.poi_open_request:
            lose_mains(w, planned=w.usable)
    elif w.usable and w.good_s >= w.t.site.grid.reconnect_dwell_s - _EPS and _may_close(w):
        _connect(w)
    _requests(w)
    _wake_bess(w)
    if w.forming is None:
        _form_dead_bus(w)
    elif not w.closed:
        _keep_forming(w)
    _synchronise(w)
    _feeders(w)


def _may_close(w: Work) -> bool:
    return w.inputs.poi_close_permit and not w.inputs.poi_open_request


def lose_mains(w: Work, *, planned: bool = False) -> None:
    """The POI breaker opens; a ready source forms the island after the transfer, else the bus is dead.

    Opened in a planned way, with the mains still there, the source is told beforehand: no dip.
    """
    w.closed = False
    w.good_s = 0.0
    _hand_over(w, dip=not planned)


def black_out(w: Work, *, overload: bool) -> None:
    """The bus is dead: every source leaves it, PV trips, feeders with breakers drop out."""
    w.forming = None
    w.dip_s = 0.0
    for i, b in w.bess.items():
        if b.on:
            w.bess[i] = pcs.tripped(w.t.bess[i].pcs, b, fault=overload and b.mode is _FORMING)
    for i, g in w.gensets.items():
        if g.phase is _RUNNING:
            w.gensets[i] = genset.opened(g, tripped=overload)
    for i in w.pv:
        w.pv[i] = pv.TRIPPED
    _feeders(w)


def _faults(w: Work) -> None:
    faults = w.inputs.faults
    for i in faults.genset_tripped:
        if w.gensets[i].phase is not _LOCKED:
            w.gensets[i] = genset.locked_out(w.gensets[i])
    for i in faults.genset_reset - faults.genset_tripped:
        if w.gensets[i].phase is _LOCKED:
            w.gensets[i] = genset.at_rest(w.gensets[i])
    for i in faults.bess_tripped:
        w.bess[i] = pcs.tripped(w.t.bess[i].pcs, w.bess[i], fault=True)
    for i in faults.pv_tripped:
        w.pv[i] = pv.TRIPPED


def _reverse_relays(w: Work) -> None:
    """A set that was driven backwards for too long opens its breaker and locks out."""
    for i, g in w.gensets.items():
        if g.reverse_s > 0.0 and genset.reverse_tripped(w.t.gensets[i], g):
            w.gensets[i] = genset.locked_out(g)


def _connect(w: Work) -> None:
    """The POI breaker closes, synchronised; the grid forms from now on."""
    w.closed = True
    w.good_s = 0.0
    w.dip_s = 0.0
    for i, b in w.bess.items():
        if b.mode is _FORMING:
            w.bess[i] = BessUnit(_FOLLOWING, b.stored_kwh)
    w.forming = w.t.site.grid.id


def _requests(w: Work) -> None:
    """Gensets: their own mains-failure logic and the EMS's requests; an unloaded set opens its breaker."""
    wants = w.inputs.genset_run_request
    dead = w.forming is None and not w.usable
    for i, unit in w.gensets.items():
        asked = wants.get(i, False)
        if unit.phase is _STOPPED and not asked and not unit.own_start and unit.dead_s == 0.0:
            continue
        params = w.t.gensets[i]
        unit = _own_start(params, unit, dead, asked or w.closed)
        wanted = asked or unit.own_start
        keep = not (wanted or w.closed) and params.mains_failure_start and not _other_source(w, i)
        unit = genset.request(params, unit, wanted, not keep)
        if unit.unloading and unit.p_kw <= _EPS and (w.closed or w.forming != i):
            unit = genset.opened(unit, tripped=False)
        w.gensets[i] = unit


def _own_start(params: GensetParams, unit: GensetUnit, dead: bool, released: bool) -> GensetUnit:
    """Mains-failure logic on bus voltage: starts after its delay, until the EMS or the grid takes over.

    With the mains away but the bus alive it leaves the decision to the EMS. The delay counts the time without
    voltage of one mains failure: a source that comes up and fails again and again does not set it back.
    """
    if released:
        return replace(unit, dead_s=0.0, own_start=False) if unit.dead_s > 0.0 or unit.own_start else unit
    due = dead and params.mains_failure_start and unit.dead_s >= params.mains_failure_delay_s - _EPS
    return replace(unit, own_start=True) if due and not unit.own_start else unit


def _other_source(w: Work, genset_id: str) -> bool:
    """Whether the bus would keep a source if this set left it."""
    for i in w.t.order:
        if i in w.bess:
            if w.bess[i].on:
                return True
        elif i != genset_id and w.gensets[i].phase is _RUNNING and not w.gensets[i].unloading:
            return True
    return False


def _wake_bess(w: Work) -> None:
    """A converter that has waited its restart time follows a live bus."""
    if w.forming is None:
        return
    for i, b in w.bess.items():
        if not b.on and b.restart_left_s <= _EPS and i not in w.inputs.faults.bess_tripped:
            w.bess[i] = BessUnit(_FOLLOWING, b.stored_kwh)


def _form_dead_bus(w: Work) -> None:
    """First source that is ready: a BESS after its restart time, a genset that only waits to close."""
    for i in w.t.order:
        if i in w.bess:
            b = w.bess[i]
            if b.restart_left_s > _EPS or i in w.inputs.faults.bess_tripped:
                continue
            if bess_bounds_kw(w, i, FINE_S)[1] > 0.0:
                w.bess[i] = BessUnit(_FORMING, b.stored_kwh)
                w.forming = i
                return
        elif w.gensets[i].phase is _SYNC:
            w.gensets[i] = replace(genset.close(w.gensets[i]), loading=False)
            w.forming = i
            return


def bess_bounds_kw(w: Work, bess_id: str, dt_s: float) -> tuple[float, float]:
    """(lowest, highest) power of a battery over the next `dt_s`, its derating included [kW]."""
    low, high = battery.bounds_kw(w.t.bess[bess_id].battery, w.bess[bess_id].stored_kwh, dt_s)
    ratio = w.inputs.faults.bess_limit_ratio.get(bess_id)
    return (low, high) if ratio is None else (ratio * low, ratio * high)


def _keep_forming(w: Work) -> None:
    """Replace a forming source that tripped or is asked to stop."""
    old = w.forming
    if old in w.bess:
        if w.bess[old].mode is not _FORMING:
            _hand_over(w, dip=True)
        return
    unit = w.gensets[old] if old is not None else None
    if unit is None or (unit.phase is _RUNNING and not unit.unloading):
        return
    _hand_over(w, dip=unit.phase is not _RUNNING)


def _hand_over(w: Work, *, dip: bool) -> None:
    """Give the bus to the best source on it.

    A converter needs the transfer time unless the change is planned; loss of the mains costs it in any case.
    """
    mains_lost = w.forming == w.t.site.grid.id
    for i in w.t.order:
        if i in w.bess:
            if w.bess[i].mode is _FOLLOWING:
                w.bess[i] = BessUnit(_FORMING, w.bess[i].stored_kwh)
                w.forming = i
                w.dip_s = w.t.site.grid.transfer_s if dip else 0.0
                return
        elif w.gensets[i].phase is _RUNNING and not w.gensets[i].unloading:
            w.gensets[i] = replace(w.gensets[i], loading=False)
            w.forming = i
            w.dip_s = w.t.site.grid.transfer_s if mains_lost and dip else 0.0
            return
    black_out(w, overload=False)


def _synchronise(w: Work) -> None:
    """Gensets close onto a live bus when they have synchronised."""
    if w.forming is None or w.dip_s > 0.0:
        return
    for i, g in w.gensets.items():
        if g.phase is _SYNC and g.timer_s >= w.t.gensets[i].synchronise_s - _EPS:
            w.gensets[i] = genset.close(g)


def _feeders(w: Work) -> None:
    alive = w.forming is not None
    asked = w.inputs.feeder_close
    for i, f in w.feeders.items():
        if not alive or not asked.get(i, True):
            w.feeders[i] = load.switch(w.t.feeders[i], f, asked.get(i, True), alive)


# --- how long nothing switches ----------------------------------------------------------------------------


def horizon_s(w: Work, left_s: float) -> float:
    """Longest step, at most `left_s`, in which no timer runs out and no transient hides [s]."""
    if w.dip_s > 0.0:
        return min(left_s, w.dip_s)
    if left_s <= FINE_S:
        return left_s
    h = left_s
    if not w.closed:
        h = min(h, ISLAND_S)
        if w.usable:
            h = min(h, max(FINE_S, w.t.site.grid.reconnect_dwell_s - w.good_s))
    for i, g in w.gensets.items():
        h = min(h, _genset_horizon_s(w, i, g))
    alive = w.forming is not None
    for i, b in w.bess.items():
        h = min(h, _bess_horizon_s(w, i, b, h))
    if alive:
        for i, p in w.pv.items():
            if not p.producing and i not in w.pv_open:
                h = min(h, w.t.pv[i].reconnect_s - p.healthy_s)
        for i, f in w.feeders.items():
            if not f.closed and w.inputs.feeder_close.get(i, True):
                h = min(h, w.t.feeders[i].restore_dwell_s - f.dwell_s)
    return min(left_s, max(h, 1e-3))


def _genset_horizon_s(w: Work, i: str, g: GensetUnit) -> float:
    params = w.t.gensets[i]
    if g.phase is _STOPPED or g.phase is _LOCKED:
        waiting = w.forming is None and not w.usable and params.mains_failure_start and not g.own_start
        left = params.mains_failure_delay_s - g.dead_s
        return left if waiting and left > 0.0 else math.inf
    if g.phase is not _RUNNING:
        left = genset.phase_length_s(params, g.phase) - g.timer_s
        return left if left > 0.0 else FINE_S
    rate = max(w.t.fuel_kw_l_h[i][1][-1], _EPS)  # the fuel end is near only if even full load could reach it
    h = max(FINE_S, g.tank_l / (1.2 * rate) * 3600.0)
    return min(h, max(g.p_kw / params.ramp_kw_s, 1e-3)) if g.unloading else h


def _bess_horizon_s(w: Work, i: str, b: BessUnit, h: float) -> float:
    if not b.on:
        return b.restart_left_s if b.restart_left_s > 0.0 else math.inf
    params = w.t.bess[i].battery
    p_set = w.inputs.bess_p_set_kw.get(i, 0.0)
    soc = b.stored_kwh / params.energy_kwh
    end = soc - 1.1 * p_set * h / 3600.0 / params.energy_kwh
    if p_set < 0.0:
        near = end > params.soc_taper_high and soc < params.soc_max - 1e-6
    else:
        near = p_set > 0.0 and end < params.soc_taper_low and soc > params.soc_min + 1e-6
    return ISLAND_S if near else math.inf
