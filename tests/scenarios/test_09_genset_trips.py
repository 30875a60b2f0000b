"""9: a genset trips in an island: the bus dies with it, or a battery that forms goes on."""

from dataclasses import replace

import pytest

from ems.condition import UnitState
from ems.control import ControlMode, Role
from ems.control_site import ControlParams
from ems.requests import Operate, Select, SwitchMode
from ems.site import Authority, Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions, Row
from tests.scenarios.plants import ramped
from tests.scenarios.poi import following_only

pytestmark = pytest.mark.scenario(9)
AT_S = 60.0
LOAD = {"critical": 100.0, "essential": 180.0, "deferrable": 100.0}


def island(
    small: Site, load_kw: dict[str, float], on_kw: dict[str, float], reset_s: float | None = None
) -> Rig:
    """Both sets carry what gen2 alone cannot; the battery follows and is nearly empty."""
    site = following_only(small)
    forming = next(iter(on_kw))
    options = RigOptions(
        soc=0.12, islanded_by=forming, gensets_on_kw=on_kw, horizon_s=3000.0, reset_s=reset_s
    )
    trip = Fault(kind="genset_trips", target=forming, from_s=AT_S, until_s=AT_S + 5.0)
    return Rig(site, load_kw=load_kw, faults=(trip,), options=options)


@pytest.fixture(scope="module")
def both(small: Site) -> Rig:
    return island(small, LOAD, {"gen1": 250.0, "gen2": 130.0}).run(AT_S + 120.0)


def test_trip_reserve_is_that_without_the_set_in_one_cycle(both: Rig):
    def held_kw(t_s: float) -> float:
        return both.first(t_s, lambda r: True).decisions.reserve_held_kw

    assert held_kw(AT_S - 2.0) - held_kw(AT_S + 1.0) > 50.0
    seen_s = both.after(AT_S, lambda r: "locked_out" in r.decisions.condition.gensets["gen1"].states)
    assert seen_s <= 1.0
    assert (
        both.after(
            AT_S,
            lambda r: bool(r.decisions.events) and "genset.tripped" in {e.kind for e in r.decisions.events},
        )
        <= 1.0
    )


def test_trip_that_takes_the_bus_with_it_leaves_no_feeder_asked_to_close(both: Rig):
    """What is on the bus that comes back is for the restoration to say, feeder by feeder."""
    rated_kw = next(g.p_rated_kw for g in both.site.gensets if g.id == "gen2")
    assert sum(LOAD.values()) > rated_kw  # it went down with the first
    assert both.after(AT_S, lambda r: r.flows.forming is None) <= 1.0
    assert both.after(AT_S, lambda r: r.wrote("essential.close_request") == 0.0) <= 2.0
    assert both.after(AT_S, lambda r: r.wrote("deferrable.close_request") == 0.0) <= 2.0


BATTERY_KW, OVERLOAD = 300.0, 1.8  # what it gives for good, and for ten seconds


def carried_on(small: Site, load_kw: dict[str, float], soc: float, *gone: str) -> Rig:
    """A battery of 300 kW forms; gen1 helps and trips; the sets of `gone` have tripped long before."""
    battery = small.bess[0]
    smaller = replace(battery.battery, p_charge_kw_max=BATTERY_KW, p_discharge_kw_max=BATTERY_KW)
    pcs = replace(battery.pcs, s_kva=1.1 * BATTERY_KW, overload_ratio=OVERLOAD)
    point = "bess1.p_set_kw"
    own = replace(small.authority.setpoints[point], low=-BATTERY_KW, high=BATTERY_KW)
    authority = Authority(setpoints={**small.authority.setpoints, point: own})
    site = replace(small, bess=(replace(battery, battery=smaller, pcs=pcs),), authority=authority)
    options = RigOptions(soc=soc, islanded_by="bess1", gensets_on_kw={"gen1": 250.0}, horizon_s=3000.0)
    trips = [Fault(kind="genset_trips", target=g, from_s=5.0, until_s=10.0) for g in gone]
    trips.append(Fault(kind="genset_trips", target="gen1", from_s=AT_S, until_s=AT_S + 5.0))
    return Rig(ramped(site), load_kw=load_kw, faults=trips, options=options).run(AT_S + 60.0)


def capacity_kw(row: Row) -> float:
    """What the sources on the bus can give for good, by the truth."""
    sets = sum(400.0 if g == "gen1" else 200.0 for g, kw in row.flows.genset_p_kw.items() if kw > 0.0)
    return row.flows.bess_p_discharge_kw_max["bess1"] + sets


def test_trip_deficit_of_a_live_island_is_shed_within_two_seconds(small: Site):
    """450 kW stay on a battery of 300 kW: its overload lasts until the shedding, and no longer is needed."""
    load = {"critical": 120.0, "essential": 230.0, "deferrable": 100.0}
    rig = carried_on(small, load, 0.6, "gen2")
    first = rig.first(AT_S, lambda r: True)
    assert sum(first.flows.feeder_p_kw.values()) > capacity_kw(first)  # a deficit, and the bus lives
    assert rig.held(lambda r: r.flows.forming == "bess1")
    assert rig.held(lambda r: sum(r.flows.feeder_p_kw.values()) <= capacity_kw(r), AT_S + 2.0)
    shed = rig.first(AT_S, lambda r: r.wrote("essential.close_request") == 0.0)
    assert shed.t_s - AT_S <= 2.0
    assert shed.alarmed("feeder.shed")
    assert rig.held(lambda r: r.flows.feeder_p_kw["critical"] == pytest.approx(120.0))


def test_trip_in_a_live_island_next_set_is_asked_within_two_seconds(small: Site):
    """The battery alone cannot carry it for long: nothing is to be confirmed, the bus lives."""
    rig = carried_on(small, {"critical": 120.0, "essential": 100.0, "deferrable": 40.0}, 0.14)
    assert rig.first(AT_S - 1.0, lambda r: True).held["gen2.run_request"] == 0.0
    assert rig.after(AT_S, lambda r: r.wrote("gen2.run_request") == 1.0) <= 2.0
    assert rig.held(lambda r: r.flows.forming == "bess1")
    assert rig.held(lambda r: sum(r.flows.feeder_p_kw.values()) <= capacity_kw(r), AT_S + 2.0)
    assert rig.held(lambda r: r.held["gen1.run_request"] == 0.0, AT_S + 2.0)  # it waits for its reset
    assert rig.last.decisions.condition.gensets["gen2"].on_load


def test_trip_set_is_available_again_once_a_person_has_operated_it(small: Site):
    """Three starts failed, and somebody went there: manual, select, operate, and back to auto."""
    users = {"olga": frozenset({Role.OPERATOR})}
    site = replace(following_only(small), control=ControlParams(users=users))
    options = RigOptions(soc=0.3, islanded_by="gen2", gensets_on_kw={"gen2": 100.0}, horizon_s=900.0)
    rig = Rig(site, load_kw={"critical": 80.0, "essential": 20.0}, options=options)
    mine = rig.runtime

    def fails(r: Rig) -> None:
        state = mine.state
        why = replace(state.requests["gen1"], reset_why="3 starts failed", failures=3)
        mine.state = replace(state, requests={**state.requests, "gen1": why})

    def operate(r: Rig) -> None:
        (token,) = [a.token for row in r.log for a in row.decisions.answers if a.token]
        r.ask("olga", Operate(token=token), reason="repaired")

    rig.at(20.0, fails)
    rig.at(30.0, lambda r: r.ask("olga", SwitchMode(device="gen1", mode=ControlMode.MANUAL)))
    rig.at(35.0, lambda r: r.ask("olga", Select(point="gen1.run_request", value=0.0)))
    rig.at(38.0, operate)
    rig.at(50.0, lambda r: r.ask("olga", SwitchMode(device="gen1", mode=ControlMode.AUTO)))
    rig.run(60.0)

    def needs_reset(t_s: float) -> bool:
        states = rig.first(t_s, lambda row: True).decisions.condition.gensets["gen1"].states
        return UnitState.RESET_NEEDED in states

    assert [needs_reset(t) for t in (10.0, 25.0, 36.0, 45.0, 58.0)] == [False, True, True, False, False]
    assert rig.runtime.state.requests["gen1"].failures == 0
    assert "genset.reset" in {e.kind for e in rig.journal.events}


def test_trip_set_is_not_commanded_before_it_was_reset(both: Rig):
    assert not any(r.wrote("gen1.run_request") == 1.0 for r in both.rows(AT_S + 1.0))


def test_trip_next_set_is_asked_within_two_seconds(small: Site):
    """gen1 alone carries the island; gen2 stands."""
    rig = island(small, {"critical": 90.0, "essential": 60.0, "deferrable": 40.0}, {"gen1": 190.0})
    rig.run(AT_S + 120.0)
    confirm_s = rig.site.grid.supervision.start_confirm_s
    asked_s = rig.after(AT_S, lambda r: r.wrote("gen2.run_request") == 1.0)
    assert asked_s <= 2.0 + confirm_s  # the bus is dead: that is confirmed first
    assert rig.last.decisions.condition.forming == "gen2"


def test_trip_set_that_somebody_has_reset_is_used_again(small: Site):
    rig = island(small, LOAD, {"gen1": 250.0, "gen2": 130.0}, reset_s=300.0).run(AT_S + 1500.0)
    reset_s = AT_S + 300.0
    first = rig.after(AT_S + 1.0, lambda r: r.wrote("gen1.run_request") == 1.0)
    assert first >= reset_s - AT_S - 2.0
    assert rig.last.decisions.condition.gensets["gen1"].on_load
