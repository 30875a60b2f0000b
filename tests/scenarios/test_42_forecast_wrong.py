"""A forecast that cannot be, or is not true: refused or repaired by the planner, and harmless at the edge."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ems.condition import PlantCondition
from ems.errors import DataError
from ems.forecast import Forecast
from ems.plan import PlanLabel
from ems.site import GridMode, Site
from forecasting.from_csv import CsvForecaster
from optimizer import Planner, planning_problem
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from sim.rig_scenario import Power
from tests.unit.optimizer.test_bad_input import (
    NAN,
    OPTIONS,
    POSE,
    SITE,
    Change,
    forecast,
    load,
    shifted,
)

pytestmark = pytest.mark.scenario(42)
STEPS = 4
WHOLE = (PlanLabel.OPTIMAL, PlanLabel.INCUMBENT)
MEASURED = {"critical": 60.0, "essential": 100.0, "deferrable": 20.0}


def now(condition: PlantCondition, share: float = 1.0) -> PlantCondition:
    """Measured is what an honest forecast begins with, or a share of it."""
    kw = {f: share * v for f, v in MEASURED.items()}
    return replace(condition, feeder_kw=kw, pv_kw={"pv1": share * 100.0})


def loads(factor: float, now: float | None = None) -> Change:
    """All loads by one factor; `now`: measured, and foreseen but for the mistake, as a share of the peaks."""

    def change(c: PlantCondition, f: Forecast) -> tuple[PlantCondition, Forecast]:
        kw = MEASURED if now is None else {x.id: now * x.p_peak_kw for x in SITE.feeders}
        load_kw = {a: np.full(STEPS, factor * v) for a, v in kw.items()}
        return replace(c, feeder_kw=kw), replace(f, load_kw=load_kw)

    return change


IMPOSSIBLE: Mapping[str, Change] = {
    "NaN": load(critical=np.array([60.0, NAN, 60.0, 60.0])),
    "infinite": forecast(pv_kw={"pv1": np.full(STEPS, np.inf)}),
    "infinite load": load(essential=np.array([100.0, -np.inf, 100.0, 100.0])),
    "W for kW": load(critical=np.full(STEPS, 60000.0)),
    "sun in W": forecast(pv_kw={"pv1": np.full(STEPS, 100e3)}),
    "one load ten times": load(critical=np.full(STEPS, 600.0)),
    "all loads ten times": loads(10.0),
    "all loads ten times, at night": loads(10.0, now=0.06),
    "all loads a tenth": loads(0.1, now=1.0),
    "sun ten times": forecast(pv_kw={"pv1": np.full(STEPS, 1000.0)}),
    "no sun while some is measured": forecast(pv_kw={"pv1": np.zeros(STEPS)}),
    "local time for UTC": shifted(3.0),
    "of yesterday": shifted(-24.0),
    "short": load(critical=np.full(STEPS - 1, 60.0)),
    "long": load(critical=np.full(STEPS + 1, 60.0)),
    "a feeder missing": forecast(load_kw={}),
}
REPAIRED: Mapping[str, Change] = {
    "negative load": load(critical=np.array([-3.0, 60.0, 60.0, 60.0])),
    "negative sun": forecast(pv_kw={"pv1": np.array([100.0, 60.0, 0.0, -2.0])}),
    "sun above the rating": forecast(pv_kw={"pv1": np.full(STEPS, 650.0)}),
    "no load of a feeder": load(essential=np.zeros(STEPS)),
    "no load at all": loads(0.0),
    "one load ten times what is measured": load(deferrable=np.full(STEPS, 200.0)),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_forecast_is_refused_and_the_last_good_plan_kept(case: str):
    """Whatever it is: refused by name with what is allowed, and the plan before goes on, shifted."""
    planner = Planner(SITE, OPTIONS)
    good = planner.plan(now(POSE.condition()), POSE.forecast(), None, 1)
    assert good.label in WHOLE
    condition, spoilt = IMPOSSIBLE[case](now(POSE.condition()), POSE.forecast())
    after = planner.plan(condition, spoilt, good, 2)
    assert f"{good.plan_id}: input refused: forecast " in after.solve.rescue
    assert after.label is PlanLabel.SHIFTED
    for kept, was in ((after.bess_p_kw, good.bess_p_kw), (after.genset_on, good.genset_on)):
        for asset, values in kept.items():
            np.testing.assert_allclose(values, was[asset][: len(values)], atol=1e-6)


@pytest.mark.parametrize("case", REPAIRED)
def test_repairable_forecast_is_repaired_and_noted(case: str):
    condition, spoilt = REPAIRED[case](now(POSE.condition()), POSE.forecast())
    plan = Planner(SITE, OPTIONS).plan(condition, spoilt, None, 1)
    clean = Planner(SITE, OPTIONS).plan(now(POSE.condition()), POSE.forecast(), None, 1)
    assert plan.label in WHOLE
    assert set(plan.notes) - set(clean.notes)
    assert all(min(values) >= 0.0 for values in plan.load_kw.values())
    if case.startswith("no load"):
        repaired = MEASURED if case == "no load at all" else {"essential": 100.0}
        assert {f: set(np.round(plan.load_kw[f], 6)) for f in repaired} == {
            f: {kw} for f, kw in repaired.items()
        }
    assert min(plan.pv_p_kw["pv1"]) >= 0.0
    assert max(plan.pv_available_kw["pv1"]) <= SITE.pv[0].p_ac_kw + 1e-6


HONEST: Mapping[str, Change] = {
    "as measured": lambda c, f: (now(c), f),
    "nothing is measured": lambda c, f: (c, f),
    "the morning begins: three times what is measured": lambda c, f: (now(c, 0.33), f),
    "the shift ends: a third": lambda c, f: (now(c, 3.0), f),
    "one feeder was switched on a moment ago": lambda c, f: (
        replace(now(c), feeder_kw={**MEASURED, "essential": 13.0}), f,
    ),
    "hardly anything is measured": lambda c, f: (now(c, 0.04), f),
    "a feeder is open": lambda c, f: (
        replace(now(c), feeder_kw={**MEASURED, "essential": 0.0}, feeder_closed={"essential": False}), f,
    ),
    "night": lambda c, f: (replace(now(c), pv_kw={"pv1": 0.0}), replace(f, pv_kw={"pv1": np.zeros(STEPS)})),
    "dusk": lambda c, f: (replace(now(c), pv_kw={"pv1": 25.0}), replace(f, pv_kw={"pv1": np.zeros(STEPS)})),
    "a peak that is higher than the site file knows": lambda c, f: (
        replace(now(c), feeder_kw={**MEASURED, "critical": 250.0}),
        replace(f, load_kw={**f.load_kw, "critical": np.full(STEPS, 260.0)}),
    ),
    "PV that is curtailed now": lambda c, f: (replace(now(c), pv_kw={"pv1": 5.0}), f),
}  # fmt: skip


@pytest.mark.parametrize("case", HONEST)
def test_honest_forecast_is_neither_refused_nor_repaired(case: str):
    condition, honest = HONEST[case](POSE.condition(), POSE.forecast())
    problem = planning_problem(SITE, condition, honest, OPTIONS)
    noted = [n for n in problem.notes if "foreseen" in n]
    told = ["essential: ten times what is measured now is foreseen: another unit?"]
    assert noted == (told if case.startswith("one feeder") else [])
    np.testing.assert_allclose(problem.load_kw, [honest.load_kw[f.id] for f in SITE.feeders])


FULL = {"critical": 130.0, "essential": 200.0, "deferrable": 80.0}
HEAD = "time,load.critical,load.essential,load.deferrable,pv.pv1\n"


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (("06:00", "06:30", "06:15", "06:45"), "06:15"),
        (("06:00", "06:15", "06:15", "06:30"), "06:15"),
        (("06:00", "06:15", "06:45", "07:00"), "1 values missing"),
    ],
)
def test_file_whose_steps_are_out_of_order_double_or_missing_is_refused_with_its_line(
    tmp_path: Path, steps: tuple[str, ...], says: str
):
    file = tmp_path / "forecast.csv"
    file.write_text(HEAD + "".join(f"2026-03-02T{t}:00Z,60,100,20,0\n" for t in steps))
    with pytest.raises(DataError, match=rf"forecast\.csv:\d.*{says}"):
        CsvForecaster(SITE, file)


@pytest.mark.parametrize("kind", ["forecast_ten_times", "forecast_zero"])
def test_forecast_that_is_not_true_is_refused_or_repaired_and_harms_nothing(demo: Site, kind: str):
    """Loads ten times as high are refused, and the plan before goes on; none at all are taken as measured."""
    rig = Rig(
        demo,
        load_kw={"critical": 60.0, "essential": 80.0},
        pv_kw=100.0,
        mains=[(2060.0, 2150.0)],
        controller="mpc",
        faults=[Fault(kind=kind, from_s=900.0)],
        options=RigOptions(horizon_s=2400.0, soc=0.7),
    ).run(2150.0)
    first, *after = [p for _, p in rig.plans.published]
    assert first.label in WHOLE
    assert after
    for plan in after:
        if kind == "forecast_ten_times":
            assert "input refused: forecast load_kw" in plan.solve.rescue
            assert plan.label in (PlanLabel.SHIFTED, PlanLabel.RULES)  # the rules once the mains are lost
        else:
            assert plan.label in WHOLE
            assert sum("no load at all is foreseen" in n for n in plan.notes) == 3
            assert plan.load_kw["critical"][0] == pytest.approx(60.0, abs=3.0)
    assert after[0].load_kw["critical"][0] == pytest.approx(60.0, abs=3.0), "the last good one is kept"
    assert rig.after(2060.0, lambda row: row.decisions.mode is GridMode.ISLANDED) <= 2.0
    assert rig.unserved_kwh(2065.0) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.soak
def test_forecast_that_is_true_is_never_refused_while_load_and_sun_step(demo: Site):
    """All loads go to a sixth and back, foreseen, with an outage between; nothing is doubted."""

    def stepping(kw: float) -> Power:
        return lambda t_s: kw / 6.0 if 1500.0 <= t_s < 3000.0 else kw

    rig = Rig(
        demo,
        load_kw={f: stepping(kw) for f, kw in FULL.items()},
        pv_kw=lambda t_s: 300.0 if t_s < 1700.0 else 0.0,
        mains=[(2000.0, 2600.0)],
        controller="mpc",
        options=RigOptions(horizon_s=3700.0, soc=0.7, keep=10),
    ).run(3700.0)
    plans = [p for _, p in rig.plans.published]
    assert len(plans) >= 3
    assert not [p.solve.rescue for p in plans if "input refused" in p.solve.rescue]
    assert not [n for p in plans for n in p.notes if "foreseen" in n]
