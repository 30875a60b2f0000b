"""What a site file looks like: one pydantic form per section. Meaning is checked elsewhere.

Keys are the field names of the dataclasses they become, so that a key fixes unit and sign.
"""

from typing import Annotated, Literal

from pydantic import Field

from ems.assets import OnSilence
from ems.site import Protocol
from ems.site_schema.forms_assets import BessForm, FeederForm, GensetForm, GridForm, PvForm
from ems.site_schema.forms_bacnet import BacnetForm
from ems.site_schema.forms_base import ENV_PATTERN, Currency, Form, Id, PathId, PointId, Text
from ems.site_schema.forms_control import ControlForm
from ems.site_schema.forms_dlms import DlmsForm
from ems.site_schema.forms_dnp3 import Dnp3Form
from ems.site_schema.forms_goose import GooseForm
from ems.site_schema.forms_historian import HistorianForm
from ems.site_schema.forms_http import HttpForm
from ems.site_schema.forms_iec104 import Iec104Form
from ems.site_schema.forms_inputs import InputForm
from ems.site_schema.forms_j1939 import CanForm
from ems.site_schema.forms_links import DatabaseForm, ExportForm
from ems.site_schema.forms_loads import DeferrableForm
from ems.site_schema.forms_maps import PointChangeForm
from ems.site_schema.forms_modbus import ModbusForm
from ems.site_schema.forms_mqtt import BrokerForm, TelemetryForm
from ems.site_schema.forms_northbound import NorthboundForm
from ems.site_schema.forms_northbound_parts import TlsForm
from ems.site_schema.forms_rules import RulesForm
from ems.site_schema.forms_tariff import TariffForm
from ems.site_schema.forms_utility import UtilityServerForm
from ems.site_schema.quantity import (
    Kw,
    MoneyPerKwh,
    PointQuantity,
    Quantity,
    Ratio,
    SafeValue,
    SecondsPositive,
    Stamp,
)


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


class FormingForm(Form):
    """Who forms the grid, in order of preference."""

    grid_tied: list[Id] = Field(min_length=1)
    islanded: list[Id] = Field(min_length=1)


class SourcesForm(Form):
    """Sets of sources that may feed the bus together, by grid mode."""

    islanded: list[list[Id]] = []
    grid_tied: list[list[Id]] = []
    unpermitted_cost_per_h: Annotated[float, Quantity("CUR/h", gt=0)] | None = None


class ReserveForm(Form):
    """How much is held ready."""

    load_ratio: Ratio
    pv_ratio: Ratio
    critical_tier: Annotated[int, Field(ge=1, le=9)]
    failed_starts: Annotated[int, Field(ge=0, le=5)]
    shortfall_per_kwh: MoneyPerKwh
    assumed_outage_h: Annotated[float, Quantity("h", gt=0, le=72)] = 4.0
    n_minus_1: list[Literal["genset", "bess", "pv"]] = Field(default_factory=list)
    n_minus_1_tied: list[Literal["genset", "bess", "pv", "import"]] = Field(default_factory=list)
    pv_drop_ratio: Ratio = 0.0
    motor_start_kw: Kw = 0.0
    load_trip_kw: Kw = 0.0
    load_steps: bool = False
    fuel_h: Annotated[float, Quantity("h", ge=0, le=720)] = 0.0
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
    timeout_point: PointId | None = Field(default=None, description="where the device tells its time-out [s]")
    value_point: PointId | None = Field(default=None, description="where it tells the value of its silence")


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


class DeliveryForm(Form):
    """Fuel that is brought to the tank of a genset."""

    asset: Id
    at: Stamp
    fuel_l: Annotated[float, Quantity("L", gt=0)]


class SerialForm(Form):
    """A serial port; eight data bits."""

    device: Text = Field(description="such as /dev/ttyUSB0")
    baud: Literal[1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200] = 19200
    parity: Literal["even", "odd", "none"] = "even"
    stop_bits: Literal[1, 2] = 1


class UaSecurityForm(Form):
    """Protection of an OPC UA connection, and who we are there. Files are relative to the site file."""

    policy: Literal["None", "Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"]
    mode: Literal["Sign", "SignAndEncrypt"] = "SignAndEncrypt"
    certificate: Text = Field(default="pki/own.der", description="ours, DER or PEM")
    key: Text = Field(default="pki/own.key", description="its private key, PEM, mode 0600")
    trusted: Text = Field(default="pki/trusted", description="folder of server certificates")
    server_name: Text | None = Field(default=None, description="host in its certificate, if not `host`")
    user: Text | None = None
    password_env: Annotated[str, Field(pattern=ENV_PATTERN)] | None = Field(
        default=None, description="variable of the environment that holds the password"
    )
    password_file: Text | None = Field(default=None, description="or the file that holds it, mode 0600")
    user_certificate: Text | None = Field(default=None, description="instead of user and password")
    user_key: Text | None = Field(default=None, description="its private key, PEM, mode 0600")


class UaSubscriptionForm(Form):
    """What is asked of the server with `updates: subscribe`."""

    publishing_s: SecondsPositive | None = Field(default=None, description="half of poll_s")
    sampling_s: SecondsPositive | None = Field(default=None, description="as publishing_s")
    keep_alive_s: SecondsPositive | None = Field(default=None, description="twice publishing_s")
    queue: Annotated[int, Field(ge=1, le=1000)] = 4


class MmsReportsForm(Form):
    """Report control blocks that an IEC 61850 device tells us by."""

    blocks: list[Text] = Field(default=[], description="references, such as IED1LD0/LLN0.urcbMeas01 [RP]")
    integrity_s: SecondsPositive = Field(default=1.0, description="how often each tells everything (IntgPd)")
    buffered: list[Text] = Field(
        default=[], description="blocks with a buffer, such as IED1LD0/LLN0.brcbEvents01 [BR]: history alone"
    )


class ConnectionForm(Form):
    """One device on the wire."""

    protocol: Protocol = Field(strict=False)
    host: str = Field(default="", description="not with modbus_rtu, goose and j1939")
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None,
        description="as host; iec61850: 102, with tls 3782; dnp3: 20000; iec104: 2404, with tls 19998; "
        "bacnet: 47808; dlms: 4059; http_json: 443, plain 80",
    )
    serial: SerialForm | None = Field(default=None, description="with modbus_rtu, instead of host and port")
    unit_id: Annotated[int, Field(ge=0, le=255)] = 1
    endpoint: str = ""
    poll_s: SecondsPositive
    timeout_s: SecondsPositive
    watchdog_point: PointId | None = None
    watchdog_period_s: SecondsPositive = Field(default=1.0, description="our heartbeat at most so often")
    heartbeat_in: PointId | None = Field(default=None, description="point that counts while the device lives")
    heartbeat_in_s_max: SecondsPositive = Field(default=3.0, description="longest it may stand still")
    stamps_sampled: bool = Field(default=False, description="an old OPC UA source stamp is an old value")
    serial_number: Text | None = Field(default=None, description="what the device must tell")
    security: UaSecurityForm | None = Field(default=None, description="of opc_ua")
    updates: Literal["poll", "subscribe"] = Field(default="poll", description="subscribe: opc_ua only")
    subscription: UaSubscriptionForm | None = Field(default=None, description="with updates: subscribe")
    mqtt: BrokerForm | None = Field(default=None, description="of mqtt; left out: both sides by certificate")
    tls: TlsForm | None = Field(
        default=None,
        description="of modbus_tcp, sunspec (Modbus/TCP Security), iec61850 and iec104 (IEC 62351-3)",
    )
    originator: Literal[
        "bay", "station", "remote", "automatic_bay", "automatic_station", "automatic_remote"
    ] = Field(default="automatic_station", description="iec61850: who commands (orCat)")
    reports: MmsReportsForm | None = Field(default=None, description="iec61850; left out: it is polled")
    goose: GooseForm | None = Field(default=None, description="of goose, instead of host and port")
    dlms: DlmsForm | None = Field(default=None, description="of dlms; left out: its public client")
    dnp3: Dnp3Form | None = Field(default=None, description="of dnp3: the outstation and how it is read")
    modbus: ModbusForm | None = Field(default=None, description="what this device takes, before its map")
    iec104: Iec104Form | None = Field(default=None, description="of iec104: the station, and how it is read")
    bacnet: BacnetForm | None = Field(default=None, description="of bacnet: the device and our priority")
    http: HttpForm | None = Field(
        default=None, description="of http_json; left out: TLS, its certificate signed by pki/http/ca.pem"
    )
    can: CanForm | None = Field(default=None, description="of j1939, instead of host and port")
    asset: Id | None = Field(default=None, description="asset that the map's short point names belong to")
    map: Text | None = Field(default=None, description="point map file, relative to this file")
    family: Id | None = Field(default=None, description="device family, instead of a map")
    settings: dict[Id, PointQuantity] = Field(default={}, description="what the family asks for")
    points: dict[str, PointChangeForm] = Field(
        default={}, description="what is different on this device; channels by the points they are"
    )
    leave_out: list[Text] = Field(default=[], description="points that are not taken from this device")


class DroopForm(Form):
    """What a grid-following unit does by itself when the frequency is off."""

    dead_band_hz: Annotated[float, Quantity("Hz", ge=0, le=2)]
    droop_ratio: Annotated[float, Quantity("", gt=0, le=1)]


class DispatchForm(Form):
    """How the edge is called, and what it judges by."""

    cycle_s: Annotated[float, Quantity("s", ge=0.1, le=60)] = 1.0
    plan_soc_tolerance: Annotated[float, Quantity("", ge=0.02, le=1)] = 0.1
    droop: dict[Id, DroopForm] = {}
    rules: RulesForm | None = Field(default=None, description="what is decided by without a plan")


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
    control: ControlForm | None = None
    outages: list[OutageForm] = []
    maintenance: list[MaintenanceForm] = []
    deliveries: list[DeliveryForm] = []
    deferrables: dict[Id, DeferrableForm] = {}
    sources: SourcesForm | None = None
    dispatch: DispatchForm = DispatchForm()
    connections: dict[Id, ConnectionForm] = {}
    telemetry: dict[Id, TelemetryForm] = {}
    databases: dict[Id, DatabaseForm] = {}
    exports: dict[Id, ExportForm] = {}
    inputs: dict[Id, InputForm] = {}
    northbound: NorthboundForm | None = None
    utility: dict[Id, UtilityServerForm] = {}
    historian: HistorianForm = HistorianForm()
