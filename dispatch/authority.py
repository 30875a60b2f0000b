"""WHO may command: bounds of every layer intersected, proposals ranked by cause. Every layer only narrows."""

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dispatch.layout import Layout
from dispatch.state import Written
from ems.commands import Bound, Cause, Proposal, Refusal, Setpoint
from ems.condition import PlantCondition
from ems.invariants import clamp
from ems.points import AssetKind, is_binary

RANK = {cause: i for i, cause in enumerate(Cause)}  # the enum is written in order of precedence
FORCED = (Cause.SAFE_TABLE, Cause.PROTECTION)  # never refused for hold-offs


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Effective limits of one setpoint, in its own unit."""

    low: float  # unit of the setpoint; ratio
    high: float  # unit of the setpoint; ratio
    binding: str  # the layers that narrowed it


def intersect(bounds: Iterable[Bound]) -> Limits:
    """Intersect bounds in order of strength, strongest first.

    Where a weaker layer contradicts what is left, the nearest value the stronger layers allow remains. A
    bound that is not finite, or empty, cannot widen anything: it is taken as the allowed value nearest to
    zero.
    """
    low, high, names = -math.inf, math.inf, []
    for b in bounds:
        if not (math.isfinite(b.low) and math.isfinite(b.high)) or b.low > b.high:
            b_low = b_high = min(max(0.0, low), high)
        else:
            b_low, b_high = min(max(b.low, low), high), max(min(b.high, high), low)
        if b_low > low or b_high < high:
            names.append(b.layer)
        low, high = b_low, b_high
    return Limits(low=low, high=high, binding="+".join(names))


def static_bound(layout: Layout, point: str) -> Bound | None:
    """What the site file allows the edge to write; None when it may not write the point at all."""
    a = layout.setpoints.get(point)
    if a is None:
        return None
    return Bound(point=point, low=a.low, high=a.high, layer="authority", reason="the site file's authority")


def live_bound(layout: Layout, condition: PlantCondition, point: str) -> Bound | None:
    """What the device allows now: BMS limits, genset and PV rating, 0 or 1 for requests."""
    asset, _, name = point.partition(".")
    kind = layout.kinds.get(asset)
    if kind is AssetKind.BESS and name == "p_set_kw":
        c = condition.bess[asset]
        low, high = (-c.p_charge_kw_max, c.p_discharge_kw_max) if c.available else (0.0, 0.0)
        return Bound(point=point, low=low, high=high, layer="bms", reason="live limits of the BMS")
    if kind is AssetKind.GENSET and name == "p_set_kw":
        high = layout.gensets[asset].p_rated_kw
        return Bound(point=point, low=0.0, high=high, layer="rating", reason="genset rating")
    if kind is AssetKind.PV and name == "p_limit_kw":
        return Bound(point=point, low=0.0, high=layout.pv[asset].p_ac_kw, layer="rating", reason="PV rating")
    if is_binary(name):
        return Bound(point=point, low=0.0, high=1.0, layer="binary", reason="a request is 0 or 1")
    return None


def limits_hash(limits: Limits) -> str:
    """Short identity of effective limits, carried by every command."""
    return f"{zlib.crc32(f'{limits.low:.3f},{limits.high:.3f},{limits.binding}'.encode()):08x}"


def resolve(
    layout: Layout,
    condition: PlantCondition,
    proposals: Sequence[Proposal],
    bounds: Mapping[str, Sequence[Bound]],
    written: Mapping[str, Written],
    now: datetime,
) -> tuple[list[Setpoint], list[Refusal]]:
    """One setpoint per point: the strongest proposal inside every bound.

    A proposal that is not finite, or for a point the edge may not write, becomes a Refusal; the next one in
    rank counts instead.
    """
    by_point: dict[str, Proposal] = {}
    refusals: list[Refusal] = []
    for p in proposals:
        if p.point not in layout.setpoints:
            refusals.append(_refusal(p, "not_authorised", f"the edge may not write {p.point}", now))
        elif not math.isfinite(p.value):
            refusals.append(_refusal(p, "not_finite", f"{p.value!r} is not a number to write", now))
        elif p.point not in by_point or RANK[p.cause] < RANK[by_point[p.point].cause]:
            by_point[p.point] = p
    setpoints = []
    for point, p in by_point.items():
        layers = (static_bound(layout, point), live_bound(layout, condition, point), *bounds.get(point, ()))
        limits = intersect(b for b in layers if b is not None)
        setpoints.append(_setpoint(p, limits, written.get(point)))
    return setpoints, refusals


def _refusal(p: Proposal, code: str, reason: str, now: datetime) -> Refusal:
    return Refusal(point=p.point, value=p.value, cause=p.cause, code=code, reason=reason, decided_at=now)


def _setpoint(p: Proposal, limits: Limits, last: Written | None) -> Setpoint:
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
        limits_hash=limits_hash(limits),
    )


def _protective(p: Proposal, value: float, last: Written | None, limits: Limits) -> bool:
    """Free of ramp and deadband: forced, or less than before in the direction that can do harm.

    To raise a PV limit is to loosen it, even if a protection says how far.
    """
    if p.cause is Cause.SAFE_TABLE:
        return True
    if p.point.endswith(".p_limit_kw"):
        return last is None or value < last.value
    if p.cause is Cause.PROTECTION:
        return True
    if last is None:
        return False
    if not limits.low <= last.value <= limits.high:
        return True
    if p.point.endswith(".p_set_kw"):
        return abs(value) < abs(last.value) and value * last.value >= 0.0
    return False
