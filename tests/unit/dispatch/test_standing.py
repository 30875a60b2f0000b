"""What outlives a restart of the edge, as the tick and its shell see it; and what people are shown of it."""

from dataclasses import replace

import pytest

from dispatch.authority.stage import restored
from dispatch.authority.view import Look, counts, shown
from dispatch.runtime import EdgeRuntime
from ems.control import ControlMode
from ems.requests import (
    Bypass,
    Confirm,
    ReleaseHeldSafe,
    SetLimit,
    SetSetpoint,
    Standing,
    SwitchMode,
    TellLimit,
)
from sim.rig import Rig
from tests import builders
from tests.unit.dispatch.loop import Loop
from tests.unit.dispatch.test_control import DOOR, P_SET, loop, manual, utility

LOST = Standing(plant=ControlMode.OFF, lost=True)


def look(one: Loop) -> Look:
    return Look(layout=one.setup.layout, memory=one.edge.authority, at=one.now, now_s=one.t)


def test_restored_edge_whose_standing_is_lost_is_off_until_a_person_chooses():
    one = loop(50.0)
    one.edge = replace(one.edge, authority=restored(one.site.control, LOST, one.t), written={})
    alarms = {a.code for a in one.run(3.0).alarms}
    assert "control.standing_lost" in alarms
    assert one.log[-1][1].plant_control is ControlMode.OFF
    standing = one.log[-1][1].standing
    assert standing is not None
    assert standing.lost, "and after the next restart"
    assert one.ask("ann", SwitchMode(device=None, mode=ControlMode.OFF)).done
    assert "control.standing_lost" in {a.code for a in one.run(1.0).alarms}, "off is what it was"
    assert one.ask("ann", SwitchMode(device=None, mode=ControlMode.AUTO)).done
    assert "control.standing_lost" not in {a.code for a in one.run(1.0).alarms}
    assert shown(look(one))["lost"] is False


def test_runtime_invariant_broken_is_kept_so_that_a_restart_comes_up_held_safe(monkeypatch):
    kept: list[Standing] = []
    rig = Rig(builders.site())
    rig.runtime._keep = kept.append
    rig.run(5.0)
    assert {s.held_safe for s in kept} == {False}

    def broken(*_: object) -> object:
        raise RuntimeError("a bug")

    monkeypatch.setattr("dispatch.supervision.mind.tick", broken)
    rig.run(6.0, judge=False)
    assert isinstance(rig.broken, RuntimeError)
    assert kept[-1].held_safe
    monkeypatch.undo()
    again = EdgeRuntime(
        rig.site,
        clock=rig.clock,
        device_io=rig.io,
        plans=rig.plans,
        recorder=rig.journal,
        controller=rig.runtime.setup.controller,
        shadow=False,
        epoch=2,
        standing=kept[-1],
    )
    assert again.state.held_safe


def test_held_safe_outlives_until_a_person_has_looked():
    one = loop()
    one.edge = replace(one.edge, held_safe=True)
    standing = one.run(1.0).standing
    assert standing is not None
    assert standing.held_safe
    assert one.ask("ann", ReleaseHeldSafe(), reason="fuse replaced").done
    standing = one.run(1.0).standing
    assert standing is not None
    assert not standing.held_safe


# --- what people are shown --------------------------------------------------------------------------------


def test_view_says_for_each_device_who_made_its_mode_what_it_is():
    one = manual()
    one.world.inputs["gen1.remote"] = 0.0
    one.run(1.0)
    devices = shown(look(one))["devices"]
    assert isinstance(devices, dict)
    assert (devices["bess1"]["mode"], devices["bess1"]["why"]) == ("manual", "its own, chosen by ann")
    assert devices["gen1"]["mode"] == "local"
    assert "selector" in devices["gen1"]["why"]
    assert (devices["pv1"]["mode"], devices["pv1"]["why"]) == ("auto", "the plant's, chosen by site file")
    assert one.ask("bob", SwitchMode(device=None, mode=ControlMode.OFF)).done
    devices = shown(look(one))["devices"]
    assert isinstance(devices, dict)
    assert devices["bess1"]["why"] == "the plant's, chosen by bob"


@pytest.mark.parametrize(("circuit", "told"), [(1.0, "closed"), (0.0, "open")])
def test_view_says_how_the_emergency_stop_stands(circuit, told):
    one = loop(emergency_stop={P_SET: 0.0})
    one.world.inputs["bus.emergency_stop"] = circuit
    one.run(2.0)
    assert shown(look(one))["emergency_stop"] == told
    one.world.inputs["bus.emergency_stop"] = 1.0
    one.run(1.0)
    latched = counts(one.edge.authority)["emergency_stop_latched"]
    assert latched is (circuit == 0.0)
    assert ("off until a person" in str(shown(look(one))["emergency_stop"])) is latched


def test_view_shows_leases_limits_with_their_origin_proposals_and_interlocks():
    one = manual(interlocks=(DOOR,), limits=(utility(point=None),))
    one.ask("ann", SetSetpoint(point=P_SET, value=20.0, for_s=120.0), reason="cell check")
    one.ask("dso", TellLimit(limit="dso", value_kw=55.0))
    one.ask("ann", SetLimit(subject="bess_charge", value=70.0), reason="hot room")
    wider = one.ask("eve", SetLimit(subject="bess_charge", value=90.0), reason="cooled")
    door = one.ask("eve", Bypass(interlock="door", for_s=60.0), reason="work")
    now = shown(look(one))
    devices, proposals = now["devices"], now["proposals"]
    assert isinstance(devices, dict)
    assert isinstance(proposals, dict)
    setpoint = devices["bess1"]["setpoints"][P_SET]
    assert (setpoint["lease"]["owner"], setpoint["lease"]["value"]) == ("ann", 20.0)
    assert 100.0 < setpoint["lease"]["left_s"] <= 120.0
    layers = {x["layer"] for x in setpoint["limits"]}
    assert layers >= {"site file", "people"}
    assert {(x["kind"], x["cap_kw"], x["layer"]) for x in now["caps"]} >= {  # type: ignore[union-attr,index,call-overload]
        ("bess_charge", 70.0, "people"),
    }
    assert {x["cap_kw"] for x in now["caps"] if x["layer"] == "utility"} == {55.0}  # type: ignore[union-attr,index,call-overload]
    assert proposals[str(wider.token)]["subject"] == "bess_charge"
    assert proposals[str(door.token)]["what"] == "bypass"
    assert now["interlocks"] == {"door": {"state": "tripped", "cause": DOOR.cause}}
    numbers = counts(one.edge.authority)
    assert numbers["authority_proposals_count"] == 2
    assert numbers["interlocks_tripped_count"] == 1
    assert one.ask("bob", Confirm(proposal=str(door.token))).done
    now = shown(look(one))
    assert now["interlocks"] == {"door": {"state": "bypassed", "cause": DOOR.cause}}
    assert list(now["loosened"]) == ["interlock.door"]  # type: ignore[arg-type]
