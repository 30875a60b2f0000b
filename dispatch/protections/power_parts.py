"""What the power stages of all grid modes share: outcome, targets of sets, rooms of batteries, limits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.protections.balance import (
    charge_room_kw,
    discharge_room_kw,
    moved,
    reached,
    split,
    uncirculated,
)
from dispatch.protections.bus import SHORT_S, Bus
from dispatch.protections.silent_sets import silent_span_kw
from dispatch.vocabulary import PvWish, Target, Targets
from ems.commands import Bound, Cause
from ems.frozen import replace

RELIEF_S = 5.0  # what gensets on load can ramp up in this time needs no feeder shed
CHANGED_KW = 0.5  # a wish that was moved by less keeps its own cause


@dataclass(slots=True, kw_only=True)
class Power:
    """What the power stage decided; `shortage_kw` is load that nobody can carry."""

    bess: dict[str, Target] = field(default_factory=dict)
    genset: dict[str, Target] = field(default_factory=dict)
    pv: dict[str, Target] = field(default_factory=dict)
    bounds: dict[str, list[Bound]] = field(default_factory=dict)
    shortage_kw: float = 0.0
    headroom_kw: float = 0.0
    makes_room: bool = False  # sets give more for the sake of a feeder that waits
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


def genset_targets(layout: Layout, bus: Bus, wishes: Targets, runs: Mapping[str, Target]) -> dict[str, float]:
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


def genset_span_kw(
    layout: Layout, observed: Observed, targets: Mapping[str, float], dt_s: float
) -> tuple[float, float]:
    """(lowest, highest) power of the sets on load in the next `dt_s`, on the way to their targets [kW].

    Those that are not heard are where the other meters say, or were last, and may leave for either end of
    what their silence means.
    """
    low_kw = high_kw = 0.0
    for g, target_kw in targets.items():
        now_kw = observed.condition.gensets[g].p_kw
        end_kw = reached(now_kw, target_kw, layout.gensets[g].ramp_kw_s, dt_s)
        low_kw += min(now_kw, end_kw)
        high_kw += max(now_kw, end_kw)
    for g, c in observed.condition.gensets.items():
        if c.on_load and not c.heard and g not in targets:
            ends_kw = silent_span_kw(layout, g, c.p_kw)
            ramp_kw_s = layout.gensets[g].ramp_down_or_up_kw_s, layout.gensets[g].ramp_kw_s
            low_kw += reached(c.p_kw, min(c.p_kw, ends_kw[0]), ramp_kw_s[0], dt_s)
            high_kw += reached(c.p_kw, ends_kw[1], ramp_kw_s[1], dt_s)
    return low_kw, high_kw


def lower_gensets(layout: Layout, targets: dict[str, float], by_kw: float) -> None:
    """Take load off the sets, none below its minimum; sets that stop are left alone."""
    rooms = {g: t - layout.gensets[g].p_min_kw for g, t in targets.items() if t > 0.0}
    for g, part in split(by_kw, rooms).items():
        targets[g] -= part


def raise_gensets(layout: Layout, targets: dict[str, float], by_kw: float) -> None:
    """Put load on the sets, none above its rating; sets that stop are left alone."""
    rooms = {g: layout.gensets[g].p_rated_kw - t for g, t in targets.items() if t > 0.0}
    for g, part in split(by_kw, rooms).items():
        targets[g] += part


def set_gensets(out: Power, wishes: Targets, targets: Mapping[str, float], reason: str) -> None:
    """Base loads of the sets that stay on load."""
    for g, value in targets.items():
        if value > 0.0:
            out.genset[g] = protected(wishes.genset_p_kw.get(g), value, reason)


def limit_pv(layout: Layout, out: Power, bus: Bus, total_kw: float, reason: str) -> None:
    """Share a PV limit among the plants by rating; a limit above all ratings is no limit.

    What plants give whose limit is lost is taken off first. They are told their share all the same: it holds
    from when they listen again.
    """
    lost_kw = bus.lost_pv_kw
    rated_kw = sum(p.p_ac_kw for i, p in layout.pv.items() if i not in lost_kw)
    left_kw = max(0.0, total_kw - sum(lost_kw.values()))
    for p, params in layout.pv.items():
        whole_kw, rest_kw = (layout.pv_ac_kw, max(0.0, total_kw)) if p in lost_kw else (rated_kw, left_kw)
        if rest_kw >= whole_kw and total_kw >= 0.0:
            out.pv[p] = Target(value=params.p_ac_kw, cause=Cause.REFRESH, reason="PV needs no limit")
            continue
        value = rest_kw * params.p_ac_kw / whole_kw
        out.pv[p] = Target(value=value, cause=Cause.PROTECTION, reason=reason)
        out.bound(layout.setpoint_of.get((p, "p_limit_kw")), 0.0, value, "protection", reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class WishedPv:
    """What a controller wishes of PV: what all PV is expected to give then [kW], and the limits for that."""

    total_kw: float = math.inf
    limits: Mapping[str, Target] = field(default_factory=dict)

    def narrow(self, out: Power) -> None:
        """Narrow the limits of `out`, no bounds: a wish binds no person."""
        for p, wanted in self.limits.items():
            if wanted.value < out.pv[p].value:
                out.pv[p] = wanted


def wish_pv(layout: Layout, observed: Observed, bus: Bus, wish: PvWish | None, total_kw: float) -> WishedPv:
    """`total_kw` shared by rating among the plants whose limit the edge writes and that obey it.

    What the others give is taken off first.
    """
    if wish is None:
        return WishedPv()
    barred = wish.not_ours.union(bus.lost_pv_kw)
    free = {
        p: params.p_ac_kw
        for p, params in layout.pv.items()
        if (p, "p_limit_kw") in layout.setpoint_of and p not in barred
    }
    others_kw = sum(max(0.0, kw) for p, kw in observed.condition.pv_kw.items() if p not in free)
    left_kw, rated_kw = max(0.0, total_kw - others_kw), sum(free.values())
    if left_kw >= rated_kw:
        return WishedPv()
    limits = {
        p: Target(value=left_kw * kw / rated_kw, cause=wish.cause, reason=wish.reason)
        for p, kw in free.items()
    }
    return WishedPv(total_kw=others_kw + left_kw, limits=limits)


def coming_pv_kw(layout: Layout, observed: Observed, total_kw: float, dt_s: float) -> float:
    """What PV that is let give `total_kw` gives in `dt_s`: its limits rise by the ramps of the site [kW]."""
    most_kw = 0.0
    for p, kw in observed.condition.pv_kw.items():
        authority = layout.setpoints.get(layout.setpoint_of.get((p, "p_limit_kw"), ""))
        ramp_kw_s = None if authority is None else authority.ramp_per_s
        most_kw += max(0.0, kw) + (math.inf if ramp_kw_s is None else ramp_kw_s * dt_s)
    return min(total_kw, most_kw)


def let_in(layout: Layout, observed: Observed, out: Power) -> None:
    """Plants that come back give no more than they are let in with."""
    for p, ceiling_kw in observed.pv_ceiling_kw.items():
        known = out.pv.get(p)
        if known is not None and known.value <= ceiling_kw:
            continue
        reason = f"{p} comes back: let in up to {ceiling_kw:.0f} kW"
        out.pv[p] = Target(value=ceiling_kw, cause=Cause.PROTECTION, reason=reason)
        out.bound(layout.setpoint_of.get((p, "p_limit_kw")), 0.0, ceiling_kw, "pv_return", reason)


def bess_rooms(
    layout: Layout, observed: Observed, ids: tuple[str, ...], dt_s: float, band_soc: float = 0.0
) -> dict[str, tuple[float, float]]:
    """(charge, discharge) rooms of following batteries [kW]; the last `band_soc` to full is no room."""
    out = {}
    for b in ids:
        battery, c = layout.bess[b].battery, observed.condition.bess[b]
        dt_s = max(dt_s, SHORT_S)
        out[b] = (
            charge_room_kw(battery, c, battery.soc_max - band_soc, dt_s),
            discharge_room_kw(battery, c, battery.soc_min, dt_s),
        )
    return out


def wished_bess(wishes: Targets, rooms: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """The wishes for following batteries inside their rooms; 0 where there is none [kW]."""
    out = {}
    for b, (charge_kw, discharge_kw) in rooms.items():
        wish = wishes.bess_p_kw.get(b)
        out[b] = 0.0 if wish is None else min(discharge_kw, max(-charge_kw, wish.value))
    planned = any(t.cause is Cause.PLAN for t in wishes.bess_p_kw.values())
    return out if planned else uncirculated(out)  # a plan may charge one from another: it has paid the losses


def move_bess(values: dict[str, float], rooms: Mapping[str, tuple[float, float]], by_kw: float) -> None:
    """Discharge more (`by_kw` > 0) or charge more (< 0), none from another."""
    values |= moved(values, rooms, by_kw)


def relief_kw(layout: Layout, observed: Observed, targets: Mapping[str, float]) -> float:
    """What the sets on load can still ramp up within `RELIEF_S`."""
    total_kw = 0.0
    for g, target in targets.items():
        room_kw = target - observed.condition.gensets[g].p_kw
        total_kw += max(0.0, min(room_kw, layout.gensets[g].ramp_kw_s * RELIEF_S))
    return total_kw
