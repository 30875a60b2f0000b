"""Energy counters of a run, and the one place where they become money and key figures."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyCounters:
    """Ground truth of a period, added up at each physics step. Mappings are by asset id."""

    duration_s: float = 0.0
    demand_kwh: Mapping[str, float] = field(default_factory=dict)  # by feeder
    unserved_kwh: Mapping[str, float] = field(default_factory=dict)  # by feeder
    unserved_s: Mapping[str, float] = field(default_factory=dict)  # time with anything unserved, by feeder
    import_kwh: float = 0.0
    export_kwh: float = 0.0
    import_cost: float = 0.0  # energy charge only
    export_revenue: float = 0.0
    pv_potential_kwh: Mapping[str, float] = field(default_factory=dict)
    pv_kwh: Mapping[str, float] = field(default_factory=dict)
    genset_kwh: Mapping[str, float] = field(default_factory=dict)
    fuel_l: Mapping[str, float] = field(default_factory=dict)
    run_h: Mapping[str, float] = field(default_factory=dict)
    starts: Mapping[str, int] = field(default_factory=dict)
    failed_starts: Mapping[str, int] = field(default_factory=dict)
    bess_charge_kwh: Mapping[str, float] = field(default_factory=dict)  # at the AC terminals
    bess_discharge_kwh: Mapping[str, float] = field(default_factory=dict)
    bess_stored_start_kwh: Mapping[str, float] = field(default_factory=dict)
    bess_stored_end_kwh: Mapping[str, float] = field(default_factory=dict)
    loss_kwh: float = 0.0
    peak_import_kw: Mapping[str, float] = field(
        default_factory=dict
    )  # by local month "2026-03": highest billing interval
    violations: Mapping[str, int] = field(default_factory=dict)  # physics steps in violation, by kind
    bus_dead_s: float = 0.0
    islanded_s: float = 0.0
    residual_kwh: float = 0.0  # what the energy balance fails to close by
