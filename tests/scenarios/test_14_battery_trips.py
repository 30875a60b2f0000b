"""14: the battery trips while it discharges, while it charges, and beside gensets that carry an island."""

from dataclasses import replace

import pytest

from ems.points import BessState
from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions

pytestmark = pytest.mark.scenario(14)
AT_S, BACK_S = 60.0, 180.0
LOAD = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}
TRIP = Fault(kind="bess_trips", target="bess1", from_s=AT_S, until_s=BACK_S)


@pytest.mark.parametrize("pv_kw", [0.0, 500.0], ids=["discharging", "charging"])
def test_battery_trips_setpoint_is_zero_and_pv_answers_in_one_cycle(small: Site, pv_kw: float):
    rig = Rig(small, load_kw=LOAD, pv_kw=pv_kw, faults=[TRIP])
    rig.run(BACK_S)
    seen_s = AT_S + 1.0  # the trip of the cycle before is read now
    assert rig.first(seen_s, lambda r: True).wrote("bess1.p_set_kw") == 0.0
    assert rig.held(lambda r: r.held["bess1.p_set_kw"] == 0.0, seen_s)
    assert rig.held(lambda r: r.flows.grid_p_kw >= 0.0, seen_s)  # nothing is exported


def test_battery_trips_comes_back_at_zero_and_is_not_closed_by_the_edge(small: Site):
    """The converter restarts by itself after its own time; nothing the edge writes does it."""
    rig = Rig(small, load_kw=LOAD, pv_kw=500.0, faults=[TRIP])
    rig.run(BACK_S + 120.0)
    off = [r for r in rig.rows(AT_S + 1.0) if r.flows.bess_state["bess1"] is not BessState.FOLLOWING]
    assert {c.point for r in off for c in r.commands if c.point.startswith("bess1.")} <= {"bess1.p_set_kw"}
    back = rig.first(BACK_S, lambda r: r.flows.bess_state["bess1"] is BessState.FOLLOWING)
    assert back.flows.bess_p_kw["bess1"] == pytest.approx(0.0, abs=1.0)


def test_battery_trips_beside_forming_gensets_load_is_served(small: Site):
    battery = small.bess[0]
    site = replace(small, bess=(replace(battery, pcs=replace(battery.pcs, can_form=False)),))
    options = RigOptions(islanded_by="gen1", gensets_on_kw={"gen1": 150.0})
    rig = Rig(site, load_kw=LOAD, pv_kw=80.0, faults=[TRIP], options=options)
    rig.run(BACK_S)
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-6)
    assert rig.first(AT_S + 1.0, lambda r: True).wrote("bess1.p_set_kw") in (0.0, None)
    assert rig.held(lambda r: r.held["bess1.p_set_kw"] == 0.0, AT_S + 1.0)
