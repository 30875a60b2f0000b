"""What the routes of alarms and ladder answer."""

from datetime import datetime

from pydantic import BaseModel

from ems.alarm_rates import Flood
from ems.alarms import AlarmRow, AlarmState, Priority


class HoldOut(BaseModel):
    """Who keeps an alarm out of sight, why, and until when."""

    who: str
    why: str
    until: datetime | None


class AlarmOut(BaseModel):
    """One alarm, and what it asks of an operator. `value` and `limit` are in `unit`."""

    key: str
    code: str
    asset: str | None
    state: AlarmState
    priority: Priority
    text: str
    value: float | None
    limit: float | None
    unit: str
    raised_at: datetime | None
    since: datetime | None
    age_s: float | None
    activations: int
    acknowledged_by: str | None
    shelved: HoldOut | None
    removed: HoldOut | None
    suppressed_by: str | None
    consequence: str
    response: str
    respond_s: float | None


class AlarmsOut(BaseModel):
    """Alarms as the edge last recorded them, and how many there are by priority (standing) and state."""

    at: datetime
    recorded_at: datetime | None
    by_priority: dict[Priority, int]
    by_state: dict[AlarmState, int]
    alarms: list[AlarmOut]


class AlarmTableOut(BaseModel):
    """The rationalisation table."""

    rows: list[AlarmRow]


class RatesOut(BaseModel):
    """Figures of one window; targets of EEMUA 191: 6 an hour, 10 in ten minutes, 1 % of the time in flood."""

    start: datetime
    end: datetime
    alarms: int
    mean_per_h: float
    peak_10_min: int
    floods: list[Flood]
    flood_ratio: float
    top_ten: dict[str, int]
    top_ten_share: float
    chattering: list[str]
    fleeting: list[str]
    stale: list[str]
    shelved: int
    by_priority: dict[Priority, int]
    acknowledged: int
    mean_acknowledge_s: float | None
    acknowledge_s_max: float | None


class LimitOut(BaseModel):
    """A limit that a person has set, in kW or the unit of its setpoint; null: none."""

    value: float | None
    user: str
    reason: str


class RungOut(BaseModel):
    """One rung of the ladder, as documented."""

    rung: str
    title: str
    decides: str
    entered: str
    left: str
    within: str
    at_most: str
    writes: str
    heartbeat: str


class LadderOut(BaseModel):
    """The rung that decides, since when and why; null before the edge ever reported."""

    at: datetime | None
    rung: str | None
    since: str | None
    reason: str | None
    rungs: list[RungOut]
