"""Limits that a utility or a plant controller tells: by points, dry contacts or messages, each watched.

Who tells and falls silent does not set the plant free: after the watchdog's time the value on loss holds, or
the last value told where that is tighter.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dispatch.authority.layout import ControlLayout
from dispatch.authority.modes import INPUT_HOLD_S
from dispatch.authority.state import InputSeen, Told
from ems.control_site import LimitKind, UtilityLimit
from ems.telemetry import Snapshot

LAYER = "utility"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """A cap that holds now, and who is behind it."""

    kind: LimitKind
    cap_kw: float
    reason: str
    layer: str = LAYER


def hear(
    control: ControlLayout,
    told: Mapping[str, Told],
    inputs: Mapping[str, InputSeen],
    snapshot: Snapshot,
) -> dict[str, Told]:
    """Take in what points and contacts say in this cycle; what is not valid changes nothing."""
    out = dict(told)
    for limit in control.limits:
        value_kw = _read(limit, inputs, snapshot)
        if value_kw is not None:
            out[limit.id] = Told(value_kw=value_kw, valid_s=snapshot.monotonic_s)
    return out


def _read(limit: UtilityLimit, inputs: Mapping[str, InputSeen], snapshot: Snapshot) -> float | None:
    """What a limit's own inputs say now [kW]; None where they say nothing valid, or it has none."""
    now_s = snapshot.monotonic_s
    if limit.heartbeat is not None:
        beat = inputs.get(limit.heartbeat)
        if (
            snapshot.value(limit.heartbeat) is None
            or beat is None
            or now_s - beat.changed_s > limit.watchdog_s
        ):
            return None
    if limit.point is not None:
        value = snapshot.value(limit.point)
        return value if value is not None and math.isfinite(value) and value >= 0.0 else None
    closed = []
    for contact in limit.contacts:
        seen = inputs.get(contact.point)
        if seen is None or now_s - seen.good_s > INPUT_HOLD_S:
            return None
        if seen.value >= 0.5:
            closed.append(contact.cap_kw)
    return min(closed) if closed else None  # several closed: the strictest


def caps_now(
    control: ControlLayout, told: Mapping[str, Told], first_s: float, now_s: float
) -> tuple[list[Cap], dict[str, bool]]:
    """(caps that hold, limit id -> lost). Until a limit was first heard its value on loss holds at once.

    A cap at the POI that no connection maps is nobody's silence before it was ever told.
    """
    caps: list[Cap] = []
    lost: dict[str, bool] = {}
    for limit in control.limits:
        known = told.get(limit.id)
        if known is None and limit.point in control.caps.values() and limit.point not in control.mapped:
            continue
        silent_s = now_s - (first_s if known is None else known.valid_s)
        lost[limit.id] = silent_s > limit.watchdog_s
        if known is not None and not lost[limit.id]:
            caps.append(Cap(kind=limit.kind, cap_kw=known.value_kw, reason=f"{limit.id} says so"))
            continue
        on_loss = [
            kw for kw in (limit.on_loss_kw, None if known is None else known.value_kw) if kw is not None
        ]
        if on_loss:
            reason = (
                f"{limit.id} was not heard for {silent_s:.0f} s: its value on loss, or its last if tighter"
            )
            caps.append(Cap(kind=limit.kind, cap_kw=min(on_loss), reason=reason))
    return caps, lost
