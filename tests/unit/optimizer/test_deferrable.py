"""Deferrable work: by hand, against every schedule of small devices, over two plans, and around the clock."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from ems.deferrable import DailyWork, DeferrableCondition, DeferrableParams, WorkWindow
from ems.errors import BadValue
from ems.plan import Plan
from ems.site import GridMode
from ems.timegrid import TimeGrid
from optimizer import Case, Deferrable, Grid, Load, Storage, solve_case
from optimizer.formulation import Shedding
from optimizer.intake import planning_problem
from optimizer.intake.deferrable import on_grid
from optimizer.rolling import Planner
from optimizer.validate import validate
from tests.unit.optimizer.posing import EXACT, T0, Pose, feeder, objective, outage, small_genset, small_site

PRICES = (0.3, 0.1, 0.2, 0.4, 0.1, 0.2)


def pump(**changes: Any) -> Deferrable:
    values: dict[str, Any] = {"id": "pump", "p_kw": 10.0, "windows": ((0, 6, 20.0),)}
    return Deferrable(**(values | changes))


def solved(*devices: Deferrable, **changes: Any):
    values: dict[str, Any] = {"steps": 6, "grid": Grid(import_per_kwh=PRICES), "deferrables": devices}
    done = solve_case(Case(**(values | changes)))
    assert done.faults == ()
    assert sum(done.cost_terms.values()) == pytest.approx(done.objective)
    return done


@pytest.mark.parametrize(
    ("device", "cost", "power"),
    [
        (pump(), 2.0, (0, 10, 0, 0, 10, 0)),  # the two cheapest hours
        (pump(interruptible=False), 3.0, None),  # one run: 0.1 + 0.2, before or after
        (pump(starts_max=1), 3.0, None),
        (pump(min_run_h=2.0), 3.0, None),
        (pump(windows=((2, 4, 20.0),)), 6.0, (0, 0, 10, 10, 0, 0)),  # no choice left
        (pump(windows=((0, 2, 10.0), (2, 4, 5.0))), 2.0, (0, 10, 5, 0, 0, 0)),
        (pump(p_min_kw=0.0, windows=((0, 6, 25.0),)), 3.0, None),  # 10 + 10 + 5 at 0.2
        (pump(done_kwh=15.0), 0.5, None),
        (pump(windows=((0, 6, 15.0),)), 1.5, None),  # leaves the second of two steps early
        (
            pump(unfinished_per_kwh=0.15),
            1.0 + 0.0 + 1.0,
            None,
        ),  # 10 kWh at 0.1 twice: cheaper than to leave it
        (pump(unfinished_per_kwh=0.05), 1.0, (0,) * 6),  # nothing is worth doing
    ],
)
def test_work_is_done_when_it_is_cheapest(
    device: Deferrable, cost: float, power: tuple[float, ...] | None
) -> None:
    done = solved(device)
    assert done.objective == pytest.approx(cost)
    if power is not None:
        assert done.deferrable_kw["pump"] == pytest.approx(power)


def test_work_that_cannot_be_done_is_lost_by_name_and_not_made_up_later() -> None:
    device = pump(windows=((0, 1, 10.0), (3, 5, 10.0)), unfinished_per_kwh=5.0)
    done = solved(device, grid=Grid(import_per_kwh=PRICES, available=(False, *(True,) * 5)))
    assert done.unfinished_kwh == {"pump": pytest.approx(10.0)}
    assert sum(done.deferrable_kw["pump"]) == pytest.approx(10.0)
    assert done.cost_terms["unfinished_work"] == pytest.approx(50.0)
    assert any("pump: 10.0 kWh of its work due by 01 01:00 UTC are not done" in n for n in done.notes)


def test_a_minimum_run_that_outlasts_the_work_is_said() -> None:
    """On since half an hour, an hour to go, and its work is done: the hour is drawn for nothing."""
    done = solved(pump(done_kwh=20.0, min_run_h=1.5, state_h=0.5, unfinished_per_kwh=2.0))
    assert done.deferrable_kw["pump"] == pytest.approx((10.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    assert done.cost_terms["work_over"] == pytest.approx(20.0)
    assert any("pump: 10.0 kWh beyond its work, for its minimum run" in n for n in done.notes)


def schedules(device: Deferrable, steps: int) -> list[tuple[int, ...]]:
    """Every on/off pattern that does the work of one window exactly, by the rules in words."""
    out = []
    first, end, kwh = device.windows[0]
    for on in product((0, 1), repeat=steps):
        if any(on[t] and not first <= t < end for t in range(steps)) or sum(on) * device.p_kw != kwh:
            continue
        padded = (0, *on, 0)
        starts = [t for t in range(steps) if on[t] and not padded[t]]
        runs = [next(k for k in range(t, steps + 1) if not padded[k + 1]) - t for t in starts]
        most = 1 if not device.interruptible else device.starts_max
        if most is not None and len(starts) > most:
            continue
        if any(r < device.min_run_h and t + r < steps for t, r in zip(starts, runs, strict=True)):
            continue
        out.append(on)
    return out


@pytest.mark.parametrize("seed", range(24))
def test_the_cheapest_of_every_schedule_is_found(seed: int) -> None:
    """One on/off device under random prices; work in whole steps, so that no step need be left early."""
    rng = np.random.default_rng(seed)
    first = int(rng.integers(0, 3))
    need = int(rng.integers(1, 5))
    device = pump(
        windows=((first, 8, 10.0 * need),),
        interruptible=bool(rng.integers(0, 2)),
        min_run_h=float(rng.integers(0, min(need, 2) + 1)),
        starts_max=None if rng.integers(0, 2) else int(rng.integers(1, 3)),
    )
    prices = rng.uniform(0.05, 0.5, 9)
    done = solved(device, steps=9, grid=Grid(import_per_kwh=prices))
    best = min(10.0 * float(np.array(on) @ prices) for on in schedules(device, 9))
    assert done.objective == pytest.approx(best) or (
        done.objective is not None
        and done.objective < best
        and any(0.0 < kw < 9.99 for kw in done.deferrable_kw["pump"])  # a step left early, which is allowed
    )


def test_a_fleet_of_chargers_fills_the_valley_under_a_demand_charge() -> None:
    """Three chargers, 60 kWh in all in 4 h over 20 kW of load: flat 15 kW each hour is the best."""
    cars = tuple(Deferrable(id=f"ev{k}", p_kw=11.0, p_min_kw=0.0, windows=((0, 4, 20.0),)) for k in range(3))
    grid = Grid(import_per_kwh=0.1, demand_per_kw=10.0)
    done = solved(*cars, steps=4, grid=grid, loads=(Load(kw=20.0),))
    assert done.peak_kw == pytest.approx(35.0)
    assert done.objective == pytest.approx(350.0 + 0.1 * 140.0)


def test_a_device_and_a_battery_share_what_the_sun_offers() -> None:
    store = Storage(id="store", energy_kwh=10.0, p_charge_kw=10.0, p_discharge_kw=10.0)
    sun = (0.0, 20.0, 0.0, 0.0)
    done = solved(pump(windows=((0, 2, 10.0),)), steps=4, grid=Grid(import_per_kwh=0.2), pv_kw=sun,
                  storages=(store,), loads=(Load(kw=(0, 0, 10, 0)),))  # fmt: skip
    assert done.objective == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"p_min_kw": 11.0}, "p_min_kw"),
        ({"p_min_kw": 0.0, "min_run_h": 1.0}, "p_min_kw"),
        ({"windows": ((0, 2, 5.0), (1, 3, 5.0))}, r"windows\[1\]"),
        ({"windows": ((0, 9, 5.0),)}, "windows"),
        ({"windows": ((2, 2, 5.0),)}, r"windows\[0\]"),
        ({"unfinished_per_kwh": 0.0}, "unfinished_per_kwh"),
        ({"done_kwh": float("nan")}, "done_kwh"),
    ],
)
def test_a_bad_device_is_refused_by_key(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(BadValue, match=key):
        solved(pump(**changes))


# --- in a plant ---------------------------------------------------------------------------------------------

EVERY = frozenset(range(8))


def device(**changes: Any) -> DeferrableParams:
    values: dict[str, Any] = {
        "id": "pump", "feeder": "water", "p_kw": 10.0, "p_min_kw": 10.0, "unfinished_per_kwh": 3.0,
        "dated": (WorkWindow(start=T0, end=T0 + timedelta(hours=4), energy_kwh=20.0),),
    }  # fmt: skip
    return DeferrableParams(**(values | changes))


def pose(*devices: DeferrableParams, **changes: Any) -> Pose:
    site = small_site(feeders=[feeder("water", 5.0), feeder("load", 9.0)])
    site = replace(site, deferrables=devices, tariff=replace(site.tariff, timezone="UTC"))
    values: dict[str, Any] = {"site": site, "load_kw": {"load": 20.0}, "import_per_kwh": [0.3, 0.2, 0.1, 0.4]}
    return Pose(**(values | changes))


def test_a_plan_carries_the_setpoints_of_its_devices_and_is_replayed() -> None:
    posed = pose(device())
    plan = posed.plan()
    assert plan.deferrable_kw["pump"] == pytest.approx((0.0, 10.0, 10.0, 0.0))
    assert plan.grid_p_kw == pytest.approx((20.0, 30.0, 30.0, 20.0))
    assert plan.unfinished_kwh == {"pump": 0.0}


@pytest.mark.parametrize(
    ("power", "fault"),
    [
        ((0.0, 10.0, 10.0, 10.0), "does more than its work"),
        ((0.0, 0.0, 10.0, 0.0), "leaves undone"),
        ((0.0, 12.0, 8.0, 0.0), "beyond its power"),
        ((4.0, 6.0, 10.0, 0.0), "below its least power"),
        ((10.0, 0.0, 10.0, 0.0), "starts too often"),
        ((10.0, 0.0, 10.0, 0.0), "stops before its minimum run"),
    ],
)
def test_the_replay_refuses_a_plan_that_breaks_a_device(power: tuple[float, ...], fault: str) -> None:
    unit = device(interruptible=False, min_run_s=3.0 * 3600.0, dated=(
        WorkWindow(start=T0, end=T0 + timedelta(hours=4), energy_kwh=20.0),))  # fmt: skip
    posed = pose(unit)
    good = replace(posed, site=replace(posed.site, deferrables=(replace(unit, min_run_s=0.0),))).plan()
    moved = np.array(power) - np.array(good.deferrable_kw["pump"])
    bad = replace(good, deferrable_kw={"pump": power}, grid_p_kw=tuple(np.array(good.grid_p_kw) + moved))
    limits = unit if "minimum run" in fault else replace(unit, min_run_s=0.0)
    if "starts" not in fault and "minimum run" not in fault:
        limits = replace(limits, interruptible=True)
    site = replace(posed.site, deferrables=(limits,))
    p = planning_problem(site, posed.condition(), posed.forecast(), EXACT)
    assert any(fault in f for f in validate(bad, p).faults)


def next_plan(posed: Pose, now: DeferrableCondition, first: Plan) -> Plan:
    condition = replace(posed.condition(), deferrables={"pump": now})
    return Planner(posed.site, EXACT).plan(condition, posed.forecast(), first, 2)


def test_what_is_done_is_carried_into_the_next_plan() -> None:
    """An hour later 10 of 20 kWh are done and the pump runs: one hour is left, and its run goes on."""
    unit = device(interruptible=False)
    first = pose(unit, import_per_kwh=[0.1, 0.1, 0.4, 0.4]).plan()
    assert first.deferrable_kw["pump"] == pytest.approx((10.0, 10.0, 0.0, 0.0))
    later = pose(unit, at=T0 + timedelta(hours=1), import_per_kwh=[0.4, 0.1, 0.2, 0.4])
    now = DeferrableCondition(window_start=T0, done_kwh=10.0, on=True, age_s=3600.0, starts=1)
    plan = next_plan(later, now, first)
    assert plan.solve.rescue == "none"
    assert plan.deferrable_kw["pump"] == pytest.approx((10.0, 0.0, 0.0, 0.0)), "its only start is made"
    free = next_plan(later, replace(now, starts=0, on=False), first)
    assert free.deferrable_kw["pump"] == pytest.approx((0.0, 10.0, 0.0, 0.0))


def test_work_that_nobody_measured_is_taken_as_none_and_said() -> None:
    later = pose(device(), at=T0 + timedelta(hours=1))
    plan = later.plan()
    assert sum(plan.deferrable_kw["pump"]) == pytest.approx(20.0)
    assert any("pump: the work done since 02 00:00 UTC is not known" in n for n in plan.notes)


@pytest.mark.parametrize(
    ("now", "word"),
    [
        (DeferrableCondition(window_start=T0, done_kwh=30.0, on=False, age_s=0.0, starts=0), "taken as all"),
        (
            DeferrableCondition(
                window_start=T0 - timedelta(days=1), done_kwh=5.0, on=False, age_s=0.0, starts=0
            ),
            "that of another window",
        ),
    ],
)
def test_a_count_that_does_not_fit_is_repaired_and_said(now: DeferrableCondition, word: str) -> None:
    later = pose(device(), at=T0 + timedelta(hours=1))
    first = pose(device()).plan()
    assert any(word in n for n in next_plan(later, now, first).notes)


def test_a_count_that_is_no_number_is_refused() -> None:
    later = pose(device(), at=T0 + timedelta(hours=1))
    now = DeferrableCondition(window_start=T0, done_kwh=float("nan"), on=False, age_s=0.0, starts=0)
    assert "pump: work done is nan" in next_plan(later, now, pose(device()).plan()).solve.rescue


def test_a_feeder_for_the_device_alone_has_no_load_beside_it() -> None:
    posed = pose(device(alone_on_feeder=True), load_kw={"load": 20.0, "water": 7.0})
    plan = posed.plan()
    assert plan.load_kw["water"] == (0.0,) * 4
    assert any("water: serves pump alone, its forecast is not used" in n for n in plan.notes)


def test_nothing_runs_behind_a_feeder_that_is_shed_whole() -> None:
    """An island of 30 kW for 20 + 8 kW of load and a pump of 10: the cheap feeder goes, its pump with it."""
    unit = device(unfinished_per_kwh=0.5, dated=(
        WorkWindow(start=T0, end=T0 + timedelta(hours=2), energy_kwh=10.0),))  # fmt: skip
    site = small_site(
        feeders=[feeder("water", 5.0), feeder("load", 9.0)],
        gensets=[small_genset(p_rated_kw=24.0, p_min_kw=0.0)],
    )
    site = replace(site, deferrables=(unit,))
    posed = Pose(
        site=site, load_kw={"load": 20.0, "water": 8.0}, outages=(outage(0, 3),), mode=GridMode.ISLANDED
    )
    options = replace(EXACT, formulation=replace(EXACT.formulation, shedding=Shedding.WHOLE))
    plan = posed.plan(options)
    assert plan.shed_kw["water"] == pytest.approx((8.0,) * 4)
    assert plan.deferrable_kw["pump"] == pytest.approx((0.0,) * 4)
    assert plan.unfinished_kwh["pump"] == pytest.approx(10.0)
    assert objective(plan) == pytest.approx(sum(plan.cost_terms.values()))


# --- windows ------------------------------------------------------------------------------------------------


def daily(start_h: float, end_h: float, kwh: float = 10.0, days: frozenset[int] = EVERY) -> DeferrableParams:
    work = DailyWork(start_h=start_h, end_h=end_h, weekdays=days, energy_kwh=kwh)
    return device(dated=(), daily=(work,))


@pytest.mark.parametrize(
    ("zone", "start_h", "end_h", "day", "hours"),
    [
        ("UTC", 20.0, 6.0, (2026, 3, 3), 10.0),
        ("Europe/Berlin", 20.0, 6.0, (2026, 3, 28), 9.0),  # the clock goes forward in the night
        ("Europe/Berlin", 20.0, 6.0, (2026, 10, 24), 11.0),
        ("Europe/Berlin", 0.0, 24.0, (2026, 10, 25), 25.0),
        ("America/New_York", 22.0, 22.0, (2026, 7, 1), 24.0),
    ],
)
def test_daily_windows_follow_the_local_clock(
    zone: str, start_h: float, end_h: float, day: tuple[int, int, int], hours: float
) -> None:
    tz = ZoneInfo(zone)
    noon = datetime(*day, 12, tzinfo=tz)
    found = daily(start_h, end_h).windows(noon, noon + timedelta(hours=14), tz, frozenset())
    own = next(w for w in found if w.start.astimezone(tz).date() == date(*day))
    assert (own.end.timestamp() - own.start.timestamp()) / 3600.0 == pytest.approx(hours)


def test_days_and_holidays_choose_the_windows() -> None:
    work = daily(8.0, 16.0, days=frozenset({0, 1}))  # Monday, Tuesday, no holidays
    week = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
    found = work.windows(week, week + timedelta(days=7), ZoneInfo("UTC"), frozenset({date(2026, 3, 3)}))
    assert [w.start.day for w in found] == [2]


def test_windows_on_a_grid_of_unequal_steps() -> None:
    """A window from 0:30 to 2:30 on steps of an hour, and one beyond the grid of which a quarter is due."""
    grid = TimeGrid.uniform(T0, 3600.0, 4)
    windows = (
        WorkWindow(start=T0 + timedelta(minutes=30), end=T0 + timedelta(minutes=150), energy_kwh=8.0),
        WorkWindow(start=T0 + timedelta(hours=3), end=T0 + timedelta(hours=7), energy_kwh=12.0),
    )
    nothing = DeferrableCondition(window_start=None, done_kwh=0.0, on=False, age_s=0.0, starts=0)
    found = on_grid(windows, grid, nothing)
    assert found.share.tolist() == [0.5, 1.0, 0.5, 1.0]
    assert found.due_kwh.tolist() == [0.0, 0.0, 8.0, 8.0 + 3.0]
    assert found.opened_kwh.tolist() == [8.0, 8.0, 8.0, 20.0]
    assert found.opens.tolist() == [True, False, False, True]
    assert found.ends.tolist() == [False, False, True, True]
