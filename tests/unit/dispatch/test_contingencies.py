"""N-1 live: each loss covered or short, with figures worked out by hand."""

from dataclasses import replace

import pytest

from dispatch.controllers.rules import Rules
from dispatch.vocabulary import Contingency, Decisions
from plant_models.plant import initial_state
from tests.builders import site
from tests.unit.dispatch.loop import Loop

NIGHT = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}


def island(soc: float = 0.6, **policy: object) -> Loop:
    """200 kW of load and 2 kW of auxiliaries on the battery alone."""
    plant = site()
    plant = replace(plant, reserve=replace(plant.reserve, **policy))  # type: ignore[arg-type]
    loop = Loop(Rules(), soc=soc, plant_site=plant)
    loop.plant = initial_state(plant, soc, islanded_by="bess1")
    loop.world.mains = False
    loop.world.demand_kw = dict(NIGHT)
    return loop


def of(decisions: Decisions, name: str) -> Contingency:
    return next(x for x in decisions.reserve.contingencies if x.name == name)


def test_forming_battery_alone_its_loss_is_short_by_all_it_gives():
    decisions = island().run(3)
    loss = of(decisions, "bess1")
    assert (loss.held_kw, loss.by, loss.required) == (0.0, (), False)
    assert loss.short_kw == pytest.approx(202.0, abs=1.0)
    assert decisions.reserve.covered  # nobody asked for it


def test_loss_the_policy_names_is_told_within_two_seconds():
    loop = island(n_minus_1=("bess",))
    decisions = loop.run(2)
    assert decisions.reserve.worst is not None
    assert decisions.reserve.short_kw == pytest.approx(202.0, abs=1.0)
    loop.run(1)
    told = {a.code: a.text for a in loop.log[-1][1].alarms}
    assert "bess1 is lost" in told["reserve.short"]


def test_battery_and_genset_cover_each_other_by_what_each_can_do_at_once():
    """gen1 of 400 kW survives a step of 240 kW; the battery has 500 kW, less what it gives."""
    loop = island(soc=0.5)
    loop.plant = initial_state(loop.site, 0.5, islanded_by="bess1", gensets_on_kw={"gen1": 160.0})
    loop.set = {"gen1.run_request": 1.0, "gen1.p_set_kw": 160.0}
    decisions = loop.run(1)
    loss = of(decisions, "gen1")
    assert loss.by == ("bess1",)
    assert loss.covered
    assert loss.held_kw == pytest.approx(500.0 - 42.0, abs=3.0)
    assert of(decisions, "bess1").by == ("gen1",)
    assert of(decisions, "bess1").held_kw == pytest.approx(240.0, abs=0.5)


def test_largest_load_trip_full_battery_cannot_take_it():
    loop = island(soc=0.95, load_trip_kw=300.0)
    trip = of(loop.run(2), "the largest load")
    assert trip.lost_kw == 300.0
    assert trip.short_kw > 50.0
    assert trip.required


def test_motor_start_counts_a_battery_by_its_energy_too():
    """1 kWh above the minimum is 43 kW for 80 s, the length of two starts of a genset."""
    loop = island(soc=site().bess[0].battery.soc_min + 0.001, motor_start_kw=100.0)
    loop.world.demand_kw = {"critical": 1.0, "essential": 0.0, "deferrable": 0.0}
    motor = of(loop.run(1), "a motor start")
    assert 20.0 < motor.held_kw < 45.0
    assert motor.short_kw == pytest.approx(100.0 - motor.held_kw)
    assert motor.required


def test_genset_started_for_the_loss_of_the_forming_battery_stays():
    """Otherwise it would be let go as soon as it covers the loss, and asked for again."""
    loop = island(n_minus_1=("bess",))
    loop.run(900)
    assert len(loop.events("genset.start.requested")) == 1
    decisions = loop.log[-1][1]
    assert decisions.reserve.covered
    assert of(decisions, "bess1").by == ("gen1",)  # 202 kW: gen2 is too small
