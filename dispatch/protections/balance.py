"""Arithmetic that controllers and protections share: rooms, ramps, splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ems.assets import BatteryParams, GensetParams
from ems.condition import BessCondition, PlantCondition
from plant_models.battery import ac_kw, drawn_per_kwh

BIG_KW = 1e9
FULL_BAND_SOC = 0.002  # a battery so close to full may refuse charge at any moment


def discharge_room_kw(params: BatteryParams, c: BessCondition, floor: float, dt_s: float) -> float:
    """Largest discharge for `dt_s` that the BMS allows and that ends at or above SoC `floor` [kW]."""
    if not c.available:
        return 0.0
    rate_kw = (c.soc - floor) * params.energy_kwh * 3600.0 / dt_s - params.no_load_loss_kw
    if rate_kw <= 0.0:
        return 0.0
    return min(c.p_discharge_kw_max, ac_kw(params, -rate_kw))


def charge_room_kw(params: BatteryParams, c: BessCondition, ceiling: float, dt_s: float) -> float:
    """Largest charge for `dt_s` that the BMS allows and that ends at or below SoC `ceiling`, >= 0 [kW]."""
    if not c.available:
        return 0.0
    soc = c.soc if c.soc_high is None else c.soc_high
    rate_kw = (ceiling - soc) * params.energy_kwh * 3600.0 / dt_s
    if rate_kw <= 0.0:
        return 0.0
    within_kw = rate_kw / params.eta_charge if params.charge_curve is None else -ac_kw(params, rate_kw)
    return min(c.p_charge_kw_max, within_kw)


def usable_kwh(params: BatteryParams, c: BessCondition, floor: float) -> float:
    """Energy that can be delivered at the terminals above SoC `floor`, at the losses of full power [kWh]."""
    if not c.available or c.soc <= floor:
        return 0.0
    drawn = 1.0 / params.eta_discharge + params.loss_discharge_pu
    if params.discharge_curve is not None:
        drawn = drawn_per_kwh(params)
    return (c.soc - floor) * params.energy_kwh / drawn


def reached(now_kw: float, target_kw: float, ramp_kw_s: float, dt_s: float) -> float:
    """Power after `dt_s` of a machine that ramps from `now_kw` towards `target_kw` [kW]."""
    step_kw = ramp_kw_s * dt_s
    return min(now_kw + step_kw, max(now_kw - step_kw, target_kw))


def split(total: float, limits: Mapping[str, float]) -> dict[str, float]:
    """Share `total` >= 0 in proportion to `limits` >= 0; never more than the limits together."""
    whole = sum(limits.values())
    if whole <= 0.0 or total <= 0.0:
        return dict.fromkeys(limits, 0.0)
    share = min(1.0, total / whole)
    return {k: share * v for k, v in limits.items()}


BALANCE_H = 0.5  # charges that differ are brought together in about this time, if there is the power


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """One battery as a part of all of them."""

    energy_kwh: float
    soc: float
    charge_kw: float  # room
    discharge_kw: float  # room


def balanced(total_kw: float, stores: Mapping[str, Store]) -> dict[str, float]:
    """Share a power among batteries so that their charges come together [kW].

    Each has its part by energy, and a fuller one more of a discharge and less of a charge. No battery goes
    against the others: that would be lost twice. The total is met as far as the rooms reach.
    """
    up = total_kw >= 0.0
    limits = {b: max(0.0, s.discharge_kw if up else s.charge_kw) for b, s in stores.items()}
    able = {b: s for b, s in stores.items() if limits[b] > 0.0}
    energy_kwh = sum(s.energy_kwh for s in able.values())
    whole_kw = min(abs(total_kw), sum(limits.values()))
    if energy_kwh <= 0.0 or whole_kw <= 0.0:
        return dict.fromkeys(stores, 0.0)
    mean_soc = sum(s.energy_kwh * s.soc for s in able.values()) / energy_kwh
    parts = dict.fromkeys(stores, 0.0)
    for b, s in able.items():
        ahead_kw = (s.soc - mean_soc) * s.energy_kwh / BALANCE_H
        want_kw = whole_kw * s.energy_kwh / energy_kwh + (ahead_kw if up else -ahead_kw)
        parts[b] = min(limits[b], max(0.0, want_kw))
    missing_kw = whole_kw - sum(parts.values())
    rooms = {b: limits[b] - kw for b, kw in parts.items()} if missing_kw >= 0.0 else dict(parts)
    for b, kw in split(abs(missing_kw), rooms).items():
        parts[b] += kw if missing_kw >= 0.0 else -kw
    return parts if up else {b: -kw for b, kw in parts.items()}


def moved(
    values: Mapping[str, float], rooms: Mapping[str, tuple[float, float]], by_kw: float
) -> dict[str, float]:
    """Discharge more (`by_kw` > 0) or charge more (< 0) inside (charge, discharge) rooms [kW].

    First those give in that go the other way, so that no battery charges from another; then by what is left
    of the rooms.
    """
    out, sign = dict(values), 1.0 if by_kw >= 0.0 else -1.0
    back = {b: max(0.0, -sign * v) for b, v in values.items()}
    for b, kw in split(abs(by_kw), back).items():
        out[b] += sign * kw
    left_kw = abs(by_kw) - min(abs(by_kw), sum(back.values()))
    left = {b: max(0.0, rooms[b][1] - v if sign > 0.0 else rooms[b][0] + v) for b, v in out.items()}
    for b, kw in split(left_kw, left).items():
        out[b] += sign * kw
    return out


def uncirculated(values: Mapping[str, float]) -> dict[str, float]:
    """The same sum without any battery that charges from another [kW]."""
    out_kw, in_kw = sum(v for v in values.values() if v > 0.0), -sum(v for v in values.values() if v < 0.0)
    if out_kw <= 0.0 or in_kw <= 0.0:
        return dict(values)
    keep_out, keep_in = max(0.0, out_kw - in_kw) / out_kw, max(0.0, in_kw - out_kw) / in_kw
    return {b: v * (keep_out if v > 0.0 else keep_in) for b, v in values.items()}


def share_load(total_kw: float, sets: Sequence[GensetParams]) -> dict[str, float]:
    """Share a load among sets at equal per-unit load, none below its minimum or above its rating [kW]."""
    out: dict[str, float] = {}
    left_kw, left = total_kw, sorted(sets, key=lambda g: -g.p_min_kw / g.p_rated_kw)
    while left:
        rated_kw = sum(g.p_rated_kw for g in left)
        g = left.pop(0)
        p_kw = min(g.p_rated_kw, max(g.p_min_kw, left_kw * g.p_rated_kw / rated_kw))
        out[g.id] = p_kw
        left_kw -= p_kw
    return out


def carrying(gensets: Mapping[str, GensetParams], condition: PlantCondition) -> list[GensetParams]:
    """Sets that carry load now and say so, in start order."""
    return [p for g, p in gensets.items() if condition.gensets[g].carries]


def unheard_kw(condition: PlantCondition) -> float:
    """What sets that are not heard may give now [kW]."""
    return sum(c.p_kw for c in condition.gensets.values() if c.on_load and not c.heard)


def pick_sets(
    need_kw: float, candidates: Sequence[GensetParams], load_ratio: float
) -> tuple[GensetParams, ...]:
    """Fewest, then smallest, sets that carry `need_kw` at no more than `load_ratio` of their rating.

    One set if one is enough (the smallest that is); else the largest first and go on with the rest. With no
    set large enough: all of them.
    """
    if not candidates or need_kw <= 0.0:
        return ()
    enough = [g for g in candidates if g.p_rated_kw * load_ratio >= need_kw]
    if enough:
        return (min(enough, key=lambda g: g.p_rated_kw),)
    largest = max(candidates, key=lambda g: g.p_rated_kw)
    rest = [g for g in candidates if g.id != largest.id]
    return (largest, *pick_sets(need_kw - largest.p_rated_kw * load_ratio, rest, load_ratio))
