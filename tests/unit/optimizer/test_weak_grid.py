"""Caps in time and what else a weak interconnection asks for, on problems worked out beside them."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from ems.errors import BadValue
from ems.poi import CapWindow
from ems.site import Site
from ems.tariff import HOLIDAY, LocalWindow
from optimizer import Planner
from optimizer.intake import planning_problem
from tests import builders
from tests.unit.optimizer.posing import EXACT, T0, Pose, feeder, ideal_bess, small_site

EVERY_DAY, EVERY_MONTH = frozenset(range(8)), frozenset(range(1, 13))


def capped(site: Site, *caps: CapWindow) -> Site:
    return replace(site, grid=replace(site.grid, caps=caps))


def hours(start_h: float, end_h: float, import_kw: float | None, export_kw: float | None = None) -> CapWindow:
    local = LocalWindow(start_h=start_h, end_h=end_h, weekdays=EVERY_DAY, months=EVERY_MONTH)
    return CapWindow(p_import_kw_max=import_kw, p_export_kw_max=export_kw, local=local)


def once(first_h: float, last_h: float, import_kw: float) -> CapWindow:
    start, end = (T0 + timedelta(hours=h) for h in (first_h, last_h))
    return CapWindow(p_import_kw_max=import_kw, p_export_kw_max=None, start=start, end=end)


# --- caps in time -----------------------------------------------------------------------------------------


def test_battery_carries_what_a_local_cap_does_not_let_through() -> None:
    """50 kW of load; from 01:00 to 03:00 no more than 20 kW may be imported: 30 kW come from the battery."""
    bess = ideal_bess(energy_kwh=100.0, p_charge_kw_max=50.0, p_discharge_kw_max=50.0)
    site = small_site(bess=[bess], feeders=[feeder("load", 50.0)])
    site = replace(site, tariff=replace(site.tariff, holidays=frozenset({T0.date()})))
    pose = Pose(site=capped(site, hours(1.0, 3.0, 20.0)), load_kw={"load": 50.0}, soc=0.6)
    plan = pose.plan(replace(EXACT, terminal_per_kwh=(0.1, 0.1, 0.1)))
    assert plan.grid_p_kw[1:3] == pytest.approx((20.0, 20.0))
    assert plan.bess_p_kw["bess1"][1:3] == pytest.approx((30.0, 30.0))
    assert plan.import_limit_kw == pytest.approx((1000.0, 20.0, 20.0, 1000.0))
    workday = replace(hours(1.0, 3.0, 20.0).local, weekdays=EVERY_DAY - {HOLIDAY})  # type: ignore[type-var]
    free = capped(site, replace(hours(1.0, 3.0, 20.0), local=workday))
    assert replace(pose, site=free).plan().import_limit_kw == (), "a public holiday is a day of its own"


@pytest.mark.parametrize(
    ("caps", "expected"),
    [
        ((once(1.5, 1.75, 30.0),), [1000.0, 30.0, 1000.0, 1000.0]),
        ((once(1.0, 2.0, 30.0), hours(0.0, 4.0, 70.0)), [70.0, 30.0, 70.0, 70.0]),
        ((once(4.0, 5.0, 30.0), once(-2.0, 0.0, 1.0)), [1000.0] * 4),
        ((hours(3.5, 24.0, 0.0),), [1000.0, 1000.0, 1000.0, 0.0]),
    ],
)
def test_lowest_cap_that_holds_in_any_part_of_a_step_counts(
    caps: tuple[CapWindow, ...], expected: list[float]
) -> None:
    pose = Pose(site=capped(small_site(feeders=[feeder("load", 50.0)]), *caps), load_kw={"load": 10.0})
    p = planning_problem(pose.site, pose.condition(), pose.forecast(), EXACT)
    assert p.import_cap_kw == pytest.approx(expected)
    assert p.export_cap_kw == pytest.approx([0.0] * 4)


def test_export_cap_in_time_curtails() -> None:
    sun = replace(builders.site().pv[0], p_ac_kw=100.0)
    site = small_site(pv=[sun], feeders=[feeder("load", 50.0)], export_kw=80.0)
    pose = Pose(
        site=capped(site, hours(1.0, 2.0, None, 5.0)), load_kw={"load": 10.0}, pv_kw={"pv1": 60.0},
        export_per_kwh=0.05,
    )  # fmt: skip
    assert pose.plan().pv_p_kw["pv1"] == pytest.approx((60.0, 15.0, 60.0, 60.0))


def with_live(pose: Pose, **live: Any) -> Any:
    return planning_problem(pose.site, replace(pose.condition(), **live), pose.forecast(), EXACT)


def test_live_cap_holds_for_an_hour_and_is_named() -> None:
    pose = Pose(site=small_site(feeders=[feeder("load", 50.0)]), load_kw={"load": 50.0})
    p = with_live(pose, import_cap_kw=30.0)
    assert p.import_cap_kw == pytest.approx([30.0, 1000.0, 1000.0, 1000.0])
    assert "live import cap of 30 kW, kept for 1 h" in p.notes
    assert with_live(pose, import_cap_kw=-5.0).import_cap_kw[0] == 0.0
    assert with_live(pose, import_cap_kw=2000.0).notes == ()
    with pytest.raises(BadValue, match="live export cap"):
        with_live(pose, export_cap_kw=float("nan"))


def test_a_cap_below_what_cannot_be_shed_is_missed_by_name() -> None:
    """No plan is infeasible: 50 kW behind no breaker, 20 kW allowed, nothing else there."""
    load = replace(feeder("load", 50.0), has_breaker=False)
    pose = Pose(site=capped(small_site(feeders=[load]), hours(0.0, 24.0, 20.0)), load_kw={"load": 50.0})
    plan = pose.plan()
    assert plan.grid_p_kw == pytest.approx((20.0,) * 4)
    assert any("load" in note and "30.0 kW" in note for note in plan.notes)


def test_second_plan_goes_on_under_a_live_cap() -> None:
    bess = ideal_bess(energy_kwh=100.0, p_charge_kw_max=50.0, p_discharge_kw_max=50.0)
    pose = Pose(site=small_site(bess=[bess], feeders=[feeder("load", 50.0)]), load_kw={"load": 50.0}, soc=0.8)
    planner = Planner(pose.site, EXACT)
    first = planner.plan(pose.condition(), pose.forecast(), None, 1)
    told = replace(pose.condition(), import_cap_kw=10.0)
    second = planner.plan(told, pose.forecast(), first, 2)
    assert second.solve.rescue == "none"
    assert second.grid_p_kw[0] == pytest.approx(10.0)
    assert np.isfinite(second.import_limit_kw).all()
