"""The bound of a period: right by hand, and below whatever a controller pays."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from ems.contracts import Contracts, DemandResponse
from ems.errors import DataError
from ems.timegrid import TimeGrid
from optimizer import Planner, PlannerOptions
from optimizer.bound import PeriodTruth, period_bound
from tests import builders
from tests.unit.optimizer.posing import T0, Pose, feeder, ideal_bess, small_genset, small_site


def truth(site, load, pv=(), price=0.2, share=1.0, soc=0.5, step_s=3600.0, **more) -> PeriodTruth:
    T = len(load)
    return PeriodTruth(
        grid=TimeGrid.uniform(T0, step_s, T),
        load_kw={site.feeders[0].id: np.asarray(load, dtype=np.float64)},
        pv_kw={p.id: np.asarray(pv, dtype=np.float64) for p in site.pv},
        import_per_kwh=np.broadcast_to(np.asarray(price, dtype=np.float64), T),
        export_per_kwh=np.zeros(T),
        grid_share=np.broadcast_to(np.asarray(share, dtype=np.float64), T),
        soc_start={b.id: soc for b in site.bess},
        **more,
    )


def test_bound_of_two_hours_is_what_one_works_out_by_hand() -> None:
    """10 kWh at 0.1, then 10 kWh at 0.5: an ideal battery of 10 kWh buys all 20 kWh at 0.1, 2.0 in all."""
    site = small_site(bess=[ideal_bess()], feeders=[feeder("load", 5.0)])
    bound = period_bound(site, truth(site, [10.0, 10.0], price=[0.1, 0.5], soc=0.0, stored_per_kwh=0.0))
    fixed = bound.terms["fixed_cost"]
    assert bound.cost - fixed == pytest.approx(2.0, abs=1e-5)
    assert sum(bound.terms.values()) == pytest.approx(bound.cost, abs=1e-5)
    assert bound.terms["energy_cost"] == pytest.approx(2.0, abs=1e-5)


def test_bound_island_pays_fuel_starts_nothing_it_had_and_loses_the_rest() -> None:
    """150 kW for an hour on one unit of 100 kW at 1 L/kWh and 1.2 a litre: 120 for fuel, 50 kWh lost at 5."""
    site = small_site(gensets=[small_genset(start_cost=7.0)], feeders=[feeder("load", 5.0)], diesel_per_l=1.2)
    bound = period_bound(site, truth(site, [150.0], share=0.0))
    assert bound.terms["diesel_cost"] == pytest.approx(120.0, abs=1e-4)
    assert bound.terms["voll_cost"] == pytest.approx(250.0, abs=1e-4)
    assert bound.terms["start_cost"] == pytest.approx(0.0, abs=1e-6), "it may have been running before"


def test_bound_demand_charge_counts_each_local_month_by_its_share() -> None:
    site = small_site(feeders=[feeder("load", 5.0)], demand_per_kw=10.0)
    hours = 31 * 24
    start = T0.replace(day=1)
    t = replace(truth(site, np.full(hours, 40.0)), grid=TimeGrid.uniform(start, 3600.0, hours))
    bound = period_bound(site, t)
    assert bound.peak_kw == pytest.approx({"2026-03": 40.0}, abs=1e-4)
    assert bound.terms["demand_cost"] == pytest.approx(400.0, abs=1e-3)


def test_bound_takes_an_event_as_delivered_whole() -> None:
    """20 kW below 40 for 3 a kW: no controller earns more than 60. One that ends later is not paid yet."""
    event = DemandResponse(
        id="e1", start=T0, end=T0 + timedelta(hours=1), baseline_kw=40.0, committed_kw=20.0, per_kw=3.0
    )
    later = replace(event, id="e2", end=T0 + timedelta(hours=9))
    site = small_site(feeders=[feeder("load", 5.0)])
    plain = period_bound(site, truth(site, [40.0, 40.0]))
    tariff = replace(site.tariff, contracts=Contracts(events=(event, later)))
    paid = period_bound(replace(site, tariff=tariff), truth(site, [40.0, 40.0]))
    assert paid.cost == pytest.approx(plain.cost - 60.0, abs=1e-5)
    assert paid.terms["extra_cost"] == pytest.approx(-60.0)


def test_bound_is_not_paid_for_energy_that_goes_nowhere() -> None:
    """At -0.1 a kWh a cap of 500 kW is no use to a load of 10 kW: it earns 1, and a free export none."""
    site = small_site(feeders=[feeder("load", 5.0)])
    bound = period_bound(site, truth(site, [10.0], price=-0.1))
    assert bound.terms["energy_cost"] == pytest.approx(-1.0, abs=1e-5)


def test_bound_nan_is_refused_by_name() -> None:
    site = small_site(feeders=[feeder("load", 5.0)])
    with pytest.raises(DataError, match="load of load"):
        period_bound(site, truth(site, [1.0, np.nan]))


def test_bound_is_below_the_cost_of_a_plan_with_perfect_foresight() -> None:
    """The plan's own bill, without what the bound leaves out (wear, reserve), is no lower than the bound."""
    site = builders.site()
    options = PlannerOptions(gap_ratio=1e-4, blocks=((3600.0, 24),), node_limit=None)
    planner = Planner(site, options)
    grid = planner.horizon(T0)
    h = np.arange(24.0)
    load = {f.id: f.p_peak_kw * (0.6 + 0.3 * np.sin((h - 7) / 24 * 2 * np.pi)) for f in site.feeders}
    sun = {"pv1": 500.0 * np.maximum(0.0, np.sin((h - 3.0) / 12.0 * np.pi))}
    price = site.tariff.import_prices(grid)
    pose = Pose(site=site, load_kw=load, pv_kw=sun, import_per_kwh=price, steps=24)
    plan = planner.plan(pose.condition(), pose.forecast(), None, 1)
    # everything the plan pays in cash, its stored energy at the bound's rule
    value = 0.11
    stored = (plan.bess_soc_end["bess1"][-1] - 0.5) * 1000.0
    share = 1.0 / 31.0
    paid = sum(
        plan.cost_terms[k] for k in ("energy_import", "energy_export", "fuel", "start", "running", "unserved")
    )
    peak = max(plan.grid_p_kw)
    paid += site.tariff.demand_charge_per_kw * share * peak - value * stored
    bound = period_bound(
        site,
        PeriodTruth(
            grid=TimeGrid.uniform(T0, 3600.0, 24), load_kw=load, pv_kw=sun, import_per_kwh=price,
            export_per_kwh=np.zeros(24), grid_share=np.ones(24), soc_start={"bess1": 0.5},
            stored_per_kwh=value,
        ),
    )  # fmt: skip
    cash = bound.cost - bound.terms["fixed_cost"]
    assert cash <= paid + 1e-6
    assert cash > 0.7 * paid, "a bound far below is no use"
    assert T0 + timedelta(hours=24) == grid.end
