"""Events of IEEE 2030.5 in the Book: which holds when, what the server is answered. No network, no clock."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from connectors.ieee2030_5.events import EVENTS_MAX, FORGET_S, REPLY_S, Book, Code, State
from connectors.ieee2030_5.kept import Known
from connectors.ieee2030_5.told import Ask, Control, Program, Told
from connectors.utility.kept import read, write
from tests.builders import T0

MODE, OTHER = "opModExpLimW", "opModImpLimW"
T = 1_700_000_000


def control(mrid: str, start_s: int = T, duration_s: int = 100, kw: float = 10.0, **changes: Any) -> Control:
    values: dict[str, Any] = {
        "mrid": mrid, "program": "/a", "primacy": 1, "title": "", "created_s": T - 500, "status": 0,
        "start_s": start_s, "duration_s": duration_s, "random_start_s": 0, "random_duration_s": 0,
        "ask": Ask(bounds_kw={MODE: kw}), "reply_to": "/rsp", "replies": 3,
    }  # fmt: skip
    return Control(**(values | changes))


def told(*controls: Control, default_kw: float | None = None) -> Told:
    default = None if default_kw is None else Ask(bounds_kw={MODE: default_kw})
    programs = {c.program: c.primacy for c in controls} or {"/a": 1}
    return Told(
        programs=tuple(
            Program(href=href, title="", primacy=primacy, default=default,
                    controls=tuple(c for c in controls if c.program == href))
            for href, primacy in programs.items()
        ),
        ahead_s=0.0,
    )  # fmt: skip


@pytest.fixture
def book() -> Book:
    return Book(Random(7))


def kw(book: Book, now_s: float, otherwise_kw: float | None = None) -> float | None:
    book.advance(now_s)
    bound = book.bound(MODE, otherwise_kw, now_s)
    return None if bound is None else bound.kw


def state(book: Book, mrid: str) -> State:
    return book.events[mrid].state


def said(book: Book, mrid: str) -> list[Code]:
    return [Code(c) for c in book.events[mrid].said]


@pytest.mark.parametrize(
    ("now_s", "expected"),
    [(T - 1, 50.0), (T, 10.0), (T + 99.9, 10.0), (T + 100, 50.0), (T + 1e6, 50.0)],
)
def test_event_holds_from_its_start_to_before_its_end_and_the_default_beside_it(book, now_s, expected):
    assert book.take(told(control("A"), default_kw=50.0), T - 10) == []
    assert kw(book, now_s) == expected


def test_without_default_what_the_site_file_says_holds_or_nothing(book):
    book.take(told(control("A")), T - 10)
    assert (kw(book, T - 5), kw(book, T - 5, 99.0), kw(book, T + 1, 99.0)) == (None, 99.0, 10.0)


def test_default_of_the_program_that_goes_first_counts_where_it_has_one(book):
    def program(href: str, primacy: int, bounds_kw: dict[str, float] | None) -> Program:
        default = None if bounds_kw is None else Ask(bounds_kw=bounds_kw)
        return Program(href=href, title="", primacy=primacy, default=default)

    rows = (program("/c", 3, {MODE: 3.0}), program("/b", 2, {OTHER: 2.0}), program("/a", 1, None))
    book.take(Told(programs=rows, ahead_s=0.0), T)
    assert kw(book, T) == 3.0


def test_lower_primacy_then_newer_creation_takes_over_and_what_was_taken_over_only_tightens(book):
    long = control("A", duration_s=1000, kw=10.0)
    newer = control("B", T + 100, 100, kw=70.0, created_s=T - 1)
    first = control("C", T + 120, 30, kw=90.0, program="/first", primacy=0)
    book.take(told(long, newer, first, default_kw=50.0), T - 10)
    assert [kw(book, T + x) for x in (50, 110, 130, 160)] == [10.0, 70.0, 90.0, 10.0]
    assert book.events["A"].state is State.SUPERSEDED
    assert said(book, "A") == [Code.RECEIVED, Code.SUPERSEDED]
    assert said(book, "B") == [Code.RECEIVED, Code.SUPERSEDED]
    assert kw(book, T + 210) == 10.0, "tighter than the default: it goes on to its own end"
    assert kw(book, T + 1001) == 50.0


def test_looser_event_that_was_taken_over_does_not_come_back(book):
    long, newer = control("A", duration_s=1000, kw=80.0), control("B", T + 100, 100, kw=20.0, created_s=T)
    book.take(told(long, newer, default_kw=50.0), T - 10)
    assert [kw(book, T + x) for x in (50, 150, 250)] == [80.0, 20.0, 50.0]


def test_event_of_two_modes_is_superseded_when_the_last_of_them_is_taken_over(book):
    both = control("A", duration_s=1000, ask=Ask(bounds_kw={MODE: 1.0, OTHER: 2.0}))
    one = control("B", T + 10, 500, created_s=T)
    other = control("C", T + 30, 500, created_s=T, ask=Ask(bounds_kw={OTHER: 5.0}))
    book.take(told(both, one), T)
    assert kw(book, T + 20) == 10.0
    assert state(book, "A") is State.ACTIVE
    assert book.bound(OTHER, None, T + 20).kw == 2.0
    book.take(told(both, one, other), T + 25)
    book.advance(T + 31)
    assert state(book, "A") is State.SUPERSEDED


@pytest.mark.parametrize("status", [2, 3])
def test_cancelled_event_ends_at_once_or_by_chance(book, status):
    one = control("A", random_duration_s=60, duration_s=1000)
    book.take(told(one, default_kw=50.0), T)
    assert kw(book, T + 1) == 10.0
    book.take(told(replace(one, status=status), default_kw=50.0), T + 10)
    assert kw(book, T + 10 + (60 if status == 3 else 0) + 1) == 50.0
    assert said(book, "A") == [Code.RECEIVED, Code.CANCELLED]
    assert book.events["A"].state is State.CANCELLED
    if status == 3:
        assert T + 10 <= book.events["A"].end_s <= T + 70


def test_event_that_is_gone_from_its_list_is_cancelled_unless_it_is_over(book):
    book.take(told(control("A"), control("B", T + 500)), T)
    book.take(told(), T + 50)
    assert said(book, "A") == said(book, "B") == [Code.RECEIVED, Code.CANCELLED]
    assert kw(book, T + 60) is None
    book.take(told(control("C", T + 100, 10)), T + 90)
    book.take(told(), T + 150)
    assert said(book, "C") == [Code.RECEIVED, Code.NO_PARTICIPATION]


@pytest.mark.parametrize(("most_s", "low_s", "high_s"), [(600, 0, 600), (-600, -600, 0), (0, 0, 0)])
def test_chance_of_start_and_duration_is_inside_its_range_and_chosen_once(most_s, low_s, high_s):
    found = set()
    for seed in range(40):
        book = Book(Random(seed))
        one = control("A", T + 10_000, 1000, random_start_s=most_s, random_duration_s=most_s)
        book.take(told(one), T)
        event = book.events["A"]
        assert low_s <= event.later_s <= high_s
        assert low_s <= event.longer_s <= high_s
        book.take(told(one), T + 100)
        assert (book.events["A"].later_s, book.events["A"].longer_s) == (event.later_s, event.longer_s)
        found.add(event.later_s)
    assert (len(found) > 10) is (most_s != 0)


def test_events_that_follow_each_other_leave_no_gap_and_no_overlap(book):
    first = control("A", T + 100, 100, random_start_s=60, random_duration_s=-30)
    book.take(told(first, control("B", T + 200, 100, random_start_s=60)), T)
    assert book.events["B"].start_s == book.events["A"].end_s
    for before in (control("C", T - 100, 90, random_duration_s=9), control("D", T - 10, 90, status=2)):
        after = control(f"after {before.mrid}", before.start_s + 90, 1000)
        book.take(told(before, after), T)
        assert book.events[after.mrid].later_s == 0


def test_refusals_are_answered_and_can_only_tighten(book):
    unmet = control("A", kw=60.0, ask=Ask(bounds_kw={MODE: 60.0}, unmet=("opModConnect false",)))
    wrong = control("B", ask=Ask(wrong="found -1"))
    old = control("C", T - 1000, 10)
    words = book.take(told(unmet, wrong, old, default_kw=50.0), T)
    assert [w.split(":")[0] for w in words] == ["event A", "event B"]
    assert [said(book, x) for x in "ABC"] == [[Code.NOT_APPLICABLE], [Code.INVALID], [Code.EXPIRED]]
    assert kw(book, T + 1) == 50.0
    tight = replace(unmet, mrid="D", ask=replace(unmet.ask, bounds_kw={MODE: 5.0}))
    book.take(told(unmet, wrong, old, tight, default_kw=50.0), T + 2)
    assert kw(book, T + 3) == 5.0
    assert book.take(told(unmet, wrong, old, tight, default_kw=50.0), T + 4) == []
    assert kw(book, T + 101) == 50.0
    assert Code.COMPLETED not in book.events["D"].said


def test_known_event_that_is_spoilt_later_stays_as_it_was(book):
    book.take(told(control("A")), T)
    (words,) = book.take(told(control("A", ask=Ask(wrong="found NaN"))), T + 1)
    assert "stays as it was" in words
    assert kw(book, T + 2) == 10.0


def test_started_is_said_once_the_edge_holds_it_and_completed_only_then(book):
    book.take(told(control("A"), control("B", T, 50, ask=Ask(bounds_kw={OTHER: 1.0}))), T)
    book.done("A", [MODE], {MODE: False}, T + 1)
    assert said(book, "A") == [Code.RECEIVED]
    book.done("A", [MODE], {MODE: True}, T + 2)
    book.cannot("A", T + 3)
    book.cannot("B", T + 3)
    book.advance(T + 100)
    assert said(book, "A") == [Code.RECEIVED, Code.STARTED, Code.COMPLETED]
    assert said(book, "B") == [Code.RECEIVED, Code.NOT_APPLICABLE, Code.NO_PARTICIPATION]


def test_event_that_asks_nothing_here_starts_and_ends_by_itself(book):
    book.take(told(control("A", ask=Ask())), T - 1)
    book.advance(T)
    book.idle(T)
    book.advance(T + 100)
    assert said(book, "A") == [Code.RECEIVED, Code.STARTED, Code.COMPLETED]


def test_answers_go_where_they_are_wanted_and_are_given_up_in_the_end(book):
    silent = control("C", reply_to="")
    book.take(told(control("A", replies=1), control("B", replies=2, status=2), silent), T)
    book.done("A", [MODE], {MODE: True}, T)
    assert [(r.mrid, r.code) for r in book.replies] == [("A", 1), ("B", 6)]
    book.sent(book.replies[0])
    assert [r.mrid for r in book.replies] == ["B"]
    book.advance(T + REPLY_S + 1)
    assert book.replies == []


def test_events_are_forgotten_a_day_after_and_never_more_than_so_many(book):
    book.take(told(control("A")), T)
    book.take(told(), T + 200)
    book.take(told(), T + 200 + FORGET_S - 200)
    assert "A" in book.events
    book.take(told(), T + 200 + FORGET_S)
    assert book.events == {}
    for i in range(5):
        book.take(told(*(control(f"{i}-{k}", duration_s=1) for k in range(1000))), T + 10 + i)
    assert len(book.events) <= EVENTS_MAX + 1000


def test_same_event_in_two_programs_counts_in_the_first(book):
    book.take(told(control("A", kw=1.0), control("A", program="/first", primacy=0, kw=2.0)), T)
    assert (kw(book, T + 1), book.events["A"].control.program) == (2.0, "/first")


def test_any_schedule_holds_what_a_plain_reading_of_the_rules_says():
    """Events at random; at each second the Book is held against the rules, read off the whole past anew."""
    for seed in range(40):
        random, book = Random(seed), Book(Random(seed))
        events = [
            control(f"{i:02}", T + random.randrange(40), random.randrange(1, 30), float(random.randrange(9)),
                    created_s=T - random.randrange(3), program=f"/{p}", primacy=p)
            for i, p in enumerate(random.choices(range(3), k=7))
        ]  # fmt: skip
        covered: set[str] = set()
        for now_s in range(T, T + 75):
            if now_s == T or random.random() < 0.2:
                book.take(told(*events, default_kw=4.5), now_s)
            running = [e for e in events if e.start_s <= now_s < e.start_s + e.duration_s]
            left = sorted(
                (e for e in running if e.mrid not in covered), key=lambda e: (e.primacy, -e.created_s, e.mrid)
            )
            covered |= {e.mrid for e in left[1:]}
            tighter = [e.ask.bounds_kw[MODE] for e in running if e.mrid in covered]
            expected = left[0].ask.bounds_kw[MODE] if left else min([4.5, *tighter])
            assert kw(book, now_s) == expected, (seed, now_s - T)


def test_what_is_known_comes_back_as_it_was(tmp_path, book):
    one = control("A", random_start_s=60, ask=Ask(bounds_kw={MODE: 0.1}, unmet=("x",)))
    book.take(told(one, control("B"), default_kw=50.0), T)
    known = Known(
        where="h:1", lfdi="AB", at=T0, ahead_s=0.25, events=tuple(book.events.values()),
        programs=book.programs, replies=tuple(book.replies),
    )  # fmt: skip
    write(tmp_path / "known", known)
    assert read(Known, tmp_path / "known") == known
    assert read(Known, tmp_path / "none") is None
