"""WHETHER this write is safe now. The last line before the shell: a Command, a Refusal, or nothing to do."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from dispatch.authority.layers import FORCED
from dispatch.layout import Layout
from dispatch.state import Written
from dispatch.writing.budget import over_budget
from dispatch.writing.outcomes import repeat_after_s
from dispatch.writing.rounding import inside
from ems.commands import Cause, Command, Refusal, Setpoint
from ems.invariants import clamp
from ems.points import AssetKind, is_binary
from ems.site import GridMode

EDGE = "edge"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateInput:
    """What the gate needs to know about this cycle."""

    mode: GridMode
    forming: frozenset[str]  # batteries that form an island without mains: they have no power setpoint
    fresh: Mapping[str, bool]  # asset -> the readings its setpoint depends on are good
    answering: Mapping[str, bool]  # asset -> at least one good reading
    held_safe: bool
    epoch: int
    now: datetime
    now_s: float
    dt_s: float
    state_hash: Mapping[str, str] = field(default_factory=dict)  # asset -> what discrete actions hang on
    spent: frozenset[str] = frozenset()  # points whose budget of writes is spent
    half_spent: frozenset[str] = frozenset()  # ... so far that no wish lowers a PV limit any more
    ours: Mapping[str, float] = field(default_factory=dict)  # PV limits read back otherwise -> what we sent
    held: Mapping[str, float] = field(default_factory=dict)  # read back: an older value of ours


def gate(
    layout: Layout, s: Setpoint, last: Written | None, given: GateInput, seq: int
) -> Command | Refusal | None:
    """Let a setpoint pass as a Command with number `seq`, refuse it with a code, or None: nothing to write.

    Codes: not_finite, not_authorised, out_of_bounds, held_safe, device_offline, stale_input, mode_wrong,
    budget_spent.
    A write in the protective direction is never held back by ramp or deadband.
    """
    code, why = forbidden(layout, s, last, given)
    if code is not None:
        return Refusal(
            point=s.point, value=s.value, cause=s.cause, code=code, reason=why, decided_at=given.now
        )
    asset = s.point.partition(".")[0]
    if asset in given.forming and s.point.endswith(".p_set_kw"):
        return None
    authority = layout.setpoints[s.point]
    value, reason = s.value, s.reason
    start = None if last is None else _ramp_start(s, last)
    if authority.ramp_per_s is not None and start is not None:
        held = given.held.get(s.point, start)
        start = clamp(0.0, min(start, held), max(start, held))  # of both the nearer to zero
        step = max(0.0, authority.ramp_per_s) * given.dt_s
        ramped = min(start + step, max(start - step, value))
        ramped = clamp(ramped, max(s.low, authority.low), min(s.high, authority.high))
        if abs(ramped - value) > 1e-9:
            value, reason = ramped, f"{reason}; on its way to {s.value:.1f} at the allowed ramp"
    holds = _may_hold(s.point, given)
    if holds is not None and authority.ramp_per_s is not None and s.cause not in SAFE:
        most = max(s.low, authority.low, holds + max(0.0, authority.ramp_per_s) * given.dt_s)
        if value > most:  # lower than what it stands at for us, and yet a step up for the device
            value, reason = most, f"{reason}; from {holds:.1f}, which it may hold, at the allowed ramp"
    low, high = max(s.low, authority.low), min(s.high, authority.high)
    value = inside(value, low, high, layout.step_of.get(s.point), protective=s.protective)
    if not _due(value, s, last, authority.deadband, authority.refresh_s, given):
        return None
    spent = given.spent
    if last is not None and _wishes_less(s, last) and over_budget(given.half_spent, s):
        stands = clamp(last.value, low, high)
        if _due(stands, s, last, authority.deadband, authority.refresh_s, given):  # its watchdog must be fed
            value, reason = stands, f"{s.point} stays: half of today's writes to it are spent"
        else:
            spent = given.half_spent
    if over_budget(spent, s):
        why = f"the writes of today to {s.point} are spent"
        return Refusal(
            point=s.point, value=value, cause=s.cause, code="budget_spent", reason=why, decided_at=given.now
        )
    return Command(
        point=s.point,
        value=value,
        cause=s.cause,
        reason=reason,
        owner=s.owner,
        plan_id=s.plan_id,
        epoch=given.epoch,
        seq=seq,
        limits_hash=s.limits_hash,
        decided_at=given.now,
        decided_s=given.now_s,
        request_id=s.request_id,
        protective=s.protective,
        state_hash=given.state_hash.get(asset, "") if _switches(s.point, value) else "",
    )


def _switches(point: str, value: float) -> bool:
    """Whether it starts, stops, opens or closes something; to take a permit back does not."""
    return point.endswith("_request") or (is_binary(point) and value >= 0.5)


def _wishes_less(s: Setpoint, last: Written | None) -> bool:
    """Whether a plan or a rule wishes less of PV than it may give now, which protects nothing."""
    lowers = last is not None and s.value < last.value
    return lowers and not s.protective and s.point.endswith(".p_limit_kw")


def _may_hold(point: str, given: GateInput) -> float | None:
    """The lower limit a PV plant may hold where its read-back contradicts what it was sent."""
    ours, held = given.ours.get(point), given.held.get(point) if point.endswith(".p_limit_kw") else None
    return held if ours is None else ours if held is None else min(ours, held)


def _ramp_start(s: Setpoint, last: Written) -> float | None:
    """From where the ramp counts; None: the move is free.

    What stands outside its bounds comes back to the nearest of them at once, and from there by its ramp.
    """
    if _wishes_less(s, last):
        return None  # as whatever lowers a PV limit
    if not s.protective:
        return last.value
    if s.cause in FORCED or s.low <= last.value <= s.high:
        return None
    bound = clamp(last.value, s.low, s.high)
    return None if abs(s.value) <= abs(bound) and s.value * bound >= 0.0 else bound


def _due(
    value: float, s: Setpoint, last: Written | None, deadband: float, refresh_s: float, given: GateInput
) -> bool:
    """Changed by more than the deadband, or the device's watchdog wants to hear from us again."""
    if last is None:
        return True
    outside = not s.low <= last.value <= s.high  # of limits that have narrowed since
    if not last.known:
        return outside or given.now_s - last.at_s >= repeat_after_s(last) or s.cause in FORCED
    if s.cause is Cause.SAFE_TABLE:
        return abs(value - last.value) > 1e-9
    binary = is_binary(s.point)
    band = 0.5 if binary else (1e-6 if s.protective or outside else deadband)
    return abs(value - last.value) > band or given.now_s - last.at_s >= refresh_s - 1e-6


SAFE = (Cause.SAFE_TABLE, Cause.EMERGENCY_STOP)


def forbidden(layout: Layout, s: Setpoint, last: Written | None, given: GateInput) -> tuple[str | None, str]:
    """(code, reason) of the first rule that forbids this write; (None, "") when none does.

    Asked again for every command just before it is sent (dispatch.writing.last_line).
    """
    if not (math.isfinite(s.value) and math.isfinite(s.low) and math.isfinite(s.high)):
        return "not_finite", f"{s.value!r} in [{s.low!r}, {s.high!r}] is not a number to write"
    a = layout.setpoints.get(s.point)
    if a is None or a.writer != EDGE:
        return "not_authorised", f"the edge may not write {s.point}"
    if not (s.low <= s.value <= s.high and a.low <= s.value <= a.high):
        return "out_of_bounds", f"{s.value} is outside [{max(s.low, a.low)}, {min(s.high, a.high)}]"
    forced = s.cause in FORCED and not _lets_pv_go(s, last)
    if given.held_safe and s.cause not in (Cause.EMERGENCY_STOP, Cause.SAFE_TABLE):
        return "held_safe", "only the safe table may be written until an operator releases the edge"
    asset, _, name = s.point.partition(".")
    if not given.answering.get(asset, False) and not forced:
        return "device_offline", f"{asset} does not answer"
    unknown = given.mode is GridMode.UNKNOWN and name in ("p_set_kw", "close_request")
    if unknown and not forced and not _eases(s, last):
        return "mode_wrong", "the grid mode is unknown: only safer values are written"
    bess_power = name == "p_set_kw" and layout.kinds.get(asset) is AssetKind.BESS
    if given.mode is GridMode.BLACK and bess_power and s.value != 0.0:
        return "mode_wrong", "the bus is dead: no power setpoint but zero"
    if not given.fresh.get(asset, False) and not (forced or s.protective or _eases(s, last)):
        return "stale_input", f"readings of {asset} this setpoint depends on are not good"
    return None, ""


def _lets_pv_go(s: Setpoint, last: Written | None) -> bool:
    """A protection that gives PV back protects nothing by that: it needs good readings like anybody else."""
    raised = last is not None and s.value > last.value
    return raised and s.cause is Cause.PROTECTION and s.point.endswith(".p_limit_kw")


def _eases(s: Setpoint, last: Written | None) -> bool:
    """Nothing new is asked for: the same value again, or less of it."""
    if is_binary(s.point):
        return last is not None and abs(s.value - last.value) < 0.5
    return s.value == 0.0 or (
        last is not None and abs(s.value) <= abs(last.value) and s.value * last.value >= 0.0
    )
