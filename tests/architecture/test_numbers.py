"""No `x or 0` on a number: zero is a measurement, missing is a state (docs/conventions.md, section 7)."""

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.source_tree import Module, modules, parsed, report


def number_defaults(module: Module) -> Iterator[str]:
    for node in module.nodes:
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or) and is_number(node.values[-1]):
            yield f"{module.at(node.lineno)} {ast.unparse(node)}"


def is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        return is_number(node.operand)
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def test_number_defaults_shipped_code_has_none():
    found = [line for module in modules() for line in number_defaults(module)]
    assert not found, report("`or` with a number as default; ask `is None` instead:", found)


@pytest.mark.parametrize(
    ("text", "count"), [("a = x or 0", 1), ("a = x or -1.5", 1), ("a = x or y", 0), ("a = x or ''", 0)]
)
def test_number_defaults_made_up_code_counted(text, count):
    assert len(list(number_defaults(parsed(text)))) == count
