"""A daily budget of writes for registers that are backed by flash, and wear out.

Where a point map says `writes_per_day`, writes of a local day are counted. Once they are spent nothing is
written to the point until midnight but what protects, the safe table and the emergency stop: the budget never
refuses those, and counts them all the same. A restart goes on with what the audit trail holds of this day, so
that an edge that dies and comes back again and again wears nothing out. What a plan or a rule wishes of PV
follows the load: it lowers a limit only while half of the budget is left, so that it can come up again.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time

from dispatch.authority.layers import FORCED
from dispatch.layout import Layout
from dispatch.state import EdgeState
from dispatch.vocabulary import Alarm, Decisions
from dispatch.writing.budget_memory import BudgetMemory
from ems.commands import Setpoint
from ems.frozen import replace
from ems.local_time import local_time
from ems.telemetry import Snapshot

PV_WISH_SHARE = 0.5  # of the budget, after which a wish lowers a PV limit no more
Count = Callable[[str, datetime, datetime, int], int]


def spent_points(
    layout: Layout, memory: BudgetMemory, snapshot: Snapshot, share: float = 1.0
) -> frozenset[str]:
    """Points whose budget of this day is spent, or `share` of it."""
    if memory.day != local_time(snapshot.at, layout.zone).date():
        return frozenset()
    return frozenset(p for p, n in memory.spent.items() if n >= share * layout.writes_per_day[p])


def over_budget(spent: frozenset[str], s: Setpoint) -> bool:
    """Whether this write has to wait for tomorrow."""
    return s.point in spent and not s.protective and s.cause not in FORCED


def going_on(layout: Layout, state: EdgeState, now: datetime, count: Count) -> EdgeState:
    """The state of an edge that starts, with what those before it have written today."""
    return replace(state, budget=counted_before(layout, now, count))


def counted_before(layout: Layout, now: datetime, count: Count) -> BudgetMemory:
    """What edges before this one have written today.

    Parameters
    ----------
    count : writes to a point in [start, end) in the audit trail, not more than a number.
    """
    if not layout.writes_per_day:
        return BudgetMemory()
    day = now.astimezone(layout.zone).date()
    start = datetime.combine(day, time(), layout.zone).astimezone(UTC)
    spent = {p: count(p, start, now, n) for p, n in layout.writes_per_day.items()}
    return BudgetMemory(day=day, spent={p: n for p, n in spent.items() if n > 0})


def counted(layout: Layout, after: EdgeState, known: BudgetMemory, decisions: Decisions) -> EdgeState:
    """The state after a tick, with what it sends counted beside what is `known`."""
    if not layout.writes_per_day:
        return after
    day = decisions.at.astimezone(layout.zone).date()
    spent = dict(known.spent) if known.day == day else {}
    for c in decisions.commands:
        if c.point in layout.writes_per_day:
            spent[c.point] = spent.get(c.point, 0) + 1
    return replace(after, budget=BudgetMemory(day=day, spent=spent))


def budget_alarms(layout: Layout, memory: BudgetMemory) -> Iterator[Alarm]:
    """One for each point whose budget is spent."""
    for point, n in memory.spent.items():
        if n >= layout.writes_per_day[point]:
            text = f"{n} of {layout.writes_per_day[point]} writes today: only what protects is written"
            yield Alarm(code="setpoint.budget_spent", asset=point, text=text)
