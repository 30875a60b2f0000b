"""Alarms and ladder through the service: list, journal, figures, table, metrics."""

from dataclasses import replace
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from dispatch.supervision.ladder import ladder_rows
from ems.alarm_table import alarm_table
from ems.alarms import AlarmBook, AlarmEntry, AlarmState, Hold, Priority
from ems.records import EventRecord
from tests.builders import site
from tests.unit.api.fakes import NOW, FakePlans, clock, full_history, plan, status

DEAD = AlarmEntry(
    key="bus.dead", code="bus.dead", asset=None, state=AlarmState.UNACKNOWLEDGED, priority=Priority.CRITICAL,
    text="the site's bus has no voltage", raised_at=NOW - timedelta(minutes=1), since=NOW, heard=True,
)  # fmt: skip
SHORT = replace(
    DEAD, key="reserve.short", code="reserve.short", priority=Priority.HIGH, value=float("nan"), limit=2.0,
    unit="kW", suppressed_by="bus.dead",
)  # fmt: skip
SILENT = replace(
    DEAD, key="device.silent.pv1", code="device.silent", asset="pv1", priority=Priority.MEDIUM,
    state=AlarmState.ACKNOWLEDGED, activations=7, acknowledged_by="ada",
    shelf=Hold(who="ada", why="switch is being replaced", until=NOW + timedelta(hours=1)),
)  # fmt: skip


@pytest.fixture(scope="module")
def api() -> TestClient:
    history = full_history()
    history.book = AlarmBook(at=NOW, entries=(SILENT, SHORT, DEAD))
    history.event_rows += [
        EventRecord(
            at=NOW - timedelta(minutes=minutes),
            kind=kind,
            fields={"key": "bus.dead", "priority": "critical", "annunciated": kind == "alarm.raised"},
        )
        for minutes, kind in ((2, "alarm.raised"), (1, "alarm.acknowledged"))
    ]
    history.status_rows["edge"] = status(
        "edge",
        1,
        source="rules",
        ladder_reason="no plan",
        ladder_since=NOW.isoformat(),
        plant_control="auto",
        control={"bess1": "manual", "gen1": "auto"},
        limits_told_kw={"utility": 200.0},
        limits={"import": {"value": 250.0, "user": "ada", "reason": "fuse"}},
    )
    app = create_app(
        site=site(), history=history, plans=FakePlans([plan()]), clock=clock(), ladder=ladder_rows()
    )
    return TestClient(app, base_url="http://127.0.0.1:8080")


def test_alarms_standing_ones_with_state_and_what_they_ask_for(api):
    out = api.get("/api/v1/alarms").json()
    (alarm,) = out["alarms"]
    assert (alarm["key"], alarm["state"], alarm["priority"]) == ("bus.dead", "unacknowledged", "critical")
    assert alarm["age_s"] == 60.0
    assert alarm["response"] == alarm_table()["bus.dead"].response
    assert out["by_priority"] == {"critical": 1, "high": 0, "medium": 0, "low": 0}
    assert out["by_state"]["suppressed_by_design"] == out["by_state"]["shelved"] == 1


def test_alarms_hidden_asked_for_shows_who_and_why(api):
    alarms = {a["key"]: a for a in api.get("/api/v1/alarms?hidden=true").json()["alarms"]}
    assert alarms["device.silent.pv1"]["shelved"]["why"] == "switch is being replaced"
    assert alarms["reserve.short"]["suppressed_by"] == "bus.dead"
    assert alarms["reserve.short"]["value"] is None  # not a number is null


def test_journal_holds_alarms_and_nothing_else(api):
    kinds = [e["kind"] for e in api.get("/api/v1/alarms/journal").json()["events"]]
    assert sorted(kinds) == ["alarm.acknowledged", "alarm.raised"]


def test_rates_of_a_day_unless_asked_otherwise(api):
    out = api.get("/api/v1/alarms/rates").json()
    assert (out["alarms"], out["acknowledged"], out["mean_acknowledge_s"], out["shelved"]) == (1, 1, 60.0, 1)
    assert out["mean_per_h"] == pytest.approx(1 / 24)


def test_table_has_every_row(api):
    rows = api.get("/api/v1/alarms/table").json()["rows"]
    assert {r["id"] for r in rows} == alarm_table().keys()


def test_ladder_rung_reason_and_the_whole_ladder(api):
    out = api.get("/api/v1/ladder").json()
    assert (out["rung"], out["reason"]) == ("rules", "no plan")
    assert [r["rung"] for r in out["rungs"]] == ["plan", "last_plan", "rules", "hold_safe", "released"]


def test_authority_modes_and_limits_as_the_edge_told_them(api):
    out = api.get("/api/v1/authority").json()
    assert (out["plant"], out["devices"]) == ("auto", {"bess1": "manual", "gen1": "auto"})
    assert out["limits"] == {"import": {"value": 250.0, "user": "ada", "reason": "fuse"}}
    assert out["told_kw"] == {"utility": 200.0}
    families = {f.name: f for f in text_string_to_metric_families(api.get("/metrics").text)}
    modes = {(s.labels["device"], s.labels["mode"]) for s in families["ems_control_mode"].samples}
    assert modes == {("bess1", "manual"), ("gen1", "auto")}


def test_metrics_rung_and_alarms_by_priority_and_state(api):
    families = {f.name: f for f in text_string_to_metric_families(api.get("/metrics").text)}
    assert {s.labels["rung"] for s in families["ems_ladder_rung"].samples if s.value == 1.0} == {"rules"}
    standing = {
        (s.labels["priority"], s.labels["state"]) for s in families["ems_alarms"].samples if s.value == 1.0
    }
    assert standing == {
        ("critical", "unacknowledged"), ("high", "suppressed_by_design"), ("medium", "shelved"),
    }  # fmt: skip
    assert families["ems_alarms_last_hour_count"].samples[0].value == 1.0


def test_alarms_before_the_edge_ever_ran_answers_an_empty_list():
    app = create_app(site=site(), history=full_history(), plans=FakePlans(), clock=clock())
    out = TestClient(app, base_url="http://127.0.0.1:8080").get("/api/v1/alarms").json()
    assert (out["alarms"], out["recorded_at"]) == ([], None)
