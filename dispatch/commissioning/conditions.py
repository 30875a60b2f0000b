"""When a setpoint may be probed at all. Kept by code, whatever an engineer agrees to."""

from dispatch.layout import Layout
from dispatch.vocabulary import Decisions, Source
from ems.control import ControlMode
from ems.points import AssetKind
from ems.site import GridMode
from ems.telemetry import Snapshot

SOC_LOW, SOC_HIGH = 0.30, 0.70
PROBED = ("p_set_kw", "p_limit_kw")  # never a breaker, a start of an engine, or anything else
ROOM_RATIO = 0.02  # of the POI's rating is left to its caps beside a step


def never_probed(layout: Layout, point: str) -> str | None:
    """Why this setpoint is not probed under any conditions; None: it may be."""
    if point.partition(".")[2] not in PROBED:
        return "breakers, engine starts and the like are never probed"
    if point in layout.writes_per_day:
        return f"its register wears out, writes_per_day {layout.writes_per_day[point]}: never probed"
    return None


def unmet(layout: Layout, point: str, decisions: Decisions, snapshot: Snapshot) -> str | None:
    """The first condition of a probe that does not hold now."""
    asset = point.partition(".")[0]
    kind = layout.kinds[asset]
    condition = decisions.condition
    mode = decisions.control.get(asset, ControlMode.OFF)
    if decisions.mode is not GridMode.GRID_TIED:
        return f"the plant is {decisions.mode}, not on the grid"
    if decisions.source is Source.HOLD_SAFE:
        return "the edge is held safe"
    if mode is not ControlMode.TEST:
        return f"{asset} is in {mode}, not in test"
    grid = snapshot.readings.get(layout.p[layout.site.grid.id])
    if grid is None or not grid.is_good:
        return "no good reading of the power at the POI"
    own = snapshot.readings.get(layout.p[asset])
    if own is None or own.value is None:
        return f"{layout.p[asset]} is not read"
    if not own.is_good:
        return f"{layout.p[asset]} reads {own.value:g}, which is {own.quality}"
    if kind is AssetKind.BESS:
        soc = snapshot.value(f"{asset}.soc")
        if soc is None or not SOC_LOW <= soc <= SOC_HIGH:
            found = "is not read" if soc is None else f"is {soc:.1%}"
            return f"the charge of {asset} {found}; allowed {SOC_LOW:.0%} to {SOC_HIGH:.0%}"
        if condition.bess[asset].states:
            return f"{asset} is {', '.join(condition.bess[asset].states)}"
    if kind is AssetKind.GENSET and not condition.gensets[asset].on_load:
        return f"{asset} is not on load: have it started at its panel first"
    return None


def rated_kw(layout: Layout, point: str) -> float:
    """What 5 % is of [kW]."""
    asset = point.partition(".")[0]
    match layout.kinds[asset]:
        case AssetKind.BESS:
            battery = layout.bess[asset].battery
            return min(battery.p_charge_kw_max, battery.p_discharge_kw_max)
        case AssetKind.GENSET:
            return layout.gensets[asset].p_rated_kw
        case _:
            return layout.pv[asset].p_ac_kw


def room_kw(layout: Layout, snapshot: Snapshot) -> tuple[float, float]:
    """By how much generation may fall and rise before a cap at the POI is near [kW]: (fall, rise)."""
    grid = layout.site.grid
    p_kw = snapshot.value(layout.p[grid.id])
    if p_kw is None:
        return 0.0, 0.0
    keep_kw = ROOM_RATIO * max(grid.p_import_kw_max, grid.p_export_kw_max)
    return grid.p_import_kw_max - keep_kw - p_kw, grid.p_export_kw_max - keep_kw + p_kw
