"""Readings of one snapshot: states, powers and breakers, with what stands in for a missing one."""

import math
from collections.abc import Mapping
from typing import TypeVar

from dispatch.layout import Layout
from dispatch.state import GensetSeen, ObserverMemory
from dispatch.vocabulary import PowerBalance
from ems.points import BessState, GensetState
from ems.site import GridMode
from ems.telemetry import Snapshot

BESS_STATES = tuple(BessState)
GENSET_STATES = tuple(GensetState)
DEMAND_TAU_S = 60.0
_S = TypeVar("_S")


def state_of(snapshot: Snapshot, point: str, states: tuple[_S, ...]) -> _S | None:
    """A state register as its name; None where there is no good, whole number of the list."""
    value = snapshot.value(point)
    if value is None or value != math.floor(value) or not 0 <= value < len(states):
        return None
    return states[int(value)]


def powers(
    layout: Layout, memory: ObserverMemory, snapshot: Snapshot, gensets: Mapping[str, GensetSeen]
) -> tuple[dict[str, float], list[str], PowerBalance]:
    """Measured powers and their sums.

    One source that is not read gives what the others leave of the load, where everything else is read.
    Else, and for feeders, the last good reading stands; 0 of a genset that cannot be on load any more.
    """
    good = dict(memory.last_good)
    good |= _left_over(layout, memory, snapshot)
    gone = {g for g, x in gensets.items() if x.gone}
    substituted: list[str] = []
    sums = dict.fromkeys(("feeder", "pv", "genset", "bess"), 0.0)
    groups = (
        ("feeder", layout.feeders),
        ("pv", layout.pv),
        ("genset", layout.gensets),
        ("bess", layout.bess),
    )
    for kind, assets in groups:
        for asset in assets:
            point = layout.p[asset]
            value = snapshot.value(point)
            if value is None:
                substituted.append(point)
                value = 0.0 if asset in gone else good.get(point, 0.0)
            good[point] = value
            sums[kind] += value
    grid_kw = snapshot.value(layout.p[layout.site.grid.id])
    sources = sums["pv"] + sums["genset"] + sums["bess"]
    if grid_kw is None:
        substituted.append(layout.p[layout.site.grid.id])
        grid_kw = sums["feeder"] - sources
    power = PowerBalance(
        load_kw=sources + grid_kw,
        pv_kw=sums["pv"],
        genset_kw=sums["genset"],
        bess_kw=sums["bess"],
        grid_kw=grid_kw,
        measured=not substituted,
    )
    return good, substituted, power


def _left_over(layout: Layout, memory: ObserverMemory, snapshot: Snapshot) -> dict[str, float]:
    """The power of the one source that is not read, by its point; none where more are missing or one lies."""
    if not layout.feeders or memory.balance.suspect:
        return {}
    read = {a: snapshot.value(layout.p[a]) for a in layout.metered}
    missing = [a for a, kw in read.items() if kw is None]
    if len(missing) != 1 or missing[0] in layout.feeders or missing[0] == layout.site.grid.id:
        return {}
    load_kw = sum(b.battery.aux_kw for b in layout.bess.values())
    load_kw += sum(kw for a, kw in read.items() if kw is not None and a in layout.feeders)
    fed_kw = sum(kw for a, kw in read.items() if kw is not None and a not in layout.feeders)
    left_kw = load_kw - fed_kw
    # Readings of one moment are not of one instant: only a battery is believed to take power by that.
    return {layout.p[missing[0]]: left_kw if missing[0] in layout.bess else max(0.0, left_kw)}


def is_closed(layout: Layout, memory: ObserverMemory, snapshot: Snapshot, feeder: str) -> bool:
    """Whether a feeder is closed: as read, else as last read; without a breaker always."""
    value = snapshot.value(f"{feeder}.closed")
    if value is not None:
        return value >= 0.5
    if not layout.feeders[feeder].has_breaker:
        return True
    return memory.last_good.get(f"{feeder}.closed", 1.0) >= 0.5


def feeder_demand(
    layout: Layout,
    memory: ObserverMemory,
    feeder_kw: Mapping[str, float],
    closed: Mapping[str, bool],
    alive: bool | None,
    now_s: float,
) -> dict[str, float]:
    """Load of each feeder while fed; its last load while open, half its peak when never seen.

    It rises at once and falls slowly: the moment in which a feeder drops out does not erase its demand.
    """
    elapsed_s = now_s - memory.last_s if memory.last_s is not None else 0.0
    out = {}
    for feeder, params in layout.feeders.items():
        if closed[feeder] and alive is not False:
            known_kw = memory.feeder_demand_kw.get(feeder, 0.0)
            fall = min(1.0, elapsed_s / DEMAND_TAU_S)
            out[feeder] = max(0.0, feeder_kw[feeder], known_kw + (feeder_kw[feeder] - known_kw) * fall)
        else:
            out[feeder] = memory.feeder_demand_kw.get(feeder, 0.5 * params.p_peak_kw)
    return out


def drawn_kvar(layout: Layout, snapshot: Snapshot, mode: GridMode, feeder_kw: Mapping[str, float]) -> float:
    """Reactive power drawn from the grid: measured, else that of the fed load by its power factor [kvar]."""
    if mode is not GridMode.GRID_TIED:
        return 0.0
    measured = snapshot.value(f"{layout.site.grid.id}.q_kvar")
    if measured is not None:
        return max(0.0, measured)
    cosines = {f: layout.feeders[f].power_factor_ratio for f in feeder_kw}
    return math.fsum(kw * math.tan(math.acos(cosines[f])) for f, kw in feeder_kw.items())
