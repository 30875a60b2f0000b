"""A maker's P-Q polygon: convex, inside the circle, and wide enough for the power that is declared."""

import math
from collections.abc import Mapping, Sequence

from ems.capability import NEAR_KVA, PqCapability
from ems.errors import BadValue
from ems.points import point_id
from ems.reactive import ReactiveTakes
from ems.site_schema.build_phases import capability
from ems.site_schema.build_wire import in_unit
from ems.site_schema.draft import Draft
from ems.site_schema.forms_assets import PvForm, ReactiveAtPowerForm
from ems.site_schema.text import Loc

MODES = ("grid_tied", "islanded", "black")


def check_corners(
    draft: Draft,
    loc: Loc,
    corners: Sequence[ReactiveAtPowerForm] | None,
    s_kva: float,
    wanted_kw: Mapping[str, float],
) -> None:
    """A polygon, each corner in the circle, the declared powers inside at 0 kvar.

    Parameters
    ----------
    wanted_kw : by the key that declares it, positive into the bus.
    """
    if corners is None:
        return
    for k, corner in enumerate(corners):
        if math.hypot(corner.p_kw, corner.q_kvar) > s_kva + NEAR_KVA:
            found = f"{corner.p_kw:g} kW and {corner.q_kvar:g} kvar"
            draft.add((*loc, k), found, f"at most s_kva, {s_kva:g} kVA, together")
    try:
        polygon = capability(corners)
    except BadValue as error:
        found, _, allowed = str(error).partition("; ")
        draft.add(loc, found, allowed)
        return
    assert polygon is not None
    for key, p_kw in wanted_kw.items():
        if polygon.over_kva(p_kw, 0.0) > NEAR_KVA:
            most_kw = polygon.along_kw(math.copysign(1.0, p_kw), 0.0)
            found = f"{most_kw:g} kW {'given' if p_kw > 0.0 else 'taken'} at most, at 0 kvar"
            draft.add(loc, found, f"room for {key}, {abs(p_kw):g} kW")


def check_pv_corners(draft: Draft, pv_id: str, pv: PvForm) -> None:
    """The polygon of PV inverters: they have a rating, and take no active power."""
    loc: Loc = ("pv", pv_id, "pq_corners")
    if pv.pq_corners is None:
        return
    if pv.s_kva is None:
        draft.add(loc, "a plant without s_kva", "s_kva with it, the rating for reactive power")
        return
    for k, corner in enumerate(pv.pq_corners):
        if corner.p_kw < 0.0:
            allowed = "0 or more: PV takes no active power"
            draft.add((*loc, k, "p_kw"), f"{corner.p_kw:g} kW", allowed)
    check_corners(draft, loc, pv.pq_corners, pv.s_kva, {"p_ac_kw": pv.p_ac_kw})


def check_safe_pairs(draft: Draft) -> None:
    """What is written by itself is inside the polygon too: safe reactive beside safe active power."""
    for asset, bess in draft.bess.items():
        polygon = polygon_of(bess.pcs.pq_corners)
        q_point = point_id(asset, ReactiveTakes.KVAR)
        reactive, active = draft.authority.get(q_point), draft.authority.get(point_id(asset, "p_set_kw"))
        if polygon is None or reactive is None or active is None:
            continue
        pairs = {("safe", mode): (getattr(active.safe, mode), getattr(reactive.safe, mode)) for mode in MODES}
        pairs["silence", "value"] = (active.silence.value, reactive.silence.value)
        for key, (p, q) in pairs.items():
            p_kw, q_kvar = _number(p, "kW"), _number(q, "kvar")
            if p_kw is None or q_kvar is None or polygon.over_kva(p_kw, q_kvar) <= NEAR_KVA:
                continue
            low, high = polygon.q_range_kvar(p_kw)
            found = f"{q_kvar:g} kvar beside {p_kw:g} kW"
            draft.add(
                ("authority", q_point, *key), found, f"{low:g} to {high:g} kvar there, inside pq_corners"
            )


def _number(value: float | str | None, unit: str) -> float | None:
    """A number in its unit; None where it is held, or wrong, which is told elsewhere."""
    try:
        return None if value is None else in_unit(value, unit)
    except BadValue:
        return None


def q_range_kvar(
    corners: Sequence[ReactiveAtPowerForm] | None, s_kva: float | None
) -> tuple[float, float] | None:
    """Least and most reactive power of a converter; None: it gives none."""
    if corners:
        kvar = [c.q_kvar for c in corners]
        return min(kvar), max(kvar)
    return None if s_kva is None else (-s_kva, s_kva)


def polygon_of(corners: Sequence[ReactiveAtPowerForm] | None) -> PqCapability | None:
    """The polygon, where there is a sound one; what is wrong with it is told elsewhere."""
    try:
        return capability(corners)
    except BadValue:
        return None
