"""`ems simulate`: what people type, what is refused, what is left behind, Ctrl-C and resuming."""

import argparse
import json
from datetime import date

import pytest

from cli._period import period_of, scenarios_of, seconds, seeds
from cli._runs import Job, Stop, run_job
from cli._study import study
from cli.main import main
from ems.errors import EmsError
from ems.site_schema import load_site
from sim.harness import SimulateOptions, StoppedError
from sim.synthetic import demo_scenario
from tests.unit.connectors.inputs_here import site_with


@pytest.mark.parametrize(
    ("text", "value"), [("15min", 900.0), ("1h", 3600.0), ("10 s", 10.0), ("0.5h", 1800.0), ("1d", 86400.0)]
)
def test_seconds_durations_as_typed(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "15", "min", "-1h", "0s", "1 year"])
def test_seconds_something_else_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="allowed"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "value"), [("7", (7,)), ("1..4", (1, 2, 3, 4)), ("1,5,9", (1, 5, 9)), ("1..3,2,8", (1, 2, 3, 8))]
)
def test_seeds_as_typed(text, value):
    assert seeds(text) == value


@pytest.mark.parametrize("text", ["", "a", "1...3", "3..1"])
def test_seeds_something_else_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="found"):
        seeds(text)


def args(**changes: object) -> argparse.Namespace:
    values: dict[str, object] = {"start": date(2026, 3, 18), "to": None, "days": None} | changes
    return argparse.Namespace(**values)


def test_period_of_days_and_end_say_the_same():
    assert period_of(args(days=3)) == period_of(args(to=date(2026, 3, 21)))


@pytest.mark.parametrize(
    "changes", [{"days": 0}, {"to": date(2026, 3, 18)}, {"days": 1, "to": date(2026, 4, 1)}]
)
def test_period_of_nonsense_is_refused(changes):
    with pytest.raises(EmsError, match="allowed"):
        period_of(args(**changes))


def test_scenarios_of_seeds_share_truth_and_announced_outages(project_root):
    site = load_site(project_root / "sites" / "demo" / "site.yaml")
    none = dict.fromkeys(("dataset", "data", "load", "pv", "weather", "price", "outages", "inputs"))
    for days in (1, 10):
        one, two = scenarios_of(site, period_of(args(days=days)), (1, 2), args(**none))
        assert one.load_kw is two.load_kw
        assert one.notices == two.notices
        assert [e for e in one.mains if e.announced] == [e for e in two.mains if e.announced]
        assert {e.start for e in one.mains if not e.announced} != {
            e.start for e in two.mains if not e.announced
        }
        assert (one.seed, two.seed) == (1, 2)


def test_main_simulate_two_seeds_writes_results_study_and_meta(tmp_path, capsys):
    out = tmp_path / "study"
    code = main(
        [
            "simulate",
            "demo",
            "--controllers",
            "rules,rules_tou",
            "--seeds",
            "1..2",
            "--out",
            str(out),
            "--bound",
        ]
    )
    text = capsys.readouterr().out
    assert code == 0
    assert "not measured" in text
    assert "no controller can cost less than" in text
    for seed in (1, 2):
        folder = out / f"seed-{seed}"
        assert {p.name for p in folder.iterdir()} == {"rules", "rules_tou", "run.json", "bound.json"}
        result = json.loads((folder / "rules" / "result.json").read_text())
        assert result["seed"] == seed
        assert {p.name for p in (folder / "rules").iterdir()} == {"result.json", "traces.npz"}


def test_main_simulate_resume_takes_finished_runs_as_they_are(tmp_path, capsys):
    out = tmp_path / "run"
    command = ["simulate", "demo", "--controllers", "rules", "--seed", "3", "--out", str(out)]
    assert main(command) == 0
    before = (out / "rules" / "result.json").stat().st_mtime_ns
    assert main([*command, "--resume"]) == 0
    assert (out / "rules" / "result.json").stat().st_mtime_ns == before
    assert main([*command[:-4], "--seed", "4", "--out", str(out), "--resume"]) == 2
    assert "holds a run of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--controllers", "wishful"], "wishful"),
        (["--step", "soon"], "soon"),
        (["--resume"], "--out"),
        (["--dataset", "ucsd_eskom"], "--data"),
        (["--load", "absent.csv"], "absent.csv"),
        (["--days", "0"], "no day"),
    ],
)
def test_main_simulate_bad_options_are_refused_in_words(more, words, capsys):
    try:
        code = main(["simulate", "demo", *more])
    except SystemExit as stop:
        code = int(stop.code or 0)
    assert code == 2
    assert words in capsys.readouterr().err


def test_run_job_stopped_leaves_a_checkpoint_and_goes_on_from_it(tmp_path, project_root):
    site = load_site(project_root / "sites" / "demo" / "site.yaml")
    scenario = demo_scenario(site, date(2026, 3, 18), seed=1)
    job = Job(
        scenario=scenario, controller="rules", options=SimulateOptions(), folder=tmp_path / "r", resume=True
    )
    stop = Stop()

    def told(t_s: float) -> None:
        stop.asked = t_s > 7 * 3600.0

    with pytest.raises(StoppedError):
        run_job(job, told, stop)  # type: ignore[arg-type]
    assert {p.name for p in (tmp_path / "r").iterdir()} == {"checkpoint"}
    first: list[float] = []
    result = run_job(job, first.append, Stop())  # type: ignore[arg-type]
    assert first[0] > 7 * 3600.0
    assert result.counters.duration_s == pytest.approx(86400.0)
    assert {p.name for p in (tmp_path / "r").iterdir()} == {"result.json", "traces.npz"}


def test_study_without_an_ems_run_is_none(project_root):
    site = load_site(project_root / "sites" / "demo" / "site.yaml")
    scenario = demo_scenario(site, date(2026, 3, 18), seed=1)
    job = Job(scenario=scenario, controller="rules", options=SimulateOptions(trace_s=None))
    assert study(site, [[run_job(job, lambda t: None, Stop())]]) is None  # type: ignore[arg-type]


def test_inputs_of_a_folder_are_seen_as_issued_and_the_table_says_what_rests_on_them(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    site_with(tmp_path, "  market: {kind: price, folder: inbox}\n")
    (tmp_path / "told" / "market").mkdir(parents=True)
    rows = "".join(f"2026-03-18T{h:02}:00Z,2026-03-17T11:00Z,0.3\n" for h in (12, 13, 14))
    (tmp_path / "told/market/a.csv").write_text("time,issued_at,import_per_kwh\n" + rows)
    line = ["simulate", ".", "--inputs", "told", "--controllers", "rules"]
    assert main(line) == 0
    out = capsys.readouterr().out
    assert "price: told by market, settled as known at 2026-03-19 04:00 UTC" in out
    assert "energy at the tariff instead" in out
    assert "by market 1, issued 2026-03-17 11:00 UTC, sha256" in out
    assert "by tariff: no input told a price" in out
    assert main(["simulate", "demo", "--inputs", "told"]) == 2
    assert "--inputs: found demo, a site without inputs" in capsys.readouterr().err
