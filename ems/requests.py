"""What people and services ask of the edge, and what it answers. A request is a wish: the edge decides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from ems.control import ControlMode

PLANT = ""  # the plant, where devices are named


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSetpoint:
    """Have a setpoint at a value for a time. Continuous setpoints only: discrete ones are operated."""

    kind: Literal["set"] = "set"
    point: str
    value: float  # unit of the setpoint; ratio
    for_s: float | None = None  # None: as long as the site file says


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Give a setpoint of one's own back."""

    kind: Literal["release"] = "release"
    point: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchMode:
    """Change the mode of control of a device, or of the plant. `for_s`: then as before."""

    kind: Literal["mode"] = "mode"
    device: str | None
    mode: ControlMode
    for_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLimit:
    """Narrow or widen what a setpoint or the POI may do.

    `subject`: import, export, pv, bess_charge, bess_discharge, or a setpoint with a side, as
    `bess1.p_set_kw.high`. None takes the limit away. What is wider than now needs a second person, or
    `break_glass` for a time.
    """

    kind: Literal["limit"] = "limit"
    subject: str
    value: float | None  # unit of the subject: kW, or that of its setpoint; ratio
    break_glass: bool = False
    for_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bypass:
    """Have an interlock not count, for a time: always somebody else must confirm, or break-glass."""

    kind: Literal["bypass"] = "bypass"
    interlock: str
    for_s: float
    break_glass: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm:
    """Second person of a loosening that somebody else has proposed."""

    kind: Literal["confirm"] = "confirm"
    proposal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Select:
    """First step of a discrete action: the answer carries a token."""

    kind: Literal["select"] = "select"
    point: str
    value: float  # unit of the setpoint; ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Operate:
    """Second step: do what was selected, if nothing has changed."""

    kind: Literal["operate"] = "operate"
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseHeldSafe:
    """Let the edge decide again after it was held safe."""

    kind: Literal["release_held_safe"] = "release_held_safe"


@dataclass(frozen=True, slots=True, kw_only=True)
class TellLimit:
    """The value of a limit of the site file, from a utility or plant controller; also its sign of life.

    `seq`: once a limit was told with one, what has none or no higher one is old and loosens nothing.
    """

    kind: Literal["tell"] = "tell"
    limit: str
    value_kw: float
    seq: int | None = None


Ask = (
    SetSetpoint
    | Release
    | SwitchMode
    | SetLimit
    | Bypass
    | Confirm
    | Select
    | Operate
    | ReleaseHeldSafe
    | TellLimit
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One wish as its client wrote it.

    `id` is its idempotency key: asked twice, it is done once. `ttl_s` counts from the moment the edge first
    saw it, on the edge's own clock. `epoch` is the start of the edge the client was looking at: after a
    restart only what makes things safer is still done.
    """

    id: str
    session: str
    epoch: int
    ttl_s: float
    reason: str
    ask: Ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request with who sent it, as the operating system vouches for, and when it was first seen."""

    user: str
    n: int  # place in the client's file
    seen_s: float  # edge monotonic
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a request. `token` names what may follow: a selection, or a proposal to be confirmed."""

    user: str
    n: int
    request_id: str
    done: bool
    code: str
    text: str
    at: datetime
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingLimit:
    """A limit that somebody has set and that holds until it is changed."""

    subject: str
    value: float | None  # unit of the subject: kW, or that of its setpoint; None: no limit
    user: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What outlives a restart of the edge: it never comes up looser than it went down.

    Setpoints of people, selections, proposals, bypasses and broken glass do not. Of setpoints it is kept how
    long they were asked for, so that nothing holds them for longer afterwards. `*_until_s` count on the
    monotonic clock of the machine: who keeps it leaves them out after another start of the machine.
    """

    plant: ControlMode
    devices: Mapping[str, ControlMode] = field(default_factory=dict)
    limits: Mapping[str, StandingLimit] = field(default_factory=dict)
    told_kw: Mapping[str, float] = field(default_factory=dict)  # last value of each limit told by others
    held_safe: bool = False
    stopped: bool = False  # by the emergency stop, not yet switched back
    lost: bool = False  # what was kept before is not known, and nobody has chosen a mode since
    chosen_by: Mapping[str, str] = field(default_factory=dict)  # device, or PLANT -> who chose its mode
    mode_until_s: Mapping[str, float] = field(default_factory=dict)  # of modes for a time, by the same keys
    held_until_s: Mapping[str, float] = field(default_factory=dict)  # setpoint -> end of its lease
