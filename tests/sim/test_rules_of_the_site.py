"""Rules as the site file has them, in closed loop: windows of batteries, genset prime, what a BMS tells."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from ems.points import BessState
from ems.rules import RulesParams, TouParams
from ems.site import Site
from sim.rig import Rig, RigOptions, Row
from sim.rig_scenario import Power
from tests.builders import site
from tests.scenarios.plants import two_batteries

LOAD: Mapping[str, Power] = {"critical": 60.0, "essential": 60.0, "deferrable": 20.0}
PRIME = TouParams(base=RulesParams(genset_prime=True))


def plant(low: float = 0.1, high: float = 0.95, energy_kwh: float = 200.0, **changes: object) -> Site:
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
    return replace(plain, bess=(replace(bess, battery=battery),), **changes)  # type: ignore[arg-type]


def island(plant: Site, soc: float | Mapping[str, float], controller: str = "rules", **given: object) -> Rig:
    """bess1 forms, nothing runs."""
    options = RigOptions(soc=soc, islanded_by="bess1", horizon_s=20_000.0)
    given = {"load_kw": LOAD, "dt_s": 5.0, "options": options, **given}
    return Rig(plant, controller=controller, **given)  # type: ignore[arg-type]


def on_load(row: Row, genset: str = "gen1") -> bool:
    return row.decisions.condition.gensets[genset].on_load


def any_on(row: Row) -> bool:
    return any(on_load(row, g) for g in row.decisions.condition.gensets)


def soc(row: Row, bess: str = "bess1") -> float:
    return row.decisions.condition.bess[bess].soc


def nobody(row: Row) -> bool:
    return not any(row.decisions.condition.gensets[g].on_load for g in row.decisions.condition.gensets)


def unmet(rig: Rig) -> float:
    return rig.unserved_kwh()


@pytest.mark.parametrize("controller", ["rules", "rules_tou", "plan"])
def test_window_below_the_usual_stop_gensets_stop_inside_it(controller: str):
    """0.20 to 0.60: the stop of 0.65 would never be reached, it is 0.459 there."""
    rig = island(plant(0.20, 0.60), 0.28, controller).run(6000.0)
    started, stopped = rig.first(0.0, any_on), rig.first(rig.first(0.0, any_on).t_s, nobody)
    assert 0.25 < soc(started) < 0.272
    assert soc(stopped) == pytest.approx(0.2 + 0.55 / 0.85 * 0.4, abs=0.02)
    assert unmet(rig) == pytest.approx(0.0, abs=1e-9)


def test_minimum_above_the_usual_start_a_genset_starts_on_charge_above_it():
    """0.30 to 0.95: the start of 0.25 would never be reached, and only an emergency would start a set."""
    rig = island(plant(0.30, 0.95), 0.45).run(3600.0)
    started = rig.first(0.0, any_on)
    assert soc(started) == pytest.approx(0.3 + 0.15 / 0.85 * 0.65, abs=0.01)
    asked = rig.first(0.0, lambda r: r.wrote("gen1.run_request") == 1.0)
    assert "SoC 41%" in asked.decisions.targets.genset_run["gen1"].reason
    assert unmet(rig) == pytest.approx(0.0, abs=1e-9)


def test_stop_at_the_top_of_the_window_is_reached():
    own = TouParams(base=RulesParams(soc_start=0.3, soc_stop=0.6))
    rig = island(plant(0.2, 0.6, rules=own), 0.31).run(8000.0)
    started = rig.first(0.0, any_on)
    assert soc(rig.first(started.t_s, nobody)) >= 0.58


@pytest.mark.parametrize("controller", ["rules", "rules_tou", "plan"])
def test_thresholds_of_the_site_are_those_of_each_controller(controller: str):
    own = TouParams(base=RulesParams(soc_start=0.55, soc_stop=0.8))
    rig = island(plant(rules=own), 0.57, controller).run(1200.0)
    assert soc(rig.first(0.0, any_on)) == pytest.approx(0.55, abs=0.01)


def test_batteries_with_windows_of_their_own_are_each_held_to_theirs():
    """bess2 is full at 0.5: the sets stop when each is at its own stop, not when it is at 0.65."""
    plain = plant()
    both = two_batteries(plain)
    narrow = replace(both.bess[1].battery, soc_max=0.5, soc_taper_high=0.48)
    both = replace(both, bess=(both.bess[0], replace(both.bess[1], battery=narrow)))
    rig = island(both, {"bess1": 0.27, "bess2": 0.27}).run(8000.0)
    started = rig.first(0.0, any_on)
    stopped = rig.first(started.t_s, nobody)
    assert soc(stopped, "bess2") == pytest.approx(0.1 + 0.55 / 0.85 * 0.4, abs=0.06)
    assert soc(stopped) == pytest.approx(0.65, abs=0.02)


def test_battery_that_is_gone_does_not_hold_the_stop_up():
    both = two_batteries(plant())
    rig = island(both, {"bess1": 0.27, "bess2": 0.27})
    rig.at(900.0, lambda r: r.tell("bess2.state", float(BessState.FAULT)))
    rig.run(8000.0)
    assert rig.first(rig.first(0.0, any_on).t_s, nobody).t_s < 8000.0


def refusing(soc_at: float) -> Callable[[Rig], object]:
    return lambda rig: rig.tell("bess1.p_charge_kw_max", 0.0)


def test_battery_whose_bms_calls_it_full_below_the_stop_lets_the_sets_stop():
    rig = island(plant(), 0.27)
    rig.at(900.0, lambda r: r.tell("bess1.p_charge_kw_max", 0.0))
    rig.run(2000.0, judge=False)
    at = rig.first(900.0, nobody)
    assert 0.35 < soc(rig.first(900.0, lambda r: True)) < 0.6
    assert at.t_s >= 955.0  # once is not enough
    assert rig.held(nobody, at.t_s, at.t_s + 300.0)


def test_battery_near_its_start_that_takes_nothing_keeps_the_sets():
    """It is cold, or has a fault: without the set it would soon be empty, and the set would start anew."""
    rig = island(plant(), 0.27)
    rig.at(0.0, lambda r: r.tell("bess1.p_charge_kw_max", 0.0))
    rig.run(3000.0, judge=False)
    started = rig.first(0.0, any_on)
    assert rig.held(any_on, started.t_s)


# ---- genset prime ---------------------------------------------------------------------------------------


def test_genset_prime_keeps_a_set_on_load_and_the_battery_as_the_reserve():
    rig = island(plant(rules=PRIME), 0.5).run(5400.0)
    started = rig.first(0.0, any_on)
    assert started.t_s <= 60.0
    assert rig.held(any_on, started.t_s)
    assert max(soc(r) for r in rig.rows()) == pytest.approx(0.67, abs=0.02)  # charged as in battery prime
    late = [r.flows.bess_p_kw["bess1"] for r in rig.rows(4800.0)]
    assert max(late) <= 10.0  # nothing but its losses and what follows the load
    assert len(rig.events("genset.start.requested")) == 1
    assert unmet(rig) == pytest.approx(0.0, abs=1e-9)


def test_battery_prime_of_the_same_plant_runs_no_set():
    assert island(plant(), 0.9).run(1800.0).held(nobody)


def test_genset_prime_takes_a_second_set_for_a_high_load_and_lets_it_go():
    load: dict[str, Power] = {**LOAD, "essential": lambda t: 500.0 if 600.0 <= t < 2400.0 else 60.0}
    rig = island(plant(rules=PRIME, energy_kwh=1000.0), 0.6, load_kw=load).run(6000.0)
    both = rig.first(600.0, lambda r: on_load(r, "gen1") and on_load(r, "gen2"))
    assert both.t_s <= 720.0
    assert rig.held(any_on, 120.0)
    assert rig.after(2400.0, lambda r: on_load(r, "gen1") != on_load(r, "gen2")) < 3600.0
    assert unmet(rig) == pytest.approx(0.0, abs=1e-9)


def test_genset_prime_the_battery_carries_until_the_next_set_when_one_trips():
    rig = island(plant(rules=PRIME, energy_kwh=1000.0), 0.6, dt_s=1.0)
    rig.run(120.0)
    first = next(g for g in ("gen1", "gen2") if on_load(rig.last, g))
    other = "gen2" if first == "gen1" else "gen1"
    rig.tell(f"{first}.state", 9.0)
    assert unmet(rig) == pytest.approx(0.0, abs=1e-9)
    assert other


def test_genset_prime_an_edge_that_starts_anew_keeps_the_set_that_runs():
    options = RigOptions(soc=0.6, islanded_by="bess1", gensets_on_kw={"gen2": 140.0}, horizon_s=9000.0)
    rig = island(plant(rules=PRIME), 0.6, options=options).run(1200.0)
    assert rig.held(lambda r: on_load(r, "gen2") and not on_load(r, "gen1"), 10.0)


def test_genset_prime_load_below_every_minimum_is_no_start_and_stop_by_turns():
    load: dict[str, Power] = {"critical": 20.0, "essential": 10.0, "deferrable": 0.0}
    rig = island(plant(rules=PRIME), 0.93, load_kw=load).run(7200.0)
    assert len(rig.events("genset.start.requested")) <= 2
    assert unmet(rig) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("controller", ["rules", "rules_tou", "plan"])
def test_genset_prime_beside_the_grid_changes_nothing(controller: str):
    runs = [
        Rig(p, controller=controller, load_kw=LOAD, pv_kw=80.0, dt_s=5.0, options=RigOptions(soc=0.5)).run(900.0)
        for p in (plant(), plant(rules=PRIME))
    ]
    assert runs[0].digest() == runs[1].digest()
    assert runs[1].held(nobody)


def test_genset_prime_ends_with_the_island():
    rig = Rig(
        plant(rules=PRIME, energy_kwh=1000.0), load_kw=LOAD, mains=[(60.0, 900.0)], dt_s=1.0,
        options=RigOptions(soc=0.6),
    ).run(2400.0)  # fmt: skip
    assert rig.after(60.0, any_on) <= 90.0
    assert nobody(rig.last)
