"""The edge's own check to the digit: just inside every limit passes, just outside does not."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dispatch.controllers.plan_check import check_charge, check_plan, stored_change_kwh
from ems.deferrable import DeferrableParams
from ems.loss_curve import LossCurve
from ems.plan import Plan
from ems.site import Site
from ems.timegrid import TimeGrid
from tests.builders import T0, battery, site
from tests.unit.dispatch.plans import ISLAND, bent, plan_of

SITE = site()
GOOD = plan_of(SITE, bess_kw=[0.0, 50.0, -60.0, 20.0], pv_kw=[0.0, 10.0, 90.0, 0.0])
STEP_S = timedelta(seconds=900)


def told(plan: Plan, words: str, plant: Site = SITE) -> int:
    """How many problems say so."""
    return sum(words in p for p in check_plan(plant, plan, T0, -1))


@pytest.mark.parametrize(("late_s", "words"), [(-900, ""), (-901, "begins only at")])
def test_check_window_opens_a_quarter_of_an_hour_early(late_s, words):
    now = T0 + timedelta(seconds=late_s)
    problems = check_plan(SITE, replace(GOOD, issued_at=now), now, -1)
    assert (problems == ()) if not words else any(words in p for p in problems), problems


@pytest.mark.parametrize(("now_s", "count"), [(2699, 0), (2700, 1)])
def test_check_window_closes_with_the_last_step_that_may_be_executed(now_s, count):
    plan = replace(GOOD, integral_until=T0 + 3 * STEP_S)
    problems = check_plan(SITE, plan, T0 + timedelta(seconds=now_s), -1)
    assert len(problems) == count
    assert all("nothing in it may be executed" in p for p in problems)


@pytest.mark.parametrize(
    ("issued_s", "words"),
    [(60, ""), (60.001, "in the future"), (-7200, ""), (-7200.001, "older than")],
)
def test_check_age_to_the_millisecond(issued_s, words):
    plan = replace(GOOD, issued_at=T0 + timedelta(seconds=issued_s))
    problems = check_plan(SITE, plan, T0, -1)
    assert (problems == ()) if not words else any(words in p for p in problems), problems


@pytest.mark.parametrize(("over_s", "count"), [(0.0, 0), (0.001, 1)])
def test_check_plan_is_valid_for_a_day_and_to_its_last_step_at_most(over_s, count):
    long = plan_of(SITE, bess_kw=[0.0] * 100)
    over = timedelta(seconds=over_s)
    assert told(replace(long, valid_until=T0 + timedelta(hours=24) + over), "valid until") == count
    assert told(replace(GOOD, valid_until=T0 + 4 * STEP_S + over), "valid until") == count


def test_check_one_time_without_a_zone_is_enough():
    for name in ("issued_at", "valid_until"):
        changed: dict[str, Any] = {name: getattr(GOOD, name).replace(tzinfo=None)}
        assert check_plan(SITE, replace(GOOD, **changed), T0, -1) == ("times without a zone",)


def test_check_newest_number_is_one_more():
    assert check_plan(SITE, GOOD, T0, GOOD.seq - 1) == ()
    assert told(GOOD, "not newer") == 0


OPTIONAL = (
    "import_limit_kw",
    "contingency_lost_kw",
    "contingency_cover_kw",
    "grid_q_kvar",
    "q_short_kvar",
    "poi_v_pu",
    "poi_v_short_pu",
)


@pytest.mark.parametrize("name", OPTIONAL)
def test_check_optional_series_is_whole_and_of_numbers_where_it_is_there(name):
    for row, words in (
        ((1.0,) * 4, None),
        ((1.0,) * 3, f"{name} has 3"),
        ((1.0, 2.0, float("nan"), 1.0), f"{name} h"),
    ):
        changed: dict[str, Any] = {name: row}
        problems = check_plan(SITE, replace(GOOD, **changed), T0, -1)
        assert (problems == ()) if words is None else any(words in p for p in problems), problems


@pytest.mark.parametrize("name", ["bess_q_kvar", "pv_q_kvar", "genset_q_kvar", "missed"])
def test_check_optional_series_of_an_asset_is_whole_and_of_numbers(name):
    for row, words in (
        ((1.0,) * 4, None),
        ((1.0,) * 3, f"{name}[x] has 3"),
        ((float("inf"),) * 4, f"{name}[x] holds"),
    ):
        changed: dict[str, Any] = {name: {"x": row}}
        problems = check_plan(SITE, replace(GOOD, **changed), T0, -1)
        assert (problems == ()) if words is None else any(words in p for p in problems), problems


@pytest.mark.parametrize("name", ["contingency", "contingency_by"])
def test_check_optional_names_are_whole(name):
    changed: dict[str, Any] = {name: ("gen1",) * 3}
    assert told(replace(GOOD, **changed), f"{name} has 3") == 1


def test_check_one_bad_number_among_good_ones_is_enough():
    nan = float("nan")
    assert told(replace(GOOD, grid_p_kw=(*GOOD.grid_p_kw[:3], nan)), "grid_p_kw holds") == 1
    assert told(replace(GOOD, peak_import_kw=nan), "peak_import_kw") == 1


def at(name: str, key: str, value: float, step: int = 1, plan: Plan = GOOD) -> Plan:
    return bent(plan, name, key, step, value)


RUNNING = plan_of(SITE, bess_kw=[0.0] * 4, gen1_kw=[150.0] * 4, load_kw=300.0)
EDGES: dict[str, tuple[Plan, Plan, str]] = {  # just inside, just outside, what is told of the second alone
    "discharge": (at("bess_p_kw", "bess1", 501.0), at("bess_p_kw", "bess1", 501.01), "bess_p_kw[bess1] is"),
    "charge": (at("bess_p_kw", "bess1", -501.0), at("bess_p_kw", "bess1", -501.01), "bess_p_kw[bess1] is"),
    "half on": (at("genset_on", "gen1", 0.001), at("genset_on", "gen1", 0.0011), "genset_on[gen1]"),
    "half off": (at("genset_on", "gen1", 0.9991, plan=RUNNING), at("genset_on", "gen1", 0.9989, plan=RUNNING),
                 "genset_on[gen1]"),
    "least": (at("genset_p_kw", "gen1", 119.0, plan=RUNNING), at("genset_p_kw", "gen1", 118.99, plan=RUNNING),
              "genset_p_kw[gen1] is"),
    "rated": (at("genset_p_kw", "gen1", 401.0, plan=RUNNING), at("genset_p_kw", "gen1", 401.01, plan=RUNNING),
              "genset_p_kw[gen1] is"),
    "off": (at("genset_p_kw", "gen2", 1.0), at("genset_p_kw", "gen2", 1.01), "genset_p_kw[gen2] is"),
    "sun": (at("pv_p_kw", "pv1", 17.0), at("pv_p_kw", "pv1", 17.01), "more than is available"),
    "dark": (at("pv_p_kw", "pv1", -1.0), at("pv_p_kw", "pv1", -1.01), "pv_p_kw[pv1] is"),
    "inverter": (
        at("pv_available_kw", "pv1", 999.0, plan=at("pv_p_kw", "pv1", 601.0)),
        at("pv_available_kw", "pv1", 999.0, plan=at("pv_p_kw", "pv1", 601.01)), "pv_p_kw[pv1] is",
    ),
    "import": (replace(GOOD, grid_p_kw=(200.0, 351.0, 170.0, 180.0)),
               replace(GOOD, grid_p_kw=(200.0, 351.01, 170.0, 180.0)), "grid_p_kw is"),
    "export": (replace(GOOD, grid_p_kw=(200.0, -1.0, 170.0, 180.0)),
               replace(GOOD, grid_p_kw=(200.0, -1.01, 170.0, 180.0)), "grid_p_kw is"),
    "shed none": (at("shed_kw", "critical", -1.0), at("shed_kw", "critical", -1.01), "shed_kw[critical]"),
    "shed all": (at("shed_kw", "critical", 61.0), at("shed_kw", "critical", 61.01), "shed_kw[critical]"),
}  # fmt: skip


@pytest.mark.parametrize("name", EDGES)
def test_check_limit_to_the_digit(name):
    inside, outside, words = EDGES[name]
    assert told(inside, words) == 0
    assert told(outside, words) == 1


@pytest.mark.parametrize(("kw", "count"), [(1.0, 0), (-1.0, 0), (1.01, 1), (-1.01, 1)])
def test_check_island_takes_nothing_from_the_grid(kw, count):
    plan = plan_of(SITE, bess_kw=[200.0] * 4, modes=(ISLAND,) * 4)
    assert told(replace(plan, grid_p_kw=(0.0, kw, 0.0, 0.0)), "grid_p_kw is") == count


@pytest.mark.parametrize(("kw", "count"), [(-1.0, 0), (-1.01, 1), (41.0, 0), (41.01, 1)])
def test_check_deferrable_load_to_the_digit(kw, count):
    pump = DeferrableParams(id="pump", feeder="essential", p_kw=40.0, p_min_kw=0.0, unfinished_per_kwh=0.1)
    plan = replace(GOOD, deferrable_kw={"pump": (0.0, kw, 0.0, 0.0)})
    assert told(plan, "deferrable_kw[pump] is", replace(SITE, deferrables=(pump,))) == count


@pytest.mark.parametrize(("off_kw", "ok"), [(-3.0, True), (-3.01, False), (5.0, True), (5.01, False)])
def test_check_balance_is_within_a_kilowatt_and_a_percent_and_the_batteries_own_use(off_kw, ok):
    plan = replace(GOOD, grid_p_kw=(GOOD.grid_p_kw[0] + off_kw, *GOOD.grid_p_kw[1:]))
    assert (told(plan, "does not balance in step 0") == 0) is ok


def test_check_what_is_shed_needs_no_source():
    shed = at("shed_kw", "essential", 40.0)
    grid = tuple(p - (40.0 if t == 1 else 0.0) for t, p in enumerate(GOOD.grid_p_kw))
    assert check_plan(SITE, replace(shed, grid_p_kw=grid), T0, -1) == ()


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (replace(GOOD, bess_p_kw={"bess1": (999.0,) * 4}), "bess_p_kw[bess1] is"),
        (replace(GOOD, bess_soc_end={"bess1": (0.6, 0.2, 0.6, 0.2)}), "bess_soc_end[bess1]"),
        (replace(GOOD, bess_soc_end={"bess1": (9.0,) * 4}), "bess_soc_end[bess1]"),
        (replace(GOOD, genset_on={"gen1": (0.5,) * 4, "gen2": (0.0,) * 4}), "genset_on[gen1]"),
        (replace(GOOD, genset_p_kw={"gen1": (50.0,) * 4, "gen2": (0.0,) * 4}), "genset_p_kw[gen1]"),
        (replace(GOOD, pv_p_kw={"pv1": (500.0,) * 4}), "more than is available"),
        (replace(GOOD, shed_kw={"critical": (99.0,) * 4}), "shed_kw[critical]"),
        (replace(GOOD, grid_p_kw=(999.0,) * 4), "grid_p_kw is"),
        (replace(GOOD, grid_p_kw=(0.0,) * 4), "does not balance"),
    ],
)
def test_check_series_that_is_wrong_all_over_is_told_once(plan, words):
    assert told(plan, words) == 1


@pytest.mark.parametrize(
    ("p_kw", "soc", "hours", "kwh"),
    [
        (0.0, 0.5, 1.0, -2.0 - 0.01 * 0.5 * 1000.0),
        (0.5, 0.0, 2.0, -2.0 * (0.5 / 0.9 + 0.02 * 0.25 / 500.0 + 2.0)),
        (200.0, 0.5, 0.5, -0.5 * (200.0 / 0.9 + 0.02 * 40000.0 / 500.0 + 2.0 + 5.0)),
        (-200.0, 0.8, 0.25, 0.25 * (200.0 * 0.95 - 0.03 * 40000.0 / 500.0 - 2.0 - 8.0)),
    ],
)
def test_stored_change_known_answers(p_kw, soc, hours, kwh):
    params = battery(
        eta_charge=0.95,
        eta_discharge=0.9,
        loss_charge_pu=0.03,
        loss_discharge_pu=0.02,
        self_discharge_per_h=0.01,
    )
    assert stored_change_kwh(params, p_kw, soc, hours) == pytest.approx(kwh, abs=1e-9)


DEAR_AT_FIRST = LossCurve(p_kw=(0.0, 100.0, 500.0), loss_kw=(0.0, 20.0, 40.0))  # slopes of 0.2 and 0.05


@pytest.mark.parametrize(
    ("p_kw", "curves", "kwh"),
    [
        (100.0, ("charge_curve", "discharge_curve"), -61.0),  # 120 and 2 kW for half an hour
        (-100.0, ("charge_curve", "discharge_curve"), 39.0),
        (0.0, ("charge_curve", "discharge_curve"), -1.0),
        (300.0, ("discharge_curve",), -166.0),  # 330 and 2 kW
        (300.0, ("charge_curve",), -0.5 * (300.0 / 0.9 + 2.0)),
        (-300.0, ("discharge_curve",), 0.5 * (300.0 * 0.95 - 2.0)),
    ],
)
def test_stored_change_goes_by_points_of_efficiency_each_way(p_kw, curves, kwh):
    params = battery(
        eta_charge=0.95, eta_discharge=0.9, loss_charge_pu=0.0, loss_discharge_pu=0.0,
        self_discharge_per_h=0.0,
        **dict.fromkeys(curves, DEAR_AT_FIRST),
    )  # fmt: skip
    assert stored_change_kwh(params, p_kw, 0.5, 0.5) == pytest.approx(kwh)


def test_check_believes_the_charge_of_a_plan_by_the_points_and_no_other():
    """At 190 kW 152 kW are lost, 38 kWh in a quarter of an hour: 3.8 % of 1 MWh, 2 % are allowed."""
    steep = LossCurve(p_kw=(0.0, 500.0), loss_kw=(0.0, 400.0))
    plant = replace(SITE, bess=(replace(SITE.bess[0], battery=battery(discharge_curve=steep)),))
    plan = plan_of(plant, bess_kw=[190.0, 190.0, -100.0])
    assert check_plan(plant, plan, T0, -1) == ()
    assert told(plan, "bess_soc_end") == 1


@pytest.mark.parametrize("step_s", [300.0, 900.0, 1800.0])
@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_check_charge_follows_the_power_within_two_percent_a_quarter_of_an_hour(step_s, step, sign):
    plan = plan_of(SITE, bess_kw=[0.0, 50.0, -60.0], step_s=step_s)
    most = 0.02 * max(1.0, step_s / 900.0)
    soc = plan.bess_soc_end["bess1"]
    for off, count in ((0.93 * most, 0), (1.07 * most, 1)):
        moved = tuple(s + (sign * off if t >= step else 0.0) for t, s in enumerate(soc))
        assert told(replace(plan, bess_soc_end={"bess1": moved}), f"in step {step}, ") == count


@pytest.mark.parametrize(
    ("soc", "words"),
    [
        (0.09, ""),  # 0.08 with the tolerance
        (0.07, "in step 8, allowed 0.08"),  # two hours to come back
        (0.965, ""),
        (0.985, "in step 8, allowed"),
    ],
)
def test_check_battery_outside_its_window_has_two_hours_to_come_back(soc, words):
    idle = replace(SITE, bess=(replace(SITE.bess[0], battery=battery(no_load_loss_kw=0.0)),))
    plan = plan_of(idle, bess_kw=[0.0] * 12, soc=soc)
    problems = check_plan(idle, plan, T0, -1)
    assert (problems == ()) if not words else any(words in p for p in problems), problems


def test_check_battery_outside_its_window_goes_no_further_out():
    plan = plan_of(SITE, bess_kw=[60.0] * 3, soc=0.09)
    assert told(plan, "bess_soc_end[bess1] is") == 1
    full = plan_of(SITE, bess_kw=[-60.0] * 3, soc=0.97, load_kw=100.0)
    assert told(full, "bess_soc_end[bess1] is") == 1
    assert told(replace(full, bess_soc_end={"bess1": (1.001,) * 3}), "allowed 0.08 to 1.00") == 1


def test_check_first_step_is_judged_by_where_the_battery_stands_before_it():
    """From 0.12 a quarter of an hour at 200 kW ends at 0.066: below the window, and from inside it."""
    plan = plan_of(SITE, bess_kw=[200.0, 0.0], soc=0.12, load_kw=250.0)
    assert plan.bess_soc_end["bess1"][0] == pytest.approx(0.066, abs=0.005)
    assert told(plan, "bess_soc_end[bess1] is") == 1
    gentle = plan_of(SITE, bess_kw=[40.0, 0.0], soc=0.09, load_kw=250.0)
    assert told(gentle, "bess_soc_end[bess1] is") == 0


def test_check_where_the_battery_stands_before_the_first_step_is_worked_out_over_its_own_length():
    """From 0.11 an hour at 60 kW ends at 0.045; five minutes of it would have begun outside the window."""
    plan = plan_of(SITE, bess_kw=[60.0], soc=0.11, load_kw=250.0, step_s=3600.0)
    end = plan.bess_soc_end["bess1"][0]
    assert end == pytest.approx(0.045, abs=0.005)
    two = plan_of(SITE, bess_kw=[60.0, 0.0], soc=0.11, load_kw=250.0)
    grid = TimeGrid(start=T0, step_s=(3600.0, 300.0))
    uneven = replace(two, grid=grid, bess_soc_end={"bess1": (end, end)})
    assert told(uneven, "bess_soc_end[bess1] is") == 1


# --- the charge that is there -------------------------------------------------------------------------------

CHARGE_PLAN = plan_of(site(), bess_kw=[200.0] * 4, soc=0.6)


def charge_problems(at_s: float, soc: float, tolerance: float = 0.1) -> tuple[str, ...]:
    used = replace(site(), plan_soc_tolerance=tolerance)
    return check_charge(used, CHARGE_PLAN, {"bess1": soc}, T0 + timedelta(seconds=at_s))


def test_charge_of_now_is_that_of_the_plans_own_way():
    """A late plan has gone on without us: what it began with says nothing any more."""
    ends = CHARGE_PLAN.bess_soc_end["bess1"]
    for at_s, planned in ((0.0, 0.6), (450.0, (0.6 + ends[0]) / 2.0), (900.0, ends[0]), (2700.0, ends[2])):
        for off in (-0.11, 0.11):
            (problem,) = charge_problems(at_s, planned + off)
            assert "counts on bess1" in problem
            assert "plan_soc_tolerance" in problem
        for off in (-0.09, 0.0, 0.09):
            assert charge_problems(at_s, planned + off) == ()
    assert charge_problems(2700.0, 0.6) != (), "the battery has not followed this plan"


def test_charge_tolerance_is_the_sites():
    assert charge_problems(0.0, 0.75) != ()
    assert charge_problems(0.0, 0.75, tolerance=0.2) == ()


def test_charge_before_the_first_step_may_still_get_there():
    battery = site().bess[0].battery
    gap = 600.0 / 3600.0 * battery.p_nominal_kw / battery.energy_kwh
    assert charge_problems(-600.0, 0.6 - 0.09 - gap) == ()
    assert charge_problems(-600.0, 0.6 - 0.11 - gap) != ()
