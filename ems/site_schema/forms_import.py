"""What a mapping file of `ems import` says."""

from typing import Annotated, Literal

from pydantic import Field

from ems.site_schema.forms_base import Form, Id, PointId, Text


class ImportTimeForm(Form):
    """Where the time of a row stands, and how."""

    column: Text
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


class ImportForm(Form):
    """How rows of another historian are read."""

    source: Id = Field(description="marks the rows")
    shape: Literal["long", "wide"]
    time: ImportTimeForm
    tag: Text | None = Field(default=None, description="long: the column of the tag")
    value: Text | None = Field(default=None, description="long: the column of the value")
    quality: ImportQualityForm | None = None
    points: dict[Text, ImportPointForm] = Field(min_length=1, description="by tag, or by column")
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    decimal: Literal[".", ","] = "."
    query: Text | None = Field(default=None, description="SQL that gives the rows")
