"""Subscriptions against servers that lose, delete or starve them: nothing is fresh that is not proved."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua

from connectors.field import FieldIO
from ems.clock import VirtualClock, wall_s, wall_sleep
from ems.commands import WriteOutcome
from ems.site import UaSubscription
from ems.telemetry import Quality, Reading
from tests.builders import T0
from tests.contract.plants import START, OpcUaPlant, command, reset, site_of
from tests.e2e.test_opc_ua_bad_servers import Wire

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.scenario(29)]
ASKED = UaSubscription(publishing_s=0.1, sampling_s=0.1, keep_alive_s=0.3, queue=4)
TIMEOUT_S = 1.0
BAD_S = 3.0  # by then a value that is not proved any more is bad
SILENT_S = ASKED.keep_alive_s + ASKED.publishing_s + TIMEOUT_S  # until a dead subscription is noticed


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def plant() -> AsyncIterator[OpcUaPlant]:
    plant = OpcUaPlant()
    await plant.start()
    yield plant
    await plant.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def wire(plant) -> AsyncIterator[Wire]:
    await reset(plant)
    wire = Wire(plant.connection.port)
    await wire.start()
    yield wire
    await wire.stop()


class Rig:
    def __init__(self, plant: OpcUaPlant, port: int, **changes: Any) -> None:
        self.clock = VirtualClock(T0)
        self.reasons: list[str] = []
        connection = dataclasses.replace(
            plant.connection, **{"subscription": ASKED, "timeout_s": TIMEOUT_S, **changes}
        )
        self.io = FieldIO(
            site_of(connection),
            clock=self.clock,
            addresses={connection.id: ("127.0.0.1", port)},
            on_event=lambda at, kind, fields: self.reasons.append(str(fields.get("reason", "up"))),
        )

    async def read(self) -> dict[str, Reading]:
        self.clock.advance(1.0)
        return {r.point: r for r in await self.io.read_all()}

    async def until(self, good: Callable[[dict[str, Reading]], bool], within_s: float) -> dict[str, Reading]:
        began_s, readings = wall_s(), await self.read()
        while wall_s() - began_s < within_s:
            if good(readings):
                return readings
            await wall_sleep(0.02)
            readings = await self.read()
        raise AssertionError(f"not in {within_s} s: {readings}, {self.reasons}")

    async def write(self, value: float) -> WriteOutcome:
        (result,) = await self.io.write([command("dev.p_set_kw", value)])
        return result.outcome


@pytest_asyncio.fixture(loop_scope="module")
async def rig(plant, wire) -> AsyncIterator[Rig]:
    rig = Rig(plant, wire.port)
    await rig.until(right, 10.0)
    yield rig
    await rig.io.close()


def right(readings: dict[str, Reading]) -> bool:
    return {p.removeprefix("dev."): r.value for p, r in readings.items()} == pytest.approx(START)


def lost(readings: dict[str, Reading]) -> bool:
    return {(r.value, r.quality) for r in readings.values()} == {(None, Quality.COMM_FAILED)}


def subscriptions(plant: OpcUaPlant) -> dict[int, Any]:
    assert plant.server is not None
    return plant.server.iserver.subscription_service.subscriptions


async def test_change_is_told_and_what_does_not_change_is_as_old_as_the_last_keep_alive(rig, plant):
    await plant.put("p_kw", -250.0)
    await rig.until(lambda r: r["dev.p_kw"].value == -250.0, 5.0)
    began_s = wall_s()
    while wall_s() - began_s < 1.5:
        readings = await rig.read()
        age_s = rig.clock.monotonic_s() - readings["dev.soc"].arrived_s
        assert 0.0 <= age_s < SILENT_S
        assert readings["dev.soc"].value == 0.5
        await wall_sleep(0.05)
    assert rig.reasons == ["up"]


async def test_setpoint_is_read_back_at_the_next_poll_not_when_it_is_told(rig):
    for value in (12.0, -40.0, 33.3):
        assert await rig.write(value) is WriteOutcome.CONFIRMED
        assert (await rig.read())["dev.p_set_kw"].value == pytest.approx(value)


async def test_bad_status_that_is_told_is_bad_and_the_others_stay(rig, plant):
    await plant.put("soc", None)
    readings = await rig.until(lambda r: r["dev.soc"].value is None, BAD_S)
    assert readings["dev.soc"].quality is Quality.DEVICE_BAD
    assert readings["dev.p_kw"].is_good


async def test_subscription_deleted_by_the_server_is_noticed_and_made_anew(rig, plant):
    """The session goes on and reads are answered: nothing but the missing keep-alives tells."""
    for subscription_id in list(subscriptions(plant)):
        await plant.server.iserver.subscription_service.delete_subscriptions([subscription_id])
    began_s = wall_s()
    await rig.until(lost, BAD_S)
    assert wall_s() - began_s < SILENT_S + 1.0
    assert any("died silently" in r or "ended" in r for r in rig.reasons)
    await plant.put("p_kw", 99.0)
    assert (await rig.until(lambda r: r["dev.p_kw"].is_good, 10.0))["dev.p_kw"].value == 99.0


async def test_subscription_that_has_stalled_is_noticed_though_its_last_values_stand(rig, plant):
    for one in subscriptions(plant).values():
        one._task.cancel()
    await rig.until(lost, BAD_S)
    assert any("died silently" in r for r in rig.reasons)
    await rig.until(right, 10.0)


async def test_message_that_is_lost_costs_the_connection_and_no_value_is_wrong(rig, plant):
    for one in subscriptions(plant).values():
        one._notification_seq += 1
    await plant.put("p_kw", -1.0)
    await rig.until(lost, BAD_S)
    assert any("were lost" in r for r in rig.reasons)
    assert (await rig.until(lambda r: r["dev.p_kw"].is_good, 10.0))["dev.p_kw"].value == -1.0


async def test_line_cut_what_changed_meanwhile_is_right_at_once_when_it_is_back(rig, wire, plant):
    wire.cut()
    await rig.until(lost, BAD_S)
    assert await rig.write(55.0) is WriteOutcome.NOT_SENT
    await plant.put("soc", 0.25)
    assert (await rig.until(lambda r: r["dev.soc"].is_good, 10.0))["dev.soc"].value == pytest.approx(0.25)
    assert await plant.get("p_set_kw") == 0.0


async def test_server_that_stalls_is_lost_within_the_deadline(rig, wire):
    wire.down.clear()
    began_s = wall_s()
    await rig.until(lost, 5.0)
    assert wall_s() - began_s < 3.0
    wire.down.set()
    await rig.until(right, 10.0)


async def test_namespaces_renumbered_under_a_subscription_noticed_before_any_write(rig, plant):
    await plant.server.register_namespace(f"urn:test:later:{wall_s()}")
    await rig.until(lost, BAD_S)
    assert await rig.write(55.0) is WriteOutcome.NOT_SENT
    await rig.until(right, 10.0)
    assert any("namespaces" in r for r in rig.reasons)
    assert await rig.write(56.0) is WriteOutcome.CONFIRMED


async def test_node_missing_is_read_and_bad_and_comes_by_itself(plant, wire):
    rows = list(plant.connection.points)
    rows[1] = dataclasses.replace(rows[1], address="nsu=urn:test:plant;s=dev.nothing")
    rig = Rig(plant, wire.port, points=tuple(rows))
    readings = await rig.until(lambda r: r["dev.p_kw"].is_good, 10.0)
    assert readings["dev.soc"].quality is Quality.DEVICE_BAD
    index = await plant.server.get_namespace_index("urn:test:plant")
    name = ua.NodeId.from_string(f"ns={index};s=dev.nothing")
    node = await plant.server.nodes.objects.add_variable(name, "nothing", 750, ua.VariantType.UInt16)
    assert (await rig.until(lambda r: r["dev.soc"].is_good, 5.0))["dev.soc"].value == pytest.approx(0.75)
    await node.delete()
    await rig.io.close()


async def test_old_source_stamp_is_stale_though_keep_alives_come(plant, wire):
    """A gateway that has lost its device: the subscription lives, the sample does not."""
    rig = Rig(plant, wire.port, stamps_sampled=True)
    for name, age_s in (("soc", 60.0), ("p_kw", 0.0)):
        stamp: Any = datetime.now(UTC) - timedelta(seconds=age_s)
        kind = ua.VariantType.UInt16 if name == "soc" else ua.VariantType.Float
        data = ua.DataValue(Value=ua.Variant(500 if name == "soc" else 12.5, kind), SourceTimestamp=stamp)
        await plant.server.write_attribute_value(plant.nodes[name].nodeid, data)
    readings = await rig.until(lambda r: r["dev.p_kw"].value is not None, 10.0)
    assert readings["dev.soc"].quality is Quality.STALE
    assert readings["dev.p_kw"].is_good
    await rig.until(lambda r: r["dev.p_kw"].quality is Quality.STALE, 8.0)  # nobody samples it any more
    assert rig.reasons == ["up"]
    await rig.io.close()


async def test_server_that_proves_less_often_than_a_value_may_age_is_told_at_once(plant, wire):
    rows = tuple(dataclasses.replace(p, age_s_max=0.35) for p in plant.connection.points)
    rig = Rig(plant, wire.port, points=rows)
    await rig.until(lost, 5.0)
    for _ in range(100):
        if rig.reasons:
            break
        await rig.read()
        await asyncio.sleep(0.02)
    assert "proves it every 0.4 s at most, an age_s_max is 0.35 s" in rig.reasons[0]
    await rig.io.close()
