"""What holds at the POI now: caps of the contract, of the hour, told to the plant; and what is owed to them.

A cap is met on the mean of half a minute. What a trip or a cloud put beyond it inside one cycle is given back
in the seconds after, within a fifth of the rating. The same makes up for a battery that gives a little less
than it is asked for: what is left at the meter is owed until it is gone. It forgets after half a minute, so
that there is no integral to wind up.
"""

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.observing.phases import Phases
from dispatch.protections.balancing_memory import PoiCaps, PoiMemory
from ems.frozen import replace
from ems.local_time import local_time
from ems.poi import CapWindow
from ems.site import GridMode
from ems.telemetry import Snapshot

MEAN_S = 30.0
GIVE_BACK_S = 10.0  # longer than any dead time of meter and actuator together
OWED_RATIO = 0.2  # of the POI's rating, at most
FAST_S = 3.0  # longer cycles see too little of half a minute
METER_AGE_S = 3.0  # an older reading is none; not to be configured
METER_CYCLES = 2.5  # ... unless cycles are longer than that


def at_poi(
    layout: Layout, memory: PoiMemory, snapshot: Snapshot, observed: Observed, dt_s: float
) -> tuple[PoiMemory, Observed]:
    """The observation with the caps that hold, and a meter that counts as lost when its reading is old.

    `layout` has the contract and, where it is lower, what authority says is told now: nothing of what is told
    is remembered here, so that a limit that is lifted is gone in the same cycle.
    """
    grid, c = layout.site.grid, observed.condition
    windows = [w for w in grid.caps if in_force(layout, snapshot, w)]
    import_kw = _least(grid.p_import_kw_max, *(w.p_import_kw_max for w in windows))
    export_kw = _least(grid.p_export_kw_max, observed.export_kw_max, *(w.p_export_kw_max for w in windows))
    import_kw, export_kw = _on_each_phase(layout, observed.phases.get(grid.id), import_kw, export_kw)
    now_s = snapshot.monotonic_s
    reading = snapshot.readings.get(layout.p[grid.id])
    fresh = reading is not None and now_s - reading.arrived_s <= max(METER_AGE_S, METER_CYCLES * dt_s)
    meter_ok = observed.meter_ok and fresh
    over = tuple(x for x in memory.over if now_s - MEAN_S < x[0] < now_s)
    if c.grid_mode is not GridMode.GRID_TIED or dt_s > FAST_S:
        over = ()
    elif meter_ok and c.grid_p_kw is not None:
        over = (*over, (now_s, c.grid_p_kw - import_kw, -c.grid_p_kw - export_kw))
    most_kw = OWED_RATIO * max(grid.p_import_kw_max, grid.p_export_kw_max)
    owed_kw = [min(most_kw, max(0.0, sum(x[i] for x in over) * dt_s / GIVE_BACK_S)) for i in (1, 2)]
    caps = PoiCaps(
        import_kw=import_kw, export_kw=export_kw, owed_import_kw=owed_kw[0], owed_export_kw=owed_kw[1]
    )
    return PoiMemory(over=over), replace(observed, caps=caps, meter_ok=meter_ok)


def in_force(layout: Layout, snapshot: Snapshot, window: CapWindow) -> bool:
    """Whether lower caps hold now; where nobody knows what time it is, whether they may.

    Those of local hours hold all day then, so that the tightest of each direction holds.
    """
    now = snapshot.calendar
    if now is not None:
        local = local_time(now, layout.zone)
        return window.holds(local, layout.site.tariff.day_type(local))
    if window.start is None or window.end is None:
        return True
    return snapshot.may_be(window.start, window.end)


def _on_each_phase(
    layout: Layout, phases: Phases | None, import_kw: float, export_kw: float
) -> tuple[float, float]:
    """Caps on the total that keep the worst phase inside a third of them, and inside its current [kW].

    An export cap may turn into import that must be there, as far as the import cap lets it.
    """
    params = layout.phased.get(layout.site.grid.id)
    if phases is None or params is None:
        return import_kw, export_kw
    if params.worst:
        import_kw, export_kw = import_kw - phases.more_kw, export_kw - phases.less_kw
    import_kw = max(0.0, min(import_kw, phases.most_kw))
    return import_kw, max(-import_kw, min(export_kw, -phases.least_kw))


def _least(contract_kw: float, *others_kw: float | None) -> float:
    """The lowest cap; a negative one is none at all."""
    return max(0.0, min([contract_kw, *(kw for kw in others_kw if kw is not None)]))
