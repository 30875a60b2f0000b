"""What the route of the reserve answers, and how it is read from the edge's status row."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from ems.records import JsonValue


class ContingencyOut(BaseModel):
    """One loss that may come now [kW]; `held_kw` is null where no cap bounds what the grid may give."""

    name: str
    kind: str
    lost_kw: float | None
    held_kw: float | None
    short_kw: float | None
    required: bool  # the reserve policy asks for it: what is missing counts as reserve that is short
    verdict: Literal["covered", "short"]
    by: list[str]  # sources that cover it


class ReserveOut(BaseModel):
    """Reserve and N-1 as the edge last reported; null before it ever did, or by an edge of another version.

    No contingency is judged while the state of the bus is not known, or it is dead.
    """

    at: datetime | None
    required_kw: float | None
    held_kw: float | None
    short_kw: float | None
    contingencies: list[ContingencyOut] | None


_LIST = TypeAdapter(list[ContingencyOut])


def contingencies_of(fields: Mapping[str, JsonValue]) -> list[ContingencyOut] | None:
    """The losses in a status row of the edge; None: it tells none, or not in this form."""
    try:
        return _LIST.validate_python(fields.get("contingencies"))
    except ValidationError:
        return None
