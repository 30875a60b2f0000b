"""A planning problem: site, condition and forecast as arrays on one time grid.

Bad input is refused or repaired by a declared rule (intake/); every repair is named in `notes`.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from ems.condition import FeederUse
from ems.site import Site
from ems.timegrid import BoolArray, FloatArray, TimeGrid


@dataclass(frozen=True, slots=True, kw_only=True)
class BessCare:
    """What is asked of a battery in this window beside its physics. Empty where nothing is."""

    reserve_kwh: FloatArray = field(default_factory=lambda: np.zeros(0))  # (T,) held at the end of a step
    reserve_per_kwh: FloatArray = field(default_factory=lambda: np.zeros(0))  # (T,) per kWh short and hour
    day_begins: BoolArray = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))  # (T,) new local day
    year_begins: BoolArray = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    day_used_kwh: float = 0.0  # discharged before the window in the day, and the year, it begins in
    year_used_kwh: float = 0.0
    pace_room_kwh: float = np.inf  # of the year's use at the end of the window, an even share
    full_due_h: float = np.inf  # when a full charge falls due, after the grid's start; below 0: overdue
    full_now: bool = False
    full_rest_h: float = 0.0  # what is left of a hold in progress; 0: there is none
    mean_room_soc: float = 1.0  # mean state of charge in the window that leaves the year's mean at its limit


@dataclass(frozen=True, slots=True, kw_only=True)
class BessStart:
    """Where a battery system starts."""

    available: bool
    stored_kwh: float
    p_charge_kw: FloatArray  # (T,) limits after live derating and reactive demand
    p_discharge_kw: FloatArray
    band_kwh: tuple[FloatArray, FloatArray] | None = (
        None  # (T,) least and most stored at the end of each step, hard, of a case posed so; a plan is free
    )
    inflow_kwh: FloatArray | None = None  # (T,) that comes by itself and is not spilt, of a case
    by_depth_kwh: tuple[float, ...] = ()  # the same energy by depth segment, where it wears by depth of cycle
    turns_soc: tuple[float, ...] = ()  # the open cycle behind it, to the present SoC
    care: BessCare = field(default_factory=BessCare)


@dataclass(frozen=True, slots=True, kw_only=True)
class GensetStart:
    """Where a genset starts."""

    available: bool
    on: bool
    age_h: float  # in the present state
    starting: bool
    ready_h: float  # earliest time on load, counted from the start of the grid
    fuel_l: float  # above the unusable bottom; infinite where the tank is not measured
    starts_today: int = 0  # counted only where the starts of a day are limited
    blocked: tuple[bool, ...] = ()  # (T,) steps in which it is not to run; (): none
    must: tuple[bool, ...] = ()  # (T,) steps in which a case wants it on; (): none
    quiet_cost: tuple[float, ...] = ()  # (T,) money for running through a step; (): none
    low_load_past_h: tuple[
        float, ...
    ] = ()  # (T,) at low load before now, in the window that ends with a step
    low_load_count_h: float = 0.0  # at low load since the last burn-off
    burning_h: float = 0.0  # of a burn-off until now
    output_kw: float = 0.0  # now
    mean_room_kwh: tuple[float, ...] = ()  # (T,) what the past leaves of a mean load; (): no limit
    year_run_h: float = 0.0
    idle_h: float = 0.0  # since the last exercise run
    balance_cost_per_h: float = 0.0  # for being ahead of its peers
    stop_cost: float = 0.0  # of each stop, of a case posed so
    delivered_l: tuple[float, ...] = ()  # (T,) brought since the start of the step before; (): none


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferrableStart:
    """Where a deferrable device starts, and its windows on the grid. (T,) each."""

    share: FloatArray  # of the step that lies in a window
    due_kwh: FloatArray  # work due by the end of the step, of all windows so far
    opened_kwh: FloatArray  # work of the windows opened by the end of the step
    opens: BoolArray  # a window opens in the step
    ends: BoolArray  # a window ends in the step, or with the grid
    done_kwh: float = 0.0  # work already done in the window that is open at the start
    on: bool = False
    age_h: float = 0.0
    starts: int = 0  # in that window


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractNumbers:
    """What the contract beside prices by the hour starts from; contracts and events in their order."""

    coincident_cost: FloatArray  # (T,) of a kW imported through a step
    take_steps: BoolArray  # (C, 2, T) steps in the periods that the window touches
    take_floor_kwh: FloatArray  # (C, 2) still to be taken by the end of the window
    event_steps: BoolArray  # (E, T) steps in an event
    event_h: FloatArray  # (E,) its hours until the end of the window, those gone included; 0: not in it
    event_room_kwh: FloatArray  # (E,) import of those hours at the baseline, less what was imported
    minimum_floor_cost: tuple[float, float]  # still to be spent in a month by the end of the window
    export_earned_cost: tuple[float, float]
    energy_spent_cost: tuple[float, float]

    def with_money(
        self, floor: tuple[float, float], earned: tuple[float, float], spent: tuple[float, float]
    ) -> "ContractNumbers":
        """The same with money of the months."""
        return replace(self, minimum_floor_cost=floor, export_earned_cost=earned, energy_spent_cost=spent)


def no_contracts(steps: int) -> ContractNumbers:
    """Of a tariff without any."""
    nothing = np.zeros((0, steps), dtype=np.bool_)
    return ContractNumbers(
        coincident_cost=np.zeros(steps), take_steps=np.zeros((0, 2, steps), dtype=np.bool_),
        take_floor_kwh=np.zeros((0, 2)), event_steps=nothing, event_h=np.zeros(0), event_room_kwh=np.zeros(0),
        minimum_floor_cost=(0.0, 0.0), export_earned_cost=(0.0, 0.0), energy_spent_cost=(0.0, 0.0),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandMonth:
    """One local month inside the window: what a demand charge starts from in it. kVA where it is apparent."""

    steps: BoolArray  # (T,) steps that lie in it and count
    base_kw: float  # peak so far, what is billed in any case, or the target, whichever is highest
    rate_per_kw: float  # what a kW above the base costs in this window


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningProblem:
    """Everything the model is fed with. Assets in the order of the site; T steps.

    `load_kw` (F, T), `pv_kw` (V, T) [kW]; prices (T,) [money per kWh]; `grid_available` (T,);
    `integral` (T,) steps in which commitment must be whole; `history_kwh` imported in the open billing
    interval before the grid starts; `terminal_per_kwh` (B, 3) value of the lower, middle and upper third of
    the battery at the end; `exclusive` (T,) steps in which energy may have no value, so that one direction of
    flow has to be enforced by binaries; `feeder_open` (F,) feeders that are shed now; `shed_whole` (T,) steps
    in which feeders are shed whole, by binaries; `demand_parts` the further demand charges of
    `tariff_parts.py`; `blocks_used_kwh` imported in each month outside the window, for the energy blocks;
    `poi_caps_kw` (T,) import and export caps by time, None: the site's throughout;
    `distrusted` (T,) steps in which mains that came back are not counted on yet, None: nowhere;
    `grid_p_kw` power measured at the POI now, None: not tied or not known;
    `kvarh_before` reactive energy of each month so far beyond what is free; `history_kvarh` that of the open
    billing interval;
    `v_source_pu` (T,) voltage of the mains behind their impedance, empty where reactive power is not planned;
    `apart`: identical gensets are not to be counted as a fleet, because their tanks are not one.
    """

    site: Site
    grid: TimeGrid
    at: datetime
    load_kw: FloatArray
    pv_kw: FloatArray
    import_per_kwh: FloatArray
    export_per_kwh: FloatArray
    grid_available: BoolArray
    integral: BoolArray
    bess: tuple[BessStart, ...]
    gensets: tuple[GensetStart, ...]
    months: tuple[DemandMonth, DemandMonth]
    history_kwh: float
    terminal_per_kwh: FloatArray
    exclusive: BoolArray
    feeder_open: BoolArray
    shed_whole: BoolArray
    notes: tuple[str, ...] = ()
    demand_parts: tuple[tuple[DemandMonth, DemandMonth], ...] = ()
    blocks_used_kwh: tuple[float, float] = (0.0, 0.0)
    running_extra_kw: tuple[float, ...] = ()  # (T,) capacity on above the load; (): as the ratio asks
    distrusted: BoolArray | None = None
    grid_p_kw: float | None = None
    poi_caps_kw: tuple[FloatArray, FloatArray] | None = None
    kvarh_before: tuple[float, float] = (0.0, 0.0)
    history_kvarh: float = 0.0
    v_source_pu: FloatArray = field(default_factory=lambda: np.ones(0))
    deferrables: tuple[DeferrableStart, ...] = ()
    apart: bool = False
    feeder_use: tuple[FeederUse, ...] = ()
    curtail_per_kwh: tuple[float, ...] = ()  # what a kWh of each PV plant that is not used costs; (): nothing
    contracts: ContractNumbers = field(default_factory=lambda: no_contracts(0))

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.grid)

    @property
    def step_h(self) -> FloatArray:
        """(T,) step lengths [h]."""
        return self.grid.step_h

    @property
    def islanded(self) -> BoolArray:
        """(T,) steps without a usable grid."""
        return np.logical_not(self.grid_available)

    @property
    def import_cap_kw(self) -> FloatArray:
        """(T,) import cap, 0 without a usable grid [kW]."""
        site_kw = self.site.grid.p_import_kw_max
        cap = site_kw if self.poi_caps_kw is None else np.minimum(self.poi_caps_kw[0], site_kw)
        return np.where(self.grid_available, cap, 0.0)

    @property
    def export_cap_kw(self) -> FloatArray:
        """(T,) export cap, a positive number, 0 without a usable grid [kW]."""
        site_kw = self.site.grid.p_export_kw_max
        cap = site_kw if self.poi_caps_kw is None else np.minimum(self.poi_caps_kw[1], site_kw)
        return np.where(self.grid_available, cap, 0.0)

    @property
    def bess_forms(self) -> bool:
        """Whether a battery can form an island."""
        pairs = zip(self.site.bess, self.bess, strict=True)
        return any(b.pcs.can_form and s.available and b.id in self.site.forming.islanded for b, s in pairs)
