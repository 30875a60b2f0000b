"""23: the device that limits PV is lost, and drops its limit: PV goes to all the sun gives."""

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dispatch.layout import layout_of
from dispatch.observing.pv_lost import told_most_kw
from dispatch.observing.sun import dark, elevation_deg
from dispatch.state import Written
from ems.assets import DeviceBehaviour, OnSilence, ReversePower
from ems.commands import Cause
from ems.control import ControlMode, Role
from ems.points import GensetState
from ems.requests import Operate, Select, SwitchMode
from ems.site import Site
from plant_models.state import ViolationKind
from sim.faults import Fault
from sim.rig import Rig, RigOptions, Row
from sim.rig_scenario import Power
from tests.scenarios.plants import tripping, two_pv
from tests.scenarios.poi import following_only

pytestmark = pytest.mark.scenario(23)
AT_S = 40.0
DROPS_S = AT_S + 15.0  # the device has heard nothing for so long
LOST = Fault(kind="device_silent", target="pv1", from_s=AT_S)
REFUSED = Fault(kind="write_lost", target="pv1", from_s=AT_S)
RELAY = ReversePower(p_kw=40.0, delay_s=5.0)


def charging(site: Site, most_kw: float) -> Site:
    """Its battery charges with no more than that."""
    battery = replace(site.bess[0].battery, p_charge_kw_max=most_kw)
    return replace(site, bess=(replace(site.bess[0], battery=battery),))


def limited(row: Row) -> bool:
    """The other plant has made room for all that the lost one may give."""
    return row.held["pv2.p_limit_kw"] <= 200.0


@pytest.mark.parametrize("fault", [LOST, REFUSED], ids=["silent", "takes no writes"])
def test_limit_lost_beside_the_grid_the_other_plant_makes_room(small: Site, fault: Fault):
    """No export. Load and charge take 460 kW of the 600 both plants could give."""
    load: dict[str, Power] = {"critical": 60.0, "essential": 0.0, "deferrable": 0.0}
    site = charging(two_pv(small), 400.0)
    rig = Rig(site, load_kw=load, pv_kw=300.0, faults=[fault]).run(AT_S + 90.0)
    before = rig.first(AT_S - 1.0, lambda r: True)
    assert not limited(before)
    known_s = 3.0 if fault is LOST else 3.0 + 5.0  # its last reading grows old; a refresh finds no answer
    assert rig.after(AT_S, limited) <= known_s + 2.0
    assert rig.first(DROPS_S + 1.0, lambda r: True).flows.pv_p_kw["pv1"] == pytest.approx(300.0)
    export = [-r.flows.grid_p_kw for r in rig.rows(AT_S)]
    assert max(sum(export[i : i + 30]) / 30.0 for i in range(0, len(export) - 29, 30)) <= 0.7  # noise
    assert sum(kw > 0.05 * 350.0 for kw in export) <= 5
    assert rig.raised("pv.limit.lost") == 1


@pytest.mark.parametrize(
    ("behaviour", "most_kw"),
    [
        (DeviceBehaviour(timeout_s=15.0, on_silence=OnSilence.HOLD), None),
        (DeviceBehaviour(timeout_s=15.0, on_silence=OnSilence.VALUE, value=60.0), None),
        (DeviceBehaviour(timeout_s=15.0, on_silence=OnSilence.VALUE, value=280.0), 280.0),
        (DeviceBehaviour(timeout_s=15.0, on_silence=OnSilence.STOP), None),
    ],
    ids=["holds", "goes lower", "goes higher", "stops"],
)
def test_limit_of_a_silent_plant_is_what_the_site_file_says_of_its_silence(
    small: Site, behaviour: DeviceBehaviour, most_kw: float | None
):
    """Room is kept for what it was told, or for the value it goes to; not for all the sun could give."""
    load: dict[str, Power] = {"critical": 60.0, "essential": 0.0, "deferrable": 0.0}
    site = charging(two_pv(small), 400.0)
    points = dict(site.authority.setpoints)
    own = points["pv1.p_limit_kw"]
    points["pv1.p_limit_kw"] = replace(own, safety=replace(own.safety, behaviour=behaviour))
    site = replace(site, authority=replace(site.authority, setpoints=points))
    rig = Rig(site, load_kw=load, pv_kw=300.0, faults=[LOST]).run(AT_S + 60.0)
    told_kw = rig.first(AT_S - 1.0, lambda r: True).held["pv1.p_limit_kw"]
    assert told_kw < 280.0
    assert rig.raised("pv.limit.lost") == 1
    room_kw = 400.0 + 60.0 - (told_kw if most_kw is None else most_kw)
    for row in rig.rows(AT_S + 8.0):
        assert row.held["pv2.p_limit_kw"] == pytest.approx(room_kw, abs=25.0)
    export = [-r.flows.grid_p_kw for r in rig.rows(AT_S)]
    assert sum(kw > 0.05 * 350.0 for kw in export) <= 5


def test_limit_that_may_have_been_told_since_it_was_heard_is_the_highest_of_them(small: Site):
    layout = layout_of(two_pv(small))
    told: dict[str, float] = {}
    for value, known, most_kw in (
        (200.0, False, None), (120.0, True, 120.0), (90.0, False, 120.0), (250.0, False, 250.0),
        (70.0, False, 250.0), (70.0, True, 70.0),
    ):  # fmt: skip
        told = told_most_kw(layout, told, {"pv1.p_limit_kw": Written(value=value, at_s=0.0, known=known)})
        assert told.get("pv1") == most_kw
    assert told_most_kw(layout, told, {}) == {}


@pytest.mark.parametrize("reckoned", [True, False], ids=["as it is", "without the assumption"])
def test_limit_lost_in_an_island_gensets_form_the_set_is_not_driven(
    small: Site, reckoned: bool, monkeypatch: pytest.MonkeyPatch
):
    """Load, charge and minimum load leave room for 320 kW of PV; each plant can give 310."""
    if not reckoned:  # what an edge meets that goes on believing in the limit
        monkeypatch.setattr("dispatch.protections.second_look.with_lost", lambda *given: given[5])
    load: dict[str, Power] = {"critical": 100.0, "essential": 50.0, "deferrable": 0.0}
    site = charging(following_only(two_pv(small, 310.0, 310.0)), 300.0)
    site = replace(site, gensets=tuple(replace(g, reverse_power=RELAY) for g in site.gensets))
    options = RigOptions(soc=0.5, islanded_by="gen1", gensets_on_kw={"gen1": 150.0}, judge=reckoned)
    rig = Rig(site, load_kw=load, pv_kw=310.0, faults=[LOST], options=options).run(AT_S + 60.0)
    lowest_kw = min(r.flows.genset_p_kw["gen1"] for r in rig.rows(AT_S))
    if not reckoned:
        assert lowest_kw < 0.0
        return
    assert lowest_kw >= 0.3 * 400.0
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)
    assert rig.after(AT_S, lambda r: r.held["pv2.p_limit_kw"] <= 30.0) <= 3.0 + 2.0


@pytest.mark.parametrize("soc", [0.6, 0.93])
def test_limit_lost_in_an_island_a_battery_forms_no_inverter_trips(small: Site, soc: float):
    """Room for the whole plant is kept in the forming battery: the other plant gives way before."""
    load: dict[str, Power] = {"critical": 60.0, "essential": 60.0, "deferrable": 0.0}
    site = two_pv(small, 150.0, 450.0)
    options = RigOptions(soc=soc, islanded_by="bess1")
    rig = Rig(site, load_kw=load, pv_kw={"pv1": 150.0, "pv2": 450.0}, faults=[LOST], options=options)
    rig.run(AT_S + 60.0)
    assert not [v for r in rig.rows() for v in r.flows.violations if v.kind.value == "pv_over_frequency"]
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)
    assert rig.raised("pv.limit.lost") == 1


def cramped(site: Site, *breakers: str, pv2_kw: float = 1.0, charge_kw: float = 20.0) -> Site:
    """A genset forms beside a battery that takes little and next to no other PV: no room for pv1."""
    site = charging(following_only(two_pv(site, 300.0, pv2_kw)), charge_kw)
    site = replace(site, gensets=tuple(replace(g, reverse_power=RELAY) for g in site.gensets))
    return tripping(site, *breakers)


ALONE = RigOptions(soc=0.5, islanded_by="gen1", gensets_on_kw={"gen1": 150.0})
LOAD_KW: dict[str, Power] = {"critical": 100.0, "essential": 50.0, "deferrable": 0.0}
RELEASE_S = 60.0  # in the tests: five minutes otherwise
UNWRITTEN = replace(REFUSED, target="pv1.p_limit_kw")


def tripped(row: Row) -> bool:
    return row.held.get("pv1.trip_request", 0.0) >= 0.5


def over_frequency(rig: Rig) -> bool:
    return any(v.kind is ViolationKind.PV_OVER_FREQUENCY for r in rig.rows() for v in r.flows.violations)


@pytest.mark.parametrize("fault", [LOST, UNWRITTEN], ids=["silent", "takes no writes"])
def test_limit_lost_with_no_room_left_its_breaker_is_asked_to_open(small: Site, fault: Fault):
    """Load and charge take 170 kW; pv1 can give 300, and its device drops the limit after its time-out."""
    rig = Rig(cramped(small, "pv1"), load_kw=LOAD_KW, pv_kw=300.0, faults=[fault], options=ALONE)
    rig.run(AT_S + 60.0)
    dropped_s = min(DROPS_S, rig.after(0.0, lambda r: r.held["pv1.p_limit_kw"] > 299.0))
    asked_s = rig.after(0.0, tripped)
    assert dropped_s - 5.0 <= asked_s <= dropped_s + 2.0, "not while its device keeps the limit"
    assert min(r.flows.genset_p_kw["gen1"] for r in rig.rows()) >= 0.0
    assert rig.held(lambda r: r.flows.pv_p_kw["pv1"] == 0.0, asked_s + 1.0)
    assert not over_frequency(rig)
    assert rig.unserved_kwh() == pytest.approx(0.0, abs=1e-9)
    assert (rig.raised("pv.tripped"), rig.raised("pv.trip.missing")) == (1, 0)
    commands = [c for r in rig.rows() for c in r.decisions.commands if c.point == "pv1.trip_request"]
    assert all(c.value == 1.0 and c.cause is Cause.PROTECTION for c in commands)


@pytest.mark.parametrize(
    "breakers", [(), ("pv1",)], ids=["no breaker to ask", "a breaker that does not answer"]
)
def test_limit_lost_with_no_room_and_no_breaker_to_ask_it_is_told(small: Site, breakers: tuple[str, ...]):
    faults = [LOST, Fault(kind="write_lost", target="pv1.trip_request", from_s=AT_S)]
    rig = Rig(cramped(small, *breakers), load_kw=LOAD_KW, pv_kw=300.0, faults=faults, options=ALONE)
    rig.run(AT_S + 40.0, judge=False)
    assert rig.after(0.0, lambda r: r.alarmed("pv.trip.missing")) <= DROPS_S + (2.0 if not breakers else 4.0)
    assert rig.raised("pv.trip.missing") == 1
    assert over_frequency(rig), "the inverters' own protection is all that is left"


MILDER = {
    "the battery takes it": ({"charge_kw": 300.0}, LOST, LOAD_KW, 300.0),
    "the other plant gives way": ({"pv2_kw": 300.0, "charge_kw": 150.0}, LOST, LOAD_KW, 300.0),
    "the load takes it": ({}, LOST, {**LOAD_KW, "essential": 250.0}, 300.0),
    "it is heard again before": ({}, replace(LOST, until_s=DROPS_S - 5.0), LOAD_KW, 300.0),
    "it takes writes again before": ({}, replace(UNWRITTEN, until_s=DROPS_S - 5.0), LOAD_KW, 300.0),
    "it is heard and obeys": ({}, replace(LOST, target="pv2"), LOAD_KW, 300.0),
}


@pytest.mark.parametrize("case", MILDER)
def test_limit_lost_the_breaker_is_left_alone_while_anything_milder_is_enough(small: Site, case: str):
    rooms, fault, load, pv_kw = MILDER[case]
    site = cramped(small, "pv1", "pv2", **rooms)
    rig = Rig(site, load_kw=load, pv_kw=pv_kw, faults=[fault], options=ALONE).run(AT_S + 40.0)
    assert not [c for r in rig.rows() for c in r.decisions.commands if c.point.endswith("trip_request")]
    assert min(r.flows.genset_p_kw["gen1"] for r in rig.rows()) > -0.5 * RELAY.p_kw
    assert rig.raised("pv.trip") == 0


def test_limit_not_obeyed_and_the_set_driven_the_breaker_opens_before_the_relay(small: Site):
    """Its device takes every write and reads it back: only the driven set shows that it goes its own way."""
    site = cramped(small, "pv1")
    fault = Fault(kind="pv_limit_lost", target="pv1", from_s=AT_S)
    rig = Rig(site, load_kw=LOAD_KW, pv_kw=215.0, faults=[fault], options=ALONE).run(AT_S + 60.0)
    driven_s = rig.after(0.0, lambda r: r.flows.genset_p_kw["gen1"] < -RELAY.p_kw)
    assert driven_s <= AT_S + 1.0
    asked_s = rig.after(0.0, tripped)
    assert 2.0 <= asked_s - driven_s < RELAY.delay_s, "not before a limit of nothing was tried"
    assert rig.held(lambda r: r.flows.genset_p_kw["gen1"] >= 0.0, asked_s + 1.0)
    assert rig.held(lambda r: r.flows.genset_state["gen1"] is GensetState.RUNNING)


def test_breaker_that_was_opened_is_let_in_again_and_later_each_time(
    small: Site, monkeypatch: pytest.MonkeyPatch
):
    """Heard and obeying for so long; lost again: twice as long. PV comes back after its own delay."""
    monkeypatch.setattr("dispatch.protections.pv_trip.RELEASE_S", RELEASE_S)
    again_s = AT_S + 240.0
    faults = [replace(LOST, until_s=AT_S + 60.0), replace(LOST, from_s=again_s, until_s=again_s + 60.0)]
    rig = Rig(cramped(small, "pv1"), load_kw=LOAD_KW, pv_kw=300.0, faults=faults, options=ALONE)
    rig.run(again_s + 60.0 + 2.0 * RELEASE_S + 10.0)
    first_s = rig.after(0.0, tripped)
    let_in_s = rig.after(first_s, lambda r: not tripped(r)) + first_s
    assert let_in_s - faults[0].until_s == pytest.approx(RELEASE_S, abs=4.0)
    assert rig.first(again_s - 1.0, lambda r: True).flows.pv_p_kw["pv1"] > 20.0
    second_s = rig.after(again_s, tripped) + again_s
    back_s = rig.after(second_s, lambda r: not tripped(r)) + second_s
    assert back_s - faults[1].until_s == pytest.approx(2.0 * RELEASE_S, abs=4.0)
    assert min(r.flows.genset_p_kw["gen1"] for r in rig.rows()) >= 0.0
    commands = [c for r in rig.rows() for c in r.decisions.commands if c.point == "pv1.trip_request"]
    assert {c.cause for c in commands if c.value < 0.5} == {Cause.RULES}


@pytest.mark.parametrize("needed", [False, True], ids=["not needed any more", "needed still"])
def test_breaker_that_was_opened_a_person_closes_unless_it_is_needed_still(small: Site, needed: bool):
    """In manual it waits for nobody but the person who operates it."""
    site = cramped(small, "pv1")
    site = replace(site, control=replace(site.control, users={"ann": frozenset({Role.OPERATOR})}))
    fault = LOST if needed else replace(LOST, until_s=AT_S + 60.0)
    rig = Rig(site, load_kw=LOAD_KW, pv_kw=300.0, faults=[fault], options=ALONE)
    rig.at(AT_S + 70.0, lambda r: r.ask("ann", SwitchMode(device="pv1", mode=ControlMode.MANUAL)))
    rig.run(AT_S + 90.0)
    assert tripped(rig.last)
    rig.ask("ann", Select(point="pv1.trip_request", value=0.0))
    rig.step()
    (token,) = (a.token for a in rig.last.decisions.answers if a.token is not None)
    rig.ask("ann", Operate(token=token))
    rig.run(AT_S + 100.0)
    assert rig.raised("pv.tripped") == 1
    assert tripped(rig.last) is needed
    assert rig.held(lambda r: r.flows.genset_p_kw["gen1"] >= 0.0)


def test_limit_lost_and_found_again_is_as_before(small: Site):
    load: dict[str, Power] = {"critical": 60.0, "essential": 0.0, "deferrable": 0.0}
    back = replace(LOST, until_s=AT_S + 30.0)
    rig = Rig(two_pv(small), load_kw=load, pv_kw=200.0, faults=[back]).run(AT_S + 90.0)
    assert not rig.last.decisions.alarms
    assert rig.last.flows.pv_p_kw["pv2"] == pytest.approx(200.0, abs=2.0)


@pytest.mark.parametrize(
    ("at", "lat", "lon", "high"),
    [
        (datetime(2026, 3, 20, 12, 7, tzinfo=UTC), 0.0, 0.0, 89.6),  # equinox, equator, noon
        (datetime(2026, 6, 21, 12, 2, tzinfo=UTC), 50.0, 0.0, 63.4),  # 90 - 50 + 23.4
        (datetime(2026, 12, 21, 0, 0, tzinfo=UTC), 50.0, 0.0, -63.4),
    ],
)
def test_sun_its_height_is_known(at: datetime, lat: float, lon: float, high: float):
    assert elevation_deg(at, lat, lon) == pytest.approx(high, abs=0.6)
    assert dark(at, lat, lon) is (high < 0.0)
    assert math.isfinite(elevation_deg(at, 90.0, 180.0))


def test_limit_lost_at_night_takes_no_room(small: Site):
    load: dict[str, Power] = {"critical": 60.0, "essential": 0.0, "deferrable": 0.0}
    night = RigOptions(start=datetime(2026, 3, 2, 22, 0, tzinfo=UTC))
    lost, whole = (
        Rig(two_pv(small), load_kw=load, pv_kw=0.0, faults=f, options=night).run(AT_S + 10.0)
        for f in ([LOST], [])
    )
    assert lost.last.alarmed("pv.limit.lost")
    powers = [r.last.flows.bess_p_kw["bess1"] for r in (lost, whole)]
    assert powers[0] == pytest.approx(powers[1], abs=3.0)
