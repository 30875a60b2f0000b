"""Who decides by the hour or the date asks `calendar`, which is None while it is not known what time it is.

Record time (`at` of a snapshot or a condition) is for records, and for how long ago something was recorded.
"""

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.source_tree import Module, modules, parsed, report

CALENDAR = frozenset(
    {"holds", "local_time", "astimezone", "known_outages", "price_place", "windows", "standing"}
)
RECORDED = frozenset({"snapshot", "condition", "c", "known", "decisions"})  # what has a record time, by name
COUNTERS = {  # what they look up is the day, month or hour in which something is counted
    "dispatch/observing/asset_conditions.py",
    "dispatch/observing/bess_use.py",
    "dispatch/observing/contract_meters.py",
    "dispatch/observing/counters.py",
    "dispatch/observing/deferrables.py",
    "dispatch/observing/duty.py",
    "dispatch/observing/import_meter.py",
    "dispatch/restart.py",
    "dispatch/writing/budget.py",
}


def called(node: ast.AST) -> str:
    match node:
        case ast.Call(func=ast.Attribute(attr=name)) | ast.Call(func=ast.Name(id=name)):
            return name
    return ""


def by_record_time(module: Module) -> Iterator[str]:
    """Reads of record time in a module that looks something up in the calendar."""
    if not any(called(node) in CALENDAR for node in module.nodes):
        return
    for node in module.nodes:
        match node:
            case ast.Attribute(attr="at", value=ast.Name(id=of) | ast.Attribute(attr=of)) if of in RECORDED:
                yield f"{module.at(node.lineno)} {ast.unparse(node)}"


def test_calendar_is_looked_up_by_calendar_and_not_by_record_time():
    watched = [m for m in modules() if m.package == "dispatch" and m.path.as_posix() not in COUNTERS]
    found = [line for module in watched for line in by_record_time(module)]
    assert not found, report("record time where it must be `calendar`:", found)


def test_calendar_every_counter_is_there():
    assert {m.path.as_posix() for m in modules()} >= COUNTERS


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("local_time(snapshot.at, zone)", 1),
        ("window.holds(context.condition.at)", 1),
        ("known_outages(given.outages, given.snapshot.at)", 1),
        ("local_time(snapshot.calendar, zone)", 0),
        ("record(at=snapshot.at)", 0),
    ],
)
def test_by_record_time_made_up_code(text: str, found: int):
    assert len(list(by_record_time(parsed(text)))) == found
