"""Islands: the forming source's power is a result; it is steered through the others, with headroom."""

import math
from collections.abc import Mapping, Sequence

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.balance import FULL_BAND_SOC, share_load, split
from dispatch.protections.bus import Bus, more_kw
from dispatch.protections.emergency import HEADROOM_RATIO
from dispatch.protections.power_parts import (
    Power,
    bess_rooms,
    genset_span_kw,
    genset_targets,
    limit_pv,
    lower_gensets,
    move_bess,
    protected,
    raise_gensets,
    relief_kw,
    set_gensets,
    wished_bess,
)
from dispatch.vocabulary import Target, Targets
from ems.assets import GensetParams, Sharing
from ems.commands import Cause

MIN_LOAD_RATIO = 1.05  # gensets that form are kept this far above their minimum load
MAX_LOAD_RATIO = 0.95  # and this far below their rating
CHARGE_BIAS_RATIO = 0.01  # of the forming battery's power, and
LOAD_DROP_RATIO = 0.05  # of the load: the room to charge that is kept free for load that goes away
TRIP_ROOM_RATIO = 0.3  # of its discharge: so far the forming battery is pushed up to make room for a trip
HEADROOM_RESTORE_RATIO = 0.85  # a feeder comes back only inside this share of the forming source
HEADROOM_MADE_RATIO = 0.8  # what sets make for its sake: the load's noise does not take it back
STEP_RATIO = 0.5  # of the step of load a set survives: so much of it a battery may put on the sets in a cycle


def battery_island(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    wishes: Targets,
    runs: Mapping[str, Target],
    step_kw: float,
    room_begun: bool,
    dt_s: float,
) -> Power:
    """The forming battery's power is a result: gensets, other batteries and PV leave it headroom.

    Sets on load make room for a feeder that waits as well, where they can.
    """
    out = Power()
    top_kw, bottom_kw = HEADROOM_RATIO * bus.up_kw, _lowest_kw(layout, bus)
    targets = genset_targets(layout, bus, wishes, runs)
    rooms = bess_rooms(layout, observed, bus.following_bess, dt_s)
    bess = wished_bess(wishes, rooms)
    silent_kw, _ = genset_span_kw(layout, observed, {}, dt_s)
    rest_kw = bus.load_kw - bus.pv_potential_kw
    carried_kw = rest_kw - silent_kw - sum(bess.values())  # by the forming battery and sets that are heard
    excess_kw = max(0.0, carried_kw - sum(targets.values()) - top_kw)
    raise_gensets(layout, targets, excess_kw)
    out.makes_room = _make_room(layout, observed, bus, targets, carried_kw, step_kw, room_begun)
    least_kw, most_kw = genset_span_kw(layout, observed, targets, dt_s)
    over_kw = rest_kw - least_kw - sum(bess.values()) - top_kw
    # it has room for all that plants may give whose limit is lost, as far as the load lets it
    under_kw = bottom_kw - (rest_kw - most_kw - sum(bess.values())) + bus.surge_kw
    under_kw = min(under_kw, max(-over_kw, under_kw - bus.surge_kw))
    why = f"room is made for a feeder of {step_kw:.0f} kW" if out.makes_room else ""
    if max(excess_kw, over_kw) > 0.0:
        would_kw = top_kw + max(excess_kw, over_kw)
        why = f"the forming battery would give {would_kw:.0f} kW, {top_kw:.0f} kW leave it headroom"
    if over_kw > 0.0:
        move_bess(bess, rooms, max(0.0, rest_kw - least_kw - sum(bess.values()) - top_kw))
    elif under_kw > 0.0:
        why = f"the forming battery would take {under_kw - bottom_kw:.0f} kW, too much for its headroom"
        move_bess(bess, rooms, -under_kw)
        coming_kw = rest_kw - sum(targets.values()) - bus.unheard_kw - sum(bess.values()) - bus.surge_kw
        lower_gensets(layout, targets, max(0.0, bottom_kw - coming_kw))
    least_kw, most_kw = genset_span_kw(layout, observed, targets, dt_s)
    absorb_kw = bus.load_kw - most_kw - sum(bess.values()) - bottom_kw - bus.surge_kw
    limit_pv(layout, out, bus, absorb_kw, f"load and battery can take {max(0.0, absorb_kw):.0f} kW of PV")
    pv_kw = max(sum(bus.lost_pv_kw.values()), min(bus.pv_potential_kw, absorb_kw))
    forming_kw = bus.load_kw - pv_kw - least_kw - sum(bess.values())
    for b, value in bess.items():
        out.bess[b] = protected(wishes.bess_p_kw.get(b), value, why)
    if observed.mains_ok:
        _ready_to_follow(layout, observed, bus, out)
    set_gensets(out, wishes, targets, why)
    out.shortage_kw = max(0.0, forming_kw - bus.up_kw - relief_kw(layout, observed, targets))
    if out.shortage_kw > 0.0:
        out.shortage_kw += (1.0 - HEADROOM_RATIO) * bus.up_kw
    out.headroom_kw = HEADROOM_RESTORE_RATIO * bus.up_kw - forming_kw
    out.why = f"the forming battery would give {forming_kw:.0f} of {bus.up_kw:.0f} kW"
    return out


def _make_room(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    targets: dict[str, float],
    carried_kw: float,
    step_kw: float,
    begun: bool,
) -> bool:
    """Have sets on load give more so that a feeder of `step_kw` may come back; whether they do.

    It is begun where the load's noise will not undo it, and gone on with for as long as it is of use.
    """
    spare_kw = {
        g: max(0.0, layout.gensets[g].p_rated_kw - more_kw(observed, g) - target)
        for g, target in targets.items()
        if target > 0.0
    }
    if step_kw <= 0.0 or not spare_kw:
        return False
    left_kw = carried_kw - sum(targets.values())  # for the forming battery
    floor_kw = _lowest_kw(layout, bus) + bus.surge_kw
    ratio = HEADROOM_RESTORE_RATIO if begun else HEADROOM_MADE_RATIO
    if max(floor_kw, left_kw - sum(spare_kw.values())) > ratio * bus.up_kw - step_kw:
        return False
    forming_kw = max(floor_kw, HEADROOM_MADE_RATIO * bus.up_kw - step_kw)
    for g, part in split(max(0.0, left_kw - forming_kw), spare_kw).items():
        targets[g] += part
    return True


def _ready_to_follow(layout: Layout, observed: Observed, bus: Bus, out: Power) -> None:
    """The mains are back: what a forming battery gives now is what it shall give when it follows again.

    The setpoint has no effect while it forms. Without it the battery would jump to an old value the moment
    the breaker closes. Half the bias is imported then: next to nothing, and nothing exported.
    """
    for b in bus.forming_bess:
        value = observed.condition.bess[b].p_kw - 0.5 * layout.poi_bias_kw / len(bus.forming_bess)
        reason = "the mains are back: as it forms now, so it shall follow when the breaker closes"
        out.bess[b] = Target(value=value, cause=Cause.PROTECTION, reason=reason)


def _lowest_kw(layout: Layout, bus: Bus) -> float:
    """Lowest power the forming battery is steered to, negative while it may charge [kW]."""
    bias_kw = CHARGE_BIAS_RATIO * sum(layout.bess[b].battery.p_nominal_kw for b in bus.forming_bess)
    margin_kw = max((1.0 - HEADROOM_RATIO) * bus.down_kw, bias_kw + LOAD_DROP_RATIO * bus.load_kw)
    # what the policy wants carried when a load trips, but never so much that the other side has no room
    margin_kw = max(margin_kw, layout.site.reserve.load_trip_kw)
    return min(margin_kw - bus.down_kw, TRIP_ROOM_RATIO * bus.up_kw)


def genset_island(
    layout: Layout, observed: Observed, bus: Bus, wishes: Targets, step_kw: float, dt_s: float
) -> Power:
    """Gensets form and share: batteries and PV keep them between minimum load and rating.

    What others that are not heard may give is taken off the load: the rest is what these sets carry.
    """
    out, load_kw = Power(), bus.load_kw - bus.unheard_kw
    rated_kw, bottom_kw = MAX_LOAD_RATIO * bus.genset_rated_kw, MIN_LOAD_RATIO * bus.genset_min_kw
    top_kw = max(bottom_kw, rated_kw - step_kw)
    rooms = bess_rooms(layout, observed, bus.following_bess, dt_s, FULL_BAND_SOC)
    bess = wished_bess(wishes, rooms)
    absorb_kw = load_kw + sum(r[0] for r in rooms.values()) - bottom_kw - bus.surge_kw
    pv_kw = max(sum(bus.lost_pv_kw.values()), min(bus.pv_potential_kw, absorb_kw))
    genset_kw = load_kw - pv_kw - sum(bess.values())
    bottom_kw = max(
        bottom_kw, min(top_kw, bottom_kw + bus.surge_kw)
    )  # room below for what lost plants may give
    why = ""
    if genset_kw > top_kw:
        why = f"the gensets would carry {genset_kw:.0f} kW, {top_kw:.0f} kW leave them headroom"
        move_bess(bess, rooms, genset_kw - top_kw)
    elif genset_kw < bottom_kw:
        why = f"the gensets would carry {genset_kw:.0f} kW, their minimum is {bus.genset_min_kw:.0f} kW"
        move_bess(bess, rooms, genset_kw - bottom_kw)
    most_kw = _survived_kw(layout, observed, bus, STEP_RATIO, MAX_LOAD_RATIO)
    rise_kw = load_kw - pv_kw - sum(bess.values()) - most_kw
    ours_kw = sum(max(0.0, observed.condition.bess[b].p_kw - kw) for b, kw in bess.items())
    if min(rise_kw, ours_kw) > 0.0:
        why = f"the gensets survive a step to {most_kw:.0f} kW: batteries charge no faster"
        move_bess(bess, rooms, min(rise_kw, ours_kw))
    genset_kw = load_kw - pv_kw - sum(bess.values())
    for b, value in bess.items():
        out.bess[b] = protected(wishes.bess_p_kw.get(b), value, why)
    limit_kw = min(absorb_kw, pv_kw + max(0.0, genset_kw - bottom_kw))
    limit_pv(
        layout,
        out,
        bus,
        limit_kw,
        f"above {max(0.0, limit_kw):.0f} kW of PV the gensets fall below minimum load",
    )
    running = [layout.gensets[g] for g in bus.running]
    shares = share_load(max(0.0, genset_kw), running)
    set_gensets(out, wishes, shares, "share of the load among forming gensets")
    out.shortage_kw = max(0.0, genset_kw - bus.genset_rated_kw)
    if out.shortage_kw > 0.0:
        out.shortage_kw += bus.genset_rated_kw - rated_kw
    jump_kw = _survived_kw(layout, observed, bus, 1.0, math.inf) - max(genset_kw, bus.genset_kw)
    out.headroom_kw = min(jump_kw, rated_kw - genset_kw)  # the battery helps only a cycle later
    out.why = f"the gensets would carry {genset_kw:.0f} of {bus.genset_rated_kw:.0f} kW"
    return out


def _survived_kw(layout: Layout, observed: Observed, bus: Bus, ratio: float, most_ratio: float) -> float:
    """Power of all sets on load after `ratio` of the largest step they survive, no less than now [kW].

    The set that forms and those that share with it take a step by their ratings; the others stay where they
    are. None is brought beyond `most_ratio` of its rating. Who forms no device tells: the first in order or
    the one longest on load, whichever bears less.
    """
    c, sets = observed.condition, [layout.gensets[g] for g in bus.running]
    longest = max(bus.running, key=lambda g: c.gensets[g].age_s)
    cases = [_leading(sets, g) for g in bus.running if g in (c.forming, longest)]
    most_kw = min(
        sum(c.gensets[g.id].p_kw for g in sets if g not in leaders)
        + max(
            c.gensets[own.id].p_kw,
            min(c.gensets[own.id].p_kw + ratio * own.step_load_kw_max, most_ratio * own.p_rated_kw),
        )
        * sum(g.p_rated_kw for g in leaders)
        / own.p_rated_kw
        for leaders in cases
        for own in leaders
    )
    return max(bus.genset_kw, most_kw)


def _leading(sets: Sequence[GensetParams], first: str) -> list[GensetParams]:
    """The sets among which a step of load is shared, where `first` forms."""
    return [g for g in sets if g.id == first or g.sharing is Sharing.PROPORTIONAL]
