"""Nothing is done by the clock while nobody knows what time it is: each user of the calendar, one by one."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dispatch.controllers.outage_reserve import to_reserve_for
from dispatch.controllers.rules import Rules
from dispatch.controllers.rules_tou import RulesTou
from dispatch.cycle import EdgeSetup
from dispatch.layout import layout_of
from dispatch.observing.availability import genset_states
from dispatch.observing.utc import AWAY, NEAR, UtcMemory, doubt_of, going_on_from, record_time
from dispatch.protections.poi import in_force
from dispatch.runtime import EdgeRuntime
from dispatch.state import EdgeState, GensetRequest
from dispatch.supervision.mind import Mind
from dispatch.transitions.genset_requests import resolve
from dispatch.transitions.stage import dwell_s
from dispatch.vocabulary import Decisions, Target, TickInput
from ems.assets import BurnOff, Exercise, LowLoad, QuietHours, StartsFor
from ems.commands import Cause
from ems.condition import GensetDuty, PlantCondition, UnitState
from ems.outage import OutageNotice
from ems.poi import CapWindow, FlappingPolicy
from ems.points import GensetState
from ems.site import GridMode, Maintenance, Site
from ems.tariff import LocalWindow
from ems.telemetry import UNKNOWN, Doubt, Snapshot, UtcState
from plant_models.plant import initial_state
from tests.builders import site
from tests.scenarios.poi import with_breaker
from tests.unit.connectors.inputs_here import params
from tests.unit.dispatch.loop import Loop
from tests.unit.dispatch.test_runtime import Bench, NoPlans

NOON = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)  # in Nairobi
DEAR = datetime(2026, 3, 2, 16, 0, tzinfo=UTC)  # 19 h there
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
EVERY_DAY, ALL_YEAR = frozenset(range(8)), frozenset(range(1, 13))
ALL_DAY = QuietHours(start_h=0.0, end_h=24.0, cost_per_h=1.0, starts_for=StartsFor.CRITICAL_LOAD)


def shot(utc: UtcState, doubt: Doubt = UNKNOWN, at: datetime = NOON) -> Snapshot:
    return Snapshot(at=at, monotonic_s=100.0, readings={}, utc=utc, doubt=doubt)


def told(start: timedelta, end: timedelta) -> OutageNotice:
    return OutageNotice(id="o1", issued_at=NOON - DAY, start=NOON + start, end=NOON + end)


# --- what time it may be ---


@pytest.mark.parametrize("utc", UtcState)
def test_calendar_is_none_exactly_where_time_is_invalid(utc: UtcState):
    assert (shot(utc).calendar is None) is (utc is UtcState.INVALID)
    assert shot(utc).may_be(NOON - HOUR, NOON + HOUR)
    assert shot(utc).may_be(NOON + HOUR, NOON + DAY) is (utc is UtcState.INVALID)


@pytest.mark.parametrize(
    ("start", "end", "may_be"),
    [(-3, -2, False), (-3, -1, False), (-3, -0.5, True), (-1, 1, True), (1, 2, True), (1.1, 2, False)],
)
def test_doubt_window_may_be_now_unless_it_is_over_or_to_come_for_sure(start, end, may_be):
    doubt = Doubt(earliest=NOON - DAY, latest=NOON + DAY)
    assert doubt.may_be(NOON + start * DAY, NOON + end * DAY) is may_be
    assert UNKNOWN.may_be(NOON + start * DAY, NOON + end * DAY)


def remembered(*walls: tuple[float, datetime, bool | None], memory: UtcMemory | None = None) -> Doubt:
    memory, at = UtcMemory() if memory is None else memory, NOON
    for now_s, wall, synchronised in walls:
        memory, at, _ = record_time(memory, wall, now_s, synchronised)
    return doubt_of(memory, walls[-1][1], at)


def test_doubt_after_a_step_is_between_both_times_and_a_day_around():
    second = timedelta(seconds=1)
    ahead = remembered((0.0, NOON, None), (1.0, NOON + 3 * DAY + second, None))
    assert ahead == Doubt(earliest=NOON + second - NEAR, latest=NOON + 3 * DAY + second + NEAR)
    never = remembered((0.0, NOON, None), (1.0, datetime(1970, 1, 1, tzinfo=UTC), None))
    assert never == Doubt(earliest=NOON + second - NEAR, latest=NOON + second + NEAR), "1970 says nothing"


def test_doubt_of_a_clock_that_nobody_ever_vouched_for_is_everything():
    assert remembered((0.0, NOON, False)) == UNKNOWN


def test_doubt_after_a_restart_begins_at_the_last_time_that_was_right():
    memory = UtcMemory(relied_at=NOON - 3 * DAY)
    assert remembered((0.0, NOON, False), memory=memory) == Doubt(
        earliest=NOON - 3 * DAY - NEAR, latest=NOON + AWAY
    )
    back = remembered((0.0, NOON - 30 * DAY, False), memory=memory)
    assert back == Doubt(earliest=NOON - 3 * DAY - NEAR, latest=NOON - 3 * DAY + AWAY)


@pytest.mark.parametrize(("utc", "expected"), [("valid", NOON), ("holdover", NOON), ("invalid", NOON - DAY)])
def test_going_on_last_time_that_was_right_outlives_each_restart(utc: str, expected: datetime):
    condition = Loop(Rules()).run(2.0).condition
    known = replace(condition, at=NOON, utc=UtcState(utc), relied_at=NOON - DAY)
    assert going_on_from(known).relied_at == expected
    assert going_on_from(None) == UtcMemory()


# --- caps at the POI ---


def cap(**changes: Any) -> CapWindow:
    return replace(CapWindow(p_import_kw_max=60.0, p_export_kw_max=None), **changes)


NIGHT = LocalWindow(start_h=1.0, end_h=3.0, weekdays=EVERY_DAY, months=ALL_YEAR)
OVER = {"start": NOON - 9 * DAY, "end": NOON - 8 * DAY}


@pytest.mark.parametrize(
    ("window", "doubt", "valid", "invalid"),
    [
        (cap(local=NIGHT), UNKNOWN, False, True),
        (cap(local=replace(NIGHT, end_h=24.0)), UNKNOWN, True, True),
        (cap(**OVER), UNKNOWN, False, True),
        (cap(**OVER), Doubt(earliest=NOON - DAY, latest=NOON + DAY), False, False),
    ],
    ids=["hours of the night", "hours of now", "once, nobody knows", "once, over for sure"],
)
def test_caps_in_time_hold_where_they_may(window: CapWindow, doubt: Doubt, valid: bool, invalid: bool):
    layout = layout_of(site())
    assert in_force(layout, shot(UtcState.VALID), window) is valid
    assert in_force(layout, shot(UtcState.HOLDOVER), window) is valid
    assert in_force(layout, shot(UtcState.INVALID, doubt), window) is invalid


def test_caps_in_time_the_tightest_of_each_direction_holds():
    windows = (cap(local=NIGHT), cap(p_import_kw_max=None, p_export_kw_max=0.0, local=NIGHT))
    capped = replace(site(), grid=replace(site().grid, caps=windows))
    loop = Loop(Rules(), plant_site=capped, start=NOON, soc=0.3)  # rules charge from the grid
    loop.world.pv_kw = {"pv1": 0.0}
    loop.run(60.0)
    assert loop.flows is not None
    assert loop.flows.grid_p_kw > 100.0
    loop.utc = UtcState.INVALID
    loop.run(60.0)
    assert loop.flows.grid_p_kw <= 61.0


# --- maintenance ---

NEXT_WEEK = Maintenance(asset="gen1", start=NOON + 7 * DAY, end=NOON + 8 * DAY)
LAST_WEEK = Maintenance(asset="gen1", start=NOON - 8 * DAY, end=NOON - 7 * DAY)
AROUND = Doubt(earliest=NOON - DAY, latest=NOON + DAY)


@pytest.mark.parametrize("window", [NEXT_WEEK, LAST_WEEK])
@pytest.mark.parametrize(
    ("utc", "doubt", "stands", "held"),
    [
        (UtcState.VALID, UNKNOWN, True, False),
        (UtcState.HOLDOVER, UNKNOWN, True, False),
        (UtcState.INVALID, UNKNOWN, True, True),
        (UtcState.INVALID, AROUND, True, False),
        (UtcState.INVALID, UNKNOWN, False, False),
    ],
)
def test_maintenance_window_that_may_be_now_keeps_a_set_that_stands(window, utc, doubt, stands, held):
    layout = layout_of(replace(site(), maintenance=(window,)))
    states = {
        g: genset_states(layout, shot(utc, doubt), g, GensetState.STOPPED, None, stands=stands)
        for g in layout.gensets
    }
    assert (UnitState.MAINTENANCE in states["gen1"]) is held
    assert UnitState.MAINTENANCE not in states["gen2"]


def test_maintenance_of_now_holds_for_a_set_that_runs_where_it_is_known_to_be_now():
    now = Maintenance(asset="gen1", start=NOON - HOUR, end=NOON + HOUR)
    layout = layout_of(replace(site(), maintenance=(now,)))
    for utc, held in ((UtcState.VALID, True), (UtcState.INVALID, False)):
        states = genset_states(layout, shot(utc, AROUND), "gen1", GensetState.RUNNING, None, stands=False)
        assert (UnitState.MAINTENANCE in states) is held


def running(loop: Loop) -> list[str]:
    assert loop.flows is not None
    return [g for g, s in loop.flows.genset_state.items() if s is GensetState.RUNNING]


def test_maintenance_island_on_a_set_keeps_it_when_time_is_lost_and_starts_no_other():
    windows = tuple(Maintenance(asset=g, start=NOON + DAY, end=NOON + 2 * DAY) for g in ("gen1", "gen2"))
    loop = Loop(Rules(), plant_site=replace(site(), maintenance=windows), start=NOON)
    loop.plant = initial_state(loop.site, 0.2, islanded_by="bess1")
    loop.world.mains = False
    loop.world.demand_kw.update(critical=60.0, essential=0.0, deferrable=0.0)
    loop.run(120.0)
    assert running(loop) == ["gen2"]
    loop.utc = UtcState.INVALID
    loop.world.demand_kw.update(critical=250.0, essential=400.0)
    decisions = loop.run(120.0)
    assert running(loop) == ["gen2"]
    (text,) = [a.text for a in decisions.alarms if a.code == "utc.lost"]
    assert "gen1 not started for a maintenance window that may be now" in text


# --- starts of gensets ---


@pytest.mark.parametrize("cause", [Cause.RULES, Cause.PROTECTION])
@pytest.mark.parametrize(("utc", "held"), [("valid", True), ("holdover", True), ("invalid", False)])
def test_quiet_hours_hold_off_no_start_that_load_asks_for_where_the_hour_is_not_known(cause, utc, held):
    quiet = replace(site(), gensets=tuple(replace(g, quiet=(ALL_DAY,)) for g in site().gensets))
    loop = Loop(Rules(), plant_site=quiet, start=NOON)
    condition = replace(loop.run(2.0).condition, utc=UtcState(utc))
    requests = {g.id: GensetRequest(run=False, since_s=-1e6) for g in quiet.gensets}
    wish = {"gen1": Target(value=1.0, cause=cause, reason="load")}
    _, targets, _ = resolve(loop.setup.layout, requests, wish, condition, 1e6)
    assert (targets["gen1"].value < 0.5) is held


EXERCISE = Exercise(every_h=24.0, for_h=0.1, load_ratio=0.5, start_h=0.0, end_h=24.0)
DUE = GensetDuty(exercised_at=NOON - 3 * DAY)


def with_gen1(**changes: Any) -> Site:
    sets = (replace(site().gensets[0], **changes), site().gensets[1])
    return replace(site(), gensets=sets)


def due(loop: Loop, duty: GensetDuty) -> None:
    """The set was long off, and what it has been through is as said."""
    loop.run(2.0)
    loop.edge = replace(loop.edge, observer=replace(loop.edge.observer, duty={"gen1": duty}))


def started(loop: Loop) -> bool:
    return any(e.get("genset") == "gen1" for e in loop.events("genset.start.requested"))


@pytest.mark.parametrize(("utc", "begins"), [("valid", True), ("invalid", False)])
def test_exercise_run_does_not_begin_without_valid_time(utc: str, begins: bool):
    loop = Loop(Rules(), plant_site=with_gen1(exercise=EXERCISE), start=NOON)
    loop.world.demand_kw.update(critical=120.0, essential=160.0)
    due(loop, DUE)
    loop.utc = UtcState(utc)
    loop.run(4000.0, dt_s=20.0)
    assert started(loop) is begins


def test_exercise_run_that_has_its_load_goes_on_to_its_end_without_valid_time():
    loop = Loop(Rules(), plant_site=with_gen1(exercise=EXERCISE, min_up_s=30.0), start=NOON)
    loop.world.demand_kw.update(critical=120.0, essential=160.0)
    due(loop, DUE)
    while loop.flows is None or loop.flows.genset_p_kw["gen1"] < 200.0:
        loop.run(5.0)
    loop.run(20.0)
    loop.utc, began_s = UtcState.INVALID, loop.t
    loop.run(300.0, dt_s=5.0)
    assert loop.flows.genset_p_kw["gen1"] >= 200.0
    loop.run(300.0, dt_s=5.0)
    assert loop.t - began_s < 2.0 * EXERCISE.for_h * 3600.0
    assert loop.flows.genset_state["gen1"] is not GensetState.RUNNING


HOT = LowLoad(below_ratio=0.3, burn_off=BurnOff(after_h=1.0, for_h=0.1, above_ratio=0.5))


@pytest.mark.parametrize(
    ("utc", "quiet", "begins"),
    [("valid", False, True), ("invalid", False, True), ("invalid", True, False)],
)
def test_hot_run_beside_the_grid_waits_where_it_may_be_a_quiet_hour(utc: str, quiet: bool, begins: bool):
    night = replace(ALL_DAY, start_h=1.0, end_h=2.0)
    loop = Loop(Rules(), plant_site=with_gen1(low_load=HOT, quiet=(night,) if quiet else ()), start=NOON)
    loop.world.demand_kw.update(critical=120.0, essential=160.0)
    due(loop, GensetDuty(low_load_h=2.0))
    loop.utc = UtcState(utc)
    loop.run(4000.0, dt_s=20.0)
    assert started(loop) is begins


# --- breakers ---


def islanding() -> Site:
    policy = replace(site().grid.transitions, island_before_s=600.0)
    return with_breaker(site(), transitions=policy)


def opened(loop: Loop) -> bool:
    return loop.set.get("grid1.open_request", 0.0) >= 0.5


@pytest.mark.parametrize(("utc", "opens"), [("valid", True), ("holdover", True), ("invalid", False)])
def test_islanding_is_ordered_by_an_announcement_in_valid_time_alone(utc: str, opens: bool):
    loop = Loop(Rules(), plant_site=islanding(), start=NOON, outages=(told(timedelta(), HOUR),))
    loop.utc, seen = UtcState(utc), []
    loop.run(40.0, each=lambda x: seen.append(opened(x)))
    assert any(seen) is opens


def test_islanding_no_breaker_listens_to_what_an_input_announces():
    loop, seen = Loop(RulesTou(), plant_site=islanding(), start=NOON), list[bool]()
    loop.announced = (told(timedelta(), HOUR),)
    loop.run(60.0, each=lambda x: seen.append(opened(x)))
    assert not any(seen)


def test_dwell_every_loss_that_is_remembered_counts_where_none_is_known_to_be_old():
    policy = FlappingPolicy(window_h=1.0, growth_ratio=2.0, dwell_s_max=600.0)
    flapping = replace(site(), grid=replace(site().grid, flapping=policy))
    loop = Loop(Rules(), plant_site=flapping, start=NOON)
    loop.run(2.0)
    losses = tuple(NOON - 3 * HOUR for _ in range(5))
    _, observed = observed_with(loop, losses)
    valid_s = dwell_s(loop.setup.layout, observed(UtcState.VALID))
    assert dwell_s(loop.setup.layout, observed(UtcState.INVALID)) > valid_s


def observed_with(loop: Loop, losses: tuple[datetime, ...]) -> tuple[Decisions, Callable[[UtcState], Any]]:
    decisions = loop.run(1.0)

    class Seen:
        def __init__(self, utc: UtcState) -> None:
            self.condition = replace(decisions.condition, utc=utc, grid_losses=losses)

    return decisions, Seen


# --- rules by the clock ---


def bess_kw(loop: Loop) -> float:
    assert loop.flows is not None
    return loop.flows.bess_p_kw["bess1"]


@pytest.mark.parametrize("start", [NOON, DEAR, NOON - 8 * HOUR], ids=["noon", "dear", "cheap"])
@pytest.mark.parametrize("soc", [0.3, 0.45, 0.7])
def test_rules_by_the_clock_are_plain_rules_without_valid_time(start: datetime, soc: float):
    loops = [Loop(c, soc=soc, start=start) for c in (Rules(), RulesTou())]
    for loop in loops:
        loop.utc = UtcState.INVALID
        loop.run(60.0, dt_s=5.0)
    plain, by_clock = map(bess_kw, loops)
    assert by_clock == pytest.approx(plain)


def test_rules_by_the_clock_keep_a_reserve_for_what_an_input_announces():
    loop = Loop(RulesTou(), soc=0.7, start=DEAR)
    loop.run(10.0)
    assert bess_kw(loop) > 50.0
    loop.announced = (replace(told(timedelta(), HOUR), start=DEAR + 2 * HOUR, end=DEAR + 4 * HOUR),)
    loop.run(10.0)
    assert bess_kw(loop) < -50.0


@pytest.mark.parametrize(
    ("begins", "kept"), [(timedelta(hours=20), True), (timedelta(days=9), False)], ids=["near", "far"]
)
def test_rules_by_the_clock_keep_a_reserve_for_an_outage_that_may_be_near(begins: timedelta, kept: bool):
    loop = Loop(RulesTou(), soc=0.7, start=NOON, outages=(told(begins, begins + HOUR),))
    loop.utc, loop.doubt = UtcState.INVALID, AROUND
    loop.run(30.0)
    assert (bess_kw(loop) < 0.0) is kept


@pytest.mark.parametrize(
    ("good_s", "utc", "kept"),
    [(59.0, "valid", True), (61.0, "valid", False), (61.0, "invalid", True)],
    ids=["not back for long enough", "back", "nobody knows what time it is"],
)
def test_outage_of_an_input_that_is_over_early_is_kept_no_reserve_for(good_s: float, utc: str, kept: bool):
    """The mains were lost in it and are back for as long as its input says."""
    plant = replace(site(), inputs=(params("outages", mains_back_s=60.0),))
    given = TickInput(
        snapshot=shot(UtcState(utc), AROUND),
        plan=None,
        outages=(),
        dt_s=1.0,
        announced=(replace(told(-HOUR, HOUR), source="one"),),
    )
    condition = replace(
        Loop(Rules(), start=NOON).run(2.0).condition,
        at=NOON,
        utc=UtcState(utc),
        grid_losses=(NOON - HOUR,),
        mains_good_s=good_s,
    )
    assert bool(to_reserve_for(plant, given, condition)) is kept


# --- from the shell to the tick ---


class Noting(Mind):
    """Notes what the tick is given."""

    def __init__(self) -> None:
        self.given: list[TickInput] = []

    def decide(self, setup: EdgeSetup, state: EdgeState, given: TickInput) -> tuple[EdgeState, Decisions]:
        self.given.append(given)
        return super().decide(setup, state, given)


def edge(
    told: Callable[[], tuple[OutageNotice, ...]] = tuple, known: PlantCondition | None = None
) -> tuple[Bench, Noting]:
    """An edge whose kernel says that its clock is not synchronised."""
    bench, mind = Bench(), Noting()
    bench.edge = EdgeRuntime(
        site(), clock=bench.clock, device_io=bench.io, plans=NoPlans(), recorder=bench.recorder,
        controller=Rules(), shadow=False, epoch=2, synchronised=lambda: False, announced=told, known=known,
        mind=mind,
    )  # fmt: skip
    return bench, mind


def last_condition(bench: Bench) -> PlantCondition:
    assert bench.edge.last is not None
    return bench.edge.last.condition


def test_edge_knows_by_its_last_condition_what_time_it_may_be():
    before = Bench()
    before.cycles(2)
    known = last_condition(before)
    assert known.relied_at == known.at
    bench, mind = edge(known=known)
    bench.cycles(2)
    assert mind.given[-1].snapshot.calendar is None
    assert mind.given[-1].snapshot.doubt.earliest == known.at - NEAR
    assert last_condition(bench).relied_at == known.at, "the edge after it knows as much"
    bench, mind = edge()
    bench.cycles(1)
    assert mind.given[-1].snapshot.doubt == UNKNOWN


def test_edge_what_inputs_announced_before_time_was_lost_still_counts():
    announced: tuple[OutageNotice, ...] = (told(HOUR, 2 * HOUR),)
    answers = [announced]
    bench, mind = edge(lambda: answers[0])
    bench.edge.synchronised = lambda: True
    bench.cycles(2)
    assert mind.given[-1].announced == announced
    answers[0] = ()
    bench.edge.synchronised = lambda: False
    bench.edge._utc = replace(bench.edge._utc, believed=False)
    bench.cycles(1)
    assert mind.given[-1].snapshot.calendar is None
    assert mind.given[-1].announced == announced
    bench.edge.synchronised = lambda: True
    bench.cycles(1)
    assert mind.given[-1].announced == ()


# --- all of them at once ---


@pytest.mark.parametrize("mode", [GridMode.GRID_TIED, GridMode.ISLANDED])
@pytest.mark.parametrize("off", [0.0, 86400.0, -86400.0, 12.5 * 3600.0, 3e8, -1e8])
def test_tick_decides_the_same_whatever_an_invalid_clock_shows(mode: GridMode, off: float):
    """Whoever looks at record time all the same, without its being valid, is found here."""
    quiet = replace(site().gensets[0], quiet=(replace(ALL_DAY, end_h=12.5),), exercise=EXERCISE)
    plant = islanding()
    window = Maintenance(asset="gen2", start=NOON, end=NOON + HOUR)
    caps = (cap(local=NIGHT, p_import_kw_max=150.0), cap(**OVER))
    plant = replace(
        plant,
        gensets=(quiet, plant.gensets[1]),
        maintenance=(window,),
        grid=replace(plant.grid, caps=caps),
    )

    def decided(start: datetime) -> list[Any]:
        loop = Loop(RulesTou(), plant_site=plant, start=start, soc=0.2, outages=(told(-HOUR, HOUR),))
        loop.announced = (replace(told(HOUR, 2 * HOUR), id="o2"),)
        loop.utc = UtcState.INVALID
        if mode is GridMode.ISLANDED:
            loop.plant = initial_state(loop.site, 0.2, islanded_by="bess1")
            loop.world.mains = False
        loop.run(90.0)
        return [[(c.point, c.value) for c in d.commands] for _, d, _ in loop.log]

    assert decided(NOON + timedelta(seconds=off)) == decided(NOON)
