"""Rows as the historian gives them back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ems.commands import Cause, WriteOutcome
from ems.plan import PlanLabel
from ems.telemetry import Quality

JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One stored reading."""

    at: datetime
    value: float | None  # unit of the point; ratio
    quality: Quality
    source_time: datetime | None = None  # of the device itself; None: not told


class TimeBasis(StrEnum):
    """Whose time a sample has. Only that of `DEVICE` is believed; the others stand at their arrival."""

    DEVICE = "device"
    UNSYNCHRONISED = "unsynchronised"  # the device itself says that its clock is not set
    AHEAD = "ahead"  # later than a few seconds after its arrival
    TOO_OLD = "too_old"  # more than a year before its arrival
    NONE = "none"  # it told no time


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSample:
    """One value that a device recorded by itself. One whose time is not believed is never good."""

    point: str
    value: float | None
    quality: Quality
    at: datetime  # its place in time: the device's where that is believed, else its arrival
    told_at: datetime | None
    arrived_at: datetime
    clock: TimeBasis


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Readings of one point in [start, start + length): least, mean and most of the good ones."""

    start: datetime
    low: float | None  # unit of the point; None where no reading was good
    mean: float | None
    high: float | None
    count: int  # readings, good or not
    good: int
    quality: Quality  # the worst there was


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRecord:
    """What was commanded or refused, why, and what became of it. `outcome` is None while it is in flight."""

    at: datetime
    point: str
    value: float  # unit of the point; ratio
    cause: Cause
    reason: str
    owner: str
    plan_id: str | None
    epoch: int
    seq: int
    limits_hash: str
    refused_code: str | None
    outcome: WriteOutcome | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """One event `domain.object.kind`."""

    at: datetime
    kind: str
    fields: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRow:
    """How one process is doing; numeric fields are exported as metrics."""

    process: str
    pid: int
    at: datetime
    fields: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSummary:
    """One line about a plan."""

    plan_id: str
    seq: int
    issued_at: datetime
    valid_until: datetime
    label: PlanLabel
    objective: float | None  # money
    gap_ratio: float | None
    solve_s: float
