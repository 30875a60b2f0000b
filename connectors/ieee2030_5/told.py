"""What a server of IEEE 2030.5 has told, as far as a plant asks for it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

TIME_S_MAX = 4_102_444_800  # 2100-01-01: later times are no times of a plant
DURATION_S_MAX = 2**32 - 1
RANDOM_S_MAX = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What the control base of an event or a default asks."""

    bounds_kw: Mapping[str, float] = field(default_factory=dict)  # by mode, of those that are told here
    unmet: tuple[str, ...] = ()  # what else it asks, which nobody here can do
    wrong: str = ""  # why it is not believed; "": it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A DERControl. Times are those of the server, in s since 1970 UTC."""

    mrid: str  # hexadecimal, capitals
    program: str  # href
    primacy: int  # of its program: the lowest goes first
    title: str
    created_s: int
    status: int  # 0 scheduled, 1 active, 2 cancelled, 3 cancelled with randomisation, 4 superseded
    start_s: int
    duration_s: int
    random_start_s: int  # at most so much later; negative: earlier
    random_duration_s: int  # at most so much longer; negative: shorter
    ask: Ask
    reply_to: str  # "": nobody wants an answer
    replies: int  # bits: 1 received, 2 what becomes of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A DERProgram with all that it tells now."""

    href: str
    title: str
    primacy: int
    default: Ask | None = None  # None: it has no default control
    controls: tuple[Control, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One whole answer: every program of ours, every control of each."""

    programs: tuple[Program, ...]
    ahead_s: float  # clock of the server less ours
