"""Poses small problems: a site of few assets, its condition and a forecast, straight from numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from ems.assets import BessParams, FeederParams, GensetParams, PvParams
from ems.condition import BessCondition, GensetCondition, PlantCondition
from ems.forecast import Forecast
from ems.outage import OutageNotice
from ems.plan import Plan
from ems.site import GridMode, Site
from ems.timegrid import TimeGrid
from optimizer import Formulation, Planner, PlannerOptions
from optimizer.formulation import Shedding
from optimizer.options import DemandWeight
from tests import builders

T0 = builders.T0
PLAIN = Formulation(reserve=False, soc_tapers=False, tie_break_ratio=0.0, shedding=Shedding.MEAN)
EXACT = PlannerOptions(
    gap_ratio=0.0,
    node_limit=None,
    demand_weight=DemandWeight.FULL,
    terminal_per_kwh=(0.0, 0.0, 0.0),
    formulation=PLAIN,
)


def small_genset(genset_id: str = "gen1", **changes: Any) -> GensetParams:
    """Linear fuel of 1 L/kWh, 30..100 kW, no delay, no start cost, no minimum times."""
    values: dict[str, Any] = {
        "p_rated_kw": 100.0, "p_min_kw": 30.0, "fuel_kw": (0.0, 100.0), "fuel_l_h": (0.0, 100.0),
        "start_cost": 0.0,
        "running_cost_per_h": 0.0, "min_up_s": 0.0, "min_down_s": 0.0, "crank_s": 0.0, "warm_up_s": 0.0,
        "synchronise_s": 0.0, "tank_l": 1e6,
    }  # fmt: skip
    return replace(builders.genset(genset_id), **(values | changes))


def ideal_bess(**changes: Any) -> BessParams:
    """Without losses, tapers, auxiliaries and wear; the whole capacity is usable."""
    values = {
        "energy_kwh": 10.0, "soc_min": 0.0, "soc_max": 1.0, "p_charge_kw_max": 10.0,
        "p_discharge_kw_max": 10.0,
        "eta_charge": 1.0, "eta_discharge": 1.0, "loss_charge_pu": 0.0, "loss_discharge_pu": 0.0,
        "no_load_loss_kw": 0.0, "aux_kw": 0.0, "self_discharge_per_h": 0.0, "soc_taper_low": 0.0,
        "soc_taper_high": 1.0, "taper_ratio": 1.0, "wear_per_kwh": 0.0,
    }  # fmt: skip
    bess = builders.bess(**(values | changes))
    return replace(bess, pcs=replace(bess.pcs, s_kva=1e4))


def feeder(feeder_id: str, voll: float, tier: int = 2, peak_kw: float = 100.0) -> FeederParams:
    return FeederParams(
        id=feeder_id, tier=tier, has_breaker=True, voll_per_kwh=voll, p_peak_kw=peak_kw,
        power_factor_ratio=1.0, restore_dwell_s=0.0,
    )  # fmt: skip


def small_site(
    *,
    bess: Sequence[BessParams] = (),
    gensets: Sequence[GensetParams] = (),
    pv: Sequence[PvParams] = (),
    feeders: Sequence[FeederParams] = (),
    import_kw: float = 1000.0,
    export_kw: float = 0.0,
    diesel_per_l: float = 1.0,
    demand_per_kw: float = 0.0,
    billing_s: float = 3600.0,
) -> Site:
    """A site of these assets alone."""
    site = builders.site()
    ids = (*[b.id for b in bess], *[g.id for g in gensets])
    return replace(
        site,
        bess=tuple(bess),
        gensets=tuple(gensets),
        pv=tuple(pv),
        feeders=tuple(feeders),
        diesel_per_l=diesel_per_l,
        grid=replace(site.grid, p_import_kw_max=import_kw, p_export_kw_max=export_kw),
        tariff=replace(
            site.tariff, demand_charge_per_kw=demand_per_kw, billing_interval_s=billing_s, timezone="UTC"
        ),
        forming=replace(site.forming, islanded=ids),
        reserve=replace(site.reserve, assumed_outage_h=1000.0),
    )


def outage(first: int, last: int, step_s: float = 3600.0) -> OutageNotice:
    """Announced window over steps first..last inclusive."""
    return OutageNotice(
        id=f"o{first}", issued_at=T0 - timedelta(days=1), start=T0 + timedelta(seconds=first * step_s),
        end=T0 + timedelta(seconds=(last + 1) * step_s),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Pose:
    """A problem: hourly, and every unit off for long, unless said otherwise."""

    site: Site
    load_kw: Mapping[str, Any] = field(default_factory=dict)  # (T,) or one number
    pv_kw: Mapping[str, Any] = field(default_factory=dict)
    import_per_kwh: Any = 0.1
    export_per_kwh: Any = 0.0
    steps: int = 4
    step_s: float = 3600.0
    soc: float = 0.5
    bess_now: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mode: GridMode = GridMode.GRID_TIED
    outages: tuple[OutageNotice, ...] = ()
    gensets_now: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    peak_kw: float = 0.0
    mains_good: bool = False
    losses_h: tuple[float, ...] = ()  # when the mains were lost, in hours before
    grid_v_pu: float | None = None
    grid_p_kw: float = 0.0
    grid_q_kvar: float | None = None
    feeders_open: tuple[str, ...] = ()
    at: datetime = T0

    def _above_peak(self) -> dict[str, float]:
        """Feeders posed with more than twice their peak take it now: it is no mistake."""
        posed = {f.id: np.nan_to_num(self.load_kw.get(f.id, [0.0])) for f in self.site.feeders}
        most = {f: float(np.max(kw)) for f, kw in posed.items()}
        return {f.id: most[f.id] for f in self.site.feeders if most[f.id] > 2.0 * f.p_peak_kw}

    def condition(self) -> PlantCondition:
        gensets = {}
        for g in self.site.gensets:
            values: dict[str, Any] = {
                "available": True, "on_load": False, "starting": False, "ready_in_s": 0.0, "age_s": 1e6,
                "p_kw": 0.0,
                "fuel_l": None, "starts_today": 0,
            }  # fmt: skip
            gensets[g.id] = GensetCondition(**(values | dict(self.gensets_now.get(g.id, {}))))
        return PlantCondition(
            at=self.at,
            grid_mode=self.mode,
            forming=None,
            bess={b.id: self._bess(b) for b in self.site.bess},
            gensets=gensets,
            pv_kw={},
            feeder_kw=self._above_peak(),
            feeder_closed={f.id: f.id not in self.feeders_open for f in self.site.feeders},
            grid_p_kw=self.grid_p_kw,
            grid_q_kvar=self.grid_q_kvar,
            grid_v_pu=self.grid_v_pu,
            peak_import_kw=self.peak_kw,
            interval_import_kwh=0.0,
            interval_elapsed_s=0.0,
            grid_losses=tuple(self.at - timedelta(hours=h) for h in self.losses_h),
            mains_good=self.mains_good,
        )  # fmt: skip

    def _bess(self, b: BessParams) -> BessCondition:
        values: dict[str, Any] = {
            "available": True, "soc": self.soc, "p_kw": 0.0, "p_charge_kw_max": b.battery.p_charge_kw_max,
            "p_discharge_kw_max": b.battery.p_discharge_kw_max,
        }  # fmt: skip
        return BessCondition(**(values | dict(self.bess_now.get(b.id, {}))))

    def forecast(self) -> Forecast:
        def row(x: Any) -> np.ndarray:
            return np.broadcast_to(np.asarray(x, dtype=np.float64), self.steps).copy()

        return Forecast(
            grid=TimeGrid.uniform(self.at, self.step_s, self.steps),
            issued_at=self.at,
            data_cutoff=self.at,
            source="test",
            load_kw={f.id: row(self.load_kw.get(f.id, 0.0)) for f in self.site.feeders},
            pv_kw={p.id: row(self.pv_kw.get(p.id, 0.0)) for p in self.site.pv},
            import_per_kwh=row(self.import_per_kwh),
            export_per_kwh=row(self.export_per_kwh),
            outages=self.outages,
        )

    def plan(self, options: PlannerOptions = EXACT) -> Plan:
        """Solved, replayed and published; anything but a fresh plan is a failure."""
        plan = Planner(self.site, options).plan(self.condition(), self.forecast(), None, 1)
        assert plan.solve.rescue == "none", plan.solve.rescue
        return plan


def objective(plan: Plan) -> float:
    assert plan.solve.objective is not None
    return plan.solve.objective
