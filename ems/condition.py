"""What the edge knows of the plant, condensed: the state a plan starts from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from ems.deferrable import DeferrableCondition
from ems.site import GridMode
from ems.telemetry import UtcState, calendar_of


class UnitState(StrEnum):
    """What is known to be the matter with a unit. Several may hold at once; none: nothing is."""

    OFFLINE = "offline"  # no good reading of it at all
    UNREADABLE = "unreadable"  # it answers, but not what its setpoints depend on
    OFF = "off"  # switched off, or waiting to come back by itself
    TRIPPED = "tripped"  # by its own protection; comes back by itself or by a person at the unit
    LOCKED_OUT = "locked_out"  # its controller starts it only after a person's reset
    START_FAILED = "start_failed"  # did not follow its last request; asked again later
    RESET_NEEDED = "reset_needed"  # the edge asks nothing of it until an operator has looked
    MAINTENANCE = "maintenance"  # somebody works on it, as planned
    FROZEN = "frozen"  # its readings no longer change although they should
    SUSPECT = "suspect"  # its readings contradict others
    NOT_EFFECTIVE = "not_effective"  # it takes setpoints and does not follow them
    DERATED = "derated"  # gives less than its rating; still used, inside its live limits

    @property
    def blocks(self) -> bool:
        """Whether a unit in this state is not counted on and not commanded."""
        return self not in (UnitState.DERATED, UnitState.SUSPECT)


class Prime(StrEnum):
    """What kind of source forms the bus: the others follow it."""

    GRID = "grid"
    BATTERY = "battery"
    GENSET = "genset"
    NONE = "none"  # the bus is dead, or nobody says that he forms it


def usable(states: tuple[UnitState, ...]) -> bool:
    """Whether a unit with all these states may be used."""
    return not any(s.blocks for s in states)


@dataclass(frozen=True, slots=True, kw_only=True)
class GensetHour:
    """What a genset did in one hour of the clock."""

    start: datetime
    low_load_h: float = 0.0
    run_h: float = 0.0
    counted_kwh: float = 0.0  # given while running, less than 30 % of the rating taken as 30 %


@dataclass(frozen=True, slots=True, kw_only=True)
class GensetDuty:
    """What a genset has been through, counted as far as limits of the site ask for it."""

    hours: tuple[GensetHour, ...] = ()  # the last ones in which it did something, ascending
    low_load_h: float = 0.0  # at low load since the last burn-off
    burning_h: float = 0.0  # on end at the load of a burn-off until now
    year: int = 0  # the local year that `year_run_h` is of
    year_run_h: float = 0.0
    run_h: float = 0.0  # in all; from the set's own counter where it has one
    exercising_h: float = 0.0  # on end at the load of an exercise run until now
    exercised_at: datetime | None = None  # when the last such run was long enough; None: never seen


@dataclass(frozen=True, slots=True, kw_only=True)
class GensetPast:
    """What the edge has asked of a genset, as far as it has to outlive a restart of the edge."""

    starts: tuple[datetime, ...] = ()  # asked for in the last hour, record time
    failures: int = 0  # starts that failed one after the other
    reset_why: str | None = None  # nothing is asked of it until an operator has looked


@dataclass(frozen=True, kw_only=True)
class GensetCondition:
    """One genset as the edge sees it."""

    available: bool  # none of its states blocks
    on_load: bool  # as it says; of one that is not heard, as it last said: it may still be
    starting: bool  # requested or in its start sequence
    ready_in_s: float  # estimated time until on load while starting, else 0
    age_s: float  # time in the present on-load or off-load state
    p_kw: float
    fuel_l: float | None
    starts_today: int
    duty: GensetDuty = GensetDuty()
    states: tuple[UnitState, ...] = ()
    past: GensetPast = GensetPast()
    heard: bool = True  # its state is read now
    p_kw_max: float | None = None  # what its controller lets it give now; None: it tells no limit

    @property
    def carries(self) -> bool:
        """On load and heard: one that is silent counts for nothing that others rely on."""
        return self.on_load and self.heard


@dataclass(frozen=True, slots=True, kw_only=True)
class BessUse:
    """What a battery has been through, counted as far as limits of the site ask for it."""

    day_kwh: float = 0.0  # discharged at the AC terminals in the local day so far
    year_kwh: float = 0.0  # and in the local calendar year
    year_h: float = 0.0  # watched in the year
    year_soc_h: float = 0.0  # state of charge over those hours, added up
    full_age_h: float | None = None  # since the last full charge was held long enough; None: not known
    full_h: float = 0.0  # full on end until now


@dataclass(frozen=True, kw_only=True)
class BessCondition:
    """One battery system as the edge sees it."""

    available: bool  # none of its states blocks
    soc: float
    p_kw: float
    p_charge_kw_max: float  # live limit
    p_discharge_kw_max: float
    turns_soc: tuple[float, ...] = ()  # turning points of the open cycle (plant_models.rainflow); (): unknown
    use: BessUse = BessUse()
    temp_degc: float | None = None  # of the cells, or of the air around them; None: not measured
    states: tuple[UnitState, ...] = ()
    soc_high: float | None = None  # readings contradict: it may be as high, `soc` is the lowest; ratio
    soc_counted: float | None = None  # then, or where none is readable: as the edge counts it; ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractMeters:
    """What a contract remembers beside peaks and energy of the month; only what the tariff asks for."""

    month: str = ""  # local, of the money below; "": nothing counted
    energy_cost: float = 0.0  # of import, at the prices of its hours
    export_revenue: float = 0.0  # of export, at its prices, before limits of a credit
    metered_kwh: Mapping[str, float] = field(default_factory=dict)  # by the names of ems.contracts


@dataclass(frozen=True, slots=True, kw_only=True)
class FeederUse:
    """How much a feeder was without supply, its breaker open, in the present local day."""

    sheds: int = 0  # openings
    open_s: float = 0.0
    stretch_s: float = 0.0  # open now, since when


@dataclass(frozen=True, kw_only=True)
class PlantCondition:
    """Everything the planner needs that only the edge knows. Built every tick from good readings only."""

    at: datetime
    grid_mode: GridMode
    forming: str | None
    bess: Mapping[str, BessCondition]
    gensets: Mapping[str, GensetCondition]
    pv_kw: Mapping[str, float]
    feeder_kw: Mapping[str, float]  # measured; 0 while open
    feeder_closed: Mapping[str, bool]
    grid_p_kw: float | None
    peak_import_kw: float  # highest billing interval of the local month so far
    interval_import_kwh: float  # imported in the open billing interval
    interval_elapsed_s: float
    charge_peaks_kw: Mapping[str, float] = field(default_factory=dict)  # the same by further demand charge
    month_import_kwh: float = 0.0  # imported in the local month so far
    month_import_kvarh: float = 0.0  # reactive energy drawn from the grid in it
    interval_import_kvarh: float = 0.0  # the same in the open billing interval
    grid_q_kvar: float | None = None  # drawn at the POI; None: not measured
    grid_v_pu: float | None = None  # at the POI; None: not measured
    import_cap_kw: float | None = None  # told to the plant now, a positive number; None: nothing was
    export_cap_kw: float | None = None
    deferrables: Mapping[str, DeferrableCondition] = field(default_factory=dict)  # those that are metered
    grid_losses: tuple[datetime, ...] = ()  # when the mains were lost, in the last two days
    mains_good_s: float = 0.0  # for how long they have been in their quality band without a break
    meters: ContractMeters = field(default_factory=ContractMeters)
    feeder_use: Mapping[str, FeederUse] = field(default_factory=dict)  # of those with limits on shedding
    mains_good: bool = False  # mains in their quality band while the POI breaker is still open
    utc: UtcState = UtcState.VALID
    prime: Prime = Prime.NONE
    following: tuple[str, ...] = ()  # what feeds the bus beside what forms it
    pv_states: Mapping[str, tuple[UnitState, ...]] = field(default_factory=dict)
    peak_targets_kw: Mapping[str, float] = field(default_factory=dict)  # by demand charge, of the last plan
    relied_at: datetime | None = None  # record time when it could last be relied on; None: never

    @property
    def calendar(self) -> datetime | None:
        """What time it is, for all that is done by the clock; None: nobody knows."""
        return calendar_of(self.at, self.utc)
