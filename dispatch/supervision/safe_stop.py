"""The safe table when nothing else can be relied on: nothing that raises keeps it from the devices."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

from dispatch.authority.layers import intersect, static_bound
from dispatch.authority.stage import rule_known, rule_safe
from dispatch.layout import Layout
from dispatch.state import EdgeState
from dispatch.vocabulary import Decisions
from dispatch.writing.commands import demanded
from dispatch.writing.safe_table import safe_proposals
from ems.commands import Command
from ems.control import ControlMode
from ems.invariants import clamp
from ems.points import BessState
from ems.site import GridMode
from ems.telemetry import Snapshot

SAFE_TRIES = 3  # so often the safe table is sent to devices that have not confirmed it
SAFE_RETRY_S = 1.0  # wall time between two tries

T = TypeVar("T")


def tried(what: Callable[[], T], broken: list[Exception]) -> T | None:
    """The result, or None when it raised; what was raised is kept in `broken`."""
    try:
        return what()
    except Exception as error:  # noqa: BLE001  whatever it is, the plant must be made safe
        broken.append(error)
        return None


def bare_snapshot(last: Decisions | None, at: datetime, now_s: float) -> Snapshot:
    """An image of nothing, where the process image cannot be latched any more."""
    return Snapshot(at=at if last is None else max(at, last.at), monotonic_s=now_s, readings={})


def bare_safe_commands(
    layout: Layout, state: EdgeState, last: Decisions | None, snapshot: Snapshot, why: str
) -> tuple[Command, ...]:
    """The safe table from what the last cycle knew: its grid mode, who formed, who was in local.

    For when the ordinary way to it raises. An open emergency stop, interlocks and selectors hold here too:
    what cannot be judged now is as it was in the last cycle. A battery that forms the bus is left alone.
    """
    mode = state.observer.mode if last is None else last.mode
    forming = None if last is None or mode is GridMode.GRID_TIED else last.condition.forming
    bess_state = {b: BessState.FORMING if b == forming else None for b in layout.bess}
    control: Mapping[str, ControlMode] = {} if last is None else last.control
    ruling = tried(lambda: rule_safe(layout, state.authority, snapshot), [])
    if ruling is None:
        ruling = rule_known(layout, state.authority)
    away = {d for d, m in control.items() if m is ControlMode.LOCAL} | ruling.local
    wanted = demanded(layout) if ruling.stopping else safe_proposals(layout, mode, bess_state, why)
    wanted = [p for p in wanted if p.point != f"{forming}.p_set_kw"]  # its power is a result
    out: list[Command] = []
    for p in wanted:
        a = layout.setpoints[p.point]
        bounds = intersect([*ruling.strong.get(p.point, ()), *filter(None, [static_bound(layout, p.point)])])
        value = clamp(p.value, bounds.low, bounds.high)
        if p.point in ruling.blocked or p.point.partition(".")[0] in away or not a.low <= value <= a.high:
            continue
        out.append(
            Command(
                point=p.point,
                value=value,
                cause=p.cause,
                reason=p.reason,
                owner=p.owner,
                plan_id=None,
                epoch=state.epoch,
                seq=state.seq + 1 + len(out),
                limits_hash="",
                decided_at=snapshot.at,
                decided_s=snapshot.monotonic_s,
                protective=True,
            )
        )
    return tuple(out)
