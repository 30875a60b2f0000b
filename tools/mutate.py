"""Plants faults, one at a time, in the code that decides who may command; tells which no test finds.

usage: tools/mutate.py [--group NAME] [--only TEXT] [--again] [--list]      (make mutate MUTATE_ARGS="...")

The tests of a group are collected once and run once under coverage. For each fault this process forks; the
child puts the changed code in place of the running one, in functions, methods and properties alike, and runs
the tests that pass through the changed line up to the first that fails: those that found a fault of the same
function first, then the quickest, until --bound seconds of processor time are used up. A test that needs ten
times as long as it does is ended, and the fault counts as found. What was found stays in build/mutation.json
under a hash of its function: a fault that was killed is not asked again while its function stays, a survivor
is as soon as a test has changed. A run can be ended at any time and goes on there. Survivors that are meant
to stay are listed with the reason in tools/mutation_left.csv; they count as not found all the same.
"""

import argparse
import ast
import csv
import gc
import hashlib
import importlib
import json
import os
import signal
import sys
import time
import types
from collections import Counter
from pathlib import Path
from typing import Any

import coverage
import pytest
from mutation_faults import Fault, changed_tree, faults_of, put_in_place

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "build" / "mutation.json"
LEFT = ROOT / "tools" / "mutation_left.csv"  # survivors with the reason: file,function,was,becomes,reason
UNIT = "tests/unit/dispatch/test_"
CPU_S, TIMES_SLOWER = 1.0, 10.0  # a fault that makes a test so much slower is found
WALL_S, WALL_TIMES = 60.0, 30.0  # one that waits for ever is found too, on a machine that does other things
FINDERS = 12  # tests that come first since they found a fault of the same function
UNPLANTED = 77
AUTHORITY_TESTS = (
    "authority_edges", "authority_gate", "authority_layers", "control", "control_limits", "control_modes",
    "control_stops", "desk_edges", "desk_limits_edges", "desk_rights", "layers_edges", "leases",
    "limits_edges", "modes_edges", "ruling_edges", "stage_edges", "standing",
)  # fmt: skip
WRITING_TESTS = (
    "authority_gate", "capability", "commands_edges", "contention", "droop", "effect", "effect_edges",
    "gate_edges", "last_line", "last_line_edges", "rounding", "safe_stop", "turn", "write_budget",
    "write_outcomes", "writing_edges",
)  # fmt: skip
GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "authority": (
        ("dispatch/authority/*.py",),
        (*(f"{UNIT}{t}.py" for t in AUTHORITY_TESTS), "tests/scenarios/test_67_select_before_operate.py"),
    ),
    "plan_check": (
        ("dispatch/controllers/plan_check.py", "dispatch/controllers/plan_moves.py"),
        tuple(f"{UNIT}{t}.py" for t in ("plan_check", "plan_check_edges", "plan_moves", "plan_moves_edges")),
    ),
    "writing": (("dispatch/writing/*.py",), tuple(f"{UNIT}{t}.py" for t in WRITING_TESTS)),
}


class Session:
    """A pytest plugin: the tests once under coverage, then every fault, several forks side by side."""

    def __init__(self, group: str, options: argparse.Namespace) -> None:
        self.group, self.options = group, options
        self.files = sorted(p for pattern in GROUPS[group][0] for p in ROOT.glob(pattern))
        tests = "".join(p.read_text() for p in sorted((ROOT / "tests/unit/dispatch").glob("*.py")))
        self.tests_hash = hashlib.sha256(tests.encode()).hexdigest()[:12]
        self.known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        self.cpu_s: dict[str, float] = {}
        self.finders: dict[str, list[str]] = {}  # function -> tests that found a fault of it, newest first
        self.running: dict[int, tuple[str, Fault, list[pytest.Item], float, int]] = {}  # by process
        self.saved_s = 0.0

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
        gc.collect()
        gc.freeze()  # what the children share is not touched by them
        for path in self.files:
            name = str(path.relative_to(ROOT))
            module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
            for key, fault in self._asked(path, name):
                self._start(key, fault, self._items(path, fault, through), module, path)
        self._wait_below(1)
        self._save()
        return True

    def _first_run(self, session: pytest.Session) -> dict[tuple[str, int], list[pytest.Item]]:
        cov = coverage.Coverage(data_file=None, config_file=False, include=[str(p) for p in self.files])
        cov.start()
        for item, after in zip(session.items, [*session.items[1:], None], strict=True):
            cov.switch_context(item.nodeid)
            begun_s = time.process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            self.cpu_s[item.nodeid] = time.process_time() - begun_s
        cov.stop()
        by_id = {item.nodeid: item for item in session.items}
        out: dict[tuple[str, int], list[pytest.Item]] = {}
        for path in cov.get_data().measured_files():
            for line, contexts in cov.get_data().contexts_by_lineno(path).items():
                items = [by_id[c] for c in contexts if c in by_id]
                out[(path, line)] = sorted(items, key=lambda i: self.cpu_s[i.nodeid])
        return out

    def _asked(self, path: Path, name: str) -> list[tuple[str, Fault]]:
        """The faults of a module that are to be planted, each with the key it is kept under.

        What is known of places that are no more is forgotten.
        """
        source = path.read_text()
        tree = ast.parse(source)
        by_function: dict[str, str] = {"": source}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                by_function[node.name] = ast.get_source_segment(source, node) or ""
        count: dict[str, int] = {}
        asked: list[tuple[str, Fault]] = []
        every: set[str] = set()
        for fault in faults_of(tree):
            body = by_function.get(fault.function.rpartition(".")[2], source)
            what = f"{body}{fault.operator}{fault.was}{fault.becomes}"
            stem = hashlib.sha256(what.encode()).hexdigest()[:12]
            count[stem] = count.get(stem, 0) + 1
            key = f"{name}:{fault.function}:{stem}:{count[stem]}"
            every.add(key)
            if (self.options.only and self.options.only not in key) or not self._in_sample(key):
                continue
            if self._settled(key):
                self.known[key]["line"] = fault.line
            else:
                asked.append((key, fault))
        for gone in [k for k in self.known if k.startswith(f"{name}:") and k not in every]:
            del self.known[gone]
        return asked

    def _in_sample(self, key: str) -> bool:
        """A share of all faults that the seed alone decides, whatever else changes."""
        digest = hashlib.sha256(f"{self.options.seed}{key}".encode()).digest()
        return int.from_bytes(digest[:4], "big") < float(self.options.share) * 2**32

    def _items(
        self, path: Path, fault: Fault, through: dict[tuple[str, int], list[pytest.Item]]
    ) -> list[pytest.Item]:
        """The tests that pass through its line, through its module for a constant of the module.

        Those that found a fault of its function before come first, then the quickest; the others until
        `--bound` seconds of processor time are used up.
        """
        if fault.function:
            found = through.get((str(path), fault.line), [])
        else:
            every = {i.nodeid: i for (p, _), items in through.items() if p == str(path) for i in items}
            found = sorted(every.values(), key=lambda i: self.cpu_s[i.nodeid])
        finders = self.finders.get(f"{path}{fault.function}", [])
        first: list[pytest.Item] = [i for n in finders[:FINDERS] for i in found if i.nodeid == n]
        rest: list[pytest.Item] = []
        used_s = 0.0
        for item in found:
            used_s += self.cpu_s[item.nodeid]
            if item not in first and (used_s <= self.options.bound or not rest):
                rest.append(item)
        return first + rest

    def _settled(self, key: str) -> bool:
        known = self.known.get(key)
        if known is None or self.options.again:
            return False
        return bool(known["end"] == "killed" or known["tests"] == self.tests_hash)

    def _start(
        self, key: str, fault: Fault, items: list[pytest.Item], module: types.ModuleType, path: Path
    ) -> None:
        if not items:
            self._note(key, fault, "not reached")
            return
        self._wait_below(self.options.jobs)
        sys.stdout.flush()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            self._child(items, module, path, fault, write)
        os.close(write)
        latest_s = time.monotonic() + WALL_S + WALL_TIMES * sum(self.cpu_s[i.nodeid] for i in items)
        self.running[child] = key, fault, items, latest_s, read

    def _wait_below(self, jobs: int) -> None:
        """Until fewer forks than that are running."""
        while len(self.running) >= jobs:
            for child in list(self.running):
                key, fault, items, latest_s, read = self.running[child]
                done, status = os.waitpid(child, os.WNOHANG)
                if not done and time.monotonic() > latest_s:
                    os.kill(child, signal.SIGKILL)
                    done, status = os.waitpid(child, 0)
                if not done:
                    continue
                del self.running[child]
                word = os.read(read, 1 << 16)
                os.close(read)
                code = os.waitstatus_to_exitcode(status)
                if word and code != 0:
                    finder = items[int(word[-4:])].nodeid
                    names = self.finders.setdefault(f"{ROOT / key.partition(':')[0]}{fault.function}", [])
                    names[:] = [finder, *(n for n in names if n != finder)]
                self._note(key, fault, {0: "survived", UNPLANTED: "not planted"}.get(code, "killed"))
            time.sleep(0.002)

    def _note(self, key: str, fault: Fault, end: str) -> None:
        self.known[key] = {
            "group": self.group, "file": key.partition(":")[0], "line": fault.line,
            "function": fault.function, "operator": fault.operator, "was": fault.was,
            "becomes": fault.becomes, "end": end, "tests": self.tests_hash,
        }  # fmt: skip
        if end != "killed":
            print(said(self.known[key]), flush=True)
        if time.monotonic() > self.saved_s + 5.0:
            self._save()

    def _save(self) -> None:
        whole = RESULTS.with_suffix(".new")
        whole.write_text(json.dumps(self.known, indent=0))
        whole.replace(RESULTS)
        self.saved_s = time.monotonic()

    def _child(
        self, items: list[pytest.Item], module: types.ModuleType, path: Path, fault: Fault, write: int
    ) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        gc.disable()
        try:
            put_in_place(module, changed_tree(path.read_text(), fault))
        except BaseException:  # noqa: BLE001  told apart: no test has seen it
            os._exit(UNPLANTED)
        try:
            session = items[0].session
            session.config.pluginmanager.unregister(name="terminalreporter")
            for k, (item, after) in enumerate(zip(items, [*items[1:], None], strict=True)):
                os.write(write, f"{k:4}".encode())
                signal.setitimer(signal.ITIMER_PROF, CPU_S + TIMES_SLOWER * self.cpu_s[item.nodeid])
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
    """Figures by file and by group, over what is known; how many not found are listed with a reason."""
    rows: dict[str, Counter[str]] = {}
    reasons = left()
    for x in known.values():
        end = "listed" if x["end"] != "killed" and _row(x) in reasons else x["end"]
        for name in (x["file"], f"all of {x['group']}"):
            rows.setdefault(name, Counter())[end] += 1
    for name, ends in sorted(rows.items()):
        killed, every = ends["killed"], ends.total()
        share = f"{killed:4} of {every:4} found, {100.0 * killed / every:5.1f} %"
        print(f"{name:44} {share}, {ends['listed']:3} left with a reason")
    files = {x["file"] for x in known.values()}
    still = {_row(x) for x in known.values() if x["end"] != "killed"}
    for row in sorted(r for r in set(reasons) - still if r[0] in files):
        print(f"listed in {LEFT.name}, but found or gone: {row}")


def _row(x: dict[str, Any]) -> tuple[str, str, str, str]:
    return x["file"], x["function"], x["was"], x["becomes"]


def left() -> dict[tuple[str, str, str, str], str]:
    """Survivors that are meant to stay, with the reason; a row without one is an error."""
    if not LEFT.exists():
        return {}
    with LEFT.open(newline="") as text:
        rows = list(csv.DictReader(text))
    for n, row in enumerate(rows, 2):
        if None in row.values() or not row["reason"].strip():
            raise SystemExit(f"{LEFT.name}, line {n}: {row}: a reason is wanted in each row")
    return {(r["file"], r["function"], r["was"], r["becomes"]): r["reason"] for r in rows}


def main() -> int:
    """Run the groups, tell the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--group", choices=sorted(GROUPS), action="append")
    parser.add_argument("--only", help="faults whose file:function holds this text")
    parser.add_argument("--again", action="store_true", help="ask what is known anew")
    parser.add_argument("--list", action="store_true", help="tell what is known, plant nothing")
    parser.add_argument("--tests", nargs="+", metavar="FILE", help="these in place of those of the group")
    parser.add_argument("--jobs", type=int, default=2, help="forks side by side (2)")
    parser.add_argument("--bound", type=float, default=4.0, help="seconds of tests a fault may take (4)")
    parser.add_argument("--share", type=float, default=1.0, help="of the faults, drawn by --seed (1.0: all)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    RESULTS.parent.mkdir(exist_ok=True)
    if not options.list:
        for group in options.group or sorted(GROUPS):
            if os.fork() == 0:  # each with its own collection
                plugin = Session(group, options)
                off = ["-p", "no:cacheprovider", "-p", "no:xdist", "--timeout=0", "--assert=plain", "--tb=no"]
                pytest.main(["-q", "--no-header", *off, *(options.tests or GROUPS[group][1])], [plugin])
                os._exit(0)
            os.wait()
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    reasons = left()
    for x in sorted(known.values(), key=lambda x: (x["file"], x["line"])):
        if options.list and x["end"] != "killed":
            print(said(x), "| " + reasons[_row(x)] if _row(x) in reasons else "")
    told(known)
    return 0


if __name__ == "__main__":
    sys.exit(main())
