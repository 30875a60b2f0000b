"""The edge's one status row: what decides, why not something better, and how far everything is covered."""

import os

from dispatch.ladder import step_of
from dispatch.vocabulary import Decisions
from ems.records import JsonValue, StatusRow


def edge_status(
    decisions: Decisions, dt_s: float, counters: dict[str, JsonValue], *, shadow: bool
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
            "source": str(decisions.source),
            "ladder_step": step_of(decisions.source),
            "ladder_since": decisions.ladder.since.isoformat(),
            "ladder_reason": decisions.ladder.reason,
            "controller": decisions.controller,
            "plan_id": decisions.plan_id,
            "plan_refused": decisions.plan_refused,
            "replan_requested": decisions.replan_requested,
            "shadow": shadow,
            "cycle_s": dt_s,
            "heartbeat": decisions.heartbeat,
            "reserve_required_kw": decisions.reserve_required_kw,
            "reserve_held_kw": decisions.reserve_held_kw,
            "reserve_short_kw": decisions.reserve_short_kw,
            "alarms": [e.key for e in standing],
            "alarms_active": len(standing),
            **counters,
        },
    )
