"""`ems soak`: the table, its exit code, what is stored and left out, and the replay of a failing seed."""

import json
import re
from pathlib import Path

import pytest

from cli.main import main
from sim.oracles.writes import InsideLimits

SHORT = ["soak", "demo", "--length", "420s"]


def test_soak_prints_oracles_faults_and_speed(capsys: pytest.CaptureFixture[str]):
    code = main([*SHORT, "--seeds", "0,4"])
    out = capsys.readouterr().out
    assert code in (0, 1)
    assert "2 of 0.116667 h, cycle 1 s" in out
    assert "x real time" in out
    for oracle in ("I1", "I12"):
        assert re.search(rf"{oracle} .*\d", out)


def test_soak_failing_seed_exits_1_and_prints_the_command_that_replays_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(InsideLimits, "on_write", lambda self, w: "made up" if w.t_s >= 300.0 else None)
    assert main([*SHORT, "--seeds", "4"]) == 1
    out = capsys.readouterr().out
    assert "ems soak demo --length 420s --replay 4" in out
    assert main([*SHORT, "--replay", "4"]) == 1
    replay = capsys.readouterr().out
    assert "I1: made up" in replay
    assert "seed 4: " in replay
    assert re.search(r"log [0-9a-f]{64}", replay)


def test_soak_fault_that_mattered_too_seldom_fails_and_is_told(capsys: pytest.CaptureFixture[str]):
    """Nothing reads the recorder's state back, and it claims no grid mode; a trip of PV claims two."""
    asked = [*SHORT, "--seeds", "0", "--mattered", "30", "--faults"]
    assert main([*asked, "recorder_full"]) == 0
    assert main([*asked, "pv_trips"]) == 1
    out = capsys.readouterr().out
    assert "mattered less than 30 times: 2 of the pairs" in out
    assert re.search(r"pv_trips, islanded: \d", out)


@pytest.mark.parametrize("jobs", [pytest.param("1", marks=pytest.mark.soak), "2"])
def test_soak_fault_that_mattered_often_enough_has_no_twin_any_more(tmp_path: Path, jobs: str):
    out = tmp_path / "soak"
    asked = [*SHORT, "--seeds", "0..3", "--faults", "mains_lost", "--out", str(out), "--jobs", jobs]
    main([*asked, "--mattered", "1"])
    rows = [json.loads(x)["result"] for x in (out / "episodes.jsonl").read_text().splitlines()]
    assert sorted(r["seed"] for r in rows) == [0, 1, 2, 3]
    key = "mains_lost|grid_tied"
    first = next(k for k, r in enumerate(rows) if r["mattered"].get(key))
    # What ran beside the first that mattered was asked before it was known.
    assert all(key not in r["compared"] for r in rows[first + int(jobs) :])
    assert sum(r["injected"].get(key, 0) for r in rows) > sum(r["compared"].get(key, 0) for r in rows)


def test_soak_aims_at_what_mattered_too_seldom_and_counts_what_mattered_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before, aimed = tmp_path / "before", tmp_path / "aimed"
    asked = [*SHORT, "--seeds", "0", "--mattered", "1", "--faults", "pv_trips,mains_lost"]
    assert main([*asked, "--out", str(before)]) == 1
    told = capsys.readouterr().out
    short = [f"{name}:{mode}" for name, mode in re.findall(r"^  (\w+), (\w+): \d+$", told, re.MULTILINE)]
    assert short
    (first,) = (before / "episodes.jsonl").read_text().splitlines()
    asked = [*SHORT, "--seeds", "1..4", "--faults", "pv_trips,mains_lost", "--aims", ",".join(short)]
    assert main([*asked, "--mattered", "1", "--counting", str(before), "--out", str(aimed)]) == 0
    rows = [json.loads(x)["result"] for x in (aimed / "episodes.jsonl").read_text().splitlines()]
    settled = json.loads(first)["result"]["mattered"]
    assert settled
    assert not any(key in r["compared"] for key in settled for r in rows)


def test_soak_record_of_before_there_were_aims_is_gone_on_with(tmp_path: Path):
    asked = ["soak", "demo", "--length", "60s", "--seeds", "0", "--out", str(tmp_path)]
    assert main(asked) == 0
    file = tmp_path / "episodes.jsonl"
    row = json.loads(file.read_text())
    del row["options"]["aims"]
    file.write_text(json.dumps(row) + "\n")
    assert main([*asked, "--resume"]) == 0
    assert main([*asked, "--resume", "--aims", "pv_trips:islanded"]) == 2


@pytest.mark.parametrize("aims", ["pv_trips", "gremlins:islanded", "recorder_full:black"])
def test_soak_aim_that_no_fault_claims_is_refused(aims: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main([*SHORT, "--aims", aims])
    assert f"found {aims}; allowed: fault:grid_mode" in capsys.readouterr().err


def test_soak_counting_a_folder_without_episodes_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([*SHORT, "--counting", str(tmp_path)]) == 2
    assert "found no episodes" in capsys.readouterr().err


def test_soak_resume_leaves_out_what_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "soak"
    main([*SHORT, "--seeds", "0", "--out", str(out)])
    main([*SHORT, "--seeds", "0,1", "--out", str(out), "--resume"])
    lines = [json.loads(x)["result"]["seed"] for x in (out / "episodes.jsonl").read_text().splitlines()]
    assert lines == [0, 1]
    assert main([*SHORT, "--seeds", "0", "--out", str(out)]) == 2
    assert main(["soak", "demo", "--length", "1h", "--seeds", "0", "--out", str(out), "--resume"]) == 2
    assert "asked for" in capsys.readouterr().err


def test_soak_again_compares_stored_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A log that other code gave is told by its seed; without stored episodes there is nothing to say."""
    out, asked = tmp_path / "soak", ["soak", "demo", "--length", "120s"]
    assert main([*asked, "--again", "2", "--out", str(out)]) == 2
    main([*asked, "--seeds", "3,4,5", "--out", str(out)])
    assert main([*asked, "--again", "2", "--out", str(out)]) == 0
    assert "2 of 2 episodes have the log that is stored" in capsys.readouterr().out
    file = out / "episodes.jsonl"
    lines = file.read_text().splitlines()
    row = json.loads(lines[1])
    file.write_text("\n".join([lines[0], json.dumps(row | {"result": row["result"] | {"digest": "f" * 64}})]))
    assert main([*asked, "--again", "9", "--out", str(out)]) == 1
    told = capsys.readouterr().out
    assert "seed 4: log ffffffffffff before" in told
    assert "1 of 2 episodes" in told
    assert main([*asked, "--again", "2"]) == 2


def test_soak_again_on_another_python_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Its sums differ in the last bit, so would every hash: nobody is sent after a fault that is none."""
    assert main([*SHORT, "--episodes", "1", "--out", str(tmp_path)]) == 0
    stored = tmp_path / "episodes.jsonl"
    row = json.loads(stored.read_text())
    row["python"] = "3.99"
    stored.write_text(json.dumps(row) + "\n")
    assert main([*SHORT, "--out", str(tmp_path), "--again", "1"]) == 2
    assert "episodes of Python 3.99" in capsys.readouterr().err


def test_soak_unknown_fault_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main([*SHORT, "--faults", "gremlins"])
    assert "mains_lost" in capsys.readouterr().err


def test_soak_list_names_every_fault(capsys: pytest.CaptureFixture[str]):
    assert main(["soak", "demo", "--list"]) == 0
    assert "genset_start_fails" in capsys.readouterr().out
