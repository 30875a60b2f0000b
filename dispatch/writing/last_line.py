"""The last line before the socket: what was decided is held against what is known now, command by command.

Between a decision and its bytes on the wire lie waits, one for each reply of a device. Limits may be
tightened in any of them. Here the same rules of authority and gate are asked again, with the newest inputs; a
command comes out as it was, narrower, or as a Refusal. It never comes out wider.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dispatch.authority.layers import Limits, intersect, layers_of, limits_hash
from dispatch.authority.ruling import Ruling
from dispatch.authority.stage import Given as AuthorityInput
from dispatch.authority.stage import rule, rule_safe
from dispatch.authority.told_limits import LAYER as UTILITY
from dispatch.authority.told_limits import caps_now
from dispatch.layout import Layout
from dispatch.observing.condition import observe
from dispatch.state import EdgeState, Written
from dispatch.writing.commands import gate_input_of, taken_over
from dispatch.writing.gate import SAFE, GateInput, forbidden
from dispatch.writing.rounding import inside
from ems.commands import Bound, Cause, Command, Refusal, Setpoint
from ems.condition import PlantCondition
from ems.control import ControlMode, may_write
from ems.control_site import LimitKind
from ems.frozen import replace
from ems.invariants import clamp
from ems.site import GridMode
from ems.telemetry import Reading, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """What arrived after the decision was made: newest readings known, without asking the wire."""

    readings: Sequence[Reading] = ()


NOTHING_NEW = Newest()
MOMENT_S = 1e-3  # a decision that stands for no time: nothing is confirmed by it that was not before
LINE_AGE_S = 0.1  # by then a reading may have grown too old
AT_POI = (LimitKind.IMPORT, LimitKind.EXPORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a command is held against."""

    layout: Layout
    decided_in: GridMode  # grid mode that the decision was made for
    condition: PlantCondition  # newest
    given: GateInput  # newest
    ruling: Ruling  # newest: selectors, emergency stop, interlocks, limits told by others
    bounds: Mapping[str, Sequence[Bound]]  # protections' bounds of the decision
    snapshot: Snapshot  # newest
    lowered: frozenset[LimitKind] = frozenset()  # caps at the POI that are lower than those decided on

    def stood(self, point: str, before: Mapping[str, Written]) -> Written | None:
        """What a setpoint stood at before a command: what was written, else what is taken over."""
        if point in before or point not in self.layout.setpoints:
            return before.get(point)
        return taken_over(self.layout, self.condition, self.snapshot, point, self.ruling)

    def holds(self, newest: Newest, state: EdgeState, now_s: float) -> bool:
        """Nothing has arrived since this line was drawn, and it is not old: it need not be drawn again."""
        return (
            not newest.readings
            and state.held_safe is self.given.held_safe
            and 0.0 <= now_s - self.given.now_s < LINE_AGE_S
        )


def line_now(
    layout: Layout,
    state: EdgeState,
    snapshot: Snapshot,
    decided_in: GridMode,
    bounds: Mapping[str, Sequence[Bound]],
) -> Line:
    """The line as it is at this moment.

    Parameters
    ----------
    state : after the tick that decided.
    decided_in, bounds : grid mode and protections' bounds of the decision.
    """
    _, observed = observe(layout, state.observer, snapshot, state.requests, MOMENT_S, state.marks)
    ruling = _ruled_again(layout, state, snapshot, observed.condition)
    return Line(
        layout=layout,
        decided_in=decided_in,
        condition=observed.condition,
        given=gate_input_of(layout, state, observed, snapshot, MOMENT_S),
        ruling=ruling,
        bounds={} if state.held_safe else bounds,  # the safe table is bound by no protection
        snapshot=snapshot,
        lowered=_lowered(layout, state, ruling, snapshot.monotonic_s),
    )


def _lowered(layout: Layout, state: EdgeState, ruling: Ruling, now_s: float) -> frozenset[LimitKind]:
    """Caps at the POI that others have told to be lower than the decision knew."""
    memory = state.authority
    first_s = now_s if memory.first_s is None else memory.first_s
    told, _ = caps_now(layout.control, memory.told, first_s, now_s)
    people = (c for c in ruling.caps if c.layer != UTILITY)
    decided = replace(ruling, caps=(*told, *people))
    return frozenset(k for k in AT_POI if _cap_kw(ruling, k) < _cap_kw(decided, k))


def _cap_kw(ruling: Ruling, kind: LimitKind) -> float:
    cap_kw = ruling.cap_kw(kind)
    return math.inf if cap_kw is None else cap_kw


def _ruled_again(layout: Layout, state: EdgeState, snapshot: Snapshot, condition: PlantCondition) -> Ruling:
    """What authority rules now, of inputs alone: requests of people are heard in the next tick."""
    if state.held_safe:
        return rule_safe(layout, state.authority, snapshot)
    given = AuthorityInput(
        snapshot=snapshot,
        condition=condition,
        written=state.written,
        received=(),
        held_safe=False,
        epoch=state.epoch,
        dt_s=MOMENT_S,
    )
    return rule(layout, state.authority, given)[1]


def last_line(line: Line, command: Command, last: Written | None) -> Command | Refusal:
    """The command as it may be sent now, or why it may not.

    Parameters
    ----------
    last : what was written to the point before this command.

    Codes beside those of authority and gate: stopped, local, mode_changed, state_changed, forming,
    cap_lowered.
    """
    asset, _, name = command.point.partition(".")
    if command.point not in line.layout.setpoints:
        return _beat(line, command, asset)
    if asset in line.ruling.local:
        return _refused(line, command, "local", f"{asset} is in local")
    if line.ruling.stopping and command.cause is not Cause.EMERGENCY_STOP:
        return _refused(line, command, "stopped", "the emergency stop is open")
    if command.point in line.ruling.blocked:
        return _refused(line, command, "blocked", line.ruling.blocked[command.point])
    if not may_write(line.ruling.modes.get(asset, ControlMode.OFF), command.cause):
        return _refused(line, command, "mode_of_control", f"{command.cause} does not write there any more")
    if line.given.mode is not line.decided_in and not _protects(command, last):
        why = f"decided for {line.decided_in}, the plant is {line.given.mode}"
        return _refused(line, command, "mode_changed", why)
    if name == "p_set_kw" and asset in line.given.forming:
        return _refused(line, command, "forming", f"{asset} forms the bus: it has no power setpoint")
    if _discrete_moved(line, command, asset, name):
        why = f"{asset} or the bus is no longer in the state this was decided on"
        return _refused(line, command, "state_changed", why)
    limits = intersect(layers_of(line.layout, line.condition, command.point, line.bounds, line.ruling))
    if _toward_lowered(line, command, name, last, limits):
        return _refused(line, command, "cap_lowered", "a cap at the POI is lower than the one decided on")
    now = _narrowed(command, limits, line.layout.step_of.get(command.point))
    code, why = forbidden(line.layout, _setpoint(now, limits), last, line.given)
    return now if code is None else _refused(line, command, code, why)


def _beat(line: Line, command: Command, asset: str) -> Command | Refusal:
    """The heartbeat is the one point beside the setpoints; it stops while the edge is held safe."""
    if command.point not in line.layout.watchdogs:
        return _refused(line, command, "not_authorised", f"the edge may not write {command.point}")
    if line.ruling.silent(asset):
        return _refused(line, command, "local", f"no heartbeat for {asset}: it is in local or off")
    if line.given.held_safe:
        return _refused(line, command, "held_safe", "no heartbeat while the edge is held safe")
    return command


def _protects(command: Command, last: Written | None) -> bool:
    """Right in every grid mode: the safe table, and what protection does other than raise a PV limit."""
    if command.cause in SAFE:
        return True
    if command.point.endswith(".p_limit_kw"):
        return last is not None and command.value <= last.value
    return command.cause is Cause.PROTECTION


def _discrete_moved(line: Line, command: Command, asset: str, name: str) -> bool:
    """Whether the state that an automatic start, stop or closing was decided on has gone.

    Opening a breaker to protect the bus does not wait for another decision.
    """
    if command.state_hash == "" or command.cause in SAFE:
        return False
    opens = name == "close_request" and command.value < 0.5 and command.cause is Cause.PROTECTION
    return not opens and command.state_hash != line.given.state_hash.get(asset, "")


def _toward_lowered(line: Line, command: Command, name: str, last: Written | None, limits: Limits) -> bool:
    """Whether it moves the power at the POI toward a cap that has been lowered since the decision.

    What it may be under the new cap only another decision knows. What stands outside its limits comes back
    first, and so does what a protection wants of a battery or a genset.
    """
    if not line.lowered or command.cause in SAFE or line.given.mode is not GridMode.GRID_TIED:
        return False
    if name == "p_limit_kw":
        return LimitKind.EXPORT in line.lowered and last is not None and command.value > last.value
    if name != "p_set_kw" or command.cause is Cause.PROTECTION:
        return False
    stands_kw = 0.0 if last is None else last.value
    if not limits.low <= stands_kw <= limits.high:
        return False
    more, less = LimitKind.EXPORT in line.lowered, LimitKind.IMPORT in line.lowered
    return (more and command.value > stands_kw) or (less and command.value < stands_kw)


def _narrowed(command: Command, limits: Limits, step: float | None) -> Command:
    value = clamp(command.value, limits.low, limits.high)
    if value == command.value:
        return command
    value = inside(value, limits.low, limits.high, step, protective=True)
    reason = (
        f"{command.reason}; {command.value:.1f} narrowed to {value:.1f} by {limits.binding} before sending"
    )
    return replace(command, value=value, reason=reason, limits_hash=limits_hash(limits))


def _setpoint(command: Command, limits: Limits) -> Setpoint:
    """The command as the gate knows it."""
    return Setpoint(
        point=command.point,
        value=command.value,
        low=limits.low,
        high=limits.high,
        cause=command.cause,
        reason=command.reason,
        owner=command.owner,
        plan_id=command.plan_id,
        protective=command.protective,
        limits_hash=command.limits_hash,
    )


def _refused(line: Line, command: Command, code: str, why: str) -> Refusal:
    return Refusal(
        point=command.point,
        value=command.value,
        cause=command.cause,
        code=code,
        reason=f"{why} (just before it was sent)",
        decided_at=line.given.now,
    )
