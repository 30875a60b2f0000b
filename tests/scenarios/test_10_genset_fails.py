"""10: a genset fails to start, fails to synchronise, or starts and stalls."""

import pytest

from ems.points import GensetState
from ems.site import Site
from sim.faults import Fault
from sim.rig import Rig, RigOptions
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
    next_s = asked_s(rig, NEXT) - asked_s(rig, FIRST)
    locked_s = rig.after(AT_S, lambda r: "locked_out" in r.decisions.condition.gensets[FIRST].states)
    assert next_s <= min(timeout_s, locked_s) + 2.0
    assert rig.last.decisions.condition.forming == NEXT
    assert not rig.last.decisions.condition.gensets[FIRST].available  # excluded from the next plan


def test_fail_start_then_stall_three_times_is_locked_out(small: Site):
    """The stalls come back until an operator has looked; meanwhile the next set carries the site."""
    rig = run(small, Fault(kind="genset_stalls", target=FIRST), until_s=200.0)
    came_s = rig.first(AT_S, lambda r: r.flows.genset_state[FIRST] is GensetState.RUNNING).t_s
    confirm_s = small.grid.supervision.start_confirm_s
    assert asked_s(rig, NEXT) - came_s <= 2.0 + confirm_s + 2.0  # stall, dead bus confirmed
    assert rig.last.decisions.condition.forming == NEXT
    assert not rig.last.decisions.condition.gensets[FIRST].available
