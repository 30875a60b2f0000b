"""WHO may command: bounds of every layer intersected, proposals ranked by cause. Every layer only narrows."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dispatch.authority.ruling import Ruling
from dispatch.layout import Layout
from dispatch.state import Written
from ems.commands import Bound, Cause, Proposal, Refusal, Setpoint
from ems.condition import PlantCondition
from ems.control import ControlMode, may_write
from ems.frozen import replace
from ems.invariants import clamp
from ems.points import AssetKind, is_binary

RANK = {cause: i for i, cause in enumerate(Cause)}  # the enum is written in order of precedence
UNHURRIED = (Cause.PLAN, Cause.RULES)  # what they wish of PV is a matter of money
FORCED = (Cause.EMERGENCY_STOP, Cause.SAFE_TABLE, Cause.PROTECTION)  # never refused for hold-offs


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Effective limits of one setpoint, in its own unit."""

    low: float  # unit of the setpoint; ratio
    high: float  # unit of the setpoint; ratio
    binding: str  # the layers that narrowed it
    layers: tuple[Bound, ...] = ()  # all of them, strongest first


def intersect(bounds: Iterable[Bound]) -> Limits:
    """Intersect bounds in order of strength, strongest first.

    Where a weaker layer contradicts what is left, the nearest value the stronger layers allow remains. A
    bound that is not finite, or empty, cannot widen anything: it is taken as the allowed value nearest to
    zero.
    """
    low, high, names = -math.inf, math.inf, []
    layers = tuple(bounds)
    for b in layers:
        if not (math.isfinite(b.low) and math.isfinite(b.high)) or b.low > b.high:
            b_low = b_high = min(max(0.0, low), high)
        else:
            b_low, b_high = min(max(b.low, low), high), max(min(b.high, high), low)
        if b_low > low or b_high < high:
            names.append(b.layer)
        low, high = b_low, b_high
    return Limits(low=low, high=high, binding="+".join(names), layers=layers)


def static_bound(layout: Layout, point: str) -> Bound | None:
    """What the site file allows the edge to write; None when it may not write the point at all."""
    a = layout.setpoints.get(point)
    if a is None:
        return None
    return Bound(point=point, low=a.low, high=a.high, layer="authority", reason="the site file's authority")


def live_bound(layout: Layout, condition: PlantCondition, point: str) -> Bound | None:
    """What the device allows now: live limits of BMS, converter and genset, ratings, 0 or 1 for requests."""
    asset, _, name = point.partition(".")
    kind = layout.kinds.get(asset)
    if kind is AssetKind.BESS and name == "p_set_kw":
        c = condition.bess[asset]
        # a limit below zero is no order to move the other way
        low = min(0.0, -c.p_charge_kw_max) if c.available else 0.0
        high = max(0.0, c.p_discharge_kw_max) if c.available else 0.0
        return Bound(point=point, low=low, high=high, layer="bms", reason="live limits of BMS and converter")
    if kind is AssetKind.GENSET and name == "p_set_kw":
        high, told_kw = layout.gensets[asset].p_rated_kw, condition.gensets[asset].p_kw_max
        if told_kw is None or told_kw > high:
            return Bound(point=point, low=0.0, high=high, layer="rating", reason="genset rating")
        reason = "live limit of the genset's controller"
        return Bound(point=point, low=0.0, high=told_kw, layer="derating", reason=reason)
    if kind is AssetKind.PV and name == "p_limit_kw":
        return Bound(point=point, low=0.0, high=layout.pv[asset].p_ac_kw, layer="rating", reason="PV rating")
    if is_binary(name):
        return Bound(point=point, low=0.0, high=1.0, layer="binary", reason="a request is 0 or 1")
    return None


def limits_hash(limits: Limits) -> str:
    """Short identity of every layer that bounds a setpoint, carried by each of its commands."""
    parts = [f"{b.layer},{b.low:.3f},{b.high:.3f}" for b in limits.layers]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:12]


def layers_of(
    layout: Layout,
    condition: PlantCondition,
    point: str,
    bounds: Mapping[str, Sequence[Bound]],
    ruling: Ruling | None = None,
) -> list[Bound]:
    """Every layer that bounds a setpoint, strongest first.

    Live limits of the device, emergency stop and interlocks, the site file's authority, protections and POI
    (`bounds`), utility and plant controller, people. What a device cannot give is asked of it by nobody:
    a stop or an interlock that demands more gets the nearest that it can.
    """
    as_read = condition if ruling is None or ruling.as_read is None else ruling.as_read
    static, live = static_bound(layout, point), live_bound(layout, as_read, point)
    strong, weak = ((), ()) if ruling is None else (ruling.strong.get(point, ()), ruling.weak.get(point, ()))
    first, own = ([] if live is None else [live]), ([] if static is None else [static])
    return [*first, *strong, *own, *bounds.get(point, ()), *weak]


def resolve(
    layout: Layout,
    condition: PlantCondition,
    proposals: Sequence[Proposal],
    bounds: Mapping[str, Sequence[Bound]],
    written: Mapping[str, Written],
    now: datetime,
    ruling: Ruling | None = None,
) -> tuple[list[Setpoint], list[Refusal]]:
    """One setpoint per point: the strongest proposal of those who may, inside every bound.

    A proposal that is not finite, for a point the edge may not write, or of somebody who may not in the
    present mode becomes a Refusal; the next one in rank counts instead. Without a `ruling` nobody's right is
    asked for, and the layers are those of the site file, the devices and `bounds`.
    """
    by_point: dict[str, Proposal] = {}
    refusals: list[Refusal] = []
    for p in proposals:
        code, why = _barred(layout, ruling, p)
        if code:
            refusals.append(_refusal(p, code, why, now))
        elif p.point not in by_point or RANK[p.cause] < RANK[by_point[p.point].cause]:
            by_point[p.point] = p
    setpoints = []
    for point, p in by_point.items():
        layers = layers_of(layout, condition, point, bounds, ruling)
        last = written.get(point)
        transfer = _transfer(ruling, p, last)
        own = intersect(layers)
        limits = intersect([*layers, *transfer]) if transfer else own
        setpoint = _setpoint(p, limits, last, limits_hash(own))
        setpoints.append(_with_cause(setpoint, ruling))
    return setpoints, refusals


def _barred(layout: Layout, ruling: Ruling | None, p: Proposal) -> tuple[str, str]:
    """(code, why) of a proposal that does not count; ("", "") where it does."""
    if p.point not in layout.setpoints:
        return "not_authorised", f"the edge may not write {p.point}"
    if not math.isfinite(p.value):
        return "not_finite", f"{p.value!r} is not a number to write"
    if ruling is None:
        return "", ""
    if p.point in ruling.blocked:
        return "blocked", ruling.blocked[p.point]
    mode = ruling.modes.get(p.point.partition(".")[0], ControlMode.OFF)
    if not may_write(mode, p.cause):
        return "mode_of_control", f"{p.cause.value} does not write in {mode.value}"
    return "", ""


def _transfer(ruling: Ruling | None, p: Proposal, last: Written | None) -> list[Bound]:
    """While a setpoint changes hands it moves by steps: the weakest bound. What protects is free of it.

    To raise a PV limit protects nothing, whoever says how far.
    """
    step = None if ruling is None else ruling.step.get(p.point)
    is_limit = p.point.endswith(".p_limit_kw")
    if step is None or last is None or (p.cause in FORCED and not is_limit):
        return []
    low, high = last.value - step, last.value + step
    if is_limit:
        low = min(low, p.value)
    return [Bound(point=p.point, low=low, high=high, layer="transfer", reason="it changes hands")]


def _with_cause(s: Setpoint, ruling: Ruling | None) -> Setpoint:
    """A setpoint under an interlock says so, also where its value was chosen inside the bounds already."""
    causes = () if ruling is None else ruling.strong.get(s.point, ())
    return replace(s, reason="; ".join([s.reason, *(b.reason for b in causes)])) if causes else s


def _refusal(p: Proposal, code: str, reason: str, now: datetime) -> Refusal:
    return Refusal(point=p.point, value=p.value, cause=p.cause, code=code, reason=reason, decided_at=now)


def _setpoint(p: Proposal, limits: Limits, last: Written | None, identity: str) -> Setpoint:
    value = clamp(p.value, limits.low, limits.high)
    reason = p.reason
    if abs(value - p.value) > 1e-6:
        reason = f"{p.reason}; {p.value:.1f} limited to {value:.1f} by {limits.binding}"
    return Setpoint(
        point=p.point,
        value=value,
        low=limits.low,
        high=limits.high,
        cause=p.cause,
        reason=reason,
        owner=p.owner,
        plan_id=p.plan_id,
        protective=_protective(p, value, last, limits),
        limits_hash=identity,
        request_id=p.request_id,
    )


def _protective(p: Proposal, value: float, last: Written | None, limits: Limits) -> bool:
    """Free of ramp and deadband: forced, or less than before in the direction that can do harm.

    To raise a PV limit is to loosen it, even if a protection says how far. What a plan or a rule wishes of PV
    inside its limits protects nothing either: it waits for the deadband, and costs of the budget.
    """
    if p.cause in (Cause.SAFE_TABLE, Cause.EMERGENCY_STOP):
        return True
    if p.point.endswith(".p_limit_kw"):
        within = last is not None and limits.low <= last.value <= limits.high
        return last is None or (value < last.value and not (within and p.cause in UNHURRIED))
    if p.cause is Cause.PROTECTION:
        return True
    if last is None:
        return False
    if not limits.low <= last.value <= limits.high:
        return True
    if p.point.endswith(".p_set_kw"):
        return abs(value) < abs(last.value) and value * last.value >= 0.0
    return False
