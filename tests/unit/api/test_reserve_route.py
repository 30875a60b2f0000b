"""Reserve and N-1 from a real edge's decision to its status row, the service, its metrics and its page."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from api.page import PAGE
from cli.edge_status import edge_status
from cli.operator_reserve import reserve_lines
from dispatch.vocabulary import Contingency, Decisions
from ems.records import JsonValue
from tests.builders import site
from tests.unit.api.fakes import FakePlans, clock, full_history, status
from tests.unit.dispatch.test_contingencies import island


def api_of(**fields: JsonValue) -> TestClient:
    history = full_history()
    history.status_rows["edge"] = status("edge", 1, **fields)
    app = create_app(site=site(), history=history, plans=FakePlans(), clock=clock())
    return TestClient(app, base_url="http://127.0.0.1:8080")


def row_of(decisions: Decisions) -> dict[str, Any]:
    """The status row as the historian keeps it."""
    row = edge_status(decisions, 1.0, {}, shadow=False, authority={})
    kept: dict[str, Any] = json.loads(json.dumps(row.fields, allow_nan=False))
    return kept


@pytest.fixture(scope="module")
def decisions() -> Decisions:
    """200 kW of load on the battery alone, whose loss the policy asks for."""
    return island(n_minus_1=("bess",)).run(3)


def with_losses(decisions: Decisions, *losses: Contingency) -> Decisions:
    return replace(decisions, reserve=replace(decisions.reserve, contingencies=losses))


def test_status_row_tells_each_loss_with_its_verdict(decisions):
    row = row_of(decisions)
    losses = row["contingencies"]
    assert [x["name"] for x in losses] == [c.name.rstrip(",") for c in decisions.reserve.contingencies]
    by_kind = {x["kind"]: x for x in losses}
    assert by_kind.keys() >= {"bess", "pv_drop", "pv", "load_trip"}
    battery, worst = by_kind["bess"], decisions.reserve.worst
    assert worst is not None
    assert (battery["verdict"], battery["required"], battery["by"]) == ("short", True, [])
    assert battery["short_kw"] == pytest.approx(worst.short_kw, abs=1e-3) == pytest.approx(202.0, abs=1.0)
    assert (by_kind["pv"]["verdict"], by_kind["pv"]["required"]) == ("covered", False)


def test_status_row_power_that_nothing_bounds_is_null(decisions):
    """Beside a grid whose import no cap bounds; JSON has no infinity."""
    one = Contingency(
        name="the load of gen1, which is not heard,", kind="silence", lost_kw=60.0, held_kw=math.inf,
        short_kw=0.0, required=True, by=("bess1",),
    )  # fmt: skip
    (loss,) = row_of(with_losses(decisions, one))["contingencies"]
    assert (loss["name"], loss["held_kw"]) == ("the load of gen1, which is not heard", None)
    assert loss["verdict"] == "covered"


def test_reserve_route_gives_what_the_edge_tells(decisions):
    row = row_of(decisions)
    out = api_of(**row).get("/api/v1/reserve").json()
    assert out["contingencies"] == row["contingencies"]
    assert out["required_kw"] == pytest.approx(decisions.reserve_required_kw)
    assert out["held_kw"] == pytest.approx(decisions.reserve_held_kw)
    assert out["short_kw"] == pytest.approx(decisions.reserve_short_kw)
    assert out["at"] is not None


def test_reserve_route_of_an_edge_that_tells_nothing_of_it(decisions):
    for fields in ({}, {"contingencies": "none"}, {"contingencies": [{"name": "gen1"}]}):
        out = api_of(**fields).get("/api/v1/reserve").json()
        assert (out["contingencies"], out["required_kw"]) == (None, None)
    row = row_of(with_losses(decisions))
    assert api_of(**row).get("/api/v1/reserve").json()["contingencies"] == []


def test_reserve_route_before_the_edge_ever_told():
    history = full_history()
    history.status_rows.pop("edge", None)
    app = create_app(site=site(), history=history, plans=FakePlans(), clock=clock())
    out = TestClient(app, base_url="http://127.0.0.1:8080").get("/api/v1/reserve").json()
    assert set(out.values()) == {None}


def test_metrics_each_loss_by_name_and_kind(decisions):
    text = api_of(**row_of(decisions)).get("/metrics").text
    families = {f.name: f for f in text_string_to_metric_families(text)}
    for name in ("lost_kw", "held_kw", "short_kw", "required"):
        samples = families[f"ems_contingency_{name}"].samples
        assert len(samples) == len(decisions.reserve.contingencies)
        assert all(s.labels.keys() == {"name", "kind"} for s in samples)
    short = {s.labels["name"]: s.value for s in families["ems_contingency_short_kw"].samples}
    assert short["bess1"] == pytest.approx(202.0, abs=1.0)
    required = {s.labels["kind"]: s.value for s in families["ems_contingency_required"].samples}
    assert (required["bess"], required["pv"]) == (1.0, 0.0)


def test_metrics_power_that_nothing_bounds_has_no_sample():
    loss: dict[str, JsonValue] = {
        "name": "x" * 1000, "kind": "pv", "lost_kw": 5.0, "held_kw": None, "short_kw": 0.0,
        "required": False, "verdict": "covered", "by": [],
    }  # fmt: skip
    text = api_of(contingencies=[loss]).get("/metrics").text
    families = {f.name: f for f in text_string_to_metric_families(text)}
    assert families["ems_contingency_held_kw"].samples == []
    assert [len(s.labels["name"]) for s in families["ems_contingency_lost_kw"].samples] == [64]


def test_page_asks_for_the_reserve_and_has_a_place_for_it():
    assert 'get("/api/v1/reserve")' in PAGE
    assert PAGE.count('id="reserve"') == PAGE.count('id="reserve-note"') == 1
    assert "drawReserve(reserve)" in PAGE


def test_operator_sees_the_reserve_and_each_loss(decisions):
    lines = list(reserve_lines(row_of(decisions)))
    assert lines[0].startswith("reserve: ")
    assert "SHORT by 202 kW" in lines[0]
    assert len(lines) == 1 + len(decisions.reserve.contingencies)
    (battery,) = [line for line in lines if "bess1" in line]
    assert battery == "if lost: bess1 (bess), 202 kW, held 0 kW: SHORT by 202 kW, required"
    (cloud,) = [line for line in lines if "a cloud" in line]
    assert cloud.endswith(("covered, required", "covered, not asked for"))


def test_operator_is_told_where_no_loss_is_judged_and_nothing_by_an_older_edge(decisions):
    assert list(reserve_lines({})) == []
    lines = list(reserve_lines(row_of(with_losses(decisions))))
    assert lines[1:] == ["no loss is judged: the state of the bus is not known, or it is dead"]
