"""What the keys of a weak interconnection mean together: its voltage band, its caps in time."""

from ems.points import AssetKind
from ems.site_schema.draft import Draft
from ems.site_schema.text import Loc
from ems.site_schema.words import clock, hint

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


def check_caps(draft: Draft) -> None:
    """Each cap has one kind of window and lowers at least one of the contract's caps."""
    grid = draft.grid
    if grid is None:
        return
    for i, cap in enumerate(grid.caps):
        loc = ("grid", "caps", i)
        hours, dates = (cap.from_h, cap.to_h), (cap.start, cap.end)
        given = [k for k, v in (("from", cap.from_h), ("to", cap.to_h)) if v is not None]
        given += [k for k, v in (("start", cap.start), ("end", cap.end)) if v is not None]
        if given not in (["from", "to"], ["start", "end"]):
            draft.add(
                loc,
                f"a window with {', '.join(given) or 'no times'}",
                "from and to (local hours), or start and end",
            )
        elif hours[0] is not None and hours[1] is not None and not hours[0] < hours[1]:
            draft.add(
                (*loc, "to"),
                f"a window from {clock(hours[0])} to {clock(hours[1])}",
                "an end after its start, on the same day",
                "over midnight: write two windows, the first to 24:00",
            )
        elif dates[0] is not None and dates[1] is not None and not dates[0] < dates[1]:
            draft.add((*loc, "end"), dates[1].isoformat(), f"after the start, {dates[0].isoformat()}")
        own = (("p_import_kw_max", cap.p_import_kw_max), ("p_export_kw_max", cap.p_export_kw_max))
        if all(kw is None for _, kw in own):
            draft.add(loc, "no cap", "p_import_kw_max, p_export_kw_max or both")
        for key, kw in own:
            most = getattr(grid, key)
            if kw is not None and kw > most:
                draft.add((*loc, key), f"{kw:g} kW", f"at most the contract's, {most:g} kW")


def check_transformer(draft: Draft) -> None:
    """A transformer that carries less than half of either cap is a mistyped one."""
    grid = draft.grid
    if grid is None or grid.transformer is None:
        return
    most = max(grid.p_import_kw_max, grid.p_export_kw_max)
    if grid.transformer.s_kva < 0.5 * most:
        draft.add(
            ("grid", "transformer", "s_kva"),
            f"{grid.transformer.s_kva:g} kVA",
            f"at least half the higher cap, {0.5 * most:g} kVA",
            "kVA or MVA?",
        )


def check_flapping(draft: Draft) -> None:
    """The dwell grows from that of reconnection."""
    grid = draft.grid
    if grid is None or grid.flapping is None:
        return
    if grid.flapping.dwell_s_max < grid.reconnect_dwell_s:
        draft.add(
            ("grid", "flapping", "dwell_s_max"),
            f"{grid.flapping.dwell_s_max:g} s",
            f"reconnect_dwell_s, {grid.reconnect_dwell_s:g} s, or more",
        )


def check_supervision(draft: Draft) -> None:
    """The frequency band holds a nominal frequency."""
    grid = draft.grid
    if grid is None:
        return
    low_hz, high_hz = grid.supervision.f_min_hz, grid.supervision.f_max_hz
    if low_hz is not None and high_hz is not None and not low_hz < high_hz:
        draft.add(
            ("grid", "supervision", "f_max_hz"),
            f"{high_hz:g} Hz",
            f"more than f_min_hz, {low_hz:g} Hz",
        )
    elif not any(_within(f_hz, low_hz, high_hz) for f_hz in (50.0, 60.0)):
        draft.add(
            ("grid", "supervision", "f_min_hz" if low_hz is not None else "f_max_hz"),
            f"{low_hz if low_hz is not None else high_hz:g} Hz",
            "a band with 50 Hz or 60 Hz inside",
        )


def check_transitions(draft: Draft) -> None:
    """A planned islanding has time to balance; who opens ahead of an outage can open."""
    grid = draft.grid
    if grid is None:
        return
    own, loc = grid.transitions, ("grid", "transitions")
    if own.planned_s_max < own.balanced_s + own.open_s_max:
        draft.add(
            (*loc, "planned_s_max"),
            f"{own.planned_s_max:g} s",
            f"balanced_s and open_s_max together, {own.balanced_s + own.open_s_max:g} s, or more",
        )
    setpoints = [f"{grid.id}.{n}" for n in ("open_request", "open_permit")]
    if own.island_before_s is not None and not any(p in draft.authority for p in setpoints):
        draft.add(
            (*loc, "island_before_s"),
            f"{own.island_before_s:g} s",
            f"authority over {' or '.join(setpoints)}",
            "the EMS can ask nobody to open the breaker",
        )


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or low <= value) and (high is None or value <= high)


SOURCES = (AssetKind.BESS, AssetKind.GENSET, AssetKind.PV)


def check_sources(draft: Draft) -> None:
    """Every set names sources of the site, once, and in an island one that can form it."""
    sets = draft.sources
    if sets is None:
        return
    if not sets.islanded and not sets.grid_tied:
        draft.add(("sources",), "no set", "a list of sets for islanded, grid_tied or both")
    for mode, listed in (("islanded", sets.islanded), ("grid_tied", sets.grid_tied)):
        seen: list[frozenset[str]] = []
        for i, ids in enumerate(listed):
            loc = ("sources", mode, i)
            for j, asset in enumerate(ids):
                _check_source(draft, (*loc, j), asset, ids[:j])
            if frozenset(ids) in seen:
                draft.add(loc, f"{', '.join(ids) or 'the empty set'} again", "each set once")
            seen.append(frozenset(ids))
            forming = draft.forming.islanded if draft.forming is not None else []
            if mode == "islanded" and draft.forming is not None and not set(ids) & set(forming):
                draft.add(loc, ", ".join(ids) or "the empty set", f"a set with one of {', '.join(forming)}")


def _check_source(draft: Draft, loc: Loc, asset: str, before: list[str]) -> None:
    kind = draft.kinds.get(asset)
    if kind is None:
        draft.add(loc, repr(asset), "a bess, genset or pv of this site", hint(asset, draft.kinds))
    elif kind not in SOURCES:
        draft.add(loc, f"{asset!r}, a {kind}", "a bess, genset or pv of this site")
    elif asset in before:
        draft.add(loc, f"{asset!r} again", "each source once")
