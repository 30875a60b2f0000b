"""IEC 60870-5-104 in a site file: which station is read, and how often."""

from typing import Annotated, Literal

from pydantic import Field

from ems.site_schema.forms_base import Form, Text
from ems.site_schema.quantity import Quantity, SecondsPositive

Window = Annotated[int, Field(ge=1, le=128)]
Wait = Annotated[float, Quantity("s", ge=1, le=255)]


class Iec104Form(Form):
    """A controlled station, and how it is read."""

    common_address: Annotated[int, Field(ge=1, le=0xFFFE)] = Field(description="of the station")
    originator: Annotated[int, Field(ge=0, le=255)] = Field(default=0, description="our originator address")
    interrogate_s: SecondsPositive | None = Field(
        default=None, description="everything is asked so often, changes are told between; or at each poll"
    )
    time_zone: Text | Literal["none"] = Field(
        default="UTC", description="of its time tags, such as Europe/Berlin; none: they are not believed"
    )
    k: Window = Field(default=12, description="frames of ours without a confirmation")
    w: Window = Field(default=8, description="frames of the station after which we confirm")
    t1_s: Wait = Field(default=15.0, description="wait for a confirmation")
    t2_s: Wait = Field(default=10.0, description="until we confirm")
    t3_s: Wait = Field(default=20.0, description="until a quiet connection is tested")
