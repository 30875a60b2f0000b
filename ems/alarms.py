"""Alarms as ISA-18.2 / IEC 62682 know them: states, priorities, what an operator may do, records.

An alarm asks an operator for a timely response; what needs none is an event.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

SHELVED_S_MAX = 8 * 3600.0  # a shift
SHELVED_URGENT_S_MAX = 3600.0  # of an alarm of high or critical priority


class Priority(StrEnum):
    """How soon an operator must respond, most urgent first."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Severity(StrEnum):
    """What happens if nobody responds."""

    SEVERE = "severe"  # people, plant, or the supply of the critical loads
    MAJOR = "major"  # supply of other loads, a contract, a source
    MINOR = "minor"  # money, comfort, information


class AlarmClass(StrEnum):
    """Alarms that are managed alike. Those of the safety class are never shelved or suppressed."""

    SAFETY = "safety"
    OPERATION = "operation"
    EQUIPMENT = "equipment"
    COMMUNICATION = "communication"
    DATA = "data"
    SECURITY = "security"
    MAINTENANCE = "maintenance"


class AlarmKind(StrEnum):
    """How a condition is judged."""

    STATE = "state"  # active while it is told
    HIGH = "high"  # active while its value is over its limit
    LOW = "low"  # active while its value is under its limit


class AlarmState(StrEnum):
    """The states of ISA-18.2-2016, figure 3, A to I."""

    NORMAL = "normal"
    UNACKNOWLEDGED = "unacknowledged"
    ACKNOWLEDGED = "acknowledged"
    RETURNED = "returned_unacknowledged"  # the condition is gone, nobody has acknowledged
    LATCHED_UNACKNOWLEDGED = "latched_unacknowledged"  # gone, to be acknowledged and reset
    LATCHED_ACKNOWLEDGED = "latched_acknowledged"  # gone, to be reset
    SHELVED = "shelved"
    SUPPRESSED = "suppressed_by_design"
    OUT_OF_SERVICE = "out_of_service"


LIVE = frozenset((AlarmState.UNACKNOWLEDGED, AlarmState.ACKNOWLEDGED))  # the condition holds
HIDDEN = frozenset((AlarmState.SHELVED, AlarmState.SUPPRESSED, AlarmState.OUT_OF_SERVICE))


class Act(StrEnum):
    """What a person may do to an alarm."""

    ACKNOWLEDGE = "acknowledge"
    RESET = "reset"  # of a latched alarm, after its condition is gone
    SHELVE = "shelve"
    UNSHELVE = "unshelve"
    REMOVE = "remove_from_service"
    RETURN = "return_to_service"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmAction:
    """An authenticated person's wish. `for_s` is how long to shelve [s]."""

    act: Act
    key: str
    who: str
    role: str  # operator | engineer
    why: str = ""
    for_s: float | None = None
    request: str = ""  # id of what was handed in; the event of its outcome carries it


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRequest:
    """An action as a person hands it in; who it was is told by whoever takes it in. `id`: done once."""

    id: str
    act: Act
    key: str
    why: str = ""
    for_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRow:
    """One row of the rationalisation table."""

    id: str
    tag: str  # what it hangs on: site, device, or a kind of asset
    kind: AlarmKind
    setpoint: str  # what the condition is compared with, in words
    unit: str  # of value, limit and deadband
    deadband: float  # how far it must come back
    on_delay_s: float
    off_delay_s: float
    alarm_class: AlarmClass
    severity: Severity
    consequence: str
    respond_s: float  # an operator has so long until the consequence
    priority: Priority
    response: str
    parents: tuple[str, ...]  # alarms that explain this one
    latching: bool
    test: str  # file::function
    owner: str
    revision: str

    @property
    def shelvable_s_max(self) -> float:
        """How long a person may shelve it [s]; 0: never."""
        if self.alarm_class is AlarmClass.SAFETY:
            return 0.0
        urgent = self.priority in (Priority.CRITICAL, Priority.HIGH)
        return SHELVED_URGENT_S_MAX if urgent else SHELVED_S_MAX


def priority_of(severity: Severity, respond_s: float) -> Priority:
    """Priority from consequence and time to respond [s].

    Source: the form of the matrix is that of IEC 62682:2022, 7 and EEMUA 191; the entries are this plant's.
    """
    column = 0 if respond_s <= 300.0 else 1 if respond_s <= 1800.0 else 2
    return {
        Severity.SEVERE: (Priority.CRITICAL, Priority.HIGH, Priority.MEDIUM),
        Severity.MAJOR: (Priority.HIGH, Priority.MEDIUM, Priority.LOW),
        Severity.MINOR: (Priority.MEDIUM, Priority.LOW, Priority.LOW),
    }[severity][column]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Who keeps an alarm out of sight, why, and until when; None: until it is taken back."""

    who: str
    why: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmEntry:
    """One alarm that is not at rest. `state` is what the condition and the operator made of it."""

    key: str  # code, or code.asset
    code: str
    asset: str | None
    state: AlarmState  # never one of HIDDEN
    priority: Priority
    text: str
    unit: str = ""  # of value and limit
    value: float | None = None
    limit: float | None = None
    level: int = 0
    raised_at: datetime | None = None
    since: datetime | None = None  # in the state that is shown
    acknowledged_by: str | None = None
    activations: int = 0  # how often the condition came since the alarm was raised: chattering shows here
    heard: bool = False  # it was shown as unacknowledged since it was raised
    shelf: Hold | None = None
    suppressed_by: str | None = None  # key of the alarm that explains it
    removed: Hold | None = None  # out of service

    @property
    def shown(self) -> AlarmState:
        """The state an operator sees."""
        if self.removed is not None:
            return AlarmState.OUT_OF_SERVICE
        if self.shelf is not None:
            return AlarmState.SHELVED
        if self.suppressed_by is not None:
            return AlarmState.SUPPRESSED
        return self.state


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmBook:
    """Every alarm that is not at rest: what operators see, and what a restart of the edge begins from."""

    at: datetime
    entries: tuple[AlarmEntry, ...]

    def standing(self) -> tuple[AlarmEntry, ...]:
        """The alarms of an operator's list: not normal and not hidden, most urgent first, then oldest."""
        order = list(Priority)
        seen = [e for e in self.entries if e.shown not in HIDDEN and e.shown is not AlarmState.NORMAL]
        return tuple(sorted(seen, key=lambda e: (order.index(e.priority), e.raised_at or self.at, e.key)))
