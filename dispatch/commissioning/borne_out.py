"""Whether anything but the point map says that a reading is right. What nothing bears out goes to a person.

A reading that is good and inside its range may still be a tenth of what it should be, of the other sign or of
another register. It is shown where something independent would contradict it then: the balance of powers,
another reading, the nameplate. A 0 shows nothing at all, and neither does a counter.
"""

import math
from collections.abc import Sequence

from dispatch.layout import Layout
from dispatch.observing.plausibility import balance_tolerance_kw
from ems.assets import GridParams
from ems.points import POINTS, AssetKind, GensetState
from ems.telemetry import Snapshot

NOTHING_FLOWS = "nothing flows, which shows neither sign nor scale nor word order"
NOTHING_KW = 0.05
SEEN_RATIO = 0.9  # of a reading is missing in the balance at least, where its scale or sign is wrong
MARGIN_RATIO = 1.1  # of the balance's tolerance
LIMIT_RATIO = 0.5  # of the nameplate: less is a derating, or another scale
TANK_LOW_RATIO = 0.15  # of the tank: less is nearly empty, or a tenth
SAME_RATIO = 0.02  # two readings so near to each other are equal
Q_RATIO = 0.05  # of the rating; less is no reactive power
Q_LOW_RATIO, Q_HIGH_RATIO = 0.5, 1.5  # of what the feeders take by their power factors
BOOLEANS = frozenset(
    (kind, s.name)
    for kind, specs in POINTS.items()
    for s in specs
    if s.name in ("closed", "breaker_closed", "alive", "remote", "sync_ok", "emergency_stop")
    or s.name.startswith("contact_")
) | {(AssetKind.PV, "state")}
CAPS = ("p_import_kw_max", "p_export_kw_max", "p_pv_kw_max", "p_charge_kw_max", "p_discharge_kw_max")


def unproven(layout: Layout, point: str, looks: Sequence[Snapshot]) -> str:
    """Why a good and plausible reading shows nothing; empty: something bears it out."""
    asset, _, name = point.partition(".")
    now, kind = looks[-1], layout.kinds.get(asset)
    value = now.value(point)
    if point in layout.watchdogs:
        return "our heartbeat, which is written while a setpoint of its device is moved"
    if value is None or kind is None:
        return ""
    if point == layout.p.get(asset):
        return _power(layout, point, looks)
    if name.startswith("p_l") and name.endswith("_kw"):
        return _phase(layout, asset, now)
    if name == "q_kvar":
        return _reactive(layout, asset, value, now)
    if (kind, name) in BOOLEANS or name == "state":
        return _twin(layout, point, value, now) if value else "a 0, which shows neither address nor type"
    if kind is AssetKind.GRID and name in CAPS:
        return "a cap that somebody else tells: compare it with theirs"
    return _one(layout, asset, name, value, now)


def nameplate_kw(layout: Layout, asset: str, name: str) -> float | None:
    """What a live limit is where nothing limits; None: the point is none."""
    match layout.kinds.get(asset), name:
        case AssetKind.BESS, "p_charge_kw_max":
            return layout.bess[asset].battery.p_charge_kw_max
        case AssetKind.BESS, "p_discharge_kw_max":
            return layout.bess[asset].battery.p_discharge_kw_max
        case AssetKind.BESS, "p_pcs_kw_max":
            return layout.bess[asset].pcs.s_kva
        case AssetKind.GENSET, "p_kw_max":
            return layout.gensets[asset].p_rated_kw
        case _:
            return None


def _twin(layout: Layout, point: str, value: float, now: Snapshot) -> str:
    """Another contact of the same device that reads the same."""
    maps = next((c.points for c in layout.site.connections if any(m.point == point for m in c.points)), ())
    kind = next((m.data_type for m in maps if m.point == point), "")
    others = [m.point for m in maps if m.point != point and m.data_type == kind]
    same = next((p for p in others if now.value(p) == value), None)
    return "" if same is None else f"so does {same}: which is which shows when one of them changes"


def _one(layout: Layout, asset: str, name: str, value: float, now: Snapshot) -> str:
    rated_kw = nameplate_kw(layout, asset, name)
    if rated_kw is not None:
        return _limit(asset, name, value, rated_kw, now)
    match layout.kinds[asset], name:
        case AssetKind.BESS, "soc":
            battery = layout.bess[asset].battery
            low, high = battery.soc_min, battery.soc_max
            inside = low <= value <= high
            return "" if inside else f"outside {low:g} to {high:g}, where it is kept: scale or address?"
        case AssetKind.GENSET, "fuel_l":
            return _fuel(layout.gensets[asset].tank_l, value)
        case AssetKind.GENSET, "run_h":
            return "a counter, which nothing else tells: compare it with the panel"
        case AssetKind.PV, "p_available_kw":
            return "that it is not the power itself shows while a limit bites"
        case _:
            return ""


def _power(layout: Layout, point: str, looks: Sequence[Snapshot]) -> str:
    """The balance would not close if its scale or sign were wrong."""
    least_kw = min(abs(v) for x in looks if (v := x.value(point)) is not None)
    powers_kw = {p: v for a in layout.metered if (v := looks[-1].value(p := layout.p[a])) is not None}
    if least_kw < NOTHING_KW:
        return NOTHING_FLOWS
    if len(powers_kw) < len(layout.metered) or not layout.feeders:
        return "not all powers of the site are read, so that nothing contradicts a wrong one"
    needed_kw = MARGIN_RATIO * balance_tolerance_kw(layout, powers_kw) / SEEN_RATIO
    if least_kw < needed_kw:
        return f"too little flows to show sign and scale in the balance; needed: {needed_kw:.0f} kW"
    return ""


def _phase(layout: Layout, asset: str, now: Snapshot) -> str:
    whole_kw = now.value(layout.p.get(asset, ""))
    phases_kw = [now.value(f"{asset}.p_l{n}_kw") for n in (1, 2, 3)]
    known_kw = [v for v in phases_kw if v is not None]
    if whole_kw is None or len(known_kw) < 3:
        return "the other phases or their sum are not read"
    if abs(whole_kw) < 1.0:
        return NOTHING_FLOWS
    off_kw = math.fsum(known_kw) - whole_kw
    return f"the phases add up to {off_kw:+.1f} kW more" if abs(off_kw) > 0.1 * abs(whole_kw) else ""


def _reactive(layout: Layout, asset: str, value: float, now: Snapshot) -> str:
    """What the feeders take by their power factors is what the sources give, where all of them are read."""
    told = "nothing else tells it: compare it with a meter"
    grid, pv = layout.site.grid, layout.pv
    if abs(value) < Q_RATIO * _rated_kva(layout, asset, grid):
        return NOTHING_FLOWS
    running = [g for g in layout.gensets if now.value(f"{g}.state") != GensetState.STOPPED.code]
    given_kvar = [now.value(f"{a}.q_kvar") for a in (grid.id, *layout.bess, *running)]
    loads = [(now.value(layout.p[f]), x.power_factor_ratio) for f, x in layout.feeders.items()]
    if any(v is None for v in given_kvar) or any(kw is None for kw, _ in loads):
        return told
    kvar = math.fsum(kw * math.tan(math.acos(pf)) for kw, pf in loads if kw is not None)
    given = math.fsum(v for v in (*given_kvar, *(now.value(f"{p}.q_kvar") for p in pv)) if v is not None)
    if not Q_LOW_RATIO * kvar <= given <= Q_HIGH_RATIO * kvar:
        return f"the sources give {given:.0f} kvar, the feeders take {kvar:.0f} by their power factors"
    return "" if SEEN_RATIO * abs(value) > Q_LOW_RATIO * kvar else told


def _rated_kva(layout: Layout, asset: str, grid: GridParams) -> float:
    if asset in layout.bess:
        return layout.bess[asset].pcs.s_kva
    if asset in layout.gensets:
        return layout.gensets[asset].p_rated_kw
    if asset in layout.pv:
        return layout.pv[asset].p_ac_kw
    return max(grid.p_import_kw_max, grid.p_export_kw_max)


def _limit(asset: str, name: str, value: float, rated_kw: float, now: Snapshot) -> str:
    if not LIMIT_RATIO * rated_kw <= value <= rated_kw / LIMIT_RATIO:
        return f"{rated_kw:g} kW by the site file: derated, or another scale?"
    other = {"p_charge_kw_max": "p_discharge_kw_max", "p_discharge_kw_max": "p_charge_kw_max"}.get(name)
    other_kw = None if other is None else now.value(f"{asset}.{other}")
    if other_kw is not None and abs(value - other_kw) <= SAME_RATIO * rated_kw:
        return f"reads the same as {other}: which of the two it is, is not shown"
    return ""


def _fuel(tank_l: float, value: float) -> str:
    if value < TANK_LOW_RATIO * tank_l:
        return f"of a tank of {tank_l:g} L: nearly empty, or another scale? Compare it with the gauge"
    return ""
