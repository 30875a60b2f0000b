"""Scenarios: checks at the door, the file they travel in, the synthetic ones, the timeline of cells."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from ems.errors import DataError
from ems.outage import known_outages
from ems.series import UniformSeries
from ems.timegrid import TimeGrid
from sim.checkpoint import fingerprint
from sim.outages import OutageModel, drawn_outages
from sim.perfect import PerfectForecaster
from sim.scenario import FaultEvent, FaultKind, load_scenario, save_scenario
from sim.synthetic import demo_scenario, load_shapes
from sim.timeline import Timeline
from sim.weather import typical_year
from tests.builders import T0, site
from tests.unit.sim.sim_builders import flat, outage, scenario

DAY = date(2026, 3, 18)


# ---- Scenario -----------------------------------------------------------------------------------


def test_scenario_series_too_short_is_refused_with_both_periods():
    base = scenario(6.0)
    with pytest.raises(DataError, match=r"load:critical covers .* not "):
        replace(base, load_kw={**base.load_kw, "critical": flat(1.0, T0, 3.0)})


def test_scenario_series_with_nan_is_refused_with_its_time():
    base = scenario(6.0)
    values = base.pv_kw["pv1"].values.copy()
    values[200] = np.nan
    with pytest.raises(DataError, match=r"pv:pv1 has no value at 2026-03-02 02:00"):
        replace(base, pv_kw={"pv1": replace(base.pv_kw["pv1"], values=values)})


def test_scenario_unknown_feeder_is_refused():
    base = scenario(6.0)
    with pytest.raises(DataError, match="load_kw is given for"):
        replace(base, load_kw={"nobody": flat(1.0, T0 - timedelta(days=2), 99.0)})


def test_save_scenario_loaded_again_is_the_same_run(tmp_path):
    fault = FaultEvent(kind=FaultKind.PV_TRIPS, asset="pv1", start=T0, end=T0 + timedelta(minutes=1))
    swing = replace(outage(4.5, 5.0), v_pu=None, f_hz=48.6, relay=False)
    before = scenario(6.0, mains=(outage(1.0, 2.0), outage(3.0, 4.0, v_pu=0.7), swing), faults=(fault,))
    save_scenario(tmp_path / "run.npz", before)
    after = load_scenario(tmp_path / "run.npz", site())
    assert fingerprint(after) == fingerprint(before)
    assert after.mains == before.mains
    assert after.labels == before.labels
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]


def test_load_scenario_of_another_site_is_refused(tmp_path):
    save_scenario(tmp_path / "run.npz", scenario(1.0))
    with pytest.raises(DataError, match="for site other"):
        load_scenario(tmp_path / "run.npz", replace(site(), name="other"))


# ---- synthetic ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo_day():
    return demo_scenario(site(), DAY, seed=3)


def test_demo_scenario_same_seed_same_run(demo_day):
    assert fingerprint(demo_scenario(site(), DAY, seed=3)) == fingerprint(demo_day)
    assert fingerprint(demo_scenario(site(), DAY, seed=4)) != fingerprint(demo_day)


def test_demo_scenario_has_one_announced_evening_and_one_unannounced_daytime_outage(demo_day):
    told = [e for e in demo_day.mains if e.announced]
    untold = [e for e in demo_day.mains if not e.announced]
    assert len(told) == len(untold) == 1
    assert untold[0].end < told[0].start
    notice = demo_day.notices[-1]
    assert notice.issued_at < demo_day.start
    assert known_outages(demo_day.notices, demo_day.start) == (notice,)
    assert (notice.start, notice.end) == (told[0].start, told[0].end)


def test_demo_scenario_gives_forecasters_28_days_and_the_perfect_one_its_horizon(demo_day):
    assert demo_day.history_start <= demo_day.start - timedelta(days=28)
    forecast = PerfectForecaster(demo_day).forecast(
        TimeGrid.uniform(demo_day.end - timedelta(hours=1), 900.0, 192), demo_day.end
    )
    assert forecast.repairs == ()


def test_demo_scenario_load_stays_between_zero_and_the_feeder_peak(demo_day):
    for feeder in site().feeders:
        values = demo_day.load_kw[feeder.id].values
        assert values.min() > 0.0
        assert values.max() <= feeder.p_peak_kw
        assert values.max() > 0.7 * feeder.p_peak_kw


def test_demo_scenario_says_that_its_load_is_not_measured(demo_day):
    assert "not measured" in demo_day.labels["load"]
    assert "not a measured year" in demo_day.labels["pv"]


def test_demo_scenario_pv_is_dark_at_night_and_within_the_rating(demo_day):
    series = demo_day.pv_kw["pv1"]
    hours = ((np.arange(len(series.values)) * 60.0 + series.start.timestamp()) / 3600.0 + 36.8 / 15.0) % 24.0
    assert series.values[(hours < 4.5) | (hours > 20.0)].max() == 0.0
    assert 50.0 < series.values.max() <= 600.0


def test_typical_year_clear_sky_index_is_plausible():
    year = typical_year()
    assert 0.5 < float(year.clear_sky_ratio.mean()) < 0.9
    assert year.clear_sky_ratio.min() >= 0.0
    assert year.diffuse_ratio.max() <= 1.0


def test_load_shapes_are_whole_and_reach_one():
    shapes = load_shapes()
    assert len(shapes) == 9
    for (_, kind), values in shapes.items():
        assert len(values) == 24
        assert max(values) == 1.0 or kind != "working"


def test_drawn_outages_many_seeds_follow_the_stated_rate_and_limits():
    model = OutageModel(announced_share=0.0)
    found = [drawn_outages(DAY, 30, "Africa/Nairobi", seed, model)[0] for seed in range(200)]
    counts = [len(events) for events in found]
    hours = [(e.end - e.start).total_seconds() / 3600.0 for events in found for e in events]
    assert np.mean(counts) == pytest.approx(4.0 * 30 / 30.4, rel=0.12)
    assert model.duration_h_min <= min(hours)
    assert max(hours) <= model.duration_h_max
    assert np.median(hours) == pytest.approx(model.duration_median_h, rel=0.15)
    assert any(e.v_pu is not None and e.v_pu > 0.0 for events in found for e in events)


def test_drawn_outages_announced_ones_have_a_notice_from_the_day_before():
    events, notices = drawn_outages(DAY, 30, "Africa/Nairobi", 5, OutageModel(unannounced_per_month=0.0))
    assert {e.id for e in events} == {n.id for n in notices}
    assert all(timedelta(hours=20) < n.start - n.issued_at < timedelta(hours=32) for n in notices)


# ---- timeline -----------------------------------------------------------------------------------


def test_timeline_any_cells_hold_the_energy_of_the_series(demo_day):
    start_s = -demo_day.offset_s(demo_day.load_kw["essential"].start)
    n = round(start_s / 60.0)
    truth_kwh = demo_day.load_kw["essential"].values[n : n + 1440].sum() / 60.0
    for coarse_s, fine in ((None, ()), (900.0, ()), (900.0, ((30_000.0, 31_000.0),))):
        timeline = Timeline(demo_day, coarse_s=coarse_s, fine=fine)
        cells = [timeline.cell(i) for i in range(len(timeline))]
        kwh = sum(c.demand_kw["essential"] * (c.end_s - c.start_s) for c in cells) / 3600.0
        assert kwh == pytest.approx(truth_kwh, rel=1e-9)
        assert cells[0].start_s == 0.0
        assert cells[-1].end_s == demo_day.duration_s


def test_timeline_mains_change_on_their_own_second():
    timeline = Timeline(scenario(3.0, mains=(outage(1.001, 2.0), outage(2.5, 2.6, v_pu=0.7))), coarse_s=900.0)
    cells = [timeline.cell(i) for i in range(len(timeline))]
    absent = [(c.start_s, c.end_s) for c in cells if c.mains_v_pu == 0.0]
    low = [(c.start_s, c.end_s) for c in cells if 0.0 < c.mains_v_pu < 1.0]
    assert (round(absent[0][0], 3), absent[-1][1]) == (3603.6, 7200.0)
    assert (low[0][0], low[-1][1]) == (9000.0, 9360.0)


def test_timeline_excursions_of_voltage_up_and_of_frequency():
    low_f = replace(outage(1.0, 2.0), v_pu=None, f_hz=48.6)
    high_v = replace(outage(3.0, 4.0), v_pu=1.2, relay=False)
    base = UniformSeries(start=T0, step_s=3600.0, values=np.full(5, 1.03))
    timeline = Timeline(replace(scenario(5.0, mains=(low_f, high_v)), mains_v_pu=base))
    seen = [timeline.cell(timeline.index_at(3600.0 * h + 1.0)) for h in range(5)]
    assert [c.mains_v_pu for c in seen] == pytest.approx([1.03, 1.03, 1.03, 1.2, 1.03])
    assert [c.mains_f_hz for c in seen] == [None, 48.6, None, None, None]
    assert [c.poi_relay for c in seen] == [True, True, True, False, True]


def test_timeline_prices_are_those_of_the_tariff_at_each_time():
    s = scenario(24.0)
    timeline = Timeline(s)
    for i in range(0, len(timeline), 7):
        cell = timeline.cell(i)
        assert cell.import_per_kwh == s.site.tariff.import_per_kwh(s.at(cell.start_s))
        assert timeline.index_at(cell.start_s) == i


# ---- perfect ------------------------------------------------------------------------------------


def test_perfect_forecast_is_the_truth_and_knows_every_outage():
    s = scenario(
        24.0, mains=(outage(5.0, 6.0),), load_kw={"critical": 1.0, "essential": 2.0, "deferrable": 3.0}
    )
    forecast = PerfectForecaster(s).forecast(TimeGrid.uniform(T0, 900.0, 96), T0)
    assert forecast.load_kw["essential"] == pytest.approx(np.full(96, 2.0))
    assert [(o.start, o.end) for o in forecast.outages] == [(s.mains[0].start, s.mains[0].end)]


def test_perfect_forecast_beyond_the_truth_repeats_its_last_day_and_says_so():
    base = scenario(24.0)
    start = base.pv_kw["pv1"].start
    day = np.arange(96.0)
    series = replace(flat(0.0, start, 0.0), values=np.tile(day, 3))  # ends with the scenario
    s = replace(base, pv_kw={"pv1": series})
    forecast = PerfectForecaster(s).forecast(TimeGrid.uniform(T0 + timedelta(hours=12), 900.0, 192), T0)
    assert forecast.pv_kw["pv1"] == pytest.approx(np.tile(day, 4)[48:240])
    assert "repeated" in forecast.repairs[0]
