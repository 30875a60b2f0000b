"""From wish to wire: Proposal -> Setpoint -> Command or Refusal -> WriteResult."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Cause(StrEnum):
    """Why a value is proposed, in order of precedence, strongest first."""

    EMERGENCY_STOP = "emergency_stop"
    SAFE_TABLE = "safe_table"
    PROTECTION = "protection"
    OPERATOR = "operator"
    PLAN = "plan"
    RULES = "rules"
    REFRESH = "refresh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Somebody would like a setpoint to have this value. Value in the point's own unit."""

    point: str
    value: float  # unit of the point; ratio
    cause: Cause
    reason: str  # one true sentence
    owner: str
    plan_id: str | None = None
    expires_s: float | None = None  # edge monotonic [s]; None: this cycle only
    request_id: str | None = None  # of the person's request behind it


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A narrowing of what a setpoint may be, from one layer. Bounds are intersected, never widened."""

    point: str
    low: float  # unit of the point; ratio
    high: float  # unit of the point; ratio
    layer: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setpoint:
    """What authority made of the proposals for one point: one value inside every bound."""

    point: str
    value: float  # unit of the point; ratio
    low: float  # unit of the point; ratio
    high: float  # unit of the point; ratio
    cause: Cause
    reason: str
    owner: str
    plan_id: str | None
    protective: bool  # moves in the protective direction: free of ramp, deadband, budget and hold-off
    limits_hash: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A write that passed the gate. Only the shell may send it, once."""

    point: str
    value: float  # unit of the point; ratio
    cause: Cause
    reason: str
    owner: str
    plan_id: str | None
    epoch: int  # start of this edge process, grows with every restart
    seq: int  # grows with every command of the epoch
    limits_hash: str  # identifies every layer that bound it
    decided_at: datetime
    decided_s: float
    request_id: str | None = None  # of the person's request behind it

    @property
    def command_id(self) -> str:
        """Its identity in every record: unique for a site, ordered within an epoch."""
        return f"{self.epoch}-{self.seq}"

    protective: bool = False  # moves in the protective direction
    state_hash: str = ""  # of an automatic start, stop, opening or closing: the state it was decided on


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A write the gate did not let pass, with its reason."""

    point: str
    value: float  # unit of the point; ratio; may be NaN, it is what was asked for
    cause: Cause
    code: str
    reason: str
    decided_at: datetime


class WriteOutcome(StrEnum):
    """What is known after a write."""

    CONFIRMED = "confirmed"  # the device acknowledged
    REJECTED = "rejected"  # the device answered with an exception
    UNKNOWN = "unknown"  # no answer: it may still execute; read back first
    NOT_SENT = "not_sent"  # the connection was down


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteResult:
    """Outcome of one command."""

    command: Command
    outcome: WriteOutcome
    detail: str
    finished_at: datetime
