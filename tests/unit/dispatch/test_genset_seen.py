"""What a genset is taken to do where its state and its power say two things, and over a restart."""

from datetime import timedelta

import pytest

from connectors.json_codec import dumps, loads
from dispatch.layout import layout_of
from dispatch.observing.asset_conditions import DOUBT_S
from dispatch.observing.condition import observe
from dispatch.restart import remembered, requests_known
from dispatch.state import GensetRequest, ObserverMemory
from dispatch.transitions.genset_requests import reconcile
from ems.condition import PlantCondition, UnitState
from ems.points import GensetState
from tests.builders import T0, site
from tests.unit.dispatch.test_condition import snapshot

LAYOUT = layout_of(site())
S = GensetState
OFF_KW = 5.0  # less than a twentieth of its rating


class Watched:
    """gen1 as the edge sees it, cycle by cycle."""

    def __init__(self, memory: ObserverMemory | None = None, at_s: float = 0.0) -> None:
        self.memory = ObserverMemory() if memory is None else memory
        self.requests: dict[str, GensetRequest] = {}
        self.kinds: list[str] = []
        self.s = at_s

    def see(self, state: S, p_kw: float | None, after_s: float = 1.0) -> PlantCondition:
        self.s += after_s
        seen = snapshot(
            T0 + timedelta(seconds=self.s), self.s, gen1__state=float(state.code), gen1__p_kw=p_kw
        )
        before = self.memory.gensets
        self.memory, observed = observe(LAYOUT, self.memory, seen, self.requests, 1.0)
        self.requests, events = reconcile(LAYOUT, self.requests, before, self.memory.gensets, self.s)
        self.kinds += [e.kind for e in events if e.fields["genset"] == "gen1"]
        return observed.condition

    def running(self) -> "Watched":
        self.see(S.RUNNING, 100.0)
        self.see(S.RUNNING, 100.0)
        return self


@pytest.mark.parametrize("wrong", [S.STOPPED, S.COOLING_DOWN, S.LOCKED_OUT])
def test_single_wrong_state_of_a_set_that_gives_power_is_no_trip(wrong):
    w = Watched().running()
    doubted = w.see(wrong, 100.0).gensets["gen1"]
    assert (doubted.on_load, UnitState.SUSPECT in doubted.states) == (True, True)
    c = w.see(S.RUNNING, 100.0).gensets["gen1"]
    assert (c.on_load, c.states) == (True, ())
    assert c.age_s > 1e8
    assert (w.requests["gen1"].run, w.requests["gen1"].reset_why, w.kinds) == (True, None, [])


@pytest.mark.parametrize("p_kw", [OFF_KW, 0.0, None])
def test_state_is_believed_at_once_where_the_power_agrees_or_is_not_read(p_kw):
    w = Watched().running()
    assert not w.see(S.STOPPED, p_kw).gensets["gen1"].on_load
    assert w.kinds == ["genset.tripped"]
    assert not w.requests["gen1"].run


def test_set_that_tells_two_things_for_long_counts_for_nothing_and_is_not_stopped_for_it():
    """Its state stays at stopped and its power at 100 kW: which of the two stands still nobody knows."""
    w = Watched().running()
    on = [w.see(S.STOPPED, 100.0).gensets["gen1"] for _ in range(int(DOUBT_S) + 300)]
    assert [c.on_load for c in on[: int(DOUBT_S) + 2]] == [True] * int(DOUBT_S) + [False] * 2
    assert all(UnitState.SUSPECT in c.states for c in on)
    assert w.requests["gen1"].run
    assert w.kinds == []
    assert w.see(S.RUNNING, 100.0).gensets["gen1"].on_load
    again = Watched()  # an edge that starts and finds it so
    again.see(S.STOPPED, 100.0)
    assert again.requests["gen1"].run


def restarted(condition: PlantCondition, gone_s: float, at_s: float = 50.0) -> Watched:
    """Another edge, on another monotonic clock, some time later."""
    now = condition.at + timedelta(seconds=gone_s)
    known = loads(PlantCondition, dumps(condition))
    w = Watched(remembered(LAYOUT, known, now, at_s), at_s)
    w.requests = requests_known(known, now, at_s)
    return w


def test_restart_keeps_what_failed_who_must_look_and_the_starts_of_the_hour():
    w = Watched().running()
    past = GensetRequest(run=True, since_s=-900.0, failures=2, reset_why="it tripped", starts_s=(-900.0, 1.0))
    w.requests["gen1"] = past
    c = w.see(S.RUNNING, 100.0)
    assert UnitState.RESET_NEEDED in c.gensets["gen1"].states
    after = restarted(c, 20.0)
    found = after.see(S.STOPPED, 0.0).gensets["gen1"]
    r = after.requests["gen1"]
    assert (r.run, r.failures, r.reset_why) == (False, 2, "it tripped")
    assert [50.0 - s for s in r.starts_s] == pytest.approx([3.0 + 900.0 + 20.0, 2.0 + 20.0])
    assert UnitState.RESET_NEEDED in found.states
    assert after.kinds == []


def test_restart_keeps_how_long_a_set_is_on_load_and_counts_anew_where_it_changed():
    w = Watched()
    w.see(S.STOPPED, 0.0)
    w.see(S.RUNNING, 100.0)
    c = w.see(S.RUNNING, 100.0, after_s=16.0)
    assert (c.gensets["gen1"].age_s, c.gensets["gen1"].starts_today) == (16.0, 1)
    same = restarted(c, 20.0).see(S.RUNNING, 100.0).gensets["gen1"]
    assert (round(same.age_s, 6), same.starts_today) == (37.0, 1)
    other = restarted(c, 20.0).see(S.STOPPED, 0.0).gensets["gen1"]
    assert (other.age_s, other.on_load) == (0.0, False)
    tomorrow = restarted(c, 86400.0).see(S.RUNNING, 100.0).gensets["gen1"]
    assert tomorrow.starts_today == 0


def test_first_start_of_all_knows_nothing():
    assert remembered(LAYOUT, None, T0, 0.0) == ObserverMemory()
    assert requests_known(None, T0, 0.0) == {}
