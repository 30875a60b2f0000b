"""Rules as the site file has them, in closed loop: windows of batteries, genset prime, what a BMS tells."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from dispatch.vocabulary import ControlMemory, PeakTargets
from ems.points import BessState
from ems.rules import RulesParams, TouParams
from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions, Row
from sim.rig_scenario import Power
from tests.builders import site
from tests.scenarios.plants import two_batteries

LOAD: Mapping[str, Power] = {"critical": 40.0, "essential": 20.0, "deferrable": 0.0}
PRIME = TouParams(base=RulesParams(genset_prime=True))


def plant(low: float = 0.1, high: float = 0.95, energy_kwh: float = 100.0, **changes: object) -> Site:
    """The small plant with another window; a battery that is charged in minutes."""
    plain = site()
    bess = plain.bess[0]
    battery = replace(
        bess.battery,
        soc_min=low,
        soc_max=high,
        energy_kwh=energy_kwh,
        soc_taper_low=low + 0.02,
        soc_taper_high=high - 0.02,
    )
    gensets = tuple(replace(g, min_up_s=60.0, min_down_s=60.0) for g in plain.gensets)
    return replace(plain, bess=(replace(bess, battery=battery),), gensets=gensets, **changes)  # type: ignore[arg-type]


def island(plant: Site, soc: float | Mapping[str, float], controller: str = "rules", **given: object) -> Rig:
    """bess1 forms, nothing runs."""
    options = RigOptions(soc=soc, islanded_by="bess1", horizon_s=20_000.0)
    given = {"load_kw": LOAD, "dt_s": 5.0, "options": options, **given}
    return Rig(plant, controller=controller, **given)  # type: ignore[arg-type]


def on_load(row: Row, genset: str = "gen1") -> bool:
    return row.decisions.condition.gensets[genset].on_load


def any_on(row: Row) -> bool:
    return not nobody(row)


def asked(row: Row) -> bool:
    """A rule asks for a set."""
    return any(t.value > 0.5 for t in row.decisions.targets.genset_run.values())


def soc(row: Row, bess: str = "bess1") -> float:
    return row.decisions.condition.bess[bess].soc


def nobody(row: Row) -> bool:
    return not any(on_load(row, g) for g in row.decisions.condition.gensets)


@pytest.mark.parametrize("controller", ["rules", "rules_tou", "plan"])
def test_window_below_the_usual_stop_gensets_stop_inside_it(controller: str):
    """0.20 to 0.60: the stop of 0.65 would never be reached, it is 0.459 there."""
    rig = island(plant(0.20, 0.60), 0.275, controller).run(1200.0)
    assert soc(rig.first(0.0, asked)) == pytest.approx(0.2 + 0.15 / 0.85 * 0.4, abs=0.003)
    stopped = rig.first(rig.first(0.0, any_on).t_s, nobody)
    assert soc(stopped) == pytest.approx(0.2 + 0.55 / 0.85 * 0.4, abs=0.01)
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)


def test_minimum_above_the_usual_start_a_genset_starts_on_charge_above_it():
    """0.30 to 0.95: the start of 0.25 would never be reached, and only an emergency would start a set."""
    rig = island(plant(0.30, 0.95), 0.42).run(200.0)
    first = rig.first(0.0, asked)
    assert soc(first) == pytest.approx(0.3 + 0.15 / 0.85 * 0.65, abs=0.003)
    assert "SoC 41%: a genset takes over" in str(first.decisions.targets.genset_run)


def test_stop_at_the_top_of_the_window_is_reached():
    own = TouParams(base=RulesParams(soc_start=0.5, soc_stop=0.6))
    rig = island(plant(0.2, 0.6, rules=own), 0.505).run(1200.0)
    started = rig.first(0.0, any_on)
    assert soc(rig.first(started.t_s, nobody)) >= 0.58


@pytest.mark.parametrize("controller", ["rules", "rules_tou", "plan"])
def test_thresholds_of_the_site_are_those_of_each_controller(controller: str):
    own = TouParams(base=RulesParams(soc_start=0.55, soc_stop=0.8))
    rig = island(plant(rules=own), 0.56, controller).run(200.0)
    assert soc(rig.first(0.0, asked)) == pytest.approx(0.55, abs=0.003)


def narrow_second() -> Site:
    """bess2 is full at 0.5."""
    both = two_batteries(plant())
    battery = replace(both.bess[1].battery, soc_max=0.5, soc_taper_high=0.48)
    return replace(both, bess=(both.bess[0], replace(both.bess[1], battery=battery)))


def test_batteries_with_windows_of_their_own_are_each_held_to_theirs():
    """The sets stop when each is at its own stop, not when bess2 is at 0.65."""
    rig = island(narrow_second(), {"bess1": 0.5, "bess2": 0.172}).run(2600.0)
    stopped = rig.first(rig.first(0.0, any_on).t_s, nobody)
    assert 0.3 < soc(stopped, "bess2") < 0.51
    assert soc(stopped) == pytest.approx(0.65, abs=0.02)


def test_battery_that_is_gone_does_not_hold_the_stop_up():
    rig = island(two_batteries(plant()), {"bess1": 0.5, "bess2": 0.252})
    rig.at(600.0, lambda r: r.tell("bess2.state", float(BessState.TRIPPED.code)))
    rig.run(2600.0)
    stopped = rig.first(rig.first(600.0, any_on).t_s, nobody)
    assert soc(stopped) == pytest.approx(0.65, abs=0.02)
    assert soc(stopped, "bess2") < 0.65


def test_battery_whose_bms_calls_it_full_below_the_stop_lets_the_sets_stop():
    rig = island(plant(), 0.26)
    rig.at(900.0, lambda r: r.tell("bess1.p_charge_kw_max", 0.0))
    rig.run(1300.0)
    stopped = rig.first(900.0, nobody)
    assert 0.4 < soc(stopped) < 0.6
    assert stopped.t_s >= 955.0  # once is not enough
    assert rig.held(nobody, stopped.t_s)


def test_battery_near_its_start_that_takes_nothing_keeps_the_sets():
    """It is cold, or has a fault: without the set it would soon be empty, and the set would start anew."""
    rig = island(plant(), 0.26)
    rig.at(0.0, lambda r: r.tell("bess1.p_charge_kw_max", 0.0))
    rig.run(900.0)
    assert rig.held(any_on, rig.first(0.0, any_on).t_s)


# ---- genset prime ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("controller", ["rules", "plan"])
def test_genset_prime_keeps_a_set_on_load_and_the_battery_as_the_reserve(controller: str):
    rig = island(plant(rules=PRIME), 0.6, controller).run(1800.0)
    started = rig.first(0.0, any_on)
    assert started.t_s <= 60.0
    assert rig.held(any_on, started.t_s)
    assert soc(rig.last) == pytest.approx(0.67, abs=0.01)  # charged up to the stop, and kept
    assert max(r.flows.bess_p_kw["bess1"] for r in rig.rows(1500.0)) <= 10.0
    assert len(rig.events("genset.start.requested")) == 1
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)


def test_battery_prime_of_the_same_plant_runs_no_set():
    assert island(plant(), 0.8).run(300.0).held(nobody)


def test_genset_prime_a_high_load_is_not_left_to_the_battery():
    """441 kW: gen2 and the battery could carry it for an hour; gen1 comes, and goes after the load."""
    load: dict[str, Power] = {**LOAD, "essential": lambda t: 380.0 if 200.0 <= t < 500.0 else 20.0}
    rig = island(plant(rules=PRIME, energy_kwh=500.0), 0.6, load_kw=load).run(1000.0)
    assert rig.after(200.0, lambda r: on_load(r, "gen1") and on_load(r, "gen2")) <= 90.0
    assert rig.held(any_on, 60.0)
    assert rig.after(500.0, lambda r: on_load(r, "gen1") != on_load(r, "gen2")) < 400.0
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)


def test_genset_prime_the_battery_carries_until_the_next_set_when_one_trips():
    trip = Fault(kind="genset_trips", target="gen2", from_s=200.0, until_s=205.0)
    rig = island(plant(rules=PRIME, energy_kwh=500.0), 0.6, faults=[trip]).run(500.0)
    assert rig.after(200.0, lambda r: not on_load(r, "gen2")) <= 20.0
    assert rig.after(200.0, lambda r: on_load(r, "gen1")) <= 90.0
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("peaks", [PeakTargets(), PeakTargets(by_charge_kw={"main": 300.0})])
def test_genset_prime_an_edge_that_starts_anew_keeps_the_set_that_runs(peaks: PeakTargets):
    """Also one that knows the demand peaks of the edge before it."""
    options = RigOptions(soc=0.6, islanded_by="bess1", gensets_on_kw={"gen1": 140.0})
    rig = island(plant(rules=PRIME), 0.6, options=options)
    rig.runtime.state = replace(rig.runtime.state, control=ControlMemory(peaks=peaks))
    rig.run(300.0)
    assert rig.held(lambda r: on_load(r, "gen1") and not on_load(r, "gen2"), 10.0)


def test_genset_prime_minimum_load_with_nowhere_to_go_is_no_start_and_stop_by_turns():
    """30 kW, and a minimum of 60: at full the battery carries it down to the stop, then a set fills it up."""
    load: dict[str, Power] = {"critical": 20.0, "essential": 10.0, "deferrable": 0.0}
    rig = island(plant(rules=PRIME, energy_kwh=40.0), 0.85, load_kw=load).run(3000.0)
    asks = [str(e["reason"]) for e in rig.events("genset.start.requested")]
    assert asks == ["genset prime"]
    assert soc(rig.first(0.0, asked)) == pytest.approx(0.65, abs=0.01)
    stops = [str(e["reason"]) for e in rig.events("genset.stop.requested")]
    assert len(stops) == 1
    assert "nowhere to go" in stops[0]
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)


def test_genset_prime_a_smaller_set_takes_over_a_load_below_the_minimum_of_the_one_that_runs():
    """90 kW: less than the minimum of gen1, 120, with a battery that is full; gen2 gives 60 or more."""
    options = RigOptions(soc=0.93, islanded_by="bess1", gensets_on_kw={"gen1": 120.0})
    load: dict[str, Power] = {**LOAD, "essential": 50.0}
    rig = island(plant(rules=PRIME, energy_kwh=60.0), 0.93, load_kw=load, options=options).run(900.0)
    over = rig.first(0.0, lambda r: on_load(r, "gen2"))
    assert over.t_s <= 400.0
    assert rig.held(lambda r: on_load(r, "gen2") and not on_load(r, "gen1"), over.t_s + 60.0)
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("controller", ["rules", "rules_tou", "plan"])
def test_genset_prime_beside_the_grid_changes_nothing(controller: str):
    runs = [
        Rig(p, controller=controller, load_kw=LOAD, pv_kw=80.0, dt_s=5.0, options=RigOptions(soc=0.5)).run(
            900.0
        )
        for p in (plant(), plant(rules=PRIME))
    ]
    assert runs[0].digest() == runs[1].digest()
    assert runs[1].held(nobody)


def test_genset_prime_ends_with_the_island():
    own = plant(rules=PRIME, energy_kwh=500.0)
    rig = Rig(own, load_kw=LOAD, mains=[(60.0, 300.0)], options=RigOptions(soc=0.6)).run(700.0)
    assert rig.after(60.0, any_on) <= 90.0
    assert nobody(rig.last)
