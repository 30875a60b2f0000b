"""What is read, held against what can be: quality, limits of the equipment, one reading and another."""

from collections.abc import Mapping, Sequence

from dispatch.commissioning.borne_out import BOOLEANS, nameplate_kw, unproven
from dispatch.commissioning.rows import PointRow, Verdict
from dispatch.layout import Layout
from dispatch.observing.plausibility import BalanceSeen, check_balance
from ems.points import AssetKind, BessState, GensetState
from ems.telemetry import Snapshot

V_PU = (0.8, 1.2)
F_HZ = (45.0, 65.0)
BREAKER_OPEN_RATIO = 0.02  # of a feeder's peak may be read while it is open
DENORMAL = 1e-9  # no device tells so little and not nothing: two words of a float in the wrong order do
TANK_RATIO = 1.05  # of a tank may be read in it
EXCHANGED_RATIO = 0.1  # a limit so near to the rating of the other direction, and not to its own
LESS_RATIO = 0.8  # of what a PV plant gives must be available at least
LOADED = (GensetState.RUNNING.code, GensetState.COOLING_DOWN.code)


def read_rows(layout: Layout, looks: Sequence[Snapshot]) -> list[PointRow]:
    """One row for each mapped point; `looks` are some seconds of readings."""
    mapped = [m for c in layout.site.connections for m in c.points]
    unbalanced = _unbalanced(layout, looks)
    rows = []
    for m in mapped:
        rows.append(_row(layout, m.point, m.unit, looks, unbalanced.get(m.point, "")))
    return rows


def _row(layout: Layout, point: str, unit: str, looks: Sequence[Snapshot], doubted: str) -> PointRow:
    """Wrong, contradicted by others, borne out by nothing, or right."""
    wrong = _quality(point, looks) or _implausible(layout, point, looks[-1])
    if wrong:
        return PointRow(point=point, verdict=Verdict.FAIL, shown="read", text=wrong)
    if doubted:
        return PointRow(point=point, verdict=Verdict.NOT_SHOWN, shown="read", text=doubted)
    text = f"{looks[-1].value(point):g} {unit}".rstrip()
    if why := unproven(layout, point, looks):
        return PointRow(point=point, verdict=Verdict.NOT_SHOWN, shown="nothing", text=f"{text}: {why}")
    return PointRow(point=point, verdict=Verdict.PASS, shown="read", text=text)


def _quality(point: str, looks: Sequence[Snapshot]) -> str:
    for snapshot in looks:
        reading = snapshot.readings.get(point)
        if reading is None:
            return "not read"
        if not reading.is_good:
            value = "nothing" if reading.value is None else f"{reading.value:g}"
            return f"reads {value}, which is {reading.quality}"
    return ""


def _implausible(layout: Layout, point: str, snapshot: Snapshot) -> str:
    asset, _, name = point.partition(".")
    value, kind = snapshot.value(point), layout.kinds.get(asset)
    if value is None or kind is None:
        return ""
    if 0.0 < abs(value) < DENORMAL:
        return f"{value:g}, which no device tells: word order or type?"
    if name.startswith("v") and name.endswith("_pu") and not V_PU[0] <= value <= V_PU[1]:
        return f"{value:g} pu on the grid; allowed {V_PU[0]} to {V_PU[1]}"
    if name == "f_hz" and not F_HZ[0] <= value <= F_HZ[1]:
        return f"{value:g} Hz on the grid; allowed {F_HZ[0]:g} to {F_HZ[1]:g}"
    most = _most(layout, asset, kind, name)
    if most is not None and abs(value) > most:
        return f"{value:g} is more than the {most:g} of {asset}"
    odd = _contradicted(layout, asset, kind, name, value, snapshot)
    return odd or _odd_state(layout, asset, kind, name, value, snapshot)


def _most(layout: Layout, asset: str, kind: AssetKind, name: str) -> float | None:
    """The most that can be read there; unit of the point."""
    match kind, name:
        case AssetKind.BESS, "p_kw":
            return 1.2 * layout.bess[asset].pcs.s_kva
        case AssetKind.BESS, "p_charge_kw_max" | "p_discharge_kw_max" | "p_pcs_kw_max":
            return 1.2 * layout.bess[asset].pcs.s_kva
        case AssetKind.GENSET, "p_kw" | "p_kw_max":
            return 1.2 * layout.gensets[asset].p_rated_kw
        case AssetKind.GENSET, "fuel_l":
            return TANK_RATIO * layout.gensets[asset].tank_l
        case AssetKind.PV, "p_kw":
            return 1.1 * layout.pv[asset].p_ac_kw
        case AssetKind.PV, "p_available_kw":
            return 1.3 * layout.pv[asset].p_dc_kwp
        case AssetKind.FEEDER, "p_kw":
            return 1.5 * layout.feeders[asset].p_peak_kw
        case _:
            return None


def _contradicted(
    layout: Layout, asset: str, kind: AssetKind, name: str, value: float, snapshot: Snapshot
) -> str:
    """What another reading or the nameplate says against it; empty: nothing."""
    p_kw = snapshot.value(layout.p.get(asset, ""))
    p_kw = 0.0 if p_kw is None else p_kw
    rated_kw = nameplate_kw(layout, asset, name)
    if rated_kw is not None:
        given_kw = -p_kw if name == "p_charge_kw_max" else abs(p_kw)
        own_way = name in ("p_charge_kw_max", "p_pcs_kw_max") or p_kw > 0.0
        if own_way and given_kw > 1.1 * value + 0.02 * rated_kw:
            return f"a limit of {value:g} kW, and {given_kw:g} kW flow"
        other = {"p_charge_kw_max": "p_discharge_kw_max", "p_discharge_kw_max": "p_charge_kw_max"}.get(name)
        other_kw = None if other is None else nameplate_kw(layout, asset, other)
        if other_kw is not None and _near(value, other_kw) and not _near(value, rated_kw, 2.0):
            return f"{value:g} kW is the {other} of the site file, not {rated_kw:g}: exchanged?"
    if kind is AssetKind.PV and name == "p_available_kw":
        least_kw = LESS_RATIO * p_kw - 0.02 * layout.pv[asset].p_ac_kw
        if value < least_kw:
            return f"{value:g} kW are available, and {p_kw:g} kW flow"
    return ""


def _near(value: float, rated: float, times: float = 1.0) -> bool:
    return abs(value - rated) <= times * EXCHANGED_RATIO * rated


def _odd_state(
    layout: Layout, asset: str, kind: AssetKind, name: str, value: float, snapshot: Snapshot
) -> str:
    p_kw = snapshot.value(layout.p.get(asset, ""))
    if name == "state" and kind is AssetKind.BESS and value not in range(len(BessState)):
        return f"{value:g} is no state of a battery system"
    if name == "state" and kind is AssetKind.GENSET:
        if value not in range(len(GensetState)):
            return f"{value:g} is no state of a genset"
        rated_kw = layout.gensets[asset].p_rated_kw
        if value not in LOADED and p_kw is not None and abs(p_kw) > 0.05 * rated_kw:
            how = "off" if value == GensetState.STOPPED.code else f"in state {value:g}"
            return f"the set is {how} and gives {p_kw:g} kW"
    if (kind, name) in BOOLEANS and value not in (0.0, 1.0):
        return f"{value:g}; allowed: 0 or 1"
    is_open = name == "closed" and kind is AssetKind.FEEDER and value < 0.5
    if is_open and p_kw is not None and abs(p_kw) > BREAKER_OPEN_RATIO * layout.feeders[asset].p_peak_kw:
        return f"open, and {p_kw:g} kW flow"
    return ""


def _unbalanced(layout: Layout, looks: Sequence[Snapshot]) -> Mapping[str, str]:
    """Power points, where the powers do not add up in any of the looks."""
    if any(snapshot.value(layout.p[a]) is None for snapshot in looks for a in layout.metered):
        return {}
    for snapshot in looks:
        if check_balance(layout, BalanceSeen(), snapshot).closed_since_s is not None:
            return {}
    text = "powers of sources, grid and feeders do not add up: a sign or a scale among them"
    return {layout.p[a]: text for a in layout.metered}
