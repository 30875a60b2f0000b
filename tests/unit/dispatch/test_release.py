"""Letting go of the plant: refused where the plant would not live without us, and silent where it would."""

from dataclasses import replace
from itertools import pairwise

import pytest

from dispatch.vocabulary import Source
from ems.assets import DeviceBehaviour, OnSilence
from ems.commands import Cause
from ems.control_site import ControlParams
from ems.release import ReleaseWish
from ems.site import Site
from ems.site_schema import load_site
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from tests import builders
from tests.architecture.source_tree import ROOT

WISH = ReleaseWish(who="ada", why="firmware of the plant controller")
LOAD_KW = {"critical": 110.0, "essential": 160.0, "deferrable": 80.0}


@pytest.fixture(scope="module")
def demo() -> Site:
    return load_site(ROOT / "sites" / "demo" / "site.yaml")


def silent(site: Site, point: str, action: OnSilence, value: float | None = None) -> Site:
    """The site with one device that does something else on silence."""
    setpoints = dict(site.authority.setpoints)
    behaviour = DeviceBehaviour(timeout_s=45.0, on_silence=action, value=value)
    old = setpoints[point]
    setpoints[point] = replace(old, safety=replace(old.safety, behaviour=behaviour))
    return replace(site, authority=replace(site.authority, setpoints=setpoints))


def let_go(rig: Rig) -> None:
    rig.runtime.release = WISH


def blind(rig: Rig) -> None:
    """Neither mains voltage nor POI breaker can be read."""
    for point in ("grid1.v_pu", "grid1.breaker_closed"):
        rig.tell(point, None)


def take_back(rig: Rig) -> None:
    rig.runtime.release = None


def test_release_allowed_writes_and_heartbeat_stop_and_the_plant_lives(demo):
    rig = Rig(demo, load_kw=LOAD_KW, pv_kw=300.0).at(30.0, let_go).at(200.0, take_back)
    rig.run(260.0, judge=False)
    gone = list(rig.rows(30.0, 200.0))
    assert {r.decisions.source for r in gone} == {Source.RELEASED}
    assert [c for r in gone for c in r.commands] == []
    assert len({r.decisions.heartbeat for r in rig.rows(29.0, 200.0)}) == 1
    assert all(r.flows.bus_alive for r in rig.log)
    assert all("edge.released" in {a.code for a in r.decisions.alarms} for r in gone)
    assert rig.events("edge.release.begun") == [{"who": "ada", "why": WISH.why}]
    assert rig.after(200.0, lambda r: r.decisions.source is Source.RULES) <= 1.0
    assert not [v for v in rig.violations if v.oracle != "I8"]  # I8: the heartbeat stands still, as it should


def test_release_taken_back_moves_no_limit_faster_than_its_ramp(demo):
    rig = Rig(demo, load_kw=LOAD_KW, pv_kw=400.0).at(30.0, let_go).at(200.0, take_back)
    rig.run(260.0, judge=False)
    held = [r.held["pv1.p_limit_kw"] for r in rig.rows(199.0)]
    assert held[0] == 140.0
    assert max(b - a for a, b in pairwise(held)) <= 7.0 + 0.1


@pytest.mark.parametrize(
    ("action", "value", "refused"),
    [(OnSilence.FULL, None, True), (OnSilence.HOLD, None, False), (OnSilence.VALUE, 140.0, False)],
)
def test_release_island_with_a_full_battery_depends_on_what_pv_does_in_silence(demo, action, value, refused):
    """At 100 % the PV plant gives more than load and battery take: over-frequency. At 140 kW it does not."""
    site = silent(demo, "pv1.p_limit_kw", action, value)
    options = RigOptions(islanded_by="bess1", soc=0.945, judge=False)
    rig = Rig(site, load_kw=LOAD_KW, pv_kw=100.0, options=options)
    rig.at(30.0, lambda r: r.foreign_write("pv1.p_limit_kw", 140.0)).at(30.0, let_go).run(60.0)
    told = rig.events("edge.release.refused")
    assert bool(told) is refused
    assert not refused or "sun 100%" in str(told[0]["against"])
    assert (rig.last.decisions.source is Source.RELEASED) is not refused


@pytest.mark.parametrize(("action", "refused"), [(OnSilence.STOP, True), (OnSilence.HOLD, False)])
def test_release_island_of_a_genset_depends_on_what_it_does_in_silence(demo, action, refused):
    """The set that forms the island is stopped by its own time-out, or goes on."""
    site = silent(demo, "gen1.run_request", action)
    site = replace(site, gensets=tuple(replace(g, mains_failure_start=False) for g in site.gensets))
    options = RigOptions(islanded_by="gen1", gensets_on_kw={"gen1": 300.0}, soc=0.2, judge=False)
    rig = Rig(
        site, load_kw=LOAD_KW, faults=[Fault(kind="bess_trips", target="bess1", from_s=10.0)], options=options
    )
    rig.at(20.0, let_go).run(150.0)
    told = rig.events("edge.release.refused")
    assert bool(told) is refused
    assert not refused or "the bus is dead" in str(told[0]["against"])
    assert rig.last.flows.bus_alive


def test_release_ends_by_itself_when_the_plant_would_no_longer_live(demo):
    """The battery that would carry a loss of the mains is nearly empty: tried again after a minute."""
    rig = Rig(demo, load_kw=LOAD_KW, options=RigOptions(soc=0.6, judge=False))
    rig.at(30.0, let_go).run(60.0)
    assert rig.log[-1].decisions.source is Source.RELEASED
    nearly_empty = replace(rig.world.state.bess["bess1"], stored_kwh=0.102 * 1200.0)
    rig.world.state = replace(rig.world.state, bess={"bess1": nearly_empty})
    rig.run(150.0)
    assert str(rig.log[-1].decisions.source) == "rules"
    (ended,) = rig.events("edge.release.ended")
    assert ended["why"] == "the plant would not live without us"
    assert "mains lost" in str(ended["against"])


def test_release_in_a_mode_nobody_knows_is_refused(demo):
    rig = Rig(demo, load_kw=LOAD_KW, options=RigOptions(judge=False))
    rig.at(20.0, blind)
    rig.at(60.0, let_go).run(80.0)
    assert [e["against"] for e in rig.events("edge.release.refused")] == [["the bus is unknown"]]
    assert rig.last.decisions.source is Source.HOLD_SAFE


def test_release_asked_of_an_edge_that_never_saw_the_plant_is_refused(demo):
    """A wish that stood before the start is another thing: it was allowed once."""
    rig = Rig(demo, load_kw=LOAD_KW, options=RigOptions(judge=False))
    rig.at(0.0, blind).at(30.0, let_go).run(40.0)
    assert [e["against"] for e in rig.events("edge.release.refused")] == [["the bus is unknown"]]
    assert Source.RELEASED not in {r.decisions.source for r in rig.log}


def test_release_refused_while_a_device_is_set_to_another_silence(demo):
    """The PV controller tells its reversion registers; somebody has set them otherwise."""
    rig = Rig(telling(demo), load_kw=LOAD_KW, pv_kw=100.0, options=RigOptions(judge=False))
    rig.run(20.0)
    assert "device.silence_differs" not in {a.code for a in rig.last.decisions.alarms}
    for point, value in (("pv1.revert_s", 120.0), ("pv1.revert_kw", 700.0)):
        rig.tell(point, value)
        rig.run(rig.t_s + 10.0)
        (alarm,) = [a for a in rig.last.decisions.alarms if a.code == "device.silence_differs"]
        assert alarm.asset == "pv1.p_limit_kw"
        rig.tell_truth(point)
    rig.tell("pv1.revert_kw", 700.0)
    let_go(rig)
    rig.run(rig.t_s + 5.0)
    assert rig.last.decisions.source is not Source.RELEASED
    assert "goes to 700 in silence" in str(rig.events("edge.release.refused")[0]["against"])


def test_release_wish_of_before_a_restart_not_one_write_even_before_anything_is_seen(demo):
    """The edge comes back while somebody works: no device answers at first, then all of them."""
    rig = Rig(demo, load_kw=LOAD_KW, options=RigOptions(judge=False))
    rig.at(0.0, blind).at(10.0, lambda r: r.tell_truth("grid1.v_pu"))
    rig.at(10.0, lambda r: r.tell_truth("grid1.breaker_closed"))
    let_go(rig)
    rig.run(60.0)
    assert {r.decisions.source for r in rig.log} == {Source.RELEASED}
    assert rig.writes == 0


def test_release_emergency_stop_is_carried_out_all_the_same(demo):
    control = ControlParams(emergency_stop={"bess1.p_set_kw": 0.0})
    small = replace(builders.site(), control=control)
    rig = Rig(small, load_kw={"critical": 60.0, "essential": 100.0}, options=RigOptions(judge=False))
    rig.at(20.0, let_go).at(40.0, lambda r: r.tell("bus.emergency_stop", 0.0))
    rig.run(60.0)
    assert {r.decisions.source for r in rig.rows(20.0, 40.0)} == {Source.RELEASED}
    causes = {c.cause for r in rig.rows(40.0) for c in r.commands}
    assert Cause.EMERGENCY_STOP in causes


def telling(site: Site) -> Site:
    """The demonstration plant whose PV controller tells what it does in silence."""
    authority = site.authority.setpoints["pv1.p_limit_kw"]
    behaviour = replace(authority.safety.behaviour, timeout_point="pv1.revert_s", value_point="pv1.revert_kw")
    told = replace(authority, safety=replace(authority.safety, behaviour=behaviour))
    setpoints = {**site.authority.setpoints, "pv1.p_limit_kw": told}
    (pv,) = [c for c in site.connections if c.id == "pv_controller"]
    like = next(m for m in pv.points if m.point == "pv1.p_kw")
    extra = tuple(
        replace(like, point=p, address=a, scale=1.0, sign=1, low=0.0, high=1000.0)
        for p, a in (("pv1.revert_s", "300"), ("pv1.revert_kw", "302"))
    )
    others = tuple(c for c in site.connections if c is not pv)
    return replace(
        site,
        authority=replace(site.authority, setpoints=setpoints),
        connections=(*others, replace(pv, points=(*pv.points, *extra))),
    )
