"""docs/api.md names every route there is, and each of its commands gets an answer."""

import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from tests.builders import site
from tests.unit.api.fakes import FakePlans, clock, explanation, full_history, plan

DOC = (Path(__file__).resolve().parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^curl .*$", DOC, re.M)


@pytest.fixture(scope="module")
def api() -> TestClient:
    plans = FakePlans([plan()], explained={plan().plan_id: explanation(plan())})
    app = create_app(site=site(), history=full_history(), plans=plans, clock=clock())
    return TestClient(app, base_url="http://127.0.0.1:8080")


@pytest.mark.parametrize("command", COMMANDS)
def test_doc_command_is_answered(api, command):
    address = urlsplit(shlex.split(command)[1])
    assert address.netloc == "127.0.0.1:8080"
    assert api.get(address.path + ("?" + address.query if address.query else "")).status_code == 200


def test_doc_has_commands_and_names_every_route(api):
    assert len(COMMANDS) >= 8
    for path in api.get("/api/v1/openapi.json").json()["paths"]:
        assert f"`{path.replace('{plan_id}', '{id}')}`" in DOC


def test_doc_metrics_exist(api):
    families = {f.name for f in text_string_to_metric_families(api.get("/metrics").text)}
    named = set(re.findall(r"\bems_[a-z_]+[a-z]\b", DOC))
    assert named - {"ems_genset_state", "ems_bess_soc"} <= families


def test_doc_error_example_is_what_comes(api):
    example = re.search(r"```json\n(.*?)\n```", DOC, re.S)
    assert example is not None
    answer = api.get("/api/v1/plans", params={"start": "2026-03-02T00:00:00"})
    assert answer.text == example[1].replace('": ', '":').replace(', "', ',"')
