"""The route of authority on what a real edge tells of itself, and on what it does not know."""

import json

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from dispatch.authority.view import Look, counts, shown
from ems.records import JsonValue
from ems.requests import Confirm, SetLimit, SetSetpoint
from tests.builders import site
from tests.unit.api.fakes import FakePlans, clock, full_history, status
from tests.unit.dispatch.controlled import DOOR, P_SET, manual


def api_of(**fields: JsonValue) -> TestClient:
    history = full_history()
    history.status_rows["edge"] = status("edge", 1, **fields)
    app = create_app(site=site(), history=history, plans=FakePlans(), clock=clock())
    return TestClient(app, base_url="http://127.0.0.1:8080")


def test_authority_route_gives_what_a_real_edge_tells():
    one = manual(interlocks=(DOOR,))
    one.ask("ann", SetSetpoint(point=P_SET, value=20.0, for_s=120.0), reason="cell check")
    one.ask("ann", SetLimit(subject="import", value=100.0), reason="hot")
    proposed = one.ask("eve", SetLimit(subject="import", value=200.0), reason="cooled")
    memory = one.edge.authority
    look = Look(layout=one.setup.layout, memory=memory, at=one.now, now_s=one.t)
    told = json.loads(json.dumps(shown(look)))  # as the historian keeps it
    api = api_of(plant_control="auto", authority=told, epoch=7, held_safe=True, **counts(memory))
    out = api.get("/api/v1/authority").json()
    assert (out["epoch"], out["held_safe"], out["requests_refused"]) == (7, True, None)
    rules = out["rules"]
    assert rules.keys() == told.keys(), "nothing that the edge tells is left out"
    lease = rules["devices"]["bess1"]["setpoints"][P_SET]["lease"]
    assert (lease["owner"], lease["value"], lease["reason"]) == ("ann", 20.0, "cell check")
    assert rules["devices"]["bess1"]["why"] == "its own, chosen by ann"
    assert rules["proposals"][str(proposed.token)]["value"] == 200.0
    assert rules["interlocks"]["door"]["state"] == "tripped"
    families = {f.name: f for f in text_string_to_metric_families(api.get("/metrics").text)}
    for name, value in (("authority_proposals_count", 1.0), ("interlocks_tripped_count", 1.0)):
        assert [s.value for s in families[f"ems_process_{name}"].samples] == [value]
    assert one.ask("dan", Confirm(proposal=str(proposed.token))).done


def test_authority_route_of_an_edge_that_tells_nothing_of_it_has_no_rules():
    for fields in ({}, {"authority": {"devices": "none"}}):
        out = api_of(plant_control="auto", **fields).get("/api/v1/authority").json()
        assert (out["plant"], out["rules"], out["epoch"], out["held_safe"]) == ("auto", None, None, False)
