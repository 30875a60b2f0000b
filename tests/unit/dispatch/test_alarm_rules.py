"""Which conditions are told, from one cycle's facts."""

from dataclasses import replace

import pytest

from dispatch.controllers.plan_follower import PlanFollower
from dispatch.controllers.rules import Rules
from plant_models.plant import PlantFaults
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from sim.rig_scenario import Power
from tests.builders import site
from tests.unit.dispatch.loop import Loop


def held_safe() -> Loop:
    loop = Loop(Rules())
    loop.edge = replace(loop.edge, held_safe=True)
    return loop


def contradiction() -> Loop:
    loop = Loop(Rules())
    loop.world.silent = frozenset(["grid1.breaker_closed", "grid1.v_pu"])
    return loop


def dead_bus() -> Loop:
    loop = Loop(Rules(), soc=0.1)
    loop.world.mains = False
    loop.world.faults = PlantFaults(bess_tripped=frozenset(["bess1"]))
    return loop


def no_meter() -> Loop:
    loop = Loop(Rules())
    loop.world.silent = frozenset(["grid1.p_kw"])
    return loop


def tripped_battery() -> Loop:
    loop = Loop(Rules())
    loop.world.faults = PlantFaults(bess_tripped=frozenset(["bess1"]))
    return loop


def locked_genset() -> Loop:
    loop = Loop(Rules())
    loop.world.faults = PlantFaults(genset_tripped=frozenset(["gen1"]))
    return loop


@pytest.mark.parametrize(
    ("make", "code", "asset"),
    [
        (held_safe, "edge.held_safe", None),
        (contradiction, "grid.mode.unknown", "grid1"),
        (dead_bus, "bus.dead", None),
        (dead_bus, "feeder.shed", "essential"),
        (no_meter, "grid.meter.lost", "grid1"),
        (tripped_battery, "bess.unavailable", "bess1"),
        (locked_genset, "genset.unavailable", "gen1"),
    ],
)
def test_alarms_now_each_condition_raises_its_alarm(make, code, asset):
    loop = make()
    if make is locked_genset:
        loop.world.mains = False
        loop.run(5.0)
    decisions = loop.run(10.0)
    assert (code, asset) in {(a.code, a.asset) for a in decisions.alarms}


def test_alarms_now_feeder_opened_by_somebody_else_told_as_feeder_open():
    loop = Loop(Rules())
    loop.run(60.0)
    loop.set["deferrable.close_request"] = 0.0  # at its own panel, against what the edge asked for
    loop.physics(1.0)
    decisions = loop.run(1.0)
    assert "feeder.open" in {a.code for a in decisions.alarms}


def test_alarms_now_breaker_that_does_not_open_is_not_told_as_open():
    """An island without any genset and little charge sheds; one of the breakers takes no writes."""
    faults = [Fault(kind="genset_trips", target=g, from_s=0.0) for g in ("gen1", "gen2")]
    faults += [Fault(kind="write_lost", target="deferrable", from_s=0.0)]
    load_kw: dict[str, Power] = {"critical": 100.0, "essential": 40.0, "deferrable": 40.0}
    options = RigOptions(islanded_by="bess1", soc=0.15)
    rig = Rig(site(), load_kw=load_kw, mains=[(0.0, 7200.0)], faults=faults, options=options)
    rig.run(30.0, judge=False)
    told = {a.asset: a for a in rig.last.decisions.alarms if a.code.startswith("feeder.")}
    assert {f: a.code for f, a in told.items()} == {
        "deferrable": "feeder.not_open",
        "essential": "feeder.shed",
    }
    assert "still closed" in told["deferrable"].text
    assert rig.last.flows.feeder_p_kw["deferrable"] > 0.0


def test_alarms_now_reserve_short_carries_value_and_limit():
    decisions = tripped_battery().run(5.0)
    (alarm,) = [a for a in decisions.alarms if a.code == "reserve.short"]
    assert alarm.value == pytest.approx(decisions.reserve.short_kw)
    assert alarm.limit == pytest.approx(max(1.0, 0.05 * decisions.reserve.required_kw))


def test_alarms_now_devices_silent_named_by_connection():
    loop = Loop(Rules())
    loop.run(5.0)
    loop.world.silent = frozenset(["pv1"])
    assert {(a.code, a.asset) for a in loop.run(1.0).alarms} == {
        ("device.silent", "pv1"),
        ("pv.limit.lost", "pv1"),
    }
    loop.world.silent = frozenset(["grid1"])
    assert ("grid.device.silent", "grid1") in {(a.code, a.asset) for a in loop.run(1.0).alarms}
    loop.world.silent = frozenset(loop.setup.layout.devices)
    assert "comms.lost" in {a.code for a in loop.run(1.0).alarms}


def test_alarms_now_rules_instead_of_a_plan_raises_plan_none():
    assert "plan.none" in {a.code for a in Loop(PlanFollower()).run(3.0).alarms}
    assert "plan.none" not in {a.code for a in Loop(Rules()).run(3.0).alarms}
