"""`ems plan`: what it writes is whole, named, versioned and true to the plan."""

import csv
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import plotly.graph_objects as go
import pytest

from cli._sites import find_site
from cli.main import main
from cli.plan_files import SCHEMA, SCHEMA_VERSION, PlanFile, plan_json_schema, read_plan_file
from ems.errors import DataError
from ems.site_schema import load_site

pytestmark = pytest.mark.timeout(600)  # an explanation takes some 10 s of CPU, on a busy machine much longer
AT = datetime(2026, 3, 18, 10, tzinfo=UTC)
SITE = load_site(find_site("demo"))


def write_forecast(path: Path, load_kw: float) -> Path:
    """Three days of constant load, no sun."""
    names = [*(f"load.{f.id}" for f in SITE.feeders), *(f"pv.{v.id}" for v in SITE.pv)]
    with path.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["time", *names])
        for k in range(3 * 24):
            values = [load_kw if n.startswith("load") else 0.0 for n in names]
            rows.writerow([(AT + timedelta(hours=k)).isoformat(), *values])
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    forecast = write_forecast(folder / "forecast.csv", 80.0)
    command = ["plan", "demo", "--at", AT.isoformat(), "--forecast", str(forecast), "--explain"]
    assert main([*command, "--out", str(folder / "out")]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def plan_file(written: Path) -> PlanFile:
    return read_plan_file(written / "plan.json")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as source:
        return list(csv.DictReader(source))


def test_plan_json_is_read_back_with_its_version(plan_file):
    assert (plan_file.schema, plan_file.schema_version) == (SCHEMA, SCHEMA_VERSION)
    assert plan_file.plan.site == "demo"
    assert plan_file.step_starts[0] == AT
    assert len(plan_file.step_starts) == len(plan_file.plan.grid)


def test_plan_json_of_another_version_is_refused(written, tmp_path):
    raw = json.loads((written / "plan.json").read_text())
    other = tmp_path / "plan.json"
    other.write_text(json.dumps(raw | {"schema_version": 99}))
    with pytest.raises(DataError, match=r"found ems-plan, 99; allowed: ems-plan, 1"):
        read_plan_file(other)


def test_plan_json_schema_names_every_key_of_the_file(written):
    schema, raw = plan_json_schema(), json.loads((written / "plan.json").read_text())
    properties = schema["properties"]
    assert isinstance(properties, dict)
    assert set(raw) == set(properties)


def test_plan_csv_has_every_column_with_unit_and_sign(written, plan_file):
    rows, columns = rows_of(written / "plan.csv"), rows_of(written / "plan.columns.csv")
    assert list(rows[0]) == [c["name"] for c in columns] == [c.name for c in plan_file.columns]
    for column in columns:
        if column["name"].endswith("_kw"):
            assert column["unit"] == "kW"
            demand = re.search(r"_(load|shed)_kw$", column["name"]) is not None
            assert column["sign"] == ("positive is demand" if demand else "positive into the site's bus")
        assert column["meaning"]


def test_plan_csv_signs_make_the_balance_of_the_bus(written):
    """genset + PV + battery + grid == load - shed + auxiliaries, in every step."""
    aux = sum(b.battery.aux_kw for b in SITE.bess)
    sources = ["grid", *(x.id for x in SITE.gensets), *(x.id for x in SITE.pv), *(x.id for x in SITE.bess)]
    for row in rows_of(written / "plan.csv"):
        given = sum(float(row[f"{i}_p_kw"]) for i in sources)
        taken = sum(float(row[f"{f.id}_load_kw"]) - float(row[f"{f.id}_shed_kw"]) for f in SITE.feeders)
        assert given == pytest.approx(taken + aux, abs=0.01)


def test_plan_forecast_of_a_file_is_what_is_planned_with(plan_file):
    assert set(plan_file.plan.load_kw["critical"]) == {80.0}
    assert any("times of issue are unknown" in text for text in plan_file.forecast_repairs)


def test_plan_explanation_is_in_the_json_and_on_the_page(written, plan_file):
    why = plan_file.explanation
    assert why is not None
    assert why.plan_id == plan_file.plan.plan_id
    steps = {w.step for w in why.setpoints}
    assert len(why.setpoints) == len(steps) * 8  # battery, two gensets, mains, PV, three feeders
    assert why.until == plan_file.plan.integral_until
    page = (written / "plan.html").read_text(encoding="utf-8")
    assert why.commitments[0].asset in page
    assert "a kWh less demand would save" in page


def test_plan_page_has_figures_plotly_understands_and_needs_no_network(written):
    page = (written / "plan.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S)
    assert found is not None
    figures = json.loads(found[1])
    for figure in figures.values():
        go.Figure(figure)  # refuses what it does not know
    assert set(figures) == {"power", "energy", "price"}
    drawn = {trace["name"]: trace for trace in figures["power"]["data"]}
    assert max(drawn["demand"]["y"]) == pytest.approx(240.0)
    assert len(drawn["demand"]["x"]) == len(drawn["demand"]["y"])
    before = page[: page.index('id="figures"')]
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", before)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("f.parquet", "allowed: an existing CSV or Parquet"),
        ("none.csv", "allowed: an existing CSV or Parquet"),
    ],
)
def test_plan_forecast_that_cannot_be_read_is_refused(name, said, tmp_path, capsys):
    assert main(["plan", "demo", "--at", AT.isoformat(), "--forecast", str(tmp_path / name)]) == 2
    assert said in capsys.readouterr().err


def test_plan_forecast_too_short_is_refused_with_its_span(tmp_path, capsys):
    path = write_forecast(tmp_path / "short.csv", 50.0)
    path.write_text("\n".join(path.read_text().splitlines()[:10]))
    assert main(["plan", "demo", "--at", AT.isoformat(), "--forecast", str(path)]) == 2
    assert "the plan needs 2026-03-18T10:00:00+00:00 to" in capsys.readouterr().err


def test_plan_over_scenarios_is_written_with_what_each_costs(tmp_path):
    command = ["plan", "demo", "--at", AT.isoformat(), "--scenarios", "3", "--cvar", "0.2", "--gap", "0.05"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    plan = read_plan_file(tmp_path / "plan.json").plan
    assert plan.scenarios is not None
    assert plan.scenarios.label[0] == "expected"
    assert len(plan.scenarios.cost) == 3
    assert "drawn inside the p10 and p90 band" in plan.scenarios.source
    assert plan.scenarios.tail_weight_ratio == 0.2
    assert "risk" in plan.cost_terms


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--scenarios", "0"], "uncertainty.scenarios: found 0; allowed: 1 to 100"),
        (["--scenarios", "3", "--cvar", "1"], "uncertainty.cvar_weight_ratio: found 1.0; allowed: 0 to 0.95"),
        (["--cvar", "0.5"], "--cvar 0.5: found no --scenarios"),
        (["--outage-scenarios", "2"], "--outage-scenarios 2: found no --scenarios"),
        (["--scenarios", "3", "--outage-scenarios", "99"], "uncertainty.outages: found 99; allowed: 0 to 24"),
        (["--scenarios", "3", "--quantile", "0.9"], "--scenarios and --quantile: found both"),
        (["--quantile", "0.2"], "uncertainty.quantile_ratio: found 0.2; allowed: 0.5 to 0.99"),
        (["--scenarios", "3", "--explain"], "--explain: found --scenarios or --quantile"),
    ],
)
def test_plan_uncertainty_options_that_cannot_be_are_refused(options, said, capsys):
    assert main(["plan", "demo", "--at", AT.isoformat(), *options]) != 0
    assert said in " ".join(capsys.readouterr().err.split())
