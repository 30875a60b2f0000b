"""The alarm state machine of ISA-18.2: every state against every event, and long hostile sequences."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.alarms.machine import AlarmInput, alarms_after
from dispatch.alarms.memory import AlarmMemory, remembered
from dispatch.vocabulary import Alarm, Event
from ems.alarm_table import alarm_table
from ems.alarms import Act, AlarmAction, AlarmClass, AlarmEntry, AlarmRow, AlarmState, Priority
from tests.builders import T0

S = AlarmState
CODE, PARENT = "genset.unavailable", "device.silent"
KEY, OTHER = "genset.unavailable.gen1", "device.silent.gen1"
STANDS = Alarm(code=CODE, asset="gen1", text="gen1 cannot be used")
SILENT = Alarm(code=PARENT, asset="gen1", text="gen1 gives no good reading")


def table_with(**changes: Any) -> dict[str, AlarmRow]:
    plain = {c: replace(r, on_delay_s=0.0, off_delay_s=0.0) for c, r in alarm_table().items()}
    return {**plain, CODE: replace(plain[CODE], **changes)}


@dataclass
class Bench:
    """One alarm and the one that explains it. Delays are 0 unless a test sets them."""

    monkeypatch: Any
    changes: dict[str, Any] = field(default_factory=dict)
    memory: AlarmMemory = field(default_factory=AlarmMemory)
    now_s: float = 100.0
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        table = table_with(**self.changes)
        for module in ("dispatch.alarms.machine", "dispatch.alarms.memory", "ems.alarm_table"):
            self.monkeypatch.setattr(f"{module}.alarm_table", lambda: table)

    def cycle(self, *told: Alarm, acts: tuple[AlarmAction, ...] = (), dt_s: float = 1.0) -> list[Event]:
        self.memory, events = alarms_after(
            self.memory,
            AlarmInput(
                told=told, actions=acts, at=T0 + timedelta(seconds=self.now_s), now_s=self.now_s, dt_s=dt_s
            ),
        )
        self.now_s += dt_s
        self.events += events
        return events

    def does(
        self, act: Act, *told: Alarm, for_s: float | None = 600.0, role: str = "engineer"
    ) -> list[Event]:
        return self.cycle(*told, acts=(person(act, for_s=for_s, role=role),))

    @property
    def entry(self) -> AlarmEntry | None:
        tracked = self.memory.tracked.get(KEY)
        return None if tracked is None else tracked.entry

    @property
    def shown(self) -> AlarmState:
        return S.NORMAL if self.entry is None else self.entry.shown


def person(act: Act, *, key: str = KEY, for_s: float | None = 600.0, role: str = "engineer") -> AlarmAction:
    return AlarmAction(act=act, key=key, who="ada", role=role, why="work order 7", for_s=for_s)


@pytest.fixture
def bench(monkeypatch):
    return lambda **changes: Bench(monkeypatch, changes)


def reach(make, state: AlarmState) -> tuple[Bench, tuple[Alarm, ...]]:
    """A bench in a state, and the conditions that hold there."""
    b = make(latching=state in (S.LATCHED_UNACKNOWLEDGED, S.LATCHED_ACKNOWLEDGED))
    if state is S.NORMAL:
        return b, ()
    if state is S.SUPPRESSED:
        b.cycle(SILENT, STANDS)
        return b, (SILENT, STANDS)
    b.cycle(STANDS)
    if state in (S.ACKNOWLEDGED, S.LATCHED_ACKNOWLEDGED):
        b.does(Act.ACKNOWLEDGE, STANDS)
    if state is S.SHELVED:
        b.does(Act.SHELVE, STANDS)
    if state is S.OUT_OF_SERVICE:
        b.does(Act.REMOVE, STANDS)
    if state in (S.RETURNED, S.LATCHED_UNACKNOWLEDGED, S.LATCHED_ACKNOWLEDGED):
        b.cycle()
        return b, ()
    return b, (STANDS,)


# State after each event; "." : as before. Columns: the condition comes, goes, acknowledge, reset, shelve,
# unshelve, parent comes with the condition, parent goes (condition stays), remove, return, 601 s pass.
TABLE = {
    S.NORMAL: (S.UNACKNOWLEDGED, ".", ".", ".", S.SHELVED, ".", S.SUPPRESSED, ".", S.OUT_OF_SERVICE,
               ".", "."),
    S.UNACKNOWLEDGED: (".", S.RETURNED, S.ACKNOWLEDGED, ".", S.SHELVED, ".", S.SUPPRESSED, ".",
                       S.OUT_OF_SERVICE, ".", "."),
    S.ACKNOWLEDGED: (".", S.NORMAL, ".", ".", S.SHELVED, ".", S.SUPPRESSED, ".", S.OUT_OF_SERVICE, ".", "."),
    S.RETURNED: (S.UNACKNOWLEDGED, ".", S.NORMAL, ".", S.SHELVED, ".", S.SUPPRESSED, ".", S.OUT_OF_SERVICE,
                 ".", "."),
    S.LATCHED_UNACKNOWLEDGED: (S.UNACKNOWLEDGED, ".", S.LATCHED_ACKNOWLEDGED, S.RETURNED, S.SHELVED, ".",
                               S.SUPPRESSED, ".", S.OUT_OF_SERVICE, ".", "."),
    S.LATCHED_ACKNOWLEDGED: (S.UNACKNOWLEDGED, ".", ".", S.NORMAL, S.SHELVED, ".", S.SUPPRESSED, ".",
                             S.OUT_OF_SERVICE, ".", "."),
    S.SHELVED: (".", ".", ".", ".", ".", S.UNACKNOWLEDGED, ".", ".", S.OUT_OF_SERVICE, ".",
                S.UNACKNOWLEDGED),
    S.SUPPRESSED: (".", S.NORMAL, ".", ".", S.SHELVED, ".", ".", S.UNACKNOWLEDGED, S.OUT_OF_SERVICE,
                   ".", "."),
    S.OUT_OF_SERVICE: (".", ".", ".", ".", ".", ".", ".", ".", ".", S.UNACKNOWLEDGED, "."),
}  # fmt: skip
EVENTS = ("comes", "goes", "acknowledge", "reset", "shelve", "unshelve", "parent comes", "parent goes",
          "remove", "return", "time passes")  # fmt: skip


def happen(b: Bench, event: str, told: tuple[Alarm, ...]) -> None:
    acts = {"acknowledge": Act.ACKNOWLEDGE, "reset": Act.RESET, "shelve": Act.SHELVE,
            "unshelve": Act.UNSHELVE, "remove": Act.REMOVE, "return": Act.RETURN}  # fmt: skip
    parents = tuple(a for a in told if a.code == PARENT)
    if event in acts:
        b.does(acts[event], *told)
    elif event == "comes":
        b.cycle(*parents, STANDS)
    elif event == "goes":
        b.cycle(*parents)
    elif event == "parent comes":
        b.now_s = b.memory.tracked[KEY].began_s + 1.0 if KEY in b.memory.tracked else b.now_s
        b.cycle(SILENT, STANDS)
    elif event == "parent goes":
        b.cycle(*(a for a in told if a.code != PARENT))
    else:
        b.now_s += 601.0
        b.cycle(*told)


@pytest.mark.parametrize("column", range(len(EVENTS)), ids=EVENTS)
@pytest.mark.parametrize("state", TABLE, ids=lambda s: s.value)
def test_machine_each_state_and_event_ends_where_the_standard_says(bench, state, column):
    b, told = reach(bench, state)
    assert b.shown is state
    happen(b, EVENTS[column], told)
    wanted = TABLE[state][column]
    assert b.shown is (state if wanted == "." else wanted)


@pytest.mark.parametrize(("delay_s", "cycles"), [(0.0, 1), (1.0, 2), (5.0, 6)])
def test_machine_on_delay_rings_after_it_and_not_before(bench, delay_s, cycles):
    b = bench(on_delay_s=delay_s)
    for _ in range(cycles - 1):
        b.cycle(STANDS)
        assert b.shown is S.NORMAL
    b.cycle(STANDS)
    assert b.shown is S.UNACKNOWLEDGED


def test_machine_flapping_condition_is_one_alarm_with_a_count(bench):
    b = bench(on_delay_s=1.0, off_delay_s=60.0)
    for i in range(600):
        b.cycle(*([STANDS] if i % 6 < 3 else []))
    assert [e.kind for e in b.events] == ["alarm.raised"]
    assert b.entry is not None
    assert b.entry.activations == 100


def test_machine_value_inside_deadband_keeps_the_alarm_and_beyond_it_clears(monkeypatch):
    b = Bench(monkeypatch)
    key = "reserve.short"

    def state(value: float) -> AlarmState:
        b.cycle(Alarm(code=key, text="x", value=value, limit=10.0))
        tracked = b.memory.tracked.get(key)
        return S.NORMAL if tracked is None else tracked.entry.shown

    assert alarm_table()[key].deadband == 1.0
    assert [state(v) for v in (9.9, 10.1, 9.5, float("nan"), 8.9)] == [
        S.NORMAL, S.UNACKNOWLEDGED, S.UNACKNOWLEDGED, S.UNACKNOWLEDGED, S.RETURNED,
    ]  # fmt: skip


def test_machine_older_condition_is_another_root_and_stays_in_sight(bench):
    """A set that locked out before its controller fell silent is not explained by the silence."""
    b = bench()
    b.cycle(STANDS)
    b.now_s += 60.0
    b.cycle(SILENT, STANDS)
    assert b.shown is S.UNACKNOWLEDGED


def test_machine_parent_on_its_way_out_hides_what_stays_for_ten_seconds_only(monkeypatch):
    """The device answers again and says that the battery tripped: not a minute later, but now."""
    b = Bench(monkeypatch)
    table = {**table_with(), PARENT: replace(table_with()[PARENT], off_delay_s=60.0)}
    for module in ("dispatch.alarms.machine", "dispatch.alarms.memory", "ems.alarm_table"):
        monkeypatch.setattr(f"{module}.alarm_table", lambda: table)
    b.cycle(SILENT, STANDS)
    for _ in range(11):
        b.cycle(STANDS)
        assert b.shown is S.SUPPRESSED
    b.cycle(STANDS)
    assert b.shown is S.UNACKNOWLEDGED


def test_machine_parent_of_another_asset_explains_nothing(bench):
    b = bench()
    b.cycle(replace(SILENT, asset="pv1"), STANDS)
    assert b.shown is S.UNACKNOWLEDGED


def test_machine_shelved_parent_suppresses_nothing(bench):
    b = bench()
    b.cycle(SILENT, STANDS)
    b.cycle(SILENT, STANDS, acts=(person(Act.SHELVE, key=OTHER),))
    b.cycle(SILENT, STANDS)
    assert b.shown is S.UNACKNOWLEDGED


def test_machine_came_and_went_out_of_sight_needs_no_acknowledgement_but_is_recorded(bench):
    b = bench()
    b.cycle(SILENT, STANDS)
    b.cycle(SILENT)
    assert b.shown is S.NORMAL
    kinds = [e.kind for e in b.events if e.fields.get("key") == KEY]
    assert kinds == ["alarm.raised", "alarm.suppressed", "alarm.cleared", "alarm.unsuppressed"]
    assert not any(e.fields["annunciated"] for e in b.events if e.fields["key"] == KEY)


def test_machine_higher_level_asks_again(bench):
    b = bench()
    b.cycle(STANDS)
    b.does(Act.ACKNOWLEDGE, STANDS)
    b.cycle(replace(STANDS, level=1))
    assert b.shown is S.UNACKNOWLEDGED


@pytest.mark.parametrize(
    ("action", "changes"),
    [
        (person(Act.SHELVE, for_s=8.1 * 3600.0), {}),
        (person(Act.SHELVE, for_s=float("nan")), {}),
        (person(Act.SHELVE, for_s=None), {}),
        (person(Act.SHELVE, for_s=0.0), {}),
        (replace(person(Act.SHELVE), why=" "), {}),
        (person(Act.SHELVE, for_s=1.1 * 3600.0), {"priority": Priority.HIGH}),
        (person(Act.SHELVE, for_s=60.0), {"alarm_class": AlarmClass.SAFETY}),
        (person(Act.REMOVE, role="operator"), {}),
        (replace(person(Act.REMOVE), why=""), {}),
        (person(Act.RETURN), {}),
        (person(Act.RESET), {}),
        (person(Act.UNSHELVE), {}),
    ],
)
def test_machine_action_beyond_its_limits_refused_and_told(bench, action, changes):
    b = bench(**changes)
    b.cycle(STANDS)
    events = b.cycle(STANDS, acts=(action,))
    assert [e.kind for e in events] == ["alarm.action.refused"]
    assert b.shown is S.UNACKNOWLEDGED


def test_machine_unknown_alarm_refused():
    _, events = alarms_after(
        AlarmMemory(),
        AlarmInput(told=(), actions=(person(Act.SHELVE, key="nobody.knows"),), at=T0, now_s=0.0, dt_s=1.0),
    )  # fmt: skip
    assert [e.kind for e in events] == ["alarm.action.refused"]


def test_machine_safety_class_is_never_suppressed(bench):
    b = bench(alarm_class=AlarmClass.SAFETY)
    b.cycle(SILENT, STANDS)
    assert b.shown is S.UNACKNOWLEDGED


def test_remembered_acknowledgement_and_shelf_outlive_a_restart(bench):
    b = bench()
    b.cycle(STANDS)
    b.does(Act.ACKNOWLEDGE, STANDS)
    b.does(Act.SHELVE, STANDS, for_s=600.0)
    book = b.memory.book(T0)
    later = T0 + timedelta(seconds=b.now_s + 300.0)
    b.memory, b.now_s = remembered(book, later, 5.0), 5.0
    b.cycle(STANDS)
    assert b.shown is S.SHELVED
    b.now_s = 5.0 + 305.0
    events = b.cycle(STANDS)
    assert (b.shown, [e.kind for e in events]) == (S.ACKNOWLEDGED, ["alarm.unshelved"])


def test_remembered_clock_set_back_shelf_is_no_longer_than_allowed(bench):
    b = bench()
    b.cycle(STANDS)
    b.does(Act.SHELVE, STANDS, for_s=8 * 3600.0)
    b.memory = remembered(b.memory.book(T0), T0 - timedelta(days=9), 0.0)
    b.now_s = 8 * 3600.0 + 1.0
    b.cycle(STANDS)
    assert b.shown is S.UNACKNOWLEDGED


def test_remembered_suppressed_stays_so_and_another_root_stays_in_sight(bench):
    for older, shown in ((0.0, S.SUPPRESSED), (60.0, S.UNACKNOWLEDGED)):
        b = bench()
        if older:
            b.cycle(STANDS)
            b.now_s += older
        b.cycle(SILENT, STANDS)
        b.memory = remembered(b.memory.book(T0), T0, 1.0)
        b.now_s = 1.0
        b.cycle(SILENT, STANDS)
        assert b.shown is shown


ACTIONS = st.builds(
    person,
    st.sampled_from(Act),
    key=st.sampled_from([KEY, OTHER, "bus.dead", "reserve.short", "nobody.knows"]),
    for_s=st.sampled_from([None, 3.0, 600.0, 9e9, float("nan")]),
    role=st.sampled_from(["operator", "engineer"]),
)
CONDITIONS = st.sets(
    st.sampled_from(
        [
            STANDS,
            SILENT,
            Alarm(code="bus.dead", text="dead"),
            Alarm(code="comms.lost", text="lost"),
            Alarm(code="reserve.short", text="short", value=3.0, limit=1.0),
            Alarm(code="reserve.short", text="short", value=float("nan"), limit=1.0),
            Alarm(code="feeder.shed", asset="essential", text="open", level=2),
        ]
    )
)
CYCLES = st.lists(
    st.tuples(CONDITIONS, st.lists(ACTIONS, max_size=2), st.sampled_from([0.1, 1.0, 60.0, 4000.0]))
)


@settings(max_examples=60, deadline=None)
@given(CYCLES)
def test_machine_any_sequence_keeps_its_invariants(cycles):
    memory, now_s = AlarmMemory(), 0.0
    journal: dict[str, list[Event]] = {}
    for told, acts, dt_s in cycles:
        at = T0 + timedelta(seconds=now_s)
        memory, events = alarms_after(
            memory, AlarmInput(told=tuple(told), actions=acts, at=at, now_s=now_s, dt_s=dt_s)
        )
        now_s += dt_s
        for e in events:
            if e.kind != "alarm.action.refused":
                journal.setdefault(str(e.fields["key"]), []).append(e)
        for key, t in memory.tracked.items():
            entry, row = t.entry, alarm_table()[t.entry.code]
            if row.alarm_class is AlarmClass.SAFETY:
                assert entry.shown not in (S.SHELVED, S.SUPPRESSED)
            if entry.shelf is not None and entry.shelf.until is not None:
                left_s = (entry.shelf.until - at).total_seconds()
                assert left_s <= row.shelvable_s_max
            if entry.shown is S.SUPPRESSED and t.present:
                assert memory.tracked[str(entry.suppressed_by)].entry.state in (
                    S.UNACKNOWLEDGED,
                    S.ACKNOWLEDGED,
                )
            last = journal.get(key, [])
            assert entry.shown.value == (last[-1].fields["now"] if last else "normal")
    for told_events in journal.values():
        assert told_events[0].fields["before"] == "normal"
        assert all(a.fields["now"] == b.fields["before"] for a, b in pairwise(told_events))
