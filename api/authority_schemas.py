"""What the route of authority answers: who commands what, until when, and what limits it."""

from datetime import datetime

from pydantic import BaseModel

from api.alarm_schemas import LimitOut


class LeaseOut(BaseModel):
    """A setpoint in somebody's hand; `value` in its unit."""

    owner: str
    value: float
    until: datetime
    left_s: float
    reason: str


class BoundOut(BaseModel):
    """From where to where a setpoint may be, in its unit, and who says so."""

    layer: str
    low: float
    high: float
    reason: str


class SetpointOut(BaseModel):
    """Who holds a setpoint, what bounds it, and what blocks it."""

    lease: LeaseOut | None
    limits: list[BoundOut]
    blocked: str | None


class ModeOut(BaseModel):
    """A mode of control, and what makes it so."""

    mode: str
    why: str


class DeviceOut(ModeOut):
    """One device with its setpoints."""

    setpoints: dict[str, SetpointOut]


class CapOut(BaseModel):
    """A cap at the POI, on all PV or on all batteries."""

    kind: str
    cap_kw: float
    layer: str
    reason: str


class ProposalOut(BaseModel):
    """A loosening that waits for its second person."""

    subject: str
    value: float | None
    what: str
    user: str
    reason: str
    for_s: float | None
    until: datetime


class LoosenedOut(BaseModel):
    """A limit or an interlock that does not count for a time; `second` is null: the glass was broken."""

    value: float | None
    user: str
    second: str | None
    reason: str
    until: datetime


class InterlockOut(BaseModel):
    """ready, tripped or bypassed."""

    state: str
    cause: str


class RulesOut(BaseModel):
    """What authority rules by. `lost`: what held before the last start is not known; `orphans`: what people
    set about something that the site file has no more.
    """

    emergency_stop: str
    lost: bool
    orphans: dict[str, str] = {}
    plant: ModeOut
    devices: dict[str, DeviceOut]
    caps: list[CapOut]
    proposals: dict[str, ProposalOut]
    loosened: dict[str, LoosenedOut]
    interlocks: dict[str, InterlockOut]


class AuthorityOut(BaseModel):
    """Who may command, as the edge last told. `requests_refused`: why no request of people is taken.

    `plant` and `devices` are modes of control, `limits` those of people, `told_kw` those of others; `rules`
    is null for an edge of another version.
    """

    at: datetime | None
    plant: str | None
    devices: dict[str, str]
    limits: dict[str, LimitOut]
    told_kw: dict[str, float]
    epoch: int | None
    held_safe: bool
    requests_refused: str | None
    rules: RulesOut | None
