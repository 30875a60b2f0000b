"""Problem P, the plant on which speed is measured: 0.8 to 2.5 MW of load behind a 1 MW grid with outages.

PV 3 MWp, battery 2 MW / 4 MWh, by default three identical gensets of 1 MW (minimum load 30 %, start cost,
minimum up 1 h, down 30 min), time-of-use price, demand charge with a peak so far, reserve in every step.
The year is drawn from a seed: an industrial load with weekends, sun with passing clouds, outages on Tuesday
mornings, Thursday evenings and every fifth night. The same `Draw` is posed to this planner, to the textbook
form and to other tools.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby, pairwise

import numpy as np

from ems.assets import (
    BatteryParams,
    BessParams,
    FeederParams,
    GensetParams,
    GridParams,
    PcsParams,
    PvParams,
    Sharing,
)
from ems.condition import BessCondition, GensetCondition, PlantCondition
from ems.forecast import Forecast, ForecastScenario
from ems.outage import OutageNotice
from ems.site import Authority, FormingOrder, GridMode, Hierarchy, ReservePolicy, Site
from ems.tariff import Tariff
from ems.timegrid import FloatArray, TimeGrid

BEGIN = datetime(2026, 6, 1, tzinfo=UTC)  # a Monday, the first of a month
FINE_MIN = 5
PRICES = ((22.0, 0.09), (17.0, 0.26), (7.0, 0.17), (0.0, 0.09))  # from this hour of day on [h, money per kWh]
CRITICAL_SHARE = 0.3
VOLL = {"critical": 20.0, "process": 5.0}
DIESEL_PER_L = 1.2
WEAR_PER_KWH = 0.03
IMPORT_KW, EXPORT_KW, EXPORT_PER_KWH = 1000.0, 300.0, 0.04
DEMAND_PER_KW = 9.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One window and where the plant starts in it. Arrays (T,); `on` and `age_h` by genset."""

    grid: TimeGrid
    load_kw: FloatArray
    pv_kw: FloatArray
    import_per_kwh: FloatArray
    mains: FloatArray  # 1 or 0
    on: tuple[bool, ...]
    age_h: tuple[float, ...]
    soc: float
    peak_kw: float


@lru_cache(maxsize=4)
def year(seed: int) -> dict[str, FloatArray]:
    """Load, PV, price and mains of 372 days in steps of five minutes."""
    rng = np.random.default_rng(seed)
    n = 372 * 24 * 60 // FINE_MIN
    hour = np.arange(n) * FINE_MIN / 60.0
    of_day, day = hour % 24.0, (hour // 24.0).astype(int)
    weekday = day % 7
    shift = 0.5 * (np.tanh(1.6 * (of_day - 6.0)) - np.tanh(1.6 * (of_day - 22.0)))
    load = 950.0 + 1150.0 * shift * np.select([weekday == 6, weekday == 5], [0.13, 0.52], 1.0)
    load -= 120.0 * np.exp(-(((of_day - 12.5) / 0.5) ** 2)) * (weekday < 5)
    load = np.clip(load * (1.0 + _wander(rng, n, 0.97, 0.024)) + 60.0 * rng.standard_normal(n), 800.0, 2500.0)
    season = -23.4 * np.cos(2.0 * np.pi * (day % 365 + 160.0) / 365.0)
    lat, dec, angle = np.radians(18.0), np.radians(season), np.radians(15.0 * (of_day - 12.0))
    height = np.sin(lat) * np.sin(dec) + np.cos(lat) * np.cos(dec) * np.cos(angle)
    clear = rng.beta(4.0, 1.6, 372)[day]
    cloud = clear + 0.6 * (1.0 - clear) * np.tanh(2.0 * _wander(rng, n, 0.95, 0.12))
    pv = 3000.0 * np.clip(np.maximum(height, 0.0) ** 1.15 * np.clip(cloud, 0.08, 1.0), 0.0, 1.0)
    out = (weekday == 1) & (of_day >= 9.0) & (of_day < 13.0)
    out |= (weekday == 3) & (of_day >= 18.0) & (of_day < 22.0)
    out |= (day % 5 == 0) & (of_day >= 2.0) & (of_day < 5.0)
    price = np.select([of_day >= h for h, _ in PRICES], [p for _, p in PRICES])
    return {"load": load, "pv": pv, "price": price, "mains": 1.0 - out}


def _wander(rng: np.random.Generator, n: int, keep: float, spread: float) -> FloatArray:
    """A first-order autoregressive series."""
    out, x = np.empty(n), 0.0
    for i, z in enumerate(rng.standard_normal(n)):
        x = keep * x + spread * z
        out[i] = x
    return out


def draw(
    start_h: int, blocks: tuple[tuple[float, int], ...], gensets: int = 3, seed: int = 7, running: int = 1
) -> Draw:
    """The window from `start_h` hours after the begin of the year; the first `running` gensets are on."""
    grid = TimeGrid.blocks(BEGIN + timedelta(hours=start_h), blocks)
    fine_s = FINE_MIN * 60.0
    edges = np.round((start_h * 3600.0 + grid.offset_s) / fine_s).astype(int)
    rows = {k: np.array([x[a:b].mean() for a, b in pairwise(edges)]) for k, x in year(seed).items()}
    rng = np.random.default_rng([seed, start_h])
    return Draw(
        grid=grid,
        load_kw=rows["load"],
        pv_kw=rows["pv"],
        import_per_kwh=rows["price"],
        mains=(rows["mains"] > 1.0 - 1e-9).astype(np.float64),
        on=tuple(g < running for g in range(gensets)),
        age_h=(5.0,) * gensets,
        soc=float(rng.uniform(0.3, 0.8)),
        peak_kw=float(rng.uniform(300.0, 800.0)),
    )


def genset(name: str, rated_kw: float = 1000.0, worse: float = 0.0) -> GensetParams:
    """A diesel of this rating; `worse` raises its fuel by a share."""
    idle, slope = 0.0845 * rated_kw * (1.0 + worse), 0.246 * (1.0 + worse)
    return GensetParams(
        id=name, p_rated_kw=rated_kw, p_min_kw=0.3 * rated_kw, s_kva=1.25 * rated_kw,
        fuel_kw=(0.0, rated_kw), fuel_l_h=(idle, idle + slope * rated_kw), start_cost=0.06 * rated_kw,
        running_cost_per_h=0.0, min_up_s=3600.0, min_down_s=1800.0, crank_s=25.0, warm_up_s=180.0,
        synchronise_s=20.0, cool_down_s=180.0, ramp_kw_s=rated_kw / 20.0, step_load_kw_max=0.5 * rated_kw,
        overload_ratio=1.1, sharing=Sharing.BASE_LOAD, start_attempts=3, mains_failure_start=True,
        mains_failure_delay_s=120.0, tank_l=40.0 * rated_kw,
    )  # fmt: skip


def fleet(count: int, unlike: bool = False) -> tuple[GensetParams, ...]:
    """`count` gensets, 3 MW together where there are more than three; all alike or each its own size."""
    rated = 1000.0 if count <= 3 else 3000.0 / count
    if not unlike:
        return tuple(genset(f"gen{g}", rated) for g in range(count))
    spread = np.linspace(0.75, 1.25, count) if count > 1 else np.ones(1)
    return tuple(genset(f"gen{g}", rated * float(x), 0.04 * (1.25 - float(x))) for g, x in enumerate(spread))


def battery() -> BessParams:
    """2 MW / 4 MWh with constant efficiencies."""
    params = BatteryParams(
        energy_kwh=4000.0, soc_min=0.1, soc_max=0.95, p_charge_kw_max=2000.0, p_discharge_kw_max=2000.0,
        eta_charge=0.95, eta_discharge=0.95, loss_charge_pu=0.0, loss_discharge_pu=0.0, no_load_loss_kw=0.0,
        aux_kw=0.0, self_discharge_per_h=0.0, soc_taper_low=0.1, soc_taper_high=0.95, taper_ratio=1.0,
        wear_per_kwh=WEAR_PER_KWH,
    )  # fmt: skip
    pcs = PcsParams(s_kva=2500.0, can_form=True, overload_ratio=1.2, overload_s=10.0, restart_s=60.0)
    return BessParams(id="bess", battery=params, pcs=pcs)


def site(gensets: tuple[GensetParams, ...], **reserve: object) -> Site:
    """The plant with these gensets; `reserve` changes its reserve policy."""
    policy = ReservePolicy(
        load_ratio=0.1, pv_ratio=0.25, critical_tier=1, failed_starts=3, shortfall_per_kwh=1.0
    )
    feeders = tuple(
        FeederParams(
            id=name, tier=tier, has_breaker=True, voll_per_kwh=VOLL[name], p_peak_kw=2500.0 * share,
            power_factor_ratio=0.95, restore_dwell_s=60.0,
        )
        for name, tier, share in (("critical", 1, CRITICAL_SHARE), ("process", 2, 1.0 - CRITICAL_SHARE))
    )  # fmt: skip
    return Site(
        name="problem-p", hierarchy=Hierarchy(organisation="", portfolio="", plant="", subsystem_of={}),
        latitude_deg=18.0, longitude_deg=0.0, altitude_m=0.0, timezone="UTC", currency="USD",
        diesel_per_l=DIESEL_PER_L, co2_kg_per_l=2.68,
        grid=GridParams(
            id="grid", p_import_kw_max=IMPORT_KW, p_export_kw_max=EXPORT_KW, v_nominal_v=11000.0, r_ohm=0.0,
            x_ohm=0.0, v_min_pu=0.9, v_max_pu=1.1, transfer_s=0.1, reconnect_dwell_s=60.0,
        ),
        bess=(battery(),),
        gensets=gensets,
        pv=(
            PvParams(
                id="pv", p_dc_kwp=3000.0, p_ac_kw=3000.0, gamma_per_degc=0.0, noct_degc=45.0,
                system_loss_ratio=0.0, tilt_deg=10.0, azimuth_deg=180.0, reconnect_s=60.0,
            ),
        ),
        feeders=feeders,
        tariff=Tariff(
            timezone="UTC", currency="USD", default_import_per_kwh=0.17, windows=(),
            export_per_kwh=EXPORT_PER_KWH, demand_charge_per_kw=DEMAND_PER_KW, billing_interval_s=900.0,
            fixed_per_month=0.0,
        ),
        forming=FormingOrder(grid_tied=("grid",), islanded=("bess", *[g.id for g in gensets])),
        reserve=replace(policy, **reserve),  # type: ignore[arg-type]
        authority=Authority(setpoints={}), outages=(), connections=(),
    )  # fmt: skip


def posed(s: Site, d: Draw) -> tuple[PlantCondition, Forecast]:
    """What the planner is told of a window."""
    at = d.grid.start
    condition = PlantCondition(
        at=at,
        grid_mode=GridMode.GRID_TIED if d.mains[0] else GridMode.ISLANDED,
        forming=None,
        bess={
            b.id: BessCondition(
                available=True, soc=d.soc, p_kw=0.0, p_charge_kw_max=b.battery.p_charge_kw_max,
                p_discharge_kw_max=b.battery.p_discharge_kw_max,
            )
            for b in s.bess
        },
        gensets={
            g.id: GensetCondition(
                available=True, on_load=on, starting=False, ready_in_s=0.0, age_s=3600.0 * age, p_kw=0.0,
                fuel_l=g.tank_l, starts_today=0,
            )
            for g, on, age in zip(s.gensets, d.on, d.age_h, strict=True)
        },
        pv_kw={}, feeder_kw={}, feeder_closed={}, grid_p_kw=0.0, peak_import_kw=d.peak_kw,
        interval_import_kwh=0.0, interval_elapsed_s=0.0,
    )  # fmt: skip
    forecast = Forecast(
        grid=d.grid, issued_at=at, data_cutoff=at, source="problem P",
        load_kw={"critical": CRITICAL_SHARE * d.load_kw, "process": (1.0 - CRITICAL_SHARE) * d.load_kw},
        pv_kw={"pv": d.pv_kw}, import_per_kwh=d.import_per_kwh,
        export_per_kwh=np.full(len(d.grid), EXPORT_PER_KWH), outages=tuple(_outages(d)),
    )  # fmt: skip
    return condition, forecast


def with_scenarios(forecast: Forecast, count: int) -> Forecast:
    """The forecast and `count` - 1 other ways, whose errors grow over the first six hours."""
    rng = np.random.default_rng(11)
    lead = np.minimum(1.0, forecast.grid.offset_s[:-1] / (6.0 * 3600.0))
    out = []
    for k in range(count):
        load, sun = (np.cumsum(rng.standard_normal(len(lead))) for _ in range(2))
        up, bright = (
            1.0 + size * (k > 0) * lead * x / np.abs(x).max() for size, x in ((0.08, load), (0.3, sun))
        )
        out.append(
            ForecastScenario(
                label="expected" if k == 0 else f"way {k}",
                probability_ratio=1.0 / count,
                load_kw={i: x * up for i, x in forecast.load_kw.items()},
                pv_kw={i: np.minimum(3000.0, x * bright) for i, x in forecast.pv_kw.items()},
            )
        )
    return replace(forecast, scenarios=tuple(out), scenario_source="drawn")


def _outages(d: Draw) -> list[OutageNotice]:
    """Runs of steps without mains as notices."""
    edges, out = d.grid.offset_s, []
    for there, run in groupby(range(len(d.mains)), key=lambda t: d.mains[t]):
        steps = list(run)
        if not there:
            begin, end = (timedelta(seconds=float(edges[k])) for k in (steps[0], steps[-1] + 1))
            start = d.grid.start
            notice = OutageNotice(
                id=f"o{steps[0]}", issued_at=start - timedelta(days=1), start=start + begin, end=start + end
            )
            out.append(notice)
    return out
