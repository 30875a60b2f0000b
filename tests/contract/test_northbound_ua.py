"""Our OPC UA server, read, subscribed to and written by node-opcua, which shares no code with it."""

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ems.northbound_names import ua_namespace
from ems.requests import TellLimit
from tests.contract.northbound_ua_peer import NodeClient, laid_out, serving
from tests.contract.pki import NOW, pair

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.needs_server]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Files, and a client."""
    folder = tmp_path_factory.mktemp("ua")
    programs = {n: pair(f"urn:test:{n}", "edge") for n in ("client", "stranger")}
    programs["late"] = pair("urn:test:late", "edge", ends=NOW - dt.timedelta(days=1))
    files = laid_out(folder, programs, {"eve": pair("urn:test:eve"), "mallory": pair("urn:test:mallory")})
    for name in ("client", "late"):
        (folder / "trusted" / f"{name}.der").write_bytes(programs[name].der)
    return folder, files


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(place) -> AsyncIterator[NodeClient]:
    client = await NodeClient.made(place[0])
    yield client
    await client.end()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def up(demo, place, tmp_path_factory) -> AsyncIterator[Any]:
    folder, files = place
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("connectors.northbound.image.FRESH_S_MIN", 600.0)  # on a busy machine
        async with serving(demo, folder, tmp_path_factory.mktemp("run"), files) as both:
            yield both


async def test_plant_is_found_by_its_hierarchy_with_units_quality_and_time(node, up, demo):
    serving, _ = up
    assert await node.connect(serving.port) is True
    index = (await node.ask("namespaces")).index(ua_namespace(demo))
    h = demo.hierarchy
    way = [h.organisation, h.portfolio, h.plant, h.subsystem_of["grid1"], "grid1", "p_kw"]
    path = "".join(f"/{index}:{step}" for step in way)
    assert await node.ask("find", path=path) == f"ns={index};s=grid1.p_kw"
    grid, pv, never = (f"ns={index};s={n}" for n in ("grid1.p_kw", "pv1.p_kw", "bess1.soc"))
    found = await node.ask("read", ids=[grid, pv, never])
    assert (found[0]["value"], found[0]["status"]) == (123.5, "Good")
    age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(found[0]["at"])
    assert abs(age) < dt.timedelta(minutes=5)
    assert [f["status"] for f in found[1:]] == ["BadNoCommunication"] * 2
    assert await node.ask("unit", id=grid) == {"id": 4937556, "name": "kW"}
    await node.ask("close")


async def test_changes_are_told_and_an_edge_that_stands_still_is_seen(node, up, demo, monkeypatch):
    serving, plant = up
    await node.connect(serving.port, user="scada:look")
    index = (await node.ask("namespaces")).index(ua_namespace(demo))
    grid = f"ns={index};s=grid1.p_kw"
    assert await node.ask("subscribe", ids=[grid]) == 100  # asked for 50 ms
    plant.cycle(grid1__p_kw=124.5)
    await node.until_told(grid, 124.5)
    real = plant.board._monotonic_s
    monkeypatch.setattr(plant.board, "_monotonic_s", lambda: real() + 700.0)
    await node.until_told(grid, 124.5, "UncertainLastUsableValue")
    monkeypatch.undo()
    plant.cycle(grid1__p_kw=125.5)
    await node.until_told(grid, 125.5)
    await node.ask("close")


@pytest.mark.parametrize("user", ["dso:tell", "eve"])
async def test_declared_bound_is_told_to_the_edge_by_a_user_with_the_role(node, up, demo, user):
    serving, plant = up
    assert await node.connect(serving.port, user=user) is True
    index = (await node.ask("namespaces")).index(ua_namespace(demo))
    limit = f"ns={index};s=limit.dso"
    assert await node.ask("write", id=limit, value=200.5) == "GoodCompletesAsynchronously"
    (one,) = plant.desk.collect()
    assert one.request.ask == TellLimit(limit="dso", value_kw=200.5)
    assert one.request.session.startswith(f"scada: user {user.partition(':')[0]} of CN=urn:test:client, role")
    plant.event("authority.request.done", request_id=one.request.id, text="limit dso 200.5 kW")
    plant.cycle(grid1__p_kw=1.0, fields={"limits_told_kw": {"dso": 200.5}})
    plant.door.hear(plant.answers())
    await node.ask("subscribe", ids=[limit, f"ns={index};s=answer.dso"])
    await node.until_told(limit, 200.5)
    await node.until_told(f"ns={index};s=answer.dso", 2.0)
    await node.ask("close")


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("scada:look", {"value": 200.0}, "BadUserAccessDenied", "has neither a role"),
    ("dso:tell", {"value": -1.0}, "BadOutOfRange", "allowed: 0 kW or more"),
    ("dso:tell", {"value": "much", "type": "String"}, "BadTypeMismatch", "is no number"),
    ("dso:tell", {"value": 1.0, "at": "2020-01-01T00:00:00Z"}, "BadInvalidTimestamp", "stamped 2020-01-01"),
    ("dso:tell", {"value": 1.0, "name": "grid1.p_kw"}, "BadNotWritable", "only values of the limits"),
    ("dso:tell", {"value": 1.0, "name": "cap.import_kw"}, "BadNotWritable", "only values of the limits"),
    ("dso:tell", {"value": "x", "type": "String", "attribute": 4}, "BadNotWritable", "only values"),
]


async def test_anything_else_is_refused_and_recorded(node, up, demo):
    serving, plant = up
    for user, write, status, why in REFUSED:
        await node.connect(serving.port, user=user)
        index = (await node.ask("namespaces")).index(ua_namespace(demo))
        target = f"ns={index};s={write.get('name', 'limit.dso')}"
        asked = {k: v for k, v in write.items() if k != "name"}
        assert await node.ask("write", id=target, **asked) == status, write
        assert why in plant.records.last.why, write
        await node.ask("close")
    assert plant.desk.collect() == []


async def test_methods_cannot_be_called(node, up):
    await node.connect(up[0].port)
    assert "BadServiceUnsupported" in str(await node.ask("call"))
    await node.ask("close")


NOT_LET_IN = [
    ("stranger", "dso:tell", "is not in"),
    ("late", "dso:tell", "expired on"),
    ("client", "dso:guess", "another password than that of dso"),
    ("client", "nobody:tell", "there is no user 'nobody'"),
    ("client", "mallory", "the user's certificate is nobody's here"),
]


@pytest.mark.parametrize(("program", "user", "why"), NOT_LET_IN)
async def test_whoever_is_not_known_is_not_let_in_and_recorded(node, up, program, user, why):
    serving, plant = up
    answer = await node.connect(serving.port, program, user)
    assert "error" in answer
    assert why in plant.records.last.why, answer
    await node.ask("close")


async def test_server_said_to_be_open_shows_and_takes_nothing(node, demo, place, tmp_path):
    folder: Path = place[0]
    more = {"policies": ("None",), "users": (), "writes": None}
    async with serving(demo, folder, tmp_path, None, **more) as (server, plant):
        await node.connect(server.port, user=None, mode="None", policy="None")
        index = (await node.ask("namespaces")).index(ua_namespace(demo))
        (grid,) = await node.ask("read", ids=[f"ns={index};s=grid1.p_kw"])
        assert grid["value"] == 123.5
        assert await node.ask("write", id=f"ns={index};s=limit.dso", value=1.0) == "BadNotWritable"
        assert plant.desk.collect() == []
        await node.ask("close")
