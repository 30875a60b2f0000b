"""Whether a unit may be used: decided here alone, from everything that is known against it.

Each part of the edge that finds something out about a unit (its readings, its requests, the check of effect,
the observer of its charge) adds a state; none takes one away. A unit is available while none of its states
blocks, and the states are what is shown and recorded.
"""

from collections.abc import Mapping, Sequence

from dispatch.layout import Layout
from dispatch.state import GensetRequest
from ems.assets import BatteryParams
from ems.condition import UnitState
from ems.points import BessState, GensetState
from ems.telemetry import Quality, Snapshot
from plant_models.battery import taper_limits_kw

DERATED_RATIO = 0.9  # of what the battery gives at this charge by its data sheet, or of a genset's rating
Marks = Mapping[str, tuple[UnitState, ...]]  # by unit: what other parts of the edge have found out
NO_MARKS: Marks = {}
UNIT_STATES = tuple(UnitState)


def bess_states(
    layout: Layout,
    snapshot: Snapshot,
    bess: str,
    state: BessState | None,
    limits_kw: tuple[float | None, float | None],
    marks: Marks = NO_MARKS,
) -> tuple[UnitState, ...]:
    """What is the matter with a battery system; `limits_kw`: its live limits of charge and discharge."""
    out = [*_readings(layout, snapshot, bess), *marks.get(bess, ())]
    charge, discharge = limits_kw
    soc = snapshot.value(f"{bess}.soc")
    if state is None or soc is None or charge is None or discharge is None:
        out.append(UnitState.UNREADABLE)
    if state is BessState.OFF:
        out.append(UnitState.OFF)
    if state is BessState.TRIPPED:
        out.append(UnitState.TRIPPED)
    if soc is not None and charge is not None and discharge is not None:
        out += _derated(layout.bess[bess].battery, soc, charge, discharge)
    return each_once(out)


def _derated(battery: BatteryParams, soc: float, charge_kw: float, discharge_kw: float) -> list[UnitState]:
    """Less than the tapers at this charge explain. Near either end of the window nothing can be told."""
    inside = battery.soc_min + 0.02 < soc < battery.soc_max - 0.02
    by_data_kw = taper_limits_kw(battery, soc)
    less = charge_kw < DERATED_RATIO * by_data_kw[0] or discharge_kw < DERATED_RATIO * by_data_kw[1]
    return [UnitState.DERATED] if inside and less else []


def genset_states(
    layout: Layout,
    snapshot: Snapshot,
    genset: str,
    state: GensetState | None,
    request: GensetRequest | None,
    marks: Marks = NO_MARKS,
    *,
    stands: bool = True,
) -> tuple[UnitState, ...]:
    """What is the matter with a genset. Fuel is no matter: a bad sensor never blocks a needed start.

    `stands`: it neither runs nor starts, so that somebody may be at it.
    """
    out = [*_readings(layout, snapshot, genset), *marks.get(genset, ())]
    if state is None:
        out.append(UnitState.UNREADABLE)
    if state is GensetState.LOCKED_OUT:
        out.append(UnitState.LOCKED_OUT)
    if request is not None and (request.late or request.overdue):
        out.append(UnitState.START_FAILED)
    if request is not None and request.reset_why is not None:
        out.append(UnitState.RESET_NEEDED)
    if in_maintenance(layout, genset, snapshot, stands=stands):
        out.append(UnitState.MAINTENANCE)
    return each_once(out)


def in_maintenance(layout: Layout, asset: str, snapshot: Snapshot, *, stands: bool) -> bool:
    """Whether somebody works on the unit: it is not started then, whatever else happens.

    Where nobody knows what time it is, somebody may: then each window holds that it may be in, for a unit
    that `stands`. At one that runs nobody works, and it is not taken from the bus for a doubt.
    """
    if snapshot.calendar is None and not stands:
        return False
    return any(m.asset == asset and snapshot.may_be(m.start, m.end) for m in layout.site.maintenance)


def pv_states(layout: Layout, snapshot: Snapshot, pv: str, marks: Marks = NO_MARKS) -> tuple[UnitState, ...]:
    """What is the matter with a PV plant."""
    out = [*_readings(layout, snapshot, pv), *marks.get(pv, ())]
    state = snapshot.value(layout.state[pv])
    if state is None:
        out.append(UnitState.UNREADABLE)
    elif state < 0.5:
        out.append(UnitState.OFF)
    return each_once(out)


def _readings(layout: Layout, snapshot: Snapshot, asset: str) -> list[UnitState]:
    """Offline, or frozen by what the door says of the readings that count."""
    out = []
    good, readings = snapshot.good.keys(), snapshot.readings
    if good.isdisjoint(layout.reads[asset]):
        out.append(UnitState.OFFLINE)
    bad = [p for p in layout.needed[asset] if p not in good]
    if bad and any(p in readings and readings[p].quality is Quality.FROZEN for p in bad):
        out.append(UnitState.FROZEN)
    return out


def each_once(states: Sequence[UnitState]) -> tuple[UnitState, ...]:
    """In the order of the vocabulary."""
    if not states:
        return ()
    return tuple(s for s in UNIT_STATES if s in states)
