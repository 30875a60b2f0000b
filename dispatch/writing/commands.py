"""From targets to commands: proposals, what the gate must know, authority and gate for every point."""

import math
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dispatch.authority.layers import resolve as authorise
from dispatch.authority.ruling import Ruling
from dispatch.layout import Layout
from dispatch.observing.condition import Observed
from dispatch.state import NEVER_S, EdgeState, Written
from dispatch.vocabulary import REACTIVE, Target, Targets, TickInput
from dispatch.writing.budget import PV_WISH_SHARE, spent_points
from dispatch.writing.capability import within_capability
from dispatch.writing.contention import ours_of, yields
from dispatch.writing.gate import GateInput, gate
from dispatch.writing.safe_table import safe_proposals
from ems.commands import Bound, Cause, Command, Proposal, Refusal
from ems.condition import PlantCondition
from ems.control import ControlMode, may_write
from ems.errors import InvariantBroken
from ems.frozen import replace
from ems.points import TRIP_REQUEST, AssetKind, BessState
from ems.telemetry import Snapshot

LARGEST = sys.float_info.max
NUMBER = (int, float)
REPEAT_REFUSAL_S = 60.0  # the same refusal of the same point is told again so often
_FIELDS = (
    ("bess_p_kw", "p_set_kw"),
    ("genset_run", "run_request"),
    ("genset_p_kw", "p_set_kw"),
    ("pv_limit_kw", "p_limit_kw"),
    ("pv_trip", TRIP_REQUEST),
    ("feeder_close", "close_request"),
    *REACTIVE,
)


def only_numbers(owner: str, wishes: Targets, now: datetime) -> tuple[Targets, list[Refusal]]:
    """A wish that is not a number never reaches the protections: a clamp would make it full power."""
    refusals: list[Refusal] = []
    changed: dict[str, Any] = {}  # fields of Targets to replace
    for group, name in _FIELDS:
        targets: Mapping[str, Target] = getattr(wishes, group)
        for asset, t in targets.items():
            told: object = t.value
            if not _is_number(told):
                changed[group] = {a: v for a, v in targets.items() if _is_number(v.value)}
                reason = f"{owner} wants {str(told)[:40]!r}"
                refusals.append(
                    Refusal(
                        point=f"{asset}.{name}",
                        value=told if isinstance(told, float) else math.nan,
                        cause=t.cause,
                        code="not_finite",
                        reason=reason,
                        decided_at=now,
                    )
                )
    pv = wishes.pv_wish
    if pv is not None and not all(map(_is_number, (pv.export_kw, *pv.bess_kw.values()))):
        changed["pv_wish"] = None  # it narrows only, and has no point of its own to refuse
    return (replace(wishes, **changed) if changed else wishes), refusals


def _is_number(value: object) -> bool:
    """Whether it can be written at all, whatever a controller returned."""
    return isinstance(value, NUMBER) and -LARGEST <= value <= LARGEST


def proposals_of(
    layout: Layout,
    owner: str,
    state: EdgeState,
    observed: Observed,
    targets: Targets,
    given: TickInput,
    ruling: Ruling,
) -> list[Proposal]:
    """Targets and operators' wishes as proposals.

    The emergency stop: what it demands alone. Held safe: the safe table alone. A device in off: its safe
    table; in local: nothing. What its mode gives nobody the right to is left out here without a word.
    """
    mode = observed.condition.grid_mode
    if ruling.stopping:
        return demanded(layout)
    if state.held_safe:
        held = safe_proposals(layout, mode, observed.bess_state, "the edge is held safe")
        return [p for p in held if p.point not in ruling.blocked]
    off = {d for d, m in ruling.modes.items() if m is ControlMode.OFF}
    out = [p for p in given.proposals if p.expires_s is None or p.expires_s > given.snapshot.monotonic_s]
    if off:
        safe = safe_proposals(layout, mode, observed.bess_state, "its mode of control is off")
        out += [p for p in safe if p.point.partition(".")[0] in off and p.point not in ruling.blocked]
    for group, name in _FIELDS:
        for asset, target in getattr(targets, group).items():
            point = layout.setpoint_of.get((asset, name))
            if point is None or asset in ruling.local or not may_write(ruling.modes[asset], target.cause):
                continue
            # what is kept of a plan that is followed no longer is the edge's own doing
            orphan = target.cause is Cause.PLAN and targets.plan_id is None
            lease = ruling.held.get(point) if target.cause is Cause.OPERATOR else None
            out.append(
                Proposal(
                    point=point,
                    value=target.value,
                    cause=Cause.RULES if orphan else target.cause,
                    reason=target.reason,
                    owner=owner if lease is None else lease.owner,
                    plan_id=targets.plan_id if target.cause is not Cause.OPERATOR else None,
                    request_id=None if lease is None else lease.request_id,
                )
            )
    return out


def demanded(layout: Layout) -> list[Proposal]:
    """What the emergency stop wants each setpoint of its list to be."""
    return [
        Proposal(
            point=point,
            value=value,
            cause=Cause.EMERGENCY_STOP,
            reason="the emergency stop is open",
            owner="edge",
        )
        for point, value in layout.control.params.emergency_stop.items()
    ]


def gate_input_of(
    layout: Layout, state: EdgeState, observed: Observed, snapshot: Snapshot, dt_s: float
) -> GateInput:
    """What the gate must know of this cycle."""
    good = frozenset(snapshot.good)
    fresh = {a: good.issuperset(points) for a, points in layout.needed.items()}
    answering = {a: not good.isdisjoint(points) for a, points in layout.reads.items()}
    alone = observed.mains_ok is not True
    forming = frozenset(b for b, s in observed.bess_state.items() if s is BessState.FORMING and alone)
    return GateInput(
        mode=observed.condition.grid_mode,
        forming=forming,
        fresh=fresh,
        answering=answering,
        held_safe=state.held_safe,
        epoch=state.epoch,
        now=snapshot.at,
        now_s=snapshot.monotonic_s,
        dt_s=dt_s,
        state_hash=_state_hash(layout, observed),
        spent=spent_points(layout, state.budget, snapshot),
        half_spent=spent_points(layout, state.budget, snapshot, PV_WISH_SHARE),
        ours=ours_of(layout, state.contention, snapshot.monotonic_s),
        held=state.contention.held,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to become commands: who wants what, inside what, as ruled."""

    proposals: Sequence[Proposal]
    bounds: Mapping[str, Sequence[Bound]]  # of the protections
    ruling: Ruling


def _state_hash(layout: Layout, observed: Observed) -> dict[str, str]:
    """Short identity of what an automatic start, stop, opening or closing is decided on, by asset."""
    c = observed.condition
    bus = f"{c.grid_mode},{c.forming}"
    states: dict[str, object] = {
        **observed.genset_state,
        **{f: c.feeder_closed[f] for f in layout.shed_order},
        layout.site.grid.id: "",  # its breaker moves with the bus
    }
    return {a: f"{zlib.crc32(f'{bus},{state}'.encode()):08x}" for a, state in states.items()}


def write(
    layout: Layout,
    state: EdgeState,
    observed: Observed,
    snapshot: Snapshot,
    asked: Asked,
    given: GateInput,
) -> tuple[dict[str, Written], tuple[Command, ...], list[Refusal]]:
    """Authority, then the gate, for every point: (what is written now, commands, refusals)."""
    last = {**_measured(layout, state, observed, snapshot, asked.ruling), **_read_back(state, snapshot)}
    bounds = {} if state.held_safe else asked.bounds
    setpoints, refusals = authorise(
        layout, observed.condition, asked.proposals, bounds, last, given.now, asked.ruling
    )
    written = dict(state.written)
    commands: list[Command] = []
    for wanted in setpoints:
        s = within_capability(layout, wanted, last, written, observed.condition)
        passed = gate(layout, s, last.get(s.point), given, state.seq + 1 + len(commands))
        if isinstance(passed, Refusal):
            refusals.append(passed)
        elif passed is not None and yields(layout, state.contention, s, given.now_s):
            refusals.append(_contended(passed))
        elif passed is not None:
            _assert_safe(layout, passed, s.low, s.high)
            assert_may(passed, asked.ruling)
            commands.append(passed)
            written[s.point] = Written(value=passed.value, at_s=given.now_s, known=True)
    return written, tuple(commands), refusals


def _contended(command: Command) -> Refusal:
    return Refusal(
        point=command.point,
        value=command.value,
        cause=command.cause,
        code="contended",
        reason=f"somebody else holds {command.point}: this edge writes against it once a minute",
        decided_at=command.decided_at,
    )


def _read_back(state: EdgeState, snapshot: Snapshot) -> dict[str, Written]:
    """What was written; where the outcome is not known, what the device says it has: ramps start there."""
    out = dict(state.written)
    for point, w in state.written.items():
        value = None if w.known else snapshot.value(point)
        if value is not None:
            out[point] = replace(w, value=value)
    return out


def _measured(
    layout: Layout, state: EdgeState, observed: Observed, snapshot: Snapshot, ruling: Ruling
) -> dict[str, Written]:
    """What stands for each setpoint this edge has not written yet: no step on taking over."""
    out = {}
    for point in layout.setpoint_of.values():
        if point not in state.written:
            stands = taken_over(layout, observed.condition, snapshot, point, ruling)
            if stands is not None:
                out[point] = stands
    return out


def taken_over(
    layout: Layout, c: PlantCondition, snapshot: Snapshot, point: str, ruling: Ruling
) -> Written | None:
    """What stands for a setpoint this edge has not written yet.

    What the device says it has (its read-back), else for powers what is measured; for a PV limit that changes
    hands what the plant gives, which is where it may have been left.
    """
    asset, _, name = point.partition(".")
    value = snapshot.value(point)
    if value is None and name == "p_set_kw":
        is_bess = layout.kinds[asset] is AssetKind.BESS
        value = c.bess[asset].p_kw if is_bess else c.gensets[asset].p_kw
    if value is None and name == "p_limit_kw" and point in ruling.step:
        value = c.pv_kw[asset]
    return None if value is None else Written(value=value, at_s=NEVER_S, known=False)


def _assert_safe(layout: Layout, command: Command, low: float, high: float) -> None:
    """The oracle that stays on in production: a setpoint of the site file, inside, and so finite."""
    a = layout.setpoints.get(command.point)
    if a is None:
        raise InvariantBroken(f"the gate let {command.point} = {command.value!r} pass, which is no setpoint")
    if not (low <= command.value <= high and a.low <= command.value <= a.high):  # nan is inside of nothing
        raise InvariantBroken(f"{command.point} = {command.value} is outside [{low}, {high}]")


def assert_may(command: Command, ruling: Ruling) -> None:
    """The second oracle that stays on: nothing for a device in local, past an interlock, or without right."""
    device = command.point.partition(".")[0]
    mode = ruling.modes.get(device, ControlMode.OFF)
    if device in ruling.local or command.point in ruling.blocked or not may_write(mode, command.cause):
        raise InvariantBroken(f"authority let {command.point} = {command.value} pass in {mode.value}")


def news(
    known: Mapping[str, tuple[str, float]], refusals: Sequence[Refusal], now_s: float
) -> tuple[tuple[Refusal, ...], dict[str, tuple[str, float]]]:
    """Refusals worth telling: new ones, and lasting ones once a minute."""
    told, after = [], {}
    for r in refusals:
        before = known.get(r.point)
        if before is None or before[0] != r.code or now_s - before[1] >= REPEAT_REFUSAL_S:
            told.append(r)
            after[r.point] = (r.code, now_s)
        else:
            after[r.point] = before
    return tuple(told), after
