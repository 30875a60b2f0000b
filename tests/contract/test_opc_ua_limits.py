"""OPC UA servers that take few nodes in one request: each is asked in portions, or says why it cannot be."""

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua

from connectors.field import FieldIO
from connectors.link import LinkError
from connectors.opcua.browse import browse
from connectors.opcua.client import OpcUaLink
from connectors.point_map import point_codecs
from ems.clock import SystemClock, VirtualClock, wall_s, wall_sleep
from ems.commands import WriteOutcome
from ems.site import UaSubscription
from ems.telemetry import Quality
from tests.builders import T0
from tests.contract.limited_plant import NODES, LimitedPlant
from tests.contract.plants import START, command, reset, site_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
ALL = dict.fromkeys(NODES, 3)
SUBSCRIBED = UaSubscription(publishing_s=0.1, sampling_s=0.1, keep_alive_s=0.3, queue=4)
UA = "http://opcfoundation.org/UA/"
SET = {"p_set_kw": 55.0, "run_request": 1.0, "p_limit_kw": 400.0}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server() -> AsyncIterator[LimitedPlant]:
    plant = LimitedPlant()
    await plant.start()
    yield plant
    await plant.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def plant(server: LimitedPlant) -> LimitedPlant:
    server.forget()
    await reset(server)
    return server


def by_path(plant: LimitedPlant) -> dict[str, Any]:
    """The same points by browse paths."""
    rows = (
        dataclasses.replace(p, address=f"nsu={UA};path={p.point.partition('.')[2]}")
        for p in plant.connection.points
    )
    return {"points": tuple(rows)}


def link_of(plant: LimitedPlant, **changes: Any) -> OpcUaLink:
    connection = dataclasses.replace(plant.connection, **changes)
    return OpcUaLink(
        connection,
        list(point_codecs(connection).values()),
        host="127.0.0.1",
        port=connection.port,
        timeout_s=1.0,
        now=SystemClock().now,
    )


def values_of(told: dict[str, Any]) -> dict[str, float | None]:
    return {p.removeprefix("dev."): v.value for p, v in told.items() if v.quality is Quality.GOOD}


def wishes(plant: LimitedPlant) -> list[Any]:
    return [(plant.codecs[f"dev.{name}"], value) for name, value in SET.items()]


@pytest.mark.parametrize("most", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("paths", [False, True])
async def test_limits_told_every_point_read_and_written_in_portions(plant, most, paths):
    plant.enforced = dict.fromkeys(NODES, most)
    plant.tell(**plant.enforced)
    link = link_of(plant, **(by_path(plant) if paths else {}))
    await link.connect()
    plant.sizes.pop("read")
    assert values_of(await link.read()) == pytest.approx(START)
    assert plant.sizes["read"] == [most] * (7 // most) + [7 % most] * (7 % most > 0)
    assert sum(plant.sizes.get("paths", [])) == 6 * paths
    replies = await link.write(wishes(plant), float("inf"))
    assert [r.outcome for r in replies] == [WriteOutcome.CONFIRMED] * 3
    assert sum(plant.sizes["write"]) == 3
    assert {name: await plant.get(name) for name in SET} == pytest.approx(SET)
    assert values_of(await link.read()) == pytest.approx(START | SET)
    assert max(max(sizes) for sizes in plant.sizes.values()) <= most
    await link.disconnect()


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_limits_told_every_point_subscribed_to_in_portions(plant, most):
    plant.enforced = dict.fromkeys(NODES, most)
    plant.tell(**plant.enforced)
    link = link_of(plant, subscription=SUBSCRIBED)
    await link.connect()
    assert plant.sizes["items"] == [most] * (3 // most) + [3 % most] * (3 % most > 0)
    plant.sizes.pop("read")
    assert values_of(await link.read()) == pytest.approx(START)
    assert sum(plant.sizes["read"]) == 4, "the setpoints and the namespaces"
    await plant.put("p_kw", -250.0)
    until_s = wall_s() + 5.0
    while (await link.read())["dev.p_kw"].value != -250.0:
        assert wall_s() < until_s
        await wall_sleep(0.05)
    await link.disconnect()


@pytest.mark.parametrize("most", [1, 2, 5])
async def test_limits_told_every_point_is_browsed_in_portions(plant, most):
    plant.enforced = dict.fromkeys(NODES, most)
    plant.tell(**plant.enforced)
    lines = [line async for line in browse(plant.connection, "127.0.0.1", plant.connection.port)]
    assert {p.address for p in plant.connection.points} <= {line.place for line in lines}
    assert sum(plant.sizes["browse"]) > max(plant.sizes["browse"])
    assert max(max(sizes) for sizes in plant.sizes.values()) <= most


async def test_server_that_takes_few_and_does_not_say_so_is_told_by_its_answer(plant):
    plant.enforced = {"browse": 1}
    with pytest.raises(LinkError, match="it tells no MaxNodesPerBrowse"):
        [line async for line in browse(plant.connection, "127.0.0.1", plant.connection.port)]


async def test_limits_told_device_comes_up_and_takes_its_commands(plant):
    plant.enforced = ALL
    plant.tell(**ALL)
    clock = VirtualClock(T0)
    address = {plant.connection.id: ("127.0.0.1", plant.connection.port)}
    io = FieldIO(site_of(plant.connection), clock=clock, addresses=address)
    clock.advance(1.0)
    assert values_of({r.point: r for r in await io.read_all()}) == pytest.approx(START)
    results = await io.write([command(f"dev.{n}", v, i) for i, (n, v) in enumerate(SET.items(), 1)])
    assert {r.outcome for r in results} == {WriteOutcome.CONFIRMED}
    clock.advance(1.0)
    assert values_of({r.point: r for r in await io.read_all()}) == pytest.approx(START | SET)
    await io.close()


async def test_read_limit_not_told_down_with_what_was_answered_and_asked(plant):
    plant.enforced = {"read": 3}
    reasons: list[str] = []
    clock = VirtualClock(T0)
    io = FieldIO(
        site_of(plant.connection),
        clock=clock,
        addresses={plant.connection.id: ("127.0.0.1", plant.connection.port)},
        on_event=lambda at, kind, fields: reasons.append(str(fields.get("reason", "up"))),
    )
    clock.advance(1.0)
    assert {r.quality for r in await io.read_all()} == {Quality.COMM_FAILED}
    assert "has answered BadTooManyOperations to a Read of 7 nodes; it tells no MaxNodesPerRead" in reasons[0]
    await io.close()


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("items", "to a CreateMonitoredItems of 3 nodes; it tells no MaxMonitoredItemsPerCall"),
        ("paths", "to a TranslateBrowsePathsToNodeIds of 6 nodes; it tells no MaxNodesPerTranslate"),
    ],
)
async def test_limit_not_told_connect_refused_with_what_was_asked(plant, kind, told):
    plant.enforced = {kind: 2}
    changes = {"subscription": SUBSCRIBED} if kind == "items" else by_path(plant)
    link = link_of(plant, **changes)
    with pytest.raises(LinkError, match=told):
        await link.connect()
    await link.disconnect()


async def test_write_limit_not_told_rejected_with_what_was_asked_and_nothing_written(plant):
    plant.enforced = {"write": 2}
    link = link_of(plant)
    await link.connect()
    replies = await link.write(wishes(plant), float("inf"))
    assert [r.outcome for r in replies] == [WriteOutcome.REJECTED] * 3
    assert "BadTooManyOperations to a Write of 3 nodes; it tells no MaxNodesPerWrite" in replies[0].detail
    assert values_of(await link.read()) == pytest.approx(START)
    await link.disconnect()


async def test_limit_told_that_is_not_kept_says_both(plant):
    plant.enforced = {"read": 2}
    plant.tell(read=4)
    link = link_of(plant)
    await link.connect()
    with pytest.raises(LinkError, match="to a Read of 4 nodes; its MaxNodesPerRead is 4"):
        await link.read()
    await link.disconnect()


async def test_write_portion_not_answered_unknown_those_before_it_stand_those_after_are_not_sent(plant):
    plant.tell(write=1)

    async def stall(kind: str, before: int) -> None:
        if kind == "write" and before == 1:
            await wall_sleep(1.5)
            raise ConnectionError("never answered")

    plant.meanwhile = stall
    link = link_of(plant)
    await link.connect()
    began_s = wall_s()
    replies = await link.write(wishes(plant), float("inf"))
    assert wall_s() - began_s < 1.4, "one deadline for all of them"
    assert [r.outcome for r in replies] == [
        WriteOutcome.CONFIRMED,
        WriteOutcome.UNKNOWN,
        WriteOutcome.NOT_SENT,
    ]
    assert not link.connected
    assert await plant.get("p_limit_kw") == START["p_limit_kw"]
    await link.disconnect()
    await wall_sleep(0.6)  # until the server has given it up too


async def test_write_cycle_over_between_portions_the_rest_is_not_sent(plant):
    plant.tell(write=2)

    async def slow(kind: str, _: int) -> None:
        if kind == "write":
            await wall_sleep(0.3)

    plant.meanwhile = slow
    link = link_of(plant)
    await link.connect()
    replies = await link.write(wishes(plant), wall_s() + 0.2)
    assert [r.outcome for r in replies] == [WriteOutcome.CONFIRMED] * 2 + [WriteOutcome.NOT_SENT]
    assert link.connected
    assert plant.sizes["write"] == [2]
    await link.disconnect()


async def test_namespaces_renumbered_between_portions_of_a_poll_no_value_taken(plant):
    plant.tell(read=2)
    link = link_of(plant)
    await link.connect()
    plant.sizes.pop("read")

    async def renumber(kind: str, before: int) -> None:
        if kind == "read" and before == 1:
            await plant.server.register_namespace("urn:test:added:later")

    plant.meanwhile = renumber
    with pytest.raises(LinkError, match="namespaces of the server have changed"):
        await link.read()
    await link.disconnect()


async def test_absurd_limit_asked_one_by_one(plant):
    plant.tell(read=-5, write=-1)
    link = link_of(plant)
    await link.connect()
    plant.sizes.pop("read")
    assert values_of(await link.read()) == pytest.approx(START)
    assert plant.sizes["read"] == [1] * 7
    await link.disconnect()


async def test_server_without_the_nodes_of_its_limits_asked_all_at_once():
    plant = LimitedPlant()
    await plant.start()
    assert plant.server is not None
    await plant.server.delete_nodes(
        [plant.server.get_node(ua.NodeId.from_string(f"i={i}")) for i in NODES.values()]
    )
    link = link_of(plant)
    await link.connect()
    plant.sizes.pop("read")
    assert values_of(await link.read()) == pytest.approx(START)
    assert plant.sizes["read"] == [7]
    await link.disconnect()
    await plant.stop()
