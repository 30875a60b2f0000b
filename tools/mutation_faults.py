"""Every fault that can be planted in a module, and how it comes under the code that runs.

Words (f-strings, reasons), annotations, decorators, defaults and bodies of classes are left alone.
"""

import ast
import copy
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

WORDS = frozenset({"reason", "text", "why"})  # what people read; wording is no behaviour

BOUNDARY = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
OPPOSITE = {
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
TWINS = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass
class Fault:
    """One change of one place: `apply` changes a node of a copy of the tree."""

    operator: str
    line: int
    function: str
    node: int  # place of the node in ast.walk
    was: str
    becomes: str
    apply: Callable[[ast.AST], None] = field(repr=False)


def changes_of(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], None]]]:
    """(operator, what it does to this node)."""
    match node:
        case ast.Compare(ops=[op]):
            if type(op) in BOUNDARY:
                yield "boundary", lambda n: setattr(n, "ops", [BOUNDARY[type(op)]()])
            if type(op) in OPPOSITE:
                yield "comparison", lambda n: setattr(n, "ops", [OPPOSITE[type(op)]()])
        case ast.Compare(ops=[_, _]):
            for k in (0, 1):
                if type(node.ops[k]) in BOUNDARY:
                    yield "boundary", lambda n, k=k: n.ops.__setitem__(k, BOUNDARY[type(n.ops[k])]())  # type: ignore[misc]
                    yield "comparison", lambda n, k=k: n.ops.__setitem__(k, OPPOSITE[type(n.ops[k])]())  # type: ignore[misc]
        case ast.BoolOp():
            other = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield "boolean", lambda n: setattr(n, "op", other())
            for k in range(len(node.values)):
                yield "boolean", lambda n, k=k: setattr(n, "values", _without(n.values, k))  # type: ignore[misc]
        case ast.If() | ast.IfExp() | ast.While():
            if not isinstance(node.test, ast.Compare):  # for one the operators above do it
                yield "condition", lambda n: setattr(n, "test", ast.UnaryOp(op=ast.Not(), operand=n.test))
        case ast.comprehension() if node.ifs:
            yield "condition", lambda n: n.ifs.clear()
        case ast.BinOp() if type(node.op) in ARITHMETIC and not _text(node):
            yield "arithmetic", lambda n: setattr(n, "op", ARITHMETIC[type(n.op)]())
        case ast.UnaryOp(op=ast.USub()):
            yield "arithmetic", lambda n: setattr(n, "op", ast.UAdd())
        case ast.UnaryOp(op=ast.Not()):
            yield "boolean", lambda n: setattr(n, "operand", ast.UnaryOp(op=ast.Not(), operand=n.operand))
        case ast.Constant(value=bool()):
            yield "constant", lambda n: setattr(n, "value", not n.value)
        case ast.Constant(value=int() | float()):
            yield "constant", lambda n: setattr(n, "value", n.value + 1)
        case ast.Call(func=ast.Name(id=name)) if name in TWINS:
            yield "call", lambda n: setattr(n.func, "id", TWINS[n.func.id])
        case ast.Return(value=value) if value is not None and not _nothing(value):
            yield "return", lambda n: setattr(n, "value", ast.Constant(value=None))


def _without(values: list[ast.expr], k: int) -> list[ast.expr]:
    """Without the k-th; one alone stands twice, since `and` and `or` want two."""
    rest = [v for i, v in enumerate(values) if i != k]
    return rest if len(rest) > 1 else rest * 2


def _text(node: ast.AST) -> bool:
    words = (x for x in ast.walk(node) if isinstance(x, ast.JoinedStr | ast.Constant))
    return any(not isinstance(getattr(x, "value", 0.0), int | float) for x in words)


def _nothing(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _deletable(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)  # a docstring
    return isinstance(node, ast.AugAssign | ast.Raise | ast.Continue | ast.Break)


def _skipped(tree: ast.Module) -> set[int]:
    """Nodes that are words or types: f-strings, annotations, decorators, class bodies, defaults."""
    roots: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            roots += [*node.decorator_list, node.args]
            roots += [node.returns] if node.returns else []
        elif isinstance(node, ast.ClassDef):
            roots += [*node.decorator_list, *(x for x in node.body if not isinstance(x, ast.FunctionDef))]
        elif isinstance(node, ast.AnnAssign):
            roots.append(node.annotation)
        elif isinstance(node, ast.JoinedStr) or (isinstance(node, ast.keyword) and node.arg in WORDS):
            roots.append(node)
    return {id(x) for root in roots for x in ast.walk(root)}


def faults_of(tree: ast.Module) -> list[Fault]:
    """Every fault of a module, in the order of its text."""
    skipped, out = _skipped(tree), []
    inside: dict[int, str] = {}

    def name(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            here = prefix
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                here = f"{prefix}.{child.name}".lstrip(".")
            inside[id(child)] = here
            name(child, here)

    name(tree, "")
    for k, node in enumerate(ast.walk(tree)):
        if id(node) in skipped:
            continue
        found = list(changes_of(node))
        if _deletable(node):
            found.append(("deletion", lambda n: None))
        for operator, apply in found:
            changed = copy.deepcopy(node)
            apply(changed)
            text = "pass" if operator == "deletion" else _unparsed(changed)
            at = getattr(node, "test", None) or getattr(
                node, "target", node
            )  # of a condition: where it begins
            line = int(getattr(at, "lineno", 0))
            fault = Fault(operator, line, inside.get(id(node), ""), k, _unparsed(node), text, apply)
            out.append(fault)
    return sorted(out, key=lambda f: (f.line, f.node))


def _unparsed(node: ast.AST) -> str:
    if isinstance(node, ast.If | ast.While):
        return f"if {ast.unparse(node.test)}"
    if isinstance(node, ast.comprehension):
        tests = "".join(f" if {ast.unparse(x)}" for x in node.ifs)
        return f"for {ast.unparse(node.target)} in {ast.unparse(node.iter)}{tests}"
    return ast.unparse(ast.fix_missing_locations(node))


def changed_tree(source: str, fault: Fault) -> ast.Module:
    """The module with one fault in it."""
    tree = ast.parse(source)
    node = next(n for k, n in enumerate(ast.walk(tree)) if k == fault.node)
    if fault.operator == "deletion":
        for parent in ast.walk(tree):
            for body in ("body", "orelse", "finalbody"):
                rows = getattr(parent, body, None)
                if isinstance(rows, list) and node in rows:
                    rows[rows.index(node)] = ast.copy_location(ast.Pass(), node)  # type: ignore[arg-type]
    else:
        fault.apply(node)
    return ast.fix_missing_locations(tree)


def put_in_place(module: types.ModuleType, tree: ast.Module) -> None:
    """The changed code of every function under the running one, so that whoever imported it runs it too."""
    room = types.ModuleType(module.__name__)
    room.__dict__.update(__file__=module.__file__, __package__=module.__package__)
    exec(compile(tree, str(module.__file__), "exec"), room.__dict__)  # noqa: S102  our own source
    for name, new in list(room.__dict__.items()):
        old = module.__dict__.get(name)
        if isinstance(new, types.FunctionType) and isinstance(old, types.FunctionType):
            if new.__module__ == module.__name__:
                old.__code__ = new.__code__
        elif isinstance(new, type) and isinstance(old, type) and new.__module__ == module.__name__:
            _methods(old, new)
        elif name.isupper() and isinstance(new, int | float | timedelta | tuple | frozenset) and new != old:
            for other in list(sys.modules.values()):  # and in those that imported it, tests left out
                ours = getattr(other, "__file__", None) and not other.__name__.startswith("tests")
                if ours and other.__dict__.get(name) is old:
                    other.__dict__[name] = new


def _methods(old: type, new: type) -> None:
    for name, one in list(vars(new).items()):
        was = vars(old).get(name)
        if isinstance(one, property) and isinstance(was, property) and one.fget and was.fget:
            was.fget.__code__ = one.fget.__code__  # type: ignore[attr-defined]
        elif isinstance(one, types.FunctionType) and isinstance(was, types.FunctionType):
            was.__code__ = one.__code__
