"""The Python sessions of docs/optimizer.md, docs/cases.md and of the modules are run as they stand."""

import doctest
import re
from types import ModuleType

import pytest

from optimizer import case_solve, cases
from tests.conftest import PROJECT_ROOT

DOCS = PROJECT_ROOT / "docs"


def failed(test: doctest.DocTest) -> int:
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(test, out=said.append)
    print("".join(said))
    return runner.failures


@pytest.mark.parametrize("name", ["optimizer.md", "cases.md"])
def test_python_sessions_of_the_page_say_what_they_say(name: str):
    page = DOCS / name
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    session = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page.name, str(page), 0)
    assert len(session.examples) >= 8
    assert failed(session) == 0


@pytest.mark.parametrize("module", [cases, case_solve], ids=lambda m: m.__name__)
def test_examples_of_the_docstrings_hold(module: ModuleType):
    tests = [t for t in doctest.DocTestFinder().find(module) if t.examples]
    assert tests
    assert sum(failed(t) for t in tests) == 0
