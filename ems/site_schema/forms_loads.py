"""Forms of deferrable devices: work with a deadline."""

from typing import Annotated

from pydantic import Field

from ems.site_schema.forms_base import EVERY_DAY, Day, Form, Id
from ems.site_schema.quantity import Kw, Kwh, KwPositive, LocalHour, Quantity, Seconds, Stamp


class DailyWorkForm(Form):
    """Work of every day of the given types; an end that is no later than the start is on the next day."""

    start: LocalHour = Field(alias="from")
    end: LocalHour = Field(alias="to")
    days: list[Day] = Field(default=EVERY_DAY, min_length=1)
    energy_kwh: Kwh | None = None
    run_h: Annotated[float, Quantity("h", gt=0, le=24)] | None = None


class DatedWorkForm(Form):
    """Work of one window."""

    start: Stamp
    end: Stamp
    energy_kwh: Kwh | None = None
    run_h: Annotated[float, Quantity("h", gt=0)] | None = None


class DeferrableForm(Form):
    """A device behind a feeder whose load forecast does not hold it."""

    feeder: Id
    p_kw: KwPositive
    p_min_kw: Kw | None = Field(default=None, description="least power while on; left out: p_kw, on or off")
    unfinished_per_kwh: Annotated[float, Quantity("CUR/kWh", gt=0)]
    daily: list[DailyWorkForm] = []
    dated: list[DatedWorkForm] = []
    alone_on_feeder: bool = False
    interruptible: bool = True
    min_run_s: Seconds = 0.0
    starts_per_window_max: Annotated[int, Field(ge=1, le=100)] | None = None
