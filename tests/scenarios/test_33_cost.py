"""33: what 72 h without the line cost: as realised by edge and planner, beside a line that is there."""

import math
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from ems.inputs import IMPORT
from ems.kpi import settle
from sim.harness import COARSE_PLANNER, SimulateOptions, simulate
from sim.result import RunResult
from sim.scenario import Scenario
from sim.told import with_inputs
from tests.builders import T0, site
from tests.unit.forecasting.knowing import Known
from tests.unit.forecasting.test_inputs import one
from tests.unit.sim.sim_builders import scenario

pytestmark = pytest.mark.scenario(33, left="what 72 h without the line cost is asked by `make soak` alone")
HOUR, DAYS = timedelta(hours=1), 3
LOCAL_H = 3.0  # of the site, before UTC
OPTIONS = SimulateOptions(planner=COARSE_PLANNER, replan_s=7200.0, trace_s=900.0)


def told(until: datetime) -> Known:
    """Each noon the prices of the day that follows, until the line is lost.

    They are those of the tariff: with the line and without, the forecast is the same.
    """
    known, tariff = Known(), site().tariff
    for day in range(-1, DAYS + 1):
        issued = T0 + (24 * day + 12) * HOUR
        if issued < until:
            start = issued + 12 * HOUR
            prices = [tariff.import_per_kwh(start + n * HOUR) for n in range(24)]
            known.add("price", issued, start, {IMPORT: prices})
    return known


def days() -> Scenario:
    """Three days of sun, and of load that has its peak in the dear hours of the evening."""
    made = scenario(24.0 * DAYS, plant=replace(site(), inputs=(one("price"),)))
    first = made.pv_kw["pv1"]
    hours = (np.arange(len(first.values)) * first.step_s / 3600.0 + LOCAL_H) % 24.0
    sun_kw = 300.0 * np.maximum(0.0, np.sin(math.pi * (hours - 6.0) / 12.0))
    evening = np.where((hours >= 18.0) & (hours < 22.0), 1.8, 1.0)
    load = {f: replace(x, values=x.values * evening) for f, x in made.load_kw.items()}
    return replace(made, load_kw=load, pv_kw={"pv1": replace(first, values=sun_kw)})


def run(controller: str, until: datetime) -> RunResult:
    return simulate(with_inputs(days(), told(until), T0 + timedelta(days=30)), controller, options=OPTIONS)


def cost(result: RunResult) -> float:
    return settle(site(), result.counters, start=T0).total_cost


@pytest.mark.soak
def test_72_h_without_the_line_cost_no_more_than_a_hundredth():
    online, lost = run("mpc", T0 + timedelta(days=30)), run("mpc", T0)
    assert lost.plans.count >= online.plans.count >= 30
    assert lost.priced is not None
    assert online.priced is not None
    assert len(lost.priced.versions) < len(online.priced.versions), "nothing came in those days"
    assert cost(lost) <= 1.01 * cost(online)
    assert cost(run("rules", T0)) > 1.01 * cost(online), "a hundredth is a difference that plans make"
