"""What the routes answer. Keys carry their units; positive power flows into the site's bus; times are UTC.

Types of `ems` that are public as they are (Plan, PlantCondition, records) are answered as they are.
"""

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from ems.assets import BessParams, FeederParams, GensetParams, GridParams, PvParams
from ems.explanation import Explanation
from ems.plan import Plan
from ems.records import CommandRecord, DeviceSample, PlanSummary
from ems.tariff import Tariff
from ems.telemetry import Quality


class HealthOut(BaseModel):
    """The API process lives."""

    status: str
    at: datetime


class ProcessOut(BaseModel):
    """One process and when it was last heard of."""

    process: str
    pid: int
    at: datetime
    age_s: float
    fields: dict[str, Any]


class ReadyOut(BaseModel):
    """Whether what this service shows is current. `reasons` say why not; `notes` are worth knowing."""

    ready: bool
    at: datetime
    reasons: list[str]
    notes: list[str]
    processes: list[ProcessOut]


class PointOut(BaseModel):
    """One point of the plant."""

    point: str
    path: str
    unit: str
    access: str
    meaning: str


class SiteOut(BaseModel):
    """The plant as configured, without its device addresses."""

    name: str
    timezone: str
    currency: str
    organisation: str
    portfolio: str
    latitude_deg: float
    longitude_deg: float
    grid: GridParams
    bess: list[BessParams]
    gensets: list[GensetParams]
    pv: list[PvParams]
    feeders: list[FeederParams]
    tariff: Tariff
    points: list[PointOut]


class ReadingOut(BaseModel):
    """Newest reading of a point. `value` is null where there is none; trust it only if quality is good."""

    value: float | None
    quality: Quality
    unit: str
    source_time: datetime
    age_s: float


class SnapshotOut(BaseModel):
    """The newest reading of every point."""

    at: datetime
    readings: dict[str, ReadingOut]


class PlanOut(BaseModel):
    """A plan, when its steps start, and whether it still holds."""

    valid: bool
    age_s: float
    step_starts: list[datetime]
    plan: Plan


class ExplanationOut(BaseModel):
    """Why a plan is as it is, and whether it is the plan in force."""

    plan_id: str
    current: bool
    explanation: Explanation


class PlansOut(BaseModel):
    """Plans issued in a window, newest first."""

    start: datetime
    end: datetime
    truncated: bool
    plans: list[PlanSummary]


class SampleOut(BaseModel):
    """One stored reading."""

    at: datetime
    value: float | None
    quality: Quality
    source_time: datetime | None  # of the device itself


class BucketOut(BaseModel):
    """Readings in [start, start + every_s): least, mean and most of the good ones, and the worst quality."""

    start: datetime
    low: float | None
    mean: float | None
    high: float | None
    count: int
    good: int
    quality: Quality


class HistoryOut(BaseModel):
    """Readings of one point, or buckets of them, oldest first; `truncated` if there are more than `limit`."""

    point: str
    unit: str
    start: datetime
    end: datetime
    truncated: bool
    every_s: int | None
    samples: list[SampleOut]
    buckets: list[BucketOut]


class RecordedOut(BaseModel):
    """What a device recorded of one point by itself, oldest first: history that nothing was decided on."""

    point: str
    unit: str
    start: datetime
    end: datetime
    truncated: bool
    samples: list[DeviceSample]


class CommandsOut(BaseModel):
    """Commands and refusals, newest first: what was commanded and why."""

    start: datetime
    end: datetime
    truncated: bool
    commands: list[CommandRecord]


class EventOut(BaseModel):
    """One event `domain.object.kind`."""

    at: datetime
    kind: str
    fields: dict[str, Any]


class EventsOut(BaseModel):
    """Events, newest first."""

    start: datetime
    end: datetime
    truncated: bool
    events: list[EventOut]
