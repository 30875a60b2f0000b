"""What the edge remembers from one tick to the next. A tick takes one EdgeState and returns the next."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from dispatch.alarms.memory import AlarmMemory
from dispatch.authority.state import AuthorityMemory, memory_of
from dispatch.observing.deferrables import WorkSeen
from dispatch.observing.plausibility import BalanceSeen
from dispatch.protections.balancing_memory import BalancingMemory, ReactivePace
from dispatch.supervision.release_memory import ReleaseMemory
from dispatch.transitions.table import TransitionMemory
from dispatch.vocabulary import ControlMemory
from dispatch.writing.budget_memory import BudgetMemory
from dispatch.writing.contention_memory import ContentionMemory
from dispatch.writing.effect_memory import EffectMemory, ReactiveMemory
from ems.condition import BessUse, ContractMeters, FeederUse, GensetDuty, UnitState
from ems.control import ControlMode
from ems.plan import Plan
from ems.points import GensetState
from ems.site import GridMode
from ems.telemetry import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class GensetSeen:
    """One genset's history as the edge saw it."""

    state: GensetState | None = None  # last good reading
    state_since_s: float = 0.0  # edge monotonic
    on_load: bool = False
    on_load_since_s: float = -1e9  # time of the last change on/off load; long ago at start
    starts_today: int = 0
    doubted_since_s: float | None = None  # its state says off and its power says on load
    heard: bool = True  # its state is read now
    died: bool = False  # the bus was dead since it was heard last
    gone: bool = False  # so it is off, as far as others tell who carries the bus now

    @property
    def may_carry(self) -> bool:
        """On load by what it said last, and nothing speaks against it since."""
        return self.on_load and not self.gone


@dataclass(frozen=True, kw_only=True)
class ObserverMemory:
    """Memory behind the plant condition: mode confirmation, ages, demand counters, last good values."""

    mode: GridMode = GridMode.UNKNOWN
    mode_since_s: float = 0.0
    candidate: GridMode = GridMode.UNKNOWN
    candidate_since_s: float = 0.0
    mode_held: bool = False  # unknown after it was known
    gensets: Mapping[str, GensetSeen] = field(default_factory=dict)
    duty: Mapping[str, GensetDuty] = field(default_factory=dict)
    last_good: Mapping[str, float] = field(default_factory=dict)  # only for declared substitutions
    feeder_demand_kw: Mapping[str, float] = field(default_factory=dict)  # last load while closed
    turns_soc: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # open cycles of batteries
    bess_use: Mapping[str, BessUse] = field(default_factory=dict)
    day: date | None = None  # local
    peak_import_kw: float = 0.0
    charge_peaks_kw: Mapping[str, float] = field(default_factory=dict)  # of further demand charges; kW or kVA
    month_import_kwh: float = 0.0
    grid_losses: tuple[datetime, ...] = ()
    mains_good_since_s: float | None = None
    mains_unseen_since_s: float | None = None
    month_import_kvarh: float = 0.0
    interval_import_kwh: float = 0.0
    interval_import_kvarh: float = 0.0
    interval_elapsed_s: float = 0.0
    meters: ContractMeters = field(default_factory=ContractMeters)
    feeder_use: Mapping[str, FeederUse] = field(default_factory=dict)
    work: Mapping[str, WorkSeen] = field(default_factory=dict)  # of metered deferrable devices
    balance: BalanceSeen = field(default_factory=BalanceSeen)
    last_at: datetime | None = None
    last_s: float | None = None

    def passed_s(self, snapshot: Snapshot) -> float:
        """Time since the last tick that passed on both clocks [s]."""
        if self.last_at is None or self.last_s is None:
            return 0.0
        return max(0.0, min((snapshot.at - self.last_at).total_seconds(), snapshot.monotonic_s - self.last_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMemory:
    """What became of the plans the edge was offered."""

    accepted: Plan | None = None
    checked_id: str | None = None
    refusal: str | None = None  # why `checked_id` is not followed
    highest_seq: int = -1
    asked_s: float = -1e9  # when another plan was last asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class GensetRequest:
    """What the edge asks of one genset, and since when."""

    run: bool
    since_s: float
    late: bool = False  # it did not come on load in all its attempts, or was stopped by others: left alone
    overdue: bool = False  # still trying, but no longer waited for
    failures: int = 0  # starts that failed one after the other
    reset_why: str | None = None  # nothing is asked of it until an operator has looked
    starts_s: tuple[float, ...] = ()  # when it was asked to start, in the last hour


@dataclass(frozen=True, slots=True, kw_only=True)
class FeederShed:
    """A feeder the edge holds open."""

    since_s: float
    why: str
    protective: bool
    closing: bool = False  # asked to close again


@dataclass(frozen=True, slots=True, kw_only=True)
class PvTrip:
    """A PV plant whose breaker the edge has asked to open. Times are edge monotonic [s]."""

    since_s: float
    why: str
    times: int = 1  # shortly after one another
    well_since_s: float | None = None  # it is heard and obeys
    letting_in: bool = False  # the request is being withdrawn
    ended_s: float | None = None  # it was withdrawn

    @property
    def stands(self) -> bool:
        """Whether something is still asked of the breaker."""
        return self.ended_s is None


@dataclass(frozen=True, kw_only=True)
class ProtectionMemory:
    """Timers of the common protections [s, edge monotonic]; None while the cause is absent."""

    import_over_since_s: float | None = None
    reserve_short_since_s: float | None = None
    surplus_since_s: float | None = None
    surplus_stop: tuple[GridMode, float] | None = None  # when a set was last stopped for want of load
    black_since_s: float | None = None
    unbalance_since_s: float | None = None  # phases of gensets too far apart
    reverse_since_s: float | None = None  # a genset is driven backwards
    pv_trips: Mapping[str, PvTrip] = field(default_factory=dict)  # asked for, and those of the last hour
    pv_heeded_s: Mapping[str, float] = field(default_factory=dict)  # when plants last took a limit
    poi_kw: float | None = None  # expected at the POI by the last decisions, where its ramp is limited
    last_restore_s: float = -1e9
    room_for: str | None = None  # feeder for which sets beside a forming battery give more
    room_rest_s: float = -1e9  # none is made again before
    reactive: Mapping[str, ReactivePace] = field(default_factory=dict)  # by converter
    emergency_gensets: tuple[str, ...] = ()  # started by protection, kept until the rules or a plan take over


NEVER_S = -1e9  # when a setpoint that this edge has not written was written


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Last value sent to one setpoint."""

    value: float  # unit of the setpoint; ratio
    at_s: float
    known: bool  # False: outcome unknown or never written, the value is what was measured
    wanted: float | None = None  # unit of the setpoint; ratio; sent and not confirmed
    tries: int = 0  # so often, one after the other


@dataclass(frozen=True, kw_only=True)
class EdgeState:
    """Everything a tick depends on beside its inputs."""

    epoch: int
    seq: int = 0
    heartbeat: int = 0
    held_safe: bool = False  # a broken invariant or a person: only the safe table may be written
    started_s: float | None = None
    observer: ObserverMemory = field(default_factory=ObserverMemory)
    plans: PlanMemory = field(default_factory=PlanMemory)
    control: ControlMemory = field(default_factory=ControlMemory)
    balancing: BalancingMemory = field(default_factory=BalancingMemory)
    requests: Mapping[str, GensetRequest] = field(default_factory=dict)
    shed: Mapping[str, FeederShed] = field(default_factory=dict)
    protection: ProtectionMemory = field(default_factory=ProtectionMemory)
    written: Mapping[str, Written] = field(default_factory=dict)
    stood: Mapping[str, Written] = field(default_factory=dict)  # the same before the commands of this tick
    refused: Mapping[str, tuple[str, float]] = field(default_factory=dict)  # point -> (code, since)
    alarms: AlarmMemory = field(default_factory=AlarmMemory)
    release: ReleaseMemory = field(default_factory=ReleaseMemory)
    source: str | None = None
    source_since: datetime | None = None
    silent_since_s: Mapping[str, float] = field(default_factory=dict)  # assets that give no good reading
    substituted: Mapping[str, float] = field(default_factory=dict)  # points, when something last stood in
    transition: TransitionMemory = field(default_factory=TransitionMemory)
    authority: AuthorityMemory = field(default_factory=lambda: memory_of(ControlMode.AUTO))
    ready: frozenset[str] = frozenset()  # what has been seen whole since the start
    contention: ContentionMemory = field(default_factory=ContentionMemory)
    budget: BudgetMemory = field(default_factory=BudgetMemory)
    effect: EffectMemory = field(default_factory=EffectMemory)
    reactive_effect: ReactiveMemory = field(default_factory=ReactiveMemory)
    marks: Mapping[str, tuple[UnitState, ...]] = field(default_factory=dict)  # found out about units, by id
