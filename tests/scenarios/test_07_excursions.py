"""7: voltage or frequency of the mains leaves its band and stays out, by the truth of the plant."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from ems.poi import Supervision
from ems.site import GridMode, Site
from sim.rig import Rig, RigOptions, Row
from sim.rig_scenario import Excursion
from tests.scenarios.poi import with_breaker

pytestmark = pytest.mark.scenario(7)
AT_S, BACK_S, END_S = 60.0, 360.0, 560.0
LOAD = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}
CASES: Mapping[str, tuple[float | None, float | None]] = {  # voltage, frequency
    "frequency low": (None, 48.7),
    "frequency high": (None, 51.4),
    "voltage low": (0.80, None),
    "voltage high": (1.20, None),
}
LONG = ("frequency low", "voltage high")  # the other side of the same band
EACH = [pytest.param(c, marks=pytest.mark.soak) if c in LONG else c for c in CASES]
NOISE_KW = 5.0  # of the measured load
BAND = Supervision(f_min_hz=49.0, f_max_hz=51.0)


def banded(site: Site, rules: Supervision = BAND) -> Site:
    """The small plant, exporting up to 300 kW, that judges the frequency of its mains."""
    return replace(site, grid=replace(site.grid, supervision=rules, p_export_kw_max=300.0))


def during(site: Site, *mains: Excursion, until_s: float = END_S, judge_s: float = AT_S) -> Rig:
    """Exports before `judge_s`: there is something to lose."""
    rig = Rig(site, load_kw=LOAD, pv_kw=560.0, mains=mains, options=RigOptions(soc=0.93)).run(until_s)
    assert rig.first(judge_s - 1.0, lambda r: True).flows.grid_p_kw < -100.0
    return rig


def modes(rig: Rig) -> list[str]:
    return [str(e["now"]) for e in rig.events("grid.mode.changed")]


@pytest.fixture(scope="module", params=EACH)
def opened(request: pytest.FixtureRequest, small: Site) -> Rig:
    """The plant's own relay opens the breaker."""
    v_pu, f_hz = CASES[request.param]
    return during(banded(small), Excursion(AT_S, BACK_S, v_pu=v_pu, f_hz=f_hz))


def test_excursion_the_relay_opens_it_is_an_island_within_one_second(opened: Rig):
    assert opened.after(AT_S, lambda r: r.decisions.mode is GridMode.ISLANDED) <= 1.0
    assert opened.held(lambda r: r.decisions.mode is GridMode.ISLANDED, AT_S + 1.0, BACK_S)
    assert opened.held(lambda r: not r.flows.grid_closed, AT_S, BACK_S)


def test_excursion_the_relay_opens_pv_fits_into_the_island_and_all_load_is_served(opened: Rig):
    room = [
        r.flows.pv_p_kw["pv1"] - sum(r.flows.feeder_p_kw.values()) - r.flows.bess_p_charge_kw_max["bess1"]
        for r in opened.rows(AT_S + 2.0, BACK_S)
    ]
    assert max(room) <= 1.0
    assert opened.unserved_kwh() <= sum(LOAD.values()) * opened.site.grid.transfer_s / 3600.0 + 1e-6


def test_excursion_the_relay_opens_return_is_after_the_dwell_and_without_power(opened: Rig):
    closed = opened.first(BACK_S, lambda r: r.flows.grid_closed)
    assert closed.t_s - BACK_S == pytest.approx(opened.site.grid.reconnect_dwell_s, abs=1.0)
    assert abs(closed.flows.grid_p_kw) <= 0.02 * opened.site.grid.p_import_kw_max
    assert modes(opened) == ["grid_tied", "islanded", "grid_tied"]


@pytest.mark.parametrize("case", EACH)
def test_excursion_permit_to_close_is_withheld_while_it_lasts(small: Site, case: str):
    """An edge with a say in the breaker's closing."""
    v_pu, f_hz = CASES[case]
    site = with_breaker(banded(small), "close_permit")
    rig = during(site, Excursion(AT_S, BACK_S, v_pu=v_pu, f_hz=f_hz))
    dwell_s = site.grid.reconnect_dwell_s
    assert rig.held(lambda r: r.held["grid1.close_permit"] == 0.0, AT_S + 2.0, BACK_S + dwell_s - 2.0)
    closed_s = rig.first(BACK_S, lambda r: r.flows.grid_closed).t_s
    assert closed_s - BACK_S == pytest.approx(dwell_s, abs=2.0)


@pytest.fixture(scope="module", params=EACH)
def closed(request: pytest.FixtureRequest, small: Site) -> Rig:
    """A relay that is set wider leaves the breaker closed."""
    v_pu, f_hz = CASES[request.param]
    return during(banded(small), Excursion(AT_S, BACK_S, v_pu=v_pu, f_hz=f_hz, relay=False))


def test_excursion_breaker_closed_is_unknown_after_its_confirm_time(closed: Rig):
    after_s = closed.after(AT_S, lambda r: r.decisions.mode is GridMode.UNKNOWN)
    assert BAND.confirm_unknown_s - 1.0 <= after_s <= 2.0
    assert closed.after(AT_S, lambda r: r.alarmed("grid.mode.unknown")) <= 2.0
    assert closed.raised("grid.mode.unknown") == 1
    assert closed.held(lambda r: r.flows.grid_closed)  # the edge moves no breaker


def test_excursion_breaker_closed_nothing_is_exported_and_batteries_rest(closed: Rig):
    settled_s = AT_S + 4.0
    assert closed.held(lambda r: r.flows.grid_p_kw >= 0.0, settled_s, BACK_S)
    assert closed.held(lambda r: abs(r.flows.bess_p_kw["bess1"]) <= 1.0, settled_s, BACK_S)

    def under(row: Row) -> bool:
        return row.flows.pv_p_kw["pv1"] <= 0.8 * sum(row.flows.feeder_p_kw.values()) + NOISE_KW

    assert closed.held(under, settled_s, BACK_S)
    assert closed.unserved_kwh() == pytest.approx(0.0, abs=1e-9)
    half_minutes = [list(closed.rows(t, t + 30.0)) for t in (90.0, 180.0, 330.0)]
    assert all(sum(-r.flows.grid_p_kw for r in rows) / 30.0 <= 0.0 for rows in half_minutes)


def test_excursion_breaker_closed_return_is_after_unbroken_evidence(closed: Rig):
    tied_s = closed.after(BACK_S, lambda r: r.decisions.mode is GridMode.GRID_TIED)
    assert tied_s == pytest.approx(BAND.settled_s, abs=1.0)
    assert modes(closed) == ["grid_tied", "unknown", "grid_tied"]
    assert not closed.last.alarmed("grid.mode.unknown")
    assert closed.last.flows.grid_p_kw < -100.0  # exports again


@pytest.mark.parametrize("case", CASES)
def test_excursion_that_ends_soon_keeps_its_hold(small: Site, case: str):
    """A mode that became unknown stays so for its hold, however soon the mains are good."""
    v_pu, f_hz = CASES[case]
    rig = during(banded(small), Excursion(AT_S, AT_S + 5.0, v_pu=v_pu, f_hz=f_hz, relay=False), until_s=200.0)
    unknown_s = rig.first(AT_S, lambda r: r.decisions.mode is GridMode.UNKNOWN).t_s
    held_s = rig.after(unknown_s, lambda r: r.decisions.mode is GridMode.GRID_TIED)
    assert held_s == pytest.approx(BAND.unknown_hold_s, abs=1.0)


@pytest.mark.parametrize("case", CASES)
def test_excursion_shorter_than_its_confirm_time_changes_nothing(small: Site, case: str):
    v_pu, f_hz = CASES[case]
    short = Excursion(AT_S, AT_S + 1.0, v_pu=v_pu, f_hz=f_hz, relay=False)
    rig = during(banded(small), short, until_s=120.0)
    assert modes(rig) == ["grid_tied"]
    assert rig.raised("grid.mode.unknown") == 0


def test_excursion_the_relay_opens_late_the_island_follows_the_unknown(small: Site):
    """Ridden through for 100 s, as slow relays are set; then the breaker opens."""
    site = banded(small)
    low = [Excursion(AT_S, 160.0, f_hz=48.7, relay=False), Excursion(160.0, BACK_S, f_hz=48.7)]
    rig = during(site, *low)
    assert modes(rig) == ["grid_tied", "unknown", "islanded", "grid_tied"]
    assert rig.after(160.0, lambda r: r.decisions.mode is GridMode.ISLANDED) <= 1.0
    assert rig.unserved_kwh() <= sum(LOAD.values()) * site.grid.transfer_s / 3600.0 + 1e-6


def test_excursion_frequency_is_not_judged_without_a_band(small: Site):
    site = banded(small, Supervision())
    rig = during(site, Excursion(AT_S, BACK_S, f_hz=48.7), until_s=180.0)
    assert rig.first(100.0, lambda r: True).snapshot.value("grid1.f_hz") == pytest.approx(48.7)
    assert modes(rig) == ["grid_tied"]
    assert rig.last.flows.grid_p_kw < -100.0
