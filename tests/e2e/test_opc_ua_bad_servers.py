"""OPC UA servers that change, stall or answer wrongly: no wrong value is taken, no write is sent twice."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from asyncua import ua

from connectors.field import FieldIO
from ems.clock import VirtualClock, wall_s, wall_sleep
from ems.commands import WriteOutcome
from ems.telemetry import Quality, Reading
from tests.builders import T0
from tests.contract.plants import START, OpcUaPlant, command, free_port, reset, site_of

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.scenario(29),
]


class Wire:
    """A TCP relay in front of a server: it can stall in either direction, spoil answers, and cut the line."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.target = target
        self.up, self.down = asyncio.Event(), asyncio.Event()
        self.up.set()
        self.down.set()
        self.spoil = False
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers += [writer, back]
        for source, sink, gate in ((reader, back, self.up), (there, writer, self.down)):
            task = asyncio.create_task(self._pump(source, sink, gate))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        try:
            while data := await source.read(65536):
                await gate.wait()
                if self.spoil and gate is self.down:
                    data = data[:30] + bytes(b ^ 0xA5 for b in data[30:])
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()


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
    def __init__(self, plant: OpcUaPlant, port: int) -> None:
        self.clock = VirtualClock(T0)
        self.reasons: list[str] = []
        self.io = FieldIO(
            site_of(plant.connection),
            clock=self.clock,
            addresses={plant.connection.id: ("127.0.0.1", port)},
            on_event=lambda at, kind, fields: self.reasons.append(str(fields.get("reason", "up"))),
        )

    async def read(self) -> dict[str, Reading]:
        self.clock.advance(1.0)
        return {r.point: r for r in await self.io.read_all()}

    async def write(self, value: float) -> WriteOutcome:
        (result,) = await self.io.write([command("dev.p_set_kw", value)])
        return result.outcome

    async def settle(self) -> dict[str, Reading]:
        for _ in range(400):
            readings = await self.read()
            if all(r.is_good for r in readings.values()):
                return readings
            await wall_sleep(0.01)
        raise AssertionError("the server never came back")


@pytest_asyncio.fixture(loop_scope="module")
async def rig(plant, wire) -> AsyncIterator[Rig]:
    rig = Rig(plant, wire.port)
    yield rig
    await rig.io.close()


def right(readings: dict[str, Reading]) -> bool:
    return {p.removeprefix("dev."): r.value for p, r in readings.items()} == pytest.approx(START)


async def test_read_server_stalls_bad_within_the_deadline_then_recovers(rig, wire):
    assert right(await rig.settle())
    wire.down.clear()
    started_s = wall_s()
    for _ in range(5):
        assert {(r.value, r.quality) for r in (await rig.read()).values()} == {(None, Quality.COMM_FAILED)}
    assert wall_s() - started_s < 1.0
    wire.down.set()
    assert right(await rig.settle())
    assert wire.connections >= 2


async def test_write_answer_lost_unknown_then_read_back_before_the_next(rig, wire, plant):
    await rig.settle()
    wire.down.clear()
    assert await rig.write(55.0) is WriteOutcome.UNKNOWN
    assert await rig.write(56.0) is WriteOutcome.NOT_SENT
    assert await plant.get("p_set_kw") == pytest.approx(55.0)
    wire.down.set()
    assert (await rig.settle())["dev.p_set_kw"].value == pytest.approx(55.0)
    assert await rig.write(57.0) is WriteOutcome.CONFIRMED


async def test_write_request_stuck_never_sent_again_by_us(rig, wire, plant):
    """What the network still holds may arrive late; the client itself must not add to it."""
    await rig.settle()
    wire.up.clear()
    assert await rig.write(55.0) is WriteOutcome.UNKNOWN
    wire.cut()
    wire.up.set()
    assert (await rig.settle())["dev.p_set_kw"].value == 0.0
    assert await plant.get("p_set_kw") == 0.0


async def test_read_spoilt_answers_no_value_taken(rig, wire):
    await rig.settle()
    wire.spoil = True
    for _ in range(5):
        assert {(r.value, r.quality) for r in (await rig.read()).values()} == {(None, Quality.COMM_FAILED)}
    wire.spoil = False
    assert right(await rig.settle())


async def test_line_cut_noticed_and_made_anew(rig, wire):
    await rig.settle()
    wire.cut()
    assert not any(r.is_good for r in (await rig.read()).values())
    assert right(await rig.settle())
    assert rig.reasons[0] == rig.reasons[-1] == "up"


async def test_close_server_stalled_ends_soon(rig, wire):
    await rig.settle()
    wire.down.clear()
    started_s = wall_s()
    await rig.io.close()
    assert wall_s() - started_s < 1.0


async def test_connect_namespace_missing_all_bad_and_told_why(plant, wire):
    rows = tuple(
        dataclasses.replace(p, address=p.address.replace("urn:test:plant", "urn:nobody"))
        for p in plant.connection.points
    )
    stranger = OpcUaPlant("dev", plant.connection.port)
    stranger.connection = dataclasses.replace(plant.connection, points=rows)
    rig = Rig(stranger, wire.port)
    assert {r.quality for r in (await rig.read()).values()} == {Quality.COMM_FAILED}
    assert "urn:nobody" in rig.reasons[0]
    await rig.io.close()


async def test_read_node_missing_only_that_point_bad(plant, wire):
    rows = list(plant.connection.points)
    rows[1] = dataclasses.replace(rows[1], address="nsu=urn:test:plant;s=dev.nothing")
    other = OpcUaPlant("dev", plant.connection.port)
    other.connection = dataclasses.replace(plant.connection, points=tuple(rows))
    rig = Rig(other, wire.port)
    bad = {p: r.quality for p, r in (await rig.read()).items() if not r.is_good}
    assert bad == {"dev.soc": Quality.DEVICE_BAD}
    await rig.io.close()


async def test_restart_namespace_index_moved_values_still_right(plant, wire, monkeypatch):
    """Indices are dealt out anew at each start of a server: an index kept from before reads another node."""
    rig = Rig(plant, wire.port)
    await rig.settle()
    await plant.stop()
    wire.cut()
    plant.namespaces_before = 3
    await plant.start()
    assert right(await rig.settle())
    assert await rig.write(12.0) is WriteOutcome.CONFIRMED
    assert await plant.get("p_set_kw") == pytest.approx(12.0)
    await rig.io.close()


async def test_read_source_stamp_old_under_a_fresh_server_stale_where_stamps_are_of_samples(plant, wire):
    """A gateway that has lost its device serves the last value for ever, under its own time that is right."""
    now = datetime.now(UTC)
    for name, value, age_s in (("soc", 500, 60.0), ("state", 1, 0.5)):
        stamped = ua.DataValue(
            Value=ua.Variant(value, ua.VariantType.UInt16),
            SourceTimestamp=now - timedelta(seconds=age_s),  # type: ignore[arg-type]
            ServerTimestamp=now,  # type: ignore[arg-type]
        )
        await plant.server.write_attribute_value(plant.nodes[name].nodeid, stamped)
    for sampled, quality in ((True, Quality.STALE), (False, Quality.GOOD)):
        other = OpcUaPlant("dev", plant.connection.port)
        other.connection = dataclasses.replace(plant.connection, stamps_sampled=sampled)
        rig = Rig(other, wire.port)
        readings = await rig.read()
        assert readings["dev.soc"].quality is quality
        assert readings["dev.state"].is_good
        # a server said to stamp its samples that does not stamp one has not said how old it is
        unstamped = Quality.DEVICE_BAD if sampled else Quality.GOOD
        assert readings["dev.run_request"].quality is unstamped
        await rig.io.close()


async def test_namespaces_renumbered_under_a_session_noticed_and_resolved_anew_before_any_write(
    rig, wire, plant
):
    await rig.settle()
    await plant.server.register_namespace("urn:test:added:later")
    assert {r.quality for r in (await rig.read()).values()} == {Quality.COMM_FAILED}
    assert await rig.write(55.0) is WriteOutcome.NOT_SENT
    assert right(await rig.settle())
    assert await rig.write(56.0) is WriteOutcome.CONFIRMED
    assert any("namespaces" in reason for reason in rig.reasons)
