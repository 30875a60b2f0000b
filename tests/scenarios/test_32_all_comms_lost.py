"""Scenario 32: all field communication lost: the plant is at its documented fallback within Trev + 1 s.

The edge resumes without a step, and tells it as one alarm.
"""

from dataclasses import replace
from itertools import pairwise

import pytest

from dispatch.vocabulary import Source
from ems.silence import when_silent
from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, Row

LOST_S, BACK_S = 60.0, 240.0
RAMP_KW_S = 20.0


def ramped(site: Site) -> Site:
    """The demonstration plant with a ramp on its battery."""
    setpoints = dict(site.authority.setpoints)
    setpoints["bess1.p_set_kw"] = replace(setpoints["bess1.p_set_kw"], ramp_per_s=RAMP_KW_S)
    return replace(site, authority=replace(site.authority, setpoints=setpoints))


@pytest.fixture(scope="module")
def rig(demo):
    rig = Rig(
        ramped(demo),
        load_kw={"critical": 130.0, "essential": 250.0, "deferrable": 150.0},
        pv_kw=300.0,
        faults=[
            Fault(kind="device_silent", target=a, from_s=LOST_S, until_s=BACK_S) for a in demo.asset_kinds()
        ],
    )
    return rig.run(BACK_S + 120.0)


def held_before(rig: Rig) -> dict[str, float]:
    return dict(next(iter(rig.rows(LOST_S - rig.dt_s))).held)


@pytest.mark.scenario(32)
def test_all_comms_lost_every_device_is_at_its_documented_value_within_its_time_out_and_1_s(rig):
    before = held_before(rig)
    assert abs(before["bess1.p_set_kw"]) > 20.0
    assert {"bess1.p_set_kw", "pv1.p_limit_kw"} <= before.keys()
    for point in before:
        authority = rig.site.authority.setpoints[point]
        value, timeout_s = when_silent(authority, before[point])

        def there(row: Row, point: str = point, value: float = value) -> bool:
            return abs(row.held[point] - value) < 0.1

        fell_s = rig.after(LOST_S, there)
        assert fell_s <= timeout_s + 1.0, point
        assert rig.held(there, LOST_S + timeout_s + 1.0, BACK_S), point


@pytest.mark.scenario(32)
def test_all_comms_lost_plant_lives_and_edge_holds_safe(rig):
    assert rig.held(lambda r: r.flows.bus_alive)
    assert rig.after(LOST_S, lambda r: r.decisions.source is Source.HOLD_SAFE) <= 2.0


@pytest.mark.scenario(32)
def test_all_comms_back_edge_resumes_within_its_ramp(rig):
    resumed_s = rig.after(BACK_S, lambda r: r.decisions.source is Source.RULES)
    assert resumed_s <= 15.0  # the mode is confirmed first
    held = [r.held["bess1.p_set_kw"] for r in rig.rows(BACK_S - 1.0)]
    steps = [abs(b - a) for a, b in pairwise(held)]
    assert max(steps) <= RAMP_KW_S * rig.dt_s + 0.1
    assert abs(held[-1]) > 20.0


@pytest.mark.scenario(32)
def test_all_comms_lost_is_one_alarm(rig):
    rang = [f["key"] for f in rig.events("alarm.raised") if f["annunciated"]]
    assert rang == ["comms.lost"]


@pytest.mark.scenario(32)
def test_one_device_back_after_its_time_out_is_raised_from_what_it_holds(demo):
    """The PV controller fell back to 140 kW by itself; what was sent before is not sent again in one step."""
    silent = Fault(kind="device_silent", target="pv1", from_s=LOST_S, until_s=BACK_S)
    rig = Rig(demo, load_kw={"critical": 150.0, "essential": 300.0}, pv_kw=400.0, faults=[silent])
    rig.run(BACK_S + 60.0)
    limits = [r.held["pv1.p_limit_kw"] for r in rig.rows(BACK_S - 1.0)]
    assert limits[0] == 140.0
    ramp_kw_s = demo.authority.setpoints["pv1.p_limit_kw"].ramp_per_s
    assert ramp_kw_s is not None
    assert max(b - a for a, b in pairwise(limits)) <= ramp_kw_s * rig.dt_s + 0.1
    assert limits[-1] > 200.0
