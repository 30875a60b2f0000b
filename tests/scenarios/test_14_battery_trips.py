"""14: the battery trips while it discharges, while it charges, and beside gensets that carry an island."""

import math
from dataclasses import replace

import pytest

from ems.points import POINTS, Access, AssetKind, BessState
from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions, Row

pytestmark = pytest.mark.scenario(
    14, left="a converter that restarts by itself is used again without a person, however often it trips"
)
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


def test_battery_trips_the_edge_knows_no_point_that_closes_or_resets_one():
    """No site file can give it one: only powers, and how kvar are chosen."""
    writable = {s.name for s in POINTS[AssetKind.BESS] if s.access is Access.WRITE}
    assert writable == {"p_set_kw", "q_set_kvar", "pf_set", "volt_var_curve"}


def tripped(row: Row) -> bool:
    """As it is told."""
    return row.snapshot.value("bess1.state") == BessState.TRIPPED.code


@pytest.mark.parametrize("pv_kw", [0.0, 500.0], ids=["discharging", "charging"])
def test_battery_trips_nothing_is_asked_of_it_while_it_is_tripped(small: Site, pv_kw: float):
    """It never comes back. Nothing but zero is written, a refresh as well as a wish."""
    rig = Rig(small, load_kw=LOAD, pv_kw=pv_kw, faults=[replace(TRIP, until_s=math.inf)]).run(400.0)
    assert rig.held(tripped, AT_S + 1.0)
    sent = [c for r in rig.rows(AT_S + 1.0) for c in r.commands if c.point.startswith("bess1.")]
    assert {(c.point, c.value) for c in sent} == {("bess1.p_set_kw", 0.0)}
    assert len(sent) > 10  # it is refreshed all the time
    assert rig.held(lambda r: r.alarmed("bess.unavailable"), AT_S + 1.0)


def test_battery_trips_and_restarts_by_itself_it_comes_back_at_zero_and_is_used(small: Site):
    """Its converter's own controller did it, and tells that it follows: that is asked of it no sooner."""
    rig = Rig(small, load_kw=LOAD, pv_kw=500.0, faults=[TRIP])
    rig.run(BACK_S + 120.0)
    back = rig.first(BACK_S, lambda r: r.flows.bess_state["bess1"] is BessState.FOLLOWING)
    assert back.flows.bess_p_kw["bess1"] == pytest.approx(0.0, abs=1.0)
    asked = rig.first(AT_S + 1.0, lambda r: (r.wrote("bess1.p_set_kw") or 0.0) != 0.0)
    assert not tripped(asked)
    assert asked.t_s > back.t_s


def test_battery_trips_beside_forming_gensets_load_is_served(small: Site):
    battery = small.bess[0]
    site = replace(small, bess=(replace(battery, pcs=replace(battery.pcs, can_form=False)),))
    options = RigOptions(islanded_by="gen1", gensets_on_kw={"gen1": 150.0})
    rig = Rig(site, load_kw=LOAD, pv_kw=80.0, faults=[TRIP], options=options)
    rig.run(BACK_S)
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-6)
    assert rig.first(AT_S + 1.0, lambda r: True).wrote("bess1.p_set_kw") in (0.0, None)
    assert rig.held(lambda r: r.held["bess1.p_set_kw"] == 0.0, AT_S + 1.0)
