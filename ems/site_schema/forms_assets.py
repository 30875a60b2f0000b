"""Forms of what stands in a plant: the POI, batteries, gensets, PV, feeders."""

from typing import Annotated, Literal

from pydantic import Field

from ems.assets import Sharing, StartsFor
from ems.site_schema.forms_base import EVERY_DAY, Day, Form, Id
from ems.site_schema.quantity import (
    Eta,
    Kva,
    Kw,
    Kwh,
    KwPositive,
    LocalHour,
    Money,
    MoneyPerKwh,
    Quantity,
    Ratio,
    Seconds,
    SecondsPositive,
    Soc,
    Stamp,
)

PQ_CORNERS = "of the P-Q capability, convex, in order around; positive into the bus"


class ReactiveForm(Form):
    """Reactive power planned for the voltage at the POI."""

    v_poi_min_pu: Annotated[float, Quantity("", gt=0.5, lt=1.2)]
    v_poi_max_pu: Annotated[float, Quantity("", gt=0.8, lt=1.5)]
    v_source_pu: Annotated[float, Quantity("", gt=0.5, lt=1.5)] = 1.0
    pcs_sides: Annotated[int, Field(ge=8, le=64)] = 16


class CapForm(Form):
    """Lower caps of the interconnection, in local hours or once."""

    from_h: LocalHour | None = Field(default=None, alias="from")
    to_h: LocalHour | None = Field(default=None, alias="to")
    days: list[Day] = Field(default=EVERY_DAY, min_length=1)
    months: list[Annotated[int, Field(ge=1, le=12)]] = Field(default=list(range(1, 13)), min_length=1)
    start: Stamp | None = None
    end: Stamp | None = None
    p_import_kw_max: Kw | None = None
    p_export_kw_max: Kw | None = None


class TransformerForm(Form):
    """The transformer at the interconnection."""

    s_kva: Kva
    overload_per_kvah: Annotated[float, Quantity("CUR/kVAh", gt=0)] | None = None


class FlappingForm(Form):
    """How long mains that came back are not counted on."""

    window_h: Annotated[float, Quantity("h", gt=0, le=48)]
    growth_ratio: Annotated[float, Quantity("", ge=1, le=10)] = 2.0
    dwell_s_max: SecondsPositive


class StrengthForm(Form):
    """Short-circuit ratio that grid-following inverters need."""

    scr_ratio_min: Annotated[float, Quantity("", ge=1, le=20)]
    genset_ratio: Annotated[float, Quantity("", gt=0, le=20)] = 6.0
    forming_ratio: Annotated[float, Quantity("", ge=0, le=5)] = 1.0
    s_grid_kva: Kva | None = None


class SupervisionForm(Form):
    """How the mains are judged, and how long each grid mode is seen before it is believed."""

    f_min_hz: Annotated[float, Quantity("Hz", ge=40, le=70)] | None = None
    f_max_hz: Annotated[float, Quantity("Hz", ge=40, le=70)] | None = None
    confirm_islanded_s: Annotated[float, Quantity("s", ge=0, le=1)] = 0.0
    confirm_black_s: Annotated[float, Quantity("s", ge=0, le=5)] = 0.0
    confirm_tied_s: Annotated[float, Quantity("s", ge=0, le=60)] = 2.0
    confirm_unknown_s: Annotated[float, Quantity("s", ge=0, le=2)] = 1.5
    unknown_hold_s: Annotated[float, Quantity("s", ge=0, le=900)] = 60.0
    settled_s: Annotated[float, Quantity("s", ge=0, le=300)] = 10.0
    start_confirm_s: Annotated[float, Quantity("s", ge=0, le=60)] = 3.0


class TransitionsForm(Form):
    """How the plant goes from one grid mode to another."""

    balanced_ratio: Annotated[float, Quantity("", gt=0, le=0.2)] = 0.02
    balanced_s: Annotated[float, Quantity("s", ge=1, le=300)] = 10.0
    planned_s_max: Annotated[float, Quantity("s", ge=10, le=3600)] = 60.0
    open_s_max: Annotated[float, Quantity("s", ge=1, le=120)] = 10.0
    close_s_max: Annotated[float, Quantity("s", ge=5, le=3600)] = 120.0
    stable_s: Annotated[float, Quantity("s", ge=0, le=300)] = 10.0
    island_before_s: Annotated[float, Quantity("s", gt=0, le=86400)] | None = None


class ReactiveAtPowerForm(Form):
    """A corner of reactive over active power."""

    p_kw: Annotated[float, Quantity("kW")]
    q_kvar: Annotated[float, Quantity("kvar")]


class ReactiveAtVoltageForm(Form):
    """A corner of reactive power over voltage."""

    v_pu: Annotated[float, Quantity("", gt=0.5, lt=1.5)]
    q_kvar: Annotated[float, Quantity("kvar")]


class VoltVarCurveForm(Form):
    """A curve stored in the converter."""

    index: Annotated[int, Field(ge=0, le=65535)]
    corners: list[ReactiveAtVoltageForm] = Field(min_length=1, description="ascending in v_pu")


class ReactiveControlForm(Form):
    """Where a converter's reactive setpoint comes from, and which of three it takes."""

    every_s: Annotated[float, Quantity("s", ge=60, le=86400)] = 60.0
    follow_plan: bool = True
    by_power: list[ReactiveAtPowerForm] = Field(default=[], description="ascending in p_kw")
    takes: Literal["kvar", "power_factor", "curve"] = "kvar"
    pf_min: Annotated[float, Quantity("", ge=0.5, le=1)] = 0.9
    curves: list[VoltVarCurveForm] = []


class VoltageRuleForm(Form):
    """What active power gives way to a voltage outside its band."""

    low_pu: Annotated[float, Quantity("", gt=0.5, lt=1)]
    high_pu: Annotated[float, Quantity("", gt=1, lt=1.5)]
    every_s: Annotated[float, Quantity("s", ge=60, le=3600)] = 60.0
    step_kw: KwPositive
    back_pu: Annotated[float, Quantity("", gt=0, lt=0.2)]


class PoiPhasesForm(Form):
    """How the phases are held at the point of interconnection."""

    caps: Literal["worst_phase", "total"] = "worst_phase"
    margin_kw: Kw | None = None
    i_a_max: Annotated[float, Quantity("A", gt=0)] | None = None


class PcsPhasesForm(Form):
    """How the phases of a converter are held."""

    margin_kw: Kw | None = None


class GensetPhasesForm(Form):
    """How the phases of a genset are held."""

    margin_kw: Kw | None = None
    unbalance_ratio_max: Annotated[float, Quantity("", gt=0, le=1)] | None = None


class GridForm(Form):
    """The point of interconnection."""

    id: Id
    p_import_kw_max: Kw
    p_export_kw_max: Kw
    v_nominal_v: Annotated[float, Quantity("V", gt=0)]
    r_ohm: Annotated[float, Quantity("ohm", ge=0)]
    x_ohm: Annotated[float, Quantity("ohm", ge=0)]
    v_min_pu: Annotated[float, Quantity("", gt=0.5, lt=1)]
    v_max_pu: Annotated[float, Quantity("", gt=1, lt=1.5)]
    transfer_s: Seconds
    reconnect_dwell_s: Seconds
    transformer: TransformerForm | None = None
    ramp_kw_s: Annotated[float, Quantity("kW/s", gt=0)] | None = None
    flapping: FlappingForm | None = None
    strength: StrengthForm | None = None
    caps: list[CapForm] = []
    reactive: ReactiveForm | None = None
    bias_kw: Kw | None = None
    meter_error_kw: Kw = 0.0
    load_guaranteed_kw: Kw = 0.0
    balance_tolerance_ratio: Annotated[float, Quantity("", ge=0.005, le=0.5)] = 0.05
    supervision: SupervisionForm = SupervisionForm()
    transitions: TransitionsForm = TransitionsForm()
    phases: PoiPhasesForm | None = None
    voltage: VoltageRuleForm | None = None


class CycleLifePointForm(Form):
    """Cycles to the end of life at one depth."""

    depth_ratio: Annotated[float, Quantity("", gt=0, le=1)]
    cycles: Annotated[float, Quantity("", ge=1, le=1e9)]


class CycleLifeForm(Form):
    """Wear by depth of cycle, from the cells' data sheet."""

    replacement_cost: Money
    cycles_to_end_of_life: list[CycleLifePointForm] = Field(min_length=1, description="ascending depths")


class SocReserveForm(Form):
    """State of charge held back for outages, always or in local hours."""

    soc: Soc
    from_h: LocalHour | None = Field(default=None, alias="from")
    to_h: LocalHour | None = Field(default=None, alias="to")
    days: list[Day] = Field(default=EVERY_DAY, min_length=1)
    months: list[Annotated[int, Field(ge=1, le=12)]] = Field(default=list(range(1, 13)), min_length=1)
    price_per_kwh: Annotated[float, Quantity("CUR/kWh", gt=0)] | None = None


class RestingForm(Form):
    """A price on resting at a high state of charge."""

    above_soc: Soc
    price_per_kwh: MoneyPerKwh


class WarrantyForm(Form):
    """What the warranty of a battery allows."""

    day_kwh_max: Kwh | None = None
    day_cycles_max: Annotated[float, Quantity("", gt=0, le=50)] | None = None
    year_kwh_max: Kwh | None = None
    year_cycles_max: Annotated[float, Quantity("", gt=0, le=10_000)] | None = None
    pace_per_kwh: MoneyPerKwh = 0.0
    charge_per_h_max: Annotated[float, Quantity("1/h", gt=0, le=20)] | None = None
    discharge_per_h_max: Annotated[float, Quantity("1/h", gt=0, le=20)] | None = None
    mean_soc_max: Annotated[float, Quantity("", gt=0, le=1)] | None = None


class FullChargeForm(Form):
    """A full charge at intervals."""

    interval_s: SecondsPositive
    hold_s: SecondsPositive
    late_cost_per_h: Annotated[float, Quantity("CUR/h", gt=0)]


class SocLimitForm(Form):
    """One row of a table of power over state of charge."""

    soc: Soc
    charge_ratio: Ratio
    discharge_ratio: Ratio


class EfficiencyForm(Form):
    """One point of efficiency at part load, one way."""

    p_kw: KwPositive
    eta_ratio: Eta


class DeratingForm(Form):
    """One row of a table of power over temperature."""

    temp_degc: Annotated[float, Quantity("degC", ge=-60, le=100)]
    charge_ratio: Ratio
    discharge_ratio: Ratio


class BatteryForm(Form):
    """The battery, seen from the AC terminals."""

    energy_kwh: Kwh
    soc_min: Soc
    soc_max: Soc
    p_charge_kw_max: KwPositive
    p_discharge_kw_max: KwPositive
    eta_charge: Eta | None = None
    eta_discharge: Eta | None = None
    loss_charge_pu: Ratio | None = None
    loss_discharge_pu: Ratio | None = None
    efficiency_charge: list[EfficiencyForm] = Field(default=[], description="ascending powers")
    efficiency_discharge: list[EfficiencyForm] = Field(default=[], description="ascending powers")
    no_load_loss_kw: Kw | None = None
    aux_kw: Kw
    self_discharge_per_h: Annotated[float, Quantity("1/h", ge=0, lt=0.01)]
    soc_taper_low: Soc
    soc_taper_high: Soc
    taper_ratio: Annotated[float, Quantity("", gt=0, le=1)]
    wear_per_kwh: MoneyPerKwh | None = None
    cycle_life: CycleLifeForm | None = None
    soc_reserve: list[SocReserveForm] = []
    resting: RestingForm | None = None
    warranty: WarrantyForm | None = None
    full_charge: FullChargeForm | None = None
    power_by_soc: list[SocLimitForm] = Field(default=[], description="ascending, concave")
    derating: list[DeratingForm] = Field(default=[], description="ascending temperatures")


class PcsForm(Form):
    """The converter."""

    s_kva: Kva
    can_form: bool
    overload_ratio: Annotated[float, Quantity("", ge=1, le=3)]
    overload_s: Seconds
    restart_s: Seconds
    surge_kva: Kva | None = Field(default=None, description="for some cycles, while it forms")
    phases: PcsPhasesForm | None = None
    reactive: ReactiveControlForm | None = None
    pq_corners: list[ReactiveAtPowerForm] | None = Field(default=None, description=PQ_CORNERS)


class BessForm(Form):
    """One battery system."""

    battery: BatteryForm
    pcs: PcsForm


class FuelPointForm(Form):
    """One point of the part-load fuel curve."""

    p_kw: Kw
    fuel_l_h: Annotated[float, Quantity("L/h", gt=0)]


class QuietHoursForm(Form):
    """Local hours of every day in which running costs extra."""

    start: LocalHour = Field(alias="from")
    end: LocalHour = Field(alias="to")
    cost_per_h: Annotated[float, Quantity("CUR/h", ge=0)]
    starts_for: StartsFor = Field(default=StartsFor.CRITICAL_LOAD, strict=False)


class BurnOffForm(Form):
    """High load that clears an engine after hours at low load."""

    after_h: Annotated[float, Quantity("h", gt=0, le=1000)]
    for_h: Annotated[float, Quantity("h", gt=0, le=24)]
    above_ratio: Annotated[float, Quantity("", gt=0, le=1)]


class LowLoadForm(Form):
    """Running below part of the rating: its price, its budget, what clears it."""

    below_ratio: Annotated[float, Quantity("", gt=0, lt=1)]
    price_per_kwh: MoneyPerKwh = 0.0
    budget_h: Annotated[float, Quantity("h", ge=0)] | None = None
    window_h: Annotated[float, Quantity("h", gt=0, le=168)] = 24.0
    burn_off: BurnOffForm | None = None


class ReversePowerForm(Form):
    """How the set's own reverse-power relay is set."""

    p_kw: KwPositive
    delay_s: Annotated[float, Quantity("s", ge=0.5, le=60)]


class RatingForm(Form):
    """What the rating allows (ISO 8528-1)."""

    kind: Literal["continuous", "prime", "limited_time", "standby"]
    mean_ratio_max: Annotated[float, Quantity("", gt=0.3, le=1)] | None = None
    year_h_max: Annotated[float, Quantity("h", gt=0, le=8784)] | None = None


class ExerciseForm(Form):
    """A run that a genset makes if it has had none like it for so long."""

    every_days: Annotated[float, Quantity("d", ge=1, le=366)]
    for_s: Annotated[float, Quantity("s", ge=300, le=86400)]
    load_ratio: Annotated[float, Quantity("", gt=0, le=1)]
    start: LocalHour | None = Field(default=None, alias="from")
    end: LocalHour | None = Field(default=None, alias="to")


class EngineDeratingForm(Form):
    """What height and heat take away from the rating."""

    above_m: Annotated[float, Quantity("m", ge=0, le=9000)]
    per_1000m_ratio: Annotated[float, Quantity("", ge=0, le=0.5)]
    above_degc: Annotated[float, Quantity("degC", ge=0, le=60)]
    per_10k_ratio: Annotated[float, Quantity("", ge=0, le=0.5)]
    ambient_degc: Annotated[float, Quantity("degC", ge=-50, le=70)]


class GensetForm(Form):
    """One diesel genset with its own controller."""

    p_rated_kw: KwPositive
    p_min_kw: Kw
    s_kva: Kva
    fuel_points: list[FuelPointForm] = Field(min_length=2, description="ascending, the last at p_rated_kw")
    start_cost: Money
    running_cost_per_h: Annotated[float, Quantity("CUR/h", ge=0)]
    min_up_s: Seconds
    min_down_s: Seconds
    crank_s: SecondsPositive
    warm_up_s: Seconds
    synchronise_s: Seconds
    cool_down_s: Seconds
    ramp_kw_s: Annotated[float, Quantity("kW/s", gt=0)]
    step_load_kw_max: KwPositive
    overload_ratio: Annotated[float, Quantity("", ge=1, le=1.5)]
    surge_kva: Kva | None = Field(default=None, description="for some cycles, its voltage dipping")
    sharing: Sharing = Field(strict=False)
    start_attempts: Annotated[int, Field(ge=1, le=10)]
    mains_failure_start: bool
    mains_failure_delay_s: Seconds
    tank_l: Annotated[float, Quantity("L", gt=0)]
    cold_start_cost: Money | None = None
    cold_after_s: Seconds = 0.0
    starts_per_day_max: Annotated[int, Field(ge=1, le=100)] | None = None
    starts_per_h_max: Annotated[int, Field(ge=1, le=60)] | None = None
    start_timeout_s: SecondsPositive | None = None
    quiet: list[QuietHoursForm] = []
    low_load: LowLoadForm | None = None
    reverse_power: ReversePowerForm | None = None
    rating: RatingForm | None = None
    exercise: ExerciseForm | None = None
    balance_per_h: Annotated[float, Quantity("CUR/h", gt=0)] | None = None
    derating: EngineDeratingForm | None = None
    tank_unusable_l: Annotated[float, Quantity("L", ge=0)] = 0.0
    phases: GensetPhasesForm | None = None


class PvForm(Form):
    """A PV plant behind one limit setpoint."""

    p_dc_kwp: Annotated[float, Quantity("kWp", gt=0)]
    p_ac_kw: KwPositive
    gamma_per_degc: Annotated[float, Quantity("1/degC", ge=-0.01, le=0)]
    noct_degc: Annotated[float, Quantity("degC", ge=30, le=70)]
    system_loss_ratio: Annotated[float, Quantity("", ge=0, lt=0.5)]
    tilt_deg: Annotated[float, Quantity("deg", ge=0, le=90)]
    azimuth_deg: Annotated[float, Quantity("deg", ge=0, lt=360)] = Field(
        description="clockwise from north: 180 faces south"
    )
    reconnect_s: Seconds
    s_kva: Kva | None = None
    reactive: ReactiveControlForm | None = None
    pq_corners: list[ReactiveAtPowerForm] | None = Field(default=None, description=PQ_CORNERS)


class FeederForm(Form):
    """A load feeder; tier 1 is shed last."""

    tier: Annotated[int, Field(ge=1, le=9)]
    has_breaker: bool
    voll_per_kwh: MoneyPerKwh
    p_peak_kw: KwPositive
    power_factor_ratio: Annotated[float, Quantity("", gt=0, le=1)]
    restore_dwell_s: Seconds
    pickup_ratio: Annotated[float, Quantity("", ge=1, le=5)] = Field(
        default=1.2, description="of its last load: what it takes when it comes back"
    )
    inrush_kva: Annotated[float, Quantity("kVA", ge=0)] = Field(
        default=0.0, description="for some cycles when it is switched on; 0: not told"
    )
    shed_min_s: Seconds = 900.0
    served_min_s: Seconds = 1800.0
    sheds_per_day_max: Annotated[int, Field(ge=1, le=100)] | None = None
    shed_per_day_s_max: SecondsPositive | None = None
    shed_stretch_s_max: SecondsPositive | None = None
    phase_share: list[Ratio] | None = Field(
        default=None, min_length=3, max_length=3, description="of its load on each phase, in simulations"
    )
