"""What a mapping file of `ems import` says."""

from typing import Annotated, Literal

from pydantic import Field

from ems.dlms import PORT as DLMS_PORT
from ems.site_schema.forms import UaSecurityForm
from ems.site_schema.forms_base import Form, Id, PointId, Text
from ems.site_schema.forms_dlms import DlmsForm
from ems.site_schema.quantity import SecondsPositive


class ImportTimeForm(Form):
    """Where the time of a row stands, and how."""

    column: Text | None = Field(default=None, description="of a table")
    form: Text = Field(default="iso", description="iso, s or ms since 1970 UTC, or a form of strptime")
    shift_s: float = Field(
        default=0.0, allow_inf_nan=False, description="added: -900 where a time is the end of 15 min"
    )
    zone: Text | None = Field(default=None, description="IANA name, of times that tell none")


class ImportQualityForm(Form):
    """Where the quality of a value stands, of a long table."""

    column: Text
    good: list[str | int] = Field(min_length=1, description="what stands there of a good value")


class ImportPointForm(Form):
    """Which point a tag or column is."""

    point: PointId
    unit: Text | None = Field(default=None, description="of what is found; left out: the point's own")
    scale: float = Field(default=1.0, description="-1 turns the sign", allow_inf_nan=False)
    offset: float = Field(default=0.0, allow_inf_nan=False)


class ImportServerForm(Form):
    """An OPC UA server that keeps history."""

    host: Text
    port: Annotated[int, Field(ge=1, le=65535)] = 4840
    endpoint: str = ""
    timeout_s: SecondsPositive = Field(default=30.0, description="of each page of a history")
    security: UaSecurityForm | None = Field(default=None, description="as of a connection of the site file")


class ImportMeterForm(Form):
    """A meter that speaks DLMS, and its load profile."""

    host: Text
    port: Annotated[int, Field(ge=1, le=65535)] = DLMS_PORT
    timeout_s: SecondsPositive = Field(default=30.0, description="of each part of the profile")
    dlms: DlmsForm = Field(default=DlmsForm(), description="as of a connection of the site file")
    profile: Text = Field(default="1-0:99.1.0*255", description="OBIS code of the load profile")
    by: Literal["range", "entry"] = Field(default="range", description="how parts of it are asked for")
    status: str = Field(default="0-0:96.10.1*255", description="column of its status; empty: none is read")
    bad: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        default=0x07, description="bits of the status that make a row bad"
    )
    skew_s_max: SecondsPositive = Field(default=60.0, description="of its clock against ours")


class ImportForm(Form):
    """How rows of another historian are read."""

    source: Id = Field(description="marks the rows")
    shape: Literal["long", "wide", "opc_ua", "dlms"]
    time: ImportTimeForm = Field(default=ImportTimeForm(), description="of a table; of opc_ua shift_s alone")
    tag: Text | None = Field(default=None, description="long: the column of the tag")
    value: Text | None = Field(default=None, description="long: the column of the value")
    quality: ImportQualityForm | None = None
    points: dict[Text, ImportPointForm] = Field(min_length=1, description="by tag, by column, or by node")
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    decimal: Literal[".", ","] = "."
    query: Text | None = Field(default=None, description="SQL that gives the rows")
    server: ImportServerForm | None = Field(default=None, description="of opc_ua")
    meter: ImportMeterForm | None = Field(default=None, description="of dlms")
