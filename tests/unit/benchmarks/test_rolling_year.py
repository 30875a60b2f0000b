"""The year in closed loop lives through an outage that the battery alone cannot carry."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from benchmarks.rolling_deadline import three_gensets
from benchmarks.rolling_year import Watch, run_year, study_of
from benchmarks.year_sites import DEMO, YEAR_L
from ems.series import UniformSeries
from ems.site_schema import load_site
from sim.scenario import MainsEvent, Scenario

START = datetime(2026, 3, 2, tzinfo=UTC)
HOURS = 5


def _evening() -> Scenario:
    """650 kW of load and a battery of 550 kW; no mains in the third and fourth of five hours."""
    site = three_gensets(load_site(DEMO))
    site = replace(
        site,
        gensets=tuple(replace(g, tank_l=YEAR_L) for g in site.gensets),
        grid=replace(site.grid, reconnect_dwell_s=0.0, p_import_kw_max=800.0, r_ohm=1e-6, x_ohm=1e-6),
        tariff=replace(site.tariff, billing_interval_s=3600.0),
    )
    peak_kw = sum(f.p_peak_kw for f in site.feeders)

    def flat(kw: float) -> UniformSeries:
        return UniformSeries(start=START, step_s=3600.0, values=np.full(24 * 4, kw))

    return Scenario(
        name="an outage",
        site=site,
        start=START,
        end=START + timedelta(hours=HOURS),
        load_kw={f.id: flat(650.0 * f.p_peak_kw / peak_kw) for f in site.feeders},
        pv_kw={p.id: flat(0.0) for p in site.pv},
        mains=(
            MainsEvent(
                id="out", start=START + timedelta(hours=2), end=START + timedelta(hours=4), announced=True
            ),
        ),
        soc_start=0.6,
    )


def test_genset_of_the_next_hour_is_asked_for_in_time_to_carry_an_outage():
    """It was asked for when its hour began: the bus was dark for as long as its start sequence takes."""
    scenario = _evening()
    study = study_of("remaining", True, None, 24, 6.0)
    c = run_year(scenario, study, None, Watch(), 1, HOURS)
    assert sum(c.meter.starts.values()) >= 1
    assert c.meter.scalars["islanded_s"] > 7100.0
    assert c.meter.scalars["bus_dead_s"] <= scenario.site.grid.transfer_s + 1e-6
    unserved_kwh = sum(c.meter.unserved_kwh.values())
    assert unserved_kwh <= 650.0 * scenario.site.grid.transfer_s / 3600.0 + 1e-3
