"""The protections' hold on power: POI caps while tied, headroom of the forming source in an island.

Each function takes the controller's wishes and gives back wishes that keep the bus inside its limits, the
bounds every other wish must respect, and what is left that only feeders can solve.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dispatch.balance import charge_room_kw, discharge_room_kw, reached, share_load, split
from dispatch.condition import Observed
from dispatch.emergency import HEADROOM_RATIO
from dispatch.island import Bus
from dispatch.layout import Layout
from dispatch.vocabulary import Target, Targets
from ems.commands import Bound, Cause
from ems.site import GridMode

MIN_LOAD_RATIO = 1.05  # gensets that form are kept this far above their minimum load
MAX_LOAD_RATIO = 0.95  # and this far below their rating
HELP_S = 60.0  # a genset comes within so long
RELIEF_S = 5.0  # what gensets on load can ramp up in this time needs no feeder shed
CHARGE_BIAS_RATIO = 0.01  # of the forming battery's power, and
LOAD_DROP_RATIO = 0.05  # of the load: the room to charge that is kept free for load that goes away
EASY_BIASES = 1.5  # biases more that charging from the grid keeps from the import cap
LIMIT_STEP_RATIO = 0.05  # of the PV rating
CHANGED_KW = 0.5  # a wish that was moved by less keeps its own cause
HEADROOM_RESTORE_RATIO = 0.85  # a feeder comes back only inside this share of the forming source


@dataclass(slots=True, kw_only=True)
class Power:
    """What the power stage decided; `shortage_kw` is load that nobody can carry."""

    bess: dict[str, Target] = field(default_factory=dict)
    genset: dict[str, Target] = field(default_factory=dict)
    pv: dict[str, Target] = field(default_factory=dict)
    bounds: dict[str, list[Bound]] = field(default_factory=dict)
    shortage_kw: float = 0.0
    headroom_kw: float = 0.0
    why: str = ""

    def bound(self, point: str | None, low: float, high: float, layer: str, reason: str) -> None:
        """Add a bound if there is such a setpoint."""
        if point is not None:
            bound = Bound(point=point, low=low, high=high, layer=layer, reason=reason)
            self.bounds.setdefault(point, []).append(bound)


def narrowed(wish: Target | None, value: float, reason: str) -> Target:
    """A wish moved inside a bound that holds for everybody: it stays the wish of whoever had it."""
    if wish is None:
        return Target(value=value, cause=Cause.PROTECTION, reason=reason)
    if abs(wish.value - value) <= CHANGED_KW:
        return replace(wish, value=value)
    return replace(wish, value=value, reason=f"{reason} (wanted {wish.value:+.0f} kW)")


def protected(wish: Target | None, value: float, reason: str) -> Target:
    """The wish itself while protection agrees with it, else protection's value and reason."""
    if wish is not None and abs(wish.value - value) <= CHANGED_KW:
        return Target(value=value, cause=wish.cause, reason=wish.reason)
    return Target(value=value, cause=Cause.PROTECTION, reason=reason)


def power_stage(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    wishes: Targets,
    runs: Mapping[str, Target],
    step_kw: float,
    dt_s: float,
) -> Power:
    """Hold the caps and headrooms of the present mode.

    Parameters
    ----------
    wishes : the controller's targets.
    runs : run targets of the gensets after minimum times and emergencies.
    step_kw : load step to expect from feeders that come back; gensets that form leave room for it.
    """
    out = _by_mode(layout, observed, bus, wishes, runs, step_kw, dt_s)
    for b, c in observed.condition.bess.items():
        if not c.available:
            reason = f"{b} is not available: it must come back at zero"
            out.bess[b] = Target(value=0.0, cause=Cause.PROTECTION, reason=reason)
    return out


def _by_mode(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    wishes: Targets,
    runs: Mapping[str, Target],
    step_kw: float,
    dt_s: float,
) -> Power:
    match bus.mode:
        case GridMode.GRID_TIED if observed.meter_ok:
            return _tied(layout, observed, bus, wishes, runs, step_kw, dt_s)
        case GridMode.GRID_TIED:
            return _blind(layout, observed, bus, wishes, runs, "the meter at the POI is lost")
        case GridMode.ISLANDED if bus.forming_bess:
            return _battery_island(layout, observed, bus, wishes, runs, dt_s)
        case GridMode.ISLANDED:
            return _genset_island(layout, observed, bus, wishes, step_kw, dt_s)
        case GridMode.UNKNOWN:
            return _blind(layout, observed, bus, wishes, runs, "the grid mode is unknown")
        case GridMode.BLACK:
            out = Power(why="the bus is dead")
            _limit_pv(layout, out, 0.0, "the bus is dead")
            return out


# --- shared -----------------------------------------------------------------------------------------------


def _genset_targets(
    layout: Layout, bus: Bus, wishes: Targets, runs: Mapping[str, Target]
) -> dict[str, float]:
    """What each set on load is heading for: its wish inside minimum load and rating, 0 when it is to stop."""
    out = {}
    for g in bus.running:
        params, run, wish = layout.gensets[g], runs.get(g), wishes.genset_p_kw.get(g)
        if run is not None and run.value < 0.5:
            out[g] = 0.0
        else:
            value = params.p_min_kw if wish is None else wish.value
            out[g] = min(params.p_rated_kw, max(params.p_min_kw, value))
    return out


def _genset_span_kw(
    layout: Layout, observed: Observed, targets: Mapping[str, float], dt_s: float
) -> tuple[float, float]:
    """(lowest, highest) power of the sets on load in the next `dt_s`, on the way to their targets [kW]."""
    low_kw = high_kw = 0.0
    for g, target_kw in targets.items():
        now_kw = observed.condition.gensets[g].p_kw
        end_kw = reached(now_kw, target_kw, layout.gensets[g].ramp_kw_s, dt_s)
        low_kw += min(now_kw, end_kw)
        high_kw += max(now_kw, end_kw)
    return low_kw, high_kw


def _lower(layout: Layout, targets: dict[str, float], by_kw: float) -> None:
    """Take load off the sets, none below its minimum; sets that stop are left alone."""
    rooms = {g: t - layout.gensets[g].p_min_kw for g, t in targets.items() if t > 0.0}
    for g, part in split(by_kw, rooms).items():
        targets[g] -= part


def _raise(layout: Layout, targets: dict[str, float], by_kw: float) -> None:
    """Put load on the sets, none above its rating; sets that stop are left alone."""
    rooms = {g: layout.gensets[g].p_rated_kw - t for g, t in targets.items() if t > 0.0}
    for g, part in split(by_kw, rooms).items():
        targets[g] += part


def _set_gensets(out: Power, wishes: Targets, targets: Mapping[str, float], reason: str) -> None:
    for g, value in targets.items():
        if value > 0.0:
            out.genset[g] = protected(wishes.genset_p_kw.get(g), value, reason)


def _limit_pv(layout: Layout, out: Power, total_kw: float, reason: str) -> None:
    """Share a PV limit among the plants by rating; a limit above all ratings is no limit."""
    free = total_kw >= layout.pv_ac_kw
    for p, params in layout.pv.items():
        if free:
            out.pv[p] = Target(value=params.p_ac_kw, cause=Cause.REFRESH, reason="PV needs no limit")
            continue
        value = max(0.0, total_kw) * params.p_ac_kw / layout.pv_ac_kw
        out.pv[p] = Target(value=value, cause=Cause.PROTECTION, reason=reason)
        out.bound(layout.setpoint_of.get((p, "p_limit_kw")), 0.0, value, "protection", reason)


def _rooms(
    layout: Layout, observed: Observed, ids: tuple[str, ...], dt_s: float
) -> dict[str, tuple[float, float]]:
    """(charge, discharge) rooms of following batteries [kW]."""
    out = {}
    for b in ids:
        battery, c = layout.bess[b].battery, observed.condition.bess[b]
        out[b] = (
            charge_room_kw(battery, c, battery.soc_max, dt_s),
            discharge_room_kw(battery, c, battery.soc_min, dt_s),
        )
    return out


def _wished_bess(wishes: Targets, rooms: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    out = {}
    for b, (charge_kw, discharge_kw) in rooms.items():
        wish = wishes.bess_p_kw.get(b)
        out[b] = 0.0 if wish is None else min(discharge_kw, max(-charge_kw, wish.value))
    return out


def _move_bess(values: dict[str, float], rooms: Mapping[str, tuple[float, float]], by_kw: float) -> None:
    """Discharge more (`by_kw` > 0) or charge more (< 0), shared by what is left of the rooms."""
    if by_kw >= 0.0:
        parts = split(by_kw, {b: rooms[b][1] - v for b, v in values.items()})
    else:
        parts = {b: -p for b, p in split(-by_kw, {b: rooms[b][0] + v for b, v in values.items()}).items()}
    for b, part in parts.items():
        values[b] += part


# --- tied to the grid -------------------------------------------------------------------------------------


def _tied(
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
    grid = layout.site.grid
    cap_kw = grid.p_import_kw_max - layout.poi_bias_kw
    top_kw = cap_kw - step_kw
    bottom_kw = -grid.p_export_kw_max + layout.poi_bias_kw
    targets = _genset_targets(layout, bus, wishes, runs)
    least_kw, most_kw = _genset_span_kw(layout, observed, targets, dt_s)
    rooms = _rooms(layout, observed, bus.following_bess, dt_s)
    bess = _wished_bess(wishes, rooms)
    absorb_kw = bus.load_kw - most_kw + sum(r[0] for r in rooms.values()) - bottom_kw
    pv_kw = max(0.0, min(bus.pv_potential_kw, absorb_kw))
    highest_kw, lowest_kw = bus.load_kw - least_kw - pv_kw, bus.load_kw - most_kw - pv_kw
    why = ""
    easy_kw = cap_kw - EASY_BIASES * layout.poi_bias_kw
    charging_kw = -sum(bess.values())
    if charging_kw > 0.0 and highest_kw + charging_kw > easy_kw:  # charging can wait: it keeps more distance
        why = f"charging leaves the import {grid.p_import_kw_max - easy_kw:.0f} kW under its cap"
        _move_bess(bess, rooms, min(highest_kw + charging_kw - easy_kw, charging_kw))
    over_kw = highest_kw - sum(bess.values()) - top_kw
    under_kw = bottom_kw - (lowest_kw - sum(bess.values()))
    if over_kw > 0.0:
        why = f"import would be {top_kw + over_kw:.0f} kW, the cap leaves {top_kw:.0f} kW"
        # what is stored is used at once: help comes sooner than the end of a long step
        _move_bess(bess, _rooms(layout, observed, bus.following_bess, min(dt_s, HELP_S)), over_kw)
        _raise(layout, targets, max(0.0, highest_kw - sum(bess.values()) - top_kw))
    elif under_kw > 0.0:
        why = f"the POI is kept at {bottom_kw:+.0f} kW: the export cap and its bias"
        _move_bess(bess, rooms, -under_kw)
        _lower(layout, targets, max(0.0, bottom_kw - (lowest_kw - sum(bess.values()))))
    least_kw, most_kw = _genset_span_kw(layout, observed, targets, dt_s)
    import_kw = bus.load_kw - least_kw - pv_kw - sum(bess.values())
    at_poi_kw = bus.load_kw - most_kw - pv_kw - sum(bess.values())
    for b, value in bess.items():
        out.bess[b] = narrowed(wishes.bess_p_kw.get(b), value, why)
        point = layout.setpoint_of.get((b, "p_set_kw"))
        slack_up, slack_down = max(0.0, at_poi_kw - bottom_kw), max(0.0, cap_kw - import_kw)
        n = len(bess)
        out.bound(point, value - slack_down / n, value + slack_up / n, "poi", "the caps at the POI")
    _set_gensets(out, wishes, targets, why)
    limit_kw = min(absorb_kw, pv_kw + max(0.0, at_poi_kw + grid.p_export_kw_max))
    _limit_pv(
        layout, out, limit_kw, f"more than {max(0.0, limit_kw):.0f} kW of PV would break the export cap"
    )
    out.shortage_kw = max(0.0, import_kw - grid.p_import_kw_max - _relief_kw(layout, observed, targets))
    out.headroom_kw = cap_kw - import_kw
    out.why = f"import of {import_kw:.0f} kW is over the contract's cap of {grid.p_import_kw_max:.0f} kW"
    return out


def _coarse(limit_kw: float, pv_kw: float, rated_kw: float) -> float:
    """A limit far above the PV there is moves in steps: it need not be written in every cycle."""
    step_kw = LIMIT_STEP_RATIO * rated_kw
    if limit_kw >= rated_kw or limit_kw - pv_kw <= 2.0 * step_kw:
        return limit_kw
    return math.floor(limit_kw / step_kw) * step_kw


def _relief_kw(layout: Layout, observed: Observed, targets: Mapping[str, float]) -> float:
    """What the sets on load can still ramp up within `RELIEF_S`."""
    total_kw = 0.0
    for g, target in targets.items():
        room_kw = target - observed.condition.gensets[g].p_kw
        total_kw += max(0.0, min(room_kw, layout.gensets[g].ramp_kw_s * RELIEF_S))
    return total_kw


def _blind(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    wishes: Targets,
    runs: Mapping[str, Target],
    why: str,
) -> Power:
    """Without the meter or the mode: no discharge into the unknown, PV under the load that is measured."""
    out = Power(why=why)
    for b in bus.following_bess:
        out.bess[b] = Target(value=0.0, cause=Cause.PROTECTION, reason=f"{why}: the battery rests")
    known = not any(p in observed.substituted for p in (layout.p[f] for f in layout.feeders))
    load_kw = sum(observed.condition.feeder_kw.values()) if known else 0.0
    targets = {g: t for g, t in _genset_targets(layout, bus, wishes, runs).items() if t > 0.0}
    for g in targets:
        targets[g] = layout.gensets[g].p_min_kw
    _set_gensets(out, wishes, targets, f"{why}: minimum load")
    _limit_pv(layout, out, 0.8 * load_kw - sum(targets.values()), f"{why}: PV stays under the measured load")
    return out


# --- islands ----------------------------------------------------------------------------------------------


def _battery_island(
    layout: Layout,
    observed: Observed,
    bus: Bus,
    wishes: Targets,
    runs: Mapping[str, Target],
    dt_s: float,
) -> Power:
    """The forming battery's power is a result: gensets, other batteries and PV leave it headroom."""
    out = Power()
    top_kw, bottom_kw = HEADROOM_RATIO * bus.up_kw, _lowest_kw(layout, bus)
    targets = _genset_targets(layout, bus, wishes, runs)
    rooms = _rooms(layout, observed, bus.following_bess, dt_s)
    bess = _wished_bess(wishes, rooms)
    rest_kw = bus.load_kw - bus.pv_potential_kw
    least_kw, most_kw = _genset_span_kw(layout, observed, targets, dt_s)
    over_kw = rest_kw - least_kw - sum(bess.values()) - top_kw
    under_kw = bottom_kw - (rest_kw - most_kw - sum(bess.values()))
    why = ""
    if over_kw > 0.0:
        why = f"the forming battery would give {top_kw + over_kw:.0f} kW, {top_kw:.0f} kW leave it headroom"
        _raise(layout, targets, over_kw)
        least_kw, _ = _genset_span_kw(layout, observed, targets, dt_s)
        _move_bess(bess, rooms, max(0.0, rest_kw - least_kw - sum(bess.values()) - top_kw))
    elif under_kw > 0.0:
        why = f"the forming battery would take {under_kw - bottom_kw:.0f} kW, too much for its headroom"
        _move_bess(bess, rooms, -under_kw)
        _lower(layout, targets, max(0.0, bottom_kw - (rest_kw - sum(targets.values()) - sum(bess.values()))))
    least_kw, most_kw = _genset_span_kw(layout, observed, targets, dt_s)
    absorb_kw = bus.load_kw - most_kw - sum(bess.values()) - bottom_kw
    _limit_pv(layout, out, absorb_kw, f"load and battery can take {max(0.0, absorb_kw):.0f} kW of PV")
    pv_kw = max(0.0, min(bus.pv_potential_kw, absorb_kw))
    forming_kw = bus.load_kw - pv_kw - least_kw - sum(bess.values())
    for b, value in bess.items():
        out.bess[b] = protected(wishes.bess_p_kw.get(b), value, why)
    if observed.mains_ok:
        _ready_to_follow(layout, observed, bus, out)
    _set_gensets(out, wishes, targets, why)
    out.shortage_kw = max(0.0, forming_kw - bus.up_kw - _relief_kw(layout, observed, targets))
    if out.shortage_kw > 0.0:
        out.shortage_kw += bus.up_kw - top_kw
    out.headroom_kw = HEADROOM_RESTORE_RATIO * bus.up_kw - forming_kw
    out.why = f"the forming battery would give {forming_kw:.0f} of {bus.up_kw:.0f} kW"
    return out


def _ready_to_follow(layout: Layout, observed: Observed, bus: Bus, out: Power) -> None:
    """The mains are back: what a forming battery gives now is what it shall give when it follows again.

    The setpoint has no effect while it forms. Without it the battery would jump to an old value the moment
    the breaker closes.
    """
    for b in bus.forming_bess:
        value = observed.condition.bess[b].p_kw - layout.poi_bias_kw / len(bus.forming_bess)
        reason = "the mains are back: as it forms now, so it shall follow when the breaker closes"
        out.bess[b] = Target(value=value, cause=Cause.PROTECTION, reason=reason)


def _lowest_kw(layout: Layout, bus: Bus) -> float:
    """Lowest power the forming battery is steered to, negative while it may charge [kW]."""
    bias_kw = CHARGE_BIAS_RATIO * sum(layout.bess[b].battery.p_nominal_kw for b in bus.forming_bess)
    margin_kw = max((1.0 - HEADROOM_RATIO) * bus.down_kw, bias_kw + LOAD_DROP_RATIO * bus.load_kw)
    return margin_kw - bus.down_kw


def _genset_island(
    layout: Layout, observed: Observed, bus: Bus, wishes: Targets, step_kw: float, dt_s: float
) -> Power:
    """Gensets form and share: batteries and PV keep them between minimum load and rating."""
    out = Power()
    rated_kw, bottom_kw = MAX_LOAD_RATIO * bus.genset_rated_kw, MIN_LOAD_RATIO * bus.genset_min_kw
    top_kw = max(bottom_kw, rated_kw - step_kw)
    rooms = _rooms(layout, observed, bus.following_bess, dt_s)
    bess = _wished_bess(wishes, rooms)
    absorb_kw = bus.load_kw + sum(r[0] for r in rooms.values()) - bottom_kw
    pv_kw = max(0.0, min(bus.pv_potential_kw, absorb_kw))
    genset_kw = bus.load_kw - pv_kw - sum(bess.values())
    why = ""
    if genset_kw > top_kw:
        why = f"the gensets would carry {genset_kw:.0f} kW, {top_kw:.0f} kW leave them headroom"
        _move_bess(bess, rooms, genset_kw - top_kw)
    elif genset_kw < bottom_kw:
        why = f"the gensets would carry {genset_kw:.0f} kW, their minimum is {bus.genset_min_kw:.0f} kW"
        _move_bess(bess, rooms, genset_kw - bottom_kw)
    genset_kw = bus.load_kw - pv_kw - sum(bess.values())
    for b, value in bess.items():
        out.bess[b] = protected(wishes.bess_p_kw.get(b), value, why)
    limit_kw = min(absorb_kw, pv_kw + max(0.0, genset_kw - bottom_kw))
    _limit_pv(
        layout, out, limit_kw, f"above {max(0.0, limit_kw):.0f} kW of PV the gensets fall below minimum load"
    )
    running = [layout.gensets[g] for g in bus.running]
    shares = share_load(max(0.0, genset_kw), running)
    _set_gensets(out, wishes, shares, "share of the load among forming gensets")
    out.shortage_kw = max(0.0, genset_kw - bus.genset_rated_kw)
    if out.shortage_kw > 0.0:
        out.shortage_kw += bus.genset_rated_kw - rated_kw
    jump_kw = max((g.step_load_kw_max for g in running), default=0.0)
    out.headroom_kw = min(jump_kw, rated_kw - genset_kw)  # the battery helps only a cycle later
    out.why = f"the gensets would carry {genset_kw:.0f} of {bus.genset_rated_kw:.0f} kW"
    return out
