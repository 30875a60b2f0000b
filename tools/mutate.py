"""Plants faults, one at a time, in the code that decides who may command; tells which no test finds.

usage: tools/mutate.py [--group NAME] [--only TEXT] [--again] [--list]      (make mutate MUTATE_ARGS="...")

The tests of a group are collected once and run once under coverage. For each fault this process forks; the
child puts the changed code in place of the running one, in functions, methods and properties alike, and runs
the tests that pass through the changed line, quickest first, up to the first that fails. What was found stays
in build/mutation.json under a hash of its function: a fault that was killed is not asked again while its
function stays, a survivor is as soon as a test has changed. A run can be ended at any time and goes on there.
"""

import argparse
import ast
import copy
import hashlib
import importlib
import json
import os
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coverage
import pytest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "build" / "mutation.json"
UNIT = "tests/unit/dispatch/test_"
TIMES_SLOWER, TIME_S = 10.0, 20.0  # a fault that makes a test so much slower is found
AUTHORITY_TESTS = ("control", "authority_gate", "authority_edges", "leases", "desk_rights")
WRITING_TESTS = (
    "authority_gate", "contention", "effect", "last_line", "rounding", "write_budget", "write_outcomes",
    "writing_edges",
)  # fmt: skip
RANDOM = "hostile or intersect_a or skipped_authority or never_exceeds"  # slow: each survivor would run them
GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "authority": (
        ("dispatch/authority/*.py",),
        (*(f"{UNIT}{t}.py" for t in AUTHORITY_TESTS), "tests/scenarios/test_67_select_before_operate.py"),
    ),
    "plan_check": (
        ("dispatch/controllers/plan_check.py", "dispatch/controllers/plan_moves.py"),
        (f"{UNIT}plan_check.py", f"{UNIT}plan_check_edges.py", f"{UNIT}plan_moves.py"),
    ),
    "writing": (("dispatch/writing/*.py",), tuple(f"{UNIT}{t}.py" for t in WRITING_TESTS)),
}
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
            line = getattr(node, "lineno", None) or getattr(getattr(node, "target", None), "lineno", 0)
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
        elif name.isupper() and not isinstance(new, type | types.FunctionType):
            module.__dict__[name] = new if type(new) in (int, float, bool) else old


def _methods(old: type, new: type) -> None:
    for name, one in list(vars(new).items()):
        was = vars(old).get(name)
        if isinstance(one, property) and isinstance(was, property) and one.fget and was.fget:
            was.fget.__code__ = one.fget.__code__  # type: ignore[attr-defined]
        elif isinstance(one, types.FunctionType) and isinstance(was, types.FunctionType):
            was.__code__ = one.__code__


class Session:
    """A pytest plugin: the tests once under coverage, then every fault."""

    def __init__(self, group: str, options: argparse.Namespace) -> None:
        self.group, self.options = group, options
        self.files = sorted(p for pattern in GROUPS[group][0] for p in ROOT.glob(pattern))
        tests = "".join(p.read_text() for p in sorted((ROOT / "tests/unit/dispatch").glob("*.py")))
        self.tests_hash = hashlib.sha256(tests.encode()).hexdigest()[:12]
        self.known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        self.seconds: dict[str, float] = {}

    def pytest_configure(self) -> None:
        """Before tests are imported: a fault is to be found, not made small, by the same examples."""
        from hypothesis import Phase, settings  # pytest must see it first

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutate", phases=phases, database=None, derandomize=True)
        settings.load_profile("mutate")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In place of pytest's own loop."""
        through = self._first_run(session)
        if session.testsfailed:
            print("the tests fail as they are: no fault is planted")
            return True
        for path in self.files:
            self._module(session, path, through)
        return True

    def _first_run(self, session: pytest.Session) -> dict[tuple[str, int], list[pytest.Item]]:
        cov = coverage.Coverage(data_file=None, config_file=False, include=[str(p) for p in self.files])
        cov.start()
        for item, after in zip(session.items, [*session.items[1:], None], strict=True):
            cov.switch_context(item.nodeid)
            begun = time.perf_counter()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            self.seconds[item.nodeid] = time.perf_counter() - begun
        cov.stop()
        by_id = {item.nodeid: item for item in session.items}
        out: dict[tuple[str, int], list[pytest.Item]] = {}
        for path in cov.get_data().measured_files():
            for line, contexts in cov.get_data().contexts_by_lineno(path).items():
                items = [by_id[c] for c in contexts if c in by_id]
                out[(path, line)] = sorted(items, key=lambda i: self.seconds[i.nodeid])
        return out

    def _module(
        self, session: pytest.Session, path: Path, through: dict[tuple[str, int], list[pytest.Item]]
    ) -> None:
        source, name = path.read_text(), str(path.relative_to(ROOT))
        module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
        tree = ast.parse(source)
        by_function: dict[str, str] = {"": source}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                by_function[node.name] = ast.get_source_segment(source, node) or ""
        count: dict[str, int] = {}
        for fault in faults_of(tree):
            body = by_function.get(fault.function.rpartition(".")[2], source)
            what = f"{body}{fault.operator}{fault.was}{fault.becomes}"
            stem = hashlib.sha256(what.encode()).hexdigest()[:12]
            count[stem] = count.get(stem, 0) + 1
            key = f"{name}:{fault.function}:{stem}:{count[stem]}"
            if self.options.only and self.options.only not in key:
                continue
            if self._settled(key):
                self.known[key]["line"] = fault.line
                continue
            items = self._items(path, fault, through)
            end = self._try(items, module, changed_tree(source, fault))
            self.known[key] = {
                "group": self.group, "file": name, "line": fault.line, "function": fault.function,
                "operator": fault.operator, "was": fault.was, "becomes": fault.becomes, "end": end,
                "tests": self.tests_hash,
            }  # fmt: skip
            RESULTS.write_text(json.dumps(self.known, indent=0))
            if end != "killed":
                print(said(self.known[key]), flush=True)

    def _items(
        self, path: Path, fault: Fault, through: dict[tuple[str, int], list[pytest.Item]]
    ) -> list[pytest.Item]:
        """The tests that pass through its line, through its module for a constant of the module."""
        if fault.function:
            return through.get((str(path), fault.line), [])
        every = {i.nodeid: i for (p, _), items in through.items() if p == str(path) for i in items}
        return sorted(every.values(), key=lambda i: self.seconds[i.nodeid])

    def _settled(self, key: str) -> bool:
        known = self.known.get(key)
        if known is None or self.options.again:
            return False
        return bool(known["end"] == "killed" or known["tests"] == self.tests_hash)

    def _try(self, items: list[pytest.Item], module: types.ModuleType, tree: ast.Module) -> str:
        """killed, survived, or not reached."""
        if not items:
            return "not reached"
        limit_s = TIME_S + TIMES_SLOWER * sum(self.seconds[i.nodeid] for i in items)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            self._child(items, module, tree)
        end_s = time.monotonic() + limit_s
        while time.monotonic() < end_s:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "killed"

    def _child(self, items: list[pytest.Item], module: types.ModuleType, tree: ast.Module) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        try:
            put_in_place(module, tree)
            session = items[0].session
            session.config.pluginmanager.unregister(name="terminalreporter")
            for item, after in zip(items, [*items[1:], None], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
                if session.testsfailed:
                    os._exit(1)
        except BaseException:  # noqa: BLE001  whatever it breaks, it is found
            os._exit(2)
        os._exit(0)


def said(x: dict[str, Any]) -> str:
    """One fault in one line."""
    return f"{x['end']}: {x['file']}:{x['line']} {x['operator']}: {x['was']} -> {x['becomes']}"


def told(known: dict[str, Any]) -> None:
    """Figures by file, over what is known."""
    by_file: dict[str, list[str]] = {}
    for x in known.values():
        by_file.setdefault(x["file"], []).append(x["end"])
    for name, ends in sorted(by_file.items()):
        killed = ends.count("killed")
        print(f"{name:46} {killed:4} of {len(ends):4} killed, {100.0 * killed / len(ends):5.1f} %")
    ends = [x["end"] for x in known.values()]
    killed = ends.count("killed")
    print(f"{'all':46} {killed:4} of {len(ends):4} killed, {100.0 * killed / max(1, len(ends)):5.1f} %")


def main() -> int:
    """Run the groups, tell the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--group", choices=sorted(GROUPS), action="append")
    parser.add_argument("--only", help="faults whose file:function holds this text")
    parser.add_argument("--again", action="store_true", help="ask what is known anew")
    parser.add_argument("--list", action="store_true", help="tell what is known, plant nothing")
    options = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    RESULTS.parent.mkdir(exist_ok=True)
    if not options.list:
        for group in options.group or sorted(GROUPS):
            if os.fork() == 0:  # each with its own collection
                plugin = Session(group, options)
                off = ["-p", "no:cacheprovider", "-p", "no:xdist"]
                quick = ["-k", f"not ({RANDOM})"] if group == "writing" else []
                pytest.main(["-q", "--no-header", *off, *quick, *GROUPS[group][1]], [plugin])
                os._exit(0)
            os.wait()
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for x in sorted(known.values(), key=lambda x: (x["file"], x["line"])):
        if options.list and x["end"] != "killed":
            print(said(x))
    told(known)
    return 0


if __name__ == "__main__":
    sys.exit(main())
