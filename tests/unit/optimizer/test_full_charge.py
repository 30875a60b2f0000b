"""A full charge for calibration: by hand, late, missed, in progress, and carried from plan to plan."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from dispatch.observing.bess_use import uses_after
from ems.battery_terms import FullCharge
from ems.condition import BessUse
from optimizer.intake import planning_problem
from optimizer.validate import validate
from tests.unit.optimizer.posing import EXACT, T0, Pose, feeder, ideal_bess, small_site

NO_END_VALUE = replace(EXACT, terminal_per_kwh=(0.0, 0.0, 0.0))
MONTHLY = FullCharge(interval_s=30 * 86400.0, hold_s=2 * 3600.0, late_cost_per_h=1.0)
MONTH_H = 720.0


def pose(age_h: float | None, full_h: float = 0.0, late_cost_per_h: float = 1.0, **changes: Any) -> Pose:
    """Half full, six hours, cheapest in the third; full it is worth nothing but its charge."""
    import_kw = changes.pop("import_kw", 1000.0)
    terms = replace(MONTHLY, late_cost_per_h=late_cost_per_h)
    site = small_site(
        bess=(ideal_bess(full_charge=terms),), feeders=(feeder("load", 50.0),), import_kw=import_kw
    )
    values: dict[str, Any] = {
        "site": site, "steps": 6, "soc": 0.5, "import_per_kwh": [0.3, 0.5, 0.1, 0.5, 0.5, 0.5],
        "bess_now": {"bess1": {"use": BessUse(full_age_h=age_h, full_h=full_h)}},
    }  # fmt: skip
    return Pose(**(values | changes))


def test_a_charge_that_falls_due_is_made_in_the_cheapest_hour_and_held() -> None:
    """Due in 5 h, 2 h long: full by the end of the third hour, whose energy is the cheapest."""
    plan = pose(MONTH_H - 5.0).plan(NO_END_VALUE)
    assert plan.bess_soc_end["bess1"][:5] == pytest.approx((0.5, 0.5, 1.0, 1.0, 1.0))
    assert plan.cost_terms["energy_import"] == pytest.approx(5.0 * 0.1)
    assert plan.cost_terms["full_charge"] == pytest.approx(0.0, abs=1e-9)


def test_a_charge_that_falls_due_after_the_window_is_left_to_a_later_plan() -> None:
    plan = pose(MONTH_H - 6.5).plan(NO_END_VALUE)
    assert max(plan.bess_soc_end["bess1"]) == pytest.approx(0.5)


def test_an_overdue_charge_comes_as_soon_as_its_hours_are_dearer_than_the_energy() -> None:
    """At once: 1.5 and 3 h late. In the cheap hour: 0.5 and 5 h late."""
    plan = pose(MONTH_H + 3.0).plan(NO_END_VALUE)
    assert plan.bess_soc_end["bess1"][:3] == pytest.approx((1.0, 1.0, 1.0))
    assert plan.cost_terms["full_charge"] == pytest.approx(3.0)
    assert any("comes 3.0 h late" in note for note in plan.notes)
    patient = pose(MONTH_H + 3.0, late_cost_per_h=0.4).plan(NO_END_VALUE)
    assert patient.bess_soc_end["bess1"][:3] == pytest.approx((0.5, 0.5, 1.0))
    assert patient.cost_terms["full_charge"] == pytest.approx(5.0 * 0.4)


def test_a_charge_that_finds_no_energy_is_missed_and_said_so() -> None:
    plan = pose(MONTH_H + 3.0, import_kw=0.0).plan(NO_END_VALUE)
    assert plan.cost_terms["full_charge"] == pytest.approx(6.0 + 2.0)
    assert any("finds no place in this window" in note for note in plan.notes)


def test_a_hold_in_progress_goes_on_for_what_is_left_of_it() -> None:
    """Full for 1.5 of 2 h: half an hour more costs 4.8 of energy; to begin again is 7 in lateness."""
    load = {"load": [8.0, 0.0, 0.0, 0.0, 0.0, 0.0]}
    given = {"load_kw": load, "import_per_kwh": [0.6, 0.1, 0.5, 0.5, 0.5, 0.5], "soc": 1.0}
    going = pose(MONTH_H - 0.5, 1.5, late_cost_per_h=2.0, **given).plan(NO_END_VALUE)
    assert going.bess_soc_end["bess1"][0] == pytest.approx(1.0)
    assert going.cost_terms["full_charge"] == pytest.approx(0.0, abs=1e-9)
    done = pose(0.0, 2.0, late_cost_per_h=2.0, **given).plan(NO_END_VALUE)
    assert done.bess_soc_end["bess1"][0] == pytest.approx(0.2)


def test_plans_rolled_hour_by_hour_make_the_charge_once() -> None:
    """The edge's count of what each plan did is the next one's start."""
    use, soc, full = BessUse(full_age_h=MONTH_H - 5.0), 0.5, []
    for hour in range(9):
        x = pose(
            None, late_cost_per_h=10.0, steps=6, soc=soc, load_kw={"load": 1.0}, import_per_kwh=0.1,
            bess_now={"bess1": {"use": use}},
        )  # fmt: skip
        plan = x.plan(NO_END_VALUE)
        soc, p_kw = plan.bess_soc_end["bess1"][0], plan.bess_p_kw["bess1"][0]
        use = uses_after({"bess1": x.site.bess[0]}, {"bess1": use}, {"bess1": (p_kw, soc)}, T0, 3600.0)[
            "bess1"
        ]
        full.append(soc > 0.99)
        assert not any("full charge" in note for note in plan.notes), hour
    assert any(a and b for a, b in pairwise(full))
    assert use.full_age_h is not None
    assert use.full_age_h < 8.0
    assert not full[-1]


def test_a_charge_that_nobody_knows_of_is_taken_as_just_done_with_a_note() -> None:
    plan = pose(None).plan(NO_END_VALUE)
    assert max(plan.bess_soc_end["bess1"]) == pytest.approx(0.5)
    assert any("last full charge is not known" in note for note in plan.notes)


def test_the_replay_refuses_a_plan_that_leaves_lateness_out() -> None:
    x = pose(MONTH_H + 3.0)
    plan = x.plan(NO_END_VALUE)
    p = planning_problem(x.site, x.condition(), x.forecast(), NO_END_VALUE)
    assert validate(plan, p).ok
    cheap = replace(plan, cost_terms={**plan.cost_terms, "full_charge": 2.0})
    assert any("full_charge" in fault for fault in validate(cheap, p).faults)
    early = replace(x, bess_now={"bess1": {"use": BessUse(full_age_h=MONTH_H + 3.0, full_h=1.0)}}, soc=1.0)
    q = planning_problem(early.site, early.condition(), early.forecast(), NO_END_VALUE)
    assert q.bess[0].care.full_rest_h == pytest.approx(1.0)
    assert early.plan(NO_END_VALUE).cost_terms["full_charge"] == pytest.approx(1.0)


def test_edge_counts_time_since_the_last_charge_that_was_held() -> None:
    unit = {"bess1": ideal_bess(full_charge=MONTHLY, soc_max=0.9)}
    use: dict[str, BessUse] = {}
    for soc in (0.5, 0.895, 0.7, 0.89, 0.9, 0.6):
        use = uses_after(unit, use, {"bess1": (0.0, soc)}, T0, 3600.0)
    assert (use["bess1"].full_age_h, use["bess1"].full_h) == (1.0, 0.0)
    fresh = uses_after(unit, {}, {"bess1": (0.0, 0.5)}, T0, 3600.0)["bess1"]
    assert fresh.full_age_h == 0.0  # counted from the first look
