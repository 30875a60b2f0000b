"""Every sentence about a plan of the demo's plant, on several days, checked by counterfactual.

Forecasts are those of the site's own history, made where the plan is made; the plant's condition is drawn:
state of charge, peak so far, an island nobody announced, a genset on load or away, little fuel.
"""

import random
from dataclasses import replace
from datetime import date, timedelta

import pytest

from cli._sites import find_site
from ems.condition import BessCondition, GensetCondition, PlantCondition
from ems.outage import known_outages
from ems.site import GridMode, Site
from ems.site_schema import load_site
from forecasting.history import HistoryForecaster
from optimizer import Planner, PlannerOptions
from optimizer.explain import Posed, explain
from sim.synthetic import demo_scenario
from tests.unit.optimizer.explanation_check import Checked, Checker

pytestmark = pytest.mark.timeout(600)  # a busy machine: some 20 s of CPU each
SITE = load_site(find_site("demo"))
FIRST = date(2026, 3, 18)
OPTIONS = PlannerOptions()


def condition(site: Site, rng: random.Random, plain: bool) -> PlantCondition:
    """Grid-tied and well, or drawn."""
    islanded = not plain and rng.random() < 0.3
    running = None if plain else rng.choice([None, None, "gen1", "gen2"])
    away = None if plain else rng.choice([None, None, "gen1", "gen2"])
    if away == running:
        away = None
    gensets = {
        g.id: GensetCondition(
            available=g.id != away, on_load=g.id == running, starting=False, ready_in_s=0.0, age_s=1e5,
            p_kw=0.0, fuel_l=g.tank_l if plain else rng.choice([g.tank_l, 60.0]), starts_today=0,
        )
        for g in site.gensets
    }  # fmt: skip
    bess = {
        b.id: BessCondition(
            available=True, soc=0.6 if plain else rng.uniform(0.12, 0.95), p_kw=0.0,
            p_charge_kw_max=b.battery.p_charge_kw_max, p_discharge_kw_max=b.battery.p_discharge_kw_max,
        )
        for b in site.bess
    }  # fmt: skip
    return PlantCondition(
        at=demo_start(0), grid_mode=GridMode.ISLANDED if islanded else GridMode.GRID_TIED, forming=None,
        bess=bess, gensets=gensets, pv_kw={}, feeder_kw={},
        feeder_closed=dict.fromkeys((f.id for f in site.feeders), True), grid_p_kw=None,
        peak_import_kw=300.0 if plain else rng.choice([0.0, 200.0, 400.0]),
        interval_import_kwh=0.0, interval_elapsed_s=0.0,
    )  # fmt: skip


def demo_start(day: int):
    return demo_scenario(SITE, FIRST + timedelta(days=day), seed=11 + day).start


def checked(day: int, hour: float, plain: bool) -> Checked:
    scenario = demo_scenario(SITE, FIRST + timedelta(days=day), seed=11 + day)
    at = scenario.start + timedelta(hours=hour)
    forecaster = HistoryForecaster(
        SITE, load=dict(scenario.load_kw), pv=dict(scenario.pv_kw), notices=scenario.notices
    )
    now = replace(condition(SITE, random.Random(day), plain), at=at)
    planner = Planner(SITE, OPTIONS)
    forecast = forecaster.forecast(planner.horizon(at, known_outages(scenario.notices, at), now), at)
    plan = planner.plan(now, forecast, None, 1)
    assert plan.solve.rescue == "none", plan.solve.rescue
    posed = Posed(site=SITE, condition=now, forecast=forecast, options=OPTIONS)
    explanation = explain(posed, plan)
    done = Checker(posed, plan, explanation).run()
    print(f"day {day}: {len(explanation.setpoints)} setpoints, {done.held}, {explanation.took_s:.1f} s")
    assert not done.false, "\n".join(done.false)
    assert len(explanation.setpoints) >= 8 * 48  # every power of at least a day of steps
    return done


LONG = pytest.mark.soak


@pytest.mark.parametrize(
    ("day", "hour"), [pytest.param(0, 0.0, marks=LONG), (1, 8.0), pytest.param(2, 16.0, marks=LONG)]
)
def test_explain_a_day_of_the_demo_no_sentence_is_false(day: int, hour: float):
    done = checked(day, hour, plain=True)
    assert sum(done.held.values()) > 1000
    assert done.held["reason"] > 20


@pytest.mark.soak
@pytest.mark.parametrize("day", range(30))
def test_explain_thirty_days_no_sentence_is_false(day: int):
    checked(day, (7.0 * day) % 24.0, plain=day % 3 == 0)
