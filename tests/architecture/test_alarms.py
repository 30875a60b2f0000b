"""Code and rationalisation table say the same: every alarm has a row, every row is told and tested."""

import ast
from collections.abc import Iterator

import pytest

from ems.alarm_table import TAGS, alarm_table
from ems.alarms import AlarmClass, AlarmKind, priority_of
from tests.architecture.source_tree import ROOT, Module, modules, parsed, report

ADD = (
    "an alarm is told as Alarm(code=<text>, text=..., asset=...) and has a row in ems/alarm_table.csv; "
    "the row names a test of it as file::function, and the file of that test names the alarm:"
)


def codes(module: Module) -> Iterator[tuple[str, str | None]]:
    """Where an alarm is told, and its code; None where the code is not plain text."""
    for node in module.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Alarm":
            code = next((k.value for k in node.keywords if k.arg == "code"), None)
            plain = code.value if isinstance(code, ast.Constant) else None
            yield module.at(node.lineno), plain if isinstance(plain, str) else None


def told() -> list[tuple[str, str | None]]:
    return [found for module in modules() for found in codes(module)]


def test_alarms_told_in_code_have_rows():
    missing = [f"{where} {code}" for where, code in told() if code not in alarm_table()]
    assert not missing, report(ADD, missing)


def test_alarm_rows_are_told_in_code():
    unused = sorted(alarm_table().keys() - {code for _, code in told()})
    assert not unused, report("rows that no code tells; " + ADD, unused)


@pytest.mark.parametrize("code", alarm_table())
def test_alarm_row_has_a_test_that_names_it(code):
    file, _, function = alarm_table()[code].test.partition("::")
    assert (ROOT / file).is_file(), report(ADD, [f"{code}: no file {file}"])
    text = (ROOT / file).read_text()
    names = {
        n.name for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert function in names, report(ADD, [f"{code}: no {function} in {file}"])
    assert f'"{code}"' in text, report(ADD, [f'{code}: {file} never says "{code}"'])


@pytest.mark.parametrize("code", alarm_table())
def test_alarm_row_is_complete_and_consistent(code):
    table = alarm_table()
    row = table[code]
    for text in (row.setpoint, row.consequence, row.response, row.owner, row.revision):
        assert text.strip()
    assert row.tag in TAGS
    assert row.priority is priority_of(row.severity, row.respond_s), "priority follows the matrix"
    assert (row.deadband > 0.0) is (row.kind is not AlarmKind.STATE) is (row.unit != "")
    assert min(row.on_delay_s, row.off_delay_s) >= 0.0
    for parent in row.parents:
        assert parent in table
        assert row.on_delay_s >= table[parent].on_delay_s, f"{code} would ring before {parent} explains it"
    assert not (row.parents and row.alarm_class is AlarmClass.SAFETY), "safety is never suppressed"


def test_codes_made_up_code_found_and_built_one_refused():
    made_up = parsed("Alarm(code='a.b', text='x')\nAlarm(code=f'a.{b}', text='x')\nOther(code='c')")
    assert [code for _, code in codes(made_up)] == ["a.b", None]
