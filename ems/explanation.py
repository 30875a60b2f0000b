"""Why a plan is as it is: reasons, costs of the next-best choices, worth of limits, limits in conflict.

Every statement here was found by changing one thing and solving again; what is stated is what was changed and
what it did to the cost. Costs and savings are money over the plan's horizon, powers have the project's sign.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ReasonCode(StrEnum):
    """The first reason of a setpoint."""

    LIMIT = "limit"  # with another limit another setpoint would be cheaper
    PRICE = "price"  # so it would be with another price
    OUTAGE = "outage"  # without the outage, announced or assumed
    RESERVE = "reserve"  # without the reserve that has to be held
    STORED_ENERGY = "stored_energy"  # with another value of what is left in the end
    COST = "cost"  # no single limit or price shown; other setpoints cost more
    INDIFFERENT = "indifferent"  # another setpoint costs the same
    BALANCE = "balance"  # what the others leave; nothing was found to change it
    IMPOSSIBLE = "impossible"  # every other choice breaks a hard limit
    UNAVAILABLE = "unavailable"  # there is nothing to decide: no sun, no load, no unit
    COMMITMENT = "commitment"  # the genset is off, the feeder is switched whole: see there
    UNDECIDED = "undecided"  # another choice may cost more or less: the interval holds zero
    GAP = "gap"  # a better one exists with the same commitment: the plan was accepted within its gap


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A limit or price whose change makes another setpoint better."""

    code: ReasonCode
    key: str  # of the site file, or of the forecast: gensets.gen1.p_min_kw, forecast.import_per_kwh
    change: str  # what was changed, in words and numbers
    saving_cost: float  # what leaving the setpoint would then save; proven
    at_least: bool = False  # it may save more than that
    leaving: str = ""  # what leaving it means, of a commitment: leaving it off, running some of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another setpoint, everything else free to follow with the same commitment."""

    p_kw: float
    more_cost: float | None  # above the plan; None: breaks a hard limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What the energy of a battery is for: where a kWh less is missed, with no more charged elsewhere.

    Proven: with every other power as planned, `asset` alone in [start, end) makes up for it at this cost, and
    no plan with the same commitment does it for less.
    """

    asset: str  # "" : nobody, the battery holds less at the end of the horizon
    start: datetime
    end: datetime
    outage: bool  # the mains are away in these steps
    per_kwh: float | None  # price of import in these steps, where there is one
    more_cost: float  # what the kWh that is lacking costs


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """The numbers that make an outage or a peak the reason of a run.

    `high` is what is needed, `low` what is there, in `unit`. kind `power`: at `at` the load takes `high`
    kW and the batteries (and other gensets) give `low` kW; `energy`: in [start, end) it takes `high` kWh, the
    batteries hold `low` kWh at its beginning; `peak`: the import reaches at least `high` kW in a billing
    interval without the run, and `low` kW in the plan; `reserve`: at least `high` kWh of it are not covered
    without the run, and `low` kWh in the plan.
    """

    kind: str
    key: str  # of the reason
    start: datetime | None
    end: datetime | None
    at: datetime | None
    critical: bool  # the load is that of the critical tiers alone
    unit: str  # kW, kWh
    high: float
    low: float
    unserved_kwh: float | None  # load that at least is not served without the run


@dataclass(frozen=True, slots=True, kw_only=True)
class SetpointWhy:
    """Why one power in one step."""

    asset: str
    quantity: str  # p_kw of a source, shed_kw of a feeder, deferrable_kw of a device (positive is demand)
    step: int
    start: datetime
    end: datetime
    p_kw: float
    code: ReasonCode
    sentence: str
    reasons: tuple[Reason, ...]
    alternatives: tuple[Alternative, ...]
    power_worth_per_kwh: float | None  # what one kWh less demand in this step would save
    stored_worth_per_kwh: float | None  # batteries: what one kWh more stored at its end would save
    use: Use | None = None  # batteries: what the energy stored at its end is for


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentWhy:
    """Why a genset is on load or off, or a feeder shed (`on`), over a run of steps; the next-best commitment.

    The cheapest plan without this run (on) or with any running in it (off) costs between `low_cost` and
    `high_cost` more; None: there is none, or not found in time.
    """

    asset: str
    on: bool
    first: int
    last: int
    start: datetime
    end: datetime
    code: ReasonCode
    sentence: str
    reasons: tuple[Reason, ...]
    low_cost: float | None
    high_cost: float | None
    need: Need | None = None  # of a run on load, where an outage, a peak or reserve is a reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What one unit more of a limit would save, commitment unchanged. `step` None: over the whole window."""

    key: str
    unit: str  # kW, kWh, L
    step: int | None
    saving_cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Limits that cannot all be kept: while these stand, something is missed, whatever else is lifted."""

    missed: str  # what the plan misses, in words and numbers
    keys: tuple[str, ...]
    sentence: str
    minimal: bool  # lifting any one of them was shown to be enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All of it for one plan."""

    plan_id: str
    until: datetime  # setpoints are explained up to here
    setpoints: tuple[SetpointWhy, ...]
    commitments: tuple[CommitmentWhy, ...]
    worths: tuple[Worth, ...]
    conflicts: tuple[Conflict, ...]
    notes: tuple[str, ...]
    solves: int
    took_s: float
