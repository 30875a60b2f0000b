"""What the parts of the edge loop hand to each other; all of it frozen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from ems.alarms import AlarmAction, AlarmBook
from ems.commands import Bound, Cause, Command, Proposal, Refusal
from ems.condition import PlantCondition
from ems.control import ControlMode
from ems.outage import OutageNotice
from ems.plan import Plan
from ems.prices import DayPrices
from ems.reactive import ReactiveTakes
from ems.records import JsonValue
from ems.release import ReleaseWish
from ems.requests import Answer, Received, Standing
from ems.site import GridMode, Site
from ems.telemetry import Snapshot

EMPTY: Mapping[str, float] = MappingProxyType({})


class Source(StrEnum):
    """Rung of the ladder that decided this cycle, best first."""

    PLAN = "plan"
    LAST_PLAN = "last_plan"  # a valid plan, but its planner is late or dead, or it is a shifted one
    RULES = "rules"
    HOLD_SAFE = "hold_safe"  # grid mode unknown, or held safe after a broken invariant
    RELEASED = "released"  # every device by itself: no writes, no heartbeat


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderStatus:
    """The rung that decides, since when, and why it is this one and no better."""

    rung: Source
    since: datetime
    reason: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a controller or a protection wants one setpoint to be, with one true sentence why."""

    value: float  # unit of the setpoint; ratio
    cause: Cause
    reason: str


Wanted = Mapping[str, Target]


# Fields of Targets for the reactive parameter of a converter, and its point.
REACTIVE = (
    ("q_kvar", ReactiveTakes.KVAR),
    ("power_factor", ReactiveTakes.POWER_FACTOR),
    ("volt_var", ReactiveTakes.CURVE),
)


@dataclass(frozen=True, kw_only=True)
class PvWish:
    """What PV is let give beside the grid, as a controller wants it: what measured load and batteries take.

    A wish of its cause: it narrows what the protections leave, binds no person, and loosens nothing.
    """

    export_kw: float  # at the POI, at most; negative: import that is meant
    bess_kw: Mapping[str, float]  # what each battery gives beside it, charging negative; its live limits hold
    cause: Cause
    reason: str
    not_ours: frozenset[str] = frozenset()  # plants in other hands: they give what they give


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Wishes per asset id. A setpoint nobody names is left alone (its device keeps or times out).

    Units: kW and kvar for powers, 1 run / 0 stop for gensets, 1 close / 0 open for feeders, 1 open for
    the breakers of PV plants.
    """

    source: Source
    plan_id: str | None = None
    bess_p_kw: Wanted = field(default_factory=dict)
    genset_run: Wanted = field(default_factory=dict)
    genset_p_kw: Wanted = field(default_factory=dict)
    pv_limit_kw: Wanted = field(default_factory=dict)
    pv_wish: PvWish | None = None  # what becomes of it is in `pv_limit_kw`
    pv_trip: Wanted = field(default_factory=dict)
    feeder_close: Wanted = field(default_factory=dict)
    q_kvar: Wanted = field(default_factory=dict)  # of converters, given into the bus
    power_factor: Wanted = field(default_factory=dict)  # of converters that take one instead
    volt_var: Wanted = field(default_factory=dict)  # index of a curve, of those that take that


@dataclass(frozen=True, kw_only=True)
class PowerBalance:
    """Sums of one snapshot [kW]; `net_kw` is what grid, gensets and batteries must cover together."""

    load_kw: float
    pv_kw: float
    genset_kw: float
    bess_kw: float
    grid_kw: float
    measured: bool  # False: at least one term was substituted

    @property
    def net_kw(self) -> float:
        """Load less PV [kW]."""
        return self.load_kw - self.pv_kw


@dataclass(frozen=True, kw_only=True)
class PeakTargets:
    """Demand peaks that the last plan followed reckoned with, for the billing month it was made in."""

    month: str = ""  # local, "2026-03"; "": no plan was followed yet
    plan_id: str | None = None  # None: known from before this start
    by_charge_kw: Mapping[str, float] = field(default_factory=dict)  # by name of the demand charge


@dataclass(frozen=True, kw_only=True)
class ControlMemory:
    """What controllers remember between ticks."""

    recharging: frozenset[str] = frozenset()  # BESS that went below their floor and must reach T1 first
    gensets_wanted: tuple[str, ...] = ()  # gensets the rules want on load
    wanted_since_s: float = 0.0  # edge monotonic
    low_load_since_s: float | None = None
    high_load_since_s: float | None = None
    takes_none_since_s: float | None = None  # batteries below the stop threshold that take no more charge
    peaks: PeakTargets = field(default_factory=PeakTargets)  # that the last plan followed reckoned with


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything a controller may look at. `dt_s` is how long its decisions will stand [s]."""

    site: Site
    now: datetime | None  # for all that is done by the clock; None: nobody knows what time it is
    monotonic_s: float
    dt_s: float
    condition: PlantCondition
    power: PowerBalance
    outages: tuple[OutageNotice, ...]  # announced by now, not cancelled; without `now` those that may be near
    plan: Plan | None  # checked, valid, made for this grid mode, forming source and these units
    step: int  # of the plan to follow now
    memory: ControlMemory
    planner_alive: bool = True
    prices: DayPrices | None = None  # of today, as known now; None: the tariff alone


class Controller(Protocol):
    """Something that decides what should be done. Pure: same context, same answer."""

    @property
    def name(self) -> str:
        """For records and tables."""
        ...

    def decide(self, context: Context) -> tuple[Targets, ControlMemory]:
        """Wishes for this cycle, before the protections common to all controllers."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Contingency:
    """One loss that may come, and whether what stays on line covers it [kW]."""

    name: str  # asset, or what happens
    kind: str  # genset, silence, bess, pv, pv_drop, motor_start, load_trip
    lost_kw: float
    held_kw: float  # by the others, at once
    short_kw: float
    required: bool  # the reserve policy asks for it
    by: tuple[str, ...]  # sources that cover it

    @property
    def covered(self) -> bool:
        """Nothing is missing."""
        return self.short_kw <= 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveStatus:
    """Upward reserve now: what policy asks for, what is held, what is missing [kW]."""

    required_kw: float
    held_kw: float
    short_kw: float
    energy_kwh: float  # stored energy behind it, above the lowest SoC
    contingencies: tuple[Contingency, ...] = ()  # each loss that may come, required or not

    @property
    def worst(self) -> Contingency | None:
        """The required contingency that is shortest; None: none is short."""
        short = [c for c in self.contingencies if c.required and not c.covered]
        return max(short, key=lambda c: c.short_kw, default=None)

    @property
    def covered(self) -> bool:
        """Nothing is missing."""
        return self.short_kw <= 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in this cycle, `domain.object.kind`."""

    kind: str
    fields: Mapping[str, JsonValue]


def event(kind: str, **fields: JsonValue) -> Event:
    """An event `domain.object.kind` with its fields."""
    return Event(kind=kind, fields=fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A condition of the rationalisation table that is told in this cycle.

    `code` is a row of `ems/alarm_table.csv`; its asset stands apart. A row of kind high or low is judged by
    `value` and `limit` with the row's deadband: such a condition may be told while it does not hold.
    """

    code: str
    text: str
    asset: str | None = None
    value: float | None = None  # unit of the row; ratio
    limit: float | None = None  # unit of the row; ratio
    level: int = 0  # a higher one asks again for an acknowledgement

    @property
    def key(self) -> str:
        """`code`, or `code.asset`."""
        return self.code if self.asset is None else f"{self.code}.{self.asset}"


@dataclass(frozen=True, kw_only=True)
class TickInput:
    """What the shell hands to one tick beside its state."""

    snapshot: Snapshot
    plan: Plan | None
    outages: tuple[OutageNotice, ...]  # every version; the tick keeps what was issued by now
    dt_s: float
    planner_alive: bool = True
    proposals: tuple[Proposal, ...] = ()  # operators' wishes, already authenticated
    alarm_actions: tuple[AlarmAction, ...] = ()  # the same for alarms
    release: ReleaseWish | None = None  # stands until it is taken back
    overrun: bool = False  # the grid of cycles was not kept before this tick
    received: tuple[Received, ...] = ()  # requests of people and services, with who sent them
    found: tuple[Alarm, ...] = ()  # invariants that did not hold in the cycle before (supervision)
    strangers: Mapping[str, str] = field(default_factory=dict)  # connection -> why its device is another one
    untouched: frozenset[str] = frozenset()  # assets that nobody has agreed to being written
    prices: DayPrices | None = None  # of today, as told by inputs; None: the tariff alone
    announced: tuple[OutageNotice, ...] = ()  # told by inputs: a reserve is kept for them, no breaker listens


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """Outcome of one tick. The shell sends `commands`, each once, and nothing else."""

    at: datetime
    commands: tuple[Command, ...]
    refusals: tuple[Refusal, ...]
    would_write: tuple[Command, ...]  # shadow mode: what would have been sent
    condition: PlantCondition
    mode: GridMode
    source: Source
    ladder: LadderStatus
    controller: str
    plan_id: str | None  # the plan that was followed, None when rules decided
    plan_refused: str | None  # why the newest plan is not followed
    replan_requested: bool
    targets: Targets  # after protections
    power: PowerBalance
    reserve: ReserveStatus
    events: tuple[Event, ...]
    alarms: tuple[Alarm, ...]  # conditions told in this cycle, before delays and suppression
    alarm_book: AlarmBook  # the alarms that come of them, as operators see them
    heartbeat: int  # completed safe cycles, 0..65535
    transition: str = "steady"  # step between grid modes (dispatch.transitions.table)
    plant_control: ControlMode = ControlMode.AUTO  # mode of control of the plant
    control: Mapping[str, ControlMode] = field(default_factory=dict)  # and of each device
    answers: tuple[Answer, ...] = ()  # to the requests of this cycle
    standing: Standing | None = None  # what must outlive a restart of the edge
    bounds: Mapping[str, Sequence[Bound]] = field(default_factory=dict)  # of the protections, by point
    balance_watch: str = ""  # whether it is watched that the powers add up; why not
    substituted: tuple[str, ...] = ()  # points without a good value, for which something else stands in

    @property
    def reserve_required_kw(self) -> float:
        """Upward reserve the policy asks for [kW]."""
        return self.reserve.required_kw

    @property
    def reserve_held_kw(self) -> float:
        """Upward reserve that is there [kW]."""
        return self.reserve.held_kw

    @property
    def reserve_short_kw(self) -> float:
        """Upward reserve that is missing [kW]."""
        return self.reserve.short_kw
