"""What the edge remembers of authority: modes, leases, limits, inputs, requests. One frozen type each."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ems.control import ControlMode
from ems.requests import Answer, SetLimit, StandingLimit


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The mode somebody chose for the plant or a device; from `until_s` on that of `before` holds.

    `since_s` is when; None: before this edge knew what time it was, so when it began to look.
    """

    mode: ControlMode
    user: str
    until_s: float | None = None  # edge monotonic
    since_s: float | None = None  # edge monotonic; minus infinity: before a restart
    before: "Chosen | None" = None  # never one for a time; None: auto

    @property
    def lasting(self) -> "Chosen | None":
        """What holds when nobody is there any more: itself, or what was before a choice for a time."""
        return self if self.until_s is None else self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSeen:
    """A contact, selector or cap as it was last read well."""

    value: float  # unit of the point; ratio
    good_s: float  # edge monotonic
    changed_s: float  # edge monotonic, of the last change of the value


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One setpoint held by one owner until its own expiry; only a new request of the owner renews it."""

    point: str
    owner: str
    value: float  # unit of the point; ratio
    since_s: float  # edge monotonic
    until_s: float  # edge monotonic
    request_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Last valid value of a limit that others tell."""

    value_kw: float
    valid_s: float  # edge monotonic
    seq: int | None = None  # of the message; None: it had none


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A loosening that waits for its second person."""

    ask: SetLimit | str  # str: bypass of the interlock of this id
    user: str
    reason: str
    until_s: float  # edge monotonic
    for_s: float | None  # how long it shall hold; None: until changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Loosened:
    """A limit or an interlock that does not count for a time, by break-glass or as a bypass."""

    value: float | None  # unit of the subject; None: no limit
    user: str
    second: str | None  # who confirmed; None: glass was broken
    reason: str
    until_s: float  # edge monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A discrete action that was selected and not yet operated."""

    point: str
    value: float  # unit of the point; ratio
    user: str
    session: str
    state: str  # hash of what the action depends on
    until_s: float  # edge monotonic


@dataclass(frozen=True, kw_only=True)
class AuthorityMemory:
    """Everything authority carries from one tick to the next."""

    plant: Chosen
    devices: Mapping[str, Chosen] = field(default_factory=dict)  # only those that differ from auto
    modes: Mapping[str, ControlMode] = field(default_factory=dict)  # of each device in the last cycle
    stopped: bool = False  # latched by the emergency stop
    standing_lost: bool = False  # what was kept over the restart cannot be read, and nobody has chosen a mode
    inputs: Mapping[str, InputSeen] = field(default_factory=dict)
    first_s: float | None = None  # when the edge began to look
    withheld: Mapping[str, str] = field(default_factory=dict)  # asset -> why nothing is written there
    leases: Mapping[tuple[str, str], Lease] = field(default_factory=dict)  # by (point, owner)
    asked_until_s: Mapping[str, float] = field(default_factory=dict)  # of the last lease of each setpoint
    limits: Mapping[str, StandingLimit] = field(default_factory=dict)
    told: Mapping[str, Told] = field(default_factory=dict)
    pending: Mapping[str, Pending] = field(default_factory=dict)  # by token
    loosened: Mapping[str, Loosened] = field(default_factory=dict)  # by subject, or "interlock.<id>"
    selections: Mapping[str, Selection] = field(default_factory=dict)  # by token
    setters: Mapping[str, str] = field(default_factory=dict)  # who set each setpoint in the last cycle
    transfers: Mapping[str, float] = field(default_factory=dict)  # point -> when who sets it changed
    tripped: Mapping[str, bool] = field(default_factory=dict)  # interlocks in the last cycle
    lost: Mapping[str, bool] = field(default_factory=dict)  # limits told by others, in the last cycle
    answered: Mapping[tuple[str, str], Answer] = field(default_factory=dict)  # by (user, request id)


def memory_of(start_mode: ControlMode) -> AuthorityMemory:
    """Memory of an edge that has never run."""
    return AuthorityMemory(plant=Chosen(mode=start_mode, user="site file"))
