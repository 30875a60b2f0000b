"""Bad input case by case: refused with its name, or taken otherwise by a rule that is in the plan's notes."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from ems.condition import PlantCondition
from ems.errors import DataError
from ems.forecast import Forecast
from ems.plan import PlanLabel
from ems.timegrid import TimeGrid
from optimizer import Planner, PlannerOptions
from optimizer.intake import planning_problem
from tests import builders
from tests.unit.optimizer.posing import Pose

OPTIONS = PlannerOptions(gap_ratio=0.05)
SITE = builders.site()
POSE = Pose(
    site=SITE,
    load_kw={"critical": [60.0] * 4, "essential": [100.0] * 4, "deferrable": [20.0] * 4},
    pv_kw={"pv1": [100.0] * 4},
    step_s=900.0,
)
NAN = float("nan")
Change = Callable[[PlantCondition, Forecast], tuple[PlantCondition, Forecast]]


def forecast(**changes: Any) -> Change:
    return lambda c, f: (c, replace(f, **changes))


def load(**changes: Any) -> Change:
    return lambda c, f: (c, replace(f, load_kw={**f.load_kw, **changes}))


def now(**feeder_kw: float) -> Change:
    return lambda c, f: (replace(c, feeder_kw=feeder_kw), f)


def condition(**changes: Any) -> Change:
    return lambda c, f: (replace(c, **changes), f)


def bess(**changes: Any) -> Change:
    return lambda c, f: (replace(c, bess={"bess1": replace(c.bess["bess1"], **changes)}), f)


def genset(**changes: Any) -> Change:
    return lambda c, f: (replace(c, gensets={**c.gensets, "gen1": replace(c.gensets["gen1"], **changes)}), f)


def shifted(hours: float) -> Change:
    return lambda c, f: (
        c,
        replace(f, grid=TimeGrid.uniform(f.grid.start + timedelta(hours=hours), 900.0, 4)),
    )


REFUSED: dict[str, tuple[Change, str]] = {
    "NaN in a load": (
        load(critical=np.array([60.0, NAN, 60.0, 60.0])),
        r"\[critical\] is nan .*00:15",
    ),
    "infinite PV": (forecast(pv_kw={"pv1": np.full(4, np.inf)}), r"pv_kw\[pv1\] is inf"),
    "NaN in a price": (forecast(import_per_kwh=np.full(4, NAN)), "import_per_kwh is nan"),
    "NaN in an export price": (forecast(export_per_kwh=np.full(4, NAN)), "export_per_kwh is nan"),
    "a step missing": (load(critical=np.full(3, 60.0)), r"critical.*shape \(3,\).*4 steps"),
    "a step twice": (load(critical=np.full(5, 60.0)), r"critical.*shape \(5,\).*4 steps"),
    "another step length": (forecast(pv_kw={"pv1": np.full(16, 1.0)}), r"pv1.*shape \(16,\).*4 steps"),
    "no series of a feeder": (forecast(load_kw={}), "load_kw has no series for critical"),
    "a feeder that is not there": (load(lighting=np.full(4, 9.0)), "series for lighting; allowed: critical"),
    "load in W": (load(critical=np.full(4, 60000.0)), r"load_kw\[critical\] is 60000 .*\(is it in W,"),
    "PV in W": (forecast(pv_kw={"pv1": np.full(4, 3e5)}), r"pv_kw\[pv1\] is 300000 .*in W"),
    "PV ten times": (
        forecast(pv_kw={"pv1": np.full(4, 1000.0)}),
        r"pv_kw\[pv1\] is 1000 .*allowed: up to 1.2",
    ),
    "a load ten times": (load(critical=np.full(4, 600.0)), r"critical\] is 600 .*up to 2 times its 120 kW"),
    "loads ten times, within the peaks": (now(critical=6.0, essential=12.5), "at ten times what is measured"),
    "loads a tenth": (now(critical=600.0, essential=1000.0), "at a tenth of what is measured"),
    "no sun where some is measured": (
        lambda c, f: (replace(c, pv_kw={"pv1": 50.0}), replace(f, pv_kw={"pv1": np.zeros(4)})),
        r"pv_kw\[pv1\] is 0 in all 4 steps, 50 kW are given now; allowed: some sun",
    ),
    "local time for UTC": (shifted(3.0), "wrong time or zone"),
    "yesterday's forecast": (shifted(-24.0), "wrong time or zone"),
    "NaN for SoC": (bess(soc=NAN), "bess1: state of charge is nan"),
    "SoC in per cent": (bess(soc=60.0), r"bess1: state of charge is 60; allowed: 0 to 1 \(in per cent\?\)"),
    "NaN for a live limit": (bess(p_charge_kw_max=NAN), "bess1 live charge limit"),
    "a battery that is not there": (
        lambda c, f: (replace(c, bess={**c.bess, "bess9": c.bess["bess1"]}), f),
        "condition: bess has bess9; allowed: bess1",
    ),
    "a genset that is not there": (
        lambda c, f: (replace(c, gensets={**c.gensets, "gen9": c.gensets["gen1"]}), f),
        "condition: gensets has gen9; allowed: gen1, gen2",
    ),
    "NaN for the time on load": (genset(age_s=NAN), "gen1: age is nan"),
    "a negative time on load": (genset(age_s=-1.0), "gen1: age is -1"),
    "a negative time to readiness": (genset(starting=True, ready_in_s=-3.0), "gen1: time to readiness is -3"),
    "NaN in a tank": (genset(fuel_l=NAN), "gen1 fuel"),
    "NaN for the month's peak": (condition(peak_import_kw=NAN), "peak import of the month"),
}

REPAIRED: dict[str, tuple[Change, str]] = {
    "a negative load": (load(critical=np.array([-3.0, 60.0, 60.0, 60.0])), "critical: 1 negative values"),
    "negative PV at night": (forecast(pv_kw={"pv1": np.full(4, -2.0)}), "pv1: 4 negative values"),
    "PV above its rating": (forecast(pv_kw={"pv1": np.full(4, 710.0)}), "pv1: 4 values .* above the rating"),
    "no load where some is measured": (
        lambda c, f: load(critical=np.zeros(4))(*now(critical=40.0)(c, f)),
        "critical: no load at all is foreseen, 40 kW are measured now: taken as measured",
    ),
    "one load ten times what is measured": (
        now(critical=6.0, essential=95.0),
        "critical: ten times what is measured now is foreseen: another unit",
    ),
    "SoC below its window": (bess(soc=0.05), "bess1: SoC 0.050 lies outside its window 0.1..0.95"),
    "SoC above its window": (bess(soc=0.99), "bess1: SoC 0.990 lies outside its window"),
    "SoC a little over 1": (bess(soc=1.02), "bess1: SoC 1.020 is impossible, taken as 1"),
    "a negative live limit": (bess(p_charge_kw_max=-5.0), "live charge limit of -5 kW is less than nothing"),
    "a battery that is away": (bess(available=False), "bess1: not available, planned without it"),
    "a genset on load but not available": (
        genset(available=False, on_load=True),
        "gen1: reported on load but not available, planned without it",
    ),
    "a genset on load and starting": (
        genset(on_load=True, starting=True),
        "gen1: reported on load and starting",
    ),
    "less than an empty tank": (genset(fuel_l=-4.0), "gen1: -4 L in the tank: taken as empty"),
    "a negative peak": (condition(peak_import_kw=-7.0), "peak import of the month is -7"),
    "a negative month": (condition(month_import_kwh=-7.0), "import of the month is -7"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_by_name(case: str) -> None:
    change, says = REFUSED[case]
    now, expected = change(POSE.condition(), POSE.forecast())
    with pytest.raises(Exception, match=says) as caught:
        planning_problem(SITE, now, expected, OPTIONS)
    assert type(caught.value).__name__ in ("DataError", "BadValue")


@pytest.mark.parametrize("case", REPAIRED)
def test_bad_input_is_repaired_by_a_rule_that_is_noted(case: str) -> None:
    change, says = REPAIRED[case]
    now, expected = change(POSE.condition(), POSE.forecast())
    notes = planning_problem(SITE, now, expected, OPTIONS).notes
    clean = planning_problem(SITE, POSE.condition(), POSE.forecast(), OPTIONS).notes
    new = [n for n in notes if n not in clean]
    assert any(re.search(says, n) for n in new), new


@pytest.mark.parametrize("case", ["NaN in a load", "SoC in per cent", "local time for UTC"])
def test_a_refused_input_leaves_the_last_plan_or_the_rules_and_says_why(case: str) -> None:
    change, says = REFUSED[case]
    now, expected = change(POSE.condition(), POSE.forecast())
    plan = Planner(SITE, OPTIONS).plan(now, expected, None, 1)
    assert plan.label is PlanLabel.RULES
    assert re.search(says, plan.solve.rescue)


def test_what_is_refused_is_an_error_that_names_what_is_allowed() -> None:
    now, expected = bess(soc=60.0)(POSE.condition(), POSE.forecast())
    with pytest.raises(DataError, match="allowed"):
        planning_problem(SITE, now, expected, OPTIONS)
