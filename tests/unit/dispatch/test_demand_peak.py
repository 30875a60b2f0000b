"""Demand peaks of the last plan, kept for the rules: by charge, by month, over a restart."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.json_codec import dumps, loads
from dispatch.controllers.demand_peak import planned_peaks
from dispatch.controllers.plan_follower import PlanFollower
from dispatch.layout import layout_of
from dispatch.restart import control_known
from dispatch.state import EdgeState, PlanMemory
from dispatch.vocabulary import ControlMemory, PeakTargets, Source
from ems.condition import PlantCondition
from ems.plan import Plan
from ems.site import Site
from ems.tariff import MAIN_CHARGE, DemandCharge, LocalWindow
from tests.builders import T0, site
from tests.unit.dispatch.loop import Loop
from tests.unit.dispatch.plans import plan_of

EVERY_DAY, EVERY_MONTH = frozenset(range(7)), frozenset(range(1, 13))
MORNING = T0.replace(hour=5)  # 08:00 in Nairobi
NOON = T0.replace(hour=9)  # 12:00


def midday(name: str = "midday", **changes: Any) -> DemandCharge:
    window = LocalWindow(start_h=12.0, end_h=16.0, weekdays=EVERY_DAY, months=EVERY_MONTH)
    return DemandCharge(name=name, per_kw=9.0, **{"windows": (window,), **changes})


def plant(*charges: DemandCharge, main: float = 0.0) -> Site:
    base = site()
    return replace(base, tariff=replace(base.tariff, demand_charge_per_kw=main, demand_charges=charges))


def planned(
    own: Site, start: datetime, limits: Sequence[float] = (), seq: int = 1, peak_kw: float = 220.0
) -> Plan:
    plan = plan_of(own, bess_kw=[0.0] * 4, start=start, soc=0.55, seq=seq, peak_import_kw=peak_kw)
    return replace(plan, import_limit_kw=tuple(limits))


def peaks(
    own: Site, plan: Plan, now: datetime | None = None, known: PeakTargets | None = None
) -> PeakTargets:
    before = PeakTargets() if known is None else known
    return planned_peaks(own.tariff, before, plan, plan.grid.start if now is None else now)


def test_peaks_of_the_main_charge_are_the_plans_own():
    own = plant(main=9.0)
    assert peaks(own, planned(own, MORNING)).by_charge_kw == {MAIN_CHARGE: 220.0}
    free = plant()
    assert peaks(free, planned(free, MORNING)).by_charge_kw == {}


def test_peaks_of_a_further_charge_are_the_limits_of_its_hours():
    own = plant(midday(), main=9.0)
    before = planned(own, NOON - timedelta(minutes=30), (300.0, 300.0, 180.0, 190.0))
    assert peaks(own, before).by_charge_kw == {MAIN_CHARGE: 220.0, "midday": 190.0}


def test_peaks_of_hours_the_plan_does_not_reach_stay_as_they_were_known():
    own = plant(midday())
    first = peaks(own, planned(own, NOON, (180.0,) * 4))
    later = peaks(own, planned(own, NOON + timedelta(hours=6), (350.0,) * 4, seq=2), known=first)
    assert later.by_charge_kw == {"midday": 180.0}


def test_peaks_are_worked_out_once_for_each_plan():
    own = plant(main=9.0)
    first = peaks(own, planned(own, MORNING))
    again = peaks(own, planned(own, MORNING), MORNING + timedelta(minutes=20), first)
    assert again is first
    other = peaks(own, planned(own, MORNING, seq=2, peak_kw=250.0), known=first)
    assert other.by_charge_kw == {MAIN_CHARGE: 250.0}


def test_peaks_of_a_month_that_is_over_are_none():
    own = plant(midday(), main=9.0)
    turn = datetime(2026, 3, 31, 21, tzinfo=UTC)  # midnight in Nairobi
    plan = planned(own, turn - timedelta(minutes=30), (180.0,) * 4)
    march = peaks(own, plan)
    assert (march.month, march.by_charge_kw) == ("2026-03", {MAIN_CHARGE: 220.0})
    assert peaks(own, plan, turn, march).by_charge_kw == {}, "made for the month before"
    april = peaks(own, planned(own, turn, seq=2), turn, march)
    assert (april.month, april.by_charge_kw) == ("2026-04", {MAIN_CHARGE: 220.0})
    known = replace(march, by_charge_kw={"midday": 180.0})
    assert peaks(plant(midday()), planned(own, turn, seq=2), turn, known).by_charge_kw == {}


def left(loop: Loop, *, seconds: float = 60.0) -> float:
    """Import beside a load of 290 kW after the plan is gone [kW]."""
    loop.plan, loop.edge = None, replace(loop.edge, plans=PlanMemory())
    loop.world.demand_kw["essential"] = 190.0
    assert loop.run(seconds).source is Source.RULES
    assert loop.flows is not None
    return loop.flows.grid_p_kw


def following(own: Site, start: datetime, limits: Sequence[float] = ()) -> Loop:
    loop = Loop(PlanFollower(), soc=0.55, start=start, plant_site=own)
    loop.plan = planned(own, start, limits)
    assert loop.run(5.0).source is Source.PLAN
    return loop


def test_rules_hold_the_peak_of_a_charge_of_certain_hours_in_these_hours():
    """A tariff with windows alone, and no charge at all hours, once had no guard."""
    own = plant(midday())
    assert left(following(own, NOON, (180.0,) * 4)) == pytest.approx(180.0, abs=3.0)


def test_rules_hold_no_peak_in_hours_that_are_not_charged():
    own = plant(midday())
    loop = following(own, MORNING)
    assert loop.plan is not None
    known = PeakTargets(month="2026-03", plan_id=loop.plan.plan_id, by_charge_kw={"midday": 180.0})
    loop.edge = replace(loop.edge, control=replace(loop.edge.control, peaks=known))
    assert left(loop) == pytest.approx(292.0, abs=3.0)


@pytest.mark.parametrize(
    ("charges", "main", "targets", "so_far", "held_kw"),
    [
        ((midday(),), 9.0, {MAIN_CHARGE: 220.0, "midday": 180.0}, {}, 180.0),  # the lower one
        ((midday(),), 9.0, {MAIN_CHARGE: 170.0, "midday": 180.0}, {}, 170.0),
        ((midday(),), 0.0, {"midday": 180.0}, {"midday": 200.0}, 200.0),  # paid for already
        ((midday(),), 0.0, {"midday": 180.0}, {"other": 200.0}, 180.0),
        ((midday(apparent=True),), 0.0, {"midday": 180.0}, {"midday": 200.0}, 180.0),  # kVA are no kW
        ((midday(), midday("new")), 0.0, {"midday": 180.0}, {}, 180.0),  # no plan knew of it
    ],
)
def test_rules_hold_the_lowest_peak_of_the_charges_in_force(
    charges: tuple[DemandCharge, ...],
    main: float,
    targets: dict[str, float],
    so_far: dict[str, float],
    held_kw: float,
):
    own = plant(*charges, main=main)
    loop = following(own, NOON)
    assert loop.plan is not None
    known = PeakTargets(month="2026-03", plan_id=loop.plan.plan_id, by_charge_kw=targets)
    loop.edge = replace(
        loop.edge,
        control=replace(loop.edge.control, peaks=known),
        observer=replace(loop.edge.observer, charge_peaks_kw=so_far),
    )
    assert left(loop, seconds=20.0) == pytest.approx(held_kw, abs=3.0)


def restarted(loop: Loop, now: datetime) -> ControlMemory:
    """What an edge that starts at `now` takes over from this one."""
    condition = loop.log[-1][1].condition
    return control_known(layout_of(loop.site), loads(PlantCondition, dumps(condition)), now)


@pytest.mark.parametrize(("days", "kept"), [(0.0, True), (28.0, True), (31.0, False)])
def test_restart_keeps_the_peak_target_until_the_month_is_over(days: float, kept: bool):
    """A restart with a dead planner once let the first bad quarter-hour pay for the whole month."""
    own = plant(main=9.0)
    before = following(own, MORNING)
    left(before)
    later = MORNING + timedelta(days=days)
    known = restarted(before, later)
    assert known.peaks.by_charge_kw == ({MAIN_CHARGE: 220.0} if kept else {})
    after = Loop(PlanFollower(), soc=0.55, start=later, plant_site=own)
    after.edge = EdgeState(epoch=2, control=known)
    after.run(1.0)
    assert left(after) == pytest.approx(220.0 if kept else 292.0, abs=3.0)
    assert restarted(after, later).peaks.by_charge_kw == known.peaks.by_charge_kw, "and so does the next one"


def test_restart_of_an_edge_that_never_followed_a_plan_knows_no_target():
    loop = Loop(PlanFollower(), soc=0.55, start=MORNING, plant_site=plant(main=9.0))
    loop.run(3.0)
    assert restarted(loop, MORNING) == ControlMemory()
    assert control_known(layout_of(loop.site), None, MORNING) == ControlMemory()


def test_month_that_ends_while_the_rules_decide_ends_the_target():
    own = plant(main=9.0)
    turn = datetime(2026, 3, 31, 21, tzinfo=UTC)
    loop = following(own, turn - timedelta(seconds=65))
    assert left(loop, seconds=40.0) == pytest.approx(220.0, abs=3.0)
    loop.run(60.0)
    assert loop.flows is not None
    assert loop.log[-1][1].condition.peak_targets_kw == {}
    assert loop.flows.grid_p_kw > 230.0
