"""Minimum times, failed starts, and the truth at the set."""

import pytest

from dispatch.genset_requests import LEAVE_ALONE_S, reconcile, resolve
from dispatch.layout import layout_of
from dispatch.state import GensetRequest, GensetSeen
from dispatch.vocabulary import Target
from ems.commands import Cause
from ems.condition import GensetCondition
from ems.points import GensetState
from tests.builders import T0, site
from tests.unit.dispatch.test_plan_choice import condition

LAYOUT = layout_of(site())
S = GensetState


def target(run: bool, cause: Cause = Cause.RULES) -> dict[str, Target]:
    return {"gen1": Target(value=float(run), cause=cause, reason="test")}


def asked(
    run: bool, wish: bool, cause: Cause, *, on_load: bool, age_s: float, available: bool = True
) -> bool:
    c = GensetCondition(
        available=available, on_load=on_load, starting=False, ready_in_s=0.0, age_s=age_s, p_kw=0.0,
        fuel_l=None, starts_today=0,
    )  # fmt: skip
    requests = {g: GensetRequest(run=run and g == "gen1", since_s=-1e6) for g in LAYOUT.gensets}
    plant = condition(T0, gensets={"gen1": c, "gen2": c})
    after, targets, _ = resolve(LAYOUT, requests, target(wish, cause), plant, 0.0)
    assert (targets["gen1"].value >= 0.5) == after["gen1"].run
    return after["gen1"].run


@pytest.mark.parametrize(
    ("run", "wish", "cause", "on_load", "age_s", "expected"),
    [
        (False, True, Cause.PLAN, False, 1000.0, True),
        (False, True, Cause.PLAN, False, 300.0, False),  # minimum down time 900 s
        (False, True, Cause.PROTECTION, False, 300.0, True),  # protection does not wait
        (True, False, Cause.RULES, True, 600.0, True),  # minimum up time 1800 s
        (True, False, Cause.RULES, True, 1900.0, False),
        (True, False, Cause.PROTECTION, True, 600.0, False),
    ],
)
def test_resolve_minimum_times(run, wish, cause, on_load, age_s, expected):
    assert asked(run, wish, cause, on_load=on_load, age_s=age_s) is expected


def test_resolve_unavailable_set_is_not_asked_even_by_protection():
    assert not asked(False, True, Cause.PROTECTION, on_load=False, age_s=1e9, available=False)


def turn(request: GensetRequest | None, before: GensetSeen | None, now: GensetState | None, now_s: float):
    seen = {g: GensetSeen(state=S.STOPPED) for g in LAYOUT.gensets}
    earlier = dict(seen)
    seen["gen1"] = GensetSeen(state=now, on_load=now is S.RUNNING)
    if before is None:
        del earlier["gen1"]
    else:
        earlier["gen1"] = before
    requests = {g: GensetRequest(run=False, since_s=0.0) for g in LAYOUT.gensets}
    if request is None:
        del requests["gen1"]
    else:
        requests["gen1"] = request
    out, events = reconcile(LAYOUT, requests, earlier, seen, now_s)
    return out["gen1"], [e.kind for e in events]


ON, OFF = GensetRequest(run=True, since_s=0.0), GensetRequest(run=False, since_s=0.0)
RAN = GensetSeen(state=S.RUNNING, on_load=True)
STOOD = GensetSeen(state=S.STOPPED)


def test_reconcile_restart_of_the_edge_adopts_a_running_set():
    request, events = turn(None, None, S.RUNNING, 0.0)
    assert request.run
    assert request.adopted
    assert not events


def test_reconcile_set_that_started_by_itself_is_adopted():
    request, events = turn(OFF, STOOD, S.CRANKING, 5.0)
    assert request.run
    assert events == ["genset.started_by_itself"]


def test_reconcile_our_own_stop_is_not_taken_for_a_start():
    request, events = turn(OFF, RAN, S.RUNNING, 5.0)
    assert not request.run
    assert not events


def test_reconcile_set_stopped_at_its_panel_is_left_alone_for_a_while():
    request, events = turn(ON, RAN, S.COOLING_DOWN, 50.0)
    assert not request.run
    assert request.late
    assert events == ["genset.stopped_by_others"]
    request, _ = turn(request, STOOD, S.STOPPED, 50.0 + LEAVE_ALONE_S + 1.0)
    assert not request.late


def test_reconcile_set_that_does_not_come_is_late_after_all_its_attempts():
    attempts_s = 3 * 40.0
    request, _ = turn(ON, GensetSeen(state=S.CRANKING), S.CRANKING, attempts_s)
    assert request.run
    request, events = turn(ON, GensetSeen(state=S.CRANKING), S.CRANKING, 1.5 * attempts_s + 31.0)
    assert not request.run
    assert request.late
    assert events == ["genset.start.late"]


def test_reconcile_locked_out_set_loses_its_request():
    request, events = turn(ON, GensetSeen(state=S.CRANKING), S.LOCKED_OUT, 30.0)
    assert not request.run
    assert events == ["genset.locked_out"]
