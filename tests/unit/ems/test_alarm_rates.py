"""Figures on alarms against cases small enough to count by hand, and a slow count of random journals."""

from datetime import datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ems.alarm_rates import alarm_rates
from ems.alarms import AlarmBook, AlarmEntry, AlarmState, Hold, Priority
from ems.records import EventRecord
from tests.builders import T0

END = T0 + timedelta(hours=2)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def rang(seconds: float, key: str = "a", priority: str = "low") -> EventRecord:
    return EventRecord(
        at=at(seconds), kind="alarm.raised", fields={"key": key, "priority": priority, "annunciated": True}
    )


def did(seconds: float, kind: str, key: str = "a") -> EventRecord:
    return EventRecord(
        at=at(seconds), kind=kind, fields={"key": key, "priority": "low", "annunciated": False}
    )


def test_rates_quiet_window_is_all_zero():
    rates = alarm_rates([], T0, END)
    assert (rates.alarms, rates.mean_per_h, rates.peak_10_min, rates.floods) == (0, 0.0, 0, ())
    assert (rates.top_ten_share, rates.mean_acknowledge_s) == (0.0, None)


def test_rates_counted_by_hand():
    journal = [
        rang(0.0, "a", "high"), rang(20.0, "b"), rang(40.0, "b"), rang(59.0, "b"),
        did(66.0, "alarm.cleared", "b"),
        did(90.0, "alarm.acknowledged", "a"), did(100.0, "alarm.acknowledged", "b"),
        did(200.0, "alarm.suppressed", "c"), rang(7100.0, "c"),
    ]  # fmt: skip
    rates = alarm_rates(journal, T0, END)
    assert (rates.alarms, rates.mean_per_h, rates.peak_10_min) == (5, 2.5, 4)
    assert rates.by_priority == {
        Priority.CRITICAL: 0, Priority.HIGH: 1, Priority.MEDIUM: 0, Priority.LOW: 4,
    }  # fmt: skip
    assert rates.top_ten == {"b": 3, "a": 1, "c": 1}
    assert (rates.chattering, rates.fleeting) == (("b",), ("b",))
    assert (rates.acknowledged, rates.mean_acknowledge_s, rates.acknowledge_s_max) == (2, 65.5, 90.0)


def test_rates_flood_begins_with_the_eleventh_and_ends_under_five():
    journal = [rang(10.0 * i, f"k{i}") for i in range(14)]
    (flood,) = alarm_rates(journal, T0, END).floods
    assert flood.start == at(100.0)
    assert flood.end == at(600.0 + 90.0)  # the tenth is ten minutes old: four are left
    assert flood.alarms == 14
    assert alarm_rates(journal, T0, END).flood_ratio == pytest.approx(590.0 / 7200.0)
    assert alarm_rates(journal[:10], T0, END).floods == ()


def test_rates_flood_that_lasts_has_no_end():
    rates = alarm_rates([rang(7000.0 + i, f"k{i}") for i in range(11)], T0, END)
    assert [f.end for f in rates.floods] == [None]


def test_rates_standing_for_a_day_is_stale_and_shelved_ones_are_counted():
    def entry(key: str, hours: float, shelf: Hold | None = None) -> AlarmEntry:
        return AlarmEntry(
            key=key, code=key, asset=None, state=AlarmState.ACKNOWLEDGED, priority=Priority.LOW, text="",
            raised_at=END - timedelta(hours=hours), shelf=shelf,
        )  # fmt: skip

    book = AlarmBook(
        at=END,
        entries=(
            entry("old", 24.1),
            entry("new", 23.9),
            entry("shelf", 99.0, shelf=Hold(who="ada", why="x")),
        ),
    )
    rates = alarm_rates([], T0, END, book)
    assert (rates.stale, rates.shelved) == (("old",), 1)


@settings(max_examples=50, deadline=None)
@example(seconds=[0, 0, 0, 0, 0, 0, 103, 104, 104, 104, 104, 703])  # one comes as another is ten minutes old
@given(st.lists(st.integers(0, 7199), max_size=60))
def test_rates_peak_and_flood_agree_with_a_slow_count(seconds):
    rates = alarm_rates([rang(float(s), f"k{i}") for i, s in enumerate(seconds)], T0, END)
    in_10_min = [sum(s - 600 < x <= s for x in seconds) for s in seconds]
    assert rates.peak_10_min == max(in_10_min, default=0)
    flooded, count = False, 0
    for now in range(7200):
        count = sum(now - 600 < x <= now for x in seconds)
        flooded = count > 10 or (flooded and count >= 5)
        inside = any(f.start <= at(now) and (f.end is None or at(now) < f.end) for f in rates.floods)
        assert inside is flooded, now
