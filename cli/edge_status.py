"""The edge's one status row: what decides, why not something better, and how far everything is covered."""

import os

from dispatch.supervision.ladder import step_of
from dispatch.vocabulary import Decisions
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
            "alarms": [e.key for e in standing],
            "alarms_active": len(standing),
            **counters,
        },
    )


def _limits(standing: Standing | None) -> dict[str, JsonValue]:
    """Limits that people have set: what, who, why."""
    limits = {} if standing is None else standing.limits
    return {subject: {"value": x.value, "user": x.user, "reason": x.reason} for subject, x in limits.items()}
