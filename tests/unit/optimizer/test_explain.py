"""Explanations of small problems whose reasons are known by hand, and every sentence of them checked.

The plans begin at midnight UTC; sentences speak in the site's local time, three hours ahead.
"""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ems.assets import QuietHours
from ems.errors import DataError
from ems.explanation import CommitmentWhy, Explanation, ReasonCode, SetpointWhy
from ems.plan import Plan, PlanLabel
from ems.site import GridMode, Maintenance, Site
from optimizer import Formulation, Planner, PlannerOptions
from optimizer.explain import Posed, explain
from tests import builders
from tests.unit.optimizer.explanation_check import Checker
from tests.unit.optimizer.posing import (
    EXACT,
    PLAIN,
    T0,
    Pose,
    feeder,
    ideal_bess,
    outage,
    small_genset,
    small_site,
)


def explained(pose: Pose, options: PlannerOptions = EXACT) -> tuple[Plan, Explanation]:
    """Solve, explain, and check every sentence."""
    plan = pose.plan(options)
    posed = Posed(site=pose.site, condition=pose.condition(), forecast=pose.forecast(), options=options)
    e = explain(posed, plan)
    done = Checker(posed, plan, e).run()
    assert not done.false, "\n".join(done.false)
    assert done.held["subject"] == len(e.setpoints) > 0
    return plan, e


def why(e: Explanation, asset: str, step: int) -> SetpointWhy:
    return next(w for w in e.setpoints if w.asset == asset and w.step == step)


def run_of(e: Explanation, asset: str, on: bool) -> CommitmentWhy:
    return next(c for c in e.commitments if c.asset == asset and c.on is on)


def keys(w: SetpointWhy | CommitmentWhy) -> list[str]:
    return [r.key for r in w.reasons]


LOAD = feeder("load", voll=20.0)


def test_explain_two_prices_battery_moves_energy_for_the_dear_hours():
    """Bought at 0.10, 0.9 of it stored, used at 0.30: 1 kW less in the dear hour costs 0.30 - 0.10 / 0.9."""
    pose = Pose(
        site=small_site(bess=[ideal_bess(eta_charge=0.9)], feeders=[LOAD]), load_kw={"load": 20.0},
        import_per_kwh=[0.1, 0.3], soc=0.0, steps=2,
    )  # fmt: skip
    plan, e = explained(pose)
    assert plan.bess_p_kw["bess1"] == pytest.approx((-10.0, 9.0))
    dear, cheap = why(e, "bess1", 1), why(e, "bess1", 0)
    assert dear.code is ReasonCode.PRICE
    assert keys(dear)[0] == "forecast.import_per_kwh[1:2]"
    assert dear.power_worth_per_kwh == pytest.approx(0.3)
    assert dear.alternatives[0].more_cost == pytest.approx(0.3 - 0.1 / 0.9)
    assert cheap.alternatives[0].p_kw == pytest.approx(-9.0)
    assert cheap.alternatives[0].more_cost == pytest.approx(0.9 * 0.3 - 0.1)
    assert keys(cheap)[0] == "forecast.import_per_kwh[0:1]"
    assert cheap.sentence.startswith(
        "bess1 charges 10 kW Mon 03:00 to 04:00, its limit, for Mon 04:00 to 05:00 at 0.3 USD/kWh; "
    )
    assert cheap.use is not None
    assert cheap.use.asset == pose.site.grid.id
    assert cheap.use.more_cost == pytest.approx(0.3)


def test_explain_import_cap_binds_the_cap_is_the_reason_and_has_its_worth():
    """15 kWh are wanted above a cap of 15 kW, 10 are stored: a kW of cap saves a kWh of lost load."""
    pose = Pose(
        site=small_site(bess=[ideal_bess()], feeders=[LOAD], import_kw=15.0),
        load_kw={"load": [10.0, 20.0, 20.0, 20.0]}, import_per_kwh=[0.1, 0.2, 0.2, 0.2], soc=1.0,
    )  # fmt: skip
    _, e = explained(pose)
    shed = sum(w.p_kw for w in e.setpoints if w.asset == "load")
    assert shed == pytest.approx(5.0)
    cap = next(x for x in e.worths if x.key == "grid.p_import_kw_max" and x.step == 3)
    assert cap.saving_cost == pytest.approx(20.0 - 0.2)
    assert {"grid.p_import_kw_max", "bess.bess1.battery.energy_kwh"} <= set(e.conflicts[0].keys)
    assert e.conflicts[0].minimal
    assert "load is not served, 5.0 kWh" in e.conflicts[0].sentence


def test_explain_conflict_says_what_the_battery_still_holds_where_power_is_not_what_is_short():
    """10 kWh of which the first hour takes 6: the second hour's 8 kW are within its power, not its energy."""
    pose = Pose(site=small_site(bess=[ideal_bess()], feeders=[LOAD]), load_kw={"load": [0.0, 6.0, 8.0, 0.0]},
                outages=(outage(1, 2),), soc=1.0)  # fmt: skip
    _, e = explained(pose)
    short = e.conflicts[0]
    assert "load is not served, 4.0 kWh" in short.sentence
    assert "bess.bess1.battery.energy_kwh" in short.keys
    assert "batteries 10 kW, which hold 4 kWh at its start, gensets 0.0 kW, grid 0.0 kW" in short.sentence
    assert "cost aside" in short.sentence


def test_explain_pv_beyond_load_curtailed_for_the_export_cap():
    site = small_site(pv=[builders.site().pv[0]], feeders=[LOAD])
    pose = Pose(site=site, load_kw={"load": 20.0}, pv_kw={site.pv[0].id: 50.0}, export_per_kwh=0.05, steps=2)
    _, e = explained(pose)
    w = why(e, site.pv[0].id, 0)
    assert keys(w) == ["grid.p_export_kw_max"]
    assert w.power_worth_per_kwh == pytest.approx(0.0)
    assert "is curtailed by 30 kW of 50 kW" in w.sentence


def test_explain_free_choice_is_called_indifferent():
    """Energy bought at 0.09, of which 0.9 is stored, is worth 0.10 in the end: all the same."""
    options = replace(EXACT, terminal_per_kwh=(0.1, 0.1, 0.1))
    site = small_site(bess=[ideal_bess(eta_charge=0.9)], feeders=[LOAD])
    pose = Pose(site=site, load_kw={"load": 20.0}, import_per_kwh=0.09)
    _, e = explained(pose, options)
    assert why(e, "bess1", 0).code is ReasonCode.INDIFFERENT


def test_explain_demand_charge_is_the_reason_of_a_flat_import():
    """A kW of peak at 5.00 pays for the way through the battery, a kWh at 0.10 does not."""
    battery = ideal_bess(energy_kwh=100.0, eta_charge=0.9, eta_discharge=0.9)
    site = small_site(bess=[battery], feeders=[LOAD], demand_per_kw=5.0)
    pose = Pose(site=site, load_kw={"load": [10.0, 30.0, 10.0, 30.0]}, soc=0.5)
    _, e = explained(pose, replace(EXACT, terminal_per_kwh=(0.1, 0.1, 0.1)))
    assert "tariff.demand_charge_per_kw" in keys(why(e, "bess1", 1))


def test_explain_genset_in_an_outage_runs_for_it_and_for_the_battery_too_weak():
    """Load 40 kW, battery 10 kW: 30 kW are short in the outage; without it the genset stays off."""
    site = small_site(bess=[ideal_bess()], gensets=[small_genset(start_cost=3.0)], feeders=[LOAD])
    pose = Pose(site=site, load_kw={"load": 40.0}, outages=(outage(1, 2),), soc=1.0)
    plan, e = explained(pose)
    assert plan.genset_on["gen1"] == (0.0, 1.0, 1.0, 0.0)
    run = run_of(e, "gen1", on=True)
    assert keys(run)[0] in ("outages.o1", "bess.bess1.battery.p_discharge_kw_max")
    assert "outages.o1" in keys(run)
    assert run.sentence.startswith("gen1 starts and runs Mon 04:00 to 06:00; Mon 04:00 load less PV exceeds")
    assert "the batteries' power by 30 kW" in run.sentence
    assert "without it at least 70 kWh of load are not served" in run.sentence
    assert run.need is not None
    assert (run.need.kind, run.need.critical) == ("power", False)
    # without it 80 kWh less 10 kWh of the battery are shed at 20.00 instead of burnt at 1.00, and no start
    without = 70.0 * 20.0 - 70.0 - 3.0
    assert run.low_cost == pytest.approx(without, abs=0.05)
    assert run.high_cost == pytest.approx(without, abs=0.05)
    off = run_of(e, "gen1", on=False)
    assert off.low_cost is not None
    assert off.low_cost > 0.0


def test_explain_critical_load_above_the_battery_is_told_by_its_kw():
    """Of 60 kW 40 kW are critical: 30 kW more than the battery gives, said before the whole load is."""
    feeders = [feeder("vital", voll=50.0, tier=1), feeder("rest", voll=5.0, tier=3)]
    site = small_site(bess=[ideal_bess()], gensets=[small_genset(start_cost=3.0)], feeders=feeders)
    site = replace(site, reserve=replace(site.reserve, critical_tier=1))
    pose = Pose(site=site, load_kw={"vital": 40.0, "rest": 20.0}, outages=(outage(1, 2),), soc=1.0)
    _, e = explained(pose)
    run = run_of(e, "gen1", on=True)
    assert "critical load less PV exceeds the batteries' power by 30 kW (40 kW against 10 kW)" in run.sentence
    assert "without it at least 110 kWh of load are not served" in run.sentence


def test_explain_battery_charges_for_the_outage_in_which_the_energy_is_missed():
    """Charged before the outage from mains, used in it: a kWh less is a kWh of load less, at 20.00."""
    site = small_site(bess=[ideal_bess(energy_kwh=40.0)], feeders=[LOAD])
    pose = Pose(site=site, load_kw={"load": [5.0, 5.0, 20.0, 5.0]}, outages=(outage(2, 2),), soc=0.0, steps=4)
    plan, e = explained(pose)
    assert plan.bess_p_kw["bess1"][2] == pytest.approx(10.0)
    charging = next(w for w in e.setpoints if w.asset == "bess1" and w.p_kw < -1.0)
    assert charging.use is not None
    assert (charging.use.asset, charging.use.outage) == ("load", True)
    assert charging.use.more_cost == pytest.approx(20.0)
    assert ", for the outage Mon 05:00 to 06:00; " in charging.sentence
    assert "made up by shedding load in the outage Mon 05:00 to 06:00" in charging.sentence


def test_explain_genset_against_the_peak_says_what_the_import_would_reach():
    """A kW of peak at 5.00 pays for an hour of diesel: without the run the import reaches the load."""
    site = small_site(gensets=[small_genset()], feeders=[LOAD], demand_per_kw=5.0)
    _, e = explained(Pose(site=site, load_kw={"load": [20.0, 70.0, 20.0, 20.0]}))
    run = run_of(e, "gen1", on=True)
    assert run.need is not None
    assert run.need.kind == "peak"
    assert (
        "without it the import reaches at least 70 kW in a billing interval instead of 20 kW" in run.sentence
    )


def test_explain_maintenance_of_one_genset_is_why_the_dearer_one_runs():
    """40 kW for two hours: 80 kWh at 2.00 instead of at 1.00, because gen1 is being worked on."""
    dear = small_genset("gen2", fuel_l_h=(0.0, 200.0))
    site = small_site(gensets=[small_genset(), dear], feeders=[LOAD])
    window = Maintenance(asset="gen1", start=T0 + timedelta(hours=1), end=T0 + timedelta(hours=3))
    pose = Pose(site=replace(site, maintenance=(window,)), load_kw={"load": 40.0}, outages=(outage(1, 2),))
    _, e = explained(pose)
    run = run_of(e, "gen2", on=True)
    told = next(r for r in run.reasons if r.key == "maintenance[0]")
    assert told.saving_cost == pytest.approx(80.0, abs=0.05)
    assert (
        "without the maintenance of gen1 Mon 04:00 to 06:00 leaving it off, with gen1 switched to suit, "
        "would save at least 80.00 USD"
    ) in run.sentence


def test_explain_genset_off_for_its_maintenance_says_what_running_would_save():
    """In maintenance throughout: 80 kWh of load are lost at 20.00 that could be had at 1.00."""
    site = small_site(gensets=[small_genset()], feeders=[LOAD])
    window = Maintenance(asset="gen1", start=T0, end=T0 + timedelta(hours=4))
    pose = Pose(site=replace(site, maintenance=(window,)), load_kw={"load": 40.0}, outages=(outage(1, 2),))
    _, e = explained(pose)
    off = run_of(e, "gen1", on=False)
    assert "; bound by its maintenance Mon 03:00 to 07:00; " in off.sentence
    assert off.code is ReasonCode.LIMIT
    assert [(r.key, r.at_least) for r in off.reasons] == [("maintenance[0]", True)]
    assert "gensets 0.0 kW" in e.conflicts[0].sentence
    assert off.reasons[0].saving_cost == pytest.approx(80.0 * 19.0, abs=0.05)


def test_explain_genset_off_in_its_quiet_hours_names_them():
    """Import at 2.00 against diesel at 1.00: 40 kWh an hour save 40, the quiet hours cost 100."""
    quiet = (QuietHours(start_h=5.0, end_h=7.0, cost_per_h=100.0),)  # local: hours 2 and 3
    site = small_site(gensets=[small_genset(quiet=quiet)], feeders=[LOAD])
    plan, e = explained(Pose(site=site, load_kw={"load": 40.0}, import_per_kwh=2.0))
    assert plan.genset_on["gen1"] == (1.0, 1.0, 0.0, 0.0)
    off = run_of(e, "gen1", on=False)
    told = next(r for r in off.reasons if r.key == "gensets.gen1.quiet")
    assert told.saving_cost == pytest.approx(80.0, abs=0.05)
    assert "without the quiet hours of gen1 running some of it would save at least 80.00 USD" in off.sentence


def test_explain_genset_stays_on_because_it_may_not_start_again():
    """Through two hours at 0.50 at minimum load, 30 kW x 0.50 dearer each, for one start a day."""
    site = small_site(gensets=[small_genset(starts_per_day_max=1)], feeders=[LOAD])
    pose = Pose(site=site, load_kw={"load": 40.0}, import_per_kwh=[2.0, 0.5, 0.5, 2.0])
    plan, e = explained(pose)
    assert plan.genset_on["gen1"] == (1.0, 1.0, 1.0, 1.0)
    told = next(r for r in run_of(e, "gen1", on=True).reasons if r.key == "gensets.gen1.starts_per_day_max")
    assert told.saving_cost == pytest.approx(30.0, abs=0.05)
    assert told.leaving == "leaving some of it off"


def reserve_site(**policy: Any) -> Site:
    """Two gensets of 50 kW in an island, of which one carries the load."""
    site = small_site(gensets=[small_genset(g, p_rated_kw=50.0, p_min_kw=5.0) for g in ("gen1", "gen2")],
                      feeders=[LOAD])  # fmt: skip
    none = {"load_ratio": 0.0, "pv_ratio": 0.0, "failed_starts": 0, "shortfall_per_kwh": 5.0}
    return replace(site, reserve=replace(site.reserve, **(none | policy)))


RESERVE = replace(EXACT, formulation=replace(PLAIN, reserve=True))


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"load_ratio": 0.5}, "without reserve for 50% of the load leaving it off would save"),
        ({"motor_start_kw": 25.0}, "without cover for a motor start of 25 kW leaving it off would save"),
        ({"n_minus_1": ("genset",)}, "without cover for the loss of a genset leaving it off would save"),
    ],
)
def test_explain_second_genset_runs_for_the_reserve_that_asks_for_it(policy: dict[str, Any], words: str):
    """One of 50 kW carries 40 kW; the second costs 1.00 a running hour and is there to be ready."""
    site = reserve_site(**policy)
    units = tuple(replace(g, running_cost_per_h=1.0) for g in site.gensets)
    pose = Pose(site=replace(site, gensets=units), load_kw={"load": 40.0}, mode=GridMode.ISLANDED, steps=2)
    plan, e = explained(pose, RESERVE)
    assert all(on == (1.0, 1.0) for on in plan.genset_on.values())
    run = run_of(e, "gen2", on=True)
    assert words in run.sentence, run.sentence
    assert run.code is ReasonCode.OUTAGE  # with the mains back neither would run
    assert run.need is not None
    assert run.need.kind == "reserve"


def test_explain_battery_is_kept_for_the_outage_to_be_survived():
    """Energy that would earn 0.40 a kWh stays, so that 20 kW live for an hour."""
    site = small_site(bess=[ideal_bess(energy_kwh=40.0, p_discharge_kw_max=40.0)], feeders=[LOAD])
    policy = replace(
        site.reserve, survive_h=1.0, load_ratio=0.0, pv_ratio=0.0, critical_tier=2, shortfall_per_kwh=5.0
    )
    site = replace(site, reserve=policy)
    pose = Pose(site=site, load_kw={"load": 20.0}, import_per_kwh=0.5, soc=1.0, steps=2)
    plan, e = explained(pose, replace(RESERVE, terminal_per_kwh=(0.1, 0.1, 0.1)))
    assert plan.bess_soc_end["bess1"][-1] == pytest.approx(0.5)
    told = {r.key for w in e.setpoints if w.asset == "bess1" for r in w.reasons}
    assert "reserve.survive_h" in told


def test_explain_twin_gensets_one_can_stand_in_for_the_other():
    """Not this one is not "neither": the order of identical units must not make the other choice dear."""
    site = small_site(gensets=[small_genset("gen1"), small_genset("gen2")], feeders=[LOAD])
    pose = Pose(site=site, load_kw={"load": 40.0}, outages=(outage(1, 2),))
    plan, e = explained(pose, replace(EXACT, formulation=replace(PLAIN, symmetry=True)))
    runs = next(g for g, on in plan.genset_on.items() if on[1] > 0.5)
    assert run_of(e, runs, on=True).high_cost == pytest.approx(0.0, abs=1e-6)


def test_explain_genset_at_minimum_load_is_said_to_be_there():
    site = small_site(gensets=[small_genset()], feeders=[LOAD], import_kw=35.0)
    pose = Pose(site=site, load_kw={"load": [20.0, 40.0, 40.0, 20.0]})
    _, e = explained(pose)
    w = why(e, "gen1", 1)
    assert w.p_kw == pytest.approx(30.0)
    assert ", its minimum load; " in w.sentence
    assert "gensets.gen1.p_min_kw" in keys(w)


def test_explain_unit_away_is_said_to_be_away_and_named_in_the_conflict():
    site = small_site(gensets=[small_genset()], feeders=[LOAD])
    pose = Pose(
        site=site, load_kw={"load": 40.0}, outages=(outage(1, 2),), gensets_now={"gen1": {"available": False}}
    )
    _, e = explained(pose)
    assert "it is not available" in run_of(e, "gen1", on=False).sentence
    assert set(e.conflicts[0].keys) == {"gensets.gen1.available", "outages.o1"}
    assert e.conflicts[0].minimal


def test_explain_tank_too_small_conflict_names_it_and_a_litre_has_its_worth():
    """80 kWh in the outage at 1 L/kWh from a tank of 50 L; a litre more saves its rung of the ladder."""
    site = small_site(gensets=[small_genset()], feeders=[LOAD])
    pose = Pose(
        site=site, load_kw={"load": 40.0}, outages=(outage(1, 2),), gensets_now={"gen1": {"fuel_l": 50.0}}
    )
    _, e = explained(pose)
    missing = " ".join(c.sentence for c in e.conflicts)
    assert "gensets.gen1.tank_l" in {k for c in e.conflicts for k in c.keys}, missing
    litre = next(x for x in e.worths if x.key == "gensets.gen1.tank_l")
    assert litre.saving_cost > 1.0


def test_explain_cheap_load_shed_by_choice_is_no_conflict():
    """At 0.80 per kWh the load is worth less than the diesel: no limit forces it."""
    site = small_site(gensets=[small_genset()], feeders=[feeder("load", voll=0.8)])
    pose = Pose(site=site, load_kw={"load": 40.0}, outages=(outage(1, 2),))
    _, e = explained(pose)
    assert [c.keys for c in e.conflicts] == [()]
    assert "no limit forces it" in e.conflicts[0].sentence


def test_explain_feeder_shed_whole_has_a_run_of_its_own():
    site = small_site(
        gensets=[small_genset()], feeders=[feeder("a", voll=20.0), feeder("b", voll=2.0, tier=3)]
    )
    pose = Pose(site=site, load_kw={"a": 80.0, "b": 40.0}, outages=(outage(1, 2),))
    options = replace(EXACT, formulation=Formulation(reserve=False, tie_break_ratio=0.0))
    _, e = explained(pose, options)
    run = run_of(e, "b", on=True)
    assert run.sentence.startswith("b is shed Mon 04:00 to 06:00; ")
    assert why(e, "b", 1).code is ReasonCode.COMMITMENT
    assert "gensets.gen1.p_rated_kw" in e.conflicts[0].keys


def test_explain_islanded_now_names_the_assumed_outage():
    site = small_site(bess=[ideal_bess()], gensets=[small_genset()], feeders=[LOAD])
    site = replace(site, reserve=replace(site.reserve, assumed_outage_h=2.0))
    pose = Pose(site=site, load_kw={"load": 40.0}, mode=GridMode.ISLANDED, soc=1.0)
    _, e = explained(pose)
    assert "reserve.assumed_outage_h" in keys(run_of(e, "gen1", on=True))


def test_explain_rescue_or_other_forecast_is_refused():
    pose = Pose(site=small_site(bess=[ideal_bess()], feeders=[LOAD]), load_kw={"load": 20.0})
    plan = pose.plan()
    posed = Posed(site=pose.site, condition=pose.condition(), forecast=pose.forecast(), options=EXACT)
    with pytest.raises(DataError, match="labelled shifted"):
        explain(posed, replace(plan, label=PlanLabel.SHIFTED))
    other = replace(pose, load_kw={"load": 25.0})
    with pytest.raises(DataError, match="no solution of this problem"):
        explain(replace(posed, forecast=other.forecast()), plan)


def test_explain_does_not_touch_the_planner():
    """The same plan before and after: nothing of a planner is used or kept."""
    pose = Pose(site=small_site(bess=[ideal_bess()], feeders=[LOAD]), load_kw={"load": 20.0})
    planner = Planner(pose.site, EXACT)
    one = planner.plan(pose.condition(), pose.forecast(), None, 1)
    explain(Posed(site=pose.site, condition=pose.condition(), forecast=pose.forecast(), options=EXACT), one)
    two = planner.plan(pose.condition(), pose.forecast(), None, 1)
    assert replace(one, solve=two.solve) == two


def _first_saving(e: Explanation) -> Explanation:
    w = next(w for w in e.setpoints if w.reasons)
    said = f"{w.reasons[0].saving_cost:.2f}"
    return _with_sentence(e, w, w.sentence.replace(said, f"{w.reasons[0].saving_cost + 0.5:.2f}"))


def _first_price(e: Explanation) -> Explanation:
    w = next(w for w in e.setpoints if "instead of 0.3" in w.sentence)
    words = w.reasons[0].change.replace("import at 0.1 ", "import at 0.29 ")
    told = replace(w, reasons=(replace(w.reasons[0], change=words), *w.reasons[1:]))
    return _with_sentence(e, w, w.sentence.replace("import at 0.1 ", "import at 0.29 "), told)


def _first_alternative(e: Explanation) -> Explanation:
    w = next(
        w for w in e.setpoints if any(a.more_cost is not None and a.more_cost > 0.1 for a in w.alternatives)
    )
    return _with_sentence(e, w, w.sentence.replace("would cost +", "would cost +1"))


def _first_worth(e: Explanation) -> Explanation:
    w = next(w for w in e.setpoints if "a kWh less demand would save 0." in w.sentence)
    return _with_sentence(e, w, w.sentence.replace("would save 0.", "would save 1.", 1))


def _power(e: Explanation) -> Explanation:
    w = next(w for w in e.setpoints if " charges 10 kW" in w.sentence)
    return _with_sentence(e, w, w.sentence.replace(" charges 10 kW", " charges 7.0 kW"))


def _use(e: Explanation) -> Explanation:
    w = next(w for w in e.setpoints if w.use is not None)
    return _with_sentence(e, w, re.sub(r"and cost (\d)", r"and cost 1\1", w.sentence))


def _use_elsewhere(e: Explanation) -> Explanation:
    w = next(w for w in e.setpoints if "made up by grid1" in w.sentence)
    return _with_sentence(e, w, w.sentence.replace("made up by grid1", "made up by gen1"))


def _need(e: Explanation) -> Explanation:
    c = next(c for c in e.commitments if c.need is not None)
    return _with_run(e, c, re.sub(r"power by (\d)", r"power by 9\1", c.sentence))


def _unserved(e: Explanation) -> Explanation:
    c = next(c for c in e.commitments if c.need is not None and c.need.unserved_kwh is not None)
    return _with_run(e, c, c.sentence.replace("without it at least ", "without it at least 1"))


def _conflict(e: Explanation) -> Explanation:
    c = e.conflicts[0]
    return replace(e, conflicts=(replace(c, keys=c.keys[:-1]),))


def _run(e: Explanation) -> Explanation:
    c = next(c for c in e.commitments if c.low_cost is not None and c.low_cost > 1.0)
    return _with_run(e, c, c.sentence.replace("costs +", "costs +9"))


def _with_run(e: Explanation, c: CommitmentWhy, sentence: str) -> Explanation:
    assert sentence != c.sentence
    return replace(
        e, commitments=tuple(replace(x, sentence=sentence) if x is c else x for x in e.commitments)
    )


def _with_sentence(
    e: Explanation, w: SetpointWhy, sentence: str, told: SetpointWhy | None = None
) -> Explanation:
    assert sentence != w.sentence
    new = replace(w if told is None else told, sentence=sentence)
    return replace(e, setpoints=tuple(new if x is w else x for x in e.setpoints))


@pytest.mark.parametrize(
    "falsified",
    [
        _first_saving, _first_price, _first_alternative, _first_worth, _power, _conflict, _run, _use,
        _use_elsewhere, _need, _unserved,
    ],
)  # fmt: skip
def test_explanation_check_finds_each_kind_of_false_sentence(falsified):
    """A check that cannot fail would prove nothing."""
    site = small_site(
        bess=[ideal_bess(eta_charge=0.9)],
        gensets=[small_genset(p_rated_kw=50.0, p_min_kw=15.0)],
        feeders=[LOAD],
    )
    pose = Pose(
        site=site,
        load_kw={"load": 70.0},
        import_per_kwh=[0.1, 0.3, 0.1, 0.3],
        outages=(outage(3, 3),),
        soc=0.0,
    )
    plan = pose.plan()
    posed = Posed(site=site, condition=pose.condition(), forecast=pose.forecast(), options=EXACT)
    e = explain(posed, plan)
    assert not Checker(posed, plan, e).run().false
    assert Checker(posed, plan, falsified(e)).run().false
