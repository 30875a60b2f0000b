"""Functions and modules stay small enough to read (docs/conventions.md, section 6)."""

import ast

from tests.architecture.source_tree import functions, modules, parsed, report

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 500


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines from `def` to the end, without the docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def test_functions_shipped_code_are_short():
    found = [
        f"{module.at(node.lineno)} {node.name}: {length(node)} lines"
        for module in modules()
        for node in functions(module)
        if length(node) > FUNCTION_LINES_MAX
    ]
    assert not found, report(f"functions over {FUNCTION_LINES_MAX} lines (docstring not counted):", found)


def test_modules_shipped_code_are_short():
    found = [
        f"{module.path}: {lines} lines"
        for module in modules()
        if (lines := len(module.text.splitlines())) > MODULE_LINES_MAX
    ]
    assert not found, report(f"modules over {MODULE_LINES_MAX} lines:", found)


def test_length_function_with_docstring_counts_the_code_only():
    (node,) = functions(parsed('def f():\n    """One.\n\n    Two.\n    """\n    a = 1\n    return a\n'))
    assert length(node) == 3
