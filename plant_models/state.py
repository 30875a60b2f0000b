"""What goes into and comes out of one step of the plant. Re-exported by `plant_models.plant`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ems.points import BessState, GensetState
from plant_models.genset import GensetUnit
from plant_models.grid import SYNC_F_HZ
from plant_models.load import FeederSwitch
from plant_models.pcs import BessUnit
from plant_models.pv import PvUnit


class ViolationKind(StrEnum):
    """Ground truth of what must not happen, counted at every physics step in which it is true."""

    IMPORT_OVER_CAP = "import_over_cap"  # kW above the contract; contracts do not clip physics
    EXPORT_OVER_CAP = "export_over_cap"  # kW above the contract
    SOC_OUTSIDE_WINDOW = "soc_outside_window"  # SoC beyond the window by more than SOC_TOLERANCE
    GENSET_BELOW_MIN = (
        "genset_below_min"  # kW missing to p_min while on load (not while loading or unloading)
    )
    GENSET_REVERSE_POWER = "genset_reverse_power"  # kW that the bus drives the engine with
    GENSET_OVER_RATING = "genset_over_rating"  # kW over p_rated_kw, or kVA over s_kva
    PCS_OVER_RATING = "pcs_over_rating"  # kVA over s_kva, or kW over the live limit, while forming
    BUS_DEAD = "bus_dead"  # s without voltage on the site's bus
    POI_VOLTAGE = "poi_voltage"  # pu outside the band by the plant's own P and Q; the POI relay opens
    PV_OVER_FREQUENCY = "pv_over_frequency"  # kW of PV lost because an island had no room for them


@dataclass(frozen=True, slots=True)
class Violation:
    """One limit that was broken in a step, and by how much."""

    kind: ViolationKind
    asset: str
    amount: float  # in `unit`
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantFaults:
    """What goes wrong in this step, by asset id. A fault holds as long as it is given."""

    genset_start_fails: frozenset[str] = frozenset()  # an attempt that ends now fails
    genset_tripped: frozenset[str] = frozenset()  # opens at once and locks out until reset
    genset_reset: frozenset[str] = frozenset()  # somebody acknowledges at the set: locked out -> stopped
    bess_tripped: frozenset[str] = frozenset()  # off; restarts restart_s after the fault has gone
    pv_tripped: frozenset[str] = frozenset()  # off; reconnects reconnect_s after the fault has gone
    bess_limit_ratio: Mapping[str, float] = field(default_factory=dict)  # share of its limits a BESS has left


NO_FAULTS = PlantFaults()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantInput:
    """The world and the setpoints during one step. Mappings are by asset id.

    A missing entry of `bess_p_set_kw` is 0, of `genset_run_request` False, of `genset_p_set_kw` the minimum
    load, of `pv_limit_kw` no limit, of `feeder_close` True. `demand_kw` and `pv_potential_kw` must be whole.
    """

    mains_present: bool
    demand_kw: Mapping[str, float]  # by feeder: what would be drawn if served
    pv_potential_kw: Mapping[str, float]  # AC, before any limit
    mains_v_pu: float = 1.0  # voltage of the source behind the impedance
    mains_f_hz: float | None = None  # None: nominal
    poi_relay: bool = True  # the plant's own relay opens the POI breaker on mains that are not usable
    bess_p_set_kw: Mapping[str, float] = field(default_factory=dict)
    genset_run_request: Mapping[str, bool] = field(default_factory=dict)
    genset_p_set_kw: Mapping[str, float] = field(default_factory=dict)
    pv_limit_kw: Mapping[str, float] = field(default_factory=dict)
    pv_trip_request: frozenset[str] = frozenset()  # plants whose breaker is asked to be open
    feeder_close: Mapping[str, bool] = field(default_factory=dict)
    q_set_kvar: Mapping[str, float] = field(default_factory=dict)  # of converters, given into the bus
    poi_open_request: bool = False  # open the POI breaker in a planned way and keep it open
    poi_close_permit: bool = True  # the synchronising device may close it when the mains have been good
    refuel_l: Mapping[str, float] = field(
        default_factory=dict
    )  # delivered into the tank at the start of the step
    faults: PlantFaults = NO_FAULTS


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantState:
    """Everything the plant remembers from one step to the next. Mappings are by asset id."""

    bess: Mapping[str, BessUnit]
    gensets: Mapping[str, GensetUnit]
    pv: Mapping[str, PvUnit]
    feeders: Mapping[str, FeederSwitch]
    grid_closed: bool  # POI breaker
    mains_good_s: float  # how long the mains have been usable, while the POI breaker is open
    transfer_left_s: float  # rest of the dip between loss of the forming source and the new one
    forming: str | None  # asset id that forms the bus; the grid while tied; None: the bus is dead

    @property
    def bus_alive(self) -> bool:
        """Whether the site's AC bus has a source (also during the dip of a transfer)."""
        return self.forming is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantFlows:
    """What happened in a step: ground truth. Powers are means over the step, states are at its end.

    Sign: positive = into the site's bus; only feeders count demand positive. Mappings are by asset id.
    """

    dt_s: float
    grid_id: str
    bess_p_kw: Mapping[str, float]
    bess_q_kvar: Mapping[str, float]
    bess_soc: Mapping[str, float]
    bess_stored_kwh: Mapping[str, float]
    bess_p_charge_kw_max: Mapping[str, float]  # live limit of the BMS, positive; 0 while the converter is off
    bess_p_discharge_kw_max: Mapping[str, float]
    bess_state: Mapping[str, BessState]
    bess_loss_kw: Mapping[str, float]  # conversion, no-load and self-discharge
    bess_aux_kw: Mapping[str, float]  # drawn from the bus
    genset_p_kw: Mapping[str, float]
    genset_q_kvar: Mapping[str, float]
    genset_state: Mapping[str, GensetState]
    genset_fuel_l_h: Mapping[str, float]
    genset_tank_l: Mapping[str, float]
    genset_run_h: Mapping[str, float]  # hour meter: engine turning by itself
    genset_starts: Mapping[str, int]  # successful starts in this step
    genset_failed_starts: Mapping[str, int]  # failed attempts in this step
    pv_p_kw: Mapping[str, float]
    pv_potential_kw: Mapping[str, float]
    pv_producing: Mapping[str, bool]
    feeder_demand_kw: Mapping[str, float]
    feeder_p_kw: Mapping[str, float]  # served
    feeder_closed: Mapping[str, bool]
    grid_p_kw: float
    grid_q_kvar: float
    grid_closed: bool
    mains_present: bool
    poi_v_pu: float  # mains voltage at the POI
    bus_v_pu: float
    forming: str | None
    dead_s: float  # part of the step without voltage on the bus, the dip of a transfer included
    islanded_s: float  # part of the step fed by another source than the grid
    energy_residual_kwh: float  # what the energy balance fails to close by; zero but for rounding
    violations: tuple[Violation, ...]
    pv_q_kvar: Mapping[str, float] = field(default_factory=dict)
    mains_f_hz: float = 50.0
    nominal_f_hz: float = 50.0

    @property
    def bus_alive(self) -> bool:
        """Whether the bus has voltage at the end of the step."""
        return self.bus_v_pu > 0.0

    @property
    def bus_f_hz(self) -> float:
        """Frequency of the bus [Hz]: that of the mains while tied, nominal in an island, 0 when dead."""
        if not self.bus_alive:
            return 0.0
        return self.mains_f_hz if self.grid_closed else self.nominal_f_hz

    def unserved_kw(self) -> dict[str, float]:
        """By feeder: demand that was not served, mean over the step [kW]."""
        served = self.feeder_p_kw
        return {f: max(0.0, d - served[f]) for f, d in self.feeder_demand_kw.items()}

    def curtailed_kw(self) -> dict[str, float]:
        """By PV asset: potential that was not used, for whatever reason [kW]."""
        used = self.pv_p_kw
        return {p: max(0.0, d - used[p]) for p, d in self.pv_potential_kw.items()}

    def readings(self) -> dict[str, float]:
        """Every read point of `ems.points.POINTS` of every asset, as the devices would measure it."""
        out: dict[str, float] = {}
        for i, p in self.bess_p_kw.items():
            out[f"{i}.p_kw"] = p
            out[f"{i}.q_kvar"] = self.bess_q_kvar[i]
            out[f"{i}.soc"] = self.bess_soc[i]
            out[f"{i}.p_charge_kw_max"] = self.bess_p_charge_kw_max[i]
            out[f"{i}.p_discharge_kw_max"] = self.bess_p_discharge_kw_max[i]
            out[f"{i}.state"] = _BESS_CODE[self.bess_state[i]]
        for i, p in self.genset_p_kw.items():
            out[f"{i}.p_kw"] = p
            out[f"{i}.state"] = _GENSET_CODE[self.genset_state[i]]
            out[f"{i}.fuel_l"] = self.genset_tank_l[i]
            out[f"{i}.run_h"] = self.genset_run_h[i]
        for i, p in self.pv_p_kw.items():
            producing = self.pv_producing[i]
            out[f"{i}.p_kw"] = p
            out[f"{i}.p_available_kw"] = self.pv_potential_kw[i] if producing else 0.0
            out[f"{i}.state"] = 1.0 if producing else 0.0
            out[f"{i}.q_kvar"] = self.pv_q_kvar.get(i, 0.0)
        for i, p in self.feeder_p_kw.items():
            out[f"{i}.p_kw"] = p
            out[f"{i}.closed"] = 1.0 if self.feeder_closed[i] else 0.0
        grid = self.grid_id
        out[f"{grid}.p_kw"] = self.grid_p_kw
        out[f"{grid}.q_kvar"] = self.grid_q_kvar
        out[f"{grid}.v_pu"] = self.poi_v_pu
        out[f"{grid}.f_hz"] = self.mains_f_hz if self.mains_present else 0.0
        out[f"{grid}.breaker_closed"] = 1.0 if self.grid_closed else 0.0
        in_step = self.mains_present and abs(self.mains_f_hz - self.nominal_f_hz) <= SYNC_F_HZ
        out[f"{grid}.sync_ok"] = 1.0 if in_step else 0.0
        out["bus.alive"] = 1.0 if self.bus_alive else 0.0
        out["bus.v_pu"] = self.bus_v_pu
        out["bus.f_hz"] = self.bus_f_hz
        return out


_BESS_CODE = {s: float(s.code) for s in BessState}
_GENSET_CODE = {s: float(s.code) for s in GensetState}
