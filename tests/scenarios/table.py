"""The table of docs/scenarios.md: titles and reasons from scenarios.csv, tests from the markers in this tree.

python -m tests.scenarios.table      # writes docs/scenarios.md anew
"""

import ast
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "scenarios.md"
ROWS = Path(__file__).with_name("scenarios.csv")
COUNT = 68
HEAD = """# Scenarios

The acceptance scenarios of the dispatch loop: what is inflicted on a simulated plant, and where the test is.
Each test asserts the scenario's threshold. Most run the production edge in virtual time, with every oracle of
[soak.md](soak.md) evaluated at each write and after each tick. These do not:

- 25 to 30 and the links of 33 and 49 run the connectors against devices and servers, without an edge: 25 in
  the clock of its event loop, 26 and 27 at the door of the transport, the others in wall time.
- 20, 36, 37 and 52 are about what is found and permitted before anything is written; 33, 41 to 44 and 47 also
  about the planner and its inputs alone.
- 45, 48 to 51 and 64 run processes, files and sockets of this machine, in wall time where they need it.
- 46, 65 to 67 also run single functions of the edge, without a plant.
- `test_alarm_counts.py` and single tests of 12, 19, 22, 23, 35, 36 and 53 run the edge without oracles: the
  plant is dead, in shadow, or what is told of it is not true.

A test carries its number (`@pytest.mark.scenario(14)`); this page is made from the markers by
`python -m tests.scenarios.table`.

*Run*: there is a test, and it passes. *In part*: the test leaves out what the last column says.

| # | Scenario | Status | Test | What is missing |
|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """One test that carries a scenario's number."""

    number: int
    path: str
    name: str
    left: str  # what the test leaves out


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One scenario."""

    number: int
    title: str
    why_not: str


def scenarios() -> list[Row]:
    """All scenarios, in order."""
    with ROWS.open(newline="") as file:
        rows = csv.DictReader(file)
        return [Row(number=int(r["number"]), title=r["title"], why_not=r["why_not"]) for r in rows]


def marked() -> list[Marked]:
    """Every test below tests/ with a scenario marker, by path and name."""
    found: list[Marked] = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text()
        if "mark.scenario" in text:
            found += _in(ast.parse(text), path.relative_to(ROOT).as_posix())
    return found


def _in(tree: ast.Module, path: str) -> Iterator[Marked]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                yield from _of(decorator, path, node.name)
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            marks = node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else [node.value]
            for mark in marks:
                yield from _of(mark, path, "")


def _of(mark: ast.expr, path: str, name: str) -> Iterator[Marked]:
    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.scenario":
        left = next((str(ast.literal_eval(k.value)) for k in mark.keywords if k.arg == "left"), "")
        for arg in mark.args:
            yield Marked(number=int(ast.literal_eval(arg)), path=path, name=name, left=left)


def page() -> str:
    """The page as it should be."""
    by_number: dict[int, list[Marked]] = {}
    for m in marked():
        by_number.setdefault(m.number, []).append(m)
    return HEAD + "".join(_line(r, by_number.get(r.number, [])) for r in scenarios())


def _line(row: Row, tests: list[Marked]) -> str:
    if not tests:
        return f"| {row.number} | {row.title} | not yet | | {row.why_not} |\n"
    files = sorted({t.path for t in tests})
    where = ", ".join(f"[{Path(f).name}](../{f})" for f in files)
    left = "; ".join(dict.fromkeys(part for t in tests for part in t.left.split("; ") if part))
    return f"| {row.number} | {row.title} | {'in part' if left else 'run'} | {where} | {left} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
