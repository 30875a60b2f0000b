"""The protections' hold on power, by grid mode: POI caps while tied, headroom of what forms in an island.

Each stage takes the controller's wishes and gives back wishes that keep the bus inside its limits, the bounds
every other wish must respect, and what is left that only feeders can solve.
"""

from collections.abc import Mapping

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.bus import Bus
from dispatch.protections.power_blind import blind, blind_meter
from dispatch.protections.power_island import battery_island, genset_island
from dispatch.protections.power_parts import Power, let_in, limit_pv
from dispatch.protections.power_tied import tied
from dispatch.vocabulary import Target, Targets
from ems.commands import Cause
from ems.site import GridMode


def power_stage(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    wishes: Targets,
    runs: Mapping[str, Target],
    step_kw: float,
    room_begun: bool,
    dt_s: float,
) -> Power:
    """Hold the caps and headrooms of the present mode.

    Parameters
    ----------
    wishes : the controller's targets.
    runs : run targets of the gensets after minimum times and emergencies.
    step_kw : load step to expect from feeders that come back; sources that form leave room for it.
    room_begun : sets made room for it in the cycle before.
    """
    out = _by_mode(layout, observed, bus, wishes, runs, step_kw, room_begun, dt_s)
    for b, c in observed.condition.bess.items():
        if not c.available:
            reason = f"{b} is not available: it must come back at zero"
            out.bess[b] = Target(value=0.0, cause=Cause.PROTECTION, reason=reason)
    let_in(layout, observed, out)
    return out


def _by_mode(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    wishes: Targets,
    runs: Mapping[str, Target],
    step_kw: float,
    room_begun: bool,
    dt_s: float,
) -> Power:
    match bus.mode:
        case GridMode.GRID_TIED if observed.meter_ok:
            return tied(layout, observed, bus, wishes, runs, step_kw, dt_s)
        case GridMode.GRID_TIED:
            return blind_meter(layout, observed, bus, wishes, runs)
        case GridMode.ISLANDED if bus.forming_bess:
            return battery_island(layout, observed, bus, wishes, runs, step_kw, room_begun, dt_s)
        case GridMode.ISLANDED if not bus.running:  # no feeder opens because a device is not readable
            return blind(layout, observed, bus, wishes, runs, "nobody is known to form the island")
        case GridMode.ISLANDED:
            return genset_island(layout, observed, bus, wishes, step_kw, dt_s)
        case GridMode.UNKNOWN:
            return blind(layout, observed, bus, wishes, runs, "the grid mode is unknown")
        case GridMode.BLACK:
            out = Power(why="the bus is dead")
            limit_pv(layout, out, bus, 0.0, "the bus is dead")
            return out
