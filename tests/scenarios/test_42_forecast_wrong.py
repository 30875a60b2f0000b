"""A forecast that cannot be, or is not true: refused or repaired by the planner, and harmless at the edge."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from ems.errors import DataError
from ems.plan import PlanLabel
from ems.site import GridMode, Site
from forecasting.from_csv import CsvForecaster
from optimizer import Planner
from sim.faults import Fault
from sim.rig import Rig, RigOptions
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
IMPOSSIBLE: Mapping[str, Change] = {
    "NaN": load(critical=np.array([60.0, NAN, 60.0, 60.0])),
    "infinite": forecast(pv_kw={"pv1": np.full(STEPS, np.inf)}),
    "W for kW": load(critical=np.full(STEPS, 60000.0)),
    "local time for UTC": shifted(3.0),
    "of yesterday": shifted(-24.0),
    "short": load(critical=np.full(STEPS - 1, 60.0)),
    "long": load(critical=np.full(STEPS + 1, 60.0)),
    "a feeder missing": forecast(load_kw={}),
}
REPAIRED: Mapping[str, Change] = {
    "negative load": load(critical=np.array([-3.0, 60.0, 60.0, 60.0])),
    "negative sun": forecast(pv_kw={"pv1": np.full(STEPS, -2.0)}),
    "sun ten times": forecast(pv_kw={"pv1": np.full(STEPS, 1000.0)}),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_forecast_is_refused_and_the_last_good_plan_kept(case: str):
    planner = Planner(SITE, OPTIONS)
    good = planner.plan(POSE.condition(), POSE.forecast(), None, 1)
    assert good.label in WHOLE
    condition, spoilt = IMPOSSIBLE[case](POSE.condition(), POSE.forecast())
    after = planner.plan(condition, spoilt, good, 2)
    assert after.solve.rescue.startswith("input refused: ") or "input refused: " in after.solve.rescue
    assert after.label is PlanLabel.SHIFTED or case in ("local time for UTC", "of yesterday")
    for kept, was in ((after.bess_p_kw, good.bess_p_kw), (after.genset_on, good.genset_on)):
        if after.label is PlanLabel.SHIFTED:
            for asset, values in kept.items():
                np.testing.assert_allclose(values, was[asset][: len(values)], atol=1e-6)


@pytest.mark.parametrize("case", REPAIRED)
def test_repairable_forecast_is_repaired_and_noted(case: str):
    condition, spoilt = REPAIRED[case](POSE.condition(), POSE.forecast())
    plan = Planner(SITE, OPTIONS).plan(condition, spoilt, None, 1)
    clean = Planner(SITE, OPTIONS).plan(POSE.condition(), POSE.forecast(), None, 1)
    assert plan.label in WHOLE
    assert set(plan.notes) - set(clean.notes)
    assert all(min(values) >= 0.0 for values in plan.load_kw.values())
    assert min(plan.pv_p_kw["pv1"]) >= 0.0
    assert max(plan.pv_available_kw["pv1"]) <= SITE.pv[0].p_ac_kw + 1e-6


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


@pytest.mark.parametrize(
    ("kind", "label"), [("forecast_ten_times", PlanLabel.RULES), ("forecast_zero", PlanLabel.OPTIMAL)]
)
def test_forecast_that_is_not_true_harms_nothing(demo: Site, kind: str, label: PlanLabel):
    """Plans for loads that do not come, or for none where some do: nothing is unserved."""
    rig = Rig(
        demo,
        load_kw={"critical": 60.0, "essential": 80.0},
        pv_kw=100.0,
        mains=[(60.0, 150.0)],
        controller="mpc",
        faults=[Fault(kind=kind)],
        options=RigOptions(horizon_s=200.0, soc=0.7),
    ).run(150.0)
    assert rig.plans.plan is not None
    labels = {p.label for _, p in rig.plans.published}
    assert label in labels, labels
    assert rig.after(60.0, lambda row: row.decisions.mode is GridMode.ISLANDED) <= 2.0
    assert rig.unserved_kwh(65.0) == pytest.approx(0.0, abs=1e-9)
