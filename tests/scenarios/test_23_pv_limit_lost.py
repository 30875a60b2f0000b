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
from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions, Row
from sim.rig_scenario import Power
from tests.scenarios.plants import two_pv
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
        monkeypatch.setattr("dispatch.protections.second_look.with_lost", lambda *given: given[4])
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
