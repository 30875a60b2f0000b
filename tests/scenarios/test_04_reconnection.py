"""4: the grid returns; and returns and fails again, five times."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest

from ems.poi import FlappingPolicy
from ems.points import GensetState
from ems.site import GridMode, Site
from sim.rig import Rig, RigOptions
from tests.scenarios.plants import ramped
from tests.scenarios.poi import with_breaker

pytestmark = pytest.mark.scenario(4)
LOST_S, BACK_S = 30.0, 330.0
LOAD = {"critical": 60.0, "essential": 100.0, "deferrable": 40.0}
RAMP_KW_S = 5.0


def closed_s(rig: Rig, from_s: float) -> float:
    return from_s + rig.after(from_s, lambda r: r.flows.grid_closed)


@pytest.fixture(scope="module")
def run(small: Site) -> Rig:
    """A low battery, so that a genset runs in the island and the rules charge at once when it is over."""
    site = ramped(with_breaker(small, ramp_kw_s=RAMP_KW_S))
    site = replace(site, gensets=tuple(replace(g, min_up_s=60.0) for g in site.gensets))
    rig = Rig(site, load_kw=LOAD, mains=[(LOST_S, BACK_S)], options=RigOptions(soc=0.24, noise_ratio=0.0))
    return rig.run(BACK_S + 500.0)


def test_reconnection_enter_service_delay_is_honoured(run: Rig):
    assert closed_s(run, BACK_S) - BACK_S == pytest.approx(run.site.grid.reconnect_dwell_s, abs=1.0)


def test_reconnection_next_to_no_power_when_the_breaker_closes(run: Rig):
    at_close = run.first(closed_s(run, BACK_S), lambda r: True)
    assert abs(at_close.flows.grid_p_kw) <= 0.02 * run.site.grid.p_import_kw_max


def test_reconnection_power_at_the_poi_moves_no_faster_than_the_ramp(run: Rig):
    close_s = closed_s(run, BACK_S)
    p_kw = [r.flows.grid_p_kw for r in run.rows(close_s, close_s + 100.0)]
    assert max(abs(b - a) for a, b in pairwise(p_kw)) <= RAMP_KW_S + 0.5
    assert max(p_kw) > 50.0  # the rules did want to import


def test_reconnection_genset_cools_down_and_stops(run: Rig):
    (genset,) = {
        g
        for r in run.rows(BACK_S - 5.0, BACK_S)
        for g, c in r.decisions.condition.gensets.items()
        if c.on_load
    }
    states = [r.flows.genset_state[genset] for r in run.rows(BACK_S)]
    order = list(dict.fromkeys(states))
    assert order == [GensetState.RUNNING, GensetState.COOLING_DOWN, GensetState.STOPPED]
    cooling_s = sum(s is GensetState.COOLING_DOWN for s in states)
    assert cooling_s == pytest.approx(180.0, abs=2.0)


def test_reconnection_nothing_closes_without_the_synchronism_check(small: Site):
    rig = Rig(with_breaker(small), load_kw=LOAD, mains=[(LOST_S, 90.0)], options=RigOptions(horizon_s=400.0))
    rig.tell("grid1.sync_ok", 0.0)
    rig.at(300.0, lambda r: r.tell_truth("grid1.sync_ok")).run(330.0)
    assert rig.held(lambda r: not r.flows.grid_closed, LOST_S + 1.0, 300.0)
    assert rig.held(lambda r: r.held["grid1.close_permit"] == 0.0, LOST_S + 1.0, 300.0)
    assert closed_s(rig, 300.0) <= 303.0


def test_reconnection_breaker_that_does_not_close_is_told(small: Site):
    rig = Rig(with_breaker(small), load_kw=LOAD, mains=[(LOST_S, 60.0)], options=RigOptions(horizon_s=400.0))
    rig.tell("grid1.sync_ok", 0.0)
    rig.run(300.0)
    asked_s = rig.first(60.0, lambda r: r.decisions.transition == "closing").t_s
    late_s = rig.after(asked_s, lambda r: r.alarmed("reconnection.late"))
    assert late_s == pytest.approx(rig.site.grid.transitions.close_s_max, abs=2.0)


@pytest.fixture(scope="module")
def flapping(small: Site) -> Rig:
    """Lost six times; each time the mains are back for 100 s only, the last time for good."""
    policy = FlappingPolicy(window_h=6.0, growth_ratio=2.0, dwell_s_max=600.0)
    site = ramped(with_breaker(small, flapping=policy))
    away = [(30.0 + 200.0 * i, 130.0 + 200.0 * i) for i in range(6)]
    rig = Rig(site, load_kw=LOAD, mains=away, options=RigOptions(horizon_s=1600.0))
    return rig.run(1500.0)


def test_reconnection_grid_that_fails_again_is_waited_for_longer(flapping: Rig):
    """60 s after the first loss, 120 s after the second: longer than the mains stay, until they stay."""
    first_s = closed_s(flapping, 130.0)
    assert first_s - 130.0 == pytest.approx(60.0, abs=1.0)
    second_lost_s = 230.0
    assert flapping.held(lambda r: not r.flows.grid_closed, second_lost_s + 1.0, 1130.0 + 119.0)
    assert closed_s(flapping, second_lost_s + 1.0) - 1130.0 == pytest.approx(120.0, abs=1.0)
    assert sum(e["now"] == "grid_tied" for e in flapping.events("grid.mode.changed")) == 3  # with the start
    assert flapping.unserved_kwh() <= 2 * sum(LOAD.values()) * flapping.site.grid.transfer_s / 3600.0 + 1e-6


def test_reconnection_grid_that_fails_again_without_a_say_is_followed(small: Site):
    """The plant's own device closes after its dwell, five times, and the edge takes it as it comes."""
    away = [(30.0 + 200.0 * i, 130.0 + 200.0 * i) for i in range(5)]
    rig = Rig(small, load_kw=LOAD, mains=away, options=RigOptions(horizon_s=1200.0)).run(1100.0)
    for _, back_s in away:
        assert closed_s(rig, back_s) - back_s == pytest.approx(small.grid.reconnect_dwell_s, abs=1.0)
        at_close = rig.first(closed_s(rig, back_s), lambda r: True)
        assert abs(at_close.flows.grid_p_kw) <= 0.02 * small.grid.p_import_kw_max
    modes = [e["now"] for e in rig.events("grid.mode.changed")]
    assert modes == [GridMode.GRID_TIED.value, *["islanded", "grid_tied"] * 5]


@pytest.mark.parametrize(("unseen_s", "late_s"), [(6.0, 6.0), (60.0, None)])
def test_reconnection_time_in_which_the_mains_were_not_seen_is_no_dwell(
    small: Site, unseen_s: float, late_s: float | None
):
    """A short gap does not count; after a long one, in which they may have gone, the dwell begins anew."""
    site = with_breaker(small, reconnect_dwell_s=120.0)
    points = [f"{site.grid.id}.{n}" for n in ("v_pu", "v1_pu", "v2_pu", "v3_pu", "f_hz")]
    rig = Rig(site, load_kw=LOAD, mains=[(LOST_S, 100.0)], options=RigOptions(soc=0.7, noise_ratio=0.0))
    for point in points:
        rig.at(140.0, partial(Rig.tell, point=point, value=None))
        rig.at(140.0 + unseen_s, partial(Rig.tell_truth, point=point))
    rig.run(500.0)
    begins_s = 140.0 + unseen_s if late_s is None else 100.0 + late_s
    assert closed_s(rig, 101.0) == pytest.approx(begins_s + 120.0, abs=3.0)
