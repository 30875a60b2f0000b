"""When the intervals of an event of OpenADR 3 hold: now, one after the other, apart, by chance, repeated."""

import copy
from typing import Any

import pytest

from connectors.openadr3.book import Book
from connectors.openadr3.reading import Reader, Wrong, duration_s, program_of, time_s
from connectors.openadr3.told import Event
from connectors.utility.asker import NotBelieved
from tests.contract.openadr3_peer import EXPORT, IMPORT, PROGRAM, params

T0_S = time_s("2026-03-02T12:00:00Z", "")
HOUR_S = 3600.0
START = "2026-03-02T12:00:00Z"
UNITS = program_of(PROGRAM)


def raw(
    *values: float, start: str | None = START, length: str | None = "PT1H", **more: Any
) -> dict[str, Any]:
    rows = [{"id": i, "payloads": [{"type": EXPORT, "values": [v]}]} for i, v in enumerate(values)]
    period = {k: v for k, v in (("start", start), ("duration", length)) if v is not None}
    return {"id": "e", "programID": "p1", "intervalPeriod": period, "intervals": rows} | more


def read(told: dict[str, Any], heard_s: float = T0_S) -> Event:
    return Reader([EXPORT, IMPORT]).event(told, UNITS, heard_s)


def held(told: dict[str, Any], hours: float, seed: str = "s") -> list[float]:
    """What an event bounds so many hours after T0."""
    return sorted(w.kw[EXPORT] for w in read(told).at(T0_S + hours * HOUR_S, seed) if w.kw)


def test_intervals_follow_each_other_and_end():
    told = raw(10.0, 20.0, 30.0)
    assert [held(told, h) for h in (-0.01, 0.0, 0.99, 1.0, 2.5, 3.0)] == [
        [],
        [10.0],
        [10.0],
        [20.0],
        [30.0],
        [],
    ]
    assert read(told).span("s") == (T0_S, T0_S + 3 * HOUR_S)


def test_interval_of_its_own_length_and_start_leaves_gaps_and_overlaps():
    told = raw(10.0, 20.0, 30.0)
    told["intervals"][1]["intervalPeriod"] = {"duration": "PT2H"}
    assert [held(told, h) for h in (1.0, 2.9, 3.5, 4.0)] == [[20.0], [20.0], [30.0], []]
    told["intervals"][1]["intervalPeriod"] = {"start": "2026-03-02T12:30:00Z", "duration": "PT1H"}
    told["intervals"][2]["intervalPeriod"] = {"start": "2026-03-02T18:00:00+02:00"}
    assert [held(told, h) for h in (0.5, 1.2, 2.0, 4.0)] == [[10.0, 20.0], [20.0], [], [30.0]]


@pytest.mark.parametrize(
    "now", ["0001-01-01", "0001-01-01T00:00:00", "0001-01-01T00:00:00.000Z", "0000-00-00"]
)
def test_now_is_when_it_was_made_but_not_later_than_it_was_heard_of(now):
    told = raw(10.0, start=now)
    assert [held(told, h) for h in (-0.01, 0.0, 0.99, 1.0)] == [[], [10.0], [10.0], []]
    told["createdDateTime"] = "2026-03-02T11:30:00Z"
    assert [held(told, h) for h in (-0.5, 0.49, 0.5)] == [[10.0], [10.0], []]
    told["modificationDateTime"] = "2026-03-05T11:30:00Z"  # its clock is ahead
    assert [held(told, h) for h in (-0.01, 0.0)] == [[], [10.0]]
    told = raw(10.0, 20.0, length="PT1H")
    told["intervals"][1]["intervalPeriod"] = {"start": now}
    assert held(told, 1.5) == [20.0], "behind the first it follows the one before"


@pytest.mark.parametrize("length", [None, "PT0S", "P9999Y", "P200Y"])
def test_without_a_duration_a_limit_has_no_end(length):
    told = raw(10.0, length=length)
    assert [held(told, h) for h in (-1.0, 0.0, 24.0 * 3650)] == [[], [10.0], [10.0]]
    assert read(told).span("s") == (T0_S, None)
    with pytest.raises(Wrong, match="behind an interval without end"):
        read(raw(10.0, 20.0, length=length))


def test_duration_of_the_event_cuts_or_repeats_it():
    cut = raw(10.0, 20.0, duration="PT90M")
    assert [held(cut, h) for h in (0.0, 1.4, 1.5)] == [[10.0], [20.0], []]
    (window,) = read(cut).at(T0_S + 1.2 * HOUR_S, "s")
    assert window.end_s == T0_S + 1.5 * HOUR_S
    again = raw(10.0, 20.0, duration="PT5H")
    assert [held(again, h) for h in (2.0, 3.5, 4.5, 5.0)] == [[10.0], [20.0], [10.0], []]
    forever = raw(10.0, 20.0, duration="P9999Y")
    assert [held(forever, h) for h in (-1.0, 1001.5, 1000.0)] == [[], [20.0], [10.0]]
    assert held(raw(10.0, duration="PT0S"), 1.5) == [], "a duration of nothing says nothing"


def test_random_start_moves_the_first_and_what_follows_and_is_drawn_once():
    told = raw(10.0, 20.0)
    told["intervalPeriod"]["randomizeStart"] = "PT10M"
    event = read(told)
    starts = {seed: event.windows(seed) for seed in map(str, range(200))}
    shifts = [w[0].start_s - T0_S for w in starts.values()]
    assert min(shifts) < -500.0
    assert max(shifts) > 500.0
    assert all(abs(s) <= 600.0 for s in shifts)
    assert all(w[1].start_s == w[0].end_s for w in starts.values())
    assert event.windows("7") == starts["7"]
    told["intervals"][1]["intervalPeriod"] = {"start": "2026-03-02T15:00:00Z", "randomizeStart": "-PT1M"}
    own = [read(told).windows(s)[1].start_s - T0_S - 3 * HOUR_S for s in map(str, range(50))]
    assert all(abs(s) <= 60.0 for s in own)
    assert len(set(own)) == 50


WRONG: list[tuple[str, Any, str]] = [
    ("programID", None, "programID: found nothing"),
    ("priority", -1, "priority: found -1"),
    ("priority", True, "priority: found True"),
    ("priority", 1.5, "priority: found 1.5"),
    ("intervals", {}, "intervals: found an object"),
    ("intervals", None, "intervals: found nothing"),
    ("intervals", [{"id": 0}], "allowed: objects with payloads"),
    ("intervals", [1], "intervals: found 1"),
    ("intervals", [{"payloads": [{"type": EXPORT, "values": [True]}]}], "allowed: one number"),
    ("intervals", [{"payloads": [{"type": EXPORT, "values": ["5"]}]}], "allowed: one number"),
    ("intervals", [{"payloads": [{"type": EXPORT, "values": [1, 2]}]}], "allowed: one number"),
    ("intervals", [{"payloads": [{"type": EXPORT, "values": [10**400]}]}], "allowed: one number"),
    ("intervals", [{"payloads": [{"type": EXPORT, "values": [float("inf")]}]}], "allowed: one number"),
    ("intervals", [{"payloads": [{"type": EXPORT, "values": [1]}] * 2}], "EXPORT_CAPACITY_LIMIT again"),
    ("intervals", [{"payloads": [{"values": [1]}]}], "allowed: objects with a type"),
    ("intervalPeriod", [], "intervalPeriod: found a list"),
    ("intervalPeriod", {"duration": "PT1H"}, "found no start"),
    ("intervalPeriod", {"start": "2026-03-02T12:00:00"}, "with a zone"),
    ("intervalPeriod", {"start": "2026-02-30T12:00:00Z"}, "with a zone"),
    ("intervalPeriod", {"start": 5}, "with a zone"),
    ("intervalPeriod", {"start": "9999-12-31T23:59:59-10:00"}, "with a zone"),
    ("intervalPeriod", {"start": "1999-01-01T00:00:00Z"}, "from 2000 to 2100"),
    ("intervalPeriod", {"start": START, "duration": "-PT1H"}, "allowed: 0 or more"),
    ("intervalPeriod", {"start": START, "duration": "1h"}, "a duration such as PT15M"),
    ("intervalPeriod", {"start": START, "duration": "P"}, "a duration such as PT15M"),
    ("intervalPeriod", {"start": START, "randomizeStart": "P2D"}, "86400 s or less"),
    ("payloadDescriptors", [{"payloadType": EXPORT, "units": "KVA"}], "found units 'KVA'"),
    ("payloadDescriptors", [{"payloadType": EXPORT, "units": u} for u in ("KW", "PERCENT")], "units several"),
    ("payloadDescriptors", [7], "payloadDescriptors: found 7"),
    ("reportDescriptors", [{}], "reportDescriptors: found an object"),
    ("duration", 3600, "duration: found 3600"),
]


@pytest.mark.parametrize(("key", "value", "why"), WRONG)
def test_what_is_wrong_in_an_event_is_named_with_its_key(key, value, why):
    with pytest.raises(Wrong, match=f"^.*{why}"):
        read(raw(10.0) | {key: value})


def test_units_that_nobody_tells_are_never_guessed():
    with pytest.raises(Wrong, match="found units none"):
        Reader([EXPORT]).event(raw(10.0), None, T0_S)
    own = raw(10.0, payloadDescriptors=[{"payloadType": EXPORT, "units": "KW"}])
    assert Reader([EXPORT]).event(own, None, T0_S).steps[0].kw == {EXPORT: 10.0}


def test_durations_are_those_of_the_standard():
    assert duration_s("P1DT2H3M4.5S", "") == 86400.0 + 7384.5
    assert duration_s("P2W", "") == 14 * 86400.0
    assert (duration_s("P1M", ""), duration_s("P1Y", "")) == (31 * 86400.0, 366 * 86400.0)


def book() -> Book:
    return Book(params(443, "ca.pem", "secret"), "seed", "EUR")


def test_targets_of_both_versions_are_read():
    one = book()
    for targets in (["plant"], [{"type": "VEN_NAME", "values": ["plant"]}], [], None):
        one.take([PROGRAM], [raw(10.0, targets=targets)], T0_S)
        assert one.events, targets
    for targets in (["other"], [{"type": "VEN_NAME", "values": ["other"]}]):
        one.take([PROGRAM], [raw(10.0, targets=targets)], T0_S)
        assert (one.events, one.others) == ({}, 1)
    words = one.take([PROGRAM], [raw(10.0, targets=[{"values": "plant"}])], T0_S)
    assert "targets: found an object" in words[0]


def test_answer_whose_objects_cannot_be_told_apart_counts_not_at_all():
    one = book()
    one.take([PROGRAM], [raw(10.0)], T0_S)
    more = [dict(raw(*([1.0] * 1500)), id=f"e{i}") for i in range(14)]
    for programs, events in (
        ([PROGRAM, PROGRAM], []),
        ([PROGRAM], [raw(1.0), raw(2.0)]),
        ([PROGRAM], [{}]),
        ([{"id": "p/1", "programName": "a"}], []),
        ([PROGRAM], more),
    ):
        with pytest.raises(NotBelieved):
            one.take(programs, copy.deepcopy(events), T0_S)
        bound = one.bound(EXPORT, None, T0_S)
        assert bound is not None
        assert bound.kw == 10.0
        assert list(one.heard_s) == ["e"]


def test_program_that_is_spoilt_spoils_its_own_events_alone():
    one = book()
    broken = {"id": "p2", "programName": "other", "targets": 7}
    words = one.take([PROGRAM, broken], [raw(10.0), raw(1.0) | {"id": "f", "programID": "p2"}], T0_S)
    assert words == ["event f: its program: targets: found 7; allowed: a list"]
    bound = one.bound(EXPORT, None, T0_S)
    assert bound is not None
    assert bound.kw == 10.0


def test_what_is_refused_is_told_once_while_it_stays():
    one = book()
    assert len(one.take([PROGRAM], [raw(-1.0)], T0_S)) == 1
    assert one.take([PROGRAM], [raw(-1.0)], T0_S) == []
    assert len(one.take([PROGRAM], [raw(-2.0, priority=-1)], T0_S)) == 1


DEMAND = {"payloadType": "DEMAND", "readingType": "MEAN", "units": "KW"}


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({"payloadType": "DEMAND"}, True),
        (DEMAND | {"startInterval": -1, "numIntervals": -1, "historical": True, "repeat": 1}, True),
        (DEMAND | {"readingType": "PEAK"}, False),
        (DEMAND | {"units": "KVA"}, False),
        (DEMAND | {"historical": False}, False),
        (DEMAND | {"frequency": 1}, False),
        (DEMAND | {"targets": [{"type": "RESOURCE_NAME", "values": ["bess"]}]}, False),
        ({"payloadType": "USAGE"}, False),
    ],
)
def test_only_mean_power_of_all_intervals_is_a_report_that_can_be_given(asked, wanted):
    event = read(raw(10.0, reportDescriptors=[asked]))
    assert (event.wants_demand, event.reports) == (wanted, () if wanted else (asked["payloadType"],))
    assert not read(raw(10.0, reportDescriptors=[asked], duration="P9999Y")).wants_demand
