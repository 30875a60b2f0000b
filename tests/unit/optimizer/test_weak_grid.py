"""Caps in time and what else a weak interconnection asks for, on problems worked out beside them."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from ems.assets import ReactivePolicy
from ems.condition import PlantCondition
from ems.errors import BadValue
from ems.poi import CapWindow, FlappingPolicy, TransformerParams
from ems.site import GridMode, Site
from ems.tariff import HOLIDAY, LocalWindow
from optimizer import Planner
from optimizer.intake import planning_problem
from optimizer.validate import validate
from tests import builders
from tests.unit.optimizer.posing import EXACT, T0, Pose, feeder, ideal_bess, outage, small_genset, small_site

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


@pytest.mark.scenario(43)
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


# --- transformer ------------------------------------------------------------------------------------------


def behind_transformer(s_kva: float, price: float | None = None, **changes: Any) -> Pose:
    """50 kW at power factor 0.8 (37.5 kvar, 62.5 kVA) and a battery, two hours."""
    bess = ideal_bess(energy_kwh=200.0, p_charge_kw_max=50.0, p_discharge_kw_max=50.0)
    load = replace(feeder("load", 50.0), power_factor_ratio=0.8)
    site = small_site(bess=[bess], feeders=[load])
    poi = TransformerParams(s_kva=s_kva, overload_per_kvah=price)
    site = replace(site, grid=replace(site.grid, transformer=poi, **changes))
    return Pose(site=site, load_kw={"load": 50.0}, soc=1.0, steps=2)


DEAR_STORE = replace(EXACT, terminal_per_kwh=(10.0, 10.0, 10.0))


def test_transformer_leaves_what_the_reactive_load_does_not_take() -> None:
    """sqrt(50^2 - 37.5^2) = 33.07 kW beside 37.5 kvar: the battery gives 16.9 kW, dear as its energy is."""
    plan = behind_transformer(50.0).plan(DEAR_STORE)
    assert plan.grid_p_kw == pytest.approx((33.0719,) * 2, abs=1e-3)
    assert plan.missed == {"transformer_kva": (0.0, 0.0)}
    assert not any("transformer" in note for note in plan.notes)


def test_transformer_is_overloaded_where_the_price_says_so() -> None:
    """A stored kWh is worth 10, an overload of a kVA costs 2 an hour: it is overloaded, and said."""
    pose = behind_transformer(50.0, 2.0)
    plan = pose.plan(DEAR_STORE)
    assert sum(plan.grid_p_kw) == pytest.approx(100.0)
    assert plan.cost_terms["transformer"] == pytest.approx(2 * 2.0 * (50.0 - 33.0719), abs=1e-3)
    assert "transformer of the interconnection overloaded: by up to " in " ".join(plan.notes)
    p = planning_problem(pose.site, pose.condition(), pose.forecast(), DEAR_STORE)
    hidden = replace(plan, missed={})
    assert "transformer: transformer overloaded beyond what is said" in " ".join(validate(hidden, p).faults)


def test_transformer_with_planned_reactive_power_lets_the_converter_compensate() -> None:
    """With 37.5 kvar from the converter all of 50 kW fit through 50 kVA: a corner of the polygon."""
    band = ReactivePolicy(v_poi_min_pu=0.9, v_poi_max_pu=1.1)
    plan = behind_transformer(50.0, reactive=band).plan(DEAR_STORE)
    assert plan.grid_p_kw == pytest.approx((50.0, 50.0))
    assert plan.grid_q_kvar == pytest.approx((0.0, 0.0), abs=1e-6)


def test_transformer_whose_rating_the_reactive_load_alone_exceeds_is_said_to_be_overloaded() -> None:
    """37.5 kvar on 30 kVA: 7.5 kVA too much without any kW, and what is stated covers the real overload."""
    plan = behind_transformer(30.0).plan(DEAR_STORE)
    for t in range(2):
        over = np.hypot(plan.grid_p_kw[t], 37.5 * (1.0 - plan.shed_kw["load"][t] / 50.0)) - 30.0
        assert plan.missed["transformer_kva"][t] >= over - 1e-6
    assert plan.missed["transformer_kva"][0] == pytest.approx(7.5)


def test_transformer_below_the_load_of_a_feeder_without_breaker_still_gives_a_plan() -> None:
    pose = behind_transformer(30.0)
    load = replace(pose.site.feeders[0], has_breaker=False)
    plan = replace(pose, site=replace(pose.site, feeders=(load,), bess=())).plan()
    assert any("transformer" in note for note in plan.notes)


# --- ramp -------------------------------------------------------------------------------------------------


def ramped(kw_min: float, load_kw: list[float], now_kw: float, **changes: Any) -> Pose:
    """Quarters of an hour behind a ramp limit, with a battery whose energy is not worth its use."""
    bess = ideal_bess(energy_kwh=200.0, p_charge_kw_max=100.0, p_discharge_kw_max=100.0)
    site = small_site(bess=[bess], feeders=[feeder("load", 50.0, peak_kw=200.0)])
    site = replace(site, grid=replace(site.grid, ramp_kw_s=kw_min / 60.0))
    return Pose(
        site=site,
        load_kw={"load": load_kw},
        steps=len(load_kw),
        step_s=900.0,
        soc=0.5,
        grid_p_kw=now_kw,
        **changes,
    )


LEVEL = replace(EXACT, terminal_per_kwh=(0.1, 0.1, 0.1))


def test_battery_takes_what_the_ramp_does_not_let_through() -> None:
    """2 kW/min: 15 kW to the middle of the first quarter, 30 kW to that of the next; the load jumps by 90."""
    plan = ramped(2.0, [20.0, 110.0, 110.0, 110.0], 20.0).plan(LEVEL)
    moves = np.diff(np.array([20.0, *plan.grid_p_kw]))
    assert abs(moves[0]) <= 15.0 + 1e-6
    assert (np.abs(moves[1:]) <= 30.0 + 1e-6).all()
    assert plan.bess_p_kw["bess1"][1] >= 90.0 - 15.0 - 30.0 - 1e-6
    assert max(plan.missed["ramp_kw"]) == 0.0
    free = ramped(1000.0, [20.0, 110.0, 110.0, 110.0], 20.0)
    assert free.plan(LEVEL).missed == {}, "no row where the caps keep the ramp anyway"


def test_a_ramp_that_cannot_be_kept_is_named() -> None:
    pose = ramped(2.0, [20.0, 110.0], 80.0)
    alone = replace(pose, site=replace(pose.site, bess=()))
    plan = alone.plan()
    assert plan.grid_p_kw[0] == pytest.approx(20.0), "surplus or shedding would be dearer than the ramp"
    assert plan.missed["ramp_kw"] == pytest.approx((45.0, 60.0))
    assert any("ramp at the interconnection over its limit: up to 60.0 kW" in note for note in plan.notes)
    p = planning_problem(alone.site, alone.condition(), alone.forecast(), EXACT)
    assert "ramp:" in " ".join(validate(replace(plan, missed={}), p).faults)


def test_ramp_counts_between_grid_tied_steps_only() -> None:
    """Energy is free after an outage: 110 kW and 100 kW of charging at once, nothing to ramp from."""
    pose = ramped(2.0, [20.0, 20.0, 110.0, 110.0], 20.0, outages=(outage(1, 1, 900.0),))
    plan = replace(pose, import_per_kwh=[0.2, 0.2, 0.0, 0.0]).plan(LEVEL)
    assert plan.grid_p_kw[:3] == pytest.approx((20.0, 0.0, 210.0), abs=15.1)
    assert max(plan.missed["ramp_kw"]) == 0.0


def test_second_plan_ramps_on_from_what_is_measured() -> None:
    pose = ramped(2.0, [20.0, 110.0, 110.0, 110.0], 20.0)
    planner = Planner(pose.site, LEVEL)
    first = planner.plan(pose.condition(), pose.forecast(), None, 1)
    later = replace(pose, grid_p_kw=first.grid_p_kw[0], load_kw={"load": [110.0] * 4})
    second = planner.plan(later.condition(), later.forecast(), first, 2)
    assert second.solve.rescue == "none"
    assert abs(second.grid_p_kw[0] - first.grid_p_kw[0]) <= 15.0 + 1e-6


# --- a grid that comes and goes -----------------------------------------------------------------------------


def test_dwell_grows_with_each_loss_up_to_its_maximum() -> None:
    policy = FlappingPolicy(window_h=6.0, growth_ratio=3.0, dwell_s_max=1000.0)
    assert [policy.dwell_s(60.0, n) for n in range(6)] == [0.0, 60.0, 180.0, 540.0, 1000.0, 1000.0]


def flapping(losses_h: tuple[float, ...], good_h: float, **changes: Any) -> tuple[Pose, PlantCondition]:
    """20 kW vital, 60 kW else; a battery of 30 kW that forms, a genset that costs 1 an hour; quarters."""
    bess = ideal_bess(energy_kwh=100.0, p_charge_kw_max=30.0, p_discharge_kw_max=30.0)
    unit = replace(small_genset(), running_cost_per_h=1.0)
    loads = [feeder("vital", 50.0, tier=1), feeder("else", 5.0, tier=3)]
    site = small_site(bess=[bess], gensets=[unit], feeders=loads)
    reserve = replace(
        site.reserve, load_ratio=0.0, pv_ratio=0.0, failed_starts=0, shortfall_per_kwh=20.0, critical_tier=1
    )
    policy = FlappingPolicy(window_h=6.0, growth_ratio=2.0, dwell_s_max=7200.0)
    poi = replace(site.grid, flapping=policy, reconnect_dwell_s=900.0)
    site = replace(site, reserve=reserve, grid=poi)
    pose = Pose(site=site, load_kw={"vital": 20.0, "else": 60.0}, steps=8, step_s=900.0, soc=0.9, **changes)
    lost = tuple(T0 - timedelta(hours=h) for h in losses_h)
    return pose, replace(pose.condition(), grid_losses=lost, mains_good_s=3600.0 * good_h)


FIRM = replace(EXACT, formulation=replace(EXACT.formulation, reserve=True))


@pytest.mark.parametrize(
    ("losses_h", "good_h", "quarters"),
    [((), 0.0, 0), ((0.5,), 0.0, 1), ((0.5, 1.0), 0.25, 1), ((0.5, 1.0, 2.0), 0.0, 4), ((0.5, 7.0), 0.25, 0)],
)
def test_genset_stays_on_until_the_mains_are_counted_on_again(
    losses_h: tuple[float, ...], good_h: float, quarters: int
) -> None:
    """80 kW are to be carried through a loss: the battery's 30 kW do not do it, with the genset they do."""
    pose, condition = flapping(losses_h, good_h)
    plan = Planner(pose.site, FIRM).plan(condition, pose.forecast(), None, 1)
    assert plan.genset_on["gen1"] == pytest.approx([1.0] * quarters + [0.0] * (8 - quarters))
    assert plan.reserve_up_required_kw[:quarters] == pytest.approx([80.0] * quarters)
    assert any("not counted on" in note for note in plan.notes) is (quarters > 0)
    assert max(plan.reserve_up_short_kw) == pytest.approx(0.0, abs=1e-6)


def test_dwell_of_a_grid_that_is_away_begins_when_it_is_planned_to_be_back() -> None:
    pose, condition = flapping((0.0, 1.0), 0.0, mode=GridMode.ISLANDED)
    site = replace(pose.site, reserve=replace(pose.site.reserve, assumed_outage_h=0.5))
    p = planning_problem(site, condition, pose.forecast(), FIRM)
    assert p.grid_available.tolist() == [False] * 2 + [True] * 6
    assert p.distrusted is not None
    assert p.distrusted.tolist() == [False] * 2 + [True] * 2 + [False] * 4


def test_second_plan_counts_the_dwell_down() -> None:
    pose, condition = flapping((0.1, 1.0), 0.0)
    planner = Planner(pose.site, FIRM)
    first = planner.plan(condition, pose.forecast(), None, 1)
    on = {"gen1": replace(condition.gensets["gen1"], on_load=True)}
    second = planner.plan(replace(condition, mains_good_s=900.0, gensets=on), pose.forecast(), first, 2)
    assert sum(first.genset_on["gen1"]) == pytest.approx(2.0)
    assert sum(second.genset_on["gen1"]) == pytest.approx(1.0)
