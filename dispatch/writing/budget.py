"""A daily budget of writes for registers that are backed by flash, and wear out.

Where a point map says `writes_per_day`, writes of a local day are counted. Once they are spent nothing is
written to the point until midnight but what protects, the safe table and the emergency stop: the budget never
refuses those, and counts them all the same. The count starts anew with the edge.
"""

from collections.abc import Iterator

from dispatch.authority.layers import FORCED
from dispatch.layout import Layout
from dispatch.state import EdgeState
from dispatch.vocabulary import Alarm, Decisions
from dispatch.writing.budget_memory import BudgetMemory
from ems.commands import Setpoint
from ems.frozen import replace
from ems.telemetry import Snapshot


def spent_points(layout: Layout, memory: BudgetMemory, snapshot: Snapshot) -> frozenset[str]:
    """Points whose budget of this day is spent."""
    if memory.day != snapshot.at.astimezone(layout.zone).date():
        return frozenset()
    return frozenset(p for p, n in memory.spent.items() if n >= layout.writes_per_day[p])


def over_budget(spent: frozenset[str], s: Setpoint) -> bool:
    """Whether this write has to wait for tomorrow."""
    return s.point in spent and not s.protective and s.cause not in FORCED


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
