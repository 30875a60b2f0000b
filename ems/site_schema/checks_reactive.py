"""Reactive setpoints and the voltage rule: slow, inside what converters can give, and never to and fro."""

import math
from itertools import pairwise

from ems.capability import NEAR_KVA
from ems.points import point_id
from ems.reactive import PACE_S_MIN, ReactiveTakes, step_pu
from ems.site_schema.build_phases import TAKES
from ems.site_schema.checks_capability import polygon_of, q_range_kvar
from ems.site_schema.draft import Draft
from ems.site_schema.forms import SetpointForm
from ems.site_schema.forms_assets import PcsForm, PvForm, ReactiveControlForm
from ems.site_schema.text import Loc

BACK_STEPS = 1.2  # inside the band by so many steps before one is taken back


def check_reactive_control(draft: Draft) -> None:
    """Each converter with a reactive setpoint says where it comes from, and the other way round."""
    own: dict[str, tuple[Loc, PcsForm | PvForm]] = {}
    for i, b in draft.bess.items():
        own[i] = (("bess", i, "pcs", "reactive"), b.pcs)
    for i, p in draft.pv.items():
        own[i] = (("pv", i, "reactive"), p)
    for asset, (loc, unit) in own.items():
        form = unit.reactive
        taken = None if form is None else TAKES[form.takes]
        for name in ReactiveTakes:
            other = point_id(asset, name)
            if name is not taken and other in draft.authority:
                said = f"{'.'.join(str(k) for k in loc)}, which says where its value comes from"
                draft.add(("authority", other), "a reactive setpoint", said)
        if form is not None and taken is not None:
            _control(draft, loc, form, unit, point_id(asset, taken))
    _voltage(draft)


def _control(draft: Draft, loc: Loc, form: ReactiveControlForm, unit: PcsForm | PvForm, point: str) -> None:
    authority = draft.authority.get(point)
    if authority is None:
        draft.add(loc, f"no authority over {point}", f"an entry for {point} in authority")
    elif authority.refresh_s < PACE_S_MIN:
        draft.add(
            ("authority", point, "refresh_s"),
            f"{authority.refresh_s:g} s",
            f"{PACE_S_MIN:g} s or more",
            "reactive power is set slowly: the fast loop is the converter's own",
        )
    else:
        _safe(draft, point, authority, form)
    limits = q_range_kvar(unit.pq_corners, unit.s_kva)
    if unit.s_kva is None or limits is None:
        draft.add(loc, "a plant without s_kva", "s_kva with it, the rating for reactive power")
    else:
        _curve(draft, (*loc, "by_power"), form, unit, unit.s_kva)
        _stored(draft, loc, form, limits, "s_kva" if unit.pq_corners is None else "pq_corners")


def _safe(draft: Draft, point: str, authority: SetpointForm, form: ReactiveControlForm) -> None:
    """What is written by itself is what the converter can be given: zero is no power factor, and no curve."""
    if form.takes == "kvar":
        return
    loc: Loc = ("authority", point)
    if authority.ramp_per_s is not None:
        draft.add((*loc, "ramp_per_s"), f"{authority.ramp_per_s}", "none: what lies between means nothing")
    indices = sorted({c.index for c in form.curves})
    written = {("safe", mode): getattr(authority.safe, mode) for mode in ("grid_tied", "islanded", "black")}
    written["silence", "value"] = authority.silence.value
    for key, value in written.items():
        if not isinstance(value, int | float):
            continue
        if form.takes == "power_factor" and not form.pf_min <= abs(value) <= 1.0:
            draft.add((*loc, *key), f"{value:g}", f"{form.pf_min:g} to 1, of either sign")
        if form.takes == "curve" and value not in indices:
            draft.add((*loc, *key), f"{value:g}", f"a curve that is stored: {indices}")


def _stored(draft: Draft, loc: Loc, form: ReactiveControlForm, limits: tuple[float, float], by: str) -> None:
    if form.takes == "curve" and not form.curves:
        draft.add((*loc, "curves"), "none", "the curves that are stored in the converter, one or more")
    if form.takes != "curve" and form.curves:
        draft.add((*loc, "curves"), f"curves of what takes {form.takes}", "none, or takes: curve")
    seen: set[int] = set()
    for k, curve in enumerate(form.curves):
        if curve.index in seen:
            draft.add((*loc, "curves", k, "index"), f"{curve.index} again", "each once")
        seen.add(curve.index)
        for i, corner in enumerate(curve.corners):
            at = (*loc, "curves", k, "corners", i)
            if i and not curve.corners[i - 1].v_pu < corner.v_pu:
                before = curve.corners[i - 1].v_pu
                draft.add((*at, "v_pu"), f"{corner.v_pu:g}", f"more than the one before, {before:g}")
            if not limits[0] - 1e-9 <= corner.q_kvar <= limits[1] + 1e-9:
                allowed = f"{limits[0]:g} to {limits[1]:g} kvar, by {by}"
                draft.add((*at, "q_kvar"), f"{corner.q_kvar:g} kvar", allowed)


def _curve(draft: Draft, loc: Loc, form: ReactiveControlForm, unit: PcsForm | PvForm, s_kva: float) -> None:
    polygon = polygon_of(unit.pq_corners)
    for i, (before, after) in enumerate(pairwise(form.by_power), 1):
        if not before.p_kw < after.p_kw:
            draft.add(
                (*loc, i, "p_kw"), f"{after.p_kw:g} kW", f"more than the one before, {before.p_kw:g} kW"
            )
    for i, corner in enumerate(form.by_power):
        found = f"{corner.p_kw:g} kW and {corner.q_kvar:g} kvar"
        if math.hypot(corner.p_kw, corner.q_kvar) > s_kva + 1e-9:
            draft.add((*loc, i, "q_kvar"), found, f"at most s_kva, {s_kva:g} kVA, together")
        elif polygon is not None and polygon.over_kva(corner.p_kw, corner.q_kvar) > NEAR_KVA:
            low, high = polygon.q_range_kvar(corner.p_kw)
            draft.add((*loc, i, "q_kvar"), found, f"{low:g} to {high:g} kvar there, inside pq_corners")


def _voltage(draft: Draft) -> None:
    grid = draft.grid
    if grid is None or grid.voltage is None:
        return
    own, loc = grid.voltage, ("grid", "voltage")
    for key, value, edge, inside in (
        ("low_pu", own.low_pu, grid.v_min_pu, own.low_pu >= grid.v_min_pu),
        ("high_pu", own.high_pu, grid.v_max_pu, own.high_pu <= grid.v_max_pu),
    ):
        if not inside:
            draft.add((*loc, key), f"{value:g}", f"inside v_min_pu and v_max_pu, here {edge:g}")
    moves_pu = BACK_STEPS * step_pu(own.step_kw, grid.r_ohm, grid.x_ohm, grid.v_nominal_v)
    if own.back_pu <= moves_pu:
        draft.add(
            (*loc, "back_pu"),
            f"{own.back_pu:g}",
            f"more than {moves_pu:.4f}, {BACK_STEPS:g} times what step_kw moves the voltage",
            "or power would go to and fro",
        )
    elif own.high_pu - own.low_pu <= 2.0 * own.back_pu:
        found = f"{own.back_pu:g} in a band of {own.high_pu - own.low_pu:g}"
        draft.add((*loc, "back_pu"), found, "less than half of the band")
