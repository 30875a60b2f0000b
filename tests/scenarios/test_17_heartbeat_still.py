"""Scenario 17: the device answers, its heartbeat stands still: STALE within 4 s, dependent writes stop."""

from dataclasses import replace

import pytest

from ems.site import PointMap, Site
from ems.telemetry import Quality
from sim.rig import Rig, Row

BEAT = "bess1.device_heartbeat"
STILL_FROM_S = 60.0


def with_heartbeat(site: Site, address: str = "120") -> Site:
    """The demonstration plant whose PCS counts seconds in a register."""
    beat = PointMap(
        point=BEAT, address=address, table="input", data_type="u32", byte_order="big", word_order="big",
        scale=1.0, offset=0.0, sign=1, unit="", low=0.0, high=65535.0, age_s_max=5.0, writable=False,
    )  # fmt: skip
    pcs, *others = site.connections
    assert pcs.id == "pcs"
    return replace(site, connections=(replace(pcs, points=(*pcs.points, beat), heartbeat_in=BEAT), *others))


def stale(row: Row) -> bool:
    return row.snapshot.readings["bess1.p_kw"].quality is Quality.STALE


@pytest.fixture(scope="module")
def rig(demo):
    rig = Rig(with_heartbeat(demo), load_kw={"critical": 120.0, "essential": 150.0}, pv_kw=0.0)
    rig.at(STILL_FROM_S, lambda r: r.tell(BEAT, 59.0))
    rig.at(STILL_FROM_S + 60.0, lambda r: r.tell_truth(BEAT))
    return rig.run(STILL_FROM_S + 150.0)


@pytest.mark.scenario(17)
def test_heartbeat_stands_still_device_is_stale_within_4_s_and_dependent_writes_stop(rig):
    fell_s = rig.after(STILL_FROM_S, stale)
    assert fell_s <= 4.0
    assert rig.held(stale, STILL_FROM_S + fell_s, STILL_FROM_S + 60.0)
    before = rig.first(STILL_FROM_S - 1.0, lambda r: True)
    assert before.held["bess1.p_set_kw"] > 100.0  # there is something to stop
    while_still = [c for r in rig.rows(STILL_FROM_S + fell_s, STILL_FROM_S + 60.0) for c in r.commands]
    sent = {c.value for c in while_still if c.point == "bess1.p_set_kw"}
    assert sent == {0.0}  # its safe value, whoever asks for it, and nothing that depends on its readings
    assert rig.held(lambda r: r.held["bess1.p_set_kw"] == 0.0, STILL_FROM_S + fell_s, STILL_FROM_S + 60.0)
    others = {"gen1_controller", "gen2_controller", "pv_controller", "grid_meter", "plant_controller"}
    told = {a.asset for r in rig.rows(STILL_FROM_S, STILL_FROM_S + 60.0) for a in r.decisions.alarms}
    assert "pcs" in told
    assert not others & told


@pytest.mark.scenario(17)
def test_heartbeat_stands_still_for_long_safe_value_is_refreshed_and_not_sent_each_second(demo):
    """Its own time-out is over, so nobody knows what it holds; what it took since stands for a while."""
    site = with_heartbeat(demo)
    rig = Rig(site, load_kw={"critical": 120.0, "essential": 150.0}, pv_kw=0.0)
    rig.at(STILL_FROM_S, lambda r: r.tell(BEAT, 59.0)).run(STILL_FROM_S + 240.0)
    authority = site.authority.setpoints["bess1.p_set_kw"]
    late = rig.rows(STILL_FROM_S + authority.safety.behaviour.timeout_s + 10.0)
    writes = [r.wrote("bess1.p_set_kw") for r in late]
    assert {w for w in writes if w is not None} == {0.0}
    assert 0 < sum(w is not None for w in writes) <= len(writes) / authority.refresh_s + 1


@pytest.mark.scenario(17)
def test_heartbeat_moves_again_device_is_used_again_and_what_it_explains_stayed_silent(rig):
    assert rig.after(STILL_FROM_S + 60.0, lambda r: not stale(r)) <= 1.0
    assert rig.after(STILL_FROM_S + 60.0, lambda r: r.wrote("bess1.p_set_kw") is not None) <= 15.0
    rang = {f["key"] for f in rig.events("alarm.raised") if f["annunciated"]}
    assert rang == {"device.silent.pcs", "reserve.short"}
    assert {f["key"] for f in rig.events("alarm.suppressed")} == {"bess.unavailable.bess1"}
