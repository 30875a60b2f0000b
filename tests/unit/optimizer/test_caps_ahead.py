"""Caps that a utility has told for times to come: the plan keeps them, and arranges the rest around them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from ems.errors import BadValue
from ems.forecast import CapAhead, Forecast
from ems.plan import Plan
from ems.site import Site
from optimizer import Planner
from optimizer.intake import planning_problem
from tests import builders
from tests.builders import T0
from tests.unit.optimizer.posing import EXACT, Pose

PV_KW = 300.0


def told(kw: float, first_h: float, last_h: float, *, is_import: bool = False) -> CapAhead:
    start, end = (T0 + timedelta(hours=h) for h in (first_h, last_h))
    return CapAhead(is_import=is_import, cap_kw=kw, start=start, end=end, source="dso")


def sunny(site: Site) -> Pose:
    """Three hours of sun and next to no load, then a dear one without sun: some of it is worth storing."""
    return Pose(
        site=site,
        pv_kw={"pv1": [PV_KW, PV_KW, PV_KW, 0.0]},
        load_kw={"critical": [20.0, 20.0, 20.0, 250.0]},
        import_per_kwh=[0.2, 0.2, 0.2, 0.9],
        export_per_kwh=0.1,
        soc=0.1,
    )


def plant() -> Site:
    site = builders.site()
    return replace(site, gensets=(), grid=replace(site.grid, p_export_kw_max=300.0))


def planned(pose: Pose, forecast: Forecast, export_cap_kw: float | None = None) -> Plan:
    condition = replace(pose.condition(), export_cap_kw=export_cap_kw)
    options = replace(EXACT, formulation=replace(EXACT.formulation, soc_tapers=True))
    plan = Planner(pose.site, options).plan(condition, forecast, None, 1)
    assert plan.solve.rescue == "none"
    return plan


def exported(plan: Plan) -> list[float]:
    return [round(max(0.0, -kw), 3) for kw in plan.grid_p_kw]


def test_plan_keeps_a_cap_to_come_and_makes_room_for_what_it_costs():
    pose = sunny(plant())
    free = planned(pose, pose.forecast())
    held = planned(pose, replace(pose.forecast(), caps=(told(50.0, 2.0, 3.0),)))
    assert max(exported(free)) > 200.0
    assert exported(held)[2] <= 50.0 + 1e-6
    assert max(exported(held)[:2]) > 200.0, "before it nothing is held back"
    assert held.bess_p_kw["bess1"][2] < -150.0, "what it may not export then it stores"
    assert any(
        "export cap of 50 kW from 03-02 02:00 to 03-02 03:00 UTC, told by dso" in n for n in held.notes
    )


def test_part_of_a_step_counts_for_the_step_and_the_lowest_of_several():
    pose = sunny(plant())
    caps = (told(90.0, 1.5, 2.2), told(30.0, 2.1, 2.2), told(0.0, 2.0, 3.0, is_import=True))
    p = planning_problem(pose.site, pose.condition(), replace(pose.forecast(), caps=caps), EXACT)
    assert list(p.export_cap_kw) == [300.0, 90.0, 30.0, 300.0]
    assert p.import_cap_kw[2] == 0.0
    assert p.import_cap_kw[1] == pose.site.grid.p_import_kw_max


def test_live_cap_ends_when_it_was_told_to_and_another_one_after_an_hour():
    pose = replace(sunny(plant()), step_s=900.0)  # an hour in all
    condition = replace(pose.condition(), export_cap_kw=40.0)

    def caps(*ahead: CapAhead) -> list[float]:
        forecast = replace(pose.forecast(), caps=ahead)
        return list(planning_problem(pose.site, condition, forecast, EXACT).export_cap_kw)

    assert caps() == [40.0] * 4
    assert caps(told(40.0, -1.0, 0.25)) == [40.0, 300.0, 300.0, 300.0]
    assert caps(told(80.0, -1.0, 0.25)) == [40.0] * 4, "somebody else holds a lower one"
    assert caps(told(40.0, 0.5, 0.75)) == [40.0] * 4, "what holds now was not told ahead"


def test_cap_above_the_contract_s_widens_nothing_and_no_number_is_refused():
    pose = sunny(plant())
    p = planning_problem(
        pose.site, pose.condition(), replace(pose.forecast(), caps=(told(9e3, 0.0, 4.0),)), EXACT
    )
    assert set(p.export_cap_kw) == {300.0}
    assert not any("told by" in n for n in p.notes)
    spoilt = replace(pose.forecast(), caps=(told(float("nan"), 0.0, 1.0),))
    with pytest.raises(BadValue, match="export cap told by dso is nan"):
        planning_problem(pose.site, pose.condition(), spoilt, EXACT)
