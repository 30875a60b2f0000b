"""Random plants: any number of each asset, any policy, any tariff, any start; one seed is one problem.

Every option of the site file that the model knows is drawn here with some chance, so that what is proven on
these sites is proven on combinations that nobody thought of.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np

from ems.assets import (
    BessParams,
    BurnOff,
    Exercise,
    FeederParams,
    GensetParams,
    LowLoad,
    PvParams,
    QuietHours,
    Rating,
    ReactivePolicy,
    Sharing,
)  # fmt: skip
from ems.battery_terms import (
    FullCharge,
    RestingSoc,
    SocLimit,
    SocReserve,
    TemperatureLimit,
    Warranty,
)
from ems.condition import BessUse
from ems.contracts import (
    IMPORT,
    CoincidentPeak,
    Contracts,
    CreditBasis,
    DemandResponse,
    EnergyContract,
    ExportCredit,
)  # fmt: skip
from ems.cycle_life import CycleLife
from ems.deferrable import DailyWork, DeferrableParams, WorkWindow
from ems.loss_curve import LossCurve
from ems.poi import CapWindow, FlappingPolicy, TransformerParams
from ems.site import FuelDelivery, GridMode, Maintenance, ReservePolicy, Site
from ems.sources import SourceSets, StrengthPolicy
from ems.tariff import DemandCharge, EnergyBlock, LocalWindow, PowerFactorCharge, Tariff
from ems.timegrid import TimeGrid
from tests import builders
from tests.unit.optimizer.posing import T0, Pose, outage

STEPS_H = (0.25, 0.5, 1.0)
DAYTIME = LocalWindow(
    start_h=4.0, end_h=20.0, weekdays=frozenset(range(8)), months=frozenset(range(1, 13))
)  # T0 is 03:00 in Nairobi
Rng = np.random.Generator


def maybe(rng: Rng, chance: float = 0.5) -> bool:
    return bool(rng.random() < chance)


def random_genset(rng: Rng, k: int) -> GensetParams:
    unit = builders.genset(f"gen{k + 1}", float(rng.integers(8, 50)) * 10.0)
    changes: dict[str, Any] = {
        "start_cost": float(rng.uniform(0.0, 40.0)),
        "running_cost_per_h": float(rng.uniform(0.0, 9.0)),
        "min_up_s": float(rng.choice([0.0, 1800.0, 5400.0])),
        "min_down_s": float(rng.choice([0.0, 900.0, 3600.0])),
    }
    if maybe(rng, 0.3):
        changes |= {"cold_start_cost": changes["start_cost"] + 25.0, "cold_after_s": 3600.0}
    if maybe(rng, 0.3):
        changes["starts_per_day_max"] = int(rng.integers(1, 3))
    if maybe(rng, 0.3):
        changes["quiet"] = (QuietHours(start_h=2.0, end_h=5.0, cost_per_h=8.0),)
    return replace(unit, **changes)


def random_gensets(rng: Rng) -> tuple[GensetParams, ...]:
    """None to three; sometimes two of them alike, so that their order matters."""
    units = [random_genset(rng, k) for k in range(int(rng.integers(0, 4)))]
    if len(units) > 1 and maybe(rng, 0.4):
        units[1] = replace(units[0], id=units[1].id)
    return tuple(units)


def random_bess(rng: Rng, k: int) -> BessParams:
    lossy = maybe(rng)
    power = float(rng.integers(5, 50)) * 10.0
    unit = builders.bess(
        energy_kwh=power * float(rng.uniform(0.5, 4.0)),
        p_charge_kw_max=power,
        p_discharge_kw_max=power * float(rng.uniform(0.6, 1.0)),
        loss_charge_pu=0.017 if lossy else 0.0,
        loss_discharge_pu=0.019 if lossy else 0.0,
        wear_per_kwh=float(rng.uniform(0.0, 0.05)),
        taper_ratio=float(rng.uniform(0.1, 1.0)),
        self_discharge_per_h=float(rng.choice([0.0, 1e-4])),
    )
    pcs = replace(unit.pcs, s_kva=1.1 * power, can_form=maybe(rng, 0.7))
    own = np.random.default_rng([k, int(1e3 * unit.battery.energy_kwh)])  # other draws stay as they were
    return replace(unit, id=f"bess{k + 1}", pcs=pcs, battery=replace(unit.battery, **random_terms(own)))


def random_terms(rng: Rng) -> dict[str, Any]:
    """Wear by depth, reserve, warranty, full charge, tables of power; each with some chance."""
    drawn: dict[str, Any] = {
        "cycle_life": CycleLife(
            depth_ratio=(0.2, 0.6, 0.95),
            cycles_count=(4e4, 8e3, 3e3),
            replacement_cost=float(rng.uniform(1e4, 2e5)),
        ),
        "soc_reserve": (SocReserve(soc=float(rng.uniform(0.2, 0.9))), SocReserve(soc=0.95, local=DAYTIME)),
        "resting": RestingSoc(above_soc=float(rng.uniform(0.3, 0.9)), price_per_kwh=0.003),
        "warranty": Warranty(
            day_kwh_max=float(rng.uniform(10.0, 900.0)), year_kwh_max=5e4, pace_per_kwh=0.02,
            charge_per_h_max=0.3, discharge_per_h_max=float(rng.uniform(0.1, 1.0)), mean_soc_max=0.5,
        ),
        "full_charge": FullCharge(
            interval_s=86400.0 * 3, hold_s=3600.0, late_cost_per_h=float(rng.uniform(1, 20))
        ),
        "derating": (
            TemperatureLimit(temp_degc=0.0, charge_ratio=0.1, discharge_ratio=0.5),
            TemperatureLimit(temp_degc=20.0, charge_ratio=1.0, discharge_ratio=1.0),
        ),
        "power_by_soc": (
            SocLimit(soc=0.05, charge_ratio=0.7, discharge_ratio=0.2),
            SocLimit(soc=0.4, charge_ratio=1.0, discharge_ratio=0.9),
            SocLimit(soc=1.0, charge_ratio=0.3, discharge_ratio=1.0),
        ),
        "charge_curve": LossCurve(p_kw=(0.0, 40.0, 150.0, 600.0), loss_kw=(0.0, 1.0, 5.0, 30.0)),
        "discharge_curve": LossCurve(p_kw=(0.0, 30.0, 90.0, 300.0), loss_kw=(0.0, 2.5, 4.0, 13.0)),  # bent
    }  # fmt: skip
    return {name: value for name, value in drawn.items() if maybe(rng, 0.4)}


def random_bess_now(rng: Rng) -> dict[str, Any]:
    """An open cycle, some use, a full charge that may be due, a temperature."""
    use = BessUse(
        day_kwh=float(rng.uniform(0.0, 500.0)), year_kwh=float(rng.uniform(0.0, 6e4)),
        year_h=500.0, year_soc_h=float(rng.uniform(100.0, 450.0)),
        full_age_h=float(rng.uniform(60.0, 80.0)), full_h=float(rng.uniform(0.0, 1.5)),
    )  # fmt: skip
    turns = (float(rng.uniform(0.5, 1.0)), float(rng.uniform(0.0, 0.5)))
    return {"turns_soc": turns, "use": use, "temp_degc": float(rng.uniform(-5.0, 35.0))}


def random_pv(k: int) -> PvParams:
    return replace(builders.site().pv[0], id=f"pv{k + 1}")


def random_feeders(rng: Rng) -> tuple[FeederParams, ...]:
    out = []
    for k in range(int(rng.integers(1, 5))):
        base = builders.feeders()[min(k, 2)]
        changes: dict[str, Any] = {"p_peak_kw": float(rng.uniform(20.0, 250.0)), "id": f"feeder{k + 1}"}
        changes["power_factor_ratio"] = float(rng.choice([0.85, 0.95, 1.0]))
        out.append(replace(base, **changes))
    return tuple(out)


def random_tariff(rng: Rng) -> Tariff:
    changes: dict[str, Any] = {
        "demand_charge_per_kw": float(rng.choice([0.0, 9.0])),
        "billing_interval_s": float(rng.choice([900.0, 1800.0, 3600.0])),
    }
    charges = (
        DemandCharge(
            name="notified",
            per_kw=4.0,
            windows=(DAYTIME,),
            contracted_kw=90.0,
            contracted_ratio=0.7,
            excess_per_kw=3.0,
        ),
        DemandCharge(
            name="kVA", per_kw=2.0, apparent=True, ratchet_ratio=0.8, past_peaks_kw={"2026-01": 60.0}
        ),
    )
    changes["demand_charges"] = tuple(c for c in charges if maybe(rng, 0.3))
    if maybe(rng, 0.3):
        adds = rng.uniform(0.0, 0.05, 3).tolist()  # inclining, declining, or neither
        ends = (50.0, 90.0, None)
        changes["energy_blocks"] = tuple(
            EnergyBlock(up_to_kwh=end, add_per_kwh=add) for end, add in zip(ends, adds, strict=True)
        )
    return replace(builders.tariff(), **changes)


def random_reserve(rng: Rng) -> ReservePolicy:
    changes: dict[str, Any] = {
        "load_ratio": float(rng.uniform(0.0, 0.3)),
        "pv_ratio": float(rng.uniform(0.0, 0.5)),
        "assumed_outage_h": float(rng.choice([0.5, 2.0])),
    }
    if maybe(rng, 0.4):
        changes["n_minus_1"] = (("genset",), ("bess",), ("genset", "bess"))[int(rng.integers(0, 3))]
        changes |= {"motor_start_kw": 40.0, "load_trip_kw": 30.0}
    if maybe(rng, 0.4):
        changes |= {"survive_h": 2.0, "survive_pv_ratio": 0.2}
        changes["outages_per_month"] = 4.0 if maybe(rng) else None
    if maybe(rng, 0.2):
        changes["running_ratio"] = 1.1
    return replace(builders.site().reserve, **changes)


def random_site(rng: Rng) -> Site:
    gensets = random_gensets(rng)
    bess = tuple(random_bess(rng, k) for k in range(int(rng.integers(0, 3))))
    base = builders.site()
    forming = (*[b.id for b in bess if b.pcs.can_form], *[g.id for g in gensets])
    site = replace(
        base,
        gensets=gensets,
        bess=bess,
        pv=tuple(random_pv(k) for k in range(int(rng.integers(0, 3)))),
        feeders=random_feeders(rng),
        tariff=random_tariff(rng),
        reserve=random_reserve(rng),
        forming=replace(base.forming, islanded=forming),
        grid=replace(
            base.grid,
            p_import_kw_max=float(rng.uniform(100.0, 400.0)),
            p_export_kw_max=float(rng.choice([0.0, 80.0])),
        ),
        diesel_per_l=float(rng.uniform(0.6, 1.6)),
        carbon_per_kg=float(rng.choice([0.0, 0.05])),
        import_co2_kg_per_kwh=0.4,
    )
    for extra in EXTRAS:
        if maybe(rng, 0.35):
            site = extra(rng, site)
    return site


def _maintained(rng: Rng, site: Site) -> Site:
    """A genset that is away for a while."""
    if not site.gensets:
        return site
    at = outage(1, int(rng.integers(1, 4)))
    return replace(site, maintenance=(Maintenance(asset=site.gensets[0].id, start=at.start, end=at.end),))


def with_poi(site: Site, **changes: Any) -> Site:
    return replace(site, grid=replace(site.grid, **changes))


def _reactive(rng: Rng, site: Site) -> Site:
    """Reactive power planned behind a weak or a stiff grid, with and without PV that gives some."""
    low = float(rng.uniform(0.92, 0.98))
    band = ReactivePolicy(
        v_poi_min_pu=low,
        v_poi_max_pu=float(rng.uniform(1.02, 1.08)),
        v_source_pu=float(rng.uniform(low, 1.02)),
        pcs_sides=int(rng.choice([8, 12, 16])),
    )
    pv = tuple(replace(x, s_kva=1.1 * x.p_ac_kw if maybe(rng) else None) for x in site.pv)
    ohm = {"r_ohm": float(rng.choice([0.0, 0.01, 0.06])), "x_ohm": float(rng.choice([0.0, 0.02, 0.08]))}
    return with_poi(replace(site, pv=pv), reactive=band, **ohm)


def _power_factor(rng: Rng, site: Site) -> Site:
    charge = PowerFactorCharge(
        min_ratio=float(rng.uniform(0.85, 0.99)), per_kvarh=float(rng.uniform(0.0, 0.3))
    )
    return replace(site, tariff=replace(site.tariff, power_factor=charge))


def _limited_poi(rng: Rng, site: Site) -> Site:
    """Transformer, ramp, caps in time."""
    price = float(rng.uniform(0.1, 3.0)) if maybe(rng) else None
    local = CapWindow(p_import_kw_max=60.0, p_export_kw_max=0.0, local=DAYTIME)
    at = outage(0, 1)
    dated = CapWindow(p_import_kw_max=30.0, p_export_kw_max=None, start=at.start, end=at.end)
    return with_poi(
        site,
        transformer=TransformerParams(s_kva=float(rng.uniform(60.0, 300.0)), overload_per_kvah=price),
        ramp_kw_s=float(rng.choice([0.01, 0.05, 0.3])),
        caps=tuple(x for x in (local, dated) if maybe(rng)),
    )


def _flapping(rng: Rng, site: Site) -> Site:
    policy = FlappingPolicy(window_h=6.0, growth_ratio=float(rng.uniform(5.0, 40.0)), dwell_s_max=7200.0)
    return with_poi(site, flapping=policy)


def _strong(rng: Rng, site: Site) -> Site:
    policy = StrengthPolicy(
        scr_ratio_min=float(rng.uniform(1.5, 6.0)),
        genset_ratio=float(rng.uniform(1.0, 6.0)),
        s_grid_kva=float(rng.uniform(200.0, 2000.0)) if maybe(rng) else None,
    )
    return with_poi(site, strength=policy)


def _sets(rng: Rng, site: Site) -> Site:
    """Some of the sets that the sources make, in one mode or both."""
    ids = [*[g.id for g in site.gensets], *[b.id for b in site.bess], *[x.id for x in site.pv]]
    every = [tuple(i for k, i in enumerate(ids) if mask >> k & 1) for mask in range(2 ** len(ids))]
    some = [every[int(k)] for k in rng.permutation(len(every))[:6]]
    forming = [x for x in some if set(x) & set(site.forming.islanded)]
    price = float(rng.uniform(1.0, 500.0)) if maybe(rng) else None
    table = SourceSets(
        islanded=tuple(forming), grid_tied=tuple(some) if maybe(rng) else (), unpermitted_cost_per_h=price
    )
    return replace(site, sources=table)


def _secured(rng: Rng, site: Site) -> Site:
    kinds = ("genset", "bess", "pv", "import")
    policy = replace(
        site.reserve,
        n_minus_1=tuple(k for k in kinds[:3] if maybe(rng)),
        n_minus_1_tied=tuple(k for k in kinds if maybe(rng)),
        pv_drop_ratio=float(rng.choice([0.0, 0.6])),
    )
    return replace(site, reserve=policy)


def _low_load(rng: Rng, site: Site) -> Site:
    """Gensets whose low load is priced, budgeted or burnt off."""

    def one(g: GensetParams) -> GensetParams:
        return replace(
            g,
            low_load=LowLoad(
                below_ratio=0.5, price_per_kwh=float(rng.uniform(0.0, 0.1)),
                budget_h=1.0 if maybe(rng) else None, window_h=4.0,
                burn_off=BurnOff(after_h=0.5, for_h=0.5, above_ratio=0.6) if maybe(rng) else None,
            ),
        )  # fmt: skip

    return replace(site, gensets=tuple(one(g) if maybe(rng, 0.7) else g for g in site.gensets))


def _deferrables(rng: Rng, site: Site) -> Site:
    """A pump that runs in one go and a charger that takes any power."""
    work_kwh = float(rng.uniform(10.0, 60.0))
    pump = DeferrableParams(
        id="pump", feeder=site.feeders[0].id, p_kw=40.0, p_min_kw=40.0, unfinished_per_kwh=0.6,
        daily=(DailyWork(start_h=3.0, end_h=6.0, weekdays=frozenset(range(7)), energy_kwh=work_kwh),),
        interruptible=maybe(rng), min_run_s=1800.0,
    )  # fmt: skip
    charger = DeferrableParams(
        id="charger", feeder=site.feeders[-1].id, p_kw=30.0, p_min_kw=0.0, unfinished_per_kwh=0.4,
        dated=(WorkWindow(start=T0 - timedelta(hours=1), end=T0 + timedelta(hours=2), energy_kwh=25.0),),
    )  # fmt: skip
    return replace(site, deferrables=(pump, charger) if maybe(rng) else (charger,))


def _shed_limits(rng: Rng, site: Site) -> Site:
    """Feeders that may be shed only so often and so long."""
    limits: dict[str, Any] = {
        "sheds_per_day_max": 1, "shed_per_day_s_max": 2700.0, "shed_stretch_s_max": 1800.0
    }  # fmt: skip
    chosen = {k: x for k, x in limits.items() if maybe(rng, 0.6)}
    return replace(site, feeders=tuple(replace(f, **chosen) for f in site.feeders))


def _worked(rng: Rng, site: Site) -> Site:
    """Gensets with a prime or standby rating, exercise runs, hours to balance, and load shared alike."""

    def one(g: GensetParams) -> GensetParams:
        return replace(
            g,
            rating=Rating(
                mean_ratio_max=0.7 if maybe(rng) else None, year_h_max=float(rng.choice([1.0, 200.0]))
            ) if maybe(rng) else None,
            exercise=Exercise(every_h=1.0, for_h=0.5, load_ratio=0.5) if maybe(rng) else None,
            balance_per_h=2.0 if maybe(rng) else None,
            sharing=Sharing.PROPORTIONAL if maybe(rng) else g.sharing,
        )  # fmt: skip

    reserve = replace(site.reserve, load_steps=maybe(rng))
    return replace(site, gensets=tuple(one(g) for g in site.gensets), reserve=reserve)


def _supplied(rng: Rng, site: Site) -> Site:
    """Tanks that are filled on the way, have a bottom, and keep hours of the critical load."""
    brought = tuple(
        FuelDelivery(asset=g.id, at=T0 + timedelta(minutes=float(rng.uniform(10, 200))), fuel_l=100.0)
        for g in site.gensets
        if maybe(rng)
    )
    gensets = tuple(replace(g, tank_unusable_l=15.0 if maybe(rng) else 0.0) for g in site.gensets)
    reserve = replace(site.reserve, fuel_h=float(rng.choice([0.0, 2.0])))
    return replace(site, gensets=gensets, deliveries=brought, reserve=reserve)


def _contracted(rng: Rng, site: Site) -> Site:
    """Export by the hour or as a credit, a minimum, a coincident peak, take or pay, an event."""
    event = DemandResponse(
        id="e1", start=T0 + timedelta(minutes=30), end=T0 + timedelta(minutes=90), baseline_kw=200.0,
        committed_kw=80.0, per_kw=1.5, penalty_per_kw=0.5,
    )  # fmt: skip
    peak = CoincidentPeak(name="4CP", per_kw=6.0, windows=(DAYTIME,), window_probability_ratio=0.1)
    bought = EnergyContract(
        name="base", source=IMPORT, per_kwh=0.01, minimum_kwh=300.0, shortfall_per_kwh=0.08
    )  # fmt: skip
    solar = tuple(
        EnergyContract(name=f"ppa {v.id}", source=v.id, per_kwh=0.04, minimum_kwh=50.0) for v in site.pv
    )
    basis = CreditBasis.IMPORT_PRICE if maybe(rng) else CreditBasis.EXPORT_PRICE
    credit = ExportCredit(basis=basis, excess_ratio=float(rng.choice([0.0, 0.5])))
    tariff = replace(
        site.tariff,
        minimum_per_month=200.0 if maybe(rng) else 0.0,
        export_credit=credit if maybe(rng) else None,
        contracts=Contracts(
            coincident_peaks=(peak,) if maybe(rng) else (),
            energy=(bought, *solar) if maybe(rng) else (),
            events=(event,) if maybe(rng) else (),
        ),
    )  # fmt: skip
    return replace(site, tariff=tariff)


WEAK_GRID = (_reactive, _power_factor, _limited_poi, _flapping, _strong, _sets, _secured)
# options that concern a site as a whole
EXTRAS: tuple[Callable[[Rng, Site], Site], ...] = (
    _maintained, *WEAK_GRID, _low_load, _deferrables, _shed_limits,
    _worked, _supplied, _contracted,
)  # fmt: skip


def random_start(rng: Rng, site: Site) -> dict[str, dict[str, Any]]:
    """State of each genset: off for long or short, on for long or short, starting, away, little fuel."""
    kinds: list[dict[str, Any]] = [
        {}, {"age_s": 300.0}, {"on_load": True, "age_s": 600.0}, {"on_load": True, "age_s": 1e5},
        {"starting": True, "ready_in_s": 30.0, "age_s": 4000.0}, {"available": False}, {"fuel_l": 40.0},
    ]  # fmt: skip
    return {g.id: dict(kinds[int(rng.integers(0, len(kinds)))]) for g in site.gensets}


def random_pose(seed: int, steps: int = 6) -> Pose:
    """One problem. Steps of one length; prices may be negative, export may be worth more than import."""
    rng = np.random.default_rng([20260302, seed])
    site = random_site(rng)
    step_h = float(rng.choice(STEPS_H))
    islanded = maybe(rng, 0.3)
    return Pose(
        site=site,
        load_kw={f.id: rng.uniform(0.1, 1.0, steps) * f.p_peak_kw for f in site.feeders},
        pv_kw={p.id: rng.uniform(0.0, 400.0, steps) for p in site.pv},
        import_per_kwh=rng.uniform(-0.05 if maybe(rng, 0.25) else 0.05, 0.4, steps),
        export_per_kwh=float(rng.choice([0.0, 0.04, 0.3])),
        steps=steps,
        step_s=3600.0 * step_h,
        soc=float(rng.uniform(0.05, 0.98)),
        mode=GridMode.ISLANDED if islanded else GridMode.GRID_TIED,
        mains_good=islanded and maybe(rng, 0.3),
        outages=(outage(2, int(rng.integers(2, steps)), 3600.0 * step_h),) if maybe(rng) else (),
        gensets_now=random_start(rng, site),
        bess_now={b.id: random_bess_now(np.random.default_rng([k, seed])) for k, b in enumerate(site.bess)},
        peak_kw=float(rng.uniform(0.0, 200.0)),
        losses_h=tuple(rng.uniform(0.0, 8.0, int(rng.integers(0, 4))).tolist()),
        grid_v_pu=float(rng.uniform(0.9, 1.06)) if maybe(rng) else None,
        grid_p_kw=float(rng.uniform(0.0, site.grid.p_import_kw_max)),
        feeders_open=(site.feeders[-1].id,) if islanded and maybe(rng, 0.3) else (),
    )


def uneven_grid(rng: Rng, steps: int) -> TimeGrid:
    """A grid that begins between two edges of the clock and grows coarser."""
    first = float(rng.choice([120.0, 480.0, 900.0]))
    rest = (*(900.0,) * (steps // 2), *(3600.0,) * (steps - 1 - steps // 2))
    return TimeGrid(start=T0, step_s=(first, *rest))
