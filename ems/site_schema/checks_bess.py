"""What the numbers of one battery system mean together."""

from itertools import pairwise

from ems.battery_terms import dented
from ems.loss_curve import point_faults, whole_loss_kw
from ems.site_schema.build import cycle_life, efficiency_points
from ems.site_schema.checks_capability import check_corners
from ems.site_schema.draft import Draft
from ems.site_schema.forms_assets import BatteryForm, BessForm, CycleLifeForm
from ems.site_schema.text import Loc


def check_bess(draft: Draft, loc: Loc, bess: BessForm) -> None:
    """Battery and PCS, by themselves and together."""
    battery, pcs = bess.battery, bess.pcs
    _battery(draft, (*loc, "battery"), battery)
    for way in ("charge", "discharge"):
        _efficiency(draft, (*loc, "battery"), battery, way)
    _wear(draft, (*loc, "battery"), battery)
    _reserves(draft, (*loc, "battery"), battery)
    _warranty(draft, (*loc, "battery"), battery)
    _full_charge(draft, (*loc, "battery"), battery)
    _derating(draft, (*loc, "battery"), battery)
    _power_by_soc(draft, (*loc, "battery"), battery)
    for key in ("p_charge_kw_max", "p_discharge_kw_max"):
        power_kw = getattr(battery, key)
        if power_kw > pcs.s_kva:
            draft.add(
                (*loc, "battery", key), f"{power_kw:g} kW", f"at most the PCS rating, {pcs.s_kva:g} kVA"
            )
    wanted = {"p_charge_kw_max": -battery.p_charge_kw_max, "p_discharge_kw_max": battery.p_discharge_kw_max}
    check_corners(draft, (*loc, "pcs", "pq_corners"), pcs.pq_corners, pcs.s_kva, wanted)


def _wear(draft: Draft, loc: Loc, b: BatteryForm) -> None:
    """One kind of wear; a cycle life that is convex and as deep as the window."""
    if (b.wear_per_kwh is None) == (b.cycle_life is None):
        found = "neither of them" if b.cycle_life is None else "both"
        draft.add((*loc, "wear_per_kwh"), found, "wear_per_kwh or cycle_life, one of the two")
    if b.cycle_life is not None:
        _cycle_life(draft, (*loc, "cycle_life", "cycles_to_end_of_life"), b.cycle_life, b.soc_max - b.soc_min)


def _reserves(draft: Draft, loc: Loc, b: BatteryForm) -> None:
    """Reserve and resting level inside the window; hours from and to."""
    for k, r in enumerate(b.soc_reserve):
        at = (*loc, "soc_reserve", k)
        if not b.soc_min < r.soc <= b.soc_max:
            allowed = f"more than soc_min, {b.soc_min:g}, up to soc_max, {b.soc_max:g}"
            draft.add((*at, "soc"), f"{r.soc:g}", allowed)
        if (r.from_h is None) != (r.to_h is None):
            draft.add((*at, "from"), "from or to alone", "both, or neither of them")
        elif r.from_h is not None and r.to_h is not None and not r.from_h < r.to_h:
            draft.add((*at, "to"), f"{r.to_h:g} h", f"later than from, {r.from_h:g} h, on the same day")
    if b.resting is not None and not b.soc_min < b.resting.above_soc < b.soc_max:
        draft.add(
            (*loc, "resting", "above_soc"),
            f"{b.resting.above_soc:g}",
            f"between soc_min, {b.soc_min:g}, and soc_max, {b.soc_max:g}",
        )


def _derating(draft: Draft, loc: Loc, b: BatteryForm) -> None:
    for k, (a, c) in enumerate(pairwise(b.derating), 1):
        if c.temp_degc <= a.temp_degc:
            found, allowed = f"{c.temp_degc:g} degC", f"more than {a.temp_degc:g} degC, ascending"
            draft.add((*loc, "derating", k, "temp_degc"), found, allowed)


def _power_by_soc(draft: Draft, loc: Loc, b: BatteryForm) -> None:
    table, at = b.power_by_soc, (*loc, "power_by_soc")
    if not table:
        return
    for k, (a, c) in enumerate(pairwise(table), 1):
        if c.soc <= a.soc:
            draft.add((*at, k, "soc"), f"{c.soc:g}", f"more than {a.soc:g}, ascending")
            return
    if not table[0].soc <= b.soc_min < b.soc_max <= table[-1].soc:
        allowed = f"rows from soc_min, {b.soc_min:g}, to soc_max, {b.soc_max:g}"
        draft.add((*at, 0, "soc"), f"a table from {table[0].soc:g} to {table[-1].soc:g}", allowed)
    for way in ("charge_ratio", "discharge_ratio"):
        dent = dented([row.soc for row in table], [getattr(row, way) for row in table])
        if dent is not None:
            k, least = dent
            why = "a table that is not concave cannot be held by a linear program"
            draft.add((*at, k, way), f"{getattr(table[k], way):g}", f"at least {least:.6g}", why)


def _full_charge(draft: Draft, loc: Loc, b: BatteryForm) -> None:
    f = b.full_charge
    if f is None:
        return
    if not f.interval_s >= 86400.0:
        draft.add((*loc, "full_charge", "interval_s"), f"{f.interval_s / 3600.0:g} h", "24 h or more")
    if not f.hold_s <= 86400.0:
        draft.add((*loc, "full_charge", "hold_s"), f"{f.hold_s / 3600.0:g} h", "24 h or less")


def _warranty(draft: Draft, loc: Loc, b: BatteryForm) -> None:
    """Each limit once, none that no use can keep."""
    w, at = b.warranty, (*loc, "warranty")
    if w is None:
        return
    for span in ("day", "year"):
        if getattr(w, f"{span}_kwh_max") is not None and getattr(w, f"{span}_cycles_max") is not None:
            draft.add((*at, f"{span}_cycles_max"), f"{span}_kwh_max as well", "one of the two")
    if w.pace_per_kwh > 0.0 and w.year_kwh_max is None and w.year_cycles_max is None:
        draft.add(
            (*at, "pace_per_kwh"), f"{w.pace_per_kwh:g} without a limit of the year", "beside year_kwh_max"
        )
    if w.mean_soc_max is not None and not w.mean_soc_max > b.soc_min:
        draft.add((*at, "mean_soc_max"), f"{w.mean_soc_max:g}", f"more than soc_min, {b.soc_min:g}")


def _cycle_life(draft: Draft, loc: Loc, form: CycleLifeForm, window_ratio: float) -> None:
    points = form.cycles_to_end_of_life
    for k, (a, b) in enumerate(pairwise(points), 1):
        if b.depth_ratio <= a.depth_ratio:
            draft.add(
                (*loc, k, "depth_ratio"), f"{b.depth_ratio:g}", f"more than {a.depth_ratio:g}, ascending"
            )
            return
    deepest = points[-1].depth_ratio
    if deepest < window_ratio - 1e-9:
        draft.add(
            (*loc, len(points) - 1, "depth_ratio"),
            f"{deepest:g} as the deepest",
            f"at least {window_ratio:g}, from soc_max down to soc_min",
        )
    bent = cycle_life(form).bent()
    if bent is not None:
        k, most = bent
        draft.add(
            (*loc, k, "cycles"),
            f"{points[k].cycles:g} at a depth of {points[k].depth_ratio:g}",
            f"at most {most:.6g}",
            "a deeper cycle wears no less per kWh than a shallow one (convex)",
        )


def _battery(draft: Draft, loc: Loc, b: BatteryForm) -> None:
    if not b.soc_min < b.soc_max:
        draft.add((*loc, "soc_min"), f"{b.soc_min:g}", f"less than soc_max, {b.soc_max:g}")
    elif not b.soc_min <= b.soc_taper_low < b.soc_taper_high <= b.soc_max:
        draft.add(
            (*loc, "soc_taper_low"),
            f"{b.soc_taper_low:g} and soc_taper_high {b.soc_taper_high:g}",
            f"in this order between soc_min {b.soc_min:g} and soc_max {b.soc_max:g}",
        )
    power_kw = max(b.p_charge_kw_max, b.p_discharge_kw_max)
    hours = b.energy_kwh / power_kw
    if not 0.1 <= hours <= 24.0:
        draft.add(
            (*loc, "energy_kwh"), f"{b.energy_kwh:g} kWh with {power_kw:g} kW", "0.1 to 24 h at full power"
        )
    for key in ("aux_kw", "no_load_loss_kw"):
        if (own_kw := getattr(b, key)) is not None and own_kw > 0.05 * power_kw:
            draft.add(
                (*loc, key), f"{own_kw:g} kW", f"at most 5 % of the power, {0.05 * power_kw:g} kW", "W?"
            )
    if b.no_load_loss_kw is None and not (b.efficiency_charge or b.efficiency_discharge):
        draft.add((*loc, "no_load_loss_kw"), "nothing", "this key is required")


def _efficiency(draft: Draft, loc: Loc, b: BatteryForm, way: str) -> None:
    """Efficiency and loss of a direction, or points of it."""
    keys, points = (f"eta_{way}", f"loss_{way}_pu"), efficiency_points(b, way)
    eta, loss_pu = (getattr(b, key) for key in keys)
    if points:
        for key in keys:
            if getattr(b, key) is not None:
                draft.add((*loc, key), f"efficiency_{way} as well", "one of the two")
        _points(draft, (*loc, f"efficiency_{way}"), b, way, points)
        return
    for key in keys:
        if getattr(b, key) is None:
            draft.add((*loc, key), "nothing", f"this key is required where there is no efficiency_{way}")
    if eta is not None and loss_pu is not None and eta - loss_pu < 0.7:
        draft.add(
            (*loc, keys[0]), f"{eta:g} less {loss_pu:g} at full power", "0.7 or more left at full power"
        )


def _points(draft: Draft, loc: Loc, b: BatteryForm, way: str, points: list[tuple[float, float]]) -> None:
    """Points up to full power, of a loss that does not fall and is more than the no-load loss."""
    for k, key, value, allowed in point_faults(points, charge=way == "charge"):
        draft.add((*loc, k, key), f"{value:g} kW" if key == "p_kw" else f"{value:g}", allowed)
        return
    (top_kw, eta), power_kw = points[-1], getattr(b, f"p_{way}_kw_max")
    if top_kw < power_kw:
        allowed = f"{power_kw:g} kW or more, p_{way}_kw_max"
        draft.add((*loc, len(points) - 1, "p_kw"), f"{top_kw:g} kW as the last", allowed)
    if eta < 0.7:
        draft.add((*loc, len(points) - 1, "eta_ratio"), f"{eta:g} at full power", "0.7 or more at full power")
    first_kw = whole_loss_kw(*points[0], charge=way == "charge")
    if b.no_load_loss_kw is not None and b.no_load_loss_kw > first_kw * (1.0 + 1e-9):
        draft.add(
            (*loc[:-1], "no_load_loss_kw"),
            f"{b.no_load_loss_kw:g} kW",
            f"at most what is lost at the first point of efficiency_{way}, {first_kw:.6g} kW",
            "the efficiency of each point holds the no-load loss",
        )
