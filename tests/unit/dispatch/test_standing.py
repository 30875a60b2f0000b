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
    StandingLimit,
    SwitchMode,
    TellLimit,
)
from sim.rig import Rig
from tests import builders
from tests.unit.dispatch.controlled import DOOR, P_SET, loop, manual, utility
from tests.unit.dispatch.loop import Loop

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


# --- what the site file has no more -----------------------------------------------------------------------

GONE = "bess9.p_set_kw.high"
RENAMED = Standing(
    plant=ControlMode.AUTO,
    limits={GONE: StandingLimit(subject=GONE, value=20.0, user="ann", reason="hot room")},
    devices={"gen9": ControlMode.OFF},
    chosen_by={"gen9": "eve"},
)


def renamed(standing: Standing = RENAMED) -> Loop:
    """A plant whose site file has other names than what people had set before the restart."""
    one = loop(50.0)
    one.edge = replace(one.edge, authority=restored(one.site.control, standing, one.t), written={})
    one.run(3.0)
    return one


def test_limit_about_nothing_keeps_the_plant_off_until_two_persons_have_taken_it_away():
    """A renamed setpoint once freed the plant of its limit without a word."""
    one = renamed()
    d = one.log[-1][1]
    assert d.plant_control is ControlMode.OFF
    (alarm,) = [a for a in d.alarms if a.code == "control.orphaned"]
    assert GONE in alarm.text
    assert "gen9" in alarm.text
    assert [e["subject"] for e in one.events("standing.orphaned")] == [GONE, "gen9"], "once"
    assert shown(look(one))["orphans"] == {
        GONE: "limit of ann at 20: hot room", "gen9": "off, chosen by eve",
    }  # fmt: skip
    standing = d.standing
    assert standing is not None
    assert (standing.limits, standing.devices) == (RENAMED.limits, RENAMED.devices), "and after the next one"
    assert one.ask("ann", SwitchMode(device=None, mode=ControlMode.AUTO)).code == "orphaned"
    assert one.ask("eve", SwitchMode(device=None, mode=ControlMode.TEST)).code == "orphaned"
    assert one.ask("eve", SetLimit(subject=GONE, value=None)).code == "no_right", "off is off"
    assert one.ask("ann", SwitchMode(device=None, mode=ControlMode.MANUAL)).done
    assert one.ask("ann", SetLimit(subject=GONE, value=None)).code == "no_right", "of no operator"
    assert one.ask("eve", SetLimit(subject=GONE, value=30.0)).code == "unknown_subject"
    proposed = one.ask("eve", SetLimit(subject=GONE, value=None), reason="it is bess1 now")
    assert one.ask("eve", Confirm(proposal=str(proposed.token))).code == "same_person"
    assert one.ask("bob", Confirm(proposal=str(proposed.token))).done
    assert one.ask("ann", SwitchMode(device=None, mode=ControlMode.AUTO)).done
    assert "control.orphaned" not in {a.code for a in one.run(1.0).alarms}
    standing = one.log[-1][1].standing
    assert standing is not None
    assert (standing.limits, standing.devices) == ({}, {}), "the mode of a device that is not there as well"


def test_limit_about_nothing_under_broken_glass_is_told_again_when_the_glass_is_whole():
    one = renamed(replace(RENAMED, devices={}))
    one.ask("ann", SwitchMode(device=None, mode=ControlMode.MANUAL))
    glass = SetLimit(subject=GONE, value=None, break_glass=True, for_s=60.0)
    assert one.ask("eve", glass, reason="nobody else is here").done
    assert one.ask("ann", SwitchMode(device=None, mode=ControlMode.AUTO)).done
    assert "control.orphaned" not in {a.code for a in one.run(5.0).alarms}
    d = one.run(60.0)
    assert "control.orphaned" in {a.code for a in d.alarms}
    assert d.plant_control is ControlMode.AUTO, "nobody is blacked out by a clock"


def test_mode_of_a_device_that_is_not_there_keeps_the_plant_off_until_a_person_chooses():
    one = renamed(replace(RENAMED, limits={}))
    assert one.log[-1][1].plant_control is ControlMode.OFF
    assert one.ask("ann", SwitchMode(device=None, mode=ControlMode.AUTO)).done
    assert "control.orphaned" not in {a.code for a in one.run(1.0).alarms}


def test_limit_of_none_about_nothing_is_shown_as_such():
    none = {GONE: StandingLimit(subject=GONE, value=None, user="ann", reason="")}
    assert shown(look(renamed(replace(RENAMED, limits=none))))["orphans"][GONE] == "limit of ann at none: "  # type: ignore[index,call-overload]


# --- what was told before -----------------------------------------------------------------------------------


def told_kw(one: Loop) -> float:
    return one.edge.authority.told["dso"].value_kw


def test_tell_of_another_start_only_tightens_and_is_no_sign_of_life():
    one = loop(limits=(utility(point=None),))
    old = one.ask("dso", TellLimit(limit="dso", value_kw=10.0), epoch=0)
    assert (old.code, "dso" in one.edge.authority.told) == ("other_epoch", False), "its value on loss holds"
    assert one.ask("dso", TellLimit(limit="dso", value_kw=50.0)).done
    heard_s = one.edge.authority.told["dso"].valid_s
    assert one.ask("dso", TellLimit(limit="dso", value_kw=80.0), epoch=0).code == "other_epoch"
    assert one.ask("dso", TellLimit(limit="dso", value_kw=50.0), epoch=0).code == "other_epoch"
    assert told_kw(one) == 50.0
    assert one.ask("dso", TellLimit(limit="dso", value_kw=40.0), epoch=0).done
    assert (told_kw(one), one.edge.authority.told["dso"].valid_s) == (40.0, heard_s)


def test_tell_that_was_overtaken_only_tightens():
    one = loop(limits=(utility(point=None),))
    assert one.ask("dso", TellLimit(limit="dso", value_kw=50.0, seq=7)).done
    for seq in (7, 6, None):
        assert one.ask("dso", TellLimit(limit="dso", value_kw=90.0, seq=seq)).code == "out_of_order"
    assert told_kw(one) == 50.0
    assert one.ask("dso", TellLimit(limit="dso", value_kw=30.0, seq=6)).done
    assert one.ask("dso", TellLimit(limit="dso", value_kw=60.0, seq=7)).code == "out_of_order"
    assert told_kw(one) == 30.0
    assert one.ask("dso", TellLimit(limit="dso", value_kw=90.0, seq=8)).done
    assert told_kw(one) == 90.0
