"""Tied to the grid: import and export inside the caps at the POI."""

import math
from collections.abc import Mapping

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.bus import Bus
from dispatch.protections.power_parts import (
    Power,
    bess_rooms,
    coming_pv_kw,
    genset_span_kw,
    genset_targets,
    limit_pv,
    lower_gensets,
    move_bess,
    narrowed,
    raise_gensets,
    relief_kw,
    set_gensets,
    wish_pv,
    wished_bess,
)
from dispatch.vocabulary import PvWish, Target, Targets

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
    span_kw = bottom_kw, max(bottom_kw, top_kw)
    wish_kw, room_kw, follow_kw = _wished_kw(observed, bus, wishes.pv_wish, rooms, span_kw)
    wished = wish_pv(layout, observed, bus, wishes.pv_wish, wish_kw - most_kw)
    pv_kw = max(lost_kw, min(bus.pv_potential_kw, absorb_kw, wished.total_kw))
    highest_kw, lowest_kw = bus.load_kw - least_kw - pv_kw, bus.load_kw - most_kw - pv_kw
    why = _spared(bess, rooms, room_kw - most_kw - coming_pv_kw(layout, observed, pv_kw, dt_s), follow_kw)
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
    wish_pv(layout, observed, bus, wishes.pv_wish, wish_kw - most_kw).narrow(out)
    out.shortage_kw = max(0.0, import_kw - bus.import_cap_kw - relief_kw(layout, observed, targets))
    out.headroom_kw = cap_kw - import_kw
    out.why = f"import of {import_kw:.0f} kW is over the contract's cap of {bus.import_cap_kw:.0f} kW"
    return out


def _wished_kw(
    observed: Observed,
    bus: Bus,
    wish: PvWish | None,
    rooms: Mapping[str, tuple[float, float]],
    poi_kw: tuple[float, float],
) -> tuple[float, float, float]:
    """What a controller's wish, which loosens no cap, lets PV and gensets give; what these and the batteries
    that follow; and what it wants of those batteries [kW]. Without a wish all is let.

    Parameters
    ----------
    rooms : (charge, discharge) of the batteries that follow.
    poi_kw : lowest and highest power at the POI that the caps leave.
    """
    if wish is None:
        return math.inf, math.inf, -math.inf
    c = observed.condition
    follow_kw = sum(min(rooms[b][1], max(-rooms[b][0], p)) for b, p in wish.bess_kw.items() if b in rooms)
    others_kw = sum(x.p_kw for b, x in c.bess.items() if b not in rooms)
    room_kw = bus.load_kw - others_kw - max(poi_kw[0], min(poi_kw[1], -wish.export_kw))
    return room_kw - follow_kw, room_kw, follow_kw


def _spared(
    bess: dict[str, float], rooms: Mapping[str, tuple[float, float]], left_kw: float, wanted_kw: float
) -> str:
    """Batteries leave to PV what it will do in this cycle, up or down, and go no further than that; why.

    Else both would answer the same load.

    Parameters
    ----------
    left_kw : what PV leaves them.
    wanted_kw : what is wished of them beside it.
    """
    given_kw = sum(bess.values())
    meant_kw = min(max(given_kw, min(left_kw, wanted_kw)), max(left_kw, wanted_kw))
    if abs(meant_kw - given_kw) < 1e-9:
        return ""
    move_bess(bess, rooms, meant_kw - given_kw)
    return f"PV gives way or comes up: it leaves the batteries {left_kw:+.0f} kW"
