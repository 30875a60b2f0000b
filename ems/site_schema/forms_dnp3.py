"""DNP3 in a site file: who is spoken to, and how its points are read and its outputs operated."""

from typing import Annotated, Literal

from pydantic import Field

from ems.dnp3 import ADDRESS_MAX
from ems.site_schema.forms_base import Form
from ems.site_schema.quantity import SecondsPositive


class Dnp3Form(Form):
    """An outstation, and how it is spoken to."""

    outstation: Annotated[int, Field(ge=0, le=ADDRESS_MAX)] = Field(description="its link address")
    master: Annotated[int, Field(ge=0, le=ADDRESS_MAX)] = Field(default=1, description="ours, as it knows it")
    static: Literal["points", "class0"] = Field(
        default="points", description="what is asked for: the points of the map, or all of class 0"
    )
    integrity_s: SecondsPositive | None = Field(
        default=None, description="everything is read so often, events alone between; left out: at each poll"
    )
    events: Literal["classes", "times"] = Field(
        default="classes", description="how events are told: as it is set there, or with their times"
    )
    operate: Literal["direct", "select"] = Field(default="direct", description="select: before operate")
    time_sync: bool = Field(default=False, description="its clock is set where it asks for it")
