"""6: black start, with a fault at each step: every step ends in a defined, safe state."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest

from ems.points import GensetState
from ems.site import GridMode, Site
from plant_models.grid import SYNC_F_HZ
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from sim.rig_scenario import Excursion, Mains
from tests.scenarios.poi import following_only, with_breaker

pytestmark = pytest.mark.scenario(6)
AT_S = 30.0
LOAD: Mapping[str, float] = {"critical": 100.0, "essential": 80.0, "deferrable": 40.0}
CARRIED = ("energised", "restoring", "steady")
FIRST, NEXT = "gen2", "gen1"  # the smallest that carries the critical load comes first


def black_start(small: Site, *faults: Fault, back_s: float = 3600.0, until_s: float = 700.0) -> Rig:
    site = with_breaker(following_only(small))
    rig = Rig(
        site,
        load_kw=LOAD,
        pv_kw=200.0,
        mains=[(AT_S, back_s)],
        faults=faults,
        options=RigOptions(horizon_s=3600.0),
    )
    return rig.run(until_s)


def returned(small: Site, *again: tuple[float, float] | Excursion, until_s: float, **grid: Any) -> Rig:
    """As `black_start`; the mains are back while the first set cranks, and after that away `again`."""
    away: Mains = [(AT_S, 40.0), *again]
    site = with_breaker(following_only(small), **grid)
    rig = Rig(site, load_kw=LOAD, pv_kw=200.0, mains=away, options=RigOptions(horizon_s=3600.0))
    return rig.run(until_s)


def trip(genset: str, from_s: float) -> Fault:
    return Fault(kind="genset_trips", target=genset, from_s=from_s, until_s=from_s + 5.0)


def no_start(genset: str, until_s: float = 3600.0) -> Fault:
    return Fault(kind="genset_start_fails", target=genset, until_s=until_s)


def steps(rig: Rig) -> list[str]:
    told = (e for e in rig.journal.events if e.kind in ("transition.step", "transition.given_up"))
    return [str(e.fields["now"]) for e in told]


def assert_safe(rig: Rig) -> None:
    """Nothing that could close two sources onto one another, and nothing that acts on a young bus."""
    for r in rig.rows(AT_S + 1.0):
        step, c = r.decisions.transition, r.decisions.condition
        sets = any(g.starting or g.on_load for g in c.gensets.values())
        if step in ("dead", "starting", "energised"):
            assert r.held["pv1.p_limit_kw"] == r.held["bess1.p_set_kw"] == 0.0, f"{r.t_s} {step}"
        if r.held["grid1.close_permit"] == 1.0:
            assert step in ("closing", "dead", "starting"), f"{r.t_s} {step}"
            assert step == "closing" or not sets, f"{r.t_s}: a set is on its way to the same dead bus"
        if r.decisions.mode is GridMode.BLACK:
            waiting = [s for s in r.flows.genset_state.values() if s is GensetState.RUNNING]
            assert len(waiting) <= 1, f"{r.t_s}: two sets on a dead bus"
    for before, at in pairwise(rig.rows()):
        if at.flows.grid_closed and not before.flows.grid_closed and before.flows.forming is not None:
            apart_hz = abs(at.flows.mains_f_hz - at.flows.nominal_f_hz)
            assert apart_hz <= SYNC_F_HZ, f"{at.t_s}: closed {apart_hz:g} Hz apart"  # by the truth


@pytest.fixture(scope="module")
def alone(small: Site) -> Rig:
    """Nothing fails, and the mains stay away."""
    return black_start(small, until_s=260.0)


def test_black_start_without_fault_goes_step_by_step(alone: Rig):
    rig = alone
    assert_safe(rig)
    assert steps(rig)[:5] == ["dead", "starting", "energised", "restoring", "steady"]
    assert rig.last.decisions.condition.forming in ("gen1", "gen2")
    assert sum(rig.last.flows.unserved_kw().values()) == pytest.approx(0.0, abs=1e-6)


def test_black_start_set_that_does_not_start_is_followed_by_the_next(small: Site):
    rig = black_start(small, no_start(FIRST), until_s=300.0)
    assert_safe(rig)
    first_s = rig.after(AT_S, lambda r: r.wrote(f"{FIRST}.run_request") == 1.0)
    next_s = rig.after(AT_S, lambda r: r.wrote(f"{NEXT}.run_request") == 1.0)
    assert first_s < next_s < 60.0
    assert rig.last.decisions.condition.forming == NEXT
    assert rig.last.decisions.transition in CARRIED


@pytest.mark.parametrize("step", ["energised", "restoring"])
def test_black_start_set_that_trips_later_is_begun_anew(small: Site, alone: Rig, step: str):
    first = alone.first(AT_S, lambda r: r.decisions.transition == step)
    genset = alone.first(first.t_s + 3.0, lambda r: True).decisions.condition.forming
    assert genset is not None
    rig = black_start(small, trip(genset, first.t_s + 3.0), until_s=first.t_s + 150.0)
    assert_safe(rig)
    at = steps(rig)
    assert at[at.index(step) + 1] == "dead"  # given up
    assert rig.events("transition.given_up")[0]["before"] == step
    assert rig.last.decisions.condition.forming not in (None, genset)  # the other set brought it back


def test_black_start_with_nobody_left_waits_dead_and_says_so(small: Site):
    rig = black_start(small, trip("gen1", 20.0), trip("gen2", 20.0), until_s=300.0)
    assert_safe(rig)
    assert rig.last.decisions.transition == "dead"
    assert rig.last.alarmed("black_start.helpless")
    assert rig.last.flows.forming is None
    assert not any(f for f in rig.last.decisions.targets.feeder_close.values() if f.value >= 0.5)


def test_black_start_mains_back_before_a_set_is_asked_close_onto_the_dead_bus(small: Site):
    rig = black_start(small, trip("gen1", 20.0), trip("gen2", 20.0), back_s=200.0, until_s=400.0)
    assert_safe(rig)
    closed_s = 200.0 + rig.after(200.0, lambda r: r.flows.grid_closed)
    assert closed_s - 200.0 == pytest.approx(rig.site.grid.reconnect_dwell_s, abs=1.0)


def test_black_start_mains_back_while_a_set_starts_are_synchronised_to(small: Site):
    """The set that is on its way carries the bus first; the POI breaker closes onto it, never beside it."""
    rig = black_start(small, back_s=AT_S + 10.0, until_s=400.0)
    assert_safe(rig)
    at = steps(rig)
    assert at.index("energised") < at.index("closing") < at.index("ramping")
    assert rig.last.decisions.mode is GridMode.GRID_TIED


@pytest.fixture(scope="module")
def calm(small: Site) -> Rig:
    """The mains are back and stay; what is taken over from the set is ramped."""
    return returned(small, until_s=320.0, ramp_kw_s=5.0)


def begins_s(rig: Rig, step: str) -> float:
    return rig.first(AT_S, lambda r: r.decisions.transition == step).t_s


def test_black_start_breaker_that_is_not_let_close_leaves_the_island_as_it_is(small: Site, calm: Rig):
    """The mains are back at 50.4 Hz: good enough to be used, too far away to close onto."""
    assert_safe(calm)
    closing_s = begins_s(calm, "closing")
    rig = returned(
        small, Excursion(40.0, closing_s + 140.0, f_hz=50.4, relay=False), until_s=closing_s + 160.0
    )
    assert_safe(rig)
    assert begins_s(rig, "closing") == pytest.approx(closing_s, abs=1.0)
    assert rig.held(lambda r: not r.flows.grid_closed, AT_S + 1.0, closing_s + 140.0)
    assert rig.held(lambda r: r.flows.forming == FIRST, begins_s(rig, "energised"), closing_s + 140.0)
    assert rig.after(closing_s, lambda r: r.alarmed("reconnection.late")) <= 122.0
    assert rig.last.decisions.mode is GridMode.GRID_TIED  # once they are in step


@pytest.mark.parametrize("step", ["closing", "ramping"])
def test_black_start_mains_lost_again_while_they_are_taken_over(small: Site, calm: Rig, step: str):
    """Before the breaker has closed nothing happens; after it, the island that stands by goes on."""
    at_s = begins_s(calm, step)
    early = (Excursion(40.0, at_s + 5.0, f_hz=50.4, relay=False),) if step == "closing" else ()
    rig = returned(small, *early, (at_s + 5.0, 3600.0), until_s=at_s + 60.0, ramp_kw_s=5.0)
    assert_safe(rig)
    lost_s = at_s + 5.0
    assert rig.first(lost_s - 1.0, lambda r: True).decisions.transition == step
    assert rig.after(lost_s, lambda r: r.decisions.transition != step) <= 2.0
    assert rig.held(lambda r: r.held["grid1.close_permit"] == 0.0 and not r.flows.grid_closed, lost_s + 2.0)
    assert rig.held(lambda r: r.flows.forming in ("gen1", "gen2"), lost_s)
    assert rig.last.decisions.mode is GridMode.ISLANDED
    assert rig.last.decisions.transition == "steady"
    assert rig.unserved_kwh(lost_s + 1.0) == pytest.approx(0.0, abs=1e-9)


def battery_alone(small: Site, *trips_s: float, until_s: float) -> Rig:
    """A battery forms, both sets are locked out: it trips, and is the one that brings the bus back."""
    faults = [trip(g, 20.0) for g in ("gen1", "gen2")]
    faults += [Fault(kind="bess_trips", target="bess1", from_s=t, until_s=t + 5.0) for t in trips_s]
    options = RigOptions(horizon_s=3600.0)
    site = with_breaker(small)
    rig = Rig(site, load_kw=LOAD, pv_kw=200.0, mains=[(AT_S, 3600.0)], faults=faults, options=options)
    return rig.run(until_s)


def test_black_start_by_a_battery_goes_step_by_step(small: Site):
    rig = battery_alone(small, 40.0, until_s=220.0)
    assert_safe(rig)
    at = steps(rig)
    assert at[at.index("dead") :] == ["dead", "starting", "energised", "restoring", "steady"]
    assert rig.last.flows.forming == "bess1"
    assert sum(rig.last.flows.unserved_kw().values()) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("step", "again_s"), [("energised", 110.0), ("restoring", 130.0)])
def test_black_start_by_a_battery_that_trips_again_is_begun_anew(small: Site, step: str, again_s: float):
    rig = battery_alone(small, 40.0, again_s, until_s=again_s + 110.0)
    assert_safe(rig)
    assert rig.first(again_s - 1.0, lambda r: True).decisions.transition == step
    at = steps(rig)
    assert at[at.index(step) + 1] == "dead"
    assert rig.last.flows.forming == "bess1"
    assert rig.last.decisions.transition in CARRIED


def test_black_start_battery_at_its_minimum_is_help_or_none_and_not_by_turns(small: Site):
    """Its charge is read with noise around the minimum, and both sets have tripped: it is told once."""
    faults = [
        Fault(kind="genset_trips", target="gen1", from_s=20.0, until_s=600.0),
        Fault(kind="genset_trips", target="gen2", from_s=20.0, until_s=600.0),
        Fault(kind="bess_trips", target="bess1", from_s=40.0, until_s=600.0),
    ]
    options = RigOptions(horizon_s=3600.0, soc=small.bess[0].battery.soc_min)
    rig = Rig(small, load_kw=LOAD, mains=[(AT_S, 3600.0)], faults=faults, options=options)
    rig.run(600.0, judge=False)
    steps = [r.decisions.transition for r in rig.rows(60.0)]
    assert set(steps) <= {"dead", "starting"}
    assert sum(a != b for a, b in pairwise(steps)) <= 4
    assert rig.raised("black_start.helpless") == 1
