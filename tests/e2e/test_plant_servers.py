"""The simulated plant on real sockets: what FieldIO and mbpoll see is the world, and writes go into it."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.uaerrors import UaStatusCodeError
from pymodbus.client import AsyncModbusTcpClient

from connectors.field import FieldIO
from ems.clock import VirtualClock, wall_sleep
from ems.commands import Cause, Command, WriteOutcome
from ems.errors import EmsError
from ems.site import Site
from ems.site_schema import load_site
from ems.telemetry import Reading
from sim.clock import LockstepClock, TimeKeeper
from sim.scenario import FaultEvent, FaultKind, Scenario
from sim.servers import PlantServers, serve_plant
from sim.world import World, WorldOptions
from tests.builders import T0
from tests.contract.plants import free_port
from tests.unit.sim.sim_builders import scenario

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOISELESS = WorldOptions(noise_ratio=0.0)


@dataclass
class Rig:
    world: World
    site: Site
    addresses: dict[str, tuple[str, int]]
    servers: PlantServers
    clock: VirtualClock
    io: FieldIO

    async def move(self, dt_s: float) -> dict[str, Reading]:
        self.world.advance(self.world.now_s + dt_s)
        await self.servers.publish()
        self.clock.advance(dt_s)
        return {r.point: r for r in await self.io.read_all()}

    async def write(self, point: str, value: float) -> WriteOutcome:
        command = Command(
            point=point, value=value, cause=Cause.PLAN, reason="test", owner="edge", plan_id=None, epoch=1,
            seq=1, limits_hash="", decided_at=self.clock.now(), decided_s=self.clock.monotonic_s(),
        )  # fmt: skip
        (result,) = await self.io.write([command])
        return result.outcome


def demo_run(project_root) -> Scenario:
    """The demo site under flat load; the PV plant's device is silent for five minutes after an hour."""
    plant = load_site(project_root / "sites" / "demo" / "site.yaml")
    silent = FaultEvent(
        kind=FaultKind.DEVICE_SILENT,
        asset="pv1",
        start=T0 + timedelta(hours=1),
        end=T0 + timedelta(hours=1, minutes=5),
    )
    return scenario(12.0, plant=plant, pv_kw=200.0, faults=(silent,))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def rig(project_root) -> AsyncIterator[Rig]:
    run = demo_run(project_root)
    world = World(run, options=NOISELESS)
    addresses = {c.id: ("127.0.0.1", free_port()) for c in run.site.connections}
    clock = VirtualClock(T0)
    async with PlantServers(world, run.site.connections, addresses=addresses) as servers:
        io = FieldIO(run.site, clock=clock, addresses=addresses, timeout_s=5.0)
        yield Rig(world, run.site, addresses, servers, clock, io)
        await io.close()


async def test_field_io_reads_every_point_of_the_world(rig):
    await rig.move(10.0)
    readings = await rig.move(10.0)
    truth = rig.world.readings()
    assert len(readings) == sum(len(c.points) for c in rig.site.connections)
    for point, reading in readings.items():
        assert reading.is_good, reading
        assert reading.value == pytest.approx(truth[point], abs=0.6, rel=1e-3), point


@pytest.mark.parametrize(
    ("point", "value", "measured"),
    [
        ("bess1.p_set_kw", -120.0, "bess1.p_kw"),
        ("pv1.p_limit_kw", 91.0, "pv1.p_kw"),
        ("deferrable.close_request", 0.0, "deferrable.p_kw"),
    ],
)
async def test_field_io_write_moves_the_plant_and_reads_back(rig, point, value, measured):
    assert await rig.write(point, value) is WriteOutcome.CONFIRMED
    readings = await rig.move(5.0)
    assert readings[point].value == pytest.approx(value, abs=0.4)
    assert readings[measured].value == pytest.approx(value, abs=0.4)
    assert rig.world.setpoints.values[point] == pytest.approx(value, abs=0.4)


async def test_field_io_genset_request_runs_through_its_sequence(rig):
    assert await rig.write("gen1.run_request", 1.0) is WriteOutcome.CONFIRMED
    states = [int(readings["gen1.state"].value) for readings in [await rig.move(2.0) for _ in range(24)]]
    assert states == sorted(states)
    assert {1, 2, 3, 4} <= set(states)


async def test_device_watchdog_silence_lets_the_setpoint_fall_back(rig):
    await rig.write("bess1.p_set_kw", 80.0)
    assert (await rig.move(40.0))["bess1.p_kw"].value == pytest.approx(80.0, abs=0.2)
    assert (await rig.move(10.0))["bess1.p_kw"].value == pytest.approx(0.0, abs=0.2)  # 45 s by the site file


async def test_modbus_server_refuses_what_a_device_refuses(rig):
    host, port = rig.addresses["pcs"]
    client = AsyncModbusTcpClient(host, port=port, timeout=5, retries=0)
    assert await client.connect()
    before = dict(rig.world.setpoints.values)
    half = await client.write_register(200, 1, device_id=1)  # half of a 32-bit setpoint
    too_much = await client.write_registers(200, [0x7FFF, 0xFFFF], device_id=1)
    nowhere = await client.write_register(900, 1, device_id=1)
    input_only = await client.read_holding_registers(104, count=1, device_id=1)
    soc = await client.read_input_registers(104, count=1, device_id=1)
    client.close()
    assert [r.exception_code for r in (half, too_much, nowhere, input_only)] == [2, 3, 2, 2]
    assert soc.registers[0] == pytest.approx(1000.0 * rig.world.readings()["bess1.soc"], abs=1.0)
    assert rig.world.setpoints.values == before


async def test_opc_ua_server_refuses_read_only_nodes_wrong_types_and_wrong_values(rig):
    host, port = rig.addresses["plant_controller"]
    async with Client(f"opc.tcp://{host}:{port}/plant", timeout=10) as client:
        ns = await client.get_namespace_index("urn:example:plant")
        load = client.get_node(f"ns={ns};s=Feeder2.ActivePower")
        request = client.get_node(f"ns={ns};s=Feeder2.CloseRequest")
        with pytest.raises(UaStatusCodeError):
            await load.write_value(1.0, ua.VariantType.Float)
        with pytest.raises(UaStatusCodeError):
            await request.write_value(1.0, ua.VariantType.Double)
        await request.write_value(ua.DataValue(ua.Variant(False, ua.VariantType.Boolean)))
        assert rig.world.setpoints.values["essential.close_request"] == 0.0
        assert await request.read_value() is False
        await request.write_value(ua.DataValue(ua.Variant(True, ua.VariantType.Boolean)))
        stamped = await load.read_data_value()
        assert stamped.SourceTimestamp is not None
        assert stamped.SourceTimestamp.replace(tzinfo=None) == rig.clock.now().replace(tzinfo=None)


async def test_device_silent_fault_reads_fail_and_come_back(rig):
    rig.clock.advance(3601.0 - rig.world.now_s)
    rig.world.advance(3601.0)
    fast = FieldIO(rig.site, clock=rig.clock, addresses=rig.addresses, timeout_s=0.5)
    await rig.servers.publish()

    async def read_until_good(point: str) -> dict[str, Reading]:
        for _ in range(100):
            readings = {r.point: r for r in await fast.read_all()}
            if readings[point].is_good:
                return readings
            rig.clock.advance(10.0)
            await wall_sleep(0.02)
        raise AssertionError(f"{point} did not come back")

    readings = await read_until_good("bess1.soc")  # a slow machine may need more than one time-out to connect
    assert not readings["pv1.p_kw"].is_good
    rig.world.advance(3600.0 + 310.0)
    await rig.servers.publish()
    await read_until_good("pv1.p_kw")
    await fast.close()


@pytest.mark.needs_server
async def test_mbpoll_reads_the_world_and_writes_into_it(rig, require_program):
    """mbpoll is built on libmodbus: an implementation that shares nothing with ours."""
    mbpoll = require_program("mbpoll")
    host, port = rig.addresses["pv_controller"]
    common = [mbpoll, "-0", "-m", "tcp", "-p", str(port), "-a", "1", "-1", "-o", "10"]

    async def call(*more: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *common, *more, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return out.decode()

    text = await call("-r", "0", "-c", "1", "-t", "3:hex", host)
    raw = int(text.split("[0]:")[1].split()[0], 16)
    assert 0.1 * raw == pytest.approx(rig.world.readings()["pv1.p_kw"], abs=0.1)
    await call("-r", "40", "-t", "4", host, "100")
    assert rig.world.setpoints.values["pv1.p_limit_kw"] == pytest.approx(70.0)
    assert "100" in await call("-r", "40", "-c", "1", "-t", "4", host)


async def test_servers_port_in_use_is_refused_in_words(rig):
    modbus = [c for c in rig.site.connections if c.id == "pcs"]
    opc_ua = [c for c in rig.site.connections if c.id == "grid_meter"]
    for connections in (modbus, opc_ua):
        with pytest.raises(EmsError, match="cannot listen on"):
            async with PlantServers(rig.world, connections, addresses=rig.addresses):
                pass


async def test_serve_plant_follows_lockstep_time_and_writes_checkpoints(rig, project_root, tmp_path):
    run = replace(demo_run(project_root), end=T0 + timedelta(minutes=10), faults=())
    world = World(run)
    keeper = TimeKeeper(T0, end_s=600.0, expected=("plant", "edge"))
    port = await keeper.open()

    async def plant() -> None:
        servers = PlantServers(world, ())
        clock = await LockstepClock.connect(port, "plant", 0, follow=True)
        await serve_plant(world, clock, servers, period_s=lambda _: 10.0, checkpoint=tmp_path / "world")
        await clock.close()

    async def edge() -> None:
        clock = await LockstepClock.connect(port, "edge", 1)
        for t in range(15, 300, 15):
            await clock.sleep_until(float(t))
            assert world.now_s == pytest.approx(float(t))  # the plant has moved before the edge looks
        await clock.close()

    tasks = [asyncio.create_task(plant()), asyncio.create_task(edge())]
    await keeper.run()
    await asyncio.gather(*tasks)
    assert world.now_s == pytest.approx(600.0)
    restored = World.restore(run, (tmp_path / "world").read_bytes())
    assert restored.now_s >= 540.0
    assert [p.name for p in tmp_path.iterdir()] == ["world"]


async def test_simulated_device_puts_points_where_their_browse_paths_are(project_root):
    run = demo_run(project_root)
    (meter,) = (c for c in run.site.connections if c.id == "grid_meter")
    points = tuple(replace(p, address=f"nsu=urn:a;path=Plant/{{urn:b}}Meter/{p.point}") for p in meter.points)
    meter = replace(meter, points=points, identity=())
    addresses = {meter.id: ("127.0.0.1", free_port())}
    async with PlantServers(World(run, options=NOISELESS), [meter], addresses=addresses):
        site = replace(run.site, connections=(meter,))
        io = FieldIO(site, clock=VirtualClock(T0), addresses=addresses, timeout_s=5.0)
        readings = {r.point: r.value for r in await io.read_all()}
        await io.close()
    assert readings.keys() == {p.point for p in points}
    assert None not in readings.values()


async def test_bits_of_one_register_are_each_what_is_true(project_root):
    """A word of states, as breakers and gensets tell them: one point a bit."""
    run = demo_run(project_root)
    pcs = next(c for c in run.site.connections if any(m.point == "bess1.state" for m in c.points))
    like = next(m for m in pcs.points if m.point == "bess1.state")
    names = {"essential.closed": 0, "deferrable.closed": 3, "pv1.state": 14}
    bits = tuple(
        replace(like, point=p, address="900", data_type="u16", bit=b, scale=1.0, offset=0.0, codes=())
        for p, b in names.items()
    )
    assert not like.writable
    site = replace(run.site, connections=(replace(pcs, points=bits, watchdog_point=None, identity=()),))
    world, clock = World(run, options=NOISELESS), VirtualClock(T0)
    addresses = {pcs.id: ("127.0.0.1", free_port())}
    async with PlantServers(world, site.connections, addresses=addresses) as servers:
        io = FieldIO(site, clock=clock, addresses=addresses, timeout_s=5.0)
        told: dict[str, float | None] = {}
        for feeder, closed in (("essential", 1.0), ("essential", 0.0), ("deferrable", 0.0)):
            world.write(f"{feeder}.close_request", closed)
            world.advance(world.now_s + 10.0)
            await servers.publish()
            clock.advance(10.0)
            told = {r.point: r.value for r in await io.read_all()}
            assert told == {p: world.readings()[p] for p in names}
        assert told == {"essential.closed": 0.0, "deferrable.closed": 0.0, "pv1.state": 1.0}
        await io.close()
