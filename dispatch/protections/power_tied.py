"""Tied to the grid: import and export inside the caps at the POI."""

from collections.abc import Mapping

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.bus import Bus
from dispatch.protections.power_parts import (
    Power,
    bess_rooms,
    genset_span_kw,
    genset_targets,
    limit_pv,
    lower_gensets,
    move_bess,
    narrowed,
    raise_gensets,
    relief_kw,
    set_gensets,
    wished_bess,
)
from dispatch.vocabulary import Target, Targets

HELP_S = 60.0  # a genset comes within so long
EASY_BIASES = 1.5  # biases more that charging from the grid keeps from the import cap


def tied(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    wishes: Targets,
    runs: Mapping[str, Target],
    step_kw: float,
    dt_s: float,
) -> Power:
    """Import and export inside their caps less a bias: battery first, then gensets, then PV."""
    out = Power()
    owed = observed.caps
    owed_kw = (0.0, 0.0) if owed is None else (owed.owed_import_kw, owed.owed_export_kw)
    cap_kw = bus.import_cap_kw - layout.poi_bias_kw - owed_kw[0]
    top_kw = cap_kw - step_kw
    bottom_kw = -bus.export_cap_kw + layout.poi_bias_kw + owed_kw[1]
    targets = genset_targets(layout, bus, wishes, runs)
    least_kw, most_kw = genset_span_kw(layout, observed, targets, dt_s)
    able = bess_rooms(layout, observed, bus.following_bess, dt_s)
    rooms = {b: (0.0 if b in observed.full else room[0], room[1]) for b, room in able.items()}
    bess = wished_bess(wishes, rooms)
    lost_kw = sum(bus.lost_pv_kw.values())
    charge_kw = sum(r[0] for r in rooms.values())
    absorb_kw = bus.load_kw - most_kw + charge_kw - bottom_kw - bus.surge_kw
    if absorb_kw < lost_kw and bus.lost_pv_kw:  # room for all that the lost plants may give
        lower_gensets(layout, targets, lost_kw - absorb_kw)
        least_kw, most_kw = genset_span_kw(layout, observed, targets, dt_s)
        absorb_kw = bus.load_kw - most_kw + charge_kw - bottom_kw - bus.surge_kw
    pv_kw = max(lost_kw, min(bus.pv_potential_kw, absorb_kw))
    highest_kw, lowest_kw = bus.load_kw - least_kw - pv_kw, bus.load_kw - most_kw - pv_kw
    why = ""
    easy_kw = cap_kw - EASY_BIASES * layout.poi_bias_kw
    charging_kw = -sum(bess.values())
    if charging_kw > 0.0 and highest_kw + charging_kw > easy_kw:  # charging can wait: it keeps more distance
        why = f"charging leaves the import {bus.import_cap_kw - easy_kw:.0f} kW under its cap"
        move_bess(bess, rooms, min(highest_kw + charging_kw - easy_kw, charging_kw))
    over_kw = highest_kw - sum(bess.values()) - top_kw
    under_kw = bottom_kw - (lowest_kw - sum(bess.values()))
    if over_kw > 0.0:
        why = f"import would be {top_kw + over_kw:.0f} kW, the cap leaves {top_kw:.0f} kW"
        # what is stored is used at once: help comes sooner than the end of a long step
        move_bess(bess, bess_rooms(layout, observed, bus.following_bess, min(dt_s, HELP_S)), over_kw)
        raise_gensets(layout, targets, max(0.0, highest_kw - sum(bess.values()) - top_kw))
    elif under_kw > 0.0:
        why = f"the POI is kept at {bottom_kw:+.0f} kW: the export cap and its bias"
        move_bess(bess, able, -under_kw)  # what a full battery still takes for a moment helps here
        lower_gensets(layout, targets, max(0.0, bottom_kw - (lowest_kw - sum(bess.values()))))
    least_kw, most_kw = genset_span_kw(layout, observed, targets, dt_s)
    import_kw = bus.load_kw - least_kw - pv_kw - sum(bess.values())
    at_poi_kw = bus.load_kw - most_kw - pv_kw - sum(bess.values())
    for b, value in bess.items():
        out.bess[b] = narrowed(wishes.bess_p_kw.get(b), value, why)
        point = layout.setpoint_of.get((b, "p_set_kw"))
        slack_up, slack_down = max(0.0, at_poi_kw - bottom_kw), max(0.0, cap_kw - import_kw)
        n = len(bess)
        out.bound(point, value - slack_down / n, value + slack_up / n, "poi", "the caps at the POI")
    set_gensets(out, wishes, targets, why)
    limit_kw = min(absorb_kw, pv_kw + max(0.0, at_poi_kw + bus.export_cap_kw - owed_kw[1]))
    limit_pv(
        layout, out, bus, limit_kw, f"more than {max(0.0, limit_kw):.0f} kW of PV would break the export cap"
    )
    out.shortage_kw = max(0.0, import_kw - bus.import_cap_kw - relief_kw(layout, observed, targets))
    out.headroom_kw = cap_kw - import_kw
    out.why = f"import of {import_kw:.0f} kW is over the contract's cap of {bus.import_cap_kw:.0f} kW"
    return out
