"""A run sees inputs as they were issued, and is settled as they were known at last."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from ems.billing import bill
from ems.errors import DataError
from ems.inputs import IMPORT
from ems.kpi import priced_key, settle
from ems.series import UniformSeries
from ems.site import GridMode
from ems.timegrid import TimeGrid
from sim.checkpoint import fingerprint
from sim.harness import (
    COARSE_PLANNER,
    ControllerName,
    Run,
    SimulateOptions,
    forecaster_of,
    measured_in,
    simulate,
)
from sim.period import period_truth
from sim.result import load_result, save_result
from sim.scenario import Scenario, save_scenario
from sim.timeline import Timeline
from sim.told import with_inputs
from tests.builders import T0, site
from tests.unit.forecasting.knowing import Known, outage
from tests.unit.forecasting.test_inputs import one
from tests.unit.sim.sim_builders import scenario

HOUR = timedelta(hours=1)
LAST = T0 + timedelta(days=30)
OPTIONS = SimulateOptions(planner=COARSE_PLANNER, trace_s=900.0)


def plain(hours: float = 6.0) -> Scenario:
    return scenario(hours, plant=replace(site(), inputs=(one("price"),)))


def day_ahead() -> Known:
    """Cheap for two hours, dear for two, then nothing is told."""
    known = Known()
    known.add("price", T0 - 12 * HOUR, T0, {IMPORT: [0.05, 0.05, 0.5, 0.5]})
    return known


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    """Rules by the clock with what was told the day before, and with what was settled a week later too."""
    settled = day_ahead()
    settled.add("price", T0 + timedelta(days=7), T0 + HOUR, {IMPORT: [-0.1, 2.0]})
    out = {}
    for name, known in (("day ahead", day_ahead()), ("settled", settled)):
        out[name] = Run(with_inputs(plain(), known, LAST), ControllerName.RULES_TOU, OPTIONS)
        out[name].go()
    return out


def test_run_decides_on_what_was_issued_by_then_and_is_settled_at_the_last(runs: dict[str, Run]):
    seen, later = runs["day ahead"], runs["settled"]
    bess = [r.world.trace().column("bess1.p_kw") for r in (seen, later)]
    np.testing.assert_array_equal(bess[0], bess[1], err_msg="nobody looks ahead")
    assert bess[0][0] < 0.0 < bess[0][9], "charged in the cheap hours, given back in the dear ones"
    one_, two = seen.world.counters(), later.world.counters()
    assert one_.import_kwh == two.import_kwh
    by_hour = np.array(seen.world.meter.interval_kwh).reshape(-1, 4).sum(axis=1)
    assert two.import_cost - one_.import_cost == pytest.approx(by_hour[1] * -0.15 + by_hour[2] * 1.5)


@pytest.mark.parametrize("name", ["day ahead", "settled"])
def test_money_of_a_run_is_that_of_the_bill_version_by_version(runs: dict[str, Run], name: str):
    run = runs[name]
    told = run.scenario.settled
    assert told is not None
    kw = UniformSeries(start=T0, step_s=900.0, values=np.array(run.world.meter.interval_kwh) * 4.0)
    found = bill(site().tariff, kw, replace(kw, values=kw.values * 0.0), prices=told)
    counters = run.world.counters()
    assert counters.import_cost == pytest.approx(found.energy_cost)
    for rests in found.energy[0].rests_on:
        key = priced_key(IMPORT, rests.version.version)
        assert counters.priced_kwh[key] == pytest.approx(rests.energy_kwh)
        assert counters.priced_money[key] == pytest.approx(rests.amount_money)
    table = settle(run.scenario.site, counters, start=T0)
    assert found.by_rule is not None
    assert table.rule_kwh == pytest.approx(found.by_rule.import_kwh)
    assert table.rule_cost == pytest.approx(found.by_rule.import_cost)
    assert table.rule_kwh > 0.0


def test_result_names_the_versions_on_disk_too(runs: dict[str, Run], tmp_path: Path):
    result = runs["settled"]._result()
    assert result.priced is not None
    assert {v.version for v in result.priced.versions} == {1, 2}
    save_result(tmp_path, result)
    assert load_result(tmp_path).priced == result.priced


def test_planner_in_a_run_sees_no_version_before_its_issue():
    later = day_ahead()
    later.add("price", T0 + 2 * HOUR, T0 + 3 * HOUR, {IMPORT: [9.0]})
    told = with_inputs(plain(), later, LAST)
    run = simulate(replace(told, end=told.at(1800.0)), "mpc", options=OPTIONS)
    assert run.plans.count >= 1
    made = forecaster_of(
        ControllerName.MPC, told, measured_in(told, Run(told, ControllerName.MPC, OPTIONS).samples)
    )
    assert made is not None

    for at, price in ((T0, 0.5), (T0 + 2 * HOUR - timedelta(seconds=1), 0.5), (T0 + 2 * HOUR, 9.0)):
        grid = TimeGrid.uniform(T0 + 3 * HOUR, 900.0, 4)
        assert made().forecast(grid, at).import_per_kwh.tolist() == [price] * 4


def test_outage_that_an_input_announces_is_planned_with_from_its_issue_on():
    plant = replace(site(), inputs=(one("outages"),))
    known = Known()
    known.add("outages", T0 + HOUR, T0, {}, outages=[outage("x", T0 + HOUR, T0 + 4 * HOUR)])
    told = with_inputs(scenario(3.0, plant=plant), known, LAST)
    assert told.settled is None
    run = Run(told, ControllerName.MPC, OPTIONS)
    run.go()
    assert run.plans.plan is not None
    plan, at = run.plans.plan, T0 + 4 * HOUR
    assert plan.issued_at > T0 + HOUR
    modes = dict(zip(plan.grid.starts(), plan.grid_mode, strict=True))
    assert modes[at] is GridMode.ISLANDED
    assert modes[at - HOUR] is GridMode.GRID_TIED


def test_outage_that_is_announced_has_a_new_plan_made_before_the_next_is_due():
    plant = replace(site(), inputs=(one("outages"),))
    known, issued = Known(), T0 + timedelta(minutes=20)
    known.add("outages", issued, T0, {}, outages=[outage("x", issued, T0 + 3 * HOUR)])
    made = []
    for told in (Known(), known):
        run = Run(with_inputs(scenario(0.9, plant=plant), told, LAST), ControllerName.MPC, OPTIONS)
        run.go()
        assert run.turns is not None
        assert run.turns.last is not None
        made.append((len(run.turns.made), run.turns.last.issued_at > issued))
    assert made == [(1, False), (2, True)]


def test_negative_prices_are_negative_in_the_run():
    known = Known()
    known.add("price", T0 - HOUR, T0, {IMPORT: [-0.2] * 6})
    timeline = Timeline(with_inputs(plain(), known, LAST))
    assert {timeline.cell(i).import_per_kwh for i in range(len(timeline))} == {-0.2}


def test_bound_and_perfect_forecast_reckon_with_settled_prices():
    told = with_inputs(plain(4.0), day_ahead(), LAST)
    assert period_truth(told).import_per_kwh[[0, 8]].tolist() == pytest.approx([0.05, 0.5])
    assert period_truth(told).stored_per_kwh == pytest.approx(
        min(site().tariff.import_per_kwh(T0 + h * HOUR) for h in range(4, 28))
        / site().bess[0].battery.eta_charge
    )


def test_inputs_that_cannot_be_used_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="found no inputs in the site file"):
        with_inputs(scenario(), Known(), LAST)
    priced = replace(plain(), import_per_kwh=with_inputs(plain(), Known(), LAST).import_per_kwh)
    with pytest.raises(DataError, match="allowed: one of them"):
        with_inputs(priced, Known(), LAST)
    with pytest.raises(DataError, match="cannot be kept in"):
        save_scenario(tmp_path / "x.npz", with_inputs(plain(), Known(), LAST))


def test_checkpoint_is_of_the_same_versions():
    prints = {fingerprint(plain()), fingerprint(with_inputs(plain(), day_ahead(), LAST))}
    assert len(prints) == 2
