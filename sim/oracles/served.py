"""I13, after every tick: load stays in the dark only while nothing carries it."""

from collections.abc import Sequence

from dispatch.vocabulary import Decisions, Source
from ems.assets import BessParams, GensetParams
from ems.control import ControlMode
from ems.points import BessState, GensetState
from ems.site import Site
from plant_models.state import PlantFlows
from sim.oracles.base import Oracle, TickSeen

QUIET_S = 30.0  # since the last fault
PATIENCE_S = 90.0  # beside the times of sets, breakers and mains
DARK_KW = 1.0
ENOUGH_RATIO = 1.4  # of load and its reserve that sources must carry, before they count as enough
AUTONOMY_H = 4.0  # of all load, that batteries alone must store
SOC_ABOVE = 0.1  # the lowest, for a battery to count
TANK_L_MIN = 50.0
STEP_RATIO = 0.5  # of what a set bears at once


class LoadIsServed(Oracle):
    """I13."""

    id = "I13"
    says = "no load stays in the dark while sources that nothing ails could carry all of it"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        starts_s = [g.start_delay_s for g in site.gensets]
        dwells_s = [f.restore_dwell_s for f in site.feeders]
        self._patience_s = PATIENCE_S + max(starts_s, default=0.0) + max(dwells_s, default=0.0)
        phases = [*(b.pcs.phases for b in site.bess), *(g.phases for g in site.gensets)]
        by_phase = any(p is not None for p in phases)
        self._subtle = by_phase or any(f.inrush_kva > 0.0 for f in site.feeders)
        self._dark_s = self._mains_s = 0.0

    def on_tick(self, t: TickSeen) -> str | None:
        """By the truth of sources and loads; by the edge's word what is locked out and what people hold."""
        f = t.flows
        good = f.mains_present and self.site.grid.v_min_pu <= f.poi_v_pu <= self.site.grid.v_max_pu
        self._mains_s = self._mains_s + t.dt_s if good else 0.0
        dark_kw = sum(f.unserved_kw().values())
        if dark_kw <= DARK_KW or t.quiet_s < QUIET_S or t.decisions is None or not _in_charge(t, t.decisions):
            self._dark_s = 0.0
            return None
        who = self._who_carries(f, t.decisions)
        self._dark_s = 0.0 if who is None else self._dark_s + t.dt_s
        if who is None or self._dark_s <= self._patience_s:
            return None
        return f"{dark_kw:.1f} kW are not served for {self._dark_s:g} s, though {who}"

    def _who_carries(self, f: PlantFlows, d: Decisions) -> str | None:
        demand_kw = sum(f.feeder_demand_kw.values())
        grid = self.site.grid
        if self._mains_s > 0.0 and self._mains_s >= grid.reconnect_dwell_s:
            least_kw = min(x for x in (grid.p_import_kw_max, d.condition.import_cap_kw) if x is not None)
            return "the mains carry it" if ENOUGH_RATIO * demand_kw <= least_kw else None
        if self._subtle or f.mains_present:  # mains that are good for too short a time yet, too
            return None
        policy = self.site.reserve
        pv_kw = sum(f.pv_p_kw.values())
        need_kw = ENOUGH_RATIO * ((1.0 + policy.load_ratio) * demand_kw + policy.pv_ratio * pv_kw)
        bess = [b for b in self.site.bess if _able_battery(b, f, d)]
        sets = [g for g in self.site.gensets if _able_set(g, f, d)]
        if (
            bess
            and sum(_most_kw(b, f) for b in bess) >= need_kw
            and _stored_kwh(bess, f) >= AUTONOMY_H * demand_kw
        ):
            return f"{', '.join(b.id for b in bess)} could"
        if sum(g.p_rated_kw for g in sets) < need_kw or not (bess or self._steps_are_small(sets, f)):
            return None
        return f"{', '.join([*(g.id for g in sets), *(b.id for b in bess)])} could"

    def _steps_are_small(self, sets: Sequence[GensetParams], f: PlantFlows) -> bool:
        """Each feeder's return is a step that any of the sets bears alone."""
        step_kw = min(g.step_load_kw_max for g in sets)
        return all(
            x.pickup_ratio * f.feeder_demand_kw[x.id] <= STEP_RATIO * step_kw for x in self.site.feeders
        )


def _in_charge(t: TickSeen, d: Decisions) -> bool:
    """The edge may do everything it would."""
    if t.held_safe or d.ladder.rung in (Source.HOLD_SAFE, Source.RELEASED):
        return False
    return d.plant_control is ControlMode.AUTO and all(m is ControlMode.AUTO for m in d.control.values())


def _able_battery(b: BessParams, f: PlantFlows, d: Decisions) -> bool:
    there = f.bess_state[b.id] is not BessState.TRIPPED and d.condition.bess[b.id].available
    return there and f.bess_soc[b.id] >= b.battery.soc_min + SOC_ABOVE


def _most_kw(b: BessParams, f: PlantFlows) -> float:
    """What it could give; its BMS tells nothing while the converter is off [kW]."""
    if f.bess_state[b.id] is BessState.OFF:
        return min(b.battery.p_discharge_kw_max, b.pcs.s_kva)
    return f.bess_p_discharge_kw_max[b.id]


def _stored_kwh(bess: Sequence[BessParams], f: PlantFlows) -> float:
    return sum((f.bess_soc[b.id] - b.battery.soc_min) * b.battery.energy_kwh for b in bess)


def _able_set(g: GensetParams, f: PlantFlows, d: Decisions) -> bool:
    there = f.genset_state[g.id] is not GensetState.LOCKED_OUT and f.genset_tank_l[g.id] >= TANK_L_MIN
    on = f.genset_state[g.id] is GensetState.RUNNING
    return there and (on or d.condition.gensets[g.id].available)
