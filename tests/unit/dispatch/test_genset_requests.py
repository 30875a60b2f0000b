"""Minimum times, failed starts, and the truth at the set."""

from dataclasses import replace

import pytest

from dispatch.layout import layout_of
from dispatch.observing.availability import genset_states
from dispatch.state import GensetRequest, GensetSeen, Written
from dispatch.transitions.genset_requests import LEAVE_ALONE_S, not_taken, reconcile, resolve
from dispatch.vocabulary import Target
from ems.assets import QuietHours, StartsFor
from ems.commands import Cause
from ems.condition import GensetCondition, UnitState
from ems.points import GensetState
from ems.telemetry import Snapshot
from tests.builders import T0, site
from tests.unit.dispatch.test_plan_choice import condition

LAYOUT = layout_of(site())
S = GensetState
NOTHING = Snapshot(at=T0, monotonic_s=0.0, readings={})


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
    assert not events


def test_reconcile_set_that_started_by_itself_is_adopted():
    request, events = turn(OFF, STOOD, S.CRANKING, 5.0)
    assert request.run
    assert events == ["genset.started_by_itself"]


@pytest.mark.parametrize(("after_s", "adopted"), [(9.0, False), (10.0, True)])
def test_reconcile_set_that_comes_on_load_long_after_its_stop_was_asked_is_adopted(after_s, adopted):
    """Its device refused the stop: from here on its minimum up time counts, as for one nobody asked."""
    request, events = turn(OFF, GensetSeen(state=S.SYNCHRONISING), S.RUNNING, after_s)
    assert request.run is adopted
    assert events == ["genset.started_by_itself"] * adopted


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


def test_reconcile_overdue_set_is_still_asked_but_no_longer_waited_for():
    gen1 = site().gensets[0]
    request, events = turn(ON, GensetSeen(state=S.CRANKING), S.CRANKING, gen1.overdue_s)
    assert (request.run, request.overdue, events) == (True, True, ["genset.start.overdue"])
    assert UnitState.START_FAILED in genset_states(LAYOUT, NOTHING, "gen1", S.CRANKING, request)
    request, events = turn(request, GensetSeen(state=S.SYNCHRONISING), S.RUNNING, 100.0)
    assert (request.run, request.overdue, events) == (True, False, ["genset.start.came_late"])


def test_reconcile_third_failed_start_in_a_row_needs_an_operator():
    request, came = ON, GensetSeen(state=S.RUNNING, on_load=True, on_load_since_s=20.0)
    for n in (1, 2, 3):
        request, events = turn(replace(request, run=True, late=False), came, S.COOLING_DOWN, 30.0)
        assert (request.failures, events) == (n, ["genset.start.stalled"])
    assert request.reset_why == "3 starts failed"
    assert UnitState.RESET_NEEDED in genset_states(LAYOUT, NOTHING, "gen1", S.STOPPED, request)
    seen = {g: GensetSeen(state=S.STOPPED) for g in LAYOUT.gensets}
    requests = {"gen1": request, "gen2": OFF}
    out, told = reconcile(LAYOUT, requests, seen, seen, 40.0, {"gen1.run_request"})
    assert (out["gen1"].reset_why, out["gen1"].failures, out["gen1"].late) == (None, 0, False)
    assert [e.kind for e in told] == ["genset.reset"]


def test_reconcile_engine_that_stands_without_cooling_down_has_tripped():
    long_ago = GensetSeen(state=S.RUNNING, on_load=True, on_load_since_s=-1e6)
    request, events = turn(ON, long_ago, S.STOPPED, 50.0)
    assert (request.run, request.reset_why, events) == (False, "it tripped", ["genset.tripped"])


QUIET = QuietHours(start_h=22.0, end_h=6.0, cost_per_h=10.0)


@pytest.mark.parametrize(
    ("starts_for", "cause", "critical", "expected"),
    [
        (StartsFor.CRITICAL_LOAD, Cause.RULES, False, False),
        (StartsFor.CRITICAL_LOAD, Cause.PROTECTION, False, False),
        (StartsFor.CRITICAL_LOAD, Cause.PROTECTION, True, True),
        (StartsFor.CRITICAL_LOAD, Cause.PLAN, False, True),  # it has paid the price
        (StartsFor.CRITICAL_LOAD, Cause.OPERATOR, False, True),
        (StartsFor.NOTHING, Cause.PROTECTION, True, False),
        (StartsFor.ANYTHING, Cause.RULES, False, True),
    ],
)
def test_resolve_quiet_hours_hold_off_rules_and_protections(starts_for, cause, critical, expected):
    quiet = replace(QUIET, starts_for=starts_for)
    plant = site()
    sets = tuple(replace(g, quiet=(quiet,)) for g in plant.gensets)
    layout = layout_of(replace(plant, gensets=sets))
    night = T0.replace(hour=23)
    assert QUIET.holds(night.astimezone(layout.zone))
    requests = {g: GensetRequest(run=False, since_s=-1e6) for g in layout.gensets}
    after, _, _ = resolve(layout, requests, target(True, cause), condition(night), 0.0, critical)
    assert after["gen1"].run is expected


@pytest.mark.parametrize(
    ("cause", "asked_s", "critical", "expected"),
    [
        (Cause.PROTECTION, -10.0, False, False),
        (Cause.PROTECTION, -10.0, True, True),
        (Cause.PROTECTION, -3700.0, False, True),
        (Cause.PLAN, -10.0, False, False),
        (Cause.PLAN, -10.0, True, True),
        (Cause.OPERATOR, -10.0, False, True),
    ],
)
def test_resolve_starts_of_the_last_hour_are_limited(cause, asked_s, critical, expected):
    plant = site()
    layout = layout_of(replace(plant, gensets=tuple(replace(g, starts_per_h_max=1) for g in plant.gensets)))
    requests = {g: GensetRequest(run=False, since_s=-1e6, starts_s=(asked_s,)) for g in layout.gensets}
    after, _, _ = resolve(layout, requests, target(True, cause), condition(T0), 0.0, critical)
    assert after["gen1"].run is expected


def taken(
    run: bool, w: Written | None, *, on_load: bool, age_s: float, state: GensetState, asked_s: float = -100.0
) -> bool:
    """Whether gen1, doing this, counts as having heard of what it was asked `asked_s` ago."""
    c = GensetCondition(
        available=True, on_load=on_load, starting=False, ready_in_s=0.0, age_s=age_s, p_kw=0.0, fuel_l=None,
        starts_today=0,
    )  # fmt: skip
    other = Written(value=0.0, at_s=0.0, known=True)
    requests = {"gen1": GensetRequest(run=run, since_s=asked_s), "gen2": OFF}
    written = {"gen2.run_request": other} if w is None else {"gen1.run_request": w, "gen2.run_request": other}
    plant = condition(T0, gensets={"gen1": c, "gen2": replace(c, on_load=False, age_s=1e6)})
    states = {"gen1": state, "gen2": S.STOPPED}
    found = not_taken(LAYOUT, requests, states, written, plant, 0.0)
    assert found <= {"gen1"}
    return not found


HELD_RUN, HELD_STOP = (Written(value=v, at_s=-500.0, known=True) for v in (1.0, 0.0))
REFUSED_STOP = Written(value=0.0, at_s=-2.0, known=False, wanted=0.0, tries=9)
REFUSED_RUN = Written(value=1.0, at_s=-2.0, known=False, wanted=1.0, tries=9)


@pytest.mark.parametrize(
    ("w", "age_s", "asked_s", "expected"),
    [
        (HELD_RUN, 500.0, -100.0, False),  # people had it in manual: nothing was written
        (None, 500.0, -100.0, False),  # it was in local
        (REFUSED_STOP, 500.0, -100.0, False),
        (HELD_STOP, 500.0, -100.0, True),  # it unloads
        (HELD_RUN, 500.0, -1.0, False),  # it would have been written at once
        (REFUSED_STOP, 500.0, -9.0, True),  # it may be answered yet
        (HELD_RUN, 1900.0, -100.0, True),  # its minimum up time is over: nothing to be held off
    ],
)
def test_not_taken_stop_that_was_never_carried_out(w, age_s, asked_s, expected):
    assert taken(False, w, on_load=True, age_s=age_s, state=S.RUNNING, asked_s=asked_s) is expected


@pytest.mark.parametrize(
    ("w", "age_s", "state", "expected"),
    [
        (HELD_STOP, 500.0, S.STOPPED, False),
        (None, 500.0, S.COOLING_DOWN, False),
        (REFUSED_RUN, 500.0, S.STOPPED, False),
        (HELD_RUN, 500.0, S.STOPPED, True),
        (HELD_STOP, 500.0, S.CRANKING, True),  # it comes by itself
        (HELD_STOP, 1000.0, S.STOPPED, True),  # its minimum down time is over
    ],
)
def test_not_taken_start_that_was_never_carried_out(w, age_s, state, expected):
    assert taken(True, w, on_load=False, age_s=age_s, state=state) is expected


@pytest.mark.parametrize("run", [True, False])
@pytest.mark.parametrize(
    ("cause", "followed"), [(Cause.PLAN, False), (None, False), (Cause.PROTECTION, True)]
)
def test_resolve_request_that_was_not_taken_frees_nobody_else_from_the_minimum_time(run, cause, followed):
    c = GensetCondition(
        available=True, on_load=not run, starting=False, ready_in_s=0.0, age_s=500.0, p_kw=0.0, fuel_l=None,
        starts_today=0,
    )  # fmt: skip
    requests = {g: GensetRequest(run=run and g == "gen1", since_s=-100.0) for g in LAYOUT.gensets}
    plant = condition(T0, gensets={"gen1": c, "gen2": replace(c, on_load=False)})
    wanted = {} if cause is None else target(run, cause)
    after, targets, events = resolve(LAYOUT, requests, wanted, plant, 0.0, untaken={"gen1"})
    assert after["gen1"].run is (run if followed else not run)
    assert (targets["gen1"].value >= 0.5) is after["gen1"].run
    assert [e.kind for e in events] == ([] if followed else ["genset.request.not_taken"])
