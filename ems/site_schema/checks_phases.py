"""What is said of the three phases: shares, margins, and the readings it takes."""

import math

from ems.phases import CURRENT_OF_PHASE, PHASE_POINTS, POWER_OF_PHASE
from ems.points import point_id
from ems.site_schema.draft import Draft
from ems.site_schema.forms_assets import PoiPhasesForm
from ems.site_schema.text import Loc

SHARES_OFF = 1e-3  # so far the shares of a feeder may be from 1 together
I_RATIO_MIN = 0.5  # a fuse that carries less of the higher cap is a mistyped one


def check_phases(draft: Draft) -> None:
    """Shares make a whole, margins leave something, and who holds phases can read them."""
    for feeder_id, feeder in draft.feeders.items():
        whole = 1.0 if feeder.phase_share is None else math.fsum(feeder.phase_share)
        if abs(whole - 1.0) > SHARES_OFF:
            draft.add(("feeders", feeder_id, "phase_share"), f"{whole:g} in all", "three shares that make 1")
    declared = declared_phases(draft)
    for asset, (loc, rated_kw, margin_kw) in declared.items():
        if margin_kw is not None and margin_kw >= rated_kw:
            draft.add(
                (*loc, "margin_kw"),
                f"{margin_kw:g} kW",
                f"less than {rated_kw:g} kW, what it is kept free of",
            )
        if draft.connections:
            _mapped(draft, asset, loc)
    _fuse(draft)
    for point in draft.points:
        if point.name in PHASE_POINTS and point.asset not in declared and point.asset in draft.kinds:
            kept = "phases with it, which say how they are held"
            point.document.add(point.loc, f"{point.point}, and no phases at {point.asset}", kept)


def declared_phases(draft: Draft) -> dict[str, tuple[Loc, float, float | None]]:
    """Assets whose phases are held: where that is said, the rating [kW], the margin [kW]."""
    out: dict[str, tuple[Loc, float, float | None]] = {}
    grid = draft.grid
    if grid is not None and grid.phases is not None:
        rated_kw = max(grid.p_import_kw_max, grid.p_export_kw_max)
        out[grid.id] = (("grid", "phases"), rated_kw, grid.phases.margin_kw)
    for i, g in draft.gensets.items():
        if g.phases is not None:
            out[i] = (("gensets", i, "phases"), g.p_rated_kw, g.phases.margin_kw)
    for i, b in draft.bess.items():
        if b.pcs.phases is not None:
            out[i] = (("bess", i, "pcs", "phases"), b.pcs.s_kva, b.pcs.phases.margin_kw)
    return out


def _mapped(draft: Draft, asset: str, loc: Loc) -> None:
    """Three powers, or at the POI with nothing but a fuse to hold three currents."""
    mapped = {p.point for p in draft.points} | draft.broken_points
    powers, currents = ({point_id(asset, n) for n in names} for names in (POWER_OF_PHASE, CURRENT_OF_PHASE))
    own = draft.grid.phases if draft.grid is not None and draft.grid.id == asset else None
    fuse_alone = isinstance(own, PoiPhasesForm) and own.caps == "total"
    if powers <= mapped or (fuse_alone and currents <= mapped):
        return
    missing = ", ".join(sorted(powers - mapped))
    wanted = "p_l1_kw, p_l2_kw and p_l3_kw" + (", or i_l1_a to i_l3_a" if fuse_alone else "")
    note = "currents tell no direction" if currents & mapped else ""
    draft.add(loc, f"no map with {missing}", f"maps with {wanted} of {asset}", note)


def _fuse(draft: Draft) -> None:
    grid = draft.grid
    if grid is None or grid.phases is None:
        return
    own, loc = grid.phases, ("grid", "phases")
    currents = {point_id(grid.id, n) for n in CURRENT_OF_PHASE}
    if own.i_a_max is None:
        if own.caps == "total":
            draft.add(
                (*loc, "caps"), "total, and no i_a_max", "i_a_max with it: else nothing is held on a phase"
            )
        if any(p.point in currents for p in draft.points):
            draft.add(loc, "currents mapped, and no i_a_max", "i_a_max, or no currents in the map")
        return
    carried_kva = math.sqrt(3.0) * grid.v_nominal_v * own.i_a_max / 1000.0
    least_kw = I_RATIO_MIN * max(grid.p_import_kw_max, grid.p_export_kw_max)
    if carried_kva < least_kw:
        draft.add(
            (*loc, "i_a_max"),
            f"{own.i_a_max:g} A: {carried_kva:.0f} kVA at {grid.v_nominal_v:g} V",
            f"at least half the higher cap, {least_kw:g} kVA",
            "on which side of the transformer?",
        )
