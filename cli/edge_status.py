"""The edge's one status row: what decides, why not something better, and how far everything is covered."""

import math
import os

from dispatch.supervision.ladder import step_of
from dispatch.vocabulary import Contingency, Decisions
from ems.records import JsonValue, StatusRow
from ems.requests import Standing


def edge_status(
    decisions: Decisions,
    dt_s: float,
    counters: dict[str, JsonValue],
    *,
    shadow: bool,
    authority: dict[str, JsonValue],
) -> StatusRow:
    """Condense one cycle of `dt_s` [s] into a row; numeric fields become metrics of the same name."""
    standing = decisions.alarm_book.standing()
    return StatusRow(
        process="edge",
        pid=os.getpid(),
        at=decisions.at,
        fields={
            "mode": str(decisions.mode),
            "forming": decisions.condition.forming,
            "prime": decisions.condition.prime.value,
            "following": list(decisions.condition.following),
            "utc": decisions.condition.utc.value,
            "source": str(decisions.source),
            "ladder_step": step_of(decisions.source),
            "ladder_since": decisions.ladder.since.isoformat(),
            "ladder_reason": decisions.ladder.reason,
            "transition": decisions.transition,
            "plant_control": decisions.plant_control.value,
            "control": {device: mode.value for device, mode in decisions.control.items()},
            "limits": _limits(decisions.standing),
            "limits_told_kw": {} if decisions.standing is None else dict(decisions.standing.told_kw),
            "authority": authority,
            "controller": decisions.controller,
            "plan_id": decisions.plan_id,
            "plan_refused": decisions.plan_refused,
            "replan_requested": decisions.replan_requested,
            "shadow": shadow,
            "cycle_s": dt_s,
            "heartbeat": decisions.heartbeat,
            "balance_watch": decisions.balance_watch,
            "substituted": list(decisions.substituted),
            "reserve_required_kw": decisions.reserve_required_kw,
            "reserve_held_kw": decisions.reserve_held_kw,
            "reserve_short_kw": decisions.reserve_short_kw,
            "contingencies": [_contingency(c) for c in decisions.reserve.contingencies],
            "alarms": [e.key for e in standing],
            "alarms_active": len(standing),
            **counters,
        },
    )


def _contingency(c: Contingency) -> dict[str, JsonValue]:
    """One loss that may come, and whether it is covered; a power that nothing bounds is null."""
    return {
        "name": c.name.rstrip(","),
        "kind": c.kind,
        "lost_kw": _kw(c.lost_kw),
        "held_kw": _kw(c.held_kw),
        "short_kw": _kw(c.short_kw),
        "required": c.required,
        "verdict": "covered" if c.covered else "short",
        "by": list(c.by),
    }


def _kw(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None


def _limits(standing: Standing | None) -> dict[str, JsonValue]:
    """Limits that people have set: what, who, why."""
    limits = {} if standing is None else standing.limits
    return {subject: {"value": x.value, "user": x.user, "reason": x.reason} for subject, x in limits.items()}
