"""A plant as data: hierarchy, assets, tariff, who forms the grid when, authority, connections."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from ems.assets import (
    ActuatorSafety,
    BessParams,
    DroopParams,
    FeederParams,
    GensetParams,
    GridParams,
    PvParams,
)
from ems.bacnet import Bacnet
from ems.control_site import ControlParams
from ems.deferrable import DeferrableParams
from ems.dlms import Dlms, DlmsRow
from ems.dnp3 import Dnp3
from ems.goose import Goose
from ems.http_json import HttpJson
from ems.iec104 import Iec104
from ems.inputs import InputParams
from ems.j1939 import Can
from ems.json_place import JsonPlace
from ems.links import DatabaseLink, ExportLink, SparkplugNode
from ems.modbus import ModbusTerms
from ems.mqtt_broker import MqttBroker as MqttBroker
from ems.northbound import ModbusServer, TlsFiles
from ems.northbound_iec104 import Iec104Server
from ems.northbound_ua import OpcUaServer
from ems.outage import OutageNotice
from ems.phases import PHASE_POINTS, PhaseParams
from ems.points import ONLY_WHERE_MAPPED, POINTS, Access, AssetKind
from ems.rules import TouParams
from ems.sources import SourceSets
from ems.tariff import Tariff
from ems.utility import UtilityServer


class GridMode(StrEnum):
    """State of the site's AC bus."""

    GRID_TIED = "grid_tied"
    ISLANDED = "islanded"
    BLACK = "black"  # the bus is dead
    UNKNOWN = "unknown"  # evidence is missing or contradicts itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """organisation / portfolio / plant; subsystems and assets hang below."""

    organisation: str
    portfolio: str
    plant: str
    subsystem_of: Mapping[str, str]  # asset id -> subsystem id

    def path(self, asset_id: str, point: str | None = None) -> str:
        """Full path of an asset, or of one of its points."""
        parts = [self.organisation, self.portfolio, self.plant, self.subsystem_of[asset_id], asset_id]
        return "/".join([*parts, point] if point else parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservePolicy:
    """How much must be held ready, and for how long.

    Islanded: `load_ratio` of the load and `pv_ratio` of the PV in use, up; grid-tied: the tiers up to
    `critical_tier` carried through a sudden loss of the grid for `failed_starts + 1` start delays of the
    next genset.
    """

    load_ratio: float
    pv_ratio: float
    critical_tier: int
    failed_starts: int
    shortfall_per_kwh: float  # price of reserve that is not covered, money per kWh
    assumed_outage_h: float = 4.0  # an outage nobody announced is planned to last so long
    running_ratio: float = 0.0  # islanded: ratings of running gensets over load, at least; 0: not asked
    n_minus_1: tuple[str, ...] = ()  # islanded: losses that the rest must cover, "genset", "bess", "pv"
    n_minus_1_tied: tuple[str, ...] = ()  # the same beside the grid, and "import"
    pv_drop_ratio: float = 0.0  # share of the PV in use that may be gone at once
    motor_start_kw: float = 0.0  # islanded: largest motor start to be carried
    load_trip_kw: float = 0.0  # islanded: largest load that may trip
    load_steps: bool = False  # islanded: a feeder closes only where the sources accept its peak at once
    fuel_h: float = 0.0  # the tanks always hold so many hours of the critical tiers
    survive_h: float = 0.0  # grid-tied: the critical tiers live so long on energy, fuel and PV
    survive_pv_ratio: float = 0.0  # share of the forecast PV counted on for it
    outages_per_month: float | None = None  # expected without notice; None: survival is priced as reserve


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """OT authority as data: which setpoints the EMS may write, and inside which bounds."""

    setpoints: Mapping[str, "SetpointAuthority"]  # by point id


@dataclass(frozen=True, slots=True, kw_only=True)
class SetpointAuthority:
    """Static authority over one setpoint. Bounds are in the setpoint's own unit."""

    point: str
    low: float
    high: float
    ramp_per_s: float | None  # largest change per second away from the protective direction; None: free
    deadband: float
    refresh_s: float  # rewritten at least so often to feed the device's watchdog
    safety: ActuatorSafety
    writer: str = "edge"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormingOrder:
    """Who forms the grid: asset ids in order of preference, per grid mode."""

    grid_tied: tuple[str, ...]
    islanded: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeatherSource:
    """Where a simulation takes the weather of this place from."""

    source: str  # pvlib-tmy3: a typical year among pvlib's own files
    station: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """A window [start, end) in which a genset is not to run."""

    asset: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FuelDelivery:
    """Fuel that is brought to the tank of a genset."""

    asset: str
    at: datetime
    fuel_l: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorianParams:
    """What the historian keeps of readings and audit rows."""

    recent_h: float = 2.0  # younger readings stay in its file
    disk_gb: float = 8.0  # of the long-term store; beyond it the oldest readings are given up
    flash_tb: float = 30.0  # may be written to this disk in five years
    audit_recent_h: float = 72.0  # younger audit rows stay in its file
    audit_keep_days: int | None = None  # packed ones that are older are removed; None: none ever is


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """Devices on the wire alone, as far as reading them goes: nothing may be written."""

    connections: tuple["Connection", ...]
    authority: Authority = field(default_factory=lambda: Authority(setpoints={}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Everything known about a plant before it runs."""

    name: str
    hierarchy: Hierarchy
    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    timezone: str
    currency: str
    diesel_per_l: float  # money per litre
    co2_kg_per_l: float
    grid: GridParams
    bess: tuple[BessParams, ...]
    gensets: tuple[GensetParams, ...]
    pv: tuple[PvParams, ...]
    feeders: tuple[FeederParams, ...]
    tariff: Tariff
    forming: FormingOrder
    reserve: ReservePolicy
    authority: Authority
    outages: tuple[OutageNotice, ...]
    connections: tuple["Connection", ...]
    weather: WeatherSource | None = None
    maintenance: tuple[Maintenance, ...] = ()
    deliveries: tuple[FuelDelivery, ...] = ()
    carbon_per_kg: float = 0.0  # price of CO2, diesel's and import's
    import_co2_kg_per_kwh: float = 0.0
    deferrables: tuple[DeferrableParams, ...] = ()
    sources: SourceSets | None = None  # which may feed the bus together; None: not limited
    cycle_s: float = 1.0  # of the edge
    plan_soc_tolerance: float = 0.1  # a plan whose charge of now is further off the measured one is refused
    droop: Mapping[str, DroopParams] = field(default_factory=dict)  # by source: its own P(f)
    rules: TouParams | None = None  # None: the defaults, inside the window of each battery
    control: ControlParams = field(default_factory=ControlParams)
    telemetry: tuple["TelemetryLink", ...] = ()
    databases: tuple[DatabaseLink, ...] = ()
    exports: tuple[ExportLink, ...] = ()
    modbus_servers: tuple[ModbusServer, ...] = ()
    opcua_servers: tuple[OpcUaServer, ...] = ()
    iec104_servers: tuple[Iec104Server, ...] = ()
    historian: HistorianParams = field(default_factory=HistorianParams)
    utilities: tuple[UtilityServer, ...] = ()
    inputs: tuple[InputParams, ...] = ()  # of each kind the first counts, the next where it tells nothing

    @property
    def links(self) -> "tuple[TelemetryLink | DatabaseLink | ExportLink, ...]":
        """Wherever records go; no two have the same id."""
        return (*self.telemetry, *self.databases, *self.exports)

    @property
    def carbon_per_l(self) -> float:
        """Carbon cost of a litre of diesel [money per L]."""
        return self.carbon_per_kg * self.co2_kg_per_l

    @property
    def carbon_per_kwh(self) -> float:
        """Carbon cost of a kWh imported [money per kWh]."""
        return self.carbon_per_kg * self.import_co2_kg_per_kwh

    def kind_of(self, asset_id: str) -> AssetKind:
        """Kind of an asset; KeyError if there is none of this id."""
        return self.asset_kinds()[asset_id]

    def asset_kinds(self) -> dict[str, AssetKind]:
        """asset id -> kind, in file order; the bus is always `bus`."""
        kinds = {self.grid.id: AssetKind.GRID, "bus": AssetKind.BUS}
        kinds |= {b.id: AssetKind.BESS for b in self.bess}
        kinds |= {g.id: AssetKind.GENSET for g in self.gensets}
        kinds |= {p.id: AssetKind.PV for p in self.pv}
        kinds |= {f.id: AssetKind.FEEDER for f in self.feeders}
        return kinds

    def phased(self) -> dict[str, PhaseParams]:
        """asset id -> how its phases are held, of those whose phases are read."""
        own = [(self.grid.id, self.grid.phases), *((b.id, b.pcs.phases) for b in self.bess)]
        return {i: p for i, p in (*own, *((g.id, g.phases) for g in self.gensets)) if p is not None}

    def read_names(self) -> dict[str, tuple[str, ...]]:
        """asset id -> names of the points that can be read of it; of some only where held, or mapped."""
        phased = self.phased()
        mapped = {p.point for c in self.connections for p in c.points}
        return {
            a: tuple(
                s.name
                for s in POINTS[k]
                if s.access is Access.READ
                and (a in phased or s.name not in PHASE_POINTS)
                and (s.name not in ONLY_WHERE_MAPPED.get(k, ()) or f"{a}.{s.name}" in mapped)
            )
            for a, k in self.asset_kinds().items()
        }


class Protocol(StrEnum):
    """Protocols a connection may speak."""

    MODBUS_TCP = "modbus_tcp"
    MODBUS_RTU = "modbus_rtu"  # on a serial line
    MODBUS_RTU_TCP = "modbus_rtu_tcp"  # serial frames through a TCP connection to a gateway
    OPC_UA = "opc_ua"
    J1939 = "j1939"  # on a CAN bus, listened to; never sent
    DLMS = "dlms"  # COSEM objects of a revenue meter, over TCP; read alone
    MQTT = "mqtt"  # told by a broker; never written to
    BACNET = "bacnet"  # over IP
    HTTP_JSON = "http_json"  # asked with GET; never written to
    DNP3 = "dnp3"  # IEEE 1815 over TCP
    IEC_104 = "iec104"  # IEC 60870-5-104; read alone
    IEC_61850 = "iec61850"  # MMS over TCP
    GOOSE = "goose"  # of IEC 61850, listened to on an Ethernet interface; never sent
    SUNSPEC = "sunspec"  # registers found by the device's chain of models, over Modbus TCP
    SUNSPEC_RTU = "sunspec_rtu"
    SUNSPEC_RTU_TCP = "sunspec_rtu_tcp"

    @property
    def is_modbus(self) -> bool:
        """Registers by number; a point map for one of these fits them all."""
        return self.family == "modbus"

    @property
    def family(self) -> str:
        """Protocols that share point maps and data types: modbus, sunspec, or themselves."""
        return next((f for f in ("modbus", "sunspec") if self.value.startswith(f)), self.value)

    @property
    def wire(self) -> "Protocol":
        """What is spoken on the wire: Modbus for SunSpec."""
        return {
            Protocol.SUNSPEC: Protocol.MODBUS_TCP,
            Protocol.SUNSPEC_RTU: Protocol.MODBUS_RTU,
            Protocol.SUNSPEC_RTU_TCP: Protocol.MODBUS_RTU_TCP,
        }.get(self, self)

    @property
    def is_rtu(self) -> bool:
        """Units share a bus on which one request is in flight."""
        return self.wire in (Protocol.MODBUS_RTU, Protocol.MODBUS_RTU_TCP)

    @property
    def is_told(self) -> bool:
        """It tells by itself, and is neither asked nor written to."""
        return self in (Protocol.MQTT, Protocol.GOOSE, Protocol.J1939)


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialLine:
    """A serial port and how characters look on it; eight data bits."""

    device: str  # such as /dev/ttyUSB0
    baud: int
    parity: str  # even | odd | none
    stop_bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryLink:
    """Where records of the historian are sent."""

    id: str
    host: str
    port: int
    topic: str  # what all topics begin with
    broker: MqttBroker
    timeout_s: float
    message_bytes_max: int  # of rows in one message; one snapshot may be more
    backfill_bytes_per_s: float | None  # of rows that are late; None: as fast as the broker takes them
    backlog_s_max: float  # rows that wait longer than this are alarmed
    sparkplug: SparkplugNode | None = None  # None: JSON lines


@dataclass(frozen=True, slots=True, kw_only=True)
class SunSpecRow:
    """What a map says of a SunSpec point beside its name, which is the address."""

    unit: str | None = None  # of the device, as the map says it; held against the model's definition
    percent_of: str | None = None  # the SunSpec point that it is a percentage of
    # (symbol, value): the first that is told counts; `Point.SYMBOL` is one of another point of the model.
    states: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PointMap:
    """Where one point lives on a device and how its raw value becomes the point's unit and sign.

    value = raw * scale * sign + offset. `address` is with Modbus the zero-based register in digits, OPC UA:
    node id with the namespace as a URI, MQTT: topic, SunSpec: model and point, IEC 61850, GOOSE: reference,
    constraint, J1939: PGN and byte, DNP3: group and index, BACnet: object and property, DLMS: OBIS code,
    HTTP: the path that is asked for.
    """

    point: str  # `<asset>.<name>`
    address: str
    table: str  # modbus: holding | input; opc ua: node
    data_type: str  # u16 s16 u32 s32 f32 (modbus); Float Double Int32 Boolean ... (opc ua)
    byte_order: str  # big | little
    word_order: str  # big | little
    scale: float  # unit: point's own unit per raw count; ratio
    offset: float  # unit: the point's own unit; ratio
    sign: int
    unit: str
    low: float  # plausible range in the point's unit; outside is bad quality
    high: float
    age_s_max: float
    writable: bool
    writes_per_day: int | None = None  # of a register that wears out; None: as many as are needed
    rate_per_s_max: float | None = None  # most it can move in a second, in the point's unit; None: any
    payload: JsonPlace | None = None  # mqtt, http_json
    sunspec: SunSpecRow | None = None
    dlms: DlmsRow | None = None
    bit: int | None = None  # this bit of the raw count alone, 0 the least significant
    codes: tuple[tuple[int, float], ...] = ()  # raw count -> value in its unit; other counts are bad


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityField:
    """Where a device tells what it is, and what the point map was written for.

    `expected` is compared letter by letter; a firmware lies between `low` and `high`, both included. Nothing
    of them: whatever it tells is recorded when it is commissioned.
    """

    name: str  # manufacturer | model | firmware | serial
    address: str
    table: str  # modbus: holding | input; opc ua: node
    data_type: str  # "string", or an integer type of the protocol
    length: int  # registers of a modbus text; 0 otherwise
    byte_order: str  # big | little
    word_order: str  # big | little
    expected: str | None = None
    low: str | None = None  # firmware
    high: str | None = None  # firmware
    starts: str | None = None  # what it must begin with
    one_of: tuple[str, ...] = ()  # texts of which it must tell one
    pointer: str | None = None  # http_json: where in the answer it stands


@dataclass(frozen=True, slots=True, kw_only=True)
class UaSecurity:
    """How an OPC UA connection is protected, and who we are there. No secrets.

    Files are as the site file says: relative to its folder, or whole paths.
    """

    policy: str  # None | Basic256Sha256 | Aes128Sha256RsaOaep | Aes256Sha256RsaPss
    mode: str = "SignAndEncrypt"  # | Sign; nothing with None
    certificate: str = ""  # ours, DER or PEM
    key: str = ""  # its private key, PEM, readable by its owner alone
    trusted: str = ""  # folder of the server certificates we believe
    server_name: str | None = None  # host its certificate is made out to, where that is not `host`
    user: str | None = None
    password_env: str | None = None  # name of the variable of the environment that holds the password
    password_file: str | None = None  # or of the file, readable by its owner alone
    user_certificate: str | None = None  # instead of a name and a password
    user_key: str | None = None

    @property
    def is_on(self) -> bool:
        """Whether messages are signed at all."""
        return self.policy != "None"


@dataclass(frozen=True, slots=True, kw_only=True)
class UaSubscription:
    """What is asked of the server of an OPC UA connection that is told changes instead of being polled."""

    publishing_s: float
    sampling_s: float
    keep_alive_s: float  # with nothing to tell, it says so often that it is there
    queue: int  # samples it keeps of each point between two messages


@dataclass(frozen=True, slots=True, kw_only=True)
class MmsReports:
    """Which report control blocks of an IEC 61850 device tell us, and how often each tells everything."""

    blocks: tuple[str, ...]  # references with [RP]
    integrity_s: float
    buffered: tuple[str, ...] | None = None  # with [BR]: what they keep is history


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One device on the wire."""

    id: str
    protocol: Protocol
    host: str
    port: int
    unit_id: int
    endpoint: str  # OPC UA endpoint path; empty for Modbus
    poll_s: float
    timeout_s: float
    watchdog_point: str | None  # written each refresh so that the device knows we live
    points: tuple[PointMap, ...]
    watchdog_period_s: float = 1.0  # a device hears our heartbeat at most so often
    heartbeat_in: str | None = None  # point that counts while the device itself lives
    heartbeat_in_s_max: float = 3.0  # standing still for so long, everything of the device is stale
    stamps_sampled: bool = False  # OPC UA: each sample is stamped, so that an old stamp is an old value
    serial: SerialLine | None = None  # modbus_rtu: instead of host (then empty) and port (then 0)
    identity: tuple[IdentityField, ...] = ()
    security: UaSecurity | None = None  # OPC UA; None: none, on a loopback address alone
    subscription: UaSubscription | None = None  # OPC UA; None: it is polled
    mqtt: MqttBroker | None = None
    tls: TlsFiles | None = None  # Modbus over TCP, IEC 61850, IEC 60870-5-104; None: plain
    originator: str = "automatic_station"  # IEC 61850: who commands (orCat)
    reports: MmsReports | None = None  # IEC 61850; None: everything is polled
    goose: Goose | None = None
    can: Can | None = None
    dnp3: Dnp3 | None = None
    iec104: Iec104 | None = None
    bacnet: Bacnet | None = None
    dlms: Dlms | None = None
    http: HttpJson | None = None
    modbus: ModbusTerms | None = None  # of all that speak it; None: as the protocol allows
    family: str = ""  # device family that its map is of; empty: a map of the site's own
