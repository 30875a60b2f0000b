"""History of another historian: how its rows are read, and which points they are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo

from ems.dlms import Dlms
from ems.site import Connection

UA_COLUMNS = ("time", "tag", "value", "quality")  # of what an OPC UA server tells


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedPoint:
    """Which point a tag or a column is. value = found * scale + offset, in the point's unit."""

    point: str  # `<asset>.<name>`
    scale: float = 1.0  # unit: point's own per found; ratio
    offset: float = 0.0  # unit: the point's own; ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterProfile:
    """The load profile of a meter that speaks DLMS, and what of it is believed."""

    host: str
    port: int
    timeout_s: float
    dlms: Dlms  # its files relative to the mapping file
    profile: bytes  # (6,) OBIS code
    by: str  # range | entry
    status: bytes | None  # code of the column of the status; None: there is none
    bad: int  # bits of it that make a row bad
    skew_s_max: float  # of its clock against ours
    units: Mapping[str, str]  # of the points, by tag


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportMapping:
    """How rows of a file or of a query are read.

    In a long table each row is one value of the tag in the column `tag`; in a wide one (`tag` is None) each
    column that `points` names is one.
    """

    source: str  # name by which the rows are marked
    time: str  # column
    time_form: str  # iso | s | ms, or a form of strptime
    zone: tzinfo | None  # of times without one; None: each must have its own
    shift_s: float  # added to each time: that of a value is where its step begins
    tag: str | None
    value: str | None  # column of the values, of a long table
    quality: str | None  # column
    good: frozenset[str]  # what stands there of good values
    points: Mapping[str, ImportedPoint]  # by tag or column
    delimiter: str = ","
    decimal: str = "."
    query: str | None = None  # SQL that gives the rows
    server: Connection | None = field(default=None, repr=False)  # OPC UA: whose history it is
    meter: MeterProfile | None = field(default=None, repr=False)  # DLMS: whose load profile it is

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that must be there."""
        if self.tag is None or self.value is None:
            return (self.time, *self.points)
        return (self.time, self.tag, self.value, *(() if self.quality is None else (self.quality,)))
