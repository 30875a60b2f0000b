"""What is read, held against what can be: quality, limits of the equipment, one reading and another."""

from collections.abc import Mapping, Sequence

from dispatch.commissioning.rows import PointRow, Verdict
from dispatch.layout import Layout
from dispatch.observing.plausibility import BalanceSeen, check_balance
from ems.points import AssetKind, BessState, GensetState
from ems.telemetry import Snapshot

V_PU = (0.8, 1.2)
F_HZ = (45.0, 65.0)
NOTHING_FLOWS = "nothing flows, which shows neither sign nor scale nor word order"
BREAKER_OPEN_RATIO = 0.02  # of a feeder's peak may be read while it is open


def read_rows(layout: Layout, looks: Sequence[Snapshot]) -> list[PointRow]:
    """One row for each mapped point; `looks` are some seconds of readings."""
    mapped = [m for c in layout.site.connections for m in c.points]
    unbalanced = _unbalanced(layout, looks)
    rows = []
    for m in mapped:
        wrong = _quality(m.point, looks) or _implausible(layout, m.point, looks[-1])
        doubted = unbalanced.get(m.point, "")
        verdict = Verdict.FAIL if wrong else Verdict.NOT_SHOWN if doubted else Verdict.PASS
        value = looks[-1].value(m.point)
        text = wrong if wrong else doubted if doubted else f"{value:g} {m.unit}".rstrip()
        if (
            verdict is Verdict.PASS
            and m.point in layout.p.values()
            and not any(x.value(m.point) for x in looks)
        ):
            text = f"{text}; {NOTHING_FLOWS}"
        rows.append(PointRow(point=m.point, verdict=verdict, shown="read", text=text))
    return rows


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
    if name.startswith("v") and name.endswith("_pu") and not V_PU[0] <= value <= V_PU[1]:
        return f"{value:g} pu on the grid; allowed {V_PU[0]} to {V_PU[1]}"
    if name == "f_hz" and not F_HZ[0] <= value <= F_HZ[1]:
        return f"{value:g} Hz on the grid; allowed {F_HZ[0]:g} to {F_HZ[1]:g}"
    most = _most(layout, asset, kind, name)
    if most is not None and abs(value) > most:
        return f"{value:g} is more than the {most:g} of {asset}"
    return _odd_state(layout, asset, kind, name, value, snapshot)


def _most(layout: Layout, asset: str, kind: AssetKind, name: str) -> float | None:
    """The most that can be read there; unit of the point."""
    match kind, name:
        case AssetKind.BESS, "p_kw":
            return 1.2 * layout.bess[asset].pcs.s_kva
        case AssetKind.BESS, "p_charge_kw_max" | "p_discharge_kw_max" | "p_pcs_kw_max":
            return 1.2 * layout.bess[asset].pcs.s_kva
        case AssetKind.GENSET, "p_kw" | "p_kw_max":
            return 1.2 * layout.gensets[asset].p_rated_kw
        case AssetKind.PV, "p_kw":
            return 1.1 * layout.pv[asset].p_ac_kw
        case AssetKind.PV, "p_available_kw":
            return 1.3 * layout.pv[asset].p_dc_kwp
        case AssetKind.FEEDER, "p_kw":
            return 1.5 * layout.feeders[asset].p_peak_kw
        case _:
            return None


def _odd_state(
    layout: Layout, asset: str, kind: AssetKind, name: str, value: float, snapshot: Snapshot
) -> str:
    p_kw = snapshot.value(layout.p.get(asset, ""))
    if name == "state" and kind is AssetKind.BESS and value not in range(len(BessState)):
        return f"{value:g} is no state of a battery system"
    if name == "state" and kind is AssetKind.GENSET:
        if value not in range(len(GensetState)):
            return f"{value:g} is no state of a genset"
        still = value == GensetState.STOPPED.code
        if still and p_kw is not None and abs(p_kw) > 0.05 * layout.gensets[asset].p_rated_kw:
            return f"the set is off and gives {p_kw:g} kW"
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
