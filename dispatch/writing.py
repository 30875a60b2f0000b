"""From targets to commands: proposals, what the gate must know, authority and gate for every point."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from dispatch.authority import resolve as authorise
from dispatch.condition import Observed
from dispatch.gate import GateInput, gate
from dispatch.layout import Layout
from dispatch.safe_table import safe_proposals
from dispatch.state import EdgeState, Written
from dispatch.vocabulary import Target, Targets, TickInput
from ems.commands import Bound, Command, Proposal, Refusal
from ems.errors import InvariantBroken
from ems.points import AssetKind, BessState
from ems.telemetry import Snapshot

REPEAT_REFUSAL_S = 60.0  # the same refusal of the same point is told again so often
_FIELDS = (
    ("bess_p_kw", "p_set_kw"),
    ("genset_run", "run_request"),
    ("genset_p_kw", "p_set_kw"),
    ("pv_limit_kw", "p_limit_kw"),
    ("feeder_close", "close_request"),
)


def only_numbers(owner: str, wishes: Targets, now: datetime) -> tuple[Targets, list[Refusal]]:
    """A wish that is not a number never reaches the protections: a clamp would make it full power."""
    refusals: list[Refusal] = []
    changed: dict[str, Any] = {}  # fields of Targets to replace
    for group, name in _FIELDS:
        targets: Mapping[str, Target] = getattr(wishes, group)
        for asset, t in targets.items():
            if not math.isfinite(t.value):
                changed[group] = {a: v for a, v in targets.items() if math.isfinite(v.value)}
                reason = f"{owner} wants {t.value!r}"
                refusals.append(
                    Refusal(
                        point=f"{asset}.{name}",
                        value=t.value,
                        cause=t.cause,
                        code="not_finite",
                        reason=reason,
                        decided_at=now,
                    )
                )
    return (replace(wishes, **changed) if changed else wishes), refusals


def proposals_of(
    layout: Layout, owner: str, state: EdgeState, observed: Observed, targets: Targets, given: TickInput
) -> list[Proposal]:
    """Targets and operators' wishes as proposals; held safe, the safe table alone."""
    if state.held_safe:
        mode = observed.condition.grid_mode
        return safe_proposals(layout, mode, observed.bess_state, "the edge is held safe")
    out = [p for p in given.proposals if p.expires_s is None or p.expires_s > given.snapshot.monotonic_s]
    for group, name in _FIELDS:
        for asset, target in getattr(targets, group).items():
            point = layout.setpoint_of.get((asset, name))
            if point is not None:
                out.append(
                    Proposal(
                        point=point,
                        value=target.value,
                        cause=target.cause,
                        reason=target.reason,
                        owner=owner,
                        plan_id=targets.plan_id,
                    )
                )
    return out


def gate_input_of(
    layout: Layout, state: EdgeState, observed: Observed, snapshot: Snapshot, dt_s: float
) -> GateInput:
    """What the gate must know of this cycle."""
    good = {p for p, r in snapshot.readings.items() if r.is_good}
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
    )


def write(
    layout: Layout,
    state: EdgeState,
    observed: Observed,
    snapshot: Snapshot,
    proposals: Sequence[Proposal],
    bounds: Mapping[str, Sequence[Bound]],
    given: GateInput,
) -> tuple[dict[str, Written], tuple[Command, ...], list[Refusal]]:
    """Authority, then the gate, for every point: (what is written now, commands, refusals)."""
    last = {**_measured(layout, state, observed, snapshot), **state.written}
    if state.held_safe:
        bounds = {}
    setpoints, refusals = authorise(layout, observed.condition, proposals, bounds, last, given.now)
    written = dict(state.written)
    commands: list[Command] = []
    for s in setpoints:
        passed = gate(layout, s, last.get(s.point), given, state.seq + 1 + len(commands))
        if isinstance(passed, Refusal):
            refusals.append(passed)
        elif passed is not None:
            _assert_safe(layout, passed, s.low, s.high)
            commands.append(passed)
            written[s.point] = Written(value=passed.value, at_s=given.now_s, known=True)
    return written, tuple(commands), refusals


def _measured(layout: Layout, state: EdgeState, observed: Observed, snapshot: Snapshot) -> dict[str, Written]:
    """What stands for a setpoint this edge has not written yet: no step on taking over.

    What the device says it has (its read-back), else for powers what is measured.
    """
    out = {}
    for (asset, name), point in layout.setpoint_of.items():
        if point in state.written:
            continue
        value = snapshot.value(point)
        if value is None and name == "p_set_kw":
            c = observed.condition
            is_bess = layout.kinds[asset] is AssetKind.BESS
            value = c.bess[asset].p_kw if is_bess else c.gensets[asset].p_kw
        if value is not None:
            out[point] = Written(value=value, at_s=-1e9, known=False)
    return out


def _assert_safe(layout: Layout, command: Command, low: float, high: float) -> None:
    """The oracle that stays on in production: finite, inside, whitelisted."""
    a = layout.setpoints.get(command.point)
    if a is None or not math.isfinite(command.value):
        raise InvariantBroken(f"the gate let {command.point} = {command.value!r} pass")
    if not (low <= command.value <= high and a.low <= command.value <= a.high):
        raise InvariantBroken(f"{command.point} = {command.value} is outside [{low}, {high}]")


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
