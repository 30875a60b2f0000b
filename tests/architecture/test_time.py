"""Control and record time come from the Clock port (docs/conventions.md, section 3)."""

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.source_tree import Module, modules, parsed, report

FORBIDDEN = {
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
    "Timestamp": {"now", "utcnow", "today"},
    "time": {
        "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep",
        "localtime", "gmtime",
    },
    "asyncio": {"sleep"},
}  # fmt: skip
LOOP_METHODS = {"call_later", "call_at"}
ANY_FORBIDDEN = frozenset().union(*FORBIDDEN.values())
ALLOWED_FILES = {"ems/clock.py"}
ALLOWED_PACKAGES = {"connectors"}  # wire time-outs


def aliases(module: Module) -> dict[str, str]:
    """Map the names of this module to what they were imported as: `import time as t` gives t -> time."""
    names: dict[str, str] = {}
    for node in module.nodes:
        if isinstance(node, ast.Import):
            names |= {a.asname or a.name: a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module in FORBIDDEN:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return names


def uses_of_the_wall_clock(module: Module) -> Iterator[str]:
    names = aliases(module)
    for node in module.nodes:
        match node:
            case ast.Attribute(attr=attr) if attr in LOOP_METHODS:
                yield f"{module.at(node.lineno)} {ast.unparse(node)}"
            case ast.Attribute(attr="time", value=value) if "loop" in ast.unparse(value).lower():
                yield f"{module.at(node.lineno)} {ast.unparse(node)}"
            case ast.Attribute(attr=attr, value=value) if attr in ANY_FORBIDDEN:
                origin = names.get(ast.unparse(value), ast.unparse(value)).rsplit(".", 1)[-1]
                if attr in FORBIDDEN.get(origin, ()):
                    yield f"{module.at(node.lineno)} {ast.unparse(node)}"
            case ast.Name(id=name) if name in names and "." in names[name]:
                origin, attr = names[name].rsplit(".", 1)
                if attr in FORBIDDEN.get(origin, ()) and (origin, attr) != ("datetime", "datetime"):
                    yield f"{module.at(node.lineno)} {name}"


def test_wall_clock_shipped_code_lives_in_the_clock_module_alone():
    watched = [
        m for m in modules() if m.path.as_posix() not in ALLOWED_FILES and m.package not in ALLOWED_PACKAGES
    ]
    found = [line for module in watched for line in uses_of_the_wall_clock(module)]
    assert not found, report("uses of the wall clock outside ems/clock.py:", found)


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.monotonic()",
        "import time as t\nx = t.perf_counter",
        "from time import sleep as doze\ndoze(1)",
        "import datetime as dt\ndt.datetime.now(dt.UTC)",
        "from datetime import datetime, UTC\ndatetime.now(UTC)",
        "import asyncio\nasyncio.sleep(1)",
        "import asyncio\nasyncio.get_running_loop().time()",
        "loop.call_later(1, f)",
    ],
)
def test_uses_of_the_wall_clock_made_up_code_found(text):
    assert len(list(uses_of_the_wall_clock(parsed(text)))) == 1


@pytest.mark.parametrize(
    "text", ["clock.now()", "from datetime import datetime\ndatetime.fromisoformat(x)", "row.time"]
)
def test_uses_of_the_wall_clock_innocent_code_passes(text):
    assert not list(uses_of_the_wall_clock(parsed(text)))
