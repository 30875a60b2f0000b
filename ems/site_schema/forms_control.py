"""Forms of the control section: who is who, the emergency stop, interlocks, limits told by others."""

from typing import Annotated, Literal

from pydantic import Field

from ems.site_schema.forms_base import USER_PATTERN, Form, Id, PointId, Text
from ems.site_schema.quantity import Kw, PointQuantity, Quantity, Ratio, SecondsPositive

UserName = Annotated[str, Field(pattern=USER_PATTERN)]
RoleName = Literal["viewer", "operator", "engineer", "utility"]


class InterlockWhenForm(Form):
    """Tripped while the point is below or above, and while it has no good reading."""

    point: PointId
    below: PointQuantity | None = None
    above: PointQuantity | None = None


class InterlockEffectForm(Form):
    """What it does to one setpoint: `block`, or bounds."""

    block: bool = False
    low: PointQuantity | None = None
    high: PointQuantity | None = None


class InterlockForm(Form):
    """A condition on a point that blocks or bounds setpoints."""

    when: InterlockWhenForm
    then: dict[PointId, InterlockEffectForm] = Field(min_length=1)
    cause: Text = Field(description="shown to operators while it is tripped")


class ContactForm(Form):
    """One step of a receiver with dry contacts."""

    point: PointId
    ratio: Ratio


class UtilityLimitForm(Form):
    """A cap told to the plant by a point, by contacts, or by messages."""

    kind: Literal["import", "export", "pv", "bess_charge", "bess_discharge"]
    watchdog_s: SecondsPositive
    on_loss_kw: Kw | None = None
    point: PointId | None = None
    heartbeat: PointId | None = None
    contacts: list[ContactForm] = []


class ControlForm(Form):
    """Who may do what, and what narrows everything the EMS writes."""

    start_mode: Literal["off", "manual", "auto"] = "auto"
    users: dict[UserName, list[RoleName]] = {}
    setpoint_expiry_s: Annotated[float, Quantity("s", gt=0, le=86400)] = 14400.0
    transfer_ramp_s: Annotated[float, Quantity("s", ge=0, le=3600)] = 30.0
    emergency_stop: dict[PointId, PointQuantity] = {}
    interlocks: dict[Id, InterlockForm] = {}
    limits: dict[Id, UtilityLimitForm] = {}
