"""6: black start, with a fault at each step: every step ends in a defined, safe state."""

from collections.abc import Mapping

import pytest

from ems.points import GensetState
from ems.site import GridMode, Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from tests.scenarios.poi import following_only, with_breaker

pytestmark = pytest.mark.scenario(6)
AT_S = 30.0
LOAD: Mapping[str, float] = {"critical": 100.0, "essential": 80.0, "deferrable": 40.0}
CARRIED = ("energised", "restoring", "steady")


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


def test_black_start_without_fault_goes_step_by_step(small: Site):
    rig = black_start(small)
    assert_safe(rig)
    assert steps(rig)[:5] == ["dead", "starting", "energised", "restoring", "steady"]
    assert rig.last.decisions.condition.forming in ("gen1", "gen2")
    assert sum(rig.last.flows.unserved_kw().values()) == pytest.approx(0.0, abs=1e-6)


def test_black_start_set_that_does_not_start_is_followed_by_the_next(small: Site):
    rig = black_start(small, no_start("gen1"), no_start("gen2", until_s=0.0))
    assert_safe(rig)
    assert rig.last.decisions.condition.forming == "gen2"
    assert rig.last.decisions.transition in CARRIED


@pytest.mark.parametrize("step", ["energised", "restoring"])
def test_black_start_set_that_trips_later_is_begun_anew(small: Site, step: str):
    calm = black_start(small, until_s=200.0)
    first = calm.first(AT_S, lambda r: r.decisions.transition == step)
    genset = calm.first(first.t_s + 3.0, lambda r: True).decisions.condition.forming
    assert genset is not None
    rig = black_start(small, trip(genset, first.t_s + 3.0))
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
