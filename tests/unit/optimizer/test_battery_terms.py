"""Energy held back, resting high and a warranty: by hand, in the calendar, carried from plan to plan."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from dispatch.observing.bess_use import uses_after
from ems.battery_terms import RestingSoc, SocLimit, SocReserve, TemperatureLimit, Warranty
from ems.condition import BessUse
from ems.site import GridMode
from ems.tariff import LocalWindow
from optimizer.formulation import Formulation
from optimizer.intake import planning_problem
from optimizer.options import PlannerOptions
from optimizer.problem import PlanningProblem
from optimizer.validate import validate
from plant_models import battery
from tests import builders
from tests.unit.optimizer.posing import EXACT, T0, Pose, feeder, ideal_bess, objective, outage, small_site

NO_END_VALUE = replace(EXACT, terminal_per_kwh=(0.0, 0.0, 0.0))
ALWAYS = {"weekdays": frozenset(range(8)), "months": frozenset(range(1, 13))}
CARE = 0.5  # a quarter of the reserve's 2 per kWh: the rung of a warranty


def pose(battery: dict[str, Any], use: BessUse | None = None, **changes: Any) -> Pose:
    site = small_site(bess=(ideal_bess(**battery),), feeders=(feeder("load", 50.0),))
    values: dict[str, Any] = {
        "site": site, "load_kw": {"load": [8.0, 8.0]}, "import_per_kwh": 0.4, "steps": 2, "soc": 1.0,
        "bess_now": {"bess1": {"use": BessUse() if use is None else use}},
    }  # fmt: skip
    return Pose(**(values | changes))


def problem_of(x: Pose, options: PlannerOptions = NO_END_VALUE) -> PlanningProblem:
    return planning_problem(x.site, x.condition(), x.forecast(), options)


def discharged(x: Pose, options: PlannerOptions = NO_END_VALUE) -> list[float]:
    plan = x.plan(options)
    return [max(0.0, p) for p in plan.bess_p_kw["bess1"]]


def test_reserve_is_held_where_it_is_dearer_than_the_energy() -> None:
    kept = pose({"soc_reserve": (SocReserve(soc=0.6, price_per_kwh=2.0),)})
    assert sum(discharged(kept)) == pytest.approx(4.0)
    sold = pose({"soc_reserve": (SocReserve(soc=0.6, price_per_kwh=0.1),)}).plan(NO_END_VALUE)
    assert sold.bess_soc_end["bess1"] == pytest.approx((0.6, 0.0))  # short for one hour only
    assert sold.cost_terms["soc_reserve"] == pytest.approx(6.0 * 0.1)
    assert any("6.0 kWh below its reserve for outages" in note for note in sold.notes)


def test_reserve_without_a_price_has_that_of_the_operating_reserve() -> None:
    x = pose({"soc_reserve": (SocReserve(soc=0.6),)})
    assert problem_of(x).bess[0].care.reserve_per_kwh == pytest.approx(x.site.reserve.shortfall_per_kwh)


def test_reserve_is_there_when_the_outage_begins_and_used_in_it() -> None:
    x = pose(
        {"soc_reserve": (SocReserve(soc=0.6, price_per_kwh=2.0),)},
        outages=(outage(1, 1),),
        load_kw={"load": [8.0, 6.0]},
    )
    plan = x.plan(NO_END_VALUE)
    assert plan.bess_soc_end["bess1"] == pytest.approx((0.6, 0.0))
    assert plan.cost_terms["soc_reserve"] == pytest.approx(0.0)


def test_reserve_of_local_hours_holds_from_their_first_instant_to_their_last() -> None:
    """T0 is 03:00 in Nairobi: 05:00 to 06:00 is the step from 2 to 3, and the end of the one before."""
    evening = SocReserve(soc=0.6, local=LocalWindow(start_h=5.0, end_h=6.0, **ALWAYS), price_per_kwh=1.0)
    higher = SocReserve(soc=0.8, local=LocalWindow(start_h=5.5, end_h=5.6, **ALWAYS), price_per_kwh=3.0)
    x = pose({"soc_reserve": (evening, higher)}, steps=5, load_kw={"load": 0.0})
    care = problem_of(x).bess[0].care
    assert care.reserve_kwh == pytest.approx([0.0, 6.0, 8.0, 0.0, 0.0])
    assert care.reserve_per_kwh[1:3] == pytest.approx([1.0, 3.0])


def test_resting_high_has_a_price_and_the_battery_is_charged_late() -> None:
    """5 kWh bought at 0.1 for the hour at 0.5 rest above half full at 0.05 per kWh and hour."""
    x = pose(
        {"resting": RestingSoc(above_soc=0.5, price_per_kwh=0.05)},
        soc=0.5, steps=4, load_kw={"load": [0.0, 0.0, 0.0, 10.0]}, import_per_kwh=[0.1, 0.1, 0.1, 0.5],
    )  # fmt: skip
    plan = x.plan(NO_END_VALUE)
    assert plan.bess_soc_end["bess1"] == pytest.approx((0.5, 0.5, 1.0, 0.0))
    assert plan.cost_terms["resting_soc"] == pytest.approx(5.0 * 0.05)


def test_warranty_of_a_day_counts_what_was_used_and_begins_anew_at_local_midnight() -> None:
    """6 kWh a day, 4 used: 2 until 00:00 in Nairobi, 21 h from T0, and 6 after it."""
    load = np.zeros(24)
    load[[0, 22]] = 10.0
    limit = {"warranty": Warranty(day_kwh_max=6.0)}
    used = BessUse(day_kwh=4.0)
    x = pose(limit, used, steps=24, load_kw={"load": load})
    out = discharged(x)
    assert (sum(out[:21]), sum(out[21:])) == pytest.approx((2.0, 6.0))
    dear = replace(x, import_per_kwh=0.4 + CARE + 0.1).plan(NO_END_VALUE)
    assert sum(dear.bess_p_kw["bess1"]) == pytest.approx(10.0)
    assert dear.cost_terms["battery_warranty"] == pytest.approx(2.0 * CARE)
    assert any("2.0 kWh discharged beyond the 6 kWh a day of its warranty" in n for n in dear.notes)


def test_warranty_of_a_day_over_already_is_sunk() -> None:
    plan = pose({"warranty": Warranty(day_kwh_max=6.0)}, BessUse(day_kwh=9.0)).plan(NO_END_VALUE)
    assert plan.cost_terms["battery_warranty"] == pytest.approx(0.0)
    assert sum(plan.bess_p_kw["bess1"]) == pytest.approx(0.0, abs=1e-6)


def test_warranty_of_a_day_carried_over_two_plans_is_kept_over_both() -> None:
    limit = {"warranty": Warranty(day_kwh_max=6.0)}
    first = pose(limit, load_kw={"load": [4.0, 8.0]}, import_per_kwh=[0.45, 0.4])
    p_kw = first.plan(NO_END_VALUE).bess_p_kw["bess1"]
    assert p_kw == pytest.approx((4.0, 2.0))
    use = uses_after({"bess1": first.site.bess[0]}, {}, {"bess1": (p_kw[0], 0.6)}, T0, 3600.0)
    second = pose(limit, use["bess1"], soc=0.6, steps=1, load_kw={"load": [8.0]}, at=T0 + timedelta(hours=1))
    assert discharged(second) == pytest.approx([2.0])
    forgotten = pose(limit, soc=0.6, steps=1, load_kw={"load": [8.0]}, at=T0 + timedelta(hours=1))
    assert discharged(forgotten) == pytest.approx([6.0])


def test_warranty_of_a_year_is_paced_only_where_pace_has_a_price() -> None:
    """Two of the rest of the year's hours: an even share of what is left is what they may use."""
    rest_h = (306 * 24.0) - 3.0 - 24.0  # from 2 March 03:00 to the end of 2026
    left = 3.0 * rest_h / 2.0
    limit = Warranty(year_kwh_max=500.0 + left, pace_per_kwh=0.3)
    paced = pose({"warranty": limit}, BessUse(year_kwh=500.0), import_per_kwh=0.2)
    assert problem_of(paced).bess[0].care.pace_room_kwh == pytest.approx(503.0)
    assert sum(discharged(paced)) == pytest.approx(3.0)
    free = pose({"warranty": replace(limit, pace_per_kwh=0.0)}, BessUse(year_kwh=500.0), import_per_kwh=0.2)
    assert sum(discharged(free)) == pytest.approx(10.0)
    nearly = Warranty(year_kwh_max=501.0)
    assert sum(discharged(pose({"warranty": nearly}, BessUse(year_kwh=500.0)))) == pytest.approx(1.0)


def test_warranty_of_power_gives_way_to_load_that_would_be_lost() -> None:
    limit = {"warranty": Warranty(discharge_per_h_max=0.3, charge_per_h_max=0.2)}
    assert discharged(pose(limit)) == pytest.approx([3.0, 3.0])
    lost = pose(limit, mode=GridMode.ISLANDED, steps=1, load_kw={"load": [8.0]}).plan(NO_END_VALUE)
    assert lost.bess_p_kw["bess1"] == pytest.approx((8.0,))
    assert lost.cost_terms["battery_warranty"] == pytest.approx(5.0 * CARE)
    assert any("faster than the 3 kW of its warranty" in note for note in lost.notes)
    full = pose(limit, soc=0.0, steps=2, load_kw={"load": [0.0, 8.0]}, import_per_kwh=[0.1, 0.4])
    assert full.plan(NO_END_VALUE).bess_p_kw["bess1"] == pytest.approx((-2.0, 2.0))


def test_warranty_of_the_mean_state_of_charge_leaves_what_the_year_left() -> None:
    """0.5 over the year, 0.3 over 4 h so far: 0.7 over the next 4 h."""
    held = replace(EXACT, terminal_per_kwh=(0.6, 0.6, 0.6))
    use = BessUse(year_h=4.0, year_soc_h=1.2)
    limit = {"warranty": Warranty(mean_soc_max=0.5)}
    x = pose(limit, use, steps=4, load_kw={"load": 2.0})
    plan = x.plan(held)
    assert float(np.mean(plan.bess_soc_end["bess1"])) == pytest.approx(0.7)
    free = pose({}, steps=4, load_kw={"load": 2.0}).plan(held)
    assert float(np.mean(free.bess_soc_end["bess1"])) > 0.8


@pytest.mark.parametrize(
    ("term", "battery"),
    [
        ("soc_reserve", {"soc_reserve": (SocReserve(soc=0.9, price_per_kwh=0.01),)}),
        ("resting_soc", {"resting": RestingSoc(above_soc=0.1, price_per_kwh=0.01)}),
        ("battery_warranty", {"warranty": Warranty(day_kwh_max=3.0)}),
        ("battery_warranty", {"warranty": Warranty(discharge_per_h_max=0.2)}),
        ("battery_warranty", {"warranty": Warranty(year_kwh_max=9000.0, pace_per_kwh=0.1)}),
        ("battery_warranty", {"warranty": Warranty(mean_soc_max=0.05)}),
    ],
)
def test_the_replay_refuses_a_plan_that_leaves_a_term_out(term: str, battery: dict[str, Any]) -> None:
    x = pose(battery, load_kw={"load": [4.0, 4.0]}, import_per_kwh=1.5)
    plan, p = x.plan(NO_END_VALUE), problem_of(x)
    assert validate(plan, p).ok
    assert plan.cost_terms[term] > 0.0
    cheap = replace(plan, cost_terms={**plan.cost_terms, term: 0.9 * plan.cost_terms[term]})
    assert any(term in fault for fault in validate(cheap, p).faults)
    assert objective(plan) == pytest.approx(sum(plan.cost_terms.values()))


def test_use_that_is_no_count_is_taken_as_none_with_a_note() -> None:
    x = pose({"warranty": Warranty(day_kwh_max=6.0)}, BessUse(day_kwh=-1.0))
    p = problem_of(x)
    assert p.bess[0].care.day_used_kwh == 0.0
    assert any("no count" in note for note in p.notes)


COLD = (
    TemperatureLimit(temp_degc=0.0, charge_ratio=0.0, discharge_ratio=0.5),
    TemperatureLimit(temp_degc=10.0, charge_ratio=1.0, discharge_ratio=1.0),
    TemperatureLimit(temp_degc=40.0, charge_ratio=1.0, discharge_ratio=1.0),
    TemperatureLimit(temp_degc=50.0, charge_ratio=0.2, discharge_ratio=0.4),
)


@pytest.mark.parametrize(
    ("temp_degc", "charge_kw", "discharge_kw"),
    [
        (-20.0, 0.0, 5.0),
        (0.0, 0.0, 5.0),
        (5.0, 5.0, 7.5),
        (25.0, 10.0, 10.0),
        (45.0, 6.0, 7.0),
        (80.0, 2.0, 4.0),
    ],
)
def test_power_follows_the_temperature_table_both_ways(
    temp_degc: float, charge_kw: float, discharge_kw: float
) -> None:
    x = pose({"derating": COLD}, bess_now={"bess1": {"temp_degc": temp_degc}})
    start = problem_of(x).bess[0]
    assert start.p_charge_kw == pytest.approx([charge_kw] * 2)
    assert start.p_discharge_kw == pytest.approx([discharge_kw] * 2)
    out = discharged(replace(x, load_kw={"load": [9.0, 0.0]}))
    assert out[0] == pytest.approx(min(9.0, discharge_kw))


def test_temperature_moves_as_the_air_is_forecast_to_and_a_live_limit_still_narrows() -> None:
    x = pose({"derating": COLD}, bess_now={"bess1": {"temp_degc": 15.0, "p_discharge_kw_max": 6.0}})
    warmer = replace(x.forecast(), temp_degc=np.array([10.0, 0.0]))
    p = planning_problem(x.site, x.condition(), warmer, NO_END_VALUE)
    assert p.bess[0].p_discharge_kw == pytest.approx([6.0, 7.5])  # 15 degC and a live limit, then 5 degC
    assert any("discharge derated to 75% at 5 degC" in note for note in p.notes)
    unmeasured = planning_problem(x.site, replace(x, bess_now={}).condition(), warmer, NO_END_VALUE)
    assert unmeasured.bess[0].p_discharge_kw == pytest.approx([10.0, 5.0])


def test_unknown_temperature_is_said_and_a_derated_live_limit_is_no_news() -> None:
    blind = problem_of(pose({"derating": COLD}, bess_now={}))
    assert any("neither measured nor forecast" in note for note in blind.notes)
    live = {"temp_degc": 5.0, "p_charge_kw_max": 5.0, "p_discharge_kw_max": 7.5}
    known = problem_of(pose({"derating": COLD}, soc=0.5, bess_now={"bess1": live}))
    assert not any("live" in note for note in known.notes)


@pytest.mark.parametrize("soc", [0.06, 0.2, 0.6, 0.97])
@pytest.mark.parametrize("mode", [GridMode.GRID_TIED, GridMode.ISLANDED])
def test_power_by_soc_holds_in_plans_with_reserve_that_the_replay_accepts(soc: float, mode: GridMode) -> None:
    """Discharge 30 % at 10 % of charge, 80 % at half: power and what is held ready lie below the table."""
    table = (
        SocLimit(soc=0.0, charge_ratio=0.5, discharge_ratio=0.1),
        SocLimit(soc=0.5, charge_ratio=1.0, discharge_ratio=0.8),
        SocLimit(soc=1.0, charge_ratio=0.3, discharge_ratio=0.8),
    )
    site = builders.site()
    site = replace(
        site,
        bess=(builders.bess(power_by_soc=table),),
        reserve=replace(site.reserve, n_minus_1=("genset", "bess"), load_trip_kw=30.0),
    )
    x = Pose(
        site=site, steps=8, step_s=900.0, soc=soc, mode=mode, load_kw={"critical": 100.0, "essential": 150.0},
        import_per_kwh=[0.1] * 4 + [0.4] * 4,
    )  # fmt: skip
    plan = x.plan(replace(EXACT, formulation=Formulation()))
    top = [
        500.0 * battery.table_ratios(site.bess[0].battery, e + 0.016)[1] for e in plan.bess_soc_end["bess1"]
    ]
    assert all(p <= most + 0.5 for p, most in zip(plan.bess_p_kw["bess1"], top, strict=True))
