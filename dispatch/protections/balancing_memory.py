"""What real-time balancing remembers from one tick to the next."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dispatch.observing.phases import Phases
from ems.commands import Cause


@dataclass(frozen=True, slots=True)
class Sample:
    """Powers as they were read in one cycle, and as they were asked for [kW]."""

    at_s: float
    reference_kw: float
    own_kw: Mapping[str, float]
    asked_kw: Mapping[str, float]  # limits of PV as they are, however little there is to limit
    ceiling_kw: Mapping[str, float]  # what PV could give
    closed: frozenset[str]  # feeders


@dataclass(frozen=True, slots=True)
class Shift:
    """Age of one source's reading against the reference's, as learnt from its moves."""

    cycle_s: float  # the cycle `left_kw2` belongs to
    left_kw2: tuple[float, ...]  # jumps of the load that each candidate leaves, squared and added up
    moved_kw2: float  # the source's own moves, squared and added up
    older_s: float | None = None  # positive: the reference is older; None: not known yet


@dataclass(frozen=True, slots=True, kw_only=True)
class NetDemandMemory:
    """What the estimate needs from the cycles before."""

    reference: str | None = None  # asset
    samples: tuple[Sample, ...] = ()  # newest last
    shifts: Mapping[tuple[str, str], Shift] = field(default_factory=dict)  # by (reference, asset)
    load_kw: float | None = None  # the last estimate

    def older_s(self, asset: str) -> float | None:
        """How much older the reference's reading is than the asset's [s]; None: not known."""
        shift = self.shifts.get((self.reference or "", asset))
        return None if shift is None else shift.older_s


@dataclass(frozen=True, slots=True, kw_only=True)
class SocWatch:
    """One battery's charge as the edge counts it, beside what its BMS tells."""

    counted_soc: float
    told_soc: float  # last good reading
    moved_soc: float = 0.0  # counted since the reading last changed, signed
    apart_s: float = 0.0  # how long both have been too far apart
    close_s: float = 0.0  # how long they have agreed again
    suspect: bool = False
    frozen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FuelWatch:
    """One tank as the edge counts it, beside what its sensor tells."""

    counted_l: float
    told_l: float  # last reading that can be one
    wrong: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PoiCaps:
    """What holds at the POI now, positive numbers [kW]."""

    import_kw: float
    export_kw: float
    owed_import_kw: float = 0.0  # less import than the cap, for what was too much just now
    owed_export_kw: float = 0.0  # less export


@dataclass(frozen=True, slots=True, kw_only=True)
class PoiMemory:
    """The last half minute at the POI."""

    over: tuple[tuple[float, float, float], ...] = ()  # (time s, import and export over their caps kW)


@dataclass(frozen=True, slots=True)
class MeterMove:
    """What sources gave at a look [kW]: less the feeders' load as far as it is read, and the edge's own."""

    at_s: float
    gave_kw: float
    ours_kw: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterDoubt:
    """A move that the meter at the POI has not answered yet."""

    was: MeterMove  # before it
    until_s: float  # edge monotonic: without an answer until then the meter is lost
    load_kw: float | None = None  # held meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterLoss:
    """The meter as it stood when it was lost, and how often it has changed since."""

    reading_kw: float
    gave_kw: float | None  # by the sources then; None: there was an island since
    changes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterWatch:
    """The meter at the POI beside what the sources were measured to do. Times are edge monotonic."""

    reading_kw: float | None = None
    since_s: float = 0.0  # it reads this
    step_kw: float | None = None  # smallest change ever seen
    shown: tuple[tuple[float, float], ...] = ()  # its changes until then, of some seconds (time s, size kW)
    units: frozenset[str] = frozenset()  # that `moves` are the sums of
    moves: tuple[MeterMove, ...] = ()  # since the reading last changed, newest last
    doubt: MeterDoubt | None = None
    loss: MeterLoss | None = None  # None: the meter is believed
    lost_s: float | None = None  # when it last was
    times: int = 0  # ... and how often shortly after one another


@dataclass(frozen=True, slots=True, kw_only=True)
class VoltageMemory:
    """The open period, and what the rule has taken away so far; None: nothing."""

    since_s: float | None = None
    v_pu: float = 0.0  # means of the period until now
    export_kw: float = 0.0
    charge_kw: float = 0.0
    passed_s: float = 0.0
    export_kw_max: float | None = None
    charge_kw_max: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactivePace:
    """The setpoint of one converter as it was chosen, and what has been measured since."""

    q_kvar: float  # what is wished for; the parameter is as near to it as it can be
    value: float  # of the converter's own point, in its unit
    why: str
    cause: Cause
    chosen_s: float
    mean_kw: float = 0.0
    passed_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancingMemory:
    """All of it."""

    net_demand: NetDemandMemory = field(default_factory=NetDemandMemory)
    soc: Mapping[str, SocWatch] = field(default_factory=dict)  # by battery
    fuel: Mapping[str, FuelWatch] = field(default_factory=dict)  # by genset
    poi: PoiMemory = field(default_factory=PoiMemory)
    meter: MeterWatch = field(default_factory=MeterWatch)
    phases: Mapping[str, Phases] = field(default_factory=dict)  # by asset, as last known
    voltage: VoltageMemory = field(default_factory=VoltageMemory)
    full: frozenset[str] = frozenset()  # batteries that came to full and have not been used since
    pv_unsure_s: Mapping[str, float] = field(default_factory=dict)  # since when writes have no known outcome
    pv_told_kw: Mapping[str, float] = field(default_factory=dict)  # highest limit that plants may stand at
    pv_ceiling_kw: Mapping[str, float] = field(default_factory=dict)  # plants that wait or are let in
