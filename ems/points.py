"""The vocabulary of points: what can be read from and written to each kind of asset.

A point is addressed inside a plant as `<asset id>.<point name>`, e.g. `bess1.p_kw`; its full path is
organisation/portfolio/plant/subsystem/asset/point. Sign: positive = into the site's AC bus.
"""

from dataclasses import dataclass
from enum import StrEnum


class AssetKind(StrEnum):
    """Kinds of asset a plant is made of."""

    BESS = "bess"
    GENSET = "genset"
    PV = "pv"
    GRID = "grid"
    FEEDER = "feeder"
    BUS = "bus"


class Access(StrEnum):
    """Direction of a point, seen from the EMS."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSpec:
    """What a point of this name means wherever it appears."""

    name: str
    unit: str
    access: Access
    required: bool
    meaning: str


def _r(name: str, unit: str, meaning: str, *, required: bool = True) -> PointSpec:
    return PointSpec(name=name, unit=unit, access=Access.READ, required=required, meaning=meaning)


def _w(name: str, unit: str, meaning: str, *, required: bool = True) -> PointSpec:
    return PointSpec(name=name, unit=unit, access=Access.WRITE, required=required, meaning=meaning)


def _phases(measures: str) -> tuple[PointSpec, ...]:
    return tuple(_r(f"p_l{n}_kw", "kW", f"{measures}, phase {n} alone", required=False) for n in (1, 2, 3))


_REMOTE = _r("remote", "", "selector of the device: 1 remote, 0 local (nothing is written)", required=False)
_ENGINE = (
    _r("speed_rpm", "rpm", "speed of the engine", required=False),
    _r("oil_kpa", "kPa", "oil pressure of the engine", required=False),
    _r("coolant_degc", "degC", "temperature of the coolant", required=False),
    _r("fuel_l_h", "L/h", "fuel that is burnt", required=False),
    _r("battery_v", "V", "voltage of the starter battery", required=False),
    _r("q_kvar", "kvar", "measured reactive power", required=False),
    _r("v_pu", "pu", "voltage of the alternator", required=False),
    _r("f_hz", "Hz", "frequency of the alternator", required=False),
    _r("breaker_closed", "", "1 when the breaker of the set is closed", required=False),
)
ENGINE_POINTS = frozenset(s.name for s in _ENGINE)  # of a genset: read where they are mapped, and only told
_METER = (
    _r("import_kwh", "kWh", "energy that was imported, as the meter counts it", required=False),
    _r("export_kwh", "kWh", "energy that was exported, as the meter counts it", required=False),
    _r("pf", "", "power factor at the POI, as the meter tells it", required=False),
)
METER_POINTS = frozenset(s.name for s in _METER)  # of the POI: read where they are mapped, and only told
TRIP_REQUEST = "trip_request"  # of a PV plant: its breaker is a device of its own
_SET_LIVE = _r("p_kw_max", "kW", "what the controller of the set lets it give now", required=False)
_PCS_LIVE = _r("p_pcs_kw_max", "kW", "live limit of the converter, in either direction", required=False)
POINTS: dict[AssetKind, tuple[PointSpec, ...]] = {
    AssetKind.BESS: (
        _r("p_kw", "kW", "measured active power, discharge positive"),
        *_phases("measured active power, discharge positive"),
        _r("q_kvar", "kvar", "measured reactive power", required=False),
        _r("soc", "", "state of charge, 0 to 1"),
        _r("p_charge_kw_max", "kW", "live charge limit of the BMS, a positive number"),
        _r("p_discharge_kw_max", "kW", "live discharge limit of the BMS"),
        _PCS_LIVE,
        _r("state", "", "0 off, 1 following, 2 forming, 3 tripped"),
        _r("temp_degc", "degC", "temperature of the cells, or of the air around them", required=False),
        _REMOTE,
        _w("p_set_kw", "kW", "active power setpoint while following, discharge positive"),
        _w("q_set_kvar", "kvar", "reactive setpoint, positive: given into the bus", required=False),
        _w("pf_set", "", "power factor, its sign that of the kvar given into the bus", required=False),
        _w("volt_var_curve", "", "index of a volt-var curve stored in the converter", required=False),
    ),
    AssetKind.GENSET: (
        _r("p_kw", "kW", "measured active power"),
        *_phases("measured active power"),
        _r("state", "", "GensetState as an integer"),
        _r("fuel_l", "L", "fuel in the tank", required=False),
        _r("run_h", "h", "running hours", required=False),
        _SET_LIVE,
        *_ENGINE,
        _REMOTE,
        _w("run_request", "", "1 requests running, 0 requests stop"),
        _w("p_set_kw", "kW", "base-load setpoint while running in parallel"),
    ),
    AssetKind.PV: (
        _r("p_kw", "kW", "measured active power"),
        _r("p_available_kw", "kW", "what the inverters could give now", required=False),
        _r("state", "", "0 off or waiting to reconnect, 1 producing"),
        _REMOTE,
        _w("p_limit_kw", "kW", "active power limit"),
        _w(
            TRIP_REQUEST, "", "1 requests the plant's breaker open and kept open, 0 withdraws", required=False
        ),
        _r("q_kvar", "kvar", "measured reactive power", required=False),
        _w("q_set_kvar", "kvar", "reactive setpoint, positive: given into the bus", required=False),
        _w("pf_set", "", "power factor, its sign that of the kvar given into the bus", required=False),
        _w("volt_var_curve", "", "index of a volt-var curve stored in the converter", required=False),
    ),
    AssetKind.GRID: (
        _r("p_kw", "kW", "measured active power at the POI, import positive"),
        *_phases("measured active power at the POI, import positive"),
        *(
            _r(f"i_l{n}_a", "A", f"current of phase {n} at the POI, 0 or more", required=False)
            for n in (1, 2, 3)
        ),
        _r("q_kvar", "kvar", "measured reactive power at the POI", required=False),
        _r("v_pu", "pu", "mains voltage at the POI"),
        *(_r(f"v{n}_pu", "pu", f"mains voltage of phase {n} at the POI", required=False) for n in (1, 2, 3)),
        _r("f_hz", "Hz", "mains frequency", required=False),
        _r("breaker_closed", "", "1 when the POI breaker is closed"),
        _r("sync_ok", "", "1 while the synchronism check (25) of the POI breaker permits", required=False),
        _r("p_import_kw_max", "kW", "import cap that holds now, a positive number", required=False),
        _r("p_export_kw_max", "kW", "export cap that holds now, a positive number", required=False),
        _w("open_request", "", "1 requests the POI breaker open and kept open, 0 withdraws", required=False),
        _w("open_permit", "", "1 while power at the POI is small enough to open it", required=False),
        _w("close_permit", "", "1 lets the synchronising device close the POI breaker", required=False),
        _r("p_pv_kw_max", "kW", "cap on all PV that holds now, a positive number", required=False),
        _r("p_charge_kw_max", "kW", "cap on charging that holds now, a positive number", required=False),
        _r("p_discharge_kw_max", "kW", "cap on discharging that holds now, positive", required=False),
        _r("limits_heartbeat", "", "changes while whoever tells these caps is alive", required=False),
        *_METER,
    ),
    AssetKind.FEEDER: (
        _r("p_kw", "kW", "load of the feeder, a positive demand"),
        _r("closed", "", "1 when the feeder breaker is closed"),
        _REMOTE,
        _w("close_request", "", "1 requests the breaker closed, 0 open", required=False),
    ),
    AssetKind.BUS: (
        _r("alive", "", "1 when the site's AC bus has voltage"),
        _r("v_pu", "pu", "voltage of the site's AC bus"),
        _r("f_hz", "Hz", "frequency of the site's AC bus", required=False),
        _r("remote", "", "selector of the site: 1 remote, 0 local (nothing is written)", required=False),
        _r("emergency_stop", "", "1 while the stop circuit is healthy, 0 when it is open", required=False),
        *(_r(f"contact_{i}", "", f"dry contact {i}: 1 closed, 0 open", required=False) for i in range(1, 9)),
    ),
}


LIVE_LIMITS = frozenset({_SET_LIVE.name, _PCS_LIVE.name})  # read where they are mapped, and held from then on
ONLY_WHERE_MAPPED = {
    AssetKind.BESS: frozenset({_PCS_LIVE.name}),
    AssetKind.GENSET: ENGINE_POINTS | {_SET_LIVE.name},
    AssetKind.GRID: METER_POINTS,
}


class BessState(StrEnum):
    """Names of the BESS states in the order of their register value."""

    OFF = "off"
    FOLLOWING = "following"
    FORMING = "forming"
    TRIPPED = "tripped"

    @property
    def code(self) -> int:
        """Value on the wire."""
        return list(BessState).index(self)


class GensetState(StrEnum):
    """The sequence of a genset controller, in the order of its register value."""

    STOPPED = "stopped"
    CRANKING = "cranking"
    WARM_UP = "warm_up"
    SYNCHRONISING = "synchronising"
    RUNNING = "running"
    COOLING_DOWN = "cooling_down"
    LOCKED_OUT = "locked_out"

    @property
    def code(self) -> int:
        """Value on the wire."""
        return list(GensetState).index(self)


def state_words(kind: AssetKind | None) -> dict[str, float]:
    """Names of the states of a kind of asset, and what the point `state` reads for each."""
    match kind:
        case AssetKind.BESS:
            return {s.value: float(s.code) for s in BessState}
        case AssetKind.GENSET:
            return {s.value: float(s.code) for s in GensetState}
        case AssetKind.PV:
            return {"waiting": 0.0, "producing": 1.0}
        case _:
            return {}


def is_binary(name: str) -> bool:
    """Whether a setpoint of this name is 0 or 1."""
    return name.endswith(("_request", "_permit"))


def point_id(asset_id: str, name: str) -> str:
    """`bess1`, `p_kw` -> `bess1.p_kw`."""
    return f"{asset_id}.{name}"


def split_point_id(point: str) -> tuple[str, str]:
    """`bess1.p_kw` -> (`bess1`, `p_kw`)."""
    asset_id, _, name = point.partition(".")
    return asset_id, name
