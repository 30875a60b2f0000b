"""10: a genset fails to start, fails to synchronise, or starts and stalls."""

from dataclasses import replace

import pytest

from dispatch.vocabulary import Decisions
from ems.condition import UnitState
from ems.points import GensetState
from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions
from sim.rig_planner import turns_of
from tests.scenarios.poi import following_only

pytestmark = pytest.mark.scenario(10)
AT_S = 30.0
FIRST, NEXT = "gen2", "gen1"  # the smallest that carries the critical load comes first
LOAD = {"critical": 100.0, "essential": 60.0, "deferrable": 20.0}


def run(small: Site, *faults: Fault, until_s: float = 400.0, synchronising: bool = False) -> Rig:
    site = following_only(small)
    rig = Rig(site, load_kw=LOAD, mains=[(AT_S, 7200.0)], faults=faults, options=RigOptions())
    if synchronising:
        asked_s = AT_S + small.grid.supervision.start_confirm_s + 5.0
        code = float(GensetState.SYNCHRONISING.code)
        rig.at(asked_s, lambda r: r.tell(f"{FIRST}.state", code))
    return rig.run(until_s)


def asked_s(rig: Rig, genset: str) -> float:
    return rig.first(AT_S, lambda r: r.wrote(f"{genset}.run_request") == 1.0).t_s


@pytest.mark.parametrize("synchronising", [False, True], ids=["fails to start", "fails to synchronise"])
def test_fail_next_in_priority_is_asked_after_the_time_out(small: Site, synchronising: bool):
    rig = run(small, Fault(kind="genset_start_fails", target=FIRST), synchronising=synchronising)
    timeout_s = next(g.overdue_s for g in small.gensets if g.id == FIRST)
    assert timeout_s == 40.0 + 30.0  # the sequence, and 30 s
    overdue_s = asked_s(rig, FIRST) + timeout_s
    locked_s = AT_S + rig.after(AT_S, lambda r: "locked_out" in r.decisions.condition.gensets[FIRST].states)
    given_up_s = min(overdue_s, locked_s)  # its own controller may say so before
    assert 0.0 <= asked_s(rig, NEXT) - given_up_s <= 2.0
    assert rig.last.decisions.condition.forming == NEXT


def test_fail_start_then_stall_next_is_asked_once_the_dead_bus_is_confirmed(small: Site):
    """The stall locks it out until somebody has looked; meanwhile the next set carries the site."""
    rig = run(small, Fault(kind="genset_stalls", target=FIRST), until_s=200.0)
    came_s = rig.first(AT_S, lambda r: r.flows.genset_state[FIRST] is GensetState.RUNNING).t_s
    stalled_s = came_s + rig.after(came_s, lambda r: r.flows.genset_state[FIRST] is GensetState.LOCKED_OUT)
    confirm_s = small.grid.supervision.start_confirm_s
    assert asked_s(rig, NEXT) - stalled_s <= 2.0 + confirm_s
    assert rig.last.decisions.condition.forming == NEXT
    assert rig.held(lambda r: r.held[f"{FIRST}.run_request"] == 0.0, stalled_s + 2.0)


def planned_hours(rig: Rig, decisions: Decisions) -> dict[str, float]:
    """How long each set is on load in the next plan made from `decisions` [steps]."""
    turns = turns_of(rig.scenario, ())
    turns.turn(rig.t_s, decisions, rig.plans)
    assert turns.pending is not None
    return {g: sum(on) for g, on in turns.pending[1].genset_on.items()}


def test_fail_set_is_left_out_of_the_next_plan(small: Site):
    """Of the same plant with the set repaired a plan is made that uses it."""
    rig = run(small, Fault(kind="genset_stalls", target=FIRST), until_s=200.0)
    now = rig.last.decisions
    sets = {g: replace(c, available=True) for g, c in now.condition.gensets.items()}
    repaired = replace(now, condition=replace(now.condition, gensets=sets))
    assert planned_hours(rig, repaired)[FIRST] > 0.0
    left_out = planned_hours(rig, now)
    assert left_out[FIRST] == 0.0
    assert left_out[NEXT] > 0.0


def test_fail_three_times_is_locked_out_at_the_third(small: Site):
    """Nobody else is left; the set is stopped at its panel whenever it is asked, which is a failed start."""
    sets = tuple(replace(g, start_attempts=1, mains_failure_start=False) for g in small.gensets)
    faults = (
        Fault(kind="genset_stopped_at_panel", target=FIRST),
        Fault(kind="genset_trips", target=NEXT, from_s=10.0, until_s=20.0),
    )
    site = following_only(replace(small, gensets=sets))
    rig = Rig(site, load_kw=LOAD, dt_s=2.0, mains=[(AT_S, 7200.0)], faults=faults, options=RigOptions())
    rig.run(2300.0)
    tries = [e for e in rig.events("genset.start.requested") if e["genset"] == FIRST]
    assert len(tries) == 3
    assert len([e for e in rig.events("genset.start.late") if e["genset"] == FIRST]) == 3
    failed_s = [r.t_s for r in rig.rows() if "genset.start.late" in {e.kind for e in r.decisions.events}]

    def needs_reset(t_s: float) -> bool:
        states = rig.first(t_s, lambda r: True).decisions.condition.gensets[FIRST].states
        return UnitState.RESET_NEEDED in states

    assert [needs_reset(t_s + 2.0 * rig.dt_s) for t_s in failed_s] == [False, False, True]
    assert rig.held(lambda r: r.held[f"{FIRST}.run_request"] == 0.0, failed_s[-1] + rig.dt_s)
    assert not rig.last.decisions.condition.gensets[FIRST].available
    assert rig.last.t_s - failed_s[-1] > 700.0  # it was asked again so long after each of the others
