"""Every route, with good data, with none, with bad numbers, with a broken store, and with hostile queries."""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from ems.errors import DataError
from ems.input_rules import house_provider
from ems.inputs import Certainty, InputKind, InputParams
from ems.records import DeviceSample, JsonValue, StatusRow, TimeBasis
from ems.telemetry import Quality
from tests.builders import site
from tests.unit.api.fakes import NOW, FakeHistory, FakePlans, clock, explanation, full_history, plan, status
from tests.unit.forecasting.knowing import Known, outage

BASE = "http://127.0.0.1:8080"
ROUTES = (
    "/health",
    "/ready",
    "/api/v1/site",
    "/api/v1/snapshot",
    "/api/v1/condition",
    "/api/v1/inputs",
    "/api/v1/inputs/values",
    "/api/v1/plan",
    "/api/v1/plan/explanation",
    "/api/v1/plans/p-7/explanation?present=true",
    "/api/v1/plans",
    "/api/v1/plans/p-7",
    "/api/v1/history?point=grid1.p_kw",
    "/api/v1/recorded?point=grid1.p_kw",
    "/api/v1/commands",
    "/api/v1/events",
    "/api/v1/reserve",
    "/metrics",
    "/",
    "/api/v1/openapi.json",
)


def client(history: FakeHistory | None = None, plans: FakePlans | None = None, **options) -> TestClient:
    app = create_app(
        site=site(),
        history=full_history() if history is None else history,
        plans=FakePlans([plan()], explained={"p-7": explanation(plan())}) if plans is None else plans,
        clock=clock(),
        **options,
    )
    return TestClient(app, base_url=BASE, raise_server_exceptions=False)


@pytest.fixture
def api() -> Iterator[TestClient]:
    with client() as c:
        yield c


@pytest.mark.parametrize("route", ROUTES)
def test_route_with_data_that_holds_nan_answers_200(api, route):
    answer = api.get(route)
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"] == "application/json":
        assert "NaN" not in answer.text
        answer.json()


@pytest.mark.parametrize("route", ROUTES)
def test_route_with_empty_stores_answers_without_error(route):
    answer = client(FakeHistory(), FakePlans()).get(route)
    nothing_there = route in ("/api/v1/condition", "/api/v1/plan", "/api/v1/plans/p-7") or "expl" in route
    assert answer.status_code == (404 if nothing_there else 503 if route == "/ready" else 200)
    if nothing_there:
        assert answer.json()["error"]


@pytest.mark.parametrize(
    "error", [DataError("history.sqlite is not a database"), OSError("disk I/O error"), ValueError("boom")]
)
@pytest.mark.parametrize("route", ROUTES[1:])
def test_route_with_broken_stores_answers_in_words(route, error):
    broken = FakeHistory(broken=error)
    answer = client(broken, FakePlans(broken=DataError("plans.sqlite is not a database"))).get(route)
    if isinstance(error, ValueError):  # a bug: said so, without its text
        assert answer.status_code in (200, 404, 500, 503)
        assert "boom" not in answer.text
    else:
        assert answer.status_code in (200, 404, 503)
        if answer.status_code == 503 and route != "/ready":
            assert "cannot be read" in answer.json()["error"]


def test_health_says_live_even_when_nothing_works():
    assert client(FakeHistory(broken=DataError("x"))).get("/health").json()["status"] == "live"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({}, "never reported"),
        ({"edge": status("edge", 90)}, "last reported 90 s ago"),
        ({"edge": status("edge", 2)}, None),
    ],
)
def test_ready_names_its_reasons(rows: dict[str, StatusRow], words):
    history = full_history()
    history.status_rows = rows
    answer = client(history).get("/ready")
    assert answer.status_code == (503 if words else 200)
    assert answer.json()["ready"] is (words is None)
    assert (words or "") in " ".join(answer.json()["reasons"])


def test_ready_notes_a_plan_that_ran_out_and_a_silent_planner():
    old = FakePlans([plan(issued_at=NOW - timedelta(hours=5))])
    answer = client(plans=old, more_statuses=lambda: {"planner": status("planner", 400)}).get("/ready")
    assert answer.status_code == 200
    notes = " ".join(answer.json()["notes"])
    assert "ran out at 2026-03-02T09:00:00+00:00" in notes
    assert "planner last reported 400 s ago" in notes
    assert [p["process"] for p in answer.json()["processes"]] == ["edge", "planner"]


def test_site_lists_points_with_path_and_unit(api):
    points = {p["point"]: p for p in api.get("/api/v1/site").json()["points"]}
    assert points["bess1.p_set_kw"]["path"] == "org/portfolio/small/plant/bess1/p_set_kw"
    assert points["bess1.p_set_kw"]["access"] == "write"
    assert points["grid1.v_pu"]["unit"] == "pu"


def test_snapshot_carries_quality_age_and_null_for_nan(api):
    readings = api.get("/api/v1/snapshot").json()["readings"]
    assert readings["grid1.p_kw"] == {
        "value": 100.0,
        "quality": "good",
        "unit": "kW",
        "source_time": "2026-03-02T11:59:59Z",
        "age_s": 1.0,
    }
    assert readings["bess1.soc"]["value"] is None
    assert readings["gen1.p_kw"]["quality"] == "comm_failed"


def test_inputs_say_what_is_known_late_and_refused():
    price, sky = (
        InputParams(id=name, kind=InputKind(kind), provider=house_provider(InputKind(kind)), folder="x")
        for name, kind in (("market", "price"), ("sky", "weather"))
    )
    fields: dict[str, JsonValue] = {
        "version": 7, "issued_at": "2026-03-02T11:00:00+00:00", "age_s": 3600.0, "late": "",
        "refused": "b.csv: why",
    }  # fmt: skip
    rows = {
        "input_market": StatusRow(process="input_market", pid=1, at=NOW, fields=fields),
        "inputs": StatusRow(process="inputs", pid=1, at=NOW, fields={"overrun": "x was announced until"}),
    }
    app = create_app(
        site=replace(site(), inputs=(price, sky)), history=full_history(), plans=FakePlans(), clock=clock(),
        more_statuses=lambda: rows,
    )  # fmt: skip
    body = TestClient(app, base_url=BASE).get("/api/v1/inputs").json()
    market, weather = body["inputs"]
    assert (market["input"], market["version"], market["age_s"], market["late"]) == ("market", 7, 3600.0, "")
    assert market["issued_at"] == "2026-03-02T11:00:00Z"
    assert market["refused"] == "b.csv: why"
    assert (weather["kind"], weather["late"], weather["told_at"]) == ("weather", "nobody looks", None)
    assert body["overrun"] == "x was announced until"
    gone = {k: replace(r, at=NOW - timedelta(hours=2)) for k, r in rows.items()}
    app = create_app(
        site=replace(site(), inputs=(price, sky)), history=full_history(), plans=FakePlans(), clock=clock(),
        more_statuses=lambda: gone,
    )  # fmt: skip
    body = TestClient(app, base_url=BASE).get("/api/v1/inputs").json()
    market = body["inputs"][0]
    assert (market["late"], market["age_s"], body["overrun"]) == ("nobody looks", 3 * 3600.0, "")


@pytest.mark.parametrize(
    ("fields", "overrun", "state"),
    [
        ({}, "", "fresh"),
        ({"refused": "b.csv: why"}, "", "refused"),
        ({"failed": "nobody listens there", "refused": "b.csv: why"}, "", "failed"),
        ({"trouble": "the disk is full"}, "", "failed"),
        ({"late": "3.0 h old", "failed": "nobody listens there"}, "", "late"),
        ({"late": "3.0 h old"}, "sheds.x was announced until 03-02 08:00 UTC", "overrun"),
        ({}, "other.x was announced until 03-02 08:00 UTC", "fresh"),
    ],
)
def test_state_of_an_input_is_the_worst_of_what_is_told(fields, overrun, state):
    params = InputParams(
        id="sheds", kind=InputKind.OUTAGES, provider=house_provider(InputKind.OUTAGES),
        url="https://x.example/v1?key=secret",
    )  # fmt: skip
    rows = {
        "input_sheds": StatusRow(process="input_sheds", pid=1, at=NOW, fields=fields),
        "inputs": StatusRow(process="inputs", pid=1, at=NOW, fields={"overrun": overrun}),
    }
    app = create_app(
        site=replace(site(), inputs=(params,)), history=full_history(), plans=FakePlans(), clock=clock(),
        more_statuses=lambda: rows,
    )  # fmt: skip
    (found,) = TestClient(app, base_url=BASE).get("/api/v1/inputs").json()["inputs"]
    assert (found["state"], found["source"], found["used_for"]) == (
        state, "https://x.example/v1", "outages in plans",
    )  # fmt: skip


def test_values_are_told_prices_with_their_version_the_tariffs_without_and_outages():
    price, sheds = (
        InputParams(id=kind, kind=InputKind(kind), provider=house_provider(InputKind(kind)), folder="x")
        for kind in ("price", "outages")
    )
    hour, known = timedelta(hours=1), Known()
    told = known.add("price", NOW - 9 * hour, NOW, {"import_per_kwh": [0.5, -0.1]})
    known.add("price", NOW + hour, NOW, {"import_per_kwh": [9.0]})
    unsure = outage("y", NOW - hour, NOW + hour, certainty=Certainty.POSSIBLE)
    known.add("outages", NOW - hour, NOW, {}, outages=[outage("x", NOW - hour, NOW + 2 * hour), unsure])
    app = create_app(
        site=replace(site(), inputs=(price, sheds)), history=full_history(), plans=FakePlans(), clock=clock(),
        inputs=known,
    )  # fmt: skip
    body = TestClient(app, base_url=BASE).get("/api/v1/inputs/values").json()
    prices = body["prices"]
    assert prices["start"] == "2026-03-02T09:00:00Z"
    assert prices["import_per_kwh"][12:21] == [0.5] * 4 + [-0.1] * 4 + [0.16]
    assert prices["import_version"][11:21] == [None] + [told.id] * 8 + [None]
    assert prices["export_per_kwh"] == [0.04] * len(prices["import_per_kwh"])
    assert [(v["version"], v["sha256"]) for v in prices["versions"]] == [(told.id, told.sha256)]
    assert {o["id"]: o["planned_with"] for o in body["outages"]} == {"x": True, "y": False}


def test_values_without_inputs_are_none(api):
    body = api.get("/api/v1/inputs/values").json()
    assert (body["prices"], body["outages"]) == (None, [])


def test_plan_tells_steps_and_validity(api):
    body = api.get("/api/v1/plan").json()
    assert body["valid"] is True
    assert body["age_s"] == 300.0
    assert body["step_starts"][1] == "2026-03-02T12:10:00Z"
    assert body["plan"]["genset_p_kw"]["gen2"] == [0.0, 0.0, 90.0, 90.0]
    assert body["plan"]["solve"]["gap_ratio"] == 0.024


def test_explanation_of_the_plan_in_force_and_of_the_present_step():
    why = explanation(plan())
    plans = FakePlans([plan("p-6"), plan()], explained={"p-7": why, "p-6": replace(why, plan_id="p-6")})
    with client(plans=plans) as api:
        body = api.get("/api/v1/plan/explanation").json()
        assert (body["plan_id"], body["current"]) == ("p-7", True)
        assert [w["step"] for w in body["explanation"]["setpoints"]] == [0, 1, 2, 3]
        assert body["explanation"]["commitments"][0]["sentence"] == "gen2 starts and runs."
        present = api.get("/api/v1/plan/explanation", params={"present": True}).json()["explanation"]
        assert [w["sentence"] for w in present["setpoints"]] == ["because of step 0."]
        assert present["commitments"] == []
        assert present["notes"] == ["in brief"]
        assert api.get("/api/v1/plans/p-6/explanation").json()["current"] is False
        assert api.get("/api/v1/plan/explanation", params={"presnt": True}).status_code == 422


def test_explanation_that_is_not_there_is_said_to_be_missing():
    with client(plans=FakePlans([plan()])) as api:
        answer = api.get("/api/v1/plan/explanation")
        assert answer.status_code == 404
        assert "not explained, or not yet" in answer.json()["error"]
        assert api.get("/api/v1/plans/p-7/explanation").status_code == 404
        assert api.get("/api/v1/plans/none/explanation").json()["error"] == "there is no plan of this id"
    with client(plans=FakePlans()) as api:
        assert api.get("/api/v1/plan/explanation").json()["error"] == "no plan was ever published"


def test_plans_newest_first_within_the_window():
    many = FakePlans([plan(f"p-{i}", NOW - timedelta(minutes=15 * (8 - i))) for i in range(8)])
    with client(plans=many) as api:
        rows = api.get("/api/v1/plans", params={"limit": 3}).json()
        assert [p["plan_id"] for p in rows["plans"]] == ["p-7", "p-6", "p-5"]
        assert rows["truncated"] is True
        earlier = api.get(
            "/api/v1/plans", params={"start": "2026-03-02T10:00:00Z", "end": "2026-03-02T10:20:00Z"}
        ).json()
        assert [p["plan_id"] for p in earlier["plans"]] == ["p-1", "p-0"]
        assert earlier["truncated"] is False
        assert api.get("/api/v1/plans/p-2").json()["plan"]["plan_id"] == "p-2"
        assert api.get("/api/v1/plans/none").status_code == 404


def test_history_window_limit_and_truncation(api):
    params = {"point": "grid1.p_kw", "start": "2026-03-02T14:30:00+03:00", "end": "2026-03-02T15:00:00+03:00"}
    body = api.get("/api/v1/history", params=params | {"limit": 5}).json()
    assert body["unit"] == "kW"
    assert [s["value"] for s in body["samples"]] == [100.0, 101.0, 102.0, None, 104.0]
    assert body["truncated"] is True
    whole = api.get("/api/v1/history", params=params).json()
    assert len(whole["samples"]) == 120
    assert whole["truncated"] is False


def test_recorded_tells_the_time_of_the_device_and_whether_it_is_believed():
    kept = [
        DeviceSample(
            point="grid1.p_kw", value=value, quality=quality, at=NOW - timedelta(minutes=30 - i),
            told_at=told_at, arrived_at=NOW, clock=clock,
        )
        for i, (value, quality, told_at, clock) in enumerate((
            (1.5, Quality.GOOD, NOW - timedelta(minutes=30), TimeBasis.DEVICE),
            (2.5, Quality.STALE, None, TimeBasis.NONE),
            (None, Quality.DEVICE_BAD, NOW + timedelta(days=9), TimeBasis.AHEAD),
        ))
    ]  # fmt: skip
    with client(FakeHistory(recorded_rows=kept)) as api:
        body = api.get("/api/v1/recorded", params={"point": "grid1.p_kw", "limit": 2}).json()
        assert (body["unit"], body["truncated"]) == ("kW", True)
        assert [(s["value"], s["clock"]) for s in body["samples"]] == [(1.5, "device"), (2.5, "none")]
        assert body["samples"][0]["told_at"] == "2026-03-02T11:30:00Z"
        assert body["samples"][1]["told_at"] is None
        assert api.get("/api/v1/recorded", params={"point": "grid1.nope"}).status_code == 404


def test_commands_say_what_and_why_and_refusals_with_nan_are_null(api):
    rows = api.get("/api/v1/commands").json()["commands"]
    assert rows[0]["reason"] == "charge from PV, as planned"
    assert rows[0]["outcome"] == "confirmed"
    assert rows[1]["value"] is None
    assert rows[1]["refused_code"] == "not_finite"
    one = api.get("/api/v1/commands", params={"point": "pv1.p_limit_kw"}).json()["commands"]
    assert [c["point"] for c in one] == ["pv1.p_limit_kw"]


def test_events_by_kind(api):
    assert api.get("/api/v1/events", params={"kind": "no.such.kind"}).json()["events"] == []
    found = api.get("/api/v1/events", params={"kind": "grid.mains.lost"}).json()["events"]
    assert found[0]["fields"] == {"v_pu": None, "by": "<b>meter</b>"}


HOSTILE = [
    ("/api/v1/history", {}),
    ("/api/v1/history", {"point": "grid1.p_kw", "limit": "0"}),
    ("/api/v1/history", {"point": "grid1.p_kw", "limit": "10001"}),
    ("/api/v1/history", {"point": "grid1.p_kw", "limit": "-1"}),
    ("/api/v1/history", {"point": "grid1.p_kw", "limit": "NaN"}),
    ("/api/v1/history", {"point": "grid1.p_kw", "limit": "1e400"}),
    ("/api/v1/history", {"point": "grid1.p_kw", "limit": "Infinity"}),
    ("/api/v1/history", {"point": "grid1.p_kw", "start": "NaN"}),
    ("/api/v1/history", {"point": "grid1.p_kw", "start": "yesterday"}),
    ("/api/v1/history", {"point": "grid1.p_kw", "start": "2026-03-02T00:00:00"}),
    ("/api/v1/history", {"point": "grid1.p_kw", "start": "2026-03-02T00:00:00 03:00"}),
    ("/api/v1/history", {"point": "grid1.p_kw", "start": "0001-01-01T00:00:00+14:00"}),
    ("/api/v1/history", {"point": "grid1.p_kw", "start": "9999-12-31T23:59:59-14:00"}),
    ("/api/v1/history", {"point": "grid1.p_kw", "start": "2026-03-02T13:00:00Z"}),
    ("/api/v1/history", {"point": "grid1.p_kw", "start": "2020-01-01T00:00:00Z"}),
    ("/api/v1/history", {"point": "x" * 1000}),
    ("/api/v1/recorded", {}),
    ("/api/v1/recorded", {"point": "grid1.p_kw", "every_s": "60"}),
    ("/api/v1/history", {"point": "grid1.p_kw", "begin": "2026-03-02T00:00:00Z"}),
    ("/api/v1/commands", {"end": "2026-13-02T00:00:00Z"}),
    ("/api/v1/events", {"end": "\x00"}),
    ("/api/v1/snapshot", {"point": "grid1.p_kw"}),
]


@pytest.mark.parametrize(("route", "params"), HOSTILE)
def test_hostile_query_is_422_in_words(api, route, params):
    answer = api.get(route, params=params)
    assert answer.status_code == 422, answer.text
    problem = answer.json()["problems"][0]
    assert problem["where"].startswith("query")
    assert problem["message"]


def test_bad_time_tells_what_a_good_one_looks_like(api):
    answer = api.get("/api/v1/history?point=grid1.p_kw&start=2026-03-02T00:00:00+03:00")
    assert "write + as %2B" in answer.json()["problems"][0]["message"]


@pytest.mark.parametrize("point", ["nope.p_kw", "grid1.nope", "grid1", "", "../../etc/passwd", "é.p_kw"])
def test_history_of_unknown_point_is_404(api, point):
    assert api.get("/api/v1/history", params={"point": point}).status_code == 404


def test_readers_are_never_asked_for_more_than_the_bound():
    history = full_history()
    client(history).get("/api/v1/history", params={"point": "grid1.p_kw", "limit": 10_000})
    assert history.largest_limit == 10_001


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
@pytest.mark.parametrize("route", ["/api/v1/plan", "/api/v1/commands", "/", "/nowhere"])
def test_writes_are_refused_everywhere(api, method, route):
    answer = api.request(method.upper(), route)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET"


def test_every_route_of_the_description_is_read_only(api):
    paths = api.get("/api/v1/openapi.json").json()["paths"]
    assert {m for methods in paths.values() for m in methods} == {"get"}
    assert "/api/v1/plans/{plan_id}" in paths


@pytest.mark.parametrize("headers", [{"content-length": "1"}, {"transfer-encoding": "chunked"}])
def test_request_with_a_body_is_refused_unread(api, headers):
    answer = api.request("GET", "/health", headers=headers)
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1", 200), ("127.0.0.1:9999", 200), ("localhost:1", 200), ("[::1]:8080", 200),
        ("LOCALHOST", 200),
        ("evil.example", 400), ("127.0.0.1.evil.example", 400), ("", 400), ("localhost.evil:8080", 400),
    ],
)  # fmt: skip
def test_host_header_must_name_this_service(api, host, code):
    assert api.get("/health", headers={"host": host}).status_code == code


def test_overlong_target_is_refused(api):
    assert api.get("/api/v1/plans/" + "x" * 5000).status_code == 414


def test_answers_carry_security_headers_and_errors_too(api):
    for route in ("/health", "/nowhere", "/api/v1/history"):
        headers = api.get(route).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]


def test_page_needs_nothing_from_elsewhere(api):
    text = api.get("/").text
    assert not re.search(r"(src|href)=\"(https?:)?//", text)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "innerHTML" not in text
    for docs in ("/docs", "/redoc"):
        assert api.get(docs).status_code == 404


WINDOW = {"point": "grid1.p_kw", "start": "2026-03-02T14:30:00+03:00", "end": "2026-03-02T15:00:00+03:00"}


def test_history_in_buckets_says_least_mean_most_count_and_worst(api):
    body = api.get("/api/v1/history", params=WINDOW | {"every_s": 60}).json()
    assert (body["every_s"], body["samples"], body["truncated"]) == (60, [], False)
    first = body["buckets"][0]
    assert (first["low"], first["high"], first["count"], first["good"]) == (100.0, 105.0, 6, 5)
    assert first["quality"] == "not_finite"
    assert first["low"] <= first["mean"] <= first["high"]
    assert sum(b["count"] for b in body["buckets"]) == 120


def test_history_in_buckets_of_the_shortest_length_that_makes_few_enough(api):
    lengths = []
    for most in (1, 5, 20, 60, 10_000):
        body = api.get("/api/v1/history", params=WINDOW | {"max_points": most}).json()
        assert len(body["buckets"]) <= most
        assert sum(b["count"] for b in body["buckets"]) == 120
        lengths.append(body["every_s"])
    assert lengths == [86400, 600, 120, 60, 1]
    assert api.get("/api/v1/history", params=WINDOW).json()["every_s"] is None


def test_history_in_buckets_window_that_begins_within_one_has_it_whole(api):
    late = WINDOW | {"start": "2026-03-02T14:30:47+03:00", "every_s": 60}
    body = api.get("/api/v1/history", params=late).json()
    assert body["buckets"][0]["count"] == 6


def test_history_in_buckets_more_than_the_limit_is_truncated(api):
    body = api.get("/api/v1/history", params=WINDOW | {"every_s": 60, "limit": 3}).json()
    assert (len(body["buckets"]), body["truncated"]) == (3, True)


@pytest.mark.parametrize(
    ("more", "where", "allowed"),
    [
        ({"every_s": 7}, "query.every_s", "expected one of 1, 2, 5"),
        ({"every_s": 60, "max_points": 5}, "query.max_points", "expected one of them"),
        ({"max_points": 0}, "query.max_points", ""),
    ],
)
def test_history_in_buckets_that_there_are_not_is_refused_by_name(api, more, where, allowed):
    answer = api.get("/api/v1/history", params=WINDOW | more)
    assert answer.status_code == 422
    assert where in answer.text
    assert allowed in answer.text


def test_long_search_of_commands_holds_up_no_other_answer():
    """Whoever looked for a year of a rare command kept page, metrics and readiness from everybody."""
    history, searching, go_on = full_history(), threading.Event(), threading.Event()

    class Slow(FakeHistory):
        def commands(self, *asked):
            searching.set()
            assert go_on.wait(30.0)
            return history.commands(*asked)

    slow = Slow(**{name: getattr(history, name) for name in FakeHistory.__dataclass_fields__})
    with client(slow) as c, ThreadPoolExecutor() as pool:
        search = pool.submit(c.get, "/api/v1/commands")
        assert searching.wait(30.0)
        others = [pool.submit(c.get, route) for route in ("/ready", "/api/v1/snapshot", "/metrics")]
        try:
            assert [o.result(10.0).status_code for o in others] == [200, 200, 200]
        finally:
            go_on.set()
        assert search.result(30.0).status_code == 200
