"""What the edge remembers of its alarms, and how a restart takes it up again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ems.alarm_table import alarm_table
from ems.alarms import LIVE, AlarmBook, AlarmEntry, AlarmState

LEAD_S = 5.0  # a condition that began so long before another is not explained by it


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """One alarm that is not at rest, and its timers [s, edge monotonic]."""

    entry: AlarmEntry
    present: bool = False  # the condition holds in this cycle
    began_s: float = 0.0  # when it came; a live alarm whose condition flaps began but once
    pending_since_s: float | None = None  # a delay is running
    shelved_until_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmMemory:
    """Every alarm that is not at rest, by key."""

    tracked: Mapping[str, Tracked] = field(default_factory=dict)

    def book(self, at: datetime) -> AlarmBook:
        """What operators see and a restart needs."""
        entries = (t.entry for t in self.tracked.values())
        return AlarmBook(at=at, entries=tuple(e for e in entries if e.shown is not AlarmState.NORMAL))


def remembered(book: AlarmBook | None, now: datetime, now_s: float) -> AlarmMemory:
    """The memory of an edge that starts: acknowledgements and shelves outlive a restart.

    What is left of a shelf is counted on the wall clock, and is never more than its alarm allows. What an
    alarm explained it goes on to explain, and nothing else.
    """
    table = alarm_table()
    age = {code: i + 1 for i, code in enumerate(table)}
    tracked: dict[str, Tracked] = {}
    for e in () if book is None else book.entries:
        if e.code not in table:
            continue  # the alarm left the table
        until_s = None
        if e.shelf is not None and e.shelf.until is not None:
            left_s = min((e.shelf.until - now).total_seconds(), table[e.code].shelvable_s_max)
            until_s = now_s + max(0.0, left_s)
        explained = e.suppressed_by is not None
        tracked[e.key] = Tracked(
            entry=e,
            present=e.state in LIVE,
            began_s=now_s if explained else now_s - 2.0 * LEAD_S * age[e.code],
            shelved_until_s=until_s,
        )
    return AlarmMemory(tracked=tracked)
