"""What the keys of a weak interconnection mean together: its voltage band."""

from ems.site_schema.draft import Draft

NARROWEST_PU = 0.01  # a narrower band is one number


def check_reactive(draft: Draft) -> None:
    """The planned band lies inside the mains' quality band, and the source inside the planned one."""
    grid = draft.grid
    if grid is None or grid.reactive is None:
        return
    own, loc = grid.reactive, ("grid", "reactive")
    if own.v_poi_min_pu < grid.v_min_pu:
        draft.add(
            (*loc, "v_poi_min_pu"),
            f"{own.v_poi_min_pu:g}",
            f"v_min_pu of the grid, {grid.v_min_pu:g}, or more",
        )
    if own.v_poi_max_pu > grid.v_max_pu:
        draft.add(
            (*loc, "v_poi_max_pu"),
            f"{own.v_poi_max_pu:g}",
            f"v_max_pu of the grid, {grid.v_max_pu:g}, or less",
        )
    if own.v_poi_max_pu - own.v_poi_min_pu < NARROWEST_PU - 1e-9:
        draft.add(
            (*loc, "v_poi_max_pu"),
            f"{own.v_poi_max_pu:g} above {own.v_poi_min_pu:g}",
            f"at least {NARROWEST_PU:g} above v_poi_min_pu",
        )
    elif not own.v_poi_min_pu <= own.v_source_pu <= own.v_poi_max_pu:
        draft.add(
            (*loc, "v_source_pu"),
            f"{own.v_source_pu:g}",
            f"{own.v_poi_min_pu:g} to {own.v_poi_max_pu:g}, the planned band",
            "without load the voltage at the interconnection is that of the source",
        )
    if own.pcs_sides % 4:
        draft.add(
            (*loc, "pcs_sides"),
            f"{own.pcs_sides}",
            "a multiple of 4",
            "so that full active and full reactive power are corners",
        )
