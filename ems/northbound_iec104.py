"""A controlled station of IEC 60870-5-104 that shows the plant: what is where, and what may be told."""

from dataclasses import dataclass, field

from ems.iec104 import Iec104Times
from ems.northbound import Door, WriteRights


@dataclass(frozen=True, slots=True, kw_only=True)
class Iec104Row:
    """The information object of one name."""

    point: str  # a point of the plant, `limit.ID`, `answer.ID`, `cap.KIND_kw`, `ems.WHAT`, or `server.WHAT`
    address: int  # of the information object
    kind: str = "float"  # scaled | normalized | single | double | counter
    scale: float = 1.0  # value = raw × scale + offset; unit: that of the name
    offset: float = 0.0  # unit: that of the name; ratio
    deadband: float = 0.0  # a change of less is not told by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Iec104Command:
    """The set-point command by which one limit is told."""

    limit: str
    address: int
    kind: str = "float"  # scaled | normalized
    scale_kw: float = 1.0  # value = raw × scale_kw
    select: bool = False  # it must be selected before it is executed


@dataclass(frozen=True, slots=True, kw_only=True)
class Iec104Server:
    """One controlled station of a site."""

    id: str
    door: Door
    station: int  # common address
    rows: tuple[Iec104Row, ...] = ()  # none: the automatic list
    commands: tuple[Iec104Command, ...] = ()  # none: an automatic one for each limit of `writes`
    times: Iec104Times = field(default_factory=Iec104Times)
    local_time: bool = False  # time tags of the plant's clock, with summer time; else UTC
    time_tags: bool = True  # changes are told with their time
    events_max: int = 10_000  # changes that are kept for clients that are away
    writes: WriteRights | None = None  # None: read-only
