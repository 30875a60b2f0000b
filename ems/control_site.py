"""What a site file says of control: who is who, interlocks, the emergency stop, limits told by others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ems.control import ControlMode, Role


class LimitKind(StrEnum):
    """What a utility or a plant controller limits; each is a cap, a number of kW from zero."""

    IMPORT = "import"
    EXPORT = "export"
    PV = "pv"
    BESS_CHARGE = "bess_charge"
    BESS_DISCHARGE = "bess_discharge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """One step of a receiver with dry contacts: the cap that holds while it is closed."""

    point: str
    cap_kw: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UtilityLimit:
    """A cap told to the plant: by a point, by contacts, or by messages through the inbox.

    Nothing valid for `watchdog_s`: the tighter of `on_loss_kw` and the last value told holds.
    """

    id: str
    kind: LimitKind
    watchdog_s: float
    on_loss_kw: float | None
    point: str | None = None
    heartbeat: str | None = None  # a point that must change within `watchdog_s`
    contacts: tuple[Contact, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InterlockEffect:
    """What an interlock does to one setpoint: bounds in its unit; None: it may not be written at all."""

    point: str
    low: float | None  # unit of the setpoint; ratio
    high: float | None  # unit of the setpoint; ratio

    @property
    def blocks(self) -> bool:
        """No write at all."""
        return self.low is None or self.high is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interlock:
    """Tripped while `point` is below `low` or above `high`, and while it has no good reading."""

    id: str
    point: str
    low: float | None  # unit of the point; ratio; None: not tripped by low values
    high: float | None  # unit of the point; ratio; None: not tripped by high values
    effects: tuple[InterlockEffect, ...]
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlParams:
    """Control of a site. The defaults are those of a site file that says nothing of it."""

    start_mode: ControlMode = ControlMode.AUTO  # of the plant when the edge has never run here before
    users: Mapping[str, frozenset[Role]] = field(default_factory=dict)  # by name of the operating system
    setpoint_expiry_s: float = 4 * 3600.0
    transfer_ramp_s: float = 30.0  # in which a setpoint crosses its whole span after a change of who sets it
    emergency_stop: Mapping[str, float] = field(default_factory=dict)  # setpoint -> what the stop demands
    interlocks: tuple[Interlock, ...] = ()
    limits: tuple[UtilityLimit, ...] = ()
