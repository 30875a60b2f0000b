"""Nameplate data of every asset: the same numbers feed the physics, the MILP and the edge."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from ems.battery_terms import FullCharge, RestingSoc, SocLimit, SocReserve, TemperatureLimit, Warranty
from ems.capability import PqCapability
from ems.cycle_life import CycleLife
from ems.loss_curve import LossCurve
from ems.phases import EVEN, PhaseParams
from ems.poi import CapWindow, FlappingPolicy, Supervision, TransformerParams, TransitionPolicy
from ems.reactive import ReactiveControl, VoltageRule
from ems.sources import StrengthPolicy


class Sharing(StrEnum):
    """How a genset takes load when it runs beside another source."""

    PROPORTIONAL = "proportional"
    BASE_LOAD = "base_load"


class OnSilence(StrEnum):
    """What a device does by itself when its controller falls silent for longer than its time-out."""

    HOLD = "hold"  # keeps the last setpoint for ever
    VALUE = "value"  # goes to a stated value
    FULL = "full"  # drops the limit: 100 %
    STOP = "stop"  # stops


@dataclass(frozen=True, slots=True, kw_only=True)
class BatteryParams:
    """A battery behind its PCS, seen from the AC terminals.

    Charging with p > 0 [kW AC] stores `eta_charge * p - loss_charge_pu * p**2 / p_nominal_kw`;
    discharging p draws `p / eta_discharge + loss_discharge_pu * p**2 / p_nominal_kw`. A direction with a loss
    curve loses what that says instead; its `eta` is then the best of the curve, which is what a kWh is valued
    by, and its `loss_pu` 0, whatever is given.
    `no_load_loss_kw` is drawn from the stored energy while the PCS is on, `aux_kw` from the AC bus always.
    Above `soc_taper_high` the charge limit falls linearly to `taper_ratio` of nominal at `soc_max`;
    below `soc_taper_low` the discharge limit falls likewise towards `soc_min`.
    """

    energy_kwh: float
    soc_min: float
    soc_max: float
    p_charge_kw_max: float
    p_discharge_kw_max: float
    eta_charge: float
    eta_discharge: float
    loss_charge_pu: float
    loss_discharge_pu: float
    no_load_loss_kw: float
    aux_kw: float
    self_discharge_per_h: float
    soc_taper_low: float
    soc_taper_high: float
    taper_ratio: float
    wear_per_kwh: float  # money per kWh discharged
    wear_charge_per_kwh: float = 0.0  # money per kWh charged, where throughput is priced each way
    cycle_life: CycleLife | None = None  # wear by depth of cycle, beside the prices per kWh
    soc_reserve: tuple[SocReserve, ...] = ()  # held back for outages
    resting: RestingSoc | None = None
    warranty: Warranty | None = None
    full_charge: FullCharge | None = None  # for calibration
    power_by_soc: tuple[SocLimit, ...] = ()  # ascending, concave both ways; beside the tapers
    derating: tuple[TemperatureLimit, ...] = ()  # ascending temperatures; straight between them
    charge_curve: LossCurve | None = None  # in the place of eta_charge and loss_charge_pu
    discharge_curve: LossCurve | None = None

    def __post_init__(self) -> None:
        if self.charge_curve is not None:
            eta = self.charge_curve.eta_best(self.no_load_loss_kw, charge=True)
            object.__setattr__(self, "eta_charge", eta)
            object.__setattr__(self, "loss_charge_pu", 0.0)
        if self.discharge_curve is not None:
            eta = self.discharge_curve.eta_best(self.no_load_loss_kw, charge=False)
            object.__setattr__(self, "eta_discharge", eta)
            object.__setattr__(self, "loss_discharge_pu", 0.0)

    @property
    def p_nominal_kw(self) -> float:
        """Power base of the quadratic losses [kW]."""
        return max(self.p_charge_kw_max, self.p_discharge_kw_max)


@dataclass(frozen=True, slots=True, kw_only=True)
class PcsParams:
    """The converter: its apparent-power circle or polygon, and whether it can form an island."""

    s_kva: float
    can_form: bool
    overload_ratio: float  # short-time apparent power over rating that the forming source survives
    overload_s: float
    restart_s: float  # time from trip to ready
    reactive: ReactiveControl | None = None  # None: it has no reactive setpoint
    phases: PhaseParams | None = None  # None: its phases are not read
    capability: PqCapability | None = None  # None: the whole circle of s_kva
    surge_kva: float | None = None  # while it forms, for some cycles; None: overload_ratio of its rating

    @property
    def surge_or_overload_kva(self) -> float:
        """What it stands for some cycles while it forms [kVA]."""
        return self.overload_ratio * self.s_kva if self.surge_kva is None else self.surge_kva


@dataclass(frozen=True, slots=True, kw_only=True)
class DroopParams:
    """Power that a grid-following unit gives or takes back by itself, by frequency.

    The default is what any such unit may do, and so what is held against none: the smallest dead band and the
    steepest slope of IEEE Std 1547-2018, table 24, category III.
    """

    dead_band_hz: float = 0.017
    droop_ratio: float = 0.02  # change of frequency over the nominal one that moves it by its whole rating


@dataclass(frozen=True, slots=True, kw_only=True)
class BessParams:
    """One battery system: battery and PCS, one device on the wire."""

    id: str
    battery: BatteryParams
    pcs: PcsParams


class StartsFor(StrEnum):
    """What rules and protections may start a genset for in its quiet hours."""

    ANYTHING = "anything"
    CRITICAL_LOAD = "critical_load"  # load of the critical tiers that nobody else could carry
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietHours:
    """Local hours of each day in which running costs extra, from `start_h` to `end_h`, also over midnight."""

    start_h: float  # local hour of day, 0 to 24
    end_h: float
    cost_per_h: float  # money per running hour, in the plan only
    starts_for: StartsFor = StartsFor.CRITICAL_LOAD  # without a plan

    def holds(self, local: datetime) -> bool:
        """Whether a local time lies in these hours."""
        hour = local.hour + local.minute / 60.0 + local.second / 3600.0
        if self.start_h <= self.end_h:
            return self.start_h <= hour < self.end_h
        return hour >= self.start_h or hour < self.end_h


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnOff:
    """After so many hours at low load a genset is to run for a while at high load."""

    after_h: float  # hours at low load since the last burn-off
    for_h: float  # on end
    above_ratio: float  # of the rating


DRIVEN_RATIO = 0.15  # of the rating: what a diesel engine takes when the bus drives it (5 to 25 % by maker)
START_MARGIN_S = 30.0  # on the time a start takes when nothing fails
ISO_FLOOR_RATIO = 0.3  # ISO 8528-1: less load counts as this share of the rating
ISO_MEAN_H = 24.0  # hours of operation over which a mean load is taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """What a rating allows (ISO 8528-1)."""

    mean_ratio_max: float | None = None  # mean load over 24 h of operation, of the rating; None: free
    year_h_max: float | None = None  # running hours in a calendar year; None: free


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercise:
    """A run that a genset makes if it has had none like it for so long."""

    every_h: float
    for_h: float  # on end
    load_ratio: float  # at least at this share of the rating
    start_h: float | None = None  # rules begin one in these local hours alone, also over midnight; None: any
    end_h: float | None = None

    def holds(self, local: datetime) -> bool:
        """Whether rules may begin a run at a local time."""
        if self.start_h is None or self.end_h is None:
            return True
        return QuietHours(start_h=self.start_h, end_h=self.end_h, cost_per_h=0.0).holds(local)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReversePower:
    """The set's own reverse-power relay (32R): it opens the breaker and locks the set out."""

    p_kw: float  # driven backwards by more than this, a positive number
    delay_s: float  # for so long


@dataclass(frozen=True, slots=True, kw_only=True)
class LowLoad:
    """What running below a part of the rating costs, and how long it may last (wet stacking)."""

    below_ratio: float  # of the rating
    price_per_kwh: float = 0.0  # of each kWh below that, in the plan only
    budget_h: float | None = None  # hours at low load in any `window_h`; None: free
    window_h: float = 24.0
    burn_off: BurnOff | None = None

    @property
    def counted(self) -> bool:
        """Whether the hours at low load have to be counted."""
        return self.budget_h is not None or self.burn_off is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartType:
    """What a start costs after a rest of at most so long."""

    rest_h: float  # inf: any longer one
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GensetParams:
    """A diesel genset with its own controller (cranks, synchronises and shares load by itself)."""

    id: str
    p_rated_kw: float
    p_min_kw: float
    s_kva: float
    fuel_kw: tuple[float, ...]  # breakpoints of electrical output [kW], ascending; the first may be 0
    fuel_l_h: tuple[float, ...]  # fuel at those breakpoints [L/h]
    start_cost: float  # money per start (wear, crank fuel), from hot where cold_start_cost is given
    running_cost_per_h: float  # money per running hour
    min_up_s: float
    min_down_s: float
    crank_s: float
    warm_up_s: float
    synchronise_s: float
    cool_down_s: float
    ramp_kw_s: float
    step_load_kw_max: float
    overload_ratio: float  # short-time load over rating before it trips
    sharing: Sharing
    start_attempts: int
    mains_failure_start: bool
    mains_failure_delay_s: float
    tank_l: float
    cold_start_cost: float | None = None  # money per start from cold; None: as from hot
    cold_after_s: float = 0.0  # a rest longer than this ends in a cold start
    starts_per_day_max: int | None = None  # planned in any 24 h, today's starts counted; None: free
    quiet: tuple[QuietHours, ...] = ()
    low_load: LowLoad | None = None
    reverse_power: ReversePower | None = None  # None: not known; the engine is then never driven
    rating: Rating | None = None
    exercise: Exercise | None = None
    balance_per_h: float | None = None  # money for each 100 h ahead of its peers; None: no part in it
    start_timeout_s: float | None = None  # then the next set is asked; None: start_delay_s and 30 s
    starts_per_h_max: int | None = None  # but for critical load, and for people; None: free
    tank_unusable_l: float = 0.0  # stays in the tank: the engine stops there
    start_types: tuple[StartType, ...] = ()  # in place of hot and cold, dearer from one to the next
    ramp_down_kw_s: float | None = None  # None: as upwards
    start_up_kw: float | None = None  # highest output in the first step of a run; None: the rating
    shut_down_kw: float | None = None  # in the last
    phases: PhaseParams | None = None  # None: its phases are not read
    surge_kva: float | None = None  # for some cycles, its voltage dipping as loads bear it; None: s_kva

    @property
    def surge_or_rated_kva(self) -> float:
        """What its alternator stands for some cycles [kVA]."""
        return self.s_kva if self.surge_kva is None else self.surge_kva

    @property
    def ramp_down_or_up_kw_s(self) -> float:
        """Ramp downwards [kW/s]."""
        return self.ramp_kw_s if self.ramp_down_kw_s is None else self.ramp_down_kw_s

    @property
    def start_up_or_rated_kw(self) -> float:
        """Highest output in the first step of a run [kW]."""
        return self.p_rated_kw if self.start_up_kw is None else self.start_up_kw

    @property
    def shut_down_or_rated_kw(self) -> float:
        """Highest output in the last step of a run [kW]."""
        return self.p_rated_kw if self.shut_down_kw is None else self.shut_down_kw

    def start_cost_after(self, rest_h: float) -> float:
        """Cost of a start after so long a rest [money]."""
        if self.start_types:
            last = self.start_types[-1].cost
            return next((x.cost for x in self.start_types if rest_h <= x.rest_h + 1e-6), last)
        cold = self.cold_start_cost is not None and rest_h > self.cold_after_s / 3600.0 + 1e-6
        return self.cold_start_cost if cold and self.cold_start_cost is not None else self.start_cost

    @property
    def tank_usable_l(self) -> float:
        """What of a full tank can be burnt [L]."""
        return self.tank_l - self.tank_unusable_l

    @property
    def overdue_s(self) -> float:
        """From request until the set is no longer waited for [s]."""
        own_s = self.start_timeout_s
        return self.start_delay_s + START_MARGIN_S if own_s is None else own_s

    @property
    def start_delay_s(self) -> float:
        """From request to on load when nothing fails [s]."""
        return self.crank_s + self.warm_up_s + self.synchronise_s


@dataclass(frozen=True, slots=True, kw_only=True)
class PvParams:
    """A PV plant of one or more inverters behind one limit setpoint."""

    id: str
    p_dc_kwp: float
    p_ac_kw: float
    gamma_per_degc: float  # power coefficient of temperature, negative, per degC
    noct_degc: float
    system_loss_ratio: float
    tilt_deg: float
    azimuth_deg: float
    reconnect_s: float
    s_kva: float | None = None  # rating of the inverters for reactive power; None: they give none
    reactive: ReactiveControl | None = None  # None: it has no reactive setpoint
    capability: PqCapability | None = None  # None: the whole circle of s_kva


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactivePolicy:
    """Reactive power is planned, so that the voltage at the POI stays inside a band."""

    v_poi_min_pu: float
    v_poi_max_pu: float
    v_source_pu: float = 1.0  # without load at the POI, where it is not measured
    pcs_sides: int = 16  # of the polygon inside each circle of apparent power that has none of its own


POI_BIAS_RATIO = 0.02  # of the POI's rating


@dataclass(frozen=True, slots=True, kw_only=True)
class GridParams:
    """The point of interconnection (POI): contracted limits, source impedance, quality band."""

    id: str
    p_import_kw_max: float
    p_export_kw_max: float
    v_nominal_v: float
    r_ohm: float
    x_ohm: float
    v_min_pu: float  # below: present but unusable
    v_max_pu: float
    transfer_s: float  # from loss of mains to island formed, when the forming source is ready
    reconnect_dwell_s: float  # mains must be good for so long before reconnection
    transformer: TransformerParams | None = None
    ramp_kw_s: float | None = None  # fastest change of power at the POI the contract allows
    flapping: FlappingPolicy | None = None
    strength: StrengthPolicy | None = None
    caps: tuple[CapWindow, ...] = ()  # lower caps at their times
    reactive: ReactivePolicy | None = None  # None: reactive power is not planned
    bias_kw: float | None = None  # kept from both caps; None: 2 % of the rating, or the meter's error
    meter_error_kw: float = 0.0  # of the meter at the POI
    load_guaranteed_kw: float = 0.0  # there is never less load; counted on when the meter is lost
    balance_tolerance_ratio: float = (
        0.05  # of what flows, or the POI's rating if more: powers add up within it
    )
    supervision: Supervision = field(default_factory=Supervision)
    transitions: TransitionPolicy = field(default_factory=TransitionPolicy)
    voltage: VoltageRule | None = None  # None: no power gives way to it
    phases: PhaseParams | None = None  # None: the meter tells the sum of all phases

    @property
    def poi_bias_kw(self) -> float:
        """Distance kept from both caps [kW]."""
        if self.bias_kw is not None:
            return self.bias_kw
        return max(POI_BIAS_RATIO * max(self.p_import_kw_max, self.p_export_kw_max), self.meter_error_kw)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeederParams:
    """A load feeder. Tier 1 is the most critical; a feeder without breaker cannot be shed."""

    id: str
    tier: int
    has_breaker: bool
    voll_per_kwh: float  # value of lost load, money per kWh
    p_peak_kw: float
    power_factor_ratio: float
    restore_dwell_s: float
    pickup_ratio: float = 1.2  # of its last load: what it takes when it comes back, all its loads at once
    inrush_kva: float = 0.0  # of transformers and motors, for some cycles when it is switched on; 0: not told
    shed_min_s: float = 900.0  # a planned shedding lasts at least so long
    served_min_s: float = 1800.0  # and is followed by at least so long on supply
    sheds_per_day_max: int | None = None  # planned in any 24 h, today's counted; None: free
    shed_per_day_s_max: float | None = None  # the same for the time it is open
    shed_stretch_s_max: float | None = None  # the longest planned shedding
    phase_share: tuple[float, float, float] = EVEN  # of its load, in simulations


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceBehaviour:
    """What a device does when nobody has written to it for `timeout_s`."""

    timeout_s: float
    on_silence: OnSilence
    value: float | None = None  # unit: dimensionless or the setpoint's own unit; only with OnSilence.VALUE
    timeout_point: str | None = None  # where the device tells what it is set to
    value_point: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActuatorSafety:
    """The safe value of one setpoint in each grid mode; None means: hold, do not write."""

    grid_tied: float | None
    islanded: float | None
    black: float | None
    behaviour: DeviceBehaviour = field(
        default_factory=lambda: DeviceBehaviour(timeout_s=15.0, on_silence=OnSilence.HOLD)
    )
