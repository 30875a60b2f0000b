"""`ems commission --simulated`: the report says what was measured, and a planted fault flips its row."""

import dataclasses
import json
from pathlib import Path

import pytest

from cli.main import main
from ems.site_schema import load_site
from sim.commissioning import MATRIX, run_trial
from sim.faults import Fault
from tests.builders import site
from tests.scenarios.conftest import DEMO

ROWS = {t.id: t for t in MATRIX}


def commissioned(folder: Path, *arguments: str) -> tuple[int, dict[str, dict[str, object]]]:
    """Exit code, and the rows of the report by id."""
    code = main(["commission", "--simulated", "demo", *arguments, "--out", str(folder)])
    report = json.loads((folder / "report.json").read_text())
    return code, {r["id"]: r for r in report["rows"]}


def test_commission_rows_carry_all_there_is_to_know_and_repeat_bit_for_bit(tmp_path):
    wanted = "export-cap,mains-loss"
    code, rows = commissioned(tmp_path / "a", "--only", wanted)
    again, same = commissioned(tmp_path / "b", "--only", wanted)
    assert (code, again) == (0, 0)
    assert {r["verdict"] for r in rows.values()} == {"pass"}
    for row in rows.values():
        for key in ("matrix", "clause", "start", "injection", "threshold", "measured", "metrics"):
            assert row[key], key
        assert len(str(row["trace_hash"])) == 64
    assert rows == same
    text = (tmp_path / "a" / "report.txt").read_text()
    assert "2 passed, 0 failed" in text


def test_commission_planted_fault_flips_its_row_and_no_other_and_the_exit_code(tmp_path):
    code, rows = commissioned(
        tmp_path, "--only", "export-cap,mains-loss", "--plant-fault", "setpoint_ignored:pv1"
    )
    assert code == 1
    assert {i: r["verdict"] for i, r in rows.items()} == {"export-cap": "fail", "mains-loss": "pass"}


@pytest.mark.parametrize(
    ("row", "kind", "target"),
    [
        ("import-cap", "ct_reversed", "grid1"),
        ("meter-lost", "write_lost", "pv1"),
        ("load-step", "bess_derated", "bess1"),
        ("genset-start", "write_lost", "gen2"),
    ],
)
def test_trial_planted_fault_fails_and_without_it_passes(row, kind, target):
    demo_site = load_site(DEMO)
    planted = run_trial(ROWS[row], demo_site, [Fault(kind=kind, target=target)])
    plain = run_trial(ROWS[row], demo_site)
    assert (plain.verdict, planted.verdict) == ("pass", "fail"), (plain.measured, planted.measured)
    assert plain.trace_hash != planted.trace_hash


def test_trial_site_without_the_part_not_applicable_and_says_why():
    nobody = dataclasses.replace(site(), bess=(), pv=(), gensets=())
    rows = [run_trial(t, nobody) for t in MATRIX if t.id not in ("device-silent",)]
    assert {r.verdict for r in rows} == {"not applicable"}
    assert all(r.measured for r in rows)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "nothing"], "import-cap"),
        (["--plant-fault", "gremlins"], "gremlins"),
        (["--plant-fault", "value_offset:grid1:much"], "much"),
    ],
)
def test_commission_bad_arguments_named(capsys, arguments, said):
    assert main(["commission", "--simulated", "demo", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.soak
def test_commission_whole_matrix_of_the_demonstration_site_passes(tmp_path):
    code, rows = commissioned(tmp_path)
    assert code == 0
    assert set(rows) == set(ROWS)
    assert {r["verdict"] for r in rows.values()} == {"pass"}
