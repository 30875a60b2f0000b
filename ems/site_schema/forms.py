"""What a site file looks like: one pydantic form per section. Meaning is checked elsewhere.

Keys are the field names of the dataclasses they become, so that a key fixes unit and sign.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ems.assets import OnSilence, Sharing
from ems.site import Protocol
from ems.site_schema.quantity import (
    Eta,
    Kva,
    Kw,
    Kwh,
    KwPositive,
    LocalDate,
    LocalHour,
    Money,
    MoneyPerKwh,
    PointQuantity,
    Quantity,
    Ratio,
    SafeValue,
    Seconds,
    SecondsPositive,
    Soc,
    Stamp,
)

ID_PATTERN = r"^[a-z][a-z0-9_]*$"
PATH_PATTERN = r"^[a-z][a-z0-9_-]*$"
POINT_PATTERN = r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$"
CURRENCY_PATTERN = r"^[A-Z]{3}$"
MONTH_PATTERN = r"^\d{4}-(0[1-9]|1[0-2])$"
IN_WORDS = {
    ID_PATTERN: "lower-case letters, digits and _, a letter first",
    PATH_PATTERN: "lower-case letters, digits, - and _, a letter first",
    POINT_PATTERN: "<asset>.<point>, such as bess1.p_set_kw",
    MONTH_PATTERN: "a month such as 2025-11",
    CURRENCY_PATTERN: "three capital letters, such as USD",
}
Id = Annotated[str, Field(pattern=ID_PATTERN)]
PathId = Annotated[str, Field(pattern=PATH_PATTERN)]
PointId = Annotated[str, Field(pattern=POINT_PATTERN)]
Currency = Annotated[str, Field(pattern=CURRENCY_PATTERN)]
Text = Annotated[str, Field(min_length=1)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday"]
EVERY_DAY: list[Day] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday"]
MonthName = Annotated[str, Field(pattern=MONTH_PATTERN)]


class Form(BaseModel):
    """Strict, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class HierarchyForm(Form):
    """organisation / portfolio / plant / subsystem / asset."""

    organisation: PathId
    portfolio: PathId
    plant: PathId
    subsystems: dict[PathId, list[Id]] = Field(
        description="which assets, and `bus`, belong to which subsystem"
    )


class LocationForm(Form):
    """Where the plant stands."""

    latitude_deg: Annotated[float, Quantity("deg", ge=-90, le=90)]
    longitude_deg: Annotated[float, Quantity("deg", ge=-180, le=180)]
    altitude_m: Annotated[float, Quantity("m", ge=-500, le=9000)]
    timezone: Text = Field(description="IANA name, such as Africa/Nairobi")


class WeatherForm(Form):
    """Where weather for simulations comes from."""

    source: Literal["pvlib-tmy3"]
    station: Text


class MoneyForm(Form):
    """Currency, and what diesel costs."""

    currency: Currency
    diesel_per_l: Annotated[float, Quantity("CUR/L", gt=0)]
    co2_kg_per_l: Annotated[float, Quantity("kg/L", ge=0, le=5)] = 2.68
    carbon_per_kg: Annotated[float, Quantity("CUR/kg", ge=0)] = 0.0
    import_co2_kg_per_kwh: Annotated[float, Quantity("kg/kWh", ge=0, le=2)] = 0.0


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


class BatteryForm(Form):
    """The battery, seen from the AC terminals."""

    energy_kwh: Kwh
    soc_min: Soc
    soc_max: Soc
    p_charge_kw_max: KwPositive
    p_discharge_kw_max: KwPositive
    eta_charge: Eta
    eta_discharge: Eta
    loss_charge_pu: Ratio
    loss_discharge_pu: Ratio
    no_load_loss_kw: Kw
    aux_kw: Kw
    self_discharge_per_h: Annotated[float, Quantity("1/h", ge=0, lt=0.01)]
    soc_taper_low: Soc
    soc_taper_high: Soc
    taper_ratio: Annotated[float, Quantity("", gt=0, le=1)]
    wear_per_kwh: MoneyPerKwh


class PcsForm(Form):
    """The converter."""

    s_kva: Kva
    can_form: bool
    overload_ratio: Annotated[float, Quantity("", ge=1, le=3)]
    overload_s: Seconds
    restart_s: Seconds


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
    sharing: Sharing = Field(strict=False)
    start_attempts: Annotated[int, Field(ge=1, le=10)]
    mains_failure_start: bool
    mains_failure_delay_s: Seconds
    tank_l: Annotated[float, Quantity("L", gt=0)]
    starts_per_day_max: Annotated[int, Field(ge=1, le=100)] | None = None
    quiet: list[QuietHoursForm] = []


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


class FeederForm(Form):
    """A load feeder; tier 1 is shed last."""

    tier: Annotated[int, Field(ge=1, le=9)]
    has_breaker: bool
    voll_per_kwh: MoneyPerKwh
    p_peak_kw: KwPositive
    power_factor_ratio: Annotated[float, Quantity("", gt=0, le=1)]
    restore_dwell_s: Seconds
    shed_min_s: Seconds = 900.0
    served_min_s: Seconds = 1800.0


class TouWindowForm(Form):
    """A priced window of local time."""

    name: Text
    start: LocalHour = Field(alias="from")
    end: LocalHour = Field(alias="to")
    days: list[Day] = Field(default=EVERY_DAY, min_length=1)
    months: list[Annotated[int, Field(ge=1, le=12)]] = Field(default=list(range(1, 13)), min_length=1)
    import_per_kwh: MoneyPerKwh


class DemandWindowForm(Form):
    """Local time in which a demand charge counts."""

    start: LocalHour = Field(alias="from")
    end: LocalHour = Field(alias="to")
    days: list[Day] = Field(default=EVERY_DAY, min_length=1)
    months: list[Annotated[int, Field(ge=1, le=12)]] = Field(default=list(range(1, 13)), min_length=1)


class DemandChargeForm(Form):
    """A demand charge beside the main one; all its figures in kW or all in kVA."""

    name: Text
    per_kw: Annotated[float, Quantity("CUR/kW", ge=0)] | None = None
    per_kva: Annotated[float, Quantity("CUR/kVA", ge=0)] | None = None
    windows: list[DemandWindowForm] = Field(default=[], description="none: at all times")
    ratchet_ratio: Ratio = 0.0
    ratchet_months: Annotated[int, Field(ge=1, le=24)] = 11
    past_peaks_kw: dict[MonthName, Kw] | None = None
    past_peaks_kva: dict[MonthName, Annotated[float, Quantity("kVA", ge=0)]] | None = None
    contracted_kw: KwPositive | None = None
    contracted_kva: Kva | None = None
    contracted_ratio: Ratio = 0.0
    excess_per_kw: Annotated[float, Quantity("CUR/kW", ge=0)] | None = None
    excess_per_kva: Annotated[float, Quantity("CUR/kVA", ge=0)] | None = None


class EnergyBlockForm(Form):
    """A block of a month's import."""

    up_to_kwh: Kwh | None = None
    add_per_kwh: MoneyPerKwh


class PowerFactorForm(Form):
    """A charge on reactive energy beyond what a power factor allows."""

    min_ratio: Annotated[float, Quantity("", gt=0, le=1)]
    per_kvarh: Annotated[float, Quantity("CUR/kvarh", ge=0)]


class TariffForm(Form):
    """The contract at the point of interconnection."""

    timezone: Text
    currency: Currency
    default_import_per_kwh: MoneyPerKwh
    windows: list[TouWindowForm] = []
    export_per_kwh: MoneyPerKwh
    demand_charge_per_kw: Annotated[float, Quantity("CUR/kW", ge=0)]
    billing_interval_s: SecondsPositive
    fixed_per_month: Money
    holidays: list[LocalDate] = []
    demand_charges: list[DemandChargeForm] = []
    energy_blocks: list[EnergyBlockForm] = []
    power_factor: PowerFactorForm | None = None
    minimum_per_month: Money = 0.0


class FormingForm(Form):
    """Who forms the grid, in order of preference."""

    grid_tied: list[Id] = Field(min_length=1)
    islanded: list[Id] = Field(min_length=1)


class ReserveForm(Form):
    """How much is held ready."""

    load_ratio: Ratio
    pv_ratio: Ratio
    critical_tier: Annotated[int, Field(ge=1, le=9)]
    failed_starts: Annotated[int, Field(ge=0, le=5)]
    shortfall_per_kwh: MoneyPerKwh
    assumed_outage_h: Annotated[float, Quantity("h", gt=0, le=72)] = 4.0
    n_minus_1: list[Literal["genset", "bess"]] = Field(default_factory=list)
    motor_start_kw: Kw = 0.0
    load_trip_kw: Kw = 0.0
    survive_h: Annotated[float, Quantity("h", ge=0, le=72)] = 0.0
    survive_pv_ratio: Ratio = 0.0
    outages_per_month: Annotated[float, Quantity("", ge=0, le=1000)] | None = None


class SafeForm(Form):
    """The safe value of a setpoint in each grid mode; `hold` writes nothing."""

    grid_tied: SafeValue
    islanded: SafeValue
    black: SafeValue


class SilenceForm(Form):
    """What the device does by itself when nobody has written for `timeout_s`."""

    timeout_s: SecondsPositive
    action: OnSilence = Field(strict=False)
    value: PointQuantity | None = None


class SetpointForm(Form):
    """What the EMS may write to one setpoint."""

    low: PointQuantity
    high: PointQuantity
    ramp_per_s: PointQuantity | None = None
    deadband: PointQuantity = 0.0
    refresh_s: SecondsPositive
    safe: SafeForm
    silence: SilenceForm
    writer: Literal["edge"] = "edge"


class OutageForm(Form):
    """One announced outage, as it was announced."""

    id: PathId
    issued_at: Stamp
    start: Stamp
    end: Stamp
    cancelled: bool = False
    source: Text = "utility"


class MaintenanceForm(Form):
    """A window in which a genset is not to run."""

    asset: Id
    start: Stamp
    end: Stamp


class ConnectionForm(Form):
    """One device on the wire."""

    protocol: Protocol = Field(strict=False)
    host: Text
    port: Annotated[int, Field(ge=1, le=65535)]
    unit_id: Annotated[int, Field(ge=0, le=255)] = 1
    endpoint: str = ""
    poll_s: SecondsPositive
    timeout_s: SecondsPositive
    watchdog_point: PointId | None = None
    asset: Id | None = Field(default=None, description="asset that the map's short point names belong to")
    map: Text = Field(description="point map file, relative to this file")


class PointForm(Form):
    """Where one point lives: value = raw * scale * sign + offset, in `unit`."""

    address: int | str
    table: Literal["holding", "input", "node"] | None = None
    type: Text
    scale: Annotated[float, Quantity("", gt=0)] = 1.0
    offset: Annotated[float, Quantity("")] = 0.0
    sign: Literal[1, -1] = 1
    unit: str | None = Field(default=None, description="unit of the device; default: the point's own")
    range: list[PointQuantity] = Field(min_length=2, max_length=2, description="plausible [low, high]")
    age_s_max: SecondsPositive
    writable: bool = False
    byte_order: Literal["big", "little"] | None = None
    word_order: Literal["big", "little"] | None = None


class MapForm(Form):
    """A point map: a file of its own, for one kind of device."""

    device: Text
    protocol: Protocol = Field(strict=False)
    byte_order: Literal["big", "little"] = "big"
    word_order: Literal["big", "little"] = "big"
    points: dict[str, PointForm] = Field(min_length=1)


class SiteForm(Form):
    """A plant as data."""

    schema_version: Literal[1]
    name: Id
    hierarchy: HierarchyForm
    location: LocationForm
    weather: WeatherForm | None = None
    money: MoneyForm
    grid: GridForm
    bess: dict[Id, BessForm] = {}
    gensets: dict[Id, GensetForm] = {}
    pv: dict[Id, PvForm] = {}
    feeders: dict[Id, FeederForm] = Field(min_length=1)
    tariff: TariffForm
    forming: FormingForm
    reserve: ReserveForm
    authority: dict[PointId, SetpointForm]
    outages: list[OutageForm] = []
    maintenance: list[MaintenanceForm] = []
    connections: dict[Id, ConnectionForm] = {}
