"""What real-time balancing makes of an observation: caps that hold, load of one age."""

from collections.abc import Mapping

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.observing.duty import duty_alarms
from dispatch.observing.fuel_watch import fuel_alarms, fuelled
from dispatch.observing.phases import phase_alarms, phases_now
from dispatch.observing.pv_lost import pv_alarms, told_most_kw, unsure_since, with_lost
from dispatch.observing.pv_return import ceilings_kw, with_ceilings, within_ramps
from dispatch.observing.soc_guard import soc_alarms
from dispatch.protections.balance import FULL_BAND_SOC
from dispatch.protections.balancing_memory import BalancingMemory, SocWatch
from dispatch.protections.net_demand import aligned
from dispatch.protections.poi import at_poi
from dispatch.protections.poi_meter import hold_load, watch_meter
from dispatch.protections.voltage import by_voltage, voltage_alarms
from dispatch.state import EdgeState
from dispatch.vocabulary import Alarm
from ems.frozen import replace
from ems.telemetry import Snapshot


def second_look(
    layout: Layout,
    state: EdgeState,
    snapshot: Snapshot,
    observed: Observed,
    soc: Mapping[str, SocWatch],
    dt_s: float,
    *,
    shadow: bool = False,
) -> tuple[BalancingMemory, Observed]:
    """The observation decisions are made on.

    Parameters
    ----------
    layout : with the caps authority leaves.
    soc : the charges as counted until now.
    dt_s : how long the decisions will stand [s].
    shadow : nothing is commanded, so that no meter can be judged by whether it answers.
    """
    before = state.balancing
    fuel, observed = fuelled(layout, before.fuel, observed, state.observer.passed_s(snapshot))
    unsure_s = unsure_since(layout, before.pv_unsure_s, state.written, snapshot.monotonic_s)
    told_kw = told_most_kw(layout, before.pv_told_kw, state.written)
    observed = with_lost(layout, unsure_s, told_kw, state.written, snapshot, observed, dt_s)
    ceiling_kw = ceilings_kw(layout, before.pv_ceiling_kw, observed, dt_s)
    observed = with_ceilings(observed, ceiling_kw)
    observed = within_ramps(layout, state.written, snapshot, observed, dt_s)
    phases = phases_now(layout, before.phases, snapshot) if layout.phased else {}
    observed = replace(observed, phases=phases) if layout.phased else observed
    full = full_now(layout, before.full, observed)
    observed = replace(observed, full=full) if full else observed
    commanded = {} if shadow else state.written
    meter, observed = watch_meter(layout, before.meter, snapshot, observed, commanded, dt_s)
    voltage, observed = by_voltage(layout, before.voltage, snapshot, observed, dt_s)
    poi, observed = at_poi(layout, before.poi, snapshot, observed, dt_s)
    sent = {p: w.value for p, w in state.written.items()}
    net_demand, observed = aligned(layout, before.net_demand, observed, sent, snapshot.monotonic_s, dt_s)
    meter, observed = hold_load(meter, observed)
    after = BalancingMemory(
        net_demand=net_demand,
        soc=soc,
        fuel=fuel,
        poi=poi,
        meter=meter,
        phases=phases,
        voltage=voltage,
        full=full,
        pv_unsure_s=unsure_s,
        pv_told_kw=told_kw,
        pv_ceiling_kw=ceiling_kw,
    )
    return after, observed


def full_now(layout: Layout, before: frozenset[str], observed: Observed) -> frozenset[str]:
    """Batteries that came to full, until their charge is a little lower.

    Without this the noise of a reading at the edge of full is a room of hundreds of kW in one cycle and none
    in the next, and battery and PV take turns.
    """
    out = set()
    for b, c in observed.condition.bess.items():
        soc = c.soc if c.soc_high is None else c.soc_high
        if soc >= layout.bess[b].battery.soc_max - (FULL_BAND_SOC if b in before else 0.0):
            out.add(b)
    return frozenset(out)


def balance_alarms(layout: Layout, memory: BalancingMemory, observed: Observed) -> tuple[Alarm, ...]:
    """Readings of charge and fuel that are wrong, tanks that will be empty, runs that gensets ask for."""
    told = (*soc_alarms(memory.soc), *fuel_alarms(layout, memory.fuel, observed.condition.gensets))
    return (
        *told,
        *duty_alarms(layout.gensets, observed.condition),
        *pv_alarms(observed),
        *phase_alarms(layout, memory.phases),
        *voltage_alarms(layout, observed),
    )
